"""The spend law: the meter loses and doubles nothing, the trip is never missed, the latch changes only as promised."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from fleet_control.spend_law import Latch, Situation, committed_usd, headroom_usd, judge, launch_usd, must_warn
from fleet_control.spend_ledger import Ledger, month_bounds, opened
from fleet_control.spend_meter import meter, raise_to
from fleet_control.spend_prices import Prices, Reservation, Running, inside
from hypothesis import given, settings
from hypothesis import strategies as st

PRICES = Prices({"g5.xlarge": 1.006, "g5.2xlarge": 1.212}, dearest=1.861, per_boot=0.05, fixed_per_month=36.0)
NOV = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
DEC = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
HOUR = 3600.0


def node(name: str, launched: float, ended: float | None = None, **more: object) -> Running:
    return Running(name, more.pop("type", "g5.xlarge"), "us-east-1a", False, launched, ended, **more)  # type: ignore[arg-type]


def listed(lives: list[tuple[float, float]], at: float) -> list[Running]:
    """What EC2 lists at ``at``: everything launched so far; the end is known once it has come."""
    return [
        node(f"i-{n}", start, start + length if start + length <= at else None, disk_usd_per_hour=0.01)
        for n, (start, length) in enumerate(lives)
        if start <= at
    ]


lives_of_instances = st.lists(st.tuples(st.floats(0, 40 * HOUR), st.floats(1, 20 * HOUR)), max_size=6)
# When a tick begins, and how much later EC2 answers it: an hour only for ends to come in between often.
tick_times = st.lists(st.tuples(st.floats(0, 60 * HOUR), st.sampled_from([0.0, 59.0, HOUR])), max_size=25)


def _totals(ledgers: dict[str, Ledger]) -> dict[str, float]:
    return {month: ledger.spent_usd for month, ledger in ledgers.items()}


def _run(start: float, lives: list[tuple[float, float]], ticks: list[tuple[float, float]]) -> dict[str, Ledger]:
    """Ledgers by month after ticks in any order (late ones included), with the rule of the store: the newest month."""
    newest, months = opened(start), {}
    for at, slow in ticks:
        if at < month_bounds(newest.month)[0]:
            continue  # a run that is late by a month finds the newer ledger and its own clock before it
        made = meter(newest, listed(lives, at + slow), PRICES, at)
        months.update({one.month: one for one in made})
        newest = Ledger.from_json(made[-1].to_json())
    return months


@settings(max_examples=500, deadline=None)
@given(lives_of_instances, tick_times)
def test_ticks_at_any_times_charge_the_same(lives: list[tuple[float, float]], ticks: list[tuple[float, float]]) -> None:
    """However often, late, slow, doubled or seldom the guard runs, and over midnight of the first: the same dollars."""
    start = DEC - 20 * HOUR
    lives = [(start + a, b) for a, b in lives]
    end = start + 61 * HOUR
    often = _run(start, lives, [*((start + t, slow) for t, slow in ticks), (end, 0.0)])
    once = _run(start, lives, [(end, 0.0)])
    assert _totals(often) == pytest.approx(_totals(once))
    minimum = sum(max(60.0, min(length, end - begun)) for begun, length in lives if begun < end)
    charged = sum(one.instance_usd for one in often.values())
    assert charged == pytest.approx(minimum * 1.006 / HOUR), "running seconds x price, a minute at least"
    assert sum(one.boot_usd for one in often.values()) == pytest.approx(0.05 * len(lives))


def test_month_splits_at_midnight_utc() -> None:
    november = opened(DEC - HOUR)
    assert november.month == "2026-11"
    closed, december = meter(november, [node("i-1", DEC - HOUR)], PRICES, DEC + 2 * HOUR)
    assert (closed.month, december.month) == ("2026-11", "2026-12")
    assert closed.instance_usd == pytest.approx(1.006)
    assert december.instance_usd == pytest.approx(2 * 1.006)
    assert closed.fixed_usd == pytest.approx(36 / 744), "one hour of November's 720"
    assert december.fixed_usd == pytest.approx(2 * 36 / 744)


def test_months_in_between_are_closed_too() -> None:
    made = meter(opened(NOV), [], PRICES, datetime(2027, 1, 1, 12, tzinfo=UTC).timestamp())
    assert [one.month for one in made] == ["2026-11", "2026-12", "2027-01"]
    assert [one.fixed_usd for one in made[:2]] == pytest.approx([36.0 * 720 / 744, 36.0])


def test_a_minute_at_least_and_only_once() -> None:
    ledger = meter(opened(NOV), [node("i-1", NOV + 10, NOV + 12)], PRICES, NOV + 15)[-1]
    again = meter(ledger, [node("i-1", NOV + 10, NOV + 12)], PRICES, NOV + HOUR)[-1]
    assert ledger.instance_usd == again.instance_usd == pytest.approx(1.006 / 60)


def test_vanished_without_a_known_end_is_charged_up_to_now_and_not_again() -> None:
    ledger = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    gone = meter(ledger, [], PRICES, NOV + 2 * HOUR)[-1]
    assert gone.instance_usd == pytest.approx(2 * 1.006)
    later = meter(gone, [], PRICES, NOV + 9 * HOUR)[-1]
    assert later.instance_usd == pytest.approx(2 * 1.006)
    assert later.instances == {}, "and forgotten in time"


def test_an_instance_missing_from_one_listing_loses_nothing() -> None:
    ledger = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    ledger = meter(ledger, [], PRICES, NOV + 2 * HOUR)[-1]
    ledger = meter(ledger, [node("i-1", NOV)], PRICES, NOV + 5 * HOUR)[-1]
    assert ledger.instance_usd == pytest.approx(5 * 1.006)


def test_a_late_tick_that_misses_an_instance_does_not_end_it() -> None:
    ledger = meter(opened(NOV), [node("i-1", NOV + HOUR)], PRICES, NOV + 2 * HOUR)[-1]
    late = meter(ledger, [], PRICES, NOV + HOUR)[-1]
    ended = meter(late, [], PRICES, NOV + 3 * HOUR)[-1]
    assert ended.instance_usd == pytest.approx(2 * 1.006)


def test_a_late_tick_does_not_charge_what_an_earlier_one_ended() -> None:
    """By then EC2 lists it no more, and its end was forgotten once it was charged."""
    seen = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    ended = meter(seen, [], PRICES, NOV + 3 * HOUR, ends={"i-1": NOV + HOUR + 60})[-1]
    late = meter(ended, [], PRICES, NOV + 3 * HOUR - 25)[-1]
    assert late.instance_usd == ended.instance_usd == pytest.approx(1.006 * (1 + 1 / 60))


def test_an_end_that_ec2_does_not_date_is_charged_once() -> None:
    """Terminated without a time: the adapter says "now" at every tick while EC2 still lists it."""
    ledger = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    for hours in (2, 3, 4):
        ledger = meter(ledger, [node("i-1", NOV, NOV + hours * HOUR)], PRICES, NOV + hours * HOUR)[-1]
    assert ledger.instance_usd == pytest.approx(2 * 1.006)


def test_prices_spot_when_known_and_the_dearest_for_the_unknown() -> None:
    prices = replace(PRICES, spot={("g5.xlarge", "us-east-1a"): 0.4, ("g5.2xlarge", "us-east-1a"): 9.0})
    spot = replace(node("i-1", NOV), spot=True)
    assert prices.running(spot) == 0.4
    assert prices.running(replace(spot, zone="us-east-1b")) == 1.006
    assert prices.running(replace(spot, type="g5.2xlarge")) == 1.212, "spot is never charged above on-demand"
    assert prices.running(replace(spot, type="p9.huge")) == 1.861
    assert prices.stopping(spot) == 1.006, "what is committed is committed at the on-demand price"


HELD = Reservation("cr-1", "g5.xlarge", 2)
RESERVING = replace(PRICES, reserved=(HELD,))


def test_reserved_capacity_is_charged_whether_used_or_not() -> None:
    ledger = meter(opened(NOV), [], RESERVING, NOV + 10 * HOUR)[-1]
    assert ledger.spent_usd == pytest.approx(10 * (2 * 1.006) + 10 * 36 / 744)
    closed, december = meter(opened(DEC - HOUR), [], RESERVING, DEC + 3 * HOUR)
    assert closed.reserved_usd == pytest.approx(2 * 1.006), "time is split at the first of the month"
    assert december.reserved_usd == pytest.approx(3 * 2 * 1.006)


def test_what_runs_inside_a_reservation_adds_its_disk_and_its_boot_alone() -> None:
    here = node("i-1", NOV, reservation="cr-1", disk_usd_per_hour=0.01)
    ledger = meter(opened(NOV), [here], RESERVING, NOV + 10 * HOUR)[-1]
    assert ledger.instance_usd == 0
    assert ledger.disk_usd == pytest.approx(0.1)
    assert ledger.boot_usd == pytest.approx(0.05)
    assert ledger.reserved_usd == pytest.approx(10 * 2 * 1.006)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"reservation": ""}, "nobody says that it runs there"),
        ({"reservation": "cr-2"}, "another reservation"),
        ({"reservation": "cr-1", "type": "g5.2xlarge"}, "not the type that was declared"),
    ],
)
def test_what_is_not_known_to_run_inside_is_charged_in_full(change: dict[str, Any], why: str) -> None:
    one = node("i-1", NOV, **change)
    assert inside([one], RESERVING) == frozenset(), why
    ledger = meter(opened(NOV), [one], RESERVING, NOV + HOUR)[-1]
    assert ledger.instance_usd == pytest.approx(PRICES.on_demand[one.type]), why


def test_a_reservation_pays_for_no_more_instances_than_it_was_said_to_hold() -> None:
    """The settings may say less than EC2 holds; then only as many are free, the oldest first."""
    nodes = [node(f"i-{n}", NOV + n, reservation="cr-1") for n in range(4)]
    assert inside(reversed(nodes), RESERVING) == {"i-0", "i-1"}
    gone = [replace(nodes[0], ended_at=NOV + HOUR), *nodes[1:]]
    assert inside(gone, RESERVING) == {"i-1", "i-2"}, "one that ended makes room"


def test_an_instance_that_loses_its_reservation_is_charged_from_the_last_tick_on() -> None:
    here = node("i-1", NOV, reservation="cr-1")
    ledger = meter(opened(NOV), [here], RESERVING, NOV + HOUR)[-1]
    ledger = meter(ledger, [replace(here, reservation="")], RESERVING, NOV + HOUR + 60)[-1]
    assert ledger.instance_usd == pytest.approx(1.006 / 60)
    ledger = meter(ledger, [here], PRICES, NOV + HOUR + 120)[-1]
    assert ledger.instance_usd == pytest.approx(2 * 1.006 / 60), "the same when the settings name it no more"


def test_a_replacement_in_the_same_place_is_charged_a_tick_at_most() -> None:
    """The old instance's last seconds are not known to have been inside: they count, once."""
    single = replace(PRICES, reserved=(replace(HELD, instances=1),))
    old = node("i-1", NOV, reservation="cr-1")
    ledger = meter(opened(NOV), [old], single, NOV + HOUR)[-1]
    ended, new = replace(old, ended_at=NOV + HOUR + 30), node("i-2", NOV + HOUR + 40, reservation="cr-1")
    for minute in (1, 2, 3):
        ledger = meter(ledger, [ended, new], single, NOV + HOUR + 60 * minute)[-1]
    assert ledger.instance_usd == pytest.approx(30 * 1.006 / 3600)


