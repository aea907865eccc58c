"""The scenarios: what goes wrong with load, boots, prices, messages, APIs and the guard itself, and when.

Unless they say otherwise they begin on 28 November, so that their stop falls on the 29th and the month ends soon after.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from gpufleet.twin.cloud import Call
from gpufleet.twin.errors import AwsError

from .budget_run import DAY, HOUR, MINUTE, Run, Scenario, limit_aws_budget


def november(day: int) -> float:
    return datetime(2026, 11, day, tzinfo=UTC).timestamp()


# -- load and boots ---------------------------------------------------------------------------------------------------

RUNAWAY_AT, RUNAWAY_PER_MINUTE, RUNAWAY_MINUTES, RUNAWAY_JOB_S = 20 * HOUR, 25, 60, 60.0


def runaway(run: Run) -> None:
    """Fifty times the usual jobs for an hour, each a minute long."""
    clock, traffic = run.stage.cloud.clock, run.world.traffic

    def burst() -> None:
        for _ in range(RUNAWAY_MINUTES):
            run.count += RUNAWAY_PER_MINUTE
            traffic.send(run.stage.outputs["queueUrl"], RUNAWAY_PER_MINUTE, service_s=RUNAWAY_JOB_S)
            clock.sleep(MINUTE)
        run.note = f"{run.count} jobs in an hour, 50 times the usual"

    clock.at(run.now() + RUNAWAY_AT, clock.spawn, "runaway", burst)


STORM_EVERY_S = 20 * MINUTE


def storm(run: Run) -> None:
    """Every instance shuts itself down every twenty minutes: the fleet boots all the time."""
    running = [one for one in run.world.instances() if one.alive]
    for one in running:
        run.world.machines.end(one, "host")
    run.count += len(running)
    run.note = f"{run.count} instances shut themselves down"
    if run.now() < run.scenario.end:
        run.stage.cloud.clock.after(STORM_EVERY_S, storm, run)


def never_boots(run: Run) -> None:
    """No boot ever gets its model loaded, until a good image is there at the beginning of the next month."""
    run.world.fail_next_boots(1_000_000)
    run.stage.cloud.clock.at(run.scenario.end, run.world.fail_next_boots, 0)


def no_boot_succeeded(run: Run) -> bool:
    before = [one for one in run.world.machines.instances.values() if one.launched_at < run.scenario.end]
    done = [bill for bill in run.world.nodes.bills if bill[2] < run.scenario.end]
    run.note = f"{len(before)} boots failed in the month"
    return len(before) >= 3 and not done


# -- prices and types -------------------------------------------------------------------------------------------------


def jump(run: Run) -> None:
    run.world.market.jump(3.0, run.now() + 6 * HOUR)


def dearer(run: Run) -> bool:
    market, at = run.world.market, run.scenario.start + 6 * HOUR
    before, after = (market.price("g6e.xlarge", f"{run.stage.cloud.region}a", at + step) for step in (-1.0, 1.0))
    run.note = f"g6e.xlarge from ${before:.2f} to ${after:.2f} an hour after six hours"
    return after > 2 * before and bool(run.stops())


UNLISTED = "g7e.2xlarge"


def unlisted_type(run: Run) -> None:
    """Somebody edits the spot group by hand: a type that the stack does not list."""
    client = run.stage.client("autoscaling")
    group = run.stage.groups()[0]
    policy: dict[str, Any] = group["MixedInstancesPolicy"]
    template = {**policy["LaunchTemplate"], "Overrides": [{"InstanceType": UNLISTED}]}
    client.update_auto_scaling_group(
        AutoScalingGroupName=group["AutoScalingGroupName"],
        MixedInstancesPolicy={**policy, "LaunchTemplate": template},
    )


def unlisted_ran(run: Run) -> bool:
    found = [one for one in run.world.machines.instances.values() if one.type == UNLISTED]
    run.note = f"{len(found)} instances of {UNLISTED}"
    return len(found) >= 4 and bool(run.stops())


# -- messages ---------------------------------------------------------------------------------------------------------

EARLY = 0.9


def speaks_early(run: Run) -> None:
    """Somebody lowers the AWS Budget to nine tenths: it speaks, though the guard keeps its own budget. Its figure is
    true, and old; it must change nothing."""
    limit_aws_budget(run, EARLY * run.budget_usd)


def doubled(run: Run) -> None:
    """Each message comes three times, one of them an hour later; and some that mean nothing come before."""
    speaks_early(run)
    run.alerts.delays = (0.0, 0.0, HOUR)
    for hour, text in ((3, "AWS Budget Notification October 31, 2026\nan old one"), (4, "{not JSON"), (5, "{}")):
        run.stage.cloud.clock.after(hour * HOUR, run.alerts.send, text)


def while_stopping(run: Run) -> None:
    """And twice in the minutes of the stop, when the guard runs anyway."""
    for seconds in (50.0, 50.0, 100.0):
        run.stage.cloud.clock.after(seconds, run.alerts.send, "AWS Budget Notification")


def late(run: Run) -> None:
    """Each message comes when its month is over."""
    speaks_early(run)
    run.alerts.held_until = run.scenario.end + HOUR


def lost(run: Run) -> None:
    speaks_early(run)
    run.alerts.delays = ()


def told(run: Run) -> bool:
    """AWS Budgets spoke, its messages came as arranged, and there was one stop: the meter's."""
    spoken, delivered, found = run.alerts.spoken, run.alerts.delivered, run.stops()
    run.note = f"AWS Budgets spoke {len(spoken)} times, {len(delivered)} messages came, {len(found)} stops"
    return bool(spoken) and len(delivered) == len(spoken) * len(run.alerts.delays) and len(found) == 1


