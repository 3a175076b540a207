"""One record for each known race, and how a finding is matched with it. Conditions are data: no code in a signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from race_watch.findings import Finding, function_of


@dataclass(frozen=True, slots=True)
class Match:
    """Conditions on a finding; None does not ask. All that ask must hold.

    Attributes:
        innermost: `path:function` of the innermost LiveKit frame.
        frames: `path:function`s that must all be among the frames.
        message: The exact (scrubbed) message.
        evidence: (key, text) pairs: the finding must have evidence of that key, with the text in it.
    """

    event: str | None = None
    exception: str | None = None
    message: str | None = None
    innermost: str | None = None
    frames: tuple[str, ...] = ()
    request: tuple[str, ...] | None = None
    evidence: tuple[tuple[str, str], ...] = ()

    def holds(self, finding: Finding) -> bool:
        functions = {function_of(frame) for frame in finding.frames}
        return (
            (self.event is None or finding.event == self.event)
            and (self.exception is None or finding.exception == self.exception)
            and (self.message is None or finding.message == self.message)
            and (self.innermost is None or finding.component == self.innermost)
            and functions.issuperset(self.frames)
            and (self.request is None or finding.request in self.request)
            and all(key in finding.evidence and text in finding.evidence[key] for key, text in self.evidence)
        )


@dataclass(frozen=True, slots=True)
class Form:
    """One way a race shows. A race can show in several: by version, or because a fix hides it.

    Attributes:
        affected: Versions that show this form, as a PEP 440 specifier; empty where no version is known not to.
        fixed_in: First published version without it; None while there is none.
        note: What is particular to this form; goes into the incident's evidence.
        advice: What to do about this form, where the signature's advice does not fit it.
    """

    category: str
    verdict: str
    affected: str
    fixed_in: str | None
    match: Match
    note: str = ""
    advice: str = ""


@dataclass(frozen=True, slots=True)
class Signature:
    """A known race. `id` is the id of the race catalogue, `package` the distribution whose version decides.

    `matching` and `other` are findings, as keyword arguments of `example`, that must and must not match.
    """

    id: str
    title: str
    package: str
    upstream: str
    advice: str
    forms: tuple[Form, ...]
    matching: tuple[Mapping[str, object], ...]
    other: tuple[Mapping[str, object], ...]

    def match(self, finding: Finding, sdk: Mapping[str, str]) -> Form | None:
        """The form that the finding has, preferring one that the installed version is known to show."""
        fitting = [form for form in self.forms if form.category == finding.category and form.match.holds(finding)]
        for form in fitting:
            if is_affected(form, sdk.get(self.package)):
                return form
        return fitting[0] if fitting else None


def is_affected(form: Form, version: str | None) -> bool | None:
    """Whether a version is known to show this form; None if the version is unknown or not a version."""
    if version is None:
        return None
    try:
        return SpecifierSet(form.affected, prereleases=True).contains(Version(version))
    except InvalidVersion:
        return None
