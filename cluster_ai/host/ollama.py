"""The engine's API as the agent needs it: blocking, and with the standard library alone, so that it starts at once."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class OllamaError(Exception):
    """The engine refuses, or doesn't answer."""


class Ollama:
    """An engine by its URL. silence: seconds without a byte until it counts as dead."""

    def __init__(self, url: str, *, silence: float = 300.0) -> None:
        self._at = urlsplit(url)
        self._silence = silence

    def get(self, path: str) -> Any:
        return json.loads(self._call("GET", path))

    def post(self, path: str, body: Mapping[str, Any], *, silence: float | None = None) -> Any:
        return json.loads(self._call("POST", path, json.dumps(body).encode(), silence=silence) or b"null")

    def delete(self, path: str, body: Mapping[str, Any]) -> None:
        self._call("DELETE", path, json.dumps(body).encode())

    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        """What a long work tells of itself, object by object. Raises when it tells of an error."""
        connection = self._connect(self._silence)
        try:
            response = self._request(connection, "POST", path, json.dumps(body).encode())
            for line in response:
                said = json.loads(line)
                if "error" in said:
                    raise OllamaError(str(said["error"]))
                yield said
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise OllamaError(_reason(error)) from error
        finally:
            connection.close()

    def has_blob(self, sha256: str) -> bool:
        try:
            self._call("HEAD", f"/api/blobs/sha256:{sha256}")
        except OllamaError as error:
            if "404" in str(error):
                return False
            raise
        return True

    def send_blob(self, sha256: str, file: Path) -> None:
        """The engine checks the hash itself."""
        connection = self._connect(self._silence)
        try:
            with file.open("rb") as content:
                headers = {"Content-Length": str(file.stat().st_size)}
                _read(self._request(connection, "POST", f"/api/blobs/sha256:{sha256}", content, headers))
        except (OSError, http.client.HTTPException) as error:
            raise OllamaError(_reason(error)) from error
        finally:
            connection.close()

    def _connect(self, silence: float) -> http.client.HTTPConnection:
        assert self._at.hostname
        return http.client.HTTPConnection(self._at.hostname, self._at.port or 80, timeout=silence)

    def _request(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: Any, headers: Mapping[str, str] = {}
    ) -> http.client.HTTPResponse:
        connection.request(method, self._at.path.rstrip("/") + path, body, dict(headers))
        response = connection.getresponse()
        if response.status >= 400:
            raise OllamaError(f"HTTP {response.status}: {_error(response.read())}")
        return response

    def _call(self, method: str, path: str, body: bytes | None = None, *, silence: float | None = None) -> bytes:
        connection = self._connect(silence or self._silence)
        try:
            return _read(self._request(connection, method, path, body))
        except (OSError, http.client.HTTPException) as error:
            raise OllamaError(_reason(error)) from error
        finally:
            connection.close()


def _read(response: http.client.HTTPResponse) -> bytes:
    return response.read()


def _error(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace").strip()[:200] or "no reason given"


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it doesn't answer"
    return str(error) or type(error).__name__
