"""Exceptions become text at once: bounded, without secrets, without running the host's code, named once."""

from __future__ import annotations

import asyncio
import copy
import gc
import pickle
import sys
import time
import types
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming, no_collector
from interpreters import bare_environment, checked, python, watched_environment

from race_watch.events import ExceptionSeen, ExceptionSeenAgain
from race_watch.hooks import exceptions
from race_watch.hooks.exceptions import MARK, short_path
from race_watch.hooks.rooms import Where

NOWHERE = Where()


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:  # noqa: BLE001 - any kind is looked at
        return caught
    finally:
        # Its traceback has this frame.
        del error


def see(armed: Armed, error: BaseException, channel: str = "here") -> str:
    return armed.context.exceptions.see(error, channel, NOWHERE)


def message_of(armed: Armed, error: BaseException) -> str:
    assert see(armed, error)
    return armed.seen(ExceptionSeen)[-1].message


class Own(Exception):  # noqa: N818
    def __init__(self, message: Any = None, *args: Any) -> None:
        super().__init__(message, *args)
        if message is not None:
            self.message = message

    def __str__(self) -> str:
        raise RuntimeError("nobody asks me")

    __repr__ = __str__


MESSAGES: list[tuple[BaseException, str]] = [
    (ValueError("plain"), "plain"),
    (ValueError(), ""),
    (KeyError("TR_1"), "TR_1"),
    (OSError(2, "No such file"), "2, No such file"),
    (ValueError("a", 1, 2.5, True, "cut off"), "a, 1, 2.5, True"),
    (ValueError(object(), b"bytes", None, "told"), "told"),
    (ValueError(Own("inner"), ["list"]), ""),
    (Own("its message"), "its message"),
    (Own(7), ""),
    (Own(), ""),
    (ValueError(10**5000, "after"), "after"),
    (ValueError("a\x1fb\x1ec\nd\re"), "a b c d e"),
    (ValueError("x" * 1000), "x" * 300),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), ""),
    (ValueError("\udcff lone"), "? lone"),
]


@pytest.mark.parametrize(("error", "message"), MESSAGES, ids=range(len(MESSAGES)))
def test_message_is_what_can_be_told_without_asking(armed: Armed, error: BaseException, message: str) -> None:
    told = message_of(armed, error)
    assert told.replace("\N{REPLACEMENT CHARACTER}", "?") == message or type(error) is UnicodeDecodeError


class Slots(Exception):  # noqa: N818
    __slots__ = ("code",)


class NoSetting(Exception):  # noqa: N818
    def __setattr__(self, name: str, value: Any) -> None:
        raise RuntimeError("nobody writes to me")


class NoGetting(Exception):  # noqa: N818
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("nobody asks me")


class OwnDict(Exception):  # noqa: N818
    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        raise RuntimeError("nobody asks me")


class OwnClass(Exception):  # noqa: N818
    @property
    def __class__(self) -> type:  # type: ignore[override]
        raise RuntimeError("nobody asks me")


