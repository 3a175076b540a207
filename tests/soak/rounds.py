"""The rounds: a supervised worker at full speed, some kills at random moments, a restart, and a look at what there is then."""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from race_watch.journal.reader import JournalError
from tests.soak.processes import SoakError, Target, command_of, end_children, until
from tests.soak.supervised import Place, Supervised, end_strays, wait_for_relays
from tests.soak.witnesses import Tally, Witness

WORKER = Path(__file__).with_name("worker.py")
CHILDREN = 2
# How old a file that a killed process was making is when the next supervisor removes it.
UNFINISHED_S = 10.0
_JOURNALS_BYTES = (64 * 1024, 1024 * 1024)
_KILL_WITHIN_S = 0.3
# Before the last kill of some rounds: earlier deaths are judged, told, noted and cleared meanwhile.
_LATE = 0.1
_LATE_WITHIN_S = 4.0
# A supervisor takes so long until its worker is at work.
_STARTS_WITHIN_S = 0.6
_EARLY = 0.2
_RELAYED = 0.5
_WITH_SDK = 0.2
_BESIDE_ORPHAN = 0.5
_BEFORE_THE_LAST = ("child", "child", "relay")
_LAST = ("worker", "supervisor", "both")


class Soak:
    """All rounds of one seed.

    Args:
        sdk: The interpreter of an environment with a LiveKit SDK, for a part of the rounds; None for rounds without.

    Attributes:
        kills: How many of each kind.
        problems: A line each; empty means that all is well.
        retold: Deaths that two supervisors have told, the first one having been killed before it could note it.
    """

    def __init__(self, home: Path, seed: int, sdk: Path | None = None) -> None:
        self.kills: Counter[str] = Counter()
        self.problems: list[str] = []
        self.tally = Tally()
        self.rounds = 0
        self.rounds_with_sdk = 0
        self.retold = 0
        self._place = Place(home)
        self._seed = seed
        self._random = random.Random()
        self._sdk = sdk
        self._witnesses: dict[Path, Witness] = {}
        self._targets: dict[int, Target] = {}

    def round(self) -> None:
        """One supervised worker, and what comes after it."""
        self.rounds += 1
        # Of its own, so that what a round does depends on no other one.
        self._random.seed(f"{self._seed} {self.rounds}")
        draw = self._random.random
        journal_bytes = self._random.choice(_JOURNALS_BYTES)
        has_sdk = draw() < _WITH_SDK and self._sdk is not None
        self.rounds_with_sdk += has_sdk
        command = [str(self._sdk if has_sdk else sys.executable), str(WORKER), str(self._place.ledgers), str(CHILDREN)]
        first = Supervised(self._place, [*command, *(["sdk"] if has_sdk else [])], journal_bytes, relayed=draw() < _RELAYED)
        second = None
        try:
            beside = self._kill_early(first) if draw() < _EARLY else self._kill(first)
            if not beside:
                end_strays(first)
            self._learn()
            restarted_s = time.time()
            second = Supervised(self._place, ["cat"], journal_bytes, relayed=draw() < _RELAYED)
            if beside:
                self._kill_orphan(_STARTS_WITHIN_S)
                end_strays(first, second)
                self._learn()
            self._end(second)
            self._check(has_sdk, restarted_s, [*first.said(), *second.said()])
        except SoakError as error:
            self._say(str(error))
        finally:
            end_children()
            self._forget()

    def finish(self) -> None:
        """What was young enough to be left alone has to go too, when it is old."""
        for path in self._place.run_dir.iterdir():
            os.utime(path, (path.stat().st_mtime - UNFINISHED_S,) * 2)
        last = Supervised(self._place, ["true"], _JOURNALS_BYTES[0], relayed=False)
        last.wait()
        left = sorted(set(os.listdir(self._place.run_dir)) - {"key"})
        for line in last.said():
            self._say(line)
        if left:
            self._say(f"left behind for good: {', '.join(left)}")

    def _kill_early(self, supervised: Supervised) -> bool:
        """While it starts, its worker starts, or is at work."""
        self._sleep(_STARTS_WITHIN_S)
        self._strike("supervisor", supervised.target)
        self._died(supervised)
        return False

    def _kill(self, supervised: Supervised) -> bool:
        """While it is at work. Returns whether the worker was left without a supervisor."""
        self._await_work(supervised)
        for victim in self._random.choices(_BEFORE_THE_LAST, k=self._random.randint(0, 3)):
            self._sleep(_KILL_WITHIN_S)
            self._learn()
            self._kill_part(victim, supervised)
        victim = self._random.choice(_LAST)
        self._sleep(_LATE_WITHIN_S if self._random.random() < _LATE else _KILL_WITHIN_S)
        self._learn()
        both = [("worker", self._main()), ("supervisor", supervised.target)]
        self._random.shuffle(both)
        for name, target in both:
            if victim in (name, "both"):
                self._strike(name, target)
        self._died(supervised)
        if victim != "supervisor":
            return False
        if self._random.random() < _BESIDE_ORPHAN:
            return True
        self._kill_orphan(_KILL_WITHIN_S)
        return False

    def _kill_part(self, victim: str, supervised: Supervised) -> None:
        if victim == "relay" and supervised.relayed:
            with suppress(ProcessLookupError, IndexError):
                pid = self._random.choice(supervised.relays())
                target = Target(pid)
                # It is still the one that it was when its descriptor was opened.
                if command_of(pid).startswith("stderr-relay"):
                    self._strike("relay", target)
                target.close()
            return
        living = [self._targets[w.pid] for w in self._witnesses.values() if not w.main and not self._targets[w.pid].is_dead()]
        if living:
            self._strike("child", self._random.choice(living))

    def _kill_orphan(self, within_s: float) -> None:
        self._sleep(within_s)
        self._learn()
        self._strike("worker", self._main())

    def _strike(self, kind: str, target: Target) -> None:
        self.kills[kind] += 1
        target.kill()

    def _died(self, supervised: Supervised) -> None:
        """Killed, or of the same signal as its worker."""
        status = supervised.wait()
        if status != -9:
            raise SoakError(f"the supervisor ended with {status}")

    def _end(self, supervised: Supervised) -> None:
        assert supervised.process.stdin is not None
        supervised.process.stdin.close()
        status = supervised.wait()
        wait_for_relays()
        if status:
            raise SoakError(f"the second supervisor ended with {status}")

    def _await_work(self, supervised: Supervised) -> None:
        def at_work() -> bool:
            self._learn()
            if supervised.process.poll() is not None:
                raise SoakError("the worker ended by itself")
            return len(self._witnesses) > CHILDREN

        until(at_work, "worker at work")

    def _learn(self) -> None:
        """Opens the journals of processes that have come since."""
        for ledger in self._place.ledgers.glob("*.ledger"):
            if ledger in self._witnesses:
                continue
            try:
                witness = self._witnesses[ledger] = Witness(ledger)
            except (OSError, JournalError) as error:
                raise SoakError(f"no journal of a process that is at work: {error}") from None
            with suppress(ProcessLookupError):
                self._targets[witness.pid] = Target(witness.pid)

    def _main(self) -> Target:
        [main] = [witness for witness in self._witnesses.values() if witness.main]
        return self._targets[main.pid]

    def _check(self, has_sdk: bool, restarted_s: float, said: list[str]) -> None:
        for problem in said:
            self._say(problem)
        for witness in self._witnesses.values():
            for problem in witness.check(self.tally, has_sdk=has_sdk):
                self._say(problem)
        self._check_directories(restarted_s)
        self._check_incidents()

    def _check_directories(self, restarted_s: float) -> None:
        for name in sorted(os.listdir(self._place.run_dir)):
            age_s = restarted_s - (self._place.run_dir / name).stat().st_mtime
            young = (name.startswith("key.") or name.endswith(".rwj.new")) and age_s < UNFINISHED_S
            if name != "key" and not young:
                self._say(f"left behind: {name}, {age_s:.1f} s old when the second supervisor began")
        for name in os.listdir(self._place.runtime):
            self._say(f"left behind: another run directory, {name}")

    def _check_incidents(self) -> None:
        """Each death is told, under one id."""
        told: dict[int, Counter[str]] = {witness.pid: Counter() for witness in self._witnesses.values()}
        for line in self._place.incidents.read_text().splitlines() if self._place.incidents.exists() else ():
            incident = json.loads(line)
            if incident["category"] == "process_killed":
                told.setdefault(incident["process"]["pid"], Counter())[incident["id"]] += 1
        known = {witness.pid for witness in self._witnesses.values()}
        for pid, ids in told.items():
            if pid in known and len(ids) != 1:
                self._say(f"the death of {pid} was told under {len(ids)} ids")
            self.retold += max(ids.values(), default=1) - 1

    def _sleep(self, within_s: float) -> None:
        time.sleep(self._random.random() * within_s)

    def _say(self, problem: str) -> None:
        self.problems.append(f"round {self.rounds}: {problem}")
        print(f"soak: {self.problems[-1]}", file=sys.stderr, flush=True)

    def _forget(self) -> None:
        for witness in self._witnesses.values():
            witness.close()
        for target in self._targets.values():
            target.close()
        self._witnesses.clear()
        self._targets.clear()
        for path in (*self._place.ledgers.iterdir(), self._place.incidents):
            path.unlink(missing_ok=True)
