"""Making capabilities and tasks: a task is checked against what its capability takes before it is accepted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from quartier.interfaces.sensorthings.tasking import parameters
from quartier.interfaces.sensorthings.write.body import Draft, Key
from quartier.interfaces.sensorthings.write.values import iso
from quartier.interfaces.sensorthings.write.work import Work


def check_capability(values: Mapping[str, Any], at: str) -> None:
    """Refuse ``taskingParameters`` of a capability that describe nothing. Raises BadField."""
    if "taskingParameters" in values:
        parameters.check_description(values["taskingParameters"], at)


async def task(work: Work, draft: Draft, single: Mapping[str, Key], place: int | None) -> Key:
    """Accept a task; returns its number. Raises BadField."""
    capability = single["TaskingCapability"]
    row = await work.row(
        "SELECT tasking_parameters FROM sensorthings_taskingcapability WHERE id = %s", [capability]
    )
    assert row is not None  # noqa: S101 (the link was followed)
    given = draft.values["taskingParameters"]
    parameters.check(row[0], given, draft.place("taskingParameters"))
    return await work.insert(
        "sensorthings_task",
        {
            "capability_id": capability,
            "tasking_parameters": given,
            "creation_time": work.now,
            "person_id": work.who.actor.person_id,
            "state": "accepted",
            "states": [{"state": "accepted", "time": iso(work.now)}],
        },
    )
