"""Codecs: try, save, compare, map, replay. The sandbox is the real one."""

from __future__ import annotations

from typing import Any

import pytest

from quartier.cities.models import AuditEntry, Role, RoleAssignment
from quartier.desk.queries import codecs as queries
from quartier.intake.codecs.library import library
from quartier.intake.models import Codec, FieldMapping, RefusedMessage, Replay
from quartier.twin.models import Device, DeviceType
from tests.desk.scene import PAYLOAD, SCRIPT, Scene, count_queries

PAGE = "/amt/codecs/muster-th/"


def _post(scene: Scene, name: str = "operator_all", page: str = PAGE, **data: Any) -> Any:
    return scene.client(name).post(page, {"script": SCRIPT, **data})


def _trial(answer: Any) -> Any:
    assert answer.status_code == 200
    return answer.context["trial"]


def test_trying_decodes_maps_and_stores_nothing(scene: Scene) -> None:
    trial = _trial(_post(scene, "steward", payload="00 D7 37", port="2", action="try"))
    assert trial.tried.decoded == {"temperature": 21.5, "humidity": 55}
    assert [(one["property"].slug, one["result"]) for one in trial.readings] == [("air_temperature", 21.5)]
    assert Codec.objects.count() == 1
    assert not AuditEntry.objects.exists()


def test_trying_shows_the_reading_with_its_unit(scene: Scene) -> None:
    text = _post(scene, payload=PAYLOAD, action="try").content.decode()
    assert "Lufttemperatur" in text
    assert "21,5\u00a0°C" in text


def test_a_script_that_fails_says_in_which_line_and_what_it_logged(scene: Scene) -> None:
    script = "function decodeUplink(input) {\n  console.log('bytes', input.bytes.length);\n  return input.nix.x;\n}"
    trial = _trial(_post(scene, script=script, payload=PAYLOAD, action="try"))
    assert trial.tried.error_line == 3
    assert trial.tried.error.startswith("script_error: TypeError")
    text = _post(scene, script=script, payload=PAYLOAD, action="try").content.decode()
    assert "Der Codec bricht in Zeile 3 ab" in text
    assert "bytes 3" in text


def test_a_script_that_loops_is_stopped(scene: Scene) -> None:
    trial = _trial(_post(scene, script="function decodeUplink() { for (;;) {} }", payload="00", action="try"))
    assert trial.tried.error.startswith("time_limit")


def test_a_payload_that_is_none(scene: Scene) -> None:
    answer = _post(scene, payload="Hallo!", action="try")
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["payload"])


def test_saving_makes_a_version_that_counts_at_once(scene: Scene) -> None:
    script = SCRIPT.replace("/ 10", "/ 100")
    answer = _post(scene, script=script.replace("\n", "\r\n"), note="Hundertstel", action="save")
    assert answer["Location"] == PAGE
    codec = Codec.objects.get(version=2)
    assert (codec.script, codec.note, codec.created_by, codec.active) == (
        script,
        "Hundertstel",
        scene.people["operator_all"],
        True,
    )
    assert AuditEntry.objects.get().action == "codec.save"


@pytest.mark.parametrize("script", ["function decodeUplink( {", "var x = 1;", "for(;;){}"])
def test_a_script_that_cannot_decode_is_not_saved(scene: Scene, script: str) -> None:
    answer = _post(scene, script=script, action="save")
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["script"])
    assert Codec.objects.count() == 1


def test_save_and_replay_leads_to_the_replay_of_this_type(scene: Scene) -> None:
    answer = _post(scene, action="replay")
    assert answer["Location"] == "/amt/nachspielen/neu/?typ=muster-th"
    form = scene.client("operator_all").get(answer["Location"]).context["form"]
    assert form["device_type"].value() == "muster-th"


def test_type_used_in_the_own_city_only_may_be_changed(scene: Scene) -> None:
    Device.objects.filter(municipality=scene.dortmund).update(device_type=None)
    assert _post(scene, "steward", action="save").status_code == 302


