"""Restores to a point in time and promoted standbys, in the middle of jobs and key operations.

FIELDCRYPT_RECOVERIES sets how many of each, FIELDCRYPT_SEED when.
"""

import os
import random
import threading
import time
from contextlib import contextmanager

import psycopg
from audit_chain import is_whole
from harness import Cluster, Database, account_database, write_file
from test_jobs import ROLES
from test_root_keys import use

RECOVERIES = int(os.environ.get("FIELDCRYPT_RECOVERIES", "4"))
SEED = int(os.environ.get("FIELDCRYPT_SEED", time.time()))
ROWS = 400

SCHEMA = f"""
    SELECT fieldcrypt.create_field('person.phone', search => '{{exact}}');
    SELECT fieldcrypt.grant_access('keeper', '{{encrypt,decrypt}}', 'acme', '*');
    SELECT fieldcrypt.grant_access('app', '{{encrypt,search,decrypt}}', 'acme', '*');
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT CREATE ON SCHEMA public TO keeper;
    SET ROLE keeper;
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL, number int NOT NULL, data jsonb NOT NULL,
        phone text NOT NULL);
    INSERT INTO person
        SELECT i, 'acme', 0,
            jsonb_build_object('id', i, 'contact', jsonb_build_object('email', 'v0')), 'v0'
        FROM generate_series(1, {ROWS}) AS i;
    GRANT ALL ON person TO app;
    RESET ROLE;
    SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
    SELECT fieldcrypt.protect_path('person.data', '{{contact.email}}', 'lead.email');
"""
WRITE = """
    UPDATE person SET number = %(number)s, phone = %(phone)s,
        data = jsonb_set(data, '{contact,email}', to_jsonb(%(email)s::text))
    WHERE id = %(id)s
"""
CALLS = {
    "encrypt_existing": "CALL fieldcrypt.encrypt_existing('person.data', 20, 2000)",
    "encrypt_column": "CALL fieldcrypt.encrypt_column('person', 'phone', 'person.phone',"
    " 'account_id', 20, 2000)",
    "reencrypt_existing": "CALL fieldcrypt.reencrypt_existing('person.data', 20, 2000)",
    "reencrypt_column": "CALL fieldcrypt.reencrypt_column('person', 'phone', 20, 2000)",
    "decrypt_column": "CALL fieldcrypt.decrypt_column('person', 'phone', 'account_id', 20, 2000)",
    "decrypt_existing": "CALL fieldcrypt.decrypt_existing('person.data', 20, 2000)",
}


def history(db):
    """Every job, and what is done to keys between them."""

    def run(action):
        with db.connect("mover") as mover:
            mover.execute(CALLS[action])

    run("encrypt_existing")
    run("encrypt_column")
    db.execute("SELECT fieldcrypt.rotate_account_key('acme')")
    run("reencrypt_existing")
    run("reencrypt_column")
    db.execute("SELECT fieldcrypt.rotate_index_key('acme')")
    with db.connect("mover") as mover:
        mover.execute("SELECT fieldcrypt.alter_field('person.phone', normalizer => 'digits')")
        mover.execute("CALL fieldcrypt.reencrypt_field('person.phone', 20, 2000)")
    db.execute("""
        SELECT fieldcrypt.disable_account_key('acme', key_id) FROM fieldcrypt.keys
        WHERE account = 'acme' AND purpose = 'data' AND version = 1
    """)
    # the writer's transactions end soon
    db.execute("""
        SELECT fieldcrypt.destroy_account_key('acme', key_id) FROM fieldcrypt.keys
        WHERE account = 'acme' AND purpose = 'data' AND version = 1
    """)
    use(db, main="previous", next="current")
    db.execute("SELECT fieldcrypt.rotate_root()")
    run("decrypt_column")
    db.execute("SELECT fieldcrypt.unprotect_path('person.data', '{contact.email}')")
    run("decrypt_existing")


def write(connection, row, number):
    value = f"v{number}"
    connection.execute(WRITE, {"id": row, "number": number, "phone": value, "email": value})


class Writer(threading.Thread):
    """Writes one number into all three columns of a row, again and again, and notes positions."""

    def __init__(self, db, randomness):
        super().__init__()
        self.db, self.random = db, randomness
        self.stopped = threading.Event()
        self.refused, self.positions = [], []

    def run(self):
        number = 0
        options = "-c fieldcrypt.account=acme"
        with self.db.connect("app", options=options, prepare_threshold=None) as connection:
            while not self.stopped.is_set():
                number += 1
                try:
                    write(connection, self.random.randint(1, ROWS), number)
                except psycopg.Error as error:
                    self.refused.append(error)
                (position,) = connection.execute("SELECT pg_current_wal_insert_lsn()").fetchone()
                self.positions.append(position)


