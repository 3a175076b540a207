"""Log records: what they say about a race is seen, and the host's logging works, looks and fails as it did."""

from __future__ import annotations

import copy
import gc
import io
import logging
import logging.config
import os
import pickle
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from arming import Armed, arming
from interpreters import LOOP, bare_environment, outcome, python, watched_environment

import race_watch
from race_watch.events import ExceptionSeen, ExceptionSeenAgain, FfiErrorLogged, HookStruck
from race_watch.hooks import log_records
from race_watch.hooks.exceptions import MARK

FFI = "%s:%s:%s - %s"
REFUSED = (
    "failed to handle request FfiRequest { message: Some(Disconnect(DisconnectRequest {})) }: "
    'InvalidRequest("handle not found")'
)


@pytest.fixture
def sdk_logger() -> Iterator[logging.Logger]:
    """The SDK's logger, which nobody listens to."""
    logger = logging.getLogger("livekit")
    logger.addHandler(logging.NullHandler())
    yield logger
    logger.handlers.clear()
    logger.propagate = True
    logger.disabled = False
    logger.setLevel(logging.NOTSET)


def refuse(logger: logging.Logger) -> None:
    logger.error(FFI, "livekit_ffi::cabi", 36, "livekit_ffi::cabi", REFUSED)


def failed(text: str = "x") -> ValueError:
    try:
        raise ValueError(text)
    except ValueError as error:
        return error


def test_native_record_is_a_fact(armed: Armed, sdk_logger: logging.Logger) -> None:
    refuse(sdk_logger)
    assert armed.seen(FfiErrorLogged) == [FfiErrorLogged("Disconnect", 'InvalidRequest("handle not found")')]
    assert armed.counters()["log_records"] == 1


NOT_NATIVE: dict[str, tuple[Any, ...]] = {
    "another template": ("%s %s %s %s", "a", 1, "b", REFUSED),
    "fewer arguments": ("%s:%s:%s - x", "a", 1, "b"),
    "no text": (FFI, "a", 1, "b", object()),
    "another failure": (FFI, "a", 1, "b", "signal client closed"),
    "no reason": (FFI, "a", 1, "b", REFUSED.partition(" }: ")[0]),
    "a mapping": ("%(a)s", {"a": 1}),
}


@pytest.mark.parametrize("record", NOT_NATIVE)
def test_other_records_of_the_sdk_are_counted_only(armed: Armed, sdk_logger: logging.Logger, record: str) -> None:
    sdk_logger.warning(*NOT_NATIVE[record])
    assert not armed.seen(FfiErrorLogged)
    assert armed.counters()["log_records"] == 1


def test_long_native_record_takes_no_time(armed: Armed, sdk_logger: logging.Logger) -> None:
    """Metadata of 60 KB stands in the request: a search that backtracks in it would hold the GIL for a minute."""
    text = REFUSED.replace("{}", '{ metadata: "' + "Zm9v" * 15_000 + '" }')
    before = time.thread_time()
    sdk_logger.error(FFI, "a", 1, "b", text)
    sdk_logger.error(FFI, "a", 1, "b", text[:-5])
    assert time.thread_time() - before < 0.5
    assert len(armed.seen(FfiErrorLogged)) == 2


def test_sdk_templates_tell_channel_and_event(armed: Armed, sdk_logger: logging.Logger) -> None:
    logging.getLogger("root").error("error running user callback for %s: %s", "track_muted", object(), exc_info=failed("a"))
    sdk_logger.error("failed to emit event participant_connected", exc_info=failed("b"))
    sdk_logger.error("task exception: %s", object(), exc_info=failed("c"))
    sdk_logger.error("caller +4915112345678 hung up", exc_info=failed("d"))
    told = [(seen.channel, seen.event, seen.logger, seen.template) for seen in armed.seen(ExceptionSeen)]
    assert told == [
        ("log_room", "track_muted", "root", "error running user callback for %s: %s"),
        ("log_emit", "participant_connected", "livekit", ""),
        ("log_task", "", "livekit", "task exception: %s"),
        ("log", "", "livekit", ""),
    ]


def test_exceptions_of_the_host_are_its_own_unless_seen_before(armed: Armed) -> None:
    logger = logging.getLogger("app")
    error = failed()
    logger.error("mine", exc_info=error)
    assert not armed.channels()
    logging.getLogger("livekit.agents").error("theirs", exc_info=error)
    logger.error("mine again", exc_info=error)
    assert armed.channels() == ["log", "log"]


