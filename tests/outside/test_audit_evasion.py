"""Whoever reads a value is in the audit with it, however the read was made and however it ends.

The ways of reading are a table: each says how many values it reads, and under whose rights.
"""

import contextlib
import json
import os
import random
import re
import secrets
import signal
import socket
import struct
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
import pytest
from expect import refused
from harness import VERSION, Cluster, Database, account_database
from test_reliability import wait_for_recovery

pytestmark = pytest.mark.every_version

CANARY = "kanarie-4711"
ROWS = 10
READ = "SELECT fieldcrypt.decrypt(ssn) FROM lead"
# More than fits into the buffers between server and client.
STREAM = f"{READ}, generate_series(1, 20000)"

OBJECTS = f"""
    GRANT CREATE ON SCHEMA public TO app, definer;
    GRANT pg_execute_server_program, pg_write_server_files TO app;
    SELECT fieldcrypt.grant_access('definer', '{{decrypt}}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('masked', '{{mask}}', 'acme', 'lead.*');
    GRANT definer TO app_globex;

    CREATE TABLE lead (
        id int PRIMARY KEY,
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        email fieldcrypt.encrypted_text('lead.email'));
    CREATE TABLE customer (id int PRIMARY KEY, account_id text NOT NULL, data jsonb);
    CREATE TABLE wide (ssn fieldcrypt.encrypted_text('lead.ssn'), filler text);
    CREATE TABLE guarded (ssn fieldcrypt.encrypted_text('lead.ssn'));
    GRANT ALL ON ALL TABLES IN SCHEMA public TO app, app_globex, definer, masked, outsider;
    SELECT fieldcrypt.protect_jsonb('customer', 'data', name => 'customer.data',
        account_column => 'account_id');
    SELECT fieldcrypt.protect_path('customer.data', '{{ssn}}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('customer.data', '{{mail.address}}', 'lead.email');
    SET ROLE app;
    SET fieldcrypt.account = 'acme';
    INSERT INTO lead SELECT i, '{CANARY}-' || i, '{CANARY}-' || i || '@b.example'
        FROM generate_series(1, {ROWS}) AS i;
    INSERT INTO customer VALUES
        (1, 'acme', '{{"ssn": "{CANARY}", "mail": {{"address": "{CANARY}@b.example"}}}}');
    INSERT INTO wide SELECT ssn, repeat('x', 1000) FROM lead, generate_series(1, 30);
    INSERT INTO guarded SELECT ssn FROM lead;
    RESET ROLE;
    RESET fieldcrypt.account;
    ANALYZE;
    ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
    CREATE POLICY readable ON guarded USING (fieldcrypt.decrypt(ssn) <> '');

    -- tells the client of each read at once, so that the test knows how many there were
    CREATE FUNCTION noisy(value fieldcrypt.encrypted_text) RETURNS text
        LANGUAGE plpgsql STABLE PARALLEL SAFE AS $$
        BEGIN
            RAISE NOTICE 'read';
            RETURN fieldcrypt.decrypt(value);
        END $$;
    CREATE FUNCTION inlined(value fieldcrypt.encrypted_text) RETURNS text
        LANGUAGE sql STABLE AS 'SELECT fieldcrypt.decrypt(value)';
    CREATE FUNCTION not_inlined(value fieldcrypt.encrypted_text) RETURNS text
        LANGUAGE sql VOLATILE STRICT SET search_path = pg_catalog
        AS 'SELECT fieldcrypt.decrypt(value)';
    CREATE FUNCTION lent(value fieldcrypt.encrypted_text) RETURNS text
        LANGUAGE plpgsql STABLE SECURITY DEFINER
        AS 'BEGIN RETURN fieldcrypt.decrypt(value); END';
    ALTER FUNCTION lent OWNER TO definer;
    CREATE FUNCTION peek() RETURNS int LANGUAGE plpgsql STABLE AS $$
        BEGIN
            RAISE NOTICE 'read';
            RETURN length(fieldcrypt.decrypt(ssn)) FROM lead WHERE id = 1;
        END $$;
    CREATE FUNCTION all_of_them() RETURNS SETOF text LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN QUERY {READ}; END';
    CREATE FUNCTION one_by_one() RETURNS SETOF text LANGUAGE sql STABLE AS '{READ}';
    CREATE FUNCTION opened() RETURNS refcursor LANGUAGE plpgsql
        AS 'DECLARE c refcursor := ''leads''; BEGIN OPEN c FOR {READ}; RETURN c; END';
    CREATE FUNCTION keep(state text, value fieldcrypt.encrypted_text) RETURNS text
        LANGUAGE sql STABLE AS 'SELECT fieldcrypt.decrypt(value)';
    CREATE AGGREGATE last_of (fieldcrypt.encrypted_text) (SFUNC = keep, STYPE = text);
    CREATE OPERATOR ~~~ (RIGHTARG = fieldcrypt.encrypted_text, FUNCTION = inlined);
    CREATE FUNCTION row_trigger() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM fieldcrypt.decrypt(NEW.ssn); RETURN NEW; END';
    CREATE FUNCTION statement_trigger() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM fieldcrypt.decrypt(ssn) FROM new_rows; RETURN NULL; END';
    CREATE FUNCTION failing_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM fieldcrypt.decrypt(ssn) FROM lead;
            RAISE EXCEPTION 'no' USING ERRCODE = 'P0001';
        END $$;
    CREATE FUNCTION event_trigger() RETURNS event_trigger LANGUAGE plpgsql
        AS 'BEGIN PERFORM fieldcrypt.decrypt(ssn) FROM lead; END';
    CREATE PROCEDURE in_steps(steps int) LANGUAGE plpgsql AS $$
        BEGIN
            FOR step IN 1 .. steps LOOP
                PERFORM fieldcrypt.decrypt(ssn) FROM lead;
                IF step % 2 = 0 THEN COMMIT; ELSE ROLLBACK; END IF;
            END LOOP;
        END $$;
    CREATE PROCEDURE nested() LANGUAGE plpgsql AS $$
        BEGIN
            PERFORM fieldcrypt.decrypt(ssn) FROM lead;
            CALL in_steps(3);
            PERFORM fieldcrypt.decrypt(ssn) FROM lead;
            ROLLBACK;
            PERFORM 1 / 0;
        END $$;
"""


@dataclass(frozen=True)
class Reads:
    """What a way reads plain: so many values, or `at_least` so many."""

    count: int = ROWS
    role: str = "app"
    field: str = "lead.ssn"
    account: str = "acme"
    action: str = "decrypt"
    at_least: bool = False


def connect(database, user="app", **options):
    """A session with the account acme."""
    return database.connect(
        user,
        **{"options": "-c fieldcrypt.account=acme", "prepare_threshold": None, **options},
    )


