"""The AWS account of the rehearsal: MiniStack, and stand-ins for what MiniStack does not have."""
import http.server
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import boto3
from botocore.config import Config

from .processes import RehearsalError, check, free_port, stop, wait_until

REGION = "us-east-1"


class Emulator:
    """A MiniStack process, which listens on 127.0.0.1 only."""

    def __init__(self, folder):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = folder / "ministack.log"
        self.temporary = folder / "tmp"
        self.sam_configuration = folder.absolute() / "sam"
        self.process = None

    def environment(self):
        """The environment variables with which the AWS tools and SDKs use the emulator."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            # No profile, configuration file or proxy of the caller may lead the tools to a real account.
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_PAGER": "",
            "NO_PROXY": "127.0.0.1,localhost",
            "SAM_CLI_TELEMETRY": "0",
            # A configuration of its own, which says that sam has just looked for a newer version of itself.
            "__SAM_CLI_APP_DIR": str(self.sam_configuration),
            # Seconds between two looks at the deployment. The emulator needs two or three for all.
            "SAM_CLI_POLL_DELAY": "0.5",
        }

    def start(self):
        self.temporary.mkdir(parents=True)
        self.sam_configuration.mkdir()
        configuration = {"lastVersionCheck": time.time(), "telemetryEnabled": False}
        (self.sam_configuration / "metadata.json").write_text(json.dumps(configuration), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
        environment |= self.environment() | {
            "GATEWAY_PORT": str(self.port),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "localhost",
            # Functions run as processes, not in containers.
            "LAMBDA_EXECUTOR": "local",
            "LAMBDA_WARM_TTL_SECONDS": "60",
            # Each function has the permissions of its own role, so a missing permission fails the rehearsal.
            "AUTH": "true",
            # These listen on fixed ports.
            "IOT_MTLS_ENABLED": "0",
            "SFTP_ENABLED": "0",
            "TMPDIR": str(self.temporary),
            "S3_DATA_DIR": str(self.temporary / "s3"),
            "STATE_DIR": str(self.temporary / "state"),
        }
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("ministack_server.py")], env=environment, cwd=self.temporary,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )
        wait_until(self.is_ready, 60, f"MiniStack did not start. Its log is {self.log}")

    def is_ready(self):
        check(self.process.poll() is None, f"MiniStack ended before it was ready. Its log is {self.log}")
        try:
            return request("GET", f"{self.url}/_ministack/health")[0] == 200
        except RehearsalError:
            return False

    def stop(self):
        """Ends MiniStack and the processes of the functions."""
        if self.process:
            stop(self.process)

    def client(self, service):
        """A boto3 client for a service of the emulator."""
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION, aws_access_key_id="test",
            aws_secret_access_key="test", config=Config(retries={"total_max_attempts": 1}, proxies={}),
        )


def request(method, url, headers=None, body=None):
    """Sends a request without a proxy. Returns status, headers, and the body as JSON where it is JSON."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", **(headers or {})} if data else headers or {}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    message = urllib.request.Request(url, data, headers, method=method)
    try:
        response = opener.open(message, timeout=60)
    except urllib.error.HTTPError as error:
        response = error
    except OSError as error:
        raise RehearsalError(f"{method} {url} got no response: {error}") from None
    with response:
        text = response.read().decode()
        try:
            return response.status, response.headers, json.loads(text)
        except ValueError:
            return response.status, response.headers, text


class LocalServer:
    """An HTTP server on 127.0.0.1 that runs until the rehearsal ends."""

    def __init__(self):
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.respond(owner.get(self.path))

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                operation = self.headers.get("x-amz-target", "").rpartition(".")[2]
                self.respond(owner.post(operation, json.loads(body or b"{}")))

            def respond(self, response):
                status, document = response
                body = json.dumps(document).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                """Requests are not logged."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def get(self, path):
        return 404, {"message": f"nothing is at {path}"}

    def post(self, operation, _body):
        return 400, {"__type": "UnknownOperationException", "message": f"{operation} is not supported here"}


class KeySetServer(LocalServer):
    """An issuer that publishes its public keys."""

    def __init__(self):
        self.keys = []
        super().__init__()

    def get(self, path):
        return (200, {"keys": self.keys}) if path == "/jwks.json" else super().get(path)


class CodeDeploy(LocalServer):
    """Stands in for AWS CodeDeploy, which MiniStack does not have: the two operations that a deployment hook uses."""

    def __init__(self):
        self.deployments = {}
        self.statuses = {}
        super().__init__()

    def post(self, operation, body):
        if operation == "GetDeployment":
            deployment = self.deployments.get(body["deploymentId"])
            if not deployment:
                return 400, {"__type": "DeploymentDoesNotExistException", "message": body["deploymentId"]}
            return 200, {"deploymentInfo": deployment}
        if operation == "PutLifecycleEventHookExecutionStatus":
            execution = body["lifecycleEventHookExecutionId"]
            self.statuses[execution] = body["status"]
            return 200, {"lifecycleEventHookExecutionId": execution}
        return super().post(operation, body)
