"""What staff do with codecs, mappings, refused messages, replays and findings: rights, reasons, and what is written."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection

from quartier.cities.models import AuditEntry, Municipality, Person, Role, RoleAssignment
from quartier.cities.rules import NOBODY, SYSTEM, Actor, NotAllowed, actor_of
from quartier.intake import domain
from quartier.intake.domain import InputError, MappingRow
from quartier.intake.models import Codec, FieldMapping, QualityFinding, RefusedMessage, Replay
from quartier.intake.parsers import MessageError
from quartier.twin.flags import Flag
from quartier.twin.models import Device, DeviceType, Series
from tests.world import World

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
SCRIPT = """function decodeUplink(input) {
  if (input.bytes.length < 2) throw new Error("too short");
  return {data: {t: input.bytes[0] / 10, wet: input.bytes[1] > 0}, warnings: ["old firmware"]};
}
"""


def actor(role: Role, municipality: Municipality | None, name: str = "Ada") -> Actor:
    person = Person.objects.create(email=f"p{Person.objects.count()}@example.org", name=name)
    RoleAssignment.objects.create(person=person, role=role, municipality=municipality)
    return actor_of(person)


@pytest.fixture
def elsewhere(db: None) -> Municipality:
    """The neighbouring city."""
    return Municipality.objects.create(
        slug="anderswo", name="Anderswo", lon=8, lat=52, west=7.9, south=51.9, east=8.1, north=52.1
    )


@pytest.fixture
def device_type(db: None) -> DeviceType:
    return DeviceType.objects.create(key="muster", vendor="Muster", model="TH")


def last_audit() -> tuple[str, str, int | None, dict[str, Any]]:
    entry = AuditEntry.objects.latest("pk")
    return entry.action, entry.target, entry.municipality_id, entry.detail


# Codecs


@pytest.mark.parametrize("role", [Role.STAFF, Role.MAKER])
def test_codecs_and_mappings_need_their_right(role: Role, world: World, device_type: DeviceType) -> None:
    for who in (NOBODY, actor(role, world.municipality)):
        with pytest.raises(NotAllowed):
            domain.save_codec(who, device_type, SCRIPT)
        with pytest.raises(NotAllowed):
            domain.save_mapping(who, device_type, [])
    assert not Codec.objects.exists()
    assert not AuditEntry.objects.exists()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("function decodeUplink( {", "script_error: SyntaxError"),
        ("throw new Error('at once')", "at once"),
        ("var x = 1;", "no function decodeUplink(input), Decoder(bytes, port) or Decode(fPort, bytes)"),
        ("", "no function decodeUplink(input), Decoder(bytes, port) or Decode(fPort, bytes)"),
        ("//" + "ä" * 131_072, "longer than 262144 bytes"),
        ("// \x00", "not a text: it has characters that no script needs and the store cannot hold"),
        ("// \ud800", "not a text: it has characters that no script needs and the store cannot hold"),
    ],
    ids=["syntax", "throws", "nothing", "empty", "long", "nul", "surrogate"],
)
def test_script_that_does_not_decode_is_not_saved(
    script: str, message: str, world: World, device_type: DeviceType
) -> None:
    with pytest.raises(InputError) as caught:
        domain.save_codec(SYSTEM, device_type, script)
    assert caught.value.field == "script"
    assert message in str(caught.value)
    assert not Codec.objects.exists()
    assert not AuditEntry.objects.exists()


def test_each_saved_codec_is_a_version(world: World, device_type: DeviceType) -> None:
    steward = actor(Role.STEWARD, world.municipality)
    other = DeviceType.objects.create(key="anderer", model="X")
    first = domain.save_codec(steward, device_type, SCRIPT, "n" * 400)
    second = domain.save_codec(steward, device_type, SCRIPT + "//2", "zweite")
    elses = domain.save_codec(steward, other, "function Decoder(bytes, port) { return {}; }")
    assert [(c.version, c.script, c.note, c.active, c.created_by_id) for c in (first, second, elses)] == [
        (1, SCRIPT, "n" * 300, True, steward.person_id),
        (2, SCRIPT + "//2", "zweite", True, steward.person_id),
        (1, "function Decoder(bytes, port) { return {}; }", "", True, steward.person_id),
    ]
    assert last_audit() == ("codec.save", "X", None, {"version": 1})


# Mappings

ROWS = (
    MappingRow(" t ", "air_temperature", "[degF]"),
    MappingRow("$.battery", "battery_voltage", "mV", "innen"),
    MappingRow("clock", role="time"),
    MappingRow("rssi", role="ignore"),
    MappingRow("u", unit="mV", role="battery_v"),
)


def test_mapping_is_replaced_as_a_whole(world: World, device_type: DeviceType) -> None:
    FieldMapping.objects.create(device_type=device_type, path="old", role="ignore")
    domain.save_mapping(SYSTEM, device_type, ROWS)
    saved = FieldMapping.objects.filter(device_type=device_type).order_by("pk")
    assert [
        (m.path, m.observed_property.slug if m.observed_property else None, m.unit, m.channel, m.role)
        for m in saved
    ] == [
        ("t", "air_temperature", "[degF]", "", "observation"),
        ("$.battery", "battery_voltage", "mV", "innen", "observation"),
        ("clock", None, "", "", "time"),
        ("rssi", None, "", "", "ignore"),
        ("u", None, "mV", "", "battery_v"),
    ]
    assert last_audit() == ("mapping.save", "Muster TH", None, {"rows": 5})
    domain.save_mapping(SYSTEM, device_type, [])
    assert not FieldMapping.objects.exists()


@pytest.mark.parametrize(
    ("row", "field", "message"),
    [
        (MappingRow("  ", "air_temperature"), "path", "the field is empty"),
        (MappingRow("t", "air_temperature", role="value"), "role", "unknown role 'value'"),
        (MappingRow("t"), "observed_property", "unknown property ''"),
        (MappingRow("t", "temprature"), "observed_property", "unknown property 'temprature'"),
        (MappingRow("t", "air_temperature", "kg"), "unit", "'kg' cannot be converted to 'Cel'"),
        (MappingRow("t", "air_temperature", "°C"), "unit", "'°C' is not a unit of UCUM; UCUM writes 'Cel'"),
        (MappingRow("t", role="battery_v", unit="Cel"), "unit", "'Cel' cannot be converted to 'V'"),
        (MappingRow("$.t[", "air_temperature"), "path", "$.t["),
        (MappingRow("t" * 201, "air_temperature"), "path", "longer than 200 characters"),
        (MappingRow("t", "air_temperature", "m" * 41), "unit", "longer than 40 characters"),
        (MappingRow("t", "air_temperature", channel="c" * 41), "channel", "longer than 40 characters"),
        (MappingRow("t\x00", "air_temperature"), "path", "has characters that cannot be stored"),
        (MappingRow("battery", role="ignore"), "path", "battery is mapped twice"),
    ],
)
def test_wrong_row_is_named_and_nothing_changed(
    row: MappingRow, field: str, message: str, world: World, device_type: DeviceType
) -> None:
    before = [MappingRow("battery", "battery_voltage", "mV")]
    domain.save_mapping(SYSTEM, device_type, before)
    with pytest.raises(InputError) as caught:
        domain.save_mapping(SYSTEM, device_type, [*before, row])
    assert caught.value.field == f"1.{field}"
    assert str(caught.value).startswith(message)
    assert [m.path for m in FieldMapping.objects.all()] == ["battery"]
    assert AuditEntry.objects.count() == 1


def test_every_property_can_be_mapped_in_its_own_unit(world: World) -> None:
    rows = [MappingRow(f.slug, f.slug, f.unit) for f in world.properties.values()]
    assert len(domain.compile_mapping(rows)) == len(rows)


# Trying


def test_try_shows_what_is_decoded_and_what_it_comes_to(world: World) -> None:
    rows = [
        MappingRow("t", "air_temperature", "[degF]"),
        MappingRow("wet", "occupied"),
        MappingRow("missing", "wind_speed"),
    ]
    tried = domain.try_codec(SCRIPT, bytes([250, 1]), rows=rows)
    assert tried.decoded == {"t": 25.0, "wet": True}
    assert [(f.observed_property.slug, f.result) for f in tried.readings] == [
        ("air_temperature", pytest.approx(-3.8889, abs=1e-4)),
        ("occupied", 1.0),
    ]
    assert (tried.warnings, tried.problems, tried.error, tried.error_line) == (
        ("old firmware",),
        (),
        "",
        None,
    )
    assert not Series.objects.exists(), "nothing is stored"
    assert not RefusedMessage.objects.exists()


def test_try_shows_problems_of_the_mapping(world: World) -> None:
    wrong = domain.try_codec(SCRIPT, bytes([250, 1]), rows=[MappingRow("t", "occupied")])
    assert (wrong.readings, wrong.problems) == ((), ("bad_value: field t: 25 is neither true nor false",))
    nothing = domain.try_codec(SCRIPT, bytes([250, 1]), rows=[MappingRow("x", "occupied")])
    assert nothing.problems == (
        str(
            MessageError(
                "no_known_field", "none of the mapped fields is there; fields in the message: t, wet"
            )
        ),
    )
    with pytest.raises(InputError) as caught:
        domain.try_codec(SCRIPT, bytes([250, 1]), rows=[MappingRow("t", "bogus")])
    assert caught.value.field == "0.observed_property"


def test_try_shows_error_and_line(db: None) -> None:
    tried = domain.try_codec(SCRIPT, b"\x01")
    assert (tried.decoded, tried.readings, tried.error_line) == (None, (), 2)
    assert "too short" in tried.error


# Refused messages


def refused(municipality: Municipality | None, **values: Any) -> RefusedMessage:
    return RefusedMessage.objects.create(
        municipality=municipality, source_key="funk", reason="unknown_device", body=b"{}", **values
    )


def test_second_try_takes_what_is_open_of_the_own_city(world: World, elsewhere: Municipality) -> None:
    here, there = world.municipality, elsewhere
    steward = actor(Role.STEWARD, here)
    one, two = refused(here), refused(here)
    done = refused(here, resolved_at=NOON)
    replay = domain.retry_refused(steward, [two.pk, one.pk, done.pk, 10**9])
    assert (
        replay.selection,
        replay.total,
        replay.municipality,
        replay.created_by_id,
        replay.finished_at,
    ) == (
        {"refused": [one.pk, two.pk]},
        2,
        here,
        steward.person_id,
        None,
    )
    assert last_audit() == ("refused.retry", f"replay {replay.pk}", here.pk, {"count": 2})
    for foreign in (refused(there), refused(None)):
        with pytest.raises(NotAllowed):
            domain.retry_refused(steward, [one.pk, foreign.pk])
    assert Replay.objects.count() == 1


def test_second_try_of_messages_of_several_cities(world: World, elsewhere: Municipality) -> None:
    messages = [refused(world.municipality), refused(elsewhere), refused(None)]
    replay = domain.retry_refused(actor(Role.OPERATOR, None), [m.pk for m in messages])
    assert (replay.municipality, replay.total) == (None, 3)


@pytest.mark.parametrize("role", [Role.STAFF, Role.MAKER])
def test_second_try_needs_its_right(role: Role, world: World) -> None:
    message = refused(world.municipality)
    for who in (NOBODY, actor(role, world.municipality)):
        with pytest.raises(NotAllowed):
            domain.retry_refused(who, [message.pk])
    assert not Replay.objects.exists()


# Replays


def test_replay_of_one_city(world: World) -> None:
    steward = actor(Role.STEWARD, world.municipality)
    replay = domain.start_replay(
        steward,
        {
            "municipality": "musterstadt",
            "source_key": "funk",
            "external_ids": ["bb", "aa", "bb"],
            "since": "2026-07-01T00:00:00+02:00",
            "until": "2026-06-30T22:00:01Z",
            "device_type": None,
        },
    )
    wanted = {
        "municipality": "musterstadt",
        "source_key": "funk",
        "external_ids": ["aa", "bb"],
        "since": "2026-07-01T00:00:00+02:00",
        "until": "2026-06-30T22:00:01+00:00",
    }
    assert (replay.selection, replay.municipality, replay.created_by_id) == (
        wanted,
        world.municipality,
        steward.person_id,
    )
    assert last_audit() == ("replay.start", f"replay {replay.pk}", world.municipality.pk, wanted)


@pytest.mark.parametrize(
    ("selection", "key"),
    [
        ({"city": "musterstadt"}, "city"),
        ({"refused": [1]}, "refused"),
        ({"municipality": "nirgends"}, "municipality"),
        ({"municipality": "\x00"}, "municipality"),
        ({"municipality": 1}, "municipality"),
        ({"municipality": "*"}, "municipality"),
        ({"municipality": "musterstadt", "source_key": ">"}, "source_key"),
        ({"municipality": "musterstadt", "source_key": "a.b"}, "source_key"),
        ({"municipality": "musterstadt", "source_key": ["funk"]}, "source_key"),
        ({"municipality": "musterstadt", "since": "gestern"}, "since"),
        ({"municipality": "musterstadt", "since": 1}, "since"),
        ({"municipality": "musterstadt", "until": "2026-07-01T00:00:00"}, "until"),
        (
            {
                "municipality": "musterstadt",
                "since": "2026-07-01T00:00:00+02:00",
                "until": "2026-06-30T22:00:00Z",
            },
            "until",
        ),
        ({"municipality": "musterstadt", "external_ids": "aa"}, "external_ids"),
        ({"municipality": "musterstadt", "external_ids": [1]}, "external_ids"),
        ({"municipality": "musterstadt", "external_ids": ["\x00"]}, "external_ids"),
        ({"municipality": "musterstadt", "device_type": "unbekannt"}, "device_type"),
        ({"municipality": "musterstadt", "device_type": "muster", "external_ids": ["cc"]}, "external_ids"),
    ],
)
def test_selection_that_means_nothing_is_refused(
    selection: Mapping[str, Any], key: str, world: World, device_type: DeviceType
) -> None:
    _device(world.municipality, "aa", device_type)
    with pytest.raises(InputError) as caught:
        domain.start_replay(SYSTEM, selection)
    assert caught.value.field == key
    assert not Replay.objects.exists()
    assert not AuditEntry.objects.exists()


def _device(municipality: Municipality, external_id: str, device_type: DeviceType | None) -> None:
    Device.objects.create(
        municipality=municipality,
        source_key="funk",
        external_id=external_id,
        name=external_id,
        device_type=device_type,
    )


def test_replay_of_a_device_type_is_that_of_its_devices(
    world: World, elsewhere: Municipality, device_type: DeviceType
) -> None:
    _device(world.municipality, "aa", device_type)
    _device(world.municipality, "bb", device_type)
    _device(world.municipality, "cc", None)
    _device(elsewhere, "dd", device_type)
    for selection, ids in (
        ({"municipality": "musterstadt", "device_type": "muster"}, ["aa", "bb"]),
        ({"municipality": "musterstadt", "device_type": "muster", "external_ids": ["bb", "cc"]}, ["bb"]),
        ({"device_type": "muster"}, ["aa", "bb", "dd"]),
    ):
        replay = domain.start_replay(SYSTEM, selection)
        assert replay.selection["external_ids"] == ids
        assert "device_type" not in replay.selection


def test_replay_needs_its_right_in_the_city(world: World, elsewhere: Municipality) -> None:
    steward = actor(Role.STEWARD, world.municipality)
    with pytest.raises(NotAllowed):
        domain.start_replay(steward, {"municipality": "anderswo"})
    with pytest.raises(InputError) as caught:
        domain.start_replay(steward, {})
    assert caught.value.field == "municipality"
    for who in (NOBODY, actor(Role.STAFF, world.municipality)):
        with pytest.raises(NotAllowed):
            domain.start_replay(who, {"municipality": "musterstadt"})
    assert not Replay.objects.exists()
    everywhere = domain.start_replay(actor(Role.STEWARD, None), {})
    assert (everywhere.municipality, everywhere.selection) == (None, {})


# Findings


@pytest.fixture
def finding(world: World) -> QualityFinding:
    """Readings at the full hours 0–5; those from 1 to 4 stand still, 2 is a spike as well; hour 9 stands still, too."""
    series = world.series("air_temperature")
    stuck, spike = int(Flag.PERSISTENCE), int(Flag.SPIKE)
    flags = {0: 0, 1: stuck, 2: stuck | spike, 3: stuck, 4: stuck, 5: spike, 9: stuck}
    city = world.municipality.pk
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS twin_observation_2026_07 PARTITION OF twin_observation"
            " FOR VALUES FROM ('2026-07-01Z') TO ('2026-08-01Z')"
        )
        for hour, bits in flags.items():
            cursor.execute(
                "INSERT INTO twin_observation (municipality_id, series_id, time, result, flags)"
                " VALUES (%s, %s, %s, 20, %s)",
                [city, series.pk, NOON + timedelta(hours=hour), bits],
            )
        cursor.execute(
            "INSERT INTO twin_state (municipality_id, series_id, n, first_time, time, flags, result, recorded_at)"
            " VALUES (%s, %s, 7, %s, %s, %s, 20, now())",
            [city, series.pk, NOON, NOON + timedelta(hours=9), stuck],
        )
    return QualityFinding.objects.create(
        municipality=world.municipality,
        series=series,
        check_name="persistence",
        first_time=NOON + timedelta(hours=1),
        last_time=NOON + timedelta(hours=4),
        n=4,
    )


def fetch(query: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(query)
        return list(cursor.fetchall())


def stored_flags() -> list[int]:
    return [row[0] for row in fetch("SELECT flags FROM twin_observation ORDER BY time")]


@pytest.mark.parametrize(("state", "bit"), [("confirmed", 64), ("dismissed", 128)])
def test_decision_is_written_to_the_readings_of_the_finding(
    state: str, bit: int, finding: QualityFinding
) -> None:
    steward = actor(Role.STEWARD, finding.municipality)
    assert domain.decide_finding(steward, finding, state) == 4
    assert stored_flags() == [0, 2 | bit, 6 | bit, 2 | bit, 2 | bit, 4, 2]
    hours = [NOON + timedelta(hours=hour) for hour in (1, 2, 3, 4)]
    assert fetch("SELECT series_ids, hour FROM twin_rollup_mark ORDER BY 2") == [
        ([finding.series_id], hour) for hour in hours
    ]
    assert fetch("SELECT series_ids, times, results, flags FROM twin_change") == [
        ([finding.series_id] * 4, hours, [20.0] * 4, [2 | bit, 6 | bit, 2 | bit, 2 | bit])
    ]
    stored = QualityFinding.objects.get()
    assert (stored.state, stored.decided_by_id) == (state, steward.person_id)
    assert stored.decided_at is not None
    assert abs(stored.decided_at - datetime.now(UTC)) < timedelta(seconds=30)
    assert last_audit() == (
        f"finding.{state}",
        f"series {finding.series_id} persistence",
        finding.municipality_id,
        {"first": hours[0].isoformat(), "last": hours[-1].isoformat(), "readings": 4},
    )


def test_decision_can_be_changed(finding: QualityFinding) -> None:
    domain.decide_finding(SYSTEM, finding, "confirmed")
    assert domain.decide_finding(SYSTEM, finding, "dismissed") == 4
    assert stored_flags() == [0, 130, 134, 130, 130, 4, 2]
    assert domain.decide_finding(SYSTEM, finding, "dismissed") == 0, "nothing is left to change"
    assert [entry.action for entry in AuditEntry.objects.order_by("pk")] == [
        "finding.confirmed",
        "finding.dismissed",
        "finding.dismissed",
    ]


def test_decision_about_the_newest_reading_is_its_state(finding: QualityFinding) -> None:
    finding.last_time = NOON + timedelta(hours=9)
    finding.save()
    assert domain.decide_finding(SYSTEM, finding, "confirmed") == 5
    assert fetch("SELECT flags FROM twin_state") == [(66,)]


def test_decision_about_readings_that_are_no_longer_flagged(finding: QualityFinding) -> None:
    with connection.cursor() as cursor:
        cursor.execute("UPDATE twin_observation SET flags = 0")
    assert domain.decide_finding(SYSTEM, finding, "confirmed") == 0
    assert QualityFinding.objects.get().state == "confirmed"
    assert fetch("SELECT 1 FROM twin_change") == []


@pytest.mark.parametrize("state", ["open", "", "right", "CONFIRMED"])
def test_unknown_decision_is_refused(state: str, finding: QualityFinding) -> None:
    with pytest.raises(InputError) as caught:
        domain.decide_finding(SYSTEM, finding, state)
    assert caught.value.field == "state"
    assert QualityFinding.objects.get().state == "open"
    assert not AuditEntry.objects.exists()


def test_only_a_steward_of_the_city_decides(
    finding: QualityFinding, world: World, elsewhere: Municipality
) -> None:
    for who in (
        NOBODY,
        actor(Role.STAFF, world.municipality),
        actor(Role.MAKER, world.municipality),
        actor(Role.STEWARD, elsewhere),
        actor(Role.OPERATOR, elsewhere),
    ):
        with pytest.raises(NotAllowed):
            domain.decide_finding(who, finding, "confirmed")
    assert QualityFinding.objects.get().state == "open"
    assert stored_flags() == [0, 2, 6, 2, 2, 4, 2]
    assert not AuditEntry.objects.exists()
    assert domain.decide_finding(actor(Role.STEWARD, None), finding, "confirmed") == 4


@pytest.mark.parametrize("check", ["range", "persistence", "spike", "spatial"])
def test_every_check_can_be_decided(check: str, finding: QualityFinding) -> None:
    QualityFinding.objects.update(check_name=check)
    finding.refresh_from_db()
    flagged = {"persistence": 4, "spike": 1}.get(check, 0)
    assert domain.decide_finding(SYSTEM, finding, "dismissed") == flagged