def check(db):
    """In each row, the same number is in all three columns, encrypted or not."""
    with db.connect("keeper") as keeper:
        encrypted = keeper.execute(
            "SELECT atttypid <> 'text'::regtype FROM pg_attribute"
            " WHERE attrelid = 'person'::regclass AND attname = 'phone'"
        ).fetchone()[0]
        phone = "fieldcrypt.decrypt(phone)" if encrypted else "phone"
        rows = keeper.execute(
            "SELECT id, number, fieldcrypt.decrypt(data) ->> 'id',"
            f" fieldcrypt.decrypt(data) #>> '{{contact,email}}', {phone} FROM person ORDER BY id"
        ).fetchall()
    expected = [(i, number, str(i), f"v{number}", f"v{number}") for i, number, *_ in rows]
    assert rows == expected
    assert [row[0] for row in rows] == list(range(1, ROWS + 1))
    query = "SELECT backfilled FROM fieldcrypt.fields WHERE name = 'person.phone'"
    if encrypted and db.value(query):
        check_searches(db, [(id, number) for id, number, *_ in rows])


def check_searches(db, numbers):
    """Values are found in exactly the rows that have them."""
    rows_of = {}
    for row, number in numbers:
        rows_of.setdefault(number, []).append((row,))
    look_up = "SELECT id FROM person WHERE phone = %s ORDER BY id"
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        for number, expected in rows_of.items():
            assert app.execute(look_up, [f"v{number}"]).fetchall() == expected


def check_recovered(cluster, name):
    """All is consistent, and a job that was running goes on to its end; whether there is one."""
    db = Database(cluster, name, exists=True)
    while db.value("SELECT pg_is_in_recovery()"):
        time.sleep(0.05)
    check(db)
    running = "SELECT action FROM fieldcrypt.job WHERE state = 'running'"
    unfinished = db.execute(running).fetchall()
    for (action,) in unfinished:
        with db.connect("mover") as mover:
            mover.execute(CALLS[action])
    assert db.execute(running).fetchall() == []
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        write(app, 1, 10**6)
    check(db)
    assert is_whole(db.conn)
    db.conn.close()
    return bool(unfinished)


@contextmanager
def primary_with_copies(settings):
    """A server with plain values, a database of it, and copies of it from before its history."""
    with Cluster({"wal_keep_size": "2GB"}) as primary, account_database(primary) as db:
        primary.create_roles(*ROLES)
        db.execute(SCHEMA)
        copies = [primary.standby(settings) for _ in range(RECOVERIES)]
        try:
            yield primary, db, copies
        finally:
            for copy in copies:
                copy.remove()


@contextmanager
def writing(db, randomness):
    writer = Writer(db, randomness)
    writer.start()
    try:
        yield writer
    finally:
        writer.stopped.set()
        writer.join()
    assert writer.refused == []
    check(db)


def test_threat_d6_restore_to_any_point_in_time(capsys):
    """In the middle of jobs, rotations and the destruction of a key."""
    randomness = random.Random(SEED)
    unfinished = 0
    with primary_with_copies({"primary_conninfo": None}) as (primary, db, copies):
        with writing(db, randomness) as writer:
            history(db)
        db.execute("SELECT pg_switch_wal()")
        for copy in copies:
            (copy.data_dir / "standby.signal").unlink()
            write_file(copy.data_dir / "recovery.signal", "")
            copy.settings |= {
                "restore_command": f"cp {primary.data_dir}/pg_wal/%f %p",
                "recovery_target_lsn": randomness.choice(writer.positions),
                "recovery_target_action": "promote",
            }
            copy.start()
            unfinished += check_recovered(copy, db.name)
            copy.stop()
    with capsys.disabled():
        print(f"\n{RECOVERIES} restores, {unfinished} into the middle of jobs, seed {SEED}")


def test_standby_promoted_at_any_moment(capsys):
    """What it has received of jobs and key operations is whole."""
    randomness = random.Random(SEED)

    def promote(standbys):
        for standby in standbys:
            time.sleep(randomness.uniform(0.1, 8 / RECOVERIES))
            standby.promote()

    with primary_with_copies(None) as (primary, db, standbys):
        for standby in standbys:
            standby.start()
            standby.catch_up(primary)
        with writing(db, random.Random(SEED)):
            promoting = threading.Thread(target=promote, args=[standbys])
            promoting.start()
            history(db)
        promoting.join()
        unfinished = sum(check_recovered(standby, db.name) for standby in standbys)
    with capsys.disabled():
        print(f"\n{RECOVERIES} promotions, {unfinished} in the middle of jobs, seed {SEED}")
