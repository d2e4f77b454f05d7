#!/usr/bin/env python3
"""Feeds metrics to the arithmetic of the alarms in template.yaml, and checks which alarms go off.

Each scenario is an hour of metrics, such as a small stack with a broken deployment or a large one with few errors. The
alarms are evaluated every minute as CloudWatch does: periods that slide, expressions, the number of breaching periods,
missing data. Also checked: each index and each operation of the table is watched, and each alarm has a section in
docs/operations.md.

Run it with the Python environment that has aws-sam-translator:

    "$(scripts/python-tools.sh template)/python" scripts/check_alarms.py
    "$(scripts/python-tools.sh template)/python" scripts/check_alarms.py --verbose
"""
import argparse
import operator
import re
import sys

from stack_template import ROOT, Stack, source, translate, walk

MINUTES = 60
# The limit of CloudWatch for the metrics of one alarm.
MAX_METRICS = 10
# The shortest time in which a gradual deployment has moved all traffic.
CANARY_MINUTES = 5
COMPARISONS = {
    "GreaterThanThreshold": operator.gt,
    "GreaterThanOrEqualToThreshold": operator.ge,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
STACK = {"stack": "chat"}
TABLE = {"TableName": "<ChatTable>"}
API = {"ApiId": "<ChatApi>"}


def metric(namespace, name, **dimensions):
    return (namespace, name, tuple(sorted(dimensions.items())))


COUNT = metric("AWS/ApiGateway", "Count", **API)
SERVER_ERRORS = metric("AWS/ApiGateway", "5xx", **API)
LATENCY = metric("AWS/ApiGateway", "Latency", **API)
CALLS = metric("Chat", "Calls", **STACK)
CONFLICTS = metric("Chat", "Conflicts", **STACK)
UNAUTHORIZED = metric("Chat", "Errors", **STACK, code="unauthorized")
VIOLATIONS = metric("Chat", "InvariantViolations", **STACK)
FUNCTION_FAILURES = metric("Chat/chat", "FunctionFailures")
GATEWAY_REJECTIONS = metric("Chat/chat", "GatewayRejections")
ITERATOR_AGE = metric("AWS/Lambda", "IteratorAge", FunctionName="<PushEventsFunction>")
DROPPED_EVENTS = metric("AWS/Lambda", "DroppedEventCount", EventSourceMappingUUID="<PushEventsMapping>")
PUSH_FAILURES = metric("Chat", "PushFailures", **STACK)
CONCURRENCY = metric("AWS/Lambda", "ConcurrentExecutions")
FUNCTION_THROTTLES = metric("AWS/Lambda", "Throttles")


def throttles(kind, **index):
    return metric("AWS/DynamoDB", f"{kind}ThrottleEvents", **TABLE, **index)


def rejected(reason):
    return metric("Chat", "RejectedTokens", **STACK, reason=reason)


def system_errors(operation):
    return metric("AWS/DynamoDB", "SystemErrors", **TABLE, Operation=operation)


# ------------------------------------------------------------------------------------------- metric math of alarms


class Expression:
    """Evaluates the part of CloudWatch's metric math that the alarms use, for one point in time.

    `value` returns the value of an id, None without data. `ids` are the ids of the metrics, which METRICS() selects.
    """

    TOKENS = re.compile(r'\s*(\d+\.?\d*|\.\d+|"[^"]*"|[A-Za-z_]\w*|>=|<=|==|!=|[<>+\-*/(),])')
    ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul}
    COMPARE = {
        ">=": operator.ge, "<=": operator.le, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt,
    }

    def __init__(self, text, value, ids, fills_absent):
        self.text, self.value, self.ids, self.fills_absent = text, value, ids, fills_absent
        self.tokens = self.TOKENS.findall(text)
        if "".join(self.tokens) != re.sub(r"\s+", "", text):
            raise ValueError(f"scripts/check_alarms.py cannot read the expression {text}")

    def evaluate(self):
        result = self.either()
        if self.tokens:
            raise ValueError(f"scripts/check_alarms.py cannot read the expression {self.text} from {self.tokens[0]}")
        return result

    def take(self, *expected):
        """The next token, if it is one of these; None otherwise."""
        return self.tokens.pop(0) if self.tokens and self.tokens[0] in expected else None

    def either(self):
        left = self.both()
        while self.take("OR"):
            right = self.both()
            left = None if left is None or right is None else float(bool(left) or bool(right))
        return left

    def both(self):
        left = self.comparison()
        while self.take("AND"):
            right = self.comparison()
            left = None if left is None or right is None else float(bool(left) and bool(right))
        return left

    def comparison(self):
        left = self.sum()
        while sign := self.take(*self.COMPARE):
            right = self.sum()
            left = None if left is None or right is None else float(self.COMPARE[sign](left, right))
        return left

    def sum(self):
        left = self.product()
        while sign := self.take("+", "-"):
            left = self.calculate(sign, left, self.product())
        return left

    def product(self):
        left = self.term()
        while sign := self.take("*", "/"):
            left = self.calculate(sign, left, self.term())
        return left

    def calculate(self, sign, left, right):
        if left is None or right is None:
            return None
        if sign == "/":
            return left / right if right else None  # CloudWatch has no data point for a division by zero.
        return self.ARITHMETIC[sign](left, right)

    def term(self):
        token = self.tokens.pop(0)
        if token == "(":
            inner = self.either()
            self.tokens.pop(0)
            return inner
        if re.match(r"[\d.]", token):
            return float(token)
        if self.take("("):
            return self.function(token)
        return self.value(token)

    def arguments(self):
        found = [self.either()]
        while self.take(","):
            found.append(self.either())
        self.tokens.pop(0)
        return found

    def function(self, name):
        if name == "METRICS":
            part = self.tokens.pop(0)
            if part != ")":
                self.tokens.pop(0)
            return [self.value(identifier) for identifier in self.ids if part == ")" or part.strip('"') in identifier]
        arguments = self.arguments()
        if name == "IF":
            condition, yes, no = arguments
            return None if condition is None else (yes if condition else no)
        if name == "FILL":
            series, filler = arguments
            if isinstance(series, list):
                return [self.fill(value, filler) for value in series]
            return self.fill(series, filler)
        if name == "SUM":
            values = [value for value in arguments[0] if value is not None]
            return sum(values) if values else None
        raise ValueError(f"scripts/check_alarms.py cannot evaluate {name}; add it there")

    def fill(self, value, filler):
        return filler if value is None and self.fills_absent else value


