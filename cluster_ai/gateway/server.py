"""Runs the gateway: its credentials, the socket from systemd or its own, and an end that finishes what streams."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import uvicorn
import uvloop

from cluster_ai import layout
from cluster_ai.cluster.membership import Membership, Tls, View
from cluster_ai.errors import ConfigError, UnavailableError
from cluster_ai.gateway.admission.books import Books
from cluster_ai.gateway.api.native.kept.database import Database
from cluster_ai.gateway.api.native.kept.fleet import FleetChanges, restore
from cluster_ai.gateway.app import Gateway
from cluster_ai.gateway.auth import Guard
from cluster_ai.gateway.connection import HEAD_WITHIN, Connection
from cluster_ai.gateway.cordons import CordonFile, Cordons
from cluster_ai.gateway.elders import INTERVAL, Elders
from cluster_ai.gateway.fleet import Fleet
from cluster_ai.gateway.health import HealthWatch
from cluster_ai.gateway.identity.acting import People
from cluster_ai.gateway.identity.audit import Audit
from cluster_ai.gateway.identity.logins import Logins
from cluster_ai.gateway.identity.oidc import Provider
from cluster_ai.gateway.log import Handler, Log
from cluster_ai.gateway.models.blobs import Blobs
from cluster_ai.gateway.relay import session
from cluster_ai.gateway.surroundings import Surroundings
from cluster_ai.gateway.tasks import TaskManager
from cluster_ai.gateway.tracing import tracing
from cluster_ai.gateway.wire import Wire
from cluster_ai.settings import GatewaySettings
from cluster_ai.tls import live
from cluster_ai.tls.public import public

LINGER = 3.0  # seconds in which a client that keeps its connection is still answered, and told to make a new one
FIRST_LOOK = 5  # seconds that the first look at all workers may take before requests are taken
DESCRIPTORS = 65536  # as the unit has them
GATHERED = 0.05  # seconds in which requests' lines in the log become one write
_FIRST_SOCKET = 3  # sd_listen_fds(3)


@dataclass(frozen=True, slots=True)
class Credentials:
    token: str
    tls: Tls | None
    open_webui: str = ""  # the key of the one that the cluster runs itself


def read_credentials(settings: GatewaySettings, directory: Path | None, secure_directory: Path | None) -> Credentials:
    """secure_directory: where the certificate is. Raises ConfigError where something is missing that is needed."""
    found = directory / layout.GATEWAY_TOKEN if directory is not None else None
    token = _line(found)
    open_webui = _line(directory / layout.OPEN_WEBUI_KEY if directory is not None else None)
    if not token and not settings.trusted_networks:
        raise ConfigError(
            "there is no token, and no trusted network: nobody could ask anything",
            where=str(found or "$CREDENTIALS_DIRECTORY"),
            remedy=f"put a token into {layout.GATEWAY_TOKEN} there, or set gateway.trusted_networks",
        )
    secure = settings.scheduler.startswith("tls://") or any(u.url.startswith("https://") for u in settings.upstreams)
    if not secure:
        return Credentials(token, None, open_webui)
    files = [(secure_directory or Path()) / name for name in (layout.CA_CERT, layout.CERT, layout.KEY)]
    missing = [str(f) for f in files if not f.is_file()]
    if missing:
        raise ConfigError(
            f"no {', '.join(missing)}: workers and scheduler are reached by mutual TLS",
            where=f"${layout.TLS_VARIABLE}",
            remedy="`cluster-ai apply` puts them there",
        )
    return Credentials(token, Tls(*files), open_webui)


def _line(file: Path | None) -> str:
    return file.read_text().strip() if file is not None and file.is_file() else ""


def client_context(files: Tls) -> ssl.SSLContext:
    """Raises ConfigError where the files don't hold a certificate and its key."""
    try:
        return live.Live(files.cert.parent, server=False)
    except (OSError, ValueError) as e:
        raise ConfigError(f"the certificates can't be used: {e}", where=str(files.cert.parent)) from e


