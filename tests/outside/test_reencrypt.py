"""Jobs that seal anew what older data keys have sealed."""

import os
import signal
import threading
import time
from contextlib import contextmanager, suppress

import psycopg
import pytest
from expect import envelope_bytes, envelope_text, refused
from harness import Database, account_database, write_keyring
from test_account_keys import reload
from test_jobs import state, writing

# The owner of the tables, who may encrypt but not decrypt, and who starts jobs: in his role.
ROLES = ("keeper", "mover", "stranger")

SCHEMA = """
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT fieldcrypt_admin TO stranger;
    GRANT CREATE ON SCHEMA public TO keeper;
    SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', '*');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*');
    SET ROLE keeper;
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL, touched int NOT NULL DEFAULT 0,
        ssn fieldcrypt.encrypted_text('lead.ssn'), data jsonb);
    CREATE INDEX person_ssn ON person USING hash (ssn);
    CREATE INDEX person_tokens ON person USING gin (fieldcrypt.tokens(data));
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touch();
    SELECT fieldcrypt.protect_table('person', 'account_id');
    SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
    GRANT ALL ON person TO app, app_globex;
    RESET ROLE;
    SELECT fieldcrypt.protect_path('person.data', '{contact.email,phones[*]}', 'lead.email');
"""
COLUMN = "CALL fieldcrypt.reencrypt_column('person', 'ssn', 100)"
DOCUMENT = "CALL fieldcrypt.reencrypt_existing('person.data', 100)"
SSN, DATA = "public.person.ssn", "person.data"


def fill(db, rows=300):
    """Rows of two accounts; those of acme have even ids."""
    with db.connect("app", options="-c fieldcrypt.account=*row*") as app:
        app.execute(
            "INSERT INTO person (id, account_id, ssn, data)"
            " SELECT i, (ARRAY['acme','globex'])[1 + mod(i, 2)], (1000 + i)::text,"
            " jsonb_build_object('n', i, 'contact', jsonb_build_object('email', i || '@x.org'),"
            " 'phones', jsonb_build_array('p' || i, i)) FROM generate_series(1, %s) AS i",
            [rows],
        )


@pytest.fixture
def people(db):
    db.cluster.create_roles(*ROLES)
    db.execute(SCHEMA)
    return db


@pytest.fixture
def mover(people):
    with people.connect("mover") as connection:
        yield connection


@pytest.fixture
def app(people):
    with people.connect("app", options="-c fieldcrypt.account=acme") as connection:
        yield connection


def rotate(db, account="acme"):
    return db.value("SELECT fieldcrypt.rotate_account_key(%s)", [account])


def keys_of(db, account="acme", column="ssn"):
    """The keys that the values of an account are under, most of them first."""
    keys = db.execute(
        f"SELECT fieldcrypt.key_of({column}) FROM person WHERE account_id = %s"
        " GROUP BY 1 ORDER BY count(*) DESC",
        [account],
    )
    return [key for (key,) in keys]


EMAIL = "((data #>> '{contact,email}')::fieldcrypt.encrypted_text)"
PHONE = "((data #>> '{phones,0}')::fieldcrypt.encrypted_text)"


