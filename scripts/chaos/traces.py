"""Traces as a signal: spans by OTLP in, TraceQL out."""

import json
import urllib.parse

from .cluster import request

# Batches whose spans of the last series belong to one trace: its parts come seconds apart, so that they lie in several blocks.
LONG = 12
# Traces of one answer at most; a range that has more is asked for in halves.
LIMIT = 300
# Spans of one trace that are told, more than any has.
SPANS = 100


class Traces:
    """A batch is one span of each series of a writer, all within one millisecond, each at a nanosecond of its own; it bears the number of the batch. Those of the
    first series are one trace, each of the others is a trace by itself, and those of the last one go on over several batches."""

    name = "traces"
    series = 6
    things = "spans"
    together = 3

    def _trace(self, writer, s, number):
        w = 99 if writer == "probe" else writer + 1
        if s < self.together:
            return f"{w:016x}{number:016x}"
        if s + 1 < self.series:
            return f"{w:08x}{s:08x}{number:016x}"
        return f"{w:08x}{s:08x}{number // LONG:08x}ffffffff"

    def _span(self, writer, s, number, t_ms):
        of_trace = f"{number:012x}{s:04x}"
        span = {
            "traceId": self._trace(writer, s, number),
            "spanId": of_trace,
            "name": f"span {s:02}",
            "kind": 1 + s % 5,
            "startTimeUnixNano": f"{t_ms}{s + 1:06}",
            "endTimeUnixNano": f"{t_ms + 1 + number % 7}{s + 1:06}",
            "attributes": [
                {"key": "writer", "value": {"stringValue": f"{writer}"}},
                {"key": "series", "value": {"stringValue": f"{s:02}"}},
                {"key": "number", "value": {"intValue": f"{number}"}},
                {"key": "text", "value": {"stringValue": f"batch {number} " * (number % 5)}},
            ],
        }
        if 0 < s < self.together:
            span["parentSpanId"] = f"{number:012x}{0:04x}"
        return span

    def encode(self, writer, number, t_ms):
        resources = []
        for s in range(self.series):
            service = {"attributes": [{"key": "service.name", "value": {"stringValue": f"chaos-{s % 2}"}}]}
            spans = [self._span(writer, s, number, t_ms)]
            resources.append({"resource": service, "scopeSpans": [{"spans": spans}]})
        return json.dumps({"resourceSpans": resources}).encode()

    def push(self, node, batch):
        """Gives status and text; OSError when no answer came."""
        headers = [("Content-Type", "application/json")]
        status, text = request("POST", node.url("/v1/traces"), batch, headers=headers, timeout=30)
        text = text.decode(errors="replace")
        # What is refused in part is told in an answer of success.
        if status == 200 and json.loads(text).get("partialSuccess"):
            return 400, text
        return status, text

    def _ask(self, node, path, **args):
        status, body = request("GET", node.url(f"{path}?{urllib.parse.urlencode(args)}"), timeout=60)
        if status != 200:
            return status, body.decode(errors="replace"), []
        answer = json.loads(body)
        # A part of an answer says so, and why.
        is_part = answer.get("status") not in (None, "COMPLETE")
        return status, answer, [answer.get("message") or "a part of an answer"] if is_part else []

    def read(self, node, writer, begin_ms, end_ms):
        """What a node has of a writer in (begin, end]: status, a list of (time, number) by series or an error's text, warnings. A span that is not as it was sent
        has the number -1."""
        found, warnings = [set() for _ in range(self.series)], []
        counts = [0] * self.series
        waiting = [(begin_ms // 1000, end_ms // 1000 + 1)]
        traces = {}
        while waiting:
            begin_s, end_s = waiting.pop()
            query = f'{{ span.writer = "{writer}" }} | select(span.series, span.number, span:name)'
            status, answer, warned = self._ask(node, "/api/search", q=query, start=begin_s, end=end_s, limit=LIMIT, spss=SPANS)
            if status != 200:
                return status, answer, warnings
            warnings += warned
            hits = answer.get("traces") or []
            if len(hits) >= LIMIT and end_s - begin_s > 1:
                middle = (begin_s + end_s) // 2
                waiting += [(begin_s, middle), (middle, end_s)]
                continue
            # A trace may lie in both halves of a range.
            traces.update({hit["traceID"]: hit for hit in hits})
        for hit in traces.values():
            for span_set in hit["spanSets"]:
                for span in span_set["spans"]:
                    t_ns = int(span["startTimeUnixNano"])
                    attributes = {a["key"]: next(iter(a["value"].values())) for a in span["attributes"]}
                    s, number = int(attributes["series"]), int(attributes["number"])
                    is_own = hit["traceID"].zfill(32) == self._trace(writer, s, number)
                    is_sent = t_ns % 1_000_000 == s + 1 and span["spanID"].zfill(16) == f"{number:012x}{s:04x}"
                    t_ms = t_ns // 1_000_000
                    if begin_ms < t_ms <= end_ms:
                        counts[s] += 1
                        found[s].add((t_ms, number if is_own and is_sent else -1))
        # Twice is told as another span of the same time.
        doubled = [sorted(some) + [max(some)] * (n > len(some)) for some, n in zip(found, counts)]
        return status, doubled, warnings

    def count(self, node, writer, begin_ms, end_ms):
        """How many of a writer's spans a node has in (begin, end]: status, counts by series or an error's text, warnings."""
        query = f'{{ span.writer = "{writer}" }} | count_over_time() by (span.series)'
        # No span begins at a whole millisecond; those of one begin behind it.
        times = {"start": f"{begin_ms + 1}000000", "end": f"{end_ms + 1}000000"}
        status, answer, warnings = self._ask(node, "/api/metrics/query", q=query, **times)
        if status != 200:
            return status, answer, warnings
        found = {}
        for series in answer.get("series") or []:
            label = next(l for l in series["labels"] if l["key"] == "span.series")
            found[label["value"]["stringValue"]] = int(series.get("value") or 0)
        return status, [found.get(f"{s:02}", 0) for s in range(self.series)], warnings
