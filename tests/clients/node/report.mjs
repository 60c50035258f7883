// What the clients for Node have in common: their work, and their report.

import { readFileSync } from "node:fs";

export const work = JSON.parse(readFileSync(0, "utf8"));
export const transparent = work.mode === "transparent";
export const columns = Object.keys(work.columns);
export const repeat = 12; // so that the server makes a generic plan of a named statement

const results = {};

/** Records what `run` returns, or its error. */
export async function operation(name, run) {
    try {
        results[name] = (await run()) ?? "done";
    } catch (error) {
        const cause = error.cause ?? error;
        results[name] = { error: `${cause.code}: ${cause.message}` };
    }
}

/** A native value as JSON, with its type. */
export function shown(column, value) {
    if (value === null) return null;
    return [value.constructor.name, text(work.columns[column], value)];
}

function text(kind, value) {
    if (Buffer.isBuffer(value)) return value.toString("hex");
    if (value instanceof Date) return kind === "date" ? localDate(value) : value.toISOString();
    if (typeof value === "object" || typeof value === "boolean") return value;
    return String(value).toLowerCase() === "infinity" ? "infinity" : String(value);
}

function localDate(date) {
    const year = date.getFullYear();
    const parts = [year > 0 ? year : 1 - year, date.getMonth() + 1, date.getDate()];
    const digits = parts.map((part, index) => String(part).padStart(index === 0 ? 4 : 2, "0"));
    return digits.join("-") + (year > 0 ? "" : " BC");
}

export function shownRows(rows) {
    return rows.map((row) =>
        Object.fromEntries(columns.map((column) => [column, shown(column, row[column])])),
    );
}

export function printReport() {
    console.log(JSON.stringify(results));
}
