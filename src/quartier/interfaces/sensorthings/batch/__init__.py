"""``POST /$batch``: many requests in one, as multipart/mixed (18-088 clause 10.6) or as JSON (OData 4.01, FROST).

Requests are carried out in their order, each with an answer of its own; those of a change set (or atomicity group)
happen together or not at all. A request may name what an earlier one made: ``$1`` in its address or as an ``@iot.id``.
"""

from __future__ import annotations

from typing import Final

from starlette.requests import Request

from quartier.interfaces.sensorthings import api
from quartier.interfaces.sensorthings.batch import as_json, multipart
from quartier.interfaces.sensorthings.batch.run import Batch
from quartier.interfaces.sensorthings.write.service import Answer, Writer, json_of
from quartier.interfaces.sensorthings.write.work import Who

# So many requests of a batch count as one against the limit of the caller.
_PER_COUNTED: Final = 20


async def answer(request: Request, writer: Writer, who: Who, text: bytes) -> Answer:
    """Carry out a batch. Raises Refusal where it cannot be understood as a whole; then nothing was done."""
    content_type = request.headers.get("content-type", "")
    parts = content_type.lower().startswith("multipart/")
    items = multipart.read(content_type, text) if parts else as_json.read(json_of(text))
    if cost := len(items) // _PER_COUNTED:
        await api.admitted(request, cost)
    done = await Batch(request, writer, who).run(items)
    return multipart.write(done) if parts else as_json.write(done)
