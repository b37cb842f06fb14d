"""What staff do with codecs, mappings, refused messages, replays and findings. Every function asks the actor's rights,
checks its input, and writes the audit log in the same transaction."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from quartier.cities import audit
from quartier.cities.models import Municipality
from quartier.cities.rules import Actor, NotAllowed
from quartier.intake import mapping
from quartier.intake.codecs.calls import Call, CodecError, CodecReport, Decoded, Encoded
from quartier.intake.codecs.sandbox import CodecPool
from quartier.intake.models import Codec, FieldMapping, QualityFinding, RefusedMessage, Replay
from quartier.intake.parsers import MessageError
from quartier.twin import correct
from quartier.twin.flags import Flag
from quartier.twin.models import Device, DeviceType, ObservedProperty
from quartier.twin.units import UnitError

MAXIMUM_SCRIPT_BYTES = 256 * 1024
# PostgreSQL's text holds neither NUL nor half a surrogate pair.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_SLUG = re.compile(r"[A-Za-z0-9_-]+")
_LONGEST = {"path": 200, "unit": 40, "channel": 40}
_REPLAY_KEYS = {"municipality", "source_key", "external_ids", "device_type", "since", "until"}


class InputError(ValueError):
    """Something that a person entered cannot be used; ``field`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


@dataclass(frozen=True, slots=True)
class MappingRow:
    """One row of a mapping as entered."""

    path: str
    observed_property: str = ""
    unit: str = ""
    channel: str = ""
    role: str = "observation"


@dataclass(frozen=True, slots=True)
class Tried:
    """What a codec made of a payload, and what the mapping made of that."""

    decoded: dict[str, Any] | None
    log: tuple[str, ...]
    warnings: tuple[str, ...]
    readings: tuple[mapping.Field, ...]
    problems: tuple[str, ...]
    error: str = ""
    error_line: int | None = None


async def _with_codecs[T](use: Any) -> T:
    pool = CodecPool(processes=1)
    await pool.start()
    try:
        result: T = await use(pool)
        return result
    finally:
        await pool.close()


def check_codec(script: str) -> CodecReport:
    """Load a script in a sandbox of its own and say what it offers."""

    async def use(pool: CodecPool) -> CodecReport:
        return await pool.check(script)

    return asyncio.run(_with_codecs(use))


def save_codec(actor: Actor, device_type: DeviceType, script: str, note: str = "") -> Codec:
    """Store a new version of a device type's codec; it decodes from the next message on.

    Raises InputError where the script does not load or offers no decoder.
    """
    actor.require("codecs:write")
    if _UNSTORABLE.search(script):
        raise InputError(
            "script", "not a text: it has characters that no script needs and the store cannot hold"
        )
    if len(script.encode()) > MAXIMUM_SCRIPT_BYTES:
        raise InputError("script", f"longer than {MAXIMUM_SCRIPT_BYTES} bytes")
    report = check_codec(script)
    if report.error is not None:
        raise InputError("script", str(report.error))
    if not {"decodeUplink", "Decoder", "Decode"} & set(report.functions):
        raise InputError(
            "script", "no function decodeUplink(input), Decoder(bytes, port) or Decode(fPort, bytes)"
        )
    with transaction.atomic():
        # The type's row is what two people who save its first codec at the same moment have in common.
        DeviceType.objects.select_for_update().get(pk=device_type.pk)
        last = Codec.objects.filter(device_type=device_type).order_by("-version").first()
        codec = Codec.objects.create(
            device_type=device_type,
            version=last.version + 1 if last else 1,
            script=script,
            note=note[:300],
            created_by_id=actor.person_id,
        )
        audit.log(actor, "codec.save", device_type, version=codec.version)
    return codec


def compile_mapping(rows: Sequence[MappingRow]) -> tuple[mapping.Rule, ...]:
    """Check the rows of a mapping. Raises InputError naming the row's field, as in ``2.unit``."""
    properties = {p.slug: p for p in ObservedProperty.objects.all()}
    rules = []
    for number, row in enumerate(rows):
        facts = None
        if not row.path.strip():
            raise InputError(f"{number}.path", "the field is empty")
        for name, longest in _LONGEST.items():
            text = getattr(row, name)
            if len(text) > longest:
                raise InputError(f"{number}.{name}", f"longer than {longest} characters")
            if _UNSTORABLE.search(text):
                raise InputError(f"{number}.{name}", "has characters that cannot be stored")
        if row.role not in ("observation", "time", "battery_v", "battery_percent", "ignore"):
            raise InputError(f"{number}.role", f"unknown role {row.role!r}")
        if row.role == "observation":
            found = properties.get(row.observed_property)
            if found is None:
                raise InputError(f"{number}.observed_property", f"unknown property {row.observed_property!r}")
            facts = mapping.PropertyFacts(found.pk, found.slug, found.unit, found.result_type)
        try:
            rules.append(mapping.compile_rule(row.path.strip(), row.role, facts, row.unit, row.channel))
        except UnitError as error:
            raise InputError(f"{number}.unit", str(error)) from None
        except ValueError as error:
            raise InputError(f"{number}.path", str(error)) from None
    return tuple(rules)


def save_mapping(actor: Actor, device_type: DeviceType, rows: Sequence[MappingRow]) -> None:
    """Replace a device type's mapping. Raises InputError naming the row's field; then nothing is changed."""
    actor.require("codecs:write")
    compile_mapping(rows)
    paths = [row.path.strip() for row in rows]
    for number, path in enumerate(paths):
        if path in paths[:number]:
            raise InputError(f"{number}.path", f"{path} is mapped twice")
    ids = dict(ObservedProperty.objects.values_list("slug", "pk"))
    with transaction.atomic():
        FieldMapping.objects.filter(device_type=device_type).delete()
        FieldMapping.objects.bulk_create(
            FieldMapping(
                device_type=device_type,
                path=row.path.strip(),
                observed_property_id=ids[row.observed_property] if row.role == "observation" else None,
                unit=row.unit,
                channel=row.channel,
                role=row.role,
            )
            for row in rows
        )
        device_type.save()  # tells the running pipelines, which bulk_create does not
        audit.log(actor, "mapping.save", device_type, rows=len(rows))


def encode_downlink(script: str, data: dict[str, Any], *, port: int | None = None) -> Encoded | CodecError:
    """The bytes of a command by the codec's encodeDownlink, in a sandbox of its own."""

    async def use(pool: CodecPool) -> Encoded | CodecError:
        return await pool.encode_downlink(script, data, port=port)

    result: Encoded | CodecError = asyncio.run(_with_codecs(use))
    return result


def try_codec(
    script: str, payload: bytes, *, port: int | None = None, rows: Sequence[MappingRow] = ()
) -> Tried:
    """Decode a payload and map the result, without storing anything."""

    async def use(pool: CodecPool) -> Decoded | CodecError:
        results = await pool.decode(script, [Call(payload=payload, port=port, received_at=datetime.now(UTC))])
        return results[0]

    result: Decoded | CodecError = asyncio.run(_with_codecs(use))
    if isinstance(result, CodecError):
        return Tried(None, result.log, (), (), (), f"{result.reason}: {result.detail}", result.line)
    if not rows:
        return Tried(result.data, result.log, result.warnings, (), ())
    try:
        mapped = mapping.apply(compile_mapping(rows), result.data)
    except MessageError as error:
        return Tried(result.data, result.log, result.warnings, (), (str(error),))
    return Tried(
        result.data,
        result.log,
        result.warnings,
        mapped.fields,
        tuple(str(problem) for problem in mapped.problems),
    )


def retry_refused(actor: Actor, ids: Sequence[int]) -> Replay:
    """Try refused messages again in the background. Raises NotAllowed for messages of other municipalities."""
    rows = RefusedMessage.objects.filter(pk__in=ids, resolved_at=None).values_list("pk", "municipality_id")
    found = dict(rows)
    places = set(found.values())
    for municipality_id in places:
        actor.require("codecs:write", municipality_id)
        if municipality_id is None and actor.municipalities("codecs:write") is not None:
            raise NotAllowed("codecs:write")  # a message of no city is for those who may everywhere
    place = next(iter(places)) if len(places) == 1 else None
    with transaction.atomic():
        replay = Replay.objects.create(
            municipality_id=place,
            selection={"refused": sorted(found)},
            total=len(found),
            created_by_id=actor.person_id,
        )
        audit.log(actor, "refused.retry", f"replay {replay.pk}", municipality_id=place, count=len(found))
    return replay


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list | tuple | set) and all(
        isinstance(one, str) and not _UNSTORABLE.search(one) for one in value
    )


def start_replay(actor: Actor, selection: Mapping[str, Any]) -> Replay:
    """Ask for a replay. ``selection``: municipality, source_key, external_ids, device_type (key), since, until (ISO).

    Raises InputError naming the key.
    """
    chosen = {key: value for key, value in selection.items() if value not in (None, "", [])}
    for key in chosen:
        if key not in _REPLAY_KEYS:
            raise InputError(key, f"unknown; known: {', '.join(sorted(_REPLAY_KEYS))}")
    period: list[datetime] = []
    for key in ("since", "until"):
        if key in chosen:
            try:
                moment = datetime.fromisoformat(str(chosen[key]))
            except ValueError:
                raise InputError(key, f"{chosen[key]!r} is not a time in ISO 8601") from None
            if moment.tzinfo is None:
                raise InputError(key, "the time needs a time zone")
            chosen[key] = moment.isoformat()
            period.append(moment)
    if len(period) == 2 and period[0] >= period[1]:
        raise InputError("until", "the end lies before the beginning")
    for key in ("municipality", "source_key", "device_type"):
        if key in chosen and not (isinstance(chosen[key], str) and _SLUG.fullmatch(chosen[key])):
            raise InputError(key, f"{str(chosen[key])[:40]!r} is no key")
    if "external_ids" in chosen:
        if not _is_list_of_texts(chosen["external_ids"]):
            raise InputError("external_ids", "a list of texts was expected")
        chosen["external_ids"] = sorted(set(chosen["external_ids"]))
    municipality_id = None
    if "municipality" in chosen:
        municipality = Municipality.objects.filter(slug=chosen["municipality"]).first()
        if municipality is None:
            raise InputError("municipality", f"unknown: {chosen['municipality']!r}")
        municipality_id = municipality.pk
    elif not actor.superuser and actor.municipalities("codecs:write") is not None:
        raise InputError("municipality", "say which municipality's messages")
    actor.require("codecs:write", municipality_id)
    if "device_type" in chosen:
        devices = Device.objects.filter(device_type__key=chosen.pop("device_type"))
        if municipality_id is not None:
            devices = devices.filter(municipality_id=municipality_id)
        ids = list(devices.values_list("external_id", flat=True))
        if not ids:
            raise InputError("device_type", "no device of this type is registered")
        chosen["external_ids"] = sorted(set(ids) & set(chosen.get("external_ids", ids)))
        if not chosen["external_ids"]:  # which would mean: all devices
            raise InputError("external_ids", "none of these devices is of this type")
    with transaction.atomic():
        replay = Replay.objects.create(
            municipality_id=municipality_id, selection=chosen, created_by_id=actor.person_id
        )
        audit.log(actor, "replay.start", f"replay {replay.pk}", municipality_id=municipality_id, **chosen)
    return replay


_CHECK_FLAGS = {
    "range": Flag.RANGE,
    "persistence": Flag.PERSISTENCE,
    "spike": Flag.SPIKE,
    "spatial": Flag.SPATIAL,
}


def decide_finding(actor: Actor, finding: QualityFinding, state: str) -> int:
    """Confirm or dismiss a finding: its readings get the flag CONFIRMED or DISMISSED; returns how many."""
    actor.require("quality:write", finding.municipality_id)
    if state not in (QualityFinding.State.CONFIRMED, QualityFinding.State.DISMISSED):
        raise InputError("state", f"unknown decision {state!r}")
    confirmed = state == QualityFinding.State.CONFIRMED
    set_, clear = (Flag.CONFIRMED, Flag.DISMISSED) if confirmed else (Flag.DISMISSED, Flag.CONFIRMED)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            correct.FLAG_RANGE,
            [
                finding.municipality_id,
                finding.series_id,
                finding.first_time,
                finding.last_time,
                int(_CHECK_FLAGS[finding.check_name]),
            ],
        )
        keys = [(row[0], row[1], row[2]) for row in cursor.fetchall()]
        cursor.execute(correct.FLAG, correct.flag_parameters(keys, set_=int(set_), clear=int(clear)))
        row = cursor.fetchone()
        finding.state = state
        finding.decided_by_id = actor.person_id
        finding.decided_at = timezone.now()
        finding.save(update_fields=["state", "decided_by", "decided_at"])
        audit.log(
            actor,
            f"finding.{state}",
            f"series {finding.series_id} {finding.check_name}",
            municipality_id=finding.municipality_id,
            first=finding.first_time.isoformat(),
            last=finding.last_time.isoformat(),
            readings=len(keys),
        )
    return int(row[0]) if row else 0
