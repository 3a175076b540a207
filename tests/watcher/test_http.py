"""What is served and to whom: routes, token, TLS, names that resolve to us, a port that is taken."""

from __future__ import annotations

import dataclasses
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from facts import process, record
from serving import PATIENCE_S, Serving, incident, serving

from race_watch import __version__, events
from race_watch.exporters import http as module
from race_watch.exporters import status as status_module
from race_watch.fleet import Fleet
from race_watch.settings import SettingsError

TOKEN = "s3cr3t-t0ken"


@pytest.fixture
def served() -> Iterator[Serving]:
    with serving() as made:
        yield made
    assert made.status.failures == ()


# Routes


def test_address_of_metrics_is_said_when_it_is_there(served: Serving) -> None:
    assert served.said == [f"metrics at {served.endpoint.url}"]
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/metrics", served.endpoint.url)
    assert served.ask("/metrics").status == 200


def test_what_is_not_there_names_what_is(served: Serving) -> None:
    reply = served.ask("/nope")
    assert reply.status == 404
    assert reply.text == "nothing here; there is /, /healthz, /incidents, /metrics, /state\n"


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/incidents", "/state"])
def test_head_of_every_route_has_the_size_of_its_body(served: Serving, path: str) -> None:
    headed, got = served.ask(path, "HEAD"), served.ask(path)
    assert (headed.status, headed.headers["Content-Type"]) == (got.status, got.headers["Content-Type"])
    assert headed.body == b""
    assert int(headed.headers["Content-Length"]) > 0


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/incidents", "/state"])
def test_no_route_takes_a_post(served: Serving, path: str) -> None:
    assert served.ask(path, "POST", body="x=y").status == 405


