"""What a SensorThings request asks for, as immutable values: the way to the data, the options, the expressions.

Nothing here knows the entity model: a path is a list of names, and whether a name is a navigation link, a property or a
key in JSON is for the compiler to find out. Every node knows where in its option it stood (``at``, an offset in
characters), so that whoever finds a mistake later can name the place; ``at`` takes no part in comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Literal as OneOf

# -- values


@dataclass(frozen=True, slots=True)
class Duration:
    """``duration'P1Y2M3DT4H'``: months (a year has twelve) and the rest; both have the same sign."""

    months: int
    rest: timedelta


@dataclass(frozen=True, slots=True)
class Interval:
    """``start/end``; an end given as a duration has been added up. ``start <= end``, both with an offset."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class Geometry:
    """``geography'POINT(7.46 51.51)'``: well-known text in WGS 84, longitude first; syntactically right, not empty."""

    wkt: str


LiteralKind = OneOf[
    "null",
    "boolean",
    "integer",
    "decimal",
    "text",
    "instant",
    "date",
    "time",
    "duration",
    "interval",
    "geometry",
]
type LiteralValue = (
    bool | int | Decimal | str | datetime | date | time | Duration | Interval | Geometry | None
)


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant. ``kind`` decides about the type of ``value`` (``instant``: datetime with an offset)."""

    kind: LiteralKind
    value: LiteralValue
    at: int = field(default=0, compare=False)


# -- expressions


@dataclass(frozen=True, slots=True)
class Path:
    """``Datastream/Thing/properties/list[0]/a key``: names; an ``int`` is a place in a JSON array.

    Inside of an ``any`` or ``all`` the first step may be its variable. ``id`` and ``@iot.id`` come as they were
    written.
    """

    steps: tuple[str | int, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Or:
    """At least two operands, none of which is an ``Or``."""

    operands: tuple[Expression, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class And:
    """At least two operands, none of which is an ``And``."""

    operands: tuple[Expression, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Not:
    operand: Expression
    at: int = field(default=0, compare=False)


Comparator = OneOf["eq", "ne", "gt", "ge", "lt", "le"]


@dataclass(frozen=True, slots=True)
class Compare:
    operator: Comparator
    left: Expression
    right: Expression
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class In:
    """``operand in (1, 2)``: at least one value."""

    operand: Expression
    values: tuple[Literal, ...]
    at: int = field(default=0, compare=False)


ArithmeticOperator = OneOf["add", "sub", "mul", "div", "mod"]


@dataclass(frozen=True, slots=True)
class Arithmetic:
    operator: ArithmeticOperator
    left: Expression
    right: Expression
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Negate:
    """Unary minus; never of a number (that is a negative literal)."""

    operand: Expression
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    """A function of ``FUNCTIONS`` with a number of arguments that it allows; ``name`` in lower case, never an alias."""

    name: str
    arguments: tuple[Expression, ...]
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Quantified:
    """``Datastreams/any(d: d/name eq 'x')``; ``any()`` without a condition asks whether there is one at all.

    ``variable`` and ``condition`` are given both or not at all; ``all`` always has a condition.
    """

    quantifier: OneOf["any", "all"]
    path: Path
    variable: str | None = None
    condition: Expression | None = None
    at: int = field(default=0, compare=False)


type Expression = Literal | Path | Or | And | Not | Compare | In | Arithmetic | Negate | Call | Quantified


def operands(node: Expression) -> tuple[Expression, ...]:
    """The expressions directly below one, in the order in which they are written."""
    match node:
        case And() | Or():
            return node.operands
        case Compare() | Arithmetic():
            return (node.left, node.right)
        case Not() | Negate():
            return (node.operand,)
        case In():
            return (node.operand, *node.values)
        case Call():
            return node.arguments
        case Quantified():
            return (node.path,) if node.condition is None else (node.path, node.condition)
        case _:
            return ()


# Fewest and most arguments of each function: 18-088 section 9.3.3.5.2; the temporal relations are FROST's.
FUNCTIONS: dict[str, tuple[int, int]] = {
    **dict.fromkeys(("now", "mindatetime", "maxdatetime"), (0, 0)),
    **dict.fromkeys(("length", "tolower", "toupper", "trim"), (1, 1)),
    **dict.fromkeys(("substringof", "endswith", "startswith", "indexof", "concat"), (2, 2)),
    "substring": (2, 3),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "second", "fractionalseconds"), (1, 1)),
    **dict.fromkeys(("date", "time", "totaloffsetminutes"), (1, 1)),
    **dict.fromkeys(("round", "floor", "ceiling"), (1, 1)),
    "geo.distance": (2, 2),
    "geo.length": (1, 1),
    "geo.intersects": (2, 2),
    **dict.fromkeys(("st_equals", "st_disjoint", "st_touches", "st_within", "st_overlaps", "st_crosses"), (2, 2)),
    **dict.fromkeys(("st_intersects", "st_contains"), (2, 2)),
    "st_relate": (3, 3),
    **dict.fromkeys(("before", "after", "meets", "during", "overlaps", "starts", "finishes"), (2, 2)),
}  # fmt: skip

# -- aggregation ($apply)


@dataclass(frozen=True, slots=True)
class Bucket:
    """``bucket(phenomenonTime,PT1H,'Europe/Berlin') as hour``: time cut into pieces, in local time.

    ``width`` is either whole months or a positive ``timedelta``. Pieces of whole days, weeks and months begin at local
    midnight, shorter ones are counted from local midnight of the day.
    """

    path: Path
    width: Duration
    time_zone: str
    alias: str
    at: int = field(default=0, compare=False)


AggregateMethod = OneOf["count", "average", "sum", "min", "max", "countdistinct", "first", "last", "stddev"]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """``result with average as mean``; ``$count as n`` has the method ``count`` and no path."""

    method: AggregateMethod
    path: Path | None
    alias: str
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Apply:
    """``filter(…)/groupby((…),aggregate(…))``: what to keep, what to group by, what to compute per group.

    Without keys there is one group; without aggregates the distinct combinations of the keys are asked for. One of both
    is there. Several filters come as one ``And``.
    """

    filter: Expression | None
    keys: tuple[Path | Bucket, ...]
    aggregates: tuple[Aggregate, ...]
    at: int = field(default=0, compare=False)


# -- options


@dataclass(frozen=True, slots=True)
class Order:
    """One key of ``$orderby``."""

    expression: Expression
    descending: bool = False
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Select:
    """``$select=name,properties/owner`` or ``$select=distinct:properties/owner``; at least one path."""

    paths: tuple[Path, ...]
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Expand:
    """One link to follow. ``A/B`` and ``A($expand=B)`` are the same, and every name occurs once per level."""

    name: str
    options: Options
    at: int = field(default=0, compare=False)


ResultFormat = OneOf["json", "dataArray", "CSV", "GeoJSON"]
ResultMetadata = OneOf["full", "minimal", "none"]


@dataclass(frozen=True, slots=True)
class Options:
    """All query options; ``None`` or empty is: not given. Nested ones have no format, metadata, token nor apply."""

    filter: Expression | None = None
    orderby: tuple[Order, ...] = ()
    top: int | None = None
    skip: int | None = None
    count: bool | None = None
    select: Select | None = None
    expand: tuple[Expand, ...] = ()
    result_format: ResultFormat | None = None
    result_metadata: ResultMetadata | None = None
    skiptoken: str | None = None
    apply: Apply | None = None


# -- the way to the data


@dataclass(frozen=True, slots=True)
class Segment:
    """``Things``, ``Things(1)``, ``Observations('7.1700000000000000')``, ``name`` or ``list[0]``."""

    name: str
    key: int | str | None = None
    indices: tuple[int, ...] = ()
    at: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True)
class Resource:
    """``/Things(1)/Datastreams/$ref``: segments and what is wanted of the last one. No segments: the service root."""

    segments: tuple[Segment, ...]
    suffix: OneOf["$value", "$ref", "$count"] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """A way and its options."""

    resource: Resource
    options: Options
