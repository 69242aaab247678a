"""Rows of a SELECT straight from the packets of the text protocol, by a parser generated once per list of columns.

PyMySQL sends the statement and reads the columns' descriptions. The rows behind them are read here as they come, so
that nothing of the result lies in memory besides the rows themselves: each a tuple of event values in the order of the
columns, or, by the native package, their JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from pymysql.err import OperationalError, raise_mysql_exception

from syncbridge.capture.changes import JsonRows, ReadRows
from syncbridge.capture.lanes import hash_start
from syncbridge.capture.schema import Column, TableSchema
from syncbridge.capture.snapshot.select import conversion, conversion_names, kind_of
from syncbridge.native import Functions

#: A row's values, in the order of the columns asked for.
Values: TypeAlias = tuple[Any, ...]
#: parse(buffer, where the first packet starts, rows it adds to): where the first packet starts that it left alone.
Parse: TypeAlias = Callable[[bytes, int, Any], int]

#: Bytes asked of the connection at once.
READ_SIZE = 256 * 1024
_HEADER = 4  # a packet's length in three bytes, its sequence number
_FULL = 0xFFFFFF  # the length of a packet that goes on in the next one
_EOF, _ERR = 0xFE, 0xFF  # first bytes of packets that are no rows
_NULL = 0xFB  # in place of a value's length; above it stands how many bytes the length has
_LOST = (2013, "Lost connection to MySQL server during query")


def row_parser(columns: Sequence[Column]) -> Parse:
    """The parser of rows `SELECT` has these columns in. It stops before whatever is not a whole row in one packet."""
    environment: dict[str, Any] = {**conversion_names(), "length": _length}
    source = "\n".join(_source(columns))
    exec(compile(source, "<parser of rows>", "exec"), environment)  # noqa: S102 - our own text, numbers only
    return environment["parse"]  # type: ignore[no-any-return]


def _source(columns: Sequence[Column]) -> list[str]:
    """One way through a row without a call per column; a row that is not there to its end is noticed at its end."""
    lines = ["def parse(b, p, rows):", " append, end = rows.append, len(b)", " try:", "  while True:"]
    # A row put together from several packets comes with an empty header, and may begin as the end of the rows does.
    lines += [f"   q = p + {_HEADER}", "   s = b[q]", f"   if s >= {_EOF} and (s == {_ERR} or b[p]):", "    break"]
    for index, column in enumerate(columns):
        lines += [
            *(["   s = b[q]"] if index else []),
            "   q += 1",
            f"   if s == {_NULL}:",
            f"    v{index} = None",
            "   else:",
            f"    if s > {_NULL}:",
            f"     if b[p] & b[p + 1] & b[p + 2] == {_FULL >> 16}:",
            "      break",
            "     s, q = length(b, q, s)",
            "    e = q + s",
            f"    v{index} = {conversion(column, 'b[q:e]')}",
            "    q = e",
        ]
    row = "".join(f"v{index}, " for index in range(len(columns)))
    lines += ["   if q > end:", "    break", f"   append(({row}))", "   p = q"]
    # Half a row may break off anywhere, before a number or inside a character. A whole one has no such excuse.
    lines += [" except (IndexError, ValueError):", f"  if p + {_HEADER} + int.from_bytes(b[p:p + 3], 'little') <= end:"]
    return [*lines, "   raise", " return p"]


def _length(buffer: bytes, at: int, first: int) -> tuple[int, int]:
    """(a value's length, where it begins) where the length has two, three or eight bytes behind its first one."""
    end = at + (2 if first == 0xFC else 3 if first == 0xFD else 8)
    return int.from_bytes(buffer[at:end], "little"), end


def json_parser(functions: Functions, schema: TableSchema, key: Sequence[str]) -> Parse:
    """A parser whose rows are JsonRows, as fast as C reads them (0.2 µs for a row of sysbench's where the JSON of
    values made by a row_parser takes 1.5)."""
    names = [column.name for column in schema.columns]
    kinds = "".join(map(kind_of, schema.columns)).encode()
    places = b"".join(names.index(name).to_bytes(2, "little") for name in key)
    start = hash_start(schema.db, schema.table)

    def parse(buffer: bytes, at: int, rows: JsonRows) -> int:
        return functions.rows(buffer, at, kinds, places, start, rows.rows, rows.hashes)

    return parse


def select_rows(connection: Any, sql: str, parse: Parse, max_bytes: float) -> tuple[list[Values], int, bool]:
    """(rows, the bytes they came in, whether these are all), see read_rows."""
    rows: list[Values] = []
    return rows, *read_rows(connection, sql, parse, max_bytes, rows)


def read_rows(connection: Any, sql: str, parse: Parse, max_bytes: float, rows: ReadRows) -> tuple[int, bool]:
    """Add rows; (the bytes they came in, whether these are all). No more come once there are more than `max_bytes`.

    `connection` is a raw one (`connect(settings, raw=True)`). Where rows are left it is closed, for they would have to
    be read to keep it. Raises what PyMySQL raises.
    """
    connection.query(sql, unbuffered=True)
    result = connection._result
    result.unbuffered_active = False  # what follows is ours
    result.connection = None
    try:
        size, whole = _read(connection._rfile, parse, max_bytes, rows)
    except BaseException:
        connection._force_close()
        raise
    if not whole:
        connection._force_close()
    return size, whole


def _read(stream: Any, parse: Parse, max_bytes: float, rows: ReadRows) -> tuple[int, bool]:
    rest, size, missing = b"", 0, 0
    while size <= max_bytes or not rows:
        received = _exactly(stream, missing) if missing > READ_SIZE else stream.read1(READ_SIZE)
        if not received:
            raise OperationalError(*_LOST)
        size += len(received)
        buffer = rest + received if rest else received
        at = parse(buffer, 0, rows)
        missing = 0
        if len(buffer) - at > _HEADER:
            length = int.from_bytes(buffer[at : at + 3], "little")
            if length == _FULL:
                payload, buffer = _long_row(buffer[at:], stream)
                size += len(payload)
                parse(bytes(_HEADER) + payload, 0, rows)
                at = 0
            elif buffer[at + _HEADER] >= _EOF:
                _expect_end(buffer[at:], stream)
                return size, True
            else:
                missing = at + _HEADER + length - len(buffer)
        rest = buffer[at:]
    return size, False


def _expect_end(buffer: bytes, stream: Any) -> None:
    """The packet behind the last row: the end, or why there is none. Raises what PyMySQL raises."""
    need = _HEADER + int.from_bytes(buffer[:3], "little")
    payload = (buffer + _exactly(stream, need - len(buffer)))[_HEADER:need]
    if payload[0] == _ERR:
        raise_mysql_exception(payload)


def _long_row(buffer: bytes, stream: Any) -> tuple[bytes, bytes]:
    """(a row that does not fit into one packet, the bytes behind it)."""
    parts: list[bytes] = []
    while True:
        buffer += _exactly(stream, _HEADER - len(buffer))
        size = int.from_bytes(buffer[:3], "little")
        end = _HEADER + size
        buffer += _exactly(stream, end - len(buffer))
        parts.append(buffer[_HEADER:end])
        buffer = buffer[end:]
        if size < _FULL:
            return b"".join(parts), buffer


def _exactly(stream: Any, size: int) -> bytes:
    if size <= 0:
        return b""
    found: bytes = stream.read(size)
    if len(found) < size:
        raise OperationalError(*_LOST)
    return found
