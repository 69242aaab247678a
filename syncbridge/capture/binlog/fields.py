"""What each column type becomes in a generated decoder (decoder.py): bytes to unpack, and statements over them.

Pure: a TABLE_MAP's column and what we know of it in, a Field out.
"""

from __future__ import annotations

import zlib
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import calcsize
from typing import Any

from syncbridge.capture.binlog import table_map as types
from syncbridge.capture.binlog import temporal
from syncbridge.capture.binlog.charsets import LATIN1, UTF8, text_decoder
from syncbridge.capture.binlog.geometry import wkt
from syncbridge.capture.binlog.identifiers import inet4_text, inet6_text, uuid_text
from syncbridge.capture.binlog.jsonb import json_text
from syncbridge.capture.binlog.numbers import decimal_groups, double_text, float_text
from syncbridge.capture.binlog.table_map import MappedColumn
from syncbridge.capture.schema import TEXT_TYPES, Column
from syncbridge.errors import PermanentError


@dataclass(slots=True)
class Field:
    """How one column is read.

    `formats`: struct codes of the fixed part, least byte first; or `big`, the same for what has its greatest byte
    first. `body`: statements, as format strings, that set `{v}` from the unpacked names `{a}`, `{b}`…; `{i}` is the
    column's index, for names out of its environment. For a variable column `length` is an expression over the
    unpacked names, and the body sees the slice bounds `p` and `q` of `data` and `text`, which is the event decoded as
    latin-1. Without a body the unpacked `{a}` is the value. A `hidden` column is read over: the row does not have it.
    """

    name: str
    formats: str = ""
    body: list[str] = field(default_factory=list)
    big: str = ""
    length: str = ""
    nullable: bool = True
    hidden: bool = False
    environment: dict[str, Any] = field(default_factory=dict)

    @property
    def names(self) -> int:
        """How many values are unpacked."""
        return sum(code.isalpha() for code in self.formats + self.big)

    @property
    def size(self) -> int:
        """Bytes of the fixed part."""
        return calcsize(f"<{self.formats or self.big}")


#: Names that every body may use.
ENVIRONMENT: dict[str, Any] = {
    "from_bytes": int.from_bytes, "LATIN1": LATIN1, "b64": b2a_base64, "DATES": temporal.DATES,
    "D2": temporal.DATETIME2_DATES, "T2": temporal.DATETIME2_TIMES, "TIMES": temporal.TIMES, "DAYS": temporal.DAYS,
    "SECONDS": temporal.SECONDS, "YEARS": temporal.YEARS,
    # Texts of numbers with one, two or three digits: looking one up costs a third of what formatting does.
    **{f"N{digits}": tuple(f"{number:0{digits}d}" for number in range(10**digits)) for digits in (1, 2, 3)},
}  # fmt: skip
#: What bodies call unpacked values.
LETTERS = "abcdefghjklmnopqrstu"


def field_of(mapped: MappedColumn, column: Column, *, mariadb: bool) -> Field:
    """How to read a column. Raises PermanentError where we cannot."""
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


def _integer(signed: str) -> Callable[[MappedColumn, Column], Field]:
    def build(_mapped: MappedColumn, column: Column) -> Field:
        # B and H before the last code stay unsigned: only a number's highest part carries its sign.
        last = signed[-1].upper() if column.unsigned else signed[-1]
        value = "{a}" if len(signed) == 1 else "({a} + {b} * 65536)"
        body = [] if value == "{a}" else [f"{{v}} = {value}"]
        if column.zerofill:
            body = [f"{{v}} = f'{{{{{value}:0{column.length or 1}d}}}}'"]
        return Field(column.name, signed[:-1] + last, body)

    return build


def _float(_mapped: MappedColumn, column: Column) -> Field:
    return _real(column, "f", ["{v} = real{i}({a})"], float_text)


