"""Writes what is generated; with --check only says whether it is up to date."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import fields
from pathlib import Path

from deploy.generate import known_races, lint, own_alerts, recording, rules, runbooks, worker_alerts
from deploy.generate.boards import fleet, itself, race, worker
from deploy.generate.options import Options

ROOT = Path(__file__).parents[2]
# Every page there is generated.
RACES = Path("docs", "runbooks", "races")
BOARDS = {"fleet": fleet, "worker": worker, "race": race, "race_watch": itself}


def files(options: Options) -> dict[str, str]:
    """Path in the repository -> content."""
    groups = (*recording.GROUPS, *known_races.GROUPS, worker_alerts.group(options), own_alerts.group(options))
    boards = {name: module.board(options) for name, module in BOARDS.items()}
    return {
        **{f"dashboards/{name}.json": json.dumps(board, indent=2, ensure_ascii=False) + "\n" for name, board in boards.items()},
        "dashboards/.lint": rules.HEADER + lint.exceptions(boards),
        **{f"docs/runbooks/{name}": content for name, content in runbooks.pages(groups).items()},
        "deploy/prometheus/rules.yml": rules.plain(groups, options),
        "deploy/prometheus/prometheusrule.yml": rules.resource(groups, options),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m deploy.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a file differs")
    parser.add_argument("--out", type=Path, default=ROOT, metavar="DIR", help="where to write [this repository]")
    for option in fields(Options):
        kind = type(option.default)
        name = "--" + option.name.replace("_", "-")
        parser.add_argument(name, type=kind, default=option.default, help=f"{option.metadata['what']} [%(default)s]")
    args = parser.parse_args()
    made = files(Options(**{option.name: getattr(args, option.name) for option in fields(Options)}))
    out: Path = args.out
    left = [str(path.relative_to(out)) for path in sorted((out / RACES).glob("*.md")) if str(path.relative_to(out)) not in made]
    if args.check:
        return _check(out, made, left)
    for path, content in made.items():
        target = out / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content, encoding="utf-8")
    for path in left:
        (out / path).unlink()
    return 0


def _check(out: Path, made: dict[str, str], left: list[str]) -> int:
    differing = [
        path for path, content in made.items() if not (out / path).exists() or (out / path).read_text("utf-8") != content
    ]
    for path in (*differing, *left):
        print(f"{path} is not what deploy/generate makes; run `make dashboards`", file=sys.stderr)
    return 1 if differing or left else 0


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


if __name__ == "__main__":
    sys.exit(main())
