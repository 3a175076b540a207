"""Detectors on facts made by hand: one failure is one finding, whichever order its channels speak in."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from facts import (
    CALLBACK,
    DISPATCH,
    EMIT,
    GETTER,
    MAIN,
    REQUEST,
    again,
    at_times,
    came_by,
    judge,
    process,
    record,
    sampled,
    seen,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from race_watch import detectors, events
from race_watch.detectors import failures
from race_watch.findings import ADVICE, CATEGORIES, VERDICTS

FUZZ = settings(derandomize=True, database=None)

STALE: dict[str, Any] = {
    "type": "AssertionError",
    "message": "",
    "frames": REQUEST,
    "event": "",
    "request": "NewAudioStream",
}
TOO_EARLY: dict[str, Any] = {
    "type": "Exception",
    "message": "cannot access local participant before connecting",
    "frames": GETTER,
    "event": "",
    "track_sid": "",
}
TASK: dict[str, Any] = {
    "type": "LookupError",
    "frames": ("app/agent.py:look_up:9",),
    "event": "",
    "track_sid": "",
    "task": "t4",
    "task_name": "Task-7",
    "task_coro": "app/agent.py:look_up",
}


def native(request: str = "NewAudioStream", reason: str = 'InvalidRequest("handle not found")') -> events.FfiErrorLogged:
    return events.FfiErrorLogged(request, reason)


def constructor(
    fact: str = "aa:1", tasks: tuple[str, ...] = ("t9|Task-9|livekit/rtc/audio_stream.py:AudioStream._run|at",)
) -> Any:
    return events.ConstructorFailed(fact, "livekit.rtc.audio_stream.AudioStream", 1, "TR_1", tasks)


# The modules and their tables


def test_every_module_of_the_package_is_in_the_table() -> None:
    import pkgutil

    found = {info.name for info in pkgutil.iter_modules(detectors.__path__)} - {"deaths", "failures", "flight", "witnesses"}
    assert found == {module.NAME for module in detectors.MODULES}
    built = [type(detector).__module__.rpartition(".")[2] for detector in detectors.build()]
    assert built == [module.NAME for module in detectors.MODULES]


def test_categories_verdicts_and_advice_are_of_the_closed_sets() -> None:
    for module in detectors.MODULES:
        assert module.SUMMARY
        assert set(module.CATEGORIES) <= set(CATEGORIES)
        assert set(module.CATEGORIES) <= set(ADVICE)
        for verdicts in module.CATEGORIES.values():
            assert set(verdicts) <= set(VERDICTS)


# One failure, one incident, in any order of what can come in any order


CASES = {
    "registry race": (("room_event", "log_room"), {}, "registry_race", "sdk"),
    "future resolved twice": (
        ("room_event", "log_room"),
        {"type": "asyncio.exceptions.InvalidStateError", "message": "invalid state"},
        "double_resolve",
        "sdk",
    ),
    "callback with a TypeError": (
        ("room_event", "log_room"),
        {"type": "TypeError", "frames": CALLBACK},
        "callback_error",
        "app",
    ),
    "callback that cannot be called": (
        ("room_event", "log_room"),
        {"type": "TypeError", "frames": EMIT},
        "callback_error",
        "app",
    ),
    "stream handler called by the room itself": (
        ("room_event", "log_room"),
        {"type": "TypeError", "frames": (*DISPATCH, "app/agent.py:on_stream:3")},
        "callback_error",
        "app",
    ),
    "callback with another error": (("log_emit",), {"type": "ValueError", "frames": CALLBACK[2:]}, "callback_error", "app"),
    "callback of the SDK": (
        ("log_emit",),
        {"type": "ValueError", "frames": (*EMIT, "livekit/agents/voice/room_io/_input.py:_on_track_available:88")},
        "callback_error",
        "sdk",
    ),
    "callback of the loop": (("loop_callback", "log"), {**TASK}, "callback_error", "app"),
    "lost task": (("never_retrieved", "log"), TASK, "task_exception_lost", "app"),
    "lost task of the SDK": (("log_task",), {**TASK, "frames": DISPATCH[:1]}, "task_exception_lost", "sdk"),
    "lost task without frames": (("never_retrieved",), {**TASK, "frames": ()}, "task_exception_lost", "unknown"),
}


@pytest.mark.parametrize(("channels", "first", "category", "verdict"), CASES.values(), ids=CASES)
def test_failure_is_one_incident_in_any_order_of_its_channels(
    channels: tuple[str, ...], first: dict[str, Any], category: str, verdict: str
) -> None:
    for order in itertools.permutations(channels):
        incident = judge(at_times(came_by(order, **first))).only()
        assert (incident.category, incident.verdict) == (category, verdict)
        assert sorted(incident.channels) == sorted(channels)


@pytest.mark.parametrize(
    ("first", "category"),
    [
        pytest.param({"channel": "ffi_request", **STALE}, "use_after_dispose", id="stale handle"),
        pytest.param({"channel": "before_connect", **TOO_EARLY}, "use_before_connect", id="before connect"),
    ],
)
@FUZZ
@given(
    later=st.lists(st.sampled_from(["log", "log_emit", "log_task", "room_event", "never_retrieved"]), max_size=4),
    cuts=st.data(),
)
def test_cause_that_was_seen_first_stays_the_incident_whatever_sees_it_later(
    first: dict[str, Any], category: str, later: list[str], cuts: st.DataObject
) -> None:
    apart = cuts.draw(st.sampled_from([0.001, 0.2, 0.4, 0.7, 30.0]))
    polls = cuts.draw(st.lists(st.floats(0.5, 40), max_size=8))
    happened = [seen(**first), *(again(channel, task_name="Task-7") for channel in later)]
    records = [*at_times(happened, apart_s=apart), record(native(), 1.03, 90)]
    incident = judge(records, polls).only()
    assert incident.category == category
    assert incident.channels[0] == first["channel"]
    assert set(incident.channels) - {"ffi_log"} == {first["channel"], *later}


@FUZZ
@given(
    order=st.permutations(["ffi_request", "native", "log_emit", "never_retrieved"]).filter(
        lambda o: o.index("ffi_request") < min(o.index("log_emit"), o.index("never_retrieved"))
    ),
    polls=st.lists(st.floats(0.9, 3.0), max_size=10),
)
def test_assertion_and_its_native_record_are_joined_in_either_order(order: list[str], polls: list[float]) -> None:
    made: dict[str, events.Event] = {
        "ffi_request": seen("ffi_request", **STALE),
        "native": native(),
        "log_emit": again("log_emit"),
        "never_retrieved": again("never_retrieved"),
    }
    incident = judge(at_times([made[name] for name in order]), polls).only()
    assert (incident.category, incident.verdict, incident.confidence) == ("use_after_dispose", "app", 1.0)
    assert incident.evidence["native_error"] == 'InvalidRequest("handle not found")'
    assert set(incident.channels) == {"ffi_request", "ffi_log", "log_emit", "never_retrieved"}


@FUZZ
@given(
    orphan_fails_after_s=st.one_of(st.none(), st.floats(0.01, 100)),
    order=st.permutations(["native", "assertion", "constructor"]).filter(
        lambda o: o.index("assertion") < o.index("constructor")
    ),
    polls=st.lists(st.floats(0.9, 5.0), max_size=10),
)
def test_constructor_its_assertion_and_its_orphans_end_are_one_incident(
    orphan_fails_after_s: float | None, order: list[str], polls: list[float]
) -> None:
    made: dict[str, list[events.Event]] = {
        "assertion": [seen("ffi_request", **STALE)],
        "native": [native()],
        "constructor": [again("constructor", task="t9"), constructor()],
    }
    records = at_times([event for name in order for event in made[name]])
    if orphan_fails_after_s is not None:
        end = seen("log_task", "aa:2", type="AttributeError", message="no attribute", frames=DISPATCH[:1], task="t9")
        records.append(record(end, records[-1].t_s + orphan_fails_after_s, 50))
    judged = judge(records, polls)
    incident = judged.only()
    assert (incident.category, incident.verdict, incident.signature) == ("orphan_task", "sdk", "audiostream-task-before-handle")
    assert incident.task == {"name": "Task-9", "coro": "livekit/rtc/audio_stream.py:AudioStream._run", "created_at": "at"}
    assert ("orphan_ended_with" in incident.evidence) == (orphan_fails_after_s is not None)


def test_orphan_whose_cause_was_suppressed_in_a_storm_is_still_one_incident() -> None:
    records = [
        record(constructor(fact=""), 1.0, 1),
        record(seen("log_task", "aa:2", type="AttributeError", frames=DISPATCH[:1], task="t9"), 1.1, 2),
    ]
    assert judge(records).only().category == "orphan_task"


def test_failures_of_other_tasks_are_not_the_orphans() -> None:
    other = process("bb", 200)
    records = [
        record(constructor(), 1.0, 1),
        record(seen("log_task", "aa:2", frames=DISPATCH[:1], task="t8"), 1.1, 2),
        record(seen("log_task", "bb:2", frames=DISPATCH[:1], task="t9"), 1.1, 2, other),
    ]
    assert sorted(f.category for f in judge(records).findings) == ["orphan_task", "task_exception_lost", "task_exception_lost"]


@pytest.mark.parametrize("later", ["log_emit", "never_retrieved"])
def test_refusal_for_another_reason_is_what_became_of_its_exception(later: str) -> None:
    refused = native(reason='InvalidRequest("sample rate")')
    wrong = {**STALE, "frames": (*EMIT, *REQUEST)}
    judged = judge(at_times([refused, seen("ffi_request", **wrong), again(later)]))
    assert judged.only().category == {"log_emit": "callback_error", "never_retrieved": "task_exception_lost"}[later]


def test_refusal_for_another_reason_that_was_handled_is_nothing() -> None:
    judged = judge(at_times([native(reason='InvalidRequest("sample rate")'), seen("ffi_request", **STALE)]))
    assert judged.findings == []


def test_exception_that_was_logged_and_raised_again_is_the_lost_task_it_ends_as() -> None:
    # livekit-agents' `log_exceptions` logs and re-raises.
    happened = [seen("log", **{**TASK, "task": "", "task_name": ""}), again("never_retrieved", task="t4", task_name="Task-7")]
    incident = judge(at_times(happened)).only()
    assert (incident.category, incident.channels) == ("task_exception_lost", ["log", "never_retrieved"])
    assert incident.task["name"] == "Task-7"


def test_exception_that_was_only_logged_is_nothing() -> None:
    assert judge(at_times([seen("log", **TASK)])).findings == []


# Windows


def test_failure_is_confirmed_when_its_window_is_over_and_only_once() -> None:
    built = detectors.build()
    for detector in built:
        detector.observe(record(seen("room_event"), 10.0))

    def found_at(now_s: float) -> int:
        return sum(len(detector.confirm(now_s)) for detector in built)

    assert found_at(10.0) == 0
    assert found_at(10.0 + failures.WINDOW_S - 0.01) == 0
    assert found_at(10.0 + failures.WINDOW_S) == 1
    assert found_at(1e9) == 0


@pytest.mark.parametrize(
    ("apart_s", "request_kind", "nonce", "joined"),
    [
        pytest.param(0.09, "NewAudioStream", "aa", True, id="in time"),
        pytest.param(-0.09, "NewAudioStream", "aa", True, id="in time before"),
        pytest.param(0.11, "NewAudioStream", "aa", False, id="too late"),
        pytest.param(-0.11, "NewAudioStream", "aa", False, id="too early"),
        pytest.param(0.01, "Disconnect", "aa", False, id="another request"),
        pytest.param(0.01, "NewAudioStream", "bb", False, id="another process"),
    ],
)
def test_native_record_explains_an_assertion_of_its_kind_process_and_time(
    apart_s: float, request_kind: str, nonce: str, joined: bool
) -> None:
    records = [
        record(seen("ffi_request", **STALE), 1.0, 1),
        record(native(request_kind), 1.0 + apart_s, 2, MAIN if nonce == "aa" else process("bb", 200)),
    ]
    incident = judge(records).only()
    assert ("ffi_log" in incident.channels) == joined
    assert (incident.confidence == 1.0) == joined


def test_native_record_explains_one_assertion_only() -> None:
    records = at_times([seen("ffi_request", "aa:1", **STALE), seen("ffi_request", "aa:2", **STALE), native()])
    assert sorted(f.confidence for f in judge(records).findings) == [0.5, 1.0]


# What each detector says of single facts


@pytest.mark.parametrize("unpublished", [True, False])
def test_swallowed_unpublish_has_its_name_only_where_an_unpublish_was_asked_for(unpublished: bool) -> None:
    asked = [events.CallStarted(1, 1, "unpublish_track", "TR_1" if unpublished else "TR_2")]
    lost = events.RoomEventUnmatched(1, "local_track_unpublished", "", "TR_1", "publication")
    incident = judge(at_times([*asked, lost])).only()
    assert incident.category == "lost_event"
    assert incident.signature == ("local-unpublish-keyerror" if unpublished else "unclassified")


@pytest.mark.parametrize("later_s", [0.01, 30.0])
def test_end_of_a_track_whose_publishing_failed_belongs_to_that_failure(later_s: float) -> None:
    failed = seen("room_event", event="local_track_published", track_sid="TR_9", message="TR_9")
    lost = events.RoomEventUnmatched(1, "local_track_unpublished", "", "TR_9", "publication")
    incident = judge([record(failed, 1.0, 0), record(lost, 1.0 + later_s, 1)], polls_s=(1.2, 1.6, 2.5, 40.0)).only()
    assert (incident.category, incident.signature) == ("registry_race", "local-published-keyerror")
    assert "registry" in incident.channels


def test_dropped_event_is_the_sdks_unless_it_announces_an_end() -> None:
    dropped = [
        events.RoomEventUnmatched(1, event, "id:1", "TR_1", "participant")
        for event in ("track_subscribed", "track_unpublished")
    ]
    found = judge(at_times(dropped)).findings
    assert [(f.category, f.verdict, f.track_sid, f.missing) for f in found] == [
        ("lost_event", "sdk", "TR_1", "participant"),
        ("lost_event", "benign", "TR_1", "participant"),
    ]


@pytest.mark.parametrize(
    ("coro", "verdict"), [("app/agent.py:wait", "app"), ("livekit/rtc/room.py:Room._listen_task", "sdk"), ("", "unknown")]
)
def test_destroyed_task_is_whose_coroutine_it_ran(coro: str, verdict: str) -> None:
    destroyed = events.TaskDestroyedPending(1, "t3", "Task-5", coro, "app/agent.py:greet:7", "app/agent.py:wait:9")
    incident = judge(at_times([destroyed])).only()
    assert (incident.category, incident.verdict) == ("task_leak", verdict)
    assert incident.task == {"name": "Task-5", "coro": coro or None, "created_at": "app/agent.py:greet:7"}
    assert incident.evidence["awaits"] == "app/agent.py:wait:9"


@pytest.mark.parametrize(("caller", "verdict"), [("app/agent.py:go:1", "app"), ("livekit/agents/voice/io.py:go:1", "sdk")])
def test_use_before_connect_is_the_applications_if_it_is_among_the_callers(caller: str, verdict: str) -> None:
    early = seen("before_connect", **{**TOO_EARLY, "frames": (caller, GETTER[1])})
    assert judge(at_times([early])).only().verdict == verdict


def test_sids_are_told_apart_by_their_prefix() -> None:
    for sid, participant, track in (("PA_1", "PA_1", None), ("TR_1", None, "TR_1"), ("RM_1", None, None)):
        incident = judge(at_times([seen("room_event", track_sid=sid)])).only()
        assert (incident.participant["sid"], incident.track_sid) == (participant, track)


_HEALTHY: tuple[events.Event, ...] = (
    events.SdkLoaded("livekit", "1.1.8"),
    events.HookInstalled("room_events"),
    events.HookStruck("room_events", "KeyError", 1),
    events.LoopBorn("asyncio.unix_events._UnixSelectorEventLoop", "MainProcess", "MainThread"),
    events.CallStarted(1, 1, "connect", ""),
    events.CallEnded(1, 1, "connect", "cancelled"),
    events.CallEnded(2, 1, "publish_track", "PublishTrackError"),
    events.RoomConnected(1, "room", "RM_1", "id:1", 0, ()),
    events.RoomEventDispatched(1, "track_subscribed", "id:1", "TR_1"),
    events.FfiErrorLogged("NewAudioStream", 'InvalidRequest("handle not found")'),
    events.ExceptionSeenAgain("aa:77", "never_retrieved", 0, "", "", "", "", "", ""),
    sampled(10, 3, 1, 2),
    events.RoomNamed(1, "room"),
    events.LoopClosed("asyncio.unix_events._UnixSelectorEventLoop"),
    events.Disarmed("undo"),
)


@FUZZ
@given(happened=st.lists(st.sampled_from(_HEALTHY), max_size=30), polls=st.lists(st.floats(0, 3), max_size=5))
def test_life_without_failures_and_with_cancelled_calls_has_no_findings(
    happened: list[events.Event], polls: list[float]
) -> None:
    assert judge(at_times(happened), polls).findings == []


# Any facts at all

_CHANNELS = st.sampled_from(
    [
        "room_event",
        "log_room",
        "log_emit",
        "log_task",
        "log",
        "never_retrieved",
        "loop_callback",
        "ffi_request",
        "before_connect",
    ]
)
_FRAMES = st.sampled_from([(), DISPATCH, EMIT, CALLBACK, REQUEST, GETTER, ("asyncio/tasks.py:wait_for:1",)])
_FACTS = st.sampled_from(["aa:1", "aa:2", "aa:3", ""])
_TASKS = st.sampled_from(["", "t1", "t2"])
_ANY = st.one_of(
    st.builds(seen, _CHANNELS, fact=_FACTS, frames=_FRAMES, task=_TASKS, request=st.sampled_from(["", "Disconnect"])),
    st.builds(again, _CHANNELS, fact=_FACTS, task=_TASKS),
    st.builds(constructor, fact=_FACTS, tasks=st.sampled_from([("t1|n|c|a",), ("t2",), ("t1|n", "t2|n|c|a|x")])),
    st.builds(native, st.sampled_from(["Disconnect", "NewAudioStream"]), st.sampled_from(["handle not found", "other"])),
    st.builds(events.TaskDestroyedPending, st.integers(0, 2), _TASKS, _TASKS, _TASKS, _TASKS, _TASKS),
    st.builds(
        events.RoomEventUnmatched,
        st.integers(0, 2),
        st.sampled_from(["track_subscribed"]),
        _TASKS,
        _TASKS,
        st.just("participant"),
    ),
    st.sampled_from(_HEALTHY),
)


@settings(FUZZ, max_examples=300)
@given(happened=st.lists(_ANY, max_size=25), polls=st.lists(st.floats(0.9, 3), max_size=8))
def test_any_facts_give_findings_of_the_closed_sets_and_no_failure_twice(
    happened: list[events.Event], polls: list[float]
) -> None:
    judged = judge(at_times(happened, apart_s=0.05), polls)
    declared = {
        (category, verdict)
        for module in detectors.MODULES
        for category, verdicts in module.CATEGORIES.items()
        for verdict in verdicts
    }
    assert {(f.category, f.verdict) for f in judged.findings} <= declared
    occurrences = sum(group.occurrences for group in judged.incidents.groups.values())
    assert occurrences <= len({f.key for f in judged.findings})
