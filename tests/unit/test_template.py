"""Key templates."""

from __future__ import annotations

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncbridge.template import Template, join_key


def render(text: str, **values: str | None) -> str | None:
    return Template(text).render(values.__getitem__)


def test_placeholders_are_replaced() -> None:
    assert render("order:{id}", id="42") == "order:42"
    assert render("{a}-{b}-{a}", a="1", b="2") == "1-2-1"
    assert Template("{a}-{b}-{a}").columns == ("a", "b")


def test_null_makes_no_key() -> None:
    assert render("user:{email}", email=None) is None


def test_double_braces_are_literal() -> None:
    assert render("{{{tenant}}}:order:{id}", tenant="t", id="1") == "{t}:order:1"


@pytest.mark.parametrize("text", ["order:{", "order:}", "order:{}", "{a{b}}"])
def test_a_lone_brace_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        Template(text)


def test_the_glob_escapes_what_redis_would_expand() -> None:
    assert Template("a*[x]?:{id}").glob("t") == r"a\*\[x\]\?:*"
    assert Template("{_table}:{_key}").glob("orders") == "orders:*"


@given(st.dictionaries(st.sampled_from("ab"), st.text(), min_size=2))
def test_every_key_matches_its_glob(values: dict[str, str]) -> None:
    template = Template("x:{a}:{b}")
    key = template.render(values.__getitem__)
    assert key is not None
    assert fnmatch.fnmatchcase(key.replace("\n", ""), template.glob("t"))


@given(st.lists(st.text(), min_size=2, max_size=2), st.lists(st.text(), min_size=2, max_size=2))
def test_different_keys_have_different_text(one: list[str], other: list[str]) -> None:
    assert (join_key(one) == join_key(other)) == (one == other)
