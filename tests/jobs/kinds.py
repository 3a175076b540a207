"""The kinds of jobs, each with what it makes happen, and the plan of a run."""

from __future__ import annotations

import random
from dataclasses import dataclass

STORM = 5
EXIT_STATUS = 3
# livekit-agents begins a kill with SIGUSR1, which under the forkserver ends the job.
GIVEN_UP = -10
# Below so many jobs there is none of the kinds that take a minute.
_MANY = 100

# What ends a job's process: exit status as its parent has it (a signal as a negative number) -> reason.
REASONS = {
    0: "clean",
    1: "exception",
    EXIT_STATUS: "nonzero_exit",
    -6: "native_abort",
    -9: "killed",
    GIVEN_UP: "supervisor_kill",
}
# What multiprocessing says where two threads of the parent asked a forkserver's child at once, of which one has got the status.
UNKNOWN_STATUS = 255
# Ends that cut off the rooms which are connected.
CUTS = frozenset(("native_abort", "killed", "supervisor_kill"))


@dataclass(frozen=True)
class Kind:
    """A kind of job.

    Attributes:
        share: Of all jobs, in parts of the sum.
        incident: Category, verdict and signature of the one incident that it makes; None for none.
        occurrences: Failures behind that incident.
        status: How its process ends.
        sessions: Rooms that it connects.
        slow: It takes a minute.
    """

    name: str
    share: int
    incident: tuple[str, str, str] | None = None
    occurrences: int = 1
    status: int = 0
    sessions: int = 1
    slow: bool = False

    @property
    def leaves(self) -> bool:
        """Whether the interpreter ends in order, or at least begins to."""
        return self.status >= 0 or self.slow


KINDS = {
    kind.name: kind
    for kind in (
        Kind("clean", 80),
        Kind("second_room", 10, sessions=2),
        Kind("raises", 8),
        Kind("ghost_mute", 16, ("registry_race", "sdk", "track-muted-untracked")),
        Kind("storm", 8, ("registry_race", "sdk", "track-muted-untracked"), occurrences=STORM),
        Kind("dead_track", 16, ("use_after_dispose", "app", "stream-on-dead-track")),
        Kind("lost_task", 16, ("task_exception_lost", "sdk", "unclassified")),
        Kind("bad_callback", 16, ("callback_error", "app", "unclassified")),
        Kind("preconnect", 10, ("use_before_connect", "sdk", "roomio-preconnect-text-output"), sessions=0),
        Kind("exits", 5, status=EXIT_STATUS),
        Kind("stopped", 5, status=1),
        Kind("killed", 5, ("process_killed", "unknown", "unclassified"), status=-9),
        Kind("panics", 2, ("native_abort", "native", "unclassified"), status=-6),
        Kind("aborts", 2, ("native_abort", "unknown", "unclassified"), status=-6),
        Kind("lingers", 1, ("process_killed", "unknown", "unclassified"), status=GIVEN_UP, slow=True),
    )
}


def plan(jobs: int, seed: int) -> list[Kind]:
    """What each job is to do: one of every kind as far as there are jobs, the others by their shares, in any order."""
    kinds = [kind for kind in KINDS.values() if jobs >= _MANY or not kind.slow]
    drawn = random.Random(seed)
    rest = drawn.choices(kinds, [kind.share for kind in kinds], k=max(jobs - len(kinds), 0))
    planned = (drawn.sample(kinds, len(kinds)) + rest)[:jobs]
    drawn.shuffle(planned)
    return planned
