"""Statement -> effects, as one table of cases; the real servers judge the schemas in tests/integration/test_ddl.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from syncbridge.capture.ddl.effects import (
    RowsInStatement,
    SchemaChanged,
    SchemaUnsure,
    TableCreated,
    TableDropped,
    TableRenamed,
    TableTruncated,
)
from syncbridge.capture.ddl.follow import Dialect, Effect, follow
from syncbridge.capture.schema import Column, TableSchema

SETS = {"utf8mb4": 4, "utf8mb3": 3, "latin1": 1, "ucs2": 2, "binary": 1}
COLLATIONS = {
    "utf8mb4_general_ci": "utf8mb4", "utf8mb4_0900_ai_ci": "utf8mb4", "utf8mb4_bin": "utf8mb4",
    "utf8mb3_general_ci": "utf8mb3", "latin1_swedish_ci": "latin1", "latin1_bin": "latin1",
    "ucs2_general_ci": "ucs2", "binary": "binary",
}  # fmt: skip
DEFAULTS = {
    "utf8mb4": "utf8mb4_general_ci", "utf8mb3": "utf8mb3_general_ci", "latin1": "latin1_swedish_ci",
    "ucs2": "ucs2_general_ci", "binary": "binary",
}  # fmt: skip
MARIADB = Dialect(True, 101119, DEFAULTS, COLLATIONS, SETS)
MYSQL = Dialect(False, 90704, DEFAULTS | {"utf8mb4": "utf8mb4_0900_ai_ci"}, COLLATIONS, SETS)

LATIN1 = {"charset": "latin1", "collation": "latin1_swedish_ci"}
ORDERS = TableSchema(
    "shop",
    "orders",
    (
        Column.parse("id", "int(11)", nullable=False),
        Column.parse("Name", "varchar(10)", **LATIN1),
        Column.parse("note", "text", **LATIN1),
        Column.parse("kind", "enum('a','b')", **LATIN1),
        Column.parse("twice", "int(11)", generated="virtual"),
    ),
    ("id",),
    "latin1_swedish_ci",
)
SHADOW = replace(ORDERS, table="_orders_gho")  # known, not mapped
KNOWN = {(schema.db, schema.table): schema for schema in (ORDERS, SHADOW)}
MAPPED = {("shop", "orders"), ("shop", "new"), ("shop", "archive")}


def effects(sql: str, *, db: str = "shop", dialect: Dialect = MARIADB, sql_mode: int = 0) -> list[Effect]:
    return follow(
        sql,
        db,
        lambda db, table: KNOWN.get((db, table)),
        lambda db, table: (db, table) in MAPPED,
        dialect=dialect,
        sql_mode=sql_mode,
        tables_of=lambda db: [table for known_db, table in KNOWN if known_db == db],
    )


def shape(schema: TableSchema | None) -> str:
    """A schema in one line: names, types and what is not usual; the primary key behind a bar."""
    if schema is None:
        return "?"
    columns = []
    for column in schema.columns:
        words = [column.name, column.column_type]
        if column.charset and column.charset != "latin1":
            words.append(column.charset)
        words += (
            ["json"] * column.json + ["invisible"] * column.invisible + ([column.generated] * bool(column.generated))
        )
        columns.append(" ".join(words) + "!" * (not column.nullable))
    return ", ".join(columns) + " | " + " ".join(schema.primary_key)


def brief(effect: Effect) -> str:
    match effect:
        case SchemaChanged():
            flags = " resnapshot" * effect.resnapshot + " reshaped" * effect.reshaped
            return f"changed {effect.table}{flags}: {shape(effect.schema)}"
        case TableCreated():
            return f"created {effect.table}: {shape(effect.schema)}"
        case TableRenamed():
            return f"renamed {effect.table} {effect.new_db}.{effect.new_table}: {shape(effect.schema)}"
        case TableDropped():
            return f"dropped {effect.table}"
        case TableTruncated():
            return f"truncated {effect.table}"
        case SchemaUnsure():
            return f"unsure {effect.table}"
        case RowsInStatement():
            return f"rows {effect.table}"


SAME = shape(ORDERS)
ID, NAME, NOTE, KIND, TWICE = SAME.removesuffix(" | id").split(", ")
#: (statement, what it does, each effect in one line)
CASES = [
    # Statements that do not matter
    ("BEGIN", []),
    ("COMMIT", []),
    ("SAVEPOINT `orders`", []),
    ("SET @orders = 1", []),
    ("# comment\nBEGIN", []),
    ("CREATE INDEX i ON orders (Name)", []),
    ("DROP INDEX i ON orders", []),
    ("CREATE OR REPLACE VIEW orders AS SELECT 1", []),
    ("CREATE TRIGGER orders BEFORE INSERT ON orders FOR EACH ROW SET @a = 1", []),
    ("CREATE TEMPORARY TABLE orders (id INT)", []),
    ("DROP TEMPORARY TABLE IF EXISTS orders", []),
    ("CREATE DATABASE orders", []),
    ("GRANT SELECT ON orders TO a", []),
    ("ANALYZE TABLE orders", []),
    ("ALTER TABLE other ADD COLUMN orders INT", []),
    ("ALTER DATABASE shop CHARACTER SET utf8mb4", []),
    ("ALTER VIEW orders AS SELECT 1", []),
    ("DROP TABLE other", []),
    ("CREATE TABLE other (id INT)", []),
    ("CREATE TABLE IF NOT EXISTS orders (id INT)", []),
    ("", []),
    # ALTER TABLE: same rows, same values
    ("ALTER TABLE orders ADD INDEX i (Name), COMMENT 'x, DROP COLUMN id'", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders ENGINE=InnoDB, AUTO_INCREMENT 7", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders ORDER BY id, Name DESC", [f"changed orders: {SAME}"]),
    (
        "alter online table if exists `shop`.`orders` nowait alter column Name set default 'x'",
        [f"changed orders: {SAME}"],
    ),
    ("ALTER TABLE orders ADD PARTITION (PARTITION p VALUES LESS THAN (9))", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders DROP FOREIGN KEY f, ALGORITHM=INPLACE, LOCK=NONE", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders PARTITION BY HASH (id) PARTITIONS 4", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders ADD COLUMN IF NOT EXISTS NAME INT", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders DROP COLUMN IF EXISTS nothing", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders DEFAULT CHARSET utf8mb4", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders MODIFY Name VARCHAR(10) DEFAULT 'it''s' COMMENT 'a'", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders ADD x INT", [f"changed orders reshaped: {SAME.replace(' |', ', x int(11) |')}"]),
    (
        "ALTER TABLE orders ADD (x INT DEFAULT NULL, y BLOB(9), KEY (x))",
        [f"changed orders reshaped: {SAME.replace(' |', ', x int(11), y tinyblob |')}"],
    ),
    # ALTER TABLE: other values
    (
        "ALTER TABLE orders ADD COLUMN x TINYINT UNSIGNED DEFAULT (1 + 1) AFTER `id`",
        [f"changed orders resnapshot reshaped: {ID}, x tinyint(3) unsigned, {SAME[len(ID) + 2 :]}"],
    ),
    (
        "ALTER TABLE orders ADD x INT NOT NULL FIRST, DROP twice",
        [f"changed orders resnapshot reshaped: x int(11)!, {ID}, {NAME}, {NOTE}, {KIND} | id"],
    ),
    (
        "ALTER TABLE orders ADD x DATETIME(3) AS (now()) STORED INVISIBLE",
        [f"changed orders resnapshot reshaped: {SAME.replace(' |', ', x datetime(3) invisible stored |')}"],
    ),
    (
        "ALTER TABLE orders CHANGE name `na``me` VARCHAR(20) CHARACTER SET utf8 NOT NULL",
        [f"changed orders resnapshot reshaped: {SAME.replace(NAME, 'na`me varchar(20) utf8mb3!')}"],
    ),
    (
        "ALTER TABLE orders RENAME COLUMN id TO note, RENAME COLUMN note TO id",
        [f"changed orders resnapshot reshaped: note int(11)!, {NAME}, id text, {KIND}, {TWICE} | note"],
    ),
    (
        "ALTER TABLE orders MODIFY note TEXT AFTER id",
        [f"changed orders reshaped: {ID}, {NOTE}, {NAME}, {KIND}, {TWICE} | id"],
    ),
    (
        "ALTER TABLE orders MODIFY note JSON",
        [f"changed orders resnapshot: {SAME.replace(NOTE, 'note longtext utf8mb4 json')}"],
    ),
    ("ALTER TABLE orders DROP PRIMARY KEY", [f"changed orders resnapshot: {SAME.replace('| id', '| ')}"]),
    ("DROP INDEX `PRIMARY` ON orders", [f"changed orders resnapshot: {SAME.replace('| id', '| ')}"]),
    (
        "ALTER TABLE orders DROP PRIMARY KEY, ADD CONSTRAINT pk PRIMARY KEY USING BTREE (name(3) DESC, ID)",
        [f"changed orders resnapshot: {SAME.replace(NAME, NAME + '!').replace('| id', '| Name id')}"],
    ),
    (
        "ALTER TABLE orders CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        [f"changed orders resnapshot: {ID}, {NAME} utf8mb4, note mediumtext utf8mb4, {KIND} utf8mb4, {TWICE} | id"],
    ),
    (
        "ALTER TABLE orders MODIFY nAME VARCHAR(10)",
        [f"changed orders resnapshot reshaped: {SAME.replace('Name', 'nAME')}"],
    ),
    ("ALTER TABLE orders TRUNCATE PARTITION p0, p1", [f"changed orders resnapshot: {SAME}"]),
    ("ALTER TABLE orders DROP PARTITION p0", [f"changed orders resnapshot: {SAME}"]),
    ("ALTER TABLE orders IMPORT TABLESPACE", [f"changed orders resnapshot: {SAME}"]),
    ("ALTER IGNORE TABLE orders ADD UNIQUE (Name)", [f"changed orders resnapshot: {SAME}"]),
    ("ALTER TABLE orders ENGINE=BLACKHOLE", [f"changed orders resnapshot: {SAME}"]),
    (
        "ALTER TABLE orders EXCHANGE PARTITION p WITH TABLE archive WITHOUT VALIDATION",
        [f"changed orders resnapshot: {SAME}", "unsure archive"],
    ),
    (
        "ALTER TABLE other EXCHANGE PARTITION p WITH TABLE orders",
        [f"changed orders resnapshot: {SAME}"],
    ),
    # Doubt
    ("ALTER TABLE orders ADD COLUMN name INT", ["unsure orders"]),
    ("ALTER TABLE orders DROP COLUMN nothing", ["unsure orders"]),
    ("ALTER TABLE orders ADD x UNHEARD_OF", ["unsure orders"]),
    ("ALTER TABLE orders ADD x VARCHAR(9) COMPRESSED", ["unsure orders"]),
    ("ALTER TABLE orders ADD x VARCHAR(9) COLLATE klingon_ci", ["unsure orders"]),
    ("ALTER TABLE orders ADD SYSTEM VERSIONING", ["unsure orders"]),
    ("ALTER TABLE orders CONVERT TO CHARACTER SET DEFAULT", ["unsure orders"]),
    ("ALTER TABLE orders CONVERT PARTITION p TO TABLE x", ["unsure orders"]),
    ("ALTER TABLE orders ADD CONSTRAINT CHECK (json_valid(note))", ["unsure orders"]),
    ("ALTER TABLE orders SOMETHING NEW", ["unsure orders"]),
    ("ALTER TABLE archive ADD x INT", ["unsure archive"]),
    ("ALTER TABLE `orders", ["unsure orders"]),
    ("MANGLE TABLE orders", ["unsure orders"]),
    ("MANGLE TABLE `new` FORCE", ["unsure new"]),
    ("MANGLE TABLE other", []),
    ("SET STATEMENT sql_mode='ORACLE' FOR ALTER TABLE orders ADD x INT", ["unsure orders"]),
    (
        "SET STATEMENT max_statement_time=0, lock_wait_timeout=5 FOR ALTER TABLE orders FORCE",
        [f"changed orders: {SAME}"],
    ),
    # MariaDB's hidden columns of unique keys over long columns
    ("ALTER TABLE orders ADD UNIQUE (note)", ["unsure orders"]),
    ("ALTER TABLE orders ADD UNIQUE KEY u (note(10), id)", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders ADD x VARCHAR(4000) CHARSET latin1 UNIQUE", ["unsure orders"]),
    ("ALTER TABLE orders MODIFY Name TEXT", ["unsure orders"]),
    ("CREATE UNIQUE INDEX u USING BTREE ON orders (note)", ["unsure orders"]),
    ("CREATE UNIQUE INDEX u ON orders (Name)", []),
    ("CREATE TABLE new (id INT PRIMARY KEY, t TEXT UNIQUE) CHARSET latin1", ["created new: ?"]),
    # Comments that one server executes
    ("/* a */ -- b\n ALTER /*!50000 TABLE orders */ /* DROP id */ FORCE", [f"changed orders: {SAME}"]),
    (
        "ALTER TABLE orders DROP twice /*M!100000 , DROP note */",
        [f"changed orders resnapshot reshaped: {ID}, {NAME}, {KIND} | id"],
    ),
    ("ALTER TABLE orders FORCE /*!80000 , DROP note */", [f"changed orders: {SAME}"]),
    ("ALTER TABLE orders FORCE /*!999999 , DROP note */", [f"changed orders: {SAME}"]),
    # Tables that come, go and change places
    ("TRUNCATE orders", ["truncated orders"]),
    ("TRUNCATE TABLE `shop`.`orders` NOWAIT", ["truncated orders"]),
    (
        "DROP TABLE IF EXISTS other, `orders`, shop.archive /* generated by server */",
        ["dropped orders", "dropped archive"],
    ),
    ("DROP DATABASE IF EXISTS shop", ["dropped _orders_gho", "dropped orders"]),
    ("CREATE TABLE new LIKE orders", [f"created new: {SAME}"]),
    ("CREATE TABLE _orders_ghost (LIKE shop.orders)", [f"created _orders_ghost: {SAME}"]),
    ("CREATE TABLE new LIKE other", ["created new: ?"]),
    ("CREATE TABLE new (id INT PRIMARY KEY)", ["created new: ?"]),
    (
        "CREATE OR REPLACE TABLE orders (id SERIAL, n VARCHAR(5), PRIMARY KEY (id)) COLLATE latin1_bin ENGINE=InnoDB"
        " PARTITION BY RANGE (id) (PARTITION p VALUES LESS THAN (5))",
        ["dropped orders", "created orders: id bigint(20) unsigned!, n varchar(5) | id"],
    ),
    ("CREATE TABLE new (id INT) CHARSET=latin1 AS SELECT 1 AS id", ["created new: ?", "rows new"]),
    ("CREATE TABLE new SELECT * FROM other", ["created new: ?", "rows new"]),
    (
        "RENAME TABLE orders TO _orders_del, _orders_gho TO orders",
        [f"renamed orders shop._orders_del: {SAME}", f"renamed _orders_gho shop.orders: {SAME}"],
    ),
    ("RENAME TABLE other TO x.y, q TO new", ["renamed q shop.new: ?"]),
    ("RENAME TABLE orders WAIT 5 TO b, b TO c", [f"renamed orders shop.b: {SAME}", f"renamed b shop.c: {SAME}"]),
    ("ALTER TABLE orders RENAME TO x.y", [f"renamed orders x.y: {SAME}"]),
    ("ALTER TABLE other RENAME AS orders", ["renamed other shop.orders: ?"]),
    (
        "ALTER TABLE orders DROP note, RENAME x, DROP kind",
        [
            f"changed orders resnapshot reshaped: {ID}, {NAME}, {TWICE} | id",
            f"renamed orders shop.x: {ID}, {NAME}, {TWICE} | id",
        ],
    ),
    ("ALTER TABLE orders WHATEVER, RENAME archive", ["renamed orders shop.archive: ?"]),
    # Rows in statements
    ("INSERT INTO orders VALUES (1)", ["rows orders"]),
    ("REPLACE LOW_PRIORITY `shop`.orders SELECT * FROM other", ["rows orders"]),
    ("INSERT INTO other SELECT * FROM orders", []),
    ("UPDATE other o JOIN orders ON o.id = orders.id SET orders.note = ''", ["rows orders"]),
    ("DELETE FROM `shop`.`orders`", ["rows orders"]),
    ("DELETE FROM other WHERE orders = 1", []),
    ("WITH x AS (SELECT 1) DELETE FROM orders", ["rows orders"]),
    ("LOAD DATA INFILE 'orders' REPLACE INTO TABLE orders (id)", ["rows orders"]),
    ("LOAD DATA INFILE 'orders' INTO TABLE other", []),
]


@pytest.mark.parametrize(("sql", "expected"), CASES, ids=[sql for sql, _ in CASES])
def test_a_statement_has_these_effects(sql: str, expected: list[str]) -> None:
    assert [brief(effect) for effect in effects(sql)] == expected


def test_the_default_database_completes_names() -> None:
    assert effects("TRUNCATE orders", db="other") == []
    assert effects("TRUNCATE shop.orders", db="other") == [TableTruncated("shop", "orders")]


def test_names_are_folded_where_the_server_folds_them() -> None:
    assert effects("TRUNCATE Orders") == []
    assert effects("TRUNCATE Orders", dialect=replace(MARIADB, fold_names=True)) == [TableTruncated("shop", "orders")]


def test_double_quotes_are_names_under_ansi_quotes() -> None:
    sql = 'ALTER TABLE "orders" DROP COLUMN "note"'
    assert brief(effects(sql, sql_mode=0x4)[0]).startswith("changed orders resnapshot")
    assert effects(sql) == []  # MySQL itself refuses it, so no table is named


def test_backslashes_are_plain_under_no_backslash_escapes() -> None:
    sql = r"ALTER TABLE orders COMMENT 'a\', DROP COLUMN note, COMMENT 'b'"
    assert brief(effects(sql, sql_mode=0x100000)[0]).startswith("changed orders resnapshot")
    assert brief(effects(sql)[0]) == "unsure orders"


@pytest.mark.parametrize("sql_mode", [0x200, 0x1000])
def test_modes_that_rename_types_make_definitions_unsure(sql_mode: int) -> None:
    assert brief(effects("ALTER TABLE orders ADD x INT", sql_mode=sql_mode)[0]) == "unsure orders"


def test_real_is_float_only_where_the_mode_says_so() -> None:
    assert ", x double |" in brief(effects("ALTER TABLE orders ADD x REAL")[0])
    assert ", x float |" in brief(effects("ALTER TABLE orders ADD x REAL", sql_mode=1)[0])


def test_mysql_shows_integers_without_display_width_and_knows_json() -> None:
    sql = "ALTER TABLE orders ADD (a INT(5), b BOOL, c INT ZEROFILL, d JSON, e YEAR, f VECTOR, g POINT SRID 4326)"
    added = "a int, b tinyint(1), c int(10) unsigned zerofill, d json json, e year, f vector(2048), g point"
    effect = effects(sql, dialect=MYSQL)[0]
    assert brief(effect) == f"changed orders reshaped: {SAME.replace(' |', f', {added} |')}"
    assert isinstance(effect, SchemaChanged)
    assert effect.schema.columns[-1].axes_swapped


def test_mysql_ignores_comments_for_mariadb() -> None:
    sql = "ALTER TABLE orders FORCE /*M!100000 , DROP note */ /*!80000 , DROP kind */"
    assert (
        brief(effects(sql, dialect=MYSQL)[0])
        == f"changed orders resnapshot reshaped: {ID}, {NAME}, {NOTE}, {TWICE} | id"
    )


def test_mysql_may_add_a_primary_key_to_a_table_without_one() -> None:
    sql = "CREATE TABLE new (id INT) CHARSET latin1"
    assert brief(effects(sql)[0]) == "created new: id int(11) | "
    assert brief(effects(sql, dialect=MYSQL)[0]) == "created new: ?"


def test_a_timestamp_without_explicit_defaults_is_not_null() -> None:
    old = replace(MARIADB, explicit_timestamps=False)
    effect = brief(effects("ALTER TABLE orders ADD x TIMESTAMP, ADD y TIMESTAMP NULL", dialect=old)[0])
    assert ", x timestamp!, y timestamp |" in effect
    assert effect.startswith("changed orders resnapshot")


def test_the_new_default_character_set_holds_for_columns_of_the_same_statement() -> None:
    effect = effects("ALTER TABLE orders ADD x VARCHAR(3), DEFAULT CHARSET utf8mb4")[0]
    assert isinstance(effect, SchemaChanged)
    assert (effect.schema.columns[-1].charset, effect.schema.collation) == ("utf8mb4", "utf8mb4_general_ci")


def test_without_a_known_table_default_only_spelt_out_character_sets_are_certain() -> None:
    bare = replace(ORDERS, collation=None)
    for definition, certain in [("INT", True), ("TEXT", False), ("TEXT CHARSET latin1", True)]:
        sql = f"ALTER TABLE orders ADD x {definition}"
        found = follow(sql, "shop", lambda *_: bare, lambda *_: True, dialect=MARIADB)
        assert isinstance(found[0], SchemaChanged if certain else SchemaUnsure)


def test_words_of_a_strange_statement_are_no_tables_of_a_whole_database_mapping() -> None:
    assert follow("MANGLE TABLE t FORCE", "shop", lambda *_: None, lambda *_: True, dialect=MARIADB) == []
