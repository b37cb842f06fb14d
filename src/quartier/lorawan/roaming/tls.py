"""TLS contexts for talking to peers: always with a certificate check, never older than TLS 1.2."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from quartier.lorawan.roaming.peers import Tls


def client_context(tls: Tls) -> ssl.SSLContext:
    """For calling a peer. Raises ssl.SSLError or OSError for PEM texts that are none."""
    context = ssl.create_default_context(cadata=tls.ca or None)
    _prepare(context)
    if tls.certificate:
        _load(context, tls.certificate, tls.key)
    return context


def server_context(*, certificate: Path, key: Path, authorities: str) -> ssl.SSLContext:
    """For being called: a client certificate is asked for and must come from one of ``authorities`` (PEM) if given.

    A caller without a certificate gets in and must then prove itself by its Authorization header.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    _prepare(context)
    context.load_cert_chain(certificate, key)
    if authorities:
        context.load_verify_locations(cadata=authorities)
        context.verify_mode = ssl.CERT_OPTIONAL
    return context


def _prepare(context: ssl.SSLContext) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The private authorities of networks leave out extensions that Python 3.13 insists on (RFC 5280 §4.2.1); signatures
    # and names are checked all the same.
    context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT


def _load(context: ssl.SSLContext, certificate: str, key: str) -> None:
    # Python's ssl reads key and certificate from files only; this one is gone before the call returns.
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate.rstrip() + "\n" + key)
        file.flush()
        context.load_cert_chain(file.name)
