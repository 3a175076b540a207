"""Settings: one frozen record, read from `RACE_WATCH_*` when race_watch arms, not when it is imported.

A `.env` file that the application loads in its first lines is therefore in force. A bad value never stops the host: the default
is used and the problem is kept in `Settings.problems`, which the watcher half prints once.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

PREFIX = "RACE_WATCH_"

JOURNAL_BYTES_MIN = 64 * 1024
JOURNAL_BYTES_MAX = 64 * 1024 * 1024


class RaceWatchError(Exception):
    """What was found, what was expected, what to do."""


class SettingsError(RaceWatchError):
    """An option, an environment variable or a file that cannot be used."""


def _setting(help: str, default: Any, **meta: Any) -> Any:
    return field(default=default, metadata={"help": help, **meta})


@dataclass(frozen=True, slots=True)
class Settings:
    """What can be set. The environment name is `RACE_WATCH_` + the field's name in capitals.

    `RACE_WATCH=0` alone switches everything off: nothing is imported and nothing patched; the bootstrap reads it.
    """

    run_dir: str = _setting("directory of the journals; made, private and removed by the watcher when empty", "")
    watcher: str = _setting(
        "`auto`: a thread of the root process reads the journals unless `race-watch run` does; `none`: somebody else does",
        "auto",
        choices=("auto", "none"),
    )
    identity: str = _setting(
        "participant identities as keyed hashes, or plain (they are personal data: SIP identities are phone numbers)",
        "hash",
        choices=("hash", "plain"),
    )
    journal_bytes: int = _setting(
        "size of each process's journal, bytes; a larger one survives longer bursts and costs that much disk or tmpfs",
        1024 * 1024,
        low=JOURNAL_BYTES_MIN,
        high=JOURNAL_BYTES_MAX,
    )
    exceptions_per_minute: int = _setting(
        "full captures of one failure site, per minute and process (`make bench` has what one costs); the rest is only counted",
        30,
        low=1,
        high=10_000,
    )
    count_every_s: int = _setting(
        "seconds between two looks at threads, tasks and descriptors in a process that has connected a room",
        5,
        low=1,
        high=3600,
    )
    referrers: int = _setting(
        "1 tells who holds native handles that grow, at most once in ten minutes; stops the process for 10 ms or more",
        0,
        low=0,
        high=1,
    )
    metrics_host: str = _setting("address of /metrics; 0.0.0.0 lets other hosts scrape", "127.0.0.1")
    metrics_port: int = _setting("port of /metrics; 0 takes a free one", 9464, low=0, high=65535)
    metrics_token_file: str = _setting("file with the bearer token that requests need; read again when it is renewed", "")
    metrics_tls_cert: str = _setting("file with the certificate chain for HTTPS, PEM; read again when it is renewed", "")
    metrics_tls_key: str = _setting("file with its private key, PEM, not encrypted", "")
    also_default_registry: int = _setting(
        "1 puts the metrics into the worker's own /metrics too, which livekit-agents serves on its `prometheus_port`",
        0,
        low=0,
        high=1,
    )
    otlp: str = _setting(
        "`auto`: exports over OTLP if an endpoint is named, here or by `OTEL_EXPORTER_OTLP_ENDPOINT`; `on`: else to localhost",
        "auto",
        choices=("auto", "on", "off"),
    )
    otlp_endpoint: str = _setting(
        "URL of the collector, before `OTEL_EXPORTER_OTLP_ENDPOINT`, whose headers and client key it does not get", ""
    )
    otlp_headers: str = _setting("headers for it, `name=value,...`", "")
    otlp_protocol: str = _setting(
        "before `OTEL_EXPORTER_OTLP_PROTOCOL`; `grpc` needs the extra `otlp-grpc`", "", choices=("http/protobuf", "grpc")
    )
    otlp_signals: str = _setting(
        "those to export of `traces,metrics,logs`, before `OTEL_TRACES_EXPORTER` and the like; unset means what they leave", ""
    )
    otlp_interval_s: int = _setting(
        "seconds between exports of the metrics, before `OTEL_METRIC_EXPORT_INTERVAL`, whose default is 60", 0, low=0, high=3600
    )
    otlp_resource: str = _setting("attributes of the worker, `name=value,...`, over `OTEL_RESOURCE_ATTRIBUTES`", "")
    incidents: str = _setting("file that gets one JSON line an incident", "")
    stderr: str = _setting(
        "`auto`: under `run`, panic texts on the worker's stderr are seen where that changes nothing for it, which costs two "
        "processes of 1.5 MB; `off`: never",
        "auto",
        choices=("auto", "off"),
    )
    quiet: int = _setting("1 prints neither incidents nor a summary to stderr", 0, low=0, high=1)
    debug: int = _setting("1 prints why the bootstrap could not start, in every Python below", 0, low=0, high=1)
    problems: tuple[str, ...] = ()


def from_env(environ: Mapping[str, str] = os.environ) -> Settings:
    """Reads the settings; never raises. An empty variable counts as unset, as compose files and charts produce them.

    Returns:
        The settings, with one line in `problems` for each variable that is unknown or has a value that cannot be used.
    """
    known = {PREFIX + f.name.upper(): f for f in fields(Settings) if f.name != "problems"}
    values: dict[str, Any] = {}
    problems: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or not environ[name]:
            continue
        if name not in known:
            if not name.startswith(PREFIX + "LAB_"):
                problems.append(_unknown(name, list(known)))
            continue
        chosen = known[name]
        try:
            values[chosen.name] = parse(name, environ[name], chosen.default, chosen.metadata)
        except SettingsError as error:
            problems.append(f"{error}; using {chosen.default!r}")
    return Settings(**values, problems=tuple(problems))


def parse(name: str, text: str, default: object, meta: Mapping[str, Any]) -> Any:
    """Turns one variable's text into its value.

    Raises:
        SettingsError: The text is not of the default's type, out of range or not one of the choices.
    """
    if isinstance(default, int):
        try:
            number = int(text)
        except ValueError:
            raise SettingsError(f"{name}={text!r} is not a whole number") from None
        if not meta["low"] <= number <= meta["high"]:
            raise SettingsError(f"{name}={number} is not between {meta['low']} and {meta['high']}")
        return number
    choices = meta.get("choices")
    if choices and text not in choices:
        raise SettingsError(f"{name}={text!r} is not one of {', '.join(choices)}")
    return text


def _unknown(name: str, known: list[str]) -> str:
    # difflib only where there is something to say: the host half has no business importing it.
    import difflib

    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"{name} is not a setting of race_watch" + (f"; did you mean {near[0]}?" if near else "")
