#!/usr/bin/env python3
"""Checks template.yaml with SAM's own translator, for mistakes that cfn-lint does not know.

- A deployment that changes only a parameter publishes a new version of each function. Each parameter is changed, and
  the versions before and after are compared.
- Under every combination of the conditions (kinds of keys, authorizer, tracing, table, alarms, …) no reference to a
  missing resource remains, the functions accept their environment, and only functions that use the secret may read it.
- Resources do not depend on each other in a circle, which CloudFormation rejects.
- The gateway's authorizer protects every route when it is enabled, and none when it is not. Each route has its limits.
- Realtime=off leaves nothing of the WebSocket API. With on, each route has a function, permission and response, and the
  functions may send to connections of this API only.
- The deployment hook tests each function, and its code reports what it finds.
- samconfig.toml has only parameters that exist, with valid values, and a receiver of production's alarms.

Run it with the Python environment that has aws-sam-translator. `template` has the newest version, `template-minimum` the
minimum that docs/deploy.md allows:

    "$(scripts/python-tools.sh template)/python" scripts/check_template.py
"""
import argparse
import base64
import contextlib
import graphlib
import hmac
import importlib.metadata
import io
import itertools
import json
import re
import sys
import time
import types

from stack_template import (
    ROOT,
    MissingResource,
    Stack,
    conditions,
    default_parameters,
    functions,
    references,
    source,
    translate,
)

MAX_DESCRIPTION = 256
# Lambda's limit on the environment variables of a function, in bytes, and on the name of a function.
MAX_ENVIRONMENT = 4096
MAX_FUNCTION_NAME = 64
# What this allows the values of the parameters in the environment of the hook.
MAX_PARAMETER_VALUES = 800
# How a function says that SafetyFeatures=off turns its operation off. The hook looks for this text.
NOT_ENABLED = "not enabled yet"
# Properties of a function that are not part of its configuration.
NOT_CONFIGURATION = {
    "AutoPublishAlias",
    "AutoPublishAliasAllProperties",
    "DeploymentPreference",
    "Description",
    "Events",
    "Policies",
    "VersionDescription",
}
STREAM_ARN = "arn:aws:dynamodb:eu-central-1:111122223333:table/chat-restored/stream/2026-01-31T12:00:00.000"
# Values to change a parameter to, if its type does not suggest one. The first that its pattern allows is used.
SAMPLE_TEXTS = ["changed", "https://keys.example.com/jwks.json", "alarms@example.com", STREAM_ARN]
# The functions of the WebSocket API, with the source of their events: a route, the authorizer or the stream. They and
# everything else that exists with Realtime=on only have this condition.
LIVE_FUNCTIONS = {
    "AuthorizeConnectionFunction": "authorizer",
    "OpenConnectionFunction": "$connect",
    "CloseConnectionFunction": "$disconnect",
    "ReceiveFrameFunction": "$default",
    "PushEventsFunction": "stream",
}
# The routes whose function responds to the client.
RESPONDING_ROUTES = {"$connect", "$default"}
# Of these, the ones that do not verify tokens, and so need no secret.
WITHOUT_TOKENS = {"OpenConnectionFunction", "CloseConnectionFunction", "PushEventsFunction"}
# The operations on connections that a function may use.
CONNECTION_METHODS = {
    "OpenConnectionFunction": {"POST", "DELETE"},
    "ReceiveFrameFunction": {"POST", "DELETE"},
    "PushEventsFunction": {"POST", "DELETE"},
}
# Texts in the definitions of resources that belong to the WebSocket API.
LIVE_TEXTS = re.compile("Live[A-RT-Z]|LiveStage|WEBSOCKET|@connections|StreamArn|" + "|".join(LIVE_FUNCTIONS))
# Base configurations: in each, other parameters have an effect.
BASES = {
    "the secret": {},
    "all kinds of keys": {
        "JwtPublicKeyParameter": "/chat/key:1",
        "JwtJwksParameter": "/chat/jwks:1",
        "JwtJwksUrl": "https://issuer.example.com/jwks.json",
        "JwtSecretWithPublicKeys": "true",
    },
    "a key set URL": {"JwtJwksUrl": "https://issuer.example.com/jwks.json"},
    "no WebSocket API": {"Realtime": "off"},
}
# The variables of the functions that decide how a token must be signed.
SIGNING_VARIABLES = ["JWT_SECRET_ARN", "JWT_ISSUER", "JWT_AUDIENCE", "JWT_TOKEN_USE", "JWT_TYP", "JWT_USER_CLAIM"]
# The parameters with which the hook's code runs here, and the value of the secret.
HOOK_PARAMETERS = {
    "JwtSecretArn": "keys/chat",
    "JwtIssuer": ",https://one.example/,https://two.example/",
    "JwtAudience": "chat,chat-web",
    "JwtTokenUse": "access",
    "JwtTyp": "at+jwt",
    "JwtUserClaim": "user",
}
HOOK_SECRET = "the secret of the checks"
SECRET_ARN = "arn:aws:secretsmanager:eu-central-1:111122223333:secret:keys/chat-AbCdEf"
ISSUER = {"JwtIssuer": "https://issuer.example.com/,https://old.example.com/", "JwtAudience": "chat,chat-web"}
# The values whose combinations are checked. Together they make each condition true and false.
CHOICES = [
    [{"JwtSecretArn": value} for value in ("keys/chat", SECRET_ARN, "")],
    [{"JwtPublicKeyParameter": value} for value in ("", "/chat/key:1")],
    [{"JwtJwksParameter": value} for value in ("", "/chat/jwks:1")],
    [{"JwtJwksUrl": value} for value in ("", "https://issuer.example.com/jwks.json")],
    [{"JwtSecretWithPublicKeys": value} for value in ("false", "true")],
    [{"JwtSecretKmsKeyArn": value} for value in ("", "arn:aws:kms:eu-central-1:111122223333:key/k")],
    [{"GatewayAuthorizer": "false"}, {"GatewayAuthorizer": "true"} | ISSUER],
    [
        {"ExistingTableName": "", "Realtime": "on"},
        {"ExistingTableName": "", "Realtime": "on", "LiveAccessLog": "on"},
        {"ExistingTableName": "", "Realtime": "off", "LiveAccessLog": "on"},
        {"ExistingTableName": "chat-restored", "ExistingTableStreamArn": STREAM_ARN, "Realtime": "on"},
        {"ExistingTableName": "chat-restored", "ExistingTableStreamArn": "", "Realtime": "on"},
        {"ExistingTableName": "chat-restored", "ExistingTableStreamArn": "", "Realtime": "off"},
    ],
    [{"AlarmEmail": value} for value in ("", "alarms@example.com")],
    [{"AlarmTopicArn": value} for value in ("", "arn:aws:sns:eu-central-1:111122223333:pager")],
    [{"AllowedHeaders": "", "LogLevel": "INFO"}, {"AllowedHeaders": "x-app-version,x-device", "LogLevel": "WARN"}],
    # SAM inserts the values of these two itself.
    [{"Tracing": value} for value in ("Disabled", "Active")],
    [{"DeploymentType": value} for value in ("Canary10Percent5Minutes", "AllAtOnce")],
]

