"""The virtual cities are registered as the demo does it; a second time changes nothing."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import pytest

from tests.cli.conftest import Quartier


def _seed(port: int = 8790, roaming: int = 7800) -> None:
    from quartier.cli.seed_demo import seed
    from quartier.virtual.lora.plan import RadioPorts

    seed(
        element_port=port,
        mqtt_password="door",
        password="Demo-Passwort-1",
        history=timedelta(hours=3),
        radio={"dortmund": RadioPorts(1700, 3001, roaming), "schwerte": RadioPorts(1701, 3002, roaming + 1)},
    )


def _everything() -> dict[str, list[tuple[Any, ...]]]:
    from django.apps import apps

    return {
        model.__name__: sorted(model._default_manager.values_list(), key=repr)
        for model in apps.get_models()
        if model._meta.app_label in {"cities", "twin", "usage", "intake", "sources", "lorawan"}
    }


@pytest.fixture
def seeded(quartier: Quartier) -> Quartier:
    from quartier.cli.seed import seed_properties

    seed_properties()
    _seed()
    return quartier


def test_everything_is_registered(seeded: Quartier) -> None:
    from django.contrib.auth import authenticate

    from quartier.cities.models import Municipality, RoleAssignment
    from quartier.intake.models import Codec, FieldMapping
    from quartier.sources.models import Source
    from quartier.twin.models import Deployment, Device, DeviceType, Thing
    from quartier.usage.models import Dataset
    from quartier.virtual.lora.fleet import fleet
    from quartier.virtual.world import world

    cities, radio = world(), fleet().world
    things = (*cities.things, *radio.things)
    assert Thing.objects.filter(simulated=True).count() == len(things)
    assert Thing.objects.filter(simulated=False).count() == 0
    assert Thing.objects.filter(district=None).count() == 0
    assert Device.objects.count() == Deployment.objects.count() == len(cities.devices) + len(radio.devices)
    for city in ("dortmund", "schwerte"):
        assert Thing.objects.filter(kind="station", municipality__slug=city).count() == sum(
            thing.kind == "station" and thing.municipality == city for thing in things
        )
    types = DeviceType.objects.count()
    assert Codec.objects.filter(version=1, active=True).count() == types == 13
    assert not FieldMapping.objects.filter(role="observation", observed_property=None).exists()
    assert {d.municipality.slug for d in Dataset.objects.all()} == {"dortmund", "schwerte"}
    kinds = {thing.kind for thing in cities.things} | {"citizen_sensor"}
    assert {
        kind for d in Dataset.objects.filter(municipality__slug="dortmund") for kind in d.thing_kinds
    } == kinds
    assert dict(Source.objects.values_list("key", "kind")) == {
        "element-dortmund": "element",
        "chirpstack-schwerte": "chirpstack",
    }
    assert Source.objects.get(kind="chirpstack").credentials == {"broker_password": "door"}
    assert Municipality.objects.get(slug="schwerte").contact["email"] == "quartier@schwerte.example"
    steward = authenticate(email="steward@schwerte.example", password="Demo-Passwort-1")
    assert steward is not None
    assert list(RoleAssignment.objects.filter(person=steward).values_list("role", "municipality__slug")) == [
        ("steward", "schwerte")
    ]


def test_radio_networks_are_registered_as_peers_of_each_other(seeded: Quartier) -> None:
    from quartier.cities.secrets import unseal
    from quartier.lorawan.models import DeviceProfile, Gateway, LoraDevice, Session
    from quartier.lorawan.models_roaming import LoraPeer, RoamingAgreement
    from quartier.virtual.lora.fleet import fleet
    from quartier.virtual.lora.sites import sites

    members = fleet().members
    assert set(LoraDevice.objects.values_list("dev_eui", "municipality__slug", "profile__key")) == {
        (one.device.dev_eui, one.device.municipality, one.profile) for one in members
    }
    assert Session.objects.count() == sum(one.abp for one in members)
    assert set(DeviceProfile.objects.values_list("key", flat=True)) == {one.profile for one in members}
    assert set(Gateway.objects.values_list("eui", "municipality__slug", "protocol", "private")) == {
        (site.eui.hex(), site.municipality, site.protocol, not site.public) for site in sites()
    }
    peers = {peer.key: peer for peer in LoraPeer.objects.all()}
    assert {peer.municipality.slug: key for key, peer in peers.items() if peer.municipality} == {
        "dortmund": "funknetz-schwerte",
        "schwerte": "funknetz-dortmund",
    }
    # What one shows is what the other knows.
    for one, other in (("dortmund", "schwerte"), ("schwerte", "dortmund")):
        shown = unseal(peers[f"funknetz-{other}"].sealed)["authorization"]
        assert hashlib.sha256(shown.encode()).hexdigest() == peers[f"funknetz-{one}"].bearer_digest
    assert RoamingAgreement.objects.exclude(signed_here_at=None).exclude(signed_there_at=None).count() == 4


def test_peers_follow_a_changed_port(seeded: Quartier) -> None:
    from quartier.lorawan.models_roaming import LoraPeer

    before = {peer.key: peer.sealed for peer in LoraPeer.objects.all()}
    _seed(roaming=7900)
    after = {peer.key: (peer.url, peer.sealed) for peer in LoraPeer.objects.all()}
    assert after == {
        "funknetz-dortmund": ("http://127.0.0.1:7900", before["funknetz-dortmund"]),
        "funknetz-schwerte": ("http://127.0.0.1:7901", before["funknetz-schwerte"]),
    }


def test_second_time_changes_nothing(seeded: Quartier) -> None:
    before = _everything()
    _seed()
    assert _everything() == before


def test_another_port_changes_the_address_only(seeded: Quartier) -> None:
    from quartier.sources.models import Source

    before = Source.objects.get(kind="element")
    _seed(port=8795)
    after = Source.objects.get(kind="element")
    assert after.settings == {**before.settings, "url": "http://127.0.0.1:8795/api/v1"}
    assert after.credentials == before.credentials


def test_what_an_operator_changed_stays(seeded: Quartier) -> None:
    from quartier.cities.models import Person
    from quartier.intake.models import Codec, FieldMapping
    from quartier.twin.models import DeviceType, ObservedProperty

    kind = DeviceType.objects.get(key="virtual-level")
    operator = Person.objects.get(email="operator@dortmund.example")
    Codec.objects.create(
        device_type=kind, version=2, script="function decodeUplink() {}", created_by=operator
    )
    FieldMapping.objects.filter(device_type=kind, path="level").update(unit="cm")
    ObservedProperty.objects.filter(slug="water_level").update(limits={"maximum": 3})
    _seed()
    from quartier.cli.seed import seed_properties

    assert seed_properties() == 0
    assert Codec.objects.filter(device_type=kind).count() == 2
    assert FieldMapping.objects.get(device_type=kind, path="level").unit == "cm"
    assert ObservedProperty.objects.get(slug="water_level").limits == {"maximum": 3}


def test_changed_words_of_the_catalogue_are_updated(seeded: Quartier) -> None:
    from quartier.cli.seed import seed_properties
    from quartier.twin.models import ObservedProperty

    ObservedProperty.objects.filter(slug="water_level").update(name_de="Pegel (alt)")
    ObservedProperty.objects.filter(slug="uv_index").delete()
    assert seed_properties() >= 1
    assert ObservedProperty.objects.get(slug="water_level").name_de != "Pegel (alt)"
