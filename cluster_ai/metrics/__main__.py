"""Prints a page of docs/: `python -m cluster_ai.metrics names > docs/metrics.md`, `… alerts > docs/alerts.md`."""

from __future__ import annotations

import sys

from cluster_ai.metrics import page, rules

PAGES = {"names": page.page, "alerts": rules.page}

sys.stdout.write(PAGES[sys.argv[1]]())
