"""The files under deploy/ and triggers/ say what the program does."""

from __future__ import annotations

from pathlib import Path

from syncbridge.config import load_config
from syncbridge.config.load import parse_config

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