def test_committed_holds_the_reservation_to_the_end_of_the_month() -> None:
    at = NOV + 15 * 24 * HOUR
    here, beside = node("i-1", NOV, reservation="cr-1", disk_usd_per_hour=0.01), node("i-2", NOV)
    rest = (2 * 1.006 + 36 / 744) * 15 * 24
    assert committed_usd([], [], RESERVING, at) == pytest.approx(rest)
    expected = rest + (0.01 + 1.222 + 1.006 + 1.212) * 1050 / 3600 + 2 * 0.05
    assert committed_usd([here, beside], [], RESERVING, at) == pytest.approx(expected), "a replacement may land outside"
    owed = [(1, 300, 0.01)]
    assert committed_usd([], owed, RESERVING, at) > rest, "what is still to come may land outside: in full"


def test_a_reservation_of_an_unknown_type_costs_the_dearest() -> None:
    prices = replace(PRICES, reserved=(replace(HELD, type="p9.huge"),))
    assert prices.reserved_per_hour == pytest.approx(2 * 1.861)


@settings(max_examples=100, deadline=None)
@given(lives_of_instances, tick_times, st.sets(st.integers(0, 5)))
def test_a_reservation_never_makes_a_month_cheaper_than_its_use(
    lives: list[tuple[float, float]], ticks: list[tuple[float, float]], here: set[int]
) -> None:
    """Its hours all the time, and what runs outside it on top, whenever the guard looks."""
    start, end = NOV, NOV + 60 * HOUR
    lives = [(start + a, b) for a, b in lives]
    many = replace(PRICES, reserved=(replace(HELD, instances=len(lives) or 1),))

    def seen(at: float) -> list[Running]:
        return [replace(one, reservation="cr-1" if int(one.id[2:]) in here else "") for one in listed(lives, at)]

    ledger = opened(start)
    for at in [*sorted(start + t for t, _ in ticks), end]:
        ledger = meter(ledger, seen(at), many, at)[-1]
    outside = [(a, b) for n, (a, b) in enumerate(lives) if n not in here]
    apart = sum(max(60.0, min(length, end - begun)) for begun, length in outside if begun < end) * 1.006 / HOUR
    assert ledger.instance_usd == pytest.approx(apart)
    assert ledger.reserved_usd == pytest.approx(60 * many.reserved_per_hour)
    assert ledger.fixed_usd == pytest.approx(60 * 36 / 744)


