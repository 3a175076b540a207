"""Live native handles by what owns them: told at birth by the line of the SDK that makes one.

Source: `FfiHandle` of `livekit.rtc._ffi_client` (0.18 to 1.2.0): a handle is live from `__init__` until `dispose`, or
`mark_consumed` where the native side took it (1.1.21 on); handle 0 is not one. Who makes which: the files of `livekit.rtc` of
1.0.25, 1.1.2, 1.1.8, 1.1.11, 1.1.14, 1.1.21 and 1.2.0.
"""

from __future__ import annotations

import os
import sys
from types import CodeType, FrameType
from typing import Any
from weakref import ref

from race_watch.events import LIST_SEP, RoomHandleDropped
from race_watch.guard import Guard
from race_watch.hooks.patching import Patches
from race_watch.hooks.recorder import Recorder

NAME = "ffi_handles"
TARGET = "livekit.rtc"
SUPPORTED = "livekit 0.18 to 1.2"

KINDS = ("room", "participant", "publication", "track", "stream", "source", "buffer", "other")
_BY_KIND = LIST_SEP.join(f"{kind}=%d" for kind in KINDS)

# By the file that makes it. In `room.py` all but the room's own are buffers, which are dropped in the same line.
_BY_FILE = {
    "participant.py": "participant",
    "track_publication.py": "publication",
    "track.py": "track",
    "data_track.py": "track",
    "audio_stream.py": "stream",
    "video_stream.py": "stream",
    "data_stream.py": "stream",
    "audio_source.py": "source",
    "video_source.py": "source",
    "encoded_video.py": "source",
    "platform_audio.py": "source",
    "audio_frame.py": "buffer",
    "video_frame.py": "buffer",
    "room.py": "buffer",
    "_ffi_client.py": "buffer",
}
# Lines that make handles; beyond it, code made at run time, a line is looked at each time.
_MAKERS_KEPT = 256
_SDK = os.sep + os.path.join("livekit", "rtc") + os.sep


class FfiHandles:
    """The live handles of this process. Written wherever the SDK makes and drops one: any thread, finalizers too.

    Each step on the dictionary and the sets is a single one under the GIL, and a handle that is dropped twice or was made
    before we looked is not counted. They take 100 bytes a handle, which takes 500 itself.

    Attributes:
        known: False until the SDK is there to be counted.
        live: Handle -> the set of its kind, oldest first.
        kinds: Kind -> its live handles, in the order of KINDS.
        objects: Handle -> a weak reference to its object, where it is wanted to know who holds one; else None.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self.known = False
        self.live: dict[int, set[int]] = {}
        self.kinds: dict[str, set[int]] = {kind: set() for kind in KINDS}
        self._sets = tuple(self.kinds.values())
        self.objects: dict[int, ref[Any]] | None = None
        # By address, and kept alive: code objects of different files are equal where their lines are.
        self._makers: dict[int, tuple[CodeType, set[int]]] = {}
        self._rooms: dict[int, int] = {}

    def made(self, owned: Any, maker: FrameType) -> None:
        """`maker` is the frame that calls `FfiHandle`: whoever runs there owns the handle."""
        handle = owned.handle
        if not handle:
            return
        code = maker.f_code
        known = self._makers.get(id(code))
        if known is None:
            known = code, self.kinds[_kind(maker)]
            if len(self._makers) < _MAKERS_KEPT:
                self._makers[id(code)] = known
        kind = known[1]
        self.live[handle] = kind
        kind.add(handle)
        if self.objects is not None:
            self.objects[handle] = ref(owned)

    def dropped(self, owned: Any, _: None) -> None:
        # Without a handle where __init__ never ran: `__del__` comes here all the same.
        handle = getattr(owned, "handle", 0)
        kind = self.live.pop(handle, None)
        if kind is None:
            return
        kind.discard(handle)
        if self.objects is not None:
            self.objects.pop(handle, None)
        if handle in self._rooms:
            self._recorder.state(RoomHandleDropped, self._rooms.pop(handle))

    def of_room(self, handle: int, number: int) -> None:
        """Remembers whose handle that is, until it is dropped."""
        if handle in self.live:
            self._rooms[handle] = number

    def by_kind(self) -> str:
        """`kind=count` of all kinds, as an event's field; empty without the SDK."""
        return _BY_KIND % tuple(map(len, self._sets)) if self.known else ""

    def forked(self) -> None:
        """In a fork's child, which has none of its parent's native objects."""
        for of_parent in (self.live, self._rooms, self.objects, *self.kinds.values()):
            if of_parent:
                of_parent.clear()


def _kind(frame: FrameType) -> str:
    code = frame.f_code
    folder, _, file = code.co_filename.rpartition(_SDK)
    if not folder:
        return "other"
    if file == "room.py" and code.co_name == "connect":
        return "room"
    if file == "data_track.py" and type(frame.f_locals.get("self")).__name__.endswith("Stream"):
        return "stream"
    return _BY_FILE.get(file, "other")


def install(context: Any, module: Any, patches: Patches, guard: Guard) -> None:
    """Counts native handles as they are made and dropped."""
    from livekit.rtc import _ffi_client

    handles: FfiHandles = context.resources.handles
    made, dropped = guard.wrap_two(handles.made), guard.wrap_two(handles.dropped)
    get_frame = sys._getframe

    def wrap_init(original: Any) -> Any:
        def __init__(self: Any, handle: int) -> None:  # noqa: N807
            original(self, handle)
            made(self, get_frame(1))

        return __init__

    def wrap_end(original: Any) -> Any:
        def end(self: Any) -> None:
            dropped(self, None)
            original(self)

        return end

    patches.replace(_ffi_client.FfiHandle, "__init__", wrap_init)
    patches.replace(_ffi_client.FfiHandle, "dispose", wrap_end)
    if hasattr(_ffi_client.FfiHandle, "mark_consumed"):
        patches.replace(_ffi_client.FfiHandle, "mark_consumed", wrap_end)
    for owned in list(getattr(_ffi_client, "_live_handles", ())):
        if owned.handle and not owned._disposed:
            handles.live[owned.handle] = handles.kinds["other"]
            handles.kinds["other"].add(owned.handle)
    handles.known = True
