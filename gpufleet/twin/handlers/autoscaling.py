"""Auto Scaling groups, their lifecycle hooks and their scaling policies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Handler, Inputs, Naming, Outputs, finishing, split_import
from .properties import Prop, block, blocks, from_api, names, table, to_api

_GRACE_S = 300  # the provider sends it when the program does not; the API's own default is 0
_SPECIFICATION = block(names("launchTemplateId launchTemplateName version", computed=True))
_MIXED = block(
    {
        "launchTemplate": block(
            {
                "launchTemplateSpecification": _SPECIFICATION,
                "overrides": blocks(
                    {
                        **names("instanceType weightedCapacity"),
                        "launchTemplateSpecification": _SPECIFICATION,
                    }
                ),
            }
        ),
        "instancesDistribution": block(
            names(
                "onDemandAllocationStrategy onDemandBaseCapacity onDemandPercentageAboveBaseCapacity "
                "spotAllocationStrategy spotInstancePools spotMaxPrice",
                computed=True,
            ),
            computed=True,
        ),
    }
)
_TEMPLATE = block(
    {
        "id": Prop("LaunchTemplateId", computed=True),
        "name": Prop("LaunchTemplateName", computed=True),
        "version": Prop(computed=True),
    }
)
_HOOK = {
    **names("lifecycleTransition notificationMetadata"),
    "roleArn": Prop("RoleARN"),
    "notificationTargetArn": Prop("NotificationTargetARN"),
    "defaultResult": Prop(computed=True),
    "heartbeatTimeout": Prop(computed=True),
}
# Applied by CreateAutoScalingGroup and UpdateAutoScalingGroup under the same names.
_SETTINGS = {
    **names("minSize maxSize"),
    "desiredCapacity": Prop(computed=True),
    "mixedInstancesPolicy": _MIXED,
    "launchTemplate": _TEMPLATE,
    "healthCheckType": Prop(computed=True),
    "healthCheckGracePeriod": Prop(default=_GRACE_S),
    "defaultCooldown": Prop(computed=True),
    "defaultInstanceWarmup": Prop(computed=True),
    "capacityRebalance": Prop(default=False),
    "protectFromScaleIn": Prop("NewInstancesProtectedFromScaleIn", default=False),
    "maxInstanceLifetime": Prop(default=0),
    "terminationPolicies": Prop(default=["Default"]),
    "capacityReservationSpecification": block(
        {
            "capacityReservationPreference": Prop(computed=True),
            "capacityReservationTarget": block({"capacityReservationIds": Prop(kind="set")}),
        },
        computed=True,
    ),
    "availabilityZoneDistribution": block(names("capacityDistributionStrategy", computed=True), computed=True),
}
_STEP_S = 15.0
_DRAIN_LIMIT_S = 600.0  # the provider's own time limit for a deletion


class Group(Handler):
    """Instances launch as the group wants them; the engine does not wait for capacity."""

    type = "aws:autoscaling/group:Group"
    naming = Naming(limit=255)
    props = table(
        {
            "name": Prop(replace=True),
            **_SETTINGS,
            "vpcZoneIdentifiers": Prop(kind="set", api=""),
            "tags": blocks(names("key value propagateAtLaunch"), kind="set"),
            "suspendedProcesses": Prop(kind="set", api=""),
            "enabledMetrics": Prop(kind="set", api=""),
            "metricsGranularity": Prop(default="1Minute", api=""),
            "forceDelete": Prop(default=False, kept=STEERS_DELETION),
            "waitForCapacityTimeout": Prop(kept="The twin does not hold an update up until instances run."),
        }
    )
    outputs = "arn"

    def rules(self, inputs: Inputs) -> None:
        if bool(inputs.get("launchTemplate")) == bool(inputs.get("mixedInstancesPolicy")):
            raise AwsError(
                "ValidationError", "Valid requests contain exactly one of launchTemplate, mixedInstancesPolicy"
            )

    def make(self, cloud: Account, inputs: Inputs) -> str:
        client, name = cloud.client("autoscaling"), inputs["name"]
        client.create_auto_scaling_group(
            AutoScalingGroupName=name,
            VPCZoneIdentifier=",".join(inputs.get("vpcZoneIdentifiers") or []),
            Tags=_tags(name, inputs.get("tags") or []),
            **_request({"healthCheckGracePeriod": _GRACE_S, **inputs}),
        )
        with finishing(name):
            self._switches(client, name, {}, inputs)
        return name

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        client = cloud.client("autoscaling")
        found = client.describe_auto_scaling_groups(AutoScalingGroupNames=[identifier])["AutoScalingGroups"]
        if not found or found[0].get("Status") == "Delete in progress":
            return None
        live = found[0]
        metrics = live.get("EnabledMetrics") or []
        return {
            "name": live["AutoScalingGroupName"],
            **from_api(_SETTINGS, live),
            "vpcZoneIdentifiers": [s for s in live.get("VPCZoneIdentifier", "").split(",") if s],
            "tags": [
                {"key": t["Key"], "value": t.get("Value", ""), "propagateAtLaunch": t.get("PropagateAtLaunch", False)}
                for t in live.get("Tags") or []
            ],
            "suspendedProcesses": sorted(p["ProcessName"] for p in live.get("SuspendedProcesses") or []),
            "enabledMetrics": sorted(m["Metric"] for m in metrics),
            "metricsGranularity": metrics[0].get("Granularity", "1Minute") if metrics else "1Minute",
            "arn": live["AutoScalingGroupARN"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        client = cloud.client("autoscaling")
        settings = changed & (set(_SETTINGS) | {"vpcZoneIdentifiers"})
        if settings:
            wanted = {name: news.get(name, self.props[name].default) for name in settings}
            request = _request(wanted)
            if "vpcZoneIdentifiers" in settings:
                request["VPCZoneIdentifier"] = ",".join(news.get("vpcZoneIdentifiers") or [])
            client.update_auto_scaling_group(AutoScalingGroupName=identifier, **request)
        if "tags" in changed:
            self._retag(client, identifier, olds.get("tags") or [], news.get("tags") or [])
        touched = {name for name in ("suspendedProcesses", "enabledMetrics", "metricsGranularity") if name in changed}
        if touched:
            self._switches(
                client,
                identifier,
                {name: olds.get(name) for name in touched},
                {name: news.get(name) for name in touched},
            )

    @staticmethod
    def _retag(client: Any, group: str, old: list[dict[str, Any]], new: list[dict[str, Any]]) -> None:
        kept = {tag["key"] for tag in new}
        gone = [tag for tag in old if tag["key"] not in kept]
        if gone:
            client.delete_tags(Tags=_tags(group, gone))
        if new:
            client.create_or_update_tags(Tags=_tags(group, new))

    @staticmethod
    def _switches(client: Any, group: str, olds: Inputs, news: Inputs) -> None:
        """Suspended processes and metrics: what AWS turns on and off by calls of their own."""
        where = {"AutoScalingGroupName": group}
        before, after = (set(values.get("suspendedProcesses") or []) for values in (olds, news))
        if after - before:
            client.suspend_processes(**where, ScalingProcesses=sorted(after - before))
        if before - after:
            client.resume_processes(**where, ScalingProcesses=sorted(before - after))
        before, after = (set(values.get("enabledMetrics") or []) for values in (olds, news))
        if before - after:
            client.disable_metrics_collection(**where, Metrics=sorted(before - after))
        if after - before:
            granularity = news.get("metricsGranularity") or "1Minute"
            client.enable_metrics_collection(**where, Metrics=sorted(after - before), Granularity=granularity)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        client = cloud.client("autoscaling")
        if self.look(cloud, identifier, {}) is None:
            return
        if not outputs.get("forceDelete"):
            _empty(cloud, client, identifier)
        client.delete_auto_scaling_group(AutoScalingGroupName=identifier, ForceDelete=bool(outputs.get("forceDelete")))


def _request(inputs: Inputs) -> dict[str, Any]:
    request = to_api(_SETTINGS, inputs)
    for holder in (request.get("LaunchTemplate"), *_specifications(request)):
        if holder and "Version" in holder:
            holder["Version"] = str(holder["Version"])
    return request


def _specifications(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    mixed = request.get("MixedInstancesPolicy", {}).get("LaunchTemplate", {})
    entries = [mixed, *mixed.get("Overrides", [])]
    return [entry["LaunchTemplateSpecification"] for entry in entries if "LaunchTemplateSpecification" in entry]


def _tags(group: str, tags: list[dict[str, Any]]) -> list[dict[str, Any]]:
    where = {"ResourceId": group, "ResourceType": "auto-scaling-group"}
    return [
        {**where, "Key": tag["key"], "Value": tag["value"], "PropagateAtLaunch": tag["propagateAtLaunch"]}
        for tag in sorted(tags, key=lambda tag: tag["key"])
    ]


def _empty(cloud: Account, client: Any, group: str) -> None:
    """As the provider does without `forceDelete`: scale to zero and wait, ten minutes at most.

    Instances that are protected from scale-in never go: the deletion then fails, as it does in AWS.
    """
    client.update_auto_scaling_group(AutoScalingGroupName=group, MinSize=0, MaxSize=0, DesiredCapacity=0)
    deadline = cloud.now() + _DRAIN_LIMIT_S
    while True:
        found = client.describe_auto_scaling_groups(AutoScalingGroupNames=[group])["AutoScalingGroups"]
        left = len(found[0]["Instances"]) if found else 0
        if not left:
            return
        if cloud.now() >= deadline:
            raise AwsError("ResourceInUse", f"group {group} still has {left} instances after {_DRAIN_LIMIT_S:.0f} s")
        cloud.wait(_STEP_S)


class LifecycleHook(Handler):
    type = "aws:autoscaling/lifecycleHook:LifecycleHook"
    naming = Naming(prefix_prop=None)
    gone = ("ValidationError",)
    props = table({"name": Prop(replace=True), "autoscalingGroupName": Prop(replace=True), **_HOOK})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("autoscaling").put_lifecycle_hook(
            AutoScalingGroupName=inputs["autoscalingGroupName"],
            LifecycleHookName=inputs["name"],
            **to_api(_HOOK, inputs),
        )
        return inputs["name"]

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        group, name = split_import(self.type, identifier, "/", "GROUP/HOOK")
        return name, {"autoscalingGroupName": group, "name": name}

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        group = inputs["autoscalingGroupName"]
        answer = cloud.client("autoscaling").describe_lifecycle_hooks(
            AutoScalingGroupName=group, LifecycleHookNames=[identifier]
        )
        if not answer["LifecycleHooks"]:
            return None
        return {"name": identifier, "autoscalingGroupName": group, **from_api(_HOOK, answer["LifecycleHooks"][0])}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self.make(cloud, news)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("autoscaling").delete_lifecycle_hook(
            AutoScalingGroupName=outputs["autoscalingGroupName"], LifecycleHookName=identifier
        )


_POLICY = {
    "policyType": Prop(default="SimpleScaling"),
    **names("adjustmentType minAdjustmentMagnitude"),
    "metricAggregationType": Prop(computed=True),
    "enabled": Prop(default=True),
    "stepAdjustments": blocks(
        {**names("metricIntervalLowerBound metricIntervalUpperBound", kind="number"), "scalingAdjustment": Prop()},
        kind="set",
    ),
}


class Policy(Handler):
    type = "aws:autoscaling/policy:Policy"
    naming = Naming(prefix_prop=None)
    gone = ("ValidationError",)
    props = table({"name": Prop(replace=True), "autoscalingGroupName": Prop(replace=True), **_POLICY})
    outputs = "arn"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("autoscaling").put_scaling_policy(
            AutoScalingGroupName=inputs["autoscalingGroupName"], PolicyName=inputs["name"], **to_api(_POLICY, inputs)
        )
        return inputs["name"]

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        group, name = split_import(self.type, identifier, "/", "GROUP/POLICY")
        return name, {"autoscalingGroupName": group, "name": name}

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        group = inputs["autoscalingGroupName"]
        answer = cloud.client("autoscaling").describe_policies(AutoScalingGroupName=group, PolicyNames=[identifier])
        if not answer["ScalingPolicies"]:
            return None
        live = answer["ScalingPolicies"][0]
        return {
            "name": identifier,
            "autoscalingGroupName": group,
            **from_api(_POLICY, live),
            "arn": live["PolicyARN"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self.make(cloud, {"enabled": True, **news})

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("autoscaling").delete_policy(
            AutoScalingGroupName=outputs["autoscalingGroupName"], PolicyName=identifier
        )


HANDLERS = (Group, LifecycleHook, Policy)
