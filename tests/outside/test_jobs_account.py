"""Jobs over the rows of one account, which whoever manages the account may run."""

import pytest
from expect import refused
from test_jobs import TABLES, fill, flag, state

# The owner of the tables; a tenant's administrator with and without the right to read; one of
# another tenant; one who manages a part of the fields; administrators with and without the table.
ROLES = ("keeper", "boss", "clerk", "rival", "half", "mover", "stranger")

GRANTS = """
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT fieldcrypt_admin TO stranger;
    GRANT CREATE ON SCHEMA public TO keeper;
    SELECT fieldcrypt.grant_access('keeper', '{encrypt,decrypt}', '*', 'lead.*');
    SELECT fieldcrypt.grant_access('boss', '{manage,decrypt}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('clerk', '{manage}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('rival', '{manage,decrypt}', 'globex', '*');
    SELECT fieldcrypt.grant_access('half', '{manage,decrypt}', 'acme', 'lead.email');
"""
CALL = "CALL fieldcrypt.{}_existing('lead.data', 50, account => '{}')"
ENCRYPT, DECRYPT, REENCRYPT = (CALL.format(action, "acme") for action in
                               ("encrypt", "decrypt", "reencrypt"))  # fmt: skip
TARGET = "lead.data/acme"
SEALED = (
    "SELECT account_id, count(*) FROM lead WHERE data #>> '{contact,email}' LIKE 'fc1:%'"
    " AND data ->> 'ssn' LIKE 'fc1:%' GROUP BY 1 ORDER BY 1"
)


@pytest.fixture
def tenants(db):
    """500 plain documents of two accounts, of which two paths are flagged."""
    db.cluster.create_roles(*ROLES)
    db.execute(GRANTS)
    db.execute(f"SET ROLE keeper; {TABLES} RESET ROLE")
    fill(db)
    flag(db)
    return db


@pytest.fixture
def run(tenants):
    """Runs a statement as a role, in a session of its own."""

    def run(role, statement, parameters=None):
        with tenants.connect(role) as connection:
            return connection.execute(statement, parameters)

    return run


def sealed(db):
    return dict(db.execute(SEALED).fetchall())


@pytest.mark.every_version
def test_a_manager_encrypts_and_decrypts_his_account(tenants, run):
    others = "SELECT id, ctid, data FROM lead WHERE account_id = 'globex' ORDER BY id"
    before = tenants.execute(others).fetchall()
    plain = "SELECT id, data FROM lead WHERE account_id = 'acme' ORDER BY id"
    as_it_was = tenants.execute(plain).fetchall()
    run("clerk", ENCRYPT)
    assert state(tenants, TARGET) == ("done", "analyze", 250)
    assert sealed(tenants) == {"acme": 250}
    new = tenants.value("SELECT fieldcrypt.rotate_account_key('acme')")
    run("clerk", REENCRYPT)
    assert state(tenants, TARGET) == ("done", "verify", 250)
    key = "fieldcrypt.key_of((data ->> 'ssn')::fieldcrypt.encrypted_text)"
    keys = f"SELECT DISTINCT {key} FROM lead WHERE account_id = 'acme'"
    assert tenants.execute(keys).fetchall() == [(new,)]
    tenants.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{contact.email,ssn}')")
    # who manages without decrypt gets nothing opened, though the table's owner may
    with refused("42501", "decrypt field"):
        run("clerk", DECRYPT)
    assert sealed(tenants) == {"acme": 250}
    run("boss", DECRYPT)
    assert state(tenants, TARGET) == ("done", "analyze", 250)
    assert tenants.execute(plain).fetchall() == as_it_was
    # of the other account not even a row was written
    assert tenants.execute(others).fetchall() == before


def test_each_field_counts_for_decrypting(tenants, run):
    """The right to one of the values in a document opens none of it."""
    run("boss", ENCRYPT)
    tenants.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{contact.email,ssn}')")
    tenants.execute("SELECT fieldcrypt.grant_access('clerk', '{decrypt}', 'acme', 'lead.email')")
    with refused("42501", 'decrypt field "lead.ssn" of account "acme"'):
        run("clerk", DECRYPT)
    assert sealed(tenants) == {"acme": 250}
    tenants.execute("SELECT fieldcrypt.grant_access('clerk', '{decrypt}', 'acme', 'lead.ssn')")
    run("clerk", DECRYPT)
    assert sealed(tenants) == {}


REFUSED = [
    # another's account, all accounts, and with a part of the fields
    ("rival", ENCRYPT),
    ("boss", CALL.format("encrypt", "globex")),
    ("boss", "CALL fieldcrypt.encrypt_existing('lead.data')"),
    ("boss", "CALL fieldcrypt.reencrypt_existing('lead.data')"),
    ("boss", "CALL fieldcrypt.decrypt_existing('lead.data')"),
    ("half", ENCRYPT),
    ("half", REENCRYPT),
    ("app", ENCRYPT),
    ("outsider", REENCRYPT),
    # columns, which have rows of every account
    ("boss", "CALL fieldcrypt.encrypt_column('customer', 'phone', 'lead.ssn', 'account_id')"),
    ("boss", "CALL fieldcrypt.reencrypt_column('customer', 'phone')"),
    # an administrator without the owner's rights, superusers included
    ("stranger", ENCRYPT),
    ("postgres", ENCRYPT),
    # a document of which nothing is flagged
    ("boss", "CALL fieldcrypt.encrypt_existing('none', account => 'acme')"),
]


