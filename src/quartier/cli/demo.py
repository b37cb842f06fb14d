"""``quartier demo``: an installation of its own with two virtual cities, to look around, learn and try things out."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
import webbrowser
from pathlib import Path
from typing import Final

import click

from quartier.cli.serve import LEAN, ROLES, python, supervise
from quartier.config import ConfigError, config
from quartier.engines import installation, logs
from quartier.engines.postgres import EngineError
from quartier.engines.supervisor import Program, left_behind, require_free
from quartier.virtual.lora.plan import NET_IDS, RadioPorts

ELEMENT_PORT: Final = 8790
ROAMING_PORT: Final = 7800
_TRIED_PORTS: Final = 50
_WEBSOCKET_PORT: Final = 8083
_SHORTEST_HISTORY_S: Final = 600


@click.command()
@click.option("--speed", type=click.FloatRange(0.1, 3600), default=1.0, show_default=True,
              help="How fast the virtual cities live: sensors report that much more often.")  # fmt: skip
@click.option(
    "--port", type=click.IntRange(1, 65535), help="Port of the pages. Default: 8700, or the next free one."
)
@click.option(
    "--data", type=click.Path(file_okay=False, path_type=Path), help="Data folder. Default: .quartier/demo"
)
@click.option("--history", type=click.FloatRange(0.1, 48), default=12.0, show_default=True,
              help="Hours of the past to read at the first start.")  # fmt: skip
@click.option("--open", "open_browser", is_flag=True, help="Open the address in a browser.")
def demo(*, speed: float, port: int | None, data: Path | None, history: float, open_browser: bool) -> int:
    """Run both cities with virtual sensors: Dortmund behind an ELEMENT IoT server, Schwerte behind ChirpStack, and
    in both a LoRaWAN network of Quartier's own that roams with the other one.

    Everything is simulated and says so. The data folder is kept, so that the next start continues.
    """
    folder = data or Path(os.environ.get("QUARTIER_DATA", ".quartier/demo"))
    if installation.locked(folder):
        # Raises the error that names the process.
        installation.Lock(folder).acquire()
    _choose_settings(folder, port)
    settings = config()
    folder.mkdir(parents=True, exist_ok=True)
    element_port = _free_port("127.0.0.1", ELEMENT_PORT, "virtual ELEMENT IoT server")
    password, mqtt_password = (
        _kept_secret(folder / "demo-password"),
        _kept_secret(folder / "demo-mqtt-password"),
    )
    logs.configure("supervisor", settings.log_format, (folder / "supervisor.log").open("a"))
    click.echo("Starting two virtual cities …")
    begin = time.monotonic()

    def ready() -> None:
        click.echo(
            f"\n  Quartier is at {settings.public_url}/   (after {time.monotonic() - begin:.0f} s)\n\n"
            f"  Everything there is simulated. Sign in at /accounts/login/ with the demo's password {password}\n"
            "    operator@dortmund.example   steward@dortmund.example\n"
            "    operator@schwerte.example   steward@schwerte.example   maker@schwerte.example\n"
            "    admin@quartier.example\n\n"
            f"  Data and logs: {folder.resolve()}\n"
            "  Ctrl-C stops it; the next start continues. Delete the folder to begin anew.\n"
        )
        if open_browser:
            webbrowser.open(settings.public_url)

    missed_s = _missed_s(folder / "demo.json", history * 3600)
    seeding = python("-m", "quartier.cli.seed_demo", "--element-port", str(element_port))
    seeding += ["--history-hours", str(history), "--password-file", str(folder / "demo-password")]
    seeding += ["--mqtt-password-file", str(folder / "demo-mqtt-password")]
    cities = python("-m", "quartier.virtual", "--element-port", str(element_port))
    cities += ["--mqtt-port", str(settings.mqtt_port), "--mqtt-username", "chirpstack-schwerte"]
    cities += ["--speed", str(speed), "--mqtt-history", str(missed_s)]
    cities += ["--history", str(int(max(48.0, history) * 3600))]
    servers = python("-m", "quartier.cli.demo_radio")
    for city, ports in _radio_ports().items():
        seeding += ["--radio", f"{city}={ports}"]
        servers += ["--radio", f"{city}={ports}"]
        cities += ["--radio", f"{city}={ports.udp}:{ports.station}"]
    cities += ["--radio-memory", str(folder / "radio-memory.json")]
    try:
        status = supervise(
            [role for role in ROLES if role != "radio"],
            prepare=[Program(name="preparation", command=seeding)],
            others=[
                Program(name="radio", command=servers, environment=LEAN),
                Program(
                    name="cities",
                    command=cities,
                    environment={"QUARTIER_VIRTUAL_MQTT_PASSWORD": mqtt_password},
                ),
            ],
            ready=ready,
            log_folder=folder / "logs",
        )
    finally:
        _write_stop(folder / "demo.json")
    if status == 0:
        click.echo("Stopped.")
    return status


def _choose_settings(folder: Path, port: int | None) -> None:
    """Settings of the demo become part of the environment, where its processes read them."""
    os.environ["QUARTIER_DATA"] = str(folder)
    os.environ["QUARTIER_SIMULATED"] = "true"
    # Virtual cities are small: NATS need not keep the garbage of the first hours' readings. A real installation sets no
    # limit, for beyond it the server would do little else than collect.
    os.environ.setdefault("GOMEMLIMIT", "56MiB")
    config.cache_clear()
    settings = config()
    if settings.postgres_url or settings.nats_url:
        raise ConfigError(
            "The demo keeps to engines of its own, so that no simulated reading reaches a real installation: "
            "remove postgres_url and nats_url from its settings."
        )
    if port is not None:
        require_free(settings.host, port, "port")
    chosen = port or _free_port(settings.host, settings.port, "pages")
    os.environ["QUARTIER_PORT"] = str(chosen)
    os.environ["QUARTIER_MQTT_PORT"] = str(
        settings.mqtt_port
        if _left_by_demo(folder)
        else _free_port(settings.mqtt_host, settings.mqtt_port, "MQTT broker")
    )
    websocket = settings.mqtt_websocket_port or _WEBSOCKET_PORT
    os.environ["QUARTIER_MQTT_WEBSOCKET_PORT"] = str(
        websocket
        if _left_by_demo(folder)
        else _free_port(settings.mqtt_host, websocket, "MQTT broker for browsers")
    )
    config.cache_clear()


def _radio_ports() -> dict[str, RadioPorts]:
    """Where the network servers of both cities listen."""
    settings = config()
    found: dict[str, RadioPorts] = {}
    udp, station, roaming = settings.radio_udp_port, settings.station_port, ROAMING_PORT
    for city in NET_IDS:
        found[city] = RadioPorts(
            _free_udp_port(udp, f"packet forwarders of {city}"),
            _free_port("127.0.0.1", station, f"Basics Stations of {city}"),
            _free_port("127.0.0.1", roaming, f"roaming of {city}"),
        )
        # Nobody listens yet, so the next city looks behind these.
        udp, station, roaming = found[city].udp + 1, found[city].station + 1, found[city].roaming + 1
    return found


def _left_by_demo(folder: Path) -> bool:
    """Whether a broker of a demo that was killed still holds its port; the next start replaces it."""
    return left_behind(folder / "nats.pid")


def _free_port(host: str, wanted: int, what: str) -> int:
    """``wanted``, or the next free port; says so where it is another one."""
    for port in range(wanted, min(wanted + _TRIED_PORTS, 65536)):
        try:
            require_free(host, port, "port")
        except EngineError:
            continue
        if port != wanted:
            click.echo(f"Port {wanted} is taken; the {what} will be on {port}.")
        return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        free: int = probe.getsockname()[1]
        click.echo(f"The {what} will be on {free}.")
        return free


def _free_udp_port(wanted: int, what: str) -> int:
    """Like ``_free_port``; servers of datagrams do not answer a connection, so binding is the only way to know."""
    for port in (*range(wanted, min(wanted + _TRIED_PORTS, 65536)), 0):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
        if found != wanted:
            click.echo(f"UDP port {wanted} is taken; {what} will be on {found}.")
        return found
    raise EngineError(f"There is no free UDP port for {what}.")


def _kept_secret(path: Path) -> str:
    """A password made at the first start."""
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        made = secrets.token_urlsafe(9)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(made)
        return made


def _missed_s(path: Path, longest_s: float) -> int:
    """How far back Schwerte's gateways hand in what they kept: to the last stop, or all at the first start."""
    try:
        stopped_at = float(json.loads(path.read_text())["stopped_at"])
    except (OSError, ValueError, KeyError):
        return int(longest_s)
    return int(min(longest_s, max(_SHORTEST_HISTORY_S, time.time() - stopped_at + _SHORTEST_HISTORY_S)))


def _write_stop(path: Path) -> None:
    path.write_text(json.dumps({"stopped_at": time.time()}))
