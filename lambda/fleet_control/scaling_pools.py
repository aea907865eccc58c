"""Which pool an instance is asked of, and which instances are to be replaced. Pure.

Spot first, on-demand for what spot failed to deliver, and back again; old template versions one by one.
"""

from __future__ import annotations

from .scaling_look import ON_DEMAND, SPOT, Look, count, finite
from .scaling_state import State
from .scaling_types import Instance

PROBE_S = 180.0  # a failed spot pool is asked for one instance this often (free of charge while it has none)
PROBE_WAIT_S = 60.0  # and that is given up after this long
PROBE_IDLE_S = 600.0  # without room, an idle on-demand instance makes place for a probe this often: it costs a boot
REPLACE_WAIT_S = 60.0  # a replacement that was not even launched after this long is asked for anew
REPLACE_BOOTS = 2.0  # one that boots, after so many cold starts more
PATIENCE_S = 1800.0  # at a full cap, an instance to be replaced may be kept this long for want of an idle moment


def watch_spot(look: Look, state: State) -> State:
    """Whether spot delivers. A probe that is owed is no capacity: it is taken out of what the look counts on."""
    if not (SPOT in look.pools and ON_DEMAND in look.pools and look.policy.on_demand_fallback):
        return state.with_(spot_live=0, short_since=None, spot_failed_at=None, probed_at=None)
    delivered, owed, at = look.live[SPOT], look.owed[SPOT], look.at
    grew = delivered > state.spot_live
    refused_at = finite(look.pools[SPOT].failed_at, -1.0)
    failed_at, probed_at, short_since = state.spot_failed_at, state.probed_at, state.short_since
    if probed_at is not None and (grew or failed_at is None):
        failed_at = probed_at = None
    if probed_at is not None and owed:
        owed = look.owed[SPOT] = 0
    if failed_at is not None and not look.waiting and not look.present and not look.coming:
        failed_at = probed_at = None  # at rest: the next launch tries spot
    if not owed:
        short_since = None
    elif short_since is None or grew:
        short_since = at
    if short_since is not None and (refused_at >= short_since or at - short_since > look.cold_start_s):
        failed_at = at
    return state.with_(spot_live=delivered, short_since=short_since, spot_failed_at=failed_at, probed_at=probed_at)


def unwanted(look: Look, state: State) -> list[Instance]:
    """Ready instances to be replaced, least busy first: of an old template version, or on-demand beyond its base while
    spot delivers."""
    found = [one for one in look.ready if look.is_old(one)]
    if look.live.get(ON_DEMAND) and SPOT in look.pools and state.spot_failed_at is None:
        fresh = [one for one in look.ready if one.pool == ON_DEMAND and not look.is_old(one)]
        fresh.sort(key=lambda one: (look.used[one.id], one.id))
        found += fresh[: max(0, len(fresh) - look.policy.on_demand_base)]
    found.sort(key=lambda one: (look.used[one.id], one.id))
    return found


def leaving(look: Look, state: State) -> list[Instance]:
    """Ready instances that may go, in this order: to be replaced anyway, on-demand, spot, on-demand's base; of equals
    the least busy and youngest first."""
    bad = {one.id for one in unwanted(look, state)}
    ready = sorted(look.ready, key=lambda one: (look.used[one.id], -finite(one.launched_at), one.id))
    others = [one.id for one in ready if one.pool == ON_DEMAND and one.id not in bad]
    base = set(others[max(0, len(others) - look.policy.on_demand_base) :]) if SPOT in look.pools else set()
    return sorted(ready, key=lambda one: (one.id not in bad, one.id in base, one.pool != ON_DEMAND))


def replacing(look: Look, state: State) -> int:
    """Replacements that came or are to come, until what they replace has gone: scale-in neither cancels nor drains them
    in its place."""
    if state.surge is None:
        return 0
    asked_at, _, asked = state.surge
    since = look.at - asked_at
    return min(int(asked), len(look.booting) + look.coming + sum(1 for one in look.ready if look.age(one) < since))


def replacements(look: Look, state: State) -> tuple[int, list[Instance], State]:
    """Instances to launch in place of unwanted ones, or those of them to drain now that their replacements serve.

    Old template versions go one by one; on-demand goes at once, as far as the cap has room. Without room the idle one
    goes first and its replacement follows; one that is never idle goes after half an hour.
    """
    found = unwanted(look, state)
    if not found:
        place = _place_for_a_probe(look, state)
        if place:  # what is launched next is asked of spot; if that fails once more, it is noted anew
            state = state.with_(spot_failed_at=None, probed_at=None)
        return 0, place, state.with_(replace_since=None, surge=None)
    since = look.at if state.replace_since is None else state.replace_since
    asked, drain, surge = _replace(look, found, state.surge, since)
    return asked, drain, state.with_(replace_since=look.at if drain else since, surge=surge)


