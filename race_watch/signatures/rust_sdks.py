"""Known races of the native library (livekit-ffi, livekit/rust-sdks), as the Python package ships it."""

from __future__ import annotations

from race_watch.signatures.record import Form, Match, Signature

_REQUEST = "livekit/rtc/_ffi_client.py:request"

_NO_HANDLE = 'called `Result::unwrap()` on an `Err` value: InvalidRequest("handle not found")'
_NEVER_READY = "timed out waiting for ReadyForRoomEventRequest after ConnectCallback"
_READY_NOTE = "since 1.1.9 the native library waits 15 s for the SDK to take a room that it has connected"

# The same race where it ends the process. Without the panic text (no `race-watch run`, or stderr left alone) the request tells.
_STALE_DISCONNECT = tuple(
    Form(
        "native_abort",
        "native",
        affected,
        "1.1.8",
        Match(request=("Disconnect",), evidence=evidence),
        note="up to 1.0.25 the SDK ends its process with SIGTERM, from 1.1.2 to 1.1.7 the panic aborts it",
        advice="Upgrade livekit to 1.1.8 or newer, which refuses the call; keep a Room until its disconnect() has returned.",
    )
    for affected, evidence in (
        (">=1.1.2,<1.1.8", (("reason", "native_abort"), ("panic", "handle not found"))),
        ("<=1.0.25", (("reason", "ffi_panic"), ("phase", "disconnect"))),
        (">=1.1.2,<1.1.8", (("reason", "native_abort"), ("signal", "SIGABRT"), ("phase", "disconnect"))),
    )
)

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
            *_STALE_DISCONNECT,
        ),
        matching=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "Disconnect",
                "frames": ("livekit/rtc/room.py:disconnect:680", f"{_REQUEST}:270"),
            },
            {
                "category": "native_abort",
                "request": "Disconnect",
                "evidence": {"reason": "native_abort", "signal": "SIGABRT", "phase": "disconnect", "panic": _NO_HANDLE},
            },
            {
                "category": "native_abort",
                "request": "Disconnect",
                "evidence": {"reason": "native_abort", "signal": "SIGABRT", "phase": "disconnect"},
            },
            {
                "category": "native_abort",
                "request": "Disconnect",
                "evidence": {"reason": "ffi_panic", "signal": "SIGTERM", "phase": "disconnect", "panic": _NO_HANDLE},
            },
        ),
        other=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "PublishTrack",
                "frames": (f"{_REQUEST}:270",),
            },
            {
                "category": "native_abort",
                "request": "PublishTrack",
                "evidence": {"reason": "native_abort", "signal": "SIGABRT", "phase": "publish"},
            },
            {
                "category": "native_abort",
                "request": "Disconnect",
                "evidence": {"reason": "native_abort", "signal": "SIGSEGV", "phase": "disconnect"},
            },
        ),
    ),
    Signature(
        id="connect-cancel-sigterm",
        title="connect() was cancelled; 15 s later the native library panics and the SDK ends its own process with SIGTERM",
        package="livekit",
        upstream="livekit/rust-sdks#1340",
        advice="Do not cancel room.connect() and put no timeout around it: let it finish, then disconnect. "
        "No release fixes it.",
        forms=(
            Form(
                "native_abort",
                "native",
                ">=1.1.9",
                None,
                Match(evidence=(("reason", "ffi_panic"), ("panic", _NEVER_READY), ("cancelled_connects", ""))),
                note=_READY_NOTE,
            ),
            Form(
                "subscription_leak",
                "sdk",
                "",
                None,
                Match(evidence=(("unit", "cancelled connect"),)),
                note="each attempt leaves a subscription to the native events behind, in every version",
            ),
        ),
        matching=(
            {
                "category": "native_abort",
                "evidence": {
                    "reason": "ffi_panic",
                    "panic": f"invalid request: {_NEVER_READY}",
                    "phase": "idle",
                    "cancelled_connects": "1",
                },
            },
            {"category": "subscription_leak", "evidence": {"unit": "cancelled connect"}},
        ),
        other=(
            {"category": "subscription_leak", "evidence": {"unit": "failed connect"}},
            {
                "category": "native_abort",
                "evidence": {"reason": "ffi_panic", "panic": "task 7 panicked", "cancelled_connects": "1"},
            },
            {"category": "native_abort", "evidence": {"reason": "ffi_panic", "panic": _NEVER_READY, "phase": "connect"}},
        ),
    ),
    Signature(
        id="connect-loop-blocked-15s",
        title="The event loop was blocked for 15 s during connect(); the native library gives up and ends the process",
        package="livekit",
        upstream="",
        advice="Keep blocking work out of the event loop while a room connects (models, files, DNS): use a thread. "
        "No release fixes it.",
        forms=(
            Form(
                "native_abort",
                "app",
                ">=1.1.9",
                None,
                Match(evidence=(("reason", "ffi_panic"), ("panic", _NEVER_READY), ("in_flight", "connect"))),
                note=_READY_NOTE,
            ),
        ),
        matching=(
            {
                "category": "native_abort",
                "evidence": {
                    "reason": "ffi_panic",
                    "panic": f"invalid request: {_NEVER_READY}",
                    "phase": "connect",
                    "in_flight": "connect for 16.02 s",
                },
            },
        ),
        other=({"category": "native_abort", "evidence": {"reason": "ffi_panic", "panic": _NEVER_READY, "phase": "idle"}},),
    ),
    Signature(
        id="teardown-heap-corruption",
        title="glibc found the heap corrupted while a room was torn down",
        package="livekit",
        upstream="livekit/agents#6149",
        advice="Report it upstream with this incident and a core dump: it is open, and no version is known to be free of it.",
        forms=(
            Form("native_abort", "native", "", None, Match(evidence=(("glibc", ""), ("phase", "disconnect")))),
            Form("native_abort", "native", "", None, Match(evidence=(("glibc", ""), ("phase", "exit")))),
        ),
        matching=(
            {
                "category": "native_abort",
                "evidence": {
                    "reason": "native_abort",
                    "signal": "SIGABRT",
                    "phase": "after_disconnect",
                    "panic": "malloc(): unsorted double linked list corrupted",
                    "glibc": "malloc(): unsorted double linked list corrupted",
                },
            },
        ),
        other=(
            {
                "category": "native_abort",
                "evidence": {
                    "reason": "native_abort",
                    "signal": "SIGABRT",
                    "phase": "idle",
                    "glibc": "free(): invalid pointer",
                },
            },
        ),
    ),
)
