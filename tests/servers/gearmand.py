"""Debian's gearmand: what our job server is compared with, and what our clients must also get on with."""

from __future__ import annotations

import socket
from typing import ClassVar

from syncbridge.demo.process import find_program
from tests.servers.process import ServerProcess


class Gearmand(ServerProcess):
    """gearmand; keyword arguments are its options, underscores for dashes, True for an option without a value.

    The default queue is in memory; `Gearmand(queue_type="libsqlite3")` keeps it in its folder. Other types need
    their options: `Gearmand(queue_type="MySQL", mysql_host=..., mysql_port=...)`.
    """

    name: ClassVar[str] = "gearmand"

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options: dict[str, object] = {"threads": 2, "verbose": "INFO", **options}
        if options.get("queue_type") == "libsqlite3":
            self.options.setdefault("libsqlite3_db", self.folder / "queue.sqlite3")

    def command(self) -> list[str]:
        program = str(find_program("gearmand", "gearmand", "gearman-job-server"))
        fixed = {"listen": "127.0.0.1", "port": self.port, "log_file": "stderr", "pid_file": self.folder / "pid"}
        command = [program, f"--config-file={self.folder / 'gearmand.conf'}"]
        for name, value in {**fixed, **self.options}.items():
            if value is not False:
                command.append(f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}"))
        return command

    def prepare(self) -> None:
        (self.folder / "gearmand.conf").touch()  # an empty one, not the installed one

    def ready(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as peer:
                peer.sendall(b"version\n")
                return peer.recv(100).startswith(b"OK")
        except OSError:
            return False
