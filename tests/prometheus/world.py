"""Processes that a test starts and queries: servers of useradmin, and Prometheus."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "target" / "prometheus"
TOOLS = ROOT / "target" / "tools"
PATIENCE = 30.0
# Ignores a proxy from the environment, because all requests go to loopback.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fail(text):
    sys.exit(f"FAILED: {text}")


def until(what, condition, patience=PATIENCE):
    """Polls until the result is truthy, and returns it. `what` is a description of the condition, or returns one."""
    end = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > end:
            fail(f"{what() if callable(what) else what}: not within {patience:g} s")
        time.sleep(0.05)


def get(url, accept="*/*"):
    request = urllib.request.Request(url, headers={"Accept": accept})
    with DIRECT.open(request, timeout=10) as response:
        return response.read().decode()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Program:
    """A process with a folder for its output. It is stopped at the end of the test."""

    running = []

    def __init__(self, name, command):
        self.name = name
        self.folder = WORK / name
        self.folder.mkdir(parents=True, exist_ok=True)
        with self.path("stdout").open("wb") as out, self.path("stderr").open("wb") as err:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=self.folder)
        Program.running.append(self)

    def path(self, name):
        return self.folder / name

    def check(self):
        if self.process.poll() is not None:
            fail(f"{self.name} has ended with {self.process.returncode}: {self.path('stderr').read_text()[-2000:]}")

    def output_match(self, where, pattern):
        """Returns the first group of the first match of the pattern in the output so far."""
        self.check()
        match = re.search(pattern, self.path(where).read_text(), re.M)
        return match and match[1]

    def stop(self):
        """Stops the process with SIGTERM and returns its exit code."""
        Program.running.remove(self)
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    @classmethod
    def stop_all(cls):
        while cls.running:
            cls.running[-1].stop()


class Server(Program):
    """A server of useradmin, ready for calls."""

    def __init__(self, name, arguments, admin=None):
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        program = os.environ.get("USERADMIN") or target / "debug" / "useradmin"
        super().__init__(name, [str(program), "serve", *arguments])
        self.address = until(f"{name} listens", lambda: self.output_match("stdout", r"^listening on (\S+)$"))
        # The guide of the sandbox contains the URL of the metrics.
        self.admin = admin or until(f"{name} has a guide", lambda: self.output_match("stderr", r"http://(\S+)/metrics"))

    def metrics(self, accept="application/openmetrics-text"):
        return get(f"http://{self.admin}/metrics", accept)

    def call(self, rpc, request, options=()):
        """Starts a call with grpcurl without waiting for its end."""
        grpcurl = TOOLS / "bin" / "grpcurl"
        command = [str(grpcurl if grpcurl.exists() else "grpcurl"), "-max-time", "10", *options]
        command += ["-d", json.dumps(request), self.address, f"useradmin.v1.UserAdmin/{rpc}"]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


class Prometheus(Program):
    """A Prometheus that scrapes every second."""

    def __init__(self, config):
        path = WORK / "prometheus.yml"
        path.write_text(config)
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        options = [f"--web.listen-address=127.0.0.1:{port}", f"--config.file={path}"]
        options += [f"--storage.tsdb.path={WORK / 'data'}", "--log.level=warn"]
        super().__init__("prometheus", ["prometheus", *options])
        until("Prometheus is ready", self.ready)

    def ready(self):
        self.check()
        try:
            return get(f"{self.url}/-/ready")
        except OSError:
            return None

    def api(self, path, **query):
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        try:
            answer = json.loads(get(url))
        except urllib.error.HTTPError as error:
            fail(f"{path} {query}: {error.read().decode()}")
        return answer["data"]

    def query(self, expression):
        """Returns the labels and the current value of each series."""
        result = self.api("query", query=expression)["result"]
        return [(series["metric"], float(series["value"][1])) for series in result]

    def value(self, expression):
        """Returns the only value, or None if there is no series."""
        found = self.query(expression)
        if len(found) > 1:
            fail(f"more than one series: {expression}")
        return found[0][1] if found else None

    def wait_for(self, expression, value):
        """Waits until the expression has this value."""
        until(f"{expression} is {value:g}", lambda: [found for _, found in self.query(expression)] == [value])
