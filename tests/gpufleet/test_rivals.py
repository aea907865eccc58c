"""The rivals do what their own documentation says they do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fleet_control.scaling_law import BOOTING, DRAINING, READY, SPOT, Instance, Observation

from gpufleet.planner.rivals import BacklogTracking, Keda, RawDepthTracking, Static
from gpufleet.planner.simulator import FleetModel, Orders, Scaler, Workload, simulate


def fleet(busy: list[int | None], state: str = READY) -> tuple[Instance, ...]:
    """Instances i-0, i-1, ... in launch order; None: one that boots."""
    return tuple(
        Instance(f"i-{k}", SPOT, BOOTING if load is None else state, float(k), load) for k, load in enumerate(busy)
    )


def seen(at: float, visible: int, in_flight: int = 0, instances: tuple[Instance, ...] = ()) -> Observation:
    return Observation(at, visible, 0, in_flight, 0, instances)


def feed(scaler: Scaler, visible: int, instances: tuple[Instance, ...], looks: int, start: float = 0) -> list[Orders]:
    """The orders of so many looks, one a tick, at one and the same reading."""
    return [scaler.look(seen(start + k * scaler.tick_s, visible, 0, instances)) for k in range(looks)]


def at_intervals(count: int, gap_s: float, service_s: float, start: float = 0) -> Workload:
    return Workload([start + k * gap_s for k in range(count)], [service_s] * count)


def test_a_static_fleet_is_always_the_same() -> None:
    assert Static(7).look(seen(0, 10_000)) == Static(7).look(seen(5, 0)) == Orders(7)


class TestKeda:
    def keda_at(self, replicas: int, queue_length: float = 5) -> tuple[Keda, Iterator[float]]:
        """A KEDA that holds so many replicas, and the times of the looks to come."""
        scaler, at = Keda(queue_length), (15.0 * k for k in range(10_000))
        while scaler.look(seen(next(at), round(queue_length * replicas))).desired < replicas:
            pass
        return scaler, at

    def test_from_zero_it_wakes_at_a_poll_and_with_one_pod(self) -> None:
        scaler = Keda()
        readings = [(0, 0), (15, 400), (30, 400)]
        assert [scaler.look(seen(at, visible)).desired for at, visible in readings] == [0, 0, 1]

    @pytest.mark.parametrize("arrival", [1.0, 14.0, 16.0, 29.0, 3601.0, 3616.0])
    def test_the_first_job_waits_for_the_next_poll_and_the_boot(self, arrival: float) -> None:
        model = FleetModel(slots=1, cap=4, cold_start_s=100)
        done = simulate(at_intervals(1, 1, 10, start=arrival), model, Keda())
        assert done.waits[0] == -arrival % 30 + 100

    def test_it_grows_by_the_larger_of_double_and_four_each_sync(self) -> None:
        scaler = Keda()
        assert [order.desired for order in feed(scaler, 1000, (), 8)] == [1, 5, 10, 20, 40, 80, 100, 100]

    def test_it_asks_for_messages_over_queue_length_counting_those_in_flight(self) -> None:
        scaler, at = self.keda_at(8, queue_length=10)
        assert scaler.look(seen(next(at), visible=51, in_flight=50)).desired == 11

    def test_within_the_tolerance_it_stays(self) -> None:
        scaler, at = self.keda_at(20)
        assert scaler.look(seen(next(at), 109)).desired == 20
        assert scaler.look(seen(next(at), 111)).desired == 23

    def test_it_shrinks_to_the_highest_recommendation_of_five_minutes(self) -> None:
        scaler, at = self.keda_at(20)
        desired = [scaler.look(seen(next(at), 75 if k == 0 else 50)).desired for k in range(22)]
        # 20 was recommended one sync before, 15 at the first look, 10 ever since.
        assert desired == [20] * 20 + [15, 10]

    def test_it_goes_to_zero_five_minutes_after_the_last_active_poll(self) -> None:
        """One job at a poll: seen active at 0 and, while it is served (100-140), until the poll at 120."""
        model = FleetModel(slots=1, cap=4, cold_start_s=100)
        done = simulate(at_intervals(1, 1, 40), model, Keda())
        assert list(done.waits) == [100]
        assert done.instance_s == 120 + 300
        assert done.lost_s == 0

    def test_a_sync_without_messages_does_not_end_the_last_pod(self) -> None:
        scaler, at = self.keda_at(8)
        assert min(scaler.look(seen(next(at), 0)).desired for _ in range(19)) >= 1
        woken = Keda()
        assert [woken.look(seen(at, visible)).desired for at, visible in ((0, 1), (15, 0))] == [1, 1]

    def test_what_leaves_boots_or_holds_least(self) -> None:
        scaler, at = self.keda_at(4)
        orders = [scaler.look(seen(next(at), 10, 0, fleet([3, None, 1, 0]))) for _ in range(21)]
        assert orders[0] == Orders(4)
        assert orders[-1] == Orders(2, ("i-1", "i-3"))
        assert scaler.look(seen(next(at), 10, 0, fleet([0, 2, 1, None, 0]))).drain == ("i-3", "i-4", "i-0")

    def test_it_never_asks_for_more_than_its_cap(self) -> None:
        assert max(order.desired for order in feed(Keda(cap=3), 1000, (), 10)) == 3


class TestRawDepth:
    def test_three_minutes_above_the_target_multiply_the_fleet(self) -> None:
        orders = feed(RawDepthTracking(cap=64), 35, fleet([1, 1]), looks=3)
        assert [order.desired for order in orders] == [1, 1, 7]  # ceil(2 x 35 / 10)

    def test_one_minute_at_the_target_resets_the_alarm(self) -> None:
        scaler = RawDepthTracking(cap=64)
        feed(scaler, 35, fleet([1, 1]), looks=2)
        feed(scaler, 10, fleet([1, 1]), looks=1)
        assert feed(scaler, 35, fleet([1, 1]), looks=2)[-1].desired == 1

    def test_instances_that_boot_are_not_multiplied(self) -> None:
        scaler = RawDepthTracking(cap=64)
        assert feed(scaler, 35, fleet([1, None, None, None]), looks=6)[-1].desired == 4

    def test_a_quarter_of_an_hour_below_ends_one_every_five_minutes_down_to_one(self) -> None:
        scaler = RawDepthTracking(cap=4)
        feed(scaler, 1000, fleet([1]), looks=3)
        orders = feed(scaler, 0, fleet([1, 1, 1, 1]), looks=60, start=180)
        assert [k for k in range(1, 60) if orders[k].desired < orders[k - 1].desired] == [14, 19, 24]
        assert orders[14] == Orders(3, kill=1)
        assert orders[-1].desired == 1

    def test_below_means_below_nine_tenths(self) -> None:
        scaler = RawDepthTracking(cap=4)
        feed(scaler, 1000, fleet([1]), looks=3)
        assert feed(scaler, 9, fleet([1]), looks=20, start=180)[-1].desired == 4
        assert feed(scaler, 8, fleet([1]), looks=15, start=1380)[-1].desired == 3

    def test_its_scale_in_throws_work_away(self) -> None:
        """Jobs of half an hour never wait, so the alarm stays low and busy instances are killed."""
        model = FleetModel(slots=1, cap=6, cold_start_s=60)
        done = simulate(at_intervals(12, 5, 1800), model, RawDepthTracking(cap=6))
        assert done.lost_s > 0

    def test_it_never_sleeps(self) -> None:
        scaler = RawDepthTracking(cap=4)
        assert min(order.desired for order in feed(scaler, 0, fleet([0]), looks=100)) == 1


class TestBacklog:
    """Target 100 as in the user guide's example: 10 s of latency over 0.1 s a message, one slot."""

    def tracking(self, cap: int = 64) -> BacklogTracking:
        return BacklogTracking(cap, slots=1, wait_target_s=10, service_s=0.1)

    def test_the_guides_example_scales_out_by_five(self) -> None:
        """1500 messages, 10 instances in service: 150 each, 15 wanted, after three minutes."""
        scaler = self.tracking()
        orders = feed(scaler, 1500, fleet([1] * 10), looks=3)
        assert [order.desired for order in orders] == [1, 1, 15]

    def test_slots_share_the_backlog(self) -> None:
        scaler = BacklogTracking(64, slots=4, wait_target_s=10, service_s=0.1)
        assert feed(scaler, 1700, fleet([1] * 4), looks=3)[-1].desired == 5

    def test_the_first_message_wakes_it_within_a_minute(self) -> None:
        model = FleetModel(slots=1, cap=4, cold_start_s=100)
        done = simulate(at_intervals(1, 1, 10, start=61.0), model, self.tracking())
        assert list(done.waits) == [120 - 61 + 100]

    def test_it_shrinks_after_a_quarter_of_an_hour_one_every_five_minutes_and_drains(self) -> None:
        scaler = self.tracking()
        feed(scaler, 300, fleet([1, 1]), looks=3)
        orders = feed(scaler, 101, fleet([1, 0, 1]), looks=40, start=180)
        assert [k for k in range(1, 40) if orders[k].desired < orders[k - 1].desired] == [14]
        assert orders[14] == Orders(2, ("i-1",))  # two are needed for 101 messages: no further

    def test_it_does_not_shrink_while_a_launch_is_on_its_way(self) -> None:
        scaler = self.tracking()
        feed(scaler, 300, fleet([1, 1]), looks=3)
        assert feed(scaler, 0, fleet([1, 1, None]), looks=40, start=180)[-1].desired == 3

    def test_an_empty_queue_takes_it_to_zero_and_draining_instances_are_no_metric(self) -> None:
        scaler = self.tracking()
        feed(scaler, 1, (), looks=1)
        assert feed(scaler, 0, fleet([1]), looks=15, start=60)[-1] == Orders(0, ("i-0",))
        assert feed(scaler, 10_000, fleet([1], DRAINING), looks=5, start=960)[-1] == Orders(1)

    def test_nothing_is_lost(self) -> None:
        model = FleetModel(slots=2, cap=6, cold_start_s=60)
        done = simulate(at_intervals(200, 20, 90), model, BacklogTracking(6, 2, 60, 90))
        assert done.lost_s == 0
        assert done.peak > 1
