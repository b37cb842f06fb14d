"""Typed pieces of SQL: what an expression of a query becomes, and how one kind is read as another."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Literal as OneOf

from quartier.interfaces.sensorthings.compile.context import Context, Scope
from quartier.interfaces.sensorthings.facts import Property
from quartier.interfaces.sensorthings.query.ast import Duration, Geometry, Interval, Literal

Type = OneOf[
    "null",
    "boolean",
    "number",
    "text",
    "instant",
    "date",
    "time",
    "duration",
    "period",
    "json",
    "geometry",
    "result",
    "id",
]
# PostgreSQL's double precision ends at 1.8e308; comparing with a larger numeric raises an error there.
_LARGEST = Decimal("1e300")

WORDS: dict[Type, str] = {
    "null": "null",
    "boolean": "true or false",
    "number": "a number",
    "text": "a text",
    "instant": "a time",
    "date": "a date",
    "time": "a time of day",
    "duration": "a duration",
    "period": "a time",
    "json": "JSON",
    "geometry": "a geometry",
    "result": "a result",
    "id": "an id",
}


@dataclass(frozen=True, slots=True)
class Value:
    """An SQL expression with its type.

    ``period``: ``end`` is its end. ``result``: ``sql`` is the number, ``end`` the JSON of any other result.
    ``geometry``: a property of ``scope`` or a constant. ``id``: of ``scope``. ``literal`` is set for constants.
    """

    type: Type
    sql: str
    end: str = ""
    at: int = 0
    scope: Scope | None = None
    property: Property | None = None
    literal: Literal | None = None
    nullable: bool = True


def of_literal(context: Context, literal: Literal) -> Value:
    """A constant, bound."""

    def value(type_: Type, sql: str, end: str = "") -> Value:
        return Value(type_, sql, end, literal.at, literal=literal, nullable=False)

    match literal.value:
        case None:
            return value("null", "NULL")
        case bool(flag):
            return value("boolean", "TRUE" if flag else "FALSE")
        case int(number):
            if abs(number) >= 1 << 63:
                return value("number", context.bind(_checked(context, literal, Decimal(number)), "numeric"))
            return value("number", context.bind(str(number), "bigint"))
        case Decimal() as number:
            return value("number", context.bind(_checked(context, literal, number), "double precision"))
        case str(text):
            return value("text", context.bind(text, "text"))
        case datetime() as moment:
            sql = context.bind(instant_text(context, literal, moment), "timestamptz")
            return value("instant", sql)
        case date() as day:
            return value("date", context.bind(day.isoformat(), "date"))
        case time() as hour:
            return value("time", context.bind(hour.isoformat(), "time"))
        case Interval(start, end):
            return value(
                "period",
                context.bind(instant_text(context, literal, start), "timestamptz"),
                context.bind(instant_text(context, literal, end), "timestamptz"),
            )
        case Duration(months, rest):
            if abs(months) > 120_000:
                raise context.error("the duration is longer than 10,000 years", literal.at)
            text = f"{months} months {rest.days} days {rest.seconds} seconds {rest.microseconds} microseconds"
            return value("duration", context.bind(text, "interval"))
        case Geometry():
            return value("geometry", "")


def _checked(context: Context, literal: Literal, number: Decimal) -> str:
    if not number.is_finite() or abs(number) > _LARGEST:
        raise context.error("the number is too large", literal.at)
    return str(number)


def instant_text(context: Context, literal: Literal, moment: datetime) -> str:
    """A time for PostgreSQL, in UTC."""
    try:
        return moment.astimezone(UTC).isoformat()
    except (OverflowError, ValueError):
        raise context.error("the time is out of range", literal.at) from None


def of_json(sql: str, at: int) -> Value:
    """A value in JSON, of whatever type."""
    return Value("json", sql, at=at)


def number(context: Context, value: Value) -> str:
    """SQL for the value as a number; NULL where JSON holds something else."""
    match value.type:
        case "number" | "result":
            return value.sql
        case "id" if value.property is not None and value.scope and not value.scope.entity.id_is_text:
            return value.sql
        case "json":
            return f"(CASE WHEN jsonb_typeof({value.sql}) = 'number' THEN ({value.sql})::numeric END)"
        case "null":
            return "NULL::double precision"
    raise wrong(context, value, "a number")


def text(context: Context, value: Value) -> str:
    """SQL for the value as a text."""
    match value.type:
        case "text":
            return value.sql
        case "id":
            return f"({value.sql})::text"
        case "json":
            return f"({value.sql} #>> '{{}}')"
        case "result":
            return f"(CASE WHEN jsonb_typeof({value.end}) = 'string' THEN {value.end} #>> '{{}}' END)"
        case "null":
            return "NULL::text"
    raise wrong(context, value, "a text")


def boolean(context: Context, value: Value) -> str:
    """SQL for the value as a condition."""
    match value.type:
        case "boolean":
            return value.sql
        case "json":
            return f"(CASE WHEN jsonb_typeof({value.sql}) = 'boolean' THEN ({value.sql})::boolean END)"
        case "result":
            return f"({value.sql} <> 0)"
        case "null":
            return "NULL::boolean"
    raise wrong(context, value, "true or false")


# As strict as PostgreSQL must be spared: what looks like a time and is none (month 13) is told as bad data.
_LOOKS_LIKE_TIME = (
    "'^\\d{4}-[01]\\d-[0-3]\\dT[0-2]\\d:[0-5]\\d(:[0-5]\\d(\\.\\d+)?)?(Z|[+-][01]\\d:?[0-5]\\d)$'"
)


def period(context: Context, value: Value) -> tuple[str, str]:
    """SQL for the value as start and end; a moment is its own end."""
    match value.type:
        case "period":
            return value.sql, value.end
        case "instant":
            return value.sql, value.sql
        case "date":
            moment = f"({value.sql}::timestamp AT TIME ZONE 'UTC')"
            return moment, moment
        case "json":
            found = text(context, value)
            moment = f"(CASE WHEN {found} ~ {_LOOKS_LIKE_TIME} THEN ({found})::timestamptz END)"
            return moment, moment
    raise wrong(context, value, "a time")


def instant(context: Context, value: Value) -> str:
    """SQL for the value as a moment; of a period its start."""
    return period(context, value)[0]


def wrong(context: Context, value: Value, wanted: str) -> Exception:
    """Something of another type was needed here."""
    return context.error(f"expected {wanted}, found {WORDS[value.type]}", value.at)
