"""`gpufleet prices`: the price list that budgets are reckoned with, and how it is brought up to date."""
# ruff: noqa: PLC0415  what is heavy loads when a command runs

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from .project import project_folder, regions_of
from .tables import console, table
from .target import BAD_INPUT, FAILED, fail, now

if TYPE_CHECKING:
    from components.price_list import PriceList
    from gpufleet.operations.prices import Change

app = typer.Typer(help="The price list that budgets are reckoned with: show it, bring it up to date.")


@app.callback(invoke_without_command=True)
def prices(context: typer.Context) -> None:
    """The price list that budgets are reckoned with: show it, bring it up to date."""
    if context.invoked_subcommand is None:
        show()


@app.command()
def show() -> None:
    """Show every price with the list's date, source and age. Needs no account."""
    from components import catalog

    listed, age = catalog.PRICES, catalog.prices_age_days(_today())
    out = console()
    out.print(f"prices of {catalog.PRICES_AS_OF}, {_age_text(age)}")
    out.print(f"source: {listed.source}")
    if age > catalog.PRICES_STALE_AFTER_DAYS:
        out.print("too old to be trusted: the guard charges each type the dearest price of its number of GPUs")
    if age > catalog.PRICES_WARN_AFTER_DAYS or age < 0:
        out.print("bring it up to date: gpufleet prices refresh")
    out.print(
        f"where no price is listed: that of us-east-1 times {max(catalog.REGION_FACTORS.values()):g} at most, times "
        f"{catalog.UNKNOWN_REGION_FACTOR:g} in a region whose level is not known"
    )
    regions = sorted(listed.usd_per_hour, key=lambda region: (region != "us-east-1", region))
    rows = [
        (name, f"{one.gpu_count} x {one.gpu}", *(_usd(listed.exact(name, region)) for region in regions))
        for name, one in catalog.GPU_TYPES.items()
    ]
    out.print()
    out.print(table(("type", "GPUs", *regions), rows, figures=regions))


@app.command()
def refresh(
    region: Annotated[
        list[str] | None,
        typer.Option(metavar="REGION", help="A region, may be repeated; by default those of the stack files."),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only show what differs; status 1 if anything does. The date does not count."),
    ] = False,
) -> None:
    """Bring components/prices.json up to date from AWS's price list: the given regions, us-east-1, and every region
    that the file has already.

    Uses your AWS credentials: pricing:GetProducts. What AWS answers is checked first; if anything of it makes no sense,
    nothing is written.

    Status 0 when the file is up to date, 1 when it is not (the reason is printed), 2 for faulty input.
    """
    import boto3
    from botocore.exceptions import BotoCoreError, ClientError

    from components import catalog
    from gpufleet.operations import prices as operation

    regions = region or regions_of(project_folder())
    unknown = [one for one in regions if one not in catalog.AWS_REGIONS]
    if unknown:
        fail(f"AWS has no region {', '.join(unknown)}; it has {', '.join(sorted(catalog.AWS_REGIONS))}", BAD_INPUT)
    before = catalog.PRICES
    try:
        pricing = boto3.Session(region_name=operation.ENDPOINT_REGION).client("pricing")
        after = operation.refreshed(pricing, before, catalog.GPU_TYPES, regions, _today())
    except operation.PricesError as error:
        fail(f"{error}\nnothing was written", FAILED)
    except (ClientError, BotoCoreError) as error:
        fail(f"could not read AWS's price list, nothing was written: {error}", FAILED)
    found = operation.changes(before, after)
    _show_changes(found, before)
    for one in sorted({*regions, *before.usd_per_hour} - set(after.usd_per_hour)):
        typer.echo(f"AWS sells no type of the catalogue in {one}")
    if check:
        raise typer.Exit(FAILED if found else 0)
    try:
        operation.write(catalog.PRICES_FILE, after)
    except OSError as error:
        fail(f"could not write {catalog.PRICES_FILE}, it is as it was: {error}", FAILED)
    typer.echo(f"wrote {catalog.PRICES_FILE}: prices of {after.as_of.isoformat()}, before of {catalog.PRICES_AS_OF}")
    typer.echo("now: make docs, for the pages that show prices; then pulumi up, for the guards that reckon with them")


def _show_changes(found: list[Change], before: PriceList) -> None:
    from components import catalog

    if not found:
        typer.echo("no price has changed")
        return
    rows = []
    for one in found:
        reckoned = catalog.on_demand_usd_per_hour(one.type, one.region, before)
        was = f"~{reckoned:.5g}" if one.was is None else _usd(one.was)
        share = "" if one.now is None else f"{100 * (one.now / reckoned - 1):+.1f} %"
        rows.append((one.region, one.type, was, _usd(one.now), share))
    console().print(table(("region", "type", "was", "is", "change"), rows, figures=("was", "is", "change")))
    if any(one.was is None for one in found):
        typer.echo("~ was reckoned from the price in us-east-1")


def _usd(price: float | None) -> str:
    return "-" if price is None else f"{price:.10g}"  # the ten digits that AWS writes


def _age_text(days: int) -> str:
    if days < 0:
        return f"{-days} days from now: the date of the file or of this machine is wrong"
    return f"{days} days old"


def _today() -> date:
    return datetime.fromtimestamp(now(), UTC).date()
