"""A private MariaDB from the distribution's packages (10.6 or later)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pymysql
from pymysql.connections import Connection

from syncbridge.demo.process import PrivateServer, find_program
from syncbridge.errors import TransientError

PACKAGES = "mariadb-server-core mariadb-client-core"

#: Safe as production (every commit reaches the disk), light as a demonstration or a test wants it.
OPTIONS: dict[str, object] = {
    "bind_address": "127.0.0.1",
    "skip_name_resolve": True,
    "log_bin": "binlog",
    "sync_binlog": 1,
    "innodb_flush_log_at_trx_commit": 1,
    "innodb_buffer_pool_size": "32M",
    "innodb_use_native_aio": False,  # kernel limits on aio are shared with everybody on the machine
    "performance_schema": False,
    "character_set_server": "utf8mb4",
    "max_connections": 200,
}
MARIADB_OPTIONS: dict[str, object] = {"binlog_format": "ROW", "innodb_log_file_size": "16M"}


def option(name: str, value: object) -> str:
    """One server option as it stands on a command line; True and False are ON and OFF."""
    if isinstance(value, bool):
        value = "ON" if value else "OFF"
    return f"--{name.replace('_', '-')}={value}"


def server_program() -> list[str]:
    """The command line of the server without options. Raises MissingServer."""
    return [str(find_program("mariadbd", "MariaDB", PACKAGES)), "--no-defaults"]


def install_command(data: Path, init_file: Path | None = None) -> list[str]:
    """The command line that makes an empty data folder; root may come in by socket, without a password.

    init_file: SQL that is run in it. Raises MissingServer.
    """
    find_program("my_print_defaults", "MariaDB", PACKAGES)
    return [
        str(find_program("mariadb-install-db", "MariaDB", PACKAGES)),
        "--no-defaults",
        f"--datadir={data}",
        *([] if init_file is None else [f"--extra-file={init_file}"]),
        "--auth-root-authentication-method=normal",
        "--skip-test-db",
        "--innodb-log-file-size=16M",
        "--innodb-use-native-aio=0",
        *(["--user=root"] if os.getuid() == 0 else []),
    ]


def instance_options(folder: Path, data: Path, socket: Path, port: int) -> dict[str, object]:
    """What keeps one server's files, socket and port apart from every other's; MySQL takes the same options."""
    fixed: dict[str, object] = {
        "datadir": data,
        "socket": socket,
        "port": port,
        "pid_file": folder / "pid",
        "tmpdir": folder,
    }
    if os.getuid() == 0:
        fixed["user"] = "root"
    return fixed


class PrivateMariaDB(PrivateServer):
    """MariaDB whose root comes in through the socket in its folder alone: nobody else on this machine can.

    Keyword arguments are server options, underscores for dashes.
    """

    name = "MariaDB"

    def __init__(self, folder: Path, **options: object) -> None:
        super().__init__(folder)
        self.data = folder / "data"
        self.socket = folder / "s.sock"
        self.options = {**OPTIONS, **MARIADB_OPTIONS, **options}

    def command(self) -> list[str]:
        fixed = instance_options(self.folder, self.data, self.socket, self.port)
        return [*server_program(), *(option(name, value) for name, value in {**fixed, **self.options}.items())]

    def prepare(self) -> None:
        done = subprocess.run(install_command(self.data), capture_output=True, text=True, check=False)
        if done.returncode:
            raise TransientError(f"MariaDB could not make a data folder:\n{done.stdout}\n{done.stderr}")

    def ready(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except pymysql.MySQLError:
            return False
        return True

    def connect(self, **arguments: Any) -> Connection[Any]:
        """A new connection as root, in UTC and autocommit; keyword arguments are PyMySQL's."""
        defaults: dict[str, Any] = {
            "unix_socket": str(self.socket),
            "user": "root",
            "charset": "utf8mb4",
            "autocommit": True,
            "init_command": "SET time_zone = '+00:00'",
        }
        return pymysql.connect(**{**defaults, **arguments})
