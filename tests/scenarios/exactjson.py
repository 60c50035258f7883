"""JSON that keeps the digits of its numbers: 1.10 stays 1.10, and differs from 1.1."""

import json
from decimal import Decimal
from functools import partial

from psycopg.types.json import set_json_dumps, set_json_loads


class Number(Decimal):
    """A number with a fraction, equal only to one that is written with the same digits."""

    def __eq__(self, other):
        return isinstance(other, Decimal) and self.as_tuple() == other.as_tuple()

    __hash__ = Decimal.__hash__


loads = partial(json.loads, parse_float=Number)


def dumps(value):
    if isinstance(value, dict):
        return "{" + ",".join(f"{dumps(key)}:{dumps(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    if isinstance(value, Decimal):
        return format(value, "f")
    return json.dumps(value, ensure_ascii=False)


def register(connection):
    """Makes a connection read and write JSON in this way."""
    set_json_dumps(dumps, connection)
    set_json_loads(loads, connection)
