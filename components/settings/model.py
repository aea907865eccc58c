"""The fields of the settings: types, defaults and the rule of each field alone. Defaults live here and nowhere else.

Scalars are lax, because `pulumi config set` stores every value as a string. Each field carries the words that a user
reads when it is broken, in the reference page and in an editor.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

from .. import promises, sizing
from ..clouds import CLOUDS
from .kinds import (
    DayName,
    Email,
    Flag,
    GpuTypeName,
    Rule,
    SubnetId,
    Word,
    checked_log_days,
    checked_server_args,
    checked_tags,
    checked_time_zone,
    each_once,
    number,
    one_of,
    text,
    whole,
)

HOOK_MARGIN_SECONDS: Final = 60  # between the end of our own work and the end of the hook
HOOK_MAX_SECONDS: Final = 7200  # Auto Scaling: PutLifecycleHook, HeartbeatTimeout (least: 30)
VISIBILITY_MAX_SECONDS: Final = 43_200  # SQS: twelve hours from the receive, extensions do not reset it
_TIME: Final = r"([01][0-9]|2[0-3]):[0-5][0-9]"


class _Frozen(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, protected_namespaces=()
    )


class Model(_Frozen):
    """The model that the fleet serves."""

    weights: Annotated[
        str,
        text(
            r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/([A-Za-z0-9_.=+-]+/)+",
            "must be an S3 prefix: s3://bucket/prefix/, with a slash at its end",
            "for example s3://acme-models/llama-3.1-8b/",
        ),
    ] = Field(description="Where the weights lie in S3; every node copies this prefix at boot.")
    image: Annotated[
        str,
        text(
            r"[a-z0-9]+([._:/-]+[A-Za-z0-9]+)*@sha256:[0-9a-f]{64}",
            "must be a container image by digest: registry/name@sha256:<64 hex digits>",
            "docker buildx imagetools inspect <image> prints the digest",
        ),
    ] = Field(description="The model server's image. In the same region's ECR, pulls are free and quick.")
    server_args: Annotated[
        tuple[Word, ...],
        AfterValidator(checked_server_args),
        Rule("must be a list of words", 'for example ["--max-model-len", "8192"]'),
    ] = Field(default=(), description="Arguments of the model server, one word per entry.")
    slots: Annotated[int, whole(1, 256, "for example 8")] = Field(
        description="Jobs that one instance works on at the same time."
    )
    port: Annotated[int, whole(1024, 65535, "8000 is vLLM's")] = Field(
        default=8000, description="Where the model server answers on its node."
    )
    parameters_billions: Annotated[float, number(0.01, 2000, "for example 8 for an 8B model")] | None = Field(
        default=None, description="Parameters of the model, in billions; if given, it must fit the GPUs' memory."
    )
    dtype: Annotated[str, one_of(tuple(sizing.BYTES_PER_PARAMETER), "data type")] = Field(
        default="bfloat16", description="Data type of the weights; matters only with parametersBillions."
    )


class Window(_Frozen):
    """A time of the week with a floor of its own."""

    days: Annotated[
        tuple[DayName, ...], each_once(1, 7, "must be a list of 1 to 7 weekdays", "[mon, tue, wed, thu, fri]")
    ] = Field(description="Weekdays, mon to sun.")
    start: Annotated[str, text(_TIME, "must be a time from 00:00 to 23:59", "for example 08:00")] = Field(
        alias="from", description="Beginning of the window, local time."
    )
    end: Annotated[str, text(_TIME, "must be a time from 00:00 to 23:59", "for example 18:00")] = Field(
        alias="to", description="End of the window, local time; at or before `from`, it is on the next day."
    )
    time_zone: Annotated[
        str, Rule("must be an IANA time zone", "for example Europe/Berlin", (AfterValidator(checked_time_zone),))
    ] = Field(description="IANA time zone; summer time is followed.")
    floor: Annotated[int, whole(0, 1000, "for example 1")] = Field(
        description="Instances to keep during the window, jobs or not."
    )


class ExistingNetwork(_Frozen):
    """A VPC that exists already."""

    vpc_id: Annotated[
        str, text(r"vpc-([0-9a-f]{8}|[0-9a-f]{17})", "must be a VPC's id", "aws ec2 describe-vpcs lists them")
    ] = Field(description="The VPC.")
    private_subnet_ids: Annotated[
        tuple[SubnetId, ...],
        each_once(1, 20, "must be a list of 1 to 20 subnet ids", "aws ec2 describe-subnets lists them"),
    ] = Field(description="Private subnets with a way out (NAT gateway); several zones find spot capacity sooner.")


class CapacityReservation(_Frozen):
    """A targeted On-Demand Capacity Reservation of EC2 that you made. The fleet's first instances are on-demand and run
    in it: `onDemandBase` counts as `instances` at least. It is counted as spent at the on-demand price all the time,
    used or not, also while the fleet is stopped; instances inside it are not counted twice. Launches find it only if
    one of the fleet's subnets lies in its zone."""

    id: Annotated[
        str,
        text(
            r"cr-([0-9a-f]{8}|[0-9a-f]{17})",
            "must be a Capacity Reservation's id: cr- and 8 or 17 hex digits",
            "aws ec2 describe-capacity-reservations lists them",
        ),
    ] = Field(description="The reservation; it must be made for targeted launches only.")
    instance_type: Annotated[
        GpuTypeName, Rule("must be a GPU instance type of the catalogue", "the reservation's own type")
    ] = Field(description="Its instance type, one of gpuInstanceTypes.")
    instances: Annotated[int, whole(1, 1000, "the reservation's own number")] = Field(
        description="How many instances it holds for this fleet."
    )


