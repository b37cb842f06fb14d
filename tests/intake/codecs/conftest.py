"""A pool of worker processes, for async tests (`pool`) and for property tests (`bench`, on a loop in a thread)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

import pytest

from quartier.intake.codecs.sandbox import Call, CodecError, CodecPool, Decoded


@pytest.fixture
async def pool() -> AsyncIterator[CodecPool]:
    async with CodecPool(processes=1) as pool:
        yield pool


class Bench:
    """Runs coroutines against one pool that lives on an event loop in another thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.pool = CodecPool(processes=1)
        self.run(self.pool.start())

    def run[T](self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout=60)

    def decode(self, script: str, payload: bytes = b"", port: int | None = 1) -> Decoded | CodecError:
        [result] = self.run(self.pool.decode(script, [Call(payload, port)]))
        return result

    def close(self) -> None:
        self.run(self.pool.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    bench = Bench()
    yield bench
    bench.close()


type DecodeOne = Callable[..., Coroutine[Any, Any, Decoded | CodecError]]


@pytest.fixture
def decode(pool: CodecPool) -> DecodeOne:
    """One message through one script."""

    async def decode_one(script: str, payload: bytes = b"", port: int | None = 1) -> Decoded | CodecError:
        [result] = await pool.decode(script, [Call(payload, port)])
        return result

    return decode_one