@pytest.mark.every_version
def test_a_column(people, mover, app):
    """Values and tokens stay; of the other account not even a row is written."""
    fill(people)
    tokens = "SELECT id, fieldcrypt.token(ssn) FROM person ORDER BY id"
    others = "SELECT id, ctid, ssn::text FROM person WHERE account_id = 'globex' ORDER BY id"
    before = people.execute(tokens).fetchall(), people.execute(others).fetchall()
    new = rotate(people)
    (old,) = keys_of(people)
    app.execute(
        "INSERT INTO person (id, account_id, ssn) VALUES (0, 'acme', '0'), (-2, 'acme', NULL)"
    )
    current = "SELECT ctid, ssn::text FROM person WHERE id = 0"
    written = people.execute(current).fetchone()
    mover.execute(COLUMN)
    assert state(people, SSN) == ("done", "verify", 150)
    assert old != new and [key for key in keys_of(people) if key] == [new]
    assert people.execute(f"{tokens} OFFSET 2").fetchall() == before[0]
    assert people.execute(others).fetchall() == before[1]
    assert people.execute(current).fetchone() == written
    app.execute("SET enable_seqscan = off")
    assert app.execute("SELECT id FROM person WHERE ssn = '1008'").fetchall() == [(8,)]
    assert app.execute(
        "SELECT count(*) FROM person WHERE fieldcrypt.decrypt(ssn) = (1000 + id)::text"
    ).fetchone() == (300,)
    # the application's own trigger has seen nothing, and a second run finds nothing to do
    assert people.value("SELECT sum(touched) FROM person") == 0
    mover.execute(COLUMN)
    assert state(people, SSN) == ("done", "verify", 0)
    rotate(people, "globex")
    mover.execute(COLUMN)
    assert state(people, SSN) == ("done", "verify", 150)


@pytest.mark.every_version
def test_documents(people, mover, app):
    """Nested values, those in arrays, and those whose path is no longer flagged."""
    fill(people)
    people.execute("SELECT fieldcrypt.unprotect_path('person.data', '{phones[*]}')")
    read = "SELECT id, fieldcrypt.decrypt(data), fieldcrypt.tokens(data) FROM person ORDER BY id"
    others = "SELECT id, ctid, data FROM person WHERE account_id = 'globex' ORDER BY id"
    before = app.execute(read).fetchall(), people.execute(others).fetchall()
    new = rotate(people)
    assert new not in keys_of(people, column=EMAIL)
    mover.execute(DOCUMENT)
    assert state(people, DATA) == ("done", "verify", 150)
    assert keys_of(people, column=EMAIL) == keys_of(people, column=PHONE) == [new]
    assert app.execute(read).fetchall() == before[0]
    assert people.execute(others).fetchall() == before[1]
    matches = "SELECT id FROM person WHERE fieldcrypt.matches(data, 'lead.email', '8@x.org')"
    assert app.execute(matches).fetchall() == [(8,)]
    assert people.value("SELECT sum(touched) FROM person") == 0
    mover.execute(DOCUMENT)
    assert state(people, DATA) == ("done", "verify", 0)


KINDS = {
    "text": ("'Ann'", ""),
    "bytea": (r"'\x00ff'::bytea", ""),
    "jsonb": ("""'{"a": [1.50, "fc", null]}'::jsonb""", ""),
    "bigint": ("-7", "search => '{exact}'"),
    "numeric": ("1.230", ""),
    "date": ("'2000-02-29'::date", "search => '{exact}'"),
    "timestamptz": ("'2000-02-29 12:34:56+02'::timestamptz", ""),
    "boolean": ("true", "search => '{exact}', small_domain => true"),
    "uuid": ("'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid", "search => '{exact}'"),
}
POLICIES = {
    "padded": "padding => '64'",
    "masked": "mask => 'last4'",
    "once": "search => '{unique}'",
    "everywhere": "search => '{unique}', scope => 'database'",
    "hashed": "search => '{unique}', store => 'token'",
    "cbc": "suite => 'aes-256-cbc-hmac-sha512'",
    "gcm": "suite => 'aes-256-gcm'",
}


