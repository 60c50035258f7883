"""Events reach the table, whatever happens to sessions, worker, databases and the server."""

import json
import os
import re
import signal
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from audit_chain import (
    FIRST,
    audit_key,
    batch_seal,
    batches,
    decode,
    events,
    findings,
    is_whole,
    months_ago,
    write_past,
)
from expect import LEADS, refused
from harness import Cluster, Database, account_database

DECRYPT = "SELECT fieldcrypt.decrypt(ssn) FROM public.lead"
EVENTS = """
    SELECT action, outcome, field, account, count, detail, actor_id, acting_role, entities
    FROM fieldcrypt.audit ORDER BY seq
"""
BLOCKED = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"


def fill(database, values=3):
    """The table of leads, with values of acme."""
    database.execute(LEADS)
    with reader(database) as app:
        app.execute(f"INSERT INTO lead (ssn) SELECT i::text FROM generate_series(1, {values}) AS i")
    return database


def reader(database, user="app", **options):
    return database.connect(user, options="-c fieldcrypt.account=acme", **options)


def read(database, times=1):
    for _ in range(times):
        with reader(database) as app:
            app.execute(DECRYPT)


def flushed(database):
    """The events, after all that happened before is in the table."""
    database.execute("SELECT fieldcrypt.flush_audit()")
    return database.execute(EVENTS).fetchall()


def reads(database):
    """How many values were decrypted."""
    return sum(event[4] for event in flushed(database) if event[:2] == ("decrypt", "plain"))


def changes(database, *actions):
    """Action, outcome and detail of the changes of that kind, in their order."""
    return [(event[0], event[1]) for event in flushed(database) if event[0] in actions]


def status(database):
    row = database.execute("SELECT * FROM fieldcrypt.audit_status()").fetchone()
    names = ("mode", "sink", "worker", "waiting", "capacity", "lost", "seq")
    return dict(zip(names, row, strict=True))


def worker(database):
    """The process of the worker, which is started for it if need be."""
    database.execute("SELECT fieldcrypt.flush_audit()")
    read(database)
    database.execute("SELECT fieldcrypt.flush_audit()")
    return status(database)["worker"]


def wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def set_mode(cluster, mode):
    """Changes fieldcrypt.audit, and waits until new sessions have it."""
    with cluster.connect() as connection:
        before = connection.execute("SELECT pg_conf_load_time()").fetchone()
        connection.execute(f"ALTER SYSTEM SET fieldcrypt.audit = '{mode}'")
        connection.execute("SELECT pg_reload_conf()")
        while connection.execute("SELECT pg_conf_load_time()").fetchone() == before:
            pass


@contextmanager
def locked(database, table="audit_batch"):
    """Keeps the worker from writing."""
    with database.connect(autocommit=False) as connection:
        connection.execute(f"LOCK TABLE fieldcrypt.{table} IN ACCESS EXCLUSIVE MODE")
        yield connection
        connection.rollback()


@pytest.fixture
def filled(db):
    return fill(db)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A server with the smallest buffers, for two databases."""
    with Cluster({"fieldcrypt.audit_buffer": "64kB", "fieldcrypt.audit_databases": 2}) as cluster:
        yield cluster


@pytest.fixture
def narrow(small):
    with account_database(small) as database:
        yield fill(database)
        small.psql("ALTER SYSTEM RESET fieldcrypt.audit")


@pytest.fixture
def strict(narrow):
    set_mode(narrow.cluster, "strict")
    narrow.conn.close()
    narrow.conn = narrow.connect()
    return narrow


# The worker


def test_the_worker_ends_and_another_goes_on(filled):
    first = worker(filled)
    assert filled.execute(
        "SELECT datname, backend_type FROM pg_stat_activity WHERE pid = %s", [first]
    ).fetchone() == (filled.name, "fieldcrypt audit")
    before = reads(filled)
    filled.execute("SELECT pg_terminate_backend(%s)", [first])
    read(filled, 3)
    wait_until(lambda: status(filled)["worker"] != first)
    read(filled, 3)
    assert reads(filled) == before + 18
    assert is_whole(filled.conn)
    assert status(filled)["worker"] not in (None, first)


def test_a_worker_that_waits_for_a_lock_does_not_hold_up_sessions(filled):
    """In mode on nothing but the worker waits for the audit's table."""
    with locked(filled):
        start = time.monotonic()
        read(filled, 5)
        filled.execute("SELECT fieldcrypt.create_account('meanwhile')")
        assert time.monotonic() - start < 2
        assert status(filled)["waiting"] > 0
    assert reads(filled) == 15
    assert status(filled)["waiting"] == 0


def test_settings_of_the_database(filled):
    """What a database's configuration says does not keep the worker from writing."""
    before = worker(filled)
    with reader(filled) as app, filled.connect(autocommit=False) as other:
        for setting in (
            *("default_transaction_read_only = on", "statement_timeout = 1", "lock_timeout = 1"),
            *("synchronous_commit = off", "search_path = nowhere", "DateStyle = 'SQL, DMY'"),
            *("TimeZone = 'Pacific/Kiritimati'", "default_transaction_isolation = serializable"),
        ):
            filled.execute(f"ALTER DATABASE {filled.name} SET {setting}")
        filled.execute("SELECT pg_terminate_backend(%s)", [before])
        wait_until(lambda: status(filled)["worker"] is None)
        other.execute("LOCK TABLE fieldcrypt.audit_batch IN ACCESS EXCLUSIVE MODE")
        app.execute("SET default_transaction_read_only = on")
        app.execute(DECRYPT)
        wait_until(lambda: status(filled)["worker"] is not None)
        time.sleep(0.3)
        other.rollback()
        assert reads(filled) == 6
    assert status(filled)["worker"] != before
    assert is_whole(filled.conn)
    filled.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'")
    bounds = [f"'{months_ago(ago):%Y-%m-%d} 00:00:00+00'" for ago in (0, -1)]
    assert filled.execute(
        "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid)"
        " FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid"
        " WHERE inhparent = 'fieldcrypt.audit_batch'::regclass"
    ).fetchall() == [
        (f"{months_ago(0):audit_%Y_%m}", "FOR VALUES FROM ({}) TO ({})".format(*bounds))
    ]


def test_all_background_workers_are_taken(make_cluster):
    """Events wait until one is free."""
    own = make_cluster({"max_worker_processes": 2, "max_logical_replication_workers": 0})
    with (
        account_database(own) as one,
        account_database(own) as two,
        account_database(own) as three,
    ):
        for database in one, two:
            assert worker(fill(database))
        fill(three)
        read(three, 5)
        assert status(three) | {"waiting": 0} == {
            **{"mode": "on", "sink": "table", "worker": None, "waiting": 0},
            **{"capacity": 1 << 20, "lost": 0, "seq": None},
        }
        assert status(three)["waiting"] > 0
        with refused("57014"):
            three.execute("SET statement_timeout = '300ms'; SELECT fieldcrypt.flush_audit()")
        three.execute("RESET statement_timeout")
        one.execute("SELECT pg_terminate_backend(%s)", [status(one)["worker"]])
        assert reads(three) == 15
        assert is_whole(three.conn)
        assert status(three)["worker"]