# What is wrong, and the first configuration in which it was found.
problems = {}


def expect(is_right, problem, where=""):
    if not is_right:
        problems.setdefault(problem, where)


def resolved(stack, name):
    """The properties of a resource; none if it refers to a resource that does not exist."""
    try:
        return stack.properties(name)
    except MissingResource as missing:
        expect(False, f"{name} refers to {missing}, which does not exist", f"with {shown(stack.parameters)}")
        return {}


def shown(parameters):
    """The parameters that differ from their defaults, for a message."""
    defaults = default_parameters()
    changed = [f"{name}={value}" for name, value in parameters.items() if value != defaults[name]]
    return " ".join(changed) or "the defaults"


def role_of(function):
    return f"{function}Role"


def changed_value(name, current):
    """Another valid value of a parameter."""
    parameter = source()["Parameters"][name]
    if "AllowedValues" in parameter:
        return next(str(value) for value in parameter["AllowedValues"] if str(value) != current)
    if parameter["Type"] == "Number":
        value = int(current) + 1
        return str(value if value <= parameter.get("MaxValue", value) else value - 2)
    pattern = parameter.get("AllowedPattern", ".*")
    return next(text for text in SAMPLE_TEXTS if text != current and re.fullmatch(pattern, text))


# ------------------------------------------------------------------------------------------------- new versions


def configuration_parts(function):
    """The parts of template.yaml that become the configuration of a function."""
    properties = source()["Globals"]["Function"] | {"Own": source()["Resources"][function]["Properties"]}
    own = {key: value for key, value in properties.pop("Own").items() if key not in NOT_CONFIGURATION}
    shared = {key: value for key, value in properties.items() if key not in NOT_CONFIGURATION}
    return [shared, own]


def check_content():
    """Everything that a function's configuration refers to is in the content of ConfigurationVersion."""
    template = source()
    content = references(template["Resources"]["ConfigurationVersion"]["Properties"]["Content"])
    for function in functions():
        parts = configuration_parts(function)
        needed = references(parts)
        for condition in conditions(parts, template):
            needed |= references([template["Conditions"][condition]])
        for name in sorted(needed - content):
            expect(
                False,
                f"{name} is part of the configuration of functions, but not of ConfigurationVersion. A deployment that"
                f" changes only {name} would publish no new version. Add the line `{name}=${{{name}}}` to its Content.",
            )


def versions(stack):
    """What Lambda and CloudFormation compare: the configuration of each function, and its version resource."""
    found = {}
    for function in functions(stack):
        name, = (n for n in stack.resources("AWS::Lambda::Version") if re.fullmatch(f"{function}Version\\w+", n))
        configuration = {key: value for key, value in resolved(stack, function).items() if key != "Code"}
        found[function] = (configuration, (name, resolved(stack, name)))
    return found


def check_changes():
    """A change of each parameter that reaches a function replaces the versions of all functions."""
    effective = set()
    for base_name, base in BASES.items():
        before_stack = Stack(translate(base), base)
        before = versions(before_stack)
        for name in source()["Parameters"]:
            parameters = base | {name: changed_value(name, before_stack.parameters[name])}
            after = versions(Stack(translate(parameters), parameters))

            without_description = {"Description": None}
            # A change of Realtime adds or removes functions.
            both = [function for function in before if function in after]
            if all(before[f][0] | without_description == after[f][0] | without_description for f in both):
                continue
            effective.add(name)
            for function in both:
                where = f"with {base_name}, after a change of only {name}"
                expect(
                    before[function][1] != after[function][1],
                    f"a deployment publishes no new version of {function}. Its VersionDescription, and the Content of"
                    " ConfigurationVersion, must change",
                    where,
                )
                expect(
                    before[function][0] != after[function][0],
                    f"a deployment fails at {function}, because Lambda publishes no version of a function that has not"
                    " changed. Its Description must contain ${ConfigurationVersion}",
                    where,
                )
    return effective


