"""Row images -> tuples of values as event.py carries them, by a decoder generated once per table shape.

A generated decoder is one function without calls per column: runs of fixed-width columns (and the length byte of the
string that follows them) are one `struct.unpack_from`, strings are slices of the whole event decoded once as latin-1.
A row without NULLs takes the fast path; any other goes column by column.
"""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from typing import Any

from syncbridge.capture.binlog import table_map as types
from syncbridge.capture.binlog import temporal
from syncbridge.capture.binlog.charsets import LATIN1, UTF8, text_decoder
from syncbridge.capture.binlog.geometry import wkt
from syncbridge.capture.binlog.identifiers import inet4_text, inet6_text, uuid_text
from syncbridge.capture.binlog.jsonb import json_text
from syncbridge.capture.binlog.numbers import decimal_size, decimal_source, double_text, float_text
from syncbridge.capture.binlog.table_map import MappedColumn, TableMap
from syncbridge.capture.schema import TEXT_TYPES, Column, TableSchema
from syncbridge.errors import PermanentError

#: decode(event, the event as latin-1 text, offset of the first row, end) -> rows (or pairs, for updates)
Decode = Callable[[bytes, str, int, int], list[Any]]


class Decoder:
    """The decoders of one TABLE_MAP shape of one table. Updates get theirs when the first one comes."""

    def __init__(self, table_map: TableMap, schema: TableSchema, *, mariadb: bool) -> None:
        self.schema = schema
        #: The names of a decoded row's values.
        self.columns = tuple(column.name for column in schema.columns)
        self.width = len(table_map.columns)
        bitmap = bytes_of_ones(self.width)
        #: The columns-present bitmaps of one and of two images that hold every column.
        self.full_images = (b"", bitmap, 2 * bitmap)
        self._fields = [
            _field(mapped, column, mariadb=mariadb)
            for mapped, column in zip(table_map.columns, schema.columns, strict=False)
        ]
        self._fields += [Field("", "Q", []) for _ in range(schema.hash_columns)]
        self.images: Decode = self._compile(pairs=False)
        self._pairs: Decode | None = None

    @property
    def pairs(self) -> Decode:
        if self._pairs is None:
            self._pairs = self._compile(pairs=True)
        return self._pairs

    def is_full(self, present: bytes) -> bool:
        """Whether columns-present bitmaps name every column; MySQL sets the unused bits of the last byte too."""
        size = (self.width + 7) // 8
        ones = (1 << self.width) - 1
        images = (present[at : at + size] for at in range(0, len(present), size))
        return all(int.from_bytes(image, "little") & ones == ones for image in images)

    def _compile(self, *, pairs: bool) -> Decode:
        source, environment = generate(self._fields, pairs=pairs)
        code = compile(source, f"<decoder of {self.schema.db}.{self.schema.table}>", "exec")
        exec(code, environment)  # noqa: S102 - our own text: names and numbers only, literals through repr
        return environment["decode"]  # type: ignore[no-any-return]


