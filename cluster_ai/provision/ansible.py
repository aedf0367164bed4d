"""Playbooks through ansible-runner: live events while they run, and in the end what failed, where, why, and what to do.

Not for threads: ansible-runner isn't made for them. All that a run leaves is in a private directory, gone afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from cluster_ai.config.model import Config
from cluster_ai.errors import ClusterAIError, HostError, RolloutError
from cluster_ai.inventory.groups import for_ansible
from cluster_ai.provision import debs, host_layer, refusals

Status = Literal["running", "ok", "changed", "skipped", "failed", "unreachable"]
PLAYBOOK = "site.yml"
_ERROR = "[ERROR]: "  # so ansible-core 2.19 and later begins what stops it
_FORKS = 32
_STATUS: Mapping[str, Status] = {
    "runner_on_start": "running",
    "runner_on_ok": "ok",
    "runner_on_skipped": "skipped",
    "runner_on_failed": "failed",
    "runner_on_unreachable": "unreachable",
}


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A task on a host, as it begins (`running`) and as it ends. message: why it failed; else empty."""

    host: str
    role: str
    task: str
    status: Status
    message: str = ""


@dataclass(frozen=True, slots=True)
class AnsibleResult:
    """What a run did. Hosts without a change, and those that failed before one, are not in `changed`."""

    changed: Mapping[str, int] = field(default_factory=dict)
    failed: Mapping[str, ClusterAIError] = field(default_factory=dict)
    reboot: frozenset[str] = frozenset()  # hosts whose new driver waits for playbooks/gpu_driver.yml


def converge(
    config: Config,
    hosts: Sequence[str],
    *,
    stamps: Mapping[str, str],
    sudo_password: str | None,
    on_event: Callable[[TaskEvent], None],
    check: bool = False,
    playbook: str = PLAYBOOK,
) -> AnsibleResult:
    """Run a playbook on hosts (names). stamps: host -> what it notes when it is done.

    Where packages come as bundles, these are built first; hosts that can't be asked for one are left out, and failed.
    Raises RolloutError where Ansible fails as a whole, and no host does.
    """
    host_layer.require_checkout()
    bundles = debs.Bundles()
    if config.packages.source == "bundle":
        bundles = debs.build(
            config, hosts, on_step=lambda host, text: on_event(TaskEvent(host, "controller", text, "running"))
        )
    left = [host for host in hosts if host not in bundles.failed]
    if not left:
        return AnsibleResult(failed=bundles.failed)
    variables = {
        "cluster_ai_host_stamps": dict(stamps),
        "base_bundles": {host: str(path) for host, path in bundles.folders.items()},
    }
    collector = _Collector(on_event)
    with _private(variables, sudo_password) as folder:
        status, code, output = _run(folder, for_ansible(config), playbook, left, check, collector)
    if status == "canceled":
        raise KeyboardInterrupt
    if code and not collector.failed:
        raise RolloutError(
            f"ansible-playbook ended with {code}: {last_words(output)}",
            where=f"playbooks/{playbook}",
            remedy="run it by hand for all it says: ansible-playbook -i inventory/hosts.py playbooks/" + playbook,
        )
    return AnsibleResult(collector.changed, {**bundles.failed, **collector.failed}, frozenset(collector.reboot))


class _Collector:
    """Takes ansible-runner's events, passes them on as ours, and keeps what the result needs."""

    def __init__(self, on_event: Callable[[TaskEvent], None]) -> None:
        self._on_event = on_event
        self.changed: dict[str, int] = {}
        self.failed: dict[str, ClusterAIError] = {}
        self.reboot: set[str] = set()

    def __call__(self, event: Mapping[str, Any]) -> bool:
        data: Mapping[str, Any] = event.get("event_data") or {}
        if event.get("event") == "playbook_on_stats":
            self.changed = {host: count for host, count in (data.get("changed") or {}).items() if count}
        task = task_event(event)
        if task:
            facts = (data.get("res") or {}).get("ansible_facts") or {}
            if facts.get("nvidia_driver_reboot"):
                self.reboot.add(task.host)
            if task.status in ("failed", "unreachable"):
                self.failed.setdefault(task.host, failure(task))
            self._on_event(task)
        return True  # keep the event's file: ansible-runner reads statistics back from them


def task_event(event: Mapping[str, Any]) -> TaskEvent | None:
    """An event of ansible-runner as ours; None where it is not about a task of a host."""
    status = _STATUS.get(str(event.get("event")))
    data: Mapping[str, Any] = event.get("event_data") or {}
    host, task = data.get("host"), data.get("task")
    if status is None or not host or not task:
        return None
    result: Mapping[str, Any] = data.get("res") or {}
    message = ""
    if status == "failed" and data.get("ignore_errors"):
        status = "ok"
    elif status in ("failed", "unreachable"):
        message = reason(result)
    elif status == "ok" and result.get("changed"):
        status = "changed"
    return TaskEvent(str(host), str(data.get("role") or ""), str(task), status, message)


def reason(result: Mapping[str, Any]) -> str:
    """Why a task failed, in its module's words, with what a command said on standard error."""
    if result.get("censored"):
        return str(result["censored"])
    for item in result.get("results") or ():
        if isinstance(item, dict) and (item.get("failed") or item.get("unreachable")):
            return reason(item)
    words = [str(result.get("msg") or "").strip()]
    if isinstance(result.get("msg"), list):
        words = [str(word) for word in result["msg"]]
    for stream in ("stderr", "module_stderr", "stdout", "module_stdout"):
        text = str(result.get(stream) or "").strip()
        if text and text not in words[0]:
            words.append(text)
            break
    return "\n".join(word for word in words if word)


