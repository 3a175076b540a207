"""Traffic that was recorded: clean participants in a lab room of the real SDK, under noise, again and again.

Recorded with

    race-watch run --keep --run-dir RUN_DIR -- PYTHON race_watch/lab/scenarios/growth_publications.py --departures 240 --url URL
    python -m tests.growth_bench.lab RUN_DIR > tests/growth_bench/lab.csv

where PYTHON has a livekit and URL is that of `python -m race_watch.lab`.
"""

from __future__ import annotations

import csv
import random
import sys
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from race_watch.events import ResourcesSampled
from race_watch.journal.layout import SUFFIX
from race_watch.journal.reader import JournalReader
from tests.growth_bench.worker import STEP_FDS, STEP_HANDLES, Leak

RECORDED = Path(__file__).with_name("lab.csv")
_LISTS = ("handles", "threads")
_LATE = 0.1
_POOL_RETURN = 0.02
_POOL_STEP = 0.2


def read(path: Path = RECORDED) -> list[tuple[float, ResourcesSampled]]:
    """What was recorded from the first departure on, while the room was connected; it is empty in the end."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = []
    for row in rows:
        values = {name: tuple(text.split()) if name in _LISTS else int(text) for name, text in row.items() if name != "t_s"}
        found.append((float(row["t_s"]), ResourcesSampled(**values)))  # type: ignore[arg-type]
    return [(t_s, sample) for t_s, sample in found if sample.rooms and sample.participants_departed]


def looped(seed: str, leak: Leak, departures: int) -> Iterator[tuple[float, ResourcesSampled]]:
    """The recording in a loop, with noise and with what is left by each participant; as long as so many have left."""
    dice = random.Random(seed)
    recorded = read()
    first, last = recorded[0], recorded[-1]
    lap_s, lap = last[0] - first[0] + 1.0, last[1].participants_departed - first[1].participants_departed
    shift_s = left = shift = 0.0
    pool, gone = 0.0, first[1].participants_departed
    steps = [0, 0]
    while True:
        for t_s, sample in recorded:
            now = sample.participants_departed + int(shift)
            for _ in range(now - gone):
                left += int(leak.rate) + (dice.random() < leak.rate % 1)
                steps[0] += dice.randint(1, 4) if dice.random() < STEP_HANDLES else 0
                steps[1] += dice.randint(1, 8) if dice.random() < STEP_FDS else 0
            gone = now
            pool += dice.gauss(0, _POOL_STEP) - pool * _POOL_RETURN
            late = dice.randint(1, 3) if dice.random() < _LATE else 0
            handles, fds = (left, 0.0) if leak.resource == "handles" else (0.0, left)
            yield (
                t_s + shift_s,
                replace(
                    sample,
                    participants_departed=now,
                    ffi_handles=sample.ffi_handles + int(handles) + late + steps[0],
                    open_fds=sample.open_fds + int(fds) + round(max(0.0, 4 + pool)) + steps[1],
                ),
            )
            if gone >= departures:
                return
        shift_s, shift = shift_s + lap_s, shift + lap


def _counted(kinds: tuple[str, ...]) -> list[str]:
    return [kind for kind in kinds if not kind.endswith("=0")]


def main(run_dir: str) -> None:
    """Prints the samples of the run's journals."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["t_s", *(field.name for field in fields(ResourcesSampled))])
    for path in Path(run_dir).glob(f"*{SUFFIX}"):
        reader = JournalReader(str(path))
        for record in reader.read(final=True):
            if isinstance(record.event, ResourcesSampled):
                values = [getattr(record.event, field.name) for field in fields(record.event)]
                shown = [" ".join(_counted(value)) if isinstance(value, tuple) else value for value in values]
                writer.writerow([f"{record.t_s - record.process.monotonic_ns / 1e9:.2f}", *shown])
        reader.close()


if __name__ == "__main__":
    main(sys.argv[1])
