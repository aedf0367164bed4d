"""What is asked of Prometheus about the past: one stretch of time, or two that are compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from dashboard import percentiles
from dashboard.prometheus import Lines, Prometheus, Span, quantile, total_rate

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
    tasks = 'sum(increase(cluster_{}_tasks_total{{kind="inference"}}[{}]))'
    all_, failed = tasks.format("total", whole), tasks.format("failed", whole)
    times = {
        "response": "model_inference_time_seconds" if model else "cluster_response_time_seconds",
        "first_token": "gateway_time_to_first_token_seconds",
        "inter_token": "gateway_inter_token_seconds",
    }
    told = prometheus.instants(
        {
            "requests": f"sum(increase(model_inference_time_seconds_count{of}[{whole}]))" if model else all_,
            **({} if model else {"failed": f"{failed} / {all_}"}),
            "tokens": f"sum(increase(model_tokens_generated_total{of}[{whole}]))",
            "speed": f"sum(increase(worker_timed_tokens_total{of}[{whole}])) "
            f"/ sum(increase(worker_eval_seconds_total{of}[{whole}]))",
            "waited": quantile(0.95, "gateway_queue_seconds", whole, selector=of),
            **{key: percentiles.buckets(histogram, whole, of) for key, histogram in times.items()},
        },
        span.end,
    )

    def value(key: str) -> float | None:
        samples = told.get(key)
        return samples[0].value if samples else None

    response, first, inter = (percentiles.of(PERCENTILES, told[key]) for key in times)
    return Figures(
        value("requests"), value("failed"), value("tokens"), value("speed"), response, first, inter, value("waited")
    )


def _of(model: str | None) -> str:
    return f"{{model={json.dumps(model)}}}" if model else ""


def charts(prometheus: Prometheus, span: Span, model: str | None) -> dict[str, pd.DataFrame]:
    w, of = span.rate_window, _of(model)

    def one(query: str, name: str) -> list[Lines]:
        return [Lines(query, lambda _: name)]

    response = "model_inference_time_seconds" if model else "cluster_response_time_seconds"
    found = prometheus.charts(
        {
            "response": percentiles.lines(response, w, of),
            "first_token": percentiles.lines("gateway_time_to_first_token_seconds", w, of),
            "requests": one(total_rate("model_inference_time_seconds_count" + of, w), "requests"),
            "tokens": one(total_rate("model_tokens_generated_total" + of, w), "tokens"),
            "speed": one(
                f"sum(rate(worker_timed_tokens_total{of}[{w}])) / sum(rate(worker_eval_seconds_total{of}[{w}]))",
                "speed",
            ),
            "waited": one(quantile(0.95, "gateway_queue_seconds", w, selector=of), "95 % within"),
        },
        span,
    )
    names = {f"{100 * q:.0f} % within": q for q in PERCENTILES}
    return found | {key: percentiles.over(names, found[key]) for key in ("response", "first_token")}


def canary(prometheus: Prometheus, span: Span, judged: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Each of the judged workers, and all others together."""
    w, names, first = span.rate_window, "|".join(judged), "worker_time_to_first_token_seconds"

    def both(query: str) -> list[Lines]:
        """query: with {by} for the grouping and {who} for the workers."""
        mine = query.format(by=" by (worker)", who=f'worker=~"{names}"')
        rest = query.format(by="", who=f'worker!~"{names}"')
        return [Lines(mine, lambda m: m.get("worker", "?")), Lines(rest, lambda _: _OTHERS)]

    def ratio(top: str, bottom: str) -> str:
        return " / ".join(f"sum{{by}} (rate({metric}[{w}]))" for metric in (top, bottom))

    return prometheus.charts(
        {
            "errors": both(
                f'(sum{{by}} (rate(worker_requests_total{{{{outcome="error",{{who}}}}}}[{w}])) or '
                f"0 * sum{{by}} (rate(worker_requests_total{{{{{{who}}}}}}[{w}]))) / "
                f"sum{{by}} (rate(worker_requests_total{{{{{{who}}}}}}[{w}]))"
            ),
            "response": both(
                ratio("worker_response_time_seconds_sum{{{who}}}", "worker_response_time_seconds_count{{{who}}}")
            ),
            "first_token": both(ratio(f"{first}_sum{{{{{{who}}}}}}", f"{first}_count{{{{{{who}}}}}}")),
            "speed": both(ratio("worker_timed_tokens_total{{{who}}}", "worker_eval_seconds_total{{{who}}}")),
        },
        span,
    )
