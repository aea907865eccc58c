"""Which nodes count as dead or hung, and which never do."""

from __future__ import annotations

from collections.abc import Mapping

from fleet_control.health_law import MARGIN_S, SILENT_S, Limits, Mark, Node, marks, replace_now, sick
from hypothesis import given
from hypothesis import strategies as st

TIMEOUT_S = 900.0
PATIENCE_S = TIMEOUT_S + MARGIN_S
LIMITS = Limits(240.0, TIMEOUT_S)


def node(name: str = "i-1", heard_at: float = 10_000.0, **more: float) -> Node:
    return Node(name, launched_at=0.0, heard_at=heard_at, **more)  # type: ignore[arg-type]


def judged(
    nodes: list[Node], marked: Mapping[str, Mark], at: float, total: float = 0.0, replaced_at: float = 0.0
) -> dict[str, str]:
    return sick(nodes, marked, total, replaced_at, at, LIMITS)


def watched(history: list[list[Node]], *, visible: int = 0, step_s: float = 10.0) -> dict[str, str]:
    """The verdict after looks ``step_s`` apart; the nodes are heard at each."""
    marked: dict[str, Mark] = {}
    found: dict[str, str] = {}
    for index, nodes in enumerate(history):
        at = 10_000.0 + index * step_s
        heard = [Node(one.id, 0.0, at, one.busy, one.completed, one.worked_s) for one in nodes]
        total = sum(one.completed for one in heard)
        marked = marks(heard, marked, visible, total, at)
        found = sick(heard, marked, total, 0.0, at, LIMITS)
    return found


def test_three_silent_minutes_are_death() -> None:
    well, silent = node("i-well"), node("i-silent", heard_at=10_000 - SILENT_S - 1)
    assert judged([well, silent], {}, 10_000) == {"i-silent": "its worker has been silent for 181 s"}


def test_a_node_that_may_still_boot_is_not_expected_to_be_heard() -> None:
    young = Node("i-young", launched_at=9_800.0, heard_at=9_800.0)
    assert judged([node("i-well"), young], {}, 10_000) == {}


def test_a_silence_of_all_at_once_costs_one_at_a_time() -> None:
    silent = [node(f"i-{number}", heard_at=9_000.0 + number) for number in range(5)]
    assert list(judged(silent, {}, 10_000)) == ["i-0"]
    assert list(judged(silent[1:], {}, 10_010, replaced_at=10_000.0)) == []
    assert list(judged(silent[1:], {}, 10_240, replaced_at=10_000.0)) == ["i-1"]
    assert list(judged([*silent, node("i-well")], {}, 10_000)) == [f"i-{number}" for number in range(5)]


def test_others_complete_and_one_does_not() -> None:
    """Its engine fails every job (the worker works, nothing comes of it) while its neighbour serves."""
    looks = int(PATIENCE_S / 10) + 2
    history = [[node("i-bad", busy=4, worked_s=t * 20), node("i-good", busy=4, completed=t)] for t in range(looks)]
    assert watched(history) == {"i-bad": "it has completed nothing for 1210 s, others 121 jobs"}
    assert watched(history[:-1]) == {}


def test_a_long_job_is_not_suspicious_before_its_timeout_is_well_over() -> None:
    """One slot works on a single job that takes the whole job timeout, while others complete thousands."""
    looks = int(TIMEOUT_S / 10)
    start = [[node("i-long", busy=1), node("i-good", busy=8, completed=50 * t)] for t in range(looks)]
    done = [[node("i-long", busy=1, completed=1, worked_s=900), node("i-good", busy=8, completed=9000)]]
    again = [[node("i-long", busy=1, completed=1, worked_s=900), node("i-good", completed=9001 + t)] for t in range(90)]
    assert watched(start) == watched(start + done + again) == {}


def test_a_queue_of_jobs_that_cannot_be_done_condemns_nobody() -> None:
    looks = 3 * int(PATIENCE_S / 10)
    history = [[node(f"i-{n}", busy=4, worked_s=t * 900) for n in range(3)] for t in range(looks)]
    assert watched(history, visible=500) == {}


def test_a_worker_that_holds_jobs_and_works_on_none_is_hung_also_alone() -> None:
    looks = int(PATIENCE_S / 10) + 2
    history = [[node("i-stuck", busy=3, worked_s=70, completed=9)] for _ in range(looks)]
    assert watched(history) == {"i-stuck": "it has completed nothing for 1210 s and holds 3, job timeout 900 s"}
    assert watched(history[:-1]) == {}


def test_an_idle_node_is_not_hung_but_one_that_ignores_waiting_jobs_is() -> None:
    looks = int(PATIENCE_S / 10) + 2
    history = [[node("i-idle"), node("i-good", busy=8, completed=t)] for t in range(looks)]
    assert watched(history) == {}
    assert list(watched(history, visible=20)) == ["i-idle"]


def test_without_a_job_timeout_nobody_is_hung() -> None:
    marked = {"i-1": Mark(0.0, 0.0, 0.0, 0.0)}
    assert sick([node(busy=3)], marked, 500, 0, 10_000, Limits(240, None)) == {}


def test_one_is_replaced_a_cold_start_after_the_other() -> None:
    found = {"i-1": "silent", "i-2": "silent"}
    assert replace_now(found, 0.0, 10_000, LIMITS) == "i-1"
    assert replace_now(found, 9_800.0, 10_000, LIMITS) is None
    assert replace_now(found, 9_760.0, 10_000, LIMITS) == "i-1"
    assert replace_now(found, 99_999.0, 10_000, LIMITS) == "i-1", "a clock that jumped back"
    assert replace_now({}, 0.0, 10_000, LIMITS) is None


NUMBERS = st.floats(-1e9, 1e9)


@given(
    st.lists(
        st.tuples(st.lists(st.tuples(st.integers(0, 4), NUMBERS, st.integers(-1, 9), NUMBERS, NUMBERS), max_size=5),
                  st.integers(-5, 9), st.floats(0, 1e10)),
        max_size=12,
    )
)  # fmt: skip
def test_nonsense_raises_nothing_and_never_condemns_all_of_several_silent(looks: list) -> None:
    marked: dict[str, Mark] = {}
    for rows, visible, at in looks:
        nodes = [Node(f"i-{n}", 0.0, heard, busy, done, worked) for n, heard, busy, done, worked in rows]
        nodes = list({one.id: one for one in nodes}.values())
        total = sum(one.completed for one in nodes)
        marked = marks(nodes, marked, visible, total, at)
        found = sick(nodes, marked, total, 0.0, at, LIMITS)
        silent = [one.id for one in nodes if at - one.heard_at > SILENT_S]
        assert len(nodes) < 2 or len(set(found) & set(silent)) < len(nodes)
