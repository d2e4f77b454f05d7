"""Errors, progress lines and child processes of the rehearsal."""
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class RehearsalError(Exception):
    """A step of the rehearsal failed. The message says what is wrong."""


def check(condition, message):
    """Fails the step with `message` unless the condition is true."""
    if not condition:
        raise RehearsalError(message)


def progress(text):
    """Prints a line at once."""
    print(f"  {text}", flush=True)


def free_port():
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(condition, seconds, message):
    """Repeats `condition` until its result is true, and returns the result. Fails the step after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        result = condition()
        if result:
            return result
        check(time.monotonic() < deadline, f"waited {seconds} seconds, but {message}")
        time.sleep(0.5)


def run(command, *, seconds, env=None, cwd=ROOT, stdin=""):
    """Runs a command and returns its output. Fails the step with the output when the command fails."""
    text = " ".join(str(part) for part in command)
    # In a session of its own, so that a time limit also ends the processes that the command has started.
    process = subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **(env or {})},
        cwd=cwd,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(stdin, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise RehearsalError(f"this command did not finish within {seconds} seconds: {text}") from None
    finally:
        stop(process)
    # sam prints a line for each piece of a file that it uploads.
    shown = "\n".join(line for line in output.splitlines() if "Uploading to" not in line and line.strip())
    check(process.returncode == 0, f"this command failed with status {process.returncode}: {text}\n{shown}")
    return output


def stop(process):
    """Ends a process that was started with `start_new_session`, and every process that it has started."""
    for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
    process.wait(10)
