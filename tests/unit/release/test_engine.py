from __future__ import annotations

import hashlib
import http.server
import io
import json
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster_ai.errors import BundleError
from cluster_ai.release import archive, engine
from cluster_ai.release.engine import release_url
from cluster_ai.release.lockfile import LockFile
from cluster_ai.release.store import Store
from tests.unit.release.conftest import Cluster


def release_archive() -> bytes:
    """As Ollama's own: libraries with links between their versions."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as file:
        for name, content, mode in (("bin/ollama", b"binary", 0o755), ("lib/ollama/libcudart.so.12.8", b"cuda", 0o644)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            file.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("lib/ollama/libcudart.so.12")
        link.type, link.linkname = tarfile.SYMTYPE, "libcudart.so.12.8"
        file.addfile(link)
    return out.getvalue()


class Site:
    """A real HTTP server with one file, which can break off."""

    def __init__(self) -> None:
        self.content = release_archive()
        self.asked: list[str | None] = []  # Range headers
        self.cut: int | None = None
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                site.asked.append(asked)
                begin = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
                if begin and begin >= len(site.content):
                    self.send_error(416)
                    return
                rest = site.content[begin:]
                self.send_response(206 if asked else 200)
                self.send_header("Content-Length", str(len(rest)))
                self.end_headers()
                self.wfile.write(rest if site.cut is None else rest[: site.cut])

            def log_message(self, *args: object) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v0.17.4/ollama-linux-amd64.tgz"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    thread = threading.Thread(target=found.server.serve_forever, args=(0.05,))
    thread.start()
    yield found
    found.server.shutdown()
    thread.join()
    found.server.server_close()


def obtain(cluster: Cluster, source: str, sha256: str = "") -> tuple[Path, str]:
    line = f"source: '{source}'" + (f"\n    sha256: '{sha256}'" if sha256 else "")
    config = cluster.config("source: './ollama'", line)
    return engine.obtain(config, "x86_64", Store.of(config), None)


@pytest.mark.parametrize(
    ("version", "arch", "ending"),
    [
        ("0.17.4", "x86_64", "/v0.17.4/ollama-linux-amd64.tar.zst"),
        ("v0.14.0", "aarch64", "/v0.14.0/ollama-linux-arm64.tar.zst"),
        ("0.13.5", "x86_64", "/v0.13.5/ollama-linux-amd64.tgz"),
        ("1.0.0-rc1", "x86_64", "/v1.0.0-rc1/ollama-linux-amd64.tar.zst"),
    ],
)
def test_a_version_is_found_at_its_own_release_address(version: str, arch: str, ending: str) -> None:
    assert release_url(version, arch).endswith(ending)


def test_the_first_fetch_is_noted_in_the_lock_file_and_later_ones_do_without_the_site(
    cluster: Cluster, site: Site
) -> None:
    path, sha256 = obtain(cluster, site.url)
    assert sha256 == site.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert json.loads((cluster.folder / "cluster.lock").read_text()) == {"sha256": {site.url: sha256}}
    assert obtain(cluster, site.url) == (path, sha256)
    assert len(site.asked) == 1


def test_what_differs_from_the_lock_file_is_refused_with_address_expected_and_found(
    cluster: Cluster, site: Site
) -> None:
    LockFile(cluster.folder).put(site.url, "0" * 64)
    with pytest.raises(BundleError) as caught:
        obtain(cluster, site.url)
    assert caught.value.where == site.url
    assert "0" * 64 in caught.value.what
    assert site.sha256 in caught.value.what
    assert not list((cluster.folder / ".cluster-ai/store/downloads").iterdir())


def test_what_differs_from_cluster_yaml_is_refused(cluster: Cluster, site: Site) -> None:
    with pytest.raises(BundleError, match=f"expected {'1' * 64}"):
        obtain(cluster, site.url, "1" * 64)
    with pytest.raises(BundleError, match=f"expected {'1' * 64}"):
        obtain(cluster, "./ollama", "1" * 64)
    assert obtain(cluster, site.url, site.sha256)[1] == site.sha256


def test_a_fetch_that_broke_off_goes_on_where_it_was(cluster: Cluster, site: Site) -> None:
    site.cut = 100
    with pytest.raises(BundleError, match="can't be fetched"):
        obtain(cluster, site.url)
    site.cut = None
    assert obtain(cluster, site.url)[1] == site.sha256
    assert site.asked == [None, "bytes=100-"]


def test_an_address_that_answers_with_an_error_is_named(cluster: Cluster) -> None:
    with pytest.raises(BundleError, match="can't be fetched") as caught:
        obtain(cluster, "http://127.0.0.1:9/ollama.tgz")
    assert caught.value.where == "http://127.0.0.1:9/ollama.tgz"


def built(cluster: Cluster, path: Path) -> dict[str, str]:
    store = Store(cluster.folder / "store")
    with engine.members(path) as members:
        part = archive.build(store, "engine", "key", members)
    return {name: mode for name, _, mode in store.tree(part.tree)}


def test_a_release_archive_becomes_plain_files_under_engine(cluster: Cluster) -> None:
    path = cluster.folder / "ollama.tgz"
    path.write_bytes(release_archive())
    assert built(cluster, path) == {
        "engine/bin/ollama": "0755",
        "engine/lib/ollama/libcudart.so.12": "0644",
        "engine/lib/ollama/libcudart.so.12.8": "0644",
    }


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd here")
def test_an_archive_packed_by_zstd_gives_the_same(cluster: Cluster) -> None:
    packed = cluster.folder / "ollama.tar.gz"
    packed.write_bytes(release_archive())
    subprocess.run(["gunzip", packed], check=True)
    subprocess.run(["zstd", "-q", cluster.folder / "ollama.tar"], check=True)
    assert "engine/lib/ollama/libcudart.so.12" in built(cluster, cluster.folder / "ollama.tar.zst")


def test_without_zstd_its_archives_are_refused_with_the_remedy(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")
    path = cluster.folder / "ollama.tar.zst"
    path.write_bytes(b"")
    with pytest.raises(BundleError, match="apt install zstd"):
        built(cluster, path)


def test_a_binary_is_the_engine_as_it_is(cluster: Cluster) -> None:
    assert built(cluster, cluster.folder / "ollama") == {"engine/bin/ollama": "0755"}


def test_an_archive_without_the_engine_and_a_broken_one_are_refused(cluster: Cluster) -> None:
    path = cluster.folder / "x.tgz"
    with tarfile.open(path, "w:gz") as file:
        file.add(cluster.folder / "small.gguf", "small.gguf")
    with pytest.raises(BundleError, match="no bin/ollama"):
        built(cluster, path)
    path.write_bytes(release_archive()[:60])
    with pytest.raises(BundleError, match="can't unpack"):
        built(cluster, path)


def test_a_lock_file_that_is_none_is_refused(cluster: Cluster, site: Site) -> None:
    (cluster.folder / "cluster.lock").write_text("<<<<<<< HEAD\n")
    with pytest.raises(BundleError, match="not a lock file"):
        obtain(cluster, site.url)