def bytes_of_ones(bits: int) -> bytes:
    """A bitmap of `bits` ones, unused bits zero."""
    return ((1 << bits) - 1).to_bytes((bits + 7) // 8, "little")


@dataclass(slots=True)
class Field:
    """How one column is read.

    `formats`: struct codes (little-endian) of the fixed part; `size` their bytes. `body`: statements that set `{v}`
    from the unpacked names `{a}`, `{b}`… For a variable column the last unpacked name(s) are its length `{n}`, and
    the body sees the slice bounds `p` and `q`. A field without a body is read over: the row does not have it.
    """

    name: str
    formats: str
    body: list[str]
    names: int = 1  # how many values `formats` unpacks
    length: str = ""  # expression of the variable part's length over the unpacked names; "" for fixed columns
    nullable: bool = True
    environment: dict[str, Any] = field(default_factory=dict)


def generate(fields: list[Field], *, pairs: bool) -> tuple[str, dict[str, Any]]:
    """The source of `decode` and the names it uses."""
    environment: dict[str, Any] = {
        "from_bytes": int.from_bytes, "utf8": _utf8, "LATIN1": LATIN1, "b64": b2a_base64,
        "DATES": temporal.DATES, "D2": temporal.DATETIME2_DATES, "T2": temporal.DATETIME2_TIMES,
        "TIMES": temporal.TIMES, "DAYS": temporal.DAYS, "SECONDS": temporal.SECONDS, "YEARS": temporal.YEARS,
    }  # fmt: skip
    for index, item in enumerate(fields):
        for name, value in item.environment.items():
            environment[f"{name}{index}"] = value
    null_bytes = (len(fields) + 7) // 8
    unused = (0xFF << len(fields) % 8) & 0xFF if len(fields) % 8 else 0
    environment["NO_NULLS"] = bytes(null_bytes - 1) + bytes((unused,))
    environment["MASK"] = (1 << len(fields)) - 1
    lines = ["def decode(data, text, p, end):", " rows = []", " append = rows.append", " while p < end:"]
    row = "(" + "".join(f"v{index}, " for index, item in enumerate(fields) if item.body) + ")"
    for image in ("before", "after") if pairs else ("row",):
        if null_bytes == 1:
            lines.append(f"  if not data[p] & {(1 << len(fields)) - 1}:")
        else:
            lines.append("  if data.startswith(NO_NULLS, p):")
        lines += [f"   {line}" for line in _fast_path(fields, null_bytes, environment)]
        lines.append("  else:")
        lines += [f"   {line}" for line in _null_path(fields, null_bytes, environment)]
        lines.append(f"  {image} = {row}")
    lines.append("  append((before, after))" if pairs else "  append(row)")
    lines += [" if p != end:", "  raise ValueError('row image ends in the wrong place')", " return rows"]
    return "\n".join(lines), environment


def _fast_path(fields: list[Field], skip: int, environment: dict[str, Any]) -> list[str]:
    """Straight-line code for a row without NULLs; `skip` bytes (the NULL bitmap) precede the first column."""
    lines = _sure(list(enumerate(fields)), skip, environment)
    return lines or [f"p += {skip}"]


def _sure(fields: list[tuple[int, Field]], skip: int, environment: dict[str, Any]) -> list[str]:
    """Code for consecutive columns that are surely there, in runs that each end with a variable column."""
    lines: list[str] = []
    run: list[tuple[int, Field]] = []
    for index, item in fields:
        run.append((index, item))
        if item.length:
            lines += _run(run, skip, environment)
            run, skip = [], 0
    if run:
        lines += _run(run, skip, environment)
    return lines


def _run(run: list[tuple[int, Field]], skip: int, environment: dict[str, Any]) -> list[str]:
    """One unpack_from for a run of columns of which only the last may be of variable length."""
    formats = "".join(item.formats for _, item in run)
    layout = Struct("<" + formats)
    names = [f"x{index}_{part}" for index, item in run for part in range(item.names)]
    lines: list[str] = []
    at = f"p + {skip}" if skip else "p"
    if formats == "B":
        lines.append(f"{names[0]} = data[{at}]")
    elif names:
        unpack = f"unpack_{formats}"
        environment[unpack] = layout.unpack_from
        lines.append(f"{', '.join(names)}{',' if len(names) == 1 else ''} = {unpack}(data, {at})")
    if skip + layout.size:
        lines.append(f"p += {skip + layout.size}")
    for index, item in run:
        arguments = {letter: f"x{index}_{part}" for part, letter in enumerate("abc"[: item.names])}
        arguments |= {"v": f"v{index}", "i": str(index)}
        if item.length:
            lines.append("q = p + " + item.length.format(**arguments))
        lines += [line.format(**arguments) for line in item.body]
        if item.length:
            lines.append("p = q")
    return lines


def _null_path(fields: list[Field], null_bytes: int, environment: dict[str, Any]) -> list[str]:
    """Code for a row with NULLs: nullable columns one by one, the others in runs."""
    lines = [f"nulls = from_bytes(data[p:p + {null_bytes}], 'little')", f"p += {null_bytes}"]
    sure: list[tuple[int, Field]] = []
    for index, item in enumerate(fields):
        if not item.nullable:
            sure.append((index, item))
            continue
        lines += _sure(sure, 0, environment)
        sure = []
        lines += [f"if nulls & {1 << index}:", f" v{index} = None", "else:"]
        lines += [f" {line}" for line in _run([(index, item)], 0, environment)]
    return lines + _sure(sure, 0, environment)


def _utf8(data: bytes) -> str:
    return data.decode("utf-8", "replace")


# What each column type becomes. A body is a list of format strings: {v} the value, {a} {b} {c} what was unpacked,
# {i} the column's index (for names out of its environment).


def _field(mapped: MappedColumn, column: Column, *, mariadb: bool) -> Field:
    if mapped.type == types.GEOMETRY:
        item = _converted(column, "I", _geometry(column, mariadb=mariadb))
    else:
        item = _builder(mapped, column)(mapped, column)
    item.nullable = mapped.nullable
    return item


def _builder(mapped: MappedColumn, column: Column) -> Callable[[MappedColumn, Column], Field]:
    build = _BUILDERS.get(mapped.type)
    if build is None:
        raise PermanentError(
            f"column {column.name} {column.column_type} has binlog type {mapped.type}, which syncbridge cannot read",
            hint="leave the table out of the mappings, or rebuild it (ALTER TABLE … FORCE) if the type is an old one",
        )
    return build


def _integer(signed: str, *, names: int = 1) -> Callable[[MappedColumn, Column], Field]:
    def build(_mapped: MappedColumn, column: Column) -> Field:
        # B and H before the last code stay unsigned: only a number's highest part carries its sign.
        last = signed[-1].upper() if column.unsigned else signed[-1]
        value = "{a}" if names == 1 else "({a} + {b} * 65536)"
        if column.zerofill:
            value = f"f'{{{{{value}:0{column.length or 1}d}}}}'"
        return Field(column.name, signed[:-1] + last, [f"{{v}} = {value}"], names)

    return build


def _real(code: str, text: Callable[[float], str]) -> Callable[[MappedColumn, Column], Field]:
    def build(_mapped: MappedColumn, column: Column) -> Field:
        value = "real{i}({a})" if column.decimals is None else f"f'{{{{{{a}}:.{column.decimals}f}}}}'"
        if column.zerofill:
            value += f".zfill({column.precision or (12 if code == 'f' else 22)})"
        return Field(column.name, code, [f"{{v}} = {value}"], environment={"real": text})

    return build


def _decimal(mapped: MappedColumn, column: Column) -> Field:
    size = decimal_size(mapped.meta, mapped.meta2)
    sign_bit, ones, body = decimal_source(mapped.meta, mapped.meta2)
    body = body.replace("{", "{{").replace("}", "}}")
    if column.zerofill:
        # Never negative. SELECT pads with zeros to the width of precision digits plus the point.
        width = mapped.meta + (1 if mapped.meta2 else 0)
        statements = [f"t = from_bytes({{a}}, 'big') ^ {sign_bit}", f"{{v}} = f'{body}'.zfill({width})"]
    else:
        statements = [
            f"t = from_bytes({{a}}, 'big') ^ {sign_bit}",
            f"if t < {sign_bit}: {{v}} = f'{body}'",
            "else:",
            f" t ^= {ones}",
            f" {{v}} = f'-{body}'",
        ]
    return Field(column.name, f"{size}s", statements)


def _year(_mapped: MappedColumn, column: Column) -> Field:
    return Field(column.name, "B", ["{v} = YEARS[{a}]"])


def _date(_mapped: MappedColumn, column: Column) -> Field:
    return Field(column.name, "HB", ["{v} = DATES[{a} + {b} * 65536]"], 2)


def _fraction(fsp: int, value: str) -> str:
    """The text ".123456" of a fraction stored with an even number of digits, for use inside an f-string."""
    if not fsp:
        return ""
    stored = value if fsp % 2 == 0 else f"({value}) // 10"
    return f".{{{{{stored}:0{fsp}d}}}}"


def _datetime2(mapped: MappedColumn, column: Column) -> Field:
    width = (mapped.meta + 1) // 2
    bits = 8 * width
    fraction = _fraction(mapped.meta, f"t & {(1 << bits) - 1}")
    text = f"{{{{D2[t >> {17 + bits}]}}}}{{{{T2[t >> {bits} & 131071]}}}}{fraction}"
    return Field(column.name, f"{5 + width}s", ["t = from_bytes({a}, 'big')", f"{{v}} = f'{text}'"])


def _timestamp2(mapped: MappedColumn, column: Column) -> Field:
    width = (mapped.meta + 1) // 2
    bits = 8 * width
    fraction = _fraction(mapped.meta, f"t & {(1 << bits) - 1}")
    zero = temporal.ZERO_DATETIME + ("." + "0" * mapped.meta if mapped.meta else "")
    text = f"{{{{DAYS[(t >> {bits}) // 86400]}}}}{{{{SECONDS[(t >> {bits}) % 86400]}}}}{fraction}"
    return Field(column.name, f"{4 + width}s", ["t = from_bytes({a}, 'big')", f"{{v}} = f'{text}' if t else {zero!r}"])


def _time2(mapped: MappedColumn, column: Column) -> Field:
    width = (mapped.meta + 1) // 2
    bits = 8 * width
    fraction = _fraction(mapped.meta, f"t & {(1 << bits) - 1}")
    return Field(
        column.name,
        f"{3 + width}s",
        [
            f"t = from_bytes({{a}}, 'big') - {0x800000 << bits}",
            f"if t >= 0: {{v}} = f'{{{{TIMES[t >> {bits}]}}}}{fraction}'",
            "else:",
            " t = -t",
            f" {{v}} = f'-{{{{TIMES[t >> {bits}]}}}}{fraction}'",
        ],
    )


def _old_timestamp(mapped: MappedColumn, column: Column) -> Field:
    if column.fsp:
        size = temporal.HIRES_TIMESTAMP_BYTES[column.fsp]
        return _call(column, f"{size}s", temporal.hires_timestamp, column.fsp)
    return _call(column, "I", temporal.old_timestamp)


def _old_datetime(mapped: MappedColumn, column: Column) -> Field:
    if column.fsp:
        size = temporal.HIRES_DATETIME_BYTES[column.fsp]
        return _call(column, f"{size}s", temporal.hires_datetime, column.fsp)
    return _call(column, "q", temporal.old_datetime)


def _old_time(mapped: MappedColumn, column: Column) -> Field:
    if column.fsp:
        size = temporal.HIRES_TIME_BYTES[column.fsp]
        return _call(column, f"{size}s", temporal.hires_time, column.fsp)
    return Field(
        column.name, "Hb", ["{v} = convert{i}({a} + {b} * 65536)"], 2, environment={"convert": temporal.old_time}
    )


def _call(column: Column, formats: str, convert: Callable[..., str], *arguments: int) -> Field:
    more = "".join(f", {argument}" for argument in arguments)
    return Field(column.name, formats, [f"{{v}} = convert{{i}}({{a}}{more})"], environment={"convert": convert})


def _bit(mapped: MappedColumn, column: Column) -> Field:
    size = mapped.meta2 + (1 if mapped.meta else 0)
    return Field(column.name, f"{size}s", ["{v} = from_bytes({a}, 'big')"])


def _enum(mapped: MappedColumn, column: Column) -> Field:
    # Index 0 is the empty string that an invalid value became.
    return Field(
        column.name,
        "B" if mapped.meta == 1 else "H",
        ["{v} = members{i}[{a}]"],
        environment={"members": ("", *column.members)},
    )


def _set(mapped: MappedColumn, column: Column) -> Field:
    members = column.members

    def text(mask: int) -> str:
        return ",".join(member for bit, member in enumerate(members) if mask >> bit & 1)

    environment = {"sets": temporal.Memo(text)}
    return Field(column.name, f"{mapped.meta}s", ["{v} = sets{i}[from_bytes({a}, 'little')]"], environment=environment)


def _string(mapped: MappedColumn, column: Column) -> Field:
    """CHAR, BINARY, VARCHAR, VARBINARY, MariaDB's plugin types: length in one byte, or two where it may pass 255."""
    formats = "B" if mapped.meta < 256 else "H"
    if column.data_type == "binary":
        # The binlog drops trailing zero bytes; SELECT shows them.
        return Field(
            column.name, formats, [f"{{v}} = b64(data[p:q].ljust({column.length}, b'\\0'), newline=False).decode()"],
            length="{a}",
        )  # fmt: skip
    if column.data_type in _PLUGIN_TEXTS:
        return _converted(column, formats, _PLUGIN_TEXTS[column.data_type])
    return _variable(column, formats)


def _blob(mapped: MappedColumn, column: Column) -> Field:
    if mapped.meta == 3:
        item = _variable(column, "HB", length="{a} + {b} * 65536")
        item.names = 2
        return item
    return _variable(column, {1: "B", 2: "H", 4: "I"}[mapped.meta])


def _variable(column: Column, formats: str, length: str = "{a}") -> Field:
    data_type = column.data_type
    if data_type == "json":
        return _converted(column, formats, json_text, length)
    if data_type in TEXT_TYPES:
        if column.charset in UTF8:
            body = ["{v} = text[p:q]", "if not {v}.isascii(): {v} = utf8(data[p:q])"]
            return Field(column.name, formats, body, length=length)
        if column.charset == "latin1":
            body = ["{v} = text[p:q]", "if not {v}.isascii(): {v} = {v}.translate(LATIN1)"]
            return Field(column.name, formats, body, length=length)
        return _converted(column, formats, _text(column), length)
    return Field(column.name, formats, ["{v} = b64(data[p:q], newline=False).decode()"], length=length)


def _converted(column: Column, formats: str, convert: Callable[[bytes], str], length: str = "{a}") -> Field:
    return Field(column.name, formats, ["{v} = convert{i}(data[p:q])"], length=length, environment={"convert": convert})


def _text(column: Column) -> Callable[[bytes], str]:
    decode = text_decoder(column.charset or "")
    if decode is None:
        raise PermanentError(
            f"column {column.name} has character set {column.charset}, which syncbridge cannot convert",
            hint=f"convert the column: ALTER TABLE … MODIFY {column.name} {column.column_type} CHARACTER SET utf8mb4",
        )
    return decode


def _geometry(column: Column, *, mariadb: bool) -> Callable[[bytes], str]:
    swapped = column.axes_swapped
    return lambda data: wkt(data, swap=swapped, mariadb=mariadb)


def _compressed(mapped: MappedColumn, column: Column) -> Field:
    """MariaDB's COMPRESSED columns: the bytes are unpacked first, then read as the plain type's."""
    size = mapped.meta if mapped.type == types.BLOB_COMPRESSED else (1 if mapped.meta < 256 else 2)
    convert: Callable[[bytes], str]
    if column.data_type in TEXT_TYPES:
        decode = _text(column)
        convert = lambda data: decode(uncompress_column(data))  # noqa: E731
    else:
        convert = lambda data: b2a_base64(uncompress_column(data), newline=False).decode()  # noqa: E731
    item = _converted(column, {1: "B", 2: "H", 3: "HB", 4: "I"}[size], convert)
    if size == 3:
        item.names, item.length = 2, "{a} + {b} * 65536"
    return item


def uncompress_column(data: bytes) -> bytes:
    """MariaDB: a header byte (0: stored as is; else method, wrapper flag, bytes of the length), length, zlib data."""
    if not data or data[0] == 0:
        return data[1:]
    method, raw, size = data[0] >> 4, data[0] & 0x08, data[0] & 0x07
    if method != 8:
        raise ValueError(f"column compression method {method} is unknown")
    length = int.from_bytes(data[1 : 1 + size], "big")
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS if raw else zlib.MAX_WBITS)
    return unpacker.decompress(data[1 + size :], length or 1)


