"""An alarm as it is kept, and the message it publishes when its state changes.

Source: CloudWatch user guide, "Notifying users on alarm changes" (the JSON that a topic's subscribers get).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..cloud import Cloud

ACTIONS = {"OK": "OKActions", "ALARM": "AlarmActions", "INSUFFICIENT_DATA": "InsufficientDataActions"}
_METRIC = ("MetricName", "Namespace", "Statistic", "Metrics")
_RULE = ("Period", "EvaluationPeriods", "DatapointsToAlarm", "ComparisonOperator", "Threshold", "TreatMissingData")


@dataclass
class AlarmEntry:
    arn: str
    settings: dict[str, Any]
    tags: dict[str, str]
    configured: float
    state: str = "INSUFFICIENT_DATA"
    reason: str = "Unchecked: Initial alarm creation"
    changed: float = 0.0
    points: list[float | None] = field(default_factory=list)


def alarm_message(cloud: Cloud, alarm: AlarmEntry, old: str) -> dict[str, Any]:
    """What an action of the alarm is told; `old`: the state before."""
    settings = alarm.settings
    changed = datetime.fromtimestamp(alarm.changed, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
    return {
        "AlarmName": settings["AlarmName"],
        "AlarmDescription": settings.get("AlarmDescription"),
        "AWSAccountId": cloud.account_id,
        "AlarmArn": alarm.arn,
        "Region": cloud.region,
        "NewStateValue": alarm.state,
        "OldStateValue": old,
        "NewStateReason": alarm.reason,
        "StateChangeTime": changed,
        **{actions: settings[actions] for actions in ACTIONS.values()},
        "Trigger": {key: settings[key] for key in (*_METRIC, *_RULE) if key in settings},
    }
