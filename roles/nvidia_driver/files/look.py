"""Say as JSON which cards are here, and which driver is loaded, on disk, and working."""

import json
import os
import subprocess


def run(*argv):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return None


def secure_boot():
    folder = "/sys/firmware/efi/efivars"
    try:
        name = next(entry for entry in os.listdir(folder) if entry.startswith("SecureBoot-"))
        with open(os.path.join(folder, name), "rb") as file:
            return file.read()[-1] == 1
    except (OSError, StopIteration, IndexError):
        return False


lspci = run("lspci", "-nn") or ""
card = "[10de:" in lspci
print(
    json.dumps(
        {
            "lspci": lspci,
            "kernel": os.uname().release,
            "loaded": read("/sys/module/nvidia/version") if card else None,
            "on_disk": run("modinfo", "-F", "version", "nvidia") if card else None,
            "nouveau": os.path.isdir("/sys/module/nouveau") if card else False,
            "works": run("nvidia-smi", "-L") is not None if card else False,
            "secure_boot": secure_boot() if card else False,
        }
    )
)
