"""`syncbridge triggers` where the source is not as install left it: tables swapped, rights and accounts gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from tests.integration.trigger_tools import insert, installed, orders_pipeline
from tests.pipeline import Pipeline, wait_same
from tests.servers import Redis, SqlServer, eventually


@pytest.fixture
def pipeline(source: SqlServer, redis_server: Redis, tmp_path: Path) -> Pipeline:
    return orders_pipeline(tmp_path, source, redis_server)


def test_a_table_put_in_place_of_another_gets_triggers_of_its_own(pipeline: Pipeline, source: SqlServer) -> None:
    """RENAME takes the triggers along, under the names that the new table's triggers must have."""
    insert(source, *range(20))
    installed(pipeline)
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
        source.execute(
            "CREATE TABLE orders_new LIKE orders",
            "INSERT INTO orders_new SELECT * FROM orders",
            "RENAME TABLE orders TO orders_old, orders_new TO orders",
        )
        eventually(lambda: f"the triggers of {source.database}.orders are missing" in pipeline.log(), timeout=20)
        status = pipeline.command("triggers", "status", "--json")
        assert status.returncode == 1
        assert '"missing": 3' in status.stdout
        assert '"stale": 3' in status.stdout
        assert "orders_old" in status.stdout
        assert "triggers are missing" in pipeline.command("check").stdout
        source.execute("UPDATE orders SET note = 'before install' WHERE id = 1", "DELETE FROM orders_old WHERE id = 2")
        assert "3 triggers made, 3 stale removed" in pipeline.command("triggers", "install").stdout
        assert pipeline.command("triggers", "status").returncode == 0
        source.execute("UPDATE orders SET note = 'new' WHERE id = 3", "DELETE FROM orders WHERE id = 4")
        source.execute("DELETE FROM orders_old WHERE id IN (5, 6)")
        insert(source, 100)
        assert wait_same(pipeline, "orders", "order:") == 20
        done = pipeline.command("verify")
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def trusting(source: SqlServer) -> Iterator[None]:
    """A source whose triggers may be made and dropped without SUPER."""
    before = source.value("SELECT @@global.log_bin_trust_function_creators")
    source.execute("SET GLOBAL log_bin_trust_function_creators = ON")
    yield
    source.execute(f"SET GLOBAL log_bin_trust_function_creators = {before}")


def as_account(pipeline: Pipeline, user: str, *grants: str) -> None:
    """The pipeline as this new account of the source runs it."""
    with pipeline.source.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f"DROP USER IF EXISTS '{user}'@'127.0.0.1'")
    pipeline.source.create_user(user, "pw", *grants)
    pipeline.settings["source"]["url"] = pipeline.source.url(user, "pw")
    pipeline.write_config()


@pytest.mark.usefixtures("trusting")
def test_remove_drops_no_outbox_under_triggers_that_it_cannot_see(pipeline: Pipeline, source: SqlServer) -> None:
    """A trigger without its outbox fails every statement of the user."""
    installed(pipeline)
    as_account(pipeline, "blind", f"SELECT ON {source.database}.*", "ALL ON syncbridge.*")
    removed = pipeline.command("triggers", "remove")
    assert removed.returncode == 2, removed.stdout
    assert f"GRANT TRIGGER ON `{source.database}`.`orders`" in removed.stderr
    insert(source, 1)
    # Formerly mapped: nobody can tell it from here.
    other = f"{source.database}_other"
    source.execute(f"CREATE DATABASE {other}", f"CREATE TABLE {other}.orders (id INT PRIMARY KEY)")
    pipeline.settings["mappings"][0]["table"] = f"{other}.orders"
    as_account(pipeline, "blind", f"SELECT, TRIGGER ON {other}.*", "ALL ON syncbridge.*")
    removed = pipeline.command("triggers", "remove")
    assert removed.returncode == 0, removed.stderr
    assert "the outbox stays" in removed.stdout
    insert(source, 2)
    assert source.value("SELECT COUNT(*) FROM syncbridge.outbox_shop") == 1, "emptied, so that capture reads again"
    assert '"outbox": "emptied"' in pipeline.command("triggers", "remove", "--json").stdout
    # Who sees every trigger takes all of it off.
    as_account(pipeline, "sees", f"SELECT ON {other}.*", "TRIGGER ON *.*", "ALL ON syncbridge.*")
    removed = pipeline.command("triggers", "remove")
    assert removed.stdout == "3 triggers and the outbox removed\n", removed.stderr
    assert pipeline.command("triggers", "remove").returncode == 0, "a second time there is nothing"
    insert(source, 3)
    source.execute(f"DROP DATABASE {other}")


