"""Where each signal goes and with what: RACE_WATCH_OTLP_* over the standard OTEL_* variables.

The application's headers and client key are for the application's endpoint: they go to no other one that race_watch was given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from race_watch.exporters.otel.variables import Variables
from race_watch.settings import Settings

TRACES, METRICS, LOGS = SIGNALS = ("traces", "metrics", "logs")
HTTP, GRPC = PROTOCOLS = ("http/protobuf", "grpc")

_DEFAULT_ENDPOINT = {HTTP: "http://localhost:4318", GRPC: "http://localhost:4317"}
_DEFAULT_PORT = {"http": 80, "https": 443}
_TIMEOUT_S = 10.0
_METRICS_EVERY_S = 60.0
# How long a span or a log record waits for others, by the specification of the SDK's batch processors.
_DELAY_S = {TRACES: 5.0, LOGS: 1.0}
_DELAY = {TRACES: "OTEL_BSP_SCHEDULE_DELAY", LOGS: "OTEL_BLRP_SCHEDULE_DELAY", METRICS: "OTEL_METRIC_EXPORT_INTERVAL"}


@dataclass(frozen=True, slots=True)
class Target:
    """Where one signal goes. `every_s` is how often, or how long the first of a batch waits for more.

    `certificate` (whom to trust), `client_key` and `client_certificate` are files, empty for none.
    """

    signal: str
    protocol: str
    url: SplitResult
    headers: Mapping[str, str]
    compression: str
    timeout_s: float
    every_s: float
    certificate: str = ""
    client_key: str = ""
    client_certificate: str = ""

    @property
    def shown(self) -> str:
        """The endpoint as it may be printed: without credentials, path and query."""
        return f"{self.url.scheme}://{_host(self.url)}:{_port(self.url)}"


def targets(settings: Settings, variables: Variables) -> list[Target]:
    """The signals to export and where to; none if export is off. What cannot be used is in `variables.problems`."""
    if settings.otlp == "off" or (settings.otlp == "auto" and variables.flag("OTEL_SDK_DISABLED")):
        return []
    found = [_target(signal, settings, variables) for signal in _wanted(settings, variables)]
    return [target for target in found if target is not None]


def _wanted(settings: Settings, variables: Variables) -> list[str]:
    """The signals to export: the application's exporters may be others (`OTEL_METRICS_EXPORTER=prometheus`), or none."""
    if settings.otlp_signals:
        named = [name.strip() for name in settings.otlp_signals.split(",") if name.strip()]
        unknown = sorted(set(named) - set(SIGNALS))
        if unknown:
            variables.problems.append(f"RACE_WATCH_OTLP_SIGNALS knows {', '.join(SIGNALS)}, not {', '.join(unknown)}")
        return [signal for signal in SIGNALS if signal in named]

    def wants(signal: str) -> bool:
        exporters = variables.text(f"OTEL_{signal.upper()}_EXPORTER")
        return not exporters or "otlp" in [name.strip() for name in exporters.split(",")]

    return [signal for signal in SIGNALS if wants(signal)]


def _target(signal: str, settings: Settings, variables: Variables) -> Target | None:
    protocol = _protocol(signal, settings, variables)
    theirs = _application_endpoint(signal, protocol, variables)
    ours = _own_endpoint(signal, protocol, settings)
    if not ours and not theirs and settings.otlp != "on":
        return None
    given = ours or theirs or _with_path(_DEFAULT_ENDPOINT[protocol], signal, protocol)
    name = "RACE_WATCH_OTLP_ENDPOINT" if ours else "OTEL_EXPORTER_OTLP_ENDPOINT"
    url = _parse(given, protocol, variables)
    if url is None:
        variables.problems.append(f"no OTLP export of {signal}: {name} is not http://HOST:PORT or https://HOST:PORT")
        return None
    same = bool(theirs) and _origin(url) == _origin(_parse(theirs, protocol, variables))
    return Target(
        signal=signal,
        protocol=protocol,
        url=url,
        headers=_headers(signal, same, settings, variables),
        compression=variables.choice(_names(signal, "COMPRESSION"), ("none", "gzip"), "none"),
        timeout_s=variables.timeout_s(_names(signal, "TIMEOUT"), _TIMEOUT_S),
        every_s=_every_s(signal, settings, variables),
        certificate=variables.text(*_names(signal, "CERTIFICATE")),
        client_key=variables.text(*_names(signal, "CLIENT_KEY")) if same else "",
        client_certificate=variables.text(*_names(signal, "CLIENT_CERTIFICATE")) if same else "",
    )


def _names(signal: str, what: str) -> tuple[str, str]:
    """The signal's own variable and the one for all signals."""
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}", f"OTEL_EXPORTER_OTLP_{what}"


def _protocol(signal: str, settings: Settings, variables: Variables) -> str:
    return settings.otlp_protocol or variables.choice(_names(signal, "PROTOCOL"), PROTOCOLS, HTTP)


def _application_endpoint(signal: str, protocol: str, variables: Variables) -> str:
    """The endpoint that the standard variables name for the signal; the one for all signals gets a path."""
    own, common = (variables.text(name) for name in _names(signal, "ENDPOINT"))
    return own or (_with_path(common, signal, protocol) if common else "")


def _own_endpoint(signal: str, protocol: str, settings: Settings) -> str:
    return _with_path(settings.otlp_endpoint, signal, protocol) if settings.otlp_endpoint else ""


def _with_path(endpoint: str, signal: str, protocol: str) -> str:
    return endpoint if protocol == GRPC else f"{endpoint.rstrip('/')}/v1/{signal}"


def _parse(endpoint: str, protocol: str, variables: Variables) -> SplitResult | None:
    """The endpoint's parts; gRPC's may do without a scheme, then OTEL_EXPORTER_OTLP_INSECURE decides."""
    if protocol == GRPC and "://" not in endpoint:
        endpoint = ("http://" if variables.flag("OTEL_EXPORTER_OTLP_INSECURE") else "https://") + endpoint
    try:
        url = urlsplit(endpoint)
        usable = url.scheme in _DEFAULT_PORT and bool(url.hostname) and _port(url) > 0
    except ValueError:
        return None
    return url if usable and endpoint.isascii() and endpoint.isprintable() and " " not in endpoint else None


def _origin(url: SplitResult | None) -> tuple[str, str, int] | None:
    return (url.scheme, _host(url).lower(), _port(url)) if url is not None else None


def _host(url: SplitResult) -> str:
    host = url.hostname or ""
    return f"[{host}]" if ":" in host else host


def _port(url: SplitResult) -> int:
    return url.port if url.port is not None else _DEFAULT_PORT[url.scheme]


def _headers(signal: str, same: bool, settings: Settings, variables: Variables) -> dict[str, str]:
    if settings.otlp_headers:
        name = "RACE_WATCH_OTLP_HEADERS"
        return Variables({name: settings.otlp_headers}, variables.problems).headers(name)
    own, common = _names(signal, "HEADERS")
    return variables.headers(common, own) if same else {}


def _every_s(signal: str, settings: Settings, variables: Variables) -> float:
    if signal == METRICS and settings.otlp_interval_s:
        return float(settings.otlp_interval_s)
    return variables.seconds((_DELAY[signal],), _METRICS_EVERY_S if signal == METRICS else _DELAY_S[signal])
