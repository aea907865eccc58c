"""One run of the guard: what was read, what was done, what failed; and how it tells people."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_law import budget_usd
from . import runtime
from .config import GuardConfig
from .groups import Group
from .history import TooLongError
from .ledger import Control
from .meter import Node


@dataclass
class Tick:
    """``figure``: what AWS Budgets said, and of which month. ``over``: the law says that the fleets must stop, whether
    or not that could be stored."""

    config: GuardConfig
    at: float
    control: Control
    nodes: list[Node] | None = None
    groups: Mapping[str, Group] | None = None
    figure: tuple[float, str] | None = None
    over: bool = False
    acts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @property
    def budget_usd(self) -> float:
        """The month's budget, with what was allowed on top."""
        return budget_usd(self.config.monthly_usd, self.control.latch, self.at)

    def attempt(self, what: str, step: Callable[[], Any]) -> Any:
        """The step's result; a fault is kept for the end of the tick and gives None."""
        try:
            return step()
        except (ClientError, BotoCoreError, TooLongError, KeyError, ValueError, TypeError) as error:
            self.errors.append(f"{what}: {type(error).__name__}: {error}")
            return None

    def tell(self, what: str, subject: str, text: str) -> bool:
        """Tells people by the alert topic, if there is one; whether that worked."""
        failed = len(self.errors)
        self.attempt(what, lambda: _publish(self.config, subject, text))
        return len(self.errors) == failed


def _publish(config: GuardConfig, subject: str, text: str) -> None:
    if config.alert_topic_arn:
        runtime.client("sns").publish(
            TopicArn=config.alert_topic_arn, Subject=f"gpu-inference {config.stack}: {subject}"[:99], Message=text
        )
