"""What `check` thinks of Redis. Pure: facts in, findings out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from syncbridge.commands.checks.finding import Finding, error, ok, warning
from syncbridge.sinks.connection import version_finding


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkFacts:
    """What Redis says: INFO, some of its configuration ("" where it may not be asked), and whether Lua runs."""

    address: str
    info: dict[str, Any] = field(default_factory=dict)
    #: `save` points of RDB; None: CONFIG is not allowed.
    save: str | None = None
    #: Why EVAL is refused; empty when it runs.
    script_error: str = ""


def judge_sink(facts: SinkFacts) -> list[Finding]:
    info = facts.info
    name = "Valkey" if info.get("server_name") == "valkey" else "Redis"
    version = info.get("valkey_version") if name == "Valkey" else info.get("redis_version")
    findings = [ok("sink", f"{name} {version} at {facts.address} answers")]
    if (sentence := version_finding(info)) is not None:
        findings.append(error("sink-version", sentence, "install Redis 6.2 or later, or Valkey"))
    for judge in (_role, _memory, _persistence, _script):
        findings += judge(facts)
    return findings


def _role(facts: SinkFacts) -> Iterator[Finding]:
    if facts.info.get("cluster_enabled"):
        yield error(
            "sink-cluster",
            "this Redis is a Cluster node, and Cluster is not built yet",
            "point sink.url to another Redis",
        )
    if facts.info.get("role") == "master":
        yield ok("sink-role", "it is a master")
    else:
        where = f"{facts.info.get('master_host', '')}:{facts.info.get('master_port', '')}"
        yield error("sink-role", f"it is a replica of {where} and read-only", f"point sink.url to {where}")


def _memory(facts: SinkFacts) -> Iterator[Finding]:
    limit = int(facts.info.get("maxmemory", 0) or 0)
    policy = str(facts.info.get("maxmemory_policy", "noeviction"))
    if limit and policy != "noeviction":
        what = "any key" if policy.startswith("allkeys") else "keys that may expire, tombstones among them,"
        yield error(
            "eviction",
            f"maxmemory-policy is {policy}: when full, Redis drops {what} and the mirror is wrong without a word",
            "redis-cli CONFIG SET maxmemory-policy noeviction  (and in redis.conf)",
        )
    elif limit:
        used = int(facts.info.get("used_memory", 0) or 0)
        full = f", {100 * used // limit} % in use"
        yield ok("eviction", f"maxmemory is {limit} bytes{full}; when full the pipeline waits, it loses nothing")
        if used > 0.9 * limit:
            yield warning(
                "maxmemory",
                f"Redis is nearly full{full}",
                f"redis-cli CONFIG SET maxmemory {2 * limit}  (and in redis.conf)",
            )
    else:
        yield ok("eviction", "maxmemory is unlimited: nothing is evicted")


def _persistence(facts: SinkFacts) -> Iterator[Finding]:
    if facts.info.get("aof_enabled"):
        yield ok("persistence", "it keeps an append-only file")
    elif facts.save:
        yield ok(
            "persistence", f"it saves snapshots ({facts.save}): after a crash the pipeline rewinds to the last one"
        )
    elif facts.save is None:
        yield warning(
            "persistence",
            "no append-only file, and CONFIG may not be asked for its snapshots",
            "make sure that Redis keeps its data over a restart, or accept that every table is read again then",
        )
    else:
        yield warning(
            "persistence",
            "Redis keeps nothing on disk: after its restart every table is read again",
            "redis-cli CONFIG SET appendonly yes  (and in redis.conf)",
        )


def _script(facts: SinkFacts) -> Iterator[Finding]:
    if facts.script_error:
        yield error(
            "scripts",
            f"Lua scripts do not run: {facts.script_error}",
            "ACL SETUSER <user> +@scripting +@hash +@string +@keyspace ~*",
        )
    else:
        yield ok("scripts", "Lua scripts run")
