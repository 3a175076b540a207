"""Signals are taken as they were sent, and none when this process was stopped for longer than the time limit."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from supervising import ENVIRONMENT, PATIENCE_S, python

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has no sigtimedwait")

BLOCKED = """
import os, signal, sys
from race_watch.signal_wait import take
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
EVERY = frozenset(int(number) for number in signal.valid_signals())
"""


def say(source: str) -> list[str]:
    done = subprocess.run(
        python(BLOCKED + source), capture_output=True, text=True, timeout=PATIENCE_S, env=ENVIRONMENT, check=True
    )
    return done.stdout.splitlines()


def test_signals_are_taken_in_order_with_their_sender() -> None:
    source = """
for number in (signal.SIGUSR2, signal.SIGUSR1, signal.SIGRTMAX):
    os.kill(os.getpid(), number)
while (taken := take(EVERY, 0.0)) is not None:
    print(signal.Signals(taken.number).name, taken.code, taken.pid == os.getpid())
"""
    assert say(source) == ["SIGUSR1 0 True", "SIGUSR2 0 True", "SIGRTMAX 0 True"]


def test_only_what_is_asked_for_is_taken() -> None:
    source = """
os.kill(os.getpid(), signal.SIGUSR1)
print(take(frozenset({int(signal.SIGUSR2)}), 0.01), take(frozenset({int(signal.SIGUSR1)}), 0.0).number == signal.SIGUSR1)
"""
    assert say(source) == ["None True"]


def test_signal_of_the_kernel_is_known_as_that() -> None:
    source = """
if os.fork() == 0:
    os._exit(0)
taken = take(EVERY, 20.0)
print(taken.number == signal.SIGCHLD, taken.code > 0)
"""
    assert say(source) == ["True True"]


def test_stop_that_outlasts_the_time_limit_is_no_signal() -> None:
    source = """
print("ready", flush=True)
taken = []
while int(signal.SIGUSR2) not in taken:
    got = take(EVERY, 0.05)
    if got is not None:
        taken.append(got.number)
print(*(signal.Signals(number).name for number in taken))
"""
    process = subprocess.Popen(python(BLOCKED + source), stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        for _ in range(5):
            process.send_signal(signal.SIGSTOP)
            time.sleep(0.1)  # longer than its time limit: that is what is tested
            process.send_signal(signal.SIGCONT)
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR2)
        said = process.communicate(timeout=PATIENCE_S)[0].split()
    finally:
        process.kill()
    assert set(said) <= {"SIGCONT", "SIGUSR2"}
    assert said[-1] == "SIGUSR2"
    assert process.returncode == 0
