"""Least privilege, proven by what runs: the deployed roles hold what the functions and nodes asked for, and no more.

One stack is provisioned into the embedded cloud and led through everything its roles exist for. The cloud records each
permission that a call needed (`asked`); the policies are read back from IAM and held against that record.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from gpufleet.demo.stage import Stage
from gpufleet.operations import resume as operation
from gpufleet.twin.iam import evaluate
from gpufleet.twin.iam_resources import Need

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")

ROOT = Path(__file__).resolve().parents[2]
ROLES = ("controller", "scale-to-zero", "keeper", "node")
SPOT, ON_DEMAND = "inference-asg-dev", "inference-asg-dev-on-demand"
MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
Statement = Mapping[str, Any]


@dataclass
class Scenario:
    """A provisioned stack and what an operator, AWS or bad luck may do to it."""

    stage: Stage

    def __post_init__(self) -> None:
        self.world = self.stage.world
        self.queue = self.stage.outputs["queueUrl"]
        self.sqs = self.stage.client("sqs")

    def reach(self, condition: Callable[[], bool], limit_s: float = HOUR) -> None:
        """Run until `condition` holds. If it never does, the error names the calls that were denied."""
        if not self.world.run_until(condition, limit_s=limit_s):
            raise AssertionError(f"never reached; denied: {denied(self.stage) or 'nothing'}")

    def states(self, group: str) -> list[str]:
        return sorted(member.state for member in self.world.scaling.groups[group].members.values())

    def desire(self, group: str, count: int) -> None:
        """As somebody does it in the console."""
        self.stage.client("autoscaling").set_desired_capacity(AutoScalingGroupName=group, DesiredCapacity=count)

    def schedule(self, function: str, *, on: bool) -> None:
        events = self.stage.client("events")
        (events.enable_rule if on else events.disable_rule)(Name=f"inference-{function}-dev")

    def send(self, count: int, service_s: float) -> None:
        self.world.traffic.send(self.queue, count, service_s=service_s)

    def served(self) -> bool:
        now = self.world.snapshot()
        return not (now.backlog or now.in_flight)

    def empty(self) -> bool:
        return not self.stage.running()

    def both(self, state: str) -> bool:
        return all(state in self.states(group) for group in (SPOT, ON_DEMAND))

    def set_config(self, function: str, document: str) -> str:
        """Give a function another configuration; answers the one it had."""
        functions, name = self.stage.client("lambda"), f"inference-{function}-dev"
        before = functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"]
        environment = {"Variables": {"FLEET_CONTROL_CONFIG": document}}
        functions.update_function_configuration(FunctionName=name, Environment=environment)
        return before["FLEET_CONTROL_CONFIG"]

    def waiting_in(self, queue: str) -> int:
        url = self.sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        names = ["ApproximateNumberOfMessages"]
        answer = self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)
        return int(answer["Attributes"][names[0]])

    # -- the acts, in order ----------------------------------------------------------------------------------------

    def spot_serves_what_is_awkward(self) -> None:
        """Jobs, one that the model refuses at first, one that is no job, one that was received almost too often."""
        self.world.run_for(3 * MINUTE)  # the keeper's first pass is over: it would see to the last of them
        self.send(4, 20)
        refusals = iter([503])
        self.world.behaviour.refuse = lambda request: next(refusals, None)
        self.sqs.send_message(QueueUrl=self.queue, MessageBody="no job at all")
        self.sqs.send_message(QueueUrl=self.queue, MessageBody=json.dumps({"prompt": "often seen"}))
        for _ in range(9):  # the tenth receive would be its last
            answer = self.sqs.receive_message(QueueUrl=self.queue, MaxNumberOfMessages=10, VisibilityTimeout=0)
            assert any("often seen" in message["Body"] for message in answer["Messages"])
        self.reach(lambda: self.served() and self.empty())

    def spot_has_no_capacity(self) -> None:
        now = self.world.now()
        self.world.set_spot_shortage(now, now + 15 * MINUTE)
        self.send(4, 20)
        self.reach(lambda: bool(self.states(ON_DEMAND)))
        self.reach(lambda: self.served() and self.empty())

    def a_type_that_nobody_listed(self) -> None:
        """Somebody edits the spot group by hand: the guard asks EC2 what that is."""
        client = self.stage.client("autoscaling")
        (group,) = client.describe_auto_scaling_groups(AutoScalingGroupNames=[SPOT])["AutoScalingGroups"]
        before = group["MixedInstancesPolicy"]
        odd = {**before["LaunchTemplate"], "Overrides": [{"InstanceType": "g7e.2xlarge"}]}
        client.update_auto_scaling_group(
            AutoScalingGroupName=SPOT, MixedInstancesPolicy={**before, "LaunchTemplate": odd}
        )
        self.send(4, 20)
        self.reach(lambda: self.served() and self.empty())
        client.update_auto_scaling_group(AutoScalingGroupName=SPOT, MixedInstancesPolicy=before)

    def noon_has_passed(self) -> None:
        """The guard asks Cost Explorer once a day, in the afternoon (UTC)."""
        self.reach(lambda: self.world.now() % DAY > 12.1 * HOUR, limit_s=DAY)

    def one_in_each_group(self, jobs: int, service_s: float = 100) -> None:
        """A node at work in either group, and no controller that would have it otherwise."""
        self.schedule("controller", on=False)
        self.world.run_for(3 * MINUTE)  # until its last run is over
        self.send(jobs, service_s)
        self.desire(SPOT, 1)
        self.desire(ON_DEMAND, 1)
        self.reach(lambda: self.both("InService"))

    def told_to_leave_at_work(self) -> None:
        """A scale-in of both, by hand, amid jobs of five minutes: until those end the nodes say that they work."""
        self.one_in_each_group(jobs=12, service_s=300)
        self.reach(lambda: self.world.snapshot().in_flight == 4)
        client = self.stage.client("autoscaling")
        for group in (SPOT, ON_DEMAND):
            (leaving,) = self.world.scaling.groups[group].members
            client.terminate_instance_in_auto_scaling_group(InstanceId=leaving, ShouldDecrementDesiredCapacity=True)
        self.reach(self.empty)
        self.schedule("controller", on=True)
        self.reach(lambda: self.served() and self.empty())

    def stopped_in_the_middle(self) -> None:
        """Each group has one node at work and one that boots; one worker hangs. AWS Budgets says: over budget."""
        self.one_in_each_group(jobs=40)
        self.desire(SPOT, 2)
        self.desire(ON_DEMAND, 2)
        self.reach(lambda: self.both("Pending:Wait"))
        serving = next(
            i for i, member in self.world.scaling.groups[SPOT].members.items() if member.state == "InService"
        )
        self.world.nodes.nodes[serving]._units["worker.service"].kill()  # it never answers its hook
        self.world.services.budgets.figure = lambda: 200.0
        self.world.services.budgets.refresh_now()
        self.reach(lambda: "Terminating:Wait" in self.states(SPOT), limit_s=10 * MINUTE)
        self.world.run_for(150)
        self.stage.client("autoscaling").record_lifecycle_action_heartbeat(  # and had asked for more time
            AutoScalingGroupName=SPOT, LifecycleHookName="inference-terminate-hook", InstanceId=serving
        )
        self.reach(self.empty)
        assert self.stage.latch()["reason"] == "budget"
        self.schedule("controller", on=True)

    def kept_while_stopped(self) -> None:
        """The keeper sends anew what has waited for too long: here ten minutes, not five days."""
        before = json.loads(self.set_config("keeper", "{}"))
        self.set_config("keeper", json.dumps({**before, "resend_after_s": 600}))
        self.world.run_for(10 * MINUTE)
        self.send(1, 100)
        self.invoke("keeper")
        self.set_config("keeper", json.dumps(before))
        assert self.world.snapshot().backlog > 1

    def invoke(self, function: str) -> None:
        client = self.stage.client("lambda")
        client.invoke(FunctionName=f"inference-{function}-dev", InvocationType="Event", Payload=b"{}")
        self.world.run_for(5 * MINUTE)

    def resumed(self) -> None:
        self.stage.up(monthlyBudgetUsd=600)
        self.world.run_for(2 * MINUTE)
        operation.resume(self.stage.client("dynamodb"), self.stage.outputs["controlTable"], "test", self.stage.now())
        self.reach(lambda: self.served() and self.empty())

    def guard_dies(self) -> None:
        """Nobody extends the allowance: the nodes leave by themselves, in the middle of their work."""
        self.one_in_each_group(jobs=40)
        self.schedule("scale-to-zero", on=False)
        self.reach(self.empty)
        assert not self.served()
        self.schedule("scale-to-zero", on=True)
        self.schedule("controller", on=True)

    def functions_fail(self) -> None:
        """Each function runs into its own fault until it gives up: the event is among its dead letters then."""
        before = {kind: self.set_config(kind, "no JSON") for kind in ("controller", "scale-to-zero", "keeper")}
        self.invoke("keeper")
        self.reach(lambda: all(self.waiting_in(f"inference-{kind}-dlq-dev") for kind in before))
        for kind, document in before.items():
            self.set_config(kind, document)

    def run(self) -> None:
        self.spot_serves_what_is_awkward()
        self.a_type_that_nobody_listed()
        self.spot_has_no_capacity()
        self.told_to_leave_at_work()
        self.stopped_in_the_middle()
        self.kept_while_stopped()
        self.resumed()
        self.guard_dies()
        self.noon_has_passed()
        self.functions_fail()


def denied(stage: Stage) -> list[str]:
    """Calls that IAM refused, as CloudTrail shows them."""
    codes = ("AccessDenied", "AccessDeniedException")
    return [f"{call.principal}: {call.service}:{call.operation}" for call in stage.cloud.calls if call.error in codes]


def name(role: str) -> str:
    return f"inference-{role}-dev"


def policy(stage: Stage, role: str) -> dict[str, Any]:
    """The one inline policy of a role; it has no other."""
    iam = stage.client("iam")
    assert iam.list_role_policies(RoleName=name(role))["PolicyNames"] == [name(role)]
    assert iam.list_attached_role_policies(RoleName=name(role))["AttachedPolicies"] == []
    return iam.get_role_policy(RoleName=name(role), PolicyName=name(role))["PolicyDocument"]


def node_faults(stage: Stage) -> list[str]:
    return [str(entry["record"]) for entry in stage.world.logs if "not authorized" in str(entry["record"])]


def narrowed(statement: Statement) -> Iterator[tuple[str, str, Statement]]:
    """The statement's single grants: (action, resource or condition value, a statement that allows just that)."""
    for action, resource in itertools.product(statement["Action"], statement["Resource"]):
        one = {**statement, "Action": [action], "Resource": [resource]}
        yield action, resource, one
        for operator, keys in statement.get("Condition", {}).items():
            for key, values in keys.items():
                for value in [values] if isinstance(values, str) else values:
                    yield action, value, {**one, "Condition": {operator: {**keys, key: [value]}}}


