"""What Basics Stations and CUPS tell each other: requests, answers, credentials and signed updates.

Without aiohttp, because the rules and the pages use these words, too; the server is :mod:`.cups`.

Format: "The CUPS Protocol" of doc.sm.tc/station and ``cups.c``, ``sys_linux.c`` of Station 2.0.6.

Credentials change in two phases, because a Station falls back to a backup of its old ones where the new ones fail: both
are valid until it has signed in with the new ones. It reports the checksum of the new ones all the same while it uses
the old ones; then they are offered again.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from zlib import crc32

import msgspec
import structlog
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from quartier.lorawan.gateways.ids import IdError, parse_eui
from quartier.lorawan.types import Eui

log = structlog.get_logger(__name__)

LARGEST_UPDATE: Final = 32 * 1024 * 1024
LONGEST_URI: Final = 127  # Station's buffer; the format would take 255
LONGEST_SIGNATURE: Final = 128
NOTHING: Final = bytes(14)
_NO_CERTIFICATE: Final = bytes(4)
MOST_KEYS: Final = 16


class CupsError(ValueError):
    """What a Station could not read, or what it sent and we cannot; the message names the field."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """``trust`` is the CA's certificate in DER. Either ``certificate`` and ``key`` in DER, or ``key`` is a token.

    Raises CupsError where a Station could not take it apart again.
    """

    trust: bytes
    key: bytes = field(repr=False)
    certificate: bytes = b""

    def __post_init__(self) -> None:
        _check_der(self.trust, "trust")
        if self.certificate:
            _check_der(self.certificate, "certificate")
        if not self.key:
            raise CupsError("key: empty")
        if len(self.packed()) > 0xFFFF:
            raise CupsError("credentials: more than 65,535 bytes")

    @classmethod
    def token(cls, trust: bytes, token: str) -> Credentials:
        """Sign-in by a token: Station adds its key file to the headers of its request."""
        if not token.isascii() or not token.isprintable() or " " in token:
            raise CupsError("token: has to be printable ASCII without spaces")
        return cls(trust, f"Authorization: Bearer {token}\r\n".encode())

    def packed(self) -> bytes:
        """As CUPS sends them."""
        return self.trust + (self.certificate or _NO_CERTIFICATE) + self.key

    @property
    def checksum(self) -> int:
        """CRC-32, as the Station reports it."""
        return crc32(self.packed())

    @property
    def digest(self) -> bytes:
        """SHA-256 of the token or certificate: what ``Gateway.credentials`` holds of it."""
        if self.certificate:
            return hashlib.sha256(self.certificate).digest()
        return hashlib.sha256(self.key.decode().split()[-1].encode()).digest()


def _check_der(data: bytes, name: str) -> None:
    """One ASN.1 sequence, with a length that Station can read (below 128, or in two bytes)."""
    if len(data) >= 4 and data[0] == 0x30:
        if data[1] < 0x80 and len(data) == data[1] + 2:
            return
        if data[1] == 0x82 and len(data) == int.from_bytes(data[2:4]) + 4:
            return
    raise CupsError(f"{name}: not one certificate in DER")


@dataclass(frozen=True, slots=True)
class Update:
    """A program that the Station runs when a signature is right; ``signatures`` by the CRC-32 of the key.

    Its bytes stay where they are kept until a Station fetches them: many Stations may ask at once.
    """

    id: int
    package: str
    size: int
    signatures: Mapping[int, bytes]

    def __post_init__(self) -> None:
        if not 0 < self.size <= LARGEST_UPDATE:
            raise CupsError(f"update: has to have 1 to {LARGEST_UPDATE} bytes")
        if not self.signatures:
            raise CupsError("update: not signed")
        if any(not 4 <= len(one) <= LONGEST_SIGNATURE for one in self.signatures.values()):
            raise CupsError(f"signature: has to have 4 to {LONGEST_SIGNATURE} bytes")


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> tuple[int, bytes]:
    """CRC-32 of the public key as Station keeps it (64 bytes, P-256), and ECDSA over SHA-512 of an update."""
    if not isinstance(key.curve, ec.SECP256R1):
        raise CupsError("key: has to be on the curve P-256")
    return crc32(public_key_file(key.public_key())), key.sign(data, ec.ECDSA(hashes.SHA512()))


def public_key_file(key: ec.EllipticCurvePublicKey) -> bytes:
    """The content of a Station's ``sig-0.key``: the coordinates x and y."""
    numbers = key.public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a Station should have; None and empty texts leave as it is.

    ``lns_credentials_unused``: the Station reported these, but signed in at the network server with older ones since.
    """

    cups_uri: str = ""
    lns_uri: str = ""
    cups_credentials: Credentials | None = None
    lns_credentials: Credentials | None = None
    lns_credentials_unused: bool = False
    update: Update | None = None

    def __post_init__(self) -> None:
        for name, uri in (("cups_uri", self.cups_uri), ("lns_uri", self.lns_uri)):
            if not uri.isascii() or len(uri) > LONGEST_URI:
                raise CupsError(f"{name}: at most {LONGEST_URI} ASCII characters")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a Station says that it has."""

    router: str | int
    cups_uri: str | None = msgspec.field(default=None, name="cupsUri")
    lns_uri: str | None = msgspec.field(default=None, name="tcUri")
    cups_checksum: int | None = msgspec.field(default=None, name="cupsCredCrc")
    lns_checksum: int | None = msgspec.field(default=None, name="tcCredCrc")
    station: str | None = None
    model: str | None = None
    package: str | None = None
    keys: list[int] | None = None


