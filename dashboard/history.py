"""What is asked of Prometheus about the past: one stretch of time, or two that are compared."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import pandas as pd

from dashboard.prometheus import Prometheus, Span, quantile, total_rate

PERCENTILES = (0.5, 0.9, 0.95, 0.99)
_OTHERS = "others"


@dataclass(frozen=True, slots=True)
class Figures:
    """Of a stretch of time as a whole. Times are seconds; None: nothing was measured."""

    requests: float | None
    failed: float | None  # share, 0..1
    tokens: float | None  # generated
    speed: float | None  # tokens per second of an answer, by the engines' clocks
    response: tuple[float | None, ...]  # of PERCENTILES
    first_token: tuple[float | None, ...]
    inter_token: tuple[float | None, ...]
    waited: float | None  # 95 % waited less for a free slot


def performance(prometheus: Prometheus, span: Span, model: str | None) -> tuple[Figures, dict[str, pd.DataFrame]]:
    """model: of this one alone; None: of all."""
    return figures(prometheus, span, model), charts(prometheus, span, model)


def figures(prometheus: Prometheus, span: Span, model: str | None) -> Figures:
    whole, of = f"{span.seconds}s", _of(model)

    def asked(query: str) -> float | None:
        return prometheus.value(query, span.end)

    def percentiles(histogram: str) -> tuple[float | None, ...]:
        return tuple(asked(quantile(q, histogram, whole, selector=of)) for q in PERCENTILES)

    tasks = 'increase(cluster_{}_tasks_total{{kind="inference"}}[{}])'
    counted = f"sum(increase(model_inference_time_seconds_count{of}[{whole}]))"
    return Figures(
        requests=asked(counted if model else f"sum({tasks.format('total', whole)})"),
        failed=None if model else asked(f"sum({tasks.format('failed', whole)}) / sum({tasks.format('total', whole)})"),
        tokens=asked(f"sum(increase(model_tokens_generated_total{of}[{whole}]))"),
        speed=asked(
            f"sum(increase(worker_timed_tokens_total{of}[{whole}])) "
            f"/ sum(increase(worker_eval_seconds_total{of}[{whole}]))"
        ),
        response=percentiles("model_inference_time_seconds" if model else "cluster_response_time_seconds"),
        first_token=percentiles("gateway_time_to_first_token_seconds"),
        inter_token=percentiles("gateway_inter_token_seconds"),
        waited=asked(quantile(0.95, "gateway_queue_seconds", whole, selector=of)),
    )


def _within(q: float, _: Mapping[str, str]) -> str:
    return f"{100 * q:.0f} % within"


def _of(model: str | None) -> str:
    return f"{{model={json.dumps(model)}}}" if model else ""


def charts(prometheus: Prometheus, span: Span, model: str | None) -> dict[str, pd.DataFrame]:
    w, of = span.rate_window, _of(model)

    def percentiles(histogram: str) -> pd.DataFrame:
        return pd.concat(
            [prometheus.over(quantile(q, histogram, w, selector=of), span, partial(_within, q)) for q in PERCENTILES],
            ignore_index=True,
        )

    def one(query: str, name: str) -> pd.DataFrame:
        return prometheus.over(query, span, lambda _: name)

    return {
        "response": percentiles("model_inference_time_seconds" if model else "cluster_response_time_seconds"),
        "first_token": percentiles("gateway_time_to_first_token_seconds"),
        "requests": one(total_rate("model_inference_time_seconds_count" + of, w), "requests"),
        "tokens": one(total_rate("model_tokens_generated_total" + of, w), "tokens"),
        "speed": one(
            f"sum(rate(worker_timed_tokens_total{of}[{w}])) / sum(rate(worker_eval_seconds_total{of}[{w}]))", "speed"
        ),
        "waited": one(quantile(0.95, "gateway_queue_seconds", w, selector=of), "95 % within"),
    }


def canary(prometheus: Prometheus, span: Span, judged: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Each of the judged workers, and all others together."""
    w, names = span.rate_window, "|".join(judged)

    def both(query: str) -> pd.DataFrame:
        """query: with {by} for the grouping and {who} for the workers."""
        mine = query.format(by=" by (worker)", who=f'worker=~"{names}"')
        rest = query.format(by="", who=f'worker!~"{names}"')
        found = [
            prometheus.over(mine, span, lambda m: m.get("worker", "?")),
            prometheus.over(rest, span, lambda _: _OTHERS),
        ]
        return pd.concat(found, ignore_index=True)

    def ratio(top: str, bottom: str) -> str:
        return " / ".join(f"sum{{by}} (rate({metric}[{w}]))" for metric in (top, bottom))

    return {
        "errors": both(
            f'(sum{{by}} (rate(worker_requests_total{{{{outcome="error",{{who}}}}}}[{w}])) or '
            f"0 * sum{{by}} (rate(worker_requests_total{{{{{{who}}}}}}[{w}]))) / "
            f"sum{{by}} (rate(worker_requests_total{{{{{{who}}}}}}[{w}]))"
        ),
        "response": both(
            ratio("worker_response_time_seconds_sum{{{who}}}", "worker_response_time_seconds_count{{{who}}}")
        ),
        "first_token": both(
            ratio(
                "worker_time_to_first_token_seconds_sum{{{who}}}", "worker_time_to_first_token_seconds_count{{{who}}}"
            )
        ),
        "speed": both(ratio("worker_timed_tokens_total{{{who}}}", "worker_eval_seconds_total{{{who}}}")),
    }
