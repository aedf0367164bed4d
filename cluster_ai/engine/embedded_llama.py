"""llama.cpp in this process, by the wheel xllamacpp, and its client side.

The wheel runs llama.cpp's own HTTP server on a loopback port of its choosing; inference and its threads are C++, so
Python's loop stays free. That server demands a random key, known to nobody else, and is talked to over HTTP: a closed
connection is what makes llama.cpp give up a request and free its slot.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import secrets
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from cluster_ai.engine import gguf
from cluster_ai.engine.embedded_translate import RefusedError

_LOG_ERRORS = 1  # llama.cpp's verbosity


@dataclass(frozen=True, slots=True)
class Facts:
    """What is told about a model."""

    path: Path
    size: int
    modified: datetime
    digest: str
    metadata: gguf.Metadata


class Llama:
    """One model in memory, with `parallel` slots of `context` tokens each."""

    def __init__(self, name: str, path: Path, *, parallel: int, context: int, threads: int) -> None:
        self.name, self.path, self.context, self.facts = name, path, context, read_facts(path)
        self._parallel, self._threads = parallel, threads
        # Requests wait here, not in llama.cpp, whose few HTTP threads would then lack for counting tokens.
        self._slots = asyncio.Semaphore(parallel)
        self._key = secrets.token_urlsafe(32)
        self._server: Any = None
        self._session: aiohttp.ClientSession | None = None
        self.ready = asyncio.Event()

    async def start(self) -> None:
        """Load the model; minutes for a large one. Raises RuntimeError when llama.cpp can't."""
        self._server = await asyncio.to_thread(self._load)
        self._session = aiohttp.ClientSession(
            self._server.listening_address,
            headers={"Authorization": f"Bearer {self._key}"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            connector=aiohttp.TCPConnector(limit=0),
        )
        self.ready.set()

    async def render(self, messages: list[dict[str, str]]) -> str:
        """The prompt that the model's own chat template makes of a conversation."""
        return str((await self._post("/apply-template", {"messages": messages}))["prompt"])

    async def count(self, prompt: str) -> int:
        body = {"content": prompt, "add_special": True, "parse_special": True}
        return len((await self._post("/tokenize", body))["tokens"])

    async def complete(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """llama.cpp's pieces of an answer, as they come; the one with `stop` is the last."""
        async with self.opened("/completion", body) as response:
            async for line in response.content:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
                elif line.startswith(b"error: "):
                    raise RefusedError(500, _message(line[7:]))

    @asynccontextmanager
    async def opened(self, path: str, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """A slot, and llama.cpp's answer in it. Leaving early closes the connection, which frees the slot."""
        assert self._session
        async with self._slots, self._session.post(path, json=body) as response:
            if response.status != 200:
                raise RefusedError(response.status, _message(await response.read()))
            try:
                yield response
            finally:
                if not response.content.at_eof():
                    response.close()

    async def _post(self, path: str, body: dict[str, Any]) -> Any:
        assert self._session
        async with self._session.post(path, json=body) as response:
            if response.status != 200:
                raise RefusedError(response.status, _message(await response.read()))
            return await response.json()

    def _load(self) -> Any:
        import xllamacpp  # 100 MB of shared object: only who loads a model pays for it

        params = xllamacpp.CommonParams()
        params.model.path = str(self.path)
        params.model_alias = {self.name}
        params.n_parallel, params.n_ctx = self._parallel, self._parallel * self.context
        params.n_threads_http = self._parallel + 4
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = self._threads
        params.hostnames, params.port, params.api_keys = ["127.0.0.1"], 0, [self._key]
        params.ui = params.endpoint_slots = False
        params.cache_ram_mib, params.cache_idle_slots, params.verbosity = 0, False, _LOG_ERRORS
        return xllamacpp.Server(params)


def read_facts(path: Path) -> Facts:
    """Raises gguf.GGUFError, OSError."""
    stat = path.stat()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Facts(path, stat.st_size, datetime.fromtimestamp(stat.st_mtime, UTC), digest, gguf.read(path))


def _message(data: bytes) -> str:
    try:
        error = json.loads(data)
        error = error.get("error", error)
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, AttributeError):
        return data.decode("utf-8", "replace")[:500]
