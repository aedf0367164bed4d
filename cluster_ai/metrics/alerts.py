"""What Prometheus watches for: recorded series, and alerts with what they mean and what to do. docs/alerts.md is made
of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Recording:
    name: str  # level:metric:operations, as Prometheus' documentation advises
    expr: str


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    severity: Literal["critical", "warning"]  # critical: people's requests fail, or soon will
    expr: str
    lasts: str  # how long it must be so
    summary: str  # one line, with Prometheus' templates
    meaning: str
    remedy: str


RECORDINGS = (
    Recording(
        "cluster:errors:ratio_rate5m",
        'sum(rate(cluster_failed_tasks_total{kind="inference"}[5m]))'
        ' / (sum(rate(cluster_total_tasks_total{kind="inference"}[5m])) > 0)',
    ),
    Recording(
        "model:queue_seconds:p90_5m",
        "histogram_quantile(0.9, sum by (model, le) (rate(gateway_queue_seconds_bucket[5m])))",
    ),
    Recording(
        "model:time_to_first_token_seconds:p95_5m",
        "histogram_quantile(0.95, sum by (model, le) (rate(gateway_time_to_first_token_seconds_bucket[5m])))",
    ),
    Recording(
        "worker_model:tokens_per_second:rate5m",
        "sum by (worker, model) (rate(worker_timed_tokens_total[5m]))"
        " / (sum by (worker, model) (rate(worker_eval_seconds_total[5m])) > 0)",
    ),
)

ALERTS = (
    Alert(
        "NoWorkers",
        "critical",
        "cluster_active_workers == 0",
        "30s",
        "No worker takes requests",
        "The gateway has nobody to send a prompt to: every request waits, and is then refused.",
        "`cluster-ai status` tells of each worker why. All at once is most often the network between head host and "
        "workers, a firewall, or a rollout that was stopped: `cluster-ai rollouts list`.",
    ),
    Alert(
        "WorkerDown",
        "warning",
        "worker_up == 0",
        "1m",
        "Worker {{ $labels.worker }} does not answer",
        "Its engine doesn't answer the gateway's checks. Others answer in its place, if they have room.",
        "`cluster-ai doctor HOST` looks at the host; `cluster-ai logs HOST engine` shows what the engine said "
        "last, `cluster-ai logs HOST front` what nginx before it says.",
    ),
    Alert(
        "ModelShort",
        "warning",
        "model_replicas_short > 0",
        "1m",
        "{{ $value }} replicas of {{ $labels.model }} have no worker",
        "The workers that it is placed on are lost, and no other has room for it: what replicas are left carry it "
        "alone, or nobody does.",
        "`cluster-ai models explain MODEL` tells what keeps it away from each worker. Bring the lost one back, or give "
        "others room: fewer models, fewer replicas, or a smaller `num_ctx`.",
    ),
    Alert(
        "HostDown",
        "warning",
        'up{job="node"} == 0 unless on (worker) worker_asleep == 1',
        "2m",
        "Host {{ $labels.host }} can't be read",
        "Prometheus can't reach the node_exporter of this host: it is off, or its network or firewall is in the way.",
        "Is it on? `cluster-ai doctor HOST` tells what answers. A host that went for good leaves cluster.yaml, and "
        "`cluster-ai apply` places its models elsewhere.",
    ),
    Alert(
        "TargetDown",
        "warning",
        'up{job!="node"} == 0',
        "2m",
        "{{ $labels.job }} can't be read",
        "A part of the head host doesn't answer Prometheus: gateway, scheduler, or Prometheus itself.",
        "`cluster-ai status`, then `cluster-ai logs HEAD gateway scheduler prometheus`.",
    ),
    Alert(
        "SchedulerDown",
        "warning",
        "cluster_scheduler_up == 0",
        "2m",
        "Dask's scheduler does not answer",
        "Prompts are answered all the same. Tasks wait, and are taken up when it is back: none is lost.",
        "`cluster-ai logs HEAD scheduler`; `cluster-ai verify` tells whether its release is whole.",
    ),
    Alert(
        "RequestsFail",
        "critical",
        "cluster:errors:ratio_rate5m > 0.05",
        "5m",
        "{{ $value | humanizePercentage }} of the requests fail",
        "Of the last five minutes' requests more than one in twenty failed through the cluster's fault. What a client "
        "did wrong, or gave up, doesn't count.",
        "The gateway's log has a line for each, with the reason: `cluster-ai logs HEAD gateway`.",
    ),
    Alert(
        "QueueLong",
        "warning",
        "model:queue_seconds:p90_5m > 10",
        "5m",
        "One in ten requests for {{ $labels.model }} waits more than {{ $value | humanizeDuration }}",
        "More is asked of this model than its replicas can answer at once.",
        "Give it more `replicas` or more `engine.parallel` in cluster.yaml, if the workers' memory allows it "
        "(`cluster-ai plan` tells), or limit those who ask most: `cluster-ai usage`.",
    ),
    Alert(
        "FirstTokenLate",
        "warning",
        "model:time_to_first_token_seconds:p95_5m > 30",
        "10m",
        "One in twenty answers of {{ $labels.model }} begins after more than {{ $value | humanizeDuration }}",
        "People wait for the first word: prompts are long, the model is loaded anew again and again, or the queue is "
        "long.",
        "`model_cache_hit_rate` well below 1 means loading: more models are in use than fit into memory. Else see "
        "QueueLong.",
    ),
    Alert(
        "ModelSlow",
        "warning",
        "worker_model:tokens_per_second:rate5m"
        " < 0.6 * avg_over_time(worker_model:tokens_per_second:rate5m[1d] offset 30m)",
        "10m",
        "{{ $labels.model }} on {{ $labels.worker }} is slower than it was: {{ $value | humanize }} tokens/s",
        "The engine gives less than 60 % of the tokens per second that it gave there over the day before: another "
        "program uses the card or the processor, it is too hot, the driver or the engine was updated, or the model no "
        "longer fits on the card.",
        "Compare with the other workers on the dashboard's page of models. After an update: `cluster-ai rollback`.",
    ),
    Alert(
        "ModelOffGpu",
        "warning",
        "worker_model_off_gpu == 1",
        "1m",
        "{{ $labels.model }} runs on the CPU of {{ $labels.worker }}, not on its card",
        "The model was placed on the card of this worker, and the engine runs it on the CPU, many times slower. The "
        "gateway prefers other workers for it.",
        "On the host: `nvidia-smi`. A driver that was updated without a reboot, or a card that another program fills, "
        "are the usual reasons. `systemctl restart cluster-ai-engine` lets the engine look for cards anew.",
    ),
    Alert(
        "GpuMemoryFull",
        "warning",
        "worker_gpu_memory / worker_gpu_memory_capacity > 0.97",
        "10m",
        "Card {{ $labels.gpu }} of {{ $labels.worker }} is full",
        "Nearly nothing of the card's memory is left: the next model, or a longer context, falls to the CPU.",
        "`nvidia-smi` tells who has it. Place fewer models there, shorten `num_ctx`, or lower `engine.parallel`.",
    ),
    Alert(
        "MemoryFull",
        "warning",
        "1 - node_memory_MemAvailable_bytes / node_memory_MemTotal_bytes > 0.95",
        "10m",
        "Host {{ $labels.host }} has less than 5 % of its memory left",
        "The kernel will soon end the largest process, which is the engine.",
        "Place fewer or smaller models there, or shorten `num_ctx`.",
    ),
    Alert(
        "DiskFull",
        "warning",
        'node_filesystem_avail_bytes{mountpoint="/"} / node_filesystem_size_bytes{mountpoint="/"} < 0.1',
        "10m",
        "Host {{ $labels.host }} has less than 10 % of its disk left",
        "The next release or model may not fit. An `apply` looks first: where it doesn't fit, nothing changes.",
        "Old releases: lower `rollout.keep_releases`. Models: `cluster-ai status` tells which are there.",
    ),
    Alert(
        "Drift",
        "warning",
        "sum by (host) (cluster_drift) > 0",
        "10m",
        "{{ $value }} things on {{ $labels.host }} differ from what was released",
        "Somebody, or some program, changed what the cluster's releases put there.",
        "`cluster-ai verify` names each thing, `cluster-ai apply` puts it right.",
    ),
    Alert(
        "DriftUnknown",
        "warning",
        "time() - cluster_drift_checked_timestamp_seconds > 3 * 3600",
        "10m",
        "Host {{ $labels.host }} looked for drift {{ $value | humanizeDuration }} ago",
        "Every host checks itself each hour; this one doesn't any more.",
        "`systemctl status cluster-ai-verify.timer cluster-ai-verify` there; `cluster-ai verify` looks now.",
    ),
    Alert(
        "CertificateEnds",
        "critical",
        'cluster_certificate_end_timestamp_seconds{certificate="host"} - time() < 2 * 86400'
        ' or cluster_certificate_end_timestamp_seconds{certificate!="host"} - time() < 14 * 86400',
        "10m",
        "The certificate ({{ $labels.certificate }}) of {{ $labels.host }} ends in {{ $value | humanizeDuration }}",
        "A host renews its own after half a week; it has failed for more than a day now. The one for people "
        "(`security.tls.certificate`) is yours to renew, and `cluster-ai apply` makes another issuing CA. Once it has "
        "ended, others refuse the host, or clients the gateway.",
        "host: `systemctl status cluster-ai-renew` there says why; `cluster-ai apply` gives it a new one. people: put "
        "the new file in place, `cluster-ai secrets set tls_key`, then apply. issuing: `cluster-ai apply`.",
    ),
    Alert(
        "RolloutWaits",
        "warning",
        'cluster_rollout_state{state=~"paused|interrupted|failed"} == 1',
        "10m",
        "The last rollout is {{ $labels.state }}",
        "Hosts may run different releases until somebody decides. The cluster serves all the while.",
        "`cluster-ai rollouts show` tells why; `cluster-ai rollouts resume` goes on, `undo` takes it back.",
    ),
    Alert(
        "RolloutStuck",
        "warning",
        "time() - cluster_rollout_started_timestamp_seconds > 4 * 3600"
        ' and on (host) cluster_rollout_state{state="running"} == 1',
        "10m",
        "A rollout has been running for {{ $value | humanizeDuration }}",
        "Its controller may have died; nobody has noticed, since no other run came after it.",
        "`cluster-ai rollouts list` tells whether anybody still holds the lease. If not: `cluster-ai rollouts resume`.",
    ),
)
