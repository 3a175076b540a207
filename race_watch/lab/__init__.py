"""The lab: real LiveKit SDKs against a scripted server, where every known race happens on command.

Behind the extra `lab`. Nothing in the rest of race_watch imports it but the `demo` command.
"""
