"""Credentials at rest: readable by this installation only."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quartier.cities import secrets
from quartier.cities.models import Municipality
from quartier.cities.secrets import SecretError, seal, unseal
from quartier.config import config
from quartier.sources.models import Source

CREDENTIALS = {"url": "https://element.example", "user": "stadtwerke", "api_key": "Wfl7!geheim-ä"}

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), _json, max_size=5))
def test_unseal_gives_back_what_was_sealed(value: dict[str, object]) -> None:
    assert unseal(seal(value)) == value


def test_nothing_is_readable_in_what_is_stored(here: Municipality) -> None:
    source = Source(municipality=here, key="netz", name="Netz", kind="element")
    source.credentials = CREDENTIALS
    source.save()
    stored = Source.objects.values_list("sealed_credentials", flat=True).get()
    opened = base64.urlsafe_b64decode(stored).decode("latin-1")
    for text in (
        *CREDENTIALS,
        *CREDENTIALS.values(),
        base64.b64encode(CREDENTIALS["api_key"].encode()).decode(),
    ):
        assert text not in stored
        assert text not in opened
    assert Source.objects.get().credentials == CREDENTIALS


def test_same_credentials_look_different_each_time() -> None:
    assert seal(CREDENTIALS) != seal(CREDENTIALS)


def test_no_credentials_are_an_empty_text(here: Municipality) -> None:
    assert unseal("") == {}
    source = Source(municipality=here, key="netz", name="Netz", kind="element")
    source.credentials = {}
    assert source.sealed_credentials == ""


@pytest.mark.parametrize("change", ["another secret", "cut", "changed", "not sealed at all", "ä"])
def test_what_cannot_be_opened_says_so(change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sealed = seal(CREDENTIALS)
    match change:
        case "another secret":
            other = replace(config(), secret_key="another installation's secret")
            monkeypatch.setattr(secrets, "config", lambda: other)
        case "cut":
            sealed = sealed[:-8]
        case "changed":
            sealed = sealed[:40] + ("A" if sealed[40] != "A" else "B") + sealed[41:]
        case _:
            sealed = change
    with pytest.raises(
        SecretError, match=r"^stored credentials were sealed with another secret key$"
    ) as caught:
        unseal(sealed)
    assert "geheim" not in repr(caught.value)
    assert caught.value.__cause__ is None
