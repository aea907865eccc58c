"""What is charged by use, held against arithmetic done by hand: requests, runs, metrics, logs, NAT bytes."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from twin_account import Account
from twin_services import ACCOUNT, START, ServicesAccount, allow, package, refused

from gpufleet.twin import prices
from gpufleet.twin.billing import Bill, connect, month_bounds
from gpufleet.twin.clock import Clock
from gpufleet.twin.cloud import Cloud
from gpufleet.twin.requests import item_bytes
from gpufleet.twin.services.cloudwatch import CloudWatchModel
from gpufleet.twin.services.machines import Machines
from gpufleet.twin.usage import Usage

HOUR = 3600.0
QUEUE = "arn:aws:sqs:us-east-1:" + ACCOUNT + ":jobs"
TABLE = "arn:aws:dynamodb:us-east-1:" + ACCOUNT + ":table/jobs"


@pytest.fixture
def account() -> Iterator[ServicesAccount]:
    with Cloud(START) as cloud:
        yield ServicesAccount(cloud)


@pytest.fixture
def bill(account: ServicesAccount) -> Bill:
    bill = Bill(account.cloud, Machines(account.cloud))
    connect(account.cloud, bill)
    return bill


def used(bill: Bill, kind: str) -> float:
    """How many units of a kind this month, whatever they were used on."""
    now = START + 40 * 86_400
    return sum(quantity for each, _, quantity, _ in bill.usage.used(0.0, now) if each == kind)


# -- the counters ------------------------------------------------------------------------------------------------------


def test_the_past_is_known_by_the_hour_and_counts_as_even_within_one() -> None:
    clock = Clock(START)
    usage = Usage(clock)
    usage.add("k", "a", 10, 0.5)
    clock.run_until(START + 1.5 * HOUR)
    usage.add("k", "a", 4, 0.5)
    usage.add("k", "b", 1, 2.0)
    clock.run_until(START + 3 * HOUR)

    def at(moment: float) -> float:
        return usage.dollars(0.0, START + moment)

    assert at(0) == 0
    assert [at(0.5 * HOUR), at(HOUR), at(1.25 * HOUR), at(9 * HOUR)] == [2.5, 5.0, 6.0, 9.0]
    assert list(usage.used(START + HOUR, START + 2 * HOUR)) == [("k", "a", 4, 2.0), ("k", "b", 1, 2.0)]


def test_an_hour_under_way_has_been_used_up_to_now() -> None:
    clock = Clock(START)
    usage = Usage(clock)
    clock.run_until(START + 900)
    usage.add("k", "a", 8, 1.0)
    assert usage.dollars(0.0, clock.now()) == 8
    assert usage.dollars(0.0, START + 450) == 4


# -- SQS ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "requests"), [(10, 1), (65_536, 1), (65_537, 2), (200_000, 4)])
def test_each_64_kb_of_what_a_producer_sends_is_a_request(
    account: ServicesAccount, bill: Bill, size: int, requests: int
) -> None:
    account.sqs.send_message(QueueUrl=account.queue("jobs"), MessageBody="x" * size)
    assert used(bill, "queue-requests") == requests


def test_a_batch_is_one_request_and_people_look_for_nothing(account: ServicesAccount, bill: Bill) -> None:
    url = account.queue("jobs")
    entries = [{"Id": str(i), "MessageBody": "x" * 100} for i in range(10)]
    account.sqs.send_message_batch(QueueUrl=url, Entries=entries)
    account.sqs.receive_message(QueueUrl=url)
    account.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    assert bill.by_kind()["queue-requests"] == pytest.approx(0.40 / 1e6)


def test_a_worker_s_polls_cost_also_when_they_find_nothing_or_it_dies_in_one(
    account: ServicesAccount, bill: Bill
) -> None:
    url = account.queue("jobs")
    account.role("worker", allow("sqs:ReceiveMessage", QUEUE), service="ec2.amazonaws.com")
    worker = account.cloud.client("sqs", "worker")
    poll = account.clock.spawn("poll", lambda: worker.receive_message(QueueUrl=url, WaitTimeSeconds=20))
    account.clock.run_for(60)
    assert used(bill, "queue-requests") == 1
    poll = account.clock.spawn("poll", lambda: worker.receive_message(QueueUrl=url, WaitTimeSeconds=20))
    account.clock.run_for(5)
    poll.kill()
    account.clock.run_for(60)
    assert used(bill, "queue-requests") == 2


def test_what_is_denied_costs_nothing(account: ServicesAccount, bill: Bill) -> None:
    url = account.queue("jobs")
    account.role("nobody")
    with refused("AccessDenied"):
        account.cloud.client("sqs", "nobody").receive_message(QueueUrl=url)
    assert used(bill, "queue-requests") == 0


# -- DynamoDB ----------------------------------------------------------------------------------------------------------


class Table:
    """A role's client of a table, and the units it has used."""

    def __init__(self, account: ServicesAccount, bill: Bill) -> None:
        account.cloud.client("dynamodb").create_table(
            TableName="jobs",
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": n, "AttributeType": "S"} for n in ("pk", "sk")],
        )
        account.role("function", allow("dynamodb:*", TABLE))
        self.client = account.cloud.client("dynamodb", "function")
        self._bill = bill

    def put(self, name: str, size: int, **more: Any) -> None:
        """An item of `size` bytes."""
        item = {"pk": {"S": "p"}, "sk": {"S": name}, "v": {"S": ""}}
        item["v"] = {"S": "x" * (size - item_bytes(item))}
        assert item_bytes(item) == size
        self.client.put_item(TableName="jobs", Item=item, **more)

    def key(self, name: str) -> dict[str, Any]:
        return {"pk": {"S": "p"}, "sk": {"S": name}}

    @property
    def units(self) -> tuple[float, float]:
        """(read, written) since the last time."""
        before = getattr(self, "_before", (0.0, 0.0))
        now = used(self._bill, "table-reads"), used(self._bill, "table-writes")
        self._before = now
        return now[0] - before[0], now[1] - before[1]


