"""How much the kernel keeps of what arrives by UDP while the process does something else, and what it threw away.

A datagram that finds the receive buffer full is gone without a word. Buffers of the default size hold some hundred
datagrams, which a busy second of many gateways exceeds.
"""

from __future__ import annotations

import contextlib
import socket
import struct
from pathlib import Path
from typing import Any, Final

MOST_DATAGRAMS_PER_S: Final = 5000
DATAGRAM_BYTES: Final = 2304
"""What one datagram with a frame is charged against the buffer, page and bookkeeping included, by usual drivers."""
RECEIVE_BYTES: Final = MOST_DATAGRAMS_PER_S * DATAGRAM_BYTES
"""The least buffer that outlasts a second without anybody fetching."""
_LIMIT: Final = Path("/proc/sys/net/core/rmem_max")
# Of Linux; Python does not name them (asm-generic/socket.h).
_SO_RCVBUFFORCE: Final = 33
_SO_MEMINFO: Final = 55
_MEMINFO: Final = struct.Struct("9I")
_DROPS: Final = 8


def enlarge(raw: Any, size: int = RECEIVE_BYTES) -> int:
    """Ask for ``size`` bytes of receive buffer, past ``net.core.rmem_max`` where the process may; what was granted.

    ``raw`` is a socket, or what asyncio gives for one.
    """
    # The kernel takes the double of what it is asked for, because it counts its own bookkeeping (socket(7)).
    try:
        raw.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size // 2)
    except OSError:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size // 2)
    return int(raw.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF))


def grantable(size: int = RECEIVE_BYTES) -> int:
    """How large a receive buffer this process can get, at most ``size`` bytes."""
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        return min(size, enlarge(probe, size))


def limit() -> int | None:
    """``net.core.rmem_max`` in bytes; None where the system has no such thing."""
    with contextlib.suppress(OSError, ValueError):
        return int(_LIMIT.read_text())
    return None


def dropped(raw: Any) -> int | None:
    """How many datagrams of this socket the kernel threw away, modulo 2^32; None where it does not say."""
    try:
        told = raw.getsockopt(socket.SOL_SOCKET, _SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return None
    return int(_MEMINFO.unpack(told)[_DROPS]) if len(told) == _MEMINFO.size else None
