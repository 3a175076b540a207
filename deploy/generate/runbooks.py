"""Runbook pages that are generated: one for each known race, and the list of all pages. Those of alerts are written by hand."""

from __future__ import annotations

from deploy.generate.known_races import AFFECTED, REGRESSIONS, upstream_url
from deploy.generate.recording import total
from deploy.generate.rules import Alert, Group
from race_watch.signatures import SIGNATURES
from race_watch.signatures.record import Form, Match, Signature

# What an incident of a category costs whoever is in the room.
IMPACT = {
    "registry_race": "The SDK raises while it dispatches the event, and loses it: no callback runs for it, the room goes on.",
    "lost_event": "The SDK drops the event without a word: no callback runs for it, the room goes on.",
    "callback_error": "What the callback had left to do for the event is not done; the room goes on.",
    "task_exception_lost": "The task ended early and nobody knows: what it was to do is not done.",
    "orphan_task": "A task, its event subscription and what it holds stay until the process ends.",
    "task_leak": "The task and what it holds stay until the process ends, or it is destroyed in the middle of its work.",
    "use_before_connect": "The call raises in the application, as a rule before the session has begun: the job fails.",
    "use_after_dispose": "The call raises in the application, in a room or track that is ending anyway.",
    "double_resolve": "The SDK resolves one future twice and loses the event that came second; the room goes on.",
    "closed_loop_call": "What a native thread wanted to tell is not told; harmless at the end of a process, a loss before.",
    "hang": "The wait never ends: the call is up and nobody answers in it.",
    "deaf_room": "The room is connected and gets no more events: the call is up and nobody answers in it.",
    "handle_leak": "Native memory grows until the process ends.",
    "fd_leak": "Descriptors grow until the process has as many as it may: then every new connection fails.",
    "thread_leak": "Threads and their memory grow until the process ends, or may start no more.",
    "subscription_leak": "Every native event is handed to queues that nobody reads: memory and time for each event grow.",
    "native_abort": "The process ends with all the rooms that it holds; nothing in it can be saved.",
    "fork_misuse": "Two processes use one native library's state: requests hang, or reach the wrong one.",
    "order_inversion": "None by itself: two things happened in the order that harms when the timing is worse.",
    "process_killed": "The process ends with all the rooms that it holds, though it was meant to go on or to drain.",
}
_VERDICTS = {
    "sdk": "LiveKit's",
    "app": "the application's",
    "native": "LiveKit's native library's",
    "benign": "nobody's, it does no harm",
    "unknown": "not known",
}
_NOTE = "Generated from the signature catalogue by `make dashboards`.\n"


def pages(groups: tuple[Group, ...]) -> dict[str, str]:
    """Path below docs/runbooks -> page."""
    return {"README.md": _contents(groups), **{f"races/{signature.id}.md": _race(signature) for signature in SIGNATURES}}


def _contents(groups: tuple[Group, ...]) -> str:
    parts = [
        "# Runbooks",
        "",
        _NOTE,
        "Queries are written to be pasted as they are: they run on the metrics of race_watch and on its recording rules "
        "([rules.yml](../../deploy/prometheus/rules.yml)).",
        "",
        "critical wakes somebody, warning is a ticket, info is to be read some day.",
    ]
    for title, about in (("Alerts about the workers", "workers"), ("Alerts about race_watch itself", "race_watch")):
        alerts = [rule for group in groups if group.about == about for rule in group.rules if isinstance(rule, Alert)]
        parts += ["", f"## {title}", "", "| alert | severity | what |", "|---|---|---|"]
        by_name: dict[str, list[Alert]] = {}
        for alert in alerts:
            by_name.setdefault(alert.name, []).append(alert)
        for name, same in by_name.items():
            severities = ", ".join(dict.fromkeys(alert.severity for alert in same))
            parts.append(f"| [{name}]({name}.md) | {severities} | {same[0].summary} |")
    parts += ["", "## Known races", "", "| race | package | fixed in | what |", "|---|---|---|---|"]
    for signature in SIGNATURES:
        parts.append(
            f"| [{signature.id}](races/{signature.id}.md) | {signature.package} | {_fixes(signature)} | {signature.title} |"
        )
    return "\n".join(parts) + "\n"


