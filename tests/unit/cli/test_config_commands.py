from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from cluster_ai.cli.main import main
from cluster_ai.config import load
from cluster_ai.errors import ExitCode
from tests.unit.config.test_load import SEED

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CLUSTER_AI_CONFIG", raising=False)
    path = tmp_path / "cluster.yaml"
    path.write_text(SEED)
    return path


def test_init_writes_a_file_that_is_valid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init"]) == ExitCode.OK
    assert main(["validate"]) == ExitCode.OK
    assert load(tmp_path / "cluster.yaml").name == "my-cluster"


def test_init_leaves_a_file_alone(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init"]) == ExitCode.CONFIG
    assert file.read_text() == SEED
    assert "there is such a file already" in capsys.readouterr().err


def test_init_leaves_no_half_file_where_there_is_no_room(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster_ai", "init"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.CONFIG
    assert done.stderr.startswith("cluster.yaml: can't be written: ")
    assert not (tmp_path / "cluster.yaml").exists()


def test_init_takes_a_path_or_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["init", str(tmp_path)]) == ExitCode.OK
    assert main(["init", str(tmp_path / "other.yaml")]) == ExitCode.OK
    assert main(["init", str(tmp_path / "no" / "x.yaml")]) == ExitCode.CONFIG
    assert {p.name for p in tmp_path.iterdir()} == {"cluster.yaml", "other.yaml"}


def test_validate_prints_where_models_go(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate"]) == ExitCode.OK
    assert capsys.readouterr().out.splitlines() == [
        "cluster.yaml is valid: 2 workers, 1 model.",
        "  llama2:13b -> cpu-worker-01, CPU, 8 GB",
        "  llama2:13b -> gpu-worker-01, GPU, 8 GB",
    ]


def test_validate_tells_all_errors_on_standard_error(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SEED.replace("8786", "x").replace("cpu: 8", "cpu: 0"))
    assert main(["validate"]) == ExitCode.CONFIG
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(": ")[0] for line in err.splitlines() if line.startswith("cluster")] == [
        "cluster.yaml:6:11",
        "cluster.yaml:9:32",
    ]


def test_validate_gives_a_model_that_fits_nowhere_its_line(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(SEED.replace("8GB", "80GB"))
    assert main(["validate"]) == ExitCode.CONFIG
    assert capsys.readouterr().err.startswith("cluster.yaml:13:13: model 'llama2:13b' needs 80 GB")


def test_validate_as_json(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "--json"]) == ExitCode.OK
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is True
    assert answer["placement"][0]["worker"] == "cpu-worker-01"
    file.write_text(SEED.replace("8786", "x"))
    assert main(["validate", "--json"]) == ExitCode.CONFIG
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    assert (answer["errors"][0]["file"], answer["errors"][0]["line"], answer["errors"][0]["column"]) == (
        "cluster.yaml",
        6,
        11,
    )


def test_show_fills_in_defaults(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show"])
    shown = yaml.safe_load(capsys.readouterr().out)
    main(["config", "show", "--json"])
    assert json.loads(capsys.readouterr().out) == shown
    assert shown["cluster"]["gateway"]["port"] == 11435
    assert list(shown["cluster"])[:4] == ["name", "scheduler", "workers", "models"]


def test_what_show_prints_is_itself_valid(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "show"])
    before = load(file)
    file.write_text(capsys.readouterr().out)
    assert load(file) == before


def test_set_changes_one_key_and_makes_a_backup(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "set", "cluster.models[llama2:13b].replicas", "1"]) == ExitCode.OK
    assert file.read_text() == SEED.replace("replicas: 2", "replicas: 1")
    main(["config", "restore", "--list"])
    (backup,) = [p for p in file.parent.iterdir() if p != file]
    assert backup.name in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cluster.gateway.port", "0"),
        ("cluster.gateway.prot", "1"),
        ("cluster.models[0].replicas", "3"),
        ("cluster.models[0].resources.gpu_memory", "99GB"),
        ("cluster.models[9].replicas", "1"),
    ],
)
def test_set_writes_nothing_that_would_be_refused(file: Path, key: str, value: str) -> None:
    assert main(["config", "set", key, value]) == ExitCode.CONFIG
    assert [p.read_text() for p in file.parent.iterdir()] == [SEED]


def test_restore_brings_back_what_was(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["config", "set", "cluster.models[0].replicas", "1"])
    assert main(["config", "restore"]) == ExitCode.OK
    assert file.read_text() == SEED
    assert main(["config", "restore", "nonsense"]) == ExitCode.CONFIG
