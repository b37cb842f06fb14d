"""Events that network servers send by HTTP: checked for their key, kept as they are, read later by the pipeline."""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from weakref import WeakKeyDictionary

import msgspec
import psycopg
import structlog
from psycopg_pool import PoolTimeout
from starlette.requests import Request
from starlette.responses import Response

from quartier.cities.secrets import SecretError
from quartier.engines.pools import Pool
from quartier.intake.inbox import RawMessage
from quartier.sources.api.answers import ApiError, accepted, body_of, put, require_json
from quartier.sources.kinds import KINDS
from quartier.sources.models import Source
from quartier.sources.threads import in_thread

log = structlog.get_logger(__name__)

_REMEMBERED_S: Final = 10.0
_WRITE_S: Final = 2.0
_json = msgspec.json.Decoder(msgspec.Raw)


@dataclass(frozen=True, slots=True)
class _Known:
    id: int
    municipality: str
    kind: str
    secret: bytes
    enabled: bool

    def __repr__(self) -> str:
        return f"_Known({self.id})"


_known: dict[str, tuple[float, _Known | None]] = {}


def _look_up(key: str) -> _Known | None:
    source = Source.objects.select_related("municipality").filter(key=key).first()
    kind = KINDS.get(source.kind) if source else None
    if source is None or kind is None or kind.transport(source.settings) != "webhook":
        return None
    try:
        secret = source.credentials.get("webhook_secret", "")
    except SecretError:
        secret = ""
    return _Known(source.pk, source.municipality.slug, source.kind, secret.encode(), source.enabled)


async def _source(key: str) -> _Known:
    found = _known.get(key)
    if found is None or time.monotonic() - found[0] > _REMEMBERED_S:
        if len(_known) > 1000:
            _known.clear()
        found = (time.monotonic(), await in_thread(_look_up, key[:60]))
        _known[key] = found
    if found[1] is None:
        raise ApiError(
            404, "unknown_source", f"there is no source {key[:60]!r} that takes webhooks", field="key"
        )
    return found[1]


def _check_key(request: Request, source: _Known) -> None:
    header = request.headers.get("x-quartier-key", "")
    scheme, _, rest = request.headers.get("authorization", "").partition(" ")
    if not header and scheme.lower() == "bearer":
        header = rest.strip()
    if not header:
        raise ApiError(
            401,
            "no_key",
            "send the source's key in the header X-Quartier-Key or Authorization: Bearer",
            field="Authorization",
            headers={"WWW-Authenticate": "Bearer"},
        )
    if not source.secret or not hmac.compare_digest(header.encode(), source.secret):
        raise ApiError(403, "wrong_key", "this is not the source's key", field="Authorization")
    if not source.enabled:
        raise ApiError(403, "source_off", "the source is switched off", field="key")


async def receive(request: Request) -> Response:
    """``POST /api/sources/{key}/events``."""
    key = request.path_params["key"]
    source = await _source(key)
    health = _health_of(request.app.state.pool)
    try:
        _check_key(request, source)
    except ApiError as error:
        if error.error == "wrong_key":
            health.note(source.id, error="a message came with a wrong key")
        raise
    require_json(request)
    body = await body_of(request)
    try:
        _json.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        health.note(source.id, error=f"a message was not JSON: {error}")
        raise ApiError(400, "not_json", str(error), field="body") from None
    query = f"?{request.url.query}" if request.url.query else ""
    position = await put(
        request,
        RawMessage(
            municipality=source.municipality,
            source=key,
            kind=source.kind,
            received_at=datetime.now(UTC),
            body=body,
            topic=f"{request.url.path}{query}"[:300],
        ),
    )
    health.note(source.id)
    return accepted(position)


class _Health:
    """Writes how webhooks are doing, at most every two seconds."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._received: dict[int, int] = {}
        self._errors: dict[int, str] = {}
        self._task: asyncio.Task[None] | None = None

    def note(self, source_id: int, *, error: str = "") -> None:
        """A message came, or was turned away."""
        if error:
            self._errors[source_id] = error[:500]
        else:
            self._received[source_id] = self._received.get(source_id, 0) + 1
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._write())

    async def _write(self) -> None:
        await asyncio.sleep(_WRITE_S)
        received, self._received = self._received, {}
        errors, self._errors = self._errors, {}
        try:
            async with self._pool.connection() as connection:
                for id_, number in received.items():
                    await connection.execute(
                        "UPDATE sources_source SET received = received + %s, last_message_at = now(), failures = 0,"
                        " state_since = CASE WHEN state = 'ok' THEN state_since ELSE now() END, state = 'ok'"
                        " WHERE id = %s AND enabled",
                        [number, id_],
                    )
                for id_, error in errors.items():
                    await connection.execute(
                        "UPDATE sources_source SET failures = failures + 1, last_error = %s, last_error_at = now()"
                        " WHERE id = %s",
                        [error, id_],
                    )
        except (psycopg.Error, PoolTimeout) as error:
            log.warning("webhooks.health_not_written", error=type(error).__name__)


_healths: WeakKeyDictionary[Pool, _Health] = WeakKeyDictionary()


def _health_of(pool: Pool) -> _Health:
    found = _healths.get(pool)
    if found is None:
        found = _healths[pool] = _Health(pool)
    return found
