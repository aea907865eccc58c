"""What the systemd units start beside Python: command lines and drop-ins made from node.json. Pure.

Command lines are lists handed to `exec`. Neither a shell nor systemd's own quoting (`$`, `%`, quotes and spaces in a
unit or in an EnvironmentFile all mean something there) ever sees a model argument.
"""

from __future__ import annotations

import json
import re

from .config import NodeConfig

WEIGHTS_DIR = "/opt/inference/weights"
CACHE_DIR = "/opt/inference/cache"
CONTAINER = "model-server"
DOCKER_DIR = "/run/inference-docker"  # in memory, for root only: the registry's token is good for twelve hours
ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
# After the drain the worker stores what it finishes, ends its last poll (40 s) and completes its hook (60 s).
STOP_MARGIN_S = 110


def weights_command(config: NodeConfig) -> list[str]:
    """Fetch what is not there yet; `--exact-timestamps` as a re-upload of equal size is a change too."""
    source = config.model.weights.rstrip("/") + "/"
    return [
        "aws",
        "s3",
        "sync",
        source,
        WEIGHTS_DIR,
        "--region",
        config.region,
        "--only-show-errors",
        "--exact-timestamps",
    ]


def model_server_command(config: NodeConfig) -> list[str]:
    """The model server in the foreground, on the loopback only, weights read-only at /weights.

    Host network: no port mapping, and the model server reaches nothing that the host does not.
    """
    return [
        "docker", "--config", DOCKER_DIR, "run", "--rm", "--name", CONTAINER,
        "--gpus", "all",
        "--network", "host",
        "--ipc", "host",  # tensor-parallel workers share memory
        "--volume", f"{WEIGHTS_DIR}:/weights:ro",
        "--volume", f"{CACHE_DIR}:/root/.cache",
        "--env", "HF_HUB_OFFLINE=1",
        config.model.image,
        "--model", "/weights",
        "--host", "127.0.0.1",
        "--port", str(config.model.port),
        *config.model.server_args,
    ]  # fmt: skip


def ecr_registry(config: NodeConfig) -> str | None:
    """The private ECR registry that holds the model image, or None if it comes from elsewhere."""
    registry = config.model.image.split("/", 1)[0]
    return registry if ECR.fullmatch(registry) else None


def docker_login(registry: str, token: str) -> str:
    """Docker's configuration file with the registry's token (base64 of user and password, as ECR hands it out)."""
    return json.dumps({"auths": {registry: {"auth": token}}})


def drop_ins(config: NodeConfig) -> dict[str, str]:
    """Unit files' parts that depend on node.json, by path below /etc/systemd/system."""
    environment = f'[Service]\nEnvironment="AWS_DEFAULT_REGION={config.region}"\n'
    stop = f"TimeoutStopSec={config.drain_s + STOP_MARGIN_S}\n"
    return {
        "worker.service.d/node.conf": environment + stop,
        "ready.service.d/node.conf": environment + f"TimeoutStartSec={config.boot_deadline_s + 300}\n",
        "watchdog.service.d/node.conf": environment,
        "model-server.service.d/node.conf": environment,
        "weights.service.d/node.conf": environment + f"TimeoutStartSec={config.boot_deadline_s}\n",
    }