def told_late(run: Run) -> bool:
    return told(run) and all(at > run.scenario.end for at in run.alerts.delivered)


# -- the guard --------------------------------------------------------------------------------------------------------


def dead(seconds: float) -> Any:
    """The guard's schedule is switched off for so long, right before the tick that would trip."""

    def then(run: Run) -> None:
        run.rule(enabled=False)
        run.count += 1
        long = f"{seconds / HOUR:.0f} hours" if seconds >= 2 * HOUR else f"{seconds / MINUTE:.0f} minutes"
        run.note = f"the guard was dead for {long} from the minute of the crossing on"
        run.stage.cloud.clock.after(seconds, lambda: run.rule(enabled=True))

    return then


def was_dead(run: Run) -> bool:
    return run.count == 1 and any(not stop.living for stop in run.stops())


THROTTLED_SHARE = 0.2  # of the calls, all day: a busy account
SOON_USD = 0.25  # what four instances cost in nearly three minutes
REFUSED_S = 30 * MINUTE  # and from the minute of the crossing on every call


def throttled(run: Run) -> None:
    """EC2 refuses a fifth of all calls all day."""
    if run.alone:
        return
    chance = run.stage.cloud.chances("throttling")

    def refuse(call: Call) -> None:
        all_of_them = run.struck_at <= run.now() < run.struck_at + REFUSED_S
        if call.service == "ec2" and (all_of_them or chance.random() < THROTTLED_SHARE):
            run.count += 1
            run.note = f"{run.count} EC2 calls refused, all of them for 30 minutes from the crossing on"
            raise AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)

    run.stage.cloud.faults.append(refuse)


def soon(run: Run) -> bool:
    """A minute or three before the crossing: the refused ticks leave too few to tell the minute."""
    sums = [tick.sum_usd for tick in run.ticks[-3:] if tick.sum_usd is not None]
    return bool(sums) and sums[-1] >= run.budget_usd - SOON_USD


def refuse_all(run: Run) -> None:
    run.struck_at = run.now()


def was_throttled(run: Run) -> bool:
    return run.count > 30 and any(not stop.living for stop in run.stops())


# -- the calendar -----------------------------------------------------------------------------------------------------