@pytest.mark.every_version
def test_every_type_and_policy(people, mover):
    columns = {name: (kind, value, policy) for name, (kind, value, policy) in (
        *((kind, (kind, *rest)) for kind, rest in KINDS.items()),
        *((name, ("text", "'1234-5678'", policy)) for name, policy in POLICIES.items()),
    )}  # fmt: skip
    for name, (_, _, policy) in columns.items():
        people.execute(f"SELECT fieldcrypt.create_field('all.{name}'{policy and ', ' + policy})")
    definitions = (f"v_{n} fieldcrypt.encrypted_{k}('all.{n}')" for n, (k, *_) in columns.items())
    people.execute(f"SET ROLE keeper; CREATE TABLE of_all ({', '.join(definitions)}); RESET ROLE")
    people.execute("CREATE UNIQUE INDEX ON of_all (v_once); GRANT ALL ON of_all TO app")
    shapes = ", ".join(
        f"octet_length(v_{n}::text), fieldcrypt.tokens(v_{n}), fieldcrypt.field_of(v_{n}),"
        f" fieldcrypt.account_of(v_{n})" for n in columns
    )  # fmt: skip
    values = ", ".join(f"fieldcrypt.decrypt(v_{n})" for n in columns if n != "hashed")
    with people.connect("app", options="-c fieldcrypt.account=acme") as app:
        given = ", ".join(value for _, value, _ in columns.values())
        app.execute(f"INSERT INTO of_all SELECT {given}")

        def everything():
            return app.execute(f"SELECT {shapes}, {values} FROM of_all").fetchone()

        before = everything()
        new = rotate(people)
        for name in columns:
            mover.execute(f"CALL fieldcrypt.reencrypt_column('of_all', 'v_{name}')")
            assert state(people, f"public.of_all.v_{name}") == ("done", "verify", 1), name
            assert people.value(f"SELECT fieldcrypt.key_of(v_{name}) FROM of_all") == new, name
        assert everything() == before


def test_a_blob(people, mover, app):
    """The blob and each value inside of it, which may be under keys of different ages."""
    people.execute("SELECT fieldcrypt.create_field('box.pii', search => '{exact}')")
    people.execute("""
        SET ROLE keeper;
        CREATE TABLE box (
            id int, account_id text, data jsonb, pii fieldcrypt.encrypted_jsonb('box.pii'));
        SELECT fieldcrypt.protect_jsonb(
            'box', 'data', 'box.data', 'account_id', blob_column => 'pii');
        GRANT ALL ON box TO app; RESET ROLE;
        SELECT fieldcrypt.protect_path('box.data', '{a,b.c}', 'lead.ssn');
    """)
    app.execute("""INSERT INTO box SELECT i, 'acme', '{"n": 1, "a": "1", "b": {"c": "2"}}'
        FROM generate_series(1, 20) AS i""")
    new = rotate(people)
    # the blob is made anew, what is in it only in part
    app.execute("""UPDATE box SET data = '{"n": 1, "a": "9"}' WHERE id <= 5""")
    older = "SELECT count(*) FROM box WHERE fieldcrypt.needs_reencryption(pii)"
    renewed = f"SELECT count(*) FROM box WHERE fieldcrypt.key_of(pii) = {new}"
    assert (people.value(older), people.value(renewed)) == (20, 5)
    read = "SELECT id, fieldcrypt.decrypt(data, pii), fieldcrypt.tokens(pii) FROM box ORDER BY id"
    before = app.execute(read).fetchall()
    mover.execute("CALL fieldcrypt.reencrypt_existing('box.data')")
    assert state(people, "box.data") == ("done", "verify", 20)
    assert (people.value(older), people.value(renewed)) == (0, 20)
    assert app.execute(read).fetchall() == before
    mover.execute("CALL fieldcrypt.reencrypt_column('box', 'pii')")
    assert state(people, "public.box.pii") == ("done", "verify", 0)


def test_keys_and_references(people, mover, app):
    """A primary key that others refer to is equal to what it was."""
    people.execute("""
        SET ROLE keeper;
        CREATE TABLE part (no fieldcrypt.encrypted_text('lead.ssn') PRIMARY KEY, account_id text);
        CREATE TABLE use (no fieldcrypt.encrypted_text('lead.ssn') REFERENCES part);
        GRANT ALL ON part, use TO app; RESET ROLE;
    """)
    app.execute("INSERT INTO part SELECT i, 'acme' FROM generate_series(1, 50) AS i")
    app.execute("INSERT INTO use SELECT no FROM part")
    new = rotate(people)
    mover.execute("CALL fieldcrypt.reencrypt_column('part', 'no')")
    assert people.value(f"SELECT count(*) FROM part WHERE fieldcrypt.key_of(no) = {new}") == 50
    assert people.value("SELECT count(*) FROM part JOIN use USING (no)") == 50
    with refused("23505"):
        app.execute("INSERT INTO part VALUES ('7', 'acme')")


