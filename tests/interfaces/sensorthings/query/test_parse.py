"""Known queries: from 18-088 section 9.3, from FROST's documentation, and what clients get wrong."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from quartier.interfaces.sensorthings.query.ast import (
    And,
    Arithmetic,
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
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import parse_options, parse_resource

RESULT = Path(("result",))
TIME = Path(("phenomenonTime",))


def whole(number: int) -> Literal:
    return Literal("integer", number)


def text(value: str) -> Literal:
    return Literal("text", value)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("result lt 10.00", Compare("lt", RESULT, Literal("decimal", Decimal("10.00")))),
        (
            "result lt 10 or result gt 5 and not result eq -7",  # and before or; not behind comparisons
            Or(
                (
                    Compare("lt", RESULT, whole(10)),
                    And((Compare("gt", RESULT, whole(5)), Not(Compare("eq", RESULT, whole(-7))))),
                )
            ),
        ),
        (
            "(a or b) and (c and d)",
            And((Or((Path(("a",)), Path(("b",)))), Path(("c",)), Path(("d",)))),
        ),
        (
            "result add 5 mul 2 sub 1 gt 8 eq true",  # relations before equality
            Compare(
                "eq",
                Compare(
                    "gt",
                    Arithmetic(
                        "sub",
                        Arithmetic("add", RESULT, Arithmetic("mul", whole(5), whole(2))),
                        whole(1),
                    ),
                    whole(8),
                ),
                Literal("boolean", True),
            ),
        ),
        ("-result in (1,-2.5,'x',null)", In(
            Negate(RESULT),
            (whole(1), Literal("decimal", Decimal("-2.5")), text("x"), Literal("null", None)),
        )),
        ("- 5 eq result", Compare("eq", whole(-5), RESULT)),
        ("substringof('Sensor Things', description)", Call(
            "substringof", (text("Sensor Things"), Path(("description",)))
        )),
        ("contains(description, 'x')", Call("substringof", (text("x"), Path(("description",))))),
        ("EndsWith(name, 'it''s') EQ TRUE", Compare(
            "eq", Call("endswith", (Path(("name",)), text("it's"))), Literal("boolean", True)
        )),
        ("Datastream/ObservedProperty/properties/tags[0]/'a b'/0 eq 'x'", Compare(
            "eq", Path(("Datastream", "ObservedProperty", "properties", "tags", 0, "a b", "0")), text("x")
        )),
        ("@iot.id eq 5 and and eq in", And(
            (Compare("eq", Path(("@iot.id",)), whole(5)), Compare("eq", Path(("and",)), Path(("in",))))
        )),
        ("null eq not/null", Compare("eq", Literal("null", None), Path(("not", "null")))),
        ("phenomenonTime ge 2026-07-01T00:00:00.1234567+02:00", Compare("ge", TIME, Literal(
            "instant", datetime(2026, 7, 1, 0, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
        ))),
        ("phenomenonTime add duration'P1DT2H' gt now()", Compare(
            "gt",
            Arithmetic("add", TIME, Literal("duration", Duration(0, timedelta(days=1, hours=2)))),
            Call("now", ()),
        )),
        ("during(phenomenonTime, 2024-01-31T00:00:00Z/P1M)", Call("during", (TIME, Literal(
            "interval", Interval(datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 29, tzinfo=UTC))
        )))),
        ("phenomenonTime lt P1W/2024-03-10T00:00:00Z", Compare("lt", TIME, Literal(
            "interval", Interval(datetime(2024, 3, 3, tzinfo=UTC), datetime(2024, 3, 10, tzinfo=UTC))
        ))),
        ("geo.distance(location, geography'POINT (-122 43)') gt 1", Compare(
            "gt",
            Call("geo.distance", (Path(("location",)), Literal("geometry", Geometry("POINT (-122 43)")))),
            whole(1),
        )),
        ("st_within(location, geometry'SRID=4326;POINT(7 51)')", Call(
            "st_within", (Path(("location",)), Literal("geometry", Geometry("POINT(7 51)")))
        )),
        ("Datastreams/any(d: d/ObservedProperty/name eq 'x') and Locations/any()", And(
            (
                Quantified(
                    "any", Path(("Datastreams",)), "d",
                    Compare("eq", Path(("d", "ObservedProperty", "name")), text("x")),
                ),
                Quantified("any", Path(("Locations",))),
            )
        )),
    ],
)  # fmt: skip
def test_filters(written: str, expected: Expression) -> None:
    assert parse_options(f"$filter={written}") == Options(filter=expected)


def test_all_options() -> None:
    query = (
        "$filter=result%20gt%205&$orderBy=phenomenonTime%20desc,Datastream/id&$top=5&$skip=10&$count=TRUE"
        "&$select=distinct:name,properties/a&$resultFormat=geojson&$resultMetadata=off&$skiptoken=a.b&"
    )
    assert parse_options(query.encode()) == Options(
        filter=Compare("gt", RESULT, whole(5)),
        orderby=(Order(TIME, descending=True), Order(Path(("Datastream", "id")))),
        top=5,
        skip=10,
        count=True,
        select=Select((Path(("name",)), Path(("properties", "a"))), distinct=True),
        result_format="GeoJSON",
        result_metadata="none",
        skiptoken="a.b",
    )


def test_nested_options() -> None:
    query = (
        "$expand=Datastreams($select=name;$count=true;"
        "$expand=Observations($filter=result in (1,2);$orderby=phenomenonTime desc;$top=1;$skip=0)),Locations()"
    )
    observations = Options(
        filter=In(RESULT, (whole(1), whole(2))), orderby=(Order(TIME, descending=True),), top=1, skip=0
    )
    datastreams = Options(
        select=Select((Path(("name",)),)), count=True, expand=(Expand("Observations", observations),)
    )
    assert parse_options(query) == Options(
        expand=(Expand("Datastreams", datastreams), Expand("Locations", Options()))
    )


def test_paths_in_expand_share_what_they_begin_with() -> None:
    short = parse_options("$expand=Datastreams($top=2)/Sensor,Datastreams/ObservedProperty,Locations")
    assert short == parse_options("$expand=Datastreams($top=2;$expand=Sensor,ObservedProperty),Locations")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"$filter=name+eq+'a%2Bb%20c'", Compare("eq", Path(("name",)), text("a+b c"))),
        (b"$filter=name%20eq%20'100%25'", Compare("eq", Path(("name",)), text("100%"))),
        (b"$filter=name eq '%26%3D;%C3%BC'", Compare("eq", Path(("name",)), text("&=;ü"))),
        ("$filter=name eq 'ü'".encode(), Compare("eq", Path(("name",)), text("ü"))),
        (
            b"$filter=result+lt+1e+3+and+phenomenonTime+gt+2026-01-01T00:00:00+01:00",  # typed, not encoded
            And(
                (
                    Compare("lt", RESULT, Literal("decimal", Decimal(1000))),
                    Compare(
                        "gt",
                        TIME,
                        Literal("instant", datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1)))),
                    ),
                )
            ),
        ),
    ],
)
def test_percent_encoding(query: bytes, expected: Expression) -> None:
    assert parse_options(query) == Options(filter=expected)


OPERATORS = "an operator (eq, ne, gt, ge, lt, le, in, and, or, add, sub, mul, div, mod)"


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("$filter=result gtt 5", f"$filter, character 8: expected {OPERATORS} or the end, found 'gtt'"),
        ("$filter=result gt", "$filter, character 10: expected a property, a value, a function or (, found the end"),
        ("$filter=(a eq 5", "$filter, character 8: expected ), found the end"),
        ("$filter=lenght(name) eq 1", "$filter, character 1: there is no function lenght; did you mean length?"),
        ("$filter=substring(a)", "$filter, character 1: substring takes 2 or 3 arguments, not 1"),
        ("$filter=name eq 'abc", "$filter, character 9: the text that begins here has no closing quote"),
        ("$filter=result in ()", "$filter, character 12: expected a value, found ')'"),
        (
            "$filter=phenomenonTime gt 2026-01-01T00:00:00",
            "$filter, character 19: 2026-01-01T00:00:00 has no time zone; append Z or an offset such as +02:00",
        ),
        ("$filter=a eq 2026-02-30", "$filter, character 6: 2026-02-30 does not exist in the calendar"),
        (
            "$filter=a eq 2026-01-02T00:00:00Z/2026-01-01T00:00:00Z",
            "$filter, character 6: 2026-01-02T00:00:00Z/2026-01-01T00:00:00Z ends before it starts",
        ),
        ("$filter=a eq 1e999", "$filter, character 6: the number 1e999 is too large"),
        (
            "$filter=st_within(a,geography'POINT(1)')",
            "$filter, character 13: this is no well-known text: ParseException: Expected number but encountered ')'",
        ),
        ("$filter=st_within(a,geography'POINT EMPTY')", "$filter, character 13: the geometry is empty"),
        (
            "$filter=st_within(a,geography'SRID=25832;POINT(1 2)')",
            "$filter, character 13: only WGS 84 (SRID=4326) is understood, not SRID=25832",
        ),
        (
            "$filter=st_relate(a,geography'POINT(1 2)','x')",
            "$filter, character 35: st_relate takes a pattern of nine signs of TF012*",
        ),
        (
            "$filter=a/all()",
            "$filter, character 1: all needs a condition, such as all(d: d/name eq 'x')",
        ),
        ("$filter=", "$filter, character 1: expected a property, a value, a function or (, found the end"),
        ("$filter=1 eq 1&$filter=2 eq 2", "$filter: given twice"),
        ("$filter", "$filter: a value is missing: write = and the value behind it"),
        ("$filter=%zz", "$filter: a percent sign must be followed by two hexadecimal digits"),
        ("$filter=%ff", "$filter: the text is no UTF-8"),
        ("$filter=name eq '\ud800'", "$filter: the text is no UTF-8"),
        ("$filter=name eq '%00'", "$filter, character 10: the text contains a zero byte"),
        ("$filer=x", "there is no option $filer; did you mean $filter?"),
        ("filter=x", "there is no option filter; did you mean $filter?"),
        ("$orderby=a,,b", "$orderby, character 3: expected a property, a value, a function or (, found ','"),
        ("$select=a,", "$select, character 3: expected a property, found the end"),
        ("$top=1e9", "$top, character 1: expected a whole number from 0 to 2147483647, found '1e9'"),
        ("$top=-1", "$top, character 1: expected a whole number from 0 to 2147483647, found '-1'"),
        ("$count=yes", "$count, character 1: expected true or false, found 'yes'"),
        (
            "$resultFormat=xml",
            "$resultFormat, character 1: expected one of json, dataArray, CSV, GeoJSON, found 'xml'",
        ),
        ("$expand=A($top=-1)", "$expand, character 3: -1 is not between 0 and 2147483647"),
        ("$expand=A($foo=1)", "$expand, character 3: $foo cannot stand within $expand"),
        ("$expand=A($top=1;$top=1)", "$expand, character 10: $top is given twice"),
        ("$expand=A($top=1),A($top=2)", "$expand, character 11: A is expanded twice with different options"),
        (
            "$expand=" + "T($expand=" * 50 + "T" + ")" * 50,
            "$expand, character 402: $expand may be 10 levels deep at most",
        ),
        ("$expand=" + "T/" * 50 + "T", "$expand, character 21: $expand is nested more than 10 levels deep"),
        ("$expand=" + ",".join(f"T{n}" for n in range(50)), "$expand, character 187: more than 40 links are expanded"),
    ],
)  # fmt: skip
def test_errors_name_the_place(query: str, sentence: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_options(query)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    "query",
    [
        "$filter=a in (" + ",".join("1" * 1001) + ")",
        "$filter=" + "a eq 1 or " * 500 + "true",
        "$filter=name eq '" + "x" * 20_000 + "'",
        "$filter=a eq " + "9" * 50,
        "$orderby=" + ",".join(f"a{n}" for n in range(11)),
        "$skiptoken=" + "x" * 40_000,
    ],
)
def test_sizes_are_bounded(query: str) -> None:
    with pytest.raises(QueryError):
        parse_options(query)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", Resource(())),
        ("/Things", Resource((Segment("Things"),))),
        (
            "/Things(1)/Datastreams('it''s/1')/Observations/$ref",
            Resource(
                (Segment("Things", 1), Segment("Datastreams", "it's/1"), Segment("Observations")), "$ref"
            ),
        ),
        (
            "Things(-2)/properties/list[0][1]/a-b/$value",
            Resource(
                (Segment("Things", -2), Segment("properties"), Segment("list", None, (0, 1)), Segment("a-b")),
                "$value",
            ),
        ),
    ],
)
def test_ways(path: str, expected: Resource) -> None:
    assert parse_resource(path) == expected


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        (
            "/Things(x)",
            "path, character 9: expected a whole number or a text in single quotes, and then ), found 'x'",
        ),
        (
            "Things(1",
            "path, character 8: expected a whole number or a text in single quotes, and then ), found '1'",
        ),
        ("/Things()", "path, character 2: expected a name such as Things or Things(1), found 'Things'"),
        ("/Things//name", "path, character 9: expected a name such as Things or Things(1), found '/'"),
        ("/Things('\ud800')", "path, character 10: the path is no UTF-8"),
        ("/Things/$foo", "path, character 9: $foo is none of $count, $ref, $value"),
        ("/Things/$ref/name", "path, character 14: nothing can follow $ref"),
        ("/$ref", "path, character 1: $ref needs something to follow"),
    ],
)
def test_wrong_ways(path: str, sentence: str) -> None:
    with pytest.raises(QueryError) as refused:
        parse_resource(path)
    assert str(refused.value) == sentence
