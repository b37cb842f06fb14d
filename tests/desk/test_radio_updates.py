"""Pages of software updates for Basics Stations: uploaded with a signature, switched, assigned, watched."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from quartier.cities.rules import SYSTEM
from quartier.desk.words_radio import UPDATE_STATES
from quartier.lorawan import domain
from quartier.lorawan.models import Gateway
from quartier.lorawan.models_stations import StationDelivery, StationUpdate, StationUpdatePart
from quartier.lorawan.updates import UpdateState
from tests.desk.scene import Scene
from tests.lorawan.network.test_updates import CRC, IMAGE, STRANGER, key_file, pem, signed

BASE = "/amt/funknetz/updates/"
EUI = "0016c001f10000e0"
STATION = f"/amt/funknetz/gateways/{EUI}/fernverwaltung/"


@pytest.fixture
def gateway(scene: Scene) -> Gateway:
    made = domain.save_gateway(SYSTEM, scene.schwerte, EUI, name="Turm", protocol="station")
    told(made)
    return made


def told(gateway: Gateway, **values: Any) -> None:
    """What the radio writes."""
    gateway.cups = {
        "asked_at": timezone.now().isoformat(),
        "station": "2.0.6(linux/std)",
        "model": "linux",
        "package": "1.0",
        "keys": 1,
        "key_checksums": [CRC],
    } | values
    gateway.save()


def added(scene: Scene, *, everywhere: bool = True, active: bool = True, **values: Any) -> StationUpdate:
    plain = {"model": "linux", "package": "2.0", "image": [IMAGE], "signature": signed(IMAGE), "key": pem()}
    update = domain.add_update(
        SYSTEM, values.pop("municipality", scene.schwerte), everywhere=everywhere, **(plain | values)
    )
    domain.set_update(SYSTEM, update, active=active)
    update.refresh_from_db()
    return update


def form(scene: Scene, **changes: Any) -> dict[str, Any]:
    files = {"image": IMAGE, "signature": signed(IMAGE), "key": key_file()}
    plain = {"municipality": scene.schwerte.pk, "model": "linux", "package": "2.0", "packages": "1.0, -"}
    return {
        name: SimpleUploadedFile(name, value) if isinstance(value, bytes) else value
        for name, value in (plain | files | changes).items()
    }


def test_upload_activate_switch_and_delete(scene: Scene, gateway: Gateway) -> None:
    client = scene.client("operator")
    answer = client.post(f"{BASE}neu/", form(scene, everywhere="on"))
    update = StationUpdate.objects.get()
    page = f"{BASE}{update.pk}/"
    assert (answer.status_code, answer["Location"]) == (302, page)
    assert (update.packages, update.everywhere, update.active) == (["1.0", "-"], True, False)
    assert b"".join(bytes(one.data) for one in update.parts.order_by("number")) == IMAGE
    assert f"CRC-32 {CRC:08x}" in client.get(page).content.decode()
    for action, active, everywhere in (
        ("on", True, True),
        ("some", True, False),
        ("all", True, True),
        ("delete", True, True),
        ("off", False, True),
    ):
        assert client.post(page, {"action": action})["Location"] == page
        update.refresh_from_db()
        assert (update.active, update.everywhere) == (active, everywhere)
    assert client.post(page, {"action": "delete"})["Location"] == BASE
    assert (StationUpdate.objects.count(), StationUpdatePart.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("values", "errors"),
    [
        (
            {"signature": signed(IMAGE, STRANGER)},
            {"signature": ["passt nicht zu Datei und Schlüssel (ECDSA über SHA-512, DER)"]},
        ),
        ({"signature": b""}, {"signature": ["hat nicht 4 bis 128 Bytes"]}),
        ({"key": b"nothing"}, {"key": ["ist kein öffentlicher Schlüssel"]}),
        ({"image": b""}, {"image": ["ist leer"]}),
        ({"image": bytes((32 << 20) + 1)}, {"image": ["ist größer als 32 MiB"]}),
        ({"packages": "2.0"}, {"packages": ["enthält das Softwarepaket, das danach laufen soll"]}),
        ({"municipality": ""}, {"municipality": ["Dieses Feld ist zwingend erforderlich."]}),
    ],
)
def test_wrong_files_are_shown_at_their_field(
    scene: Scene, values: dict[str, Any], errors: dict[str, list[str]]
) -> None:
    answer = scene.client("operator").post(f"{BASE}neu/", form(scene, **values))
    assert (answer.status_code, answer.context["form"].errors) == (422, errors)
    assert StationUpdate.objects.count() == 0


def test_a_further_signature(scene: Scene) -> None:
    client, update = scene.client("operator"), added(scene)
    page = f"{BASE}{update.pk}/"
    files = {"signature": signed(IMAGE), "key": pem(STRANGER)}
    wrong = client.post(page, {"action": "sign"} | {k: SimpleUploadedFile(k, v) for k, v in files.items()})
    assert (wrong.status_code, list(wrong.context["form"].errors)) == (422, ["signature"])
    files["signature"] = signed(IMAGE, STRANGER)
    right = client.post(page, {"action": "sign"} | {k: SimpleUploadedFile(k, v) for k, v in files.items()})
    assert right["Location"] == page
    assert len(StationUpdate.objects.get().signatures) == 2


def test_the_list_counts_what_stations_run(scene: Scene, gateway: Gateway) -> None:
    second = domain.save_gateway(SYSTEM, scene.schwerte, "0016c001f10000e1", name="Zwei", protocol="station")
    told(second, package="2.0")
    far = domain.save_gateway(SYSTEM, scene.dortmund, "0016c001f10000e2", name="Fern", protocol="station")
    told(far, package="2.0")
    update, for_all = added(scene), added(scene, municipality=None)
    added(scene, municipality=scene.dortmund)
    page = scene.client("operator").get(BASE)
    rows = {one.pk: (have, of) for one, have, of in page.context["rows"]}
    assert rows == {update.pk: (1, 2), for_all.pk: (1, 2)}
    assert [(one.model, one.package, one.count) for one in page.context["running"]] == [
        ("linux", "1.0", 1),
        ("linux", "2.0", 1),
    ]
    everything = scene.client("operator_all").get(BASE)
    assert sorted((have, of) for _, have, of in everything.context["rows"]) == [(1, 1), (1, 2), (2, 3)]
    assert [one.count for one in everything.context["running"]] == [1, 2]


def test_assigned_to_a_gateway_and_offered_again(scene: Scene, gateway: Gateway) -> None:
    client, update = scene.client("operator"), added(scene, everywhere=False)
    assert client.get(STATION).context["at"].state == UpdateState.NONE
    answer = client.post(f"{STATION}update/", {"action": "assign", "update": update.pk}, follow=True)
    assert answer.redirect_chain == [(STATION, 302)]
    assert (answer.context["at"].state, answer.context["at"].update) == (UpdateState.WAITING, update)
    now = timezone.now()
    StationDelivery.objects.update(
        attempts=3, begun_at=now - timedelta(hours=2), delivered_at=now - timedelta(hours=1), missed_at=now
    )
    told(gateway)
    stopped = client.get(STATION)
    text = stopped.content.decode()
    assert stopped.context["at"].state == UpdateState.STOPPED
    assert "nach drei Versuchen aufgegeben" in text
    assert "3-mal gegeben" in text
    assert "nach drei Versuchen aufgegeben" in client.get(f"{BASE}{update.pk}/").content.decode()
    again = client.post(f"{STATION}update/", {"action": "again", "update": update.pk}, follow=True)
    assert again.context["at"].state == UpdateState.WAITING
    client.post(f"{STATION}update/", {"action": "assign", "update": ""})
    assert client.get(STATION).context["at"].state == UpdateState.NONE
    assert client.post(f"{STATION}update/", {"action": "again", "update": "x"}).status_code == 404


def test_states_have_words_and_are_shown(scene: Scene, gateway: Gateway) -> None:
    assert UPDATE_STATES.keys() == set(UpdateState)
    client, now = scene.client("staff"), timezone.now()
    update = added(scene)

    def shown(**values: Any) -> str:
        StationDelivery.objects.all().delete()
        if values:
            StationDelivery.objects.create(update=update, gateway=gateway, attempts=1, **values)
        told(gateway)
        client.get(f"{BASE}{update.pk}/")
        return str(client.get(STATION).context["at"].state)

    hour = timedelta(hours=1)
    assert shown() == "waiting"
    assert shown(begun_at=now) == "broken"
    assert shown(begun_at=now, delivered_at=now) == "given"
    assert shown(begun_at=now - hour, delivered_at=now - hour) == "missed"
    told(gateway, package="2.0")
    assert client.get(STATION).context["at"].state == UpdateState.DONE
    told(gateway, key_checksums=[])
    page = client.get(STATION, headers={"accept-language": "en"}).content.decode()
    assert "fits none of its keys" in page


def test_staff_read_and_only_operators_of_the_city_change(scene: Scene, gateway: Gateway) -> None:
    own, for_all = added(scene, active=False), added(scene, municipality=None)
    other = added(scene, municipality=scene.dortmund)
    staff, operator = scene.client("staff"), scene.client("operator")
    page = staff.get(f"{BASE}{own.pk}/")
    assert (page.status_code, 'name="action"' in page.content.decode()) == (200, False)
    assert [
        scene.client("maker").get(BASE).status_code,
        staff.get(BASE).status_code,
        staff.get(f"{BASE}neu/").status_code,
        staff.post(f"{BASE}{own.pk}/", {"action": "on"}).status_code,
        staff.post(f"{STATION}update/", {"action": "assign", "update": own.pk}).status_code,
        operator.get(f"{BASE}{other.pk}/").status_code,
        operator.post(f"{BASE}{other.pk}/", {"action": "off"}).status_code,
        operator.get(f"{BASE}{for_all.pk}/").status_code,
    ] == [403, 200, 403, 403, 403, 404, 404, 200]
    answer = operator.post(f"{BASE}{for_all.pk}/", {"action": "off"}, follow=True)
    assert "ein Update für alle Städte braucht das Recht in allen" in answer.content.decode()
    refused = operator.post(f"{STATION}update/", {"action": "assign", "update": other.pk}, follow=True)
    assert "Dieses Update gibt es für diese Station nicht." in refused.content.decode()
    for_all.refresh_from_db()
    own.refresh_from_db()
    assert (for_all.active, own.active, StationDelivery.objects.count()) == (True, False, 0)


def test_only_who_may_change_all_cities_is_offered_all(scene: Scene) -> None:
    shown = {
        name: "alle Städte" in scene.client(name).get(f"{BASE}neu/").content.decode()
        for name in ("operator", "superuser")
    }
    assert shown == {"operator": False, "superuser": True}
