"""An observation of a body, among other things that are made: its stream, its feature, its rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from quartier.interfaces.sensorthings.model import BY_NAME
from quartier.interfaces.sensorthings.write import observe
from quartier.interfaces.sensorthings.write.body import Draft, Key
from quartier.interfaces.sensorthings.write.problems import BadField
from quartier.interfaces.sensorthings.write.work import Work


async def observation(work: Work, draft: Draft, single: Mapping[str, Key]) -> tuple[int, datetime]:
    """Queue an observation for the end of the transaction; returns its key."""
    name = "Datastream" if "Datastream" in single else "MultiDatastream"
    if "Datastream" in single and "MultiDatastream" in single:
        raise BadField(draft.place("MultiDatastream"), "an Observation belongs to one of both")
    stream_key = single[name]
    assert isinstance(stream_key, int)  # noqa: S101
    stream = await work.stream(BY_NAME[name], stream_key, draft.place(name))
    posted: dict[str, Any] = dict(draft.values)
    if posted.get("phenomenonTime") is None:
        posted["phenomenonTime"] = (work.now, None)
    if (feature := single.get("FeatureOfInterest")) is not None:
        posted["featureOfInterest"] = feature
    rows = observe.rows_of(stream, posted, draft.at)
    parts = {one.id: one for one in stream.parts}
    work.rows += rows
    work.checks += [parts[row.series_id] for row in rows]
    if isinstance(feature, int):
        work.features.add((feature, rows[0].series_id))
    return rows[0].series_id, rows[0].time.astimezone(UTC)
