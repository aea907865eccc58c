"""Derives the compact arrival profiles in gpufleet/planner/profiles/ from the published traces.

    python tools/derive_profiles.py FOLDER_WITH_THE_TRACES

The folder holds the ten-minute rate tables made from the sources named in each profile (`source`, `licence`).
A profile keeps the rate in requests a minute per ten-minute bin, rounded to three significant digits, and the
coefficient of variation of the times between arrivals inside a bin: enough to draw arrivals like the original's.
"""

from __future__ import annotations

import csv
import gzip
import json
import statistics
import sys
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "gpufleet" / "planner" / "profiles"
WEEK_BINS = 7 * 144
SERVEGEN = "alibaba/ServeGen, data/language (production LLM clients, anonymised)"
AZURE = "Azure/AzurePublicDataset, LLM inference 2024, week of 10-minute rates read off the published plot"


def significant(value: float, digits: int = 3) -> float:
    return float(f"{value:.{digits}g}")


def rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


def write(name: str, rates_per_minute: list[float], cv: float, *, source: str, licence: str, note: str) -> None:
    document = {
        "name": name,
        "source": source,
        "licence": licence,
        "note": note,
        "bin_s": 600,
        "interarrival_cv": significant(cv, 2),
        "rate_per_min": [significant(rate) for rate in rates_per_minute],
    }
    path = OUT / f"{name}.json"
    path.write_text(json.dumps(document, separators=(",", ":")).replace('"rate_per_min"', '\n"rate_per_min"') + "\n")
    print(f"{path.name}: {len(rates_per_minute)} bins, {path.stat().st_size} bytes")


def servegen(folder: Path, client: str, name: str, note: str) -> None:
    table = [r for r in rows(folder / "servegen_clients_14d_600s.csv.gz") if r["client"].startswith(f"{client}:")]
    busy = [float(r["cv"]) for r in table if float(r["rate_rps"]) > 0 and r["cv"]]
    rates = [60 * float(r["rate_rps"]) for r in table[:WEEK_BINS]]
    write(
        name,
        rates,
        statistics.median(busy),
        source=f"{SERVEGEN}, client {client}, first week",
        licence="Apache-2.0",
        note=note,
    )


def azure(folder: Path) -> None:
    table = rows(folder / "azure_llm_2024_code_week_10min_digitised.csv.gz")
    rates = [float(r["requests_per_min"]) for r in table[:WEEK_BINS]]
    # The 2024 table keeps no detail under ten minutes; the 2023 one-second conversation trace of the same service
    # measured a coefficient of 1.09.
    note = "Code completion: clean office rhythm, starts on a Friday."
    write("azure-code-week", rates, 1.09, source=AZURE, licence="CC-BY-4.0", note=note)


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    OUT.mkdir(parents=True, exist_ok=True)
    servegen(
        folder, "m-large#69", "office-hours", "One team's office-hours traffic: idle half of the time, busy by day."
    )
    servegen(folder, "m-large#1", "sporadic", "Sporadic bursts, idle 88 % of the ten-minute bins.")
    servegen(folder, "m-large#149", "nightly", "A nightly six-hour run, idle otherwise.")
    azure(folder)


if __name__ == "__main__":
    main()
