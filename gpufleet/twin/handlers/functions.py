"""Lambda functions, who may invoke them, and what happens to failed asynchronous events."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Asked, Handler, Inputs, Naming, Outputs, finishing, split_import
from .properties import Prop, block, from_api, names, table, to_api
from .s3_objects import read_asset

_GONE = ("ResourceNotFoundException",)
_CONFIGURATION = {
    **names("runtime role handler description"),
    "timeout": Prop(default=3),
    "memorySize": Prop(default=128),
    "kmsKeyArn": Prop("KMSKeyArn"),
    "layers": Prop(),
    "environment": block({"variables": Prop()}),
    "deadLetterConfig": block(names("targetArn")),
    "tracingConfig": block(names("mode"), computed=True),
    "ephemeralStorage": block(names("size"), computed=True),
    "loggingConfig": block(
        names("logFormat logGroup applicationLogLevel systemLogLevel", computed=True), computed=True
    ),
}
_CODE = ("code", "sourceCodeHash", "architectures")


class Function(Handler):
    type = "aws:lambda/function:Function"
    taggable, naming = True, Naming(prefix_prop=None, limit=64)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "packageType": Prop(replace=True, default="Zip"),
            "code": Prop(kind="asset", api=""),
            "sourceCodeHash": Prop(computed=True, api=""),
            "architectures": Prop(default=["x86_64"]),
            "reservedConcurrentExecutions": Prop(default=-1, api=""),
            "publish": Prop(
                default=False, kept="The twin runs the newest code of a function only; there are no versions."
            ),
            "skipDestroy": Prop(default=False, kept=STEERS_DELETION),
            **_CONFIGURATION,
        }
    )
    unsettled = ("lastModified", "version", "sourceCodeSize", "codeSha256", "sourceCodeHash", "qualifiedArn")
    outputs = "arn invokeArn qualifiedArn lastModified version sourceCodeSize codeSha256"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        client, name = cloud.client("lambda"), inputs["name"]
        client.create_function(
            FunctionName=name,
            Code={"ZipFile": _code(inputs)},
            PackageType=inputs.get("packageType", "Zip"),
            Architectures=inputs.get("architectures", ["x86_64"]),
            **to_api(_CONFIGURATION, {"timeout": 3, "memorySize": 128, **inputs}),
            **({"Tags": inputs["tags"]} if inputs.get("tags") else {}),
        )
        with finishing(name):
            if inputs.get("reservedConcurrentExecutions", -1) >= 0:
                self._reserve(client, name, inputs["reservedConcurrentExecutions"])
        return name

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        answer = cloud.client("lambda").get_function(FunctionName=identifier)
        live, arn = answer["Configuration"], answer["Configuration"]["FunctionArn"]
        code = inputs.get("code") if isinstance(inputs.get("code"), dict) else {}
        if isinstance(live.get("Layers"), list):
            live = {**live, "Layers": [layer["Arn"] for layer in live["Layers"]]}
        return {
            "name": live["FunctionName"],
            "packageType": live.get("PackageType", "Zip"),
            **from_api(_CONFIGURATION, live),
            "architectures": live.get("Architectures", ["x86_64"]),
            "code": {**(code or {}), "sha256": base64.b64decode(live["CodeSha256"]).hex()},
            "sourceCodeHash": live["CodeSha256"],
            "reservedConcurrentExecutions": answer.get("Concurrency", {}).get("ReservedConcurrentExecutions", -1),
            "tags": answer.get("Tags") or {},
            "arn": arn,
            "invokeArn": f"arn:aws:apigateway:{cloud.region}:lambda:path/2015-03-31/functions/{arn}/invocations",
            "qualifiedArn": f"{arn}:{live.get('Version', '$LATEST')}",
            "lastModified": live.get("LastModified"),
            "version": live.get("Version", "$LATEST"),
            "sourceCodeSize": live.get("CodeSize"),
            "codeSha256": live["CodeSha256"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        client = cloud.client("lambda")
        if changed & set(_CODE):
            client.update_function_code(
                FunctionName=identifier, ZipFile=_code(news), Architectures=news.get("architectures", ["x86_64"])
            )
        settings = changed & set(_CONFIGURATION)
        if settings:
            wanted = {name: news.get(name, _EMPTY.get(name, self.props[name].default)) for name in settings}
            client.update_function_configuration(FunctionName=identifier, **to_api(_CONFIGURATION, wanted))
        if "reservedConcurrentExecutions" in changed:
            self._reserve(client, identifier, news.get("reservedConcurrentExecutions", -1))

    @staticmethod
    def _reserve(client: Any, name: str, number: int) -> None:
        if number < 0:
            client.delete_function_concurrency(FunctionName=name)
        else:
            client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=number)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        client = cloud.client("lambda")
        arn = f"arn:aws:lambda:{cloud.region}:{cloud.account_id}:function:{identifier}"
        if gone:
            client.untag_resource(Resource=arn, TagKeys=gone)
        if new:
            client.tag_resource(Resource=arn, Tags=new)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        if not outputs.get("skipDestroy"):
            cloud.client("lambda").delete_function(FunctionName=identifier)


# What takes a setting away again when the program no longer names it.
_EMPTY: dict[str, Any] = {
    "description": "",
    "environment": {"variables": {}},
    "deadLetterConfig": {"targetArn": ""},
    "layers": [],
    "kmsKeyArn": "",
}


def _code(inputs: Inputs) -> bytes:
    if not inputs.get("code"):
        raise AwsError("InvalidParameterValueException", "Please provide a source for function code.")
    return read_asset(inputs["code"])


class Permission(Handler):
    type = "aws:lambda/permission:Permission"
    delete_first = True
    gone = _GONE
    props = table(
        {
            name: Prop(replace=True, computed=name in ("statementId", "sourceAccount"))
            for name in ("function", "statementId", "action", "principal", "sourceArn", "sourceAccount", "qualifier")
        }
    )

    def check(self, cloud: Account, news: Mapping[str, Any], asked: Asked) -> Inputs:
        inputs = super().check(cloud, news, asked)
        if not inputs.get("statementId"):
            old = (asked.olds or {}).get("statementId")
            inputs["statementId"] = old or f"terraform-{asked.random.getrandbits(104):026x}"
        return inputs

    def make(self, cloud: Account, inputs: Inputs) -> str:
        request = {
            prop.name(name).replace("Function", "FunctionName") if name == "function" else prop.name(name): inputs[name]
            for name, prop in self.props.items()
            if inputs.get(name) and name != "region"
        }
        cloud.client("lambda").add_permission(**request)
        return inputs["statementId"]

    def imported(self, identifier: str) -> tuple[str, Inputs]:
        whole, statement = split_import(self.type, identifier, "/", "FUNCTION[:QUALIFIER]/STATEMENT")
        function, _, qualifier = whole.partition(":")
        return statement, {"function": function, **({"qualifier": qualifier} if qualifier else {})}

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        qualifier = {"Qualifier": inputs["qualifier"]} if inputs.get("qualifier") else {}
        answer = cloud.client("lambda").get_policy(FunctionName=inputs["function"], **qualifier)
        for statement in json.loads(answer["Policy"])["Statement"]:
            if statement["Sid"] == identifier:
                conditions = statement.get("Condition", {})
                principal = statement["Principal"]
                return {
                    "function": inputs["function"],
                    **({"qualifier": inputs["qualifier"]} if qualifier else {}),
                    "statementId": identifier,
                    "action": statement["Action"],
                    "principal": principal if isinstance(principal, str) else next(iter(principal.values())),
                    "sourceArn": _condition(conditions, "AWS:SourceArn"),
                    "sourceAccount": _condition(conditions, "AWS:SourceAccount"),
                }
        return None

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        qualifier = {"Qualifier": outputs["qualifier"]} if outputs.get("qualifier") else {}
        cloud.client("lambda").remove_permission(FunctionName=outputs["function"], StatementId=identifier, **qualifier)


def _condition(conditions: Mapping[str, Mapping[str, str]], key: str) -> str | None:
    return next(
        (value for keys in conditions.values() for name, value in keys.items() if name.lower() == key.lower()), None
    )


_ASYNC = {
    "maximumEventAgeInSeconds": Prop(computed=True),
    "maximumRetryAttempts": Prop(default=2),
    "destinationConfig": block({name: block(names("destination")) for name in ("onFailure", "onSuccess")}),
}


class FunctionEventInvokeConfig(Handler):
    type = "aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig"
    delete_first = True
    gone = _GONE
    props = table({"functionName": Prop(replace=True), "qualifier": Prop(replace=True), **_ASYNC})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("lambda").put_function_event_invoke_config(
            **_function(inputs), **to_api(_ASYNC, {"maximumRetryAttempts": 2, **inputs})
        )
        return ":".join(inputs[name] for name in ("functionName", "qualifier") if inputs.get(name))

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        where = inputs if inputs.get("functionName") else {"functionName": identifier}
        live = cloud.client("lambda").get_function_event_invoke_config(**_function(where))
        return {**{k: where[k] for k in ("functionName", "qualifier") if where.get(k)}, **from_api(_ASYNC, live)}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self.make(cloud, news)  # a put replaces the whole configuration

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("lambda").delete_function_event_invoke_config(**_function(outputs))


def _function(inputs: Mapping[str, Any]) -> dict[str, str]:
    qualifier = {"Qualifier": inputs["qualifier"]} if inputs.get("qualifier") else {}
    return {"FunctionName": inputs["functionName"], **qualifier}


HANDLERS = (Function, Permission, FunctionEventInvokeConfig)