def check_descriptions(stack):
    """Descriptions have at most 256 characters."""
    for name in stack.resources("AWS::Lambda::Function") + stack.resources("AWS::Lambda::Version"):
        # The number of a configuration has far fewer than ten digits.
        description = stack.properties(name).get("Description", "")
        expect(len(description) <= MAX_DESCRIPTION, f"the description of {name} has {len(description)} characters")


# -------------------------------------------------------------------------------------------------- combinations


def environment_problem(environment):
    """Why a function would not start with an environment; None if it would."""
    is_set = {name: bool(value) for name, value in environment.items()}
    if not any(map(is_set.get, ("JWT_SECRET", "JWT_SECRET_ARN", "JWT_PUBLIC_KEY", "JWT_JWKS", "JWT_JWKS_URL"))):
        return "no key is set"
    if is_set.get("JWT_SECRET") and is_set.get("JWT_SECRET_ARN"):
        return "JWT_SECRET and JWT_SECRET_ARN are set together"
    if is_set.get("JWT_SECRET_PREVIOUS") and not is_set.get("JWT_SECRET"):
        return "JWT_SECRET_PREVIOUS is set without JWT_SECRET"
    return None


def expected_refusal(parameters):
    """Whether the template's rules must refuse parameters."""
    has_secret = bool(parameters["JwtSecretArn"])
    public_keys = ("JwtPublicKeyParameter", "JwtJwksParameter", "JwtJwksUrl")
    has_public_key = any(parameters[name] for name in public_keys)
    with_public_keys = parameters["JwtSecretWithPublicKeys"] == "true"
    uses_authorizer = parameters["GatewayAuthorizer"] == "true"
    has_realtime = parameters["Realtime"] == "on"
    return (
        not (has_secret or has_public_key)
        or has_realtime and bool(parameters["ExistingTableName"]) and not parameters["ExistingTableStreamArn"]
        or with_public_keys and not has_secret
        or uses_authorizer and (not has_public_key or with_public_keys)
    )


class Resolver:
    """Resolves the resources of a template under many combinations, each distinct one only once."""

    def __init__(self, template):
        self.template = template
        self.resolved = {}
        self.inputs = {name: self.parameters_of(resource) for name, resource in template["Resources"].items()}

    def parameters_of(self, resource):
        """The parameters that decide about a resource and about the existence of what it refers to."""
        names = references(resource)
        deciding = conditions([resource], self.template)
        for name in names & self.template["Resources"].keys():
            if "Condition" in (target := self.template["Resources"][name]):
                deciding |= conditions([{"Condition": target["Condition"]}], self.template)
        for condition in deciding:
            names |= references([self.template["Conditions"][condition]])
        return sorted(names & self.template["Parameters"].keys())

    def properties(self, stack, name):
        key = (name, *(stack.parameters[parameter] for parameter in self.inputs[name]))
        if key not in self.resolved:
            self.resolved[key] = resolved(stack, name)
        return self.resolved[key]


def statements(properties):
    """The statements of the policies in the properties of a role or policy."""
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", [])]
    documents += [properties["PolicyDocument"]] if "PolicyDocument" in properties else []
    return [statement for document in documents for statement in document["Statement"]]


