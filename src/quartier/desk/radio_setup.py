"""What has to be entered into a gateway so that it speaks to this installation, ready to copy."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from quartier.config import Config, config
from quartier.lorawan.frames.ping_slots import BEACON_PERIOD_MS
from quartier.lorawan.frames.regions import EU868
from quartier.lorawan.models import Gateway

STAT_INTERVAL_S: Final = 30


@dataclass(frozen=True, slots=True)
class File:
    """A file of a gateway and its content."""

    name: str
    content: str


def host(settings: Config | None = None) -> str:
    """The name under which gateways reach us."""
    return urlsplit((settings or config()).public_url).hostname or "localhost"


def station_uri(settings: Config | None = None) -> str:
    """Where a Basics Station connects (LNS)."""
    settings = settings or config()
    if settings.station_url:
        return settings.station_url.rstrip("/")
    scheme = "wss" if settings.station_certificate else "ws"
    return f"{scheme}://{host(settings)}:{settings.station_port}"


def cups_uri(settings: Config | None = None) -> str:
    """Where a Basics Station asks for addresses and tokens (CUPS): the same port, by plain HTTP."""
    scheme, _, rest = station_uri(settings).partition("://")
    return f"{'https' if scheme == 'wss' else 'http'}://{rest}"


def cups_files() -> list[File]:
    """The files with which a Station asks CUPS; its token is the one that it has."""
    return [File("cups.uri", cups_uri()), File("cups.key", "Authorization: Bearer …")]


def files_of(gateway: Gateway, token: str = "") -> list[File]:
    """The files of a gateway. ``token``: just made, or what stands for it."""
    settings = config()
    match gateway.protocol:
        case Gateway.Protocol.STATION:
            return [
                File("tc.uri", station_uri(settings)),
                File("tc.key", f"Authorization: Bearer {token or '…'}"),
            ]
        case Gateway.Protocol.GWMP:
            conf: dict[str, dict[str, Any]] = {
                "gateway_conf": {
                    "gateway_ID": gateway.eui.upper(),
                    "server_address": host(settings),
                    "serv_port_up": settings.radio_udp_port,
                    "serv_port_down": settings.radio_udp_port,
                    "keepalive_interval": 10,
                    "stat_interval": STAT_INTERVAL_S,
                    "push_timeout_ms": 100,
                    "forward_crc_valid": True,
                    "forward_crc_error": True,
                    "forward_crc_disabled": False,
                }
            }
            if gateway.beacon:
                conf["gateway_conf"] |= {
                    "beacon_period": BEACON_PERIOD_MS // 1000,
                    "beacon_freq_hz": EU868.beacon_frequency_hz,
                    "beacon_datarate": 9,
                    "beacon_bw_hz": 125_000,
                    "beacon_power": 14,
                    "beacon_infodesc": 0,
                }
            return [File("global_conf.json", json.dumps(conf, indent=2))]
    topic = f"{settings.radio_mqtt_prefix}/gateway/{{{{ .GatewayID }}}}"
    return [
        File(
            "chirpstack-gateway-bridge.toml",
            "[integration]\n"
            'marshaler="protobuf"\n'
            "[integration.mqtt]\n"
            f'event_topic_template="{topic}/event/{{{{ .EventType }}}}"\n'
            f'command_topic_template="{topic}/command/#"\n',
        )
    ]
