"""The money side of a tick: who is charged, the ledger, what other sources say, the warning."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..spend_law import committed_usd, headroom_usd, launch_usd, must_warn
from ..spend_ledger import Ledger, day_of, month_bounds
from ..spend_meter import meter, raise_to, reconciled, unpaid_usd
from ..spend_prices import inside
from . import history, nat, witness
from .billing import budget_figure, daily_usd, due
from .census import GAP_S, Census, take
from .ledger import Book, read_control, save_ledgers
from .quotes import gpu_counts, prices, spot_prices
from .tick import Tick

# A meter that charged less than Cost Explorer by more than this has lost sight of something: people are told.
TOLD_ERROR = 0.02
# A run of the guard writes the latch a minute after the moment it writes there at most (its timeout), and controllers
# look on until their next run: until then the fixed costs are those of a fleet that works.
WRITTEN_S = 60.0


@dataclass(frozen=True)
class Figures:
    """The month in dollars at this tick. ``reserved_idle``: reserved instances that are paid for and not there.
    ``doubtful``: types whose price is not known, or not trusted."""

    book: Book
    budget: float
    spent: float
    committed: float
    headroom: float
    launch: float
    instances: int
    reserved_idle: int
    doubtful: tuple[str, ...]


def account(tick: Tick) -> Figures:
    """Charges the ledger and stores it; if another run was faster, once more on what that run stored."""
    for attempt in (1, 2):
        book = _charged(tick)
        if book is not None:
            return _figures(tick, book)
        if attempt == 1:
            fleets = [fleet.fleet for fleet in tick.config.fleets]
            tick.control = read_control(tick.config.control_table, fleets, tick.at)
    raise ValueError("the ledger was changed by other runs twice in a row; the next tick meters on")


def _charged(tick: Tick) -> Book | None:
    config, control = tick.config, tick.control
    before = _opened_again(tick, control.book)
    census = _census(tick, before)
    kinds = {one.type for one in census.instances if one.ended_at is None}
    last, latch = before.ledger.metered_at, control.latch
    done = {name for name, paid in before.ledger.instances.items() if paid.ended}
    unpaid = [one for one in census.instances if one.id not in done]
    paid_to = [before.ledger.instances[one.id].until for one in unpaid if one.id in before.ledger.instances]
    spot = spot_prices(unpaid, before.spot, min([last, *paid_to]), tick.at)
    gpus = gpu_counts(config, kinds, before.gpus)
    money = prices(config, spot, gpus, tick.at, stopped=latch.latched and latch.at + WRITTEN_S <= last)
    ledgers = meter(before.ledger, census.instances, money, tick.at, census.ends, control.completed)
    newest = ledgers[-1]
    if nat.due(config, newest, tick.at):
        newest = tick.attempt("ask the NAT gateway", lambda: nat.count(config, newest, last, tick.at)) or newest
    if tick.figure is not None:
        newest = raise_to(newest, *tick.figure)
    newest = _reconcile(tick, newest)
    warn = must_warn(newest, tick.budget_usd, config.warn_percent)
    newest = replace(newest, warned=newest.warned or warn)
    notes = replace(before, spot=spot, gpus=gpus, draining=_draining(tick, before))
    book = save_ledgers(config.control_table, notes, (*ledgers[:-1], newest))
    if book is None:
        return None
    _forget(tick, done | (set(before.ledger.instances) - set(book.ledger.instances)), book.ledger)
    return _warn(tick, book) if warn else book


def _opened_again(tick: Tick, book: Book) -> Book:
    """A ledger that was just opened begins where the stack does, or where the month does if that is later: the table
    may have been lost in the middle of it. Then AWS Budgets is asked as well."""
    made = [group.created_at for group in (tick.groups or {}).values() if group.created_at]
    if book.version or not made:
        return book
    begun = max(month_bounds(book.ledger.month)[0], min(made))
    if begun >= tick.at:
        return book
    if tick.at - begun > GAP_S and tick.figure is None:
        tick.acts.append(f"no ledger of {book.ledger.month}: made anew from the groups' history")
        tick.figure = tick.attempt("ask AWS Budgets", lambda: budget_figure(tick.config, tick.at))
    return replace(book, ledger=replace(book.ledger, metered_at=begun))


def _census(tick: Tick, book: Book) -> Census:
    """Raises what the history's call raises: what may have run unseen must not pass for nothing."""
    config, control = tick.config, tick.control
    return take(
        config,
        book.ledger,
        tick.nodes or [],
        control.notes,
        lambda since: history.lives(config.fleets, tick.groups or {}, since),
        tick.at,
        new=not book.version,
    )


