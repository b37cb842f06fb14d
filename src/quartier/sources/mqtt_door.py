"""The sign-in of MQTT clients at our broker (NATS' auth callout, ADR-26).

A maker signs in with any user name and her token as password, and may publish to the topics of her own sensors. A
network server signs in with the key of its source and the source's broker password, and may publish what that source
reads, as soon as its connector has subscribed: a PUBACK has to be a promise; and it may subscribe to its downlinks.
Other rooms add topics of theirs for tokens, and for clients without any. A client whose token was revoked is out within
the hour: every sign-in ends after that time.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import structlog
from django.db import DatabaseError
from nats.aio.msg import Msg
from nats.errors import Error as NatsError

from quartier.cities.secrets import SecretError
from quartier.cities.tokens import TokenError
from quartier.engines.bus import Bus
from quartier.engines.nkeys import Issuer, TokenFormatError, claims_of
from quartier.sources import metrics
from quartier.sources.connect.mqtt import CLIENT_PREFIX
from quartier.sources.grants import Grant, look_up
from quartier.sources.models import Source
from quartier.sources.threads import in_thread

log = structlog.get_logger(__name__)

SUBJECT: Final = "$SYS.REQ.USER.AUTH"
MAKER_TOPIC: Final = "quartier/v1"
_LONGEST_S: Final = 3600
_AT_ONCE: Final = 64
_DOWNLINKS: Final = ("application.*.device.*.command.down", "v3.*.devices.*.down.>")
_VERSION: Final = 2


class SignInError(Exception):
    """A client may not come in; ``reason`` is a short code for the counter."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


class Topics(NamedTuple):
    """Subjects that somebody may publish and subscribe to."""

    publish: list[str]
    subscribe: list[str]


# What another room allows a token, or everybody (None).
type Further = Callable[[Grant | None], Topics]
_NOTHING: Final = Topics([], [])


def nothing_more(_: Grant | None) -> Topics:
    """No topics beside those of this room."""
    return _NOTHING


@dataclass(frozen=True, slots=True)
class Pass:
    """What a client may do: subjects it may publish and subscribe to, and until when (Unix time)."""

    name: str
    publish: list[str]
    subscribe: list[str]
    until: int


def subject_of(topic: str) -> list[str]:
    """NATS subjects for an MQTT topic filter. ``a/#`` covers ``a`` itself, too (MQTT 3.1.1 §4.7.1.2)."""
    subject = ".".join("*" if level == "+" else ">" if level == "#" else level for level in topic.split("/"))
    return [subject[:-2], subject] if subject.endswith(".>") else [subject]


def pass_of_token(token: str, further: Further = nothing_more) -> Pass:
    """What a token allows: the topics of its maker's sensors, and ``further`` ones. Raises SignInError."""
    try:
        grant = look_up(token)
    except TokenError as error:
        raise SignInError("token", str(error)) from None
    more = further(grant)
    if not grant.actor.may("observations:write") and not more.subscribe:
        raise SignInError("scope", "the token lacks the scope observations:write")
    topics = [
        f"{MAKER_TOPIC}/{device.external_id}"
        for device in grant.devices.values()
        if grant.actor.may("observations:write", device.municipality_id)
    ]
    if not topics and not more.publish and not more.subscribe:
        raise SignInError("no_device", "no sensor is registered for this token")
    until = int(time.time()) + _LONGEST_S
    if grant.expires_at is not None:
        until = min(until, int(grant.expires_at.timestamp()))
    publish = [subject for topic in topics for subject in subject_of(topic)]
    return Pass(grant.actor.name, [*publish, *more.publish], list(more.subscribe), until)


def pass_of_source(key: str, password: str) -> Pass:
    """What a network server may do that uses our broker. Raises SignInError."""
    source = Source.objects.filter(key=key, enabled=True).first()
    if source is None or source.settings.get("broker") != "own":
        raise SignInError("unknown", "no token, and no source that uses this broker")
    try:
        wanted = source.credentials.get("broker_password", "")
    except SecretError as error:
        raise SignInError("sealed", str(error)) from None
    if not wanted or not hmac.compare_digest(wanted.encode(), password.encode()):
        raise SignInError("password", "wrong password of a source")
    if source.settings["topic"] not in source.cursor.get("topics", ()):
        # The broker would acknowledge messages that it keeps for nobody.
        raise SignInError("not_ready", "the source's connector has not subscribed yet, try again")
    return Pass(
        f"source {key}", subject_of(source.settings["topic"]), list(_DOWNLINKS), int(time.time()) + _LONGEST_S
    )


