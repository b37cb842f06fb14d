"""Being asked: who may speak, for whom, how much; and answers that come twice, late or not at all."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from quartier.lorawan.roaming import metrics
from quartier.lorawan.roaming.book import PeerBook
from quartier.lorawan.roaming.client import CallError, CallFailure, Client, Ourselves, Role
from quartier.lorawan.roaming.fields import Eui64, NetId, ResultCode
from quartier.lorawan.roaming.messages import MAX_BODY_BYTES, Answer, Header, MessageError, answer_to
from quartier.lorawan.roaming.peers import Credentials, Peer, PeerProtocol, Tls
from quartier.lorawan.roaming.pending import Pending
from quartier.lorawan.roaming.server import MAX_CONCURRENT_PER_PEER, Server
from quartier.lorawan.roaming.tls import client_context
from tests.lorawan.network.scene import until
from tests.lorawan.roaming.certificates import Authority, Identity

DEV_EUI = Eui64(bytes.fromhex("70b3d57ed0000001"))
HERE, THERE, THIRD = "000001", "000013", "000024"
ASK: dict[str, Any] = {
    "ProtocolVersion": "1.0",
    "SenderID": THERE,
    "ReceiverID": HERE,
    "TransactionID": 5,
    "MessageType": "HomeNSReq",
    "DevEUI": DEV_EUI.hex(),
}


@dataclass(slots=True)
class House:
    """A server with a handler that the test decides about."""

    server: Server
    url: str
    asked: list[tuple[str, Header]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    fail: Exception | None = None

    async def handle(self, peer: Peer, message: Header) -> Answer:
        self.asked.append((peer.key, message))
        if self.hold is not None:
            await self.hold.wait()
        if self.fail is not None:
            raise self.fail
        return answer_to(message, ResultCode.SUCCESS, home_net_id=NetId.parse(HERE))


def peer_of(identity: Identity, key: str = "there", net_id: str = THERE, **changes: Any) -> Peer:
    made = Peer(
        key=key,
        name=key,
        net_ids=(net_id,),
        credentials=Credentials(fingerprints=frozenset({identity.fingerprint})),
    )
    return replace(made, **changes)


@asynccontextmanager
async def house(
    peers: list[Peer], *, net_id: str = HERE, tls: Any = None, clients: dict[str, Client] | None = None
) -> AsyncIterator[House]:
    pending = Pending()
    made: list[House] = []

    async def handle(peer: Peer, message: Header) -> Answer:
        return await made[0].handle(peer, message)

    async def echo(peer: Peer, body: bytes) -> bytes:
        if body == b"no":
            raise ValueError("no such day")
        return body

    server = Server(
        PeerBook(peers),
        clients if clients is not None else {},
        ourselves=Ourselves(net_id=net_id),
        pending=pending,
        handle=handle,
        extensions={"echo": echo},
    )
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    scheme = "https" if tls is not None else "http"
    made.append(House(server, f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"))
    try:
        yield made[0]
    finally:
        await runner.cleanup()


async def post(
    url: str, message: Any, *, tls: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    content = message if isinstance(message, bytes) else json.dumps(message).encode()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls or True)) as session,
        session.post(url, data=content, headers=headers) as response,
    ):
        text = await response.text()
        return response.status, json.loads(text) if text.startswith("{") else text


def counted(peer: str, reason: str) -> float:
    return float(metrics.REFUSED.labels(peer, reason)._value.get())


async def test_peer_is_who_its_certificate_says(authority: Authority, tmp_path: Path) -> None:
    here, there, third = (authority.identity(name) for name in ("here", "there", "third"))
    stranger = authority.identity("stranger")
    peers = [peer_of(there), peer_of(third, "third", THIRD)]
    async with house(peers, tls=here.server(tmp_path, authority)) as server:
        status, answer = await post(server.url, ASK, tls=client_context(there.tls(authority)))
        assert (status, answer["Result"]["ResultCode"], answer["HNetID"]) == (200, "Success", HERE)
        assert [key for key, _ in server.asked] == ["there"]
        # The third speaks for the other: refused, and no handler hears it.
        before = counted("third", "sender")
        status, answer = await post(server.url, ASK, tls=client_context(third.tls(authority)))
        assert (status, answer["Result"]["ResultCode"]) == (403, "UnknownSender")
        assert counted("third", "sender") == before + 1
        # Signed by the same authority, but nobody we know; and nobody at all.
        before = counted("", "unknown_caller")
        for tls in (stranger.tls(authority), Tls(ca=authority.certificate)):
            assert (await post(server.url, ASK, tls=client_context(tls)))[0] == 403
        assert counted("", "unknown_caller") == before + 2
        assert len(server.asked) == 1


async def test_certificate_of_another_authority_does_not_even_connect(
    authority: Authority, tmp_path: Path
) -> None:
    here, there = authority.identity("here"), authority.identity("there")
    forged = Authority().identity("there")
    async with house([peer_of(there)], tls=here.server(tmp_path, authority)) as server:
        with pytest.raises((aiohttp.ClientError, OSError)):
            await post(server.url, ASK, tls=client_context(forged.tls(authority)))


async def test_name_in_a_certificate_counts_only_if_the_peer_s_authority_signed_it(
    authority: Authority, tmp_path: Path
) -> None:
    other = Authority("of somebody else")
    here = authority.identity("here")
    named = Peer(
        key="there",
        name="There",
        net_ids=(THERE,),
        credentials=Credentials(subject="ns.there.example", authority=authority.certificate),
    )
    book = PeerBook([named])

    def caller(identity: Identity) -> Peer | None:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        pem = x509.load_pem_x509_certificate(identity.certificate.encode())
        return book.proven(certificate=pem.public_bytes(Encoding.DER))

    assert caller(authority.identity("ns.there.example")) is named
    assert caller(other.identity("ns.there.example")) is None
    assert caller(here) is None


async def test_peer_behind_a_proxy_proves_itself_by_its_header() -> None:
    secret = "Bearer nur-unter-uns"
    there = Peer(
        key="there",
        name="There",
        net_ids=(THERE,),
        credentials=Credentials(bearer_digest=sha256(secret.encode()).hexdigest()),
    )
    async with house([there, Peer(key="open", name="Without any proof", net_ids=(THIRD,))]) as server:
        assert (await post(server.url, ASK, headers={"Authorization": secret}))[0] == 200
        assert (await post(server.url, ASK, headers={"Authorization": "Bearer falsch"}))[0] == 403
        assert (await post(server.url, ASK))[0] == 403
        assert (await post(server.url, ASK | {"SenderID": THIRD}))[0] == 403


@pytest.fixture
async def open_house() -> AsyncIterator[House]:
    secret = "Bearer s"
    there = Peer(
        key="there",
        name="There",
        net_ids=(THERE,),
        credentials=Credentials(bearer_digest=sha256(secret.encode()).hexdigest()),
    )
    async with house([there]) as server:
        yield server


SECRET = {"Authorization": "Bearer s"}


@pytest.mark.parametrize(
    ("message", "status", "result"),
    [
        (ASK | {"SenderID": "0x000013"}, 200, "Success"),
        (ASK | {"ReceiverID": "000099"}, 200, "UnkownReceiver"),
        (ASK | {"ReceiverID": "70B3D57ED0000001"}, 200, "Success"),
        (ASK | {"ProtocolVersion": "1.2"}, 200, "InvalidProtocolVersion"),
        (ASK | {"MessageType": "Hello"}, 200, "MalformedRequest"),
        (ASK | {"ProtocolVersion": "1.1", "MessageType": "Hello"}, 200, "MalformedMessage"),
        (ASK | {"DevEUI": "70b3"}, 200, "MalformedRequest"),
        (ASK | {"DevEUI": "70b3", "SenderID": THIRD}, 403, "UnknownSender"),
        ({"MessageType": "HomeNSReq"}, 400, None),
        (b"\x00" * 10, 400, None),
        (b"{" + b" " * MAX_BODY_BYTES + b"}", 413, None),
    ],
)
async def test_what_is_wrong_gets_its_answer(
    open_house: House, message: Any, status: int, result: str | None
) -> None:
    got, answer = await post(open_house.url, message, headers=SECRET)
    assert got == status
    if result is not None:
        assert answer["Result"]["ResultCode"] == result
        assert (answer["TransactionID"], answer["ReceiverID"]) == (5, message["SenderID"])


@pytest.mark.parametrize("path", ["", "/fns", "/sns", "/hns", "/js"])
async def test_address_may_end_in_a_role(open_house: House, path: str) -> None:
    assert (await post(open_house.url + path, ASK, headers=SECRET))[0] == 200


async def test_handler_s_errors_are_answers(open_house: House) -> None:
    open_house.fail = MessageError(ResultCode.DEV_ROAMING_DISALLOWED, "may not", field="DevEUI")
    _, answer = await post(open_house.url, ASK, headers=SECRET)
    assert answer["Result"] == {"ResultCode": "DevRoamingDisallowed", "Description": "DevEUI: may not"}
    open_house.fail = RuntimeError("secret detail")
    _, answer = await post(open_house.url, ASK | {"TransactionID": 6}, headers=SECRET)
    assert answer["Result"] == {"ResultCode": "Other", "Description": "internal error"}


async def test_repeated_request_is_handled_once_and_answered_twice(open_house: House) -> None:
    open_house.hold = asyncio.Event()
    twice = [asyncio.create_task(post(open_house.url, ASK, headers=SECRET)) for _ in range(2)]
    await until(lambda: open_house.asked)
    open_house.hold.set()
    (_, first), (_, second) = await asyncio.gather(*twice)
    assert first == second
    assert (await post(open_house.url, ASK, headers=SECRET))[1] == first
    assert len(open_house.asked) == 1
    # Another request with the same number is another request.
    await post(open_house.url, ASK | {"DevEUI": "70b3d57ed0000002"}, headers=SECRET)
    assert len(open_house.asked) == 2


async def test_answers_are_taken_only_where_one_is_awaited(open_house: House) -> None:
    answer = ASK | {"MessageType": "HomeNSAns", "Result": {"ResultCode": "Success"}, "HNetID": THERE}
    before = counted("there", "unexpected_answer")
    assert await post(open_house.url, answer, headers=SECRET) == (200, "")
    assert counted("there", "unexpected_answer") == before + 1
    assert (await post(open_house.url, answer | {"SenderID": THIRD}, headers=SECRET))[0] == 403


async def test_flood_of_one_peer_is_turned_away_and_others_are_served() -> None:
    peers = [
        Peer(
            key=key,
            name=key,
            net_ids=(net_id,),
            credentials=Credentials(bearer_digest=sha256(f"Bearer {key}".encode()).hexdigest()),
        )
        for key, net_id in (("loud", THERE), ("quiet", THIRD))
    ]
    async with house(peers) as server:
        server.hold = asyncio.Event()
        loud = [
            asyncio.create_task(
                post(server.url, ASK | {"TransactionID": number}, headers={"Authorization": "Bearer loud"})
            )
            for number in range(MAX_CONCURRENT_PER_PEER + 20)
        ]
        await until(lambda: sum(task.done() for task in loud) == 20)
        assert {task.result()[0] for task in loud if task.done()} == {429}
        quiet = asyncio.create_task(
            post(server.url, ASK | {"SenderID": THIRD}, headers={"Authorization": "Bearer quiet"})
        )
        await until(lambda: server.asked[-1][0] == "quiet")
        server.hold.set()
        assert (await quiet)[0] == 200
        assert [status for status, _ in await asyncio.gather(*loud)].count(200) == MAX_CONCURRENT_PER_PEER


async def test_extensions(open_house: House) -> None:
    url = open_house.url + "/quartier/echo"
    assert (await post(url, b'{"a": 1}', headers=SECRET)) == (200, {"a": 1})
    assert await post(url, b"no", headers=SECRET) == (400, "no such day")
    assert (await post(url, b"{}"))[0] == 403
    assert (await post(open_house.url + "/quartier/other", b"{}", headers=SECRET))[0] == 404


# The client


@asynccontextmanager
async def answering(answers: Any) -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """A server that answers as the function says."""
    asked: list[dict[str, Any]] = []

    async def handle(request: web.Request) -> web.Response:
        asked.append(await request.json())
        response: web.Response = await answers(asked[-1], len(asked))
        return response

    application = web.Application()
    application.router.add_post("/{tail:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}", asked
    finally:
        await runner.cleanup()


def good(asked: dict[str, Any], **changes: Any) -> web.Response:
    return web.json_response(
        {
            "ProtocolVersion": asked["ProtocolVersion"],
            "SenderID": asked["ReceiverID"],
            "ReceiverID": asked["SenderID"],
            "TransactionID": asked["TransactionID"],
            "MessageType": asked["MessageType"].replace("Req", "Ans"),
            "Result": {"ResultCode": "Success"},
        }
        | changes
    )


def calling(url: str, **changes: Any) -> Client:
    peer = replace(Peer(key="there", name="There", net_ids=(THERE,), url=url, timeout_s=0.3), **changes)
    return Client(peer, Ourselves(net_id=HERE, nsid=Eui64(bytes(range(8)))), Pending())


@pytest.mark.parametrize("version", [PeerProtocol.TS002_1_0, PeerProtocol.TS002_1_1])
async def test_request_goes_out_in_the_peer_s_version(version: PeerProtocol) -> None:
    async def answer(asked: dict[str, Any], _: int) -> web.Response:
        return good(asked, HNetID="000024")

    async with answering(answer) as (url, asked):
        client = calling(url, protocol=version, role_suffix=True, authorization="Bearer x")
        try:
            got = await client.ask("HomeNSReq", role=Role.JS, receiver="70b3d57ed0000001", dev_eui=DEV_EUI)
        finally:
            await client.close()
        assert got.result.code is ResultCode.SUCCESS
        (message,) = asked
        transaction = message.pop("TransactionID")
        assert 0 <= transaction < 1 << 32
        assert message == {
            "ProtocolVersion": version.version,
            "SenderID": HERE,
            "ReceiverID": "70b3d57ed0000001",
            "MessageType": "HomeNSReq",
            "DevEUI": DEV_EUI.hex(),
        } | ({"SenderNSID": "0001020304050607"} if version.version == "1.1" else {})


async def test_lost_answer_is_asked_for_again_with_the_same_number() -> None:
    async def answer(asked: dict[str, Any], number: int) -> web.Response:
        if number == 1:
            await asyncio.sleep(5)
        return good(asked)

    async with answering(answer) as (url, asked):
        client = calling(url)
        await client.ask("HomeNSReq", attempts=2, dev_eui=DEV_EUI)
        await client.close()
        assert len(asked) == 2
        assert asked[0] == asked[1]


@pytest.mark.parametrize(
    ("response", "failure"),
    [
        (web.Response(status=500), CallFailure.HTTP),
        (web.Response(text="not JSON"), CallFailure.MALFORMED),
        (web.json_response(ASK), CallFailure.MALFORMED),
        (web.Response(text=" " * (MAX_BODY_BYTES + 1)), CallFailure.MALFORMED),
        (web.Response(status=200), CallFailure.TIMEOUT),
    ],
)
async def test_answers_that_are_none(response: web.Response, failure: CallFailure) -> None:
    async def answer(asked: dict[str, Any], _: int) -> web.Response:
        return response

    async with answering(answer) as (url, _):
        client = calling(url)
        with pytest.raises(CallError) as failed:
            await client.ask("HomeNSReq", dev_eui=DEV_EUI)
        await client.close()
        assert failed.value.failure is failure


async def test_answer_with_an_http_error_is_an_answer() -> None:
    async def answer(asked: dict[str, Any], _: int) -> web.Response:
        made = good(asked, Result={"ResultCode": "UnknownDevEUI"})
        made.set_status(400)
        return made

    async with answering(answer) as (url, _):
        client = calling(url)
        got = await client.ask("HomeNSReq", dev_eui=DEV_EUI)
        await client.close()
        assert got.result.code is ResultCode.UNKNOWN_DEV_EUI


async def test_peer_that_does_not_answer_is_left_alone_for_a_moment(unused_tcp_port: int) -> None:
    client = calling(f"http://127.0.0.1:{unused_tcp_port}")
    failures = []
    for _ in range(7):
        with pytest.raises(CallError) as failed:
            await client.ask("HomeNSReq", dev_eui=DEV_EUI)
        failures.append(failed.value.failure)
    await client.close()
    assert failures == [CallFailure.UNREACHABLE] * 5 + [CallFailure.PAUSED] * 2
