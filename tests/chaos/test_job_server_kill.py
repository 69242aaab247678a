"""kill -9 of the job server at random moments under load: what it acknowledged is there, once it runs again."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

import pytest

from syncbridge.dispatch import packets as p
from tests.servers.job_server import JobServerProcess, Peer
from tests.servers.waiting import eventually

pytestmark = pytest.mark.chaos

KILLS = 20
FUNCTIONS = [b"syncbridge.shop.%d" % lane for lane in range(3)] + [b"plain"]


class Submitter(threading.Thread):
    """Submits numbered jobs, up to 200 unanswered, over one connection after the other; notes what was acknowledged."""

    def __init__(self, port: int, number: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.number, self.over = port, number, over
        self.acknowledged: dict[bytes, bytes] = {}
        self.sent = 0

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with Peer(self.port) as peer:
                    self.submit(peer)
            except OSError:
                time.sleep(0.005)  # the server is down

    def submit(self, peer: Peer) -> None:
        unanswered: deque[bytes] = deque()
        while not self.over.is_set():
            while len(unanswered) < 200:
                payload = b"%d-%d" % (self.number, self.sent)
                peer.send(p.SUBMIT_JOB_BG, FUNCTIONS[self.sent % len(FUNCTIONS)], b"", payload)
                unanswered.append(payload)
                self.sent += 1
            for _ in range(100):
                self.acknowledged[unanswered.popleft()] = peer.expect(p.JOB_CREATED)[0]


class Consumer(threading.Thread):
    """Takes jobs, completes most, and sometimes hangs up with jobs in hand; notes what it completed."""

    def __init__(self, port: int, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self.port, self.over = port, over
        self.completed: set[bytes] = set()

    def run(self) -> None:
        while not self.over.is_set():
            try:
                with Peer(self.port) as peer:
                    self.work(peer.can_do(*FUNCTIONS, *[f + b".isolated" for f in FUNCTIONS[:3]]))
            except OSError:
                time.sleep(0.005)

    def work(self, peer: Peer) -> None:
        for _ in range(random.randrange(50)):
            if self.over.is_set():
                return
            peer.socket.sendall(p.request(p.GRAB_JOB_UNIQ) * 100)
            for kind, body in [peer.receive() for _ in range(100)]:
                if kind == p.JOB_ASSIGN_UNIQ and random.random() < 0.98:
                    handle, _, _, payload = p.arguments(body, 4)
                    self.completed.add(payload)  # before it is sent: the server may get it and die
                    peer.send(p.WORK_COMPLETE, handle, b"")


def test_no_acknowledged_job_is_lost() -> None:
    over = threading.Event()
    with JobServerProcess() as server:
        submitters = [Submitter(server.port, number, over) for number in range(3)]
        consumer = Consumer(server.port, over)
        for thread in (*submitters, consumer):
            thread.start()
        for _ in range(KILLS):
            time.sleep(random.uniform(0.02, 0.3))
            server.kill9()
            server.start()
        known = len(submitters[0].acknowledged)
        eventually(lambda: len(submitters[0].acknowledged) > known)
        over.set()
        for thread in (*submitters, consumer):
            thread.join(20)
            assert not thread.is_alive()
        server.kill9()
        server.start()
        acknowledged = {job: handle for submitter in submitters for job, handle in submitter.acknowledged.items()}
        with Peer(server.port) as last:
            last.can_do(*FUNCTIONS, *[f + b".isolated" for f in FUNCTIONS[:3]])
            left = [(function, payload) for _, function, _, payload in iter(last.grab, None)]
    found = [payload for _, payload in left]
    missing = acknowledged.keys() - consumer.completed - set(found)
    print(
        f"{KILLS + 1} kills, {sum(s.sent for s in submitters)} sent, {len(acknowledged)} acknowledged, "
        f"{len(consumer.completed)} completed, {len(found)} left, {len(missing)} missing"
    )
    assert len(acknowledged) > 1000
    assert not missing
    assert len(set(found)) == len(found), "a job came back twice"
    assert len(set(acknowledged.values())) == len(acknowledged), "a handle was given twice"
    for function in FUNCTIONS[:3]:
        for submitter in submitters:
            mine = [
                payload for name, payload in left if name == function and payload.startswith(b"%d-" % submitter.number)
            ]
            assert mine == sorted(mine, key=lambda job: int(job.split(b"-")[1])), "out of order"
