"""Rules for rendered manifests beyond the schemas of Kubernetes. Each rule yields its faults as text."""

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
CLUSTER_WIDE = {"Namespace"}
# Custom resources whose schemas are not available here: the documented fields that the manifests use.
CUSTOM = {
    ("monitoring.coreos.com/v1", "PodMonitor"): {"selector", "podMetricsEndpoints"},
    ("cert-manager.io/v1", "Certificate"): {
        "secretName", "dnsNames", "usages", "privateKey", "duration", "renewBefore", "issuerRef"},
}


def of_kind(docs, *kinds):
    return [doc for doc in docs if doc["kind"] in kinds]


def workload(docs):
    found = of_kind(docs, "Deployment", "StatefulSet")
    if len(found) != 1:
        raise SystemExit(f"want one Deployment or StatefulSet, found {len(found)}")
    return found[0]


def pod(docs):
    return workload(docs)["spec"]["template"]["spec"]


def jobs(docs):
    return of_kind(docs, "Job")


def pods(docs):
    """Returns the pods of the workload and of the jobs."""
    return [doc["spec"]["template"]["spec"] for doc in [workload(docs), *jobs(docs)]]


def containers(docs):
    return [container for spec in pods(docs) for container in spec["containers"] + spec.get("initContainers", [])]


def ports(docs):
    return {port["name"]: port["containerPort"] for port in pod(docs)["containers"][0]["ports"]}


def selects(selector, docs, owner=None):
    """Returns whether a label selector matches the pods of the owner, or of the workload. A selector of all pods does not
    count as a match."""
    labels = (owner or workload(docs))["spec"]["template"]["metadata"]["labels"]
    wanted = selector.get("matchLabels", {})
    return bool(wanted) and not selector.get("matchExpressions") and wanted.items() <= labels.items()


def restricted_pods(docs):
    for spec in pods(docs):
        yield from restricted_pod(spec)


def restricted_pod(spec):
    context = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is on"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser", 0) == 0:
        yield "the pod may run as root"
    if context.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "the pod has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "the pod gets a token for the API of Kubernetes"
    for volume in spec.get("volumes", []):
        if not VOLUMES & volume.keys():
            yield f"volume {volume['name']} is of a kind that `restricted` refuses"


def restricted_containers(docs):
    for container in containers(docs):
        name, context = container["name"], container.get("securityContext", {})
        if context.get("allowPrivilegeEscalation") is not False or context.get("privileged"):
            yield f"{name} may gain privileges"
        if context.get("readOnlyRootFilesystem") is not True:
            yield f"{name} can write to its root"
        capabilities = context.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", []) or capabilities.get("add"):
            yield f"{name} has capabilities"
        if context.get("runAsNonRoot", True) is not True or context.get("runAsUser", 1) == 0:
            yield f"{name} may run as root"
        resources = container.get("resources", {})
        if not {"cpu", "memory"} <= resources.get("requests", {}).keys() or "memory" not in resources.get("limits", {}):
            yield f"{name} lacks requests, or a limit for memory"
        for variable in container.get("env", []):
            if "secretKeyRef" in variable.get("valueFrom", {}):
                yield f"{name} has a secret in its environment"
        if container.get("envFrom"):
            yield f"{name} takes its environment from elsewhere"


def image(docs):
    for container in containers(docs):
        name = container["image"].rsplit("/", 1)[-1]
        if "@sha256:" not in name and (":" not in name or name.endswith(":latest")):
            yield f"{container['name']} has an image without a fixed version"


def probes(docs):
    container = pod(docs)["containers"][0]
    for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
        get = container.get(probe, {}).get("httpGet", {})
        if get.get("path") != path or get.get("port") != "admin" or "admin" not in ports(docs):
            yield f"{probe} does not ask {path} on the admin port"
    hooks = container.get("lifecycle", {})
    if any("exec" in hook for hook in hooks.values()) or "sleep" not in hooks.get("preStop", {}):
        yield "preStop has to be a sleep: there is no shell"


def selectors(docs):
    own = workload(docs)["spec"]
    found = {"the workload": own["selector"]}
    for doc in of_kind(docs, "PodDisruptionBudget", "PodMonitor"):
        found[doc["kind"]] = doc["spec"]["selector"]
    for doc in of_kind(docs, "Service"):
        found["Service " + doc["metadata"]["name"]] = {"matchLabels": doc["spec"].get("selector", {})}
    for doc in of_kind(docs, "NetworkPolicy"):
        name, selector = doc["metadata"]["name"], doc["spec"]["podSelector"]
        if name != "default-deny" and not any(selects(selector, docs, job) for job in jobs(docs)):
            found["NetworkPolicy " + name] = selector
    for constraint in pod(docs).get("topologySpreadConstraints", []):
        found["the constraint of " + constraint["topologyKey"]] = constraint["labelSelector"]
    for name, selector in found.items():
        if not selects(selector, docs):
            yield f"{name} does not select the pods"
    for kind in ("PodDisruptionBudget", "HorizontalPodAutoscaler", "NetworkPolicy", "Service", "ServiceAccount"):
        if not of_kind(docs, kind):
            yield f"there is no {kind}"