class Meta(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError("nobody asks me")


class OfMeta(Exception, metaclass=Meta):  # noqa: N818
    pass


class StrangeModule(Exception):  # noqa: N818
    __module__ = 7  # type: ignore[assignment]


class Falsy(Exception):  # noqa: N818
    def __bool__(self) -> bool:
        return False

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("nobody asks me")

    __hash__ = None  # type: ignore[assignment]


# By name: pytest asks its parameters.
HOSTILE = ["Slots", "NoSetting", "NoGetting", "OwnDict", "OwnClass", "OfMeta", "StrangeModule", "Falsy"]


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_exceptions_are_seen_and_named_once(armed: Armed, kind: str) -> None:
    error = BaseException.__new__(globals()[kind], "its text")
    fact = see(armed, error)
    assert see(armed, error) == fact != ""
    seen = armed.one_exception()
    assert (seen.fact, seen.message) == (fact, "its text")
    assert seen.type.endswith(kind)


def test_names_made_at_run_time_are_cut_and_cleaned(armed: Armed) -> None:
    see(armed, type("a\x1fb\nc" + "x" * 1000, (Exception,), {"__module__": "m"})())
    see(armed, type("Built", (Exception,), {"__module__": "builtins"})())
    assert [seen.type for seen in armed.seen(ExceptionSeen)] == ["m.a b c" + "x" * 193, "Built"]


def test_only_the_innermost_frames_are_told(armed: Armed) -> None:
    def down(depth: int) -> None:
        if depth:
            down(depth - 1)
        raise ValueError

    try:
        down(50)
    except ValueError as error:
        see(armed, error)
    frames = armed.one_exception().frames
    line = down.__code__.co_firstlineno
    assert frames == (*(f"tests/host/test_exceptions.py:down:{line + 2}",) * 11, frames[-1])
    assert frames[-1].endswith(":down:" + str(line + 2)) or frames[-1].endswith(":down:" + str(line + 3))


def test_error_on_its_way_shows_who_called(armed: Armed) -> None:
    def caller() -> None:
        callee()

    def callee() -> None:
        try:
            raise ValueError
        except ValueError as error:
            guarded(error, "here", NOWHERE, True)

    def guarded(*arguments: Any) -> None:
        error, channel, where, on_its_way = arguments
        armed.context.exceptions.see(error, channel, where, on_its_way=on_its_way)

    caller()
    told = [frame.split(":")[1] for frame in armed.one_exception().frames]
    assert told[-3:] == ["caller", "callee", "callee"] or told[-4:] == ["caller", "callee", "guarded", "callee"]
    assert len(told) <= 12


def test_later_sightings_name_the_first(armed: Armed) -> None:
    error = raised(ValueError("x"))
    fact = see(armed, error, "a")
    assert [see(armed, error, channel) for channel in ("b", "c")] == [fact, fact]
    assert armed.one_exception().fact == fact
    assert [(again.fact, again.channel) for again in armed.seen(ExceptionSeenAgain)] == [(fact, "b"), (fact, "c")]


def test_mark_goes_with_the_exception_and_its_copies(armed: Armed) -> None:
    error = raised(ValueError("x"))
    fact = see(armed, error)
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert see(armed, again) == fact
    assert see(armed, raised(ValueError("x"))) != fact
    assert vars(error) == {MARK: fact}
    assert repr(error) == "ValueError('x')"
    assert error.args == ("x",)


def test_exception_and_its_frames_die_right_after(armed: Armed) -> None:
    class Local:
        pass

    class Failure(Exception):  # noqa: N818
        pass

    def fail() -> list[Any]:
        local = Local()
        alive = [weakref.ref(local)]
        try:
            raise Failure(local)
        except Failure as error:
            alive.append(weakref.ref(error))
            armed.context.exceptions.see(error, "here", NOWHERE, on_its_way=True)
        return alive

    with no_collector():
        alive = [reference() for _ in range(50) for reference in fail()]
    assert alive == [None] * 100


def test_a_site_is_told_so_often_a_minute_and_the_rest_counted(armed: Armed, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10**12]
    monkeypatch.setattr(exceptions, "MONOTONIC_NS", lambda: clock[0])
    for _ in range(100):
        see(armed, raised(ValueError("one site")))
    assert (len(armed.seen(ExceptionSeen)), armed.counters()["exceptions_suppressed"]) == (30, 70)
    see(armed, raised(TypeError("another site")))
    assert len(armed.seen(ExceptionSeen)) == 31
    clock[0] += 60 * 10**9 + 1
    see(armed, raised(ValueError("one site")))
    assert len(armed.seen(ExceptionSeen)) == 32
    counters = armed.counters()
    assert (counters["exceptions_seen"], counters["exceptions_suppressed"]) == (32, 70)


def test_suppressed_exception_is_no_fact_on_any_channel(armed: Armed) -> None:
    errors = [raised(ValueError("x")) for _ in range(31)]
    facts = [see(armed, error) for error in errors]
    assert facts[-1] == "" != facts[0]
    before = len(armed.events())
    assert see(armed, errors[-1], "log") == ""
    assert len(armed.events()) == before
    assert armed.counters()["exceptions_suppressed"] == 1


def test_sites_without_number_take_no_memory(armed: Armed) -> None:
    for number in range(1000):
        see(armed, type(f"Kind{number}", (Exception,), {})())
    assert len(armed.context.exceptions._sites) <= 128


@pytest.mark.one_python
def test_ten_thousand_exceptions_leave_no_garbage(armed: Armed) -> None:
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for number in range(10_000):
            error = raised(ValueError(number))
            armed.context.exceptions.see(error, "here", NOWHERE, on_its_way=number % 2 == 0)
            del error
        assert gc.collect() == 0
    finally:
        gc.enable()
        gc.unfreeze()


# What must not be found in a journal, in the shapes that messages have it in.
SECRETS = {
    "access token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYWxsZXItMSJ9.c2lnbmF0dXJlLW9mLXRoZS10b2tlbg",
    "truncated token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYWxsZXItMSJ9",
    "LiveKit key": "APIwLeah7g4fuLYDYAJ",
    "LiveKit secret": "ssb6ZbiLS0Vf8GcEuDWH3fYPPUqAHDzRkNzaE7ShCAk",
    "OpenAI key": "sk-proj-Ab3dEf6hIj9kLm2n_OpQrS-tUv",
    "Google key": "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY",
    "hex key": "0123456789abcdef0123456789abcdef01234567",
    "password": "hunter2",
    "phone number": "+4915112345678",
    "phone number with spaces": "+1 (555) 123-4567",
    "SIP identity": "sip_+15551234567",
    "e-mail": "jane.doe@example.com",
    "identity": "caller-jane",
    "longer identity": "caller-jane-doe",
}
PLACES = (
    "cannot connect with {}",
    "{}",
    "wss://host/rtc?access_token={}&auto=1",
    "Authorization: Bearer {}",
    "{{'identity': '{}', 'x': 1}}",
    "no such participant: '{}'.",
    "password={}",
    '{{"api_key": "{}"}}',
    "LIVEKIT_API_SECRET={} is wrong",
)


@pytest.mark.parametrize("secret", SECRETS)
def test_secrets_are_nowhere_in_the_journal(armed: Armed, secret: str) -> None:
    text = SECRETS[secret]
    for identity in ("caller-jane", "caller-jane-doe", "jo"):
        armed.context.recorder.identity(identity)
    if secret == "password":
        places = [place for place in PLACES if "password" in place or "key" in place or "SECRET" in place or "Bearer" in place]
    else:
        places = list(PLACES)
    for place in places:
        # The last one is where the text is cut: half a secret is one as well.
        for before in ("", "x" * 280 + " "):
            see(armed, raised(ValueError(before + place.format(text))))
            see(armed, raised(Own(before + place.format(text))))
            see(armed, raised(KeyError(text)) if secret != "password" else ValueError())
    raw = armed.raw()
    needle = text.removeprefix("sip_").replace("+", "")[:12].encode()
    assert armed.seen(ExceptionSeen)
    assert needle not in raw


def test_task_names_and_loggers_are_scrubbed_too(armed: Armed) -> None:
    armed.context.recorder.identity("caller-jane")

    async def main() -> None:
        task = asyncio.create_task(asyncio.sleep(0), name="room of caller-jane, +4915112345678")
        described = armed.context.tasks.describe(task)
        assert described[1].startswith("room of id:")
        assert "<number>" in described[1]
        await task

    asyncio.run(main())


@pytest.fixture
def span() -> Iterator[types.SimpleNamespace]:
    """A stand-in for the API of OpenTelemetry, which not every Python of the tests has."""
    context = types.SimpleNamespace(is_valid=True, trace_id=0xABC, span_id=0xDEF)
    module = types.ModuleType("opentelemetry.trace")
    before = sys.modules.get("opentelemetry.trace")
    sys.modules["opentelemetry.trace"] = module
    yield types.SimpleNamespace(module=module, context=context)
    if before is None:
        del sys.modules["opentelemetry.trace"]
    else:
        sys.modules["opentelemetry.trace"] = before


def test_span_of_the_host_is_named(armed: Armed, span: types.SimpleNamespace) -> None:
    see(armed, ValueError("half imported"))
    span.module.get_current_span = lambda: types.SimpleNamespace(get_span_context=lambda: span.context)
    see(armed, TypeError("traced"))
    span.context.is_valid = False
    see(armed, KeyError("no span"))
    told = [(seen.trace_id, seen.span_id) for seen in armed.seen(ExceptionSeen)]
    assert told == [("", ""), (f"{0xABC:032x}", f"{0xDEF:016x}"), ("", "")]


PATHS = {
    "/home/jane/.venv/lib/python3.11/site-packages/livekit/rtc/room.py": "livekit/rtc/room.py",
    "/usr/lib/python3/dist-packages/x/y.py": "x/y.py",
    "/usr/lib/python3.12/asyncio/tasks.py": "asyncio/tasks.py",
    "/srv/app/agents/entry.py": "app/agents/entry.py",
    "entry.py": "entry.py",
    "<stdin>": "<stdin>",
    "C:\\app\\site-packages\\m.py": "m.py",
    "/a/\x1f\n.py": "/a/  .py",
}


@pytest.mark.parametrize("path", PATHS)
def test_paths_say_nothing_of_the_machine(path: str) -> None:
    assert short_path(path) == PATHS[path]


def test_short_paths_take_no_memory() -> None:
    for number in range(10_000):
        short_path(f"<cell {number}>")
    assert len(exceptions._paths) <= 4096


def test_long_message_takes_no_time(armed: Armed) -> None:
    before = time.thread_time()
    for text in ("a1" * 5_000_000, "1 (" * 100_000, "a.b-" * 100_000, "eyJ" * 100_000, "token=" * 100_000, "- " * 100_000):
        see(armed, raised(ValueError(text)))
    assert time.thread_time() - before < 0.5


def test_pickled_exceptions_of_a_host_come_back_as_they_went(run_dir: Path) -> None:
    source = """
import asyncio, pickle
loop = asyncio.new_event_loop()
loop.set_exception_handler(lambda *_: None)
class Mine(Exception):
    def __init__(self, a, b):
        super().__init__(a, b)
error = Mine(1, "two")
loop.call_exception_handler({"message": "Exception in callback", "exception": error})
again = pickle.loads(pickle.dumps(error))
print(type(again), again.args, again, repr(again))
loop.close()
"""
    bare = checked(python(source, bare_environment()))
    assert checked(python(source, watched_environment(run_dir))) == bare


def test_armed_again_the_names_are_others(run_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    error = raised(ValueError("x"))
    with arming(run_dir, monkeypatch.setenv) as armed:
        first = see(armed, error)
        again = see(armed, raised(ValueError("y")))
    other = tmp_path / "other"
    other.mkdir(mode=0o700)
    with arming(other, monkeypatch.setenv) as armed:
        assert see(armed, error) == first
        assert see(armed, raised(ValueError("z"))) not in (first, again)
