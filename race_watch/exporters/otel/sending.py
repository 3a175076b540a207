"""What a sender promises: one body to one endpoint, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

DELIVERED, LATER, REFUSED = "delivered", "later", "refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """`fate` is DELIVERED, LATER (the same body may be sent again) or REFUSED. `reason` is for a person; no secrets in it."""

    fate: str
    reason: str = ""
    body: bytes = b""
    retry_after_s: float = 0.0


class Sender(Protocol):
    """Called by one thread."""

    def send(self, body: bytes, timeout_s: float) -> Answer:
        """Never raises for what a network, a server or a certificate can do."""

    def close(self) -> None:
        """Lets go of connections."""
