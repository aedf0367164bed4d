"""Which worker serves which model, and on what."""

from cluster_ai.placement.need import Budget, Need, budget, need
from cluster_ai.placement.place import Assignment, Placement, place

__all__ = ["Assignment", "Budget", "Need", "Placement", "budget", "need", "place"]
