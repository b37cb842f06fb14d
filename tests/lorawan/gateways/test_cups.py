"""CUPS: the binary answer, signatures, and credentials that change in two phases.

``take_apart`` reads an answer the way ``cups.c`` and ``sys_credComplete`` of Station 2.0.6 do.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from zlib import crc32

import aiohttp
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from quartier.lorawan.gateways import cups_messages as cups
from quartier.lorawan.gateways.cups import CupsServer
from quartier.lorawan.gateways.cups_messages import (
    Answer,
    Credentials,
    CupsError,
    Report,
    Update,
    Wanted,
    answer,
)
from tests.lorawan.gateways.bench import EUI, OTHER, TOKEN, Bench
from tests.lorawan.gateways.test_gwmp import json_values

KEY = ec.generate_private_key(ec.SECP256R1())


def certificate(name: str, key: ec.EllipticCurvePrivateKey = KEY) -> x509.Certificate:
    """A self-signed certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - timedelta(days=1))
        .not_valid_after(datetime.now(UTC) + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )


TRUST = certificate("trust").public_bytes(serialization.Encoding.DER)
OWN = certificate("gateway").public_bytes(serialization.Encoding.DER)
KEY_DER = KEY.private_bytes(
    serialization.Encoding.DER, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
)
BY_TOKEN = Credentials.token(TRUST, "next-token")
BY_CERTIFICATE = Credentials(TRUST, KEY_DER, OWN)


@dataclass
class Parts:
    cups_uri: str
    lns_uri: str
    cups_credentials: bytes
    lns_credentials: bytes
    key_checksum: int | None
    signature: bytes
    update: bytes


def take_apart(packed: bytes) -> Parts:
    at = 0

    def segment(format_: str) -> bytes:
        nonlocal at
        (length,) = struct.unpack_from(format_, packed, at)
        at += struct.calcsize(format_)
        at += length
        return packed[at - length : at]

    cups_uri, lns_uri = segment("<B").decode(), segment("<B").decode()
    cups_credentials, lns_credentials = segment("<H"), segment("<H")
    signed, update = segment("<I"), segment("<I")
    assert at == len(packed)
    checksum = struct.unpack("<I", signed[:4])[0] if signed else None
    return Parts(cups_uri, lns_uri, cups_credentials, lns_credentials, checksum, signed[4:], update)


def split(blob: bytes) -> tuple[bytes, bytes, bytes]:
    """Trust, certificate and key, by the lengths in the DER."""

    def sequence(data: bytes) -> int:
        assert data[0] == 0x30
        return int.from_bytes(data[2:4]) + 4 if data[1] & 0x80 else data[1] + 2

    trust = sequence(blob)
    rest = blob[trust:]
    own = 0 if rest[0] == 0 else sequence(rest)
    return blob[:trust], rest[:own], rest[own or 4 :]


def report(**changes: Any) -> Report:
    plain: dict[str, Any] = {
        "router": "::1",
        "cups_uri": "https://cups.example:443",
        "lns_uri": "wss://lns.example:443",
        "cups_checksum": 1,
        "lns_checksum": 2,
        "package": "1.0.0",
        "keys": [],
    }
    return Report(**(plain | changes))


def test_nothing_to_do_is_fourteen_zeros() -> None:
    assert answer(report(), Wanted(), signed_in_with=b"").packed() == cups.NOTHING == bytes(14)
    as_wanted = Wanted(
        cups_uri="https://cups.example:443",
        lns_uri="wss://lns.example:443",
        cups_credentials=BY_TOKEN,
        lns_credentials=BY_CERTIFICATE,
        update=Update(1, "1.0.0", 1, {1: b"1234"}),
    )
    has = report(cups_checksum=BY_TOKEN.checksum, lns_checksum=BY_CERTIFICATE.checksum)
    assert answer(has, as_wanted, signed_in_with=BY_TOKEN.digest).packed() == bytes(14)


