"""The devices of the load generator, registered as an operator would, and their messages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import quartier.virtual
from quartier.virtual.device_types import DEVICE_TYPES
from quartier.virtual.load import TYPE_KEY, load_devices

CITY, SOURCE = "musterstadt", "chirpstack"


def register(n_devices: int) -> None:
    """City, source, device type with codec and mapping, devices, each at a thing of its own."""
    from quartier.cities.models import Municipality
    from quartier.intake.models import Codec, FieldMapping
    from quartier.sources.models import Source
    from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Thing
    from quartier.twin.properties import catalogue

    city = Municipality.objects.create(
        slug=CITY, name="Musterstadt", lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    Source.objects.create(municipality=city, key=SOURCE, name="ChirpStack", kind="chirpstack", enabled=False)
    ObservedProperty.objects.bulk_create(
        (
            ObservedProperty(
                slug=p.slug,
                iri=p.iri,
                name_de=p.name_de,
                name_en=p.name_en,
                unit=p.unit,
                decimals=p.decimals,
                category=p.category,
                circular=p.circular,
                result_type=p.result_type,
                aggregation=p.aggregation,
                limits=p.limits_json,
            )
            for p in catalogue().values()
        ),
        ignore_conflicts=True,  # an installation that was served has them
    )
    properties = {p.slug: p for p in ObservedProperty.objects.all()}
    described = next(t for t in DEVICE_TYPES.values() if t.key == TYPE_KEY)
    device_type = DeviceType.objects.create(key=TYPE_KEY, model=TYPE_KEY)
    script = Path(quartier.virtual.__file__).parent / "codecs" / f"{TYPE_KEY}.js"
    Codec.objects.create(device_type=device_type, version=1, script=script.read_text())
    FieldMapping.objects.bulk_create(
        FieldMapping(
            device_type=device_type, path=m.field, observed_property=properties[m.property], unit=m.unit
        )
        for m in described.mapping
    )
    devices = load_devices(n_devices)
    things = Thing.objects.bulk_create(
        Thing(municipality=city, key=d.dev_eui, name=d.name, kind="counter") for d in devices
    )
    made = Device.objects.bulk_create(
        Device(
            municipality=city, source_key=SOURCE, external_id=d.dev_eui, name=d.name, device_type=device_type
        )
        for d in devices
    )
    since = datetime.now(UTC) - timedelta(days=1)
    Deployment.objects.bulk_create(
        Deployment(device=device, thing=thing, since=since)
        for device, thing in zip(made, things, strict=True)
    )