def _forget(tick: Tick, done: set[str], ledger: Ledger) -> None:
    """Notes of what is charged to its end (``done``: before this tick, or in it and forgotten at once), or ended so
    long ago that no ledger knows it, have served their turn."""
    ended = done | {name for name, paid in ledger.instances.items() if paid.ended}
    gone = {
        name
        for name, note in tick.control.notes.items()
        if name in ended or (note.ended_at is not None and tick.at - note.ended_at > witness.KEPT_S)
    }
    tick.attempt("forget notes", lambda: witness.forget(tick.config.control_table, gone))


def _draining(tick: Tick, before: Book) -> dict[str, float]:
    """Since when each instance drains in this stop, for those that still do. A scale-in's drain may have begun long
    before: it gets the stop's time too. What drains now and did not at the last tick was told so at that tick, if the
    stop had begun by then."""
    latch = tick.control.latch
    if not latch.latched:
        return {}
    last = before.ledger.metered_at
    told = last if latch.at <= last <= tick.at else tick.at
    members = [one for group in (tick.groups or {}).values() for one in group.members]
    return {one.id: before.draining.get(one.id, told) for one in members if one.state.startswith("Terminating")}


def _reconcile(tick: Tick, ledger: Ledger) -> Ledger:
    """Holds the meter against Cost Explorer once a day. Asked once even if that fails: each request costs a cent."""
    if not due(tick.config, ledger, tick.at):
        return ledger
    ledger = replace(ledger, checked=day_of(tick.at))
    days = tick.attempt("ask Cost Explorer", lambda: daily_usd(tick.config, tick.at))
    if days is None:
        return ledger
    least, error = reconciled(ledger, days)
    raised = raise_to(ledger, least, ledger.month)
    if error is not None:
        raised = replace(raised, error_usd=error)
        tick.acts.append(f"Cost Explorer: the meter is ${abs(error):.2f} {'over' if error >= 0 else 'under'}")
        if error < -TOLD_ERROR * tick.budget_usd:
            text = (
                f"By Cost Explorer ${-error:.2f} more were spent in {ledger.month} than the meter charged. The ledger "
                f"was raised to ${raised.spent_usd:.2f}. See docs/budget.md, what is covered and what is not"
            )
            tick.tell("tell of the meter's error", "the meter charges too little", text)
    return raised


def _warn(tick: Tick, book: Book) -> Book:
    """Tells people once a month; if that fails, the next tick tries again."""
    spent, limit = book.ledger.spent_usd, tick.budget_usd
    text = f"${spent:.2f} of ${limit:.2f} spent in {book.ledger.month} ({100 * spent / limit:.0f} %)"
    if tick.tell("warn", "budget warning", text):
        tick.acts.append(f"warned: {text}")
        return book
    ledger = replace(book.ledger, warned=False)
    return save_ledgers(tick.config.control_table, book, (ledger,)) or book


def _figures(tick: Tick, book: Book) -> Figures:
    config, groups = tick.config, tick.groups or {}
    money = prices(config, {}, book.gpus, tick.at)
    running = [node.running for node in tick.nodes or []]
    listed = {one.id for one in running}
    owed = [
        (groups[name].owed(listed), fleet.drain_s, fleet.disk_usd_per_hour)
        for fleet in config.fleets
        for name in fleet.groups
        if name in groups
    ]
    spent = book.ledger.spent_usd + unpaid_usd(book.ledger, tick.at)
    committed = committed_usd(running, owed, money, tick.at)
    live = [one for one in running if one.ended_at is None]
    kinds = {one.type for one in live} | (set(config.prices_usd_per_hour) if money.stale else set())
    return Figures(
        book=book,
        budget=tick.budget_usd,
        spent=spent,
        committed=committed,
        headroom=headroom_usd(spent, committed, tick.budget_usd),
        launch=max(launch_usd(money, fleet.drain_s, fleet.disk_usd_per_hour) for fleet in config.fleets),
        instances=len(live) + sum(number for number, _, _ in owed),
        reserved_idle=sum(held.instances for held in money.reserved) - len(inside(live, money)),
        doubtful=money.doubtful(kinds),
    )


def row_of(figures: Figures) -> Mapping[str, Any]:
    """The figures as the budget row and the audit show them, in dollars."""
    return {
        "budget_usd": round(figures.budget, 6),
        "spent_usd": round(figures.spent, 6),
        "committed_usd": round(figures.committed, 6),
    }
