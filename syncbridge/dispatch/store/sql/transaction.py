"""What one group commit writes. It begins and ends no transaction; writer.py does.

Adds come in bulk, everything else grouped by the place where the jobs lie, a statement for each. The totals follow
from what the core says of its jobs, as long as the row counts agree. Where they do not (a commit is repeated, a row is
gone), `Mismatch` asks for the exact way: look where each row lies first.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import Connection, Table, bindparam, case, delete, func, insert, select, text, update

from syncbridge.dispatch.job import JobRecord
from syncbridge.dispatch.store import UNREADABLE, Changes, JobKey, Move, Result
from syncbridge.dispatch.store.sql.engine import Engine
from syncbridge.dispatch.store.sql.tables import NUMBER, PIECE, backlog, function, job, piece, result, setting

#: Ids in one statement, and rows in one that says something different of each.
_IDS: Final = 1000
_CASES: Final = 100
#: With more groups than this, one look at where the rows lie is cheaper than a statement for each.
_GROUPS: Final = 64
#: Results that leave in one commit.
_EXPIRE: Final = 10_000
#: What the columns hold, bytes.
_NOTE: Final = 1000

K = TypeVar("K")
V = TypeVar("V")


class Mismatch(Exception):
    """The rows are not where the core says; once more, the exact way."""


class Place(NamedTuple):
    function_id: int
    priority: int
    state: int

    @property
    def condition(self) -> str:
        """What rows found by their ids must meet. Nothing that an index could help with: the ids are enough."""
        return f"function_id + 0 = {self.function_id} AND priority + 0 = {self.priority} AND state + 0 = {self.state}"


class Transaction:
    """One commit's statements. `functions`: the known names' numbers; new names get those from `next_function` on."""

    def __init__(
        self, connection: Connection, engine: Engine, functions: Mapping[bytes, int], next_function: int, *, exact: bool
    ) -> None:
        self._connection = connection
        self._engine = engine
        self._functions = functions
        self._next_function = next_function
        self.new_functions: dict[bytes, int] = {}
        self._exact = exact
        self._totals: defaultdict[Place, list[int]] = defaultdict(lambda: [0, 0])
        self._pieces: list[tuple[int, int, bytes]] = []

    def write(self, changes: Changes) -> None:
        """In the order that Changes defines. Raises Mismatch, and whatever the driver raises."""
        self._add(changes.adds)
        self._move(changes.moves)
        self._note_attempts(changes.attempts)
        self._remove(changes.removes)
        self._count()
        self._keep_results(changes.results, changes.expire_results)
        self._remember(changes.settings)

    def undo(self, changes: Changes) -> None:
        """Of a commit that happened and was reported as failed: what it added was promised to nobody, and what it moved
        is looked for in its old place. The rest may stay as it is, for it will be asked for again. Exact only."""
        assert self._exact
        for some in _chunks([record.id for record in changes.adds], _IDS):
            for number, (place, size) in self._locate(some).items():
                self._change(place, -1, -size)
                self._delete(job, [number])
                self._delete_pieces([number], {number: size})
        self._move(
            {
                number: move._replace(
                    old=move.old._replace(function=move.function, state=move.state),
                    function=move.old.function,
                    state=move.old.state,
                )
                for number, move in changes.moves.items()
            }
        )

    # -- jobs ----------------------------------------------------------------------------------------------------

    def _add(self, adds: Sequence[JobRecord]) -> None:
        if self._exact:
            there = {number for some in _chunks([r.id for r in adds], _IDS) for number in self._locate(some)}
            adds = [record for record in adds if record.id not in there]
        rows = []
        for number, name, priority, unique, join, submitted, attempts, payload, size, reducer, state, due, note in adds:
            function_id = self._function_id(name)
            counts = self._totals[Place(function_id, priority, state)]
            counts[0] += 1
            counts[1] += size
            rows.append(
                (
                    *(number, function_id, priority, state, due, submitted, attempts, size),
                    *(unique, join, reducer, note[:_NOTE], self._kept(number, payload)),
                )
            )
        self._insert(job, rows)

    def _move(self, moves: Mapping[int, Move]) -> None:
        groups: defaultdict[tuple[Place, int, int], list[int]] = defaultdict(list)
        taken = self._taken({number: move.old for number, move in moves.items()})
        for place, numbers in taken.items():
            for number in numbers:
                move = moves[number]
                groups[place, self._function_id(move.function), move.state].append(number)
        for (old, function_id, state), numbers in groups.items():
            self._change(old._replace(function_id=function_id, state=state), len(numbers), self._sizes(numbers))
            for some in _chunks(numbers, _CASES):
                self._move_some(some, moves, old, function_id, state)

    def _move_some(
        self, numbers: Sequence[int], moves: Mapping[int, Move], old: Place, function_id: int, state: int
    ) -> None:
        def each(column: str, values: Iterable[int | bytes]) -> object:
            found = dict(zip(numbers, values, strict=True))
            one = found[numbers[0]]
            if all(value == one for value in found.values()):
                return bindparam(None, one, type_=job.c[column].type)
            whens = [(job.c.id == number, bindparam(None, v, type_=job.c[column].type)) for number, v in found.items()]
            return case(*whens)

        self._affect(
            numbers,
            self._connection.execute(
                update(job)
                .where(job.c.id.in_(numbers), text(old.condition))
                .values(
                    function_id=function_id,
                    state=state,
                    attempts=each("attempts", (moves[n].attempts for n in numbers)),
                    due=each("due", (moves[n].due for n in numbers)),
                    note=each("note", (moves[n].note[:_NOTE] for n in numbers)),
                )
            ).rowcount,
        )

    def _note_attempts(self, attempts: Mapping[int, tuple[JobKey, int]]) -> None:
        groups: defaultdict[tuple[Place, int], list[int]] = defaultdict(list)
        for number, (key, count) in attempts.items():
            place = self._place(key)
            if place is not None:
                groups[place, count].append(number)
        for (place, count), numbers in groups.items():
            for some in _chunks(numbers, _IDS):
                self._connection.exec_driver_sql(
                    f"UPDATE {job.name} SET attempts = {count} WHERE id IN ({_list(some)}) AND {place.condition}"  # noqa: S608
                )

    def _remove(self, removes: Mapping[int, JobKey]) -> None:
        for place, numbers in self._taken(removes).items():
            for some in _chunks(numbers, _IDS):
                done = self._connection.exec_driver_sql(
                    f"DELETE FROM {job.name} WHERE id IN ({_list(some)}) AND {place.condition}"  # noqa: S608
                )
                self._affect(some, done.rowcount)
            self._delete_pieces(numbers, self._taken_sizes)

    # -- large ones ----------------------------------------------------------------------------------------------

    def _kept(self, key: int, data: bytes | None) -> bytes | None:
        """What the row itself gets; the rest is put aside in pieces."""
        if data is None or len(data) <= PIECE:
            return data
        starts = range(0, len(data), PIECE)
        self._pieces += [(key, part, data[start : start + PIECE]) for part, start in enumerate(starts)]
        return None

    def _insert(self, table: Table, rows: Sequence[Sequence[Any]]) -> None:
        """And the pieces that were cut off these rows."""
        if rows:
            self._engine.insert(self._connection, table, rows)
        if self._pieces:
            self._engine.insert(self._connection, piece, self._pieces)
            self._pieces = []

    def _delete(self, table: Table, keys: Sequence[int]) -> None:
        for some in _chunks(keys, _IDS):
            self._connection.exec_driver_sql(f"DELETE FROM {table.name} WHERE id IN ({_list(some)})")  # noqa: S608

    def _delete_pieces(self, numbers: Iterable[int], sizes: Mapping[int, int]) -> None:
        self._delete(piece, [number for number in numbers if sizes[number] > PIECE])

    # -- places and totals ---------------------------------------------------------------------------------------

    def _taken(self, keys: Mapping[int, JobKey]) -> dict[Place, list[int]]:
        """The jobs by place, and no longer counted there."""
        groups: defaultdict[Place, list[int]] = defaultdict(list)
        sizes: dict[int, int] = {}
        for number, key in keys.items():
            place = self._place(key)
            if place is None:
                if not self._exact:
                    raise Mismatch
                continue
            groups[place].append(number)
            sizes[number] = key.size
        if self._exact or len(groups) > _GROUPS or UNREADABLE in sizes.values():
            groups, sizes = self._look(groups)
        self._taken_sizes = sizes
        for place, numbers in groups.items():
            self._change(place, -len(numbers), -self._sizes(numbers))
        return groups

    def _look(self, groups: Mapping[Place, Sequence[int]]) -> tuple[defaultdict[Place, list[int]], dict[int, int]]:
        """Those that really lie there, and what their rows say of their size."""
        wanted = {number: place for place, numbers in groups.items() for number in numbers}
        found: defaultdict[Place, list[int]] = defaultdict(list)
        sizes: dict[int, int] = {}
        for some in _chunks(list(wanted), _IDS):
            for number, (place, size) in self._locate(some).items():
                if place == wanted[number]:
                    found[place].append(number)
                    sizes[number] = size
        return found, sizes

    def _locate(self, numbers: Sequence[int]) -> dict[int, tuple[Place, int]]:
        rows = self._connection.exec_driver_sql(
            f"SELECT id, function_id, priority, state, size FROM {job.name} WHERE id IN ({_list(numbers)})"  # noqa: S608
        )
        return {number: (Place(*place), size) for number, *place, size in rows}

    def _sizes(self, numbers: Iterable[int]) -> int:
        sizes = self._taken_sizes
        return sum(sizes[number] for number in numbers)

    def _change(self, place: Place, jobs: int, size: int) -> None:
        counts = self._totals[place]
        counts[0] += jobs
        counts[1] += size

    def _affect(self, numbers: Sequence[int], rows: int) -> None:
        if rows != len(numbers):
            raise Mismatch

    def _count(self) -> None:
        rows = [f"({f},{p},{s},{jobs},{size})" for (f, p, s), (jobs, size) in sorted(self._totals.items())]
        for some in _chunks(rows, _IDS):
            self._connection.exec_driver_sql(
                f"INSERT INTO {backlog.name} VALUES {','.join(some)} {self._engine.add_counts}"  # noqa: S608
            )
        self._totals.clear()

    def _place(self, key: JobKey) -> Place | None:
        """None: nothing ever lay there."""
        function_id = self._functions.get(key.function) or self.new_functions.get(key.function)
        return None if function_id is None else Place(function_id, key.priority, key.state)

    def _function_id(self, name: bytes) -> int:
        known = self._functions.get(name) or self.new_functions.get(name)
        if known is None:
            known = self.new_functions[name] = self._next_function + len(self.new_functions)
            self._connection.execute(insert(function).values(id=known, name=name))
        return known

    # -- beside jobs ---------------------------------------------------------------------------------------------

    def _keep_results(self, results: Sequence[Result], expire: int) -> None:
        # A job ends once; where a commit is repeated, the later one counts.
        newest = {one.id: one for one in results}
        self._forget_results(list(newest))
        rows = []
        for number, name, unique, outcome, numerator, denominator, data, finished, expires in newest.values():
            kept = self._kept(-number, data)
            rows.append(
                (
                    *(number, name, unique, outcome, numerator[:NUMBER], denominator[:NUMBER]),
                    *(kept, finished, expires, len(data)),
                )
            )
        self._insert(result, rows)
        if expire:
            over = select(result.c.id).where(result.c.expires <= expire).order_by(result.c.expires).limit(_EXPIRE)
            self._forget_results(list(self._connection.execute(over).scalars()))

    def _forget_results(self, numbers: Sequence[int]) -> None:
        self._delete(result, numbers)
        self._delete(piece, [-number for number in numbers])

    def _remember(self, settings: Mapping[bytes, bytes | None]) -> None:
        for name, value in settings.items():
            self._connection.execute(delete(setting).where(setting.c.name == name))
            if value is not None:
                self._connection.execute(insert(setting).values(name=name, value=value))


def last_job(connection: Connection) -> int:
    """The largest id in the table, 0 for none."""
    return int(connection.execute(select(func.max(job.c.id))).scalar() or 0)


def _chunks(values: Sequence[V], size: int) -> Iterator[list[V]]:
    found = iter(values)
    while some := list(islice(found, size)):
        yield some


def _list(numbers: Sequence[int]) -> str:
    return ",".join(map(str, numbers))