def test_a_steward_of_both_cities_may_change_a_shared_type(scene: Scene) -> None:
    RoleAssignment.objects.create(
        person=scene.people["steward"], role=Role.STEWARD, municipality=scene.dortmund
    )
    assert _post(scene, "steward", action="save").status_code == 302


def test_page_says_that_a_shared_type_is_for_reading(scene: Scene) -> None:
    text = scene.client("steward").get(PAGE).content.decode()
    assert "Sie können hier lesen und ausprobieren." in text
    assert "Als neue Version speichern" not in text


def test_last_message_of_a_device_is_picked(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    RefusedMessage.objects.create(
        municipality=scene.schwerte,
        source_key=device.source_key,
        external_id=device.external_id,
        reason="undecodable",
        body=b'{"deviceInfo":{"devEui":"%s"},"time":"2026-01-01T12:00:00Z","fPort":9,"data":"ANc3"}'
        % device.external_id.encode(),
        headers={"kind": "chirpstack"},
    )
    answer = _post(scene, "steward", device=device.pk, action="pick")
    form = answer.context["form"]
    assert (form["payload"].value(), form["port"].value(), form["script"].value()) == (PAYLOAD, 9, SCRIPT)
    assert _trial(answer).tried.decoded == {"temperature": 21.5, "humidity": 55}


def test_a_device_without_a_message(scene: Scene) -> None:
    answer = _post(scene, "steward", device=scene.devices["schwerte never"].pk, action="pick")
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["device"])


def test_devices_of_other_cities_are_not_offered(scene: Scene) -> None:
    answer = _post(scene, "steward", device=scene.devices["dortmund live"].pk, action="pick")
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["device"])


def test_versions_are_compared(scene: Scene) -> None:
    Codec.objects.create(device_type=scene.device_type, version=2, script=SCRIPT.replace("/ 10", "/ 100"))
    rows = scene.client("steward").get(f"{PAGE}versionen/").context["rows"]
    assert [(row.kind, row.old, row.new) for row in rows] == [
        ("same", 1, 1),
        ("removed", 2, None),
        ("added", None, 2),
        ("same", 3, 3),
    ]
    backwards = scene.client("steward").get(f"{PAGE}versionen/?von=2&bis=1").context["rows"]
    assert [row.text for row in backwards if row.kind == "added"] == [SCRIPT.splitlines()[1]]


def test_an_older_version_comes_back_as_a_new_one(scene: Scene) -> None:
    Codec.objects.create(device_type=scene.device_type, version=2, script="function decodeUplink() {}")
    assert scene.client("operator_all").post(f"{PAGE}versionen/1/einsetzen/").status_code == 302
    newest = Codec.objects.get(version=3)
    assert (newest.script, newest.note) == (SCRIPT, "wie Version 1")


def _rows(*rows: dict[str, str]) -> dict[str, str]:
    data = {"row-TOTAL_FORMS": str(len(rows)), "row-INITIAL_FORMS": "0"}
    for number, row in enumerate(rows):
        whole = {"keep": "on", "role": "observation", "unit": "", "channel": "", **row}
        data |= {f"row-{number}-{name}": value for name, value in whole.items() if value != "-"}
    return data


