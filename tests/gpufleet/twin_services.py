"""A small account for tests of the twin's services: roles with policies, functions from zips, refusals by code."""

from __future__ import annotations

import io
import json
import textwrap
import zipfile
from typing import Any

import pytest
from botocore.exceptions import ClientError

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.services.standard import StandardServices, install

START = 1_793_534_400.0  # 2026-11-01T12:00:00Z
ACCOUNT = "123456789012"
LOGS = {
    "Effect": "Allow",
    "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
    "Resource": f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/lambda/*:*",
}


def allow(action: str | list[str], resource: str | list[str] = "*", **condition: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource}
    return {**statement, "Condition": condition} if condition else statement


def zipped(files: dict[str, str]) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for path, source in files.items():
            archive.writestr(path, textwrap.dedent(source))
    return data.getvalue()


RUNTIME = """
    import os
    environ = os.environ
    def now(): raise AssertionError("not replaced")
    sleep = client = log = now
"""


def package(handler: str, **modules: str) -> bytes:
    """A zip shaped as the project's own: `fleet_control/aws/controller.py` is `handler`, beside the runtime module."""
    files = {"__init__.py": "", "aws/__init__.py": "", "aws/runtime.py": RUNTIME, "aws/controller.py": handler}
    files |= {f"{name}.py": source for name, source in modules.items()}
    return zipped({f"fleet_control/{path}": source for path, source in files.items()})


class ServicesAccount:
    def __init__(self, cloud: Cloud, services: StandardServices | None = None) -> None:
        self.cloud = cloud
        self.clock = cloud.clock
        self.services = services or install(cloud)
        self.services.events.drop_probability = self.services.events.double_probability = 0.0
        self.functions = self.services.functions
        self.sqs = cloud.client("sqs")
        self.aws = cloud.client("lambda")

    def role(self, name: str, *statements: dict[str, Any], service: str = "lambda.amazonaws.com") -> str:
        iam = self.cloud.client("iam")
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        made = iam.create_role(RoleName=name, AssumeRolePolicyDocument=document(trust))
        if statements:
            iam.put_role_policy(RoleName=name, PolicyName="own", PolicyDocument=document(*statements))
        return made["Role"]["Arn"]

    def function(self, name: str, code: bytes, *statements: dict[str, Any], **settings: Any) -> str:
        made = self.aws.create_function(
            **{
                "FunctionName": name, "Runtime": "python3.13", "Handler": "fleet_control.aws.controller.handler",
                "Role": self.role(f"{name}-role", LOGS, *statements), "Code": {"ZipFile": code}, "Timeout": 60,
                **settings,
            }
        )  # fmt: skip
        return made["FunctionArn"]

    def queue(self, name: str, **attributes: str) -> str:
        return self.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]

    def permit(self, function: str, service: str, source_arn: str) -> None:
        self.aws.add_permission(
            FunctionName=function, StatementId=service.removesuffix(".amazonaws.com"), Action="lambda:InvokeFunction",
            Principal=service, SourceArn=source_arn,
        )  # fmt: skip

    def bodies(self, url: str) -> list[str]:
        """Everything that can be received from a queue now, for reading only."""
        found = []
        while messages := self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
            found += [message["Body"] for message in messages]
        return found


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class refused:  # noqa: N801 - reads as a statement: with refused("InvalidAttributeValue"): ...
    """Expects AWS's refusal with this error code; `message` must occur in what it says."""

    def __init__(self, code: str, message: str = "") -> None:
        self.code = code
        self.message = message
        self._raises = pytest.raises(ClientError)

    def __enter__(self) -> Any:
        self.info = self._raises.__enter__()
        return self.info

    def __exit__(self, kind: Any, error: Any, tb: Any) -> bool:
        swallowed = bool(self._raises.__exit__(kind, error, tb))
        if swallowed:
            said = self.info.value.response["Error"]
            assert said["Code"] == self.code, said
            assert self.message in said["Message"], said
        return swallowed
