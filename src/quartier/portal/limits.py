"""How often one visitor may do something that costs others time.

A visitor is known only by a keyed hash of the address, with a key that changes every day, and only until the period is
over: nobody can read addresses from it.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress

from django.core.cache import cache
from django.http import HttpRequest
from django.utils import timezone

from quartier.config import config


def visitor_address(request: HttpRequest) -> str:
    """The visitor's address: what the connection says, or behind a proxy of our own, what that proxy says."""
    peer = str(request.META.get("REMOTE_ADDR", ""))
    forwarded = str(request.META.get("HTTP_X_FORWARDED_FOR", ""))
    try:
        inside = ipaddress.ip_address(peer).is_private
    except ValueError:
        return peer
    # The last entry is the one that the nearest proxy wrote; those before it anybody may have written.
    return forwarded.rsplit(",", 1)[-1].strip() if inside and forwarded else peer


def allow(request: HttpRequest, action: str, *, times: int, period_s: int) -> bool:
    """Count this try; False if the visitor has had ``times`` of them within ``period_s`` already."""
    day = timezone.now().date().isoformat()
    key = hmac.new(
        config().secret().encode(), f"{action}|{day}|{visitor_address(request)}".encode(), hashlib.sha256
    ).hexdigest()[:32]
    name = f"limit:{key}"
    cache.add(name, 0, timeout=period_s)
    try:
        return cache.incr(name) <= times
    except ValueError:
        # It ran out between the two calls.
        return True