# The ring


def test_a_full_ring_loses_nothing_in_silence(narrow):
    """What there was no room for is counted, and the count is an event."""
    flushed(narrow)
    with locked(narrow):
        for _ in range(3):  # some sessions, as the first to find no room waits a second
            read(narrow, 400)
        waiting = status(narrow)
        assert waiting["lost"] > 0
        assert waiting["waiting"] <= waiting["capacity"] == 1 << 16
    found = flushed(narrow)
    written = [event for event in found if event[0] == "decrypt"]
    lost = [event for event in found if event[0] == "lost"]
    assert {event[4] for event in written} == {3}
    assert len(written) + sum(event[4] for event in lost) == 1200
    assert lost and {event[1] for event in lost} == {"done"}
    assert status(narrow)["lost"] == 0
    assert is_whole(narrow.conn)
    read(narrow, 2)
    assert len([event for event in flushed(narrow) if event[0] == "decrypt"]) == len(written) + 2


def test_a_statement_that_is_cancelled_while_it_waits_for_room(narrow):
    """Its events are written or counted as lost all the same."""
    flushed(narrow)
    number = 0
    with locked(narrow), reader(narrow) as app:
        app.execute("SET statement_timeout = '200ms'")
        with refused("57014"):
            while True:
                number += 1
                app.execute(DECRYPT)
        assert status(narrow)["lost"] == 1
        # nobody waits any more before there is room again
        for _ in range(5):
            app.execute("SELECT fieldcrypt.decrypt(ssn), fieldcrypt.reveal(ssn, 'x') FROM lead")
            number += 2
    found = flushed(narrow)
    written = [event for event in found if event[0] in ("decrypt", "reveal")]
    lost = sum(event[4] for event in found if event[0] == "lost")
    assert len(written) + lost == number
    assert lost > 0


def test_a_large_event(narrow):
    """The largest event that there can be fits into the smallest ring."""
    entity = "\x01" * 199
    with reader(narrow) as app:
        app.execute("SELECT set_config('application_name', repeat(chr(1), 63), false)")
        with app.transaction():
            app.execute("SELECT fieldcrypt.set_actor(%s, %s, %s, %s)", ["\x01" * 200] * 4)
            app.execute(
                "SELECT fieldcrypt.decrypt(ssn, %s || chr(64 + i))"
                " FROM lead, generate_series(1, 40) AS i WHERE id = 1",
                [entity],
            )
    narrow.execute("SELECT fieldcrypt.keep_plain(ARRAY[repeat(chr(1), 100000)])")
    with narrow.connect("outsider") as outsider:
        outsider.execute("SELECT set_config('fieldcrypt.account', repeat(chr(1), 100000), false)")
        with refused("42501"):
            outsider.execute("INSERT INTO lead (ssn) VALUES ('1')")
    found = flushed(narrow)
    assert not [event for event in found if event[0] == "lost"]
    (large,) = [event for event in found if event[0] == "decrypt"]
    assert large[4] == 40
    assert large[8] == [entity + chr(64 + i) for i in range(1, 33)]
    assert [event[5] for event in found if event[0] == "keep_plain"] == ["\x01" * 500]
    assert [event[3] for event in found if event[1] == "denied"] == ["\x01" * 500]
    assert is_whole(narrow.conn)


def test_more_databases_than_rings(narrow):
    """Events of the others go to the log; once a database is gone, its ring is another's."""
    small = narrow.cluster
    read(narrow)
    flushed(narrow)
    with account_database(small) as second:
        read(fill(second))
        assert status(second)["sink"] == "table"
        with account_database(small) as third:
            fill(third)
            start = len(small.log())
            assert status(third) == dict.fromkeys(status(third)) | {"mode": "on", "sink": "log"}
            with third.connect() as connection, connection.transaction(force_rollback=True):
                connection.execute("SELECT fieldcrypt.create_account('ä')")
            with reader(third) as app:
                app.execute(f"{DECRYPT}, fieldcrypt.set_actor(%s)", ['ä "quoted"\n'])
            found = logged(small, start)
            assert [(e["action"], e["outcome"], e["account"]) for e in found] == [
                ("create_account", "rolled back", "ä"),
                ("decrypt", "plain", "acme"),
            ]
            assert found[1]["actor_id"] == 'ä "quoted"\n'
            assert found[1]["count"] == 3
            assert third.value("SELECT count(*) FROM fieldcrypt.audit_batch") == 0
            third.execute("SELECT fieldcrypt.flush_audit()")  # there is nothing to wait for
            second.drop()
            second.conn = small.connect()
            start = len(small.log())
            read(third, 2)
            assert reads(third) == 6
            assert status(third)["sink"] == "table"
            assert not logged(small, start)
            assert is_whole(third.conn)


def logged(cluster, start):
    """The events in the log, from a position on."""
    text = cluster.log()[start:]
    lines = re.findall(r"LOG:  fieldcrypt audit: (.*(?:\n\t.*)*)", text)
    return [json.loads(line) for line in lines]


# Strict mode


def test_strict_waits(strict):
    """No value is handed out before its event is on disk; whoever waits can be cancelled."""
    before = len(flushed(strict))
    app = reader(strict)
    seen, failed = [], []

    def wait():
        try:
            seen.append(app.execute(DECRYPT).fetchall())
        except psycopg.errors.QueryCanceled as error:
            failed.append(error)

    with locked(strict):
        app.execute("SET statement_timeout = '300ms'")
        wait()
        app.execute("RESET statement_timeout")
        assert len(failed) == 1
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
        assert waiting.is_alive()
        strict.execute("SELECT pg_cancel_backend(%s)", [app.info.backend_pid])
        waiting.join(10)
        assert len(failed) == 2
        waiting = threading.Thread(target=wait)
        waiting.start()
        time.sleep(0.5)
        # what shows nothing and what is refused does not wait
        with reader(strict, "outsider") as outsider:
            hidden = "SELECT fieldcrypt.reveal(ssn) FROM lead WHERE id = 1"
            assert outsider.execute(hidden).fetchone() == ("********",)
            with refused("42501"):
                outsider.execute(DECRYPT)
        assert waiting.is_alive()
    waiting.join(10)
    app.close()
    assert seen == [[("1",), ("2",), ("3",)]]
    found = flushed(strict)[before:]
    assert sorted(event[:2] for event in found if event[7] == "app") == [
        *[("decrypt", "opened")] * 3,
        ("decrypt", "plain"),
    ]
    assert sorted(event[:2] for event in found if event[7] == "outsider") == [
        ("decrypt", "denied"),
        ("reveal", "hidden"),
    ]
    ids = strict.execute(
        "SELECT id, array_agg(outcome ORDER BY seq), array_agg(count ORDER BY seq)"
        " FROM fieldcrypt.audit WHERE acting_role = 'app' AND action = 'decrypt'"
        " GROUP BY id HAVING count(*) > 1"
    ).fetchall()
    assert [rest for _, *rest in ids] == [[["opened", "plain"], [None, 3]]]
    assert is_whole(strict.conn)


