r"""A small language for packet scripts, and what runs them against a server: raw sockets, no code of the job server.

A script is lines of `<connection> <verb> <rest>`; a connection is opened when it is first named.

    w > CAN_DO reverse             a request packet; arguments are separated by |, with Python's escapes (\x00, \n)
    w : status                     a text command, LF added
    w ! CAN_DO_TIMEOUT reverse     the same, when it may be that the server says nothing on this connection ever after
    w ~ \0REQ\xff                  raw bytes
    w _ \0RE                       raw bytes of a packet that is not whole yet
    w ? 1                          wait until one more packet has come
    w t 2                          let two seconds pass, for what must not happen
    w x                            close the connection, and wait until the server has noticed

`$1` stands for the first handle the server gave, `@2` for the Unix time in two seconds. After every step an echo goes
through every connection, so that all consequences of a step are in the transcript right after it. What differs from
run to run (handles, file descriptors) is replaced by names.
"""

from __future__ import annotations

import re
import socket
import struct
import time
from typing import Self

_PACKETS = """
- CAN_DO CANT_DO RESET_ABILITIES PRE_SLEEP - NOOP SUBMIT_JOB JOB_CREATED GRAB_JOB NO_JOB JOB_ASSIGN WORK_STATUS
WORK_COMPLETE WORK_FAIL GET_STATUS ECHO_REQ ECHO_RES SUBMIT_JOB_BG ERROR STATUS_RES SUBMIT_JOB_HIGH SET_CLIENT_ID
CAN_DO_TIMEOUT ALL_YOURS WORK_EXCEPTION OPTION_REQ OPTION_RES WORK_DATA WORK_WARNING GRAB_JOB_UNIQ JOB_ASSIGN_UNIQ
SUBMIT_JOB_HIGH_BG SUBMIT_JOB_LOW SUBMIT_JOB_LOW_BG SUBMIT_JOB_SCHED SUBMIT_JOB_EPOCH SUBMIT_REDUCE_JOB
SUBMIT_REDUCE_JOB_BACKGROUND GRAB_JOB_ALL JOB_ASSIGN_ALL GET_STATUS_UNIQUE STATUS_RES_UNIQUE
"""
NUMBERS = {name: number for number, name in enumerate(_PACKETS.split()) if name != "-"}
NAMES = {number: name for name, number in NUMBERS.items()}
TIMEOUT = 20.0
#: After which a connection that may be stuck counts as stuck.
PATIENCE = 5.0


def packet(name: str, *arguments: bytes) -> bytes:
    body = b"\0".join(arguments)
    return b"\0REQ" + struct.pack(">II", NUMBERS[name], len(body)) + body


def shown(data: bytes) -> str:
    """Bytes as text, every byte visible."""
    return data.decode("latin-1").encode("unicode_escape").decode().replace("\\x00", "|")


