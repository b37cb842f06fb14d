"""A query that is followed: what of ``Datastreams(4)/Observations?$filter=result gt 5`` can be known beforehand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

from quartier.interfaces.sensorthings.compile.among import observations_among
from quartier.interfaces.sensorthings.compile.context import Eyes
from quartier.interfaces.sensorthings.compile.expressions import observation_key
from quartier.interfaces.sensorthings.compile.statement import Statement
from quartier.interfaces.sensorthings.following.predicate import Predicate, predicate
from quartier.interfaces.sensorthings.query.ast import Options, Request, Resource, Segment
from quartier.interfaces.sensorthings.query.errors import QueryError
from quartier.interfaces.sensorthings.query.parse import OPTION_NAMES

_ALL: Final = (Segment("Observations"),)
_REFUSED: Final = ("orderby", "top", "skip", "count", "result_format", "skiptoken", "apply")


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How rows are found and written: queries of one form share a statement per batch. Equal ones are one object.

    ``segments`` and ``options`` say which observations, for ``eyes``, and which members; ``base`` is the address of
    the service in their links.
    """

    segments: tuple[Segment, ...]
    options: Options
    eyes: Eyes
    base: str

    def statement(self) -> Statement:
        """The statement: its first two parameters are series and times, arrays of equal length."""
        return observations_among(Request(Resource(self.segments), self.options), self.eyes)


@lru_cache(maxsize=20_000)
def _form(segments: tuple[Segment, ...], options: Options, eyes: Eyes, base: str) -> Form:
    return Form(segments, options, eyes, base)


@dataclass(frozen=True, slots=True, eq=False)
class Query:
    """Observations that somebody follows.

    ``series`` limits them to one series, ``multi`` to one MultiDatastream (both None: any series may match).
    ``simple`` answers the filter from a reading alone; then ``plain`` writes what matches, whichever path led to it.
    Otherwise ``whole`` is asked, which filters in the store.
    """

    eyes: Eyes
    whole: Form
    plain: Form
    simple: Predicate | None
    series: int | None = None
    multi: int | None = None
    moment: str | None = None


def understand(resource: Resource, options: Options, eyes: Eyes, base: str) -> Query:
    """What is followed. Raises QueryError and NotFound for what cannot be."""
    if not resource.segments:
        raise QueryError("name the Observations that are meant", option="path")
    for name in _REFUSED:
        if getattr(options, name) not in (None, (), False):
            raise QueryError("cannot be asked of what is still to come", option=OPTION_NAMES[name])
    if options.select is not None and options.select.distinct:
        raise QueryError("distinct values cannot be followed", option="$select")
    if resource.suffix is not None:
        raise QueryError(f"{resource.suffix} cannot be followed", option="path")
    whole = _form(resource.segments, options, eyes, base)
    # Whatever is wrong in it is found now, and not when the first observation arrives.
    whole.statement()
    unfiltered = replace(options, filter=None)
    # Who looks matters only for what is expanded: the things of the observations themselves are checked before.
    plain = _form(_ALL, unfiltered, eyes if options.expand else Eyes(), base)
    series, multi, moment, known = _place(resource.segments)
    simple = predicate(options.filter) if known else None
    return Query(eyes, whole, plain, simple, series, multi, moment)


def _place(segments: tuple[Segment, ...]) -> tuple[int | None, int | None, str | None, bool]:
    """The series, MultiDatastream or observation that a path names, and whether the path says nothing else."""
    last = segments[-1]
    if len(segments) == 1 and last.name == "Observations":
        if last.key is None:
            return None, None, None, True
        key = observation_key(str(last.key))
        return (int(key[0]), None, key[1], False) if key is not None else (None, None, None, False)
    if last.name == "Observations" and last.key is None:
        before = segments[-2]
        if isinstance(before.key, int) and before.name in ("Datastreams", "MultiDatastreams"):
            one = before.key if before.name == "Datastreams" else None
            many = before.key if before.name == "MultiDatastreams" else None
            return one, many, None, len(segments) == 2
    return None, None, None, False