def before_midnight(run: Run) -> bool:
    """Four minutes before the month ends: less than a drain."""
    return run.now() >= run.scenario.end - 4 * MINUTE


def lower_the_budget(run: Run) -> None:
    """To what is spent and committed by now, and a minute of full load."""
    figures = run.stage.figures()
    run.edit_budget(round(figures["spent_usd"] + figures["committed_usd"] + 0.04, 2))


def drained_over_midnight(run: Run) -> bool:
    end = run.scenario.end
    found = [stop for stop in run.stops() if stop.crossing_at < end < stop.crossing_at + stop.seconds]
    run.note = f"{len(found)} stop begun before midnight and over after it"
    return len(found) == 1


def on_day(day: int) -> Any:
    def happened(run: Run) -> bool:
        found = [datetime.fromtimestamp(stop.tripped_at, UTC).day for stop in run.stops()]
        run.note = f"stopped on day {', '.join(map(str, found)) or 'none'} of the month"
        return found[:1] == [day]

    return happened


FOREIGN = "registry.example.com/acme/vllm@sha256:" + "4f1c7d2a9b3e5f60718293a4b5c6d7e8f90a1b2c3d4e5f60718293a4b5c6d7e8"
LATE_NOVEMBER, USD = november(28), 80.0

SCENARIOS: tuple[Scenario, ...] = (
    Scenario("full-load", "steady full load", LATE_NOVEMBER, USD),
    Scenario("runaway", "runaway producer, queue x50", LATE_NOVEMBER, USD, prepare=runaway),
    Scenario(
        "boot-storm",
        "boot storm, foreign image",
        LATE_NOVEMBER,
        USD,
        edits={"model.image": FOREIGN},
        prepare=storm,
        happened=lambda run: run.count > 50 and bool(run.stops()),
    ),
    Scenario(
        "failing-image",
        "image that never boots",
        november(1),
        66.0,  # the jobs that waited all month are served in the next one, of as much
        prepare=never_boots,
        load_s=HOUR / 2,
        happened=no_boot_succeeded,
    ),
    Scenario("price-jump", "spot price x3", LATE_NOVEMBER, USD, prepare=jump, happened=dearer),
    Scenario(
        "guard-5-min", "guard down 5 min", LATE_NOVEMBER, USD, then=dead(5 * MINUTE), happened=was_dead,
        alone_as="full-load",
    ),
    Scenario(
        "guard-30-min", "guard down 30 min", LATE_NOVEMBER, USD, then=dead(30 * MINUTE), happened=was_dead,
        alone_as="full-load",
    ),
    Scenario(
        "guard-72-h", "guard down 72 h", LATE_NOVEMBER, USD, then=dead(3 * DAY), happened=was_dead,
        alone_as="full-load",
    ),
    Scenario(
        "alerts-doubled", "alerts duplicated", LATE_NOVEMBER, USD, prepare=doubled, then=while_stopping, happened=told
    ),
    Scenario("alerts-late", "alerts late, after the month", LATE_NOVEMBER, USD, prepare=late, happened=told_late),
    Scenario("alerts-lost", "alerts lost", LATE_NOVEMBER, USD, prepare=lost, happened=told),
    Scenario(
        "throttled", "EC2 API throttled", LATE_NOVEMBER, USD, prepare=throttled, when=soon, then=refuse_all,
        happened=was_throttled, alone_as="full-load",
    ),
    Scenario(
        "unlisted-type", "unknown instance type", LATE_NOVEMBER, USD, prepare=unlisted_type, happened=unlisted_ran
    ),
    Scenario("day-2", "trip on day 2", november(1), 140.0, happened=on_day(2)),
    Scenario("last-day", "trip on the last day", november(29), 112.0, happened=on_day(30)),
    Scenario(
        "midnight",
        "month changes while draining",
        november(29),
        200.0,
        when=before_midnight,
        then=lower_the_budget,
        happened=drained_over_midnight,
    ),
)  # fmt: skip
BY_NAME = {scenario.name: scenario for scenario in SCENARIOS}
