"""Workers and their supervisors are killed at random points, again and again: nothing that was committed may be lost, or left.

`python -m tests.soak --kills N --seed S`; `make soak` is the long form, `test_soak.py` the short one. Linux only.
"""
