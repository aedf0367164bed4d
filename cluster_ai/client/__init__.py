"""Ask a gateway of Cluster AI from Python: `Client`, or `AsyncClient` with asyncio.

    from cluster_ai.client import Client

    with Client("https://head:11435", token) as client:
        print(client.generate("smollm2", "Why is the sky blue?").response)

It needs httpx (`pip install 'cluster-ai[client]'`), and nothing else of this package.
"""

from cluster_ai.client.aio import AsyncClient
from cluster_ai.client.errors import (
    ApiError,
    BadRequestError,
    ClientError,
    ConflictError,
    DamagedError,
    EngineError,
    ForbiddenError,
    NotFoundError,
    ProtocolError,
    ServerError,
    StreamBrokenError,
    TooManyRequestsError,
    UnauthorizedError,
    UnavailableError,
    UnreachableError,
)
from cluster_ai.client.sync import Client
from cluster_ai.client.types import ChatReply, GenerateReply, KeyLimits, Message, Text

__all__ = [
    "ApiError",
    "AsyncClient",
    "BadRequestError",
    "ChatReply",
    "Client",
    "ClientError",
    "ConflictError",
    "DamagedError",
    "EngineError",
    "ForbiddenError",
    "GenerateReply",
    "KeyLimits",
    "Message",
    "NotFoundError",
    "ProtocolError",
    "ServerError",
    "StreamBrokenError",
    "Text",
    "TooManyRequestsError",
    "UnauthorizedError",
    "UnavailableError",
    "UnreachableError",
]
