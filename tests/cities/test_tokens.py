"""Tokens: shown once, found by hash, refused for a stated reason."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from pytest_django import DjangoAssertNumQueries

from quartier.cities import tokens
from quartier.cities.models import Municipality, Role, Token
from quartier.cities.rules import actor_of_token
from quartier.cities.tokens import TokenError
from tests.cities.conftest import MakePerson

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def test_token_is_found_by_its_text(here: Municipality, person: MakePerson) -> None:
    ada = person((Role.MAKER, here))
    token, text = tokens.make(
        ada,
        name="Balkon",
        scopes=["things:read", "observations:write"],
        municipality=here,
        expires_at=NOON + timedelta(days=1),
    )
    found = tokens.find(text, now=NOON)
    assert (found.pk, found.person, found.municipality, found.name) == (token.pk, ada, here, "Balkon")
    assert (found.scopes, found.expires_at) == (
        ["observations:write", "things:read"],
        NOON + timedelta(days=1),
    )


def test_text_cannot_be_read_from_the_store(here: Municipality, person: MakePerson) -> None:
    _, text = tokens.make(person(), name="Balkon", scopes=[])
    secret = text.split("_", 2)[2]
    assert len(secret) == 43, "256 bits"
    with connection.cursor() as cursor:
        cursor.execute("SELECT t::text, encode(t.digest, 'escape') FROM cities_token t")
        (row,) = cursor.fetchall()
    assert not any(secret in column for column in row)


def test_two_tokens_share_nothing(person: MakePerson) -> None:
    ada = person()
    texts = [tokens.make(ada, name="x", scopes=[])[1] for _ in range(20)]
    assert len({text.split("_", 2)[1] for text in texts}) == 20
    assert len({text.split("_", 2)[2] for text in texts}) == 20


def test_unknown_scope_is_named_and_no_token_made(person: MakePerson) -> None:
    with pytest.raises(
        ValueError, match=r"^unknown scope 'desk:enter'; known: observations:write, things:read"
    ):
        tokens.make(person(), name="x", scopes=["things:read", "desk:enter"])
    assert not Token.objects.exists()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "qt",
        "qt_",
        "qt__",
        "qt_0123456789_",
        "qt_0123456789",
        "Bearer qt_0123456789_" + "a" * 43,
        "qx_0123456789_" + "a" * 43,
        "qt_0123456789_" + "a" * 42,
        "qt_0123456789_" + "a" * 44,
        "qt_0123456789_" + "a" * 43 + "\n",
        "qt_012345678X_" + "a" * 43,
        "qt_0123456789_" + "ä" * 43,
        "qt_0123456789_" + "\udc80" * 43,
        "qt_\x00123456789_" + "a" * 43,
        "qt_\x00_\x00",
        "qt_\ud800_\ud800",
        "qt_" + "0" * 100_000 + "_x",
    ],
)
def test_malformed(text: str, db: None, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    with django_assert_num_queries(0), pytest.raises(TokenError, match=r"^malformed token$"):
        tokens.find(text)


def test_unknown(person: MakePerson) -> None:
    _, text = tokens.make(person(), name="x", scopes=[])
    other = text[:-1] + ("A" if text[-1] != "A" else "B")
    for wrong in (other, "qt_0123456789_" + "a" * 43):
        with pytest.raises(TokenError, match=r"^unknown token$"):
            tokens.find(wrong)
    assert Token.objects.get().last_used_at is None, "who guesses leaves no trace of use"


def test_expired_at_the_very_moment(person: MakePerson) -> None:
    _, text = tokens.make(person(), name="x", scopes=[], expires_at=NOON)
    tokens.find(text, now=NOON - timedelta(microseconds=1))
    with pytest.raises(TokenError, match=r"^token expired on 2026-07-01$"):
        tokens.find(text, now=NOON)


def test_revoked_wins_over_expired(person: MakePerson) -> None:
    token, text = tokens.make(person(), name="x", scopes=[], expires_at=NOON)
    Token.objects.filter(pk=token.pk).update(revoked_at=NOON - timedelta(days=1))
    with pytest.raises(TokenError, match=r"^token was revoked$"):
        tokens.find(text, now=NOON)


def test_wrong_secret_does_not_learn_that_a_token_was_revoked(person: MakePerson) -> None:
    token, text = tokens.make(person(), name="x", scopes=[])
    Token.objects.filter(pk=token.pk).update(revoked_at=NOON)
    with pytest.raises(TokenError, match=r"^unknown token$"):
        tokens.find(text[:18] + "a" * 39)


def test_use_is_noted_at_most_every_five_minutes(
    person: MakePerson, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    _, text = tokens.make(person(), name="x", scopes=[])
    seen = []
    for seconds, queries in ((0, 2), (1, 1), (300, 1), (301, 2), (302, 1)):
        with django_assert_num_queries(queries):
            tokens.find(text, now=NOON + timedelta(seconds=seconds))
        seen.append(Token.objects.get().last_used_at)
    late = NOON + timedelta(seconds=301)
    assert seen == [NOON, NOON, NOON, late, late]


def test_request_with_a_token_costs_two_queries(
    here: Municipality, person: MakePerson, django_assert_num_queries: DjangoAssertNumQueries
) -> None:
    _, text = tokens.make(
        person((Role.MAKER, here)), name="x", scopes=["observations:write"], municipality=here
    )
    tokens.find(text, now=NOON)
    with django_assert_num_queries(2):
        found = tokens.find(text, now=NOON)
        assert actor_of_token(found).may("observations:write", here.pk)
        assert found.municipality is not None
        assert found.municipality.slug == "hierstadt"
