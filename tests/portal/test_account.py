"""My account: access keys are made within my rights, shown once, and revoked by me only."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from quartier.cities import tokens
from quartier.cities.models import AuditEntry, Role, Token
from quartier.cities.rules import ACTIONS_OF_ROLE, SCOPES
from quartier.portal.words import RIGHTS
from quartier.twin.models import Deployment, Device, Thing
from tests.browser.scene import PASSWORD, Scene, build

PAGES = ("/konto/", "/konto/schluessel/neu/", "/konto/schluessel/")


@pytest.fixture
def scene(db: None) -> Scene:
    return build()


def test_every_right_has_words() -> None:
    named = set(SCOPES) | set().union(*ACTIONS_OF_ROLE.values())
    assert named == set(RIGHTS)


@pytest.mark.parametrize("address", PAGES)
def test_account_is_for_who_is_signed_in(client: Client, scene: Scene, address: str) -> None:
    response = client.get(address)
    assert response.status_code == 302
    assert response.headers["Location"].startswith("/accounts/login/?next=/konto/")


@pytest.mark.parametrize("address", PAGES[:2])
def test_account_is_never_cached(client: Client, scene: Scene, address: str) -> None:
    client.force_login(scene.people["maker"])
    assert "no-store" in client.get(address).headers["Cache-Control"]


# Who is offered which rights for a key: what the role holds, as far as it is a scope.
OFFERED = {
    "operator": set(SCOPES),
    "steward": set(ACTIONS_OF_ROLE[Role.STEWARD]) & set(SCOPES),
    "staff": {"things:read"},
    "maker": {"observations:write"},
    "citizen": set(),
}


@pytest.mark.parametrize(("name", "offered"), OFFERED.items())
def test_only_own_rights_are_offered_and_accepted(
    client: Client, scene: Scene, name: str, offered: set[str]
) -> None:
    client.force_login(scene.people[name])
    text = client.get("/konto/schluessel/neu/").content.decode()
    assert set(re.findall(r'name="scopes" value="([^"]+)"', text)) == offered
    for scope in SCOPES:
        response = client.post("/konto/schluessel/neu/", {"name": "x", "scopes": [scope], "days": "30"})
        assert response.status_code == (302 if scope in offered else 422), scope
    found = Token.objects.filter(person=scene.people[name]).values_list("scopes", flat=True)
    assert {scope for scopes in found for scope in scopes} == offered


@pytest.mark.parametrize(("days", "expires"), [("30", 30), ("365", 365), ("0", None)])
def test_key_is_shown_once_and_works(client: Client, scene: Scene, days: str, expires: int | None) -> None:
    client.force_login(scene.people["maker"])
    response = client.post(
        "/konto/schluessel/neu/", {"name": "Balkon", "scopes": ["observations:write"], "days": days}
    )
    assert response.headers["Location"] == "/konto/schluessel/"
    shown = re.search(r"<pre><code>(qt_[^<]+)</code>", client.get("/konto/schluessel/").content.decode())
    assert shown is not None
    token = tokens.find(shown[1])
    assert (token.name, token.person, token.scopes) == (
        "Balkon",
        scene.people["maker"],
        ["observations:write"],
    )
    if expires is None:
        assert token.expires_at is None
    else:
        assert token.expires_at is not None
        assert abs(token.expires_at - timezone.now() - timedelta(days=expires)) < timedelta(minutes=1)
    assert client.get("/konto/schluessel/").status_code == 302, "the second look finds nothing"
    account = client.get("/konto/").content.decode()
    assert shown[1] not in account
    assert f"<code>tokens/{token.pk}/…</code>" in account, "topics of SensorThings begin so"
    assert shown[1] not in str(dict(client.session))
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.target, entry.person) == ("token.create", "Balkon", scene.people["maker"])
    assert shown[1] not in str(entry.detail)


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"name": "x" * 101}, {"scopes": []}, {"days": "7"}, {"days": "x"}]
)
def test_key_that_cannot_be_made_is_explained(client: Client, scene: Scene, wrong: dict[str, object]) -> None:
    client.force_login(scene.people["maker"])
    data = {"name": "Balkon", "scopes": ["observations:write"], "days": "30", **wrong}
    response = client.post("/konto/schluessel/neu/", data)
    assert response.status_code == 422
    assert not Token.objects.exists()


def test_number_of_keys_is_bounded(client: Client, scene: Scene) -> None:
    client.force_login(scene.people["maker"])
    for number in range(50):
        tokens.make(scene.people["maker"], name=str(number), scopes=["observations:write"])
    data = {"name": "51", "scopes": ["observations:write"], "days": "30"}
    assert client.post("/konto/schluessel/neu/", data).status_code == 422
    Token.objects.filter(name="0").update(revoked_at=timezone.now())
    assert client.post("/konto/schluessel/neu/", data).status_code == 302


def test_key_is_revoked_by_its_owner_only(client: Client, scene: Scene) -> None:
    token, text = tokens.make(scene.people["maker"], name="Balkon", scopes=["observations:write"])
    address = f"/konto/schluessel/{token.pk}/widerrufen/"
    client.force_login(scene.people["operator"])
    assert client.post(address).status_code == 404
    client.force_login(scene.people["maker"])
    assert client.get(address).status_code == 405
    assert client.post(address).status_code == 302
    with pytest.raises(tokens.TokenError, match="revoked"):
        tokens.find(text)
    first = Token.objects.get(pk=token.pk).revoked_at
    client.post(address)
    assert Token.objects.get(pk=token.pk).revoked_at == first
    assert AuditEntry.objects.filter(action="token.revoke").count() == 1


def test_name_is_changed(client: Client, scene: Scene) -> None:
    client.force_login(scene.people["citizen"])
    client.post("/konto/", {"name": "Ada"})
    scene.people["citizen"].refresh_from_db()
    assert scene.people["citizen"].name == "Ada"
    assert client.post("/konto/", {"name": "x" * 151}).status_code == 422


def _sensor(scene: Scene, number: int) -> None:
    thing = Thing.objects.create(
        municipality=scene.schwerte,
        key=f"s{number}",
        name=f"Sensor {number}",
        kind="citizen_sensor",
        owner_person_id=scene.people["maker"].pk,
    )
    device = Device.objects.create(
        municipality=scene.schwerte, source_key="makers", external_id=f"s{number}", name=f"Sensor {number}"
    )
    Deployment.objects.create(device=device, thing=thing, since=timezone.now())


def test_account_needs_as_many_queries_for_many_sensors(
    client: Client, scene: Scene, django_assert_max_num_queries: object
) -> None:
    from django.db import connection
    from django.test.utils import CaptureQueriesContext

    client.force_login(scene.people["maker"])
    counts = []
    for total in (1, 3):
        while Thing.objects.count() < total:
            _sensor(scene, Thing.objects.count())
            tokens.make(scene.people["maker"], name="x", scopes=["observations:write"])
        client.get("/konto/")
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert client.get("/konto/").content.count(b"Sensor ") >= total
        counts.append(len(queries))
    assert counts[0] == counts[1]


# allauth's pages as an anonymous visitor and a signed-in person meet them.
@pytest.mark.parametrize(
    ("address", "signed_in", "heading"),
    [
        ("/accounts/login/", False, "Anmelden"),
        ("/accounts/signup/", False, "Konto anlegen"),
        ("/accounts/password/reset/", False, "Passwort"),
        ("/accounts/logout/", True, "Abmelden"),
        ("/accounts/email/", True, "E-Mail"),
        ("/accounts/password/change/", True, "Passwort"),
        ("/accounts/2fa/", True, "Zwei-Faktor"),
        ("/accounts/3rdparty/", True, "Konto"),
        ("/accounts/reauthenticate/", True, "Zugriff"),
    ],
)
def test_sign_in_page_stands_in_our_frame(
    client: Client, scene: Scene, address: str, signed_in: bool, heading: str
) -> None:
    if signed_in:
        client.force_login(scene.people["maker"], backend="django.contrib.auth.backends.ModelBackend")
    response = client.get(address)
    assert response.status_code == 200
    text = response.content.decode()
    assert "q-header" in text
    found = re.search(r'<h1 class="q-auth__title">(.*?)</h1>', text, re.DOTALL)
    assert found is not None
    assert heading in found[1]
    assert not re.search(r"\b([Dd]u|[Dd]ein\w*|[Dd]ich|[Dd]ir)\b", text), "we say Sie"


def test_somebody_signs_up_and_confirms_the_address(
    client: Client, scene: Scene, mailoutbox: list[object]
) -> None:
    password = "noch ein langes Passwort"
    response = client.post(
        "/accounts/signup/", {"email": "neu@example.org", "password1": password, "password2": password}
    )
    assert response.headers["Location"] == "/accounts/confirm-email/"
    body = str(mailoutbox[0].body)  # type: ignore[attr-defined]
    assert not re.search(r"\b([Dd]u|[Dd]ein\w*|[Dd]ich|[Dd]ir)\b", body)
    link = re.search(r"http://testserver(/accounts/confirm-email/\S+)", body)
    assert link is not None
    assert "neu@example.org" in client.get(link[1]).content.decode()
    assert client.post(link[1]).status_code == 302
    login = client.post("/accounts/login/", {"login": "neu@example.org", "password": password})
    assert login.headers["Location"] == "/"
    assert client.get("/konto/").status_code == 200


def test_second_factor_is_set_up(client: Client, scene: Scene) -> None:
    from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value, yield_hotp_counters_from_time

    person = scene.people["maker"]
    client.post("/accounts/login/", {"login": person.email, "password": PASSWORD})
    client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    page = client.get("/accounts/2fa/totp/activate/").content.decode()
    assert "data:image/svg+xml;" in page
    secret = re.search(r'id="authenticator_secret"[^>]*value="([A-Z2-7]+)"', page)
    assert secret is not None
    code = format_hotp_value(hotp_value(secret[1], next(iter(yield_hotp_counters_from_time()))))
    assert client.post("/accounts/2fa/totp/activate/", {"code": code}).status_code == 302
    codes = client.get("/accounts/2fa/recovery-codes/").content.decode()
    assert "kern-form-input__input" in codes
    assert client.get("/accounts/2fa/").content.decode().count("q-auth__panel") == 2
