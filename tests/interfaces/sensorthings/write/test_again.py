"""Observations that are sent again, alone and among others that are new."""

from __future__ import annotations

import asyncio

import pytest

from quartier.engines.pools import Pool
from quartier.interfaces.sensorthings.write import observe
from tests.interfaces.sensorthings.write.conftest import Writing, rows, thing


def minute(n: int) -> str:
    return f"2026-07-01T12:{n:02}:00Z"


async def test_again_corrected_and_new_at_once(
    sta: Writing, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = await sta.post("Things", thing())
    (stream,) = await sta.ids(f"{made}/Datastreams")
    path = f"Datastreams({stream})/Observations"
    asked = []
    kept = observe._kept

    async def counted(connection: object, wanted: object) -> object:
        asked.append(wanted)
        return await kept(connection, wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(observe, "_kept", counted)
    for n in range(10):
        await sta.post(path, {"phenomenonTime": minute(n), "result": 20.0})
    assert asked == []

    # Ten that are there as they are, ten that are there with another result, and twenty new ones; in one wave.
    bodies = [{"phenomenonTime": minute(n), "result": 20.0} for n in range(10)]
    bodies += [{"phenomenonTime": minute(n), "result": 21.0} for n in range(5)]
    bodies += [{"phenomenonTime": minute(n), "result": 22.0} for n in range(20, 40)]
    links = await asyncio.gather(*(sta.post(path, body) for body in bodies))
    assert len(set(links)) == 30
    # They are committed together, and those that came together are looked at together.
    assert 1 <= len(asked) < len(bodies) / 2

    found = await rows(
        pool,
        "SELECT extract(minute FROM time)::int, result FROM twin_observation WHERE series_id = %s",
        stream,
    )
    now: dict[int, float] = {row[0]: row[1] for row in found}
    # Of two results for the same time in one wave, one is kept and the other among the revisions, whichever came last.
    assert {now[n] for n in range(5)} <= {20.0, 21.0}
    assert {n: now[n] for n in now if n >= 5} == dict.fromkeys(range(5, 10), 20.0) | dict.fromkeys(
        range(20, 40), 22.0
    )
    revised = await rows(
        pool, "SELECT extract(minute FROM time)::int FROM twin_revision WHERE series_id = %s", stream
    )
    assert {n for (n,) in revised} == set(range(5))

    # Alone, a correction is what is kept.
    await sta.post(path, {"phenomenonTime": minute(7), "result": 23.5})
    again = await sta.values(path, params={"$filter": f"phenomenonTime eq {minute(7)}", "$select": "result"})
    assert again == [{"result": 23.5}]
