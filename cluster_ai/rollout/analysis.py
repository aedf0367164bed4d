"""Whether workers with a new release do as well as they should, from what Prometheus measured. Pure.

Workers are unequal: an old card is slower than a new one whatever it runs, so comparing a canary with the others would
judge the machine. Comparing it with its own past would judge the hour: at noon everything is slower. Therefore both are
compared, as a difference in differences (Card and Krueger, "Minimum Wages and Employment", American Economic Review 84,
1994): a worker is expected to be as it was before the switch, times what happened to the unchanged ones meanwhile. What
is special to a machine cancels out in the first comparison, what is special to the hour in the second. It rests on the
others going on as they did, so their change is a median: one of them that has a bad day doesn't count.

- Speed is compared model by model, and put together by tokens: it must not look like a loss when requests go to a
  larger model than before. Latencies are means, since a mean is exact where a quantile of a histogram is as coarse as
  its buckets; they depend on the mix of requests, which the balancer makes the same for all.
- An error rate is a failure only where chance is no explanation: where the lower end of Wilson's 95 % interval
  ("Probable Inference", Journal of the American Statistical Association 22, 1927) is above what is allowed.
- Without a past of its own, a worker is compared with the others as they are now; without others, with its past alone.
- Too few requests say nothing, and that is the answer then: inconclusive.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

from cluster_ai.config.model import Canary
from cluster_ai.sizes import counted

Result = Literal["pass", "fail", "inconclusive"]
MIN_REQUESTS = 10  # fewer say nothing
MIN_TOKENS = 100  # likewise
MANY = 30  # requests; one that hangs in fewer makes a mean look bad, so that fewer can pass, but not fail
MANY_TOKENS = 500  # likewise, of the speed
SLACK = 0.05  # seconds that a mean may grow whatever share of it that is: below, it is the network's noise
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Quotient:
    """Something by its count or its seconds: seconds by requests, tokens by seconds."""

    top: float = 0.0
    bottom: float = 0.0

    @property
    def value(self) -> float:
        return self.top / self.bottom


@dataclass(frozen=True, slots=True)
class Measured:
    """What one worker did in one span of time."""

    ok: float = 0.0  # requests
    failed: float = 0.0
    response: Quotient = Quotient()  # seconds by requests
    first_token: Quotient = Quotient()  # seconds by streams
    speed: Mapping[str, Quotient] = field(default_factory=dict)  # model -> tokens by seconds

    @property
    def requests(self) -> float:
        return self.ok + self.failed


@dataclass(frozen=True, slots=True)
class Trial:
    """One worker, before the canaries were switched and after."""

    before: Measured = Measured()
    after: Measured = Measured()


@dataclass(frozen=True, slots=True)
class Check:
    """One number of one worker. baseline: what was expected; limit: how much worse it may be, as a share."""

    name: str
    worker: str
    canary: float | None
    baseline: float | None
    limit: float
    result: Result
    sentence: str


@dataclass(frozen=True, slots=True)
class Verdict:
    result: Result
    checks: tuple[Check, ...]

    @property
    def summary(self) -> str:
        """For people, in one line: what decided it."""
        if self.result == "pass":
            return "; ".join(check.sentence for check in self.checks)
        return "; ".join(it.sentence for it in self.checks if it.result == self.result) or "nothing was measured"

    def as_dict(self) -> dict[str, Any]:
        return {"result": self.result, "summary": self.summary, "checks": [asdict(check) for check in self.checks]}


def judge(*, canary: Mapping[str, Trial], baseline: Mapping[str, Trial], limits: Canary) -> Verdict:
    """canary: the workers that were switched, each judged by itself. baseline: those that were not.

    A worker that nobody asked anything, before or after, is not judged where others are.
    """
    checks: list[Check] = []
    canary = {name: it for name, it in canary.items() if it.before.requests or it.after.requests} or canary
    everybody = [*canary.values(), *baseline.values()]
    others = list(baseline.values())
    for worker, trial in canary.items():
        checks.append(_errors(worker, trial, others, limits.max_error_rate))
        for name, part in _LATENCIES.items():
            if any(part(measured).bottom for it in everybody for measured in (it.before, it.after)):
                checks.append(_latency(name, worker, trial, others, part, limits.max_latency_increase))
        if any(measured.speed for it in everybody for measured in (it.before, it.after)):
            checks.append(_speed(worker, trial, others, limits.max_speed_loss))
    results = {check.result for check in checks}
    worst: Sequence[Result] = ("fail", "inconclusive", "pass")
    return Verdict(next((result for result in worst if result in results), "inconclusive"), tuple(checks))


_LATENCIES: Mapping[str, Callable[[Measured], Quotient]] = {
    "response time": lambda measured: measured.response,
    "time to first token": lambda measured: measured.first_token,
}


def _errors(worker: str, trial: Trial, others: Sequence[Trial], limit: float) -> Check:
    name, after = "error rate", trial.after
    if not after.requests:
        return _silent(name, worker, limit, "no requests")
    rate = after.failed / after.requests
    change = _rate([it.after for it in others]) - _rate([it.before for it in others])
    expected = max(0.0, _rate([trial.before]) + change)
    allowed = expected + limit
    told = f"{_percent(rate)} of {counted(round(after.requests), 'request')} against {_percent(expected)} expected"
    told += f", at most {_percent(limit)} more is allowed"
    if _wilson(after.failed, after.requests) > allowed:
        result: Result = "fail"
    elif after.requests < MIN_REQUESTS:
        result, told = "inconclusive", f"{told}; so few requests can't tell"
    elif rate <= allowed:
        result = "pass"
    else:
        result, told = "inconclusive", f"{told}; that may be chance"
    return _check(name, worker, rate, expected, limit, result, told)


def _latency(
    name: str, worker: str, trial: Trial, others: Sequence[Trial], part: Callable[[Measured], Quotient], limit: float
) -> Check:
    before, after = part(trial.before), part(trial.after)
    if after.bottom < MIN_REQUESTS:
        return _silent(name, worker, limit, f"{counted(round(after.bottom), 'request')}: too few to tell")
    pairs = [(part(it.before), part(it.after)) for it in others]
    changes = [b.value / a.value for a, b in pairs if min(a.bottom, b.bottom) >= MIN_REQUESTS and a.top]
    if before.bottom >= MIN_REQUESTS:
        expected = before.value * (median(changes) if changes else 1.0)
    else:
        now = [b.value for _, b in pairs if b.bottom >= MIN_REQUESTS]
        if not now:
            return _silent(name, worker, limit, "nothing to compare with")
        expected = median(now)
    value = after.value
    more = value / expected - 1 if expected else 0.0
    worse = more > limit and value - expected > SLACK
    result: Result = "pass" if not worse else "fail" if after.bottom >= MANY else "inconclusive"
    told = (
        f"{value:.2f} s against {expected:.2f} s expected: {_percent(abs(more))} {'longer' if more > 0 else 'shorter'}"
    )
    return _check(name, worker, value, expected, limit, result, f"{told}, at most {_percent(limit)} longer is allowed")


def _speed(worker: str, trial: Trial, others: Sequence[Trial], limit: float) -> Check:
    name, after = "tokens/s", trial.after.speed
    tokens = sum(it.top for it in after.values())
    if tokens < MIN_TOKENS:
        return _silent(name, worker, limit, f"{counted(round(tokens), 'token')}: too few to tell")
    changes = [ratio for it in others if (ratio := _ratio(it.before.speed, it.after.speed)) is not None]
    ratio = _ratio(trial.before.speed, after)
    if ratio is not None:
        ratio /= median(changes) if changes else 1.0
    else:
        ratio = _ratio(_typical([it.after.speed for it in others]), after)
    if ratio is None:
        return _silent(name, worker, limit, "nothing to compare with")
    value = tokens / sum(it.bottom for it in after.values())
    loss = 1 - ratio
    told = f"{value:.1f} against {value / ratio:.1f} expected: "
    told += f"{_percent(abs(loss))} {'slower' if loss > 0 else 'faster'}, at most {_percent(limit)} slower is allowed"
    result: Result = "pass" if loss <= limit else "fail" if tokens >= MANY_TOKENS else "inconclusive"
    return _check(name, worker, value, value / ratio, limit, result, told)


def _ratio(old: Mapping[str, Quotient], new: Mapping[str, Quotient]) -> float | None:
    """How many times as fast: of the models that both have, each by the tokens that it made lately."""
    both = [(old[model], it) for model, it in new.items() if model in old and _enough(it) and _enough(old[model])]
    tokens = sum(b.top for _, b in both)
    return math.exp(sum(b.top * math.log(b.value / a.value) for a, b in both) / tokens) if both else None


def _typical(speeds: Sequence[Mapping[str, Quotient]]) -> dict[str, Quotient]:
    """Each model's median speed among workers."""
    models = {model for it in speeds for model in it}
    found = {model: [it[model] for it in speeds if model in it and _enough(it[model])] for model in models}
    return {
        model: Quotient(median(it.value for it in has) * MIN_TOKENS, MIN_TOKENS) for model, has in found.items() if has
    }


def _enough(speed: Quotient) -> bool:
    return speed.top >= MIN_TOKENS and speed.bottom > 0


def _rate(measured: Sequence[Measured]) -> float:
    requests = sum(it.requests for it in measured)
    return sum(it.failed for it in measured) / requests if requests else 0.0


def _wilson(failed: float, requests: float) -> float:
    """The lower end of what the true share may be."""
    share, square = failed / requests, _Z * _Z
    spread = _Z * math.sqrt(share * (1 - share) / requests + square / (4 * requests * requests))
    return (share + square / (2 * requests) - spread) / (1 + square / requests)


def _silent(name: str, worker: str, limit: float, why: str) -> Check:
    return _check(name, worker, None, None, limit, "inconclusive", why)


def _check(
    name: str, worker: str, value: float | None, expected: float | None, limit: float, result: Result, told: str
) -> Check:
    return Check(name, worker, value, expected, limit, result, f"{worker}: {name} {told}: {result}")


def _percent(share: float) -> str:
    return f"{share * 100:.3g} %"
