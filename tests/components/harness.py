"""Runs a Pulumi program under mocks and records its resource graph: what the engine would be asked for, per URN.

The event loop comes first, then the mocks, then the program through `runpy.run_path` as `pulumi up` does it. The
monitor keeps each registration's request, because parent, ignored paths, protection and provider are only there.
"""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import json
import runpy
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pulumi
import yaml
from pulumi.output import Unknown
from pulumi.runtime import mocks, rpc, set_all_config, settings, stack

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT = "123456789012"
PROJECT = "gpu-inference"


@dataclass(frozen=True)
class Resource:
    """One registration: inputs in wire spelling, and the options the engine acts on."""

    urn: str
    type: str
    name: str
    custom: bool
    parent: str
    inputs: dict[str, Any]
    provider: str
    protect: bool
    ignore_changes: tuple[str, ...]
    depends_on: tuple[str, ...]


@dataclass
class Graph:
    """What one run of a program asked for."""

    resources: list[Resource] = field(default_factory=list)
    invokes: list[tuple[str, dict[str, Any], str]] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    registered_outputs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def of_type(self, type_: str) -> list[Resource]:
        return [one for one in self.resources if one.type == type_]

    def named(self, name: str, type_: str = "") -> Resource:
        found = [one for one in self.resources if one.name == name and type_ in one.type]
        assert len(found) == 1, f"{len(found)} resources are named {name} ({type_ or 'any type'})"
        return found[0]

    def by_urn(self) -> dict[str, Resource]:
        return {one.urn: one for one in self.resources}


class _Cloud(mocks.Mocks):
    """Answers as AWS would: ARNs and ids that look right, after creation; in a preview only what was asked for."""

    def __init__(self, region: str, preview: bool) -> None:
        self.region, self.preview = region, preview

    def new_resource(self, args: mocks.MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        if self.preview or not args.custom:
            return ("" if self.preview else args.name), dict(args.inputs)
        return _created(args.typ, args.name, dict(args.inputs), self.region)

    def call(self, args: mocks.MockCallArgs) -> Any:
        answers: dict[str, dict[str, Any]] = {
            "aws:index/getCallerIdentity:getCallerIdentity": {"accountId": ACCOUNT, "id": ACCOUNT},
            "aws:index/getRegion:getRegion": {"region": self.region, "id": self.region},
            "aws:index/getPartition:getPartition": {"partition": "aws", "id": "aws"},
            "aws:index/getAvailabilityZones:getAvailabilityZones": {
                "names": [f"{self.region}{letter}" for letter in "abcd"]
            },
            "aws:autoscaling/getGroup:getGroup": {"name": args.args.get("name"), "suspendedProcesses": ["AZRebalance"]},
            "aws:ssm/getParameter:getParameter": {"value": "ami-0123456789abcdef0", "name": args.args.get("name")},
        }
        return answers[args.token]


def _created(type_: str, name: str, inputs: dict[str, Any], region: str) -> tuple[str, dict[str, Any]]:
    cloud_name = str(inputs.get("name") or inputs.get("bucketPrefix") or name)
    short = hashlib.sha256(f"{type_}{name}".encode()).hexdigest()
    service, kind = type_.split(":")[1].split("/", maxsplit=1)[0], type_.rsplit(":", 1)[-1]
    arn = f"arn:aws:{service}:{region}:{ACCOUNT}:{cloud_name}"
    state: dict[str, Any] = {"name": cloud_name, "arn": arn}
    identifier = cloud_name
    match type_:
        case "aws:sqs/queue:Queue":
            identifier = f"https://sqs.{region}.amazonaws.com/{ACCOUNT}/{cloud_name}"
            state["url"] = identifier
        case "aws:s3/bucket:Bucket":
            identifier = cloud_name + short[:26]
            state |= {"bucket": identifier, "arn": f"arn:aws:s3:::{identifier}"}
        case "aws:dynamodb/table:Table":
            state["arn"] = f"arn:aws:dynamodb:{region}:{ACCOUNT}:table/{cloud_name}"
        case "aws:iam/role:Role" | "aws:iam/instanceProfile:InstanceProfile":
            state["arn"] = f"arn:aws:iam::{ACCOUNT}:{kind[0].lower() + kind[1:]}/{cloud_name}"
        case "aws:lambda/function:Function":
            state["arn"] = f"arn:aws:lambda:{region}:{ACCOUNT}:function:{cloud_name}"
        case "aws:cloudwatch/logGroup:LogGroup":
            state["arn"] = f"arn:aws:logs:{region}:{ACCOUNT}:log-group:{cloud_name}"
        case "aws:cloudwatch/eventRule:EventRule":
            state["arn"] = f"arn:aws:events:{region}:{ACCOUNT}:rule/{cloud_name}"
        case "aws:kms/key:Key":
            identifier = f"{short[:8]}-{short[8:12]}-{short[12:16]}-{short[16:20]}-{short[20:32]}"
            state["arn"] = f"arn:aws:kms:{region}:{ACCOUNT}:key/{identifier}"
        case "aws:ec2/launchTemplate:LaunchTemplate":
            identifier = f"lt-{short[:17]}"
            state["latestVersion"] = 1
        case "aws:ec2/eip:Eip":
            identifier = f"eipalloc-{short[:17]}"
            state["allocationId"] = identifier
        case _ if service == "ec2":
            prefix = {"Vpc": "vpc", "Subnet": "subnet", "SecurityGroup": "sg", "RouteTable": "rtb"}.get(kind, "ec2")
            identifier = f"{prefix}-{short[:17]}"
    return identifier, {**state, **inputs}


class _Monitor(mocks.MockMonitor):
    def __init__(self, cloud: _Cloud, graph: Graph) -> None:
        super().__init__(cloud)
        self.graph, self._lock, self._here = graph, threading.Lock(), threading.local()
        self.loops: list[asyncio.AbstractEventLoop] = []

    def _own_loop(self) -> None:
        """Requests come on worker threads, which need an event loop each; ours are closed at the end."""
        if not hasattr(self._here, "loop"):
            self._here.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._here.loop)
            with self._lock:
                self.loops.append(self._here.loop)

    def RegisterResource(self, request: Any) -> Any:
        self._own_loop()
        response = super().RegisterResource(request)
        if request.type != "pulumi:pulumi:Stack":
            resource = Resource(
                urn=response.urn,
                type=request.type,
                name=request.name,
                custom=request.custom,
                parent=request.parent,
                inputs=_plain(rpc.deserialize_properties(request.object, keep_unknowns=True)),
                provider=request.provider,
                protect=request.protect,
                ignore_changes=tuple(request.ignoreChanges),
                depends_on=tuple(sorted(request.dependencies)),
            )
            with self._lock:
                self.graph.resources.append(resource)
        return response

    def RegisterResourceOutputs(self, request: Any) -> Any:
        with self._lock:
            self.graph.registered_outputs[request.urn] = _plain(
                rpc.deserialize_properties(request.outputs, keep_unknowns=True)
            )
        return super().RegisterResourceOutputs(request)

    def Invoke(self, request: Any) -> Any:
        self._own_loop()
        with self._lock:
            self.graph.invokes.append((request.tok, _plain(rpc.deserialize_properties(request.args)), request.provider))
        return super().Invoke(request)


