"""Known races of livekit (livekit-rtc, livekit/python-sdks)."""

from __future__ import annotations

from race_watch.signatures.record import Form, Match, Signature

_DISPATCH = "livekit/rtc/room.py:_on_room_event"
_REQUEST = "livekit/rtc/_ffi_client.py:request"
_DISPATCH_FRAMES = ("livekit/rtc/room.py:_listen_task:600", "livekit/rtc/room.py:_on_room_event:741")


_DROPPED = {
    "benign": "Nothing to do: what the event announces has already happened, only its callback was not run.",
    "sdk": "The SDK drops the event: reconcile with room.remote_participants, do not count on its callback.",
}


def _registry(
    id: str,
    event: str,
    upstream: str,
    advice: str,
    *,
    exception: str = "KeyError",
    affected: str = "",
    fixed_in: str | None = None,
    category: str = "registry_race",
    message: str | None = None,
    innermost: str = _DISPATCH,
    swallowed: str | None = None,
    call: str | None = None,
    title: str = "",
) -> Signature:
    """A race of `Room._on_room_event` with the registry.

    `swallowed` is the verdict of its form since the fix; `call` the SDK's call that must have gone before in that form.
    """
    raised = Match(event=event, exception=exception, innermost=innermost, message=message)
    forms = [Form(category, "sdk", affected, fixed_in, raised)]
    if swallowed is not None:
        note = f"since {fixed_in} the SDK drops the event without a word; no callback runs for it"
        dropped = Match(event=event, request=(call,) if call else None)
        forms.append(Form("lost_event", swallowed, f">={fixed_in}", None, dropped, note, _DROPPED[swallowed]))
    frames = (*_DISPATCH_FRAMES[:1], f"{innermost}:741")
    return Signature(
        id=id,
        title=title or f"{event} finds its entry in the room's registry gone",
        package="livekit",
        upstream=upstream,
        advice=advice,
        forms=tuple(forms),
        matching=(
            {"category": category, "event": event, "exception": exception, "message": message or "", "frames": frames},
            *([{"category": "lost_event", "event": event, "request": call or "", "component": _DISPATCH}] if swallowed else []),
        ),
        other=(
            {"category": category, "event": "room_updated", "exception": exception, "frames": frames},
            *([{"category": "lost_event", "event": event, "component": _DISPATCH}] if call else []),
            {
                "category": "callback_error",
                "event": event,
                "exception": exception,
                "frames": ("app/agent.py:on_event:12",),
            },
        ),
    )


_UPGRADE_14 = "Upgrade livekit to 1.1.14 or newer. The event is lost either way: do not rely on it for cleaning up."
_OPEN_LOCAL = (
    "No release fixes it. The track is published, but the SDK does not know it: do not cancel or time out publish_track, and "
    "unpublish by sid what it left."
)
_OPEN = "No release fixes it. The event is lost: reconcile with room.remote_participants, do not count on its callback."