def test_page_may_run_only_itself_and_ask_only_us(served: Serving) -> None:
    reply = served.ask("/")
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = dict(part.split(" ", 1) for part in reply.headers["Content-Security-Policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy["script-src"])
    assert re.fullmatch("'sha256-[A-Za-z0-9+/]{43}='", policy["style-src"])
    # Nothing comes from elsewhere, nothing is put in as markup.
    assert not re.search(r"(src|href)=\"?(https?:)?//", reply.text)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", reply.text)


# /healthz


def polled(served: Serving, fleet: Fleet | None = None) -> None:
    """As the watcher's thread does after a poll."""
    served.status._view = status_module.View()  # however soon after the last
    served.status.look(fleet or Fleet(), served.totals)


def test_health_of_a_watcher_without_processes_is_ok(served: Serving) -> None:
    polled(served)
    reply = served.ask("/healthz")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    said = reply.json
    assert (said["status"], said["trouble"], said["version"]) == ("ok", [], __version__)
    assert (said["attached"], said["live"], said["missing"], said["processes"]) == (0, 0, 0, [])
    assert said["uptime_s"] >= 0
    assert said["lag_s"] == 0
    assert said["stderr"] == "left alone: only `race-watch run` sees it"
    assert set(said["journal"]["lost"]) == {"overwritten", "torn", "malformed", "cut"}


def test_health_says_what_is_hooked_what_is_not_and_why(served: Serving) -> None:
    fleet = Fleet()
    server, job = process("aa", 100, role="forkserver"), dataclasses.replace(process("bb", 101, role="fork"), ppid=100)
    for of, event in (
        (server, events.HookInstalled("log_records")),
        (server, events.HookInstalled("asyncio_loops")),
        (job, events.HookInstalled("room_events")),
        (job, events.HookStruck("room_events", "KeyError", 1)),
        (job, events.HookStruck("log_records", "ValueError", 0)),
    ):
        fleet.observe(record(event, of=of))
    polled(served, fleet)
    said = served.ask("/healthz").json
    assert (said["status"], said["trouble"]) == ("degraded", ["hook room_events is off (KeyError) in 1 process"])
    first, second = said["processes"]
    assert first["hooks"]["installed"] == ["asyncio_loops", "log_records"]
    assert "room_events" in first["hooks"]["waiting"]
    assert (second["pid"], second["python"], second["sdk"]) == (101, "3.11.7", {"livekit": "1.1.8"})
    assert second["hooks"]["installed"] == ["asyncio_loops", "log_records"], "a fork has the hooks of its parent"
    assert second["hooks"]["off"] == {"room_events": "KeyError"}
    assert "room_calls" in second["hooks"]["waiting"]


def test_processes_that_are_missing_and_failures_of_ours_degrade(served: Serving) -> None:
    served.totals.own = dataclasses.replace(served.totals.own, missing=2)
    polled(served)
    for _ in range(3):
        served.status.failed("incident file stopped: No space left on device")
    said = served.ask("/healthz").json
    assert said["status"] == "degraded"
    assert said["trouble"] == [
        "2 with LiveKit's library not watched (race-watch doctor)",
        "incident file stopped: No space left on device",
    ]
    served.status.failures = ()


def test_watcher_that_reads_no_more_is_told(served: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    polled(served)
    now_s = time.monotonic()
    monkeypatch.setattr(status_module, "monotonic_s", lambda: now_s + 60)
    said = served.ask("/healthz")
    assert (said.status, said.json["status"]) == (200, "degraded")
    assert said.json["trouble"][0].startswith("the watcher has not read the journals for 6")


def test_watcher_that_gave_up_is_503(served: Serving) -> None:
    served.status.gave_up = True
    said = served.ask("/healthz")
    assert (said.status, said.json["status"]) == (503, "failed")
    assert said.json["trouble"] == ["the watcher failed too often and gave up"]


def test_health_shows_a_bounded_number_of_processes(served: Serving) -> None:
    fleet = Fleet()
    for number in range(status_module.PROCESSES_SHOWN + 50):
        fleet.of(process(f"{number:04x}", number))
    polled(served, fleet)
    said = served.ask("/healthz").json
    assert (said["live"], len(said["processes"])) == (status_module.PROCESSES_SHOWN + 50, status_module.PROCESSES_SHOWN)


# /incidents


@pytest.fixture
def found(served: Serving) -> Serving:
    """Three incidents; `c` is the newest."""
    served.recent.add(incident("a"))
    served.recent.add(incident("b", time_unix_ns=1_001_000_000_000, room={"name": "a b&c", "sid": None}, verdict="app"))
    served.recent.add(
        incident(
            "c",
            time_unix_ns=1_002_000_000_000,
            category="lost_event",
            signature="unclassified",
            room={"name": None, "sid": None},
        )
    )
    return served


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        pytest.param("", "cba", id="all, newest first"),
        pytest.param("?limit=2", "cb", id="limit"),
        pytest.param("?category=registry_race", "ba", id="category"),
        pytest.param("?verdict=app", "b", id="verdict"),
        pytest.param("?signature=unclassified", "c", id="signature"),
        pytest.param("?room=lobby", "a", id="room"),
        pytest.param("?room=a%20b%26c", "b", id="room with an encoded name"),
        pytest.param("?room=nowhere", "", id="room that nobody was in"),
        pytest.param("?since=1001", "cb", id="since, unix seconds"),
        pytest.param("?since=1001.5", "c", id="since, fraction"),
        pytest.param("?since=1970-01-01T00:16:41Z", "cb", id="since, ISO"),
        pytest.param("?since=1970-01-01T00:16:41", "cb", id="since, ISO without a zone is UTC"),
        pytest.param("?since=1970-01-01T01:16:41%2B01:00", "cb", id="since, ISO with an offset"),
        pytest.param("?since=1970-01-01T01:16:41+01:00", "cb", id="since, ISO with an offset that is not encoded"),
        pytest.param("?since=1970-01-02", "", id="since, a day"),
        pytest.param("?category=registry_race&verdict=sdk&limit=1", "a", id="several"),
    ],
)
def test_incidents_are_filtered(found: Serving, query: str, ids: str) -> None:
    reply = found.ask(f"/incidents{query}")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "application/json")
    assert "".join(one["id"] for one in reply.json["incidents"]) == ids


