from __future__ import annotations

import json
import unicodedata
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai import layout
from cluster_ai.discovery import join
from cluster_ai.discovery.packets import (
    LARGEST,
    LONGEST,
    Announcement,
    Word,
    banner,
    clean,
    datagram,
    name_in,
    neighbours,
    read,
    system_of,
)

NONCE, SECRET = "0123456789abcdef" * 2, b"q" * 20
KEY = "SHA256:" + "A" * 43
HERE: dict[str, Any] = {
    "kind": "here",
    "nonce": NONCE,
    "token": "abcdef",
    "cluster": "00112233",
    "name": "box",
    "system": "Debian GNU/Linux 12 (bookworm)",
    "arch": "x86_64",
    "cores": 8,
    "memory": 32 * 10**9,
    "gpus": ["NVIDIA GeForce RTX 3090"],
    "keys": [KEY],
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=6),
    max_leaves=12,
)


def test_an_announcement_is_read_as_it_was_meant_and_proves_its_token() -> None:
    told = read(datagram(HERE, SECRET))
    assert isinstance(told, Announcement)
    assert (told.name, told.cores, told.gpus, told.keys) == ("box", 8, ("NVIDIA GeForce RTX 3090",), (KEY,))
    assert told.proven(SECRET)
    assert not told.proven(b"another")


def test_the_script_of_bare_machines_writes_what_we_read_and_reads_what_we_write() -> None:
    assert join.PORT == layout.BEACON_PORT
    told = read(join.pack(HERE, SECRET))
    assert isinstance(told, Announcement)
    assert told.proven(SECRET)
    welcome = {"kind": "welcome", "nonce": NONCE, "user": "root", "key": "ssh-ed25519 AAAA"}
    assert join.unpack(datagram(welcome, SECRET), SECRET, NONCE) == welcome
    assert join.unpack(datagram({"kind": "ask", "nonce": NONCE}), SECRET, NONCE)


def test_a_bare_machine_obeys_nobody_without_the_secret_and_no_answer_to_another_run() -> None:
    welcome = {"kind": "welcome", "nonce": NONCE, "user": "root", "key": "ssh-ed25519 AAAA"}
    assert join.unpack(datagram(welcome), SECRET, NONCE) is None
    assert join.unpack(datagram(welcome, b"wrong"), SECRET, NONCE) is None
    assert join.unpack(datagram(welcome, SECRET), SECRET, "f" * 32) is None
    assert join.unpack(datagram(welcome), b"", NONCE) is None, "a machine without a token lets nobody in"


def test_what_was_changed_on_its_way_proves_nothing() -> None:
    told = read(datagram(HERE, SECRET).replace(b'"box"', b'"fox"'))
    assert isinstance(told, Announcement)
    assert not told.proven(SECRET)


def test_without_a_token_nothing_is_proven() -> None:
    told = read(datagram(HERE | {"token": ""}))
    assert isinstance(told, Announcement)
    assert not told.proven(b"")


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "short"},
        {"token": "../../etc"},
        {"keys": ["MD5:aa"]},
        {"keys": [KEY] * 17},
        {"keys": KEY},
        {"gpus": None},
        {"cores": -1},
        {"cores": True},
        {"memory": 1 << 60},
        {"kind": "other"},
    ],
)
def test_an_announcement_that_is_not_as_it_must_be_is_none(change: dict[str, Any]) -> None:
    assert read(datagram(HERE | change, SECRET)) is None


def test_what_is_too_large_or_too_deep_is_not_read() -> None:
    assert read(b"cluster-ai/1 - " + b" " * LARGEST + b"{}") is None
    assert read(b"cluster-ai/1 - " + b"[" * 1300) is None
    assert join.unpack(b"cluster-ai/1 - " + b"[" * 1300, SECRET, NONCE) is None


@given(st.binary(max_size=1500))
def test_any_bytes_are_read_or_ignored(data: bytes) -> None:
    for packet in (data, b"cluster-ai/1 - " + data):
        assert read(packet) is None or isinstance(read(packet), Announcement | Word)
        join.unpack(packet, SECRET, NONCE)
    banner(data)


@given(st.dictionaries(st.sampled_from(sorted(HERE)), JSON))
def test_an_announcement_with_anything_in_its_fields_is_read_or_ignored(change: dict[str, Any]) -> None:
    told = read(datagram(HERE | change, SECRET))
    if isinstance(told, Announcement):
        for text in (told.name, told.system, told.arch, *told.gpus):
            assert len(text) <= LONGEST
            assert text.isprintable()


@given(st.text())
def test_no_text_of_another_machine_can_move_the_cursor_or_break_a_line(text: str) -> None:
    shown = clean(text)
    assert len(shown) <= LONGEST
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp", "Cs")]


def test_escape_sequences_of_terminals_are_taken_out() -> None:
    assert clean("ev\x1b]0;owned\x07il\x9b31m\u202egnp\n") == "ev ]0;owned il 31m gnp"
    assert clean(["no", "text"]) == ""


@given(st.text())
def test_a_name_for_the_file_is_valid_or_empty(text: str) -> None:
    from cluster_ai.config.forms import FORMS

    name = name_in(clean(text))
    assert name == "" or FORMS["name"].test(name)


def test_a_machines_own_name_loses_its_domain_but_an_address_is_no_name() -> None:
    assert name_in("gpu 01.lab.example") == "gpu-01"
    assert name_in("10.0.0.7") == ""


def test_banners_tell_the_server_and_often_the_system() -> None:
    software = banner(b"hello\r\nSSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
    assert software == "OpenSSH_9.2p1 Debian-2+deb12u3"
    assert system_of(software) == "Debian"
    assert banner(b"HTTP/1.1 400 Bad Request\r\n\r\n") is None
    assert banner(b"SSH-2.0-\x1b[2Jx\r\n") == "[2Jx"


@given(JSON)
def test_any_neighbour_table_is_read(table: Any) -> None:
    neighbours(json.dumps(table))


def test_neighbours_without_an_answer_are_left_out_and_link_local_ones_have_their_interface() -> None:
    rows = [
        {"dst": "10.0.0.2", "dev": "eth0", "lladdr": "02:00:00:00:00:02", "state": ["REACHABLE"]},
        {"dst": "10.0.0.3", "dev": "eth0", "state": ["FAILED"]},
        {"dst": "fe80::2", "dev": "eth0", "lladdr": "02:00:00:00:00:02", "state": ["STALE"]},
        {"dst": "x", "dev": "eth0", "lladdr": "02:00:00:00:00:02", "state": ["STALE"]},
    ]
    assert neighbours(json.dumps(rows)) == {"10.0.0.2": "02:00:00:00:00:02", "fe80::2%eth0": "02:00:00:00:00:02"}
