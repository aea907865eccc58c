"""The times of a stop: guard and node each know their own part of them, and only together they keep the promise."""

from __future__ import annotations

from fleet_control import spend_law
from fleet_control.aws import scale_to_zero, stop
from inference_worker import watchdog, worker

TICK_S = 60
STORING_S = worker.FINISH_S + worker.POLL_S + 10  # what is being stored, the poll under way, the calls' own time


def test_a_worker_is_asked_around_the_drain_s_end_and_has_stored_before_the_guard_ends_the_instance() -> None:
    asked_early = scale_to_zero.CUT_S - watchdog.LEAVE_EARLY_S
    asked_late = asked_early + watchdog.LOOK_S
    assert abs(asked_early) <= 15
    assert asked_late + STORING_S <= stop.GRACE_S


def test_a_node_that_does_not_answer_is_gone_three_minutes_after_its_drain() -> None:
    """One tick until the crossing is seen, the grace, and one until it is looked at again."""
    assert TICK_S + stop.GRACE_S + TICK_S <= 180


def test_with_a_dead_guard_everything_has_left_one_drain_after_the_allowance() -> None:
    begins = spend_law.ALLOWANCE_S - watchdog.LEAVE_EARLY_S + watchdog.LOOK_S
    assert begins + STORING_S <= spend_law.ALLOWANCE_S


def test_a_guard_that_is_away_for_five_minutes_sends_nobody_home() -> None:
    assert spend_law.ALLOWANCE_S - watchdog.LEAVE_EARLY_S > 300 + 2 * TICK_S


def test_what_is_committed_covers_a_worker_that_systemd_must_kill() -> None:
    committed = spend_law.ALLOWANCE_S + spend_law.LEAVING_S
    begins = spend_law.ALLOWANCE_S - watchdog.LEAVE_EARLY_S + watchdog.LOOK_S
    assert begins + watchdog.STOP_MARGIN_S <= committed
