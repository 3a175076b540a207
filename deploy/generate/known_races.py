"""Recording rules that join the versions in the field with the signature catalogue.

The catalogue is in the rules and not in the workers' series: what becomes known of a version today is told of workers that were
installed last year.
"""

from __future__ import annotations

from deploy.generate.rules import Group, Record
from deploy.generate.versions import matchers
from race_watch.incidents import UNCLASSIFIED
from race_watch.signatures import SIGNATURES
from race_watch.signatures.record import Form, Signature

INFO = "signature:race_watch_known_race:info"
WORKERS = "job_sdk:race_watch_workers:count"
AFFECTED = "job_signature:race_watch_affected_workers:count"
REGRESSIONS = "job_signature:race_watch_regressions:rate15m"
# How long a worker must have been without an older version before an incident counts as a regression of the newer one.
_ALONE = "30m"
LABELS = {"livekit": "livekit", "livekit-agents": "livekit_agents"}


def upstream_url(reference: str) -> str:
    """The page of a reference like livekit/python-sdks#681; GitHub leads on from an issue's address to a pull request's."""
    repository, _, number = reference.partition("#")
    return f"https://github.com/{repository}/issues/{number}" if reference else ""


def component(signature: Signature) -> str:
    """The place in LiveKit that the race is known by; "" where it is known by something else."""
    places = {form.match.innermost or (form.match.frames[0] if form.match.frames else "") for form in signature.forms}
    return ", ".join(sorted(place for place in places if place))


def fixed_in(signature: Signature) -> str:
    """The first version without the race, "" where every version has it in some form that does harm."""
    return next((form.fixed_in for form in signature.forms if form.fixed_in), "")


def _info(signature: Signature) -> Record:
    labels = {
        "signature": signature.id,
        "title": signature.title,
        "package": signature.package,
        "fixed_in": fixed_in(signature),
        "upstream": signature.upstream,
        "upstream_url": upstream_url(signature.upstream),
        "component": component(signature),
    }
    return Record(INFO, "vector(1)", {name: value for name, value in labels.items() if value})


def _workers(package: str, label: str) -> Record:
    builds = f'label_replace(race_watch_build_info{{{label}!=""}}, "sdk_version", "$1", "{label}", "(.+)")'
    return Record(
        WORKERS,
        f"count by (<job>, sdk_version) (group by (<worker>, sdk_version) ({builds}))",
        {"package": package},
    )


def _affected(signature: Signature) -> list[Record]:
    """One rule for what each fix ends, and one for what no release fixes; harmless forms are not looked for."""
    rules = []
    harmful = [form for form in signature.forms if form.verdict != "benign"]
    for fix in dict.fromkeys(form.fixed_in or "" for form in harmful):
        bounds = dict.fromkeys(matchers(form.affected, "sdk_version") for form in harmful if (form.fixed_in or "") == fix)
        selected = [", ".join(filter(None, (f'package="{signature.package}"', bound))) for bound in bounds]
        labels = {"signature": signature.id, **({"fixed_in": fix} if fix else {})}
        rules.append(Record(AFFECTED, "\nor\n".join(f"{WORKERS}{{{matching}}}" for matching in selected), labels))
    return rules


def _regressions(signature: Signature) -> list[Record]:
    """One rule for each (category, verdict) of which every form is fixed, by the latest fix."""
    rules = []
    by_key: dict[tuple[str, str], list[Form]] = {}
    for form in signature.forms:
        by_key.setdefault((form.category, form.verdict), []).append(form)
    for (category, verdict), forms in by_key.items():
        fixes = {form.fixed_in for form in forms}
        # Two fixes of one form would have to be told apart by version; the catalogue has no such race.
        if len(fixes) != 1 or None in fixes:
            continue
        fix = str(fixes.pop())
        label = LABELS[signature.package]
        labels = f'category="{category}", verdict="{verdict}", signature="{signature.id}"'
        expr = f"""
        sum by (<job>) (
          (sum by (<worker>) (rate(race_watch_incidents_total{{{labels}}}[15m])) > 0)
            and on (<worker>) race_watch_build_info{{{matchers(f">={fix}", label)}}}
            unless on (<worker>) count_over_time(race_watch_build_info{{{matchers(f"<{fix}", label)}}}[{_ALONE}])
        )
        """
        told = {
            "category": category,
            "verdict": verdict,
            "signature": signature.id,
            "package": signature.package,
            "fixed_in": fix,
        }
        rules.append(Record(REGRESSIONS, expr, told))
    return rules


GROUPS = (
    Group(
        "known_races",
        (
            *(_info(signature) for signature in SIGNATURES),
            # So that a join with the catalogue loses nothing.
            Record(INFO, "vector(1)", {"signature": UNCLASSIFIED, "title": "no known race explains it"}),
            *(_workers(package, label) for package, label in LABELS.items()),
            *(rule for signature in SIGNATURES for rule in _affected(signature)),
        ),
    ),
    Group("regressions", tuple(rule for signature in SIGNATURES for rule in _regressions(signature))),
)
