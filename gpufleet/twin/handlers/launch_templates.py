"""EC2 launch templates: every change of what instances get makes a new version, never a new template."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError
from .account import Account
from .base import Inputs, Naming, Outputs
from .network import Ec2Handler
from .properties import Prop, as_dict, block, blocks, from_api, names, table, to_api

_USER_DATA_LIMIT = 16_384  # bytes before base64; EC2 user guide, "Run commands at launch"

DATA = {
    **names("imageId instanceType keyName userData instanceInitiatedShutdownBehavior disableApiStop"),
    "disableApiTermination": Prop(),
    "ebsOptimized": Prop(kind="flag"),
    "vpcSecurityGroupIds": Prop("SecurityGroupIds", kind="set"),
    "iamInstanceProfile": block(names("arn name")),
    "monitoring": block(names("enabled")),
    "creditSpecification": block(names("cpuCredits")),
    "instanceMarketOptions": block(
        {
            "marketType": Prop(),
            "spotOptions": block(
                {
                    **names("maxPrice spotInstanceType instanceInterruptionBehavior blockDurationMinutes"),
                    "validUntil": Prop(kind="time"),
                }
            ),
        }
    ),
    "metadataOptions": block(
        names("httpEndpoint httpTokens httpPutResponseHopLimit httpProtocolIpv6 instanceMetadataTags", computed=True)
    ),
    "blockDeviceMappings": blocks(
        {
            **names("deviceName virtualName noDevice"),
            "ebs": block(
                {
                    **names("volumeSize volumeType iops throughput kmsKeyId snapshotId", computed=True),
                    **names("encrypted deleteOnTermination", kind="flag"),
                }
            ),
        }
    ),
    "networkInterfaces": blocks(
        {
            **names("deviceIndex description subnetId interfaceType"),
            **names("associatePublicIpAddress deleteOnTermination", kind="flag"),
            "securityGroups": Prop("Groups", kind="set"),
        }
    ),
    "tagSpecifications": blocks({"resourceType": Prop(), "tags": Prop(kind="tags")}),
}


class LaunchTemplate(Ec2Handler):
    type, kind = "aws:ec2/launchTemplate:LaunchTemplate", "launch-template"
    taggable, naming = True, Naming(limit=125)
    gone = ("InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateName.NotFoundException")
    props = table(
        {
            "name": Prop(replace=True),
            "description": Prop(),
            "updateDefaultVersion": Prop(
                default=False, kept="It only steers updates: the newest version then becomes the default."
            ),
            "defaultVersion": Prop(computed=True),
            **DATA,
        }
    )
    outputs = "arn latestVersion"
    unsettled = ("latestVersion", "defaultVersion")

    def rules(self, inputs: Inputs) -> None:
        if inputs.get("networkInterfaces") and inputs.get("vpcSecurityGroupIds"):
            raise AwsError(
                "InvalidParameterCombination",
                "Network interfaces and an instance-level security groups may not be specified on the same request",
            )
        if inputs.get("userData"):
            try:
                data = base64.b64decode(inputs["userData"], validate=True)
            except binascii.Error:
                raise AwsError("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
            if len(data) > _USER_DATA_LIMIT:
                raise AwsError("InvalidParameterValue", f"User data is limited to {_USER_DATA_LIMIT} bytes")

    def make(self, cloud: Account, inputs: Inputs) -> str:
        about = {"VersionDescription": inputs["description"]} if inputs.get("description") else {}
        answer = cloud.client("ec2").create_launch_template(
            LaunchTemplateName=inputs["name"],
            LaunchTemplateData=to_api(DATA, inputs),
            **about,
            **self.tag_specification(inputs),
        )
        return answer["LaunchTemplate"]["LaunchTemplateId"]

    def look(self, cloud: Account, identifier: str, inputs: Inputs) -> Outputs | None:
        ec2 = cloud.client("ec2")
        found = ec2.describe_launch_templates(LaunchTemplateIds=[identifier])["LaunchTemplates"]
        if not found:
            return None
        template = found[0]
        answer = ec2.describe_launch_template_versions(LaunchTemplateId=identifier, Versions=["$Latest"])
        version = answer["LaunchTemplateVersions"][0]
        data = dict(version["LaunchTemplateData"])
        # moto lists the template's own tags among those for its instances; AWS does not have that type there
        data["TagSpecifications"] = [
            one for one in data.get("TagSpecifications", []) if one["ResourceType"] != self.kind
        ]
        return {
            "name": template["LaunchTemplateName"],
            "description": version.get("VersionDescription"),
            **from_api(DATA, data),
            "tags": as_dict(ec2.describe_tags(Filters=[{"Name": "resource-id", "Values": [identifier]}])["Tags"]),
            "arn": self.arn(cloud, identifier),
            "defaultVersion": template["DefaultVersionNumber"],
            "latestVersion": template["LatestVersionNumber"],
        }

    def modify(self, cloud: Account, identifier: str, olds: Inputs, news: Inputs, changed: set[str]) -> None:
        ec2 = cloud.client("ec2")
        default = news.get("defaultVersion")
        if changed - {"defaultVersion", "updateDefaultVersion"}:
            about = {"VersionDescription": news["description"]} if news.get("description") else {}
            answer = ec2.create_launch_template_version(
                LaunchTemplateId=identifier, LaunchTemplateData=to_api(DATA, news), **about
            )
            if news.get("updateDefaultVersion"):
                default = answer["LaunchTemplateVersion"]["VersionNumber"]
        if default is not None:
            ec2.modify_launch_template(LaunchTemplateId=identifier, DefaultVersion=str(default))

    def remove(self, cloud: Account, identifier: str, outputs: Mapping[str, Any]) -> None:
        cloud.client("ec2").delete_launch_template(LaunchTemplateId=identifier)


HANDLERS = (LaunchTemplate,)
