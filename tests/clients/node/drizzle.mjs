// Drizzle, with node-postgres.

import { asc, eq, getTableColumns, inArray, relations, sql } from "drizzle-orm";
import { drizzle } from "drizzle-orm/node-postgres";
import * as core from "drizzle-orm/pg-core";
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

const bytea = core.customType({ dataType: () => "bytea" });

const customer = core.pgTable("customer", {
    id: core.bigint({ mode: "bigint" }).generatedAlwaysAsIdentity(),
    name: core.text(),
    email: core.varchar({ length: 320 }),
    phone: core.text(),
    customer_no: core.bigint({ mode: "bigint" }),
    balance: core.numeric(),
    birthday: core.date(),
    seen: core.timestamp({ withTimezone: true }),
    active: core.boolean(),
    ref: core.uuid(),
    photo: bytea(),
    notes: core.jsonb(),
    data: core.jsonb(),
});

const purchase = core.pgTable("purchase", {
    id: core.bigint({ mode: "bigint" }).primaryKey(),
    customer_id: core.bigint({ mode: "bigint" }),
    item: core.text(),
});
const purchaseRelations = relations(purchase, ({ one }) => ({
    customer: one(customer, { fields: [purchase.customer_id], references: [customer.id] }),
}));

// -- recipe
/** For select() and returning(): the columns of a table, read through decrypt(). */
function decrypted(columns) {
    const read = (column) => sql`fieldcrypt.decrypt(${column})`.mapWith(column);
    return Object.fromEntries(Object.entries(columns).map(([key, column]) => [key, read(column)]));
}
// -- end

const { id: _, ...encrypted } = getTableColumns(customer);
const read = (wanted) => (transparent ? wanted : decrypted(wanted));

function native(row) {
    return Object.fromEntries(
        Object.entries(row).map(([column, value]) => [column, nativeValue(column, value)]),
    );
}

function nativeValue(column, value) {
    if (value === null) return null;
    switch (work.columns[column]) {
        case "bigint":
            return BigInt(value);
        case "timestamptz":
            return new Date(value);
        case "bytea":
            return Buffer.from(value, "hex");
        default:
            return value;
    }
}

const pool = new pg.Pool();
const db = drizzle({ client: pool, schema: { customer, purchase, purchaseRelations } });
const name = read({ name: customer.name });
const names = (rows) => rows.map((row) => row.name);

await operation("insert", async () => {
    await db.insert(customer).values(native(work.one));
});
await operation("returning", async () => {
    const returning = read({ email: customer.email });
    const [row] = await db.insert(customer).values(native(work.returned)).returning(returning);
    return shown("email", row.email);
});
await operation("bulk", async () => {
    await db.insert(customer).values(work.many.map(native));
});

for (const kind of ["find text", "find bigint", "find date", "find uuid"]) {
    await operation(kind, async () => {
        const { column, value } = work[kind];
        const query = db
            .select(name)
            .from(customer)
            .where(eq(customer[column], sql.placeholder("value")))
            .prepare(kind);
        let found;
        for (let n = 0; n < repeat; n++) {
            found = await query.execute({ value: nativeValue(column, value) });
        }
        return names(found);
    });
}
await operation("find list", async () => {
    const where = inArray(customer.email, work["find list"]);
    return names(await db.select(name).from(customer).where(where));
});
await operation("read", async () => {
    return shownRows(await db.select(read(encrypted)).from(customer).orderBy(customer.id));
});
await operation("sort", async () => {
    const by = transparent ? customer.name : sql`fieldcrypt.decrypt(${customer.name})`;
    return names(await db.select(name).from(customer).orderBy(asc(by)));
});
await operation("related", async () => {
    const wanted = transparent
        ? { columns: { name: true } }
        : { columns: {}, extras: { name: sql`fieldcrypt.decrypt(${customer.name})`.as("name") } };
    const bought = await db.query.purchase.findMany({ with: { customer: wanted } });
    return bought.map((row) => [row.item, row.customer.name]);
});

await operation("update", async () => {
    const ofAnn = eq(customer.email, work.one.email);
    const [{ data }] = await db.select(read(encrypted)).from(customer).where(ofAnn);
    const changes = native({ ...work.changes, data: { ...data, stage: work.stage } });
    await db.update(customer).set(changes).where(ofAnn);
    return shownRows(await db.select(read(encrypted)).from(customer).where(ofAnn));
});

await pool.end();
printReport();
