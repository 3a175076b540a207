"""What the watcher serves: /metrics, /healthz, /incidents, /state and a page a person can read.

With a token all of it asks for the token; /healthz then tells those who have none only whether the watcher is well, as a probe
needs. A port that is taken is asked for again until it is free.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import ipaddress
import json
import os
import re
import threading
from collections.abc import Callable
from http import HTTPStatus
from importlib import resources

from race_watch.exporters import access, prometheus
from race_watch.exporters.exchange import Request, Response, plain
from race_watch.exporters.recent import QueryError, Recent, parse
from race_watch.exporters.server import Server
from race_watch.exporters.status import Status
from race_watch.settings import Settings, SettingsError
from race_watch.totals import Totals

# How often a port that is taken is asked for.
RETRY_S = 5.0
_STOP_S = 1.0
_JSON = "application/json"


class Site:
    """Answers requests, each in a thread of its own.

    Args:
        token: Who has it may read everything; None: everybody may.
        local: Bound to the loopback interface: pages of the web that have a name resolve to it (DNS rebinding) read nothing.
    """

    def __init__(self, totals: Totals, status: Status, recent: Recent, token: access.Token | None, *, local: bool) -> None:
        self._status, self._recent = status, recent
        self._token, self._local = token, local
        page = resources.files("race_watch.exporters").joinpath("page.html").read_bytes()
        self._page = Response(HTTPStatus.OK, "text/html; charset=utf-8", page, _guarding(page))
        self._routes: dict[str, Callable[[Request], Response]] = {
            "/metrics": prometheus.page(totals),
            "/healthz": self._healthz,
            "/incidents": self._incidents,
            "/state": lambda _: _json(self._status.state()),
            "/": lambda _: self._page,
        }

    def answer(self, request: Request) -> Response:
        route = self._routes.get(request.path)
        if route is None:
            return plain(HTTPStatus.NOT_FOUND, f"nothing here; there is {', '.join(sorted(self._routes))}")
        if self._token is not None and not self._token.is_in(request.headers):
            if request.path == "/healthz":
                code, said = self._status.health()
                return _json({"status": said["status"]}, code)
            challenge = ("WWW-Authenticate", 'Bearer realm="race_watch"')
            return plain(HTTPStatus.UNAUTHORIZED, "a bearer token is needed", challenge)
        # Metrics and health name nobody, and proxies beside the worker pass the name on that they were asked for.
        if self._local and request.path not in ("/metrics", "/healthz") and not _is_local(request.headers.get("Host", "")):
            return plain(HTTPStatus.MISDIRECTED_REQUEST, "ask for this by its address or as localhost")
        return route(request)

    def _healthz(self, request: Request) -> Response:
        code, said = self._status.health()
        return _json(said, code)

    def _incidents(self, request: Request) -> Response:
        try:
            return Response(HTTPStatus.OK, _JSON, self._recent.as_json(parse(request.query)).encode())
        except QueryError as error:
            return _json({"error": str(error)}, HTTPStatus.BAD_REQUEST)


def _json(value: object, status: int = HTTPStatus.OK) -> Response:
    return Response(status, _JSON, json.dumps(value).encode())


def _is_local(host: str) -> bool:
    name = host.rpartition(":")[0] if re.search(r":\d+$", host) else host
    try:
        ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return name.lower() in ("", "localhost")
    return True


def _guarding(page: bytes) -> tuple[tuple[str, str], ...]:
    """Headers that let the page run what it came with and ask nobody but us."""
    policy = ["default-src 'none'", "connect-src 'self'", "img-src data:"]
    for tag in ("script", "style"):
        parts = re.findall(f"<{tag}>(.*?)</{tag}>".encode(), page, re.DOTALL)
        hashes = [base64.b64encode(hashlib.sha256(part).digest()).decode() for part in parts]
        policy.append(f"{tag}-src " + " ".join(f"'sha256-{one}'" for one in hashes))
    policy += ["base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"]
    return ("Content-Security-Policy", "; ".join(policy)), ("Referrer-Policy", "no-referrer")


class Endpoint:
    """The site on its port, in a daemon thread.

    Args:
        say: Told the address, when it is there.
        warn: Told what is in the way, once.

    Raises:
        SettingsError: The address, the token or the certificate cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        totals: Totals,
        status: Status,
        recent: Recent,
        say: Callable[[str], None],
        warn: Callable[[str], None],
    ) -> None:
        self._host, self._port = settings.metrics_host, settings.metrics_port
        self._status, self._say, self._warn = status, say, warn
        token, self._tls = access.of(settings)
        self._site = Site(totals, status, recent, token, local=_is_loopback(self._host))
        self._stopping = threading.Event()
        self._server: Server | None = self._open()
        if self._server is None:
            hint = f"trying again every {RETRY_S:.0f} s (--metrics-port 0 takes a free one)"
            warn(f"{self._problem(os.strerror(errno.EADDRINUSE))}; {hint}")
        else:
            say(f"metrics at {self.url}")
        self._thread = threading.Thread(target=self._run, name="race_watch-metrics", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # no more threads
            if self._server is not None:
                self._server.close()
            raise

    @property
    def url(self) -> str:
        """Of /metrics; empty while the port is taken."""
        if self._server is None:
            return ""
        shown = f"[{self._host}]" if ":" in self._host else self._host
        return f"{'https' if self._tls else 'http'}://{shown}:{self._server.port}/metrics"

    @property
    def cpu_s(self) -> float:
        """What requests have cost so far, seconds of CPU."""
        return self._server.cpu_s if self._server is not None else 0.0

    def stop(self) -> None:
        """Frees the port."""
        self._stopping.set()
        if self._server is not None:
            self._server.stop()
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while self._server is None:
            if self._stopping.wait(RETRY_S):
                return
            try:
                self._server = self._open()
            except SettingsError as error:
                self._warn(str(error))
                return
            if self._server is not None and not self._stopping.is_set():
                self._say(f"metrics at {self.url}")
        if self._stopping.is_set():
            self._server.close()
        else:
            self._server.serve()

    def _open(self) -> Server | None:
        """The server, or None where somebody else has the port."""
        try:
            return Server(self._host, self._port, self._site.answer, self._failed, self._tls)
        except (OSError, OverflowError, ValueError) as error:
            if getattr(error, "errno", None) == errno.EADDRINUSE:
                return None
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"{self._problem(reason)} (--metrics-host is an address of this machine)") from None

    def _problem(self, reason: object) -> str:
        return f"no metrics: cannot listen on {self._host}:{self._port}: {reason}"

    def _failed(self, error: str) -> None:
        self._status.failed(f"a request failed: {error}")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
