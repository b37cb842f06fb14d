"""Plans carried out: statements sent to PostgreSQL, answers put together, as lean as can be.

Compiled plans are remembered by the form of a request: ids in the path and places of pages are parameters. PostgreSQL
writes the JSON; here it is bytes that are passed on.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, cast

import orjson
import psycopg
from psycopg import AsyncConnection, AsyncRawCursor, AsyncRawServerCursor
from psycopg.adapt import Loader
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool

from quartier.config import config
from quartier.interfaces.sensorthings.compile import geometry, paging
from quartier.interfaces.sensorthings.compile.context import Eyes, NotFound
from quartier.interfaces.sensorthings.compile.statement import COUNTED, Plan, Statement, plan
from quartier.interfaces.sensorthings.query.ast import Options, Request, Resource
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.format import escaped, format_options, format_resource
from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource

type ReadPool = AsyncConnectionPool[AsyncConnection[TupleRow]]

STATEMENT_TIMEOUT_MS: Final = 10_000
_REMEMBERED_PLANS: Final = 2_000
_ROWS_AT_ONCE: Final = 2_000
_CONNECTIONS: Final = 8
_EXTENT_REMEMBERED_S: Final = 10.0
_WINDOWS: Final = 4
_PIECE_BYTES: Final = 64 * 1024
_LONGEST_NUMBER: Final = 18


class _Bytes(Loader):
    """Text as the bytes that came: JSON is only passed on."""

    def load(self, data: Any) -> bytes:
        return bytes(data)


def read_pool(url: str | None = None, *, max_size: int = _CONNECTIONS) -> ReadPool:
    """A pool of its own, not open yet: read only, with a time limit, and without a check before every use.

    The check would be a third of the cost of a small request; instead a read on a broken connection is done again.
    """

    async def configure(connection: AsyncConnection[TupleRow]) -> None:
        connection.prepare_threshold = 1
        connection.prepared_max = 500
        for name in ("text", "varchar"):
            connection.adapters.register_loader(name, _Bytes)

    return AsyncConnectionPool(
        url or config().postgres_url,
        connection_class=AsyncConnection[TupleRow],
        kwargs={
            "autocommit": True,
            "application_name": "quartier-sensorthings",
            "connect_timeout": 5,
            "cursor_factory": AsyncRawCursor,
            "options": f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS}"
            " -c default_transaction_read_only=on -c jit=off",
        },
        configure=configure,
        min_size=1,
        max_size=max_size,
        timeout=5,
        reconnect_timeout=8,
        max_idle=300,
        open=False,
        name="quartier-sensorthings",
    )


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it came: its path and query understood, for the eyes of somebody, at an address."""

    resource: Resource
    options: Options
    token: paging.Token | None
    eyes: Eyes
    base: str
    plan: Plan
    # The options of the next page, written out, without their place.
    following: str = ""
    # How many entities of the list come before this page, as far as its address says.
    before: int = 0

    def parameters(self, statement: Statement) -> list[str | None]:
        """The parameters of one of the plan's statements."""
        return statement.filled(self.base, self.resource.segments, self.token)


def split_place(query: bytes) -> tuple[bytes, str | None, int]:
    """A query string without its ``$skiptoken``, and that; so that all pages of a list are one form of request.

    Beside a token ``$skip`` skips nothing: it says how many entities came before, which is the third that is returned.
    """
    if b"skiptoken=" not in query:
        return query, None, 0
    rest, token, before = [], None, None
    for part in query.split(b"&"):
        name, _, value = part.partition(b"=")
        if name in (b"$skiptoken", b"%24skiptoken"):
            if token is not None:
                raise QueryError("given twice", option="$skiptoken")
            token = value.decode("ascii", "replace").replace("%3D", "=")
        elif name in (b"$skip", b"%24skip") and value.isdigit() and len(value) < _LONGEST_NUMBER:
            if before is not None:
                raise QueryError("given twice", option="$skip")
            before = int(value)
        else:
            rest.append(part)
    return b"&".join(rest), token, before or 0


