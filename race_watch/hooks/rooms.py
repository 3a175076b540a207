"""The rooms of this process, by small numbers, and what is going on right now: what facts are attributed to.

Rooms are held weakly. Everything here is read on failure paths and written at lifecycle edges; the only thing that hot
paths touch is `dispatching`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextvars import ContextVar
from threading import get_ident
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet, ref

NO_TASK = ("", "", "", "")


class Where(NamedTuple):
    """What an exception happened in, as far as it is known. `task` is (key, name, coroutine, created at)."""

    room: int = 0
    event: str = ""
    identity: str = ""
    track_sid: str = ""
    request: str = ""
    task: tuple[str, str, str, str] = NO_TASK
    logger: str = ""
    template: str = ""


_OUTSIDE = (0, "", "", "", "")


class Dispatch:
    """The room event that this thread is dispatching; `room` is 0 outside of one, `event` empty for one of no interest.

    Attributes:
        now: Thread -> room, event, identity, sid and what the SDK's registry does not hold for it. A plain dictionary: that it
            is empty, which is what each new task asks for, is known in 10 ns, where a `threading.local` takes 50.
    """

    def __init__(self) -> None:
        self.now: dict[int, tuple[int, str, str, str, str]] = {}

    @property
    def room(self) -> int:
        return self.now.get(get_ident(), _OUTSIDE)[0]

    @room.setter
    def room(self, room: int) -> None:
        if room:
            self.now[get_ident()] = (room, *_OUTSIDE[1:])
        else:
            self.now.pop(get_ident(), None)

    @property
    def event(self) -> str:
        return self.now.get(get_ident(), _OUTSIDE)[1]

    @property
    def identity(self) -> str:
        return self.now.get(get_ident(), _OUTSIDE)[2]

    @property
    def sid(self) -> str:
        return self.now.get(get_ident(), _OUTSIDE)[3]


class Tally:
    """Totals since the process began, as `ResourcesSampled` has them. Written in the threads of loops, at lifecycle edges."""

    __slots__ = ("connects", "connects_cancelled", "participants_departed", "rooms_ended", "server_leaves")

    def __init__(self) -> None:
        self.connects = 0
        self.connects_cancelled = 0
        self.rooms_ended = 0
        self.participants_departed = 0
        self.server_leaves = 0


_SEVERAL = -1
# The room that this task, or the one it was started by, has connected; _SEVERAL where it has connected more at a time.
_joined: ContextVar[int] = ContextVar("race_watch_room", default=0)


class Rooms:
    """Numbers for `livekit.rtc.Room` objects, from 1, and the rooms that are connected now."""

    def __init__(self) -> None:
        self.dispatch = Dispatch()
        self.tally = Tally()
        self._next = itertools.count(1).__next__
        self._count = 0
        # The room that was last asked for: nearly always the one that is asked for next, and 60 ns nearer.
        self._last: tuple[ref[Any] | None, int] = (None, 0)
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._connected: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        self._leaving: WeakSet[Any] = WeakSet()

    def number(self, room: Any) -> int:
        """The room's number; given on first sight."""
        last, number = self._last
        if last is not None and last() is room:
            return number
        found = self._numbers.get(room)
        if found is None:
            self._count = found = self._numbers[room] = self._next()
        self._last = (ref(room), found)
        return found

    def connected(self, room: Any) -> int:
        """Called in the context of the task that connected the room; tasks that it starts from now on inherit that."""
        before = _joined.get()
        number = self._connected[room] = self.number(room)
        others = [known for _, known in _copied(self._connected) if known == before and known != number]
        _joined.set(_SEVERAL if others or before == _SEVERAL else number)
        return number

    def leaves(self, room: Any, *, leaving: bool) -> None:
        """The application has begun to disconnect the room, or has not got to the end of it."""
        (self._leaving.add if leaving else self._leaving.discard)(room)

    def disconnected(self, room: Any) -> None:
        """Whichever comes first counts: the event, or the end of the application's call."""
        if self._connected.pop(room, None) is None:
            return
        self.tally.rooms_ended += 1
        self.tally.participants_departed += len(room._remote_participants)
        if room not in self._leaving:
            self.tally.server_leaves += 1

    def departed(self, room: Any) -> None:
        """A remote participant has left the room. Those who are still in it when it ends leave with it."""
        if room in self._connected:
            self.tally.participants_departed += 1

    def live(self) -> list[Any]:
        """The connected rooms."""
        return _alive(self._connected)

    def connected_now(self) -> list[tuple[Callable[[], Any], int]]:
        """The connected rooms as weak references, with their numbers."""
        return _copied(self._connected)

    def forked(self) -> None:
        """In a fork's child, which has connected none of its parent's rooms."""
        self.tally = Tally()
        self._connected.clear()
        self._leaving.clear()

    def of_handle(self, handle: int) -> int:
        """The room that a native handle is of: its own, its local participant's, or a track's that it knows; else 0."""
        if not handle:
            return 0
        for room in _alive(self._numbers):
            own = (
                getattr(room, "_ffi_handle", None),
                getattr(getattr(room, "_local_participant", None), "_ffi_handle", None),
            )
            if any(h is not None and h.handle == handle for h in own):
                return self.number(room)
            if any(_handle_of(publication) == handle for publication in _publications(room)):
                return self.number(room)
        return 0

    def of_track(self, sid: str) -> int:
        """The room whose registry holds a publication of that sid; else 0."""
        for room in self.live():
            if any(publication.sid == sid for publication in _publications(room)):
                return self.number(room)
        return 0

    def joined(self) -> int:
        """The room that the running task, or the one it was started by, has connected; 0 if none or several."""
        number = _joined.get()
        return number if number > 0 else 0  # `max` would take 100 ns more of each watched task

    def around(self) -> int:
        """The room that the running code belongs to: by its dispatch, by its task, or because it is the only one; else 0."""
        return self.dispatch.room or self.joined() or self.only()

    def only(self) -> int:
        """The room, where only one is connected or this process has never had another (a livekit job); else 0."""
        live = self.live()
        if len(live) == 1:
            return self.number(live[0])
        return 1 if self._count == 1 else 0


def _alive(rooms: WeakKeyDictionary[Any, int]) -> list[Any]:
    """The keys, of a copy made in one step: other threads connect rooms and the collector takes some while we look."""
    return [room for reference, _ in _copied(rooms) if (room := reference()) is not None]


def _copied(rooms: WeakKeyDictionary[Any, int]) -> list[tuple[Callable[[], Any], int]]:
    entries: dict[Callable[[], Any], int] = rooms.data.copy()  # type: ignore[attr-defined] # not in typeshed; 3.10 to 3.14
    return list(entries.items())


def _publications(room: Any) -> list[Any]:
    participants = [room._local_participant, *room._remote_participants.copy().values()]
    return [p for owner in participants if owner is not None for p in owner._track_publications.copy().values()]


def _handle_of(publication: Any) -> int:
    track = getattr(publication, "_track", None)
    handle = getattr(track, "_ffi_handle", None)
    return int(handle.handle) if handle is not None else 0
