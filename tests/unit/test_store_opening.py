"""From a store URL to a store, or to a sentence."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from syncbridge.dispatch.store import Promise
from syncbridge.dispatch.store.memory import MemoryStore
from syncbridge.dispatch.store.opening import open_store
from syncbridge.dispatch.store.sqlite import SqliteStore
from syncbridge.errors import ConfigError


@pytest.mark.parametrize("durability", [Promise.FULL, Promise.BATCH])
def test_sqlite_absolute_and_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Promise) -> None:
    monkeypatch.chdir(tmp_path)
    for url, path in (("sqlite:///a.db", "a.db"), (f"sqlite:///{tmp_path}/sub/b.db", "sub/b.db")):
        store = open_store(url, durability=durability)
        assert isinstance(store, SqliteStore)
        assert store.promise is durability
        assert (tmp_path / path).exists()
        store.close()


def test_memory_by_url_or_by_durability(tmp_path: Path) -> None:
    assert isinstance(open_store("memory:"), MemoryStore)
    store = open_store(f"sqlite:///{tmp_path}/queue.db", durability=Promise.MEMORY)
    assert store.promise is Promise.MEMORY
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("url", "message", "hint"),
    [
        ("oracle://u:secret@h/db", "there is no store oracle://", "sqlite:///queue.db"),
        ("queue.db", "is not a URL", "sqlite:///queue.db"),
        ("redis:somewhere:secret", "there is no store redis://", "redis://"),
        ("memory://x", "there is no store memory://", "memory:"),
        ("sqlite://queue.db", "names no file", "sqlite:////absolute"),
        ("sqlite:///", "names no file", "sqlite:////absolute"),
        ("sqlite:///:memory:", "names no file", "memory: for no file"),
        ("sqlite:///q.db?timeout=3", "has none", "remove"),
    ],
)
@pytest.mark.parametrize("durability", [Promise.FULL, Promise.MEMORY])
def test_bad_urls_are_one_sentence(url: str, message: str, hint: str, durability: Promise) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(url, durability=durability)
    assert message in str(caught.value)
    assert hint in caught.value.hint
    assert "secret" not in f"{caught.value}{caught.value.hint}"


@pytest.mark.parametrize(
    ("url", "driver", "extra"),
    [
        ("postgresql://u:secret@127.0.0.1:1/db", "psycopg", "syncbridge[postgresql]"),
        ("memcached://127.0.0.1:1", "pymemcache", "syncbridge[memcached]"),
    ],
)
def test_a_missing_driver_says_what_to_install(url: str, driver: str, extra: str) -> None:
    program = (
        "import sys\n"
        "sys.modules[sys.argv[2]] = None\n"
        "from syncbridge.dispatch.store.opening import open_store\n"
        "from syncbridge.errors import ConfigError\n"
        "try: open_store(sys.argv[1])\n"
        "except ConfigError as error: print(error, '|', error.hint)\n"
    )
    run = subprocess.run([sys.executable, "-c", program, url, driver], capture_output=True, text=True, check=True)
    assert driver in run.stdout
    assert f"pip install '{extra}'" in run.stdout


def test_only_the_engine_asked_for_is_imported() -> None:
    program = (
        "import sys\n"
        "from syncbridge.dispatch.store.opening import open_store\n"
        "open_store('memory:')\n"
        "print([name for name in ('redis', 'sqlalchemy', 'psycopg', 'pymemcache', 'sqlite3') if name in sys.modules])\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
