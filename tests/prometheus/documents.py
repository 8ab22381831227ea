"""Names that must agree: in docs/operations.md, in the rules, in their tests and on the dashboard."""

import re

import dashboard
from world import ROOT, fail

OPERATIONS = ROOT / "docs" / "operations.md"
RULES = ROOT / "deploy" / "prometheus" / "useradmin.rules.yml"
TESTS = ROOT / "deploy" / "prometheus" / "tests"
REASONS = ROOT / "proto" / "useradmin" / "v1" / "error_reason.proto"
METRIC = r"\b(?:useradmin|grpc_server|process)_[a-z_]+\b"


def documented_metrics():
    """Returns the names in the first column of a table, and their types."""
    rows = re.findall(rf"^\| `({METRIC})` \| (\w+) \|", OPERATIONS.read_text(), re.M)
    names = [name for name, _ in rows]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        fail(f"docs/operations.md lists more than once: {sorted(doubled)}")
    return dict(rows)


def exported_metrics(text):
    """Returns the names in the text of /metrics, as PromQL uses them, and their types."""
    families = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M))
    suffix = {"counter": "_total", "info": "_info"}
    return {name + suffix.get(kind, ""): kind for name, kind in families.items()}


def used_metrics(text):
    """Returns the names in expressions, without the suffixes of histograms."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(METRIC, text)}


def alerts():
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def sources():
    """Returns the texts of the source files. In log statements, constants are replaced by their values."""
    for path in sorted((ROOT / "src").rglob("*.rs")):
        text = path.read_text()
        constants = dict(re.findall(r'const ([A-Z_]+): &str =\s*"([^"]+)";', text))
        yield re.sub(r'"\{([A-Z_]+)\}"', lambda name: f'"{constants.get(name[1], name[1])}"', text)


def messages(levels):
    """Returns the messages of all log lines of these levels."""
    text = "".join(sources())
    # The message is the last argument. There may be other texts before it.
    for message in re.findall(rf'tracing::(?:{levels})!\((?:[^"]*"[^"]*")*?[^"]*"([^"]+)",?\s*\)', text):
        # A message that is passed to a function is found at its calls.
        if message != "{message}":
            yield message.replace("`", "")
    yield from re.findall(r'\blog_error\([^;"]+"([^"]+)"\)', text)
    yield from re.findall(r'\bline\("[A-Z]+", "([^"]+)"', text)


def message_faults(text):
    """Every warning and error is in the table of other lines, or its part before a semicolon is quoted with an alert."""
    cells = re.findall(r"^\| (`[^|]+`) \| [^|]+ \|$", text.split("**Other lines")[1].split("At `info`")[0], re.M)
    listed = {message for cell in cells for message in re.findall(r"`([^`]+)`", cell)}
    alerts = text.split("\n## Alerts\n")[1].split("\n## ")[0]
    prose = " ".join(re.sub(r"```.*?```", "", alerts, flags=re.S).split())
    quoted = set(re.findall(r"`([^`]+)`", prose))
    for message in sorted(set(messages("warn|error")) - listed):
        if message not in quoted and message.split(";")[0] not in quoted:
            yield f"docs/operations.md does not list the line: {message}"
    for message in sorted(listed - set(messages("info|warn|error"))):
        yield f"docs/operations.md lists a line that does not exist: {message}"


def faults():
    documented, text = set(documented_metrics()), RULES.read_text()
    expressions = " ".join(expression for _, expression in dashboard.expressions(dashboard.load()))
    # The names that recording rules define are in the same file.
    rules = re.sub(r"[a-z_]+:[a-z_0-9]+:[a-z_0-9]+|docs/operations\S+", "", text)
    for source, names in (("the rules", used_metrics(rules)), ("the dashboard", used_metrics(expressions))):
        for name in sorted(names - documented):
            yield f"{source}: {name} is not in docs/operations.md"
    for reason in set(re.findall(r"ERROR_REASON_[A-Z_]+", rules + expressions)) - set(re.findall(r"\w+", REASONS.read_text())):
        yield f"{reason} does not exist"
    yield from message_faults(OPERATIONS.read_text())
    headings = set(re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.M))
    tests = "".join(path.read_text() for path in TESTS.glob("*.test.yml"))
    for alert in alerts():
        if alert not in headings:
            yield f"docs/operations.md has no section {alert}"
        if f"runbook_url: docs/operations.md#{alert.lower()}\n" not in text:
            yield f"{alert} does not link to its section"
        if f'alertname="{alert}"' not in tests:
            yield f"no test of {alert}"
    for heading in headings:
        if re.fullmatch(r"Useradmin\w+", heading) and heading not in alerts():
            yield f"the alert {heading} does not exist"
