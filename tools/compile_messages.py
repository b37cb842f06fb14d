"""Compile the translations of all rooms, and tell which texts have none. Needs Babel only, no gettext tools.

    python tools/compile_messages.py              compile every django.po that changed
    python tools/compile_messages.py --missing    list texts of templates and code without an English translation
    python tools/compile_messages.py --update     append those texts, untranslated, to the room's django.po

Msgids are German, the language in which pages are written; each room holds its English in
``locale/en/LC_MESSAGES/django.po``. German catalogues hold other people's texts that we put in our own words.
"""
# ruff: noqa: T201 (a command line tool speaks by printing)

from __future__ import annotations

import argparse
import io
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src/quartier"
LANGUAGE = "en"
_KEYWORDS = {
    **DEFAULT_KEYWORDS,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext_lazy": (1, 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext_lazy": ((1, "c"), 2, 3),
}
_PLACEHOLDER = re.compile(r"%\((\w+)\)|%(?=[sd%])")
_HEADER = """msgid ""
msgstr ""
"Language: en\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\\n"
"""


@dataclass(frozen=True, slots=True, order=True)
class Text:
    """A text to translate; ``plural`` and ``context`` are empty where there is none."""

    msgid: str
    plural: str = ""
    context: str = ""


def rooms() -> list[Path]:
    """Folders of the rooms (and of nothing else)."""
    return sorted(folder for folder in SOURCE.iterdir() if (folder / "__init__.py").is_file())


def catalogue_path(room: Path) -> Path:
    """Where a room's English stands."""
    return room / "locale" / LANGUAGE / "LC_MESSAGES/django.po"


def _python(path: Path) -> str:
    return path.read_text()


def _template(path: Path) -> str:
    # Django turns a template into what looks like code with gettext calls. Its indentation means nothing.
    from django.utils.translation.template import templatize  # noqa: PLC0415 (Django is not needed to compile)

    return "\n".join(line.lstrip() for line in templatize(path.read_text(), origin=str(path)).splitlines())


def _texts(code: str) -> Iterator[Text]:
    found = extract("python", io.BytesIO(code.encode()), _KEYWORDS, options={"encoding": "utf-8"})
    for _line, messages, _comments, context in found:
        parts = (messages,) if isinstance(messages, str) else tuple(m for m in messages if m)
        if parts and parts[0]:
            yield Text(parts[0], parts[1] if len(parts) > 1 else "", context or "")


def texts_of(room: Path) -> dict[Text, str]:
    """Every text of a room's templates and code, and the file in which it first stands."""
    found: dict[Text, str] = {}
    files = [*((p, _python) for p in sorted(room.rglob("*.py")) if "migrations" not in p.parts)]
    files += [(p, _template) for p in sorted(room.rglob("templates/**/*")) if p.suffix in (".html", ".txt")]
    for path, read in files:
        for text in _texts(read(path)):
            found.setdefault(text, str(path.relative_to(ROOT)))
    return found


def read(path: Path) -> Catalog:
    """A catalogue; an empty one where the file is missing."""
    if not path.exists():
        return Catalog(locale=LANGUAGE)
    with path.open("rb") as file:
        return read_po(file, locale=path.parents[1].name, abort_invalid=True)


def translations(path: Path) -> dict[Text, str]:
    """Text -> English of one catalogue; fuzzy and empty entries count as missing."""
    found: dict[Text, str] = {}
    for message in read(path):
        if not message.id or message.fuzzy:
            continue
        msgid, plural = (message.id, "") if isinstance(message.id, str) else (message.id[0], message.id[1])
        strings = (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
        if strings and all(strings):
            found[Text(msgid, plural, message.context or "")] = "\n".join(strings)
    return found


def missing(room: Path) -> dict[Text, str]:
    """Texts of a room without English, neither in its own catalogue nor in that of another room."""
    known: set[Text] = set()
    for other in rooms():
        known |= translations(catalogue_path(other)).keys()
    return {text: where for text, where in texts_of(room).items() if text not in known}


def wrong_placeholders(room: Path) -> list[str]:
    """Translations whose placeholders differ from those of the text: they would fail when the page is shown."""
    wrong = []
    for text, english in translations(catalogue_path(room)).items():
        wanted = {m.group() for m in _PLACEHOLDER.finditer(text.msgid + text.plural)}
        if wanted != {m.group() for m in _PLACEHOLDER.finditer(english)}:
            wrong.append(f"{text.msgid!r} → {english!r}")
    return wrong


def compile_all() -> int:
    """Write every django.mo that is older than its django.po; returns how many."""
    done = 0
    for source in sorted(SOURCE.glob("*/locale/*/LC_MESSAGES/django.po")):
        target = source.with_suffix(".mo")
        if target.exists() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns:
            continue
        # Written beside and renamed: another process may be reading.
        beside = target.with_suffix(f".{os.getpid()}.tmp")
        with beside.open("wb") as file:
            write_mo(file, read(source))
        beside.replace(target)
        done += 1
    return done


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'


def append_missing(room: Path) -> int:
    """Append a room's untranslated texts to its catalogue; returns how many."""
    found = missing(room)
    if not found:
        return 0
    path = catalogue_path(room)
    path.parent.mkdir(parents=True, exist_ok=True)
    blocks = [] if path.exists() else [_HEADER]
    for text, where in found.items():
        lines = [f"#: {where}"]
        if text.context:
            lines.append(f"msgctxt {_quoted(text.context)}")
        lines.append(f"msgid {_quoted(text.msgid)}")
        if text.plural:
            lines += [f"msgid_plural {_quoted(text.plural)}", 'msgstr[0] ""', 'msgstr[1] ""']
        else:
            lines.append('msgstr ""')
        blocks.append("\n".join(lines) + "\n")
    with path.open("a") as file:
        file.write("\n" + "\n".join(blocks))
    return len(found)


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--missing", action="store_true", help="list texts without English")
    parser.add_argument(
        "--update", action="store_true", help="append texts without English to the catalogues"
    )
    parser.add_argument("rooms", nargs="*", help="only these rooms (names of folders)")
    arguments = parser.parse_args()
    chosen = [room for room in rooms() if not arguments.rooms or room.name in arguments.rooms]
    if arguments.update:
        for room in chosen:
            print(f"{room.name}: {append_missing(room)} added")
        return 0
    if arguments.missing:
        lines = [f"{where}: {text.msgid!r}" for room in chosen for text, where in missing(room).items()]
        print("\n".join(lines) or "nothing is missing")
        return 1 if lines else 0
    print(f"translations: {compile_all()} compiled")
    return 0


if __name__ == "__main__":
    sys.exit(main())
