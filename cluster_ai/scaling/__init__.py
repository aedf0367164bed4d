"""How many replicas of a model are wanted: policies and a forecast, both pure. The gateway asks them, and acts."""
