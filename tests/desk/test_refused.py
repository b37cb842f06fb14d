"""Refused messages: list, raw view, second try."""

from __future__ import annotations

from datetime import timedelta

import pytest

from quartier.cities.models import AuditEntry
from quartier.cities.rules import actor_of
from quartier.desk.queries import refused
from quartier.intake.models import RefusedMessage, Replay
from tests.desk.scene import BODY, PAYLOAD, Scene, count_queries


def _more(scene: Scene, n: int, slug: str = "schwerte", reason: str = "undecodable") -> list[RefusedMessage]:
    return RefusedMessage.objects.bulk_create(
        RefusedMessage(
            municipality=scene.municipality(slug),
            source_key=f"netz-{slug}",
            external_id=scene.devices[f"{slug} live"].external_id,
            reason=reason,
            detail="script_error: boom",
            body=BODY % b"x",
            headers={"kind": "quartier_json"},
            # Two at each moment: the pages must not lose one of them.
            at=scene.now - timedelta(minutes=number // 2),
        )
        for number in range(n)
    )


def test_pages_hold_every_message_once(scene: Scene) -> None:
    _more(scene, 123)
    actor = actor_of(scene.people["operator_all"])
    messages = refused.filtered(actor, refused.RefusedFilter())
    seen: list[int] = []
    key = None
    sizes = []
    while True:
        rows, key = refused.page(messages, key)
        sizes.append(len(rows))
        seen += [row.pk for row in rows]
        if key is None:
            break
    assert sizes == [50, 50, 25]
    assert seen == list(messages.values_list("pk", flat=True))
    assert len(set(seen)) == 125


def test_list_leads_to_its_next_page(scene: Scene) -> None:
    _more(scene, 60)
    client = scene.client("steward")
    first = client.get("/amt/nachrichten/?grund=undecodable")
    second = client.get(f"/amt/nachrichten/{first.context['next']}")
    assert (len(first.context["rows"]), len(second.context["rows"]), second.context["next"]) == (50, 10, "")
    assert second.context["total"] == 60


@pytest.mark.parametrize(
    "key", ["x", "2026_5", "2026-01-01T00:00:00_5", "2026-01-01T00:00:00Z_99999999999999999999"]
)
def test_nonsense_in_the_address_begins_at_the_start(scene: Scene, key: str) -> None:
    answer = scene.client("steward").get("/amt/nachrichten/", {"vor": key})
    assert (answer.status_code, len(answer.context["rows"])) == (200, 1)


def test_groups_by_reason(scene: Scene) -> None:
    _more(scene, 3)
    found = refused.groups(refused.filtered(actor_of(scene.people["steward"]), refused.RefusedFilter()))
    assert [(one.reason, one.n, one.devices, one.oldest, one.newest) for one in found] == [
        ("undecodable", 3, 1, scene.now - timedelta(minutes=1), scene.now),
        ("unknown_device", 1, 1, scene.now - timedelta(hours=1), scene.now - timedelta(hours=1)),
    ]


def test_unknown_reasons_speak_for_themselves(scene: Scene) -> None:
    _more(scene, 1, reason="brand_new_reason")
    text = scene.client("steward").get("/amt/nachrichten/").content.decode()
    assert "brand_new_reason" in text


def test_messages_of_no_city_are_for_those_who_see_all(scene: Scene) -> None:
    message = RefusedMessage.objects.create(source_key="?", reason="not_json", body=b"\xff")
    assert scene.client("operator").get(f"/amt/nachrichten/{message.pk}/").status_code == 403
    assert scene.client("operator").post("/amt/nachrichten/erneut/", {"id": message.pk}).status_code == 403
    assert scene.client("operator_all").get(f"/amt/nachrichten/{message.pk}/").status_code == 200
    assert "?" not in [
        row.source_key for row, _ in scene.client("operator").get("/amt/nachrichten/").context["rows"]
    ]


def test_raw_view_shows_text_bytes_and_what_the_parser_finds(scene: Scene) -> None:
    message = scene.refused["schwerte"]
    text = scene.client("steward").get(f"/amt/nachrichten/{message.pk}/").content.decode()
    assert "Unbekanntes Gerät" in text
    assert "unknown_device: no device" in text
    assert "7b 22 64 65 76 69 63 65" in text  # {"device
    assert f"/amt/geraete/neu/?quelle=netz-schwerte&amp;kennung={message.external_id}" in text
    assert "&quot;air_temperature&quot;: 21.5" in text


def test_a_message_with_bytes_can_be_tried_in_the_codec(scene: Scene) -> None:
    device = scene.devices["schwerte live"]
    # An uplink event of ChirpStack v4, as its HTTP integration sends it.
    body = (
        b'{"deviceInfo":{"devEui":"%s","deviceName":"x"},"time":"2026-01-01T12:00:00Z","fCnt":7,"fPort":2,'
        b'"data":"ANc3","rxInfo":[{"gatewayId":"0016c001f153a14c","rssi":-61,"snr":8.5}]}'
        % device.external_id.encode()
    )
    message = RefusedMessage.objects.create(
        municipality=scene.schwerte,
        source_key="netz-schwerte",
        external_id=device.external_id,
        reason="undecodable",
        body=body,
        headers={"kind": "chirpstack"},
        topic="application/1/device/x/event/up",
    )
    client = scene.client("steward")
    page = client.get(f"/amt/nachrichten/{message.pk}/")
    assert page.context["payload_hex"] == PAYLOAD
    assert f"/amt/codecs/muster-th/?nachricht={message.pk}" in page.content.decode()
    form = client.get(f"/amt/codecs/muster-th/?nachricht={message.pk}").context["form"]
    assert (form["payload"].value(), form["port"].value()) == (PAYLOAD, 2)


def test_selected_messages_are_tried_again_oldest_first(scene: Scene) -> None:
    newer, _same, older = _more(scene, 3)
    answer = scene.client("steward").post("/amt/nachrichten/erneut/", {"id": [newer.pk, older.pk]})
    replay = Replay.objects.get()
    assert answer["Location"] == f"/amt/nachspielen/{replay.pk}/"
    assert sorted(replay.selection["refused"]) == sorted([older.pk, newer.pk])
    assert (replay.created_by, replay.total) == (scene.people["steward"], 2)
    assert AuditEntry.objects.get().action == "refused.retry"
    # Who started it sees how it goes, although a second try belongs to no single city.
    assert scene.client("steward").get(answer["Location"]).status_code == 200


def test_all_messages_of_a_filter_are_tried_again(scene: Scene) -> None:
    mine = _more(scene, 4)
    _more(scene, 4, slug="dortmund")
    scene.client("steward").post("/amt/nachrichten/erneut/", {"alle": "1", "filter": "grund=undecodable"})
    assert sorted(Replay.objects.get().selection["refused"]) == sorted(one.pk for one in mine)


def test_what_cannot_be_saved_is_ticked_off(scene: Scene) -> None:
    mine, other = _more(scene, 3), scene.refused["dortmund"]
    client = scene.client("steward")
    data = {
        "id": [mine[0].pk, mine[1].pk],
        "action": "resolve",
        "zurueck": "/amt/nachrichten/?grund=undecodable",
    }
    answer = client.post("/amt/nachrichten/erneut/", data, follow=True)
    assert "2 Nachrichten abgehakt." in answer.content.decode()
    assert [row.pk for row, _ in answer.context["rows"]] == [mine[2].pk]
    assert not Replay.objects.exists()
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.municipality, entry.detail) == (
        "refused.resolve",
        scene.schwerte,
        {"count": 2},
    )
    client.post("/amt/nachrichten/erneut/", {"alle": "1", "filter": "", "action": "resolve"})
    assert list(RefusedMessage.objects.filter(resolved_at=None)) == [other]
    assert client.post("/amt/nachrichten/erneut/", {"id": other.pk, "action": "resolve"}).status_code == 403
    assert RefusedMessage.objects.filter(resolved_at=None).exists()


def test_nothing_selected(scene: Scene) -> None:
    answer = scene.client("steward").post(
        "/amt/nachrichten/erneut/", {"zurueck": "/amt/nachrichten/?quelle=x"}
    )
    assert answer["Location"] == "/amt/nachrichten/?quelle=x"
    assert not Replay.objects.exists()


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example/amt/", "/accounts/logout/", ""])
def test_the_way_back_stays_on_the_desk(scene: Scene, target: str) -> None:
    answer = scene.client("steward").post("/amt/nachrichten/erneut/", {"zurueck": target})
    assert answer["Location"] == "/amt/nachrichten/"


def test_one_foreign_message_spoils_the_selection(scene: Scene) -> None:
    ids = [scene.refused["schwerte"].pk, scene.refused["dortmund"].pk]
    assert scene.client("steward").post("/amt/nachrichten/erneut/", {"id": ids}).status_code == 403
    assert not Replay.objects.exists()


def test_queries_do_not_grow_with_messages(scene: Scene) -> None:
    client = scene.client("operator_all")
    few = count_queries(client, "/amt/nachrichten/")
    _more(scene, 10)
    assert count_queries(client, "/amt/nachrichten/") == few
