"""Jobs: encrypting and decrypting what is there already, beside the application."""

import contextlib
import threading
import time
from decimal import Decimal

import psycopg
import pytest
from expect import refused

# The owner of the tables, and who starts jobs: a member of the owner's role.
ROLES = ("keeper", "mover", "stranger")

TABLES = """
    CREATE TABLE lead (
        id int PRIMARY KEY, account_id text NOT NULL, touched int NOT NULL DEFAULT 0, data jsonb);
    CREATE TABLE customer (
        id int PRIMARY KEY, account_id text NOT NULL, phone varchar(40) NOT NULL,
        touched int NOT NULL DEFAULT 0);
    COMMENT ON COLUMN customer.phone IS 'where to call';
    CREATE INDEX customer_phone ON customer (phone);
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.touched := OLD.touched + 1; RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON lead FOR EACH ROW EXECUTE FUNCTION touch();
    CREATE TRIGGER touch BEFORE UPDATE ON customer FOR EACH ROW EXECUTE FUNCTION touch();
    GRANT ALL ON lead, customer TO app, app_globex;
    GRANT SELECT (phone) ON customer TO outsider;
"""


def fill(db, rows=500):
    """Rows of two accounts; those of acme have even ids."""
    db.execute(
        "INSERT INTO lead (id, account_id, data) SELECT i, (ARRAY['acme','globex'])[1 + mod(i, 2)],"
        " jsonb_build_object('n', i, 'contact', jsonb_build_object('email', 'p' || i || '@x.org'),"
        " 'ssn', '000-' || i) FROM generate_series(1, %s) AS i",
        [rows],
    )
    db.execute(
        "INSERT INTO customer (id, account_id, phone)"
        " SELECT i, (ARRAY['acme','globex'])[1 + mod(i, 2)], '+49 ' || i"
        " FROM generate_series(1, %s) AS i",
        [rows],
    )


def flag(db):
    """Names lead.data as a document, and flags two paths of it."""
    db.execute("SELECT fieldcrypt.protect_jsonb('lead', 'data', 'lead.data', 'account_id')")
    db.execute("SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', 'lead.email')")
    db.execute("SELECT fieldcrypt.protect_path('lead.data', '{ssn}', 'lead.ssn')")


@pytest.fixture
def tables(db):
    """Two tables of the keeper's, who may encrypt and decrypt for both accounts."""
    db.cluster.create_roles(*ROLES)
    db.execute("SELECT fieldcrypt.create_field('customer.phone', search => '{exact}')")
    for field in "lead.*", "customer.*":
        db.execute(
            "SELECT fieldcrypt.grant_access('keeper', '{encrypt,decrypt}', '*', %s)", [field]
        )
        for role, account in ("app", "acme"), ("app_globex", "globex"):
            db.execute(
                "SELECT fieldcrypt.grant_access(%s, '{encrypt,search,decrypt}', %s, %s)",
                [role, account, field],
            )
    db.execute("GRANT keeper, fieldcrypt_admin TO mover; GRANT fieldcrypt_admin TO stranger")
    db.execute("GRANT CREATE ON SCHEMA public TO keeper; SET ROLE keeper")
    db.execute(TABLES)
    db.execute("RESET ROLE")
    return db


@pytest.fixture
def mover(tables):
    with tables.connect("mover") as connection:
        yield connection


def plain_emails(db):
    return db.value("SELECT count(*) FROM lead WHERE data #>> '{contact,email}' NOT LIKE 'fc1:%'")


def state(db, target):
    return db.execute(
        "SELECT state, step, rows_changed FROM fieldcrypt.progress WHERE target = %s", [target]
    ).fetchone()


@contextlib.contextmanager
def writing(tables, statement, **options):
    """Runs a statement of the app's again and again; gives the slowest, and what went wrong."""
    done, result = threading.Event(), {"slowest": 0.0, "errors": [], "count": 0}

    def work():
        with tables.connect("app", options="-c fieldcrypt.account=acme", **options) as connection:
            number = 0
            while not done.is_set():
                number += 1
                start = time.monotonic()
                try:
                    connection.execute(statement, {"n": number})
                except psycopg.Error as error:
                    result["errors"].append(error)
                result["slowest"] = max(result["slowest"], time.monotonic() - start)
                result["count"] = number

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield result
    finally:
        done.set()
        thread.join()


