"""The last incidents, for /incidents: JSON, newest first, filtered."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from urllib.parse import parse_qs

from race_watch.findings import CATEGORIES, VERDICTS
from race_watch.incidents import UNCLASSIFIED, Incident
from race_watch.settings import SettingsError
from race_watch.signatures import SIGNATURES

# Records that are kept, 2 KB each.
KEPT = 500
LIMIT = 100
_CHOICES: Mapping[str, Sequence[str]] = {
    "category": CATEGORIES,
    "verdict": VERDICTS,
    "signature": (*(signature.id for signature in SIGNATURES), UNCLASSIFIED),
}
_PARAMETERS = (*_CHOICES, "room", "since", "limit")


class QueryError(SettingsError):
    """A filter that cannot be used."""


@dataclass(frozen=True, slots=True)
class Filter:
    """`fields` are values that the record must have; `since_ns` is unix time."""

    fields: tuple[tuple[str, str], ...] = ()
    since_ns: int = 0
    limit: int = LIMIT


@dataclass(frozen=True, slots=True)
class _Kept:
    time_unix_ns: int
    fields: dict[str, str | None]
    text: str

    def passes(self, wanted: Filter) -> bool:
        return self.time_unix_ns >= wanted.since_ns and all(self.fields[name] == value for name, value in wanted.fields)


class Recent:
    """Written by the watcher's thread, read by those of requests. Records are kept as text: nobody changes them any more."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Id -> record, the one that came first first.
        self._kept: dict[str, _Kept] = {}
        self._seen = 0

    def add(self, incident: Incident) -> None:
        """Takes an incident, or what has become of one that is known."""
        fields = {
            "category": incident.category,
            "verdict": incident.verdict,
            "signature": incident.signature,
            "room": incident.room["name"],
        }
        kept = _Kept(incident.time_unix_ns, fields, json.dumps(incident.as_dict()))
        with self._lock:
            self._seen += incident.id not in self._kept
            self._kept[incident.id] = kept
            while len(self._kept) > KEPT:
                del self._kept[next(iter(self._kept))]

    def as_json(self, wanted: Filter) -> str:
        """`incidents`, newest first; `total` is how many pass the filter, `kept` how many there are to look at."""
        with self._lock:
            kept, seen = list(self._kept.values()), self._seen
        passed = sorted((one for one in kept if one.passes(wanted)), key=lambda one: one.time_unix_ns, reverse=True)
        shown = ", ".join(one.text for one in passed[: wanted.limit])
        return f'{{"incidents": [{shown}], "total": {len(passed)}, "kept": {len(kept)}, "recorded": {seen}}}'


def parse(query: str) -> Filter:
    """Reads the query of a URL.

    Raises:
        QueryError: A parameter is unknown, given twice, or has a value that cannot be used.
    """
    try:
        given = parse_qs(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=len(_PARAMETERS))
    except ValueError as error:
        raise QueryError(f"not a query: {error}") from None
    fields, since_ns, limit = [], 0, LIMIT
    for name, values in given.items():
        if name not in _PARAMETERS:
            raise QueryError(f"{_shown(name)} is not one of {', '.join(_PARAMETERS)}")
        if len(values) > 1:
            raise QueryError(f"{name} is given {len(values)} times")
        if name == "since":
            since_ns = _since_ns(values[0])
        elif name == "limit":
            limit = _limit(values[0])
        elif name in _CHOICES and values[0] not in _CHOICES[name]:
            raise QueryError(f"{name}={_shown(values[0])} is not one of {', '.join(_CHOICES[name])}")
        else:
            fields.append((name, values[0]))
    return Filter(tuple(fields), since_ns, limit)


def _shown(text: str) -> str:
    return repr(text[:64])


def _since_ns(text: str) -> int:
    try:
        return int(float(text) * 1e9)
    except (ValueError, OverflowError):
        pass
    # A plus that was not encoded has become a space; Python 3.10 reads no Z.
    iso = text.replace(" ", "+") if "T" in text else text
    try:
        moment = datetime.fromisoformat(iso[:-1] + "+00:00" if iso.endswith("Z") else iso)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp() * 1e9)
    except (ValueError, OverflowError):
        raise QueryError(f"since={_shown(text)} is neither unix seconds nor ISO 8601, like 2026-01-31T12:00:00Z") from None


def _limit(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 1 <= int(text[:9]) <= KEPT:
        raise QueryError(f"limit={_shown(text)} is not between 1 and {KEPT}")
    return int(text)
