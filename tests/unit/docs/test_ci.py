"""The files that people copy into their CI say only what cluster-ai accepts, and put one comment, not many."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from cluster_ai.cli.main import COMMANDS, _application
from cluster_ai.cli.markdown import comment
from cluster_ai.rollout.plan import Plan

CI = Path(__file__).resolve().parents[3] / "docs" / "ci"
FILES = ("github-actions.yml", "gitlab-ci.yml")
SCRIPTS = ("run", "script", "before_script")


def scripts(node: Any) -> Iterator[str]:
    """Every shell line of a workflow."""
    if isinstance(node, list):
        for item in node:
            yield from scripts(item)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in SCRIPTS:
                yield from (value if isinstance(value, list) else [value])
            else:
                yield from scripts(value)


def command_lines(text: str) -> list[list[str]]:
    """Calls of cluster-ai in shell text, without what is redirected or follows."""
    found = re.findall(r"(?<!-- )(?<![\w./-])cluster-ai ((?:[^|;&<>`#\n]|\\\n)+)", text)
    return [shlex.split(line) for line in found]


def accept(words: list[str]) -> None:
    """Let typer's own parser read a command line; it raises where an option or an argument doesn't exist."""
    name = next(word for word in words if word in COMMANDS)
    group = typer.main.get_command(_application(name))
    with group.make_context("cluster-ai", list(words)) as context:
        assert isinstance(group, typer.core.TyperGroup)
        at = words.index(name)
        command = group.get_command(context, name)
        assert command is not None
        command.make_context(name, words[at + 1 :], parent=context).close()


@pytest.mark.parametrize("name", FILES)
def test_every_command_in_a_ready_file_is_one_that_the_program_accepts(name: str) -> None:
    found = [words for text in scripts(yaml.safe_load((CI / name).read_text())) for words in command_lines(text)]
    assert {words[0] for words in found} == {"validate", "plan", "apply"}
    for words in found:
        accept(words)


def test_every_command_on_the_page_is_one_that_the_program_accepts() -> None:
    page = (CI.parent / "ci.md").read_text()
    blocks = re.findall(r"```sh\n(.*?)```", page, re.DOTALL) + re.findall(r"`(cluster-ai [^`\n]+)`", page)
    found = [words for block in blocks for words in command_lines(block)]
    assert found
    for words in found:
        accept(words)


def test_a_wrong_command_line_would_be_noticed() -> None:
    with pytest.raises(typer.TyperException):
        accept(["plan", "--no-such-option"])
    with pytest.raises(typer.TyperException):
        accept(["plan", "too", "many"])


@pytest.mark.parametrize("name", FILES)
def test_a_plan_is_applied_only_after_a_merge_and_never_twice_at_once(name: str) -> None:
    whole = yaml.safe_load((CI / name).read_text())
    apply = whole["jobs"]["apply"] if "jobs" in whole else whole["apply"]
    assert "cluster-ai apply plan.json --yes" in list(scripts(apply))
    if "jobs" in whole:
        assert "github.event_name == 'push'" in apply["if"]
        assert apply["concurrency"] == {"group": "cluster-ai-apply", "cancel-in-progress": False}
    else:
        assert [rule["if"] for rule in apply["rules"]] == ["$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"]
        assert apply["resource_group"] == "cluster-ai-apply"


@pytest.mark.parametrize("name", FILES)
def test_the_exit_codes_of_plan_are_told_apart(name: str) -> None:
    text = "\n".join(scripts(yaml.safe_load((CI / name).read_text())))
    assert "plan --markdown --out plan.json > plan.md || code=$?" in text
    assert re.search(r'case "\$(code|CODE)" in 0 \| 2\) ;; \*\) exit "\$\1" ;; esac', text)


def test_a_comment_begins_as_the_files_look_for_it() -> None:
    mark = runpy.run_path(str(CI / "gitlab_note.py"))["MARK"]
    assert comment(Plan("lab", (), (), ())).startswith(mark)
    assert f'startswith("{mark}")' in (CI / "github-actions.yml").read_text()
    for name in FILES:
        assert f"'{mark} none -->" in (CI / name).read_text()


class _GitLab(BaseHTTPRequestHandler):
    """Notes of a merge request."""

    server: _Notes

    def answer(self) -> None:
        assert self.headers["PRIVATE-TOKEN"] == "secret"
        self.server.asked.append((self.command, self.path))
        data: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"] or 0)) or b"{}")
        notes = self.server.notes
        if self.command == "POST":
            notes.append({"id": 70 + len(notes), **data})
        for note in notes:
            if self.command == "PUT" and self.path.endswith(f"/{note['id']}"):
                note.update(data)
        body = json.dumps(notes).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_PUT(self) -> None:
        self.answer()

    def log_message(self, *args: Any) -> None:
        pass


class _Notes(HTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _GitLab)
        self.notes: list[dict[str, Any]] = [{"id": 1, "body": "a person's"}]
        self.asked: list[tuple[str, str]] = []


def test_a_merge_request_gets_one_note_that_is_renewed(tmp_path: Path) -> None:
    put = runpy.run_path(str(CI / "gitlab_note.py"))["put"]
    text = tmp_path / "plan.md"
    with _Notes() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for plan in ("<!-- cluster-ai plan: lab -->\none", "<!-- cluster-ai plan: lab -->\ntwo"):
                text.write_text(plan)
                put(text, f"http://127.0.0.1:{server.server_port}/api/v4", "3", "7", "secret")
        finally:
            server.shutdown()
            thread.join()
    assert [note["body"] for note in server.notes] == ["a person's", "<!-- cluster-ai plan: lab -->\ntwo"]
    assert [method for method, _ in server.asked] == ["GET", "POST", "GET", "PUT"]
    assert server.asked[-1][1].endswith("/projects/3/merge_requests/7/notes/71")
