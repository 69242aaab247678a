// gearmanode as the peer that ../README.md describes.
'use strict';
const fs = require('fs');
const gearmanode = require('gearmanode');

// Its loggers write to the console, which is where our results go.
for (const part of ['Client', 'Worker', 'Job', 'JobServer', 'LBStrategy', 'protocol']) {
    const winston = require('winston');
    if (winston.loggers.has(part)) winston.loggers.get(part).silent = true;
}

const [action, port, name, ...rest] = process.argv.slice(2);
const where = { host: '127.0.0.1', port: Number(port) };
const say = (...words) => console.log(words.join(' '));

const jobs = {
    reverse: (job) => job.workComplete(Buffer.from(job.payload).reverse().toString()),
    note: (job) => {
        say(job.payload.toString());
        job.workComplete('noted');
    },
    steps: (job) => {
        job.reportStatus(1, 2);
        job.sendWorkData('half');
        job.reportWarning('mind');
        job.workComplete('whole');
    },
    fail: (job) => job.reportError(),
    explode: (job) => job.reportException('boom'),
    hold: (job) => {
        const gate = job.payload.toString();
        job.reportStatus(3, 4);
        say(gate);
        const timer = setInterval(() => {
            if (!fs.existsSync(gate)) return;
            clearInterval(timer);
            job.workComplete('released');
        }, 10);
    },
};

const actions = {
    worker(role) {
        const worker = gearmanode.worker(where);
        worker.setWorkerId(`interop-${name}`);
        worker.addFunction(name, jobs[role]);
    },

    foreground(file, unique) {
        const client = gearmanode.client(where);
        const job = client.submitJob(name, fs.readFileSync(file), unique ? { unique } : {});
        job.on('complete', () => {
            process.stdout.write(job.response);
            client.close();
        });
        job.on('failed', () => {
            process.exitCode = 1;
            client.close();
        });
    },

    background(workload, priority, unique) {
        const client = gearmanode.client(where);
        const options = { background: true, priority: priority.toUpperCase(), ...(unique ? { unique } : {}) };
        const job = client.submitJob(name, workload, options);
        job.on('created', () => {
            say(job.handle);
            client.close();
        });
    },

    events() {
        const client = gearmanode.client(where);
        client.jobServers[0].once('option', () => {
            const job = client.submitJob(name, '-');
            const last = (...words) => {
                say(...words);
                client.close();
            };
            job.on('status', (status) => say('status', status.percent_done_num, status.percent_done_den));
            job.on('workData', (data) => say('data', data));
            job.on('warning', (data) => say('warning', data));
            job.on('exception', (data) => last('exception', data));
            job.on('failed', () => last('fail'));
            job.on('complete', () => last('complete', job.response));
        });
        client.jobServers[0].setOption('exceptions');
    },

    status(workload) {
        const client = gearmanode.client(where);
        const job = client.submitJob(name, workload, { background: true });
        let shown = '';
        job.on('created', () => job.getStatus());
        job.on('status', (s) => {
            const now = [Number(s.known), Number(s.running), s.percent_done_num, s.percent_done_den].join(' ');
            if (now !== shown) say(now);
            shown = now;
            if (s.known) setTimeout(() => job.getStatus(), 10);
            else client.close();
        });
    },
};
actions[action](...rest);