def actions(statement):
    return [statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"]


def check_combination(stack, resolver):
    """Checks the stack under one combination of parameters that the rules accept."""
    where = f"with {shown(stack.parameters)}"
    properties = {name: resolver.properties(stack, name) for name in stack.resources()}
    for name, output in stack.template["Outputs"].items():
        try:
            if stack.has_output(name):
                stack.resolve(output["Value"])
        except MissingResource as missing:
            expect(False, f"the output {name} refers to {missing}, which does not exist", where)
    if not all(properties.values()):
        return  # A resource refers to one that does not exist, which is reported already.

    environment = properties[functions()[0]]["Environment"]["Variables"]
    problem = environment_problem(environment)
    expect(not problem, f"no function starts: {problem}", where)

    table = "<ChatTable>" if stack.has("ChatTable") else stack.parameters["ExistingTableName"]
    expect(environment["TABLE_NAME"] == table, f"TABLE_NAME is {environment['TABLE_NAME']}, not {table}", where)
    secret = environment["JWT_SECRET_ARN"]
    readers = set()
    for name in stack.resources("AWS::IAM::Role") + stack.resources("AWS::IAM::Policy"):
        for statement in statements(properties[name]):
            resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
            for action, resource in itertools.product(actions(statement), resources):
                if action == "dynamodb:ListStreams":
                    expect(resource == "*", f"{name} allows {action} on {resource}, which IAM ignores", where)
                elif action == "execute-api:ManageConnections":
                    function = name.removesuffix("Role")
                    allowed = [connections_arn(method) for method in CONNECTION_METHODS.get(function, [])]
                    expect(resource in allowed, f"{name} allows {action} on {resource}", where)
                elif action.startswith("dynamodb:"):
                    expect(f":table/{table}" in resource, f"{name} allows {action} on {resource}", where)
                elif action == "secretsmanager:GetSecretValue":
                    arn = SECRET_ARN.rsplit(":", 1)[0] + f":{secret}-??????"
                    expect(
                        secret and resource == (secret if secret.startswith("arn:") else arn),
                        f"{name} may read {resource}, but the functions read {secret or 'no secret'}",
                        where,
                    )
                    readers.update(properties[name].get("Roles", [f"<{name}>"]))
                elif action.startswith("kms:"):
                    is_key = secret and resource == stack.parameters["JwtSecretKmsKeyArn"]
                    expect(is_key, f"{name} may use {resource}", where)
    # The hook signs a token with the secret.
    verifying = [function for function in functions(stack) if function not in WITHOUT_TOKENS]
    roles = [*map(role_of, verifying), "DeploymentHookRole"]
    expected = {f"<{role}>" for role in roles} if secret else set()
    hook = properties["DeploymentHook"]["Environment"]["Variables"]
    for name in SIGNING_VARIABLES:
        expect(hook[name] == environment[name], f"{name} of DeploymentHook is not that of the functions", where)
    expect(readers == expected, f"these roles may read the secret, or lack it: {sorted(readers ^ expected)}", where)

    targets = ["<AlarmEmailTopic>"] if stack.parameters["AlarmEmail"] else []
    targets += [stack.parameters["AlarmTopicArn"]] if stack.parameters["AlarmTopicArn"] else []
    for name in stack.resources("AWS::CloudWatch::Alarm"):
        for list_name in ("AlarmActions", "OKActions"):
            expect(properties[name][list_name] == targets, f"{list_name} of {name} is not {targets}", where)

    check_realtime(stack, properties, table, where)
    is_traced = stack.parameters["Tracing"] == "Active"
    for function in functions(stack):
        policies = " ".join(properties[role_of(function)]["ManagedPolicyArns"]).lower()
        expect(
            ("TracingConfig" in properties[function]) == ("xray" in policies) == is_traced,
            f"tracing or the X-Ray policy of {function} is not as Tracing says",
            where,
        )
    cors = properties["ChatApi"]["Body"]["x-amazon-apigateway-cors"]
    more = [header for header in stack.parameters["AllowedHeaders"].split(",") if header]
    expect(
        isinstance(cors["allowOrigins"], list) and cors["allowHeaders"][7:] == more,
        f"the API has the CORS settings {cors}",
        where,
    )


def connections_arn(method):
    return f"arn:aws:execute-api:eu-central-1:111122223333:<LiveApi>/live/{method}/@connections/*"


def check_realtime(stack, properties, table, where):
    """The WebSocket API with its functions and the stream is complete, or nothing of it exists."""
    is_on = stack.parameters["Realtime"] == "on"
    if stack.has("ChatTable"):
        stream = properties["ChatTable"].get("StreamSpecification")
        wanted = {"StreamViewType": "NEW_AND_OLD_IMAGES"} if is_on else None
        expect(stream == wanted, f"the table has the stream {stream} instead of {wanted}", where)
    is_logged = is_on and stack.parameters["LiveAccessLog"] == "on"
    expect(stack.has("LiveLogs") == is_logged, "LiveLogs is not as LiveAccessLog says", where)
    if not is_on:
        texts = {name: json.dumps(resource) for name, resource in properties.items()}
        texts |= {output: output for output in stack.template["Outputs"] if stack.has_output(output)}
        remaining = [name for name in texts if LIVE_TEXTS.search(name + texts[name])]
        # These contain names of parameters and the code of the hook.
        remaining = [name for name in remaining if name not in ("ConfigurationVersion", "DeploymentHook")]
        expect(not remaining, f"with Realtime=off these belong to the WebSocket API: {sorted(remaining)}", where)
        return

    found = {}
    for route in stack.resources("AWS::ApiGatewayV2::Route"):
        if properties[route]["ApiId"] == "<LiveApi>":
            integration = properties[route]["Target"].removeprefix("integrations/").strip("<>")
            alias = re.search(r"functions/<(\w+)Aliaslive>/invocations$", properties[integration]["IntegrationUri"])
            found[alias[1] if alias else integration] = properties[route]["RouteKey"]
            responds = properties[route].get("RouteResponseSelectionExpression") == "$default"
            has_response = any(
                properties[name] == {"ApiId": "<LiveApi>", "RouteId": f"<{route}>", "RouteResponseKey": "$default"}
                for name in stack.resources("AWS::ApiGatewayV2::RouteResponse")
            )
            expect(
                responds == has_response == (properties[route]["RouteKey"] in RESPONDING_ROUTES),
                f"the response of {route} does not reach the client, or should not",
                where,
            )
            authorizer = properties[route].get("AuthorizerId")
            is_protected = (authorizer, properties[route].get("AuthorizationType")) == ("<LiveAuthorizer>", "CUSTOM")
            expect(is_protected == (properties[route]["RouteKey"] == "$connect"), f"the authorizer of {route}", where)
    uri = properties["LiveAuthorizer"]["AuthorizerUri"]
    found[re.search(r"functions/<(\w+)Aliaslive>/invocations$", uri)[1]] = "authorizer"
    mapping = properties["PushEventsMapping"]
    found[mapping["FunctionName"].strip("<>").removesuffix("Aliaslive")] = "stream"
    expect(found == LIVE_FUNCTIONS, f"the events of the WebSocket API and the stream go to {found}", where)
    stream = "<ChatTable.StreamArn>" if stack.has("ChatTable") else STREAM_ARN
    expect(mapping["EventSourceArn"] == stream, f"PushEventsMapping reads {mapping['EventSourceArn']}", where)

    permissions = {}
    for name in stack.resources("AWS::Lambda::Permission"):
        source_arn = properties[name].get("SourceArn", "")
        if "<LiveApi>" in source_arn:
            permissions[properties[name]["FunctionName"].strip("<>").removesuffix("Aliaslive")] = source_arn
    api = "arn:aws:execute-api:eu-central-1:111122223333:<LiveApi>"
    wanted = {f: f"{api}/live/{route}" for f, route in LIVE_FUNCTIONS.items() if route.startswith("$")}
    wanted["AuthorizeConnectionFunction"] = f"{api}/authorizers/<LiveAuthorizer>"
    expect(permissions == wanted, f"API Gateway may invoke {permissions}", where)
    for function in LIVE_FUNCTIONS:
        variables = properties[function]["Environment"]["Variables"]
        actual = variables.get("AWS_ENDPOINT_URL_APIGATEWAYMANAGEMENTAPI")
        url = "https://<LiveApi>.execute-api.eu-central-1.amazonaws.com/live"
        expect(actual == (url if function in CONNECTION_METHODS else None), f"{function} sends to connections at {actual}", where)
        granted = [
            resource
            for statement in statements(properties[role_of(function)])
            if "execute-api:ManageConnections" in actions(statement)
            for resource in statement["Resource"]
        ]
        needed = sorted(map(connections_arn, CONNECTION_METHODS.get(function, [])))
        expect(sorted(granted) == needed, f"{role_of(function)} lacks {sorted(set(needed) ^ set(granted))}", where)


def check_combinations():
    """Every combination of CHOICES: the rules refuse it, or the stack is right."""
    translated = {}
    seen = {name: set() for name in source()["Conditions"]}
    accepted = 0
    for choice in itertools.product(*CHOICES):
        parameters = {name: value for values in choice for name, value in values.items()}
        inserted = (parameters["Tracing"], parameters["DeploymentType"])
        if inserted not in translated:
            template = translate(parameters)
            translated[inserted] = (template, Resolver(template))
        template, resolver = translated[inserted]
        stack = Stack(template, parameters)
        refused = stack.failed_rules()
        expect(
            bool(refused) == bool(expected_refusal(stack.parameters)),
            f"the rules {'refuse' if refused else 'accept'} these parameters {refused}",
            f"with {shown(stack.parameters)}",
        )
        if not refused:
            accepted += 1
            for name in seen:
                seen[name].add(stack.condition(name))
            check_combination(stack, resolver)
    for name, values in seen.items():
        expect(len(values) == 2, f"no combination makes the condition {name} both true and false. Add one to CHOICES.")
    return accepted


def check_secrets(template):
    """CloudFormation never inserts a secret."""
    expect(
        "{{resolve:secretsmanager" not in json.dumps(template),
        "template.yaml inserts a secret. Everybody who may read the stack's resources could read it.",
    )


# ------------------------------------------------------------------------------------------- resources and routes


def check_version_policy(template):
    """A version that a rolled back deployment has published is deleted, so that it can be published again."""
    for name, resource in template["Resources"].items():
        if resource["Type"] == "AWS::Lambda::Version":
            expect(resource["DeletionPolicy"] == "Delete", f"{name} remains after a rollback. Set VersionDeletionPolicy.")


def check_circles(template):
    resources = template["Resources"]
    graph = {name: references([resource]) & resources.keys() for name, resource in resources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as cycle:
        expect(
            False,
            "these resources depend on each other in a circle, which CloudFormation rejects. Remove one of the"
            f" references: {' <- '.join(cycle.args[1])}",
        )


def routes():
    """Method and path of each route with a method, as in the functions' events."""
    events = [e for f in functions() for e in source()["Resources"][f]["Properties"].get("Events", {}).values()]
    found = [event["Properties"] for event in events]
    return sorted((event["Path"], event["Method"].lower()) for event in found if event["Method"] != "ANY")


def check_authorizer(template):
    """The authorizer protects exactly the routes of the functions, or none."""
    url = {"JwtJwksUrl": "https://issuer.example.com/jwks.json"}
    for is_enabled in (True, False):
        parameters = url | ({"GatewayAuthorizer": "true"} | ISSUER if is_enabled else {})
        body = Stack(template, parameters).properties("ChatApi")["Body"]
        protected = sorted(
            (path, method)
            for path, methods in body["paths"].items()
            for method, operation in methods.items()
            if [list(scheme) for scheme in operation.get("security", [])] == [["issuer"]]
        )
        expect(
            protected == (routes() if is_enabled else []),
            f"with GatewayAuthorizer={str(is_enabled).lower()} the authorizer does not protect exactly the routes of the"
            f" functions. Correct the paths of ChatApi: {sorted(set(routes()) ^ set(protected))}",
        )
        schemes = body.get("components", {}).get("securitySchemes", {})
        expect(list(schemes) == (["issuer"] if is_enabled else []), f"ChatApi has the security schemes {list(schemes)}")
        if is_enabled:
            jwt = schemes["issuer"]["x-amazon-apigateway-authorizer"]["jwtConfiguration"]
            wanted = {"issuer": ISSUER["JwtIssuer"].split(",")[0], "audience": ISSUER["JwtAudience"].split(",")}
            expect(jwt == wanted, f"the authorizer has the configuration {jwt} instead of {wanted}")


def check_stage(stack):
    """The limits of the routes, and the access log."""
    stages = {stage["ApiId"]: stage for stage in map(stack.properties, stack.resources("AWS::ApiGatewayV2::Stage"))}
    stage, live = stages["<ChatApi>"], stages["<LiveApi>"]
    limits = {None: "Throttling"}
    for path, method in routes():
        limits[f"ANY {path}"] = "OtherMethodsThrottling"
        # A client can write with these any number of times.
        if method in ("post", "patch", "delete") or (method, path) == ("put", "/blocks/{userId}"):
            limits[f"{method.upper()} {path}"] = "WriteThrottling"
    wanted = {
        route: {f"Throttling{kind}Limit": stack.parameters[f"{prefix}{kind}"] for kind in ("Rate", "Burst")}
        for route, prefix in limits.items()
    }
    actual = stage["RouteSettings"] | {None: stage["DefaultRouteSettings"]}
    wrong = [route or "the default" for route in wanted.keys() | actual if wanted.get(route) != actual.get(route)]
    expect(not wrong, f"the limits of these routes are missing, wrong or unknown: {sorted(wrong)}")
    limits = {f"Throttling{kind}Limit": stack.parameters[f"Throttling{kind}"] for kind in ("Rate", "Burst")}
    expect(live["DefaultRouteSettings"] == limits, f"the WebSocket API has the limits {live['DefaultRouteSettings']}")
    limits = {f"Throttling{kind}Limit": stack.parameters[f"ConnectThrottling{kind}"] for kind in ("Rate", "Burst")}
    expect(live["RouteSettings"] == {"$connect": limits}, f"the WebSocket API has the limits {live['RouteSettings']}")
    expect("AccessLogSettings" not in live, "the WebSocket API has an access log by default, which needs a role")
    logged = Stack(stack.template, {"LiveAccessLog": "on"})
    for stage, group in ((stage, "ApiLogs"), (logged.properties("LiveStage"), "LiveLogs")):
        line = stage["AccessLogSettings"]["Format"]
        with_values = re.sub(r"\$context[\w.]+", "-", line)
        try:
            fields = json.loads(with_values)
            expect({"requestId", "functionRequestId"} <= fields.keys(), f"the access log of {group} lacks an id")
        except json.JSONDecodeError as error:
            expect(False, f"the format of the access log of {group} is not JSON: {error}")
        expect("\n" not in line, f"the format of {group} has several lines, which API Gateway rejects")
        name = logged.properties(group)["LogGroupName"]
        expect(name.startswith("/aws/vendedlogs/"), f"the access log's group is {name}, outside /aws/vendedlogs/")


# ------------------------------------------------------------------------------------------------ deployment hook


class StubClient:
    """Stands for CodeDeploy, Lambda and Secrets Manager when the hook's code runs here, and for the clock."""

    def __init__(self, revision, responses, remaining):
        self.revision, self.responses, self.remaining = revision, responses, remaining
        self.invoked, self.events, self.tokens, self.status = [], [], [], None
        self.output = io.StringIO()

    def get_deployment(self, deploymentId):
        if isinstance(self.revision, Exception):
            raise self.revision
        return {"deploymentInfo": {"revision": self.revision}}

    def put_lifecycle_event_hook_execution_status(self, deploymentId, lifecycleEventHookExecutionId, status):
        expect(self.remaining > 0, "the hook reports nothing before its time limit")
        self.status = status

    def get_secret_value(self, SecretId):
        expect(SecretId == HOOK_PARAMETERS["JwtSecretArn"], f"the hook reads the secret {SecretId}")
        return {"SecretString": HOOK_SECRET}

    def invoke(self, FunctionName, Payload):
        event = json.loads(Payload)
        self.invoked.append(FunctionName)
        self.events.append(event)
        token = event.get("headers", {}).get("authorization")
        if token:
            self.tokens.append(token)
        response, seconds = self.responses(FunctionName, token, len(self.invoked)), 1
        if isinstance(response, TimeoutError):
            seconds = 40
        self.remaining -= seconds
        if isinstance(response, Exception):
            raise response
        return {"Payload": io.BytesIO(json.dumps(response).encode())}

    def sleep(self, seconds):
        self.remaining -= seconds


def run_hook(hook, revision, responses, remaining=300):
    """Runs the code of the deployment hook. Returns the stub, with what the code did."""
    stub = StubClient(revision, responses, remaining)
    modules = {
        "boto3": types.SimpleNamespace(client=lambda name, **options: stub),
        "botocore.config": types.SimpleNamespace(Config=lambda **options: None),
        "os": types.SimpleNamespace(environ=hook["Environment"]["Variables"] | {"PATH": "/bin"}),
        "time": types.SimpleNamespace(sleep=stub.sleep, time=time.time),
    }
    real = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        scope = {}
        exec(compile(hook["Code"]["ZipFile"], "DeploymentHook", "exec"), scope)
    finally:
        for name, module in real.items():
            sys.modules.pop(name)
            if module:
                sys.modules[name] = module
    event = {"DeploymentId": "d-1", "LifecycleEventHookExecutionId": "e-1"}
    context = types.SimpleNamespace(get_remaining_time_in_millis=lambda: stub.remaining * 1000)
    # What the code prints goes to the log of the hook.
    with contextlib.redirect_stdout(stub.output):
        scope["handler"](event, context)
    return stub


def decode(part):
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def check_token(authorization):
    """The hook's token has the configured claims, and is signed with the secret."""
    header, claims, signature = authorization.removeprefix("Bearer ").split(".")
    signed = hmac.digest(HOOK_SECRET.encode(), f"{header}.{claims}".encode(), "sha256")
    expect(signature == base64.urlsafe_b64encode(signed).decode().rstrip("="), "the hook's token is not signed right")
    claims = decode(claims)
    lifetime = claims.pop("exp") - time.time()
    expect(0 < lifetime <= 300, f"the hook's token is valid for {lifetime} seconds")
    wanted = {"user": "9007199254740991", "iss": "https://one.example/", "aud": "chat", "token_use": "access"}
    expect(claims == wanted, f"the hook's token has the claims {claims}")
    expect(decode(header) == {"alg": "HS256", "typ": "at+jwt"}, f"the hook's token has the header {decode(header)}")


def policy(effect):
    """What authorize-connection returns."""
    statement = {"Action": "execute-api:Invoke", "Effect": effect, "Resource": "*"}
    return {"principalId": "42", "policyDocument": {"Version": "2012-10-17", "Statement": [statement]}}


def check_live_events(hook, good):
    """The hook sends each function of the WebSocket API an event of its kind, and fails for a wrong response."""
    for function, kind in LIVE_FUNCTIONS.items():
        properties = {"Name": f"chat-{function}-AbCdEf", "TargetVersion": "2"}
        content = json.dumps({"Resources": [{"f": {"Type": "AWS::Lambda::Function", "Properties": properties}}]})
        revision = {"revisionType": "String", "string": {"content": content}}
        run = run_hook(hook, revision, good)
        output = run.output.getvalue()
        expect(run.status == "Succeeded", f"the hook reports {run.status} for a good {function}: {output}")
        for event in run.events:
            is_right = event.get("requestContext", {}).get("routeKey") == kind
            if kind == "stream":
                is_right = event == {"Records": []}
            elif kind == "authorizer":
                offered = event["headers"]["Sec-WebSocket-Protocol"]
                is_right = event["type"] == "REQUEST" and offered == "chat.v1" and "origin" not in event["headers"]
            elif is_right:
                claims = event["requestContext"]["authorizer"]
                is_right = claims["userId"] == "9007199254740991" and int(claims["tokenExpiresAt"]) > time.time()
            expect(is_right, f"the hook sends to {function}: {event}")
        exited, failed = {"errorType": "Runtime.ExitError"}, {"statusCode": 500}
        for wrong in (exited, failed, {"errorMessage": "no"}, PermissionError()):
            run = run_hook(hook, revision, lambda *_: wrong)
            expect(run.status == "Failed", f"the hook reports {run.status} for a {function} that returns {wrong!r}")
        if kind == "authorizer":
            for effect in ("Allow", "Deny"):
                run = run_hook(hook, revision, lambda *_: policy(effect))
                expect(run.status == "Failed", f"the hook reports {run.status} if {function} always returns {effect}")


def check_hook(template):
    """The hook tests each function's new version, and reports what it finds."""
    stack = Stack(template, HOOK_PARAMETERS)
    hook = stack.properties("DeploymentHook")
    new = {function: versions(stack)[function][1][0] for function in functions()}
    variables = hook["Environment"]["Variables"]
    tested = {name: value for name, value in variables.items() if name not in SIGNING_VARIABLES}
    tested = {name: value.split(":")[1].strip("<>") for name, value in tested.items()}
    expect(tested == new, f"the environment of DeploymentHook lacks the version of {sorted(set(new) ^ set(tested))}")
    granted = statements(stack.properties("DeploymentHookRole"))
    allowed = [statement["Resource"] for statement in granted if "lambda:InvokeFunction" in actions(statement)]
    expect(
        allowed == [[f"<{function}.Arn>:*" for function in functions()]],
        "DeploymentHookRole must allow lambda:InvokeFunction on each function",
    )
    is_named = hook["FunctionName"].startswith("CodeDeployHook_")
    expect(is_named, "CodeDeploy may only invoke functions with the prefix CodeDeployHook_")
    version = f"{'x' * MAX_FUNCTION_NAME}:100000"
    size = sum(len(name) + len(version if name in tested else "") for name in variables) + MAX_PARAMETER_VALUES
    expect(size <= MAX_ENVIRONMENT, f"the environment of DeploymentHook can have {size} bytes, Lambda allows 4096")
    errors = (ROOT / "shared" / "src" / "error.rs").read_text(encoding="utf-8")
    for place, text in (("the hook", hook["Code"]["ZipFile"]), ("shared/src/error.rs", errors)):
        expect(NOT_ENABLED in text, f"{place} does not contain the text {NOT_ENABLED!r}")

    unauthorized = {"statusCode": 401, "body": json.dumps({"code": "unauthorized"})}
    denied = policy("Deny")

    def good(name, token, _count):
        if "-PushEventsFunction-" in name:
            return {"batchItemFailures": []}
        if "-AuthorizeConnectionFunction-" in name:
            return policy("Allow") if token else denied
        if any(f"-{function}-" in name for function in LIVE_FUNCTIONS):
            return {"statusCode": 200}
        return {"statusCode": 404, "body": json.dumps({"code": "chat_not_found"})} if token else unauthorized

    properties = {"Name": "f", "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
    resources = [{"f": {"Type": "AWS::Lambda::Function", "Properties": properties}}]
    content = json.dumps({"version": 0.0, "Resources": resources})
    revisions = [
        {"revisionType": "String", "string": {"content": content}},
        {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}},
    ]
    for revision in revisions:
        run = run_hook(hook, revision, good)
        expect(
            (run.status, run.invoked, len(run.tokens)) == ("Succeeded", ["f:2"] * 2, 1),
            f"the hook reports {run.status} for a good version: {run.output.getvalue()}",
        )
        for token in run.tokens:
            check_token(token)
    message = f"this operation is {NOT_ENABLED} in this deployment; retry later"
    off = {"statusCode": 503, "body": json.dumps({"code": "unavailable", "message": message})}
    run = run_hook(hook, revisions[0], lambda name, token, count: off if token else unauthorized)
    expect(run.status == "Succeeded", f"the hook reports {run.status} for a version with SafetyFeatures=off")
    only_public_keys = Stack(template, {"JwtJwksUrl": "https://issuer.example.com/jwks.json"})
    run = run_hook(only_public_keys.properties("DeploymentHook"), revisions[0], good)
    expect((run.status, run.tokens) == ("Succeeded", []), "without a secret the hook does not test without a token")
    # The functions that verify tokens are tested with and without one, the others once.
    count = 2 * len(functions()) - len(LIVE_FUNCTIONS) + 1
    for revision in ({"revisionType": "S3"}, PermissionError("not yet")):
        run = run_hook(hook, revision, good)
        expect(
            run.status == "Succeeded" and len(run.invoked) == count,
            "the hook does not test all versions when CodeDeploy does not tell the version",
        )
        expect("unknown revision" in run.output.getvalue(), "the hook does not say why it tests all versions")
    check_live_events(hook, good)
    late = run_hook(hook, revisions[0], lambda *a: good(*a) if a[2] > 2 else PermissionError())
    expect(late.status == "Succeeded", "the hook does not try again")

    def with_token(response):
        return lambda name, token, count: response if token else unauthorized

    def without_token(response):
        return lambda name, token, count: response

    # A failure, its responses, and the text that must be in the log.
    failures = [
        ("does not start", without_token({"errorType": "Runtime.ExitError"}), "Runtime.ExitError"),
        ("lets everybody in", without_token({"statusCode": 200, "body": "{}"}), "without a token: {'statusCode': 200"),
        ("has other code", without_token({"statusCode": 401, "body": '"Unauthorized"'}), '"Unauthorized"'),
        ("returns no body", without_token({"statusCode": 401}), "without a token: {'statusCode': 401"),
        ("cannot be invoked", without_token(PermissionError("lambda")), "PermissionError('lambda')"),
        ("does not respond", without_token(TimeoutError("read")), "TimeoutError('read')"),
        ("rejects the token", with_token(unauthorized), "with a token: {'statusCode': 401"),
        ("cannot read the table", with_token({"statusCode": 500, "body": "{}"}), "with a token: {'statusCode': 500"),
        ("cannot reach the table", with_token({"statusCode": 503, "body": "{}"}), "with a token: {'statusCode': 503"),
        ("crashes with a token", with_token({"errorType": "Runtime.ExitError"}), "Runtime.ExitError"),
    ]
    for failure, responses, text in failures:
        for revision in (revisions[0], {"revisionType": "S3"}):
            run = run_hook(hook, revision, responses)
            expect(run.status == "Failed", f"the hook reports {run.status} for a version that {failure}")
            expect(text in run.output.getvalue(), f"the log of the hook does not say that a version {failure}")
    run = run_hook(hook, revisions[0], good, remaining=40)
    expect((run.status, run.invoked) == ("Failed", []), "the hook starts a test although no time remains to report it")


# ------------------------------------------------------------------------------------------------- configurations


def configured_parameters():
    """The parameters of each environment in samconfig.toml."""
    text = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
    sections = re.split(r"^\[(\w+)\.deploy\.parameters\]$", text, flags=re.MULTILINE)[1:]
    found = {}
    for name, section in zip(sections[::2], sections[1::2], strict=True):
        listed = re.search(r"^parameter_overrides = \[\n(.*?)^\]", section, flags=re.MULTILINE | re.DOTALL)
        lines = re.findall(r'^ +"(\w+)=(.*)",$', listed[1] if listed else "", flags=re.MULTILINE)
        found[name] = dict(lines)
    return found


def refused_value(name, value):
    """Whether a parameter's constraints refuse a value."""
    parameter = source()["Parameters"][name]
    if "AllowedValues" in parameter:
        return value not in map(str, parameter["AllowedValues"])
    return not re.fullmatch(parameter.get("AllowedPattern", ".*"), value)


def check_samconfig():
    text = (ROOT / "samconfig.toml").read_text(encoding="utf-8")
    expect(
        not re.search(r"^cached = true", text, re.MULTILINE),
        "samconfig.toml caches builds. SAM's cache compares only the files in `functions`, so a change of `shared`"
        " would deploy the old code. Set cached = false.",
    )
    environments = configured_parameters()
    expect({"default", "dev", "prod"} <= environments.keys(), f"samconfig.toml has only {sorted(environments)}")
    for environment, parameters in environments.items():
        for name, value in parameters.items():
            exists = name in source()["Parameters"]
            expect(exists, f"samconfig.toml sets {name} in {environment}, which is no parameter of template.yaml")
            # The placeholder is refused on purpose.
            if exists and not value.startswith("SET-"):
                expect(not refused_value(name, value), f"samconfig.toml sets {name}={value} in {environment}")
    receiver = environments.get("prod", {}).get("AlarmEmail") or environments.get("prod", {}).get("AlarmTopicArn")
    expect(receiver, "samconfig.toml names nobody who receives the alarms of prod. Set AlarmEmail or AlarmTopicArn.")
    is_refused = refused_value("AlarmEmail", "SET-THE-ADDRESS-FOR-ALARMS")
    expect(is_refused, "AlarmEmail accepts the placeholder of samconfig.toml, so nobody would notice it")


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    template = translate()
    stack = Stack(template)
    check_content()
    effective = check_changes()
    check_descriptions(stack)
    accepted = check_combinations()
    check_secrets(template)
    check_version_policy(template)
    check_circles(template)
    check_authorizer(template)
    check_stage(stack)
    check_hook(template)
    check_samconfig()
    for problem, where in problems.items():
        print(f"error: {where and where + ': '}{problem}", file=sys.stderr)
    print(
        f"aws-sam-translator {importlib.metadata.version('aws-sam-translator')}: {len(template['Resources'])} resources,"
        f" {len(functions())} functions. {len(effective)} of {len(source()['Parameters'])} parameters reach the functions;"
        f" a change of each publishes new versions. {accepted} combinations of parameters checked."
    )
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
