"""`explain`: what one row, or one object of a function, yields in Redis, and what is there now. Changes nothing."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated, Any

import typer

from syncbridge.commands.checks.tables import kinds_of
from syncbridge.commands.options import DEFAULT_CONFIG, AsJson, ConfigPath, mapped_table
from syncbridge.commands.output import say, say_json
from syncbridge.commands.verification.compare import Stored, differences, expires, may_have_expired
from syncbridge.commands.verification.keys import event_value
from syncbridge.commands.verification.rows import RowReader
from syncbridge.commands.verification.stored import StoredReader
from syncbridge.config import Config, load_config
from syncbridge.errors import ConfigError, PermanentError
from syncbridge.event import Row
from syncbridge.sinks.functions import FunctionMapping
from syncbridge.sinks.mapping import CompiledMapping, Expected
from syncbridge.sinks.objects import decode_objects
from syncbridge.version import ZERO

#: Longest value shown to people, characters.
SHOWN = 200


def register(app: typer.Typer) -> None:
    app.command()(explain)


def explain(
    table: Annotated[str, typer.Argument(metavar="DB.TABLE|function:NAME", help="A mapped table or function.")],
    key: Annotated[
        list[str] | None, typer.Option(help="Of a table: column=value; once for each column of the primary key.")
    ] = None,
    element: Annotated[str, typer.Option("--object", metavar="JSON", help="Of a function: an object of a job.")] = "",
    config: ConfigPath = DEFAULT_CONFIG,
    json: AsJson = False,
) -> None:
    """Show the keys that one row or object yields, and what is stored under them now. Exit 1 when they differ."""
    loaded = load_config(config)
    if table.startswith("function:"):
        name = _mapped_function(loaded, table, key, element)
        with closing(StoredReader(loaded)) as stored:
            found = _explain_object(loaded, name, element, stored)
    else:
        db, name = mapped_table(loaded, table)
        if element or not key:
            raise ConfigError("a table's row is named by its key", hint="write --key column=value")
        with closing(RowReader(loaded)) as rows, closing(StoredReader(loaded)) as stored:
            found = _explain(loaded, db, name, key, rows, stored)
    if json:
        say_json(found)
    else:
        _print(found)
    raise typer.Exit(0 if all(one["agrees"] for one in found["mappings"]) else 1)


def _explain(
    config: Config, db: str, table: str, wanted: list[str], rows: RowReader, stored: StoredReader
) -> dict[str, Any]:
    schema = rows.schema(db, table)
    if schema is None:
        raise ConfigError(f"table {db}.{table} does not exist", hint="syncbridge check lists what is missing")
    numbered = [(i, m) for i, m in enumerate(config.mappings) if m.covers(db, table)]
    primary = schema.primary_key or next((m.unique for _, m in numbered if m.unique), ())
    kinds = kinds_of(schema)
    values = _key_values(wanted, primary, kinds)
    row = next(iter(rows.by_key(schema, primary, [values])), None)
    explained = []
    for index, mapping in numbered:
        compiled = CompiledMapping(mapping, db, table)
        one: dict[str, Any] = {"mapping": f"mappings[{index}]", "key": None, "expected": None, "stored": None}
        explained.append(one | {"agrees": True, "what": _no_row(row)})
        if row is None:
            continue
        try:
            expected = compiled.expected(row, schema.types(), primary)
        except PermanentError as error:
            explained[-1] |= {"agrees": False, "what": [str(error)]}
            continue
        if expected is None:
            explained[-1]["what"] = ["the row is not shown: where does not match, or its time is over"]
            continue
        held = stored.read(compiled, [expected.key])[0]
        over = not held.exists and may_have_expired(mapping, row, schema.types())
        columns = [column.name for column in schema.columns]
        what = [] if over else differences(compiled, columns, expected, held, expires=expires(mapping, row))
        explained[-1] |= {
            "key": expected.key,
            "expected": _content(expected),
            "stored": _content(held),
            "version": (held.guard or b"")[1:41] or None,
            "ttl_ms": held.ttl_ms if held.ttl_ms >= 0 else None,
            "agrees": not what,
            "what": what or (["its time to live is over"] if over else []),
        }
    return {"table": f"{db}.{table}", "row": row, "mappings": explained}


def _mapped_function(config: Config, text: str, key: list[str] | None, element: str) -> str:
    name = text.removeprefix("function:")
    if name not in config.functions:
        known = ", ".join(config.functions) or "no functions"
        raise ConfigError(f"{name} is no mapped function in sync.yaml", hint=f"mapped are: {known}")
    if key or not element:
        raise ConfigError("a function has no rows to look up", hint="write --object '{\"id\": 1, …}' as a job has it")
    return name


def _explain_object(config: Config, function: str, text: str, stored: StoredReader) -> dict[str, Any]:
    """What an object asks of each mapping of its function; it agrees when Redis shows that already."""
    try:
        (element,) = decode_objects(text.encode())
    except (PermanentError, ValueError) as error:
        raise ConfigError(f"--object: {error}", hint="write one JSON object") from None
    explained = []
    for index, mapping in enumerate(config.mappings):
        if mapping.function != function:
            continue
        compiled = FunctionMapping(mapping, max_value=config.sink.max_value)
        one: dict[str, Any] = {"mapping": f"mappings[{index}]", "key": None, "expected": None, "stored": None}
        explained.append(one | {"agrees": True, "what": ["passed over: where does not match"]})
        try:
            operations = compiled.operations(compiled.event(element, ZERO))
        except PermanentError as error:
            explained[-1] |= {"agrees": False, "what": [str(error)]}
            continue
        for operation in operations:
            held = stored.read(compiled, [operation.key])[0]
            expected = compiled.left_by(operation)
            what = _differs(expected, held, gone=not mapping.on_delete.after)
            explained[-1] |= {
                "key": operation.key,
                "expected": None if expected is None else _content(expected),
                "stored": _content(held),
                "ttl_ms": held.ttl_ms if held.ttl_ms >= 0 else None,
                "agrees": not what,
                "what": what or ([] if expected else ["the object says that its row is gone"]),
            }
    return {"table": f"function:{function}", "row": element, "mappings": explained}


def _differs(expected: Expected | None, held: Stored, *, gone: bool) -> list[str]:
    if held.wrong_type:
        return [f"the key is a {held.wrong_type}"]
    if expected is None:
        return ["the key should be gone"] if held.exists and gone else []
    if isinstance(expected.content, dict) and isinstance(held.content, dict):
        wrong = [name for name, value in expected.content.items() if held.content.get(name) != value]
        return [f"field {_text(name)} differs" for name in wrong]
    return [] if held.content == expected.content else ["the value differs" if held.exists else "the key is missing"]


def _no_row(row: Row | None) -> list[str]:
    return ["there is no such row"] if row is None else []


def _key_values(wanted: list[str], primary: tuple[str, ...], kinds: dict[str, str]) -> list[Any]:
    given = dict(text.partition("=")[::2] for text in wanted)
    example = " ".join(f"--key {name}=…" for name in primary)
    if set(given) != set(primary):
        raise ConfigError(f"--key: the key of this table is {', '.join(primary)}", hint=f"write {example}")
    try:
        return [event_value(given[name], kinds[name]) for name in primary]
    except ValueError:
        raise ConfigError(f"--key: {wanted[0]!r} does not fit its column", hint=f"write {example}") from None


def _content(of: Expected | Stored) -> Any:
    """Hash fields or the text, as JSON can hold them."""
    content = of.content
    if isinstance(content, dict):
        return {_text(field): _text(value) for field, value in content.items()}
    return None if content is None else _text(content)


def _text(value: bytes) -> str:
    return value.decode("utf-8", "backslashreplace")


def _print(found: dict[str, Any]) -> None:
    for one in found["mappings"]:
        key = "no key" if one["key"] is None else _text(one["key"])
        say(f"{one['mapping']}: {key}", "green" if one["agrees"] else "bold red")
        for label in ("expected", "stored"):
            content = one[label]
            if isinstance(content, dict):
                for field, value in content.items():
                    say(f"  {label:8} {field} = {_short(value)}")
            elif content is not None:
                say(f"  {label:8} {_short(content)}")
        if one.get("version"):
            say(f"  version  {_text(one['version'])}")
        for sentence in one["what"]:
            say(f"  {sentence}")


def _short(text: str) -> str:
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"
