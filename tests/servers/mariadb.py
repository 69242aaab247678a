"""A private MariaDB from the distribution's package (10.6 or later)."""

from __future__ import annotations

from pathlib import Path

from syncbridge.demo.mariadb import MARIADB_OPTIONS, install_command, server_program
from tests.servers.sql import SqlServer


class MariaDB(SqlServer):
    """MariaDB; keyword arguments are server options, see SqlServer."""

    name = "mariadb"
    flavor = "mariadb"
    own_options = MARIADB_OPTIONS

    def program(self) -> list[str]:
        return server_program()

    def make_template(self, folder: Path, init_file: Path) -> list[str]:
        return install_command(folder, init_file)
