"""Metrics as a signal: samples by remote write in, PromQL out."""

import json
import struct
import urllib.parse

from .cluster import request


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def snappy(data):
    """A snappy block of literals only."""
    out = bytearray(varint(len(data)))
    for at in range(0, len(data), 65536):
        part = data[at : at + 65536]
        out += bytes([61 << 2]) + struct.pack("<H", len(part) - 1) + part
    return bytes(out)


class Metrics:
    """A batch is one sample of each series of a writer, all at one time; its value is the number of the batch."""

    name = "metrics"
    series = 20
    things = "samples"

    def encode(self, writer, number, t_ms):
        body = b""
        for s in range(self.series):
            labels = [("__name__", "chaos"), ("series", f"{s:02}"), ("writer", f"{writer}")]
            labels = b"".join(field(1, field(1, k.encode()) + field(2, v.encode())) for k, v in labels)
            sample = b"\x09" + struct.pack("<d", float(number)) + b"\x10" + varint(t_ms)
            body += field(1, labels + field(2, sample))
        return snappy(body)

    def push(self, node, batch):
        """Gives status and text; OSError when no answer came."""
        headers = [("Content-Encoding", "snappy"), ("Content-Type", "application/x-protobuf"), ("X-Prometheus-Remote-Write-Version", "0.1.0")]
        status, text = request("POST", node.url("/api/v1/push"), batch, headers=headers, timeout=30)
        return status, text.decode(errors="replace")

    def _query(self, node, query, t_ms):
        args = urllib.parse.urlencode({"query": query, "time": f"{t_ms / 1000:.3f}"})
        status, body = request("GET", node.url(f"/prometheus/api/v1/query?{args}"), timeout=60)
        if status != 200:
            return status, body.decode(errors="replace"), []
        answer = json.loads(body)
        return status, answer["data"]["result"], answer.get("warnings", [])

    def read(self, node, writer, begin_ms, end_ms):
        """What a node has of a writer in (begin, end]: status, a list of (time, number) by series or an error's text, warnings."""
        query = f'chaos{{writer="{writer}"}}[{end_ms - begin_ms}ms]'
        status, result, warnings = self._query(node, query, end_ms)
        if status != 200:
            return status, result, warnings
        found = {r["metric"]["series"]: [(round(t * 1000), int(float(v))) for t, v in r["values"]] for r in result}
        return status, [found.get(f"{s:02}", []) for s in range(self.series)], warnings

    def count(self, node, writer, begin_ms, end_ms):
        """How many of a writer's samples a node has in (begin, end]: status, counts by series or an error's text, warnings."""
        query = f'count_over_time(chaos{{writer="{writer}"}}[{end_ms - begin_ms}ms])'
        status, result, warnings = self._query(node, query, end_ms)
        if status != 200:
            return status, result, warnings
        found = {r["metric"]["series"]: int(float(r["value"][1])) for r in result}
        return status, [found.get(f"{s:02}", 0) for s in range(self.series)], warnings
