"""What an operator does in one of two installations, each as a process with that installation's environment.

``python -m tests.lorawan.roaming.installation <command> <JSON>`` prints JSON on its last line; see
:data:`COMMANDS`.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from typing import Any


def seed(given: dict[str, Any]) -> dict[str, Any]:
    """A city with one gateway and one device, connected with the other."""
    from django.core.management import call_command

    from quartier.cities.models import Municipality
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan import domain
    from quartier.lorawan.domain.peers import note_signature, propose, save_peer, sign

    call_command("migrate", verbosity=0)
    city = Municipality.objects.create(
        slug=given["city"], name=given["city"].title(), lon=7.5, lat=51.5, west=7, south=51, east=8, north=52
    )
    gateway = domain.save_gateway(
        SYSTEM, city, given["gateway"], name="Turm", protocol=given["gateway_protocol"]
    )
    token = domain.make_token(SYSTEM, gateway) if given["gateway_protocol"] == "station" else ""
    profile = domain.save_profile(
        SYSTEM, "plain", device_class=given["device_class"], adr=False, status_interval_s=0
    )
    domain.register_device(
        SYSTEM,
        city,
        domain.DeviceSettings(
            dev_eui=given["dev_eui"], name="Grenzgerät", profile=profile, join_eui=given["join_eui"],
            keys={"app_key": given["app_key"]},
        ),
    )  # fmt: skip
    peer = save_peer(SYSTEM, city, given["other"], secret=given["secret"], **given["peer"])
    for direction, terms in given["agreements"].items():
        agreement = propose(SYSTEM, peer, direction, purpose="Geräte an der Grenze", **terms)
        sign(SYSTEM, agreement)
        note_signature(SYSTEM, agreement, given["other"])
    return {"token": token}


def send(given: dict[str, Any]) -> dict[str, Any]:
    """Put a downlink into the queue."""
    from quartier.cities.rules import SYSTEM
    from quartier.lorawan.domain import enqueue
    from quartier.lorawan.models import LoraDevice

    device = LoraDevice.objects.get(dev_eui=given["dev_eui"])
    row = enqueue(
        SYSTEM, device, bytes.fromhex(given["payload"]), port=given["port"], confirmed=given["confirmed"]
    )
    return {"id": row.pk}


def compare(_: dict[str, Any]) -> dict[str, Any]:
    """Compare the ledger with the other city's, as the radio does every hour; what is left of differences."""
    return asyncio.run(_compare())


async def _compare() -> dict[str, Any]:
    from quartier.config import config
    from quartier.engines.pools import async_pool
    from quartier.lorawan.roaming.client import Ourselves
    from quartier.lorawan.roaming.service import Roaming
    from quartier.lorawan.store import Store

    async with async_pool(name="compare") as pool:
        roaming = Roaming(
            pool=pool,
            store=Store(pool),
            transmitters={},
            ourselves=Ourselves(net_id=config().radio_net_id),
            secret=config().secret(),
        )
        await roaming.reload()
        try:
            found = await roaming.compare_all()
        finally:
            await roaming.close()
    return {
        f"{peer} {'carry' if we_carry else 'carried'}": [str(one) for one in comparison.differences]
        for (peer, we_carry), comparison in found.items()
    }


COMMANDS: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "seed": seed,
    "send": send,
    "compare": compare,
}


def main() -> None:
    """Run one command."""
    import django

    django.setup()
    sys.stdout.write(json.dumps(COMMANDS[sys.argv[1]](json.loads(sys.argv[2]))) + "\n")


if __name__ == "__main__":
    main()
