"""Each role holds exactly the actions that its code calls: read from the source, against the service models."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from pathlib import Path

import botocore.session
import pytest
from botocore import xform_name
from harness import ROOT

SERVICES = {"autoscaling", "budgets", "ce", "cloudwatch", "dynamodb", "ec2", "ecr", "s3", "sns", "sqs"}
# Calls whose permission has another name (service authorization reference).
RENAMED = {
    "budgets:DescribeBudget": "budgets:ViewBudget",
    "sqs:ChangeMessageVisibilityBatch": "sqs:ChangeMessageVisibility",
    "sqs:DeleteMessageBatch": "sqs:DeleteMessage",
    "sqs:SendMessageBatch": "sqs:SendMessage",
}
# Calls that are judged as the ones inside them, of which ours has these (DynamoDB developer guide, "Using IAM with
# transactions").
INSIDE = {"dynamodb:TransactWriteItems": {"dynamodb:PutItem", "dynamodb:UpdateItem"}}
# Needed without a call in the source: log lines and failed events (Lambda itself), the encrypted topic (SNS on the
# caller's behalf), and on a node the image pull (docker) and the copy of the weights (aws s3 sync).
BY_OTHERS = {
    "controller": {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"},
    "scale-to-zero": {
        *("logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"),
        *("kms:Decrypt", "kms:GenerateDataKey"),
    },
    "keeper": {"logs:CreateLogStream", "logs:PutLogEvents", "sqs:SendMessage"},
    "node": {"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "s3:ListBucket"},
}
STARTS = {
    "controller": ("lambda", "fleet_control.aws.controller"),
    "scale-to-zero": ("lambda", "fleet_control.aws.scale_to_zero"),
    "keeper": ("lambda", "fleet_control.aws.queue_keeper"),
    "node": ("bootstrap", "inference_worker.__main__"),
}


@cache
def operations() -> dict[str, str]:
    """Client method -> IAM action, for every service that the code talks to."""
    session = botocore.session.Session()
    return {
        xform_name(name): RENAMED.get(f"{service}:{name}", f"{service}:{name}")
        for service in SERVICES
        for name in list(session.get_service_model(service).operation_names)  # pyright: ignore[reportArgumentType]
    }


def imported(root: Path, start: str) -> set[Path]:
    """The files of our own that module `start` runs, itself included."""
    seen: set[Path] = set()
    waiting = [start.split(".")]
    while waiting:
        parts = waiting.pop()
        base = root.joinpath(*parts)
        file = base.with_suffix(".py") if base.with_suffix(".py").is_file() else base / "__init__.py"
        if file in seen or not file.is_file():
            continue
        seen.add(file)
        package = parts if file.name == "__init__.py" else parts[:-1]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.level:
                source = [*package[: len(package) - node.level + 1], *(node.module.split(".") if node.module else [])]
                waiting += [source, *([*source, alias.name] for alias in node.names)]
    return seen


def called(root: Path, start: str) -> set[str]:
    """The IAM actions of every client method named in those files."""
    text = "\n".join(file.read_text(encoding="utf-8") for file in imported(root, start))
    found = {operations()[name] for name in re.findall(r"\.([a-z_0-9]+)\(", text) if name in operations()}
    return {action for one in found for action in INSIDE.get(one, {one})}


@pytest.mark.parametrize("role", STARTS)
def test_a_role_holds_what_its_code_calls_and_nothing_else(role, graph):
    folder, start = STARTS[role]
    code = called(ROOT / folder, start)
    assert len(code) >= 3, "the source was not read"
    policies = graph("dev").of_type("aws:iam/rolePolicy:RolePolicy")
    (policy,) = [one for one in policies if one.inputs["role"] == f"inference-{role}-dev"]
    held = {action for one in json.loads(policy.inputs["policy"])["Statement"] for action in one["Action"]}
    assert code - held == set(), "the code would be refused"
    assert held - code - BY_OTHERS[role] == set(), "nobody uses these"
