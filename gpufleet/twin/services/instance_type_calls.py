"""ec2:DescribeInstanceTypes, for the types that the twin has prices for."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import AwsError, NotModelledError
from ..instance_types import hardware
from ..prices import ON_DEMAND_USD_PER_HOUR
from .model import Answer, Model, operation

PAGE = 100  # "Constraints: Minimum value of 5. Maximum value of 100"; without InstanceTypes one page holds as many


class InstanceTypeCalls(Model):
    """For the model of EC2."""

    @operation("InstanceTypes", "Filters", "MaxResults", "NextToken")
    def describe_instance_types(self, params: dict[str, Any], principal: str) -> Answer:
        named, limit = params.get("InstanceTypes") or [], params.get("MaxResults")
        if named and limit is not None:
            raise AwsError(
                "InvalidParameterCombination",
                "The parameter InstanceTypes cannot be used with the parameter MaxResults",
            )
        if limit is not None and not 5 <= limit <= PAGE:
            raise AwsError("InvalidParameterValue", f"Value ( {limit} ) for parameter maxResults is invalid.")
        if len(named) > PAGE:
            raise AwsError("InvalidParameterValue", f"At most {PAGE} instance types can be named.")
        missing = [name for name in named if name not in ON_DEMAND_USD_PER_HOUR]
        if missing:
            raise AwsError(
                "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(missing)}]"
            )
        found = list(_filtered(named or sorted(ON_DEMAND_USD_PER_HOUR), params.get("Filters", [])))
        token = params.get("NextToken") or "page-0"
        if not token.startswith("page-"):
            raise AwsError("InvalidNextToken", f"The token '{token}' is invalid")
        start, size = int(token.removeprefix("page-")), limit or PAGE
        answer: Answer = {"InstanceTypes": [_shown(name) for name in found[start : start + size]]}
        if start + size < len(found):
            answer["NextToken"] = f"page-{start + size}"
        return answer


def _filtered(names: Iterable[str], conditions: Iterable[Mapping[str, Any]]) -> Iterable[str]:
    for condition in conditions:
        if condition["Name"] != "instance-type":
            raise NotModelledError(f"the twin does not model the filter {condition['Name']} of DescribeInstanceTypes")
        patterns = condition["Values"]
        names = [name for name in names if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    return names


def _shown(name: str) -> dict[str, Any]:
    made = hardware(name)
    return {
        "InstanceType": name,
        "CurrentGeneration": True,
        "SupportedUsageClasses": ["on-demand", "spot"],
        "ProcessorInfo": {"SupportedArchitectures": [made.architecture]},
        "VCpuInfo": {"DefaultVCpus": made.vcpus},
        "MemoryInfo": {"SizeInMiB": made.memory_gib * 1024},
        "GpuInfo": {
            "Gpus": [
                {
                    "Name": made.gpu,
                    "Manufacturer": "NVIDIA",
                    "Count": made.gpus,
                    "MemoryInfo": {"SizeInMiB": made.gpu_mib},
                }
            ],
            "TotalGpuMemoryInMiB": made.gpus * made.gpu_mib,
        },
    }
