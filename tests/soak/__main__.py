"""`python -m tests.soak --kills N --seed S`: kills N processes; the exit status is 0 if nothing was lost or left."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from race_watch.lab.errors import LabError
from race_watch.lab.runner import DEFAULT_LIVEKIT
from race_watch.lab.wheels import environment
from tests.soak.processes import adopt_orphans
from tests.soak.rounds import Soak

_TOLD_EVERY_S = 10.0
_PROBLEMS_MOST = 20


def main() -> int:
    """Runs the rounds; progress and problems on stderr, a summary on stdout."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Kills workers and supervisors, and looks.")
    parser.add_argument("--kills", type=int, default=1000, help="how many processes to kill [1000]")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of the plan, not of the timing")
    parser.add_argument("--livekit", default=DEFAULT_LIVEKIT, help="version for a part of the rounds; `none`: no such rounds")
    options = parser.parse_args()
    sdk = None if options.livekit == "none" else _sdk(options.livekit)
    adopt_orphans()
    home = Path(tempfile.mkdtemp(prefix="soak-"))
    soak = Soak(home, options.seed, sdk)
    began_s = told_s = time.monotonic()
    print(f"soak: {options.kills} kills, seed {options.seed}, livekit {options.livekit if sdk else 'none'}", file=sys.stderr)
    while soak.kills.total() < options.kills and len(soak.problems) < _PROBLEMS_MOST:
        soak.round()
        if time.monotonic() - told_s >= _TOLD_EVERY_S:
            told_s = time.monotonic()
            print(f"soak: {soak.kills.total()} kills, {told_s - began_s:.0f} s", file=sys.stderr, flush=True)
    soak.finish()
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(soak.kills.items()))
    tally = soak.tally
    print(
        f"soak: {soak.kills.total()} kills ({kinds}) and {tally.newborns} newborns, "
        f"{soak.rounds} rounds ({soak.rounds_with_sdk} with the SDK), {time.monotonic() - began_s:.0f} s\n"
        f"soak: {tally.committed} records committed by {tally.processes} processes, {tally.read} still in the rings and read\n"
        f"soak: {tally.torn} torn that were not committed; {soak.retold} deaths told twice under one id\n"
        f"soak: {len(soak.problems)} problems" + (f", see {home}" if soak.problems else "")
    )
    if not soak.problems:
        shutil.rmtree(home)
    return bool(soak.problems)


def _sdk(livekit: str) -> Path | None:
    try:
        return environment([f"livekit=={livekit}"])
    except LabError as error:
        print(f"soak: no rounds with the real SDK: {error}", file=sys.stderr)
        return None


if __name__ == "__main__":
    sys.exit(main())
