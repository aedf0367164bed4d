"""Which worker serves which model: by cluster.yaml (need, place), and at run time (room, explain, repair)."""
