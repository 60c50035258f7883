"""Jobs over documents whose flagged values are gathered in a blob column."""

import random
import time

import pytest
from canaries import Canaries
from expect import refused
from harness import Database
from psycopg.types.json import Jsonb
from test_jobs import state, writing
from test_jobs_crash import ROWS, SEED, Writer
from test_jobs_remnants import SETTINGS, clean, places
from test_reencrypt import kill_in_the_middle, running, wait_for

# The owner of the table, who starts jobs in his role, and who manage an account: with and without
# the right to read it.
ROLES = ("keeper", "mover", "boss", "clerk")

SCHEMA = """
    SELECT fieldcrypt.create_field('lead.pii');
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT CREATE ON SCHEMA public TO keeper;
    SELECT fieldcrypt.grant_access('keeper', '{encrypt,decrypt}', '*', 'lead.*');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', 'lead.*');
    SELECT fieldcrypt.grant_access('boss', '{manage,decrypt}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('clerk', '{manage}', 'acme', 'lead.*');
    SET ROLE keeper;
    CREATE TABLE person (
        id int PRIMARY KEY, account_id text NOT NULL, kind varchar(10),
        touched int NOT NULL DEFAULT 0, data jsonb, pii fieldcrypt.encrypted_jsonb('lead.pii'));
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON person FOR EACH ROW EXECUTE FUNCTION touch();
    GRANT ALL ON person TO app;
    RESET ROLE;
"""
PROTECT = """
    SET ROLE keeper;
    SELECT fieldcrypt.protect_jsonb(
        'person', 'data', 'person.data', 'account_id', 'kind', blob_column => {});
    RESET ROLE;
"""
FLAG = """
    SELECT fieldcrypt.protect_path('person.data', '{contact.email}', 'lead.email');
    SELECT fieldcrypt.protect_path('person.data', '{ssn}', 'lead.ssn');
"""
ENCRYPT, DECRYPT, REENCRYPT = (
    f"CALL fieldcrypt.{action}_existing('person.data', 100)"
    for action in ("encrypt", "decrypt", "reencrypt")
)
TARGET = "person.data"
DOCUMENTS = "SELECT id, data FROM person ORDER BY id"
MERGED = "SELECT id, fieldcrypt.decrypt(data, pii) FROM person ORDER BY id"
# rows in which nothing is gathered that is to be, and in which both are
PLAIN = "SELECT count(*) FROM person WHERE pii IS NULL AND data ->> 'ssn' IS NOT NULL"
GATHERED = (
    "SELECT count(*) FROM person WHERE pii IS NOT NULL AND NOT data ? 'ssn'"
    " AND NOT data -> 'contact' ? 'email'"
)


def fill(db, rows=300):
    """Rows of two accounts; those of acme have even ids."""
    db.execute(
        "INSERT INTO person (id, account_id, data)"
        " SELECT i, (ARRAY['acme','globex'])[1 + mod(i, 2)],"
        " jsonb_build_object('n', i, 'contact', jsonb_build_object('email', 'p' || i || '@x.org',"
        " 'city', 'Rome'), 'ssn', '000-' || i) FROM generate_series(1, %s) AS i",
        [rows],
    )


def flag(db):
    db.execute(PROTECT.format("'pii'") + FLAG)


def unflag(db, paths):
    db.execute("SELECT fieldcrypt.unprotect_path('person.data', %s)", [paths])


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
def keeper(people):
    with people.connect("keeper") as connection:
        yield connection


@pytest.fixture
def app(people):
    with people.connect("app", options="-c fieldcrypt.account=acme") as connection:
        yield connection


