"""What the documents tell a user to type, typed: the plain `pulumi` and `aws` commands against `gpufleet twin`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from desk import LEFT_BEHIND, ROOT

pytestmark = pytest.mark.engine

README, EMBEDDED, OPERATIONS = (ROOT / name for name in ("README.md", "docs/embedded-cloud.md", "docs/operations.md"))
TEN_MINUTES = ".venv/bin/gpufleet twin advance 10m\n"
JOBS = 15
CHANGED, FAILED = 7, 1  # how the CLI ends


class Shell:
    """A user's shell in a checkout: each block runs after what the earlier ones exported."""

    def __init__(self, checkout: Path, tools: Path) -> None:
        self.checkout = checkout
        self._file = checkout.parent / "environment"
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "PULUMI_"))}
        self._environment = {**clean, "USER": "tester"}
        self._environment["PATH"] = f"{tools}:{clean['PATH']}"

    def run(self, block: str, *, code: int = 0) -> str:
        """Run a block as written, and say yes where a person is asked; answers what it printed."""
        answered = re.sub(r"\bpulumi (up|destroy)\b", r"pulumi \1 --yes", block)
        script = [
            "set -eo pipefail",
            f"cd {self.checkout}",
            f"[ ! -e {self._file} ] || . {self._file}",
            answered,
            f"{{ export -p; declare -p QUEUE; }} >{self._file} 2>/dev/null || true",
        ]
        command = ["/bin/bash", "-c", "\n".join(script)]
        done = subprocess.run(  # noqa: S603 - what the documents say
            command, capture_output=True, text=True, env=self._environment, timeout=300, check=False
        )
        assert done.returncode == code, f"{block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        return done.stdout


def blocks(document: Path, heading: str) -> list[str]:
    """The shell blocks under a heading, as they stand there."""
    text = re.split(rf"^## {re.escape(heading)}$", document.read_text(), flags=re.MULTILINE)[1]
    section = re.split(r"^## ", text, flags=re.MULTILINE)[0]
    return re.findall(r"^```bash\n(.*?)^```$", section, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    checkout, tools = tmp_path / "checkout", tmp_path / "tools"
    shutil.copytree(ROOT, checkout, ignore=LEFT_BEHIND)
    (checkout / ".venv").symlink_to(ROOT / ".venv")
    (checkout / ".cache").mkdir()
    (checkout / ".cache/engine").symlink_to(ROOT / ".cache/engine")
    tools.mkdir()
    # Version 1 of the AWS CLI, which is all that Python's index has, goes to AWS for SQS unless told so in this way.
    (tools / "aws").write_text(f'#!/bin/sh\nexec {ROOT}/.venv/bin/aws --endpoint-url "$AWS_ENDPOINT_URL" "$@"\n')
    (tools / "aws").chmod(0o755)
    found = Shell(checkout, tools)
    yield found
    stop = [checkout / ".venv/bin/gpufleet", "twin", "stop"]  # after a failure; otherwise it has stopped
    subprocess.run(stop, cwd=checkout, capture_output=True, check=False, timeout=60)  # noqa: S603 - our own command


def test_the_readme_and_the_pages_behind_it_by_hand(shell: Shell) -> None:
    try_it = blocks(README, "Try things")[1]
    assert try_it == blocks(EMBEDDED, "Try it")[0]
    told = shell.run(try_it)
    assert "+ 111 created" in told

    walk = shell.run(blocks(README, "The walk")[0].replace("\ndone\n", f"\ndone\n{TEN_MINUTES}"))
    assert re.search(r"^inference-asg-dev\t0\t1\t0$", walk, re.MULTILINE)
    assert walk.count('"MessageId"') == JOBS + 1, "15 jobs and one notification"
    assert "scale-out 0 -> 1: 15 waiting" in walk
    assert len(re.findall(r" \S+\.json$", walk, re.MULTILINE)) == JOBS, "every job has its result"
    assert "Nothing stopped: within budget" in walk

    drifted(shell)
    stopped_and_resumed(shell)
    taken_down(shell)


def drifted(shell: Shell) -> None:
    fine, change, seen, mended = blocks(EMBEDDED, "Use it")[1].splitlines()
    shell.run(fine)
    shell.run(change)
    shell.run(seen, code=CHANGED)
    shell.run(mended)
    shell.run(fine)


def stopped_and_resumed(shell: Shell) -> None:
    """The stop by hand of docs/operations.md, then the README's resume."""
    shell.run(blocks(OPERATIONS, "Stop")[0] + TEN_MINUTES)
    status = json.loads(shell.run(".venv/bin/gpufleet twin status --json"))
    assert all("Launch" in group["suspended"] for group in status["groups"].values())
    resumed = shell.run(blocks(README, "Resume")[0])
    assert re.search(r"^stopped \(manual\) since .* ago\), by \S+: ", resumed, re.MULTILINE)
    assert "resumed; the controller takes over within two minutes" in resumed
    shell.run(TEN_MINUTES)
    status = json.loads(shell.run(".venv/bin/gpufleet twin status --json"))
    assert not any("Launch" in group["suspended"] for group in status["groups"].values())


def taken_down(shell: Shell) -> None:
    shell.run("pulumi destroy --stack dev", code=FAILED)  # the bucket holds results
    shell.run(blocks(OPERATIONS, "Take a stack down")[0])
    assert "deleted" in shell.run("pulumi destroy --stack dev")
    assert "has stopped" in shell.run(blocks(EMBEDDED, "Use it")[2])
