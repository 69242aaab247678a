"""Turning what the model refuses into one ConfigError: the path inside sync.yaml, the value as written, the mend.

Values are taken from the text before `${VAR}` and `file:` are filled in, and never shown for settings that may hold
a password, so no secret can reach a message.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from syncbridge.config.model import Config
from syncbridge.config.values import ImpossibleError, MissingError
from syncbridge.errors import ConfigError

#: Settings whose value may hold a password: never shown.
_SECRET = re.compile(r"url$|^state$|store$|^ssl_key$|password|secret|token")
#: Settings of the documented format that this version does not have.
_NOT_BUILT = {
    ("mappings", "mode"): "mode is not built yet: leave it out, and every key holds its row",
    ("mappings", "member"): "collections are not built yet: leave member out and write type hash, json or string",
    ("mappings", "score"): "collections are not built yet: leave score out and write type hash, json or string",
}
#: Stands for a value that the document leaves out.
_DEFAULT = object()
_Location = tuple[int | str, ...]


def refusal(
    error: ValidationError,
    raw: dict[Any, Any],
    *,
    model: type[BaseModel] = Config,
    name: Callable[[_Location], str] | None = None,
) -> ConfigError:
    """The ConfigError for the most telling of the model's complaints; `raw` is the document before secrets.

    `name`: what to call a place in the document, when it was no document.
    """
    name = name or path_text
    complaints = _telling(error.errors(include_url=False))
    first = complaints[0]
    more = f" ({len(complaints) - 1} more after this one)" if len(complaints) > 1 else ""
    loc = first["loc"]
    if first["type"] in ("extra_forbidden", "invalid_key"):
        place = (str(loc[0]), str(loc[-1]))
        if len(loc) > 1 and place in _NOT_BUILT:
            return ConfigError(f"{name(loc)}: not built yet{more}", hint=_NOT_BUILT[place])
        return ConfigError(f"{name(loc)}: unknown key{more}", hint=_did_you_mean(model, loc))
    if first["type"] == "missing":
        hint = f"a minimal sync.yaml has source.url, sink.url and mappings: add {path_text(loc)}"
        if len(loc) > 2 or model is not Config:
            hint = f"add {name(loc)}"
        return ConfigError(f"{name(loc)}: missing{more}", hint=hint)
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ImpossibleError):
        loc = (*loc, *cause.path)
    if isinstance(cause, MissingError):
        return ConfigError(f"{name(loc)}: missing{more}", hint=str(cause))
    path, value = _as_written(raw, loc)
    if value is _DEFAULT:
        return ConfigError(f"{name(path)}: its default is not possible here{more}", hint=_mend(model, first, loc))
    shown = (
        "" if _secret(path) or isinstance(value, (dict, list)) else f" {'nothing' if value is None else repr(value)}"
    )
    return ConfigError(f"{name(path) or 'sync.yaml'}:{shown} is not possible{more}", hint=_mend(model, first, loc))


def path_text(loc: Sequence[int | str]) -> str:
    """`mappings[2].key` of ("mappings", 2, "key")."""
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _telling(complaints: list[ErrorDetails]) -> list[ErrorDetails]:
    """Unknown keys first (a misspelt key also makes its right spelling missing), missing ones last."""
    # A list whose items fail also counts as too short; that says nothing new.
    wrong = [c for c in complaints if not (c["type"] == "too_short" and _has_inner(complaints, c["loc"]))]
    order = {"extra_forbidden": 0, "invalid_key": 0, "missing": 2}
    return sorted(wrong, key=lambda complaint: order.get(complaint["type"], 1))


def _has_inner(complaints: list[ErrorDetails], loc: _Location) -> bool:
    return any(len(other["loc"]) > len(loc) and other["loc"][: len(loc)] == loc for other in complaints)


def _as_written(raw: Any, loc: _Location) -> tuple[_Location, Any]:
    """The value at `loc` in the document, and how much of `loc` the document has (a lone url is no list there)."""
    path: list[int | str] = []
    for part in loc:
        inside = (isinstance(raw, list) and isinstance(part, int) and part < len(raw)) or (
            isinstance(raw, dict) and part in raw
        )
        if not inside:
            return (loc, _DEFAULT) if isinstance(raw, dict) else (tuple(path), raw)
        path.append(part)
        raw = raw[part]
    return tuple(path), raw


def _secret(path: _Location) -> bool:
    return any(isinstance(part, str) and _SECRET.search(part) for part in path)


def _mend(model: type[BaseModel], complaint: ErrorDetails, loc: _Location) -> str:
    kind = complaint["type"]
    if kind in ("model_type", "dict_type", "model_attributes_type"):
        known = _model_at(model, loc)
        return "write an indented block of keys" + (f": {', '.join(sorted(known.model_fields))}" if known else "")
    if kind in ("tuple_type", "list_type", "too_short"):
        return "write a list with one entry or more, each starting with -"
    text = complaint["msg"].removeprefix("Value error, ").replace("Input should be", "it must be")
    return text[:1].lower() + text[1:]


def _did_you_mean(model: type[BaseModel], loc: _Location) -> str:
    known = sorted((_model_at(model, loc[:-1]) or model).model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"


def _model_at(root: type[BaseModel], loc: _Location) -> type[BaseModel] | None:
    model: type[BaseModel] | None = root
    of_any_name = False  # the next part is a key of a dict, not a field
    for part in loc:
        if of_any_name:
            of_any_name = False
        elif isinstance(part, str) and model is not None:
            inner = model.model_fields.get(part)
            model = None if inner is None else model_of(inner.annotation)
            of_any_name = inner is not None and getattr(inner.annotation, "__origin__", None) is dict
    return model


def model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (model := model_of(argument)) is not None:
            return model
    return None