@pytest.mark.every_version
def test_there_and_back(people, mover, keeper, app):
    """Flagged values move into the blob, and back to where they were."""
    fill(people)
    others = [
        {"n": 1},
        {"ssn": None, "contact": {"email": {"work": "a", "private": [1, 2.50, None]}}},
        {"contact": "no object"},
        [{"n": 1}],
        "text",
        None,
    ]
    for i, document in enumerate(others, 1001):
        people.execute(
            "INSERT INTO person (id, account_id, data) VALUES (%s, 'acme', %s)",
            [i, None if document is None else Jsonb(document)],
        )
    before = people.execute(DOCUMENTS).fetchall()
    flag(people)
    plan = "SELECT finding FROM fieldcrypt.plan_existing('person.data') WHERE severity = 'error'"
    assert mover.execute(plan).fetchall() == []
    mover.execute(ENCRYPT)
    assert state(people, TARGET) == ("done", "analyze", 301)
    assert people.value(GATHERED) == 300
    accounts = "SELECT count(*) FROM person WHERE fieldcrypt.account_of(pii) = account_id"
    assert people.value(accounts) == 301
    assert keeper.execute(MERGED).fetchall() == before
    by_token = "SELECT id FROM person WHERE fieldcrypt.matches(pii, 'lead.email', 'p8@x.org')"
    assert app.execute(by_token).fetchall() == [(8,)]
    mover.execute(ENCRYPT)
    assert state(people, TARGET) == ("done", "analyze", 0)

    unflag(people, ["contact.email"])
    mover.execute(DECRYPT)
    assert state(people, TARGET) == ("done", "analyze", 301)
    emails = "SELECT count(*) FROM person WHERE data #>> '{contact,email}' = 'p' || id || '@x.org'"
    # the other path is still flagged
    assert (people.value(emails), people.value(PLAIN)) == (300, 0)
    assert people.value("SELECT count(*) FROM person WHERE pii IS NOT NULL") == 300
    assert app.execute(by_token).fetchall() == []
    assert keeper.execute(MERGED).fetchall() == before

    unflag(people, ["ssn"])
    mover.execute(DECRYPT)
    assert state(people, TARGET) == ("done", "analyze", 300)
    assert people.execute(DOCUMENTS).fetchall() == before
    assert people.value("SELECT count(*) FROM person WHERE pii IS NOT NULL") == 0
    assert people.value("SELECT sum(touched) FROM person") == 0


def test_beside_what_was_gathered_before(people, mover, keeper, app):
    """What a blob holds stays in it, also where the document is NULL or lacks the keys."""
    flag(people)
    unflag(people, ["contact.email"])
    for i in range(1, 5):
        app.execute(
            "INSERT INTO person (id, account_id, data) VALUES (%s, 'acme', %s)",
            [i, Jsonb({"n": i, "ssn": str(i), "contact": {"email": "e"}})],
        )
    app.execute("UPDATE person SET data = NULL WHERE id = 2")
    app.execute("""UPDATE person SET data = '{"contact": {"email": "f"}}' WHERE id = 3""")
    merged = keeper.execute(MERGED).fetchall()
    blob = people.value("SELECT pii::text FROM person WHERE id = 2")
    people.execute(FLAG)
    mover.execute(ENCRYPT)
    assert state(people, TARGET) == ("done", "analyze", 3)
    assert people.value("SELECT pii::text FROM person WHERE id = 2") == blob
    assert keeper.execute(MERGED).fetchall() == merged
    unflag(people, ["contact.email", "ssn"])
    mover.execute(DECRYPT)
    assert people.execute(DOCUMENTS).fetchall() == merged
    assert people.value("SELECT count(*) FROM person WHERE pii IS NOT NULL") == 0


def test_kinds_and_accounts(people, mover, keeper):
    """What is flagged is told by each row's account and kind."""
    people.execute(PROTECT.format("'pii'"))
    for i, (account, kind) in enumerate(
        [("acme", "lead"), ("acme", None), ("globex", "lead"), ("globex", "other")]
    ):
        people.execute(
            "INSERT INTO person (id, account_id, kind, data) VALUES (%s, %s, %s, %s)",
            [i, account, kind, Jsonb({"a": 1, "b": 2, "c": 3})],
        )
    before = people.execute(DOCUMENTS).fetchall()
    people.execute("""
        SELECT fieldcrypt.protect_path('person.data', '{a}', 'lead.ssn', kind => 'lead');
        SELECT fieldcrypt.protect_path('person.data', '{b}', 'lead.ssn', account => 'globex')""")
    mover.execute(ENCRYPT)
    assert people.execute(DOCUMENTS).fetchall() == [
        (0, {"b": 2, "c": 3}),
        (1, {"a": 1, "b": 2, "c": 3}),
        (2, {"c": 3}),
        (3, {"a": 1, "c": 3}),
    ]
    assert keeper.execute(MERGED).fetchall() == before
    people.execute("SELECT fieldcrypt.unprotect_path('person.data', '{a}', kind => 'lead')")
    mover.execute(DECRYPT)
    assert [sorted(document) for _, document in people.execute(DOCUMENTS)] == [
        ["a", "b", "c"],
        ["a", "b", "c"],
        ["a", "c"],
        ["a", "c"],
    ]
    assert keeper.execute(MERGED).fetchall() == before


