"""How long each page of the dashboard takes with many workers, in a real Chromium: `make bench-dashboard`.

What runs is in benchmarks/crowd.py. A page is opened by its link, as a person does it. Timed is the server's share
(from the browser's message to the server's word that the page has run to its end, by the frames on their WebSocket)
and the whole (until nothing on the page is a placeholder any more); counted, what Prometheus was asked meanwhile.
Writes its table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

from selenium.webdriver.chrome.webdriver import WebDriver
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.crowd import CARDS, EACH, Crowd, crowd
from benchmarks.page import put
from tests.rig.scripts import script

WORKERS, ROUNDS = 50, 7
PATIENCE = 120  # seconds that a page may take
FIRST = "overview, as the first page of a tab"
_ENDS = (ForwardMsg.FINISHED_SUCCESSFULLY, ForwardMsg.FINISHED_EARLY_FOR_RERUN)  # not: of a fragment alone
# Resolves when the page `title` stands still: with the milliseconds since it was asked for.
_SETTLED = """
    const [title, open, done] = arguments, began = performance.now();
    const waits = '[data-testid="stSkeleton"], [data-testid="stAppSkeleton"]';
    const still = () => {
        const app = document.querySelector('[data-testid="stApp"]');
        const charts = [...document.querySelectorAll('[data-testid="stVegaLiteChart"]')];
        return app && app.getAttribute('data-test-script-state') === 'notRunning' && !document.querySelector(waits)
            && [...document.querySelectorAll('h1')].some(it => it.innerText.trim() === title)
            && charts.every(it => it.querySelector('canvas, svg') !== null);
    };
    let since = null;
    const look = () => {
        const now = performance.now();
        since = still() ? since ?? now : null;
        if (since !== null && now - since > 300) done(since - began); else requestAnimationFrame(look);
    };
    if (open) document.querySelector(open).click();
    requestAnimationFrame(look);
"""


@dataclass(frozen=True)
class Load:
    """server, whole: seconds."""

    server: float
    whole: float
    queries: float


def measure(shots: ModuleType, crowd: Crowd, rounds: int) -> dict[str, list[Load]]:
    """The first round is not counted: the dashboard's modules are read in it."""
    found: dict[str, list[Load]] = {FIRST: []} | {page: [] for page in shots.PAGES}
    for number in range(rounds + 1):
        with shots.chromium(frames=True) as browser:
            browser.set_script_timeout(PATIENCE)
            walk = {FIRST: opened(browser, crowd)} | {page: went(browser, crowd, page) for page in shots.PAGES[1:]}
            walk["overview"] = went(browser, crowd, "overview")
        for page, load in walk.items():
            if number:
                found[page].append(load)
            print(f"bench: round {number}, {page}: {load}", flush=True)
    return found


def opened(browser: WebDriver, crowd: Crowd) -> Load:
    """By its address, from the navigation's begin."""
    before = crowd.asked()
    browser.get(crowd.dashboard)
    browser.execute_async_script(_SETTLED, "Overview", "")
    whole = browser.execute_script("return performance.now()") / 1000 - 0.3
    return Load(server(browser), whole, crowd.asked() - before)


def went(browser: WebDriver, crowd: Crowd, page: str) -> Load:
    _log(browser)  # what came before
    before = crowd.asked()
    link = f'[data-testid="stSidebarNav"] a[href$="/{"" if page == "overview" else page}"]'
    whole = browser.execute_async_script(_SETTLED, page.capitalize(), link) / 1000
    return Load(server(browser), whole, crowd.asked() - before)


def server(browser: WebDriver) -> float:
    """Seconds from the message that asks for a page to the one that says that its script has ended."""
    asked = 0.0
    for at, sent, message in _frames(browser):
        kind = message.WhichOneof("type")
        if sent and not asked and kind == "rerun_script" and not message.rerun_script.fragment_id:
            asked = at
        elif not sent and asked and kind == "script_finished" and message.script_finished in _ENDS:
            return at - asked
    raise SystemExit("bench: the browser tells of no page that has run to its end")


def _frames(browser: WebDriver) -> Iterator[tuple[float, bool, Any]]:
    """When a frame went over the WebSocket, whether the browser sent it, and what it says."""
    for entry in _log(browser):
        event = json.loads(entry["message"])["message"]
        if event["method"] in ("Network.webSocketFrameSent", "Network.webSocketFrameReceived"):
            frame, sent = event["params"]["response"], event["method"].endswith("Sent")
            if frame["opcode"] == 2:
                kind = BackMsg if sent else ForwardMsg
                yield event["params"]["timestamp"], sent, kind.FromString(base64.b64decode(frame["payloadData"]))


def _log(browser: WebDriver) -> list[dict[str, str]]:
    """What is new in it."""
    return list(browser.get_log("performance"))  # type: ignore[no-untyped-call]


def section(found: Mapping[str, Sequence[Load]], workers: int, rounds: int) -> str:
    lines = [
        f"Measured by `make bench-dashboard` on {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores for all processes"
        f" and the browser, Linux {platform.release()}, Python {platform.python_version()}. {workers} workers with"
        f" {CARDS} cards and {EACH} models each. The gateway, Prometheus, the dashboard and Chromium are real; engines"
        " and exporters stand in, and the last hour was written by promtool. Milliseconds, the median of"
        f" {rounds} (and the most): what the server takes until the page has run to its end, and the time until nothing"
        " on it moves any more. Chromium draws without a graphics card here.",
        "",
        "| page | server | whole | queries to Prometheus, at most |",
        "|---|---|---|---|",
    ]
    for page, loads in found.items():
        server, whole = [1000 * it.server for it in loads], [1000 * it.whole for it in loads]
        lines.append(
            f"| {page} | {median(server):.0f} ({max(server):.0f}) | {median(whole):.0f} ({max(whole):.0f}) "
            f"| {max(it.queries for it in loads):.0f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="bench-dashboard-") as folder:
        print(f"bench: an hour of {args.workers} workers is written, and a cluster started", flush=True)
        with crowd(Path(folder), args.workers) as site:
            found = measure(script("docs/screenshots.py"), site, args.rounds)
    put("dashboard", "Dashboard", section(found, args.workers, args.rounds))


if __name__ == "__main__":
    main()
