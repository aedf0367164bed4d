"""Prints a page of docs/: `python -m cluster_ai.metrics names > docs/metrics.md`, `… alerts > docs/alerts.md`, and
`… grafana > docs/grafana/cluster-ai.json`.
"""

from __future__ import annotations

import sys

from cluster_ai.metrics import grafana, page, rules

PAGES = {"names": page.page, "alerts": rules.page, "grafana": grafana.dashboard}

sys.stdout.write(PAGES[sys.argv[1]]())
