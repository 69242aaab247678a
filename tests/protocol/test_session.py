"""Golden answers: what a session says to packets and lines, byte for byte. The differential suite says the same of
gearmand; here time can be moved and commits can fail."""

from __future__ import annotations

import os
from random import Random

import pytest

from syncbridge import __version__
from syncbridge.dispatch import packets as p
from syncbridge.dispatch.limits import Limits
from tests.protocol.socketless import Peer, SocketlessServer


class Room(SocketlessServer):
    """One server, and peers that are asked one thing at a time."""

    def ask(self, peer: Peer, kind: int, *arguments: bytes) -> list[p.Packet]:
        self.send(peer, p.request(kind, *arguments))
        self.settle()
        return peer.take()

    def say(self, peer: Peer, line: bytes) -> bytes:
        self.send(peer, line)
        self.settle()
        answer = bytes(peer.raw)
        peer.take()
        return answer


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def client(room: Room) -> Peer:
    return room.connect()


@pytest.fixture
def worker(room: Room) -> Peer:
    worker = room.connect()
    room.send(worker, p.request(p.CAN_DO, b"f"))
    return worker


CREATED = (p.JOB_CREATED, b"H:h:1")
NO_JOB = (p.NO_JOB, b"")

#: Packets a server is not sent, or does not know: each is answered so, and the connection lives.
UNEXPECTED = [p.ALL_YOURS, p.NOOP, p.JOB_CREATED, p.NO_JOB, p.JOB_ASSIGN, p.ECHO_RES, p.ERROR, p.STATUS_RES, 5]


def test_every_type_is_answered_taken_or_refused() -> None:
    silent = {p.CAN_DO, p.CANT_DO, p.RESET_ABILITIES, p.PRE_SLEEP, p.CAN_DO_TIMEOUT, p.SET_CLIENT_ID}
    for kind in range(1, p.LAST_TYPE + 1):
        room = Room()
        peer = room.connect()
        answers = room.ask(peer, kind, *[b"1"] * 9)
        assert not peer.gone
        assert len(answers) == int(kind not in silent), p.NAMES.get(kind)
        assert room.ask(peer, p.ECHO_REQ, b"alive") == [(p.ECHO_RES, b"alive")]


@pytest.mark.parametrize("kind", UNEXPECTED)
def test_packets_that_clients_do_not_send(room: Room, client: Peer, kind: int) -> None:
    assert room.ask(client, kind, b"x") == [(p.ERROR, b"INVALID_COMMAND\0Command not expected")]


FEWEST = {
    p.SUBMIT_JOB: 3,
    p.SUBMIT_JOB_HIGH: 3,
    p.SUBMIT_JOB_LOW: 3,
    p.SUBMIT_JOB_BG: 3,
    p.SUBMIT_JOB_HIGH_BG: 3,
    p.SUBMIT_JOB_LOW_BG: 3,
    p.SUBMIT_JOB_EPOCH: 4,
    p.SUBMIT_JOB_SCHED: 8,
    p.SUBMIT_REDUCE_JOB: 5,
    p.SUBMIT_REDUCE_JOB_BACKGROUND: 5,
    p.CAN_DO_TIMEOUT: 2,
    p.WORK_STATUS: 3,
}


@pytest.mark.parametrize("kind", FEWEST)
def test_too_few_arguments_close_the_connection(room: Room, kind: int) -> None:
    for count in range(1, FEWEST[kind]):
        peer = room.connect()
        assert room.ask(peer, kind, *[b"1"] * count) == []
        assert peer.gone, count
    peer = room.connect()
    room.ask(peer, kind, *[b"1"] * FEWEST[kind])
    assert not peer.gone


# -- jobs for later --------------------------------------------------------------------------------------------------


def test_epoch_job_is_handed_out_when_it_is_due_and_wakes_its_worker(room: Room, client: Peer, worker: Peer) -> None:
    due = int(room.queue.holdings.epoch + room.now) + 100
    assert room.ask(client, p.SUBMIT_JOB_EPOCH, b"f", b"u", b"%d" % due, b"x\0y") == [CREATED]
    assert room.ask(worker, p.GRAB_JOB) == [NO_JOB]
    assert room.ask(worker, p.PRE_SLEEP) == []
    room.now += 99.5
    room.settle()
    assert worker.take() == []
    room.now += 1
    room.settle()
    assert worker.take() == [(p.NOOP, b"")]
    assert room.ask(worker, p.GRAB_JOB_UNIQ) == [(p.JOB_ASSIGN_UNIQ, b"H:h:1\0f\0u\0x\0y")]


