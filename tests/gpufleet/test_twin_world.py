"""The whole twin with the real worker: jobs are served, instances end in every way, and the account stays in order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twin_account import START
from twin_fleet import Fleet

from gpufleet.twin.cloud import Cloud


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    with Cloud(START, seed=3) as cloud:
        yield cloud


@pytest.fixture
def fleet(cloud: Cloud) -> Fleet:
    return started(Fleet(cloud))


def started(fleet: Fleet) -> Fleet:
    fleet.world.follow(fleet.queue, "inference-jobs-dev", fleet.bucket)
    fleet.allow(START + 1e6)
    return fleet


def ready(fleet: Fleet, count: int = 1) -> None:
    fleet.desire(count)
    assert fleet.world.run_until(lambda: fleet.states() == ["InService"] * count, limit_s=600)


def test_jobs_are_served_from_cold(fleet: Fleet) -> None:
    world = fleet.world
    world.traffic.send(fleet.queue, 12, service_s=10)
    assert world.snapshot().backlog == 12
    ready(fleet)
    assert 150 <= world.now() - START <= 270
    world.run_for(120)
    account = world.account()
    assert len(account.sent) == len(account.completed) == 12
    assert account.in_order
    assert len(world.nodes.bills) == 12
    assert min(account.waits.values()) > 150
    assert {("on-demand", "Pending:Wait"), ("on-demand", "InService")} <= {
        k for s in world.timeline for k in s.instances
    }
    assert [s.spent for s in world.timeline] == sorted(s.spent for s in world.timeline)
    (ready_log,) = fleet.events("ready")
    assert 150 <= ready_log["cold_start_s"] <= 250


def test_drain_by_name_kills_no_work(fleet: Fleet) -> None:
    world = fleet.world
    ready(fleet)
    world.traffic.send(fleet.queue, 2, service_s=60)
    world.run_for(20)
    assert world.snapshot().in_flight == 2
    fleet.terminate(fleet.ids()[0])
    world.run_for(20)
    assert fleet.states() == ["Terminating:Wait"]
    world.run_for(120)
    assert fleet.states() == []
    assert len(world.account().completed) == 2
    assert world.work_killed_s == 0


def test_work_that_is_killed_is_counted_and_done_again(fleet: Fleet) -> None:
    world = fleet.world
    ready(fleet)
    world.traffic.send(fleet.queue, 1, service_s=60)
    world.run_for(40)
    fleet.cloud.client("ec2").terminate_instances(InstanceIds=fleet.ids())
    world.run_for(5)
    assert 20 < world.work_killed_s < 41
    assert world.run_until(lambda: bool(world.account().completed), limit_s=1200, step_s=60)
    assert world.account().in_order


def test_spot_interruption_loses_nothing(cloud: Cloud) -> None:
    fleet = started(Fleet(cloud, spot=True))
    world = fleet.world
    ready(fleet)
    world.traffic.send(fleet.queue, 4, service_s=200)
    world.run_for(30)
    world.set_spot_shortage(world.now(), world.now() + 300, interrupt=True)
    world.run_for(130)
    assert [i.ended_by for i in world.machines.instances.values()] == ["spot"]
    assert world.work_killed_s == 0
    assert world.run_until(lambda: len(world.account().completed) == 4, limit_s=2400, step_s=60)
    assert world.account().in_order
    assert "spot" not in {line.kind for line in world.bill.lines() if line.item == next(iter(world.machines.instances))}


def test_work_lost_to_aws_is_not_counted_as_killed(cloud: Cloud) -> None:
    fleet = started(Fleet(cloud, spot=True))
    ready(fleet)
    fleet.world.traffic.send(fleet.queue, 1, service_s=60)
    fleet.world.run_for(40)
    (node,) = fleet.world.nodes.nodes.values()
    assert node.model.in_flight
    fleet.world.interrupt(fleet.ids()[0], notice_s=0)
    fleet.world.run_for(5)
    assert fleet.world.work_killed_s == 0


def test_a_model_that_never_loads_abandons_the_launch(fleet: Fleet) -> None:
    fleet.world.fail_next_boots(1)
    fleet.desire(1)
    fleet.world.run_for(1300)
    assert fleet.events("boot-deadline-passed")
    first = fleet.aws.describe_scaling_activities(AutoScalingGroupName="inference-asg-dev")["Activities"][-1]
    assert first["StatusCode"] == "Cancelled"
    fleet.world.run_for(400)
    assert fleet.states() == ["InService"]


def test_an_allowance_that_ends_empties_the_fleet(fleet: Fleet) -> None:
    ready(fleet)
    fleet.allow(fleet.world.now() + 60)
    fleet.world.run_for(400)
    assert fleet.states() == []
    assert fleet.world.scaling.groups["inference-asg-dev"].desired == 0
    assert fleet.world.instances() == []


@pytest.mark.parametrize("statement", ["queue", "jobs", "weights", "list", "itself"])
def test_each_permission_of_the_node_is_needed(fleet: Fleet, statement: str) -> None:
    fleet.put_policy(without=statement)
    fleet.world.traffic.send(fleet.queue, 1)
    fleet.desire(1)
    fleet.world.run_for(400)
    assert not (fleet.states() == ["InService"] and fleet.world.account().completed)
    assert "AccessDenied" in str(fleet.world.logs)


def test_traffic_follows_its_schedule(fleet: Fleet) -> None:
    world = fleet.world
    world.traffic.schedule(fleet.queue, [START + 10, (START + 20, 30.0), START + 20])
    world.run_until(START + 15)
    assert len(world.account().sent) == 1
    world.run_until(START + 25)
    assert sorted(world.ledger.sent(fleet.queue).values()) == [START + 10, START + 20, START + 20]
    assert world.account().waiting == world.account().sent


def test_the_account_tells_what_is_lost_or_has_no_result(fleet: Fleet) -> None:
    world = fleet.world
    ready(fleet)
    done, gone = world.traffic.send(fleet.queue, 2, service_s=5)
    world.run_for(60)
    fleet.cloud.client("s3").delete_object(Bucket=fleet.bucket, Key=f"results/{done}.json")
    key = {"pk": {"S": f"job#{gone}"}, "sk": {"S": "job"}}
    fleet.cloud.client("dynamodb").delete_item(TableName="inference-jobs-dev", Key=key)
    world.nodes.bills.append(world.nodes.bills[0])
    account = world.account()
    assert (account.without_result, account.lost) == ({done}, {gone})
    assert account.billed_twice == {world.nodes.bills[0][0]}
    assert not account.in_order


def test_the_same_seed_gives_the_same_day() -> None:
    def day() -> tuple[list[object], float]:
        with Cloud(START, seed=9) as cloud:
            fleet = started(Fleet(cloud))
            fleet.world.traffic.send(fleet.queue, 5)
            fleet.desire(1)
            fleet.world.run_for(400)
            return [(round(e["at"], 6), e["record"].get("event")) for e in fleet.world.logs], fleet.world.bill.total()

    assert day() == day()


def test_snapshots_need_somebody_to_follow(cloud: Cloud) -> None:
    fleet = Fleet(cloud)
    assert fleet.world.snapshot().backlog == 0
    with pytest.raises(RuntimeError, match="follow"):
        fleet.world.account()
    with pytest.raises(ValueError, match="instance"):
        fleet.world.fail_next_boots(1, "bad luck")


def test_an_alarm_runs_the_step_policy_it_names(fleet: Fleet) -> None:
    world, group = fleet.world, "inference-asg-dev"
    policy = fleet.aws.put_scaling_policy(
        AutoScalingGroupName=group,
        PolicyName="backstop",
        PolicyType="StepScaling",
        AdjustmentType="ExactCapacity",
        StepAdjustments=[{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
    )["PolicyARN"]
    fleet.cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="old-message",
        Namespace="Test",
        MetricName="Age",
        Statistic="Maximum",
        Period=60,
        EvaluationPeriods=1,
        Threshold=900,
        ComparisonOperator="GreaterThanThreshold",
        AlarmActions=[policy],
    )
    world.run_for(300)
    assert world.scaling.groups[group].desired == 0
    for _ in range(5):
        world.services.cloudwatch.publish("Test", "Age", {}, 1000.0)
        world.run_for(60)
    assert world.scaling.groups[group].desired == 1
    assert "monitor alarm triggered policy backstop" in world.scaling.groups[group].activities[0].cause
