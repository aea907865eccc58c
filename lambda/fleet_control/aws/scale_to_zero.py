"""The guard: fired every minute, by every message of the AWS Budget, and by every change of an instance's state.

Each tick meters what runs, stores the ledger, applies the spend law, and, while the latch is set, brings the fleets to
zero, keeps them there and cuts the nodes' allowance to one drain. While it is clear it extends the allowance and
publishes what launches may still cost. What cannot be read extends nothing. Faults are collected, so that one of them
hinders no other step, and raised at the end: the function's error alarm must see them. A message of the AWS Budget,
whatever it says, is a tick that asks for the figure first. An instance's change of state is only noted.
"""

from __future__ import annotations

from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_law import ALLOWANCE_S, Latch, Situation, judge
from ..spend_ledger import month_of
from . import runtime, witness
from .accounting import Figures, account, row_of
from .backstop import unattended
from .billing import asks_for_figure, budget_figure
from .config import GuardedFleet, guard
from .groups import describe
from .items import refused, write
from .ledger import read_budget, read_control, reserved_usd, save_budget, save_latch
from .meter import describe_nodes
from .metrics import put
from .stop import Stopping, SupersededError, end_overdue, stop, trim
from .tick import Tick

# A node's watchdog begins to leave 75 s before its allowance ends, up to a look of 30 s late (`LEAVE_EARLY_S`, `LOOK_S`
# in inference_worker.watchdog; a test holds them together). Cut to the drain time and this, it asks a worker that still
# drains between 15 s before and 15 s after the drain time, and what is then stored (40 s) is there before `GRACE_S` of
# `stop` is over.
CUT_S = 60.0


