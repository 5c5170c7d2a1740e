"""Logs as a signal: lines by Loki's push in, LogQL out."""

import itertools
import json
import re
import urllib.parse

from .cluster import request

LINE = re.compile(r"level=info writer=(\d+|probe) series=(\d\d) number=(\d+) text=\"((?:line \d+ )*)\"")
# Most lines of one answer; a range that has more is read by several.
PAGES = [("backward", 5000), ("forward", 700)]


class Logs:
    """A batch is one line of each stream of a writer, all within one millisecond, each at a nanosecond of its own; it bears the number of the batch."""

    name = "logs"
    series = 8
    things = "lines"
    path = "/loki/api/v1"

    def __init__(self):
        self.pages = itertools.cycle(PAGES)

    def _line(self, writer, s, number):
        return f'level=info writer={writer} series={s:02} number={number} text="{f"line {number} " * (number % 7)}"'

    def encode(self, writer, number, t_ms):
        streams = []
        for s in range(self.series):
            stream = {"app": "chaos", "series": f"{s:02}", "writer": f"{writer}"}
            value = [f"{t_ms}{s + 1:06}", self._line(writer, s, number)]
            # Half of the streams have metadata, too, with another value in each line.
            streams.append({"stream": stream, "values": [[*value, {"batch": f"{number}"}] if s % 2 else value]})
        return json.dumps({"streams": streams}).encode()

    def push(self, node, batch):
        """Gives status and text; OSError when no answer came."""
        headers = [("Content-Type", "application/json")]
        status, text = request("POST", node.url(f"{self.path}/push"), batch, headers=headers, timeout=30)
        return status, text.decode(errors="replace")

    def _query(self, node, kind, **args):
        status, body = request("GET", node.url(f"{self.path}/{kind}?{urllib.parse.urlencode(args)}"), timeout=60)
        if status != 200:
            return status, body.decode(errors="replace"), []
        answer = json.loads(body)
        return status, answer["data"]["result"], answer.get("warnings") or []

    def read(self, node, writer, begin_ms, end_ms):
        """What a node has of a writer in (begin, end], page by page, the newest or the oldest first in turn: status, a list of (time, number) by stream or an
        error's text, warnings. A line that is not as it was sent has the number -1, one of another page's time -2."""
        direction, limit = next(self.pages)
        start_ns, end_ns = (begin_ms + 1) * 1_000_000, (end_ms + 1) * 1_000_000
        found, warnings = [[] for _ in range(self.series)], []
        while True:
            query = f'{{app="chaos", writer="{writer}"}}'
            status, result, warned = self._query(
                node, "query_range", query=query, start=start_ns, end=end_ns, limit=limit, direction=direction
            )
            if status != 200:
                return status, result, warnings
            warnings += warned
            times = []
            for stream in result:
                s = int(stream["stream"]["series"])
                for t_ns, line, *_ in stream["values"]:
                    t_ns = int(t_ns)
                    times.append(t_ns)
                    found[s].append((t_ns // 1_000_000, self._number(writer, s, t_ns, line, start_ns <= t_ns < end_ns)))
            if len(times) < limit:
                return status, found, warnings
            if direction == "backward":
                end_ns = min(times)
            else:
                start_ns = max(times) + 1

    def _number(self, writer, s, t_ns, line, is_in_range):
        if not is_in_range:
            return -2
        parts = LINE.fullmatch(line)
        number = int(parts[3]) if parts else -1
        return number if t_ns % 1_000_000 == s + 1 and line == self._line(writer, s, number) else -1

    def count(self, node, writer, begin_ms, end_ms):
        """How many of a writer's lines a node has in (begin, end]: status, counts by stream or an error's text, warnings."""
        query = f'sum by (series) (count_over_time({{app="chaos", writer="{writer}"}}[{end_ms - begin_ms}ms]))'
        # Queries are answered for whole milliseconds; no line is at one.
        status, result, warnings = self._query(node, "query", query=query, time=f"{end_ms + 1}000000")
        if status != 200:
            return status, result, warnings
        found = {r["metric"]["series"]: int(float(r["value"][1])) for r in result}
        return status, [found.get(f"{s:02}", 0) for s in range(self.series)], warnings