@pytest.fixture
def table(account: ServicesAccount, bill: Bill) -> Table:
    return Table(account, bill)


def test_a_write_unit_is_a_kilobyte_of_the_item(table: Table) -> None:
    table.put("small", 1024)
    assert table.units == (0, 1)
    table.put("large", 1025)
    assert table.units == (0, 2)


def test_an_update_is_charged_by_the_item_that_it_leaves(table: Table) -> None:
    table.put("a", 3000)
    assert table.units == (0, 3)
    table.client.update_item(
        TableName="jobs",
        Key=table.key("a"),
        UpdateExpression="SET n = :n",
        ExpressionAttributeValues={":n": {"N": "1"}},
    )
    assert table.units == (0, 3)


def test_a_failed_condition_is_charged_as_a_write(table: Table) -> None:
    table.put("a", 100)
    assert table.units == (0, 1)
    with refused("ConditionalCheckFailedException"):
        table.put("a", 2000, ConditionExpression="attribute_not_exists(pk)")
    assert table.units == (0, 2)


def test_a_read_unit_is_4_kb_and_half_of_it_if_a_little_late_will_do(table: Table) -> None:
    table.put("a", 4097)
    assert table.units == (0, 5)
    table.client.get_item(TableName="jobs", Key=table.key("a"), ConsistentRead=True)
    assert table.units == (2, 0)
    table.client.get_item(TableName="jobs", Key=table.key("a"))
    assert table.units == (1, 0)
    table.client.get_item(TableName="jobs", Key=table.key("none"), ConsistentRead=True)
    assert table.units == (1, 0)


def test_a_batch_rounds_each_item_up_and_a_query_all_of_them(table: Table) -> None:
    for name in "abc":
        table.put(name, 1000)
    assert table.units == (0, 3)
    keys = [table.key(name) for name in "abcd"]
    table.client.batch_get_item(RequestItems={"jobs": {"Keys": keys, "ConsistentRead": True}})
    assert table.units == (4, 0)
    table.client.query(TableName="jobs", KeyConditionExpression="pk = :p", ExpressionAttributeValues={":p": {"S": "p"}})
    assert table.units == (0.5, 0)


