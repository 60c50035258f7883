"""What jobs and rotations cost, beside plain UPDATEs of the same rows in the same batches.

Of a job, the step that writes is measured: the CPU time of its backend from the first batch to the
last. Everything else is measured as elsewhere.
"""

import threading
import time

from harness import Database, write_keyring

# About as many rows as a batch of a job has.
BATCH = 5000

SCHEMA = """
    CREATE ROLE bench_mover LOGIN IN ROLE bench_app, fieldcrypt_admin;
    SELECT fieldcrypt.create_field('moved.email', search => '{exact}', normalizer => 'email');
"""
TABLES = """
    DROP TABLE IF EXISTS moved, moved_documents, moved_paths CASCADE;
    CREATE TABLE moved (id bigint PRIMARY KEY, account_id text NOT NULL, v text NOT NULL);
    CREATE TABLE moved_documents (
        id bigint PRIMARY KEY, account_id text NOT NULL, data jsonb NOT NULL);
    INSERT INTO moved SELECT i, 'acme', lpad(i::text, 11, '0')
        FROM generate_series(1::bigint, {rows}) AS i;
    INSERT INTO moved_documents
        SELECT id, account_id, jsonb_build_object('ssn', v, 'source', 'web', 'score', id % 1000,
            'contact', jsonb_build_object('email', 'customer.' || id || '@mail.example'))
        FROM moved;
    CREATE TABLE moved_paths (LIKE moved_documents INCLUDING ALL);
    INSERT INTO moved_paths SELECT * FROM moved_documents;
"""
PROTECT = {
    "path": """
        SELECT fieldcrypt.protect_jsonb('moved_paths', 'data', 'moved.paths', 'account_id');
        SELECT fieldcrypt.protect_path('moved.paths', '{ssn}', 'ssn');
    """,
    "document": """
        SELECT fieldcrypt.protect_jsonb('moved_documents', 'data', 'moved.data', 'account_id');
        SELECT fieldcrypt.protect_path('moved.data', '{ssn}', 'ssn');
        SELECT fieldcrypt.protect_path('moved.data', '{contact.email}', 'moved.email');
    """,
}
FORGET_DOCUMENTS = """
    SELECT fieldcrypt.unprotect_path('moved.data', '{ssn,contact.email}');
    SELECT fieldcrypt.unprotect_jsonb('moved_documents', 'data');
    SELECT fieldcrypt.unprotect_path('moved.paths', '{ssn}');
    SELECT fieldcrypt.unprotect_jsonb('moved_paths', 'data');
"""
# Of each job its call, its target, and the table and column that it writes.
COLUMN = ("public.moved.v", "moved", "v")
PATH = ("moved.paths", "moved_paths", "data")
DATA = ("moved.data", "moved_documents", "data")
ENCRYPT = {
    "column": ("CALL fieldcrypt.encrypt_column('moved', 'v', 'ssn', 'account_id')", *COLUMN),
    "path": ("CALL fieldcrypt.encrypt_existing('moved.paths')", *PATH),
    "document": ("CALL fieldcrypt.encrypt_existing('moved.data')", *DATA),
}
REENCRYPT = {
    "column": ("CALL fieldcrypt.reencrypt_column('moved', 'v')", *COLUMN),
    "path": ("CALL fieldcrypt.reencrypt_existing('moved.paths')", *PATH),
    "document": ("CALL fieldcrypt.reencrypt_existing('moved.data')", *DATA),
}
WHAT = {"column": "a column", "path": "a path", "document": "two paths"}
STEP = "SELECT step FROM fieldcrypt.job WHERE target = %s AND state = 'running'"


def tidy(database, table):
    """Leaves no dead rows, and the pages in memory and on disk."""
    database.execute(f"VACUUM (FULL, FREEZE, ANALYZE) {table}")
    database.execute("CHECKPOINT")


def update(backend, table, column):
    """Writes every row once, as it is, in batches of whole pages."""
    (pages, count) = backend.execute(
        "SELECT relpages, reltuples FROM pg_class WHERE oid = %s::regclass", [table]
    ).fetchone()
    step = max(1, round(pages * BATCH / count))
    for start in range(0, pages, step):
        backend.execute(
            f"UPDATE {table} SET {column} = {column}"
            f" WHERE ctid >= '({start},0)' AND ctid < '({start + step},0)'"
        )


class Job(threading.Thread):
    """Runs a job in a session of its own, and measures its step `backfill`."""

    def __init__(self, database, clock, call, target):
        super().__init__()
        self.watcher, self.call, self.target = database, call, target
        self.connection = database.connect("bench_mover")
        self.clock = clock(self.connection)
        self.nanoseconds = None

    def run(self):
        self.connection.execute(self.call)

    def measure(self):
        """Starts it, and waits for its end."""
        self.start()
        begin = None
        while self.is_alive() and self.nanoseconds is None:
            row = self.watcher.execute(STEP, [self.target]).fetchone()
            now = self.clock.running()
            if row == ("backfill",) and begin is None:
                begin = now
            elif row != ("backfill",) and begin is not None:
                self.nanoseconds = now - begin
            time.sleep(0.002)
        self.join()
        self.connection.close()
        return self.nanoseconds


