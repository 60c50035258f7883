"""What a job leaves behind in files is named, and gone when what is advised was done."""

import json
import os
import random
import re
import threading
import time
from contextlib import contextmanager, suppress

import psycopg
import pytest
from canaries import Canaries
from loud import has_library
from test_jobs_crash import set_up
from test_reencrypt import kill_session, wait_for

SETTINGS = {"wal_recycle": "off", "autovacuum": "off", "wal_keep_size": 0}
REMNANTS = "SELECT severity, subject, finding, remedy FROM fieldcrypt.remnants()"


# Segments are recycled, of which there are many: they are small.
RECYCLING = {"autovacuum": "off", "min_wal_size": "8MB", "max_wal_size": "16MB"}
if has_library("pg_stat_statements"):
    RECYCLING["shared_preload_libraries"] = "fieldcrypt, pg_stat_statements"


@pytest.fixture
def filled(make_cluster):
    """Tables whose values are canaries, in heap, TOAST, an index and statistics."""
    return fill(make_cluster(SETTINGS))


@pytest.fixture
def encrypted(make_cluster):
    """The same, encrypted by jobs, on a server that recycles WAL and counts statements."""
    db, canaries = fill(make_cluster(RECYCLING, initdb_args=["--wal-segsize=1"]))
    if has_library("pg_stat_statements"):
        db.execute("CREATE EXTENSION pg_stat_statements")
        db.execute(f"DO $$ BEGIN PERFORM '{canaries.new()}'; END $$")
    encrypt(db)
    return db, canaries


def fill(cluster):
    db = set_up(cluster)
    canaries = Canaries()
    values = [canaries.new() for _ in range(200)]
    db.execute(
        "SELECT fieldcrypt.unprotect_path('lead.data', '{contact.email}');"
        "SELECT fieldcrypt.unprotect_path('lead.data', '{ssn}')"
    )
    db.execute("ALTER TABLE lead ALTER data SET STORAGE external")
    # a histogram that is too short to be compressed
    db.execute("ALTER TABLE customer ALTER phone SET STATISTICS 5")
    db.execute("DELETE FROM customer; DELETE FROM lead")
    for i, value in enumerate(values):
        # every second document is too long for the table's own file
        document = {"ssn": value + i % 2 * 3000 * "x", "contact": {"email": value}}
        db.execute("INSERT INTO lead VALUES (%s, 'acme', 0, %s)", [i, json.dumps(document)])
        db.execute("INSERT INTO customer VALUES (%s, 'acme', %s)", [i, value])
    db.execute("ANALYZE; CHECKPOINT")
    db.execute("SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', 'lead.email')")
    db.execute("SELECT fieldcrypt.protect_path('lead.data', '{ssn}', 'lead.ssn')")
    return db, canaries


def encrypt(db):
    with db.connect("mover") as mover:
        mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
        mover.execute(
            "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id')"
        )


def places(db, canaries):
    """Where canaries are in the data directory: names of relations, or `pg_wal`."""
    db.execute("CHECKPOINT")
    rows = db.execute("SELECT pg_relation_filepath(oid), oid::regclass::text FROM pg_class")
    relations = {path: name for path, name in rows if path}
    found = set()
    for path in canaries.in_files(db.cluster.data_dir):
        folder = path.split("/")[0]
        found.add(
            folder
            if folder in ("pg_wal", "pg_stat_tmp")
            else relations.get(re.sub(r"\..*", "", path), path)
        )
    return found


def unnamed(db, places):
    """The places that remnants() does not name."""
    found = " ".join(finding for _, _, finding, _ in db.execute(REMNANTS))
    named = set(re.findall(r"[\w.]+", found.replace("WAL", "pg_wal")))
    named |= {"pg_stat_tmp"} & {name.replace("statements", "tmp") for name in named}
    return {p for p in places if not {p, f"public.{p}", f"pg_catalog.{p}"} & named}


def has_remnants(db):
    return db.value("SELECT bool_or(has_remnants) FROM fieldcrypt.progress")


def clean(db, arguments="", user="postgres"):
    """Calls the procedure; what it says is left."""
    with db.connect(user) as connection:
        notices = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute(f"CALL fieldcrypt.clean_remnants({arguments})")
    return notices


@contextmanager
def meanwhile(work):
    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield thread
    finally:
        thread.join()


