"""What scheduler and workers are told of a host's Dask worker processes, where there may be several. Pure."""

from __future__ import annotations

from cluster_ai import layout, settings
from cluster_ai.addresses import in_url
from cluster_ai.config.model import Config, Worker
from cluster_ai.placement.shares import Shares
from cluster_ai.placement.shares import shares as equal
from cluster_ai.release.service import any_address


def shares(config: Config, worker: Worker) -> Shares:
    scale, has = config.scaling.processes, worker.resources
    return equal(has.cpu, has.memory, scale.max if scale else 1)


def of_worker(config: Config, worker: Worker) -> settings.Processes | None:
    found = shares(config, worker)
    if found.most == 1:
        return None
    return settings.Processes(
        *(found.most, *found.others),
        contact=f"tls://{in_url(worker.host)}",
        listen=f"tls://{in_url(any_address(worker.host))}",
        port=layout.DASK_WORKER_PORTS[0],
        nanny_ports=":".join(map(str, layout.DASK_NANNY_PORTS)),
    )


def of_scheduler(config: Config) -> settings.SchedulerSettings | None:
    scale = config.scaling.processes
    if scale is None:
        return None
    found = ((worker.name, shares(config, worker)) for worker in config.workers)
    hosts = tuple(settings.HostProcesses(name, it.most, *it.others) for name, it in found if it.most > 1)
    return settings.SchedulerSettings(settings.ProcessScale(scale.min, scale.cool_down, scale.dry_run, hosts))
