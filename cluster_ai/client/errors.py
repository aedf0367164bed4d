"""What can go wrong when a gateway is asked. Everything derives from ClientError."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ClientError(Exception):
    """The base of all."""


class UnreachableError(ClientError):
    """The gateway can't be reached, or the connection broke before it had answered."""


class ProtocolError(ClientError):
    """What answers is not a gateway of Cluster AI, or one of another version."""


class StreamBrokenError(ClientError):
    """An answer broke off. text: what had come of it; code, message and request_id are the gateway's, where it told."""

    def __init__(self, message: str, *, text: str, code: str = "", request_id: str = "") -> None:
        super().__init__(message)
        self.message, self.text, self.code, self.request_id = message, text, code, request_id


class DamagedError(ClientError):
    """A file that was fetched isn't what its digest says; it was thrown away."""


class ApiError(ClientError):
    """The gateway refused. code is for programs, message for people; retry_after: seconds, where it says so."""

    def __init__(self, status: int, code: str, message: str, request_id: str, retry_after: float | None) -> None:
        super().__init__(f"{message} (HTTP {status}, {code}, request {request_id})")
        self.status, self.code, self.message = status, code, message
        self.request_id, self.retry_after = request_id, retry_after


class BadRequestError(ApiError):
    """400: something in the request is wrong; message says what."""


class UnauthorizedError(ApiError):
    """401: no token, or not a good one."""


class ForbiddenError(ApiError):
    """403: this user may not do it."""


class NotFoundError(ApiError):
    """404: no such model, worker, session, template, ..."""


class ConflictError(ApiError):
    """409: it doesn't fit what is there now."""


class TooManyRequestsError(ApiError):
    """429: above a limit of this user; see retry_after."""


class ServerError(ApiError):
    """500 and above."""


class EngineError(ServerError):
    """502: the engine failed, or its worker was lost."""


class UnavailableError(ServerError):
    """503: nobody can do it now; see retry_after."""


_KINDS: Mapping[int, type[ApiError]] = {
    400: BadRequestError,
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    429: TooManyRequestsError,
    502: EngineError,
    503: UnavailableError,
}


def refused(status: int, body: Any, headers: Mapping[str, str]) -> ApiError:
    """The error that an answer of 400 and above tells of."""
    said = body.get("error") if isinstance(body, dict) else None
    error = said if isinstance(said, dict) else {}
    try:
        wait = float(headers.get("retry-after", ""))
    except ValueError:
        wait = None
    return _KINDS.get(status, ServerError if status >= 500 else ApiError)(
        status,
        str(error.get("code") or "unknown"),
        str(error.get("message") or f"the gateway answers {status}"),
        headers.get("x-request-id", ""),
        wait,
    )
