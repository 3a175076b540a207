"""LiveKit access tokens.

Standard library only: the scenario scripts load this file by path, in environments that hold nothing but a LiveKit
wheel.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

DEV_KEY = "devkey"
DEV_SECRET = "secret"
VALID_FOR_S = 6 * 3600
CLOCK_SKEW_S = 60


def token(room: str, identity: str, key: str = DEV_KEY, secret: str = DEV_SECRET) -> str:
    """An HS256 access token to join `room`; with the default key `livekit-server --dev` accepts it too."""
    now = int(time.time())
    claims = {
        "iss": key,
        "sub": identity,
        "name": identity,
        "nbf": now - CLOCK_SKEW_S,
        "exp": now + VALID_FOR_S,
        "video": {"roomJoin": True, "room": room, "canPublish": True, "canSubscribe": True, "canPublishData": True},
    }
    signed = f"{_part({'alg': 'HS256', 'typ': 'JWT'})}.{_part(claims)}"
    return f"{signed}.{_b64(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def claims_of(access_token: str) -> tuple[str, str]:
    """(room, identity) of an access token, whose signature is not checked.

    Raises:
        ValueError: the text is no access token, or it names no room or no identity.
    """
    try:
        payload = access_token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        room, identity = claims["video"]["room"], claims["sub"]
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"not an access token with a room and an identity: {error!r}") from None
    if not (isinstance(room, str) and isinstance(identity, str) and room and identity):
        raise ValueError("not an access token with a room and an identity: empty claim")
    return room, identity


def _part(value: dict[str, Any]) -> str:
    return _b64(json.dumps(value, separators=(",", ":")).encode())


def _b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