_NO_PYTHON = re.compile(r"python3?: (command )?not found|interpreter.*(missing|not found)", re.IGNORECASE)
_SUDO = (
    (("Incorrect sudo password", "Sorry, try again"), "Sorry, try again"),
    (("Missing sudo password", "a password is required"), "sudo: a password is required"),
    (("is not in the sudoers file", "may not run sudo"), "is not in the sudoers file"),
    (("sudo: not found", "sudo: command not found"), "sudo: not found"),
)
_APT = (
    (
        ("No package matching", "Unable to locate package", "has no installation candidate"),
        "complete the host's package sources, or set packages.source in cluster.yaml to mirror or bundle",
    ),
    (
        (
            "Failed to fetch",
            "Could not resolve",
            "Temporary failure resolving",
            "Failed to update apt cache",
            "Unable to fetch",
        ),
        "the host's package sources can't be reached: set packages.source in cluster.yaml to mirror or bundle",
    ),
    (
        ("Could not get lock", "dpkg frontend lock", "Failed to lock"),
        "another apt runs on the host: wait until it has ended, then again",
    ),
    (("dpkg was interrupted", "dpkg --configure -a"), "on the host: dpkg --configure -a, then again"),
    (
        ("No space left on device", "not enough free space", "enough free space"),
        "make room on the host's disk, then again",
    ),
)


def failure(task: TaskEvent) -> ClusterAIError:
    """A failed task as an error for a user. A message of a role says its own remedy after an arrow."""
    text = task.message
    for signs, canonical in _SUDO:
        if any(sign in text for sign in signs):
            refused = refusals.refused(refusals.Reply(task.host, 1, b"", canonical))
            if refused:
                return refused
    if task.status == "unreachable":
        refused = refusals.refused(refusals.Reply(task.host, 255, b"", text))
        return refused or HostError(_first_line(text), where=task.host, remedy=f"try it by hand: ssh {task.host}")
    if _NO_PYTHON.search(text):
        return HostError("has no Python 3", where=task.host, remedy="on the host: apt-get install python3")
    what, arrow, remedy = text.partition(" -> ")
    if arrow:
        return HostError(what.strip(), where=task.host, remedy=remedy.strip())
    where = f"{task.role}: {task.task}" if task.role else task.task
    remedy = next((advice for signs, advice in _APT if any(sign in text for sign in signs)), "")
    return RolloutError(
        f"{where}: {_short(text) or 'failed without a word'}",
        where=task.host,
        remedy=remedy or "repair it on the host, then again; docs/host-layer.md says what the role does",
    )


@contextlib.contextmanager
def _private(variables: Mapping[str, Any], sudo_password: str | None) -> Iterator[Path]:
    """A run's directory (0700). The password stands in a 0600 file of it, marked so that Jinja leaves it alone."""
    folder = Path(tempfile.mkdtemp(prefix="cluster-ai-ansible-"))
    try:
        env = folder / "env"
        env.mkdir(mode=0o700)
        lines = [f"{name}: {json.dumps(value)}\n" for name, value in variables.items()]
        if sudo_password is not None:
            quoted = yaml.safe_dump(sudo_password, default_style='"', width=sys.maxsize)
            lines.append(f"ansible_become_password: !unsafe {quoted}")
        handle = os.open(env / "extravars", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.writelines(lines)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _run(
    folder: Path,
    hosts_and_variables: Mapping[str, Any],
    playbook: str,
    limit: Sequence[str],
    check: bool,
    collector: _Collector,
) -> tuple[str, int, str]:
    import ansible_runner  # slow, and `plan` never needs it

    root = host_layer.ROOT
    runner = ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(root),
        playbook=f"playbooks/{playbook}",
        inventory=dict(hosts_and_variables),
        limit=",".join(limit),
        cmdline="--check --diff" if check else None,
        forks=_FORKS,
        quiet=True,
        event_handler=collector,
        envvars={
            "ANSIBLE_CONFIG": str(root / "ansible.cfg"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",  # this environment's Ansible
            # Nobody sits at ssh's terminal: it must fail, not ask.
            "ANSIBLE_SSH_EXTRA_ARGS": "-o BatchMode=yes",
            "LC_ALL": "C.UTF-8",
        },
    )
    with runner.stdout as output:
        return str(runner.status), int(runner.rc or 0), output.read()


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "can't be reached")


def last_words(output: str) -> str:
    """Ansible's last error, with the place that it names but without the lines that it shows; else its last line."""
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*m", "", output).splitlines()]
    errors = [number for number, line in enumerate(lines) if line.startswith(_ERROR)]
    if errors:
        return "\n".join(itertools.takewhile(bool, lines[errors[-1] :])).removeprefix(_ERROR)
    return next(filter(None, reversed(lines)), "it said nothing")


def _short(text: str, lines: int = 6) -> str:
    """The end of a message is where apt, nft and systemd say what was wrong."""
    kept = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(kept if len(kept) <= lines else [kept[0], "...", *kept[2 - lines :]])
