from __future__ import annotations

import base64
import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.errors import HostError
from cluster_ai.provision.refusals import Reply
from cluster_ai.provision.ssh import Call, run
from cluster_ai.rollout.credentials import ON_HEAD, REGISTERED, TRUST
from cluster_ai.rollout.observe import SCRIPT, Observed, parse

A, B, C = "a" * 64, "b" * 64, "c" * 64
ANSWER = f"""Welcome to h1!
cluster-ai-probe=1
os_id=debian
os_version=12
python=Python 3.11.2
arch=x86_64
clock=1795500000
{layout.CURRENT}=releases/{A}
{layout.PREVIOUS}=/opt/cluster-ai/releases/{B}
{layout.PARTS}=
{layout.PARTS}/{A}=
{layout.PARTS}/.{B}=
{layout.PARTS}/junk=
{layout.RELEASES}=
{layout.RELEASES}/{A}=
{layout.RELEASES}/{B}=
newer=etc/host.json
newer=app
stamp={C}
{C}  {layout.TLS}/ca.pem
{A}  {layout.CREDENTIALS}/gateway.token
Filesystem     1024-blocks   Used Available Capacity Mounted on
/dev/sda1  100000  20000  30000  20% /
/dev/sdb1  100000  20000  80000  20% /opt
cluster-ai-gateway.service   loaded    active   running Cluster AI: gateway
● cluster-ai-worker.service  loaded    failed   failed  Cluster AI: Dask worker
cluster-ai-firewall.service  loaded    active   exited  Cluster AI: firewall
cluster-ai-engine.service    not-found inactive dead    cluster-ai-engine.service
cluster-ai-probe=end
"""


def test_an_answer_is_read_and_what_a_login_shell_says_around_it_is_skipped() -> None:
    seen = parse("h1", ANSWER)
    assert (seen.distribution, seen.python, seen.arch, seen.clock) == ("debian-12", "3.11", "x86_64", 1795500000)
    assert (seen.current, seen.previous, seen.stamp) == (A, B, C)
    assert (seen.releases, seen.parts, seen.blobs) == (frozenset((A, B)), frozenset((A,)), frozenset())
    assert seen.free == 80000 * 1024
    assert seen.sums == {"tls/ca.pem": C, "gateway.token": A}
    assert seen.newer == ("etc/host.json", "app")


def test_each_credential_that_a_plan_compares_is_asked_for_and_read() -> None:
    """One that isn't is never there yet: each apply would bring it again."""
    (asked,) = (line.split()[1:] for line in SCRIPT.splitlines() if line.startswith("sha256sum "))
    seen = parse("h1", ANSWER.replace("stamp=", "".join(f"{A}  {path}\n" for path in asked) + "stamp="))
    assert set(seen.sums) == {TRUST, REGISTERED, *ON_HEAD}


def test_a_release_that_is_not_confirmed_yet_is_not_what_a_host_runs() -> None:
    """Its controller has died, for instance: within a minute the host is back on what was confirmed."""
    told = f"switch_wanted={A}\nswitch_back={B}\nswitch_confirmed={B}\n"
    seen = parse("h1", ANSWER.replace("newer=app\n", told))
    assert (seen.current, seen.switching) == (B, A)
    first = f"switch_wanted={A}\nswitch_back=\nswitch_confirmed=\n"
    assert parse("h1", ANSWER.replace("newer=app\n", first)).current is None


def test_units_are_those_of_a_release_that_systemd_knows() -> None:
    units = parse("h1", ANSWER).units
    assert {unit: (it.active, it.up) for unit, it in units.items()} == {
        "cluster-ai-gateway.service": ("active", True),
        "cluster-ai-worker.service": ("failed", False),
    }


@pytest.mark.parametrize(
    "text", ["", "hello\n", "cluster-ai-probe=1\nos_id=debian\n", "cluster-ai-probe=end\ncluster-ai-probe=1"]
)
def test_an_answer_that_is_cut_off_or_something_else_is_an_error_of_that_host(text: str) -> None:
    with pytest.raises(HostError, match="h1: answered something else"):
        parse("h1", text)


@given(st.lists(st.one_of(st.text(), st.sampled_from(ANSWER.splitlines()))))
def test_no_answer_however_odd_is_more_than_an_error_of_that_host(lines: list[str]) -> None:
    seen = parse("h1", "\n".join(["cluster-ai-probe=1", *lines, "cluster-ai-probe=end"]))
    assert seen.host == "h1"


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(HostError):
        parse("h1", text)


@given(st.binary())
def test_a_certificate_is_taken_out_of_pem_and_nothing_else(der: bytes) -> None:
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(der).decode()}-----END CERTIFICATE-----\n"
    assert parse("h", f"cluster-ai-probe=1\n{pem}cluster-ai-probe=end").certificate == der


def test_what_somebody_changed_in_a_release_is_told_but_for_files_within_packages(tmp_path: Path) -> None:
    for name in ("app/a.py", "app/b.py", "lib/one/c.py", "open-webui/two/d.py", "etc/e.json", "units.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for path in (tmp_path, *tmp_path.rglob("*")):
        os.utime(path, (1, 1))
    for name in ("app/b.py", "lib/one/c.py", "open-webui/two/d.py"):
        (tmp_path / name).touch()
    (tmp_path / "open-webui/three").mkdir()
    script = SCRIPT.replace(str(layout.CURRENT), str(tmp_path))
    (reply,) = run([Call("here", ("sh", "-c"), script, as_root=False)]).values()
    assert isinstance(reply, Reply)
    assert set(parse("here", reply.text).newer) == {"app/b.py", "open-webui"}


def test_the_script_runs_here_and_its_answer_is_read() -> None:
    (reply,) = run([Call("here", ("sh", "-c"), SCRIPT, as_root=False)]).values()
    assert isinstance(reply, Reply)
    seen = parse("here", reply.text)
    assert isinstance(seen, Observed)
    assert seen.python
    assert seen.arch
    assert seen.free
    assert seen.clock > 1_700_000_000
