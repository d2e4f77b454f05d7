"""Evaluates template.yaml as CloudFormation would, for scripts/check_template.py and scripts/check_alarms.py.

`translate` runs SAM's own translator, and `Stack` evaluates the result with given parameters: conditions, rules and
intrinsic functions. A reference to a resource becomes a text such as `<ChatTable>` or `<ChatTable.Arn>`. A reference to
a version of a function becomes an ARN that ends with such a text, because the template takes parts of it.
"""
import copy
import functools
import logging
import os
import re
import zlib
from pathlib import Path

from samtranslator.parser.parser import Parser
from samtranslator.public import translator
from samtranslator.yaml_helper import yaml_parse

ROOT = Path(__file__).resolve().parent.parent
PSEUDO_PARAMETERS = {
    "AWS::AccountId": "111122223333",
    "AWS::Partition": "aws",
    "AWS::Region": "eu-central-1",
    "AWS::StackName": "chat",
    "AWS::URLSuffix": "amazonaws.com",
}
NO_VALUE = {"Ref": "AWS::NoValue"}

# The translator derives the partition from the region.
os.environ.setdefault("AWS_DEFAULT_REGION", PSEUDO_PARAMETERS["AWS::Region"])
# It warns about its own feature switches.
logging.getLogger("samtranslator").setLevel(logging.ERROR)


class MissingResource(Exception):
    """A reference to a resource that the stack does not have under the given parameters."""


class ManagedPolicies(dict):
    """ARNs of the managed policies that SAM attaches."""

    def __missing__(self, name):
        return f"arn:aws:iam::aws:policy/service-role/{name}"


@functools.cache
def source():
    """template.yaml as data. Do not change it; `copy.deepcopy` it first."""
    template = yaml_parse((ROOT / "template.yaml").read_text(encoding="utf-8"))
    # `sam package` replaces the folder by the address of an uploaded archive.
    template["Globals"]["Function"]["CodeUri"] = "s3://artifacts/code.zip"
    return template


def default_parameters():
    return {name: str(parameter["Default"]) for name, parameter in source()["Parameters"].items()}


def translate(parameters=None, template=None):
    """The template that SAM passes to CloudFormation. SAM inserts the values of some parameters itself."""
    values = default_parameters() | (parameters or {})
    return translator.Translator(ManagedPolicies(), Parser()).translate(copy.deepcopy(template or source()), values)


def functions(stack=None):
    """The logical ids of the functions: of those that a stack has, or of all."""
    found = [n for n, r in source()["Resources"].items() if r["Type"] == "AWS::Serverless::Function"]
    return [name for name in found if stack is None or stack.has(name)]


def walk(value):
    """Each pair of key and value in a part of a template."""
    if isinstance(value, list):
        for inner in value:
            yield from walk(inner)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key, inner
            yield from walk(inner)


def references(value):
    """The names of parameters and resources that a part of a template refers to, without those of its conditions."""
    found = set()
    for key, inner in walk(value):
        if key == "Ref" and isinstance(inner, str):
            found.add(inner)
        elif key == "Fn::GetAtt":
            found.add(inner.split(".")[0] if isinstance(inner, str) else inner[0])
        elif key == "Fn::Sub":
            text, variables = sub_parts(inner)
            names = re.findall(r"\$\{([\w:]+)", text)
            found.update(name for name in names if name not in variables)
        elif key == "DependsOn":
            found.update([inner] if isinstance(inner, str) else inner)
    return {name for name in found if not name.startswith("AWS::")}


def conditions(value, template):
    """The names of the conditions that decide about a part of a template, with the conditions that they consist of."""
    found = set()
    for key, inner in walk(value):
        if key == "Fn::If":
            found.add(inner[0])
        elif key == "Condition" and isinstance(inner, str):
            found.add(inner)
    for name in list(found):
        found |= conditions([template["Conditions"][name]], template)
    return found


def sub_parts(argument):
    """The text and the variables of Fn::Sub."""
    return (argument, {}) if isinstance(argument, str) else (argument[0], argument[1])


