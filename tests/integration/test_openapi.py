"""schemathesis over the native API's description, against a real gateway: every check, some thousand requests.

The engines are scripted, so that a prompt costs nothing; what answers is the gateway.
"""

from __future__ import annotations

import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai.client import Client
from cluster_ai.settings import Upstream
from tests.fakes.upstream import in_thread
from tests.rig import cluster as rig
from tests.rig.cluster import TOKEN
from tests.rig.processes import PATIENCE

pytestmark = pytest.mark.integration

CONFIG = """
[checks]
# 503 with Retry-After is an answer: by then all workers may be drained, and no tasks run here.
not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", 503]

# Whether variables fit is a matter of the template that is kept, and whether a password is guessed first one of its
# letters and the name: no description knows that, and 400 names what is amiss.
[[operations]]
include-operation-id = ["generate", "chat", "renderTemplate", "createUser", "changeUser", "changePassword"]
checks.positive_data_acceptance.expected-statuses = ["2xx", 400, 403, 404, 409, 429, 503]
"""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("openapi")
    head = rig.authority().credentials(folder / "head", "head", "head", token=TOKEN)
    with in_thread("127.0.0.1", "127.0.0.2") as engines:
        upstreams = tuple(Upstream(f"w{i}", engine.url, ("fake",), 1, 0) for i, engine in enumerate(engines, 1))
        told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9", upstreams=upstreams, models={"fake": 2048})
        with rig.gateway(folder / "gateway", told, head, workers=2) as (address, _):
            yield address


def finds(folder: Path, url: str, token: str, *, seconds: int, phases: str) -> str:
    """What it prints, when it found something; empty when it found nothing."""
    config = folder / "schemathesis.toml"
    config.write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{url}/api/v1/openapi.json", "--header", f"Authorization: Bearer {token}", "--checks", "all"]
    command += ["--phases", phases, "--max-time", str(seconds), "--max-examples", "20", "--seed", "1", "--no-color"]
    command += ["--request-timeout", str(PATIENCE)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, cwd=folder)
    assert "generated" in ended.stdout, ended.stdout + ended.stderr
    return "" if ended.returncode == 0 else ended.stdout


def test_nothing_is_found_by_an_administrator(url: str, tmp_path: Path) -> None:
    found = finds(tmp_path, url, TOKEN, seconds=20, phases="examples,coverage,fuzzing,stateful")
    assert not found, found


def test_nothing_is_found_by_one_who_may_not_administer(url: str, tmp_path: Path) -> None:
    with Client(url, TOKEN) as client:
        key = client.create_key("someone-else").key
    found = finds(tmp_path, url, key, seconds=10, phases="examples,coverage,fuzzing")
    assert not found, found


@pytest.mark.parametrize(("path", "allowed"), [("/load", "POST"), ("", "GET")])
def test_a_path_says_which_methods_it_takes_though_a_models_name_may_have_slashes(
    url: str, path: str, allowed: str
) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    asked = urllib.request.Request(f"{url}/api/v1/models/fake:latest{path}", headers=headers, method="OPTIONS")
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(asked, timeout=60)
    assert refused.value.code == 405
    assert refused.value.headers["Allow"] == allowed
    refused.value.close()
