"""A few real engines on this machine, as hosts run them, with the gateway before them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from benchmarks.routing.talk import OPTIONS
from cluster_ai.settings import Upstream
from tests.rig import cluster as rig
from tests.rig.processes import free_port, running

CONTEXT = 4096


@contextlib.contextmanager
def engines(folder: Path, count: int, slots: int) -> Iterator[list[str]]:
    """Their URLs, with the model in memory. They share the file of the model, and nothing else."""
    program = rig.ollama()
    if program is None:
        raise SystemExit("bench-routing: no Ollama here; `make test` builds one, or set CLUSTER_AI_OLLAMA to one")
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(count):
            port = free_port()
            environment = {
                "HOME": str(folder),
                "OLLAMA_HOST": f"127.0.0.1:{port}",
                "OLLAMA_MODELS": str(folder / "models"),
                "OLLAMA_NOPRUNE": "1",
                "OLLAMA_NUM_PARALLEL": str(slots),
                "OLLAMA_CONTEXT_LENGTH": str(CONTEXT),
                "OLLAMA_KEEP_ALIVE": "-1",
            }
            url = f"http://127.0.0.1:{port}"
            log = folder / f"engine{number}.log"
            stack.enter_context(
                running(
                    [str(program), "serve"],
                    log,
                    environment=environment,
                    until_ready=lambda url=url: rig.get(f"{url}/api/version"),  # type: ignore[misc]
                )
            )
            if not number:
                (folder / "Modelfile").write_text(f"FROM {rig.weights()}\n")
                create = [str(program), "create", rig.MODEL, "-f", str(folder / "Modelfile")]
                subprocess.run(create, env={**os.environ, **environment}, check=True, capture_output=True, timeout=120)
            # With the same options as later, or it would be loaded anew then.
            body = {"model": rig.MODEL, "prompt": "Hello", "stream": False, "options": OPTIONS}
            request = urllib.request.Request(f"{url}/api/generate", json.dumps(body).encode())  # noqa: S310
            rig.fetch(request, timeout=120)
            urls.append(url)
        yield urls


@contextlib.contextmanager
def cluster(folder: Path, count: int, slots: int) -> Iterator[str]:
    """The gateway's URL."""
    with engines(folder / "engines", count, slots) as urls:
        upstreams = tuple(Upstream(f"w{n}", url, (rig.MODEL,), slots, 0) for n, url in enumerate(urls, 1))
        told = rig.gateway_settings(upstreams=upstreams, models={rig.MODEL: CONTEXT})
        credentials = rig.authority().credentials(folder / "head", "head", "head", token=rig.TOKEN)
        with rig.gateway(folder / "gateway", told, credentials, workers=count) as (url, _):
            yield url
