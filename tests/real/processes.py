"""Child processes that tell what happens in them by one JSON object a line on stdout."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any

import psutil

Record = dict[str, Any]
END_TIMEOUT_S = 10.0


class LineProcess:
    """A running child; its stdout records and stderr lines pile up as they come, and can be waited for."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self.records: list[Record] = []
        self.stderr_lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            list(command),
            env=dict(env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read, args=(self._process.stdout, self._take_record), daemon=True),
            threading.Thread(target=self._read, args=(self._process.stderr, self.stderr_lines.append), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> LineProcess:
        return self

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.end_stdin()
        try:
            self._process.wait(END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            # With all below: a supervisor killed alone would leave its worker behind, which has a group of its own.
            for process in [*psutil.Process(self.pid).children(recursive=True), self._process]:
                process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()
        for stream in (self._process.stdout, self._process.stderr):
            if stream is not None:
                stream.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def end_stdin(self) -> None:
        if self._process.stdin is not None and not self._process.stdin.closed:
            self._process.stdin.close()

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def exit_code(self, timeout_s: float) -> int:
        """Wait for the end, and for the last lines written before it."""
        code = self._process.wait(timeout_s)
        for reader in self._readers:
            reader.join()
        return code

    def wait_for(self, wanted: Callable[[Record], bool], what: str, timeout_s: float) -> Record:
        """The first record, past ones included, that is `wanted`."""
        return self._wait(lambda: next((record for record in list(self.records) if wanted(record)), None), what, timeout_s)

    def wait_for_stderr(self, wanted: Callable[[str], str | None], what: str, timeout_s: float) -> str:
        """What `wanted` makes of the first stderr line that it makes something of."""
        return self._wait(lambda: next(filter(None, map(wanted, list(self.stderr_lines))), None), what, timeout_s)

    def _wait(self, look: Callable[[], Any], what: str, timeout_s: float) -> Any:
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            while (found := look()) is None:
                left_s = deadline_s - time.monotonic()
                ended = not any(reader.is_alive() for reader in self._readers)
                if left_s <= 0 or ended:
                    raise AssertionError(f"no {what} ({'process ended' if ended else 'timeout'}); {self._tail()}")
                # Short turns: the end of a reader notifies nobody.
                self._changed.wait(min(left_s, 0.2))
            return found

    def _tail(self) -> str:
        lines = [json.dumps(record)[:300] for record in self.records[-8:]] + self.stderr_lines[-8:]
        return "last lines:\n" + "\n".join(lines)

    def _read(self, stream: IO[str], take: Callable[[str], None]) -> None:
        for line in stream:
            with self._changed:
                take(line.rstrip("\n"))
                self._changed.notify_all()

    def _take_record(self, line: str) -> None:
        try:
            record = json.loads(line)
        except ValueError:
            record = line
        self.records.append(record if isinstance(record, dict) else {"message": line})
