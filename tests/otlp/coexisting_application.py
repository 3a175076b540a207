"""An application that is instrumented by somebody else, bare or with race_watch in its own process; run in a lab environment.

It connects, makes an HTTP call of its own, and has a room callback that fails; then it says in JSON what its instrumentation
has seen, and under which span the callback failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "race_watch" / "lab" / "scenarios"))

from _lab import Lab, parser, settle

Collect = Callable[[], list[Any]]


class Instrumentation:
    """What instruments the application: `work` is a unit of its work, `seen` what came of it, `ids` the current span's."""

    def __init__(self) -> None:
        self.work: Callable[[], AbstractContextManager[Any]] = _nothing
        self.seen: Collect = list
        self.ids: Callable[[], list[str]] = list


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def opentelemetry_sdk() -> Instrumentation:
    """Its own global providers, and HTTP calls and threads instrumented."""
    from opentelemetry import metrics, trace
    from opentelemetry.instrumentation.threading import ThreadingInstrumentor
    from opentelemetry.instrumentation.urllib import URLLibInstrumentor
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers, meters = TracerProvider(shutdown_on_exit=False), MeterProvider([reader], shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracers)
    metrics.set_meter_provider(meters)
    URLLibInstrumentor().instrument()
    ThreadingInstrumentor().instrument()
    made = Instrumentation()
    made.work = lambda: trace.get_tracer("app").start_as_current_span("work")

    def seen() -> list[Any]:
        in_force = [trace.get_tracer_provider() is tracers, metrics.get_meter_provider() is meters]
        data = reader.get_metrics_data()
        instruments = [m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics] if data else []
        return [in_force, sorted(span.name for span in spans.get_finished_spans()), sorted(instruments)]

    made.seen, made.ids = seen, _current_ids
    return made


def opentelemetry_instrument() -> Instrumentation:
    """`opentelemetry-instrument` has made the providers before the first line; they export by themselves."""
    from opentelemetry import trace

    made = Instrumentation()
    made.work = lambda: trace.get_tracer("app").start_as_current_span("work")
    provider: Any = trace.get_tracer_provider()
    made.seen = lambda: [type(provider).__module__, provider.force_flush(), trace.get_tracer_provider() is provider]
    made.ids = _current_ids
    return made


def _current_ids() -> list[str]:
    from opentelemetry import trace

    context = trace.get_current_span().get_span_context()
    return [f"{context.trace_id:032x}", f"{context.span_id:016x}"]


def sentry() -> Instrumentation:
    """Errors, transactions and breadcrumbs, all of them, to a transport that keeps them."""
    import sentry_sdk
    from sentry_sdk.transport import Transport

    kept: list[Any] = []

    class Keep(Transport):
        def capture_envelope(self, envelope: Any) -> None:
            kept.extend(item.payload.json for item in envelope.items if item.payload.json)

    sentry_sdk.init(
        "http://key@127.0.0.1:9/1",
        transport=Keep,
        traces_sample_rate=1.0,
        enable_logs=True,
        max_breadcrumbs=100,
        shutdown_timeout=0,
    )
    made = Instrumentation()
    made.work = lambda: sentry_sdk.start_transaction(name="work", op="task")

    def seen() -> list[Any]:
        sentry_sdk.get_client().flush()
        found = []
        for event in kept:
            spans = sorted(f"{span['op']} {str(span.get('description')).split('/lab')[-1]}" for span in event.get("spans", []))
            crumbs = [url for crumb in _crumbs(event) if "/lab/" not in (url := str(crumb.get("data", {}).get("url")))]
            errors = [value["type"] for value in event.get("exception", {}).get("values", [])]
            found.append([event.get("type") or event.get("level"), spans, crumbs, errors])
        return sorted(found, key=json.dumps)

    made.seen = seen
    return made


def _crumbs(event: dict[str, Any]) -> list[dict[str, Any]]:
    crumbs: list[dict[str, Any]] = event.get("breadcrumbs", {}).get("values", [])
    # The native library's records come when they come; that of our own call before or after the callback's failure.
    return [crumb for crumb in crumbs if crumb.get("category") == "httplib"]


def ddtrace() -> Instrumentation:
    """Everything that it can patch, `httplib` too, which it leaves alone unless it is told."""
    from ddtrace.trace import TraceFilter, tracer

    kept: list[Any] = []

    class Keep(TraceFilter):
        def process_trace(self, trace: list[Any]) -> None:
            kept.extend([span.name, str(span.get_tag("http.url")).split("/lab")[-1]] for span in trace)

    tracer.configure(trace_processors=[Keep()])
    import ddtrace

    ddtrace.patch(httplib=True, asyncio=True, futures=True, logging=True)
    made = Instrumentation()
    made.work = lambda: tracer.trace("work")
    made.seen = lambda: sorted(kept)
    return made


KINDS = {
    "sdk": opentelemetry_sdk,
    "instrument": opentelemetry_instrument,
    "sentry": sentry,
    "ddtrace": ddtrace,
}


async def main(options: Any, watched: bool) -> None:
    lab = Lab(options)
    warnings: list[str] = []
    logging.getLogger("opentelemetry").addHandler(_Kept(warnings))
    if watched and options.order == "after":
        _watch()
    made = KINDS[options.kind]()
    if watched and options.order == "before":
        _watch()
    failed_under: list[list[str]] = []

    def fails(participant: Any) -> None:
        failed_under.append(made.ids())
        raise LookupError("no profile")

    with made.work():
        async with lab.joined() as room:
            room.on("participant_connected", fails)
            if watched:
                # From here on it exports: what is instrumented sees it if it can be seen.
                while not os.path.exists(options.exporting):
                    await asyncio.sleep(0.02)
            await lab.server("add", identities=["caller"])
            await settle()
    if watched:
        _undo.pop()()
    print(json.dumps({"seen": made.seen(), "failed_under": failed_under, "warnings": warnings}), flush=True)
    # What others do at exit is theirs to test.
    sys.stdout.flush()
    os._exit(0)


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


_undo: list[Callable[[], Any]] = []


def _watch() -> None:
    import race_watch

    _undo.append(race_watch.install())
    deadline_s = time.monotonic() + 20
    while "race_watch-otlp" not in {thread.name for thread in threading.enumerate()}:
        assert time.monotonic() < deadline_s, "it does not export"
        time.sleep(0.02)


if __name__ == "__main__":
    arguments = parser(__doc__)
    arguments.add_argument("--kind", choices=KINDS, required=True)
    arguments.add_argument("--order", choices=["before", "after", "below"], required=True)
    arguments.add_argument("--watched", action="store_true")
    arguments.add_argument("--exporting", default="")
    given = arguments.parse_args()
    logging.basicConfig(level="ERROR")
    asyncio.run(main(given, given.watched))
