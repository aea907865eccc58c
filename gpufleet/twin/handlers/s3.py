"""S3 buckets and their settings, each a resource of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Handler, Inputs, Naming, Outputs, finishing
from .properties import Fields, Prop, as_dict, as_list, block, blocks, from_api, names, table, to_api

GONE = ("NoSuchBucket", "404", "NotFound")
_NAME = re.compile(r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")  # S3 user guide, "General purpose bucket naming rules"


class Bucket(Handler):
    type = "aws:s3/bucket:Bucket"
    taggable, naming = True, Naming("bucket", "bucketPrefix", limit=63)
    gone = GONE
    props = table(
        {
            "bucket": Prop(replace=True),
            "forceDestroy": Prop(default=False, kept=STEERS_DELETION),
        }
    )
    outputs = "arn bucketDomainName bucketRegionalDomainName bucketRegion"

    def rules(self, inputs: Inputs) -> None:
        name = inputs["bucket"]
        if not _NAME.match(name) or ".." in name or re.match(r"^(xn--|sthree-|\d+\.\d+\.\d+\.\d+$)", name):
            raise AwsError("InvalidBucketName", f"The specified bucket is not valid: {name}")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        place = {} if cloud.region == "us-east-1" else {"LocationConstraint": cloud.region}
        s3, name = cloud.client("s3"), inputs["bucket"]
        s3.create_bucket(Bucket=name, **({"CreateBucketConfiguration": place} if place else {}))
        with finishing(name):
            if inputs.get("tags"):
                s3.put_bucket_tagging(Bucket=name, Tagging={"TagSet": as_list(inputs["tags"])})
            else:  # moto gives a bucket the tags of an earlier one of its name
                s3.delete_bucket_tagging(Bucket=name)
        return name

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        cloud.client("s3").head_bucket(Bucket=identifier)
        return {
            "bucket": identifier,
            "tags": self._tags(cloud, identifier),
            "arn": f"arn:aws:s3:::{identifier}",
            "bucketDomainName": f"{identifier}.s3.amazonaws.com",
            "bucketRegionalDomainName": f"{identifier}.s3.{cloud.region}.amazonaws.com",
            "bucketRegion": cloud.region,
        }

    def _tags(self, cloud: Account, bucket: str) -> dict[str, str]:
        answer = _unless(cloud, "get_bucket_tagging", ("NoSuchTagSet",), Bucket=bucket)
        return as_dict(answer["TagSet"]) if answer else {}

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        tags = {key: value for key, value in {**self._tags(cloud, identifier), **new}.items() if key not in gone}
        s3 = cloud.client("s3")
        if tags:
            s3.put_bucket_tagging(Bucket=identifier, Tagging={"TagSet": as_list(tags)})
        else:
            s3.delete_bucket_tagging(Bucket=identifier)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        s3 = cloud.client("s3")
        if outputs.get("forceDestroy"):
            for page in s3.get_paginator("list_object_versions").paginate(Bucket=identifier):
                for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                    s3.delete_object(Bucket=identifier, Key=item["Key"], VersionId=item["VersionId"])
        s3.delete_bucket(Bucket=identifier)


def _unless(cloud: Account, method: str, codes: tuple[str, ...], **params: Any) -> dict[str, Any] | None:
    """The answer of an S3 call, None when S3 says with one of `codes` that there is no such setting."""
    s3 = cloud.client("s3")
    try:
        return getattr(s3, method)(**params)
    except s3.exceptions.ClientError as error:
        if error.response["Error"]["Code"] not in codes:
            raise
        return None


class _BucketSetting(Handler):
    """A setting of a bucket: `put_`, `get_` and `delete_` calls named after `call`, with the settings under `key`."""

    call, key = "", ""
    none: tuple[str, ...] = ()  # S3's words for "not set"
    delete_first = True
    gone = GONE
    fields: Fields = table({})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        self._put(cloud, inputs)
        return inputs["bucket"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        answer = _unless(cloud, f"get_{self.call}", self.none, Bucket=identifier)
        if answer is None:
            return None
        live = self.parse(answer)
        return {"bucket": identifier, **live} if live else None

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self._put(cloud, news)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        delete = "delete_public_access_block" if self.call == "public_access_block" else f"delete_{self.call}"
        getattr(cloud.client("s3"), delete)(Bucket=identifier)

    def _put(self, cloud: Account, inputs: Inputs) -> None:
        getattr(cloud.client("s3"), f"put_{self.call}")(Bucket=inputs["bucket"], **{self.key: self.request(inputs)})

    def request(self, inputs: Inputs) -> Any:
        return to_api(self.fields, inputs)

    def parse(self, answer: Mapping[str, Any]) -> Outputs:
        return from_api(self.fields, answer[self.key])


_BUCKET = {"bucket": Prop(replace=True)}
_BLOCK = names("blockPublicAcls blockPublicPolicy ignorePublicAcls restrictPublicBuckets", default=False)


class BucketPublicAccessBlock(_BucketSetting):
    type = "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock"
    call, key, fields = "public_access_block", "PublicAccessBlockConfiguration", _BLOCK
    none = ("NoSuchPublicAccessBlockConfiguration",)
    props = table({**_BUCKET, **_BLOCK})


_ENCRYPTION = {
    "rules": blocks(
        {
            "applyServerSideEncryptionByDefault": block(
                {"sseAlgorithm": Prop("SSEAlgorithm"), "kmsMasterKeyId": Prop("KMSMasterKeyID")}
            ),
            "bucketKeyEnabled": Prop(default=False),
        },
    )
}


class BucketServerSideEncryptionConfiguration(_BucketSetting):
    type = "aws:s3/bucketServerSideEncryptionConfiguration:BucketServerSideEncryptionConfiguration"
    call, key, fields = "bucket_encryption", "ServerSideEncryptionConfiguration", _ENCRYPTION
    none = ("ServerSideEncryptionConfigurationNotFoundError",)
    props = table({**_BUCKET, **_ENCRYPTION})


_DATE = Prop(kind="time")
_LIFECYCLE = {
    "rules": blocks(
        {
            "id": Prop("ID"),
            "status": Prop(),
            "filter": block({"prefix": Prop(), "tag": block(names("key value"))}),  # moto drops the others, by size
            "expiration": block({"date": _DATE, **names("days expiredObjectDeleteMarker")}),
            "noncurrentVersionExpiration": block(names("noncurrentDays")),  # moto drops newerNoncurrentVersions
            "abortIncompleteMultipartUpload": block(names("daysAfterInitiation")),
            "transitions": blocks({"date": _DATE, **names("days storageClass")}),
            "noncurrentVersionTransitions": blocks(names("noncurrentDays newerNoncurrentVersions storageClass")),
        }
    )
}


class BucketLifecycleConfiguration(_BucketSetting):
    type = "aws:s3/bucketLifecycleConfiguration:BucketLifecycleConfiguration"
    call, key, fields = "bucket_lifecycle_configuration", "LifecycleConfiguration", _LIFECYCLE
    none = ("NoSuchLifecycleConfiguration",)
    props = table({**_BUCKET, **_LIFECYCLE})

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("s3").delete_bucket_lifecycle(Bucket=identifier)

    def parse(self, answer: Mapping[str, Any]) -> Outputs:
        return from_api(self.fields, answer)


_VERSIONING = {"versioningConfiguration": block(names("status"))}


class BucketVersioning(_BucketSetting):
    type = "aws:s3/bucketVersioning:BucketVersioning"
    call, key, fields = "bucket_versioning", "VersioningConfiguration", _VERSIONING
    props = table({**_BUCKET, **_VERSIONING})

    def request(self, inputs: Inputs) -> Any:
        return to_api(self.fields, inputs)["VersioningConfiguration"]

    def parse(self, answer: Mapping[str, Any]) -> Outputs:
        return {"versioningConfiguration": {"status": answer["Status"]}} if answer.get("Status") else {}

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("s3").put_bucket_versioning(Bucket=identifier, VersioningConfiguration={"Status": "Suspended"})


class BucketOwnershipControls(_BucketSetting):
    type = "aws:s3/bucketOwnershipControls:BucketOwnershipControls"
    call, key = "bucket_ownership_controls", "OwnershipControls"
    none = ("OwnershipControlsNotFoundError",)
    props = table({**_BUCKET, "rule": block(names("objectOwnership"))})

    def request(self, inputs: Inputs) -> Any:
        return {"Rules": [{"ObjectOwnership": inputs["rule"]["objectOwnership"]}]}

    def parse(self, answer: Mapping[str, Any]) -> Outputs:
        return {"rule": {"objectOwnership": answer["OwnershipControls"]["Rules"][0]["ObjectOwnership"]}}


class BucketPolicy(_BucketSetting):
    type = "aws:s3/bucketPolicy:BucketPolicy"
    call, key, none = "bucket_policy", "Policy", ("NoSuchBucketPolicy",)
    props = table({**_BUCKET, "policy": Prop(kind="json")})

    def request(self, inputs: Inputs) -> Any:
        return inputs["policy"]

    def parse(self, answer: Mapping[str, Any]) -> Outputs:
        return {"policy": answer["Policy"]}


HANDLERS = (
    Bucket, BucketPublicAccessBlock, BucketServerSideEncryptionConfiguration, BucketLifecycleConfiguration,
    BucketVersioning, BucketOwnershipControls, BucketPolicy,
)  # fmt: skip
