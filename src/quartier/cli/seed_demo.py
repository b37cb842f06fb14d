"""Registers the virtual cities in an installation, as an operator would: device types with codecs and mappings, things,
devices, sources, data sets, people. Run as ``python -m quartier.cli.seed_demo``; may run at every start of the demo.

Only the registration comes from here. Readings come by the networks' protocols alone (see quartier.virtual).
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any, Final

from quartier.cli.common import actor, engines
from quartier.cli.migrate import bring_up_to_date
from quartier.cli.seed import SHIPPED, seed_municipality, shipped_file
from quartier.cli.seed_datasets import describe
from quartier.cli.seed_radio import seed_radio
from quartier.virtual.device_types import DEVICE_TYPES, codec_source
from quartier.virtual.element_json import ROOT, slug_of
from quartier.virtual.element_server import DEFAULT_KEY
from quartier.virtual.lora.fleet import fleet
from quartier.virtual.lora.plan import RadioPorts
from quartier.virtual.world import World, world

if TYPE_CHECKING:
    from quartier.cities.models import Municipality, Organisation
    from quartier.twin.models import DeviceType, Thing

DORTMUND_SOURCE: Final = "element-dortmund"
SCHWERTE_SOURCE: Final = "chirpstack-schwerte"
SOURCE_OF: Final = {"element": DORTMUND_SOURCE, "chirpstack": SCHWERTE_SOURCE}
# Role and municipality (None: everywhere) of the demo's people, by e-mail address.
PEOPLE: Final[dict[str, tuple[str, str, str | None]]] = {
    "operator@dortmund.example": ("Olivia Operator", "operator", "dortmund"),
    "steward@dortmund.example": ("Deniz Datenpflege", "steward", "dortmund"),
    "operator@schwerte.example": ("Sascha Betrieb", "operator", "schwerte"),
    "steward@schwerte.example": ("Stefanie Datenpflege", "steward", "schwerte"),
    "maker@schwerte.example": ("Maja Maker", "maker", None),
}
ADMINISTRATOR: Final = "admin@quartier.example"
OWNERS: Final = {
    "dortmund": (
        ("umweltamt-dortmund", "Umweltamt (Demo)", ("station", "level_gauge", "tree")),
        ("tiefbauamt-dortmund", "Tiefbauamt (Demo)", ("street_lamp", "counter", "parking_space", "car_park")),
        ("entsorgung-dortmund", "Entsorgungsbetrieb (Demo)", ("waste_container",)),
    ),
    "schwerte": (
        ("umwelt-schwerte", "Bereich Umwelt (Demo)", ("station", "level_gauge", "tree")),
        ("stadtwerke-schwerte", "Stadtwerke (Demo)", ("street_lamp", "counter", "parking_space", "car_park")),
        ("baubetriebshof-schwerte", "Baubetriebshof (Demo)", ("waste_container",)),
    ),
}
CONTACTS: Final = {
    slug: {
        "office": f"Stadt {name} (Demo, keine echte Stelle)",
        "street": "Musterplatz 1",
        "place": f"{postcode} {name}",
        "email": f"quartier@{slug}.example",
        "telephone": "0231 0000000" if slug == "dortmund" else "02304 000000",
    }
    for slug, name, postcode in (("dortmund", "Dortmund", "44135"), ("schwerte", "Schwerte", "58239"))
}
_BATTERY_ROLES: Final = {"battery_voltage": "battery_v", "battery_level": "battery_percent"}


def seed(
    *,
    element_port: int,
    mqtt_password: str,
    password: str,
    history: timedelta,
    radio: Mapping[str, RadioPorts],
) -> None:
    """Bring the registration of the virtual cities up to date. ``history`` is read at the very first start."""
    cities = world()
    municipalities = {slug: seed_municipality(shipped_file(slug)) for slug in SHIPPED}
    for slug, city in municipalities.items():
        if not city.contact:
            city.contact = CONTACTS[slug]
            city.save(update_fields=["contact"])
    types = _device_types()
    for part in (cities, fleet().world):
        things = _things(part, municipalities)
    _devices(cities, municipalities, things, types)
    seed_radio(municipalities, things, types, radio)
    for city in municipalities.values():
        for kind in sorted({thing.kind for thing in cities.things if thing.municipality == city.slug}):
            describe(city, kind, simulated=True)
        describe(city, "citizen_sensor", attribution="Bürgerinnen und Bürger")
    _sources(municipalities, element_port=element_port, mqtt_password=mqtt_password, history=history)
    _people(municipalities, password)


def _device_types() -> dict[str, DeviceType]:
    """Device types with their codec (a new version where it has changed) and field mapping."""
    from quartier.intake.codecs.library import library  # noqa: PLC0415 (needs Django set up)
    from quartier.intake.models import Codec, FieldMapping  # noqa: PLC0415
    from quartier.twin.models import DeviceType, ObservedProperty  # noqa: PLC0415

    properties = {row.slug: row for row in ObservedProperty.objects.all()}
    newest: dict[int, Codec] = {}
    for codec in Codec.objects.order_by("version"):
        newest[codec.device_type_id] = codec
    mapped = set(FieldMapping.objects.values_list("device_type_id", "path"))
    found: dict[str, DeviceType] = {}
    for kind in DEVICE_TYPES.values():
        if kind.key == "virtual-load":
            continue  # only benchmarks use it
        row, _new = DeviceType.objects.get_or_create(
            key=kind.key, defaults={"vendor": kind.manufacturer, "model": kind.name}
        )
        found[kind.key] = row
        script = codec_source(kind.codec) if kind.own_codec else library()[kind.codec].script
        last = newest.get(row.pk)
        # What somebody has changed on the desk stays.
        if last is None or (last.created_by_id is None and last.script != script):
            version = last.version + 1 if last else 1
            Codec.objects.create(device_type=row, version=version, script=script, note="virtual city")
        for field in kind.mapping:
            if (row.pk, field.field) in mapped:
                continue
            role = _BATTERY_ROLES.get(field.property, "observation")
            FieldMapping.objects.create(
                device_type=row,
                path=field.field,
                observed_property=properties[field.property] if role == "observation" else None,
                unit=field.unit,
                role=role,
            )
    return found


def _owners(municipalities: Mapping[str, Municipality]) -> dict[tuple[str, str], Organisation]:
    from quartier.cities.models import Organisation  # noqa: PLC0415

    found: dict[tuple[str, str], Organisation] = {}
    for city, owners in OWNERS.items():
        for slug, name, kinds in owners:
            row, _new = Organisation.objects.get_or_create(
                slug=slug, defaults={"name": name, "municipality": municipalities[city]}
            )
            found |= {(city, kind): row for kind in kinds}
    return found


def _things(cities: World, municipalities: Mapping[str, Municipality]) -> dict[str, Thing]:
    from quartier.cities.models import District  # noqa: PLC0415
    from quartier.twin.models import Thing  # noqa: PLC0415

    owners = _owners(municipalities)
    districts = {(row.municipality_id, row.slug): row for row in District.objects.all()}
    there = {(row.municipality_id, row.key) for row in Thing.objects.only("municipality_id", "key")}
    new = []
    for one in cities.things:
        city = municipalities[one.municipality]
        if (city.pk, one.key) in there:
            continue
        new.append(
            Thing(
                municipality=city,
                key=one.key,
                name=one.name,
                kind=one.kind,
                lon=one.lon,
                lat=one.lat,
                altitude_m=one.altitude_m,
                surface=one.surface,
                street=one.street,
                house_number=one.house_number,
                postcode=one.postcode,
                district=districts.get((city.pk, one.district)),
                owner=owners[one.municipality, one.kind],
                simulated=True,
                properties=dict(one.properties),
            )
        )
    Thing.objects.bulk_create(new)
    return {row.key: row for row in Thing.objects.filter(simulated=True)}


def _devices(
    cities: World,
    municipalities: Mapping[str, Municipality],
    things: Mapping[str, Thing],
    types: Mapping[str, DeviceType],
) -> None:
    from quartier.twin.models import Deployment, Device  # noqa: PLC0415

    there = set(Device.objects.values_list("source_key", "external_id"))
    devices: list[Device] = []
    deployments: list[Deployment] = []
    for one in cities.devices:
        source_key = SOURCE_OF[one.network]
        if (source_key, one.dev_eui) in there:
            continue
        device = Device(
            municipality=municipalities[one.municipality],
            source_key=source_key,
            external_id=one.dev_eui,
            name=one.name,
            device_type=types[one.type],
            expected_interval_s=one.expected_interval_s,
        )
        devices.append(device)
        deployments.append(
            Deployment(
                device=device,
                thing=things[one.thing],
                since=datetime.combine(one.installed_on, time(), UTC),
                height_above_ground_m=cities.thing_of(one).height_above_ground_m,
            )
        )
    Device.objects.bulk_create(devices)
    Deployment.objects.bulk_create(deployments)


def _sources(
    municipalities: Mapping[str, Municipality], *, element_port: int, mqtt_password: str, history: timedelta
) -> None:
    from quartier.sources.domain import save_source  # noqa: PLC0415
    from quartier.sources.models import Source  # noqa: PLC0415

    existing = {row.key: row for row in Source.objects.all()}

    def save(
        city: str, key: str, *, name: str, kind: str, settings: dict[str, Any], credentials: dict[str, str]
    ) -> None:
        row = existing.get(key)
        # The form also keeps the defaults of settings that are not named here.
        if row and {**row.settings, **settings} == row.settings and row.credentials == credentials:
            return
        save_source(actor(), municipalities[city], key, name, kind, settings, credentials)

    known = existing.get(DORTMUND_SOURCE)
    begin = datetime.now(UTC) - history
    since = known.settings["since"] if known else begin.isoformat(timespec="seconds").replace("+00:00", "Z")
    save(
        "dortmund",
        DORTMUND_SOURCE,
        name="ELEMENT IoT (virtuelles Dortmund)",
        kind="element",
        settings={
            "url": f"http://127.0.0.1:{element_port}/api/v1",
            "tags": [slug_of(ROOT)],
            "use": "packets",
            "since": since,
            "interval_s": 2,
        },
        credentials={"api_key": DEFAULT_KEY},
    )
    save(
        "schwerte",
        SCHWERTE_SOURCE,
        name="ChirpStack (virtuelles Schwerte)",
        kind="chirpstack",
        settings={"transport": "mqtt", "broker": "own", "use": "data"},
        credentials={"broker_password": mqtt_password},
    )


def _people(municipalities: Mapping[str, Municipality], password: str) -> None:
    from allauth.account.models import EmailAddress  # noqa: PLC0415
    from django.contrib.auth.hashers import make_password  # noqa: PLC0415

    from quartier.cities.models import Person, RoleAssignment  # noqa: PLC0415

    there = set(Person.objects.values_list("email", flat=True))
    if {ADMINISTRATOR, *PEOPLE} <= there:
        return
    hashed = make_password(password)  # one slow hash for all of them
    for email, (name, role, city) in {ADMINISTRATOR: ("Demo-Administration", "", None), **PEOPLE}.items():
        if email in there:
            continue
        person = Person.objects.create(
            email=email,
            name=name,
            password=hashed,
            is_staff=email == ADMINISTRATOR,
            is_superuser=email == ADMINISTRATOR,
        )
        EmailAddress.objects.create(user=person, email=email, verified=True, primary=True)
        if role:
            RoleAssignment.objects.create(
                person=person, role=role, municipality=municipalities[city] if city else None
            )


def main() -> None:
    """Migrations and registration in one process, because starting Django twice takes a second more."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--element-port", type=int, required=True)
    parser.add_argument("--history-hours", type=float, required=True)
    parser.add_argument("--password-file", required=True)
    parser.add_argument("--mqtt-password-file", required=True)
    parser.add_argument("--radio", action="append", type=RadioPorts.parse, required=True)
    given = parser.parse_args()
    with engines(migrated=False):
        bring_up_to_date()
        from django.db import transaction  # noqa: PLC0415 (needs Django set up)

        with transaction.atomic():
            seed(
                element_port=given.element_port,
                mqtt_password=_read(given.mqtt_password_file),
                password=_read(given.password_file),
                history=timedelta(hours=given.history_hours),
                radio=dict(given.radio),
            )


def _read(path: str) -> str:
    with open(path) as file:  # noqa: PTH123 (a line of a file of our own)
        return file.read().strip()


if __name__ == "__main__":
    main()
