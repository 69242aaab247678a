"""A private MariaDB from the distribution's package (10.6 or later)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from tests.servers.process import find_program
from tests.servers.sql import SqlServer


class MariaDB(SqlServer):
    """MariaDB; keyword arguments are server options, see SqlServer."""

    name = "mariadb"
    flavor = "mariadb"
    own_options: ClassVar[dict[str, object]] = {"binlog_format": "ROW", "innodb_log_file_size": "16M"}

    def program(self) -> list[str]:
        return [str(find_program("mariadbd", "MariaDB")), "--no-defaults"]

    def make_template(self, folder: Path, init_file: Path) -> list[str]:
        install = find_program("mariadb-install-db", "MariaDB")
        return [
            str(install),
            "--no-defaults",
            f"--datadir={folder}",
            f"--extra-file={init_file}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--innodb-log-file-size=16M",
            "--innodb-use-native-aio=0",
            *(["--user=root"] if os.getuid() == 0 else []),
        ]
