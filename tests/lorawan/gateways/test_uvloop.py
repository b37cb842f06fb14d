"""The loop that the radio runs on: its transports are not asyncio's, so the way through is walked there, too."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.lorawan.gateways.bench import EUI, UPLINK, answer, hearing, until
from tests.lorawan.gateways.test_station import Lns
from tests.lorawan.gateways.test_udp import Udp

run_on_each = pytest.mark.parametrize("run", [uvloop.run, asyncio.run])
Run = Callable[[Coroutine[Any, Any, None]], None]


@run_on_each
def test_a_packet_forwarder_hears_and_answers(run: Run) -> None:
    async def walk() -> None:
        udp = Udp()
        await udp.start()
        udp.known.add()
        forwarder = await udp.forwarder()
        forwarder.heard(hearing())
        await until(lambda: udp.receptions and forwarder.counts.acknowledged)
        result = await udp.transmitter.transmit(answer(udp.receptions[0]))
        assert (result.ok, result.window) == (True, 0)
        await until(lambda: udp.sent)
        await udp.close()

    run(walk())


class Identity:
    """A key and a self-signed certificate, in files."""

    def __init__(self, folder: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - timedelta(days=1))
            .not_valid_after(datetime.now(UTC) + timedelta(days=1))
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
            )
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.der = certificate.public_bytes(serialization.Encoding.DER)
        self.certificate = folder / f"{name}.crt"
        self.key = folder / f"{name}.key"
        self.certificate.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        self.key.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )

    def context(self, purpose: ssl.Purpose, *trusted: Identity) -> ssl.SSLContext:
        """TLS with this certificate, trusting others."""
        context = ssl.create_default_context(purpose)
        context.load_cert_chain(self.certificate, self.key)
        for other in trusted:
            context.load_verify_locations(other.certificate)
        return context


@run_on_each
def test_a_station_signs_in_with_its_certificate(run: Run, tmp_path: Path) -> None:
    server, gateway, other = (Identity(tmp_path, name) for name in ("server", "gateway", "other"))
    accepting = server.context(ssl.Purpose.CLIENT_AUTH, gateway, other)
    accepting.verify_mode = ssl.CERT_OPTIONAL

    async def walk() -> None:
        lns = Lns()
        await lns.start(ssl=accepting)
        lns.known.add(credentials=(hashlib.sha256(gateway.der).digest(),))
        wrong = lns.station(token="", ssl=other.context(ssl.Purpose.SERVER_AUTH, server))
        await until(lambda: wrong.refused)
        assert wrong.refused == "unauthorised: wrong token or certificate"
        await wrong.close()
        station = await lns.connected(token="", ssl=gateway.context(ssl.Purpose.SERVER_AUTH, server))
        station.heard(hearing())
        await until(lambda: lns.receptions)
        assert lns.receptions[0].phy == UPLINK
        result = await lns.transmitter.transmit(answer(lns.receptions[0]))
        assert (result.ok, result.window) == (True, 0)
        assert set(lns.known.sign_ins) == {(EUI, hashlib.sha256(gateway.der).digest())}
        await lns.close()

    run(walk())
