"""What detectors raise: a finding, in the closed vocabulary of categories and verdicts."""

from __future__ import annotations

from dataclasses import dataclass, field

from race_watch.events import ExceptionSeen
from race_watch.records import Process

CATEGORIES = (
    "registry_race",
    "lost_event",
    "callback_error",
    "task_exception_lost",
    "orphan_task",
    "task_leak",
    "use_before_connect",
    "use_after_dispose",
    "double_resolve",
    "closed_loop_call",
    "hang",
    "deaf_room",
    "handle_leak",
    "fd_leak",
    "thread_leak",
    "subscription_leak",
    "native_abort",
    "fork_misuse",
    "order_inversion",
    "process_killed",
)
# What to do about a category when no signature says it better.
ADVICE = {
    "registry_race": "The SDK lost the event: reconcile with room.remote_participants, and report it with this incident.",
    "double_resolve": "The SDK resolved one future twice; the event that came second is lost. Report it with this incident.",
    "lost_event": "The SDK dropped the event; do not count on its callback for cleaning up.",
    "callback_error": "Fix the callback; what it had left to do for this event was not done.",
    "task_exception_lost": "Keep a reference to the task and await it, or handle its exception in a done callback.",
    "orphan_task": "The constructor's task cannot be reached any more: check what the object needs before making it.",
    "task_leak": "Keep a reference to the task until it is done, and cancel it at teardown.",
    "use_before_connect": "Await room.connect() (or ctx.connect()) before using room.local_participant.",
    "use_after_dispose": "The native library refused the handle, as a rule because it was gone: let go of what has left.",
    "handle_leak": "Let go of participants, publications, tracks and streams that have left: the kinds that grow say of which.",
    "fd_leak": "Await room.disconnect() for every room and let connect() finish: the kinds that grow say what is left open.",
    "thread_leak": "Await room.disconnect() for every room and aclose() every source: the kinds that grow say whose they are.",
    "subscription_leak": "Await room.disconnect() for every room, do not cancel connect(), aclose() every stream and reader.",
    "native_abort": "The process was ended by native code: report it with this incident and its panic text.",
    "process_killed": "The process was ended from outside while it was at work: the evidence says what is known.",
}

VERDICTS = ("sdk", "app", "native", "benign", "unknown")

_SDK = ("livekit/rtc/", "livekit/agents/", "livekit/plugins/", "livekit/api/")
_STDLIB = (
    "asyncio/",
    "concurrent/",
    "threading.py",
    "logging/",
    "weakref.py",
    "contextlib.py",
    "inspect.py",
    "multiprocessing/",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """One failure, judged but not yet named.

    Attributes:
        key: The failure: an exception fact, or the record that states it. Findings of one key are one failure.
        claims: Keys of other failures that are consequences of this one.
        t_s: Monotonic seconds when it happened.
        room: The room's number in its process; 0 if there is none.
        frames: `path:function:line`, outermost first.
        evidence: What else tells; short texts.
        title, advice: For a finding that no signature names, where its shape does not say it well.
    """

    key: str
    category: str
    verdict: str
    component: str
    process: Process
    t_s: float
    confidence: float = 1.0
    claims: tuple[str, ...] = ()
    room: int = 0
    event: str = ""
    identity: str = ""
    participant_sid: str = ""
    track_sid: str = ""
    request: str = ""
    missing: str = ""
    task_name: str = ""
    task_coro: str = ""
    task_created_at: str = ""
    exception: str = ""
    message: str = ""
    frames: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    trace_id: str = ""
    span_id: str = ""
    evidence: dict[str, str] = field(default_factory=dict, hash=False)
    title: str = ""
    advice: str = ""


def from_exception(seen: ExceptionSeen, process: Process, t_s: float, **judged: object) -> Finding:
    """A finding about an exception; `judged` are the fields that the detector adds or overrides."""
    fields: dict[str, object] = {
        "key": seen.fact,
        "process": process,
        "t_s": t_s,
        "room": seen.room,
        "event": seen.event,
        "identity": seen.identity,
        "participant_sid": sids(seen.track_sid)[0],
        "track_sid": sids(seen.track_sid)[1],
        "request": seen.request,
        "task_name": seen.task_name,
        "task_coro": seen.task_coro,
        "task_created_at": seen.task_created_at,
        "exception": seen.type,
        "message": seen.message,
        "frames": seen.frames,
        "channels": (seen.channel,),
        "component": component(seen.frames),
        "trace_id": seen.trace_id,
        "span_id": seen.span_id,
    }
    fields.update(judged)
    return Finding(**fields)  # type: ignore[arg-type]


def sids(sid: str) -> tuple[str, str]:
    """An event's sid as (participant's, track's), by LiveKit's prefixes: PA_ a participant, RM_ a room, TR_ a track."""
    if sid.startswith("PA_"):
        return sid, ""
    return "", "" if sid.startswith("RM_") else sid


def is_sdk(frame: str) -> bool:
    """Whether a frame is LiveKit's."""
    return frame.startswith(_SDK)


def function_of(frame: str) -> str:
    """`path:function` of `path:function:line`."""
    return frame.rpartition(":")[0]


def component(frames: tuple[str, ...]) -> str:
    """Where in LiveKit a failure is: its innermost frame, or the application's where LiveKit has no part in it."""
    sdk = [frame for frame in frames if is_sdk(frame)]
    chosen = sdk or [frame for frame in frames if not frame.startswith(_STDLIB)]
    return function_of(chosen[-1]) if chosen else "unknown"


def blame(frames: tuple[str, ...]) -> str:
    """Whose code raised: the innermost frame that is not the standard library's."""
    for frame in reversed(frames):
        if not frame.startswith(_STDLIB):
            return "sdk" if is_sdk(frame) else "app"
    return "unknown"


def has_application(frames: tuple[str, ...]) -> bool:
    """Whether the application's own code is among the frames."""
    return any(not is_sdk(frame) and not frame.startswith(_STDLIB) for frame in frames)
