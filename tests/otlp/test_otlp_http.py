"""The HTTP sender against real servers: what it sends, and what it makes of every kind of answer."""

from __future__ import annotations

import dataclasses
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from certificates import authority
from otlp_facts import target
from otlp_receiver import Inbox, Reply, http_receiver, refusing_address, silent_server

from race_watch.exporters.otel.http import USER_AGENT, HttpSender
from race_watch.exporters.otel.sending import DELIVERED, LATER, REFUSED, Answer


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "no_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def send(url: str, body: bytes = b"", timeout_s: float = 10.0, **other: object) -> Answer:
    return HttpSender(target("traces", url, **other)).send(body, timeout_s)


@contextmanager
def one_answer(answer: bytes, then: Callable[[socket.socket], None] | None = None) -> Iterator[str]:
    """A server that reads a little of one request and answers with these bytes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)
                if then is not None:
                    then(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)


def test_body_arrives_with_the_headers_of_the_protocol_and_the_targets() -> None:
    with http_receiver() as (url, inbox):
        assert send(url, headers={"x-tenant": "a"}).fate == DELIVERED
    (received,) = inbox.requests
    assert received.path == "/v1/traces"
    assert received.headers == {
        "host": urlsplit(url).netloc,
        "user-agent": USER_AGENT,
        "content-type": "application/x-protobuf",
        "connection": "close",
        "x-tenant": "a",
        "content-length": "0",
    }


def test_body_is_compressed_if_that_is_asked_for() -> None:
    with http_receiver() as (url, inbox):
        assert send(url, b"\x0a\x00" * 500, compression="gzip").fate == DELIVERED
    (received,) = inbox.requests
    assert received.headers["content-encoding"] == "gzip"
    assert int(received.headers["content-length"]) < 200
    assert received.raw == b"\x0a\x00" * 500


def test_credentials_and_query_of_the_url_are_used() -> None:
    with http_receiver() as (url, inbox):
        where = urlsplit(url.replace("//", "//user:p%40ss@") + "/v1/traces?tenant=a")
        assert HttpSender(dataclasses.replace(target(), url=where)).send(b"", 10.0).fate == DELIVERED
    assert inbox.requests[0].headers["authorization"] == "Basic dXNlcjpwQHNz"
    assert inbox.requests[0].path == "/v1/traces?tenant=a"
    assert "p%40ss" not in inbox.requests[0].headers["host"]


@pytest.mark.parametrize(
    ("status", "fate"),
    [
        (200, DELIVERED),
        (202, DELIVERED),
        (429, LATER),
        (503, LATER),
        (504, LATER),
        (400, REFUSED),
        (401, REFUSED),
        (302, REFUSED),
    ],
)
def test_status_decides_what_becomes_of_the_body(status: int, fate: str) -> None:
    with http_receiver() as (url, inbox):
        inbox.reply = lambda _: Reply(status, {"Location": f"{url}/elsewhere"})
        answer = send(url)
    assert answer.fate == fate
    assert answer.reason == ("" if fate == DELIVERED else f"the answer is HTTP {status}")
    # A redirect is not followed: headers would go where nobody said they may.
    assert len(inbox.requests) == 1


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("99999999", 600.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0)])
def test_retry_after_is_heeded_within_reason(text: str, seconds: float) -> None:
    with http_receiver() as (url, inbox):
        inbox.reply = lambda _: Reply(429, {"Retry-After": text})
        assert send(url).retry_after_s == seconds


def test_endpoint_that_refuses_or_says_nothing_is_tried_again_later() -> None:
    with refusing_address() as url:
        assert send(url) == Answer(LATER, "Connection refused")
    with silent_server() as url:
        assert send(url, timeout_s=0.05) == Answer(LATER, "no answer in 0.1 s")


def test_no_time_left_is_no_attempt() -> None:
    with http_receiver() as (url, inbox):
        assert send(url, timeout_s=0.0).fate == LATER
    assert inbox.requests == []


@pytest.mark.parametrize(
    ("answer", "fate"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n", LATER, id="no HTTP"),
        pytest.param(b"", LATER, id="hangs up"),
        pytest.param(b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\x0a\x00\r\n0\r\n\r\n", DELIVERED, id="chunked"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n" + b"\0" * 100_000, DELIVERED, id="endless"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", DELIVERED, id="continue first"),
    ],
)
def test_answers_of_servers_that_are_no_collectors(answer: bytes, fate: str) -> None:
    with one_answer(answer) as url:
        assert send(url).fate == fate


def test_name_that_nobody_knows_is_tried_again_and_one_that_is_none_is_not() -> None:
    assert send("http://name.invalid:1", timeout_s=30.0).fate == LATER
    assert send(f"http://{'a' * 70}.example:1").fate == REFUSED


def test_certificate_is_checked_against_the_authority_that_is_named(tmp_path: Path) -> None:
    made = authority(tmp_path)
    with http_receiver(wrap=lambda s: made.server_context().wrap_socket(s, server_side=True)) as (url, inbox):
        assert send(url, certificate=str(made.certificate)).fate == DELIVERED
        refused = send(url)
        named = send(url.replace("127.0.0.1", "localhost"), certificate=str(made.certificate))
        missing = send(url, certificate=str(tmp_path / "none.pem"))
    assert refused == Answer(LATER, "TLS: CERTIFICATE_VERIFY_FAILED")
    assert named == Answer(LATER, "TLS: CERTIFICATE_VERIFY_FAILED")
    assert missing == Answer(LATER, "No such file or directory")
    assert len(inbox.requests) == 1


def test_client_certificate_is_shown_to_a_server_that_asks(tmp_path: Path) -> None:
    made = authority(tmp_path)

    def wrap(listening: socket.socket) -> socket.socket:
        return made.server_context(ask_client=True).wrap_socket(listening, server_side=True)

    trust = {"certificate": str(made.certificate)}
    pair = {"client_certificate": str(made.client.certificate), "client_key": str(made.client.key)}
    with http_receiver(wrap=wrap) as (url, inbox):
        assert send(url, **trust, **pair).fate == DELIVERED
        assert send(url, **trust).fate == LATER
    assert len(inbox.requests) == 1


@contextmanager
def proxy() -> Iterator[tuple[str, list[bytes]]]:
    """Tunnels CONNECT, and answers anything else itself; keeps the heads of requests."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                head = b""
                while b"\r\n\r\n" not in head:
                    head += connection.recv(65536)
                heads.append(head)
                if not head.startswith(b"CONNECT"):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                    return
                host, _, port = head.split()[1].decode().rpartition(":")
                with socket.create_connection((host, int(port))) as beyond:
                    connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    back = threading.Thread(target=_copy, args=(beyond, connection), daemon=True)
                    back.start()
                    _copy(connection, beyond)
                    back.join(10)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://user:pass@127.0.0.1:{server.getsockname()[1]}", heads


