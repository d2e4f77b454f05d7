#!/usr/bin/env python3
"""Creates the stack of template.yaml in a CloudFormation emulator (moto).

First it checks two things that the emulator does not: that no resources depend on each other in a circle, which
CloudFormation rejects, and that the gateway's authorizer protects every route when it is enabled and none when it
is not. Then it checks that the stack has the table, and each function with a role of its own.

Run it with the Python environment that has moto and aws-sam-translator:

    "$(scripts/python-tools.sh cloudformation)/python" scripts/check-cloudformation.py
"""
import argparse
import graphlib
import io
import json
import os
import re
import sys
import zipfile

import boto3
from moto import mock_aws
from samtranslator.parser.parser import Parser
from samtranslator.public import translator
from samtranslator.yaml_helper import yaml_parse

argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
).parse_args()

os.environ.update(AWS_DEFAULT_REGION="us-east-1", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x")

with open(os.path.join(os.path.dirname(__file__), "..", "template.yaml"), encoding="utf-8") as file:
    template = yaml_parse(file.read())
# `sam package` replaces the folder by the address of an uploaded archive.
template["Globals"]["Function"]["CodeUri"] = "s3://code/code.zip"
functions = [n for n, r in template["Resources"].items() if r["Type"] == "AWS::Serverless::Function"]


class ManagedPolicies(dict):
    """ARNs of the managed policies that SAM attaches. Their contents do not matter here."""

    def __missing__(self, name):
        return f"arn:aws:iam::aws:policy/service-role/{name}"


def resolve_condition(value, name, is_true):
    """Returns the value as CloudFormation resolves it when the condition `name` is true or false."""
    if isinstance(value, dict):
        if list(value) == ["Fn::If"] and value["Fn::If"][0] == name:
            return resolve_condition(value["Fn::If"][1 if is_true else 2], name, is_true)
        changed = {key: resolve_condition(inner, name, is_true) for key, inner in value.items()}
        return {key: inner for key, inner in changed.items() if inner != {"Ref": "AWS::NoValue"}}
    if isinstance(value, list):
        return [resolve_condition(inner, name, is_true) for inner in value]
    return value


def references(value):
    """Returns the names that a part of a resource refers to. CloudFormation creates these first."""
    if isinstance(value, list):
        return set().union(*map(references, value)) if value else set()
    if not isinstance(value, dict):
        return set()
    found = set().union(*map(references, value.values())) if value else set()
    if "Ref" in value:
        found.add(value["Ref"])
    if "Fn::GetAtt" in value:
        attribute = value["Fn::GetAtt"]
        found.add(attribute.split(".")[0] if isinstance(attribute, str) else attribute[0])
    if "Fn::Sub" in value:
        text = value["Fn::Sub"]
        found.update(re.findall(r"\$\{(\w+)", text if isinstance(text, str) else text[0]))
    if "DependsOn" in value:
        named = value["DependsOn"]
        found.update([named] if isinstance(named, str) else named)
    return found


parameters = {"Architecture": "arm64"}
events = [e["Properties"] for f in functions for e in template["Resources"][f]["Properties"]["Events"].values()]
routes = sorted((e["Path"], e["Method"].lower()) for e in events if e["Method"] != "ANY")
with mock_aws():
    transformed = translator.Translator(ManagedPolicies(), Parser()).translate(template, parameters)
    resources = transformed["Resources"]
    dependencies = {name: references(resource) & resources.keys() for name, resource in resources.items()}
    try:
        graphlib.TopologicalSorter(dependencies).prepare()
    except graphlib.CycleError as cycle:
        sys.exit(
            "error: these resources of template.yaml depend on each other in a circle, which CloudFormation rejects."
            f" Remove one of the references: {' <- '.join(cycle.args[1])}"
        )
    api = resources["ChatApi"]["Properties"]["Body"]
    protected = {}
    for is_enabled in (True, False):
        body = resolve_condition(api, "UsesGatewayAuthorizer", is_enabled)
        protected[is_enabled] = sorted(
            (path, method)
            for path, methods in body["paths"].items()
            for method, operation in methods.items()
            if [list(scheme) for scheme in operation.get("security", [])] == [["issuer"]]
        )
        schemes = list(body.get("components", {}).get("securitySchemes", {}))
        expected = ["issuer"] if is_enabled else []
        if schemes != expected:
            sys.exit(
                f"error: with GatewayAuthorizer={str(is_enabled).lower()} ChatApi has the security schemes {schemes},"
                f" but should have {expected}"
            )
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("bootstrap", "")
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="code")
    s3.put_object(Bucket="code", Key="code.zip", Body=archive.getvalue())
    boto3.client("secretsmanager").create_secret(Name="chat/jwt-secret", SecretString="x" * 32)
    # The emulator has no CodeDeploy, and it requires a name for aliases and versions, which CloudFormation
    # generates. Leave these resources out, and replace references to an alias by its function.
    unsupported_types = {"AWS::Lambda::Alias", "AWS::Lambda::Version"}
    unsupported = [
        name
        for name, resource in resources.items()
        if resource["Type"] in unsupported_types or resource["Type"].startswith("AWS::CodeDeploy::")
    ]
    for name in unsupported:
        del resources[name]
    body = json.dumps(transformed)
    for function in functions:
        body = body.replace(f"{function}Aliaslive", function)
    cloudformation = boto3.client("cloudformation")
    cloudformation.create_stack(
        StackName="chat", TemplateBody=body, Capabilities=["CAPABILITY_IAM"]
    )
    stack = cloudformation.describe_stacks(StackName="chat")["Stacks"][0]
    created = cloudformation.describe_stack_resources(StackName="chat")["StackResources"]
    created_functions = sorted(
        r["LogicalResourceId"] for r in created if r.get("ResourceType") == "AWS::Lambda::Function"
    )
    table_name = next(r["PhysicalResourceId"] for r in created if r.get("ResourceType") == "AWS::DynamoDB::Table")
    table = boto3.client("dynamodb").describe_table(TableName=table_name)["Table"]
    deployed = boto3.client("lambda").list_functions()["Functions"]
    roles = {f["Role"] for f in deployed}

