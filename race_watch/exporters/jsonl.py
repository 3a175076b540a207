"""Incidents as JSON lines: one when it is confirmed, another with the same id when its count has settled."""

from __future__ import annotations

import json
from typing import TextIO

from race_watch.incidents import Incident
from race_watch.settings import SettingsError


class IncidentFile:
    """Appends to a file, flushed line by line; nothing is rewritten, so the last line of an id wins.

    Raises:
        SettingsError: The file cannot be opened for appending.
    """

    def __init__(self, path: str) -> None:
        try:
            self._file: TextIO | None = open(path, "a", encoding="utf-8")  # noqa: SIM115 - open as long as the watcher
        except OSError as error:
            raise SettingsError(f"no incident file: {path}: {error.strerror or error}") from None

    def write(self, incident: Incident) -> None:
        """Writes one line.

        Raises:
            OSError: The file system refuses it, and from then on nothing is written.
        """
        if self._file is None:
            return
        try:
            self._file.write(json.dumps(incident.as_dict(), ensure_ascii=False) + "\n")
            self._file.flush()
        except OSError:
            self._file = None
            raise

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
