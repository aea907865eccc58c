"""What a stack costs beside its GPUs, and how far its budget goes. Pure; USD, us-east-1 list prices times the region.

Each price carries its source. Free tiers are ignored and the longest month counts (31 days), so that nothing is
understated. Storage of results, data transfer out and tax are not covered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from . import catalog

if TYPE_CHECKING:
    from .settings import Settings

HOURS_PER_MONTH: Final = 744  # 31 days
SECONDS_PER_MONTH: Final = HOURS_PER_MONTH * 3600

NAT_GATEWAY_USD_PER_HOUR: Final = 0.045  # aws.amazon.com/vpc/pricing, NAT gateway
NAT_GATEWAY_USD_PER_GB: Final = 0.045  # same page; image pulls from outside the region's ECR pass through it
PUBLIC_IPV4_USD_PER_HOUR: Final = 0.005  # same page; the NAT gateway's address
KMS_KEY_USD_PER_MONTH: Final = 1.00  # aws.amazon.com/kms/pricing, one customer-managed key
ALARM_USD_PER_MONTH: Final = 0.10  # aws.amazon.com/cloudwatch/pricing, standard-resolution alarm
METRIC_USD_PER_MONTH: Final = 0.30  # same page, custom metric, first 10,000
LOGS_USD_PER_GB: Final = 0.50  # same page, ingestion of standard logs
LAMBDA_USD_PER_GB_SECOND: Final = 0.0000133334  # aws.amazon.com/lambda/pricing, arm64
LAMBDA_USD_PER_REQUEST: Final = 0.20 / 1e6  # same page
SQS_USD_PER_REQUEST: Final = 0.40 / 1e6  # aws.amazon.com/sqs/pricing, standard queue
DYNAMODB_USD_PER_WRITE: Final = 0.625 / 1e6  # aws.amazon.com/dynamodb/pricing/on-demand, write request unit
DYNAMODB_USD_PER_READ: Final = 0.125 / 1e6  # same page, read request unit
GP3_USD_PER_GIB_MONTH: Final = 0.08  # aws.amazon.com/ebs/pricing, gp3 with its base speed
EBS_HOURS_PER_MONTH: Final = 720  # the same page reckons the gp3 price by seconds of a 30-day month

LOOKS_PER_MINUTE: Final = 6  # the controller looks at the queue every ten seconds
OVERLAP: Final = 1.1  # a run of the controller goes on until the next one has taken over
CONTROLLER_MIB: Final = 256
GUARD_SECONDS_PER_RUN: Final = 5  # one run a minute; most take one or two seconds
LOG_BYTES_PER_LOOK: Final = 1000
ALARMS: Final = 11  # alarms a stack creates, at most
METRICS: Final = 10  # custom metrics the functions publish, at most

LOCAL_IMAGE_GB: Final = 0.5  # what still passes the NAT gateway at a boot with the image in the region's ECR
FOREIGN_IMAGE_GB: Final = 15.0  # a model server's image (vLLM: about 10 GB compressed), pulled from elsewhere


@dataclass(frozen=True)
class FixedCost:
    """One thing that costs money every month whether or not a job runs."""

    what: str
    usd_per_month: float


def fixed_costs(own_network: bool, region: str) -> tuple[FixedCost, ...]:
    """The monthly costs of a stack that is at rest, item by item, in USD.

    `own_network`: the stack makes its own VPC with one NAT gateway (otherwise that is somebody else's cost).
    """
    minutes = SECONDS_PER_MONTH / 60
    looks = minutes * LOOKS_PER_MINUTE
    gib = CONTROLLER_MIB / 1024
    items = [
        ("controller function, always running", SECONDS_PER_MONTH * OVERLAP * gib * LAMBDA_USD_PER_GB_SECOND),
        ("guard function, once a minute", minutes * GUARD_SECONDS_PER_RUN * gib * LAMBDA_USD_PER_GB_SECOND),
        ("function starts", 2 * minutes * LAMBDA_USD_PER_REQUEST),
        ("queue reads", looks * SQS_USD_PER_REQUEST),
        ("tables", looks * (2 * DYNAMODB_USD_PER_WRITE + 4 * DYNAMODB_USD_PER_READ)),
        ("logs", looks * LOG_BYTES_PER_LOOK / 1e9 * LOGS_USD_PER_GB),
        ("alarms", ALARMS * ALARM_USD_PER_MONTH),
        ("metrics", METRICS * METRIC_USD_PER_MONTH),
        ("encryption key", KMS_KEY_USD_PER_MONTH),
    ]
    if own_network:
        items.append(("NAT gateway", HOURS_PER_MONTH * NAT_GATEWAY_USD_PER_HOUR))
        items.append(("NAT gateway's public address", HOURS_PER_MONTH * PUBLIC_IPV4_USD_PER_HOUR))
    factor = catalog.region_factor(region)
    return tuple(FixedCost(what, usd * factor) for what, usd in items)


def fixed_usd_per_month(own_network: bool, region: str) -> float:
    """What a stack at rest costs per month in USD: the sum of `fixed_costs`."""
    return sum(item.usd_per_month for item in fixed_costs(own_network, region))


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


def full_load_usd_per_hour(settings: Settings) -> float:
    """USD per hour with every instance of the cap running the dearest type of the list on demand, disks included."""
    _, usd = catalog.dearest(settings.gpu_instance_types, settings.region)
    return settings.max_gpu_instances * (usd + disk_usd_per_hour(settings.advanced.disk_gib, settings.region))


def days_at_full_load(settings: Settings) -> float:
    """How many days of a month the budget lasts at full load; 31 if it outlasts the longest month."""
    for_gpus = settings.monthly_budget_usd - fixed_usd_per_month(settings.network is None, settings.region)
    return max(0.0, min(31.0, for_gpus / full_load_usd_per_hour(settings) / 24))
