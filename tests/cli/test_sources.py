"""Sources by command, from TOML files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Quartier

FILE = """
municipality = "schwerte"
key = "stadtwerke"
name = "Stadtwerke"
kind = "chirpstack"

[settings]
host = "lns.example.org"

[credentials]
username = "quartier"
password = "correct horse"
"""


@pytest.fixture
def file(quartier: Quartier, tmp_path: Path) -> Path:
    quartier("load", "cities")
    path = tmp_path / "source.toml"
    path.write_text(FILE)
    return path


def test_source_is_added_changed_and_switched(quartier: Quartier, file: Path) -> None:
    from quartier.sources.models import Source

    assert quartier("sources", "add", str(file)) == "stadtwerke is saved and enabled.\n"
    source = Source.objects.get()
    assert source.municipality.slug == "schwerte"
    assert source.credentials == {"username": "quartier", "password": "correct horse"}
    assert source.settings["topic"] == "application/+/device/+/event/+"

    file.write_text(FILE.replace("lns.", "new.").partition("[credentials]")[0] + "\n")
    quartier("sources", "add", str(file))
    source.refresh_from_db()
    assert source.settings["host"] == "new.example.org"
    assert source.credentials["password"] == "correct horse"

    quartier("sources", "switch", "stadtwerke", "--off")
    assert not Source.objects.get().enabled
    assert quartier("sources", "switch", "stadtwerke", "--on") == "stadtwerke is on.\n"
    listed = quartier("sources", "list")
    assert "stadtwerke" in listed
    assert "correct horse" not in listed


def test_webhook_shows_its_address_and_its_key_once(quartier: Quartier, file: Path) -> None:
    from quartier.sources.models import Source

    file.write_text(
        FILE.replace('host = "lns.example.org"', 'transport = "webhook"').partition("[credentials]")[0]
    )
    said = quartier("sources", "add", str(file))
    assert "/api/sources/stadtwerke/events" in said
    key = said.rpartition("webhook_secret (shown only now): ")[2].strip()
    assert Source.objects.get().credentials == {"webhook_secret": key}
    assert "shown only now" not in quartier("sources", "add", str(file))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('key = "stadtwerke"', "", "source.toml: key is missing"),
        ('key = "stadtwerke"', "key = 7", "source.toml: key must be a str"),
        ('kind = "chirpstack"', 'kind = "smoke"', "source.toml: kind: "),
        ('host = "lns.example.org"', 'hosts = "lns.example.org"', "source.toml: hosts: "),
        ('municipality = "schwerte"', 'municipality = "unna"', "There is no municipality 'unna'."),
        (
            'name = "Stadtwerke"',
            'name = "Stadtwerke"\ncolour = "blue"',
            "source.toml: colour is unknown; known:",
        ),
        ("[settings]", "[settings", "source.toml: "),
    ],
)
def test_mistakes_name_the_field(quartier: Quartier, file: Path, old: str, new: str, message: str) -> None:
    from quartier.sources.models import Source

    file.write_text(FILE.replace(old, new))
    assert message in quartier("sources", "add", str(file), status=1)
    assert not Source.objects.exists()