def test_committed_counts_what_is_owed_and_the_rest_of_the_month() -> None:
    at = NOV + 15 * 24 * HOUR
    running = [node("i-1", NOV, drain_s=300), node("i-2", NOV, at)]
    # drain 300 s + allowance 600 s + 150 s to leave, at $1.006, and for its replacement at the dearest price that may
    # launch, with a boot; owed: the dearest for both, and two boots.
    expected = (1.006 + 1.212) * 1050 / 3600 + 0.05 + 2 * (2 * 1.222 * 1050 / 3600 + 0.1) + 36 * 360 / 744
    assert committed_usd(running, [(2, 300, 0.01), (-1, 300, 0.0)], PRICES, at) == pytest.approx(expected)
    assert launch_usd(PRICES, 300, 0.01) == pytest.approx(0.1 + 1.222 * (600 + 2 * 1050) / 3600)
    unlisted = node("i-3", NOV, type="p9.huge", drain_s=300)
    assert committed_usd([unlisted], [], PRICES, at) == pytest.approx(2 * 1.861 * 1050 / 3600 + 0.05 + 36 * 360 / 744)


def test_spot_that_nobody_remembers_any_more_is_paid_at_the_on_demand_price() -> None:
    one, cheap = replace(node("i-1", NOV), spot=True), replace(PRICES, spot={("g5.xlarge", "us-east-1a"): 0.4})
    seen = meter(opened(NOV), [one], cheap, NOV + HOUR)[-1]
    assert seen.spot_usd == pytest.approx(0.4)
    vanished = meter(seen, [], cheap, NOV + 2 * HOUR)[-1]
    assert vanished.spot_usd == pytest.approx(0.4 + 1.006)


