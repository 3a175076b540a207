"""Where incidents and numbers go: lines on stderr, the incident file, the HTTP side, the worker's own /metrics, OTLP."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from race_watch.clock import monotonic_s
from race_watch.exporters import jsonl, otel, text
from race_watch.exporters.http import Endpoint
from race_watch.exporters.otel import Otlp
from race_watch.exporters.recent import Recent
from race_watch.exporters.status import Status
from race_watch.exporters.worker_metrics import WorkerMetrics
from race_watch.fleet import Fleet
from race_watch.incidents import Incident
from race_watch.journal import directory
from race_watch.self_metrics import SelfMetrics
from race_watch.settings import Settings, SettingsError
from race_watch.totals import Totals

Opened = TypeVar("Opened")


def otlp_of(settings: Settings, run_dir: str, totals: Totals, warn: Callable[[str], None]) -> Otlp | None:
    """The OTLP export that settings and environment ask for, if any; not started yet."""
    try:
        key = directory.key(run_dir)
    except OSError:
        key = run_dir.encode()
    return otel.build(settings, key, totals, warn)


class Outputs:
    """Opened at once; what cannot be had is said in a line and left out. Used by the watcher's thread.

    Args:
        say: Shows a line, unless `settings.quiet`.
        warn: Shows a problem, in any case.
        otlp: Where settings and environment ask for it; started and stopped here.
        stderr: How the worker's stderr is seen, in words.
    """

    def __init__(
        self,
        settings: Settings,
        run_dir: str,
        fleet: Fleet,
        totals: Totals,
        say: Callable[[str], None],
        warn: Callable[[str], None],
        otlp: Otlp | None = None,
        *,
        stderr: str,
    ) -> None:
        self._quiet, self._say, self._warn = bool(settings.quiet), say, warn
        self._fleet, self._totals = fleet, totals
        self._recent, self._status, self._own = Recent(), Status(stderr), SelfMetrics()
        self._writes = bool(settings.incidents)
        self._file = self._open(lambda: jsonl.IncidentFile(settings.incidents)) if self._writes else None
        self._endpoint = self._open(lambda: Endpoint(settings, totals, self._status, self._recent, self._tell, warn))
        self._otlp = otlp
        if otlp is not None:
            self._open(otlp.exporter.start)
            self._tell(f"OTLP export to {', '.join(otlp.endpoints)}")
        self._workers = WorkerMetrics(run_dir, totals, warn)

    def publish(self, incident: Incident, again: bool) -> None:
        """Takes an incident that is confirmed, or that has settled (`again`)."""
        if not again and not self._quiet:
            self._say(text.line(incident))
        self._recent.add(incident)
        self._totals.trace(incident)
        if self._otlp is not None and not again:
            self._otlp.exporter.incident(incident)
        if self._writes:
            self._totals.exported("incident_file", "ok" if self._write(incident) else "failed")

    def polled(self, gave_up: bool) -> None:
        """After each look at the journals, or instead of it when the watcher has given up."""
        self._status.gave_up = gave_up
        if gave_up:
            return
        others_s = self._endpoint.cpu_s if self._endpoint is not None else 0.0
        others_s += self._otlp.exporter.cpu_s if self._otlp is not None else 0.0
        self._totals.own = self._own.measure(self._fleet, others_s)
        self._status.look(self._fleet, self._totals)
        self._workers.polled(self._fleet)

    def failed(self, what: str) -> None:
        """Something of the watcher failed: /healthz says so."""
        self._status.failed(what)

    def stop(self) -> None:
        """Closes the file, frees the port, leaves the worker's /metrics, sends what OTLP has left."""
        if self._file is not None:
            self._file.close()
        self._workers.stop()
        if self._endpoint is not None:
            self._endpoint.stop()
        if self._otlp is not None:
            if self._otlp.sessions is not None:
                self._otlp.sessions.finish(monotonic_s())
            self._otlp.exporter.stop()

    def _write(self, incident: Incident) -> bool:
        if self._file is None:
            return False
        try:
            self._file.write(incident)
        except OSError as error:
            self._file = None
            self._warn(f"incident file stopped: {error.strerror}")
            self.failed(f"incident file stopped: {error.strerror}")
            return False
        return True

    def _tell(self, line: str) -> None:
        if not self._quiet:
            self._say(f"{text.PREFIX} {line}")

    def _open(self, open_it: Callable[[], Opened]) -> Opened | None:
        try:
            return open_it()
        except SettingsError as error:
            self._warn(str(error))
            return None
        except RuntimeError as error:
            # No more threads. At the end of a short process (from Python 3.12 on) that is no news; its journal is still read.
            if "shutdown" not in str(error):
                self._warn(str(error))
            return None