@pytest.mark.parametrize("role, call", REFUSED)
def test_nobody_else(tenants, run, role, call):
    with refused("42501"):
        run(role, call)
    assert sealed(tenants) == {}
    assert tenants.value("SELECT count(*) FROM fieldcrypt.job WHERE state = 'done'") == 0


def test_the_parts_of_a_job(tenants, run):
    """What the procedures call is checked too, each time."""
    start = "SELECT fieldcrypt.start_job(%s, %s, %s, NULL, 'lead.ssn', 'account_id', true, 'acme')"
    for action, target, relation in (
        ("encrypt_column", "lead.data", None),
        ("adopt_existing", "lead.data", None),
        ("encrypt_existing", "lead.data", "public.customer"),
        ("encrypt_existing", "lead.data/globex", None),
    ):
        with refused("22023", "account"):
            run("boss", start, [action, target, relation])
    with refused("42704", "account"):
        run("mover", CALL.format("encrypt", "none"))
    run("boss", "SELECT fieldcrypt.start_job('encrypt_existing', 'lead.data', account => 'acme',"
        " relation => NULL, column_name => NULL, field => NULL, account_column => NULL,"
        " cut_over => true)")  # fmt: skip
    assert state(tenants, TARGET) == ("running", "prepare", 0)
    for call in (
        "SELECT fieldcrypt.step_job(%s, 50, true)",
        "SELECT fieldcrypt.describe_job(%s)",
        "SELECT fieldcrypt.report_job(%s, '-infinity')",
        "SELECT fieldcrypt.pause_job(%s)",
        "SELECT fieldcrypt.cancel_job(%s)",
        "CALL fieldcrypt.run_job(%s, 50, NULL)",
    ):
        for role in "rival", "half", "app", "outsider":
            with refused("42501"):
                run(role, call, [TARGET])
    assert run("boss", "SELECT fieldcrypt.step_job(%s, 50, true)", [TARGET]).fetchone() == (True,)
    run("boss", "SELECT fieldcrypt.pause_job(%s)", [TARGET])
    assert state(tenants, TARGET)[0] == "paused"
    said = run("boss", "SELECT fieldcrypt.describe_job(%s)", [TARGET]).fetchone()[0]
    assert said.startswith("encrypt_existing lead.data/acme: paused, backfill")
    # one job at a time works on a table; that of whom is not told to another tenant
    with refused("55006", "^another job is at work"):
        run("rival", CALL.format("encrypt", "globex"))
    with refused("55006", "lead.data/acme"):
        run("mover", "CALL fieldcrypt.encrypt_existing('lead.data')")
    # a grant that is taken back counts from the next batch on
    tenants.execute("SELECT fieldcrypt.revoke_access('boss', '{manage}', 'acme', 'lead.*')")
    with refused("42501"):
        run("boss", ENCRYPT)
    run("clerk", ENCRYPT)
    assert state(tenants, TARGET) == ("done", "analyze", 250)
    # the administrator goes on with a tenant's job, and ends it
    run("clerk", "SELECT fieldcrypt.start_job('reencrypt_existing', 'lead.data', NULL, NULL, NULL,"
        " NULL, true, 'acme')")  # fmt: skip
    run("mover", "SELECT fieldcrypt.cancel_job(%s)", [TARGET])
    run("mover", CALL.format("encrypt", "globex"))
    assert sealed(tenants) == {"acme": 250, "globex": 250}
    tenants.execute("SELECT fieldcrypt.flush_audit()")
    audited = tenants.execute(
        "SELECT action, outcome, session_role, account, detail FROM fieldcrypt.audit"
    ).fetchall()
    assert ("encrypt_existing", "done", "clerk", "acme", TARGET) in audited
    assert ("pause_job", "done", "boss", "acme", TARGET) in audited
    assert ("manage", "denied", "rival", "acme", None) in audited


def test_collations_take_no_other_account_in(tenants, run):
    """An account is the same letter by letter, whatever its column takes for equal."""
    tenants.execute("""
        SELECT fieldcrypt.create_account('ACME');
        CREATE COLLATION loose (
            provider = icu, locale = 'und-u-ks-level2', deterministic = false);
        ALTER TABLE lead ALTER COLUMN account_id TYPE text COLLATE loose;
        ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data;
        SET session_replication_role = replica;
        INSERT INTO lead (id, account_id, data)
            VALUES (1000, 'ACME', '{"contact": {"email": "x"}, "ssn": "1"}');
    """)
    assert tenants.value("SELECT count(*) FROM lead WHERE account_id = 'acme'") == 251
    run("clerk", ENCRYPT)
    assert tenants.value("SELECT count(*) FROM lead WHERE data ->> 'ssn' LIKE 'fc1:%'") == 250
    assert tenants.value("SELECT data ->> 'ssn' FROM lead WHERE id = 1000") == "1"