@pytest.mark.every_version
def test_every_place_is_named_and_cleaned(filled):
    db, canaries = filled
    toast = db.value(
        "SELECT reltoastrelid::regclass::text FROM pg_class WHERE oid = 'lead'::regclass"
    )
    plain = {"lead", "customer", "customer_phone", toast, "pg_statistic", "pg_wal"}
    assert plain <= places(db, canaries)
    encrypt(db)
    assert db.value("SELECT bool_and(has_remnants) FROM fieldcrypt.progress")
    # of what a page had, some may be gone: whoever reads it makes room in it
    before = places(db, canaries)
    assert {"customer", "pg_wal"} <= before
    assert unnamed(db, before) == set()

    for _ in range(10):
        found = db.execute(REMNANTS).fetchall()
        if {severity for severity, *_ in found} == {"notice"}:
            break
        assert not {finding for _, _, finding, _ in found if "slot" in finding}
        for remedy in dict.fromkeys(r for *_, r in found if r.endswith(";")):
            db.execute(remedy)
    assert {(s, subject) for s, subject, *_ in found} == {
        ("notice", "lead.data"),
        ("notice", "public.customer.phone"),
    }
    assert not has_remnants(db)
    assert places(db, canaries) == set()


def test_what_still_sees_old_rows_is_waited_for(filled):
    """VACUUM FULL keeps rows for older snapshots: rewriting counts only after they are gone."""
    db, canaries = filled
    with db.connect(autocommit=False) as older:
        older.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        older.execute("SELECT count(*) FROM pg_class")
        encrypt(db)
        found = db.execute(REMNANTS).fetchall()
        assert {finding.split(" may ")[0] for _, _, finding, _ in found} == {
            f"session {older.info.backend_pid}"
        }
        db.execute("VACUUM FULL lead")
        assert "lead" in places(db, canaries)
        older.rollback()
    found = db.execute(REMNANTS).fetchall()
    assert any("file of public.lead" in finding for _, _, finding, _ in found)
    db.execute("VACUUM FULL lead")
    assert "lead" not in places(db, canaries)
    found = db.execute(REMNANTS).fetchall()
    assert not any("file of public.lead" in finding for _, _, finding, _ in found)
    # what was decrypted is no remnant
    with db.connect("mover") as mover:
        mover.execute("CALL fieldcrypt.decrypt_column('customer', 'phone', 'account_id')")
    assert {subject for _, subject, *_ in db.execute(REMNANTS)} == {"lead.data"}


@pytest.mark.every_version
def test_clean_remnants_leaves_no_plain_value(encrypted):
    """Of both kinds of jobs: named before, in no file afterwards."""
    db, canaries = encrypted
    before = places(db, canaries)
    assert {"customer", "lead", "pg_wal"} <= before
    assert ("pg_stat_tmp" in before) == has_library("pg_stat_statements")
    assert unnamed(db, before) == set()
    files = (
        "SELECT oid, pg_relation_filenode(oid) FROM pg_class WHERE relname IN ('lead', 'customer')"
    )
    old = db.execute(files).fetchall()

    rest = clean(db, "'lead'")
    assert len(rest) == 1 and rest[0].startswith("lead.data: base backups and archived WAL from")
    assert has_remnants(db) and "customer" in places(db, canaries)
    rest = clean(db)
    assert all("base backups and archived WAL" in notice for notice in rest) and len(rest) == 2
    assert not has_remnants(db)
    assert places(db, canaries) == set()
    assert not set(old) & set(db.execute(files).fetchall())

    # what it has written anew is all there
    with db.connect("keeper") as keeper:
        rows = keeper.execute(
            "SELECT fieldcrypt.decrypt(data) #>> '{contact,email}', fieldcrypt.decrypt(phone)"
            " FROM lead JOIN customer USING (id)"
        ).fetchall()
    assert len(rows) == 200 and all(email == phone for email, phone in rows)