SIGNATURES = (
    _registry(
        "local-unpublish-keyerror",
        "local_track_unpublished",
        "livekit/python-sdks#681",
        "Upgrade livekit to 1.1.11 or newer. Until then the ERROR record is noise: the track is unpublished.",
        affected="<=1.1.10",
        fixed_in="1.1.11",
        swallowed="benign",
        call="unpublish_track",
        title="The answer to unpublish_track overtook local_track_unpublished",
    ),
    _registry(
        "track-unpublished-keyerror",
        "track_unpublished",
        "livekit/python-sdks#747",
        _UPGRADE_14,
        affected="<=1.1.13",
        fixed_in="1.1.14",
        swallowed="benign",
    ),
    _registry(
        "track-subscribed-keyerror",
        "track_subscribed",
        "livekit/python-sdks#757",
        _UPGRADE_14,
        affected="<=1.1.13",
        fixed_in="1.1.14",
        swallowed="sdk",
    ),
    _registry(
        "track-unsubscribed-keyerror",
        "track_unsubscribed",
        "livekit/python-sdks#757",
        _UPGRADE_14,
        affected="<=1.1.13",
        fixed_in="1.1.14",
        swallowed="benign",
    ),
    _registry(
        "track-published-keyerror",
        "track_published",
        "livekit/python-sdks#757",
        _UPGRADE_14,
        affected="<=1.1.13",
        fixed_in="1.1.14",
        swallowed="sdk",
    ),
    _registry(
        "track-subscription-failed-keyerror",
        "track_subscription_failed",
        "livekit/python-sdks#757",
        _UPGRADE_14,
        affected="<=1.1.13",
        fixed_in="1.1.14",
        swallowed="sdk",
    ),
    _registry(
        "local-subscribed-double-resolve",
        "local_track_subscribed",
        "livekit/python-sdks#770",
        "Upgrade livekit to 1.1.14 or newer.",
        category="double_resolve",
        exception="asyncio.exceptions.InvalidStateError",
        affected="<=1.1.13",
        fixed_in="1.1.14",
        title="The first subscription of a local track was resolved twice, by a full reconnect",
    ),
    _registry(
        "room-sid-lost-wakeup",
        "room_sid_changed",
        "livekit/python-sdks#713",
        "Upgrade livekit to 1.1.11 or newer. Until then do not time out `await room.sid`: that cancels it for everybody.",
        category="double_resolve",
        exception="asyncio.exceptions.InvalidStateError",
        affected="<=1.1.10",
        fixed_in="1.1.11",
        title="The room's sid came after a caller had cancelled the wait for it",
    ),
    _registry("participant-disconnected-keyerror", "participant_disconnected", "", _OPEN),
    _registry(
        "participant-already-exists",
        "participant_connected",
        "",
        _OPEN,
        exception="Exception",
        message="participant already exists",
        innermost="livekit/rtc/room.py:_create_remote_participant",
        title="A participant connected that the registry already holds",
    ),
    _registry(
        "local-published-keyerror",
        "local_track_published",
        "livekit/agents#4203",
        _OPEN_LOCAL,
        title="A local track was published after its publish call had been cancelled",
    ),
    _registry("local-subscribed-keyerror", "local_track_subscribed", "", _OPEN_LOCAL),
    Signature(
        id="track-muted-untracked",
        title="A track was muted or unmuted that the registry does not hold",
        package="livekit",
        upstream="",
        advice=_OPEN,
        forms=tuple(
            Form("registry_race", "sdk", "", None, Match(event=event, exception=exception, innermost=_DISPATCH))
            for event in ("track_muted", "track_unmuted")
            for exception in ("KeyError", "AssertionError")
        ),
        matching=(
            {"category": "registry_race", "event": "track_muted", "exception": "KeyError", "frames": _DISPATCH_FRAMES},
            {
                "category": "registry_race",
                "event": "track_unmuted",
                "exception": "AssertionError",
                "frames": _DISPATCH_FRAMES,
            },
        ),
        other=(
            {
                "category": "registry_race",
                "event": "track_muted",
                "exception": "ValueError",
                "frames": _DISPATCH_FRAMES,
            },
        ),
    ),
    Signature(
        id="participant-update-untracked",
        title="An update came for a participant that the registry does not hold",
        package="livekit",
        upstream="",
        advice="No release fixes it. One unknown speaker drops the whole active_speakers_changed event.",
        forms=tuple(
            Form(
                "registry_race",
                "sdk",
                "",
                None,
                Match(event=event, exception="AssertionError", innermost=_DISPATCH),
            )
            for event in (
                "active_speakers_changed",
                "participant_metadata_changed",
                "participant_name_changed",
                "participant_attributes_changed",
                "participant_permission_changed",
            )
        ),
        matching=(
            {
                "category": "registry_race",
                "event": "active_speakers_changed",
                "exception": "AssertionError",
                "frames": _DISPATCH_FRAMES,
            },
        ),
        other=(
            {
                "category": "registry_race",
                "event": "active_speakers_changed",
                "exception": "KeyError",
                "frames": _DISPATCH_FRAMES,
            },
        ),
    ),
    Signature(
        id="audiostream-task-before-handle",
        title="AudioStream's constructor failed after it had started its task",
        package="livekit",
        upstream="livekit/python-sdks#729",
        advice="Upgrade livekit to 1.1.14 or newer. The track was gone when the stream was made: check that it is still "
        "subscribed first. The orphaned task and its event subscription stay until the process ends.",
        forms=(
            Form(
                "orphan_task",
                "sdk",
                "<=1.1.13",
                "1.1.14",
                Match(evidence=(("constructor", "livekit.rtc.audio_stream.AudioStream"),)),
            ),
        ),
        matching=(
            {
                "category": "orphan_task",
                "exception": "AssertionError",
                "request": "NewAudioStream",
                "evidence": {"constructor": "livekit.rtc.audio_stream.AudioStream"},
            },
        ),
        other=(
            {"category": "orphan_task", "evidence": {"constructor": "livekit.rtc.video_stream.VideoStream"}},
            {"category": "use_after_dispose", "request": "NewAudioStream", "exception": "AssertionError"},
        ),
    ),
    Signature(
        id="stream-on-dead-track",
        title="A stream was made on a track whose native handle is gone",
        package="livekit",
        upstream="livekit/python-sdks#729",
        advice="Make streams while the track is subscribed; take AssertionError from the constructor as 'the track has left'.",
        forms=(
            Form(
                "use_after_dispose",
                "app",
                "",
                None,
                Match(exception="AssertionError", request=("NewAudioStream", "NewVideoStream"), innermost=_REQUEST),
            ),
        ),
        matching=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "NewAudioStream",
                "frames": ("app/agent.py:on_track:9", "livekit/rtc/audio_stream.py:__init__:133", f"{_REQUEST}:270"),
            },
        ),
        other=(
            {
                "category": "use_after_dispose",
                "exception": "AssertionError",
                "request": "Disconnect",
                "frames": (f"{_REQUEST}:270",),
            },
        ),
    ),
)
