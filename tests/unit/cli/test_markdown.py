from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.cli.markdown import MOST, comment, escaped
from cluster_ai.errors import HostError
from cluster_ai.rollout.plan import FileChange, Plan
from tests.unit.cli.test_rollout_output import HOST, SAME, plan


def test_a_comment_begins_with_the_line_by_which_it_is_found_again() -> None:
    assert comment(plan(SAME)) == (
        "<!-- cluster-ai plan: lab -->\n### Plan for lab\n\nNothing to do: 1 host as lab's configuration says.\n"
    )


def test_a_comment_tells_what_changes_when_and_on_which_host_with_its_difference() -> None:
    text = comment(plan(SAME, HOST, errors=(HostError("doesn't answer", where="h3"),)))
    assert "- **h3**: doesn't answer" in text
    assert "- configuration of Dask worker: restarts Dask worker on h2" in text
    assert "- wave 1: workers: h2" in text
    assert "<details><summary>h2 (worker, 10.0.0.2)</summary>" in text
    assert "```diff\n-old\n+new\n```\n" in text


def test_a_difference_cannot_leave_its_block() -> None:
    host = replace(HOST, files=(FileChange("etc/x", "changed", "+```\n+# Title"),))
    assert "````diff\n+```\n+# Title\n````\n" in comment(plan(host))


def test_a_comment_that_would_be_too_long_says_what_it_leaves_out() -> None:
    many = tuple(
        replace(HOST, host=f"w{n}", files=(FileChange("etc/x", "changed", f"+{n}" * 5000),)) for n in range(10)
    )
    text = comment(Plan("lab", many, (), ()))
    assert len(text) < 65_536
    assert "Not shown for want of room: " in text


@given(st.text())
def test_no_name_becomes_markup_or_calls_somebody(name: str) -> None:
    text = comment(Plan("lab", (replace(HOST, models_added=(name,)),), (), ()))
    assert len(text) <= MOST + 100
    shown = escaped(name)
    assert "<" not in shown
    assert "@" not in shown.replace("@\u200b", "")
