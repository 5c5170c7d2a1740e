"""What happens to a cluster under load. A step gets a `Chaos` and returns when all is well again."""

import time

from .cluster import Gone


class Chaos:
    """A cluster, the loads on it, and how long a fault lasts."""

    def __init__(self, cluster, loads, hold_s, outage_s, dice):
        self.cluster, self.loads, self.hold_s, self.outage_s, self.dice = cluster, loads, hold_s, outage_s, dice

    def hold(self, seconds=None):
        time.sleep(self.hold_s if seconds is None else seconds)

    def of_target(self, node):
        return [n for n in self.cluster.nodes if n.target == node.target and n.process]

    def may_fail(self, *what):
        for load in self.loads:
            load.may_fail = set(what)

    def start_again(self, nodes):
        for node in nodes:
            node.start()
        for node in nodes:
            node.wait_ready()
        self.cluster.wait_rings()

    def is_alone(self, node):
        """Whether nobody else does what the node does."""
        return len(self.of_target(node)) == 1


def steady(chaos):
    """Nothing happens."""
    chaos.hold()


def kill(chaos):
    """One process of each kind is killed in turn, stays away for a while and starts again."""
    for victim in one_of_each(chaos):
        alone(chaos, victim)
        victim.kill()
        chaos.hold()
        chaos.start_again([victim])
        chaos.may_fail()


def one_of_each(chaos):
    targets = dict.fromkeys(n.target for n in chaos.cluster.nodes)
    return [chaos.dice.choice([n for n in chaos.cluster.live() if n.target == t]) for t in targets]


def alone(chaos, victim):
    """Where nobody else does the same, what it does may fail meanwhile; a compactor is not missed."""
    if chaos.is_alone(victim) and not victim.takes_writes() and not victim.answers() and not victim.compacts_only():
        chaos.may_fail("reads")


def restart(chaos):
    """One that holds data is killed and starts again at once, three times."""
    for _ in range(3):
        victim = chaos.dice.choice([n for n in chaos.cluster.live() if n.holds_data()])
        victim.kill()
        chaos.start_again([victim])
        chaos.hold(2)


def rolling(chaos):
    """All processes are restarted in order, one after the other."""
    for node in list(chaos.cluster.live()):
        alone(chaos, node)
        status = node.terminate()
        if status != 0:
            raise Gone(f"{node.name} ended with {status} in order, see {node.log}")
        chaos.start_again([node])
        chaos.may_fail()


def flush_rolling(chaos):
    """Each process that holds data moves everything into blocks and is killed right then, one after the other, twice."""
    for _ in range(2):
        for node in [n for n in chaos.cluster.live() if n.holds_data()]:
            chaos.cluster.flush([node])
            node.kill()
            chaos.start_again([node])


def flush_all_restart(chaos):
    """All that hold data move everything into blocks, then are killed and start again one after the other."""
    chaos.cluster.flush()
    for node in [n for n in chaos.cluster.live() if n.holds_data()]:
        node.kill()
        chaos.start_again([node])


def zone(chaos):
    """All processes of a zone are killed at once and start again later."""
    zones = sorted({n.zone for n in chaos.cluster.live() if n.zone})
    if not zones:
        return "no zones"
    gone = chaos.dice.choice(zones)
    victims = [n for n in chaos.cluster.live() if n.zone == gone and not (chaos.is_alone(n) and not n.compacts_only())]
    for node in victims:
        node.kill()
    chaos.hold()
    chaos.start_again(victims)
    return f"{gone}: " + ", ".join(n.name for n in victims)


def scale(chaos):
    """Two more that hold data are started, and go again: flushed, out of the ring, for good."""
    cluster = chaos.cluster
    if cluster.mode == "one":
        return "one process"
    flags = [*(f"-{s}.ingester.flush-on-shutdown=true" for s in cluster.signals), "-ring.lifecycler.unregister-on-shutdown=true"]
    for target in dict.fromkeys(n.target for n in cluster.live() if n.holds_data()):
        added = []
        for _ in range(2):
            node = cluster.add(target)
            node.start(flags)
            node.wait_ready()
            added.append(node)
            cluster.wait_rings()
            chaos.hold()
        for node in reversed(added):
            status = node.terminate(180)
            if status != 0:
                raise Gone(f"{node.name} ended with {status} in order, see {node.log}")
            cluster.forget(node)
            cluster.wait_rings()
            chaos.hold()
    return None


def partition(chaos):
    """One that holds data is cut off from all others, in both directions; clients still reach it, and get errors there."""
    if not chaos.cluster.namespaces or chaos.cluster.mode == "one":
        return "no namespaces"
    victim = chaos.dice.choice([n for n in chaos.cluster.live() if n.holds_data()])
    victim.excuse()
    # It takes no writes and gives no whole answers; what it acknowledged all the same would be missed.
    chaos.cluster.cut_off(victim)
    time.sleep(1)
    probe = [load.probe(victim) for load in chaos.loads]
    chaos.hold()
    chaos.cluster.heal()
    chaos.cluster.wait_rings()
    victim.back()
    return f"{victim.name}; there: " + "; ".join(probe)


def bucket(chaos):
    """The object store is away: writes go on; answers may fail or say what they lack."""
    chaos.may_fail("reads")
    chaos.cluster.bucket_away()
    chaos.hold(chaos.outage_s)
    chaos.cluster.bucket_back()
    for node in [n for n in chaos.cluster.live() if n.holds_data()]:
        wait_for_flush(node)
    for load in chaos.loads:
        load.check_all()
    chaos.may_fail()
    return f"{chaos.outage_s} s"


def wait_for_flush(node, seconds=120):
    end = time.monotonic() + seconds
    while True:
        status, body = node.post("/flush", timeout=60)
        if status == 200:
            return
        if time.monotonic() > end:
            raise Gone(f"flush of {node.name} after the outage: {status} {body.decode(errors='replace')[:300]}")
        time.sleep(1)


def kvstore(chaos):
    """The store of the rings is away: writes and reads go on with the rings as they were."""
    if chaos.cluster.kvstore != "etcd":
        return "no etcd"
    chaos.cluster.pause("etcd")
    chaos.hold(chaos.outage_s)
    chaos.cluster.resume("etcd")
    chaos.cluster.wait_rings()
    return f"{chaos.outage_s} s"


STEPS = {
    "steady": steady,
    "kill": kill,
    "restart": restart,
    "flush-rolling": flush_rolling,
    "flush-all-restart": flush_all_restart,
    "rolling": rolling,
    "zone": zone,
    "scale": scale,
    "partition": partition,
    "bucket": bucket,
    "kvstore": kvstore,
}
