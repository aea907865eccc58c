"""The provider's function that reads an Auto Scaling group: `aws:autoscaling/getGroup:getGroup`.

The answer has every field of pulumi-aws's `GetGroupResult`, as the Terraform data source fills it: what AWS does not
say is empty, blocks are lists of one. Suspended processes come as their names alone, without the reasons.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account


def group(cloud: Account, name: str) -> dict[str, Any]:
    """Raises `AwsError` when there is no such group, botocore's `ClientError` for what AWS refuses."""
    asked = cloud.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[name])
    if not asked["AutoScalingGroups"]:
        raise AwsError("NotFound", f"reading Auto Scaling Group ({name}): couldn't find resource")
    found = asked["AutoScalingGroups"][0]
    template = found.get("LaunchTemplate")
    return {
        "id": name,
        "name": name,
        "region": cloud.region,
        "arn": found["AutoScalingGroupARN"],
        "availabilityZones": found["AvailabilityZones"],
        "vpcZoneIdentifier": found["VPCZoneIdentifier"],
        "minSize": found["MinSize"],
        "maxSize": found["MaxSize"],
        "desiredCapacity": found["DesiredCapacity"],
        "desiredCapacityType": found.get("DesiredCapacityType", ""),
        "defaultCooldown": found["DefaultCooldown"],
        "healthCheckType": found["HealthCheckType"],
        "healthCheckGracePeriod": found["HealthCheckGracePeriod"],
        "newInstancesProtectedFromScaleIn": found["NewInstancesProtectedFromScaleIn"],
        "terminationPolicies": found["TerminationPolicies"],
        "suspendedProcesses": sorted(one["ProcessName"] for one in found["SuspendedProcesses"]),
        "enabledMetrics": sorted(one["Metric"] for one in found["EnabledMetrics"]),
        "launchTemplates": [_template(template, "id", "name")] if template else [],
        "mixedInstancesPolicies": [_mixed(found["MixedInstancesPolicy"])] if "MixedInstancesPolicy" in found else [],
        "tags": [
            {"key": one["Key"], "value": one["Value"], "propagateAtLaunch": one["PropagateAtLaunch"]}
            for one in found["Tags"]
        ],
        "loadBalancers": found["LoadBalancerNames"],
        "targetGroupArns": found["TargetGroupARNs"],
        "trafficSources": [],
        "instanceMaintenancePolicies": [],
        "launchConfiguration": "",
        "maxInstanceLifetime": found.get("MaxInstanceLifetime", 0),
        "placementGroup": "",
        "predictedCapacity": 0,
        "serviceLinkedRoleArn": found.get("ServiceLinkedRoleARN", ""),
        "status": "",
        "warmPoolSize": 0,
        "warmPools": [],
    }


def _template(given: Mapping[str, Any], identifier: str, name: str) -> dict[str, Any]:
    return {
        identifier: given.get("LaunchTemplateId", ""),
        name: given.get("LaunchTemplateName", ""),
        "version": given.get("Version", ""),
    }


def _mixed(policy: Mapping[str, Any]) -> dict[str, Any]:
    template, distribution = policy["LaunchTemplate"], policy.get("InstancesDistribution") or {}
    specification = template["LaunchTemplateSpecification"]
    return {
        "launchTemplates": [
            {
                "launchTemplateSpecifications": [_template(specification, "launchTemplateId", "launchTemplateName")],
                "overrides": [
                    {
                        "instanceType": one["InstanceType"],
                        "weightedCapacity": one.get("WeightedCapacity", ""),
                        "instanceRequirements": [],
                        "launchTemplateSpecifications": [],
                    }
                    for one in template.get("Overrides") or []
                ],
            }
        ],
        "instancesDistributions": [
            {
                "onDemandAllocationStrategy": distribution.get("OnDemandAllocationStrategy", "prioritized"),
                "onDemandBaseCapacity": distribution.get("OnDemandBaseCapacity", 0),
                "onDemandPercentageAboveBaseCapacity": distribution.get("OnDemandPercentageAboveBaseCapacity", 100),
                "spotAllocationStrategy": distribution.get("SpotAllocationStrategy", "lowest-price"),
                "spotInstancePools": distribution.get("SpotInstancePools", 0),
                "spotMaxPrice": distribution.get("SpotMaxPrice", ""),
            }
        ],
    }
