"""The text of a request into the values of ``ast``: percent-decoding, options, grammar, readable errors, limits.

Whatever is wrong raises ``QueryError``; nothing takes longer than in proportion to the length of the text, which is
limited. What was read is remembered: clients ask the same again and again.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path as FilePath
from typing import Any, cast
from urllib.parse import unquote_to_bytes

from lark import Lark, UnexpectedCharacters, UnexpectedEOF, UnexpectedInput, UnexpectedToken

from quartier.interfaces.sensorthings.query.apply import ApplyFold
from quartier.interfaces.sensorthings.query.ast import Options, Resource, Segment
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.fold import MAX_COUNT, MAX_LINK_DEPTH
from quartier.interfaces.sensorthings.query.values import unquoted

MAX_QUERY = 32_768  # characters of all options as sent
MAX_OPTION = 16_384  # characters of one
MAX_SEGMENTS = 30
_MAX_BRACKETS = 40
_MAX_WORDS = 400
_MAX_COMMAS = 1200
_REMEMBERED = 2048  # entries, of texts up to as many characters

_parser = Lark(
    (FilePath(__file__).parent / "grammar.lark").read_text(encoding="utf-8"),
    parser="lalr",
    lexer="contextual",
    start=["filter", "orderby", "select", "expand", "apply"],
    transformer=ApplyFold(),
    maybe_placeholders=False,
    propagate_positions=False,
)
_BY_GRAMMAR = {"filter", "orderby", "select", "expand", "apply"}
_FORMATS = {"json": "json", "dataarray": "dataArray", "csv": "CSV", "geojson": "GeoJSON"}
_METADATA = {"full": "full", "minimal": "minimal", "none": "none", "off": "none"}
_FIELDS = {
    "$filter": "filter",
    "$orderby": "orderby",
    "$top": "top",
    "$skip": "skip",
    "$count": "count",
    "$select": "select",
    "$expand": "expand",
    "$resultformat": "result_format",
    "$resultmetadata": "result_metadata",
    "$skiptoken": "skiptoken",
    "$apply": "apply",
}
OPTION_NAMES = {
    "filter": "$filter",
    "orderby": "$orderby",
    "top": "$top",
    "skip": "$skip",
    "count": "$count",
    "select": "$select",
    "expand": "$expand",
    "result_format": "$resultFormat",
    "result_metadata": "$resultMetadata",
    "skiptoken": "$skiptoken",
    "apply": "$apply",
}

# A plus is a space, as forms and most clients write it; but not where a time zone or an exponent follows, which people
# type as it is.
_PLUS = re.compile(rb"\+(?!(?<=[0-9][eE]\+)[0-9]|(?<=[0-9]\+)[0-9]{2}(?::|%3[aA])?[0-9]{2}(?![0-9]))")
_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SCAN = re.compile(
    r"'(?:[^']|'')*('?)|([()])|(,)|(\b(?:and|or|eq|ne|gt|ge|lt|le|add|sub|mul|div|mod|not|in)\b)", re.I
)


def parse_options(query: bytes | str) -> Options:
    """The options of a query string as it came, percent-encoded.

    Raises ``QueryError``: for unknown options too, for a misspelt one that is passed over gives wrong answers.
    """
    raw = query.encode(errors="surrogatepass") if isinstance(query, str) else query
    return _remembered_options(raw) if len(raw) <= _REMEMBERED else _options(raw)


def _options(raw: bytes) -> Options:
    if len(raw) > MAX_QUERY:
        raise QueryError(f"the query is longer than {MAX_QUERY} characters")
    found: dict[str, Any] = {}
    for part in raw.split(b"&"):
        if not part:
            continue
        name, equals, value = part.partition(b"=")
        option = decoded(name, "query").strip()
        field = _FIELDS.get(option.lower())
        if field is None:
            raise QueryError(_unknown(option))
        shown = OPTION_NAMES[field]
        if not equals:
            raise QueryError("a value is missing: write = and the value behind it", option=shown)
        if field in found:
            raise QueryError("given twice", option=shown)
        found[field] = parse_option(field, decoded(value, shown))
    if found.get("apply") is not None:
        for field in ("filter", "select", "expand"):
            if field in found:
                hint = "; write filter(…) within $apply" if field == "filter" else ""
                raise QueryError(f"cannot be combined with $apply{hint}", option=OPTION_NAMES[field])
        if found.get("result_format", "json") not in ("json", "CSV"):
            raise QueryError("with $apply, only json and CSV are possible", option="$resultFormat")
    return Options(**found)


_remembered_options = lru_cache(maxsize=_REMEMBERED)(_options)


def _unknown(option: str) -> str:
    known = ", ".join(OPTION_NAMES.values())
    if f"${option.lower()}" in _FIELDS:
        return f"there is no option {option}; did you mean ${option}?"
    close = get_close_matches(option.lower(), _FIELDS, n=1)
    if close:
        return f"there is no option {option}; did you mean {OPTION_NAMES[_FIELDS[close[0]]]}?"
    return f"there is no option {option[:40]}; there are {known}"


def decoded(raw: bytes, option: str = "") -> str:
    """Percent-decoded text. ``%2B`` is a plus, ``%20`` a space; for a bare plus see ``_PLUS``."""
    if b"+" in raw:
        raw = _PLUS.sub(b" ", raw)
    if b"%" in raw:
        broken = _ESCAPE.search(raw)
        if broken:
            raise QueryError("a percent sign must be followed by two hexadecimal digits", option=option)
        raw = unquote_to_bytes(raw)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise QueryError("the text is no UTF-8", option=option) from None
    if "\0" in text:
        raise QueryError("the text contains a zero byte", option=option, at=text.index("\0"))
    return text


def parse_option(field: str, text: str) -> Any:
    """The value of one field of ``Options`` from its decoded text."""
    option = OPTION_NAMES[field]
    try:
        if field in _BY_GRAMMAR:
            return _by_grammar(field, text)
        return _plain(field, text.strip())
    except QueryError as error:
        raise error.within(option) from None


def _plain(field: str, text: str) -> Any:
    match field:
        case "top" | "skip":
            if not re.fullmatch(r"[0-9]{1,10}", text) or int(text) > MAX_COUNT:
                raise QueryError(f"expected a whole number from 0 to {MAX_COUNT}, found {_shown(text)}", at=0)
            return int(text)
        case "count":
            if text.lower() not in {"true", "false"}:
                raise QueryError(f"expected true or false, found {_shown(text)}", at=0)
            return text.lower() == "true"
        case "result_format" | "result_metadata":
            known = _FORMATS if field == "result_format" else _METADATA
            found = known.get(text.lower())
            if found is None:
                names = ", ".join(dict.fromkeys(known.values()))
                raise QueryError(f"expected one of {names}, found {_shown(text)}", at=0)
            return found
        case _:
            return text


def _by_grammar(field: str, text: str) -> Any:
    _check_size(field, text)
    try:
        return _parser.parse(text, start=field)
    except UnexpectedInput as error:
        raise _explained(field, text, error) from None


def _check_size(field: str, text: str) -> None:
    """Refuse what would take long or what recursion could not walk through, before anything is made of it."""
    if len(text) > MAX_OPTION:
        raise QueryError(f"the text is longer than {MAX_OPTION} characters", at=MAX_OPTION)
    depth = commas = words = 0
    for found in _SCAN.finditer(text):
        sign = found[0]
        if sign == "(":
            depth += 1
            if depth > _MAX_BRACKETS:
                what = (
                    f"$expand may be {MAX_LINK_DEPTH}"
                    if field == "expand"
                    else f"parentheses may be {_MAX_BRACKETS}"
                )
                raise QueryError(f"{what} levels deep at most", at=found.start())
        elif sign == ")":
            depth -= 1
        elif sign == ",":
            commas += 1
        elif sign[0] == "'":
            if not found[1]:
                raise QueryError("the text that begins here has no closing quote", at=found.start())
        else:
            words += 1
    if commas > _MAX_COMMAS:
        raise QueryError(f"more than {_MAX_COMMAS} commas")
    if words > _MAX_WORDS:
        raise QueryError(f"more than {_MAX_WORDS} operators")


# -- errors for people

_MEANING = {
    "OPERATOR": "an operator (eq, ne, gt, ge, lt, le, in, and, or, add, sub, mul, div, mod)",
    "PATH": "a property",
    "NAME": "a name",
    "LPAR": "(",
    "RPAR": ")",
    "COMMA": "a comma",
    "SLASH": "/",
    "SEMICOLON": ";",
    "DIRECTION": "asc or desc",
    "VARIABLE": "a variable with a colon (as in any(d: d/name eq 'x'))",
    "INTEGER": "a whole number",
    "BOOLEAN": "true or false",
    "TEXT": "a text in single quotes",
    "WIDTH": "a duration such as PT1H or P1D",
    "_WITH": "with",
    "METHOD": "a method (average, min, max, sum, countdistinct, first, last, stddev)",
    "_AS": "as",
    "ROWS": "$count",
    "_KEEP": "filter(",
    "_GROUPBY": "groupby(",
    "_AGGREGATE": "aggregate(",
    "BUCKET": "bucket(",
    "$END": "the end",
}
_LITERALS = {
    "NULL",
    "BOOLEAN",
    "INTEGER",
    "DECIMAL",
    "TEXT",
    "INSTANT",
    "DATE",
    "TIME",
    "DURATION",
    "INTERVAL",
}


def _explained(field: str, text: str, error: UnexpectedInput) -> QueryError:
    at = len(text)
    names: set[str] = set()
    match error:
        case UnexpectedToken():
            names = set(error.accepts or error.expected)
            if error.token.type != "$END":
                at = cast(int, error.token.start_pos)
        case UnexpectedCharacters():
            names = set(error.allowed or ())
            at = cast(Any, error).pos_in_stream
        case UnexpectedEOF():  # pragma: no cover - LALR says $END instead
            names = set(error.expected)
    if field == "expand" and text[at : at + 1] == "$" and "IN_FILTER" in names:
        option = re.match(r"\$\w*", text[at:])
        return QueryError(f"{option[0] if option else '$'} cannot stand within $expand", at=at)
    return QueryError(f"expected {_expected(names)}, found {_found(text, at)}", at=at)


def _expected(names: set[str]) -> str:
    words: list[str] = []
    if any(name.startswith("IN_") for name in names):
        words.append("an option such as $select=")
    if names >= _LITERALS:
        words += ["a property", "a value", "a function"] if "PATH" in names else ["a value"]
        names = names - _LITERALS - {"PATH"}
    words += [word for name, word in _MEANING.items() if name in names]
    return (
        " or ".join((", ".join(words[:-1]), words[-1]))
        if len(words) > 1
        else "".join(words) or "something else"
    )


def _found(text: str, at: int) -> str:
    rest = text[at:]
    word = re.match(r"\s*('[^']*'?|[\w.@:$-]+|\S)", rest)
    return _shown(word[1]) if word else "the end"


def _shown(text: str) -> str:
    return repr(text[:30] + "…" if len(text) > 30 else text) if text else "nothing"


# -- the way to the data

_SEGMENT = re.compile(
    r"(\$?[^\W\d][\w.-]*|@[\w.]+)(?:\((?:(-?[0-9]{1,19})|('(?:[^']|'')*'))\))?((?:\[[0-9]{1,9}\])*)(?=/|\Z)"
)
_KEY_BEGINS = re.compile(r"[^\W\d][\w.-]*\(")
_SURROGATE = re.compile("[\ud800-\udfff]")
_SUFFIXES = {"$value", "$ref", "$count"}


@lru_cache(maxsize=_REMEMBERED)
def parse_resource(path: str) -> Resource:
    """The decoded path behind the version: ``Things(1)/Datastreams``, with or without a slash at its ends."""
    if len(path) > 2048:
        raise QueryError("the path is longer than 2048 characters", option="path")
    if "\0" in path:
        raise QueryError("the path contains a zero byte", option="path", at=path.index("\0"))
    if not path.isascii() and (broken := _SURROGATE.search(path)):
        raise QueryError("the path is no UTF-8", option="path", at=broken.start())
    segments: list[Segment] = []
    suffix: Any = None
    at = 1 if path.startswith("/") else 0
    end = len(path) - 1 if path.endswith("/") and len(path) > at else len(path)
    while at < end:
        if suffix:
            raise QueryError(f"nothing can follow {suffix}", option="path", at=at)
        found = _SEGMENT.match(path, at, end)
        if found is None:
            raise _no_segment(path, at)
        name, number, text, indices = found.groups()
        if name.startswith("$"):
            if name not in _SUFFIXES or number or text or indices:
                known = ", ".join(sorted(_SUFFIXES))
                raise QueryError(f"{name} is none of {known}", option="path", at=at)
            suffix = name
        else:
            key: int | str | None = int(number) if number else None
            if text:
                key = unquoted(text)
            places = tuple(int(place) for place in re.findall(r"[0-9]+", indices))
            segments.append(Segment(name, key, places, at))
        if len(segments) > MAX_SEGMENTS:
            raise QueryError(f"the path has more than {MAX_SEGMENTS} parts", option="path", at=at)
        at = found.end() + 1
    if suffix and not segments:
        raise QueryError(f"{suffix} needs something to follow", option="path", at=0)
    return Resource(tuple(segments), suffix)


def _no_segment(path: str, at: int) -> QueryError:
    expected = "expected a name such as Things or Things(1)"
    if (key := _KEY_BEGINS.match(path, at)) and _found(path, key.end()) != "')'":
        at = key.end()
        expected = "expected a whole number or a text in single quotes, and then )"
    return QueryError(f"{expected}, found {_found(path, at)}", option="path", at=at)
