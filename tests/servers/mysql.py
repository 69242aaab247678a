"""A private MySQL (8.0 or later) that runs from the folder where scripts/install-mysql unpacked it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from tests.servers.process import CACHE, MissingServer
from tests.servers.sql import SqlServer


class MySQL(SqlServer):
    """MySQL; keyword arguments are server options, see SqlServer."""

    name = "mysql"
    flavor = "mysql"
    own_options: ClassVar[dict[str, object]] = {
        "mysqlx": False,
        "secure_file_priv": "",
        "innodb_redo_log_capacity": "64M",
    }

    def program(self) -> list[str]:
        root = CACHE / "mysql" / "root"
        loaders = sorted(root.glob("usr/lib*/ld-linux-*.so.*"))
        libraries = sorted(root.glob("usr/lib/*-linux-gnu*"))
        if not loaders or not libraries or not (root / "usr/sbin/mysqld").exists():
            raise MissingServer(f"MySQL is missing ({root}): run `make test`, which fetches it.")
        # Its own loader and C library: built for Debian unstable, it would not run with this machine's.
        return [
            str(loaders[0]),
            "--library-path",
            str(libraries[0]),
            str(root / "usr/sbin/mysqld"),
            "--no-defaults",
            f"--basedir={root / 'usr'}",
            f"--lc-messages-dir={root / 'usr/share/mysql'}",
            f"--character-sets-dir={root / 'usr/share/mysql/charsets'}",
            f"--plugin-dir={root / 'usr/lib/mysql/plugin'}",
        ]

    def make_template(self, folder: Path, init_file: Path) -> list[str]:
        return [
            *self.program(),
            "--initialize-insecure",
            f"--datadir={folder}",
            f"--init-file={init_file}",
            "--innodb-redo-log-capacity=64M",
            "--innodb-use-native-aio=0",
            *(["--user=root"] if os.getuid() == 0 else []),
        ]

    def gtid_options(self, on: bool) -> dict[str, object]:
        return {"gtid_mode": on, "enforce_gtid_consistency": on}
