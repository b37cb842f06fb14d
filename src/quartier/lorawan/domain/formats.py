"""Device lists as other network servers give them away, and our own: read into rows of one shape.

* our own CSV or JSON: the columns of :data:`COLUMNS`; * ChirpStack v4: the answers of its REST interface (``device``,
``deviceKeys``, ``deviceActivation``), one object per device; * The Things Stack: what ``ttn-lw-cli end-devices get``
or ``ttn-lw-migrate`` write, one JSON object per device or line.

A row is checked where it is saved; here only the shape is.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from django.utils.translation import gettext

from quartier.lorawan.domain.errors import LoraError
from quartier.lorawan.frames import qr
from quartier.lorawan.frames.errors import FrameError

KEYS: Final = (
    "app_key",
    "nwk_key",
    "dev_addr",
    "nwk_s_key",
    "app_s_key",
    "f_nwk_s_int_key",
    "s_nwk_s_int_key",
    "nwk_s_enc_key",
)
COLUMNS: Final = (
    "dev_eui",
    "join_eui",
    "name",
    "profile",
    "activation",
    "device_type",
    "description",
    "tags",
    "firmware",
    "expected_interval_s",
    "counter_reset",
    "may_roam",
    "active",
    "thing",
    "qr",
    *KEYS,
)
MAXIMUM_CHARACTERS: Final = 20_000_000
_VERSION: Final = re.compile(r"(?:MAC_V|LORAWAN_)?(\d)[._](\d)(?:[._](\d))?")


@dataclass(slots=True)
class Row:
    """One device of a list: texts as they came, except ``tags``; numbers of a session that goes on."""

    line: int
    values: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    used_nonces: list[int] = field(default_factory=list)
    join_nonce: int = 0
    mac_version: str = ""
    problem: LoraError | None = None


def read(text: str) -> Iterator[Row]:
    """The rows of a list in any of these formats. Raises LoraError where it is none."""
    if len(text) > MAXIMUM_CHARACTERS:
        raise LoraError("file", gettext("die Datei ist zu groß"))
    text = text.removeprefix("\ufeff").strip()
    if not text:
        raise LoraError("file", gettext("die Datei ist leer"))
    if text[0] not in "[{":
        yield from _csv(text)
        return
    for number, one in enumerate(_objects(text), 1):
        if not isinstance(one, dict):
            raise LoraError("file", gettext("enthält etwas, das kein Gerät ist"))
        row = Row(number)
        try:
            if "ids" in one:
                _things_stack(one, row)
            elif "device" in one or "deviceKeys" in one or "devEui" in one:
                _chirpstack(one, row)
            else:
                _own(one, row)
        except LoraError as error:
            row.problem = error
        except (AttributeError, TypeError, ValueError, KeyError):
            row.problem = LoraError("file", gettext("hat eine andere Form als erwartet"))
        yield row


def _objects(text: str) -> list[Any]:
    try:
        whole = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        # One object per line, as tools that stream write them.
        try:
            return [msgspec.json.decode(line) for line in text.splitlines() if line.strip()]
        except (msgspec.DecodeError, RecursionError) as error:
            raise LoraError("file", gettext("ist kein JSON: %s") % error) from None
    if isinstance(whole, dict):
        for name in ("end_devices", "devices", "result"):
            if isinstance(whole.get(name), list):
                return list(whole[name])
        return [whole]
    return list(whole)


def _csv(text: str) -> Iterator[Row]:
    lines = text.splitlines()
    separator = max(",;\t", key=lines[0].count)
    try:
        table = list(csv.reader(io.StringIO(text), delimiter=separator))
    except csv.Error as error:
        raise LoraError("file", str(error)) from None
    header = [name.strip().lower() for name in table[0]]
    # The Things Stack's own CSV has more columns than are of use here.
    foreign = "frequency_plan_id" in header or "lorawan_version" in header
    if not foreign:
        for name in header:
            if name not in COLUMNS:
                raise LoraError(
                    name or "file", gettext("ist unbekannt; bekannt sind: %s") % ", ".join(COLUMNS)
                )
    if "dev_eui" not in header and "qr" not in header:
        raise LoraError("dev_eui", gettext("fehlt"))
    for number, cells in enumerate(table[1:], 2):
        if not any(cell.strip() for cell in cells):
            continue
        row = Row(number)
        values = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
        try:
            if len(cells) > len(header):
                raise LoraError("file", gettext("hat %d Spalten zu viel") % (len(cells) - len(header)))
            if foreign:
                row.mac_version = _version(values.get("lorawan_version", ""))
                if values.get("supports_join", "").lower() in ("false", "0"):
                    values["activation"] = "abp"
                values.setdefault("name", values.get("id", ""))
            _own({name: value for name, value in values.items() if name in COLUMNS}, row)
        except LoraError as error:
            row.problem = error
        yield row


def _own(one: Mapping[str, Any], row: Row) -> None:
    for name, value in one.items():
        if name not in COLUMNS:
            raise LoraError(name, gettext("ist unbekannt; bekannt sind: %s") % ", ".join(COLUMNS))
        if name == "tags":
            row.tags = _tags(value)
        elif value is not None and value != "":
            if isinstance(value, dict | list):
                raise LoraError(name, gettext("muss ein Text sein"))
            row.values[name] = str(value).strip()
    if row.values.get("qr"):
        try:
            code = qr.parse(row.values["qr"])
        except FrameError as error:
            raise LoraError("qr", str(error)) from None
        row.values.setdefault("dev_eui", code.dev_eui.hex())
        row.values.setdefault("join_eui", code.join_eui.hex())


def _tags(value: Any) -> dict[str, str]:
    if isinstance(value, Mapping):
        return {str(key): str(one) for key, one in value.items()}
    found: dict[str, str] = {}
    for part in str(value or "").split():
        key, equals, one = part.partition("=")
        if not equals:
            raise LoraError("tags", gettext("muss Name=Wert sein, durch Leerzeichen getrennt"))
        found[key] = one
    return found


def _version(text: str) -> str:
    match = _VERSION.fullmatch(text.strip().upper().replace("MAC_V", ""))
    return f"{match[1]}.{match[2]}.{match[3] or 0}" if match else ""


def _chirpstack(one: Mapping[str, Any], row: Row) -> None:
    device = one.get("device") or one
    keys = one.get("deviceKeys") or one.get("keys") or {}
    session = one.get("deviceActivation") or one.get("activation") or {}
    profile = one.get("deviceProfile") or {}
    row.mac_version = _version(str(profile.get("macVersion", "")))
    _set(
        row,
        dev_eui=device.get("devEui"),
        join_eui=device.get("joinEui"),
        name=device.get("name"),
        description=device.get("description"),
    )
    row.values["active"] = "no" if device.get("isDisabled") else "yes"
    row.values["counter_reset"] = "yes" if device.get("skipFcntCheck") else "no"
    row.tags = _tags(device.get("tags") or {})
    if keys and row.mac_version.startswith("1.1"):
        _set(row, nwk_key=keys.get("nwkKey"), app_key=keys.get("appKey"))
    elif keys:
        # ChirpStack keeps the AppKey of a 1.0.x device as nwkKey.
        _set(row, app_key=keys.get("nwkKey") or keys.get("appKey"))
    if session.get("devAddr"):
        _set(
            row,
            dev_addr=session["devAddr"],
            app_s_key=session.get("appSKey"),
            nwk_s_key=session.get("nwkSEncKey"),
            f_nwk_s_int_key=session.get("fNwkSIntKey"),
            s_nwk_s_int_key=session.get("sNwkSIntKey"),
            nwk_s_enc_key=session.get("nwkSEncKey"),
        )
        # ChirpStack counts the next uplink, we the last one.
        row.counters = {
            "up": int(session.get("fCntUp") or 0) - 1,
            "network_down": int(session.get("nFCntDown") or 0),
            "application_down": int(session.get("aFCntDown") or 0),
        }
    row.values["activation"] = "abp" if session.get("devAddr") and not keys else "otaa"


def _things_stack(one: Mapping[str, Any], row: Row) -> None:
    ids = one["ids"]
    row.mac_version = _version(str(one.get("lorawan_version", "")))
    attributes = one.get("attributes") or {}
    _set(
        row,
        dev_eui=ids.get("dev_eui"),
        join_eui=ids.get("join_eui"),
        name=one.get("name") or ids.get("device_id"),
        description=one.get("description"),
    )
    row.tags = _tags(attributes)
    root = one.get("root_keys") or {}
    session = one.get("session") or {}
    _set(row, app_key=_key(root, "app_key"), nwk_key=_key(root, "nwk_key"))
    if session:
        keys = session.get("keys") or {}
        _set(
            row,
            dev_addr=session.get("dev_addr") or ids.get("dev_addr"),
            app_s_key=_key(keys, "app_s_key"),
            nwk_s_key=_key(keys, "f_nwk_s_int_key"),
            f_nwk_s_int_key=_key(keys, "f_nwk_s_int_key"),
            s_nwk_s_int_key=_key(keys, "s_nwk_s_int_key"),
            nwk_s_enc_key=_key(keys, "nwk_s_enc_key"),
        )
        used = any(name in session for name in ("last_f_cnt_up", "last_n_f_cnt_down"))
        current = (one.get("mac_state") or {}).get("current_parameters") or {}
        row.counters = {
            "up": int(session.get("last_f_cnt_up", 0 if used else -1)),
            "network_down": int(session.get("last_n_f_cnt_down", -1)) + 1,
            "application_down": int(session.get("last_a_f_cnt_down", -1)) + 1,
            "rx1_delay_s": _delay_s(current.get("rx1_delay")),
        }
    row.used_nonces = [int(nonce) for nonce in one.get("used_dev_nonces") or []]
    if one.get("last_dev_nonce") is not None:
        row.used_nonces.append(int(one["last_dev_nonce"]))
    row.join_nonce = int(one.get("last_join_nonce") or 0)
    # A device that cannot join is ABP; TTS leaves out what is false.
    row.values["activation"] = "otaa" if one.get("supports_join") or root else "abp"


def _key(keys: Mapping[str, Any], name: str) -> str | None:
    key = keys.get(name)
    return key.get("key") if isinstance(key, Mapping) else key


def _delay_s(value: Any) -> int:
    if isinstance(value, Mapping):
        value = value.get("value")
    digits = re.sub(r"\D", "", str(value or ""))
    return int(digits) if digits else 0


def _set(row: Row, **values: Any) -> None:
    for name, value in values.items():
        if value not in (None, ""):
            row.values[name] = str(value)
