"""The table of roles is whole, and each role may what the ones before it may."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.roles import (
    ACT_FOR_OTHERS,
    EVERYTHING,
    LEAST,
    MEANING,
    OPEN,
    ROLES,
    ROUTES,
    SERVICE,
    allows,
    need_of,
    those_who_may,
)


def test_every_route_needs_something_that_the_table_has() -> None:
    assert {(need.action, need.resource) for need in ROUTES.values()} <= LEAST.keys()
    assert set(MEANING) == {*ROLES, SERVICE}
    assert not {path for _, path in ROUTES} & OPEN


@pytest.mark.parametrize(("action", "resource"), sorted(LEAST))
def test_a_higher_role_may_what_a_lower_one_may(action: str, resource: str) -> None:
    able = [role for role in those_who_may(action, resource) if role in ROLES]
    assert able == list(ROLES[ROLES.index(able[0]) :])
    assert "admin" in able


def test_services_alone_act_for_others_and_may_nothing_that_changes_something() -> None:
    assert those_who_may(*ACT_FOR_OTHERS) == (SERVICE,)
    allowed = {route for route, need in ROUTES.items() if allows(SERVICE, need.action, need.resource)}
    assert allowed
    assert not any(ROUTES[route].audited for route in allowed)


def test_what_the_table_doesnt_know_nobody_may() -> None:
    assert not allows("admin", "destroy", "everything")
    assert need_of("GET", "/api/v1/nothing") is None
    assert need_of("POST", "/api/v1/users/{name}") is None


def test_head_is_as_get() -> None:
    assert need_of("HEAD", "/api/tags") == need_of("GET", "/api/tags")


def test_a_refusal_says_who_may() -> None:
    with pytest.raises(Refusal) as caught:
        User("anna", role="viewer").must_be_able("steer", "workers")
    assert caught.value.status == 403
    assert "operator or admin" in caught.value.message
    assert "cluster-ai roles" in caught.value.message


def test_a_user_with_a_list_of_models_may_use_those_alone() -> None:
    anna = User("anna", models=frozenset(("small:latest",)))
    anna.must_have("small:latest")
    with pytest.raises(Refusal, match="only: small:latest"):
        anna.must_have("large:latest")
    User("ben").must_have("large:latest")


def test_the_page_for_people_has_the_whole_table() -> None:
    page = (Path(__file__).parents[4] / "docs" / "identities.md").read_text()
    for action, resource in EVERYTHING:
        row = f"| {action} {resource} |" + "".join(
            " yes |" if allows(role, action, resource) else "  |" for role in MEANING
        )
        assert row in page