@pytest.mark.every_version
def test_documents_there_and_back(tables, mover):
    """Every value is encrypted under its row's account, and comes back as it was."""
    fill(tables)
    before = tables.execute("SELECT id, data FROM lead ORDER BY id").fetchall()
    flag(tables)
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data', 50)")
    assert state(tables, "lead.data") == ("done", "analyze", 500)
    assert plain_emails(tables) == 0
    stored = "SELECT id, fieldcrypt.{}(data) FROM lead ORDER BY id"
    with tables.connect("keeper") as keeper:
        assert keeper.execute(stored.format("decrypt")).fetchall() == before
    with tables.connect("app", options="-c fieldcrypt.account=acme") as app:
        found = app.execute(
            "SELECT id FROM lead WHERE fieldcrypt.matches(data, 'lead.email', 'p8@x.org')"
        )
        assert found.fetchall() == [(8,)]
    # a second run finds nothing to do
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    assert state(tables, "lead.data")[2] == 0

    tables.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{contact.email}')")
    mover.execute("CALL fieldcrypt.decrypt_existing('lead.data')")
    assert state(tables, "lead.data") == ("done", "analyze", 500)
    assert plain_emails(tables) == 500
    # the other path is still flagged
    sealed = "SELECT count(*) FROM lead WHERE data ->> 'ssn' LIKE 'fc1:%'"
    assert tables.value(sealed) == 500
    tables.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{ssn}')")
    mover.execute("CALL fieldcrypt.decrypt_existing('lead.data')")
    assert tables.execute("SELECT id, data FROM lead ORDER BY id").fetchall() == before
    # the application's own trigger has seen nothing of all this
    assert tables.value("SELECT sum(touched) FROM lead") == 0


@pytest.mark.every_version
@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("text", "'Ann ' || i"),
        ("varchar(20)", "i::text"),
        ("char(10)", "'c' || i"),
        ("bytea", r"'\x00ff'::bytea"),
        ("smallint", "-i"),
        ("integer", "i - 5"),
        ("bigint", "-i"),
        ("numeric", "i / 3.0"),
        ("date", "'2000-02-29'::date - i"),
        ("timestamptz", "'2000-02-29 12:34:56.789+02'::timestamptz - i * interval '1 hour'"),
        ("boolean", "i % 2 = 0"),
        ("uuid", "'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid"),
        ("jsonb", """jsonb_build_object('a', i, 'b', '["x", 1.50]'::jsonb)"""),
    ],
)
def test_column_of_every_type(tables, mover, kind, value):
    """A column of that type becomes an encrypted one, and a plain one again."""
    tables.execute("SELECT fieldcrypt.create_field('customer.v')")
    tables.execute(
        f"SET ROLE keeper; CREATE TABLE kind (id int, tenant varchar(10), v {kind});"
        f" INSERT INTO kind SELECT i, 'acme', {value} FROM generate_series(1, 40) AS i;"
        " INSERT INTO kind VALUES (41, 'acme', NULL); RESET ROLE"
    )
    before = tables.execute("SELECT id, v FROM kind ORDER BY id").fetchall()
    mover.execute("CALL fieldcrypt.encrypt_column('kind', 'v', 'customer.v', 'tenant')")
    assert state(tables, "public.kind.v") == ("done", "analyze", 40)
    kept = (
        "SELECT count(*) FROM kind WHERE v::text LIKE 'fc1:%' AND fieldcrypt.account_of(v) = 'acme'"
    )
    assert tables.value(kept) == 40
    with tables.connect("keeper") as keeper:
        after = keeper.execute("SELECT id, fieldcrypt.decrypt(v) FROM kind ORDER BY id").fetchall()
    trim = kind.startswith("char")
    assert after == [(i, v.rstrip() if trim and v else v) for i, v in before]
    mover.execute("CALL fieldcrypt.decrypt_column('kind', 'v', 'tenant')")
    assert tables.execute("SELECT id, v FROM kind ORDER BY id").fetchall() == after
    assert (
        tables.value("SELECT count(*) FROM fieldcrypt.protected WHERE relation = 'kind'::regclass")
        == 0
    )


