"""Arrival traces: the profiles shipped with the project, a user's own file, and the arrivals drawn from them.

A profile is a list of request rates per bin (see `profiles/*.json`: source and licence inside). Arrivals inside a bin
are a renewal process with gamma-distributed gaps of the profile's coefficient of variation, as published for the
ServeGen clients (Gamma and Weibull gaps, CV up to 9: bursts, not a Poisson stream).
"""

from __future__ import annotations

import csv
import json
import random
from dataclasses import dataclass, replace
from pathlib import Path

PROFILES = Path(__file__).parent / "profiles"


class TraceError(Exception):
    """A trace that cannot be used: which file, what is wrong, and the form that is wanted."""


@dataclass(frozen=True)
class Profile:
    """Request rates per bin.

    `rates` in requests per second, one per bin of `bin_s` seconds; `interarrival_cv` the coefficient of variation of
    the gaps between arrivals inside a bin (1 = Poisson).
    """

    name: str
    rates: tuple[float, ...]
    bin_s: float
    interarrival_cv: float
    source: str
    licence: str

    @property
    def span_s(self) -> float:
        return self.bin_s * len(self.rates)

    @property
    def jobs(self) -> float:
        """Expected number of requests."""
        return sum(self.rates) * self.bin_s

    def window(self, start_s: float, length_s: float) -> Profile:
        """The bins between `start_s` and `start_s + length_s`; the profile repeats after its end."""
        first, count = int(start_s // self.bin_s), max(1, round(length_s / self.bin_s))
        rates = tuple(self.rates[(first + k) % len(self.rates)] for k in range(count))
        return replace(self, rates=rates)

    def thinned(self, peak_rate: float, jobs: float) -> Profile:
        """The same shape at lower rates: at most `peak_rate` requests a second in any bin, at most `jobs` in all."""
        peak = max(self.rates, default=0.0)
        if peak <= 0:
            return self
        factor = min(1.0, peak_rate / peak, jobs / self.jobs)
        return replace(self, rates=tuple(rate * factor for rate in self.rates))

    def arrivals(self, seed: int) -> list[float]:
        """Arrival times in seconds from the profile's start, ascending. The same seed gives the same list."""
        rng = random.Random(seed)  # noqa: S311 - reproducible traffic, no secret
        # A gamma gap of shape k has CV 1/sqrt(k). One long stream in operational time (unit mean gap), mapped through
        # the cumulated rate, keeps the burstiness across bin borders.
        shape = 1.0 / self.interarrival_cv**2
        times: list[float] = []
        due = rng.gammavariate(shape, 1 / shape) * rng.random()
        done = 0.0
        for index, rate in enumerate(self.rates):
            expected = rate * self.bin_s
            while expected > 0 and due < done + expected:
                times.append((index + (due - done) / expected) * self.bin_s)
                due += rng.gammavariate(shape, 1 / shape)
            done += expected
        return times


def shipped() -> list[str]:
    return sorted(path.stem for path in PROFILES.glob("*.json"))


def load(name_or_file: str) -> Profile:
    """A shipped profile by name, or a file of your own: .json in the profiles' form, or .csv.

    A .csv has a header and either a column `t_s` of arrival times (seconds, one row a request), or the columns
    `t_s,rate_per_min` with equally spaced rows. Raises `TraceError` with the reason.
    """
    path = Path(name_or_file)
    if not path.suffix:
        path = PROFILES / f"{name_or_file}.json"
        if not path.exists():
            raise TraceError(
                f"no profile {name_or_file!r}: there are {', '.join(shipped())}; or name a .json/.csv file"
            )
    try:
        if path.suffix == ".csv":
            return _from_csv(path)
        return _from_json(path)
    except OSError as error:
        raise TraceError(f"{path}: {error.strerror or error}") from None
    except (KeyError, ValueError, TypeError) as error:
        raise TraceError(f"{path}: not a trace ({error}); wanted: {load.__doc__}") from None


def _from_json(path: Path) -> Profile:
    document = json.loads(path.read_text(encoding="utf-8"))
    return _checked(
        Profile(
            name=str(document["name"]),
            rates=tuple(float(rate) / 60 for rate in document["rate_per_min"]),
            bin_s=float(document["bin_s"]),
            interarrival_cv=float(document["interarrival_cv"]),
            source=str(document.get("source", path.name)),
            licence=str(document.get("licence", "")),
        )
    )


def _from_csv(path: Path) -> Profile:
    with path.open(newline="", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    times = [float(row["t_s"]) for row in table]
    if len(times) < 2:
        raise ValueError("fewer than two rows")
    if "rate_per_min" in table[0]:
        rates, bin_s = [float(row["rate_per_min"]) / 60 for row in table], times[1] - times[0]
    else:
        bin_s = 60.0
        counts = [0] * (int(max(times) // bin_s) + 1)
        for time in times:
            counts[int(time // bin_s)] += 1
        rates = [count / bin_s for count in counts]
    return _checked(Profile(path.stem, tuple(rates), bin_s, 1.0, path.name, ""))


def _checked(profile: Profile) -> Profile:
    if not profile.rates or profile.bin_s <= 0 or profile.interarrival_cv <= 0:
        raise ValueError("it needs rates, a positive bin_s and a positive interarrival_cv")
    if any(not 0 <= rate < 1e6 for rate in profile.rates):
        raise ValueError("a rate is negative, not finite or absurd")
    return profile
