"""Deploys the stack into an AWS emulator, uses it, and changes it in every way that docs/deploy.md describes.

scripts/rehearse-deployment.sh installs the tools, builds the functions and runs this.
"""
import argparse
import concurrent.futures
import json
import secrets
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from botocore.exceptions import ClientError

from .emulator import REGION, CodeDeploy, Emulator, KeySetServer
from .keys import Signer
from .live import LiveClient, is_refused
from .processes import ROOT, RehearsalError, check, progress, run, wait_until
from .stack import ALIAS, CALLS, STACK, WITHOUT_TOKENS, EmulatorTemplate, Stack

SECRET = "chat/jwt-secret"

# Contract tests that MiniStack's API Gateway cannot pass, because it differs from AWS there. None of them says
# anything about the functions.
SKIPPED_CONTRACT_TESTS = [
    # It answers no subprotocol, so their client ends the handshake. The step `push` tests the WebSocket API instead.
    "suite::live_",
    # 201: it replaces bytes that are not UTF-8, before a function sees them.
    "a_body_that_is_not_utf_8",
    # It decodes the path before it looks for a route.
    "an_encoded_slash_is_part_of_the_chat_id",
    "an_encoded_slash_is_part_of_the_seq",
    "an_encoded_slash_is_part_of_the_user_id",
    # It ignores a slash at the end of a path.
    "an_unknown_path_returns_404_with_only_a_message",
    # It has no such limits.
    "a_body_that_makes_the_event_larger_than_lambda_allows",
    "headers_over_10_kb",
    # It responds to every OPTIONS itself, without Allow.
    "options_returns_the_allowed_methods_without_a_token",
]

# A new value for each parameter that reaches a function, and where the new value must be found: an environment
# variable, or a property of the configuration.
PARAMETER_CHANGES = {
    "LogLevel": ("WARN", "LOG_LEVEL"),
    "MaxOpenRequests": ("7", "MAX_OPEN_REQUESTS"),
    "EditWindowSeconds": ("3600", "EDIT_WINDOW_SECONDS"),
    "DeleteWindowSeconds": ("60", "DELETE_WINDOW_SECONDS"),
    "SafetyFeatures": ("off", "SAFETY_FEATURES"),
    "FunctionMemory": ("512", lambda function: str(function["MemorySize"])),
    # push-events has a time limit of its own, 60 seconds.
    "FunctionTimeout": ("12", lambda function: None if function["Timeout"] == 60 else str(function["Timeout"])),
    "AllowedOrigin": ("https://app.example.com,https://web.example.com", "ALLOWED_ORIGINS"),
    "Typing": ("off", "TYPING"),
    "JwtIssuer": ("https://issuer.example/,https://other-issuer.example/", "JWT_ISSUER"),
    "JwtAudience": ("chat,other-app", "JWT_AUDIENCE"),
    "JwtTokenUse": ("access", "JWT_TOKEN_USE"),
    "JwtTyp": ("at+jwt", "JWT_TYP"),
    "JwtUserClaim": ("https://app.example/user", "JWT_USER_CLAIM"),
    "Tracing": ("Active", lambda function: function["TracingConfig"]["Mode"]),
}
# What a token must contain after such a change.
CLAIMS = {
    "JwtIssuer": {"iss": "https://other-issuer.example/"},
    "JwtAudience": {"aud": "chat"},
    "JwtTokenUse": {"token_use": "access"},
    "JwtUserClaim": {"sub": "not a user id", "https://app.example/user": 17},
}
# These also reach a function. The steps "keys" and "restore" change them. The architecture of this machine is fixed.
CHANGED_ELSEWHERE = {
    "JwtSecretArn", "JwtSecretWithPublicKeys", "JwtPublicKeyParameter", "JwtJwksParameter", "JwtJwksUrl",
    "ExistingTableName", "ExistingTableStreamArn", "Realtime", "Architecture",
}