@pytest.mark.every_version
def test_column_keeps_what_it_had(tables, mover):
    """NOT NULL, privileges and comment; triggers of the application do not fire."""
    fill(tables)
    mover.execute(
        "CALL fieldcrypt.encrypt_column('customer', 'phone', field => 'customer.phone',"
        " account_column => 'account_id', batch_size => 50)"
    )
    assert state(tables, "public.customer.phone") == ("done", "analyze", 500)
    assert tables.value("SELECT sum(touched) FROM customer") == 0
    assert tables.value("""
        SELECT attnotnull AND col_description(attrelid, attnum) = 'where to call'
        FROM pg_attribute WHERE attrelid = 'customer'::regclass AND attname = 'phone'""")
    assert tables.value("SELECT has_column_privilege('outsider', 'customer', 'phone', 'SELECT')")
    left = "SELECT count(*) FROM pg_trigger WHERE tgname = 'zzz_fieldcrypt_write_both'"
    assert tables.value(left) == 0
    left = "SELECT count(*) FROM pg_attribute WHERE attname LIKE 'fieldcrypt_new%'"
    assert tables.value(left) == 0
    assert (
        tables.value(
            "SELECT count(*) FROM pg_constraint"
            " WHERE conrelid = 'customer'::regclass AND contype = 'c'"
        )
        == 0
    )
    with tables.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute("UPDATE customer SET phone = '+1 5' WHERE id = 2")
        assert app.execute("SELECT id FROM customer WHERE phone = '+1 5'").fetchall() == [(2,)]
        # the table is protected from now on
        with refused("23514"):
            app.execute(
                "INSERT INTO customer (id, account_id, phone) VALUES (501, 'globex', '+1 6')"
            )


def test_partitions(tables, mover):
    tables.execute("""
        SET ROLE keeper;
        CREATE TABLE part (id int, account_id text, v text, data jsonb) PARTITION BY RANGE (id);
        CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (100);
        CREATE TABLE part_2 PARTITION OF part FOR VALUES FROM (100) TO (200);
        INSERT INTO part SELECT i, 'acme', 'v' || i, jsonb_build_object('ssn', 'd' || i)
            FROM generate_series(1, 199) AS i;
        SELECT fieldcrypt.protect_jsonb('part', 'data', 'part.data', 'account_id');
        RESET ROLE;
        SELECT fieldcrypt.protect_path('part.data', '{ssn}', 'lead.ssn');
    """)
    mover.execute("CALL fieldcrypt.encrypt_existing('part.data')")
    mover.execute("CALL fieldcrypt.encrypt_column('part', 'v', 'lead.email', 'account_id')")
    with tables.connect("keeper") as keeper:
        assert keeper.execute(
            "SELECT count(*) FROM part WHERE fieldcrypt.decrypt(v) = 'v' || id"
            " AND data ->> 'ssn' LIKE 'fc1:%' AND fieldcrypt.decrypt(data) ->> 'ssn' = 'd' || id"
        ).fetchone() == (199,)


def test_rights(tables, mover):
    """It takes fieldcrypt_admin, the owner's rights, and that the owner may encrypt or decrypt."""
    fill(tables, 20)
    flag(tables)
    calls = (
        "CALL fieldcrypt.encrypt_existing('lead.data')",
        "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id')",
    )
    for call in calls:
        with tables.connect("keeper") as keeper, refused("42501"):
            keeper.execute(call)
        with tables.connect("stranger") as stranger, refused("42501", "table's owner"):
            stranger.execute(call)
        # nor is a superuser exempt
        with refused("42501", "table's owner"):
            tables.execute(call)
    assert tables.value("SELECT count(*) FROM fieldcrypt.job") == 0
    revoke = "SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', %s)"
    for field in "lead.*", "customer.*":
        tables.execute(revoke, [field])
    for call in calls:
        with refused("42501", "encrypt field"):
            mover.execute(call)
    # nothing is lost, and nothing is half done: once permitted it goes on
    for field in "lead.*", "customer.*":
        tables.execute("SELECT fieldcrypt.grant_access('keeper', '{encrypt}', '*', %s)", [field])
    for call in calls:
        mover.execute(call)
    for field in "lead.*", "customer.*":
        tables.execute("SELECT fieldcrypt.revoke_access('keeper', '{decrypt}', '*', %s)", [field])
    with refused("42501", "decrypt field"):
        mover.execute("CALL fieldcrypt.decrypt_column('customer', 'phone', 'account_id')")
    # a job in the middle belongs to whoever may
    with tables.connect("stranger") as stranger:
        for function in "pause_job", "cancel_job":
            with refused("42501", "table's owner"):
                stranger.execute(f"SELECT fieldcrypt.{function}('public.customer.phone')")
    mover.execute("SELECT fieldcrypt.cancel_job('public.customer.phone')")
    with refused("42704"):
        mover.execute("SELECT fieldcrypt.cancel_job('nothing')")


