"""What private MariaDB and MySQL servers have in common: options, templates of an empty data folder, clients."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import quote

import pymysql
from pymysql.connections import Connection

from syncbridge.demo.mariadb import OPTIONS, instance_options, option
from tests.servers.certificates import Certificates, make_certificates
from tests.servers.process import CACHE, ServerProcess

#: Run while the empty data folder is made: servers skip name resolution, so root comes from 127.0.0.1, not localhost.
ROOT_ACCOUNT = """\
FLUSH PRIVILEGES;
CREATE USER IF NOT EXISTS root@'127.0.0.1';
GRANT ALL ON *.* TO root@'127.0.0.1' WITH GRANT OPTION;
"""


class SqlServer(ServerProcess):
    """A private MariaDB or MySQL. Keyword arguments are server options, underscores for dashes.

    True and False mean ON and OFF; None drops one of our defaults. Two are ours: `ssl=True` gives the server a
    certificate for 127.0.0.1 (its authority is at `ssl_ca`), `gtid=False` switches MySQL's GTIDs off.
    """

    flavor: ClassVar[str]
    own_options: ClassVar[dict[str, object]] = {}
    next_server_id: ClassVar[int] = 100

    def __init__(self, *, ssl: bool = False, gtid: bool = True, **options: object) -> None:
        super().__init__()
        SqlServer.next_server_id += 1
        self.gtid = gtid
        self.data = self.folder / "data"
        self.socket = self.folder / "s.sock"
        #: The database of the running test, where a fixture made one.
        self.database = ""
        defaults = {**OPTIONS, **self.own_options, "server_id": SqlServer.next_server_id}
        self.options: dict[str, object] = {**defaults, **self.gtid_options(gtid), **options}
        self.certificates: Certificates | None = make_certificates(self.folder) if ssl else None

    # What the two differ in

    def program(self) -> list[str]:
        """The command line of the server program without options, with whatever finds its libraries and messages."""
        raise NotImplementedError

    def make_template(self, folder: Path, init_file: Path) -> list[str]:
        """The command line that makes an empty data folder and runs `init_file` in it."""
        raise NotImplementedError

    def gtid_options(self, on: bool) -> dict[str, object]:
        return {}

    # Process

    def command(self) -> list[str]:
        fixed = instance_options(self.folder, self.data, self.socket, self.port)
        if self.certificates is not None:
            fixed |= {"ssl_ca": self.ssl_ca, "ssl_cert": self.certificates.cert, "ssl_key": self.certificates.key}
        return [
            *self.program(),
            *(option(name, value) for name, value in {**fixed, **self.options}.items() if value is not None),
        ]

    def prepare(self) -> None:
        # cp beats shutil: sparse files stay sparse, and file systems that can share blocks do.
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", self.template(), self.data], check=True)

    def template(self) -> Path:
        """An empty data folder of this server version; made once, then copied per instance."""
        key = hashlib.sha256(_version(*self.program()) + ROOT_ACCOUNT.encode()).hexdigest()[:12]
        template = CACHE / "templates" / f"{self.name}-{key}"
        if template.exists():
            return template
        template.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=template.parent) as scratch:
            init_file = Path(scratch) / "init.sql"
            init_file.write_text(ROOT_ACCOUNT)
            made = Path(scratch) / "data"
            done = subprocess.run(self.make_template(made, init_file), capture_output=True, text=True, check=False)
            assert done.returncode == 0, f"{self.name} could not make a data folder:\n{done.stdout}\n{done.stderr}"
            (made / "auto.cnf").unlink(missing_ok=True)  # holds the server's UUID; each copy makes its own
            try:
                made.rename(template)
            except OSError:
                assert template.exists()  # another test run was faster
        return template

    def ready(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except pymysql.MySQLError:
            return False
        return True

    # Clients

    @property
    def ssl_ca(self) -> Path:
        assert self.certificates is not None, "start this server with ssl=True"
        return self.certificates.ca

    def connect(self, **arguments: Any) -> Connection[Any]:
        """A new autocommit connection as root; keyword arguments are PyMySQL's."""
        defaults = {"host": "127.0.0.1", "port": self.port, "user": "root", "charset": "utf8mb4", "autocommit": True}
        return pymysql.connect(**{**defaults, "database": self.database or None, **arguments})

    def execute(self, *statements: str, database: str | None = None) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; the rows of the last one."""
        rows: tuple[tuple[Any, ...], ...] = ()
        with self.connect(database=database or self.database or None) as connection, connection.cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)
                rows = cursor.fetchall() or ()
        return list(rows)

    def value(self, statement: str) -> Any:
        """The first column of the first row."""
        return self.execute(statement)[0][0]

    def url(self, user: str = "root", password: str = "", database: str = "") -> str:
        secret = f":{quote(password, safe='')}" if password else ""
        path = f"/{database}" if database else ""
        return f"mysql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}{path}"

    def create_user(self, user: str, password: str, *grants: str) -> Self:
        """An account with grants like "SELECT ON shop.*"."""
        self.execute(
            f"CREATE USER '{user}'@'127.0.0.1' IDENTIFIED BY '{password}'",
            *(f"GRANT {grant} TO '{user}'@'127.0.0.1'" for grant in grants),
        )
        return self

    def binlog_position(self) -> tuple[str, int]:
        """(file, position) of the end of the binlog."""
        try:
            row = self.execute("SHOW MASTER STATUS")[0]
        except pymysql.err.ProgrammingError:  # MySQL 8.4 dropped the old name
            row = self.execute("SHOW BINARY LOG STATUS")[0]
        return row[0], row[1]

    def binlog_file(self, name: str = "") -> Path:
        """The path of a binlog file (the one being written by default)."""
        return self.data / (name or self.binlog_position()[0])


@cache
def _version(*program: str) -> bytes:
    return subprocess.run([*program, "--version"], check=True, capture_output=True).stdout


def fresh_database(server: SqlServer, name: str) -> None:
    server.database = ""
    server.execute(f"CREATE DATABASE `{name}`")
    server.database = name


def drop_databases(server: SqlServer) -> None:
    """Drop whatever a test left: every database that is not the server's own."""
    server.database = ""
    own = {"mysql", "sys", "information_schema", "performance_schema"}
    names = [row[0] for row in server.execute("SHOW DATABASES") if row[0] not in own]
    server.execute("SET SESSION foreign_key_checks=0", *(f"DROP DATABASE `{name}`" for name in names))
    shutil.rmtree(server.folder / "scratch", ignore_errors=True)
