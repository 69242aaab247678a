"""What following DDL must know of the server that wrote it: flavour, version, character sets.

Loaded once per connection; a value, so that `follow` stays a pure function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Dialect:
    """One server's way with DDL."""

    mariadb: bool
    version: int  # as in executable comments: 101106 for MariaDB 10.11.6, 80036 for MySQL 8.0.36
    default_collations: Mapping[str, str] = field(default_factory=dict)  # character set -> its default collation
    charsets: Mapping[str, str] = field(default_factory=dict)  # collation -> its character set
    widths: Mapping[str, int] = field(default_factory=dict)  # character set -> most bytes per character
    fold_names: bool = False  # lower_case_table_names is not 0
    explicit_timestamps: bool = True  # explicit_defaults_for_timestamp
    utf8: str = "utf8mb3"  # what "utf8" stands for

    @property
    def integer_widths(self) -> bool:
        """Whether column types of integers always show a display width (MySQL dropped it in 8.0.19)."""
        return self.mariadb or self.version < 80019

    def executes(self, version: int, *, for_mariadb: bool) -> bool:
        """Whether the server runs the text in /*!version … */ (or /*M!version … */)."""
        if not self.mariadb:
            return not for_mariadb and version <= self.version
        # MariaDB leaves comments of MySQL 5.7 and later alone, but for those that name MariaDB.
        return version <= self.version and (for_mariadb or not 50700 <= version <= 99999)

    def fold(self, name: str) -> str:
        return name.lower() if self.fold_names else name

    def charset(self, name: str) -> str | None:
        """The character set's own name, None when the server has none of that name."""
        name = name.lower()
        if name not in self.default_collations:
            name = {"utf8": self.utf8, "utf8mb3": "utf8"}.get(name, name)  # MySQL named it utf8 before 8.0.30
        return name if name in self.default_collations else None

    def collation(self, name: str, charset: str | None) -> str | None:
        """The collation's own name; MariaDB's collations without a character set in their name take `charset`."""
        name = name.lower()
        if name.startswith("utf8_") and name not in self.charsets:
            name = self.utf8 + name[4:]
        if name not in self.charsets and charset is not None:
            name = f"{charset}_{name}"
        return name if name in self.charsets else None


def load_dialect(connection: Any) -> Dialect:
    """Read it over a PyMySQL connection."""
    with connection.cursor() as cursor:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            cursor.execute(sql)
            return [tuple(v.decode() if isinstance(v, bytes) else v for v in row) for row in cursor.fetchall()]

        number, comment = rows("SELECT VERSION(), @@version_comment")[0]
        variables = dict(
            rows(
                "SHOW GLOBAL VARIABLES WHERE Variable_name IN ('lower_case_table_names', 'old_mode',"
                " 'explicit_defaults_for_timestamp', 'character_set_collations')"
            )
        )
        sets = rows("SELECT CHARACTER_SET_NAME, DEFAULT_COLLATE_NAME, MAXLEN FROM information_schema.CHARACTER_SETS")
        # MariaDB's third column has the name with its character set.
        collations = rows("SELECT * FROM information_schema.COLLATION_CHARACTER_SET_APPLICABILITY")
    mariadb = "mariadb" in f"{number} {comment}".lower()
    parts = [int(part) for part in number.split("-")[0].split(".")[:3]]
    defaults = {name: collation for name, collation, _ in sets}
    for choice in (variables.get("character_set_collations") or "").split(","):
        charset, _, collation = choice.partition("=")
        if collation:
            defaults[charset.strip()] = collation.strip()
    return Dialect(
        mariadb=mariadb,
        version=parts[0] * 10000 + parts[1] * 100 + parts[2],
        default_collations=defaults,
        charsets={(row[2] if len(row) > 2 else row[0]): row[1] for row in collations},
        widths={name: int(width) for name, _, width in sets},
        fold_names=variables.get("lower_case_table_names", "0") != "0",
        explicit_timestamps=variables.get("explicit_defaults_for_timestamp", "ON") == "ON",
        utf8="utf8mb4" if mariadb and "UTF8_IS_UTF8MB3" not in variables.get("old_mode", "") else "utf8mb3",
    )


__all__ = ["Dialect", "load_dialect"]
