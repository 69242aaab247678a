"""Coverage-guided fuzzing of parser, session and queue core with atheris; run by hand, as long as you like.

    pip install atheris
    python tests/fuzz/fuzz_protocol.py [-max_total_time=60] [corpus folder]

The input is a series of steps: one byte says who and what (send, a failing turn, a turn, time passes, the peer
leaves), for a send one more says how many bytes follow. Whatever they are, nothing but answers may come of it.
"""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

with atheris.instrument_imports(include=["syncbridge.dispatch"]):
    from syncbridge.dispatch import packets as p
    from tests.protocol.socketless import SocketlessServer, ready_bystanders, whole_job

PEERS = 4


def one_input(data: bytes) -> None:
    server = SocketlessServer(volatile=len(data) % 2 == 1)
    bystanders = ready_bystanders(server)
    peers = [server.connect() for _ in range(PEERS)]
    at = 0
    while at < len(data):
        who, what = data[at] % PEERS, data[at] // PEERS % 8
        at += 1
        if what == 0:
            server.turn(fail=True)
        elif what == 1:
            server.turn()
        elif what == 2:
            server.now += 2.0
            server.turn()
        elif what == 3:
            server.leave(peers[who])
            peers[who] = server.connect()
        else:
            size = data[at] if at < len(data) else 0
            server.send(peers[who], data[at + 1 : at + 1 + size])
            at += 1 + size
        server.check()
    for peer in peers:
        server.leave(peer)
    server.settle()
    whole_job(server, *bystanders)


def seeds() -> list[bytes]:
    """One input for each packet type, and one job all the way, so that the first coverage is not of noise."""

    def send(who: int, data: bytes) -> bytes:
        return bytes([who + 4 * PEERS, len(data)]) + data

    whole = [
        send(0, p.request(p.CAN_DO, b"f") + p.request(p.PRE_SLEEP)),
        send(1, p.request(p.SUBMIT_JOB, b"f", b"u", b"x")),
        bytes([PEERS]),
        send(0, p.request(p.GRAB_JOB_ALL)),
        send(0, p.request(p.WORK_STATUS, b"H:h:1", b"1", b"2") + p.request(p.WORK_COMPLETE, b"H:h:1", b"r")),
    ]
    each = [send(0, p.request(kind, b"f", b"u", b"1", b"2", b"x")) for kind in range(1, p.LAST_TYPE + 1)]
    texts = [send(0, line) for line in (b"status\n", b"show jobs\r\n", b"cancel job H:h:1\n", b"maxqueue f 1\n")]
    return [b"".join(whole), *each, *texts, send(0, struct.pack(">4sII", p.REQ, 7, 0xFFFFFFFF))]


if __name__ == "__main__":
    if all(argument.startswith("-") for argument in sys.argv[1:]):
        folder = Path(os.environ.get("TMPDIR", "/tmp")) / "syncbridge-fuzz-protocol"
        folder.mkdir(exist_ok=True)
        for number, seed in enumerate(seeds()):
            (folder / f"seed-{number}").write_bytes(seed)
        sys.argv.append(str(folder))
    atheris.Setup(sys.argv, one_input)
    atheris.Fuzz()