def measure(database, backend, results, scale, clock):
    """Everything; `clock` makes a clock of a connection."""
    database.execute(SCHEMA)
    rows = scale.rows
    replica = database.connect()
    replica.execute("SET session_replication_role = replica")
    plain = clock(replica)

    def turn(kind, name, jobs, number, prepare=""):
        call, target, table, column = jobs[kind]
        tidy(database, table)
        nanoseconds = plain.time(lambda: update(replica, table, column))
        database.execute(prepare)
        tidy(database, table)
        written = Job(database, clock, call, target).measure()
        if number:
            results.add("jobs", f"UPDATE of {WHAT[kind]}, before {name}", nanoseconds / rows)
            results.add("jobs", f"{name} of {WHAT[kind]}", written / rows)

    for number in range(scale.job_rounds + 1):
        backend.execute(TABLES.format(rows=rows))
        for kind in ENCRYPT:
            turn(kind, "encryption", ENCRYPT, number, PROTECT.get(kind, ""))
        database.execute("SELECT fieldcrypt.rotate_account_key('acme')")
        for kind in REENCRYPT:
            turn(kind, "re-encryption", REENCRYPT, number)
        read_meanwhile(database, backend, results, number)
        database.execute(FORGET_DOCUMENTS)
    replica.close()
    rotate_root(database, results, scale, clock)
    rotate_index_key(database.cluster, results, scale, clock)


def read_meanwhile(database, backend, results, number):
    """Look-ups by primary key, with and without a job that writes the table."""
    name = f"read{number}"
    backend.connection.pgconn.prepare(name.encode(), b"SELECT id FROM moved WHERE id = $1")

    def look_ups(enough):
        done = 0
        while not enough(done):
            keys = [str(1 + (done + i) * 7919 % 10000).encode() for i in range(1000)]
            backend.pipeline(name.encode(), keys)
            done += 1000
        return done

    database.execute("SELECT fieldcrypt.rotate_account_key('acme')")
    tidy(database, "moved")
    count = 0

    def quiet():
        nonlocal count
        count = look_ups(lambda done: done >= 20000)

    alone = backend.time(quiet) / count
    job = threading.Thread(target=run_job, args=[database, REENCRYPT["column"][0]])
    job.start()

    def busy():
        nonlocal count
        count = look_ups(lambda done: done >= 1000 and not job.is_alive())

    beside = backend.time(busy) / count
    job.join()
    if number:
        results.add("reads", "look-up", alone)
        results.add("reads", "look-up, beside a job", beside)


def run_job(database, call):
    with database.connect("bench_mover") as connection:
        connection.execute(call)


def rotate_root(database, results, scale, clock):
    """The wrapping keys of many accounts, under the other root key and back."""
    database.execute(
        "SELECT count(fieldcrypt.create_account('rotated-' || i))"
        f" FROM generate_series(1, {scale.rotated_accounts}) AS i"
    )
    session = database.connect()
    time_of = clock(session).time
    update_all = (
        "UPDATE fieldcrypt.account_key SET check_value = check_value WHERE purpose = 'wrapping'"
    )
    for number in range(scale.job_rounds + 1):
        states = ("previous", "current") if number % 2 == 0 else ("current", "previous")
        write_keyring(database.cluster.keys_dir, dict(zip(("main", "next"), states, strict=True)))
        database.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)
        for name, statement in (
            ("UPDATE of the accounts' keys", update_all),
            ("rotate_root()", "SELECT fieldcrypt.rotate_root()"),
        ):
            database.execute("VACUUM (FULL, FREEZE, ANALYZE) fieldcrypt.account_key")
            nanoseconds = time_of(lambda s=statement: session.execute(s))
            if number:
                results.add("jobs", name, nanoseconds / scale.rotated_accounts)
    session.close()


INDEXED = """
    CREATE EXTENSION fieldcrypt;
    SELECT fieldcrypt.create_account('acme');
    SELECT fieldcrypt.create_field('ssn', search => '{exact}', normalizer => 'digits');
    SELECT fieldcrypt.grant_access('bench_app', '{encrypt,search,decrypt}', '*', '*');
    CREATE TABLE plain (id bigint PRIMARY KEY, v text);
    CREATE TABLE sealed (id bigint PRIMARY KEY, v fieldcrypt.encrypted_text('ssn'));
    ALTER TABLE sealed OWNER TO bench_app;
    SET ROLE bench_app;
    SET fieldcrypt.account = 'acme';
    INSERT INTO sealed SELECT i, lpad(i::text, 11, '0') FROM generate_series(1, {rows}) AS i;
    RESET ROLE;
    INSERT INTO plain SELECT i, lpad(i::text, 11, '0') FROM generate_series(1, {rows}) AS i;
    CREATE INDEX ON plain USING hash (v);
    CREATE INDEX ON sealed USING hash (v);
"""


def rotate_index_key(cluster, results, scale, clock):
    """For as long writers wait. In a database of its own: all tables are looked through."""
    database = Database(cluster)
    database.execute(INDEXED.replace("{rows}", str(scale.rows)))
    time_of = clock(database.conn).time
    for number in range(scale.job_rounds + 1):
        for name, table, statement in (
            ("UPDATE of an indexed column", "plain", "UPDATE plain SET v = reverse(v)"),
            ("rotate_index_key()", "sealed", "SELECT fieldcrypt.rotate_index_key('acme')"),
        ):
            tidy(database, table)
            nanoseconds = time_of(lambda s=statement: database.execute(s))
            if number:
                results.add("jobs", name, nanoseconds / scale.rows)
    database.drop()