def test_code_in_the_table_has_the_rights_of_its_owner_only(tables, mover):
    """An index, a CHECK and a trigger of the owner's, who would like to be somebody else."""
    fill(tables, 20)
    flag(tables)
    tables.execute("""
        SET ROLE keeper;
        CREATE TABLE seen (who name);
        CREATE FUNCTION spy(n int) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN INSERT INTO public.seen VALUES (current_user); RETURN true; END $$;
        ALTER TABLE lead ADD CHECK (public.spy(id)) NOT VALID;
        CREATE FUNCTION stay(n int) RETURNS boolean LANGUAGE plpgsql AS
            $$ BEGIN CREATE TEMP TABLE t (); RETURN true; END $$;
        RESET ROLE;
    """)
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    assert tables.execute("SELECT DISTINCT who FROM seen").fetchall() == [("keeper",)]
    tables.execute(
        "SET ROLE keeper; ALTER TABLE lead ADD CHECK (public.stay(id)) NOT VALID; RESET ROLE"
    )
    tables.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{ssn}')")
    with refused("42501", "security-restricted"):
        mover.execute("CALL fieldcrypt.decrypt_existing('lead.data')")


def test_values_of_other_accounts_stop_the_job(tables, mover):
    """Also beside a plain value, which would be sealed."""
    fill(tables, 2)
    flag(tables)
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    define = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'fieldcrypt_data'"
    check = tables.value(define)
    tables.execute("ALTER TABLE lead DROP CONSTRAINT fieldcrypt_data")
    tables.execute(
        "SET session_replication_role = replica; UPDATE lead SET data ="
        """ (SELECT data FROM lead WHERE id = 1) || '{"ssn": "plain"}' WHERE id = 2"""
    )
    tables.execute(f"ALTER TABLE lead ADD CONSTRAINT fieldcrypt_data {check}")
    with refused("23514", "contact.email"):
        mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    assert tables.value("SELECT data ->> 'ssn' FROM lead WHERE id = 2") == "plain"


OBSTACLES = {
    "depends on the column": [
        "CREATE VIEW v AS SELECT phone FROM customer",
        "ALTER TABLE customer ADD UNIQUE (phone)",
        "CREATE UNIQUE INDEX ON customer (phone)",
        "CREATE INDEX ON customer (phone, id)",
        "ALTER TABLE customer ADD CHECK (phone <> '')",
        "ALTER TABLE customer ALTER phone SET DEFAULT '-'",
        "ALTER TABLE customer ADD long int GENERATED ALWAYS AS (length(phone)) STORED",
        "CREATE POLICY p ON customer USING (phone <> '')",
        "CREATE STATISTICS s ON phone, id FROM customer",
        "CREATE TRIGGER t AFTER UPDATE OF phone ON customer EXECUTE FUNCTION touch()",
        "ALTER TABLE customer ADD UNIQUE (phone);"
        " CREATE TABLE r (phone varchar REFERENCES customer (phone))",
    ],
    "has rules": ["CREATE RULE r AS ON UPDATE TO customer DO ALSO SELECT 1"],
    "REPLICA IDENTITY FULL": ["ALTER TABLE customer REPLICA IDENTITY FULL"],
    "row-level security": ["ALTER TABLE customer FORCE ROW LEVEL SECURITY"],
    "fires also": ["ALTER TABLE customer ENABLE ALWAYS TRIGGER touch"],
    "inherit": ["CREATE TABLE child () INHERITS (customer)"],
    "is of type real": ["ALTER TABLE customer ALTER phone TYPE real USING 1"],
}


