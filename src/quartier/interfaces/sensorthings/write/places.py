"""Things and where they are. A posted Location moves the thing in the twin too, so that maps and pages follow."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

from quartier.cities.models import Municipality
from quartier.cities.rules import NotAllowed
from quartier.interfaces.sensorthings.write import rights, values
from quartier.interfaces.sensorthings.write.body import Draft
from quartier.interfaces.sensorthings.write.problems import BadField, Conflict, below
from quartier.interfaces.sensorthings.write.work import Work
from quartier.sources.domain.devices import Districts, near, slug_of
from quartier.sources.domain.makers import MAXIMUM_SENSORS
from quartier.sources.threads import in_thread
from quartier.twin.models import ThingKind

# A thing of no kind that the pages know.
OTHER: Final = "other"
_KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,80}")
# Shown among the properties of a Thing, and kept elsewhere.
SHOWN: Final = ("municipality", "kind", "key", "address", "district", "simulated")


async def municipality(work: Work, draft: Draft, place: int | None) -> int | None:
    """Where a new entity belongs: with what it hangs on, at the endpoint's city, or where ``properties`` say."""
    posted = draft.values.get("properties")
    slug = posted.get("municipality") if isinstance(posted, dict) else None
    at = below(draft.place("properties"), "municipality")
    named = None
    if slug is not None:
        row = await work.row("SELECT id FROM cities_municipality WHERE slug = %s", [str(slug)[:60]])
        if row is None:
            known = ", ".join(
                row[0] for row in await work.all("SELECT slug FROM cities_municipality ORDER BY slug")
            )
            raise BadField(at, f"there is no municipality {str(slug)[:60]!r}; there are {known}")
        named = int(row[0])
    for known_place in (place, work.who.city_id):
        if known_place is not None:
            if named is not None and named != known_place:
                raise BadField(at, "is another one than that of the endpoint, or of what this belongs to")
            return known_place
    if named is not None:
        return named
    if draft.entity.name == "Party":
        return None
    actor = work.who.actor
    several = actor.municipalities(rights.WRITE) or actor.municipalities(rights.OBSERVE)
    if several is None or actor.municipalities(rights.WRITE) is None:
        several = frozenset(row[0] for row in await work.all("SELECT id FROM cities_municipality"))
    if not several:
        raise NotAllowed(rights.WRITE)
    if len(several) != 1:
        raise BadField(
            at,
            "is missing: say the municipality there, or use its endpoint (/sensorthings/<municipality>/v1.1)",
        )
    return next(iter(several))


# -- things


async def thing(work: Work, draft: Draft, place: int | None) -> int:
    """A new Thing, without its Locations."""
    actor = work.who.actor
    posted: dict[str, Any] = dict(draft.values.get("properties") or {})
    maker = rights.is_maker(actor, place)
    kind = posted.pop("kind", None)
    if kind is not None and not isinstance(kind, str):
        raise BadField(
            below(draft.place("properties"), "kind"), f"expected a text, found {values.kind_of(kind)}"
        )
    wanted = posted.pop("key", None)
    posted.pop("municipality", None)
    simulated = posted.pop("simulated", False)
    if maker:
        row = await work.row(
            "SELECT count(*) FROM twin_thing WHERE owner_person_id = %s AND kind = %s",
            [actor.person_id, ThingKind.CITIZEN_SENSOR.value],
        )
        if row is not None and row[0] >= MAXIMUM_SENSORS:
            raise Conflict(f"at most {MAXIMUM_SENSORS} things of their own per person")
    name = draft.values["name"]
    return await work.insert(
        "twin_thing",
        {
            "municipality_id": place,
            "key": await _free_key(work, place, wanted, name, draft),
            "name": name,
            "description": draft.values["description"],
            "kind": ThingKind.CITIZEN_SENSOR.value if maker else _kind(kind),
            "owner_person_id": actor.person_id if maker else None,
            # As with sensors that are registered on the pages: what stands in a home is nobody else's business.
            "public": not (maker and posted.get("exposure") == "indoor"),
            "simulated": simulated is True and not maker,
            "properties": posted,
        },
    )


def _kind(kind: str | None) -> str:
    return kind if kind in ThingKind.values else OTHER


async def _free_key(work: Work, place: int | None, wanted: Any, name: str, draft: Draft) -> str:
    await work.alone_with_names()
    if wanted is not None:
        at = below(draft.place("properties"), "key")
        if not isinstance(wanted, str) or not _KEY.fullmatch(wanted):
            raise BadField(at, "must consist of 1 to 80 letters, digits, - and _")
        if await work.row(
            "SELECT 1 FROM twin_thing WHERE municipality_id = %s AND key = %s", [place, wanted]
        ):
            raise Conflict(f"{at}: {wanted} is taken")
        return wanted
    base = slug_of(name)[:60] or "thing"
    used = {
        row[0]
        for row in await work.all(
            "SELECT key FROM twin_thing WHERE municipality_id = %s AND key LIKE %s",
            [place, base.replace("_", r"\_") + "%"],
        )
    }
    return next(one for one in (base, *(f"{base}-{n}" for n in range(2, len(used) + 3))) if one not in used)


