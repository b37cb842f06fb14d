"""The messages of Backend Interfaces, TS002 1.0 and 1.1, in both directions.

``read`` is tolerant (``fields`` says of what) and names the field that it cannot take; ``write`` is strict. A message
that cannot be read still tells who sent which transaction, as far as it does, so that it can be answered.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec

from quartier.lorawan.roaming.fields import (
    Activation,
    DevAddrHex,
    Eui64,
    Frame,
    Hex,
    NetId,
    ResultCode,
    TokenHex,
    decode_hook,
    encode_hook,
)
from quartier.lorawan.roaming.objects import (
    Counter,
    DeviceProfile,
    Downlink,
    Extension,
    KeyEnvelope,
    Megahertz,
    Part,
    Result,
    Seconds,
    ServiceProfile,
    Short,
    Uplink,
)

Version = Literal["1.0", "1.1"]
VERSIONS: Final = ("1.0", "1.1")
MAX_BODY_BYTES: Final = 64 * 1024


class MessageError(Exception):
    """A message that cannot be taken. ``result`` is what its sender is told, ``field`` the object that is wrong.

    ``header`` is what could be read of the message, so that it can be answered; None where nothing could.
    """

    def __init__(
        self, result: ResultCode, detail: str, *, field: str = "", header: Header | None = None
    ) -> None:
        self.result = result
        self.field = field
        self.detail = detail
        self.header = header
        super().__init__(f"{field}: {detail}" if field else detail)


class Header(Part, kw_only=True):
    """What every message carries (§22.1). Ids are kept as they came; ``sender`` and ``receiver`` compare them."""

    protocol_version: Short
    sender_id: Short
    receiver_id: Short
    transaction_id: Counter
    message_type: Short
    sender_token: TokenHex | None = None
    receiver_token: TokenHex | None = None
    sender_nsid: Eui64 | None = None
    receiver_nsid: Eui64 | None = None
    extension: Extension | None = None

    @property
    def sender(self) -> str:
        """SenderID in the one spelling that ids are compared in."""
        return canonical_id(self.sender_id)

    @property
    def receiver(self) -> str:
        """ReceiverID likewise."""
        return canonical_id(self.receiver_id)

    @property
    def is_answer(self) -> bool:
        """Whether this is the answer to a request."""
        return self.message_type.endswith("Ans")


class Answer(Header, kw_only=True):
    """What every answer carries."""

    result: Result


class JoinReq(Header, kw_only=True):
    """A network server asks a join server (§8)."""

    mac_version: Short
    phy: Frame
    dev_eui: Eui64
    dev_addr: DevAddrHex
    dl_settings: Hex
    rx_delay_s: Annotated[int, msgspec.Meta(ge=0, le=15)]
    cf_list: Hex | None = None


class JoinAns(Answer, kw_only=True):
    """The join-accept and the session's keys."""

    phy: Frame | None = None
    lifetime_s: Seconds | None = None
    s_nwk_s_int_key: KeyEnvelope | None = None
    f_nwk_s_int_key: KeyEnvelope | None = None
    nwk_s_enc_key: KeyEnvelope | None = None
    nwk_s_key: KeyEnvelope | None = None
    app_s_key: KeyEnvelope | None = None
    session_key_id: Hex | None = None


class RejoinReq(JoinReq, kw_only=True):
    """As JoinReq, for a rejoin-request."""


class RejoinAns(JoinAns, kw_only=True):
    """As JoinAns."""


class AppSKeyReq(Header, kw_only=True):
    """An application server asks a join server; its SenderID is free text (the AS-ID)."""

    dev_eui: Eui64
    session_key_id: Hex


class AppSKeyAns(Answer, kw_only=True):
    """The application's session key."""

    dev_eui: Eui64 | None = None
    app_s_key: KeyEnvelope | None = None
    session_key_id: Hex | None = None


class PRStartReq(Header, kw_only=True):
    """A frame that the sender's gateways heard, for the network that may know its device (§11.3.1)."""

    phy: Frame
    uplink: Uplink
    dedup_window_ms: int | None = None


