"""Is the installation well? ``/health`` for a load balancer, ``/metrics`` for Prometheus, both asked by ``doctor``.

The engines are asked over connections of their own, so that the answer is about the engines and not about somebody's
pool. An answer is kept for two seconds: asking often costs the engines nothing. What is inside (versions, lags) is told
to the networks of the setting ``metrics_networks`` only; everybody else learns whether it runs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import nats
import nats.errors
import psycopg
from nats.aio.client import Client
from nats.js.errors import Error as JetStreamError
from nats.js.errors import NotFoundError
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from quartier import __version__
from quartier.config import config
from quartier.engines.bus import INBOX, OBSERVED

_TIMEOUT_S: Final = 3.0
_KEEP_S: Final = 2.0
# A backlog of this many messages is worth a look: a minute of work at the rate that one process reaches.
BEHIND_MESSAGES: Final = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Database:
    """PostgreSQL: ``missing`` are migrations that are not applied; ages in seconds."""

    ok: bool
    version: str = ""
    error: str = ""
    missing: tuple[str, ...] = ()
    newest_observation_age_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A stream: what it holds, and how many messages each consumer has still before it."""

    messages: int
    size_bytes: int
    pending: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """NATS and its streams."""

    ok: bool
    version: str = ""
    error: str = ""
    streams: Mapping[str, Stream] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """The answers of both engines, and what follows from them."""

    version: str
    database: Database
    bus: Bus

    @property
    def status(self) -> str:
        """``ok``; ``behind``: works, but the inbox fills faster than it is worked off; ``down``."""
        if not self.database.ok or not self.bus.ok or self.database.missing:
            return "down"
        return "behind" if self.pending > BEHIND_MESSAGES else "ok"

    @property
    def pending(self) -> int:
        """Messages in the inbox that the intake has still before it."""
        inbox = self.bus.streams.get(INBOX)
        return max(inbox.pending.values(), default=0) if inbox else 0


async def inspect(postgres_url: str, nats_url: str) -> Health:
    """Ask both engines; takes three seconds at most."""
    database, bus = await asyncio.gather(_database(postgres_url), _bus(nats_url))
    return Health(version=__version__, database=database, bus=bus)


async def _database(url: str) -> Database:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await psycopg.AsyncConnection.connect(
                url, autocommit=True, application_name="quartier health", connect_timeout=2
            )
            async with connection:
                version = connection.info.parameter_status("server_version") or ""
                applied = await _applied(connection)
                missing = tuple(sorted(await asyncio.to_thread(expected_migrations) - applied))
                return Database(
                    ok=True,
                    version=version.split(" ")[0],
                    missing=missing,
                    newest_observation_age_s=await _age(connection),
                )
    except (psycopg.Error, TimeoutError, OSError) as error:
        return Database(ok=False, error=_first_line(error))


async def _applied(connection: psycopg.AsyncConnection[Any]) -> frozenset[str]:
    try:
        cursor = await connection.execute("SELECT app || '.' || name FROM django_migrations")
    except psycopg.errors.UndefinedTable:
        return frozenset()
    return frozenset(row[0] for row in await cursor.fetchall())


@lru_cache(maxsize=1)
def expected_migrations() -> frozenset[str]:
    """All migrations of this version of the program."""
    from django.db.migrations.loader import MigrationLoader  # noqa: PLC0415 (only where Django is set up)

    loader = MigrationLoader(None, load=False)
    loader.load_disk()
    return frozenset(f"{app}.{name}" for app, name in loader.disk_migrations)


async def _age(connection: psycopg.AsyncConnection[Any]) -> float | None:
    """Seconds since an observation was recorded last (over all series)."""
    try:
        cursor = await connection.execute(
            "SELECT extract(epoch FROM now() - max(recorded_at))::float8 FROM twin_state"
        )
    except psycopg.errors.UndefinedTable:
        return None
    row = await cursor.fetchone()
    return None if row is None or row[0] is None else round(float(row[0]), 1)


async def connect_once(url: str, *, name: str) -> Client:
    """A connection to NATS, or ConnectionError at once; the client by itself would try for ever."""
    last: Exception | None = None

    async def remember(error: Exception) -> None:
        nonlocal last
        last = error

    try:
        return await nats.connect(
            url,
            name=name,
            allow_reconnect=False,
            max_reconnect_attempts=1,
            reconnect_time_wait=0.1,
            connect_timeout=2,
            error_cb=remember,
        )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise ConnectionError(_first_line(last or error)) from None


def version_of(connection: Client) -> str:
    """The version of the server at the other end, such as 2.11.4."""
    version = connection.connected_server_version
    return f"{version.major}.{version.minor}.{version.patch}"


