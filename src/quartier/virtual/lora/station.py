"""A virtual LoRa Basics Station: discovery, one WebSocket, and a queue with the rules of the real one.

Measured on a Station 2.0.6: after each emission its band is closed for airtime times the band's rate; a frame that is
late, has no room in the duty cycle or collides is tried in RX2 and otherwise dropped without a word; a confirmation
(``dntxed``) is sent when the frame is on the air, and only where a device was named.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from quartier.lorawan.frames.modulation import DataRate, Fsk, Lora

from .gateway import STRONG_HIGH_HZ, STRONG_LOW_HZ, Gps, Hearing, Transmit, downlink_airtime_s

_AIM_GAP_S: Final = 0.02
_MIN_GAP_S: Final = 0.01
_CLASS_C_TRIES: Final = 10
_CLASS_C_PAUSE_S: Final = 0.1
_FURTHEST_S: Final = 600.0
_MOST_QUEUED: Final = 16


@dataclass(slots=True)
class _Job:
    """A frame with the windows that are left for it, as (start, frequency, data rate)."""

    number: int
    device: str
    phy: bytes
    windows: list[tuple[float, int, int]]
    always_listens: bool
    antenna: int
    tries: int = 0
    start: float = 0.0
    end: float = 0.0
    timer: asyncio.TimerHandle | None = None
    on_air: bool = False


@dataclass(slots=True)
class Dropped:
    """Frames that were dropped in silence, by reason."""

    late: int = 0
    duty_cycle: int = 0
    collision: int = 0
    queue: int = 0
    reasons: list[str] = field(default_factory=list)

    def note(self, reason: str) -> None:
        """Count one."""
        setattr(self, reason, getattr(self, reason) + 1)
        del self.reasons[:-20]
        self.reasons.append(reason)


class Station:
    """One gateway that connects to ``url`` (``ws://host:port``) and stays connected until ``close``.

    Without ``gps`` it has no GPS time.
    """

    def __init__(
        self,
        eui: bytes,
        transmit: Transmit,
        *,
        token: str = "",
        ssl: Any = None,
        duty_cycle: bool = True,
        first_backoff_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        gps: Gps | None = None,
    ) -> None:
        self.eui = eui
        self.gps = gps
        self.config: dict[str, Any] | None = None
        self.configured = asyncio.Event()
        self.refused = ""
        self.dropped = Dropped()
        self.times: list[dict[str, Any]] = []
        self._transmit = transmit
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._ssl = ssl
        self._duty_cycle = duty_cycle
        self._first_backoff_s = first_backoff_s
        self._clock = clock
        self._started = clock()
        self._session_number = random.randrange(1, 128)  # noqa: S311
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._queue: list[_Job] = []
        self._free_at: dict[float, float] = {}
        self._sending: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self, url: str) -> None:
        """Connect in the background, again and again."""
        self._task = asyncio.create_task(self._run(url.rstrip("/")))

    async def close(self) -> None:
        """Disconnect; what was queued is not sent."""
        for job in self._queue:
            if job.timer is not None:
                job.timer.cancel()
        self._queue.clear()
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        await asyncio.gather(*self._sending, return_exceptions=True)

    def xtime(self, at: float) -> int:
        """The Station's microseconds at a time of its clock, with the number of its session above."""
        return (self._session_number << 48) + round((at - self._started) * 1_000_000)

    def _at(self, xtime: int) -> float:
        return self._started + (xtime - (self._session_number << 48)) / 1_000_000

    # The connection

    async def _run(self, url: str) -> None:
        backoff_s = self._first_backoff_s
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, json.JSONDecodeError):
                async with aiohttp.ClientSession(headers=self._headers) as session:
                    muxs = await self._discover(session, url)
                    if muxs:
                        async with session.ws_connect(muxs, ssl=self._ssl or True) as self._socket:
                            backoff_s = self._first_backoff_s
                            await self._talk(self._socket)
            self._socket = None
            self.configured.clear()
            await asyncio.sleep(backoff_s)
            backoff_s = min(backoff_s * 2, 60.0)

    async def _discover(self, session: aiohttp.ClientSession, url: str) -> str:
        async with session.ws_connect(f"{url}/router-info", ssl=self._ssl or True) as socket:
            await socket.send_str(json.dumps({"router": _id6(self.eui)}))
            answer = json.loads(await socket.receive_str(timeout=10))
        self.refused = str(answer.get("error", ""))
        return str(answer.get("uri", ""))

    async def _talk(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        version = {
            "msgtype": "version",
            "station": "2.0.6(virtual/quartier)",
            "firmware": None,
            "package": None,
            "model": "virtual",
            "protocol": 2,
            "features": "",
        }
        await socket.send_str(json.dumps(version))
        async for message in socket:
            if message.type is aiohttp.WSMsgType.TEXT:
                self._on_message(json.loads(message.data))

    def _say(self, message: dict[str, Any]) -> None:
        socket = self._socket
        if socket is None or socket.closed:
            return

        async def send() -> None:
            with contextlib.suppress(ConnectionError, aiohttp.ClientError):
                await socket.send_str(json.dumps(message))

        task = asyncio.create_task(send())
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    def ask_time(self) -> None:
        """Ask the server for the GPS time."""
        self._say({"msgtype": "timesync", "txtime": round(self._clock() * 1_000_000)})

    def _on_message(self, message: dict[str, Any]) -> None:
        match message.get("msgtype"):
            case "router_config":
                self.config = message
                self._free_at.clear()
                self.configured.set()
            case "dnmsg" if self.config is not None:
                self._on_downlink(message)
            case "timesync":
                del self.times[:-20]
                self.times.append(message)

    # Up

    def heard(self, hearing: Hearing) -> None:
        """Take a frame apart and send it. Broken frames never leave a Station."""
        if self.config is None or not hearing.intact:
            return
        parts = _parts(hearing.phy)
        number = self._number(hearing.data_rate)
        if parts is None or number is None:
            return
        now = time.time()
        self._say(
            parts
            | {
                "RefTime": now,
                "DR": number,
                "Freq": hearing.frequency_hz,
                "upinfo": {
                    "rctx": 0,
                    "xtime": self.xtime(hearing.ended_at),
                    "gpstime": self._gps_us(hearing.ended_at),
                    "fts": -1,
                    "rssi": round(hearing.rssi_dbm),
                    "snr": round(hearing.snr_db * 4) / 4,
                    "rxtime": now,
                },
            }
        )

    def _gps_us(self, at: float) -> int:
        return 0 if self.gps is None else round(self.gps.ms(at) * 1000)

    def _number(self, rate: DataRate) -> int | None:
        assert self.config is not None  # noqa: S101 (asked only when configured)
        wanted = [0, 0, 0]
        if isinstance(rate, Lora):
            wanted = [rate.spreading_factor, rate.bandwidth_hz // 1000, 0]
        rates: list[list[int]] = self.config["DRs"]
        return rates.index(wanted) if wanted in rates else None

    # Down

    def _on_downlink(self, message: dict[str, Any]) -> None:
        if len(self._queue) >= _MOST_QUEUED:
            self.dropped.note("queue")
            return
        always_listens = message["dC"] == 2
        first = self._at(message.get("xtime") or self.xtime(self._clock())) + max(
            1, message.get("RxDelay", 1)
        )
        windows: list[tuple[float, int, int]] = []
        if message["dC"] == 1:
            # One time, and none at all without GPS: it says nothing about that either.
            if self.gps is not None:
                windows.append((self.gps.at(message["gpstime"] / 1000), message["Freq"], message["DR"]))
        elif "RX1Freq" in message:
            windows.append((first, message["RX1Freq"], message["RX1DR"]))
        if "RX2Freq" in message:
            start = self._clock() + _AIM_GAP_S if always_listens else first + 1
            windows.append((start, message["RX2Freq"], message["RX2DR"]))
        job = _Job(
            number=message["diid"],
            device=message["DevEui"],
            phy=bytes.fromhex(message["pdu"]),
            windows=windows,
            always_listens=always_listens,
            antenna=message.get("rctx", 0),
        )
        self._place(job)

    def _place(self, job: _Job) -> None:
        """Find a time for a frame; drop it in silence where there is none."""
        reason = "late"
        while job.windows:
            start, frequency_hz, number = job.windows[0]
            problem = self._problem(job, start, frequency_hz, self._airtime_s(number, job.phy))
            if problem is None:
                self._plan(job, start, frequency_hz, number)
                return
            reason = problem
            if job.always_listens and len(job.windows) == 1 and job.tries < _CLASS_C_TRIES:
                job.tries += 1
                later = max(start, self._clock() + _AIM_GAP_S) + _CLASS_C_PAUSE_S
                job.windows[0] = (later, frequency_hz, number)
            else:
                del job.windows[0]
        self.dropped.note(reason)

    def _problem(self, job: _Job, start: float, frequency_hz: int, airtime_s: float) -> str | None:
        now = self._clock()
        if start < now + _AIM_GAP_S / 2 or start > now + _FURTHEST_S:
            return "late"
        if self._duty_cycle and start < self._free_at.get(_rate(frequency_hz), 0.0):
            return "duty_cycle"
        for other in self._queue:
            if job.always_listens and not other.on_air and other.start > start:
                continue  # it will be displaced
            if start < other.end + _MIN_GAP_S and other.start < start + airtime_s + _MIN_GAP_S:
                return "collision"
        return None

    def _airtime_s(self, number: int, phy: bytes) -> float:
        return downlink_airtime_s(self._data_rate(number), phy)

    def _data_rate(self, number: int) -> DataRate:
        assert self.config is not None  # noqa: S101 (downlinks come only when configured)
        factor, width, _ = self.config["DRs"][number]
        return Lora(factor, width * 1000) if factor else Fsk(50_000)

    def _plan(self, job: _Job, start: float, frequency_hz: int, number: int) -> None:
        job.start, job.end = start, start + self._airtime_s(number, job.phy)
        self._queue.append(job)
        job.timer = asyncio.get_running_loop().call_later(
            max(0.0, start - self._clock()), self._begin, job, frequency_hz, number
        )

    def _begin(self, job: _Job, frequency_hz: int, number: int) -> None:
        rate = _rate(frequency_hz)
        if self._duty_cycle and job.start < self._free_at.get(rate, 0.0):
            # What was sent meanwhile has closed the band: the next window, or none.
            self._displace(job, "duty_cycle")
            return
        job.on_air = True
        airtime_s = job.end - job.start
        for other in [one for one in self._queue if not one.on_air and one.start < job.end + _MIN_GAP_S]:
            self._displace(other)
        self._free_at[rate] = job.start + airtime_s * rate
        power_dbm = 27.0 if STRONG_LOW_HZ <= frequency_hz <= STRONG_HIGH_HZ else 16.0
        self._transmit(job.start, job.phy, frequency_hz, self._data_rate(number), power_dbm)
        asyncio.get_running_loop().call_later(airtime_s, self._end, job)
        if any(byte != "00" for byte in job.device.split("-")):
            self._say(
                {
                    "msgtype": "dntxed",
                    "seqno": job.number,
                    "diid": job.number,
                    "DR": number,
                    "Freq": frequency_hz,
                    "DevEui": job.device,
                    "rctx": job.antenna,
                    "xtime": self.xtime(job.start),
                    "txtime": self._clock() - self._started,
                    "gpstime": self._gps_us(job.start),
                }
            )

    def _displace(self, job: _Job, reason: str = "collision") -> None:
        """Try a queued frame in its next window, or drop it."""
        self._queue.remove(job)
        if job.timer is not None:
            job.timer.cancel()
        del job.windows[0]
        if job.windows:
            self._place(job)
        else:
            self.dropped.note(reason)

    def _end(self, job: _Job) -> None:
        if job in self._queue:
            self._queue.remove(job)


def _rate(frequency_hz: int) -> float:
    if STRONG_LOW_HZ <= frequency_hz <= STRONG_HIGH_HZ:
        return 10
    if 868_000_000 <= frequency_hz <= 868_600_000 or 869_700_000 <= frequency_hz <= 870_000_000:
        return 100
    return 1000


def _id6(eui: bytes) -> str:
    return ":".join(f"{int.from_bytes(eui[at : at + 2]):x}" for at in range(0, 8, 2))


def _signed(data: bytes) -> int:
    return int.from_bytes(data, "little", signed=True)


def _parts(phy: bytes) -> dict[str, Any] | None:
    """A frame as a Station's message, None where a Station would not send it."""
    kind = phy[0] >> 5 if phy else 7
    if kind == 7 and phy:
        return {"msgtype": "propdf", "FRMPayload": phy.hex().upper()}
    if len(phy) < 12 or phy[0] & 0x1F:
        return None
    if kind in (0, 6):
        if len(phy) != 23:
            return None
        return {
            "msgtype": "jreq" if kind == 0 else "rejoin",
            "MHdr": phy[0],
            "JoinEui": phy[1:9][::-1].hex("-").upper(),
            "DevEui": phy[9:17][::-1].hex("-").upper(),
            "DevNonce": int.from_bytes(phy[17:19], "little"),
            "MIC": _signed(phy[-4:]),
        }
    options = phy[5] & 0x0F
    port_at = 8 + options
    if kind not in (2, 4) or port_at > len(phy) - 4:
        return None
    return {
        "msgtype": "updf",
        "MHdr": phy[0],
        "DevAddr": _signed(phy[1:5]),
        "FCtrl": phy[5],
        "FCnt": int.from_bytes(phy[6:8], "little"),
        "FOpts": phy[8:port_at].hex().upper(),
        "FPort": phy[port_at] if port_at < len(phy) - 4 else -1,
        "FRMPayload": phy[port_at + 1 : -4].hex().upper(),
        "MIC": _signed(phy[-4:]),
    }