@pytest.mark.every_version
@pytest.mark.parametrize(
    ("finding", "definition"),
    [(finding, definition) for finding, all in OBSTACLES.items() for definition in all],
)
def test_what_is_in_the_way_is_found_and_refused(tables, mover, finding, definition):
    """The plan names it, and the job refuses before it has changed anything."""
    fill(tables, 20)
    plan = (
        "SELECT finding FROM fieldcrypt.plan_column('customer', 'phone') WHERE severity = 'error'"
    )
    assert mover.execute(plan).fetchall() == []
    tables.execute(f"SET ROLE keeper; {definition}; RESET ROLE")
    assert any(finding in found for (found,) in mover.execute(plan))
    with refused("55000", finding):
        mover.execute(
            "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id')"
        )
    columns = (
        "SELECT count(*) FROM pg_attribute WHERE attrelid = 'customer'::regclass AND attnum > 0"
    )
    assert tables.value(columns) == (5 if "GENERATED" in definition else 4)


def test_plan_of_documents(tables, mover):
    plan = "SELECT severity, finding FROM fieldcrypt.plan_existing('lead.data')"
    assert mover.execute(plan).fetchall() == [("error", "is no protected document")]
    fill(tables)
    tables.execute("ANALYZE lead")
    flag(tables)
    found = dict((f, s) for s, f in mover.execute(plan))
    assert found.pop("does not fire for what the job writes") == "notice"
    assert [f.startswith("about 500 rows in ") for f in found] == [True]


def test_pause_go_on_and_cancel(tables, mover):
    """Paused from another session it ends after its batch; called again it goes on."""
    fill(tables, 2000)
    failed = []

    def run():
        with tables.connect("mover") as connection:
            try:
                connection.execute(
                    "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone',"
                    " 'account_id', batch_size => 100, rate => 1000)"
                )
            except psycopg.Error as error:
                failed.append(error)

    thread = threading.Thread(target=run)
    start = time.monotonic()
    thread.start()
    while (
        time.monotonic() < start + 20
        and (state(tables, "public.customer.phone") or (0, 0, 0))[2] < 200
    ):
        time.sleep(0.02)
    mover.execute("SELECT fieldcrypt.pause_job('public.customer.phone')")
    thread.join()
    assert failed == []
    paused = state(tables, "public.customer.phone")
    assert paused[:2] == ("paused", "backfill") and 200 <= paused[2] < 2000
    with refused("55006"):
        mover.execute("CALL fieldcrypt.decrypt_column('customer', 'phone', 'account_id')")
    notices = []
    mover.add_notice_handler(lambda diag: notices.append(diag.message_primary))
    mover.execute(
        "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id',"
        " cut_over => false)"
    )
    assert notices == [n for n in notices if "%" in n and "rows/s" in n] != []
    assert state(tables, "public.customer.phone") == ("paused", "cut over", 2000)
    # both are there now; what is cancelled leaves nothing behind
    tables.execute(
        "SET ROLE keeper; CREATE INDEX ON customer USING hash (fieldcrypt_new_phone); RESET ROLE"
    )
    mover.execute("SELECT fieldcrypt.cancel_job('public.customer.phone')")
    assert tables.value("SELECT count(*) FROM customer WHERE phone = '+49 ' || id") == 2000
    assert (
        tables.value("SELECT count(*) FROM pg_attribute WHERE attname LIKE 'fieldcrypt_new%'") == 0
    )
    tables.execute("INSERT INTO customer VALUES (2001, 'acme', 'x')")


def test_what_is_not_reversible_stays_encrypted(tables, mover):
    tables.execute("SELECT fieldcrypt.create_field('customer.event', reversible => false)")
    fill(tables, 20)
    mover.execute(
        "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.event', 'account_id')"
    )
    with refused("55000", "not reversible"):
        mover.execute("CALL fieldcrypt.decrypt_column('customer', 'phone', 'account_id')")


def test_the_rate_is_held(tables, mover):
    fill(tables, 600)
    flag(tables)
    start = time.monotonic()
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data', batch_size => 100, rate => 1000)")
    assert time.monotonic() - start > 0.5


def test_not_inside_a_transaction(tables, mover):
    flag(tables)
    mover.autocommit = False
    with refused("2D000"):
        mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    mover.rollback()
    assert tables.value("SELECT count(*) FROM fieldcrypt.job") == 0
    mover.autocommit = True


