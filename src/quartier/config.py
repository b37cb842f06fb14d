"""Settings of one installation.

Read once from the environment (``QUARTIER_…``) and from an optional TOML file, so that an operator changes
behaviour in one place and every process of the installation sees the same values. Nothing else in Quartier
reads the environment. Every field is described in ``docs/operating.md``; a test compares the two.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any, get_type_hints


class ConfigError(Exception):
    """A setting has a value that cannot be used; the message names the setting."""


def _setting[T](default: T, meaning: str) -> T:
    """A field of Config with its meaning, which documentation and ``quartier doctor`` read."""
    made: T = field(default=default, metadata={"help": meaning})
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings; each may be given as ``QUARTIER_<NAME>`` or as ``<name>`` in the TOML file."""

    data: Path = _setting(Path(".quartier"), "folder for everything that must survive a restart")  # noqa: RUF009
    host: str = _setting("127.0.0.1", "address on which the web server listens")
    port: int = _setting(8700, "port on which the web server listens")
    base_url: str = _setting("", "public address of the installation, as visitors type it")
    allowed_hosts: str = _setting("", "further host names the web server answers to, comma separated")
    postgres_url: str = _setting("", "PostgreSQL to use instead of the embedded one")
    postgres: str = _setting("newest", "embedded PostgreSQL: newest of PATH and wheel, path, or wheel")
    nats_url: str = _setting("", "NATS server to use instead of the embedded one")
    mqtt_host: str = _setting("127.0.0.1", "address on which the embedded MQTT broker listens")
    mqtt_port: int = _setting(1883, "port on which the embedded MQTT broker listens")
    mqtt_websocket_port: int = _setting(
        0, "port on which the broker takes MQTT by WebSocket, at /mqtt; 0 does not listen"
    )
    secret_key: str = _setting(
        "", "key for sessions and stored credentials; made and kept in the data folder if absent"
    )
    debug: bool = _setting(False, "show errors in the browser; never on a public server")
    simulated: bool = _setting(False, "mark every page as showing simulated data")
    inbox_days: int = _setting(30, "days for which raw messages are kept for replay")
    retention_months: int = _setting(0, "months for which observations are kept; 0 keeps them for ever")
    map_style_url: str = _setting("", "MapLibre style of the base map; empty uses Quartier's own plain style")
    email_url: str = _setting(
        "", "SMTP server as smtp://user:password@host:port; empty writes mail to the data folder"
    )
    oidc_server: str = _setting("", "OpenID Connect issuer for signing in")
    oidc_client_id: str = _setting("", "client id at the OpenID Connect issuer")
    oidc_client_secret: str = _setting("", "client secret at the OpenID Connect issuer")
    codec_processes: int = _setting(2, "worker processes that run vendor payload codecs")
    metrics_networks: str = _setting(
        "127.0.0.0/8,::1/128", "networks that may read /metrics and the details of /health, comma separated"
    )
    radio_host: str = _setting("127.0.0.1", "address on which LoRaWAN gateways and peers reach us")
    radio_municipalities: str = _setting(
        "",
        "municipalities whose LoRaWAN network this process runs, comma separated; empty: one network for all",
    )
    radio_udp_port: int = _setting(1700, "UDP port for packet forwarders (GWMP)")
    station_port: int = _setting(3001, "port for LoRa Basics Stations (LNS and CUPS)")
    station_url: str = _setting("", "address of the Stations' port as they see it, such as wss://host:3001")
    station_certificate: str = _setting("", "PEM file with the certificate for Stations; empty: without TLS")
    station_key: str = _setting("", "PEM file with the key of station_certificate")
    station_authority: str = _setting("", "PEM file with the authority of the Stations' own certificates")
    radio_mqtt_url: str = _setting(
        "", "broker of gateways behind a ChirpStack Gateway Bridge; empty uses our own"
    )
    radio_mqtt_prefix: str = _setting("eu868", "what stands before gateway/… in the topics of such gateways")
    radio_net_id: str = _setting("000000", "NetID of our LoRaWAN network, six hexadecimal digits")
    radio_dev_addrs: str = _setting(
        "", "blocks of DevAddrs to give out, such as 00E20000/15, comma separated; empty: all of the NetID"
    )
    radio_frames_days: int = _setting(14, "days for which the LoRaWAN frame log is kept")
    roaming_port: int = _setting(0, "port for peers (Backend Interfaces); 0 does not listen")
    roaming_certificate: str = _setting("", "PEM file with our certificate for peers; empty: without TLS")
    roaming_key: str = _setting("", "PEM file with the key of roaming_certificate")
    roaming_authority: str = _setting("", "PEM file with the authorities of the peers' certificates")
    sensorthings_per_minute: int = _setting(
        6000, "SensorThings requests that one caller may send in a minute; 0 sets no limit"
    )
    log_format: str = _setting("text", "text or json")

    @property
    def public_url(self) -> str:
        """Address of the home page without a trailing slash."""
        return (self.base_url or f"http://{self.host}:{self.port}").rstrip("/")

    def secret(self) -> str:
        """The installation's secret; made on first use and kept readable by its owner only."""
        if self.secret_key:
            return self.secret_key
        path = self.data / "secret-key"
        try:
            return path.read_text().strip()
        except FileNotFoundError:
            pass
        self.data.mkdir(parents=True, exist_ok=True)
        made = secrets.token_urlsafe(48)
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            # Another process of the same start was faster; its key is the key.
            return path.read_text().strip()
        with os.fdopen(descriptor, "w") as file:
            file.write(made)
        return made


def _convert(name: str, value: Any, kind: Any) -> Any:
    try:
        if kind is bool:
            if isinstance(value, bool):
                return value
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}[
                str(value).lower()
            ]
        return kind(value)
    except (KeyError, TypeError, ValueError):
        raise ConfigError(f"setting {name}: {value!r} is not a valid {kind.__name__}") from None


def read(environment: dict[str, str], file: Path | None) -> Config:
    """Build the settings from an environment and an optional TOML file; the environment wins.

    Raises ConfigError for an unknown name in the file or a value of the wrong type.
    """
    hints = get_type_hints(Config)
    known = {f.name for f in fields(Config)}
    values: dict[str, Any] = {}
    if file is not None:
        try:
            content = tomllib.loads(file.read_text())
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ConfigError(f"{file}: {error}") from None
        for name, value in content.items():
            if name not in known:
                raise ConfigError(f"{file}: unknown setting {name!r}")
            values[name] = _convert(name, value, hints[name])
    for name in known:
        key = f"QUARTIER_{name.upper()}"
        if key in environment:
            values[name] = _convert(key, environment[key], hints[name])
    if "data" in values:
        values["data"] = values["data"].expanduser()
    result = Config(**values)
    return result


@lru_cache(maxsize=1)
def config() -> Config:
    """The settings of this process."""
    path = os.environ.get("QUARTIER_CONFIG")
    if path is None and Path("quartier.toml").is_file():
        path = "quartier.toml"
    return read(dict(os.environ), Path(path) if path else None)
