"""Setting up sources and registering devices: rules, rights, and the audit log."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from quartier.cities.models import AuditEntry, District, Municipality, RoleAssignment
from quartier.cities.rules import SYSTEM, Actor, NotAllowed
from quartier.sources.domain import (
    RegistrationError,
    RowError,
    SettingError,
    import_devices_csv,
    import_devices_from_network,
    register_sensor,
    save_source,
    set_enabled,
)
from quartier.sources.domain.saving import Saved
from quartier.sources.models import Source
from quartier.twin.models import Deployment, Device, DeviceType, Thing
from tests.sources.conftest import FakeServer, Request
from tests.sources.messages import recorded

MakeActor = Callable[..., Actor]
ELEMENT: dict[str, Any] = {"url": "https://element.example.org/api/v1", "tags": ["klima"]}
SQUARE = {
    "type": "Polygon",
    "coordinates": [[[7.4, 51.4], [7.5, 51.4], [7.5, 51.6], [7.4, 51.6], [7.4, 51.4]]],
}


@pytest.fixture
def city(db: None) -> Municipality:
    """Musterstadt with one district in its west."""
    municipality = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=7.5, lat=51.5, west=7.4, south=51.4, east=7.6, north=51.6
    )
    District.objects.create(municipality=municipality, slug="west", name="West", polygon=SQUARE)
    return municipality


@pytest.fixture
def neighbour(db: None) -> Municipality:
    """The city next door."""
    return Municipality.objects.create(
        slug="nachbar", name="Nachbar", lon=7.7, lat=51.5, west=7.6, south=51.4, east=7.8, north=51.6
    )


@pytest.fixture
def source(city: Municipality) -> Source:
    """A source whose devices are imported."""
    return save_source(SYSTEM, city, "lns", "Netzserver", "chirpstack", {"broker": "own"}).source


def _save(actor: Actor, city: Municipality, **changes: Any) -> Saved:
    given = {
        "key": "lns",
        "name": "LNS",
        "kind": "element",
        "settings": ELEMENT,
        "credentials": {"api_key": "k3y-1"},
    }
    return save_source(actor, city, **{**given, **changes})


def test_source_is_saved_with_defaults_and_sealed_credentials(city: Municipality) -> None:
    saved = _save(SYSTEM, city)
    stored = Source.objects.get(key="lns")
    assert stored.settings == {**ELEMENT, "use": "packets", "interval_s": 10, "timeout_ms": 20_000}
    assert stored.credentials == {"api_key": "k3y-1"}
    assert "k3y-1" not in stored.sealed_credentials
    assert saved.generated == {}
    entry = AuditEntry.objects.get(action="source.create")
    assert entry.target == "lns"
    assert "k3y-1" not in str(entry.detail)
    assert entry.detail["credentials"] == ["api_key"]


def test_change_keeps_credentials_that_are_not_named(city: Municipality) -> None:
    _save(SYSTEM, city)
    _save(SYSTEM, city, credentials=None, name="Neuer Name", settings={**ELEMENT, "interval_s": "30"})
    stored = Source.objects.get(key="lns")
    assert (stored.name, stored.credentials, stored.settings["interval_s"]) == (
        "Neuer Name",
        {"api_key": "k3y-1"},
        30,
    )
    assert AuditEntry.objects.get(action="source.change").detail == {
        "kind": "element",
        "enabled": True,
        "changed": ["interval_s"],
        "credentials": [],
    }


def test_other_server_or_past_begins_anew(city: Municipality) -> None:
    _save(SYSTEM, city)
    position = {"tags": {"klima": {"retrieve_after_id": "x", "inserted_at": "2026-01-01T00:00:00Z"}}}
    Source.objects.update(cursor=position)
    _save(SYSTEM, city, settings={**ELEMENT, "tags": ["klima", "pegel"]})
    assert Source.objects.get().cursor == position
    _save(SYSTEM, city, settings={**ELEMENT, "since": "2026-01-01"})
    assert Source.objects.get().cursor == {}


def test_secrets_that_nobody_chose_are_made_and_shown_once(city: Municipality) -> None:
    broker = _save(SYSTEM, city, kind="chirpstack", settings={"broker": "own"}, credentials={})
    assert broker.generated == {"broker_password": broker.source.credentials["broker_password"]}
    assert len(broker.generated["broker_password"]) >= 24
    again = _save(SYSTEM, city, kind="chirpstack", settings={"broker": "own"}, credentials={})
    assert again.generated == {}
    assert again.source.credentials == broker.source.credentials
    hook = _save(SYSTEM, city, key="hook", kind="tts", settings={"transport": "webhook"}, credentials={})
    assert hook.generated == {"webhook_secret": hook.source.credentials["webhook_secret"]}


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"kind": "zigbee"}, "kind"),
        ({"key": "Groß"}, "key"),
        ({"key": "makers"}, "key"),
        ({"name": " "}, "name"),
        ({"settings": {}}, "url"),
        ({"settings": {**ELEMENT, "url": "https://user:pw@x.org"}}, "url"),
        ({"settings": {**ELEMENT, "url": "javascript:1"}}, "url"),
        ({"settings": {**ELEMENT, "tags": []}}, "tags"),
        ({"settings": {**ELEMENT, "interval_s": "often"}}, "interval_s"),
        ({"settings": {**ELEMENT, "interval_s": 0}}, "interval_s"),
        ({"settings": {**ELEMENT, "since": "once"}}, "since"),
        ({"settings": {**ELEMENT, "colour": "red"}}, "colour"),
        ({"credentials": {}}, "api_key"),
        ({"credentials": {"api_key": "a\nb"}}, "api_key"),
        ({"kind": "chirpstack", "settings": {}, "credentials": {}}, "host"),
        ({"kind": "chirpstack", "settings": {"host": "h", "port": 70000}, "credentials": {}}, "port"),
        ({"kind": "chirpstack", "settings": {"host": "h", "topic": "a/#/b"}, "credentials": {}}, "topic"),
        ({"kind": "generic_mqtt", "settings": {"host": "h"}, "credentials": {}}, "topic"),
        (
            {"kind": "generic_http", "settings": {"mapping": {"device": "id"}}, "credentials": {}},
            "mapping.device",
        ),
    ],
)
def test_bad_setting_is_refused_with_its_name(
    city: Municipality, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(SettingError) as caught:
        _save(SYSTEM, city, **changes)
    assert caught.value.field == field
    assert not Source.objects.exists()


def test_a_key_belongs_to_one_city_and_one_kind(city: Municipality, neighbour: Municipality) -> None:
    _save(SYSTEM, city)
    with pytest.raises(SettingError, match="key"):
        _save(SYSTEM, neighbour)
    with pytest.raises(SettingError, match="kind"):
        _save(SYSTEM, city, kind="chirpstack", settings={"broker": "own"}, credentials={})


ROLES = ["operator", "steward", "staff", "maker", "citizen", None]
PERMISSIONS: list[tuple[str, str, set[str | None]]] = [
    ("save_source", "sources:write", {"operator"}),
    ("set_enabled", "sources:write", {"operator"}),
    ("import_devices_csv", "devices:write", {"operator", "steward"}),
    ("import_devices_from_network", "devices:write", {"operator", "steward"}),
    ("register_sensor", "observations:write", {"operator", "maker"}),
]


def _do(action: str, actor: Actor, city: Municipality, source: Source) -> None:
    match action:
        case "save_source":
            _save(actor, city, key="neu")
        case "set_enabled":
            set_enabled(actor, source, False)
        case "import_devices_csv":
            import_devices_csv(actor, source, "external_id\na1\n")
        case "import_devices_from_network":
            from quartier.sources.domain import NetworkError

            with pytest.raises(NetworkError, match="api_url is missing"):
                import_devices_from_network(actor, source)
        case "register_sensor":
            register_sensor(actor, city, name="Garten", lon=7.45, lat=51.5)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(("action", "right", "allowed"), PERMISSIONS)
def test_who_may_do_what(  # noqa: PLR0917 (a table of them)
    action: str,
    right: str,
    allowed: set[str | None],
    role: str | None,
    elsewhere: bool,
    make_actor: MakeActor,
    city: Municipality,
    neighbour: Municipality,
    source: Source,
) -> None:
    actor = make_actor(role, neighbour if elsewhere else city)
    if role in allowed and not elsewhere:
        _do(action, actor, city, source)
    else:
        with pytest.raises(NotAllowed, match=right):
            _do(action, actor, city, source)


TABLE = """\ufeffexternal_id;name;device_type;thing_key;thing_name;kind;lon;lat;height_above_ground_m;street;\
house_number;postcode;expected_interval_s;since
A84041FFFF000001;Klima 1;sht35;klima-1;Markt;station;7,45;51,5;3,0;Marktplatz;1;12345;600;2026-01-01
a84041ffff000002;;;klima-1;;;;;2;;;;;
a84041ffff000003;Ohne Ort;;;;;;;;;;;;
"""


@pytest.fixture
def sht35(db: None) -> DeviceType:
    """A device type."""
    return DeviceType.objects.create(key="sht35", vendor="Decentlab", model="DL-SHT35")


def test_table_creates_devices_and_places(source: Source, sht35: DeviceType) -> None:
    report = import_devices_csv(SYSTEM, source, TABLE)
    assert report.errors == []
    assert (report.rows, report.devices_created, report.things_created) == (3, 3, 1)
    thing = Thing.objects.get()
    assert (thing.key, thing.name, thing.kind, thing.lon, thing.lat, thing.address, thing.postcode) == (
        "klima-1",
        "Markt",
        "station",
        7.45,
        51.5,
        "Marktplatz 1",
        "12345",
    )
    assert thing.district == District.objects.get(slug="west")
    assert list(
        Device.objects.order_by("external_id").values_list(
            "external_id", "name", "device_type__key", "expected_interval_s"
        )
    ) == [
        ("a84041ffff000001", "Klima 1", "sht35", 600),
        ("a84041ffff000002", "A84041FFFF000002", None, None),
        ("a84041ffff000003", "Ohne Ort", None, None),
    ]
    deployed = Deployment.objects.order_by("device__external_id")
    assert [(one.device.external_id[-1], one.thing, one.height_above_ground_m) for one in deployed] == [
        ("1", thing, 3.0),
        ("2", thing, 2.0),
    ]
    assert deployed[0].since == datetime(2026, 1, 1, tzinfo=UTC)
    entry = AuditEntry.objects.get(action="devices.import")
    assert (entry.target, entry.detail["devices_created"]) == ("lns", 3)


def test_table_again_changes_nothing_and_a_changed_row_only_itself(source: Source, sht35: DeviceType) -> None:
    import_devices_csv(SYSTEM, source, TABLE)
    again = import_devices_csv(SYSTEM, source, TABLE)
    assert (again.devices_created, again.devices_changed, again.devices_unchanged, again.things_changed) == (
        0,
        0,
        3,
        0,
    )
    changed = import_devices_csv(SYSTEM, source, "external_id,name\na84041ffff000003,Neuer Name\n")
    assert (changed.devices_changed, changed.devices_unchanged) == (1, 0)
    assert Device.objects.get(external_id="a84041ffff000003").name == "Neuer Name"
    assert Deployment.objects.count() == 2


def test_device_at_another_place_has_moved(source: Source, sht35: DeviceType) -> None:
    import_devices_csv(SYSTEM, source, TABLE)
    report = import_devices_csv(
        SYSTEM,
        source,
        "external_id,thing_key,lon,lat,since\na84041ffff000001,park,7.55,51.5,2026-03-01T12:00Z\n",
    )
    assert (report.devices_moved, report.things_created) == (1, 1)
    moved = datetime(2026, 3, 1, 12, tzinfo=UTC)
    history = Deployment.objects.filter(device__external_id="a84041ffff000001").order_by("since")
    assert [(one.thing.key, one.since, one.until) for one in history] == [
        ("klima-1", datetime(2026, 1, 1, tzinfo=UTC), moved),
        ("park", moved, None),
    ]


def test_dry_run_tells_what_would_happen_and_writes_nothing(source: Source, sht35: DeviceType) -> None:
    report = import_devices_csv(SYSTEM, source, TABLE, dry_run=True)
    assert (report.ok, report.devices_created, report.things_created) == (True, 3, 1)
    assert report.preview[0] == {
        "line": 2,
        "external_id": "a84041ffff000001",
        "name": "Klima 1",
        "device_type": "sht35",
        "thing": {
            "key": "klima-1",
            "name": "Markt",
            "kind": "station",
            "lon": 7.45,
            "lat": 51.5,
            "street": "Marktplatz",
            "house_number": "1",
            "postcode": "12345",
        },
    }
    assert not Device.objects.exists()
    assert not Thing.objects.exists()
    assert not AuditEntry.objects.filter(action="devices.import").exists()


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("", [(1, "")]),
        ("name\nx", [(1, "external_id")]),
        ("external_id,colour\na,b", [(1, "colour")]),
        ("external_id,name,name\na,b,c", [(1, "name")]),
        ("external_id\na,b", [(2, "")]),
        ("external_id\n\na\na", [(4, "external_id")]),
        ("external_id,name\n,x", [(2, "external_id")]),
        ("external_id,device_type\na,sht36", [(2, "device_type")]),
        ("external_id,lon,lat\na,7.5,", [(2, "lat")]),
        ("external_id,lon,lat\na,51.5,7.5", [(2, "lon")]),
        ("external_id,lon,lat\na,east,51.5", [(2, "lon")]),
        ("external_id,kind,thing_key\na,castle,b", [(2, "kind")]),
        ("external_id,thing_key\na,b c", [(2, "thing_key")]),
        ("external_id,expected_interval_s\na,1.5", [(2, "expected_interval_s")]),
        ("external_id,since\na,bald", [(2, "since")]),
        ("external_id,public,thing_key\na,vielleicht,b", [(2, "public")]),
        (
            "external_id,name\n" + "x" * 121 + ",y\nb," + "z" * 201,
            [(2, "external_id"), (2, "external_id"), (3, "name")],
        ),
    ],
)
def test_bad_row_stops_the_import_with_line_and_column(
    text: str, errors: list[tuple[int, str]], source: Source, sht35: DeviceType
) -> None:
    report = import_devices_csv(SYSTEM, source, text)
    assert [(error.line, error.column) for error in report.errors] == errors
    assert all(error.message for error in report.errors)
    assert not Device.objects.exists()


def test_errors_name_what_was_meant(source: Source, sht35: DeviceType) -> None:
    report = import_devices_csv(SYSTEM, source, "external_id,device_type\na,sht36")
    assert report.errors == [RowError(2, "device_type", "ist unbekannt meinten Sie sht35?")]


def test_import_asks_the_database_as_often_for_three_rows_as_for_one(
    source: Source, sht35: DeviceType, django_assert_num_queries: Any
) -> None:
    head = "external_id,device_type,thing_key,lon,lat\n"
    with django_assert_num_queries(12):
        import_devices_csv(SYSTEM, source, head + "a1,sht35,t1,7.45,51.5\n")
    with django_assert_num_queries(12):
        import_devices_csv(SYSTEM, source, head + "".join(f"b{n},sht35,u{n},7.45,51.5\n" for n in range(3)))


def test_register_sensor_makes_thing_device_and_deployment(make_actor: MakeActor, city: Municipality) -> None:
    actor = make_actor("maker", city)
    sensor = register_sensor(
        actor, city, name="Möllers Garten", lon=7.45, lat=51.5, height_above_ground_m=2, sensor_id="esp8266-1"
    )
    assert (sensor.device.external_id, sensor.device.source_key) == ("moellers-garten", "makers")
    assert sensor.device.properties == {"sensor_id": "esp8266-1"}
    assert (sensor.thing.kind, sensor.thing.owner_person_id, sensor.thing.public) == (
        "citizen_sensor",
        actor.person_id,
        True,
    )
    assert sensor.thing.district == District.objects.get(slug="west")
    assert (sensor.deployment.thing, sensor.deployment.height_above_ground_m) == (sensor.thing, 2)
    # Another city's maker may use the same name, but not the same topic.
    again = register_sensor(actor, city, name="Möllers Garten", lon=7.45, lat=51.5, indoor=True)
    assert (again.device.external_id, again.thing.key, again.thing.public) == (
        "moellers-garten-2",
        "moellers-garten-2",
        False,
    )


def test_a_citizen_becomes_a_maker_on_the_page_only(make_actor: MakeActor, city: Municipality) -> None:
    actor = make_actor("citizen")
    assert actor.person_id is not None
    with pytest.raises(NotAllowed, match="observations:write"):
        register_sensor(actor, city, name="Garten", lon=7.45, lat=51.5)
    register_sensor(actor, city, name="Garten", lon=7.45, lat=51.5, become_maker=True)
    assert RoleAssignment.objects.filter(person_id=actor.person_id, role="maker", municipality=city).exists()
    assert AuditEntry.objects.filter(action="role.grant", person_id=actor.person_id).exists()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"lon": 51.5, "lat": 7.5}, "lon"),
        ({"lon": float("nan")}, "lon"),
        ({"height_above_ground_m": 5000}, "height_above_ground_m"),
        ({"street": "x" * 121}, "street"),
        ({"external_id": "Groß!"}, "device"),
        ({"external_id": "vergeben"}, "device"),
        ({"sensors": {"5a": "no_such_property"}}, "sensors.5a"),
        ({"expected_interval_s": 0}, "expected_interval_s"),
    ],
)
def test_bad_registration_is_refused_with_the_field(
    changes: dict[str, Any], field: str, make_actor: MakeActor, city: Municipality
) -> None:
    actor = make_actor("maker", city)
    register_sensor(actor, city, name="Erster", lon=7.45, lat=51.5, external_id="vergeben")
    with pytest.raises(RegistrationError) as caught:
        register_sensor(actor, city, **{"name": "Zweiter", "lon": 7.45, "lat": 51.5, **changes})
    assert caught.value.field == field
    assert Device.objects.count() == 1


def _element(request: Request) -> tuple[int, bytes, dict[str, str]]:
    if request.query.get("auth") != "k3y-1":
        return 401, b'{"error": "Unauthorized k3y-1"}', {}
    if request.path == "/api/v1/devices/dec0054b0":
        return 200, recorded("device.json"), {}
    if not request.path.endswith("/tags/klima/devices"):
        return 404, b"{}", {}
    page = "devices_2.json" if "retrieve_after" in request.query else "devices_1.json"
    return 200, recorded(page), {}


def test_devices_of_element_are_imported_with_places_and_without_keys(
    city: Municipality, http_server: FakeServer
) -> None:
    recorded("devices_1.json")
    Municipality.objects.update(west=7.3, south=51.4, east=7.7, north=51.6)
    city.refresh_from_db()
    DeviceType.objects.create(key="decentlab-dl-sht35", vendor="Decentlab", model="DL-SHT35")
    http_server.answer = _element
    source = _save(SYSTEM, city, settings={"url": f"{http_server.url}/api/v1", "tags": ["klima"]}).source
    report = import_devices_from_network(SYSTEM, source)
    assert report.errors == []
    assert (report.rows, report.devices_created) == (20, 20)
    device = Device.objects.get(name="DEC0054B0")
    assert (device.external_id, device.device_type.key if device.device_type else "") == (
        "70b3d57ba00054b0",
        "decentlab-dl-sht35",
    )
    thing = device.deployments.get().thing
    assert (thing.name, thing.street, thing.postcode, thing.lon, thing.lat) == (
        "DEC0054B0",
        "Kaipromenade",
        "44263",
        7.504996593325032,
        51.49119375557483,
    )
    again = import_devices_from_network(SYSTEM, source)
    assert (again.devices_created, again.devices_changed, again.devices_unchanged) == (0, 0, 20)


def test_network_errors_do_not_show_the_key(city: Municipality, http_server: FakeServer) -> None:
    from quartier.sources.domain import NetworkError

    http_server.answer = _element
    source = _save(
        SYSTEM,
        city,
        settings={"url": f"{http_server.url}/api/v1", "tags": ["klima"]},
        credentials={"api_key": "wrong-k3y"},
    ).source
    http_server.answer = lambda request: (401, b'{"error": "Unauthorized: wrong-k3y"}', {})
    with pytest.raises(NetworkError) as caught:
        import_devices_from_network(SYSTEM, source)
    assert str(caught.value) == "tags/klima/devices: answer 401: Unauthorized: •••"


def test_devices_of_chirpstack_are_imported(city: Municipality, http_server: FakeServer) -> None:
    def answer(request: Request) -> tuple[int, bytes, dict[str, str]]:
        # chirpstack-rest-api: the gRPC gateway takes the token in this header.
        assert request.headers["grpc-metadata-authorization"] == "Bearer t0ken"
        assert request.query["applicationId"] == "app-1"
        begin = int(request.query["offset"])
        rows = ",".join(
            f'{{"devEui": "a84041ffff{n:06x}", "name": "Gerät {n}", "createdAt": "2026-01-01T00:00:00Z",'
            f' "deviceProfileName": "DL-SHT35"}}'
            for n in range(begin, min(150, begin + 100))
        )
        return 200, f'{{"totalCount": 150, "result": [{rows}]}}'.encode(), {}

    http_server.answer = answer
    source = save_source(
        SYSTEM,
        city,
        "lns",
        "LNS",
        "chirpstack",
        {"broker": "own", "api_url": http_server.url, "applications": "app-1"},
        {"api_token": "t0ken"},
    ).source
    report = import_devices_from_network(SYSTEM, source)
    assert (report.errors, report.devices_created, report.things_created) == ([], 150, 0)
    assert Device.objects.filter(external_id="a84041ffff000095", name="Gerät 149").exists()


def test_devices_of_the_things_stack_are_imported_and_a_bad_one_is_told(
    city: Municipality, http_server: FakeServer
) -> None:
    def answer(request: Request) -> tuple[int, bytes, dict[str, str]]:
        assert request.path == "/api/v3/applications/klima/devices"
        assert request.headers["authorization"] == "Bearer NNSXS.t0ken"
        return (
            200,
            b'{"end_devices": [{"ids": {"device_id": "one", "dev_eui": "A84041FFFF000001"}, "name": "Eins",'
            b' "created_at": "2026-01-01T00:00:00Z", "locations": {"user": {"latitude": 51.5, "longitude": 7.45,'
            b' "altitude": 90}}}, {"ids": {"device_id": "far"}, "locations": {"user": {"latitude": 48,'
            b' "longitude": 11}}}]}',
            {},
        )

    http_server.answer = answer
    source = save_source(
        SYSTEM,
        city,
        "lns",
        "LNS",
        "tts",
        {"transport": "webhook", "api_url": http_server.url, "applications": ["klima"]},
        {"api_token": "NNSXS.t0ken"},
    ).source
    report = import_devices_from_network(SYSTEM, source)
    assert [(error.line, error.column) for error in report.errors] == [(2, "lon")]
    assert (report.partial, report.devices_created) == (True, 1)
    thing = Thing.objects.get()
    assert (thing.name, thing.lon, thing.lat, thing.altitude_m) == ("Eins", 7.45, 51.5, 90)
