"""Reading sync.yaml: file -> YAML -> secrets filled in -> validated Config, or one ConfigError sentence."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import yaml
from pydantic import ValidationError

from syncbridge.config.model import Config, with_default_paths, with_mapped_functions
from syncbridge.config.queue import QueueConfig
from syncbridge.config.refusal import path_text, refusal
from syncbridge.errors import ConfigError

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


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
    raw = _load_yaml(text)
    if not isinstance(raw, dict):
        raise ConfigError("sync.yaml is empty or not a mapping", hint="it needs source.url, sink.url and mappings")
    try:
        config = Config.model_validate(_fill(raw, environ))
    except RecursionError:
        raise ConfigError("sync.yaml contains itself", hint="let no alias contain itself") from None
    except ValidationError as error:
        raise refusal(error, raw) from None  # the cause would carry the values, secrets included
    config = with_mapped_functions(config)
    return with_default_paths(config, environ, root=os.geteuid() == 0 if root is None else root)


def queue_from_options(options: Mapping[str, Any], base: QueueConfig, names: Mapping[str, str]) -> QueueConfig:
    """The queue section of a sync.yaml (`base`) with some of its settings replaced by a command's options.

    `options` is a section as it would be written, without what was not given; `names` says which option stands for a
    path in it (`tls.cert`: `--tls-cert`), for messages.
    """

    def name(loc: tuple[int | str, ...]) -> str:
        path = ".".join(part for part in loc if isinstance(part, str))
        return names.get(path, f"queue.{path_text(loc)}")

    given = {field: getattr(base, field) for field in base.model_fields_set}
    for field, value in options.items():
        if isinstance(value, dict):
            block = getattr(base, field)
            value = ({} if block is None else {f: getattr(block, f) for f in block.model_fields_set}) | value
        given[field] = value
    try:
        return QueueConfig.model_validate(given)
    except ValidationError as error:
        raise refusal(error, dict(options), model=QueueConfig, name=name) from None


class _Loader(yaml.SafeLoader):
    """YAML without its trap: a key written twice is an error here, not a silent last one wins."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode):
                if key_node.value in seen:
                    raise yaml.MarkedYAMLError(problem="a key is written twice", problem_mark=key_node.start_mark)
                seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _load_yaml(text: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        # PyYAML quotes what it stumbled over, which may be a password that should have stood in quotes.
        problem = re.sub(r"'[^']{2,}'", "…", str(getattr(error, "problem", "") or ""))
        hint = f"{problem}; put text with special characters in quotes" if problem else ""
        raise ConfigError(f"sync.yaml is not valid YAML{where}", hint=hint) from None
    except (ValueError, RecursionError):
        raise ConfigError(
            "sync.yaml is not valid YAML", hint="put dates in quotes, and let no alias contain itself"
        ) from None


def _fill(value: Any, environ: Mapping[str, str], path: tuple[int | str, ...] = ()) -> Any:
    if isinstance(value, dict):
        return {key: _fill(item, environ, (*path, str(key))) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, environ, (*path, index)) for index, item in enumerate(value)]
    if isinstance(value, str):
        if value.startswith("file:"):
            return _read_secret(value.removeprefix("file:"), path_text(path))
        return _PLACEHOLDER.sub(lambda match: _expand(match, value, environ, path_text(path)), value)
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