class Alarm:
    """An alarm of the template."""

    def __init__(self, name, properties):
        self.name, self.properties = name, properties

    def queries(self):
        """The metrics and expressions of the alarm, by id. An alarm on one metric has the id `m`."""
        if "Metrics" in self.properties:
            return {query["Id"]: query for query in self.properties["Metrics"]}
        statistic = self.properties.get("Statistic") or self.properties["ExtendedStatistic"]
        stat = {"Metric": self.properties, "Period": self.properties["Period"], "Stat": statistic}
        return {"m": {"Id": "m", "MetricStat": stat}}

    def metrics(self):
        """The watched metrics, by id."""
        found = {}
        for identifier, query in self.queries().items():
            if "MetricStat" in query:
                watched = query["MetricStat"]["Metric"]
                dimensions = {d["Name"]: d["Value"] for d in watched.get("Dimensions", [])}
                found[identifier] = metric(watched["Namespace"], watched["MetricName"], **dimensions)
        return found

    def period(self):
        """The length of a period, in minutes."""
        return {query["MetricStat"]["Period"] for query in self.queries().values() if "MetricStat" in query}.pop() // 60

    def datapoint(self, series, end, fills_absent):
        """The value of the period that ends at a minute; None without data."""
        queries, metrics = self.queries(), self.metrics()

        def value(identifier):
            query = queries[identifier]
            if "Expression" in query:
                return Expression(query["Expression"], value, metrics, fills_absent).evaluate()
            values = series.get(metrics[identifier], [])[max(0, end - self.period()) : end]
            values = [one for one in values if one is not None]
            if not values:
                return None
            return sum(values) if query["MetricStat"]["Stat"] == "Sum" else max(values)

        returned = [identifier for identifier, query in queries.items() if query.get("ReturnData", True)]
        if len(returned) != 1:
            raise ValueError(f"{self.name} must return one series, not {returned}")
        return value(returned[0])

    def is_breaching(self, value):
        if value is None:
            return self.properties["TreatMissingData"] == "breaching"
        return COMPARISONS[self.properties["ComparisonOperator"]](value, float(self.properties["Threshold"]))

    def goes_off_at(self, series, fills_absent):
        """The first minute in which the alarm is in the state ALARM; None if it never is."""
        periods = self.properties["EvaluationPeriods"]
        needed = self.properties.get("DatapointsToAlarm", periods)
        for minute in range(1, MINUTES + 1):
            ends = [minute - index * self.period() for index in range(periods)]
            values = [self.datapoint(series, end, fills_absent) for end in ends if end > 0]
            if sum(map(self.is_breaching, values)) >= needed:
                return minute
        return None


