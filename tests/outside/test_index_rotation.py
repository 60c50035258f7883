"""Rotation of index keys: look-ups are right before, meanwhile, and afterwards."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
from expect import refused
from harness import account_database
from test_key_usage import call, key, states

# Every kind of place that has tokens: typed columns under each kind of index, a foreign key, a
# domain, a partitioned table, documents that are unique by a token and others, and a blob.
SCHEMA = """
    SELECT fieldcrypt.create_field('lead.pii');
    SELECT fieldcrypt.grant_access('record_keeper', '{encrypt}', '*', '*');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*');
    SELECT fieldcrypt.grant_access('app_globex', '{encrypt,search,decrypt}', 'globex', '*');
    GRANT record_keeper, fieldcrypt_admin TO record_mover;
    GRANT record_keeper, fieldcrypt_restore TO record_restorer;
    GRANT CREATE ON SCHEMA public TO record_keeper;
    SET ROLE record_keeper;
    CREATE DOMAIN ssn AS fieldcrypt.encrypted_text('lead.ssn');
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL DEFAULT 'acme',
        ssn fieldcrypt.encrypted_text('lead.ssn'),
        email fieldcrypt.encrypted_text('lead.email') UNIQUE, data jsonb);
    CREATE INDEX person_ssn ON person USING hash (ssn);
    CREATE INDEX person_tokens ON person USING gin (fieldcrypt.tokens(data));
    CREATE TABLE claim (
        id int, account_id text NOT NULL DEFAULT 'acme', of_ssn ssn,
        of_email fieldcrypt.encrypted_text('lead.email') REFERENCES person (email),
        PRIMARY KEY (id, account_id)) PARTITION BY LIST (account_id);
    CREATE TABLE claim_acme PARTITION OF claim FOR VALUES IN ('acme');
    CREATE TABLE claim_others PARTITION OF claim DEFAULT;
    CREATE TABLE patient (
        id int, account_id text NOT NULL DEFAULT 'acme', data jsonb,
        pii fieldcrypt.encrypted_jsonb('lead.pii'), card jsonb);
    CREATE INDEX patient_tokens ON patient USING gin (fieldcrypt.tokens(pii));
    CREATE UNIQUE INDEX patient_card ON patient (fieldcrypt.token(card, 'lead.ssn'));
    SELECT fieldcrypt.protect_table(t, 'account_id')
    FROM unnest('{person,claim,patient}'::regclass[]) AS t;
    SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
    SELECT fieldcrypt.protect_jsonb(
        'patient', 'data', 'patient.data', 'account_id', blob_column => 'pii');
    SELECT fieldcrypt.protect_jsonb('patient', 'card', 'patient.card', 'account_id');
    GRANT ALL ON person, claim, patient TO app, app_globex;
    RESET ROLE;
    SELECT fieldcrypt.protect_path('person.data', '{ssn}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('patient.data', '{ssn}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('patient.card', '{ssn}', 'lead.ssn');
"""
ROWS = 40
FILL = """
    INSERT INTO person
        SELECT i, '{0}', (i / 2)::text, i || '@x.org', jsonb_build_object('ssn', (i / 2)::text)
        FROM generate_series({1}, {1} + {2} - 1) AS i;
    INSERT INTO claim (id, account_id, of_ssn, of_email)
        SELECT i, '{0}', (i / 2)::text, i || '@x.org' FROM generate_series({1}, {1} + {2} - 1) AS i;
    INSERT INTO patient (id, account_id, data, card)
        SELECT i, '{0}', jsonb_build_object('ssn', (i / 2)::text),
            jsonb_build_object('ssn', i::text)
        FROM generate_series({1}, {1} + {2} - 1) AS i;
"""
# Each finds the rows 20 and 21, whose value is 10, and so does each half of what is compared.
WAYS = {
    "=": "SELECT id FROM person WHERE ssn = '10'",
    "= of a domain": "SELECT id FROM claim WHERE of_ssn = '10'",
    "= of a parameter": "EXECUTE equal ('10')",
    "IN": "SELECT id FROM person WHERE ssn IN ('10', '9999')",
    "ANY": "EXECUTE any_of ('{10,9999}')",
    "IS NOT DISTINCT FROM": "SELECT id FROM person WHERE ssn IS NOT DISTINCT FROM '10'",
    "by a unique index": "SELECT id FROM person WHERE email IN ('20@x.org', '21@x.org')",
    "matches": "SELECT id FROM person WHERE fieldcrypt.matches(data, 'lead.ssn', '10')",
    "matches of a parameter": "EXECUTE matching ('10')",
    "matches of a blob": "SELECT id FROM patient WHERE fieldcrypt.matches(pii, 'lead.ssn', '10')",
    "token": "SELECT id FROM person"
    " WHERE fieldcrypt.token(ssn) = fieldcrypt.blind_index('10', 'lead.ssn')",
    "token of a document": "SELECT id FROM patient WHERE fieldcrypt.token(card, 'lead.ssn')"
    " IN (fieldcrypt.blind_index('20', 'lead.ssn'), fieldcrypt.blind_index('21', 'lead.ssn'))",
    "join": "SELECT DISTINCT p.id FROM person AS p JOIN claim AS c ON c.of_ssn = p.ssn"
    " WHERE p.ssn = '10'",
    "join by another column": "SELECT p.id FROM person AS p JOIN claim AS c ON c.of_email = p.email"
    " WHERE c.of_ssn = '10'",
    "group": "SELECT unnest(array_agg(id)) FROM person GROUP BY ssn HAVING ssn = '10'",
}
# Of the values of both accounts.
COUNTS = {
    "SELECT count(*) FROM (SELECT ssn FROM person GROUP BY ssn) AS g": ROWS,
    "SELECT count(DISTINCT ssn) FROM person": ROWS,
    "SELECT count(*) FROM person AS p JOIN claim AS c ON c.of_ssn = p.ssn": 4 * ROWS,
    "SELECT count(*) FROM person AS p JOIN claim AS c ON c.of_email = p.email": 2 * ROWS,
    "SELECT count(*) FROM (SELECT email FROM person INTERSECT SELECT of_email FROM claim) AS i": 2
    * ROWS,
}
PLANS = (
    "SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_hashagg = off",
    "SET enable_seqscan = off; SET enable_mergejoin = off; SET enable_sort = off",
    "SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_nestloop = off",
)


@pytest.fixture
def people(db):
    set_up(db)
    return db


def set_up(db):
    db.cluster.create_roles("record_keeper", "record_mover", "record_restorer")
    db.execute(SCHEMA)
    for user, account, first in (("app", "acme", 0), ("app_globex", "globex", 1000)):
        with db.connect(user, options=f"-c fieldcrypt.account={account}") as connection:
            connection.execute(FILL.format(account, first, ROWS))


@contextmanager
def user(db):
    """A session of `app`, whose statements are prepared."""
    settings = {"options": "-c fieldcrypt.account=acme", "prepare_threshold": None}
    with db.connect("app", **settings) as connection:
        connection.execute("""
            SET plan_cache_mode = force_generic_plan;
            PREPARE equal (text) AS SELECT id FROM person WHERE ssn = $1;
            PREPARE any_of (text[]) AS SELECT id FROM person WHERE ssn = ANY ($1);
            PREPARE matching (text) AS
                SELECT id FROM person WHERE fieldcrypt.matches(data, 'lead.ssn', $1)""")
        yield connection


@pytest.fixture
def app(people):
    with user(people) as connection:
        yield connection


def rotate(database, account="acme", with_documents=False):
    return call(database, "rotate_index_key", account, with_documents)[0][0]


def check_look_ups(connection, plans=PLANS, counts=COUNTS):
    """Every way finds what it has to, under each kind of plan."""
    for plan in plans:
        connection.execute(plan)
        for way, query in WAYS.items():
            found = sorted(row[0] for row in connection.execute(query))
            assert found == [20, 21], (way, plan)
        for query, count in counts.items():
            assert connection.execute(query).fetchone()[0] == count, (query, plan)
        for setting in plan.replace("SET ", "").replace(" = off", "").split(";"):
            connection.execute(f"RESET {setting}")


def index_keys(database, account="acme"):
    return [(row[1], row[2]) for row in states(database, account) if row[0] == "index"]


def values_under(database, index_key):
    """The columns that have values under an index key, with their number."""
    rows = call(database, "key_usage", "acme")
    return {f"{row[0]}.{row[1]}": row[6] for row in rows if row[5] == index_key}


def check_constraints(connection):
    """A value that is there already is refused where it has to be unique, whatever its key."""
    for insert in (
        "INSERT INTO person (id, email) VALUES (-1, '20@x.org')",
        """INSERT INTO patient (id, card) VALUES (-1, '{"ssn": "20"}')""",
    ):
        with refused("23505"):
            connection.execute(insert)
    with refused("23503"):
        connection.execute("INSERT INTO claim (id, of_email) VALUES (-1, 'nobody@x.org')")


@pytest.mark.every_version
def test_rotation(people, app):
    """In all phases: under one key, with documents under two, under the other one."""
    with user(people) as shown:
        shown.execute("SET fieldcrypt.transparent = on")
        others = "SELECT id, ctid, ssn::text, email::text FROM person WHERE account_id = 'globex'"
        before = people.execute(others).fetchall()
        check_look_ups(app)
        check_constraints(app)
        first = key(people, purpose="index")
        second = rotate(people)
        assert index_keys(people) == [(1, "decrypt-only"), (2, "active")]
        assert second == key(people, 2, "index")
        assert values_under(people, first) == {"person.data": ROWS}
        assert values_under(people, second) == {
            "person.ssn": ROWS,
            "person.email": ROWS,
            "claim_acme.of_ssn": ROWS,
            "claim_acme.of_email": ROWS,
            "patient.pii": 2 * ROWS,
            "patient.card": ROWS,
        }
        check_look_ups(app)
        check_constraints(app)
        rows = "SELECT ssn, email, id FROM person WHERE ssn = '10' ORDER BY id"
        assert shown.execute(rows).fetchall() == [("10", "20@x.org", 20), ("10", "21@x.org", 21)]
        # new documents are found beside older ones
        app.execute("""INSERT INTO person (id, data) VALUES (100, '{"ssn": "10"}')""")
        for matching in (WAYS["matches"], WAYS["matches of a parameter"]):
            assert sorted(app.execute(matching)) == [(20,), (21,), (100,)]
        app.execute("DELETE FROM person WHERE id = 100")
        with refused("55006", "may still be in use", hint="key_usage"):
            call(people, "disable_account_key", "acme", first)
        people.execute("SET SESSION AUTHORIZATION record_mover")
        people.execute("CALL fieldcrypt.reencrypt_existing('person.data')")
        people.execute("RESET SESSION AUTHORIZATION")
        check_look_ups(app)
        assert values_under(people, first) == {}
        call(people, "disable_account_key", "acme", first)
        check_look_ups(app)
        assert call(people, "destroy_account_key", "acme", first) == []
        assert index_keys(people) == [(1, "destroyed"), (2, "active")]
        check_look_ups(app)
        check_constraints(app)
        # the other account was not touched
        assert people.execute(others).fetchall() == before
        assert index_keys(people, "globex") == [(1, "active")]
        people.execute("SELECT fieldcrypt.flush_audit()")
        assert people.execute(
            "SELECT action, outcome, account, detail FROM fieldcrypt.audit"
            " WHERE action IN ('rotate_index_key', 'destroy_account_key') ORDER BY seq"
        ).fetchall() == [
            ("rotate_index_key", "done", "acme", f"index key, key {second}, {3 * ROWS} rows"),
            ("destroy_account_key", "done", "acme", f"index key {first}"),
        ]


def test_with_documents(people, app):
    """Nothing is left under the older key; and a third one follows the second."""
    for version in (1, 2):
        older = key(people, version, "index")
        rotate(people, with_documents=True)
        assert values_under(people, older) == {}
        check_look_ups(app)
        check_constraints(app)
    assert app.execute(
        "SELECT count(*) FROM (SELECT * FROM person WHERE account_id = 'acme' OFFSET 0) AS p"
        " WHERE fieldcrypt.decrypt(ssn) = (id / 2)::text"
        " AND fieldcrypt.decrypt(data) ->> 'ssn' = (id / 2)::text"
    ).fetchone() == (ROWS,)


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_readers_and_writers_during_the_transaction(people, app, end):
    """Readers go on and find; writers, and who locks rows, wait and write under the right key."""
    first = key(people, purpose="index")
    with (
        people.connect() as admin,
        user(people) as writer,
        user(people) as locker,
        user(people) as snapshot,
        user(people) as late,
        ThreadPoolExecutor(2) as threads,
    ):
        snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        check_look_ups(snapshot, PLANS[1:2])
        late.execute("BEGIN; DECLARE c CURSOR FOR SELECT id FROM person WHERE ssn = '10'")
        admin.execute("BEGIN")
        second = rotate(admin)
        # who has rotated sees what he has done, and the others what was before
        admin.execute("SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'acme'")
        assert sorted(admin.execute(WAYS["="])) == [(20,), (21,)]
        check_look_ups(app)
        written = threads.submit(writer.execute, "INSERT INTO person (id, ssn) VALUES (200, '300')")
        locked = threads.submit(
            lambda: locker.execute("SELECT id FROM person WHERE ssn = '10' FOR UPDATE").fetchall()
        )
        waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        wait_until(lambda: people.value(waiting) == 2)
        check_look_ups(app)
        admin.execute(end)
        written.result(30)
        assert sorted(locked.result(30)) == [(20,), (21,)]
        assert app.execute("SELECT id FROM person WHERE ssn = '300'").fetchall() == [(200,)]
        app.execute("DELETE FROM person WHERE id = 200")
        check_look_ups(app)
        check_constraints(app)
        # an older snapshot sees older values, and finds them; it copies none of them
        check_look_ups(snapshot)
        assert sorted(late.execute("FETCH ALL FROM c")) == [(20,), (21,)]
        copy = "INSERT INTO claim (id, of_ssn) SELECT 300 + id, ssn FROM person WHERE id < 2"
        if end == "COMMIT":
            assert set(values_under(people, second)) > {"person.ssn", "person.email"}
            for write in (copy, "CREATE TABLE stolen AS SELECT ssn FROM person"):
                with refused("40001", "index key of account .acme. was rotated"):
                    snapshot.execute(f"SAVEPOINT s; {write}")
                snapshot.execute("ROLLBACK TO s")
                check_look_ups(snapshot, PLANS[:1])
        else:
            assert index_keys(people) == [(1, "active")]
            assert len(values_under(people, first)) == 7
            snapshot.execute(copy)
        snapshot.execute("ROLLBACK")
        check_look_ups(snapshot)


def test_beside_readers_and_writers(people):
    """Rotation after rotation, no look-up misses a value, within one statement either."""
    stop = threading.Event()
    people.execute("""
        CREATE FUNCTION look_up(OUT misses int) LANGUAGE plpgsql VOLATILE AS $$
        BEGIN
            misses := 0;
            FOR i IN 1..200 LOOP
                misses := misses
                    + abs(2 - (SELECT count(*) FROM person WHERE ssn = '10'))
                    + abs(2 - (SELECT count(*) FROM person
                               WHERE fieldcrypt.matches(data, 'lead.ssn', '10')))
                    + abs(4 - (SELECT count(*) FROM person AS p JOIN claim AS c ON c.of_ssn = p.ssn
                               WHERE p.ssn = '10'));
            END LOOP;
        END $$""")

    def read():
        with user(people) as connection:
            rounds = 0
            while not stop.is_set():
                assert connection.execute("SELECT look_up()").fetchone() == (0,)
                check_look_ups(connection, PLANS[:1], counts={})
                rounds += 1
            return rounds

    def write(number):
        with user(people) as connection:
            written = 0
            while not stop.is_set():
                value = f"{number}{written:05}"
                connection.execute(
                    "INSERT INTO person (id, ssn, data)"
                    " VALUES (%s, %s, jsonb_build_object('ssn', %s::text))",
                    [int(value), value, value],
                )
                found = connection.execute(
                    "SELECT fieldcrypt.matches(data, 'lead.ssn', %s) FROM person WHERE ssn = %s",
                    [value, value],
                ).fetchall()
                assert found == [(True,)]
                connection.execute("DELETE FROM person WHERE id = %s", [int(value)])
                written += 1
            return written

    with ThreadPoolExecutor(3) as threads:
        work = [threads.submit(read), threads.submit(read), threads.submit(write, 7)]
        try:
            for turn in range(8):
                rotate(people, with_documents=turn % 2 == 1)
                time.sleep(0.1)
        finally:
            stop.set()
        assert all(done.result(60) > 0 for done in work)
    with user(people) as connection:
        check_look_ups(connection)
        check_constraints(connection)


def test_a_standby_and_a_crash_in_the_middle(make_cluster):
    """On a standby look-ups are right as well. What was not committed never was."""
    cluster = make_cluster()
    feedback = {"hot_standby_feedback": "on", "wal_receiver_status_interval": "1"}
    with account_database(cluster) as database, cluster.standby(feedback) as standby:
        set_up(database)
        standby.catch_up(cluster)
        copy = SimpleNamespace(connect=partial(standby.connect, dbname=database.name))
        with user(copy) as reader, user(copy) as snapshot:
            check_look_ups(reader)
            snapshot.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            check_look_ups(snapshot, PLANS[:1])
            # from then on the primary keeps what the snapshot sees
            held = "SELECT count(backend_xmin) FROM pg_stat_replication"
            wait_until(lambda: database.value(held) == 1)
            for with_documents in (False, True):
                rotate(database, with_documents=with_documents)
                standby.catch_up(cluster)
                check_look_ups(reader)
                check_look_ups(snapshot)
            snapshot.execute("COMMIT")
            check_look_ups(snapshot)
        newest = key(database, 3, purpose="index")
        admin = database.connect()
        admin.execute("BEGIN")
        rotate(admin)
        cluster.kill9()
        admin.close()
        cluster.start()
        database.conn = cluster.connect(dbname=database.name)
        assert index_keys(database)[-1] == (3, "active")
        assert len(values_under(database, newest)) == 7
        with user(database) as connection:
            check_look_ups(connection)
            check_constraints(connection)
            rotate(database, with_documents=True)
            check_look_ups(connection)
        assert values_under(database, newest) == {}


def test_a_rotation_that_is_rolled_back_in_part(people, app):
    """Up to a savepoint: look-ups of the same transaction go by the key that is active again."""
    people.execute("GRANT ALL ON person TO PUBLIC")
    with people.connect() as admin:
        equal = WAYS["="]
        for end in ("ROLLBACK TO s", "RELEASE s"):
            admin.execute("BEGIN; SAVEPOINT s")
            rotate(admin)
            admin.execute("SAVEPOINT t; SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'acme'")
            assert sorted(admin.execute(equal)) == [(20,), (21,)]
            admin.execute(f"ROLLBACK TO t; {end}")
            admin.execute("SET LOCAL ROLE app; SET LOCAL fieldcrypt.account = 'acme'")
            assert sorted(admin.execute(equal)) == [(20,), (21,)]
            admin.execute("INSERT INTO person (id, ssn) VALUES (500, '10')")
            assert sorted(admin.execute(equal)) == [(20,), (21,), (500,)]
            assert sorted(app.execute(equal)) == [(20,), (21,)]
            admin.execute("DELETE FROM person WHERE id = 500; COMMIT")
            check_look_ups(app, PLANS[:1])
    assert index_keys(people) == [(1, "decrypt-only"), (2, "active")]


def test_values_that_are_left_from_before(people, app):
    """A value with older tokens gets into no column, and is compared with no newer one."""
    kept = app.execute("SELECT ssn::text FROM person WHERE id = 20").fetchone()[0]
    app.execute("CREATE TEMP TABLE kept AS SELECT ssn FROM person WHERE id = 20")
    with refused("55006", "temporary table of another session", hint="plan_rotate_index_key"):
        rotate(people)
    app.execute("DROP TABLE kept")
    rotate(people)
    people.execute("SET ROLE record_restorer")
    load = "INSERT INTO person (id, ssn) VALUES (400, %s)"
    with refused("55000", "under an older index key", hint="reencrypt"):
        people.execute(load, [kept])
    people.execute("CREATE TABLE loaded AS SELECT %s AS ssn", [kept])
    for statement in (
        "INSERT INTO person (id, ssn) SELECT 400, ssn::fieldcrypt.encrypted_text FROM loaded",
        "UPDATE person SET ssn = l.ssn::fieldcrypt.encrypted_text FROM loaded AS l WHERE id = 20",
    ):
        with refused("55000", "under an older index key", hint="reencrypt"):
            people.execute(statement)
    people.execute("SET enable_indexscan = off; SET enable_bitmapscan = off")
    with refused("0A000", "different index keys", hint="Re-encrypt"):
        people.execute(
            "SELECT id FROM person WHERE ssn = (SELECT ssn::fieldcrypt.encrypted_text FROM loaded)"
        )
    people.execute(
        "INSERT INTO person (id, ssn) SELECT 400, "
        "fieldcrypt.reencrypt(ssn::fieldcrypt.encrypted_text) FROM loaded"
    )
    people.execute("RESET ROLE; DROP TABLE loaded")
    assert sorted(app.execute(WAYS["="])) == [(20,), (21,), (400,)]


@pytest.mark.parametrize(
    "blocker, left",
    [
        ("CREATE MATERIALIZED VIEW m AS SELECT ssn FROM person", "column ssn of public.m"),
        (
            "CREATE TABLE m (ssns fieldcrypt.encrypted_text('lead.ssn')[]);"
            " INSERT INTO m SELECT array_agg(ssn) FROM person WHERE account_id = 'acme'",
            "column ssns of public.m",
        ),
    ],
)
def test_what_cannot_be_made_anew(people, app, blocker, left):
    """It is refused as a whole, and the plan has said so."""
    people.execute(blocker)
    plan = call(people, "plan_rotate_index_key")
    assert ("warning", left) in {row[:2] for row in plan}
    with refused("55006", left, hint="plan_rotate_index_key"):
        rotate(people)
    assert index_keys(people) == [(1, "active")]
    check_look_ups(app, PLANS[:1])
    people.execute(f"DROP {'MATERIALIZED VIEW' if 'VIEW' in blocker else 'TABLE'} m")
    rotate(people)


def test_a_field_that_keeps_tokens_only(people, app):
    """Its values are not there to make tokens of."""
    people.execute("""
        SELECT fieldcrypt.create_field('lead.vote', search => '{exact}', store => 'token');
        CREATE TABLE vote (vote fieldcrypt.encrypted_text('lead.vote'));
        ALTER TABLE vote OWNER TO record_keeper;
        GRANT ALL ON vote TO app""")
    rotate(people)
    app.execute("INSERT INTO vote VALUES ('x')")
    assert any("lead.vote" in row[1] for row in call(people, "plan_rotate_index_key"))
    with refused("55000", "lead.vote.* cannot be made anew"):
        rotate(people)
    assert app.execute("SELECT count(*) FROM vote WHERE vote = 'x'").fetchone() == (1,)


def test_who_may_and_when(people):
    """Key administrators, in READ COMMITTED; the owners of tables need the right to encrypt."""
    for arguments, sqlstate, message in (
        ("'nobody'", "42704", "does not exist"),
        ("'*database*'", "42602", "invalid account name"),
        ("NULL", "22004", "must not be NULL"),
    ):
        with refused(sqlstate, message):
            people.execute(f"SELECT fieldcrypt.rotate_index_key({arguments})")
    with people.connect() as admin:
        admin.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with refused("25001", hint="READ COMMITTED"):
            rotate(admin)
    call(people, "disable_account", "acme")
    with refused("55000", "disabled"):
        rotate(people)
    call(people, "enable_account", "acme")
    people.execute("SELECT fieldcrypt.revoke_access('record_keeper', '{encrypt}', '*', '*')")
    with refused("42501", "encrypt"):
        rotate(people)
    assert index_keys(people) == [(1, "active")]


def test_the_plan(people):
    """It names the tables, the time, and the documents that are left for a job."""
    people.execute("ANALYZE person")
    plan = call(people, "plan_rotate_index_key")
    tables = {f"public.{name}" for name in ("person", "claim_acme", "claim_others", "patient")}
    assert {row[1] for row in plan if "rows in" in row[2]} == tables
    assert any(row[1] == "public.person" and f"about {2 * ROWS} rows" in row[2] for row in plan)
    assert any("writers wait for about" in row[2] for row in plan)
    left = 'document "person.data"'
    remedy = {row[1]: row[3] for row in plan}
    assert remedy[left] == "CALL fieldcrypt.reencrypt_existing('person.data');"
    assert left not in {row[1] for row in call(people, "plan_rotate_index_key", True)}
