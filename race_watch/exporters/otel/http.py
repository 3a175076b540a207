"""OTLP over HTTP: one POST a connection, on a socket of our own.

Not `requests`, `urllib3` or `http.client`'s connections: agents and SDKs of others wrap those for the whole process, count and
trace what goes through them, and add headers to it. A connection for each request, a few a minute, is one that no fork shares.
"""

from __future__ import annotations

import gzip
import http.client
import socket
import ssl
from base64 import b64encode
from collections.abc import Mapping
from time import monotonic
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies_environment, proxy_bypass_environment  # type: ignore[attr-defined]

from race_watch import __version__
from race_watch.exporters.otel.sending import DELIVERED, LATER, REFUSED, Answer
from race_watch.exporters.otel.target import Target

USER_AGENT = f"race-watch/{__version__}"

# What a proxy in front of a collector, or the collector when it is full, answers: the protocol says to try again.
_RETRYABLE = frozenset((429, 502, 503, 504))
_ANSWER_BYTES = 64 * 1024
_RETRY_AFTER_MAX_S = 600.0


class HttpSender:
    """Posts protobuf bodies to one URL, through the proxy that the environment names for it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._tls: ssl.SSLContext | None = None

    def send(self, body: bytes, timeout_s: float) -> Answer:
        try:
            return self._exchange(body, monotonic() + timeout_s)
        except TimeoutError:
            return Answer(LATER, f"no answer in {timeout_s:.1f} s")
        except ssl.SSLError as error:
            return Answer(LATER, f"TLS: {error.reason or error.strerror or type(error).__name__}")
        except OSError as error:
            return Answer(LATER, error.strerror or type(error).__name__)
        except http.client.HTTPException as error:
            return Answer(LATER, f"the answer is no HTTP: {type(error).__name__}")
        except ValueError:
            # A host name that no resolver takes.
            return Answer(REFUSED, "the endpoint cannot be resolved")

    def close(self) -> None:
        """Nothing is kept open."""

    def _exchange(self, body: bytes, until_s: float) -> Answer:
        url = self._target.url
        proxy = _proxy(url)
        headers = {
            "Host": url.netloc.rpartition("@")[2],
            "User-Agent": USER_AGENT,
            "Content-Type": "application/x-protobuf",
            "Connection": "close",
            **_authorization(url, "Authorization"),
            **self._target.headers,
        }
        if self._target.compression == "gzip":
            body = gzip.compress(body)
            headers["Content-Encoding"] = "gzip"
        headers["Content-Length"] = str(len(body))
        path = f"{url.path or '/'}{'?' + url.query if url.query else ''}"
        if proxy is not None and url.scheme == "http":
            headers.update(_authorization(proxy, "Proxy-Authorization"))
            path = f"http://{headers['Host']}{path}"
        connection = _connect(proxy or url, until_s)
        try:
            if url.scheme == "https":
                if proxy is not None:
                    _tunnel(connection, url, proxy, until_s)
                connection = self._context().wrap_socket(connection, server_hostname=url.hostname)
            connection.settimeout(_left_s(until_s))
            connection.sendall(_head("POST", path, headers) + body)
            connection.settimeout(_left_s(until_s))
            return _answer(connection)
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            made = ssl.create_default_context(cafile=self._target.certificate or None)
            if self._target.client_certificate:
                made.load_cert_chain(self._target.client_certificate, self._target.client_key or None)
            self._tls = made
        return self._tls


def _connect(to: SplitResult, until_s: float) -> socket.socket:
    """Connects to the first address that takes it.

    Raises:
        OSError: None does, or there is no time left.
    """
    failure: OSError = OSError("no address")
    port = to.port or {"http": 80, "https": 443}[to.scheme]
    for family, kind, protocol, _, address in socket.getaddrinfo(to.hostname, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(_left_s(until_s))
            connection.connect(address)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


def _tunnel(connection: socket.socket, url: SplitResult, proxy: SplitResult, until_s: float) -> None:
    where = f"{url.hostname}:{url.port or 443}"
    connection.settimeout(_left_s(until_s))
    connection.sendall(_head("CONNECT", where, {"Host": where, **_authorization(proxy, "Proxy-Authorization")}))
    response = http.client.HTTPResponse(connection, method="CONNECT")
    response.begin()
    if response.status != 200:
        raise OSError(0, f"the proxy answers {response.status}")


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _answer(connection: socket.socket) -> Answer:
    response = http.client.HTTPResponse(connection, method="POST")
    response.begin()
    body = response.read(_ANSWER_BYTES)
    if 200 <= response.status < 300:
        return Answer(DELIVERED, body=body)
    fate = LATER if response.status in _RETRYABLE else REFUSED
    return Answer(fate, f"the answer is HTTP {response.status}", retry_after_s=_seconds(response.getheader("Retry-After", "")))


def _seconds(text: str) -> float:
    """Retry-After in seconds; its other form, a date, counts as none."""
    return min(float(text), _RETRY_AFTER_MAX_S) if text.isdecimal() else 0.0


def _left_s(until_s: float) -> float:
    left_s = until_s - monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s


def _proxy(url: SplitResult) -> SplitResult | None:
    """The proxy that `http_proxy`, `https_proxy` and `no_proxy` say is to be used."""
    named = getproxies_environment().get(url.scheme, "")
    if not named or proxy_bypass_environment(url.hostname or ""):
        return None
    proxy = urlsplit(named if "://" in named else f"http://{named}")
    return proxy if proxy.scheme == "http" and proxy.hostname else None


def _authorization(url: SplitResult, header: str) -> dict[str, str]:
    if url.username is None:
        return {}
    credentials = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return {header: "Basic " + b64encode(credentials.encode()).decode()}
