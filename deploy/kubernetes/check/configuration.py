"""Rules for the configuration and the pod that mounts it. Each rule yields its faults as text."""

import base64
import ipaddress
import re
import subprocess
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from manifests import jobs, of_kind, pod, policy_ports, ports, workload

try:
    import tomllib
except ImportError:  # Python before 3.11
    import tomli as tomllib

CONFIG = "/etc/useradmin/useradmin.toml"
# Seconds after the drain: 2 s for audit records, 2 s for logoffs, 3 s for summaries of refusals.
AFTER_DRAIN = 7


def contents(docs, doc_kind, name):
    """Returns the files of a ConfigMap or Secret, or None if the manifests do not contain it."""
    for doc in of_kind(docs, doc_kind):
        if doc["metadata"]["name"] == name:
            decode = base64.b64decode if doc_kind == "Secret" else str.encode
            return {key: decode(value) for key, value in doc.get("data", {}).items()}
    return None


def switch_on(docs):
    """Enables the lines that start with a `#` without a space, which belong to an optional component."""
    for doc in of_kind(docs, "ConfigMap"):
        if "useradmin.toml" in doc["data"]:
            doc["data"]["useradmin.toml"] = re.sub(r"(?m)^#(?=\S)", "", doc["data"]["useradmin.toml"])


def mounted(docs, elsewhere, owner):
    """Returns the files that a workload or Job mounts with their contents, and the writable folders with the kind of their
    volumes."""
    spec = owner["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    claims = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
    files, writable = {}, {}
    for mount in spec["containers"][0]["volumeMounts"]:
        name, path = mount["name"], mount["mountPath"]
        volume = volumes.get(name, {})
        if name in claims or "persistentVolumeClaim" in volume:
            writable[path] = "claim"
        elif "emptyDir" in volume:
            writable[path] = "emptyDir"
        elif "configMap" in volume:
            found = contents(docs, "ConfigMap", volume["configMap"]["name"]) or {}
            files |= {f"{path}/{key}": value for key, value in found.items()}
        elif "secret" in volume:
            secret = volume["secret"]
            found = contents(docs, "Secret", secret["secretName"])
            found = elsewhere.get(secret["secretName"], {}) if found is None else found
            paths = {item["key"]: item["path"] for item in secret.get("items", [])} or {key: key for key in found}
            files |= {f"{path}/{to}": found[key] for key, to in paths.items() if key in found}
    return files, writable


def named_files(table):
    """Yields the values of all keys that name a file, except for that of the audit log."""
    for key, value in table.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from named_files(inner)
            elif key.endswith("_file"):
                yield inner


def named_urls(table):
    for key, value in table.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from named_urls(inner)
            elif isinstance(inner, str) and inner.startswith(("http://", "https://")) and key != "issuer":
                yield inner


def listeners(docs, config):
    server = config["server"]
    for key, port in (("listen", "grpc"), ("admin_listen", "admin")):
        host, _, number = server[key].rpartition(":")
        if not ipaddress.ip_address(host.strip("[]")).is_unspecified:
            yield f"`{key}` cannot be reached from outside of the pod"
        if int(number) != ports(docs)[port]:
            yield f"`{key}` is not the port `{port}` of the pod"
    if "tls" not in server and not server.get("insecure"):
        yield "the server has no TLS"


def stop(docs, config):
    drain = config["server"].get("limits", {}).get("drain_seconds", 25)
    pause = pod(docs)["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod(docs).get("terminationGracePeriodSeconds", 30)
    if grace < pause + drain + AFTER_DRAIN:
        yield f"terminationGracePeriodSeconds is {grace}, but a stop can take {pause + drain + AFTER_DRAIN} s"


def audit(config, writable):
    if config.get("store", {}).get("kind") == "postgres":
        if "audit" in config:
            yield "[audit] has no effect, because the audit log is in the database"
        if writable:
            yield "there is a volume, but the audit log is in the database"
        return
    file = config["audit"]["file"]
    if file == "stdout":
        if writable:
            yield "there is a volume, but the audit log goes to stdout"
        return
    kinds = [kind for path, kind in writable.items() if Path(file).parent == Path(path)]
    if not kinds:
        yield f"the audit log {file} is not on a volume"
    elif kinds[0] == "emptyDir":
        yield f"the audit log {file} ends with its pod"


def egress(docs, config):
    allowed = policy_ports(docs, "egress")
    for url in named_urls(config):
        parts = urlsplit(url)
        port = parts.port or {"https": 443, "http": 80}[parts.scheme]
        if port not in allowed:
            yield f"no NetworkPolicy lets the pods reach {url}"


def database_url(config, files):
    """Returns the parts of the URL of the database, or None."""
    content = files.get(config.get("store", {}).get("url_file"))
    return urlsplit(content.decode().strip()) if content else None


def store(docs, config, files, elsewhere):
    """The Job creates the schema as another user than that of the servers, and both reach the database."""
    if config.get("store", {}).get("kind") != "postgres":
        return
    if not jobs(docs):
        yield "there is no Job that creates the schema"
    server = database_url(config, files)
    for owner in [workload(docs), *jobs(docs)]:
        if server and (server.port or 5432) not in policy_ports(docs, "egress", owner):
            yield f"no NetworkPolicy lets {owner['kind']} {owner['metadata']['name']} reach the database"
    for job in jobs(docs):
        own = database_url(config, mounted(docs, elsewhere, job)[0])
        args = job["spec"]["template"]["spec"]["containers"][0]["args"]
        if not server or not own or (own.hostname, own.port, own.path) != (server.hostname, server.port, server.path):
            yield "the URLs of servers and owner name different databases"
        elif own.username == server.username:
            yield "the servers own the schema, and can change audit records"
        elif args[-2:] != ["--grant-to", server.username]:
            yield "the Job does not grant rights to the user of the servers"


def accepted(text, files, useradmin):
    """Checks the configuration with the program itself, with all mounted files in a temporary folder."""
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            place = Path(root + path)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        for path in set(named_files(tomllib.loads(text))):
            text = text.replace(f'"{path}"', f'"{root}{path}"')
        Path(root + CONFIG).write_text(text, encoding="utf-8")
        checked = subprocess.run([useradmin, "check-config", "--config", root + CONFIG],
                                 capture_output=True, text=True, check=False)
        if checked.returncode != 0:
            yield "check-config: " + checked.stderr.replace(root, "").strip()


def faults(docs, useradmin, elsewhere):
    files, writable = mounted(docs, elsewhere, workload(docs))
    if CONFIG not in files:
        return [f"{CONFIG} is not mounted"]
    text = files[CONFIG].decode()
    config = tomllib.loads(text)
    found = [f"{file} is named, but not mounted" for file in named_files(config) if file not in files]
    rules = (listeners(docs, config), stop(docs, config), audit(config, writable), egress(docs, config),
             store(docs, config, files, elsewhere))
    found += [fault for rule in rules for fault in rule]
    found += accepted(text, files, useradmin)
    for job in jobs(docs):
        files, _ = mounted(docs, elsewhere, job)
        found += accepted(files[CONFIG].decode(), files, useradmin)
    return found