class Reader:
    """Answers requests from the store. One per process."""

    def __init__(self, pool: ReadPool) -> None:
        self.pool = pool
        self._plans: OrderedDict[Any, tuple[Plan, str]] = OrderedDict()
        # How many observations there are, and from when to when; and when that was asked.
        self._extent: tuple[float, TupleRow | None] = (-math.inf, None)

    def understand(
        self, path: str, query: bytes, eyes: Eyes, base: str, *, stream: bool = False, **changes: Any
    ) -> Asked:
        """What is asked for by ``path`` (decoded) and ``query`` (as it came). Raises QueryError and NotFound.

        ``changes`` replace options, such as the metadata that a header asks for, where the query says nothing.
        """
        resource = parse_resource(path)
        query, text, before = split_place(query)
        token = paging.read(text) if text is not None else None
        options = parse_options(query)
        for name, value in changes.items():
            if value is not None and getattr(options, name) is None:
                options = replace(options, **{name: value})
        form = tuple((one.name, one.key is not None, one.indices) for one in resource.segments)
        key = (
            form,
            resource.suffix,
            query,
            eyes,
            token.form if token is not None else None,
            stream,
            *changes.values(),
        )
        found = self._plans.get(key)
        if found is None:
            made = plan(Request(resource, options), eyes, token, stream=stream)
            found = self._plans[key] = (made, format_options(replace(options, skip=None, skiptoken=None)))
            if len(self._plans) > _REMEMBERED_PLANS:
                self._plans.popitem(last=False)
        elif token is not None and token.mark != found[0].mark:
            raise paging.wrong_place()
        return Asked(resource, options, token, eyes, base, *found, before=before or options.skip or 0)

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[AsyncConnection[TupleRow]]:
        """A connection for reading."""
        async with self.pool.connection() as connection:
            yield connection

    async def once_more[T](self, work: Callable[[AsyncConnection[TupleRow]], Awaitable[T]]) -> T:
        """Do ``work`` on a connection; again on another one, if that one turns out to be broken."""
        # Connections of this pool commit by themselves, so that its context manager would have nothing to do at the
        # end but to look whether there is something to do; one that is broken is replaced when it comes back.
        connection = await self.pool.getconn()
        try:
            return await work(connection)
        except psycopg.errors.QueryCanceled:
            raise
        except psycopg.OperationalError:
            pass
        finally:
            await self.pool.putconn(connection)
        async with self.pool.connection() as connection:
            await connection.execute("SELECT 1")
            return await work(connection)

    async def row(
        self, connection: AsyncConnection[TupleRow], statement: Statement, asked: Asked
    ) -> TupleRow | None:
        """The first row of a statement."""
        parameters = await _with_regions(connection, statement, asked)
        cursor = await connection.execute(statement.sql, parameters, prepare=True)
        return await cursor.fetchone()

    # -- answers

    async def entity(self, asked: Asked) -> bytes:
        """One entity as JSON. Raises NotFound."""
        row = await self.once_more(lambda connection: self.row(connection, asked.plan.main, asked))
        if row is None:
            raise _nothing(asked)
        return cast(bytes, row[0])

    async def value(self, asked: Asked) -> bytes | None:
        """The value of a property as JSON; None where it has none. Raises NotFound."""
        row = await self.once_more(lambda connection: self.row(connection, asked.plan.main, asked))
        if row is None:
            raise _nothing(asked)
        return None if row[0] in (None, b"null") else row[0]

    async def count(self, asked: Asked) -> tuple[int, bool]:
        """How many there are, and whether that is an estimate. Raises NotFound."""

        async def work(connection: AsyncConnection[TupleRow]) -> tuple[int, bool]:
            found = await self._count(connection, asked)
            if not found[0]:
                await self._check_parent(connection, asked)
            return found

        return await self.once_more(work)

    async def collection(self, asked: Asked) -> bytes:
        """A page of a list as a whole answer. Raises NotFound."""

        async def work(connection: AsyncConnection[TupleRow]) -> bytes:
            n, items, token = await self._page(connection, asked)
            if not n:
                await self._check_parent(connection, asked)
            head = await self._head(connection, asked)
            if n > asked.plan.top and asked.plan.top:
                head += b'"@iot.nextLink":' + orjson.dumps(next_link(asked, token.decode())) + b","
            return b"{" + head + b'"value":[' + (items or b"") + b"]}"

        return await self.once_more(work)

    async def _page(self, connection: AsyncConnection[TupleRow], asked: Asked) -> TupleRow:
        """The row of a collection's plan; if it has a window of time, of the smallest one that fills the page."""
        statement, plan_ = asked.plan.main, asked.plan
        parameters = await _with_regions(connection, statement, asked)
        row: TupleRow = ()
        for bound in await self._bounds(connection, asked):
            if statement.window is not None:
                opened = "-infinity" if statement.window.descending else "infinity"
                parameters[statement.window.index] = opened if bound is None else bound.isoformat()
            cursor = await connection.execute(statement.sql, parameters, prepare=True)
            (row,) = await cursor.fetchall()
            if bound is None or row[0] > plan_.top:
                break
        return row

    async def _bounds(self, connection: AsyncConnection[TupleRow], asked: Asked) -> list[datetime | None]:
        """Ever wider bounds of time for a page of many series; None, the last one, is no bound."""
        window = asked.plan.main.window
        if window is None:
            return [None]
        if time.monotonic() - self._extent[0] > _EXTENT_REMEMBERED_S:
            cursor = await connection.execute(
                b"SELECT coalesce(sum(n), 0)::bigint, min(first_time), max(time) FROM twin_state"
            )
            self._extent = (time.monotonic(), await cursor.fetchone())
        n, first, last = self._extent[1] or (0, None, None)
        if not n:
            return [None]
        begin = last if window.descending else first
        if asked.token is not None:
            try:
                begin = datetime.fromisoformat(asked.token.items[0] or "")
            except ValueError:
                return [None]
        wanted = asked.plan.top + 1 + (asked.options.skip or 0)
        width = max((last - first) / n * wanted * 2, timedelta(minutes=1))
        bounds: list[datetime | None] = []
        while len(bounds) < _WINDOWS and width < last - first:
            try:
                bounds.append(begin - width if window.descending else begin + width)
            except OverflowError:
                break
            width *= 16
        # Known for some seconds only: newer observations are within every window, for it is open at that end.
        return [*bounds, None]

    async def rows(self, asked: Asked) -> AsyncIterator[tuple[bytes, bytes | None]]:
        """The entities of a streamed plan one by one, with the token of the last one if more follow.

        In constant memory, from a cursor in the server, inside of one transaction: one state of the store.
        """
        plan_ = asked.plan
        async with self.pool.connection() as connection, connection.transaction():
            parameters = await _with_regions(connection, plan_.main, asked)
            n = 0
            async with AsyncRawServerCursor(connection, "rows") as cursor:
                cursor.itersize = _ROWS_AT_ONCE
                await cursor.execute(plan_.main.sql, parameters)
                held: tuple[bytes, bytes | None] | None = None
                async for item, token in cursor:
                    n += 1
                    if held is not None:
                        # Behind the last row of a page there is one more: the token counts.
                        yield held[0], held[1] if n > plan_.top else None
                    held = (item, token) if n <= plan_.top else None
                if held is not None:
                    yield held[0], None
            if not n:
                await self._check_parent(connection, asked)

    async def stream(self, asked: Asked) -> AsyncIterator[bytes]:
        """A list as one answer in pieces, however long it is."""
        head = await self.once_more(lambda connection: self._head(connection, asked))
        pieces = [b"{" + head + b'"value":[']
        size, first, more = 0, True, None
        async for item, token in self.rows(asked):
            pieces.append(item if first else b"," + item)
            first, more = False, token
            size += len(item)
            if size > _PIECE_BYTES:
                yield b"".join(pieces)
                pieces, size = [], 0
                # A fast client must not keep everybody else waiting.
                await asyncio.sleep(0)
        pieces.append(b"]")
        if more is not None:
            pieces.append(b',"@iot.nextLink":' + orjson.dumps(next_link(asked, more.decode())))
        pieces.append(b"}")
        yield b"".join(pieces)

    async def _head(self, connection: AsyncConnection[TupleRow], asked: Asked) -> bytes:
        if asked.plan.count is None:
            return b""
        n, estimated = await self._count(connection, asked)
        return b'"@iot.count":%d,' % n + (b'"@iot.countIsEstimate":true,' if estimated else b"")

    async def _count(self, connection: AsyncConnection[TupleRow], asked: Asked) -> tuple[int, bool]:
        assert asked.plan.count is not None  # noqa: S101
        row = await self.row(connection, asked.plan.count, asked)
        n = int(row[0]) if row else 0
        matching = asked.plan.matching
        if matching is None or n <= COUNTED:
            return n, False
        parameters = await _with_regions(connection, matching, asked)
        cursor = await connection.execute(b"EXPLAIN (FORMAT JSON) " + matching.sql, parameters, prepare=False)
        explained = await cursor.fetchone()
        assert explained is not None  # noqa: S101
        return max(n, int(explained[0][0]["Plan"]["Plan Rows"])), True

    async def _check_parent(self, connection: AsyncConnection[TupleRow], asked: Asked) -> None:
        """An empty list of something that is not there is no list. Raises NotFound."""
        parent = asked.plan.parent
        if parent is not None and await self.row(connection, parent, asked) is None:
            raise _nothing(asked)


def _nothing(asked: Asked) -> NotFound:
    return NotFound(f"there is no {format_resource(replace(asked.resource, suffix=None))}")


async def _with_regions(
    connection: AsyncConnection[TupleRow], statement: Statement, asked: Asked
) -> list[str | None]:
    parameters = asked.parameters(statement)
    for region in statement.regions:
        parameters[region.index] = await geometry.answer(connection, region)
    return parameters


def next_link(asked: Asked, token: str) -> str:
    """The address of the next page.

    Only the token says where that begins. ``$skip`` is for clients that look into the address: Masterportal measures
    its progress by it, and takes a list to be complete as soon as it has reached the ``$top`` that was asked for.
    """
    options = f"{asked.following}&" if asked.following else ""
    skip = f"$skip={asked.before + asked.plan.top}&"
    return f"{asked.base}/{format_resource(asked.resource)}?{skip}{options}$skiptoken={escaped(token)}"
