"""Rotations of index keys and changes of a field's search that are killed: no look-up is wrong.

FIELDCRYPT_KILL_CYCLES sets how often a process is killed.
"""

import os
import random
import signal
import threading
import time
from contextlib import suppress

import psycopg
from harness import account_database
from test_jobs_crash import CYCLES, SEED, connect_again, wait_for_the_end

ROWS = 300
TABLES = """
    SELECT fieldcrypt.grant_access('search_keeper', '{encrypt}', '*', '*');
    GRANT search_keeper, fieldcrypt_admin, fieldcrypt_key_admin TO search_mover;
    GRANT CREATE ON SCHEMA public TO search_keeper;
    SET ROLE search_keeper;
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL DEFAULT 'acme',
        email fieldcrypt.encrypted_text('lead.email') UNIQUE,
        ssn fieldcrypt.encrypted_text('lead.ssn'), data jsonb);
    CREATE INDEX person_ssn ON person USING hash (ssn);
    CREATE INDEX person_tokens ON person USING gin (fieldcrypt.tokens(data));
    SELECT fieldcrypt.protect_table('person', 'account_id');
    SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
    GRANT ALL ON person TO app;
    RESET ROLE;
    SELECT fieldcrypt.protect_path('person.data', '{email}', 'lead.email');
"""
FILL = """
    INSERT INTO person SELECT i, 'acme', i || '@x.org', i::text,
        jsonb_build_object('email', i || '@x.org')
    FROM generate_series(1, %s) AS i
"""
WRITE = """
    UPDATE person SET email = %(n)s || '@x.org', ssn = %(n)s::text,
        data = jsonb_build_object('email', %(n)s || '@x.org')
    WHERE id = %(id)s
"""
# Each finds the row that was given the number.
LOOK_UPS = {
    "column": "SELECT id FROM person WHERE email = %(n)s || '@x.org'",
    "document": "SELECT id FROM person"
    " WHERE fieldcrypt.matches(data, 'lead.email', %(n)s || '@x.org')",
    "changing": "SELECT id FROM person WHERE ssn = %(n)s::text",
}
# Each counts all rows.
COMPARISONS = (
    "SELECT count(*) FROM person AS a JOIN person AS b ON a.email = b.email",
    "SELECT count(DISTINCT email) FROM person",
)
ROTATE = "SELECT fieldcrypt.rotate_index_key('acme')"
REENCRYPT = "CALL fieldcrypt.reencrypt_existing('person.data', 20)"
CHANGE = "SELECT fieldcrypt.alter_field('lead.ssn', normalizer => %s)"
FOLLOW = "CALL fieldcrypt.reencrypt_field('lead.ssn', 20)"
OLDER = (
    "SELECT sum(count) FROM fieldcrypt.key_usage('acme') WHERE purpose = 'index' AND key_id <> %s"
)


class Client(threading.Thread):
    """Gives rows new numbers, and looks for them by each; notes every answer that is wrong."""

    def __init__(self, db, randomness):
        super().__init__()
        self.db, self.random = db, randomness
        self.stopped = threading.Event()
        self.numbers = {row: row for row in range(1, ROWS + 1)}
        self.number = ROWS
        self.looked_up = self.refused = 0
        self.wrong = []

    def connect(self):
        return self.db.connect("app", options="-c fieldcrypt.account=acme")

    def run(self):
        while not self.stopped.is_set():
            with suppress(psycopg.OperationalError), self.connect() as connection:
                while not self.stopped.is_set():
                    self.write(connection)
            time.sleep(0.05)

    def write(self, connection):
        self.number += 1
        row = self.random.randint(1, ROWS)
        # whether it was committed is not known if the connection is lost: the next write decides
        self.numbers[row] = None
        connection.execute(WRITE, {"n": self.number, "id": row})
        self.numbers[row] = self.number
        known = [row for row, number in self.numbers.items() if number is not None]
        for one in (row, self.random.choice(known)):
            for name, query in LOOK_UPS.items():
                self.look_up(connection, name, query, one)
        for query in COMPARISONS:
            counted = connection.execute(query).fetchone()
            if counted != (ROWS,):
                self.wrong.append((query, counted))

    def look_up(self, connection, name, query, row):
        try:
            found = connection.execute(query, {"n": self.numbers[row]}).fetchall()
        except psycopg.errors.FeatureNotSupported:
            # not all of its values have their new tokens yet
            assert name == "changing"
            self.refused += 1
        else:
            self.looked_up += 1
            if found != [(row,)]:
                self.wrong.append((name, row, found))


def go_on(connection):
    """Ends what was killed: one job at a time works on a table."""
    query = "SELECT target FROM fieldcrypt.progress WHERE state = 'running'"
    for (target,) in connection.execute(query).fetchall():
        connection.execute("CALL fieldcrypt.run_job(%s, 20, NULL)", [target])


def change(connection, randomness):
    """Switches the normalizer of a field to and fro; its values follow."""
    while True:
        connection.execute(CHANGE, [randomness.choice(("digits", "none"))])
        connection.execute(FOLLOW)


def rotate(connection, _randomness):
    """Rotates the index key; the documents follow."""
    while True:
        connection.execute(ROTATE)
        connection.execute(REENCRYPT)


def test_kill_nine_of_searches(make_cluster, capsys):
    randomness = random.Random(SEED)
    cluster = make_cluster()
    cluster.create_roles("search_keeper", "search_mover")
    with account_database(cluster) as db:
        db.execute(TABLES)
        with db.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute(FILL, [ROWS])
        client = Client(db, random.Random(SEED))
        client.start()
        kills = 0
        try:
            for cycle in range(CYCLES):
                work = (rotate, change)[cycle % 2]
                process = []
                started = threading.Event()

                def run(work=work, process=process, started=started):
                    with suppress(psycopg.OperationalError), db.connect("search_mover") as mover:
                        process.append(mover.info.backend_pid)
                        started.set()
                        go_on(mover)
                        work(mover, randomness)

                worker = threading.Thread(target=run)
                worker.start()
                started.wait(20)
                time.sleep(randomness.uniform(0, 0.7))
                assert worker.is_alive()
                if randomness.random() < 0.3:
                    cluster.kill9()
                    cluster.start()
                else:
                    os.kill(process[0], signal.SIGKILL)
                    wait_for_the_end(db.conn)
                kills += 1
                worker.join(30)
                assert not worker.is_alive()
                db.conn.close()
                db.conn = connect_again(db, "person")
        finally:
            client.stopped.set()
            client.join()
        assert client.wrong == []
        assert client.looked_up > kills > 0
        with db.connect("search_mover") as mover:
            go_on(mover)
            newest = mover.execute(ROTATE).fetchone()
            mover.execute(REENCRYPT)
            mover.execute(FOLLOW)
            assert mover.execute(OLDER, newest).fetchone() == (None,)
        with client.connect() as app:
            stored = dict(app.execute("SELECT id, fieldcrypt.decrypt(ssn) FROM person").fetchall())
            for row, number in client.numbers.items():
                assert number is None or stored[row] == str(number)
                client.numbers[row] = int(stored[row])
                for name, query in LOOK_UPS.items():
                    client.look_up(app, name, query, row)
        assert client.wrong == []
    with capsys.disabled():
        print(
            f"\n{kills} kills, {client.number - ROWS} writes, {client.looked_up} look-ups,"
            f" {client.refused} refused, seed {SEED}"
        )
