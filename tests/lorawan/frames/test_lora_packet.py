"""Thousands of random frames against npm's ``lora-packet``, an implementation that shares nothing with ours.

All jobs of a test go through one Node process. Where lora-packet 0.9.3 differs from the standard nothing is asked: it
signs the acknowledged counter of a 1.1 uplink on port 0 even without ACK, and makes no frames without a port.
"""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools import build_frontend

from quartier.lorawan.frames import crypto, keys, phy
from quartier.lorawan.frames.phy import Data, FrameType

SCRIPT = Path(__file__).with_name("lora_packet.js")
TYPES = {
    FrameType.UNCONFIRMED_UP: "Unconfirmed Data Up",
    FrameType.UNCONFIRMED_DOWN: "Unconfirmed Data Down",
    FrameType.CONFIRMED_UP: "Confirmed Data Up",
    FrameType.CONFIRMED_DOWN: "Confirmed Data Down",
}
type Job = dict[str, Any]


def ask(jobs: list[Job]) -> list[Job]:
    """What lora-packet answers to each job."""
    node = build_frontend.find_node()
    done = subprocess.run(
        [node.node, SCRIPT],
        input=json.dumps(jobs),
        env=node.environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    answers: list[Job] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def chance() -> random.Random:
    return random.Random(20261126)  # noqa: S311 - the same frames in every run


def session(chance: random.Random, *, lorawan_1_1: bool) -> crypto.SessionKeys:
    if not lorawan_1_1:
        return crypto.session_1_0(chance.randbytes(16), chance.randbytes(16))
    f, s, enc, app = (chance.randbytes(16) for _ in range(4))
    return crypto.SessionKeys(f, s, enc, app, lorawan_1_1=True)


def frames(chance: random.Random, number: int, *, ports_from: int = 0) -> Iterator[tuple[Data, int]]:
    """Data frames in the clear with their 32-bit counters."""
    for _ in range(number):
        port = chance.choice((None, chance.randint(ports_from, 2), chance.randint(1, 255)))
        options = b"" if port == 0 else chance.randbytes(chance.choice((0, 0, 1, 5, 15)))
        payload = b"" if port is None else chance.randbytes(chance.choice((0, 1, 15, 16, 17, 51, 222)))
        counter = chance.choice((chance.getrandbits(8), chance.getrandbits(16), chance.getrandbits(32)))
        kind = chance.choice(tuple(TYPES))
        flags = chance.getrandbits(4) << 4
        frame = Data(kind, chance.getrandbits(32), counter & 0xFFFF, flags, options, port, payload)
        yield frame, counter


@pytest.mark.parametrize("lorawan_1_1", [False, True], ids=["1.0", "1.1"])
def test_our_data_frames_are_read_there(chance: random.Random, lorawan_1_1: bool) -> None:
    jobs: list[Job] = []
    expected: list[Job] = []
    for frame, counter in frames(chance, 1000):
        mine = session(chance, lorawan_1_1=lorawan_1_1)
        confirmed, data_rate, channel = chance.getrandbits(16), chance.randint(0, 7), chance.randint(0, 15)
        if frame.uplink:
            sealed = crypto.seal_data(
                mine, frame, counter, confirmed_counter=confirmed, data_rate=data_rate, channel=channel
            )
            if not frame.ack:
                confirmed = 0
            facts = confirmed.to_bytes(2) + bytes((data_rate, channel))
        else:
            sealed = crypto.seal_data(mine, frame, counter, confirmed_counter=confirmed)
            facts = (confirmed if frame.ack else 0).to_bytes(2, "little")
        wrong = chance.random() < 0.2
        if wrong:
            at = chance.randrange(1, 5)
            sealed = (
                sealed[:-at]
                + bytes((sealed[-at] ^ 1 << chance.randrange(8),))
                + sealed[len(sealed) - at + 1 :]
            )
        jobs.append(
            {
                "do": "open",
                "phy": sealed.hex(),
                "f_key": mine.f_nwk_s_int_key.hex(),
                "enc_key": mine.nwk_s_enc_key.hex(),
                "app_key": mine.app_s_key.hex(),
                "high": (counter >> 16).to_bytes(2, "little").hex(),
            }
            | ({"s_key": mine.s_nwk_s_int_key.hex(), "confirmed": facts.hex()} if lorawan_1_1 else {})
        )
        expected.append(
            {
                "fits": not wrong,
                "type": TYPES[frame.type],
                "dev_addr": f"{frame.dev_addr:08x}",
                "frame_counter": counter & 0xFFFF,
                "adr": frame.adr,
                "ack": frame.ack,
                "pending": frame.pending,
                "port": frame.port,
                "payload": frame.payload.hex(),
                "options": frame.options.hex(),
            }
        )
    assert ask(jobs) == expected


@pytest.mark.parametrize("lorawan_1_1", [False, True], ids=["1.0", "1.1"])
def test_their_data_frames_are_read_here(chance: random.Random, lorawan_1_1: bool) -> None:
    jobs: list[Job] = []
    made: list[tuple[crypto.SessionKeys, Data, int, int, int, int]] = []
    for frame, counter in frames(chance, 1000, ports_from=1):
        if frame.port is None:
            continue  # lora-packet signs only frames with a port
        mine = session(chance, lorawan_1_1=lorawan_1_1)
        confirmed = chance.getrandbits(16) if frame.ack else 0
        data_rate, channel = chance.randint(0, 7), chance.randint(0, 15)
        facts = (
            confirmed.to_bytes(2) + bytes((data_rate, channel))
            if frame.uplink
            else confirmed.to_bytes(2, "little")
        )
        made.append((mine, frame, counter, confirmed, data_rate, channel))
        jobs.append(
            {
                "do": "seal",
                "type": TYPES[frame.type],
                "dev_addr": f"{frame.dev_addr:08x}",
                "adr": frame.adr,
                "adr_ack_request": frame.adr_ack_request,
                "ack": frame.ack,
                "pending": frame.pending,
                "frame_counter": counter & 0xFFFF,
                "options": frame.options.hex(),
                "port": frame.port,
                "payload": frame.payload.hex(),
                "f_key": mine.f_nwk_s_int_key.hex(),
                "app_key": mine.app_s_key.hex(),
                "high": (counter >> 16).to_bytes(2, "little").hex(),
            }
            | ({"s_key": mine.s_nwk_s_int_key.hex(), "confirmed": facts.hex()} if lorawan_1_1 else {})
        )
    for answer, (mine, frame, counter, confirmed, data_rate, channel) in zip(ask(jobs), made, strict=True):
        whole = bytes.fromhex(answer["phy"])
        read = phy.parse(whole)
        assert isinstance(read, Data)
        if frame.uplink:
            fits = {"confirmed_counter": confirmed, "data_rate": data_rate, "channel": channel}
            assert crypto.uplink_fits(mine, whole, counter, **fits)
            if lorawan_1_1:
                assert crypto.uplink_fits(mine, whole, counter, **(fits | {"channel": None}))  # type: ignore[arg-type]
            assert not crypto.uplink_fits(mine, whole, counter ^ 0x1_0000, **fits)
            assert crypto.forwarder_fits(mine.f_nwk_s_int_key, whole, counter, lorawan_1_1=lorawan_1_1)
        else:
            assert crypto.downlink_fits(mine, whole, counter, confirmed_counter=confirmed)
            assert not crypto.downlink_fits(mine, whole, counter ^ 0x1_0000, confirmed_counter=confirmed)
        clear = crypto.open_data(mine, read, counter)
        assert (clear.type, clear.dev_addr, clear.frame_counter, clear.flags, clear.port, clear.payload) == (
            (frame.type, frame.dev_addr, frame.frame_counter, frame.flags, frame.port, frame.payload)
        )
        assert read.options == frame.options


def test_join_requests_are_the_same(chance: random.Random) -> None:
    requests = [
        (
            chance.randbytes(16),
            phy.JoinRequest(chance.randbytes(8), chance.randbytes(8), chance.getrandbits(16)),
        )
        for _ in range(300)
    ]
    jobs = [
        {
            "do": "join_request",
            "key": key.hex(),
            "join_eui": one.join_eui.hex(),
            "dev_eui": one.dev_eui.hex(),
            "dev_nonce": f"{one.dev_nonce:04x}",
        }
        for key, one in requests
    ]
    theirs = [bytes.fromhex(answer["phy"]) for answer in ask(jobs)]
    assert theirs == [crypto.seal_request(key, one) for key, one in requests]
    for (key, _), whole in zip(requests, theirs, strict=True):
        read = phy.parse(whole)
        assert isinstance(read, phy.JoinRequest)
        assert crypto.join_fits(key, read)
        assert not crypto.join_fits(bytes(16), read)


def test_join_accepts_are_the_same(chance: random.Random) -> None:
    """With and without CFList and OptNeg; the frames are the same to the byte, and ours opens theirs."""
    jobs: list[Job] = []
    made: list[tuple[bytes, bytes | None, bytes, int, phy.JoinAccept]] = []
    for _ in range(400):
        key, join_eui, dev_nonce = chance.randbytes(16), chance.randbytes(8), chance.getrandbits(16)
        accept = phy.JoinAccept(
            join_nonce=chance.getrandbits(24),
            net_id=chance.getrandbits(24),
            dev_addr=chance.getrandbits(32),
            rx1_data_rate_offset=chance.randint(0, 5),
            rx2_data_rate=chance.randint(0, 7),
            opt_neg=chance.random() < 0.5,
            rx_delay_s=chance.randint(1, 15),
            channel_list=chance.randbytes(16) if chance.random() < 0.5 else None,
        )
        js_int_key = chance.randbytes(16) if accept.opt_neg else None
        made.append((key, js_int_key, join_eui, dev_nonce, accept))
        jobs.append(
            {
                "do": "join_accept",
                "key": key.hex(),
                "join_nonce": f"{accept.join_nonce:06x}",
                "net_id": f"{accept.net_id:06x}",
                "dev_addr": f"{accept.dev_addr:08x}",
                "settings": accept.message()[11:12].hex(),
                "rx_delay": accept.message()[12:13].hex(),
                "channel_list": (accept.channel_list or b"").hex(),
                "join_eui": join_eui.hex(),
                "dev_nonce": f"{dev_nonce:04x}",
            }
            | ({"js_int_key": js_int_key.hex()} if js_int_key else {})
        )
    for answer, (key, js_int_key, join_eui, dev_nonce, accept) in zip(ask(jobs), made, strict=True):
        whole = bytes.fromhex(answer["phy"])
        assert whole == crypto.seal_join_accept(
            js_int_key or key, key, accept, join_eui=join_eui, nonce=dev_nonce
        )
        frame = phy.parse(whole)
        assert isinstance(frame, phy.EncryptedJoinAccept)
        opened = crypto.open_join_accept(
            key, key, frame, join_eui=join_eui, nonce=dev_nonce, js_int_key=js_int_key
        )
        assert opened == accept


def test_rejoin_requests_fit_there(chance: random.Random) -> None:
    jobs: list[Job] = []
    for number in range(150):
        kind = number % 3
        s_key, js_int_key = chance.randbytes(16), chance.randbytes(16)
        frame = phy.RejoinRequest(
            kind,
            None if kind == 1 else chance.getrandbits(24),
            chance.randbytes(8) if kind == 1 else None,
            chance.randbytes(8),
            chance.getrandbits(16),
        )
        sealed = crypto.seal_request(js_int_key if kind == 1 else s_key, frame)
        jobs.append(
            {"do": "rejoin_fits", "phy": sealed.hex(), "s_key": s_key.hex(), "js_int_key": js_int_key.hex()}
        )
    jobs.append(jobs[0] | {"s_key": bytes(16).hex()})
    assert [answer["fits"] for answer in ask(jobs)] == [True] * 150 + [False]


def test_derived_keys_are_the_same(chance: random.Random) -> None:
    jobs: list[Job] = []
    expected: list[Job] = []
    for _ in range(200):
        app_key, nwk_key, join_eui, dev_eui = (chance.randbytes(size) for size in (16, 16, 8, 8))
        join_nonce, net_id, dev_nonce = chance.getrandbits(24), chance.getrandbits(24), chance.getrandbits(16)
        jobs.append(
            {
                "do": "keys",
                "app_key": app_key.hex(),
                "nwk_key": nwk_key.hex(),
                "join_eui": join_eui.hex(),
                "dev_eui": dev_eui.hex(),
                "join_nonce": f"{join_nonce:06x}",
                "net_id": f"{net_id:06x}",
                "dev_nonce": f"{dev_nonce:04x}",
            }
        )
        old = keys.derive_1_0(app_key, join_nonce=join_nonce, net_id=net_id, dev_nonce=dev_nonce)
        new = keys.derive_1_1(nwk_key, app_key, join_nonce=join_nonce, join_eui=join_eui, nonce=dev_nonce)
        assert (old.lorawan_1_1, new.lorawan_1_1) == (False, True)
        assert old.f_nwk_s_int_key == old.s_nwk_s_int_key == old.nwk_s_enc_key
        expected.append(
            {
                "v1_0": {"NwkSKey": old.f_nwk_s_int_key.hex(), "AppSKey": old.app_s_key.hex()},
                "v1_1": {
                    "FNwkSIntKey": new.f_nwk_s_int_key.hex(),
                    "SNwkSIntKey": new.s_nwk_s_int_key.hex(),
                    "NwkSEncKey": new.nwk_s_enc_key.hex(),
                    "AppSKey": new.app_s_key.hex(),
                },
                "join_server": {
                    "JSIntKey": keys.js_int_key(nwk_key, dev_eui).hex(),
                    "JSEncKey": keys.js_enc_key(nwk_key, dev_eui).hex(),
                },
            }
        )
    assert ask(jobs) == expected
