"""Sources on the desk: health, settings; credentials go in and never come out."""

from __future__ import annotations

from typing import Any

from quartier.cities.models import AuditEntry
from quartier.sources.kinds import KINDS
from quartier.sources.models import Source
from tests.desk.scene import Scene, count_queries

SECRET = "streng-geheimer-schluessel-4711"
ELEMENT = {
    "setting-url": "https://element.example/api/v1",
    "setting-tags": "klima, pegel",
    "setting-use": "packets",
    "credential-api_key": SECRET,
}


def _create(scene: Scene, **changes: Any) -> Any:
    data = {
        "municipality": scene.schwerte.pk,
        "key": "stadtwerke",
        "name": "Stadtwerke",
        **ELEMENT,
        **changes,
    }
    return scene.client("operator").post("/amt/quellen/neu/element/", data)


def test_new_source(scene: Scene) -> None:
    assert _create(scene)["Location"] == "/amt/quellen/stadtwerke/"
    source = Source.objects.get(key="stadtwerke")
    assert (source.municipality, source.kind, source.name, source.enabled) == (
        scene.schwerte,
        "element",
        "Stadtwerke",
        True,
    )
    assert source.settings == {
        "url": "https://element.example/api/v1",
        "tags": ["klima", "pegel"],
        "use": "packets",
        "interval_s": 10,
        "timeout_ms": 20_000,
    }
    assert source.credentials == {"api_key": SECRET}
    assert SECRET not in source.sealed_credentials


def test_credentials_are_never_shown(scene: Scene) -> None:
    _create(scene)
    client = scene.client("operator")
    for page in ("quellen/", "quellen/stadtwerke/", "quellen/stadtwerke/bearbeiten/", "protokoll/"):
        assert SECRET not in client.get(f"/amt/{page}").content.decode(), page
    assert SECRET not in str(list(AuditEntry.objects.values_list("detail", flat=True)))


def test_an_empty_credential_stays_as_it_is(scene: Scene) -> None:
    _create(scene)
    data = {**ELEMENT, "name": "Umbenannt", "credential-api_key": ""}
    answer = scene.client("operator").post("/amt/quellen/stadtwerke/bearbeiten/", data)
    assert answer.status_code == 302
    source = Source.objects.get(key="stadtwerke")
    assert (source.name, source.credentials) == ("Umbenannt", {"api_key": SECRET})


def test_editing_a_source_that_is_off_does_not_switch_it_on(scene: Scene) -> None:
    _create(scene)
    client = scene.client("operator")
    client.post("/amt/quellen/stadtwerke/schalten/", {"an": "0"})
    client.post("/amt/quellen/stadtwerke/bearbeiten/", {**ELEMENT, "name": "x"})
    source = Source.objects.get(key="stadtwerke")
    assert (source.enabled, source.state) == (False, Source.State.OFF)


def test_wrong_settings_are_shown_at_their_field(scene: Scene) -> None:
    for changes, field in (
        ({"setting-url": "ftp://element.example"}, "setting-url"),
        ({"setting-interval_s": "0"}, "setting-interval_s"),
        ({"setting-since": "gestern"}, "setting-since"),
        ({"setting-tags": ""}, "setting-tags"),
        ({"credential-api_key": ""}, "credential-api_key"),
        ({"key": "netz-schwerte"}, "key"),
    ):
        answer = _create(scene, **changes)
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, [field]), changes
    assert not Source.objects.filter(key="stadtwerke").exists()


def test_settings_that_do_not_count_are_not_checked(scene: Scene) -> None:
    """A webhook needs no host; its key is made for it and shown once."""
    client = scene.client("operator")
    answer = client.post(
        "/amt/quellen/neu/chirpstack/",
        {
            "municipality": scene.schwerte.pk,
            "key": "lora",
            "name": "LoRa",
            "setting-transport": "webhook",
            "setting-broker": "other",
            "setting-host": "",
            "setting-use": "data",
        },
        follow=True,
    )
    secret = Source.objects.get(key="lora").credentials["webhook_secret"]
    text = answer.content.decode()
    assert secret in text
    assert "/api/sources/lora/events" in text
    assert secret not in client.get("/amt/quellen/lora/").content.decode()


def test_the_generated_key_is_sealed_in_the_session(scene: Scene) -> None:
    client = scene.client("operator")
    client.post(
        "/amt/quellen/neu/generic_http/",
        {
            "municipality": scene.schwerte.pk,
            "key": "http",
            "name": "HTTP",
            "setting-mapping": '{"device": "$.id", "fields": {"air_temperature": "$.t"}}',
        },
    )
    secret = Source.objects.get(key="http").credentials["webhook_secret"]
    assert secret not in str(dict(client.session))


def test_every_kind_has_a_form(scene: Scene) -> None:
    client = scene.client("operator")
    for key, kind in KINDS.items():
        fields = client.get(f"/amt/quellen/neu/{key}/").context["form"].fields
        wanted = {"municipality", "key", "name"}
        wanted |= {f"setting-{one.name}" for one in kind.settings}
        wanted |= {f"credential-{one.name}" for one in kind.credentials}
        assert set(fields) == wanted, key
    assert client.get("/amt/quellen/neu/nix/").status_code == 404


def test_switching_off_and_on_is_logged_once_each(scene: Scene) -> None:
    client = scene.client("operator")
    for wanted in ("0", "0", "1"):
        assert client.post("/amt/quellen/netz-schwerte/schalten/", {"an": wanted}).status_code == 302
    assert list(AuditEntry.objects.order_by("pk").values_list("action", flat=True)) == [
        "source.disable",
        "source.enable",
    ]


def test_list_says_how_each_source_is(scene: Scene) -> None:
    text = scene.client("operator_all").get("/amt/quellen/").content.decode()
    for expected in (
        "verbunden",
        "wartet nach Fehler",
        "connection refused",
        "7 Fehlversuche",
        "JSON über HTTP",
    ):
        assert expected in text


def test_queries_do_not_grow_with_sources(scene: Scene) -> None:
    client = scene.client("operator_all")
    few = count_queries(client, "/amt/quellen/")
    source = scene.sources["schwerte"]
    for number in range(2):
        source.pk, source.key = None, f"copy-{number}"
        source.save()
    assert count_queries(client, "/amt/quellen/") == few
