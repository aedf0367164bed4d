"""Which driver a card gets: decided over recordings of `lspci -nn`, checked against the distributions' real indices."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.provision import apt, debs, host_layer
from tests.unit.provision.test_host_layer import TOLD

driver = debs._driver()
LSPCI = Path(__file__).parent / "lspci"
BRANCH = "580"
KERNEL = {"Debian": "6.1.0-37-amd64", "Ubuntu": "6.8.0-60-generic"}


def seen(recording: str, kernel: str = KERNEL["Debian"], **more: Any) -> dict[str, Any]:
    host = {"kernel": kernel, "loaded": None, "on_disk": None, "nouveau": False, "works": False, "secure_boot": False}
    return {**host, "lspci": (LSPCI / f"{recording}.txt").read_text(), **more}


@pytest.mark.parametrize(
    ("recording", "devices"),
    [
        ("rtx3090", [0x2204]),
        ("a100x2", [0x20F1, 0x20F1]),
        ("t4", [0x1EB8]),
        ("gtx970", [0x13C2]),
        ("gt710", [0x128B]),
        ("gt710-and-rtx3060", [0x128B, 0x2504]),
        ("rtx5090-unnamed", [0x2B85]),
        ("amd", []),
        ("server-without-card", []),
        ("virtio", []),
        ("nothing", []),
    ],
)
def test_cards_are_counted_and_their_sound_devices_are_not(recording: str, devices: list[int]) -> None:
    assert [card.device for card in driver.cards(seen(recording)["lspci"])] == devices


@pytest.mark.parametrize("distribution", ["Debian", "Ubuntu"])
@pytest.mark.parametrize("recording", ["amd", "server-without-card", "virtio", "nothing"])
def test_a_host_without_a_card_of_nvidia_gets_nothing_and_hears_nothing(recording: str, distribution: str) -> None:
    assert driver.plan(seen(recording), distribution, BRANCH) == driver.Plan()


@pytest.mark.parametrize("distribution", ["Debian", "Ubuntu"])
@pytest.mark.parametrize("recording", ["rtx3090", "a100x2", "t4", "gtx970", "gt710-and-rtx3060"])
def test_a_card_of_today_gets_the_driver_of_the_distribution(recording: str, distribution: str) -> None:
    plan = driver.plan(seen(recording, KERNEL[distribution]), distribution, BRANCH)
    assert plan.action == "install"
    assert (
        plan.headers
        == {
            "Debian": ("linux-headers-6.1.0-37-amd64", "linux-headers-amd64"),
            "Ubuntu": ("linux-headers-6.8.0-60-generic", "linux-headers-generic"),
        }[distribution]
    )
    assert (
        plan.packages
        == {
            "Debian": ("nvidia-kernel-dkms", "libcuda1", "nvidia-smi", "nvidia-persistenced"),
            "Ubuntu": ("nvidia-headless-580-server", "nvidia-utils-580-server"),
        }[distribution]
    )


def test_a_card_too_old_is_left_alone_with_a_reason() -> None:
    plan = driver.plan(seen("gt710"), "Debian", BRANCH)
    assert (plan.action, plan.packages) == ("none", ())
    assert "GeForce GT 710" in plan.message
    assert "too old" in plan.message


def test_a_card_newer_than_debians_driver_is_left_alone_with_a_remedy_and_ubuntu_has_open_modules_for_it() -> None:
    debian = driver.plan(seen("rtx5090-unnamed"), "Debian", BRANCH)
    assert (debian.action, debian.packages) == ("none", ())
    assert " -> " in debian.message
    ubuntu = driver.plan(seen("rtx5090-unnamed"), "Ubuntu", BRANCH)
    assert ubuntu.packages == ("nvidia-headless-580-server-open", "nvidia-utils-580-server")


def test_a_driver_that_works_is_left_as_it_is() -> None:
    assert driver.plan(seen("rtx3090", works=True, loaded="535.1", on_disk="535.1"), "Debian", BRANCH).action == "none"
    assert driver.plan(seen("rtx5090-unnamed", works=True), "Debian", BRANCH).message == ""


@pytest.mark.parametrize(
    "state",
    [
        {"on_disk": "535.261.03", "loaded": "535.216.01"},  # updated since the module was loaded
        {"on_disk": "535.261.03", "loaded": None, "nouveau": True},  # nouveau still holds the card
    ],
)
def test_a_driver_on_disk_that_is_not_the_one_that_runs_wants_a_reboot(state: dict[str, Any]) -> None:
    assert driver.plan(seen("rtx3090", **state), "Debian", BRANCH).action == "reboot"


def test_a_loaded_driver_that_finds_no_card_is_installed_anew_not_rebooted_for_ever() -> None:
    state = {"on_disk": "535.261.03", "loaded": "535.261.03"}
    assert driver.plan(seen("rtx3090", **state), "Debian", BRANCH).action == "install"


@given(st.text())
def test_any_text_is_a_list_of_cards(text: str) -> None:
    assert isinstance(driver.cards(text), tuple)


@given(st.integers(0, 0xFFFF))
def test_every_device_number_is_either_driven_or_explained(device: int) -> None:
    line = f"01:00.0 VGA compatible controller [0300]: NVIDIA Corporation Device [10de:{device:04x}] (rev a1)\n"
    plan = driver.plan({**seen("nothing"), "lspci": line}, "Debian", BRANCH)
    assert bool(plan.packages) != bool(plan.message)


def indices(folder: Path, sources: str) -> dict[str, str]:
    """apt's environment with nothing of this machine's: an empty status, and lists of these sources."""
    for name in ("lists/partial", "archives/partial"):
        (folder / name).mkdir(parents=True)
    (folder / "status").touch()
    (folder / "x.sources").write_text(sources)
    conf: dict[str, object] = {
        "Dir::State": folder,
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": folder / "status",
    }
    conf |= {"Dir::Cache": folder, "Dir::Etc::sourcelist": folder / "x.sources", "Dir::Etc::sourceparts": "/dev/null"}
    conf |= {"Dir::Etc::parts": "/dev/null", "Acquire::Languages": "none", "APT::Architecture": "amd64"}
    lines = [f'{name} "{value}";\n' for name, value in conf.items()]
    (folder / "apt.conf").write_text("".join(lines) + 'APT::Architectures { "amd64"; };\nAPT::Sandbox::User "root";\n')
    env = {**os.environ, "APT_CONFIG": str(folder / "apt.conf"), "LC_ALL": "C"}
    done = subprocess.run(["apt-get", "update", "-qq"], env=env, capture_output=True, text=True, check=False)
    if done.returncode or not list((folder / "lists").glob("*Packages*")):
        pytest.skip(f"package lists can't be read: {done.stderr[-200:]}")
    return env


def resolves(env: dict[str, str], packages: tuple[str, ...]) -> None:
    command = ["apt-get", "-s", "-qq", "--no-install-recommends", "install", *packages]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.integration
@pytest.mark.parametrize("codename", ["bookworm", "trixie"])
def test_every_debian_package_is_in_its_real_index(tmp_path: Path, codename: str) -> None:
    own, here, distribution = apt.own_sources()
    main = next((source.uri for source in own if source.suite == here), None)
    if distribution != "debian" or main is None:
        pytest.skip("this machine has no Debian sources")
    components = "main contrib non-free non-free-firmware"
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    env = indices(
        tmp_path, f"Types: deb\nURIs: {main}\nSuites: {codename}\nComponents: {components}\nSigned-By: {keyring}\n"
    )
    resolves(env, (*driver.plan(seen("t4"), "Debian", BRANCH).packages, "linux-headers-amd64"))
    resolves(env, host_layer.packages(TOLD, ["head", "worker"]))


@pytest.mark.integration
@pytest.mark.parametrize("codename", ["noble"])
def test_every_ubuntu_package_is_in_its_real_index(tmp_path: Path, codename: str) -> None:
    mirror = os.environ.get("CLUSTER_AI_UBUNTU_MIRROR")
    if not mirror:
        pytest.skip("name a mirror of Ubuntu in CLUSTER_AI_UBUNTU_MIRROR")
    suites = f"{codename} {codename}-updates {codename}-security"
    components = "main restricted universe multiverse"
    env = indices(tmp_path, f"Types: deb\nURIs: {mirror}\nSuites: {suites}\nComponents: {components}\nTrusted: yes\n")
    for recording in ("t4", "rtx5090-unnamed"):
        resolves(env, (*driver.plan(seen(recording), "Ubuntu", BRANCH).packages, "linux-headers-generic"))
    resolves(env, host_layer.packages(TOLD, ["head", "worker"]))