def _double(_mapped: MappedColumn, column: Column) -> Field:
    # repr() and the server agree on most numbers: what double_text() does first, without the call.
    body = [
        "{v} = f'{{{a}!r}}'",
        "if not (1e-4 <= {a} < 1e15 or -1e15 < {a} <= -1e-4): {v} = real{i}({a})",
        "elif {v}.endswith('.0'): {v} = {v}[:-2]",
    ]
    return _real(column, "d", body, double_text)


def _real(column: Column, code: str, body: list[str], text: Callable[[float], str]) -> Field:
    if column.decimals is not None:
        body = [f"{{v}} = f'{{{{{{a}}:.{column.decimals}f}}}}'"]
    if column.zerofill:
        body.append(f"{{v}} = {{v}}.zfill({column.precision or (12 if code == 'f' else 22)})")
    return Field(column.name, code, body, environment={"real": text})


def _digits(value: str, count: int) -> str:
    """A piece of an f-string in a body: exactly `count` digits, at most nine, of a number."""
    if count <= 3:
        return f"{{{{N{count}[{value}]}}}}"
    if count <= 6:
        return f"{{{{N{count - 3}[{value} // 1000]}}}}{{{{N3[{value} % 1000]}}}}"
    return f"{{{{N{count - 6}[{value} // 1000000]}}}}{{{{N3[{value} // 1000 % 1000]}}}}{{{{N3[{value} % 1000]}}}}"


#: Codes for a number of so many bytes, its greatest part first.
_PARTS = ("", "B", "H", "BH", "I")


def _decimal(mapped: MappedColumn, column: Column) -> Field:
    """Groups of up to nine digits each; the highest bit says >= 0, and a negative number has every bit inverted."""
    whole, fraction = decimal_groups(mapped.meta, mapped.meta2)
    big = ""
    positive, negative, joined, names = [], [], [], []
    for size, _ in (*whole, *fraction):
        letters = LETTERS[len(big) : len(big) + len(_PARTS[size])]
        for code, letter in zip(_PARTS[size], letters, strict=True):
            bits = 8 * calcsize(code)
            sign = 1 << (bits - 1) if letter == "a" else 0
            if sign:
                positive.append(f" {{a}} -= {sign}")
            negative.append(f" {{{letter}}} = {(sign or 1 << bits) - 1} - {{{letter}}}")
        if len(letters) == 2:
            joined.append(f" {{{letters[0]}}} = {{{letters[0]}}} << 16 | {{{letters[1]}}}")
        names.append(f"{{{letters[0]}}}")
        big += _PARTS[size]
    number = "0"
    for name in names[: len(whole)]:
        number = name if number == "0" else f"({number} * 1000000000 + {name})"
    text = f"{{{{{number}}}}}"
    if fraction:
        pairs = zip(names[len(whole) :], fraction, strict=True)
        text += "." + "".join(_digits(name, count) for name, (_, count) in pairs)
    sign_bit = 1 << (8 * calcsize(big[0]) - 1)
    body = [f"if {{a}} >= {sign_bit}:", *positive, *joined, f" {{v}} = f'{text}'"]
    body += ["else:", *negative, *joined, f" {{v}} = f'-{text}'"]
    if column.zerofill:  # SELECT pads with zeros to the width of precision digits plus the point
        body.append(f"{{v}} = {{v}}.zfill({mapped.meta + (1 if mapped.meta2 else 0)})")
    return Field(column.name, big=big, body=body)


def _year(_mapped: MappedColumn, column: Column) -> Field:
    return Field(column.name, "B", ["{v} = YEARS[{a}]"])


def _date(_mapped: MappedColumn, column: Column) -> Field:
    return Field(column.name, "HB", ["{v} = DATES[{a} + {b} * 65536]"])


def _fraction(fsp: int, stored: str) -> tuple[list[str], str]:
    """(statements, piece of an f-string) for `fsp` digits that are stored with an even number of them."""
    if not fsp:
        return [], ""
    return [f"t = {stored}" if fsp % 2 == 0 else f"t = ({stored}) // 10"], "." + _digits("t", fsp)


