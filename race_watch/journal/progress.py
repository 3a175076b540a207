"""What the watchers of a run directory have told already, so that the next one after a restart does not tell it again.

One small JSON file beside the journals: process nonce -> monotonic seconds up to which everything was told, null where its
end was told too, -1 where the journal was then left for `race-watch report`.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Mapping

from race_watch.journal.layout import PROGRESS_FILE, SUFFIX, UNFINISHED

_ENDED = float("inf")
_KEPT = -1.0
# What may have been seen and not told yet: the longest that a detector waits before it speaks.
_UNTOLD_S = 2.0
_NOTE_EVERY_S = 1.0


class Progress:
    """The note of one run directory. Times are monotonic seconds.

    Args:
        run_dir: Where the journals are; None neither reads nor leaves a note, for a replay.
    """

    def __init__(self, run_dir: str | None) -> None:
        self._run_dir = run_dir
        self._before = _load(run_dir) if run_dir is not None else {}
        self._kept = {nonce for nonce, until in self._before.items() if until == _KEPT}
        self._noted_s = 0.0

    def is_kept(self, path: str) -> bool:
        """Whether an earlier watcher has told this journal to its end and left it."""
        return self._before.get(_nonce_of(path)) == _KEPT

    def is_done(self, path: str) -> bool:
        """Whether an earlier watcher has told this journal to its end and had no time to remove it."""
        return self._before.get(_nonce_of(path)) == _ENDED

    def is_counted(self, nonce: str) -> bool:
        """Whether an earlier watcher has had the numbers of this process."""
        return nonce in self._before

    def is_told(self, nonce: str, t_s: float) -> bool:
        """Whether an earlier watcher has told what happened at that moment."""
        return t_s <= self._before.get(nonce, _KEPT)

    def keep(self, nonce: str) -> None:
        """The journal was told to its end and stays."""
        self._kept.add(nonce)

    def note(self, now_s: float, open_: Iterable[str], ending: Mapping[str, float], *, final: bool = False) -> None:
        """Leaves word for the next watcher, about once a second; `ending` are the processes gone, and since when."""
        if self._run_dir is None or (now_s - self._noted_s < _NOTE_EVERY_S and not final):
            return
        self._noted_s = now_s
        told = dict.fromkeys(self._kept, _KEPT)
        # At the end nothing waits to be told any more.
        until_s = now_s if final else now_s - _UNTOLD_S
        told.update(dict.fromkeys(open_, until_s))
        for nonce, since_s in ending.items():
            told[nonce] = _ENDED if now_s - since_s >= _UNTOLD_S else until_s
        # A full file system, or a directory that was removed: the next watcher tells twice.
        with contextlib.suppress(OSError):
            _store(self._run_dir, told)


def _nonce_of(path: str) -> str:
    return os.path.basename(path)[: -len(SUFFIX)].rpartition("-")[2]


def _load(run_dir: str) -> dict[str, float]:
    """What earlier watchers have left; empty where there is nothing, or nothing that can be read."""
    try:
        with open(os.path.join(run_dir, PROGRESS_FILE), encoding="utf-8") as file:
            found = json.load(file)
        entries = found.items() if isinstance(found, dict) else ()
        return {
            nonce: _ENDED if until is None else float(until)
            for nonce, until in entries
            if until is None or isinstance(until, (int, float))
        }
    except (OSError, ValueError, RecursionError, OverflowError):
        return {}


def _store(run_dir: str, told: Mapping[str, float]) -> None:
    """Replaces the file in one step; without anything told there is none.

    Raises:
        OSError: It cannot be written; the old one stands.
    """
    path = os.path.join(run_dir, PROGRESS_FILE)
    temporary = path + UNFINISHED
    if not told:
        # The second one where a watcher was killed, or there was no space, while it wrote.
        for name in (path, temporary):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        return
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump({nonce: None if until == _ENDED else round(until, 3) for nonce, until in told.items()}, file)
    os.replace(temporary, path)
