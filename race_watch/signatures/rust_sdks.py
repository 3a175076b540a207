"""Known races of the native library (livekit-ffi, livekit/rust-sdks), as the Python package ships it."""

from __future__ import annotations

from race_watch.signatures.record import Form, Match, Signature

_REQUEST = "livekit/rtc/_ffi_client.py:request"

SIGNATURES = (
    Signature(
        id="disconnect-stale-handle-panic",
        title="disconnect() was requested on a room whose native handle is gone",
        package="livekit",
        upstream="livekit/rust-sdks#1066",
        advice="Do not drop or reuse a Room while its disconnect() runs, and do not cancel it: await it once, from one place.",
        forms=(
            Form(
                "use_after_dispose",
                "app",
                ">=1.1.8",
                None,
                Match(exception="AssertionError", request=("Disconnect",), innermost=_REQUEST),
                note="up to 1.1.7 the same call ends the process (SIGABRT; SIGTERM up to 1.0.25); since 1.1.8 it is refused",
            ),
        ),
        matching=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "Disconnect",
                "frames": ("livekit/rtc/room.py:disconnect:680", f"{_REQUEST}:270"),
            },
        ),
        other=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "PublishTrack",
                "frames": (f"{_REQUEST}:270",),
            },
        ),
    ),
)
