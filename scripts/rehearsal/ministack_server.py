"""Starts MiniStack, with four things that AWS has and MiniStack has not.

- SAM's transform gets the values of the parameters.
- Conditions of a template may use Fn::Join and Fn::Split.
- DescribeTable says which table a restored table comes from, and when (RestoreSummary). scripts/restore-table.sh reads
  it to continue an interrupted restore, and to refuse a table that is no restore.
- DescribeTable returns DeletionProtectionEnabled as a boolean, also if it comes from a parameter of a template, which is
  text. The AWS SDK cannot read a text there.

scripts/requirements/rehearsal.txt fixes the version of MiniStack, because this replaces functions inside of it.
"""
import copy
import json
import sys
import time

from ministack import app
from ministack.services import cloudformation, dynamodb
from samtranslator.translator import transform as sam

engine = cloudformation.engine
evaluate, apply_transforms, translate = engine._evaluate_conditions, engine._apply_transforms, sam.transform
describe, restore = dynamodb._table_description, dynamodb._restore_table_to_point_in_time
summaries = {}


def apply_with_parameters(template, provided=None, previous=None):
    values = engine._transform_parameters(template, provided, previous)
    sam.transform = lambda fragment, _, loader: translate(fragment, values, loader)
    return apply_transforms(template, provided, previous)


def fold(value, parameters):
    """The expression with Fn::Join and Fn::Split replaced by their results."""
    if isinstance(value, list):
        return [fold(inner, parameters) for inner in value]
    if not isinstance(value, dict):
        return value
    value = {key: fold(inner, parameters) for key, inner in value.items()}
    for function in ("Fn::Join", "Fn::Split"):
        if function in value:
            separator, argument = value[function]
            if isinstance(argument, dict) and "Ref" in argument:
                # A list is one string here, with commas.
                argument = parameters[argument["Ref"]]["Value"]
            if function == "Fn::Split":
                return argument.split(separator)
            return separator.join(argument.split(",") if isinstance(argument, str) else argument)
    return value


def evaluate_folded(template, parameters):
    folded = copy.copy(template)
    folded["Conditions"] = fold(template.get("Conditions", {}), parameters)
    return evaluate(folded, parameters)


def describe_with_summary(name):
    description = describe(name)
    description["DeletionProtectionEnabled"] = str(description["DeletionProtectionEnabled"]).lower() == "true"
    if name in summaries:
        description["RestoreSummary"] = summaries[name]
    return description


def restore_with_summary(data):
    status, headers, body = restore(data)
    if status == 200:
        summaries[data["TargetTableName"]] = {
            "SourceTableArn": describe(data["SourceTableName"])["TableArn"],
            "RestoreDateTime": data.get("RestoreDateTime", time.time()),
            "RestoreInProgress": False,
        }
        body = json.dumps({"TableDescription": describe_with_summary(data["TargetTableName"])}).encode()
    return status, headers, body


replaced = {"_evaluate_conditions": evaluate_folded, "_apply_transforms": apply_with_parameters}
originals = {"_evaluate_conditions": evaluate, "_apply_transforms": apply_transforms}
for name, module in list(sys.modules.items()):
    # Each module of CloudFormation has imported the functions by name.
    if name.startswith(cloudformation.__name__):
        for function, replacement in replaced.items():
            if getattr(module, function, None) is originals[function]:
                setattr(module, function, replacement)
dynamodb._table_description = describe_with_summary
dynamodb._restore_table_to_point_in_time = restore_with_summary
app.main()