def _datetime2(mapped: MappedColumn, column: Column) -> Field:
    """Sign, year and month, day in 23 bits, hour, minute, second in 17, then the fraction."""
    width = (mapped.meta + 1) // 2
    second, stored = (("{b}", ""), ("{b} >> 8", "{b} & 255"), ("{b}", "{c}"), ("{b} >> 24", "{b} & 16777215"))[width]
    statements, fraction = _fraction(mapped.meta, stored)
    text = f"{{{{D2[{{a}} >> 9]}}}}{{{{T2[({{a}} & 511) << 8 | {second}]}}}}{fraction}"
    return Field(column.name, big=("IB", "IH", "IBH", "II")[width], body=[*statements, f"{{v}} = f'{text}'"])


def _timestamp2(mapped: MappedColumn, column: Column) -> Field:
    width = (mapped.meta + 1) // 2
    statements, fraction = _fraction(mapped.meta, ("", "{b}", "{b}", "{b} << 16 | {c}")[width])
    text = f"{{{{DAYS[{{a}} // 86400]}}}}{{{{SECONDS[{{a}} % 86400]}}}}{fraction}"
    zero = temporal.ZERO_DATETIME + ("." + "0" * mapped.meta if mapped.meta else "")
    there = "{a} or t" if mapped.meta else "{a}"
    body = [*statements, f"{{v}} = f'{text}' if {there} else {zero!r}"]
    return Field(column.name, big=("I", "IB", "IH", "IBH")[width], body=body)


def _time2(mapped: MappedColumn, column: Column) -> Field:
    width = (mapped.meta + 1) // 2
    bits = 8 * width
    statements, fraction = _fraction(mapped.meta, f"u & {(1 << bits) - 1}")
    body = [
        f"u = from_bytes({{a}}, 'big') - {0x800000 << bits}",
        "sign = ''",
        "if u < 0: u, sign = -u, '-'",
        *statements,
        f"{{v}} = f'{{{{sign}}}}{{{{TIMES[u >> {bits}]}}}}{fraction}'",
    ]
    return Field(column.name, f"{3 + width}s", body)


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
    body = ["{v} = convert{i}({a} + {b} * 65536)"]
    return Field(column.name, "Hb", body, environment={"convert": temporal.old_time})


def _call(column: Column, formats: str, convert: Callable[..., str], *arguments: int) -> Field:
    more = "".join(f", {argument}" for argument in arguments)
    return Field(column.name, formats, [f"{{v}} = convert{{i}}({{a}}{more})"], environment={"convert": convert})


def _bit(mapped: MappedColumn, column: Column) -> Field:
    size = mapped.meta2 + (1 if mapped.meta else 0)
    if size in _CODES:
        return Field(column.name, big=_CODES[size])
    return Field(column.name, f"{size}s", ["{v} = from_bytes({a}, 'big')"])


_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}


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
    if mapped.meta in _CODES:
        return Field(column.name, _CODES[mapped.meta], ["{v} = sets{i}[{a}]"], environment=environment)
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
        return _variable(column, "HB", length="{a} + {b} * 65536")
    return _variable(column, {1: "B", 2: "H", 4: "I"}[mapped.meta])


def _variable(column: Column, formats: str, length: str = "{a}") -> Field:
    data_type = column.data_type
    if data_type == "json":
        return _converted(column, formats, json_text, length)
    if data_type in TEXT_TYPES:
        if column.charset in UTF8:
            body = ["{v} = text[p:q]", "if not {v}.isascii(): {v} = data[p:q].decode('utf-8', 'replace')"]
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
        item.length = "{a} + {b} * 65536"
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
    types.INT24: _integer("Hb"),
    types.LONG: _integer("i"),
    types.LONGLONG: _integer("q"),
    types.FLOAT: _float,
    types.DOUBLE: _double,
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
