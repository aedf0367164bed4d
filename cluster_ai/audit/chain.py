"""What a line of the audit log is, and whether a log is as it was written. Pure.

Each line carries the hash of the one before and a hash of itself, so that none can be changed, taken out or put in
without all that follow being made anew; and the last one's hash is kept elsewhere too (`Head`), so that this, or a
shorter log, is found as well.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

START = "0" * 64  # before the first line
REPAIRED = "audit.repaired"  # what a line says that was written after half a one


@dataclass(frozen=True, slots=True)
class Event:
    """who did what, on what, from where (an address), by which request; result: begun, done, refused or failed.

    Never a password, key or token.
    """

    who: str
    what: str
    on: str = ""
    address: str = ""
    result: str = "done"
    role: str = ""
    request: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """The last line."""

    seq: int
    hash: str


BEGIN = Head(0, START)


@dataclass(frozen=True, slots=True)
class Verdict:
    """lines: how many are good, up to the first that isn't. first: the number of the oldest; None: there is none."""

    lines: int
    first: int | None
    head: Head
    problem: str = ""

    @property
    def good(self) -> bool:
        return not self.problem


def line(event: Event, at: str, before: Head) -> tuple[str, Head]:
    """The line that follows, without its end, and itself as the head."""
    fields = {"seq": before.seq + 1, "at": at, **asdict(event), "prev": before.hash}
    digest = _digest(fields)
    return _encode({**fields, "hash": digest}), Head(before.seq + 1, digest)


def repair(half: bytes) -> Event:
    """Tells of half a line, which a crash left."""
    digest = hashlib.sha256(half).hexdigest()
    return Event("cluster-ai", REPAIRED, on=digest, note=f"the line before is incomplete: {len(half)} bytes")


def parsed(text: bytes) -> dict[str, Any] | None:
    """A line's fields; None where it is no line of a log."""
    try:
        fields = json.loads(text)
    except ValueError:
        return None
    return fields if isinstance(fields, dict) and isinstance(fields.get("seq"), int) else None


def head_of(fields: Mapping[str, Any]) -> Head:
    return Head(fields["seq"], str(fields.get("hash")))


def verify(lines: Iterable[bytes], known: Head | None = None) -> Verdict:
    """known: a head that was kept elsewhere, and must be among the lines, or before them."""
    head, count, first = BEGIN, 0, None
    half: bytes | None = None
    met = known is None or known == BEGIN

    def broken(problem: str) -> Verdict:
        return Verdict(count, first, head, problem)

    for text in lines:
        fields = parsed(text)
        if fields is None:
            if half is not None:
                return broken(f"after line {head.seq}: two lines that aren't whole")
            half = text
            continue
        seq = fields["seq"]
        if half is not None:
            told = fields.get("what") == REPAIRED and fields.get("on") == hashlib.sha256(half).hexdigest()
            if not told:
                return broken(f"after line {head.seq}: a line that isn't whole, and wasn't left by a crash")
            half = None
        if fields.get("hash") != _digest({name: value for name, value in fields.items() if name != "hash"}):
            return broken(f"line {seq} was changed: its hash is of another content")
        if first is None:
            first = seq
            if seq == 1 and fields.get("prev") != START:
                return broken("line 1 isn't a beginning: something stood before it")
        elif seq != head.seq + 1:
            return broken(f"after line {head.seq} comes line {seq}: something was taken out or put in")
        elif fields.get("prev") != head.hash:
            return broken(f"line {seq} doesn't follow line {head.seq}: that one was replaced")
        head, count = head_of(fields), count + 1
        if known is not None and seq == known.seq:
            if head.hash != known.hash:
                return broken(f"line {seq} is another one than it was: the log was written anew")
            met = True
    if half is not None:
        return broken(f"after line {head.seq}: half a line, which a crash left; the next one that is written marks it")
    if not met and known is not None and (first is None or known.seq > head.seq):
        return broken(f"the log ends at line {head.seq}, and had a line {known.seq}: its end was cut off")
    return Verdict(count, first, head)


def _encode(fields: Mapping[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=True, separators=(",", ":"))


def _digest(fields: Mapping[str, Any]) -> str:
    """Of the fields in the order of their names, so that it is a matter of content alone."""
    text = json.dumps(fields, ensure_ascii=True, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