def decide(user: str, password: str, client: str, kind: str, further: Further = nothing_more) -> Pass:
    """Let a client in, with what it may do. Raises SignInError."""
    if kind not in ("mqtt", "mqtt_ws", "mqtt_websocket"):
        raise SignInError("protocol", "only MQTT clients sign in here")
    if client.startswith(CLIENT_PREFIX):
        # With our own client id somebody would take over our sessions, and the messages in them.
        raise SignInError("client_id", "client ids beginning with quartier- are ours")
    if password.startswith("qt_"):
        return pass_of_token(password, further)
    if not user and not password and (open_ := further(None)).subscribe:
        return Pass("anonymous", list(open_.publish), list(open_.subscribe), int(time.time()) + _LONGEST_S)
    return pass_of_source(user, password)


class Door:
    """Answers the broker's questions until it is closed."""

    def __init__(self, bus: Bus, issuer: Issuer, further: Further = nothing_more) -> None:
        """``further`` says what other rooms allow."""
        self._bus = bus
        self._further = further
        self._issuer = issuer
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._open: set[asyncio.Task[None]] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until ``stop``."""
        subscription = await self._bus.nc.subscribe(SUBJECT, queue="door", cb=self._on_request)
        try:
            await stop.wait()
        finally:
            if not self._bus.nc.is_closed:
                await subscription.unsubscribe()
            await asyncio.gather(*self._open, return_exceptions=True)

    async def _on_request(self, message: Msg) -> None:
        if self._room.locked():
            # The server gives each sign-in a few seconds; whoever waits longer is turned away by it.
            metrics.REFUSED_AT_DOOR.labels("mqtt", "busy").inc()
            return
        await self._room.acquire()
        task = asyncio.create_task(self._answer(message))
        self._open.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._open.discard(task)
        self._room.release()

    async def _answer(self, message: Msg) -> None:
        try:
            request = claims_of(message.data)["nats"]
            server, user_key = request["server_id"]["id"], request["user_nkey"]
            options, info = request["connect_opts"], request["client_info"]
        except (TokenFormatError, KeyError, TypeError):
            log.warning("door.unreadable")
            return
        reply: dict[str, Any]
        try:
            granted = await in_thread(
                decide,
                options.get("user", ""),
                options.get("pass", ""),
                info.get("mqtt_id", ""),
                info.get("type", ""),
                self._further,
                timeout_s=4,
            )
        except SignInError as error:
            metrics.REFUSED_AT_DOOR.labels("mqtt", error.reason).inc()
            log.info("door.refused", reason=error.reason, host=info.get("host", ""))
            reply = {"error": str(error)}
        except (DatabaseError, TimeoutError) as error:
            metrics.REFUSED_AT_DOOR.labels("mqtt", "store_away").inc()
            log.warning("door.store_away", error=type(error).__name__)
            reply = {"error": "not possible at the moment, try again"}
        else:
            reply = {"jwt": self._user(granted, user_key)}
        answer = self._issuer.sign(
            {
                "sub": user_key,
                "aud": server,
                "iat": int(time.time()),
                "jti": secrets.token_hex(8),
                "nats": {**reply, "type": "authorization_response", "version": _VERSION},
            }
        )
        try:
            await message.respond(answer.encode())
        except NatsError as error:
            log.warning("door.not_answered", error=type(error).__name__)

    def _user(self, granted: Pass, user_key: str) -> str:
        may_subscribe: dict[str, list[str]] = (
            {"allow": granted.subscribe} if granted.subscribe else {"deny": [">"]}
        )
        return self._issuer.sign(
            {
                "sub": user_key,
                # Everybody is in the one account of the installation.
                "aud": "$G",
                "name": granted.name[:100],
                "iat": int(time.time()),
                "exp": granted.until,
                "jti": secrets.token_hex(8),
                "nats": {
                    # An empty list would allow everything.
                    "pub": {"allow": granted.publish} if granted.publish else {"deny": [">"]},
                    "sub": may_subscribe,
                    "subs": -1,
                    "data": -1,
                    "payload": -1,
                    "allowed_connection_types": ["MQTT", "MQTT_WS"],
                    "type": "user",
                    "version": _VERSION,
                },
            }
        )
