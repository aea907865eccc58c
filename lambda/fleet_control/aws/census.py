"""Every instance that a tick has to pay for, from whoever remembers it: EC2's list, the notes of its events, and, where
both have a gap, the groups' history."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from ..spend_ledger import Ledger
from ..spend_prices import Running
from .config import GuardConfig
from .history import Life
from .meter import Node
from .witness import Note

# EC2 lists an ended instance for "a short while" (EC2 user guide, "Terminate your instance"; about an hour): after a
# longer pause of the meter, instances may have come and gone unseen.
GAP_S = 3000.0
BEFORE_S = 3600.0  # the history is read from an hour before the gap: what was pending then had not been charged
DELETION_S = 30.0  # from the end of an instance's seconds until its volumes are deleted, at most
SLOWEST_START_S = 600.0  # from a launch to running; an event that is later than that tells of another start

Ask = Callable[[float], Mapping[str, Life]]  # the lives since a moment


@dataclass(frozen=True)
class Census:
    """``instances``: what is charged at this tick. ``ends``: when others left, by id. ``asked``: whether the groups'
    history was read."""

    instances: tuple[Running, ...]
    ends: Mapping[str, float]
    asked: bool = False


def take(
    config: GuardConfig,
    ledger: Ledger,
    nodes: list[Node],
    notes: Mapping[str, Note],
    ask: Ask,
    at: float,
    new: bool = False,
) -> Census:
    """Who is to be charged at ``at``. ``new``: the ledger was just opened, so that nothing before it is known."""
    listed = {node.running.id for node in nodes}
    done = {name for name, paid in ledger.instances.items() if paid.ended}
    # What is pending costs nothing yet (EC2 user guide, "Instance lifecycle"); once it runs it is charged from then on.
    here = [_timed(node.running, notes.get(node.running.id)) for node in nodes if node.state != "pending"]
    # A note from before the last ticks is of an instance that the ledger had, charged to its end and forgot.
    since = float("-inf") if new else ledger.metered_at - BEFORE_S
    fresh = {name for name, note in notes.items() if name in ledger.instances or note.running_at >= since}
    noted = {name: notes[name] for name in fresh - listed - done}
    ends = {name: note.ended_at for name, note in noted.items() if note.ended_at is not None}
    vanished = (set(ledger.instances) | set(noted)) - listed - done - set(ends)
    unseen: list[Running] = []
    asked = bool(vanished) or new or at - ledger.metered_at > GAP_S
    if asked:
        past = ask(ledger.metered_at - (0.0 if new else BEFORE_S))
        ends |= {name: past[name].ended_at for name in vanished if name in past and past[name].ended_at is not None}
        known = listed | set(ledger.instances) | set(noted)
        unseen += [_remembered(config, name, life, ledger) for name, life in past.items() if name not in known]
    # One that was charged before and whose end is known is told as well, for its spot price to be asked for.
    told = [name for name in noted if name not in ledger.instances or name in ends]
    unseen += [_noted(config, name, noted[name]) for name in sorted(told)]
    unseen = [replace(one, ended_at=ends.get(one.id, one.ended_at)) for one in unseen]
    return Census((*here, *unseen), {name: end for name, end in ends.items() if end is not None}, asked)


def _timed(one: Running, note: Note | None) -> Running:
    """The instance with the moments that its events told: charged from running on, not from its launch."""
    if note is None or not one.launched_at <= note.running_at <= one.launched_at + SLOWEST_START_S:
        return one
    ended = one.ended_at
    if ended is not None and note.ended_at is not None:
        ended = min(ended, note.ended_at)
    disk_only_s = note.running_at - one.launched_at + DELETION_S
    return replace(one, launched_at=note.running_at, ended_at=ended, disk_only_s=disk_only_s)


def _noted(config: GuardConfig, name: str, note: Note) -> Running:
    """One that only its events tell of."""
    fleet = next((one for one in config.fleets if one.fleet == note.fleet), config.fleets[0])
    return Running(
        id=name,
        type=note.type,
        zone=note.zone,
        spot=note.spot,
        launched_at=note.running_at,
        ended_at=note.ended_at,
        disk_usd_per_hour=fleet.disk_usd_per_hour,
        drain_s=fleet.drain_s,
        disk_only_s=note.running_at - note.launched_at + DELETION_S,
    )


def _remembered(config: GuardConfig, name: str, life: Life, ledger: Ledger) -> Running:
    """One that only the groups' history tells of: its type is not known, so it was the dearest that may be launched, on
    demand."""
    return Running(
        id=name,
        type=max(config.prices_usd_per_hour, key=lambda kind: config.prices_usd_per_hour[kind]),
        zone="",
        spot=False,
        launched_at=ledger.metered_at if life.launched_at is None else life.launched_at,
        ended_at=life.ended_at,
        disk_usd_per_hour=life.fleet.disk_usd_per_hour,
        drain_s=life.fleet.drain_s,
    )
