"""The budget's promise in some scenarios of its benchmark: the embedded cloud's own bill at the end of the month, the
meter, the time to stop, and what became of the jobs. Minutes each; `make bench-budget` plays them all.
"""

from __future__ import annotations

import pytest

from benchmarks import budget_run
from benchmarks.budget_scenarios import BY_NAME, SCENARIOS
from benchmarks.budget_verdicts import judge

# The provider SDK warns about its own deprecated aliases when a service is imported; none is used here.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::DeprecationWarning:pulumi_aws")]


PROVED = ("guard-30-min", "throttled", "boot-storm", "midnight")  # a dead guard, a blind one, many boots, two months


@pytest.mark.parametrize("name", PROVED)
def test_the_promise_is_kept(name: str, subtests: pytest.Subtests) -> None:
    for verdict in judge(budget_run.play(BY_NAME[name])):
        with subtests.test(verdict.promise):
            assert verdict.kept, verdict.seen


def test_aws_budgets_alone_come_half_a_day_late() -> None:
    """What the guard is for. The figures are 8 to 12 hours old, and come every 8 to 12 hours."""
    world = SCENARIOS[0]
    alone = budget_run.play_alone(world, world.budget_usd)
    assert alone.crossed_at is not None
    assert alone.message_at is not None
    assert 8 <= (alone.message_at - alone.crossed_at) / 3600 <= 24
    assert alone.over_usd > 0.1 * world.budget_usd
