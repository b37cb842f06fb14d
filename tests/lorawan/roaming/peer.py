"""A strict TS002 peer, written from the standard (TS002-1.0 §22, tables 12 to 24): it takes nothing else.

It shares no code with Quartier's roaming. What it finds wrong it writes down; a test asks for an empty list.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web

# Objects of each message (table 13): M mandatory, O optional; for answers on success and on failure.
_HEADER: Final = {
    "ProtocolVersion": "M",
    "SenderID": "M",
    "ReceiverID": "M",
    "TransactionID": "M",
    "MessageType": "M",
    "SenderToken": "O",
    "ReceiverToken": "O",
    "VSExtension": "O",
}
_IN_1_1: Final = {"SenderNSID": "O", "ReceiverNSID": "O"}
_REQUESTS: Final[dict[str, dict[str, str]]] = {
    "PRStartReq": {"PHYPayload": "M", "ULMetaData": "M"},
    "PRStopReq": {"DevEUI": "M", "DevAddr": "O", "Lifetime": "O"},
    "HomeNSReq": {"DevEUI": "M"},
    "ProfileReq": {"DevEUI": "M"},
    "XmitDataReq": {"PHYPayload": "M", "ULMetaData": "O", "DLMetaData": "O"},
    "JoinReq": {
        "MACVersion": "M", "PHYPayload": "M", "DevEUI": "M", "DevAddr": "M", "DLSettings": "M", "RxDelay": "M",
        "CFList": "O",
    },
    "AppSKeyReq": {"DevEUI": "M", "SessionKeyID": "M"},
}  # fmt: skip
_SUCCESS: Final[dict[str, dict[str, str]]] = {
    "PRStartAns": {
        "PHYPayload": "O", "DevEUI": "O", "DevAddr": "O", "Lifetime": "M", "FNwkSIntKey": "O", "NwkSKey": "O",
        "FCntUp": "O", "ServiceProfile": "O", "DLMetaData": "O",
    },
    "PRStopAns": {},
    "HomeNSAns": {"HNetID": "M"},
    "ProfileAns": {"DeviceProfile": "M", "DeviceProfileTimestamp": "M", "RoamingActivationType": "M"},
    "XmitDataAns": {"DLFreq1": "O", "DLFreq2": "O"},
    "JoinAns": {
        "PHYPayload": "M", "Lifetime": "M", "SNwkSIntKey": "O", "FNwkSIntKey": "O", "NwkSEncKey": "O", "NwkSKey": "O",
        "AppSKey": "O", "SessionKeyID": "O",
    },
    "AppSKeyAns": {"DevEUI": "M", "AppSKey": "M", "SessionKeyID": "M"},
}  # fmt: skip
_FAILURE: Final[dict[str, dict[str, str]]] = {
    kind: {"Lifetime": "O"} if kind in ("PRStartAns", "ProfileAns") else {} for kind in _SUCCESS
}
_UPLINK: Final = {
    "DevEUI", "DevAddr", "FPort", "FCntDown", "FCntUp", "Confirmed", "DataRate", "ULFreq", "Margin", "Battery",
    "FNSULToken", "RecvTime", "RFRegion", "GWCnt", "GWInfo",
}  # fmt: skip
_DOWNLINK: Final = {
    "DevEUI", "FPort", "FCntDown", "Confirmed", "DLFreq1", "DLFreq2", "RXDelay1", "ClassMode", "DataRate1", "DataRate2",
    "FNSULToken", "GWInfo", "HiPriorityFlag",
}  # fmt: skip
_GATEWAY: Final = {"ID", "FineRecvTime", "RFRegion", "RSSI", "SNR", "Lat", "Lon", "ULToken", "DLAllowed"}
_RESULTS: Final[dict[str, set[str]]] = {
    "1.0": {
        "Success", "MICFailed", "JoinReqFailed", "NoRoamingAgreement", "DevRoamingDisallowed", "RoamingActDisallowed",
        "ActivationDisallowed", "UnknownDevEUI", "UnknownDevAddr", "UnknownSender", "UnkownReceiver", "Deferred",
        "XmitFailed", "InvalidFPort", "InvalidProtocolVersion", "StaleDeviceProfile", "MalformedRequest",
        "FrameSizeError", "Other",
    }
}  # fmt: skip
_RESULTS["1.1"] = (_RESULTS["1.0"] - {"MalformedRequest"}) | {"MalformedMessage", "NoAction", "FrameReplayed"}
_SIZES: Final = {"DevEUI": 8, "DevAddr": 4, "HNetID": 3, "SenderNSID": 8, "ReceiverNSID": 8, "DLSettings": 1}
_HEX: Final = re.compile(r"(0[xX])?([0-9a-fA-F]{2})+")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_REGIONS: Final = {"EU868", "US902", "China779", "EU433", "Australia915", "China470", "AS923"}
Reply = Callable[[dict[str, Any]], Mapping[str, Any] | None]


class StrictPeer:
    """One network server by the book. ``replies`` make the body of an answer; None answers nothing at all."""

    def __init__(self, net_id: str, other: str, *, version: str = "1.0", asynchronous: bool = False) -> None:
        self.net_id = net_id
        self.other = other
        self.version = version
        self.asynchronous = asynchronous
        self.other_url = ""
        self.headers: dict[str, str] = {}
        self.violations: list[str] = []
        self.received: list[dict[str, Any]] = []
        self.replies: dict[str, Reply] = {}
        self.url = ""
        self._numbers = itertools.count(0xFFFF_FFF0)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        application = web.Application()
        application.router.add_post("/", self._post)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.2)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """End."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()

    def of_type(self, message_type: str) -> list[dict[str, Any]]:
        """What came of one type."""
        return [message for message in self.received if message["MessageType"] == message_type]

    # Asking

    async def ask(self, message_type: str, **objects: Any) -> dict[str, Any]:
        """Send a request and check the answer."""
        transaction = next(self._numbers) & 0xFFFF_FFFF
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[transaction] = future
        body = await self._send(self._header(message_type, transaction) | objects)
        if body is None:
            self._expect(self.asynchronous, "an empty response in synchronous mode")
            async with asyncio.timeout(20):
                return await future
        self._expect(not self.asynchronous, "an answer in the response in asynchronous mode")
        self.check(body)
        self._expect(body.get("TransactionID") == transaction, "TransactionID is not that of the request")
        return body

    async def _send(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        async with (
            aiohttp.ClientSession(headers=self.headers) as session,
            session.post(self.other_url, json=message) as response,
        ):
            self._expect(response.status == 200, f"HTTP {response.status}")
            text = await response.read()
            if not text:
                return None
            self._expect(response.content_type == "application/json", response.content_type)
            answer: dict[str, Any] = await response.json()
            return answer

    def _header(self, message_type: str, transaction: int) -> dict[str, Any]:
        return {
            "ProtocolVersion": self.version,
            "SenderID": self.net_id,
            "ReceiverID": self.other,
            "TransactionID": transaction,
            "MessageType": message_type,
        }

    # Being asked

    async def _post(self, request: web.Request) -> web.Response:
        self._expect(request.content_type == "application/json", f"content type {request.content_type}")
        message = await request.json()
        self.check(message)
        self.received.append(message)
        kind = message["MessageType"]
        if kind.endswith("Ans"):
            future = self._waiting.pop(message["TransactionID"], None)
            self._expect(future is not None, f"{kind} that nobody asked for")
            if future is not None:
                future.set_result(message)
            return web.Response()
        reply = self.replies.get(kind)
        objects = reply(message) if reply is not None else {"Result": {"ResultCode": "Other"}}
        if objects is None:
            return web.Response(status=503)
        answer = self._header(kind.replace("Req", "Ans"), message["TransactionID"]) | dict(objects)
        if not self.asynchronous:
            return web.json_response(answer)
        task = asyncio.create_task(self._later(answer))
        self._tasks.add(task)
        return web.Response()

    async def _later(self, answer: Mapping[str, Any]) -> None:
        self._expect(await self._send(answer) is None, "an answer to an answer")

    # Checking

    def _expect(self, condition: bool, violation: str) -> None:
        if not condition:
            self.violations.append(violation)

    def check(self, message: Mapping[str, Any]) -> None:
        """Write down everything that the standard does not allow in a message."""
        kind = message.get("MessageType", "")
        header = _HEADER | (_IN_1_1 if self.version == "1.1" else {})
        if kind in _REQUESTS:
            objects = _REQUESTS[kind]
        elif kind in _SUCCESS:
            result = message.get("Result")
            code = result.get("ResultCode") if isinstance(result, dict) else None
            self._expect(code in _RESULTS[self.version], f"{kind}: ResultCode {code!r}")
            header = header | {"Result": "M"}
            objects = _SUCCESS[kind] if code == "Success" else _FAILURE[kind]
            if kind == "PRStartAns" and code == "Deferred":
                self._expect("Lifetime" in message, "Deferred without Lifetime (§11.3.1, step 6)")
        else:
            self._expect(False, f"MessageType {kind!r}")
            return
        if kind == "HomeNSAns" and self.version == "1.1":
            objects = objects | {"HNSID": "O"}
        known = header | objects
        for name, how in known.items():
            self._expect(how != "M" or name in message, f"{kind}: {name} is missing")
        for name, value in message.items():
            self._expect(name in known, f"{kind}: {name} does not belong here")
            self._value(kind, name, value)
        self._expect(message.get("ProtocolVersion") == self.version, f"{kind}: ProtocolVersion")
        self._expect(message.get("SenderID") == self.other, f"{kind}: SenderID {message.get('SenderID')!r}")
        self._expect(message.get("ReceiverID") == self.net_id, f"{kind}: ReceiverID")
        if kind == "XmitDataReq":
            self._expect(
                ("ULMetaData" in message) != ("DLMetaData" in message), f"{kind}: one metadata object"
            )
        if kind == "PRStartAns":
            self._expect(not {"FNwkSIntKey", "NwkSKey"} <= message.keys(), f"{kind}: two network keys")

    def _value(self, kind: str, name: str, value: Any) -> None:
        where = f"{kind}: {name}"
        self._expect(value is not None, f"{where} is null")
        if name in ("PHYPayload", "SenderToken", "ReceiverToken", "SessionKeyID", "CFList", *_SIZES):
            self._hex(where, value, _SIZES.get(name))
        elif name in ("Lifetime", "TransactionID", "FCntUp", "RxDelay"):
            self._integer(where, value, 0, 2**32 - 1)
        elif name in ("FNwkSIntKey", "NwkSKey", "SNwkSIntKey", "NwkSEncKey", "AppSKey"):
            self._expect(set(value) == {"KEKLabel", "AESKey"}, f"{where}: {sorted(value)}")
            self._hex(f"{where}.AESKey", value.get("AESKey"), 24)
        elif name == "ULMetaData":
            self._uplink(where, value)
        elif name == "DLMetaData":
            self._downlink(where, value)

    def _uplink(self, where: str, value: Mapping[str, Any]) -> None:
        self._known(where, value, _UPLINK)
        for name in ("DataRate", "ULFreq", "RecvTime", "RFRegion"):
            self._expect(name in value, f"{where}.{name} is missing")
        self._integer(f"{where}.DataRate", value.get("DataRate"), 0, 15)
        self._megahertz(f"{where}.ULFreq", value.get("ULFreq"))
        self._expect(
            bool(_TIME.fullmatch(str(value.get("RecvTime")))), f"{where}.RecvTime {value.get('RecvTime')!r}"
        )
        self._expect(value.get("RFRegion") in _REGIONS, f"{where}.RFRegion {value.get('RFRegion')!r}")
        for name in ("DevEUI", "DevAddr", "FNSULToken"):
            if name in value:
                self._hex(f"{where}.{name}", value[name], _SIZES.get(name))
        gateways = value.get("GWInfo", [])
        # Note 1 of table 4: a stateless forwarding network sends at least one of the two tokens.
        self._expect("FNSULToken" in value or all("ULToken" in g for g in gateways), f"{where}: no token")
        self._expect(value.get("GWCnt", len(gateways)) == len(gateways), f"{where}.GWCnt")
        for gateway in gateways:
            self._gateway(f"{where}.GWInfo", gateway)

    def _downlink(self, where: str, value: Mapping[str, Any]) -> None:
        self._known(where, value, _DOWNLINK)
        self._expect("DLFreq1" in value or "DLFreq2" in value, f"{where}: neither DLFreq1 nor DLFreq2")
        for number in "12":
            frequency, data_rate = f"DLFreq{number}", f"DataRate{number}"
            self._expect((frequency in value) == (data_rate in value), f"{where}.{data_rate}")
            if frequency in value:
                self._megahertz(f"{where}.{frequency}", value[frequency])
                self._integer(f"{where}.{data_rate}", value[data_rate], 0, 15)
        self._expect(value.get("ClassMode", "A") in ("A", "C"), f"{where}.ClassMode")
        if value.get("ClassMode", "A") == "A":
            self._integer(f"{where}.RXDelay1", value.get("RXDelay1"), 1, 15)
        for gateway in value.get("GWInfo", []):
            self._gateway(f"{where}.GWInfo", gateway)

    def _gateway(self, where: str, value: Mapping[str, Any]) -> None:
        self._known(where, value, _GATEWAY)
        if "ID" in value:
            self._hex(f"{where}.ID", value["ID"], 4)
        if "RSSI" in value:
            self._integer(f"{where}.RSSI", value["RSSI"], -200, 50)
        if "ULToken" in value:
            self._hex(f"{where}.ULToken", value["ULToken"], None)
        for name in ("SNR", "Lat", "Lon"):
            self._expect(isinstance(value.get(name, 0.0), int | float), f"{where}.{name}")

    def _known(self, where: str, value: Any, names: set[str]) -> None:
        self._expect(isinstance(value, dict), f"{where} is no object")
        for name, one in value.items():
            self._expect(name in names, f"{where}.{name} does not belong here")
            self._expect(one is not None, f"{where}.{name} is null")

    def _hex(self, where: str, value: Any, size: int | None) -> None:
        good = isinstance(value, str) and bool(_HEX.fullmatch(value))
        self._expect(good, f"{where}: {value!r} is not hexadecimal")
        if good and size is not None:
            self._expect(len(value.lower().removeprefix("0x")) == 2 * size, f"{where}: not {size} bytes")

    def _integer(self, where: str, value: Any, low: int, high: int) -> None:
        good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
        self._expect(good, f"{where}: {value!r}")

    def _megahertz(self, where: str, value: Any) -> None:
        self._expect(isinstance(value, float) and 863 <= value <= 870, f"{where}: {value!r}")