problems = []
if protected[True] != routes:
    problems.append(
        "with GatewayAuthorizer=true the authorizer does not protect exactly the routes of the functions."
        f" Correct the paths of ChatApi: {sorted(set(routes) ^ set(protected[True]))}"
    )
if protected[False]:
    problems.append(f"with GatewayAuthorizer=false these routes still need the authorizer: {protected[False]}")
if stack["StackStatus"] != "CREATE_COMPLETE":
    problems.append(f"the stack has the status {stack['StackStatus']} instead of CREATE_COMPLETE")
if created_functions != sorted(functions) or len(deployed) != len(functions):
    problems.append(f"the stack has the functions {created_functions} instead of {sorted(functions)}")
if len(roles) != len(functions):
    problems.append(f"the {len(functions)} functions have {len(roles)} roles; each needs a role of its own")
indexes = sorted(i["IndexName"] for i in table["GlobalSecondaryIndexes"])
if indexes != ["byRecipient", "byRequester"]:
    problems.append(f"the table has the indexes {indexes} instead of byRecipient and byRequester")
if table["BillingModeSummary"]["BillingMode"] != "PAY_PER_REQUEST":
    problems.append(f"the table is billed by {table['BillingModeSummary']} instead of PAY_PER_REQUEST")
for problem in problems:
    print(f"error: {problem}", file=sys.stderr)
print(
    f"{len(deployed)} functions, {len(roles)} roles, a table with the indexes {', '.join(indexes)}."
    f" Not created, because the emulator lacks them: {len(unsupported)} aliases, versions and CodeDeploy resources."
)
sys.exit(bool(problems))
