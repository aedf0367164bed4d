"""Owns the processes of a cluster on one machine: starts them all at once, brings back what dies, ends them together.

It is started by `up` as `python -m cluster_ai.local.supervisor ROOT`, in a session of its own, with
 - stdin: a pipe from `up`. Its end before the word "keep" means that `up` was interrupted: nothing may stay.
 - stdout: a pipe to `up`, events as JSON lines.
It forks at once. The parent only waits: when the supervisor is gone, however that came about, it kills what is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import http.client
import logging
import os
import signal
import sys
import time
from pathlib import Path

from cluster_ai.errors import UnavailableError
from cluster_ai.local import http as requests
from cluster_ai.local import ollama, state
from cluster_ai.local.model import Component, Event, Paths, Plan, Probe

log = logging.getLogger("cluster_ai.local")

_PR_SET_PDEATHSIG = 1
_GRACE = 4.0  # seconds that processes get to end by themselves
_POLL = 0.1
_STEADY = 60.0  # seconds of life after which a death counts as the first
_LOG_LINES = 15
_libc = ctypes.CDLL(None, use_errno=True)


class _NotStartedError(Exception):
    def __init__(self, component: Component, why: str) -> None:
        self.component, self.why = component, why
        super().__init__(f"{component.name} {why}")


def backoff(deaths: int) -> float:
    """Seconds until a process that died this often in a row is started again."""
    return min(30.0, 0.25 * 2.0 ** min(deaths - 1, 10))


class Supervisor:
    def __init__(self, plan: Plan) -> None:
        self._plan, self._paths = plan, Paths(Path(plan.root))
        self._live: dict[str, asyncio.subprocess.Process] = {}
        self._ready: dict[str, asyncio.Event] = {c.name: asyncio.Event() for c in plan.components}
        self._stopping = asyncio.Event()
        self._kept = False

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stopping.set)
        loop.add_reader(sys.stdin.fileno(), self._lifeline)
        state.write(self._paths, state.of(self._plan, os.getpid(), "starting"))
        keepers = [asyncio.create_task(self._keep(c), name=f"keep {c.name}") for c in self._plan.components]
        up = asyncio.create_task(self._up(), name="up")
        stopping = asyncio.create_task(self._stopping.wait(), name="stopping")
        try:
            # Keepers end only by failing, and only before everything is up.
            await asyncio.wait({*keepers, stopping}, return_when=asyncio.FIRST_COMPLETED)
            failed = next((k.exception() for k in keepers if k.done() and not k.cancelled() and k.exception()), None)
            if failed:
                self._tell_failure(failed)
                return 1
            return 0
        finally:
            for task in (*keepers, up, stopping):
                task.cancel()
            await asyncio.gather(*keepers, up, stopping, return_exceptions=True)
            await self._end_all()
            self._paths.state.unlink(missing_ok=True)

    async def _up(self) -> None:
        await asyncio.gather(*(event.wait() for event in self._ready.values()))
        self._tell(Event("up"))

    async def _keep(self, component: Component) -> None:
        """Keep one component alive. One that dies or doesn't get ready before the cluster is up is a failure."""
        deaths = 0
        while True:
            began = time.monotonic()
            self._tell(Event("starting", component.name))
            process = await self._spawn(component)
            dead = asyncio.create_task(process.wait(), name=f"wait {component.name}")
            getting_ready = asyncio.create_task(self._get_ready(component), name=f"ready {component.name}")
            try:
                await asyncio.wait({dead, getting_ready}, return_when=asyncio.FIRST_COMPLETED)
                if getting_ready.done() and (why := getting_ready.exception()):
                    if not self._kept:
                        raise _NotStartedError(component, str(why))
                    log.error("%s: %s; it is started again", component.name, why)
                    await self._end(process)
                elif getting_ready.done():
                    self._ready[component.name].set()
                    self._tell(Event("ready", component.name, time.monotonic() - began))
                code = await dead
            finally:
                for task in (dead, getting_ready):
                    task.cancel()
                await asyncio.gather(dead, getting_ready, return_exceptions=True)
            _kill_group(process.pid)  # its own children may have outlived it
            if not self._ready[component.name].is_set() and not self._kept:
                raise _NotStartedError(component, f"ended while starting: {_ending(code)}")
            deaths = 1 if time.monotonic() - began > _STEADY else deaths + 1
            pause = backoff(deaths)
            detail = f"{_ending(code)}; started again in {pause:g} s"
            log.warning("%s %s", component.name, detail)
            self._tell(Event("restarting", component.name, detail=detail))
            await asyncio.sleep(pause)

    async def _spawn(self, component: Component) -> asyncio.subprocess.Process:
        with (self._paths.logs / f"{component.name}.log").open("ab") as output:
            try:
                process = await asyncio.create_subprocess_exec(
                    *component.argv,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    env={**os.environ, **component.env},
                    cwd=self._paths.local,
                    start_new_session=True,
                    preexec_fn=_die_with_parent,
                )
            except OSError as error:
                raise _NotStartedError(component, f"can't be started: {error.strerror}") from error
        self._live[component.name] = process
        log.info("%s: process %d", component.name, process.pid)
        return process

    async def _get_ready(self, component: Component) -> None:
        """Raises UnavailableError at the deadline."""
        deadline = time.monotonic() + component.deadline
        while not await asyncio.to_thread(_answers, component.probe):
            if time.monotonic() > deadline:
                raise UnavailableError(f"isn't ready after {component.deadline:g} s")
            await asyncio.sleep(_POLL)
        if component.model:
            try:
                await asyncio.to_thread(ollama.ensure, component.model, deadline)
            except (OSError, http.client.HTTPException) as error:
                raise UnavailableError(f"doesn't get its model: {error}") from error

    async def _end_all(self) -> None:
        """The scheduler last: a Dask worker that ends while its scheduler does waits for it in vain."""
        scheduler = self._live.pop("scheduler", None)
        await asyncio.gather(*(self._end(process) for process in self._live.values()))
        if scheduler:
            await self._end(scheduler)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Ask, wait, kill; the whole group, since engines have processes of their own."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), _GRACE)
        except TimeoutError:
            log.warning("process %d doesn't end within %g s: killed", process.pid, _GRACE)
        _kill_group(process.pid)
        await process.wait()

    def _lifeline(self) -> None:
        data = os.read(sys.stdin.fileno(), 64)
        if b"keep" in data:
            self._kept = True
            state.write(self._paths, state.of(self._plan, os.getpid(), "up"))
        if self._kept or not data:
            asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        if not data and not self._kept:
            log.info("`up` was interrupted")
            self._stopping.set()

    def _tell_failure(self, failed: BaseException) -> None:
        if not isinstance(failed, _NotStartedError):
            raise failed
        component = failed.component
        log.error("%s", failed)
        lines = _tail(self._paths.logs / f"{component.name}.log")
        self._tell(Event("failed", component.name, detail=f"{failed.why}\n{component.remedy}", log=lines))

    def _tell(self, event: Event) -> None:
        with contextlib.suppress(OSError):  # nobody listens once `up` has gone
            os.write(sys.stdout.fileno(), event.line())


def _answers(probe: Probe) -> bool:
    try:
        status, body = requests.get(probe.url)
    except (OSError, http.client.HTTPException):
        return False
    return status == 200 and all(text in body for text in probe.contains)


def _ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _die_with_parent() -> None:
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _tail(path: Path) -> tuple[str, ...]:
    try:
        return tuple(path.read_text(errors="replace").splitlines()[-_LOG_LINES:])
    except OSError:
        return ()


def _watch(child: int, root: Path) -> int:
    """The parent's part: wait for the supervisor, then see that nothing of the cluster is left."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    state.kill_all(root)
    Paths(root).state.unlink(missing_ok=True)
    return os.waitstatus_to_exitcode(status)


def main() -> int:
    root = Path(sys.argv[1])
    watcher = os.getpid()
    child = os.fork()
    if child:
        for stream in (sys.stdin, sys.stdout):
            os.close(stream.fileno())
        return _watch(child, root)
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != watcher:
        return 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    plan = Plan.load((Paths(root).etc / "plan.json").read_text())
    return asyncio.run(Supervisor(plan).run())


if __name__ == "__main__":
    os._exit(main())
