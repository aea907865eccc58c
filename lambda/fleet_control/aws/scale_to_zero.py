"""The guard: fired every minute, and by every message of the AWS Budget.

Each tick meters what runs, stores the ledger, applies the spend law, and, while the latch is set, brings the fleets to
zero, keeps them there and cuts the nodes' allowance to one drain. While it is clear it extends the allowance and
publishes what launches may still cost. What cannot be read extends nothing. Faults are collected, so that one of them
hinders no other step, and raised at the end: the function's error alarm must see them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from ..spend_law import (
    ALLOWANCE_S,
    Latch,
    Ledger,
    Prices,
    Situation,
    committed_usd,
    headroom_usd,
    inside,
    judge,
    launch_usd,
    meter,
    month_of,
    must_warn,
    raise_to,
)
from . import runtime
from .backstop import unattended
from .config import GuardConfig, GuardedFleet, guard
from .groups import Group, describe
from .items import refused, write
from .ledger import Book, Control, read_budget, read_control, reserved_usd, save_budget, save_latch, save_ledgers
from .meter import Node, asks_for_figure, budget_figure, describe_nodes, spot_prices
from .metrics import put
from .stop import Stopping, SupersededError, end_overdue, stop, trim


class GuardError(RuntimeError):
    """The tick did what it could; these steps failed."""


@dataclass
class Tick:
    """One run: what was read, what was done, what failed."""

    config: GuardConfig
    at: float
    control: Control
    nodes: list[Node] | None = None
    groups: Mapping[str, Group] | None = None
    figure: tuple[float, str] | None = None
    acts: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def attempt(self, what: str, step: Callable[[], Any]) -> Any:
        """The step's result; a fault is kept for the end of the tick and gives None."""
        try:
            return step()
        except (ClientError, BotoCoreError, KeyError, ValueError, TypeError) as error:
            self.errors.append(f"{what}: {type(error).__name__}: {error}")
            return None


def handler(event: Any, context: Any) -> dict[str, Any]:
    """Entry point; answers "Scaled <groups> to zero" whenever it stopped the fleets or saw to it that they stay so."""
    config, at = guard(runtime.environ), runtime.now()
    control = read_control(config.control_table, [fleet.fleet for fleet in config.fleets], at)
    tick = Tick(config, at, control)
    names = [name for fleet in config.fleets for name in fleet.groups]
    tick.nodes = tick.attempt("describe instances", lambda: describe_nodes(config, at))
    tick.groups = tick.attempt("describe groups", lambda: describe(runtime.client("autoscaling"), names))
    if asks_for_figure(event):
        tick.figure = tick.attempt("ask AWS Budgets", lambda: budget_figure(config, at))
    figures = (
        tick.attempt("meter", lambda: _meter(tick)) if tick.nodes is not None and tick.groups is not None else None
    )
    latch, why = control.latch, f"nothing metered: {'; '.join(tick.errors)}"
    if figures is not None:
        latch, why = _judge(tick, figures)
    if latch.latched:
        body = _stop(tick, latch, why)
    else:
        body = f"Nothing stopped: {why}"
        if figures is not None:
            _carry_on(tick)
    if figures is not None:
        _publish(tick, figures, latch)
    _log(tick, figures, latch, why)
    if tick.errors:
        raise GuardError("; ".join(tick.errors))
    return {"statusCode": 200, "body": body}


@dataclass(frozen=True)
class Figures:
    """The month in dollars at this tick. ``reserved_idle``: reserved instances that are paid for and not there."""

    book: Book
    spent: float
    committed: float
    headroom: float
    launch: float
    instances: int
    reserved_idle: int


def _meter(tick: Tick) -> Figures | None:
    """Charges the ledger and stores it; if another run was faster, once more on what that run stored."""
    for attempt in (1, 2):
        book = _charged(tick)
        if book is not None:
            return _figures(tick, book)
        if attempt == 1:
            fleets = [fleet.fleet for fleet in tick.config.fleets]
            tick.control = read_control(tick.config.control_table, fleets, tick.at)
    raise ValueError("the ledger was changed by other runs twice in a row; the next tick meters on")


def _prices(config: GuardConfig, spot: Mapping[str, Any]) -> Prices:
    pairs = {tuple(key.split("|", 1)): float(price) for key, price in (spot.get("prices") or {}).items()}
    return Prices(
        on_demand=config.prices_usd_per_hour,
        dearest=config.dearest_usd_per_hour,
        spot={(kind, zone): price for (kind, zone), price in pairs.items()},
        per_boot=config.per_boot_usd,
        fixed_per_month=config.fixed_usd_per_month,
        reserved=tuple(fleet.reservation for fleet in config.fleets if fleet.reservation is not None),
    )


def _charged(tick: Tick) -> Book | None:
    config, before, nodes = tick.config, tick.control.book, tick.nodes or []
    spot = spot_prices(nodes, before.spot, tick.at)
    ledgers = meter(before.ledger, [node.running for node in nodes], _prices(config, spot), tick.at)
    newest = ledgers[-1]
    if tick.figure is not None:
        newest = raise_to(newest, *tick.figure)
    warn = must_warn(newest, config.monthly_usd, config.warn_percent)
    newest = replace(newest, warned=newest.warned or warn)
    book = save_ledgers(
        config.control_table,
        replace(before, spot=spot, draining=_draining(tick, before)),
        (*ledgers[:-1], newest),
    )
    if book is not None and warn:
        book = _warn(tick, book)
    return book


