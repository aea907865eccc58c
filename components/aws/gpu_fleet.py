"""The GPU instances that serve one queue: a launch template and a spot and an on-demand group, both from zero."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pulumi
import pulumi_aws as aws

from ..costs import ReservationLike
from . import fleet_plans, policies
from .base import Account, AwsComponent, Scope, rendered
from .fleet_state import fleet_state
from .nodes import CustomNode, ModelNode, NodeParts, NodePlace
from .refs import FleetRef


@dataclass(frozen=True)
class GpuFleetArgs:
    """`max_instances` is the cap over both pools together, in instances.

    `instance_types` in order of preference for on-demand; spot takes what is cheap and there. `boot_deadline_s`: from
    launch to the model's first answer, else the instance is given up. `drain_s`: how long a stop lets running jobs
    finish; a scale-in waits for them, at most the job timeout. `ami` is an image id; None takes the newest
    deep-learning image for Amazon Linux 2023, which makes a new template version whenever AWS publishes one. `ssm` lets
    operators open a session without SSH. `reservation` is used by the on-demand group first; one of `subnet_ids` must
    lie in its zone, or nothing ever runs in it.
    """

    scope: Scope
    vpc_id: pulumi.Input[str]
    subnet_ids: pulumi.Input[Sequence[pulumi.Input[str]]]
    max_instances: int
    instance_types: Sequence[str]
    node: ModelNode | CustomNode
    spot: bool = True
    on_demand: bool = True
    boot_deadline_s: int = 900
    drain_s: int = 300
    disk_gb: int = 150
    ami: pulumi.Input[str] | None = None
    ssm: bool = False
    reservation: ReservationLike | None = None

    def __post_init__(self) -> None:
        longest = fleet_plans.HOOK_MAX_S - fleet_plans.HOOK_MARGIN_S
        held = self.reservation
        rules = (
            (self.max_instances >= 1, "max_instances", "at least 1"),
            (self.spot or self.on_demand, "on_demand", "a fleet needs a pool: spot, on_demand or both"),
            (1 <= len(set(self.instance_types)) <= 40, "instance_types", "1 to 40 types (an Auto Scaling limit)"),
            (len(set(self.instance_types)) == len(self.instance_types), "instance_types", "each type once"),
            (60 <= self.boot_deadline_s <= longest, "boot_deadline_s", f"60 to {longest} s, which a hook can wait"),
            (1 <= self.drain_s <= longest, "drain_s", f"1 to {longest} s, which a hook can wait"),
            (
                self.disk_gb >= fleet_plans.LEAST_DISK_GB,
                "disk_gb",
                f"the image needs {fleet_plans.LEAST_DISK_GB} GB, weights come on top",
            ),
            (held is None or self.on_demand, "reservation", "a fleet without an on-demand group cannot use it"),
            (held is None or held.instance_type in self.instance_types, "reservation", "its type must be of the list"),
            (held is None or 1 <= held.instances <= self.max_instances, "reservation", "1 instance to max_instances"),
        )
        faults = [f"{name} is {getattr(self, name)!r}: {rule}" for holds, name, rule in rules if not holds]
        if faults:
            raise ValueError("GpuFleetArgs: " + "; ".join(faults))


class GpuFleet(AwsComponent):
    """`gpu-inference:aws:GpuFleet`: role and profile, security group, launch template, one or two groups, their hooks.

    Does not: scale (a `QueueDepthScaler` does), stop at a budget (a `BudgetGuard` does), or replace instances of an
    old template version (the controller drains them one by one; no instance refresh, it fails on protected instances).
    Fails: an instance whose model does not answer within `boot_deadline_s` is terminated, and the group tries again.
    """

    def __init__(self, name: str, args: GpuFleetArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__(
            "GpuFleet",
            name,
            args.scope,
            {"maxInstances": args.max_instances, "instanceTypes": list(args.instance_types)},
            opts,
        )
        self.fleet = self.names.fleet
        self.instance_tags = self.names.fleet_tags(args.scope.tags)
        self.group_names = self._group_names(args)
        self.account = Account(self)
        self.node: NodeParts = args.node.build(
            NodePlace(
                parent=self,
                names=self.names,
                account=self.account,
                groups=list(self.group_names.values()),
                boot_deadline_s=args.boot_deadline_s,
                drain_s=args.drain_s,
            )
        )
        self._make_role(args)
        self._make_template(args)
        self.groups = {pool: self._make_group(pool, group, args) for pool, group in self.group_names.items()}
        self.hooks = {pool: self._make_hooks(pool, args) for pool in self.groups}
        self.ref = self._make_ref(args)
        self.finish(
            {
                "spotGroup": self.ref.spot_group,
                "onDemandGroup": self.ref.on_demand_group,
                "maxInstances": args.max_instances,
                "fleetState": fleet_state(self, args.scope.stack, list(self.groups.values())),
            }
        )

    def _group_names(self, args: GpuFleetArgs) -> dict[str, str]:
        names = {}
        if args.spot:
            names["spot"] = self.names.spot_group
        if args.on_demand:
            names["on-demand"] = self.names.on_demand_group
        return names

    def _make_role(self, args: GpuFleetArgs) -> None:
        name, groups = self._component, list(self.group_names.values())
        self.node_role = self.role("node", "ec2.amazonaws.com", f"GPU nodes of {self.fleet}")

        def statements(own: list[policies.Statement] | None, **where: str) -> policies.Document:
            arns = [policies.group_arn(group=group, **where) for group in groups]
            lifecycle = policies.node_lifecycle(arns) if self.node.uses_hooks else []
            return policies.document(*(own or []), *lifecycle)

        self.policy: aws.iam.RolePolicy | None = None
        if self.node.statements is not None or self.node.uses_hooks:  # IAM refuses a policy without statements
            self.policy = aws.iam.RolePolicy(
                f"{name}-node-policy",
                name=self.names.role("node"),
                role=self.node_role.name,
                policy=rendered(statements, own=self.node.statements, **self.account.wires),
                opts=self.child(),
            )
        self.session_policy: aws.iam.RolePolicyAttachment | None = None
        if args.ssm:
            self.session_policy = aws.iam.RolePolicyAttachment(
                f"{name}-node-sessions",
                role=self.node_role.name,
                policy_arn=pulumi.Output.concat(
                    "arn:", self.account.partition, ":iam::aws:policy/AmazonSSMManagedInstanceCore"
                ),
                opts=self.child(),
            )
        self.profile = aws.iam.InstanceProfile(
            f"{name}-node-profile",
            name=self.names.role("node"),
            role=self.node_role.name,
            tags=self.tags,
            opts=self.child(),
        )

    def _make_template(self, args: GpuFleetArgs) -> None:
        self.security_group = aws.ec2.SecurityGroup(
            f"{self._component}-node-sg",
            name=self.names.name("node"),
            description=f"GPU nodes of {self.fleet}: nothing in, HTTPS out",
            vpc_id=args.vpc_id,
            tags=self.tags,
            opts=self.child(),
            **fleet_plans.security_group_rules(),
        )
        image = args.ami
        if image is None:
            image = aws.ssm.get_parameter_output(
                name=fleet_plans.image_parameter(args.instance_types), opts=pulumi.InvokeOutputOptions(parent=self)
            ).value
        self.template = aws.ec2.LaunchTemplate(
            f"{self._component}-node",
            name=self.names.launch_template,
            description=f"GPU nodes of {self.fleet}",
            user_data=pulumi.Output.from_input(self.node.user_data).apply(
                lambda script: base64.b64encode(script.encode("utf-8")).decode("ascii")
            ),
            opts=self.child(depends_on=[*([self.policy] if self.policy else []), *self.node.depends_on]),
            **fleet_plans.launch_template(
                image_id=image,
                instance_profile_arn=self.profile.arn,
                security_group_id=self.security_group.id,
                disk_gb=args.disk_gb,
                tags=self.instance_tags,
            ),
        )

    def _make_group(self, pool: str, group: str, args: GpuFleetArgs) -> aws.autoscaling.Group:
        plan: dict[str, Any] = fleet_plans.group(args.max_instances)
        types = args.instance_types
        if args.reservation is not None and pool == "on-demand":
            plan |= fleet_plans.reserved_capacity(args.reservation.id)
            types = fleet_plans.reserved_first(types, args.reservation.instance_type)
        plan["mixed_instances_policy"] = fleet_plans.mixed_instances(
            self.template.id, self.template.latest_version.apply(str), types, spot=pool == "spot"
        )
        plan["tags"] = fleet_plans.group_tags(self.instance_tags)
        return aws.autoscaling.Group(
            f"{self._component}-asg-{pool}",
            name=group,
            vpc_zone_identifiers=args.subnet_ids,
            opts=self.child(ignore_changes=fleet_plans.OWNED_BY_THE_LAWS),
            **plan,
        )

    def _make_hooks(self, pool: str, args: GpuFleetArgs) -> dict[str, aws.autoscaling.LifecycleHook]:
        if not self.node.uses_hooks:
            return {}
        plans: dict[str, dict[str, Any]] = {
            "launch": fleet_plans.launch_hook(args.boot_deadline_s),
            "terminate": fleet_plans.terminate_hook(args.drain_s),
        }
        hook_names = {"launch": self.names.launch_hook, "terminate": self.names.terminate_hook}
        return {
            transition: aws.autoscaling.LifecycleHook(
                f"{self._component}-{transition}-hook-{pool}",
                name=hook_names[transition],
                autoscaling_group_name=self.groups[pool].name,
                opts=self.child(),
                **plan,
            )
            for transition, plan in plans.items()
        }

    def _make_ref(self, args: GpuFleetArgs) -> FleetRef:
        """Group names pass through the hooks: a scaler made from this ref cannot launch before the hooks are there."""

        def ready(pool: str) -> pulumi.Output[str] | None:
            if pool not in self.groups:
                return None
            hooks = [hook.id for hook in self.hooks[pool].values()]
            return pulumi.Output.all(self.groups[pool].name, *hooks).apply(lambda known: known[0])

        uses_hooks = self.node.uses_hooks
        return FleetRef(
            fleet=self.fleet,
            component=self._component,
            group_names=list(self.group_names.values()),
            spot_group=ready("spot"),
            on_demand_group=ready("on-demand"),
            instance_types=list(args.instance_types),
            cap=args.max_instances,
            drain_s=args.drain_s,
            boot_deadline_s=args.boot_deadline_s,
            disk_gb=args.disk_gb,
            template_id=self.template.id,
            launch_hook=self.names.launch_hook if uses_hooks else None,
            terminate_hook=self.names.terminate_hook if uses_hooks else None,
            needs_allowance=self.node.needs_allowance,
            jobs_table=self.node.jobs_table,
            jobs_table_arn=self.node.jobs_table_arn,
            job_timeout_s=self.node.job_timeout_s,
            reservation=args.reservation,
        )
