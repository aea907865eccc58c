"""Code that travels with the program: the cloud functions (`lambda/`) and the node's files (`bootstrap/`).

Both are treated as files to package, never imported: `lambda` is a Python keyword, and what runs in a function or on a
node must not depend on what is installed where `pulumi up` runs. The zip of the same files has the same bytes on every
machine and Python version (stored, sorted, dated 1980, fixed modes, no byte code), so its hash is a usable update
trigger: no change in the code, no change in the plan.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_CARRIED = _HERE / "_payloads"  # where the wheel carries both folders
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip can hold
_FILE_MODE = 0o644 << 16


@dataclass(frozen=True)
class Payload:
    """A zip on disk; its SHA-256 as lower-case hex (for keys) and as base64 (for Lambda's `source_code_hash`)."""

    path: Path
    sha256: str
    sha256_base64: str


def find(folder: str) -> Path:
    """The folder `lambda` or `bootstrap`: the copy inside the installed wheel, else the one of the checkout.

    Raises `FileNotFoundError` when neither is there.
    """
    for candidate in (_CARRIED / folder, _HERE.parent / folder):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"payload folder {folder!r} is neither in {_CARRIED} nor in {_HERE.parent}: "
        "install the package again, or run from a complete checkout"
    )


@cache
def function_zip(cache_dir: Path | None = None) -> Payload:
    """The zip of every cloud function, with the package `fleet_control/` at its root."""
    return _store(zip_bytes(find("lambda"), ["fleet_control"]), cache_dir)


@cache
def node_zip(cache_dir: Path | None = None) -> Payload:
    """The zip a node fetches at boot, with `inference_worker/` and `units/` at its root."""
    return _store(zip_bytes(find("bootstrap"), ["inference_worker", "units"]), cache_dir)


def user_data_template() -> str:
    """The text of `bootstrap/node/user_data.sh`, markers unfilled."""
    return (find("bootstrap") / "node" / "user_data.sh").read_text(encoding="utf-8")


def zip_bytes(root: Path, folders: Iterable[str]) -> bytes:
    """A zip of `folders` of `root`, its bytes a function of the files' names and contents alone.

    Raises `FileNotFoundError` for a folder that is missing or holds no file: an empty function deploys happily and
    fails at its first run.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for folder in sorted(folders):
            files = sorted(_files(root / folder), key=lambda file: file.relative_to(root).as_posix())
            if not files:
                raise FileNotFoundError(f"payload folder {root / folder} has no files to package")
            for file in files:
                entry = zipfile.ZipInfo(file.relative_to(root).as_posix(), _EPOCH)
                entry.create_system = 3  # Unix, also when packaged on Windows
                entry.external_attr = _FILE_MODE
                archive.writestr(entry, file.read_bytes())
    return buffer.getvalue()


def _files(folder: Path) -> list[Path]:
    """The files worth shipping: no byte code, nothing hidden, no editor's leftovers."""
    return [
        file
        for file in folder.rglob("*")
        if file.is_file()
        and "__pycache__" not in file.parts
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and not file.name.endswith((".pyc", ".pyo", "~", ".swp", ".orig"))
    ]


def _store(content: bytes, cache_dir: Path | None) -> Payload:
    digest = hashlib.sha256(content)
    folder = cache_dir or _default_cache()
    path = folder / f"{digest.hexdigest()}.zip"
    if not (path.is_file() and path.read_bytes() == content):
        folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=folder, prefix=".partial-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(partial).replace(path)  # a reader sees the whole file or none
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
    return Payload(path, digest.hexdigest(), base64.b64encode(digest.digest()).decode("ascii"))


def _default_cache() -> Path:
    """`.cache/payloads` of the checkout; for an installed package this user's own folder among the temporary files."""
    if not _CARRIED.is_dir():
        return _HERE.parent / ".cache" / "payloads"
    folder = Path(tempfile.gettempdir()) / f"gpu-inference-payloads-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if hasattr(os, "getuid") and folder.stat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user: remove it, code is deployed from there")
    return folder
