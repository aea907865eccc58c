"""The benchmark's arithmetic on figures made by hand, and the whole of it on two tiny workloads."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_control import scaling_look

from benchmarks import policies, report, rivals, running, summary, yardstick
from benchmarks.cells import APART, HELD_OUT, TINY, TUNED, Cell, Outcome
from gpufleet.planner.workloads import HELD_OUT as HELD_OUT_CASES
from gpufleet.planner.workloads import TUNED_ON

HIDDEN = Cell("office-hours", 90.0, 300.0)
HELD = Cell("sporadic", 90.0, 300.0)
SHORT = Cell("office-hours", 240.0, 60.0)
BURST = Cell("lone-burst", 90.0, 300.0)
YARDSTICK = {HIDDEN: 100.0, HELD: 50.0, SHORT: 200.0, BURST: 10.0}


def made(cell: Cell, cost_s: float, share: float, policy: str = "law", kept: float = 1.0) -> Outcome:
    return Outcome(policy, cell, cost_s, share, kept, 10 * cost_s, 2.0, 0.25, 0.0, 3, 0)


def test_cells_know_their_regime_and_half() -> None:
    assert [cell.hidden for cell in (HIDDEN, SHORT)] == [True, False]
    assert Cell("x", 240.0, 265.0).hidden
    assert not Cell("x", 240.0, 264.0).hidden
    assert {Cell(case.name, 90, 60).half for case in TUNED_ON} == {TUNED}
    assert {Cell(case.name, 90, 60).half for case in HELD_OUT_CASES} == {HELD_OUT}
    assert BURST.half == APART


def test_groups_are_geometric_means_with_the_worst_cell_and_the_cells_that_miss() -> None:
    group = summary.group([made(HIDDEN, 200, 0.995), made(HELD, 400, 0.98, kept=0.999)], YARDSTICK.__getitem__)
    assert (group.cells, group.cost, group.worst) == (2, pytest.approx(4.0), 8.0)
    assert (group.worst_cell, group.missed) == ("sporadic 90/300", ("sporadic 90/300",))
    assert (group.least_share, group.least_kept) == (0.98, 0.999)
    assert math.isnan(summary.group([], YARDSTICK.__getitem__).cost)


def test_regimes_leave_out_what_stands_apart() -> None:
    outcomes = [made(cell, 100, 1.0) for cell in YARDSTICK]
    assert [one.cell for one in summary.regime(outcomes, True)] == [HIDDEN, HELD]
    assert [one.cell for one in summary.regime(outcomes, True, HELD_OUT)] == [HELD]
    assert [one.cell for one in summary.regime(outcomes, True, APART)] == [BURST]
    assert [one.cell for one in summary.regime(outcomes, False)] == [SHORT]


def test_hindsight_takes_the_cheapest_that_is_enough_else_the_best_share() -> None:
    late, dear, cheap = made(HIDDEN, 50, 0.98), made(HIDDEN, 120, 1.0), made(HIDDEN, 100, 0.99)
    assert summary.cheapest([late, dear, cheap]) is cheap
    later = made(HIDDEN, 10, 0.5)
    assert summary.cheapest([late, later, replace(late, cost_s=60)]) is late


def test_tuning_finds_the_largest_setting_that_is_enough() -> None:
    tried: list[float] = []

    def try_out(setting: float) -> Outcome:
        tried.append(setting)
        return made(HIDDEN, 1000 / setting, 1.0 if setting <= 37 else 0.9)

    best = rivals.tune(try_out, 1.0, 100.0)
    assert 37 * 0.95 <= 1000 / best.cost_s <= 37
    assert len(tried) == rivals.COARSE + rivals.FINE
    none = rivals.tune(lambda setting: made(HIDDEN, 1 / setting, 0.9 - setting / 1e3), 1.0, 100.0)
    assert none.share == pytest.approx(0.899)


def test_the_law_table_marks_bounds_and_misses() -> None:
    outcomes = [made(HIDDEN, 110, 0.995), made(SHORT, 300, 0.7), made(HELD, 60, 1.0)]
    table = summary.law_table(outcomes, YARDSTICK.__getitem__, {HELD})
    assert "1.100 99.50" in table
    assert "!1.500 70.00" in table
    assert "~1.200 100.00" in table
    assert "W >= C + 25 both      geo-mean 1.1489 worst 1.200 (sporadic 90/300), under 99 %: 0 of 2" in table
    assert "W < C + 25  tuned on  geo-mean 1.5000 worst 1.500 (office-hours 240/60), under 99 %: 1 of 1" in table


def test_the_published_table_compares_with_tuned_keda_only_where_tuning_was_enough() -> None:
    keda = [made(HIDDEN, 150, 0.992, rivals.TUNED_KEDA), made(HELD, 900, 0.97, rivals.TUNED_KEDA)]
    table = report.tables([made(HIDDEN, 110, 1.0), made(HELD, 60, 0.9896), *keda], YARDSTICK.__getitem__, [], [])
    assert "| KEDA, tuned in hindsight | 1.500 | none | 1.500 |" in table
    assert "In 1 of 2 cells" in table
    assert "costs 1.500 there, the law 1.100." in table
    assert "98.9 %" in table, "a share is never rounded up over the promise"


def test_what_stands_apart_has_a_table_of_its_own() -> None:
    outcomes = [made(HIDDEN, 110, 1.0), made(BURST, 15, 0.995), made(BURST, 40, 1.0, rivals.STATIC)]
    table = report.tables(outcomes, YARDSTICK.__getitem__, [], [])
    assert "| law | 1.100 | none | 1.100 |" in table
    assert "| law | 1.50 | 99.5 % | none | none |" in table
    assert "| static | 4.00 | 100.0 % | none | none |" in table


def test_tables_stand_between_the_markers_and_nowhere_else(tmp_path: Path) -> None:
    document = tmp_path / "scaling.md"
    document.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.publish(document, "new\n")
    assert document.read_text() == f"before\n{report.BEGIN}\n\nnew\n\n{report.END}\nafter\n"
    with pytest.raises(ValueError, match="markers"):
        report.put_between("no place", "new")


def test_settings_go_to_the_policy_the_fleet_or_the_laws_constants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling_look, "MADE_UP", 0, raising=False)
    changes = running.parse(["tick_s=5", "dispatch=spread", "counter_noise=0.1", "MADE_UP=7"])
    assert changes.policy == {"tick_s": 5}
    assert changes.fleet == {"dispatch": "spread", "counter_noise": 0.1}
    assert changes.constants == {"MADE_UP": 7}
    running.put(changes.constants)
    assert vars(scaling_look)["MADE_UP"] == 7
    with pytest.raises(running.SettingError, match="NO_SUCH"):
        running.parse(["NO_SUCH=1"])


def test_a_cells_digest_follows_its_content() -> None:
    cell = Cell(TINY[0].name, 90.0, 300.0)
    others = [replace(cell, wait_target_s=60.0), replace(cell, cold_start_s=240.0), replace(cell, case=TINY[1].name)]
    digests = {yardstick.digest(one) for one in (cell, *others)}
    assert len(digests) == 4
    assert yardstick.digest(replace(cell)) in digests


@pytest.mark.long
def test_quick_writes_figures_tables_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(yardstick, "FILE", tmp_path / "clairvoyant.json")
    monkeypatch.setattr(rivals, "CACHE", tmp_path / "cache" / "rivals.json")
    quick = ["--quick", "--cold", "90", "--wait", "60,300", "--processes", "1"]
    policies.main([*quick, "--out", str(tmp_path)])
    document = json.loads((tmp_path / "scaling-bench.json").read_text())
    cells = [dict(zip(document["columns"], row, strict=True)) for row in document["cells"]]
    assert len(cells) == 4 * (1 + len(rivals.NAMES))
    assert all(0 <= one["share_in_time"] <= 1 and 0 < one["idle_share"] < 1 for one in cells)
    static = [one for one in cells if one["policy"] == rivals.STATIC]
    assert all(one["cost_over_clairvoyant"] > 1 and one["boots_per_day"] == 0 for one in static)
    assert [one["wait_target_s"] for one in document["impatience"]][::8] == [600, 30]
    assert (tmp_path / "scaling-bench.png").read_bytes().startswith(b"\x89PNG")
    assert "| tiny-1 (tuned on) |" in (tmp_path / "scaling.md").read_text()

    monkeypatch.setattr(rivals, "run_rival", None)  # everything is kept: neither rivals nor yardstick run again
    monkeypatch.setattr(yardstick, "find", None)
    kept = (tmp_path / "clairvoyant.json").read_bytes()
    policies.main([*quick, "--law-only"])
    table = capsys.readouterr().out
    assert "~" not in table
    assert "held out  geo-mean" in table
    assert len(list(rivals.all_rivals([Cell(TINY[0].name, 90.0, 60.0)], 1))) == len(rivals.NAMES)
    assert (tmp_path / "clairvoyant.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--only", "no-such"], "there are office-hours"),
        (["--law-only", "--quick", "--set", "NO_SUCH=1"], "no field of Policy or FleetModel"),
        (["--only", "sporadic"], "name a folder with --out"),
    ],
)
def test_what_cannot_run_says_why(options: list[str], reason: str) -> None:
    with pytest.raises(SystemExit, match=reason):
        policies.main(options)
