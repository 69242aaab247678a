"""sync.yaml: what is filled in, and that every refusal names the path, the value and the mend, and no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from syncbridge.config import (
    Address,
    Config,
    OnDelete,
    QueueConfig,
    Ttl,
    Url,
    load_config,
    parse_config,
    queue_from_options,
)
from syncbridge.errors import ConfigError

MINIMAL = """
source: {url: "mysql://repl@127.0.0.1"}
sink: {url: "redis://127.0.0.1"}
mappings: [{table: shop.orders}]
"""
SECRET = "s3cret-p4ss"


def parse(text: str, **environ: str) -> Config:
    return parse_config(text, {"HOME": "/home/ann", **environ}, root=False)


def refused(text: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(text, **environ)
    error = caught.value
    assert error.exit_code == 2
    assert SECRET not in str(error) + error.hint
    assert error.__cause__ is None or SECRET not in str(error.__cause__)
    return error


def with_mapping(options: str) -> str:
    return f"""
source: {{url: "mysql://repl@127.0.0.1"}}
sink: {{url: "redis://127.0.0.1"}}
mappings:
  - {{table: shop.orders, {options}}}
"""


def with_source(options: str) -> str:
    return f"""
source: {{{options}}}
sink: {{url: "redis://127.0.0.1"}}
mappings: [{{table: shop.orders}}]
"""


# Defaults


def test_three_settings_are_enough() -> None:
    config = parse(MINIMAL)
    assert config.name == "syncbridge"
    assert config.queue.store == "sqlite:////home/ann/.local/state/syncbridge/syncbridge/queue.db"
    assert config.state == "sqlite:////home/ann/.local/state/syncbridge/syncbridge/state.db"
    assert config.http.listen == Address("127.0.0.1", 9108)
    assert config.queue.listen == (Address("127.0.0.1", 4730),)
    assert config.mappings[0].key == "{_table}:{_key}"


def test_files_go_under_xdg_state_home_or_var_lib() -> None:
    assert "/xdg/syncbridge/shop/state.db" in parse("name: shop" + MINIMAL, XDG_STATE_HOME="/xdg").state
    assert parse_config(MINIMAL, {}, root=True).queue.store_path == Path("/var/lib/syncbridge/syncbridge/queue.db")


def test_server_id_is_stable_and_large_unless_given() -> None:
    assert parse(MINIMAL).server_id == parse(MINIMAL).server_id > 2**30
    assert parse(with_source('url: "mysql://h", server_id: 4001')).server_id == 4001


def test_values_are_parsed() -> None:
    config = parse(with_mapping('key: "o:{id}", ttl: 7d, on_delete: expire:1h') + "retry: {backoff: 500ms}")
    assert config.mappings[0].ttl == Ttl(seconds=7 * 86400.0)
    assert config.mappings[0].on_delete == OnDelete("expire", 3600.0)
    assert config.retry.backoff == 0.5
    assert parse(MINIMAL + "http: {listen: off}").http.listen is None


FUNCTION = """
sink: {url: "redis://127.0.0.1"}
mappings: [{function: "sync[1]", key: "o:{id}", delete_when: "_op = 'delete'"}, {function: mail.x, key: "m:{id}"}]
"""


def test_functions_need_no_source_and_their_jobs_are_durable() -> None:
    config = parse(FUNCTION)
    assert not config.source.named
    assert config.functions == ["sync[1]", "mail.x"]
    policies = config.queue.functions
    for name in config.functions:
        policy = policies[config.queue.pattern_of(name) or ""]
        assert (policy.durable, policy.backoff) == (True, 0.0)
    own = parse(FUNCTION + "queue: {functions: {'mail.*': {durable: true, running: 4}}}").queue
    assert own.functions[own.pattern_of("mail.x") or ""].running == 4
    assert list(own.functions) == ["mail.*", "sync[[]1]"]


def test_several_functions_may_share_keys() -> None:
    texts = ("{function: changed, key: 'o:{id}'}", "{function: gone, key: 'o:{id}', delete_when: 'TRUE'}")
    text = MINIMAL.replace("{table: shop.orders}", ", ".join(texts))
    assert parse(text).functions == ["changed", "gone"]


def test_several_urls_are_failover_candidates() -> None:
    config = parse(with_source('url: ["mysql://a", "mysql://b:3307"]'))
    assert [str(url) for url in config.source.url] == ["mysql://a", "mysql://b:3307"]


# Secrets


def test_a_password_from_the_environment_may_hold_any_character() -> None:
    config = parse(with_source('url: "mysql://repl:${PW}@h:3306"'), PW="p@ss:w/rd#%?")
    assert config.source.url[0].password == "p@ss:w/rd#%?"
    assert config.source.url[0].host == "h"


def test_a_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(SECRET + "\n")
    config = parse(with_source(f'url: "mysql://repl:${{file:{tmp_path}/pw}}@h"'))
    assert config.source.url[0].password == SECRET
    (tmp_path / "url").write_text(f"mysql://repl:{SECRET}@h\n")
    assert parse(with_source(f'url: "file:{tmp_path}/url"')).source.url[0].password == SECRET


def test_neither_text_nor_repr_of_a_url_shows_its_password() -> None:
    url = Url.parse(f"mysql://repl:{SECRET}@h:3306/x?token={SECRET}")
    assert str(url) == "mysql://repl:***@h:3306/x"
    assert SECRET not in repr(url)
    queue = f"queue: {{store: 'mysql://u:{SECRET}@h/x', http: {{token: '{SECRET * 2}'}}}}"
    config = parse(with_source(f'url: "mysql://repl:{SECRET}@h"') + queue)
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    "text",
    [
        with_source(f'url: "postgres://u:{SECRET}@h"'),
        with_source(f'url: "mysql://u:{SECRET}@h:port"'),
        with_source(f'url: "mysql://u:{SECRET}@"'),
        with_source(f'url: ["mysql://a", "http://u:{SECRET}@b"]'),
        with_source(f'url: "mysql://u:12#{SECRET}@h"'),
        with_source(f'url: "mysql://u:12/{SECRET}@h"'),
        with_source(f'url: "mysql://u:12?{SECRET}@h"'),
        with_source(f'url: "mysql://u:[{SECRET}@h"'),
        with_source(f'url: "{SECRET}"'),
        with_source(f'url: {{"{SECRET}": 1}}'),
        with_source(f"url: *{SECRET}"),
        with_source(f"url: !{SECRET} x"),
        with_source(f'url: "mysql://h", write_url: "x://{SECRET}"'),
        with_source('url: "mysql://${PW}:x@h:q"'),
        MINIMAL.replace("redis://127.0.0.1", f"memcached://:{SECRET}@h"),
        MINIMAL.replace("redis://127.0.0.1", f"redis+cluster://:{SECRET}@h"),
        MINIMAL + f"state: oracle://u:{SECRET}@h/x",
        MINIMAL + f"queue: {{store: 'mssql://u:{SECRET}@h/x'}}",
        MINIMAL + f"queue: {{admin: {{token: 'a {SECRET}'}}}}",
        MINIMAL + f"queue: {{admin: {{listen: '0.0.0.0:1', token: '{SECRET * 2}'}}}}",
        MINIMAL + f"queue: {{url: 'gearman://u:{SECRET}@h'}}",
        MINIMAL + "name: ${PW}!",
        MINIMAL + "name: ${PW}!\nunknown: 1",
        MINIMAL + "retry: {max_attempts: '${PW}'}",
    ],
)
def test_no_refusal_shows_a_secret(text: str) -> None:
    refused(text, PW=SECRET)


def test_a_missing_variable_or_file_is_named() -> None:
    error = refused(with_source('url: "mysql://u:${NOPE}@h"'))
    assert str(error) == "source.url: environment variable NOPE is not set"
    assert "export NOPE" in error.hint
    error = refused(with_source('url: ["mysql://u:${file:/no/such}@h"]'))
    assert str(error) == "source.url[0]: cannot read the secret file /no/such"


# Refusals: path, value, mend


TOKEN = "0123456789abcdef"
#: What is written in the queue section, the place that is refused, the mend.
QUEUE_REFUSALS = [
    ("listen: 'unix:'", "listen: 'unix:' is", "unix:/path"),
    (f"listen: 'unix:/{'x' * 107}'", f"listen: 'unix:/{'x' * 107}' is", "at most 107 bytes"),
    ("listen: []", "listen: is", "at least one address"),
    ("listen: ['h:1', 'h:x']", "listen[1]: 'h:x' is", "host:port"),
    ("listen: ['h:1', 'h:1']", "listen[1]: 'h:1' is", "listened on twice"),
    ("http: {listen: '127.0.0.1:4730'}", "http.listen: '127.0.0.1:4730' is", "listened on twice"),
    ("store: queue.db", "store: is", "sqlite:////absolute/queue.db"),
    ("store: 'sqlite:///'", "store: is", "no file"),
    ("store: 'sqlite:///:memory:'", "store: is", "memory: for no file"),
    ("store: 'memory:x'", "store: is", "memory:"),
    ("store: 'redis:6379'", "store: is", "write redis://host"),
    ("store: 'memory:', durability: full", "durability: 'full' is", "write durability: memory"),
    ("durability: some", "durability: 'some' is", "'full', 'batch' or 'memory'"),
    ("tls: {cert: /c.pem}", "tls.key: missing", "add queue.tls.key"),
    ("admin: {listen: '127.0.0.1:1'}", "admin.token: its default is", "openssl rand"),
    ("admin: {listen: '127.0.0.1:1', token: short}", "admin.token: is", "16 characters"),
    (f"admin: {{listen: '0.0.0.0:1', token: {TOKEN}}}", "admin.listen: '0.0.0.0:1' is", "needs tls"),
    (f"http: {{listen: '0.0.0.0:1', token: {TOKEN}}}", "http.listen: '0.0.0.0:1' is", "needs tls"),
    (
        "http: {listen: '0.0.0.0:1'}, tls: {cert: c, key: k}",
        "http.token: its default is",
        "token, or tls with client_ca",
    ),
    ("functions: {mail: {tries: 5}}", "functions.mail.tries: unknown key", "known keys here: attempts"),
    ("functions: {mail: {attempts: -1}}", "functions.mail.attempts: -1 is", "greater than or equal to 0"),
    ("functions: {mail: {rate: .inf}}", "functions.mail.rate: inf is", "finite"),
    ("functions: {mail: {max_queued: [1, 2]}}", "functions.mail.max_queued: is", "three: [high, normal, low]"),
    ("functions: {mail: {retry_failures: true}}", "functions.mail.attempts: its default is", "for ever"),
    ("functions: {mail: {backoff: 1h}}", "functions.mail.max_backoff: its default is", "at least backoff"),
    ("functions: {'syncbridge.*': {}}", "functions.syncbridge.*: is", "rules of their own"),
    ("functions: {7: {}}", "functions: is", "in quotes"),
]


#: A mapping of a function, the place in it that is refused, the mend.
FUNCTION_REFUSALS = [
    ("function: f, table: shop.orders, key: 'a:{id}'", "function: 'f' is not", "write two mappings"),
    ("function: f", "key: missing", "name members"),
    ("function: f, key: '{_table}:{id}'", "key: '{_table}:{id}' is not", "no table and no primary key"),
    ("function: f, key: 'a:{_key}'", "key: 'a:{_key}' is not", "no table and no primary key"),
    ("function: f, key: 'a'", "key: 'a' is not", "names no column"),
    ("function: '', key: 'a:{id}'", "function: '' is not", "1 to 64"),
    (f"function: {'f' * 65}, key: 'a:{{id}}'", f"function: '{'f' * 65}' is not", "1 to 64"),
    ('function: "f\\n", key: "a:{id}"', "function: 'f\\n' is not", "printable"),
    ("function: syncbridge.shop.1, key: 'a:{id}'", "function: 'syncbridge.shop.1' is not", "name another"),
    ("function: f, key: 'a:{id}', unique: [id]", "unique: is not", "leave unique out"),
    ("function: f, key: 'a:{id}', on_delete: keep", "on_delete: 'keep' is not", "delete_when"),
    ("function: f, key: 'a:{id}', delete_when: '_op ='", "delete_when: '_op =' is not", "MySQL expression"),
    ("table: a.b, delete_when: 'x = 1'", "delete_when: 'x = 1' is not", "belongs to a function"),
]


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        # unknown keys
        (MINIMAL + "sinks: 1", "sinks: unknown key", "did you mean sink?"),
        (with_mapping("keys: 1"), "mappings[0].keys: unknown key", "did you mean key?"),
        (with_mapping("columns: {exlude: [a]}"), "mappings[0].columns.exlude: unknown key", "did you mean exclude?"),
        (MINIMAL + "http: {port: 1}", "http.port: unknown key", "known keys here: listen"),
        (with_mapping("7: 1"), "mappings[0][7]: unknown key", "known keys here"),
        # of the documented format, but not in this version
        (with_mapping("mode: invalidate"), "mappings[0].mode: not built yet", "leave it out"),
        (with_mapping('type: zset, member: "{id}"'), "mappings[0].member: not built yet", "hash, json or string"),
        (with_mapping('score: "{id}"'), "mappings[0].score: not built yet", "hash, json or string"),
        (with_mapping("type: zset"), "mappings[0].type: 'zset' is not possible", "not built yet"),
        (
            with_source('url: "mysql://h", trigger: {servers: "jobs:4730"}'),
            "source.trigger.servers: 'jobs:4730' is not possible",
            "only transport: udf",
        ),
        (
            with_source('url: "mysql://h", trigger: {confirm: false}'),
            "source.trigger.confirm: False is not possible",
            "outbox holds is committed",
        ),
        (
            with_source('url: "mysql://h", trigger: {transport: udf, servers: jobs}'),
            "source.trigger.servers: 'jobs' is",
            "host:4730",
        ),
        (
            with_source('url: "mysql://h", capture: trigger, write_url: "mysql://w"'),
            "source.write_url",
            "leave this out",
        ),
        (MINIMAL + "queue: {url: 'nats://h'}", "queue.url: is not possible", "only the embedded queue is built"),
        (MINIMAL.replace("redis:", "redis+sentinel:"), "sink.url: is not possible", "not built yet"),
        # missing
        ("name: shop", "sink: missing (1 more after this one)", "source.url, sink.url and mappings"),
        (MINIMAL.replace('source: {url: "mysql://repl@127.0.0.1"}', ""), "source: missing", "add source.url"),
        (with_source(""), "source.url: missing", "add source.url"),
        (MINIMAL.replace("table: shop.orders", "key: 'a:{id}'"), "mappings[0].table: missing", "table: db.table"),
        (MINIMAL.replace("{table: shop.orders}", "{}"), "mappings[0].table: missing", "table: db.table"),
        # wrong types and values
        (with_mapping("type: hahs"), "mappings[0].type: 'hahs' is not possible", "it must be 'hash', 'json'"),
        (with_mapping("type: [hash]"), "mappings[0].type: is not possible", "it must be 'hash', 'json'"),
        (with_source('url: "mysql://h", server_id: many'), "source.server_id: 'many' is not", "valid integer"),
        (with_source('url: "mysql://h", server_id: -1'), "source.server_id: -1 is not", "greater than or equal to 0"),
        (with_source('url: "mysql://h", snapshot_rate: -1'), "source.snapshot_rate: -1 is not", "or equal to 0"),
        (with_source('url: "mysql://h", snapshot_rate: 5k'), "source.snapshot_rate: '5k' is not", "valid integer"),
        (with_source('url: "mysql://h", snapshot_readers: 0'), "source.snapshot_readers: 0 is not", "or equal to 1"),
        (with_source('url: "mysql://h", snapshot_readers: 17'), "source.snapshot_readers: 17 is not", "or equal to 16"),
        (with_source('url: "mysql://h", heartbeat: 5'), "source.heartbeat: 5 is not", "with its unit"),
        (with_source('url: "mysql://h", heartbeat: -1s'), "source.heartbeat: '-1s' is not", "with its unit"),
        (with_source("url: []"), "source.url: is not possible", "name at least one URL"),
        (with_source("url: 5"), "source.url: is not possible", "mysql://"),
        (with_source('url: "redis://h"'), "source.url: is not possible", "the source is MySQL or MariaDB"),
        (with_source('url: "mysql://"'), "source.url: is not possible", "no host"),
        (with_source('url: "mysql://h?ssl=1"'), "source.url: is not possible", "ssl_ca"),
        (with_source('url: ["mysql://h", "redis://h"]'), "source.url: is not possible", "MySQL or MariaDB"),
        (MINIMAL + "queue: {lanes: 0}", "queue.lanes: 0 is not possible", "greater than or equal to 1"),
        (MINIMAL + "queue: {listen: here}", "queue.listen: 'here' is not possible", "host:port"),
        (MINIMAL + "queue: {listen: 'h:70000'}", "queue.listen: 'h:70000' is not possible", "host:port"),
        *((MINIMAL + f"queue: {{{written}}}", f"queue.{path}", mend) for written, path, mend in QUEUE_REFUSALS),
        (MINIMAL + "queue: {max_bytes: lots}", "queue.max_bytes: 'lots' is not possible", "64MiB"),
        (MINIMAL + "queue:", "queue: nothing is not possible", "write an indented block of keys: admin, durability"),
        (MINIMAL + "queue: [1]", "queue: is not possible", "write an indented block of keys: admin, durability"),
        (MINIMAL + "name: Shop 1", "name: 'Shop 1' is not possible", "lower-case"),
        (MINIMAL + "state: ./state.db", "state: is not possible", "sqlite:///path"),
        (MINIMAL + "state: 'sqlite://'", "state: is not possible", "lost with its process"),
        (MINIMAL.replace("[{table: shop.orders}]", "{a: b}"), "mappings: is not possible", "a list"),
        (MINIMAL.replace("[{table: shop.orders}]", "[]"), "mappings: is not possible", "a list with one entry"),
        (MINIMAL.replace("[{table: shop.orders}]", "[orders]"), "mappings[0]: 'orders' is not", "indented block"),
        (MINIMAL.replace("shop.orders", "orders"), "mappings[0].table: 'orders' is not possible", "write db.table"),
        (MINIMAL.replace("shop.orders", "'*.orders'"), "mappings[0].table: '*.orders' is not", "db.*"),
        (with_mapping('key: "order:{"'), "mappings[0].key: 'order:{' is not possible", "write {column}"),
        (with_mapping("where: 'status <>'"), "mappings[0].where: 'status <>' is not possible", "MySQL expression"),
        (with_mapping("ttl: 7"), "mappings[0].ttl: 7 is not possible", "7d"),
        (with_mapping("ttl: 0s"), "mappings[0].ttl: '0s' is not possible", "leave it out"),
        (with_mapping("on_delete: forget"), "mappings[0].on_delete: 'forget' is not possible", "delete, keep"),
        # impossible combinations
        (with_mapping('key: "orders"'), "mappings[0].key: 'orders' is not possible", "order:{id}"),
        (with_mapping('key: "{_table}"'), "mappings[0].key: '{_table}' is not possible", "names no column"),
        (
            with_mapping("type: string"),
            "mappings[0].value: its default is not",
            "type string needs a value",
        ),
        (with_mapping('value: "{id}"'), "mappings[0].value: '{id}' is not possible", "type string"),
        (with_mapping("columns: {include: [a], exclude: [b]}"), "mappings[0].columns.exclude: is not", "keep one"),
        (with_mapping("columns: {rename: {a: _v}}"), "mappings[0].columns.rename.a: '_v' is not", "start with _"),
        (with_mapping("columns: {rename: {a: x, b: x}}"), "mappings[0].columns.rename.a: 'x' is not", "two columns"),
        (with_mapping("columns: {exclude: [a], mask: [a]}"), "mappings[0].columns.mask: is not", "not shown at all"),
        (
            MINIMAL.replace("{table: shop.orders}", "{table: shop.*, key: 'row:{id}'}"),
            "mappings[0].key: 'row:{id}' is not possible",
            "{_table}:{_key}",
        ),
        (
            MINIMAL.replace("{table: shop.orders}", "{table: a.x, key: 'o:{id}'}, {table: a.y, key: 'o:{nr}'}"),
            "mappings[1].key: 'o:{nr}' is not possible",
            "mappings[0] writes the same keys",
        ),
        (
            MINIMAL.replace("{table: shop.orders}", "{table: shop.*}, {table: shop.orders}"),
            "mappings[1].key: its default is not",
            "mappings[0] writes the same keys",
        ),
        (
            MINIMAL + "queue: {listen: '127.0.0.1:9108'}",
            "http.listen: its default is not",
            "queue.listen has the same address: choose another port",
        ),
        (
            MINIMAL + "queue: {http: {listen: '127.0.0.1:9108'}}",
            "http.listen: its default is not",
            "queue.http.listen has the same address",
        ),
        (MINIMAL + "retry: {backoff: 1h}", "retry.max_backoff: its default is not", "at least backoff"),
        (MINIMAL + "retry: {backoff: 0s}", "retry.backoff: '0s' is not", "at least 1ms"),
        (
            with_source('url: "mysql://h", ssl_cert: /c.pem'),
            "source.ssl_key: its default is not",
            "name both or neither",
        ),
        (MINIMAL.replace('redis://127.0.0.1"', 'redis://127.0.0.1", tombstone: 1ms'), "sink.tombstone: '1ms'", "24h"),
        *(
            (MINIMAL.replace("{table: shop.orders}", f"{{{written}}}"), f"mappings[0].{message}", hint)
            for written, message, hint in FUNCTION_REFUSALS
        ),
        (
            MINIMAL.replace("{table: shop.orders}", "{function: f, key: 'a:{id}'}, {function: f, key: 'a:{id}'}"),
            "mappings[1].key: 'a:{id}' is not",
            "mappings[0] writes the same keys",
        ),
        (
            MINIMAL.replace("{table: shop.orders}", "{table: a.x, key: 'a:{id}'}, {function: f, key: 'a:{nr}'}"),
            "mappings[1].key: 'a:{nr}' is not",
            "mappings[0] writes the same keys",
        ),
        (
            MINIMAL.replace("{table: shop.orders}", "{function: f, key: 'a:{id}'}") + "queue: {functions: {'*': {}}}",
            "queue.functions.*.durable: its default is not",
            "jobs of f must leave the queue on WORK_COMPLETE only",
        ),
        # not YAML
        ("a: [", "sync.yaml is not valid YAML at line 1", "quotes"),
        ("name: a\nname: b" + MINIMAL, "sync.yaml is not valid YAML at line 2", "written twice"),
        ("a: 2024-99-99", "sync.yaml is not valid YAML", "quotes"),
        ("a: &a [*a]", "sync.yaml contains itself", "alias"),
        ("", "sync.yaml is empty or not a mapping", "source.url"),
        ("- 1", "sync.yaml is empty or not a mapping", "source.url"),
    ],
)
def test_a_refusal_names_path_value_and_mend(text: str, message: str, hint: str) -> None:
    error = refused(text)
    assert str(error).startswith(message)
    assert hint in error.hint


def test_a_misspelt_key_comes_before_what_it_leaves_missing() -> None:
    error = refused(MINIMAL.replace("sink:", "snk:"))
    assert str(error) == "snk: unknown key (1 more after this one)"
    assert error.hint == "did you mean sink?"


def test_one_wrong_item_of_a_list_is_one_complaint() -> None:
    assert str(refused(with_mapping("type: hahs"))) == "mappings[0].type: 'hahs' is not possible"


def test_the_file_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read .*nope\.yaml: No such file") as caught:
        load_config(tmp_path / "nope.yaml", {})
    assert "syncbridge init" in caught.value.hint
    (tmp_path / "latin").write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_config(tmp_path / "latin", {})
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path, {})


# The queue section


def test_listeners_and_policies_of_the_queue() -> None:
    queue = parse(
        MINIMAL
        + """
