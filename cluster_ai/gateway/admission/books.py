"""What the gateway keeps of its users: their keys, and what they used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cluster_ai.gateway.admission.account import Account
from cluster_ai.gateway.admission.keys import Keys


class Books:
    """`async with` keeps them; directory None: in memory only. Raises sqlite3.Error where they can't be kept there."""

    def __init__(self, directory: Path | None, note: Callable[[str], None] = lambda text: None) -> None:
        self.keys = Keys(directory, note)
        self.account = Account(directory, note)

    async def __aenter__(self) -> Books:
        await self.account.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.account.__aexit__(*error)
        self.keys.close()
