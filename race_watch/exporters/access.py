"""Who may read: a bearer token and a certificate, each in a file that may be renewed while we run."""

from __future__ import annotations

import hmac
import os
import socket
import ssl
from email.message import Message

from race_watch.settings import Settings, SettingsError

_TOKEN_BYTES = 4096


class Token:
    """The bearer token in a file, white space around it left out.

    Raises:
        SettingsError: The file cannot be read or has no token in it.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        try:
            self._token = self._read()
        except OSError as error:
            raise SettingsError(f"no metrics: cannot read the token in {path}: {error.strerror or error}") from None
        if not self._token:
            raise SettingsError(f"no metrics: no token in {path}")

    def _read(self) -> bytes:
        with open(self._path, "rb") as file:
            return file.read(_TOKEN_BYTES).strip()

    def is_in(self, headers: Message) -> bool:
        """Whether a request has it. The file is read for each one, so that a renewed token counts at once."""
        try:
            # Between two versions of a file there may be none, or an empty one: then the old token stands.
            self._token = self._read() or self._token
        except OSError:
            pass
        scheme, _, given = headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("utf-8", "surrogateescape"), self._token)
        return known and scheme.lower() == "bearer"


class Tls:
    """A certificate chain and its key, PEM.

    Raises:
        SettingsError: They cannot be used.
    """

    def __init__(self, cert: str, key: str) -> None:
        self._files = cert, key
        try:
            self._stamp = self._stamps()
            self._context = self._load()
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"no metrics: cannot use the certificate {cert} with the key {key}: {reason}") from None

    def _stamps(self) -> tuple[tuple[int, int], ...]:
        return tuple((found.st_mtime_ns, found.st_ino) for found in map(os.stat, self._files))

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # An encrypted key must fail, not ask at the worker's terminal.
        context.load_cert_chain(*self._files, password="")
        return context

    def wrap(self, connection: socket.socket) -> ssl.SSLSocket:
        """The connection, before its handshake. Renewed files are in force from here on; bad ones are left aside."""
        try:
            stamp = self._stamps()
            if stamp != self._stamp:
                self._context, self._stamp = self._load(), stamp
        except (OSError, ValueError):
            pass
        return self._context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)


def of(settings: Settings) -> tuple[Token | None, Tls | None]:
    """What the settings ask for.

    Raises:
        SettingsError: It cannot be had. Then nothing is served: an open endpoint is not what was asked for.
    """
    cert, key = settings.metrics_tls_cert, settings.metrics_tls_key
    if bool(cert) != bool(key):
        missing, given = ("--metrics-tls-key", "--metrics-tls-cert") if cert else ("--metrics-tls-cert", "--metrics-tls-key")
        raise SettingsError(f"no metrics: {given} is given without {missing}")
    token = Token(settings.metrics_token_file) if settings.metrics_token_file else None
    return token, Tls(cert, key) if cert else None
