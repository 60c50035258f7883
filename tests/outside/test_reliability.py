"""Crashes lose no value, and a session that works for long does not grow."""

import os
import signal
import threading
import time
from pathlib import Path

import psycopg
import pytest
from expect import LEADS
from harness import account_database


def resident(connection):
    """The memory of the session's process that is its own, in bytes."""
    status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


LOADS = {
    "decrypt": "SELECT count(fieldcrypt.decrypt(ssn)) FROM lead, generate_series(1, {})",
    "reveal": "SELECT count(fieldcrypt.reveal(ssn)) FROM lead, generate_series(1, {})",
    "encrypt": "SELECT count(fieldcrypt.encrypt(i::text, 'lead.ssn'))"
    " FROM generate_series(1, 100 * {}) AS i",
    "literal": "SELECT count(i::text::fieldcrypt.encrypted_text('lead.ssn'))"
    " FROM generate_series(1, 100 * {}) AS i",
    "token": "SELECT count(fieldcrypt.blind_index(i::text, 'lead.ssn'))"
    " FROM generate_series(1, 100 * {}) AS i",
    "compare": "SELECT count(*) FROM lead AS a, lead AS b, generate_series(1, {} / 100)"
    " WHERE a.ssn = b.ssn",
    "account_of": "SELECT count(fieldcrypt.account_of(ssn)) FROM lead, generate_series(1, {})",
}


@pytest.mark.parametrize("load", LOADS)
def test_memory_within_one_statement(app, load):
    """300,000 calls in one statement: what a call leaves behind, the next row would have freed."""
    app.execute("INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, 100) AS i")
    app.execute("SET enable_hashjoin = off; SET enable_mergejoin = off; SET enable_material = off")
    app.execute(LOADS[load].format(100))
    before = resident(app)
    app.execute(LOADS[load].format(3000))
    assert resident(app) - before < 8_000_000


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO lead (ssn) VALUES (%s)",
        "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE ssn = %s",
        "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE ssn IN (%s, '1')",
    ],
)
def test_memory_of_many_statements(app, statement):
    """3,000 statements, each planned anew, in one session."""
    app.execute("INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, 100) AS i")

    def run(number):
        with app.pipeline():
            for i in range(number):
                app.execute(statement, [str(i)])

    run(500)
    before = resident(app)
    run(3000)
    assert resident(app) - before < 4_000_000


def test_memory_of_failing_statements(app):
    """Neither do errors leave anything behind."""

    def fail(number):
        app.execute("SELECT set_config('app.n', %s, false)", [str(number)])
        app.execute("""
            DO $$
            BEGIN
                FOR i IN 1 .. current_setting('app.n')::int LOOP
                    BEGIN
                        PERFORM fieldcrypt.encrypt(repeat('x', 1000), 'lead.ssn', 'globex');
                    EXCEPTION WHEN insufficient_privilege THEN NULL;
                    END;
                    BEGIN
                        PERFORM fieldcrypt.decrypt(repeat('x', 1000)::fieldcrypt.encrypted_text);
                    EXCEPTION WHEN OTHERS THEN NULL;
                    END;
                END LOOP;
            END
            $$
        """)

    fail(500)
    before = resident(app)
    fail(5000)
    assert resident(app) - before < 8_000_000


def test_memory_of_a_changing_catalog(leads, app):
    """Keys that are dropped and set up again take the place of the old ones."""
    app.execute("INSERT INTO lead (ssn) VALUES ('1')")

    def change(times):
        for _ in range(times):
            leads.execute("SELECT fieldcrypt.alter_field('lead.ssn', label => 'changed')")
            app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE ssn = '1'")

    change(50)
    before = resident(app)
    change(300)
    assert resident(app) - before < 2_000_000


class Writers:
    """Sessions that insert numbered leads until the server goes away."""

    def __init__(self, database, number):
        self.database = database
        self.written = [[] for _ in range(number)]
        self.threads = [threading.Thread(target=self.write, args=(n,)) for n in range(number)]
        self.pids = {}
        for thread in self.threads:
            thread.start()

    def write(self, number):
        try:
            options = "-c fieldcrypt.account=acme"
            with self.database.connect("app", options=options) as connection:
                self.pids[number] = connection.info.backend_pid
                while True:
                    value = f"{number}{len(self.written[number]):06}"
                    connection.execute(
                        "INSERT INTO lead (id, ssn, email) VALUES (%s, %s, %s)",
                        [int(value), value, f"{value}@b.example"],
                    )
                    self.written[number].append(value)
        except psycopg.OperationalError:
            pass

    def wait_for(self, number):
        deadline = time.monotonic() + 20
        while any(len(written) < number for written in self.written):
            assert time.monotonic() < deadline, "the writers do not get on"
            time.sleep(0.01)

    def join(self):
        for thread in self.threads:
            thread.join(30)
        return {value for written in self.written for value in written}


def test_threat_d10_crashes_lose_nothing(make_cluster):
    """kill -9 of a session and of the whole server amid inserts and new accounts: every row that
    was committed is there, and every row that is there decrypts and is found."""
    own = make_cluster()
    with account_database(own) as database:
        database.execute(LEADS + "CREATE UNIQUE INDEX ON lead (ssn)")
        for crash in "session", "server", "server":
            database.execute("TRUNCATE lead")
            writers = Writers(database, 3)
            writers.wait_for(30)
            new = f"new_{time.monotonic_ns()}"
            database.execute("BEGIN")
            database.execute("SELECT fieldcrypt.create_account(%s)", [new])
            if crash == "session":
                os.kill(writers.pids[1], signal.SIGKILL)
                committed = writers.join()
                with pytest.raises(psycopg.OperationalError):
                    database.execute("COMMIT")
                database.conn.close()
                wait_for_recovery(own)
            else:
                own.kill9()
                committed = writers.join()
                database.conn.close()
                own.start()
            database.conn = database.connect()
            with database.connect("app", options="-c fieldcrypt.account=acme") as app:
                rows = app.execute(
                    "SELECT id, fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(email) FROM lead"
                ).fetchall()
                assert all(
                    int(ssn) == number and email == f"{ssn}@b.example"
                    for number, ssn, email in rows
                )
                assert committed <= {ssn for _, ssn, _ in rows}
                app.execute("SET enable_seqscan = off")
                for value in sorted(committed)[::17]:
                    assert app.execute("SELECT id FROM lead WHERE ssn = %s", [value]).fetchone()
            # The account whose transaction did not commit never was, and can be made.
            accounts = "SELECT count(*) FROM fieldcrypt.accounts WHERE account = %s"
            assert database.value(accounts, [new]) == 0
            database.execute("SELECT fieldcrypt.create_account(%s)", [new])


def wait_for_recovery(cluster):
    deadline = time.monotonic() + 30
    while True:
        try:
            cluster.connect().close()
            return
        except psycopg.OperationalError:
            assert time.monotonic() < deadline, "the server did not recover"
            time.sleep(0.05)
