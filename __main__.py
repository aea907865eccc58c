"""GPU inference that scales from zero and cannot outspend its budget: settings, then components, then outputs."""

from datetime import UTC, datetime

import pulumi

from components import costs, promises
from components.clouds import load_cloud
from components.settings import Settings

s = Settings.load()  # frozen, or every fault of the stack file at once
a = s.advanced
promises.warn(s, datetime.now(UTC).date())  # what is asked for and cannot be kept, at preview and up
cloud = load_cloud(s.cloud)
opts = pulumi.ResourceOptions(provider=cloud.provider(s.cloud, region=s.region, stack=s.stack))
matters = s.is_production or s.stack == "staging"
scope = cloud.Scope(s.stack, s.tags, s.permissions_boundary, protect=matters, log_retention_days=a.log_retention_days)
spending = cloud.Spending(
    monthly_usd=s.monthly_budget_usd,
    fixed_usd_per_month=costs.fixed_usd_of(s),
    stopped_usd_per_month=costs.fixed_usd_of(s, stopped=True),
    per_boot_usd=costs.per_boot_usd(s.model.image, s.network is None, s.region),
    per_job_usd=costs.per_job_usd(s.network is None, s.region),
    warn_percent=s.budget_warn_percent,
    resume_on_new_month=s.resume_on_new_month,
    dedicated_account=s.dedicated_account,
    reconcile_daily=a.reconcile_daily,
)
patience = cloud.ScalingPolicy(
    s.model.slots,
    s.wait_target_seconds,
    a.expected_service_seconds,
    a.cold_start_seconds,
    s.floor,
    s.schedule,
    on_demand_base=s.on_demand_first,
    on_demand_fallback=s.on_demand_fallback,
)

alerts = cloud.Alerts("inference", cloud.AlertsArgs(scope, s.alert_emails), opts)
network = cloud.Network("inference", cloud.NetworkArgs(scope, s.network, region=s.region), opts)
late_s = 4 * s.wait_target_seconds
jobs = cloud.InferenceQueueArgs(scope, late_s, alerts.ref, a.lease_seconds, a.max_receive_count)
queue = cloud.InferenceQueue("inference", jobs, opts)
node = cloud.ModelNode(s.model, queue.ref, lease_s=a.lease_seconds, job_timeout_s=a.job_timeout_seconds)
instances = cloud.GpuFleetArgs(
    scope,
    vpc_id=network.vpc_id,
    subnet_ids=network.subnet_ids,
    max_instances=s.max_gpu_instances,
    instance_types=s.gpu_instance_types,
    node=node,
    spot=s.spot,
    on_demand=s.uses_on_demand,
    reservation=s.capacity_reservation,
    boot_deadline_s=a.boot_deadline_seconds,
    drain_s=s.drain_seconds,
    disk_gb=a.disk_gib,
    ami=s.ami,
    ssm=a.session_manager,
)
fleet = cloud.GpuFleet("inference", instances, opts)
ways_out = network.nat_gateway_ids
money = cloud.BudgetGuardArgs(scope, spending, s.region, [fleet.ref], alerts.ref, s.alert_emails, ways_out)
guard = cloud.BudgetGuard("inference", money, opts)
scaling = cloud.QueueDepthScalerArgs(scope, queue.ref, fleet.ref, guard.ref, patience, alerts.ref, a.dry_run)
scaler = cloud.QueueDepthScaler("inference", scaling, opts)

for name, value in (queue.outputs | fleet.outputs | guard.outputs | scaler.outputs).items():
    pulumi.export(name, value)
