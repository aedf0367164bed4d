"""What is done to a lab's cluster in the midst of a batch, and what must be true of the batch in the end."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.rollout_lab import HEAD, WORKERS, Trial
from cluster_ai import layout


@dataclass(frozen=True, slots=True)
class Disturbance:
    """weight: how often it is chosen, beside the others. do: blocks until it is over."""

    name: str
    weight: int
    hosts: Sequence[str]
    do: Callable[[Trial, str, random.Random], None]


def _cut(trial: Trial, host: str, chance: random.Random) -> None:
    trial.lab("kill", host)
    time.sleep(chance.uniform(1, 8))
    trial.lab("start", host)


def _apart(trial: Trial, host: str, chance: random.Random) -> None:
    trial.lab("partition", host, "on")
    try:
        time.sleep(chance.uniform(3, 25))  # shorter and longer than what Dask waits for
    finally:
        trial.lab("partition", host, "off")


def _hang(trial: Trial, host: str, chance: random.Random) -> None:
    trial.lab("freeze", host, "on")
    try:
        time.sleep(chance.uniform(3, 25))
    finally:
        trial.lab("freeze", host, "off")


def _killed(unit: str) -> Callable[[Trial, str, random.Random], None]:
    def do(trial: Trial, host: str, chance: random.Random) -> None:
        trial.on(host, f"systemctl kill --signal=SIGKILL '{unit}'", check=False)

    return do


def _restarted(unit: str) -> Callable[[Trial, str, random.Random], None]:
    def do(trial: Trial, host: str, chance: random.Random) -> None:
        trial.on(host, f"systemctl restart '{unit}'", check=False)

    return do


DISTURBANCES = (
    Disturbance("power cut of a worker", 4, WORKERS, _cut),
    Disturbance("power cut of the head", 1, (HEAD,), _cut),
    Disturbance("partition of a worker", 4, WORKERS, _apart),
    Disturbance("a worker hangs", 2, WORKERS, _hang),
    Disturbance("scheduler restarted", 3, (HEAD,), _restarted(layout.SCHEDULER)),
    Disturbance("scheduler killed", 2, (HEAD,), _killed(layout.SCHEDULER)),
    Disturbance("task manager killed", 2, (HEAD,), _killed(layout.TASKS)),
    Disturbance("gateway killed", 2, (HEAD,), _killed(layout.GATEWAY.replace("@", "@*"))),
    Disturbance("engine killed", 2, WORKERS, _killed(layout.ENGINE)),
    Disturbance("Dask worker killed", 2, WORKERS, _killed(layout.WORKER)),
)


def chosen(seed: int, disturbances: Sequence[Disturbance] = DISTURBANCES) -> Iterator[tuple[Disturbance, str]]:
    """Without end; the same for the same seed. Each of them comes once before they come by their weights. Pure."""
    chance = random.Random(seed)  # noqa: S311 (no secret)
    first = list(disturbances)
    chance.shuffle(first)
    for it in first:
        yield it, chance.choice(it.hosts)
    while True:
        (it,) = chance.choices(disturbances, [it.weight for it in disturbances])
        yield it, chance.choice(it.hosts)


class Chaos:
    """One disturbance after another between `with` and its end; each is over, and its host back, before the next."""

    def __init__(self, trial: Trial, seed: int, pause: tuple[float, float]) -> None:
        self._trial, self._seed, self._pause = trial, seed, pause
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos")
        self.done: list[tuple[float, str, str]] = []  # when, what, to which host
        self.failed: BaseException | None = None

    def __enter__(self) -> Chaos:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def counts(self) -> Mapping[str, int]:
        return Counter(what for _, what, _ in self.done)

    def _run(self) -> None:
        chance = random.Random(self._seed)  # noqa: S311 (no secret)
        try:
            for it, host in chosen(self._seed):
                if self._over.wait(chance.uniform(*self._pause)):
                    return
                self.done.append((time.time(), it.name, host))
                print(f"chaos: {it.name}: {host}", flush=True)
                it.do(self._trial, host, chance)
        except (OSError, SystemExit) as e:  # the lab's, not the cluster's
            self.failed = e


# --- what must be true ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of the lines that a batch leaves."""

    asked: int
    answered: int
    missing: tuple[str, ...]
    twice: tuple[str, ...]
    strange: tuple[str, ...]  # answered, but never asked
    failed: tuple[str, ...]  # in the error file

    @property
    def held(self) -> bool:
        return self.answered == self.asked and not (self.missing or self.twice or self.strange or self.failed)


def judge(asked: Iterable[str], answers: Iterable[Mapping[str, Any]], errors: Iterable[Mapping[str, Any]]) -> Verdict:
    """From custom_ids, and the lines of the output and the error file. Pure."""
    wanted = set(asked)
    counts = Counter(str(line["custom_id"]) for line in answers)
    return Verdict(
        asked=len(wanted),
        answered=sum(it in wanted for it in counts),
        missing=tuple(sorted(wanted - counts.keys())),
        twice=tuple(sorted(it for it, count in counts.items() if count > 1)),
        strange=tuple(sorted(counts.keys() - wanted)),
        failed=tuple(sorted(f"{line['custom_id']}: {json.dumps(line.get('error'))}" for line in errors)),
    )
