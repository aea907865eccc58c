"""The program as `pulumi up` runs it: a fresh process, only the program's folder on the path, outputs never text."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from harness import ROOT, stack_config

SCRIPT = """
import json, sys
sys.path.insert(0, {root!r})
sys.path.append({harness!r})
import harness
graph = harness.run(harness.ROOT, stack_name="prod", config=json.loads(sys.argv[1]))
assert not [name for name in sys.modules if name.split(".")[0] in ("boto3", "botocore", "gpufleet", "fleet_control")]
print(len(graph.resources), graph.outputs["spotGroup"])
"""


def test_the_program_runs_in_a_process_of_its_own(graph, tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "PULUMI_", "PYTHON"))}
    script = SCRIPT.format(root=str(ROOT), harness=str(ROOT / "tests" / "components"))
    ran = subprocess.run(  # noqa: S603  our own interpreter and script
        [sys.executable, "-I", "-W", "ignore", "-c", script, json.dumps(stack_config(ROOT / "Pulumi.prod.yaml"))],
        cwd=tmp_path,
        env=environment | {"PULUMI_ERROR_OUTPUT_STRING": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == [str(len(graph("prod").resources)), "inference-asg-prod"]
    assert "Calling __str__" not in ran.stderr
