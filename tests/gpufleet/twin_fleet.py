"""A whole small fleet for tests of nodes and the world: queue, table, bucket, role, payload, template, group, hooks."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from typing import Any

from components.payloads import find, user_data_template, zip_bytes
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.world import World

ACCOUNT, REGION = "123456789012", "us-east-1"
GROUP, FLEET = "inference-asg-dev", "inference-dev"
LAUNCH, TERMINATE = "autoscaling:EC2_INSTANCE_LAUNCHING", "autoscaling:EC2_INSTANCE_TERMINATING"


def real_payload() -> bytes:
    return zip_bytes(find("bootstrap"), ["inference_worker", "units"])


def tiny_payload(**modules: str) -> bytes:
    """A payload with commands of the test's own: each of `modules` is the body of a unit's `run(config, runtime)`."""
    files = {
        "inference_worker/__init__.py": "",
        "inference_worker/config.py": "def parse(document):\n    return document\n",
    }
    names = list(modules)
    for name, body in modules.items():
        indented = "\n".join(f"    {line}" for line in body.splitlines())
        files[f"inference_worker/{name}.py"] = f"def run(config, runtime):\n{indented}\n"
        files[f"units/{name}.service"] = (
            f"[Service]\nType=exec\nExecStart=/opt/python3 -m inference_worker {name}\n"
            "Restart=on-failure\nRestartPreventExitStatus=78\nRestartSec=5\n"
        )
    imports = "".join(f"from . import {name}\n" for name in names)
    table = ", ".join(f'"{name}": {name}.run' for name in names)
    files["inference_worker/__main__.py"] = f"{imports}COMMANDS = {{{table}}}\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return buffer.getvalue()


class Fleet:
    """Made with the operator's clients, as a deployment makes it."""

    def __init__(self, cloud: Cloud, payload: bytes | None = None, *, spot: bool = False, slots: int = 2) -> None:
        self.cloud = cloud
        self.world = World(cloud)
        self.aws = cloud.client("autoscaling")
        self.payload = payload or real_payload()
        sqs = cloud.client("sqs")
        self.dlq = sqs.create_queue(QueueName="inference-dlq-dev")["QueueUrl"]
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:inference-dlq-dev"
        self.queue = sqs.create_queue(
            QueueName="inference-queue-dev",
            Attributes={
                "VisibilityTimeout": "120",
                "RedrivePolicy": json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 10}),
            },
        )["QueueUrl"]
        cloud.client("dynamodb").create_table(
            TableName="inference-jobs-dev",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        )
        self.bucket = "inference-results-dev-1"
        cloud.client("s3").create_bucket(Bucket=self.bucket)
        self._role()
        self._network()
        self.spot = spot
        self.slots = slots
        self.upload(self.payload)
        self._group()

    def _role(self) -> None:
        iam = self.cloud.client("iam")
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        iam.create_role(RoleName="inference-node-dev", AssumeRolePolicyDocument=trust)
        group = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/{GROUP}*"
        self.statements = {
            "queue": (["sqs:*"], [f"arn:aws:sqs:{REGION}:{ACCOUNT}:inference-*"]),
            "jobs": (["dynamodb:*"], [f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/inference-jobs-dev"]),
            "results": (["s3:GetObject", "s3:PutObject"], [f"arn:aws:s3:::{self.bucket}/*"]),
            "weights": (["s3:GetObject"], ["arn:aws:s3:::acme-models/llama/*"]),
            "list": (["s3:ListBucket"], ["arn:aws:s3:::acme-models"]),
            "itself": (["autoscaling:*"], [group]),
        }
        self.put_policy()
        iam.create_instance_profile(InstanceProfileName="inference-node-dev")
        iam.add_role_to_instance_profile(InstanceProfileName="inference-node-dev", RoleName="inference-node-dev")

    def put_policy(self, without: str = "") -> None:
        statements = [
            {"Effect": "Allow", "Action": actions, "Resource": resources}
            for name, (actions, resources) in self.statements.items()
            if name != without
        ]
        document = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.cloud.client("iam").put_role_policy(
            RoleName="inference-node-dev", PolicyName="node", PolicyDocument=document
        )

    def _network(self) -> None:
        ec2 = self.cloud.client("ec2")
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        made = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/24", AvailabilityZone="us-east-1a")
        self.subnet = made["Subnet"]["SubnetId"]

    def upload(self, payload: bytes) -> None:
        self.sha256 = hashlib.sha256(payload).hexdigest()
        self.cloud.client("s3").put_object(Bucket=self.bucket, Key=f"node/{self.sha256}.zip", Body=payload)

    def node_json(self) -> dict[str, Any]:
        return {
            "region": REGION,
            "stack": "dev",
            "fleet": FLEET,
            "groups": [GROUP, f"{GROUP}-on-demand"],
            "launch_hook": "inference-launch-hook",
            "terminate_hook": "inference-terminate-hook",
            "queue_url": self.queue,
            "dead_letter_url": self.dlq,
            "jobs_table": "inference-jobs-dev",
            "bucket": self.bucket,
            "lease_s": 120,
            "drain_s": 300,
            "boot_deadline_s": 900,
            "allowance": True,
            "max_receive_count": 10,
            "job_timeout_s": 600,
            "model": {
                "weights": "s3://acme-models/llama/",
                "image": "vllm/vllm-openai@sha256:" + "0" * 64,
                "server_args": [],
                "slots": self.slots,
                "port": 8000,
            },
        }

    def user_data(self) -> str:
        return (
            user_data_template()
            .replace("@@PAYLOAD_URI@@", f"s3://{self.bucket}/node/{self.sha256}.zip")
            .replace("@@PAYLOAD_SHA256@@", self.sha256)
            .replace("@@NODE_JSON@@", json.dumps(self.node_json()))
        )

    def _group(self) -> None:
        made = self.cloud.client("ec2").create_launch_template(
            LaunchTemplateName="inference-node-dev",
            LaunchTemplateData={
                "ImageId": "ami-12345678",
                "InstanceType": "g5.xlarge",
                "InstanceInitiatedShutdownBehavior": "terminate",
                "IamInstanceProfile": {"Name": "inference-node-dev"},
                "UserData": base64.b64encode(self.user_data().encode()).decode(),
                "BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 100, "VolumeType": "gp3"}}],
            },
        )
        template = {"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"], "Version": "$Latest"}
        overrides = [{"InstanceType": "g5.xlarge"}, {"InstanceType": "g6.xlarge"}]
        mixed = {
            "LaunchTemplate": {"LaunchTemplateSpecification": template, "Overrides": overrides},
            "InstancesDistribution": {
                "OnDemandPercentageAboveBaseCapacity": 0,
                "SpotAllocationStrategy": "price-capacity-optimized",
            },
        }
        self.aws.create_auto_scaling_group(
            AutoScalingGroupName=GROUP,
            MinSize=0,
            MaxSize=5,
            VPCZoneIdentifier=self.subnet,
            NewInstancesProtectedFromScaleIn=True,
            **({"MixedInstancesPolicy": mixed} if self.spot else {"LaunchTemplate": template}),
        )
        for name, transition in (("inference-launch-hook", LAUNCH), ("inference-terminate-hook", TERMINATE)):
            self.aws.put_lifecycle_hook(
                AutoScalingGroupName=GROUP,
                LifecycleHookName=name,
                LifecycleTransition=transition,
                HeartbeatTimeout=1200,
                DefaultResult="ABANDON",
            )

    # -- what a controller and a guard do -------------------------------------------------------------------------

    def desire(self, count: int) -> None:
        self.aws.set_desired_capacity(AutoScalingGroupName=GROUP, DesiredCapacity=count)

    def allow(self, until: float) -> None:
        self.cloud.client("dynamodb").put_item(
            TableName="inference-jobs-dev",
            Item={"pk": {"S": f"fleet#{FLEET}"}, "sk": {"S": "allowance"}, "until": {"N": str(int(until))}},
        )

    def terminate(self, instance_id: str) -> None:
        self.aws.terminate_instance_in_auto_scaling_group(InstanceId=instance_id, ShouldDecrementDesiredCapacity=True)

    def states(self) -> list[str]:
        return sorted(m.state for m in self.world.scaling.groups[GROUP].members.values())

    def ids(self) -> list[str]:
        return list(self.world.scaling.groups[GROUP].members)

    def events(self, name: str) -> list[dict[str, Any]]:
        return [entry["record"] for entry in self.world.logs if entry["record"].get("event") == name]