class Rehearsal:
    """The steps. Each continues with the stack as the step before left it."""

    def __init__(self, emulator, stack, codedeploy, options):
        self.emulator, self.stack, self.codedeploy, self.options = emulator, stack, codedeploy, options
        self.key_sets = KeySetServer()
        self.secrets = emulator.client("secretsmanager")
        self.secret_values = []
        self.claims = {}

    def deploy(self):
        """First deployment, as the README says"""
        self.new_secret()
        self.secrets.create_secret(Name=SECRET, SecretString=self.secret_values[-1])
        self.stack.deploy(Architecture=self.options.architecture)
        progress(f"{self.stack.import_routes()} routes at {self.stack.api_url()}")
        self.check_serves(self.secret_signer())

    def call(self):
        """Smoke tests of the deployment"""
        environment = {"JWT_SECRET": self.secret_values[-1], "SMOKE_USER": "17"}
        run(["scripts/smoke-test.sh", self.stack.api_url()], seconds=600, env=environment)
        progress("the tutorial of the README works")
        run(["scripts/smoke-test.sh", "--read-only", self.stack.api_url()], seconds=60, env=environment)
        progress("the read-only smoke test works")

    def push(self):
        """Events reach both members of a chat over WebSockets"""
        signer = self.secret_signer()
        for token in (None, "not.a.token", Signer("HS256", secrets.token_urlsafe(48)).token(17)):
            check(is_refused(self.stack.live_url(), token), f"a handshake with the token {token} succeeds")
        progress("handshakes without a valid token are refused")
        self.check_pushes(signer)

    def realtime(self):
        """Realtime=off leaves nothing of the WebSocket API, and Realtime=on brings it to a stack without it"""
        signer = self.secret_signer()
        self.stack.deploy(Realtime="off")
        resources, outputs = self.stack.resources(), self.stack.outputs()
        live = {"LiveApi", "PushEventsMapping", "PushDelayAlarm", *WITHOUT_TOKENS} & resources.keys()
        check(not live and "LiveUrl" not in outputs, f"with Realtime=off the stack has {sorted(live)}")
        check(not self.stream_of(outputs["TableName"]), "with Realtime=off the table has a stream")
        apis = self.emulator.client("apigatewayv2").get_apis()["Items"]
        kinds = [api["ProtocolType"] for api in apis]
        check(kinds == ["HTTP"], f"with Realtime=off there are the APIs {kinds}")
        mappings = self.stack.functions_api.list_event_source_mappings()["EventSourceMappings"]
        check(not mappings, f"with Realtime=off there are the mappings {mappings}")
        self.check_serves(signer)
        check(self.hook_verdicts() == {"Succeeded"}, "the deployment hook does not succeed with Realtime=off")
        progress("Realtime=off: the WebSocket API, its functions and the stream are gone, the HTTP API works")
        self.stack.deploy(Realtime="on")
        self.check_serves(signer)
        self.check_pushes(signer)

    def upgrade(self):
        """Both steps of an upgrade from a version without SafetyFeatures"""
        signer, user, other = self.secret_signer(), secrets.randbelow(2**40) + 1, secrets.randbelow(2**40) + 2**41
        block = ("PUT", f"/blocks/{other}", signer.token(user))
        self.stack.deploy(SafetyFeatures="off")
        check(self.hook_verdicts() == {"Succeeded"}, "the deployment hook does not succeed with SafetyFeatures=off")
        self.stack.expect(503, *block)
        blocks = self.stack.expect(200, "GET", "/blocks", signer.token(user))["blocks"]
        check(blocks == [], f"with SafetyFeatures=off a user has blocked {blocks}")
        progress("SafetyFeatures=off: nobody can block, and everything else works")
        self.stack.deploy(SafetyFeatures="on")
        self.stack.expect(200, *block)
        self.check_serves(signer)
        progress("SafetyFeatures=on: users can block")

    def contract(self):
        """Contract tests against the deployment"""
        command = ["cargo", "test", "--locked", "--test", "contract", "--"]
        tests = run([*command, "--list"], seconds=1800)
        skip = []
        for name in SKIPPED_CONTRACT_TESTS:
            check(name in tests, f"no contract test is called {name}. Correct SKIPPED_CONTRACT_TESTS in {__file__}")
            skip += ["--skip", name]
        environment = {"API_URL": self.stack.api_url(), "JWT_SECRET": self.secret_values[-1]}
        output = run([*command, "--test-threads", "4", *skip], seconds=600, env=environment)
        progress(next(line for line in output.splitlines() if line.startswith("test result:")))

    def parameters(self):
        """Each parameter of the functions reaches the live version"""
        reaching = self.stack.template.function_parameters()
        names = [name for name in PARAMETER_CHANGES if name in reaching]
        for name in names:
            self.change_parameter(name)
        self.check_refuses(self.secret_signer(), {**self.claims, "aud": "another app"})
        defaults = self.stack.template.original["Parameters"]
        self.stack.deploy(**{name: str(defaults[name]["Default"]) for name in names})
        self.claims = {}
        self.check_serves(self.secret_signer())
        progress("all parameters have their default values again")
        missing = reaching - PARAMETER_CHANGES.keys() - CHANGED_ELSEWHERE
        check(not missing, f"the rehearsal does not change {sorted(missing)}. Add them to {__file__}")

    def other_parameters(self):
        """The parameters of other resources"""
        before, iam = self.live_versions(), self.emulator.client("iam")
        topic, key = "arn:aws:sns:us-east-1:000000000000:pager", "arn:aws:kms:us-east-1:000000000000:key/rehearsal"
        changed = {
            "AlarmEmail": "alarms@example.com", "AlarmTopicArn": topic, "SlowMilliseconds": "1234",
            "ConcurrencyAlarmThreshold": "77", "LogRetentionDays": "60", "DeletionProtection": "false",
            "AllowedOrigin": "https://one.example,https://two.example", "AllowedHeaders": "x-app-version,x-device",
            "JwtSecretKmsKeyArn": key, "Revision": "a leak", "DeploymentType": "AllAtOnce",
            "ThrottlingRate": "11", "ThrottlingBurst": "12", "WriteThrottlingRate": "13", "WriteThrottlingBurst": "14",
            "OtherMethodsThrottlingRate": "15", "OtherMethodsThrottlingBurst": "16",
            "ConnectThrottlingRate": "17", "ConnectThrottlingBurst": "18", "LiveAccessLog": "on",
        }
        self.stack.deploy(**changed)
        resources, outputs = self.stack.resources(), self.stack.outputs()

        check(outputs["CorsAllowOrigins"] == changed["AllowedOrigin"], f"origins: {outputs['CorsAllowOrigins']}")
        check(outputs["CorsAllowHeaders"].endswith(changed["AllowedHeaders"]), outputs["CorsAllowHeaders"])
        alarms = self.emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
        alarms = {alarm["AlarmName"]: alarm for alarm in alarms}
        for name, threshold in ((f"{STACK}-latency", 1234), (f"{STACK}-concurrency", 77)):
            check(alarms[name]["Threshold"] == threshold, f"{name} has the threshold {alarms[name]['Threshold']}")
            receivers = {resources["AlarmEmailTopic"], topic}
            check(set(alarms[name]["AlarmActions"]) == receivers, f"{name} notifies {alarms[name]['AlarmActions']}")
        subscriptions = self.emulator.client("sns").list_subscriptions_by_topic(TopicArn=resources["AlarmEmailTopic"])
        endpoints = [subscription["Endpoint"] for subscription in subscriptions["Subscriptions"]]
        check(endpoints == [changed["AlarmEmail"]], f"the topic for alarms has the receivers {endpoints}")
        groups = self.emulator.client("logs").describe_log_groups()["logGroups"]
        retention = {group["logGroupName"]: group.get("retentionInDays") for group in groups}
        for name in ("FunctionLogs", "ApiLogs", "LiveLogs"):
            check(retention[resources[name]] == 60, f"{name} keeps lines for {retention[resources[name]]} days")
        table = self.emulator.client("dynamodb").describe_table(TableName=resources["ChatTable"])["Table"]
        # MiniStack keeps the text of the parameter.
        check(str(table["DeletionProtectionEnabled"]).lower() == "false", "the table is protected from deletion")
        policies = iam.list_role_policies(RoleName=resources["GetTotalsFunctionRole"])["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=resources["GetTotalsFunctionRole"], PolicyName=name)["PolicyDocument"]
                     for name in policies]
        check(key in json.dumps(documents), f"a function may not decrypt the secret: {documents}")
        kept = [name for name, version in self.live_versions().items() if before[name] == version]
        check(not kept, f"Revision has not replaced {kept}")
        self.check_serves(self.secret_signer())
        progress(f"{len(changed)} parameters: {', '.join(changed)}")
        defaults = self.stack.template.original["Parameters"]
        self.stack.deploy(**{name: str(defaults[name]["Default"]) for name in changed})
        self.check_serves(self.secret_signer())

    def rotate(self):
        """Rotation of the secret without a deployment"""
        old, versions = self.secret_signer(), self.live_versions()
        self.new_secret()
        self.secrets.put_secret_value(SecretId=SECRET, SecretString=self.secret_values[-1])
        self.wait_until_accepted(self.secret_signer())
        self.check_serves(old)
        progress("tokens of the old secret are still accepted")
        check(self.live_versions() == versions, "the rotation changed a version of a function")

    def keys(self):
        """Switches between the kinds of key, and back"""
        ssm = self.emulator.client("ssm")
        secret = self.secret_signer()
        stored, published = Signer.from_file("RS256", "rsa-2048"), Signer.from_file("ES256", "p256")
        single = Signer.from_file("EdDSA", "ed25519")
        ssm.put_parameter(Name="/chat/jwks", Type="String", Value=json.dumps({"keys": [stored.public_jwk()]}))
        pem = (ROOT / "tests/support/keys/ed25519.pem").read_text(encoding="utf-8")
        ssm.put_parameter(Name="/chat/public-key", Type="String", Value=pem)
        self.key_sets.keys = [published.public_jwk()]
        url = f"{self.key_sets.url}/jwks.json"

        both = {"JwtSecretWithPublicKeys": "true"}
        self.switch("secret and key set in SSM", [secret, stored], [published],
                    JwtJwksParameter="/chat/jwks:1", **both)
        self.switch("key set in SSM", [stored], [secret, published], JwtSecretWithPublicKeys="false")
        self.check_secret_permission(False)
        self.switch("key set URL", [published], [], JwtJwksParameter="", JwtJwksUrl=url)
        added = Signer.from_file("ES256", "p256-other")
        self.key_sets.keys.append(added.public_jwk())
        self.wait_until_accepted(added)
        self.check_serves(published)
        for signer in (secret, stored):
            self.check_refuses(signer)
        self.switch("public key in SSM", [single], [secret, published],
                    JwtJwksUrl="", JwtPublicKeyParameter="/chat/public-key:1")
        self.switch("secret and public key", [secret, single], [published], **both)
        self.switch("secret", [secret], [single, stored, published],
                    JwtPublicKeyParameter="", JwtSecretWithPublicKeys="false")
        self.check_secret_permission(True)
        name = "chat/another-secret"
        self.new_secret()
        self.secrets.create_secret(Name=name, SecretString=self.secret_values[-1])
        self.switch("another secret", [self.secret_signer()], [secret], JwtSecretArn=name)
        self.secret_values.append(secret.key)
        self.switch("the first secret", [secret], [], JwtSecretArn=SECRET)

    def secrecy(self):
        """No environment of a function contains a secret"""
        functions = self.stack.all_configurations()
        for function in functions:
            variables = function.get("Environment", {}).get("Variables", {})
            for value in self.secret_values:
                names = [name for name, text in variables.items() if value in text]
                check(not names, f"the environment of {function['FunctionArn']} contains the secret, in {names}")
        progress(f"{len(functions)} versions of functions, {len(set(self.secret_values))} secrets")

    def restore(self):
        """Restores the table, copies what an accident deleted, and moves the stack to the restored table"""
        signer, ann, ben = self.secret_signer(), secrets.randbelow(2**40) + 1, secrets.randbelow(2**40) + 2**41
        chat, dynamodb = f"{ann}-{ben}", self.emulator.client("dynamodb")
        messages = f"/chats/{chat}/messages"
        self.stack.expect(201, "POST", "/chats", signer.token(ann), {"userId": ben})
        self.stack.expect(200, "PUT", f"/chats/{chat}/accept", signer.token(ben))
        self.stack.expect(201, "POST", messages, signer.token(ann), {"text": "before the accident"})
        old, new = self.stack.outputs()["TableName"], "chat-restored"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        restore = ["scripts/restore-table.sh", old, new, now]
        output = run(restore, seconds=300, env=self.emulator.environment())
        stream = self.stream_of(new)
        check(stream, f"the restored table {new} has no stream")
        moves = {"ExistingTableName": new, "ExistingTableStreamArn": stream, "DeploymentType": "AllAtOnce"}
        overrides = " ".join(f"{name}={value}" for name, value in moves.items())
        for line in (f"check --table {new}", f"copy --from {new} --to {old}",
                     f"sam deploy --config-env ENVIRONMENT --parameter-overrides {overrides}"):
            check(line in output, f"scripts/restore-table.sh does not print the next command {line}: {output}")
        self.check_table(new)
        run(restore, seconds=300, env=self.emulator.environment())
        progress(f"{old} is restored as {new}; the command can be repeated")

        deleted = self.message_keys(old)
        for key in deleted:
            dynamodb.delete_item(TableName=old, Key=key)
        self.admin("check", "--table", new)
        self.admin("copy", "--from", new, "--to", old)
        check(self.message_keys(old) == deleted, f"chat-admin copy did not copy the messages back to {old}")
        self.admin("check", "--table", old, "--repair")
        progress(f"chat-admin copied {len(deleted)} deleted messages from {new} to {old}")

        self.stack.expect(201, "POST", messages, signer.token(ann), {"text": "only in the old table"})
        self.stack.deploy(**moves)
        check(self.stack.outputs()["TableName"] == new, "the output TableName is not the restored table")
        for name, function in self.stack.configurations().items():
            table = function["Environment"]["Variables"]["TABLE_NAME"]
            check(table == new, f"`{ALIAS}` of {name} still uses the table {table}")
        self.check_no_reference(old, new)
        texts = [message["text"] for message in self.stack.expect(200, "GET", messages, signer.token(ben))["messages"]]
        check(texts == ["before the accident"], f"the API shows the messages {texts} of the restored table")
        self.check_serves(signer)
        self.check_pushes(signer)
        check(old in dynamodb.list_tables()["TableNames"], f"the old table {old} was deleted")
        progress(f"the API, the permissions and the alarms use {new}; {old} still exists")

    def roll_back(self):
        """A broken version fails the deployment hook, and the previous state serves again"""
        signer = self.secret_signer()
        check(self.stack.template.hook, "the template has no resource DeploymentHook")
        check(self.hook_verdicts() == {"Succeeded"}, "the deployment hook does not succeed for the good versions")
        progress("the deployment hook succeeds for each function")
        good = self.live_codes()
        ssm = self.emulator.client("ssm")
        ssm.put_parameter(Name="/chat/unusable-key", Type="String", Value="not a key")
        self.stack.deploy(JwtPublicKeyParameter="/chat/unusable-key:1")
        # Some functions need no key. One failure rolls the stack back.
        check("Failed" in self.hook_verdicts(), "the deployment hook succeeds for versions without a usable key")
        progress("the deployment hook fails for versions with an unusable key")
        self.stack.deploy(JwtPublicKeyParameter="")
        self.check_serves(signer)
        names = ("ExistingTableName", "ExistingTableStreamArn")
        table = {name: self.stack.parameters.get(name, "") for name in names}
        # A table that does not exist has no stream, so the mapping keeps the stream that it has.
        stream = self.stream_of(self.stack.outputs()["TableName"])
        self.stack.deploy(ExistingTableName="chat-missing", ExistingTableStreamArn=stream)
        # The functions that need a body respond before they read the table. One failure rolls the stack back.
        check("Failed" in self.hook_verdicts(), "the deployment hook succeeds for versions without a table")
        progress("the deployment hook fails for versions without a table")
        self.stack.deploy(**table)
        self.check_serves(signer)
        try:
            self.stack.deploy_broken(is_rolled_back=True)
        except RehearsalError as error:
            check("Failing" in str(error), f"the deployment fails for another reason: {error}")
        else:
            check(False, "a deployment succeeds although one of its resources fails")
        check(self.live_codes() == good, "after CloudFormation's rollback, `live` does not have the previous code")
        self.check_serves(signer)
        # AWS would refuse to publish the same code again while the version still exists. MiniStack does not.
        for name, function in self.stack.configurations().items():
            page = self.stack.functions_api.list_versions_by_function(FunctionName=function["FunctionName"])
            versions = [version["Version"] for version in page["Versions"]]
            expected = ["$LATEST", function["Version"]]
            check(versions == expected, f"after the rollback {name} has the versions {versions} instead of {expected}")
        progress("a deployment that fails is rolled back, and no version of it remains")
        self.stack.deploy_broken()
        progress("the same build can be deployed again")
        check(self.hook_verdicts() == {"Failed"}, "the deployment hook succeeds for an executable that exits at init")
        progress("the deployment hook fails for an executable that exits at init")
        self.stack.deploy()
        check(self.live_codes() == good, "after the roll back, `live` does not have the previous code")
        check(self.hook_verdicts() == {"Succeeded"}, "the deployment hook fails after the roll back")
        self.check_serves(signer)
        progress("the previous state is live again")

    def second_stack(self):
        """The environments of samconfig.toml: dev beside the first stack, and prod without an address for alarms"""
        self.secrets.create_secret(Name="chat-dev/jwt-secret", SecretString=secrets.token_urlsafe(48))
        self.stack.run_sam_deploy("packaged.json", environment="dev", credentials=self.deploying_role("chat-dev"))
        names = self.stack.resources("chat-dev")
        function = self.stack.functions_api.get_function_configuration(
            FunctionName=names["GetTotalsFunction"], Qualifier=ALIAS
        )
        secret = function["Environment"]["Variables"]["JWT_SECRET_ARN"]
        check(secret == "chat-dev/jwt-secret", f"the functions of chat-dev use the secret {secret}")
        # A stage and a configuration have names of their own in each API and application.
        own = {"ChatApiApiGatewayDefaultStage", "LiveStage", "ConfigurationVersion"}
        shared = {name for key, name in names.items() if key not in own} & set(self.stack.resources().values())
        check(not shared, f"both stacks have these resources: {sorted(shared)}")
        self.delete_stack("chat-dev")
        progress("dev: deployed beside the first stack with the role of deploy/deploy-role.yaml, and deleted")
        try:
            self.stack.run_sam_deploy("packaged.json", environment="prod")
        except RehearsalError as error:
            check("AlarmEmail" in str(error), f"sam deploy --config-env prod fails for another reason: {error}")
            progress("prod: refused until AlarmEmail or AlarmTopicArn is set")
        else:
            check(False, "sam deploy --config-env prod works without an address for alarms")

    def delete(self):
        """Deletes the stack; the tables remain"""
        table = self.stack.resources().get("ChatTable")
        self.delete_stack(STACK)
        check(not self.stack.all_configurations(), "after sam delete there are still functions")
        remaining = self.emulator.client("dynamodb").list_tables()["TableNames"]
        check(table is None or table in remaining, f"the table {table} was deleted")
        check(remaining, "no table remains")
        progress(f"these tables remain: {', '.join(remaining)}")

    # Parts of steps.

    def change_parameter(self, name):
        """Deploys with a new value of a parameter. It must be live in each function that has the parameter."""
        value, place = PARAMETER_CHANGES[name]
        read = read_variable(place) if isinstance(place, str) else place
        before = {key: function for key, function in self.stack.configurations().items() if read(function) is not None}
        check(before, f"no function has a value of {name}")
        self.stack.deploy(**{name: value})
        after = self.stack.configurations()
        for key, function in before.items():
            check(read(after[key]) == value,
                  f"after a deployment with {name}={value}, `{ALIAS}` of {key} points to version"
                  f" {after[key]['Version']}, which still has {read(after[key])}")
            check(after[key]["Version"] != function["Version"], f"{key} has no new version with {name}={value}")
        self.claims |= CLAIMS.get(name, {})
        self.check_serves(self.secret_signer())
        progress(f"{name}={value}: live in {len(before)} functions")

    def new_secret(self):
        self.secret_values.append(secrets.token_urlsafe(48))

    def secret_signer(self):
        return Signer("HS256", self.secret_values[-1])

    def delete_stack(self, name):
        run([self.stack.sam, "delete", "--no-prompts", "--stack-name", name, "--region", REGION],
            seconds=300, env=self.emulator.environment(), cwd=self.stack.folder)
        stacks = self.stack.cloudformation.list_stacks()["StackSummaries"]
        states = {stack["StackStatus"] for stack in stacks if stack["StackName"] == name}
        check(states == {"DELETE_COMPLETE"}, f"after sam delete the stack {name} has the status {states}")

    def live_versions(self):
        return {name: function["Version"] for name, function in self.stack.configurations().items()}

    def live_codes(self):
        return {name: function["CodeSha256"] for name, function in self.stack.configurations().items()}

    def check_serves(self, signer):
        """Each function accepts a token of the signer."""
        failing = [name for name, ok in self.stack.serves(signer, self.claims).items() if not ok]
        check(not failing, f"a valid {signer.algorithm} token is not accepted by {', '.join(failing)}")

    def check_pushes(self, signer):
        """Two users connect, and get the events of a request, its acceptance and a message."""
        ann, ben = secrets.randbelow(2**40) + 1, secrets.randbelow(2**40) + 2**41
        chat, tokens = f"{ann}-{ben}", {user: signer.token(user, self.claims) for user in (ann, ben)}
        url = self.stack.live_url()
        with LiveClient(url, tokens[ann]) as first, LiveClient(url, tokens[ben]) as second:
            self.stack.expect(201, "POST", "/chats", tokens[ann], {"userId": ben})
            self.stack.expect(200, "PUT", f"/chats/{chat}/accept", tokens[ben])
            sent = self.stack.expect(201, "POST", f"/chats/{chat}/messages", tokens[ann], {"text": "pushed"})
            for client, user in ((first, ann), (second, ben)):
                for kind in ("chat.requested", "chat.accepted"):
                    client.next(kind)
                event = client.next("message.created")
                message = event["message"]
                check(event["chatId"] == chat and message["text"] == "pushed", f"{user} got the event {event}")
                check(message["messageId"] == sent["messageId"], f"{user} got another message than {sent}: {event}")
                unread = event["totals"]["totalUnreadMessages"]
                check(unread == (user == ben), f"{user} got the total {unread}")
            second.send({"type": "sync"})
            totals = second.next("synced")["totals"]
            check(totals["totalUnreadMessages"] == 1, f"the response to sync has the totals {totals}")
            second.send({"type": "renew", "token": tokens[ben]})
            second.next("renewed")
            second.send({"type": "typing", "chatId": chat})
            first.next("typing")
            check(self.connections(ann) and self.connections(ben), "the connections are not in the table")
        wait_until(
            lambda: not self.connections(ann) + self.connections(ben), 30, "the connections are still in the table"
        )
        progress("a request, its acceptance, a message and typing reach both members; sync and renew work")

    def connections(self, user):
        """The keys of a user's connections in the table."""
        return self.emulator.client("dynamodb").query(
            TableName=self.stack.outputs()["TableName"], ProjectionExpression="sk",
            KeyConditionExpression="pk = :pk AND begins_with(sk, :sk)",
            ExpressionAttributeValues={":pk": {"S": f"USER#{user}"}, ":sk": {"S": "CONN#"}},
        )["Items"]

    def stream_of(self, table):
        """The ARN of a table's stream; None if it has none or if it is not enabled."""
        description = self.emulator.client("dynamodb").describe_table(TableName=table)["Table"]
        is_enabled = (description.get("StreamSpecification") or {}).get("StreamEnabled")
        return description.get("LatestStreamArn") if is_enabled else None

    def wait_until_accepted(self, signer):
        """The functions fetch their keys again when none fits a token, but at most once a minute."""
        began = time.monotonic()
        wait_until(lambda: all(self.stack.serves(signer).values()), 90, "not all functions accept tokens of a new key")
        progress(f"tokens of a new {signer.algorithm} key are accepted after {time.monotonic() - began:.0f} s")

    def check_refuses(self, signer, claims=None):
        """Each function returns 401 to a token of the signer."""
        token = signer.token(17, claims, self.stack.token_type())
        for name, (method, path, _) in CALLS.items():
            status, response = self.stack.call(method, path, token)
            check(status == 401, f"{name} returned {status} to a token that it must refuse: {response}")

    def switch(self, name, accepted, refused, **parameters):
        """Changes the kind of key. Tokens of some signers are accepted then, and those of others are refused."""
        self.stack.deploy(**parameters)
        for signer in accepted:
            self.check_serves(signer)
        for signer in refused:
            self.check_refuses(signer)
        progress(f"{name}: {', '.join(signer.algorithm for signer in accepted)} accepted")

    def admin(self, *arguments):
        """Runs chat-admin against the emulator."""
        executable = self.options.binaries / "chat-admin"
        check(executable.is_file(), f"{executable} is missing. Build it with: cargo build --bin chat-admin")
        run([executable.absolute(), *arguments], seconds=120, env=self.emulator.environment())

    def message_keys(self, table):
        """The keys of all messages in a table."""
        pages = self.emulator.client("dynamodb").get_paginator("scan").paginate(
            TableName=table, FilterExpression="#type = :message", ProjectionExpression="pk, sk",
            ExpressionAttributeNames={"#type": "type"}, ExpressionAttributeValues={":message": {"S": "Message"}},
        )
        return [item for page in pages for item in page["Items"]]

    def deploying_role(self, stack):
        """Creates the role with which CI deploys, as docs/deploy.md says. Returns credentials of it."""
        name = f"deploy-role-{stack}"
        # MiniStack cannot create the identity provider of GitHub. It checks the trust policy of the role, but not who
        # has signed the token of the workflow.
        parameters = ["Repository=example/chat", "GitHubEnvironment=dev", f"StackName={stack}",
                      f"SecretName={stack}/jwt-secret", "CreateOidcProvider=false"]
        run(["aws", "cloudformation", "deploy", "--stack-name", name, "--template-file", "deploy/deploy-role.yaml",
             "--capabilities", "CAPABILITY_NAMED_IAM", "--parameter-overrides", *parameters],
            seconds=120, env=self.emulator.environment())
        role = self.stack.outputs(name)["RoleArn"]
        claims = {"iss": "https://token.actions.githubusercontent.com", "aud": "sts.amazonaws.com"}

        def assume(workflow):
            return self.emulator.client("sts").assume_role_with_web_identity(
                RoleArn=role, RoleSessionName="rehearsal", WebIdentityToken=self.secret_signer().token(workflow, claims)
            )["Credentials"]

        for workflow in ("repo:example/chat:environment:prod", "repo:example/other:environment:dev"):
            try:
                assume(workflow)
            except ClientError as error:
                check("AccessDenied" in str(error), f"{workflow} cannot assume the role for another reason: {error}")
            else:
                check(False, f"{workflow} may deploy {stack}")
        credentials = assume("repo:example/chat:environment:dev")
        # SAM's bucket refuses requests without TLS, which the emulator does not have.
        s3 = self.emulator.client("s3")
        for bucket in s3.list_buckets()["Buckets"]:
            s3.delete_bucket_policy(Bucket=bucket["Name"])
        environment = {"AWS_ACCESS_KEY_ID": credentials["AccessKeyId"],
                       "AWS_SECRET_ACCESS_KEY": credentials["SecretAccessKey"],
                       "AWS_SESSION_TOKEN": credentials["SessionToken"]}
        for command in (["cloudformation", "describe-stacks", "--stack-name", STACK],
                        ["secretsmanager", "get-secret-value", "--secret-id", SECRET],
                        ["dynamodb", "scan", "--table-name", self.stack.outputs()["TableName"]]):
            try:
                run(["aws", *command], seconds=60, env=self.emulator.environment() | environment)
            except RehearsalError as error:
                check("AccessDenied" in str(error), f"this fails for another reason than the permissions: {error}")
            else:
                check(False, f"the role that deploys {stack} may run: aws {' '.join(command)}")
        return environment

    def role_policies(self):
        """The text of all policies of each role of the stack."""
        iam = self.emulator.client("iam")
        for name, role in self.stack.resources().items():
            if name.endswith("FunctionRole"):
                policies = iam.list_role_policies(RoleName=role)["PolicyNames"]
                documents = [iam.get_role_policy(RoleName=role, PolicyName=p)["PolicyDocument"] for p in policies]
                yield name, json.dumps(documents)

    def check_secret_permission(self, expected):
        """The functions may read the secret exactly when they use it."""
        for name, text in self.role_policies():
            function = name.removesuffix("Role")
            if function in self.stack.template.binaries and function not in WITHOUT_TOKENS:
                check(("secretsmanager:GetSecretValue" in text) == expected,
                      f"{name} {'may not' if expected else 'may'} read a secret: {text}")

    def check_table(self, name):
        """A restored table has the indexes, and the settings that a restore does not copy."""
        dynamodb = self.emulator.client("dynamodb")
        table = dynamodb.describe_table(TableName=name)["Table"]
        indexes = {index["IndexName"] for index in table["GlobalSecondaryIndexes"]}
        check(indexes == {"byRequester", "byRecipient"}, f"{name} has the indexes {indexes}")
        mode = table.get("BillingModeSummary", {}).get("BillingMode")
        check(mode == "PAY_PER_REQUEST", f"{name} has the billing mode {mode}")
        check(table.get("DeletionProtectionEnabled"), f"{name} is not protected from deletion")
        expiry = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        check(expiry.get("AttributeName") == "expiresAt" and expiry["TimeToLiveStatus"] in ("ENABLED", "ENABLING"),
              f"{name} has the TTL {expiry}")
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        recovery = backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"]
        check(recovery == "ENABLED", f"point-in-time recovery of {name} is {recovery}")

    def check_no_reference(self, old, new):
        """Permissions and alarms name the new table and not the old one."""
        for name, text in self.role_policies():
            check(old not in text, f"{name} still names the table {old}: {text}")
            # authorize-connection does not use the table.
            if name.removesuffix("Role") in self.stack.template.binaries.keys() - {"AuthorizeConnectionFunction"}:
                check(new in text, f"{name} does not name the table {new}: {text}")
        alarms = self.emulator.client("cloudwatch").describe_alarms()["MetricAlarms"]
        tables = {d["Value"] for alarm in alarms for d in alarm["Dimensions"] if d["Name"] == "TableName"}
        check(tables == {new}, f"the alarms watch the tables {tables}")

    def hook_verdicts(self):
        """Runs the deployment hook for the live version of each function, as CodeDeploy does. Returns its verdicts."""
        resources, configurations = self.stack.resources(), self.stack.configurations()
        hook = resources[self.stack.template.hook]

        def verdict(number, name):
            deployment, execution = f"d-{secrets.token_hex(4).upper()}", secrets.token_hex(8)
            content = appspec(resources[name], configurations[name]["Version"], hook)
            group = f"{STACK}-{name}DeploymentGroup-X"
            self.codedeploy.deployments[deployment] = deployment_info(deployment, group, content, number % 2 == 0)
            event = {"DeploymentId": deployment, "LifecycleEventHookExecutionId": execution}
            response = self.stack.functions_api.invoke(FunctionName=hook, Payload=json.dumps(event))
            payload = response["Payload"].read().decode()
            check("FunctionError" not in response, f"the deployment hook failed for {name}: {payload}")
            check(execution in self.codedeploy.statuses, f"the deployment hook reported nothing for {name}: {payload}")
            return self.codedeploy.statuses[execution]

        # CodeDeploy also starts the deployments of a stack together.
        with concurrent.futures.ThreadPoolExecutor() as executor:
            return set(executor.map(verdict, range(len(configurations)), configurations))


