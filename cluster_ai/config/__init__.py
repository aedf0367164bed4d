"""cluster.yaml: read, checked, defaults filled in, as frozen dataclasses (model.py)."""

from cluster_ai.config.load import load, load_text
from cluster_ai.config.model import Config, Host, Model, Worker, hosts

__all__ = ["Config", "Host", "Model", "Worker", "hosts", "load", "load_text"]
