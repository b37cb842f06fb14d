"""Questions that many ask at once."""

from __future__ import annotations

import asyncio

import pytest

from quartier.sources.threads import Together


class Asked:
    def __init__(self) -> None:
        self.times = 0
        self.let_go = asyncio.Event()

    async def __call__(self) -> int:
        self.times += 1
        await self.let_go.wait()
        if self.times == 2:
            raise LookupError("gone")
        return self.times


async def test_all_who_ask_meanwhile_get_one_answer() -> None:
    together: Together[int] = Together()
    ask = Asked()
    waiting = [asyncio.create_task(together.of("a", ask)) for _ in range(5)]
    await asyncio.sleep(0)
    # One gives up; the others get their answer all the same.
    waiting[0].cancel()
    await asyncio.sleep(0)
    ask.let_go.set()
    assert await asyncio.gather(*waiting[1:]) == [1, 1, 1, 1]
    assert ask.times == 1

    # Later it is asked anew, and a mistake is everybody's.
    ask.let_go.clear()
    again = [asyncio.create_task(together.of("a", ask)) for _ in range(2)]
    await asyncio.sleep(0)
    ask.let_go.set()
    assert [type(one) for one in await asyncio.gather(*again, return_exceptions=True)] == [LookupError] * 2
    assert await together.of("a", ask) == 3


async def test_different_questions_do_not_wait_for_each_other() -> None:
    together: Together[int] = Together()
    ask = Asked()
    slow = asyncio.create_task(together.of("a", ask))

    async def at_once() -> int:
        return 7

    assert await together.of("b", at_once) == 7
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await together.of("a", ask)
    ask.let_go.set()
    assert await slow == 1
