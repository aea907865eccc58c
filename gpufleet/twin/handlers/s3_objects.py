"""S3 objects, and the files that programs hand to their resources."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import AwsError
from .account import Account
from .base import Handler, Inputs, Outputs
from .properties import Prop, as_dict, as_list, from_api, names, table, to_api
from .s3 import GONE

_HEADERS = {
    **names("cacheControl contentDisposition contentEncoding contentLanguage metadata"),
    "contentType": Prop(computed=True),
    "serverSideEncryption": Prop(computed=True),
    "storageClass": Prop(computed=True),
}


class BucketObjectv2(Handler):
    type = "aws:s3/bucketObjectv2:BucketObjectv2"
    taggable = True
    gone = (*GONE, "NoSuchKey")
    props = table(
        {
            "bucket": Prop(replace=True),
            "key": Prop(replace=True),
            "source": Prop(kind="asset", api=""),
            "content": Prop(api=""),
            "contentBase64": Prop(api=""),
            "sourceHash": Prop(kept="It only triggers an upload, and the twin compares the content itself."),
            "forceDestroy": Prop(default=False, kept="The twin knows no legal holds that would keep an object."),
            **_HEADERS,
        }
    )
    unsettled = ("etag", "versionId")
    outputs = "arn etag versionId"

    def rules(self, inputs: Inputs) -> None:
        if len([name for name in ("source", "content", "contentBase64") if inputs.get(name) is not None]) > 1:
            raise AwsError("InvalidRequest", "An object has one of source, content, contentBase64")
        if len(inputs.get("tags") or {}) > 10:  # S3 user guide, "Categorizing your objects using tags"
            raise AwsError("BadRequest", "Object tags cannot be greater than 10")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        tags = "&".join(
            f"{quote(key, safe='')}={quote(value, safe='')}"
            for key, value in sorted((inputs.get("tags") or {}).items())
        )
        s3, where = cloud.client("s3"), {"Bucket": inputs["bucket"], "Key": inputs["key"]}
        s3.put_object(**where, Body=_body(inputs), **({"Tagging": tags} if tags else {}), **to_api(_HEADERS, inputs))
        if not tags:  # moto gives an object the tags of an earlier one of its name
            s3.delete_object_tagging(**where)
        return f"{inputs['bucket']}/{inputs['key']}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        bucket, key = identifier.split("/", 1)
        s3 = cloud.client("s3")
        live = s3.get_object(Bucket=bucket, Key=key)
        body = live["Body"].read()
        digest = hashlib.sha256(body).hexdigest()
        found: Outputs = {
            "bucket": bucket,
            "key": key,
            "serverSideEncryption": "AES256",  # of every object since 2023; moto goes by the bucket alone
            **from_api(_HEADERS, live),
            "tags": as_dict(s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"]),
            "arn": f"arn:aws:s3:::{bucket}/{key}",
            "etag": live["ETag"].strip('"'),
            "versionId": live.get("VersionId"),
        }
        if inputs.get("content") is not None:
            found["content"] = body.decode("utf-8", "replace")
        elif inputs.get("contentBase64") is not None:
            found["contentBase64"] = base64.b64encode(body).decode("ascii")
        elif inputs.get("source") is not None:
            found["source"] = {**inputs["source"], "sha256": digest}
        return found

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self.make(cloud, news)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        bucket, key = identifier.split("/", 1)
        s3 = cloud.client("s3")
        live = as_dict(s3.get_object_tagging(Bucket=bucket, Key=key)["TagSet"])
        tags = {name: value for name, value in {**live, **new}.items() if name not in gone}
        s3.put_object_tagging(Bucket=bucket, Key=key, Tagging={"TagSet": as_list(tags)})

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        """Every version goes, as the provider does it: nothing of ours keeps a versioned bucket from being deleted."""
        bucket, key = identifier.split("/", 1)
        s3 = cloud.client("s3")
        for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key):
            for item in [*page.get("Versions", []), *page.get("DeleteMarkers", [])]:
                if item["Key"] == key:
                    s3.delete_object(Bucket=bucket, Key=key, VersionId=item["VersionId"])


def _body(inputs: Inputs) -> bytes:
    if inputs.get("source") is not None:
        return read_asset(inputs["source"])
    if inputs.get("contentBase64") is not None:
        return base64.b64decode(inputs["contentBase64"])
    return (inputs.get("content") or "").encode("utf-8")


def read_asset(asset: Mapping[str, Any]) -> bytes:
    """The bytes of a file asset or archive (`path`) or of a text asset (`text`)."""
    if asset.get("text") is not None:
        return asset["text"].encode("utf-8")
    return Path(asset["path"]).read_bytes()


HANDLERS = (BucketObjectv2,)
