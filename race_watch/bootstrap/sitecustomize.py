"""race_watch's way in: `PYTHONPATH=$(race-watch bootstrap)`. Runs in every Python below; keep it valid for Python 2.7.

It gives way to the next `sitecustomize`, leaves no trace on sys.path, prints nothing, and loads race_watch by its own path, so
that nothing else of the environment it is installed in becomes importable here.
"""
import os
import sys


def _start():
    if sys.version_info < (3, 10) or os.environ.get("RACE_WATCH", "").strip().lower() in ("0", "false", "no", "off"):
        return
    if "race_watch" not in sys.modules:
        # Always loaded, whereas importlib.util would bring twenty modules along.
        from _frozen_importlib import module_from_spec
        from _frozen_importlib_external import spec_from_file_location

        home = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        spec = spec_from_file_location(
            "race_watch", os.path.join(home, "__init__.py"), submodule_search_locations=[home]
        )
        module = sys.modules["race_watch"] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            sys.modules.pop("race_watch", None)
            raise
    from race_watch import post_import

    post_import.watch()


def _resolved(path):
    try:
        return os.path.normcase(os.path.realpath(path))
    except (OSError, ValueError):  # relative, and the working directory is gone
        return path


def _give_way():
    """Removes our directory from sys.path and imports the `sitecustomize` that would have run without us.

    What that module raises is its own affair and goes to `site` as it would have. Our directory stays off the path while it
    runs: it may be another agent that looks for the next one in turn, and would find us again.
    """
    here = _resolved(os.path.dirname(__file__))
    sys.path[:] = [p for p in sys.path if not p or _resolved(p) != here]
    ours = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize
    except ImportError as error:
        # Not there: as if we had not been either. One that is there and fails to import something is not our business.
        if getattr(error, "name", "sitecustomize") != "sitecustomize" or "sitecustomize" not in str(error):
            raise
        if ours is not None:
            sys.modules["sitecustomize"] = ours


try:
    _start()
except BaseException:  # SystemExit here would end the host before its first line
    if os.environ.get("RACE_WATCH_DEBUG", "0") not in ("", "0"):
        import traceback

        traceback.print_exc()
_give_way()
