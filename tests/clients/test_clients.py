"""Each client writes, finds, reads and changes the same customers, with the types of its language.

docs/clients.md shows the outcome and the recipes; FIELDCRYPT_WRITE_CLIENTS=1 writes the outcome.
"""

import json
import os
import re
import subprocess
import time
from datetime import datetime
from decimal import Decimal

import psycopg
import pytest
import table
from cases import (
    CLIENTS,
    COLUMNS,
    DIFFERENCES,
    FAR,
    FOUND,
    FOUND_LIST,
    MODES,
    OPERATIONS,
    RELATED,
    RETURNED,
    row_updated,
    rows_written,
    work,
)
from programs import HERE, command

INDEXES = {"customer_email", "customer_customer_no_key", "customer_birthday", "customer_ref"}
# From a comment `-- recipe` to `-- end`, as in the page from ``` to ```.
RECIPE = re.compile(r"^(?:#|//) -- recipe\n(.*?)^(?:#|//) -- end$", re.MULTILINE | re.DOTALL)
BLOCK = re.compile(r"^```(?:python|js|rust|java)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="session")
def report(customers):
    """What a client's program said that it did, in a mode."""
    reports = {}

    def run(client, mode):
        if (client, mode) not in reports:
            customers.execute("TRUNCATE customer RESTART IDENTITY")
            before = scans(customers)
            reports[client, mode] = _run(customers, client, mode)
            assert_all_encrypted(customers)
            assert_indexes_used(customers, before)
        return reports[client, mode]

    return run


def _run(customers, client, mode):
    cluster = customers.cluster
    environment = {
        **os.environ,
        "PGHOST": "127.0.0.1" if client == "pgjdbc" else str(cluster.dir),
        "PGPORT": str(cluster.port),
        "PGUSER": mode,
        "PGDATABASE": customers.name,
        "TZ": "Europe/Berlin",
    }
    program = subprocess.run(
        command(client),
        input=json.dumps(work(client, mode)),
        capture_output=True,
        text=True,
        env=environment,
    )
    assert program.returncode == 0, program.stdout + program.stderr
    return json.loads(program.stdout)


def assert_all_encrypted(customers):
    for column in COLUMNS:
        value = "data #>> '{contact,email}'" if column == "data" else f"{column}::text"
        assert customers.value(f"SELECT bool_and({value} LIKE 'fc1:%') FROM customer"), column


def scans(customers):
    """How often each index has been used, as far as sessions have said."""
    rows = customers.execute("SELECT indexrelname, idx_scan FROM pg_stat_user_indexes")
    return {name: count for name, count in rows if name in INDEXES}


def assert_indexes_used(customers, before):
    deadline = time.monotonic() + 20
    while unused := {name for name, count in scans(customers).items() if count == before[name]}:
        assert time.monotonic() < deadline, unused
        time.sleep(0.1)


def expected(client, operation):
    names = [row["name"] for row in rows_written(client)]
    match operation:
        case "insert" | "bulk" | "copy":
            return "done"
        case "returning":
            return [CLIENTS[client].types["text"], RETURNED["email"]]
        case "find list":
            return sorted(FOUND_LIST)
        case "read":
            return [shown(client, row) for row in rows_written(client)]
        case "related":
            return RELATED
        case "sort":
            return sorted(names)
        case "update":
            return [shown(client, row_updated())]
        case _:
            return FOUND


def shown(client, row):
    types = CLIENTS[client].types
    return {
        column: None if value is None else [types[COLUMNS[column]], comparable(column, value)]
        for column, value in row.items()
    }


def outcome(client, operation, result):
    """What a program reported, in the form of what is expected."""
    if result is None or "error" in result:
        return result
    match operation:
        case "find list":
            return sorted(result)
        case "read" | "update":
            return [reported(client, row) for row in result]
        case _:
            return result


def reported(client, row):
    types = CLIENTS[client].types
    # infinity is of another type in some clients
    far = row["name"][1] in {far["name"] for far in FAR.values()}
    return {
        column: value
        and [types[COLUMNS[column]] if far else value[0], comparable(column, value[1])]
        for column, value in row.items()
    }


def comparable(column, value):
    match COLUMNS[column]:
        case "numeric":
            return Decimal(value)
        case "timestamptz":
            return datetime.fromisoformat(value)
        case _:
            return value


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("client", CLIENTS)
def test_operation(report, client, mode, operation):
    result = outcome(client, operation, report(client, mode).get(operation))
    if CLIENTS[client].gap(mode, operation):
        assert result != expected(client, operation), "no gap any more"
    else:
        assert result == expected(client, operation)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.statement)
@pytest.mark.parametrize("mode", MODES)
def test_difference(customers, mode, difference):
    parameters = None if difference.value is None else [difference.value]
    with customers.connect(mode) as connection, pytest.raises(psycopg.Error) as caught:
        connection.execute(difference.statement, parameters)
    assert caught.value.sqlstate == difference.sqlstate, caught.value


@pytest.mark.parametrize(
    "mode, condition, count",
    [
        ("transparent", "email::text LIKE 'condition%'", 1),
        ("explicit", "email::text LIKE 'condition%'", 0),
        ("transparent", "data #>> '{contact,email}' = 'condition@example.com'", 0),
        ("explicit", "data #>> '{contact,email}' = 'condition@example.com'", 0),
        ("transparent", "fieldcrypt.matches(data, 'customer.email', 'condition@example.com')", 1),
    ],
)
def test_condition(customers, mode, condition, count):
    """Conditions that ORMs write; the page says which of them find nothing."""
    with customers.connect(mode, autocommit=False) as connection:
        connection.execute("""
            INSERT INTO customer (email, data)
            VALUES ('condition@example.com', '{"contact": {"email": "condition@example.com"}}')
        """)
        assert connection.execute(f"SELECT FROM customer WHERE {condition}").rowcount == count
        connection.rollback()


def test_recipes():
    """The recipes in the page are the lines that the clients run."""
    sources = [path for path in HERE.rglob("*") if path.suffix in {".py", ".mjs", ".rs", ".java"}]
    run = {
        recipe.strip()
        for source in sources
        if "node_modules" not in source.parts
        for recipe in RECIPE.findall(source.read_text())
    }
    shown = {block.strip() for block in BLOCK.findall(table.PAGE.read_text())}
    assert shown == run


def test_page(report):
    """The tables in the page are what the clients did."""

    def works(client, mode, operation):
        result = report(client, mode)[operation]
        return outcome(client, operation, result) == expected(client, operation)

    written = table.render(works)
    if os.environ.get("FIELDCRYPT_WRITE_CLIENTS"):
        table.write(written)
    assert table.in_page() == written