def _copy(source: socket.socket, to: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            to.sendall(data)
        to.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxy() as (url, heads):
        monkeypatch.setenv("http_proxy", url)
        assert send("http://collector.example:4318", b"body").fate == DELIVERED
    assert heads[0].startswith(b"POST http://collector.example:4318/v1/traces HTTP/1.1\r\nHost: collector.example:4318\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in heads[0]


def test_proxy_sees_nothing_of_what_goes_through_its_tunnel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = authority(tmp_path)
    with (
        http_receiver(wrap=lambda s: made.server_context().wrap_socket(s, server_side=True)) as (url, inbox),
        proxy() as (via, heads),
    ):
        monkeypatch.setenv("HTTPS_PROXY", via)
        assert send(url, certificate=str(made.certificate), headers={"api-key": "s3cret"}).fate == DELIVERED
    assert inbox.requests[0].headers["api-key"] == "s3cret"
    assert "proxy-authorization" not in inbox.requests[0].headers
    assert heads[0].startswith(b"CONNECT 127.0.0.1:")
    assert b"s3cret" not in heads[0]


def test_no_proxy_is_heeded(monkeypatch: pytest.MonkeyPatch) -> None:
    with http_receiver() as (url, _), refusing_address() as nobody:
        monkeypatch.setenv("http_proxy", nobody)
        assert send(url).fate == LATER
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert send(url).fate == DELIVERED


def test_proxy_that_refuses_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with one_answer(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n") as via:
        monkeypatch.setenv("https_proxy", via)
        assert send("https://127.0.0.1:1") == Answer(LATER, "the proxy answers 407")


def test_wraps_of_http_client_and_requests_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    import http.client

    def seen(*args: object, **kwargs: object) -> None:
        pytest.fail("somebody's instrumentation would have seen this")

    for name in ("__init__", "request", "putrequest", "putheader", "endheaders", "getresponse", "connect", "send"):
        monkeypatch.setattr(http.client.HTTPConnection, name, seen)
    monkeypatch.setattr(socket, "create_connection", seen)
    inbox: Inbox
    with http_receiver() as (url, inbox):
        assert send(url).fate == DELIVERED
    assert len(inbox.requests) == 1
