"""For all tests."""

from __future__ import annotations

import signal

from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("race_watch", deadline=None)
settings.load_profile("race_watch")
# A shell's background (`make test &`) ignores SIGINT, and so would every process that is started here and interrupted.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
