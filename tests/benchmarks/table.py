"""The table, a line as soon as its row is measured."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.row import Compare, Round, Row, spread

COLUMNS = (("row", 19), ("what", 41), ("bare", 10), ("watched", 10), ("cost", 10), ("middle half", 19), ("budget", 12), ("", 6))


def header() -> str:
    return _line([name for name, _ in COLUMNS])


def line(row: Row, rounds: Sequence[Round]) -> str:
    """`what` is measured, medians of both, the cost with its quartiles over the rounds, the budget and the verdict."""
    cost = spread([row.cost(pair) for pair in rounds])
    bare = [pair.bare for pair in rounds if pair.bare is not None]
    watched = spread([pair.watched for pair in rounds]).median
    return _line(
        [
            row.name,
            row.what,
            _number(spread(bare).median, row.unit) if bare else "-",
            _number(watched, row.unit),
            _cost(row, cost.median),
            f"{_cost(row, cost.low)} to {_cost(row, cost.high)}",
            f"<= {_cost(row, row.budget)}" if row.budget is not None else "-",
            "" if row.budget is None else "within" if cost.median <= row.budget else "OVER",
        ]
    )


def instead(row: Row, why: str) -> str:
    """The line of a row that has no numbers."""
    return f"{row.name:19}  {row.what:41}  {why}"


def _line(cells: Sequence[str]) -> str:
    return "  ".join(cell.ljust(width) for cell, (_, width) in zip(cells, COLUMNS, strict=True)).rstrip()


def _cost(row: Row, value: float) -> str:
    if row.compare is Compare.RATIO:
        return f"{value:.3f}x"
    return ("+" if row.compare is Compare.DIFFERENCE and value >= 0 else "") + _number(value, row.unit)


def _number(value: float, unit: str) -> str:
    if unit == "us":
        return f"{value:.2f} us"
    return f"{value:.1f} {unit}" if unit in ("ms", "MiB") else f"{value:.0f}"
