// abraxas as the peer that ../README.md describes.
'use strict';
const fs = require('fs');
const { Client } = require('abraxas');

const [action, port, name, ...rest] = process.argv.slice(2);
const say = (...words) => console.log(words.join(' '));
const client = Client.connect({ host: '127.0.0.1', port: Number(port) });

const jobs = {
    reverse: (task) => Buffer.from(task.payload).reverse(),
    note: (task) => {
        say(task.payload);
        return 'noted';
    },
    steps: (task) => {
        task.status(0.5);
        task.warn('mind');
        return 'whole';
    },
    explode: () => {
        throw new Error('boom');
    },
    hold: (task) => {
        const gate = task.payload.toString();
        task.status(0.75);
        say(gate);
        return new Promise((resolve) => {
            const timer = setInterval(() => {
                if (!fs.existsSync(gate)) return;
                clearInterval(timer);
                resolve('released');
            }, 10);
        });
    },
};

const submitted = (options, unique) => (unique ? { ...options, uniqueid: unique } : options);

const actions = {
    worker(role) {
        client.setClientId(`interop-${name}`);
        client.registerWorker(name, jobs[role]);
    },

    foreground(file, unique) {
        client.submitJob(name, submitted({}, unique), fs.readFileSync(file)).then(
            (result) => {
                process.stdout.write(result);
                client.disconnect();
            },
            () => process.exit(1),
        );
    },

    background(workload, priority, unique) {
        client.submitJobBg(name, submitted({ priority }, unique), workload).then((handle) => {
            say(handle);
            client.disconnect();
        });
    },

    events() {
        const task = client.submitJob(name, {}, '-');
        task.on('status', (part) => say('status', part));
        task.on('warn', (text) => say('warning', text));
        task.then(
            (result) => {
                say('complete', result);
                client.disconnect();
            },
            (error) => {
                say('exception', error.message);
                client.disconnect();
            },
        );
    },

    status(workload) {
        client.submitJobBg(name, {}, workload).then((handle) => {
            let shown = '';
            const awake = setInterval(() => {}, 1000); // asking for a status alone does not keep the process
            const ask = () => client.getStatus(handle.toString(), (error, found) => {
                const now = [found.known, found.running, found.complete].join(' ');
                if (now !== shown) say(now);
                shown = now;
                if (found.known) return setTimeout(ask, 10);
                clearInterval(awake);
                return client.disconnect();
            });
            ask();
        });
    },

    admin() {
        const awake = setInterval(() => {}, 1000);
        client.once('connect', async () => {
            const [status] = await client.status();
            for (const [name, f] of Object.entries(status)) say('status', name, f.inqueue, f.running, f.workers);
            for (const worker of (await client.workers()).flat()) {
                if (worker.functions.length) say('worker', worker.clientid, ...worker.functions);
            }
            clearInterval(awake);
            client.disconnect();
        });
    },

    // A background job for the next second.
    later(workload) {
        client.submitJobAt(name, Math.floor(Date.now() / 1000) + 1, {}, workload).then((handle) => {
            say(handle);
            client.disconnect();
        });
    },
};
actions[action](...rest);
