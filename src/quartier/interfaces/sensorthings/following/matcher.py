"""Which of many queries the readings of a batch belong to, and what to send: an index, then a few statements."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import orjson
import psycopg
import structlog

from quartier.interfaces.sensorthings.compile import geometry
from quartier.interfaces.sensorthings.compile.context import Context, Eyes
from quartier.interfaces.sensorthings.compile.statement import Statement
from quartier.interfaces.sensorthings.following.predicate import Undecided
from quartier.interfaces.sensorthings.following.query import Form, Query
from quartier.interfaces.sensorthings.read import Reader

log = structlog.get_logger(__name__)

_REMEMBERED_S: Final = 15.0
_STATEMENTS_AT_ONCE: Final = 3
_MOST_FORMS: Final = 20_000


class Reading(NamedTuple):
    """One reading of the stream ``observed``."""

    series: int
    time: datetime
    result: Any


@dataclass(frozen=True, slots=True)
class Match:
    """An observation that a query asked for, as JSON."""

    query: Query
    reading: Reading
    body: bytes


class _Facts(NamedTuple):
    municipality_id: int
    multi: int | None


def readings(body: bytes) -> list[Reading]:
    """The readings of a message of ``observed``."""
    return [
        Reading(one["series"], datetime.fromisoformat(one["time"]), one["result"])
        for one in orjson.loads(body)["readings"]
    ]


class Matcher:
    """Knows the queries that are followed and answers for batches of readings."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._by_series: dict[int, set[Query]] = {}
        self._by_multi: dict[int, set[Query]] = {}
        self._any: set[Query] = set()
        self._statements: dict[Form, Statement] = {}
        self._facts: dict[int, _Facts] = {}
        self._seen: dict[Eyes, dict[int, bool]] = {}
        self._since_s = time.monotonic()

    def add(self, query: Query) -> None:
        """Follow a query from now on."""
        self._place(query).add(query)

    def remove(self, query: Query) -> None:
        """Follow it no longer."""
        self._place(query).discard(query)
        for index, key in ((self._by_series, query.series), (self._by_multi, query.multi)):
            if key is not None and not index.get(key, True):
                del index[key]

    def _place(self, query: Query) -> set[Query]:
        if query.series is not None:
            return self._by_series.setdefault(query.series, set())
        if query.multi is not None:
            return self._by_multi.setdefault(query.multi, set())
        return self._any

    async def matches(
        self, batch: Iterable[Reading], only: Sequence[Query] | None = None
    ) -> tuple[list[Match], list[tuple[Query, str]]]:
        """What of a batch was asked for, in its order, by all queries or ``only`` some; and queries that failed.

        Of several readings for the same time the store has the last one. Raises psycopg.Error while it is away.
        """
        unique = {(one.series, one.time): one for one in batch}
        wanted = None if only is None else set(only)
        await self._learn({series for series, _ in unique})
        candidates: dict[Query, list[Reading]] = {}
        for one in unique.values():
            for query in self._asking(one):
                if wanted is None or query in wanted:
                    candidates.setdefault(query, []).append(one)
        if not candidates:
            return [], []
        await self._look(candidates)
        jobs: dict[Form, dict[tuple[int, datetime], list[Query]]] = {}
        for query, found in candidates.items():
            self._sort(query, found, jobs)
        return await self._answers(jobs, unique)

    def _asking(self, one: Reading) -> Iterable[Query]:
        facts = self._facts.get(one.series)
        if facts is None:
            return ()
        # A component of a MultiDatastream is no Datastream.
        index, key = (self._by_series, one.series) if facts.multi is None else (self._by_multi, facts.multi)
        own = index.get(key, ())
        return (*own, *self._any) if self._any else own

    def _sort(
        self,
        query: Query,
        found: list[Reading],
        jobs: dict[Form, dict[tuple[int, datetime], list[Query]]],
    ) -> None:
        """Which form is asked for which readings on behalf of a query."""
        seen = self._seen[query.eyes]
        for one in found:
            if not seen.get(one.series, False):
                continue
            if query.moment is not None and datetime.fromisoformat(query.moment) != one.time:
                continue
            form = query.whole
            if query.simple is not None:
                try:
                    if self._facts[one.series].multi is not None:
                        # Several results stand in one observation; those of all components are in the store.
                        form = query.plain if query.whole.options.filter is None else query.whole
                    elif query.simple(one.result):
                        form = query.plain
                    else:
                        continue
                except Undecided:
                    pass
            jobs.setdefault(form, {}).setdefault((one.series, one.time), []).append(query)

    async def _answers(
        self,
        jobs: dict[Form, dict[tuple[int, datetime], list[Query]]],
        unique: dict[tuple[int, datetime], Reading],
    ) -> tuple[list[Match], list[tuple[Query, str]]]:
        place = {key: n for n, key in enumerate(unique)}
        found: list[tuple[int, Match]] = []
        failed: list[tuple[Query, str]] = []
        room = asyncio.Semaphore(_STATEMENTS_AT_ONCE)

        async def answer(form: Form, asked: dict[tuple[int, datetime], list[Query]]) -> None:
            async with room:
                try:
                    rows = await self._rows(form, list(asked))
                except (psycopg.errors.QueryCanceled, psycopg.DataError, psycopg.ProgrammingError) as error:
                    text = str(error).strip().partition("\n")[0][:200]
                    log.warning("sensorthings.following", error=text)
                    failed.extend((query, text) for query in {one for all_ in asked.values() for one in all_})
                    return
            for series, moment, body in rows:
                key = (series, moment)
                found.extend((place[key], Match(query, unique[key], body)) for query in asked[key])

        await asyncio.gather(*(answer(form, asked) for form, asked in jobs.items()))
        found.sort(key=lambda one: one[0])
        return [match for _, match in found], failed

    async def _rows(self, form: Form, keys: list[tuple[int, datetime]]) -> list[tuple[int, datetime, bytes]]:
        statement = self._statements.get(form)
        if statement is None:
            if len(self._statements) >= _MOST_FORMS:
                self._statements.clear()
            statement = self._statements[form] = form.statement()

        async def work(connection: Any) -> list[tuple[int, datetime, bytes]]:
            parameters = statement.filled(form.base, form.segments)
            for region in statement.regions:
                parameters[region.index] = await geometry.answer(connection, region)
            parameters[0] = "{" + ",".join(str(series) for series, _ in keys) + "}"
            parameters[1] = "{" + ",".join(moment.isoformat() for _, moment in keys) + "}"
            cursor = await connection.execute(statement.sql, parameters, prepare=True)
            return [(row[0], row[1].astimezone(UTC), row[2]) for row in await cursor.fetchall()]

        return await self._reader.once_more(work)

    # -- what is known of series

    async def _learn(self, ids: set[int]) -> None:
        if time.monotonic() - self._since_s > _REMEMBERED_S:
            self._facts, self._seen, self._since_s = {}, {}, time.monotonic()
        unknown = ids - self._facts.keys()
        if not unknown:
            return

        async def work(connection: Any) -> list[Any]:
            cursor = await connection.execute(
                b"SELECT s.id, s.municipality_id, d.multi_id FROM twin_series s"
                b" LEFT JOIN sensorthings_datastream d ON d.series_id = s.id WHERE s.id = ANY($1::integer[])",
                [_array(unknown)],
            )
            found: list[Any] = await cursor.fetchall()
            return found

        for id_, municipality_id, multi in await self._reader.once_more(work):
            self._facts[id_] = _Facts(municipality_id, multi)

    async def _look(self, candidates: dict[Query, list[Reading]]) -> None:
        """Find out which series the eyes of the queries see."""
        asked: dict[Eyes, set[int]] = {}
        for query, found in candidates.items():
            asked.setdefault(query.eyes, set()).update(one.series for one in found)
        for eyes, ids in asked.items():
            known = self._seen.setdefault(eyes, {})
            if unknown := ids - known.keys():
                visible = await self._visible(eyes, unknown)
                known |= {one: one in visible for one in unknown}

    async def _visible(self, eyes: Eyes, ids: set[int]) -> set[int]:
        context = Context(eyes)
        where = [f"s.id = ANY({context.bind(_array(ids), 'integer[]')})"]
        if sees := context.sees("t"):
            where.append(sees)
        if city := context.city():
            where.append(f"s.municipality_id = {city}")
        sql = f"SELECT s.id FROM twin_series s JOIN twin_thing t ON t.id = s.thing_id WHERE {' AND '.join(where)}"  # noqa: S608

        async def work(connection: Any) -> set[int]:
            cursor = await connection.execute(sql.encode(), context.parameters)
            return {row[0] for row in await cursor.fetchall()}

        return await self._reader.once_more(work)


def _array(ids: Iterable[int]) -> str:
    return "{" + ",".join(map(str, sorted(ids))) + "}"