def test_live_writers_win(tables, mover):
    """Whoever writes during the job has the last word, waits less than a second, and gets no error
    but that the column's type has changed."""
    fill(tables, 3000)
    flag(tables)
    change_document = (
        "UPDATE lead SET data = jsonb_set(data, '{contact,email}', to_jsonb('new' || %(n)s))"
        " WHERE id = 2 + 2 * (%(n)s %% 1400)"
    )
    with writing(tables, change_document) as result:
        mover.execute("CALL fieldcrypt.encrypt_existing('lead.data', 100)")
    assert result["errors"] == [] and result["count"] > 10 and result["slowest"] < 1
    assert plain_emails(tables) == 0
    expected = {2 + 2 * (n % 1400): f"new{n}" for n in range(1, result["count"] + 1)}
    with tables.connect("keeper") as keeper:
        for row, email in keeper.execute(
            "SELECT id, fieldcrypt.decrypt(data) #>> '{contact,email}' FROM lead"
        ):
            assert email == expected.get(row, f"p{row}@x.org")

    change_column = "UPDATE customer SET phone = 'new' || %(n)s WHERE id = 2 + 2 * (%(n)s %% 1400)"
    read = "SELECT count(*) FROM customer WHERE touched >= 0 AND %(n)s > 0"
    with (
        writing(tables, change_column, prepare_threshold=None) as result,
        writing(tables, read) as reads,
    ):
        mover.execute(
            "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id',"
            " batch_size => 100)"
        )
    assert result["errors"] == [] and result["slowest"] < 1
    assert reads["errors"] == [] and reads["slowest"] < 1
    expected = {2 + 2 * (n % 1400): f"new{n}" for n in range(1, result["count"] + 1)}
    with tables.connect("keeper") as keeper:
        for row, phone in keeper.execute("SELECT id, fieldcrypt.decrypt(phone) FROM customer"):
            assert phone == expected.get(row, f"+49 {row}")


def test_rows_that_are_locked_for_long(tables, mover):
    """The job leaves them out and comes back; it does not hold other rows while it waits."""
    fill(tables, 200)
    flag(tables)
    done = threading.Event()

    def run():
        with tables.connect("mover") as connection:
            connection.execute("CALL fieldcrypt.encrypt_existing('lead.data', 50)")
        done.set()

    with tables.connect("app", autocommit=False, options="-c fieldcrypt.account=acme") as app:
        app.execute("SELECT FROM lead WHERE id IN (10, 100) FOR UPDATE")
        thread = threading.Thread(target=run)
        thread.start()
        deadline = time.monotonic() + 20
        while plain_emails(tables) > 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert plain_emails(tables) == 2
        assert not done.is_set()
        app.commit()
    thread.join(20)
    assert done.is_set() and plain_emails(tables) == 0


def test_verifying_finds_what_went_round_the_trigger(tables, mover):
    """Values written with triggers off are put right before the new column takes over."""
    fill(tables, 300)
    call = "CALL fieldcrypt.encrypt_column('customer', 'phone', 'customer.phone', 'account_id'"
    mover.execute(f"{call}, cut_over => false)")
    tables.execute("SET session_replication_role = replica")
    tables.execute("UPDATE customer SET phone = 'round' || id WHERE id <= 3")
    tables.execute("RESET session_replication_role")
    # as a crash before the last pass would have left it
    tables.execute(
        "UPDATE fieldcrypt.job SET step = 'verify', page = 0, end_page = 0, place = NULL"
    )
    mover.execute(f"{call})")
    assert state(tables, "public.customer.phone") == ("done", "analyze", 303)
    with tables.connect("keeper") as keeper:
        assert keeper.execute(
            "SELECT count(*) FROM customer WHERE fieldcrypt.decrypt(phone) ="
            " CASE WHEN id <= 3 THEN 'round' ELSE '+49 ' END || id"
        ).fetchone() == (300,)


