"""Jobs: what a worker accepts and what it refuses."""

from __future__ import annotations

import orjson
import pytest

from syncbridge.errors import PermanentError
from syncbridge.workload import decode_job, encode_job

EVENT = {"op": "c", "source": {"db": "shop", "table": "orders"}, "version": "0" * 40, "format": 1}


def test_a_job_is_an_array_or_one_event() -> None:
    assert decode_job(encode_job([EVENT, EVENT])) == [EVENT, EVENT]
    assert decode_job(orjson.dumps(EVENT)) == [EVENT]


@pytest.mark.parametrize(
    ("workload", "reason"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[1]", "not an event object"),
        (orjson.dumps(EVENT | {"format": 2}), "format 2"),
        (orjson.dumps({k: v for k, v in EVENT.items() if k != "format"}), "format None"),
        (orjson.dumps(EVENT | {"op": "x"}), "unknown op"),
        (orjson.dumps(EVENT | {"source": {}}), "lacks"),
    ],
)
def test_anything_else_is_refused_with_the_reason(workload: bytes, reason: str) -> None:
    with pytest.raises(PermanentError, match=reason):
        decode_job(workload)
