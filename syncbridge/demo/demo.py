"""The demo from start to end: servers, shop, `syncbridge run`, changes, and the comparison that decides."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import redis
from pymysql.connections import Connection
from rich.console import Console
from rich.live import Live

from syncbridge.demo import mariadb, screen
from syncbridge.demo import redis as redis_server
from syncbridge.demo.folder import vanishing_folder
from syncbridge.demo.mirror import Comparison, compare, counts, two_sides
from syncbridge.demo.pipeline import Pipeline
from syncbridge.demo.shop import Shop
from syncbridge.errors import TransientError

#: Seconds between two looks, on a terminal and elsewhere, and the rest between two transactions.
LIVE, PLAIN, REST = 0.5, 2.0, 0.008
#: Seconds that Redis may need to show everything once the changes have stopped.
CATCH_UP = 60.0
#: Differences that are spelt out.
SPELT_OUT = 10


class StopAsked:
    """Ctrl-C, SIGTERM or SIGHUP: at first a wish, then, or while nothing is running yet, an interruption."""

    def __init__(self) -> None:
        self.asked = False
        #: Whether a wish will be looked for.
        self.patient = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.asked or not self.patient:
            raise KeyboardInterrupt
        self.asked = True

    @contextmanager
    def heard(self) -> Iterator[StopAsked]:
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = [(number, signal.signal(number, self)) for number in numbers]
        try:
            yield self
        finally:
            for number, handler in before:
                signal.signal(number, handler)


def run(seconds: float | None, console: Console) -> int:
    """Run the demo for so many seconds of changes, or until a signal; the exit code.

    Raises MissingServer, TransientError, KeyboardInterrupt; nothing is left behind in any case.
    """
    mariadb.install_command(Path())
    mariadb.server_program()
    redis_server.server_program()  # what is missing is told before anything is started
    with StopAsked().heard() as stop, vanishing_folder() as folder, ExitStack() as running:
        running.callback(signal.signal, signal.SIGINT, signal.SIG_IGN)  # nothing interrupts the tidying up
        demo = Demo(folder, console, stop, running)
        demo.start()
        demo.show(seconds)
        return demo.judge()


class Demo:
    """Its three phases, in order: start, show, judge."""

    def __init__(self, folder: Path, console: Console, stop: StopAsked, running: ExitStack) -> None:
        self._console = console
        self._stop = stop
        self._running = running
        self._folder = folder
        self._pipeline = Pipeline(folder)
        self._where = ""
        self._shop: Shop
        self._source: Connection[Any]
        self._sink: redis.Redis

    # -- start ---------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Servers, shop and pipeline; returns when Redis shows the shop as it was loaded."""
        self._say("starting a private MariaDB and Redis")
        source = self._run(mariadb.PrivateMariaDB, "mariadb", server_id=1, binlog_expire_logs_seconds=3600)
        sink = self._run(redis_server.PrivateRedis, "redis", requirepass=secrets.token_hex(16))
        self._source = self._running.enter_context(closing(source.connect(conv={}, use_unicode=False)))
        self._sink = self._running.enter_context(sink.client())
        self._shop = Shop(self._running.enter_context(closing(source.connect())))
        self._shop.open()
        with self._source.cursor() as cursor:
            for statement in self._pipeline.account():
                cursor.execute(statement)
        self._pipeline.write_config(source.port, sink.url(password=str(sink.options["requirepass"])))
        self._say(f"running: syncbridge run --config {self._pipeline.config}")
        self._pipeline.start()
        self._running.callback(self._pipeline.stop)
        self._pipeline.wait_ready()
        loaded = self._wait_for_load()
        self._say(f"the shop is in Redis: {loaded.rows:,} rows; now it opens, and rows change")
        self._where = (
            f"MariaDB 127.0.0.1:{source.port} -> Redis 127.0.0.1:{sink.port}; {self._pipeline.config};"
            f" {self._pipeline.metrics_url}"
        )

    def _run(self, kind: Callable[..., Any], name: str, **options: object) -> Any:
        folder = self._folder / name
        folder.mkdir()
        return self._running.enter_context(kind(folder, **options))

    def _wait_for_load(self) -> Comparison:
        deadline = time.monotonic() + CATCH_UP
        while (comparison := compare(self._source, self._sink)).differences:
            self._pipeline.check_running()
            if time.monotonic() > deadline:
                raise TransientError(f"the shop did not get into Redis; {comparison.differences[0]}")
            time.sleep(0.1)
        return comparison

    # -- show ----------------------------------------------------------------------------------------------------------

    def show(self, seconds: float | None) -> None:
        """Change rows and show both sides until the time is over or somebody asks to stop."""
        self._stop.patient = True
        if not self._console.is_terminal:
            self._change_rows(seconds, PLAIN, lambda view: self._say(*screen.lines(view)))
            return
        with Live(console=self._console, auto_refresh=False) as live:
            self._change_rows(seconds, LIVE, lambda view: live.update(screen.draw(view, self._where), refresh=True))

    def _change_rows(self, seconds: float | None, interval: float, present: Callable[[screen.View], None]) -> None:
        started = time.monotonic()
        next_look = started + interval / 2
        while not self._stop.asked:
            now = time.monotonic()
            if seconds is not None and now - started >= seconds:
                break
            if now >= next_look:
                self._pipeline.check_running()
                present(self._view(now - started))
                next_look = now + interval
            self._shop.step()
            time.sleep(REST)
        present(self._view(time.monotonic() - started))

    def _view(self, elapsed: float) -> screen.View:
        touched = self._shop.latest
        latest = two_sides(self._source, self._sink, touched.table, touched.key)
        return screen.View(
            elapsed,
            self._shop.changes,
            self._shop.transactions,
            counts(self._source, self._sink),
            self._pipeline.figures(),
            latest,
        )

    # -- judge ---------------------------------------------------------------------------------------------------------

    def judge(self) -> int:
        """Let Redis catch up, compare every row, say what was found; 1 when anything differs."""
        self._say("changes have stopped; waiting for a heartbeat that started after the last of them")
        caught_up = self._caught_up()
        comparison = compare(self._source, self._sink)
        found = len(comparison.differences)
        for sentence in comparison.differences[:SPELT_OUT]:
            self._say(sentence)
        if found > SPELT_OUT:
            self._say(f"and {found - SPELT_OUT:,} more")
        if not caught_up:
            self._say(f"Redis had not caught up after {CATCH_UP:.0f} s: {self._pipeline.figures()}")
        self._say(
            f"{self._shop.changes:,} changes, {comparison.rows:,} rows compared,"
            f" {found:,} {'difference' if found == 1 else 'differences'}"
        )
        return 1 if found or not caught_up else 0

    def _caught_up(self) -> bool:
        """Whether the pipeline proved, within CATCH_UP seconds, that it has applied everything."""
        stopped = time.time()
        deadline = time.monotonic() + CATCH_UP
        while time.monotonic() < deadline:
            self._pipeline.check_running()
            figures = self._pipeline.figures()
            if figures.proved_at > stopped and not figures.retries and not figures.snapshots:
                return True
            time.sleep(0.1)
        return False

    def _say(self, *sentences: str) -> None:
        for sentence in sentences:
            self._console.print(sentence, soft_wrap=True)
        sys.stdout.flush()
