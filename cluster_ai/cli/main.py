"""The entry point of `cluster-ai`, and the only place that words errors for users.

A new command is a module in cluster_ai/cli/commands/ and a line in COMMANDS. The module has either

    def command(ctx: typer.Context, yes: Annotated[bool, typer.Option("--yes", help="...")] = False) -> None:

or, for a group of commands, `app = typer.Typer()`. Its name, help line and place come from COMMANDS, so that `--help`
and every other command start without importing it; the docstring is its long help. `ctx.obj` is an Invocation:
`ctx.obj.config()` loads cluster.yaml. What goes wrong is raised as a ClusterAIError; an exit code that is no error, as
typer.Exit(ExitCode.CHANGES).
"""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cluster_ai import __version__
from cluster_ai.errors import ClusterAIError, ConfigError, ExitCode

if TYPE_CHECKING:
    from cluster_ai.config import Config

COMMANDS = {
    "init": "Write a small cluster.yaml to begin with.",
    "trust": "Believe the SSH keys of hosts, after showing their fingerprints.",
    "validate": "Check cluster.yaml, and that every model fits somewhere.",
    "plan": "Show what apply would change, per host and per file.",
    "apply": "Make the hosts be what cluster.yaml says.",
    "rollouts": "Show what rollouts did; resume or undo one.",
    "rollback": "Bring hosts back to the releases that they ran before.",
    "status": "Show how the cluster is.",
    "cordon": "Give workers nothing new.",
    "drain": "Take workers out of rotation, and wait until they are empty.",
    "undrain": "Give workers requests and tasks again.",
    "verify": "Look for what was changed on the hosts by others.",
    "logs": "Show what a host's components wrote into its journal.",
    "chat": "Talk to a model.",
    "bench": "Measure how fast models answer on each worker.",
    "prompts": "Ask models the test prompts, and see whether they still answer right.",
    "login": "Log in at the gateway.",
    "logout": "End the login.",
    "whoami": "Show who the gateway takes you for, and what you may.",
    "users": "Make, change and remove users who log in.",
    "roles": "Show what each role may.",
    "keys": "Make, show and revoke keys of users and programs.",
    "audit": "Show who did what; check that the log is as it was written.",
    "usage": "Show what users used.",
    "report": "Draw what the cluster did over a week, as one HTML file.",
    "models": "Show what the cluster serves, where each model is, and why there.",
    "tasks": "Submit work that waits for a worker with room; see what became of it.",
    "batch": "Answer a whole file of prompts; see and cancel batches.",
    "discover": "Find machines on the network, check them, and add them to the cluster.",
    "join-token": "Let a bare machine join by one line that is run on it.",
    "up": "Start a whole cluster on this machine.",
    "down": "Stop the cluster on this machine.",
    "doctor": "Say what is wrong with this machine or a host, and what to do.",
    "config": "Show or change cluster.yaml; its reference.",
    "release": "Build and inspect releases.",
    "certs": "Show the cluster's certificates; change its CA.",
    "secrets": "Show and change what secrets.yaml keeps, encrypted.",
}
INTERRUPTED = 130  # as shells tell of Ctrl-C
CONFIG_VARIABLE = "CLUSTER_AI_CONFIG"


@dataclass(frozen=True, slots=True)
class Invocation:
    """What the options before the command say; `ctx.obj` of every command."""

    config_path: Path

    def config(self) -> Config:
        """Load and check cluster.yaml."""
        from cluster_ai.config import load

        return load(self.config_path)


def run() -> None:
    """The console script."""
    try:
        code = main(sys.argv[1:])
    except KeyboardInterrupt:  # while it begins or ends
        code = _stopped()
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    from cluster_ai.cli.auditing import audited

    config, words = _split(arguments)
    with audited(config, words) as ended:
        code = _main(arguments)
        ended.append(code)
    return code


def _main(arguments: Sequence[str]) -> int:
    try:
        arguments = _hoisted(arguments) or ["--help"]
        application = _application(_command_name(arguments))
        result = typer.main.get_command(application).main(
            list(arguments), prog_name="cluster-ai", standalone_mode=False
        )
        sys.stdout.flush()
        if result == INTERRUPTED:  # typer makes this of a KeyboardInterrupt
            return _stopped()
        return result if isinstance(result, int) else ExitCode.OK
    except ClusterAIError as error:
        _say(str(error))
        return error.exit_code
    except typer.TyperException as error:  # a wrong command line
        _say(error.format_message() + "\n  -> cluster-ai --help, or --help after a command")
        return ExitCode.USAGE
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(
            error.__context__, BrokenPipeError
        ):  # typer turns one into one
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the reader, such as head, has seen enough
        return ExitCode.OK
    except Exception as error:
        if isinstance(error, OSError) and (told := _of_disk(error)):
            _say(str(told))
            return told.exit_code
        import traceback

        traceback.print_exc()
        _say(f"This is a fault of ours, in cluster-ai {__version__}: please report it with the lines above.")
        return ExitCode.INTERNAL


