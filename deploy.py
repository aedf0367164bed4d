"""The release layer for pyinfra's own command: `pyinfra inventory/hosts.py deploy.py`, or `pyinfra @cluster deploy.py`.

Every host gets its release; then the head host switches to its own, and the workers one after the other.
docs/release-layer.md has more.
"""

from pathlib import Path

from cluster_ai.deploys.desired import desired
from cluster_ai.deploys.release import push, switch

targets, timeout = desired(Path(__file__).with_name("cluster.yaml"))
push(targets=targets)
switch(targets=targets, timeout=timeout, one_by_one=True)
