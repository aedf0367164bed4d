from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest

from cluster_ai.config import load
from cluster_ai.rollout.scope import Scope

TEXT = """\
version: '1.0'
cluster:
  name: c
  scheduler: {host: head}
  workers:
    - {name: w1, host: w1, resources: {cpu: 1, memory: 2GB}}
  models: []
"""


@pytest.mark.parametrize(("password", "light"), [(None, True), ("secret", False)])
def test_hosts_are_asked_over_the_light_key_exchange_unless_a_password_goes_along(
    tmp_path: Path, password: str | None, light: bool
) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(TEXT)
    with patch("cluster_ai.provision.ssh.Batch.start"):
        probe = Scope(load(path), sudo_password=password).probe()
    assert all(("KexAlgorithms=^curve25519-sha256" in argv) is light for argv in probe.argv.values())
