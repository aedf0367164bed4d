"""What a Dask worker does with a task: `run` is what Dask is given. Its answer is plain data, errors too.

The worker's settings and state folder come from its environment, as for its plugin.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributed import get_worker

from cluster_ai import settings
from cluster_ai.cluster import means
from cluster_ai.tasks import process
from cluster_ai.tasks.calling import Call
from cluster_ai.tasks.ledger import BegunError, Ledger
from cluster_ai.tasks.process import FinalError, Place
from cluster_ai.tasks.progress import TOPIC, Progress
from cluster_ai.tasks.turns import Turns

ANSWER_LIMIT = 8 << 20  # bytes of an engine's answer
INLINE = 256 * 1024  # bytes of JSON that the journal keeps of another result; a larger one goes there as a file
_PATHS = {"prompt": "/api/generate", "messages": "/api/chat", "input": "/api/embed"}
_running: dict[str, Callable[[], None]] = {}  # task -> how to stop it
_lock = threading.Lock()
_turns = Turns()


def run(order: Mapping[str, Any]) -> dict[str, Any]:
    """order: id, attempt, kind, payload, timeout, memory, cpu, gpu, idempotent.

    Returns worker; result, or error and final. final: trying again can't help, or must not be done. seconds: for which
    it had a slot of the engine. content, name: of the file that came out, or of a result that is large: then result is
    None.
    """
    return _packed({**_once(order), "worker": _settings().name})


def _packed(outcome: dict[str, Any]) -> dict[str, Any]:
    """A large result as JSON already: bytes cross Dask as they are, objects are taken apart by whoever has them."""
    if outcome.get("result") is None or "seconds" in outcome or "content" in outcome:
        return outcome
    content = json.dumps(outcome["result"], separators=(",", ":")).encode()
    return outcome if len(content) <= INLINE else {**outcome, "result": None, "content": content, "name": "result.json"}


def _once(order: Mapping[str, Any]) -> dict[str, Any]:
    if order["idempotent"]:
        return _do(order)
    name = f"{order['id']}.{order['attempt']}"
    try:
        before = _ledger().begin(name)
    except BegunError:
        text = f"interrupted on worker {_settings().name}; not repeated, since it isn't marked idempotent"
        return {"error": text, "final": True}
    if before is not None:
        return before
    outcome = _do(order)
    _ledger().end(name, outcome)
    return outcome


def stop(task_id: str) -> bool:
    """Whether it ran here. It ends soon, with an error that nobody waits for."""
    with _lock:
        end = _running.get(task_id)
    if end is not None:
        end()
    return end is not None


def give_way(people: int) -> None:
    """So many of the engine's slots are people's for now."""
    _turns.people(people)


def _slots() -> int:
    return int(get_worker().state.total_resources.get("ENGINE", 1))


def _do(order: Mapping[str, Any]) -> dict[str, Any]:
    try:
        return _DO[order["kind"]](order)
    except FinalError as e:
        return {"error": str(e), "final": True}
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}", "final": False}


def _infer(order: Mapping[str, Any]) -> dict[str, Any]:
    """By this worker's own engine: its whole answer, and the seconds for which it had a slot.

    Raises OSError, TimeoutError where the engine is away or too slow.
    """
    payload = order["payload"]
    path, asked = question(payload)
    place = urlsplit(_settings().engine_url)
    call = Call(place.hostname or "", place.port, timeout=order["timeout"])
    with _stoppable(order["id"], call.stop), _turns.taking(_slots()):
        began = time.monotonic()
        try:
            call.connect()
            call.request("POST", path, json.dumps(asked), {"content-type": "application/json"})
            with call.getresponse() as reply:
                answer = reply.read(ANSWER_LIMIT + 1)
        finally:
            call.close()
        seconds = time.monotonic() - began
    if len(answer) > ANSWER_LIMIT:
        raise FinalError(f"the engine's answer has more than {ANSWER_LIMIT} bytes, which is the most that are kept")
    said = json.loads(answer)
    if reply.status >= 400:
        error = said.get("error")
        error = error.get("message") if isinstance(error, Mapping) else error  # OpenAI's manner
        text = f"the engine answered {reply.status}: {error}"
        raise FinalError(text) if reply.status < 500 else OSError(text)
    return {"result": said, "seconds": seconds}


def question(payload: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The path at the engine, and what is sent there. An answer is waited for whole."""
    if "endpoint" in payload:
        return payload["endpoint"], {**payload["body"], "model": payload["model"], "stream": False}
    return next(p for name, p in _PATHS.items() if name in payload), {**payload, "stream": False}


def _custom(order: Mapping[str, Any]) -> dict[str, Any]:
    return {"result": _own_process(order, {})}


def _process_data(order: Mapping[str, Any]) -> dict[str, Any]:
    """result: rows and columns; content and name: of the file with them."""
    name = f"result.{order['payload'].get('output', 'csv')}"
    with tempfile.TemporaryDirectory(dir=_state(), prefix="data-") as folder:
        out = Path(folder) / name
        result = _own_process(order, {"data": _settings().data, "out": str(out)})
        return {"result": result, "content": out.read_bytes(), "name": name}


def _own_process(order: Mapping[str, Any], more: Mapping[str, Any]) -> Any:
    worker = get_worker()

    def tell(progress: Progress) -> None:
        said = {"id": order["id"], "attempt": order["attempt"], "share": progress.share, "text": progress.text}
        worker.log_event(TOPIC, said)

    has, gpu = means.of(worker), order.get("gpu", 0)  # a task manager of an older release names none
    with ExitStack() as stack:
        cards = stack.enter_context(has.cards.taking(gpu))
        made = has.groups.made(order["id"], order["cpu"], order["memory"]) if has.groups is not None else None
        place = Place(stack.enter_context(made) if made is not None else None, cards)
        return process.run(order, tell, partial(_stoppable, order["id"]), more, place)


@contextmanager
def _stoppable(task_id: str, end: Callable[[], None]) -> Iterator[None]:
    with _lock:
        _running[task_id] = end
    try:
        yield
    finally:
        with _lock:
            _running.pop(task_id, None)


_DO = {"ai_inference": _infer, "data_processing": _process_data, "custom": _custom}


def _state() -> Path:
    """Made where it isn't: on one machine nobody else does."""
    folder = Path(os.environ["STATE_DIRECTORY"].partition(":")[0])
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@cache
def _settings() -> settings.WorkerSettings:
    return settings.load(settings.WorkerSettings, Path(os.environ["CLUSTER_AI_WORKER_SETTINGS"]))


@cache
def _ledger() -> Ledger:
    ledger = Ledger(_state() / "tasks")
    with suppress(OSError):
        ledger.tidy()
    return ledger
