"""Tags and parts of the pages."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django import forms
from django.template import Context, Template
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st
from tools import compile_messages

from quartier.portal import assets
from quartier.portal.open_data_views import interval_in_words
from quartier.portal.templatetags.portal import age_in_words


@pytest.fixture(scope="module", autouse=True)
def _translations() -> None:
    compile_messages.compile_all()


def render(source: str, **values: object) -> str:
    return Template("{% load portal %}" + source).render(Context(values))


@pytest.mark.parametrize(
    ("seconds", "german", "english"),
    [
        (-5, "gerade eben", "just now"),
        (0, "gerade eben", "just now"),
        (59.9, "gerade eben", "just now"),
        (60, "vor 1 Minute", "1 minute ago"),
        (119, "vor 1 Minute", "1 minute ago"),
        (120, "vor 2 Minuten", "2 minutes ago"),
        (3599, "vor 59 Minuten", "59 minutes ago"),
        (3600, "vor 1 Stunde", "1 hour ago"),
        (47 * 3600, "vor 47 Stunden", "47 hours ago"),
        (48 * 3600, "vor 2 Tagen", "2 days ago"),
        (59 * 86400, "vor 59 Tagen", "59 days ago"),
        (60 * 86400, "vor 1 Monat", "1 month ago"),
        (400 * 86400, "vor 13 Monaten", "13 months ago"),
        (1426 * 86400, "vor 3 Jahren", "3 years ago"),
    ],
)
def test_age_is_one_number_and_one_unit(seconds: float, german: str, english: str) -> None:
    with translation.override("de"):
        assert age_in_words(seconds) == german
    with translation.override("en"):
        assert age_in_words(seconds) == english


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e9, max_value=1e12))
def test_age_of_any_length_has_words(seconds: float) -> None:
    assert age_in_words(seconds)


def test_age_names_the_moment_for_machines_and_in_local_time_for_people() -> None:
    moment = datetime(2026, 7, 1, 10, 30, tzinfo=UTC)
    with translation.override("de"):
        text = render("{% age moment now %}", moment=moment, now=moment + timedelta(minutes=3))
    assert text == (
        '<time class="q-age" data-age datetime="2026-07-01T10:30:00Z" title="1. Juli 2026 12:30">vor 3 Minuten</time>'
    )
    assert "noch nie" in render("{% age nothing %}", nothing=None)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, ""),
        (1, "jede Sekunde"),
        (60, "jede Minute"),
        (600, "alle 10 Minuten"),
        (3600, "jede Stunde"),
        (90, "alle 90 Sekunden"),
        (86400, "jeden Tag"),
        (172800, "alle 2 Tage"),
    ],
)
def test_interval_in_words(seconds: int | None, words: str) -> None:
    with translation.override("de"):
        assert interval_in_words(seconds) == words


def test_part_does_not_see_the_page() -> None:
    source = '{% part "button" kind="secondary" %}Los{% endpart %}'
    assert render(source) == render(
        source, address="/x/", icon="add", name="n", content="nein", disabled=True
    )
    assert "/x/" not in render(source, address="/x/")


def test_part_escapes_its_arguments_and_not_its_content() -> None:
    text = render(
        '{% part "card" title=title address=address %}<b>{{ body }}</b>{% endpart %}',
        title="<i>",
        address="/a?b&c",
        body="<u>",
    )
    assert "&lt;i&gt;" in text
    assert "<b>&lt;u&gt;</b>" in text
    assert 'href="/a?b&amp;c"' in text


class _Form(forms.Form):
    name = forms.CharField(label="Name", help_text="Wie es heißt", max_length=5)
    choice = forms.ChoiceField(label="Wahl", choices=[("a", "A"), ("b", "B")], required=False)
    several = forms.MultipleChoiceField(
        label="Mehreres", choices=[("a", "A")], widget=forms.CheckboxSelectMultiple, help_text="Haken"
    )
    one = forms.ChoiceField(label="Eines", choices=[("a", "A")], widget=forms.RadioSelect)
    agree = forms.BooleanField(label="Ja")
    long = forms.CharField(label="Lang", widget=forms.Textarea(attrs={"class": "q-code"}))
    secret = forms.CharField(widget=forms.HiddenInput, initial="x")


@pytest.mark.parametrize(
    ("name", "css"),
    [
        ("name", "kern-form-input__input"),
        ("choice", "kern-form-input__select"),
        ("several", "kern-form-check__checkbox"),
        ("one", "kern-form-check__radio"),
        ("agree", "kern-form-check__checkbox"),
        ("long", "kern-form-input__input q-code"),
    ],
)
def test_field_has_kerns_class_and_its_label(name: str, css: str) -> None:
    text = render("{% field bound %}", bound=_Form()[name])
    assert f'class="{css}"' in text
    assert str(_Form()[name].label) in text


def test_field_links_hint_and_error() -> None:
    form = _Form({"name": "zu lang", "several": []})
    text = render("{% field bound autocomplete='off' %}", bound=form["name"])
    assert 'aria-describedby="id_name_helptext id_name_error"' in text
    assert 'id="id_name_helptext"' in text
    assert 'id="id_name_error"' in text
    assert 'aria-invalid="true"' in text
    assert 'autocomplete="off"' in text
    group = render("{% field bound %}", bound=form["several"])
    assert 'aria-describedby="id_several_helptext id_several_error"' in group


def test_hidden_field_is_bare() -> None:
    assert render("{% field bound %}", bound=_Form()["secret"]) == (
        '<input type="hidden" name="secret" value="x" id="id_secret">'
    )


def test_optional_fields_say_so() -> None:
    with translation.override("de"):
        assert "optional" in render("{% field bound %}", bound=_Form()["choice"])
        assert "optional" not in render("{% field bound %}", bound=_Form()["name"])


def test_language_address_keeps_the_rest_of_the_query(rf: object) -> None:
    from django.test import RequestFactory

    request = RequestFactory().get("/orte/?a=1&lang=de&b=2")
    assert render("{% language_address 'en' %}", request=request) == "?a=1&amp;lang=en&amp;b=2"


def test_theme_may_replace_a_part(tmp_path: object) -> None:
    assert render("{% theme_part 'city_footer' %}", theme="no-such-theme").strip() == ""


def test_plain_static_files_carry_their_digest() -> None:
    address = assets.static_url("portal/mark.svg")
    assert address.startswith("/static/portal/mark.svg?v=")
    assert address == assets.static_url("portal/mark.svg")
    with pytest.raises(FileNotFoundError):
        assets.static_url("portal/none.svg")


def test_themes_are_used_where_there_is_a_file() -> None:
    files = assets.theme_files(["dortmund", "atlantis", "schwerte"])
    assert [file.split("?")[0] for file in files] == [
        "/static/portal/themes/dortmund.css",
        "/static/portal/themes/schwerte.css",
    ]


def test_page_works_before_the_front_end_is_built(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    monkeypatch.setattr(assets, "BUILD", tmp_path)
    assert assets.entry("main") == assets.Entry()


def test_unknown_entry_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    from pathlib import Path

    folder = Path(str(tmp_path))
    (folder / "manifest.json").write_text(
        '{"main.ts": {"file": "assets/main-1.js", "name": "main", "isEntry": true, "css": ["assets/main-1.css"]},'
        ' "f": {"file": "assets/FiraSans-Regular-1.woff2"}}'
    )
    monkeypatch.setattr(assets, "BUILD", folder)
    assert assets.entry("main") == assets.Entry(
        styles=("/static/build/assets/main-1.css",),
        scripts=("/static/build/assets/main-1.js",),
        preloads=("/static/build/assets/FiraSans-Regular-1.woff2",),
    )
    with pytest.raises(LookupError, match="'map'"):
        assets.entry("map")
