from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.bugreport.scrub import REMOVED, SHORTEST, Scrubber

PLANTED = "Pl4nted"
words = st.text(st.characters(categories=("L", "N", "P", "S"), exclude_characters="*"), min_size=SHORTEST)


@given(st.lists(words, min_size=1), st.lists(st.text()), st.randoms())
def test_a_secret_that_is_known_is_nowhere(secrets: list[str], around: list[str], random: object) -> None:
    text = "".join(part for pair in zip([*around, *secrets], [*secrets, *around], strict=True) for part in pair)
    said = Scrubber(secrets)(text)
    assert not [it for it in secrets if it in said and it not in text.replace(it, "")]


def test_of_a_known_key_every_line_is_one() -> None:
    assert "c2VjcmV0" not in Scrubber(["-----BEGIN-----\nc2VjcmV0\n"])("it said c2VjcmV0 and stopped")


@pytest.mark.parametrize(
    "text",
    [
        "password: Pl4nted",
        "  sudo_password: 'Pl4nted with spaces, and commas'",
        '{"password": "Pl4nted, and more", "user": "anna"}',
        r'"message": "said {\"api_key\": \"Pl4nted\"}"',
        "Authorization: Bearer Pl4ntedPl4nted",
        "curl -H 'authorization: Basic Pl4ntedPl4nted='",
        "CLUSTER_AI_VAULT_PASSWORD=Pl4nted cluster-ai apply",
        "mysql --password Pl4nted",
        "GET /k/cai-Pl4nted/api/chat",
        "https://anna:Pl4nted@mirror.example/debian",
        "https://mirror.example/x?token=Pl4nted&x=1",
        "https://hooks.chat.example/services/T0/Pl4nted",
        "https://chat.example/hooks/Pl4nted",
        "alerts: {webhook: 'https://chat.example/Pl4nted', port: 9093}",
        "key cai-Pl4ntedPl4ntedPl4ntedPl4nted was made",
        "sk-Pl4ntedPl4ntedPl4nted",
        "eyJhbGciOiJFUzI1NiJ9.eyJPl4nted.c2lnbmF0dXJl",
        "root:$6$salt$Pl4nted:19000",
        "Cookie: a=1; session=Pl4nted",
        "the token Pl4ntedPl4ntedPl4ntedPl4ntedPl4nted-Pl4nted stands alone",
        "-----BEGIN EC PRIVATE KEY-----\nPl4nted\n-----END EC PRIVATE KEY-----",
        "Nov 30 host gateway: -----BEGIN PRIVATE KEY-----\nNov 30 host gateway: Pl4nted",
        "smtp:\n  password: |\n    Pl4nted\n    Pl4nted\n  port: 25",
    ],
)
def test_what_has_the_form_of_a_secret_is_taken_out(text: str) -> None:
    said = Scrubber([])(text)
    assert PLANTED not in said
    assert REMOVED in said


@pytest.mark.parametrize(
    "text",
    [
        'model_tokens_generated_total{model="m",worker="a"} 42',
        '{"prompt_tokens": 12, "completion_tokens": 40}',
        f"release {'0a' * 32} is confirmed",
        "tokens_per_minute: 1000",
        'model:time_to_first_token_seconds:p95_5m{model="m"} 1.8',
        "the bearer token is not valid (HTTP 401)",
        "ssh: {user: anna, port: 22, key: ~/.ssh/id_ed25519}",
        "GET http://127.0.0.1:11435/api/v1/cluster/status 200",
        "smtp:\n  host: mail.example\n  port: 25",
    ],
)
def test_what_helps_to_find_a_fault_stays(text: str) -> None:
    assert Scrubber([])(text) == text


def test_the_rest_of_a_block_stays() -> None:
    said = Scrubber([])("smtp:\n  password: |\n    Pl4nted\n  port: 25\n")
    assert said == f"smtp:\n  password: {REMOVED}\n  port: 25\n"


@pytest.mark.parametrize("text", ["x" * 200_000, "-" * 200_000, "a.b-" * 50_000, "token" * 40_000])
def test_a_line_that_is_one_long_word_comes_through(text: str) -> None:
    """Which it would not within the test's timeout, were a form to try every way of reading it."""
    assert Scrubber(["Pl4nted"])(text) == text
