"""``quartier nats-config``: the configuration of a NATS server that is not ours."""

from __future__ import annotations

import click

from quartier.config import config
from quartier.engines import nats
from quartier.engines.nkeys import Issuer


@click.command("nats-config")
def nats_config() -> None:
    """Print the configuration file for a NATS server of your own (setting nats_url).

    The user is that of nats_url; the password is read by the server from its environment
    (QUARTIER_NATS_PASSWORD). The issuer is this installation's: run it on the data folder that
    `quartier serve` uses.
    """
    settings = config()
    issuer = Issuer.of(settings.data).public_key
    click.echo(
        nats.configuration(settings.nats_url, issuer, settings.mqtt_port, settings.mqtt_websocket_port)
    )
