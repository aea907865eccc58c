"""Whether instances of a launch template version may be launched: a version proves that it boots, one that keeps
failing is held. Pure: no clock, no I/O, standard library only.

The law in a page
-----------------
A boot *fails* when an instance that was there leaves without having come into service, unless something else took it
(spot, a stop, a person: the caller tells). It *succeeds* when the instance comes into service.

*Proof.* Until an instance of a version has come into service, at most ``HOLD_AFTER`` of it may boot or have failed: as
many as it takes to condemn it, so proving costs no more than holding does, and a burst right after a deployment starts
with three instances at once. The others follow one cold start later, when the first one serves.

*Hold.* After ``HOLD_AFTER`` failures in a row nothing is launched, of any pool, but one probe at a time: the first
after ``FIRST_PAUSE_S``, each next one after five times the pause, ``LONGEST_PAUSE_S`` at most: an outage of what boots
need (registry, weights) is overcome in about four times as long as it lasted. A success, or another version, ends the
hold. Auto Scaling replaces an instance that failed to boot by itself: what it launches meanwhile is *surplus*.

What it costs. A boot that fails does so at the boot deadline (900 s by default) and is gone a minute later at most:
960 s at $1.006 (g5.xlarge on demand, us-east-1) and $0.017 an hour for its disk are $0.27. An image that never boots
gets 3 boots (over after 16 min) and probes that begin at 26 min, 92 min and 5 h 58 min; the fourth lies beyond the
first day. 6 boots, $1.64, whatever the cap; a later day sees two probes at most, $0.55. Hourly ones would cost $6.50.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace

HOLD_AFTER = 3
FIRST_PAUSE_S = 600.0
PAUSE_FACTOR = 5.0
LONGEST_PAUSE_S = 64_800.0


@dataclass(frozen=True)
class Boots:
    """What is known about the boots of ``version`` (empty: of none). ``served``: one has come into service once.

    ``failures``: in a row, up to now; ``probes``: of these, launched while it was held; ``failed_at``: when the latest
    round of failures was seen, unix seconds.
    """

    version: str = ""
    served: bool = False
    failures: int = 0
    probes: int = 0
    failed_at: float = 0.0

    @property
    def held(self) -> bool:
        """Whether the version has failed too often to be launched freely."""
        return self.failures >= HOLD_AFTER

    @property
    def pause_s(self) -> float:
        """How long after ``failed_at`` the next probe may go."""
        return min(FIRST_PAUSE_S * PAUSE_FACTOR ** min(self.probes, 10), LONGEST_PAUSE_S)

    def to_json(self) -> str:
        """Compact JSON; ``from_json`` reads it back to equal facts."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @staticmethod
    def from_json(text: str | None) -> Boots:
        """The stored facts; none if there are none or they are damaged."""
        try:
            data = json.loads(text or "")
            boots = Boots(
                str(data["version"]),
                bool(data["served"]),
                int(data["failures"]),
                int(data["probes"]),
                float(data["failed_at"]),
            )
            sane = min(boots.failures, boots.probes) >= 0 and math.isfinite(boots.failed_at)
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
            return Boots()
        return boots if sane else Boots()


def learn(boots: Boots, version: str, served: bool, failed: Iterable[float], at: float) -> Boots:
    """The facts after a look at unix time ``at``. ``version``: what the groups launch now; empty: not known by number,
    and nothing is judged.

    ``served``: an instance of it came into service since the last look; ``failed``: when those were first seen whose
    boot failed since.
    """
    if version != boots.version:
        boots = Boots(version)
    if not version:
        return boots
    boots = replace(boots, failed_at=min(boots.failed_at, at))
    if served:
        boots = replace(boots, served=True, failures=0, probes=0)
    rounds = sorted(failed)
    probed = boots.held and any(first >= boots.failed_at for first in rounds)
    if rounds and (probed or not boots.held):
        boots = replace(boots, failed_at=at)
    return replace(boots, failures=boots.failures + len(rounds), probes=boots.probes + probed)


def room(boots: Boots, booting: int, at: float) -> tuple[int | None, str]:
    """How many instances may be launched while ``booting`` ones of this version boot (None: any number), and why no
    more."""
    if boots.held:
        what = f"{boots.failures} boots of template version {boots.version} failed in a row"
        if booting:
            return 0, f"{what}, {booting} still booting"
        wait_s = boots.failed_at + boots.pause_s - at
        if wait_s > 0:
            return 0, f"{what}, next probe in {wait_s:.0f} s"
        return 1, f"{what}, one probe"
    if boots.served or not boots.version:
        return None, ""
    what = f"template version {boots.version} has not served yet ({booting} booting, {boots.failures} failed)"
    return max(0, HOLD_AFTER - boots.failures - booting), what


def surplus(boots: Boots, booting: Mapping[str, float]) -> tuple[str, ...]:
    """Which of the ``booting`` instances (when each was first seen) nobody but Auto Scaling wanted: launched during the
    hold and not its probe. Ids in order."""
    if not boots.held:
        return ()
    since = sorted((first, name) for name, first in booting.items() if first >= boots.failed_at)
    probe = next((name for first, name in since if first >= boots.failed_at + boots.pause_s), None)
    return tuple(sorted(name for _, name in since if name != probe))