def test_partitions(people, mover, app):
    people.execute("""
        SET ROLE keeper;
        CREATE TABLE part (id int, account_id text, v fieldcrypt.encrypted_text('lead.ssn'))
            PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
        GRANT ALL ON part TO app; RESET ROLE;
    """)
    app.execute("INSERT INTO part SELECT i, 'acme', i FROM generate_series(1, 199) AS i")
    new = rotate(people)
    count = f"SELECT tableoid::regclass::text FROM part WHERE fieldcrypt.key_of(v) = {new}"
    # one of them, then all
    mover.execute("CALL fieldcrypt.reencrypt_column('part_2', 'v')")
    assert people.execute(count).fetchall() == [("part_2",)] * 100
    mover.execute("CALL fieldcrypt.reencrypt_column('part', 'v')")
    assert state(people, "public.part.v") == ("done", "verify", 99)
    assert people.execute(count).rowcount == 199


def test_accounts_and_fields_stay(people, mover, app):
    """A value in the wrong row does not become another account's; a damaged one is an error."""
    fill(people, 20)
    rotate(people)
    rotate(people, "globex")
    people.execute("SET session_replication_role = replica")
    swap = "UPDATE person SET ssn = (SELECT ssn FROM person WHERE id = 1) WHERE id = 2"
    people.execute(swap)
    mover.execute(COLUMN)
    assert state(people, SSN)[:2] == ("done", "verify")
    assert people.value("SELECT fieldcrypt.account_of(ssn) FROM person WHERE id = 2") == "globex"
    assert people.value("SELECT fieldcrypt.field_of(ssn) FROM person WHERE id = 2") == "lead.ssn"
    # the CHECK of a document sees the row's account
    people.execute("ALTER TABLE person DROP CONSTRAINT fieldcrypt_data")
    people.execute(
        "UPDATE person SET data = (SELECT data FROM person WHERE id = 1) WHERE id = 2;"
        " ALTER TABLE person ADD CONSTRAINT fieldcrypt_data CHECK (fieldcrypt.check_document("
        "'person.data', data, account_id, NULL, false)) NOT VALID"
    )
    with refused("23514", "account"):
        mover.execute(DOCUMENT)
    assert state(people, DATA)[:2] == ("running", "backfill")
    mover.execute("SELECT fieldcrypt.cancel_job('person.data')")
    # bytes that nobody has sealed
    rotate(people)
    stored = envelope_bytes(people.value("SELECT ssn::text FROM person WHERE id = 4"))
    damaged = envelope_text(stored[:-1] + bytes([stored[-1] ^ 1]))
    people.execute("UPDATE person SET ssn = %s WHERE id = 4", [damaged])
    with refused("XX001", "^decryption failed$"):
        mover.execute(COLUMN)
    assert state(people, SSN)[:2] == ("running", "backfill")


@pytest.mark.parametrize("call, target", [(COLUMN, SSN), (DOCUMENT, DATA)])
def test_a_disabled_account(people, mover, call, target):
    """It stops the job if it has older values, until it is enabled again."""
    fill(people)
    rotate(people)
    people.execute("SELECT fieldcrypt.disable_account('globex')")
    mover.execute(call)
    assert state(people, target) == ("done", "verify", 150)
    people.execute("SELECT fieldcrypt.enable_account('globex')")
    new = rotate(people, "globex")
    people.execute("SELECT fieldcrypt.disable_account('globex')")
    with refused("55000", 'account "globex" is disabled'):
        mover.execute(call)
    assert state(people, target) == ("running", "backfill", 0)
    people.execute("SELECT fieldcrypt.enable_account('globex')")
    mover.execute(call)
    assert state(people, target) == ("done", "verify", 150)
    assert keys_of(people, "globex", "ssn" if call is COLUMN else EMAIL) == [new]


