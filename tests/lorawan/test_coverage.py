"""The coverage map: what real receptions say about a square, and what it must not tell about single places."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.utils import timezone

from quartier.cities.models import Municipality
from quartier.cities.rules import SYSTEM
from quartier.lorawan import coverage, domain
from quartier.lorawan.coverage import CELL_LAT, CELL_LON, HIDDEN_RSSI_DBM, LEAST_FRAMES, Cell
from quartier.lorawan.domain import DeviceSettings
from quartier.lorawan.models import DeviceProfile, Frame, Gateway
from quartier.twin.models import Thing
from tests.world import frame_days

pytestmark = pytest.mark.django_db

GATEWAY, HIDDEN = "0016c001f1000001", "0016c001f1000002"
LON, LAT = 7.46, 51.51


@pytest.fixture
def city() -> Municipality:
    made = Municipality.objects.create(
        slug="musterstadt", name="Musterstadt", lon=LON, lat=LAT, west=7.4, south=51.4, east=7.6, north=51.6
    )
    Gateway.objects.create(municipality=made, eui=GATEWAY, name="Rathaus", lon=LON, lat=LAT)
    Gateway.objects.create(municipality=made, eui=HIDDEN, name="Balkon", private=True)
    return made


@pytest.fixture
def profile() -> DeviceProfile:
    return domain.save_profile(SYSTEM, "plain", name="Plain")


def _device(
    city: Municipality, profile: DeviceProfile, number: int, *, public: bool = True, lon: float = LON
) -> int:
    thing = Thing.objects.create(
        municipality=city, key=f"t{number}", name=str(number), kind="station", lon=lon, lat=LAT, public=public
    )
    device = domain.register_device(
        SYSTEM,
        city,
        DeviceSettings(
            dev_eui=f"{number:016x}", name=str(number), profile=profile, keys={"app_key": "00" * 16}
        ),
        thing=thing,
        since=timezone.now() - timedelta(days=3),
    )
    return device.pk


def _hear(
    city: Municipality,
    device: int,
    heard: dict[str, tuple[float, float]],
    n: int = LEAST_FRAMES,
    **values: object,
) -> None:
    peer = str(values.pop("peer", ""))
    gateways = [
        {"eui": eui, "rssi_dbm": rssi, "snr_db": snr} | ({"peer": peer} if peer else {})
        for eui, (rssi, snr) in heard.items()
    ]
    default: dict[str, object] = {"at": timezone.now() - timedelta(hours=1), "outcome": "accepted"}
    frames = [
        Frame(
            municipality=city, device_id=device, direction="up", kind="unconfirmed_up", size=10, data_rate=5,
            frequency_hz=868_100_000, gateways=gateways, detail={}, **(default | values),
        )
        for _ in range(n)
    ]  # fmt: skip
    frame_days(one.at for one in frames)
    Frame.objects.bulk_create(frames)


def _cells(city: Municipality) -> list[Cell]:
    return coverage.cells([city.pk], fresh=True)


def test_best_reception_and_redundancy_of_a_square(city: Municipality, profile: DeviceProfile) -> None:
    device = _device(city, profile, 1)
    _hear(city, device, {GATEWAY: (-97.0, 7.5)}, 8)
    _hear(city, device, {GATEWAY: (-99.0, 6.0), HIDDEN: (-120.0, -8.0)}, LEAST_FRAMES)
    [cell] = _cells(city)
    assert cell == Cell(int(LON / CELL_LON), int(LAT / CELL_LAT), 8 + LEAST_FRAMES, -97.0, 7.5, 2)
    assert cell.west <= LON < cell.west + CELL_LON
    assert cell.south <= LAT < cell.south + CELL_LAT


def test_few_frames_other_outcomes_and_old_ones_make_no_square(
    city: Municipality, profile: DeviceProfile
) -> None:
    device = _device(city, profile, 1)
    heard = {GATEWAY: (-97.0, 7.5)}
    _hear(city, device, heard, LEAST_FRAMES - 1)
    _hear(city, device, heard, outcome="replay")
    _hear(city, device, heard, at=timezone.now() - timedelta(days=coverage.DAYS + 1))
    # Before the device stood anywhere, its place is unknown.
    _hear(city, device, heard, at=timezone.now() - timedelta(days=5))
    assert _cells(city) == []


def test_private_and_foreign_gateways_never_show_where_they_stand(
    city: Municipality, profile: DeviceProfile
) -> None:
    near, far = _device(city, profile, 1), _device(city, profile, 2, lon=LON + 3 * CELL_LON)
    _hear(city, near, {HIDDEN: (-40.0, 10.0)})
    _hear(city, far, {"00000000000000aa": (-40.0, 10.0)}, peer="nachbar")
    assert [(one.rssi_dbm, one.snr_db) for one in _cells(city)] == [(HIDDEN_RSSI_DBM, 0.0)] * 2


def test_a_peers_gateway_with_the_id_of_ours_is_not_ours(city: Municipality, profile: DeviceProfile) -> None:
    _hear(city, _device(city, profile, 1), {GATEWAY: (-40.0, 10.0)}, peer="nachbar")
    assert [one.rssi_dbm for one in _cells(city)] == [HIDDEN_RSSI_DBM]


def test_a_device_that_is_not_public_is_not_located(city: Municipality, profile: DeviceProfile) -> None:
    heard = {GATEWAY: (-97.0, 7.5)}
    for number in (1, 2):
        _hear(city, _device(city, profile, number, public=False), heard)
    assert _cells(city) == []
    _hear(city, _device(city, profile, 3, public=False), heard)
    assert [one.frames for one in _cells(city)] == [3 * LEAST_FRAMES]
