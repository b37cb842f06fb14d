"""What the parsers share: reading JSON and its values so that every fault is a MessageError that names the field."""

from __future__ import annotations

import binascii
import contextlib
import re
from base64 import b64decode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from quartier.intake.inbox import RawMessage
from quartier.intake.parsers import MessageError

_DEV_EUI = re.compile(r"[0-9A-Fa-f]{16}")
_json = msgspec.json.Decoder()
# A header by which the door says that the body was cut, because the inbox does not take more.
CUT_HEADER = "quartier-cut"


def read[T](
    decoder: msgspec.json.Decoder[T],
    message: RawMessage,
    *,
    external_id: str = "",
    identify: Callable[[bytes], str] | None = None,
) -> T:
    """Decode a message's body. Raises MessageError ``not_json``, ``wrong_type`` or ``too_large``.

    ``identify`` finds the device in a body of which something else has the wrong type.
    """
    if CUT_HEADER in message.headers:
        raise MessageError("too_large", f"the message had {message.headers[CUT_HEADER]} bytes", external_id)
    try:
        return decoder.decode(message.body)
    except msgspec.ValidationError as error:
        with contextlib.suppress(msgspec.DecodeError, MessageError, RecursionError):
            external_id = external_id or (identify(message.body) if identify else "")
        raise MessageError("wrong_type", str(error), external_id) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MessageError("not_json", str(error), external_id) from None
    except RecursionError:
        raise MessageError("not_json", "nested too deeply", external_id) from None


def read_json(message: RawMessage) -> Any:
    """Decode a body of any JSON. Raises MessageError ``not_json`` or ``too_large``."""
    return read(_json, message)


def dev_eui(text: str, field: str) -> str:
    """A DevEUI in lower case. Raises MessageError."""
    if not text:
        raise MessageError("missing_field", field)
    if not _DEV_EUI.fullmatch(text):
        raise MessageError("bad_value", f"{field}: {text[:40]!r} is not a DevEUI (16 hexadecimal digits)")
    return text.lower()


def utc(moment: datetime | None) -> datetime | None:
    """A time in UTC; one without offset is UTC already."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        return moment.replace(tzinfo=UTC)
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        return moment.replace(tzinfo=UTC)


def time_of(value: Any, field: str, external_id: str = "") -> datetime:
    """A time from ISO 8601 text or from seconds or milliseconds since 1970. Raises MessageError ``bad_time``."""
    problem = MessageError("bad_time", f"{field}: {str(value)[:40]!r} is not a time", external_id)
    if isinstance(value, str):
        text = value.strip()
        try:
            return utc(datetime.fromisoformat(text)) or datetime.now(UTC)
        except ValueError:
            pass
        try:
            value = float(text)
        except ValueError:
            raise problem from None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise problem
    try:
        # Seconds stay below 1e11 until the year 5138; what is larger are milliseconds.
        return datetime.fromtimestamp(value / 1000 if abs(value) > 1e11 else value, UTC)
    except (ValueError, OverflowError, OSError):
        raise problem from None


def text_of(value: Any, field: str) -> str:
    """A short text or a whole number as an identifier. Raises MessageError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise MessageError("wrong_type", f"{field}: a text was expected, not {name_of(value)}")
    text = str(value).strip() if isinstance(value, str) else integer_text(value, field)
    if not text:
        raise MessageError("missing_field", field)
    if len(text) > 120:
        raise MessageError("bad_value", f"{field}: longer than 120 characters")
    return text


def integer_text(value: int, field: str) -> str:
    """The decimal digits of a number of sensible size (Python refuses to print very long ones)."""
    if abs(value) >= 1 << 64:
        raise MessageError("bad_value", f"{field}: the number is too large")
    return str(value)


def whole(value: Any, field: str, external_id: str = "") -> int:
    """A whole number, also as text. Raises MessageError."""
    if isinstance(value, str):
        try:
            value = int(value.strip(), 10) if len(value) < 20 else None
        except ValueError:
            value = None
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) >= 1 << 63:
        raise MessageError("wrong_type", f"{field}: a whole number was expected", external_id)
    return value


def number_or_none(value: Any, field: str, external_id: str = "") -> float | None:
    """A number (also as text) or nothing. Raises MessageError."""
    if value is None:
        return None
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        return float(value)
    except (ValueError, OverflowError):
        raise MessageError("wrong_type", f"{field}: a number was expected", external_id) from None


def hexadecimal(text: str, field: str, external_id: str = "") -> bytes:
    """Bytes from hexadecimal digits. Raises MessageError ``bad_payload``."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise MessageError("bad_payload", f"{field}: not hexadecimal", external_id) from None


def base64_bytes(text: str, field: str, external_id: str = "") -> bytes:
    """Bytes from base64, of either alphabet. Raises MessageError ``bad_payload``."""
    try:
        return b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise MessageError("bad_payload", f"{field}: not base64", external_id) from None


def plain_fields(values: Mapping[str, Any], field: str, external_id: str = "") -> dict[str, Any]:
    """Check named values: numbers, texts, booleans, or ``{"value": …, "unit": …}``; nulls are left out.

    Raises MessageError naming the field.
    """
    found: dict[str, Any] = {}
    for name, value in values.items():
        if value is None:
            continue
        inner = value
        if isinstance(value, dict):
            if "value" not in value:
                raise MessageError("missing_field", f"{field}.{name}.value", external_id)
            unit = value.get("unit")
            if unit is not None and not isinstance(unit, str):
                raise MessageError("wrong_type", f"{field}.{name}.unit: a text was expected", external_id)
            inner = value["value"]
            if inner is None:
                continue
        if not isinstance(inner, int | float | str):
            raise MessageError(
                "wrong_type",
                f"{field}.{name}: a number or text was expected, not {name_of(inner)}",
                external_id,
            )
        found[name] = value
    if not found:
        raise MessageError("missing_field", f"{field}: no values", external_id)
    return found


def name_of(value: Any) -> str:
    """JSON's word for the type of a value."""
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (dict, "object"), (list, "array"), (str, "text")):
        if isinstance(value, kind):
            return name
    return "number"