def test_a_minute_is_charged_when_it_is_known_to_be_over_and_by_no_late_tick() -> None:
    one = node("i-1", NOV)
    seen = meter(opened(NOV), [one], PRICES, NOV + 20)[-1]
    assert seen.instance_usd == pytest.approx(20 * 1.006 / 3600)
    assert meter(seen, [], PRICES, NOV + 10)[-1].instance_usd == seen.instance_usd, "late: it had not looked yet"
    ended = meter(seen, [replace(one, ended_at=NOV + 30)], PRICES, NOV + 40)[-1]
    assert ended.instance_usd == pytest.approx(60 * 1.006 / 3600)


def test_what_ends_after_a_tick_began_is_charged_to_its_end_and_not_again() -> None:
    """EC2 answers later than the tick began: by then the instance is gone, in the new month at that."""
    begun = DEC - 20
    for end in (DEC - 5, DEC + 5):
        one = node("i-1", DEC - HOUR)
        seen = meter(opened(DEC - HOUR), [one], PRICES, begun - 60)[-1]
        november = meter(seen, [replace(one, ended_at=end)], PRICES, begun)[-1]
        assert november.instance_usd == pytest.approx(1.006 * (min(end, DEC) - DEC + HOUR) / HOUR)
        closed, december = meter(november, [replace(one, ended_at=end)], PRICES, DEC + 40)
        assert closed.instance_usd == november.instance_usd
        assert december.instance_usd == pytest.approx(1.006 * max(0.0, end - DEC) / HOUR)


