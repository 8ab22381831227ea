"""What has to agree: names in docs/operations.md, in the rules, in their tests and on the dashboard."""

import re

import dashboard
from world import ROOT, fail

OPERATIONS = ROOT / "docs" / "operations.md"
RULES = ROOT / "deploy" / "prometheus" / "useradmin.rules.yml"
TESTS = ROOT / "deploy" / "prometheus" / "tests"
REASONS = ROOT / "proto" / "useradmin" / "v1" / "error_reason.proto"
METRIC = r"\b(?:useradmin|grpc_server|process)_[a-z_]+\b"


def documented():
    """Names in the first column of a table, and their types."""
    rows = re.findall(rf"^\| `({METRIC})` \| (\w+) \|", OPERATIONS.read_text(), re.M)
    names = [name for name, _ in rows]
    doubled = {name for name in names if names.count(name) > 1}
    if doubled:
        fail(f"docs/operations.md has more than once: {sorted(doubled)}")
    return dict(rows)


def served(text):
    """Names as PromQL uses them, and their types, in the text of /metrics."""
    families = dict(re.findall(r"^# TYPE (\S+) (\w+)$", text, re.M))
    suffix = {"counter": "_total", "info": "_info"}
    return {name + suffix.get(kind, ""): kind for name, kind in families.items()}


def used(text):
    """Names in expressions, without what a histogram adds."""
    return {re.sub(r"_(bucket|sum|count)$", "", name) for name in re.findall(METRIC, text)}


def alerts():
    return re.findall(r"- alert: (\w+)", RULES.read_text())


def sources():
    """The texts of the source files, with the constants of a file in place of their names in log lines."""
    for path in sorted((ROOT / "src").rglob("*.rs")):
        text = path.read_text()
        constants = dict(re.findall(r'const ([A-Z_]+): &str =\s*"([^"]+)";', text))
        yield re.sub(r'"\{([A-Z_]+)\}"', lambda name: f'"{constants.get(name[1], name[1])}"', text)


def messages(levels):
    """Of the lines of these levels that the program can log."""
    text = "".join(sources())
    # The last argument, before which there may be other texts.
    for message in re.findall(rf'tracing::(?:{levels})!\((?:[^"]*"[^"]*")*?[^"]*"([^"]+)",?\s*\)', text):
        yield message.replace("`", "")
    yield from re.findall(r'\bline\("[A-Z]+", "([^"]+)"', text)


def message_faults(text):
    """Each warning and error is in the table of other lines or, at least its part before a semicolon, with an alert."""
    told = re.findall(r"^\| (`[^|]+`) \| [^|]+ \|$", text.split("**Other lines")[1].split("At `info`")[0], re.M)
    told = {message for cell in told for message in re.findall(r"`([^`]+)`", cell)}
    alerts = text.split("\n## Alerts\n")[1].split("\n## ")[0]
    prose = " ".join(re.sub(r"```.*?```", "", alerts, flags=re.S).split())
    quoted = set(re.findall(r"`([^`]+)`", prose))
    for message in sorted(set(messages("warn|error")) - told):
        if message not in quoted and message.split(";")[0] not in quoted:
            yield f"docs/operations.md does not tell of the line: {message}"
    for message in sorted(told - set(messages("info|warn|error"))):
        yield f"docs/operations.md tells of a line that is not there: {message}"


def faults():
    known, text = set(documented()), RULES.read_text()
    expressions = " ".join(expression for _, expression in dashboard.expressions(dashboard.load()))
    # What a rule records is in the file, too.
    rules = re.sub(r"[a-z_]+:[a-z_0-9]+:[a-z_0-9]+|docs/operations\S+", "", text)
    for where, names in (("the rules", used(rules)), ("the dashboard", used(expressions))):
        for name in sorted(names - known):
            yield f"{where}: {name} is not in docs/operations.md"
    for reason in set(re.findall(r"ERROR_REASON_[A-Z_]+", rules + expressions)) - set(re.findall(r"\w+", REASONS.read_text())):
        yield f"there is no {reason}"
    yield from message_faults(OPERATIONS.read_text())
    headings = set(re.findall(r"^#+ (.+)$", OPERATIONS.read_text(), re.M))
    tests = "".join(path.read_text() for path in TESTS.glob("*.test.yml"))
    for alert in alerts():
        if alert not in headings:
            yield f"docs/operations.md has no section {alert}"
        if f"runbook_url: docs/operations.md#{alert.lower()}\n" not in text:
            yield f"{alert} does not lead to its section"
        if f'alertname="{alert}"' not in tests:
            yield f"no test of {alert}"
    for heading in headings:
        if re.fullmatch(r"Useradmin\w+", heading) and heading not in alerts():
            yield f"there is no alert {heading}"