def test_partitions(people, mover, keeper):
    people.execute("""
        SET ROLE keeper;
        CREATE TABLE part (
            "Id" int, tenant text, "The Data" jsonb,
            "The Blob" fieldcrypt.encrypted_jsonb('lead.pii'))
            PARTITION BY RANGE ("Id");
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        -- its columns have other numbers
        CREATE TABLE part_2 (
            dropped int, "The Blob" fieldcrypt.encrypted_jsonb('lead.pii'), "The Data" jsonb,
            tenant text, "Id" int);
        ALTER TABLE part_2 DROP COLUMN dropped;
        ALTER TABLE part ATTACH PARTITION part_2 FOR VALUES FROM (100) TO (200);
        INSERT INTO part SELECT i, 'acme', jsonb_build_object('ssn', 'd' || i)
            FROM generate_series(1, 199) AS i;
        SELECT fieldcrypt.protect_jsonb(
            'part', 'The Data', 'part.data', 'tenant', blob_column => 'The Blob');
        RESET ROLE;
        SELECT fieldcrypt.protect_path('part.data', '{ssn}', 'lead.ssn')""")
    mover.execute("CALL fieldcrypt.encrypt_existing('part.data')")
    count = (
        """SELECT count(*) FROM part WHERE "The Data" = '{}' AND fieldcrypt.decrypt("""
        """"The Data", "The Blob") ->> 'ssn' = 'd' || "Id" """
    )
    assert keeper.execute(count).fetchone() == (199,)
    people.execute("SELECT fieldcrypt.unprotect_path('part.data', '{ssn}')")
    mover.execute("CALL fieldcrypt.decrypt_existing('part.data')")
    count = (
        """SELECT count(*) FROM part WHERE "The Data" ->> 'ssn' = 'd' || "Id" """
        """AND "The Blob" IS NULL"""
    )
    assert people.value(count) == 199


def test_envelopes_in_documents_are_gathered(people, mover, keeper):
    """A document that was encrypted in place gets a blob column."""
    fill(people)
    before = people.execute(DOCUMENTS).fetchall()
    people.execute(PROTECT.format("NULL") + FLAG)
    mover.execute(ENCRYPT)
    unflag(people, ["contact.email"])
    people.execute("SET ROLE keeper; SELECT fieldcrypt.unprotect_jsonb('person', 'data')")
    people.execute(PROTECT.format("'pii'"))
    mover.execute(ENCRYPT)
    assert state(people, TARGET) == ("done", "analyze", 300)
    assert people.value(GATHERED) == 300
    assert keeper.execute(MERGED).fetchall() == before
    # also from where they were when their paths were taken back
    mover.execute(DECRYPT)
    emails = "SELECT count(*) FROM person WHERE data #>> '{contact,email}' = 'p' || id || '@x.org'"
    assert people.value(emails) == 300
    assert keeper.execute(MERGED).fetchall() == before


def test_values_of_other_accounts_stop_the_job(people, mover):
    """In the document, where they would vanish in the blob, and as the blob."""
    fill(people, 4)
    people.execute(PROTECT.format("NULL") + FLAG)
    mover.execute(ENCRYPT)
    people.execute("SET session_replication_role = replica")
    people.execute(
        "SET ROLE keeper; SELECT fieldcrypt.unprotect_jsonb('person', 'data'); RESET ROLE;"
        "UPDATE person SET data = (SELECT data FROM person WHERE id = 1) WHERE id = 2"
    )
    people.execute(PROTECT.format("'pii'"))
    with refused("23514", "contact.email|ssn"):
        mover.execute(ENCRYPT)
    people.execute("UPDATE person SET data = NULL WHERE id = 2")
    mover.execute(ENCRYPT)
    assert people.value(GATHERED) == 3
    people.execute("UPDATE person SET pii = (SELECT pii FROM person WHERE id = 1) WHERE id = 4")
    foreign = 'blob column of document "person.data"'
    with refused("23514", foreign):
        mover.execute(ENCRYPT)
    mover.execute("SELECT fieldcrypt.cancel_job('person.data')")
    unflag(people, ["ssn"])
    with refused("23514", foreign):
        mover.execute(DECRYPT)
    assert people.value("SELECT count(*) FROM person WHERE id = 4 AND NOT data ? 'ssn'") == 1


