"""For an interpreter with livekit 1.1.7: its child ends in native code, then another interpreter's worker races and stays.

usage: worker_that_races.py URL PYTHON
"""

from __future__ import annotations

import multiprocessing
import runpy
import signal
import subprocess
import sys
from pathlib import Path

from race_watch.lab import fleet

SCENARIOS = Path(fleet.__file__).with_name("scenarios")


def scenario(name: str, url: str) -> None:
    path = SCENARIOS / f"{name}.py"
    sys.path.insert(0, str(SCENARIOS))
    sys.argv = [str(path), "--url", url]
    runpy.run_path(str(path), run_name="__main__")


def main() -> int:
    url, python = sys.argv[1:]
    child = multiprocessing.get_context("spawn").Process(target=scenario, args=("disconnect_stale_handle", url))
    child.start()
    child.join()
    assert child.exitcode is not None
    assert child.exitcode < 0, child.exitcode
    with subprocess.Popen([python, str(SCENARIOS / "demo_worker.py"), "--url", url, "--hold"]) as worker:
        signal.signal(signal.SIGTERM, lambda number, _: worker.send_signal(number))
        return worker.wait()


if __name__ == "__main__":
    sys.exit(main())
