<?php
// php-gearman (libgearman) as the peer that ../README.md describes.
declare(strict_types=1);

[, $action, $port, $function] = $argv;

/** Prints one event of a job. */
function say(string ...$words): void
{
    echo implode(' ', $words), "\n";
}

function work(string $port, string $function, string $role): void
{
    $jobs = [
        'reverse' => fn (GearmanJob $job) => strrev($job->workload()),
        'note' => function (GearmanJob $job): string {
            say($job->workload());
            return 'noted';
        },
        'steps' => function (GearmanJob $job): string {
            $job->sendStatus(1, 2);
            $job->sendData('half');
            $job->sendWarning('mind');
            return 'whole';
        },
        'fail' => function (GearmanJob $job): void {
            $job->sendFail();
        },
        'explode' => function (GearmanJob $job): void {
            $job->sendException('boom');
        },
        'hold' => function (GearmanJob $job): string {
            $job->sendStatus(3, 4);
            say($job->workload());
            while (!file_exists($job->workload())) {
                usleep(10_000);
                clearstatcache();
            }
            return 'released';
        },
    ];
    $worker = new GearmanWorker();
    $worker->setId('interop-' . $function);
    $worker->addServer('127.0.0.1', (int) $port);
    $worker->addFunction($function, $jobs[$role]);
    do { // work() returns false for a failed job too
        $worker->work();
    } while (!in_array($worker->returnCode(), [GEARMAN_LOST_CONNECTION, GEARMAN_COULD_NOT_CONNECT], true));
}

function client(string $port): GearmanClient
{
    $client = new GearmanClient();
    $client->addServer('127.0.0.1', (int) $port);
    return $client;
}

function foreground(string $port, string $function, string $file, string $unique): void
{
    $client = client($port);
    $result = $client->doNormal($function, file_get_contents($file), $unique);
    if ($client->returnCode() !== GEARMAN_SUCCESS) {
        fwrite(STDERR, $client->error() . "\n");
        exit(1);
    }
    echo $result;
}

function background(string $port, string $function, string $workload, string $priority, string $unique): void
{
    $submit = ['high' => 'doHighBackground', 'normal' => 'doBackground', 'low' => 'doLowBackground'][$priority];
    say(client($port)->$submit($function, $workload, $unique));
}

function events(string $port, string $function): void
{
    $client = client($port);
    $client->setStatusCallback(fn ($t) => say('status', (string) $t->taskNumerator(), (string) $t->taskDenominator()));
    $client->setDataCallback(fn ($task) => say('data', $task->data()));
    $client->setWarningCallback(fn ($task) => say('warning', $task->data()));
    $client->setExceptionCallback(fn ($task) => say('exception', $task->data()));
    $client->setFailCallback(fn ($task) => say('fail'));
    $client->setCompleteCallback(fn ($task) => say('complete', $task->data()));
    $client->addTask($function, '-');
    $client->runTasks();
}

function status(string $port, string $function, string $workload): void
{
    $client = client($port);
    $handle = $client->doBackground($function, $workload);
    $shown = null;
    do {
        $status = array_map(intval(...), $client->jobStatus($handle));
        if ($status !== $shown) {
            say(...array_map(strval(...), $status));
        }
        $shown = $status;
        usleep(10_000);
    } while ($status[0]);
}

/** Three tasks at once, each answer beside its question. */
function tasks(string $port, string $function): void
{
    $client = client($port);
    $client->ping('still there?') || throw new RuntimeException('no answer to ping');
    $client->setCompleteCallback(fn ($task, $question) => say($question, $task->data()));
    foreach (['abc', 'def', 'ghi'] as $workload) {
        $client->addTask($function, $workload, $workload);
    }
    $client->runTasks();
}

/** GET_STATUS_UNIQUE. */
function unique_status(string $port, string $unique): void
{
    say(...array_map(fn ($value) => (string) (int) $value, client($port)->jobStatusByUniqueKey($unique)));
}

match ($action) {
    'tasks' => tasks($port, $function),
    'unique-status' => unique_status($port, $argv[4]),
    'worker' => work($port, $function, $argv[4]),
    'foreground' => foreground($port, $function, $argv[4], $argv[5]),
    'background' => background($port, $function, $argv[4], $argv[5], $argv[6]),
    'events' => events($port, $function),
    'status' => status($port, $function, $argv[4]),
};
