"""What every stack's graph must be, whatever the stack: run on the real program with the real stack files."""

from __future__ import annotations

import json
import re

import pytest
import wire
from harness import ROOT, Graph, stack_config

from components import costs
from gpufleet.twin.services.schedules import matches, parse_pattern

STACKS = ["dev", "staging", "prod"]
OURS = {"gpu-inference-stack", "gpu-inference-component", "managed-by"}
# S3 objects take ten tags only; the provider's two default tags mark them.
TAGGED_BY_PROVIDER = {"aws:s3/bucketObjectv2:BucketObjectv2"}
STATEFUL = {"aws:sqs/queue:Queue", "aws:dynamodb/table:Table", "aws:s3/bucket:Bucket"}


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def both(stack, graph) -> list[Graph]:
    return [graph(stack), graph(stack, preview=True)]


def test_a_preview_shows_every_resource_of_the_update(both):
    """No resource is made inside an apply, where a preview would not see it."""
    update, preview = both
    assert set(preview.by_urn()) == set(update.by_urn())


def test_no_two_resources_share_a_urn(both):
    for one in both:
        urns = [resource.urn for resource in one.resources]
        assert len(set(urns)) == len(urns)


def test_everything_uses_the_one_explicit_provider(both):
    """A default provider would take its region from the shell that runs `pulumi up`."""
    for one in both:
        assert len(one.of_type("pulumi:providers:aws")) == 1
        used = {resource.provider for resource in one.resources if resource.type.startswith("aws:")}
        used |= {provider for _, _, provider in one.invokes}
        assert len(used) == 1
        assert "pulumi:providers:aws::aws::" in used.pop()


def test_the_provider_deploys_to_the_stacks_region(graph, stack):
    (provider,) = graph(stack).of_type("pulumi:providers:aws")
    assert provider.inputs["region"] == stack_config(ROOT / f"Pulumi.{stack}.yaml")["aws:region"]


def test_every_input_is_one_the_provider_knows(both):
    """A misspelt key in a nested block is dropped without a word."""
    for one in both:
        for resource in one.resources:
            if resource.type.startswith("aws:"):
                assert wire.unknown_inputs(resource.type, resource.inputs) == [], resource.urn


def test_ignored_paths_begin_with_a_real_input(both):
    """In snake case, or misspelt, an ignored path does nothing."""
    seen = 0
    for one in both:
        for resource in one.resources:
            for path in resource.ignore_changes:
                assert re.split(r"[.\[]", path)[0] in wire.input_names(resource.type), (resource.urn, path)
                seen += 1
    assert seen > 0


def test_everything_that_can_carry_tags_carries_them(graph, stack):
    wanted = {"gpu-inference-stack": stack, "gpu-inference-component": "inference", "managed-by": "pulumi"}
    own = json.loads(stack_config(ROOT / f"Pulumi.{stack}.yaml").get("gpu-inference:tags", "{}"))
    for resource in graph(stack).resources:
        taggable = resource.type.startswith("aws:") and "tags" in wire.input_names(resource.type)
        if not taggable or resource.type in TAGGED_BY_PROVIDER:
            continue
        tags = resource.inputs.get("tags", {})
        if isinstance(tags, list):
            tags = {tag["key"]: tag["value"] for tag in tags}
        assert {**wanted, **own}.items() <= tags.items(), resource.urn


def test_instances_and_volumes_carry_the_tag_the_meter_finds_them_by(graph, stack):
    wanted = {"gpu-inference-fleet": f"inference-{stack}", "gpu-inference-stack": stack}
    groups = graph(stack).of_type("aws:autoscaling/group:Group")
    assert len(groups) == 2
    for group in groups:
        propagated = {tag["key"]: tag["value"] for tag in group.inputs["tags"] if tag["propagateAtLaunch"]}
        assert wanted.items() <= propagated.items()
    (template,) = graph(stack).of_type("aws:ec2/launchTemplate:LaunchTemplate")
    marked = {one["resourceType"]: one["tags"] for one in template.inputs["tagSpecifications"]}
    assert set(marked) == {"instance", "volume"}
    assert all(wanted.items() <= tags.items() for tags in marked.values())


