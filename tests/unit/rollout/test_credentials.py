from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config import load
from cluster_ai.rollout.credentials import sums
from cluster_ai.security.vault import PASSWORD, Vault

CLUSTER = """\
version: '1.0'
cluster:
  name: 'test'
  scheduler: {host: '10.9.9.1'}
  workers: [{name: 'b', host: 'b.cluster.test', resources: {cpu: 2, memory: '8GB'}}]
  interface: {dashboard: DASHBOARD}
  security:
    oidc: {issuer: 'https://id.test', client_id: 'x', cli_client_id: 'y', roles: {user: ['staff']}}
"""


def test_the_providers_secret_goes_to_the_head_once_a_dashboard_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "test")
    path = tmp_path / "cluster.yaml"
    Vault(tmp_path).write({"oidc_secret": "s"})
    found = []
    for wanted in ("false", "true", "true", "false"):
        path.write_text(CLUSTER.replace("DASHBOARD", wanted))
        found.append(sums(load(path))[layout.OIDC_SECRET])
    assert found[0] != found[1]
    assert (found[1], found[0]) == (found[2], found[3])
