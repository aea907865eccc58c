"""The zips that are deployed: the same files give the same bytes anywhere, and another file gives another hash."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from components import payloads


@pytest.fixture
def folder(tmp_path):
    package = tmp_path / "fleet_control"
    (package / "aws").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "aws" / "__init__.py").write_text("")
    (package / "aws" / "controller.py").write_text("x = 1\n")
    return tmp_path


def test_the_bytes_depend_on_names_and_contents_alone(folder):
    before = payloads.zip_bytes(folder, ["fleet_control"])
    package = folder / "fleet_control"
    (package / "__pycache__").mkdir()
    (package / "__pycache__" / "x.cpython-313.pyc").write_bytes(b"x")
    (package / ".controller.py.swp").write_bytes(b"x")
    (package / "controller.py~").write_bytes(b"x")
    os.utime(package / "__init__.py", (1, 2))
    (package / "aws" / "controller.py").chmod(0o755)
    assert payloads.zip_bytes(folder, ["fleet_control"]) == before
    (package / "aws" / "controller.py").write_text("x = 2\n")
    assert payloads.zip_bytes(folder, ["fleet_control"]) != before


def test_the_zip_has_a_known_hash(folder):
    """Any Python on any machine must come to this: a hash that moves with the builder redeploys on every `up`."""
    digest = hashlib.sha256(payloads.zip_bytes(folder, ["fleet_control"])).hexdigest()
    assert digest == "8e737f219e5176586dbdfc32deb6be01634e3e21162b051f357697cd1d4d3b61"


def test_the_zip_is_stored_sorted_and_dated_1980(folder):
    with zipfile.ZipFile(io.BytesIO(payloads.zip_bytes(folder, ["fleet_control"]))) as archive:
        entries = archive.infolist()
    assert [one.filename for one in entries] == [
        "fleet_control/__init__.py",
        "fleet_control/aws/__init__.py",
        "fleet_control/aws/controller.py",
    ]
    for one in entries:
        assert one.compress_type == zipfile.ZIP_STORED
        assert one.date_time == (1980, 1, 1, 0, 0, 0)
        assert (one.external_attr >> 16) & 0o777 == 0o644


def test_the_payloads_carry_what_is_deployed():
    with zipfile.ZipFile(payloads.function_zip().path) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"fleet_control"}
    with zipfile.ZipFile(payloads.node_zip().path) as archive:
        assert {name.split("/")[0] for name in archive.namelist()} == {"inference_worker", "units"}
        assert "inference_worker/__main__.py" in archive.namelist()


def test_the_hash_is_that_of_the_file_and_names_it(tmp_path):
    payload = payloads.function_zip(tmp_path)
    digest = hashlib.sha256(payload.path.read_bytes())
    assert payload.path == tmp_path / f"{digest.hexdigest()}.zip"
    assert payload.sha256 == digest.hexdigest()
    assert base64.b64decode(payload.sha256_base64) == digest.digest()


def test_a_damaged_file_in_the_cache_is_not_deployed(tmp_path):
    payload = payloads.node_zip(tmp_path)
    whole = payload.path.read_bytes()
    payload.path.write_bytes(whole[:100])
    payloads.node_zip.cache_clear()
    assert payloads.node_zip(tmp_path).path.read_bytes() == whole
    assert [one.name for one in tmp_path.iterdir()] == [payload.path.name]


def test_an_empty_or_missing_folder_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no files"):
        payloads.zip_bytes(tmp_path, ["fleet_control"])
    with pytest.raises(FileNotFoundError, match="install the package again"):
        payloads.find("nothing-of-ours")


ELSEWHERE = """
import importlib.util, json, pathlib, sys
spec = importlib.util.spec_from_file_location("payloads", sys.argv[1])
sys.modules["payloads"] = payloads = importlib.util.module_from_spec(spec)
spec.loader.exec_module(payloads)
cache = pathlib.Path(sys.argv[2])
print(json.dumps([payloads.function_zip(cache).sha256, payloads.node_zip(cache).sha256]))
"""
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def interpreters() -> Iterator[str]:
    """Pythons that may be of another version: by their names on PATH, and those that pyenv keeps."""
    for minor in range(11, 16):
        yield from filter(None, [shutil.which(f"python3.{minor}")])
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(str(path) for path in root.glob("versions/3.1[1-9]*/bin/python"))


def answer(*command: str) -> str:
    """What it prints; nothing when it does not run (a pyenv shim of a version that is not selected, say)."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def test_every_python_version_makes_the_same_zips(tmp_path):
    """Whoever deploys next may have another Python: a hash that moves with it would redeploy every function."""
    asked = "import sys; print('3.%d' % sys.version_info[1] if sys.version_info >= (3, 11) else '')"
    versions = {version: one for one in interpreters() if (version := answer(one, "-I", "-c", asked))}
    others = {version: one for version, one in versions.items() if version != HERE}
    if not others:
        pytest.skip(f"there is no other Python than {HERE} here, from 3.11 on")
    wanted = [payloads.function_zip(tmp_path / "here").sha256, payloads.node_zip(tmp_path / "here").sha256]
    for version, one in others.items():
        command = [one, "-I", "-B", "-c", ELSEWHERE, payloads.__file__, str(tmp_path / version)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)  # noqa: S603
        assert done.returncode == 0, f"Python {version}: {done.stderr}"
        assert json.loads(done.stdout) == wanted, f"Python {version} makes other bytes than {HERE}"
