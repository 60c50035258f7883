"""Jobs and key operations that are killed, or go on where a standby was promoted, lose nothing.

FIELDCRYPT_KILL_CYCLES sets how often a process is killed.
"""

import os
import random
import signal
import threading
import time
from contextlib import suppress
from functools import partial

import psycopg
import pytest
from harness import ADOPTION_KEYS, Database
from test_adopt_jobs import floh as encrypted_by_floh
from test_jobs import ROLES, TABLES, flag
from test_root_keys import use

CYCLES = int(os.environ.get("FIELDCRYPT_KILL_CYCLES", "12"))
ROWS = 600
SEED = int(os.environ.get("FIELDCRYPT_SEED", time.time()))

CALLS = {
    "encrypt_existing": "CALL fieldcrypt.encrypt_existing('lead.data', 20, 3000)",
    "reencrypt_existing": "CALL fieldcrypt.reencrypt_existing('lead.data', 20, 3000)",
    "decrypt_existing": "CALL fieldcrypt.decrypt_existing('lead.data', 20, 3000)",
    "encrypt_column": "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone',"
    " 'account_id', 20, 3000)",
    "reencrypt_column": "CALL fieldcrypt.reencrypt_column('customer', 'phone', 20, 3000)",
    "decrypt_column": "CALL fieldcrypt.decrypt_column('customer', 'phone', 'account_id', 20, 3000)",
}
TARGETS = {"existing": "lead.data", "column": "public.customer.phone"}
AFTER = {"encrypt": "reencrypt", "reencrypt": "decrypt", "decrypt": "encrypt"}


