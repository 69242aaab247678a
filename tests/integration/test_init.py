"""`init` writes a sync.yaml that `check` finds nothing wrong with, and no password into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from syncbridge.config import load_config
from tests.cli import in_process
from tests.servers import Redis, SqlServer, free_port

SECRET = "s3cret:p@ss"


def test_a_new_sync_yaml_passes_check(source: SqlServer, redis_server: Redis, tmp_path: Path) -> None:
    db, output = source.database, tmp_path / "sync.yaml"
    source.execute(
        "CREATE TABLE orders (id INT PRIMARY KEY)",
        "CREATE TABLE `odd {name}` (a VARCHAR(9), b INT, PRIMARY KEY (b, a))",
        "CREATE TABLE no_key (a INT)",
        "DROP USER IF EXISTS init@'127.0.0.1'",
    )
    source.create_user("init", SECRET, f"SELECT ON {db}.*", "REPLICATION SLAVE, REPLICATION CLIENT ON *.*")
    source.execute("GRANT CREATE, SELECT, INSERT, UPDATE ON syncbridge.* TO init@'127.0.0.1'")
    try:
        made = in_process(
            "init", "--source", source.url("init", SECRET), "--sink", redis_server.url(), "--output", output
        )
        assert made.returncode == 0, made.stderr
        assert "left out" in made.stdout
        assert "export MYSQL_PASSWORD" in made.stdout
        text = output.read_text()
        assert SECRET not in text + made.stdout + made.stderr
        assert "s3cret" not in text + made.stdout + made.stderr
        config = load_config(output, {"MYSQL_PASSWORD": SECRET})
        assert [mapping.table for mapping in config.mappings] == [f"{db}.odd {{name}}", f"{db}.orders"]
        assert [mapping.key for mapping in config.mappings] == ["odd {{name}}:{_key}", "orders:{id}"]
        assert config.source.url[0].password == SECRET

        extra = (
            f"queue: {{listen: '127.0.0.1:{free_port()}', store: 'sqlite:///{tmp_path}/q.db'}}\nhttp: {{listen: off}}\n"
        )
        output.write_text(f"{text}{extra}state: sqlite:///{tmp_path}/s.db\n")
        checked = in_process("check", "--config", output, "--json", environment={"MYSQL_PASSWORD": SECRET})
        found = json.loads(checked.stdout)
        assert (checked.returncode, found["errors"]) == (0, 0), found
    finally:
        source.execute("DROP USER init@'127.0.0.1'")


def test_chosen_tables_only_and_no_overwriting(mariadb: SqlServer, tmp_path: Path) -> None:
    db, output = mariadb.database, tmp_path / "sync.yaml"
    mariadb.execute("CREATE TABLE a (id INT PRIMARY KEY)", "CREATE TABLE b (id INT PRIMARY KEY)")
    words = ("init", "--source", mariadb.url(), "--table", f"{db}.b", "--output", output)
    made = in_process(*words, "--json")
    assert json.loads(made.stdout) == {"output": str(output), "tables": [f"{db}.b"], "left_out": {}, "export": []}
    before = output.read_text()
    again = in_process(*words)
    assert again.returncode == 2
    assert "--force" in again.stderr
    assert output.read_text() == before
    assert in_process(*words, "--force", "--name", "other").returncode == 0
    assert load_config(output, {}).name == "other"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--table", "no.such"], 2, "no.such does not exist"),
        (["--table", "orders"], 2, "write db.table"),
        (["--sink", f"http://:{SECRET}@h"], 2, "--sink"),
        (["--output", "/proc/no/sync.yaml"], 2, "cannot write"),
        (["--name", "Not A Name"], 2, "lower-case"),
    ],
)
def test_what_cannot_be_is_said(
    mariadb: SqlServer, tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    mariadb.execute("CREATE TABLE orders (id INT PRIMARY KEY)")
    words = ["init", "--source", mariadb.url(), "--output", str(tmp_path / "sync.yaml"), *arguments]
    done = in_process(*words)
    assert done.returncode == code
    assert message in done.stderr
    assert "s3cret" not in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "sync.yaml").exists()
