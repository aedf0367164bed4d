"""Signing in by an OpenID provider, in a real Chromium, with the real gateway behind the dashboard."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster_ai import layout, settings
from tests.dashboard.conftest import ROOT, answers, wait_for
from tests.dashboard.test_browser import press, sees
from tests.rig import cluster as rig
from tests.rig.openid import SECRET, provider
from tests.rig.processes import free_port, running

pytestmark = pytest.mark.browser
ROLES = (settings.Given("viewer", ("guests",)),)


def test_whoever_the_provider_vouches_for_is_let_in_and_signs_out(browser: Any, tmp_path: Path) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (tmp_path / layout.GATEWAY_TOKEN).write_text(rig.TOKEN)
    (tmp_path / layout.OIDC_SECRET).write_text(SECRET)
    with provider() as openid:
        openid.confidential = ("board",)
        openid.claims = {"sub": "1", "preferred_username": "anna", "groups": ["strangers"]}
        told = rig.gateway_settings(
            scheduler="tcp://127.0.0.1:9",
            oidc=settings.OidcSettings(openid.issuer, "board", "cli", "preferred_username", "groups", ROLES, 3600.0),
        )
        with rig.gateway(tmp_path / "gateway", told, tmp_path, workers=0) as (gateway, _):
            board = settings.DashboardSettings(
                "test-cluster",
                "127.0.0.1",
                port,
                "127.0.0.1",
                None,
                settings.DashboardOidc(openid.issuer, "board", f"{url}/oauth2callback"),
                gateway,
                "http://127.0.0.1:9",
                "http://127.0.0.1:9",
            )
            (tmp_path / "dashboard.json").write_text(settings.dump(board))
            environment = {
                **os.environ,
                "HOME": str(tmp_path),
                "PYTHONPATH": str(ROOT),
                "CREDENTIALS_DIRECTORY": str(tmp_path),
                "CLUSTER_AI_DASHBOARD_SETTINGS": str(tmp_path / "dashboard.json"),
            }
            with running([sys.executable, "-m", "dashboard"], tmp_path / "log", environment=environment):
                wait_for(lambda: answers(f"{url}/_stcore/health"), "the dashboard's start")
                browser.get(url)
                sees(browser, "Sign in by 127.0.0.1")
                press(browser, "Sign in by 127.0.0.1")
                sees(browser, "'anna' has no role here")
                openid.claims["groups"] = ["guests"]
                press(browser, "Sign in by 127.0.0.1")
                sees(browser, "Sign out", "Workers")
                press(browser, "Sign out")
                sees(browser, "Sign in by 127.0.0.1")
                assert SECRET not in (tmp_path / "log").read_text()