def listening(settings: GatewaySettings, environ: Mapping[str, str], pid: int) -> list[socket.socket]:
    """systemd's sockets where it handed some to this process, else one of our own. Raises UnavailableError."""
    if environ.get("LISTEN_PID") == str(pid) and environ.get("LISTEN_FDS", "0") != "0":
        return [socket.socket(fileno=_FIRST_SOCKET + i) for i in range(int(environ["LISTEN_FDS"]))]
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    own = socket.socket(family, socket.SOCK_STREAM)
    own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        own.bind((settings.host, settings.port))
    except OSError as e:
        own.close()
        raise UnavailableError(
            f"can't listen there: {e.strerror}",
            where=f"{settings.host}:{settings.port}",
            remedy="see what holds it with `ss -ltnp`, or set gateway.port",
        ) from e
    return [own]


class Server(uvicorn.Server):
    """Ends so that no client notices; meanwhile it tells the gateway that has taken over which streams it still has."""

    def __init__(
        self,
        app: Gateway,
        fleet: Fleet,
        elders: Elders,
        ready: Callable[[], None],
        context: ssl.SSLContext | None = None,
        public_port: int = 0,
    ) -> None:
        """context: of the sockets at public_port; None: those speak plain HTTP, as all others do."""
        config = uvicorn.Config(
            app,
            http=Connection,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,  # an address that a header claims must not become a trusted one
            timeout_graceful_shutdown=layout.GATEWAY_GRACE,
            backlog=4096,
        )
        super().__init__(config)
        self._app, self._fleet, self._elders, self._ready = app, fleet, elders, ready
        self._context, self._public_port = context, public_port

    async def on_tick(self, counter: int) -> bool:
        if counter % 5 == 0:  # it is called ten times a second
            self._fleet.count(self._elders.in_flight())
        if counter % 10 == 0:
            self._tick()
        return await super().on_tick(counter)

    def _tick(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, Connection):
                connection.tick()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        listeners = sockets or []
        secure = [it for it in listeners if self._context and it.getsockname()[1] == self._public_port]
        await super().startup([it for it in listeners if it not in secure])
        for listener in secure:
            server = await asyncio.get_running_loop().create_server(
                self._connection,
                sock=listener,
                ssl=self._context,
                ssl_handshake_timeout=HEAD_WITHIN,
                backlog=self.config.backlog,
            )
            self.servers.append(server)
        self._ready()

    def _connection(self) -> Connection:
        """As uvicorn makes them of the sockets that it listens on."""
        return Connection(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        telling = asyncio.create_task(self._tell(), name="ending")
        try:
            await self._linger(sockets or [])
            await super().shutdown(sockets)
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
            self._elders.forget()

    async def _linger(self, sockets: list[socket.socket]) -> None:
        """No new connections; those that are kept open may be in use at this very moment, so they aren't closed yet."""
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        self._app.ending = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LINGER):
                while self.server_state.connections:  # noqa: ASYNC110 (uvicorn tells of no change)
                    await asyncio.sleep(0.05)

    async def _tell(self) -> None:
        while True:
            self._elders.tell({worker.name: len(worker.flights) for worker in self._fleet.workers.values()})
            await asyncio.sleep(INTERVAL)


