"""Faults that the checks must find: description, change of the manifests, and a part of the expected message."""

import base64

from manifests import jobs, of_kind, pod, workload

ROOT_CONTEXT = {"runAsUser": 0}


def main_container(docs):
    return pod(docs)["containers"][0]


def first(docs, kind):
    return of_kind(docs, kind)[0]["spec"]


def own_policy(docs):
    return next(doc for doc in of_kind(docs, "NetworkPolicy") if doc["metadata"]["name"] == "useradmin")["spec"]


def drop(docs, kind):
    docs[:] = [doc for doc in docs if doc["kind"] != kind]


def drop_named(docs, name):
    docs[:] = [doc for doc in docs if doc["metadata"]["name"] != name]


def job_pod(docs):
    return jobs(docs)[0]["spec"]["template"]["spec"]


def secret(prefix, content):
    """Returns a change of the URL in a Secret."""
    def mutate(docs):
        for doc in of_kind(docs, "Secret"):
            if doc["metadata"]["name"].rsplit("-", 1)[0] == prefix:
                doc["data"]["url"] = base64.b64encode(content.encode()).decode()
    return mutate


def config(old, new):
    """Returns a change that replaces text of the configuration."""
    def mutate(docs):
        for doc in of_kind(docs, "ConfigMap"):
            text = doc["data"].get("useradmin.toml")
            if text is not None:
                assert old in text, old
                doc["data"]["useradmin.toml"] = text.replace(old, new)
    return mutate


MUTANTS = [
    # Schemas.
    ("a misspelt key", lambda d: main_container(d).update(reedinessProbe={}), "reedinessProbe"),
    ("a misspelt kind", lambda d: d[0].update(kind="Namespaces"), "find schema"),
    ("a number as text", lambda d: pod(d).update(terminationGracePeriodSeconds="45"), "not of type"),
    ("a misspelt key of a PodMonitor", lambda d: first(d, "PodMonitor").update(endpoints=[]), "unknown fields"),
    # The pod.
    ("root", lambda d: pod(d)["securityContext"].update(ROOT_CONTEXT), "may run as root"),
    ("root, of the container", lambda d: main_container(d)["securityContext"].update(ROOT_CONTEXT), "may run as root"),
    ("a writable root", lambda d: main_container(d)["securityContext"].pop("readOnlyRootFilesystem"), "write to its root"),
    ("capabilities", lambda d: main_container(d)["securityContext"].pop("capabilities"), "has capabilities"),
    ("privileges", lambda d: main_container(d)["securityContext"].pop("allowPrivilegeEscalation"), "gain privileges"),
    ("no seccomp", lambda d: pod(d)["securityContext"].pop("seccompProfile"), "seccomp"),
    ("a token", lambda d: pod(d).update(automountServiceAccountToken=True), "a token"),
    ("a path of the node", lambda d: pod(d)["volumes"].append({"name": "x", "hostPath": {"path": "/"}}), "refuses"),
    ("a second container", lambda d: pod(d)["containers"].append({"name": "x", "image": "x:1"}), "x can write"),
    ("a moving tag", lambda d: main_container(d).update(image="registry.example/useradmin:latest"), "fixed version"),
    ("a secret in the environment", lambda d: main_container(d)["env"].append(
        {"name": "X", "valueFrom": {"secretKeyRef": {"name": "x", "key": "x"}}}), "in its environment"),
    ("no limit", lambda d: main_container(d)["resources"].pop("limits"), "limit for memory"),
    # Probes and the shutdown.
    ("no liveness", lambda d: main_container(d).pop("livenessProbe"), "livenessProbe"),
    ("liveness that depends on the audit log",
     lambda d: main_container(d)["livenessProbe"]["httpGet"].update(path="/readyz"), "livenessProbe"),
    ("a hook with a shell", lambda d: main_container(d)["lifecycle"].update(
        preStop={"exec": {"command": ["sh", "-c", "sleep 5"]}}), "no shell"),
    ("too short a stop", lambda d: pod(d).update(terminationGracePeriodSeconds=36), "a stop can take 37 s"),
    ("a longer drain", config("drain_seconds = 25", "drain_seconds = 60"), "a stop can take 72 s"),
    # Selectors and their targets.
    ("a Service of others", lambda d: first(d, "Service").update(selector={"app": "x"}), "Service useradmin does not"),
    ("a budget of others", lambda d: first(d, "PodDisruptionBudget").update(selector={"matchLabels": {"app": "x"}}),
     "PodDisruptionBudget does not"),
    ("a policy of others", lambda d: own_policy(d).update(podSelector={"matchLabels": {"app": "x"}}),
     "NetworkPolicy useradmin does not"),
    ("a monitor of others", lambda d: first(d, "PodMonitor").update(selector={"matchLabels": {"app": "x"}}),
     "PodMonitor does not"),
    ("no budget", lambda d: drop(d, "PodDisruptionBudget"), "no PodDisruptionBudget"),
    ("a budget of all", lambda d: first(d, "PodDisruptionBudget").update(maxUnavailable=3), "does not fit"),
    ("a virtual address", lambda d: first(d, "Service").pop("clusterIP"), "not headless"),
    ("another port", lambda d: first(d, "Service")["ports"][0].update(port=443), "a port that the pod"),
    ("fixed replicas", lambda d: workload(d)["spec"].update(replicas=2), "works against"),
    ("another target", lambda d: first(d, "HorizontalPodAutoscaler")["scaleTargetRef"].update(name="x"), "something else"),
    ("another namespace", lambda d: of_kind(d, "Service")[0]["metadata"].update(namespace="default"), "namespaces"),
    # The network.
    ("no DNS", lambda d: own_policy(d)["egress"].pop(0), "cut off DNS"),
    ("no Azure", lambda d: own_policy(d)["egress"].pop(1), "batch.azure.com"),
    ("an HMC on another port", config(":6794", ":9999"), "lets the pods reach"),
    ("no collector", lambda d: drop_named(d, "useradmin-traces"), "collector.observability"),
    ("everybody may call", lambda d: own_policy(d)["ingress"][0].pop("from"), "for everybody"),
    ("no metrics", lambda d: own_policy(d)["ingress"].pop(1), "exactly the pod's ports"),
    # The configuration.
    ("a key that is unknown", config("userid", "user_id"), "unknown key `user_id`"),
    ("a file that is not mounted", config("dallas1.password", "dallas2.password"), "named, but not mounted"),
    ("no configuration", lambda d: drop(d, "ConfigMap"), "is not mounted"),
    ("loopback", config('admin_listen = "0.0.0.0:', 'admin_listen = "127.0.0.1:'), "cannot be reached"),
    ("another listener", config("50051", "50052"), "is not the port `grpc`"),
    ("plaintext", config("[server.tls]", "[x]"), "has no TLS"),
    ("an authority that is none", lambda d: [doc["data"].update({"clients.pem": "x"}) for doc in of_kind(d, "ConfigMap")],
     "no certificate in PEM"),
    ("an audit log on the root", config('file = "stdout"', 'file = "/audit.jsonl"'), "not on a volume"),
    ("an audit log that ends with its pod", lambda d: (
        config('file = "stdout"', 'file = "/var/lib/useradmin/audit.jsonl"')(d),
        pod(d)["volumes"].append({"name": "x", "emptyDir": {}}),
        main_container(d)["volumeMounts"].append({"name": "x", "mountPath": "/var/lib/useradmin"})), "ends with its pod"),
]

