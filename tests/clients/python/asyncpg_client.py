"""asyncpg."""

import asyncio
import json

import asyncpg
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


# -- recipe
async def register(connection):  # asyncpg.create_pool(..., init=register)
    """Encrypted columns take the values that their plain types take."""
    for plain in "text", "bigint", "numeric", "date", "timestamptz", "bool", "uuid", "bytea":
        encrypted = "encrypted_boolean" if plain == "bool" else f"encrypted_{plain}"
        await connection.set_builtin_type_codec(encrypted, schema="fieldcrypt", codec_name=plain)
    for schema, name in ("pg_catalog", "jsonb"), ("fieldcrypt", "encrypted_jsonb"):
        await connection.set_type_codec(
            name,
            schema=schema,
            encoder=lambda value: b"\1" + json.dumps(value).encode(),
            decoder=lambda binary: json.loads(binary[1:]),
            format="binary",  # for copy_records_to_table
        )


# -- end


def read(column):
    return column if TRANSPARENT else f"fieldcrypt.decrypt({column}) AS {column}"


def values(row):
    return list(native(row).values())


INSERT = "INSERT INTO customer ({}) VALUES ({})".format(
    ", ".join(COLUMNS), ", ".join(f"${number}" for number in range(1, len(COLUMNS) + 1))
)
EVERYTHING = f"SELECT {', '.join(map(read, COLUMNS))} FROM customer"


async def main():
    connection = await asyncpg.connect()
    await register(connection)
    with operation("insert"):
        await connection.execute(INSERT, *values(WORK["one"]))
    with operation("returning") as done:
        row = await connection.fetchrow(
            f"{INSERT} RETURNING {read('email')}", *values(WORK["returned"])
        )
        done.result = shown(row["email"])
    with operation("bulk"):
        await connection.executemany(INSERT, map(values, WORK["many"]))
    with operation("copy"):
        await connection.copy_records_to_table(
            "customer", records=map(values, WORK["copied"]), columns=list(COLUMNS)
        )

    for kind in "text", "bigint", "date", "uuid":
        with operation(f"find {kind}") as done:
            column, value = find(f"find {kind}")
            query = f"SELECT {read('name')} FROM customer WHERE {column} = $1"
            for _ in range(REPEAT):
                rows = await connection.fetch(query, value)
            done.result = [row["name"] for row in rows]
    with operation("find list") as done:
        rows = await connection.fetch(f"{EVERYTHING} WHERE email = ANY($1)", WORK["find list"])
        done.result = [row["name"] for row in rows]
    with operation("read") as done:
        done.result = shown_rows(await connection.fetch(f"{EVERYTHING} ORDER BY id"))
    with operation("sort") as done:
        by = "name" if TRANSPARENT else "fieldcrypt.decrypt(name)"
        rows = await connection.fetch(f"{EVERYTHING} ORDER BY {by}")
        done.result = [row["name"] for row in rows]
    with operation("related") as done:
        rows = await connection.fetch(
            f"SELECT item, {read('name')} FROM purchase"
            " JOIN customer ON customer.id = purchase.customer_id"
        )
        done.result = [list(row) for row in rows]

    with operation("update") as done:
        email = WORK["one"]["email"]
        row = await connection.fetchrow(f"{EVERYTHING} WHERE email = $1", email)
        changes = {**native(WORK["changes"]), "data": {**row["data"], "stage": WORK["stage"]}}
        pairs = ", ".join(f"{column} = ${number}" for number, column in enumerate(changes, 2))
        await connection.execute(
            f"UPDATE customer SET {pairs} WHERE email = $1", email, *changes.values()
        )
        done.result = shown_rows(await connection.fetch(f"{EVERYTHING} WHERE email = $1", email))
    await connection.close()
    print_report()


asyncio.run(main())
