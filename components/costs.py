"""What a stack costs beside its GPUs, and how far its budget goes. Pure; USD, us-east-1 list prices times the region.

Each price carries its source. Free tiers are ignored and the longest month counts (31 days), so that nothing is
understated. Storage of results, data transfer out and tax are not covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from . import catalog

if TYPE_CHECKING:
    from .settings import Settings

HOURS_PER_MONTH: Final = 744  # 31 days
SECONDS_PER_MONTH: Final = HOURS_PER_MONTH * 3600
# What has a price a month is charged by the hour, 730 hours to a month (AWS Pricing Calculator): a long month has more.
PRICED_MONTHS: Final = HOURS_PER_MONTH / 730

NAT_GATEWAY_USD_PER_HOUR: Final = 0.045  # aws.amazon.com/vpc/pricing, NAT gateway
NAT_GATEWAY_USD_PER_GB: Final = 0.045  # same page; image pulls from outside the region's ECR pass through it
PUBLIC_IPV4_USD_PER_HOUR: Final = 0.005  # same page; the NAT gateway's address
KMS_KEY_USD_PER_MONTH: Final = 1.00  # aws.amazon.com/kms/pricing, one customer-managed key
ALARM_USD_PER_MONTH: Final = 0.10  # aws.amazon.com/cloudwatch/pricing, standard-resolution alarm
METRIC_USD_PER_MONTH: Final = 0.30  # same page, custom metric, first 10,000
METRIC_USD_PER_WRITE: Final = 0.01 / 1000  # same page, PutMetricData requests
LOGS_USD_PER_GB: Final = 0.50  # same page, ingestion of standard logs
LAMBDA_USD_PER_GB_SECOND: Final = 0.0000133334  # aws.amazon.com/lambda/pricing, arm64
LAMBDA_USD_PER_REQUEST: Final = 0.20 / 1e6  # same page
SQS_USD_PER_REQUEST: Final = 0.40 / 1e6  # aws.amazon.com/sqs/pricing, standard queue
DYNAMODB_USD_PER_WRITE: Final = 0.625 / 1e6  # aws.amazon.com/dynamodb/pricing/on-demand, write request unit
DYNAMODB_USD_PER_READ: Final = 0.125 / 1e6  # same page, read request unit
S3_USD_PER_PUT: Final = 0.005 / 1000  # aws.amazon.com/s3/pricing, PUT requests, standard storage
COST_EXPLORER_USD_PER_REQUEST: Final = 0.01  # aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing
GP3_USD_PER_GIB_MONTH: Final = 0.08  # aws.amazon.com/ebs/pricing, gp3 with its base speed
EBS_HOURS_PER_MONTH: Final = 720  # the same page reckons the gp3 price by seconds of a 30-day month

LOOKS_PER_MINUTE: Final = 6  # the controller looks at the queue every ten seconds
OVERLAP: Final = 1.1  # a run of the controller goes on until the next one has taken over
# The controller's process takes 57 MiB (measured: Python 3.13, four clients, sixty runs of twelve looks over TLS, ten
# nodes and a hundred rows of departed ones; it does not grow). Lambda's own share is about 25: a boto3 function with
# one client reports 69 MB, the same imports take 45. 128 MB is the least that Lambda gives, with 7 % of a processor
# (1,769 MB are one: Lambda developer guide, "Configure Lambda function memory"): a look takes 0.3 s of it, making the
# clients in a new environment about 8 s, during which the run before goes on looking.
CONTROLLER_MIB: Final = 128
GUARD_MIB: Final = 256
# One run a minute: seven calls one after the other, 20 to 200 ms each, and 0.13 s of its own (measured over the wire
# with ten nodes: 18 ms of a whole processor at p99, and 72 MiB; here it has a seventh of one). Fired every minute, its
# environment stays warm: clients are made once a day. (1 s more: $0.15 a month.)
GUARD_SECONDS_PER_RUN: Final = 1
STOPPED_SECONDS_PER_RUN: Final = 1  # of the controller, which looks once and ends while its fleet is stopped
TABLE_READS_PER_LOOK: Final = 4  # request units: latch, budget and the controller's row; heartbeats once a run
TABLE_WRITES_PER_RUN: Final = 6  # the lease and the state: 4 in all at rest, 2 more with a learned week, 8 under load
GUARD_TABLE_UNITS: Final = 6  # reads, and as many writes: of these 3 at rest, 5.5 with ten nodes that come and go
LOG_BYTES_PER_RUN: Final = 1000  # one line of its own, three of Lambda's
CONTROLLER_ALARMS: Final = (
    7  # of ALARMS: its errors, dead letters and silence, hung fleet, failed boots; backstop (two)
)
ALARMS: Final = 15  # metrics that the alarms of a stack read, at most: each is charged as an alarm
BILLING_REGION: Final = "us-east-1"  # the one region with AWS/Billing's metrics: one alarm more, in a dedicated account
CONTROLLER_METRICS: Final = 3  # of METRICS
METRICS: Final = 5  # custom metrics the functions publish all the time; Unattended and DoubtfulPrices are rare and
# charged only for the hours in which they are there

# A job on its way (bootstrap/inference_worker, lambda/fleet_control/aws/queue_keeper.py), rounded up. To the queue:
# send, receive, delete, an extension each 40 s of work, and of the keeper's four requests a tenth each. To the table:
# claim, terminal status, an extension each 40 s of work; rows are below 1 KB. To the bucket: the result. Through the
# NAT gateway, which table and bucket do not need: three calls to the queue, 3 KB each with headers and TLS, and a body
# of 11 KB. (For each 64 KB more of a body SQS counts a request more, at send and at receive.)
JOB_QUEUE_REQUESTS: Final = 5
JOB_TABLE_WRITES: Final = 3
JOB_STORE_WRITES: Final = 1
JOB_NAT_GB: Final = 20e-6

# A node (bootstrap/inference_worker), whatever it works on: the longest poll of a busy one, its heartbeat row (below
# 1 KB), its watchdog's look at the allowance.
NODE_POLL_SECONDS: Final = 10
NODE_BEAT_SECONDS: Final = 10
NODE_LOOK_SECONDS: Final = 30

# From the decision to stop to the end of a node, beside its drain (fleet_control.spend_law: ALLOWANCE_S, LEAVING_S).
ALLOWANCE_SECONDS: Final = 600
LEAVING_SECONDS: Final = 150

LOCAL_IMAGE_GB: Final = 0.5  # what still passes the NAT gateway at a boot with the image in the region's ECR
FOREIGN_IMAGE_GB: Final = 15.0  # a model server's image (vLLM: about 10 GB compressed), pulled from elsewhere


class ReservationLike(Protocol):
    """Capacity that is paid whether used or not: `instances` of one type in the Capacity Reservation `id`."""

    @property
    def id(self) -> str: ...
    @property
    def instance_type(self) -> str: ...
    @property
    def instances(self) -> int: ...


@dataclass(frozen=True)
class FixedCost:
    """One thing that costs money every month whether or not a job runs."""

    what: str
    usd_per_month: float


def fixed_costs(
    own_network: bool,
    region: str,
    *,
    dedicated_account: bool = False,
    reconcile_daily: bool = True,
    stopped: bool = False,
) -> tuple[FixedCost, ...]:
    """The monthly costs of a stack that is at rest, item by item, in USD.

    `own_network`: the stack makes its own VPC with one NAT gateway (otherwise that is somebody else's cost).
    `dedicated_account`: where AWS publishes the account's estimated charges, an alarm watches them.
    `reconcile_daily`: the guard asks Cost Explorer once a day. `stopped`: the fleet is, all month.
    """
    charges = charges_alarm(dedicated_account, region)
    items = [(what, usd + rest) for what, usd, rest in _functions(ALARMS + charges, stopped)]
    if own_network:
        items.append(("NAT gateway", HOURS_PER_MONTH * NAT_GATEWAY_USD_PER_HOUR))
        items.append(("NAT gateway's public address", HOURS_PER_MONTH * PUBLIC_IPV4_USD_PER_HOUR))
    factor = catalog.region_factor(region)
    found = [FixedCost(what, usd * factor) for what, usd in items]
    if reconcile_daily:
        days = HOURS_PER_MONTH / 24
        found.append(FixedCost("Cost Explorer, once a day", days * COST_EXPLORER_USD_PER_REQUEST))
    return tuple(found)


def charges_alarm(dedicated_account: bool, region: str) -> bool:
    """Whether a stack has the alarm on the account's estimated charges: they say something about it, and are there."""
    return dedicated_account and region == BILLING_REGION


def _functions(every_alarm: int = ALARMS, stopped: bool = False) -> list[tuple[str, float, float]]:
    """What the functions and what belongs to them cost at rest: the controller's part, and everything else's."""
    minutes = SECONDS_PER_MONTH / 60
    looks = minutes * (1 if stopped else LOOKS_PER_MINUTE)
    guard_s = minutes * GUARD_SECONDS_PER_RUN
    unit = DYNAMODB_USD_PER_READ + DYNAMODB_USD_PER_WRITE
    tables = looks * TABLE_READS_PER_LOOK * DYNAMODB_USD_PER_READ
    tables += minutes * TABLE_WRITES_PER_RUN * DYNAMODB_USD_PER_WRITE
    logs = minutes * LOG_BYTES_PER_RUN / 1e9 * LOGS_USD_PER_GB
    starts, writes = minutes * LAMBDA_USD_PER_REQUEST, minutes * METRIC_USD_PER_WRITE
    seconds = minutes * STOPPED_SECONDS_PER_RUN if stopped else SECONDS_PER_MONTH * OVERLAP
    running = seconds * CONTROLLER_MIB / 1024 * LAMBDA_USD_PER_GB_SECOND
    alarms, metrics = every_alarm - CONTROLLER_ALARMS, METRICS - CONTROLLER_METRICS
    alarm, metric = ALARM_USD_PER_MONTH * PRICED_MONTHS, METRIC_USD_PER_MONTH * PRICED_MONTHS
    return [
        ("controller function, always running", running, 0.0),
        ("guard function, once a minute", 0.0, guard_s * GUARD_MIB / 1024 * LAMBDA_USD_PER_GB_SECOND),
        ("function starts", starts, starts),
        ("queue reads", looks * SQS_USD_PER_REQUEST, 0.0),
        ("tables", tables, minutes * GUARD_TABLE_UNITS * unit),
        ("logs", logs, logs),
        ("alarms", CONTROLLER_ALARMS * alarm, alarms * alarm),
        ("metrics", CONTROLLER_METRICS * metric, metrics * metric),
        ("metric writes", writes, writes),
        ("encryption key", 0.0, KMS_KEY_USD_PER_MONTH * PRICED_MONTHS),
    ]


def controller_usd_per_month(region: str) -> float:
    """What the controller of one fleet at rest costs per month in USD, with everything that is there for it alone."""
    return sum(usd for _, usd, _ in _functions()) * catalog.region_factor(region)


def fixed_usd_per_month(
    own_network: bool,
    region: str,
    *,
    dedicated_account: bool = False,
    reconcile_daily: bool = True,
    stopped: bool = False,
) -> float:
    """What a stack at rest costs per month in USD: the sum of `fixed_costs`."""
    items = fixed_costs(
        own_network, region, dedicated_account=dedicated_account, reconcile_daily=reconcile_daily, stopped=stopped
    )
    return sum(item.usd_per_month for item in items)


def reserved_usd_per_month(reservation: ReservationLike | None, region: str) -> float:
    """What a Capacity Reservation costs in a month of 31 days, used or not, in USD; 0 for none.

    EC2 bills reserved capacity at the on-demand price, unused or with an instance in it, by the second (EC2 user guide,
    "Capacity Reservation pricing and billing").
    """
    if reservation is None:
        return 0.0
    hour = reservation.instances * catalog.on_demand_usd_per_hour(reservation.instance_type, region)
    return hour * HOURS_PER_MONTH


def nat_usd_per_gb(region: str) -> float:
    """USD per GB that a NAT gateway processes, in either direction."""
    return NAT_GATEWAY_USD_PER_GB * catalog.region_factor(region)


def node_requests_usd_per_hour(region: str) -> float:
    """What a node's own requests cost per hour in USD, whatever it works on."""
    queue = 3600 / NODE_POLL_SECONDS * SQS_USD_PER_REQUEST
    table = 3600 / NODE_BEAT_SECONDS * DYNAMODB_USD_PER_WRITE + 3600 / NODE_LOOK_SECONDS * DYNAMODB_USD_PER_READ
    return (queue + table) * catalog.region_factor(region)


def disk_usd_per_hour(disk_gib: int, region: str) -> float:
    """USD per hour of one instance's gp3 root volume of `disk_gib` GiB."""
    return disk_gib * GP3_USD_PER_GIB_MONTH / EBS_HOURS_PER_MONTH * catalog.region_factor(region)


def per_boot_usd(image: str, own_network: bool, region: str) -> float:
    """An upper estimate of what one boot costs beside the instance's own seconds: bytes through the NAT gateway.

    Images in the same region's ECR come over the free S3 endpoint; any other image passes the NAT gateway whole.
    """
    if not own_network:
        return 0.0
    local = re.match(rf"\d{{12}}\.dkr\.ecr\.{re.escape(region)}\.", image) is not None
    gigabytes = LOCAL_IMAGE_GB if local else FOREIGN_IMAGE_GB
    return gigabytes * NAT_GATEWAY_USD_PER_GB * catalog.region_factor(region)


def per_job_usd(own_network: bool, region: str) -> float:
    """What one job costs beside the seconds of its instance, in USD, estimated: $0.0000098 with a network of the
    stack's own in us-east-1, so about $10 a million.

    Requests to the queue 5 x 0.40, to the table 3 x 0.625, to the results 1 x 5.00, all per million, and 20 KB through
    the NAT gateway, 0.90 per million. A job of average length is meant: one of 15 minutes extends its lease 22 times,
    $0.00002 beside $0.03 of GPU time. What a node asks for whether or not it has a job is `node_requests_usd_per_hour`.
    """
    usd = JOB_QUEUE_REQUESTS * SQS_USD_PER_REQUEST + JOB_TABLE_WRITES * DYNAMODB_USD_PER_WRITE
    usd += JOB_STORE_WRITES * S3_USD_PER_PUT
    if own_network:
        usd += JOB_NAT_GB * NAT_GATEWAY_USD_PER_GB
    return usd * catalog.region_factor(region)


def fixed_usd_of(settings: Settings, *, stopped: bool = False) -> float:
    """`fixed_usd_per_month` of the stack with these settings."""
    return fixed_usd_per_month(
        settings.network is None,
        settings.region,
        dedicated_account=settings.dedicated_account,
        reconcile_daily=settings.advanced.reconcile_daily,
        stopped=stopped,
    )


def idle_usd_per_month(settings: Settings) -> float:
    """What a stack costs in a month of 31 days if nothing ever runs, in USD: fixed costs and reserved capacity."""
    return fixed_usd_of(settings) + reserved_usd_per_month(settings.capacity_reservation, settings.region)


def dearest_usd_per_hour(settings: Settings) -> float:
    """USD per hour of one instance of the dearest type of the list on demand, with its disk."""
    _, usd = catalog.dearest(settings.gpu_instance_types, settings.region)
    return usd + disk_usd_per_hour(settings.advanced.disk_gib, settings.region)


def full_load_usd_per_hour(settings: Settings) -> float:
    """USD per hour, beyond `idle_usd_per_month`, with every instance of the cap running the dearest type of the list on
    demand, disks included. What runs in reserved capacity adds its disk alone."""
    reserved = settings.capacity_reservation.instances if settings.capacity_reservation else 0
    disk = disk_usd_per_hour(settings.advanced.disk_gib, settings.region)
    return (settings.max_gpu_instances - reserved) * dearest_usd_per_hour(settings) + reserved * disk


def full_load_usd_per_month(settings: Settings) -> float:
    """What a month of 31 days costs at most, in USD: all of `full_load_usd_per_hour` in every hour of it."""
    return idle_usd_per_month(settings) + HOURS_PER_MONTH * full_load_usd_per_hour(settings)


def stopping_usd(settings: Settings) -> float:
    """What it costs at most to stop the whole cap while it works, in USD: each instance's drain, the rest of its
    allowance and its leaving; and as much again at the dearest price and a boot, as its group may have replaced it
    meanwhile (`committed` in docs/budget.md)."""
    cap, hours = settings.max_gpu_instances, (settings.drain_seconds + ALLOWANCE_SECONDS + LEAVING_SECONDS) / 3600
    boot = per_boot_usd(settings.model.image, settings.network is None, settings.region)
    hourly = full_load_usd_per_hour(settings) + cap * dearest_usd_per_hour(settings)
    hourly += 2 * cap * node_requests_usd_per_hour(settings.region)
    return hourly * hours + cap * boot


def least_budget_usd(settings: Settings) -> float:
    """The least monthly budget that the settings accept, in USD: what a month costs if nothing runs, and one hour of
    the dearest type or a stop of the whole cap, whichever is more."""
    return idle_usd_per_month(settings) + max(dearest_usd_per_hour(settings), stopping_usd(settings))


def days_at_full_load(settings: Settings) -> float:
    """How many days of a month the budget lasts at full load; 31 if it outlasts the longest month."""
    for_gpus = settings.monthly_budget_usd - idle_usd_per_month(settings)
    return max(0.0, min(31.0, for_gpus / full_load_usd_per_hour(settings) / 24))
