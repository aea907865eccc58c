"""The explicit AWS provider of a program. Default providers are off in this project: their region follows the shell."""

from __future__ import annotations

import pulumi_aws as aws

from ..naming import MANAGED_BY_TAG, STACK_TAG


def provider(name: str, region: str, stack: str) -> aws.Provider:
    """A provider for `region` that also tags what a component has no tags argument for (S3 objects).

    Only two tags: an S3 object takes ten at most, and the components tag everything else in full themselves.
    """
    return aws.Provider(
        name,
        region=region,
        default_tags={"tags": {STACK_TAG: stack, MANAGED_BY_TAG: "pulumi"}},
        skip_metadata_api_check=True,  # credentials come from the environment or OIDC, not from an instance
    )