class Wire:
    """The client's side of the protocol, for what libpq does not do."""

    def __init__(self, database, user="app"):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        self.socket.connect(f"{database.cluster.dir}/.s.PGSQL.{database.cluster.port}")
        parameters = f"user\0{user}\0database\0{database.name}\0\0".encode()
        self.socket.sendall(struct.pack("!II", len(parameters) + 8, 3 << 16) + parameters)
        self.pid = 0
        for kind, body in self.until(b"Z"):
            if kind == b"K":
                (self.pid,) = struct.unpack("!I", body[:4])

    def send(self, *messages):
        """Sends messages, each a kind and a body; texts end in NUL."""
        for kind, *parts in messages:
            body = b"".join(p.encode() + b"\0" if isinstance(p, str) else p for p in parts)
            self.socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def receive(self):
        kind, length = struct.unpack("!cI", self._exactly(5))
        return kind, self._exactly(length - 4)

    def _exactly(self, length):
        received = b""
        while len(received) < length:
            part = self.socket.recv(length - len(received))
            if not part:
                raise ConnectionError
            received += part
        return received

    def until(self, wanted):
        """The messages up to one of that kind."""
        messages = [self.receive()]
        while messages[-1][0] != wanted:
            messages.append(self.receive())
        return messages

    def close(self):
        self.socket.close()


def number_of(kind, messages):
    return sum(1 for found, _ in messages if found == kind)