def test_nothing_that_looks_like_a_secret_is_in_the_graph(both):
    looks = re.compile(r"AKIA[0-9A-Z]{16}|-----BEGIN|(password|secret_?key|api_?key|token)[\"']?\s*[:=]", re.IGNORECASE)
    for one in both:
        for resource in one.resources:
            assert not looks.search(json.dumps(resource.inputs)), resource.urn


def test_what_holds_state_is_protected_where_it_matters(graph):
    kept = {"inference-queue", "inference-dlq", "inference-jobs", "inference-control", "inference-results"}
    for name, expected in {"dev": set(), "staging": kept, "prod": kept}.items():
        assert {one.name for one in graph(name).resources if one.protect} == expected
    for table in graph("prod").of_type("aws:dynamodb/table:Table"):
        assert table.inputs["deletionProtectionEnabled"] is True


def test_everything_stored_or_sent_is_encrypted(graph, stack):
    one = graph(stack)
    assert all(queue.inputs["sqsManagedSseEnabled"] for queue in one.of_type("aws:sqs/queue:Queue"))
    assert all(table.inputs["serverSideEncryption"]["enabled"] for table in one.of_type("aws:dynamodb/table:Table"))
    assert all(topic.inputs["kmsMasterKeyId"] for topic in one.of_type("aws:sns/topic:Topic"))
    assert len(one.of_type("aws:sqs/queuePolicy:QueuePolicy")) == len(one.of_type("aws:sqs/queue:Queue"))
    for policy in one.of_type("aws:sqs/queuePolicy:QueuePolicy") + one.of_type("aws:s3/bucketPolicy:BucketPolicy"):
        denied = json.loads(policy.inputs["policy"])["Statement"][0]
        assert denied["Effect"] == "Deny"
        assert denied["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}


def test_every_function_has_logs_that_end_dead_letters_and_alarms(graph, stack):
    one = graph(stack)
    functions = {function.inputs["name"] for function in one.of_type("aws:lambda/function:Function")}
    assert functions == {f"inference-{kind}-{stack}" for kind in ("controller", "scale-to-zero", "keeper")}
    logs = {group.inputs["name"]: group.inputs for group in one.of_type("aws:cloudwatch/logGroup:LogGroup")}
    assert set(logs) == {f"/aws/lambda/{name}" for name in functions}
    assert all(group["retentionInDays"] for group in logs.values())
    invokes = one.of_type("aws:lambda/functionEventInvokeConfig:FunctionEventInvokeConfig")
    assert {one.inputs["functionName"] for one in invokes} == functions
    assert all(one.inputs["destinationConfig"]["onFailure"]["destination"] for one in invokes)
    watched = [alarm.inputs.get("dimensions", {}) for alarm in one.of_type("aws:cloudwatch/metricAlarm:MetricAlarm")]
    assert functions <= {dimensions.get("FunctionName") for dimensions in watched}
    queues = {queue.inputs["name"] for queue in one.of_type("aws:sqs/queue:Queue") if "dlq" in queue.name}
    assert queues <= {dimensions.get("QueueName") for dimensions in watched}


def test_every_alarm_reaches_people(graph, stack):
    (topic,) = [one for one in graph(stack).of_type("aws:sns/topic:Topic") if one.name == "inference-alerts"]
    for alarm in graph(stack).of_type("aws:cloudwatch/metricAlarm:MetricAlarm"):
        (told,) = alarm.inputs["okActions"]
        assert told.endswith(topic.inputs["name"])
        assert alarm.inputs["alarmActions"][0] == told


def test_the_backstop_alone_sets_off_a_policy_and_it_asks_for_one_spot_instance(graph, stack):
    one = graph(stack)
    (policy,) = one.of_type("aws:autoscaling/policy:Policy")
    assert policy.inputs["autoscalingGroupName"] == f"inference-asg-{stack}"
    assert (policy.inputs["policyType"], policy.inputs["adjustmentType"]) == ("StepScaling", "ExactCapacity")
    assert [step["scalingAdjustment"] for step in policy.inputs["stepAdjustments"]] == [1]
    alarms = one.of_type("aws:cloudwatch/metricAlarm:MetricAlarm")
    assert [alarm.name for alarm in alarms if len(alarm.inputs["alarmActions"]) > 1] == ["inference-backstop-alarm"]
    assert one.named("inference-backstop-alarm").inputs["treatMissingData"] == "notBreaching"


@pytest.mark.parametrize("edits", [{"spot": False}, {"onDemandBase": 1}])
def test_where_the_first_instance_is_on_demand_the_backstop_asks_for_that(graph, edits):
    (policy,) = graph("dev", **edits).of_type("aws:autoscaling/policy:Policy")
    assert policy.inputs["autoscalingGroupName"] == "inference-asg-dev-on-demand"


def test_a_dry_run_has_no_backstop(graph):
    one = graph("dev", advanced={"dryRun": True})
    assert one.of_type("aws:autoscaling/policy:Policy") == []


def test_the_fixed_costs_count_every_alarm_and_key(graph, stack):
    """They are part of the budget: what is made here and not counted there is overspent."""
    alarms = graph(stack).of_type("aws:cloudwatch/metricAlarm:MetricAlarm")
    read = [sum("metric" in query for query in alarm.inputs.get("metricQueries", [])) or 1 for alarm in alarms]
    assert sum(read) == costs.ALARMS
    dedicated = graph(stack, dedicatedAccount=True).of_type("aws:cloudwatch/metricAlarm:MetricAlarm")
    assert len(dedicated) == len(alarms) + costs.charges_alarm(True, "us-east-1")
    assert len(graph(stack).of_type("aws:kms/key:Key")) == 1
    assert len(graph(stack).of_type("aws:ec2/natGateway:NatGateway")) == 1


CHARGES = "inference-estimated-charges"


def test_in_a_dedicated_account_the_estimated_charges_reach_people_and_the_guard(graph):
    """EstimatedCharges without a service is the account's total of the month."""
    one = graph("dev", dedicatedAccount=True)
    alarm = one.named(CHARGES).inputs
    assert alarm["name"] == "inference-estimated-charges-dev"
    assert (alarm["namespace"], alarm["metricName"]) == ("AWS/Billing", "EstimatedCharges")
    assert (alarm["dimensions"], alarm["statistic"], alarm["period"]) == ({"Currency": "USD"}, "Maximum", 21_600)
    assert (alarm["comparisonOperator"], alarm["threshold"]) == ("GreaterThanOrEqualToThreshold", 150)
    assert alarm["treatMissingData"] == "ignore", "figures come hours apart: each gap would end the alarm"
    told, guard = alarm["alarmActions"]
    assert told.endswith(":inference-alerts-dev")
    assert guard == one.outputs["budgetTopicArn"]
    assert alarm["okActions"] == [told]
    subscribed = [resource.inputs for resource in one.of_type("aws:sns/topicSubscription:TopicSubscription")]
    assert [each["protocol"] for each in subscribed if each["topic"] == guard] == ["lambda"]


@pytest.mark.parametrize(
    ("why", "edits"),
    [
        ("the account's charges say nothing of one stack in it", {}),
        ("only us-east-1 has the metric", {"dedicatedAccount": True, "aws:region": "eu-central-1"}),
    ],
)
def test_elsewhere_no_alarm_watches_the_charges(graph, why, edits):
    one = graph("dev", **edits)
    assert [made.name for made in one.resources if made.name == CHARGES] == [], why
    assert one.named("inference-doubtful-prices").inputs["metricName"] == "DoubtfulPrices"


def test_the_guard_hears_of_every_instance_that_begins_or_ends_to_run(graph, stack):
    """The event that EC2 sends (EC2 user guide) passes the rule; other events and states do not."""
    one = graph(stack)
    rule = one.named("inference-scale-to-zero-events").inputs
    assert rule["name"] == f"inference-instance-states-{stack}"
    assert "scheduleExpression" not in rule
    pattern = json.dumps(json.loads(rule["eventPattern"]))
    event = {
        "id": "7bf73129-1428-4cd3-a780-95db273d1602",
        "detail-type": "EC2 Instance State-change Notification",
        "source": "aws.ec2",
        "account": "123456789012",
        "time": "2026-11-11T21:29:54Z",
        "region": "us-east-1",
        "resources": ["arn:aws:ec2:us-east-1:123456789012:instance/i-abcd1111"],
        "detail": {"instance-id": "i-abcd1111", "state": "running"},
    }
    for state in ("pending", "running", "stopping", "stopped", "shutting-down", "terminated"):
        wanted = state not in ("pending", "stopped")
        assert matches(parse_pattern(pattern), {**event, "detail": {**event["detail"], "state": state}}) == wanted
    assert not matches(parse_pattern(pattern), {**event, "detail-type": "EC2 Spot Instance Interruption Warning"})
    target = one.named("inference-scale-to-zero-events-target").inputs
    assert (target["rule"], target["targetId"]) == (rule["name"], "instance-states")
    allowed = [
        permission.inputs
        for permission in one.of_type("aws:lambda/permission:Permission")
        if permission.inputs["sourceArn"].endswith(f":rule/{rule['name']}")
    ]
    (permission,) = allowed
    assert (permission["principal"], permission["function"]) == (
        "events.amazonaws.com",
        f"inference-scale-to-zero-{stack}",
    )
    assert target["arn"].endswith(f":function:{permission['function']}")


def test_a_silent_meter_is_an_alarm_and_not_silence(graph, stack):
    alarm = graph(stack).named("inference-meter-silent").inputs
    assert (alarm["treatMissingData"], alarm["comparisonOperator"]) == ("breaching", "LessThanThreshold")


def test_the_outputs_are_what_an_operator_types(graph):
    one = graph("dev")
    assert one.outputs["spotGroup"] == "inference-asg-dev"
    assert one.outputs["onDemandGroup"] == "inference-asg-dev-on-demand"
    assert one.outputs["scaleToZeroFunction"] == "inference-scale-to-zero-dev"
    assert one.outputs["controllerFunction"] == "inference-controller-dev"
    assert one.outputs["queueUrl"].endswith("/inference-queue-dev")
    assert one.outputs["deadLetterQueueUrl"].endswith("/inference-dlq-dev")
    assert one.outputs["jobsTable"] == "inference-jobs-dev"
    assert one.outputs["controlTable"] == "inference-control-dev"
    assert one.outputs["resultsBucket"].startswith("inference-results-dev-")
    assert one.outputs["budgetTopicArn"].endswith(":inference-budget-dev")
    assert one.outputs["maxInstances"] == 1
    assert "$150.00" in one.outputs["budget"]
    assert "gpufleet resume --stack dev" in one.outputs["resumeHint"]
    assert one.outputs["fleetState"] == "may run"


def test_components_tell_what_they_are_and_that_they_are_done(graph, stack):
    """A component that never registers its outputs stays `creating` in the engine's eyes."""
    one = graph(stack)
    components = [resource for resource in one.resources if resource.type.startswith("gpu-inference:aws:")]
    assert len(components) == 9
    for component in components:
        assert component.inputs, component.urn
        assert component.urn in one.registered_outputs


def test_invokes_are_the_few_that_a_deploy_needs(graph, stack):
    assert {token.rsplit(":", 1)[-1] for token, _, _ in graph(stack).invokes} == {
        "getCallerIdentity",
        "getRegion",
        "getPartition",
        "getAvailabilityZones",
        "getParameter",
        "getGroup",
    }


def test_the_input_check_looks_into_nested_blocks():
    wrong = {"mixedInstancesPolicy": {"launchTemplate": {"overrides": [{"instanceKind": "g5.xlarge"}]}}, "maxsize": 1}
    assert wire.unknown_inputs("aws:autoscaling/group:Group", wrong) == [
        "mixedInstancesPolicy.launchTemplate.overrides[0].instanceKind",
        "maxsize",
    ]
