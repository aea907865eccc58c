"""The services around the fleet, registered with a cloud and wired to each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .budgets import BudgetsModel
from .cloudwatch import CloudWatchModel
from .cost_explorer import CostExplorerModel
from .dynamodb import DynamoDbModel
from .events import EventsModel
from .lambda_ import LambdaModel
from .logs import LogsModel
from .pricing import PricingModel
from .s3 import S3Model
from .sns import SnsModel
from .sqs import SqsModel
from .sqs_metrics import QueueMetrics

if TYPE_CHECKING:
    from ..cloud import Cloud


@dataclass(frozen=True)
class StandardServices:
    sqs: SqsModel
    dynamodb: DynamoDbModel
    functions: LambdaModel
    events: EventsModel
    sns: SnsModel
    cloudwatch: CloudWatchModel
    budgets: BudgetsModel
    cost_explorer: CostExplorerModel
    pricing: PricingModel


def install(cloud: Cloud) -> StandardServices:
    """Register queues, tables, functions, rules, topics, metrics, budgets, cost reports and prices with `cloud`."""
    services = StandardServices(
        SqsModel(cloud),
        DynamoDbModel(cloud),
        LambdaModel(cloud),
        EventsModel(cloud),
        SnsModel(cloud),
        CloudWatchModel(cloud),
        BudgetsModel(cloud),
        CostExplorerModel(cloud),
        PricingModel(cloud),
    )
    for model in vars(services).values():
        cloud.register(model.service, model)
    cloud.register(S3Model.service, S3Model(cloud))
    cloud.register(LogsModel.service, LogsModel(cloud, services.functions))
    services.functions.publish = services.cloudwatch.publish
    services.events.publish = services.cloudwatch.publish
    services.cloudwatch.collectors.append(QueueMetrics(services.sqs, services.cloudwatch))
    return services
