"""Auto Scaling in the twin: what AWS refuses, and what happens to instances over time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twin_account import LAUNCH, START, TERMINATE, Account, refused

from gpufleet.twin.cloud import Cloud
from gpufleet.twin.errors import NotModelledError
from gpufleet.twin.services.autoscaling.policy_calls import adjusted


@pytest.fixture
def account() -> Iterator[Account]:
    with Cloud(START, seed=1) as cloud:
        yield Account(cloud)


# -- what is refused ------------------------------------------------------------------------------------------------


def test_spot_template_does_not_fit_a_mixed_group(account: Account) -> None:
    spot = account.make_template("spot", InstanceMarketOptions={"MarketType": "spot"})
    with refused("ValidationError", "Incompatible launch template"):
        account.make_group(MixedInstancesPolicy=account.mixed(spot))
    account.make_group("plain", LaunchTemplate={"LaunchTemplateId": spot}, DesiredCapacity=1)
    account.clock.run_for(60)
    assert account.ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceLifecycle"] == "spot"


def test_group_has_exactly_one_source(account: Account) -> None:
    template = {"LaunchTemplateId": account.template}
    with refused("ValidationError", "Valid requests must contain either"):
        account.make_group(LaunchTemplate=template, MixedInstancesPolicy=account.mixed())
    with refused("ValidationError", "Valid requests must contain either"):
        account.make_group(LaunchTemplate=None)
    with pytest.raises(NotModelledError, match="LaunchConfigurationName"):
        account.make_group(LaunchConfigurationName="old")


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "does not exist"),
        ({"LaunchTemplateName": "nobody"}, "does not exist"),
        ({"LaunchTemplateName": "node", "Version": "7"}, "version"),
    ],
)
def test_template_and_version_must_exist(account: Account, template: dict[str, str], words: str) -> None:
    with refused("ValidationError", words):
        account.make_group(LaunchTemplate=template)


def test_template_must_say_what_to_launch(account: Account) -> None:
    for missing, words in (("ImageId", "image ID"), ("InstanceType", "instance type")):
        bare = account.make_template(f"no-{missing}", **{missing: None})
        with refused("ValidationError", words):
            account.make_group(LaunchTemplate={"LaunchTemplateId": bare})


def test_sizes(account: Account) -> None:
    with refused("ValidationError", "Max bound, 1, must be greater than or equal to min bound, 2"):
        account.make_group(MinSize=2, MaxSize=1)
    with refused("ValidationError", "must be between the specified min size:0 and max size:2"):
        account.make_group(MaxSize=2, DesiredCapacity=3)
    account.make_group(MinSize=1, MaxSize=2)
    with refused("ValidationError", "value 3 is above max value 2"):
        account.desire(3)
    with refused("ValidationError", "value 0 is below min value 1"):
        account.desire(0)
    with refused("ValidationError", "Desired capacity:9"):
        account.aws.update_auto_scaling_group(AutoScalingGroupName="fleet", DesiredCapacity=9)
    with refused("ValidationError", "Max bound"):
        account.aws.update_auto_scaling_group(AutoScalingGroupName="fleet", MaxSize=0)
    assert account.group()["DesiredCapacity"] == 1


def test_a_bound_takes_desired_along(account: Account) -> None:
    account.make_group(DesiredCapacity=3)
    account.aws.update_auto_scaling_group(AutoScalingGroupName="fleet", MaxSize=2)
    assert account.group()["DesiredCapacity"] == 2
    account.aws.update_auto_scaling_group(AutoScalingGroupName="fleet", MaxSize=5, MinSize=4)
    assert account.group()["DesiredCapacity"] == 4


def test_names_and_subnets_must_exist(account: Account) -> None:
    account.make_group()
    with refused("AlreadyExists", "A group with the name fleet already exists"):
        account.make_group()
    with refused("ValidationError", "does not exist"):
        account.make_group("other", VPCZoneIdentifier="subnet-00000000")
    with refused("ValidationError", "At least one Availability Zone or VPC Subnet"):
        account.make_group("other", VPCZoneIdentifier=None)
    with refused("ValidationError", "not found"):
        account.desire(1, "nobody")
    with refused("ValidationError", "No managed instance found for instance ID: i-00000000"):
        account.terminate("i-00000000")


def test_elb_health_needs_a_load_balancer(account: Account) -> None:
    with refused("ValidationError", "ELB"):
        account.make_group(HealthCheckType="ELB")
    account.make_group()
    with refused("ValidationError", "ELB"):
        account.aws.update_auto_scaling_group(AutoScalingGroupName="fleet", HealthCheckType="ELB")


@pytest.mark.parametrize(
    ("distribution", "words"),
    [
        ({"OnDemandPercentageAboveBaseCapacity": 101}, "between 0 and 100"),
        ({"OnDemandBaseCapacity": -1}, "negative"),
        ({"SpotAllocationStrategy": "cheapest"}, "Invalid SpotAllocationStrategy"),
        ({"OnDemandAllocationStrategy": "cheapest"}, "Invalid OnDemandAllocationStrategy"),
        ({"SpotInstancePools": 2}, "lowest-price"),
    ],
)
def test_instances_distribution(account: Account, distribution: dict[str, Any], words: str) -> None:
    with refused("ValidationError", words):
        account.make_group(MixedInstancesPolicy=account.mixed(**distribution))


def test_overrides(account: Account) -> None:
    def with_overrides(*overrides: dict[str, str]) -> dict[str, Any]:
        policy = account.mixed()
        policy["LaunchTemplate"]["Overrides"] = list(overrides)
        return {"MixedInstancesPolicy": policy}

    a, b = {"InstanceType": "g5.xlarge"}, {"InstanceType": "g6.xlarge"}
    with refused("ValidationError", "name an instance type twice"):
        account.make_group(**with_overrides(a, a))
    with refused("ValidationError", "for all instance types or for none"):
        account.make_group(**with_overrides({**a, "WeightedCapacity": "1"}, b))
    with refused("ValidationError", "up to 40"):
        account.make_group(**with_overrides(*[a] * 41))
    with pytest.raises(NotModelledError, match="WeightedCapacity"):
        account.make_group(**with_overrides({**a, "WeightedCapacity": "2"}, {**b, "WeightedCapacity": "2"}))
    with pytest.raises(NotModelledError, match=r"no price for the instance type m5\.large"):
        account.make_group(**with_overrides({"InstanceType": "m5.large"}))
    account.make_group(**with_overrides({**a, "WeightedCapacity": "1"}, {**b, "WeightedCapacity": "1"}))


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"HeartbeatTimeout": 29}, "between 30 and 7200"),
        ({"HeartbeatTimeout": 7201}, "between 30 and 7200"),
        ({"LifecycleTransition": "autoscaling:LAUNCHING"}, "Invalid lifecycle transition"),
        ({"DefaultResult": "RETRY"}, "CONTINUE or ABANDON"),
    ],
)
def test_hook_bounds(account: Account, changed: dict[str, Any], words: str) -> None:
    account.make_group()
    given = {"LifecycleTransition": LAUNCH, "HeartbeatTimeout": 300, "DefaultResult": "ABANDON", **changed}
    with refused("ValidationError", words):
        account.aws.put_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="h", **given)


def test_hook_defaults_and_update(account: Account) -> None:
    account.make_group()
    put = account.aws.put_lifecycle_hook
    put(AutoScalingGroupName="fleet", LifecycleHookName="h", LifecycleTransition=LAUNCH)
    put(AutoScalingGroupName="fleet", LifecycleHookName="h", HeartbeatTimeout=60)
    (hook,) = account.aws.describe_lifecycle_hooks(AutoScalingGroupName="fleet")["LifecycleHooks"]
    assert (hook["LifecycleTransition"], hook["HeartbeatTimeout"], hook["DefaultResult"]) == (LAUNCH, 60, "ABANDON")
    assert hook["GlobalTimeout"] == 6000  # a hundred heartbeats
    account.aws.delete_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="h")
    with refused("ValidationError", "No Lifecycle Hook found"):
        account.aws.delete_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="h")


def test_process_and_metric_names(account: Account) -> None:
    account.make_group()
    with refused("ValidationError", "Invalid process type: Lunch"):
        account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Launch", "Lunch"])
    assert account.group()["SuspendedProcesses"] == []
    with refused("ValidationError", "Invalid metric type: GroupMood"):
        account.aws.enable_metrics_collection(
            AutoScalingGroupName="fleet", Granularity="1Minute", Metrics=["GroupMood"]
        )
    with refused("ValidationError", "1Minute"):
        account.aws.enable_metrics_collection(AutoScalingGroupName="fleet", Granularity="5Minutes")


@pytest.mark.parametrize(
    ("call", "params"),
    [
        ("enter_standby", {"ShouldDecrementDesiredCapacity": True}),
        ("put_warm_pool", {}),
        ("start_instance_refresh", {}),
        ("attach_instances", {"InstanceIds": ["i-1"]}),
    ],
)
def test_what_is_not_modelled_is_refused_by_name(account: Account, call: str, params: dict[str, Any]) -> None:
    account.make_group()
    with pytest.raises(NotModelledError, match="autoscaling:"):
        getattr(account.aws, call)(AutoScalingGroupName="fleet", **params)
    for setting in ({"CapacityRebalance": True}, {"MaxInstanceLifetime": 86400}, {"PlacementGroup": "p"}):
        with pytest.raises(NotModelledError, match=next(iter(setting))):
            account.make_group("other", **setting)


# -- launching ------------------------------------------------------------------------------------------------------


def test_desired_instances_come_into_service_protected_and_spread(account: Account) -> None:
    account.make_group(Tags=[{"Key": "team", "Value": "ml", "PropagateAtLaunch": True}, {"Key": "own", "Value": "x"}])
    account.desire(4)
    account.clock.run_for(1)
    assert account.running() == []  # AWS reacts within seconds, not at once
    account.clock.run_for(9)
    assert account.states() == ["Pending"] * 4
    account.clock.run_for(60)
    shown = account.group()["Instances"]
    assert account.states() == ["InService"] * 4
    assert all(i["ProtectedFromScaleIn"] and i["LaunchTemplate"]["Version"] == "1" for i in shown)
    assert sorted(i["AvailabilityZone"] for i in shown) == ["us-east-1a"] * 2 + ["us-east-1b"] * 2
    (instance,) = account.ec2.describe_instances(InstanceIds=[shown[0]["InstanceId"]])["Reservations"][0]["Instances"]
    tags = {tag["Key"]: tag["Value"] for tag in instance["Tags"]}
    assert tags == {"team": "ml", "gpu-inference-fleet": "inference-dev", "aws:autoscaling:groupName": "fleet"}
    first = account.activities()[-1]
    assert first["StatusCode"] == "Successful"
    assert first["Description"] == f"Launching a new EC2 instance: {shown[0]['InstanceId']}"
    assert "explicitly set group desired capacity changing the desired capacity from 0 to 4" in first["Cause"]
    assert "increasing the capacity from 0 to 1" in first["Cause"]


def test_an_update_of_the_template_reaches_new_instances(account: Account) -> None:
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(60)
    account.ec2.create_launch_template_version(
        LaunchTemplateId=account.template, LaunchTemplateData={"ImageId": "ami-2", "InstanceType": "g6.xlarge"}
    )
    account.desire(2)
    account.clock.run_for(60)
    assert [i["LaunchTemplate"]["Version"] for i in account.group()["Instances"]] == ["1", "2"]
    assert [i["InstanceType"] for i in account.group()["Instances"]] == ["g5.xlarge", "g6.xlarge"]


def test_suspended_launch_launches_nothing_until_resumed(account: Account) -> None:
    account.make_group()
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Launch", "AZRebalance"])
    account.desire(2)
    account.clock.run_for(600)
    assert account.ids() == []
    suspended = account.group()["SuspendedProcesses"]
    assert [p["ProcessName"] for p in suspended] == ["AZRebalance", "Launch"]
    assert suspended[1]["SuspensionReason"].startswith("User suspended at 2026-11-01T12:00:00Z")
    account.aws.resume_processes(AutoScalingGroupName="fleet")  # without a list: everything, AZRebalance included
    assert account.group()["SuspendedProcesses"] == []
    account.clock.run_for(60)
    assert account.states() == ["InService"] * 2


def test_on_demand_share_of_a_mixed_group(account: Account) -> None:
    policy = account.mixed(OnDemandBaseCapacity=1, OnDemandPercentageAboveBaseCapacity=50)
    account.make_group(MixedInstancesPolicy=policy, DesiredCapacity=5)
    account.clock.run_for(60)
    options = [i.spot for i in account.machines.instances.values()]
    assert options.count(False) == 3  # one, and half of the four above it
    types = {i.type for i in account.machines.instances.values() if not i.spot}
    assert types == {"g5.xlarge"}  # the first of the list, as the strategy is "prioritized"


def test_spot_takes_the_cheaper_of_the_deep_pools(account: Account) -> None:
    account.machines.market.depth = lambda kind, zone, at: 1 if kind == "g5.xlarge" else 9  # type: ignore[method-assign]
    account.make_spot_group(DesiredCapacity=1)
    account.clock.run_for(60)
    (instance,) = account.machines.instances.values()
    assert (instance.spot, instance.type) == (True, "g6.xlarge")


def test_spot_shortage_fails_in_aws_words_and_is_retried(account: Account) -> None:
    account.machines.market.shortage(START, START + 900)
    account.make_spot_group(DesiredCapacity=2)
    account.clock.run_for(899)
    assert account.ids("spot") == []
    failed = account.activities("spot")
    assert 3 <= len(failed) <= 8  # backed off, not hammered
    assert {a["StatusCode"] for a in failed} == {"Failed"}
    assert failed[0]["StatusMessage"].startswith("Could not launch Spot Instances. UnfulfillableCapacity")
    assert "Status Reason: Could not launch Spot" in failed[0]["Description"]
    account.clock.run_for(400)
    assert account.states("spot") == ["InService"] * 2


def test_no_fallback_from_one_type_to_none_but_to_another_pool(account: Account) -> None:
    account.machines.market.shortage(START, START + 900, types=["g5.xlarge"], zones=None)
    account.make_spot_group(DesiredCapacity=2)
    account.clock.run_for(60)
    assert {i.type for i in account.machines.instances.values()} == {"g6.xlarge"}


def test_a_launch_that_fails_is_replaced_after_a_pause(account: Account) -> None:
    account.machines.fail_next_boots(1)
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(300)
    assert account.states() == ["InService"]
    assert [a["StatusCode"] for a in account.activities()] == ["Successful", "Failed"]


# -- hooks ----------------------------------------------------------------------------------------------------------


def test_launch_hook_holds_the_instance_until_it_is_completed(account: Account) -> None:
    hook = account.hook(account.make_group(DesiredCapacity=1), LAUNCH)
    account.clock.run_for(120)
    assert account.states() == ["Pending:Wait"]
    assert account.activities()[0]["StatusCode"] == "MidLifecycleAction"
    assert not account.group()["Instances"][0]["ProtectedFromScaleIn"]
    (instance_id,) = account.ids()
    with refused("ValidationError", f"No active Lifecycle Action found with instance ID {instance_id}"):
        account.complete("fleet", "terminate-hook", instance_id)
    with refused("ValidationError", "CONTINUE or ABANDON"):
        account.complete("fleet", hook, instance_id, "YES")
    account.complete("fleet", hook, instance_id)
    assert account.states() == ["InService"]
    with refused("ValidationError", "No active Lifecycle Action found"):
        account.complete("fleet", hook, instance_id)
    account.clock.run_for(3600)
    assert account.ids() == [instance_id]


@pytest.mark.parametrize(
    ("answer", "reason"), [(True, "Lifecycle Action Completed with ABANDON Result"), (False, "Heartbeat Timeout")]
)
def test_abandoned_launch_is_replaced_ever_more_slowly(account: Account, answer: bool, reason: str) -> None:
    hook = account.hook(account.make_group(DesiredCapacity=1), LAUNCH, heartbeat_s=60)
    boots: list[str] = []
    for _ in range(180):
        account.clock.run_for(10)
        boots += [i for i in account.ids() if i not in boots]
        if answer and account.states() == ["Pending:Wait"]:
            account.complete("fleet", hook, account.ids()[0], "ABANDON")
    assert 5 <= len(boots) <= 9  # half an hour of failures: not one launch after the other
    assert len(account.running()) <= 1
    cancelled = [a for a in account.activities() if a["StatusCode"] == "Cancelled"]
    assert cancelled[0]["StatusMessage"].endswith(f"was abandoned: {reason}")
    assert cancelled[0]["StatusMessage"].startswith("Instance failed to complete user's Lifecycle Action")


def test_default_result_continue_lets_a_silent_instance_in(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=1), LAUNCH, heartbeat_s=60, default="CONTINUE")
    account.clock.run_for(120)
    assert account.states() == ["InService"]


def test_terminate_hook_holds_until_completed_or_timed_out(account: Account) -> None:
    hook = account.hook(account.make_group(DesiredCapacity=2), TERMINATE, heartbeat_s=120)
    account.clock.run_for(60)
    first, second = account.ids()
    account.terminate(first)
    account.terminate(second)
    account.clock.run_for(60)
    assert account.states() == ["Terminating:Wait"] * 2
    assert set(account.running()) == {first, second}
    account.complete("fleet", hook, first)
    account.clock.run_for(40)
    assert account.running() == [second]
    account.clock.run_for(61)
    assert account.running() == []
    assert account.ids() == []
    assert account.group()["DesiredCapacity"] == 0


def test_heartbeat_extends_a_wait_up_to_a_hundred_times(account: Account) -> None:
    hook = account.hook(account.make_group(DesiredCapacity=1), TERMINATE, heartbeat_s=30)
    account.clock.run_for(60)
    (instance_id,) = account.ids()
    account.terminate(instance_id)
    beats = 0
    while account.running() and beats < 200:
        account.aws.record_lifecycle_action_heartbeat(
            AutoScalingGroupName="fleet", LifecycleHookName=hook, InstanceId=instance_id
        )
        beats += 1
        account.clock.run_for(20)
    assert beats == 150  # 3000 s, twenty at a time


def test_deleting_a_hook_answers_who_waits_at_it(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=1), LAUNCH)
    account.clock.run_for(60)
    account.aws.delete_lifecycle_hook(AutoScalingGroupName="fleet", LifecycleHookName="launch-hook")
    account.clock.run_for(40)
    assert account.activities()[-1]["StatusCode"] == "Cancelled"


def test_events_are_emitted(account: Account) -> None:
    seen: list[tuple[str, str, dict[str, Any]]] = []

    class Bus:
        def emit(self, source: str, detail_type: str, detail: dict[str, Any], resources: list[str]) -> None:
            seen.append((source, detail_type, detail))

        def handles(self, operation: str) -> bool:
            return False

        def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any]:
            return {}

    account.cloud.register("events", Bus())
    hook = account.hook(account.make_group(DesiredCapacity=1), TERMINATE)
    account.clock.run_for(60)
    (instance_id,) = account.ids()
    account.terminate(instance_id)
    kinds = [kind for _, kind, _ in seen]
    assert "EC2 Instance Launch Successful" in kinds
    source, kind, detail = next(event for event in seen if "terminate Lifecycle Action" in event[1])
    assert (source, kind) == ("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action")
    assert (detail["EC2InstanceId"], detail["LifecycleHookName"]) == (instance_id, hook)
    assert "EC2 Instance State-change Notification" in kinds


# -- ending -----------------------------------------------------------------------------------------------------------


def test_terminate_by_name_with_and_without_decrement(account: Account) -> None:
    account.make_group(DesiredCapacity=2)
    account.clock.run_for(60)
    gone, replaced = account.ids()
    activity = account.terminate(gone)
    assert (
        "was taken out of service in response to a user request, shrinking the capacity from 2 to 1"
        in activity["Cause"]
    )
    account.clock.run_for(90)
    assert account.ids() == [replaced]
    account.terminate(replaced, decrement=False)
    account.clock.run_for(90)
    assert len(account.ids()) == 1
    assert replaced not in account.ids()


def test_an_instance_goes_only_once(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=2), TERMINATE)
    account.clock.run_for(60)
    first = account.ids()[0]
    account.terminate(first)
    with refused("ScalingActivityInProgress", "already being terminated"):
        account.terminate(first)
    assert account.group()["DesiredCapacity"] == 1


def test_decrement_at_the_minimum_is_refused(account: Account) -> None:
    account.make_group(MinSize=1)
    account.clock.run_for(60)
    (instance_id,) = account.ids()
    with refused("ValidationError", "desiredSize equals minSize (1)"):
        account.terminate(instance_id)
    assert account.states() == ["InService"]


def test_lower_desired_and_decrement_take_two(account: Account) -> None:
    account.make_group(DesiredCapacity=3)
    account.clock.run_for(60)
    account.desire(2)
    account.terminate(account.ids()[0])
    assert account.group()["DesiredCapacity"] == 1


def test_protected_instances_stay_though_desired_falls(account: Account) -> None:
    account.make_group(DesiredCapacity=2)
    account.clock.run_for(60)
    ids = account.ids()
    account.desire(0)
    account.clock.run_for(600)
    assert account.states() == ["InService"] * 2
    account.aws.set_instance_protection(AutoScalingGroupName="fleet", InstanceIds=ids[:1], ProtectedFromScaleIn=False)
    account.clock.run_for(90)
    assert account.ids() == ids[1:]


def test_lowering_desired_lets_aws_choose_among_the_unprotected(account: Account) -> None:
    account.make_group(DesiredCapacity=3, NewInstancesProtectedFromScaleIn=False)
    account.clock.run_for(60)
    account.desire(1)
    account.clock.run_for(90)
    assert len(account.ids()) == 1
    assert "in response to a difference between desired and actual capacity" in account.activities()[0]["Cause"]


def test_suspended_terminate_keeps_the_unprotected(account: Account) -> None:
    account.make_group(DesiredCapacity=2, NewInstancesProtectedFromScaleIn=False)
    account.clock.run_for(60)
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["Terminate"])
    account.desire(0)
    account.clock.run_for(600)
    assert len(account.ids()) == 2


def test_what_is_still_coming_may_be_taken(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=1), LAUNCH)
    account.clock.run_for(60)
    account.desire(0)
    account.clock.run_for(60)
    assert account.ids() == []


def test_what_is_still_coming_may_also_stay(account: Account) -> None:
    account.scaling.lifecycle.takes_pending = False
    account.hook(account.make_group(DesiredCapacity=1), LAUNCH)
    account.clock.run_for(60)
    account.desire(0)
    account.clock.run_for(60)
    assert account.states() == ["Pending:Wait"]


def test_protection_is_for_instances_in_service_and_for_fifty(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=1), LAUNCH)
    account.clock.run_for(60)
    protect = account.aws.set_instance_protection
    with refused("ValidationError", "is not in InService"):
        protect(AutoScalingGroupName="fleet", InstanceIds=account.ids(), ProtectedFromScaleIn=True)
    with refused("ValidationError", "at most 50"):
        protect(AutoScalingGroupName="fleet", InstanceIds=["i-1"] * 51, ProtectedFromScaleIn=True)
    with refused("ValidationError", "is not part of Auto Scaling group"):
        protect(AutoScalingGroupName="fleet", InstanceIds=["i-1"], ProtectedFromScaleIn=True)


# -- health, balance, spot --------------------------------------------------------------------------------------------


def test_an_instance_terminated_behind_the_groups_back_is_replaced(account: Account) -> None:
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(60)
    (dead,) = account.ids()
    account.ec2.terminate_instances(InstanceIds=[dead])
    account.clock.run_for(20)
    assert account.states() == ["InService"]  # the group does not know yet
    account.clock.run_for(200)
    assert account.states() == ["InService"]
    assert account.ids() != [dead]
    assert any("EC2 health check indicating it has been terminated" in a["Cause"] for a in account.activities())


def test_suspended_health_check_notices_nothing(account: Account) -> None:
    account.make_group(DesiredCapacity=1)
    account.clock.run_for(60)
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["HealthCheck"])
    before = account.ids()
    account.ec2.terminate_instances(InstanceIds=before)
    account.clock.run_for(600)
    assert account.ids() == before


def test_instance_reported_unhealthy_leaves_through_the_hook(account: Account) -> None:
    hook = account.hook(account.make_group(DesiredCapacity=1, HealthCheckGracePeriod=300), TERMINATE)
    account.clock.run_for(60)
    (sick,) = account.ids()
    account.aws.set_instance_health(InstanceId=sick, HealthStatus="Unhealthy")
    account.clock.run_for(60)
    assert account.states() == ["InService"]  # within the grace period
    account.aws.set_instance_health(InstanceId=sick, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False)
    account.clock.run_for(60)
    assert account.states() == ["InService", "Terminating:Wait"]
    account.complete("fleet", hook, sick)
    account.clock.run_for(60)
    assert sick not in account.ids()


def test_spot_interruption_kills_after_two_minutes_whatever_the_hook(account: Account) -> None:
    account.hook(account.make_spot_group(DesiredCapacity=1), TERMINATE)
    account.clock.run_for(60)
    (victim,) = account.ids("spot")
    account.machines.interrupt(victim)
    account.clock.run_for(119)
    assert account.running() == [victim]
    account.clock.run_for(2)
    assert account.running() == []
    account.clock.run_for(240)
    assert len(account.running()) == 1  # desired still wants one
    assert account.states("spot") == ["InService"]


def test_az_rebalance_kills_an_unprotected_instance_unless_suspended(account: Account) -> None:
    account.machines.market.on_demand_available = lambda kind, zone, at: zone == "us-east-1a" or at > START + 200
    account.make_group(DesiredCapacity=2, NewInstancesProtectedFromScaleIn=False)
    account.make_group("calm", DesiredCapacity=2, NewInstancesProtectedFromScaleIn=False)
    account.aws.suspend_processes(AutoScalingGroupName="calm", ScalingProcesses=["AZRebalance"])
    account.clock.run_for(120)
    before, calm = account.ids(), account.ids("calm")
    account.clock.run_for(1200)
    zones = sorted(i["AvailabilityZone"] for i in account.group()["Instances"])
    assert zones == ["us-east-1a", "us-east-1b"]
    assert len(set(before) & set(account.ids())) == 1
    assert account.ids("calm") == calm


def test_group_metrics_each_minute_while_enabled(account: Account) -> None:
    seen: list[tuple[str, str, float]] = []

    class Watch:
        def publish(self, namespace: str, name: str, dimensions: dict[str, str], value: float) -> None:
            seen.append((name, dimensions["AutoScalingGroupName"], value))

        def handles(self, operation: str) -> bool:
            return False

        def call(self, operation: str, params: dict[str, Any], principal: str) -> dict[str, Any]:
            return {}

    account.cloud.register("cloudwatch", Watch())
    account.make_group(DesiredCapacity=2)
    account.clock.run_for(130)
    assert seen == []
    account.aws.enable_metrics_collection(
        AutoScalingGroupName="fleet", Granularity="1Minute", Metrics=["GroupInServiceInstances", "GroupDesiredCapacity"]
    )
    account.clock.run_for(60)
    assert seen == [("GroupDesiredCapacity", "fleet", 2.0), ("GroupInServiceInstances", "fleet", 2.0)]
    account.aws.disable_metrics_collection(AutoScalingGroupName="fleet")
    account.clock.run_for(120)
    assert len(seen) == 2


# -- groups -----------------------------------------------------------------------------------------------------------


def test_delete_refuses_while_instances_live_unless_forced(account: Account) -> None:
    account.hook(account.make_group(DesiredCapacity=1), TERMINATE)
    account.clock.run_for(5)
    account.clock.run_for(3)
    with refused("ScalingActivityInProgress", "scaling activities in progress"):
        account.aws.delete_auto_scaling_group(AutoScalingGroupName="fleet")
    account.clock.run_for(60)
    with refused("ResourceInUse", "while there are instances"):
        account.aws.delete_auto_scaling_group(AutoScalingGroupName="fleet")
    account.aws.delete_auto_scaling_group(AutoScalingGroupName="fleet", ForceDelete=True)
    assert account.running() == []  # no hook is honoured
    assert account.aws.describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_tags_and_filters(account: Account) -> None:
    account.make_group("one", Tags=[{"Key": "fleet", "Value": "a"}])
    account.make_group("two")
    tag = {"ResourceId": "two", "ResourceType": "auto-scaling-group", "Key": "fleet", "Value": "b"}
    account.aws.create_or_update_tags(Tags=[{**tag, "PropagateAtLaunch": True}])
    found = account.aws.describe_auto_scaling_groups(Filters=[{"Name": "tag:fleet", "Values": ["b"]}])
    assert [g["AutoScalingGroupName"] for g in found["AutoScalingGroups"]] == ["two"]
    rows = account.aws.describe_tags(Filters=[{"Name": "auto-scaling-group", "Values": ["two"]}])["Tags"]
    assert [(row["Key"], row["Value"], row["PropagateAtLaunch"]) for row in rows] == [("fleet", "b", True)]
    account.aws.delete_tags(Tags=[tag])
    assert account.group("two")["Tags"] == []


def test_pages(account: Account) -> None:
    for name in ("a", "b", "c"):
        account.make_group(name)
    pages = account.aws.get_paginator("describe_auto_scaling_groups").paginate(PaginationConfig={"PageSize": 2})
    assert [[g["AutoScalingGroupName"] for g in page["AutoScalingGroups"]] for page in pages] == [["a", "b"], ["c"]]


def test_settings_are_shown_again(account: Account) -> None:
    account.make_spot_group(DefaultInstanceWarmup=0, DefaultCooldown=60)
    group = account.group("spot")
    assert (group["DefaultInstanceWarmup"], group["DefaultCooldown"], group["HealthCheckType"]) == (0, 60, "EC2")
    assert group["MixedInstancesPolicy"] == account.mixed()
    assert "LaunchTemplate" not in group


# -- permissions ------------------------------------------------------------------------------------------------------


def test_a_role_may_end_instances_of_its_group_only(account: Account) -> None:
    mine, other = account.make_group("mine", DesiredCapacity=1), account.make_group("other", DesiredCapacity=1)
    account.make_role(
        "node",
        {
            "Effect": "Allow",
            "Action": "autoscaling:TerminateInstanceInAutoScalingGroup",
            "Resource": "arn:aws:autoscaling:us-east-1:123456789012:autoScalingGroup:*:autoScalingGroupName/mine",
        },
    )
    account.clock.run_for(60)
    role = account.cloud.client("autoscaling", "node")
    with refused("AccessDenied", "autoscaling:TerminateInstanceInAutoScalingGroup"):
        role.terminate_instance_in_auto_scaling_group(
            InstanceId=account.ids(other)[0], ShouldDecrementDesiredCapacity=True
        )
    (own,) = account.ids(mine)
    role.terminate_instance_in_auto_scaling_group(InstanceId=own, ShouldDecrementDesiredCapacity=True)
    account.clock.run_for(60)
    with refused("ValidationError", "No managed instance found"):
        role.terminate_instance_in_auto_scaling_group(InstanceId=own, ShouldDecrementDesiredCapacity=True)


# -- step policies ----------------------------------------------------------------------------------------------------


def step(adjustment: int, lower: float | None = None, upper: float | None = None) -> dict[str, float]:
    bounds = {"MetricIntervalLowerBound": lower, "MetricIntervalUpperBound": upper}
    return {"ScalingAdjustment": adjustment, **{key: value for key, value in bounds.items() if value is not None}}


def put_policy(account: Account, *steps: dict[str, float], kind: str = "ExactCapacity") -> str:
    return account.aws.put_scaling_policy(
        AutoScalingGroupName="fleet",
        PolicyName="backstop",
        PolicyType="StepScaling",
        AdjustmentType=kind,
        StepAdjustments=list(steps),
    )["PolicyARN"]


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ([], "At least one StepAdjustment"),
        ([step(1, 0, 10)], "unspecified upper bound"),
        ([step(-1, -10, 0)], "unspecified lower bound"),
        ([step(1, 0, 10), step(2, 20)], "gap"),
        ([step(1, 0, 10), step(2, 5)], "overlap"),
        ([step(1, 10, 5)], "wrong way round"),
        ([step(1)], "both bounds unspecified"),
        ([step(1, None, 0), step(-1, 0)], "must not be negative"),
    ],
)
def test_wrong_step_bounds(account: Account, steps: list[dict[str, float]], words: str) -> None:
    account.make_group()
    with refused("ValidationError", words):
        put_policy(account, *steps)


def test_a_step_policy_sets_desired_within_the_bounds(account: Account) -> None:
    account.make_group(MaxSize=3)
    arn = put_policy(account, step(1, 0, 10), step(9, 10))
    account.scaling.breached(arn, 3)
    assert account.group()["DesiredCapacity"] == 1
    account.scaling.breached(arn, 3)
    assert account.group()["DesiredCapacity"] == 1
    account.aws.suspend_processes(AutoScalingGroupName="fleet", ScalingProcesses=["AlarmNotification"])
    account.scaling.breached(arn, 10)
    assert account.group()["DesiredCapacity"] == 1
    account.aws.execute_policy(PolicyName=arn, MetricValue=110, BreachThreshold=100)
    assert account.group()["DesiredCapacity"] == 3
    assert account.aws.describe_policies(AutoScalingGroupName="fleet")["ScalingPolicies"][0]["PolicyARN"] == arn
    account.aws.delete_policy(AutoScalingGroupName="fleet", PolicyName="backstop")
    with refused("ValidationError", "No scaling policy found"):
        account.aws.delete_policy(AutoScalingGroupName="fleet", PolicyName="backstop")
    with pytest.raises(NotModelledError, match="TargetTracking"):
        account.aws.put_scaling_policy(AutoScalingGroupName="fleet", PolicyName="p", PolicyType="TargetTrackingScaling")


@pytest.mark.parametrize(
    ("present", "percent", "wanted"), [(0, 50, 0), (1, 50, 2), (5, 50, 7), (5, -50, 3), (1, -50, 0), (10, 100, 20)]
)
def test_percent_of_capacity_rounds_to_one_at_least(present: int, percent: int, wanted: int) -> None:
    assert adjusted(present, "PercentChangeInCapacity", percent) == wanted