def test_rights(people, mover):
    """It takes fieldcrypt_admin and the rights of the owner, who may encrypt, and not decrypt."""
    fill(people)
    (old,) = keys_of(people)
    new = rotate(people)
    for call in COLUMN, DOCUMENT:
        with people.connect("keeper") as keeper, refused("42501"):
            keeper.execute(call)
        with people.connect("stranger") as stranger, refused("42501", "table's owner"):
            stranger.execute(call)
        with refused("42501", "table's owner"):
            people.execute(call)
    people.execute("SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', '*')")
    for call in COLUMN, DOCUMENT:
        with refused("42501", "encrypt field"):
            mover.execute(call)
        mover.execute(
            "SELECT fieldcrypt.cancel_job(target) FROM fieldcrypt.progress WHERE state = 'running'"
        )
    assert keys_of(people) == [old]
    people.execute("SELECT fieldcrypt.grant_access('keeper', '{encrypt}', 'acme', '*')")
    for call in COLUMN, DOCUMENT:
        mover.execute(call)
    assert keys_of(people) == keys_of(people, column=EMAIL) == [new]
    people.execute("SELECT fieldcrypt.flush_audit()")
    audited = people.execute(
        "SELECT action, outcome, session_role, detail FROM fieldcrypt.audit"
        " WHERE action LIKE 'reencrypt%' ORDER BY seq"
    ).fetchall()
    assert ("reencrypt_column", "done", "mover", SSN) in audited
    assert ("reencrypt_existing", "done", "mover", DATA) in audited
    assert ("reencrypt_column", "denied", "stranger", f"{SSN}, needs the table's owner") in audited
    # nobody has read anything
    assert people.value("SELECT count(*) FROM fieldcrypt.audit WHERE action = 'decrypt'") == 0


def test_plans_and_refusals(people, mover):
    fill(people, 20)
    column = "SELECT severity, finding FROM fieldcrypt.plan_reencrypt_column('person', %s)"
    document = "SELECT severity, finding FROM fieldcrypt.plan_reencrypt_existing(%s)"
    for plan, name, wrong in (column, "ssn", "data"), (document, DATA, "none"):
        assert {severity for severity, _ in mover.execute(plan, [name])} == {"notice"}
        assert "error" in {severity for severity, _ in mover.execute(plan, [wrong])}
    with refused("55000", "no column of an encrypted type"):
        mover.execute("CALL fieldcrypt.reencrypt_column('person', 'data')")
    with refused("55000", "no protected document"):
        mover.execute("CALL fieldcrypt.reencrypt_existing('none')")
    people.execute("ALTER TABLE person ENABLE ALWAYS TRIGGER touch")
    for call in COLUMN, DOCUMENT:
        with refused("55000", "fires also"):
            mover.execute(call)
    assert people.value("SELECT count(*) FROM fieldcrypt.job") == 0


def test_live_writers(people, mover):
    """Who changes a value has the last word; who changes another column gets no error."""
    fill(people, 3000)
    new = rotate(people)
    value = "UPDATE person SET ssn = (5000 + %(n)s)::text WHERE id = 2 + 2 * (%(n)s %% 1400)"
    other = "UPDATE person SET touched = 0 WHERE id = 1 + (%(n)s * 37) %% 2999"
    document = (
        "UPDATE person SET data = jsonb_set(data, '{contact,email}', to_jsonb('new' || %(n)s))"
        " WHERE id = 2 + 2 * (%(n)s %% 1400)"
    )
    with writing(people, value) as values, writing(people, other) as others:
        mover.execute(COLUMN)
    with writing(people, document) as documents, writing(people, other) as more:
        mover.execute(DOCUMENT)
    for result in values, others, documents, more:
        assert result["errors"] == [] and result["count"] > 10 and result["slowest"] < 1
    assert keys_of(people) == keys_of(people, column=EMAIL) == keys_of(people, column=PHONE)
    assert keys_of(people) == [new]
    ssn = {2 + 2 * (n % 1400): str(5000 + n) for n in range(1, values["count"] + 1)}
    email = {2 + 2 * (n % 1400): f"new{n}" for n in range(1, documents["count"] + 1)}
    with people.connect("app") as app:
        for row, *found in app.execute(
            "SELECT id, fieldcrypt.decrypt(ssn), fieldcrypt.decrypt(data) #>> '{contact,email}'"
            " FROM person"
        ):
            assert found == [ssn.get(row, str(1000 + row)), email.get(row, f"{row}@x.org")]


