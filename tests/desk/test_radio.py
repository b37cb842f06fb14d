"""What the pages of the radio network do: register, explain, send, account; and what they never show."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone, translation

from quartier.cities.rules import actor_of
from quartier.desk import radio_downlinks, radio_frames, words_radio
from quartier.desk.queries.radio import frames as frame_queries
from quartier.desk.queries.radio import overview, peers
from quartier.desk.queries.radio.frames import FrameFilter
from quartier.intake.models import Codec
from quartier.lorawan.domain.changes import keyring
from quartier.lorawan.frames import mac
from quartier.lorawan.frames.qr import DeviceCode
from quartier.lorawan.keyring import ROOT
from quartier.lorawan.models import Downlink, Frame, Gateway, LoraDevice
from quartier.lorawan.roaming.peers import DataClass
from quartier.lorawan.types import Discarded, TransmitError
from tests.desk import radio_scene
from tests.desk.radio_scene import APP_KEY, DEVICES, FRAMES, GATEWAYS, PRIVATE, Radio
from tests.desk.scene import Scene, count_queries
from tests.world import frame_days

BASE = "/amt/funknetz/"
JOIN_EUI = "70b3d57ed0000000"


@pytest.fixture
def radio(scene: Scene) -> Radio:
    return radio_scene.build(scene)


def test_a_device_is_registered_by_its_qr_code(scene: Scene, radio: Radio) -> None:
    eui = "70b3d57ed0000777"
    code = DeviceCode(
        join_eui=bytes.fromhex(JOIN_EUI), dev_eui=bytes.fromhex(eui), vendor_id=0xAABB, vendor_profile_id=1
    )
    data = {
        "municipality": scene.schwerte.pk,
        "qr": code.format(checksum=True).lower(),
        "name": "Aus dem Code",
        "profile": radio.profiles["a"].pk,
        "activation": "otaa",
        "app_key": APP_KEY,
        "thing": scene.things["schwerte"].key,
    }
    answer = scene.client("steward").post(f"{BASE}geraete/neu/", data)
    assert answer["Location"] == f"{BASE}geraete/{eui}/"
    device = LoraDevice.objects.get(dev_eui=eui)
    assert (device.join_eui, device.name) == (JOIN_EUI, "Aus dem Code")
    assert device.sealed_keys is not None
    assert keyring().open(bytes(device.sealed_keys), ROOT, bytes.fromhex(eui)).hex() == APP_KEY
    assert device.device.deployments.get().thing == scene.things["schwerte"]


def test_wrong_entries_are_shown_at_their_field_and_keys_are_not_repeated(scene: Scene, radio: Radio) -> None:
    data = {
        "municipality": scene.schwerte.pk, "qr": "LW:D0:nonsense", "name": "X", "profile": radio.profiles["a"].pk,
        "activation": "otaa", "app_key": APP_KEY,
    }  # fmt: skip
    client = scene.client("steward")
    answer = client.post(f"{BASE}geraete/neu/", data)
    assert answer.status_code == 422
    assert list(answer.context["form"].errors) == ["qr"]
    answer = client.post(
        f"{BASE}geraete/neu/", data | {"qr": "", "dev_eui": "70b3d57ed0000778", "app_key": "ab"}
    )
    assert answer.context["form"].errors == {"app_key": ["muss 32 hexadezimale Ziffern haben"]}
    assert APP_KEY not in answer.content.decode()


def test_keys_are_nowhere(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    eui = DEVICES["schwerte"]
    pages = (
        f"geraete/{eui}/", f"geraete/{eui}/bearbeiten/", f"geraete/{eui}/schluessel/", "geraete/schwerte.csv",
        "geraete/schwerte.json", f"gruppen/{radio.groups['schwerte'].pk}/", f"partner/{radio.peers['schwerte'].key}/",
        f"partner/{radio.peers['schwerte'].key}/bearbeiten/",
    )  # fmt: skip
    for page in pages:
        text = client.get(f"{BASE}{page}").content.decode().lower()
        assert APP_KEY not in text, page
        assert "00" * 16 not in text, page
        assert "sealed" not in text, page


def test_new_keys_replace_the_old_ones(scene: Scene, radio: Radio) -> None:
    data = {"profile": radio.profiles["a"].pk, "activation": "otaa", "app_key": "FF " * 16}
    eui = DEVICES["schwerte"]
    assert scene.client("steward").post(f"{BASE}geraete/{eui}/schluessel/", data).status_code == 302
    device = LoraDevice.objects.get(dev_eui=eui)
    assert device.sealed_keys is not None
    assert keyring().open(bytes(device.sealed_keys), ROOT, bytes.fromhex(eui)) == b"\xff" * 16
    assert device.sessions.count() == 0


def test_forms_begin_with_the_safe_way_and_say_what_is_needed_when(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    assert client.get(f"{BASE}gateways/neu/").context["form"]["protocol"].initial == "station"
    page = client.get(f"{BASE}geraete/neu/").content.decode()
    for name, hint in (
        ("dev_eui", "Nötig, wenn oben kein QR-Code steht."),
        ("app_key", "Nötig bei OTAA: 32 Zeichen aus 0–9 und a–f."),
        ("dev_addr", "Nötig bei ABP: acht Zeichen."),
    ):
        assert hint in page
        label = page.partition(f'<label class="kern-label" for="id_{name}">')[2].partition("</label>")[0]
        assert label
        assert "optional" not in label


def test_a_token_is_shown_once_in_the_files_of_a_station(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    data = {
        "municipality": scene.schwerte.pk,
        "eui": "00:16:c0:01:f1:00:00:99",
        "name": "Dach",
        "protocol": "station",
    }
    answer = client.post(f"{BASE}gateways/neu/", data)
    page = f"{BASE}gateways/0016c001f1000099/"
    assert answer["Location"] == page
    files = {one.name: one.content for one in client.get(page).context["files"]}
    prefix, token = files["tc.key"].rsplit(" ", 1)
    assert (prefix, len(token)) == ("Authorization: Bearer", 43)
    assert files["tc.uri"].startswith("ws")
    assert client.get(page).context["files"][1].content == "Authorization: Bearer …"
    assert token not in client.get(page).content.decode()
    # Nobody registers the same gateway again, in whatever spelling.
    answer = client.post(f"{BASE}gateways/neu/", data | {"eui": "0016C001F1000099"})
    assert answer.context["form"].errors == {"eui": ["ist schon angemeldet"]}


def test_the_lines_of_a_packet_forwarder(scene: Scene, radio: Radio) -> None:
    [file] = scene.client("operator").get(f"{BASE}gateways/{GATEWAYS['schwerte']}/").context["files"]
    conf = json.loads(file.content)["gateway_conf"]
    assert file.name == "global_conf.json"
    assert (conf["gateway_ID"], conf["serv_port_up"], conf["serv_port_down"]) == (
        GATEWAYS["schwerte"].upper(), 1700, 1700
    )  # fmt: skip


def test_semtech_without_allowed_addresses_is_warned_about(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator")
    assert [one.gateway.eui for one in client.get(BASE).context["overview"].unprotected] == [
        GATEWAYS["schwerte"]
    ]
    data = {"name": "Rathaus", "protocol": "gwmp", "networks": "192.0.2.0/24, 2001:db8::/48"}
    client.post(f"{BASE}gateways/{GATEWAYS['schwerte']}/bearbeiten/", data)
    assert Gateway.objects.get(eui=GATEWAYS["schwerte"]).networks == ["192.0.2.0/24", "2001:db8::/48"]
    assert client.get(BASE).context["overview"].unprotected == []


def test_overview_counts_finds_the_edge_and_the_noise(scene: Scene, radio: Radio) -> None:
    found = overview.overview(actor_of(scene.people["operator"]), timezone.now())
    assert found.outcomes == [
        ("up", "accepted", FRAMES + 1), ("up", "replay", 1), ("up", "unauthorised", 1), ("up", "unknown_device", 1),
        ("down", "ok", 1),
    ]  # fmt: skip
    # DR3 is SF9, which is understood down to -12.5 dB (SX1276 data sheet, table 13); the better gateway hears -11 dB.
    assert [(one.dev_eui, one.margin_db, one.frames, one.gateways, one.weak) for one in found.edge] == [
        (DEVICES["schwerte"], 1.5, FRAMES + 1, 2.0, True)
    ]
    assert [(one.frequency_hz, one.share, one.frames) for one in found.noisy] == [(868_300_000, 0.75, 40)]
    [gateway] = found.gateways
    assert (gateway.online, gateway.day.received, gateway.busiest) == (True, 40, ("869.4-869.65", 0.81))
    assert gateway.broken_share == pytest.approx(50 / 140)


def test_overview_needs_no_more_queries_for_more_gateways(scene: Scene, radio: Radio) -> None:
    client = scene.client("operator_all")
    before = count_queries(client, BASE)
    for number in range(10):
        Gateway.objects.create(municipality=scene.schwerte, eui=f"{number:016x}", name=str(number))
    assert count_queries(client, BASE) <= before


def test_frames_are_told_in_both_languages(scene: Scene, radio: Radio) -> None:
    actor = actor_of(scene.people["steward"])
    frames, _ = frame_queries.page(actor, FrameFilter(device=DEVICES["schwerte"]))
    by_kind = {(one.kind, one.outcome): one for one in frames}
    confirmed, replay = by_kind["confirmed_up", "accepted"], by_kind["unconfirmed_up", "replay"]
    with translation.override("de"):
        [told] = radio_frames.told(actor, [confirmed])
        assert (told.kind, told.title) == ("Nachricht des Geräts, die eine Bestätigung will", "angenommen")
        assert told.facts == ["DR3 (SF9BW125), 868,1\u00a0MHz", "17 Bytes", f"Zähler {FRAMES}", "Port 2"]
        assert told.commands == [
            ("LinkADRAns", "Datenrate, Sendeleistung und Kanäle"), ("DevStatusAns", "Batterie und Empfangsreserve"),
        ]  # fmt: skip
        assert told.notes == [
            "Das Gerät bestätigt unsere letzte Nachricht.", "Am Rand des Empfangs: weniger als 3 dB Reserve.",
        ]  # fmt: skip
        assert [(one.label, one.peer, one.signal) for one in told.gateways] == [
            ("Rathaus Schwerte", "", "−118\u00a0dBm, −11,0\u00a0dB"),
            ("Rathaus Dortmund", "nachbar", "−121\u00a0dBm, −12,0\u00a0dB"),
        ]  # fmt: skip
        [answer] = told.answers
        assert (answer.title, answer.notes) == (
            "gesendet", ["Bestätigt die Nachricht des Geräts.", "Im Empfangsfenster RX1."]
        )  # fmt: skip
    with translation.override("en"):
        [told] = radio_frames.told(actor, [replay])
        assert told.title == "Counter was used before"
        assert (
            told.advice
            == "The counter is smaller than the last one. A device that has restarted must join again."
        )


def test_every_outcome_has_words() -> None:
    assert {str(one) for one in Discarded} <= words_radio.HEARD.keys()
    assert {str(one) for one in TransmitError} <= words_radio.SENT.keys()
    commands = [name for name in vars(mac) if name.endswith(("Req", "Ans", "Ind", "Conf"))]
    assert [name for name in commands if not words_radio.command(name)] == []
    assert {str(one) for one in DataClass} == words_radio.DATA_CLASSES.keys()


def test_the_log_is_narrowed_and_paged(scene: Scene, radio: Radio) -> None:
    actor = actor_of(scene.people["operator_all"])
    everything = Frame.objects.count()
    seen: list[int] = []
    key = None
    while True:
        rows, key = frame_queries.page(actor, FrameFilter(), key, size=10)
        seen += [one.pk for one in rows]
        if key is None:
            break
    assert len(seen) == len(set(seen)) == everything

    def kinds(**wanted: str) -> set[tuple[str, str]]:
        return {
            (one.kind, one.outcome) for one in frame_queries.page(actor, FrameFilter(**wanted), size=200)[0]
        }

    assert kinds(outcome="refused", municipality="schwerte") == {
        ("unconfirmed_up", "replay"), ("join_request", "unknown_device"), ("gateway", "unauthorised"),
    }  # fmt: skip
    assert kinds(direction="down", gateway=GATEWAYS["dortmund"]) == {("unconfirmed_down", "ok")}
    assert kinds(device="00e20001") == set()
    old = radio_scene.line(
        radio.devices["schwerte"], timezone.now() - timedelta(days=3), outcome="counter_gap"
    )
    frame_days([old.at])
    old.save()
    assert kinds(outcome="counter_gap") == set()
    assert kinds(outcome="counter_gap", period="woche") == {("unconfirmed_up", "counter_gap")}


def test_private_gateways_of_the_neighbour_stay_nameless(scene: Scene, radio: Radio) -> None:
    Gateway.objects.create(municipality=scene.dortmund, eui=PRIVATE, name="Balkon Meier", private=True)
    radio_scene.line(
        radio.devices["schwerte"], timezone.now(), gateways=[{"eui": PRIVATE, "rssi_dbm": -90, "snr_db": 5}]
    ).save()
    text = scene.client("steward").get(f"{BASE}protokoll/").content.decode()
    assert "privates Gateway" in text
    assert "Balkon Meier" not in text
    assert PRIVATE not in text


def test_a_downlink_through_the_codec(scene: Scene, radio: Radio) -> None:
    script = (
        "function decodeUplink(i) { return {data: {}}; }\n"
        "function encodeDownlink(i) { return {bytes: [7, i.data.dim], fPort: 9}; }"
    )
    Codec.objects.create(device_type=scene.device_type, version=9, script=script)
    client, page = scene.client("steward"), f"{BASE}geraete/{DEVICES['schwerte']}/senden/"
    answer = client.post(page, {"command": '{"dim": 40}', "port": "1", "confirmed": "on", "urgent": "on"})
    downlink = Downlink.objects.latest("pk")
    assert answer["Location"] == f"{BASE}nachrichten/{downlink.pk}/"
    assert (bytes(downlink.payload), downlink.port, downlink.confirmed, downlink.priority) == (
        b"\x07\x28",
        9,
        True,
        1,
    )
    for data, field in (
        ({"payload": "0", "port": "1"}, "payload"),
        ({"payload": "00", "port": "224"}, "port"),
        ({"command": "[1]", "port": "1"}, "command"),
        ({"command": "{}", "payload": "01", "port": "1"}, "command"),
        ({"payload": "01", "port": "1", "expires_at": "2020-01-01T00:00"}, "expires_at"),
    ):
        answer = client.post(page, data)
        assert (answer.status_code, list(answer.context["downlink_form"].errors)) == (422, [field]), data


@pytest.mark.parametrize(
    ("who", "state", "offered"),
    [("operator", "queued", True), ("operator", "sent", False), ("staff", "queued", False)],
)
def test_only_what_waits_can_be_withdrawn(
    scene: Scene, radio: Radio, who: str, state: str, offered: bool
) -> None:
    """The page follows the state by itself, and the button with it."""
    Downlink.objects.filter(pk=radio.downlinks["schwerte"].pk).update(state=state)
    address = f"{BASE}nachrichten/{radio.downlinks['schwerte'].pk}/"
    for part in (address, f"{address}stand/"):
        assert ("zurueckziehen" in scene.client(who).get(part).content.decode()) == offered, part


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"state": "queued"}, ["Wartet, bis das Gerät das nächste Mal sendet; vorher hört es nicht zu."]),
        (
            {"state": "queued", "attempts": 1, "reason": "too_late"},
            ["Wartet, bis das Gerät das nächste Mal sendet; vorher hört es nicht zu.",
             "Bisher 1 Versuch(e). Zuletzt: zu spät."],
        ),
        ({"state": "sent", "sent_at": True, "confirmed": True}, ["Das Gerät hat den Empfang noch nicht bestätigt."]),
        (
            {"state": "sent", "sent_at": True},
            ["Ob das Gerät sie gehört hat, ist nicht bekannt: Eine Bestätigung wurde nicht verlangt."],
        ),
        ({"state": "acknowledged", "sent_at": True}, ["Das Gerät hat den Empfang bestätigt."]),
        (
            {"state": "failed", "reason": "no_confirmation"},
            ["Gescheitert: ohne Bestätigung.",
             "Das Gateway hat nicht gesagt, ob es gesendet hat. Das gilt als nicht gesendet."],
        ),
        ({"state": "failed", "reason": "a new one"}, ["Gescheitert: a new one."]),
        ({"state": "sent", "sent_at": True, "confirmed": False, "detail": "2 of 3 gateways"},
            ["Gateways, die sie gesendet haben: 2 von 3.",
             "Ob das Gerät sie gehört hat, ist nicht bekannt: Eine Bestätigung wurde nicht verlangt."]),
    ],
)  # fmt: skip
def test_the_state_of_a_downlink_in_words(
    scene: Scene, radio: Radio, values: dict[str, object], expected: list[str]
) -> None:
    downlink = radio.downlinks["schwerte"]
    sent = values.pop("sent_at", False)
    for name, value in values.items():
        setattr(downlink, name, value)
    downlink.gateway = GATEWAYS["schwerte"]
    downlink.sent_at = timezone.now() if sent else None
    told = radio_downlinks.sentences(downlink)
    assert told[-len(expected) :] == expected
    assert "gateways" not in radio_downlinks.technical(downlink)
    assert any("von Rathaus Schwerte; das Gateway hat es bestätigt" in one for one in told) == bool(sent)


def test_import_checks_first_and_writes_all_or_nothing(scene: Scene, radio: Radio) -> None:
    client = scene.client("steward")

    def upload(text: str, action: str) -> int:
        file = SimpleUploadedFile("geraete.csv", text.encode())
        data = {"municipality": scene.schwerte.pk, "file": file, "action": action}
        return client.post(f"{BASE}geraete/einlesen/", data).status_code

    good = (
        "dev_eui,name,profile,app_key\n"
        f"70b3d57ed0000901,Eins,muster-a,{APP_KEY}\n70b3d57ed0000902,Zwei,muster-a,{APP_KEY}\n"
    )
    assert upload(good, "preview") == 200
    assert upload(f"{good}xyz,Drei,muster-a,{APP_KEY}\n", "write") == 422
    assert not LoraDevice.objects.filter(dev_eui__startswith="70b3d57ed00009").exists()
    assert upload(good, "write") == 302
    assert LoraDevice.objects.filter(dev_eui__startswith="70b3d57ed00009").count() == 2
    exported = client.get(f"{BASE}geraete/schwerte.csv").content.decode()
    assert "70b3d57ed0000901" in exported
    assert APP_KEY not in exported


def test_a_profile_of_all_cities_is_read_by_one_city_and_says_why(scene: Scene, radio: Radio) -> None:
    address = f"{BASE}profile/muster-a/"
    for name, may_write in (("staff", False), ("operator", True)):
        answer = scene.client(name).get(address)
        page = answer.content.decode()
        assert "Sie können dieses Profil nur lesen" in page, name
        assert "Ändern kann es nur, wer in allen das Funknetz ändern darf." in page, name
        assert ("legen Sie ein Profil Ihrer Stadt an" in page) is may_write, name
        assert 'name="mac_version"' not in page, name
        facts = dict(answer.context["about"]) | dict(answer.context["more"])
        assert facts["Stadt"] == "alle Städte"
        assert facts["LoRaWAN-Version"] == "1.0.3"
        assert facts["Klasse"] == "A: hört nur nach dem Senden"
        assert facts["Gerätetyp"] == "keiner"
        # Times bring the unit that suits them; the fields' labels say seconds.
        assert facts["Erwarteter Abstand"] == "–"
        assert facts["RX1 nach"] == "1 Sekunde"
        assert facts["Abstand der Batterieabfragen"] == "1 Tag"
        assert facts["Datenrate regeln (ADR)"] == "ja"
        assert facts["Datenrate in RX2"] == "DR0 (SF12BW125)"
        assert facts["Frequenz in RX2 in MHz"] == "869,525"
    assert 'name="mac_version"' in scene.client("operator_all").get(address).content.decode()
    # A new profile of somebody with one city is not offered to all of them.
    choices = (
        scene.client("operator").get(f"{BASE}profile/neu/").context["form"].fields["municipality"].choices
    )
    assert [str(label) for _, label in choices] == ["Schwerte"]


def test_a_move_leaves_a_history(scene: Scene, radio: Radio) -> None:
    page = f"{BASE}geraete/{DEVICES['schwerte']}/"
    data = {"municipality": scene.dortmund.pk, "reason": "Grenze verlegt"}
    assert scene.client("operator_all").post(f"{page}abgeben/", data).status_code == 302
    text = scene.client("operator_all").get(page).content.decode()
    assert "Grenze verlegt" in text
    assert scene.client("operator").get(page).status_code == 403


def test_traffic_budgets_and_trail(scene: Scene, radio: Radio) -> None:
    peer, now = radio.peers["schwerte"], timezone.now()
    found = peers.traffic(peer, now)
    assert [(one.we_carry, one.uplinks, one.downlinks, one.open, one.refused, one.differences) for one in found] == [
        (True, 2, 1, 1, 1, 0), (False, 11, 0, 0, 0, 2),
    ]  # fmt: skip
    assert found[0].uplink_airtime_s == pytest.approx(0.412)
    agreement = radio.agreements["schwerte"]
    budget = peers.used_today([agreement], now)[agreement.pk]
    # As the radio counts: what is open is used, what was refused downwards counts as well until it failed.
    assert (round(budget.uplink_s, 3), budget.downlinks) == (0.618, 2)
    client = scene.client("operator")
    address = f"{BASE}datenschutz/?municipality={scene.schwerte.pk}&geraet={DEVICES['schwerte']}"
    assert len(client.get(address).context["page"].object_list) == 5
    nothing = client.get(
        f"{BASE}datenschutz/?municipality={scene.schwerte.pk}&geraet={DEVICES['schwerte'][:-1]}c"
    )
    assert "Von diesem Gerät ging nichts an andere Netze." in nothing.content.decode()
    other = f"{BASE}datenschutz/?municipality={scene.dortmund.pk}&geraet={DEVICES['dortmund']}"
    assert client.get(other).status_code == 422
    assert client.get(f"{BASE}datenschutz/?municipality={scene.schwerte.pk}&geraet=xyz").status_code == 422


def test_an_agreement_is_proposed_signed_and_ended(scene: Scene, radio: Radio) -> None:
    client, base = scene.client("operator"), f"{BASE}partner/{radio.peers['schwerte'].key}/vereinbarungen/"
    data = {
        "direction": "carried", "purpose": "Gegenseitige Hilfe", "classes": ["join", "mac"], "gateways": "public",
        "dev_addrs": "00e20000/16, 00e30000/16", "lifetime_s": "0", "valid_from": "2026-01-01T00:00",
        "retention_days": "14",
    }  # fmt: skip
    answer = client.post(f"{base}neu/", data | {"dev_addrs": "nonsense"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["dev_addrs"])
    page = client.post(f"{base}neu/", data)["Location"]
    for action in ({"action": "sign"}, {"name": "B. Beispiel, Amt 12", "at": "2026-01-02T10:00"}):
        assert client.post(page, action).status_code == 302
    agreement = client.get(page).context["agreement"]
    assert agreement.dev_addrs == ["00e20000/16", "00e30000/16"]
    assert (agreement.signed_here_by, agreement.signed_there_by) == ("Operator", "B. Beispiel, Amt 12")
    assert "in Kraft" in client.get(page).content.decode()
    client.post(page, {"action": "end"})
    assert "beendet" in client.get(page).content.decode()
