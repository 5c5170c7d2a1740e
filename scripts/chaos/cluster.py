"""Processes of a cluster, each in a network namespace of its own (as root on Linux), else on ports of loopback."""

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

# Which processes a mode has: target, how many.
MODES = {
    "one": [("all", 1)],
    "nodes": [("all", 3)],
    "read-write-backend": [("backend", 2), ("write", 3), ("read", 2)],
    "microservices": [],
}
# What reads the bucket for others, by signal; queriers of traces read it themselves.
READS_BUCKET = {"metrics": {"store-gateway": 2}, "logs": {"index-gateway": 2}, "traces": {}}


def processes(mode, signals):
    """Target and number of the processes of a mode, those first that others look for."""
    if mode != "microservices":
        return MODES[mode]
    counts = {"compactor": 1, "ingester": 3, "distributor": 2, "querier": 1, "query-frontend": 2}
    return [(f"{s}-{component}", n) for s in signals for component, n in (READS_BUCKET[s] | counts).items()]


# Everything that takes minutes by default takes seconds, so that each fault meets flushes, compactions and syncs. The retention of what was flushed is
# what the program takes by itself for these intervals.
FLAGS = [
    "-self-monitoring=false",
    "-otlp.http-listen-port=0",
    "-otlp.grpc-listen-port=0",
    "-ring.cluster-label=chaos",
    "-ring.lifecycler.min-ready-duration=0s",
    "-ring.lifecycler.observe-period=0s",
    "-ring.lifecycler.heartbeat-period=2s",
    "-ring.lifecycler.heartbeat-timeout=10s",
    "-metrics.ingester.head.block-range=1m",
    "-metrics.ingester.maintenance-interval=5s",
    "-metrics.compactor.block-ranges=[1m, 2m, 8m]",
    "-metrics.compactor.compaction-interval=20s",
    "-metrics.compactor.first-level-compaction-wait-period=20s",
    "-metrics.compactor.cleanup-interval=15s",
    "-metrics.compactor.deletion-delay=10m",
    "-metrics.store-gateway.ignore-deletion-marks-delay=3m",
    "-metrics.store-gateway.sync-interval=30s",
    "-metrics.store-gateway.max-stale-period=2m",
    "-logs.ingester.head.max-chunk-age=40s",
    "-logs.ingester.head.sync-period=20s",
    "-logs.ingester.maintenance-interval=5s",
    "-logs.ingester.index-interval=15s",
    "-logs.index-gateway.sync-interval=15s",
    "-logs.index-gateway.full-sync-interval=45s",
    "-logs.compactor.compaction-interval=20s",
    "-logs.compactor.min-files=3",
    "-logs.compactor.delete-delay=1m",
    "-traces.ingester.max-block-duration=40s",
    "-traces.ingester.maintenance-interval=5s",
    "-traces.store-gateway.blocklist-poll=15s",
    "-traces.compactor.compaction-interval=20s",
    "-traces.compactor.compacted-block-retention=2m",
]


class Gone(Exception):
    """A process that ended by itself, or did not become ready."""


