"""What a release is made of, as a CycloneDX bill of materials, for scanners of vulnerabilities and of licences.

It follows from the release alone: no time, and a serial number that is made of the digest. A host's Debian packages
are no part of a release; they come along where they were asked for on the host.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from packaging.utils import parse_wheel_filename

from cluster_ai import __version__
from cluster_ai.release import wheels
from cluster_ai.release.store import Store

# Run on a host: its distribution, then its packages, a line each.
INSTALLED = """\
. /etc/os-release && echo "$ID $VERSION_ID" && \
dpkg-query --show --showformat='${db:Status-Abbrev}\\t${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\n'
"""


def of(store: Store, digest: str, manifest: Mapping[str, Any], installed: str = "") -> str:
    """JSON, indented. installed: what INSTALLED said on the host; empty: only what is of the release."""
    parts = manifest["parts"]
    packages = [
        wheel
        for part in ("lib", "open-webui")
        if part in parts
        for wheel in json.loads(store.member(parts[part], f"{part}/{wheels.LIST}"))
    ]
    host = json.loads(store.member(parts["host"], "etc/host.json"))
    release = Component(
        name=f"cluster-ai-release-{manifest['host']}",
        type=ComponentType.APPLICATION,
        version=digest,
        bom_ref=f"release:{digest}",
        hashes=[_sha256(digest)],
        properties=[
            Property(name=f"cluster-ai:{name}", value=str(manifest[name])) for name in ("host", "python", "arch")
        ],
    )
    bom = Bom(
        components=[
            _ours(parts["app"]),
            *map(_package, packages),
            *_engine(manifest, host),
            *_models(manifest, _named(store, manifest, host)),
            *_debian(installed),
        ],
        serial_number=uuid5(NAMESPACE_URL, f"urn:sha256:{digest}{installed}"),
        metadata=BomMetaData(component=release),
    )
    bom.register_dependency(release, bom.components)
    told = json.loads(JsonV1Dot6(bom).output_as_string())
    del told["metadata"]["timestamp"]  # which the library always sets, and the format doesn't ask for
    return json.dumps(told, indent=2, sort_keys=True, ensure_ascii=False)


def _ours(part: str) -> Component:
    return Component(
        name="cluster-ai",
        type=ComponentType.APPLICATION,
        version=__version__,
        bom_ref=f"part:{part}",
        hashes=[_sha256(part)],
    )


def _package(wheel: Mapping[str, str]) -> Component:
    name, version, _, _ = parse_wheel_filename(wheel["file"])
    return Component(
        name=name,
        version=str(version),
        bom_ref=f"wheel:{wheel['file']}",
        purl=PackageURL("pypi", None, name, str(version), {"file_name": wheel["file"]}),
        hashes=[_sha256(wheel["sha256"])],
        licenses=[LicenseExpression(wheel["license"])] if "license" in wheel else [],
    )


def _engine(manifest: Mapping[str, Any], host: Mapping[str, Any]) -> Iterator[Component]:
    if "engine" in manifest["parts"]:
        yield Component(
            name="ollama",
            type=ComponentType.APPLICATION,
            version=host["engine"],
            bom_ref=f"part:{manifest['parts']['engine']}",
            purl=PackageURL("github", "ollama", "ollama", f"v{host['engine'].removeprefix('v')}"),
            hashes=[_sha256(manifest["files"]["engine/bin/ollama"]["sha256"])],
        )


def _named(store: Store, manifest: Mapping[str, Any], host: Mapping[str, Any]) -> dict[str, str]:
    """Models by the SHA-256 of their files: the head has those of all workers."""
    models = host["models"]
    if "head" in manifest["roles"]:
        models = json.loads(store.member(manifest["parts"]["host"], "etc/gateway.json"))["catalog"]
    return {model["blob"]: model["name"] for model in models}


def _models(manifest: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[Component]:
    """Those that come as files; what Ollama itself fetches is no part of a release."""
    for sha256 in manifest["blobs"]:
        yield Component(
            name=names[sha256],
            type=ComponentType.MACHINE_LEARNING_MODEL,
            version=f"sha256:{sha256}",
            bom_ref=f"blob:{sha256}",
            hashes=[_sha256(sha256)],
        )


def _debian(installed: str) -> Iterator[Component]:
    """https://github.com/package-url/purl-spec: type deb."""
    first, *lines = installed.splitlines() or [""]
    distribution = first.replace(" ", "-")
    for words in (line.split("\t") for line in lines):
        if len(words) != 5 or words[0].strip() != "ii":
            continue
        _, name, version, arch, source = words
        qualifiers = {"arch": arch, "distro": distribution, **({"upstream": source} if source != name else {})}
        yield Component(
            name=name,
            type=ComponentType.LIBRARY,
            version=version,
            bom_ref=f"deb:{name}:{arch}",
            purl=PackageURL("deb", first.split(" ")[0], name, version, qualifiers),
        )


def _sha256(value: str) -> HashType:
    return HashType(alg=HashAlgorithm.SHA_256, content=value)