def test_audit(tables, mover):
    """Who started, paused and cancelled is on record, refusals too."""
    fill(tables, 50)
    flag(tables)
    mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
    with tables.connect("stranger") as stranger, refused("42501"):
        stranger.execute("CALL fieldcrypt.decrypt_existing('lead.data')")
    tables.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{ssn}')")
    mover.execute("CALL fieldcrypt.decrypt_existing('lead.data')")
    tables.execute("SELECT fieldcrypt.flush_audit()")
    found = tables.execute(
        "SELECT action, outcome, session_role, detail FROM fieldcrypt.audit"
        " WHERE action LIKE '%\\_existing' ORDER BY seq"
    ).fetchall()
    assert ("encrypt_existing", "done", "mover", "lead.data") in found
    assert ("decrypt_existing", "done", "mover", "lead.data") in found
    assert ("decrypt_existing", "denied", "stranger", "lead.data, needs the table's owner") in found
    # what was decrypted counts as read, by the owner
    read = "SELECT sum(count) FROM fieldcrypt.audit WHERE action = 'decrypt' AND field = 'lead.ssn'"
    assert tables.value(read) == Decimal(50)


@pytest.mark.every_version
def test_a_path_is_flagged_while_a_row_is_written(tables, mover):
    """The statement that is under way goes on as before, and the job finds what it has written."""
    fill(tables, 10)
    tables.execute("SELECT fieldcrypt.protect_jsonb('lead', 'data', 'lead.data', 'account_id')")
    tables.execute("SELECT fieldcrypt.protect_path('lead.data', '{ssn}', 'lead.ssn')")
    # it runs between the row trigger and the CHECK, and hears of what others have committed
    tables.execute("""
        CREATE TABLE other ();
        GRANT SELECT ON other TO app;
        CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            PERFORM pg_advisory_xact_lock(7);
            PERFORM FROM other;
            RETURN NEW;
        END $$;
        CREATE TRIGGER zzz BEFORE UPDATE ON lead FOR EACH ROW EXECUTE FUNCTION wait();
        SELECT pg_advisory_lock(7);
    """)
    write = (
        "UPDATE lead SET data = jsonb_set(data, '{contact,email}', '\"new@x.org\"') WHERE id = 2"
    )
    with tables.connect("app", options="-c fieldcrypt.account=acme") as app:
        writer = threading.Thread(target=app.execute, args=[write])
        writer.start()
        while not tables.value("SELECT count(*) FROM pg_locks WHERE NOT granted"):
            time.sleep(0.01)
        tables.execute(
            "SELECT fieldcrypt.protect_path('lead.data', '{contact.email}', 'lead.email')"
        )
        tables.execute("SELECT pg_advisory_unlock(7)")
        writer.join()
        stored = "SELECT data #>> '{contact,email}' FROM lead WHERE id = 2"
        assert tables.value(stored) == "new@x.org"
        mover.execute("CALL fieldcrypt.encrypt_existing('lead.data')")
        assert tables.value(stored).startswith("fc1:")
        # who begins afterwards cannot
        tables.execute("ALTER TABLE lead DISABLE TRIGGER USER")
        with refused("23514"):
            app.execute(write)


def test_only_triggers_that_fire_for_replicas_see_what_a_job_writes(tables, mover):
    """Those of the table do not, whose rows a batch then need not lock first; one that is made to
    fire always, once the job has begun, does."""
    fill(tables, 100)
    flag(tables)
    call = "CALL fieldcrypt.encrypt_existing('lead.data')"
    mover.execute(
        "SELECT fieldcrypt.start_job('encrypt_existing', 'lead.data', NULL, NULL, NULL, NULL, true)"
    )
    assert mover.execute("SELECT fieldcrypt.step_job('lead.data', 1, true)").fetchone() == (True,)
    tables.execute("ALTER TABLE lead ENABLE ALWAYS TRIGGER touch")
    mover.execute(call)
    assert state(tables, "lead.data") == ("done", "analyze", 100)
    assert tables.value("SELECT count(*) FROM lead WHERE touched = 1") == 100
    tables.execute("ALTER TABLE lead ENABLE TRIGGER touch")
    tables.execute("SELECT fieldcrypt.unprotect_path('lead.data', '{ssn}')")
    mover.execute("CALL fieldcrypt.decrypt_existing('lead.data')")
    assert state(tables, "lead.data") == ("done", "analyze", 100)
    assert tables.value("SELECT count(*) FROM lead WHERE touched = 1") == 100