def used(grant: Statement, need: Need) -> bool:
    """Whether a single grant is what this need is for; "*" is for needs that know no resource, and for no other."""
    return evaluate([grant], need) and (grant["Resource"] != ["*"] or need.resource == "*")


def idle(held: Sequence[Statement], asked: Iterable[Need]) -> list[str]:
    """Statements without which nothing of what was asked for would be denied."""
    needs = list(asked)
    return [
        statement["Sid"]
        for statement in held
        if all(evaluate([other for other in held if other is not statement], need) for need in needs)
    ]


def unasked(held: Sequence[Statement], asked: Iterable[Need]) -> set[tuple[str, str, str]]:
    """Grants that nothing asked for: (Sid, action, resource or condition value)."""
    needs = list(asked)
    return {
        (statement["Sid"], action, scope)
        for statement in held
        for action, scope, grant in narrowed(statement)
        if not any(used(grant, need) for need in needs)
    }


@contextmanager
def without(stage: Stage, role: str, sid: str) -> Iterator[None]:
    """One statement is taken from a deployed role for a while."""
    iam, before = stage.client("iam"), policy(stage, role)
    kept = [statement for statement in before["Statement"] if statement["Sid"] != sid]
    assert len(kept) == len(before["Statement"]) - 1
    names = {"RoleName": name(role), "PolicyName": name(role)}
    iam.put_role_policy(**names, PolicyDocument=json.dumps({**before, "Statement": kept}))
    try:
        yield
    finally:
        iam.put_role_policy(**names, PolicyDocument=json.dumps(before))