class Advanced(_Frozen):
    """Numbers that rarely need a hand. Service time and cold start are learned; learning starts here."""

    expected_service_seconds: Annotated[float, number(0.1, 7_140, "time one job and round it up")] = Field(
        default=20, description="Seconds that one job is expected to take."
    )
    cold_start_seconds: Annotated[float, number(10, 7_140, "launch to first answer, as you measured it")] = Field(
        default=240, description="Seconds from launch to the first job served, as expected."
    )
    job_timeout_seconds: Annotated[int, whole(1, VISIBILITY_MAX_SECONDS, "the longest a good job takes")] = Field(
        default=900, description="A job that takes longer than this is given up and counts as failed."
    )
    boot_deadline_seconds: Annotated[int, whole(60, HOOK_MAX_SECONDS - HOOK_MARGIN_SECONDS, "for example 900")] = Field(
        default=900, description="A node that does not answer after so many seconds is abandoned."
    )
    lease_seconds: Annotated[int, whole(30, 3_600, "120 suits most")] = Field(
        default=120, description="How long a job stays hidden after its worker's last heartbeat (SQS visibility)."
    )
    max_receive_count: Annotated[int, whole(8, 1_000, "10 suits spot instances; the keeper takes up to 6")] = Field(
        default=10,
        description="Receives after which a message goes to the dead letters; interruptions and the keeper count too.",
    )
    disk_gib: Annotated[int, whole(75, 16_384, "image, weights and 75 GiB for the system")] = Field(
        default=150, description="Root volume of a node (gp3), for the system, the image and the weights."
    )
    log_retention_days: Annotated[
        int,
        AfterValidator(checked_log_days),
        Rule("must be a retention that CloudWatch Logs knows", "30 suits most"),
    ] = Field(default=30, description="How long logs are kept, in days.")
    session_manager: Flag = Field(
        default=False,
        description="Operators may open a session on a node through AWS Systems Manager (there is no SSH).",
    )
    dry_run: Flag = Field(default=False, description="The controller only writes down what it would do.")
    reconcile_daily: Flag = Field(
        default=True,
        description="The guard compares its meter with Cost Explorer once a day, for $0.01 a call; what that finds on "
        "top counts as spent.",
    )