def _stopped() -> int:
    _say("stopped")
    return INTERRUPTED


def _of_disk(error: OSError) -> ConfigError | None:
    """What this machine's disk, or its rights there, are to blame for; None: something else."""
    where = "" if error.filename is None or isinstance(error.filename, int) else os.fsdecode(error.filename)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        remedy = "make room (df -h shows which disk is full), then give the command again"
        what = f"can't be written: {error.strerror}" if where else str(error.strerror)
        return ConfigError(what, where=where, remedy=remedy)
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS) and where:
        remedy = "let the user who runs this read and write it, or run it as another"
        return ConfigError(f"can't be used: {error.strerror}", where=where, remedy=remedy)
    return None


def _say(text: str) -> None:
    """An error's text, its first line red on a terminal. The text is printed as it is: brackets in it are no markup."""
    if sys.stderr.isatty() and "NO_COLOR" not in os.environ:
        first, newline, rest = text.partition("\n")
        text = f"\x1b[31m{first}\x1b[0m{newline}{rest}"
    print(text, file=sys.stderr)


def _application(chosen: str | None) -> typer.Typer:
    """The application with the chosen command in it; of the others only their names and help lines."""
    application = typer.Typer(
        help="One file, cluster.yaml, becomes a running private AI cluster.",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    application.callback()(_global_options)
    for name, help_line in COMMANDS.items():
        found = _load(name) if name == chosen else _only_listed
        if isinstance(found, typer.Typer):
            application.add_typer(found, name=name, help=help_line)
        else:
            application.command(name, short_help=help_line, help=found.__doc__ or help_line)(found)
    return application


def _only_listed() -> None:
    raise AssertionError("a command that was not chosen is never run")


def _load(name: str) -> Any:
    module = importlib.import_module(f"cluster_ai.cli.commands.{name.replace('-', '_')}")
    return getattr(module, "app", None) or module.command


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"cluster-ai {__version__}")
        raise typer.Exit


def _global_options(
    ctx: typer.Context,
    config: Annotated[
        Path,
        typer.Option(
            "--config", "-c", envvar=CONFIG_VARIABLE, help="The cluster's file.", show_default="./cluster.yaml"
        ),
    ] = Path("cluster.yaml"),
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    ctx.obj = Invocation(config)


def _hoisted(arguments: Sequence[str]) -> list[str]:
    """`--config` may stand after the command too: move it to the front."""
    front: list[str] = []
    rest: list[str] = []
    words = iter(arguments)
    for word in words:
        if word == "--":
            return [*front, *rest, word, *words]
        if word in ("--config", "-c"):
            front += [word, *([value] if (value := next(words, None)) is not None else [])]
        elif word.startswith("--config=") or (word.startswith("-c") and not word.startswith("--")):
            front.append(word)
        else:
            rest.append(word)
    return [*front, *rest]


def _split(arguments: Sequence[str]) -> tuple[Path, list[str]]:
    """cluster.yaml's path, and the words that come with neither `--config` nor its value."""
    path, rest = os.environ.get(CONFIG_VARIABLE, "cluster.yaml"), list(_hoisted(arguments))
    while rest and rest[0].startswith("-"):
        word = rest.pop(0)
        if word in ("--config", "-c"):
            path = rest.pop(0) if rest else path
        elif word.startswith("--config="):
            path = word.removeprefix("--config=")
        elif word.startswith("-c"):
            path = word.removeprefix("-c")
    return Path(path), rest


def _command_name(arguments: Sequence[str]) -> str | None:
    """The command among hoisted arguments; None where there is none. Raises for one that doesn't exist."""
    words = iter(arguments)
    for word in words:
        if word in ("--config", "-c"):
            next(words, None)
        elif not word.startswith("-"):
            if word in COMMANDS:
                return word
            close = difflib.get_close_matches(word, COMMANDS, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise typer.TyperException(f"there is no command {word!r}{hint}")
    return None
