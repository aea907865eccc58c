"""What Lambda accepts as a function's configuration.

Sources: API reference of `CreateFunction` and `UpdateFunctionConfiguration`; developer guide "Lambda quotas",
"Lambda runtimes", "Using environment variables".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..errors import AwsError, NotModelledError

RUNTIMES = ("python3.10", "python3.11", "python3.12", "python3.13", "python3.14")
RETIRED = ("python2.7", "python3.6", "python3.7", "python3.8", "python3.9")
OTHER_LANGUAGES = re.compile(r"(nodejs|java|dotnet|ruby|provided|go)[\w.]*")
RESERVED_NAMES = {
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API",
    "LAMBDA_TASK_ROOT", "LAMBDA_RUNTIME_DIR",
}  # fmt: skip
DEFAULTS: dict[str, Any] = {
    "Description": "",
    "Timeout": 3,
    "MemorySize": 128,
    "PackageType": "Zip",
    "Architectures": ["x86_64"],
    "EphemeralStorage": {"Size": 512},
    "TracingConfig": {"Mode": "PassThrough"},
}
KNOWN = {
    *DEFAULTS, "FunctionName", "Runtime", "Role", "Handler", "DeadLetterConfig", "Environment", "KMSKeyArn",
    "LoggingConfig", "Layers", "VpcConfig",
}  # fmt: skip


def invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message)


def check_name(name: str) -> None:
    if not re.fullmatch(r"[a-zA-Z0-9-_]{1,64}", name):
        raise AwsError(
            "ValidationException",
            f"1 validation error detected: Value '{name}' at 'functionName' failed to satisfy constraint: "
            "Member must satisfy regular expression pattern: [a-zA-Z0-9-_]{1,64}",
        )


def check_settings(settings: Mapping[str, Any]) -> None:
    """Raise `AwsError` for a configuration that Lambda refuses, `NotModelledError` for what the twin cannot run."""
    _check_runtime(settings.get("Runtime", ""))
    if not 1 <= settings["Timeout"] <= 900:
        raise _out_of_range("timeout", settings["Timeout"], 1, 900)
    if not 128 <= settings["MemorySize"] <= 10_240:
        raise _out_of_range("memorySize", settings["MemorySize"], 128, 10_240)
    if not 512 <= settings["EphemeralStorage"]["Size"] <= 10_240:
        raise _out_of_range("ephemeralStorage.size", settings["EphemeralStorage"]["Size"], 512, 10_240)
    if settings["PackageType"] != "Zip" or settings.get("Layers") or settings.get("VpcConfig", {}).get("SubnetIds"):
        raise NotModelledError("the twin runs functions from zip packages, without layers and outside a VPC")
    if len(settings["Architectures"]) != 1 or settings["Architectures"][0] not in ("x86_64", "arm64"):
        raise invalid("Architectures must be one of x86_64, arm64.")
    if not re.fullmatch(r"[^\s]{1,128}", settings.get("Handler", "")) or "." not in settings["Handler"]:
        raise invalid("Handler must be <module>.<function>, at most 128 characters, without white space.")
    _check_environment(settings.get("Environment", {}).get("Variables", {}))


def _check_runtime(runtime: str) -> None:
    if runtime in RUNTIMES:
        return
    if runtime in RETIRED:
        raise invalid(
            f"The runtime parameter of {runtime} is no longer supported for creating or updating AWS Lambda functions."
        )
    if OTHER_LANGUAGES.fullmatch(runtime):
        raise NotModelledError(f"the twin runs Python functions, not {runtime}")
    raise invalid(f"Value {runtime} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set")


def _out_of_range(name: str, value: int, low: int, high: int) -> AwsError:
    bound = f"greater than or equal to {low}" if value < low else f"less than or equal to {high}"
    return AwsError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{name}' failed to satisfy constraint: "
        f"Member must have value {bound}",
    )


def _check_environment(variables: Mapping[str, str]) -> None:
    reserved = sorted(RESERVED_NAMES & set(variables))
    if reserved:
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            f"provided contains reserved keys that are currently not supported for modification. Reserved keys used in "
            f"this request: {', '.join(reserved)}"
        )
    wrong = [name for name in variables if not re.fullmatch(r"[a-zA-Z]([a-zA-Z0-9_])+", name)]
    if wrong:
        raise invalid(f"Environment variable names must satisfy [a-zA-Z]([a-zA-Z0-9_])+: {', '.join(wrong)}")
    if sum(len(k.encode()) + len(v.encode()) for k, v in variables.items()) > 4096:  # "Lambda quotas": 4 KB in all
        raise invalid(
            "Lambda was unable to configure your environment variables because the environment variables you have "
            "provided exceeded the 4KB limit."
        )
