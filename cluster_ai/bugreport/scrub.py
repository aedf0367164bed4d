"""Takes secrets out of text: those that are known, wherever they stand, and what has the form of one.

When in doubt it takes out too much: a bundle is sent to strangers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

REMOVED = "***"
SHORTEST = 4  # characters of a known secret; a shorter one stands in every other word

# What a secret is called. Bounded on both sides, and begun only where a word begins: a line may be one long word.
_CALLED = "|".join(
    (
        *("pass(?:word|wd|phrase|code)?", "secret", "token(?!s|_seconds)", "credential", "authorization", "webhook"),
        *("api[_-]?key", "access[_-]?key", "private[_-]?key"),
    )
)
_NAME = rf"(?<![\w.-])[\w.-]{{0,40}}?(?:{_CALLED})[\w.-]{{0,40}}"
_VALUE = r"""(?:\\*"[^"]*"|'[^']*'|[^\s,;&"'}\])]+)"""
_FORMS = tuple(
    (re.compile(form, re.IGNORECASE | re.MULTILINE), by)
    for form, by in (
        (r"-----BEGIN [A-Z ]*PRIVATE KEY-----(?s:.*?)(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", REMOVED),
        (r"\$ANSIBLE_VAULT;[^\n]*(?:\n\s*[0-9a-f]+)*", REMOVED),
        (r"((?:set-)?cookie[\"']?\s*[:=]).*$", rf"\1 {REMOVED}"),
        # A block of YAML is what is indented deeper than its name.
        (
            rf"^(?P<indent>[ -]*)(?P<name>[\"']?{_NAME}[\"']?\s*:\s*)[|>][^\n]*\n(?:(?P=indent)[ ]+[^\n]*\n?|\n)+",
            rf"\g<indent>\g<name>{REMOVED}\n",
        ),
        (r"\b(bearer|basic|digest)\s+(?:(?=\S*[0-9])[\w.~+/=-]{4,}|[\w.~+/=-]{16,})", rf"\1 {REMOVED}"),
        (rf"({_NAME}\\*[\"']?\s*[:=]\s*){_VALUE}", rf"\1{REMOVED}"),
        (rf"((?<!\S)--?[\w-]{{0,40}}?(?:{_CALLED})[\w-]{{0,40}}\s+){_VALUE}", rf"\1{REMOVED}"),
        (r"eyJ[a-z0-9_-]{5,}\.[a-z0-9_-]+(?:\.[a-z0-9_-]*)?", REMOVED),  # a JWT
        (r"\$(?:1|2[aby]|5|6|y|argon2\w*|scrypt)\$[^\s\"']+", REMOVED),  # a password's hash
        (r"/k/[^/\s\"']+", f"/k/{REMOVED}"),  # the gateway's key in a path
        (r"(?<=://)[^/\s\"'@]+@", f"{REMOVED}@"),
        (r"(https?://(?:hooks\.[^/\s\"']+|[^/\s\"']+/(?:api/)?(?:web)?hooks?)/)[^\s\"']+", rf"\1{REMOVED}"),
        (r"\b(?:cai|car|sk|hf|ghp|gho|ghs|glpat|xox[abprs]|AKIA)[-_]?[a-z0-9_-]{16,}", REMOVED),
        (r"\b[a-z2-7]{6}-[a-z2-7]{20}-[0-9a-f]{16}\b", REMOVED),  # a join token
        # What looks drawn by chance. Digests are of lower case only, and stay.
        (r"(?<![\w-])(?-i:(?=[\w-]*[a-z])(?=[\w-]*[A-Z])(?=[\w-]*[0-9]))[\w-]{40,}", REMOVED),
    )
)


class Scrubber:
    def __init__(self, known: Iterable[str]) -> None:
        """known: secrets as they are; of those of several lines, each line."""
        lines = {line.strip() for secret in known for line in secret.splitlines()}
        longest_first = sorted((it for it in lines if len(it) >= SHORTEST), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        if self._known:
            text = self._known.sub(REMOVED, text)
        for form, by in _FORMS:
            text = form.sub(by, text)
        return text
