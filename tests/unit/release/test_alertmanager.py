"""Alertmanager's own tool reads its configuration, and Prometheus' the place where it is named."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from cluster_ai import layout
from cluster_ai.config import hosts, load_text
from cluster_ai.config.model import Config
from cluster_ai.errors import ConfigError
from cluster_ai.release.alertmanager import alertmanager
from cluster_ai.release.ports import ports
from cluster_ai.release.render import prometheus
from cluster_ai.release.units import units
from cluster_ai.rollout.credentials import sums
from cluster_ai.security.credentials import for_head, load_or_create
from cluster_ai.security.vault import PASSWORD, Vault

WEBHOOK = "webhook: 'https://chat.test/alerts'"
MAIL = "mail: {to: [a@lab.test, b@lab.test], from: c@lab.test, server: 'mail.lab.test:587', user: c}"
OPEN_MAIL = MAIL.replace(", user: c", "")


def configured(alerts: str, folder: Path = Path()) -> Config:
    return load_text(
        "version: '1.0'\ncluster:\n  name: lab\n  scheduler: {host: 10.0.0.1}\n"
        "  workers: [{name: w, host: 10.0.0.2, resources: {cpu: 1, memory: 1GB}}]\n"
        f"  monitoring: {{alerts: {{{alerts}}}}}\n",
        folder / "cluster.yaml",
    )


@pytest.mark.parametrize("alerts", [WEBHOOK, MAIL, OPEN_MAIL, f"{WEBHOOK}, {MAIL}"])
def test_its_own_tool_accepts_the_configuration(alerts: str, tmp_path: Path) -> None:
    amtool = shutil.which("amtool")
    if amtool is None:
        pytest.skip("no amtool here (Debian: apt install prometheus-alertmanager)")
    (tmp_path / "alertmanager.yml").write_text(alertmanager(configured(alerts)))
    done = subprocess.run(
        [amtool, "check-config", tmp_path / "alertmanager.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "1 receivers" in done.stdout


def test_secrets_are_named_by_their_files_and_asked_for_only_where_somebody_logs_in() -> None:
    (receiver,) = json.loads(alertmanager(configured(f"{WEBHOOK}, {MAIL}")))["receivers"]
    credentials = f"/run/credentials/{layout.ALERTMANAGER}"
    (webhook,), mails = receiver["webhook_configs"], receiver["email_configs"]
    assert webhook["http_config"]["authorization"]["credentials_file"] == f"{credentials}/{layout.ALERTS_TOKEN}"
    assert [it["to"] for it in mails] == ["a@lab.test", "b@lab.test"]
    assert {it["auth_password_file"] for it in mails} == {f"{credentials}/{layout.ALERTS_PASSWORD}"}
    (receiver,) = json.loads(alertmanager(configured(OPEN_MAIL)))["receivers"]
    assert not {"auth_username", "auth_password_file"} & set(receiver["email_configs"][0])


def test_without_anybody_to_tell_there_is_none() -> None:
    for alerts, there in (("", False), (WEBHOOK, True)):
        config = configured(alerts)
        head, worker = hosts(config)
        assert (layout.ALERTMANAGER in {it.name for it in units(config, head)}) is there
        assert layout.ALERTMANAGER not in {it.name for it in units(config, worker)}
        assert (ports(config, head).get(9093) == layout.ALERTMANAGER) is there
        assert ("alerting" in json.loads(prometheus(config))) is there


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ("webhook: 'chat.test'", "an address that begins with http"),
        ("mail: {to: [], from: c@lab.test, server: 'm:25'}", "to"),
        ("mail: {to: [a@lab.test], server: 'm:25'}", "from: the key is missing"),
        ("mail: {to: [nobody], from: c@lab.test, server: 'm:25'}", "a mail address"),
        ("mail: {to: [a@lab.test], from: c@lab.test, server: m}", "a host and its port"),
    ],
)
def test_a_receiver_that_can_not_be_is_refused(alerts: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        configured(alerts)


def test_the_head_gets_what_the_vault_has_and_a_password_that_is_missing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD, "x")
    config = configured(f"{WEBHOOK}, {MAIL}", tmp_path)
    config.path.write_text("")
    with pytest.raises(ConfigError, match="cluster-ai secrets set alerts_mail_password"):
        for_head(load_or_create(config), config)
    Vault(tmp_path).write({"alerts_mail_password": "m", "alerts_webhook_token": "t"})
    files = for_head(load_or_create(config), config)
    assert (files[layout.ALERTS_TOKEN], files[layout.ALERTS_PASSWORD]) == (b"t\n", b"m")
    config = configured("", tmp_path)
    without = for_head(load_or_create(config), config)
    assert without[layout.ALERTS_PASSWORD] == b""


@pytest.mark.parametrize(
    ("alerts", "names"),
    [
        (WEBHOOK, {layout.ALERTS_TOKEN}),
        (MAIL, {layout.ALERTS_PASSWORD}),
        (OPEN_MAIL, set()),
        (f"{WEBHOOK}, {MAIL}", {layout.ALERTS_TOKEN, layout.ALERTS_PASSWORD}),
    ],
)
def test_what_its_unit_is_handed_is_brought_to_a_head_that_was_set_up_before(
    alerts: str, names: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is empty is as good as none to a plan, so what the unit needs must not be empty."""
    monkeypatch.setenv(PASSWORD, "x")
    Vault(tmp_path).write({"alerts_mail_password": "m"})
    before, config = sums(configured("", tmp_path)), configured(alerts, tmp_path)
    after = sums(config)
    assert {name for name in after if after[name] != before[name]} == names
    (unit,) = (it for it in units(config, hosts(config)[0]) if it.name == layout.ALERTMANAGER)
    assert set(re.findall(r"^LoadCredential=([^:]+)", unit.text, re.MULTILINE)) == names
    assert not {name for name in names if after[name] == hashlib.sha256().hexdigest()}