class Stack:
    """A translated template with the values of its parameters."""

    def __init__(self, template, parameters=None):
        self.template = template
        self.parameters = default_parameters() | (parameters or {})
        self._conditions = {}
        self._content = None

    def condition(self, name):
        if name not in self._conditions:
            self._conditions[name] = self.resolve(self.template["Conditions"][name])
        return self._conditions[name]

    def has(self, name):
        """Whether the stack has a resource."""
        resource = self.template["Resources"].get(name)
        return resource is not None and ("Condition" not in resource or self.condition(resource["Condition"]))

    def has_output(self, name):
        """Whether the stack has an output."""
        output = self.template["Outputs"][name]
        return "Condition" not in output or self.condition(output["Condition"])

    def resources(self, kind=None):
        """The names of the resources that the stack has, of one type or of all."""
        found = self.template["Resources"].items()
        return [name for name, resource in found if kind in (None, resource["Type"]) and self.has(name)]

    def properties(self, name):
        """The resolved properties of a resource."""
        return self.resolve(self.template["Resources"][name].get("Properties", {}))

    def failed_rules(self):
        """The descriptions of the assertions that refuse the parameters."""
        failed = []
        for rule in self.template.get("Rules", {}).values():
            if self.resolve(rule.get("RuleCondition", True)):
                failed += [a["AssertDescription"] for a in rule["Assertions"] if not self.resolve(a["Assert"])]
        return failed

    def resolve(self, value):
        if isinstance(value, list):
            resolved = [self.resolve(inner) for inner in value]
            return [inner for inner in resolved if inner != NO_VALUE]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            (name, argument), = value.items()
            if name in ("Ref", "Condition") or name.startswith("Fn::"):
                return self._call(name, argument)
        resolved = {key: self.resolve(inner) for key, inner in value.items()}
        return {key: inner for key, inner in resolved.items() if inner != NO_VALUE}

    def _call(self, function, argument):
        if function == "Ref":
            return self._reference(argument)
        if function == "Condition":
            # In a policy statement it is a block, not a reference.
            return self.condition(argument) if isinstance(argument, str) else {function: self.resolve(argument)}
        if function == "Fn::If":
            return self.resolve(argument[1 if self.condition(argument[0]) else 2])
        if function == "Fn::GetAtt":
            name, attribute = argument if isinstance(argument, list) else argument.split(".", 1)
            return self._resource(name, f"<{name}.{attribute}>")
        if function == "Fn::Sub":
            return self._substitute(*sub_parts(argument))
        arguments = self.resolve(argument)
        if function == "Fn::Equals":
            return str(arguments[0]) == str(arguments[1])
        if function == "Fn::Not":
            return not arguments[0]
        if function == "Fn::And":
            return all(arguments)
        if function == "Fn::Or":
            return any(arguments)
        if function == "Fn::Join":
            return arguments[0].join(map(str, arguments[1]))
        if function == "Fn::Split":
            return arguments[1].split(arguments[0])
        if function == "Fn::Select":
            return arguments[1][int(arguments[0])]
        raise ValueError(f"scripts/stack_template.py cannot evaluate {function}; add it there")

    def _reference(self, name):
        if name == "AWS::NoValue":
            return NO_VALUE
        if name in PSEUDO_PARAMETERS:
            return PSEUDO_PARAMETERS[name]
        if name in self.parameters:
            value = self.parameters[name]
            is_list = self.template["Parameters"][name]["Type"] == "CommaDelimitedList"
            return [item.strip() for item in value.split(",")] if is_list else value
        if name == "ConfigurationVersion":
            # AppConfig assigns the next number when the content changes.
            return str(zlib.crc32(self.configuration().encode()))
        text = f"<{name}>"
        if self.template["Resources"].get(name, {}).get("Type") == "AWS::Lambda::Version":
            # A function has its logical id in its name.
            function = self.template["Resources"][name]["Properties"]["FunctionName"]["Ref"]
            text = "arn:aws:lambda:eu-central-1:111122223333:function:" + f"chat-{function}-AbCdEf:{text}"
        return self._resource(name, text)

    def _resource(self, name, text):
        if not self.has(name):
            raise MissingResource(name)
        return text

    def _substitute(self, text, variables):
        def value(match):
            name = match[1]
            if name in variables:
                return str(self.resolve(variables[name]))
            return str(self._call("Fn::GetAtt", name) if "." in name else self._reference(name))

        return re.sub(r"\$\{([\w:.]+)\}", value, text)

    def configuration(self):
        """The content whose change makes AppConfig assign a new version number."""
        if self._content is None:
            self._content = self.properties("ConfigurationVersion")["Content"]
        return self._content