def test_clean_remnants_gives_no_rights(encrypted):
    """What the caller may not do himself stays, and is said."""
    db, canaries = encrypted
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        clean(db, user="keeper")
    notices = clean(db, user="mover")
    assert any("pg_statistic" in n and "skipping" in n for n in notices)
    assert any("file of pg_statistic holds old rows" in n for n in notices)
    assert has_remnants(db)
    left = places(db, canaries)
    assert left <= {"pg_statistic", "pg_wal", "pg_stat_tmp"} and "pg_wal" in left
    db.execute("GRANT fieldcrypt_admin TO stranger")
    with db.connect("stranger") as stranger:
        for statement in (
            "SELECT fieldcrypt.rewrite_table('lead')",
            "SELECT fieldcrypt.rewrite_table('pg_statistic')",
        ):
            assert stranger.execute(statement).fetchone() == (False,)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute("SELECT fieldcrypt.overwrite_wal(1)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            stranger.execute("SELECT fieldcrypt.note_remnants('lead')")
        with pytest.raises(psycopg.errors.WrongObjectType):
            stranger.execute("SELECT fieldcrypt.rewrite_table('customer_pkey')")
    # with the rights that PostgreSQL asks for, he may
    db.execute(f"ALTER DATABASE {db.name} OWNER TO mover; GRANT pg_checkpoint TO mover")
    db.execute("GRANT EXECUTE ON FUNCTION pg_switch_wal() TO mover")
    if has_library("pg_stat_statements"):
        db.execute("GRANT EXECUTE ON FUNCTION pg_stat_statements_reset TO mover")
    clean(db, user="mover")
    assert not has_remnants(db)
    assert places(db, canaries) == set()


def test_clean_remnants_waits(encrypted):
    """For what sees old rows, locks a table and keeps WAL; and blocks nobody for long."""
    db, canaries = encrypted
    db.execute("SELECT pg_create_physical_replication_slot('idle', true)")
    with db.connect(autocommit=False) as older:
        # not one that sees old rows, but one that holds a lock
        older.execute("LOCK TABLE customer IN ACCESS SHARE MODE")
        older_pid = older.info.backend_pid
        older.execute("SELECT pg_current_xact_id()")
        # noted after that transaction began
        db.execute("SELECT fieldcrypt.note_remnants('customer')")
        notices = clean(db, "'customer', '0 s'")
        assert any(f"session {older_pid} may still see" in notice for notice in notices)
        slowest, cleaned = 0.0, []
        with meanwhile(lambda: cleaned.append(clean(db, "NULL, '1 minute'"))) as cleaning:
            with db.connect("app") as app:
                for _ in range(20):
                    start = time.monotonic()
                    app.execute("SELECT count(*) FROM customer")
                    slowest = max(slowest, time.monotonic() - start)
                    time.sleep(0.1)
            assert cleaning.is_alive()
            older.rollback()
            time.sleep(2)
            assert cleaning.is_alive()
            db.execute("SELECT pg_drop_replication_slot('idle')")
        assert slowest < 1
    assert not has_remnants(db)
    assert places(db, canaries) == set()


def test_kill_nine_of_clean_remnants(encrypted):
    """At any moment, some of them while a table is rewritten: what is left is named, and goes when
    it is called again."""
    db, canaries = encrypted
    rng = random.Random(seed := int(os.environ.get("FIELDCRYPT_SEED", time.time())))
    cycles = int(os.environ.get("FIELDCRYPT_KILL_CYCLES", 8))
    # long enough to be met
    db.execute(
        "INSERT INTO lead SELECT id + 200 * n, 'acme', 0, data FROM lead, generate_series(1, 30) n"
    )
    before = decrypted(db)
    rewriting = 0
    for cycle in range(cycles):
        rewriting += kill(db, waits_for_rewriting=cycle % 2 == 0, longest=rng.random() * 2)
        left = places(db, canaries)
        assert unnamed(db, left) == set(), (seed, left)
        assert decrypted(db) == before
        # a file more to be rewritten
        db.execute("SELECT fieldcrypt.note_remnants('lead')")
    assert rewriting
    clean(db)
    assert not has_remnants(db)
    assert places(db, canaries) == set(), seed
    assert decrypted(db) == before


def decrypted(db):
    with db.connect("keeper") as keeper:
        return keeper.execute(
            "SELECT id, fieldcrypt.decrypt(data) #>> '{ssn}' FROM lead ORDER BY id"
        ).fetchall()


def kill(db, waits_for_rewriting, longest):
    """Kills the session that cleans, and connects again; whether it was rewriting a table."""
    pids, rewriting = [], False

    def run():
        with suppress(psycopg.OperationalError), db.connect() as connection:
            pids.append(connection.info.backend_pid)
            connection.execute("CALL fieldcrypt.clean_remnants()")

    with meanwhile(run) as cleaning:
        wait_for(lambda: pids)
        end = time.monotonic() + longest
        while cleaning.is_alive() and not rewriting:
            query = "SELECT FROM pg_stat_progress_cluster WHERE pid = %s"
            rewriting = bool(db.execute(query, pids).fetchall())
            if not waits_for_rewriting and time.monotonic() > end:
                break
        killed = cleaning.is_alive()
        if killed:
            kill_session(db, pids[0])
    return killed and rewriting
