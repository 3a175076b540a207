"""Which signals go where and with what, by RACE_WATCH_OTLP_* and the standard variables."""

from __future__ import annotations

import pytest
from otlp_facts import resolved, settings

from race_watch.exporters.otel import resource
from race_watch.exporters.otel.sampling import share
from race_watch.exporters.otel.target import SIGNALS
from race_watch.exporters.otel.variables import Variables

ENDPOINT, HEADERS = "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"
OURS, OUR_HEADERS = "RACE_WATCH_OTLP_ENDPOINT", "RACE_WATCH_OTLP_HEADERS"
THEIRS = {ENDPOINT: "https://vendor.example:4318", HEADERS: "api-key=s3cret", "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k.pem"}


def urls(environ: dict[str, str]) -> dict[str, str]:
    found, problems = resolved(environ)
    assert problems == []
    return {signal: target.url.geturl() for signal, target in found.items()}


def everywhere(base: str) -> dict[str, str]:
    return {signal: f"{base}/v1/{signal}" for signal in SIGNALS}


@pytest.mark.parametrize(
    "environ",
    [
        pytest.param({}, id="nothing named"),
        pytest.param({ENDPOINT: "http://c:4318", "OTEL_SDK_DISABLED": "True"}, id="SDK disabled"),
        pytest.param({OURS: "http://c:4318", "RACE_WATCH_OTLP": "off"}, id="off"),
        pytest.param({HEADERS: "a=b", "OTEL_SERVICE_NAME": "x"}, id="no endpoint"),
        pytest.param({ENDPOINT: " "}, id="blank endpoint"),
    ],
)
def test_nothing_is_exported(environ: dict[str, str]) -> None:
    assert urls(environ) == {}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({ENDPOINT: "http://c:4318"}, everywhere("http://c:4318"), id="the application's"),
        pytest.param({ENDPOINT: "http://c:4318/otlp/"}, everywhere("http://c:4318/otlp"), id="with a path"),
        pytest.param({OURS: "http://d:1", ENDPOINT: "http://c:2"}, everywhere("http://d:1"), id="ours first"),
        pytest.param({"RACE_WATCH_OTLP": "on"}, everywhere("http://localhost:4318"), id="on, no endpoint"),
        pytest.param(
            {"RACE_WATCH_OTLP": "on", "OTEL_SDK_DISABLED": "true"}, everywhere("http://localhost:4318"), id="on beats disabled"
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://t:9/in"}, {"traces": "http://t:9/in"}, id="one signal, as it stands"
        ),
        pytest.param(
            {ENDPOINT: "http://c:1", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://l:2/x"},
            {**everywhere("http://c:1"), "logs": "http://l:2/x"},
            id="one signal elsewhere",
        ),
        pytest.param(
            {ENDPOINT: "http://c:1", "OTEL_METRICS_EXPORTER": "prometheus", "OTEL_LOGS_EXPORTER": "none"},
            {"traces": "http://c:1/v1/traces"},
            id="other exporters",
        ),
        pytest.param(
            {ENDPOINT: "http://c:1", "OTEL_METRICS_EXPORTER": "console, otlp"}, everywhere("http://c:1"), id="otlp among others"
        ),
        pytest.param(
            {ENDPOINT: "http://c:1", "OTEL_METRICS_EXPORTER": "none", "RACE_WATCH_OTLP_SIGNALS": "metrics"},
            {"metrics": "http://c:1/v1/metrics"},
            id="our signals first",
        ),
        pytest.param(
            {ENDPOINT: "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            dict.fromkeys(SIGNALS, "http://c:4317"),
            id="grpc has no paths",
        ),
        pytest.param(
            {ENDPOINT: "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            dict.fromkeys(SIGNALS, "https://c:4317"),
            id="grpc without a scheme is secure",
        ),
        pytest.param(
            {ENDPOINT: "c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_INSECURE": "true"},
            dict.fromkeys(SIGNALS, "http://c:4317"),
            id="grpc without a scheme, told insecure",
        ),
        pytest.param(
            {"RACE_WATCH_OTLP": "on", "RACE_WATCH_OTLP_PROTOCOL": "grpc"},
            dict.fromkeys(SIGNALS, "http://localhost:4317"),
            id="on, grpc",
        ),
    ],
)
def test_signals_go_where_they_are_told(environ: dict[str, str], expected: dict[str, str]) -> None:
    assert urls(environ) == expected


@pytest.mark.parametrize(
    "bad", ["collector:4318", "ftp://c:1", "http://", "http://c:99999", "http://c:x", "http://c d", "http://c/é"]
)
def test_endpoint_that_cannot_be_used_is_said_without_its_text(bad: str) -> None:
    found, problems = resolved({OURS: bad})
    assert found == {}
    assert len(problems) == 3
    for problem, signal in zip(problems, SIGNALS, strict=True):
        assert problem == f"no OTLP export of {signal}: {OURS} is not http://HOST:PORT or https://HOST:PORT"


def test_applications_headers_and_client_key_go_to_the_applications_endpoint() -> None:
    found, _ = resolved(THEIRS)
    assert {target.signal: (dict(target.headers), target.client_key) for target in found.values()} == dict.fromkeys(
        SIGNALS, ({"api-key": "s3cret"}, "/k.pem")
    )


@pytest.mark.parametrize(
    "endpoint",
    [
        pytest.param("https://other.example:4318", id="other host"),
        pytest.param("https://vendor.example:4319", id="other port"),
        pytest.param("http://vendor.example:4318", id="other scheme"),
        pytest.param("https://vendor.example.evil:4318", id="longer name"),
        pytest.param("https://vendor.example@evil:4318", id="name as user"),
    ],
)
def test_applications_headers_and_client_key_go_to_no_other_endpoint(endpoint: str) -> None:
    found, _ = resolved({**THEIRS, OURS: endpoint})
    assert [(dict(target.headers), target.client_key, target.client_certificate) for target in found.values()] == [
        ({}, "", "")
    ] * 3


@pytest.mark.parametrize(
    "ours", ["https://vendor.example:4318", "https://VENDOR.example:4318/", "https://vendor.example:4318/base"]
)
def test_own_endpoint_that_is_the_applications_gets_its_headers(ours: str) -> None:
    found, _ = resolved({**THEIRS, OURS: ours})
    assert {target.headers["api-key"] for target in found.values()} == {"s3cret"}


def test_applications_headers_do_not_go_to_the_default_endpoint() -> None:
    found, _ = resolved({HEADERS: "api-key=s3cret", "RACE_WATCH_OTLP": "on"})
    assert [dict(target.headers) for target in found.values()] == [{}] * 3


def test_headers_of_one_signal_go_with_it_alone_and_over_the_common_ones() -> None:
    given = {ENDPOINT: "http://c:1", HEADERS: "a=1,b=1", "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "b=2"}
    found, _ = resolved(given)
    assert {signal: dict(target.headers) for signal, target in found.items()} == {
        "traces": {"a": "1", "b": "2"},
        "metrics": {"a": "1", "b": "1"},
        "logs": {"a": "1", "b": "1"},
    }


def test_own_headers_replace_the_applications() -> None:
    found, _ = resolved({**THEIRS, OUR_HEADERS: "X-Tenant=team%20a"})
    assert [dict(target.headers) for target in found.values()] == [{"x-tenant": "team a"}] * 3


@pytest.mark.parametrize("bad", ["no-value", "a b=c", "x=a%0d%0aevil: 1", "x=%C3%A9"])
def test_header_that_cannot_be_sent_is_left_out_and_said_without_its_text(bad: str) -> None:
    found, problems = resolved({OURS: "http://c:1", OUR_HEADERS: f"good=1,{bad}"})
    assert [dict(target.headers) for target in found.values()] == [{"good": "1"}] * 3
    assert problems
    assert not any(bad in problem for problem in problems)


def test_protocol_timeout_compression_and_trust_are_read() -> None:
    given = {
        ENDPOINT: "https://c:1",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
        "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "7",
        "OTEL_EXPORTER_OTLP_COMPRESSION": "gzip",
        "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
        "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL": "grpc",
        "OTEL_METRIC_EXPORT_INTERVAL": "15000",
        "OTEL_BSP_SCHEDULE_DELAY": "250",
    }
    found, problems = resolved(given)
    assert problems == []
    assert {signal: target.timeout_s for signal, target in found.items()} == {"traces": 7.0, "metrics": 2.5, "logs": 2.5}
    assert {signal: target.every_s for signal, target in found.items()} == {"traces": 0.25, "metrics": 15.0, "logs": 1.0}
    assert {target.compression for target in found.values()} == {"gzip"}
    assert {target.certificate for target in found.values()} == {"/ca.pem"}
    assert [found[signal].protocol for signal in SIGNALS] == ["http/protobuf", "http/protobuf", "grpc"]


def test_own_protocol_and_interval_come_first() -> None:
    given = {
        OURS: "http://c:1",
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "RACE_WATCH_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRIC_EXPORT_INTERVAL": "15000",
        "RACE_WATCH_OTLP_INTERVAL_S": "7",
    }
    found, _ = resolved(given)
    assert {target.protocol for target in found.values()} == {"http/protobuf"}
    assert found["metrics"].every_s == 7.0


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json", "is not one of http/protobuf, grpc; using http/protobuf"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "brotli", "is not one of none, gzip; using none"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "is not a time; using 10 s"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "is not a number of milliseconds; using 60 s"),
        ("RACE_WATCH_OTLP_SIGNALS", "traces,metrics,logs,profiles", "knows traces, metrics, logs, not profiles"),
    ],
)
def test_value_that_cannot_be_used_is_said_and_the_default_taken(name: str, text: str, said: str) -> None:
    found, problems = resolved({OURS: "http://c:1", name: text})
    assert set(problems) == {f"{name} {said}"}
    assert list(found) == list(SIGNALS)


