"""The real Open WebUI before real gateway and engine, over TLS: its people are the gateway's, in real Chromium too."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster_ai import layout, settings
from cluster_ai.local import machine
from cluster_ai.security import ca
from tests.rig import cluster as rig
from tests.rig.processes import PATIENCE, free_port, running, until
from tests.rig.scripts import script

pytestmark = pytest.mark.integration

PASSWORD = "correct horse battery"
START = 500  # seconds: it makes its database at first, and this machine may have much to do
MODEL = f"{rig.MODEL}:latest" if ":" not in rig.MODEL else rig.MODEL


@dataclass(frozen=True)
class Chat:
    url: str
    gateway: str
    trust: ssl.SSLContext
    state: Path
    key: str

    def ask(self, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        request = urllib.request.Request(self.url + path, json.dumps(body).encode() if body else None, headers)
        try:
            text = rig.fetch(request, timeout=300, context=self.trust)[1]
        except urllib.error.HTTPError as error:
            return error.code, None
        return 200, json.loads(text)

    def usage(self) -> dict[str, int]:
        """Requests of each person, as the gateway counts them."""
        said = rig.get(f"{self.gateway}/api/v1/usage?by=user", token=rig.TOKEN)
        return {line["user"]: line["requests"] for line in said["lines"]}


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    python = machine.look(os.environ).open_webui
    if python is None:
        pytest.skip("no Open WebUI here: `make open-webui` installs its packages, 0.6 GB")
    folder = tmp_path_factory.mktemp("open-webui")
    credentials, state, port = folder / "credentials", folder / "state", free_port()
    credentials.mkdir()
    state.mkdir()
    key = secrets.token_hex(32)
    authority = ca.create("rig")
    pair = ca.issue(authority, "localhost", ["127.0.0.1"], "head", lifetime=ca.LONG)
    for name, content in {
        layout.GATEWAY_TOKEN: rig.TOKEN,
        layout.OPEN_WEBUI_KEY: key,
        layout.OPEN_WEBUI_SECRET: secrets.token_hex(32),
        layout.CERT: pair.cert.decode(),
        layout.KEY: pair.key.decode(),
    }.items():
        (credentials / name).write_text(content)
    trust = ssl.create_default_context(cadata=authority.cert.decode())
    url = f"https://127.0.0.1:{port}"
    with rig.engine(folder / "engine") as engine:
        load = json.dumps({"model": rig.MODEL}).encode()  # before somebody's limit of one request a minute is tried
        rig.fetch(urllib.request.Request(f"{engine}/api/generate", load), timeout=PATIENCE)
        upstream = settings.Upstream("w1", engine, (rig.MODEL,), 2, 0)
        told = rig.gateway_settings(scheduler="tcp://127.0.0.1:9", upstreams=(upstream,))
        with rig.gateway(folder / "gateway", told, credentials, workers=1) as (gateway, _):
            file = folder / "open-webui.json"
            file.write_text(
                settings.dump(settings.OpenWebuiSettings("127.0.0.1", port, "host", url, gateway, oidc=None))
            )
            with running(
                [str(python), "-m", "cluster_ai.openwebui", str(file)],
                folder / "log",
                environment={
                    "CREDENTIALS_DIRECTORY": str(credentials),
                    "STATE_DIRECTORY": str(state),
                    "HOME": str(state),
                },
                until_ready=lambda: rig.fetch(f"{url}/health", context=trust),
                within=START,
            ) as process:
                yield Chat(url, gateway, trust, state, key)
                assert key not in process.text()


@pytest.fixture(scope="module")
def walk() -> ModuleType:
    """docs/chat.py, which knows how to walk through its pages."""
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip("no Chromium here (Debian: apt install chromium chromium-driver)")
    return script("docs/chat.py")


@pytest.mark.browser
def test_the_first_person_signs_up_asks_a_model_and_is_known_to_the_gateway(chat: Chat, walk: ModuleType) -> None:
    with walk.browser(any_ca=True) as driver:
        walk.sign_up(driver, chat.url, "Anna", "anna@example.org", PASSWORD)
        walk.ask(driver, MODEL, "Say hello.")
        severe = [line for line in driver.get_log("browser") if line["level"] == "SEVERE"]
        assert not severe
    until(lambda: chat.usage().get("anna@example.org"), what="usage is written every few seconds")
    assert set(chat.usage()) == {"anna@example.org"}


def test_nobody_else_signs_up_and_whom_the_administrator_adds_is_the_user_of_that_name(chat: Chat) -> None:
    person = {"name": "Anna", "email": "anna@example.org", "password": PASSWORD}
    code, anna = chat.ask("/api/v1/auths/signup", person)  # where no browser did so before
    if code != 200:
        code, anna = chat.ask("/api/v1/auths/signin", person)
    assert (code, anna["role"]) == (200, "admin")
    assert chat.ask("/api/v1/auths/signup", {**person, "email": "eve@example.org"})[0] == 403
    ben = {"name": "Ben", "email": "ben@example.org", "password": PASSWORD, "role": "user"}
    assert chat.ask("/api/v1/auths/add", ben, anna["token"])[0] == 200
    limits = {"requests_per_minute": 1}
    made = urllib.request.Request(
        f"{chat.gateway}/api/v1/users",
        json.dumps({"name": "ben", "password": PASSWORD, "limits": limits}).encode(),
        {"Authorization": f"Bearer {rig.TOKEN}", "Content-Type": "application/json"},
    )
    rig.fetch(made)
    token = chat.ask("/api/v1/auths/signin", ben)[1]["token"]
    models = chat.ask("/api/models", token=token)[1]["data"]
    assert [model["id"] for model in models] == [MODEL]
    prompt = {"model": MODEL, "messages": [{"role": "user", "content": "Hi"}], "stream": False, "max_tokens": 4}
    assert [chat.ask("/api/chat/completions", prompt, token)[0] for _ in range(2)] == [200, 429]
    until(lambda: chat.usage().get("ben"), what="usage is written every few seconds")
    for file in chat.state.rglob("*.log"):
        assert chat.key not in file.read_text(errors="replace")
