"""The codecs that ship with Quartier, each one JavaScript file in the folder `library`.

We wrote them from the payload formats that the vendors publish. The comment at the head of each file is JSON and says
what the fields are, so that a device with such a codec comes with a mapping to observed properties and units.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

_BEGIN = "/* quartier-codec\n"
_END = "\n*/"


class LibraryField(msgspec.Struct, frozen=True):
    """What a field is: slug of the observed property (None: not offered by default) and unit in UCUM."""

    property: str | None
    unit: str


class _Example(msgspec.Struct, frozen=True):
    port: int
    payload: str


class _Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    vendor: str
    model: str
    title: dict[str, str]
    source: str
    example: _Example
    fields: dict[str, LibraryField]


@dataclass(frozen=True, slots=True)
class LibraryCodec:
    """A codec of the library. `title` by language (de, en); `source` names where the format is published.

    A name in `fields` that ends in `*` stands for all fields that begin like it (channels of Cayenne LPP).
    """

    key: str
    vendor: str
    model: str
    title: Mapping[str, str]
    source: str
    script: str
    fields: Mapping[str, LibraryField]
    example_payload: bytes
    example_port: int

    def field(self, name: str) -> LibraryField | None:
        """What the decoded field `name` is, None where this codec has no such field."""
        found = self.fields.get(name)
        if found is None:
            for pattern, candidate in self.fields.items():
                if pattern.endswith("*") and name.startswith(pattern[:-1]):
                    return candidate
        return found


@cache
def library() -> Mapping[str, LibraryCodec]:
    """All codecs of the library by key (the file's name without `.js`)."""
    folder = files("quartier.intake.codecs").joinpath("library")
    codecs = {}
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if file.name.endswith(".js"):
            key = file.name.removesuffix(".js")
            codecs[key] = _read(key, file.read_text(encoding="utf-8"))
    return MappingProxyType(codecs)


def _read(key: str, script: str) -> LibraryCodec:
    if not script.startswith(_BEGIN) or _END not in script:
        raise ValueError(f"library codec {key} does not begin with {_BEGIN!r} and its JSON")
    head = msgspec.json.decode(script[len(_BEGIN) : script.index(_END)], type=_Head)
    return LibraryCodec(
        key=key,
        vendor=head.vendor,
        model=head.model,
        title=MappingProxyType(head.title),
        source=head.source,
        script=script,
        fields=MappingProxyType(head.fields),
        example_payload=bytes.fromhex(head.example.payload),
        example_port=head.example.port,
    )
