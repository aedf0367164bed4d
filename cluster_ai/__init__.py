"""Cluster AI: one file, cluster.yaml, becomes a running private AI cluster on ordinary Linux hosts."""

__version__ = "0.1.0"
