"""What the watcher half sees for itself, in a journal of its own: a replay and the next watcher then know it too.

That is how the supervised command ended, the signals passed on to it, what its stderr told, and kills for want of memory; in
another one, as there is much of it, what was measured from outside.
"""

from __future__ import annotations

import os

from race_watch.events import Event
from race_watch.journal.writer import Journal, file_name
from race_watch.settings import JOURNAL_BYTES_MIN

ROLE = "watcher"


class OwnJournal:
    """Made in a run directory; without space for it nothing is stated. Any thread may state.

    Args:
        run_dir: Where the journals are.
        role: As the reader sees it; no process of the worker's has it.
        size: In bytes.
    """

    def __init__(self, run_dir: str, role: str = ROLE, size: int = JOURNAL_BYTES_MIN) -> None:
        self._journal: Journal | None = None
        try:
            nonce = os.urandom(8)
            path = os.path.join(run_dir, file_name(nonce))
            self._journal = Journal(path, size, nonce, {"role": role})
        except OSError:
            return

    @property
    def made(self) -> bool:
        return self._journal is not None

    def state(self, event: type[Event], *values: object) -> None:
        """Writes one event, its fields in order. Free text must have been through `clean`."""
        if self._journal is not None:
            self._journal.emit(event.code, event.body(*values))

    def close(self) -> None:
        """Lets go of it. A fork's child does so too: its copy would say that the parent is alive."""
        journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()
