"""The ways in which applications write values: into `lead`, and in the same way into `plain_lead`,
whose columns are not encrypted; and how columns that were plain are encrypted.

A way is a function of a `Writer` and the `Values` of a row. It is called twice: the second time the
row has another id, and the write fails, since the same value stands in a unique column.
"""

import base64
import json
import os
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import sql

# Too long for the table's own file, and for `work_mem` of the sessions. In bytes.
LENGTH = 100_000

TABLES = """
    SELECT fieldcrypt.create_field('lead.note');
    CREATE TABLE lead (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        ssn fieldcrypt.encrypted_text('lead.ssn') UNIQUE,
        data jsonb,
        note fieldcrypt.encrypted_text('lead.note'));
    CREATE INDEX ON lead USING gin (fieldcrypt.tokens(data));
    SELECT fieldcrypt.protect_table('lead', 'account_id');
    SELECT fieldcrypt.protect_jsonb('lead', 'data', 'lead.data', 'account_id');
    SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', 'lead.email');

    CREATE TABLE plain_lead (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        ssn text UNIQUE,
        data jsonb,
        note text);
    CREATE INDEX ON plain_lead USING gin (data);
"""

# For both tables: {0}.
AROUND_A_TABLE = """
    ALTER TABLE {0} REPLICA IDENTITY FULL;
    ALTER TABLE {0} SET (autovacuum_analyze_threshold = 0, autovacuum_analyze_scale_factor = 0,
        autovacuum_vacuum_threshold = 1000000, autovacuum_vacuum_insert_threshold = -1);
    CREATE INDEX ON {0} USING hash (ssn);
    CREATE INDEX ON {0} ((data #>> '{{contact,email}}'));
    CREATE STATISTICS {0}_statistics (ndistinct, dependencies, mcv) ON ssn, account_id FROM {0};
    CREATE FUNCTION into_{0}(id int, ssn text, data jsonb, note text) RETURNS void
        LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO {0} (id, ssn, data, note) VALUES (id, ssn, data, note); END$$;
    CREATE VIEW {0}_entry AS
        SELECT 0 AS id, ''::text AS ssn, '{{}}'::jsonb AS data, ''::text AS note;
    CREATE FUNCTION enter_{0}() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        INSERT INTO {0} (id, ssn, data, note) VALUES (NEW.id, NEW.ssn, NEW.data, NEW.note);
        RETURN NEW; END$$;
    CREATE TRIGGER enter INSTEAD OF INSERT ON {0}_entry
        FOR EACH ROW EXECUTE FUNCTION enter_{0}();
    GRANT ALL ON {0}, {0}_entry TO app;
"""

# A copy of temporary files while a statement has them: its new rows, which are too large for
# memory. {0} is where to.
KEEP_TEMPORARY_FILES = """
    CREATE FUNCTION keep_temporary_files() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
        $$BEGIN
            COPY (SELECT 1) TO PROGRAM
                'cat >/dev/null; mkdir -p base/pgsql_tmp; cp -r base/pgsql_tmp {0}';
            RETURN NULL;
        END$$
"""
KEEPING_TRIGGERS = """
    CREATE TRIGGER inserted AFTER INSERT ON {0} REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION keep_temporary_files();
    CREATE TRIGGER updated AFTER UPDATE ON {0} REFERENCING NEW TABLE AS new_rows
        FOR EACH STATEMENT EXECUTE FUNCTION keep_temporary_files();
"""


@dataclass(frozen=True)
class Values:
    """What is written into a row, each a canary with something around it."""

    ssn: str
    email: str
    note: str

    @classmethod
    def new(cls, canaries):
        # what cannot be compressed, and is found where it is stored
        rest = base64.b64encode(os.urandom(LENGTH)).decode()
        return cls(canaries.new(), canaries.new(), f"{canaries.new()} {rest}")

    @property
    def columns(self):
        """The columns in which the canaries are."""
        return {self.ssn: "ssn", self.email: "data", self.note.split()[0]: "note"}

    @property
    def canaries(self):
        return set(self.columns)

    @property
    def data(self):
        return {"source": "web", "contact": {"email": self.email}}

    def row(self, number):
        data = json.dumps(self.data)
        return {"id": number, "ssn": self.ssn, "data": data, "note": self.note}