def set_up(cluster):
    """A database with two tables of plain values, all of one account."""
    cluster.create_roles("app", "app_globex", "outsider", *ROLES)
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme');
        SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}');
        SELECT fieldcrypt.create_field('lead.email');
        SELECT fieldcrypt.create_field('customer.phone', search => '{exact}');
        SELECT fieldcrypt.grant_access('keeper', '{encrypt,decrypt}', 'acme', '*');
        SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*');
        GRANT keeper, fieldcrypt_admin TO mover;
        GRANT CREATE ON SCHEMA public TO keeper;
        SET ROLE keeper;
    """)
    db.execute(TABLES)
    db.execute(f"""
        RESET ROLE;
        INSERT INTO lead SELECT i, 'acme', 0,
            jsonb_build_object('contact', jsonb_build_object('email', 'v0'), 'ssn', 's' || i)
        FROM generate_series(1, {ROWS}) AS i;
        INSERT INTO customer SELECT i, 'acme', 'v0' FROM generate_series(1, {ROWS}) AS i;
    """)
    flag(db)
    return db


class Writer(threading.Thread):
    """Changes rows of both tables, and remembers what each may hold."""

    def __init__(self, db, randomness):
        super().__init__()
        self.db, self.random = db, randomness
        self.stopped = threading.Event()
        self.model = {i: {"v0"} for i in range(1, ROWS + 1)}
        self.number = 0
        self.refused = []

    def run(self):
        while not self.stopped.is_set():
            with suppress(psycopg.OperationalError):
                options = "-c fieldcrypt.account=acme"
                with self.db.connect("app", options=options, prepare_threshold=None) as connection:
                    while not self.stopped.is_set():
                        self.write(connection)
            time.sleep(0.05)

    def write(self, connection):
        self.number += 1
        row, value = self.random.randint(1, ROWS), f"v{self.number}"
        before = self.model[row]
        self.model[row] = before | {value}
        try:
            with connection.transaction():
                self.change(connection, row, value)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            self.refused.append(error)
            self.model[row] = before
        else:
            self.model[row] = {value}

    def change(self, connection, row, value):
        connection.execute(
            "UPDATE lead SET data = jsonb_set(data, '{contact,email}', to_jsonb(%s::text))"
            " WHERE id = %s",
            [value, row],
        )
        connection.execute("UPDATE customer SET phone = %s WHERE id = %s", [value, row])


def stored(db):
    """What both tables hold, decrypted where it is encrypted."""
    with db.connect("keeper") as keeper:
        encrypted = keeper.execute(
            "SELECT atttypid NOT IN ('varchar'::regtype, 'text'::regtype) FROM pg_attribute"
            " WHERE attrelid = 'customer'::regclass AND attname = 'phone'"
        ).fetchone()[0]
        phone = "fieldcrypt.decrypt(c.phone)" if encrypted else "c.phone"
        return keeper.execute(
            "SELECT l.id, fieldcrypt.decrypt(l.data) #>> '{contact,email}',"
            f" fieldcrypt.decrypt(l.data) ->> 'ssn', {phone}"
            " FROM lead AS l JOIN customer AS c USING (id) ORDER BY id"
        ).fetchall()


def check(db, model):
    """Every row is one that was written last, or whose writing was cut off."""
    rows = stored(db)
    assert len(rows) == ROWS
    for row, email, ssn, phone in rows:
        assert ssn == f"s{row}"
        assert email == phone and email in model[row], (row, email, phone, model[row])


def next_action(db, kind, action):
    """The same again until it is done, then what comes after it."""
    found = db.execute(
        "SELECT state, action FROM fieldcrypt.job WHERE target = %s", [TARGETS[kind]]
    ).fetchone()
    if found is None or found[0] != "done" or found[1] != action:
        return action
    action = f"{AFTER[action.split('_')[0]]}_{kind}"
    if action == "decrypt_existing":
        db.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{contact.email}')")
    if action == "encrypt_existing":
        db.execute("SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', 'lead.email')")
    return action


def rotate(connection):
    """Wraps the keys of all accounts by the other root key, and makes a data key now and then."""
    while True:
        connection.execute("SELECT fieldcrypt.rotate_root()")
        connection.execute("SELECT fieldcrypt.rotate_account_key('acme')")
        time.sleep(0.05)


def test_kill_nine(make_cluster, capsys):
    """The session of a job or of rotations, or the server, is killed at random, beside a writer."""
    randomness = random.Random(SEED)
    cluster = make_cluster()
    db = set_up(cluster)
    writer = Writer(db, randomness)
    writer.start()
    actions = {"existing": "encrypt_existing", "column": "encrypt_column"}
    kills = finished = 0
    try:
        for cycle in range(CYCLES):
            kind = ("existing", "keys", "column")[cycle % 3]
            if kind == "keys":
                roots = ("main", "next") if cycle % 2 else ("next", "main")
                use(db, **dict(zip(roots, ("current", "previous"), strict=True)))
                user, work = "postgres", rotate
            else:
                actions[kind] = next_action(db, kind, actions[kind])
                user, work = (
                    "mover",
                    partial(psycopg.Connection.execute, query=CALLS[actions[kind]]),
                )
            started = threading.Event()
            process = []

            def run(started=started, process=process, user=user, work=work):
                with suppress(psycopg.OperationalError), db.connect(user) as connection:
                    process.append(connection.info.backend_pid)
                    started.set()
                    work(connection)

            job = threading.Thread(target=run)
            job.start()
            started.wait(20)
            time.sleep(randomness.uniform(0, 0.7))
            if randomness.random() < 0.5:
                cluster.kill9()
                cluster.start()
                kills += 1
            elif job.is_alive():
                os.kill(process[0], signal.SIGKILL)
                wait_for_the_end(db.conn)
                kills += 1
            else:
                finished += 1
            job.join(30)
            assert not job.is_alive()
            db.conn.close()
            db.conn = connect_again(db)
        for kind, last in actions.items():
            action = next_action(db, kind, last)
            with db.connect("mover") as mover:
                mover.execute(CALLS[action])
            assert next_action(db, kind, action) != action
    finally:
        writer.stopped.set()
        writer.join()
    # a statement that was prepared for the other type is the only thing a writer may notice
    assert writer.refused == []
    check(db, writer.model)
    assert kills > 0 and writer.number > kills
    with capsys.disabled():
        print(f"\n{kills} kills, {finished} jobs done before, {writer.number} writes, seed {SEED}")


FLOH = "format => 'gcm-iv-tag-ciphertext-hex', key => 'floh'"
ADOPTIONS = {
    "public.old.ssn": "CALL fieldcrypt.adopt_column('old', 'ssn', 'lead.ssn', 'account_id',"
    f" {FLOH}, batch_size => 20, rate => 800",
    "old.data": "CALL fieldcrypt.adopt_existing('old.data', '{ssn}', field => 'lead.ssn',"
    f" {FLOH}, batch_size => 20, rate => 800",
}


class OldWriter(Writer):
    """Writes as the other software did, with its key."""

    def change(self, connection, row, value):
        connection.execute(
            "UPDATE old SET ssn = %(v)s, data = jsonb_build_object('ssn', %(v)s::text)"
            " WHERE id = %(row)s",
            {"v": floh(value), "row": row},
        )


def floh(value):
    return encrypted_by_floh(value, ADOPTION_KEYS["floh"][0])


def test_kill_nine_of_adoptions(make_cluster, capsys):
    """Jobs that adopt are killed until they are done, beside the other software."""
    randomness = random.Random(SEED)
    cluster = make_cluster()
    db = set_up(cluster)
    db.execute("""
        SET ROLE keeper;
        CREATE TABLE old (
            id int PRIMARY KEY, account_id text NOT NULL, ssn text NOT NULL, data jsonb);
        GRANT ALL ON old TO app;
        SELECT fieldcrypt.protect_jsonb('old', 'data', 'old.data', 'account_id');
        RESET ROLE""")
    db.execute(
        "INSERT INTO old SELECT i, 'acme', v, jsonb_build_object('ssn', v)"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS u (v, i)",
        [[floh("v0") for _ in range(ROWS)]],
    )
    writer = OldWriter(db, randomness)
    writer.start()
    kills = 0
    try:
        for target, call in ADOPTIONS.items():
            step = "SELECT max(step) FROM fieldcrypt.job WHERE target = %s"
            while db.value(step, [target]) != "cut over":
                with db.connect("mover") as connection:
                    process = connection.info.backend_pid

                    def run(connection=connection, call=call):
                        with suppress(psycopg.OperationalError):
                            connection.execute(f"{call}, cut_over => false)")

                    job = threading.Thread(target=run)
                    job.start()
                    job.join(randomness.uniform(0.1, 0.6))
                    if job.is_alive():
                        kills += 1
                        if randomness.random() < 0.3:
                            cluster.kill9()
                            cluster.start()
                        else:
                            os.kill(process, signal.SIGKILL)
                            wait_for_the_end(db.conn)
                    job.join(30)
                    assert not job.is_alive()
                    db.conn.close()
                    db.conn = connect_again(db)
            if target == "old.data":
                break
            with db.connect("mover") as mover:
                # one job at a time works on a table
                mover.execute("SELECT fieldcrypt.cancel_job(%s)", [target])
    finally:
        writer.stopped.set()
        writer.join()
    assert writer.refused == []
    with db.connect("mover") as mover:
        mover.execute(f"{ADOPTIONS['old.data']})")
        mover.execute(f"{ADOPTIONS['public.old.ssn']})")
    with db.connect("keeper") as keeper:
        rows = keeper.execute(
            "SELECT id, fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(data) ->> 'ssn' FROM old"
        ).fetchall()
    assert len(rows) == ROWS
    for row, ssn, in_document in rows:
        assert ssn == in_document and ssn in writer.model[row], row
    assert kills > 0 and writer.number > kills
    with capsys.disabled():
        print(f"\n{kills} kills, {writer.number} writes, seed {SEED}")


def wait_for_the_end(connection):
    """The server closes every connection when it notices that a session was killed."""
    deadline = time.monotonic() + 30
    with suppress(psycopg.OperationalError):
        while time.monotonic() < deadline:
            connection.execute("SELECT")
            time.sleep(0.01)
        raise TimeoutError("the server has not noticed")


def connect_again(db, tables="lead, customer"):
    """A connection, once the server has recovered and the tables can be read."""
    deadline = time.monotonic() + 30
    while True:
        try:
            connection = db.connect()
            connection.execute(f"SELECT count(*) FROM {tables} WHERE false")
            return connection
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.mark.parametrize("action", ["encrypt_existing", "encrypt_column"])
def test_standby_promoted_in_the_middle(make_cluster, action):
    """What was a standby goes on with the job from the batch that reached it last."""
    randomness = random.Random(SEED)
    call = CALLS[action].replace("3000", "1000")  # rows in a second
    primary = make_cluster()
    db = set_up(primary)
    standby = primary.standby()
    try:
        standby.start()
        standby.catch_up(primary)

        def run():
            with suppress(psycopg.OperationalError), db.connect("mover") as connection:
                connection.execute(call)

        job = threading.Thread(target=run)
        job.start()
        time.sleep(randomness.uniform(0.05, 0.4))
        primary.kill9()
        job.join(30)
        standby.promote()
        other = Database(standby, db.name, exists=True)
        with other.connect("mover") as mover:
            mover.execute(call)
        assert next_action(other, action[8:], action) != action
        check(other, {i: {"v0"} for i in range(1, ROWS + 1)})
        kept = {
            "encrypt_existing": "SELECT count(*) FROM lead WHERE data ->> 'ssn' LIKE 'fc1:%'",
            "encrypt_column": "SELECT count(*) FROM customer WHERE phone::text LIKE 'fc1:%'",
        }
        assert other.value(kept[action]) == ROWS
        other.conn.close()
    finally:
        standby.remove()
