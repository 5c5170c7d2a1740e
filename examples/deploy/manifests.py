"""Writes the compose files and the Kubernetes manifests of the four modes, which differ in a table only.

`check --write` calls this; nobody else needs it. Standard library only, so that the YAML is written by hand here.
"""

from pathlib import Path

HERE = Path(__file__).resolve().parent
IMAGE = "lgtm:latest"
ZONES = ["a", "b", "c"]
# What the components of the three signals are called. A process of one kind runs it for all signals.
KINDS = {
    "distributor": "metrics-distributor,logs-distributor,traces-distributor",
    "ingester": "metrics-ingester,logs-ingester,traces-ingester",
    "querier": "metrics-querier,logs-querier,traces-querier",
    "query-frontend": "metrics-query-frontend,logs-query-frontend,traces-query-frontend",
    # Queriers of traces read the bucket themselves.
    "store-gateway": "metrics-store-gateway,logs-index-gateway",
    "compactor": "metrics-compactor,logs-compactor,traces-compactor",
}
HEAD = "# Written by `check --write` from manifests.py: change it there.\n"


class Group:
    """Processes of one kind: name, target, how many, whether they keep data and stand in three zones, whether clients call them."""

    def __init__(self, name, target, count, *, zones=False, keeps=False, serves=True, memory="1Gi", cpu="500m"):
        self.name, self.target, self.count, self.zones, self.keeps, self.serves = name, target, count, zones, keeps, serves
        self.memory, self.cpu = memory, cpu


MODES = {
    "one": [Group("lgtm", "all", 1, keeps=True, memory="2Gi", cpu="1")],
    "nodes": [Group("lgtm", "all", 3, zones=True, keeps=True, memory="2Gi", cpu="1")],
    "read-write-backend": [
        Group("write", "write", 3, zones=True, keeps=True, memory="2Gi", cpu="1"),
        Group("read", "read", 2),
        Group("backend", "backend", 2, keeps=True, serves=False),
    ],
    "microservices": [
        Group("distributor", KINDS["distributor"], 2),
        Group("ingester", KINDS["ingester"], 3, zones=True, keeps=True, serves=False, memory="2Gi", cpu="1"),
        Group("querier", KINDS["querier"], 2),
        Group("query-frontend", KINDS["query-frontend"], 2),
        Group("store-gateway", KINDS["store-gateway"], 2, keeps=True, serves=False),
        Group("compactor", KINDS["compactor"], 1, keeps=True, serves=False),
    ],
}
# Who takes data and who answers, for the services of Kubernetes and the ports of compose.
TAKES = {"lgtm": "all", "write": "in", "distributor": "in", "read": "out", "query-frontend": "out"}