def service(docs):
    for doc in of_kind(docs, "Service"):
        name, spec = doc["metadata"]["name"], doc["spec"]
        if spec.get("clusterIP") != "None":
            yield f"Service {name} is not headless"
        for port in spec["ports"]:
            if ports(docs).get(port["targetPort"]) != port["port"]:
                yield f"Service {name} has a port that the pod does not have"
    for doc in of_kind(docs, "PodMonitor"):
        if any(end["port"] not in ports(docs) for end in doc["spec"]["podMetricsEndpoints"]):
            yield "PodMonitor asks a port that the pod does not have"
    names = [doc["metadata"]["name"] for doc in of_kind(docs, "Service")]
    if workload(docs)["kind"] == "StatefulSet" and workload(docs)["spec"]["serviceName"] not in names:
        yield "the Service of the StatefulSet is not there"
    accounts = [doc["metadata"]["name"] for doc in of_kind(docs, "ServiceAccount")]
    if pod(docs).get("serviceAccountName") not in accounts:
        yield "the ServiceAccount is not there"


def availability(docs):
    own = workload(docs)
    for doc in of_kind(docs, "HorizontalPodAutoscaler"):
        target, spec = doc["spec"]["scaleTargetRef"], doc["spec"]
        if (target["kind"], target["name"]) != (own["kind"], own["metadata"]["name"]):
            yield "the HorizontalPodAutoscaler scales something else"
        if "replicas" in own["spec"]:
            yield "`replicas` works against the HorizontalPodAutoscaler"
        for budget in of_kind(docs, "PodDisruptionBudget"):
            if not 0 < budget["spec"].get("maxUnavailable", 0) < spec["minReplicas"] <= spec["maxReplicas"]:
                yield "the PodDisruptionBudget does not fit the number of replicas"
    if own["kind"] == "Deployment" and own["spec"]["strategy"]["rollingUpdate"].get("maxUnavailable") != 0:
        yield "an update takes replicas away"


def policy_ports(docs, direction, owner=None):
    """Returns the ports that the policies of the pods of the owner, or of the workload, open."""
    found = set()
    for doc in of_kind(docs, "NetworkPolicy"):
        if selects(doc["spec"]["podSelector"], docs, owner):
            for rule in doc["spec"].get(direction, []):
                found |= {port["port"] for port in rule.get("ports", [{"port": "any"}])}
    return found


def network(docs):
    types = [kind for doc in of_kind(docs, "NetworkPolicy") for kind in doc["spec"]["policyTypes"]]
    if not {"Ingress", "Egress"} <= set(types):
        yield "the NetworkPolicies do not deny both ways"
    if policy_ports(docs, "ingress") != set(ports(docs).values()):
        yield "the NetworkPolicies do not let in exactly the pod's ports"
    if 53 not in policy_ports(docs, "egress"):
        yield "the NetworkPolicies cut off DNS"
    rules = [rule for doc in of_kind(docs, "NetworkPolicy") for way, peers in (("ingress", "from"), ("egress", "to"))
             for rule in doc["spec"].get(way, []) if not rule.get(peers) or not rule.get("ports")]
    if rules:
        yield "a NetworkPolicy has a rule for everybody, or for all ports"


def migration(docs):
    """The pods of a Job are no replicas, and a Job that is there cannot be changed."""
    for doc in jobs(docs):
        name = doc["metadata"]["name"]
        for service in of_kind(docs, "Service"):
            if selects({"matchLabels": service["spec"]["selector"]}, docs, doc):
                yield f"the Service selects the pods of Job {name}"
        if "ttlSecondsAfterFinished" not in doc["spec"]:
            yield f"Job {name} is not removed when it has finished"
        if 53 not in policy_ports(docs, "egress", doc):
            yield f"the NetworkPolicies cut off DNS from Job {name}"


def custom(docs):
    for doc in docs:
        fields = CUSTOM.get((doc["apiVersion"], doc["kind"]))
        if fields is not None and not doc["spec"].keys() <= fields:
            yield f"{doc['kind']} has unknown fields: {sorted(doc['spec'].keys() - fields)}"


def namespace(docs):
    spaces = {doc["metadata"].get("namespace") for doc in docs if doc["kind"] not in CLUSTER_WIDE}
    names = {doc["metadata"]["name"] for doc in of_kind(docs, "Namespace")}
    if spaces != names:
        yield f"objects are in the namespaces {spaces}, but there are {names}"
    for doc in of_kind(docs, "Namespace"):
        if doc["metadata"].get("labels", {}).get("pod-security.kubernetes.io/enforce") != "restricted":
            yield "the namespace does not enforce `restricted`"


EVERYWHERE = (restricted_pods, restricted_containers, probes, selectors, service, availability, network, migration, custom)
OVERLAYS = (image, namespace)


def faults(docs, base):
    rules = EVERYWHERE if base else EVERYWHERE + OVERLAYS
    return [fault for rule in rules for fault in rule(docs)]
