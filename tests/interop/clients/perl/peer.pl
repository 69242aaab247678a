# Gearman::Client and Gearman::Worker as the peer that ../README.md describes.
use strict;
use warnings;
use Gearman::Client;
use Gearman::Worker;
use Storable qw(nfreeze thaw);
use Time::HiRes qw(sleep);

my ($action, $port, $function, @arguments) = @ARGV;
my $server = "127.0.0.1:$port";
binmode STDOUT;
$| = 1;

sub say_line { print join(' ', @_), "\n" }

sub work {
    my ($role) = @_;
    my $worker = Gearman::Worker->new(job_servers => [$server], client_id => "interop-$function");
    my %jobs = (
        reverse => sub { scalar reverse $_[0]->arg },
        note    => sub { say_line($_[0]->arg); 'noted' },
        steps   => sub {
            my $job = shift;
            $job->set_status(1, 2);
            $worker->send_work_data($job, 'half');
            $worker->send_work_warning($job, 'mind');
            'whole';
        },
        fail    => sub { undef },
        explode => sub {
            $worker->send_work_exception($_[0], nfreeze(\'boom'));    # as its own clients expect it
            undef;
        },
        die   => sub { die "boom\n" },                                # an exception, and WORK_FAIL after it
        empty => sub { say_line($_[0]->arg); '' },                    # WORK_COMPLETE without its second argument
        hold    => sub {
            my $job = shift;
            $job->set_status(3, 4);
            say_line($job->arg);
            sleep 0.01 until -e $job->arg;
            'released';
        },
    );
    $worker->register_function($function => $jobs{$role});
    $worker->work while 1;
}

sub foreground {
    my ($file, $unique) = @_;
    open my $input, '<:raw', $file or die "$file: $!";
    my $workload = do { local $/; <$input> };
    my $client   = Gearman::Client->new(job_servers => [$server]);
    my $result   = $client->do_task($function, \$workload, { $unique ? (uniq => $unique) : () });
    die "failed\n" unless defined $result;
    print $$result;
}

sub background {
    my ($workload, $priority, $unique) = @_;
    my $client = Gearman::Client->new(job_servers => [$server]);
    my $handle = $client->dispatch_background($function, \$workload,
        { priority => $priority, $unique ? (uniq => $unique) : () });
    say_line($handle =~ s{.*//}{}r);    # the library puts the server's address before it
}

sub events {
    my $client = Gearman::Client->new(job_servers => [$server], exceptions => 1);
    my $tasks  = $client->new_task_set;
    $tasks->add_task($function, '-', {
        on_status    => sub { say_line('status', @_) },
        on_data      => sub { say_line('data', ${ $_[0] }) },
        on_warning   => sub { say_line('warning', ref $_[0] ? ${ $_[0] } : $_[0]) },
        on_exception => sub { say_line('exception', ${ thaw($_[0]) } =~ s/\n//r) },
        on_fail      => sub { say_line('fail') },
        on_complete  => sub { say_line('complete', ${ $_[0] }) },
    });
    $tasks->wait;
}

sub status {
    my ($workload) = @_;
    my $client = Gearman::Client->new(job_servers => [$server]);
    my $handle = $client->dispatch_background($function, \$workload, {});
    my $shown  = '';
    while (1) {
        my $status = $client->get_status($handle);
        my $now    = join ' ', $status->known ? 1 : 0, $status->running ? 1 : 0, @{ $status->progress || [0, 0] };
        say_line($now) if $now ne $shown;
        last unless $status->known;
        $shown = $now;
        sleep 0.01;
    }
}

sub admin {
    my $status = Gearman::Client->new(job_servers => [$server])->get_job_server_status->{$server};
    say_line('status', $_, @{ $status->{$_} }{qw(queued running capable)}) for sort keys %$status;
}

my %actions = (
    admin      => \&admin,
    worker     => \&work,
    foreground => \&foreground,
    background => \&background,
    events     => \&events,
    status     => \&status,
);
$actions{$action}->(@arguments);