def test_arrays_stop_the_job(people, mover, keeper):
    """What cannot be gathered stays as it was, and is found."""
    fill(people, 20)
    people.execute("""UPDATE person SET data = '{"contact": [{"email": "a"}]}' WHERE id = 7""")
    before = people.execute(DOCUMENTS).fetchall()
    flag(people)
    with refused("0A000", "contact"):
        mover.execute(ENCRYPT)
    plain = (
        "SELECT id FROM person WHERE fieldcrypt.state_of_document("
        "'person.data', data, account_id, kind, true) = 'plain'"
    )
    assert (7,) in people.execute(plain).fetchall()
    assert keeper.execute(MERGED).fetchall() == before
    people.execute("UPDATE person SET data = NULL WHERE id = 7")
    mover.execute(ENCRYPT)
    assert people.value(GATHERED) == 19


def test_rights(people, mover):
    """Encrypting needs the fields of the values and of the blob, decrypting the right to read."""
    fill(people, 20)
    flag(people)
    for field in "lead.pii", "lead.ssn":
        people.execute("SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', 'lead.*')")
        for other in {"lead.pii", "lead.ssn", "lead.email"} - {field}:
            people.execute(
                "SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', %s)", [other]
            )
        with refused("42501", f'encrypt field "{field}"'):
            mover.execute(ENCRYPT)
        for other in {"lead.pii", "lead.ssn", "lead.email"} - {field}:
            people.execute(
                "SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', %s)", [other]
            )
    assert people.value(PLAIN) == 20
    people.execute("SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', 'lead.*')")
    mover.execute(ENCRYPT)
    assert people.value(GATHERED) == 20
    people.execute("SELECT fieldcrypt.revoke_access('keeper', '{decrypt}', '*', 'lead.*')")
    people.execute("SELECT fieldcrypt.grant_access('keeper', '{decrypt}', '*', 'lead.pii')")
    unflag(people, ["ssn"])
    with refused("42501", 'decrypt field "lead.ssn"'):
        mover.execute(DECRYPT)
    assert people.value(GATHERED) == 20


def test_whoever_manages_the_account(people, keeper):
    """His job writes no row of another account, and opens nothing that he may not read."""
    fill(people)
    flag(people)
    others = "SELECT id, ctid, data FROM person WHERE account_id = 'globex' ORDER BY id"
    before = people.execute(others).fetchall(), keeper.execute(MERGED).fetchall()
    with people.connect("clerk") as clerk, people.connect("boss") as boss:
        clerk.execute(ENCRYPT.replace("100", "100, account => 'acme'"))
        assert state(people, f"{TARGET}/acme") == ("done", "analyze", 150)
        assert people.value(GATHERED) == 150
        unflag(people, ["ssn"])
        call = DECRYPT.replace("100", "100, account => 'acme'")
        with refused("42501", 'decrypt field "lead.ssn"'):
            clerk.execute(call)
        assert people.value(GATHERED) == 150
        boss.execute(call)
    assert people.value("SELECT count(*) FROM person WHERE pii IS NOT NULL") == 150
    assert people.value("SELECT count(*) FROM person WHERE data ? 'ssn'") == 300
    assert (people.execute(others).fetchall(), keeper.execute(MERGED).fetchall()) == before


def test_adoption_is_refused(people, mover):
    flag(people)
    adopt = "('person.data', '{ssn}', 'gcm-iv-tag-ciphertext-hex', 'floh'"
    plan = f"SELECT finding FROM fieldcrypt.plan_adopt_existing{adopt}) WHERE severity = 'error'"
    assert ("has a blob column",) in mover.execute(plan).fetchall()
    with refused("55000", "has a blob column"):
        mover.execute(f"CALL fieldcrypt.adopt_existing{adopt}, field => 'lead.ssn')")