def test_counts_beside_the_incidents_say_what_there_is(found: Serving) -> None:
    said = found.ask("/incidents?category=registry_race&limit=1").json
    assert (len(said["incidents"]), said["total"], said["kept"], said["recorded"]) == (1, 2, 3, 3)


def test_record_is_served_whole_and_the_last_of_an_id_counts(found: Serving) -> None:
    last = incident("a", count=7)
    found.recent.add(last)
    said = found.ask("/incidents?room=lobby").json
    assert said["incidents"] == [last.as_dict()]
    assert said["recorded"] == 3


def test_what_the_watcher_goes_on_changing_is_served_as_it_was(found: Serving) -> None:
    changing = incident("d", time_unix_ns=2_000_000_000_000)
    found.recent.add(changing)
    changing.channels.append("later")
    changing.evidence["later"] = "too"
    (first,) = found.ask("/incidents?limit=1").json["incidents"]
    assert "later" not in first["channels"]
    assert "later" not in first["evidence"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        pytest.param("colour=red", "'colour' is not one of category, verdict, signature, room, since, limit", id="unknown"),
        pytest.param("category=nope", "category='nope' is not one of registry_race, ", id="category"),
        pytest.param("verdict=guilty", "verdict='guilty' is not one of sdk, app, native, benign, unknown", id="verdict"),
        pytest.param("signature=x", "signature='x' is not one of ", id="signature"),
        pytest.param("limit=0", "limit='0' is not between 1 and 500", id="limit too low"),
        pytest.param("limit=501", "limit='501' is not between 1 and 500", id="limit too high"),
        pytest.param("limit=" + "9" * 5000, "is not between 1 and 500", id="limit of many digits"),
        pytest.param("limit=ten", "limit='ten' is not between", id="limit is no number"),
        pytest.param("limit=%D9%A3", "is not between", id="limit in other digits"),
        pytest.param("since=yesterday", "since='yesterday' is neither unix seconds nor ISO 8601", id="since"),
        pytest.param("since=inf", "since='inf' is neither", id="since for ever"),
        pytest.param("since=nan", "since='nan' is neither", id="since is no number"),
        pytest.param("room=a&room=b", "room is given 2 times", id="twice"),
        pytest.param("&&&", "not a query", id="no query"),
        pytest.param("&".join(f"a{n}=b" for n in range(99)), "not a query", id="many"),
    ],
)
def test_filter_that_cannot_be_used_is_told_in_a_line(found: Serving, query: str, told: str) -> None:
    reply = found.ask(f"/incidents?{query}")
    assert (reply.status, reply.headers["Content-Type"]) == (400, "application/json")
    assert told in reply.json["error"]
    assert "\n" not in reply.text
    assert len(reply.text) < 2000


def test_only_the_last_incidents_are_kept(served: Serving) -> None:
    for number in range(600):
        served.recent.add(incident(f"{number:04}", time_unix_ns=number))
    said = served.ask("/incidents?limit=500").json
    assert (said["kept"], said["recorded"], said["total"]) == (500, 600, 500)
    assert [one["id"] for one in said["incidents"]] == [f"{number:04}" for number in range(599, 99, -1)]


def test_readers_and_the_watcher_do_not_meet(served: Serving) -> None:
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            served.recent.add(incident(f"{number % 700}", time_unix_ns=number))
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            times = [one["time_unix_ns"] for one in served.ask("/incidents?limit=500").json["incidents"]]
            assert times == sorted(times, reverse=True)
    finally:
        stop.set()
        writer.join(PATIENCE_S)


# /state