def test_mapping_is_replaced_by_the_ticked_rows(scene: Scene) -> None:
    data = _rows(
        {"path": "temperature", "observed_property": "air_temperature", "unit": "[degF]"},
        {"path": "humidity", "observed_property": "relative_humidity", "keep": "-"},
        {"path": "", "observed_property": ""},
        {"path": "$.bat.v", "role": "battery_v", "observed_property": "air_temperature", "unit": "mV"},
    )
    assert scene.client("operator_all").post(f"{PAGE}zuordnung/", data)["Location"] == f"{PAGE}zuordnung/"
    assert list(
        FieldMapping.objects.order_by("pk").values_list(
            "path", "observed_property__slug", "unit", "channel", "role"
        )
    ) == [
        ("temperature", "air_temperature", "[degF]", "", "observation"),
        ("$.bat.v", None, "mV", "", "battery_v"),
    ]


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({"path": "temperature", "observed_property": "air_temperature", "unit": "hPa"}, "unit"),
        ({"path": "temperature", "observed_property": "air_temperature", "unit": "Grad"}, "unit"),
        ({"path": "temperature", "observed_property": ""}, "observed_property"),
        ({"path": "$.a[", "observed_property": "air_temperature"}, "path"),
        ({"path": "humidity", "observed_property": "relative_humidity", "unit": "%"}, "path"),
        ({"path": "x", "observed_property": "gibts_nicht"}, "observed_property"),
        ({"path": "x" * 201, "observed_property": "air_temperature"}, "path"),
    ],
    ids=["other dimension", "no unit", "no property", "no JSONPath", "twice", "unknown property", "too long"],
)
def test_a_wrong_row_is_named_and_nothing_is_saved(scene: Scene, row: dict[str, str], field: str) -> None:
    # An empty row before it: the error must find its row all the same.
    data = _rows({"path": "humidity", "observed_property": "relative_humidity"}, {"path": ""}, row)
    answer = scene.client("operator_all").post(f"{PAGE}zuordnung/", data)
    assert answer.status_code == 422
    assert [list(form.errors) for form in answer.context["formset"].forms] == [[], [], [field]]
    assert list(FieldMapping.objects.values_list("path", flat=True)) == ["temperature"]


def test_mapping_proposes_what_the_last_message_holds(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    RefusedMessage.objects.create(
        municipality=scene.schwerte,
        source_key=device.source_key,
        external_id=device.external_id,
        reason="no_known_field",
        body=b'{"device": "x", "values": {"humidity": 55, "air_temperature": 21, "z": 1}}',
        headers={"kind": "quartier_json"},
    )
    RefusedMessage.objects.update(external_id="x")
    Device.objects.filter(pk=device.pk).update(external_id="x")
    rows = scene.client("steward").get(f"{PAGE}zuordnung/").context["rows"]
    assert [
        (
            form["path"].value(),
            form["observed_property"].value(),
            form["unit"].value(),
            form["keep"].value(),
            sample,
        )
        for form, sample in rows[:4]
    ] == [
        ("temperature", "air_temperature", "Cel", True, None),
        ("humidity", "relative_humidity", "%", False, 55),
        ("air_temperature", "air_temperature", "", False, 21),
        ("z", "", "", False, 1),
    ]


def test_leaves_of_decoded_fields() -> None:
    fields = {
        "a": 1,
        "b": {"c": {"d": 2}, "x y": 3, "it's": 4},
        "e": [1],
        "f": None,
        "g": {"value": 5, "unit": "m"},
    }
    assert list(queries.leaves(fields)) == [
        ("a", 1),
        ("$.b.c.d", 2),
        ("$.b['x y']", 3),
        ("$.b['it\\'s']", 4),
        ("g", 5),
    ]


@pytest.mark.parametrize("key", sorted(library()))
def test_device_type_from_the_library(scene: Scene, key: str) -> None:
    """Every codec that ships becomes a type whose example decodes to readings."""
    chosen = library()[key]
    answer = scene.client("operator").post(
        "/amt/codecs/neu/",
        {"library": key, "key": f"{key}-neu", "vendor": chosen.vendor, "model": chosen.model},
    )
    assert answer["Location"] == f"/amt/codecs/{key}-neu/"
    device_type = DeviceType.objects.get(key=f"{key}-neu")
    assert Codec.objects.get(device_type=device_type).script == chosen.script
    page = scene.client("operator").get(answer["Location"])
    form = page.context["form"]
    trial = _trial(
        _post(
            scene,
            page=answer["Location"],
            script=form["script"].value(),
            payload=form["payload"].value(),
            port=form["port"].value(),
            action="try",
        )
    )
    assert trial.tried.error == ""
    if any(not name.endswith("*") and field.property for name, field in chosen.fields.items()):
        assert trial.readings


def test_taken_key_of_a_device_type(scene: Scene) -> None:
    answer = scene.client("operator").post("/amt/codecs/neu/", {"key": "muster-th", "model": "x"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["key"])


def test_replay_is_asked_for_with_local_times(scene: Scene) -> None:
    answer = scene.client("steward").post(
        "/amt/nachspielen/neu/",
        {
            "municipality": scene.schwerte.pk,
            "device_type": "muster-th",
            "source": "netz-schwerte",
            "since": "2026-07-01T00:00",
            "until": "2026-07-02T00:00",
            "external_ids": f"{scene.devices['schwerte live'].external_id}\n nicht-von-hier",
        },
    )
    replay = Replay.objects.get()
    assert answer["Location"] == f"/amt/nachspielen/{replay.pk}/"
    assert replay.municipality == scene.schwerte
    assert replay.selection["external_ids"] == [scene.devices["schwerte live"].external_id]
    assert replay.selection["since"] == "2026-07-01T00:00:00+02:00"
    assert replay.selection["until"] == "2026-07-02T00:00:00+02:00"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"since": "2026-07-02T00:00", "until": "2026-07-01T00:00"}, "until"),
        ({"since": "gestern"}, "since"),
        ({"source": "netz-dortmund"}, "source"),
    ],
)
def test_replays_that_cannot_be(scene: Scene, change: dict[str, str], field: str) -> None:
    data = {"municipality": scene.schwerte.pk, **change}
    answer = scene.client("steward").post("/amt/nachspielen/neu/", data)
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field])


