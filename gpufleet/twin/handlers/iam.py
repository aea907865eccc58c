"""IAM roles, policies and instance profiles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from ..errors import AwsError
from .account import Account
from .base import Handler, Inputs, Naming, Outputs, finishing
from .properties import Prop, as_dict, as_list, table

_GONE = ("NoSuchEntity",)
_INLINE_LIMIT = 10_240  # characters without white space, all inline policies of a role; IAM user guide, "IAM quotas"
_TRUST_LIMIT = 2_048
_MANAGED_LIMIT = 6_144


def _check_document(text: str, limit: int, what: str) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        raise AwsError("MalformedPolicyDocument", f"{what}: syntax errors in policy.") from None
    statements = document.get("Statement") if isinstance(document, dict) else None
    if not statements:
        raise AwsError("MalformedPolicyDocument", f"{what}: a policy needs at least one Statement")
    size = len("".join(text.split()))
    if size > limit:
        raise AwsError("LimitExceeded", f"{what}: Maximum policy size of {limit} bytes exceeded ({size})", 409)
    return document


def _text(document: Any) -> str:
    """A policy as text (IAM answers it URL-encoded, botocore decodes it into an object)."""
    return unquote(document) if isinstance(document, str) else json.dumps(document)


class Role(Handler):
    type = "aws:iam/role:Role"
    taggable, naming = True, Naming(limit=64)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "path": Prop(replace=True, default="/"),
            "assumeRolePolicy": Prop(kind="json"),
            "description": Prop(),
            "maxSessionDuration": Prop(default=3600),
            "permissionsBoundary": Prop(),
        }
    )
    outputs = "arn uniqueId createDate"

    def rules(self, inputs: Inputs) -> None:
        document = _check_document(inputs["assumeRolePolicy"], _TRUST_LIMIT, f"trust policy of {inputs['name']}")
        statements = document["Statement"]
        for statement in statements if isinstance(statements, list) else [statements]:
            actions = statement.get("Action", [])
            if not statement.get("Principal") or "Resource" in statement:
                raise AwsError("MalformedPolicyDocument", "A trust policy has a Principal and no Resource")
            if not all(a.startswith("sts:") for a in ([actions] if isinstance(actions, str) else actions)):
                raise AwsError("MalformedPolicyDocument", "AssumeRole policy may only specify STS AssumeRole actions.")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        more = {
            key: inputs[name]
            for name, key in (
                ("path", "Path"),
                ("description", "Description"),
                ("maxSessionDuration", "MaxSessionDuration"),
                ("permissionsBoundary", "PermissionsBoundary"),
            )
            if inputs.get(name)
        }
        tags = {"Tags": as_list(inputs["tags"])} if inputs.get("tags") else {}
        cloud.client("iam").create_role(
            RoleName=inputs["name"], AssumeRolePolicyDocument=inputs["assumeRolePolicy"], **more, **tags
        )
        return inputs["name"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        role = cloud.client("iam").get_role(RoleName=identifier)["Role"]
        return {
            "name": role["RoleName"],
            "path": role["Path"],
            "assumeRolePolicy": _text(role["AssumeRolePolicyDocument"]),
            "description": role.get("Description"),
            "maxSessionDuration": role["MaxSessionDuration"],
            "permissionsBoundary": role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn"),
            "tags": as_dict(role.get("Tags")),
            "arn": role["Arn"],
            "uniqueId": role["RoleId"],
            "createDate": role["CreateDate"].isoformat(),
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        iam = cloud.client("iam")
        if "assumeRolePolicy" in changed:
            iam.update_assume_role_policy(RoleName=identifier, PolicyDocument=news["assumeRolePolicy"])
        if changed & {"description", "maxSessionDuration"}:
            iam.update_role(
                RoleName=identifier,
                Description=news.get("description", ""),
                MaxSessionDuration=news.get("maxSessionDuration", 3600),
            )
        if "permissionsBoundary" in changed:
            if news.get("permissionsBoundary"):
                iam.put_role_permissions_boundary(RoleName=identifier, PermissionsBoundary=news["permissionsBoundary"])
            else:
                iam.delete_role_permissions_boundary(RoleName=identifier)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("iam").untag_role(RoleName=identifier, TagKeys=gone)
        if new:
            cloud.client("iam").tag_role(RoleName=identifier, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("iam").delete_role(RoleName=identifier)


class RolePolicy(Handler):
    type = "aws:iam/rolePolicy:RolePolicy"
    naming = Naming(limit=128)
    gone = _GONE
    props = table({"role": Prop(replace=True), "name": Prop(replace=True), "policy": Prop(kind="json")})

    def rules(self, inputs: Inputs) -> None:
        _check_document(inputs["policy"], _INLINE_LIMIT, f"inline policy {inputs['name']}")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        iam, role, size = cloud.client("iam"), inputs["role"], len("".join(inputs["policy"].split()))
        for other in iam.list_role_policies(RoleName=role)["PolicyNames"]:
            if other != inputs["name"]:
                text = _text(iam.get_role_policy(RoleName=role, PolicyName=other)["PolicyDocument"])
                size += len("".join(text.split()))
        if size > _INLINE_LIMIT:
            raise AwsError(
                "LimitExceeded", f"Maximum policy size of {_INLINE_LIMIT} bytes exceeded for role {role}", 409
            )
        iam.put_role_policy(RoleName=role, PolicyName=inputs["name"], PolicyDocument=inputs["policy"])
        return f"{role}:{inputs['name']}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        role, name = identifier.split(":", 1)
        live = cloud.client("iam").get_role_policy(RoleName=role, PolicyName=name)
        return {"role": role, "name": name, "policy": _text(live["PolicyDocument"])}

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        self.make(cloud, news)

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        role, name = identifier.split(":", 1)
        cloud.client("iam").delete_role_policy(RoleName=role, PolicyName=name)


class RolePolicyAttachment(Handler):
    type = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
    delete_first = True
    gone = _GONE
    props = table({"role": Prop(replace=True), "policyArn": Prop(replace=True)})

    def make(self, cloud: Account, inputs: Inputs) -> str:
        cloud.client("iam").attach_role_policy(RoleName=inputs["role"], PolicyArn=inputs["policyArn"])
        return f"{inputs['role']}/{inputs['policyArn']}"

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        role, arn = identifier.split("/", 1)
        attached = cloud.client("iam").list_attached_role_policies(RoleName=role)["AttachedPolicies"]
        return {"role": role, "policyArn": arn} if arn in {policy["PolicyArn"] for policy in attached} else None

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        role, arn = identifier.split("/", 1)
        cloud.client("iam").detach_role_policy(RoleName=role, PolicyArn=arn)


class Policy(Handler):
    """A customer-managed policy (permissions boundaries are such)."""

    type = "aws:iam/policy:Policy"
    taggable, naming = True, Naming(limit=128)
    gone = _GONE
    props = table(
        {
            "name": Prop(replace=True),
            "path": Prop(replace=True, default="/"),
            "description": Prop(replace=True),
            "policy": Prop(kind="json"),
        }
    )
    outputs = "arn policyId"

    def rules(self, inputs: Inputs) -> None:
        _check_document(inputs["policy"], _MANAGED_LIMIT, f"policy {inputs['name']}")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        answer = cloud.client("iam").create_policy(
            PolicyName=inputs["name"],
            Path=inputs.get("path", "/"),
            Description=inputs.get("description", ""),
            PolicyDocument=inputs["policy"],
            Tags=as_list(inputs.get("tags")),
        )
        return answer["Policy"]["Arn"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        iam = cloud.client("iam")
        policy = iam.get_policy(PolicyArn=identifier)["Policy"]
        version = iam.get_policy_version(PolicyArn=identifier, VersionId=policy["DefaultVersionId"])["PolicyVersion"]
        return {
            "name": policy["PolicyName"],
            "path": policy["Path"],
            "description": policy.get("Description"),
            "policy": _text(version["Document"]),
            "tags": as_dict(iam.list_policy_tags(PolicyArn=identifier)["Tags"]),
            "arn": identifier,
            "policyId": policy["PolicyId"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        iam = cloud.client("iam")
        versions = iam.list_policy_versions(PolicyArn=identifier)["Versions"]
        if len(versions) >= 5:  # IAM keeps five; the provider prunes the oldest that is not the default
            oldest = min((v for v in versions if not v["IsDefaultVersion"]), key=lambda v: v["CreateDate"])
            iam.delete_policy_version(PolicyArn=identifier, VersionId=oldest["VersionId"])
        iam.create_policy_version(PolicyArn=identifier, PolicyDocument=news["policy"], SetAsDefault=True)

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("iam").untag_policy(PolicyArn=identifier, TagKeys=gone)
        if new:
            cloud.client("iam").tag_policy(PolicyArn=identifier, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        iam = cloud.client("iam")
        for version in iam.list_policy_versions(PolicyArn=identifier)["Versions"]:
            if not version["IsDefaultVersion"]:
                iam.delete_policy_version(PolicyArn=identifier, VersionId=version["VersionId"])
        iam.delete_policy(PolicyArn=identifier)


class InstanceProfile(Handler):
    type = "aws:iam/instanceProfile:InstanceProfile"
    taggable, naming = True, Naming(limit=128)
    gone = _GONE
    props = table({"name": Prop(replace=True), "path": Prop(replace=True, default="/"), "role": Prop()})
    outputs = "arn uniqueId createDate"

    def make(self, cloud: Account, inputs: Inputs) -> str:
        iam, name = cloud.client("iam"), inputs["name"]
        iam.create_instance_profile(
            InstanceProfileName=name, Path=inputs.get("path", "/"), Tags=as_list(inputs.get("tags"))
        )
        with finishing(name):
            if inputs.get("role"):
                iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=inputs["role"])
        return name

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        profile = cloud.client("iam").get_instance_profile(InstanceProfileName=identifier)["InstanceProfile"]
        return {
            "name": profile["InstanceProfileName"],
            "path": profile["Path"],
            "role": profile["Roles"][0]["RoleName"] if profile["Roles"] else None,
            "tags": as_dict(profile.get("Tags")),
            "arn": profile["Arn"],
            "uniqueId": profile["InstanceProfileId"],
            "createDate": profile["CreateDate"].isoformat(),
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        iam = cloud.client("iam")
        if olds.get("role"):
            iam.remove_role_from_instance_profile(InstanceProfileName=identifier, RoleName=olds["role"])
        if news.get("role"):
            iam.add_role_to_instance_profile(InstanceProfileName=identifier, RoleName=news["role"])

    def retag(self, cloud: Account, identifier: str, new: dict[str, str], gone: list[str]) -> None:
        if gone:
            cloud.client("iam").untag_instance_profile(InstanceProfileName=identifier, TagKeys=gone)
        if new:
            cloud.client("iam").tag_instance_profile(InstanceProfileName=identifier, Tags=as_list(new))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        iam = cloud.client("iam")
        for role in iam.get_instance_profile(InstanceProfileName=identifier)["InstanceProfile"]["Roles"]:
            iam.remove_role_from_instance_profile(InstanceProfileName=identifier, RoleName=role["RoleName"])
        iam.delete_instance_profile(InstanceProfileName=identifier)


HANDLERS = (Role, RolePolicy, RolePolicyAttachment, Policy, InstanceProfile)
