"""Reading sync.yaml: file -> YAML -> secrets filled in -> validated Config, or one ConfigError sentence."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import BaseModel, ValidationError

from syncbridge.config.model import Config, with_default_paths
from syncbridge.errors import ConfigError

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_SECRET_PATHS = re.compile(r"url|password|secret|token|state|store")


def load_config(path: str | Path, environ: Mapping[str, str] | None = None) -> Config:
    """Read and validate a sync.yaml. Raises ConfigError naming the path inside the file, the value and the mend."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"cannot read {path}: {error.strerror}", hint="write one with: syncbridge init --source mysql://…"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 text", hint="save the file as UTF-8") from error
    return parse_config(text, environ)


def parse_config(text: str, environ: Mapping[str, str] | None = None, *, root: bool | None = None) -> Config:
    """The Config that this YAML text describes, defaults filled in."""
    environ = os.environ if environ is None else environ
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(
            f"sync.yaml is not valid YAML{where}", hint=str(getattr(error, "problem", "") or "")
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError("sync.yaml is empty or not a mapping", hint="it needs source.url, sink.url and mappings")
    filled = _fill(raw, environ, "")
    try:
        config = Config.model_validate(filled)
    except ValidationError as error:
        raise _config_error(error) from None  # the cause would carry the values, secrets included
    return with_default_paths(config, environ, root=os.geteuid() == 0 if root is None else root)


def _fill(value: Any, environ: Mapping[str, str], path: str) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, environ, f"{path}.{key}" if path else str(key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, environ, f"{path}[{index}]") for index, item in enumerate(value)]
    if isinstance(value, str):
        if value.startswith("file:"):
            return _read_secret(value.removeprefix("file:"), path)
        return _PLACEHOLDER.sub(lambda match: _expand(match, value, environ, path), value)
    return value


def _expand(match: re.Match[str], whole: str, environ: Mapping[str, str], path: str) -> str:
    name = match[1]
    if name.startswith("file:"):
        secret = _read_secret(name.removeprefix("file:"), path)
    elif name in environ:
        secret = environ[name]
    else:
        raise ConfigError(f"{path}: environment variable {name} is not set", hint=f"export {name}=… before starting")
    # Inside a URL a password may hold any character; the URL's own grammar must not see it.
    inside_url = "://" in whole[: match.start()]
    return quote(secret, safe="") if inside_url else secret


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path}: cannot read the secret file {name}", hint="check its path and permissions"
        ) from error


def _config_error(error: ValidationError) -> ConfigError:
    first = error.errors(include_url=False)[0]
    path = _path(first["loc"])
    more = f" ({error.error_count() - 1} more after this one)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return ConfigError(f"{path}: unknown key{more}", hint=_did_you_mean(first["loc"]))
    if first["type"] == "missing":
        return ConfigError(f"{path}: missing{more}", hint="a minimal sync.yaml has source.url, sink.url and mappings")
    reason = first["msg"].removeprefix("Value error, ")
    shown = "" if _SECRET_PATHS.search(path) or isinstance(first["input"], (dict, list)) else f" {first['input']!r}"
    return ConfigError(f"{path or 'sync.yaml'}:{shown} is not possible{more}", hint=reason[:1].lower() + reason[1:])


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _did_you_mean(loc: tuple[int | str, ...]) -> str:
    model: type[BaseModel] = Config
    for part in loc[:-1]:
        if isinstance(part, str) and part in model.model_fields:
            inner = _model_of(model.model_fields[part].annotation)
            model = inner or model
    known = sorted(model.model_fields)
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"did you mean {close[0]}?" if close else f"known keys here: {', '.join(known)}"


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (model := _model_of(argument)) is not None:
            return model
    return None
