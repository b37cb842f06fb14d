"""What virtual devices must not forget when they are switched off: the nonces they have used."""

from __future__ import annotations

import json
from pathlib import Path


class Memory:
    """Kept in a file where one is given. ``run`` counts the starts, so that random choices are not repeated."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._nonces: dict[str, list[int]] = {}
        self.run = 0
        if path is not None and path.exists():
            kept = json.loads(path.read_text())
            self.run, self._nonces = kept["run"] + 1, kept["nonces"]
        self._write()

    def nonces(self, dev_eui: str) -> tuple[int, int | None]:
        """The last DevNonce, and the last JoinNonce if there was one."""
        used, joined = self._nonces.get(dev_eui, [0, -1])
        return used, joined if joined >= 0 else None

    def remember(self, dev_eui: str, dev_nonce: int, join_nonce: int | None) -> None:
        """Written before a join request is sent, and after it was accepted."""
        new = [dev_nonce, -1 if join_nonce is None else join_nonce]
        if self._nonces.get(dev_eui) != new:
            self._nonces[dev_eui] = new
            self._write()

    def _write(self) -> None:
        if self._path is None:
            return
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps({"run": self.run, "nonces": self._nonces}))
        beside.replace(self._path)
