"""Jobs come and go in a livekit-agents worker that a real Prometheus scrapes: what it shows in the end must be what happened.

`python -m tests.jobs --jobs N --seed S`; `make jobs` is the long form, tests/real/test_many_jobs.py the short one. Linux only.
"""
