"""What people may do with devices, gateways, profiles and downlinks: rights, fields, audit log, files."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from quartier.cities.models import AuditEntry, Municipality, Organisation, Person, Role, RoleAssignment
from quartier.cities.rules import NOBODY, SYSTEM, Actor, NotAllowed, actor_of
from quartier.lorawan import domain
from quartier.lorawan.domain import DeviceSettings, LoraError
from quartier.lorawan.domain.changes import keyring
from quartier.lorawan.domain.gateways import set_certificate
from quartier.lorawan.domain.transfer import ImportReport
from quartier.lorawan.keyring import ROOT, SESSION
from quartier.lorawan.models import (
    DeviceMove,
    DeviceProfile,
    DevNonce,
    Gateway,
    JoinState,
    LoraDevice,
    Session,
)
from quartier.lorawan.sessions import unpack_keys
from quartier.twin.models import Deployment, Device, DeviceType, Thing

pytestmark = pytest.mark.django_db

EUI, APP_KEY = "70b3d57ed0000001", "000102030405060708090a0b0c0d0e0f"
NWK_KEY = "ff0102030405060708090a0b0c0d0e0f"


@pytest.fixture
def here() -> Municipality:
    return _city("musterstadt")


@pytest.fixture
def there() -> Municipality:
    return _city("beispielhausen")


def _city(slug: str) -> Municipality:
    return Municipality.objects.create(
        slug=slug, name=slug.title(), lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
    )


@pytest.fixture
def profile() -> DeviceProfile:
    return domain.save_profile(SYSTEM, "v103", name="Alt", mac_version="1.0.3")


@pytest.fixture
def actor(here: Municipality) -> Callable[[str | None], Actor]:
    def make(role: str | None) -> Actor:
        if role is None:
            return NOBODY
        person = Person.objects.create_user(f"{role}@example.org")
        RoleAssignment.objects.create(person=person, role=role, municipality=here)
        return actor_of(person)

    return make


def settings(profile: DeviceProfile, **values: Any) -> DeviceSettings:
    return DeviceSettings(
        **{"dev_eui": EUI, "name": "Lampe 1", "profile": profile, "keys": {"app_key": APP_KEY}, **values}
    )


# Role against what it may do: devices, gateways and profiles, sending.
RIGHTS = {
    Role.OPERATOR: (True, True, True),
    Role.STEWARD: (True, False, True),
    Role.STAFF: (False, False, False),
    Role.MAKER: (False, False, False),
    None: (False, False, False),
}


@pytest.mark.parametrize("role", RIGHTS)
def test_rights(
    role: str | None,
    actor: Callable[[str | None], Actor],
    here: Municipality,
    there: Municipality,
    profile: DeviceProfile,
) -> None:
    who = actor(role)
    device = domain.register_device(SYSTEM, here, settings(profile))
    gateway = domain.save_gateway(SYSTEM, here, "b827ebfffe000001")
    downlink = domain.enqueue(SYSTEM, device, b"x", port=1)
    group = domain.create_group(SYSTEM, here, "Gruppe")
    other = settings(profile, dev_eui="70b3d57ed0000002")
    devices, gateways, sending = RIGHTS[role]  # type: ignore[index]
    for allowed, act in (
        (devices, lambda: domain.register_device(who, here, other)),
        (devices, lambda: domain.save_device(who, device, name="Neu")),
        (devices, lambda: domain.set_active(who, device, True)),
        (devices, lambda: domain.replace_keys(who, device, settings(profile))),
        (devices, lambda: domain.export_devices(who, here)),
        (devices, lambda: domain.import_devices(who, here, "dev_eui\n", dry_run=True)),
        (gateways, lambda: domain.save_gateway(who, here, "b827ebfffe000001", name="Turm")),
        (gateways, lambda: domain.set_disabled(who, gateway, False)),
        (gateways, lambda: domain.make_token(who, gateway)),
        (gateways, lambda: domain.save_profile(who, "own", municipality=here)),
        (gateways, lambda: domain.set_members(who, group, [])),
        (sending, lambda: domain.enqueue(who, device, b"x", port=1)),
        (sending, lambda: domain.enqueue_group(who, group, b"x", port=1)),
        (sending, lambda: domain.cancel_downlink(who, downlink)),
    ):
        if allowed:
            act()
        else:
            with pytest.raises(NotAllowed):
                act()
    with pytest.raises(NotAllowed):
        domain.register_device(who, there, other)
    with pytest.raises(NotAllowed):
        domain.move_device(who, device, there)
    if gateways:
        with pytest.raises(LoraError, match="municipality"):
            domain.save_profile(who, "v103", name="Für alle")


def test_a_device_and_its_twin_are_made_together(here: Municipality, profile: DeviceProfile) -> None:
    kind = DeviceType.objects.create(key="lamp", model="Lamp")
    thing = Thing.objects.create(municipality=here, key="markt", name="Markt", kind="street_lamp")
    lora = domain.register_device(
        SYSTEM,
        here,
        settings(profile, dev_eui="70-B3-D5-7E-D0-00-00-01", device_type=kind, expected_interval_s=600),
        thing=thing,
    )
    twin = Device.objects.get()
    assert (twin.source_key, twin.external_id, twin.name) == ("lorawan", EUI, "Lampe 1")
    assert (twin.device_type, twin.expected_interval_s, twin.pk) == (kind, 600, lora.device_id)
    assert Deployment.objects.get().thing == thing
    assert keyring().open(bytes(lora.sealed_keys or b""), ROOT, bytes.fromhex(EUI)) == bytes.fromhex(APP_KEY)
    entry = AuditEntry.objects.get(action="lorawan.device.create")
    assert APP_KEY not in json.dumps(entry.detail)
    domain.set_active(SYSTEM, lora, False)
    twin.refresh_from_db()
    assert not twin.active


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"dev_eui": "70b3d57ed000001"}, "dev_eui"),
        ({"dev_eui": "70b3d57ed000000g"}, "dev_eui"),
        ({"name": "  "}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"keys": {}}, "app_key"),
        ({"keys": {"app_key": APP_KEY + "00"}}, "app_key"),
        ({"join_eui": "1"}, "join_eui"),
        ({"activation": "magic"}, "activation"),
        (
            {"activation": "abp", "keys": {"dev_addr": "01", "nwk_s_key": APP_KEY, "app_s_key": APP_KEY}},
            "dev_addr",
        ),
        ({"activation": "abp", "keys": {"dev_addr": "00e20001", "nwk_s_key": APP_KEY}}, "app_s_key"),
        ({"tags": {str(n): "x" for n in range(21)}}, "tags"),
        ({"tags": {"": "x"}}, "tags"),
        (
            {
                "activation": "abp",
                "keys": {"dev_addr": "00e20001", "nwk_s_key": APP_KEY, "app_s_key": APP_KEY},
                "counters": {"up": 1 << 32},
            },
            "up",
        ),
        ({"used_nonces": [70_000]}, "used_nonces"),
    ],
)
def test_bad_input_names_the_field_and_changes_nothing(
    here: Municipality, profile: DeviceProfile, values: dict[str, Any], field: str
) -> None:
    with pytest.raises(LoraError) as caught:
        domain.register_device(SYSTEM, here, settings(profile, **values))
    assert caught.value.field == field
    assert APP_KEY not in str(caught.value)
    assert (LoraDevice.objects.count(), Device.objects.count()) == (0, 0)


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"mac_version": "2.0"}, "mac_version"),
        ({"region": "MOON"}, "region"),
        ({"rx2_frequency_hz": 869_525_050}, "rx2_frequency_hz"),
        ({"rx2_frequency_hz": 700_000_000}, "rx2_frequency_hz"),
        ({"rx2_data_rate": 12}, "rx2_data_rate"),
        ({"rx1_delay_s": 0}, "rx1_delay_s"),
        ({"rx1_dr_offset": 6}, "rx1_dr_offset"),
        ({"extra_frequencies_hz": [867_100_000] * 6}, "extra_frequencies_hz"),
        ({"extra_frequencies_hz": ["867100000"]}, "extra_frequencies_hz"),
        ({"downlink_frequencies_hz": {"x": 868_100_000}}, "downlink_frequencies_hz"),
        ({"adr_ack_exponents": [1]}, "adr_ack_exponents"),
        ({"device_class": "D"}, "device_class"),
        ({"device_class": "B", "mac_version": "1.0.2"}, "device_class"),
        ({"ping_slot_periodicity": 8}, "ping_slot_periodicity"),
        ({"ping_slot_data_rate": 12}, "ping_slot_data_rate"),
        ({"ping_slot_frequency_hz": 868_650_000}, "ping_slot_frequency_hz"),
        ({"beacon_frequency_hz": 700_000_000}, "beacon_frequency_hz"),
        ({"class_b_timeout_s": 0}, "class_b_timeout_s"),
    ],
)
def test_bad_profiles(values: dict[str, Any], field: str) -> None:
    with pytest.raises(LoraError) as caught:
        domain.save_profile(SYSTEM, "bad", **values)
    assert caught.value.field == field
    assert DeviceProfile.objects.count() == 0


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"protocol": "smoke"}, "protocol"),
        ({"lon": 7.5}, "lon"),
        ({"lon": 700.0, "lat": 51.0}, "lon"),
        ({"networks": ["house"]}, "networks"),
        ({"name": ""}, "name"),
        ({"antenna_gain_dbi": 99}, "antenna_gain_dbi"),
    ],
)
def test_bad_gateways(here: Municipality, values: dict[str, Any], field: str) -> None:
    with pytest.raises(LoraError) as caught:
        domain.save_gateway(SYSTEM, here, "b827ebfffe000001", **values)
    assert caught.value.field == field
    assert Gateway.objects.count() == 0


def test_gateway_belongs_to_one_city_and_keeps_what_the_radio_writes(
    here: Municipality, there: Municipality
) -> None:
    gateway = domain.save_gateway(SYSTEM, here, "B8:27:EB:FF:FE:00:00:01", name="Turm")
    with pytest.raises(LoraError, match="eui"):
        domain.save_gateway(SYSTEM, there, gateway.eui)
    Gateway.objects.update(status={"online": True})
    domain.save_gateway(SYSTEM, here, gateway.eui, name="Hoher Turm")
    row = Gateway.objects.get()
    assert (row.name, row.status) == ("Hoher Turm", {"online": True})
    token = domain.make_token(SYSTEM, row)
    set_certificate(SYSTEM, row, "ab" * 32)
    assert token not in json.dumps(row.credentials)
    assert len(Gateway.objects.get().credentials) == 2


def test_moves_are_kept_with_who_and_why(
    here: Municipality, there: Municipality, profile: DeviceProfile
) -> None:
    owner = Organisation.objects.create(slug="amt", name="Tiefbauamt")
    thing = Thing.objects.create(municipality=here, key="markt", name="Markt", kind="street_lamp")
    lora = domain.register_device(SYSTEM, here, settings(profile), thing=thing)
    waiting = domain.enqueue(SYSTEM, lora, b"x", port=1)
    domain.move_device(SYSTEM, lora, there, owner=owner, reason="verkauft")
    lora.refresh_from_db()
    assert (lora.municipality, lora.device.municipality, lora.owner) == (there, there, owner)
    move = DeviceMove.objects.get()
    assert (move.from_municipality, move.to_municipality, move.to_owner, move.reason, move.actor) == (
        here, there, "Tiefbauamt", "verkauft", "system",
    )  # fmt: skip
    assert Deployment.objects.get().until is not None
    waiting.refresh_from_db()
    assert (waiting.state, waiting.reason) == ("failed", "moved")
    places = set(
        AuditEntry.objects.filter(action="lorawan.device.move").values_list("municipality", flat=True)
    )
    assert places == {here.pk, there.pk}


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"port": 0}, "port"),
        ({"port": 224}, "port"),
        ({"payload": bytes(243)}, "payload"),
        ({"priority": 99}, "priority"),
    ],
)
def test_bad_downlinks(
    here: Municipality, profile: DeviceProfile, values: dict[str, Any], field: str
) -> None:
    lora = domain.register_device(SYSTEM, here, settings(profile))
    how = {"payload": b"x", "port": 1, **values}
    with pytest.raises(LoraError) as caught:
        domain.enqueue(SYSTEM, lora, how.pop("payload"), **how)
    assert caught.value.field == field


def test_the_queue_of_a_device_is_bounded(
    here: Municipality, profile: DeviceProfile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quartier.lorawan.domain.downlinks.MAXIMUM_WAITING", 2)
    lora = domain.register_device(SYSTEM, here, settings(profile))
    for _ in range(2):
        domain.enqueue(SYSTEM, lora, b"x", port=1)
    with pytest.raises(LoraError, match="device"):
        domain.enqueue(SYSTEM, lora, b"x", port=1)


# Files


def load(here: Municipality, text: str, **how: Any) -> ImportReport:
    return domain.import_devices(SYSTEM, here, text, **how)


def test_own_csv_goes_out_without_keys_and_in_again(here: Municipality, profile: DeviceProfile) -> None:
    text = (
        "dev_eui;name;profile;app_key;tags;active\n"
        f"70b3d57ed0000001;Lampe 1;v103;{APP_KEY};kind=lamp street=Markt;ja\n"
        f"70b3d57ed0000002;Lampe 2;v103;{APP_KEY};;nein\n"
    )
    assert load(here, text, dry_run=True).created == 2
    assert LoraDevice.objects.count() == 0
    report = load(here, text)
    assert (report.rows, report.created, report.errors) == (2, 2, [])
    exported = domain.export_devices(SYSTEM, here)
    assert APP_KEY not in exported
    assert "key" not in exported.splitlines()[0]
    rows = list(csv.DictReader(io.StringIO(exported)))
    assert [(row["dev_eui"], row["tags"], row["active"]) for row in rows] == [
        ("70b3d57ed0000001", "kind=lamp street=Markt", "yes"),
        ("70b3d57ed0000002", "", "no"),
    ]
    again = load(here, exported.replace("Lampe 2", "Leuchte 2"))
    assert (again.changed, again.unchanged, again.errors) == (1, 1, [])
    assert LoraDevice.objects.get(dev_eui="70b3d57ed0000002").name == "Leuchte 2"
    as_json = json.loads(domain.export_devices(SYSTEM, here, form="json"))
    assert load(here, json.dumps(as_json)).unchanged == 2


def test_errors_of_a_file_are_told_together_and_nothing_is_written(
    here: Municipality, profile: DeviceProfile
) -> None:
    text = (
        "dev_eui,name,profile,app_key,active,tags\n"
        f"70b3d57ed0000001,gut,v103,{APP_KEY},,\n"
        f"70b3d57ed0000001,doppelt,v103,{APP_KEY},,\n"
        f"70b3d57ed000000,kurz,v103,{APP_KEY},,\n"
        f"70b3d57ed0000003,fremd,v9,{APP_KEY},,\n"
        "70b3d57ed0000004,ohne,v103,,,\n"
        f"70b3d57ed0000005,vielleicht,v103,{APP_KEY},vielleicht,\n"
        f"70b3d57ed0000006,merkmal,v103,{APP_KEY},,x\n"
        f"70b3d57ed0000007,lang,v103,{APP_KEY},,,,\n"
    )
    report = load(here, text)
    assert [(error.line, error.column) for error in report.errors] == [
        (3, "dev_eui"), (4, "dev_eui"), (5, "profile"), (6, "app_key"), (7, "active"), (8, "tags"), (9, "file"),
    ]  # fmt: skip
    assert LoraDevice.objects.count() == 0
    for text, column in (
        ("", "file"),
        ("dev_eui,colour\n", "colour"),
        ("name\n", "dev_eui"),
        ("[1]", "file"),
        ("{", "file"),
    ):
        assert [error.column for error in load(here, text).errors] == [column], text


def test_qr_codes_in_a_file(here: Municipality, profile: DeviceProfile) -> None:
    # The example of TR005.
    code = "LW:D0:1122334455667788:AABBCCDDEEFF0011:AABB1122"
    assert load(here, f"qr,profile,app_key\n{code},v103,{APP_KEY}\n").errors == []
    lora = LoraDevice.objects.get()
    assert (lora.dev_eui, lora.join_eui) == ("aabbccddeeff0011", "1122334455667788")


# As ChirpStack's REST interface answers (device, keys, activation), shortened.
CHIRPSTACK = {
    "device": {
        "devEui": EUI,
        "name": "Baum 7",
        "description": "Linde",
        "joinEui": "70b3d57ed0001000",
        "isDisabled": False,
        "skipFcntCheck": True,
        "tags": {"kind": "tree"},
    },
    "deviceKeys": {"devEui": EUI, "nwkKey": APP_KEY, "appKey": "0" * 32},
    "deviceProfile": {"macVersion": "LORAWAN_1_0_3"},
    "deviceActivation": {
        "devEui": EUI,
        "devAddr": "00e27d66",
        "appSKey": "11" * 16,
        "nwkSEncKey": "22" * 16,
        "sNwkSIntKey": "22" * 16,
        "fNwkSIntKey": "22" * 16,
        "fCntUp": 70_001,
        "nFCntDown": 12,
        "aFCntDown": 0,
    },
}


def test_devices_of_chirpstack_go_on_with_their_session(here: Municipality, profile: DeviceProfile) -> None:
    report = load(here, json.dumps([CHIRPSTACK]))
    assert (report.errors, report.created) == ([], 1)
    lora = LoraDevice.objects.get()
    assert (lora.name, lora.description, lora.tags, lora.profile) == (
        "Baum 7",
        "Linde",
        {"kind": "tree"},
        profile,
    )
    assert (lora.join_eui, lora.counter_reset, lora.active) == ("70b3d57ed0001000", True, True)
    eui = bytes.fromhex(EUI)
    assert keyring().open(bytes(lora.sealed_keys or b""), ROOT, eui) == bytes.fromhex(APP_KEY)
    session = Session.objects.get()
    assert (session.dev_addr, session.uplink_counter, session.network_downlink_counter) == (
        0x00E2_7D66,
        70_000,
        12,
    )
    keys = unpack_keys(keyring().open(bytes(session.sealed_keys), SESSION, eui))
    assert (keys.f_nwk_s_int_key, keys.app_s_key) == (b"\x22" * 16, b"\x11" * 16)


# As `ttn-lw-cli end-devices get` writes it, shortened.
THINGS_STACK = {
    "ids": {"device_id": "tree-7", "dev_eui": EUI.upper(), "join_eui": "70B3D57ED0001000"},
    "name": "Baum 7",
    "attributes": {"kind": "tree"},
    "lorawan_version": "MAC_V1_1",
    "lorawan_phy_version": "PHY_V1_1_REV_B",
    "frequency_plan_id": "EU_863_870",
    "supports_join": True,
    "root_keys": {"app_key": {"key": APP_KEY.upper()}, "nwk_key": {"key": NWK_KEY}},
    "session": {
        "dev_addr": "260B1234",
        "keys": {
            "app_s_key": {"key": "11" * 16},
            "f_nwk_s_int_key": {"key": "22" * 16},
            "s_nwk_s_int_key": {"key": "33" * 16},
            "nwk_s_enc_key": {"key": "44" * 16},
        },
        "last_f_cnt_up": 41,
        "last_n_f_cnt_down": 6,
        "last_a_f_cnt_down": 9,
    },
    "mac_state": {"current_parameters": {"rx1_delay": "RX_DELAY_5"}},
    "last_dev_nonce": 30,
    "used_dev_nonces": [29, 30],
    "last_join_nonce": 31,
}


def test_devices_of_the_things_stack_go_on_with_their_session(here: Municipality) -> None:
    profile = domain.save_profile(SYSTEM, "v11", mac_version="1.1.0")
    abp = {
        "ids": {"device_id": "abp", "dev_eui": "70B3D57ED0000009", "dev_addr": "260B0001"},
        "lorawan_version": "MAC_V1_1_0",
        "session": {
            "dev_addr": "260B0001",
            "keys": THINGS_STACK["session"]["keys"],  # type: ignore[index]
        },
    }
    report = load(here, f"{json.dumps(THINGS_STACK)}\n{json.dumps(abp)}\n")
    assert (report.errors, report.created) == ([], 2)
    lora = LoraDevice.objects.get(dev_eui=EUI)
    assert (lora.name, lora.activation, lora.profile) == ("Baum 7", "otaa", profile)
    session = Session.objects.get(device=lora)
    assert (
        session.dev_addr,
        session.uplink_counter,
        session.network_downlink_counter,
        session.application_downlink_counter,
        session.mac["rx1_delay_s"],
    ) == (0x260B_1234, 41, 7, 10, 5)
    keys = unpack_keys(keyring().open(bytes(session.sealed_keys), SESSION, bytes.fromhex(EUI)))
    assert (keys.s_nwk_s_int_key, keys.nwk_s_enc_key, keys.lorawan_1_1) == (b"\x33" * 16, b"\x44" * 16, True)
    state = JoinState.objects.get()
    assert (state.join_nonce, state.last_dev_nonce) == (31, 30)
    assert sorted(DevNonce.objects.values_list("nonce", flat=True)) == [29, 30]
    other = LoraDevice.objects.get(dev_eui="70b3d57ed0000009")
    assert (other.activation, other.name) == ("abp", "abp")
    assert Session.objects.get(device=other).uplink_counter == -1


def test_csv_of_the_things_stack(here: Municipality, profile: DeviceProfile) -> None:
    text = (
        "id;dev_eui;join_eui;name;frequency_plan_id;lorawan_version;lorawan_phy_version;brand_id;app_key;supports_join\n"
        f"tree-7;{EUI};70b3d57ed0001000;;EU_863_870;MAC_V1_0_3;PHY_V1_0_3_REV_A;decentlab;{APP_KEY};true\n"
    )
    assert load(here, text).errors == []
    lora = LoraDevice.objects.get()
    assert (lora.dev_eui, lora.profile) == (EUI, profile)


def test_new_root_keys_forget_old_nonces_and_end_the_session(
    here: Municipality, profile: DeviceProfile
) -> None:
    load(here, json.dumps([CHIRPSTACK]))
    lora = LoraDevice.objects.get()
    JoinState.objects.create(device=lora, last_dev_nonce=9, join_nonce=4)
    DevNonce.objects.create(device=lora, join_eui=lora.join_eui, nonce=9)
    domain.replace_keys(SYSTEM, lora, settings(profile))
    # The same key again: forgetting the nonces would give the same session keys a second time.
    assert (Session.objects.count(), DevNonce.objects.count(), JoinState.objects.count()) == (0, 1, 1)
    domain.replace_keys(SYSTEM, lora, settings(profile, keys={"app_key": NWK_KEY}))
    assert (DevNonce.objects.count(), JoinState.objects.count()) == (0, 0)
