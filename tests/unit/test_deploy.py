"""The files under deploy/ and triggers/ say what the program does."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncbridge.config import load_config
from syncbridge.config.load import parse_config
from syncbridge.errors import ConfigError

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = REPOSITORY / "deploy" / "sync.yaml"


def test_the_example_is_a_valid_configuration() -> None:
    config = load_config(EXAMPLE, {"MYSQL_PASSWORD": "p@ss/w:rd"})
    assert config.source.url[0].password == "p@ss/w:rd"
    assert {mapping.type for mapping in config.mappings} == {"hash", "json", "string"}


def test_the_example_shows_the_defaults() -> None:
    shown = load_config(EXAMPLE, {"MYSQL_PASSWORD": "x"})
    least = parse_config(
        "{name: shop, source: {url: 'mysql://a@b'}, sink: {url: 'redis://c'}, mappings: [{table: shop.orders}]}", {}
    )
    for section in ("queue", "retry", "http"):
        assert getattr(shown, section) == getattr(least, section)
    assert shown.sink.model_copy(update={"url": least.sink.url}) == least.sink
    assert shown.source.model_copy(update={"url": least.source.url}) == least.source


def test_trigger_capture_is_refused_with_the_sentence_of_its_readme() -> None:
    text = "{source: {url: 'mysql://a@b', capture: trigger}, sink: {url: 'redis://c'}, mappings: [{table: a.b}]}"
    with pytest.raises(ConfigError) as refused:
        parse_config(text, {})
    sentence = "trigger capture is not built yet; write binlog"
    assert sentence in str(refused.value) + (refused.value.hint or "")
    assert sentence in (REPOSITORY / "triggers" / "README.md").read_text()