@pytest.mark.usefixtures("trusting")
def test_an_account_with_the_documented_rights_installs_runs_and_removes(pipeline: Pipeline, source: SqlServer) -> None:
    """What was written between remove and install is read, although the outbox stayed."""
    mapped = f"SELECT, TRIGGER ON {source.database}.*"
    as_account(pipeline, "owner", mapped, "CREATE, DROP, SELECT, INSERT, DELETE ON syncbridge.*")
    insert(source, *range(10))
    installed(pipeline)
    as_account(pipeline, "runner", mapped, "SELECT, INSERT, DELETE ON syncbridge.*")
    with pipeline.running():
        wait_same(pipeline, "orders", "order:")
    pipeline.settings["source"]["url"] = source.url("owner", "pw")
    pipeline.write_config()
    removed = pipeline.command("triggers", "remove")
    assert removed.returncode == 0, removed.stderr
    source.execute("UPDATE orders SET note = 'between' WHERE id = 3", "DELETE FROM orders WHERE id = 4")
    installed(pipeline)
    with pipeline.running():
        source.execute("UPDATE orders SET note = 'after' WHERE id = 5")
        assert wait_same(pipeline, "orders", "order:") == 9


def test_triggers_without_their_outbox_are_told(pipeline: Pipeline, source: SqlServer) -> None:
    """Every statement of the user fails: whoever looks must be told, and install mends it."""
    installed(pipeline)
    source.execute("DROP TABLE syncbridge.outbox_shop")
    with pytest.raises(pymysql.MySQLError, match="1146"):
        insert(source, 1)
    status = pipeline.command("triggers", "status")
    assert status.returncode == 1
    assert "syncbridge.outbox_shop does not exist" in status.stdout
    assert "fails: syncbridge triggers install" in status.stdout
    assert "does not exist" in pipeline.command("triggers", "status", "--json").stdout
    checked = pipeline.command("check")
    assert checked.returncode == 1
    assert "syncbridge.outbox_shop does not exist" in checked.stdout
    assert pipeline.command("triggers", "install").returncode == 0
    assert pipeline.command("triggers", "status").returncode == 0
    insert(source, 1)


@pytest.mark.usefixtures("trusting")
def test_triggers_whose_definer_is_gone_are_told_and_made_again(pipeline: Pipeline, source: SqlServer) -> None:
    """A trigger runs with the rights of the account that made it: without that account, every statement fails."""
    root = pipeline.settings["source"]["url"]
    grants = (f"SELECT, TRIGGER ON {source.database}.*", "CREATE, DROP, SELECT, INSERT, DELETE ON syncbridge.*")
    as_account(pipeline, "leaver", *grants)
    installed(pipeline)
    as_account(pipeline, "stayer", *grants)
    stayer = pipeline.settings["source"]["url"]
    source.execute("DROP USER 'leaver'@'127.0.0.1'")
    with pytest.raises(pymysql.MySQLError, match="1449"):
        insert(source, 1)
    # Who may not read mysql.user cannot know, and says nothing of it.
    assert pipeline.command("triggers", "status").returncode == 0
    pipeline.settings["source"]["url"] = root
    pipeline.write_config()
    status = pipeline.command("triggers", "status")
    assert status.returncode == 1
    assert "leaver@127.0.0.1" in status.stdout
    checked = pipeline.command("check")
    assert checked.returncode == 1
    assert "leaver@127.0.0.1" in checked.stdout
    source.execute("GRANT SELECT ON mysql.user TO 'stayer'@'127.0.0.1'")
    pipeline.settings["source"]["url"] = stayer
    pipeline.write_config()
    done = pipeline.command("triggers", "install")
    assert "0 triggers made, 0 stale removed, 3 made again for an account that is gone, 0 were in place" in done.stdout
    assert pipeline.command("triggers", "status").returncode == 0
    insert(source, 1)
    assert source.value("SELECT COUNT(*) FROM syncbridge.outbox_shop") == 1
