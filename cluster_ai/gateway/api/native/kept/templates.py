"""Prompts with gaps, under a name: each user's own, and those that an administrator made for everyone."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.api.native.kept.database import Database

EVERYONE = ""  # the owner of a shared template
PER_OWNER = 1000
_GAP = re.compile(r"\{\{\s*([A-Za-z_][A-Za-z0-9_]{0,63})\s*\}\}")


@dataclass(frozen=True, slots=True)
class Template:
    """text and system have gaps like {{topic}}; anything else in braces is text."""

    name: str
    text: str
    system: str | None = None
    description: str = ""
    shared: bool = False
    changed: float = 0.0

    @property
    def variables(self) -> tuple[str, ...]:
        """In the order in which they first stand there, the system prompt's first."""
        return tuple(dict.fromkeys(_GAP.findall(f"{self.system or ''}\n{self.text}")))

    def fill(self, values: Mapping[str, str]) -> Template:
        """Its texts with the values in the gaps, as they are: what stands in a value is never filled in again.

        Raises Refusal (400) that names what is missing, or what it has no gap for.
        """
        missing = [name for name in self.variables if name not in values]
        if missing:
            raise Refusal(400, "missing_variable", f"template '{self.name}' needs {_listed(missing)}")
        unknown = sorted(values.keys() - set(self.variables))
        if unknown:
            raise Refusal(400, "unknown_variable", f"template '{self.name}' has no {_listed(unknown)}")
        system = None if self.system is None else _filled(self.system, values)
        return Template(self.name, _filled(self.text, values), system, self.description, self.shared, self.changed)


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _GAP.sub(lambda gap: values[gap[1]], text)


def _listed(names: list[str]) -> str:
    return ("variable " if len(names) == 1 else "variables ") + ", ".join(f"'{name}'" for name in names)


class Templates:
    """Where a user's own and a shared one have the same name, the user's own is meant."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock

    def list(self, owner: str) -> tuple[Template, ...]:
        with self._database.transaction() as db:
            rows = db.execute("SELECT * FROM templates WHERE owner IN (?, ?) ORDER BY name, owner", (owner, EVERYONE))
            found = [_template(row) for row in rows]
        return tuple({it.name: it for it in found}.values())

    def get(self, owner: str, name: str) -> Template:
        """Raises Refusal (404)."""
        with self._database.transaction() as db:
            row = db.execute(
                "SELECT * FROM templates WHERE name = ? AND owner IN (?, ?) ORDER BY owner DESC",
                (name, owner, EVERYONE),
            ).fetchone()
        if row is None:
            raise _unknown(name)
        return _template(row)

    def put(self, owner: str, template: Template) -> Template:
        """Makes it, or replaces the one of that name. Raises Refusal (409) where the owner has too many."""
        whose, it, now = EVERYONE if template.shared else owner, template, self._clock()
        with self._database.transaction() as db:
            others = "SELECT count(*) FROM templates WHERE owner = ? AND name != ?"
            (count,) = db.execute(others, (whose, it.name)).fetchone()
            if count >= PER_OWNER:
                raise Refusal(409, "too_many_templates", f"there are {count} templates: delete some first")
            db.execute(
                "INSERT OR REPLACE INTO templates (owner, name, description, system, text, changed)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (whose, it.name, it.description, it.system, it.text, now),
            )
        return Template(it.name, it.text, it.system, it.description, it.shared, now)

    def delete(self, owner: str, name: str, *, shared: bool) -> None:
        """Raises Refusal (404)."""
        with self._database.transaction() as db:
            whose = EVERYONE if shared else owner
            if not db.execute("DELETE FROM templates WHERE owner = ? AND name = ?", (whose, name)).rowcount:
                raise _unknown(name)


def _unknown(name: str) -> Refusal:
    return Refusal(404, "template_not_found", f"there is no template '{name}'")


def _template(row: sqlite3.Row) -> Template:
    return Template(
        row["name"], row["text"], row["system"], row["description"], row["owner"] == EVERYONE, row["changed"]
    )