def read_variable(name):
    """A function that reads an environment variable of a configuration."""
    return lambda function: function["Environment"]["Variables"].get(name)


def appspec(function, version, hook):
    """What CloudFormation tells CodeDeploy about the deployment of one function."""
    properties = {"Name": function, "Alias": ALIAS, "CurrentVersion": "1", "TargetVersion": version}
    resource = {"Type": "AWS::Lambda::Function", "Properties": properties}
    return json.dumps(
        {"version": 0.0, "Resources": [{function: resource}], "Hooks": [{"BeforeAllowTraffic": hook}]}
    )


def deployment_info(deployment, group, content, is_string):
    """A deployment as CodeDeploy's operation GetDeployment describes it. A revision has one of two forms."""
    revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
    if is_string:
        revision = {"revisionType": "String", "string": {"content": content}}
    return {"deploymentId": deployment, "deploymentGroupName": group, "status": "InProgress",
            "computePlatform": "Lambda", "revision": revision}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--template", type=Path, default=ROOT / "template.yaml")
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--architecture", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--sam", required=True)
    parser.add_argument("--skip", action="append", default=[])
    parser.add_argument("--keep-going", action="store_true")
    options = parser.parse_args()
    # Ends with the clean-up below on Ctrl-C and when the caller's time limit is over.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    emulator, codedeploy = Emulator(options.folder), CodeDeploy()
    began, durations, failed = time.monotonic(), [], []
    try:
        template = EmulatorTemplate(options.template, emulator.url, codedeploy.url)
        print("The emulator differs from AWS, so the template is changed for it:")
        for change in template.changes:
            progress(change)
        template.write(options.folder, options.binaries)
        emulator.start()
        rehearsal = Rehearsal(emulator, Stack(emulator, options.sam, options.folder, template), codedeploy, options)
        steps = [rehearsal.deploy, rehearsal.call, rehearsal.push, rehearsal.realtime, rehearsal.upgrade,
                 rehearsal.contract, rehearsal.parameters, rehearsal.other_parameters, rehearsal.rotate,
                 rehearsal.keys, rehearsal.secrecy, rehearsal.restore, rehearsal.roll_back, rehearsal.second_stack,
                 rehearsal.delete]
        for step in steps:
            name, title = step.__name__.replace("_", "-"), step.__doc__
            if name in options.skip:
                continue
            print(f"{title} ({name})", flush=True)
            step_began = time.monotonic()
            try:
                step()
            except Exception as error:  # Anything else than a RehearsalError is a mistake in the rehearsal itself.
                print(f"error: step \"{name}\": {error}", flush=True)
                if not isinstance(error, RehearsalError):
                    traceback.print_exc(file=sys.stdout)
                failed.append(name)
                if not options.keep_going:
                    break
            durations.append(f"{name} {time.monotonic() - step_began:.0f} s")
        if failed:
            print(f"error: {', '.join(failed)} failed. MiniStack's log is {emulator.log}", flush=True)
        print(f"{rehearsal.stack.deployments} deployments in {time.monotonic() - began:.0f} s: {', '.join(durations)}")
    finally:
        emulator.stop()
        for left in ("tmp", "functions", "sam"):
            shutil.rmtree(options.folder / left, ignore_errors=True)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
