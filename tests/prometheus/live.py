"""A real Prometheus scrapes real servers that have received calls. Checks that the metrics agree with the calls, that
all expressions of rules and dashboard select series, and that exactly the expected alerts fire."""

import re
import shutil
import socket
import subprocess

import dashboard
import documents
from world import ROOT, WORK, Program, Prometheus, Server, fail, free_port, until

BATCH, HMC = "DeleteBatchNodeUser", "DeleteHmcUser"
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
# DATA on stream 0, which no peer may send (RFC 9113, section 6.1).
RUBBISH = bytes([0, 0, 1, 0, 0, 0, 0, 0, 0, 0])
# Has no values here, because these servers have no database.
STATEMENTS = "useradmin_store_statement_duration_seconds"
CONFIGURATION = """
[server]
listen = "127.0.0.1:0"
admin_listen = "127.0.0.1:{admin}"
[server.limits]
max_connections = 1
[batch_accounts.down]
url = "http://127.0.0.1:1"
max_queued = 100
[batch_accounts.down.credential]
kind = "shared_key"
account_name = "account"
key_file = "batch.key"
[[callers]]
identity = "anonymous"
allow = [{{ rpc = "DeleteBatchNodeUser", targets = ["*"], pools = ["pool-*"] }}]
"""
PROMETHEUS = """
global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: useradmin
    static_configs: [{{targets: ["{sandbox}", "{broken}"]}}]
"""
# The calls, how often each is made, and the expected code, reason and outcome.
SANDBOX_CALLS = [
    (HMC, {"user_name": "alice"}, 1, "OK", "", "deleted"),
    (HMC, {"user_name": "nobody", "allow_missing": True}, 1, "OK", "", "already_absent"),
    (HMC, {"user_name": "template-in-use"}, 1, "FailedPrecondition", "TEMPLATE_USER_IN_USE", "not_deleted"),
    (BATCH, "bob", 1, "OK", "", "deleted"),
    (BATCH, "nobody", 2, "NotFound", "USER_NOT_FOUND", "not_deleted"),
    (BATCH, "answer-AuthenticationFailed", 1, "Internal", "UPSTREAM_CREDENTIALS_REJECTED", "not_deleted"),
    (BATCH, "answer-nothing", 1, "DeadlineExceeded", "OUTCOME_UNKNOWN", "unknown"),
]
BUSY = (BATCH, "answer-ServerBusy", "Unavailable", "UPSTREAM_UNAVAILABLE", "not_deleted")
# By alert and replica.
EXPECTED = {
    ("UseradminOutcomeUnknown", ""), ("UseradminCredentialsRejected", "sandbox"), ("UseradminBreakerOpen", "sandbox"),
    ("UseradminErrorBudgetBurns", ""), ("UseradminErrorBudgetLeaks", ""), ("UseradminCertificateExpires", "sandbox"),
    ("UseradminAuditChanged", "broken"), ("UseradminReloadStale", "broken"), ("UseradminRestartNeeded", "broken"),
    ("UseradminConnectionsRefused", "broken"),
}


def batch(user, pool="pool-1"):
    return {"pool_id": pool, "node_id": "node-idle", "user_name": user}