_PLUGIN_TEXTS: dict[str, Callable[[bytes], str]] = {"uuid": uuid_text, "inet4": inet4_text, "inet6": inet6_text}

_BUILDERS: dict[int, Callable[[MappedColumn, Column], Field]] = {
    types.TINY: _integer("b"),
    types.SHORT: _integer("h"),
    types.INT24: _integer("Hb", names=2),
    types.LONG: _integer("i"),
    types.LONGLONG: _integer("q"),
    types.FLOAT: _real("f", float_text),
    types.DOUBLE: _real("d", double_text),
    types.NEWDECIMAL: _decimal,
    types.YEAR: _year,
    types.DATE: _date,
    types.NEWDATE: _date,
    types.TIMESTAMP: _old_timestamp,
    types.DATETIME: _old_datetime,
    types.TIME: _old_time,
    types.TIMESTAMP2: _timestamp2,
    types.DATETIME2: _datetime2,
    types.TIME2: _time2,
    types.BIT: _bit,
    types.ENUM: _enum,
    types.SET: _set,
    types.STRING: _string,
    types.VARCHAR: _string,
    types.VAR_STRING: _string,
    types.BLOB: _blob,
    types.JSON: _blob,
    types.VECTOR: _blob,
    types.BLOB_COMPRESSED: _compressed,
    types.VARCHAR_COMPRESSED: _compressed,
}
