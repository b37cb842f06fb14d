"""Servers that know one gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # these bring Django's models, which cannot be imported before it is set up
    from tests.lorawan.gateways.test_station import Lns
    from tests.lorawan.gateways.test_udp import Udp


@pytest.fixture
async def udp() -> AsyncIterator[Udp]:
    from tests.lorawan.gateways.test_udp import Udp

    bench = Udp()
    await bench.start()
    bench.known.add()
    yield bench
    await bench.close()


@pytest.fixture
async def lns() -> AsyncIterator[Lns]:
    from tests.lorawan.gateways.test_station import Lns

    bench = Lns()
    await bench.start()
    bench.known.add()
    yield bench
    await bench.close()
