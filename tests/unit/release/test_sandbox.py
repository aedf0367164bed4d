"""What systemd says of the sandboxes of all our units: `systemd-analyze security`, which reads files too."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config import hosts, load_text
from cluster_ai.deploys import receiver
from cluster_ai.release.units import units

ROOT = Path(__file__).resolve().parents[3]
MOST = 3.0
CONFIG = """\
version: '1.0'
cluster:
  name: 'c'
  scheduler: {host: 'h'}
  workers:
    - {name: 'both', host: 'h', resources: {cpu: 1, memory: '4GB', gpu: 1}}
    - {name: 'plain', resources: {cpu: 1, memory: '4GB'}}
  monitoring: {alerts: {webhook: 'http://chat.test/x'}}
  interface: {open_webui: true}
"""


def texts() -> Iterator[tuple[str, str, str]]:
    """Host, name and text of every service of ours, those of releases and the two that outlast them."""
    config = load_text(CONFIG, "cluster.yaml")
    for host in hosts(config):
        yield from ((host.name, unit.name, unit.text) for unit in units(config, host) if unit.name.endswith(".service"))
    yield "all", layout.GUARD, receiver.guard_unit(Path(layout.ROOT), Path(layout.STATE))
    role = ROOT / "roles/firewall/templates/cluster-ai-firewall.service.j2"
    yield "all", "cluster-ai-firewall.service", role.read_text().replace("{{ firewall__file }}", "/etc/rules.nft")


def test_no_unit_is_more_exposed_than_we_promise_or_says_why(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze here")
    looked = []
    for host, name, text in texts():
        file = tmp_path / host / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        done = subprocess.run(
            [analyze, "security", "--offline=true", "--no-pager", file], capture_output=True, text=True, check=False
        )
        if "unrecognized option" in done.stderr:
            pytest.skip("this systemd-analyze can't read files")
        score = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
        assert score, (name, done.stdout, done.stderr)
        looked.append(name)
        assert float(score[1]) <= MOST or re.search(r"^# Exposure: \w+", text, re.MULTILINE), (name, score[1])
    assert len(set(looked)) > 10


def test_only_what_must_be_root_is_root() -> None:
    root = {name for _, name, text in texts() if not re.search(r"^User=cluster-ai-[a-z-]+$", text, re.MULTILINE)}
    assert root == {layout.VERIFY, layout.RENEW, layout.GUARD, "cluster-ai-firewall.service"}


def test_no_unit_may_gain_privileges_or_write_outside_of_its_own_folders() -> None:
    for host, name, text in texts():
        if name != layout.GUARD:
            for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "UMask=0077"):
                assert f"\n{line}\n" in text, (host, name, line)


def test_keys_reach_units_as_credentials_only() -> None:
    for _, name, text in texts():
        settings = text.replace("LoadCredential=", "")
        named = re.findall(rf"{layout.CREDENTIALS}/\S+", settings)
        assert len(named) == text.count("LoadCredential="), name
        assert not re.search(r"^(Environment|ExecStart)=.*/etc/cluster-ai", text, re.MULTILINE), name
