"""Stop by hand and the audit: one transaction with its record, whatever state the table is in; nobody's change lost."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fleet_control import spend_law
from fleet_control.aws import ledger, runtime
from operator_desk import MONTH, NOW, ROOT, TABLE, Desk

from gpufleet.operations import latch, resume, stop
from gpufleet.operations.latch import Figures, Latch, LatchError, State
from gpufleet.operations.stop import Stopped
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.server.client import ServerError

DRAIN_S = 300.0


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with Cloud(NOW) as cloud:
        yield Desk(cloud, monkeypatch)


def halt(desk: Desk, why: str = "", at: float = NOW, dynamodb: Any = None) -> Stopped:
    return stop.stop(dynamodb or desk.dynamodb, TABLE, by="ana", at=at, why=why)


def test_a_stop_is_recorded_with_who_when_why_and_the_figures(desk: Desk) -> None:
    desk.figures()
    desk.latch(latched=False, reason="", generation=7, extra_usd=20, extra_month=MONTH)
    assert not halt(desk, why="a bad\nmodel ").already
    change = {"generation": 8, "at": NOW, "by": "ana", "reason": "manual", "note": "a bad model"}
    kept = {"suspended": {"g": []}, "extra_usd": 20, "extra_month": MONTH}
    assert desk.row("latch") == {"pk": "latch", "latched": True, "month": MONTH, **change, **kept}
    figures = {"spent_usd": 60, "committed_usd": 50, "budget_usd": 170, "waiting": None, "extra_usd": 20}
    assert desk.row("audit#8") == {"pk": "audit#8", "action": "stop", **change, **figures}


def test_a_stack_whose_guard_never_ran_can_be_stopped_and_the_guard_finds_it(desk: Desk) -> None:
    halt(desk)
    read, suspended = ledger.latch_of(desk.row("latch"))
    assert (read.latched, read.reason, read.generation, read.note) == (True, "manual", 1, "stopped by hand")
    assert suspended == {}
    assert desk.row("audit#1")["budget_usd"] is None


def test_no_new_month_and_no_budget_lifts_a_stop_by_hand(desk: Desk) -> None:
    halt(desk)
    read, _ = ledger.latch_of(desk.row("latch"))
    december = spend_law.Situation(NOW + 60 * 86_400, 0, 0, 150, 1, 5, 0, True)
    assert spend_law.judge(read, december)[0] == read


def test_a_stop_of_the_guards_becomes_one_by_hand(desk: Desk) -> None:
    desk.stopped()
    done = halt(desk, why="look first")
    assert not done.already
    assert done.before.latch.reason == "budget"
    row = desk.row("latch")
    assert (row["latched"], row["reason"], row["generation"]) == (True, "manual", 5)
    assert row["note"] == desk.row("audit#5")["note"] == "look first; was budget: trip: why"


def test_a_stop_by_hand_is_not_stopped_again(desk: Desk) -> None:
    halt(desk, why="first")
    before = desk.rows()
    assert halt(desk, why="second", at=NOW + 60).already
    assert desk.rows() == before


def test_a_trip_in_between_stands_and_nothing_is_written(desk: Desk) -> None:
    desk.figures()
    client = desk.between(lambda: desk.latch(generation=1))
    with pytest.raises(LatchError, match="changed by somebody else"):
        halt(desk, dynamodb=client)
    assert desk.row("latch")["reason"] == "budget"
    assert "audit#1" not in desk.rows()
    halt(desk)
    assert desk.row("latch")["reason"] == "manual", "look again, and it can be done"


def test_of_two_first_stops_at_once_one_is_recorded(desk: Desk) -> None:
    client = desk.between(lambda: stop.stop(desk.dynamodb, TABLE, by="bo", at=NOW) and None)
    with pytest.raises(LatchError, match="changed by somebody else"):
        halt(desk, dynamodb=client)
    assert (desk.row("latch")["by"], desk.row("latch")["generation"], desk.row("audit#1")["by"]) == ("bo", 1, "bo")


def test_a_write_that_another_one_is_in_the_way_of_is_told_as_a_change_by_somebody(desk: Desk) -> None:
    def busy() -> None:
        reasons = [{"Code": "TransactionConflict"}, {"Code": "None"}]
        error: Any = {"Error": {"Code": "TransactionCanceledException", "Message": ""}, "CancellationReasons": reasons}
        raise ClientError(error, "TransactWriteItems")

    with pytest.raises(LatchError, match="look again"):
        halt(desk, dynamodb=desk.between(busy))


def test_a_deleted_latch_row_with_an_old_audit_keeps_nobody_from_a_stop(desk: Desk) -> None:
    desk.put("audit#1", by="somebody, long ago")
    halt(desk)
    assert desk.row("latch")["latched"]
    assert desk.row("audit#1")["by"] == "ana"


@pytest.mark.parametrize(
    ("silent_s", "seconds"),
    [(0, 480), (-30, 480), (180, 480), (181, 869), (1000, 50), (1050, 0), (90_000, 0)],
)
def test_how_long_until_nothing_runs(silent_s: float, seconds: float) -> None:
    state = State(Latch(), Figures(NOW - silent_s, MONTH, 0, 0, 0, 150))
    assert stop.gone_after_s(state, DRAIN_S, NOW) == seconds


def test_the_time_without_a_guard_is_the_laws() -> None:
    assert spend_law.ALLOWANCE_S + spend_law.LEAVING_S == stop.WITHOUT_GUARD_S
    assert ledger.WAITING_FRESH_S == stop.FRESH_S == resume.FRESH_S


# -- the command -------------------------------------------------------------------------------------------------------


def test_the_command_stops_and_shows_what_runs_and_how_long_it_takes(desk: Desk) -> None:
    desk.send(2)
    desk.figures(at=NOW + 50)
    desk.ledger(MONTH, 60, running=("i-1", "i-2"), gone=("i-0",))
    done = desk.run("stop", "--stack", "dev", "--reason", "a bad model")
    assert (done.exit_code, done.stderr, desk.region) == (0, "", "us-east-1")
    assert done.stdout.splitlines() == [
        "stopped (manual): only gpufleet resume lifts it",
        "cost of 2026-11: $60.00 spent + $50.00 committed, budget $150.00 (figures 10 s old)",
        "runs: 2 instances, i-1, i-2",
        "waits: 2 jobs",
        "jobs have 300 s to finish; nothing runs any more after 8 min at most",
    ]
    assert (desk.row("latch")["by"], desk.row("latch")["note"]) == ("ana", "a bad model")


def test_the_command_says_when_nothing_runs(desk: Desk) -> None:
    desk.figures()
    desk.ledger(MONTH, 60, gone=("i-0",))
    lines = desk.run("stop", "--stack", "dev").stdout.splitlines()
    assert "runs: nothing" in lines
    assert not [line for line in lines if "any more after" in line]


def test_the_command_counts_instances_that_are_too_many_to_name(desk: Desk) -> None:
    desk.figures()
    desk.ledger(MONTH, 60, running=tuple(f"i-{n}" for n in range(7)))
    assert "runs: 7 instances, i-0, i-1, i-2, i-3 and 3 more" in desk.run("stop", "--stack", "dev").stdout


def test_the_command_warns_of_a_silent_guard(desk: Desk) -> None:
    desk.figures(at=NOW - 900)
    desk.ledger(MONTH, 60, running=("i-1",))
    lines = desk.run("stop", "--stack", "dev").stdout.splitlines()
    assert lines[-1].startswith("the guard has not been heard for 15 min and may be dead")
    assert lines[-1].endswith("nothing runs any more after 3 min at most")


def test_the_command_stops_a_stack_whose_guard_never_ran(desk: Desk) -> None:
    done = desk.run("stop", "--stack", "dev")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "cost: not known, the guard has not written any figures yet" in done.stdout
    assert "the guard has not been heard at all" in done.stdout
    assert desk.row("latch")["latched"]


def test_the_command_makes_a_budget_stop_one_by_hand_and_then_has_nothing_to_do(desk: Desk) -> None:
    desk.stopped()
    done = desk.run("stop", "--stack", "dev")
    assert done.exit_code == 0
    first, second, *_ = done.stdout.splitlines()
    assert first.startswith("was stopped (budget) since 2026-11-02 04:08:20 UTC (2 h 5 min ago), by guard: trip: why")
    assert second == "now stopped (manual): no new month lifts it any more, only gpufleet resume does"
    before = desk.rows()
    done = desk.run("stop", "--stack", "dev")
    assert done.exit_code == 0
    assert done.stdout.startswith("already stopped (manual) since 2026-11-02 06:13:20 UTC (0 s ago), by ana: ")
    assert desk.rows() == before


def test_a_stop_stands_though_nothing_more_can_be_read(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def throttled(*_: Any) -> Any:
        raise LatchError("the table is throttled")

    desk.figures()
    monkeypatch.setattr("gpufleet.operations.sight.accounts", throttled)
    done = desk.run("stop", "--stack", "dev")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "stopped (manual)" in done.stdout
    assert "what runs cannot be read: the table is throttled" in done.stdout


def test_a_faulty_stack_file_keeps_nobody_from_a_stop(desk: Desk, tmp_path: Any) -> None:
    (tmp_path / "Pulumi.yaml").write_text((ROOT / "Pulumi.yaml").read_text())
    text = (ROOT / "Pulumi.dev.yaml").read_text().replace("us-east-1", "eu-west-1", 1)
    (tmp_path / "Pulumi.dev.yaml").write_text(text.replace("monthlyBudgetUsd: 150", "monthlyBudgetUsd: 1"))
    done = desk.run("stop", "--stack", "dev", folder=tmp_path)
    assert (done.exit_code, desk.region) == (0, "eu-west-1")
    assert "Pulumi.dev.yaml has faults" in done.stderr
    assert desk.row("latch")["latched"]
    refused = desk.run("resume", "--stack", "dev", folder=tmp_path)
    assert refused.exit_code == 2
    assert "monthlyBudgetUsd" in refused.stderr


def test_in_a_shell_of_an_embedded_cloud_its_time_counts(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def call(url: str, what: str) -> dict[str, Any]:
        asked.append((url, what))
        return {"now": NOW + 7200}

    monkeypatch.setattr("gpufleet.twin.server.client.call", call)
    monkeypatch.setenv("GPUFLEET_TWIN_URL", "http://127.0.0.1:1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    desk.run("stop", "--stack", "dev")
    assert (desk.row("latch")["at"], asked) == (NOW, []), "whoever talks to AWS has AWS's time"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    done = desk.run("stop", "--stack", "dev")
    assert "(2 h ago)" in done.stdout
    assert asked == [("http://127.0.0.1:1", "now")]

    def gone(*_: Any) -> Any:
        raise ServerError("the embedded cloud does not answer")

    monkeypatch.setattr("gpufleet.twin.server.client.call", gone)
    done = desk.run("stop", "--stack", "dev")
    assert (done.exit_code, done.stderr) == (1, "the embedded cloud does not answer\n")


def test_a_reason_that_fills_a_page_is_faulty_input(desk: Desk) -> None:
    assert desk.run("stop", "--stack", "dev", "--reason", 501 * "x").exit_code == 2
    assert desk.rows() == {}


# -- what a stop has cost ----------------------------------------------------------------------------------------------


def test_the_cost_since_a_stop_is_added_up_over_the_months(desk: Desk) -> None:
    desk.figures(spent_usd=4)
    desk.latch(reason="manual", at=NOW - 70 * 86_400, month="2026-08")  # the 24th of August
    desk.put("audit#4", spent_usd=100)
    desk.ledger("2026-08", 103)
    desk.ledger("2026-10", 15)
    assert "since the stop: not known" in desk.run("resume", "--stack", "dev").stdout, "September's ledger is missing"
    desk.latch(reason="manual", at=NOW - 70 * 86_400, month="2026-08")
    desk.ledger("2026-09", 15)
    assert "since the stop: $37.00" in desk.run("resume", "--stack", "dev").stdout


def test_a_damaged_ledger_is_not_guessed_at(desk: Desk) -> None:
    desk.figures()
    desk.put(f"ledger#{MONTH}", spent_usd=60, record='{"instances": {"i-1": 3}}')
    assert "runs: not known" in desk.run("stop", "--stack", "dev").stdout


# -- the audit ---------------------------------------------------------------------------------------------------------


def guard_trips(desk: Desk, monkeypatch: pytest.MonkeyPatch, at: float) -> None:
    """As the deployed guard does it."""
    monkeypatch.setattr(runtime, "client", desk.cloud.client)
    before, _ = ledger.read_latch(TABLE)
    situation = spend_law.Situation(at, 140, 12, 150, 1, None, 2, True)
    after, _ = spend_law.judge(before, situation)
    figures = {"budget_usd": 150, "spent_usd": 140, "committed_usd": 12, "waiting": 84}
    assert ledger.save_latch(TABLE, before, after, figures)


def test_the_audit_lists_what_people_and_the_guard_did_newest_first(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard_trips(desk, monkeypatch, NOW - 7200)
    desk.figures(spent_usd=140, committed_usd=11, at=NOW - 3610)
    resume.resume(desk.dynamodb, TABLE, by="bo", at=NOW - 3600, extra_usd=20, waiting=90)
    halt(desk, why="a bad model")
    done = desk.run("audit", "--stack", "dev")
    assert (done.exit_code, done.stderr) == (0, "")
    sums = "$140.00 | $11.00 | $170.00 | $20.00"
    resumed = "resumed by bo; was budget: trip: $140.00 spent + $12.00 committed >= $150.00; $20.00 more allowed in"
    trip = "trip: $140.00 spent + $12.00 committed >= $150.00"
    assert [re.sub(r"\s{2,}", " | ", line.strip()) for line in done.stdout.splitlines()] == [
        "stopped (manual) since 2026-11-02 06:13:20 UTC (0 s ago), by ana: a bad model",
        "",
        "# | when | who | what | spent | committed | budget | extra | waiting | why",
        f"3 | 2026-11-02 06:13:20 UTC | ana | stop (manual) | {sums} | - | a bad model",
        f"2 | 2026-11-02 05:13:20 UTC | bo | resume (budget) | {sums} | 90 | {resumed}",
        "2026-11, $20.00 in all",
        f"1 | 2026-11-02 04:13:20 UTC | guard | stop (budget) | $140.00 | $12.00 | $150.00 | - | 84 | {trip}",
    ]


def test_the_audit_shows_as_many_as_asked_and_skips_what_was_before_there_was_one(desk: Desk) -> None:
    desk.latch(generation=250)
    for generation in (3, 120, 249, 250):
        desk.put(f"audit#{generation}", generation=generation, at=NOW, by="x", action="stop", reason="budget", note="")
    for last, generations in ((2, [250, 249]), (3, [250, 249, 120]), (20, [250, 249, 120, 3])):
        found = latch.audits(desk.dynamodb, TABLE, 250, last)
        assert [row["generation"] for row in found] == generations
    assert desk.run("audit", "--stack", "dev", "--last", "0").exit_code == 2


def test_the_audit_of_a_stack_that_never_stopped_is_one_line(desk: Desk) -> None:
    done = desk.run("audit", "--stack", "dev")
    assert (done.exit_code, done.stdout) == (0, "not stopped, and never was\n")


def test_rows_that_dynamodb_holds_back_are_asked_for_again_and_not_for_ever(desk: Desk) -> None:
    class Throttled:
        """Answers one row a call."""

        def __init__(self, refuses: int = 0) -> None:
            self.calls, self.refuses = 0, refuses

        def batch_get_item(self, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803 - AWS's name
            self.calls += 1
            keys = RequestItems[TABLE]["Keys"]
            asked, rest = (keys[:1], keys[1:]) if self.calls > self.refuses else ([], keys)
            answer = desk.dynamodb.batch_get_item(RequestItems={TABLE: {"Keys": asked}}) if asked else {"Responses": {}}
            held = {TABLE: {"Keys": rest, "ConsistentRead": True}} if rest else {}
            return {"Responses": answer["Responses"], "UnprocessedKeys": held}

    desk.stopped()
    assert latch.read(Throttled(), TABLE) == latch.read(desk.dynamodb, TABLE)
    with pytest.raises(LatchError, match="throttled"):
        latch.read(Throttled(refuses=9), TABLE)
