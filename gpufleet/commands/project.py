"""Where the project is: commands work from any folder inside it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

REGION_KEY = "aws:region"
USUAL_REGION = "us-east-1"


def project_folder(here: Path | None = None) -> Path:
    """The nearest folder with a Pulumi.yaml, from `here` (default: the current folder) upwards; `here` if none has."""
    here = here or Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").exists()), here)


def region_of(project: Path) -> str:
    """The AWS region that the project's files name: its stack files, else Pulumi.yaml, else us-east-1.

    Raises `ValueError` if the stack files name several.
    """
    stacks = {path.name.split(".")[1]: region_in(path) for path in sorted(project.glob("Pulumi.*.yaml"))}
    named = {stack: region for stack, region in stacks.items() if region}
    if len(set(named.values())) > 1:
        raise ValueError(f"the stacks are in several regions ({', '.join(f'{s}: {r}' for s, r in named.items())})")
    return next(iter(named.values()), None) or region_in(project / "Pulumi.yaml") or USUAL_REGION


def regions_of(project: Path) -> list[str]:
    """Every AWS region that the project's files name, by name; none if no file does."""
    found = {region_in(path) for path in [project / "Pulumi.yaml", *project.glob("Pulumi.*.yaml")]}
    return sorted(region for region in found if region)


def region_in(path: Path) -> str | None:
    """The AWS region that a project or stack file names.

    None as well if the file cannot be read: `gpufleet validate` is the one that says why.
    """
    import yaml  # noqa: PLC0415 - not every command needs it

    try:
        document: Any = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        value = (document.get("config") or {}).get(REGION_KEY)
    except (OSError, ValueError, yaml.YAMLError, AttributeError):
        return None
    value = value.get("value", value.get("default")) if isinstance(value, dict) else value
    return value if isinstance(value, str) else None
