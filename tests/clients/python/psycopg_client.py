"""psycopg 3."""

import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from report import (
    COLUMNS,
    REPEAT,
    TRANSPARENT,
    WORK,
    find,
    native,
    operation,
    print_report,
    shown,
    shown_rows,
)

NAMES = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
INSERT = sql.SQL("INSERT INTO customer ({}) VALUES ({})").format(
    NAMES, sql.SQL(", ").join(map(sql.Placeholder, COLUMNS))
)


def read(column):
    column = sql.Identifier(column)
    return column if TRANSPARENT else sql.SQL("fieldcrypt.decrypt({0}) AS {0}").format(column)


def parameters(row):
    return {
        column: Jsonb(value) if isinstance(value, dict) else value
        for column, value in native(row).items()
    }


with psycopg.connect(autocommit=True, row_factory=dict_row) as connection:
    with operation("insert"):
        connection.execute(INSERT, parameters(WORK["one"]))
    with operation("returning") as done:
        returning = sql.SQL("{} RETURNING {}").format(INSERT, read("email"))
        row = connection.execute(returning, parameters(WORK["returned"])).fetchone()
        done.result = shown(row["email"])
    with operation("bulk"), connection.cursor() as cursor:
        cursor.executemany(INSERT, map(parameters, WORK["many"]))
    with operation("copy"), connection.cursor() as cursor:
        statement = sql.SQL("COPY customer ({}) FROM STDIN").format(NAMES)
        *as_text, as_binary = (list(parameters(row).values()) for row in WORK["copied"])
        with cursor.copy(statement) as copy:
            for row in as_text:
                copy.write_row(row)
        with cursor.copy(statement + sql.SQL(" (FORMAT binary)")) as copy:
            copy.set_types(list(COLUMNS.values()))
            copy.write_row(as_binary)

    everything = sql.SQL("SELECT {} FROM customer").format(sql.SQL(", ").join(map(read, COLUMNS)))
    for kind in "text", "bigint", "date", "uuid":
        with operation(f"find {kind}") as done:
            column, value = find(f"find {kind}")
            query = sql.SQL("SELECT {} FROM customer WHERE {} = %s")
            query = query.format(read("name"), sql.Identifier(column))
            for _ in range(REPEAT):
                rows = connection.execute(query, [value])
            done.result = [row["name"] for row in rows]
    with operation("find list") as done:
        rows = connection.execute(
            everything + sql.SQL(" WHERE email = ANY(%s)"), [WORK["find list"]]
        )
        done.result = [row["name"] for row in rows]
    with operation("read") as done:
        done.result = shown_rows(connection.execute(everything + sql.SQL(" ORDER BY id")))
    with operation("sort") as done:
        by = "name" if TRANSPARENT else "fieldcrypt.decrypt(name)"
        rows = connection.execute(everything + sql.SQL(f" ORDER BY {by}"))
        done.result = [row["name"] for row in rows]
    with operation("related") as done:
        query = sql.SQL(
            "SELECT item, {} FROM purchase JOIN customer ON customer.id = purchase.customer_id"
        )
        rows = connection.execute(query.format(read("name")))
        done.result = [list(row.values()) for row in rows]

    with operation("update") as done:
        of_ann = sql.SQL(" WHERE email = %(email)s")
        email = {"email": WORK["one"]["email"]}
        document = connection.execute(everything + of_ann, email).fetchone()["data"]
        document["stage"] = WORK["stage"]
        changes = {**parameters(WORK["changes"]), "data": Jsonb(document)}
        pairs = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column))
            for column in changes
        )
        connection.execute(
            sql.SQL("UPDATE customer SET {}").format(pairs) + of_ann, {**changes, **email}
        )
        done.result = shown_rows(connection.execute(everything + of_ann, email))
print_report()
