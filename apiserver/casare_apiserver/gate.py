"""What does a request have to pass before anything serves it? Who asks, from where, how often, and what he may do."""

from __future__ import annotations

from dataclasses import dataclass

from casare_apiserver.addresses import Addresses
from casare_apiserver.auth import Keys
from casare_apiserver.limits import Limits
from casare_apiserver.policies import Policies
from casare_apiserver.refusals import Refusals


@dataclass(frozen=True, slots=True)
class Gate:
    """All of it, of one process; `refusals` notes who did not get in."""

    keys: Keys
    policies: Policies
    addresses: Addresses
    limits: Limits
    refusals: Refusals
