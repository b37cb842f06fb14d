"""What the pool and its worker processes say to each other, in one place for both sides.

Both directions carry frames: four bytes of length, then the body. The worker never parses JSON: it hands JSON
text to the script and JSON text back. Imports nothing but `struct`, because the worker must stay small.
"""

from struct import Struct

LENGTH = Struct("<I")

# Pool to worker, one frame per chunk: key of the script, length of the script or KNOWN, number of calls; then
# the script, then for each call its mode, the length of its text and the text.
CHUNK = Struct("<32siI")
KNOWN = -1
CALL = Struct("<BI")

# Worker to pool: flags, then results, each its length and text. The first byte of a result says what it is.
READY = 1  # sent once, when the worker has shut itself in
END = 2  # the chunk is over; results that did not come were not begun (time slice)
RECYCLE = 4  # with END: the worker has grown and asks to be replaced
FLAGS = Struct("<B")
RESULT = Struct("<I")

OK = 0x2B  # "+" JSON object of the answer
FAULT = 0x2D  # "-" JSON object of the fault; the context was renewed
ANSWERED_FAULT = 0x2A  # "*" the same, and the context stays
LOAD_FAULT = 0x21  # "!" JSON object of the fault; the script itself failed to load

# Modes of a call, the same numbers as in harness.js.
LOAD = 0
DECODE_UPLINK = 1
ENCODE_DOWNLINK = 2
DECODE_DOWNLINK = 3
TAKE_LOG = 4

# Memory that both share: number of the call in hand, when it began (CLOCK_MONOTONIC, s) and the processor
# time the worker had used by then (s). It tells which call hangs without a message for each call.
PROGRESS = Struct("<qdd")
PROGRESS_SIZE = 64
BETWEEN_CALLS = -1
# While the script is being loaded for call n the number is LOADING - n.
LOADING = -2

# Scripts a worker keeps contexts of. Pool and worker apply the same least-recently-used rule to the same
# sequence of chunks, so the pool knows which scripts it need not send again.
SCRIPTS_KEPT = 24