def tree() -> Any:
    """All of `logging` that a host can see."""
    loggers: dict[str, Any] = {"root": logging.root, **logging.root.manager.loggerDict}
    seen = {
        name: (logger.level, logger.disabled, logger.propagate, list(logger.handlers), list(logger.filters))
        for name, logger in loggers.items()
        if isinstance(logger, logging.Logger)
    }
    return seen, list(logging._handlerList), dict(logging._handlers), logging.getLoggerClass(), logging.root.manager.disable


def test_logging_tree_is_untouched(run_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("livekit")
    before = tree()
    with arming(run_dir, monkeypatch.setenv):
        assert tree() == before
    assert tree() == before


HOSTS = {
    "no configuration": "",
    "only warning()": "logging.warning('warned')",
    "basicConfig": "logging.basicConfig(level='INFO', format='%(levelname)s %(name)s %(funcName)s %(lineno)d %(message)s')",
    "own handler": "h = logging.StreamHandler(); logging.getLogger('livekit').addHandler(h)",
    "no pid": "logging.logProcesses = False",
    "shut down": "logging.shutdown()",
    "handler that fails": """
class Failing(logging.StreamHandler):
    def format(self, record):
        raise ValueError('in the handler')
logging.root.addHandler(Failing())
""",
    # The handler that loguru's manual gives to those who want `logging`'s records in loguru.
    "handler that looks for the caller": """
class Intercept(logging.Handler):
    def emit(self, record):
        frame = sys._getframe()
        depth = 0
        while frame and (depth == 0 or frame.f_code.co_filename == logging.__file__):
            frame, depth = frame.f_back, depth + 1
        print(frame.f_code.co_name, frame.f_lineno, record.msg, file=sys.stderr)
logging.basicConfig(handlers=[Intercept()], level=0, force=True)
""",
    "factory of records": "logging.setLogRecordFactory(type('Mine', (logging.LogRecord,), {}))",
    "handler that raises": """
class Raising(logging.Handler):
    def emit(self, record):
        raise OSError('out of the handler')
logging.root.addHandler(Raising())
""",
}
LOGS = """
def says():
    logging.getLogger('livekit').error('failed to emit event x', exc_info=ValueError('x'))
    logging.getLogger('livekit').warning('%s:%s:%s - %s', 'a', 1, 'b', 'c')
    logging.getLogger('livekit').info('quiet')
    logging.getLogger('app').warning('a %s', 'warning')
    logging.getLogger('app').warning('a %d', 'mistake')
    logging.critical('the end', stack_info=False)
try:
    says()
except OSError as error:
    print(error, error.__traceback__.tb_next.tb_frame.f_code.co_name)
"""


@pytest.mark.parametrize("host", HOSTS)
def test_console_of_the_host_is_the_same(run_dir: Path, host: str, tmp_path: Path) -> None:
    script = tmp_path / "host.py"
    script.write_text(f"import logging, sys\n{LOOP}{HOSTS[host]}\n{LOGS}")
    source = "import runpy; runpy.run_path(r'" + str(script) + "', run_name='__main__')"
    bare = outcome(python(source, bare_environment(), flags=["-W", "error"]))
    assert outcome(python(source, watched_environment(run_dir), flags=["-W", "error"])) == bare
    assert "the end" in bare[2] or host.startswith("handler that")
    assert list(run_dir.glob("*.rwj"))


def reconfigure_dict() -> None:
    logging.config.dictConfig({"version": 1, "disable_existing_loggers": False})


def reconfigure_file() -> None:
    text = "[loggers]\nkeys=root\n[handlers]\nkeys=\n[formatters]\nkeys=\n[logger_root]\nlevel=WARNING\nhandlers=\n"
    logging.config.fileConfig(io.StringIO(text), disable_existing_loggers=False)


RECONFIGURATIONS: dict[str, Callable[[], None]] = {
    "dictConfig": reconfigure_dict,
    "fileConfig": reconfigure_file,
    "basicConfig": lambda: logging.basicConfig(force=True, handlers=[logging.NullHandler()]),
    "shutdown": lambda: logging.shutdown(),
}


@pytest.mark.parametrize("how", RECONFIGURATIONS)
def test_we_survive_reconfiguration(armed: Armed, sdk_logger: logging.Logger, how: str) -> None:
    handlers, level, known = list(logging.root.handlers), logging.root.level, list(logging._handlerList)
    try:
        RECONFIGURATIONS[how]()
        refuse(sdk_logger)
    finally:
        logging.root.handlers[:], logging._handlerList[:] = handlers, known
        logging.root.setLevel(level)
    assert len(armed.seen(FfiErrorLogged)) == 1


def test_levels_disabled_loggers_and_filters_of_the_host_hold_for_us_too(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.setLevel(logging.CRITICAL)
    refuse(sdk_logger)
    sdk_logger.setLevel(logging.NOTSET)
    sdk_logger.disabled = True
    refuse(sdk_logger)
    sdk_logger.disabled = False
    sdk_logger.filters.append(lambda record: False)
    refuse(sdk_logger)
    sdk_logger.filters.clear()
    assert armed.counters()["log_records"] == 0
    sdk_logger.propagate = False
    refuse(sdk_logger)
    assert armed.counters()["log_records"] == 1


def test_logger_with_a_way_of_its_own_is_not_seen(armed: Armed) -> None:
    """The documented limit: attach a `RaceHandler` to it."""

    class Own(logging.Logger):
        def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802
            for handler in self.handlers:
                handler.handle(record)

    logger = Own("livekit.own")
    refuse(logger)
    assert not armed.seen(FfiErrorLogged)
    logger.addHandler(race_watch.RaceHandler())
    refuse(logger)
    assert len(armed.seen(FfiErrorLogged)) == 1


def test_record_is_left_as_it_was(armed: Armed, sdk_logger: logging.Logger) -> None:
    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            kept.append((record, copy.copy(vars(record))))

    kept: list[tuple[logging.LogRecord, dict[str, Any]]] = []
    sdk_logger.propagate = False
    sdk_logger.addHandler(Keeps())
    refuse(sdk_logger)
    sdk_logger.error("failed to emit event x", exc_info=failed())
    for record, before in kept:
        assert vars(record) == before
        record.exc_info = None
        pickle.dumps(record)
    assert armed.channels() == ["log_emit"]


class Hostile:
    """Raises, blocks or logs when it is asked for anything."""

    def _never(self, *_: Any) -> Any:
        logging.getLogger("livekit").error("I was asked")
        raise AssertionError("nobody asks me")

    __str__ = __repr__ = __eq__ = __hash__ = __len__ = __iter__ = __bool__ = __format__ = _never  # type: ignore[assignment]


def test_objects_of_the_host_are_never_asked(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.propagate = False
    for message in (Hostile(), FFI, "error running user callback for %s: %s", "task exception: %s", "failed to emit event x"):
        for error in (None, failed()):
            for count in (1, 2, 4):
                sdk_logger.error(message, *[Hostile() for _ in range(count)], exc_info=error)
    sdk_logger.error("x", exc_info=ValueError(Hostile()))
    assert armed.counters()["log_records"] == 31


@pytest.mark.parametrize("exc_info", [(), (None, None, None), ("a", "b", "c"), (ValueError, None, None), True])
def test_strange_exc_info_is_no_fact(armed: Armed, sdk_logger: logging.Logger, exc_info: Any) -> None:
    sdk_logger.propagate = False
    sdk_logger.error("x", exc_info=exc_info)
    assert not armed.channels()


def test_ten_megabytes_are_neither_copied_nor_kept(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.propagate = False
    text = "x" * 10_000_000
    before = time.thread_time()
    for message, arguments in ((text, ()), ("failed to emit event " + text, ()), (FFI, ("a", 1, "b", text))):
        sdk_logger.error(message, *arguments, exc_info=failed(text))
    assert time.thread_time() - before < 1
    assert {len(seen.message) for seen in armed.seen(ExceptionSeen)} == {300}
    assert len(armed.raw().rstrip(b"\0")) < 50_000


def test_cyclic_context_is_followed_by_nobody(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.propagate = False
    first, second = failed("a"), failed("b")
    first.__context__, second.__context__ = second, first
    first.__cause__, second.__cause__ = second, first
    sdk_logger.error("x", exc_info=first)
    assert armed.one_exception().message == "a"


def test_record_of_another_process_is_ignored(armed: Armed, sdk_logger: logging.Logger) -> None:
    record = sdk_logger.makeRecord("livekit", 40, "f", 1, FFI, ("a", 1, "b", REFUSED), None)
    record.process = os.getpid() + 1
    sdk_logger.handle(record)
    assert not armed.seen(FfiErrorLogged)
    record.process = None  # the host has set `logging.logProcesses` to False
    sdk_logger.handle(record)
    assert len(armed.seen(FfiErrorLogged)) == 1


def test_handler_by_hand_and_hook_make_one_fact(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.addHandler(race_watch.RaceHandler())
    sdk_logger.addHandler(race_watch.RaceHandler())
    for _ in range(3):
        refuse(sdk_logger)
        sdk_logger.error("failed to emit event x", exc_info=failed())
    assert len(armed.seen(FfiErrorLogged)) == len(armed.seen(ExceptionSeen)) == 3
    assert not armed.seen(ExceptionSeenAgain)
    assert armed.counters()["log_records"] == 6


def test_equal_times_and_addresses_do_not_make_two_records_one(
    armed: Armed, sdk_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen clock, and an allocator that gives each record the place of the last."""
    now, now_ns = time.time(), time.time_ns()
    monkeypatch.setattr(time, "time", lambda: now)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    for _ in range(20):
        refuse(sdk_logger)
    assert len(armed.seen(FfiErrorLogged)) == 20


def test_handler_of_an_unarmed_process_is_silent(sdk_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    sdk_logger.propagate = False
    handler = race_watch.RaceHandler()
    sdk_logger.addHandler(handler)
    refuse(sdk_logger)
    sdk_logger.error("failed to emit event x", exc_info=(error := failed()))
    handler.flush()
    handler.close()
    refuse(sdk_logger)
    assert MARK not in vars(error)
    assert capsys.readouterr() == ("", "")


def test_filter_and_level_of_a_handler_by_hand_are_respected(armed: Armed) -> None:
    handler = race_watch.RaceHandler(level=logging.ERROR)
    record = logging.LogRecord("livekit", logging.WARNING, "f", 1, FFI, ("a", 1, "b", REFUSED), None)
    handler.handle(record)
    record.levelno = logging.ERROR
    handler.addFilter(lambda record: False)
    assert not handler.handle(record)
    assert not armed.seen(FfiErrorLogged)
    handler.filters.clear()
    assert handler.handle(record)
    assert len(armed.seen(FfiErrorLogged)) == 1


@pytest.mark.parametrize("error", [ValueError, RecursionError, MemoryError])
@pytest.mark.parametrize("by_hand", [False, True])
def test_failures_of_ours_are_counted_and_end_the_hook(
    armed: Armed, sdk_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, error: type[Exception], by_hand: bool
) -> None:
    def broken(*_: Any) -> None:
        raise error("ours")

    monkeypatch.setattr(log_records, "_state", broken)
    logger = Lonely("livekit") if by_hand else sdk_logger
    logger.addHandler(race_watch.RaceHandler() if by_hand else logging.NullHandler())
    for _ in range(5):
        refuse(logger)
    armed.strikes = 3
    assert [(event.hook, event.error, event.off) for event in armed.seen(HookStruck)] == [
        ("log_records", error.__name__, off) for off in (0, 0, 1)
    ]


class Lonely(logging.Logger):
    """Gives its records to its handlers, and to nobody else."""

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802
        for handler in self.handlers:
            handler.handle(record)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_that_meet_us_belong_to_the_host(
    armed: Armed, sdk_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def interrupted(*_: Any) -> None:
        raise error

    monkeypatch.setattr(log_records, "_state", interrupted)
    with pytest.raises(error):
        refuse(sdk_logger)


def test_eight_threads_lose_nothing(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.propagate = False
    sdk_logger.addHandler(race_watch.RaceHandler())

    def logs() -> None:
        for _ in range(1000):
            sdk_logger.warning("w")

    threads = [threading.Thread(target=logs) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        sys.setswitchinterval(interval)
    # A counter is written by whoever took the number last, so it may lag behind by those that overtook each other.
    assert 7990 <= armed.counters()["log_records"] <= 8000


def test_signal_handler_may_log_in_the_middle_of_ours(
    armed: Armed, sdk_logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdk_logger.addHandler(race_watch.RaceHandler())
    state = log_records._state
    inside = []

    def interrupted(*arguments: Any) -> None:
        if not inside:
            inside.append(1)
            signal.raise_signal(signal.SIGUSR1)
        state(*arguments)

    before = signal.signal(signal.SIGUSR1, lambda *_: refuse(sdk_logger))
    monkeypatch.setattr(log_records, "_state", interrupted)
    try:
        refuse(sdk_logger)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert len(armed.seen(FfiErrorLogged)) >= 2


def test_nothing_of_a_record_is_kept(armed: Armed, sdk_logger: logging.Logger) -> None:
    sdk_logger.propagate = False

    class Argument:
        pass

    gc.disable()
    try:
        argument = Argument()
        reference = weakref.ref(argument)
        sdk_logger.error("failed to emit event x %s", argument, exc_info=(error := failed()))
        del argument, error
        assert reference() is None
    finally:
        gc.enable()
    assert armed.channels() == ["log_emit"]
