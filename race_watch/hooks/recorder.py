"""What every hook writes to: the journal of this process, whichever that is now, and the text rules for what goes in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from race_watch.events import Event, HookStruck, clean
from race_watch.guard import Guard
from race_watch.journal import layout
from race_watch.journal.writer import Emit, nothing
from race_watch.scrub import scrub

_KNOWN_IDENTITIES = 1024
# Shorter ones stand in too many words to be taken out of a text.
_IDENTITY_CHARS = 3


class Recorder:
    """The hooks' way into the journal. Called from any thread of the host, in finalizers and native callbacks too.

    Attributes:
        emit: `emit(code, body)` of the current journal; does nothing while there is none.
        count: `count(index)` of the current journal.
        nonce: Of the current journal, as hex; facts are named after it.
    """

    def __init__(self) -> None:
        self.emit: Emit = nothing
        self.count: Callable[[int], None] = nothing
        self.nonce = ""
        self._key = b""
        self._plain = False
        # Two generations: a process that sees many participants forgets old ones, never all of them at once.
        self._identities: dict[str, str] = {}
        self._older: dict[str, str] = {}

    def attach(self, emit: Emit, count: Callable[[int], None], nonce: str, key: bytes, *, plain: bool) -> None:
        """Points the hooks to a journal. `key` is the run directory's; `plain` keeps identities as they are."""
        self.emit, self.count, self.nonce = emit, count, nonce
        self._key, self._plain = key, plain
        self._identities, self._older = {}, {}

    def detach(self) -> None:
        self.emit = self.count = nothing

    def state(self, event: type[Event], *values: object) -> None:
        """Writes one event, its fields in order. Free text must have been through `clean`."""
        self.emit(event.code, event.body(*values))

    def guard(self, hook: str) -> Guard:
        """A guard whose strikes are stated."""
        return Guard(hook, self.struck)

    def struck(self, hook: str, error: str, off: bool) -> None:
        """States a strike. May raise where the journal was closed under us: there is nobody to tell."""
        self.count(layout.COUNTER_INDEX["hook_errors"])
        self.state(HookStruck, hook, error, int(off))

    def identity(self, identity: str) -> str:
        """A participant identity as it may leave the process. The same in all processes of a worker."""
        if not identity:
            return ""
        known = self._identities.get(identity)
        if known is None:
            if self._plain:
                known = clean(identity)[:128]
            else:
                known = "id:" + hashlib.blake2b(identity.encode("utf-8", "replace"), digest_size=6, key=self._key).hexdigest()
            if len(self._identities) >= _KNOWN_IDENTITIES:
                self._older, self._identities = self._identities, {}
            self._identities[identity] = known
        return known

    def scrub(self, text: str) -> str:
        """Free text without tokens, keys, phone numbers, e-mail addresses, and participants this process has seen."""
        known = self._older | self._identities
        # Longest first: one identity can be the start of another.
        for plain in sorted((p for p in known if len(p) >= _IDENTITY_CHARS and p in text), key=len, reverse=True):
            text = text.replace(plain, known[plain])
        return scrub(text)