def _race(signature: Signature) -> str:
    advice = dict.fromkeys([signature.advice, *(form.advice for form in signature.forms if form.advice)])
    parts = [
        f"# {signature.id}",
        "",
        _NOTE,
        "## Meaning",
        "",
        f"{signature.title}. Upstream: {_upstream(signature)}.",
        "",
        "| form | whose fault | versions of " + signature.package + " | fixed in | known by |",
        "|---|---|---|---|---|",
        *(_row(form) for form in signature.forms),
        *(["", *notes] if (notes := _notes(signature)) else []),
        "",
        "## Impact",
        "",
        *(f"- {category}: {IMPACT[category]}" for category in dict.fromkeys(form.category for form in signature.forms)),
        "",
        "## Diagnosis",
        "",
        *_diagnosis(signature),
        "",
        "## Mitigation",
        "",
        *(f"- {text}" for text in advice),
    ]
    return "\n".join(parts) + "\n"


def _diagnosis(signature: Signature) -> list[str]:
    this = f'signature="{signature.id}"'
    by_form, by_version = (
        f"job_signature:race_watch_incidents:rate5m{{{this}}}",
        f"job_version:race_watch_incidents:rate5m{{{this}}}",
    )
    asked = {
        "How often in the last day, in which form:": f"sum by (job, category, verdict) ({total(by_form, '1d')})",
        "On which workers:": f"topk(10, sum by (job, instance, pod) (increase(race_watch_incidents_total{{{this}}}[1d]))) > 0",
        "In which versions:": f"sum by (livekit) ({total(by_version, '1d')})",
        "Which versions in the field have it, and what ends it:": f"sum by (job, sdk_version, fixed_in) ({AFFECTED}{{{this}}})",
    }
    if any(form.fixed_in for form in signature.forms):
        asked["Whether it happens where it is fixed:"] = f"sum by (job, category) ({REGRESSIONS}{{{this}}}) * 900"
    parts: list[str] = []
    for what, query in asked.items():
        parts += [what, "", "```promql", query, "```", ""]
    return [
        *parts,
        f"The incidents with their rooms, tasks and order of events: `/incidents?signature={signature.id}` of the worker.",
    ]


def _row(form: Form) -> str:
    versions = f"`{form.affected}`" if form.affected else "all"
    cells = (form.category, _VERDICTS[form.verdict], versions, form.fixed_in or "no release", _known_by(form.match))
    return f"| {' | '.join(cells)} |"


def _known_by(match: Match) -> str:
    found = []
    if match.event:
        found.append(f"room event `{match.event}`")
    if match.exception:
        found.append(f"`{match.exception.rpartition('.')[2]}`" + (f" saying `{match.message}`" if match.message else ""))
    if match.innermost:
        found.append(f"raised in `{match.innermost}`")
    if match.frames:
        found.append("through " + ", ".join(f"`{frame}`" for frame in match.frames))
    if match.request:
        found.append("request " + " or ".join(f"`{request}`" for request in match.request))
    for key, text in match.evidence:
        found.append(f"{key} has `{text}`" if text else f"{key} is there")
    return "; ".join(found).replace("|", "\\|")


def _notes(signature: Signature) -> list[str]:
    return [f"{note[0].upper()}{note[1:]}." for note in dict.fromkeys(form.note for form in signature.forms if form.note)]


def _upstream(signature: Signature) -> str:
    return f"[{signature.upstream}]({upstream_url(signature.upstream)})" if signature.upstream else "no report found"


def _fixes(signature: Signature) -> str:
    fixes = {form.fixed_in for form in signature.forms if form.verdict != "benign"}
    named = ", ".join(sorted(fix for fix in fixes if fix))
    return (f"{named}, in part" if None in fixes else named) if named else "no release"
