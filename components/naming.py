"""Every name a stack gives to something in the cloud, in one place: `{component}-{kind}-{stack}`. Pure.

Operators type these names, so they are plain and stable. A name that is too long for its service keeps its beginning
and ends in six characters of a hash of the whole; a stack name with characters that a service refuses is rewritten
and gets the same tail, so that two stacks never share a name.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

STACK_TAG: Final = "gpu-inference-stack"
COMPONENT_TAG: Final = "gpu-inference-component"
MANAGED_BY_TAG: Final = "managed-by"
FLEET_TAG: Final = "gpu-inference-fleet"
RESERVED_TAGS: Final = frozenset({STACK_TAG, COMPONENT_TAG, MANAGED_BY_TAG, FLEET_TAG})

# One limit for all: 64 characters is what the strictest services allow (Lambda functions, IAM roles, EventBridge rules;
# SQS 80, AWS Budgets 100, launch templates 128, the rest 255 or more). Only S3 is stricter: 63, less the 26 characters
# that the provider appends to a bucket prefix.
MAX_NAME: Final = 64
MAX_BUCKET_PREFIX: Final = 37

_COMPONENT = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_ON_DEMAND = "-on-demand"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _fit(name: str, limit: int) -> str:
    return name if len(name) <= limit else f"{name[: limit - 7].rstrip('-')}-{_hash(name)}"


def _plain(stack: str) -> str:
    """The stack's name in letters, digits and hyphens; with a hash tail if it had to be rewritten."""
    plain = re.sub(r"-{2,}", "-", re.sub(r"[^A-Za-z0-9-]", "-", stack)).strip("-")
    return stack if plain == stack else f"{plain}-{_hash(stack)}".lstrip("-")


@dataclass(frozen=True)
class Names:
    """The names of one component in one stack, for example `Names("inference", "dev")`.

    Raises ValueError for a component that is not lower-case letters, digits and single hyphens (40 at most), an empty
    stack name, or one that ends in `-on-demand` (its spot group would have the name of another stack's
    on-demand group).
    """

    component: str
    stack: str

    def __post_init__(self) -> None:
        if not _COMPONENT.fullmatch(self.component) or len(self.component) > 40:
            raise ValueError(
                f"component name {self.component!r}: use lower-case letters, digits and single hyphens, 40 at most"
            )
        if not self.stack:
            raise ValueError("the stack's name is empty: give it one, for example dev")
        if self.stack.endswith(_ON_DEMAND):
            raise ValueError(f"stack name {self.stack!r}: must not end in {_ON_DEMAND}, which on-demand groups end in")

    def name(self, kind: str) -> str:
        """`{component}-{kind}-{stack}`, at most 64 characters long."""
        return _fit(f"{self.component}-{kind}-{_plain(self.stack)}", MAX_NAME)

    @property
    def fleet(self) -> str:
        """What tells this fleet from all others: the value of the fleet tag, for example `inference-dev`."""
        return _fit(f"{self.component}-{_plain(self.stack)}", MAX_NAME)

    @property
    def queue(self) -> str:
        """The SQS queue that jobs wait on."""
        return self.name("queue")

    @property
    def dead_letters(self) -> str:
        """The SQS queue of messages that could not be worked."""
        return self.name("dlq")

    @property
    def jobs_table(self) -> str:
        """The DynamoDB table of jobs, worker heartbeats and allowances."""
        return self.name("jobs")

    @property
    def control_table(self) -> str:
        """The DynamoDB table of the latch, the ledger and the scaler's state."""
        return self.name("control")

    @property
    def results_bucket_prefix(self) -> str:
        """The beginning of the result bucket's name, with a hyphen at its end; S3 names are global and lower-case."""
        name = self.name("results")
        lower = name if name == name.lower() else f"{name.lower()}-{_hash(name)}"
        return _fit(lower, MAX_BUCKET_PREFIX - 1) + "-"

    @property
    def spot_group(self) -> str:
        """The Auto Scaling group of spot instances."""
        return self.name("asg")

    @property
    def on_demand_group(self) -> str:
        """The Auto Scaling group of on-demand instances."""
        return self.spot_group + _ON_DEMAND

    @property
    def launch_hook(self) -> str:
        """The launch lifecycle hook, of the same name on both groups."""
        return f"{self.component}-launch-hook"

    @property
    def terminate_hook(self) -> str:
        """The terminate lifecycle hook, of the same name on both groups."""
        return f"{self.component}-terminate-hook"

    @property
    def launch_template(self) -> str:
        """The launch template of the nodes."""
        return self.name("node")

    @property
    def controller(self) -> str:
        """The function that scales the fleet."""
        return self.function("controller")

    @property
    def scale_to_zero(self) -> str:
        """The function that meters the spend and stops the fleet: the guard."""
        return self.function("scale-to-zero")

    @property
    def keeper(self) -> str:
        """The function that re-sends old messages before their retention ends."""
        return self.function("keeper")

    @property
    def alerts_topic(self) -> str:
        """The SNS topic that tells people."""
        return self.name("alerts")

    @property
    def budget_topic(self) -> str:
        """The SNS topic from the AWS Budget to the guard."""
        return self.name("budget")

    @property
    def budget(self) -> str:
        """The AWS Budget."""
        return self.name("budget")

    def function(self, kind: str) -> str:
        """A Lambda function: `kind` is `controller`, `scale-to-zero` or `keeper`."""
        return self.name(kind)

    def function_dead_letters(self, kind: str) -> str:
        """The SQS queue of events that function `kind` failed on."""
        return self.name(f"{kind}-dlq")

    def log_group(self, kind: str) -> str:
        """The log group that Lambda writes function `kind`'s output to."""
        return f"/aws/lambda/{self.function(kind)}"

    def schedule(self, kind: str) -> str:
        """The EventBridge rule that fires function `kind`."""
        return self.name(kind)

    def events(self, kind: str) -> str:
        """The EventBridge rule that hands events to a function: `kind` is `instance-states`."""
        return self.name(kind)

    def role(self, thing: str) -> str:
        """An IAM role: `thing` is `node`, `controller`, `scale-to-zero` or `keeper`."""
        return self.name(thing)

    def alarm(self, alarm: str) -> str:
        """A CloudWatch alarm."""
        return self.name(alarm)

    def tags(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The tags of every resource: `extra` (the user's), then ours, which win. A new dict each time."""
        return {**(extra or {}), **tags(self.stack, self.component)}

    def fleet_tags(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The tags of instances and volumes: `tags` and the fleet tag, by which the meter finds them."""
        return {**self.tags(extra), FLEET_TAG: self.fleet}


def resource_name(component: str, kind: str, stack: str) -> str:
    """`{component}-{kind}-{stack}` as `Names` makes it, for a kind that has no property there."""
    return Names(component, stack).name(kind)


def tags(stack: str, component: str) -> dict[str, str]:
    """Our own tags of every resource of `component` in `stack`."""
    return {STACK_TAG: stack, COMPONENT_TAG: component, MANAGED_BY_TAG: "pulumi"}
