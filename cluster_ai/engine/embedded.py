"""The embedded engine: a model behind Ollama's API, for machines without Ollama.

`python -m cluster_ai.engine.embedded --help` says how it is run.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from cluster_ai.engine.embedded_api import make_app
from cluster_ai.engine.embedded_llama import Llama
from cluster_ai.engine.embedded_translate import canonical
from cluster_ai.engine.gguf import GGUFError

log = logging.getLogger("cluster_ai.engine")
_SHUTDOWN = 2.0  # seconds that running answers get


def main(argv: list[str] | None = None) -> int:
    options = _arguments(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    return asyncio.run(_serve(options))


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m cluster_ai.engine.embedded", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=11434)
    parser.add_argument("--model", action="append", required=True, metavar="NAME=PATH", type=_model, dest="models")
    parser.add_argument("--parallel", type=int, default=1, help="requests at once for each model")
    parser.add_argument("--context", type=int, default=4096, help="tokens a request may have")
    parser.add_argument("--threads", type=int, default=max(1, (os.cpu_count() or 2) // 2))
    return parser.parse_args(argv)


def _model(text: str) -> tuple[str, Path]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"{text!r} isn't NAME=PATH")
    return canonical(name) if ":" not in name else name, Path(path)


async def _serve(options: argparse.Namespace) -> int:
    stopped = asyncio.Event()
    _listen(stopped)
    try:
        sizes = {"parallel": options.parallel, "context": options.context, "threads": options.threads}
        models = [Llama(name, path, **sizes) for name, path in options.models]
    except (OSError, GGUFError) as error:
        log.error("%s", error)
        return 1
    runner = web.AppRunner(make_app(models), handler_cancellation=True, access_log=None, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    try:
        await web.TCPSite(runner, options.host, options.port).start()
    except OSError as error:
        log.error("can't listen on %s:%s: %s", options.host, options.port, error.strerror)
        return 1
    log.info("listening on %s:%s; loading %s", options.host, options.port, ", ".join(m.name for m in models))
    code = await _run(models, stopped)
    await runner.cleanup()
    logging.shutdown()
    # Not by way of llama.cpp's destructors: they can't interrupt a load, and were seen to wait for ever.
    os._exit(code)


async def _run(models: list[Llama], stopped: asyncio.Event) -> int:
    """Load the models, then wait for the end."""
    waiting = asyncio.create_task(stopped.wait(), name="stopped")
    try:
        for model in models:
            loading = asyncio.create_task(model.start(), name=f"load {model.name}")
            await asyncio.wait({loading, waiting}, return_when=asyncio.FIRST_COMPLETED)
            if not loading.done():
                return 0
            loading.result()
            _listen(stopped)  # llama.cpp takes SIGINT and SIGTERM for itself when it has loaded a model
            log.info("%s is loaded", model.name)
        await waiting
    except RuntimeError as error:
        log.error("llama.cpp can't load the model: %s", error)
        return 1
    return 0


def _listen(stopped: asyncio.Event) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)


if __name__ == "__main__":
    sys.exit(main())
