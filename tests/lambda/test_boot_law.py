"""What a launch template version may launch before it served, while it fails, and what that costs."""

from __future__ import annotations

import itertools

import pytest
from fleet_control.boot_law import FIRST_PAUSE_S, HOLD_AFTER, LONGEST_PAUSE_S, Boots, learn, room, surplus
from hypothesis import given
from hypothesis import strategies as st

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
HELD = Boots("7", served=True, failures=3, failed_at=1000.0)
FAILED_BOOT_S = 960.0  # boot deadline 900 s, and a minute to be gone
USD_PER_HOUR = 1.006 + 150 * 0.08 / 720  # g5.xlarge on demand in us-east-1, 150 GiB of gp3


def test_a_version_proves_itself_with_as_many_boots_as_would_condemn_it() -> None:
    fresh = learn(Boots("6", served=True), "7", served=False, failed=(), at=0)
    assert room(fresh, 0, 0) == (3, "template version 7 has not served yet (0 booting, 0 failed)")
    assert room(fresh, 2, 0)[0] == 1
    assert room(fresh, 5, 0)[0] == 0
    once = learn(fresh, "7", served=False, failed=(5.0,), at=900)
    assert room(once, 0, 900)[0] == 2
    assert room(learn(once, "7", served=True, failed=(), at=950), 9, 950) == (None, "")


def test_three_failures_in_a_row_hold_and_each_probe_waits_longer() -> None:
    boots, at = Boots("7", served=True), 0.0
    for _ in range(HOLD_AFTER):
        assert room(boots, 0, at)[0] is None
        at += 900
        boots = learn(boots, "7", served=False, failed=(at - 900,), at=at)
    pauses = []
    for _ in range(7):
        assert room(boots, 0, at)[0] == 0
        pause = boots.pause_s
        left, why = room(boots, 0, at + pause - 1)
        assert (left, why) == (0, f"{boots.failures} boots of template version 7 failed in a row, next probe in 1 s")
        assert room(boots, 0, at + pause)[0] == 1
        assert room(boots, 1, at + pause + 20)[0] == 0, "one probe at a time"
        pauses.append(pause)
        at += pause + 900
        boots = learn(boots, "7", served=False, failed=(at - 900,), at=at)
    assert pauses == [600, 3000, 15_000, 64_800, 64_800, 64_800, 64_800]


@pytest.mark.parametrize(
    ("version", "served", "left"), [("7", True, None), ("8", False, HOLD_AFTER)], ids=["a boot succeeds", "new version"]
)
def test_what_ends_a_hold(version: str, served: bool, left: int | None) -> None:
    after = learn(HELD, version, served=served, failed=(), at=1001)
    assert not after.held
    assert room(after, 0, 1001)[0] == left


def test_ten_boots_that_fail_together_are_one_round() -> None:
    boots = learn(Boots("7", served=True), "7", served=False, failed=[0.0] * 4, at=900)
    boots = learn(boots, "7", served=False, failed=[3.0] * 6, at=910)
    assert (boots.failures, boots.probes, boots.failed_at, boots.pause_s) == (10, 0, 900, FIRST_PAUSE_S)


def test_what_the_group_launches_by_itself_during_a_hold_is_surplus() -> None:
    assert surplus(HELD, {"i-older": 990.0}) == (), "it was under way when the hold began"
    assert surplus(HELD, {"i-older": 990.0, "i-a": 1000.0, "i-b": 1010.0}) == ("i-a", "i-b")
    probe = 1000.0 + HELD.pause_s
    assert surplus(HELD, {"i-probe": probe, "i-two": probe + 10}) == ("i-two",)
    assert surplus(Boots("7", failures=2, failed_at=1000.0), {"i-a": 1010.0}) == ()


def test_a_version_without_a_number_is_not_judged() -> None:
    boots = learn(HELD, "", served=False, failed=(1.0, 2.0, 3.0), at=2000)
    assert room(boots, 50, 2000) == (None, "")


@pytest.mark.parametrize("cap", [1, 3, 10])
@pytest.mark.parametrize("replaced", [False, True], ids=["group waits", "group replaces at once"])
def test_an_image_that_never_boots_costs_less_than_two_dollars_a_day(cap: int, replaced: bool) -> None:
    """Looks every 10 s, a queue that wants the whole cap all the time. ``replaced``: Auto Scaling replaces each failed
    boot before the controller looks again; the instance lives for a minute, as that is billed at least."""
    boots, booting, names = Boots(), dict[str, float](), itertools.count()
    days, billed_s = [0.0, 0.0], 0.0
    for step in range(int(2 * DAY / 10)):
        at = step * 10.0
        over = [name for name, first in booting.items() if at - first >= FAILED_BOOT_S]
        failed = [booting.pop(name) for name in over]
        billed_s = FAILED_BOOT_S * len(failed)
        if replaced:
            booting |= {f"i-{next(names)}": at for _ in failed}
        boots = learn(boots, "7", served=False, failed=failed, at=at)
        for name in surplus(boots, booting):
            del booting[name]
            billed_s += 60
        number, _ = room(boots, len(booting), at)
        wanted = cap - len(booting)
        booting |= {f"i-{next(names)}": at for _ in range(wanted if number is None else min(wanted, number))}
        days[int(at // DAY)] += billed_s / 3600 * USD_PER_HOUR
    assert 0.2 < days[1] < days[0] <= 2.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["", "7", "8"]),
            st.booleans(),
            st.lists(st.floats(-1e12, 1e12), max_size=4),
            st.floats(0, 1e11),
            st.integers(0, 12),
        ),
        max_size=40,
    )
)
def test_whatever_happens_no_unproven_version_has_more_than_three_boots_and_a_probe_always_comes(
    looks: list[tuple[str, bool, list[float], float, int]],
) -> None:
    boots = Boots()
    for version, served, failed, at, booting in looks:
        boots = learn(boots, version, served=served, failed=failed, at=at)
        assert boots == Boots.from_json(boots.to_json())
        number, _ = room(boots, booting, at)
        if boots.held:
            assert number in (0, 1)
            assert room(boots, 0, at + LONGEST_PAUSE_S)[0] == 1
        elif version and not boots.served:
            assert number is not None
            assert number + boots.failures <= HOLD_AFTER
            assert not number or number + booting <= HOLD_AFTER


@pytest.mark.parametrize(
    "text",
    [None, "", "[]", "{}", "{", '"x"', '{"version":"7","served":true,"failures":-1,"probes":0,"failed_at":0}',
     '{"version":"7","served":true,"failures":3,"probes":0,"failed_at":Infinity}'],
)  # fmt: skip
def test_damaged_facts_are_no_facts(text: str | None) -> None:
    assert Boots.from_json(text) == Boots()


def test_a_clock_that_jumped_back_does_not_hold_for_ever() -> None:
    boots = learn(Boots("7", served=True, failures=3, failed_at=1e10), "7", served=False, failed=(), at=1000)
    assert room(boots, 0, 1000 + FIRST_PAUSE_S)[0] == 1