@pytest.mark.parametrize("epoch", [b"0", b"1", b"", b"soon", b"-5", b"1700000000"])
def test_epoch_of_the_past_is_now(room: Room, client: Peer, worker: Peer, epoch: bytes) -> None:
    assert room.ask(client, p.SUBMIT_JOB_EPOCH, b"f", b"u", epoch, b"x") == [CREATED]
    assert room.ask(worker, p.GRAB_JOB) == [(p.JOB_ASSIGN, b"H:h:1\0f\0x")]


def test_an_epoch_beyond_all_calendars_is_kept(room: Room, client: Peer, worker: Peer) -> None:
    assert room.ask(client, p.SUBMIT_JOB_EPOCH, b"f", b"u", b"9" * 300, b"x") == [CREATED]
    assert room.ask(worker, p.GRAB_JOB) == [NO_JOB]
    assert room.ask(client, p.GET_STATUS, b"H:h:1") == [(p.STATUS_RES, b"H:h:1\x001\x000\x000\x000")]


def test_scheduled_job_runs_at_the_next_minute_that_matches(room: Room, client: Peer, worker: Peer) -> None:
    # The room's clock stands at 2023-11-14 22:13:21 UTC.
    assert room.ask(client, p.SUBMIT_JOB_SCHED, b"f", b"", b"15", b"22", b"", b"-1", b"1", b"x") == [CREATED]
    room.now += 60 + 38
    room.settle()
    assert room.ask(worker, p.GRAB_JOB) == [NO_JOB]
    room.now += 1
    room.settle()
    assert room.ask(worker, p.GRAB_JOB) == [(p.JOB_ASSIGN, b"H:h:1\0f\0x")]


@pytest.mark.parametrize(
    "fields", [(b"60", b"", b"", b"", b""), (b"", b"", b"30", b"2", b""), (b"x", b"", b"", b"", b"")]
)
def test_a_schedule_that_makes_no_sense_is_refused(room: Room, client: Peer, fields: tuple[bytes, ...]) -> None:
    ((kind, body),) = room.ask(client, p.SUBMIT_JOB_SCHED, b"f", b"", *fields, b"x")
    assert kind == p.ERROR
    assert body.startswith(b"INVALID_COMMAND\0")
    assert room.queue.jobs == 0


# -- reducers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [p.SUBMIT_REDUCE_JOB, p.SUBMIT_REDUCE_JOB_BACKGROUND])
def test_reduce_job_has_five_fields_and_its_reducer_reaches_the_worker(
    room: Room, client: Peer, worker: Peer, kind: int
) -> None:
    assert room.ask(client, kind, b"f", b"u", b"reduce", b"unused", b"x\0y") == [CREATED]
    assert room.ask(worker, p.GRAB_JOB_ALL) == [(p.JOB_ASSIGN_ALL, b"H:h:1\0f\0u\0reduce\0x\0y")]
    room.ask(client, kind, b"f", b"v", b"", b"", b"z")
    assert room.ask(worker, p.GRAB_JOB_ALL) == [(p.JOB_ASSIGN_UNIQ, b"H:h:2\0f\0v\0z")]


# -- time-outs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("milliseconds", "seconds"), [(b"2500", 2.5), (b"1", 1.0), (b"0", None)])
def test_time_out_fails_the_job_tells_the_client_and_forgets_the_worker(
    room: Room, client: Peer, worker: Peer, milliseconds: bytes, seconds: float | None
) -> None:
    room.ask(worker, p.CAN_DO_TIMEOUT, b"f", milliseconds)
    room.ask(client, p.SUBMIT_JOB, b"f", b"", b"x")
    assert room.ask(worker, p.GRAB_JOB) == [(p.JOB_ASSIGN, b"H:h:1\0f\0x")]
    room.now += (seconds or 1000.0) - 0.1
    room.settle()
    assert client.take() == []
    room.now += 0.2
    room.settle()
    if seconds is None:
        assert client.take() == []
        return
    assert client.take() == [(p.WORK_FAIL, b"H:h:1")]
    assert room.ask(worker, p.WORK_COMPLETE, b"H:h:1", b"late") == [
        (p.ERROR, b"JOB_NOT_FOUND\0Job given in work result not found")
    ]
    assert room.ask(worker, p.GRAB_JOB) == [NO_JOB]


# -- text ------------------------------------------------------------------------------------------------------------

