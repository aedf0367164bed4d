"""How hosts are woken: a packet on a real socket, a command that is run."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from cluster_ai.gateway import power
from cluster_ai.gateway.power import WakeError, broadcasts, send, wake
from cluster_ai.settings import StandbySettings

MAC = "52:54:00:ab:cd:EF"


def told(*command: str, mac: str | None = None) -> StandbySettings:
    return StandbySettings(mac, command, "127.0.0.1" if mac else None, 1.0, False)


@pytest.mark.parametrize("mac", [MAC, MAC.replace(":", "-")])
async def test_the_magic_packet_arrives_as_cards_look_for_it(mac: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as card:
        card.bind(("127.0.0.1", 0))
        card.settimeout(10)
        port = card.getsockname()[1]
        monkeypatch.setattr(power, "send", lambda mac, targets: send(mac, targets, port))
        await wake(told(mac=mac))
        assert card.recv(1024) == b"\xff" * 6 + bytes.fromhex("525400abcdef") * 16


def test_a_network_that_takes_it_is_enough() -> None:
    send(MAC, ["no such host.test", "127.0.0.1"], 9)
    with pytest.raises(OSError, match=r"."):
        send(MAC, ["no such host.test"], 9)
    with pytest.raises(OSError, match="no network"):
        send(MAC, [], 9)


def test_broadcast_addresses_are_of_ipv4() -> None:
    for address in broadcasts():
        socket.inet_aton(address)


async def test_a_command_is_run_without_a_shell(tmp_path: Path) -> None:
    out = tmp_path / "it's $HOME"
    await wake(told(sys.executable, "-c", "import sys, pathlib; pathlib.Path(sys.argv[1]).touch()", str(out)))
    assert out.exists()


async def test_a_command_that_fails_says_why() -> None:
    with pytest.raises(WakeError, match="ended with 3: no card answers"):
        await wake(told(sys.executable, "-c", "import sys; sys.stderr.write('no card answers'); sys.exit(3)"))
    with pytest.raises(WakeError, match="/no/such can't be run: No such file"):
        await wake(told("/no/such"))


async def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "PATIENCE", 0.05)
    with pytest.raises(WakeError, match="took longer"):
        await wake(told(sys.executable, "-c", "import time; time.sleep(600)"))
