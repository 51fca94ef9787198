"""Lease: who leads. Programs that run several times over agree by it on the one that acts, as in Kubernetes.

Its times have microseconds, which come back byte for byte: a leader compares them with what it wrote. A time that was
written in another form gets six digits and a Z: programs in Go read no other. The signs of life of robots are no
Leases: they never touch a resource.
"""

from __future__ import annotations

from pydantic import Field, model_validator

from casare_api.kinds.kind import AGE, NAME, Kind, MicroTime, Model, ObjectMeta, column


class LeaseSpec(Model):
    """Who holds the lease, and for how long."""

    holder_identity: str | None = Field(None, description="Who holds the lease; empty or missing: nobody.")
    lease_duration_seconds: int | None = Field(
        None, gt=0, le=2**31 - 1, description="Seconds after renewTime until others may take the lease."
    )
    acquire_time: MicroTime | None = Field(None, description="When the holder took the lease.")
    renew_time: MicroTime | None = Field(None, description="When the holder last said that it goes on.")
    lease_transitions: int | None = Field(
        None, ge=0, le=2**31 - 1, description="How often the lease went from one holder to another."
    )
    strategy: str | None = Field(None, description="How the holder is chosen where that is coordinated by others.")
    preferred_holder: str | None = Field(
        None, description="Who should hold the lease next: whoever holds it hands it over. It needs a strategy."
    )

    @model_validator(mode="after")
    def _preference_has_a_strategy(self) -> LeaseSpec:
        if self.preferred_holder and not self.strategy:
            raise ValueError("strategy: required: it must be set where preferredHolder is")
        return self


class Lease(Model):
    """A lease that programs hold and renew."""

    api_version: str
    kind: str
    metadata: ObjectMeta
    spec: LeaseSpec | None = Field(None, description="Who holds the lease, and for how long.")


LEASE = Kind(
    kind="Lease",
    plural="leases",
    singular="lease",
    group="coordination.k8s.io",
    model=Lease,
    categories=(),
    columns=(NAME, column("Holder", "spec", "holderIdentity", description="Who holds the lease."), AGE),
    description="Who leads among programs that run several times over.",
)