def test_endpoint_is_shown_without_credentials_path_and_query() -> None:
    found, _ = resolved({OURS: "https://user:pass@c.example/base?token=x"})
    assert {target.shown for target in found.values()} == {"https://c.example:443"}
    v6, _ = resolved({OURS: "http://[::1]:4318"})
    assert v6["logs"].shown == "http://[::1]:4318"


def attributes(environ: dict[str, str], key: bytes = b"k" * 16, **given: str) -> dict[str, str]:
    return resource.attributes(key, settings(**given), Variables(environ))


def test_resource_is_the_applications_with_our_own_over_it() -> None:
    environ = {
        "OTEL_RESOURCE_ATTRIBUTES": "service.name=a,deployment.environment.name=pro%20d,team=x",
        "OTEL_SERVICE_NAME": "b",
    }
    found = attributes(environ, otlp_resource="team=y,service.name=c")
    assert found["service.name"] == "c"
    assert found["deployment.environment.name"] == "pro d"
    assert found["team"] == "y"
    assert attributes(environ)["service.name"] == "b"
    assert attributes({})["service.name"] == "livekit-worker"
    assert found["telemetry.sdk.name"] == found["telemetry.distro.name"] == "race_watch"


def test_instance_id_is_the_workers_unless_it_is_given() -> None:
    first, again, other = attributes({}), attributes({}), attributes({}, b"l" * 16)
    assert first["service.instance.id"] == again["service.instance.id"] != other["service.instance.id"]
    given = attributes({"OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=ns.pod.c"})
    assert given["service.instance.id"] == "ns.pod.c"


def test_resource_attribute_that_is_no_pair_is_said_without_its_text() -> None:
    variables = Variables({"OTEL_RESOURCE_ATTRIBUTES": "a=1,s3cret"})
    assert resource.attributes(b"k", settings(), variables)["a"] == "1"
    assert variables.problems == ["OTEL_RESOURCE_ATTRIBUTES is not key=value,key=value; a part of it is left out"]


@pytest.mark.parametrize(
    ("sampler", "argument", "expected"),
    [
        ("", "", 1.0),
        ("always_on", "", 1.0),
        ("parentbased_always_off", "", 0.0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "", 1.0),
        ("parentbased_traceidratio", "2", 1.0),
        ("traceidratio", "many", 1.0),
        ("jaeger_remote", "", 1.0),
    ],
)
def test_share_of_sessions_is_the_applications_samplers(sampler: str, argument: str, expected: float) -> None:
    variables = Variables({"OTEL_TRACES_SAMPLER": sampler, "OTEL_TRACES_SAMPLER_ARG": argument})
    assert share(variables) == expected
    assert len(variables.problems) == (sampler == "jaeger_remote" or argument in ("2", "many"))
