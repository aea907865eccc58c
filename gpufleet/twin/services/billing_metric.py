"""AWS/Billing EstimatedCharges: the whole account's cost of the month so far, as a metric.

Source: CloudWatch user guide, "Create a billing alarm to monitor your estimated AWS charges": in us-east-1 only, only
once "Receive billing alerts" is on, calculated several times a day; it starts anew each month.
"""

from __future__ import annotations

from typing import Protocol

from ..cloud import Cloud
from .cloudwatch import CloudWatchModel

NAMESPACE, METRIC, DIMENSIONS = "AWS/Billing", "EstimatedCharges", {"Currency": "USD"}
REGION = "us-east-1"
EVERY_S = 6 * 3600.0
SPREAD_S = 1800.0  # nobody says when; it drifts


class Charges(Protocol):
    """What AWS Billing knows of this month's cost of the account, in dollars: hours old."""

    def account_figure(self) -> float: ...


class BillingMetric:
    """Knobs: `enabled` ("Receive billing alerts"), `every_s`."""

    def __init__(self, cloud: Cloud, cloudwatch: CloudWatchModel, charges: Charges) -> None:
        self.enabled = True
        self.every_s = EVERY_S
        self._cloud = cloud
        self._cloudwatch = cloudwatch
        self._charges = charges
        self._chances = cloud.chances("estimated charges")
        self._later()

    def publish(self) -> None:
        """Publish the metric now."""
        if self.enabled and self._cloud.region == REGION:
            self._cloudwatch.publish(NAMESPACE, METRIC, DIMENSIONS, self._charges.account_figure())

    def _later(self) -> None:
        self._cloud.clock.after(self.every_s + self._chances.uniform(-SPREAD_S, SPREAD_S), self._again)

    def _again(self) -> None:
        self.publish()
        self._later()
