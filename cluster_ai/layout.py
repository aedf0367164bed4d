"""Names that controller and hosts must agree on: paths, units, users and ports that nobody needs to choose."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import PurePosixPath

ROOT = PurePosixPath("/opt/cluster-ai")
PARTS = ROOT / "parts"  # <sha256>/: unpacked parts, hard-linked into releases
RELEASES = ROOT / "releases"  # <digest>/: immutable
CURRENT = ROOT / "current"  # -> releases/<digest>
PREVIOUS = ROOT / "previous"  # -> releases/<digest>, the way back
LIBEXEC = ROOT / "libexec"  # switch: outside of every release, so that the way back depends on none

STATE = PurePosixPath("/var/lib/cluster-ai")  # <component>/: StateDirectory of each unit
BLOBS = STATE / "blobs"  # <sha256>: GGUF files
LEASE = STATE / "lease.json"  # on the head: who changes the cluster now
INCOMING = STATE / "incoming"  # archives on their way in
HOST_STAMP = STATE / "host-layer"  # digest of roles, variables and distribution that the host was converged to
DRIFTED = "drift: "  # how the stamp begins instead, after the host's own check found that it isn't so any more
ROLLOUTS = STATE / "rollouts"  # on the head: a copy of each rollout's record
PLAN = STATE / "plan.json"  # on the head: the last plan that was published, in words
PACKAGES = STATE / "packages"  # what the host layer installed: a name and a version a line
VERIFIED = STATE / "verify.json"  # what the host's own check found, for people
DRIFT = STATE / "drift"  # of that, what a push and a switch put right, one a line; absent where there is nothing

CREDENTIALS = PurePosixPath("/etc/cluster-ai")  # 0600; passed to units by LoadCredential=
GATEWAY_TOKEN, ISSUING_CERT, ISSUING_KEY = "gateway.token", "issuing.pem", "issuing.key"
ALERTS_TOKEN, ALERTS_PASSWORD = "alerts-webhook.token", "alerts-mail.password"  # Alertmanager's; may be empty
OIDC_SECRET = "oidc.secret"  # noqa: S105 (its name): the dashboard's, at the provider that security.oidc names
# Open WebUI's at the gateway, which has it too; and what it signs its sessions with. Empty where there is none.
OPEN_WEBUI_KEY, OPEN_WEBUI_SECRET = "open-webui.key", "open-webui.secret"
PUBLIC_CERT, PUBLIC_KEY = "public.pem", "public.key"  # of gateway and dashboard, where cluster.yaml names a certificate
# What is renewed while units run isn't passed so, since they would keep what they were started with: a link to a folder
# with these files, 0640 for group cluster-ai, set anew in one step. HOSTS: names of the hosts whose certificates count.
TLS = STATE / "tls" / "current"
TLS_GROUP = "cluster-ai"
TLS_VARIABLE = "CLUSTER_AI_TLS"  # tells a unit so
CA_CERT, CERT, KEY, HOSTS = "ca.pem", "cert.pem", "key.pem", "hosts"
IN_TLS = "tls/"  # before the names of these, where they stand among all credentials

SYSTEM = PurePosixPath("/etc/systemd/system")
GUARD = "cluster-ai-guard.service"  # of no release; before every unit of one at boot
TARGET = "cluster-ai.target"
SWITCHING = "cluster-ai-switch.service"  # transient: a switch under way
VERIFY, VERIFY_TIMER = "cluster-ai-verify.service", "cluster-ai-verify.timer"
RENEW, RENEW_TIMER = "cluster-ai-renew.service", "cluster-ai-renew.timer"
SLEEP, SLEEP_PATH = "cluster-ai-sleep.service", "cluster-ai-sleep.path"  # of standby hosts
SLEEP_MARK = "sleep"  # in the worker's state: the path unit looks for it
SCHEDULER, ISSUER, TASKS, GATEWAY_SOCKET, GATEWAY_HOLDER, GATEWAY, PROMETHEUS, ALERTMANAGER, DASHBOARD, OPEN_WEBUI = (
    "cluster-ai-scheduler.service",
    "cluster-ai-issuer.service",
    "cluster-ai-tasks.service",
    "cluster-ai-gateway.socket",
    "cluster-ai-gateway.service",  # keeps the socket from starting anything; runs nothing
    "cluster-ai-gateway@.service",  # one instance runs; during a hand-over two, both on the socket
    "cluster-ai-prometheus.service",
    "cluster-ai-alertmanager.service",
    "cluster-ai-dashboard.service",
    "cluster-ai-open-webui.service",
)
ENGINE, FRONT, WORKER = "cluster-ai-engine.service", "cluster-ai-front.service", "cluster-ai-worker.service"
HEAD_UNITS = (
    *(SCHEDULER, ISSUER, TASKS, GATEWAY_SOCKET, GATEWAY_HOLDER, GATEWAY),
    *(PROMETHEUS, ALERTMANAGER, DASHBOARD, OPEN_WEBUI),
)
WORKER_UNITS = (ENGINE, FRONT, WORKER)

# One system user a component; the base role makes them.
USERS = (
    "cluster-ai-scheduler",
    "cluster-ai-issuer",
    "cluster-ai-tasks",
    "cluster-ai-gateway",
    "cluster-ai-prometheus",
    "cluster-ai-alertmanager",
    "cluster-ai-dashboard",
    "cluster-ai-open-webui",
    "cluster-ai-engine",
    "cluster-ai-front",
    "cluster-ai-worker",
)

GATEWAY_GRACE = 300  # seconds that a gateway which ends gives its streams
TASKS_GRACE = 60  # seconds that a task manager which ends waits for the tasks that run

TASKS_SOCKET = PurePosixPath("/run/cluster-ai-tasks/socket")  # where the gateway asks the task manager

GATEWAY_LOCAL_PORT = 11436  # plain HTTP on loopback, for the head host's own, where the gateway's port speaks TLS
ENGINE_PORT = 11434  # Ollama, loopback only
FRONT_PORT = 11443  # nginx before it: TLS 1.3, client certificate asked for
FRONT_BODY_LIMIT = 256 * 2**20  # bytes of a request that nginx there takes
ISSUER_PORT, ISSUER_PATH = 11445, "/certificate"  # on the head host: renews certificates
PEER_PORT = 11444  # while releases are pushed: hosts give each other what has come (deploys/peer.py)
BEACON_PORT = 11445  # UDP: machines that want to join announce themselves to it (discovery/join.py)
NODE_EXPORTER, NODE_EXPORTER_PORT = "prometheus-node-exporter.service", 9100
TEXTFILES = PurePosixPath("/var/lib/prometheus/node-exporter")  # where Debian's node_exporter reads metrics of others
DASK_WORKER_PORTS = (8790, 8799)
DASK_NANNY_PORTS = (8800, 8809)
# What the scheduler is told: without a heartbeat for so long a worker is lost, and what it had begins again elsewhere.
# Nothing of ours keeps a worker's interpreter for seconds, but its host may be busy; cluster/silence.py is quicker.
WORKER_TTL = {"DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "60s"}
# Every process of Dask looks at itself 50 times a second, a worker's 100 times more: 3 % of a core on a host at rest.
# So often is enough for the pages that show it.
DASK_AT_REST = {
    "DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL": "500ms",
    "DASK_DISTRIBUTED__WORKER__PROFILE__INTERVAL": "100ms",
}


def triggered(units: Collection[str]) -> frozenset[str]:
    """Those services of `units` that a timer or a path among them starts: they needn't be active."""
    starters = {name.rpartition(".")[0] for name in units if name.endswith((".timer", ".path"))}
    return frozenset(name for name in units if name.endswith(".service") and name.removesuffix(".service") in starters)