class PRStartAns(Answer, kw_only=True):
    """Whether that device is ours; for a join, with the join-accept and its windows (§12.2)."""

    phy: Frame | None = None
    dev_eui: Eui64 | None = None
    dev_addr: DevAddrHex | None = None
    lifetime_s: Seconds | None = None
    f_nwk_s_int_key: KeyEnvelope | None = None
    nwk_s_key: KeyEnvelope | None = None
    f_cnt_up: Counter | None = None
    service_profile: ServiceProfile | None = None
    downlink: Downlink | None = None


class PRStopReq(Header, kw_only=True):
    """Ends stateful passive roaming of a device (§11.3.3)."""

    dev_eui: Eui64
    dev_addr: DevAddrHex | None = None
    lifetime_s: Seconds | None = None


class PRStopAns(Answer, kw_only=True):
    """Whether it was in passive roaming."""


class HRStartReq(Header, kw_only=True):
    """Handover roaming (§11.4); read so that it can be refused properly."""

    mac_version: Short = ""
    phy: Frame | None = None
    dev_eui: Eui64 | None = None
    dev_addr: DevAddrHex | None = None
    device_profile: DeviceProfile | None = None
    device_profile_at: Short = ""
    uplink: Uplink | None = None
    dl_settings: Hex | None = None
    rx_delay_s: int | None = None
    cf_list: Hex | None = None


class HRStartAns(JoinAns, kw_only=True):
    """The answer to HRStartReq."""

    device_profile: DeviceProfile | None = None
    device_profile_at: Short = ""
    service_profile: ServiceProfile | None = None
    downlink: Downlink | None = None


class HRStopReq(Header, kw_only=True):
    """Ends handover roaming of a device (§11.4.3)."""

    dev_eui: Eui64
    lifetime_s: Seconds | None = None


class HRStopAns(Answer, kw_only=True):
    """Whether it was in handover roaming."""


class HomeNSReq(Header, kw_only=True):
    """Which network is a device's home? (§12.2.1, step 3)"""

    dev_eui: Eui64


class HomeNSAns(Answer, kw_only=True):
    """The home network's NetID, with its NSID in 1.1."""

    home_net_id: NetId | None = None
    home_nsid: Eui64 | None = None


class ProfileReq(Header, kw_only=True):
    """What can this device do, and how may it be activated? (§12.2.1, step 5)"""

    dev_eui: Eui64


class ProfileAns(Answer, kw_only=True):
    """The device's profile."""

    device_profile: DeviceProfile | None = None
    device_profile_at: Short = ""
    activation: Activation | None = None
    lifetime_s: Seconds | None = None


class XmitDataReq(Header, kw_only=True):
    """A frame in either direction, told apart by which metadata it carries (§11.3.2)."""

    phy: Frame | None = None
    frm_payload: Frame | None = None
    uplink: Uplink | None = None
    downlink: Downlink | None = None


class XmitDataAns(Answer, kw_only=True):
    """What became of it; for a downlink, on which frequency it was sent."""

    rx1_frequency_mhz: Megahertz | None = None
    rx2_frequency_mhz: Megahertz | None = None


REQUESTS: Final[dict[str, type[Header]]] = {
    kind.__name__: kind
    for kind in (
        JoinReq, RejoinReq, AppSKeyReq, PRStartReq, PRStopReq,
        HRStartReq, HRStopReq, HomeNSReq, ProfileReq, XmitDataReq,
    )
}  # fmt: skip
ANSWERS: Final[dict[str, type[Answer]]] = {
    kind.__name__: kind
    for kind in (
        JoinAns, RejoinAns, AppSKeyAns, PRStartAns, PRStopAns,
        HRStartAns, HRStopAns, HomeNSAns, ProfileAns, XmitDataAns,
    )
}  # fmt: skip

