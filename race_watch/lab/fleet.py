"""The command that `race-watch demo` supervises: the demo's workers, one after the other, each with its own interpreter.

Each worker's output is shown shortened to one line a record, as an operator's log would: `log|` is what the worker says
without race_watch.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import IO

SCENARIOS = Path(__file__).with_name("scenarios")
_WIDTH = 110
_RECORDS = ("ERROR ", "WARNING ", "CRITICAL ")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--url", required=True, help="ws:// URL of the scripted server")
    options.add_argument("--worker", action="append", nargs=3, required=True, metavar=("TITLE", "PYTHON", "SCENARIO"))
    options.add_argument("--hold", action="store_true", help="keep the last worker until it is told to end")
    args = options.parse_args()
    running: list[subprocess.Popen[str]] = []

    def forward(number: int, _: object) -> None:
        for process in running:
            process.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    worst = 0
    for index, (title, python, scenario) in enumerate(args.worker):
        hold = ["--hold"] if args.hold and index == len(args.worker) - 1 else []
        print(f"demo: {title}", flush=True)
        worst = max(worst, _work([python, str(SCENARIOS / f"{scenario}.py"), "--url", args.url, *hold], running))
    return worst


def _work(command: Sequence[str], running: list[subprocess.Popen[str]]) -> int:
    # A session of its own: Ctrl-C at the terminal comes once, through `forward`.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        running.append(process)
        readers = [
            threading.Thread(target=_show, args=(process.stdout, "  ", ()), daemon=True),
            threading.Thread(target=_show, args=(process.stderr, "  log| ", _RECORDS), daemon=True),
        ]
        for reader in readers:
            reader.start()
        code = process.wait()
        for reader in readers:
            reader.join()
        running.remove(process)
    return code


def _show(stream: IO[str] | None, prefix: str, starts: tuple[str, ...]) -> None:
    for line in stream or ():
        if not starts or line.startswith(starts):
            text = line.rstrip()
            print(prefix + (text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."), flush=True)


if __name__ == "__main__":
    sys.exit(main())