def test_credentials_can_be_taken_apart_and_have_the_stations_checksum() -> None:
    wanted = Wanted(cups_credentials=BY_TOKEN, lns_credentials=BY_CERTIFICATE)
    parts = take_apart(answer(report(), wanted, signed_in_with=b"").packed())
    assert split(parts.cups_credentials) == (TRUST, b"", b"Authorization: Bearer next-token\r\n")
    assert split(parts.lns_credentials) == (TRUST, OWN, KEY_DER)
    # sys_crcCred: the checksum runs over the three files, four zeros for one that is missing.
    by_file = crc32(b"Authorization: Bearer next-token\r\n", crc32(bytes(4), crc32(TRUST)))
    assert BY_TOKEN.checksum == by_file
    assert BY_CERTIFICATE.checksum == crc32(KEY_DER, crc32(OWN, crc32(TRUST)))
    assert BY_TOKEN.digest == hashlib.sha256(b"next-token").digest()
    assert BY_CERTIFICATE.digest == hashlib.sha256(OWN).digest()
    assert "next-token" not in repr(wanted)


def test_addresses() -> None:
    wanted = Wanted(cups_uri="https://cups.example:443", lns_uri="wss://other.example:443")
    parts = take_apart(answer(report(), wanted, signed_in_with=b"").packed())
    assert (parts.cups_uri, parts.lns_uri) == ("", "wss://other.example:443")


def test_new_cups_credentials_that_were_installed_but_not_used_are_sent_again() -> None:
    wanted = Wanted(cups_credentials=BY_TOKEN)
    installed = report(cups_checksum=BY_TOKEN.checksum)
    old = hashlib.sha256(b"old-token").digest()
    assert (
        take_apart(answer(installed, wanted, signed_in_with=old).packed()).cups_credentials
        == BY_TOKEN.packed()
    )
    assert (
        take_apart(answer(installed, wanted, signed_in_with=BY_TOKEN.digest).packed()).cups_credentials == b""
    )


def test_new_lns_credentials_that_were_not_used_are_sent_again() -> None:
    installed = report(lns_checksum=BY_TOKEN.checksum)
    unused = Wanted(lns_credentials=BY_TOKEN, lns_credentials_unused=True)
    assert (
        take_apart(answer(installed, unused, signed_in_with=b"").packed()).lns_credentials
        == BY_TOKEN.packed()
    )
    used = Wanted(lns_credentials=BY_TOKEN)
    assert take_apart(answer(installed, used, signed_in_with=b"").packed()).lns_credentials == b""


def test_an_update_is_signed_with_a_key_that_the_station_has() -> None:
    data = b"#!/bin/sh\necho new\n"
    checksum, signature = cups.sign(KEY, data)
    wanted = Wanted(update=Update(1, "2.0.0", len(data), {17: b"another", checksum: signature}))
    parts = take_apart(answer(report(keys=[5, checksum]), wanted, signed_in_with=b"").packed() + data)
    assert (parts.key_checksum, parts.update) == (checksum, data)
    assert checksum == crc32(cups.public_key_file(KEY.public_key()))
    # The Station makes the key of the 64 bytes of its file, and hashes with SHA-512.
    point = b"\x04" + cups.public_key_file(KEY.public_key())
    public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
    public.verify(parts.signature, parts.update, ec.ECDSA(hashes.SHA512()))
    with pytest.raises(InvalidSignature):
        public.verify(parts.signature, parts.update + b"!", ec.ECDSA(hashes.SHA512()))


