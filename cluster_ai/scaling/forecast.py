"""What will be asked of a model, from what was: a trend and the shape of a day, or of a week, by least squares (numpy).

It is harmonic regression (Hyndman and Athanasopoulos, Forecasting: Principles and Practice, chapter 7.4): a line, with
sines and cosines of a day, or of a week once two of them are known, so that a Sunday may be unlike a Monday. What the
last half hour was beside the fit is added, and fades. It is plain on purpose: it must be right about when the day
begins, not about the third digit; and numpy is on the head host anyway, where a library for time series would bring
scipy along for the same curve.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

DAY, WEEK = 86400.0, 7 * 86400.0
LEAST = 2 * DAY  # seconds of history below which there is no forecast
HARMONICS = {DAY: 8, WEEK: 7 * 6}  # the finest is a curve of three to four hours
RECENT = 1800.0  # seconds at the end that tell how today differs
FADES = 3600.0  # seconds after which that difference counts by a third

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Forecast:
    """Made by `fit`. Times are seconds since 1970."""

    begun: float
    end: float
    period: float
    weights: Floats
    beside: float

    def at(self, times: Sequence[float]) -> list[float]:
        """What will be asked at each time; never below nothing."""
        when = np.asarray(times, dtype=np.float64)
        today = self.beside * np.exp(-np.maximum(when - self.end, 0.0) / FADES)
        found: list[float] = np.maximum(_features(when, self.begun, self.period) @ self.weights + today, 0.0).tolist()
        return found

    def most(self, begin: float, seconds: float, step: float = 60.0) -> float:
        """The most in so many seconds."""
        return max(self.at([begin + i * step for i in range(int(seconds // step) + 1)]))


def fit(times: Sequence[float], values: Sequence[float]) -> Forecast | None:
    """times rise, and may have gaps. None: there is too little history."""
    if len(times) < 2 or times[-1] - times[0] < LEAST:
        return None
    when, asked = np.asarray(times, dtype=np.float64), np.asarray(values, dtype=np.float64)
    begun, period = float(when[0]), WEEK if when[-1] - when[0] >= 2 * WEEK else DAY
    features = _features(when, begun, period)
    weights = np.linalg.lstsq(features, asked, rcond=None)[0].astype(np.float64)
    recent = when >= when[-1] - RECENT
    beside = float(np.mean(asked[recent] - features[recent] @ weights))
    return Forecast(begun, float(when[-1]), period, weights, beside)


def _features(when: Floats, begun: float, period: float) -> Floats:
    columns = [np.ones_like(when), (when - begun) / WEEK]
    for k in range(1, HARMONICS[period] + 1):
        angle = 2 * np.pi * k * when / period
        columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, axis=1)
