"""pyinfra runs this file before it resolves its inventory: it makes the literal `pyinfra inventory deploy.py` work.

pyinfra executes whatever path it is given, and `inventory` is a directory, which can't be executed. What it executes it
looks up in a table of compiled files first, so inventory/hosts.py is put there under that name. No code of pyinfra is
replaced; where a later pyinfra has no such table, `pyinfra inventory/hosts.py deploy.py` still works.
"""

from contextlib import suppress
from pathlib import Path

with suppress(ImportError):
    from pyinfra_cli.util import PYTHON_CODES

    _hosts = Path(__file__).parent / "inventory" / "hosts.py"
    for _name in ("inventory", "inventory/"):
        PYTHON_CODES[_name] = compile(_hosts.read_text(), str(_hosts), "exec")
