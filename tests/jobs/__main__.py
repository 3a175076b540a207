"""`python -m tests.jobs --jobs N --seed S`: runs N jobs; the exit status is 0 if every total equals the truth."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from race_watch.lab.server import LiveKitServer, find_server
from race_watch.lab.wheels import environment
from tests.jobs.figures import scrapes, space, watcher
from tests.jobs.jobs import Jobs
from tests.jobs.kinds import plan
from tests.jobs.prometheus import SCRAPE_INTERVAL_S, Scraped, scraping, tool
from tests.jobs.run_directory import RunDirectory
from tests.jobs.totals import Row, did_as_told, rows
from tests.jobs.watched import Watched
from tests.soak.processes import adopt_orphans

AGENTS = "livekit-agents==1.8.9"
_TOLD_EVERY_S = 10.0
# The end of a process is judged in the seconds after it, a panic that it survives later.
_SETTLED_S = 10.0
_SETTLES_WITHIN_S = 120.0


class Progress:
    """A line now and then, on stderr."""

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._began_s = self._told_s = time.monotonic()

    def __call__(self, ended: int, running: int) -> None:
        now_s = time.monotonic()
        if now_s - self._told_s >= _TOLD_EVERY_S:
            self._told_s = now_s
            say(f"{ended} of {self._jobs} jobs ended, {running} run, {now_s - self._began_s:.0f} s")


def say(line: str) -> None:
    print(f"jobs: {line}", file=sys.stderr, flush=True)


def main() -> int:
    """Runs them; progress on stderr, a table and figures on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.jobs", description="Runs jobs, and compares totals with the truth.")
    parser.add_argument("--jobs", type=int, default=500, help="how many [500]")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the plan, not of the timing")
    options = parser.parse_args()
    if find_server() is None or tool("prometheus") is None:
        say("needs livekit-server and Prometheus: `make livekit-server promtool` gets them")
        return 2
    adopt_orphans()
    home = Path(tempfile.mkdtemp(prefix="jobs-"))
    say(f"{options.jobs} jobs, seed {options.seed}, {AGENTS}")
    began_s = time.monotonic()
    found, notes = run(options.jobs, options.seed, home)
    print(f"{'':<64}{'truth':>9}{'measured':>10}")
    for row in found:
        print(f"{row.what:<64}{row.truth:>9.0f}{row.measured:>10.0f}  {'equal' if row.is_equal else 'UNEQUAL'}")
    unequal = sum(not row.is_equal for row in found)
    took = f"{options.jobs} jobs, seed {options.seed}, {time.monotonic() - began_s:.0f} s"
    for note in (*notes, f"{took}; {unequal} of {len(found)} unequal" + (f", see {home}" if unequal else "")):
        print(f"jobs: {note}")
    if not unequal:
        shutil.rmtree(home)
    return bool(unequal)


def run(count: int, seed: int, home: Path) -> tuple[list[Row], list[str]]:
    """The worker from its start to its exit: the table, and what there is to say beside it."""
    with (
        LiveKitServer() as server,
        Watched(home, server, environment([AGENTS])) as watched,
        scraping(home, watched.port()) as scraped,
        RunDirectory(watched.runtime) as directory,
    ):
        jobs = Jobs(server, watched)
        jobs.run(plan(count, seed), Progress(count))
        found = settled(jobs, watched, scraped)
        statuses = watched.statuses()
        began = [job for job in jobs.all if job.said]
        odd = [job for job in began if not did_as_told(job, statuses)]
        notes = [f"{job.room} ended with {statuses.get(job.room, 0)}, having said {', '.join(job.said)}" for job in odd]
        if len(jobs.all) > len(began):
            notes.append(f"{len(jobs.all) - len(began)} dispatches came to nothing, and were repeated")
        notes += [scrapes(scraped), watcher(scraped), space(directory)]
        found += [
            Row("jobs that did as they were told", max(count, len(began)), len(began) - len(odd)),
            Row("counters that fell", 0, scraped.falls()),
            Row("journals of processes that are gone", 0, directory.left),
            Row("times that the run directory was over its bound", 0, directory.over),
        ]
        found.append(Row("exit status of the worker", 0, -1 if (status := watched.drain()) is None else status))
        found.append(Row("run directories left", 0, len(list(watched.runtime.iterdir()))))
    return found, notes


def settled(jobs: Jobs, watched: Watched, scraped: Scraped) -> list[Row]:
    """The rows when they have been equal for some time, or when they should have been."""
    due_s, equal_s = time.monotonic() + _SETTLES_WITHIN_S, float("inf")
    while True:
        time.sleep(SCRAPE_INTERVAL_S)
        jobs.learn()
        found = rows(jobs, watched.statuses(), scraped)
        now_s = time.monotonic()
        equal_s = min(equal_s, now_s) if all(row.is_equal for row in found) else float("inf")
        if now_s >= min(due_s, equal_s + _SETTLED_S):
            return found


if __name__ == "__main__":
    sys.exit(main())
