"""`cluster-ai up`: a whole cluster on one machine, every part a process of the same user, without root."""

from cluster_ai.local.model import Addresses, Event, Options, Ports
from cluster_ai.local.start import Answer, Started, up
from cluster_ai.local.stop import down

__all__ = ["Addresses", "Answer", "Event", "Options", "Ports", "Started", "down", "up"]
