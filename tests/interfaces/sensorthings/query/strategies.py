"""Any query that can be asked, for hypothesis."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta, timezone
from decimal import Decimal
from typing import Any

from hypothesis import strategies as st

from quartier.interfaces.sensorthings.query.ast import (
    FUNCTIONS,
    Aggregate,
    And,
    Apply,
    Arithmetic,
    Bucket,
    Call,
    Compare,
    Duration,
    Expand,
    Expression,
    Geometry,
    In,
    Interval,
    Literal,
    Negate,
    Not,
    Options,
    Or,
    Order,
    Path,
    Quantified,
    Resource,
    Segment,
    Select,
)

# Words that mean something elsewhere are names here, to see that places tell them apart.
names = st.sampled_from(
    ["result", "phenomenonTime", "name", "Datastreams", "and", "in", "date", "desc", "filter", "höhe", "x_1"]
)
first_steps = names | st.sampled_from(["id", "dcat:title", "kurz-name"])
later_steps = (
    names
    | st.integers(0, 999)
    | st.sampled_from(["0", "@iot.id", "$x", "a b", "it's", "a/b", "%41", "+", "[0]", "(", "ä;&=#"])
)
paths = st.just(Path(("@iot.id",))) | st.builds(
    lambda first, rest: Path((first, *rest)), first_steps, st.lists(later_steps, max_size=3)
)
zones = st.sampled_from([UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=3, minutes=30))])
instants = st.datetimes(timezones=zones).filter(lambda moment: 1 < moment.year < 9999)
durations = st.builds(
    lambda sign, months, rest: Duration(sign * months, sign * rest),
    st.sampled_from([1, -1]),
    st.integers(0, 30),
    st.timedeltas(timedelta(0), timedelta(days=400)),
)
literals = st.one_of(
    st.just(Literal("null", None)),
    st.booleans().map(lambda value: Literal("boolean", value)),
    st.integers(-(10**20), 10**20).map(lambda value: Literal("integer", value)),
    st.decimals(-(10**9), 10**9, allow_nan=False, allow_infinity=False).map(lambda v: Literal("decimal", v)),
    st.sampled_from(["5E+3", "1E-7", "0.10"]).map(lambda text: Literal("decimal", Decimal(text))),
    st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=8).map(
        lambda v: Literal("text", v)
    ),
    instants.map(lambda value: Literal("instant", value)),
    st.dates().map(lambda value: Literal("date", value)),
    st.times().map(lambda value: Literal("time", value)),
    durations.map(lambda value: Literal("duration", value)),
    st.tuples(instants, instants).map(lambda two: Literal("interval", Interval(min(two), max(two)))),
    st.sampled_from(["POINT (7.46 51.51)", "LINESTRING (0 0, 1 1)"]).map(
        lambda wkt: Literal("geometry", Geometry(wkt))
    ),
)


def _negated(operand: Expression) -> Expression:
    if isinstance(operand, Literal) and operand.kind in {"integer", "decimal"}:
        return operand
    return Negate(operand)


def _joined(kind: type[And] | type[Or], operands: list[Expression]) -> Expression:
    flat: list[Expression] = []
    for one in operands:
        flat += one.operands if isinstance(one, kind) else (one,)
    return kind(tuple(flat))


def _call(name: str, arguments: list[Expression]) -> Expression:
    return Call(name, tuple(arguments[: FUNCTIONS[name][1]]))


def combined(
    leaves: st.SearchStrategy[Expression], links: Sequence[str], *, most: int = 12
) -> st.SearchStrategy[Expression]:
    """Expressions of ``leaves``, also on the targets of ``links``."""
    ways = st.lists(st.sampled_from(links), min_size=1, max_size=3) if links else st.nothing()
    paths_to_many = ways.map(lambda steps: Path(tuple(steps)))

    def larger(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
        callable_names = sorted(set(FUNCTIONS) - {"st_relate"})
        return st.one_of(
            st.builds(_joined, st.sampled_from([And, Or]), st.lists(inner, min_size=2, max_size=4)),
            st.builds(Not, inner),
            st.builds(_negated, inner),
            st.builds(Compare, st.sampled_from(["eq", "ne", "gt", "ge", "lt", "le"]), inner, inner),
            st.builds(Arithmetic, st.sampled_from(["add", "sub", "mul", "div", "mod"]), inner, inner),
            st.builds(In, inner, st.lists(literals, min_size=1, max_size=3).map(tuple)),
            st.builds(_call, st.sampled_from(callable_names), st.lists(inner, min_size=3, max_size=3)),
            st.builds(Quantified, st.just("any"), paths_to_many),
            st.builds(Quantified, st.sampled_from(["any", "all"]), paths_to_many, st.just("d"), inner),
        )

    return st.recursive(leaves, larger, max_leaves=most)


expressions = combined(literals | paths, ["Datastreams", "Thing", "and"])
orders = st.builds(Order, expressions, st.booleans())
selects = st.builds(Select, st.lists(paths, min_size=1, max_size=3, unique=True).map(tuple), st.booleans())
numbers = st.none() | st.integers(0, 2**31 - 1)


def _nested(links: Any) -> dict[str, Any]:
    return {
        "filter": st.none() | expressions,
        "orderby": st.lists(orders, max_size=2).map(tuple),
        "top": numbers,
        "skip": numbers,
        "count": st.none() | st.booleans(),
        "select": st.none() | selects,
        "expand": st.lists(links, max_size=2, unique_by=lambda link: link.name).map(tuple),
    }


link_names = st.sampled_from(["Datastreams", "Thing", "Locations", "Observations"])
links = st.recursive(
    st.builds(Expand, link_names, st.just(Options())),
    lambda inner: st.builds(Expand, link_names, st.builds(Options, **_nested(inner))),
    max_leaves=4,
)
widths = st.sampled_from(
    [Duration(0, timedelta(minutes=15)), Duration(0, timedelta(days=7)), Duration(3, timedelta(0))]
)
buckets = st.builds(Bucket, paths, widths, st.sampled_from(["UTC", "Europe/Berlin"]), st.just("bucket"))
aggregates = st.one_of(
    st.just(Aggregate("count", None, "n")),
    st.builds(Aggregate, st.sampled_from(["average", "min", "first", "stddev"]), paths, st.just("a")),
)
applies = st.builds(
    Apply,
    st.none() | expressions,
    st.lists(buckets, max_size=1).map(tuple),
    st.lists(aggregates, min_size=1, max_size=2, unique_by=lambda one: one.alias).map(tuple),
)
tokens = st.none() | st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1).map(str.strip)
options = st.one_of(
    st.builds(
        Options,
        **_nested(links),
        result_format=st.sampled_from([None, "json", "dataArray", "CSV", "GeoJSON"]),
        result_metadata=st.sampled_from([None, "full", "minimal", "none"]),
        skiptoken=tokens,
    ),
    st.builds(Options, apply=applies, top=numbers),
)
segments = st.builds(
    Segment,
    st.sampled_from(["Things", "Datastreams", "name", "@iot.id", "höhe"]),
    st.none()
    | st.integers(-(10**18), 10**18)
    | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=5),
    st.just(()),
)
resources = st.builds(
    Resource, st.lists(segments, min_size=1, max_size=5).map(tuple), st.sampled_from([None, "$value", "$ref"])
)
