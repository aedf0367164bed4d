"""What both clients do with httpx: how to ask, how to read an answer, and how its errors are told."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import IO, Any, Generic, TypeVar

import httpx

from cluster_ai.client.calls import Call, Stream
from cluster_ai.client.errors import DamagedError, ProtocolError, StreamBrokenError, UnreachableError, refused
from cluster_ai.client.types import ResultFile, Text
from cluster_ai.landing import DamagedError as NotAsPromised
from cluster_ai.landing import Landing

T = TypeVar("T")
CONNECT = 5.0  # seconds
ANSWER = 600.0  # seconds between two pieces: a model may have to be loaded first


def options(url: str, token: str | None, timeout: float, ca: str | PathLike[str] | None) -> dict[str, Any]:
    """For httpx' clients. Raises OSError where ca can't be read, ssl.SSLError where it holds no certificate."""
    trust = ssl.create_default_context()
    if ca is not None:
        trust.load_verify_locations(ca)
    return {
        "verify": trust,
        "base_url": url.rstrip("/"),
        "headers": {"Authorization": f"Bearer {token}"} if token else {},
        "timeout": httpx.Timeout(timeout, connect=min(CONNECT, timeout)),
        "trust_env": False,  # a cluster is inside: no proxy of the environment leads there
    }


def asked(call: Call[Any]) -> dict[str, Any]:
    return {
        "method": call.method,
        "url": call.path,
        "params": dict(call.query),
        "headers": dict(call.headers),
        **({} if call.body is None else {"json": dict(call.body)}),
    }


def answered(call: Call[T], response: httpx.Response) -> T:
    """Raises ApiError, ProtocolError."""
    if response.is_error:
        raise failed(response)
    return call.read(None if response.status_code == 204 else _json(response.content))


def failed(response: httpx.Response) -> Exception:
    """Of an answer that was read."""
    try:
        body = _json(response.content)
    except ProtocolError:
        body = None
    return refused(response.status_code, body, response.headers)


def unreachable(error: httpx.HTTPError) -> UnreachableError:
    if isinstance(error, httpx.TimeoutException):
        return UnreachableError(f"no answer in time ({type(error).__name__})")
    return UnreachableError(str(error) or type(error).__name__)


@contextmanager
def landing(file: ResultFile, to: str | PathLike[str] | IO[bytes]) -> Iterator[Landing]:
    """Raises DamagedError, OSError."""
    with Landing(file.sha256, file.bytes, to) as found:
        yield found
        try:
            found.finish()
        except NotAsPromised as e:
            raise DamagedError(f"{file.filename} ({file.id}): {e}") from e


class Lines(Generic[T]):
    """An answer that comes line by line. Each line is a piece; the last one is the reply."""

    def __init__(self, stream: Stream[T]) -> None:
        self._stream, self._said = stream, ""
        self.reply: T | None = None

    def piece(self, line: str) -> Text | None:
        """None where a line has no text. Raises StreamBrokenError, ProtocolError."""
        said = _json(line)
        if not isinstance(said, Mapping):
            raise ProtocolError(f"no line of an answer: {line[:200]!r}")
        if "error" in said:
            error = said["error"] if isinstance(said["error"], Mapping) else {"message": said["error"]}
            raise StreamBrokenError(
                str(error.get("message")),
                text=self._said,
                code=str(error.get("code") or ""),
                request_id=str(said.get("request_id") or ""),
            )
        if said.get("done"):
            self.reply = self._stream.read(said)
        text = self._stream.text(said)
        self._said += text
        return Text(text) if text else None

    def broken(self, why: object = "it ended too early") -> StreamBrokenError:
        return StreamBrokenError(f"the answer broke off: {why}", text=self._said)


def _json(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as e:
        raise ProtocolError(f"no answer of a gateway of Cluster AI: {text[:200]!r}") from e
