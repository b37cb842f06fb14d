"""What is written is read as the same; whatever is sent is read or refused with a reason, quickly."""

from __future__ import annotations

import time
from urllib.parse import unquote

from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.interfaces.sensorthings.query.ast import Expression, Options, Resource
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.fold import MAX_DEPTH
from quartier.interfaces.sensorthings.query.format import format_expression, format_options, format_resource
from quartier.interfaces.sensorthings.query.parse import parse_option, parse_options, parse_resource
from tests.interfaces.sensorthings.query.strategies import expressions, options, resources
from tests.patience import patient


@settings(deadline=None)
@given(expressions)
def test_expressions_survive_being_written(expression: Expression) -> None:
    assert parse_option("filter", format_expression(expression)) == expression


@settings(max_examples=60, deadline=None)
@given(options)
def test_options_survive_being_written(given_options: Options) -> None:
    text = format_options(given_options)
    assert text.isascii()
    assert " " not in text
    assert parse_options(text) == given_options


@settings(deadline=None)
@given(resources)
def test_ways_survive_being_written(resource: Resource) -> None:
    assert parse_resource(unquote(format_resource(resource))) == resource


PIECES = (
    "$filter= $orderby= $expand= $select= $apply= $top= $count= & ; , / ( ) ' '' and or not in eq gt add div - + %20 "
    "%2B %zz % result name Datastream/Thing Things( any(d:d/x all( 5 -5 1e9 1.5 null true geography'POINT(7 51)' "
    "2026-01-01T00:00:00Z 2026-01-01 12:00 P1D duration'P1D' 2026-01-01T00:00:00Z/P1D filter( groupby(( bucket( now( "
    "aggregate( with average as x $count distinct: asc desc [0] @iot.id $value ü \x00 substringof( st_within("
)
pieces = st.sampled_from(PIECES.split(" "))


def refusal(text: str | bytes) -> QueryError | None:
    """Why a query is refused."""
    try:
        parse_options(text)
    except QueryError as error:
        return error
    return None


def well_told(error: QueryError | None, text: str | bytes) -> bool:
    """Whether an error has a sentence, and a place within the text."""
    return error is None or (bool(error.reason) and (error.at is None or 0 <= error.at <= len(text)))


@settings(max_examples=300, deadline=None)
@given(st.lists(pieces | st.text(max_size=3), max_size=25).map(" ".join) | st.text(max_size=60))
def test_nothing_but_query_errors(text: str) -> None:
    for start in ("", "$filter=", "$expand=", "$apply=", "$orderby=", "$select="):
        assert well_told(refusal(start + text), start + text)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_are_refused_or_read(raw: bytes) -> None:
    for start in (b"", b"$filter=", b"$skiptoken="):
        assert well_told(refusal(start + raw), start + raw)


@settings(deadline=None)
@given(st.text(max_size=40))
def test_paths_are_refused_or_read(text: str) -> None:
    refused: QueryError | None = None
    try:
        parse_resource(text)
    except QueryError as error:
        refused = error
    assert well_told(refused, text)


@settings(max_examples=25, deadline=None)
@given(pieces | st.sampled_from(["((", "x(", "-", "not ", "'", "a/", "a or ", "(a,", "P1D/", "[0]", "1e"]))
def test_long_texts_take_no_longer_than_a_moment(piece: str) -> None:
    for start in ("$filter=", "$expand=", "$apply=", "$select=", "$orderby="):
        text = start + piece * (16_000 // len(piece))
        began = time.process_time()
        assert well_told(refusal(text), text)
        assert time.process_time() - began < patient(1)


@settings(deadline=None)
@given(
    st.integers(0, 60), st.sampled_from(["({})", "not ({})", "-{}", "floor({})", "a/any(d:{})", "1 add ({})"])
)
def test_deep_expressions_are_refused(depth: int, pattern: str) -> None:
    text = "x"
    for _ in range(depth):
        text = pattern.format(text)
    error = refusal(f"$filter={text}")
    levels = 0 if pattern == "({})" else depth
    if levels >= MAX_DEPTH or ("(" in text and depth > MAX_DEPTH):
        assert error is not None
        assert str(MAX_DEPTH) in error.reason
    else:
        assert error is None
