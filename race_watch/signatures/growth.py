"""Known leaks of livekit (livekit/python-sdks and the livekit-ffi it ships), by what grows, with what, and its kinds."""

from __future__ import annotations

from collections.abc import Mapping

from race_watch.signatures.record import Form, Match, Signature


def _form(
    category: str, verdict: str, unit: str, kind: str = "", *, affected: str = "", fixed_in: str | None = None, note: str = ""
) -> Form:
    """Growth of `category` with every `unit`; `kind` must be among what grows."""
    asked = (("unit", unit), *((("kinds", f"{kind} +"),) if kind else ()))
    return Form(category, verdict, affected, fixed_in, Match(evidence=asked), note)


def _grown(category: str, unit: str, kinds: str = "") -> Mapping[str, object]:
    return {"category": category, "evidence": {"unit": unit, "kinds": kinds}}


# What grows first of all: descriptors, or where they cannot be counted the subscription.
_DROPPED = ("fd_leak", "subscription_leak")
_DROPPED_NOTE = "a dropped room keeps 6 to 7 sockets up to livekit 1.1.13, about 31 and six threads since 1.1.14"

SIGNATURES = (
    Signature(
        id="room-dropped-without-disconnect",
        title="Rooms are let go of without disconnect(); the SDK's own task keeps each of them connected",
        package="livekit",
        upstream="",
        advice="Await room.disconnect() for every room that was connected, also where its code fails (try/finally): "
        "the garbage collector never takes a connected room.",
        forms=tuple(_form(category, "app", "abandoned room", note=_DROPPED_NOTE) for category in _DROPPED),
        matching=tuple(_grown(category, "abandoned room", "udp +15, tcp +14") for category in _DROPPED),
        other=tuple(_grown(category, "room", "udp +15, tcp +14") for category in _DROPPED),
    ),
    Signature(
        id="connect-cancel-ghost-room",
        title="connect() was cancelled; the native library stays in the room, which nobody can leave any more",
        package="livekit",
        upstream="livekit/rust-sdks#1340",
        advice="Do not cancel room.connect() and put no timeout around it: let it finish, then disconnect.",
        forms=(_form("fd_leak", "sdk", "cancelled connect", affected="<=1.1.8", fixed_in="1.1.9"),),
        matching=(_grown("fd_leak", "cancelled connect", "udp +4, tcp +2"),),
        other=(_grown("fd_leak", "failed connect"), _grown("subscription_leak", "cancelled connect")),
    ),
    Signature(
        id="server-leave-strands-local-track",
        title="The server ended a room with a published track; the native library keeps the track's threads",
        package="livekit",
        upstream="livekit/rust-sdks#1443",
        advice="Upgrade livekit to 1.2.0 or newer. Until then end rooms from the application, not from the server.",
        forms=(
            _form(
                "thread_leak",
                "native",
                "server leave",
                "audio_source",
                affected="<=1.1.21",
                fixed_in="1.2.0",
                note="one thread a room up to 1.1.17, five or six threads and three descriptors from 1.1.19 to 1.1.21",
            ),
            _form("fd_leak", "native", "server leave", "pipe", affected=">=1.1.19,<=1.1.21", fixed_in="1.2.0"),
        ),
        matching=(
            _grown("thread_leak", "server leave", "webrtc +5, audio_source +1"),
            _grown("fd_leak", "server leave", "pipe +2, epoll +1"),
        ),
        other=(
            _grown("thread_leak", "room", "webrtc +5, audio_source +1"),
            _grown("thread_leak", "server leave", "python +1"),
            _grown("fd_leak", "server leave", "udp +4"),
        ),
    ),
    Signature(
        id="listen-task-leak-on-server-leave",
        title="The server ended a room; the SDK's task for its events never learns of it",
        package="livekit",
        upstream="livekit/python-sdks#199",
        advice="Upgrade livekit to 1.1.14 or newer: until then each such room keeps a task and a subscription.",
        forms=(_form("subscription_leak", "sdk", "server leave", affected="<=1.1.13", fixed_in="1.1.14"),),
        matching=(_grown("subscription_leak", "server leave"),),
        other=(_grown("task_leak", "server leave"), _grown("subscription_leak", "participant")),
    ),
    Signature(
        id="abandoned-stream-leak",
        title="Audio or video streams are not closed when their participant leaves; the SDK's event queue keeps them",
        package="livekit",
        upstream="livekit/rust-sdks#539",
        advice="Await stream.aclose() when its track is unsubscribed or its participant leaves. No release does it by itself.",
        forms=(_form("handle_leak", "app", "participant", "stream"),),
        matching=(_grown("handle_leak", "participant", "stream +1"),),
        other=(_grown("handle_leak", "participant", "source +1"), _grown("handle_leak", "room", "stream +1")),
    ),
    Signature(
        id="departed-kept-by-application",
        title="The application keeps participants, publications or tracks that have left, and their native handles",
        package="livekit",
        upstream="",
        advice="Drop them in participant_disconnected and track_unpublished: lists, dictionaries, closures, tasks keep them. "
        "RACE_WATCH_REFERRERS=1 says what does.",
        forms=tuple(_form("handle_leak", "app", "participant", kind) for kind in ("publication", "participant", "track")),
        matching=tuple(_grown("handle_leak", "participant", f"{kind} +1") for kind in ("publication", "participant", "track")),
        other=(_grown("handle_leak", "participant", "source +1"), _grown("handle_leak", "room", "publication +1")),
    ),
    Signature(
        id="track-created-before-connect",
        title="Local tracks were created before a room was connected; each has a native media runtime of its own",
        package="livekit",
        upstream="",
        advice="Create local tracks after room.connect(): in a connected process they share one runtime, of three "
        "descriptors and three threads.",
        forms=(_form("fd_leak", "app", "track before connect", "pipe"),),
        matching=(_grown("fd_leak", "track before connect", "pipe +2, epoll +1"),),
        other=(_grown("fd_leak", "room", "pipe +2, epoll +1"),),
    ),
)