def test_progress_polls_until_the_end(scene: Scene) -> None:
    replay = Replay.objects.create(municipality=scene.schwerte, total=40, done=10, started_at=scene.now)
    client = scene.client("steward")
    page = client.get(f"/amt/nachspielen/{replay.pk}/").content.decode()
    assert '<progress class="desk-progress" aria-label="Fortschritt" max="40" value="10">' in page
    part = client.get(f"/amt/nachspielen/{replay.pk}/stand/").content.decode()
    assert "hx-get" in part
    assert "<html" not in part
    Replay.objects.update(finished_at=scene.now, done=40, corrected=7)
    part = client.get(f"/amt/nachspielen/{replay.pk}/stand/").content.decode()
    assert "hx-get" not in part
    assert "Fertig." in part


def test_an_operator_of_all_cities_sees_all_replays(scene: Scene) -> None:
    replays = [Replay.objects.create(municipality=one) for one in (scene.dortmund, scene.schwerte, None)]
    client = scene.client("operator_all")
    assert client.get("/amt/nachspielen/").context["page"].paginator.count == 3
    assert [client.get(f"/amt/nachspielen/{one.pk}/").status_code for one in replays] == [200, 200, 200]


def test_replays_of_the_other_city_are_not_shown(scene: Scene) -> None:
    replay = Replay.objects.create(municipality=scene.dortmund)
    assert scene.client("steward").get(f"/amt/nachspielen/{replay.pk}/").status_code == 403
    assert scene.client("steward").get(f"/amt/nachspielen/{replay.pk}/stand/").status_code == 403
    assert list(scene.client("steward").get("/amt/nachspielen/").context["page"].object_list) == []


def test_queries_do_not_grow_with_device_types(scene: Scene) -> None:
    client = scene.client("operator_all")
    count_queries(client, "/amt/codecs/")  # what is looked up once per process is no matter here
    few = count_queries(client, "/amt/codecs/")
    for number in range(2):
        DeviceType.objects.create(key=f"typ-{number}", model="x")
    assert count_queries(client, "/amt/codecs/") == few
