"""Who may use which topics, and with whose rights what is published there is done.

The broker checks topics when a client signs in (``sources.mqtt_door``): open data may be subscribed to by everybody,
``tokens/<number>/…`` by that token only. It does not say who published a message; therefore a topic alone decides what
may be done by it, and only those who may do all of it are let publish there.
"""

from __future__ import annotations

from typing import Final

from django.utils import timezone

from quartier.cities.models import Municipality, Token
from quartier.cities.rules import NOBODY, Actor, actor_of_token
from quartier.cities.tokens import TokenError
from quartier.engines.nats import INCOMING
from quartier.interfaces.sensorthings.mqtt.topics import Topic
from quartier.interfaces.sensorthings.write.rights import OBSERVE, WRITE
from quartier.sources.grants import Grant
from quartier.sources.mqtt_door import Topics
from quartier.twin.models import Series

_VERSIONS: Final = ("v1//1", "v1//0")
# A token that may write to more Datastreams than this uses its city's topics or its own.
_MOST_STREAMS: Final = 500


def topics_of(grant: Grant | None) -> Topics:
    """The subjects that a token (or nobody) may publish and subscribe to."""
    publish: list[str] = []
    subscribe = [f"{before}{version}.>" for version in _VERSIONS for before in ("", "*.")]
    if grant is None:
        return Topics(publish, subscribe)
    own = f"tokens.{grant.token_id}"
    subscribe += [f"{own}.{before}{version}.>" for version in _VERSIONS for before in ("", "*.")]
    actor = grant.actor
    if actor.may(OBSERVE) or actor.may(WRITE):
        publish.append(f"{INCOMING}.{own}.>")
        publish += _plain(actor)
    return Topics(publish, subscribe)


def _plain(actor: Actor) -> list[str]:
    """Topics without a token in them: where all that can be done is allowed to the actor anyway."""
    observes, writes = actor.municipalities(OBSERVE), actor.municipalities(WRITE)
    if observes is None and writes is None:
        return [
            f"{INCOMING}.{before}{version}.{rest}"
            for version in _VERSIONS
            for before in ("", "*.")
            for rest in _REST
        ]
    everywhere = observes if writes is None else writes if observes is None else observes & writes
    slugs = Municipality.objects.filter(pk__in=everywhere or ()).values_list("slug", flat=True)
    found = [
        f"{INCOMING}.{slug}.{version}.{rest}" for slug in slugs for version in _VERSIONS for rest in _REST
    ]
    if actor.person_id is not None and not everywhere:
        own = Series.objects.filter(thing__owner_person_id=actor.person_id).order_by("id")
        if observes is not None:
            own = own.filter(municipality_id__in=observes)
        found += [
            f"{INCOMING}.{version}.Datastreams({series}).Observations"
            for series in own.values_list("pk", flat=True)[:_MOST_STREAMS]
            for version in _VERSIONS
        ]
    return found


_REST: Final = ("Observations", "*.Observations")


def reader_of(topic: Topic) -> Actor:
    """With whose eyes a topic is read. Raises TokenError where its token is not valid any more."""
    return NOBODY if topic.token_id is None else _actor_of(topic.token_id)


def writer_of(topic: Topic) -> Actor:
    """With whose rights what came by a topic is done.

    The broker let it pass only from those who may do as much as the actor that this returns. Raises TokenError.
    """
    if topic.token_id is not None:
        return _actor_of(topic.token_id)
    everything = frozenset({OBSERVE, WRITE, "things:read"})
    if not topic.city:
        return Actor(f"MQTT {topic.version}", None, {None: everything})
    place = Municipality.objects.filter(slug=topic.city).values_list("pk", flat=True).first()
    if place is None:
        raise TokenError(f"there is no municipality {topic.city!r}")
    return Actor(f"MQTT {topic.city}", None, {place: everything})


def _actor_of(token_id: int) -> Actor:
    token = Token.objects.select_related("person", "municipality").filter(pk=token_id).first()
    if token is None or token.revoked_at is not None:
        raise TokenError("the token of this topic was revoked")
    if token.expires_at is not None and token.expires_at <= timezone.now():
        raise TokenError("the token of this topic has expired")
    return actor_of_token(token)