class SettingsFields(_Frozen):
    """Every setting of a stack, each checked alone. `reading.Settings` is what programs use."""

    stack: str = Field(exclude=True, description="The stack's name; not a key of the file.")
    cloud: Annotated[str, one_of(tuple(CLOUDS), "cloud")] = Field(description="The cloud to deploy to.")
    region: Annotated[str, Rule("must be a region's name", "for example us-east-1")] = Field(
        description="The region to deploy to. Its key is the provider's own."
    )
    max_gpu_instances: Annotated[int, whole(1, 1000, "for example 2")] = Field(
        description="The cap: the most GPU instances that exist at any time, spot and on-demand together."
    )
    monthly_budget_usd: Annotated[float, number(1, 10_000_000, "for example 150")] = Field(
        description="What a calendar month (UTC) may cost, fixed costs included. The fleet stops before it is spent."
    )
    model: Model = Field(description="The model that the fleet serves.")
    alert_emails: Annotated[
        tuple[Email, ...],
        each_once(0, 10, "must be a list of at most 10 e-mail addresses", "for example [ml-oncall@example.com]"),
    ] = Field(default=(), description="Who is told of warnings, stops and faults. Required in production stacks.")
    gpu_instance_types: Annotated[
        tuple[GpuTypeName, ...],
        each_once(1, 40, "must be a list of 1 to 40 GPU instance types", "for example [g5.xlarge, g6.xlarge]"),
    ] = Field(
        default=("g5.xlarge", "g6.xlarge", "g5.2xlarge", "g6.2xlarge", "g6.4xlarge"),
        description="Types that the fleet may use, all of one GPU count and one CPU architecture. More types find spot "
        "capacity sooner.",
    )
    floor: Annotated[int, whole(0, 1000, "0 scales to zero")] = Field(
        default=0, description="Instances to keep at all times, jobs or not."
    )
    spot: Flag = Field(default=True, description="Use spot instances first.")
    on_demand_fallback: Flag = Field(
        default=True, description="Use on-demand instances for what spot does not deliver, under the same cap."
    )
    on_demand_base: Annotated[int, whole(0, 1000, "0 leaves everything to spot")] = Field(
        default=0,
        description="So many of the wanted instances are on-demand first, also without onDemandFallback; the rest is "
        "spot.",
    )
    capacity_reservation: CapacityReservation | None = Field(
        default=None, description="Capacity that you reserved; the first instances run in it. Spent, used or not."
    )
    wait_target_seconds: Annotated[int, whole(30, 86_400, "for example 300")] = Field(
        default=300,
        description="How long a job should wait at most before it starts; the fleet is sized for it. "
        + promises.IMPATIENCE,
    )
    budget_warn_percent: Annotated[int, whole(1, 99, "for example 80")] = Field(
        default=80, description="Share of the budget at which people are warned, in percent."
    )
    drain_seconds: Annotated[int, whole(30, HOOK_MAX_SECONDS - HOOK_MARGIN_SECONDS, "for example 300")] = Field(
        default=300,
        description="How long a stop lets running jobs finish. A scale-in waits for them, at most the job timeout.",
    )
    schedule: Annotated[tuple[Window, ...], Rule("must be a list of windows", "see docs/configuration.md")] = Field(
        default=(), description="Times of the week with a floor of their own; the highest floor counts."
    )
    network: ExistingNetwork | None = Field(
        default=None, description="An existing VPC to use. Absent: the stack makes its own, with one NAT gateway."
    )
    ami: (
        Annotated[
            str,
            text(
                r"ami-([0-9a-f]{8}|[0-9a-f]{17})",
                "must be an image id: ami- and 8 or 17 hex digits",
                "leave it out to use AWS's current deep-learning image",
            ),
        ]
        | None
    ) = Field(default=None, description="A pinned machine image. Absent: AWS's current deep-learning image.")
    permissions_boundary: (
        Annotated[
            str,
            text(
                r"arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9_+=,.@/-]+",
                "must be the ARN of an IAM policy",
                "for example arn:aws:iam::123456789012:policy/boundary",
            ),
        ]
        | None
    ) = Field(default=None, description="Policy that bounds every role of the stack.")
    tags: Annotated[
        Mapping[str, Word],
        AfterValidator(checked_tags),
        PlainSerializer(dict),
        Rule("must be a map of tags", "for example {cost-center: ml}"),
    ] = Field(default_factory=lambda: MappingProxyType({}), description="Tags of every resource, besides ours.")
    dedicated_account: Flag = Field(
        default=False,
        description="The AWS account holds this stack and nothing else, so what AWS says of the whole account (its "
        "bill, its estimated charges) is this stack's spending too. In a shared account such figures say nothing about "
        "this stack, and none is used.",
    )
    resume_on_new_month: Flag = Field(
        default=True, description="A fleet stopped by its budget resumes on the first of the month (UTC)."
    )
    advanced: Advanced = Field(default_factory=Advanced, description="Numbers that rarely need a hand.")