def start_servers():
    folder = WORK / "broken"
    folder.mkdir(parents=True)
    (folder / "batch.key").write_text("c2VjcmV0\n")
    admin = free_port()
    (folder / "useradmin.toml").write_text(CONFIGURATION.format(admin=admin))
    options = ["--sandbox", "--secure", "identities", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    sandbox = Server("sandbox", options)
    broken = Server("broken", ["--config", str(folder / "useradmin.toml")], f"127.0.0.1:{admin}")
    return sandbox, broken


def start_prometheus(sandbox, broken):
    """Uses the rules without their `for` durations."""
    rules = documents.RULES.read_text()
    rules, times = re.subn(r"^( +)for: \w+$", r"\1for: 0s", rules, flags=re.M)
    assert times > 10
    path = WORK / "useradmin.rules.yml"
    path.write_text(rules)
    prometheus = Prometheus(PROMETHEUS.format(rules=path, sandbox=sandbox.admin, broken=broken.admin))
    # The values before the calls must be scraped, so that the calls appear as an increase.
    prometheus.wait_for("sum(up)", 2)
    return prometheus


def call_sandbox(sandbox, prometheus):
    files = sandbox.folder / "identities"
    trust = ["-cacert", str(files / "ca.pem")]
    shown = [*trust, "-cert", str(files / "client.pem"), "-key", str(files / "client.key")]
    stranger = sandbox.call(HMC, {"user_name": "alice"}, trust)
    calls = [stranger]
    for rpc, request, times, *_ in SANDBOX_CALLS:
        request = request if rpc == HMC else batch(request)
        options = [*shown, "-max-time", "1"] if request["user_name"] == "answer-nothing" else shown
        calls += [sandbox.call(rpc, request, options) for _ in range(times)]
    calls.append(sandbox.call(BATCH, batch(BUSY[1]), shown))
    wait_for_calls(calls)
    total = 1 + sum(times for _, _, times, *_ in SANDBOX_CALLS) + 1
    prometheus.wait_for(f'sum(grpc_server_handled_total{{instance="{sandbox.admin}"}})', total)
    # Enough calls to open the breaker. Calls that it refuses have another reason.
    wait_for_calls([sandbox.call(BATCH, batch(BUSY[1]), shown) for _ in range(24)])


def wait_for_calls(calls):
    for call in calls:
        output, _ = call.communicate(timeout=20)
        if b"Failed to dial" in output:
            fail(output.decode())


def connect(server):
    host, port = server.address.split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(PREFACE)
    return connection


def closed(connection):
    """Reads the response to its end."""
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        pass
    connection.close()


def trouble(broken, prometheus):
    """Faults that the sandbox cannot simulate: an unreachable target, unauthenticated callers, and changed files."""
    wait_for_calls([broken.call(BATCH, batch("alice"), ["-plaintext"])])
    wait_for_calls([broken.call(BATCH, batch("alice", "other"), ["-plaintext"])])
    key, config, audit = (broken.path(name) for name in ("batch.key", "useradmin.toml", "audit.jsonl"))
    key.write_text("")
    config.write_text(config.read_text().replace("max_queued = 100", "max_queued = 50"))
    with audit.open("a") as file:
        file.write('{"v":1}\n')
    wait_for_calls([broken.call(BATCH, batch("alice", "other"), ["-plaintext"])])
    until("no connection is left", lambda: re.search(r"^useradmin_connections 0$", broken.metrics(), re.M))
    first = connect(broken)
    until("there is one connection", lambda: re.search(r"^useradmin_connections 1$", broken.metrics(), re.M))
    refused = f'sum(useradmin_connections_refused_total{{instance="{broken.admin}"}})'
    for number in (1, 2):
        closed(connect(broken))
        prometheus.wait_for(refused, number)
    first.sendall(RUBBISH)
    closed(first)


def check_numbers(sandbox, prometheus):
    labels = f'instance="{sandbox.admin}"'
    expected = {}
    for rpc, _, times, code, reason, _ in [*SANDBOX_CALLS, (HMC, None, 1, "Unauthenticated", "CALLER_UNAUTHENTICATED", "")]:
        key = (rpc, code, reason and f"ERROR_REASON_{reason}")
        expected[key] = expected.get(key, 0) + times
    busy = f'grpc_method="{BATCH}", grpc_code="Unavailable"'
    prometheus.wait_for(f"sum(grpc_server_handled_total{{{labels}, {busy}}})", 25)
    found = prometheus.query(f"grpc_server_handled_total{{{labels}}}")
    found = {(m["grpc_method"], m["grpc_code"], m.get("reason", "")): value for m, value in found if m["grpc_code"] != "Unavailable"}
    if found != expected:
        fail(f"handled: {found}, and not {expected}")
    outcomes = {}
    for rpc, _, times, _, _, outcome in SANDBOX_CALLS:
        key = ("azure_batch" if rpc == BATCH else "ibm_hmc", outcome)
        outcomes[key] = outcomes.get(key, 0) + times
    for (upstream, outcome), times in outcomes.items():
        selector = f'useradmin_call_outcomes_total{{{labels}, upstream="{upstream}", outcome="{outcome}"}}'
        # Some of the busy calls sent nothing, others were not deleted.
        rest = prometheus.value(selector) - times
        if rest and not (upstream == "azure_batch" and outcome == "not_deleted"):
            fail(f"{selector} is {times + rest:g}, and not {times}")
    prometheus.wait_for(f"sum(grpc_server_started_total{{{labels}}}) - sum(grpc_server_handled_total{{{labels}}})", 0)
    histogram = f"sum(grpc_server_handling_seconds_count{{{labels}}}) - sum(grpc_server_handled_total{{{labels}}})"
    prometheus.wait_for(histogram, 0)
    prometheus.wait_for(f'useradmin_upstream_requests_total{{{labels}, upstream="ibm_hmc", operation="logon", result="200"}}', 1)


def check_targets(prometheus):
    """Checks that Prometheus parsed the OpenMetrics format."""
    for target in prometheus.api("targets")["activeTargets"]:
        if target["health"] != "up" or target["lastError"]:
            fail(f"{target['scrapeUrl']}: {target['lastError']}")
    kinds = prometheus.api("metadata")
    if kinds["useradmin_upstream_requests"][0]["type"] != "counter" or kinds["useradmin_build"][0]["type"] != "info":
        fail("the types of OpenMetrics did not arrive")


def check_names(servers):
    found = {}
    for server in servers:
        found |= documents.exported_metrics(server.metrics())
    known = documents.documented_metrics()
    known.pop(STATEMENTS)
    if found != known:
        difference = sorted(set(found.items()) ^ set(known.items()))
        fail(f"/metrics and the table of docs/operations.md differ in {difference}")


def check_expressions(prometheus):
    """Checks all expressions and each selector in them, because `or` would hide a misspelt name or label."""
    for title, expression in dashboard.expressions(dashboard.load()):
        if STATEMENTS in expression:
            prometheus.query(expression)
            continue
        selectors = re.findall(r"\w+\{[^}]*\}", expression)
        if title == "Restarts":
            # Nothing has restarted, but the query must be valid.
            prometheus.query(expression)
        else:
            selectors.append(expression)
        for selector in selectors:
            until(f"the dashboard's {title} finds something by {selector}", lambda q=selector: prometheus.query(q), 5)


def check_rules(prometheus, names):
    """Checks that all rules are healthy and that exactly the expected alerts fire, with the expected texts."""
    def firing():
        active = prometheus.query('ALERTS{alertstate="firing"}')
        return {(m["alertname"], names.get(m.get("instance"), "")) for m, _ in active}

    def difference():
        found = firing()
        return f"missing {sorted(EXPECTED - found)}, unexpected {sorted(found - EXPECTED)}"

    until(difference, lambda: firing() == EXPECTED, 15)
    groups = prometheus.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    if {rule["name"] for rule in rules if rule["type"] == "alerting"} != set(documents.alerts()):
        fail("the rules that are loaded are others")
    for rule in rules:
        if rule["health"] != "ok":
            fail(f"{rule['name']}: {rule.get('lastError')}")
        for alert in rule.get("alerts", ()):
            for text in alert["annotations"].values():
                if "error expanding" in text or "<no value>" in text:
                    fail(f"{rule['name']}: {text}")
    for name in {rule["name"] for rule in rules if rule["type"] == "recording"}:
        if not prometheus.query(name):
            fail(f"{name} has recorded nothing")


def check_lint(server):
    """promtool reads only the text format, which the server sends if no other format is requested."""
    text = server.metrics(accept="*/*")
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, capture_output=True, text=True)
    if lint.returncode or lint.stdout or lint.stderr:
        fail(f"promtool check metrics: {lint.stdout}{lint.stderr}")


def check_ends(sandbox, broken, prometheus):
    """Checks that a server that no longer responds causes an alert."""
    alerts = 'count by (alertname) (ALERTS{{alertname="{}", alertstate="firing"}})'
    broken.stop()
    prometheus.wait_for(alerts.format("UseradminDown"), 1)
    if sandbox.stop() != 0:
        fail("the sandbox did not end well")
    prometheus.wait_for(alerts.format("UseradminAbsent"), 1)


def main():
    shutil.rmtree(WORK, ignore_errors=True)
    try:
        sandbox, broken = start_servers()
        prometheus = start_prometheus(sandbox, broken)
        call_sandbox(sandbox, prometheus)
        trouble(broken, prometheus)
        check_targets(prometheus)
        check_numbers(sandbox, prometheus)
        check_names([sandbox, broken])
        check_rules(prometheus, {sandbox.admin: "sandbox", broken.admin: "broken"})
        check_expressions(prometheus)
        for server in (sandbox, broken):
            check_lint(server)
        check_ends(sandbox, broken, prometheus)
    finally:
        Program.stop_all()


if __name__ == "__main__":
    main()