INCOMPLETE = b"ERR INVALID_ARGUMENTS An+incomplete+set+of+arguments+was+sent+to+this+command+%b\r\n"
UNKNOWN = b"ERR UNKNOWN_COMMAND Unknown+server+command%b\r\n"
LINES = [
    (b"version\n", b"OK %b\n" % __version__.encode()),
    (b"verbose\n", b"OK INFO\n"),
    (b"shutdown\n", UNKNOWN % b"shutdown"),
    (b"shutdown graceful\n", UNKNOWN % b"shutdown"),
    (b"WhaT\r\n", UNKNOWN % b"WhaT"),
    (b"\n", UNKNOWN % b""),
    (b" status\n", UNKNOWN % b""),
    (b"show\n", UNKNOWN % b"show"),
    (b"show x\n", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
    (b"show unique x\n", b"ERR UNKNOWN_SHOW_ARGUMENTS\r\n"),
    (b"show jobs\n", b".\n"),
    (b"show unique jobs\r\n", b".\n"),
    (b"cancel\n", UNKNOWN % b"cancel"),
    (b"cancel job\n", UNKNOWN % b"cancel"),
    (b"cancel job H:h:1\n", b"ERR UNKNOWN_JOB\r\n"),
    (b"create\n", INCOMPLETE % b"create"),
    (b"create x y\n", INCOMPLETE % b"create"),
    (b"create function\n", INCOMPLETE % b"create"),
    (b"drop function\n", INCOMPLETE % b"drop"),
    (b"drop function nothing\n", b"ERR function not found\r\n"),
    (b"maxqueue\n", INCOMPLETE % b"maxqueue"),
    (b"maxqueue g\n", b"OK\r\n"),
    (b"status\n", b".\n"),
    (b"prioritystatus\n", b".\n"),
]


@pytest.mark.parametrize(("line", "answer"), LINES)
def test_text_commands_and_their_line_ends(room: Room, client: Peer, line: bytes, answer: bytes) -> None:
    assert room.say(client, line) == answer


def test_getpid_names_this_process(room: Room, client: Peer) -> None:
    assert room.say(client, b"getpid\n") == b"OK %d\n" % os.getpid()


def test_text_that_is_too_much_closes(room: Room, client: Peer) -> None:
    assert room.say(client, b"one two three four five six\n") == b""
    assert client.gone


def test_lists_of_jobs_and_functions(room: Room, client: Peer, worker: Peer) -> None:
    room.ask(client, p.SUBMIT_JOB_HIGH_BG, b"f", b"line\nbreak", b"x")
    room.ask(client, p.SUBMIT_JOB, b"f", b"u", b"x")
    room.ask(client, p.SUBMIT_JOB_LOW_BG, b"g", b"", b"x")
    room.ask(worker, p.GRAB_JOB)
    assert room.say(client, b"status\n") == b"f\t2\t1\t1\ng\t1\t0\t0\n.\n"
    assert room.say(client, b"prioritystatus\n") == b"f\t0\t1\t0\t1\ng\t0\t0\t1\t0\n.\n"
    assert room.say(client, b"show jobs\n") == b"H:h:1\t0\t0\t1\nH:h:2\t0\t0\t0\nH:h:3\t0\t0\t1\n.\n"
    assert room.say(client, b"show unique jobs\n") == b"line break\nu\n\n.\n"
    assert room.say(client, b"workers\n") == b"0 - - :\n1 - - : f\n.\n"


def test_cancel_takes_a_job_out_wherever_it_is(room: Room, client: Peer, worker: Peer) -> None:
    for unique in (b"a", b"b", b"c", b"d", b"e", b"f"):  # more than the window: some are in the store only
        room.ask(client, p.SUBMIT_JOB_BG, b"f", unique, b"x")
    room.ask(client, p.SUBMIT_JOB, b"f", b"", b"waits")
    room.ask(client, p.SUBMIT_JOB_EPOCH, b"f", b"", b"1900000000", b"x")
    for number in (1, 6, 8):
        assert room.say(client, b"cancel job H:h:%d\n" % number) == b"OK\r\n"
        assert room.say(client, b"cancel job H:h:%d\n" % number) == b"ERR UNKNOWN_JOB\r\n"
    room.send(worker, b"cancel job H:h:7\n")
    room.settle()
    assert worker.take() == [(p.TEXT, b"OK")]
    assert client.take() == [(p.WORK_FAIL, b"H:h:7")]
    assert room.say(client, b"status\n") == b"f\t4\t0\t1\n.\n"
    assert [body[:5] for _, body in [room.ask(worker, p.GRAB_JOB)[0] for _ in range(4)]] == [
        b"H:h:2",
        b"H:h:3",
        b"H:h:4",
        b"H:h:5",
    ]
    assert room.ask(worker, p.GRAB_JOB) == [NO_JOB]
    assert room.say(client, b"cancel job H:h:2\n") == b"OK\r\n"
    assert room.ask(worker, p.WORK_COMPLETE, b"H:h:2", b"")[0][0] == p.ERROR


def test_a_lane_lets_nobody_take_its_jobs_out(room: Room, client: Peer) -> None:
    room.ask(client, p.SUBMIT_JOB_BG, b"syncbridge.shop.0", b"", b"x")
    assert room.say(client, b"cancel job H:h:1\n") == b"ERR UNKNOWN_JOB\r\n"
    assert room.say(client, b"drop function syncbridge.shop.0\n").startswith(b"ERR there are still")
    assert room.queue.jobs == 1


# -- answers that wait -----------------------------------------------------------------------------------------------


def test_replies_keep_their_order_over_commits_and_reads(room: Room, client: Peer) -> None:
    for number in range(8):
        room.ask(client, p.SUBMIT_JOB_BG, b"f", b"%d" % number, b"x")
    requests = [
        p.request(p.GET_STATUS, b"H:h:8"),  # in the store only
        p.request(p.ECHO_REQ, b"1"),
        p.request(p.SUBMIT_JOB_BG, b"f", b"7", b""),  # may join what is in the store only
        p.request(p.GET_STATUS_UNIQUE, b"6"),
        b"version\n",
        p.request(p.SUBMIT_JOB_BG, b"g", b"", b""),
        b"cancel job H:h:7\n",
        p.request(p.OPTION_REQ, b"exceptions"),
    ]
    room.send(client, b"".join(requests))
    room.settle()
    kinds = [kind for kind, _ in client.take()]
    assert kinds == [
        p.STATUS_RES,
        p.ECHO_RES,
        p.JOB_CREATED,
        p.STATUS_RES_UNIQUE,
        p.TEXT,
        p.JOB_CREATED,
        p.TEXT,
        p.OPTION_RES,
    ]


def test_a_failed_commit_refuses_background_jobs_and_says_why(room: Room, client: Peer) -> None:
    room.send(client, p.request(p.SUBMIT_JOB_BG, b"f", b"", b"x") + p.request(p.ECHO_REQ, b"after"))
    room.turn(fail=True)
    assert client.take() == [(p.ERROR, b"QUEUE_ERROR\0disk full"), (p.ECHO_RES, b"after")]
    assert room.queue.jobs == 0


def submits(dice: Random, name: bytes) -> list[bytes]:
    """Background submits as a client may send them together: mostly alike, now and then one that is not."""
    kinds = dice.choice([[p.SUBMIT_JOB_BG], [p.SUBMIT_JOB_BG] * 20 + [p.SUBMIT_JOB_HIGH_BG, p.SUBMIT_JOB]])
    uniques = dice.choice([[b""], [b"u%d" % n for n in range(1000)], [b"", b"-", b"u", b"v" * 65]])
    names = dice.choice([[name], [name] * 30 + [b"g"]])
    return [
        p.request(dice.choice(kinds), dice.choice(names), dice.choice(uniques), b"%d" % number * dice.randrange(9))
        for number in range(dice.randrange(8, 30))
    ]


@pytest.mark.parametrize("volatile", [False, True])
def test_submits_that_arrive_together_are_as_good_as_one_by_one(volatile: bool) -> None:
    """The same answers in the same order, and the same jobs, whatever the limits."""
    taken = 0
    for seed in range(150):
        lived = []
        for together in (True, False):
            dice = Random(seed)
            limits = Limits(
                window=dice.choice([5, 8192]), max_jobs=dice.choice([25, 1000]), max_bytes=dice.choice([90, 9000])
            )
            room = Room(limits, volatile=volatile)
            client, worker, lane = room.connect(), room.connect(), dice.choice([b"f", b"syncbridge.shop.0"])
            room.send(worker, p.request(p.CAN_DO, lane) + p.request(p.PRE_SLEEP))
            said = []
            for _ in range(3):
                packets = submits(dice, lane)
                for data in [b"".join(packets)] if together else packets:
                    room.send(client, data)
                room.settle()
                said.append((client.take(), worker.take()))
                while grabbed := [body for kind, body in room.ask(worker, p.GRAB_JOB) if kind == p.JOB_ASSIGN]:
                    said.append(grabbed)
                    if dice.random() < 0.8:
                        room.send(worker, p.request(p.WORK_COMPLETE, grabbed[0].split(b"\0")[0]))
                room.send(worker, p.request(p.PRE_SLEEP))
            holdings = room.queue.holdings
            lived.append((said, holdings.count, holdings.bytes, holdings.payload_bytes, holdings.available))
            taken += holdings.count
        assert lived[0] == lived[1], seed
    print(f"{taken} jobs left of 150 pairs")
