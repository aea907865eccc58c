"""The script that a node boots with: the template filled in, checked before EC2 would refuse it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components import payloads
from components.aws import user_data

TEMPLATE = "#!/bin/bash\nuri='@@PAYLOAD_URI@@'\nsum='@@PAYLOAD_SHA256@@'\ncat <<'NODE_JSON'\n@@NODE_JSON@@\nNODE_JSON\n"
URI = "s3://bucket/node/inference-dev/abc.zip"


def node_json(script: str) -> str:
    return script.split("<<'NODE_JSON'\n")[1].split("\nNODE_JSON\n", maxsplit=1)[0]


@given(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.text())))
def test_whatever_is_configured_arrives_as_it_is(config):
    """Also a value that ends a here-document, looks like a marker or spans lines."""
    script = user_data.render(TEMPLATE, config, URI, "ab12")
    assert json.loads(node_json(script)) == config


@pytest.mark.parametrize("value", ["\nNODE_JSON\nrm -rf /\n", "@@PAYLOAD_URI@@", "$(reboot)", "'\"\\"])
def test_a_value_cannot_leave_the_document(value):
    assert json.loads(node_json(user_data.render(TEMPLATE, {"a": value}, URI, "ab12"))) == {"a": value}


def test_the_shipped_template_renders_within_the_limit():
    script = user_data.render(payloads.user_data_template(), {"region": "us-east-1"}, URI, "a" * 64)
    assert "@@" not in script
    assert len(script.encode()) < user_data.LIMIT_BYTES


def test_a_script_that_ec2_would_refuse_is_refused_here():
    with pytest.raises(ValueError, match="EC2 takes 16384"):
        user_data.render(TEMPLATE, {"server_args": "x" * 17_000}, URI, "ab12")


@pytest.mark.parametrize(
    ("template", "says"),
    [
        (TEMPLATE + "@@STACK@@", "unknown marker @@STACK@@"),
        (TEMPLATE.replace("@@PAYLOAD_SHA256@@", ""), "marker @@PAYLOAD_SHA256@@ is missing"),
    ],
)
def test_a_template_and_its_renderer_must_agree(template, says):
    with pytest.raises(ValueError, match=says):
        user_data.render(template, {}, URI, "ab12")


@pytest.mark.parametrize("uri", ["s3://bucket/$(reboot)", "s3://bucket/a b", ""])
def test_a_payload_address_that_a_shell_would_read_is_refused(uri):
    with pytest.raises(ValueError, match="PAYLOAD_URI"):
        user_data.render(TEMPLATE, {}, uri, "ab12")