def test_verifying_finds_what_a_pass_has_missed(people, mover):
    """As if a row had moved from where a pass was going to be to where it had been."""
    fill(people)
    missed = people.value("SELECT data FROM person WHERE id = 2")
    flag(people)
    mover.execute(ENCRYPT)
    gathered = people.execute("SELECT data, pii::text FROM person WHERE id = 2").fetchone()
    verify = (
        "UPDATE fieldcrypt.job SET state = 'running', step = 'verify', page = 0, end_page = 0,"
        " place = NULL"
    )
    people.execute(
        "SET session_replication_role = replica;ALTER TABLE person DROP CONSTRAINT fieldcrypt_data"
    )
    people.execute(verify)
    people.execute("UPDATE person SET data = %s WHERE id = 2", [Jsonb(missed)])
    mover.execute(ENCRYPT)
    assert state(people, TARGET) == ("done", "analyze", 301)
    assert people.value(GATHERED) == 300
    unflag(people, ["contact.email", "ssn"])
    mover.execute(DECRYPT)
    people.execute(verify)
    # the values are in the blob alone, of which the document shows nothing
    people.execute(
        "UPDATE person SET data = %s, pii = %s WHERE id = 2", [Jsonb(gathered[0]), gathered[1]]
    )
    mover.execute(DECRYPT)
    assert state(people, TARGET) == ("done", "analyze", 301)
    assert people.value("SELECT data FROM person WHERE id = 2") == missed


def row_of(number):
    return 2 + 2 * (number % 700)


# It holds the row's lock for a moment: a job that comes to it waits, and takes the row as it is
# then.
WRITE = """
    WITH written AS (
        UPDATE person SET data = jsonb_set(data, '{contact,email}', to_jsonb('new' || %(n)s))
        WHERE id = 2 + 2 * (%(n)s %% 700) RETURNING id)
    SELECT pg_sleep(0.01) FROM written
"""
# Where the values of a row are when a job is done.
CHECKS = {
    ENCRYPT: "fieldcrypt.account_of(pii) = account_id"
    " AND data = jsonb_build_object('n', id, 'contact', '{\"city\": \"Rome\"}'::jsonb)",
    REENCRYPT: "NOT fieldcrypt.needs_reencryption(pii) AND NOT data ? 'ssn'",
    DECRYPT: "pii IS NULL AND data ->> 'ssn' = '000-' || id AND data -> 'contact' ? 'email'",
}
ROTATE = "SELECT fieldcrypt.rotate_account_key(a) FROM unnest('{acme,globex}'::text[]) AS a"


def check_rows(db, check, emails):
    """Each row has its values, wherever they are stored, and they are stored where they must be."""
    with db.connect("keeper") as keeper:
        rows = keeper.execute(
            f"SELECT id, {check}, fieldcrypt.decrypt(data, pii) FROM person"
        ).fetchall()
    assert len(rows) == len(emails)
    for row, is_right, document in rows:
        assert is_right, row
        assert document["contact"].pop("email") in emails[row]
        assert document == {"n": row, "contact": {"city": "Rome"}, "ssn": f"000-{row}"}


def test_beside_writers(people, mover):
    """Who changes a value has the last word, and gets no error."""
    fill(people, 1500)
    flag(people)
    emails = {row: {f"p{row}@x.org"} for row in range(1, 1501)}
    other = "UPDATE person SET touched = 0 WHERE id = 1 + (%(n)s * 37) %% 1499"
    for call, check in CHECKS.items():
        if call == REENCRYPT:
            people.execute(ROTATE)
        if call == DECRYPT:
            unflag(people, ["contact.email", "ssn"])
        with writing(people, WRITE) as changes, writing(people, other) as others:
            mover.execute(call.replace("100", "20, 3000"))
        assert changes["errors"] == others["errors"] == []
        assert changes["count"] > 10 and others["slowest"] < 1
        assert state(people, TARGET)[0] == "done"
        emails |= {row_of(n): {f"new{n}"} for n in range(1, changes["count"] + 1)}
        check_rows(people, check, emails)


