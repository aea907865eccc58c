"""The Pulumi CLI and the executables it finds on PATH: which one is used, and the folder that holds ours."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from ..credentials import OPERATOR, SECRET, access_key

ROOT = Path(__file__).parents[3]  # the folder that holds the package `gpufleet`
BUILT = Path(".cache/engine/pulumi")  # what `make engine` builds where there is no official one
_ELSEWHERE = (  # variables that would lead a tool somewhere else
    "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
    "PULUMI_ACCESS_TOKEN",
)  # fmt: skip
_MARK = ".gpufleet-twin"  # in a folder of ours on PATH
_PROVIDER, _HOST, _CLI = "pulumi-resource-aws", "pulumi-language-python", "pulumi"


class NoEngineError(Exception):
    """There is no usable Pulumi CLI. The message says why, and what to do."""


def find_cli(search: str | None = None, root: Path = ROOT, project: Path = ROOT) -> Path:
    """The `pulumi` on PATH (or on the path `search`) if `project` takes its version, else the one that `make engine`
    built under `root`, by the same rule. Raises `NoEngineError` when there is none."""
    on_path = shutil.which(_CLI, path=_without_ours(os.environ.get("PATH", "") if search is None else search))
    refused: NoEngineError | None = None
    for cli in (on_path and Path(on_path), root / BUILT if (root / BUILT).is_file() else None):
        try:
            if cli:
                check_version(cli, project)
                return cli
        except NoEngineError as error:
            refused = refused or error
    raise refused or NoEngineError(
        "there is no pulumi on PATH: install it (pulumi.com/docs/install), or run `make engine` (needs Go)"
    )


def version_of(cli: Path) -> str:
    """What the CLI answers for its version, such as "3.259.0". Raises `NoEngineError` when it does not run."""
    try:
        done = subprocess.run([cli, "version"], capture_output=True, text=True, timeout=60, check=True)  # noqa: S603
    except (OSError, subprocess.SubprocessError) as error:
        raise NoEngineError(f"{cli} does not run: {error}") from None
    return done.stdout.strip().removeprefix("v")


def check_version(cli: Path, project: Path = ROOT) -> str:
    """The CLI's version, if it is one that the project takes. Raises `NoEngineError` otherwise."""
    found = version_of(cli)
    wanted = str(yaml.safe_load((project / "Pulumi.yaml").read_text()).get("requiredPulumiVersion", ""))
    least = wanted.removeprefix(">=").strip()
    if least and _numbers(found) < _numbers(least):
        raise NoEngineError(f"{cli} is version {found}, and Pulumi.yaml asks for {wanted}: update it")
    return found


def install(folder: Path, cli: Path | None = None) -> Path:
    """Fill `folder` with what has to come first on PATH; answers the CLI that is used. Raises `NoEngineError`.

    The provider always; the CLI when it is not on PATH already; a language host only for a CLI that has none.
    """
    found = cli or find_cli()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _MARK).touch()
    _write(folder / _PROVIDER, "-u -m gpufleet.twin.plugin.provider")
    (folder / _CLI).unlink(missing_ok=True)
    if shutil.which(_CLI, path=_without_ours(os.environ.get("PATH", ""))) != str(found):
        (folder / _CLI).symlink_to(found.resolve())
    host = folder / _HOST
    if (found.resolve().parent / _HOST).is_file() or _on_path(_HOST):
        host.unlink(missing_ok=True)
    else:
        _write(host, "-u -m gpufleet.twin.plugin.language_host")
    return found


def environment(url: str, folder: Path, region: str, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables that point the AWS and Pulumi tools of a shell at the embedded cloud at `url`.

    `folder` keeps the stacks' states, the CLI's home and the executables. `base` is the environment it goes on top of.
    """
    base = os.environ if base is None else base
    return {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": access_key(OPERATOR),
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_REGION": region,
        "AWS_DEFAULT_REGION": region,
        "AWS_EC2_METADATA_DISABLED": "true",
        # Without the backend's own notes on each file: a CLI that is killed while it writes them leaves an empty one
        # beside the state, and no other CLI reads that state any more.
        "PULUMI_BACKEND_URL": f"{(folder / 'state').as_uri()}?metadata=skip",
        "PULUMI_CONFIG_PASSPHRASE": "twin",
        "PULUMI_HOME": str(folder / "home"),  # which stack is selected, and who is logged in, stays as it is elsewhere
        "PULUMI_SKIP_UPDATE_CHECK": "true",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
        "PATH": os.pathsep.join([str(folder / "bin"), _without_ours(base.get("PATH", ""))]),
        "NO_PROXY": "127.0.0.1,localhost",
    }


def removed(base: Mapping[str, str] | None = None) -> list[str]:
    """The variables that have to go from the environment `base`: each would lead a tool somewhere else."""
    base = os.environ if base is None else base
    return [*_ELSEWHERE, *sorted(name for name in base if name.startswith("AWS_ENDPOINT_URL_"))]


def _is_ours(folder: Path) -> bool:
    return (folder / _MARK).is_file()


def _on_path(name: str) -> bool:
    return shutil.which(name, path=_without_ours(os.environ.get("PATH", ""))) is not None


def _without_ours(path: str) -> str:
    return os.pathsep.join(part for part in path.split(os.pathsep) if part and not _is_ours(Path(part)))


def _write(path: Path, arguments: str) -> None:
    """A script that starts one of our modules: -P keeps the folder it is started in from lending modules."""
    python, root = shlex.quote(sys.executable), shlex.quote(str(ROOT))
    path.write_text(f'#!/bin/sh\nPYTHONPATH={root} exec {python} -P {arguments} "$@"\n')
    path.chmod(0o755)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("-", maxsplit=1)[0].split(".") if part.isdigit())
