"""Who is at the other end of an HTTP connection: address, token, client certificate."""

from __future__ import annotations

import ssl
from typing import Final

from aiohttp import web

_LONGEST_TOKEN: Final = 512


def host_of(request: web.Request) -> str:
    """The address of the other end of the connection."""
    return request.remote or ""


def token_of(request: web.Request) -> str:
    """The token in the ``Authorization`` header, with or without ``Bearer``; Station sends its key file as it is."""
    header = request.headers.get("Authorization", "").strip()
    scheme, _, rest = header.partition(" ")
    token = rest.strip() if scheme.lower() in ("bearer", "token") else header
    return token if len(token) <= _LONGEST_TOKEN else ""


def certificate_of(request: web.Request) -> bytes | None:
    """The client certificate (DER) that TLS has checked, None without."""
    connection = request.get_extra_info("ssl_object")
    if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
        return None
    return connection.getpeercert(binary_form=True)
