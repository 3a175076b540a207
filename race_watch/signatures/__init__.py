"""Signatures: findings in, known races out. Data; one record a race, in the module of its project."""

from __future__ import annotations

from collections.abc import Mapping

from race_watch.findings import Finding
from race_watch.signatures import agents, growth, python_sdks, rust_sdks
from race_watch.signatures.record import Form, Signature

SIGNATURES: tuple[Signature, ...] = (
    *python_sdks.SIGNATURES,
    *rust_sdks.SIGNATURES,
    *agents.SIGNATURES,
    *growth.SIGNATURES,
)


def name(finding: Finding, sdk: Mapping[str, str]) -> tuple[Signature, Form] | None:
    """The known race that a finding is, or None. `sdk` is distribution -> installed version."""
    for signature in SIGNATURES:
        form = signature.match(finding, sdk)
        if form is not None:
            return signature, form
    return None