def test_documents_that_were_read_before(people, mover, app):
    """As ciphertext they cannot be written back; read and written as values they can."""
    fill(people, 20)
    read = "SELECT data, fieldcrypt.decrypt(data) FROM person WHERE id = 2"
    raw, plain = app.execute(read).fetchone()
    new = rotate(people)
    mover.execute(DOCUMENT)
    write = "UPDATE person SET data = %s WHERE id = 2"
    with refused("42501", "encrypted values are not accepted"):
        app.execute(write, [psycopg.types.json.Jsonb(raw)])
    app.execute(write, [psycopg.types.json.Jsonb(plain)])
    assert app.execute(read).fetchone()[1] == plain
    assert keys_of(people, column=EMAIL) == [new]


def test_a_locked_account(make_cluster):
    """While a customer's root key is withdrawn, the job cannot go on."""
    cluster = make_cluster()
    with account_database(cluster) as db:
        cluster.create_roles(*ROLES)
        db.execute(SCHEMA)
        fill(db, 20)
        write_keyring(cluster.keys_dir, {"main": "current", "theirs": "customer"})
        reload(db)
        db.execute("SELECT fieldcrypt.set_account_root('acme', 'theirs')")
        new = rotate(db)
        key = cluster.keys_dir / "theirs.key"
        away = key.rename(cluster.keys_dir / "away")
        reload(db)
        with db.connect("mover") as mover, refused("57000", 'account "acme" is locked'):
            mover.execute(COLUMN)
        assert state(db, SSN) == ("running", "backfill", 0)
        away.rename(key)
        reload(db)
        with db.connect("mover") as mover:
            mover.execute(COLUMN)
        assert state(db, SSN) == ("done", "verify", 10)
        assert keys_of(db) == [new]


@contextmanager
def running(people, call):
    """Runs a job in a thread."""
    errors = []

    def run():
        with people.connect("mover") as connection:
            try:
                connection.execute(call)
            except psycopg.Error as error:
                errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(30)
    assert not thread.is_alive() and errors == []


def wait_for(condition, limit=20):
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_statement_that_was_running_while_the_key_was_rotated(people, mover, app):
    """The job waits for it, also if that was in the middle of the job."""
    fill(people)
    app.autocommit = False
    app.execute("INSERT INTO person (id, account_id, ssn) VALUES (1000, 'acme', '1')")
    second = rotate(people)
    with running(people, COLUMN) as thread:
        wait_for(lambda: people.value("SELECT count(*) FROM fieldcrypt.job") == 1)
        time.sleep(0.5)
        assert thread.is_alive() and state(people, SSN) == ("running", "prepare", 0)
        app.commit()
    assert state(people, SSN) == ("done", "verify", 151)
    assert keys_of(people) == [second]

    third = rotate(people)
    with running(people, COLUMN.replace("100", "20, 300")):
        wait_for(lambda: state(people, SSN)[0] == "running" and state(people, SSN)[2] >= 20)
        mover.execute("SELECT fieldcrypt.pause_job(%s)", [SSN])
    assert state(people, SSN)[:2] == ("paused", "backfill")
    app.execute("INSERT INTO person (id, account_id, ssn) VALUES (1002, 'acme', '2')")
    fourth = rotate(people)
    with running(people, COLUMN) as thread:
        wait_for(lambda: state(people, SSN)[1] == "prepare")
        time.sleep(0.3)
        assert thread.is_alive()
        app.commit()
    assert state(people, SSN)[:2] == ("done", "verify")
    assert third != fourth and keys_of(people) == [fourth]


