"""What a gateway is given: parts whose lifetimes are not its own."""

from __future__ import annotations

from dataclasses import dataclass

import aiohttp

from cluster_ai.cluster.membership import Membership
from cluster_ai.gateway.admission.books import Books
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.auth import Guard
from cluster_ai.gateway.cordons import Cordons
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.health import HealthWatch
from cluster_ai.gateway.identity.audit import Audit
from cluster_ai.gateway.identity.logins import Logins
from cluster_ai.gateway.log import Log
from cluster_ai.gateway.models.blobs import Blobs
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.gateway.tracing import Tracing
from cluster_ai.gateway.wire import Wire
from cluster_ai.settings import GatewaySettings


@dataclass(frozen=True, slots=True)
class Surroundings:
    """client is for what is seldom asked of workers; wire for what the relay asks. tracing None: no traces."""

    settings: GatewaySettings
    fleet: Fleet
    membership: Membership
    cordons: Cordons
    health: HealthWatch
    database: Database
    tasks: TaskManager
    guard: Guard
    blobs: Blobs
    client: aiohttp.ClientSession
    wire: Wire
    log: Log
    books: Books
    logins: Logins
    audit: Audit
    tracing: Tracing | None = None