@dataclass(frozen=True)
class Writer:
    """A session that writes into a table, with the values as parameters or as literals."""

    connection: object
    table: str
    literals: bool

    def execute(self, statement, row, **options):
        """{table} in the statement is the table, {ssn} the value in the row, and so on."""
        text = statement.replace("{table}", self.table)
        for name, value in row.items():
            literal = sql.Literal(value).as_string() if self.literals else f"%({name})s"
            text = text.replace(f"{{{name}}}", literal)
        used = {name: row[name] for name in row if f"%({name})s" in text}
        self.connection.execute(text, used or None, **options)


INSERT = "INSERT INTO {table} (id, ssn, data, note) VALUES ({id}, {ssn}, {data}, {note})"
INSERT_SSN = "INSERT INTO {table} (id, ssn) VALUES ({id}, {ssn})"
SET = "SET ssn = {ssn}, data = {data}, note = {note}"


def insert(writer, row):
    writer.execute(INSERT, row)


def copy(writer, row):
    statement = f"COPY {writer.table} (id, ssn, data, note) FROM STDIN"
    with writer.connection.cursor().copy(statement) as target:
        target.write("\t".join(map(str, row.values())) + "\n")


def update(writer, row):
    writer.execute(f"UPDATE {{table}} {SET} WHERE id = {{id}}", row)


def merge(writer, row):
    writer.execute(
        """
        MERGE INTO {table} USING (VALUES ({id}, {ssn}::text, {data}::jsonb, {note}::text))
                AS new (id, ssn, data, note) ON {table}.id = new.id
            WHEN MATCHED THEN UPDATE SET ssn = new.ssn, data = new.data, note = new.note
            WHEN NOT MATCHED THEN INSERT (id, ssn, data, note)
                VALUES (new.id, new.ssn, new.data, new.note)
        """,
        row,
    )


def on_conflict(writer, row):
    writer.execute(
        f"{INSERT} ON CONFLICT (id)"
        " DO UPDATE SET ssn = EXCLUDED.ssn, data = EXCLUDED.data, note = EXCLUDED.note",
        row,
    )


def function(writer, row):
    writer.execute("SELECT into_{table}({id}, {ssn}, {data}, {note})", row)


def trigger(writer, row):
    writer.execute(INSERT.replace("{table}", "{table}_entry"), row)


def prepared(writer, row):
    if writer.literals:
        name = f"write_{row['id']}"
        statement = INSERT.replace("({id}, {ssn}, {data}, {note})", "($1, $2, $3, $4)")
        writer.execute(f"PREPARE {name} (int, text, jsonb, text) AS {statement}", {})
        writer.execute(f"EXECUTE {name} ({{id}}, {{ssn}}, {{data}}, {{note}})", row)
    else:
        writer.execute(INSERT, row, prepare=True)


def cursor(writer, row):
    # without a ROLLBACK, which would then be the session's last statement
    writer.connection.execute("BEGIN")
    writer.execute(
        "DECLARE found CURSOR FOR SELECT id FROM {table}"
        " WHERE id = {id} AND ssn IS DISTINCT FROM {ssn} FOR UPDATE",
        row,
    )
    writer.connection.execute("FETCH found")
    writer.execute(f"UPDATE {{table}} {SET} WHERE CURRENT OF found", row)
    writer.connection.execute("COMMIT")


def do(writer, row):
    writer.execute(f"DO $$BEGIN {INSERT}; END$$", row)


PARAMETERS, LITERALS = "parameters", "literals"

