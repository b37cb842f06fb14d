"""Runs a function under atheris, which finds inputs by the branches they take. Called by the ``fuzz`` modules of the
folders, where atheris is installed; what was found to be new is kept below ``.quartier/fuzz`` for the next run.
"""

from __future__ import annotations

import hashlib
import importlib
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_WORD = re.compile(rb"[A-Za-z][A-Za-z0-9_]{2,30}")


def fuzz(one_input: Callable[[bytes], None], *, readers: int, samples: Iterable[bytes], longest: int) -> None:
    """Until something is found, or for as many seconds as the command line says.

    ``samples`` are good messages: each is given to each reader (the first byte of an input), and their words are what
    inputs are put together from.
    """
    atheris: Any = importlib.import_module("atheris")
    folder = Path(".quartier/fuzz") / one_input.__module__
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    words: set[bytes] = set()
    for sample in samples:
        words.update(_WORD.findall(sample))
        for number in range(readers):
            seed = bytes((number,)) + sample
            (corpus / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    dictionary = folder / "words"
    dictionary.write_text("".join(f'"{word.decode()}"\n' for word in sorted(words)))
    seconds = sys.argv[1] if len(sys.argv) > 1 else "60"
    atheris.instrument_all()
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            f"-max_len={longest}",
            f"-dict={dictionary}",
            str(corpus),
        ],
        one_input,
    )
    atheris.Fuzz()
