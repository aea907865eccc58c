"""The twin's own price list, in US dollars. Kept apart from the catalogue on purpose: the meter is judged against it.

us-east-1, Linux, shared tenancy. On-demand: AWS price list of 2026-07-20 (as packaged in karpenter-provider-aws,
pkg/providers/pricing/zz_generated.pricing_aws.go). The rest: the AWS pricing pages of each service. Free tiers are left
out: a bill that uses them up says nothing about a month of its own.
"""

from __future__ import annotations

from .errors import NotModelledError

PRICE_LIST_DATE = "2026-07-20"
ON_DEMAND_USD_PER_HOUR: dict[str, float] = {
    "g4dn.xlarge": 0.526,
    "g4dn.2xlarge": 0.752,
    "g4dn.4xlarge": 1.204,
    "g4dn.8xlarge": 2.176,
    "g4dn.12xlarge": 3.912,
    "g5.xlarge": 1.006,
    "g5.2xlarge": 1.212,
    "g5.4xlarge": 1.624,
    "g5.8xlarge": 2.448,
    "g5.12xlarge": 5.672,
    "g5.16xlarge": 4.096,
    "g5.24xlarge": 8.144,
    "g5.48xlarge": 16.288,
    "g5g.xlarge": 0.42,
    "g6.xlarge": 0.8048,
    "g6.2xlarge": 0.9776,
    "g6.4xlarge": 1.3232,
    "g6.8xlarge": 2.0144,
    "g6.12xlarge": 4.6016,
    "g6.16xlarge": 3.3968,
    "g6.24xlarge": 6.6752,
    "g6.48xlarge": 13.3504,
    "g6e.xlarge": 1.861,
    "g6e.2xlarge": 2.24208,
    "g6e.4xlarge": 3.00424,
    "g6e.8xlarge": 4.52856,
    "g6e.12xlarge": 10.49264,
    "g6e.48xlarge": 30.13118,
    "g7.2xlarge": 2.52,
    "g7.4xlarge": 3.04208,
    "g7.8xlarge": 4.08624,
    "g7.12xlarge": 7.12832,
    "g7.48xlarge": 28.51328,
    "g7e.2xlarge": 3.36312,
    "g7e.4xlarge": 3.99816,
    "g7e.8xlarge": 5.26824,
    "g7e.12xlarge": 8.28608,
    "g7e.48xlarge": 33.14432,
    "p5.4xlarge": 6.88,
}

# aws.amazon.com/ebs/pricing: gp3 per GB-month; IOPS above 3000 and MiB/s above 125 per month. Months of 30 days, by
# the second ("86,400 seconds/day * 30-day month" in that page's example).
GP3_USD_PER_GB_MONTH = 0.08
GP3_USD_PER_IOPS_MONTH = 0.005
GP3_USD_PER_MIBPS_MONTH = 0.04
GP3_FREE_IOPS = 3000
GP3_FREE_MIBPS = 125

MONTH_HOURS = 730.0  # how AWS turns a monthly price of keys, alarms and metrics into hours
NAT_USD_PER_HOUR = 0.045  # aws.amazon.com/vpc/pricing, each hour begun
PUBLIC_IPV4_USD_PER_HOUR = 0.005  # same page, each public address since 2024-02-01; a NAT gateway has one
KMS_KEY_USD_PER_MONTH = 1.0  # aws.amazon.com/kms/pricing, each customer key, by the hour
ALARM_USD_PER_MONTH = 0.10  # aws.amazon.com/cloudwatch/pricing, each metric of a standard alarm, by the hour


# Requests and what else is charged by use, dollars for each unit.
NAT_USD_PER_GB = 0.045  # aws.amazon.com/vpc/pricing, data processed by a NAT gateway, either way
LAMBDA_USD_PER_REQUEST = 0.20 / 1e6  # aws.amazon.com/lambda/pricing
LAMBDA_USD_PER_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}  # same page, first tier
DYNAMODB_USD_PER_READ = 0.125 / 1e6  # aws.amazon.com/dynamodb/pricing/on-demand, read request unit
DYNAMODB_USD_PER_WRITE = 0.625 / 1e6  # same page, write request unit
SQS_USD_PER_REQUEST = 0.40 / 1e6  # aws.amazon.com/sqs/pricing, standard queues
S3_USD_PER_PUT = 0.005 / 1e3  # aws.amazon.com/s3/pricing, PUT, COPY, POST, LIST
S3_USD_PER_GET = 0.0004 / 1e3  # same page, GET and all others
CLOUDWATCH_USD_PER_REQUEST = 0.01 / 1e3  # aws.amazon.com/cloudwatch/pricing, PutMetricData; a metric of GetMetricData
METRIC_USD_PER_MONTH = 0.30  # same page, custom metric, first 10,000; by the hour in which it is sent
LOGS_USD_PER_GB = 0.50  # same page, ingestion of standard logs
COST_EXPLORER_USD_PER_REQUEST = 0.01  # aws.amazon.com/aws-cost-management/aws-cost-explorer/pricing, each page asked

# What an account elsewhere pays, as a multiple of us-east-1: round numbers of the twin's own, near AWS's list prices of
# g5 there. Only us-east-1 is to the cent.
REGION_MULTIPLES: dict[str, float] = {
    "ap-northeast-1": 1.45,
    "ap-south-1": 1.20,
    "ap-southeast-2": 1.30,
    "ca-central-1": 1.11,
    "eu-central-1": 1.25,
    "eu-north-1": 1.06,
    "eu-west-1": 1.11,
    "eu-west-2": 1.26,
    "us-east-1": 1.0,
    "us-east-2": 1.0,
    "us-west-2": 1.0,
}


def on_demand(instance_type: str) -> float:
    """On-demand dollars per hour of `instance_type`. Raises `NotModelledError` for a type that has no price here."""
    try:
        return ON_DEMAND_USD_PER_HOUR[instance_type]
    except KeyError:
        raise NotModelledError(f"the twin has no price for the instance type {instance_type}") from None


def multiple(region: str) -> float:
    """What `region` costs relative to us-east-1; 1 for a region that has no multiple here."""
    return REGION_MULTIPLES.get(region, 1.0)