@pytest.mark.parametrize("keys", [[], [5], None])
def test_without_a_matching_key_nothing_is_updated(keys: list[int] | None) -> None:
    wanted = Wanted(update=Update(1, "2.0.0", 4, {17: b"signature"}))
    assert answer(report(keys=keys), wanted, signed_in_with=b"").packed() == bytes(14)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Credentials(b"-----BEGIN", b"key"), "trust: not one certificate in DER"),
        (lambda: Credentials(TRUST + b"!", b"key"), "trust: not one certificate in DER"),
        (
            lambda: Credentials(TRUST, b"key", b"\x30\x81\x80" + bytes(128)),
            "certificate: not one certificate in DER",
        ),
        (lambda: Credentials(TRUST, b""), "key: empty"),
        (lambda: Credentials(TRUST, b"k" * 65536), "credentials: more than 65,535 bytes"),
        (lambda: Credentials.token(TRUST, "a b"), "token: has to be printable ASCII without spaces"),
        (lambda: Update(1, "1", 0, {1: b"1234"}), "update: has to have 1 to 33554432 bytes"),
        (
            lambda: Update(1, "1", 33_554_433, {1: b"1234"}),
            "update: has to have 1 to 33554432 bytes",
        ),
        (lambda: Update(1, "1", 1, {}), "update: not signed"),
        (lambda: Update(1, "1", 1, {1: b"s" * 129}), "signature: has to have 4 to 128 bytes"),
        (lambda: Wanted(lns_uri="wss://" + "x" * 122), "lns_uri: at most 127 ASCII characters"),
        (
            lambda: cups.sign(ec.generate_private_key(ec.SECP384R1()), b""),
            "key: has to be on the curve P-256",
        ),
        (lambda: cups.parse(b'{"router":"x"}'), "router: 'x' is no EUI"),
    ],
)
def test_what_cannot_be(make: Any, message: str) -> None:
    with pytest.raises(CupsError) as caught:
        make()
    assert str(caught.value) == message


@settings(deadline=None)
@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(list(report().__struct_fields__)), json_values).map(
        lambda fields: json.dumps(fields).encode()
    )
)
def test_nothing_but_a_cups_error_comes_of_any_body(body: bytes) -> None:
    with contextlib.suppress(CupsError):
        cups.parse(body)


@dataclass
class Store:
    """Implements Stations."""

    want: Wanted | None = None
    reports: list[Report] = field(default_factory=list)
    given: list[list[str]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list)
    fetched: list[tuple[bytes, int]] = field(default_factory=list)

    async def wanted(self, eui: bytes, report: Report) -> Wanted | None:
        self.reports.append(report)
        return self.want

    async def answered(self, eui: bytes, report: Report, said: Answer) -> None:
        assert report is self.reports[-1]
        self.given.append(said.given)

    async def image(self, update: Update) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            yield piece

    async def delivered(self, eui: bytes, update: Update) -> None:
        self.fetched.append((eui, update.id))


class Served(Bench):
    """With a CUPS server."""

    def __init__(self) -> None:
        super().__init__()
        self.store = Store()
        self.url = ""

    async def ask(self, body: Any, token: str = TOKEN) -> tuple[int, str | None, bytes]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        data = body if isinstance(body, bytes) else json.dumps(body)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/update-info", data=data, headers=headers) as response,
        ):
            return response.status, response.reason, await response.read()


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    bench = Served()
    application = web.Application()
    application.add_routes(CupsServer(bench.registry, bench.store).routes())
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    bench.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield bench
    await runner.cleanup()


REQUEST = {
    "router": "a840:41ff:fe1e:c01",
    "cupsUri": "https://cups.example:443",
    "tcUri": "",
    "cupsCredCrc": 3421780262,
    "tcCredCrc": 0,
    "station": "2.0.6(linux/std) 2022-01-01 00:00:00",
    "model": "linux",
    "package": None,
    "keys": [],
}


async def test_rollover_of_a_token(served: Served) -> None:
    gateway = served.known.add()
    old = gateway.credentials[0]
    # Phase one: the next token is offered, both are valid.
    served.known.add(credentials=(old, BY_TOKEN.digest))
    served.store.want = Wanted(cups_credentials=BY_TOKEN)
    status, _, body = await served.ask(REQUEST)
    assert (status, take_apart(body).cups_credentials) == (200, BY_TOKEN.packed())
    # The Station fell back to its old credentials although it has the new ones.
    installed = REQUEST | {"cupsCredCrc": BY_TOKEN.checksum}
    assert take_apart((await served.ask(installed))[2]).cups_credentials == BY_TOKEN.packed()
    assert served.known.sign_ins == [(EUI, old)] * 2
    # Phase two: it came with the new one, so the store may drop the old one.
    assert await served.ask(installed, "next-token") == (200, "OK", bytes(14))
    assert served.known.sign_ins[-1] == (EUI, BY_TOKEN.digest)
    served.known.add(credentials=(BY_TOKEN.digest,))
    assert (await served.ask(REQUEST))[0] == 401
    assert served.store.reports[0].station == REQUEST["station"]
    assert served.store.given == [["cups_credentials"], ["cups_credentials"], []]


