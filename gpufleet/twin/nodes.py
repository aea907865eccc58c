"""Nodes: what an instance does once it runs. It follows its user data, loads the deployed payload, runs its units.

From the user data come `/etc/inference/node.json` and the payload's place and SHA-256; from the payload the worker
package and the units, with their order and their restarts. Weights and model server are stubs that take their time.
An instance whose user data is not of this kind is a black box: it runs, and says so in the log.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from .clock import Clock
from .cloud import Cloud
from .errors import NotModelledError
from .iam_resources import Need, Params
from .metadata import InstanceMetadata
from .model_server import Behaviour, ModelServer
from .node_runtime import METADATA_HOST, NodeClient, VirtualRuntime
from .node_units import Service
from .payload import Package, read_units
from .services.autoscaling import AutoScaling
from .services.machines import Instance, Machines

CLOUD_INIT_S = 30.0
WEIGHTS_SHARE = 0.5  # of the time from cloud-init to a loaded model; the rest is the model server's start
FETCH_PAUSES_S = (5, 10, 15, 20, 25)  # as the user data tries
_NODE_JSON = re.compile(r"^cat > /etc/inference/node\.json <<'NODE_JSON'\n(.*?)^NODE_JSON$", re.DOTALL | re.MULTILINE)
_PAYLOAD = re.compile(r"payload_uri='s3://([^/']+)/([^']+)'.*?payload_sha256='([0-9a-f]{64})'", re.DOTALL)
_ECR = re.compile(r"(\d{12})\.dkr\.ecr\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?/([^:@]+)")


class Nodes:
    """All nodes of the account, by instance id, dead ones too.

    `logs`: {"at", "instance", "record"} of all nodes; `bills`: (job id, instance id, at) of each bill that was written;
    `work_killed_s`: seconds of model work cut by an end that was not a spot interruption; `behaviour`: the knobs.
    """

    def __init__(self, cloud: Cloud, machines: Machines, scaling: AutoScaling) -> None:
        self.cloud = cloud
        self.scaling = scaling
        self.machines = machines
        self.behaviour = Behaviour(random.Random(cloud.random.getrandbits(64)))  # noqa: S311 - simulation
        self.nodes: dict[str, Node] = {}
        self.logs: list[dict[str, Any]] = []
        self.bills: list[tuple[str, str, float]] = []
        self.work_killed_s = 0.0
        # Hears of every call of a node that was answered: its instance, service and operation, the answer.
        self.on_call: list[Callable[[Instance, str, str, dict[str, Any]], object]] = []
        cloud.on_forget.append(self._forget)
        machines.on_change.append(self._machine_changed)
        rules = cloud.authorizer.rules
        rules[("s3", "ListObjectsV2")] = _list_bucket
        rules[("ecr", "GetAuthorizationToken")] = lambda params, account, region: [
            Need("ecr:GetAuthorizationToken", "*")
        ]
        rules[("ecr", "BatchGetImage")] = _repository("ecr:BatchGetImage")
        rules[("ecr", "GetDownloadUrlForLayer")] = _repository("ecr:GetDownloadUrlForLayer")

    def _forget(self, oldest: float) -> None:
        """Nodes that are long gone, and what was logged before `oldest`."""
        self.logs[:] = [entry for entry in self.logs if entry["at"] >= oldest]
        for name, node in list(self.nodes.items()):
            node.logs[:] = [entry for entry in node.logs if entry["at"] >= oldest]
            if (node.instance.gone_at or oldest) < oldest:
                del self.nodes[name]

    def _machine_changed(self, instance: Instance) -> None:
        if instance.state == "running":
            self.nodes[instance.id] = Node(self, instance)
        elif instance.state == "shutting-down" and instance.id in self.nodes:
            node = self.nodes[instance.id]
            if instance.ended_by != "spot":
                now = self.cloud.clock.now()
                self.work_killed_s += sum(now - began for began in node.model.in_flight.values())
            node.alive = False
            self.cloud.clock.at(self.cloud.clock.now(), node.die)  # not now: the node itself may be the caller


class Node:
    """One running instance. `package` is None until the payload was loaded."""

    def __init__(self, nodes: Nodes, instance: Instance) -> None:
        self.cloud = nodes.cloud
        self.clock: Clock = nodes.cloud.clock
        self.instance = instance
        self.name = instance.id
        self.launched_at = instance.launched_at
        self.alive = True
        self.logs: list[dict[str, Any]] = []
        self.config: dict[str, Any] = {}
        self._nodes = nodes
        behaviour = nodes.behaviour
        self.model = ModelServer(self.clock, behaviour, instance.id, behaviour.rng.getrandbits(64))
        self._loads = behaviour.never_loads <= 0
        behaviour.never_loads = max(0, behaviour.never_loads - 1)
        self._load_s = max(0.0, behaviour.cold_start_s() - (self.clock.now() - instance.launched_at) - CLOUD_INIT_S)
        self._metadata = InstanceMetadata(self.clock, instance, self.cloud.region, self._target_state)
        self._clients: dict[str, NodeClient] = {}
        self._role: str | None = None
        self._package: Package | None = None
        self._settings: Any = None
        self._weights_here = False
        self._units: dict[str, Service] = {}
        self._boot_process = self.clock.spawn(f"{instance.id}/boot", self._boot)

    # -- life ---------------------------------------------------------------------------------------------------

    def die(self) -> None:
        """The power is cut: every process ends where it stands."""
        self.alive = False
        self.model.stop()
        self._boot_process.kill()
        for service in self._units.values():
            service.kill()
        if self._package is not None:
            self._package.unload()

    def log(self, record: Mapping[str, Any]) -> None:
        entry = {"at": self.clock.now(), "instance": self.instance.id, "record": dict(record)}
        self.logs.append(entry)
        self._nodes.logs.append(entry)

    def _boot(self) -> None:
        self.clock.sleep(CLOUD_INIT_S)
        node_json = _NODE_JSON.search(self.instance.spec.user_data)
        payload = _PAYLOAD.search(self.instance.spec.user_data)
        if node_json is None or payload is None:
            self.log({"event": "custom-node", "note": "user data of its own: the twin runs nothing on this instance"})
            return
        self.config = json.loads(node_json.group(1))
        bucket, key, digest = payload.groups()
        archive = self._fetch(bucket, key)
        if archive is None or hashlib.sha256(archive).hexdigest() != digest:
            self.log({"event": "set-up-failed", "problem": "payload missing or its sha256 differs", "key": key})
            self._abandon()
            self.power_off()
            return
        self._package = Package(archive)
        self._settings = self._package.module("config").parse(self.config)
        units = read_units(archive)
        self._units.update({unit.name: Service(self, unit, self._units) for unit in units})
        for service in self._units.values():
            service.start()

    def _fetch(self, bucket: str, key: str) -> bytes | None:
        for pause in FETCH_PAUSES_S:
            try:
                return self.aws("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
            except self.aws("s3").exceptions.ClientError as error:
                self.log({"event": "payload-not-fetched", "problem": str(error)})
            self.clock.sleep(pause)
        return None

    def _abandon(self) -> None:
        if not self.config.get("launch_hook"):
            return
        for group in self.config["groups"]:
            try:
                self.aws("autoscaling").complete_lifecycle_action(
                    AutoScalingGroupName=group,
                    LifecycleHookName=self.config["launch_hook"],
                    InstanceId=self.instance.id,
                    LifecycleActionResult="ABANDON",
                )
            except self.aws("autoscaling").exceptions.ClientError as error:
                self.log({"event": "not-abandoned", "group": group, "problem": str(error)})

    def power_off(self) -> None:
        """Instance-initiated shutdown."""
        if not self.instance.spec.shutdown_terminates:
            raise NotModelledError(
                "the twin does not model stopped instances: set InstanceInitiatedShutdownBehavior to terminate"
            )
        self.clock.at(self.clock.now(), self._nodes.machines.end, self.instance, "host")

    # -- what a runtime asks for --------------------------------------------------------------------------------

    def request(
        self,
        host: str,
        port: int,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes | None,
        timeout_s: float,
    ) -> tuple[int, Mapping[str, str], bytes]:
        if host == METADATA_HOST:
            return self._metadata.request(method, path, headers)
        if host in ("127.0.0.1", "localhost") and port == self.config["model"]["port"]:
            return self.model.request(method, path, body, timeout_s)
        raise ConnectionRefusedError(f"[Errno 111] nobody listens on {host}:{port}")

    def aws(self, service: str) -> Any:
        if service not in self._clients:
            client = self.cloud.client(service, self._role_name())
            self._clients[service] = NodeClient(self, client, partial(self._after_call, service))
        return self._clients[service]

    def command(self, argv: Sequence[str], timeout_s: float) -> int:
        match list(argv):
            case ["systemctl", "stop", name] if name in self._units:
                return 0 if self._units[name].stop(timeout_s) else 124
            case ["systemctl", "poweroff"] | ["shutdown", *_]:
                self.power_off()
                self.clock.sleep(timeout_s)  # the machine goes while the command waits
                return 0
        raise NotModelledError(f"the twin does not model the command {' '.join(argv)} on a node")

    def replace(self, argv: Sequence[str]) -> None:
        """What a process becomes: the copy of the weights."""
        if list(argv[:3]) != ["aws", "s3", "sync"]:
            raise NotModelledError(f"the twin does not model the program {' '.join(argv)} on a node")
        self._copy_weights(argv[3])

    def start_unit_command(self, command: str, runtime: VirtualRuntime) -> int:
        """Run one command of the worker package as a process of a unit; returns its status."""
        if command == "serve":
            return self._serve()
        assert self._package is not None  # noqa: S101 - units exist only once the package is loaded
        status = self._package.module("__main__").COMMANDS[command](self._settings, runtime)
        if command == "weights" and status == 0:
            self._weights_here = True
        return int(status or 0)

    # -- stubs --------------------------------------------------------------------------------------------------

    def _copy_weights(self, source: str) -> None:
        bucket, _, prefix = source.removeprefix("s3://").partition("/")
        self._may("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": prefix})
        self._may("s3", "GetObject", {"Bucket": bucket, "Key": f"{prefix}model.safetensors"})
        self.clock.sleep(self._load_s * WEIGHTS_SHARE)

    def _serve(self) -> int:
        if not self._weights_here:
            return 1  # the unit's own test for the weights
        image = _ECR.match(self.config["model"]["image"])
        if image:
            account, region, name = image.groups()
            self._may("ecr", "GetAuthorizationToken", {})
            for call in ("BatchGetImage", "GetDownloadUrlForLayer"):
                self._may("ecr", call, {"repository": f"arn:aws:ecr:{region}:{account}:repository/{name}"})
        self.clock.sleep(self._load_s * (1 - WEIGHTS_SHARE))
        if self._loads:
            self.model.start()
        try:
            self.clock.event().wait()  # in the foreground until it is stopped
        finally:
            self.model.stop()
        return 0

    def _may(self, service: str, operation: str, params: Params) -> None:
        """What a program beside the worker does with the node's role, as far as permissions go."""
        self.cloud.authorizer.check(self._role_name(), service, operation, params)

    def _role_name(self) -> str:
        if self._role is None:
            profile = (self.instance.spec.profile or "").rpartition("/")[2]
            if not profile:
                raise NotModelledError(f"the node {self.instance.id} has no instance profile: it cannot call AWS")
            found = self.cloud.client("iam").get_instance_profile(InstanceProfileName=profile)
            self._role = found["InstanceProfile"]["Roles"][0]["RoleName"]
        return self._role or ""

    def _target_state(self) -> str | None:
        found = self._nodes.scaling.find_member(self.instance.id)
        return found[1].target if found else None

    def _after_call(self, service: str, operation: str, params: dict[str, Any], answer: dict[str, Any]) -> None:
        """Notes every bill that a node wrote: twice for one job would be one too many."""
        for heard in self._nodes.on_call:
            heard(self.instance, service, operation, answer)
        if operation not in ("UpdateItem", "PutItem"):
            return
        key = (params.get("Key") or params.get("Item") or {}).get("pk", {}).get("S", "")
        values = params.get("ExpressionAttributeValues") or params.get("Item") or {}
        billed = any("prompt_tokens" in value.get("M", {}) for value in values.values())
        completed = any(value.get("S") == "completed" for value in values.values())
        if key.startswith("job#") and billed and completed:
            self._nodes.bills.append((key.removeprefix("job#"), self.instance.id, self.clock.now()))


def _list_bucket(params: Params, account: str, region: str) -> list[Need]:
    return [Need("s3:ListBucket", f"arn:aws:s3:::{params['Bucket']}", (("s3:prefix", params.get("Prefix", "")),))]


def _repository(action: str) -> Any:
    return lambda params, account, region: [Need(action, params["repository"])]
