"""What an operator may want otherwise; each field is an option of `python -m deploy.generate`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


def _option(what: str, default: object) -> Any:
    return field(default=default, metadata={"what": what})


@dataclass(frozen=True, slots=True)
class Options:
    """Links, label names and thresholds. The files in the repository are made with the defaults."""

    runbooks: str = _option("where docs/runbooks is served; a placeholder", "https://example.com/race_watch/docs/runbooks")
    grafana: str = _option("where Grafana is; a placeholder", "https://grafana.example.com")
    cluster: str = _option("label that tells clusters apart", "cluster")
    objective: float = _option("share of sessions that must not be cut off by the end of their process", 0.999)
    races_per_session: float = _option("incidents of one known race in a session that are worth a ticket", 0.01)
    fd_hours_page: float = _option("hours until a process runs out of descriptors that wake somebody", 4.0)
    fd_hours_ticket: float = _option("and that are a ticket", 72.0)
    watcher_cores: float = _option("cores of CPU that nine watchers in ten must stay below", 0.05)

    @property
    def job(self) -> str:
        """The labels of a fleet: all workers that are scraped alike."""
        return f"{self.cluster}, namespace, job"

    @property
    def worker(self) -> str:
        """The labels of a worker. One that a scrape does not have is empty on both sides of a join."""
        return f"{self.job}, instance, pod"

    def query(self, text: str) -> str:
        """A query; `<job>` and `<worker>` stand for the labels of these levels."""
        return text.replace("<job>", self.job).replace("<worker>", self.worker)