@pytest.mark.parametrize(
    ("body", "token", "status", "reason", "counted"),
    [
        (REQUEST, "wrong", 401, "unauthorised: wrong token or certificate", "unauthorised"),
        (REQUEST, "", 401, "unauthorised: neither token nor certificate", "unauthorised"),
        (REQUEST | {"router": OTHER.hex()}, TOKEN, 403, "unknown_gateway", "unknown_gateway"),
        (REQUEST | {"router": "x"}, TOKEN, 400, "malformed: router: 'x' is no EUI", "malformed"),
        (b"{" * 20_000, TOKEN, 413, "too_large: update-info", "too_large"),
    ],
)
async def test_requests_that_are_refused(
    served: Served, *, body: Any, token: str, status: int, reason: str, counted: str
) -> None:
    served.known.add()
    served.store.want = Wanted(cups_credentials=BY_TOKEN)
    assert (await served.ask(body, token))[:2] == (status, reason)
    assert served.reasons() == [counted]
    assert served.store.reports == []


async def test_a_station_of_which_nothing_is_kept(served: Served) -> None:
    served.known.add()
    assert await served.ask(REQUEST) == (200, "OK", bytes(14))
    assert served.store.given == [[]]
    (shown,) = served.registry.snapshot()
    assert (shown.version, shown.model, shown.online) == (REQUEST["station"], "linux", False)


async def test_an_update_is_fetched_in_pieces(served: Served) -> None:
    served.known.add()
    data = bytes(range(256)) * 2000
    checksum, signature = cups.sign(KEY, data)
    served.store.want = Wanted(
        lns_uri="wss://lns.example:443", update=Update(7, "2.0.0", len(data), {checksum: signature})
    )
    served.store.pieces = [data[at : at + 100_000] for at in range(0, len(data), 100_000)]
    status, _, body = await served.ask(REQUEST | {"keys": [checksum]})
    assert (status, take_apart(body)) == (
        200,
        Parts("", "wss://lns.example:443", b"", b"", checksum, signature, data),
    )
    assert (served.store.given, served.store.fetched) == ([["lns_uri", "update"]], [(EUI, 7)])


async def test_the_first_piece_of_an_answer_holds_what_stands_before_the_update(served: Served) -> None:
    """Station reads both addresses from what came with the headers, and no chunked transfer."""
    served.known.add()
    served.store.want = Wanted(update=Update(7, "2.0.0", 3, {17: b"signature"}))
    served.store.pieces = [b"new"]
    body = json.dumps(REQUEST | {"keys": [17]}).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", int(served.url.rpartition(":")[2]))
    writer.write(
        b"POST /update-info HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n" % len(body)
        + b"Authorization: Bearer %s\r\n\r\n" % TOKEN.encode()
        + body
    )
    head, _, first = (await reader.read(65536)).partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: 30\r\n" in head
    assert b"chunked" not in head
    assert first[:27] == bytes(6) + struct.pack("<II", 13, 17) + b"signature" + struct.pack("<I", 3)
    assert first[27:] + await reader.readexactly(30 - len(first)) == b"new"
    writer.close()


async def test_an_update_that_ends_too_early_was_not_delivered(served: Served) -> None:
    served.known.add()
    served.store.want = Wanted(update=Update(7, "2.0.0", 5, {17: b"signature"}))

    async def image(update: Update) -> AsyncIterator[bytes]:
        yield b"new"
        raise LookupError(update.id)

    served.store.image = image  # type: ignore[method-assign]
    with pytest.raises(aiohttp.ClientError):
        await served.ask(REQUEST | {"keys": [17]})
    assert served.store.fetched == []