def compose(mode):
    groups = MODES[mode]
    alone = mode == "one"
    lines = [
        HEAD.rstrip(),
        f"# docker compose -f examples/deploy/compose/{mode}.yaml up --build",
        f"name: lgtm-{mode}",
        "",
        "x-lgtm: &lgtm",
        f"  image: {IMAGE}",
        "  build: {context: ../../.., dockerfile: examples/deploy/Dockerfile}",
        "  restart: unless-stopped",
        "  stop_grace_period: 2m",
        "  healthcheck:",
        "    # The image has no HTTP client: a port that takes connections is what can be seen from inside.",
        '    test: ["CMD-SHELL", "bash -c \'</dev/tcp/127.0.0.1/9009\'"]',
        "    interval: 10s",
        "    start_period: 1m",
        "",
        "x-environment: &environment",
        "  LGTM_DATA: /data",
        "  # One folder that all share. In earnest: s3://BUCKET?region=REGION, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        "  LGTM_STORAGE_URL: ${LGTM_STORAGE_URL:-file:/bucket}",
        "  AWS_ACCESS_KEY_ID: ${AWS_ACCESS_KEY_ID:-}",
        "  AWS_SECRET_ACCESS_KEY: ${AWS_SECRET_ACCESS_KEY:-}",
        "  LGTM_HTTP_ADDRESS: 0.0.0.0",
        "  LGTM_SHUTDOWN_DELAY: 5s",
    ]
    names = [(g, f"{g.name}-{n}" if g.count > 1 else g.name) for g in groups for n in range(1, g.count + 1)]
    if not alone:
        lines += [
            "  LGTM_KVSTORE: gossip",
            "  LGTM_JOIN: " + ",".join(f"dns+{name}:7946" for _, name in names[:3]),
        ]
    if mode == "microservices":
        lines += ["  LGTM_CACHE_BACKEND: memcached", "  LGTM_MEMCACHED: memcached:11211"]
    lines += ["", "services:"]
    volumes, subnet, next_port = ["bucket"], mode_subnet(mode), {"in": 9009, "out": 9109, "all": 9009}
    if mode == "microservices":
        lines += ["  memcached:", "    image: memcached:1.6", "    command: [memcached, -m, \"256\"]", "    networks: {lgtm: {}}"]
    for at, (group, name) in enumerate(names):
        address = f"{subnet}.{at + 10}"
        lines += [f"  {name}:", "    <<: *lgtm", "    environment:", "      <<: *environment", f"      LGTM_TARGET: {group.target}"]
        if not alone:
            lines += [
                f"      LGTM_INSTANCE_ID: {name}",
                "      # Where the others reach it.",
                f"      LGTM_GRPC_ADDRESS: {address}",
                f"      LGTM_GOSSIP_ADDRESS: {address}",
            ]
        if group.zones:
            lines.append(f"      LGTM_ZONE: zone-{ZONES[at_in_group(names, group, name)]}")
        lines += ["    volumes:", "      - ../lgtm.yaml:/etc/lgtm/lgtm.yaml:ro", f"      - {name}:/data", "      - bucket:/bucket"]
        volumes.append(name)
        if group.name in TAKES:
            way = TAKES[group.name]
            lines.append(f'    ports: ["127.0.0.1:{next_port[way]}:9009"]')
            next_port[way] += 1
        lines.append(f"    networks: {{lgtm: {{ipv4_address: {address}}}}}")
    lines += ["", "networks:", f"  lgtm: {{ipam: {{config: [{{subnet: {subnet}.0/24}}]}}}}", "", "volumes:"]
    lines += [f"  {v}:" for v in volumes]
    return "\n".join(lines) + "\n"


def mode_subnet(mode):
    return f"172.31.{230 + list(MODES).index(mode)}"


def at_in_group(names, group, name):
    return [n for g, n in names if g is group].index(name)


def config_map():
    text = (HERE / "lgtm.yaml").read_text()
    body = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    return f"""{HEAD}# What all modes share: the settings, and the keys of the bucket (put yours in).
apiVersion: v1
kind: ConfigMap
metadata:
  name: lgtm
  labels: {{app.kubernetes.io/name: lgtm}}
data:
  lgtm.yaml: |
{body}
---
apiVersion: v1
kind: Secret
metadata:
  name: lgtm
  labels: {{app.kubernetes.io/name: lgtm}}
stringData:
  LGTM_STORAGE_URL: s3://my-bucket?region=eu-central-1
  AWS_ACCESS_KEY_ID: change-me
  AWS_SECRET_ACCESS_KEY: change-me
"""


def service(name, selector, ports, headless=False):
    lines = ["apiVersion: v1", "kind: Service", "metadata:", f"  name: {name}", "  labels: {app.kubernetes.io/name: lgtm}", "spec:"]
    if headless:
        lines += ["  clusterIP: None", "  # Members look for each other before they are ready.", "  publishNotReadyAddresses: true"]
    lines.append("  selector: {" + ", ".join(f"{k}: {v}" for k, v in selector.items()) + "}")
    lines.append("  ports:")
    for port_name, port, protocol in ports:
        lines.append(f"    - {{name: {port_name}, port: {port}, targetPort: {port}, protocol: {protocol}}}")
    return "\n".join(lines) + "\n"


def disruption_budget(group):
    return f"""apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: lgtm-{group.name}
  labels: {{app.kubernetes.io/name: lgtm}}
spec:
  # Of three replicas of a series two have to answer: one at a time may be moved.
  maxUnavailable: 1
  selector:
    matchLabels: {{app.kubernetes.io/name: lgtm, app.kubernetes.io/component: {group.name}}}
"""


