"""QUERY events: a statement, its database and the session settings that decide how to read it. Pure."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from pymysql.charset import charset_by_id

from syncbridge.capture.binlog.charsets import text_decoder, utf8_text


@dataclass(slots=True)
class QueryEvent:
    """A statement as the server logged it."""

    db: str
    sql: str
    sql_mode: int


_POST_HEADER = struct.Struct("<IIBHH")  # thread, seconds, database length, error code, status length
_LOAD_POST_HEADER = 13  # what EXECUTE_LOAD_QUERY has in addition


def parse_query(event: bytes, end: int, *, load: bool = False, compressed: bool = False) -> QueryEvent:
    """Read a QUERY, EXECUTE_LOAD_QUERY or (MariaDB) QUERY_COMPRESSED event that ends, without checksum, at `end`."""
    _, _, db_length, _, status_length = _POST_HEADER.unpack_from(event, 19)
    at = 19 + _POST_HEADER.size + (_LOAD_POST_HEADER if load else 0)
    sql_mode, collation_id = _status(event[at : at + status_length])
    at += status_length
    db = event[at : at + db_length].decode("utf-8", "replace")
    sql = event[at + db_length + 1 : end]
    if compressed:
        sql = unpack_mariadb(sql)
    return QueryEvent(db, _decode(sql, collation_id), sql_mode)


def _decode(sql: bytes, collation_id: int | None) -> str:
    """The statement's text: it is logged in the character set of the client that sent it."""
    if sql.isascii() or collation_id is None:
        return utf8_text(sql)
    try:
        charset: str = vars(charset_by_id(collation_id))["name"]
    except KeyError:
        return utf8_text(sql)
    return (text_decoder(charset) or utf8_text)(sql)


# Status variables, in the order of their codes; sizes of the fixed ones.
_SQL_MODE, _CHARSET = 1, 4
_FIXED = {0: 4, 1: 8, 3: 4, 4: 6, 7: 2, 8: 2, 9: 8, 10: 4, 13: 3}
_COUNTED = (5, 6)  # a length byte and that many bytes


def _status(data: bytes) -> tuple[int, int | None]:
    """(sql_mode, client collation id). Stops at the first variable it does not know: what it wants comes early."""
    sql_mode, collation_id = 0, None
    at = 0
    while at < len(data):
        code = data[at]
        at += 1
        if code == _SQL_MODE:
            sql_mode = int.from_bytes(data[at : at + 8], "little")
        elif code == _CHARSET:
            return sql_mode, int.from_bytes(data[at : at + 2], "little")
        if code in _FIXED:
            at += _FIXED[code]
        elif code in _COUNTED:
            at += 1 + data[at]
        else:
            break
    return sql_mode, collation_id


#: No packet is larger, so no event is either.
_LARGEST = 1 << 30


def unpack_mariadb(data: bytes) -> bytes:
    """log_bin_compress: a byte with method (bits 4-6, 0 = zlib) and size of the length, the length, zlib data."""
    method, size = data[0] >> 4 & 7, data[0] & 7
    if method != 0:
        raise ValueError(f"event compression method {method} is unknown")
    length = int.from_bytes(data[1 : 1 + size], "big")
    if length > _LARGEST:
        raise ValueError(f"compressed event claims {length} bytes")
    unpacked = zlib.decompressobj().decompress(data[1 + size :], length or 1)
    if len(unpacked) != length:
        raise ValueError("compressed event has another length than it says")
    return unpacked