async def _bus(url: str) -> Bus:
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            connection = await connect_once(url, name="quartier health")
            try:
                jetstream = connection.jetstream(timeout=2)
                streams: dict[str, Stream] = {}
                for name in (INBOX, OBSERVED):
                    try:
                        info = await jetstream.stream_info(name)
                    except NotFoundError:
                        continue
                    consumers = await jetstream.consumers_info(name)
                    streams[name] = Stream(
                        messages=info.state.messages,
                        size_bytes=info.state.bytes,
                        # Consumers without a name of their own are pages that look in and leave again.
                        pending={
                            c.name: (c.num_pending or 0) + (c.num_ack_pending or 0)
                            for c in consumers
                            if c.config.durable_name
                        },
                    )
                return Bus(ok=True, version=version_of(connection), streams=streams)
            finally:
                await connection.close()
    except (nats.errors.Error, JetStreamError, TimeoutError, OSError) as error:
        return Bus(ok=False, error=_first_line(error))


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


class _Cache:
    """The last answer, and one inspection at a time however many ask."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()
        self._until = 0.0
        self._health: Health | None = None

    async def get(self) -> Health:
        async with self._lock:
            if self._health is None or time.monotonic() > self._until:
                settings = config()
                self._health = await inspect(settings.postgres_url, settings.nats_url)
                self._until = time.monotonic() + _KEEP_S
            return self._health


_cache = _Cache()


def is_inside(request: Request, networks: str) -> bool:
    """Whether the request comes from one of ``networks``.

    Behind a reverse proxy on the same machine every request seems to come from loopback, so the address that the
    proxy saw counts: the last of X-Forwarded-For, which the proxy itself appended.
    """
    forwarded = request.headers.get("x-forwarded-for", "").rsplit(",", 1)[-1].strip()
    address = forwarded or (request.client.host if request.client else "")
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped:
        parsed = parsed.ipv4_mapped
    return any(parsed in network for network in _networks(networks) if network.version == parsed.version)


@lru_cache(maxsize=4)
def _networks(text: str) -> tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]:
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


async def health(request: Request) -> Response:
    """200 where the installation works, 503 where it does not; details inside the house only."""
    found = await _cache.get()
    body: dict[str, Any] = {
        "status": found.status,
        "time": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    if is_inside(request, config().metrics_networks):
        body |= {**asdict(found), "intake_pending": found.pending}
    return JSONResponse(
        body, status_code=503 if found.status == "down" else 200, headers={"Cache-Control": "no-store"}
    )


class _Installation(Collector):
    """Figures about the installation as a whole, taken when Prometheus asks."""

    def __init__(self, found: Health) -> None:
        self._found = found

    def collect(self) -> Iterable[Metric]:
        """The families."""
        found = self._found
        info = GaugeMetricFamily("quartier_info", "Versions in use", labels=["version", "postgresql", "nats"])
        info.add_metric([found.version, found.database.version, found.bus.version], 1)
        yield info
        up = GaugeMetricFamily("quartier_engine_up", "Whether an engine answers", labels=["engine"])
        up.add_metric(["postgresql"], found.database.ok)
        up.add_metric(["nats"], found.bus.ok)
        yield up
        messages = GaugeMetricFamily(
            "quartier_stream_messages", "Messages kept in a stream", labels=["stream"]
        )
        size = GaugeMetricFamily("quartier_stream_bytes", "Size of a stream", labels=["stream"])
        pending = GaugeMetricFamily(
            "quartier_consumer_pending",
            "Messages that a consumer has still before it",
            labels=["stream", "consumer"],
        )
        for name, stream in found.bus.streams.items():
            messages.add_metric([name], stream.messages)
            size.add_metric([name], stream.size_bytes)
            for consumer, count in stream.pending.items():
                pending.add_metric([name, consumer], count)
        yield from (messages, size, pending)
        if found.database.newest_observation_age_s is not None:
            yield GaugeMetricFamily(
                "quartier_newest_observation_age_seconds",
                "Time since an observation was recorded last",
                value=found.database.newest_observation_age_s,
            )


async def metrics(request: Request) -> Response:
    """Counters of all roles on this machine and figures about the installation, in Prometheus's text form."""
    if not is_inside(request, config().metrics_networks):
        return PlainTextResponse(
            "Not from this network; see the setting metrics_networks.\n", status_code=403
        )
    whole = CollectorRegistry()
    whole.register(_Installation(await _cache.get()))
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        # The supervisor gave every role this folder; prometheus-client keeps each one's counters there.
        MultiProcessCollector(whole)  # type: ignore[no-untyped-call]
        text = await asyncio.to_thread(generate_latest, whole)
    else:
        text = generate_latest(whole) + generate_latest(REGISTRY)
    return Response(text, media_type=CONTENT_TYPE_LATEST)


routes = [Route("/health", health), Route("/metrics", metrics)]