async def changed_properties(work: Work, key: int, posted: dict[str, Any] | None, at: str) -> dict[str, Any]:
    """Columns of a thing for new ``properties``: what answers show among them and is kept elsewhere is taken out."""
    row = await work.row(
        "SELECT m.slug, t.kind, t.key, nullif(trim(t.street || ' ' || t.house_number), ''), d.name, t.simulated"
        " FROM twin_thing t JOIN cities_municipality m ON m.id = t.municipality_id"
        " LEFT JOIN cities_district d ON d.id = t.district_id WHERE t.id = %s",
        [key],
    )
    assert row is not None  # noqa: S101 (it was seen a moment ago)
    shown = dict(zip(SHOWN, row, strict=True))
    own = dict(posted or {})
    columns: dict[str, Any] = {}
    for name, value in shown.items():
        if name not in own or (value is None and name in ("address", "district")):
            continue
        if own[name] == value:
            del own[name]
        elif name == "kind" and isinstance(own[name], str):
            columns["kind"] = _kind(own.pop(name))
        else:
            raise BadField(below(at, name), f"cannot be changed; it is {value!r}")
    return columns | {"properties": own}


# -- places


async def put(work: Work, key: int, locations: list[int]) -> None:
    """A thing is at these Locations from now on: the older ones are history (18-088 section 10.2.2)."""
    await _stand(work, key, locations)
    await _remember(work, key, locations, work.now)


async def history(work: Work, key: int, locations: list[int], moment: datetime) -> int:
    """A HistoricalLocation. The newest one says where the thing is now."""
    row = await work.row("SELECT max(time) FROM sensorthings_historicallocation WHERE thing_id = %s", [key])
    newest = row[0] if row else None
    if locations and (newest is None or moment >= newest):
        await _stand(work, key, locations)
    return await _remember(work, key, locations, moment)


async def _remember(work: Work, key: int, locations: list[int], moment: datetime) -> int:
    made = await work.insert("sensorthings_historicallocation", {"thing_id": key, "time": moment})
    await work.run(
        "INSERT INTO sensorthings_historicallocationlocation (historical_location_id, location_id)"
        " SELECT %s, unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
        [made, locations],
    )
    return made


async def _stand(work: Work, key: int, locations: list[int]) -> None:
    await work.run("DELETE FROM sensorthings_thinglocation WHERE thing_id = %s", [key])
    # The coordinates of the twin are no Location of their own any more.
    await work.run("UPDATE sensorthings_location SET thing_id = NULL WHERE thing_id = %s", [key])
    await work.run(
        "INSERT INTO sensorthings_thinglocation (thing_id, location_id) SELECT %s, unnest(%s::bigint[])"
        " ON CONFLICT DO NOTHING",
        [key, locations],
    )
    await follow(work, [key])


async def follow(work: Work, things: list[int]) -> None:
    """Write the coordinates of things anew from their Locations."""
    rows = await work.all(
        "SELECT DISTINCT ON (t.id) t.id, t.municipality_id, l.location, l.encoding_type FROM twin_thing t"
        " JOIN sensorthings_thinglocation tl ON tl.thing_id = t.id"
        " JOIN sensorthings_location l ON l.id = tl.location_id"
        " WHERE t.id = ANY(%s) ORDER BY t.id, l.encoding_type LIKE '%%geo+json' DESC, l.id",
        [things],
    )
    for key, municipality_id, location, encoding in rows:
        found = values.point_of(location, encoding)
        if found is None:
            continue
        lon, lat, altitude_m = found
        district_id = await in_thread(
            _locate, municipality_id, lon, lat, rights.is_maker(work.who.actor, municipality_id)
        )
        # The trigger that keeps a Location for a thing's coordinates has nothing to do: this is where they come from.
        await work.run("SELECT set_config('quartier.location_posted', 'yes', true)")
        await work.run(
            "UPDATE twin_thing SET lon = %s, lat = %s, altitude_m = coalesce(%s, altitude_m), district_id = %s,"
            " updated_at = now() WHERE id = %s",
            [lon, lat, altitude_m, district_id, key],
        )
        await work.run("SELECT set_config('quartier.location_posted', '', true)")


def _locate(municipality_id: int, lon: float, lat: float, must_be_near: bool) -> int | None:
    """The district of a point. Makers' things stand in their city; staff may know better."""
    found = Municipality.objects.get(pk=municipality_id)
    if must_be_near and not near(found, lon, lat):
        raise BadField("Locations", f"{lon:g}, {lat:g} is not near {found.name} (longitude comes first)")
    district = Districts(found).at(lon, lat)
    return district.pk if district else None
