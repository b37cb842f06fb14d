"""What staff change by hand: devices, places, moves, roles, licences.

Plain functions of the actor; each checks the right in the municipality it touches, changes rows and writes the
audit log in one transaction. Bulk import, sources, codecs and findings have their rules in the rooms they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from quartier.cities.audit import log
from quartier.cities.models import Feedback, Municipality, Organisation, Person, Role, RoleAssignment
from quartier.cities.rules import Actor, NotAllowed
from quartier.desk.access import CODECS, DATASETS, DEVICES, ENTER, PEOPLE, everywhere, require
from quartier.intake import domain as intake
from quartier.intake.codecs.library import LibraryCodec
from quartier.intake.models import QualityFinding, RefusedMessage
from quartier.sources.domain.devices import Districts, near
from quartier.twin.flags import Flag
from quartier.twin.models import Deployment, Device, DeviceType, ObservedProperty, Thing
from quartier.usage.models import Dataset

# Which flag a check sets.
CHECK_FLAGS: Final[dict[str, Flag]] = {
    "range": Flag.RANGE,
    "persistence": Flag.PERSISTENCE,
    "spike": Flag.SPIKE,
    "spatial": Flag.SPATIAL,
}


class DeskError(ValueError):
    """A change that cannot be made; ``field`` names what to correct, the message is for the person who tried."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


def _changes(row: Any, values: dict[str, Any]) -> dict[str, Any]:
    """Sets ``values`` on ``row`` and returns what was different, for the audit log: {field: [old, new]}."""
    changed: dict[str, Any] = {}
    for name, value in values.items():
        old = getattr(row, name)
        if old != value:
            changed[name] = [None if old is None else str(old), None if value is None else str(value)]
            setattr(row, name, value)
    return changed


@transaction.atomic
def create_device(actor: Actor, municipality: Municipality, **values: Any) -> Device:
    """A new device. Raises DeskError where its source knows another device by this id."""
    require(actor, DEVICES, municipality)
    values["external_id"] = values["external_id"].strip().lower()
    try:
        with transaction.atomic():
            device = Device.objects.create(municipality=municipality, **values)
    except IntegrityError:
        raise DeskError(
            _("Diese Quelle kennt unter dieser Kennung schon ein Gerät."), "external_id"
        ) from None
    log(
        actor,
        "device.create",
        device,
        municipality_id=municipality.pk,
        device=device.pk,
        source=device.source_key,
    )
    return device


@transaction.atomic
def register_device(
    actor: Actor,
    municipality: Municipality,
    thing: Thing | None,
    at: datetime | None,
    height_above_ground_m: float | None,
    **values: Any,
) -> Device:
    """A new device, at ``thing`` since ``at`` (None: from now on) where a place is given."""
    device = create_device(actor, municipality, **values)
    if thing is not None:
        move_device(actor, device, thing, at or timezone.now(), height_above_ground_m=height_above_ground_m)
    return device


@transaction.atomic
def save_device(actor: Actor, device: Device, **values: Any) -> Device:
    """Change name, type, expected interval, activity of a device."""
    require(actor, DEVICES, device.municipality)
    changed = _changes(device, values)
    if changed:
        device.save(update_fields=list(changed))
        log(
            actor,
            "device.change",
            device,
            municipality_id=device.municipality_id,
            device=device.pk,
            changed=changed,
        )
    return device


def _require_sensible_point(thing: Thing) -> None:
    if (thing.lon is None) != (thing.lat is None):
        raise DeskError(_("Länge und Breite gehören zusammen."), "lon" if thing.lon is None else "lat")
    if thing.lon is not None and thing.lat is not None and not near(thing.municipality, thing.lon, thing.lat):
        raise DeskError(_("Dieser Punkt liegt nicht bei der Stadt. Sind Länge und Breite vertauscht?"), "lon")


@transaction.atomic
def save_thing(actor: Actor, thing: Thing, **values: Any) -> Thing:
    """Create (``thing`` unsaved, with its municipality) or change a place; its district follows from the point."""
    require(actor, DEVICES, thing.municipality)
    new = thing.pk is None
    changed = _changes(thing, values)
    _require_sensible_point(thing)
    if new or {"lon", "lat"} & changed.keys():
        thing.district = Districts(thing.municipality).at(thing.lon, thing.lat)
    if new or changed:
        try:
            with transaction.atomic():
                thing.save()
        except IntegrityError:
            raise DeskError(_("In dieser Stadt gibt es schon einen Ort mit dieser Kennung."), "key") from None
        action = "thing.create" if new else "thing.change"
        log(actor, action, thing, municipality_id=thing.municipality_id, thing=thing.pk, changed=changed)
    return thing


