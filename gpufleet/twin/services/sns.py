"""SNS: topics with their policies and keys, subscriptions, and delivery to functions, queues and mailboxes.

`outbox` is what people would find in their mailboxes, `undelivered` what a subscriber did not get and why.
Knobs for deliveries to functions and queues (SNS delivers at least once, and retries for an hour and more):
`loss_probability`, `duplicate_probability`, and `delay_s()`, which draws by how much one comes late.
Sources: SNS developer guide, "Access control", "Key management" (a topic under a customer key: the publishing service
needs kms:GenerateDataKey* and kms:Decrypt in the key's policy; the AWS managed key cannot give it), "Fanout to Lambda
functions", "Dead-letter queues".
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from ..cloud import OPERATOR
from ..errors import AwsError
from ..iam import Caller, resource_policy
from ..iam_resources import Need
from .model import Answer, iso, operation
from .sns_topics import Subscription, TopicAdmin, TopicEntry, invalid

if TYPE_CHECKING:
    from ..cloud import Cloud

SERVICE = "sns.amazonaws.com"
MESSAGE_LIMIT = 262_144  # bytes, API reference of Publish


class SnsModel(TopicAdmin):
    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.undelivered: list[dict[str, Any]] = []
        self.loss_probability = 0.0
        self.duplicate_probability = 0.0
        self.delay_s: Callable[[], float] = lambda: 0.0
        self._chances = cloud.chances("sns deliveries")

    # -- publishing -------------------------------------------------------------------------------------------

    @operation("TopicArn", "TargetArn", "Message", "Subject")
    def publish(self, params: dict[str, Any], principal: str) -> Answer:
        topic = self.topic_of(params.get("TopicArn") or params.get("TargetArn") or "")
        if principal != OPERATOR:
            self._check_role(topic, principal)
        return {"MessageId": self._publish(topic, params["Message"], params.get("Subject"))}

    def _check_role(self, topic: TopicEntry, role: str) -> None:
        """The role's own policies were asked already: what remains is a deny by the topic, and the topic's key."""
        caller = Caller.of_role(role, self.cloud.account_id)
        if resource_policy(topic.attributes.get("Policy"), caller, "sns:Publish", topic.arn) == "Deny":
            raise AwsError("AuthorizationError", f"{caller.arn} is denied SNS:Publish by {topic.arn}", 403)
        key_id = topic.attributes.get("KmsMasterKeyId")
        if key_id and key_id != "alias/aws/sns":
            arn = self._key(key_id)["Arn"]
            for action in ("kms:GenerateDataKey", "kms:Decrypt"):
                if not self.cloud.authorizer.allows(role, Need(action, arn)):
                    raise AwsError("KMSAccessDenied", f"{caller.arn} is not authorized to perform: {action} on {arn}")

    def publish_as_service(self, service: str, source_arn: str, topic_arn: str, subject: str, message: str) -> str:
        """A publication by an AWS service (`budgets.amazonaws.com`, ...) on behalf of `source_arn`; answers its id.

        Raises `AwsError` AuthorizationError when the topic's policy, KMSAccessDenied when its key's policy forbids it.
        """
        topic = self.topic_of(topic_arn)
        caller = Caller.of_service(service, source_arn, self.cloud.account_id)
        policy = topic.attributes.get("Policy") or self._default_policy(topic)
        if resource_policy(policy, caller, "sns:Publish", topic.arn) != "Allow":
            raise AwsError(
                "AuthorizationError",
                f"{service} ({source_arn}) is not authorized to perform: SNS:Publish on resource: {topic.arn}",
                403,
            )
        if "KmsMasterKeyId" in topic.attributes:
            self._check_key(topic.attributes["KmsMasterKeyId"], caller)
        return self._publish(topic, message, subject)

    def _check_key(self, key_id: str, caller: Caller) -> None:
        refused = AwsError(
            "KMSAccessDenied",
            f"The ciphertext refers to a customer master key that {caller.service} may not use: {key_id} "
            "(its policy must allow kms:GenerateDataKey* and kms:Decrypt)",
        )
        if key_id == "alias/aws/sns":  # an AWS managed key: its policy cannot be edited
            raise refused
        key = self._key(key_id)
        document = self.cloud.client("kms").get_key_policy(KeyId=key["KeyId"], PolicyName="default")["Policy"]
        for action in ("kms:GenerateDataKey", "kms:Decrypt"):
            if resource_policy(document, caller, action, key["Arn"]) != "Allow":
                raise refused

    def _key(self, key_id: str) -> dict[str, Any]:
        try:
            return self.cloud.client("kms").describe_key(KeyId=key_id)["KeyMetadata"]
        except ClientError as error:
            raise AwsError("KMSNotFound", f"Key {key_id} does not exist.") from error

    def _publish(self, topic: TopicEntry, message: str, subject: str | None) -> str:
        if not message or len(message.encode()) > MESSAGE_LIMIT:
            raise invalid("Message Reason: empty or too long")
        if subject is not None and (not 0 < len(subject) <= 100 or "\n" in subject):  # API reference of Publish
            raise invalid("Subject")
        message_id = self.new_id()
        body = {
            "Type": "Notification", "MessageId": message_id, "TopicArn": topic.arn, "Subject": subject,
            "Message": message, "Timestamp": iso(self.clock.now()), "SignatureVersion": "1", "Signature": "twin",
            "SigningCertUrl": "https://twin.invalid/sns.pem",
        }  # fmt: skip
        for subscription in list(topic.subscriptions.values()):
            if not subscription.pending:  # nothing is sent to an address that has not confirmed
                self._send(subscription, body)
        return message_id

    def _send(self, subscription: Subscription, body: dict[str, Any]) -> None:
        """Deliver now, later, twice, or never."""
        if subscription.protocol == "email":
            self._deliver(subscription, body)
            return
        times = 2 if self._chances.random() < self.duplicate_probability else 1
        if self._chances.random() < self.loss_probability:
            self._note(subscription, body, AwsError("Lost", "the delivery was lost on its way"))
            return
        for _ in range(times):
            delay = self.delay_s()
            if delay > 0:
                self.clock.after(delay, self._deliver, subscription, body)
            else:
                self._deliver(subscription, body)

    def _deliver(self, subscription: Subscription, body: dict[str, Any]) -> None:
        unsubscribe = f"https://twin.invalid/?Action=Unsubscribe&SubscriptionArn={subscription.arn}"
        try:
            if subscription.protocol == "email":
                subject = body["Subject"] or "AWS Notification Message"
                self._mail(subscription.endpoint, subject, body["Message"], subscription.topic_arn)
            elif subscription.protocol == "lambda":
                sns = {**body, "UnsubscribeUrl": unsubscribe, "MessageAttributes": {}}
                record = {"EventSource": "aws:sns", "EventVersion": "1.0", "EventSubscriptionArn": subscription.arn}
                event = {"Records": [{**record, "Sns": sns}]}
                functions = self.cloud.service("lambda")
                functions.invoke_as_service(SERVICE, subscription.topic_arn, subscription.endpoint, event)
            else:
                raw = subscription.attributes.get("RawMessageDelivery") == "true"
                text = body["Message"] if raw else json.dumps({**body, "UnsubscribeURL": unsubscribe})
                self._to_queue(subscription, subscription.endpoint, text)
        except AwsError as error:
            self._fail(subscription, body, error)

    def _fail(self, subscription: Subscription, body: dict[str, Any], error: AwsError) -> None:
        self._note(subscription, body, error)
        redrive = subscription.attributes.get("RedrivePolicy")
        if redrive:
            try:
                self._to_queue(subscription, json.loads(redrive)["deadLetterTargetArn"], json.dumps(body))
            except AwsError as second:
                self.undelivered[-1]["dead_letter"] = second.message

    def _note(self, subscription: Subscription, body: dict[str, Any], error: AwsError) -> None:
        self.undelivered.append({
            "at": self.clock.now(), "subscription": subscription.arn, "endpoint": subscription.endpoint,
            "message": body["Message"], "code": error.code, "reason": error.message,
        })  # fmt: skip

    def _to_queue(self, subscription: Subscription, queue_arn: str, text: str) -> None:
        self.cloud.service("sqs").send_as_service(SERVICE, subscription.topic_arn, queue_arn, text)
