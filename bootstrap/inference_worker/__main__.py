"""`python3 -m inference_worker COMMAND [--config FILE]`, as the systemd units call it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from . import node, ready, watchdog, work
from .config import DEFAULT_PATH, ConfigError, NodeConfig, load
from .runtime import HostRuntime, Runtime

CONFIG_FAULT = 78  # EX_CONFIG: systemd does not restart a unit that fails with it (RestartPreventExitStatus)


def install(config: NodeConfig, _runtime: Runtime, root: str = "/etc/systemd/system") -> int:
    """Write the units' drop-ins."""
    for name, text in node.drop_ins(config).items():
        path = Path(root) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return 0


def weights(config: NodeConfig, runtime: Runtime) -> int:
    runtime.become(node.weights_command(config))
    return 0


def serve(config: NodeConfig, runtime: Runtime) -> int:
    """Log in to the image's registry if it is ECR, and become the container."""
    registry = node.ecr_registry(config)
    if registry:
        answer = runtime.client("ecr").get_authorization_token()
        login = Path(node.DOCKER_DIR) / "config.json"
        login.touch(mode=0o600)
        token = answer["authorizationData"][0]["authorizationToken"]
        login.write_text(node.docker_login(registry, token), encoding="utf-8")
    runtime.become(node.model_server_command(config))
    return 0


COMMANDS: dict[str, Callable[[NodeConfig, Runtime], int]] = {
    "work": work.run,
    "ready": ready.run,
    "watchdog": watchdog.run,
    "admit": watchdog.admit,
    "weights": weights,
    "serve": serve,
}


def main(argv: Sequence[str], runtime: Runtime) -> int:
    """Run one command and return its exit status; 78 if node.json cannot be used."""
    parser = argparse.ArgumentParser(prog="inference_worker")
    parser.add_argument("command", choices=[*COMMANDS, "install"])
    parser.add_argument("--config", default=DEFAULT_PATH)
    parser.add_argument("--units", default="/etc/systemd/system", help="where `install` writes")
    options = parser.parse_args(argv)
    try:
        config = load(options.config)
    except ConfigError as problem:
        runtime.log({"event": "config", "problem": str(problem)})
        return CONFIG_FAULT
    if options.command == "install":
        return install(config, runtime, options.units)
    return COMMANDS[options.command](config, runtime)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], HostRuntime()))
