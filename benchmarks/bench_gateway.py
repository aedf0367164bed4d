"""What the gateway costs beside nginx, a compiled Go proxy and LiteLLM, in one run: `make bench-gateway`.

Every contestant has one core, the same one; the load and the fake workers have the others. Rounds are interleaved, so
that a busy moment of the machine hits all alike. Writes its section into docs/benchmarks.md; with --only or --among
only prints. Exit code 1 when what was promised isn't kept.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[1])

from benchmarks.gateway import contestants as who  # noqa: E402
from benchmarks.gateway.contestants import CONTESTANTS, FOLDER, Contestant, Site, Target  # noqa: E402
from benchmarks.gateway.processes import Ports, pinned  # noqa: E402
from benchmarks.gateway.results import SCENARIOS, Results, Run, Scenario, promises, row, table  # noqa: E402
from benchmarks.page import put  # noqa: E402

ROUNDS = 3
OURS = ("ours", "ollama")


def behave(control: str, wanted: Mapping[str, str]) -> None:
    query = urllib.parse.urlencode(wanted)
    with urllib.request.urlopen(f"http://{control}/set?{query}", timeout=10):
        pass


def loaded(site: Site, contestant: Contestant, target: Target, scenario: Scenario) -> Run:
    command = [str(site.programs / "load"), "-address", target.address, "-path", contestant.path, "-token", who.TOKEN]
    command += ["-model", who.MODEL, "-pid", str(target.pid or 0), *scenario.load]
    done = subprocess.run(pinned(site.others, command), capture_output=True, text=True, check=False, timeout=900)
    if done.returncode:
        raise SystemExit(f"bench: {contestant.name}, {scenario.name}: {done.stderr[-2000:]}")
    run: Run = json.loads(done.stdout)
    return run


def told(contestant: Contestant, scenario: Scenario, run: Run) -> None:
    text = f"{run['requests_per_second']:.0f} req/s, p50 {run['latency_p50']:.2f} ms, TTFT p50 {run['first_p50']:.2f}"
    text += f" p99 {run['first_p99']:.2f} ms"
    if "cpu_seconds" in run:
        text += f", {run['cpu_seconds'] / max(1, run['requests']) * 1e6:.0f} us/req"
        if run["tokens"]:
            text += f", {run['cpu_seconds'] / run['tokens'] * 1e6:.1f} ms/1000 tokens"
        text += f", {run['resident_mb']:.0f} MB"
    if run["failed"]:
        text += f", {run['failed']} FAILED {dict(list(run['faults'].items())[:3])}"
    print(f"bench: {scenario.name:8} {contestant.name:8} {text}", flush=True)


def measure(chosen: Sequence[Contestant], scenarios: Sequence[Scenario], rounds: int) -> Results:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise SystemExit("bench: two cores are needed, one for the contestant and one for the load")
    ports, results = Ports(), Results()
    programs = who.build()
    upstream_ports = [ports.take() for _ in range(who.WORKERS)]
    addresses = tuple(f"127.0.0.1:{port}" for port in upstream_ports)
    site = Site(tuple(cores[:1]), tuple(cores[1:]), addresses, ports, programs)
    with contextlib.ExitStack() as stack:
        control = stack.enter_context(who.upstreams(programs, site.others, upstream_ports))
        targets: dict[str, Target] = {}
        for program in dict.fromkeys(it.program for it in chosen):
            folder = FOLDER / "run" / program.name
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            targets[program.name] = stack.enter_context(program.start(site, folder))
            print(f"bench: {program.name} {program.version()} is up", flush=True)
        for contestant in chosen:
            warm = Scenario("warm-up", {}, ("-clients", "16", "-for", "1s"))
            loaded(site, contestant, targets[contestant.program.name], warm)
        for _ in range(rounds):
            for scenario in scenarios:
                behave(control, scenario.upstream)
                for contestant in chosen:
                    run = loaded(site, contestant, targets[contestant.program.name], scenario)
                    told(contestant, scenario, run)
                    results.add(contestant.name, scenario.name, run)
    return results


def section(results: Results, chosen: Sequence[Contestant], rounds: int) -> str:
    versions = ", ".join(
        f"{name} {version}"
        for name, version in dict.fromkeys((it.title.partition(",")[0], it.program.version()) for it in chosen)
        if version
    )
    others = "another" if len(os.sched_getaffinity(0)) == 2 else "the others"
    lines = [
        f"Measured by `make bench-gateway` on {time.strftime('%Y-%m-%d')}: Linux {platform.release()}, Python"
        f" {platform.python_version()}, {versions}. Each contestant on one core; {who.WORKERS} fake workers and the"
        f" load on {others}; {rounds} rounds, interleaved; medians, of errors and memory the worst. Ours is what a"
        " release starts, with token, metering, limits, failover and the default policy; the others do none of it,"
        " LiteLLM its key. Requests/s and CPU/request: 64 clients at once, short whole answers. Light load: 50"
        " requests/s. Streams: 64 tokens at 50/s. Slow streams: 20 tokens at 2/s.",
        "",
        table([row(results, it.name, it.title) for it in chosen]),
    ]
    for name in OURS:
        kept = promises(results, name)
        if kept:
            title = next(it.title for it in chosen if it.name == name)
            lines += ["", f"{title}, beside what was promised:", "", *(f"- {promise}" for promise in kept)]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    scenarios, names = [it.name for it in SCENARIOS], [it.name for it in CONTESTANTS]
    parser.add_argument("--only", nargs="+", metavar="SCENARIO", choices=scenarios, help=", ".join(scenarios))
    parser.add_argument("--among", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended then too
    chosen = [it for it in CONTESTANTS if it.name in (given.among or names)]
    wanted = [it for it in SCENARIOS if it.name in (given.only or scenarios)]
    results = measure(chosen, wanted, given.rounds)
    text = section(results, chosen, given.rounds)
    print(text)
    if not given.only and not given.among:
        put("gateway", "The gateway", text)
    return 0 if all(it.kept for name in OURS for it in promises(results, name)) else 1


if __name__ == "__main__":
    sys.exit(main())
