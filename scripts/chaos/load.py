"""Constant load, and the ledger of what was acknowledged, against which every answer is held.

A signal has `name`, `things` (what it counts), `series`, `encode(writer, number, t_ms)`, `push(node, batch)`, `read(node, writer, begin_ms, end_ms)` and `count(...)`; see `metrics.py`.
"""

import bisect
import random
import threading
import time
from collections import Counter

PAUSE_S = 0.25
# A sender gives a batch up after so long, as one whose queue is full.
GIVE_UP_S = 20
MAX_TOLD = 25


class Ledger:
    """What a writer has sent: times in order, with whether each is acknowledged."""

    def __init__(self):
        self.lock = threading.Lock()
        self.sent = {}
        self.acked = []
        # A point in time up to which nothing is in the air.
        self.begin_ms = now_ms() - 1

    def note_sent(self, t_ms, number):
        with self.lock:
            self.sent[t_ms] = number

    def note_acked(self, t_ms):
        with self.lock:
            self.acked.append(t_ms)

    def acked_in(self, begin_ms, end_ms):
        """Acknowledged times in (begin, end], as of now."""
        with self.lock:
            return self.acked[bisect.bisect_right(self.acked, begin_ms) : bisect.bisect_right(self.acked, end_ms)]


def now_ms():
    return time.time_ns() // 1_000_000


