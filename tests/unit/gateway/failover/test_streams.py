"""What was said, wherever the stream breaks, and how another engine's words go on in the client's form."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster_ai.gateway.failover.forms import FORMS
from cluster_ai.gateway.failover.kept import LIMIT, Kept
from cluster_ai.gateway.failover.onward import Before, Onward
from cluster_ai.gateway.failover.said import Said, UnresumableError, doubtful
from cluster_ai.gateway.failover.seam import Seam, gives_up

TEXTS = st.lists(st.text(min_size=1, max_size=8), min_size=1, max_size=8)


def line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def event(value: dict[str, Any], name: str = "") -> bytes:
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + line(value) + b"\n"


def whole(path: str, texts: list[str]) -> bytes:
    """A stream as the engine itself would send it."""
    if path == "/api/chat":
        said = [line({"model": "m", "message": {"role": "assistant", "content": t}, "done": False}) for t in texts]
        return b"".join(said) + line({"model": "m", "message": {"content": ""}, "done": True, "done_reason": "stop"})
    if path == "/api/generate":
        said = [line({"model": "m", "response": t, "done": False}) for t in texts]
        return b"".join(said) + line({"model": "m", "response": "", "done": True, "done_reason": "stop"})
    if path == "/v1/messages":
        begin = event({"type": "message_start", "message": {"id": "x"}}, "message_start")
        block = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        said = [
            event({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": t}}, "d")
            for t in texts
        ]
        end = event({"type": "content_block_stop", "index": 0}) + event({"type": "message_delta", "delta": {}})
        return begin + event(block) + b"".join(said) + end + event({"type": "message_stop"}, "message_stop")
    head = {"id": "x", "object": "o", "created": 1, "model": "m"}
    chat = path == "/v1/chat/completions"
    pieces = [{"delta": {"content": t}} if chat else {"text": t} for t in texts]
    said = [event({**head, "choices": [{"index": 0, **p, "finish_reason": None}]}) for p in pieces]
    last = {"delta": {"content": ""}} if chat else {"text": ""}
    finish = event({**head, "choices": [{"index": 0, **last, "finish_reason": "stop"}]})
    return b"".join(said) + finish + b"data: [DONE]\n\n"


def read(path: str, raw: bytes) -> Said:
    return FORMS[path].said(raw)


@pytest.mark.parametrize("path", FORMS)
@given(texts=TEXTS, data=st.data())
def test_however_a_stream_is_cut_its_client_gets_whole_objects_and_nothing_is_lost(
    path: str, texts: list[str], data: st.DataObject
) -> None:
    raw, form = whole(path, texts), FORMS[path]
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=6)))
    seam, out = Seam(form.separator), b""
    for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True):
        piece, error = seam.cut(raw[start:end])
        assert not error
        assert not piece or piece.endswith(form.separator)
        out += piece
    assert (out, seam.rest) == (raw, b"")
    assert read(path, out).pieces == tuple(texts)


@pytest.mark.parametrize("path", FORMS)
@settings(max_examples=10)  # each tries every byte
@given(texts=TEXTS, more=TEXTS)
def test_wherever_a_stream_breaks_what_was_sent_and_what_follows_are_one_answer(
    path: str, texts: list[str], more: list[str]
) -> None:
    raw, form = whole(path, texts), FORMS[path]
    raws = b"".join(line({"response": t, "done": False}) for t in more)
    raws += line({"response": "", "done": True, "done_reason": "length", "prompt_eval_count": 50, "eval_count": 7})
    for cut in range(len(raw)):
        sent, _ = Seam(form.separator).cut(raw[:cut])
        if form.over in sent:
            break
        said = form.said(sent)
        assert said.pieces == tuple(texts[: len(said.pieces)])
        if said.finish:
            continue
        before = Before(len(said.pieces), 1.0)
        onward = Onward(form, said, before, lambda: 2.0, usage=True)
        half = len(raws) // 2
        whole_answer = sent + onward.feed(raws[:half]) + onward.feed(raws[half:])
        assert onward.over
        assert form.over in whole_answer
        told = form.said(whole_answer)
        assert told.text == said.text + "".join(more)
        assert told.finish
        numbers = whole_answer.replace(b" ", b"")
        assert b":%d" % (7 + before.tokens) in numbers
        assert b":%d" % (50 - before.tokens) in numbers


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_openais_events_go_on_under_the_same_names(path: str) -> None:
    form = FORMS[path]
    said = form.said(whole(path, ["a"])[: -len(b"data: [DONE]\n\n")])
    assert said.finish == "stop"
    told = json.loads(form.piece(said, "b").removeprefix(b"data: "))
    assert {k: told[k] for k in ("id", "object", "model")} == {"id": "x", "object": "o", "model": "m"}


def test_anthropics_block_is_begun_where_no_text_was_sent_yet() -> None:
    form = FORMS["/v1/messages"]
    said = form.said(event({"type": "message_start", "message": {"id": "x"}}, "message_start"))
    assert b"content_block_start" in form.piece(said, "a")
    assert b"content_block_start" not in form.piece(form.said(form.piece(said, "a")), "b")


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/api/chat", line({"message": {"content": "", "thinking": "hm"}})),
        ("/api/chat", line({"message": {"content": "", "tool_calls": [{}]}})),
        ("/api/generate", line({"response": "a", "logprobs": [{}]})),
        ("/v1/chat/completions", event({"choices": [{"delta": {"reasoning": "hm"}}]})),
        ("/v1/messages", event({"type": "content_block_start", "content_block": {"type": "tool_use"}})),
        ("/api/chat", b"{no json}\n"),
    ],
)
def test_what_is_more_than_text_cannot_be_gone_on_with(path: str, raw: bytes) -> None:
    with pytest.raises(UnresumableError):
        read(path, raw)


def test_the_object_in_which_an_engine_gives_up_is_told_apart_from_texts_about_errors() -> None:
    text, error = line({"response": '{"error":"x"}'}), line({"error": "the runner died"})
    assert Seam(b"\n").cut(text + error) == (text, error)
    assert gives_up(error) == "the runner died"
    call = line({"message": {"tool_calls": [{"function": {"arguments": {"error": "x"}}}]}})
    assert Seam(b"\n").cut(call) == (call, b"")


@pytest.mark.parametrize("raw", [b'{"error":"out of memory"}\n', b"no json\n", b"[1]\n"])
def test_another_engine_that_fails_too_is_noticed(raw: bytes) -> None:
    onward = Onward(FORMS["/api/chat"], Said(()), Before(0, 0.0), lambda: 0.0, usage=False)
    assert b"a" in onward.feed(line({"response": "a"}) + raw)
    assert onward.error
    assert not onward.over


@pytest.mark.parametrize(
    ("pieces", "stops", "unsure"),
    [
        (["The", " sky"], ["<|end|>"], False),
        (["a", " <"], ["<|end|>"], False),
        (["a", " < b"], ["<|end|>"], True),  # held back until it was no stop
        (["\N{GRINNING FACE}"], [], True),  # mostly several tokens
    ],
)
def test_pieces_that_may_be_several_tokens_are_known(pieces: list[str], stops: list[str], unsure: bool) -> None:
    assert doubtful(pieces, stops) is unsure


def test_a_model_that_repeats_itself_is_seen() -> None:
    assert Said((" a",) * 31).looped
    assert not Said((" a",) * 31 + ("b",)).looped


@given(st.lists(st.binary(min_size=1, max_size=3000), max_size=30))
def test_what_is_kept_comes_back_as_it_was(pieces: list[bytes]) -> None:
    kept = Kept()
    for piece in pieces:
        kept.add(piece)
        assert kept.last().endswith(piece)
    assert kept.read() == b"".join(pieces)
    assert kept.whole


def test_an_answer_that_is_too_long_is_let_go() -> None:
    kept = Kept()
    for _ in range(2 * LIMIT // 2**20):
        kept.add(b"x" * 2**20)
    assert not kept.whole
    assert kept.read() == b""
