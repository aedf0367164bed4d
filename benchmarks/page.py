"""docs/benchmarks.md: each benchmark has a section there, and leaves those of the others alone."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def put(name: str, heading: str, text: str) -> None:
    """The text of a benchmark's section, between marks with its name; a new section goes to the end."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    page = PAGE.read_text()
    if begin not in page:
        page = f"{page.rstrip()}\n\n## {heading}\n\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    PAGE.write_text(f"{before}{begin}\n{text}\n{end}{rest.partition(end)[2]}")