_decoder = msgspec.json.Decoder(Report, strict=False)


def parse(body: bytes) -> tuple[Eui, Report]:
    """A request's body. Raises CupsError."""
    try:
        report = _decoder.decode(body)
        return parse_eui(report.router), report
    except IdError as error:
        raise CupsError(f"router: {error}") from None
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        raise CupsError(str(error)[:160]) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a Station is given; empty where it stays as it is."""

    cups_uri: bytes = b""
    lns_uri: bytes = b""
    cups_credentials: bytes = field(default=b"", repr=False)
    lns_credentials: bytes = field(default=b"", repr=False)
    signature: bytes = b""
    update: Update | None = None

    def packed(self) -> bytes:
        """As CUPS sends it; ``NOTHING`` where all stays as it is. The update's own bytes follow."""
        return b"".join(
            (
                struct.pack("<B", len(self.cups_uri)),
                self.cups_uri,
                struct.pack("<B", len(self.lns_uri)),
                self.lns_uri,
                struct.pack("<H", len(self.cups_credentials)),
                self.cups_credentials,
                struct.pack("<H", len(self.lns_credentials)),
                self.lns_credentials,
                struct.pack("<I", len(self.signature)),
                self.signature,
                struct.pack("<I", self.update.size if self.update else 0),
            )
        )

    @property
    def given(self) -> list[str]:
        """The names of the parts that are there."""
        return [name for name in PARTS if getattr(self, name)]


PARTS: Final = ("cups_uri", "lns_uri", "cups_credentials", "lns_credentials", "update")


def answer(report: Report, wanted: Wanted, *, signed_in_with: bytes) -> Answer:
    """What has to change at the Station.

    ``signed_in_with`` is the digest of the credential of this request: new credentials for CUPS that were installed but
    not used are sent again.
    """
    cups = wanted.cups_credentials
    cups_blob = b""
    if cups is not None and (report.cups_checksum != cups.checksum or signed_in_with != cups.digest):
        cups_blob = cups.packed()
    lns = wanted.lns_credentials
    lns_blob = b""
    if lns is not None and (report.lns_checksum != lns.checksum or wanted.lns_credentials_unused):
        lns_blob = lns.packed()
    signature, update = _update(wanted.update, report)
    return Answer(
        cups_uri=_uri(wanted.cups_uri, report.cups_uri),
        lns_uri=_uri(wanted.lns_uri, report.lns_uri),
        cups_credentials=cups_blob,
        lns_credentials=lns_blob,
        signature=signature,
        update=update,
    )


def _uri(wanted: str, has: str | None) -> bytes:
    return wanted.encode() if wanted and wanted != has else b""


def _update(wanted: Update | None, report: Report) -> tuple[bytes, Update | None]:
    if wanted is None or report.package == wanted.package:
        return b"", None
    for key in (report.keys or ())[:MOST_KEYS]:
        signature = wanted.signatures.get(key)
        if signature is not None:
            return struct.pack("<I", key) + signature, wanted
    # A Station without our key would refuse it, one without any key would run what nobody signed.
    log.warning("cups.no_matching_key", package=wanted.package, keys=len(report.keys or ()))
    return b"", None
