"""The stack under rehearsal: the template as the emulator can create it, deployments of it, and what they created."""
import copy
import json
import re
import shutil

from samtranslator.yaml_helper import yaml_parse

from .emulator import request
from .processes import ROOT, RehearsalError, check, run

STACK = "chat"
ALIAS = "live"
CORS_LISTS = ("AllowOrigins", "AllowMethods", "AllowHeaders", "ExposeHeaders")


class EmulatorTemplate:
    """template.yaml, changed where the emulator differs from AWS. `changes` names each change."""

    def __init__(self, path, emulator_url, codedeploy_url):
        self.original = yaml_parse(path.read_text(encoding="utf-8"))
        self.template = copy.deepcopy(self.original)
        self.changes = []
        self.binaries = {}
        self.use_built_functions()
        self.use_emulator(emulator_url)
        self.change_live_api(emulator_url)
        self.remove_gradual_deployments(codedeploy_url)
        self.split_metric_math()
        self.show_cors()

    def resources(self, kind):
        """Names and properties of the resources of a type, such as `AWS::CloudWatch::Alarm`."""
        found = self.template["Resources"].items()
        return {name: resource["Properties"] for name, resource in found if resource["Type"] == kind}

    def use_built_functions(self):
        """Each function is deployed from a folder with its executable, as after `sam build`."""
        self.template["Globals"]["Function"].pop("CodeUri")
        for name, properties in self.resources("AWS::Serverless::Function").items():
            metadata = self.template["Resources"][name].pop("Metadata", {})
            if "Binary" in metadata.get("BuildProperties", {}):
                self.binaries[name] = metadata["BuildProperties"]["Binary"]
                properties["CodeUri"] = f"functions/{name}"

    def use_emulator(self, url):
        """AWS_ENDPOINT_URL leads all services to the emulator, but the template sets the one of DynamoDB itself."""
        self.template["Globals"]["Function"]["Environment"]["Variables"]["AWS_ENDPOINT_URL_DYNAMODB"] = url
        self.changes.append("the functions use the emulator's DynamoDB")
        # The key set server of the rehearsal has no certificate.
        parameter = self.template["Parameters"].get("JwtJwksUrl", {})
        if parameter.pop("AllowedPattern", None):
            self.changes.append("JwtJwksUrl allows http, which the functions allow on 127.0.0.1 only")

    def change_live_api(self, url):
        """MiniStack serves WebSocket APIs, but differs in three points."""
        variable = "AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI"
        for properties in self.resources("AWS::Serverless::Function").values():
            variables = properties.get("Environment", {}).get("Variables", {})
            if variable in variables:
                variables[variable] = {"Fn::Sub": f"{url}/_aws/execute-api/${{LiveApi}}/live"}
        responses = self.resources("AWS::ApiGatewayV2::RouteResponse")
        for name in responses:
            self.template["Resources"].pop(name)
        for properties in self.resources("AWS::ApiGatewayV2::Authorizer").values():
            # Without it, MiniStack takes the header Authorization as the identity source, and requires it.
            properties["IdentitySource"] = []
        if responses:
            self.changes.append("no route responses: the emulator sends the response of each route to the client")
            self.changes.append("the functions send to connections of the emulator's WebSocket API")

    def remove_gradual_deployments(self, codedeploy_url):
        """MiniStack has no CodeDeploy. With AWS, CodeDeploy moves the alias after the deployment hook has succeeded."""
        removed = self.template["Globals"]["Function"].pop("DeploymentPreference", None)
        for properties in self.resources("AWS::Serverless::Function").values():
            removed = properties.pop("DeploymentPreference", None) or removed
        if removed:
            self.changes.append("no CodeDeploy: the alias moves at once, and the rehearsal runs the deployment hook")
        self.hook = None
        for name, properties in self.resources("AWS::Lambda::Function").items():
            if name == "DeploymentHook":
                self.hook = name
                properties["Environment"]["Variables"]["AWS_ENDPOINT_URL_CODEDEPLOY"] = codedeploy_url
                code = properties["Code"]["ZipFile"]
                properties["Code"]["ZipFile"], found = re.subn(r"\[0(, \d+)+\]", "[0, 1]", code)
                check(found == 1, "the deployment hook has no list of pauses between its attempts")
                self.changes.append("the deployment hook does not wait a minute until permissions are effective")
        # SAM creates the application of CodeDeploy, which only the permissions of the hook refer to.
        text = json.dumps(self.template).replace("${ServerlessDeploymentApplication}", "application")
        self.template = json.loads(text)

    def split_metric_math(self):
        """MiniStack has no metric math: an alarm on an expression becomes one alarm for each of its metrics."""
        for name, alarm in self.resources("AWS::CloudWatch::Alarm").items():
            if "Metrics" not in alarm:
                continue
            resource = self.template["Resources"].pop(name)
            metrics = [metric for metric in alarm["Metrics"] if "MetricStat" in metric]
            for metric in metrics:
                stat = metric["MetricStat"]
                properties = {
                    **stat["Metric"],
                    "Period": stat["Period"],
                    "Statistic" if stat["Stat"] in ("Sum", "Average", "Maximum") else "ExtendedStatistic": stat["Stat"],
                    "ComparisonOperator": "GreaterThanThreshold",
                    "Threshold": 0,
                    "EvaluationPeriods": 1,
                }
                new = {key: value for key, value in resource.items() if key == "Condition"}
                new |= {"Type": "AWS::CloudWatch::Alarm", "Properties": properties}
                self.template["Resources"][name + metric["Id"].title()] = new
            self.changes.append(f"no metric math: {name} is {len(metrics)} alarms on one metric each")

    def show_cors(self):
        """Outputs with the resolved CORS lists, with which the rehearsal configures the API."""
        api = self.resources("AWS::Serverless::HttpApi")["ChatApi"]
        cors = api["DefinitionBody"].get("x-amazon-apigateway-cors") or api["CorsConfiguration"]
        cors = {name[0].upper() + name[1:]: value for name, value in cors.items()}
        for name in CORS_LISTS:
            self.template["Outputs"][f"Cors{name}"] = {"Value": {"Fn::Join": [",", cors[name]]}}
        self.cors_max_age = cors["MaxAge"]

    def function_parameters(self):
        """The parameters that reach the configuration of a function, directly or by a condition."""
        functions = {"Globals": self.original["Globals"]["Function"]}
        for name, resource in self.original["Resources"].items():
            if resource["Type"] == "AWS::Serverless::Function":
                properties = resource["Properties"]
                functions[name] = {key: properties[key] for key in properties if key not in ("Policies", "Events")}
        functions["Globals"].pop("DeploymentPreference", None)
        found, conditions = set(), self.original.get("Conditions", {})

        def visit(value):
            if isinstance(value, list):
                for inner in value:
                    visit(inner)
            elif isinstance(value, dict):
                for key, inner in value.items():
                    if key == "Ref" and inner in self.original["Parameters"]:
                        found.add(inner)
                    elif key == "Fn::Sub":
                        text = inner if isinstance(inner, str) else inner[0]
                        found.update(set(re.findall(r"\$\{(\w+)\}", text)) & self.original["Parameters"].keys())
                        visit(inner)
                    elif key == "Fn::If":
                        visit(conditions[inner[0]])
                        visit(inner[1:])
                    elif key == "Condition" and isinstance(inner, str):
                        visit(conditions[inner])
                    else:
                        visit(inner)

        visit(functions)
        return found

    def write(self, folder, binaries):
        """Writes the template and the functions' folders. `binaries` is the folder with the executables."""
        for name, binary in self.binaries.items():
            executable = binaries / binary
            check(executable.is_file(), f"{executable} is missing. Build it with: cargo build --bins")
            target = folder / "functions" / name
            target.mkdir(parents=True, exist_ok=True)
            # Without symbols, an executable of the profile dev is half as large.
            run(["strip", "-o", target / "bootstrap", executable], seconds=60)
        (folder / "template.json").write_text(json.dumps(self.template, indent=1), encoding="utf-8")
        # `sam deploy` reads the file beside the template.
        shutil.copy2(ROOT / "samconfig.toml", folder / "samconfig.toml")