@transaction.atomic
def move_device(
    actor: Actor,
    device: Device,
    thing: Thing | None,
    at: datetime,
    *,
    height_above_ground_m: float | None = None,
    note: str = "",
) -> Deployment | None:
    """End the device's deployment at ``at`` and begin one at ``thing`` (None: it goes to the store room).

    The history stays. Readings recorded after ``at`` at the old place stay there until their messages are replayed.
    Raises DeskError for a date before the current deployment began or in the future.
    """
    require(actor, DEVICES, device.municipality)
    if thing is not None and thing.municipality_id != device.municipality_id:
        raise DeskError(_("Gerät und Ort gehören zu verschiedenen Städten."), "thing")
    if at > timezone.now():
        raise DeskError(_("Das Datum liegt in der Zukunft."), "at")
    Device.objects.select_for_update().get(pk=device.pk)
    current = Deployment.objects.filter(device=device, until__isnull=True).select_related("thing").first()
    if current is not None and thing is not None and current.thing_id == thing.pk:
        raise DeskError(_("Das Gerät ist schon an diesem Ort."), "thing")
    if current is None and thing is None:
        raise DeskError(_("Das Gerät ist an keinem Ort."), "thing")
    newest_end = (
        Deployment.objects.filter(device=device, until__isnull=False)
        .order_by("-until")
        .values_list("until", flat=True)
        .first()
    )
    floor = current.since if current is not None else newest_end
    if floor is not None and (at <= floor if current is not None else at < floor):
        raise DeskError(_("Das Datum liegt vor dem Beginn des jetzigen Einsatzes."), "at")
    if current is not None:
        current.until = at
        current.save(update_fields=["until"])
    made = None
    if thing is not None:
        made = Deployment.objects.create(
            device=device, thing=thing, since=at, height_above_ground_m=height_above_ground_m, note=note
        )
    log(
        actor,
        "device.move",
        device,
        municipality_id=device.municipality_id,
        device=device.pk,
        frm=current.thing.key if current is not None else None,
        to=thing.key if thing is not None else None,
        at=at.astimezone(UTC).isoformat(),
        note=note,
    )
    return made


def require_device_type(actor: Actor, device_type: DeviceType) -> None:
    """A codec decodes the devices of every city: whoever changes it needs the right wherever the type is in use.

    Raises NotAllowed naming the city that is missing.
    """
    actor.require(CODECS)
    if everywhere(actor, CODECS):
        return
    for municipality in Municipality.objects.filter(devices__device_type=device_type).distinct():
        require(actor, CODECS, municipality)


@transaction.atomic
def save_device_type(actor: Actor, device_type: DeviceType, **values: Any) -> DeviceType:
    """Create (unsaved) or describe a device type."""
    actor.require(CODECS)
    new = device_type.pk is None
    if not new:
        require_device_type(actor, device_type)
    changed = _changes(device_type, values)
    if new or changed:
        try:
            with transaction.atomic():
                device_type.save()
        except IntegrityError:
            raise DeskError(_("Diese Kennung hat schon ein anderer Gerätetyp."), "key") from None
        log(actor, "device_type.create" if new else "device_type.change", device_type, changed=changed)
    return device_type


@transaction.atomic
def create_device_type(actor: Actor, start: LibraryCodec | None, **values: Any) -> DeviceType:
    """A new device type; ``start`` brings its codec and a mapping of the fields that it knows."""
    device_type = save_device_type(actor, DeviceType(), **values)
    if start is not None:
        known = set(ObservedProperty.objects.values_list("slug", flat=True))
        intake.save_codec(actor, device_type, start.script, _("aus der Sammlung"))
        intake.save_mapping(
            actor,
            device_type,
            [
                intake.MappingRow(path=name, observed_property=field.property, unit=field.unit)
                for name, field in start.fields.items()
                if field.property in known and not name.endswith("*")
            ],
        )
    return device_type


