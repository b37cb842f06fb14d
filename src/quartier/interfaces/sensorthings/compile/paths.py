"""``Datastream/Thing/properties/owner``: names in expressions, followed over links and into JSON."""

from __future__ import annotations

from difflib import get_close_matches

from quartier.interfaces.sensorthings.compile.context import Context, Scope
from quartier.interfaces.sensorthings.compile.values import Value, of_json
from quartier.interfaces.sensorthings.facts import Entity, Property
from quartier.interfaces.sensorthings.query.ast import Path

type Variables = dict[str, Scope]


class ToMany(Exception):
    """The path crosses a link to many: the condition around it has to be asked of each target.

    ``scope`` has the link ``name``.
    """

    def __init__(self, scope: Scope, name: str, at: int) -> None:
        self.scope = scope
        self.name = name
        self.at = at
        super().__init__(name)


def unknown(context: Context, entity: Entity, name: str | int, at: int) -> Exception:
    """There is no such property, but perhaps one that is spelt nearly so."""
    names = [one.name for one in entity.properties] + [one.name for one in entity.links]
    close = get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {close[0]}?" if close else f"; it has {', '.join(names)}"
    return context.error(f"{entity.name} has no property {str(name)[:60]!r}{hint}", at)


def resolve(context: Context, scope: Scope, path: Path, variables: Variables) -> Value:
    """The value that a path names. Raises QueryError, or ToMany for a link to many that no condition follows yet."""
    steps = list(path.steps)
    if (named := variables.get(str(steps[0]))) is not None:
        scope = named
        steps.pop(0)
        if not steps:
            raise context.error(f"write a property behind the variable: {path.steps[0]}/name", path.at)
    elif len(steps) > 1 and steps[0] == scope.entity.set and scope.entity.find_link(steps[0]) is None:
        # ``Things?$filter=startswith(Things/name,'A')``, as the handbook of Masterportal has it.
        steps.pop(0)
    while len(steps) > 1 and (link := scope.entity.find_link(steps[0])) is not None:
        name = str(steps.pop(0))
        if not link.many:
            scope = scope.join(link)
        elif name in scope.within:
            scope = scope.within[name]
        else:
            raise ToMany(scope, name, path.at)
    found = scope.entity.find_property(steps[0])
    if found is None:
        if scope.entity.find_link(steps[0]) is not None:
            raise context.error(f"{steps[0]} is a link; write a property behind it: {steps[0]}/id", path.at)
        raise unknown(context, scope.entity, steps[0], path.at)
    return value_of(context, scope, found, tuple(steps[1:]), path.at)


def value_of(context: Context, scope: Scope, found: Property, rest: tuple[str | int, ...], at: int) -> Value:
    """The value of a property, or what stands at ``rest`` in its JSON."""
    sql = scope.sql(found.sql)
    if rest:
        if found.kind in ("json", "geometry"):
            return of_json(json_at(context, sql, rest), at)
        if found.kind == "result":
            return of_json(json_at(context, scope.sql(found.other), rest), at)
        if found.kind == "period" and len(rest) == 1 and rest[0] in ("start", "end"):
            return Value("instant", sql if rest[0] == "start" else scope.sql(found.end), at=at)
        raise context.error(f"{found.name} has no parts", at)
    kind = found.kind
    end = scope.sql(found.end or found.other) if kind in ("period", "result") else ""
    # Behind an outer join everything may be missing.
    nullable = found.nullable or scope.outer
    return Value(kind, sql, end, at, scope=scope, property=found, nullable=nullable)


def json_at(context: Context, sql: str, steps: tuple[str | int, ...]) -> str:
    """SQL for what stands at ``steps`` in JSON; NULL where nothing does."""
    return f"({sql} #> {context.bind(array_text([str(step) for step in steps]), 'text[]')})"


def array_text(items: list[str]) -> str:
    """An array of texts as PostgreSQL reads it."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