def test_state_has_the_rooms_that_are_connected_and_who_is_in_them(served: Serving) -> None:
    fleet = Fleet()
    for event in (
        events.RoomConnected(1, "lobby", "RM_1", "id:me", 2, ()),
        events.RoomEventDispatched(1, "participant_connected", "id:x", ""),
        events.RoomEventDispatched(1, "participant_disconnected", "id:y", ""),
        events.RoomEventDispatched(1, "participant_disconnected", "id:z", ""),
        events.RoomConnected(2, "left by us", "", "id:me", 0, ()),
        events.CallEnded(1, 2, "disconnect", "ok"),
        events.RoomConnected(3, "left by the server", "", "id:me", 0, ()),
        events.RoomEventDispatched(3, "disconnected", "", ""),
        events.RoomConnected(4, "could not be left", "", "id:me", 0, ()),
        events.CallEnded(2, 4, "disconnect", "cancelled"),
        events.RoomNamed(5, "not there yet"),
    ):
        fleet.observe(record(event))
    polled(served, fleet)
    assert served.ask("/state").json["rooms"] == [
        {"name": "lobby", "sid": "RM_1", "participants": 1, "pid": 100},
        {"name": "could not be left", "sid": "", "participants": 0, "pid": 100},
    ]
    fleet.ended(process())
    polled(served, fleet)
    assert served.ask("/state").json["rooms"] == []


def test_growth_covers_the_whole_run_in_few_points(served: Serving) -> None:
    growth = status_module.Growth()
    name = "race_watch_open_fds"
    for second in range(20_000):
        growth.add({**served.totals.snapshot, name: {("file",): float(second)}}, second, 1_000 + second)
    assert len(growth.points) <= status_module.POINTS
    assert growth.names == ("open_fds", "ffi_handles", "rooms", "participants")
    assert growth.points[0][:2] == (1000, 0)
    assert growth.points[-1][0] > 1_000 + 19_000
    steps = {later[0] - before[0] for before, later in zip(growth.points, growth.points[1:], strict=False)}
    assert len(steps) <= 2, "points are as far apart at the beginning as at the end"
    assert all(point[1] == point[0] - 1000 for point in growth.points)


# Token


@pytest.fixture
def token_file(tmp_path: Path) -> Path:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    return path


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_token_is_needed_for_everything_but_the_state_of_health(token_file: Path) -> None:
    with serving(metrics_token_file=str(token_file)) as served:
        for path in ("/", "/metrics", "/incidents", "/state"):
            refused = served.ask(path)
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, 'Bearer realm="race_watch"')
            assert served.ask(path, headers=bearer(TOKEN)).status == 200
        probed = served.ask("/healthz")
        assert (probed.status, probed.json) == (200, {"status": "ok"})
        assert "uptime_s" in served.ask("/healthz", headers=bearer(TOKEN)).json
        served.status.gave_up = True
        assert served.ask("/healthz").status == 503


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer wrong", f"Basic {TOKEN}", TOKEN, f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", "Bearer ü"],
)
def test_wrong_token_is_refused(token_file: Path, header: str) -> None:
    with serving(metrics_token_file=str(token_file)) as served:
        assert served.ask("/metrics", headers={"Authorization": header.encode("latin-1").decode("latin-1")}).status == 401
        assert served.status.failures == ()


def test_renewed_token_counts_at_once_and_a_lost_file_leaves_the_old_one(token_file: Path) -> None:
    with serving(metrics_token_file=str(token_file)) as served:
        token_file.write_text("another")
        assert served.ask("/metrics", headers=bearer(TOKEN)).status == 401
        assert served.ask("/metrics", headers=bearer("another")).status == 200
        token_file.write_text("")
        assert served.ask("/metrics", headers=bearer("")).status == 401
        token_file.unlink()
        assert served.ask("/metrics", headers=bearer("another")).status == 200


@pytest.mark.parametrize(("content", "told"), [(None, "cannot read the token in"), ("", "no token in"), (" \n", "no token in")])
def test_without_its_token_nothing_is_served(tmp_path: Path, content: str | None, told: str) -> None:
    path = tmp_path / "token"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=f"^no metrics: {told} "):
        Serving().open(metrics_token_file=str(path))


# TLS


