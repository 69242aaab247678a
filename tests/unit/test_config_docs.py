"""docs/configuration.md names every option with its default, and none that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from syncbridge.config import Config, FunctionConfig, Mapping, parse_config
from syncbridge.config.refusal import model_of

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
ROW = re.compile(r"^\| `([^`]+)` \| (.+?) \| (.+?) \| (.+) \|$", re.M)
#: Defaults that the document puts into words because they depend on something else.
IN_WORDS = {
    "state": "a file",
    "queue.store": "a file",
    "source.server_id": "derived",
    "source.write_url": "`source.url`",
    "mappings[].columns.include": "all",
    "source.trigger.servers": "where `queue.listen` listens",
    "queue.tls.ca": "`client_ca`",
}


def options(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every leaf option with its path."""
    for name, field in model.model_fields.items():
        inner = model_of(field.annotation)
        if inner is None:
            yield prefix + name, field
        else:
            several = {Mapping: "[]", FunctionConfig: ".*"}.get(inner, "")
            yield from options(inner, f"{prefix}{name}{several}.")


def written_default(path: str, field: FieldInfo) -> str:
    """The default as the document writes it, where it can be told from the model."""
    if path in IN_WORDS:
        return IN_WORDS[path]
    default: Any = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return "required"
    if default in (None, "", (), {}):
        return "none"
    if isinstance(default, tuple):
        default = default[0]  # where one value stands for all
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def test_the_document_and_the_model_name_the_same_options() -> None:
    documented = [match[1] for match in ROW.finditer(DOCUMENT.read_text())]
    assert sorted(documented) == sorted(path for path, _ in options(Config))


def test_the_document_tells_every_default() -> None:
    documented = {match[1]: match[3] for match in ROW.finditer(DOCUMENT.read_text())}
    wrong = {}
    for path, field in options(Config):
        expected, told = written_default(path, field), documented[path]
        if isinstance(field.default, float | int) and not isinstance(field.default, bool) and path not in IN_WORDS:
            # Durations and sizes: what the document writes must parse to the default.
            section, _, name = path.rpartition(".")
            held = getattr(_section(section).model_validate({**_needed(section), name: told.strip("`")}), name)
            if held != field.default:
                wrong[path] = told
        elif told != expected:
            wrong[path] = f"{told} should be {expected}"
    assert wrong == {}


def test_the_example_is_a_sync_yaml() -> None:
    example = re.search(r"```yaml\n(.+?)```", DOCUMENT.read_text(), re.S)
    assert example is not None
    assert parse_config(example[1], {"MYSQL_PASSWORD": "x"}).mappings[0].table == "shop.orders"


def _section(path: str) -> type[BaseModel]:
    model: type[BaseModel] | None = Config
    for part in path.removesuffix(".*").split("."):
        assert model is not None
        model = model_of(model.model_fields[part].annotation)
    assert model is not None
    return model


def _needed(section: str) -> dict[str, str]:
    return {"source": {"url": "mysql://h"}, "sink": {"url": "redis://h"}}.get(section, {})
