"""KMS keys and aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import STEERS_DELETION, Handler, Inputs, Naming, Outputs, finishing
from .properties import Prop, as_dict, table

_GONE = ("NotFoundException",)


def _tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"TagKey": key, "TagValue": value} for key, value in sorted(tags.items())]


class Key(Handler):
    type = "aws:kms/key:Key"
    taggable = True
    gone = _GONE
    props = table(
        {
            "description": Prop(computed=True),
            "policy": Prop(kind="json", computed=True),
            "keyUsage": Prop(replace=True, default="ENCRYPT_DECRYPT"),
            "customerMasterKeySpec": Prop(replace=True, default="SYMMETRIC_DEFAULT"),
            "multiRegion": Prop(replace=True, computed=True),
            "isEnabled": Prop(default=True),
            "enableKeyRotation": Prop(default=False),
            "deletionWindowInDays": Prop(kept=STEERS_DELETION),
        }
    )
    outputs = "arn keyId"

    def rules(self, inputs: Inputs) -> None:
        if not 7 <= inputs.get("deletionWindowInDays", 30) <= 30:  # API reference, ScheduleKeyDeletion
            raise AwsError("ValidationException", "deletionWindowInDays must be between 7 and 30")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        kms = cloud.client("kms")
        request = {
            key: inputs[name]
            for name, key in (
                ("description", "Description"),
                ("policy", "Policy"),
                ("keyUsage", "KeyUsage"),
                ("customerMasterKeySpec", "KeySpec"),
                ("multiRegion", "MultiRegion"),
            )
            if inputs.get(name)
        }
        key = kms.create_key(Tags=_tags(inputs.get("tags") or {}), **request)["KeyMetadata"]["KeyId"]
        with finishing(key):
            later = {name for name in ("enableKeyRotation",) if inputs.get(name)}
            later |= {"isEnabled"} if inputs.get("isEnabled") is False else set()
            self.modify(cloud, key, {}, inputs, later)
        return key

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        kms = cloud.client("kms")
        live = kms.describe_key(KeyId=identifier)["KeyMetadata"]
        if live["KeyState"] == "PendingDeletion":
            return None
        rotation = kms.get_key_rotation_status(KeyId=identifier)
        return {
            "description": live.get("Description"),
            "policy": kms.get_key_policy(KeyId=identifier, PolicyName="default")["Policy"],
            "keyUsage": live.get("KeyUsage", "ENCRYPT_DECRYPT"),
            "customerMasterKeySpec": live.get("KeySpec", "SYMMETRIC_DEFAULT"),
            "multiRegion": live.get("MultiRegion", False),
            "isEnabled": live["Enabled"],
            "enableKeyRotation": rotation["KeyRotationEnabled"],
            "tags": as_dict(kms.list_resource_tags(KeyId=identifier).get("Tags"), "TagKey", "TagValue"),
            "arn": live["Arn"],
            "keyId": live["KeyId"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        kms = cloud.client("kms")
        if "isEnabled" in changed and news.get("isEnabled", True):
            kms.enable_key(KeyId=identifier)  # a disabled key takes no other change
        if "description" in changed:
            kms.update_key_description(KeyId=identifier, Description=news.get("description", ""))
        if "policy" in changed:
            kms.put_key_policy(KeyId=identifier, PolicyName="default", Policy=news["policy"])
        if "enableKeyRotation" in changed:
            if news.get("enableKeyRotation"):
                kms.enable_key_rotation(KeyId=identifier)
            else:
                kms.disable_key_rotation(KeyId=identifier)
        if "isEnabled" in changed and not news.get("isEnabled", True):
            kms.disable_key(KeyId=identifier)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("kms").untag_resource(KeyId=identifier, TagKeys=gone)
        if new:
            cloud.client("kms").tag_resource(KeyId=identifier, Tags=_tags(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("kms").schedule_key_deletion(
            KeyId=identifier, PendingWindowInDays=outputs.get("deletionWindowInDays", 30)
        )


class Alias(Handler):
    type = "aws:kms/alias:Alias"
    naming = Naming(lead="alias/")
    gone = _GONE
    props = table({"name": Prop(replace=True), "targetKeyId": Prop(kind="key")})
    outputs = "arn targetKeyArn"

    def rules(self, inputs: Inputs) -> None:
        if not inputs["name"].startswith("alias/") or inputs["name"].startswith("alias/aws/"):
            raise AwsError(
                "ValidationException", f"Alias must start with alias/ and not with alias/aws/: {inputs['name']}"
            )

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("kms").create_alias(AliasName=inputs["name"], TargetKeyId=_key_id(inputs["targetKeyId"]))
        return inputs["name"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        for page in cloud.client("kms").get_paginator("list_aliases").paginate():
            for alias in page["Aliases"]:
                if alias["AliasName"] == identifier and alias.get("TargetKeyId"):
                    return {
                        "name": identifier,
                        "targetKeyId": alias["TargetKeyId"],
                        "arn": alias["AliasArn"],
                        "targetKeyArn": f"arn:aws:kms:{cloud.region}:{cloud.account_id}:key/{alias['TargetKeyId']}",
                    }
        return None

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        cloud.client("kms").update_alias(AliasName=identifier, TargetKeyId=_key_id(news["targetKeyId"]))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("kms").delete_alias(AliasName=identifier)


def _key_id(key: str) -> str:
    return key.rsplit("/", 1)[-1]


HANDLERS = (Key, Alias)