def _draining(tick: Tick, before: Book) -> dict[str, float]:
    """Since when each instance drains in this stop, for those that still do. A scale-in's drain may have begun long
    before: it gets the stop's time too."""
    if not tick.control.latch.latched:
        return {}
    members = [one for group in (tick.groups or {}).values() for one in group.members]
    return {one.id: before.draining.get(one.id, tick.at) for one in members if one.state.startswith("Terminating")}


def _warn(tick: Tick, book: Book) -> Book:
    """Tells people once a month; if that fails, the next tick tries again."""
    spent, limit = book.ledger.spent_usd, tick.config.monthly_usd
    text = f"${spent:.2f} of ${limit:.2f} spent in {book.ledger.month} ({100 * spent / limit:.0f} %)"
    errors = len(tick.errors)
    tick.attempt("warn", lambda: _tell(tick.config, "budget warning", text))
    if len(tick.errors) == errors:
        tick.acts.append(f"warned: {text}")
        return book
    ledger: Ledger = replace(book.ledger, warned=False)
    return save_ledgers(tick.config.control_table, book, (ledger,)) or book


def _tell(config: GuardConfig, subject: str, text: str) -> None:
    if config.alert_topic_arn:
        runtime.client("sns").publish(
            TopicArn=config.alert_topic_arn, Subject=f"gpu-inference {config.stack}: {subject}"[:99], Message=text
        )


def _figures(tick: Tick, book: Book) -> Figures:
    config, groups = tick.config, tick.groups or {}
    prices = _prices(config, {})
    running = [node.running for node in tick.nodes or []]
    listed = {one.id for one in running}
    owed = [
        (groups[name].owed(listed), fleet.drain_s, fleet.disk_usd_per_hour)
        for fleet in config.fleets
        for name in fleet.groups
        if name in groups
    ]
    spent, committed = book.ledger.spent_usd, committed_usd(running, owed, prices, tick.at)
    live = [one for one in running if one.ended_at is None]
    return Figures(
        book=book,
        spent=spent,
        committed=committed,
        headroom=headroom_usd(spent, committed, config.monthly_usd),
        launch=max(launch_usd(prices, fleet.drain_s, fleet.disk_usd_per_hour) for fleet in config.fleets),
        instances=len(live) + sum(number for number, _, _ in owed),
        reserved_idle=sum(held.instances for held in prices.reserved) - len(inside(live, prices)),
    )


def _judge(tick: Tick, figures: Figures) -> tuple[Latch, str]:
    """Applies the law to the latch. If somebody changed the latch meanwhile, theirs stands until the next tick."""
    config, before = tick.config, tick.control.latch
    situation = Situation(
        at=tick.at,
        spent=figures.spent,
        committed=figures.committed,
        budget=config.monthly_usd,
        launch=figures.launch,
        waiting=tick.control.waiting,
        instances=figures.instances,
        resume_on_new_month=config.resume_on_new_month,
    )
    after, why = judge(before, situation)
    if after.generation == before.generation:
        return before, why
    if not save_latch(config.control_table, before, after):
        tick.control = read_control(config.control_table, [fleet.fleet for fleet in config.fleets], tick.at)
        return tick.control.latch, f"{why}; but the latch was changed meanwhile and stands as it is"
    tick.acts.append(why)
    tick.attempt("tell people", lambda: _tell(config, "stopped" if after.latched else "resumed", why))
    return after, why


def _stop(tick: Tick, latch: Latch, why: str) -> str:
    """Brings the fleets to zero, or sees that they are."""
    if tick.groups is None:
        return f"Nothing stopped: the groups could not be read; {why}"
    stopping = Stopping(tick.config, latch, tick.control.suspended, tick.at)
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
    until = runtime.now() + fleet.drain_s
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
    tick.acts.append(f"allowance of {fleet.fleet} ends in {fleet.drain_s:.0f} s")


def _publish(tick: Tick, figures: Figures, latch: Latch) -> None:
    """The budget row for the controllers (no headroom while stopped), the sign of life, and the fleets that nobody
    attends: what their backstops may launch is kept out of the headroom."""
    config = tick.config
    alone = [] if latch.latched else _unattended(tick, figures)
    row = {
        "month": month_of(tick.at),
        "monthly_usd": config.monthly_usd,
        "spent_usd": round(figures.spent, 6),
        "committed_usd": round(figures.committed, 6),
        "launch_usd": round(figures.launch, 6),
    }
    headroom = 0.0 if latch.latched else round(figures.headroom - len(alone) * figures.launch, 6)

    def publish() -> None:
        seen = tick.control.budget
        if not save_budget(config.control_table, seen, row, headroom, tick.at):
            save_budget(config.control_table, read_budget(config.control_table), row, headroom, tick.at)

    tick.attempt("budget row", publish)
    values, word = {"GuardTick": 1.0, "SpentUsd": figures.spent}, {"Unattended": 1.0}
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
        }
    record = {"event": "guard", "stack": tick.config.stack, "at": tick.at, "reason": why, "latched": latch.latched}
    rest = {"generation": latch.generation, "waiting": tick.control.waiting, "acts": tick.acts, "errors": tick.errors}
    runtime.log({**record, **numbers, **rest})