class Node:
    """A process of the cluster, which may be started and ended again and again over one folder."""

    def __init__(self, cluster, number, name, target, zone):
        self.cluster, self.number, self.name, self.target, self.zone = cluster, number, name, target, zone
        self.process = None
        self.log = cluster.dir / f"{name}.log"
        # Requests go to those in rotation, as of a load balancer that checks health; what fails at others is no fault.
        self.in_rotation = False
        self.excused_until = 0.0
        self.starts = 0

    # Without a signal: of any.

    def takes_writes(self, of=None):
        return self._is("all", "write", "distributor", of=of)

    def holds_data(self, of=None):
        return self._is("all", "write", "ingester", of=of)

    def answers(self, of=None):
        return self._is("all", "read", "querier", "query-frontend", of=of)

    def compacts_only(self):
        return self.target.endswith("-compactor")

    def _is(self, group, part, *components, of):
        signals = [of] if of else self.cluster.signals
        return self.target in (group, part) or any(self.target == f"{s}-{c}" for s in signals for c in components)

    @property
    def host(self):
        return f"10.77.0.{self.number}" if self.cluster.namespaces else "127.0.0.1"

    def port(self, kind):
        base = {"http": 9009, "grpc": 9095, "gossip": 7946}[kind]
        return base if self.cluster.namespaces else base + 10_000 + 10 * self.number

    def url(self, path):
        return f"http://{self.host}:{self.port('http')}{path}"

    def in_namespace(self, command):
        return ["ip", "netns", "exec", self.cluster.namespace(self.number), *command] if self.cluster.namespaces else command

    def start(self, extra=()):
        c = self.cluster
        flags = [
            f"-target={self.target}",
            f"-data.dir={c.dir / self.name}",
            f"-storage.url={c.bucket_url}",
            f"-server.http-listen-address={self.host}",
            f"-server.http-listen-port={self.port('http')}",
        ]
        if c.bucket_kind == "s3":
            flags += ["-storage.backend.allow-http=true"]
        if c.mode != "one":
            flags += [
                f"-server.grpc-listen-address={self.host}",
                f"-server.grpc-listen-port={self.port('grpc')}",
                f"-ring.instance-id={self.name}",
                f"-ring.kvstore={c.kvstore}",
            ]
            if c.kvstore == "gossip":
                flags += [
                    f"-ring.gossip-listen-address={self.host}",
                    f"-ring.gossip-listen-port={self.port('gossip')}",
                    "-ring.join=" + ",".join(f"{n.host}:{n.port('gossip')}" for n in c.seeds()),
                ]
            else:
                flags += [f"-ring.etcd.endpoints=[{c.etcd_address}]"]
            if self.zone:
                flags += [f"-ring.zone={self.zone}"]
        command = [c.binary, *flags, *FLAGS, *c.extra_flags, *extra]
        env = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
        self.starts += 1
        with self.log.open("ab") as log:
            log.write(f"--- start {self.starts}: {' '.join(command)}\n".encode())
            log.flush()
            self.process = subprocess.Popen(
                self.in_namespace(command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )

    def excuse(self):
        """From now on, until it is ready again, what fails there is no fault."""
        self.in_rotation = False
        self.excused_until = float("inf")

    def back(self):
        # What was sent to it before it was known to be away may fail a moment later.
        self.excused_until = time.monotonic() + 1
        self.in_rotation = True

    def is_excused(self, began):
        return not self.in_rotation or began < self.excused_until

    def wait_ready(self, seconds=90):
        end = time.monotonic() + seconds
        said = ""
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise Gone(f"{self.name} ended with {self.process.returncode}, see {self.log}")
            try:
                status, body = request("GET", self.url("/ready"), timeout=2)
                if status == 200:
                    self.back()
                    return
                said = body.decode(errors="replace").strip()
            except OSError as e:
                said = str(e)
            time.sleep(0.1)
        raise Gone(f"{self.name} is not ready after {seconds} s: {said}")

    def kill(self):
        self.excuse()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self, seconds=90):
        """An orderly end, out of rotation first; gives its exit status."""
        self.excuse()
        time.sleep(0.3)
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def post(self, path, body=b"", timeout=60):
        return request("POST", self.url(path), body, timeout=timeout)


