"""The frame log becomes a table by day: nothing is lost on the way there and back, empty or filled."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from tests.world import World

BEFORE, AFTER = ("lorawan", "0003_cups"), ("lorawan", "0004_frame_log_by_day")
NOON = datetime(2026, 3, 29, 12, tzinfo=UTC)
TIMES = [
    NOON - timedelta(hours=12),  # the first moment of the day
    NOON - timedelta(hours=12, microseconds=1),
    NOON,
    NOON - timedelta(days=40),
]
COLUMNS = (
    "id, at, device_id, dev_eui, dev_addr, direction, kind, outcome, counter, port, size, data_rate, frequency_hz,"
    " gateways::text, detail::text, municipality_id"
)


def migrate(target: tuple[str, str]) -> None:
    MigrationExecutor(connection).migrate([target])


def fetch(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def insert(municipality: int, at: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO lorawan_frame (at, device_id, dev_eui, dev_addr, direction, kind, outcome, counter, port,"
            " size, data_rate, frequency_hz, gateways, detail, municipality_id) VALUES (%s, 7, '025e00fffe010001',"
            " 14811137, 'up', 'unconfirmed_up', 'accepted', 70000, 2, 20, 3, 868100000, '[{\"eui\": \"00\"}]', '{}',"
            " %s)",
            [at, municipality],
        )


@pytest.fixture
def whole(world: World) -> Iterator[World]:
    """The database as it was before; afterwards it is as it should be, whatever the test did."""
    migrate(BEFORE)
    yield world
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE lorawan_frame")
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())
    with connection.cursor() as cursor:
        for (name,) in fetch(
            "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'lorawan_frame'::regclass"
        ):
            cursor.execute(f"DROP TABLE {name}")


def test_a_filled_table_keeps_every_row_and_goes_on_counting(whole: World) -> None:
    for at in TIMES:
        insert(whole.municipality.pk, at)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE lorawan_frame SET municipality_id = NULL WHERE at = %s", [NOON])
    rows = fetch(f"SELECT {COLUMNS} FROM lorawan_frame ORDER BY id")
    assert len(rows) == 4
    with connection.cursor() as cursor:
        cursor.execute("SET timezone = 'America/New_York'")
    migrate(AFTER)
    with connection.cursor() as cursor:
        cursor.execute("SET timezone = 'UTC'")
    assert fetch(f"SELECT {COLUMNS} FROM lorawan_frame ORDER BY id") == rows
    assert fetch(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), (SELECT count(*) FROM lorawan_frame f"
        " WHERE f.tableoid = c.oid) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
        " WHERE i.inhparent = 'lorawan_frame'::regclass ORDER BY 1"
    ) == [
        (f"lorawan_frame_{name}", f"FOR VALUES FROM ('{low} 00:00:00+00') TO ('{high} 00:00:00+00')", n)
        for name, low, high, n in (
            ("2026_02_17", "2026-02-17", "2026-02-18", 1),
            ("2026_03_28", "2026-03-28", "2026-03-29", 1),
            ("2026_03_29", "2026-03-29", "2026-03-30", 2),
        )
    ]
    insert(whole.municipality.pk, NOON)
    assert fetch("SELECT max(id) FROM lorawan_frame") == [(rows[-1][0] + 1,)]
    # And back.
    everything = fetch(f"SELECT {COLUMNS} FROM lorawan_frame ORDER BY id")
    migrate(BEFORE)
    assert fetch(f"SELECT {COLUMNS} FROM lorawan_frame ORDER BY id") == everything
    insert(whole.municipality.pk, NOON)
    assert fetch("SELECT max(id) FROM lorawan_frame") == [(rows[-1][0] + 2,)]


def test_an_empty_table_becomes_an_empty_one(whole: World) -> None:
    migrate(AFTER)
    assert fetch("SELECT count(*) FROM lorawan_frame") == [(0,)]
    assert fetch(
        "SELECT indexname, split_part(indexdef, 'USING ', 2) FROM pg_indexes"
        " WHERE tablename = 'lorawan_frame' ORDER BY 1"
    ) == [
        ("lora_frame_device", "btree (device_id, at DESC)"),
        ("lora_frame_municipality", "btree (municipality_id, at DESC)"),
        ("lorawan_frame_pkey", "btree (id, at)"),
    ]
    assert fetch("SELECT pg_get_serial_sequence('lorawan_frame', 'id')") == [("public.lorawan_frame_id_seq",)]
    migrate(BEFORE)
    insert(whole.municipality.pk, NOON)
    assert fetch("SELECT count(*) FROM lorawan_frame") == [(1,)]
