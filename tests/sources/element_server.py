"""A fake ELEMENT server: pages, streams, rate limits and errors as documented, over recorded or made-up packets."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.sources.conftest import Request

KEY = "5ecret-api-k3y"
# Keys that a device's JSON carries; none of them may ever turn up anywhere.
RADIO_KEYS = ("00112233445566778899AABBCCDDEEFF", "FFEEDDCCBBAA99887766554433221100")
BEGIN = datetime(2026, 5, 1, 10, 0, tzinfo=UTC)


def device(number: int) -> dict[str, Any]:
    """A device as in a list, keys included."""
    return {
        "id": f"00000000-0000-4000-8000-{number:012d}",
        "name": f"DEC{number:07d}",
        "slug": f"dec{number:07d}",
        "inserted_at": "2024-06-06T13:49:34.366775Z",
        "interfaces": [
            {
                "opts": {
                    "device_eui": f"70B3D57BA{number:07X}",
                    "device_key": RADIO_KEYS[0],
                    "app_session_key": RADIO_KEYS[1],
                    "lns_session_context": {"nwk_s_enc_key": RADIO_KEYS[1]},
                }
            }
        ],
    }


def packet(number: int, *, inserted_at: datetime | None = None, device_number: int = 1) -> dict[str, Any]:
    """A packet; they are inserted a second apart."""
    moment = (inserted_at or BEGIN + timedelta(seconds=number)).isoformat(timespec="microseconds")
    moment = moment.replace("+00:00", "Z")
    return {
        "id": f"10000000-0000-4000-8000-{number:012d}",
        "device_id": device(device_number)["id"],
        "packet_type": "up",
        "payload_encoding": "binary",
        "payload": f"{number:08x}",
        "transceived_at": moment,
        "inserted_at": moment,
        "meta": {"frame_count_up": number, "frame_port": 1, "gateway_stats": []},
    }


@dataclass(slots=True)
class Element:
    """The state of the server; call it to get an answer."""

    packets: list[dict[str, Any]] = field(default_factory=list)
    devices: list[dict[str, Any]] = field(default_factory=lambda: [device(1)])
    stream_until: int | None = None  # the stream ends with an error after so many lines
    broken_after: int | None = None  # a line that is cut off stands after so many lines
    refuse: list[tuple[int, bytes, dict[str, str]]] = field(default_factory=list)  # answers before all others
    has_stream: bool = True

    def __call__(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        if self.refuse:
            return self.refuse.pop(0)
        if request.query.get("auth") != KEY:
            return (
                401,
                json.dumps({"error": f"Unauthorized: {request.query.get('auth')}", "ok": False}).encode(),
                {},
            )
        match request.path.removeprefix("/api/v1/").split("/"):
            case ["tags", "klima", "devices"]:
                return 200, json.dumps({"body": self.devices, "ok": True, "status": 200}).encode(), {}
            case ["tags", "klima", "packets"]:
                return self._page(request)
            case ["tags", "klima", "packets", "stream"] if self.has_stream:
                return self._stream(request)
        return 404, b'{"error": "Not Found", "ok": false}', {}

    def _wanted(self, request: Request) -> list[dict[str, Any]]:
        assert (request.query["sort"], request.query["sort_direction"]) == ("inserted_at", "asc")
        found = sorted(self.packets, key=lambda one: (one["inserted_at"], one["id"]))
        if "after" in request.query:
            after = datetime.fromisoformat(request.query["after"])
            found = [one for one in found if datetime.fromisoformat(one["inserted_at"]) > after]
        return found

    def _page(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        found = self._wanted(request)
        if "retrieve_after" in request.query:
            ids = [one["id"] for one in found]
            if request.query["retrieve_after"] not in ids:
                return 400, b'{"error": "retrieve_after is unknown", "ok": false}', {}
            found = found[ids.index(request.query["retrieve_after"]) + 1 :]
        limit = int(request.query["limit"])
        assert limit <= 100
        answer: dict[str, Any] = {"body": found[:limit], "ok": True, "status": 200}
        if len(found) > limit:
            answer["retrieve_after_id"] = found[limit - 1]["id"]
        return 200, json.dumps(answer).encode(), {}

    def _stream(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        assert "limit" not in request.query
        lines = [json.dumps(one) for one in self._wanted(request)]
        if self.broken_after is not None:
            lines.insert(self.broken_after, lines[0][:60])
        if self.stream_until is not None:
            error = (
                "Database timeout. Try allowing more time by using the timeout query param (in milliseconds)."
            )
            lines = [*lines[: self.stream_until], json.dumps({"error": error, "ok": False})]
        return 200, "\n".join(lines).encode(), {}
