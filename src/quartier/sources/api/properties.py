"""Do the values make sense: asked at the door, so that a maker hears at once which field is wrong."""

from __future__ import annotations

import difflib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from quartier.intake import mapping
from quartier.intake.parsers import MessageError, Uplink
from quartier.sources.threads import in_thread
from quartier.twin.models import ObservedProperty

_REMEMBERED_S: Final = 60.0


def _load() -> dict[str, mapping.Rule]:
    found: dict[str, mapping.Rule] = {}
    for one in ObservedProperty.objects.all():
        facts = mapping.PropertyFacts(one.pk, one.slug, one.unit, one.result_type)
        found[one.slug] = mapping.compile_rule(one.slug, "observation", facts, one.unit, "")
    return found


class Properties:
    """The known properties, remembered for a minute."""

    def __init__(self) -> None:
        self._rules: dict[str, mapping.Rule] = {}
        self._loaded_at = float("-inf")

    async def rules(self) -> dict[str, mapping.Rule]:
        """A rule per property: its name is the field's name."""
        if time.monotonic() - self._loaded_at > _REMEMBERED_S:
            self._rules = await in_thread(_load)
            self._loaded_at = time.monotonic()
        return self._rules


_properties = Properties()


async def check(uplinks: tuple[Uplink, ...], where: str, *, unknown_allowed: bool = False) -> None:
    """Raise MessageError for the first value that could not be recorded.

    ``unknown_allowed``: fields with names that we do not know are passed over if one is known, because firmware sends
    more than anybody needs.
    """
    rules = await _properties.rules()
    for uplink in uplinks:
        _check_time(uplink, where)
        fields = uplink.fields or {}
        known: Mapping[str, Any] = {name: value for name, value in fields.items() if name in rules}
        if not known or (len(known) < len(fields) and not unknown_allowed):
            name = min(fields.keys() - known.keys())
            close = difflib.get_close_matches(name, rules, n=3, cutoff=0.5)
            hint = f"did you mean {', '.join(close)}?" if close else f"known are {', '.join(sorted(rules))}"
            raise MessageError("unknown_property", f"{where}{name[:60]}: unknown; {hint}", uplink.external_id)
        mapped = mapping.apply([rules[name] for name in known], known)
        if mapped.problems:
            problem = mapped.problems[0]
            detail = problem.detail.removeprefix("field ")
            raise MessageError(problem.reason, f"{where}{detail}", uplink.external_id)


def _check_time(uplink: Uplink, where: str) -> None:
    stated = uplink.observed_at
    if stated is None:
        return
    now = datetime.now(UTC)
    if not now - mapping.OLDEST_AGE <= stated <= now + mapping.FASTEST_CLOCK:
        field = "time" if where.startswith("values") else "createdAt"
        raise MessageError(
            "bad_time",
            f"{field}: {stated.isoformat()} is more than a year ago or lies in the future",
            uplink.external_id,
        )