def test_a_transaction_costs_twice_also_if_it_is_cancelled(table: Table) -> None:
    item = {**table.key("a"), "v": {"S": "x" * 1500}}
    put = {"Put": {"TableName": "jobs", "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}}
    table.client.transact_write_items(TransactItems=[put])
    assert table.units == (0, 4)
    with refused("TransactionCanceledException"):
        table.client.transact_write_items(TransactItems=[put])
    assert table.units == (0, 4)


def test_the_dollars_of_tables(table: Table, bill: Bill) -> None:
    table.put("a", 100)
    table.client.get_item(TableName="jobs", Key=table.key("a"))
    assert bill.by_kind() == pytest.approx({"table-writes": 0.625 / 1e6, "table-reads": 0.5 * 0.125 / 1e6})


@pytest.mark.parametrize(
    ("value", "size"),
    [
        ({"S": "äb"}, 3),
        ({"N": "1234"}, 3),
        ({"BOOL": True}, 1),
        ({"NULL": True}, 1),
        ({"L": [{"S": "abc"}, {"N": "7"}]}, 3 + 4 + 2),
        ({"M": {"k": {"S": "abc"}}}, 3 + 1 + 1 + 3),
        ({"SS": ["ab", "c"]}, 3),
        ({"B": b"abcd"}, 4),
    ],
)
def test_the_size_of_an_attribute(value: dict[str, Any], size: int) -> None:
    assert item_bytes({"n": value}) == 1 + size


# -- Lambda, logs, metrics, S3 -----------------------------------------------------------------------------------------

SLEEPER = """
    from . import runtime
    def handler(event, context):
        runtime.sleep(2)
        for _ in range(3):
            runtime.client("cloudwatch").put_metric_data(Namespace="N", MetricData=[{"MetricName": "M", "Value": 1}])
        runtime.log({"said": "x" * 100})
"""


def sleeper(account: ServicesAccount, **settings: Any) -> None:
    account.function("sleeper", package(SLEEPER), allow("cloudwatch:PutMetricData"), **settings)


def test_a_run_is_billed_by_its_time_its_calls_and_its_memory(account: ServicesAccount, bill: Bill) -> None:
    sleeper(account, MemorySize=256, Architectures=["arm64"])
    assumed = bill.requests.assumed
    for _ in range(2):
        account.aws.invoke(FunctionName="sleeper")
    seconds = 2 * (2 + assumed.run_s + 3 * assumed.call_s) + assumed.init_s  # the second finds an environment
    assert bill.by_kind()["function-time-arm64"] == pytest.approx(seconds * 0.25 * 0.0000133334, rel=1e-6)
    assert bill.by_kind()["function-requests"] == pytest.approx(2 * 0.2 / 1e6)


def test_the_other_processor_costs_more(account: ServicesAccount, bill: Bill) -> None:
    bill.requests.assumed.run_s = bill.requests.assumed.call_s = bill.requests.assumed.init_s = 0.0
    sleeper(account, MemorySize=1024)
    account.aws.invoke(FunctionName="sleeper")
    assert bill.by_kind()["function-time-x86_64"] == pytest.approx(2 * 0.0000166667)


def test_a_run_that_times_out_is_billed_up_to_then(account: ServicesAccount, bill: Bill) -> None:
    bill.requests.assumed.init_s = 0.0
    sleeper(account, MemorySize=1024, Timeout=1)
    account.aws.invoke(FunctionName="sleeper")
    assert used(bill, "function-time-x86_64") == pytest.approx(1.0)


def test_log_lines_are_billed_by_their_bytes(account: ServicesAccount, bill: Bill) -> None:
    sleeper(account)
    account.aws.invoke(FunctionName="sleeper")
    line = len(json.dumps({"said": "x" * 100})) + 26
    assert used(bill, "logs") * 1e9 == pytest.approx(line + bill.requests.assumed.platform_bytes)
    assert bill.by_kind()["logs"] == pytest.approx(used(bill, "logs") * 0.5)


def test_a_custom_metric_costs_in_each_hour_in_which_it_is_sent(account: ServicesAccount, bill: Bill) -> None:
    client = account.cloud.client("cloudwatch")

    def send(name: str, **dimensions: str) -> None:
        given = [{"Name": key, "Value": value} for key, value in dimensions.items()]
        client.put_metric_data(Namespace="N", MetricData=[{"MetricName": name, "Value": 1, "Dimensions": given}])

    send("A")
    send("A")
    send("A", Stack="dev")
    assert used(bill, "metrics") == 2
    account.clock.run_for(HOUR)
    send("A")
    assert used(bill, "metrics") == 3
    assert bill.by_kind()["metrics"] == pytest.approx(3 * 0.30 / 730)


def test_writes_of_metrics_cost_a_role(account: ServicesAccount, bill: Bill) -> None:
    sleeper(account)
    account.aws.invoke(FunctionName="sleeper")
    assert bill.by_kind()["metric-requests"] == pytest.approx(3 * 0.01 / 1000)


def test_each_metric_that_a_role_reads_costs_as_a_request(account: ServicesAccount, bill: Bill) -> None:
    account.role("reader", allow("cloudwatch:GetMetricData"))
    stats = [
        {"Id": f"m{i}", "MetricStat": {"Metric": {"Namespace": "N", "MetricName": "M"}, "Period": 60, "Stat": "Sum"}}
        for i in range(3)
    ]
    asked = {
        "MetricDataQueries": [*stats, {"Id": "e", "Expression": "m0 + m1"}],
        "StartTime": START,
        "EndTime": START + 60,
    }
    account.cloud.client("cloudwatch").get_metric_data(**asked)
    account.cloud.client("cloudwatch", "reader").get_metric_data(**asked)
    assert bill.by_kind() == pytest.approx({"metric-requests": 3 * 0.01 / 1000})


def test_results_cost_also_when_they_are_there_already(account: ServicesAccount, bill: Bill) -> None:
    account.cloud.client("s3").create_bucket(Bucket="results")
    account.role("worker", allow(["s3:PutObject", "s3:GetObject"], "arn:aws:s3:::results/*"))
    worker = account.cloud.client("s3", "worker")
    worker.put_object(Bucket="results", Key="a", Body=b"1", IfNoneMatch="*")
    with refused("PreconditionFailed"):
        worker.put_object(Bucket="results", Key="a", Body=b"1", IfNoneMatch="*")
    worker.get_object(Bucket="results", Key="a")
    account.cloud.client("s3").get_object(Bucket="results", Key="a")
    assert bill.by_kind() == pytest.approx({"object-puts": 2 * 0.005 / 1e3, "object-gets": 0.0004 / 1e3})


def test_elsewhere_everything_costs_its_multiple() -> None:
    with Cloud(START, region="eu-west-1") as cloud:
        account = ServicesAccount(cloud)
        bill = Bill(cloud, Machines(cloud))
        cloud.client("kms").create_key()
        account.clock.run_for(HOUR)
        account.sqs.send_message(QueueUrl=account.queue("jobs"), MessageBody="x")
        account.clock.run_for(73 * HOUR)
        assert bill.by_kind()["queue-requests"] == pytest.approx(1.11 * 0.40 / 1e6)
        assert bill.by_kind()["key"] == pytest.approx(1.11 * 0.1, rel=0.02)
        assert bill.total() == pytest.approx(sum(bill.by_kind().values()))


# -- NAT bytes ---------------------------------------------------------------------------------------------------------


class Network(Account):
    """The first subnet reaches the world through a NAT gateway, the second does not."""

    def __init__(self, cloud: Cloud) -> None:
        super().__init__(cloud)
        self.bill = Bill(cloud, self.machines)
        self.ec2_model.on_network_change.append(self.bill.observe)
        subnet = self.ec2.describe_subnets(SubnetIds=self.subnets[:1])["Subnets"][0]
        address = self.ec2.allocate_address(Domain="vpc")["AllocationId"]
        made = self.ec2.create_nat_gateway(SubnetId=self.subnets[1], AllocationId=address)["NatGateway"]
        self.gateway = made["NatGatewayId"]
        table = self.ec2.create_route_table(VpcId=subnet["VpcId"])["RouteTable"]["RouteTableId"]
        self.ec2.create_route(RouteTableId=table, DestinationCidrBlock="0.0.0.0/0", NatGatewayId=self.gateway)
        self.ec2.associate_route_table(RouteTableId=table, SubnetId=self.subnets[0])

    def gigabytes(self) -> dict[str, float]:
        used = self.bill.usage.used(0.0, self.clock.now())
        return {item: quantity for kind, item, quantity, _ in used if kind == "nat-bytes"}


@pytest.fixture
def network() -> Iterator[Network]:
    with Cloud(START, seed=1) as cloud:
        yield Network(cloud)


def test_a_boot_fetches_through_the_gateway_behind_its_subnet(network: Network) -> None:
    network.make_group(VPCZoneIdentifier=network.subnets[0], DesiredCapacity=2)
    network.make_group("elsewhere", VPCZoneIdentifier=network.subnets[1], DesiredCapacity=2)
    network.clock.run_for(120)
    assert len(network.running()) == 4
    assert network.gigabytes().keys() == {network.gateway}
    assert 0.7 <= network.gigabytes()[network.gateway] <= 1.0
    cost = network.bill.by_kind()["nat-bytes"]
    assert cost == pytest.approx(network.gigabytes()[network.gateway] * 0.045)


def test_an_instance_that_never_runs_fetches_nothing(network: Network) -> None:
    network.machines.fail_next_boots(1)
    network.make_group(VPCZoneIdentifier=network.subnets[0], DesiredCapacity=1)
    network.clock.run_for(50)
    assert network.gigabytes() == {}


def test_the_knob_of_a_boot(network: Network) -> None:
    network.bill.nat.gb_per_boot = lambda instance: 2.5
    network.make_group(VPCZoneIdentifier=network.subnets[0], DesiredCapacity=1)
    network.clock.run_for(120)
    assert network.gigabytes() == {network.gateway: 2.5}


@pytest.mark.parametrize(
    ("image", "least", "most"),
    [("1.dkr.ecr.us-east-1.amazonaws.com/vllm", 0.3, 0.5), ("docker.io/vllm", 8.3, 12.5),
     ("1.dkr.ecr.eu-west-1.amazonaws.com/vllm", 8.3, 12.5)],
)  # fmt: skip
def test_an_image_from_another_registry_passes_the_gateway_whole(
    network: Network, image: str, least: float, most: float
) -> None:
    user_data = base64.b64encode(json.dumps({"model": {"image": image}}).encode()).decode()
    template = network.make_template("image", UserData=user_data)
    network.make_group(
        VPCZoneIdentifier=network.subnets[0], DesiredCapacity=1, LaunchTemplate={"LaunchTemplateId": template}
    )
    network.clock.run_for(120)
    assert least <= network.gigabytes()[network.gateway] <= most


def test_calls_and_jobs_of_a_node_pass_it_but_not_those_to_tables_and_buckets(network: Network) -> None:
    network.bill.nat.gb_per_boot = lambda instance: 0.0
    network.make_group(VPCZoneIdentifier=network.subnets[0], DesiredCapacity=1)
    network.clock.run_for(60)
    (instance,) = network.machines.instances.values()
    nat = network.bill.nat
    nat.heard(instance, "sqs", "ReceiveMessage", {"Messages": [{"Body": "x" * 5000}]})
    nat.heard(instance, "sqs", "DeleteMessage", {})
    nat.heard(instance, "s3", "PutObject", {})
    nat.heard(instance, "dynamodb", "UpdateItem", {})
    assert network.gigabytes()[network.gateway] * 1e6 == pytest.approx(3 + 20 + 5 + 3)


def test_the_gateway_s_own_metrics_count_what_is_charged(network: Network) -> None:
    cloudwatch = CloudWatchModel(network.cloud)
    network.cloud.register("cloudwatch", cloudwatch)
    connect(network.cloud, network.bill)
    network.make_group(VPCZoneIdentifier=network.subnets[0], DesiredCapacity=2)
    network.clock.run_for(300)
    key = ("AWS/NATGateway", "BytesInFromDestination", (("NatGatewayId", network.gateway),))
    counted = sum(point.total for point in cloudwatch.store.series[key].values())
    assert counted / 1e9 == pytest.approx(network.gigabytes()[network.gateway])
    assert len(cloudwatch.store.series[key]) == 5, "zeros too"
    network.ec2.delete_nat_gateway(NatGatewayId=network.gateway)
    network.clock.run_for(300)
    assert len(cloudwatch.store.series[key]) == 5


# -- whose money -------------------------------------------------------------------------------------------------------


def test_the_quick_way_and_the_long_way_make_the_same_bill(network: Network) -> None:
    """Instances that are gone are summed up once; a bill of the same span made anew must not differ."""
    network.make_spot_group(DesiredCapacity=2)
    network.make_group(DesiredCapacity=1)
    network.clock.run_for(2 * HOUR)
    for instance_id in network.ids("spot"):
        network.terminate(instance_id)
    network.clock.run_for(2 * HOUR)
    start, _ = month_bounds("2026-11")
    now = network.clock.now()
    quick, anew = network.bill.lines(), network.bill.between(start, now, now)
    assert {line[:2]: line.usd for line in quick} == pytest.approx({line[:2]: line.usd for line in anew})
    assert network.bill.total() == pytest.approx(math.fsum(line.usd for line in anew))
    assert {line.kind for line in quick} >= {"spot", "on-demand", "disk", "nat", "address", "nat-bytes"}


def test_days_of_a_month_add_up_to_it(network: Network) -> None:
    network.make_group(DesiredCapacity=1)
    network.clock.run_for(60 * HOUR)
    now = network.clock.now()
    days = [network.bill.between(START + d * 43_200, min(now, START + (d + 1) * 43_200), now) for d in range(6)]
    assert math.fsum(line.usd for day in days for line in day) == pytest.approx(network.bill.total())


def test_a_spot_instance_taken_back_across_midnight_of_the_month_is_free_in_both() -> None:
    with Cloud(month_bounds("2026-12")[0] - 900, seed=1) as cloud:
        account = Account(cloud)
        bill = Bill(cloud, account.machines)
        account.make_spot_group(DesiredCapacity=1)
        account.clock.run_for(1500)
        assert bill.by_kind("2026-11")["spot"] > 0
        (victim,) = account.ids("spot")
        account.desire(0, "spot")
        account.machines.interrupt(victim)
        account.clock.run_for(600)
        assert "spot" not in bill.by_kind("2026-11")
        assert "spot" not in bill.by_kind("2026-12")


def test_prices_are_positive() -> None:
    named = {name: value for name, value in vars(prices).items() if name.isupper() and isinstance(value, float)}
    assert len(named) > 15
    assert all(value > 0 for value in named.values())


def test_the_total_of_any_past_moment_is_that_of_its_lines(network: Network) -> None:
    """However many instances were gone by then, and whenever it is asked for."""
    network.make_spot_group(DesiredCapacity=2)
    network.make_group(DesiredCapacity=1)
    moments = []
    for _ in range(6):
        network.clock.run_for(1000)
        moments.append(network.clock.now())
        network.terminate(network.ids("spot")[0], decrement=False)
    network.clock.run_for(2 * HOUR)
    start = month_bounds("2026-11")[0]
    totals = [network.bill.total(as_of=at) for at in moments]
    assert totals == sorted(totals)
    assert len(set(totals)) == 6
    for at, total in zip(moments, totals, strict=True):
        assert math.fsum(line.usd for line in network.bill.lines(as_of=at)) == pytest.approx(total)
        assert math.fsum(line.usd for line in network.bill.between(start, at, at)) == pytest.approx(total)
