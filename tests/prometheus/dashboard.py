"""The Grafana dashboard: rules that keep it usable (after Grafana's dashboard-linter), and its expressions."""

import json
import re

from world import ROOT

FILE = ROOT / "deploy" / "grafana" / "useradmin.json"
VALUES = {"$__rate_interval": "1m", "$__range": "10m", "$job": ".+", "$instance": ".*", "$upstream": ".*", "$target": ".*"}


def load():
    return json.loads(FILE.read_text())


def expressions(dashboard):
    """Yields the title and the expression of each query, with values in place of variables."""
    queries = [(panel["title"], target["expr"]) for panel in dashboard["panels"] for target in panel.get("targets", [])]
    queries += [(annotation["name"], annotation["expr"]) for annotation in dashboard["annotations"]["list"]]
    for title, expression in queries:
        for name, value in VALUES.items():
            expression = expression.replace(name, value)
        yield title, expression


def variable_faults(dashboard):
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    if variables["datasource"]["type"] != "datasource":
        yield "no data source to choose"
    for name in ("job", "instance", "upstream", "target"):
        variable = variables[name]
        if not (variable["multi"] and variable["includeAll"] and variable["refresh"] == 2):
            yield f"${name} does not offer all, or does not follow the time range"
        if variable["query"]["query"] != variable["definition"]:
            yield f"${name}: query and definition differ"
    text = json.dumps(dashboard)
    for name in set(re.findall(r"\$\{?([a-z]\w*)", text)) - set(variables):
        yield f"${name} is no variable"


def panel_faults(panel):
    if not panel.get("description") or not panel["title"]:
        yield "no title or description"
    if panel["datasource"]["uid"] != "${datasource}":
        yield "another data source"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    refs = [target["refId"] for target in panel["targets"]]
    if len(set(refs)) != len(refs) or not refs:
        yield "no queries, or two of one name"
    for target in panel["targets"]:
        yield from expression_faults(target["expr"])


def expression_faults(expression):
    for name, braces in re.findall(r"\b((?:useradmin|grpc_server|process)_\w+|up\b)(\{[^}]*\})?", expression):
        own = re.search(r'job=~"\$job".*instance=~"\$instance"', braces)
        if not own:
            yield f"{name} of whichever job or replica"
        if name.startswith("grpc_server") and "grpc_service=" not in braces:
            yield f"{name} of other services"
        if name.startswith("useradmin_upstream_") and "$target" not in braces:
            yield f"{name} of whichever target"
    if re.search(r"\[\d", expression):
        yield "a range that does not follow the scrape interval"
    counters = re.findall(r"(\w+\()?\b\w+_total\b", expression)
    if any(function not in ("rate(", "increase(", "resets(") for function in counters):
        yield "a counter without rate() or increase()"


def layout_faults(dashboard):
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} is too wide"
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                if other != panel["title"]:
                    yield f"{panel['title']} covers {other}"
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield "two panels of one id"


def faults(dashboard):
    yield from variable_faults(dashboard)
    yield from layout_faults(dashboard)
    for panel in dashboard["panels"]:
        if panel["type"] != "row":
            for fault in panel_faults(panel):
                yield f"{panel['title']}: {fault}"
