"""What is wrong with a request, and where."""

from __future__ import annotations


class QueryError(ValueError):
    """A request that cannot be understood or may not be asked; the text says what to change.

    ``option`` is where (``$filter``, or ``path``), ``at`` the offset in characters in its percent-decoded text, counted
    from 0. People count from 1, and so does the sentence.
    """

    def __init__(self, reason: str, *, option: str = "", at: int | None = None) -> None:
        self.reason = reason
        self.option = option
        self.at = at
        super().__init__(reason)

    def __str__(self) -> str:
        place = self.option
        if self.at is not None:
            place = f"{place}, character {self.at + 1}" if place else f"character {self.at + 1}"
        return f"{place}: {self.reason}" if place else self.reason

    def within(self, option: str) -> QueryError:
        """The same error, with the option that it happened in."""
        return QueryError(self.reason, option=option, at=self.at)
