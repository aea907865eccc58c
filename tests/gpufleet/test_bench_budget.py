"""The budget benchmark's arithmetic on histories made by hand: stops, verdicts, the page, the picture."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import budget, budget_picture, budget_report
from benchmarks.budget_alerts import SERVICE, Alerts
from benchmarks.budget_run import MINUTE, _crossed
from benchmarks.budget_scenarios import BY_NAME, SCENARIOS
from benchmarks.budget_stops import Life, Stop, Tick, stops
from benchmarks.budget_verdicts import Alone, Jobs, Month, Outcome, broken, judge
from gpufleet.twin.clock import Clock

DRAIN_S = 300.0
BUDGET = [(0.0, 100.0)]
LIVED = [Life(10, 1000), Life(20, 1100), Life(5, 50)]


def seen(*sums: float | None, since: float = 600.0, latched: bool = False) -> list[Tick]:
    return [Tick(since + 60 * number, total, latched) for number, total in enumerate(sums)]


def one_stop(ticks: list[Tick], lives: list[Life] = LIVED, budgets: list[tuple[float, float]] = BUDGET) -> Stop:
    (stop,) = stops(ticks, lives, budgets, DRAIN_S)
    return stop


# -- stops ------------------------------------------------------------------------------------------------------------


def test_the_crossing_lies_on_the_line_between_two_ticks() -> None:
    stop = one_stop([*seen(99.0, 99.5), Tick(720, 101.5, True, "trip"), Tick(780, 101.0, True)])
    assert stop.crossing_at == pytest.approx(660 + 60 / 4)
    assert (stop.living, stop.latched, stop.instances) == (True, True, 2)
    assert stop.seconds == pytest.approx(1100 - 675)
    assert (stop.limit_s, stop.until, stop.reason) == (DRAIN_S + 180, math.inf, "trip")


def test_a_dropped_tick_is_no_dead_guard_and_two_are() -> None:
    living = one_stop([*seen(99.0), Tick(720, 101.0, True)])
    dead = one_stop([*seen(99.0), Tick(780, 101.0, True)])
    assert (living.living, living.crossing_at) == (True, pytest.approx(660))
    assert (dead.living, dead.crossing_at, dead.limit_s) == (False, 600, DRAIN_S + 600)
    assert dead.seconds == 500


def test_a_blind_tick_does_not_count_as_a_look() -> None:
    stop = one_stop([*seen(99.0, None, None), Tick(780, 101.0, True)])
    assert (stop.living, stop.crossing_at) == (False, 600)


def test_a_budget_that_is_lowered_is_crossed_at_the_edit() -> None:
    stop = one_stop([*seen(99.0, 99.2), Tick(720, 99.3, True)], budgets=[*BUDGET, (700.0, 50.0)])
    assert stop.crossing_at == 700
    later = one_stop([*seen(99.0, 99.2), Tick(720, 99.5, True)], budgets=[*BUDGET, (700.0, 99.4)])
    assert later.crossing_at == pytest.approx(700)


def test_exhausted_is_a_stop_of_nothing() -> None:
    stop = one_stop([*seen(99.0), Tick(660, 99.0, True, "exhausted")], lives=[Life(0, 100)])
    assert (stop.crossing_at, stop.instances, stop.seconds) == (660, 0, 0)


def test_what_never_goes_is_never_stopped() -> None:
    stop = one_stop([*seen(99.0), Tick(660, 101.0, True)], lives=[Life(10, None)])
    assert math.isinf(stop.seconds)


def test_launches_while_stopped_are_counted_and_those_after_the_resume_are_not() -> None:
    ticks = [*seen(99.0), Tick(660, 101.0, True), Tick(4000, 10.0, False)]
    stop = one_stop(ticks, lives=[Life(10, 900), Life(661, 950), Life(2000, 2400), Life(5000, None)])
    assert (stop.instances, stop.launched, stop.until) == (2, 1, 4000)
    assert stop.seconds == pytest.approx(950 - stop.crossing_at)


def test_a_silence_that_outlasts_the_allowance_is_a_stop_of_its_own() -> None:
    ticks = [*seen(50.0, 50.1), *seen(51.0, 51.1, since=9000)]
    stop = one_stop(ticks, lives=[Life(10, 1500), Life(9500, None)])
    assert (stop.living, stop.latched, stop.crossing_at, stop.until) == (False, False, 660, 9000)
    assert (stop.seconds, stop.limit_s, stop.launched) == (840, 900, 0)
    assert one_stop(ticks, lives=[Life(10, 1500), Life(5000, None)]).launched == 1
    assert stops(ticks, [Life(10, 500)], BUDGET, DRAIN_S) == [], "nothing ran"


def test_a_trip_after_a_long_silence_is_one_stop() -> None:
    stop = one_stop([*seen(99.0), Tick(3000, 101.0, True)], lives=[Life(10, 1400)])
    assert (stop.latched, stop.living, stop.crossing_at, stop.seconds) == (True, False, 600, 800)


def test_each_trip_is_a_stop() -> None:
    again = [Tick(5000, 60.0, False), Tick(5060, 101.0, True)]
    found = stops([*seen(99.0), Tick(660, 101.0, True), *again], [Life(10, 900), Life(4999, 5300)], BUDGET, DRAIN_S)
    assert [stop.instances for stop in found] == [1, 1]
    assert stops([], LIVED, BUDGET, DRAIN_S) == []


# -- verdicts ---------------------------------------------------------------------------------------------------------

STOP = Stop(1000.0, 1020.0, True, True, 4, 400.0, 480.0, 9000.0, 0, "trip")
JOBS = Jobs(sent=10, completed=10, lost=0, billed_twice=0, without_result=0, accepted=3, unserved=0)
MONTHS = (Month("2026-11", 99.0, 99.9, True), Month("2026-12", 5.0, 4.96, False))
GOOD = Outcome("full-load", "steady full load", 100.0, MONTHS, (STOP,), JOBS, 0.09, True, "1 stops")
ALONE = Alone(150.0, 50.0, 1000.0, 1000.0 + 15.5 * 3600)


def test_a_scenario_that_keeps_every_promise() -> None:
    assert broken(GOOD) == []
    assert len(judge(GOOD)) == 8
    assert GOOD.share == pytest.approx(0.99)


@pytest.mark.parametrize(
    ("change", "promise"),
    [
        ({"happened": False}, "took place"),
        ({"budget_usd": 98.99}, "within the budget"),
        ({"months": (replace(MONTHS[0], whole=False),)}, "within the budget"),
        ({"months": (replace(MONTHS[0], meter_usd=100.0),)}, "within 1 % of the bill, 2026-11"),
        ({"months": (MONTHS[0], replace(MONTHS[1], meter_usd=4.94))}, "within 1 % of the bill, 2026-12"),
        ({"stops": (replace(STOP, seconds=480.1),)}, "nothing runs 480 s after"),
        ({"stops": (STOP, replace(STOP, seconds=math.inf))}, "nothing runs 480 s after"),
        ({"stops": (replace(STOP, launched=1),)}, "nothing is launched"),
        ({"jobs": replace(JOBS, lost=1)}, "lost or billed twice"),
        ({"jobs": replace(JOBS, billed_twice=1)}, "lost or billed twice"),
        ({"jobs": replace(JOBS, without_result=1)}, "lost or billed twice"),
        ({"jobs": replace(JOBS, unserved=1)}, "every job is served"),
    ],
)
def test_each_promise_can_be_broken(change: dict[str, Any], promise: str) -> None:
    (verdict,) = broken(replace(GOOD, **change))
    assert promise in verdict.promise


def test_of_several_stops_the_one_nearest_to_its_limit_counts() -> None:
    dead = replace(STOP, living=False, seconds=450.0, limit_s=900.0)
    assert replace(GOOD, stops=(dead, STOP)).longest == STOP
    assert replace(GOOD, stops=()).longest is None


# -- what is left behind ----------------------------------------------------------------------------------------------


def test_the_page_tells_what_was_promised_and_what_was_not_kept() -> None:
    fine, over = replace(GOOD, alone=ALONE), replace(GOOD, title="storm", budget_usd=98.97, stops=())
    text = budget_report.page([fine, over])
    assert "| steady full load | 100.00 | 99.00 | 99.0 % | +0.91 %, -0.80 % | 400 (480) | 0.090 | 10 | 10 |" in text
    assert "| steady full load | 100.00 | 99.00 | 150.00 | 50.00 | 15.5 h after the crossing |" in text
    assert "| storm | 98.97 | 99.00 | 100.1 % |" in text, "a share is never rounded down over the promise"
    assert "- storm: the month's bill is within the budget: $99.00 of $98.97" in text
    assert "None." in budget_report.page([fine])


def test_a_message_that_does_not_come_is_told_apart_from_a_budget_that_holds() -> None:
    never, needless = replace(ALONE, message_at=None), Alone(40.0, 0.0, None, None)
    text = budget_report.page([replace(GOOD, alone=never), replace(GOOD, alone=needless)])
    assert "| none in the month |" in text
    assert "| none: never over |" in text


def test_the_figures_are_json_without_infinity() -> None:
    endless = replace(GOOD, stops=(replace(STOP, until=math.inf, seconds=math.inf),), alone=ALONE)
    (row,) = json.loads(budget_report.figures([endless]))["scenarios"]
    assert (row["stops"][0]["seconds"], row["stops"][0]["until"]) == (None, None)
    assert row["stops"][0]["crossed"] == "1970-01-01 00:16:40"
    assert row["months"][0]["meter_over_bill_percent"] == pytest.approx(0.909)
    assert row["aws_budgets_alone"]["over_usd"] == 50.0
    assert row["broken"] == ["nothing runs 480 s after the crossing: the guard lives: inf s"]


def test_the_picture_is_drawn(tmp_path: Path) -> None:
    nothing_ran = replace(STOP, instances=0, seconds=0.0)
    others = [replace(GOOD, stops=stops) for stops in ((), (nothing_ran,), (replace(STOP, seconds=math.inf),))]
    budget_picture.draw([replace(GOOD, alone=ALONE), *others], tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_line_for_the_terminal_says_what_was_not_kept() -> None:
    assert "NOT KEPT" not in budget_report.line(GOOD)
    assert "NOT KEPT: no job is lost" in budget_report.line(replace(GOOD, jobs=replace(JOBS, lost=2)))


# -- the scenarios ----------------------------------------------------------------------------------------------------


def test_a_scenario_is_compared_with_its_own_world() -> None:
    assert len(BY_NAME) == len(SCENARIOS)
    for one in SCENARIOS:
        if one.alone_as:
            world = BY_NAME[one.alone_as]
            assert (one.start, one.budget_usd, one.edits) == (world.start, world.budget_usd, world.edits)
            assert not world.alone_as


def test_an_unknown_scenario_is_refused_by_name() -> None:
    with pytest.raises(SystemExit, match="there are full-load, "):
        budget.main(["--only", "nope"])


def test_the_moment_a_growing_bill_reaches_the_budget() -> None:
    found = _crossed(lambda at: at / 1000, 50.0, 0.0, 100_000.0)
    assert found is not None
    assert 0 <= found - 50_000.0 <= MINUTE
    assert _crossed(lambda at: at / 1000, 101.0, 0.0, 100_000.0) is None


def test_messages_are_doubled_delayed_and_lost() -> None:
    clock, came = Clock(0.0), []
    topics = SimpleNamespace(publish_as_service=lambda *call: came.append((clock.now(), call[0])))
    world = SimpleNamespace(services=SimpleNamespace(sns=topics))
    alerts = Alerts(SimpleNamespace(world=world, cloud=SimpleNamespace(clock=clock), now=clock.now))  # type: ignore[arg-type]
    alerts.delays = (0.0, 60.0)
    topics.publish_as_service(SERVICE, "budget", "topic", "subject", "text")
    topics.publish_as_service("cloudwatch.amazonaws.com", "alarm", "topic", "subject", "text")
    clock.run_for(100)
    assert came == [(0.0, SERVICE), (0.0, "cloudwatch.amazonaws.com"), (60.0, SERVICE)]
    alerts.delays = ()
    topics.publish_as_service(SERVICE, "budget", "topic", "subject", "text")
    assert (alerts.spoken, alerts.delivered, len(came)) == ([0.0, 100.0], [0.0, 60.0], 3)
    alerts.delays, alerts.held_until = (0.0, 60.0), 130.0
    topics.publish_as_service(SERVICE, "budget", "topic", "subject", "text")
    clock.run_for(100)
    assert alerts.delivered == [0.0, 60.0, 130.0, 160.0]
