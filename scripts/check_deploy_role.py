#!/usr/bin/env python3
"""Checks that the role in deploy/deploy-role.yaml may manage every resource of template.yaml.

CloudFormation creates, changes and deletes resources with the permissions of the deploying role. The schema of each
type of resource names the actions that it calls; cfn-lint contains the schemas. This compares them with the role:

- The role allows each action, except those of features that the stack does not use (NOT_NEEDED).
- Actions that IAM cannot restrict to a resource are allowed on "*". On anything else such a statement has no effect.
- The role allows no action that does not exist.

Run it with the Python environment that has cfn-lint and aws-sam-translator:

    "$(scripts/python-tools.sh template)/python" scripts/check_deploy_role.py
"""
import argparse
import fnmatch
import json
import sys
from pathlib import Path

import cfnlint
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER
from samtranslator.yaml_helper import yaml_parse
from stack_template import ROOT, translate

REGION = "us-east-1"
HANDLERS = ("create", "read", "update", "delete")
# Actions (patterns) of features that the stack does not use, by type of resource.
NOT_NEEDED = {
    # An OpenAPI document in a bucket.
    "AWS::ApiGatewayV2::Api": ["s3:*"],
    # Credentials of an integration or authorizer. Functions allow API Gateway to invoke them instead.
    "AWS::ApiGatewayV2::Authorizer": ["iam:PassRole"],
    "AWS::ApiGatewayV2::Integration": ["iam:PassRole"],
    # CodeDeploy calls it for servers outside of AWS.
    "AWS::CodeDeploy::DeploymentGroup": ["codedeploy:RegisterOnPremisesInstance"],
    "AWS::DynamoDB::Table": [
        # The items of the table. CloudFormation reads or writes them only for imports and replicas.
        "dynamodb:BatchWriteItem", "dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem", "dynamodb:Query",
        "dynamodb:Scan", "dynamodb:UpdateItem",
        # The table is never deleted: `DeletionPolicy: Retain`.
        "dynamodb:DeleteTable",
        # Imports, with their logs.
        "dynamodb:*Import*", "logs:*", "s3:*",
        # Replicas, streams of Kinesis, resource policies, contributor insights, a customer managed key.
        "dynamodb:*TableReplica", "dynamodb:*KinesisStreamingDestination", "kinesis:*", "dynamodb:*ResourcePolicy",
        "dynamodb:UpdateContributorInsights", "kms:*",
    ],
    # The policy belongs to roles.
    "AWS::IAM::Policy": ["iam:*GroupPolicy", "iam:*UserPolicy"],
    # No boundary. CloudFormation changes descriptions with iam:UpdateRole.
    "AWS::IAM::Role": ["iam:*RolePermissionsBoundary", "iam:UpdateRoleDescription"],
    "AWS::Lambda::Alias": ["lambda:*ProvisionedConcurrencyConfig"],
    # A customer managed key.
    "AWS::Lambda::EventSourceMapping": ["kms:*"],
    "AWS::Lambda::Version": ["lambda:PutFunctionScalingConfig", "lambda:PutProvisionedConcurrencyConfig"],
    "AWS::Lambda::Function": [
        # A VPC, file systems, a customer managed key.
        "ec2:*", "elasticfilesystem:*", "s3files:*", "kms:*",
        # Code signing, reserved concurrency, recursion, capacity providers, pinned runtimes.
        "lambda:*FunctionCodeSigningConfig", "lambda:*FunctionConcurrency", "lambda:PutFunctionRecursionConfig",
        "lambda:PassCapacityProvider", "lambda:PutFunctionScalingConfig", "lambda:AssociateRuntimeAlias",
    ],
    "AWS::Logs::LogGroup": [
        # A customer managed key, data protection, indexes of fields, resource policies, deletion protection.
        "logs:*KmsKey", "logs:*DataProtectionPolicy", "logs:*IndexPolicy", "logs:DeleteResourcePolicy",
        "logs:PutLogGroupDeletionProtection", "logs:PutBearerTokenAuthentication",
        # Delivery to other services.
        "firehose:*", "s3:*",
    ],
    "AWS::SNS::Topic": ["sns:PutDataProtectionPolicy"],
}


# Actions of the schemas that cfn-lint's list of IAM actions does not have.
UNLISTED = {"apigateway:TagResource", "apigateway:UntagResource"}


def matches(action, patterns):
    return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)


def role_statements():
    """The statements of the role: its actions, and whether it allows them on every resource."""
    role = yaml_parse((ROOT / "deploy" / "deploy-role.yaml").read_text(encoding="utf-8"))
    for resource in role["Resources"].values():
        if resource["Type"] == "AWS::IAM::ManagedPolicy":
            for statement in resource["Properties"]["PolicyDocument"]["Statement"]:
                statement = statement["Fn::If"][1] if "Fn::If" in statement else statement
                listed = statement["Action"]
                yield [listed] if isinstance(listed, str) else listed, statement["Resource"] == "*"


def needed_actions(kind):
    """The actions that CloudFormation calls for a type of resource."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema.get("handlers", {})
    found = {action for name in HANDLERS for action in handlers.get(name, {}).get("permissions", [])}
    return sorted(found)


def problems(kinds, statements, known_actions):
    for kind in kinds:
        needed = needed_actions(kind)
        if not needed:
            yield f"the schema of {kind} names no actions, so nothing is known about its permissions"
        exceptions = NOT_NEEDED.get(kind, [])
        for exception in exceptions:
            if not any(matches(action, [exception]) for action in needed):
                yield f"NOT_NEEDED of {kind} has {exception}, which {kind} never calls. Remove it from {sys.argv[0]}"
        for action in needed:
            is_granted = any(matches(action, actions) for actions, _ in statements)
            if not is_granted and not matches(action, exceptions):
                yield f"the role lacks {action} for {kind}. Add it, or a reason why it is not needed to {sys.argv[0]}"
    for actions, is_on_all in statements:
        for action in actions:
            service, _, name = action.partition(":")
            known = known_actions[service]["Actions"]
            found = [known[key] for key in known if fnmatch.fnmatchcase(key, name.lower())]
            if not found and action not in UNLISTED:
                yield f"the role allows {action}, which does not exist"
            # A pattern covers actions of both kinds.
            if "*" not in name and not is_on_all and found and not found[0].get("Resources"):
                yield f'the role allows {action} on resources, which IAM ignores. Allow it on "*"'


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    specification = Path(cfnlint.__file__).parent / "data" / "AdditionalSpecs" / "Policies.json"
    known_actions = json.loads(specification.read_text(encoding="utf-8"))
    kinds = sorted({resource["Type"] for resource in translate({"Tracing": "Active"})["Resources"].values()})
    found = list(dict.fromkeys(problems(kinds, list(role_statements()), known_actions)))
    for problem in found:
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(kinds)} types of resources, {sum(len(needed_actions(kind)) for kind in kinds)} actions.")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
