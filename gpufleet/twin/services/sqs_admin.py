"""SQS queues themselves: create, read, set, tag, delete, purge; the messages are in `sqs.py`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ..cloud import OPERATOR
from ..errors import AwsError, NotModelledError
from ..iam import Caller, resource_policy
from .model import Answer, Model, operation
from .sqs_attributes import DEFAULTS, KNOWN, READ_ONLY, check_attributes, parse_redrive, parse_redrive_allow
from .sqs_queue import Observers, Queue

if TYPE_CHECKING:
    from ..cloud import Cloud


def sqs_error(name: str, message: str, code: str | None = None) -> AwsError:
    """An SQS error: botocore names the class after the shape, `Error.Code` stays the one of the old protocol."""
    return AwsError(code or f"AWS.SimpleQueueService.{name}", message, modelled=name)


class QueueEntry:
    """A queue with its name, attributes, tags and policy."""

    def __init__(self, queue: Queue, url: str, arn: str, created: float) -> None:
        self.queue = queue
        self.url = url
        self.arn = arn
        self.created = self.modified = created
        self.attributes: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self.purged_at: float | None = None
        self.touched_at = created  # last API action: CloudWatch's notion of an active queue

    def number(self, name: str) -> int:
        return int(self.attributes.get(name, DEFAULTS[name]))


class QueueAdmin(Model):
    """The queues of the account, by name."""

    service = "sqs"

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.queues: dict[str, QueueEntry] = {}
        self.observers = Observers()
        self.counter_lag_s = 5.0  # "Approximate*" settle about a minute after producers stop; a few seconds as a rule

    # -- queues -----------------------------------------------------------------------------------------------

    @operation("QueueName", "Attributes", "tags")
    def create_queue(self, params: dict[str, Any], principal: str) -> Answer:
        name, given = params["QueueName"], params.get("Attributes") or {}
        if name.endswith(".fifo"):
            raise NotModelledError("the twin models standard queues, not FIFO queues")
        if not re.fullmatch(r"[\w-]{1,80}", name, re.ASCII):
            raise AwsError(
                "InvalidParameterValue",
                "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
            )
        checked = check_attributes(given, {})
        present = self.queues.get(name)
        if present is not None:
            return self._create_again(present, given)
        queue = Queue(name, self.clock, self.random, self.observers)
        entry = QueueEntry(queue, self.url(name), self.arn(name), self.clock.now())
        self._set(entry, checked)
        entry.tags = dict(params.get("tags") or {})
        self.queues[name] = entry
        return {"QueueUrl": entry.url}

    def _create_again(self, present: QueueEntry, given: Mapping[str, str]) -> Answer:
        shown = self._settings(present)
        for attribute, value in given.items():
            if shown.get(attribute, "") != value:  # API reference of CreateQueue
                raise sqs_error(
                    "QueueNameExists",
                    f"A queue already exists with the same name and a different value for attribute {attribute}",
                    "QueueAlreadyExists",
                )
        return {"QueueUrl": present.url}

    @operation("QueueUrl", "Attributes")
    def set_queue_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "SetQueueAttributes")
        self._set(entry, check_attributes(params["Attributes"], entry.attributes))
        entry.modified = self.clock.now()
        return {}

    def _set(self, entry: QueueEntry, attributes: dict[str, str]) -> None:
        redrive = attributes.get("RedrivePolicy")
        entry.queue.redrive = self._redrive_target(entry, redrive) if redrive else None
        entry.attributes = attributes
        entry.queue.retention_s = entry.number("MessageRetentionPeriod")

    def _redrive_target(self, entry: QueueEntry, policy: str) -> tuple[Queue, int]:
        """The dead-letter queue must exist and allow this source ("Configure a dead-letter queue")."""
        arn, most = parse_redrive(policy)
        target = next((e for e in self.queues.values() if e.arn == arn), None)
        why = f"Value {policy} for parameter RedrivePolicy is invalid. Reason: "
        if target is None:
            raise AwsError("InvalidParameterValue", why + "Dead letter target does not exist.")
        allow = target.attributes.get("RedriveAllowPolicy")
        permission, sources = parse_redrive_allow(allow) if allow else ("allowAll", [])
        if permission == "denyAll" or (permission == "byQueue" and entry.arn not in sources):
            raise AwsError(
                "InvalidParameterValue", why + "The dead letter target's RedriveAllowPolicy denies this queue."
            )
        return target.queue, most

    @operation("QueueName", "QueueOwnerAWSAccountId")
    def get_queue_url(self, params: dict[str, Any], principal: str) -> Answer:
        return {"QueueUrl": self.named(params["QueueName"]).url}

    @operation("QueueUrl", "AttributeNames")
    def get_queue_attributes(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "GetQueueAttributes")
        wanted = set(params.get("AttributeNames") or [])
        for name in wanted - {"All", *KNOWN, *READ_ONLY}:
            raise AwsError("InvalidAttributeName", f"Unknown Attribute {name}.")
        if not wanted:
            return {}
        shown = self._settings(entry) | self._readings(entry)
        return {"Attributes": {k: v for k, v in shown.items() if "All" in wanted or k in wanted}}

    def _settings(self, entry: QueueEntry) -> dict[str, str]:
        encryption = {} if "KmsMasterKeyId" in entry.attributes else {"SqsManagedSseEnabled": "true"}
        return {**DEFAULTS, **encryption, **entry.attributes}

    def _readings(self, entry: QueueEntry) -> dict[str, str]:
        visible, in_flight, delayed = entry.queue.counts(lag=self.random.uniform(0, self.counter_lag_s))
        return {
            "QueueArn": entry.arn,
            "CreatedTimestamp": str(int(entry.created)),
            "LastModifiedTimestamp": str(int(entry.modified)),
            "ApproximateNumberOfMessages": str(visible),
            "ApproximateNumberOfMessagesNotVisible": str(in_flight),
            "ApproximateNumberOfMessagesDelayed": str(delayed),
        }

    @operation("QueueNamePrefix", "MaxResults")
    def list_queues(self, params: dict[str, Any], principal: str) -> Answer:
        prefix = params.get("QueueNamePrefix", "")
        return {"QueueUrls": [e.url for n, e in sorted(self.queues.items()) if n.startswith(prefix)]}

    @operation("QueueUrl")
    def list_dead_letter_source_queues(self, params: dict[str, Any], principal: str) -> Answer:
        target = self.entry_of(params, principal, "ListDeadLetterSourceQueues").queue
        return {"queueUrls": [e.url for e in self.queues.values() if e.queue.redrive and e.queue.redrive[0] is target]}

    @operation("QueueUrl", "Tags")
    def tag_queue(self, params: dict[str, Any], principal: str) -> Answer:
        self.entry_of(params, principal, "TagQueue").tags.update(params["Tags"])
        return {}

    @operation("QueueUrl", "TagKeys")
    def untag_queue(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "UntagQueue")
        entry.tags = {k: v for k, v in entry.tags.items() if k not in params["TagKeys"]}
        return {}

    @operation("QueueUrl")
    def list_queue_tags(self, params: dict[str, Any], principal: str) -> Answer:
        tags = self.entry_of(params, principal, "ListQueueTags").tags
        return {"Tags": dict(tags)} if tags else {}

    @operation("QueueUrl")
    def delete_queue(self, params: dict[str, Any], principal: str) -> Answer:
        # AWS refuses the name for 60 s after this; the Pulumi provider waits that out itself, so the twin does not.
        del self.queues[self.entry_of(params, principal, "DeleteQueue").queue.name]
        return {}

    @operation("QueueUrl")
    def purge_queue(self, params: dict[str, Any], principal: str) -> Answer:
        entry = self.entry_of(params, principal, "PurgeQueue")
        now = self.clock.now()
        if entry.purged_at is not None and now - entry.purged_at < 60:  # API reference of PurgeQueue
            raise sqs_error(
                "PurgeQueueInProgress",
                f"Only one PurgeQueue operation on {entry.queue.name} is allowed every 60 seconds.",
            )
        entry.purged_at = now
        entry.queue.purge()
        return {}

    # -- inside -----------------------------------------------------------------------------------------------

    def url(self, name: str) -> str:
        return f"https://sqs.{self.cloud.region}.amazonaws.com/{self.cloud.account_id}/{name}"

    def named(self, name: str) -> QueueEntry:
        entry = self.queues.get(name)
        if entry is None:
            raise sqs_error(
                "QueueDoesNotExist",
                "The specified queue does not exist.",
                "AWS.SimpleQueueService.NonExistentQueue",
            )
        return entry

    def entry_of(self, params: Mapping[str, Any], principal: str, action: str) -> QueueEntry:
        entry = self.named(params["QueueUrl"].rsplit("/", 1)[-1])
        entry.touched_at = self.clock.now()
        policy = entry.attributes.get("Policy")
        if principal != OPERATOR:
            caller = Caller.of_role(principal, self.cloud.account_id)
            if policy and resource_policy(policy, caller, f"sqs:{action}", entry.arn) == "Deny":
                raise AwsError(
                    "AccessDenied", f"Access to the resource {entry.url} is denied by the queue's policy.", 403
                )
            if "KmsMasterKeyId" in entry.attributes:
                raise NotModelledError("the twin does not judge a role's use of a queue's KMS key: use SSE-SQS")
        return entry