def environment(mode, group, zone):
    of_pod = lambda name, path: f"            - {{name: {name}, valueFrom: {{fieldRef: {{fieldPath: {path}}}}}}}"  # noqa: E731
    value = lambda name, text: f'            - {{name: {name}, value: "{text}"}}'  # noqa: E731
    lines = [
        of_pod("POD_IP", "status.podIP"),
        value("LGTM_TARGET", group.target),
        value("LGTM_DATA", "/data"),
        value("LGTM_HTTP_ADDRESS", "0.0.0.0"),
        value("LGTM_SHUTDOWN_DELAY", "10s"),
    ]
    if mode != "one":
        lines += [
            of_pod("LGTM_INSTANCE_ID", "metadata.name"),
            value("LGTM_KVSTORE", "gossip"),
            value("LGTM_JOIN", "dns+lgtm-gossip:7946"),
            value("LGTM_GRPC_ADDRESS", "$(POD_IP)"),
            value("LGTM_GOSSIP_ADDRESS", "$(POD_IP)"),
        ]
    if zone:
        lines.append(value("LGTM_ZONE", f"zone-{zone}"))
    if mode == "microservices":
        lines += [value("LGTM_CACHE_BACKEND", "memcached"), value("LGTM_MEMCACHED", "dns+lgtm-memcached:11211")]
    return lines


def pod(mode, group, zone, labels):
    """The template of a pod, indented as it stands in a workload."""
    ports = [("http", 9009, "TCP")]
    if mode != "one":
        ports += [("grpc", 9095, "TCP"), ("gossip-tcp", 7946, "TCP"), ("gossip-udp", 7946, "UDP")]
    if group.name in ("lgtm", "write", "distributor"):
        ports += [("otlp-grpc", 4317, "TCP"), ("otlp-http", 4318, "TCP")]
    lines = [
        "  template:",
        "    metadata:",
        "      labels: {" + ", ".join(f"{k}: {v}" for k, v in labels.items()) + "}",
        "    spec:",
        "      # A stop writes nothing to the bucket by default: the log is on the volume. The delay and open requests need time.",
        "      terminationGracePeriodSeconds: 300",
        "      securityContext: {runAsNonRoot: true, runAsUser: 10001, runAsGroup: 10001, fsGroup: 10001}",
    ]
    if zone:
        lines += [
            "      affinity:",
            "        nodeAffinity:",
            "          requiredDuringSchedulingIgnoredDuringExecution:",
            "            nodeSelectorTerms:",
            "              # The names of your zones.",
            f"              - matchExpressions: [{{key: topology.kubernetes.io/zone, operator: In, values: [zone-{zone}]}}]",
        ]
    elif group.count > 1:
        lines += [
            "      topologySpreadConstraints:",
            "        - maxSkew: 1",
            "          topologyKey: kubernetes.io/hostname",
            "          whenUnsatisfiable: ScheduleAnyway",
            f"          labelSelector: {{matchLabels: {{app.kubernetes.io/name: lgtm, app.kubernetes.io/component: {group.name}}}}}",
        ]
    lines += [
        "      containers:",
        "        - name: lgtm",
        f"          image: {IMAGE}",
        "          imagePullPolicy: IfNotPresent",
        "          args: [-config.file=/etc/lgtm/lgtm.yaml]",
        "          envFrom: [{secretRef: {name: lgtm}}]",
        "          env:",
        *environment(mode, group, zone),
        "          ports:",
    ]
    lines += [f"            - {{name: {name}, containerPort: {port}, protocol: {protocol}}}" for name, port, protocol in ports]
    lines += [
        "          # The log is read back before it is ready: as long as that takes, but not for ever.",
        "          startupProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 5, failureThreshold: 360}",
        "          readinessProbe: {httpGet: {path: /ready, port: http}, periodSeconds: 5, failureThreshold: 2}",
        "          # Not /ready: a process that waits for its bucket or its log gets no better by a restart.",
        "          livenessProbe: {tcpSocket: {port: http}, periodSeconds: 20, failureThreshold: 6}",
        "          resources:",
        f"            requests: {{cpu: {group.cpu!r}, memory: {group.memory}}}",
        f"            limits: {{memory: {group.memory}}}",
        "          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}",
        "          volumeMounts:",
        "            - {name: config, mountPath: /etc/lgtm, readOnly: true}",
        "            - {name: data, mountPath: /data}",
        "      volumes:",
        "        - {name: config, configMap: {name: lgtm}}",
    ]
    if not group.keeps:
        lines.append("        - {name: data, emptyDir: {}}")
    return lines


