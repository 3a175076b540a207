"""Calls back when a module has been imported, without importing it and without touching how it is imported.

One finder for all watched names. It lets the other finders find the module and shadows `exec_module` on that one loader
object for that one import, so the module's spec, loader type, resources and `-m` behave as ever. This file is imported at
interpreter start: only what every Python has loaded by then.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MARK = "_race_watch_post_import"
_SHADOW = "_race_watch_shadow"


class PostImport:
    """The finder. Callbacks run in the importing thread, under the import lock of their own module only, each once.

    Attributes:
        pid: The process that made it: another one that finds it here is a fork.
        failure: What a callback last raised; it never reaches the import.
    """

    def __init__(self) -> None:
        self._callbacks: dict[str, list[Callable[[Any], object]]] = {}
        self._finding: set[str] = set()
        self.pid = os.getpid()
        self.watching = False
        self.failure = ""
        self._traps: list[Callable[[], None]] | None = []

    def when_imported(self, name: str, callback: Callable[[Any], object]) -> None:
        """Calls `callback(module)` once `name` is imported; at once if it is already."""
        module = sys.modules.get(name)
        if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
            self.call(callback, module)
            return
        self._callbacks.setdefault(name, []).append(callback)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        """Import protocol. None for every name that nobody waits for."""
        if name not in self._callbacks or name in self._finding:
            return None
        # Another agent's finder may walk the finders as we do and come back here. No other thread can meanwhile: the import
        # system asks finders under its own lock.
        self._finding.add(name)
        try:
            for finder in list(sys.meta_path):
                find_spec = None if finder is self else getattr(finder, "find_spec", None)
                spec = find_spec(name, path, target) if find_spec is not None else None
                if spec is not None:
                    self._shadow(spec)
                    return spec
        finally:
            self._finding.discard(name)
        return None

    def _shadow(self, spec: Any) -> None:
        loader = spec.loader
        run = getattr(loader, "exec_module", None)
        # A frozen module's loader is a class: what is set there is set for every frozen module.
        if run is None or isinstance(loader, type) or hasattr(run, _SHADOW):
            return

        def exec_module(module: Any) -> None:
            # Not `spec.name`: the loader of a zip file is that of all its modules.
            name = getattr(getattr(module, "__spec__", None), "name", "")
            if name in self._callbacks:
                try:
                    del loader.exec_module
                except AttributeError:
                    pass
            run(module)
            self._imported(name, module)

        setattr(exec_module, _SHADOW, True)
        try:
            loader.exec_module = exec_module
        except (AttributeError, TypeError):
            return

    def _imported(self, name: str, module: Any) -> None:
        # A callback may register further ones for the module that is being imported.
        while name in self._callbacks:
            for callback in self._callbacks.pop(name):
                self.call(callback, module)
        if not self._callbacks:
            self.stop()

    def call(self, callback: Callable[..., object], *args: Any) -> None:
        """Calls it inside the host's own import or loop start; nothing of ours may end that."""
        try:
            callback(*args)
        except Exception as error:  # noqa: BLE001 - see above
            self.failure = repr(error)

    def set_trap(self, release: Callable[[], None]) -> None:
        """Keeps the way to take a trap away again; takes it away at once where we have armed meanwhile."""
        if self._traps is None:
            release()
        else:
            self._traps.append(release)

    def release_traps(self) -> None:
        """Takes the traps for the first loop away, those of loop classes that are yet to be imported too: we are arming."""
        traps, self._traps = self._traps, None
        for release in traps or ():
            release()

    def stop(self) -> None:
        """Waits for nothing any more."""
        self._callbacks.clear()
        if self in sys.meta_path:
            sys.meta_path.remove(self)


def finder() -> PostImport:
    """The process's one finder, also when race_watch was installed by two routes or copies."""
    modules: dict[str, Any] = sys.modules
    if MARK not in modules:
        modules[MARK] = PostImport()
    found: PostImport = modules[MARK]
    return found


def watch() -> None:
    """What the bootstrap calls: arms race_watch when `livekit` is imported or an event loop is made. Idempotent."""
    found = finder()
    if found.watching:
        return
    found.watching = True
    found.when_imported("asyncio.base_events", _loop_class_imported)
    found.when_imported("uvloop", _loop_class_imported)
    found.when_imported("livekit.rtc", _livekit_imported)


def _loop_class_imported(module: Any) -> None:
    """Sets the trap for the first loop: a class attribute that goes away when one has fired, or when we arm without it."""
    from functools import update_wrapper  # asyncio has imported it already

    loop_class = getattr(module, "BaseEventLoop", None) or module.Loop
    inherited = "__init__" not in vars(loop_class)
    make = loop_class.__init__
    sprung = False

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        ours = loop_class.__init__ is __init__
        if not sprung:
            finder().call(_arm)
        # Arming has put its own wrap where this one stood, unless somebody has wrapped this one: then it is theirs to call.
        (loop_class.__init__ if ours else make)(self, *args, **kwargs)

    def release() -> None:
        nonlocal sprung
        sprung = True
        if loop_class.__init__ is not __init__:
            return
        if inherited:
            del loop_class.__init__
        else:
            loop_class.__init__ = make

    loop_class.__init__ = update_wrapper(__init__, make)
    finder().set_trap(release)


def _livekit_imported(module: Any) -> None:
    _arm()


def _arm() -> None:
    finder().release_traps()
    from race_watch import auto

    auto.arm()