def test_strict_does_not_wait_for_itself(strict):
    """Who holds a lock that the worker needs is told so."""
    with reader(strict) as app, app.transaction():
        strict.execute("GRANT fieldcrypt_auditor TO app")
        strict.execute("GRANT ALL ON fieldcrypt.audit_batch TO app")
        app.execute("LOCK TABLE fieldcrypt.audit_batch IN ACCESS EXCLUSIVE MODE")
        for statement in DECRYPT, "SELECT fieldcrypt.flush_audit()":
            with refused("40P01", "lock of this transaction", "Commit"), app.transaction():
                app.execute(statement)
    with reader(strict) as app:
        assert len(app.execute(DECRYPT).fetchall()) == 3


def test_strict_with_a_full_ring(strict):
    """Many who wait at once: nothing is lost, neither what opens nor what closes."""
    before = len(flushed(strict))
    number = 60
    entity = "x" * 190
    with locked(strict):
        sessions = [reader(strict) for _ in range(number)]
        outsider = reader(strict, "outsider")
        threads = [
            threading.Thread(
                target=session.execute,
                args=("SELECT fieldcrypt.decrypt(ssn, %s || id) FROM lead", [entity]),
            )
            for session in sessions
        ]
        for thread in threads:
            thread.start()
        hidden = "SELECT fieldcrypt.reveal(ssn, %s || i) FROM lead, generate_series(1, 30) AS i"
        room = threading.Thread(
            target=lambda: [outsider.execute(hidden, [entity]) for _ in range(20)]
        )
        room.start()
        time.sleep(1)
        assert room.is_alive()  # it waits for room
        assert status(strict)["lost"] == 0
    for thread in [*threads, room]:
        thread.join(60)
    for session in [*sessions, outsider]:
        session.close()
    found = flushed(strict)[before:]
    assert not [event for event in found if event[0] == "lost"]
    counted = [event[:2] for event in found]
    assert counted.count(("decrypt", "opened")) == counted.count(("decrypt", "plain")) == number
    assert counted.count(("reveal", "hidden")) == 20
    assert status(strict)["lost"] == 0


def test_strict_changes_are_opened(strict):
    """A change waits too, and its two events have one id."""
    strict.execute("SELECT fieldcrypt.create_account('strict')")
    with strict.conn.transaction(force_rollback=True):
        strict.execute("SELECT fieldcrypt.disable_account('strict')")
    with locked(strict), strict.connect() as connection, refused("57014"):
        connection.execute("SET statement_timeout = '300ms'")
        connection.execute("SELECT fieldcrypt.disable_account('strict')")
    strict.execute("SELECT fieldcrypt.flush_audit()")
    assert strict.execute(
        "SELECT action, array_agg(outcome ORDER BY seq) FROM fieldcrypt.audit"
        " WHERE account = 'strict' GROUP BY action, id ORDER BY min(seq)"
    ).fetchall() == [
        ("create_account", ["opened", "done"]),
        ("disable_account", ["opened", "rolled back"]),
        ("disable_account", ["opened"]),  # cancelled before anything was changed
    ]
    state = "SELECT state FROM fieldcrypt.account WHERE account = 'strict'"
    assert strict.value(state) == "active"


def test_strict_survives_a_crash(make_cluster):
    """What was read is in the audit although the server dies at once, also where the database says
    synchronous_commit = off; the chain is whole afterwards."""
    own = make_cluster({"fieldcrypt.audit": "strict"})
    with account_database(own) as database:
        fill(database)
        database.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = off")
        database.execute("SELECT pg_terminate_backend(%s)", [worker(database)])
        wait_until(lambda: status(database)["worker"] is None)
        for crash in range(3):
            app = reader(database)
            app.execute("BEGIN")
            app.execute("SELECT fieldcrypt.set_actor(%s)", [f"crash {crash}"])
            assert len(app.execute(DECRYPT).fetchall()) == 3
            own.kill9()
            app.close()
            database.conn.close()
            own.start()
            database.conn = database.connect()
            found = database.execute(
                "SELECT outcome FROM fieldcrypt.audit WHERE actor_id = %s", [f"crash {crash}"]
            ).fetchall()
            assert ("opened",) in found
            assert is_whole(database.conn)


# The database and the extension


def test_databases_without_connections(make_cluster):
    """The worker is no connection that DROP, ALTER and CREATE DATABASE would wait for."""
    own = make_cluster()
    folder = own.dir / "space"
    folder.mkdir()
    owner = (own.data_dir.stat().st_uid, own.data_dir.stat().st_gid)
    os.chown(folder, *owner)
    with own.connect() as connection:
        connection.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
        with account_database(own) as database:
            fill(database)
            name = database.name
            number = 0

            def with_a_worker(statement):
                nonlocal number
                assert worker(database)
                number += 3
                database.conn.close()
                connection.execute(statement)

            def goes_on():
                nonlocal number
                database.conn = database.connect()
                read(database)
                number += 3
                assert reads(database) == number
                assert is_whole(database.conn)

            with_a_worker(f"CREATE DATABASE copy TEMPLATE {name}")
            goes_on()
            with_a_worker(f"ALTER DATABASE {name} SET TABLESPACE elsewhere")
            goes_on()
            with_a_worker(f"ALTER DATABASE {name} RENAME TO renamed")
            database.name = name = "renamed"
            goes_on()

            # the copy has the audit of the original up to there, and one of its own from then on
            copy = Database(own, "copy", exists=True)
            read(copy, 2)
            assert reads(copy) == 3 + 6
            assert is_whole(copy.conn)
            assert worker(copy)
            copy.conn.close()
            connection.execute("DROP DATABASE copy")
            goes_on()
            with_a_worker(f"CREATE DATABASE copy TEMPLATE {name}")
            goes_on()
            copy.conn = copy.connect()
            assert worker(copy)
            connection.execute("DROP DATABASE copy WITH (FORCE)")
            copy.conn.close()
            goes_on()

            # what needs no empty database leaves the worker alone, and so does who may not do it
            process = worker(database)
            number += 3
            connection.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 100")
            with own.connect("outsider") as outsider:
                for statement in (
                    f"DROP DATABASE {name}",
                    f"ALTER DATABASE {name} RENAME TO mine",
                    f"CREATE DATABASE mine TEMPLATE {name}",
                ):
                    with refused("42501"):
                        outsider.execute(statement)
            assert status(database)["worker"] == process

            # a worker that cannot end: the usual error, in time
            with locked(database):
                read(database)
                number += 3
                start = time.monotonic()
                with refused("55006", "being accessed by other users"):
                    connection.execute(f"DROP DATABASE {name}")
                assert time.monotonic() - start < 20
            goes_on()