UNKNOWN = "<unknown>"


def _plain(value: Any) -> Any:
    """JSON values: unknowns by a word, assets and archives by what they hold."""
    if isinstance(value, dict):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, pulumi.FileArchive | pulumi.FileAsset):
        return {"file": Path(value.path).name}
    if isinstance(value, Unknown):
        return UNKNOWN
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


def run(
    program: Path,
    *,
    stack_name: str = "dev",
    config: Mapping[str, str] | None = None,
    preview: bool = False,
    project: str = PROJECT,
    region: str = "us-east-1",
) -> Graph:
    """Run the program folder `program` as one stack and return its graph; the program's own errors are raised.

    Pulumi keeps stack, configuration and root resource in context variables: a context of its own leaves no trace.
    """
    graph, cloud = Graph(), _Cloud(region, preview)
    contextvars.copy_context().run(_run, graph, cloud, program, stack_name, dict(config or {}), project)
    return graph


def _run(graph: Graph, cloud: _Cloud, program: Path, stack_name: str, config: dict[str, str], project: str) -> None:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    monitor = _Monitor(cloud, graph)
    try:
        settings.reset_options(project=project, stack=stack_name)  # an earlier run's root resource would be kept
        mocks.set_mocks(cloud, project=project, stack=stack_name, preview=cloud.preview, monitor=monitor)
        set_all_config(config)

        def main() -> None:
            runpy.run_path(str(program))

        loop.run_until_complete(stack.run_pulumi_func(main))
        exports = getattr(settings.get_root_resource(), "outputs", {})
        graph.outputs = loop.run_until_complete(pulumi.Output.all(**exports).future()) or {}
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        for one in (*monitor.loops, loop):
            one.close()
        asyncio.set_event_loop(None)


def stack_config(stack_file: Path, **overrides: Any) -> dict[str, str]:
    """The configuration of a stack file as Pulumi hands it to a program: text, and JSON for what is not scalar."""
    values = yaml.safe_load(stack_file.read_text(encoding="utf-8"))["config"]
    values |= {key if ":" in key else f"{PROJECT}:{key}": value for key, value in overrides.items()}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def run_stack(name: str, *, preview: bool = False, **overrides: Any) -> Graph:
    """The real program with the real stack file `Pulumi.<name>.yaml`, its settings changed by `overrides`."""
    config = stack_config(ROOT / f"Pulumi.{name}.yaml", **overrides)
    return run(ROOT, stack_name=name, config=config, preview=preview, region=config["aws:region"])
