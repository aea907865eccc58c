"""The package as it is deployed: imported from a zip, the laws with nothing but the standard library."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import fleet_control
import pytest

ROOT = Path(fleet_control.__file__).parent


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zip") / "fleet_control.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for source in sorted(ROOT.rglob("*.py")):
            archive.write(source, source.relative_to(ROOT.parent))
    return path


def run(deployed: Path, code: str, *options: str) -> str:
    program = f"import sys; sys.path.insert(0, {str(deployed)!r}); {code}"
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, *options, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_handlers_import_from_the_zip(deployed: Path) -> None:
    names = ("controller", "scale_to_zero", "queue_keeper")
    code = "; ".join(f"import fleet_control.aws.{one} as m; assert callable(m.handler)" for one in names)
    assert run(deployed, f"{code}; print(m.__file__)").startswith(str(deployed))


def test_the_laws_need_the_standard_library_only(deployed: Path) -> None:
    laws = ", ".join(f"fleet_control.{name}_law" for name in ("scaling", "spend", "boot", "health"))
    code = f"import {laws}; print('boto3' in sys.modules)"
    assert run(deployed, code, "-S", "-I") == "False"


def test_the_runtime_speaks_json_lines_and_makes_each_client_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):  # as every function has them in its environment
        monkeypatch.setenv(name, "function")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    from fleet_control.aws import runtime  # noqa: PLC0415 - the real one, beside the tests that replace it

    runtime.log({"event": "x", "n": 1})
    assert capsys.readouterr().out == '{"event":"x","n":1}\n'
    first = runtime.client("budgets")
    assert first is runtime.client("budgets")
    assert first.meta.endpoint_url == "https://budgets.amazonaws.com", "AWS Budgets has this one endpoint"
    before = runtime.now()
    runtime.sleep(-5)
    assert runtime.now() - before < 5
