from __future__ import annotations

import errno
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from cluster_ai.cli import main as cli
from cluster_ai.cli.main import COMMANDS, main
from cluster_ai.errors import ClusterAIError, ErrorGroup, ExitCode, HostError, LockedError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """A command `status` that raises what the test puts in here."""
    box: dict[str, BaseException] = {}

    def command() -> None:
        raise box["error"]

    monkeypatch.setattr(cli, "_load", lambda name: command)
    return box


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HostError("is down", where="h1", remedy="start it"), 3),
        (LockedError("another run"), 75),
        (ErrorGroup([HostError("a"), LockedError("b")]), 3),
        (typer.Exit(2), 2),
        (KeyboardInterrupt(), 130),
        (ValueError("oops"), 1),
        (OSError(errno.ENOSPC, "No space left on device"), 65),
        (PermissionError(errno.EACCES, "Permission denied", "lock"), 65),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), 1),
    ],
)
def test_every_error_has_its_exit_code(failing: dict[str, BaseException], error: BaseException, code: int) -> None:
    failing["error"] = error
    assert main(["status"]) == code


def test_an_error_is_printed_as_it_is(failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing["error"] = HostError("found [red]x[/red]", where="h1", remedy="do [this]")
    main(["status"])
    assert capsys.readouterr().err == "h1: found [red]x[/red]\n  -> do [this]\n"


def test_an_interrupt_is_told_in_a_word(failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]) -> None:
    failing["error"] = KeyboardInterrupt()
    assert main(["status"]) == 130
    assert capsys.readouterr().err == "stopped\n"


def test_an_interrupt_before_the_command_begins_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(arguments: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit, match="130"):
        cli.run()
    assert capsys.readouterr().err == "stopped\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device\n  -> make room"),
        (
            OSError(errno.EROFS, "Read-only file system", "a/lock"),
            "a/lock: can't be used: Read-only file system\n  -> ",
        ),
    ],
)
def test_a_full_or_forbidden_disk_is_told_and_called_nobodys_fault(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str], error: OSError, told: str
) -> None:
    failing["error"] = error
    main(["status"])
    assert capsys.readouterr().err.startswith(told)


def test_an_unforeseen_error_is_called_ours(
    failing: dict[str, BaseException], capsys: pytest.CaptureFixture[str]
) -> None:
    failing["error"] = ValueError("oops")
    main(["status"])
    err = capsys.readouterr().err
    assert "ValueError: oops" in err
    assert "fault of ours" in err


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["init", "--nonsense"], ["config"], ["config", "set", "x"], ["-x"]]
)
def test_a_wrong_command_line_is_64(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.USAGE
    assert "--help" in capsys.readouterr().err


def test_a_mistyped_command_is_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["aply"])
    assert "did you mean apply?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == ExitCode.OK
    out = capsys.readouterr().out
    assert all(f"  {name} " in out for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    importlib.import_module(f"cluster_ai.cli.commands.{name.replace('-', '_')}")
    assert main([name, "--help"]) == ExitCode.OK
    assert "Usage: cluster-ai" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        ["-c", "x.yaml", "status"],
        ["status", "-c", "x.yaml"],
        ["status", "--config=x.yaml"],
        ["status", "-cx.yaml"],
        ["--config", "x.yaml", "status"],
    ],
)
def test_the_file_may_be_named_before_or_after_the_command(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = SimpleNamespace(path=None)

    def command(ctx: typer.Context) -> None:
        seen.path = ctx.obj.config_path

    command.__annotations__["ctx"] = typer.Context
    monkeypatch.setattr(cli, "_load", lambda name: command)
    assert main(arguments) == ExitCode.OK
    assert seen.path == Path("x.yaml")


def test_the_environment_names_the_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("CLUSTER_AI_CONFIG", "/nowhere/x.yaml")
    assert main(["validate"]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("/nowhere/x.yaml: there is no such file")


def test_every_exit_code_is_documented() -> None:
    page = (ROOT / "docs/exit-codes.md").read_text()
    assert [code for code in ExitCode if f"| {int(code)} | {code.name} |" not in page] == []


def test_every_error_has_an_exit_code_of_the_table() -> None:
    def all_below(kind: type[ClusterAIError]) -> set[type[ClusterAIError]]:
        return {kind}.union(*(all_below(sub) for sub in kind.__subclasses__()))

    assert {kind.exit_code for kind in all_below(ClusterAIError)} <= set(ExitCode)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "cluster_ai", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_help_imports_no_command_and_nothing_heavy() -> None:
    code = (
        "import sys; from cluster_ai.cli.main import main; main(['--help']); "
        "print(*[m for m in sys.modules if m.split('.')[0] in "
        "('yaml', 'cerberus', 'rich', 'pydantic', 'ansible_runner', 'pyinfra', 'dask', 'cryptography', 'ruamel')"
        " or m.startswith('cluster_ai.cli.commands')], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stderr.strip() == ""


def test_a_reader_that_goes_away_is_no_fault() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as out:
        command = [sys.executable, "-m", "cluster_ai", "config", "reference"]
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_package_runs_as_a_module() -> None:
    assert run("--version").stdout.startswith("cluster-ai 0.")