async def serve(
    settings: GatewaySettings,
    credentials: Credentials,
    sockets: list[socket.socket],
    state: Path | None,
    log: Log,
    ready: Callable[[], None],
    shown: ssl.SSLContext | None = None,
) -> None:
    """Until SIGTERM or SIGINT; then no new connections, and streams have layout.GATEWAY_GRACE seconds to end.

    state: a folder that outlasts the process; None: nothing is kept. ready: told once requests are taken. shown: of the
    sockets at settings.port; None: plain HTTP.
    """
    fleet, elders = Fleet(settings), Elders(state)
    database = Database(state, lambda text: log.write("storage", error=text))
    restore(fleet, FleetChanges(database), lambda text: log.write("restored", note=text))
    server: uvicorn.Server | None = None

    def seen(view: View | None, reason: str) -> None:
        if view is None:
            log.write("scheduler", connected=False, reason=reason)
        cordons.seen(view, reason)

    membership = Membership(settings.scheduler, credentials.tls, seen)
    cordons = Cordons(
        fleet, membership, CordonFile(state), log, ending=lambda: server is not None and server.should_exit
    )
    context = client_context(credentials.tls) if credentials.tls is not None else None
    connector = aiohttp.TCPConnector(limit=0, ssl=context or True, ttl_dns_cache=60)
    async with (
        session(connector) as client,
        contextlib.aclosing(Wire(context)) as wire,
        cordons,
        HealthWatch(fleet, client, log) as health,
        TaskManager(Path(settings.tasks) if settings.tasks else None) as tasks,
        membership,
        Books(state, lambda text: log.write("storage", error=text)) as books,
        Logins(
            settings.cluster,
            state,
            books.keys,
            lambda text: log.write("identity", note=text),
            provider=Provider(settings.oidc) if settings.oidc else None,
        ) as logins,
    ):
        traces = tracing(settings.traces, settings.cluster)
        blobs = Blobs(state / "blobs" if state is not None else None)
        people = People(logins.store, books.keys)
        guard = Guard(
            credentials.token,
            settings.trusted_networks,
            [settings.host],
            logins.user,
            people.person,
            credentials.open_webui,
        )
        app = Gateway(
            Surroundings(
                settings=settings,
                fleet=fleet,
                membership=membership,
                cordons=cordons,
                health=health,
                database=database,
                tasks=tasks,
                guard=guard,
                blobs=blobs,
                client=client,
                wire=wire,
                log=log,
                books=books,
                logins=logins,
                audit=Audit(state, log),
                tracing=traces,
            )
        )
        await health.looked(FIRST_LOOK)
        gc.collect()
        gc.freeze()  # what is loaded by now stays: no need to walk through it again and again while requests run
        log.write("started", cluster=settings.cluster, listen=[str(s.getsockname()) for s in sockets])
        server = Server(app, fleet, elders, ready, shown, settings.port)
        upkeep = asyncio.create_task(app.upkeep(), name="upkeep")
        try:
            await server.serve(sockets=sockets)
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            blobs.close()
            if traces is not None:
                await asyncio.to_thread(traces.close)
    database.close()
    log.write("stopped")


def run(settings: GatewaySettings, environ: Mapping[str, str]) -> None:
    """Raises ClusterAIError before it serves; returns after a signal."""
    _raise_descriptors()
    log = Log(period=GATHERED)
    logging.basicConfig(level=logging.WARNING, handlers=[Handler(log)], force=True)
    directory = environ.get("CREDENTIALS_DIRECTORY")
    credentials = read_credentials(settings, Path(directory) if directory else None, live.folder(environ))
    shown = public(settings.shows, environ) if settings.shows else None
    sockets = listening(settings, environ, os.getpid())
    # uvicorn raises the signal anew when it has ended; it must find a handler that lets us exit with 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(settings, credentials, sockets, _state(environ), log, lambda: notify(environ), shown))


def _raise_descriptors() -> None:
    """A shell gives 1024, which are 384 clients; systemd has been told more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def notify(environ: Mapping[str, str]) -> None:
    """Tell systemd, where it wants to know, that requests are taken: sd_notify(3)."""
    path = environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
            told.connect(f"\0{path[1:]}" if path.startswith("@") else path)
            told.sendall(b"READY=1")


def _state(environ: Mapping[str, str]) -> Path | None:
    """systemd's StateDirectory=, which may be several."""
    first = environ.get("STATE_DIRECTORY", "").partition(":")[0]
    return Path(first) if first else None
