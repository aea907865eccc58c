"""Who may invoke a function, how often at once, and what becomes of asynchronous events."""

from __future__ import annotations

import json
from typing import Any

from ..errors import AwsError
from .function_admin import Function, FunctionAdmin, not_found
from .function_settings import invalid
from .model import Answer, operation, refuse_unknown

UNRESERVED_AT_LEAST = 10  # what must stay unreserved in an account whose quota is 10


class FunctionAccess(FunctionAdmin):
    """The resource policies, reservations and asynchronous configurations of the functions."""

    # -- permissions ------------------------------------------------------------------------------------------

    @operation("FunctionName", "StatementId", "Action", "Principal", "SourceArn", "SourceAccount", "Qualifier")
    def add_permission(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        if any(s["Sid"] == params["StatementId"] for s in function.statements):
            raise AwsError(
                "ResourceConflictException",
                f"The statement id ({params['StatementId']}) provided already exists. Please provide a new statement "
                "id, or remove the existing statement.",
                409,
            )
        if not params["Action"].startswith("lambda:"):
            raise invalid(f"Value '{params['Action']}' at 'action' must be a Lambda action.")
        named = params["Principal"]
        who = {"Service": named} if named.endswith(".amazonaws.com") else {"AWS": named}
        conditions: dict[str, dict[str, str]] = {}
        if "SourceArn" in params:
            conditions["ArnLike"] = {"AWS:SourceArn": params["SourceArn"]}
        if "SourceAccount" in params:
            conditions["StringEquals"] = {"AWS:SourceAccount": params["SourceAccount"]}
        statement = {
            "Sid": params["StatementId"], "Effect": "Allow", "Principal": who, "Action": params["Action"],
            "Resource": function.arn, **({"Condition": conditions} if conditions else {}),
        }  # fmt: skip
        function.statements.append(statement)
        function.revision = self.new_id()
        return {"Statement": json.dumps(statement)}

    @operation("FunctionName", "StatementId", "Qualifier", "RevisionId")
    def remove_permission(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        kept = [s for s in function.statements if s["Sid"] != params["StatementId"]]
        if len(kept) == len(function.statements):
            raise not_found(f"Statement {params['StatementId']} is not found in resource policy.")
        function.statements = kept
        return {}

    @operation("FunctionName", "Qualifier")
    def get_policy(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        document = function.policy_document()
        if document is None:
            raise not_found("The resource you requested does not exist.")
        return {"Policy": json.dumps(document), "RevisionId": function.revision}

    # -- concurrency and asynchronous invocation --------------------------------------------------------------

    @operation("FunctionName", "ReservedConcurrentExecutions")
    def put_function_concurrency(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        wanted = params["ReservedConcurrentExecutions"]
        others = sum(f.reserved or 0 for f in self.functions.values() if f is not function)
        if self.account_concurrency - others - wanted < UNRESERVED_AT_LEAST:
            raise invalid(
                "Specified ReservedConcurrentExecutions for function decreases account's UnreservedConcurrentExecution "
                f"below its minimum value of [{UNRESERVED_AT_LEAST}]."
            )
        function.reserved = wanted
        return {"ReservedConcurrentExecutions": wanted}

    @operation("FunctionName")
    def get_function_concurrency(self, params: dict[str, Any], principal: str) -> Answer:
        reserved = self.named(params).reserved
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    @operation("FunctionName")
    def delete_function_concurrency(self, params: dict[str, Any], principal: str) -> Answer:
        self.named(params).reserved = None
        return {}

    @operation("FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
    def put_function_event_invoke_config(self, params: dict[str, Any], principal: str) -> Answer:
        return self._set_invoke_config(self.named(params), params, {})

    @operation("FunctionName", "Qualifier", "MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")
    def update_function_event_invoke_config(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        return self._set_invoke_config(function, params, function.invoke_config)

    @operation("FunctionName", "Qualifier")
    def get_function_event_invoke_config(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        if not function.invoke_config:
            raise not_found(f"The function {function.arn} doesn't have an EventInvokeConfig")
        return {**function.invoke_config, "FunctionArn": f"{function.arn}:$LATEST"}

    @operation("FunctionName", "Qualifier")
    def delete_function_event_invoke_config(self, params: dict[str, Any], principal: str) -> Answer:
        self.get_function_event_invoke_config(params, principal)
        self.named(params).invoke_config = {}
        return {}

    def _set_invoke_config(self, function: Function, params: dict[str, Any], present: dict[str, Any]) -> Answer:
        given = {k: v for k, v in params.items() if k not in ("FunctionName", "Qualifier")}
        destinations = given.get("DestinationConfig", {})
        refuse_unknown("DestinationConfig", {k: v for k, v in destinations.items() if v}, {"OnFailure"})
        self.check_may_send(function, destinations.get("OnFailure", {}).get("Destination"))
        function.invoke_config = {"LastModified": self.now_utc(), **present, **given}
        return {**function.invoke_config, "FunctionArn": f"{function.arn}:$LATEST"}