_header_decoder = msgspec.json.Decoder(Header, dec_hook=decode_hook, strict=False)
_decoders: Final[dict[str, msgspec.json.Decoder[Any]]] = {
    name: msgspec.json.Decoder(kind, dec_hook=decode_hook, strict=False)
    for name, kind in (REQUESTS | ANSWERS).items()
}
_encoder = msgspec.json.Encoder(enc_hook=encode_hook)


def canonical_id(text: str) -> str:
    """One spelling per id: NetIDs and EUIs as lower-case hexadecimal, an AS-ID as it is."""
    digits = text[2:] if text[:2] in ("0x", "0X") else text
    if len(digits) in (6, 16) and all(c in "0123456789abcdefABCDEF" for c in digits):
        return digits.lower()
    return text


def read(body: bytes) -> Header:
    """The message in ``body``; a subclass of Header that ``message_type`` names.

    Raises MessageError, which names the field.
    """
    if len(body) > MAX_BODY_BYTES:
        raise MessageError(ResultCode.MALFORMED_MESSAGE, f"message above {MAX_BODY_BYTES} bytes")
    try:
        header = _header_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error, None) from None
    if header.protocol_version not in VERSIONS:
        raise MessageError(
            ResultCode.INVALID_PROTOCOL_VERSION,
            "1.0 and 1.1 are spoken",
            field="ProtocolVersion",
            header=header,
        )
    decoder = _decoders.get(header.message_type)
    if decoder is None:
        raise MessageError(
            ResultCode.MALFORMED_MESSAGE, "unknown message type", field="MessageType", header=header
        )
    try:
        message: Header = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _refusal(error, header) from None
    return message


def _refusal(error: Exception, header: Header | None) -> MessageError:
    text = str(error)
    detail, _, path = text.partition(" - at `$")
    field = path.strip(".`")
    if not field and "required field" in detail:
        field = detail.split("`")[1]
    elif "required field" in detail:
        field = f"{field}.{detail.split('`')[1]}"
    if not isinstance(error, msgspec.ValidationError):
        detail = "not JSON"
    wrong_size = field.endswith(("PHYPayload", "FRMPayload")) and "bytes" in detail
    result = ResultCode.FRAME_SIZE_ERROR if wrong_size else ResultCode.MALFORMED_MESSAGE
    return MessageError(result, detail[:300], field=field[:100], header=header)


def write(message: Header) -> bytes:
    """The message as JSON, in the standard's spelling and only with what its version knows."""
    if message.protocol_version == "1.0":
        if message.sender_nsid is not None or message.receiver_nsid is not None:
            message = msgspec.structs.replace(message, sender_nsid=None, receiver_nsid=None)
        if isinstance(message, HomeNSAns) and message.home_nsid is not None:
            message = msgspec.structs.replace(message, home_nsid=None)
    if isinstance(message, Answer):
        code = message.result.code.known_to(message.protocol_version)
        if code is not message.result.code:
            message = msgspec.structs.replace(
                message, result=Result(code=code, description=message.result.description)
            )
    return _encoder.encode(message)


def answer_to(request: Header, code: ResultCode, description: str = "", **fields: Any) -> Answer:
    """The answer to a request, with its header turned round (§22.1); ``fields`` are those of its type."""
    kind = ANSWERS.get(request.message_type.removesuffix("Req") + "Ans", Answer)
    return kind(
        protocol_version=request.protocol_version if request.protocol_version in VERSIONS else "1.0",
        sender_id=request.receiver_id,
        receiver_id=request.sender_id,
        transaction_id=request.transaction_id,
        message_type=kind.__name__ if kind is not Answer else request.message_type,
        receiver_token=request.sender_token,
        sender_nsid=request.receiver_nsid,
        receiver_nsid=request.sender_nsid,
        result=Result(code=code, description=description[:2000]),
        **fields,
    )


def whole_milliseconds(moment: datetime) -> datetime:
    """A time as RecvTime carries it: whole milliseconds, so that both sides compute the same from it.

    One without a zone is in UTC, wherever we are.
    """
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
