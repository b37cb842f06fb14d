"""Requests that wait for their answer, and answers that were given, by peer and TransactionID (TS002 1.0 §22.1)."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from quartier.lorawan.roaming.messages import Answer

MAX_PENDING_PER_PEER: Final = 1000
MAX_REMEMBERED: Final = 20_000
REMEMBERED_S: Final = 60.0


class TooMany(Exception):
    """A peer owes us too many answers already."""


class Pending:
    """Open requests. An answer is taken only from the peer that was asked, and only once."""

    def __init__(self) -> None:
        self._open: dict[str, dict[int, tuple[str, asyncio.Future[Answer]]]] = {}
        self._next = secrets.randbits(32)

    def open(self, peer: str, answer_type: str) -> tuple[int, asyncio.Future[Answer]]:
        """A new TransactionID and where its answer will arrive. Raises TooMany."""
        of_peer = self._open.setdefault(peer, {})
        if len(of_peer) >= MAX_PENDING_PER_PEER:
            raise TooMany(peer)
        self._next = self._next + 1 & 0xFFFF_FFFF
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        of_peer[self._next] = (answer_type, future)
        return self._next, future

    def close(self, peer: str, transaction: int) -> None:
        """Nobody waits any longer."""
        of_peer = self._open.get(peer)
        if of_peer is not None and of_peer.pop(transaction, None) is not None and not of_peer:
            del self._open[peer]

    def resolve(self, peer: str, answer: Answer) -> bool:
        """Hand an answer over; False where nobody waits for it, and it is discarded."""
        waiting = self._open.get(peer, {}).get(answer.transaction_id)
        if waiting is None or waiting[1].done() or answer.message_type != waiting[0]:
            return False
        waiting[1].set_result(answer)
        return True


@dataclass(slots=True)
class _Given:
    digest: bytes
    at_s: float
    answer: asyncio.Future[bytes]


class Given:
    """Answers of the last minute: a request that is repeated because its answer got lost is answered the same.

    Without this the second copy of a frame would be a replay.
    """

    def __init__(self) -> None:
        self._answers: OrderedDict[tuple[str, int], _Given] = OrderedDict()

    def before(self, peer: str, transaction: int, body: bytes) -> asyncio.Future[bytes] | None:
        """The answer (maybe still to come) to the same request; None for a new one, which is remembered now."""
        now_s = asyncio.get_running_loop().time()
        digest = hashlib.sha256(body).digest()
        key = (peer, transaction)
        known = self._answers.get(key)
        if known is not None and known.digest == digest and now_s - known.at_s < REMEMBERED_S:
            return known.answer
        self._answers[key] = _Given(digest, now_s, asyncio.get_running_loop().create_future())
        self._answers.move_to_end(key)
        while self._answers:
            oldest = next(iter(self._answers.values()))
            if len(self._answers) <= MAX_REMEMBERED and now_s - oldest.at_s < REMEMBERED_S:
                break
            _, dropped = self._answers.popitem(last=False)
            if not dropped.answer.done():
                dropped.answer.cancel()
        return None

    def give(self, peer: str, transaction: int, answer: bytes) -> None:
        """The answer is known."""
        known = self._answers.get((peer, transaction))
        if known is not None and not known.answer.done():
            known.answer.set_result(answer)
