"""The first page of the desk counts what needs somebody, per city."""

from __future__ import annotations

from datetime import timedelta

import pytest

from quartier.cities import audit
from quartier.cities.models import Feedback
from quartier.cities.rules import SYSTEM, actor_of
from quartier.desk.queries.overview import Counts, counts, overview
from quartier.intake.models import QualityFinding, RefusedMessage, Replay
from quartier.sources.models import Source
from quartier.twin.models import Deployment, Device, Series, Thing
from tests.desk.scene import Scene, count_queries, record


def _expected(scene: Scene, slug: str) -> Counts:
    return Counts(
        municipality=scene.municipality(slug),
        devices=3,
        live=1,
        silent=1,
        never=1,
        weak=1,
        sources=1,
        failing=1 if slug == "schwerte" else 0,
        refused=1,
        findings=1,
    )


def test_counts_per_city(scene: Scene) -> None:
    found = counts(actor_of(scene.people["operator_all"]), scene.now)
    assert found == [_expected(scene, "dortmund"), _expected(scene, "schwerte")]


def test_counts_of_the_own_city_only(scene: Scene) -> None:
    assert counts(actor_of(scene.people["staff"]), scene.now) == [_expected(scene, "schwerte")]


def test_old_and_resolved_refusals_do_not_count(scene: Scene) -> None:
    RefusedMessage.objects.filter(pk=scene.refused["dortmund"].pk).update(resolved_at=scene.now)
    RefusedMessage.objects.filter(pk=scene.refused["schwerte"].pk).update(at=scene.now - timedelta(hours=25))
    found = overview(actor_of(scene.people["operator_all"]), scene.now)
    assert [row.refused for row in found.counts] == [0, 0]
    assert found.reasons == []


def test_reasons_are_for_those_who_may_read_messages(scene: Scene) -> None:
    assert overview(actor_of(scene.people["staff"]), scene.now).reasons == []
    assert [
        (row.reason, row.n) for row in overview(actor_of(scene.people["steward"]), scene.now).reasons
    ] == [("unknown_device", 1)]


def test_page_says_the_day_in_a_sentence(scene: Scene) -> None:
    Replay.objects.create(municipality=scene.schwerte, total=10, done=3)
    text = scene.client("steward").get("/amt/").content.decode()
    assert (
        "1 Gerät ist verstummt, 1 Quelle meldet Fehler, 1 Nachricht wurde in 24 Stunden abgelehnt, 1 Befund ist offen."
    ) in text
    assert "3 von 10 Nachrichten" in text
    assert "Dortmund silent" not in text


def test_a_quiet_day(scene: Scene) -> None:
    Device.objects.update(active=False)
    Source.objects.update(state=Source.State.OK)
    RefusedMessage.objects.all().delete()
    QualityFinding.objects.all().delete()
    assert "Nichts Dringendes" in scene.client("operator").get("/amt/").content.decode()


def test_queries_do_not_grow_with_devices_and_findings(scene: Scene) -> None:
    client = scene.client("operator_all")
    client.get("/amt/")
    few = count_queries(client, "/amt/")
    device, finding = scene.devices["schwerte silent"], scene.findings["schwerte"]
    for number in range(2):
        device.pk, device.external_id = None, f"copy-{number}"
        device.save()
        finding.pk = None
        finding.save()
    assert count_queries(client, "/amt/") == few


@pytest.mark.parametrize("language", ["de", "en"])
def test_navigation_offers_what_the_person_may_open(scene: Scene, language: str) -> None:
    def addresses(name: str) -> list[str]:
        client = scene.client(name)
        client.cookies["django_language"] = language
        return [entry["url"] for entry in client.get("/amt/").context["desk_navigation"]]

    staff = [
        "/amt/",
        "/amt/geraete/",
        "/amt/quellen/",
        "/amt/funknetz/",
        "/amt/qualitaet/",
        "/amt/rueckmeldungen/",
    ]
    assert addresses("staff") == staff
    everything = [
        "/amt/",
        "/amt/geraete/",
        "/amt/quellen/",
        "/amt/funknetz/",
        "/amt/nachrichten/",
        "/amt/codecs/",
        "/amt/nachspielen/",
        "/amt/qualitaet/",
        "/amt/rueckmeldungen/",
        "/amt/personen/",
        "/amt/datensaetze/",
        "/amt/protokoll/",
    ]
    assert addresses("operator") == everything


def test_queries_do_not_grow_with_rows(scene: Scene) -> None:
    """Lists that have no test of their own for it."""
    client = scene.client("operator_all")
    pages = [
        "rueckmeldungen/?zustand=alle",
        "nachspielen/",
        "protokoll/",
        "qualitaet/stationen/?alle=1",
        "datensaetze/",
        f"geraete/{scene.devices['schwerte live'].pk}/",
        f"orte/{scene.things['schwerte'].pk}/",
    ]

    def add() -> None:
        Feedback.objects.create(municipality=scene.schwerte, message="Hallo")
        Replay.objects.create(
            municipality=scene.schwerte, created_by=scene.people["operator"], finished_at=scene.now
        )
        audit.log(SYSTEM, "device.change", "x", municipality_id=scene.schwerte.pk)
        number = Device.objects.count()
        device = Device.objects.create(
            municipality=scene.schwerte, source_key="netz-schwerte", external_id=f"n{number}", name="n"
        )
        thing = Thing.objects.create(municipality=scene.schwerte, key=f"n{number}", name="n", kind="station")
        # One that is silent for the list of silent places, one that was at the place whose page is counted.
        Deployment.objects.create(device=device, thing=thing, since=scene.now)
        Deployment.objects.create(
            device=device,
            thing=scene.things["schwerte"],
            since=scene.now - timedelta(days=9),
            until=scene.now,
        )
        live = scene.devices["schwerte live"]
        Deployment.objects.create(
            device=live,
            thing=thing,
            since=scene.now - timedelta(days=300),
            until=scene.now - timedelta(days=200),
        )
        series = Series.objects.create(
            municipality=scene.schwerte,
            thing=thing,
            observed_property=scene.properties["air_temperature"],
            device=live,
            unit="Cel",
        )
        record(series, [(scene.now - timedelta(hours=1), 20.0, 1)])
        RefusedMessage.objects.create(
            municipality=scene.schwerte,
            source_key="netz-schwerte",
            external_id=live.external_id,
            reason="bad_value",
            body=b"",
        )

    add()
    few = {page: count_queries(client, f"/amt/{page}") for page in pages}
    add()
    add()
    assert {page: count_queries(client, f"/amt/{page}") for page in pages} == few
