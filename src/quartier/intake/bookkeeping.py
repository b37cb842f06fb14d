"""What is noted beside the observations: refused messages, frames seen, and when a device was last heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from quartier.intake.interpreter import Refusal, Work

# A longer body is kept by the inbox only.
STORED_BODY_BYTES = 65_536


async def list_refusals(connection: AsyncConnection[TupleRow], refusals: Sequence[Refusal]) -> None:
    if not refusals:
        return
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO intake_refusedmessage (at, municipality_id, source_key, external_id, inbox_position, reason,"
            " detail, topic, body, headers)"
            " SELECT %s, (SELECT id FROM cities_municipality WHERE slug = %s), %s, %s, %s, %s, %s, %s, %s, %s"
            # A batch that is delivered again refuses the same messages again: they are listed once.
            " WHERE NOT EXISTS (SELECT 1 FROM intake_refusedmessage r WHERE r.inbox_position = %s AND r.reason = %s"
            " AND r.external_id = %s AND r.detail = %s)",
            [_refusal_row(refusal) for refusal in refusals],
        )


def _refusal_row(refusal: Refusal) -> tuple[Any, ...]:
    raw, position = refusal.arrived
    external_id, reason, detail = refusal_key(refusal)
    return (
        raw.received_at,
        _storable(raw.municipality),
        _storable(raw.source)[:60],
        external_id,
        position,
        reason,
        detail,
        _storable(raw.topic)[:300],
        raw.body[:STORED_BODY_BYTES],
        Jsonb({"kind": raw.kind, **{_storable(k): _storable(v) for k, v in raw.headers.items()}}),
        position,
        reason,
        external_id,
        detail,
    )


def refusal_key(refusal: Refusal) -> tuple[str, str, str]:
    """External id, reason and detail as the list of refused messages holds them."""
    return (
        _storable(refusal.external_id)[:120],
        _storable(refusal.error.reason)[:40],
        _storable(refusal.error.detail)[:2000],
    )


def _storable(text: str) -> str:
    """PostgreSQL's text holds neither NUL nor lone surrogates."""
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


async def note_frames(connection: AsyncConnection[TupleRow], work: Sequence[Work]) -> None:
    rows = sorted(
        {
            (one.device.municipality_id, one.device.id, one.uplink.frame_counter, one.frame_time)
            for one in work
            if one.device and one.uplink.frame_counter is not None
        }
    )
    if rows:
        await connection.execute(
            "INSERT INTO intake_frame (municipality_id, device_id, counter, time)"
            " SELECT * FROM unnest(%s::smallint[], %s::bigint[], %s::bigint[], %s::timestamptz[])"
            " ON CONFLICT DO NOTHING",
            [list(column) for column in zip(*rows, strict=True)],
        )


def _number(value: float | None) -> float | None:
    """A plain float that can be shown: a network's NaN says nothing, and a list may not mix int with float."""
    return float(value) if value is not None and math.isfinite(value) else None


async def note_devices(connection: AsyncConnection[TupleRow], work: Sequence[Work]) -> None:
    newest: dict[int, Work] = {}
    for one in work:
        if one.device and (one.device.id not in newest or newest[one.device.id].time <= one.time):
            newest[one.device.id] = one
    if not newest:
        return
    rows = sorted(
        (
            id_,
            one.time,
            one.uplink.frame_counter,
            _number(one.mapped.battery_v if one.mapped else None),
            _number(
                one.uplink.battery_percent
                if one.mapped is None or one.mapped.battery_percent is None
                else one.mapped.battery_percent
            ),
            _number(one.uplink.rssi_dbm),
            _number(one.uplink.snr_db),
        )
        for id_, one in newest.items()
    )
    await connection.execute(
        "UPDATE twin_device d SET last_seen_at = k.time,"
        " last_frame_counter = coalesce(k.counter, d.last_frame_counter),"
        " battery_v = coalesce(k.battery_v, d.battery_v), battery_percent = coalesce(k.battery, d.battery_percent),"
        " rssi_dbm = coalesce(k.rssi, d.rssi_dbm), snr_db = coalesce(k.snr, d.snr_db)"
        " FROM unnest(%s::bigint[], %s::timestamptz[], %s::bigint[], %s::float8[], %s::float8[], %s::float8[],"
        " %s::float8[]) AS k(id, time, counter, battery_v, battery, rssi, snr)"
        " WHERE d.id = k.id AND (d.last_seen_at IS NULL OR d.last_seen_at <= k.time)",
        [list(column) for column in zip(*rows, strict=True)],
    )