def test_another_source_only_raises_the_ledger_of_its_month() -> None:
    ledger = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    assert raise_to(ledger, 0.5, "2026-11") == ledger
    assert raise_to(ledger, 500.0, "2026-10") == ledger
    assert raise_to(ledger, float("nan"), "2026-11") == ledger
    raised = raise_to(ledger, 112.4, "2026-11")
    assert raised.spent_usd == pytest.approx(112.4)
    assert raise_to(raised, 112.4, "2026-11") == raised, "the same figure twice raises once"
    assert meter(raised, [node("i-1", NOV)], PRICES, NOV + 2 * HOUR)[-1].spent_usd > 113.4


def test_a_damaged_ledger_is_refused_not_guessed() -> None:
    good = meter(opened(NOV), [node("i-1", NOV)], PRICES, NOV + HOUR)[-1]
    assert Ledger.from_json(good.to_json()) == good
    for text in ("", "{}", "[1]", good.to_json().replace("2026-11", "never"), good.to_json().replace(":0.0", ":null")):
        with pytest.raises(ValueError, match="ledger record is damaged"):
            Ledger.from_json(text)


def test_warns_once() -> None:
    ledger = replace(opened(NOV), on_demand_usd=119.99)
    assert not must_warn(ledger, 150, 80)
    assert must_warn(replace(ledger, on_demand_usd=120.0), 150, 80)
    assert not must_warn(replace(ledger, on_demand_usd=140.0, warned=True), 150, 80)


NOW = Situation(NOV + 60, 112.4, 37.71, 150.0, 0.5, 23, 1, True)


def test_trip_with_its_numbers() -> None:
    latch, why = judge(Latch(), NOW)
    assert why == "trip: $112.40 spent + $37.71 committed >= $150.00"
    assert (latch.latched, latch.reason, latch.generation, latch.month) == (True, "budget", 1, "2026-11")
    assert judge(latch, NOW) == (latch, "stopped (budget): $112.40 spent + $37.71 committed, budget $150.00")


@given(st.floats(0, 1e6), st.floats(0, 1e6), st.floats(0.01, 1e6), st.integers(0, 5))
def test_the_trip_is_never_missed_and_admission_never_trips(s: float, c: float, budget: float, waiting: int) -> None:
    latch, _ = judge(Latch(), replace(NOW, spent=s, committed=c, budget=budget, waiting=waiting))
    assert latch.latched == (s + c >= budget) or latch.reason == "exhausted"
    left = headroom_usd(s, c, budget)
    assert left == 0 or s + c + left * 0.999 < budget


def test_a_figure_that_is_no_number_trips() -> None:
    assert judge(Latch(), replace(NOW, spent=float("nan")))[0].latched
    assert headroom_usd(float("nan"), 0, 150) == 0


@pytest.mark.parametrize(
    ("change", "latched"),
    [
        ({}, True),
        ({"waiting": 0}, False),
        ({"waiting": None}, False),
        ({"instances": 1}, False),
        ({"launch": 1.99}, False),
    ],
)
def test_exhausted_only_when_jobs_wait_nothing_runs_and_no_launch_fits(change: dict[str, int], latched: bool) -> None:
    situation = replace(NOW, spent=100, committed=48, launch=2.01, waiting=23, instances=0)
    latch, why = judge(Latch(), replace(situation, **change))
    assert latch.latched == latched
    if latched:
        assert latch.reason == "exhausted"
        assert why.startswith("exhausted: 23 waiting, nothing runs, a launch may cost $2.01 > $2.00 left")


@pytest.mark.parametrize(
    ("reason", "resumes", "spent", "latched"),
    [
        ("budget", True, 1.0, False),
        ("exhausted", True, 1.0, False),
        ("manual", True, 1.0, True),
        ("budget", False, 1.0, True),
        ("budget", True, 140.0, True),
    ],
)
def test_only_a_new_month_lifts_the_latch(reason: str, resumes: bool, spent: float, latched: bool) -> None:
    before = Latch(True, reason, 4, NOV, "guard", "2026-11")
    cheap = replace(NOW, spent=spent, resume_on_new_month=resumes)
    assert judge(before, cheap)[0] == before, "not within its month, however little is spent"
    after, why = judge(before, replace(cheap, at=DEC + 5))
    assert after.latched == latched
    if not latched:
        assert (after.generation, after.reason, after.by) == (5, "", "new month")
        assert why == "resume: new month 2026-12, $1.00 spent + $37.71 committed < $150.00"
