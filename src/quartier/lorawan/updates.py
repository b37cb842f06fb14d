"""Which software update a Basics Station gets next, and how far it is: one rule for the radio and for pages."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from quartier.lorawan.gateways.cups_messages import MOST_KEYS

MOST_ATTEMPTS: Final = 3
PAUSE: Final = timedelta(minutes=10)
"""A Station runs an update beside its work, and may ask again before it is through."""
NO_PACKAGE: Final = "-"
"""Stands in ``packages`` for a Station that tells none."""


class UpdateState(StrEnum):
    """How far an update is at one Station."""

    NONE = "none"
    """There is none for it."""
    WAITING = "waiting"
    """It is given at the next request."""
    NO_KEY = "no_key"
    """The Station has no key of those that signed it."""
    BROKEN = "broken"
    """The Station began to fetch it and has not fetched all."""
    GIVEN = "given"
    """Fetched; whether it runs is known with one of the next requests."""
    MISSED = "missed"
    """The Station runs something else all the same; it is given again."""
    STOPPED = "stopped"
    """Given in vain too often."""
    DONE = "done"
    """The Station runs it."""


OFFERED: Final = frozenset({UpdateState.WAITING, UpdateState.BROKEN, UpdateState.MISSED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """An active update for a Station's model, with what became of it there."""

    id: int
    package: str
    size: int
    packages: Sequence[str]
    stations: Sequence[str]
    signatures: Mapping[int, bytes]
    attempts: int = 0
    begun_at: datetime | None = None
    delivered_at: datetime | None = None

    def fits(self, package: str, station: str) -> bool:
        """Whether it can be put on what the Station runs."""
        return (not self.packages or (package or NO_PACKAGE) in self.packages) and (
            not self.stations or any(station.startswith(one) for one in self.stations)
        )


def choose(
    offers: Iterable[Offer],
    *,
    package: str,
    station: str,
    keys: Collection[int],
    asked_at: datetime | None,
    now: datetime,
) -> tuple[Offer | None, UpdateState]:
    """The update that counts for a Station, of those in order of precedence, and how far it is.

    ``asked_at`` is when it told the rest. Older updates than the one it runs are never looked at, so that two active
    ones do not follow each other for ever.
    """
    for offer in offers:
        if offer.package == package:
            return offer, UpdateState.DONE
        if offer.fits(package, station):
            return offer, _state(offer, keys, asked_at, now)
    return None, UpdateState.NONE


def _state(offer: Offer, keys: Collection[int], asked_at: datetime | None, now: datetime) -> UpdateState:
    if not offer.signatures.keys() & set(list(keys)[:MOST_KEYS]):
        return UpdateState.NO_KEY
    begun, delivered = offer.begun_at, offer.delivered_at
    broken = begun is not None and (delivered is None or delivered < begun)
    if (
        delivered is not None
        and not broken
        and (asked_at is None or asked_at <= delivered or now - delivered < PAUSE)
    ):
        return UpdateState.GIVEN
    if offer.attempts >= MOST_ATTEMPTS:
        return UpdateState.STOPPED
    if broken:
        return UpdateState.BROKEN
    return UpdateState.MISSED if delivered is not None else UpdateState.WAITING