class Stack:
    """Deployments of the stack with `sam deploy`, and the resources that they created."""

    def __init__(self, emulator, sam, folder, template):
        self.emulator, self.sam, self.folder, self.template = emulator, sam, folder, template
        self.parameters = {}
        self.url = None
        self.deployments = 0
        self.cloudformation = emulator.client("cloudformation")
        self.functions_api = emulator.client("lambda")

    def deploy(self, **parameters):
        """Deploys with these parameters changed. The others keep the values of the last deployment."""
        # `sam deploy` ignores a name that the template does not have.
        unknown = parameters.keys() - self.template.original["Parameters"].keys()
        check(not unknown, f"template.yaml has no parameter {', '.join(sorted(unknown))}")
        packaged = self.folder / "packaged.json"
        is_first = not packaged.exists()
        self.run_sam_deploy("template.json" if is_first else "packaged.json", parameters)
        if is_first:
            # The template with the addresses of the uploaded functions. The following deployments do not upload them
            # again and take seconds.
            uploaded = self.cloudformation.get_template(StackName=STACK, TemplateStage="Original")["TemplateBody"]
            text = uploaded if isinstance(uploaded, str) else json.dumps(uploaded)
            packaged.write_text(text, encoding="utf-8")
        self.parameters |= parameters

    def run_sam_deploy(self, template, parameters=None, environment="default", credentials=None):
        command = [self.sam, "deploy", "--template-file", template, "--config-env", environment]
        if parameters:
            command += ["--parameter-overrides"]
            command += [f"{name}={value}" if value else f"{name}=''" for name, value in parameters.items()]
        self.deployments += 1
        try:
            # The answer to "Deploy this changeset?", which sam asks if samconfig.toml says so.
            variables = self.emulator.environment() | (credentials or {})
            run(command, seconds=300, env=variables, cwd=self.folder, stdin="y\n")
        except RehearsalError as error:
            # Without the tables of all resources.
            lines = str(error).splitlines()
            raise RehearsalError("\n".join([lines[0], lines[-1], self.failures()])) from None

    def failures(self):
        """Why the last deployment failed."""
        pages = self.cloudformation.get_paginator("describe_stack_events").paginate(StackName=STACK)
        found = []
        try:
            # The latest comes first.
            for event in (event for page in pages for event in page["StackEvents"]):
                if "FAILED" in event["ResourceStatus"] and event.get("ResourceStatusReason"):
                    found.append(f"{event['LogicalResourceId']}: {event['ResourceStatusReason']}")
                is_stack = event["ResourceType"] == "AWS::CloudFormation::Stack"
                if is_stack and event["ResourceStatus"] in ("CREATE_IN_PROGRESS", "UPDATE_IN_PROGRESS"):
                    break
        except self.cloudformation.exceptions.ClientError:
            return "There is no stack."
        return "\n".join(found)

    def deploy_broken(self, is_rolled_back=False):
        """Deploys executables that exit at init. The next deployment has the functions again.

        With `is_rolled_back`, another resource fails after all functions have got their new versions, so that
        CloudFormation rolls the deployment back.
        """
        broken = self.folder / "broken"
        broken.mkdir(exist_ok=True)
        (broken / "bootstrap").write_text("#!/bin/sh\necho 'broken on purpose' >&2\nexit 1\n", encoding="utf-8")
        (broken / "bootstrap").chmod(0o755)
        template = copy.deepcopy(self.template.template)
        for name in self.template.binaries:
            template["Resources"][name]["Properties"]["CodeUri"] = "broken"
        if is_rolled_back:
            # Nobody sends the signal that the condition waits for.
            template["Resources"]["Handle"] = {"Type": "AWS::CloudFormation::WaitConditionHandle"}
            template["Resources"]["Failing"] = {
                "Type": "AWS::CloudFormation::WaitCondition",
                "DependsOn": [f"{name}Alias{ALIAS}" for name in self.template.binaries],
                "Properties": {"Handle": {"Ref": "Handle"}, "Timeout": "1"},
            }
        (self.folder / "broken.json").write_text(json.dumps(template), encoding="utf-8")
        self.run_sam_deploy("broken.json")

    def resources(self, stack=STACK):
        """The physical id of each resource."""
        found = self.cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
        return {resource["LogicalResourceId"]: resource["PhysicalResourceId"] for resource in found}

    def outputs(self, stack=STACK):
        """The outputs of a stack."""
        stack = self.cloudformation.describe_stacks(StackName=stack)["Stacks"][0]
        return {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}

    def configurations(self):
        """The configuration of the version that `live` points to, of each function that the stack has."""
        resources = self.resources()
        return {
            name: self.functions_api.get_function_configuration(FunctionName=resources[name], Qualifier=ALIAS)
            for name in self.template.binaries
            if name in resources
        }

    def all_configurations(self):
        """The configuration of every version of every function, `$LATEST` included."""
        found = []
        for page in self.functions_api.get_paginator("list_functions").paginate():
            for function in page["Functions"]:
                versions = self.functions_api.get_paginator("list_versions_by_function")
                for versions_page in versions.paginate(FunctionName=function["FunctionName"]):
                    found += versions_page["Versions"]
        return found

    def import_routes(self):
        """MiniStack does not import routes and CORS from an OpenAPI document. AWS does, so the rehearsal does."""
        gateway, resources, outputs = self.emulator.client("apigatewayv2"), self.resources(), self.outputs()
        processed = self.cloudformation.get_template(StackName=STACK, TemplateStage="Processed")["TemplateBody"]
        if isinstance(processed, str):
            processed = json.loads(processed)
        api, count = resources["ChatApi"], 0
        for path, methods in processed["Resources"]["ChatApi"]["Properties"]["Body"]["paths"].items():
            for method, operation in methods.items():
                uri = operation["x-amazon-apigateway-integration"]["uri"]["Fn::Sub"]
                alias = re.search(r"functions/\$\{(\w+)\}/invocations", uri).group(1)
                integration = gateway.create_integration(
                    ApiId=api, IntegrationType="AWS_PROXY", IntegrationUri=resources[alias], PayloadFormatVersion="2.0"
                )
                method = "ANY" if method == "x-amazon-apigateway-any-method" else method.upper()
                gateway.create_route(
                    ApiId=api, RouteKey=f"{method} {path}", Target=f"integrations/{integration['IntegrationId']}"
                )
                count += 1
        cors = {name: outputs[f"Cors{name}"].split(",") for name in CORS_LISTS}
        gateway.update_api(ApiId=api, CorsConfiguration={**cors, "MaxAge": self.template.cors_max_age})
        return count

    def api_url(self):
        """The base URL of the API. With AWS it is the output ApiUrl; in the emulator it leads to the same API."""
        if not self.url:
            api = re.match(r"https://(\w+)\.execute-api\.", self.outputs()["ApiUrl"])
            check(api, "the output ApiUrl is not the URL of an API")
            self.url = f"{self.emulator.url}/_aws/execute-api/{api.group(1)}"
        return self.url

    def live_url(self):
        """The URL of the WebSocket API. With AWS it is the output LiveUrl; in the emulator it leads to the same API."""
        api = re.match(r"wss://(\w+)\.execute-api\.[^/]+/live$", self.outputs()["LiveUrl"])
        check(api, "the output LiveUrl is not the URL of a WebSocket API")
        return f"{self.emulator.url.replace('http:', 'ws:')}/_aws/execute-api/{api.group(1)}/live"

    def call(self, method, path, token, body=None):
        """Sends a request to the API. Returns status and body."""
        headers = {"authorization": f"Bearer {token}"}
        status, _, response = request(method, self.api_url() + path, headers, body)
        return status, response

    def expect(self, status, method, path, token, body=None):
        """Sends a request that must return this status. Returns the body."""
        actual, response = self.call(method, path, token, body)
        check(actual == status, f"{method} {path} returned {actual} instead of {status}: {response}")
        return response

    def serves(self, signer, claims=None):
        """Whether each function accepts a token of the signer, by the function's name."""
        results = {}
        for name, (method, path, expected) in CALLS.items():
            status, response = self.call(method, path, signer.token(17, claims, self.token_type()))
            results[name] = status == expected
            check(status in (expected, 401), f"{name} returned {status} to a request with a token: {response}")
        return results

    def token_type(self):
        return self.parameters.get("JwtTyp") or "JWT"