class GuardError(RuntimeError):
    """The tick did what it could; these steps failed."""


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Entry point; answers "Scaled <groups> to zero" whenever it stopped the fleets or saw to it that they stay so."""
    config, at = guard(runtime.environ), runtime.now()
    if witness.is_state_change(event):
        return {"statusCode": 200, "body": witness.take_note(config, event)}
    control = read_control(config.control_table, [fleet.fleet for fleet in config.fleets], at)
    tick = Tick(config, at, control)
    names = [name for fleet in config.fleets for name in fleet.groups]
    tick.nodes = tick.attempt("describe instances", lambda: describe_nodes(config, at))
    tick.groups = tick.attempt("describe groups", lambda: describe(runtime.client("autoscaling"), names))
    if asks_for_figure(event):
        tick.figure = tick.attempt("ask AWS Budgets", lambda: budget_figure(config, at))
    figures = (
        tick.attempt("meter", lambda: account(tick)) if tick.nodes is not None and tick.groups is not None else None
    )
    latch, why = tick.control.latch, f"nothing metered: {'; '.join(tick.errors)}"
    if figures is not None:
        latch, why = tick.attempt("latch", lambda: _judge(tick, figures)) or (latch, why)
    if latch.latched:
        body = _stop(tick, latch, why)
    else:
        body = f"Nothing stopped: {why}"
        if figures is not None and not tick.over:
            _carry_on(tick)
    if figures is not None:
        _publish(tick, figures, latch)
    _log(tick, figures, latch, why)
    if tick.errors:
        raise GuardError("; ".join(tick.errors))
    return {"statusCode": 200, "body": body}


def _judge(tick: Tick, figures: Figures) -> tuple[Latch, str]:
    """Applies the law to the latch. If somebody changed the latch meanwhile, theirs stands until the next tick; but a
    fleet that must stop gets no further allowance."""
    config, before = tick.config, tick.control.latch
    situation = Situation(
        at=tick.at,
        spent=figures.spent,
        committed=figures.committed,
        budget=figures.budget,
        launch=figures.launch,
        waiting=tick.control.waiting,
        instances=figures.instances,
        resume_on_new_month=config.resume_on_new_month,
    )
    after, why = judge(before, situation)
    tick.over = after.latched
    if after.generation == before.generation:
        return before, why
    record = {**row_of(figures), "waiting": tick.control.waiting}
    if not save_latch(config.control_table, before, after, record):
        tick.control = read_control(config.control_table, [fleet.fleet for fleet in config.fleets], tick.at)
        return tick.control.latch, f"{why}; but the latch was changed meanwhile and stands as it is"
    tick.acts.append(why)
    tick.tell("tell people", "stopped" if after.latched else "resumed", why)
    return after, why


def _stop(tick: Tick, latch: Latch, why: str) -> str:
    """Brings the fleets to zero, or sees that they are."""
    if tick.groups is None:
        return f"Nothing stopped: the groups could not be read; {why}"
    stopping = Stopping(tick.config, latch, tick.at)
    try:
        stop(stopping, tick.groups)
        for fleet in tick.config.fleets:
            tick.attempt(f"allowance of {fleet.fleet}", lambda fleet=fleet: _cut(tick, fleet))
        end_overdue(stopping, tick.groups, tick.nodes or [], tick.control.book.draining)
    except SupersededError as error:
        return f"Nothing stopped: {error}"
    except (ClientError, BotoCoreError) as error:
        tick.errors.append(f"stop: {error}")
    finally:
        tick.acts += stopping.acts
        tick.errors += stopping.errors
    names = [fleet.spot_group or fleet.on_demand_group for fleet in tick.config.fleets]
    return f"Scaled {', '.join(name for name in names if name)} to zero"


def _carry_on(tick: Tick) -> None:
    """Trims what exceeds a cap and extends the allowance of every fleet. Called on a complete picture only."""
    for fleet in tick.config.fleets:
        acts = tick.attempt(f"trim {fleet.fleet}", lambda fleet=fleet: trim(fleet, tick.groups or {}, tick.nodes or []))
        tick.acts += acts or []
        if fleet.jobs_table:
            table, row = fleet.jobs_table, _allowance(tick, fleet, tick.at + ALLOWANCE_S)
            tick.attempt(
                f"allowance of {fleet.fleet}",
                lambda table=table, row=row: runtime.client("dynamodb").put_item(TableName=table, Item=row),
            )


def _allowance(tick: Tick, fleet: GuardedFleet, until: float) -> dict[str, Any]:
    heard = tick.control.heard.get(fleet.fleet)
    spoken = {} if heard is None else {"controller_at": heard}
    return write({"pk": f"fleet#{fleet.fleet}", "sk": "allowance", "until": until, "at": tick.at, **spoken})


def _cut(tick: Tick, fleet: GuardedFleet) -> None:
    """Ends the fleet's allowance one drain after the first run that carries the stop out: then the watchdog of a node
    that still drains has its worker hand its jobs back, whatever it drains for. Later runs would end it later, so the
    condition refuses them. Counted from now, not from the latch: what was just told to go has its drain.
    """
    if not fleet.jobs_table:
        return
    until = runtime.now() + fleet.drain_s + CUT_S
    try:
        runtime.client("dynamodb").put_item(
            TableName=fleet.jobs_table,
            Item=_allowance(tick, fleet, until),
            ConditionExpression="#until > :until",
            ExpressionAttributeNames={"#until": "until"},
            ExpressionAttributeValues=write({":until": until}),
        )
    except ClientError as error:
        if not refused(error):
            raise
        return
    tick.acts.append(f"allowance of {fleet.fleet} ends with a drain of {fleet.drain_s:.0f} s")


def _publish(tick: Tick, figures: Figures, latch: Latch) -> None:
    """The budget row for the controllers (no headroom while stopped), the sign of life, and the fleets that nobody
    attends: what their backstops may launch is kept out of the headroom."""
    config = tick.config
    alone = [] if latch.latched or tick.over else _unattended(tick, figures)
    row = {
        "month": month_of(tick.at),
        "monthly_usd": config.monthly_usd,
        "extra_usd": round(figures.budget - config.monthly_usd, 6),
        **row_of(figures),
        "launch_usd": round(figures.launch, 6),
    }
    headroom = 0.0 if latch.latched or tick.over else round(figures.headroom - len(alone) * figures.launch, 6)

    def publish() -> None:
        seen = tick.control.budget
        if not save_budget(config.control_table, seen, row, headroom, tick.at):
            save_budget(config.control_table, read_budget(config.control_table), row, headroom, tick.at)

    tick.attempt("budget row", publish)
    values, word = {"GuardTick": 1.0, "SpentUsd": figures.spent}, {"Unattended": 1.0}
    if figures.doubtful:
        values["DoubtfulPrices"] = float(len(figures.doubtful))
        tick.acts.append(f"charged at the dearest price: {', '.join(figures.doubtful)}")
    tick.attempt("metrics", lambda: put(config.metric_namespace, "Stack", config.stack, values))
    for fleet in alone:
        silent = tick.at - tick.control.heard[fleet]
        tick.acts.append(f"{fleet} is unattended: its controller was last heard {silent:.0f} s ago")
        tick.attempt("metric", lambda fleet=fleet: put(config.metric_namespace, "Fleet", fleet, word))


def _unattended(tick: Tick, figures: Figures) -> list[str]:
    control, groups = tick.control, tick.groups or {}
    room = figures.headroom - reserved_usd(control.budget, tick.at)
    running = {node.fleet.fleet for node in tick.nodes or [] if node.running.ended_at is None}
    return unattended(tick.config.fleets, control.heard, groups, running, room, figures.launch, tick.at)


def _log(tick: Tick, figures: Figures | None, latch: Latch, why: str) -> None:
    numbers = {}
    if figures is not None:
        numbers = {
            "spent_usd": round(figures.spent, 4),
            "committed_usd": round(figures.committed, 4),
            "headroom_usd": round(figures.headroom, 4),
            "launch_usd": round(figures.launch, 4),
            "instances": figures.instances,
            "reserved_idle": figures.reserved_idle,
            "estimated_usd": round(figures.book.ledger.estimated_usd, 4),
        }
    record = {"event": "guard", "stack": tick.config.stack, "at": tick.at, "reason": why, "latched": latch.latched}
    rest = {"generation": latch.generation, "waiting": tick.control.waiting, "acts": tick.acts, "errors": tick.errors}
    runtime.log({**record, **numbers, **rest})
