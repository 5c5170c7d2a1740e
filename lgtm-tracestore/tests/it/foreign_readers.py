"""Reads trace blocks with pyarrow and DuckDB.

rows FILE: all rows as pyarrow decodes them, a JSON object a line, bytes as hexadecimal digits.
count FILE: number of traces and spans, and the sum of durations, as DuckDB counts them.
"""

import json
import sys


def plain(value):
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    return value


def rows(path):
    import pyarrow.parquet as parquet

    for row in parquet.read_table(path).to_pylist():
        print(json.dumps(plain(row), sort_keys=True))


def count(path):
    import duckdb

    resources = f"select unnest(rs) as r from '{path}'"
    scopes = f"select unnest(r.ss) as s from ({resources})"
    spans = f"select unnest(s.Spans) as span from ({scopes})"
    query = f"select count(*), sum(span.DurationNano), min(span.Name) from ({spans})"
    traces = duckdb.sql(f"select count(*) from '{path}'").fetchall()[0][0]
    number, duration, name = duckdb.sql(query).fetchall()[0]
    print(json.dumps([traces, number, int(duration), name]))


{"rows": rows, "count": count}[sys.argv[1]](sys.argv[2])
