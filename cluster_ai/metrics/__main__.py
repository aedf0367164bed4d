"""Prints docs/metrics.md: `python -m cluster_ai.metrics > docs/metrics.md`."""

from __future__ import annotations

import sys

from cluster_ai.metrics.page import page

sys.stdout.write(page())
