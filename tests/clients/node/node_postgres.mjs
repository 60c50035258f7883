// node-postgres.

import pg from "pg";
import {
    columns,
    operation,
    printReport,
    repeat,
    shown,
    shownRows,
    transparent,
    work,
} from "./report.mjs";

function native(column, value) {
    if (value === null) return null;
    switch (work.columns[column]) {
        case "bigint":
            return BigInt(value);
        case "date":
            return /^\d{4}-\d{2}-\d{2}$/.test(value) ? new Date(`${value}T00:00:00`) : value;
        case "timestamptz":
            return new Date(value);
        case "bytea":
            return Buffer.from(value, "hex");
        default:
            return value;
    }
}

const values = (row) => columns.map((column) => native(column, row[column]));
const placeholders = (count, first) => Array.from({ length: count }, (_, n) => `$${first + n}`);
const read = (column) =>
    transparent ? column : `fieldcrypt.decrypt(${column}) AS ${column}`;

const into = `INSERT INTO customer (${columns}) VALUES`;
const oneRow = `(${placeholders(columns.length, 1)})`;
const everything = `SELECT ${columns.map(read)} FROM customer`;

const client = new pg.Client();
await client.connect();

await operation("insert", async () => {
    await client.query(`${into} ${oneRow}`, values(work.one));
});
await operation("returning", async () => {
    const statement = `${into} ${oneRow} RETURNING ${read("email")}`;
    const { rows } = await client.query(statement, values(work.returned));
    return shown("email", rows[0].email);
});
await operation("bulk", async () => {
    const rows = work.many.map(
        (_, n) => `(${placeholders(columns.length, n * columns.length + 1)})`,
    );
    await client.query(`${into} ${rows}`, work.many.flatMap(values));
});

for (const name of ["find text", "find bigint", "find date", "find uuid"]) {
    await operation(name, async () => {
        const { column, value } = work[name];
        const text = `SELECT ${read("name")} FROM customer WHERE ${column} = $1`;
        let found;
        for (let n = 0; n < repeat; n++) {
            found = await client.query({ name, text, values: [native(column, value)] });
        }
        return found.rows.map((row) => row.name);
    });
}
await operation("find list", async () => {
    const found = await client.query(`${everything} WHERE email = ANY($1)`, [work["find list"]]);
    return found.rows.map((row) => row.name);
});
await operation("read", async () => {
    return shownRows((await client.query(`${everything} ORDER BY id`)).rows);
});
await operation("sort", async () => {
    const by = transparent ? "name" : "fieldcrypt.decrypt(name)";
    return (await client.query(`${everything} ORDER BY ${by}`)).rows.map((row) => row.name);
});
await operation("related", async () => {
    const customers = "JOIN customer ON customer.id = purchase.customer_id";
    const text = `SELECT item, ${read("name")} FROM purchase ${customers}`;
    return (await client.query({ text, rowMode: "array" })).rows;
});

await operation("update", async () => {
    const ofAnn = [work.one.email];
    const [{ data }] = (await client.query(`${everything} WHERE email = $1`, ofAnn)).rows;
    const changes = { ...work.changes, data: { ...data, stage: work.stage } };
    const pairs = Object.keys(changes).map((column, n) => `${column} = $${n + 2}`);
    const changed = Object.entries(changes).map(([column, value]) => native(column, value));
    await client.query(`UPDATE customer SET ${pairs} WHERE email = $1`, [...ofAnn, ...changed]);
    return shownRows((await client.query(`${everything} WHERE email = $1`, ofAnn)).rows);
});

await client.end();
printReport();
