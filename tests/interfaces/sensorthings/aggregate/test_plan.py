"""What an ``$apply`` is taken apart into."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from quartier.interfaces.sensorthings.aggregate.plan import Plan, ResultKey, SeriesKey, make_plan
from quartier.interfaces.sensorthings.query.ast import Expression, Path
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import parse_option, parse_options

NOW = datetime(2026, 7, 8, 12, tzinfo=UTC)


def plan(query: str) -> Plan:
    options = parse_options(query)
    assert options.apply is not None
    return make_plan(options.apply, options.orderby, now=NOW)


def condition(text: str) -> Expression:
    parsed: Expression = parse_option("filter", text)
    return parsed


def test_time_series_and_the_rest_are_told_apart() -> None:
    found = plan(
        "$apply=filter(phenomenonTime ge 2026-01-01 and phenomenonTime lt now() sub duration'P7D')"
        "/filter(Datastream/Thing/name eq 'x' and Datastream/Campaigns/any(Datastream: Datastream/name eq 'y'))"
        "/filter(result gt 5 and 1 eq 1 and (result lt 9 or Datastream/id eq 3))"
        "/groupby((Datastream/ObservedProperty/name,result),aggregate($count as n))&$orderby=n desc,result"
    )
    assert found == Plan(
        since=datetime(2026, 1, 1, tzinfo=UTC),
        until=NOW - timedelta(days=7),
        of_series=condition("Thing/name eq 'x' and Campaigns/any(Datastream: name eq 'y') and 1 eq 1"),
        of_observations=condition("result gt 5 and (result lt 9 or Datastream/id eq 3)"),
        keys=(
            SeriesKey(Path(("ObservedProperty", "name")), ("Datastream", "ObservedProperty", "name")),
            ResultKey(),
        ),
        aggregates=found.aggregates,
        order=((2, True), (1, False)),
    )


@pytest.mark.parametrize(
    ("conditions", "since", "until"),
    [
        ("phenomenonTime gt 2026-01-01T00:00:00Z", "2026-01-01T00:00:00.000001", None),
        ("2026-01-01T00:00:00Z lt phenomenonTime", "2026-01-01T00:00:00.000001", None),
        ("phenomenonTime le 2026-01-01T01:00:00+01:00", None, "2026-01-01T00:00:00.000001"),
        ("phenomenonTime eq 2026-01-01", "2026-01-01T00:00:00", "2026-01-01T00:00:00.000001"),
        ("phenomenonTime ge 2026-01-01 and phenomenonTime ge 2026-02-01 and phenomenonTime lt 2026-03-01",
         "2026-02-01T00:00:00", "2026-03-01T00:00:00"),
    ],
)  # fmt: skip
def test_limits_of_time(conditions: str, since: str | None, until: str | None) -> None:
    found = plan(f"$apply=filter({conditions})/aggregate($count as n)")
    assert (found.of_series, found.of_observations) == (None, None)
    assert found.since == (datetime.fromisoformat(since).replace(tzinfo=UTC) if since else None)
    assert found.until == (datetime.fromisoformat(until).replace(tzinfo=UTC) if until else None)


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("$apply=groupby((Datastream/id))", "$apply, character 10: say what to compute: groupby((…),aggregate(…))"),
        (
            "$apply=groupby((parameters/x),aggregate($count as n))",
            "$apply, character 10: keys are properties of the Datastream (Datastream/…), result, and bucket(…)",
        ),
        (
            "$apply=groupby((phenomenonTime),aggregate($count as n))",
            "$apply, character 10: group by bucket(phenomenonTime,PT1H,'Europe/Berlin') instead of every single time",
        ),
        (
            "$apply=groupby((bucket(resultTime,P1D)),aggregate($count as n))",
            "$apply, character 17: only phenomenonTime can be cut into buckets",
        ),
        (
            "$apply=groupby((bucket(phenomenonTime,P1D) as a,bucket(phenomenonTime,PT1H) as b),aggregate($count as n))",
            "$apply, character 10: only one key can be a bucket",
        ),
        (
            "$apply=aggregate(resultTime with max as x)",
            "$apply, character 11: only result and phenomenonTime can be aggregated",
        ),
        (
            "$apply=aggregate(phenomenonTime with sum as x)",
            "$apply, character 11: a time has no sum",
        ),
        (
            "$apply=groupby((Datastream/id),aggregate($count as Datastream))",
            "$apply, character 35: two results are called Datastream; name one by as",
        ),
        (
            "$apply=aggregate($count as n)&$orderby=result",
            "$orderby, character 1: with $apply, only what it computes and groups by can be ordered by",
        ),
        (
            "$apply=filter(phenomenonTime gt 9999-12-31T23:59:59.999999Z)/aggregate($count as n)",
            "$apply, character 23: the time is out of range",
        ),
        ("$apply=aggregate($count as n)&$filter=a eq 1",
         "$filter: cannot be combined with $apply; write filter(…) within $apply"),
        ("$apply=aggregate($count as n,result with max as n)",
         "$apply, character 23: two results are called n; name one by as"),
        ("$apply=aggregate(result with median as x)",
         "$apply, character 23: there is no method median; there are average, sum, min, max, countdistinct, first,"
         " last, stddev"),
        ("$apply=groupby((bucket(phenomenonTime,PT7M)),aggregate($count as n))",
         "$apply, character 32: a bucket must divide a day or be whole days, which PT7M does not"),
        ("$apply=groupby((bucket(phenomenonTime,P1D,'Mars')),aggregate($count as n))",
         "$apply, character 36: there is no time zone 'Mars'; an example is 'Europe/Berlin'"),
    ],
)  # fmt: skip
def test_what_cannot_be_answered(query: str, sentence: str) -> None:
    with pytest.raises(QueryError) as refused:
        plan(query)
    assert str(refused.value) == sentence
