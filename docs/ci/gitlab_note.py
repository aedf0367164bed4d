"""Put what `cluster-ai plan --markdown` wrote as a note on the merge request of this CI job, or renew that note.

The token is $CLUSTER_AI_GITLAB_TOKEN: a job's own may not write notes.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

MARK = "<!-- cluster-ai plan:"  # as cluster_ai.cli.markdown begins


def put(path: Path, api: str, project: str, merge_request: str, token: str) -> None:
    notes = f"{api}/projects/{project}/merge_requests/{merge_request}/notes"

    def ask(method: str, url: str, data: Any = None) -> Any:
        headers = {"PRIVATE-TOKEN": token, "Content-Type": "application/json"}
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(url, body, headers, method=method)  # noqa: S310 (GitLab says the address)
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.load(answer)

    found = ask("GET", f"{notes}?sort=asc&per_page=100")
    mine = [note["id"] for note in found if note["body"].startswith(MARK)]
    text = {"body": path.read_text()}
    ask("PUT", f"{notes}/{mine[0]}", text) if mine else ask("POST", notes, text)


if __name__ == "__main__":
    put(
        Path(sys.argv[1]),
        os.environ["CI_API_V4_URL"],
        os.environ["CI_PROJECT_ID"],
        os.environ["CI_MERGE_REQUEST_IID"],
        os.environ["CLUSTER_AI_GITLAB_TOKEN"],
    )
