"""Where capture starts: one case per answer of DESIGN P1, P2 and P7."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from syncbridge.capture.connection import Position
from syncbridge.capture.start import Facts, decide, decide_rewind, file_name, file_number
from syncbridge.state import Checkpoint
from syncbridge.version import Version

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
CHECKPOINT = Checkpoint(
    epoch=3, server="a", file="bin.000007", pos=500, file_created=1, gtid_set=f"{UUID}:1-10", queue_id="q"
)
FACTS = Facts(
    checkpoint=CHECKPOINT,
    server="a",
    mariadb=False,
    end=Position("bin.000008", 900, f"{UUID}:1-20"),
    logs=(("bin.000006", 1000), ("bin.000007", 1000), ("bin.000008", 900)),
    queue_id="q",
    mirror_epoch=3,
    marks=(Version(3, 7, 400, 0), Version(3, 7, 450, 2)),
    lanes=2,
)


def facts(**changes: Any) -> Facts:
    return replace(FACTS, **changes)


def test_a_first_start_begins_at_the_end_and_reads_every_table() -> None:
    start = decide(facts(checkpoint=None, mirror_epoch=0))
    assert (start.position, start.epoch, start.snapshot, start.initial) == (FACTS.end, 1, "initial", True)


def test_a_lost_state_takes_the_epoch_above_what_redis_remembers() -> None:
    assert decide(facts(checkpoint=None, mirror_epoch=3)).epoch == 4


def test_a_restart_goes_on_at_the_checkpoint() -> None:
    start = decide(FACTS)
    assert (start.position.file, start.position.pos, start.epoch) == ("bin.000007", 500, 3)
    assert not start.snapshot
    assert not start.rewind


def test_a_state_older_than_redis_reads_every_table_again() -> None:
    start = decide(facts(mirror_epoch=5))
    assert start.epoch == 6
    assert "older" in start.snapshot


def test_a_purged_binlog_is_told_from_a_reset_one() -> None:
    assert "purged" in decide(facts(logs=(("bin.000008", 900),))).snapshot
    assert "reset" in decide(facts(logs=(("bin.000001", 900),), end=Position("bin.000001", 900))).snapshot
    assert decide(facts(logs=(("bin.000008", 900),))).epoch == 4


def test_a_binlog_shorter_than_the_checkpoint_is_another_one() -> None:
    assert "shorter" in decide(facts(logs=(("bin.000007", 499), ("bin.000008", 900)))).snapshot


def test_a_lost_tail_is_noticed_by_what_redis_or_we_have_seen() -> None:
    assert "tail" in decide(facts(marks=(Version(3, 7, 1001, 0),) * 2)).snapshot
    assert "tail" in decide(facts(furthest=Version(3, 8, 901, 0))).snapshot
    assert not decide(facts(furthest=Version(2, 8, 901, 0))).snapshot


def test_another_primary_with_our_gtids_is_followed_under_a_new_epoch() -> None:
    start = decide(facts(server="b"))
    assert (start.by_gtid, start.epoch, start.snapshot) == (True, 4, "")
    assert start.position.gtid_set == CHECKPOINT.gtid_set


def test_another_primary_that_lacks_or_purged_transactions_means_a_snapshot() -> None:
    assert "lacks" in decide(facts(server="b", end=Position("x.000001", 4, f"{UUID}:1-9"))).snapshot
    assert "purged" in decide(facts(server="b", purged=f"{UUID}:1-15")).snapshot
    assert not decide(facts(server="b", purged=f"{UUID}:1-9")).snapshot
    no_gtids = replace(CHECKPOINT, gtid_set="")
    assert "GTIDs" in decide(facts(server="b", checkpoint=no_gtids)).snapshot


def test_mariadb_positions_are_compared_by_domain_and_server() -> None:
    checkpoint = replace(CHECKPOINT, gtid_set="0-1-10")
    here = facts(server="b", mariadb=True, checkpoint=checkpoint, marks=())
    assert decide(replace(here, binlog_state="0-1-10,0-2-11,1-5-7")).by_gtid
    assert "lacks" in decide(replace(here, binlog_state="0-1-9")).snapshot
    # The new primary went on from 0-1-8 by itself: a higher sequence number, and yet not what we captured.
    assert "lacks" in decide(replace(here, binlog_state="0-1-8,0-2-20")).snapshot


def test_what_this_process_has_read_behind_the_checkpoint_counts_as_captured() -> None:
    assert decide(facts(server="b", seen=f"{UUID}:1-20")).by_gtid
    assert "lacks" in decide(facts(server="b", seen=f"{UUID}:1-21")).snapshot


def test_changes_in_redis_behind_the_checkpoint_may_be_unknown_to_another_server() -> None:
    marks = (Version(3, 7, 400, 0), Version(3, 7, 500, 0))
    assert "GTIDs" in decide(facts(server="b", marks=marks)).snapshot
    assert decide(facts(server="b", marks=marks, seen=f"{UUID}:1-12")).by_gtid


def test_a_lost_queue_rewinds_to_the_lowest_mark() -> None:
    start = decide(facts(queue_id="other"))
    assert (start.position.file, start.position.pos, start.epoch) == ("bin.000007", 400, 3)
    assert "queue" in start.rewind
    assert start.position.gtid_set == ""


def test_a_lost_queue_without_marks_of_all_lanes_means_a_snapshot() -> None:
    assert "queue" in decide(facts(queue_id="other", marks=(Version(3, 7, 400, 0),))).snapshot


def test_a_rewind_stays_within_the_epoch_and_the_binlog() -> None:
    assert decide_rewind(FACTS, Version(3, 6, 100, 0)).position == Position("bin.000006", 100)
    assert decide_rewind(FACTS, Version(2, 6, 100, 0)).snapshot
    assert decide_rewind(FACTS, Version(3, 5, 100, 0)).snapshot
    forward = decide_rewind(FACTS, Version(3, 7, 600, 0))
    assert forward.position == Position("bin.000007", 500, CHECKPOINT.gtid_set)
    assert forward.rewind  # what snapshots wrote may be lost, too


def test_file_names_and_numbers() -> None:
    assert file_number("mysql-bin.000042") == 42
    assert file_name("mysql-bin.000042", 7) == "mysql-bin.000007"
    assert file_name("a.b.0999999", 1000000) == "a.b.1000000"
