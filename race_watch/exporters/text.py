"""Incidents as a line each and a summary, for a person at a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import click
from packaging.version import InvalidVersion, Version

from race_watch.incidents import UNCLASSIFIED, Group, Incident
from race_watch.stderr import LEFT_ALONE

PREFIX = "race-watch:"
_COLOURS = {"sdk": "red", "native": "red", "app": "yellow", "benign": "green", "unknown": "cyan"}
_FAULT = {
    "sdk": "LiveKit's fault",
    "native": "the native library's fault",
    "app": "the application's fault",
    "benign": "benign",
    "unknown": "fault unknown",
}


def line(incident: Incident) -> str:
    """One incident in one line: what, whose fault, where, which versions, reference."""
    name = incident.title if incident.signature == UNCLASSIFIED else incident.signature
    places = {
        "room": incident.room["name"],
        "participant": incident.participant["identity"],
        "track": incident.track_sid,
        "task": incident.task["name"],
    }
    where = [f"{what}={_printable(value)}" for what, value in places.items() if value]
    if not incident.room["name"]:
        where.insert(0, f"pid={incident.process['pid']}")
    installed = " ".join(f"{package} {version}" for package, version in sorted(incident.sdk.items()))
    parts = [
        incident.category,
        click.style(_FAULT[incident.verdict], fg=_COLOURS[incident.verdict]),
        click.style(_printable(name), bold=True),
        " ".join(where),
    ]
    if installed:
        parts.append(installed + (f" (fixed in {incident.fixed_in})" if incident.fixed_in else ""))
    if incident.upstream:
        parts.append(incident.upstream)
    return f"{PREFIX} " + " | ".join(parts)


def summary(groups: Sequence[Group], notes: Sequence[str]) -> str:
    """What happened, whose fault it is and what to upgrade; `notes` are further lines, the process's end among them."""
    lines = [click.style(f"{PREFIX} summary", bold=True), *(f"  {note}" for note in notes)]
    if not groups:
        return "\n".join([*lines, "  no incidents"])
    for group in sorted(groups, key=lambda g: (-g.occurrences, g.signature, g.title)):
        name = group.title if group.signature == UNCLASSIFIED else f"{group.signature}: {group.title}"
        times = f"{group.occurrences}x" + (f" in {_few(sorted(group.rooms), group.incidents)}" if group.rooms else "")
        lines.append(f"  {click.style(_printable(name), bold=True)}")
        lines.append(f"    {times} | {group.category} | {click.style(_FAULT[group.verdict], fg=_COLOURS[group.verdict])}")
        if group.unrecorded:
            lines.append(f"    {group.unrecorded} more rooms than the records of a minute hold; counted, without a record each")
        if group.advice:
            lines.append(f"    {group.advice}" + (f" ({group.upstream})" if group.upstream else ""))
    upgrades = _upgrades(groups)
    if upgrades:
        lines.append(click.style("  upgrade:", bold=True) + " " + ", ".join(upgrades))
    return "\n".join(lines)


def _few(rooms: Sequence[str], count: int) -> str:
    shown = [_printable(room) for room in rooms[:4]]
    more = max(count, len(rooms)) - len(shown) if len(rooms) > 4 else 0
    return f"room{'s' if len(rooms) > 1 else ''} {', '.join(shown)}" + (f" and {more} more" if more else "")


def _printable(text: str) -> str:
    """Names that others chose, without what a terminal would obey."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _upgrades(groups: Sequence[Group]) -> list[str]:
    """What to upgrade, where a published version has the fix and an older one is installed."""
    wanted: dict[str, tuple[Version, set[str]]] = {}
    for group in groups:
        if group.fixed_in is None:
            continue
        fixed = Version(group.fixed_in)
        older = {version for version in group.versions if _is_older(version, fixed)}
        if older:
            newest, versions = wanted.get(group.package, (fixed, set()))
            wanted[group.package] = max(newest, fixed), versions | older
    return [
        f"{package} {'/'.join(sorted(versions))} -> {newest} or newer" for package, (newest, versions) in sorted(wanted.items())
    ]


def _is_older(version: str, than: Version) -> bool:
    try:
        return Version(version) < than
    except InvalidVersion:
        return False


def losses(lost: Mapping[str, int]) -> list[str]:
    """A line about records that could not be read, if there were any."""
    told = ", ".join(f"{count} {reason}" for reason, count in sorted(lost.items()) if count)
    return [f"journal records lost: {told}"] if told else []


def unread(stderr: str, ended: Mapping[str, int]) -> list[str]:
    """A line where a process ended as those do that print why, and nobody looked at the worker's stderr (its mode)."""
    crashed = any(ended.get(reason) for reason in ("native_abort", "ffi_panic", "unknown"))
    return [f"panic texts were not looked for: stderr was {stderr}"] if crashed and stderr.startswith(LEFT_ALONE) else []


def attachment(attached: int, measured: int = 0) -> list[str]:
    """How many processes were watched, and how many only measured from outside; absence must be visible."""
    lines = [f"{attached} process{'es' if attached > 1 else ''} watched"]
    if not attached:
        lines = [
            "no process attached: none imported livekit or ran an event loop, or the bootstrap was shadowed (race-watch doctor)"
        ]
    if measured:
        lines.append(f"{measured} process{'es' if measured > 1 else ''} measured from outside: descriptors, threads, memory")
    return lines
