"""A small account for tests of the twin: two zones, a launch template, and groups made as an operator makes them."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.services.autoscaling import AutoScaling
from gpufleet.twin.services.ec2 import Ec2
from gpufleet.twin.world import World

START = 1_793_534_400.0  # 2026-11-01T12:00:00Z
LAUNCH, TERMINATE = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"


class Account:
    """The cloud with instances and groups (those of `world`, if one is given); `aws` is the operator's Auto Scaling
    client."""

    def __init__(self, cloud: Cloud, world: World | None = None) -> None:
        self.cloud = cloud
        self.clock = cloud.clock
        self.ec2_model = world.ec2 if world else Ec2(cloud)
        self.machines = self.ec2_model.machines
        cloud.register("ec2", self.ec2_model)
        self.scaling = world.scaling if world else AutoScaling(cloud, self.machines)
        cloud.register("autoscaling", self.scaling)
        self.aws = cloud.client("autoscaling")
        self.ec2 = cloud.client("ec2")
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        self.subnets = [
            self.ec2.create_subnet(VpcId=vpc, CidrBlock=f"10.0.{i}.0/24", AvailabilityZone=f"us-east-1{zone}")[
                "Subnet"
            ]["SubnetId"]
            for i, zone in enumerate("ab")
        ]
        self.template = self.make_template("node")

    def make_template(self, name: str, **data: Any) -> str:
        body = {
            "ImageId": "ami-12345678",
            "InstanceType": "g5.xlarge",
            "InstanceInitiatedShutdownBehavior": "terminate",
            "UserData": base64.b64encode(b"#!/bin/bash\necho custom\n").decode(),
            "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 100, "VolumeType": "gp3"}}],
            "TagSpecifications": [
                {"ResourceType": "instance", "Tags": [{"Key": "gpu-inference-fleet", "Value": "inference-dev"}]}
            ],
            **data,
        }
        made = self.ec2.create_launch_template(
            LaunchTemplateName=name, LaunchTemplateData={k: v for k, v in body.items() if v is not None}
        )
        return made["LaunchTemplate"]["LaunchTemplateId"]

    def mixed(self, template: str | None = None, **distribution: Any) -> dict[str, Any]:
        return {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template or self.template, "Version": "$Latest"},
                "Overrides": [{"InstanceType": "g5.xlarge"}, {"InstanceType": "g6.xlarge"}],
            },
            "InstancesDistribution": {
                "OnDemandBaseCapacity": 0,
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
                **distribution,
            },
        }

    def make_group(self, name: str = "fleet", **given: Any) -> str:
        """A group of on-demand instances, 0 to 10, protected from scale-in, unless `given` says otherwise."""
        params: dict[str, Any] = {
            "AutoScalingGroupName": name,
            "MinSize": 0,
            "MaxSize": 10,
            "VPCZoneIdentifier": ",".join(self.subnets),
            "NewInstancesProtectedFromScaleIn": True,
            **given,
        }
        if "LaunchTemplate" not in params and "MixedInstancesPolicy" not in params:
            params["LaunchTemplate"] = {"LaunchTemplateId": self.template, "Version": "$Latest"}
        self.aws.create_auto_scaling_group(**{k: v for k, v in params.items() if v is not None})
        return name

    def make_spot_group(self, name: str = "spot", **given: Any) -> str:
        return self.make_group(name, MixedInstancesPolicy=self.mixed(), **given)

    def hook(self, group: str, transition: str, heartbeat_s: int = 600, default: str = "ABANDON") -> str:
        name = "launch-hook" if transition == LAUNCH else "terminate-hook"
        self.aws.put_lifecycle_hook(
            AutoScalingGroupName=group,
            LifecycleHookName=name,
            LifecycleTransition=transition,
            HeartbeatTimeout=heartbeat_s,
            DefaultResult=default,
        )
        return name

    def desire(self, count: int, group: str = "fleet") -> None:
        self.aws.set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=count)

    def group(self, name: str = "fleet") -> dict[str, Any]:
        return self.aws.describe_auto_scaling_groups(AutoScalingGroupNames=[name])["AutoScalingGroups"][0]

    def states(self, name: str = "fleet") -> list[str]:
        return sorted(i["LifecycleState"] for i in self.group(name)["Instances"])

    def ids(self, name: str = "fleet") -> list[str]:
        return [i["InstanceId"] for i in self.group(name)["Instances"]]

    def activities(self, name: str = "fleet") -> list[dict[str, Any]]:
        return self.aws.describe_scaling_activities(AutoScalingGroupName=name)["Activities"]

    def complete(self, group: str, hook: str, instance_id: str, result: str = "CONTINUE") -> None:
        self.aws.complete_lifecycle_action(
            AutoScalingGroupName=group, LifecycleHookName=hook, InstanceId=instance_id, LifecycleActionResult=result
        )

    def terminate(self, instance_id: str, *, decrement: bool = True) -> dict[str, Any]:
        return self.aws.terminate_instance_in_auto_scaling_group(
            InstanceId=instance_id, ShouldDecrementDesiredCapacity=decrement
        )["Activity"]

    def running(self) -> list[str]:
        return [i.id for i in self.machines.instances.values() if i.alive]

    def make_role(self, name: str, *statements: dict[str, Any]) -> str:
        iam = self.cloud.client("iam")
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": []}))
        document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
        iam.put_role_policy(RoleName=name, PolicyName="policy", PolicyDocument=document)
        return name


class Refusal:
    """`with refused("ValidationError", "words"):` the call in the block must fail so."""

    def __init__(self, code: str, words: str) -> None:
        self._code, self._words = code, words
        self._raises = pytest.raises(ClientError)

    def __enter__(self) -> None:
        self._caught = self._raises.__enter__()

    def __exit__(self, *exc: Any) -> bool:
        outcome = self._raises.__exit__(*exc)
        error = self._caught.value.response["Error"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        assert error["Code"] == self._code  # pyright: ignore[reportTypedDictNotRequiredAccess]
        assert self._words in error["Message"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        return bool(outcome)


def refused(code: str, words: str) -> Refusal:
    return Refusal(code, words)
