"""The AWS provider itself, as a resource of the program."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError, NotModelledError
from .account import Account
from .base import Asked, Handler, Inputs, Outputs
from .properties import UNKNOWN, Prop, has_unknown, names, table

# What steers how a provider reaches AWS means nothing here.
_MEANINGLESS = {
    "The twin has one account and asks for no credentials.": (
        "accessKey secretKey token profile sharedConfigFiles sharedCredentialsFiles assumeRoles "
        "assumeRoleWithWebIdentity skipCredentialsValidation skipMetadataApiCheck skipRequestingAccountId stsRegion"
    ),
    "The twin serves the one region that it was started for.": "skipRegionValidation",
    "The twin is reached at one address.": (
        "httpProxy httpsProxy noProxy endpoints s3UsePathStyle useDualstackEndpoint useFipsEndpoint"
    ),
    "The twin never throttles the operator, so there is nothing to try again.": "maxRetries retryMode",
    "The twin is its own provider, of the version that the program has installed.": "version pluginDownloadURL",
}


class Provider(Handler):
    """Explicit settings of a provider. Values other than text arrive as JSON, as Pulumi hands them to a provider."""

    type = "pulumi:providers:aws"
    props = table(
        {
            "region": Prop(replace=True),
            "defaultTags": Prop(kind="json"),
            "allowedAccountIds": Prop(kind="json"),
            "forbiddenAccountIds": Prop(kind="json"),
            **{name: prop for why, words in _MEANINGLESS.items() for name, prop in names(words, kept=why).items()},
        }
    )

    def check(self, cloud: Account, news: Mapping[str, Any], asked: Asked) -> Inputs:
        inputs = super().check(cloud, {k: v for k, v in news.items() if not k.startswith("__")}, asked)
        if inputs.get("region") in (None, ""):
            raise NotModelledError(f"provider {asked.name} has no region: set region= or config aws:region")
        return inputs

    def rules(self, inputs: Inputs) -> None:
        self.default_tags(inputs)

    @staticmethod
    def default_tags(inputs: Mapping[str, Any]) -> dict[str, str]:
        """The tags that the provider puts on every taggable resource."""
        given = inputs.get("defaultTags")
        if not given or has_unknown(given):
            return {}
        value = json.loads(given) if isinstance(given, str) else given
        unknown = set(value) - {"tags"}
        if unknown:
            raise NotModelledError(f"the twin does not model defaultTags.{', '.join(sorted(unknown))} of a provider")
        return value.get("tags") or {}

    def make(self, cloud: Account, inputs: Inputs) -> str:
        for name, wanted in (("allowedAccountIds", True), ("forbiddenAccountIds", False)):
            given = inputs.get(name)
            ids = json.loads(given) if isinstance(given, str) else given
            if ids and (cloud.account_id in ids) is not wanted:
                raise AwsError("InvalidAccount", f"AWS account ID not allowed: {cloud.account_id} ({name}: {ids})", 403)
        return f"{cloud.random.getrandbits(128):032x}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        return {name: value for name, value in inputs.items() if value != UNKNOWN}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        return  # nothing of it lives in AWS

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        return


HANDLERS = (Provider,)
