"""Every test, in two runs at once where root may boot lab hosts: `make test`. Ends with 1 when any run failed.

Lab hosts wait for each other most of the time, so the other tests take the processors that they leave. Chromium breaks
off what it loads whenever an address of the machine comes or goes, as a lab does: so its tests have a network alone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
PYTEST = [sys.executable, "-m", "pytest", "--durations=15"]
LAB = [*PYTEST, "tests/lab"]
OTHERS = [*PYTEST, "--ignore=tests/lab", "-m", "not browser"]
ALONE = ["unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
BROWSER = [*ALONE, *PYTEST, "tests/dashboard", "tests/integration", "-m", "browser"]


def main() -> int:
    if os.geteuid() != 0:
        return subprocess.run(PYTEST, cwd=ROOT).returncode
    with tempfile.TemporaryFile("w+") as said:
        lab = subprocess.Popen(LAB, cwd=ROOT, stdout=said, stderr=subprocess.STDOUT)
        try:
            print("tests on lab hosts run beside these; what they say follows at the end", flush=True)
            others = [subprocess.run(command, cwd=ROOT).returncode for command in (OTHERS, BROWSER)]
        finally:
            hosts = lab.wait()  # also when interrupted: it was too, and takes its hosts down
        said.seek(0)
        print("\n", *said, sep="", flush=True)
    codes = {"lab": hosts, "others": others[0], "browser": others[1]}
    print(*(f"{name} tests: {'passed' if code == 0 else f'failed ({code})'}" for name, code in codes.items()), sep="\n")
    return int(any(codes.values()))


if __name__ == "__main__":
    sys.exit(main())