# COPY has neither, and a DO block no parameters.
WAYS = {
    "INSERT": (insert, [PARAMETERS, LITERALS]),
    "COPY": (copy, [PARAMETERS]),
    "UPDATE": (update, [PARAMETERS, LITERALS]),
    "MERGE": (merge, [PARAMETERS, LITERALS]),
    "ON CONFLICT": (on_conflict, [PARAMETERS, LITERALS]),
    "function": (function, [PARAMETERS, LITERALS]),
    "trigger": (trigger, [PARAMETERS, LITERALS]),
    "prepared": (prepared, [PARAMETERS, LITERALS]),
    "cursor": (cursor, [PARAMETERS, LITERALS]),
    "DO": (do, [LITERALS]),
}
# How many of the two rows have to be there before.
ROWS_BEFORE = {"UPDATE": 2, "MERGE": 1, "ON CONFLICT": 1, "cursor": 2}

# What is selected of a row: in plain, and not just where it is stored.
READ = {
    "encrypted": "fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(data), fieldcrypt.decrypt(note)",
    "plain": "ssn, data, note || ''",
}


def read(reader, columns, row):
    """Reads it in several ways; yields while a sort that is too large for memory goes on."""
    where = "FROM {table} WHERE ssn = {ssn}"
    reader.execute(f"SELECT {columns} {where}", row)
    reader.connection.execute("SET fieldcrypt.transparent = on")
    reader.execute(f"SELECT ssn, data, note {where} ORDER BY note", row)
    reader.connection.execute("BEGIN")
    reader.execute(f"DECLARE sorted CURSOR FOR SELECT {columns} {where} OR id > 0 ORDER BY 3", row)
    reader.connection.execute("FETCH sorted")
    yield
    reader.connection.execute("COMMIT")
    with suppress(psycopg.errors.InvalidTextRepresentation):
        reader.execute(f"SELECT {columns.split(', ')[0]}::int {where}", row)


# Tables of plain columns.
MIGRATED = """
    CREATE TABLE migrated (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        ssn text UNIQUE,
        data jsonb,
        note text);
    CREATE INDEX ON migrated ((data #>> '{contact,email}'));
    CREATE TABLE plain_migrated (LIKE migrated INCLUDING ALL);
    ALTER TABLE migrated REPLICA IDENTITY FULL;
    ALTER TABLE plain_migrated REPLICA IDENTITY FULL;
    ALTER TABLE migrated OWNER TO app;
    -- of one row there are no statistics
    INSERT INTO migrated SELECT n, 'acme', n FROM generate_series(11, 15) AS n;
    INSERT INTO plain_migrated SELECT n, 'acme', n FROM generate_series(11, 15) AS n;
"""


@dataclass(frozen=True)
class Migration:
    """How the columns of such a table are encrypted, or changed in the same way."""

    table: str
    fails: str
    of_columns: list
    protects: str = ""


_SEAL_SSN = "ALTER TABLE migrated ALTER ssn TYPE fieldcrypt.encrypted_text('lead.ssn')"
MIGRATIONS = {
    "encrypted": Migration(
        table="migrated",
        fails=_SEAL_SSN,
        of_columns=[
            _SEAL_SSN,
            "ALTER TABLE migrated ADD sealed_note fieldcrypt.encrypted_text('lead.note')",
            "UPDATE migrated SET sealed_note = note",
            "ALTER TABLE migrated DROP note",
            "ALTER TABLE migrated RENAME sealed_note TO note",
        ],
        protects="""
            SELECT fieldcrypt.protect_jsonb('migrated', 'data', 'migrated.data', 'account_id');
            SELECT fieldcrypt.protect_path('migrated.data', '{contact.email}', 'lead.email');
        """,
    ),
    "plain": Migration(
        table="plain_migrated",
        fails="CREATE UNIQUE INDEX ON plain_migrated (lower(ssn))",
        of_columns=[
            "ALTER TABLE plain_migrated ALTER ssn TYPE text USING ssn || ''",
            "ALTER TABLE plain_migrated ADD other_note text",
            "UPDATE plain_migrated SET other_note = note || ''",
            "ALTER TABLE plain_migrated DROP note",
            "ALTER TABLE plain_migrated RENAME other_note TO note",
        ],
    ),
}
