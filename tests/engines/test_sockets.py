"""Receive buffers: what the kernel grants, and what it says of datagrams that it threw away."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from quartier.engines import sockets


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(type=socket.SOCK_DGRAM) as made:
        made.bind(("127.0.0.1", 0))
        made.setblocking(False)
        yield made


def _flood(receiver: socket.socket, count: int) -> int:
    """Send so many before anybody fetches; how many can be fetched then."""
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        for _ in range(count):
            sender.sendto(bytes(300), receiver.getsockname())
    fetched = 0
    while True:
        try:
            receiver.recv(2000)
        except BlockingIOError:
            return fetched
        fetched += 1


def test_every_datagram_is_fetched_or_counted_as_dropped(receiver: socket.socket) -> None:
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    fetched = _flood(receiver, 100)
    assert 0 < fetched < 100
    assert sockets.dropped(receiver) == 100 - fetched


def test_enlarged_buffer_holds_what_it_promises(receiver: socket.socket) -> None:
    granted = sockets.enlarge(receiver)
    assert granted == sockets.grantable()
    promised = min(sockets.MOST_DATAGRAMS_PER_S, granted // sockets.DATAGRAM_BYTES)
    assert _flood(receiver, promised) == promised
    assert sockets.dropped(receiver) == 0


def test_no_more_is_granted_than_was_asked_for() -> None:
    assert sockets.grantable(65_536) == 65_536


def test_limit_of_this_system() -> None:
    limit = sockets.limit()
    assert limit is not None
    assert sockets.grantable() >= min(sockets.RECEIVE_BYTES, 2 * limit)