queue:
  listen: ["127.0.0.1:4731", "[::1]:4731", "unix:///run/q.sock"]
  store: sqlite:///queue.db
  http: {listen: off}
  functions:
    "mail.*": {retry_failures: true, attempts: 5, keep_result: 1h, max_queued: 100}
"""
    ).queue
    assert [str(place) for place in queue.listen] == ["127.0.0.1:4731", "[::1]:4731", "unix:/run/q.sock"]
    assert queue.store_path == Path("queue.db")
    assert queue.http.listen is None
    mail = queue.functions["mail.*"]
    assert (mail.attempts, mail.keep_result, mail.max_queued) == (5, 3600.0, (100, 100, 100))


@pytest.mark.parametrize(
    ("store", "path", "promise"),
    [
        ("sqlite:///queue.db", Path("queue.db"), "full"),
        ("sqlite:////var/lib/queue.db", Path("/var/lib/queue.db"), "full"),
        ("postgresql://u:p@h/db", None, "full"),
        ("memory:", None, "memory"),
    ],
)
def test_store_urls(store: str, path: Path | None, promise: str) -> None:
    queue = parse(MINIMAL + f'queue: {{store: "{store}"}}').queue
    assert (queue.store_path, queue.promise) == (path, promise)


def test_options_replace_settings_and_are_named_in_refusals() -> None:
    names = {"listen": "--listen", "admin.token": "--admin-token-file", "tls.key": "--tls-key"}
    base = parse(MINIMAL + f"queue: {{lanes: 3, admin: {{token: {TOKEN}}}}}").queue
    queue = queue_from_options({"listen": ["[::1]:1"], "admin": {"listen": "127.0.0.1:2"}}, base, names)
    assert (queue.lanes, str(queue.listen[0]), queue.admin.token) == (3, "[::1]:1", TOKEN)
    for options, message, hint in (
        ({"listen": ["here"]}, "--listen: 'here' is not possible", "host:port"),
        ({"admin": {"listen": "127.0.0.1:2"}}, "--admin-token-file: its default is not", "openssl rand"),
        ({"tls": {"cert": "c.pem"}}, "--tls-key: missing", "add --tls-key"),
    ):
        with pytest.raises(ConfigError) as caught:
            queue_from_options(options, QueueConfig(), names)
        assert str(caught.value).startswith(message)
        assert hint in caught.value.hint


# Identity


def test_a_mapping_keeps_its_id_until_keys_or_type_change() -> None:
    first = parse(with_mapping('key: "o:{id}"')).mappings[0]
    assert parse(with_mapping('key: "o:{id}", where: "id > 1"')).mappings[0].id == first.id
    assert parse(with_mapping('key: "o:{id}", where: "id > 1"')).mappings[0].fingerprint != first.fingerprint
    assert parse(with_mapping('key: "p:{id}"')).mappings[0].id != first.id
    assert parse(with_mapping('key: "o:{id}", type: json')).mappings[0].id != first.id


def test_a_wildcard_covers_its_database_only() -> None:
    config = parse(MINIMAL.replace("shop.orders", "shop.*"))
    assert config.mappings_of("shop", "anything")
    assert not config.mappings_of("shop2", "anything")
