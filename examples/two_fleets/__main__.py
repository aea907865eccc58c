"""Two GPU fleets, each with a queue and a model of its own, that share one monthly budget."""

import pulumi
from gpu_inference import aws, costs  # pyright: ignore[reportMissingImports]

config = pulumi.Config()
stack, region = pulumi.get_stack(), config.require("region")
opts = pulumi.ResourceOptions(provider=aws.provider("aws", region=region, stack=stack))
scope = aws.Scope(stack=stack)
image = config.require("image")

alerts = aws.Alerts("models", aws.AlertsArgs(scope, emails=["ml-oncall@example.com"]), opts)
network = aws.Network("models", aws.NetworkArgs(scope, region=region), opts)
served = {
    "small": (2, ["g6.xlarge", "g5.xlarge"], aws.Model("s3://acme-models/small/", image, slots=16)),
    "large": (1, ["g6e.xlarge", "g6e.2xlarge"], aws.Model("s3://acme-models/large/", image, slots=4)),
}
queues, fleets = {}, {}
for name, (cap, types, model) in served.items():
    queue_args = aws.InferenceQueueArgs(scope, oldest_message_alarm_s=1200, alerts=alerts.ref)
    queues[name] = aws.InferenceQueue(name, queue_args, opts)
    node = aws.ModelNode(model, queues[name].ref)
    fleet_args = aws.GpuFleetArgs(scope, network.vpc_id, network.subnet_ids, cap, types, node)
    fleets[name] = aws.GpuFleet(name, fleet_args, opts)

fixed_usd, stopped_usd = (2 * costs.fixed_usd_per_month(True, region, stopped=flag) for flag in (False, True))
boot_usd, job_usd = costs.per_boot_usd(image, True, region), costs.per_job_usd(True, region)
spending = aws.Spending(600, fixed_usd, stopped_usd, boot_usd, job_usd)
covered = [fleet.ref for fleet in fleets.values()]
guard = aws.BudgetGuard("models", aws.BudgetGuardArgs(scope, spending, region, covered, alerts.ref), opts)

for name, (_, _, model) in served.items():
    policy = aws.ScalingPolicy(slots=model.slots, wait_target_s=300)
    args = aws.QueueDepthScalerArgs(scope, queues[name].ref, fleets[name].ref, guard.ref, policy, alerts.ref)
    aws.QueueDepthScaler(name, args, opts)
    pulumi.export(f"{name}QueueUrl", queues[name].ref.url)
pulumi.export("budget", guard.outputs["budget"])
