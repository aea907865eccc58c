"""Lambda functions as resources: create, read, update, tag, delete."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from moto.iam.models import iam_backends

from ..errors import AwsError, NotModelledError
from ..iam import Caller, resource_policy
from ..iam_resources import Need
from .function_code import CodeError, has_module, read_zip
from .function_host import FunctionHost, FunctionSetup, Invocation
from .function_settings import DEFAULTS, KNOWN, check_name, check_settings, invalid
from .model import Answer, Model, operation

if TYPE_CHECKING:
    from ..cloud import Cloud

ZIP_LIMIT = 50 * 1024 * 1024  # bytes, direct upload, "Lambda quotas"


class Function:
    """A function: its configuration in the API's shape, its code, its resource policy, and the host that runs it."""

    def __init__(self, name: str, arn: str, settings: dict[str, Any]) -> None:
        self.name = name
        self.arn = arn
        self.settings = settings
        self.code = b""
        self.files: dict[str, bytes] = {}
        self.tags: dict[str, str] = {}
        self.statements: list[dict[str, Any]] = []
        self.invoke_config: dict[str, Any] = {}
        self.reserved: int | None = None
        self.revision = ""
        self.modified = 0.0
        self.host: FunctionHost

    @property
    def role(self) -> str:
        return self.settings["Role"].rsplit("/", 1)[-1]

    def policy_document(self) -> dict[str, Any] | None:
        return {"Version": "2012-10-17", "Id": "default", "Statement": self.statements} if self.statements else None

    def setup(self, region: str) -> FunctionSetup:
        given = self.settings.get("Environment", {}).get("Variables", {})
        own = {"AWS_REGION": region, "AWS_DEFAULT_REGION": region, "AWS_LAMBDA_FUNCTION_NAME": self.name}
        return FunctionSetup(
            self.name, self.arn, self.settings["Handler"], self.role, float(self.settings["Timeout"]),
            self.settings["MemorySize"], {**own, **given}, self.files,
        )  # fmt: skip


