"""A gateway in front of a task manager, an engine behind both: as one host of a cluster has them."""

from __future__ import annotations

import contextlib
import json
import shutil
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from cluster_ai import layout
from cluster_ai.settings import Upstream
from tests.rig import cluster as rig
from tests.rig.processes import Process, free_port, together
from tests.rig.tasks import Site

CHAT = "/v1/chat/completions"


@dataclass
class Served:
    site: Site
    port: int = field(default_factory=free_port)
    slots: int = 1  # of the engine

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextlib.contextmanager
    def gateway(self) -> Iterator[Process]:
        keys = self.site.folder / "gateway-keys"
        shutil.copytree(self.site.keys, keys, dirs_exist_ok=True)
        (keys / layout.GATEWAY_TOKEN).write_text(rig.TOKEN)
        told = rig.gateway_settings(
            port=self.port,
            scheduler=self.site.scheduler_url,
            upstreams=(Upstream("w1", self.site.engine, (rig.MODEL,), self.slots, 0),),
            tasks=self.site.socket,
        )
        with rig.gateway(self.site.folder / "gateway", told, keys, workers=1) as (_, process):
            yield process

    @contextlib.contextmanager
    def parts(self) -> Iterator[list[Process]]:
        """All but the engine."""
        worker = self.site.worker("w1", slots=self.slots)
        with together(self.site.scheduler(), worker, self.site.manager("w1"), self.gateway()) as there:
            yield [*reversed(there)]

    def ask(self, path: str, body: Any = None, *, token: str = rig.TOKEN, **headers: str) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        given = {"Authorization": f"Bearer {token}", "Content-Type": "application/json", **headers}
        _, text = rig.fetch(urllib.request.Request(self.url + path, data, given))
        return json.loads(text)

    def upload(self, *lines: dict[str, Any], token: str = rig.TOKEN) -> str:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        form = (
            '--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
            '--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n'
            f"{text}\r\n--x--\r\n"
        )
        kind = "multipart/form-data; boundary=x"
        found: str = self.ask("/v1/files", form.encode(), token=token, **{"Content-Type": kind})["id"]
        return found

    def lines(self, file_id: str) -> list[Any]:
        headers = {"Authorization": f"Bearer {rig.TOKEN}"}
        request = urllib.request.Request(f"{self.url}/v1/files/{file_id}/content", headers=headers)
        return [json.loads(line) for line in rig.fetch(request)[1].splitlines()]


def chat(custom_id: str, tokens: int = 3) -> dict[str, Any]:
    body = {"model": rig.MODEL, "messages": [{"role": "user", "content": "Count."}], "max_tokens": tokens}
    return {"custom_id": custom_id, "method": "POST", "url": CHAT, "body": body}
