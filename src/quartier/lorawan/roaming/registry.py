"""Peers and agreements from the database, and their secrets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

import structlog

from quartier.cities.secrets import SecretError, unseal
from quartier.engines.pools import Pool
from quartier.lorawan.roaming.fields import Eui64, RatePolicy
from quartier.lorawan.roaming.peers import (
    Agreement,
    Credentials,
    DataClass,
    Devices,
    Direction,
    GatewayChoice,
    MicKey,
    Peer,
    PeerProtocol,
    Rate,
    Tls,
    VirtualGateway,
    ranges,
)

log = structlog.get_logger(__name__)

_PEERS: Final = """
    SELECT id, key, name, net_ids, nsid, join_euis, protocol, url, asynchronous, role_suffix, timeout_s, fingerprints,
           subject, authority, bearer_digest, sealed, kek_label, gateway
      FROM lorawan_lorapeer
     WHERE enabled AND (%(all)s OR municipality_id IS NULL
           OR municipality_id IN (SELECT id FROM cities_municipality WHERE slug = ANY(%(municipalities)s)))
     ORDER BY id
"""
_AGREEMENTS: Final = """
    SELECT peer_id, id, direction, dev_addrs, dev_euis, join_euis, tags, gateways, classes, uplink_rate_per_h,
           uplink_bucket, uplink_policy, downlink_rate_per_h, downlink_bucket, downlink_policy,
           uplink_airtime_s_per_day, downlink_airtime_s_per_day, downlinks_per_day, mic_filter, hand_over_keys,
           lifetime_s, class_c, valid_from, valid_until, signed_here_at, signed_there_at, purpose, retention_days
      FROM lorawan_roamingagreement WHERE valid_until IS NULL OR valid_until > now() ORDER BY id
"""


async def load(pool: Pool, municipalities: Collection[str] = ()) -> list[Peer]:
    """All peers that are enabled, or those of some municipalities and of everybody.

    One whose row or secrets cannot be used is left out and told on the log.
    """
    whose = {"all": not municipalities, "municipalities": list(municipalities)}
    async with pool.connection() as connection:
        peers = await (await connection.execute(_PEERS, whose)).fetchall()
        agreements = await (await connection.execute(_AGREEMENTS)).fetchall()
    of_peer: dict[int, list[Agreement]] = {}
    for row in agreements:
        try:
            of_peer.setdefault(row[0], []).append(_agreement(row))
        except ValueError as error:
            log.error("agreement cannot be used", agreement=row[1], reason=str(error))
    found: list[Peer] = []
    for row in peers:
        try:
            found.append(_peer(row, tuple(of_peer.get(row[0], ()))))
        except (ValueError, KeyError, SecretError) as error:
            log.error("peer cannot be used", peer=row[1], reason=str(error))
    return found


def _agreement(row: Any) -> Agreement:
    (
        _, identity, direction, dev_addrs, dev_euis, join_euis, tags, gateways, classes, up_rate, up_bucket, up_policy,
        down_rate, down_bucket, down_policy, up_airtime, down_airtime, downlinks, mic_filter, keys, lifetime_s, class_c,
        valid_from, valid_until, signed_here, signed_there, purpose, retention,
    ) = row  # fmt: skip
    return Agreement(
        id=identity,
        direction=Direction(direction),
        devices=Devices(
            dev_addrs=ranges(dev_addrs, 32),
            dev_euis=ranges(dev_euis, 64),
            join_euis=ranges(join_euis, 64),
            tags={str(k): str(v) for k, v in tags.items()},
        ),
        gateways=GatewayChoice(gateways),
        classes=frozenset(DataClass(one) for one in classes),
        uplink_rate=Rate(up_rate, up_bucket, RatePolicy(up_policy)) if up_rate is not None else None,
        downlink_rate=Rate(down_rate, down_bucket, RatePolicy(down_policy))
        if down_rate is not None
        else None,
        uplink_airtime_s_per_day=up_airtime,
        downlink_airtime_s_per_day=down_airtime,
        downlinks_per_day=downlinks,
        mic_filter=mic_filter,
        hand_over_keys=keys,
        lifetime_s=lifetime_s,
        class_c=class_c,
        valid_from=valid_from,
        valid_until=valid_until,
        signed_here_at=signed_here,
        signed_there_at=signed_there,
        purpose=purpose,
        retention_days=retention,
    )


def _peer(row: Any, agreements: tuple[Agreement, ...]) -> Peer:
    (
        identity, key, name, net_ids, nsid, join_euis, protocol, url, asynchronous, role_suffix, timeout_s,
        fingerprints, subject, authority, bearer_digest, sealed, kek_label, gateway,
    ) = row  # fmt: skip
    secret = unseal(sealed)
    return Peer(
        id=identity,
        key=key,
        name=name,
        net_ids=tuple(str(one).lower() for one in net_ids),
        nsid=Eui64.parse(nsid) if nsid else None,
        join_euis=ranges(join_euis, 64),
        protocol=PeerProtocol(protocol),
        url=url,
        asynchronous=asynchronous,
        role_suffix=role_suffix,
        authorization=secret.get("authorization", ""),
        tls=Tls(
            certificate=secret.get("certificate", ""), key=secret.get("key", ""), ca=secret.get("ca", "")
        ),
        credentials=Credentials(
            fingerprints=frozenset(one.lower().replace(":", "") for one in fingerprints),
            subject=subject,
            authority=authority,
            bearer_digest=bearer_digest,
        ),
        keks={label: bytes.fromhex(kek) for label, kek in secret.get("keks", {}).items()},
        kek_label=kek_label,
        mic_keys=_mic_keys(secret.get("mic_keys", ())),
        agreements=agreements,
        gateway=_gateway(gateway, secret),
        timeout_s=timeout_s,
    )


def _mic_keys(listed: Any) -> Mapping[int, tuple[MicKey, ...]]:
    found: dict[int, tuple[MicKey, ...]] = {}
    for one in listed:
        key = MicKey(
            dev_addr=int(one["dev_addr"], 16),
            key=bytes.fromhex(one["key"]),
            version_1_1=bool(one.get("version_1_1")),
            dev_eui=bytes.fromhex(one["dev_eui"]) if one.get("dev_eui") else None,
        )
        if len(key.key) != 16:
            raise ValueError("mic_keys: a key has 16 bytes")
        found[key.dev_addr] = (*found.get(key.dev_addr, ()), key)
    return found


def _gateway(settings: Mapping[str, Any], secret: Mapping[str, Any]) -> VirtualGateway | None:
    if not settings:
        return None
    return VirtualGateway(
        eui=bytes(Eui64.parse(settings["eui"])),
        host=settings.get("host", ""),
        port=int(settings.get("port", 1700)),
        url=settings.get("url", ""),
        token=secret.get("gateway_token", ""),
    )
