"""A small HTTP server that nobody can hold up: one request a connection, few connections, a deadline for each.

The standard library parses and speaks TLS; what it lacks is the bounds. A client that is silent, slow or rude costs one place
of CONNECTIONS for a few seconds and is no news. All threads are daemons.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

from race_watch.clock import monotonic_s
from race_watch.exporters.exchange import HEAD_BYTES, Request, Response, attend, shut
from race_watch.guard import Guard

if TYPE_CHECKING:
    from race_watch.exporters.access import Tls

# Connections at a time, TLS handshakes included; one more is told to come back.
CONNECTIONS = 16
# From the connection to the last byte of the request's head.
REQUEST_S = 5.0
# How often connections are looked at while there are any; with none the server sleeps.
_LOOK_MS = 250
# Connections that the kernel keeps until we take them: those beyond wait a second and more.
_WAITING = 256
_NO_MORE_FDS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_BUSY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Server:
    """Listens from the start; answers while a thread is in `serve`.

    Args:
        answer: Called in the connection's thread.
        failed: Told the type of an error that `answer` raised; its client gets 500.

    Raises:
        OSError: The address cannot be bound.
        OverflowError, ValueError: It is none.
    """

    def __init__(
        self, host: str, port: int, answer: Callable[[Request], Response], failed: Callable[[str], None], tls: Tls | None = None
    ) -> None:
        self.answer, self.failed = answer, failed
        self._tls = tls
        self._listening = _listen(host, port)
        self.port: int = self._listening.getsockname()[1]
        self._asleep, self._wake = socket.socketpair()
        self._lock = threading.Lock()
        # Connection -> when it is cut off.
        self._open: dict[socket.socket, float] = {}
        self._stopping = False
        self._ended_cpu_s = 0.0
        _follow_forks()
        _servers.add(self)

    @property
    def cpu_s(self) -> float:
        """What requests have cost, seconds of CPU; those that are running are not in it."""
        return self._ended_cpu_s

    def serve(self) -> None:
        """Accepts until `stop`; answers in a thread a connection."""
        poll = select.poll()
        poll.register(self._asleep, select.POLLIN)
        poll.register(self._listening, select.POLLIN)
        while not self._stopping:
            ready = poll.poll(_LOOK_MS if self._open else None)
            if self._stopping:
                break
            if any(fd == self._listening.fileno() for fd, _ in ready):
                self._accept()
            self._cut_off()
        self.close()

    def stop(self) -> None:
        """Ends `serve`, which closes; connections of the moment are cut."""
        self._stopping = True
        self._wake.close()
        self._cut_off(everyone=True)

    def close(self) -> None:
        """Frees the port."""
        self._listening.close()
        self._asleep.close()

    def forget(self) -> None:
        """In the child of a fork: lets go of the parent's sockets, and leaves them as they are."""
        for inherited in (self._listening, self._asleep, self._wake, *self._open):
            inherited.close()

    def extend(self, connection: socket.socket, by_s: float) -> None:
        """Gives a connection that has come to its next step that long from now."""
        with self._lock:
            if connection in self._open:
                self._open[connection] = monotonic_s() + by_s

    def _accept(self) -> None:
        try:
            connection, _ = self._listening.accept()
        except OSError as error:
            if error.errno in _NO_MORE_FDS and not self._stopping:
                # It would be ready again at once, for ever.
                select.select([self._asleep], [], [], _LOOK_MS / 1000)
            return
        try:
            connection.settimeout(None)  # the host may have set another default
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                full = len(self._open) >= CONNECTIONS
            if full:
                _turn_away(connection, told=self._tls is None)
                return
            if self._tls is not None:
                connection = self._tls.wrap(connection)
        except (OSError, ValueError):
            connection.close()
            return
        with self._lock:
            self._open[connection] = monotonic_s() + REQUEST_S
        try:
            threading.Thread(target=self._attend, args=(connection,), name="race_watch-http", daemon=True).start()
        except RuntimeError:  # no more threads
            self._close(connection)

    def _attend(self, connection: socket.socket) -> None:
        self.guarded(attend)(connection, self)
        with self._lock:
            self._ended_cpu_s += time.thread_time()
        self._close(connection)

    def guarded(self, body: Callable[..., object]) -> Callable[..., None]:
        """`body`, whose errors are told; never switched off, for what one request does must not be the next one's loss."""
        return Guard("http", lambda _, error, off: self.failed(error)).wrap(body)

    def _close(self, connection: socket.socket) -> None:
        # Under the lock: its number may be another one's next, which `_cut_off` must not hit.
        with self._lock:
            self._open.pop(connection, None)
            connection.close()

    def _cut_off(self, *, everyone: bool = False) -> None:
        now_s = monotonic_s()
        with self._lock:
            for connection, until_s in self._open.items():
                if everyone or now_s >= until_s:
                    shut(connection, socket.SHUT_RDWR)


_servers: weakref.WeakSet[Server] = weakref.WeakSet()
_follows_forks = False


def _follow_forks() -> None:
    """A child of a fork that kept our socket would keep the port when the worker has long ended."""
    global _follows_forks
    if not _follows_forks:
        _follows_forks = True  # it cannot be undone
        os.register_at_fork(after_in_child=_forget_all)


def _forget_all() -> None:
    for server in list(_servers):
        server.forget()
    _servers.clear()


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((address[0], port, *address[2:]))
        listening.listen(_WAITING)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening


def _turn_away(connection: socket.socket, *, told: bool) -> None:
    """Never waits: this is the thread that accepts."""
    connection.setblocking(False)
    try:
        if told:
            connection.send(_BUSY)
            # Closing on what was not read would take the answer back.
            connection.recv(HEAD_BYTES)
    except OSError:
        pass
    connection.close()
