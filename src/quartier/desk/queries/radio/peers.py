"""Neighbouring networks: what was carried for each other, what of the budgets is used, how the ledgers compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

from django.db.models import Count, F, Q, QuerySet, Sum

from quartier.cities.rules import Actor
from quartier.desk.access import RADIO, within
from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement, RoamingDay, RoamingFrame
from quartier.lorawan.roaming.policy import day_of

_EPOCH: Final = date(1970, 1, 1)
CONFIRMED: Final = RoamingFrame.State.CONFIRMED


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """What one side carried for the other on a day. Only what both sides confirmed counts."""

    day: date
    we_carry: bool
    uplinks: int = 0
    uplink_airtime_s: float = 0
    downlinks: int = 0
    downlink_airtime_s: float = 0
    open: int = 0
    refused: int = 0
    reconciled_at: datetime | None = None
    differences: int = 0


def visible(actor: Actor) -> QuerySet[LoraPeer]:
    """The peers whose terms the actor's cities decide; without what is sealed."""
    return (
        LoraPeer.objects.filter(within(actor, RADIO))
        .select_related("municipality")
        .defer("sealed", "bearer_digest")
    )


def today(peers: Sequence[LoraPeer], now: datetime) -> dict[int, list[Traffic]]:
    """The traffic of today (UTC) by peer."""
    return {peer.pk: traffic(peer, now, days=1) for peer in peers}


def traffic(peer: LoraPeer, now: datetime, *, days: int = 14) -> list[Traffic]:
    """The last days, the newest first: frames where they are kept, and the sums of what is gone already."""
    last = day_of(now)
    first = last - days + 1
    rows: dict[tuple[int, bool], Traffic] = {}
    sums = {
        ((one.day - _EPOCH).days, one.we_carry): one
        for one in RoamingDay.objects.filter(peer=peer, day__gte=_EPOCH + timedelta(days=first))
    }
    up, down, counted = Q(direction="up"), Q(direction="down"), Q(state=CONFIRMED)
    for row in (
        RoamingFrame.objects.filter(peer=peer, day__gte=first)
        .order_by()
        .values("day", "we_carry")
        .annotate(
            uplinks=Count("pk", filter=up & counted),
            uplink_us=Sum("airtime_us", filter=up & counted, default=0),
            downlinks=Count("pk", filter=down & counted),
            downlink_us=Sum("airtime_us", filter=down & counted, default=0),
            open=Count("pk", filter=Q(state=RoamingFrame.State.OPEN)),
            refused=Count("pk", filter=Q(state__in=(RoamingFrame.State.REFUSED, RoamingFrame.State.FAILED))),
        )
    ):
        kept = sums.pop((row["day"], row["we_carry"]), None)
        rows[row["day"], row["we_carry"]] = Traffic(
            day=_EPOCH + timedelta(days=row["day"]),
            we_carry=row["we_carry"],
            uplinks=row["uplinks"],
            uplink_airtime_s=row["uplink_us"] / 1e6,
            downlinks=row["downlinks"],
            downlink_airtime_s=row["downlink_us"] / 1e6,
            open=row["open"],
            refused=row["refused"],
            reconciled_at=kept.reconciled_at if kept else None,
            differences=kept.differences if kept else 0,
        )
    for (day, we_carry), one in sums.items():
        rows[day, we_carry] = Traffic(
            day=one.day,
            we_carry=we_carry,
            uplinks=one.uplinks,
            uplink_airtime_s=one.uplink_airtime_us / 1e6,
            downlinks=one.downlinks,
            downlink_airtime_s=one.downlink_airtime_us / 1e6,
            reconciled_at=one.reconciled_at,
            differences=one.differences,
        )
    return [rows[key] for key in sorted(rows, key=lambda key: (-key[0], not key[1]))]


@dataclass(frozen=True, slots=True)
class Budget:
    """What of an agreement was used today (UTC)."""

    uplink_s: float
    downlink_s: float
    downlinks: int


def used_today(agreements: Sequence[RoamingAgreement], now: datetime) -> dict[int, Budget]:
    """As the radio counts: what failed uses nothing."""
    rows = (
        RoamingFrame.objects.filter(agreement__in=agreements, day=day_of(now))
        .order_by()
        .values("agreement_id")
        .annotate(
            up=Sum("airtime_us", filter=Q(direction="up"), default=0),
            down=Sum("airtime_us", filter=Q(direction="down") & ~Q(state="failed"), default=0),
            n=Count("pk", filter=Q(direction="down") & ~Q(state="failed")),
        )
    )
    return {row["agreement_id"]: Budget(row["up"] / 1e6, row["down"] / 1e6, row["n"]) for row in rows}


def unsettled(peer: LoraPeer, day: date, *, we_carry: bool, limit: int = 100) -> list[RoamingFrame]:
    """Frames of a day that do not count: not confirmed, refused, not sent."""
    return list(
        RoamingFrame.objects.filter(peer=peer, day=(day - _EPOCH).days, we_carry=we_carry)
        .exclude(state=CONFIRMED)
        .order_by(F("at").desc())[:limit]
    )


def utc_day(text: str) -> date | None:
    """A day of an address."""
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC).date()
    except ValueError:
        return None