def workload(mode, group, zone):
    name = f"lgtm-{group.name}" if group.name != "lgtm" else "lgtm"
    labels = {"app.kubernetes.io/name": "lgtm", "app.kubernetes.io/component": group.name}
    count = group.count
    if zone:
        name, count = f"{name}-zone-{zone}", group.count // len(ZONES)
        labels["topology.kubernetes.io/zone"] = f"zone-{zone}"
    kind = "StatefulSet" if group.keeps else "Deployment"
    lines = [
        "apiVersion: apps/v1",
        f"kind: {kind}",
        "metadata:",
        f"  name: {name}",
        "  labels: {" + ", ".join(f"{k}: {v}" for k, v in labels.items()) + "}",
        "spec:",
        f"  replicas: {count}",
        "  selector:",
        "    matchLabels: {" + ", ".join(f"{k}: {v}" for k, v in labels.items()) + "}",
    ]
    if group.keeps:
        lines += ["  serviceName: lgtm-gossip" if mode != "one" else "  serviceName: lgtm", "  podManagementPolicy: Parallel"]
    lines += pod(mode, group, zone, labels)
    if group.keeps:
        lines += [
            "  volumeClaimTemplates:",
            "    - metadata: {name: data}",
            "      spec:",
            "        accessModes: [ReadWriteOnce]",
            "        resources: {requests: {storage: 20Gi}}",
        ]
    return "\n".join(lines) + "\n"


def kubernetes(mode):
    groups = MODES[mode]
    base = {"app.kubernetes.io/name": "lgtm"}
    http, otlp = ("http", 9009, "TCP"), [("otlp-grpc", 4317, "TCP"), ("otlp-http", 4318, "TCP")]
    documents = []
    for group in groups:
        if group.name in TAKES:
            ports = [http, *(otlp if TAKES[group.name] != "out" else [])]
            name = {"all": "lgtm", "in": "lgtm-write", "out": "lgtm-read"}[TAKES[group.name]]
            documents.append(service(name, {**base, "app.kubernetes.io/component": group.name}, ports))
    if mode != "one":
        gossip = [("gossip-tcp", 7946, "TCP"), ("gossip-udp", 7946, "UDP"), ("grpc", 9095, "TCP")]
        documents.append(service("lgtm-gossip", base, gossip, headless=True))
    for group in groups:
        if group.count > 1:
            documents.append(disruption_budget(group))
        for zone in ZONES if group.zones else [""]:
            documents.append(workload(mode, group, zone))
    if mode == "microservices":
        documents += [service("lgtm-memcached", {"app.kubernetes.io/name": "lgtm-memcached"}, [("memcached", 11211, "TCP")], headless=True), memcached()]
    where = f"# kubectl apply -f examples/deploy/kubernetes/config.yaml -f examples/deploy/kubernetes/{mode}.yaml\n"
    return HEAD + where + "---\n".join(documents)


def memcached():
    return """apiVersion: apps/v1
kind: Deployment
metadata:
  name: lgtm-memcached
  labels: {app.kubernetes.io/name: lgtm-memcached}
spec:
  replicas: 1
  selector:
    matchLabels: {app.kubernetes.io/name: lgtm-memcached}
  template:
    metadata:
      labels: {app.kubernetes.io/name: lgtm-memcached}
    spec:
      securityContext: {runAsNonRoot: true, runAsUser: 11211}
      containers:
        - name: memcached
          image: memcached:1.6
          args: [-m, "512"]
          ports: [{name: memcached, containerPort: 11211, protocol: TCP}]
          readinessProbe: {tcpSocket: {port: memcached}}
          resources:
            requests: {cpu: 100m, memory: 640Mi}
            limits: {memory: 640Mi}
          securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
"""


def files():
    """Path and text of every file."""
    out = {HERE / "kubernetes" / "config.yaml": config_map()}
    for mode in MODES:
        out[HERE / "compose" / f"{mode}.yaml"] = compose(mode)
        out[HERE / "kubernetes" / f"{mode}.yaml"] = kubernetes(mode)
    return out
