"""Devices and places: list, export, page, changes, import."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from quartier.cities.models import AuditEntry
from quartier.cities.rules import SYSTEM, actor_of
from quartier.desk import domain
from quartier.desk.queries import devices as queries
from quartier.intake.models import RefusedMessage
from quartier.twin.models import Deployment, Device, Thing
from tests.desk.scene import Scene, count_queries


def _names(scene: Scene, **wanted: Any) -> list[str]:
    actor = actor_of(scene.people["superuser"])
    return [one.name for one in queries.filtered(actor, queries.DeviceFilter(**wanted))]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"municipality": "schwerte", "state": "live"}, ["Schwerte live"]),
        ({"state": "silent"}, ["Dortmund silent", "Schwerte silent"]),
        ({"state": "never"}, ["Dortmund never", "Schwerte never"]),
        ({"state": "off"}, ["Dortmund off", "Schwerte off"]),
        ({"state": "undeployed", "source": "netz-schwerte"}, ["Schwerte never", "Schwerte off"]),
        ({"weak": True}, ["Dortmund silent", "Schwerte silent"]),
        ({"text": "markt schwerte"}, ["Schwerte live"]),
        ({"device_type": "-"}, []),
        ({"device_type": "muster-th", "municipality": "schwerte", "weak": True}, ["Schwerte silent"]),
        ({"municipality": "nirgends"}, []),
    ],
)
def test_filters(scene: Scene, wanted: dict[str, Any], expected: list[str]) -> None:
    assert _names(scene, **wanted) == expected


def test_a_device_is_found_by_its_id_in_capitals(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    Device.objects.filter(pk=device.pk).update(external_id="a81758fffe03ab12")
    assert _names(scene, text="A81758FFFE03AB12") == ["Schwerte live"]


def test_order_by_longest_silence_begins_with_those_never_heard(scene: Scene) -> None:
    assert _names(scene, municipality="schwerte", order="gesehen") == [
        "Schwerte never",
        "Schwerte off",
        "Schwerte silent",
        "Schwerte live",
    ]


@pytest.mark.parametrize(
    ("interval_s", "silence", "state"),
    [
        (900, timedelta(minutes=44), "live"),
        (900, timedelta(minutes=46), "silent"),
        # Three intervals of a minute would be hasty: a quarter of an hour at least.
        (60, timedelta(minutes=14), "live"),
        (60, timedelta(minutes=16), "silent"),
        # Nobody said how often it sends: eight hours are assumed.
        (None, timedelta(hours=23), "live"),
        (None, timedelta(hours=25), "silent"),
    ],
)
def test_silent_after_three_intervals(
    scene: Scene, interval_s: int | None, silence: timedelta, state: str
) -> None:
    device = scene.devices["schwerte live"]
    Device.objects.filter(pk=device.pk).update(
        expected_interval_s=interval_s, last_seen_at=datetime.now(UTC) - silence
    )
    assert queries.state_of(queries.with_state(Device.objects.filter(pk=device.pk)).get()) == state


def test_list_needs_as_many_queries_for_three_devices_as_for_one(scene: Scene) -> None:
    client = scene.client("operator_all")
    count_queries(client, "/amt/geraete/")
    counts = []
    for keep in (1, 3):
        shown = list(Device.objects.order_by("pk").values_list("pk", flat=True)[:keep])
        Device.objects.update(active=False)
        Device.objects.filter(pk__in=shown).update(active=True, last_seen_at=scene.now)
        assert client.get("/amt/geraete/?zustand=live").content.count(b"<tr>") == keep + 1
        counts.append(count_queries(client, "/amt/geraete/?zustand=live"))
    assert counts[0] == counts[1]


def _csv(client: Client, address: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(client.get(address).content.decode())))


def test_export_holds_the_filtered_list(scene: Scene) -> None:
    rows = _csv(scene.client("operator_all"), "/amt/geraete/export.csv?stadt=schwerte&zustand=live")
    device = scene.devices["schwerte live"]
    assert rows == [
        {
            "municipality": "schwerte",
            "source": "netz-schwerte",
            "external_id": device.external_id,
            "name": "Schwerte live",
            "device_type": "muster-th",
            "thing_key": "schwerte-markt",
            "thing_name": "Markt Schwerte",
            "kind": "station",
            "lon": "7.57",
            "lat": "51.44",
            "height_above_ground_m": "3.0",
            "expected_interval_s": "900",
            "active": "true",
            "state": "live",
            "last_seen_at": f"{scene.now - timedelta(minutes=3):%Y-%m-%dT%H:%M:%SZ}",
            "battery_percent": "80.0",
            "battery_v": "",
            "rssi_dbm": "-97.0",
            "snr_db": "7.5",
        }
    ]


@pytest.mark.parametrize("name", ["=1+1", "+49", "-x", "@SUM(A1)", "\tx"])
def test_export_gives_a_spreadsheet_no_formula(scene: Scene, name: str) -> None:
    Device.objects.filter(pk=scene.devices["schwerte live"].pk).update(name=name)
    rows = _csv(scene.client("operator"), "/amt/geraete/export.csv?zustand=live")
    assert [row["name"] for row in rows] == [f"'{name}"]


def test_what_is_exported_for_the_import_can_be_read_in_unchanged(scene: Scene) -> None:
    client = scene.client("operator")
    exported = client.get("/amt/geraete/export.csv?art=einlesen&zustand=live").content
    answer = client.post(
        "/amt/geraete/einlesen/",
        {
            "way": "csv",
            "action": "write",
            "source": scene.sources["schwerte"].pk,
            "kind": "station",
            "file": SimpleUploadedFile("geraete.csv", exported),
        },
    )
    assert answer.status_code == 302, answer.content.decode()
    entry = AuditEntry.objects.get(action="devices.import")
    assert entry.detail | {"things_created": 0} == {
        "origin": "csv",
        "rows": 1,
        "devices_created": 0,
        "devices_changed": 0,
        "things_created": 0,
    }


def test_edit_writes_what_changed_to_the_audit_log(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    answer = scene.client("steward").post(
        f"/amt/geraete/{device.pk}/bearbeiten/",
        {"name": "Neuer Name", "device_type": "", "expected_interval_s": "600"},
        follow=True,
    )
    assert answer.status_code == 200
    device.refresh_from_db()
    assert (device.name, device.device_type, device.expected_interval_s, device.active) == (
        "Neuer Name",
        None,
        600,
        False,
    )
    entry = AuditEntry.objects.get(action="device.change")
    assert (entry.person, entry.municipality, entry.target) == (
        scene.people["steward"],
        scene.schwerte,
        "Neuer Name",
    )
    assert entry.detail == {
        "device": device.pk,
        "changed": {
            "name": ["Schwerte live", "Neuer Name"],
            "device_type": ["Muster TH 1", None],
            "expected_interval_s": ["900", "600"],
            "active": ["True", "False"],
        },
    }


def test_edit_that_changes_nothing_is_not_logged(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    domain.save_device(SYSTEM, device, name=device.name)
    assert not AuditEntry.objects.exists()


def test_move_ends_one_deployment_and_begins_the_next(scene: Scene) -> None:
    device, at = scene.devices["schwerte live"], scene.now - timedelta(days=1)
    answer = scene.client("steward").post(
        f"/amt/geraete/{device.pk}/umsetzen/",
        {
            "thing": "schwerte-park",
            "at": f"{at:%Y-%m-%dT%H:%M}",
            "height_above_ground_m": "2.5",
            "note": "Umzug",
        },
    )
    assert answer.status_code == 302
    moved_at = Deployment.objects.get(device=device, until=None).since
    assert [
        (one.thing.key, one.until, one.height_above_ground_m, one.note)
        for one in Deployment.objects.filter(device=device).order_by("since")
    ] == [("schwerte-markt", moved_at, 3, ""), ("schwerte-park", None, 2.5, "Umzug")]
    entry = AuditEntry.objects.get(action="device.move")
    assert entry.detail == {
        "device": device.pk,
        "frm": "schwerte-markt",
        "to": "schwerte-park",
        "at": moved_at.isoformat(),
        "note": "Umzug",
    }


def test_the_time_of_a_move_is_local(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    Deployment.objects.filter(device=device).update(since=datetime(2025, 1, 1, tzinfo=UTC))
    scene.client("steward").post(
        f"/amt/geraete/{device.pk}/umsetzen/", {"thing": "schwerte-park", "at": "2025-07-01T12:00"}
    )
    assert Deployment.objects.get(device=device, until=None).since == datetime(2025, 7, 1, 10, tzinfo=UTC)


def test_a_device_goes_to_the_store_room_and_comes_back(scene: Scene) -> None:
    device, thing = scene.devices["schwerte live"], scene.things["schwerte"]
    assert domain.move_device(SYSTEM, device, None, scene.now - timedelta(days=2)) is None
    assert not Deployment.objects.filter(device=device, until=None).exists()
    made = domain.move_device(SYSTEM, device, thing, scene.now - timedelta(days=1))
    assert made is not None
    assert Deployment.objects.filter(device=device).count() == 2


@pytest.mark.parametrize(
    ("place", "age", "field"),
    [
        ("schwerte park", timedelta(days=-1), "at"),
        ("schwerte park", timedelta(days=101), "at"),
        ("schwerte", timedelta(days=1), "thing"),
        ("dortmund", timedelta(days=1), "thing"),
    ],
    ids=["future", "before the current one", "same place", "other city"],
)
def test_moves_that_cannot_be(scene: Scene, place: str, age: timedelta, field: str) -> None:
    device = scene.devices["schwerte live"]
    before = list(Deployment.objects.values_list("pk", "thing_id", "since", "until"))
    with pytest.raises(domain.DeskError) as refused:
        domain.move_device(SYSTEM, device, scene.things[place], scene.now - age)
    assert refused.value.field == field
    assert list(Deployment.objects.values_list("pk", "thing_id", "since", "until")) == before
    assert not AuditEntry.objects.exists()


def test_a_move_that_cannot_be_shows_the_form_with_the_reason(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    answer = scene.client("steward").post(
        f"/amt/geraete/{device.pk}/umsetzen/", {"thing": "gibt-es-nicht", "at": "2025-07-01T12:00"}
    )
    assert answer.status_code == 422
    assert "Es gibt keinen Ort mit der Kennung „gibt-es-nicht“." in answer.content.decode()


def test_unknown_device_is_registered_since_its_first_refused_message(scene: Scene) -> None:
    """The page of a refused message leads here; the form knows source, id and since when."""
    message = scene.refused["schwerte"]
    RefusedMessage.objects.filter(pk=message.pk).update(at=datetime(2026, 1, 2, 11, 30, 40, tzinfo=UTC))
    client = scene.client("steward")
    text = client.get(
        f"/amt/geraete/neu/?quelle=netz-schwerte&kennung={message.external_id}"
    ).content.decode()
    assert f'value="{message.external_id}"' in text
    assert 'value="2026-01-02T12:30"' in text
    answer = client.post(
        "/amt/geraete/neu/",
        {
            "source": scene.sources["schwerte"].pk,
            "external_id": message.external_id.upper(),
            "name": "Neu",
            "device_type": scene.device_type.pk,
            "active": "on",
            "thing": "Park Schwerte",
            "at": "2026-01-02T12:30",
        },
    )
    device = Device.objects.get(name="Neu")
    assert answer["Location"] == f"/amt/geraete/{device.pk}/"
    assert (device.external_id, device.source_key, device.municipality) == (
        message.external_id,
        "netz-schwerte",
        scene.schwerte,
    )
    deployment = Deployment.objects.get(device=device)
    assert (deployment.thing.key, deployment.since) == (
        "schwerte-park",
        datetime(2026, 1, 2, 11, 30, tzinfo=UTC),
    )
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "device.create",
        "device.move",
    ]


def test_the_same_device_twice_is_refused_at_its_field(scene: Scene) -> None:
    answer = scene.client("steward").post(
        "/amt/geraete/neu/",
        {
            "source": scene.sources["schwerte"].pk,
            "external_id": scene.devices["schwerte live"].external_id,
            "name": "Doppelt",
        },
    )
    assert answer.status_code == 422
    assert "Diese Quelle kennt unter dieser Kennung schon ein Gerät." in answer.content.decode()
    assert not Device.objects.filter(name="Doppelt").exists()


def test_new_place_gets_its_district(scene: Scene) -> None:
    answer = scene.client("steward").post(
        "/amt/orte/neu/",
        {
            "municipality": scene.schwerte.pk,
            "key": "bruecke",
            "name": "Brücke",
            "kind": "level_gauge",
            "lat": "51.45",
            "lon": "7.58",
            "public": "on",
        },
    )
    thing = Thing.objects.get(key="bruecke")
    assert answer["Location"] == f"/amt/orte/{thing.pk}/"
    assert thing.district is not None
    assert (thing.district.name, thing.municipality, thing.kind, thing.public) == (
        "Mitte",
        scene.schwerte,
        "level_gauge",
        True,
    )


@pytest.mark.parametrize(
    ("lat", "lon", "field"), [("51.45", "", "lon"), ("", "7.58", "lat"), ("7.58", "51.45", "lon")]
)
def test_place_at_an_impossible_point(scene: Scene, lat: str, lon: str, field: str) -> None:
    answer = scene.client("steward").post(
        "/amt/orte/neu/",
        {
            "municipality": scene.schwerte.pk,
            "key": "x",
            "name": "X",
            "kind": "station",
            "lat": lat,
            "lon": lon,
        },
    )
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == [field]


def _upload(client: Client, scene: Scene, content: bytes, action: str = "preview") -> Any:
    return client.post(
        "/amt/geraete/einlesen/",
        {
            "way": "csv",
            "action": action,
            "source": scene.sources["schwerte"].pk,
            "kind": "tree",
            "file": SimpleUploadedFile("geraete.csv", content),
        },
    )


CSV = b"external_id;name;device_type;lon;lat\nA1B2;Baum 1;muster-th;7,57;51,44\nA1B3;Baum 2;;;\n"


def test_import_shows_a_preview_and_writes_after_confirmation(scene: Scene) -> None:
    client = scene.client("steward")
    preview = _upload(client, scene, CSV)
    assert preview.status_code == 200
    assert not Device.objects.filter(external_id="a1b2").exists()
    report = preview.context["report"]
    assert (report.rows, report.devices_created, report.things_created, report.dry_run) == (2, 2, 1, True)
    # The confirmation sends back what the preview's page carries.
    answer = client.post(
        "/amt/geraete/einlesen/",
        {
            "way": "csv",
            "action": "write",
            "source": scene.sources["schwerte"].pk,
            "kind": "tree",
            "text": preview.context["text"],
        },
    )
    assert answer["Location"] == "/amt/geraete/?quelle=netz-schwerte"
    assert Device.objects.filter(external_id__in=["a1b2", "a1b3"]).count() == 2
    assert Thing.objects.get(name="Baum 1").kind == "tree"


def test_import_with_errors_lists_them_and_writes_nothing(scene: Scene) -> None:
    before = Device.objects.count()
    answer = _upload(
        scene.client("steward"),
        scene,
        b"external_id,device_type,lon,lat\na1b2,nix,200,51\n,muster-th,,\n",
        "write",
    )
    assert answer.status_code == 422
    assert [(one.line, one.column) for one in answer.context["report"].errors] == [
        (2, "device_type"),
        (2, "lon"),
        (3, "external_id"),
    ]
    assert Device.objects.count() == before


@pytest.mark.parametrize(
    ("content", "field"),
    [(b"\xff\xfe\x00", "file"), (b"x" * (2 * 1024 * 1024 + 1), "file"), (b"", "file")],
    ids=["not UTF-8", "too large", "empty"],
)
def test_files_that_cannot_be_used(scene: Scene, content: bytes, field: str) -> None:
    answer = _upload(scene.client("steward"), scene, content)
    assert answer.status_code == 422
    assert list(answer.context["csv_form"].errors) == [field]


def test_import_into_a_source_of_the_other_city_is_refused(scene: Scene) -> None:
    answer = scene.client("steward").post(
        "/amt/geraete/einlesen/",
        {
            "way": "csv",
            "action": "write",
            "source": scene.sources["dortmund"].pk,
            "kind": "tree",
            "text": CSV.decode(),
        },
    )
    assert answer.status_code == 422
    assert list(answer.context["csv_form"].errors) == ["source"]
    assert not Device.objects.filter(external_id="a1b2").exists()


def test_page_of_a_device(scene: Scene) -> None:
    text = scene.client("steward").get(f"/amt/geraete/{scene.devices['schwerte live'].pk}/").content.decode()
    for expected in (
        "Schwerte live",
        "sendet",
        "80\u00a0%",
        "−97 dBm / 7,5 dB",
        "15 Minuten",
        "21,9\u00a0°C",
        "Markt Schwerte",
    ):
        assert expected in text


def test_page_of_a_device_in_english(scene: Scene) -> None:
    client = scene.client("steward")
    client.cookies["django_language"] = "en"
    text = client.get(f"/amt/geraete/{scene.devices['schwerte live'].pk}/").content.decode()
    for expected in (
        "sending",
        "80\u00a0%",
        "−97 dBm / 7.5 dB",
        "15 minutes",
        "21.9\u00a0°C",
        "Air temperature",
    ):
        assert expected in text
