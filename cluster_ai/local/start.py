"""The foreground of `up`: prepares, starts the supervisor, follows it until all is ready, asks the first prompt."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import FrameType

from cluster_ai import layout
from cluster_ai.errors import ClusterAIError, LockedError, UnavailableError
from cluster_ai.local import http as requests
from cluster_ai.local import machine, plan, ports, state
from cluster_ai.local.model import MARKER, MODEL, Event, Options, Paths, Plan
from cluster_ai.local.state import State

PROMPT = "In one sentence, what is a computer cluster?"
_ANSWER_TOKENS = 60
_FIRST_ANSWER, _STATE_CHANGE, _END = 120.0, 15.0, 30.0  # seconds
_RENEW = timedelta(days=30)
_STEP = 0.05

Report = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Answer:
    text: str
    worker: str
    tokens_per_second: float | None


@dataclass(frozen=True, slots=True)
class Started:
    state: State
    already: bool  # it had been up before
    answer: Answer | None


def up(options: Options, report: Report, environment: Mapping[str, str] = os.environ) -> Started:
    """Blocks until the cluster answers. Whatever goes wrong, and on SIGINT or SIGTERM, no process is left."""
    options = replace(options, root=options.root.resolve())
    paths = Paths(options.root)
    deadline = time.monotonic() + _STATE_CHANGE
    with _Signals() as signals:
        while (lock := state.try_lock(paths)) is None:
            current = state.read(paths)
            if current and current.phase == "up":
                return Started(current, already=True, answer=None)
            if current or time.monotonic() > deadline:
                raise LockedError(
                    "another `cluster-ai up` or `down` is at work here",
                    where=str(paths.root),
                    remedy="wait until it is done, then try again",
                )
            time.sleep(_STEP)
        try:
            made = _prepare(paths, options, environment)
            return _start(paths, made, lock, report, signals)
        finally:
            os.close(lock)


def _prepare(paths: Paths, options: Options, environment: Mapping[str, str]) -> Plan:
    state.kill_all(paths.root)  # the lock is ours: what still carries this root was orphaned
    plan.require_room(shutil.disk_usage(paths.root).free, paths.root)
    here = machine.look(environment)
    plan.require_engine(here)
    wanted = options.ports
    named = {
        "gateway": (wanted.gateway, "--gateway-port"),
        "Dask scheduler": (wanted.dask, "--dask-port"),
        "Dask dashboard": (wanted.dask_dashboard, "--dask-dashboard-port"),
    }
    if options.dashboard and here.dashboard:
        named["dashboard"] = (wanted.dashboard, "--dashboard-port")
    if options.open_webui and here.open_webui:
        named["Open WebUI"] = (wanted.open_webui, "--open-webui-port")
    if here.prometheus:
        named["Prometheus"] = (wanted.prometheus, "--prometheus-port")
    ports.require_free(named)
    taken = (port for port, _ in named.values())
    made = plan.make(options, here, ports.next_free(wanted.engines, plan.worker_count(here), taken))
    own = (paths.local / name for name in ("ollama", "gateway", "data", "open-webui"))
    for folder in (paths.etc, paths.logs, paths.credentials, *own):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for name, text in {**made.files, "etc/plan.json": made.dump()}.items():
        (paths.local / name).write_text(text)
    for log in paths.logs.glob("*.log"):
        log.replace(log.with_suffix(".log.old"))
    _credentials(paths.credentials, options.cluster)
    return made


def _credentials(folder: Path, cluster: str) -> None:
    """A CA that signs one certificate, for this machine alone, and is forgotten; made anew before it ends."""
    from cluster_ai.security import ca

    for name in (layout.OPEN_WEBUI_KEY, layout.OPEN_WEBUI_SECRET):
        if not (folder / name).exists():
            _write(folder / name, secrets.token_hex(32).encode())
    with contextlib.suppress(OSError, ValueError):
        if ca.expiry((folder / layout.CERT).read_bytes()) - datetime.now(UTC) > _RENEW:
            return
    authority = ca.create(cluster)
    pair = ca.issue(authority, "localhost", ["localhost", "127.0.0.1", "::1"], "head", lifetime=ca.LONG)
    files = {
        layout.CA_CERT: authority.cert,
        layout.KEY: pair.key,
        layout.GATEWAY_TOKEN: secrets.token_hex(32).encode() + b"\n",
        layout.CERT: pair.cert,  # last: its being there says that all are
    }
    for name, content in files.items():
        _write(folder / name, content)


def _write(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _start(paths: Paths, made: Plan, lock: int, report: Report, signals: _Signals) -> Started:
    with signals.held():
        process = _spawn(paths, lock)
        try:
            with signals.let_through():
                _follow(process, paths, report)
                answer = _first_answer(made.addresses.gateway)
            assert process.stdin
            process.stdin.write(b"keep\n")
            process.stdin.flush()
            return Started(_until_up(paths), already=False, answer=answer)
        except BaseException:
            _end(process, paths)
            raise
        finally:
            for stream in (process.stdin, process.stdout):
                assert stream
                with contextlib.suppress(OSError):
                    stream.close()


def _spawn(paths: Paths, lock: int) -> subprocess.Popen[bytes]:
    with (paths.logs / "supervisor.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "cluster_ai.local.supervisor", str(paths.root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            env={**os.environ, **plan.python_env(), MARKER: str(paths.root)},
            start_new_session=True,
            pass_fds=(lock,),
        )


def _follow(process: subprocess.Popen[bytes], paths: Paths, report: Report) -> None:
    """Until everything is ready. Raises UnavailableError with the component's last words."""
    assert process.stdout
    for line in process.stdout:
        event = Event.parse(line)
        report(event)
        if event.kind == "up":
            return
        if event.kind == "failed":
            why, _, remedy = event.detail.partition("\n")
            said = "".join(f"\n  | {text}" for text in event.log)
            log = paths.logs / f"{event.component}.log"
            raise UnavailableError(f"{why}{said}\n  (all of it: {log})", where=event.component, remedy=remedy)
    raise UnavailableError(
        "the cluster was stopped while it started",
        where=str(paths.root),
        remedy=f"unless you did that (`cluster-ai down`), see {paths.logs / 'supervisor.log'}",
    )


