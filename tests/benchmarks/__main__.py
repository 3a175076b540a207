"""`python -m tests.benchmarks [ROW ...]`: all rows, or those whose names start with one of the words."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from race_watch.lab.errors import LabError
from tests.benchmarks import ROWS, table
from tests.benchmarks.row import BenchmarkError, Effort, Row, Skipped


def main(words: list[str] | None = None) -> int:
    """Prints the table. 0 unless a benchmark fails; a row over its budget is only marked."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description="What race_watch costs, beside its budget.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="a row's name or its beginning: task, log.info; default: all")
    parser.add_argument("--list", action="store_true", help="name the rows and measure nothing")
    parser.add_argument("--quick", action="store_true", help="two rounds: shows that it works, proves nothing")
    parser.add_argument("--python", default=sys.executable, help="the interpreter to measure; default: this one")
    options = parser.parse_args(words)
    unknown = [word for word in options.rows if not any(row.name.startswith(word) for row in ROWS)]
    if unknown:
        parser.error(f"no row starts with {unknown[0]!r}; the rows are {', '.join(row.name for row in ROWS)}")
    chosen = [row for row in ROWS if not options.rows or row.name.startswith(tuple(options.rows))]
    if options.list:
        for row in chosen:
            print(f"{row.name:19}  {row.what}")
        return 0
    effort = Effort(2, 2, options.python) if options.quick else Effort(python=options.python)
    print(f"{_about(options.python)}, {os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f}; CPU time, {effort.rounds} rounds")
    print(table.header(), flush=True)
    failed = False
    for row in chosen:
        failed |= not _show(row, effort)
    return int(failed)


def _about(python: str) -> str:
    """Version and build: one without profile-guided optimisation is a fifth slower, and with it the microseconds here."""
    code = "import platform; print('Python', platform.python_version(), platform.python_compiler())"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def _show(row: Row, effort: Effort) -> bool:
    try:
        text = table.line(row, row.measure(effort))
    except Skipped as skipped:
        text = table.instead(row, f"skipped: {skipped}")
    except (BenchmarkError, LabError, OSError) as error:
        print(table.instead(row, f"FAILED: {error}"), flush=True)
        return False
    print(text, flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