@pytest.mark.every_version
def test_a_row_that_changes_while_the_job_waits_for_it(people, mover, keeper):
    """Both columns are made of what the other transaction has left."""
    fill(people, 20)
    flag(people)
    people.execute("ALTER TABLE person DROP CONSTRAINT fieldcrypt_data")
    start = "SELECT fieldcrypt.start_job(%s, 'person.data', NULL, NULL, NULL, NULL, true)"
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
    read = "SELECT fieldcrypt.decrypt(data, pii), pii IS NULL FROM person WHERE id = 2"
    expected = keeper.execute(read).fetchone()[0]
    # without the trigger, so that there is something left to do
    options = {"options": "-c session_replication_role=replica", "autocommit": False}
    with people.connect(**options) as other:
        for action, change in ("encrypt", {"ssn": "new"}), ("decrypt", {"n": 3}):
            if action == "decrypt":
                unflag(people, ["contact.email", "ssn"])
            # the first step waits for every transaction
            mover.execute(start, [f"{action}_existing"])
            mover.execute("SELECT fieldcrypt.step_job('person.data', 100, true)")
            assert state(people, TARGET)[:2] == ("running", "backfill")
            other.execute("UPDATE person SET data = data || %s WHERE id = 2", [Jsonb(change)])
            with running(people, f"CALL fieldcrypt.{action}_existing('person.data')"):
                wait_for(lambda: people.value(waiting) == 1)
                other.commit()
            assert state(people, TARGET) == ("done", "analyze", 20)
            expected |= change
            assert keeper.execute(read).fetchone() == (expected, action == "decrypt")


class BlobWriter(Writer):
    """Changes a value that is gathered, and remembers what each row may hold."""

    def change(self, connection, row, value):
        # else it would leave the job nothing to do
        time.sleep(0.01)
        connection.execute(
            "UPDATE person SET data = jsonb_set(data, '{contact,email}', to_jsonb(%s::text))"
            " WHERE id = %s",
            [value, row],
        )


def test_killed_in_the_middle(make_cluster):
    """Called again each job goes on; no row is without a value, nor has it in both columns."""
    cluster = make_cluster()
    cluster.create_roles("app", "app_globex", "outsider", *ROLES)
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme'), fieldcrypt.create_account('globex');
        SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}');
        SELECT fieldcrypt.create_field('lead.email', search => '{exact}')""")
    db.execute(SCHEMA)
    fill(db, ROWS)
    db.execute("""UPDATE person SET data = jsonb_set(data, '{contact,email}', '"v0"')""")
    flag(db)
    writer = BlobWriter(db, random.Random(SEED))
    writer.start()
    try:
        for call, check in CHECKS.items():
            if call == REENCRYPT:
                db.execute(ROTATE)
            if call == DECRYPT:
                unflag(db, ["contact.email", "ssn"])
            db.execute("DELETE FROM fieldcrypt.job")
            kill_in_the_middle(db, call, TARGET)
            status, step, changed = state(db, TARGET)
            assert (status, step) == ("running", "backfill") and 100 <= changed < ROWS
            done = f"SELECT count(*) FROM person WHERE {check}"
            assert 100 <= db.value(done) < ROWS
            with db.connect("mover") as mover:
                mover.execute(call)
            assert state(db, TARGET)[0] == "done"
            assert db.value(done) == ROWS
    finally:
        writer.stopped.set()
        writer.join()
    assert writer.refused == [] and writer.number > 10
    check_rows(db, CHECKS[DECRYPT], writer.model)
    db.conn.close()


def test_nothing_plain_is_left_in_files(make_cluster):
    """Neither in the document's old rows nor in what was moved into the blob."""
    cluster = make_cluster(SETTINGS)
    cluster.create_roles("app", "app_globex", "outsider", *ROLES)
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme'), fieldcrypt.create_account('globex');
        SELECT fieldcrypt.create_field('lead.ssn'), fieldcrypt.create_field('lead.email')""")
    db.execute(SCHEMA)
    canaries = Canaries()
    db.execute("ALTER TABLE person ALTER data SET STORAGE external")
    for i in range(100):
        # every second document is too long for the table's own file
        document = {
            "ssn": canaries.new() + i % 2 * 3000 * "x",
            "contact": {"email": canaries.new()},
        }
        db.execute(
            "INSERT INTO person (id, account_id, data) VALUES (%s, 'acme', %s)",
            [i, Jsonb(document)],
        )
    db.execute("ANALYZE; CHECKPOINT")
    assert {"person", "pg_wal"} <= places(db, canaries)
    flag(db)
    with db.connect("mover") as mover:
        mover.execute(ENCRYPT)
    assert db.value(GATHERED) == 100
    clean(db)
    assert places(db, canaries) == set()
    db.conn.close()
