"""A real livekit-server on loopback, for what the scripted SFU cannot do: agent dispatch, media, server actions."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

LOOPBACK = "127.0.0.1"
START_TIMEOUT_S = 20.0
START_ATTEMPTS = 3
BINARY_ENV = "RACE_WATCH_LIVEKIT_SERVER"
CACHED_BINARY = Path(__file__).resolve().parents[2] / ".cache" / "bin" / "livekit-server"
HOW_TO_GET = f"no livekit-server: run `make livekit-server`, or name a binary in {BINARY_ENV}"


class ServerStartError(RuntimeError):
    """The binary is missing, or did not answer; carries the end of its log."""


def find_server() -> Path | None:
    """The binary to run: the environment's, else the project's cache, else the one on PATH."""
    named = os.environ.get(BINARY_ENV)
    if named:
        path = Path(named)
        return path if os.access(path, os.X_OK) else None
    if os.access(CACHED_BINARY, os.X_OK):
        return CACHED_BINARY
    on_path = shutil.which("livekit-server")
    return Path(on_path) if on_path else None


class LiveKitServer:
    """Context manager. One server is one process; any number can run side by side."""

    # What `--dev` sets when it is given no keys.
    api_key = "devkey"
    api_secret = "secret"

    def __init__(self, binary: Path | None = None) -> None:
        self._binary = binary or find_server()
        self._process: subprocess.Popen[bytes] | None = None
        self._dir: tempfile.TemporaryDirectory[str] | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"ws://{LOOPBACK}:{self._port}"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def log_text(self) -> str:
        """All that the server wrote so far; empty once it has been closed."""
        if self._dir is None:
            return ""
        return (Path(self._dir.name) / "log").read_text(errors="replace")

    def __enter__(self) -> LiveKitServer:
        if self._binary is None:
            raise ServerStartError(HOW_TO_GET)
        self._dir = tempfile.TemporaryDirectory(prefix="livekit-server-")
        # A port that was free when we asked can be taken before the server binds it, so try again with others.
        for _ in range(START_ATTEMPTS):
            self._start(self._binary)
            if self._answers():
                return self
            self._kill()
        tail = "\n".join(self.log_text().splitlines()[-20:])
        self._close()
        raise ServerStartError(f"livekit-server did not answer on {LOOPBACK}; its log ends:\n{tail}")

    def __exit__(self, *exc: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._kill()
        self._close()

    def _start(self, binary: Path) -> None:
        assert self._dir is not None
        self._port = _free_port(socket.SOCK_STREAM)
        # ICE over TCP listens on every interface whatever `--bind` says, so it is off; one UDP port carries all media.
        config = {
            "port": self._port,
            "rtc": {
                "tcp_port": 0,
                "udp_port": _free_port(socket.SOCK_DGRAM),
                "use_external_ip": False,
                "enable_loopback_candidate": True,
                "interfaces": {"includes": ["lo"]},
            },
            "logging": {"level": "info"},
        }
        command = [str(binary), "--dev", "--bind", LOOPBACK, "--node-ip", LOOPBACK, "--config-body", json.dumps(config)]
        with (Path(self._dir.name) / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Every server flag has an environment twin (LIVEKIT_*, UDP_PORT, ...): none of the caller's leak in.
                env={"PATH": os.environ.get("PATH", ""), "HOME": self._dir.name},
            )

    def _answers(self) -> bool:
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._process.poll() is None:
            # http.client knows no proxy settings, which is what loopback needs.
            connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=1)
            try:
                connection.request("GET", "/")
                if connection.getresponse().status == 200:
                    return True
            except (OSError, http.client.HTTPException):
                pass
            finally:
                connection.close()
            time.sleep(0.05)
        return False

    def _kill(self) -> None:
        # SIGTERM would wait for every participant to leave; there is no state worth that.
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _close(self) -> None:
        if self._dir is not None:
            self._dir.cleanup()
            self._dir = None


def _free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port
