"""The HTTP server against clients that are silent, slow, rude or many."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import parse_headers
from io import BytesIO

import pytest
from serving import PATIENCE_S, read_to_end

from race_watch.exporters import exchange
from race_watch.exporters import server as module
from race_watch.exporters.exchange import Request, Response, plain
from race_watch.exporters.server import Server

GET = b"GET /there?a=b HTTP/1.1\r\nHost: x\r\n\r\n"


class Running:
    """A server that says what it was asked."""

    def __init__(self, answer: Callable[[Request], Response] | None = None, host: str = "127.0.0.1") -> None:
        self.failures: list[str] = []
        self.server = Server(host, 0, answer or self.repeat, self.failures.append)
        self.thread = threading.Thread(target=self.server.serve, daemon=True)
        self.thread.start()

    @staticmethod
    def repeat(request: Request) -> Response:
        return plain(200, f"{request.path} {request.query}")

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE_S)

    def say(self, sent: bytes) -> bytes:
        with self.connect() as client:
            client.sendall(sent)
            return read_to_end(client)

    def stop(self) -> None:
        self.server.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


@pytest.fixture
def running() -> Iterator[Running]:
    made = Running()
    yield made
    made.stop()
    assert made.failures == []


def status(said: bytes) -> int:
    return int(said.split()[1])


def test_get_is_answered_and_the_connection_closed(running: Running) -> None:
    head, _, body = running.say(GET).partition(b"\r\n\r\n")
    assert body == b"/there a=b\n"
    first, _, rest = head.partition(b"\r\n")
    headers = parse_headers(BytesIO(rest + b"\r\n\r\n"))
    assert first == b"HTTP/1.1 200 OK"
    assert (headers["Connection"], headers["Content-Length"]) == ("close", str(len(body)))
    assert (headers["Cache-Control"], headers["X-Content-Type-Options"]) == ("no-store", "nosniff")


def test_nothing_tells_what_serves(running: Running) -> None:
    said = running.say(GET) + running.say(b"nonsense\r\n\r\n")
    assert b"Server:" not in said
    assert b"ython" not in said


def test_head_is_the_same_without_the_body(running: Running) -> None:
    got, headed = (running.say(verb + GET[3:]).partition(b"\r\n\r\n") for verb in (b"GET", b"HEAD"))
    without_date = [line for line in got[0].split(b"\r\n") if not line.startswith(b"Date")]
    assert [line for line in headed[0].split(b"\r\n") if not line.startswith(b"Date")] == without_date
    assert headed[2] == b""


@pytest.mark.parametrize("verb", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW", "get"])
def test_other_verbs_are_refused_with_those_that_are_allowed(running: Running, verb: str) -> None:
    said = running.say(verb.encode() + GET[3:])
    assert status(said) == 405
    assert b"\r\nAllow: GET, HEAD\r\n" in said


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 413, id="a body"),
        pytest.param(b"GET / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n", 413, id="a body that is only announced"),
        pytest.param(b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 413, id="a chunked body"),
        pytest.param(b"GET / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n", 417, id="a body with permission"),
        pytest.param(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n\r\n", 431, id="a long line"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 5000 + b"\r\n", 431, id="many headers"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, id="more headers than the parser takes"),
        pytest.param(b"GET / HTTP/9.1\r\n\r\n", 505, id="a version of the future"),
        pytest.param(b"GET / HTTP/one\r\n\r\n", 400, id="a version that is none"),
        pytest.param(b"nonsense\r\n\r\n", 400, id="no request"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400, id="TLS to a server without"),
    ],
)
def test_what_is_no_request_of_ours_is_refused_in_a_line(running: Running, sent: bytes, expected: int) -> None:
    head, _, body = running.say(sent).partition(b"\r\n\r\n")
    assert status(head) == expected
    assert b"text/plain" in head
    assert body.count(b"\n") == 1


def test_empty_requests_and_clients_that_leave_are_no_failure(running: Running) -> None:
    assert running.say(b"\r\n\r\n") == b""
    running.connect().close()
    with running.connect() as client:
        client.sendall(b"GET / HT")
        # Gone without a goodbye.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert status(running.say(GET)) == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n"], ids=["says nothing", "never ends its headers"])
def test_half_a_request_is_cut_off(running: Running, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.2)
    with running.connect() as client:
        client.sendall(sent)
        assert read_to_end(client) == b""


def test_trickle_does_not_keep_a_connection(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.5)
    with running.connect() as client:
        client.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(200):  # a header each 50 ms: 10 s if it were let
            if select.select([client], [], [], 0.05)[0]:
                break
            client.sendall(b"A: b\r\n")
        else:
            raise AssertionError("it was let")
        assert read_to_end(client) == b""


def test_client_that_does_not_read_its_answer_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "ANSWER_S", 0.3)
    running = Running(lambda _: plain(200, "x" * 30_000_000))
    try:
        with running.connect() as client:
            client.sendall(GET)
            until(lambda: bool(running.server._open))
            until_free(running)
            assert len(read_to_end(client)) < 30_000_000
    finally:
        running.stop()


def until_free(running: Running) -> None:
    """Until the server has let go of everybody; it looks by itself four times a second."""
    until(lambda: not running.server._open)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.01)


def test_of_two_hundred_at_once_few_are_let_in_and_the_rest_is_told(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", PATIENCE_S)
    threads = threading.active_count()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(running.connect()) for _ in range(200)]
        turned_away = [read_to_end(client) for client in clients[module.CONNECTIONS :]]
        assert {status(said) for said in turned_away} == {503}
        assert all(b"Retry-After" in said for said in turned_away)
        assert threading.active_count() <= threads + module.CONNECTIONS
        # Those that were let in get their answers all the same.
        for client in clients[: module.CONNECTIONS]:
            client.sendall(GET)
            assert status(read_to_end(client)) == 200
    until_free(running)
    assert status(running.say(GET)) == 200


def test_when_the_silent_have_been_cut_off_others_get_in(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_S", 0.3)
    with contextlib.ExitStack() as stack:
        for _ in range(module.CONNECTIONS):
            stack.enter_context(running.connect())
        assert status(running.say(b"")) == 503
        until_free(running)
        assert status(running.say(GET)) == 200


def test_answer_that_fails_is_told_and_its_client_gets_500() -> None:
    def answer(request: Request) -> Response:
        raise KeyError("secret")

    running = Running(answer)
    try:
        for _ in range(5):
            said = running.say(GET)
            assert status(said) == 500
            assert b"secret" not in said
        # Five failures of requests do not switch off what answers the sixth.
        assert running.failures == ["KeyError"] * 5
    finally:
        running.stop()


def test_clients_are_no_news(running: Running, capfd: pytest.CaptureFixture[str]) -> None:
    running.say(GET)
    running.say(b"nonsense\r\n\r\n")
    running.say(b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx")
    assert capfd.readouterr() == ("", "")


def test_want_of_descriptors_costs_connections_but_no_cpu(running: Running) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with running.connect() as early, socket.socket() as late:
        late.settimeout(PATIENCE_S)
        until(lambda: bool(running.server._open))
        used = len(os.listdir("/proc/self/fd"))
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            late.connect(("127.0.0.1", running.server.port))
            early.sendall(GET)
            assert status(read_to_end(early)) == 200
            spent_s = time.process_time()
            select.select([late], [], [], 1)
            assert time.process_time() - spent_s < 0.5, "it asks for what it cannot have all the time"
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        late.sendall(GET)
        assert status(read_to_end(late)) == 200
    until_free(running)
    assert len(os.listdir("/proc/self/fd")) <= used


def test_default_timeout_of_the_host_is_not_ours(running: Running) -> None:
    socket.setdefaulttimeout(0.001)
    try:
        with running.connect() as client:
            client.sendall(GET[:10])
            select.select([], [], [], 0.05)
            client.sendall(GET[10:])
            assert status(read_to_end(client)) == 200
    finally:
        socket.setdefaulttimeout(None)


def test_stop_frees_the_port_and_hangs_up(running: Running) -> None:
    port = running.server.port
    with running.connect() as client:
        client.sendall(b"GET")
        running.stop()
        assert read_to_end(client) == b""
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_child_of_a_fork_lets_go_of_the_port(running: Running) -> None:
    port = running.server.port
    gc.collect()
    told, tell = os.pipe()
    end, ended = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(ended)
        os.write(tell, b"there")
        os.read(end, 1)
        os._exit(0)
    try:
        assert os.read(told, 5) == b"there"
        assert status(running.say(GET)) == 200, "the parent is as it was"
        running.stop()
        with socket.create_server(("127.0.0.1", port)):
            pass
    finally:
        os.close(ended)
        os.waitpid(pid, 0)
        for fd in (told, tell, end):
            os.close(fd)


def test_cpu_of_requests_is_counted(running: Running) -> None:
    assert running.server.cpu_s == 0
    running.say(GET)
    until_free(running)
    assert 0 < running.server.cpu_s < 5
