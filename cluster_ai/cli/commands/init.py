"""`cluster-ai init`"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cluster_ai.errors import ConfigError

BEGINNING = """\
# A private AI cluster. `cluster-ai validate` checks this file, `cluster-ai plan` shows what it would change on the
# hosts, `cluster-ai apply` does it. docs/configuration.md has every key; `cluster-ai config show` every default.
version: '1.0'
cluster:
  name: 'my-cluster'

  # The head host: scheduler, gateway, Prometheus and dashboard run there. A name or an address that SSH reaches.
  scheduler:
    host: 'head.example.lan'

  # The machines that run models. One of them may have the same host as the scheduler.
  workers:
    - name: 'worker-1'
      host: 'worker-1.example.lan'
      resources: {cpu: 8, memory: '32GB'}  # on a machine with an NVIDIA card add: gpu: 1, gpu_memory: '12GB'

  models:
    - name: 'llama3.2:3b'
      replicas: 1

  # How the hosts are reached. What isn't said is left to OpenSSH's own configuration.
  # ssh:
  #   user: 'admin'
  #   key: '~/.ssh/id_ed25519'
"""


def command(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(help="File to write; --config's when left out.", show_default=False)] = "",
) -> None:
    """Write a small, valid cluster.yaml to begin with. A file that is there already is left alone."""
    target = Path(path) if path else ctx.obj.config_path
    if target.is_dir():
        target = target / "cluster.yaml"
    try:
        with target.open("x", encoding="utf-8") as file:
            try:
                file.write(BEGINNING)
                file.flush()
            except OSError:  # no room: half a file would be in the way of the next try
                target.unlink()
                raise
    except FileExistsError as error:
        raise ConfigError(
            "there is such a file already", where=str(target), remedy="name another, or edit that one"
        ) from error
    except OSError as error:
        raise ConfigError(f"can't be written: {error.strerror}", where=str(target)) from error
    print(f"{target} is written. Put in your own hosts, then: cluster-ai validate")
