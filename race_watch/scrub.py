"""Free text without what must not leave the process: tokens, keys, e-mail addresses, phone numbers."""

from __future__ import annotations

import re

_SECRETS = (
    # Access tokens and API keys: JWTs, then long unbroken runs that mix letters and digits.
    (re.compile(r"eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?"), "<token>"),
    (re.compile(r"(?i)(bearer|token|secret|password|passwd|api[_-]?key)([\"']?\s*[=:]\s*|\s+)\S+"), r"\1\2<secret>"),
    # The look-behinds let a match begin at the start of a run only: without them a long run costs its length squared.
    (re.compile(r"(?<![\w.+-])[\w.+-]+@[\w-]+\.[\w.-]+"), "<e-mail>"),
    (re.compile(r"(?<![\w-])(?:sk|pk|rk|gh[opsu]|xox[abp])[_-][\w-]{12,}|(?<!\w)(?:API|AIza|AKIA)(?=\w*\d)\w{9,}"), "<key>"),
    (re.compile(r"(?<![\w-])(?=[\w-]*\d)(?=[\w-]*[A-Za-z])[\w-]{32,}"), "<key>"),
    (re.compile(r"\+?\d[\d ().-]{7,}\d"), "<number>"),
)


def scrub(text: str) -> str:
    """The text with a word in angle brackets for each secret."""
    for pattern, instead in _SECRETS:
        text = pattern.sub(instead, text)
    return text
