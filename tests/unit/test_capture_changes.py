"""Rows to events: versions ascend, a changed key makes two events."""

from __future__ import annotations

from syncbridge.capture.changes import Shape, Transaction, reread_events, row_events, sweep_event
from syncbridge.capture.retention import unread_bytes
from syncbridge.version import Version
from syncbridge.workload import decode_job, encode_job

SHAPE = Shape("shop", "orders", ("id",), {"price": "decimal"})


def transaction() -> Transaction:
    return Transaction(
        pipeline="shop", epoch=1, server_id=5, gtid="0-1-2", file="bin.000003", file_number=3, pos=400, ts_us=7
    )


def test_an_update_is_one_event() -> None:
    (event,) = row_events(transaction(), SHAPE, "u", {"id": 1, "a": 1}, {"id": 1, "a": 2}, 9)
    assert (event["op"], event["key"], event["before"], event["after"]) == ("u", {"id": 1}, {"id": 1, "a": 1}, {"id": 1, "a": 2})  # noqa: E501  # fmt: skip
    assert event["version"] == str(Version(1, 3, 400, 0))
    assert event["source"]["row"] == 0


def test_a_changed_key_is_a_delete_and_a_create() -> None:
    one = transaction()
    first, second = row_events(one, SHAPE, "u", {"id": 1}, {"id": 2}, 9)
    assert (first["op"], first["key"], first["after"]) == ("d", {"id": 1}, None)
    assert (second["op"], second["key"], second["before"]) == ("c", {"id": 2}, None)
    assert first["version"] < second["version"]
    assert one.rows == 2


def test_every_event_is_a_job_that_workers_accept() -> None:
    one = transaction()
    events = [
        *row_events(one, SHAPE, "c", None, {"id": 1}, 9),
        *row_events(one, SHAPE, "d", {"id": 1}, None, 9),
        sweep_event(one, "shop", "orders", one.version(9), 9, ["{}"]),
    ]
    assert [event["op"] for event in decode_job(encode_job(events))] == ["c", "d", "t"]
    assert events[-1]["mappings"] == ["{}"]
    assert events[-1]["version"] == str(Version(1, 3, 400, 9))


def test_a_row_read_again_takes_the_keys_of_its_old_images_with_it() -> None:
    row, old = {"id": 1, "email": "new"}, {"id": 1, "email": "old"}
    assert reread_events(row, [old]) == [("r", None, row), ("u", old, row)]
    assert reread_events(None, [old]) == [("d", old, None)]
    assert reread_events(None, []) == [("d", None, None)]


def test_unread_bytes() -> None:
    logs = [("b.000001", 100), ("b.000002", 200), ("b.000003", 50)]
    assert unread_bytes(logs, "b.000002", 150) == 100
    assert unread_bytes(logs, "b.000003", 50) == 0
