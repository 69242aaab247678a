"""The binlog's events, one after the other: bytes in, items (events.py) out. No IO, no clock.

Keeps 64-bit positions, verifies checksums, decodes rows of the tables that `schema_for` knows, and fails closed:
what it cannot decode for a known table, or cannot recognise at all, is a PermanentError and never skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32
from zlib import error as zlib_error

import zstandard

from syncbridge.capture.binlog.decoder import Decoder
from syncbridge.capture.binlog.events import (
    Begin,
    FormatDescription,
    Gtid,
    Heartbeat,
    Ignored,
    Item,
    Rotate,
    Rows,
    Statement,
    TransactionEnd,
)
from syncbridge.capture.binlog.gtid_event import mysql_gtid, tagged_gtid
from syncbridge.capture.binlog.query_event import QueryEvent, parse_query, unpack_mariadb
from syncbridge.capture.binlog.table_map import check_schema, parse_table_map, table_name
from syncbridge.capture.schema import TableSchema
from syncbridge.errors import PermanentError, SyncbridgeError, TransientError

# Event types, by the servers' own names.
QUERY, STOP, ROTATE, INTVAR, RAND, USER_VAR, FORMAT_DESCRIPTION, XID = 2, 3, 4, 5, 13, 14, 15, 16
BEGIN_LOAD_QUERY, EXECUTE_LOAD_QUERY, TABLE_MAP = 17, 18, 19
INCIDENT, HEARTBEAT, IGNORABLE, ROWS_QUERY = 26, 27, 28, 29
GTID, ANONYMOUS_GTID, PREVIOUS_GTIDS, TRANSACTION_CONTEXT, VIEW_CHANGE, XA_PREPARE = 33, 34, 35, 36, 37, 38
PARTIAL_UPDATE_ROWS, TRANSACTION_PAYLOAD, HEARTBEAT_V2, GTID_TAGGED = 39, 40, 41, 42
ANNOTATE_ROWS, BINLOG_CHECKPOINT, MARIADB_GTID, GTID_LIST, START_ENCRYPTION, QUERY_COMPRESSED = range(160, 166)

#: type -> (op, header version 1 or 2, compressed)
ROWS = {
    23: ("c", 1, False), 24: ("u", 1, False), 25: ("d", 1, False),
    30: ("c", 2, False), 31: ("u", 2, False), 32: ("d", 2, False),
    166: ("c", 1, True), 167: ("u", 1, True), 168: ("d", 1, True),
    169: ("c", 2, True), 170: ("u", 2, True), 171: ("d", 2, True),
}  # fmt: skip
#: Those that say how to read the others, or that are not part of the file.
_SPECIAL = frozenset((ROTATE, FORMAT_DESCRIPTION, HEARTBEAT, HEARTBEAT_V2))
_IGNORED = (
    STOP, INTVAR, RAND, USER_VAR, BEGIN_LOAD_QUERY, IGNORABLE, ROWS_QUERY, PREVIOUS_GTIDS, TRANSACTION_CONTEXT,
    VIEW_CHANGE, ANNOTATE_ROWS, BINLOG_CHECKPOINT, GTID_LIST, START_ENCRYPTION,
)  # fmt: skip

#: timestamp, type, server_id, event size, end position, flags
_HEADER = struct.Struct("<IBIIIH")
_TABLE_ID = struct.Struct("<IH")
_MARIADB_GTID = struct.Struct("<QIB")
HEADER_SIZE = 19
_ARTIFICIAL, _IGNORABLE = 0x20, 0x80
_CRC32 = 1
#: CRC32 of any bytes followed by their own CRC32.
_CRC_RESIDUE = 0x2144DF1C
_DAMAGED = (
    struct.error,
    IndexError,
    KeyError,
    ValueError,
    OverflowError,
    RecursionError,
    zlib_error,
    zstandard.ZstdError,
)

# MariaDB GTID flags
_STANDALONE, _PREPARED_XA = 0x01, 0x40


class BinlogReader:
    """Turns one dump's events into items. Make a new one for every dump.

    `schema_for(db, table)` returns the TableSchema of a mapped table and None for any other; it is asked at every
    TABLE_MAP, so it may answer differently after a DDL. With `skip_to` (file, pos), events of that file that end at or
    before pos are passed over.
    """

    def __init__(
        self,
        schema_for: Callable[[str, str], TableSchema | None],
        *,
        skip_to: tuple[str, int] | None = None,
    ) -> None:
        self.file = ""
        self.pos = 4
        self._schema_for = schema_for
        self._skip_to = skip_to
        self._checksum = False
        self._mariadb = False
        self._in_transaction = False
        self._xa = False
        self._mapped_rows = False  # the open transaction changed mapped tables
        #: TABLE_MAP bodies met before: they repeat with every statement.
        self._maps: dict[bytes, tuple[int, str, str, Decoder | None]] = {}
        self._tables: dict[int, Decoder | None] = {}
        self._handlers: list[Callable[[bytes, int, int, int], Iterable[Item]]] = [self._unknown] * 256
        self._register()

    def _register(self) -> None:
        handlers = self._handlers
        for type_ in _IGNORED:
            handlers[type_] = self._ignored
        for type_ in ROWS:
            handlers[type_] = self._rows
        handlers[QUERY] = handlers[QUERY_COMPRESSED] = handlers[EXECUTE_LOAD_QUERY] = self._query
        handlers[FORMAT_DESCRIPTION] = self._format_description
        handlers[ROTATE] = self._rotate
        handlers[XID] = self._xid
        handlers[TABLE_MAP] = self._table_map
        handlers[INCIDENT] = self._incident
        handlers[HEARTBEAT] = handlers[HEARTBEAT_V2] = self._heartbeat
        handlers[GTID] = handlers[ANONYMOUS_GTID] = handlers[GTID_TAGGED] = self._gtid
        handlers[MARIADB_GTID] = self._mariadb_gtid
        handlers[XA_PREPARE] = self._xa_prepare
        handlers[PARTIAL_UPDATE_ROWS] = self._partial_update
        handlers[TRANSACTION_PAYLOAD] = self._transaction_payload

    def feed(self, event: bytes) -> Iterable[Item]:
        """The items of one complete event (header to checksum). Usually one; a compressed payload holds many.

        Use them up before feeding the next event: a payload is unpacked while its items are taken.
        Raises PermanentError (with reason and mend) or SchemaMismatch; the reader is of no use afterwards.
        """
        type_: int
        ts, type_, _, size, log_pos, flags = _HEADER.unpack_from(event)
        if size != len(event):
            raise PermanentError(f"event at {self.file}:{self.pos} says it has {size} bytes and has {len(event)}")
        if type_ in _SPECIAL:
            if type_ == FORMAT_DESCRIPTION:
                self._checksum = event[-5] == _CRC32
            elif type_ != ROTATE:
                log_pos = 0  # a heartbeat has no place in the file
            elif flags & _ARTIFICIAL:
                # Sent before the first format description: only the bytes tell whether it has a checksum.
                self._checksum = size > HEADER_SIZE + 12 and crc32(event) == _CRC_RESIDUE
        end = size
        if self._checksum:
            end -= 4
            if crc32(event) != _CRC_RESIDUE:
                # The binlog file or the network may be at fault: reading it again tells.
                raise TransientError(
                    f"event at {self.file}:{self.pos} has a wrong checksum",
                    hint="if it stays: the binlog file is damaged; check the source's disk, then re-snapshot",
                )
        if log_pos and not flags & _ARTIFICIAL:
            before = self.pos
            self.pos = before & ~0xFFFFFFFF | log_pos
            if self.pos < before:
                self.pos += 1 << 32
            if self._skip_to is not None and self._skips(type_):
                return ()
        try:
            return self._handlers[type_](event, type_, ts, end)
        except _DAMAGED as error:
            raise self._damage(type_, error) from error

    def _skips(self, type_: int) -> bool:
        assert self._skip_to is not None
        file, pos = self._skip_to
        if self.file != file or self.pos > pos:
            self._skip_to = None
            return False
        return type_ not in (FORMAT_DESCRIPTION, ROTATE)

    # Positions and files

    def _format_description(self, event: bytes, _type: int, ts: int, _end: int) -> Iterable[Item]:
        version, created = event[21:71].rstrip(b"\0").decode(), int.from_bytes(event[71:75], "little")
        lengths = event[76:]
        if lengths[TABLE_MAP - 1] != 8 or not (lengths[23 - 1] == 8 or lengths[30 - 1] == 10):
            raise PermanentError(f"binlog {self.file} was written by {version}, whose events syncbridge cannot read")
        self._mariadb = "mariadb" in version.lower()
        if created:
            self._tables.clear()
        return (FormatDescription(created, version, self._checksum, ts),)

    def _rotate(self, event: bytes, _type: int, _ts: int, end: int) -> Iterable[Item]:
        pos = int.from_bytes(event[19:27], "little")
        self.file = event[27:end].decode()
        self.pos = pos
        return (Rotate(self.file, pos),)

    def _heartbeat(self, event: bytes, type_: int, _ts: int, end: int) -> Iterable[Item]:
        # Where the server stands: past our last event when it skips transactions that we have.
        if type_ == HEARTBEAT_V2:
            return (Heartbeat(self.file, self.pos),)
        file, log_pos = event[HEADER_SIZE:end].decode(), int.from_bytes(event[13:17], "little")
        pos = (self.pos & ~0xFFFFFFFF) | log_pos if file == self.file else log_pos
        return (Heartbeat(file, pos),)

    def _ignored(self, _event: bytes, type_: int, _ts: int, _end: int) -> Iterable[Item]:
        return (Ignored(type_, self.pos),)

    # Transactions

    def _gtid(self, event: bytes, type_: int, ts: int, end: int) -> Iterable[Item]:
        gtid, commit_ts_us = tagged_gtid(event[HEADER_SIZE:end]) if type_ == GTID_TAGGED else mysql_gtid(event, end)
        self._start(in_transaction=False)
        start = self.pos - len(event)
        return (Gtid(None if type_ == ANONYMOUS_GTID else gtid, self.file, start, ts, False, commit_ts_us),)

    def _mariadb_gtid(self, event: bytes, _type: int, ts: int, _end: int) -> Iterable[Item]:
        sequence, domain, flags = _MARIADB_GTID.unpack_from(event, HEADER_SIZE)
        server_id = int.from_bytes(event[5:9], "little")
        standalone = bool(flags & _STANDALONE)
        self._start(in_transaction=not standalone)
        self._xa = bool(flags & _PREPARED_XA)
        gtid = f"{domain}-{server_id}-{sequence}"
        return (Gtid(gtid, self.file, self.pos - len(event), ts, standalone, None),)

    def _start(self, *, in_transaction: bool) -> None:
        self._in_transaction = in_transaction
        self._xa = False
        self._mapped_rows = False

    def _xid(self, event: bytes, _type: int, ts: int, _end: int) -> Iterable[Item]:
        self._in_transaction = False
        return (TransactionEnd(self.file, self.pos, ts, int.from_bytes(event[19:27], "little")),)

    def _xa_prepare(self, event: bytes, _type: int, ts: int, _end: int) -> Iterable[Item]:
        # Mapped rows of a prepared transaction were refused when they came: what ends here is of no concern.
        self._start(in_transaction=False)
        return (TransactionEnd(self.file, self.pos, ts, None),)

    def _query(self, event: bytes, type_: int, ts: int, end: int) -> Iterable[Item]:
        query = parse_query(event, end, load=type_ == EXECUTE_LOAD_QUERY, compressed=type_ == QUERY_COMPRESSED)
        word = query.sql[:5].upper()
        if word == "BEGIN":
            self._start(in_transaction=True)
            return (Begin(self.pos),)
        if word == "COMMI":
            self._in_transaction = False
            return (TransactionEnd(self.file, self.pos, ts, None),)
        if word == "ROLLB":
            return self._rollback(query, ts)
        if word == "SAVEP" or word == "RELEA":
            return (Ignored(type_, self.pos),)
        if word[:3] == "XA ":
            return self._xa_statement(query, ts)
        return (self._statement(query, ts),)

    def _statement(self, query: QueryEvent, ts: int) -> Statement:
        return Statement(query.db, query.sql, query.sql_mode, self.file, self.pos, ts, self._in_transaction)

    def _rollback(self, query: QueryEvent, ts: int) -> Iterable[Item]:
        # The server logs a rollback only where a non-transactional table took part: some of the rows stay, some go.
        if self._mapped_rows:
            raise self._refusal(
                "rolls back a transaction that also changed a non-transactional table, after rows of a mapped table",
                "make all mapped tables InnoDB (ALTER TABLE … ENGINE=InnoDB), then: syncbridge snapshot",
            )
        if " TO" in query.sql.upper():
            return (Ignored(QUERY, self.pos),)
        self._in_transaction = False
        return (TransactionEnd(self.file, self.pos, ts, None),)

    def _xa_statement(self, query: QueryEvent, ts: int) -> Iterable[Item]:
        words = query.sql.upper().split(None, 2)
        if words[1] in ("START", "BEGIN"):
            self._start(in_transaction=True)
            self._xa = True
            return (Begin(self.pos),)
        if words[1] == "END":
            return (Ignored(QUERY, self.pos),)
        self._in_transaction = False
        return (TransactionEnd(self.file, self.pos, ts, None),)

    # Rows

    def _table_map(self, event: bytes, _type: int, _ts: int, end: int) -> Iterable[Item]:
        body = event[HEADER_SIZE:end]
        known = self._maps.get(body)
        if known is None:
            known = int.from_bytes(body[:6], "little"), *table_name(body[8:]), None
        table_id, db, table, decoder = known
        schema = self._schema_for(db, table)
        if schema is None:
            decoder = None
        elif decoder is None or decoder.schema is not schema:
            parsed = parse_table_map(body[8:])
            check_schema(parsed, schema)
            decoder = Decoder(parsed, schema, mariadb=self._mariadb)
        if decoder is not known[3] or body not in self._maps:
            if len(self._maps) >= _CACHED_TABLE_MAPS:
                self._maps.clear()
            self._maps[body] = table_id, db, table, decoder
        self._tables[table_id] = decoder
        return ()

    def _rows(self, event: bytes, type_: int, ts: int, end: int) -> Iterable[Item]:
        low, high = _TABLE_ID.unpack_from(event, HEADER_SIZE)
        table_id = low | high << 32
        decoder = self._tables.get(table_id)
        if decoder is None:
            if table_id in self._tables or table_id == _DUMMY_TABLE_ID:
                return (Ignored(type_, self.pos),)
            raise self._refusal("has rows of a table that the binlog did not describe", _RESNAPSHOT)
        if self._xa:
            raise self._xa_refusal(decoder.schema)
        self._mapped_rows = True
        op, version, compressed = ROWS[type_]
        at = 27 if version == 1 else 27 + int.from_bytes(event[27:29], "little")
        width, at = _lenenc(event, at)
        images = 2 if op == "u" else 1
        size = (width + 7) // 8
        present = event[at : at + size * images]
        if width != decoder.width or (present != decoder.full_images[images] and not decoder.is_full(present)):
            raise self._image_refusal(decoder.schema)
        at += size * images
        if compressed:
            event = unpack_mariadb(event[at:end])
            at, end = 0, len(event)
        rows = (decoder.pairs if op == "u" else decoder.images)(event, event.decode("latin-1"), at, end)
        return (Rows(decoder.schema, decoder.columns, op, rows, ts, self.pos),)

    def _partial_update(self, event: bytes, type_: int, _ts: int, _end: int) -> Iterable[Item]:
        decoder = self._tables.get(int.from_bytes(event[19:25], "little"))
        if decoder is None:
            return (Ignored(type_, self.pos),)
        schema = decoder.schema
        raise self._refusal(
            f"holds partial JSON updates of {schema.db}.{schema.table}",
            f"SET GLOBAL binlog_row_value_options=''; then: syncbridge snapshot --table {schema.db}.{schema.table}",
        )

    # Compressed transactions (MySQL)

    def _transaction_payload(self, event: bytes, _type: int, _ts: int, end: int) -> Iterable[Item]:
        at, method, start, size = HEADER_SIZE, 0, 0, 0
        while True:
            kind, at = _lenenc(event, at)
            if kind == _PAYLOAD_END:
                start = at
                break
            length, at = _lenenc(event, at)
            if kind == _PAYLOAD_SIZE:
                size, _ = _lenenc(event, at)
            elif kind == _PAYLOAD_METHOD:
                method, _ = _lenenc(event, at)
            at += length
        packed = event[start : start + size if size else end]
        if method not in (_ZSTD, _UNCOMPRESSED):
            raise self._refusal(
                f"is compressed with unknown method {method}", "SET GLOBAL binlog_transaction_compression=OFF"
            )
        return self._inner(packed, zstd=method == _ZSTD)

    def _inner(self, packed: bytes, *, zstd: bool) -> Iterator[Item]:
        """The items of a payload's events, unpacked as they are read: memory holds one event at a time."""
        source = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True) if zstd else _Plain(packed)
        checksum, self._checksum = self._checksum, False
        try:
            while header := source.read(HEADER_SIZE):
                ts, type_, _, size, _, _ = _HEADER.unpack_from(header)
                event = header + source.read(size - HEADER_SIZE)
                if len(event) != size or type_ == TRANSACTION_PAYLOAD:
                    raise ValueError("compressed payload is cut short")
                yield from self._handlers[type_](event, type_, ts, size)
        except _DAMAGED as error:
            raise self._damage(TRANSACTION_PAYLOAD, error) from error
        finally:
            self._checksum = checksum

    # What stops capture

    def _unknown(self, event: bytes, type_: int, _ts: int, _end: int) -> Iterable[Item]:
        if int.from_bytes(event[17:19], "little") & _IGNORABLE:
            return (Ignored(type_, self.pos),)
        raise self._refusal(
            f"has type {type_}, which syncbridge does not know", "upgrade syncbridge, or re-snapshot past it"
        )

    def _incident(self, event: bytes, _type: int, _ts: int, end: int) -> Iterable[Item]:
        text = event[22:end].decode("utf-8", "replace")
        raise self._refusal(
            f"is an incident: the source may have lost events ({text})", "re-snapshot: syncbridge snapshot"
        )

    def _refusal(self, reason: str, mend: str) -> PermanentError:
        return PermanentError(f"binlog event ending at {self.file}:{self.pos} {reason}", hint=mend)

    def _xa_refusal(self, schema: TableSchema) -> PermanentError:
        return self._refusal(
            f"changes {schema.db}.{schema.table} in an XA transaction, which may yet be rolled back",
            f"commit it, keep XA away from the table, then: syncbridge snapshot --table {schema.db}.{schema.table}",
        )

    def _image_refusal(self, schema: TableSchema) -> PermanentError:
        return self._refusal(
            f"lacks columns of {schema.db}.{schema.table}: binlog_row_image is not FULL",
            "SET GLOBAL binlog_row_image=FULL (sessions keep the old value until they reconnect);"
            f" then: syncbridge snapshot --table {schema.db}.{schema.table}",
        )

    def _damage(self, type_: int, error: Exception) -> SyncbridgeError:
        if isinstance(error, SyncbridgeError):
            return error
        return PermanentError(
            f"binlog event of type {type_} ending at {self.file}:{self.pos} cannot be decoded: {error!r}",
            hint="re-snapshot the tables it changes; please report it with the table's SHOW CREATE TABLE",
        )


_RESNAPSHOT = "re-snapshot: syncbridge snapshot"
_CACHED_TABLE_MAPS = 10_000
#: A rows event without a table, which only says that a statement ended.
_DUMMY_TABLE_ID = 0xFFFFFF
_PAYLOAD_END, _PAYLOAD_SIZE, _PAYLOAD_METHOD = 0, 1, 2
_ZSTD, _UNCOMPRESSED = 0, 255


class _Plain:
    """An uncompressed payload with a reader's face."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def read(self, size: int) -> bytes:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return piece


def _lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the offset after it."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width