class FunctionAdmin(Model):
    service = "lambda"

    def __init__(self, cloud: Cloud, finished: Callable[[str, Invocation], None]) -> None:
        super().__init__(cloud)
        self.functions: dict[str, Function] = {}
        self.account_concurrency = 10
        self._finished = finished  # hears of every invocation's end: (function name, invocation)

    # -- functions --------------------------------------------------------------------------------------------

    @operation(*KNOWN, "Code", "Tags", "Publish")
    def create_function(self, params: dict[str, Any], principal: str) -> Answer:
        name = params["FunctionName"].rsplit(":", 1)[-1]
        check_name(name)
        if name in self.functions:
            raise AwsError("ResourceConflictException", f"Function already exist: {name}", 409)
        if params.get("Publish"):
            raise NotModelledError("the twin does not model published versions of functions")
        settings = {**DEFAULTS, **{k: v for k, v in params.items() if k in KNOWN and k != "FunctionName"}}
        check_settings(settings)
        self._check_role(settings["Role"])
        function = Function(name, self.arn(f"function:{name}"), settings)
        self.check_may_send(function, settings.get("DeadLetterConfig", {}).get("TargetArn"))
        self._set_code(function, params["Code"])
        module = settings["Handler"].rpartition(".")[0]
        if not has_module(function.files, module):
            # AWS finds this out at the first invocation (Runtime.ImportModuleError); here it is refused at once.
            raise invalid(f"The handler {settings['Handler']} is not in the package: no module {module}.")
        function.tags = dict(params.get("Tags") or {})
        function.host = FunctionHost(self.cloud, function.setup(self.cloud.region), lambda i: self._finished(name, i))
        self.functions[name] = function
        self._touch(function)
        return self._configuration(function)

    @operation("FunctionName", "Qualifier")
    def get_function(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        answer: Answer = {
            "Configuration": self._configuration(function),
            "Code": {"RepositoryType": "S3", "Location": f"https://twin.invalid/{function.name}.zip"},
            "Tags": dict(function.tags),
        }
        if function.reserved is not None:
            answer["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved}
        return answer

    @operation("FunctionName", "Qualifier")
    def get_function_configuration(self, params: dict[str, Any], principal: str) -> Answer:
        return self._configuration(self.named(params))

    @operation("FunctionName", "ZipFile", "S3Bucket", "S3Key", "Architectures", "Publish", "DryRun", "RevisionId")
    def update_function_code(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        self._check_revision(function, params)
        if params.get("Publish") or params.get("DryRun"):
            raise NotModelledError("the twin does not model Publish and DryRun of lambda:UpdateFunctionCode")
        self._set_code(function, params)
        if "Architectures" in params:
            function.settings["Architectures"] = params["Architectures"]
        self._touch(function)
        return self._configuration(function)

    @operation(*KNOWN - {"PackageType", "Architectures"}, "RevisionId")
    def update_function_configuration(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named(params)
        self._check_revision(function, params)
        changed = {k: v for k, v in params.items() if k in KNOWN and k != "FunctionName"}
        settings = {**function.settings, **changed}
        check_settings(settings)
        self._check_role(settings["Role"])
        self.check_may_send(function, changed.get("DeadLetterConfig", {}).get("TargetArn"), settings["Role"])
        function.settings = settings
        self._touch(function)
        return self._configuration(function)

    @operation("FunctionName", "Qualifier")
    def delete_function(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.functions.pop(self.named(params).name)
        function.host.reload(function.host.setup)
        return {"StatusCode": 204}

    @operation("MaxItems", "Marker")
    def list_functions(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Functions": [self._configuration(f) for _, f in sorted(self.functions.items())]}

    @operation("Resource", "Tags")
    def tag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        self.named({"FunctionName": params["Resource"]}).tags.update(params["Tags"])
        return {}

    @operation("Resource", "TagKeys")
    def untag_resource(self, params: dict[str, Any], principal: str) -> Answer:
        function = self.named({"FunctionName": params["Resource"]})
        function.tags = {k: v for k, v in function.tags.items() if k not in params["TagKeys"]}
        return {}

    @operation("Resource")
    def list_tags(self, params: dict[str, Any], principal: str) -> Answer:
        return {"Tags": dict(self.named({"FunctionName": params["Resource"]}).tags)}

    # -- inside -----------------------------------------------------------------------------------------------

    def named(self, params: dict[str, Any]) -> Function:
        """The function by name, or by ARN. Raises `AwsError` ResourceNotFoundException."""
        given = params["FunctionName"]
        name = given.split(":")[6] if given.startswith("arn:") else given
        if params.get("Qualifier", "$LATEST") != "$LATEST":
            raise NotModelledError("the twin does not model versions and aliases of functions")
        if name not in self.functions:
            raise not_found(f"Function not found: {self.arn(f'function:{name}')}")
        return self.functions[name]

    def _set_code(self, function: Function, code: dict[str, Any]) -> None:
        data = code.get("ZipFile")
        if data is None and "S3Bucket" in code:
            data = self.cloud.client("s3").get_object(Bucket=code["S3Bucket"], Key=code["S3Key"])["Body"].read()
        if data is None:
            raise invalid("Please provide a source for function code.")
        data = data.read() if hasattr(data, "read") else bytes(data)
        if len(data) > ZIP_LIMIT:
            raise AwsError("RequestEntityTooLargeException", f"Request must be smaller than {ZIP_LIMIT} bytes", 413)
        try:
            function.files = read_zip(data)
        except CodeError as error:
            raise invalid(str(error)) from error
        function.code = data

    def _touch(self, function: Function) -> None:
        function.revision = self.new_id()
        function.modified = self.clock.now()
        function.host.reload(function.setup(self.cloud.region))

    def _check_revision(self, function: Function, params: dict[str, Any]) -> None:
        if params.get("RevisionId", function.revision) != function.revision:
            raise AwsError(
                "PreconditionFailedException", "The Revision Id provided does not match the latest one.", 412
            )

    def _check_role(self, arn: str) -> None:
        """The role must exist and trust Lambda (API reference of CreateFunction)."""
        roles: Any = iam_backends[self.cloud.account_id]["aws"].roles
        role = next((role for role in roles.values() if role.arn == arn), None)
        lambda_service = Caller(service="lambda.amazonaws.com")
        trust = _with_resource(role.assume_role_policy_document) if role else None
        if trust is None or resource_policy(trust, lambda_service, "sts:AssumeRole", "*") != "Allow":
            raise invalid("The role defined for the function cannot be assumed by Lambda.")

    def check_may_send(self, function: Function, target: str | None, role_arn: str | None = None) -> None:
        """The role must be able to send to a destination when it is set ("Retaining records": the API checks it)."""
        if not target:
            return
        action = {"sqs": "sqs:SendMessage", "sns": "sns:Publish"}.get(target.split(":")[2])
        if action is None:
            raise NotModelledError(f"the twin sends failed events to SQS and SNS, not to {target}")
        role = (role_arn or function.settings["Role"]).rsplit("/", 1)[-1]
        if not self.cloud.authorizer.allows(role, Need(action, target)):
            raise invalid(
                f"The destination ARN {target} is invalid: the function's role has no permission to {action}."
            )

    def _configuration(self, function: Function) -> Answer:
        modified = datetime.fromtimestamp(function.modified, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"
        return {
            "LoggingConfig": {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{function.name}"},
            **function.settings,
            "FunctionName": function.name,
            "FunctionArn": function.arn,
            "Version": "$LATEST",
            "CodeSize": len(function.code),
            "CodeSha256": base64.b64encode(hashlib.sha256(function.code).digest()).decode(),
            "LastModified": modified,
            "RevisionId": function.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
        }


def _with_resource(document: str | dict[str, Any]) -> dict[str, Any]:
    """A trust policy has no Resource of its own; the evaluator wants one."""
    parsed = json.loads(document) if isinstance(document, str) else document
    statements = parsed["Statement"] if isinstance(parsed["Statement"], list) else [parsed["Statement"]]
    return {"Statement": [{**statement, "Resource": "*"} for statement in statements]}


def not_found(message: str) -> AwsError:
    return AwsError("ResourceNotFoundException", message, 404)
