"""A simulated HMC with the users user-1 to user-9999, for trying out several replicas. Prints logons and deletions. After
three wrong passwords it disables the user of the service for five minutes, as an HMC does."""

import json
import re
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

USERID, PASSWORD = "svc-useradmin", "hmc-password"
MAX_FAILED_LOGINS = 3
DISABLED_SECONDS = 300

lock = threading.Lock()
users = {f"user-{number}" for number in range(1, 10_000)}
sessions = set()
failed_logins = 0
disabled_until = 0.0


def log_on(body):
    """Returns the status and the document of a logon."""
    global failed_logins, disabled_until
    fields = json.loads(body)
    enabled = time.monotonic() >= disabled_until
    if enabled and (fields["userid"], fields["password"]) == (USERID, PASSWORD):
        failed_logins = 0
        session = secrets.token_hex(25)
        sessions.add(session)
        print("logon accepted", flush=True)
        return 200, {"api-session": session, "api-major-version": 4, "api-minor-version": 10, "password-expires": 90}
    failed_logins += 1
    print(f"logon refused: {failed_logins} in succession", flush=True)
    if enabled and failed_logins >= MAX_FAILED_LOGINS:
        disabled_until = time.monotonic() + DISABLED_SECONDS
        print(f"user {USERID} disabled for {DISABLED_SECONDS} s", flush=True)
    return 403, error(403, 0, "The logon failed.")


def error(status, reason, message):
    return {"http-status": status, "reason": reason, "message": message}


def find_users(query):
    """Returns the users whose name matches the regular expression in the query."""
    pattern = parse_qs(query)["name"][0]
    found = [name for name in users if re.fullmatch(pattern, name, re.IGNORECASE)]
    return 200, {"users": [{"object-uri": f"/api/users/{name}", "name": name, "type": "standard"} for name in found]}


def read_user(name):
    if name not in users:
        return 404, error(404, 1, "There is no such user.")
    document = {"object-uri": f"/api/users/{name}", "object-id": name, "name": name, "type": "standard", "class": "user"}
    return 200, document | {"disabled": False, "replication-overwrite-possible": False}


def delete_user(name):
    if name not in users:
        return 404, error(404, 1, "There is no such user.")
    users.remove(name)
    print(f"deleted {name}", flush=True)
    return 204, None


class Hmc(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def respond(self):
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with lock:
            status, document = self.result(url, body)
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def result(self, url, body):
        request = self.command, url.path
        if request == ("POST", "/api/sessions"):
            return log_on(body)
        session = self.headers.get("X-API-Session")
        if session not in sessions:
            return 403, error(403, 5, "The session is not valid.")
        if request == ("DELETE", "/api/sessions/this-session"):
            sessions.remove(session)
            return 204, None
        if request == ("GET", "/api/console/users"):
            return find_users(url.query)
        if self.command in ("DELETE", "GET") and url.path.startswith("/api/users/"):
            operation = delete_user if self.command == "DELETE" else read_user
            return operation(url.path.removeprefix("/api/users/"))
        return 404, error(404, 1, "There is no such resource.")

    do_GET = do_POST = do_DELETE = respond

    def log_message(self, *_):
        """Prints nothing for each request."""


ThreadingHTTPServer(("127.0.0.1", 6794), Hmc).serve_forever()
