"""A small cluster: a head that is a worker too, and two more workers."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.config import load
from cluster_ai.config.model import Config

CLUSTER = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler:
    host: '10.9.9.1'
  workers:
    - name: 'a'
      host: '10.9.9.1'
      resources: {cpu: 2, memory: '8GB'}
    - name: 'b'
      host: 'b.cluster.test'
      resources: {cpu: 2, memory: '8GB', gpu: 1, gpu_memory: '8GB'}
    - name: 'c'
      host: '10.9.9.3'
      resources: {cpu: 2, memory: '8GB'}
  models:
    - name: 'small'
      replicas: 1
      source: './small.gguf'
      resources: {memory: '1GB'}
      options: {num_ctx: 2048}
    - name: 'pulled'
      replicas: 'all'
      resources: {memory: '1GB'}
  engine:
    version: '0.17.4'
    source: './ollama'
"""


class Cluster:
    """cluster.yaml in a folder of its own, to be edited."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path, self.text = folder, folder / "cluster.yaml", CLUSTER
        (folder / "small.gguf").write_bytes(b"GGUF small")
        (folder / "ollama").write_bytes(b"#!/bin/sh\necho ollama\n")

    def config(self, old: str = "", new: str = "") -> Config:
        """The configuration, with a piece of its text replaced."""
        assert old in self.text
        self.path.write_text(self.text.replace(old, new) if old else self.text)
        return load(self.path)


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)
