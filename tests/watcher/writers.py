"""Real processes that write journals as they are told, and end as they are told."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from race_watch import events

PATIENCE_S = 30.0

_WRITER = """
import json, os, sys
from race_watch.journal import layout
from race_watch.journal.writer import Journal, file_name
nonce = os.urandom(8)
size = layout.HEADER_BYTES + int(sys.argv[3]) * layout.SLOT_BYTES
made = Journal(os.path.join(sys.argv[1], file_name(nonce)), size, nonce, {"role": sys.argv[2], "sdk": {"livekit": "1.1.8"}})
print(made.path, flush=True)
for line in sys.stdin:
    word, *values = json.loads(line)
    if word == "emit":
        made.emit(*values)
    elif word == "count":
        made.count(values[0])
    elif word == "let go":
        made.close()
    elif word == "exec":
        os.execv(sys.executable, [sys.executable, "-c", "input(); input()"])
    print(flush=True)
"""


class Writer:
    """A process with a journal. `path` is the journal's."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid
        self.path = self._said()

    def state(self, *happened: events.Event) -> None:
        for event in happened:
            values = [getattr(event, spec.name) for spec in fields(event)]  # type: ignore[arg-type]
            self._do("emit", event.code, event.body(*(events.LIST_SEP.join(v) if isinstance(v, tuple) else v for v in values)))

    def count(self, index: int) -> None:
        self._do("count", index)

    def let_go(self) -> None:
        """Closes its journal and lives on."""
        self._do("let go")

    def become(self) -> None:
        """Becomes another program, and lives on as that."""
        self._tell("exec")

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Ends, and is waited for."""
        self._process.send_signal(number)
        self._process.wait(PATIENCE_S)

    def die(self) -> None:
        """Ends, and is not waited for: a zombie."""
        self._process.send_signal(signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def reap(self) -> None:
        self._process.wait(PATIENCE_S)

    def _do(self, *what: object) -> None:
        self._tell(*what)
        assert self._said() == ""

    def _tell(self, *what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what) + "\n")
        self._process.stdin.flush()

    def _said(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the writer died"
        return line.rstrip("\n")


@contextmanager
def writing(run_dir: Path, role: str = "main", slots: int = 64) -> Iterator[Writer]:
    """A writer, which is gone at the end."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(run_dir), role, str(slots)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    try:
        yield Writer(process)
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