@transaction.atomic
def resolve_refused(actor: Actor, ids: Sequence[int]) -> int:
    """Tick refused messages off that cannot be saved; they stay, as resolved. Returns how many were open.

    Raises NotAllowed where one belongs to a city in which the actor may not, and then changes none.
    """
    messages = RefusedMessage.objects.filter(pk__in=ids, resolved_at__isnull=True)
    cities = list(messages.order_by().values_list("municipality_id", flat=True).distinct())
    for municipality in Municipality.objects.filter(pk__in=[city for city in cities if city is not None]):
        require(actor, CODECS, municipality)
    if None in cities and not everywhere(actor, CODECS):
        raise NotAllowed(CODECS)
    for city in cities:
        n = messages.filter(municipality_id=city).count()
        log(actor, "refused.resolve", f"{n} messages", municipality_id=city, count=n)
    return messages.update(resolved_at=timezone.now())


@transaction.atomic
def decide_findings(actor: Actor, findings: Sequence[QualityFinding], state: str, note: str = "") -> int:
    """Confirm or dismiss several findings, all or none; returns how many readings were flagged anew."""
    readings = 0
    for finding in findings:
        if note:
            finding.detail = {**finding.detail, "note": note}
            finding.save(update_fields=["detail"])
        readings += intake.decide_finding(actor, finding, state)
        if note:
            log(actor, "finding.note", finding.pk, municipality_id=finding.municipality_id, note=note)
    return readings


def _require_people(actor: Actor, municipality: Municipality | None) -> None:
    if municipality is not None:
        require(actor, PEOPLE, municipality)
    elif not everywhere(actor, PEOPLE):
        raise NotAllowed(PEOPLE)


@transaction.atomic
def grant_role(
    actor: Actor,
    person: Person,
    role: str,
    municipality: Municipality | None,
    organisation: Organisation | None = None,
) -> RoleAssignment:
    """Give a role in one municipality; ``None`` (all of them) only by somebody who holds the right everywhere."""
    _require_people(actor, municipality)
    if role not in Role.values:
        raise DeskError(_("Diese Rolle gibt es nicht."), "role")
    assignment, made = RoleAssignment.objects.get_or_create(
        person=person, role=role, municipality=municipality, defaults={"organisation": organisation}
    )
    if not made:
        raise DeskError(_("Diese Person hat die Rolle schon."), "role")
    log(
        actor,
        "role.grant",
        person,
        municipality_id=municipality.pk if municipality is not None else None,
        person=person.pk,
        role=role,
    )
    return assignment


@transaction.atomic
def revoke_role(actor: Actor, assignment: RoleAssignment) -> None:
    """Take a role back. Nobody takes the operator's role from himself, so that no city loses its last one by a slip."""
    _require_people(actor, assignment.municipality)
    if assignment.person_id == actor.person_id and assignment.role == Role.OPERATOR and not actor.superuser:
        raise DeskError(_("Die eigene Betriebsrolle kann nur jemand anders entziehen."))
    log(
        actor,
        "role.revoke",
        assignment.person,
        municipality_id=assignment.municipality_id,
        person=assignment.person_id,
        role=assignment.role,
    )
    assignment.delete()


@transaction.atomic
def mark_feedback(actor: Actor, message: Feedback, *, answered: bool) -> None:
    """Tick a visitor's message off, or open it again. One to no particular city is for everybody on the desk."""
    if message.municipality is not None:
        require(actor, ENTER, message.municipality)
    else:
        actor.require(ENTER)
    if (message.answered_at is not None) == answered:
        return
    message.answered_at = timezone.now() if answered else None
    message.save(update_fields=["answered_at"])
    action = "feedback.answered" if answered else "feedback.reopened"
    log(actor, action, f"feedback {message.pk}", municipality_id=message.municipality_id, feedback=message.pk)


@transaction.atomic
def save_dataset(actor: Actor, dataset: Dataset, **values: Any) -> Dataset:
    """Change title, licence, attribution or openness of a data set."""
    require(actor, DATASETS, dataset.municipality)
    changed = _changes(dataset, values)
    if changed:
        dataset.save(update_fields=list(changed))
        log(
            actor,
            "dataset.change",
            dataset,
            municipality_id=dataset.municipality_id,
            dataset=dataset.pk,
            changed=changed,
        )
    return dataset