@pytest.mark.long
def test_each_role_holds_what_runs_needs_and_no_more(subtests: pytest.Subtests) -> None:
    """Without exception: what docker (the image), Lambda (log lines, failed events) and SNS (the key) need of a role is
    asked for on its behalf, as on AWS."""
    with Stage(ROOT, "dev", {"maxGpuInstances": 4, "drainSeconds": 120, "model.slots": 2}, "us-east-1", 1) as stage:
        stage.up()
        stage.watch()
        scenario = Scenario(stage)
        scenario.run()
        held = {role: policy(stage, role)["Statement"] for role in ROLES}
        asked = {role: frozenset(stage.cloud.authorizer.asked[name(role)]) for role in ROLES}

        with subtests.test("every role is in the proof"):
            assert {role["RoleName"] for role in stage.client("iam").list_roles()["Roles"]} == set(map(name, ROLES))
        with subtests.test("nothing that was needed is denied, and no function fails but of what it was given"):
            assert (denied(stage), node_faults(stage)) == ([], [])
            assert all(evaluate(held[role], need) for role in ROLES for need in asked[role])
            assert {failure["type"] for failure in stage.failures()} == {"ConfigError"}
        for role in ROLES:
            with subtests.test("without any one statement something would be denied", role=role):
                assert len({statement["Sid"] for statement in held[role]}) == len(held[role]) >= 3
                assert idle(held[role], asked[role]) == []
            with subtests.test("no statement is broader than what is used", role=role):
                assert unasked(held[role], asked[role]) == set()
        with subtests.test("the guard cannot end what is not its fleets'"):
            cannot_end_what_is_foreign(held["scale-to-zero"], asked["scale-to-zero"])
        with subtests.test("the guard only ever asks for 0, in a group that it has read back as suspended"):
            only_turns_off(stage)
        with (
            subtests.test("a function without a statement fails by name"),
            without(stage, "scale-to-zero", "KeepLedger"),
        ):
            stage.world.run_for(2 * MINUTE)
            failure = stage.failures()[-1]
            assert (failure["function"], failure["type"]) == (name("scale-to-zero"), "ClientError")
            assert "(AccessDeniedException)" in failure["message"]
            assert "is not authorized to perform: dynamodb:BatchGetItem" in failure["message"]
        with subtests.test("a node without a statement says what it may not"), without(stage, "node", "KeepJobRecords"):
            scenario.desire(SPOT, 1)
            scenario.reach(lambda: bool(node_faults(stage)))
            assert "is not authorized to perform: dynamodb:GetItem" in node_faults(stage)[0]


