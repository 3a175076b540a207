"""The gRPC sender against a real gRPC server."""

from __future__ import annotations

import functools
from pathlib import Path

import grpc
import pytest
from certificates import authority
from otlp_facts import target
from otlp_receiver import REQUESTS, Reply, grpc_receiver, refusing_address

from race_watch.exporters.otel.grpc import GrpcSender
from race_watch.exporters.otel.sending import DELIVERED, LATER, REFUSED, Answer
from race_watch.exporters.otel.target import SIGNALS


def send(url: str, signal: str = "traces", body: bytes = b"", timeout_s: float = 10.0, **other: object) -> Answer:
    sender = GrpcSender(target(signal, url, protocol="grpc", **other))
    try:
        return sender.send(body, timeout_s)
    finally:
        sender.close()


@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.parametrize("compression", ["none", "gzip"])
def test_body_of_each_signal_arrives_with_its_headers(signal: str, compression: str) -> None:
    body = REQUESTS[signal]().SerializeToString()
    with grpc_receiver() as (url, inbox):
        assert send(url, signal, body, headers={"x-tenant": "a"}, compression=compression).fate == DELIVERED
    (received,) = inbox.requests
    assert (received.signal, received.raw, received.headers["x-tenant"]) == (signal, body, "a")
    assert received.headers["user-agent"].startswith("race-watch/")


@pytest.mark.parametrize(("status", "fate", "code"), [(503, LATER, "UNAVAILABLE"), (400, REFUSED, "INVALID_ARGUMENT")])
def test_code_decides_what_becomes_of_the_body(status: int, fate: str, code: str) -> None:
    with grpc_receiver() as (url, inbox):
        inbox.reply = lambda _: Reply(status)
        assert send(url) == Answer(fate, f"the answer is {code}")


def test_endpoint_that_refuses_is_tried_again_later() -> None:
    with refusing_address() as url:
        assert send(url).fate == LATER


def test_certificate_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    made = authority(tmp_path)
    pair = made.server.key.read_bytes(), made.server.certificate.read_bytes()
    with grpc_receiver(grpc.ssl_server_credentials([pair])) as (url, inbox):
        assert send(url, certificate=str(made.certificate)).fate == DELIVERED
        assert send(url, timeout_s=2.0).fate == LATER
        assert send(url, certificate=str(tmp_path / "none.pem")) == Answer(REFUSED, "certificate: No such file or directory")
    assert len(inbox.requests) == 1


def test_wraps_of_channels_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    @functools.wraps(grpc.insecure_channel)
    def wrapped(*args: object, **kwargs: object) -> None:
        pytest.fail("somebody's instrumentation would have seen this")

    monkeypatch.setattr(grpc, "insecure_channel", wrapped)
    with grpc_receiver() as (url, _):
        assert send(url).fate == DELIVERED
