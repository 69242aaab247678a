"""The binlog's events, one after the other: bytes in, items (events.py) out. No IO, no clock.

Keeps 64-bit positions, verifies checksums, decodes rows of the tables that `schema_for` knows, and fails closed:
what it cannot decode for a known table, or cannot recognise at all, is a PermanentError and never skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any
from zlib import crc32
from zlib import error as zlib_error

import zstandard

from syncbridge import native
from syncbridge.capture.binlog.decoder import Decoder
from syncbridge.capture.binlog.events import (
    FormatDescription,
    Gtid,
    Heartbeat,
    Item,
    Rotate,
    Rows,
    Single,
    Statement,
    TransactionEnd,
)
from syncbridge.capture.binlog.gtid_event import COMMIT_TIME, mysql_gtid, tagged_gtid, uuid_text
from syncbridge.capture.binlog.query_event import QueryEvent, parse_query, unpack_mariadb
from syncbridge.capture.binlog.stream import MAX_PACKET, PREFIX_SIZE, BinlogStream
from syncbridge.capture.binlog.table_map import check_schema, parse_table_map, table_name
from syncbridge.capture.schema import SchemaMismatch, TableSchema
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
# Packets of usual events, for read(): no more of the headers than is needed, then the start of the body. Each begins
# with the packet's length and sequence number, and the byte that is 0 before an event.
_PACKET = struct.Struct("<IB").unpack_from
#: end position, flags; the body's first six bytes as two numbers: a table id in ROWS
_EVENT = struct.Struct("<IB13xIHIH").unpack_from
#: timestamp, server_id, end position, flags, sequence, domain, MariaDB's flags
_MARIADB_GTID_EVENT = struct.Struct("<IBIxI4xIHQIB")
#: timestamp, end position, flags, UUID, number, clock type, commit time (lower 55 bits)
_MYSQL_GTID_EVENT = struct.Struct("<IBI9xIHx16sQB16xQ")
HEADER_SIZE = 19
#: Where in a packet its event starts, the event's type stands, and its body starts.
_IN_PACKET, _TYPE_AT, _BODY = 5, 9, 5 + HEADER_SIZE
_ARTIFICIAL, _IGNORABLE = 0x20, 0x80
_CRC32 = 1
#: CRC32 of any bytes followed by their own CRC32.
_CRC_RESIDUE = 0x2144DF1C
#: No usual event has a shorter packet.
_LEAST = PREFIX_SIZE + 1 + HEADER_SIZE + 8
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
    TABLE_MAP, so it may answer differently after a DDL. `in_doubt(mismatch)` is told of a table that the binlog
    describes otherwise; it raises (as it does where none is given), or makes schema_for answer otherwise, for that is
    asked again. `wanted(schema)` names the columns that rows of a table shall have (None: all); it is asked once for
    each schema. With `skip_to` (file, pos), events of that file that end at or before pos are passed over.
    """

    def __init__(
        self,
        schema_for: Callable[[str, str], TableSchema | None],
        *,
        in_doubt: Callable[[SchemaMismatch], None] | None = None,
        wanted: Callable[[TableSchema], Container[str] | None] | None = None,
        skip_to: tuple[str, int] | None = None,
    ) -> None:
        self.file = ""
        self.pos = 4
        self._schema_for = schema_for
        self._in_doubt = in_doubt or _refuse
        self._wanted = wanted or _every_column
        self._skip_to = skip_to
        self._checksum = False
        self._mariadb = False
        self._in_transaction = False
        self._xa = False
        self._mapped_rows = False  # the open transaction changed mapped tables
        #: TABLE_MAP bodies met before, since they repeat with every statement: (table id, db, table, its decoder).
        self._maps: dict[bytes, tuple[int, str, str, Decoder | None]] = {}
        #: By table id; None: rows of the table are passed over.
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

    def read(self, stream: BinlogStream) -> Iterator[Item]:
        """The items of all events that a stream has complete, in their order.

        Use each item up before taking the next: what follows is read with what schema_for answers by then. `file` and
        `pos` stand at the end of the event that the last item is of.
        Raises PermanentError (with reason and mend), TransientError, what stream.take() and in_doubt raise; the reader
        is of no use afterwards.

        Hot, and long for that: the usual events of transactions (GTID, BEGIN, TABLE_MAP, ROWS, XID) are read in the
        stream's buffer, each by one unpack and without a call. A single-row transaction costs three fifths of what it
        costs through _event, where every other event goes, and all of them where something unusual is under way.
        """
        maps, tables, schema_for = self._maps, self._tables, self._schema_for
        find = None if native.functions is None else native.functions.transaction
        while True:
            buffer, at = stream.buffer, stream.at
            last = -1
            if self._skip_to is None and not self._xa and not stream.continues:
                last = len(buffer) - _LEAST
            checksum = self._checksum
            tail = 4 if checksum else 0
            type_ = 0
            try:
                while at <= last:
                    type_ = buffer[at + _TYPE_AT]
                    if type_ in (MARIADB_GTID, GTID):
                        framed = None if find is None else find(buffer, at, checksum)
                        whole = None if framed is None else self._framed(framed, tail)
                        begun = whole or self._transaction(buffer, at, type_)
                        if begun is None:
                            break
                        at, item = begun
                        yield item
                        continue
                    word, status, log_pos, flags, table_id, high = _EVENT(buffer, at)
                    end = at + PREFIX_SIZE + (word & MAX_PACKET)
                    if status or end > len(buffer) or not log_pos or flags & _ARTIFICIAL:
                        break
                    event = buffer[at + _IN_PACKET : end]
                    if crc32(event) != _CRC_RESIDUE if checksum else _size(event) != len(event):
                        break
                    if type_ in ROWS:
                        if high or table_id not in tables:
                            break
                        decoder = tables[table_id]
                        if decoder is not None:
                            plan = decoder.plans.get(type_)
                            if plan is None or not event.startswith(plan[0], 27):
                                break
                            prefix, op, decode = plan
                            self.pos += log_pos - self.pos & 0xFFFFFFFF
                            self._mapped_rows = True
                            rows = decode(event, 27 + len(prefix), len(event) - tail)
                            at = end
                            yield Rows(decoder.schema, decoder.columns, op, rows, self.pos, len(event))
                            continue
                    elif type_ == TABLE_MAP:
                        known = maps.get(buffer[at + _BODY : end - tail])
                        if known is None:
                            break
                        table_id, db, table, decoder = known
                        if schema_for(db, table) is not (None if decoder is None else decoder.schema):
                            break
                        tables[table_id] = decoder
                    elif type_ == XID:
                        self.pos += log_pos - self.pos & 0xFFFFFFFF
                        self._in_transaction = False
                        at = end
                        yield TransactionEnd(self.file, self.pos)
                        continue
                    elif type_ == QUERY and buffer[_sql(buffer, at) : end - tail] == b"BEGIN":
                        self._in_transaction, self._mapped_rows = True, False
                    else:
                        break
                    self.pos += log_pos - self.pos & 0xFFFFFFFF
                    at = end
            except _DAMAGED as error:
                raise self._damage(type_, error) from error
            finally:
                stream.at = at
            event_ = stream.take()
            if event_ is None:
                return
            yield from self._event(event_)

    def _framed(self, framed: tuple[Any, ...], tail: int) -> tuple[int, Single] | None:
        """The transaction that native.functions found whole; None where _transaction has to look closer."""
        next_at, gtid, ts, commit_ts_us, gtid_pos, gtid_size, body, table_id, type_, log_pos, event, end_pos = framed
        known = self._maps.get(body)
        if known is None:
            return None
        known_id, db, table, decoder = known
        if decoder is None or known_id != table_id or self._schema_for(db, table) is not decoder.schema:
            return None
        plan = decoder.plans.get(type_)
        if plan is None or not event.startswith(plan[0], 27):
            return None
        prefix, op, decode = plan
        self.pos = pos = self.pos + (gtid_pos - self.pos & 0xFFFFFFFF)
        start = pos - gtid_size
        pos += log_pos - pos & 0xFFFFFFFF
        size = len(event)
        rows = decode(event, 27 + len(prefix), size)
        self.pos = end = pos + (end_pos - pos & 0xFFFFFFFF)
        self._in_transaction = self._mapped_rows = False
        return next_at, Single(
            decoder.schema, decoder.columns, op, rows, pos, size + tail, gtid, self.file, start, ts, commit_ts_us, end
        )

    def _transaction(self, buffer: bytes, at: int, type_: int) -> tuple[int, Gtid | Single] | None:
        """The transaction whose GTID event starts at `at`, and where in the buffer to go on.

        As one item if it is all there, and has one event of rows; else just the Gtid. None: there is something unusual
        about the GTID. Hot, and long for that: one item, and nothing done twice, makes a single-row transaction a
        sixth cheaper than reading its events one by one does.
        """
        last, checksum = len(buffer) - _LEAST, self._checksum
        tail = 4 if checksum else 0
        commit_ts_us: int | None = None
        if at + (_MARIADB_GTID_EVENT if type_ == MARIADB_GTID else _MYSQL_GTID_EVENT).size > len(buffer):
            return None
        if type_ == MARIADB_GTID:
            word, status, ts, server_id, log_pos, flags, sequence, domain, kind = _MARIADB_GTID_EVENT.unpack_from(
                buffer, at
            )
            gtid = f"{domain}-{server_id}-{sequence}"
            unusual = kind & (_STANDALONE | _PREPARED_XA)
        else:
            word, status, ts, log_pos, flags, uuid, number, clock, commit_ts_us = _MYSQL_GTID_EVENT.unpack_from(
                buffer, at
            )
            gtid = f"{uuid_text(uuid)}:{number}"
            commit_ts_us &= COMMIT_TIME
            unusual = clock != 2 or PREFIX_SIZE + (word & MAX_PACKET) < _MYSQL_GTID_EVENT.size
        map_at = rest = at + PREFIX_SIZE + (word & MAX_PACKET)
        if unusual or status or not log_pos or flags & _ARTIFICIAL or rest > len(buffer):
            return None
        event = buffer[at + _IN_PACKET : rest]
        if crc32(event) != _CRC_RESIDUE if checksum else _size(event) != len(event):
            return None
        self.pos = pos = self.pos + (log_pos - self.pos & 0xFFFFFFFF)
        start = pos - len(event)
        self._in_transaction, self._mapped_rows = type_ == MARIADB_GTID, False
        while True:  # left where anything is not as it usually is
            if rest > last:
                break
            if type_ == GTID:
                word, status = _PACKET(buffer, rest)
                map_at = rest + PREFIX_SIZE + (word & MAX_PACKET)
                if status or map_at > last or buffer[rest + _TYPE_AT] != QUERY:
                    break
                if buffer[_sql(buffer, rest) : map_at - tail] != b"BEGIN":
                    break
                if checksum and crc32(buffer[rest + _IN_PACKET : map_at]) != _CRC_RESIDUE:
                    break
            word, status = _PACKET(buffer, map_at)
            rows_at = map_at + PREFIX_SIZE + (word & MAX_PACKET)
            if status or rows_at > last or buffer[map_at + _TYPE_AT] != TABLE_MAP:
                break
            word, status, log_pos, flags, table_id, high = _EVENT(buffer, rows_at)
            xid_at = rows_at + PREFIX_SIZE + (word & MAX_PACKET)
            if status or high or not log_pos or flags & _ARTIFICIAL or xid_at > last:
                break
            word, status, end_pos, flags, _, _ = _EVENT(buffer, xid_at)
            end = xid_at + PREFIX_SIZE + (word & MAX_PACKET)
            if status or not end_pos or flags & _ARTIFICIAL or end > len(buffer) or buffer[xid_at + _TYPE_AT] != XID:
                break
            known = self._maps.get(buffer[map_at + _BODY : rows_at - tail])
            if known is None:
                break
            known_id, db, table, decoder = known
            if decoder is None or known_id != table_id or self._schema_for(db, table) is not decoder.schema:
                break
            plan = decoder.plans.get(buffer[rows_at + _TYPE_AT])
            event = buffer[rows_at + _IN_PACKET : xid_at]
            if plan is None or not event.startswith(plan[0], 27):
                break
            if checksum:
                if crc32(event) != _CRC_RESIDUE:
                    break
                if crc32(buffer[map_at + _IN_PACKET : rows_at]) != _CRC_RESIDUE:
                    break
                if crc32(buffer[xid_at + _IN_PACKET : end]) != _CRC_RESIDUE:
                    break
            prefix, op, decode = plan
            size = len(event)
            pos += log_pos - pos & 0xFFFFFFFF
            rows = decode(event, 27 + len(prefix), size - tail)
            self.pos = pos + (end_pos - pos & 0xFFFFFFFF)
            self._in_transaction = False
            return end, Single(
                decoder.schema, decoder.columns, op, rows, pos, size, gtid, self.file, start, ts, commit_ts_us, self.pos
            )
        return rest, Gtid(gtid, self.file, start, ts, commit_ts_us)

    def _event(self, event: bytes) -> Iterable[Item]:
        """The items of one event. Usually one; a compressed payload holds many, and is unpacked as they are taken."""
        type_: int
        if len(event) < HEADER_SIZE:
            raise PermanentError(f"event at {self.file}:{self.pos} has only {len(event)} bytes")
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
            self.pos += log_pos - self.pos & 0xFFFFFFFF  # positions in headers wrap at 4 GiB
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

    def _ignored(self, _event: bytes, _type: int, _ts: int, _end: int) -> Iterable[Item]:
        return ()

    # Transactions

    def _gtid(self, event: bytes, type_: int, ts: int, end: int) -> Iterable[Item]:
        gtid, commit_ts_us = tagged_gtid(event[HEADER_SIZE:end]) if type_ == GTID_TAGGED else mysql_gtid(event, end)
        self._start(in_transaction=False)
        start = self.pos - len(event)
        return (Gtid(None if type_ == ANONYMOUS_GTID else gtid, self.file, start, ts, commit_ts_us),)

    def _mariadb_gtid(self, event: bytes, _type: int, ts: int, _end: int) -> Iterable[Item]:
        sequence, domain, flags = _MARIADB_GTID.unpack_from(event, HEADER_SIZE)
        server_id = int.from_bytes(event[5:9], "little")
        self._start(in_transaction=not flags & _STANDALONE)
        self._xa = bool(flags & _PREPARED_XA)
        gtid = f"{domain}-{server_id}-{sequence}"
        return (Gtid(gtid, self.file, self.pos - len(event), ts, None),)

    def _start(self, *, in_transaction: bool) -> None:
        self._in_transaction = in_transaction
        self._xa = False
        self._mapped_rows = False

    def _end(self) -> Iterable[Item]:
        self._in_transaction = False
        return (TransactionEnd(self.file, self.pos),)

    def _xid(self, _event: bytes, _type: int, _ts: int, _end: int) -> Iterable[Item]:
        return self._end()

    def _xa_prepare(self, _event: bytes, _type: int, _ts: int, _end: int) -> Iterable[Item]:
        # Mapped rows of a prepared transaction were refused when they came: what ends here is of no concern.
        self._start(in_transaction=False)
        return self._end()

    def _query(self, event: bytes, type_: int, ts: int, end: int) -> Iterable[Item]:
        query = parse_query(event, end, load=type_ == EXECUTE_LOAD_QUERY, compressed=type_ == QUERY_COMPRESSED)
        word = query.sql[:5].upper()
        if word == "BEGIN":
            self._start(in_transaction=True)
            return ()
        if word == "COMMI":
            return self._end()
        if word == "ROLLB":
            return self._rollback(query)
        if word == "SAVEP" or word == "RELEA":
            return ()
        if word[:3] == "XA ":
            return self._xa_statement(query)
        return (self._statement(query, ts),)

    def _statement(self, query: QueryEvent, ts: int) -> Statement:
        return Statement(query.db, query.sql, query.sql_mode, self.file, self.pos, ts, self._in_transaction)

    def _rollback(self, query: QueryEvent) -> Iterable[Item]:
        # The server logs a rollback only where a non-transactional table took part: some of the rows stay, some go.
        if self._mapped_rows:
            raise self._refusal(
                "rolls back a transaction that also changed a non-transactional table, after rows of a mapped table",
                "make all mapped tables InnoDB (ALTER TABLE … ENGINE=InnoDB), then: syncbridge snapshot",
            )
        if " TO" in query.sql.upper():
            return ()
        return self._end()

    def _xa_statement(self, query: QueryEvent) -> Iterable[Item]:
        words = query.sql.upper().split(None, 2)
        if words[1] in ("START", "BEGIN"):
            self._start(in_transaction=True)
            self._xa = True
            return ()
        if words[1] == "END":
            return ()
        return self._end()

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
            decoder = self._decoder(body, schema)
        if decoder is not known[3] or body not in self._maps:
            if len(self._maps) >= _CACHED_TABLE_MAPS:
                self._maps.clear()
            self._maps[body] = table_id, db, table, decoder
        self._tables[table_id] = decoder
        return ()

    def _decoder(self, body: bytes, schema: TableSchema) -> Decoder | None:
        """The decoder of a table as this TABLE_MAP describes it; None where its shape is in doubt."""
        parsed = parse_table_map(body[8:])
        try:
            check_schema(parsed, schema)
        except SchemaMismatch as mismatch:
            self._in_doubt(mismatch)
            other = self._schema_for(schema.db, schema.table)
            if other is schema:
                raise
            return None if other is None else self._decoder(body, other)
        return Decoder(parsed, schema, mariadb=self._mariadb, wanted=self._wanted(schema))

    def _rows(self, event: bytes, type_: int, _ts: int, end: int) -> Iterable[Item]:
        low, high = _TABLE_ID.unpack_from(event, HEADER_SIZE)
        table_id = low | high << 32
        decoder = self._tables.get(table_id)
        if decoder is None:
            if table_id in self._tables or table_id == _DUMMY_TABLE_ID:
                return ()
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
        if width != decoder.width or not decoder.is_full(present):
            raise self._image_refusal(decoder.schema)
        at += size * images
        decode = decoder.pairs if op == "u" else decoder.images
        if compressed:
            event = unpack_mariadb(event[at:end])
            at, end = 0, len(event)
        else:
            decoder.plans[type_] = event[27:at], op, decode
        return (Rows(decoder.schema, decoder.columns, op, decode(event, at, end), self.pos, len(event)),)

    def _partial_update(self, event: bytes, _type: int, _ts: int, _end: int) -> Iterable[Item]:
        decoder = self._tables.get(int.from_bytes(event[19:25], "little"))
        if decoder is None:
            return ()
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
        try:
            while header := source.read(HEADER_SIZE):
                ts, type_, _, size, _, _ = _HEADER.unpack_from(header)
                event = header + source.read(size - HEADER_SIZE)
                if len(event) != size or type_ == TRANSACTION_PAYLOAD:
                    raise ValueError("compressed payload is cut short")
                yield from self._handlers[type_](event, type_, ts, size)
        except _DAMAGED as error:
            raise self._damage(TRANSACTION_PAYLOAD, error) from error

    # What stops capture

    def _unknown(self, event: bytes, type_: int, _ts: int, _end: int) -> Iterable[Item]:
        if int.from_bytes(event[17:19], "little") & _IGNORABLE:
            return ()
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


def _refuse(mismatch: SchemaMismatch) -> None:
    raise mismatch


def _sql(buffer: bytes, at: int) -> int:
    """Where the SQL of the QUERY event starts whose packet starts at `at`."""
    if at + _BODY + 13 > len(buffer):
        return at
    return at + _BODY + 14 + buffer[at + _BODY + 8] + (buffer[at + _BODY + 11] | buffer[at + _BODY + 12] << 8)


def _every_column(_: TableSchema) -> None:
    return None


def _size(event: bytes) -> int:
    """The size that an event's header says."""
    return int.from_bytes(event[9:13], "little")


def _lenenc(data: bytes, at: int) -> tuple[int, int]:
    """A length-encoded integer and the offset after it."""
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + width], "little"), at + 1 + width
