"""What a running Ollama (or the embedded engine, which speaks the same) says of itself."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PresentModel:
    """A model on the engine's disk. raw is its entry in /api/tags as it came."""

    name: str
    size: int
    digest: str
    family: str
    parameter_size: str
    quantization: str
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in the engine's memory. size_vram is how much of size is on cards; raw is its entry in /api/ps."""

    name: str
    size: int
    size_vram: int
    context_length: int | None
    raw: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class EngineState:
    version: str
    present: tuple[PresentModel, ...]
    loaded: tuple[LoadedModel, ...]


class EngineError(Exception):
    """The engine doesn't answer as it should. alive: something answered, or refused at once: the host is there."""

    def __init__(self, reason: str, *, alive: bool) -> None:
        super().__init__(reason)
        self.reason, self.alive = reason, alive


def canonical(name: str) -> str:
    """The one spelling of a model's name: Ollama takes `llama3`, `library/Llama3:latest` for `llama3:latest`."""
    name = name.strip().lower()
    for prefix in ("registry.ollama.ai/", "library/"):
        name = name.removeprefix(prefix)
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def parse_present(tags: Any) -> tuple[PresentModel, ...]:
    """What /api/tags says. Entries without a name are left out."""
    return tuple(_present(raw, name) for raw, name in _entries(tags))


def _present(raw: dict[str, Any], name: str) -> PresentModel:
    details = raw.get("details")
    if not isinstance(details, dict):
        details = {}
    return PresentModel(
        canonical(name),
        _number(raw.get("size")) or 0,
        str(raw.get("digest") or ""),
        str(details.get("family") or ""),
        str(details.get("parameter_size") or ""),
        str(details.get("quantization_level") or ""),
        raw,
    )


def parse_loaded(ps: Any) -> tuple[LoadedModel, ...]:
    """What /api/ps says. Entries without a name are left out."""
    return tuple(
        LoadedModel(
            canonical(name),
            _number(raw.get("size")) or 0,
            _number(raw.get("size_vram")) or 0,
            _number(raw.get("context_length")),
            raw,
        )
        for raw, name in _entries(ps)
    )


def _entries(answer: Any) -> list[tuple[dict[str, Any], str]]:
    models = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        return []
    found = ((m, m.get("name") or m.get("model")) for m in models if isinstance(m, dict))
    return [(m, name) for m, name in found if isinstance(name, str) and name]


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


class EngineClient:
    """Asks one engine. The session is the caller's, and so are its certificates."""

    def __init__(self, session: aiohttp.ClientSession, url: str, *, timeout: float) -> None:
        self._session, self._url, self._timeout = session, url.rstrip("/"), timeout

    async def state(self) -> EngineState:
        """Raises EngineError."""
        return await self._within(self._state())

    async def loaded(self) -> tuple[str, tuple[LoadedModel, ...]]:
        """Its version and what is in its memory. Raises EngineError."""
        return await self._within(self._loaded())

    async def _state(self) -> EngineState:
        (version, loaded), tags = await asyncio.gather(self._loaded(), self._get("/api/tags"))
        return EngineState(version, parse_present(tags), loaded)

    async def _loaded(self) -> tuple[str, tuple[LoadedModel, ...]]:
        version, ps = await asyncio.gather(self._get("/api/version"), self._get("/api/ps"))
        return str(version.get("version") or "") if isinstance(version, dict) else "", parse_loaded(ps)

    async def _within(self, asked: Coroutine[Any, Any, T]) -> T:
        try:
            async with asyncio.timeout(self._timeout):
                return await asked
        except TimeoutError as e:
            raise EngineError(f"no answer within {self._timeout:g} s", alive=False) from e
        except ssl.SSLError as e:
            raise EngineError(f"TLS failed: {e}", alive=True) from e
        except aiohttp.ClientConnectorCertificateError as e:
            raise EngineError(f"its certificate is not good: {e.certificate_error}", alive=True) from e
        except aiohttp.ClientConnectorError as e:
            refused = isinstance(e.os_error, ConnectionRefusedError)
            raise EngineError("connection refused" if refused else f"can't connect: {e.os_error}", alive=refused) from e
        except (aiohttp.ClientError, OSError) as e:
            raise EngineError(f"the connection broke: {e or type(e).__name__}", alive=True) from e

    async def _get(self, path: str) -> Any:
        async with self._session.get(self._url + path, allow_redirects=False) as reply:
            if reply.status != 200:
                raise EngineError(_worded(reply.status), alive=True)
            try:
                return await reply.json(content_type=None)
            except ValueError as e:
                raise EngineError(f"{path} answered what is no JSON", alive=True) from e


def _worded(status: int) -> str:
    if status in (502, 503, 504):
        return f"its front answers {status}: the engine behind it doesn't run"
    if status in (400, 401, 403, 495, 496):
        return f"its front answers {status}: it doesn't accept our certificate"
    return f"it answers {status}"
