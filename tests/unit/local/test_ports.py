from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from cluster_ai.errors import ErrorGroup, ExitCode, UnavailableError
from cluster_ai.local import ports


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_a_port_in_use_is_told_with_its_holder_and_the_flag(taken: int) -> None:
    with pytest.raises(UnavailableError) as caught:
        ports.require_free({"gateway": (taken, "--gateway-port")})
    assert f"gateway: port {taken} is in use by process {os.getpid()} (" in str(caught.value)
    assert "--gateway-port" in caught.value.remedy


def test_all_ports_in_use_are_told_at_once(taken: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ErrorGroup) as caught:
        ports.require_free({"gateway": (taken, "--a"), "dashboard": (other.getsockname()[1], "--b")})
    assert len(caught.value.errors) == 2
    assert all(f"by process {os.getpid()} (" in error.what for error in caught.value.errors)
    assert caught.value.exit_code == ExitCode.UNAVAILABLE


def test_one_port_for_two_components_is_refused() -> None:
    (free,) = ports.next_free(23900, 1, ())
    with pytest.raises(UnavailableError, match="is meant for gateway too"):
        ports.require_free({"gateway": (free, "--a"), "dashboard": (free, "--b")})


def test_engines_take_the_next_free_ports(taken: int) -> None:
    found = ports.next_free(taken, 2, {taken + 1})
    assert len(set(found)) == 2
    assert not {taken, taken + 1} & set(found)
