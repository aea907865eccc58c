"""`inference_worker work`: the worker on AWS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from .aws.autoscaling import GroupMember
from .aws.dynamodb import FleetTable, JobTable
from .aws.metadata import InstanceMetadata
from .aws.s3 import S3Results
from .aws.sqs import SqsQueue
from .config import NodeConfig
from .leases import Leases
from .model import Model
from .ports import UnavailableError
from .processing import Processor, Tally
from .runtime import Runtime
from .signals import Drain, Signal
from .turns import Turns
from .worker import Worker

HOOK_WAITS = 100  # Auto Scaling ends a wait after 100 of the hook's timeouts, each a little longer than drain_s

T = TypeVar("T")


def run(config: NodeConfig, runtime: Runtime) -> int:
    """Serve the queue until told to go. Returns 0 once drained (and the terminate hook, if any, is completed), 1 after
    a fault that a fresh process may not have."""
    worker: list[Worker] = []
    early = runtime.event()

    def stop() -> None:
        early.set()
        for each in worker:
            each.stop()

    runtime.on_stop(stop)
    metadata = InstanceMetadata(runtime)
    instance_id = patiently(runtime, metadata.instance_id)
    worker.append(build(config, runtime, metadata, instance_id))
    if early.is_set():
        worker[0].stop()
    return worker[0].run()


def build(config: NodeConfig, runtime: Runtime, metadata: InstanceMetadata, instance_id: str) -> Worker:
    """Put the worker together from its AWS adapters."""
    changed = Signal(runtime)
    drain = Drain(runtime, changed)
    dynamodb = runtime.client("dynamodb")
    queue = SqsQueue(runtime.client("sqs"), config.queue_url, config.dead_letter_url, config.lease_s)
    jobs = JobTable(dynamodb, config.jobs_table, instance_id)
    fleet = FleetTable(dynamodb, config.jobs_table, config.fleet, instance_id)
    leases = Leases(runtime, queue, jobs, config.lease_s, changed)
    turns = Turns(runtime, changed)
    model = Model(runtime, config.model.port, config.job_timeout_s)
    tally = Tally(runtime)
    before = patiently(runtime, fleet.last)
    if before:
        tally.add(completed=before.completed, worked_s=before.worked_s)
    processor = Processor(
        runtime=runtime,
        queue=queue,
        outbox=queue,
        jobs=jobs,
        results=S3Results(runtime.client("s3"), config.bucket),
        model=model,
        leases=leases,
        turns=turns,
        drain=drain,
        tally=tally,
        max_receive_count=config.max_receive_count,
    )
    return Worker(
        runtime=runtime,
        queue=queue,
        model=model,
        fleet=fleet,
        lifecycle=GroupMember(runtime.client("autoscaling"), config.groups, instance_id),
        notices=metadata,
        processor=processor,
        leases=leases,
        turns=turns,
        tally=tally,
        drain=drain,
        changed=changed,
        slots=config.model.slots,
        drain_s=config.drain_s,
        leave_s=leave_s(config),
        terminate_hook=config.terminate_hook,
        cold_start_s=before.cold_start_s if before else None,
    )


def leave_s(config: NodeConfig) -> int:
    """How long running jobs may go on when the group takes the instance away: as long as any job may take, so that a
    scale-in cuts none. The worker cannot tell a stop from a scale-in: in a stop the guard cuts the allowance short, and
    the watchdog sends the worker home. Without an allowance nobody would, so every drain is a stop's.
    """
    return min(config.job_timeout_s, HOOK_WAITS * config.drain_s) if config.allowance else config.drain_s


def patiently(runtime: Runtime, ask: Callable[[], T]) -> T:
    """Ask until there is an answer, every 2 to 30 s: at boot the network and the role may come a little later."""
    pause = 2.0
    while True:
        try:
            return ask()
        except UnavailableError as problem:
            runtime.log({"event": "waiting", "problem": str(problem)})
            runtime.sleep(pause)
            pause = min(30.0, pause * 2)