def gone(database, pid):
    """Waits until a session has ended."""
    deadline = time.monotonic() + 30
    while database.value("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid]):
        assert time.monotonic() < deadline, "the session does not end"
        time.sleep(0.01)


def until_blocked(database, pid):
    """Waits until a session waits for its client to read."""
    blocked = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'ClientWrite'"
    deadline = time.monotonic() + 30
    while not database.value(blocked, [pid]):
        assert time.monotonic() < deadline, "the session is never blocked"
        time.sleep(0.01)


def notices_of(connection):
    """What the connection will be told, in a list that grows."""
    told = []
    connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
    return told


# Ways of reading


def sql(statements, *reads, fails=None, user="app"):
    """Statements, sent as one message, the last of which fails with that SQLSTATE."""
    reads = [Reads(read) if isinstance(read, int) else read for read in reads or [ROWS]]

    def run(database):
        with connect(database, user) as connection:
            if fails is None:
                connection.execute(statements)
            else:
                with refused(fails):
                    connection.execute(statements)
        return reads

    return run


def told(statements, fails=None, least=1):
    """Statements that say of each read when it happens."""

    def run(database):
        with connect(database) as connection:
            notices = notices_of(connection)
            if fails is None:
                connection.execute(statements)
            else:
                with refused(fails):
                    connection.execute(statements)
        assert notices.count("read") >= least
        return [Reads(notices.count("read"))]

    return run


def trigger(timing, function="row_trigger", end="ROLLBACK", fails=None, **options):
    """A trigger on a table into which the leads are inserted."""
    return sql(
        f"""
        BEGIN;
        CREATE TABLE triggered (ssn fieldcrypt.encrypted_text('lead.ssn'));
        CREATE {timing.format("triggered")} EXECUTE FUNCTION {function}();
        INSERT INTO triggered SELECT ssn FROM lead;
        {end};
        DROP TABLE IF EXISTS triggered
        """,
        fails=fails,
        **options,
    )


def parameters(database):
    with connect(database) as connection:
        query = "SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id > %s"
        assert len(connection.execute(query, [3]).fetchall()) == ROWS - 3
        connection.execute(query, [3], prepare=True, binary=True)
    return [Reads(2 * (ROWS - 3))]


def rollback_of_the_driver(database):
    with connect(database, autocommit=False) as connection:
        connection.execute(READ)
        connection.rollback()
    return [Reads()]


def disconnect_in_a_transaction(database):
    connection = connect(database, autocommit=False)
    connection.execute(READ)
    connection.close()
    return [Reads()]


def disconnect_in_a_failed_transaction(database):
    connection = connect(database, autocommit=False)
    connection.execute(READ)
    with refused("22012"):
        connection.execute("SELECT 1 / 0")
    connection.close()
    return [Reads()]


def server_cursor(database):
    with connect(database, autocommit=False) as connection:
        with connection.cursor("few") as cursor:
            cursor.itersize = 2
            cursor.execute(READ)
            cursor.fetchmany(2)
            cursor.fetchmany(2)
        connection.rollback()
    return [Reads(4)]


def single_row_mode(database):
    connection = connect(database)
    received = 0
    for _ in connection.cursor().stream(STREAM):
        received += 1
        if received == 100:
            break
    # the rest is dropped as it comes, since the query was cancelled
    connection.close()
    return [Reads(received, at_least=True)]


def suspended_portal(database):
    """The client asks for three rows, and never for the rest."""
    wire = Wire(database)
    wire.send(
        (b"P", "", READ, b"\0\0"),
        (b"B", "", "", b"\0" * 6),
        (b"E", "", struct.pack("!I", 3)),
        (b"H",),
    )
    assert number_of(b"D", wire.until(b"s")) == 3
    wire.send((b"E", "", struct.pack("!I", 1)), (b"C", b"P", ""), (b"S",))
    assert number_of(b"D", wire.until(b"Z")) == 1
    wire.close()
    gone(database, wire.pid)
    return [Reads(4)]


def suspended_portal_and_disconnect(database):
    wire = Wire(database)
    wire.send(
        (b"P", "", READ, b"\0\0"),
        (b"B", "", "", b"\0" * 6),
        (b"E", "", struct.pack("!I", 3)),
        (b"H",),
    )
    assert number_of(b"D", wire.until(b"s")) == 3
    wire.close()
    gone(database, wire.pid)
    return [Reads(3)]


def bound_and_not_executed(database):
    """Planning evaluates functions for its estimates; the statement is never executed."""
    before = last_seq(database)
    wire = Wire(database)
    wire.send(
        (b"P", "", "SELECT FROM lead WHERE id = peek()", b"\0\0"),
        (b"B", "", "", b"\0" * 6),
        (b"H",),
    )
    reads = number_of(b"N", wire.until(b"2"))
    assert reads > 0
    check(plain_reads(database, before), [Reads(reads)])  # while the transaction is open
    wire.close()
    gone(database, wire.pid)
    return [Reads(reads)]


def function_call(database):
    """A call that is no statement, in a transaction that stays open."""
    before = last_seq(database)
    function = database.value("SELECT 'fieldcrypt.decrypt(jsonb, text)'::regprocedure::oid::int")
    document = database.value("SELECT data::text FROM customer").encode()
    arguments = b"".join(
        struct.pack("!I", len(argument)) + argument for argument in (document, b"ssn")
    )
    wire = Wire(database)
    wire.send((b"Q", "BEGIN"))
    wire.until(b"Z")
    head = struct.pack("!IHHH", function, 1, 0, 2)
    wire.send((b"F", head + arguments + struct.pack("!H", 0)))
    ((_, result),) = [message for message in wire.until(b"Z") if message[0] == b"V"]
    assert CANARY.encode() in result
    check(plain_reads(database, before), [Reads(1)])  # while the transaction is open
    wire.close()
    gone(database, wire.pid)
    return [Reads(1)]


def pipeline_and_disconnect(database):
    """No Sync is sent: the server never gets to the end of the transaction."""
    connection = connect(database)
    pid = connection.info.backend_pid
    raw = connection.pgconn
    raw.enter_pipeline_mode()
    for _ in range(3):
        raw.send_query_params(READ.encode(), None)
    raw.send_flush_request()
    raw.flush()
    results = [raw.get_result() for _ in range(5)]
    assert sum(result.ntuples for result in results if result) == 3 * ROWS
    connection.close()
    gone(database, pid)
    return [Reads(3 * ROWS)]


def pipeline_of_which_one_fails(database):
    with connect(database) as connection:
        with pytest.raises(psycopg.Error), connection.pipeline():
            connection.execute(READ)
            connection.execute("SELECT 1 / 0")
            connection.execute(READ)
    return [Reads()]


def copy_out(database):
    with connect(database) as connection, connection.cursor() as cursor:
        with cursor.copy(f"COPY ({READ}) TO STDOUT") as copy:
            assert len(list(copy.rows())) == ROWS
    return [Reads()]


def copy_and_disconnect(database):
    wire = Wire(database)
    wire.send((b"Q", f"COPY ({STREAM}) TO STDOUT"))
    wire.until(b"H")
    received = sum(1 for _ in range(500) if wire.receive()[0] == b"d")
    assert received == 500
    wire.close()
    gone(database, wire.pid)
    return [Reads(received, at_least=True)]


def copy_in(database):
    with connect(database) as connection:
        connection.execute("""
            CREATE TABLE copied (ssn fieldcrypt.encrypted_text('lead.ssn'));
            CREATE TRIGGER t BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION row_trigger()
        """)
        with connection.cursor().copy("COPY copied FROM STDIN") as copy:
            copy.write("1\n2\n3\n")
        connection.execute("DROP TABLE copied")
    return [Reads(3)]


def copy_in_that_fails(database):
    with connect(database) as connection:
        connection.execute("""
            CREATE TABLE copied (ssn fieldcrypt.encrypted_text('lead.ssn'), n int);
            CREATE TRIGGER t BEFORE INSERT ON copied FOR EACH ROW EXECUTE FUNCTION row_trigger()
        """)
        with refused("22P02"), connection.cursor().copy("COPY copied FROM STDIN") as copy:
            copy.write("1\t1\n2\t2\n3\tx\n")
        connection.execute("DROP TABLE copied")
    return [Reads(2, at_least=True)]


def stream_and_disconnect(database):
    wire = Wire(database)
    wire.send((b"Q", STREAM))
    wire.until(b"T")
    received = sum(1 for _ in range(500) if wire.receive()[0] == b"D")
    assert received == 500
    wire.close()
    gone(database, wire.pid)
    return [Reads(received, at_least=True)]


def stopped_by(function):
    """Another session stops the scan in its middle."""

    def run(database):
        wire = Wire(database)
        wire.send((b"Q", STREAM))
        wire.until(b"T")
        for _ in range(500):
            assert wire.receive()[0] == b"D"
        database.execute(f"SELECT {function}(%s)", [wire.pid])
        received = 500
        with suppress(ConnectionError):
            received += number_of(b"D", wire.until(b"E"))
        wire.close()
        gone(database, wire.pid)
        return [Reads(received, at_least=True)]

    return run


def cancelled(database):
    with connect(database) as connection:
        notices = notices_of(connection)
        canceller = threading.Timer(0.2, connection.cancel_safe)
        canceller.start()
        with refused("57014"):
            connection.execute("SELECT noisy(ssn), pg_sleep(0.05) FROM lead")
        canceller.join()
    assert 0 < notices.count("read") < ROWS
    return [Reads(notices.count("read"))]


def two_phase(end):
    def run(database):
        with connect(database) as connection:
            connection.execute(f"BEGIN; {READ}; PREPARE TRANSACTION 'read'")
            connection.execute(f"{end} PREPARED 'read'")
        return [Reads()]

    return run


PARALLEL = """
    SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;
    SET max_parallel_workers_per_gather = 2; SET parallel_leader_participation = off
"""


def parallel(database):
    with connect(database) as connection:
        connection.execute(PARALLEL)
        query = "SELECT count(fieldcrypt.decrypt(ssn)) FROM wide"
        (plan,) = connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchone()
        assert '"Workers Launched": 2' in str(plan).replace("'", '"')
        assert connection.execute(query).fetchone() == (30 * ROWS,)
        connection.execute("BEGIN READ ONLY")
        connection.execute(query)
        connection.execute("ROLLBACK")
    return [Reads(90 * ROWS)]


def parallel_that_fails(database):
    """What the other worker has read when one fails is not known, but the first has read all."""
    with connect(database) as connection:
        connection.execute(PARALLEL)
        with refused("22012"):
            connection.execute(
                "SELECT count(fieldcrypt.decrypt(ssn)), sum(1 / (length(filler) - 1000)) FROM wide"
            )
    return [Reads(1, at_least=True)]


def listened(database):
    with connect(database) as connection:
        connection.execute("LISTEN heard")
        connection.execute("SELECT pg_notify('heard', fieldcrypt.decrypt(ssn)) FROM lead")
        payloads = [n.payload for n in connection.notifies(timeout=1, stop_after=ROWS)]
        assert all(CANARY in payload for payload in payloads) and payloads
    return [Reads()]


def dblink(database):
    """A session that the session opens, whose transaction the session does not end."""
    target = f"host={database.cluster.dir} dbname={database.name} user=app"
    with extension(database, "dblink"):
        database.execute("GRANT EXECUTE ON FUNCTION dblink_connect_u(text, text) TO app")
        with connect(database, autocommit=False) as connection:
            connection.execute("SELECT dblink_connect_u('loop', %s)", [target])
            rows = connection.execute(
                "SELECT * FROM dblink('loop', %s) AS t (ssn text)", [READ]
            ).fetchall()
            assert len(rows) == ROWS
            connection.rollback()
    return [Reads()]


def foreign_table(database):
    with extension(database, "postgres_fdw"):
        database.execute(f"""
            CREATE VIEW opened_leads AS {READ.replace(")", ") AS ssn", 1)};
            GRANT SELECT ON opened_leads TO app;
            CREATE SERVER loop FOREIGN DATA WRAPPER postgres_fdw
                OPTIONS (host '{database.cluster.dir}', dbname '{database.name}');
            CREATE USER MAPPING FOR app SERVER loop
                OPTIONS (user 'app', password_required 'false');
            CREATE FOREIGN TABLE far (ssn text) SERVER loop OPTIONS (table_name 'opened_leads');
            GRANT SELECT ON far TO app;
        """)
        with connect(database, autocommit=False) as connection:
            assert len(connection.execute("SELECT * FROM far").fetchall()) == ROWS
            connection.rollback()
        database.execute("DROP FOREIGN TABLE far; DROP SERVER loop CASCADE; DROP VIEW opened_leads")
    return [Reads()]


@contextlib.contextmanager
def extension(database, name):
    available = "SELECT count(*) FROM pg_available_extensions WHERE name = %s"
    if not database.value(available, [name]):
        assert VERSION != 15
        pytest.skip("not every build of PostgreSQL brings it")
    database.execute(f"CREATE EXTENSION {name}")
    yield
    database.execute(f"DROP EXTENSION {name} CASCADE")


def event_trigger(database):
    database.execute("""
        CREATE EVENT TRIGGER reads ON ddl_command_end WHEN TAG IN ('CREATE VIEW')
            EXECUTE FUNCTION event_trigger()
    """)
    try:
        with connect(database) as connection:
            connection.execute("BEGIN; CREATE VIEW seen AS SELECT 1; ROLLBACK")
    finally:
        database.execute("DROP EVENT TRIGGER reads")
    return [Reads()]


def application_name(database):
    with connect(database, application_name="told") as connection:
        connection.execute(f"SET application_name = ''; {READ}; RESET application_name")
    return [Reads()]


def other_role_in_the_middle(database):
    with connect(database, "postgres") as connection:
        connection.execute("""
            DO $$
            BEGIN
                PERFORM set_config('role', 'app', true);
                PERFORM fieldcrypt.decrypt(ssn) FROM lead;
                PERFORM set_config('role', 'definer', true);
                PERFORM fieldcrypt.decrypt(ssn), lent(ssn) FROM lead;
                RAISE EXCEPTION 'rolled back';
            EXCEPTION WHEN OTHERS THEN NULL;
            END $$
        """)
    return [Reads(), Reads(2 * ROWS, role="definer")]


def other_session_authorization(database):
    """Who logged in is still known."""
    with connect(database, "postgres") as connection:
        connection.execute(f"SET SESSION AUTHORIZATION app; {READ}; RESET SESSION AUTHORIZATION")
    flush(database)
    query = "SELECT session_role FROM fieldcrypt.audit ORDER BY seq DESC LIMIT 1"
    assert database.value(query) == "postgres"
    return [Reads()]


def other_actor_in_the_middle(database):
    """What is read for one is not said of the other."""
    before = last_seq(database)
    with connect(database) as connection:
        connection.execute(f"""
            DO $$
            BEGIN
                PERFORM fieldcrypt.set_actor('ann');
                PERFORM fieldcrypt.decrypt(ssn) FROM lead;
                PERFORM fieldcrypt.set_actor('bob');
                PERFORM fieldcrypt.decrypt(ssn) FROM lead LIMIT {ROWS - 1};
            END $$
        """)
    flush(database)
    query = "SELECT actor_id, count FROM fieldcrypt.audit WHERE seq > %s ORDER BY seq"
    assert database.execute(query, [before]).fetchall() == [("ann", ROWS), ("bob", ROWS - 1)]
    return [Reads(2 * ROWS - 1)]


def session_reset(statement):
    def run(database):
        with connect(database) as connection:
            connection.execute(READ)
            connection.execute(statement)
            connection.execute(READ)
        return [Reads(2 * ROWS)]

    return run


HOLDING = f"BEGIN; DECLARE c CURSOR WITH HOLD FOR {READ}"
SCROLLING = f"BEGIN; DECLARE c SCROLL CURSOR FOR {READ}"

WAYS = {
    # how it ends
    "select": sql(READ),
    "parameters": parameters,
    "rollback": sql(f"BEGIN; {READ}; ROLLBACK"),
    "rollback of the driver": rollback_of_the_driver,
    "rollback to savepoint": sql(f"BEGIN; SAVEPOINT s; {READ}; ROLLBACK TO s; COMMIT"),
    "rollback and chain": sql(f"BEGIN; {READ}; ROLLBACK AND CHAIN; {READ}; COMMIT", 2 * ROWS),
    "error in the middle": sql(
        "SELECT fieldcrypt.decrypt(ssn), 1 / (id - 5) FROM lead", 5, fails="22012"
    ),
    "error later in the transaction": sql(f"BEGIN; {READ}; SELECT 1 / 0", fails="22012"),
    "error later in the message": sql(f"{READ}; SELECT 1 / 0", fails="22012"),
    "error that shows it": sql(
        "SELECT left(fieldcrypt.decrypt(ssn), 1)::int FROM lead", 1, fails="22P02"
    ),
    "disconnect in a transaction": disconnect_in_a_transaction,
    "disconnect in a failed transaction": disconnect_in_a_failed_transaction,
    "disconnect in the middle": stream_and_disconnect,
    "statement_timeout": told(
        "SET statement_timeout = 200; SELECT noisy(ssn), pg_sleep(0.05) FROM lead", fails="57014"
    ),
    "cancel": cancelled,
    "pg_cancel_backend": stopped_by("pg_cancel_backend"),
    "pg_terminate_backend": stopped_by("pg_terminate_backend"),
    "two phases, rolled back": two_phase("ROLLBACK"),
    "two phases, committed": two_phase("COMMIT"),
    "read only": sql(f"BEGIN READ ONLY; {READ}; COMMIT"),
    "read only by default": sql(f"SET default_transaction_read_only = on; {READ}"),
    "deferrable": sql(f"BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE; {READ}; ROLLBACK"),
    "discard all": session_reset("DISCARD ALL"),
    "reset session": session_reset("RESET ALL; RESET SESSION AUTHORIZATION; CLOSE ALL"),
    # by the protocol
    "pipeline, disconnect": pipeline_and_disconnect,
    "pipeline of which one fails": pipeline_of_which_one_fails,
    "single row mode": single_row_mode,
    "suspended portal": suspended_portal,
    "suspended portal, disconnect": suspended_portal_and_disconnect,
    "bound and not executed": bound_and_not_executed,
    "function call": function_call,
    # cursors and prepared statements
    "prepare and execute": sql(f"PREPARE p AS {READ}; EXECUTE p; EXECUTE p", 2 * ROWS),
    "prepare, explain analyze execute": sql(f"PREPARE p AS {READ}; EXPLAIN ANALYZE EXECUTE p"),
    "create table as execute": sql(
        f"PREPARE p AS {READ}; BEGIN; CREATE TABLE t AS EXECUTE p; ROLLBACK"
    ),
    "cursor": sql(f"BEGIN; DECLARE c CURSOR FOR {READ}; FETCH 1 FROM c; CLOSE c; COMMIT", 1),
    "cursor of the driver": server_cursor,
    "cursor with hold": sql(f"{HOLDING}; COMMIT; FETCH 2 FROM c; CLOSE c"),
    "cursor with hold, fetched before": sql(f"{HOLDING}; FETCH 3 FROM c; COMMIT", 3 + ROWS),
    "cursor with hold, rolled back": sql(f"{HOLDING}; FETCH 3 FROM c; ROLLBACK", 3),
    "cursor backwards": sql(f"{SCROLLING}; FETCH 3 FROM c; FETCH BACKWARD 2 FROM c; ROLLBACK", 5),
    "cursor moved": sql(f"{SCROLLING}; MOVE 5 IN c; ROLLBACK", 5),
    "cursor of a function": sql("BEGIN; SELECT opened(); FETCH 4 FROM leads; ROLLBACK", 4),
    "cursor in a block": sql(
        f"""DO $$ DECLARE c CURSOR FOR {READ}; t text;
        BEGIN OPEN c; FETCH c INTO t; CLOSE c; ROLLBACK; END $$""",
        1,
    ),
    # copies
    "copy out": copy_out,
    "copy out, disconnect": copy_and_disconnect,
    "copy to a program": sql(f"COPY ({READ}) TO PROGRAM 'cat > /dev/null'"),
    "copy to a file": sql(f"COPY ({READ}) TO '/dev/null'"),
    "copy in with a trigger": copy_in,
    "copy in that fails": copy_in_that_fails,
    "create table as": sql(f"BEGIN; CREATE TABLE t AS {READ}; ROLLBACK"),
    "temporary table": sql(f"CREATE TEMPORARY TABLE t AS {READ}; DISCARD TEMP"),
    "select into": sql(
        "BEGIN; SELECT fieldcrypt.decrypt(ssn) INTO TEMPORARY t FROM lead; ROLLBACK"
    ),
    "insert": sql(f"BEGIN; CREATE TEMPORARY TABLE t (s text); INSERT INTO t {READ}; ROLLBACK"),
    "alter table": sql("""
        BEGIN; CREATE TABLE t AS SELECT ssn FROM lead;
        ALTER TABLE t ALTER COLUMN ssn TYPE text USING fieldcrypt.decrypt(ssn); ROLLBACK
    """),
    "large objects": sql("""
        BEGIN; SELECT lo_from_bytea(0, convert_to(fieldcrypt.decrypt(ssn), 'UTF8')) FROM lead;
        ROLLBACK
    """),
    "setting": sql("SELECT set_config('my.own', fieldcrypt.decrypt(ssn), false) FROM lead"),
    "notification": listened,
    "dblink": dblink,
    "foreign table": foreign_table,
    # queries
    "filter": sql("SELECT id FROM lead WHERE fieldcrypt.decrypt(ssn) LIKE '%5'"),
    "filter that tells": told("SELECT id FROM lead WHERE noisy(ssn) = '' OR id < 0"),
    "subquery": sql(f"SELECT 1 WHERE 'x' IN ({READ})"),
    "exists": sql(f"SELECT EXISTS ({READ} WHERE fieldcrypt.decrypt(ssn) = 'x')"),
    "order": sql("SELECT id FROM lead ORDER BY fieldcrypt.decrypt(ssn) LIMIT 1"),
    "limit": sql(f"{READ} LIMIT 3", 3),
    "offset": sql(f"{READ} OFFSET 9"),
    "aggregate": sql("SELECT string_agg(fieldcrypt.decrypt(ssn), ',') FROM lead"),
    "aggregate of its own": sql("SELECT last_of(ssn) FROM lead"),
    "operator of its own": sql("SELECT ~~~ ssn FROM lead"),
    "window": told("SELECT lag(noisy(ssn)) OVER (ORDER BY id) FROM lead"),
    "group": sql("SELECT count(*) FROM lead GROUP BY fieldcrypt.decrypt(ssn)"),
    "distinct": sql("SELECT DISTINCT fieldcrypt.decrypt(ssn) FROM lead"),
    "union": sql(f"{READ} UNION {READ}", 2 * ROWS),
    "join": told("SELECT count(*) FROM lead AS a JOIN lead AS b ON noisy(a.ssn) = noisy(b.ssn)"),
    "with": sql(f"WITH w AS MATERIALIZED ({READ}) SELECT 1 FROM w"),
    "with recursive": sql("""
        WITH RECURSIVE w (id, s) AS (
            SELECT id, fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1
            UNION ALL
            SELECT l.id, fieldcrypt.decrypt(l.ssn) FROM w JOIN lead AS l ON l.id = w.id + 1)
        SELECT count(s) FROM w
    """),
    "lateral": sql(
        "SELECT s FROM lead, LATERAL (SELECT fieldcrypt.decrypt(ssn) AS s OFFSET 0) AS x"
    ),
    "array": sql("SELECT fieldcrypt.decrypt(array_agg(ssn)) FROM lead"),
    "parallel": parallel,
    "parallel that fails": parallel_that_fails,
    "set-returning function": sql("SELECT * FROM all_of_them() LIMIT 1"),
    "set-returning function, inlined": sql("SELECT * FROM one_by_one() LIMIT 1", 1),
    "function, inlined": sql("SELECT inlined(ssn) FROM lead"),
    "function, not inlined": sql("SELECT not_inlined(ssn) FROM lead"),
    "plan": told("EXPLAIN SELECT FROM lead WHERE id = peek()"),
    "plan that fails": told("SELECT FROM lead WHERE id = 1 / (peek() - peek())", fails="22012"),
    "explain analyze": sql(f"EXPLAIN ANALYZE {READ}"),
    "reveal": sql("SELECT fieldcrypt.reveal(ssn) FROM lead", Reads(action="reveal")),
    "transparent": sql(
        "SET fieldcrypt.transparent = on; SELECT ssn FROM lead", Reads(action="reveal")
    ),
    "view": sql(f"BEGIN; CREATE VIEW v AS {READ}; SELECT * FROM v; ROLLBACK"),
    "document": sql(
        "SELECT fieldcrypt.decrypt(data) FROM customer", 1, Reads(1, field="lead.email")
    ),
    "document revealed": sql(
        "BEGIN; SELECT fieldcrypt.reveal(data) FROM customer; ROLLBACK",
        Reads(1, action="reveal"),
        Reads(1, field="lead.email", action="reveal"),
    ),
    "document, path": sql(
        "SELECT fieldcrypt.decrypt(data, 'mail.address') FROM customer",
        Reads(1, field="lead.email"),
    ),
    # in other statements
    "block": sql("DO $$ BEGIN PERFORM fieldcrypt.decrypt(ssn) FROM lead; END $$"),
    "dynamic statement": sql(
        "DO $$ BEGIN EXECUTE 'SELECT fieldcrypt.decrypt(ssn) FROM lead'; END $$"
    ),
    "expression": told("DO $$ BEGIN PERFORM peek(); END $$"),
    "exception block": sql("""
        DO $$
        BEGIN
            PERFORM fieldcrypt.decrypt(ssn) FROM lead;
            RAISE division_by_zero;
        EXCEPTION WHEN division_by_zero THEN NULL;
        END $$
    """),
    "exception blocks in a loop": sql(
        """
        DO $$
        BEGIN
            FOR i IN 1 .. 5 LOOP
                BEGIN
                    PERFORM fieldcrypt.decrypt(ssn), 1 / (id - i) FROM lead;
                EXCEPTION WHEN division_by_zero THEN PERFORM fieldcrypt.decrypt(ssn) FROM lead;
                END;
            END LOOP;
            RAISE EXCEPTION 'and all of it';
        END $$
        """,
        15 + 5 * ROWS,
        fails="P0001",
    ),
    "procedure that commits and rolls back": sql("CALL in_steps(4)", 4 * ROWS),
    "procedure in a procedure": sql("CALL nested()", 5 * ROWS, fails="22012"),
    "materialized view": sql(
        f"BEGIN; CREATE MATERIALIZED VIEW m AS {READ}; REFRESH MATERIALIZED VIEW m; ROLLBACK",
        2 * ROWS,
    ),
    "returning": sql("""
        BEGIN; CREATE TABLE t AS SELECT ssn FROM lead;
        DELETE FROM t RETURNING fieldcrypt.decrypt(ssn); ROLLBACK
    """),
    "update": sql("""
        BEGIN; CREATE TEMPORARY TABLE t AS SELECT id, '' AS s FROM lead;
        UPDATE t SET s = fieldcrypt.decrypt(ssn) FROM lead WHERE lead.id = t.id; ROLLBACK
    """),
    "merge": sql("""
        BEGIN; CREATE TEMPORARY TABLE t (id int, s text);
        MERGE INTO t USING lead ON lead.id = t.id
            WHEN NOT MATCHED THEN INSERT VALUES (lead.id, fieldcrypt.decrypt(ssn)); ROLLBACK
    """),
    "upsert": sql("""
        BEGIN; CREATE TEMPORARY TABLE t (id int PRIMARY KEY, s text);
        INSERT INTO t SELECT id FROM lead; INSERT INTO t SELECT id FROM lead
            ON CONFLICT (id) DO UPDATE
            SET s = (SELECT fieldcrypt.decrypt(ssn) FROM lead WHERE id = EXCLUDED.id); ROLLBACK
    """),
    "rule": sql(f"""
        BEGIN; CREATE TABLE t (a int); CREATE RULE r AS ON INSERT TO t DO ALSO {READ};
        INSERT INTO t VALUES (1); ROLLBACK
    """),
    "default": told("""
        BEGIN; CREATE TEMPORARY TABLE t (a int DEFAULT peek());
        INSERT INTO t DEFAULT VALUES; ROLLBACK
    """),
    "domain": told("BEGIN; CREATE DOMAIN d AS text CHECK (peek() > 0); SELECT 'x'::d; ROLLBACK"),
    "check": told(
        """
        BEGIN;
        CREATE TEMPORARY TABLE t (
            ssn fieldcrypt.encrypted_text('lead.ssn') CHECK (noisy(ssn) <> ''));
        INSERT INTO t SELECT ssn FROM lead; ROLLBACK
        """,
        least=ROWS,
    ),
    "partition": told("""
        BEGIN; CREATE TABLE t (a int) PARTITION BY LIST (a);
        CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); SELECT FROM t WHERE a = peek(); ROLLBACK
    """),
    "policy": sql("SELECT 1 FROM guarded"),
    # triggers
    "before trigger": trigger("TRIGGER t BEFORE INSERT ON {} FOR EACH ROW"),
    "after trigger": trigger("TRIGGER t AFTER INSERT ON {} FOR EACH ROW"),
    "statement trigger": trigger(
        "TRIGGER t AFTER INSERT ON {} REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT",
        "statement_trigger",
    ),
    "deferred trigger": trigger(
        "CONSTRAINT TRIGGER t AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
        end="COMMIT",
    ),
    "deferred trigger that is brought forward": trigger(
        "CONSTRAINT TRIGGER t AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
        end="SET CONSTRAINTS ALL IMMEDIATE; ROLLBACK",
    ),
    "deferred trigger that fails": trigger(
        "CONSTRAINT TRIGGER t AFTER INSERT ON {} DEFERRABLE INITIALLY DEFERRED FOR EACH ROW",
        "failing_trigger",
        end="COMMIT",
        fails="P0001",
    ),
    "event trigger": event_trigger,
    # by whom
    "other role in the middle": other_role_in_the_middle,
    "other session authorization": other_session_authorization,
    "other actor in the middle": other_actor_in_the_middle,
    "application name": application_name,
    "set role": sql(f"SET ROLE definer; {READ}", Reads(role="definer"), user="app_globex"),
    "security definer": sql("SELECT lent(ssn) FROM lead", Reads(role="definer")),
    "security definer, and not": sql(
        "SELECT lent(ssn), fieldcrypt.decrypt(ssn) FROM lead", ROWS, Reads(role="definer")
    ),
}


# What the audit has of it


@contextlib.contextmanager
def readable(settings=None):
    """A server of its own with leads, and with roles that may read them."""
    with Cluster(settings) as own:
        own.create_roles("definer", "masked")
        with account_database(own) as database:
            database.execute(OBJECTS)
            yield database


@pytest.fixture(scope="module")
def leads():
    with readable({"autovacuum_naptime": 1}) as database:
        yield database


def flush(database):
    database.execute("SELECT fieldcrypt.flush_audit()")


def last_seq(database):
    flush(database)
    return database.value("SELECT coalesce(max(seq), 0) FROM fieldcrypt.audit")


def plain_reads(database, since):
    """How many values of each kind were read plain, by the audit."""
    flush(database)
    rows = database.execute(
        """
        SELECT action, field, account, acting_role, sum(count)::int FROM fieldcrypt.audit
        WHERE seq > %s AND outcome = 'plain' GROUP BY 1, 2, 3, 4
        """,
        [since],
    )
    return {tuple(kind): count for *kind, count in rows}


def check(found, reads):
    """Compares what the audit has with what was read."""
    assert reads
    expected = {(r.action, r.field, r.account, r.role): r for r in reads}
    assert len(expected) == len(reads)
    assert found.keys() == expected.keys()
    for kind, read in expected.items():
        if read.at_least:
            assert found[kind] >= read.count, kind
        else:
            assert found[kind] == read.count, kind


def findings(database):
    rows = database.execute("SELECT ok, finding FROM fieldcrypt.verify_audit()")
    return [finding for ok, finding in rows if not ok]


@pytest.mark.parametrize("way", WAYS)
def test_threat_e_every_way_of_reading(leads, way):
    before = last_seq(leads)
    reads = WAYS[way](leads)
    check(plain_reads(leads, before), reads)
    lost = "SELECT count(*) FROM fieldcrypt.audit WHERE action = 'lost'"
    assert leads.value(lost) == 0
    assert findings(leads) == []


def test_threat_e6_no_value_in_the_audit(leads):
    """Nor in the server's log, after all those ways."""
    leads.execute(
        f"COPY (SELECT 1 FROM lead WHERE fieldcrypt.reveal(ssn) = '{CANARY}') TO '/dev/null'"
    )
    assert last_seq(leads) > 100
    query = "SELECT count(*) FROM fieldcrypt.audit AS e WHERE e::text LIKE %s"
    assert leads.value(query, [f"%{CANARY}%"]) == 0
    assert leads.value(query, ["%lead.ssn%"]) > 0
    assert CANARY not in leads.cluster.log()


# Where the table cannot be written: the server's log

LOGGED = (
    *("select", "rollback", "error in the middle", "error later in the transaction"),
    *("disconnect in a failed transaction", "disconnect in the middle", "statement_timeout"),
    *("pg_terminate_backend", "pipeline, disconnect", "suspended portal, disconnect"),
    *("cursor with hold", "copy out", "copy out, disconnect", "exception block"),
    *("parallel", "reveal", "document", "security definer"),
)
EVENT = re.compile(r"LOG:  fieldcrypt audit: (\{.*\})")


def logged_reads(log):
    """How many values of each kind were read plain, by a server's log."""
    found = {}
    for event in map(json.loads, EVENT.findall(log)):
        if event["outcome"] == "plain":
            kind = (event["action"], event["field"], event["account"], event["acting_role"])
            found[kind] = found.get(kind, 0) + event["count"]
    return found


def check_log(database):
    """Reads in many ways, and finds it in the log of the database's server."""
    for way in LOGGED:
        before = len(database.cluster.log())
        reads = WAYS[way](database)
        check(logged_reads(database.cluster.log()[before:]), reads)
    assert CANARY not in database.cluster.log()


def check_refusal(database):
    """In strict mode nothing is shown that cannot be recorded; what shows nothing still works."""
    hint = "standby.*shared_preload_libraries"
    with connect(database) as app:
        for function in "decrypt", "reveal":
            with refused("55000", "audit cannot be written", hint):
                app.execute(f"SELECT fieldcrypt.{function}(ssn) FROM lead")
            with refused("55000", "audit cannot be written", hint):
                app.execute(f"SELECT fieldcrypt.{function}(data) FROM customer")
    with connect(database, "masked") as masked:
        with refused("55000", hint=hint):
            masked.execute("SELECT fieldcrypt.reveal(ssn) FROM lead")
    with connect(database, "outsider") as outsider:
        hidden = outsider.execute("SELECT DISTINCT fieldcrypt.reveal(ssn) FROM lead").fetchall()
        assert hidden == [("********",)]
        outsider.execute("SELECT fieldcrypt.reveal(data) FROM customer")


@contextlib.contextmanager
def restarted(database, stop=None, **settings):
    """Stops the server, or lets `stop` do it, and starts it, with other settings for the block."""
    cluster, before = database.cluster, dict(database.cluster.settings)

    def restart(stop):
        database.conn.close()
        stop()
        cluster.start()
        database.conn = database.connect()

    cluster.settings.update({name.replace("__", "."): value for name, value in settings.items()})
    restart(stop or cluster.stop)
    try:
        yield
    finally:
        cluster.settings = before
        if settings:
            restart(cluster.stop)


def test_threat_e2_standby(leads):
    """Its events are in its log."""
    standby = leads.cluster.standby()
    try:
        standby.start()
        standby.catch_up(leads.cluster)
        database = Database(standby, leads.name, exists=True)
        check_log(database)
        before = len(standby.log())
        database.execute("ALTER SYSTEM SET fieldcrypt.audit = strict")
        database.execute("SELECT pg_reload_conf()")
        wait_for(database, "SHOW fieldcrypt.audit", "strict")
        check_refusal(database)
        assert logged_reads(standby.log()[before:]) == {}
        database.conn.close()
    finally:
        standby.remove()
    assert findings(leads) == []


def wait_for(database, query, value):
    deadline = time.monotonic() + 30
    while database.value(query) != value:
        assert time.monotonic() < deadline, query
        time.sleep(0.01)


@pytest.fixture(scope="module")
def own():
    """A server that the tests may stop, with a small ring."""
    settings = {
        "fsync": "on",
        "synchronous_commit": "off",  # the worker does without that
        "recovery_init_sync_method": "syncfs",  # or it takes seconds to recover
        "fieldcrypt.audit_buffer": "64kB",
    }
    with readable(settings) as database:
        database.execute("""
            CREATE TABLE lead_of_both (LIKE lead);
            GRANT SELECT, INSERT ON lead_of_both TO app, app_globex;
            SELECT fieldcrypt.grant_access('app', '{decrypt}', 'globex', 'lead.*');
        """)
        for user, account in ("app", "acme"), ("app_globex", "globex"):
            with database.connect(user, options=f"-c fieldcrypt.account={account}") as writer:
                writer.execute(
                    "INSERT INTO lead_of_both SELECT i, i::text, i || '@b.example'"
                    " FROM generate_series(1, 50) AS i"
                )
        yield database


def test_threat_e2_without_preload(own):
    with restarted(own, shared_preload_libraries=None):
        check_log(own)
    with restarted(own, shared_preload_libraries=None, fieldcrypt__audit="strict"):
        check_refusal(own)
    assert findings(own) == []


def test_threat_e2_single_user_mode(own):
    before = last_seq(own)
    outputs = []

    def single_user():
        own.cluster.stop()
        arguments = ("--single", "-D", own.cluster.data_dir, own.name)
        statements = f"SET ROLE app\n{READ}\n"
        outputs.append(own.cluster.run("postgres", *arguments, input=statements))

    with restarted(own, single_user):
        assert outputs[0].stdout.count(CANARY) == ROWS
        check(logged_reads(outputs[0].stderr), [Reads()])
        assert plain_reads(own, before) == {}


def test_threat_e2_more_databases_than_rings(own):
    """Those that come too late write to the log, also while their transactions are aborted."""
    with restarted(own, fieldcrypt__audit_databases=1):
        with connect(own) as app:
            app.execute(READ)
        flush(own)
        with account_database(own.cluster) as other:
            other.execute(OBJECTS)
            check_log(other)
            with connect(other) as app:
                with refused("22012"):
                    app.execute("SELECT fieldcrypt.decrypt(ssn), 1 / (id - 5) FROM lead")
                query = "SELECT backend_xmin FROM pg_stat_activity WHERE pid = %s"
                assert other.value(query, [app.info.backend_pid]) is None


# Servers that stop, and worse


@pytest.mark.parametrize("worker", ["already there", "not yet there"])
def test_threat_e1_shutdown_in_the_middle(own, worker):
    """What a session has read when the server stops is in the table afterwards."""
    before = last_seq(own)
    with restarted(own):
        if worker == "already there":
            flush(own)
        wire = Wire(own)
        wire.send((b"Q", STREAM))
        wire.until(b"T")
        for _ in range(500):
            assert wire.receive()[0] == b"D"
        # otherwise PostgreSQL may wait for ever for this client to read why it is disconnected
        until_blocked(own, wire.pid)
        start = time.monotonic()
        with restarted(own):
            assert time.monotonic() - start < 20
            check(plain_reads(own, before), [Reads(500, at_least=True)])
            assert findings(own) == []
        wire.close()


BOTH = """
    WITH actor AS MATERIALIZED (SELECT fieldcrypt.set_actor(%s))
    SELECT fieldcrypt.account_of(ssn), 'lead.ssn', fieldcrypt.decrypt(ssn) FROM actor, lead_of_both
    UNION ALL
    SELECT fieldcrypt.account_of(email), 'lead.email', fieldcrypt.decrypt(email)
    FROM actor, lead_of_both
"""


class Readers:
    """Sessions that read until the server goes away, and note what they have received of what."""

    def __init__(self, database, number=4):
        self.database = database
        self.statements = [0] * number
        self.received = set()
        self.pids = {}
        self.threads = [threading.Thread(target=self.read, args=(n,)) for n in range(number)]
        for thread in self.threads:
            thread.start()

    def read(self, number):
        with suppress(psycopg.OperationalError), connect(self.database) as connection:
            self.pids[number] = connection.info.backend_pid
            while True:
                statement = secrets.token_hex(8)
                for account, field, _ in connection.cursor().stream(BOTH, [statement]):
                    self.received.add((statement, account, field))
                self.statements[number] += 1

    def wait(self, least):
        deadline = time.monotonic() + 30
        while min(self.statements) < least:
            assert time.monotonic() < deadline, "the readers do not get on"
            time.sleep(0.005)

    def join(self):
        for thread in self.threads:
            thread.join(30)
            assert not thread.is_alive()
        return self.received


def crash(database, kind, chance, least=2):
    """Kills amid readers, and waits until the server is back; returns what they had received."""
    cluster = database.cluster
    query = (
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'fieldcrypt audit' AND datname = current_database()"
    )
    readers = Readers(database)
    readers.wait(least)
    time.sleep(chance.random() * 0.15)
    if kind == "server":
        cluster.kill9()
    elif kind == "immediate":
        cluster.stop("immediate")
    else:
        pid = database.value(query) if kind == "worker" else readers.pids[chance.randrange(4)]
        os.kill(pid, signal.SIGKILL)
    received = readers.join()
    database.conn.close()
    if kind in ("server", "immediate"):
        cluster.start()
    else:
        wait_for_recovery(cluster)
    database.conn = database.connect()
    assert received
    return received


def missing(database, received):
    """What was received of which the audit does not know."""
    flush(database)
    rows = database.execute(
        """
        SELECT actor_id, account, field FROM fieldcrypt.audit
        WHERE action = 'decrypt' AND outcome IN ('opened', 'plain')
        """
    )
    return received - set(rows)


def test_threat_e1_strict_loses_nothing(own):
    """30 crashes: of whatever a client has received, an event was on disk before."""
    chance = random.Random(4711)
    with restarted(own, fieldcrypt__audit="strict"):
        for cycle in range(30):
            kind = ("backend", "worker", "server", "worker", "backend", "immediate")[cycle % 6]
            received = crash(own, kind, chance)
            assert missing(own, received) == set(), (cycle, kind)
            assert findings(own) == [], (cycle, kind)


def test_threat_e1_crashes_in_mode_on(own):
    """What was not on disk yet may be lost, but the audit stays whole."""
    chance = random.Random(4712)
    for kind in "backend", "worker", "server":
        received = crash(own, kind, chance, least=50)
        lost = missing(own, received)
        print(f"kill -9 of the {kind}: {len(lost)} of {len(received)} reads lost")
        assert findings(own) == []


# What could stop events on their way


@contextlib.contextmanager
def stopped_worker(database):
    """The worker does not write during the block."""
    with connect(database) as app:
        app.execute(READ)
    flush(database)
    time.sleep(0.5)  # then it holds no lock
    pid = database.value(
        "SELECT pid FROM pg_stat_activity"
        " WHERE backend_type = 'fieldcrypt audit' AND datname = current_database()"
    )
    os.kill(pid, signal.SIGSTOP)
    try:
        yield pid
    finally:
        os.kill(pid, signal.SIGCONT)


def test_threat_e7_what_is_lost_is_counted(own):
    """A ring that is full, and statements that are cancelled while they wait for room."""
    with connect(own) as app:
        statements = cancelled = 0
        with stopped_worker(own):
            before = own.value("SELECT max(seq) FROM fieldcrypt.audit")
            app.execute("SET statement_timeout = 200")
            while not cancelled:
                statements += 1
                try:
                    app.execute(READ)
                except psycopg.errors.QueryCanceled:
                    cancelled += 1
            for _ in range(10):
                app.execute(READ)
    flush(own)
    query = "SELECT coalesce(sum(count), 0)::int FROM fieldcrypt.audit WHERE seq > %s AND {}"
    assert own.value(query.format("outcome = 'plain'"), [before]) == (statements - 1) * ROWS
    assert own.value(query.format("action = 'lost'"), [before]) == 1 + 10
    assert findings(own) == []


def test_threat_e7_whatever_the_application_says(own):
    """An event that would not fit into the ring, did it hold all of it."""
    before = last_seq(own)
    with connect(own) as app:
        for part in "id", "name", "address", "action":
            app.execute(
                f"SELECT set_config('fieldcrypt.actor_{part}', repeat(E'\\1', 1000000), false)"
            )
        entities = "string_agg(fieldcrypt.decrypt(ssn, repeat(E'\\1', 198) || id % 100), '')"
        app.execute(f"SELECT {entities} FROM wide, generate_series(1, 50) AS id")
    check(plain_reads(own, before), [Reads(50 * 30 * ROWS)])


def test_threat_e1_the_first_changes(own):
    """Those of the transaction that creates the extension."""
    with restarted(own, fieldcrypt__audit="strict"):
        fresh = Database(own.cluster)
        for _ in range(3):
            fresh.execute("""
                BEGIN;
                CREATE EXTENSION fieldcrypt;
                SELECT fieldcrypt.create_account('acme');
                SELECT fieldcrypt.create_field('lead.ssn');
                SELECT fieldcrypt.grant_access('app', '{decrypt}', 'acme', 'lead.*');
                COMMIT
            """)
            flush(fresh)
            actions = "SELECT action FROM fieldcrypt.audit WHERE outcome = 'done' ORDER BY seq"
            changes = [("create_account",), ("create_field",), ("grant_access",)]
            assert fresh.execute(actions).fetchall() == changes
            assert findings(fresh) == []
            fresh.execute("DROP EXTENSION fieldcrypt")
        fresh.drop()


def test_threat_e3_entity_of_a_cancelled_read(own):
    """What was noted for a read that was cancelled is not said of the next."""
    with restarted(own, fieldcrypt__audit="strict"):
        with connect(own) as app, stopped_worker(own) as pid:
            threading.Timer(1, os.kill, (pid, signal.SIGCONT)).start()
            app.execute("SET statement_timeout = 200")
            app.execute("""
                DO $$
                BEGIN
                    BEGIN
                        PERFORM fieldcrypt.decrypt(ssn, 'of the first') FROM lead;
                    EXCEPTION WHEN query_canceled THEN NULL;
                    END;
                    PERFORM fieldcrypt.decrypt(ssn) FROM lead;
                END $$
            """)
        flush(own)
        last = "SELECT outcome, count, entities FROM fieldcrypt.audit ORDER BY seq DESC LIMIT 1"
        assert own.execute(last).fetchone() == (
            *("plain", ROWS),
            [str(number) for number in range(1, ROWS + 1)],
        )


def test_threat_e3_address_of_a_parallel_query(own):
    """Its workers have no client of their own."""
    address = f"127.{1 + secrets.randbelow(254)}.{secrets.randbelow(256)}.1"
    query = "SELECT DISTINCT client_address FROM fieldcrypt.audit WHERE seq > %s"
    with restarted(own, listen_addresses=address):
        before = last_seq(own)
        with psycopg.connect(
            host=address, port=own.cluster.port, user="app", dbname=own.name, autocommit=True
        ) as app:
            app.execute(PARALLEL)
            app.execute("SELECT count(fieldcrypt.decrypt(ssn)) FROM wide")
            (client,) = app.execute("SELECT host(inet_client_addr())").fetchone()
        check(plain_reads(own, before), [Reads(30 * ROWS)])
        assert own.execute(query, [before]).fetchall() == [(client,)]


def test_threat_e1_strict_when_no_process_is_free(own):
    """A query whose own workers take all processes gets an error, and does not wait for ever."""
    with restarted(own, fieldcrypt__audit="strict", max_worker_processes=2), connect(own) as app:
        app.execute(PARALLEL)
        app.execute("SET statement_timeout = '60s'")
        query = "SELECT count(fieldcrypt.decrypt(ssn)) FROM wide"
        with refused("53400", "no process is free", "max_worker_processes"):
            app.execute(query)
        app.execute(READ)
        assert app.execute(query).fetchone() == (30 * ROWS,)


def test_threat_e7_event_triggers_do_not_stop_it(own):
    """As when a month begins, and the worker makes a partition."""
    own.execute("""
        CREATE FUNCTION no_tables() RETURNS event_trigger LANGUAGE plpgsql
            AS $$ BEGIN RAISE 'no tables today'; END $$
    """)
    partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass"
    partition = own.value(partitions, ["fieldcrypt.audit_batch"])
    flush(own)
    own.execute("BEGIN")
    own.execute(f"ALTER EXTENSION fieldcrypt DROP TABLE {partition}")
    own.execute(f"ALTER TABLE fieldcrypt.audit_batch DETACH PARTITION {partition}")
    own.execute(f"ALTER TABLE {partition} RENAME TO audit_of_before")
    own.execute("CREATE EVENT TRIGGER no_tables ON ddl_command_start EXECUTE FUNCTION no_tables()")
    own.execute("COMMIT")
    try:
        before = own.value("SELECT max(last_seq) FROM fieldcrypt.audit_of_before")
        with connect(own) as app:
            app.execute(READ)
        check(plain_reads(own, before), [Reads()])
    finally:
        own.execute("DROP EVENT TRIGGER no_tables")