class Connection:
    """A socket that cuts what the server sends into lines of the transcript: `NAME argument|argument` or `'text'`."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.closed = False
        #: The server waits for the rest of a packet: an echo would be taken for it.
        self.half = False
        self.stuck = False
        self._buffer = b""

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True

    def next(self) -> bytes | None:
        """The next packet (whole) or text line; None when the server closed."""
        while True:
            item = self._cut()
            if item is not None:
                return item
            try:
                data = self.socket.recv(1 << 16)
            except ConnectionError:
                data = b""
            except TimeoutError:
                if self.socket.gettimeout() == TIMEOUT:
                    raise
                self.stuck = True
                return None
            if not data:
                self.closed = True
                return None
            self._buffer += data

    def _cut(self) -> bytes | None:
        buffer = self._buffer
        if buffer[:1] == b"\0":
            end = 12 + struct.unpack(">I", buffer[8:12])[0] if len(buffer) >= 12 else len(buffer) + 1
        else:
            end = buffer.find(b"\n") + 1 or len(buffer) + 1
        if end > len(buffer):
            return None
        self._buffer = buffer[end:]
        return buffer[:end]


class Dialogue:
    """Runs one script against the server at a port; `transcript` is what came of it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.transcript: list[str] = []
        self._connections: dict[str, Connection] = {}
        self._probe = Connection(port)
        self._echoes = 0
        #: In the order in which the server gave them.
        self.handles: list[bytes] = []

    def run(self, script: str) -> list[str]:
        for line in script.strip().splitlines():
            text = line.strip()
            if text and not text.startswith("#"):
                self.transcript.append(text)
                name, verb, rest = [*text.split(" ", 2), ""][:3]
                self._step(name, verb, rest)
        return self.transcript

    def _step(self, name: str, verb: str, rest: str) -> None:
        if name not in self._connections:
            self._connections[name] = Connection(self.port)
            self._settle(self._connections[name])
        connection = self._connections[name]
        received: list[bytes] = []
        if verb == "x":
            self._close(self._connections.pop(name))
        elif verb == "t":
            time.sleep(float(rest))
        elif verb == "?":
            received = [item for item in (connection.next() for _ in range(int(rest or 1))) if item is not None]
        else:
            connection.send(self._bytes(verb, rest))
            connection.half = verb == "_"
            if verb == "!":
                connection.socket.settimeout(PATIENCE)
        # The connection that spoke first: what it caused on the others is then under way before their echo.
        for other in sorted(self._connections, key=lambda other: other != name):
            items = received if other == name else []
            alive = not self._connections[other].closed
            items += self._settle(self._connections[other])
            self._note(other, items)
            if alive and self._connections[other].closed:
                self.transcript.append(f"    {other} closed")
            elif self._connections[other].stuck:
                self.transcript.append(f"    {other} stuck")

    def _bytes(self, verb: str, rest: str) -> bytes:
        data = rest.encode().decode("unicode_escape").encode("latin-1")
        data = re.sub(rb"\$(\d+)", lambda found: self.handles[int(found[1]) - 1], data)
        data = re.sub(rb"@(\d+)", lambda found: b"%d" % (time.time() + int(found[1])), data)
        if verb in ">!":
            name, _, arguments = data.partition(b" ")
            return packet(name.decode(), *(arguments.split(b"|") if arguments else ()))
        return data + b"\n" if verb == ":" else data

    def _settle(self, connection: Connection) -> list[bytes]:
        """Everything the server still has to say to this connection."""
        if connection.half or connection.closed or connection.stuck:
            return []
        self._echoes += 1
        token = b"settled %d" % self._echoes
        end = b"\0RES" + struct.pack(">II", NUMBERS["ECHO_RES"], len(token)) + token
        connection.send(packet("ECHO_REQ", token))
        return list(iter(lambda: self._until(connection, end), None))

    @staticmethod
    def _until(connection: Connection, end: bytes) -> bytes | None:
        item = connection.next()
        return None if item == end else item

    def _close(self, connection: Connection) -> None:
        before = len(self._workers())
        connection.socket.close()
        deadline = time.monotonic() + TIMEOUT
        while not connection.closed and len(self._workers()) >= before:
            assert time.monotonic() < deadline, "the server does not notice that a connection was closed"

    def _workers(self) -> list[bytes | None]:
        self._probe.send(b"workers\n")
        return list(iter(lambda: self._until(self._probe, b".\n"), None))

    # -- what the transcript shows -------------------------------------------------------------------------------

    def _note(self, name: str, items: list[bytes]) -> None:
        lines = [self._line(item) for item in items]
        if lines and lines[-1] == r"'.\n'":
            lines = [*sorted(lines[:-1]), lines[-1]]  # no order is promised
        self.transcript += [f"    {name} < {line}" for line in lines]

    def _line(self, item: bytes) -> str:
        item = re.sub(rb"H:[\w.-]+:\d+", self._named, item)
        if item[:1] != b"\0":
            item = re.sub(rb"^\d+ (?=127\.0\.0\.1)", b"FD ", item)
            item = re.sub(rb"^OK \d+\n", b"OK NUMBER\n", item)
            return f"'{shown(item)}'"
        kind = struct.unpack(">I", item[4:8])[0]
        return f"{NAMES[kind]} {shown(item[12:])}".rstrip()

    def _named(self, found: re.Match[bytes]) -> bytes:
        if found[0] not in self.handles:
            self.handles.append(found[0])
        return b"$%d" % (self.handles.index(found[0]) + 1)

    def close(self) -> None:
        for connection in (*self._connections.values(), self._probe):
            connection.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
