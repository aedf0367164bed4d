from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster_ai.deploys import data
from cluster_ai.deploys.data import HostTarget

text = st.text(max_size=12)
target = st.builds(
    HostTarget,
    name=text,
    address=text,
    digest=text,
    manifest_path=text,
    parts=st.lists(st.tuples(text, text, text), max_size=3).map(tuple),
    blobs=st.lists(st.tuples(text, text), max_size=3).map(tuple),
    credentials=st.none() | st.dictionaries(text, text, max_size=3),
)


@given(st.lists(target, max_size=3).map(tuple))
def test_targets_come_out_of_json_as_they_went_in(targets: tuple[HostTarget, ...]) -> None:
    assert data.load(data.dump(targets)) == targets


def test_keys_are_not_shown_with_a_target() -> None:
    assert "secret" not in repr(HostTarget("h", "h", "", "", (), (), {"key.pem": "secret"}))
