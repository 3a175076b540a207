"""Callers for the worker of this stack: each comes into a room of its own, whose name says what the job in it shall do.

`clean` is load; the other behaviours of race_watch.lab.agents_worker are faults. Needs livekit and race-watch.
"""

from __future__ import annotations

import argparse
import random
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

from race_watch.lab.tokens import token

PARTICIPANT = Path(__file__).with_name("participant.py")
# A caller stays longer than a job takes, so that none ends for want of somebody to talk to.
STAYS_S = 15
# Where jobs take longer than callers come, the next one waits.
AT_ONCE = 12


def mix_of(text: str) -> dict[str, int]:
    """`clean=24,abort=1`: behaviours and how often, beside each other."""
    pairs = [entry.split("=") for entry in text.split(",")]
    return {behaviour: int(weight) for behaviour, weight in pairs}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True, help="ws:// URL of a livekit-server with the key devkey")
    parser.add_argument("--mix", type=mix_of, required=True, help="behaviours and their weights: clean=24,abort=1")
    parser.add_argument("--every", type=float, default=1.5, help="seconds from one caller to the next [%(default)s]")
    parser.add_argument("--calls", type=int, default=0, help="end after so many; 0 goes on [%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="the same behaviours in the same order [%(default)s]")
    parser.add_argument("--alive", type=Path, help="file to touch with each caller")
    parser.add_argument("--participant", type=Path, default=PARTICIPANT, help="the lab's participant.py [beside this file]")
    args = parser.parse_args()
    # The first process of a container ends on no signal that it does not handle.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    chosen = random.Random(args.seed)
    callers: list[subprocess.Popen[bytes]] = []
    came = 0
    try:
        while not args.calls or came < args.calls:
            callers = [caller for caller in callers if caller.poll() is None]
            if len(callers) < AT_ONCE:
                (behaviour,) = chosen.choices(list(args.mix), list(args.mix.values()))
                callers.append(_call(args.participant, args.url, behaviour))
                came += 1
                if args.alive:
                    args.alive.touch()
            time.sleep(args.every)
        for caller in callers:
            caller.wait()
    finally:
        # Who is killed is not missed by the server at once, and so long its job waits.
        for caller in callers:
            if caller.stdin is not None:
                caller.stdin.close()
        for caller in callers:
            caller.wait()


def _call(participant: Path, url: str, behaviour: str) -> subprocess.Popen[bytes]:
    room = f"{behaviour}-{secrets.token_hex(4)}"
    print(f"a call: {room}", flush=True)
    command = [sys.executable, str(participant), "--url", url, "--token", token(room, f"caller-{room}"), "--audio"]
    # Its stdin stays open, for it leaves when that ends.
    return subprocess.Popen([*command, "--seconds", str(STAYS_S)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
