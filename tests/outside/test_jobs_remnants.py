"""What a job leaves behind in files is named, and gone when what is advised was done."""

import json
import re

import pytest
from canaries import Canaries
from test_jobs_crash import set_up

SETTINGS = {"wal_recycle": "off", "autovacuum": "off", "wal_keep_size": 0}
REMNANTS = "SELECT severity, subject, finding, remedy FROM fieldcrypt.remnants()"


@pytest.fixture
def filled(make_cluster):
    """Tables whose values are canaries, in heap, TOAST, an index and statistics."""
    cluster = make_cluster(SETTINGS)
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
            "pg_wal" if folder == "pg_wal" else relations.get(re.sub(r"\..*", "", path), path)
        )
    return found


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
    found = db.execute(REMNANTS).fetchall()
    named = set(re.findall(r"[\w.]+", " ".join(finding for _, _, finding, _ in found)))
    assert "WAL" in named
    missing = {p for p in before - {"pg_wal"} if not {p, f"public.{p}", f"pg_catalog.{p}"} & named}
    assert missing == set()

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
    assert not db.value("SELECT bool_or(has_remnants) FROM fieldcrypt.progress")
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
