"""Parsers of files that are imported: existing data sets of the cities, and a plain CSV form.

Each parser is an iterator of :class:`ImportedThing` or :class:`ImportedReading`. Rows that cannot be used
are handed to ``on_error`` with file, line and column, and the next row is read; the command that imports
lists them.
"""

from quartier.cli.importers.table import ImportedReading, ImportedThing, ImportFileError, OnError, RowError

__all__ = ["ImportFileError", "ImportedReading", "ImportedThing", "OnError", "RowError"]