def certificate(folder: Path, name: str) -> tuple[str, str]:
    """A self-signed one for 127.0.0.1, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -addext subjectAltName=IP:127.0.0.1"
    subprocess.run(
        [*made.split(), "-subj", f"/CN={name}", "-keyout", str(key), "-out", str(cert)],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return str(cert), str(key)


def trusting(cert: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert)


def test_tls_serves_whoever_trusts_the_certificate_and_nobody_without(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    with serving(metrics_tls_cert=cert, metrics_tls_key=key) as served:
        assert served.said[0].startswith("metrics at https://127.0.0.1:")
        assert served.ask("/metrics", tls=trusting(cert)).status == 200
        assert served.ask("/nope", tls=trusting(cert)).status == 404
        with pytest.raises((OSError, EOFError)):
            served.ask("/metrics")
        with pytest.raises(ssl.SSLCertVerificationError):
            served.ask("/metrics", tls=ssl.create_default_context())
        assert served.ask("/healthz", tls=trusting(cert)).status == 200
        assert served.status.failures == ()


def test_handshake_that_does_not_end_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("race_watch.exporters.server.REQUEST_S", 0.3)
    cert, key = certificate(tmp_path, "one")
    with serving(metrics_tls_cert=cert, metrics_tls_key=key) as served:
        with served.connect() as silent, served.connect() as half:
            half.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")
            assert silent.recv(100) == b""
            assert half.recv(100) == b""
        assert served.status.failures == ()


def test_renewed_certificate_is_in_force_and_a_bad_one_is_not(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    other_cert, other_key = certificate(tmp_path, "two")
    with serving(metrics_tls_cert=cert, metrics_tls_key=key) as served:
        assert served.ask("/healthz", tls=trusting(cert)).status == 200
        Path(cert).write_bytes(Path(other_cert).read_bytes())
        assert served.ask("/healthz", tls=trusting_pem(tmp_path / "one.pem", served)).status == 200, "half renewed: the old one"
        Path(key).write_bytes(Path(other_key).read_bytes())
        assert served.ask("/healthz", tls=trusting(other_cert)).status == 200


def trusting_pem(path: Path, served: Serving) -> ssl.SSLContext:
    """Trusts what is being served."""
    path.write_text(ssl.get_server_certificate(served.address, timeout=PATIENCE_S))
    context = trusting(str(path))
    assert "CN=one" in subprocess.run(
        ["openssl", "x509", "-noout", "-subject", "-nameopt", "compat", "-in", str(path)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    ).stdout.replace("CN = ", "CN=")
    return context


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param(
            lambda cert, key: {"metrics_tls_cert": cert}, "--metrics-tls-cert is given without --metrics-tls-key", id="no key"
        ),
        pytest.param(
            lambda cert, key: {"metrics_tls_key": key}, "--metrics-tls-key is given without --metrics-tls-cert", id="no cert"
        ),
        pytest.param(
            lambda cert, key: {"metrics_tls_cert": key, "metrics_tls_key": cert}, "cannot use the certificate", id="swapped"
        ),
        pytest.param(
            lambda cert, key: {"metrics_tls_cert": cert + "x", "metrics_tls_key": key},
            "No such file or directory",
            id="not there",
        ),
    ],
)
def test_without_its_certificate_nothing_is_served(
    tmp_path: Path, change: Callable[[str, str], dict[str, str]], told: str
) -> None:
    with pytest.raises(SettingsError, match=r"^no metrics: ") as raised:
        Serving().open(**change(*certificate(tmp_path, "one")))
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_encrypted_key_fails_and_asks_nobody(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path, "one")
    locked = tmp_path / "locked.key"
    subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-in", key, "-out", str(locked), "-passout", "pass:x"],
        check=True,
        capture_output=True,
        timeout=60,
    )
    with pytest.raises(SettingsError, match="cannot use the certificate"):
        Serving().open(metrics_tls_cert=cert, metrics_tls_key=str(locked))


# Names that resolve to us


@pytest.mark.parametrize("host", ["127.0.0.1:9464", "127.0.0.1", "[::1]:9464", "[::1]", "localhost", "LOCALHOST:1", ""])
def test_local_names_are_served(served: Serving, host: str) -> None:
    for path in ("/", "/incidents", "/state", "/metrics", "/healthz"):
        assert served.ask(path, headers={"Host": host}).status == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:9464", "127.0.0.1.evil.example", "localhost.evil.example"])
def test_page_of_the_web_whose_name_resolves_to_us_reads_nothing_about_anybody(served: Serving, host: str) -> None:
    served.recent.add(incident())
    for path in ("/", "/incidents", "/state"):
        reply = served.ask(path, headers={"Host": host})
        assert reply.status == 421
        assert "lobby" not in reply.text
    for path in ("/metrics", "/healthz"):  # a proxy beside the worker passes the name on that it was asked for
        assert served.ask(path, headers={"Host": host}).status == 200


def test_endpoint_for_others_has_whatever_name_it_has() -> None:
    with serving(metrics_host="0.0.0.0") as served:
        assert served.ask("/incidents", headers={"Host": "worker-7.example"}).status == 200


# The port


def test_port_that_is_taken_is_a_warning_and_had_when_it_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    made = Serving()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made.open(metrics_port=port)
        time.sleep(0.3)  # several tries
        assert made.endpoint.url == ""
        assert made.endpoint.cpu_s == 0
        assert made.said == []
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not made.said:
            assert time.monotonic() < deadline, "the port is free and not taken"
            time.sleep(0.01)
        assert made.said == [f"metrics at http://127.0.0.1:{port}/metrics"]
        assert made.ask("/metrics").status == 200
        assert made.warned == [
            f"no metrics: cannot listen on 127.0.0.1:{port}: Address already in use; "
            "trying again every 0 s (--metrics-port 0 takes a free one)"
        ]
    finally:
        made.endpoint.stop()
    with socket.create_server(("127.0.0.1", port)):
        pass


def test_stop_while_the_port_is_taken_ends_the_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETRY_S", 0.05)
    made = Serving()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        made.open(metrics_port=port)
        made.endpoint.stop()
        assert not made.endpoint._thread.is_alive()
    with socket.create_server(("127.0.0.1", port)):
        pass


@pytest.mark.parametrize(
    ("host", "port", "message"),
    [
        pytest.param("127.0.0.1", 70_000, "port must be 0-65535", id="no port"),
        pytest.param("::ffff", 0, "", id="no address"),
        pytest.param("..", 0, "", id="no name"),
        pytest.param("192.0.2.1", 0, "Cannot assign requested address", id="not ours"),
    ],
)
def test_address_that_cannot_be_had_is_one_line(host: str, port: int, message: str) -> None:
    threads = threading.active_count()
    with pytest.raises(SettingsError) as raised:
        Serving().open(metrics_host=host, metrics_port=port)
    said = str(raised.value)
    assert said.startswith(f"no metrics: cannot listen on {host}:{port}: ")
    assert message in said
    assert "--metrics-host" in said
    assert "\n" not in said
    assert threading.active_count() == threads


def test_stop_frees_the_port() -> None:
    with serving() as first:
        _, port = first.address
    with serving(metrics_port=port) as again:
        assert again.endpoint.url == first.endpoint.url


def test_two_endpoints_of_one_process_do_not_meet(served: Serving) -> None:
    with serving() as second:
        assert second.endpoint.url != served.endpoint.url
        assert second.ask("/metrics").status == served.ask("/metrics").status == 200


@pytest.mark.parametrize("host", ["::1", "::"])
def test_ipv6_address_is_shown_as_a_url_and_every_address_includes_ipv4(host: str) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("no IPv6 loopback here")
    with serving(metrics_host=host) as served:
        assert served.endpoint.url.startswith(f"http://[{host}]:")
        assert served.ask("/metrics").status == 200
        if host == "::":
            socket.create_connection(("127.0.0.1", served.address[1]), timeout=PATIENCE_S).close()