class Load:
    """Writers and readers of one signal on a cluster."""

    def __init__(self, signal, cluster, writers=3, readers=2):
        self.signal, self.cluster = signal, cluster
        self.ledgers = [Ledger() for _ in range(writers)]
        self.lock = threading.Lock()
        self.counts = Counter()
        self.slowest_push_s = 0.0
        self.told = []
        self.faults = 0
        self.may_fail = set()
        self.stop = threading.Event()
        self.threads = [threading.Thread(target=self.guarded, args=(self.write, w), daemon=True) for w in range(writers)]
        self.threads += [threading.Thread(target=self.guarded, args=(self.ask, r), daemon=True) for r in range(readers)]

    def start(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()

    def guarded(self, run, n):
        try:
            run(n)
        except Exception as e:  # a thread of the script that ends would look like success
            self.fault(f"{run.__name__} {n} of the script ended: {type(e).__name__}: {e}")
            raise

    def fault(self, text):
        with self.lock:
            self.faults += 1
            self.counts["faults"] += 1
            if len(self.told) < MAX_TOLD:
                self.told.append(text)
                print(f"    FAULT {time.strftime('%H:%M:%S')} {self.signal.name}: {text}", flush=True)

    def note(self, what):
        with self.lock:
            self.counts[what] += 1

    def take_counts(self):
        with self.lock:
            counts, self.counts = self.counts, Counter()
            slowest, self.slowest_push_s = self.slowest_push_s, 0.0
        return counts, slowest

    def pick(self, dice, role):
        while not self.stop.is_set():
            nodes = [n for n in self.cluster.nodes if n.in_rotation and getattr(n, role)(self.signal.name)]
            if nodes:
                return dice.choice(nodes)
            time.sleep(0.05)
        return None

    def failed(self, what, node, began, text):
        """Notes a request that failed; it is a fault unless the node is away or the step allows it."""
        if node.is_excused(began):
            self.note(f"{what} failed where a node is away")
        elif what in self.may_fail:
            self.note(f"{what} failed, as may be")
        else:
            self.note(f"{what} failed")
            self.fault(f"{what} at {node.name} failed: {text[:300]}")

    def write(self, writer):
        dice, ledger, number, last_ms = random.Random(writer), self.ledgers[writer], 0, 0
        while not self.stop.is_set():
            number, t_ms = number + 1, max(now_ms(), last_ms + 1)
            last_ms = t_ms
            batch = self.signal.encode(writer, number, t_ms)
            ledger.note_sent(t_ms, number)
            first = time.monotonic()
            while True:
                node = self.pick(dice, "takes_writes")
                if node is None:
                    return
                began = time.monotonic()
                try:
                    status, text = self.signal.push(node, batch)
                except OSError as e:
                    status, text = 0, f"{type(e).__name__}: {e}"
                took = time.monotonic() - began
                if status // 100 == 2:
                    ledger.note_acked(t_ms)
                    self.note("writes")
                    with self.lock:
                        self.slowest_push_s = max(self.slowest_push_s, took)
                    break
                self.failed("writes", node, began, f"{status} {text.strip()} after {took:.1f} s")
                if status // 100 == 4 and status != 429:
                    self.fault(f"a write was refused for good by {node.name}: {status} {text[:300]}")
                    break
                if time.monotonic() - first > GIVE_UP_S:
                    self.note("writes given up")
                    break
                self.stop.wait(0.1)
            self.stop.wait(max(0.0, PAUSE_S - (time.monotonic() - first)))

    def ask(self, reader):
        dice = random.Random(1000 + reader)
        while not self.stop.is_set():
            writer = dice.randrange(len(self.ledgers))
            ledger = self.ledgers[writer]
            node = self.pick(dice, "answers")
            if node is None:
                return
            end_ms = now_ms()
            if dice.random() < 0.5:
                self.check_samples(node, writer, max(ledger.begin_ms, end_ms - dice.randrange(10_000, 120_000)), end_ms)
            else:
                self.check_counts(node, writer, ledger.begin_ms, end_ms)
            self.stop.wait(0.1)

    def asked(self, ask, node, writer, begin_ms, end_ms):
        """Asks; gives what was acknowledged before and the answer, if there is a whole one."""
        acked = self.ledgers[writer].acked_in(begin_ms, end_ms)
        began = time.monotonic()
        try:
            status, found, warnings = ask(node, writer, begin_ms, end_ms)
        except OSError as e:
            status, found, warnings = 0, f"{type(e).__name__}: {e}", []
        if status != 200:
            self.failed("reads", node, began, f"{status} {found.strip()} after {time.monotonic() - began:.1f} s")
            return None
        self.note("reads")
        if warnings:
            self.note("reads with a warning")
            if "reads" not in self.may_fail and not node.is_excused(began):
                self.fault(f"an answer of {node.name} has warnings: {warnings[:2]}")
            return None
        return acked, found

    def check_samples(self, node, writer, begin_ms, end_ms):
        """Holds an answer against the ledger: all that was acknowledged, nothing that was not sent, each once. True when a whole answer came."""
        answer = self.asked(self.signal.read, node, writer, begin_ms, end_ms)
        if answer is None:
            return False
        acked, series = answer
        ledger = self.ledgers[writer]
        with ledger.lock:
            sent = dict(ledger.sent)
        for s, found in enumerate(series):
            times = [t for t, _ in found]
            missing = sorted(set(acked) - set(times))
            if missing:
                ago = (now_ms() - missing[0]) / 1000
                self.fault(
                    f"{len(missing)} of {len(acked)} acknowledged are missing at {node.name} in series {s} of writer {writer}, first of {ago:.1f} s ago"
                )
                break
            if len(set(times)) < len(times):
                self.fault(f"{len(times) - len(set(times))} stand twice at {node.name} in series {s} of writer {writer}")
                break
            wrong = [(t, n) for t, n in found if sent.get(t) != n]
            if wrong:
                self.fault(f"{len(wrong)} at {node.name} were never sent so, in series {s} of writer {writer}: {wrong[:3]}")
                break
        return True

    def check_counts(self, node, writer, begin_ms, end_ms):
        answer = self.asked(self.signal.count, node, writer, begin_ms, end_ms)
        if answer is None:
            return False
        acked, series = answer
        ledger = self.ledgers[writer]
        with ledger.lock:
            sent = sum(begin_ms < t <= end_ms for t in ledger.sent)
        low, high = min(series), max(series)
        if low < len(acked):
            short = [f"{s}: {n}" for s, n in enumerate(series) if n < len(acked)]
            age_s = (now_ms() - acked[-1]) / 1000
            self.fault(f"{node.name} counts too few of {len(acked)} acknowledged of writer {writer}, the last {age_s:.1f} s ago; by series {', '.join(short)}")
        elif high > sent:
            self.fault(f"{node.name} counts {high} in a series of writer {writer}, to which {sent} were sent")
        return True

    def probe(self, node):
        """What a node that is cut off says to a write and to a read, in words. It is a fault when it acknowledges, or answers short without a warning."""
        ledger, t_ms = self.ledgers[0], now_ms() - 500
        try:
            status, text = self.signal.push(node, self.signal.encode("probe", 1, t_ms))
            write = f"{status} {text.strip()[:120]}"
            if status // 100 == 2:
                self.fault(f"{node.name} acknowledged a write although it is cut off")
        except OSError as e:
            write = f"{type(e).__name__}: {e}"
        try:
            acked = ledger.acked_in(ledger.begin_ms, t_ms)
            status, found, warnings = self.signal.count(node, 0, ledger.begin_ms, t_ms)
            read = f"{status} {found[:120] if isinstance(found, str) else 'with an answer'} {warnings[:1]}"
            if status == 200 and not warnings and min(found) < len(acked):
                self.fault(f"{node.name} counts {min(found)} of {len(acked)} although it is cut off, without a warning")
        except OSError as e:
            read = f"{type(e).__name__}: {e}"
        return f"a write {write}, a read {read}"

    def check_all(self, tries=60):
        """Every node that answers has all that was acknowledged so far. Gives how many were compared."""
        compared = 0
        for node in [n for n in self.cluster.nodes if n.in_rotation and n.answers(self.signal.name)]:
            for writer, ledger in enumerate(self.ledgers):
                end_ms = now_ms()
                for left in reversed(range(tries)):
                    before, self.may_fail = self.may_fail, {"reads"} if left else set()
                    is_whole = self.check_samples(node, writer, ledger.begin_ms, end_ms) and self.check_counts(
                        node, writer, ledger.begin_ms, end_ms
                    )
                    self.may_fail = before
                    if is_whole:
                        break
                    time.sleep(0.5)
                compared += len(ledger.acked_in(ledger.begin_ms, end_ms)) * self.signal.series
        return compared