URL = "postgres://%s@database.example:5432/useradmin"
STORE_MUTANTS = [
    ("a job that is root", lambda d: job_pod(d).pop("securityContext"), "may run as root"),
    ("a job with a moving tag", lambda d: job_pod(d)["containers"][0].update(image="x/useradmin:latest"), "fixed version"),
    ("a job that is a replica", lambda d: jobs(d)[0]["spec"]["template"]["metadata"]["labels"].update(
        workload(d)["spec"]["selector"]["matchLabels"]), "selects the pods of Job"),
    ("a job that stays", lambda d: jobs(d)[0]["spec"].pop("ttlSecondsAfterFinished"), "is not removed"),
    ("a job without a policy", lambda d: d.remove(next(
        doc for doc in of_kind(d, "NetworkPolicy") if doc["metadata"]["name"] == "useradmin-migrate")), "cut off DNS"),
    ("no job", lambda d: drop_named(d, "useradmin-migrate"), "no Job that creates"),
    ("no way to the database", lambda d: drop_named(d, "useradmin-database"), "Deployment useradmin reach the database"),
    ("servers that own the schema", secret("useradmin-store", URL % "useradmin_owner"), "can change audit records"),
    ("another role", secret("useradmin-store", URL % "x"), "does not grant"),
    ("another database", secret("useradmin-store-owner", URL.replace("/useradmin", "/x") % "useradmin_owner"), "different"),
    ("a URL that is none", secret("useradmin-store-owner", "x"), "different databases"),
    ("no TLS to the database", config('ca_file = "/etc/useradmin-trust/database.pem"', ""), "needs TLS"),
    ("two audit logs", config("[batch_accounts.prod]", '[audit]\nfile = "stdout"\n[batch_accounts.prod]'), "[audit] has no effect"),
    ("a volume", lambda d: (pod(d)["volumes"].append({"name": "x", "emptyDir": {}}), main_container(d)["volumeMounts"].append(
        {"name": "x", "mountPath": "/var/lib/useradmin"})), "in the database"),
]
