"""Where the project is: commands work from any folder inside it."""

from __future__ import annotations

from pathlib import Path


def project_folder(here: Path | None = None) -> Path:
    """The nearest folder with a Pulumi.yaml, from `here` (default: the current folder) upwards; `here` if none has."""
    here = here or Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / "Pulumi.yaml").exists()), here)