# ------------------------------------------------------------------------------------------------------- scenarios


def hour(values, start=0, minutes=MINUTES):
    """An hour with a value in each minute of a part of it, and no data otherwise."""
    return [values if start <= minute < start + minutes else None for minute in range(MINUTES)]


def traffic(requests):
    """The metrics of a stack with a number of requests per minute."""
    return {COUNT: hour(requests), CALLS: hour(requests), SERVER_ERRORS: hour(0), CONFLICTS: hour(0)}


INDEX = {"GlobalSecondaryIndexName": "byRecipient"}
# The reasons that depend on the parameters of a version. shared/src/auth/token_error.rs has all reasons.
INVALID = [
    "unknown_kid", "wrong_algorithm", "bad_signature", "wrong_issuer", "wrong_audience", "wrong_token_use", "wrong_typ",
    "bad_user_claim",
]
OTHER_REASONS = {"missing_token", "malformed", "too_long", "expired", "not_yet_valid", "expires_too_late"}

# What happens: name, metrics, the alarms that must go off, and within how many minutes if that matters.
SCENARIOS = [
    ("nothing happens, no data at all", {}, [], None),
    ("a quiet stack", traffic(2), [], None),
    ("a large stack", traffic(60_000) | {CONCURRENCY: hour(400)}, [], None),
    ("one error an hour in a quiet stack", traffic(2) | {SERVER_ERRORS: hour(1, 20, 1)}, [], None),
    ("a small stack, every request fails", traffic(1) | {SERVER_ERRORS: hour(1)}, ["ServerErrors"], CANARY_MINUTES),
    (
        "a small stack, a tenth of the traffic goes to a broken version",
        traffic(20) | {SERVER_ERRORS: hour(2)},
        ["ServerErrors"],
        CANARY_MINUTES,
    ),
    (
        "a large stack, a tenth of the traffic goes to a broken version after half an hour",
        traffic(60_000) | {SERVER_ERRORS: [0] * 30 + [6_000] * 30},
        ["ServerErrors"],
        30 + 2,
    ),
    ("a large stack, 0.1 % of the requests fail", traffic(60_000) | {SERVER_ERRORS: hour(60)}, [], None),
    ("a large stack, 2 % of the requests fail", traffic(60_000) | {SERVER_ERRORS: hour(1_200)}, ["ServerErrors"], 1),
    ("slow requests", traffic(100) | {LATENCY: hour(1_500)}, ["Latency"], None),
    ("two slow minutes", traffic(100) | {LATENCY: hour(1_500, 10, 2)}, [], None),
    (
        "functions crash",
        traffic(100) | {FUNCTION_FAILURES: hour(3), SERVER_ERRORS: hour(3)},
        ["FunctionFailures", "ServerErrors"],
        5,
    ),
    (
        "every function fails to start, so none writes metrics",
        {COUNT: hour(3), SERVER_ERRORS: hour(3), FUNCTION_FAILURES: hour(3)},
        ["FunctionFailures", "ServerErrors"],
        2,
    ),
    ("one invocation in a million fails", traffic(2_000_000) | {FUNCTION_FAILURES: hour(2)}, [], None),
    ("one invocation fails in a quiet stack", traffic(2) | {FUNCTION_FAILURES: hour(1, 20, 1)}, [], None),
    ("an index throttles writes", traffic(1_000) | {throttles("Write", **INDEX): hour(50)}, ["TableThrottles"], 5),
    (
        "the other index throttles reads",
        traffic(1_000) | {throttles("Read", GlobalSecondaryIndexName="byRequester"): hour(50)},
        ["TableThrottles"],
        5,
    ),
    ("the table throttles writes", traffic(1_000) | {throttles("Write"): hour(50)}, ["TableThrottles"], 5),
    ("a short throttle", traffic(1_000) | {throttles("Write"): hour(500, 10, 2)}, [], None),
    ("DynamoDB fails", traffic(1_000) | {system_errors("TransactWriteItems"): hour(20)}, ["TableErrors"], 5),
    ("DynamoDB fails at blocks", traffic(1_000) | {system_errors("UpdateItem"): hour(20)}, ["TableErrors"], 5),
    ("DynamoDB fails at changes", traffic(1_000) | {system_errors("BatchGetItem"): hour(20)}, ["TableErrors"], 5),
    ("DynamoDB fails at reads", traffic(1_000) | {system_errors("Query"): hour(20)}, ["TableErrors"], 5),
    ("DynamoDB fails rarely", traffic(60_000) | {system_errors("Query"): hour(20)}, [], None),
    (
        "the issuer changes its keys, and every token is rejected",
        traffic(100) | {UNAUTHORIZED: hour(100, 30, 30), rejected("unknown_kid"): hour(100, 30, 30)},
        ["InvalidTokens", "RejectedTokens"],
        30 + 10,
    ),
    (
        "the same in a small stack",
        traffic(5) | {UNAUTHORIZED: hour(5), rejected("bad_signature"): hour(5)},
        ["InvalidTokens", "RejectedTokens"],
        10,
    ),
    (
        "the gateway's authorizer rejects every token",
        {COUNT: hour(100), SERVER_ERRORS: hour(0), GATEWAY_REJECTIONS: hour(100)},
        ["RejectedTokens"],
        10,
    ),
    (
        "a flood without tokens",
        traffic(100_000) | {UNAUTHORIZED: hour(99_000), rejected("missing_token"): hour(99_000)},
        ["RejectedTokens"],
        10,
    ),
    (
        "tokens expire as usual, 5 % of the requests",
        traffic(1_000) | {UNAUTHORIZED: hour(50), rejected("expired"): hour(50)},
        [],
        None,
    ),
    (
        "tokens expire often, 20 % of the requests",
        traffic(1_000) | {UNAUTHORIZED: hour(200), rejected("expired"): hour(200)},
        [],
        None,
    ),
    (
        "many tokens expire at once",
        traffic(1_000) | {UNAUTHORIZED: hour(600, 30, 3), rejected("expired"): hour(600, 30, 3)},
        [],
        None,
    ),
    *(
        (
            f"a canary rejects every token, {reason}, {requests} requests per minute",
            traffic(requests)
            | {name: [0] * 30 + [requests // 10] * 30 for name in (UNAUTHORIZED, rejected(reason))},
            ["InvalidTokens"],
            # Metrics arrive up to two minutes later.
            30 + CANARY_MINUTES - 2,
        )
        for requests in (20, 100, 60_000)
        for reason in INVALID
    ),
    (
        "a canary rejects every token of one of four clients",
        traffic(1_000) | {UNAUTHORIZED: hour(25), rejected("wrong_audience"): hour(25)},
        [],
        None,
    ),
    ("some forged tokens", traffic(1_000) | {UNAUTHORIZED: hour(20), rejected("bad_signature"): hour(20)}, [], None),
    (
        "somebody tries wrong tokens in a quiet stack",
        traffic(2) | {UNAUTHORIZED: hour(4, 30, 1), rejected("bad_signature"): hour(4, 30, 1)},
        [],
        None,
    ),
    ("the hook of a deployment, in a quiet stack", traffic(2) | {UNAUTHORIZED: hour(20, 30, 1)}, [], None),
    ("a negative counter", traffic(100) | {VIOLATIONS: hour(1, 30, 1)}, ["InvariantViolations"], 31),
    ("events are pushed at once", traffic(1_000) | {ITERATOR_AGE: hour(300)}, [], None),
    ("events are pushed late", traffic(1_000) | {ITERATOR_AGE: hour(20_000)}, ["PushDelay"], 3),
    ("events are pushed late for two minutes", traffic(1_000) | {ITERATOR_AGE: hour(20_000, 30, 2)}, [], None),
    ("a record is given up", traffic(1_000) | {DROPPED_EVENTS: hour(1, 30, 1)}, ["DroppedEvents"], 31),
    ("no record is given up", traffic(1_000) | {DROPPED_EVENTS: hour(0)}, [], None),
    ("a permission to send to connections is missing", traffic(5) | {PUSH_FAILURES: hour(2)}, ["PushFailures"], 1),
    ("a record cannot be read", traffic(1_000) | {PUSH_FAILURES: hour(1, 30, 1)}, ["PushFailures"], 31),
    (
        "push-events crashes at every batch",
        traffic(100) | {FUNCTION_FAILURES: hour(30), ITERATOR_AGE: hour(200_000), DROPPED_EVENTS: hour(5, 6)},
        ["DroppedEvents", "FunctionFailures", "PushDelay"],
        7,
    ),
    ("connections cannot be stored", traffic(1_000) | {system_errors("PutItem"): hour(20)}, ["TableErrors"], 5),
    ("connections cannot be deleted", traffic(1_000) | {system_errors("DeleteItem"): hour(20)}, ["TableErrors"], 5),
    ("many functions run at once", traffic(1_000) | {CONCURRENCY: hour(900)}, ["Concurrency"], 5),
    (
        "the account has no capacity left",
        traffic(1_000) | {CONCURRENCY: hour(1_000), FUNCTION_THROTTLES: hour(5)},
        ["Concurrency", "FunctionThrottles"],
        5,
    ),
    ("a few conflicts in a small stack", traffic(30) | {CONFLICTS: hour(20)}, [], None),
    ("two bots in one chat of a small stack", traffic(200) | {CONFLICTS: hour(60)}, ["Conflicts"], 5),
    ("a minute of conflicts", traffic(200) | {CONFLICTS: hour(100, 30, 1)}, [], None),
    ("a large stack, 3 % conflicts", traffic(60_000) | {CONFLICTS: hour(1_800)}, [], None),
    ("a large stack, 15 % conflicts", traffic(60_000) | {CONFLICTS: hour(9_000)}, ["Conflicts"], 5),
]


def structural_problems(stack, alarms):
    """What an alarm must watch, by the rest of the template."""
    watched = {name: set(alarm.metrics().values()) for name, alarm in alarms.items()}
    for name, metrics in watched.items():
        if len(metrics) > MAX_METRICS:
            yield f"{name}Alarm has {len(metrics)} metrics, but CloudWatch allows {MAX_METRICS}"
    table = stack.properties("ChatTable")
    indexes = [{}] + [{"GlobalSecondaryIndexName": index["IndexName"]} for index in table["GlobalSecondaryIndexes"]]
    needed = {throttles(kind, **index) for kind in ("Read", "Write") for index in indexes}
    if watched["TableThrottles"] != needed:
        yield f"TableThrottlesAlarm must watch the table and each index: {needed ^ watched['TableThrottles']}"
    listed = [value for key, value in walk(source()["Resources"]) if key == "Action"]
    granted = {action for value in listed for action in ([value] if isinstance(value, str) else value)}
    # Writes of chats are transactions, but a block or the end of one can be a single update. A connection is a single
    # item.
    operations = {
        "PutItem": ["PutItem", "TransactWriteItems"],
        "ConditionCheckItem": ["TransactWriteItems"],
        "UpdateItem": ["TransactWriteItems", "UpdateItem"],
    }
    # The operations of streams are those of Lambda, and have no such metric.
    streams = {"DescribeStream", "GetRecords", "GetShardIterator", "ListStreams"}
    actions = {action.removeprefix("dynamodb:") for action in granted if action.startswith("dynamodb:")} - streams
    used = {operation for action in actions for operation in operations.get(action, [action])}
    errors = {watched_metric for watched_metric in watched["TableErrors"] if watched_metric[1] == "SystemErrors"}
    if errors != {system_errors(operation) for operation in used}:
        yield f"TableErrorsAlarm must watch the operations {sorted(used)}"
    invalid = {m for m in watched["InvalidTokens"] if m[1] == "RejectedTokens"}
    if invalid != {rejected(reason) for reason in INVALID}:
        yield f"InvalidTokensAlarm must watch the reasons {INVALID}"
    errors_source = (ROOT / "shared" / "src" / "auth" / "token_error.rs").read_text(encoding="utf-8")
    reasons = set(re.findall(r'=> "([a-z_]+)",', errors_source))
    if reasons != {*INVALID, *OTHER_REASONS}:
        yield f"add these reasons to INVALID or OTHER_REASONS: {sorted(reasons ^ {*INVALID, *OTHER_REASONS})}"
    names = {alarm.properties["AlarmName"] for alarm in alarms.values()}
    group = next(name for name in stack.resources("AWS::CodeDeploy::DeploymentGroup"))
    for rollback in stack.properties(group)["AlarmConfiguration"]["Alarms"]:
        if rollback["Name"] not in names:
            yield f"deployments watch the alarm {rollback['Name']}, which does not exist"
    manual = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    for name in alarms:
        if f"### {name}Alarm\n" not in manual:
            yield f"docs/operations.md has no section {name}Alarm"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verbose", action="store_true", help="print the alarms of each scenario")
    verbose = parser.parse_args().verbose

    stack = Stack(translate())
    names = stack.resources("AWS::CloudWatch::Alarm")
    alarms = {name.removesuffix("Alarm"): Alarm(name, stack.properties(name)) for name in names}
    problems = list(structural_problems(stack, alarms))
    fired = set()
    for scenario, series, expected, limit in SCENARIOS:
        # AWS does not say whether FILL creates a series that has no data at all, so both must give the same result.
        for fills_absent in (True, False):
            minutes = {name: alarm.goes_off_at(series, fills_absent) for name, alarm in alarms.items()}
            found = {name: minute for name, minute in minutes.items() if minute}
            if set(found) != set(expected):
                problems.append(f"{scenario}: {sorted(found) or 'no alarm'} goes off instead of {sorted(expected)}")
            elif limit and max(found.values()) > limit:
                problems.append(f"{scenario}: {found} goes off later than minute {limit}")
        fired |= set(expected)
        if verbose:
            print(f"{scenario}: {', '.join(f'{name} in minute {minute}' for name, minute in found.items()) or '-'}")
    for name in sorted(alarms.keys() - fired):
        problems.append(f"no scenario makes {name}Alarm go off. Add one to {sys.argv[0]}.")
    for problem in dict.fromkeys(problems):
        print(f"error: {problem}", file=sys.stderr)
    print(f"{len(alarms)} alarms, {len(SCENARIOS)} scenarios.")
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
