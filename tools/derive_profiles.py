"""Derives the compact arrival profiles in gpufleet/planner/profiles/ from the published traces.

    python tools/derive_profiles.py FOLDER_WITH_THE_TRACES

The folder holds the rate tables made from the sources named in each profile (`source`, `licence`). A profile keeps
the rate in requests a minute per bin, rounded to three significant digits (two in bins of a minute or less), and the
coefficient of variation of the times between arrivals inside a bin: enough to draw arrivals like the original's.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "gpufleet" / "planner" / "profiles"
SERVEGEN = "alibaba/ServeGen, data/language (production LLM clients, anonymised)"
AZURE_2023 = "Azure/AzurePublicDataset, LLM inference 2023"
AZURE_2024 = "Azure/AzurePublicDataset, LLM inference 2024, week of 10-minute rates read off the published plot"
BURSTGPT = "HPMLL/BurstGPT, BurstGPT_1"
BURSTGPT_TOKENS = 872  # mean tokens of a BurstGPT request: its first week is published here as tokens a minute
# The gaps of the one-second conversation trace of 2023; the 2024 tables keep no detail under ten minutes.
AZURE_CV = 1.09


def significant(value: float, digits: int) -> float:
    """The value rounded; whole numbers as int, which JSON writes shorter."""
    rounded = float(f"{value:.{digits}g}")
    return int(rounded) if rounded.is_integer() else rounded


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def write(
    name: str, rates_per_minute: Sequence[float], cv: float, *, bin_s: int, source: str, licence: str, note: str
) -> None:
    document = {
        "name": name,
        "source": source,
        "licence": licence,
        "note": note,
        "bin_s": bin_s,
        "interarrival_cv": significant(cv, 2),
        "rate_per_min": [significant(rate, 3 if bin_s > 60 else 2) for rate in rates_per_minute],
    }
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(document, separators=(",", ":")).replace('"rate_per_min"', '\n"rate_per_min"') + "\n")
    print(f"{path.name}: {len(rates_per_minute)} bins, {path.stat().st_size} bytes")


def dispersion(counts: Sequence[float], group: int) -> float:
    """Variance over mean of the counts inside groups of `group` of them: the squared CV of gaps that would show it."""
    squares = expected = 0.0
    for first in range(0, len(counts) - group + 1, group):
        part = counts[first : first + group]
        mean = sum(part) / group
        squares += sum((one - mean) ** 2 for one in part)
        expected += (group - 1) * mean
    return squares / expected


def servegen_clients(folder: Path) -> None:
    names = {
        "m-large#69": ("office-hours", "One team's office-hours traffic: idle half of the time, busy by day."),
        "m-large#1": ("sporadic", "Sporadic bursts, idle 88 % of the ten-minute bins."),
        "m-large#149": ("nightly", "A nightly six-hour run, idle otherwise."),
        "m-mid#105": ("daily-batch", "A batch of four hours every day over a small base load."),
        "m-large#56": ("diurnal", "Smooth days, never idle."),
        "m-small#31": ("diurnal-large", "A large client's days, idle 2 % of the ten-minute bins."),
    }
    table = rows(folder / "servegen_clients_14d_600s.csv.gz")
    for client, (name, note) in names.items():
        mine = [row for row in table if row["client"].startswith(f"{client}:")]
        busy = [float(row["cv"]) for row in mine if float(row["rate_rps"]) > 0 and row["cv"]]
        write(
            name,
            [60 * float(row["rate_rps"]) for row in mine],
            statistics.median(busy),
            bin_s=600,
            source=f"{SERVEGEN}, client {client}, two weeks",
            licence="Apache-2.0",
            note=note,
        )


def servegen_pools(folder: Path) -> None:
    table = rows(folder / "servegen_pools_14d_600s.csv.gz")
    for size in ("large", "mid", "small"):
        write(
            f"pool-{size}",
            [60 * float(row[f"m_{size}_rps"]) for row in table],
            1.0,
            bin_s=600,
            source=f"{SERVEGEN}, all clients of the m-{size} models, two weeks",
            licence="Apache-2.0",
            note="A provider's whole pool. Inside a bin a Poisson stream: what is left after thinning many clients.",
        )


def azure(folder: Path) -> None:
    notes = {
        "code": "Code completion: clean office rhythm, starts on a Friday.",
        "conv": "Conversations: a fourfold daily swing, starts on a Sunday.",
    }
    for kind, note in notes.items():
        table = rows(folder / f"azure_llm_2024_{kind}_week_10min_digitised.csv.gz")
        rates = [float(row["requests_per_min"]) for row in table]
        name = f"azure-{kind}-week"
        write(name, rates, AZURE_CV, bin_s=600, source=AZURE_2024, licence="CC-BY-4.0", note=note)
    counts = [float(row["count"]) for row in rows(folder / "azure_llm_2023_code_1s.csv.gz")]
    tens = [6 * sum(counts[first : first + 10]) for first in range(0, len(counts), 10)]
    write(
        "azure-code-hour",
        tens,
        math.sqrt(dispersion(counts, 10)),
        bin_s=10,
        source=f"{AZURE_2023}, data/AzureLLMInferenceTrace_code.csv",
        licence="CC-BY-4.0",
        note="One hour of code completion in bursts: 73 % of its seconds are empty.",
    )


def burstgpt(folder: Path) -> None:
    tokens = rows(folder / "burstgpt_week1_tokens_per_min.csv.gz")
    minutes = [int(row["total_tokens"]) / BURSTGPT_TOKENS for row in tokens]
    write(
        "burstgpt-week",
        minutes,
        1.0,
        bin_s=60,
        source=f"{BURSTGPT}, week 1, tokens a minute",
        licence="CC-BY-4.0",
        note="Requests = tokens / 872, the trace's mean; Poisson inside a minute.",
    )
    rhythm = [sum(minutes[60 * hour + day * 1440 + k] for day in range(7) for k in range(60)) for hour in range(24)]
    daily = [int(row["requests"]) for row in rows(folder / "burstgpt_61d_daily.csv.gz")]
    write(
        "burstgpt-61-days",
        [requests * share / sum(rhythm) / 60 for requests in daily for share in rhythm],
        math.sqrt(dispersion(minutes, 60)),
        bin_s=3600,
        source=f"{BURSTGPT}, requests a day over 61 days",
        licence="CC-BY-4.0",
        note="Derived: each day's count, spread over its hours by the hour-of-day rhythm of week 1.",
    )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    servegen_clients(folder)
    servegen_pools(folder)
    azure(folder)
    burstgpt(folder)


if __name__ == "__main__":
    main()