def test_a_database_is_made_of_template1(make_cluster):
    """Without a word about the template, too."""
    own = make_cluster()
    own.create_roles("app", "app_globex", "outsider")
    template = Database(own, "template1", exists=True)
    template.execute(
        "CREATE EXTENSION fieldcrypt; SELECT fieldcrypt.create_account('acme');"
        "SELECT fieldcrypt.flush_audit()"
    )
    wait_until(lambda: status(template)["worker"])
    template.conn.close()
    with own.connect() as connection:
        connection.execute("CREATE DATABASE made")
    with own.connect(dbname="made") as made:
        made.execute("SELECT fieldcrypt.create_account('globex')")
        made.execute("SELECT fieldcrypt.flush_audit()")
        assert len(events(made)) == 2
        assert is_whole(made)


def test_the_extension_is_dropped_while_events_flow(filled):
    stop = threading.Event()

    def go_on():
        while not stop.is_set():
            try:
                with reader(filled) as app:
                    for _ in range(50):
                        app.execute(DECRYPT)
            except psycopg.Error:
                time.sleep(0.01)  # there is nothing to read, for a while

    threads = [threading.Thread(target=go_on) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(3):
            wait_until(lambda: reads(filled) > 30)
            assert is_whole(filled.conn)
            assert filled.value("SELECT min(first_seq) FROM fieldcrypt.audit_batch") == 1
            before = filled.value("SELECT id FROM fieldcrypt.audit WHERE seq = 1")
            while True:
                try:
                    filled.execute("DROP EXTENSION fieldcrypt CASCADE")
                    break
                except psycopg.errors.DeadlockDetected:
                    pass  # with a reader: as with every DROP
            filled.execute("DROP TABLE lead; DROP SCHEMA IF EXISTS fieldcrypt")
            filled.execute("""
                CREATE EXTENSION fieldcrypt;
                SELECT fieldcrypt.create_account('acme');
                SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}');
                SELECT fieldcrypt.create_field('lead.email', search => '{exact}');
                SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', 'lead.*');
            """)
            fill(filled)
            filled.execute("SELECT fieldcrypt.flush_audit()")
            assert is_whole(filled.conn)
            assert filled.value("SELECT id FROM fieldcrypt.audit WHERE seq = 1") != before
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert filled.value("SELECT 1") == 1  # the server has not crashed


@pytest.mark.every_version
def test_drop_extension_waits_for_the_worker(filled):
    """Before it locks any table: else each of the two could wait for the other."""
    first = worker(filled)
    waits_for = "SELECT classid FROM pg_locks WHERE pid = %s AND NOT granted"
    with filled.connect() as other:
        with locked(filled, "audit_head") as owner:
            read(filled)
            wait_until(lambda: filled.value(BLOCKED, [first]))
            statement = "DROP EXTENSION fieldcrypt CASCADE"
            dropping = threading.Thread(target=other.execute, args=[statement])
            dropping.start()
            wait_until(lambda: filled.value(BLOCKED, [other.info.backend_pid]))
            extensions = filled.value("SELECT 'pg_extension'::regclass::oid")
            assert filled.value(waits_for, [other.info.backend_pid]) == extensions
            owner.rollback()
            dropping.join(30)
        assert filled.value("SELECT count(*) FROM pg_extension WHERE extname = 'fieldcrypt'") == 0


def test_a_dump_leaves_the_audit_out(filled):
    """It is true of this server only; what is restored begins with an audit of its own."""
    read(filled, 3)
    assert len(flushed(filled)) > 6
    text = filled.cluster.run("pg_dump", "-d", filled.name).stdout
    assert "COPY fieldcrypt.account " in text
    assert "audit" not in text.replace("'audit'", "").replace("\taudit\t", "")
    target = Database(filled.cluster)
    try:
        done = filled.cluster.run(
            *("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target.name), input=text
        )
        assert "ERROR" not in done.stderr
        read(target, 2)
        assert reads(target) == 6
        assert target.value("SELECT min(seq) FROM fieldcrypt.audit") == 1
        assert is_whole(target.conn)
        # what the restore has put into the catalog by hand is in it
        assert ("change", "done") in changes(target, "change")
        first = {batch["seal"] for batch in batches(filled.conn)}
        assert not first & {batch["seal"] for batch in batches(target.conn)}
    finally:
        target.drop()


@pytest.mark.parametrize("encoding", ["LATIN1", "EUC_JP"])
def test_another_encoding(cluster, encoding):
    """Names and actors keep their letters; the seals are over UTF-8."""
    name = f"encoding_{encoding.lower()}"
    letters = "Müller äöü ÿ" if encoding == "LATIN1" else "日本語テスト"
    with cluster.connect() as connection:
        connection.execute(
            f"CREATE DATABASE {name} ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0"
        )
    cluster.create_roles("app")
    try:
        with cluster.connect(dbname=name) as superuser:
            superuser.execute("CREATE EXTENSION fieldcrypt")
            superuser.execute("SELECT fieldcrypt.create_account(%s)", [letters])
            superuser.execute("SELECT fieldcrypt.create_field('lead.ssn')")
            superuser.execute(
                "SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', %s, '*')", [letters]
            )
            superuser.execute("CREATE TABLE lead (ssn fieldcrypt.encrypted_text('lead.ssn'))")
            superuser.execute("GRANT ALL ON lead TO app")
            with cluster.connect("app", name) as app, app.transaction():
                app.execute("SELECT set_config('fieldcrypt.account', %s, true)", [letters])
                app.execute("INSERT INTO lead VALUES (%s)", [letters])
                actor = [f"{letters} {i}" for i in range(4)]
                app.execute("SELECT fieldcrypt.set_actor(%s, %s, %s, %s)", actor)
                value = app.execute("SELECT fieldcrypt.decrypt(ssn, %s) FROM lead", [letters])
                assert value.fetchone() == (letters,)
            superuser.execute("SELECT fieldcrypt.flush_audit()")
            assert superuser.execute(
                "SELECT account, actor_id, actor_name, actor_address, actor_action, entities"
                " FROM fieldcrypt.audit WHERE action = 'decrypt'"
            ).fetchall() == [(letters, *actor, [letters])]
            assert is_whole(superuser)
            database = Database(cluster, name, exists=True)
            _, key = audit_key(database)
            database.conn.close()
            previous = FIRST
            for batch in batches(superuser):
                previous = batch_seal(key, previous, batch)
                assert batch["seal"] == previous
    finally:
        cluster.drop_database(name)


def test_without_the_root_key(make_cluster):
    """Events go on without a key; verify_audit() says so, and later ones cover them."""
    own = make_cluster()
    with account_database(own) as database:
        fill(database)
        read(database)
        flushed(database)
        assert is_whole(database.conn)
        key = own.keys_dir / "main.key"
        database.conn.close()
        own.stop()
        key.rename(own.keys_dir / "away")
        own.start()
        database.conn = database.connect()
        before = database.value("SELECT max(seq) FROM fieldcrypt.audit")
        with refused("F0000"):
            read(database)
        database.execute("SELECT fieldcrypt.create_field('lead.note')")
        database.execute("SELECT fieldcrypt.alter_field('lead.note', label => 'x')")
        database.execute("SELECT fieldcrypt.flush_audit()")
        without = [batch for batch in batches(database.conn) if batch["first_seq"] > before]
        assert {batch["key_id"] for batch in without} == {0}
        told = [event["action"] for batch in without for event in decode(batch["events"])]
        assert told == ["create_field", "alter_field"]
        assert {text for *_, text in findings(database.conn)} >= {
            "the key of the seal cannot be had"
        }
        with refused("F0000"):
            database.execute("SELECT fieldcrypt.create_account('new')")
        (own.keys_dir / "away").rename(key)
        set_mode(own, "on")  # reloads
        read(database)
        database.execute("SELECT fieldcrypt.flush_audit()")
        assert database.value(
            "SELECT sum(last_seq - first_seq + 1)::bigint FROM fieldcrypt.audit_batch"
            " WHERE key_id = 0"
        ) == len(told) + changes(database, "create_account").count(
            ("create_account", "rolled back")
        )
        found = findings(database.conn)
        assert {text for *_, text in found} == {"events were sealed without a key"}
        numbers = {(batch["first_seq"], batch["last_seq"]) for batch in without}
        assert {(first, last) for _, first, last, _ in found} >= numbers
        # under a key again: a change of what came before is noticed in any case
        first, last = without[0]["first_seq"], without[0]["last_seq"]
        database.execute(
            "UPDATE fieldcrypt.audit_batch SET events = events || '\\x00' WHERE first_seq = %s",
            [first],
        )
        assert (False, first, last, "events were changed") in findings(database.conn)


# The server


def test_a_stop_of_the_server_loses_nothing(make_cluster):
    """Neither what waits, nor what the stop itself breaks off; nor does it take long."""
    own = make_cluster()
    with account_database(own) as database:
        fill(database)
        read(database, 20)
        flushed(database)
        lock = database.connect()
        lock.execute("BEGIN; LOCK TABLE fieldcrypt.audit_batch IN ACCESS EXCLUSIVE MODE")
        read(database, 20)
        assert status(database)["waiting"] > 0
        running = threading.Thread(target=run_until_it_breaks, args=(reader(database),))
        running.start()
        change = database.connect(autocommit=False)
        change.execute("SELECT fieldcrypt.create_account('never')")
        sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
        wait_until(lambda: database.value(sleeping))
        start = time.monotonic()
        own.stop("fast")
        assert time.monotonic() - start < 15
        running.join()
        for connection in lock, change, database.conn:
            connection.close()
        own.start()
        database.conn = database.connect()
        assert reads(database) == 3 * 40 + 1
        assert changes(database, "create_account")[-1] == ("create_account", "rolled back")
        assert is_whole(database.conn)


def run_until_it_breaks(connection):
    with pytest.raises(psycopg.OperationalError):
        connection.execute(
            "SELECT fieldcrypt.decrypt(ssn), pg_sleep(60) FROM lead ORDER BY id"
        ).fetchall()


def test_a_stop_of_the_server_without_a_worker(make_cluster):
    """What the stop breaks off when there is no worker, and none can be started, is in the log."""
    own = make_cluster()
    with account_database(own) as database:
        fill(database)
        thread = threading.Thread(target=run_until_it_breaks, args=(reader(database),))
        thread.start()
        process = worker(database)
        database.execute("SELECT pg_terminate_backend(%s)", [process])
        wait_until(lambda: status(database)["worker"] is None)
        database.conn.close()
        start = len(own.log())
        own.stop("fast")
        thread.join()
        assert [(e["action"], e["outcome"], e["count"]) for e in logged(own, start)] == [
            ("decrypt", "plain", 1)
        ]
        own.start()
        database.conn = database.connect()
        assert is_whole(database.conn)


def test_a_crash_leaves_the_chain_whole(make_cluster):
    """In mode on a crash takes what waits, and nothing of what is in the table."""
    own = make_cluster()
    with account_database(own) as database:
        fill(database)
        stop = threading.Event()

        def go_on():
            while not stop.is_set():
                try:
                    with reader(database) as app:
                        while not stop.is_set():
                            app.execute(DECRYPT)
                except psycopg.OperationalError:
                    time.sleep(0.05)

        threads = [threading.Thread(target=go_on) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for crash in "server", "worker", "server":
                wait_until(lambda: reads(database) > 100)
                known = database.value("SELECT fieldcrypt.audit_head()")
                if crash == "worker":
                    os.kill(status(database)["worker"], signal.SIGKILL)
                    database.conn.close()
                    wait_until(lambda: connects(own))
                else:
                    own.kill9()
                    database.conn.close()
                    own.start()
                database.conn = database.connect()
                assert is_whole(database.conn, known)
        finally:
            stop.set()
            for thread in threads:
                thread.join()


def connects(cluster):
    try:
        cluster.connect().close()
    except psycopg.OperationalError:
        return False
    return True


# Months


@pytest.fixture(scope="module", params=["on", "strict"])
def aged(request):
    """A database with three months of a past under its key, and the worker's events after them."""
    with Cluster({"fieldcrypt.audit": "off"}) as own, account_database(own) as database:
        fill(database)
        write_past(database, 3, 10)
        database.conn.close()
        own.settings["fieldcrypt.audit"] = request.param
        own.restart()
        database.conn = database.connect()
        read(database)
        yield database


def partitions(database):
    return [
        name
        for (name,) in database.execute(
            "SELECT c.relname FROM pg_inherits JOIN pg_class AS c ON c.oid = inhrelid"
            " WHERE inhparent = 'fieldcrypt.audit_batch'::regclass ORDER BY 1"
        )
    ]


def test_a_new_month(aged):
    """The worker makes its partition, and goes on with the numbers; nothing else is made."""
    aged.execute("SELECT fieldcrypt.flush_audit()")
    months = [months_ago(ago).strftime("audit_%Y_%m") for ago in (3, 2, 1, 0)]
    assert partitions(aged) == months
    counts = dict(
        aged.execute(
            "SELECT tableoid::regclass::text, sum(last_seq - first_seq + 1)::bigint"
            " FROM fieldcrypt.audit_batch GROUP BY 1"
        ).fetchall()
    )
    assert [counts[f"fieldcrypt.{month}"] for month in months[:3]] == [10, 10, 10]
    first = "SELECT min(first_seq) FROM fieldcrypt." + months[3]
    assert aged.value(first) == 31
    assert is_whole(aged.conn)
    aged.execute("SELECT fieldcrypt.add_audit_partition()")
    assert partitions(aged) == months
    # each is the extension's, and nobody's but the owner's to read
    assert (
        aged.value(
            "SELECT count(*) FROM pg_depend WHERE deptype = 'e' AND objid IN"
            " (SELECT inhrelid FROM pg_inherits"
            " WHERE inhparent = 'fieldcrypt.audit_batch'::regclass)"
        )
        == 4
    )
    assert aged.value(f"SELECT relacl IS NULL FROM pg_class WHERE relname = '{months[3]}'")


def test_drop_audit(aged):
    """Whole months that have ended, by the key administrator; it is an event itself."""
    cluster = aged.cluster
    cluster.create_roles("keeper", "overseer")
    aged.execute("GRANT fieldcrypt_key_admin TO keeper; GRANT fieldcrypt_auditor TO overseer")
    assert is_whole(aged.conn)
    with aged.connect("keeper") as keeper, aged.connect("overseer") as overseer:
        keeper.execute("SET statement_timeout = '20s'")
        drop = "SELECT fieldcrypt.drop_audit(%s)"
        with aged.connect("app") as app, refused("42501", "for function"):
            app.execute(drop, [months_ago(0)])  # PostgreSQL's own refusal
        aged.execute("GRANT EXECUTE ON FUNCTION fieldcrypt.drop_audit TO overseer")
        with refused("42501", "fieldcrypt_key_admin"):
            overseer.execute(drop, [months_ago(0)])
        assert keeper.execute(drop, [months_ago(3)]).fetchone() == (0,)
        assert keeper.execute(drop, [months_ago(1).replace(day=20)]).fetchone() == (20,)
        assert is_whole(overseer)
        assert partitions(aged) == [months_ago(ago).strftime("audit_%Y_%m") for ago in (1, 0)]
        with keeper.transaction(force_rollback=True):
            assert keeper.execute(drop, [months_ago(0)]).fetchone() == (10,)
        assert is_whole(overseer)
        assert overseer.execute("SELECT min(seq) FROM fieldcrypt.audit").fetchone() == (21,)
        # the present month stays, whatever is asked for
        assert keeper.execute(drop, ["infinity"]).fetchone() == (10,)
        assert partitions(aged) == [months_ago(0).strftime("audit_%Y_%m")]
        assert keeper.execute(drop, ["infinity"]).fetchone() == (0,)
        assert is_whole(overseer)
        assert overseer.execute("SELECT min(seq) FROM fieldcrypt.audit").fetchone() == (31,)
        overseer.execute("SELECT fieldcrypt.flush_audit()")
        found = overseer.execute(
            "SELECT outcome, detail, session_role FROM fieldcrypt.audit"
            " WHERE action = 'drop_audit' AND outcome <> 'opened' ORDER BY seq"
        ).fetchall()
    assert [outcome for outcome, *_ in found] == [
        *("denied", "done", "done", "rolled back", "done", "done")
    ]
    assert [role for *_, role in found] == ["overseer", *["keeper"] * 5]
    details = [detail for _, detail, _ in found]
    assert details[0] == "needs fieldcrypt_key_admin"
    assert re.fullmatch(r"before \S+T\S+, 20 events, up to number 20", details[2])
    assert details[4] == "before infinity, 10 events, up to number 30"
    assert details[5] == "before infinity"
    with pytest.raises(psycopg.errors.UndefinedTable):
        aged.execute(f"SELECT FROM fieldcrypt.{months_ago(1):audit_%Y_%m}")
    # and the worker goes on after it
    number = reads(aged)
    read(aged, 2)
    assert reads(aged) == number + 6
    assert is_whole(aged.conn)


def test_drop_audit_without_the_key(make_cluster):
    """It cannot say that it was it, so nothing is dropped."""
    own = make_cluster()
    with account_database(own) as database:
        flushed(database)
        database.conn.close()
        own.stop()
        (own.keys_dir / "main.key").unlink()
        own.start()
        database.conn = database.connect()
        with refused("55000", "its key cannot be had"):
            database.execute("SELECT fieldcrypt.drop_audit('infinity')")


# Changes

DOCUMENT = """
    CREATE TABLE member (id int, account_id text, data jsonb);
    SELECT fieldcrypt.protect_jsonb('member', 'data', 'member.data', 'account_id');
"""
# What is done, who may, and on what.
ADMINISTRATION = [
    ("create_account", "SELECT fieldcrypt.create_account('new')"),
    ("disable_account", "SELECT fieldcrypt.disable_account('acme')"),
    ("enable_account", "SELECT fieldcrypt.enable_account('acme')"),
    ("create_field", "SELECT fieldcrypt.create_field('lead.new')"),
    ("alter_field", "SELECT fieldcrypt.alter_field('lead.email', mask => 'last4')"),
    ("drop_field", "SELECT fieldcrypt.drop_field('lead.unused')"),
    ("grant_access", "SELECT fieldcrypt.grant_access('outsider', '{mask}', 'acme', 'lead.ssn')"),
    (
        "revoke_access",
        "SELECT fieldcrypt.revoke_access('app_globex', '{search}', 'globex', 'lead.*')",
    ),
    ("protect_path", "SELECT fieldcrypt.protect_path('member.data', '{ssn}', 'lead.ssn')"),
    ("unprotect_path", "SELECT fieldcrypt.unprotect_path('member.data', '{email}')"),
    ("keep_plain", "SELECT fieldcrypt.keep_plain('{id}')"),
    ("drop_audit", "SELECT fieldcrypt.drop_audit('2020-01-01')"),
    ("protect", "SELECT fieldcrypt.protect_table('lead', 'account_id')"),
    ("unprotect", "SELECT fieldcrypt.unprotect_jsonb('member', 'data')"),
    ("change", "UPDATE fieldcrypt.field SET label = 'x'"),
    ("change", "DELETE FROM fieldcrypt.access_grant"),
    ("change", "INSERT INTO fieldcrypt.plain_name VALUES ('x')"),
    ("change", "TRUNCATE fieldcrypt.path"),
    ("change", "UPDATE fieldcrypt.account SET state = 'disabled'"),
    ("change", "DELETE FROM fieldcrypt.account_key WHERE purpose = 'data'"),
    ("change", "DELETE FROM fieldcrypt.root_key"),
]


@pytest.fixture
def administered(filled):
    filled.execute(DOCUMENT)
    filled.execute("SELECT fieldcrypt.create_field('lead.unused')")
    filled.execute("SELECT fieldcrypt.protect_path('member.data', '{email}', 'lead.email')")
    return filled


def outcomes(database, action, since):
    """The outcomes of that action, after some number of events."""
    return [event[1] for event in flushed(database)[since:] if event[0] == action]


@pytest.mark.parametrize(
    ("action", "statement"), ADMINISTRATION, ids=lambda text: text.split("(")[0]
)
def test_outcomes_of_a_change(administered, action, statement):
    """Done, rolled back in every way there is, prepared, and refused."""
    database = administered
    since = len(flushed(database))
    with database.conn.transaction(force_rollback=True):
        database.execute(statement)
    with database.conn.transaction():
        with database.conn.transaction(force_rollback=True):  # ROLLBACK TO
            database.execute(statement)
    with pytest.raises(psycopg.errors.DivisionByZero), database.conn.transaction():
        database.execute(statement)
        database.execute("SELECT 1 / 0")
    database.execute(f"""
        DO $$ BEGIN
            BEGIN
                {statement.replace("SELECT ", "PERFORM ", 1)};
                RAISE 'undone';
            EXCEPTION WHEN raise_exception THEN NULL;
            END;
        END $$
    """)
    session = database.connect()
    session.execute("BEGIN")
    session.execute(statement)
    session.close()  # without a word
    wait_until(lambda: len(outcomes(database, action, since)) % 5 == 0)
    found = outcomes(database, action, since)
    assert set(found) == {"rolled back"}
    once, rest = divmod(len(found), 5)  # some statements make two events of the kind
    assert (once >= 1, rest) == (True, 0)
    if action != "drop_audit":  # which keeps the worker out until it ends
        database.execute("BEGIN")
        database.execute(statement)
        database.execute("PREPARE TRANSACTION 'later'")
        assert outcomes(database, action, since)[5 * once :] == ["prepared"] * once
        database.execute("ROLLBACK PREPARED 'later'")
    since = len(flushed(database))
    if action not in ("protect", "unprotect"):
        # of PostgreSQL's own refusals there is no event
        database.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA fieldcrypt TO outsider")
        with reader(database, "outsider") as outsider, refused("42501"):
            outsider.execute(statement)
        expected = [] if action == "change" else ["denied"]
        assert outcomes(database, action, since) == expected
        since += len(expected)
    with database.conn.transaction(), database.conn.transaction():  # RELEASE
        database.execute(statement)
    assert outcomes(database, action, since) == ["done"] * once
    if "account_key" not in statement and "root_key" not in statement:
        assert is_whole(database.conn)


def test_triggers_of_the_catalog_are_not_switched_off_unnoticed(filled):
    """Without them a change would not be an event; that is one."""
    since = len(flushed(filled))
    filled.execute("SET session_replication_role = replica")
    filled.execute("UPDATE fieldcrypt.field SET label = 'x'")
    filled.execute("RESET session_replication_role")
    assert outcomes(filled, "change", since) == ["done"]
    filled.execute("ALTER TABLE fieldcrypt.field DISABLE TRIGGER tell_sessions")
    filled.execute("ALTER TABLE fieldcrypt.field DISABLE TRIGGER ALL")
    assert outcomes(filled, "unprotect", since) == ["done", "done"]


# What is said with reads


def test_set_actor_ends_with_its_transaction(filled):
    """And with its savepoint; all that follows in it has the actor."""
    with reader(filled) as app:
        with app.transaction():
            app.execute("SELECT fieldcrypt.set_actor('1', 'Ann', '192.0.2.1', 'show')")
            app.execute(DECRYPT)
            with app.transaction(force_rollback=True):
                app.execute("SELECT fieldcrypt.set_actor('2')")
                app.execute(DECRYPT)
            app.execute(DECRYPT)
        app.execute(DECRYPT)
        with app.transaction(force_rollback=True):
            app.execute("SELECT fieldcrypt.set_actor('3', 'Bob')")
            app.execute(DECRYPT)
        one = "SELECT fieldcrypt.set_actor('4'), fieldcrypt.decrypt(ssn) FROM lead WHERE id = 1"
        app.execute(one)
        app.execute(DECRYPT)
        with app.transaction():
            app.execute("SELECT fieldcrypt.set_actor('5', 'Carl', 'x', 'y')")
            app.execute("SELECT fieldcrypt.set_actor(NULL, name => 'Dan')")
            app.execute(DECRYPT)
            with refused("22023", "name", hint="200 bytes"), app.transaction():
                app.execute("SELECT fieldcrypt.set_actor('6', repeat('ä', 101))")
    filled.execute("SELECT fieldcrypt.flush_audit()")
    found = filled.execute(
        "SELECT actor_id, actor_name, actor_address, actor_action FROM fieldcrypt.audit"
        " WHERE action = 'decrypt' ORDER BY seq"
    ).fetchall()
    ann = ("1", "Ann", "192.0.2.1", "show")
    assert found == [
        *(ann, ("2", None, None, None), ann, (None,) * 4, ("3", "Bob", None, None)),
        *(("4", None, None, None), (None,) * 4, (None, "Dan", None, None)),
    ]


@pytest.mark.parametrize("mode", ["on", "strict"])
def test_parallel_workers(narrow, mode):
    """Each reports what it has read, for the same actor."""
    set_mode(narrow.cluster, mode)
    narrow.execute(
        "CREATE TABLE many (ssn fieldcrypt.encrypted_text('lead.ssn')); GRANT ALL ON many TO app"
    )
    with reader(narrow) as app:
        app.execute("INSERT INTO many SELECT i::text FROM generate_series(1, 5000) AS i")
        narrow.execute("ALTER TABLE many SET (parallel_workers = 2); ANALYZE many")
        app.execute(
            "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
            "SET min_parallel_table_scan_size = 0; SET parallel_leader_participation = off;"
            "SET application_name = 'parallel'"
        )
        with app.transaction():
            app.execute("SELECT fieldcrypt.set_actor('17', 'Zoë')")
            query = "SELECT sum(fieldcrypt.decrypt(ssn, 'e')::int) FROM many"
            assert "Workers Planned: 2" in str(app.execute(f"EXPLAIN {query}").fetchall())
            assert app.execute(query).fetchone() == (12_502_500,)
        leader = app.info.backend_pid
    narrow.execute("SELECT fieldcrypt.flush_audit()")
    found = narrow.execute(
        "SELECT pid, outcome, count, actor_id, actor_name, session_role, application_name, entities"
        " FROM fieldcrypt.audit WHERE actor_id IS NOT NULL ORDER BY seq"
    ).fetchall()
    closing = [event for event in found if event[1] == "plain"]
    assert sum(event[2] for event in closing) == 5000
    assert leader not in {event[0] for event in found}
    assert {event[3:7] for event in found} == {("17", "Zoë", "app", "parallel")}
    assert {tuple(event[7]) for event in closing} == {("e",)}
    opened = [event[0] for event in found if event[1] == "opened"]
    assert sorted(opened) == (sorted(event[0] for event in closing) if mode == "strict" else [])


def test_entities(filled):
    """At most 32 different ones for an event, of at most 200 bytes; else the rows' own."""
    with reader(filled) as app:
        app.execute(
            "SELECT fieldcrypt.decrypt(ssn, 'user:' || i % 50)"
            " FROM lead, generate_series(1, 200) AS i"
        )
        app.execute("SELECT fieldcrypt.decrypt(ssn, repeat('ä', 100)) FROM lead")
        for call in (
            "fieldcrypt.decrypt(ssn, repeat('ä', 101))",
            "fieldcrypt.reveal(ssn, repeat('x', 201))",
            "fieldcrypt.reveal('{}'::jsonb, repeat('x', 201))",
            "fieldcrypt.decrypt('{}'::jsonb, NULL, repeat('x', 201))",
        ):
            with refused("22023", "entity", hint="200 bytes"):
                app.execute(f"SELECT {call} FROM lead")
        app.execute(DECRYPT)  # nothing of it is left
    found = [(event[4], event[8]) for event in flushed(filled) if event[0] == "decrypt"]
    assert [count for count, _ in found] == [600, 3, 3]
    assert len(found[0][1]) == len(set(found[0][1])) == 32
    assert found[1][1] == ["ä" * 100]
    assert found[2][1] == ["1", "2", "3"]


def test_off(make_cluster):
    """Nothing is written, and no worker is started."""
    own = make_cluster({"fieldcrypt.audit": "off"})
    with account_database(own) as database:
        fill(database)
        read(database)
        with reader(database, "outsider") as outsider, refused("42501"):
            outsider.execute(DECRYPT)
        assert flushed(database) == []
        assert status(database)["sink"] == "none"
        assert (
            database.value(
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'fieldcrypt audit'"
                " AND datname = current_database()"
            )
            <= 1  # flush_audit() asks for one
        )
        set_mode(own, "on")
        read(database)
        assert reads(database) == 3
        set_mode(own, "off")
        read(database)
        assert reads(database) == 3
        assert is_whole(database.conn)


# Rights


def test_who_may_read_and_write(filled):
    """The auditor reads; nobody but the worker writes, superusers excepted, who are found out."""
    cluster = filled.cluster
    roles = {
        **{"keeper": "fieldcrypt_key_admin", "fields": "fieldcrypt_admin"},
        **{"grantor": "fieldcrypt_grantor", "overseer": "fieldcrypt_auditor"},
        "restorer": "fieldcrypt_restore",
    }
    cluster.create_roles(*roles)
    for role, of in roles.items():
        filled.execute(f"GRANT {of} TO {role}")
    read(filled)
    flushed(filled)
    partition = months_ago(0).strftime("audit_%Y_%m")
    tables = ("audit", "audit_batch", "audit_head", "audit_start", partition)
    for role in (*roles, "app", "outsider"):
        with filled.connect(role) as connection:
            for query in (
                "SELECT * FROM fieldcrypt.audit",
                "SELECT * FROM fieldcrypt.verify_audit()",
                "SELECT * FROM fieldcrypt.audit_status()",
                "SELECT fieldcrypt.audit_head()",
                "SELECT fieldcrypt.audit_findings(NULL)",
                "SELECT fieldcrypt.audit_state()",
            ):
                if role == "overseer":
                    assert connection.execute(query).fetchall()
                else:
                    with refused("42501"):
                        connection.execute(query)
            for table in tables:
                number = "first_seq" if table in ("audit_batch", partition) else "seq"
                if table != "audit":
                    with refused("42501"):
                        connection.execute(f"SELECT FROM fieldcrypt.{table}")
                for write in (
                    f"DELETE FROM fieldcrypt.{table}",
                    f"UPDATE fieldcrypt.{table} SET {number} = 1",
                    f"INSERT INTO fieldcrypt.{table} SELECT * FROM fieldcrypt.{table}",
                    f"TRUNCATE fieldcrypt.{table}",
                    f"ALTER TABLE fieldcrypt.{table} RENAME TO other",
                    f"DROP TABLE fieldcrypt.{table}",
                    f"LOCK TABLE fieldcrypt.{table} IN SHARE MODE",
                    f"CREATE TRIGGER t BEFORE INSERT ON fieldcrypt.{table}"
                    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
                ):
                    with pytest.raises(psycopg.Error) as caught, connection.transaction():
                        connection.execute(write)
                    # a view that shows what functions make of rows takes none
                    view = ("55000",) if table == "audit" else ()
                    assert caught.value.sqlstate in ("42501", "42809", *view), write
            for call in (
                "fieldcrypt.add_audit_partition()",
                "fieldcrypt.drop_audit_partitions('infinity')",
            ):
                with refused("42501"):
                    connection.execute(f"SELECT {call}")
            connection.execute("SELECT fieldcrypt.flush_audit()")
            connection.execute("SELECT fieldcrypt.set_actor('anybody')")
    assert is_whole(filled.conn)
    filled.execute(f"REASSIGN OWNED BY {', '.join(roles)} TO postgres")
    for role in roles:
        filled.execute(f"DROP ROLE {role}")


def test_no_value_is_in_the_audit(filled):
    """All columns of its view."""
    canary = "canary-91b2e4"
    with reader(filled) as app:
        app.execute("INSERT INTO lead (ssn) VALUES (%s)", [canary])
        app.execute(DECRYPT)
        app.execute("SELECT id FROM lead WHERE ssn = %s", [canary])
        with pytest.raises(psycopg.Error):
            app.execute("SELECT fieldcrypt.decrypt(ssn)::int FROM lead")
    with reader(filled, "outsider") as outsider, refused("42501"):
        outsider.execute("SELECT id FROM lead WHERE ssn = %s", [canary])
    found = flushed(filled)
    assert {event[0] for event in found} >= {"decrypt", "search"}
    rows = filled.execute("SELECT e::text FROM fieldcrypt.audit AS e").fetchall()
    assert "lead.ssn" in str(rows)
    assert canary not in str(rows)
    assert canary not in Path(filled.cluster.log_file).read_text(errors="replace")
