"""Functions run from their zip, in virtual time, under their role, and fail as on AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from twin_services import ACCOUNT, LOGS, START, ServicesAccount, allow, document, package, refused, zipped

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError

ECHO = """
    from . import runtime
    calls = 0
    def handler(event, context):
        global calls
        calls += 1
        runtime.log({"event": event, "calls": calls, "now": runtime.now(), "env": runtime.environ.get("CONFIG")})
        return {"name": context.function_name, "left": context.get_remaining_time_in_millis(), "calls": calls}
"""
SLEEPER = """
    from . import runtime
    def handler(event, context):
        runtime.log({"started": runtime.now()})
        runtime.sleep(event.get("sleep", 30))
        return {"left": context.get_remaining_time_in_millis()}
"""
FAILS = """
    def handler(event, context):
        raise ValueError("no such thing: " + event["what"])
"""
SENDS = """
    from . import runtime
    def handler(event, context):
        runtime.client("sqs").send_message(QueueUrl=event["url"], MessageBody="from a function")
"""


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


def invoke(account: ServicesAccount, name: str, event: Any = None, **params: Any) -> dict[str, Any]:
    answer = account.aws.invoke(FunctionName=name, Payload=json.dumps(event or {}).encode(), **params)
    return {**answer, "Payload": json.loads(answer["Payload"].read() or b"null")}


def test_a_function_sees_virtual_time_its_environment_and_keeps_its_modules(account: ServicesAccount) -> None:
    account.function("echo", package(ECHO), Environment={"Variables": {"CONFIG": "{}"}})
    assert invoke(account, "echo", {"a": 1})["Payload"] == {"name": "echo", "left": 60_000, "calls": 1}
    account.clock.run_for(60)
    assert invoke(account, "echo")["Payload"]["calls"] == 2
    records = [each["record"] for each in account.functions.records]
    assert records == [
        {"event": {"a": 1}, "calls": 1, "now": START, "env": "{}"},
        {"event": {}, "calls": 2, "now": START + 60, "env": "{}"},
    ]
    account.aws.update_function_configuration(FunctionName="echo", Environment={"Variables": {"CONFIG": "new"}})
    assert invoke(account, "echo")["Payload"]["calls"] == 1  # a fresh environment
    assert account.functions.records[-1]["record"]["env"] == "new"


def test_two_functions_from_one_zip_share_nothing(account: ServicesAccount) -> None:
    code = package(ECHO)
    account.function("one", code)
    account.function("two", code)
    assert [invoke(account, name)["Payload"]["calls"] for name in ("one", "one", "two")] == [1, 2, 1]


def test_overlapping_invocations_have_environments_of_their_own(account: ServicesAccount) -> None:
    account.function("sleeper", package(SLEEPER.replace("runtime.log", "global calls; calls += 1; runtime.log")
                                        .replace("def handler", "calls = 0\n    def handler")
                                        .replace('"left": context', '"calls": calls, "left": context')))  # fmt: skip
    seen: list[Any] = []
    for delay in (0, 5):
        account.clock.after(delay, lambda: account.clock.spawn("call", lambda: seen.append(invoke(account, "sleeper"))))
    account.clock.run_for(40)
    assert [each["Payload"]["calls"] for each in seen] == [1, 1]
    assert invoke(account, "sleeper")["Payload"]["calls"] == 2


def test_waiting_takes_virtual_time_and_a_timeout_ends_it(account: ServicesAccount) -> None:
    account.function("sleeper", package(SLEEPER))
    assert invoke(account, "sleeper", {"sleep": 50})["Payload"] == {"left": 10_000}
    assert account.clock.now() == START + 50
    answer = invoke(account, "sleeper", {"sleep": 100})
    assert answer["FunctionError"] == "Unhandled"
    assert "Task timed out after 60.00 seconds" in answer["Payload"]["errorMessage"]
    assert account.clock.now() == START + 110
    assert account.functions.failures[0]["type"] == "Sandbox.Timedout"
    watch = account.services.cloudwatch
    assert watch.store.series[("AWS/Lambda", "Errors", (("FunctionName", "sleeper"),))]


def test_an_exception_is_the_function_s_error_with_type_message_and_trace(account: ServicesAccount) -> None:
    account.function("fails", package(FAILS))
    answer = invoke(account, "fails", {"what": "x"})
    assert answer["StatusCode"] == 200
    assert answer["FunctionError"] == "Unhandled"
    assert answer["Payload"]["errorType"] == "ValueError"
    assert answer["Payload"]["errorMessage"] == "no such thing: x"
    assert "/var/task/fleet_control/aws/controller.py" in answer["Payload"]["stackTrace"][-1]
    failure = account.functions.failures[0]
    assert (failure["function"], failure["type"], failure["at"]) == ("fails", "ValueError", START)


def test_a_call_its_role_may_not_make_is_an_access_error_inside(account: ServicesAccount) -> None:
    url = account.queue("jobs")
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:jobs"
    account.function("sends", package(SENDS), allow("sqs:SendMessage", arn))
    assert "FunctionError" not in invoke(account, "sends", {"url": url})
    account.cloud.client("iam").put_role_policy(RoleName="sends-role", PolicyName="own", PolicyDocument=document(LOGS))
    answer = invoke(account, "sends", {"url": url})
    assert "AccessDenied" in answer["Payload"]["errorMessage"]
    assert account.bodies(url) == ["from a function"]


def test_what_the_twin_does_not_know_is_no_function_error(account: ServicesAccount) -> None:
    unknown = """
        from . import runtime
        def handler(event, context):
            try:
                runtime.client("sqs").list_queues()
            except Exception:
                return "swallowed"
    """
    account.function("curious", package(unknown), allow("*"))
    with pytest.raises(NotModelledError, match="sqs:ListQueues"):
        invoke(account, "curious")


def test_a_role_that_may_not_write_logs_leaves_no_records(account: ServicesAccount) -> None:
    account.function("echo", package(ECHO), Role=account.role("silent"))
    assert invoke(account, "echo")["Payload"]["calls"] == 1
    assert account.functions.records == []
    assert account.functions.lost_records["echo"] == 1


def test_a_plain_handler_prints_into_its_records(account: ServicesAccount) -> None:
    code = zipped(
        {"index.py": 'import helper\ndef main(e, c):\n print("hi", helper.X)\n return e', "helper.py": "X = 7"}
    )
    account.function("plain", code, Handler="index.main")
    assert invoke(account, "plain", [1])["Payload"] == [1]
    assert account.functions.records[0]["record"] == {"message": "hi 7"}


def test_late_imports_stay_inside_the_package(account: ServicesAccount) -> None:
    late = """
        def handler(event, context):
            from fleet_control.aws import extra
            from . import extra as again
            return [extra.NAME, extra is again]
    """
    account.function("late", package(late, **{"aws/extra": "NAME = 'mine'"}))
    assert invoke(account, "late")["Payload"] == ["mine", True]


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"Runtime": "python3.8"}, "InvalidParameterValueException"),
        ({"Runtime": "python9"}, "InvalidParameterValueException"),
        ({"Timeout": 901}, "ValidationException"),
        ({"MemorySize": 10_241}, "ValidationException"),
        ({"Handler": "fleet_control.aws.missing.handler"}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"BIG": "x" * 4096}}}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"AWS_REGION": "here"}}}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"1ST": "x"}}}, "InvalidParameterValueException"),
        ({"Role": f"arn:aws:iam::{ACCOUNT}:role/none"}, "InvalidParameterValueException"),
        ({"Code": {"ZipFile": b"no zip"}}, "InvalidParameterValueException"),
        ({"DeadLetterConfig": {"TargetArn": f"arn:aws:sqs:us-east-1:{ACCOUNT}:x"}}, "InvalidParameterValueException"),
    ],
)
def test_functions_lambda_refuses(account: ServicesAccount, settings: dict[str, Any], code: str) -> None:
    with refused(code):
        account.function("echo", package(ECHO), **settings)
    assert account.functions.functions == {}


def test_a_role_that_does_not_trust_lambda_is_refused(account: ServicesAccount) -> None:
    with refused("InvalidParameterValueException", "cannot be assumed by Lambda"):
        account.function("echo", package(ECHO), Role=account.role("other", service="ec2.amazonaws.com"))


def test_what_is_not_modelled_is_refused_by_name(account: ServicesAccount) -> None:
    with pytest.raises(NotModelledError, match=r"nodejs22\.x"):
        account.function("echo", package(ECHO), Runtime="nodejs22.x")
    with pytest.raises(NotModelledError, match="SnapStart of lambda:CreateFunction"):
        account.aws.create_function(
            FunctionName="x", Role=account.role("any"), Code={"ZipFile": b""}, SnapStart={"ApplyOn": "None"}
        )


def test_configuration_tags_and_policy_read_back(account: ServicesAccount) -> None:
    arn = account.function("echo", package(ECHO), Architectures=["arm64"], MemorySize=256, Tags={"stack": "dev"},
                           LoggingConfig={"LogFormat": "Text", "LogGroup": "/aws/lambda/echo"})  # fmt: skip
    found = account.aws.get_function(FunctionName="echo")
    assert found["Tags"] == {"stack": "dev"}
    assert found["Configuration"]["Architectures"] == ["arm64"]
    assert found["Configuration"]["LoggingConfig"]["LogGroup"] == "/aws/lambda/echo"
    before = found["Configuration"]["CodeSha256"]
    changed = account.aws.update_function_code(FunctionName="echo", ZipFile=package(FAILS))
    assert changed["CodeSha256"] != before
    account.aws.tag_resource(Resource=arn, Tags={"a": "b"})
    account.aws.untag_resource(Resource=arn, TagKeys=["stack"])
    assert account.aws.list_tags(Resource=arn)["Tags"] == {"a": "b"}
    with refused("ResourceNotFoundException"):
        account.aws.get_policy(FunctionName="echo")
    account.permit("echo", "events.amazonaws.com", "arn:aws:events:us-east-1:1:rule/x")
    with refused("ResourceConflictException"):
        account.permit("echo", "events.amazonaws.com", "arn:aws:events:us-east-1:1:rule/x")
    statement = json.loads(account.aws.get_policy(FunctionName="echo")["Policy"])["Statement"][0]
    assert statement["Condition"] == {"ArnLike": {"AWS:SourceArn": "arn:aws:events:us-east-1:1:rule/x"}}
    account.aws.remove_permission(FunctionName="echo", StatementId="events")
    account.aws.delete_function(FunctionName="echo")
    with refused("ResourceNotFoundException", "Function not found"):
        account.aws.get_function(FunctionName="echo")


# -- asynchronous invocation ----------------------------------------------------------------------------------


def test_a_failing_event_is_tried_three_times_and_then_goes_to_its_destination(account: ServicesAccount) -> None:
    url = account.queue("letters")
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"
    account.function("fails", package(FAILS), allow("sqs:SendMessage", arn))
    account.aws.put_function_event_invoke_config(
        FunctionName="fails", DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    assert invoke(account, "fails", {"what": "x"}, InvocationType="Event")["StatusCode"] == 202
    account.clock.run_for(400)
    assert [failure["at"] - START for failure in account.functions.failures] == [0, 60, 180]
    record = json.loads(account.bodies(url)[0])
    assert record["requestPayload"] == {"what": "x"}
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestContext"]["approximateInvokeCount"] == 3
    assert record["responsePayload"]["errorType"] == "ValueError"
    assert account.functions.events.lost == []


def test_an_event_whose_destination_the_role_may_no_longer_reach_is_lost_and_recorded(account: ServicesAccount) -> None:
    account.queue("letters")
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"
    account.function("fails", package(FAILS), allow("sqs:SendMessage", arn))
    account.aws.put_function_event_invoke_config(
        FunctionName="fails", MaximumRetryAttempts=0, DestinationConfig={"OnFailure": {"Destination": arn}}
    )
    account.cloud.client("iam").delete_role_policy(RoleName="fails-role", PolicyName="own")
    invoke(account, "fails", {"what": "x"}, InvocationType="Event")
    account.clock.run_for(10)
    assert [lost["event"] for lost in account.functions.events.lost] == [{"what": "x"}]
    dimensions = {"FunctionName": "fails"}
    assert account.services.cloudwatch.latest("AWS/Lambda", "DestinationDeliveryFailures", dimensions) == 1


def test_a_destination_the_role_may_not_reach_is_refused_when_it_is_set(account: ServicesAccount) -> None:
    account.function("fails", package(FAILS))
    with refused("InvalidParameterValueException", "destination ARN"):
        account.aws.put_function_event_invoke_config(
            FunctionName="fails",
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:sqs:us-east-1:{ACCOUNT}:letters"}},
        )


def test_a_fresh_account_cannot_reserve_concurrency_and_a_reservation_throttles(account: ServicesAccount) -> None:
    account.function("sleeper", package(SLEEPER))
    with refused("InvalidParameterValueException", "minimum value of [10]"):
        account.aws.put_function_concurrency(FunctionName="sleeper", ReservedConcurrentExecutions=1)
    account.functions.account_concurrency = 100
    account.aws.put_function_concurrency(FunctionName="sleeper", ReservedConcurrentExecutions=1)
    invoke(account, "sleeper", {"sleep": 30}, InvocationType="Event")
    account.clock.run_for(1)
    with refused("TooManyRequestsException"):
        invoke(account, "sleeper")
    invoke(account, "sleeper", {"sleep": 1}, InvocationType="Event")  # waits its turn
    account.clock.run_for(60)
    starts = [each["record"]["started"] - START for each in account.functions.records]
    assert starts == [0, 32]  # throttled at 1, again at 2, 4, 8 and 16: then 30 is over
    account.aws.delete_function_concurrency(FunctionName="sleeper")
    assert "ReservedConcurrentExecutions" not in account.aws.get_function_concurrency(FunctionName="sleeper")