class Cluster:
    """All processes of a mode, and what they stand on."""

    def __init__(self, mode, signals, binary, kvstore, bucket, zones, extra_flags):
        self.signals = list(signals)
        self.mode, self.binary, self.kvstore, self.bucket_kind = mode, binary, kvstore, bucket
        self.extra_flags = list(extra_flags)
        self.namespaces = os.geteuid() == 0 and shutil.which("ip") is not None
        self.dir = Path(tempfile.mkdtemp(prefix="chaos-"))
        self.tag = f"lgc{os.getpid()}"
        self.helpers = {}
        self.cut = set()
        self.nodes = []
        self.zones = zones
        self.made = set()
        if self.namespaces:
            self.make_bridge()
        self.etcd_address = f"{self.helper_host}:2379" if self.namespaces else "127.0.0.1:22379"
        if bucket == "s3":
            port = 9000 if self.namespaces else 19000
            self.bucket_url = f"s3://chaos?endpoint=http://{self.helper_host}:{port}&region=us-east-1&path_style=true"
            self.start_s3(port)
        else:
            self.bucket_url = f"file:{self.dir / 'bucket'}"
        if kvstore == "etcd":
            self.start_etcd()
        for target, count in processes(mode, self.signals):
            for _ in range(count):
                self.add(target)

    @property
    def helper_host(self):
        return "10.77.0.254" if self.namespaces else "127.0.0.1"

    def namespace(self, number):
        return f"{self.tag}-{number}"

    def run(self, *command):
        subprocess.run(command, check=True, capture_output=True)

    def make_bridge(self):
        self.bridge = f"{self.tag[:11]}br"
        self.run("ip", "link", "add", self.bridge, "type", "bridge")
        self.run("ip", "addr", "add", f"{self.helper_host}/24", "dev", self.bridge)
        self.run("ip", "link", "set", self.bridge, "up")

    def make_namespace(self, number):
        if number in self.made:
            return
        self.made.add(number)
        name, port = self.namespace(number), f"{self.tag[:11]}p{number}"
        self.run("ip", "netns", "add", name)
        self.run("ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", name)
        self.run("ip", "link", "set", port, "master", self.bridge, "up")
        self.run("ip", "-n", name, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
        self.run("ip", "-n", name, "link", "set", "eth0", "up")
        self.run("ip", "-n", name, "link", "set", "lo", "up")

    def add(self, target):
        number, alike = len(self.nodes) + 1, sum(n.target == target for n in self.nodes)
        name = f"{'node' if target == 'all' else target}-{alike}"
        zone = f"zone-{'abc'[alike % 3]}" if self.zones else ""
        if self.namespaces:
            self.make_namespace(number)
        node = Node(self, number, name, target, zone)
        self.nodes.append(node)
        return node

    def seeds(self):
        return self.nodes[:3]

    def live(self):
        return [n for n in self.nodes if n.process and n.process.poll() is None]

    def start(self):
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_ready()
        self.wait_rings()

    def wait_rings(self, seconds=90):
        """Waits until every process that follows a signal's ring of ingesters sees all of them ACTIVE, and no others."""
        if self.mode == "one":
            return
        end = time.monotonic() + seconds
        for of in self.signals:
            self.wait_ring(of, end)

    def wait_ring(self, of, end):
        wanted = sorted(n.name for n in self.live() if n.holds_data(of))
        for node in self.live():
            seen = None
            while True:
                status, body = 0, b""
                try:
                    status, body = request("GET", node.url(f"/{of}/ingester/ring"), accept="application/json", timeout=5)
                except OSError:
                    pass
                if status == 404:
                    break
                if status == 200:
                    shards = json.loads(body)["shards"]
                    seen = sorted((s["id"], s["state"]) for s in shards)
                    if seen == [(name, "ACTIVE") for name in wanted]:
                        break
                if time.monotonic() > end:
                    raise Gone(f"{node.name} sees the ingesters of {of} {seen}, wanted {wanted}")
                time.sleep(0.2)

    def forget(self, node):
        """Takes the record of a process that is gone for good out of all rings."""
        for of, ring in [(s, r) for s in self.signals for r in ("ingester", *READS_BUCKET[s], "compactor", "distributor")]:
            for other in self.live():
                try:
                    status, _ = other.post(f"/{of}/{ring}/ring", f"forget={node.name}".encode(), timeout=10)
                except OSError:
                    continue
                if status in (200, 302):
                    break

    def flush(self, nodes=None):
        for node in nodes or self.live():
            if node.holds_data():
                status, body = node.post("/flush", timeout=120)
                if status != 200:
                    raise Gone(f"flush of {node.name}: {status} {body.decode(errors='replace')[:300]}")

    # What clusters stand on.

    def start_helper(self, name, command):
        log = (self.dir / f"{name}.log").open("ab")
        self.helpers[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start_etcd(self):
        peer = f"http://{self.helper_host}:{2380 if self.namespaces else 22380}"
        client = f"http://{self.etcd_address}"
        self.start_helper(
            "etcd",
            ["etcd", "--data-dir", str(self.dir / "etcd"), "--listen-client-urls", client, "--advertise-client-urls", client,
             "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}"],
        )
        wait_for(f"{client}/health", 30)

    def start_s3(self, port):
        self.start_helper("s3", ["moto_server", "-H", self.helper_host, "-p", str(port)])
        wait_for(f"http://{self.helper_host}:{port}/", 60)
        request("PUT", f"http://{self.helper_host}:{port}/chaos", timeout=10)

    def pause(self, helper):
        os.killpg(self.helpers[helper].pid, signal.SIGSTOP)

    def resume(self, helper):
        os.killpg(self.helpers[helper].pid, signal.SIGCONT)

    def bucket_away(self):
        if self.bucket_kind == "s3":
            self.pause("s3")
            return
        # A file where the folder was: nothing below it can be read, written or made.
        bucket = self.dir / "bucket"
        bucket.rename(self.dir / "bucket.away")
        bucket.write_text("")

    def bucket_back(self):
        if self.bucket_kind == "s3":
            self.resume("s3")
            return
        bucket = self.dir / "bucket"
        bucket.unlink()
        (self.dir / "bucket.away").rename(bucket)

    def cut_off(self, node):
        """Nothing goes between `node` and the other processes in either direction; clients reach all of them."""
        for other in self.nodes:
            if other is not node:
                for a, b in ((node, other), (other, node)):
                    self.run("ip", "-n", self.namespace(a.number), "route", "add", "blackhole", f"{b.host}/32")
                    self.cut.add((a.number, b.number))

    def heal(self):
        for a, b in self.cut:
            self.run("ip", "-n", self.namespace(a), "route", "del", "blackhole", f"10.77.0.{b}/32")
        self.cut.clear()

    def close(self, keep):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
                node.process.wait()
        for helper in self.helpers.values():
            if helper.poll() is None:
                os.killpg(helper.pid, signal.SIGKILL)
                helper.wait()
        for number in self.made:
            subprocess.run(["ip", "netns", "del", self.namespace(number)], capture_output=True)
        if self.namespaces:
            subprocess.run(["ip", "link", "del", self.bridge], capture_output=True)
        if not keep:
            shutil.rmtree(self.dir, ignore_errors=True)


def request(method, url, body=None, accept=None, headers=(), timeout=30):
    """Status and body of an answer. What goes wrong below HTTP is an OSError."""
    sent = urllib.request.Request(url, data=body, method=method, headers=dict(headers))
    if accept:
        sent.add_header("Accept", accept)
    try:
        with NO_REDIRECTS.open(sent, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as e:
        with e:
            return e.code, e.read()
    except (ConnectionError, TimeoutError, urllib.error.URLError):
        raise
    except Exception as e:  # an answer that breaks off
        raise OSError(f"{type(e).__name__}: {e}") from e


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


NO_REDIRECTS = urllib.request.build_opener(_NoRedirects, urllib.request.ProxyHandler({}))


def wait_for(url, seconds):
    end = time.monotonic() + seconds
    while True:
        try:
            request("GET", url, timeout=2)
            return
        except OSError as e:
            if time.monotonic() > end:
                raise Gone(f"{url} does not answer after {seconds} s: {e}") from e
            time.sleep(0.1)
