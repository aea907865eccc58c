"""DynamoDB tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import AwsError, NotModelledError
from .account import Account
from .base import Handler, Inputs, Naming, Outputs, finishing
from .properties import Prop, as_dict, as_list, block, blocks, names, table

_ON_DEMAND = "PAY_PER_REQUEST"


class Table(Handler):
    type = "aws:dynamodb/table:Table"
    taggable, naming = True, Naming(prefix_prop=None)
    gone = ("ResourceNotFoundException", "TableNotFoundException")
    props = table(
        {
            "name": Prop(replace=True),
            "hashKey": Prop(replace=True),
            "rangeKey": Prop(replace=True),
            "attributes": blocks(names("name type"), kind="set", replace=True),
            "billingMode": Prop(default="PROVISIONED"),
            "readCapacity": Prop(computed=True),
            "writeCapacity": Prop(computed=True),
            "ttl": block({"attributeName": Prop(), "enabled": Prop(default=False)}),
            "pointInTimeRecovery": block(
                {"enabled": Prop(default=False), "recoveryPeriodInDays": Prop(computed=True)},
            ),
            "serverSideEncryption": block({"enabled": Prop(default=False), "kmsKeyArn": Prop(computed=True)}),
            "deletionProtectionEnabled": Prop(default=False),
            "tableClass": Prop(default="STANDARD"),
        }
    )
    outputs = "arn"

    def rules(self, inputs: Inputs) -> None:
        keys = {inputs[name] for name in ("hashKey", "rangeKey") if inputs.get(name)}
        declared = {attribute["name"] for attribute in inputs.get("attributes") or []}
        if keys != declared:  # API reference, CreateTable: every attribute is a key and every key an attribute
            raise AwsError(
                "ValidationException",
                f"The number of attributes in key schema must match the number of attributes defined: "
                f"keys {sorted(keys)}, attributes {sorted(declared)}",
            )
        if inputs.get("billingMode", "PROVISIONED") != _ON_DEMAND and not inputs.get("readCapacity"):
            raise AwsError("ValidationException", "PROVISIONED needs readCapacity and writeCapacity")
        if inputs.get("tableClass", "STANDARD") != "STANDARD":  # moto makes a table of the standard class all the same
            raise NotModelledError(f"the twin does not model tableClass {inputs['tableClass']} of {self.type}")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        request: dict[str, Any] = {
            "TableName": inputs["name"],
            "KeySchema": [
                {"AttributeName": inputs[name], "KeyType": kind}
                for name, kind in (("hashKey", "HASH"), ("rangeKey", "RANGE"))
                if inputs.get(name)
            ],
            "AttributeDefinitions": [
                {"AttributeName": a["name"], "AttributeType": a["type"]} for a in inputs["attributes"]
            ],
            **_billing(inputs),
            "DeletionProtectionEnabled": bool(inputs.get("deletionProtectionEnabled")),
            "TableClass": inputs.get("tableClass", "STANDARD"),
        }
        if inputs.get("tags"):
            request["Tags"] = as_list(inputs["tags"])
        if (inputs.get("serverSideEncryption") or {}).get("enabled"):
            request["SSESpecification"] = _encryption(inputs)
        cloud.client("dynamodb").create_table(**request)
        with finishing(inputs["name"]):
            later = {name for name in ("ttl", "pointInTimeRecovery") if (inputs.get(name) or {}).get("enabled")}
            self.modify(cloud, inputs["name"], {}, inputs, later)
        return inputs["name"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        client = cloud.client("dynamodb")
        table = client.describe_table(TableName=identifier)["Table"]
        keys = {key["KeyType"]: key["AttributeName"] for key in table["KeySchema"]}
        ttl = client.describe_time_to_live(TableName=identifier)["TimeToLiveDescription"]
        backups = client.describe_continuous_backups(TableName=identifier)["ContinuousBackupsDescription"]
        recovery = backups.get("PointInTimeRecoveryDescription", {})
        encryption = table.get("SSEDescription") or {}
        found: Outputs = {
            "name": table["TableName"],
            "hashKey": keys["HASH"],
            "rangeKey": keys.get("RANGE"),
            "attributes": [
                {"name": a["AttributeName"], "type": a["AttributeType"]} for a in table["AttributeDefinitions"]
            ],
            "billingMode": (table.get("BillingModeSummary") or {}).get("BillingMode", "PROVISIONED"),
            "deletionProtectionEnabled": table.get("DeletionProtectionEnabled", False),
            "tableClass": (table.get("TableClassSummary") or {}).get("TableClass", "STANDARD"),
            "tags": as_dict(client.list_tags_of_resource(ResourceArn=table["TableArn"]).get("Tags")),
            "arn": table["TableArn"],
        }
        if found["billingMode"] != _ON_DEMAND:
            throughput = table["ProvisionedThroughput"]
            found |= {
                "readCapacity": throughput["ReadCapacityUnits"],
                "writeCapacity": throughput["WriteCapacityUnits"],
            }
        if ttl.get("TimeToLiveStatus") in ("ENABLED", "ENABLING"):
            found["ttl"] = {"attributeName": ttl["AttributeName"], "enabled": True}
        if recovery.get("PointInTimeRecoveryStatus") == "ENABLED":
            found["pointInTimeRecovery"] = {
                "enabled": True,
                "recoveryPeriodInDays": recovery.get("RecoveryPeriodInDays", 35),
            }
        if encryption.get("Status") in ("ENABLED", "UPDATING", "ENABLING"):
            found["serverSideEncryption"] = {"enabled": True, "kmsKeyArn": encryption.get("KMSMasterKeyArn")}
        return found

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        client = cloud.client("dynamodb")
        request: dict[str, Any] = {}
        if changed & {"billingMode", "readCapacity", "writeCapacity"}:
            request |= _billing(news)
        for name in sorted(changed & {"serverSideEncryption", "tableClass"}):  # moto answers yes and does nothing
            raise NotModelledError(f"the twin does not model a change of {name} of {self.type}")
        if "deletionProtectionEnabled" in changed:
            request["DeletionProtectionEnabled"] = bool(news.get("deletionProtectionEnabled"))
        if request:
            client.update_table(TableName=identifier, **request)
        if "ttl" in changed:
            self._set_ttl(client, identifier, olds.get("ttl") or {}, news.get("ttl") or {})
        if "pointInTimeRecovery" in changed:
            wanted = news.get("pointInTimeRecovery") or {}
            days = {"RecoveryPeriodInDays": wanted["recoveryPeriodInDays"]} if "recoveryPeriodInDays" in wanted else {}
            client.update_continuous_backups(
                TableName=identifier,
                PointInTimeRecoverySpecification={
                    "PointInTimeRecoveryEnabled": bool(wanted.get("enabled")),
                    **days,
                },
            )

    @staticmethod
    def _set_ttl(client: Any, table: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        attribute = new.get("attributeName") or old.get("attributeName")
        if old.get("enabled") and new.get("enabled") and old.get("attributeName") != attribute:
            _switch_ttl(client, table, str(old["attributeName"]), on=False)  # one attribute at a time
        _switch_ttl(client, table, str(attribute), on=bool(new.get("enabled")))

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        client = cloud.client("dynamodb")
        arn = client.describe_table(TableName=identifier)["Table"]["TableArn"]
        if gone:
            client.untag_resource(ResourceArn=arn, TagKeys=gone)
        if new:
            client.tag_resource(ResourceArn=arn, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("dynamodb").delete_table(TableName=identifier)


def _switch_ttl(client: Any, table: str, attribute: str, *, on: bool) -> None:
    client.update_time_to_live(TableName=table, TimeToLiveSpecification={"Enabled": on, "AttributeName": attribute})


def _billing(inputs: Inputs) -> dict[str, Any]:
    mode = inputs.get("billingMode", "PROVISIONED")
    if mode == _ON_DEMAND:
        return {"BillingMode": mode}
    units = {"ReadCapacityUnits": inputs["readCapacity"], "WriteCapacityUnits": inputs["writeCapacity"]}
    return {"BillingMode": mode, "ProvisionedThroughput": units}


def _encryption(inputs: Inputs) -> dict[str, Any]:
    wanted = inputs.get("serverSideEncryption") or {}
    key = {"KMSMasterKeyId": wanted["kmsKeyArn"]} if wanted.get("kmsKeyArn") else {}
    return {"Enabled": bool(wanted.get("enabled")), **({"SSEType": "KMS"} if wanted.get("enabled") else {}), **key}


HANDLERS = (Table,)