def _first_answer(gateway: str) -> Answer:
    """A real prompt. The gateway may need a moment to see that the engines are there."""
    deadline = time.monotonic() + _FIRST_ANSWER
    body: dict[str, object] = {
        "model": MODEL,
        "prompt": PROMPT,
        "options": {"num_predict": _ANSWER_TOKENS, "temperature": 0, "seed": 1},
    }
    while True:
        try:
            return _ask(gateway, body)
        except (OSError, http.client.HTTPException, ClusterAIError) as error:
            if time.monotonic() > deadline:
                raise UnavailableError(
                    f"no answer to the first prompt: {error}", where="gateway", remedy="see its log"
                ) from error
        time.sleep(_STEP)


def _ask(gateway: str, body: dict[str, object]) -> Answer:
    text, worker, speed = "", "", None
    for response, line in requests.lines(f"{gateway}/api/generate", body, _FIRST_ANSWER):
        worker = response.headers.get("X-Cluster-Worker", "")
        if "error" in line:
            raise UnavailableError(str(line["error"]), where="gateway")
        text += line.get("response", "")
        if line.get("done") and line.get("eval_duration"):
            speed = line["eval_count"] / line["eval_duration"] * 1e9
    return Answer(text.strip(), worker, speed)


def _until_up(paths: Paths) -> State:
    deadline = time.monotonic() + _STATE_CHANGE
    while time.monotonic() < deadline:
        current = state.read(paths)
        if current and current.phase == "up":
            return current
        time.sleep(_STEP)
    raise UnavailableError("the supervisor has gone", where=str(paths.root), remedy=f"see {paths.logs}")


def _end(process: subprocess.Popen[bytes], paths: Paths) -> None:
    """Stop everything and wait for it: closing its stdin tells the supervisor, a signal tells it sooner."""
    process.terminate()
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    state.kill_all(paths.root)
    paths.state.unlink(missing_ok=True)


class _Signals:
    """SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt, but never between a process's start and our knowing it."""

    def __init__(self) -> None:
        self._holding, self._came = False, False
        self._before: dict[int, object] = {}

    def __enter__(self) -> _Signals:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        self._holding = True
        try:
            yield
        finally:
            self._holding = False

    @contextlib.contextmanager
    def let_through(self) -> Iterator[None]:
        self._holding = False
        try:
            if self._came:
                raise KeyboardInterrupt
            yield
        finally:
            self._holding = True

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        if not self._holding:
            raise KeyboardInterrupt
