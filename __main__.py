"""GPU inference that scales from zero and cannot outspend its budget: one stack, from its settings to its outputs."""

import pulumi

from components import costs
from components.clouds import load_cloud
from components.settings import Settings

s = Settings.load()
a = s.advanced
cloud = load_cloud(s.cloud)
opts = pulumi.ResourceOptions(provider=cloud.provider(s.cloud, region=s.region, stack=s.stack))
keep = s.is_production or s.stack == "staging"
scope = cloud.Scope(s.stack, s.tags, s.permissions_boundary, protect=keep, log_retention_days=a.log_retention_days)
fixed_usd = costs.fixed_usd_per_month(s.network is None, s.region)
boot_usd = costs.per_boot_usd(s.model.image, s.network is None, s.region)

alerts = cloud.Alerts("inference", cloud.AlertsArgs(scope, emails=s.alert_emails), opts)
network = cloud.Network("inference", cloud.NetworkArgs(scope, existing=s.network, region=s.region), opts)
late = 4 * s.wait_target_seconds
queue_args = cloud.InferenceQueueArgs(scope, late, alerts.ref, a.lease_seconds, a.max_receive_count)
queue = cloud.InferenceQueue("inference", queue_args, opts)
fleet_args = cloud.GpuFleetArgs(
    scope,
    vpc_id=network.vpc_id,
    subnet_ids=network.subnet_ids,
    max_instances=s.max_gpu_instances,
    instance_types=s.gpu_instance_types,
    node=cloud.ModelNode(s.model, queue.ref, lease_s=a.lease_seconds, job_timeout_s=a.job_timeout_seconds),
    spot=s.spot,
    on_demand=s.on_demand_fallback or not s.spot,
    boot_deadline_s=a.boot_deadline_seconds,
    drain_s=s.drain_seconds,
    disk_gb=a.disk_gib,
    ami=s.ami,
    ssm=a.session_manager,
)
fleet = cloud.GpuFleet("inference", fleet_args, opts)
spending = cloud.Spending(s.monthly_budget_usd, fixed_usd, boot_usd, s.budget_warn_percent, s.resume_on_new_month)
guard_args = cloud.BudgetGuardArgs(scope, spending, s.region, [fleet.ref], alerts.ref, emails=s.alert_emails)
guard = cloud.BudgetGuard("inference", guard_args, opts)
policy = cloud.ScalingPolicy(
    s.model.slots, s.wait_target_seconds, a.expected_service_seconds, a.cold_start_seconds, s.floor, s.schedule
)
scaler_args = cloud.QueueDepthScalerArgs(scope, queue.ref, fleet.ref, guard.ref, policy, alerts.ref, a.dry_run)
scaler = cloud.QueueDepthScaler("inference", scaler_args, opts)

for name, value in (queue.outputs | fleet.outputs | guard.outputs | scaler.outputs).items():
    pulumi.export(name, value)
