"""Who calls the embedded cloud: its access keys, and the user's own AWS settings, which it must not follow."""

from __future__ import annotations

import os

OPERATOR = "operator"  # may do everything; every other principal is the name of a role
KEY_PREFIX = "TWIN"  # of every access key
SECRET = "twin"  # noqa: S105 - no secret: it only lets clients sign


def access_key(principal: str) -> str:
    return f"{KEY_PREFIX}{principal}"


def forget_aws_settings() -> None:
    """Before a process that hosts a cloud imports it: moto and the cloud's own clients read what shell and files say,
    and a profile that is not there, or another cloud's `gpufleet twin env`, would break or mislead them."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ.update(AWS_CONFIG_FILE=os.devnull, AWS_SHARED_CREDENTIALS_FILE=os.devnull)
