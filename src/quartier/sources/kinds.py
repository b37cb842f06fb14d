"""The kinds of sources: which settings and credentials each has, how its messages are read, and how it is connected.

One table drives the validation, the form on the desk, the connectors and the webhooks. Settings are never secret;
credentials are sealed and only connectors open them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from django.utils.functional import Promise
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from quartier.intake.parsers import Parser
from quartier.sources import chirpstack, element, generic, thethingsstack
from quartier.sources.values import utc

Text = str | Promise
Type = Literal["text", "url", "integer", "number", "boolean", "choice", "list", "time", "json", "secret"]


class SettingError(ValueError):
    """A setting or credential cannot be used. ``field`` is its name, ``message`` says what is wrong (translated)."""

    def __init__(self, field_name: str, message: str) -> None:
        super().__init__(f"{field_name}: {message}")
        self.field = field_name
        self.message = message


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One setting or credential of a kind, described for forms and checked by :meth:`clean`.

    ``only_if`` names another setting and the value it must have for this one to count.
    """

    name: str
    label: Text
    type: Type = "text"
    help: Text = ""
    required: bool = False
    default: Any = None
    choices: tuple[tuple[str, Text], ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    only_if: tuple[str, str] | None = None
    check: Callable[[Any], None] | None = None

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Whether this setting counts beside the others."""
        return self.only_if is None or values.get(self.only_if[0]) == self.only_if[1]

    def clean(self, value: Any) -> Any:
        """The value in its JSON form. Raises SettingError."""
        if value is None or value in ("", []):
            if self.required:
                raise SettingError(self.name, gettext("fehlt"))
            return self.default
        cleaned = _CLEANERS[self.type](self, value)
        if self.check is not None:
            self.check(cleaned)
        return cleaned


def _text(setting: Setting, value: Any) -> str:
    if not isinstance(value, str) or len(value) > 500 or "\x00" in value:
        raise SettingError(setting.name, gettext("muss ein Text mit höchstens 500 Zeichen sein"))
    return value.strip()


def _url(setting: Setting, value: Any) -> str:
    text = _text(setting, value).rstrip("/")
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        usable = False
    if not usable or parts.query or parts.fragment:
        raise SettingError(
            setting.name, gettext("muss eine Adresse mit https:// sein, ohne Zugangsdaten und ohne Parameter")
        )
    return text


def _number(setting: Setting, value: Any) -> float | int:
    whole = setting.type == "integer"
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or (whole and not number.is_integer()):
        message = gettext("muss eine ganze Zahl sein") if whole else gettext("muss eine Zahl sein")
        raise SettingError(setting.name, message)
    low, high = setting.minimum, setting.maximum
    if (low is not None and number < low) or (high is not None and number > high):
        raise SettingError(
            setting.name, gettext("muss zwischen %(low)g und %(high)g liegen") % {"low": low, "high": high}
        )
    return int(number) if whole else number


def _boolean(setting: Setting, value: Any) -> bool:
    if isinstance(value, bool):
        return value
    words = {"true": True, "on": True, "1": True, "false": False, "off": False, "0": False}
    if not isinstance(value, str) or value.lower() not in words:
        raise SettingError(setting.name, gettext("muss ja oder nein sein"))
    return words[value.lower()]


def _choice(setting: Setting, value: Any) -> str:
    known = [name for name, _label in setting.choices]
    if value not in known:
        raise SettingError(setting.name, gettext("muss eines sein von: %s") % ", ".join(known))
    return str(value)


def _list(setting: Setting, value: Any) -> list[str]:
    if isinstance(value, str):
        value = [part for part in re.split(r"[\s,;]+", value) if part]
    if not isinstance(value, list) or len(value) > 500 or not all(isinstance(one, str) for one in value):
        raise SettingError(setting.name, gettext("muss eine Liste von Texten sein"))
    return [_text(setting, one) for one in value]


def _time(setting: Setting, value: Any) -> str:
    try:
        moment = value if isinstance(value, datetime) else datetime.fromisoformat(str(value).strip())
    except ValueError:
        raise SettingError(setting.name, gettext("muss ein Zeitpunkt sein, etwa 2024-05-01T00:00Z")) from None
    aware = utc(moment)
    assert aware is not None  # noqa: S101 (a moment went in)
    return aware.isoformat().replace("+00:00", "Z")


def _json(setting: Setting, value: Any) -> Any:
    if not isinstance(value, dict | list):
        raise SettingError(setting.name, gettext("muss ein JSON-Objekt sein"))
    return value


def _secret(setting: Setting, value: Any) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= 2000 or not value.isprintable():
        raise SettingError(setting.name, gettext("muss ein Text ohne Zeilenumbrüche sein"))
    return value


_CLEANERS: Final[dict[str, Callable[[Setting, Any], Any]]] = {
    "text": _text,
    "url": _url,
    "integer": _number,
    "number": _number,
    "boolean": _boolean,
    "choice": _choice,
    "list": _list,
    "time": _time,
    "json": _json,
    "secret": _secret,
}


def check_topic(topic: str) -> None:
    """Raise SettingError unless ``topic`` is an MQTT topic filter that we can subscribe to (MQTT 3.1.1 §4.7)."""
    levels = topic.split("/")
    for number, level in enumerate(levels):
        last = number == len(levels) - 1
        bad_wildcard = ("#" in level and (level != "#" or not last)) or ("+" in level and level != "+")
        # NATS' broker maps levels to subject tokens: no blanks, no dots, none empty.
        if not level or bad_wildcard or re.search(r"[\s.>*$]", level):
            raise SettingError(
                "topic",
                gettext(
                    "muss ein MQTT-Topic sein, etwa application/+/device/+/event/+, ohne leere Ebenen und Punkte"
                ),
            )


_MAPPING_PROBLEMS: Final = {
    "no_object": _("muss ein JSON-Objekt sein"),
    "unknown": _("kennt die Zuordnung nicht"),
    "missing": _("fehlt"),
    "both": _("entweder fields oder payload"),
    "encoding": _("muss hex oder base64 sein"),
    "empty": _("ist leer"),
    "topic": _("muss topic:<Nummer der Ebene, ab 0> sein"),
    "path": _("muss ein JSONPath sein, der mit $ beginnt"),
}


def _check_mapping(mapping: Any) -> None:
    try:
        generic.check(mapping)
    except generic.MappingError as error:
        raise SettingError(error.field, str(_MAPPING_PROBLEMS[error.problem])) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of source."""

    key: str
    name: Text
    help: Text
    parser: Parser
    settings: tuple[Setting, ...]
    credentials: tuple[Setting, ...] = ()
    # What may be asked for its devices by sources.domain.import_devices_from_network.
    lists_devices: bool = False

    def clean_settings(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """All settings with their defaults. Raises SettingError, also for an unknown one."""
        return _clean(self.settings, values)

    def clean_credentials(self, values: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, str]:
        """The credentials that were given. Raises SettingError."""
        found = _clean(self.credentials, values, settings)
        return {name: value for name, value in found.items() if value}

    def transport(self, settings: Mapping[str, Any]) -> str:
        """``http`` (we ask), ``mqtt`` (we subscribe) or ``webhook`` (they send)."""
        if self.key == "element":
            return "http"
        if self.key == "generic_http":
            return "webhook"
        return str(settings.get("transport", "mqtt"))


def _clean(
    wanted: tuple[Setting, ...], values: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    known = {setting.name: setting for setting in wanted}
    for name in values:
        if name not in known:
            raise SettingError(
                str(name)[:60], gettext("ist unbekannt; bekannt sind: %s") % ", ".join(sorted(known))
            )
    found: dict[str, Any] = {}
    for setting in wanted:
        # A setting that others depend on stands before them.
        if setting.applies(found if settings is None else settings):
            value = setting.clean(values.get(setting.name))
            if value is not None:
                found[setting.name] = value
    return found


_TRANSPORT = Setting(
    name="transport",
    label=_("Weg der Nachrichten"),
    type="choice",
    default="mqtt",
    choices=(("mqtt", _("MQTT")), ("webhook", _("Webhook (HTTP)"))),
)


def _mqtt(topic: str, *, choice: bool) -> tuple[Setting, ...]:
    only: tuple[str, str] | None = ("transport", "mqtt") if choice else None
    return (
        Setting(
            name="broker",
            label=_("Broker"),
            type="choice",
            default="other",
            choices=(("other", _("Broker des Netzservers")), ("own", _("Broker von Quartier"))),
            help=_(
                "Beim eigenen Broker meldet sich der Netzserver mit der Kennung der Quelle und ihrem Passwort an."
            ),
            only_if=only,
        ),
        Setting(
            name="host",
            label=_("Rechner"),
            help=_("etwa lns.example.org"),
            required=True,
            only_if=("broker", "other"),
        ),
        Setting(
            name="port",
            label=_("Port"),
            type="integer",
            minimum=1,
            maximum=65535,
            help=_("ohne Angabe 8883 mit und 1883 ohne TLS"),
            only_if=("broker", "other"),
        ),
        Setting(name="tls", label=_("TLS"), type="boolean", default=True, only_if=("broker", "other")),
        Setting(
            name="ca_file",
            label=_("Zertifikat der Zertifizierungsstelle"),
            help=_(
                "Pfad auf diesem Rechner; nur nötig, wenn der Broker ein selbst ausgestelltes Zertifikat hat"
            ),
            only_if=("broker", "other"),
        ),
        Setting(
            name="topic", label=_("Topic"), default=topic, required=not topic, check=check_topic, only_if=only
        ),
    )


_USE = Setting(
    name="use",
    label=_("Dekodieren"),
    type="choice",
    default="data",
    choices=(
        ("data", _("Quartier dekodiert die Nutzlast")),
        ("object", _("der Netzserver hat dekodiert")),
    ),
)
_USER = Setting(name="username", label=_("Benutzername"))
_PASSWORD = Setting(name="password", label=_("Passwort"), type="secret")
_WEBHOOK_SECRET = Setting(
    name="webhook_secret",
    label=_("Schlüssel des Webhooks"),
    type="secret",
    help=_("wird erzeugt, wenn er fehlt"),
)
_BROKER_PASSWORD = Setting(
    name="broker_password",
    label=_("Passwort am Broker von Quartier"),
    type="secret",
    help=_("wird erzeugt, wenn es fehlt"),
)
_API_TOKEN = Setting(
    name="api_token", label=_("API-Schlüssel"), type="secret", help=_("nur für die Geräteliste")
)

KINDS: Final[dict[str, Kind]] = {
    kind.key: kind
    for kind in (
        Kind(
            key="element",
            name="ZENNER ELEMENT IoT",
            help=_("Quartier fragt die REST-Schnittstelle nach neuen Paketen der genannten Ordner."),
            parser=element.parse,
            settings=(
                Setting(
                    name="url",
                    label=_("Adresse"),
                    type="url",
                    required=True,
                    help=_("etwa https://stadtwerke.element-iot.com/api/v1"),
                ),
                Setting(
                    name="tags",
                    label=_("Ordner"),
                    type="list",
                    required=True,
                    help=_("Kurznamen (slugs) der Ordner, durch Komma getrennt"),
                ),
                Setting(
                    name="use",
                    label=_("Lesen"),
                    type="choice",
                    default="packets",
                    choices=(
                        ("packets", _("Pakete (Quartier dekodiert)")),
                        ("readings", _("Messwerte (ELEMENT hat dekodiert)")),
                    ),
                ),
                Setting(
                    name="since",
                    label=_("Vergangenheit ab"),
                    type="time",
                    help=_("beim ersten Mal wird ab hier gelesen; ohne Angabe ab der letzten Stunde"),
                ),
                Setting(
                    name="interval_s",
                    label=_("Abstand in s"),
                    type="number",
                    default=10,
                    minimum=1,
                    maximum=3600,
                ),
                Setting(
                    name="timeout_ms",
                    label=_("Zeitgrenze in ms"),
                    type="integer",
                    default=20_000,
                    minimum=250,
                    maximum=180_000,
                ),
            ),
            credentials=(Setting(name="api_key", label=_("API-Schlüssel"), type="secret", required=True),),
            lists_devices=True,
        ),
        Kind(
            key="chirpstack",
            name="ChirpStack v4",
            help=_("Quartier liest die Ereignisse über MQTT, oder ChirpStack sendet sie per HTTP."),
            parser=chirpstack.parse,
            settings=(
                _TRANSPORT,
                *_mqtt("application/+/device/+/event/+", choice=True),
                _USE,
                Setting(name="api_url", label=_("Adresse der REST-Schnittstelle"), type="url"),
                Setting(name="applications", label=_("Anwendungen"), type="list", help=_("Kennungen (UUID)")),
            ),
            credentials=(_USER, _PASSWORD, _API_TOKEN, _WEBHOOK_SECRET, _BROKER_PASSWORD),
            lists_devices=True,
        ),
        Kind(
            key="tts",
            name="The Things Stack v3",
            help=_("Quartier liest die Ereignisse über MQTT, oder The Things Stack sendet sie per Webhook."),
            parser=thethingsstack.parse,
            settings=(
                _TRANSPORT,
                *_mqtt("v3/+/devices/+/up", choice=True),
                _USE,
                Setting(name="api_url", label=_("Adresse von The Things Stack"), type="url"),
                Setting(
                    name="applications",
                    label=_("Anwendungen"),
                    type="list",
                    help=_("Kennungen (application id)"),
                ),
            ),
            credentials=(_USER, _PASSWORD, _API_TOKEN, _WEBHOOK_SECRET, _BROKER_PASSWORD),
            lists_devices=True,
        ),
        Kind(
            key="generic_mqtt",
            name=_("JSON über MQTT"),
            help=_("Quartier liest ein Topic; wo was steht, sagen JSONPaths."),
            parser=generic.parse,
            settings=(
                *_mqtt("", choice=False),
                Setting(
                    name="mapping", label=_("Zuordnung"), type="json", required=True, check=_check_mapping
                ),
            ),
            credentials=(_USER, _PASSWORD, _BROKER_PASSWORD),
        ),
        Kind(
            key="generic_http",
            name=_("JSON über HTTP"),
            help=_("Das andere System sendet JSON an Quartier; wo was steht, sagen JSONPaths."),
            parser=generic.parse,
            settings=(
                Setting(
                    name="mapping", label=_("Zuordnung"), type="json", required=True, check=_check_mapping
                ),
            ),
            credentials=(_WEBHOOK_SECRET,),
        ),
    )
}
