"""What the Python clients have in common: their work, their native values, and their report."""

import json
import sys
from datetime import date, datetime
from decimal import Decimal
from uuid import UUID

WORK = json.load(sys.stdin)
TRANSPARENT = WORK["mode"] == "transparent"
COLUMNS = WORK["columns"]
REPEAT = 12  # so that drivers prepare the statement, and the server makes a generic plan

_NATIVE = {
    "text": str,
    "bigint": int,
    "numeric": Decimal,
    "date": lambda text: date.max if text == "infinity" else date.fromisoformat(text),
    "timestamptz": datetime.fromisoformat,
    "boolean": bool,
    "uuid": UUID,
    "bytea": bytes.fromhex,
    "jsonb": lambda value: value,
}
_results = {}


def native(row):
    """The values of a row as an application has them."""
    return {
        column: None if value is None else _NATIVE[COLUMNS[column]](value)
        for column, value in row.items()
    }


def find(name):
    """Column and value of a search."""
    column, value = WORK[name]["column"], WORK[name]["value"]
    return column, _NATIVE[COLUMNS[column]](value)


def shown(value):
    """A native value as JSON, with its type."""
    match value:
        case None:
            return None
        case bool() | dict():
            text = value
        case bytes():
            text = value.hex()
        case datetime():
            text = value.isoformat()
        case date():
            text = "infinity" if value == date.max else value.isoformat()
        case _:
            text = str(value)
    return [type(value).__name__, text]


def shown_rows(rows):
    return [{column: shown(row[column]) for column in COLUMNS} for row in rows]


class operation:
    """Records what the block gives to `result`, or its error."""

    def __init__(self, name):
        self.name = name
        self.result = "done"

    def __enter__(self):
        return self

    def __exit__(self, _, error, __):
        failed = {"error": f"{type(error).__name__}: {error}"}
        _results[self.name] = self.result if error is None else failed
        return isinstance(error, Exception)


def print_report():
    print(json.dumps(_results))
