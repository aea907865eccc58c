"""The AWS provider as a plugin of the Pulumi engine: the embedded cloud's resource handlers behind Pulumi's protocol.

The engine starts it (`pulumi-resource-aws` on PATH), reads the port from its first line, and ends it. Everything that
lasts is in the cloud behind AWS_ENDPOINT_URL and in the stack's state.
Source: pulumi/proto/pulumi/provider.proto, "Provider Protocol".
"""

from __future__ import annotations

import os
import random
from dataclasses import replace
from importlib.metadata import version
from typing import Any

from google.protobuf import empty_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from ..errors import AwsError, NotModelledError
from ..handlers import Asked, PartlyMade, Provider, explained, handler, ignoring, invoke
from ..handlers.account import Account
from ..handlers.properties import Change
from ..wire import plain, wire
from . import messages
from .failures import Unfinished, told
from .messages import Properties
from .remote import RemoteAccount
from .serving import serve

_KINDS = provider_pb2.PropertyDiff


class TwinProvider(provider_pb2_grpc.ResourceProviderServicer):
    """One configured provider. `account`: the cloud it acts on; `version`: that of the Pulumi package it stands for."""

    def __init__(self, account: Account, version: str) -> None:
        self._account, self._version = account, version
        self._default_tags: dict[str, str] = {}

    # -- the provider itself ------------------------------------------------------------------------------------

    def GetPluginInfo(self, request: Any, context: Any) -> plugin_pb2.PluginInfo:  # noqa: N802 - the protocol's names
        return plugin_pb2.PluginInfo(version=self._version)

    def Cancel(self, request: Any, context: Any) -> empty_pb2.Empty:  # noqa: N802
        return empty_pb2.Empty()  # every call to the cloud ends by itself within its own time

    @told("checking the provider's settings")
    def CheckConfig(self, request: Any) -> provider_pb2.CheckResponse:  # noqa: N802
        news, _ = plain(request.news)
        try:
            Provider().check(self._account, news, Asked(_name(request.urn), random.Random(0)))  # noqa: S311 - chooses nothing
        except _REFUSALS as error:
            return provider_pb2.CheckResponse(failures=[_failure(error)])
        return provider_pb2.CheckResponse(inputs=request.news)

    @told("comparing the provider's settings")
    def DiffConfig(self, request: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        kind = Provider()
        known = {name for name in (*request.old_inputs.fields, *request.news.fields) if name in kind.props}
        olds, news = (
            {k: v for k, v in plain(one)[0].items() if k in known} for one in (request.old_inputs, request.news)
        )
        return _diff_response(kind.diff(olds, news).changes, delete_first=False)

    @told("configuring the provider")
    def Configure(self, request: Any) -> provider_pb2.ConfigureResponse:  # noqa: N802
        config = {name: value for name, value in plain(request.args)[0].items() if not name.startswith("__")}
        Provider().make(self._account, config)
        self._default_tags = Provider.default_tags(config)
        return provider_pb2.ConfigureResponse(supportsPreview=True, acceptSecrets=True)

    @told("calling a function")
    def Invoke(self, request: Any) -> provider_pb2.InvokeResponse:  # noqa: N802
        args, secrets = plain(request.args)
        try:
            answer = invoke(self._account, request.tok, args)
        except _REFUSALS as error:
            return provider_pb2.InvokeResponse(failures=[_failure(error)])
        response = provider_pb2.InvokeResponse()
        found = wire(answer, tuple(answer) if secrets else ())  # an answer may repeat what it was asked by
        getattr(response, "return").CopyFrom(found)  # a keyword of Python
        return response

    # -- resources ----------------------------------------------------------------------------------------------

    @told("checking")
    def Check(self, request: Any) -> provider_pb2.CheckResponse:  # noqa: N802
        kind = handler(_type(request.urn))
        olds = messages.read(kind, request.olds) if request.HasField("olds") else None
        news = messages.read(kind, request.news)
        chosen = random.Random(request.randomSeed)  # noqa: S311 - names, no secret
        asked = Asked(
            _name(request.urn), chosen, self._default_tags, olds and olds.values, bool(olds and olds.auto_named)
        )
        try:
            inputs = kind.check(self._account, news.values, asked)
        except _REFUSALS as error:
            return provider_pb2.CheckResponse(failures=[_failure(error)])
        news.auto_named = kind.names_itself(news.values) or bool(
            olds and olds.auto_named and kind.kept_name(olds.values, inputs)
        )
        return provider_pb2.CheckResponse(inputs=messages.write(kind, inputs, news))

    @told("comparing")
    def Diff(self, request: Any) -> provider_pb2.DiffResponse:  # noqa: N802
        kind = handler(_type(request.urn))
        olds, news = messages.read(kind, request.old_inputs), messages.read(kind, request.news)
        wanted = ignoring(olds.values, news.values, list(request.ignoreChanges))
        diff = kind.diff(olds.values, wanted, news.auto_named)
        if messages.read(kind, request.olds).unfinished:
            again = Change("__unfinished", True, None, replace=True)
            return _diff_response((*diff.changes, again), delete_first=True)
        return _diff_response(diff.changes, delete_first=diff.delete_first)

    @told("creating")
    def Create(self, request: Any) -> provider_pb2.CreateResponse:  # noqa: N802
        kind = handler(_type(request.urn))
        inputs = messages.read(kind, request.properties)
        beside = Properties({}, files=inputs.files, sent=inputs.sent)
        if request.preview:
            return provider_pb2.CreateResponse(properties=messages.write(kind, inputs.values, beside))
        try:
            identifier, outputs = kind.create(self._account, dict(inputs.values))
        except PartlyMade as error:
            beside.unfinished = True
            raise Unfinished(error, messages.write(kind, inputs.values, beside)) from error
        return provider_pb2.CreateResponse(id=identifier, properties=messages.write(kind, outputs, beside))

    @told("reading")
    def Read(self, request: Any) -> provider_pb2.ReadResponse:  # noqa: N802
        kind = handler(_type(request.urn))
        known, state = messages.read(kind, request.inputs), messages.read(kind, request.properties)
        identifier, given = kind.imported(request.id) if not (known.values or state.values) else (request.id, {})
        live = kind.read(self._account, identifier, {**state.values, **known.values, **given})
        if live is None:
            return provider_pb2.ReadResponse()
        inputs = kind.inputs_of(live, known.values)
        beside = Properties({}, files={**state.files, **known.files}, sent=state.sent + known.sent)
        return provider_pb2.ReadResponse(
            id=identifier,
            properties=messages.write(kind, live, replace(beside, unfinished=state.unfinished)),
            inputs=messages.write(kind, inputs, replace(beside, auto_named=known.auto_named)),
        )

    @told("updating")
    def Update(self, request: Any) -> provider_pb2.UpdateResponse:  # noqa: N802
        kind = handler(_type(request.urn))
        olds, news = messages.read(kind, request.old_inputs), messages.read(kind, request.news)
        beside = Properties({}, files=news.files, sent=news.sent)
        if request.preview:
            planned = {**messages.read(kind, request.olds).values, **news.values}
            outputs = {name: value for name, value in planned.items() if name not in kind.unsettled}
            return provider_pb2.UpdateResponse(properties=messages.write(kind, outputs, beside))
        wanted = ignoring(olds.values, news.values, list(request.ignoreChanges))
        changed = {change.top for change in kind.diff(olds.values, wanted).changes}
        _, outputs = kind.update(self._account, request.id, dict(olds.values), dict(wanted), changed)
        return provider_pb2.UpdateResponse(properties=messages.write(kind, outputs, beside))

    @told("deleting")
    def Delete(self, request: Any) -> empty_pb2.Empty:  # noqa: N802
        kind = handler(_type(request.urn))
        inputs, state = messages.read(kind, request.old_inputs), messages.read(kind, request.properties)
        kind.delete(self._account, request.id, {**inputs.values, **state.values})
        return empty_pb2.Empty()


_REFUSALS = (AwsError, NotModelledError)


def _type(urn: str) -> str:
    return urn.split("::")[2].rsplit("$", 1)[-1]


def _name(urn: str) -> str:
    return urn.split("::", 3)[3]


def _diff_response(changes: tuple[Change, ...], *, delete_first: bool) -> provider_pb2.DiffResponse:
    replaces = [change.path for change in changes if change.replace]
    return provider_pb2.DiffResponse(
        changes=provider_pb2.DiffResponse.DIFF_SOME if changes else provider_pb2.DiffResponse.DIFF_NONE,
        diffs=sorted({change.top for change in changes}),
        replaces=replaces,
        deleteBeforeReplace=bool(replaces) and delete_first,
        hasDetailedDiff=True,
        detailedDiff={change.path: provider_pb2.PropertyDiff(kind=_kind(change), inputDiff=True) for change in changes},
    )


def _kind(change: Change) -> Any:
    if change.old is None:
        return _KINDS.ADD_REPLACE if change.replace else _KINDS.ADD
    if change.new is None:
        return _KINDS.DELETE_REPLACE if change.replace else _KINDS.DELETE
    return _KINDS.UPDATE_REPLACE if change.replace else _KINDS.UPDATE


def _failure(error: Exception) -> provider_pb2.CheckFailure:
    return provider_pb2.CheckFailure(reason=explained(error))


def main() -> None:
    """Serve the provider on the cloud that the environment names."""
    url = os.environ.get("AWS_ENDPOINT_URL")
    if not url:
        raise SystemExit('no embedded cloud is named: eval "$(gpufleet twin env)" in this shell first')
    provider = TwinProvider(RemoteAccount(url), version("pulumi_aws"))
    serve(lambda server: provider_pb2_grpc.add_ResourceProviderServicer_to_server(provider, server))


if __name__ == "__main__":
    main()
