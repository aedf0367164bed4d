from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from cluster_ai.gateway.admission.keys import Keys
from cluster_ai.gateway.admission.users import User
from cluster_ai.gateway.api.http import Refusal
from cluster_ai.gateway.identity.logins import Logins

PASSWORD, OTHER = "correct horse battery", "another good one"


async def test_a_password_that_is_replaced_while_it_is_checked_lets_nobody_in() -> None:
    async with Logins("test", None, Keys(None)) as logins:
        account = await logins.add(User("anna"), PASSWORD)
        other = await logins.passwords.make(OTHER, "anna")
        trying = asyncio.create_task(logins.log_in("anna", PASSWORD, "10.0.0.1"))
        await asyncio.sleep(0)  # it is being checked now, in a thread
        logins.store.put(replace(account, password=other))
        with pytest.raises(Refusal, match="don't belong together"):
            await trying
        assert (await logins.log_in("anna", OTHER, "10.0.0.1")).user.name == "anna"
