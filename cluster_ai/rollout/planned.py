"""The last plan that somebody wanted others to see, in words, on the head host: `cluster-ai plan --publish`.

A plan can only be made where the SSH keys are; whoever looks at the dashboard has none. There is no secret in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cluster_ai import layout
from cluster_ai.rollout.lease import Head

# Runs on the head host; the last one counts.
_SCRIPT = f"""
import base64, json, os, sys, zlib
os.umask(0o022)  # the gateway reads it
os.makedirs(sys.argv[2], exist_ok=True)
path = sys.argv[2] + "/{layout.PLAN.name}"
with open(path + ".new", "wb") as file:
    file.write(zlib.decompress(base64.b64decode(sys.argv[3])))
    file.flush()
    os.fsync(file.fileno())
os.replace(path + ".new", path)
print(json.dumps({{"ok": True}}))
"""


def publish(head: Head, told: Mapping[str, Any]) -> None:
    """told: as cli/publishing.py words it, and gateway/api/native/plan.py reads it. Raises HostError."""
    head.order("plan", dict(told), _SCRIPT, "the plan")
