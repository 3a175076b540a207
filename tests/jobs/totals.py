"""The truth of a run by what came back of its jobs, and what Prometheus has of it, row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tests.jobs.jobs import Job, Jobs
from tests.jobs.kinds import CUTS, REASONS, UNKNOWN_STATUS
from tests.jobs.prometheus import Scraped

# The main process, and the one that jobs are forked from.
_PARENTS = 2
# What is told of -> metric and the labels that tell it apart.
_METRICS = {
    "incidents": ("race_watch_incidents_total", ("category", "verdict", "signature")),
    "failures": ("race_watch_occurrences_total", ("category",)),
    "processes ended": ("race_watch_process_ended_total", ("reason",)),
    "processes attached": ("race_watch_processes_attached_total", ()),
    "processes now": ("race_watch_processes", ()),
    "sessions": ("race_watch_sessions_total", ()),
    "sessions lost": ("race_watch_sessions_lost_total", ("reason",)),
    "rooms now": ("race_watch_rooms", ()),
    "participants now": ("race_watch_participants", ()),
    "events lost": ("race_watch_events_lost_total", ("reason",)),
    "hook errors": ("race_watch_hook_errors_total", ()),
    "hooks off": ("race_watch_hooks_off", ()),
    "processes missing": ("race_watch_processes_missing", ()),
}


@dataclass(frozen=True)
class Row:
    what: str
    truth: float
    measured: float

    @property
    def is_equal(self) -> bool:
        return self.truth == self.measured


def status_of(job: Job, logged: Mapping[str, int]) -> int:
    """The exit status of a job's process: what the worker logged, and what the job was told where that is not known."""
    status = logged.get(job.room, 0)
    return job.kind.status if status == UNKNOWN_STATUS and ("left" in job.said) == job.kind.leaves else status


def did_as_told(job: Job, logged: Mapping[str, int]) -> bool:
    """Whether it went as its kind has it; where it did not, the truth is another one than was planned."""
    kind, said = job.kind, job.said
    went = "does" in said and said.count("connected") == kind.sessions and ("left" in said) == kind.leaves
    return went and status_of(job, logged) == kind.status


def rows(jobs: Jobs, logged: Mapping[str, int], scraped: Scraped) -> list[Row]:
    """All that is told of, once where it is the total and else by its labels; what is nowhere is left out."""
    truth = _truth(jobs, logged)
    return [row for what in _METRICS for row in _compared(what, truth[what], scraped)]


def _compared(what: str, truth: Counter[tuple[str, ...]], scraped: Scraped) -> Iterator[Row]:
    metric, labels = _METRICS[what]
    measured = scraped.latest(metric, labels)
    for values in sorted(truth.keys() | measured.keys()) or [()]:
        yield Row(" ".join((what + ":" * bool(values), *values)), truth[values], measured.get(values, 0))


def _truth(jobs: Jobs, logged: Mapping[str, int]) -> dict[str, Counter[tuple[str, ...]]]:
    truth: dict[str, Counter[tuple[str, ...]]] = {what: Counter() for what in _METRICS}
    for job in jobs.all:
        status = status_of(job, logged)
        reason = REASONS.get(status, f"exit status {status}")
        rooms = job.said.count("connected")
        if "does" in job.said and job.kind.incident is not None:
            truth["incidents"][job.kind.incident] += 1
            truth["failures"][job.kind.incident[:1]] += job.kind.occurrences
        truth["processes ended"][reason,] += bool(job.said)
        truth["sessions"][()] += rooms
        truth["sessions lost"][reason,] += bool(rooms) and reason in CUTS
    truth["processes attached"][()] = _PARENTS + len(jobs.processes)
    truth["processes now"][()] = _PARENTS + sum(not process.is_dead() for process in jobs.processes)
    return {what: +counted for what, counted in truth.items()}