def test_verifying_finds_what_a_pass_has_missed(people, mover):
    """As if a row had moved from where a pass was going to be to where it had been."""
    fill(people)
    older = people.value("SELECT ssn::text FROM person WHERE id = 2")
    new = rotate(people)
    mover.execute(COLUMN)
    people.execute("SET session_replication_role = replica")
    people.execute("UPDATE person SET ssn = %s WHERE id = 2", [older])
    people.execute("UPDATE fieldcrypt.job SET state = 'running', step = 'verify'")
    mover.execute(COLUMN)
    assert state(people, SSN) == ("done", "verify", 151)
    assert keys_of(people) == [new]


def test_what_jobs_have_noted_of_plain_values_stays(people, mover):
    """Reencryption clears no remnant of the encryption before it."""
    people.execute(
        "SET ROLE keeper; CREATE TABLE was_plain (account_id text, v text);"
        " INSERT INTO was_plain VALUES ('acme', 'x'); RESET ROLE"
    )
    mover.execute("CALL fieldcrypt.encrypt_column('was_plain', 'v', 'lead.email', 'account_id')")
    has_remnants = "SELECT has_remnants FROM fieldcrypt.progress"
    assert people.value(has_remnants)
    rotate(people)
    mover.execute("CALL fieldcrypt.reencrypt_column('was_plain', 'v')")
    assert state(people, "public.was_plain.v") == ("done", "verify", 1)
    assert people.value(has_remnants)
    mover.execute("CALL fieldcrypt.reencrypt_column('was_plain', 'v')")


def test_kill_nine(make_cluster):
    """The session that runs a job is killed; called again it goes on, and loses nothing."""
    cluster = make_cluster()
    cluster.create_roles("app", "app_globex", "outsider", *ROLES)
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme');
        SELECT fieldcrypt.create_account('globex');
        SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}');
        SELECT fieldcrypt.create_field('lead.email', search => '{exact}');
    """)
    db.execute(SCHEMA)
    fill(db, 800)
    new = rotate(db)
    for call, target in (COLUMN, SSN), (DOCUMENT, DATA):
        kill_in_the_middle(db, call, target)
        status, step, changed = state(db, target)
        assert (status, step) == ("running", "backfill") and 100 <= changed < 400
        with db.connect("mover") as mover:
            mover.execute(call)
        assert state(db, target) == ("done", "verify", 400)
    assert keys_of(db) == keys_of(db, column=EMAIL) == keys_of(db, column=PHONE) == [new]
    with db.connect("app") as app:
        intact = app.execute(
            "SELECT count(*) FROM person WHERE fieldcrypt.decrypt(ssn) = (1000 + id)::text"
            " AND fieldcrypt.decrypt(data) #>> '{contact,email}' = id || '@x.org'"
            " AND (fieldcrypt.decrypt(data) #>> '{phones,1}')::int = id"
        )
        assert intact.fetchone() == (800,)
    db.conn.close()


def kill_in_the_middle(db, call, target):
    """Kills the session that runs a job when it has changed 100 rows, and connects again."""
    pids = []

    def run():
        with suppress(psycopg.OperationalError), db.connect("mover") as connection:
            pids.append(connection.info.backend_pid)
            connection.execute(call.replace("100", "50, 1000"))

    thread = threading.Thread(target=run)
    thread.start()
    wait_for(lambda: (state(db, target) or (0, 0, 0))[2] >= 100)
    kill_session(db, pids[0])
    thread.join(30)


def kill_session(db, pid):
    """By SIGKILL: the server closes every connection, and recovers."""
    os.kill(pid, signal.SIGKILL)
    with suppress(psycopg.OperationalError):
        wait_for(lambda: db.execute("SELECT") is None)
    db.conn.close()
    wait_for(lambda: connects(db))


def connects(db):
    with suppress(psycopg.OperationalError):
        db.conn = db.connect()
        return True
    return False
