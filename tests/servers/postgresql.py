"""A private PostgreSQL (13 or later) from the distribution's package; no cluster of the distribution is touched."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import psycopg

from tests.servers.certificates import Certificates, make_certificates
from tests.servers.process import CACHE, MissingServer, ServerProcess

#: Safe as production (every commit reaches the disk), light as a test wants it.
OPTIONS: dict[str, object] = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "32MB",
    "dynamic_shared_memory_type": "mmap",  # files in its folder: nothing of it stays elsewhere
    "max_connections": 100,
    "fsync": True,
    "synchronous_commit": True,
}


class PostgreSQL(ServerProcess):
    """PostgreSQL; keyword arguments are its settings (`synchronous_commit=False`). `ssl=True` gives it a certificate
    for 127.0.0.1, whose authority is at `ssl_ca`. It refuses to run as root, and then runs as `postgres` or `nobody`.
    """

    name: ClassVar[str] = "postgresql"

    def __init__(self, *, ssl: bool = False, **options: object) -> None:
        super().__init__()
        self.data = self.folder / "data"
        #: The database of the running test, where a fixture made one.
        self.database = "postgres"
        self.options = {**OPTIONS, **options}
        self.certificates: Certificates | None = make_certificates(self.folder) if ssl else None
        self._children: list[int] = []

    # -- process -------------------------------------------------------------------------------------------------

    def command(self) -> list[str]:
        fixed: dict[str, object] = {"port": self.port, "unix_socket_directories": self.folder}
        if self.certificates is not None:
            fixed |= {"ssl": True, "ssl_cert_file": self.certificates.cert, "ssl_key_file": self.certificates.key}
            fixed |= {"ssl_ca_file": self.certificates.ca}
        settings = [f"--{name}={_setting(value)}" for name, value in {**fixed, **self.options}.items()]
        # Whoever changes the user loses the signal that comes with our death, so it is asked for again. QUIT is
        # PostgreSQL's immediate shutdown: it ends all its processes and leaves no shared memory behind.
        return [*_as_user("--pdeathsig", "QUIT"), str(_program("postgres")), "-D", str(self.data), *settings]

    def prepare(self) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", self.template(), self.data], check=True)
        owner = _owner()
        if owner is not None:
            for path in (self.folder, *self.folder.rglob("*")):
                os.chown(path, owner.pw_uid, owner.pw_gid)

    def template(self) -> Path:
        """An empty data folder of this server version; made once, then copied per instance."""
        version = subprocess.run([_program("postgres"), "--version"], check=True, capture_output=True).stdout
        template = CACHE / "templates" / f"postgresql-{hashlib.sha256(version).hexdigest()[:12]}"
        if template.exists():
            return template
        template.parent.mkdir(parents=True, exist_ok=True)
        scratch = self.folder / "template"  # where the server's user may write
        scratch.mkdir()
        owner = _owner()
        if owner is not None:
            for path in (self.folder, scratch):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [*_as_user(), _program("initdb"), "-D", scratch / "data", "-U", "postgres", "--auth=trust"]
        options = ["--encoding=UTF8", "--locale=C", "--no-sync"]
        done = subprocess.run([*command, *options], cwd=scratch, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"PostgreSQL could not make a data folder:\n{done.stdout}\n{done.stderr}"
        with tempfile.TemporaryDirectory(dir=template.parent) as near:
            subprocess.run(["cp", "-a", scratch / "data", near], check=True)
            with suppress(OSError):  # another test run was faster
                (Path(near) / "data").rename(template)
        shutil.rmtree(scratch)
        return template

    def ready(self) -> bool:
        try:
            self.connect(connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        if self.running:
            self.thaw()
            os.kill(self.pid, signal.SIGINT)  # fast shutdown; SIGTERM would wait for clients
        super().stop()

    def kill9(self) -> None:
        """All its processes, at once."""
        children = self._members()
        super().kill9()
        self._signal(children, signal.SIGKILL)
        # The next start refuses as long as one of them still holds the shared memory.
        while any(_alive(child) for child in children):
            pass

    def freeze(self) -> None:
        super().freeze()  # first: it starts no more of them
        self._children = self._members()
        self._signal(self._children, signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(self._children, signal.SIGCONT)
        self._children = []
        super().thaw()

    def destroy(self) -> None:
        if self.running:
            self.thaw()
            os.kill(self.pid, signal.SIGQUIT)
            self.process.wait(self.stop_timeout)  # type: ignore[union-attr]
        super().destroy()

    def _members(self) -> list[int]:
        return [int(child) for child in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    @staticmethod
    def _signal(processes: list[int], number: signal.Signals) -> None:
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process, number)

    # -- clients -------------------------------------------------------------------------------------------------

    @property
    def ssl_ca(self) -> Path:
        assert self.certificates is not None, "start this server with ssl=True"
        return self.certificates.ca

    def connect(self, **arguments: Any) -> psycopg.Connection[Any]:
        """A new autocommit connection as superuser; keyword arguments are psycopg's."""
        defaults = {"host": "127.0.0.1", "port": self.port, "user": "postgres", "dbname": self.database}
        return psycopg.connect(**{**defaults, "autocommit": True, **arguments})

    def execute(self, *statements: str) -> list[tuple[Any, ...]]:
        """Run statements on a connection of their own; the rows of the last one."""
        rows: list[tuple[Any, ...]] = []
        with self.connect() as connection:
            for statement in statements:
                cursor = connection.execute(statement)
                rows = cursor.fetchall() if cursor.description else []
        return rows

    def value(self, statement: str) -> Any:
        """The first column of the first row."""
        return self.execute(statement)[0][0]

    def url(self, user: str = "postgres", password: str = "", database: str = "") -> str:
        secret = f":{quote(password, safe='')}" if password else ""
        return f"postgresql://{quote(user, safe='')}{secret}@127.0.0.1:{self.port}/{database or self.database}"


def _program(name: str) -> Path:
    """Debian keeps them beside each other, one folder for each version."""
    on_path = shutil.which(name)
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    if not found and not on_path:
        raise MissingServer(
            f"PostgreSQL is missing: there is no {name} in /usr/lib/postgresql or on PATH",
            hint="run `make servers`, which installs it without making or starting a cluster",
        )
    return found[-1] if found else Path(str(on_path))


def _owner() -> pwd.struct_passwd | None:
    """Whom the server runs as when we are root."""
    if os.getuid() != 0:
        return None
    find: Callable[[str], pwd.struct_passwd] = pwd.getpwnam
    with suppress(KeyError):
        return find("postgres")
    return find("nobody")


def _as_user(*options: str) -> list[str]:
    owner = _owner()
    if owner is not None:
        options = (f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}", "--clear-groups", *options)
    return ["setpriv", *options, "--"] if options else []


def _setting(value: object) -> str:
    return ("on" if value else "off") if isinstance(value, bool) else str(value)


def _alive(process: int) -> bool:
    """Running; one that has ended and waits to be collected is not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def fresh_database(server: PostgreSQL, name: str) -> None:
    server.database = "postgres"
    server.execute(f'CREATE DATABASE "{name}"')
    server.database = name


def drop_databases(server: PostgreSQL) -> None:
    """Drop whatever a test left, open connections or not."""
    server.database = "postgres"
    names = server.execute("SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> 'postgres'")
    server.execute("SELECT 1", *(f'DROP DATABASE "{name}" WITH (FORCE)' for (name,) in names))