def cannot_end_what_is_foreign(held: Sequence[Statement], asked: Iterable[Need]) -> None:
    ended = [need for need in asked if need.action == "ec2:TerminateInstances"]
    assert ended
    for need in ended:
        tags = dict(need.context)
        assert tags["aws:resourcetag/gpu-inference-fleet"] == "inference-dev"
        foreign = {**tags, "aws:resourcetag/gpu-inference-fleet": "somebody-elses"}
        assert not evaluate(held, need._replace(context=tuple(foreign.items())))
        assert not evaluate(held, need._replace(context=()))


def only_turns_off(stage: Stage) -> None:
    """IAM cannot hold it to 0: so the recorded calls must."""
    told, checked, asked = set(), set(), 0
    for call in stage.cloud.calls:
        if (call.principal, call.service, call.error) != (name("scale-to-zero"), "autoscaling", None):
            continue
        group = call.params.get("AutoScalingGroupName")
        match call.operation:
            case "SuspendProcesses" if "Launch" in call.params["ScalingProcesses"]:
                told.add(group)
            case "DescribeAutoScalingGroups":
                checked |= told.intersection(call.params["AutoScalingGroupNames"])
            case "SetDesiredCapacity":
                assert call.params["DesiredCapacity"] == 0
                assert group in checked, f"{group} was set to 0 before it read back as suspended"
                asked += 1
    assert asked
