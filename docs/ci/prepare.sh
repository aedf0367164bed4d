#!/bin/sh
# For CI jobs, from the folder of cluster.yaml: installs Cluster AI from the checkout that this script is in, into
# .cluster-ai/venv, and puts the SSH key and known_hosts where they are given. A machine that has its own needs neither.
set -eu
umask 077
checkout=$(CDPATH='' cd -- "$(dirname -- "$0")/../.." && pwd)

python3 -m venv .cluster-ai/venv
.cluster-ai/venv/bin/pip install --quiet --no-deps --require-hashes -r "$checkout/requirements/controller.lock"
.cluster-ai/venv/bin/pip install --quiet --no-deps -e "$checkout"

# A secret as it is, or the file that it is in: GitLab has both.
secret() {
    if [ -f "$1" ]; then cat "$1"; else printf '%s\n' "$1"; fi
}
mkdir -p ~/.ssh
[ -z "${CLUSTER_AI_SSH_KEY:-}" ] || secret "$CLUSTER_AI_SSH_KEY" >~/.ssh/id_ed25519
[ -z "${CLUSTER_AI_KNOWN_HOSTS:-}" ] || secret "$CLUSTER_AI_KNOWN_HOSTS" >~/.ssh/known_hosts
