"""Which keys stored values are under, and how keys and accounts are destroyed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from expect import refused, values_found

SSN = "123-45-6789"
USAGE = (
    "SELECT relation::text, column_name, purpose, version, count, problem"
    " FROM fieldcrypt.key_usage('acme') ORDER BY 1, 2, 3, 4"
)


def key(database, version=1, purpose="data", account="acme"):
    """The id of a key."""
    keys = "SELECT key_id FROM fieldcrypt.keys WHERE (account, purpose, version) = (%s, %s, %s)"
    return database.execute(keys, [account, purpose, version]).fetchone()[0]


def call(connection, function, *arguments):
    """The rows of a function for key administrators."""
    places = ", ".join(["%s"] * len(arguments))
    return connection.execute(
        f"SELECT * FROM fieldcrypt.{function}({places})", arguments
    ).fetchall()


def rotate(database):
    call(database, "rotate_account_key", "acme")


def states(database, account="acme"):
    keys = (
        "SELECT purpose, version, state, wrapped IS NULL FROM fieldcrypt.account_key"
        " WHERE account = %s ORDER BY purpose, version"
    )
    return database.execute(keys, [account]).fetchall()


@pytest.fixture
def lead(app):
    """A session of `app`, with one lead."""
    app.execute("INSERT INTO lead (ssn) VALUES (%s)", [SSN])
    return app


@pytest.fixture
def older(leads, lead):
    """The id of the older of two data keys, under which the one lead is."""
    rotate(leads)
    return key(leads)


def disabled(leads, older):
    call(leads, "disable_account_key", "acme", older)
    return older


def test_usage(leads, app, session):
    """Each value is counted under its data key, and under its index key if it has tokens."""
    app.execute("INSERT INTO lead (ssn, email) VALUES ('1', 'a@example.com'), ('2', NULL)")
    rotate(leads)
    app.execute("INSERT INTO lead (ssn) VALUES ('3')")
    app.execute("DELETE FROM lead WHERE fieldcrypt.decrypt(ssn) = '2'")
    other = session("app_globex", account="globex")
    other.execute("INSERT INTO lead (account_id, ssn) VALUES ('globex', '4')")
    assert leads.execute(USAGE).fetchall() == [
        ("lead", "email", "data", 1, 1, None),
        ("lead", "email", "index", 1, 1, None),
        ("lead", "ssn", "data", 1, 1, None),
        ("lead", "ssn", "data", 2, 1, None),
        ("lead", "ssn", "index", 1, 2, None),
    ]
    of_all = leads.execute("SELECT account, purpose, count FROM fieldcrypt.key_usage()")
    assert ("globex", "data", 1) in of_all.fetchall()


@pytest.mark.every_version
def test_usage_wherever_values_are(leads, lead):
    """In domains, arrays, rows, documents, partitions, unlogged tables and materialized views."""
    leads.execute("""
        CREATE DOMAIN ssn AS fieldcrypt.encrypted_text('lead.ssn');
        CREATE TYPE person AS (name text, ssn fieldcrypt.encrypted_text('lead.ssn'));
        CREATE TABLE a_domain (v ssn);
        CREATE TABLE b_array (v fieldcrypt.encrypted_text('lead.ssn')[]);
        CREATE TABLE c_row (v person);
        CREATE TABLE d_rows (v person[]);
        CREATE TABLE e_document (v jsonb);
        CREATE TABLE f_parts (k int, v fieldcrypt.encrypted_text('lead.ssn'))
            PARTITION BY LIST (k);
        CREATE TABLE f_part PARTITION OF f_parts FOR VALUES IN (1);
        CREATE UNLOGGED TABLE g_unlogged (v fieldcrypt.encrypted_text('lead.ssn'));
        CREATE MATERIALIZED VIEW h_view AS SELECT ssn FROM lead;
        INSERT INTO a_domain SELECT ssn FROM lead;
        INSERT INTO b_array SELECT ARRAY[ssn, NULL, ssn] FROM lead;
        INSERT INTO c_row SELECT ROW('Ann "(x', ssn)::person FROM lead;
        INSERT INTO d_rows SELECT ARRAY[ROW('{', ssn)::person] FROM lead;
        INSERT INTO e_document
            SELECT jsonb_build_object('a', ARRAY['x', ssn::text], 'b', 'fc1:x') FROM lead;
        INSERT INTO f_parts SELECT 1, ssn FROM lead;
        INSERT INTO g_unlogged SELECT ssn FROM lead;
    """)
    found = leads.execute(
        "SELECT relation::text, count FROM fieldcrypt.key_usage('acme')"
        " WHERE purpose = 'data' ORDER BY 1"
    )
    assert found.fetchall() == [
        ("a_domain", 1),
        ("b_array", 2),
        ("c_row", 1),
        ("d_rows", 1),
        ("e_document", 1),
        ("f_part", 1),
        ("g_unlogged", 1),
        ("h_view", 1),
        ("lead", 1),
    ]
    assert leads.value("SELECT count(*) FROM fieldcrypt.key_usage() WHERE problem IS NOT NULL") == 0


@pytest.mark.every_version
def test_usage_inside_of_gathered_values(leads, session):
    """A blob that is written anew may hold values under older keys."""
    leads.execute("""
        SELECT fieldcrypt.create_field('lead.pii');
        CREATE TABLE shape (id int, account text DEFAULT 'acme', data jsonb,
                            pii fieldcrypt.encrypted_jsonb('lead.pii'));
        SELECT fieldcrypt.protect_jsonb('shape', 'data', 'shape.data', 'account',
                                        blob_column => 'pii');
        SELECT fieldcrypt.protect_path('shape.data', '{ssn}', 'lead.ssn');
        SELECT fieldcrypt.protect_path('shape.data', '{email}', 'lead.email');
        GRANT ALL ON shape TO app;
    """)
    app = session()
    app.execute(
        """INSERT INTO shape VALUES (1, 'acme', '{"ssn": "1", "email": "a@example.com"}')"""
    )
    rotate(leads)
    app.execute("""UPDATE shape SET data = '{"email": "b@example.com"}'""")
    in_blob = (
        "SELECT version, count, problem FROM fieldcrypt.key_usage('acme')"
        " WHERE column_name = 'pii' AND purpose = 'data' ORDER BY 1"
    )
    assert leads.execute(in_blob).fetchall() == [(1, 1, None), (2, 2, None)]
    # what cannot be opened is said, and is no proof
    call(leads, "disable_account", "acme")
    assert (2, 1, None) in leads.execute(in_blob).fetchall()
    problems = [problem for *_, problem in leads.execute(in_blob) if problem]
    assert len(problems) == 1 and "cannot be opened" in problems[0]


def test_usage_says_what_it_cannot_look_at(leads, lead, older):
    """Foreign tables and temporary ones of others are in the way of a proof."""
    key_id = disabled(leads, older)
    leads.execute("DELETE FROM lead")
    with leads.connect() as one:
        one.execute("CREATE TEMP TABLE mine (v fieldcrypt.encrypted_text('lead.ssn'))")
        assert [row[5] for row in leads.execute(USAGE)] == [
            "a temporary table of another session cannot be looked at"
        ]
        # its own session can
        assert one.execute(USAGE).fetchall() == []
        with refused("55006", "temporary table of another session", hint="lose_values"):
            call(leads, "destroy_account_key", "acme", key_id)
    leads.execute("""
        CREATE FOREIGN DATA WRAPPER nowhere;
        CREATE SERVER nowhere FOREIGN DATA WRAPPER nowhere;
        CREATE FOREIGN TABLE far (v jsonb) SERVER nowhere;
    """)
    assert [row[5] for row in leads.execute(USAGE)] == ["a foreign table is not looked at"]
    with refused("55006", "far"):
        call(leads, "destroy_account_key", "acme", key_id)


def test_usage_of_what_is_no_value(leads, older):
    """Damaged values may be under any key."""
    leads.execute(r"""
        DELETE FROM lead;
        CREATE TABLE damaged (v bytea);
        INSERT INTO damaged VALUES ('\x01'), ('\xfc01'), (NULL);
        UPDATE pg_attribute SET (atttypid, atttypmod) = (
                SELECT atttypid, atttypmod FROM pg_attribute
                WHERE attrelid = 'lead'::regclass AND attname = 'ssn')
            WHERE attrelid = 'damaged'::regclass AND attname = 'v';
    """)
    assert [row[4:] for row in leads.execute(USAGE)] == [(2, "values that are no envelopes")]
    with refused("55006", "values that are no envelopes"):
        call(leads, "destroy_account_key", "acme", disabled(leads, older))


def test_a_prepared_transaction(leads, lead, older):
    """Nobody sees what it has written, and it may be committed later."""
    key_id = disabled(leads, older)
    with leads.connect() as writer:
        writer.execute("BEGIN; CREATE TABLE copy AS SELECT ssn FROM lead; PREPARE TRANSACTION 'p'")
    try:
        leads.execute("DELETE FROM lead")
        assert [row[5] for row in leads.execute(USAGE)] == [
            "what it has written cannot be looked at"
        ]
        with refused("55006", "prepared transaction 'p'"):
            call(leads, "destroy_account_key", "acme", key_id)
    finally:
        leads.execute("ROLLBACK PREPARED 'p'")
    assert call(leads, "destroy_account_key", "acme", key_id) == []


def test_usage_asks_no_right_on_rows(leads, lead, session):
    """The role is enough, and row security hides nothing from it."""
    leads.execute("""
        REVOKE ALL ON lead FROM outsider;
        ALTER TABLE lead ENABLE ROW LEVEL SECURITY;
        ALTER TABLE lead FORCE ROW LEVEL SECURITY;
        CREATE SCHEMA hidden; REVOKE ALL ON SCHEMA hidden FROM PUBLIC;
        CREATE TABLE hidden.copy AS SELECT ssn FROM lead;
    """)
    outsider = session("outsider", account=None)
    with refused("42501"):
        outsider.execute(USAGE)
    leads.execute("GRANT fieldcrypt_key_admin TO outsider")
    try:
        found = outsider.execute(USAGE).fetchall()
        assert [row[:1] + row[2:5] for row in found if row[2] == "data"] == [
            ("hidden.copy", "data", 1, 1),
            ("lead", "data", 1, 1),
        ]
    finally:
        leads.execute("REVOKE fieldcrypt_key_admin FROM outsider")


def test_a_key_is_disabled_and_enabled(leads, lead, older):
    """What it has sealed nobody reads from the next statement on, until it is back."""
    lead.execute("PREPARE read AS SELECT fieldcrypt.decrypt(ssn) FROM lead")
    assert lead.execute("EXECUTE read").fetchone() == (SSN,)
    with leads.connect() as admin, admin.transaction(force_rollback=True):
        call(admin, "disable_account_key", "acme", older)
        assert lead.execute("EXECUTE read").fetchone() == (SSN,)
    disabled(leads, older)
    with refused("55000", f"key {older} is disabled", hint="enable_account_key"):
        lead.execute("EXECUTE read")
    assert lead.execute("SELECT fieldcrypt.reveal(ssn) FROM lead").fetchone() == ("********",)
    # new values are under the other key
    lead.execute("INSERT INTO lead (ssn) VALUES ('2')")
    call(leads, "enable_account_key", "acme", older)
    assert lead.execute("EXECUTE read").fetchall() == [(SSN,), ("2",)]
    assert values_found(lead, SSN) == [SSN]


def test_keys_that_are_not_to_be_disabled(leads, older):
    """Only older data and index keys of the account are."""
    for active in (key(leads, 2), key(leads, purpose="index")):
        with refused("22023", "key_id", hint="rotate_account_key.. or rotate_index_key"):
            call(leads, "disable_account_key", "acme", active)
    for other in (key(leads, purpose="wrapping"), key(leads, account="globex"), 1, 0, -5):
        for function in ("disable_account_key", "enable_account_key", "destroy_account_key"):
            with refused("22023", "key_id", hint="fieldcrypt.keys"):
                call(leads, function, "acme", other)
    with refused("42704", "does not exist"):
        call(leads, "disable_account_key", "nobody", older)


def test_threat_d7_a_key_is_destroyed_once_nothing_is_under_it(leads, lead, older, session):
    """Its bytes go, its row stays, and who still has a value under it is told."""
    with refused("55000", "is not disabled"):
        call(leads, "destroy_account_key", "acme", older)
    disabled(leads, older)
    with refused("55006", r"column ssn of (public\.)?lead: 1 values", hint="key_usage"):
        call(leads, "destroy_account_key", "acme", older)
    call(leads, "enable_account_key", "acme", older)
    envelope = lead.execute("SELECT ssn::text FROM lead").fetchone()[0]
    lead.execute("UPDATE lead SET ssn = fieldcrypt.decrypt(ssn)")
    disabled(leads, older)
    with leads.connect() as admin:
        with admin.transaction(force_rollback=True):
            assert call(admin, "destroy_account_key", "acme", older) == []
        assert ("data", 1, "disabled", False) in states(leads)
        assert call(admin, "destroy_account_key", "acme", older) == []
    assert states(leads) == [
        ("data", 1, "destroyed", True),
        ("data", 2, "active", False),
        ("index", 1, "active", False),
        ("wrapping", 1, "active", False),
    ]
    for function in ("disable_account_key", "enable_account_key", "destroy_account_key"):
        with refused("42704", f"key {older} is destroyed"):
            call(leads, function, "acme", older)
    assert values_found(lead, SSN) == [SSN]
    # as from an old dump
    leads.execute(f"INSERT INTO lead (ssn) VALUES ('{envelope}')")
    with refused("42704", f"key {older} is destroyed", hint="Nobody can read"):
        lead.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
    hidden = lead.execute("SELECT fieldcrypt.reveal(ssn) FROM lead ORDER BY id").fetchall()
    assert hidden == [(SSN,), ("********",)]
    # the account goes on, under another root key too
    rotate(leads)
    lead.execute("INSERT INTO lead (ssn) VALUES ('2')")


def test_values_are_given_up(leads, lead, older):
    """What goes with a key is said, and in the audit."""
    disabled(leads, older)
    lost = call(leads, "destroy_account_key", "acme", older, True)
    assert [(row[0], row[1], row[3], row[6]) for row in lost] == [("lead", "ssn", "data", 1)]
    with refused("42704", "is destroyed"):
        lead.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
    leads.execute("SELECT fieldcrypt.flush_audit()")
    event = (
        "SELECT outcome, account, detail FROM fieldcrypt.audit WHERE action = 'destroy_account_key'"
    )
    assert leads.execute(event).fetchall() == [
        ("done", "acme", f"data key {older}, uses given up: 1")
    ]


def test_transactions_that_prove_nothing(leads, older):
    """The two steps are two transactions, and the second one sees what was just written."""
    with leads.connect() as admin, admin.transaction(force_rollback=True):
        call(admin, "disable_account_key", "acme", older)
        with refused("55000", "is not disabled", hint="in a transaction before"):
            call(admin, "destroy_account_key", "acme", older, True)
    disabled(leads, older)
    with leads.connect() as admin:
        admin.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        with refused("25001", "cannot be destroyed", hint="READ COMMITTED"):
            call(admin, "destroy_account_key", "acme", older)


def waits(leads):
    """Returns once somebody waits for a lock."""
    while leads.value("SELECT count(*) FROM pg_locks WHERE NOT granted") == 0:
        time.sleep(0.01)


@pytest.mark.every_version
@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_writer_that_has_not_committed(leads, lead, older, end):
    """A copy of the last value is waited for, in a table that nobody else sees yet."""
    with leads.connect() as writer, leads.connect() as admin, ThreadPoolExecutor(1) as thread:
        writer.execute("BEGIN; CREATE TABLE copy AS SELECT ssn FROM lead")
        leads.execute("DELETE FROM lead")
        disabled(leads, older)
        destroying = thread.submit(call, admin, "destroy_account_key", "acme", older)
        waits(leads)
        writer.execute(end)
        if end == "COMMIT":
            with refused("55006", r"column ssn of (public\.)?copy: 1 values"):
                destroying.result()
        else:
            assert destroying.result() == []


def test_a_writer_that_comes_later_waits(leads, lead, older):
    """While a key is destroyed nobody writes, and everybody reads."""
    lead.execute("UPDATE lead SET ssn = fieldcrypt.decrypt(ssn)")
    disabled(leads, older)
    with leads.connect() as admin, ThreadPoolExecutor(1) as thread:
        admin.execute("BEGIN")
        assert call(admin, "destroy_account_key", "acme", older) == []
        assert values_found(lead, SSN) == [SSN]
        writing = thread.submit(lead.execute, "INSERT INTO lead (ssn) VALUES ('2')")
        waits(leads)
        admin.execute("COMMIT")
        writing.result()
    assert values_found(lead, "2") == ["2"]


@pytest.mark.every_version
def test_threat_d7_an_account_is_destroyed(leads, lead, session):
    """All of its keys go, and its name; other accounts stay, and its rows can be cleared away."""
    globex = session("app_globex", account="globex")
    globex.execute("INSERT INTO lead (account_id, ssn) VALUES ('globex', '4')")
    with refused("55000", "is not disabled"):
        call(leads, "destroy_account", "acme", True)
    call(leads, "disable_account", "acme")
    with refused("55006", r'account "acme" may still be in use \(column ssn'):
        call(leads, "destroy_account", "acme")
    with leads.connect() as admin, admin.transaction(force_rollback=True):
        call(admin, "destroy_account", "acme", True)
    call(leads, "enable_account", "acme")
    assert values_found(lead, SSN) == [SSN]
    call(leads, "disable_account", "acme")
    lost = call(leads, "destroy_account", "acme", True)
    assert sorted((row[1], row[2], row[3], row[6]) for row in lost) == [
        ("ssn", "acme", "data", 1),
        ("ssn", "acme", "index", 1),
    ]
    assert states(leads) == [
        ("data", 1, "destroyed", True),
        ("index", 1, "destroyed", True),
        ("wrapping", 1, "destroyed", True),
    ]
    for read in ("SELECT fieldcrypt.decrypt(ssn) FROM lead", "INSERT INTO lead (ssn) VALUES ('2')"):
        with refused("42704", 'account "acme" is destroyed', hint="no other account"):
            lead.execute(read)
    assert lead.execute("SELECT fieldcrypt.reveal(ssn) FROM lead").fetchone() == ("********",)
    for function in (
        "create_account",
        "enable_account",
        "disable_account",
        "rotate_account_key",
        "set_account_root",
        "destroy_account",
    ):
        with refused("42704", 'account "acme" is destroyed'):
            call(leads, function, "acme")
    assert leads.value(
        "SELECT reason FROM fieldcrypt.can('app', 'decrypt', 'acme', 'lead.ssn')"
    ) == ('account "acme" is destroyed')
    call(leads, "rotate_root")
    assert values_found(globex, "4") == ["4"]
    # what is left can be cleared away
    leads.execute("UPDATE lead SET ssn = NULL WHERE account_id = 'acme'")
    assert leads.execute(USAGE).fetchall() == []


def test_an_account_without_values_is_destroyed(leads):
    """It needs no word that values are given up."""
    call(leads, "disable_account", "acme")
    assert call(leads, "destroy_account", "acme") == []
    accounts = "SELECT account, state, changed_at IS NOT NULL FROM fieldcrypt.accounts ORDER BY 1"
    assert ("acme", "destroyed", True) in leads.execute(accounts).fetchall()


def test_what_is_destroyed_stays_so(leads, older):
    """Bytes that come back into the row are refused, and a destroyed key has none."""
    call(leads, "disable_account", "acme")
    call(leads, "destroy_account", "acme", True)
    for change in ("wrapped = 'x'", "state = 'active'"):
        with refused("23514"):
            leads.execute(f"UPDATE fieldcrypt.account_key SET {change} WHERE account = 'acme'")


def test_usage_beside_writers(leads, session):
    """It takes no lock that writers wait for."""
    stop = threading.Event()

    def write():
        connection = session()
        written = 0
        while not stop.is_set():
            connection.execute("INSERT INTO lead (ssn) VALUES ('1')")
            written += 1
        return written

    with ThreadPoolExecutor(2) as threads:
        writers = [threads.submit(write) for _ in range(2)]
        try:
            counts = []
            while len(counts) < 5:
                found = leads.execute(USAGE).fetchall()
                counts.append(sum(row[4] for row in found if row[2] == "data"))
        finally:
            stop.set()
        written = sum(writer.result() for writer in writers)
    assert counts == sorted(counts) and counts[-1] <= written
    assert [row[4] for row in leads.execute(USAGE) if row[2] == "data"] == [written]
