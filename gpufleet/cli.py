"""The command `gpufleet`: one typer app; each command is a function of its own module in `commands`.

Nothing heavy is imported here: pulumi, boto3 and pydantic load when a command runs.
"""

from __future__ import annotations

import typer

from .commands import audit, demo, docs_config, prices, recover, resume, stop, twin, validate

app = typer.Typer(
    name="gpufleet",
    help="Check stack files, try a stack on the embedded cloud, operate a fleet.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.command("demo")(demo.demo)
app.command("stop")(stop.stop)
app.command("resume")(resume.resume)
app.command("audit")(audit.audit)
app.command("recover")(recover.recover)
app.add_typer(prices.app, name="prices")
app.add_typer(twin.app, name="twin", no_args_is_help=True)
app.command("validate")(validate.validate)
app.command("schema")(docs_config.schema)
app.command("docs-config")(docs_config.docs_config)


def main() -> None:
    """Run the command line."""
    app(prog_name="gpufleet")
