"""What the doctor says of installations that are well, and of each thing that can be wrong."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

import pytest

from quartier.config import Config
from quartier.engines import doctor, sockets
from quartier.engines.doctor import Finding, check, judge
from quartier.engines.health import BEHIND_MESSAGES, Bus, Database, Health, Stream


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    data = tmp_path / "data"
    data.mkdir()
    return Config(data=data, port=_free_port(), mqtt_port=_free_port())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _by_subject(settings: Config) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check(settings)}


def test_fresh_installation_has_no_problem(settings: Config) -> None:
    found = _by_subject(settings)
    assert {finding.subject for finding in found.values() if finding.verdict == "problem"} == set()
    assert found["PostgreSQL"].found == "18 from the wheel"
    assert found["Address"] == Finding(
        "note", "Address", settings.public_url, "Set base_url when the installation is visited by that name."
    )


def test_every_problem_says_what_to_do(settings: Config) -> None:
    (settings.data / "secret-key").write_text("secret")
    (settings.data / "secret-key").chmod(0o644)
    with socket.socket() as other:
        other.bind(("127.0.0.1", settings.port))
        other.listen()
        found = _by_subject(replace(settings, base_url="http://quartier.example.org", debug=True))
    problems = {finding.subject: finding for finding in found.values() if finding.verdict == "problem"}
    assert set(problems) == {"secret-key", "Port for pages", "Debugging", "Address"}
    assert problems["secret-key"].advice == f"chmod 600 {settings.data / 'secret-key'}"
    assert "QUARTIER_PORT" in problems["Port for pages"].advice
    assert all(finding.advice for finding in problems.values())


def test_folder_that_does_not_exist_yet(settings: Config) -> None:
    found = _by_subject(replace(settings, data=settings.data / "later" / "still"))
    assert found["Data folder"].verdict == "note"
    assert found["Disk"].verdict == "ok"


def test_database_of_a_major_that_is_nowhere(settings: Config) -> None:
    (settings.data / "postgres").mkdir()
    (settings.data / "postgres" / "PG_VERSION").write_text("9\n")
    found = _by_subject(settings)["PostgreSQL"]
    assert found.verdict == "problem"
    assert "made by PostgreSQL 9" in found.advice


def test_little_room_and_memory(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_LEAST_FREE_BYTES", 10**18)
    monkeypatch.setattr(doctor, "_LEAST_MEMORY_BYTES", 10**18)
    found = _by_subject(settings)
    assert (found["Disk"].verdict, found["Memory"].verdict) == ("problem", "problem")


WELL = Health(
    version="1",
    database=Database(ok=True, version="18.1", newest_observation_age_s=4.0),
    bus=Bus(ok=True, version="2.12.0", streams={"inbox": Stream(messages=7, size_bytes=2_000_000)}),
)


def test_engines_that_are_well() -> None:
    assert [(f.verdict, f.subject, f.found) for f in judge(WELL)] == [
        ("ok", "Database", "PostgreSQL 18.1, up to date"),
        ("ok", "Bus", "NATS 2.12.0; inbox: 7 messages, 2 MB"),
        ("ok", "Observations", "the newest was recorded 4 s ago"),
    ]


@pytest.mark.parametrize(
    ("health", "subject", "advice"),
    [
        (replace(WELL, database=Database(ok=False, error="refused")), "Database", "postgres.log"),
        (replace(WELL, database=Database(ok=True, missing=("twin.0001",))), "Database", "quartier migrate"),
        (replace(WELL, bus=Bus(ok=False, error="refused")), "Bus", "nats.log"),
        (
            replace(
                WELL,
                bus=Bus(
                    ok=True,
                    streams={
                        "inbox": Stream(messages=1, size_bytes=1, pending={"intake": BEHIND_MESSAGES + 1})
                    },
                ),
            ),
            "Intake",
            "serve intake",
        ),
        (
            replace(WELL, database=Database(ok=True, newest_observation_age_s=7200.0)),
            "Observations",
            "sources list",
        ),
    ],
)
def test_engines_that_are_not(health: Health, subject: str, advice: str) -> None:
    problems = [finding for finding in judge(health) if finding.verdict == "problem"]
    assert [finding.subject for finding in problems] == [subject]
    assert advice in problems[0].advice


def test_small_receive_buffer_is_told(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "grantable", lambda: 425_984)  # Linux's usual limit of 212,992, doubled
    monkeypatch.setattr(sockets, "limit", lambda: 212_992)
    assert _by_subject(settings)["UDP"] == Finding(
        "note",
        "UDP",
        "the receive buffer holds 36 ms of 5,000 datagrams a second, because net.core.rmem_max is 212992",
        "With many packet forwarders: `sysctl -w net.core.rmem_max=5760000`, and a line in /etc/sysctl.d.",
    )


def test_buffer_that_is_large_enough(settings: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "grantable", lambda: sockets.RECEIVE_BYTES)
    assert _by_subject(settings)["UDP"] == Finding(
        "ok", "UDP", "the receive buffer holds 1000 ms of 5,000 datagrams a second"
    )
