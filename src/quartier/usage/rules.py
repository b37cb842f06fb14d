"""The one question asked before data is shown: may this actor do this with this data set?"""

from __future__ import annotations

from typing import Any

from django.db.models import Q, QuerySet

from quartier.cities.rules import Actor
from quartier.twin.models import Thing
from quartier.usage.models import Dataset


def may(actor: Actor, action: str, dataset: Dataset) -> bool:
    """Whether ``actor`` may ``read`` (or do another action with) ``dataset``. Open data is for everybody."""
    if action == "read" and dataset.public:
        return True
    return actor.may("things:read" if action == "read" else action, dataset.municipality_id)


def visible_things(actor: Actor, things: QuerySet[Thing] | None = None) -> QuerySet[Thing]:
    """The things ``actor`` may read: public ones (of no closed data set), his own, and those of his municipalities."""
    things = Thing.objects.all() if things is None else things
    wide = actor.municipalities("things:read")
    if wide is None:
        return things
    closed = Q(pk__in=[])
    for dataset in Dataset.objects.filter(public=False):
        closed |= Q(municipality_id=dataset.municipality_id, kind__in=dataset.thing_kinds)
    allowed = (Q(public=True) & ~closed) | Q(municipality_id__in=wide)
    if actor.person_id is not None:
        allowed |= Q(owner_person_id=actor.person_id)
    return things.filter(allowed)


def dataset_of(thing: Thing) -> Dataset | None:
    """The data set that a thing belongs to: its licence and source are stated with every download."""
    return Dataset.objects.filter(
        municipality_id=thing.municipality_id, thing_kinds__contains=[thing.kind]
    ).first()


def licence(dataset: Dataset | None) -> dict[str, Any]:
    """What a download must state."""
    if dataset is None:
        return {"licence": None, "licence_url": None, "attribution": None}
    return {
        "licence": dataset.licence,
        "licence_url": dataset.licence_url,
        "attribution": dataset.attribution,
    }