# The functions of the WebSocket API that do not verify tokens.
WITHOUT_TOKENS = {"OpenConnectionFunction", "CloseConnectionFunction", "PushEventsFunction"}
# A request for each function of the HTTP API that changes nothing, and the status that it returns with a valid token.
CALLS = {
    "ListActiveChatsFunction": ("GET", "/chats", 200),
    "SendChatRequestFunction": ("POST", "/chats", 400),
    "ListPendingRequestsFunction": ("GET", "/chats/pending", 200),
    "ListRejectedRequestsFunction": ("GET", "/chats/rejected", 200),
    "AcceptChatRequestFunction": ("PUT", "/chats/0-0/accept", 404),
    "DeclineChatRequestFunction": ("PUT", "/chats/0-0/decline", 404),
    "WithdrawChatRequestFunction": ("PUT", "/chats/0-0/withdraw", 404),
    "GetChatFunction": ("GET", "/chats/0-0", 404),
    "ListMessagesFunction": ("GET", "/chats/0-0/messages", 404),
    "MarkMessagesReadFunction": ("PUT", "/chats/0-0/messages/read", 404),
    "EditMessageFunction": ("PATCH", "/chats/0-0/messages/1", 400),
    "DeleteMessageFunction": ("DELETE", "/chats/0-0/messages/1", 404),
    "ListChangesFunction": ("GET", "/chats/0-0/changes", 404),
    "GetTotalsFunction": ("GET", "/totals", 200),
    "GetUnreadTotalFunction": ("GET", "/totals/unread", 200),
    "SendMessageFunction": ("POST", "/chats/0-0/messages", 400),
    "BlockUserFunction": ("PUT", "/blocks/0", 400),
    "UnblockUserFunction": ("DELETE", "/blocks/0", 400),
    "ListBlocksFunction": ("GET", "/blocks", 200),
    "ReportUserFunction": ("POST", "/reports", 400),
}
