"""Row images -> tuples of values as event.py carries them, by a decoder generated once per table shape.

A generated decoder is one function without calls per column: the fixed-width columns of a run (and the length of the
string that follows them) are one `struct.unpack_from`, a second one for numbers whose greatest byte comes first;
strings are slices of the whole event decoded once as latin-1. A row without NULLs takes the fast path, a row whose
NULLs stand where many had theirs takes one made for it, any other goes column by column.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from struct import Struct
from typing import Any

from syncbridge.capture.binlog.fields import ENVIRONMENT, LETTERS, Field, field_of
from syncbridge.capture.binlog.table_map import TableMap
from syncbridge.capture.schema import TableSchema

#: decode(event, offset of the first row, end) -> rows (or pairs, for updates)
Decode = Callable[[bytes, int, int], list[Any]]
#: decode_one(event, the event as latin-1 text, offset of the row) -> row, offset behind it
DecodeOne = Callable[[bytes, str, int], tuple[tuple[Any, ...], int]]

#: A pattern of NULLs gets its own code when it was met this often; as many get one.
_OFTEN, _PATTERNS = 200, 32


class Decoder:
    """The decoders of one TABLE_MAP shape of one table. Updates get theirs when the first one comes."""

    def __init__(
        self, table_map: TableMap, schema: TableSchema, *, mariadb: bool, wanted: Container[str] | None = None
    ) -> None:
        """Columns that are not `wanted` (by name; None: every one is) are read over, and rows do not have them."""
        self.schema = schema
        self.width = len(table_map.columns)
        #: By event type: what stands between flags and first row where every column is there, the op, how to decode.
        self.plans: dict[int, tuple[bytes, str, Decode]] = {}
        self._fields = [
            field_of(mapped, column, mariadb=mariadb)
            for mapped, column in zip(table_map.columns, schema.columns, strict=False)
        ]
        for item in self._fields:
            item.hidden = wanted is not None and item.name not in wanted
        self._fields += [Field("", "Q", hidden=True) for _ in range(schema.hash_columns)]
        #: The names of a decoded row's values.
        self.columns = tuple(item.name for item in self._fields if not item.hidden)
        self._null_bytes = (self.width + 7) // 8
        self._environment = {**ENVIRONMENT, "from_bytes": int.from_bytes}
        for index, item in enumerate(self._fields):
            self._environment.update({f"{name}{index}": value for name, value in item.environment.items()})
        self._met: Counter[bytes] = Counter()
        self._with_nulls: dict[bytes, DecodeOne] = {}
        self._any_nulls: DecodeOne | None = None
        self._environment |= {"with_nulls": self._with_nulls.get, "learn": self._learn}
        self.images: Decode = self._compile(self._loop(pairs=False))
        self._pairs: Decode | None = None

    @property
    def pairs(self) -> Decode:
        if self._pairs is None:
            self._pairs = self._compile(self._loop(pairs=True))
        return self._pairs

    def is_full(self, present: bytes) -> bool:
        """Whether columns-present bitmaps name every column; MySQL sets the unused bits of the last byte too."""
        size = self._null_bytes
        ones = (1 << self.width) - 1
        images = (present[at : at + size] for at in range(0, len(present), size))
        return all(int.from_bytes(image, "little") & ones == ones for image in images)

    def _learn(self, nulls: bytes) -> DecodeOne:
        """How to read a row with these NULLs, of which _with_nulls knows nothing."""
        if len(self._with_nulls) < _PATTERNS:
            if len(self._met) > 10 * _PATTERNS:  # no pattern at all: they are all different
                self._met.clear()
            self._met[nulls] += 1
            if self._met[nulls] >= _OFTEN:
                self._with_nulls[nulls] = self._compile(self._one(int.from_bytes(nulls, "little")))
                return self._with_nulls[nulls]
        if self._any_nulls is None:
            self._any_nulls = self._compile(self._one(None))
        return self._any_nulls

    # Source

    def _compile(self, lines: list[str]) -> Any:
        environment = self._environment
        code = compile("\n".join(lines), f"<decoder of {self.schema.db}.{self.schema.table}>", "exec")
        exec(code, environment)  # noqa: S102 - our own text: names and numbers only, literals through repr
        return environment.pop("decode")

    def _loop(self, *, pairs: bool) -> list[str]:
        """The source of a Decode."""
        width, null_bytes = self.width, self._null_bytes
        unused = (0xFF << width % 8) & 0xFF if width % 8 else 0
        no_nulls = bytes(null_bytes - 1) + bytes((unused,))
        lines = ["def decode(data, p, end):", " text = data.decode('latin-1')", " rows = []"]
        lines += [" append = rows.append", " while p < end:"]
        for image in ("before", "after") if pairs else ("row",):
            if null_bytes == 1:
                lines.append(f"  if not data[p] & {(1 << width) - 1}:")
            else:
                lines.append(f"  if data.startswith({no_nulls!r}, p):")
            lines += _indented(3, self._straight(enumerate(self._fields), null_bytes))
            lines.append(f"   {image} = {self._row(0)}")
            lines.append("  else:")
            lines.append(f"   nulls = data[p:p + {null_bytes}]")
            lines.append(f"   {image}, p = (with_nulls(nulls) or learn(nulls))(data, text, p)")
        lines.append("  append((before, after))" if pairs else "  append(row)")
        return [*lines, " if p != end:", "  raise ValueError('row image ends in the wrong place')", " return rows"]

    def _one(self, nulls: int | None) -> list[str]:
        """The source of a DecodeOne: of rows with just these NULLs, or with any."""
        lines = ["def decode(data, text, p):"]
        if nulls is not None:
            there = [(index, item) for index, item in enumerate(self._fields) if not nulls >> index & 1]
            lines += _indented(1, self._straight(there, self._null_bytes))
        else:
            lines += [f" nulls = from_bytes(data[p:p + {self._null_bytes}], 'little')", f" p += {self._null_bytes}"]
            lines += _indented(1, self._null_checks())
        return [*lines, f" return {self._row(nulls or 0)}, p"]

    def _row(self, nulls: int) -> str:
        shown = [(index, item) for index, item in enumerate(self._fields) if not item.hidden]
        return "(" + "".join("None, " if nulls >> index & 1 else f"v{index}, " for index, _ in shown) + ")"

    def _null_checks(self) -> list[str]:
        """Code for a row with any NULLs: nullable columns one by one, the others in runs."""
        lines: list[str] = []
        sure: list[tuple[int, Field]] = []
        for index, item in enumerate(self._fields):
            if not item.nullable:
                sure.append((index, item))
                continue
            lines += self._straight(sure, 0)
            sure = []
            lines += [f"if nulls & {1 << index}:", f" v{index} = None", "else:"]
            lines += _indented(1, self._straight([(index, item)], 0))
        return lines + self._straight(sure, 0)

    def _straight(self, fields: Iterable[tuple[int, Field]], skip: int) -> list[str]:
        """Code for consecutive columns that are surely there, `skip` bytes before them, in runs that each end with a
        variable column."""
        lines: list[str] = []
        run: list[tuple[int, Field]] = []
        for index, item in fields:
            run.append((index, item))
            if item.length:
                lines += self._run(run, skip)
                run, skip = [], 0
        if run or skip:
            lines += self._run(run, skip)
        return lines

    def _run(self, run: list[tuple[int, Field]], skip: int) -> list[str]:
        """Code for columns of which only the last may be of variable length."""
        lines = self._unpacked(run, skip, big=False) + self._unpacked(run, skip, big=True)
        lines.append(f"p += {skip + sum(item.size for _, item in run)}")
        for index, item in run:
            arguments = dict(zip(LETTERS, _names(index, item), strict=False))
            arguments |= {"v": f"v{index}", "i": str(index)}
            if item.length:
                lines.append("q = p + " + item.length.format(**arguments))
            if not item.hidden:
                lines += [line.format(**arguments) for line in item.body]
            if item.length:
                lines.append("p = q")
        return lines

    def _unpacked(self, run: list[tuple[int, Field]], skip: int, *, big: bool) -> list[str]:
        """One unpack_from for those of a run whose bytes come in this order."""
        layout = ""
        names: list[str] = []
        at, gap = skip, 0
        for index, item in run:
            codes = item.big if big else item.formats
            if codes and (item.length or not item.hidden):
                if names:
                    layout += f"{gap}x" if gap else ""
                else:
                    at += gap
                layout += codes
                names += _names(index, item)
                gap = 0
            else:
                gap += item.size
        if not names:
            return []
        where = f"p + {at}" if at else "p"
        if layout == "B":
            return [f"{names[0]} = data[{where}]"]
        unpack = f"unpack_{'big' if big else 'little'}_{layout}"
        self._environment[unpack] = Struct((">" if big else "<") + layout).unpack_from
        return [f"{', '.join(names)}{',' if len(names) == 1 else ''} = {unpack}(data, {where})"]


def _names(index: int, item: Field) -> list[str]:
    """What the unpacked values of a column are called."""
    if not item.body and not item.length:
        return [f"v{index}"]
    return [f"x{index}_{part}" for part in range(item.names)]


def _indented(by: int, lines: list[str]) -> list[str]:
    return [" " * by + line for line in lines]