Surge = tuple[float, float, float]  # when replacements were asked for, instances there were then, instances asked for


def _replace(
    look: Look, found: list[Instance], surge: Surge | None, since: float
) -> tuple[int, list[Instance], Surge | None]:
    if surge is not None:
        asked_at, before, asked = surge
        more = min(len(look.ready) - max(int(before), look.floor), int(asked))
        wait_s = REPLACE_WAIT_S + (REPLACE_BOOTS * look.cold_start_s if look.booting else 0.0)
        if more < asked and (look.coming or look.at - asked_at <= wait_s):
            return 0, [], surge
        if more > 0:
            return 0, found[:more], None
    overdue = any(look.age(one) > REPLACE_BOOTS * look.cold_start_s for one in look.booting)
    if look.coming or look.draining or overdue:
        return 0, [], None
    room = look.limit - look.present
    if room > 0:
        asked = min(room, sum(1 for one in found if not look.is_old(one)) or 1)
        return asked, [], (look.at, float(look.present), float(asked))
    idle = not look.waiting and not look.booting and not look.used[found[0].id]
    return 0, found[:1] if idle or look.at - since > PATIENCE_S else [], None


def _place_for_a_probe(look: Look, state: State) -> list[Instance]:
    """At a full cap nobody could learn that spot is back: an idle on-demand instance that goes for that, if any."""
    failed_at, moving = state.spot_failed_at, look.waiting or look.booting or look.coming or look.draining
    if failed_at is None or look.at - failed_at < PROBE_IDLE_S or moving or look.present < look.limit:
        return []
    mine = [one for one in look.ready if one.pool == ON_DEMAND]
    idle = [one for one in mine if not look.used[one.id]]
    return sorted(idle, key=lambda one: one.id)[:1] if len(mine) > look.policy.on_demand_base else []


def shares(look: Look, state: State, desired: int, drain: tuple[str, ...]) -> tuple[int, int, str, State]:
    """What to ask of spot and of on-demand now, what to add to the reason, and the state.

    Spot gets what is wanted beyond the on-demand base. Where it failed, its desired count is lowered to what it
    delivered, and only a later look, which has read that back, raises on-demand.
    """
    gone = set(drain)
    staying = [one for one in (*look.ready, *look.booting) if one.id not in gone]
    live = spot = sum(1 for one in staying if one.pool == SPOT)
    on_demand = sum(1 for one in staying if one.pool == ON_DEMAND)
    more = max(0, desired - len(staying))
    if SPOT not in look.pools:
        return 0, on_demand + more, "", state
    if ON_DEMAND not in look.pools:
        return spot + more, 0, "", state
    old = sum(1 for one in staying if one.pool == ON_DEMAND and look.is_old(one))
    base = min(more, max(0, min(look.policy.on_demand_base, desired) - (on_demand - old)))
    more, on_demand, owed = more - base, on_demand + base, max(0, look.owed[ON_DEMAND] - base)
    note = ""
    if state.spot_failed_at is None:
        backed = min(more, owed) if look.policy.on_demand_fallback else 0
        spot, on_demand = spot + more - backed, on_demand + backed
    elif look.owed[SPOT]:
        note = f"spot fell short: delivered {spot} of {spot + look.owed[SPOT]}, the rest moves to on-demand"
        on_demand += min(more, owed)
    else:
        if more:
            note = f"on-demand, spot failed {look.at - state.spot_failed_at:.0f} s ago"
        room = look.limit - len(gone) - desired
        asked = max(0, count(look.pools[SPOT].desired) - look.live[SPOT])  # a probe that is still out
        on_demand += max(0, min(more, more + room - asked))
        if room > 0 and on_demand:
            probe, state = _probe(look, state)
            spot, note = spot + probe, f"{note}; one spot instance as a probe".lstrip("; ") if probe else note
    if spot > live and state.short_since is None and state.probed_at is None:
        state = state.with_(short_since=look.at)
    return spot, on_demand, note, state


def _probe(look: Look, state: State) -> tuple[int, State]:
    """1 where a spot pool that failed is to be asked for one instance, as it is for a minute now and then."""
    failed_at, probed_at = state.spot_failed_at or look.at, state.probed_at
    refused_at = finite(look.pools[SPOT].failed_at, -1.0)
    if probed_at is not None and look.at - probed_at <= PROBE_WAIT_S and refused_at < probed_at:
        return 1, state
    if look.at - (failed_at if probed_at is None else probed_at) < PROBE_S:
        return 0, state
    return 1, state.with_(probed_at=look.at)
