"""The room that an access token is for: all that is known of a room while it connects.

Source: the `video.room` claim of LiveKit's access tokens, which are JWTs; the signature is the server's business.
"""

from __future__ import annotations

import base64
import json

# Far more than a token with grants and metadata has.
_TOKEN_MAX = 16_384


def token_room(token: str) -> str:
    """The name, empty where the text is no token or is for no room in particular."""
    parts = token.split(".")
    if len(parts) != 3 or len(token) > _TOKEN_MAX:
        return ""
    payload = parts[1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        name = claims["video"]["room"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return name if type(name) is str else ""
