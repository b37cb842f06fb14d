"""A plain MQTT client for the tests: what a network server or a maker's board would use."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiomqtt


@dataclass(slots=True)
class Account:
    """Who signs in."""

    username: str
    password: str


@asynccontextmanager
async def mqtt(
    port: int, username: str, password: str, *, client_id: str | None = None
) -> AsyncIterator[aiomqtt.Client]:
    """A connected client."""
    async with aiomqtt.Client(
        "127.0.0.1",
        port,
        username=username,
        password=password,
        identifier=client_id,
        protocol=aiomqtt.ProtocolVersion.V311,
        max_inflight_messages=500,
        timeout=15,
    ) as client:
        client.pending_calls_threshold = 10_000
        yield client


async def publish_all(client: aiomqtt.Client, messages: list[tuple[str, bytes]], *, qos: int = 1) -> None:
    """Publish all; returns when all are acknowledged."""
    await asyncio.gather(*(client.publish(topic, payload, qos=qos) for topic, payload in messages))
