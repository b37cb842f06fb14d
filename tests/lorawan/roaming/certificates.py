"""A certificate authority for one test, and certificates for servers and their peers."""

from __future__ import annotations

import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from quartier.lorawan.roaming.peers import Tls
from quartier.lorawan.roaming.tls import server_context


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate with its key, as PEM."""

    certificate: str
    key: str
    fingerprint: str

    def tls(self, authority: Authority) -> Tls:
        """For calling somebody whose certificate ``authority`` signed."""
        return Tls(certificate=self.certificate, key=self.key, ca=authority.certificate)

    def server(self, folder: Path, authority: Authority) -> ssl.SSLContext:
        """For being called by clients whose certificates ``authority`` signed."""
        certificate, key = folder / "certificate.pem", folder / "key.pem"
        certificate.write_text(self.certificate)
        key.write_text(self.key)
        return server_context(certificate=certificate, key=key, authorities=authority.certificate)


class Authority:
    """Signs."""

    def __init__(self, name: str = "Test CA") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(name)
        made = self._builder(self._name, self._key.public_key()).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self._signed = made.sign(self._key, hashes.SHA256())
        self.certificate = self._signed.public_bytes(serialization.Encoding.PEM).decode()

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + timedelta(days=1))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
        )

    def identity(self, common_name: str) -> Identity:
        """A certificate for 127.0.0.1, good for both sides."""
        key = ec.generate_private_key(ec.SECP256R1())
        signed = (
            self._builder(_name(common_name), key.public_key())
            .add_extension(
                x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
                critical=False,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        return Identity(
            signed.public_bytes(serialization.Encoding.PEM).decode(),
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode(),
            hashlib.sha256(signed.public_bytes(serialization.Encoding.DER)).hexdigest(),
        )
