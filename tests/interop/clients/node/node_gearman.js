// node-gearman as the peer that ../README.md describes.
'use strict';
const fs = require('fs');
const Gearman = require('node-gearman');

const [action, port, name, ...rest] = process.argv.slice(2);
const gearman = new Gearman('127.0.0.1', Number(port));
const say = (...words) => console.log(words.join(' '));

// The library ends the workload of a background job with a NUL.
const text = (payload) => payload.toString().replace(/\0$/, '');

const jobs = {
    reverse: (payload, job) => job.end(Buffer.from(payload).reverse()),
    note: (payload, job) => {
        say(text(payload));
        job.end('noted');
    },
    steps: (payload, job) => {
        job.write('half');
        job.end('whole');
    },
    fail: (payload, job) => job.error(),
    hold: (payload, job) => {
        const gate = text(payload);
        say(gate);
        const timer = setInterval(() => {
            if (!fs.existsSync(gate)) return;
            clearInterval(timer);
            job.end('released');
        }, 10);
    },
};

const actions = {
    worker(role) {
        gearman.registerWorker(name, jobs[role]);
    },

    foreground(file, unique) {
        const job = gearman.submitJob(name, fs.readFileSync(file), unique);
        job.on('data', (data) => process.stdout.write(data));
        job.on('end', () => gearman.close());
        job.on('error', () => {
            process.exitCode = 1;
            gearman.close();
        });
    },

    // The library does not hand on the answer to a background submit: we look at it on its way.
    background(workload, priority, unique) {
        gearman.submitJob(name, workload, unique, { background: true, priority });
        const created = gearman.receive_JOB_CREATED;
        gearman.receive_JOB_CREATED = function (handle, ...more) {
            created.call(this, handle, ...more);
            say(handle);
            gearman.close();
        };
    },

    events() {
        const job = gearman.submitJob(name, '-');
        job.on('data', (data) => say('data', data)); // a result counts as data
        job.on('end', () => {
            say('complete');
            gearman.close();
        });
        job.on('error', () => {
            say('fail');
            gearman.close();
        });
    },
};
actions[action](...rest);
