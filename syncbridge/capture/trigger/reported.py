"""One change as a trigger reported it, through the outbox or as a job of the UDF. Pure."""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from syncbridge.errors import PermanentError

#: A row or a key: JSON text from the outbox, decoded already from a job.
Json = str | dict[str, Any]
#: The op of a heartbeat; its token is the new key.
HEARTBEAT = "h"


class Reported(NamedTuple):
    """Keys and rows are None where the side does not exist, or was too large for JSON_OBJECT."""

    #: The outbox's; 0 for a job.
    id: int
    written_us: int
    #: c, u, d; h for a heartbeat.
    op: str
    db: str
    table: str
    old_key: Json | None
    new_key: Json | None
    old_row: Json | None
    new_row: Json | None


def parse_hint(workload: bytes) -> Reported:
    """A job as triggers/udf.sql makes it. Raises PermanentError when it is none."""
    try:
        hint = orjson.loads(workload)
        op = hint["op"]
        names = (str(hint["db"]), str(hint["name"])) if op != HEARTBEAT else ("", "")
        keys = (hint.get("old_key"), hint.get("new_key"))
        one = Reported(0, int(hint["us"]), op, *names, *keys, hint.get("old_row"), hint.get("new_row"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise PermanentError(f"not a job of our triggers: {workload[:80]!r}") from error
    sides = [side for side in one[5:] if side is not None]
    if op == HEARTBEAT and isinstance(one.new_key, str) and one.new_key.isdecimal():
        return one
    if op in ("c", "u", "d") and all(isinstance(side, dict) for side in sides) and (one.old_key or one.new_key):
        return one
    raise PermanentError(f"not a job of our triggers: {workload[:80]!r}")


def heartbeat_hint(token: int, now_us: int) -> str:
    """A heartbeat as a job."""
    return orjson.dumps({"us": now_us, "op": HEARTBEAT, "new_key": str(token)}).decode()
