"""What components hand each other: bundles of wires, so that each can also be met by something made elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pulumi

from ..costs import ReservationLike


@dataclass(frozen=True)
class AlertsRef:
    """A topic that people listen to, and the key it is encrypted with."""

    topic_arn: pulumi.Input[str]
    key_arn: pulumi.Input[str]


@dataclass(frozen=True)
class QueueRef:
    """A queue of jobs. Job table, dead letters and bucket are set where workers keep records (see `InferenceQueue`)."""

    url: pulumi.Input[str]
    arn: pulumi.Input[str]
    name: pulumi.Input[str]
    dead_letter_url: pulumi.Input[str] | None = None
    dead_letter_arn: pulumi.Input[str] | None = None
    jobs_table: pulumi.Input[str] | None = None
    jobs_table_arn: pulumi.Input[str] | None = None
    bucket: pulumi.Input[str] | None = None
    bucket_arn: pulumi.Input[str] | None = None
    max_receive_count: int | None = None

    @classmethod
    def existing(cls, url: pulumi.Input[str], arn: pulumi.Input[str]) -> QueueRef:
        """Adopt a queue that this program does not manage; its workers are the caller's (`CustomNode`)."""
        return cls(url=url, arn=arn, name=pulumi.Output.from_input(arn).apply(lambda known: known.rsplit(":", 1)[-1]))


@dataclass(frozen=True)
class CapacityReservation:
    """A targeted On-Demand Capacity Reservation by hand: `instances` of `instance_type` of it are one fleet's.

    `id` is `cr-...`. It is paid at the on-demand price whether used or not, until whoever made it cancels it.
    """

    id: str
    instance_type: str
    instances: int


@dataclass(frozen=True)
class FleetRef:
    """One fleet, as the guard and the scaler see it.

    `fleet` is the value of the instances' `gpu-inference-fleet` tag. `group_names` are the plain names behind
    `spot_group` and `on_demand_group`, which are wires that also order what uses them after the groups' hooks.
    Times are seconds; `jobs_table` is None for nodes that keep no heartbeats, `job_timeout_s` if nobody knows it;
    `needs_allowance` says that nodes leave when no guard has spoken for ten minutes. `reservation` is paid for the
    fleet, used or not.
    """

    fleet: str
    component: str
    group_names: Sequence[str]
    spot_group: pulumi.Input[str] | None
    on_demand_group: pulumi.Input[str] | None
    instance_types: Sequence[str]
    cap: int
    drain_s: int
    boot_deadline_s: int
    disk_gb: int
    template_id: pulumi.Input[str]
    launch_hook: pulumi.Input[str] | None
    terminate_hook: pulumi.Input[str] | None
    needs_allowance: bool
    jobs_table: pulumi.Input[str] | None
    jobs_table_arn: pulumi.Input[str] | None
    job_timeout_s: int | None = None
    reservation: ReservationLike | None = None


@dataclass(frozen=True)
class BudgetRef:
    """The budget that a scaler must ask before it launches: the guard's control table, and the fleets it covers."""

    control_table: pulumi.Input[str]
    control_table_arn: pulumi.Input[str]
    fleets: Sequence[str]


@dataclass(frozen=True)
class Unlimited:
    """No spending limit, said out loud. `reason` is kept in the scaler's configuration and logs."""

    reason: str

    def __post_init__(self) -> None:
        if not self.reason.strip():
            raise ValueError("Unlimited.reason is empty: say why this fleet may spend without a limit")
