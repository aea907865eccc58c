"""A GPU fleet for a queue that exists already, with a worker of one's own and, said out loud, without a budget."""

from pathlib import Path

import pulumi
from gpu_inference import aws  # pyright: ignore[reportMissingImports]

config = pulumi.Config()
stack, region = pulumi.get_stack(), config.require("region")
opts = pulumi.ResourceOptions(provider=aws.provider("aws", region=region, stack=stack))
scope = aws.Scope(stack=stack, tags={"team": "vision"})

queue_arn = config.require("queueArn")
queue = aws.QueueRef.existing(url=config.require("queueUrl"), arn=queue_arn)
receive = {
    "Sid": "ServeQueue",
    "Effect": "Allow",
    "Action": ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:ChangeMessageVisibility"],
    "Resource": [queue_arn],
}
script = Path(__file__).with_name("worker.sh").read_text(encoding="utf-8")
node = aws.CustomNode(user_data=script.replace("QUEUE_URL", config.require("queueUrl")), statements=[receive])

fleet_args = aws.GpuFleetArgs(
    scope,
    vpc_id=config.require("vpcId"),
    subnet_ids=config.require_object("subnetIds"),
    max_instances=2,
    instance_types=["g6.xlarge", "g5.xlarge"],
    node=node,
)
fleet = aws.GpuFleet("vision", fleet_args, opts)
no_budget = aws.Unlimited(reason="the team's account has a limit of its own")
policy = aws.ScalingPolicy(slots=1, service_s=45)
scaler_args = aws.QueueDepthScalerArgs(scope, queue, fleet.ref, no_budget, policy)
scaler = aws.QueueDepthScaler("vision", scaler_args, opts)

for name, value in (fleet.outputs | scaler.outputs).items():
    pulumi.export(name, value)
