"""Resume: refused while the law would trip again, with the reason; recorded when it works; never half done."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from fleet_control import spend_law
from fleet_control.aws.ledger import latch_of
from hypothesis import given
from hypothesis import strategies as st
from operator_desk import MONTH, NOW, ROOT, TABLE, Desk

from gpufleet.operations import latch, resume
from gpufleet.operations.latch import Figures, Latch, State
from gpufleet.operations.resume import ResumeError
from gpufleet.twin.cloud import Cloud

DECEMBER = 1_796_083_500.0  # 2026-12-01 00:05 UTC


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with Cloud(NOW) as cloud:
        yield Desk(cloud, monkeypatch)


def let(desk: Desk, extra_usd: float = 0.0, at: float = NOW, dynamodb: Any = None) -> State:
    return resume.resume(dynamodb or desk.dynamodb, TABLE, by="ana", at=at, extra_usd=extra_usd, waiting=3)


def test_resume_clears_the_latch_and_records_who_and_why(desk: Desk) -> None:
    desk.stopped()
    before = let(desk)
    assert before.sums == "$60.00 spent + $50.00 committed, budget $150.00"
    note = "resumed by ana; was budget: trip: why"
    latched = {"latched": False, "generation": 5, "reason": "", "by": "ana", "at": NOW, "month": MONTH, "note": note}
    suspended = {"suspended": {"g": []}}  # the controller lifts what the guard suspended, and only that
    assert desk.row("latch") == {"pk": "latch", **latched, **suspended, "extra_usd": 0, "extra_month": ""}
    who = {"generation": 5, "at": NOW, "by": "ana", "action": "resume", "reason": "budget", "note": note}
    figures = {"spent_usd": 60, "committed_usd": 50, "budget_usd": 150, "waiting": 3, "extra_usd": 0}
    assert desk.row("audit#5") == {"pk": "audit#5", **who, **figures}
    with pytest.raises(ResumeError, match="not stopped"):
        let(desk)


@pytest.mark.parametrize(
    ("figures", "reason"),
    [
        ({"spent_usd": 100, "committed_usd": 50}, "would trip again at once"),
        ({"spent_usd": 99.5, "committed_usd": 50}, "no launch fits"),
        ({"at": NOW - 181}, "181 s old"),
        ({"month": "2026-10"}, "still those of 2026-10"),
    ],
)
def test_resume_is_refused_with_its_reason_and_changes_nothing(
    desk: Desk, figures: dict[str, Any], reason: str
) -> None:
    desk.stopped(**figures)
    before = desk.rows()
    with pytest.raises(ResumeError, match=reason):
        let(desk)
    assert desk.rows() == before


def test_a_budget_that_holds_one_launch_to_the_cent_is_enough(desk: Desk) -> None:
    desk.stopped(spent_usd=99, committed_usd=50, launch_usd=1)
    let(desk)


def test_without_a_guard_that_ever_ran_nothing_is_resumed(desk: Desk) -> None:
    desk.latch()
    with pytest.raises(ResumeError, match="has not written any figures"):
        let(desk)


def test_a_guard_whose_clock_is_ahead_says_which_month_it_is(desk: Desk) -> None:
    desk.stopped(at=DECEMBER, month="2026-12")
    let(desk, extra_usd=10, at=DECEMBER - 600)
    assert desk.row("latch")["extra_month"] == "2026-12"
    assert desk.row("latch")["at"] == DECEMBER


# -- dollars on top ----------------------------------------------------------------------------------------------------


def test_dollars_allowed_on_top_count_for_this_month_and_add_up(desk: Desk) -> None:
    desk.stopped(spent_usd=120)
    with pytest.raises(ResumeError, match=r"trip again at once.*--allow-extra-usd"):
        let(desk)
    let(desk, extra_usd=25)
    row = desk.row("latch")
    assert (row["extra_usd"], row["extra_month"]) == (25, MONTH)
    assert row["note"].endswith("; $25.00 more allowed in 2026-11, $25.00 in all")
    audit = desk.row("audit#5")
    assert (audit["budget_usd"], audit["extra_usd"]) == (175, 25)

    desk.latch(generation=6, extra_usd=25, extra_month=MONTH)
    desk.figures(spent_usd=140)
    with pytest.raises(ResumeError, match=re.escape("budget $175.00 ($150.00, and $25.00 allowed in 2026-11)")):
        let(desk)
    let(desk, extra_usd=17.5)
    assert desk.row("latch")["extra_usd"] == 42.5
    assert desk.row("audit#7")["budget_usd"] == 192.5


def test_dollars_of_another_month_are_gone(desk: Desk) -> None:
    desk.figures(spent_usd=120)
    desk.latch(extra_usd=100, extra_month="2026-10")
    with pytest.raises(ResumeError, match=r"budget \$150\.00\."):
        let(desk)
    let(desk, extra_usd=25)
    assert (desk.row("latch")["extra_usd"], desk.row("audit#5")["budget_usd"]) == (25, 175)


def test_a_resume_without_more_dollars_keeps_those_that_were_allowed(desk: Desk) -> None:
    desk.figures(spent_usd=120)
    desk.latch(extra_usd=30, extra_month=MONTH)
    let(desk)
    assert (desk.row("latch")["extra_usd"], desk.row("audit#5")["budget_usd"]) == (30, 180)


def test_a_repeated_resume_allows_its_dollars_once(desk: Desk) -> None:
    desk.stopped(spent_usd=120)
    let(desk, extra_usd=25)
    with pytest.raises(ResumeError, match="not stopped"):
        let(desk, extra_usd=25)
    assert desk.row("latch")["extra_usd"] == 25


@pytest.mark.parametrize(
    ("extra_usd", "words"),
    [
        (120.01, "so $120.00 can still be allowed in 2026-11"),
        (-1, "cannot be allowed"),
        (float("nan"), "cannot be allowed"),
        (float("inf"), "cannot be allowed"),
        (0.5, "no launch fits any more: $130.00 spent + $50.00 committed, budget $180.00"),
    ],
)
def test_dollars_that_make_no_sense_or_are_too_few_change_nothing(desk: Desk, extra_usd: float, words: str) -> None:
    desk.figures(spent_usd=130)
    desk.latch(extra_usd=30, extra_month=MONTH)
    before = desk.rows()
    with pytest.raises(ResumeError, match=re.escape(words)):
        let(desk, extra_usd=extra_usd)
    assert desk.rows() == before


DOLLARS = st.decimals(0, 10_000, places=6).map(float)


@given(
    spent=DOLLARS,
    committed=DOLLARS,
    launch=st.decimals("0.01", 100, places=6).map(float),
    monthly=st.decimals(1, 10_000, places=2).map(float),
    allowed=DOLLARS,
    waiting=st.integers(0, 5),
)
def test_what_is_resumed_does_not_trip_at_the_next_tick_and_what_a_refusal_asks_for_is_enough(
    spent: float, committed: float, launch: float, monthly: float, allowed: float, waiting: int
) -> None:
    figures = Figures(NOW - 30, MONTH, spent, committed, launch, monthly)
    stored = Latch(latched=True, reason="budget", generation=1, extra_usd=min(allowed, monthly), extra_month=MONTH)
    before, extra_usd = State(stored, figures), 0.0
    try:
        budget_usd = resume.check(before, NOW)
    except ResumeError as error:
        asked = re.search(r"Allow \$([0-9.]+) or more", str(error))
        if asked is None:  # only a larger budget helps: what would be enough is refused as too much
            enough = spent + committed + launch - before.budget_usd + 0.02
            with pytest.raises(ResumeError, match=r"too much|cannot be allowed"):
                resume.check(before, NOW, enough)
            return
        extra_usd = float(asked[1])
        budget_usd = resume.check(before, NOW, extra_usd)
    total = stored.allowed_usd(MONTH) + extra_usd
    cleared = spend_law.Latch(generation=2, extra_usd=total, extra_month=MONTH)
    assert spend_law.budget_usd(monthly, cleared, NOW) == pytest.approx(budget_usd, rel=1e-12)
    after, why = spend_law.judge(
        cleared, spend_law.Situation(NOW + 30, spent, committed, budget_usd, launch, waiting, 0, False)
    )
    assert not after.latched, why


# -- what the guard and others see -------------------------------------------------------------------------------------


def test_the_guard_reads_what_a_resume_wrote(desk: Desk) -> None:
    desk.stopped(spent_usd=120)
    let(desk, extra_usd=25)
    read, suspended = latch_of(desk.row("latch"))
    assert vars(read) == vars(latch.read(desk.dynamodb, TABLE).latch)
    assert suspended == {"g": []}
    assert [field.name for field in dataclasses.fields(Latch)] == [
        field.name for field in dataclasses.fields(spend_law.Latch)
    ]
    assert spend_law.budget_usd(150, read, NOW) == 175
    assert spend_law.budget_usd(150, read, DECEMBER) == 150


def test_what_aws_refuses_is_not_taken_for_a_change_by_somebody(desk: Desk) -> None:
    desk.stopped()

    def denied() -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "TransactWriteItems")

    with pytest.raises(ClientError, match="AccessDenied"):
        let(desk, dynamodb=desk.between(denied))


def test_a_latch_that_somebody_changes_meanwhile_stays_theirs(desk: Desk) -> None:
    desk.stopped()
    client = desk.between(lambda: desk.latch(generation=9, note="tripped anew"))
    with pytest.raises(ResumeError, match="changed by somebody else"):
        let(desk, extra_usd=10, dynamodb=client)
    assert desk.row("latch")["note"] == "tripped anew"
    assert desk.row("latch")["latched"]
    assert not [key for key in desk.rows() if key.startswith("audit#")]


def test_of_two_who_resume_at_once_one_does(desk: Desk) -> None:
    desk.stopped(spent_usd=120)

    def other() -> None:
        resume.resume(desk.dynamodb, TABLE, by="bo", at=NOW, extra_usd=40)

    with pytest.raises(ResumeError, match="changed by somebody else"):
        let(desk, extra_usd=25, dynamodb=desk.between(other))
    assert (desk.row("latch")["by"], desk.row("latch")["extra_usd"], desk.row("audit#5")["by"]) == ("bo", 40, "bo")


# -- the command -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--stack", "dev"], 1, "could not reach stack dev"),
        (["--stack", "nope"], 2, "Pulumi.nope.yaml"),
        (["--stack", "dev", "--component", "Not a name"], 2, "component name 'Not a name'"),
    ],
)
@pytest.mark.parametrize("command", ["resume", "stop", "audit"])
def test_the_commands_fail_in_one_clear_line(command: str, arguments: list[str], status: int, words: str) -> None:
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    nowhere = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "/nonexistent", "HOME": "/nonexistent"}
    run = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-m", "gpufleet", command, *arguments],
        cwd=ROOT,
        env={**clean, **nowhere, "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == status
    assert words in run.stderr
    assert "Traceback" not in run.stderr


def test_the_command_shows_why_what_it_cost_and_what_waits_and_then_resumes(desk: Desk) -> None:
    desk.send(3, wait_s=1800)
    desk.stopped(at=NOW + 1790)
    desk.put("audit#4", spent_usd=59.25)
    desk.ledger(MONTH, 60)
    done = desk.run("resume", "--stack", "dev")
    assert (done.exit_code, done.stderr, desk.region) == (0, "", "us-east-1")
    lines = done.stdout.splitlines()
    assert lines[0] == "stopped (budget) since 2026-11-02 04:08:20 UTC (2 h 35 min ago), by guard: trip: why"
    assert lines[1] == (
        "cost of 2026-11: $60.00 spent + $50.00 committed, budget $150.00; since the stop: $0.75 (figures 10 s old)"
    )
    assert re.fullmatch(r"waits: 3 jobs, the oldest for (29|30) min", lines[2])
    assert lines[3:] == ["resumed; the controller takes over within two minutes"]
    assert desk.row("latch")["by"] == "ana"
    assert desk.row("audit#5")["waiting"] == 3


def test_the_command_tells_the_months_budget_with_what_was_allowed(desk: Desk) -> None:
    desk.figures(spent_usd=120)
    desk.latch(extra_usd=10, extra_month=MONTH)
    done = desk.run("resume", "--stack", "dev", "--allow-extra-usd", "12.5")
    assert done.exit_code == 0
    assert "$12.50 more allowed, the budget of 2026-11 is now $172.50" in done.stdout


def test_the_command_says_why_the_stack_stays_stopped(desk: Desk) -> None:
    desk.stopped(at=NOW - 4000)
    done = desk.run("resume", "--stack", "dev")
    assert done.exit_code == 1
    assert done.stdout.startswith("stopped (budget) since")
    assert done.stderr.startswith("stays stopped: the guard's figures are 4000 s old")
    assert len(done.stderr.splitlines()) == 1


def test_the_command_says_that_nothing_is_stopped(desk: Desk) -> None:
    desk.figures()
    done = desk.run("resume", "--stack", "dev")
    assert (done.exit_code, done.stdout) == (1, "not stopped, and never was\n")
    assert "nothing to resume" in done.stderr


@pytest.mark.parametrize("usd", ["0", "-5", "nan", "inf", "much"])
def test_dollars_that_are_none_are_faulty_input(desk: Desk, usd: str) -> None:
    desk.stopped()
    before = desk.rows()
    done = desk.run("resume", "--stack", "dev", "--allow-extra-usd", usd)
    assert done.exit_code == 2
    assert "--allow-extra-usd" in done.stderr
    assert desk.rows() == before


def test_a_stack_may_be_resumed_though_its_queue_cannot_be_seen(desk: Desk) -> None:
    desk.stopped()
    done = desk.run("resume", "--stack", "dev")
    assert (done.exit_code, done.stderr) == (0, "")
    assert "waits: not known, the queue inference-queue-dev cannot be read" in done.stdout
    assert not desk.row("latch")["latched"]
    assert desk.row("audit#5")["waiting"] is None


def test_a_user_without_a_name_may_resume(desk: Desk) -> None:
    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    desk.stopped()
    desk.user = nobody
    assert desk.run("resume", "--stack", "dev").exit_code == 0
    assert desk.row("latch")["by"] == "an unnamed user"


@pytest.mark.parametrize("command", ["resume", "stop", "audit"])
def test_a_stack_that_was_never_deployed_is_one_clear_line(desk: Desk, command: str) -> None:
    desk.dynamodb.delete_table(TableName=TABLE)
    done = desk.run(command, "--stack", "dev")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("could not reach stack dev: ")
    assert "ResourceNotFoundException" in done.stderr
    assert type(done.exception) is SystemExit
