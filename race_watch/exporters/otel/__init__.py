"""OpenTelemetry: spans, metrics and log records over OTLP, to the application's collector or to one of our own.

Without the SDK: no provider, private or global, is made or read, so those of the application and of agents that instrument it
are as they would be without us. Only opentelemetry-proto's messages are used, and grpcio for those who ask for gRPC.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from race_watch.exporters.otel import resource, sampling
from race_watch.exporters.otel.target import TRACES, targets
from race_watch.exporters.otel.variables import Variables
from race_watch.sessions import Sessions
from race_watch.settings import Settings
from race_watch.totals import Totals

if TYPE_CHECKING:
    from race_watch.exporters.otel.exporter import Exporter


@dataclass(frozen=True, slots=True)
class Otlp:
    """An exporter and what feeds it. `sessions` is None where spans are not exported; it takes the watcher's records.

    `endpoints` are those that it exports to, as they may be printed.
    """

    exporter: Exporter
    sessions: Sessions | None
    endpoints: tuple[str, ...]


def build(
    settings: Settings,
    key: bytes,
    totals: Totals,
    warn: Callable[[str], None],
    environ: Mapping[str, str] = os.environ,
) -> Otlp | None:
    """What settings and environment ask for, not started yet; None if they ask for no export.

    Args:
        key: The run directory's.
        warn: Called with one line for each thing that cannot be used.
    """
    variables = Variables(environ)
    wanted = targets(settings, variables)
    described = resource.attributes(key, settings, variables) if wanted else {}
    share = sampling.share(variables) if wanted else 0.0
    for problem in dict.fromkeys(variables.problems):
        warn(problem)
    if not wanted:
        return None
    try:
        from race_watch.exporters.otel.exporter import Exporter

        exporter = Exporter(wanted, described, totals, warn)
    except ImportError as error:
        missing, extra = ("grpcio", "otlp-grpc") if error.name == "grpc" else ("opentelemetry-proto", "otlp")
        warn(f"no OTLP export: {missing} is not installed here; pip install 'race-watch[{extra}]'")
        return None
    sessions = None
    if any(target.signal == TRACES for target in wanted):
        admission = sampling.Admission(share, lambda: exporter.lose("rate"))
        sessions = Sessions(exporter.span, admission.admit)
    endpoints = dict.fromkeys(f"{target.shown} ({target.protocol})" for target in wanted)
    return Otlp(exporter, sessions, tuple(endpoints))
