"""Every text of every room has an English translation that fits."""

from __future__ import annotations

from pathlib import Path

import pytest
from tools import compile_messages as messages

ROOMS = messages.rooms()


@pytest.mark.parametrize("room", ROOMS, ids=[room.name for room in ROOMS])
def test_every_text_has_english(room: Path) -> None:
    missing = messages.missing(room)
    lines = "\n".join(f"{where}: {text.msgid!r}" for text, where in missing.items())
    assert not missing, (
        f"without English (tools/compile_messages.py --update {room.name} appends them):\n{lines}"
    )


@pytest.mark.parametrize("room", ROOMS, ids=[room.name for room in ROOMS])
def test_translations_keep_the_placeholders(room: Path) -> None:
    assert not messages.wrong_placeholders(room)


@pytest.mark.parametrize("room", ROOMS, ids=[room.name for room in ROOMS])
def test_nothing_is_fuzzy_or_twice(room: Path) -> None:
    path = messages.catalogue_path(room)
    entries = [message for message in messages.read(path) if message.id]
    assert [message.id for message in entries if message.fuzzy] == []
    text = path.read_text() if path.exists() else ""
    ids = [line for line in text.splitlines() if line.startswith("msgid ") and line != 'msgid ""']
    contexts = text.count("\nmsgctxt ")
    assert len(ids) - len(set(ids)) <= contexts, "a text stands twice"


def test_texts_are_found_in_templates_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    room = tmp_path / "room"
    (room / "templates/room").mkdir(parents=True)
    (room / "views.py").write_text(
        'a = _("Haus")\n'
        'b = gettext_lazy("Straße")\n'
        'c = ngettext("%(n)d Ort", "%(n)d Orte", 2)\n'
        'd = pgettext("Monat", "Mai")\n'
        'e = ("keine", "Übersetzung")\n'
    )
    (room / "templates/room/page.html").write_text(
        "{% load i18n %}\n"
        '   <p title="it\'s {% trans "Karte" %}">"quoted" text isn\'t code\n'
        " {% blocktrans count n=x %}{{ n }} Tag{% plural %}{{ n }} Tage{% endblocktrans %}\n"
        "{% blocktrans trimmed %}\n   Zwei\n   Zeilen\n{% endblocktrans %}\n"
        '{% part "x" title=_("Titel") %}{% endpart %}\n'
        '{% comment %}{% trans "nicht" %}{% endcomment %}'
    )
    assert set(messages.texts_of(room)) == {
        messages.Text("Haus"),
        messages.Text("Straße"),
        messages.Text("%(n)d Ort", "%(n)d Orte"),
        messages.Text("Mai", "", "Monat"),
        messages.Text("Karte"),
        messages.Text("%(n)s Tag", "%(n)s Tage"),
        messages.Text("Zwei Zeilen"),
        messages.Text("Titel"),
    }


def test_missing_texts_are_appended_once_and_compiled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    monkeypatch.setattr(messages, "SOURCE", tmp_path)
    room = tmp_path / "room"
    room.mkdir()
    (room / "__init__.py").write_text('a = _("Haus \\"A\\"")\nb = ngettext("Ort", "Orte", 1)\n')
    assert messages.append_missing(room) == 2
    assert len(messages.missing(room)) == 2, "an empty translation is none"
    path = messages.catalogue_path(room)
    text = path.read_text().replace('A\\""\nmsgstr ""', 'A\\""\nmsgstr "House \\"A\\""')
    path.write_text(text.replace('[0] ""', '[0] "place"').replace('[1] ""', '[1] "places"'))
    assert messages.missing(room) == {}
    assert messages.append_missing(room) == 0
    assert messages.compile_all() == 1
    assert messages.compile_all() == 0, "nothing changed"
    assert b"House" in path.with_suffix(".mo").read_bytes()


def test_wrong_placeholder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "ROOT", tmp_path)
    path = messages.catalogue_path(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(
        messages._HEADER
        + '\nmsgid "%(a)s gut"\nmsgstr "%(a)s good"\n\nmsgid "%(a)s weg"\nmsgstr "%(b)s gone"\n'
    )
    assert messages.wrong_placeholders(tmp_path) == ["'%(a)s weg' → '%(b)s gone'"]
