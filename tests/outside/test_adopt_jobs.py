"""Adoption as a job: what other software encrypted, in a column and at paths of documents."""

import json
import secrets
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from expect import refused, texts
from harness import Cluster, account_database, write_keyring
from test_jobs import state, writing

HEX = 'encoding = "hex"'
CURRENT, PREVIOUS = secrets.token_hex(32), secrets.token_hex(32)
OF_ACME, OF_GLOBEX = secrets.token_hex(32), secrets.token_hex(32)
KEYS = {
    "floh": (CURRENT, HEX),
    "floh_previous": (PREVIOUS, HEX),
    "of-acme": (OF_ACME, f'{HEX}\naccount = "acme"'),
    "of-globex": (OF_GLOBEX, f'{HEX}\naccount = "globex"'),
    "other": (secrets.token_hex(32), HEX),
    "passphrase": ("passphrase", 'encoding = "text"'),
    "long": ("K" * 40, 'encoding = "text"'),
}
FLOH = "gcm-iv-tag-ciphertext-hex"
FLOH_KEYS = (
    "format => 'gcm-iv-tag-ciphertext-hex', key => 'floh', previous_keys => '{floh_previous}'"
)
COLUMN = f"CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', {FLOH_KEYS}"
DOCUMENT = f"CALL fieldcrypt.adopt_existing('person.data', '{{ssn,ids[*].n}}', {FLOH_KEYS}"
TARGET = "public.person.ssn"
INTEROP = Path(__file__).parents[2] / "core/tests/interop"


def floh(text, key=CURRENT):
    """A value as Floh stores it."""
    iv = secrets.token_bytes(12)
    made = AESGCM(bytes.fromhex(key)).encrypt(iv, text.encode(), None)
    return f"{iv.hex()}:{made[-16:].hex()}:{made[:-16].hex()}"


@pytest.fixture(scope="module")
def server():
    cluster = Cluster()
    write_keyring(cluster.keys_dir, adoption_keys=KEYS)
    with cluster:
        cluster.create_roles("keeper", "mover", "stranger")
        yield cluster


@pytest.fixture
def db(server):
    """A table of the keeper's, who may encrypt and decrypt for both accounts."""
    with account_database(server) as database:
        for grant in (
            ("keeper", "{encrypt,decrypt}", "*"),
            ("app", "{encrypt,search,decrypt}", "acme"),
            ("app_globex", "{encrypt,search,decrypt}", "globex"),
        ):
            database.execute("SELECT fieldcrypt.grant_access(%s, %s, %s, 'lead.*')", grant)
        database.execute("""
            GRANT keeper, fieldcrypt_admin TO mover; GRANT fieldcrypt_admin TO stranger;
            GRANT CREATE ON SCHEMA public TO keeper;
            SET ROLE keeper;
            CREATE TABLE person (
                id int PRIMARY KEY, account_id text NOT NULL, ssn text NOT NULL,
                other int NOT NULL DEFAULT 0, data jsonb);
            GRANT ALL ON person TO app, app_globex;
            SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id');
            RESET ROLE;
        """)
        yield database


@pytest.fixture
def mover(db):
    with db.connect("mover") as connection:
        yield connection


def fill(db, rows=200):
    """Rows of two accounts, those of acme with even ids; each tenth under the previous key."""
    values = [
        (
            i,
            "acme" if i % 2 == 0 else "globex",
            floh(f"s{i}", PREVIOUS if i % 10 == 0 else CURRENT),
            json.dumps(
                {
                    "ssn": floh(f"s{i}", PREVIOUS if i % 10 == 0 else CURRENT),
                    "ids": [{"n": floh("a")}, {"n": None}, {}],
                    "name": "Ann",
                }
            ),
        )
        for i in range(1, rows + 1)
    ]
    with db.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO person (id, account_id, ssn, data) VALUES (%s, %s, %s, %s)", values
        )


def decrypted(db, column="ssn"):
    with db.connect("keeper") as keeper:
        rows = keeper.execute(f"SELECT id, fieldcrypt.decrypt({column}) FROM person ORDER BY id")
        return dict(rows.fetchall())


@pytest.mark.every_version
def test_a_column(db, mover):
    fill(db)
    db.execute("COMMENT ON COLUMN person.ssn IS 'social security'")
    mover.execute(f"{COLUMN}, batch_size => 50)")
    assert state(db, TARGET) == ("done", "analyze", 200)
    assert decrypted(db) == {i: f"s{i}" for i in range(1, 201)}
    assert db.value("""
        SELECT attnotnull AND col_description(attrelid, attnum) = 'social security'
        FROM pg_attribute WHERE attrelid = 'person'::regclass AND attname = 'ssn'""")
    assert db.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%write_both%'") == 0
    accounts = "SELECT count(*) FROM person WHERE fieldcrypt.account_of(ssn) = account_id"
    assert db.value(accounts) == 200
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        found = app.execute("SELECT id FROM person WHERE ssn = 's20'").fetchall()
        assert found == [(20,)]
    # what it was made of is no plain text
    assert not db.value("SELECT has_remnants FROM fieldcrypt.progress")
    with refused("42809", "encrypted already"):
        mover.execute(f"{COLUMN})")


@pytest.mark.every_version
def test_what_is_written_meanwhile_is_adopted(db, mover):
    """Until it cuts over, the application goes on in the other software's form."""
    fill(db)
    mover.execute(f"{COLUMN}, cut_over => false)")
    assert state(db, TARGET)[:2] == ("paused", "cut over")
    options = "-c fieldcrypt.account=acme"
    with db.connect("app", options=options) as app:
        app.execute("UPDATE person SET ssn = %s WHERE id = 2", [floh("new", PREVIOUS)])
        insert = "INSERT INTO person (id, account_id, ssn) VALUES (%s, 'acme', %s)"
        app.execute(insert, [201, floh("more")])
        app.execute("UPDATE person SET other = 1 WHERE id = 4")
        with refused("22P02", "value is not of this format"):
            app.execute(insert, [202, "123-45-6789"])
        with refused("XX001", "decryption failed") as caught:
            app.execute(insert, [202, floh("x", OF_ACME)])
        assert "x" not in texts(caught.value).split()
    mover.execute(f"{COLUMN})")
    expected = {i: f"s{i}" for i in range(1, 201)} | {2: "new", 201: "more"}
    assert decrypted(db) == expected


def test_under_a_load_of_writers(db, mover):
    fill(db, 600)
    fresh = floh("fresh")
    statement = (
        "UPDATE person SET other = %(n)s, ssn = '" + fresh + "' WHERE id = 2 * mod(%(n)s, 300)"
    )
    with writing(db, statement, prepare_threshold=None) as result:
        mover.execute(f"{COLUMN}, batch_size => 50, cut_over => false)")
        count = result["count"]
    assert count > 0 and result["errors"] == [] and result["slowest"] < 1
    mover.execute(f"{COLUMN})")
    rows = decrypted(db)
    assert len(rows) == 600
    assert all(value in (f"s{i}", "fresh") for i, value in rows.items())
    assert "fresh" in rows.values()


def test_what_does_not_open_stops_the_job(db, mover):
    """With how many there are and where, and never what they are."""
    fill(db, 40)
    strange = floh("strange", OF_ACME)
    insert = "INSERT INTO person (id, account_id, ssn) VALUES (%s, 'acme', %s)"
    db.execute(insert, [101, strange])
    db.execute(insert, [102, "123-45-6789"])
    db.execute(insert, [103, "c8c9:00:11"])
    plan = (
        "SELECT severity, finding FROM fieldcrypt.plan_adopt_column('person', 'ssn', 'account_id',"
        f" {FLOH_KEYS})"
    )
    assert {f for s, f in mover.execute(plan) if s == "error"} == {
        "1 values: fails: wrong key, or altered",
        "2 values: is not of this format",
    }
    assert {f for s, f in mover.execute(plan) if "opens" in f} == {
        "36 values: opens with floh",
        "4 values: opens with floh_previous",
    }
    with refused("55000", '3 values of "public.person.ssn" cannot be adopted') as caught:
        mover.execute(f"{COLUMN})")
    assert not any(value in texts(caught.value) for value in (strange, "123-45-6789"))
    query = caught.value.diag.message_hint.split(": ", 1)[1]
    assert {row[0] for row in mover.execute(query)} == {101, 102, 103}
    # rows of which another column is written stay as they are
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute("UPDATE person SET other = 7 WHERE id = 102")
        app.execute("UPDATE person SET ssn = %s WHERE id = 102", [floh("mended")])
        app.execute("DELETE FROM person WHERE id = 103")
    with refused("55000", "1 values"):
        mover.execute(f"{COLUMN})")
    db.execute("DELETE FROM person WHERE id = 101")
    mover.execute(f"{COLUMN})")
    assert decrypted(db) == {i: f"s{i}" for i in range(1, 41)} | {102: "mended"}


@pytest.mark.every_version
def test_plain_text_is_encrypted_where_that_is_said(db, mover):
    fill(db, 20)
    insert = "INSERT INTO person (id, account_id, ssn) VALUES (%s, 'acme', %s)"
    db.execute(insert, [21, "123-45-6789"])
    with refused("22023", "plaintext"):
        mover.execute(f"{COLUMN}, plaintext => 'maybe')")
    mover.execute(f"{COLUMN}, plaintext => 'encrypt', cut_over => false)")
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute(insert, [22, "987-65-4321"])
        app.execute(insert, [23, floh("sealed")])
        # what pretends to be an envelope is not taken for plain text
        with refused("22P02"):
            app.execute(insert, [24, "fc1:abc"])
    mover.execute(f"{COLUMN}, plaintext => 'encrypt')")
    assert {i: v for i, v in decrypted(db).items() if i > 20} == {
        21: "123-45-6789",
        22: "987-65-4321",
        23: "sealed",
    }
    assert db.value("SELECT has_remnants FROM fieldcrypt.progress")


def test_keys_of_accounts(db, mover):
    """Each account's own key, by its name."""
    for i, account, key in (1, "acme", OF_ACME), (2, "globex", OF_GLOBEX):
        db.execute("INSERT INTO person VALUES (%s, %s, %s)", [i, account, floh(f"v{i}", key)])
    mover.execute(
        "CALL fieldcrypt.adopt_column('person', 'ssn', field => 'lead.ssn',"
        " account_column => 'account_id', format => %s, key => 'of-{account}')",
        [FLOH],
    )
    assert decrypted(db) == {1: "v1", 2: "v2"}


@pytest.mark.every_version
@pytest.mark.parametrize(
    ("kind", "written", "wrong", "value"),
    [
        ("bigint", "12345678901", "12.5", "12345678901"),
        ("numeric", "1.50", "1,50", "1.50"),
        ("date", "1984-02-29", "1985-02-29", "1984-02-29"),
        ("timestamptz", "2000-02-29T12:34:56Z", "2000-02-30", "2000-02-29 12:34:56+00"),
        ("boolean", "true", "2", "true"),
        ("uuid", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "a0ee", None),
        ("jsonb", '{"b": [1.50, null], "a": "x"}', "{", '{"a": "x", "b": [1.50, null]}'),
        ("bytea", "Ann", None, "\\x416e6e"),
    ],
)
def test_other_types(db, mover, kind, written, wrong, value):
    """The text is read as the type's input reads it."""
    db.execute("SET timezone = 'UTC'; ALTER DATABASE " + db.name + " SET timezone = 'UTC'")
    with db.connect("mover") as mover:
        db.execute("SELECT fieldcrypt.create_field('lead.typed')")
        db.execute("SELECT fieldcrypt.grant_access('mover', '{encrypt}', 'acme', 'lead.typed')")
        adopt = f"SELECT fieldcrypt.adopt_{kind}(%s, %s, 'floh', 'lead.typed', 'acme')::text"
        assert mover.execute(adopt, [floh(written), FLOH]).fetchone()[0].startswith("fc1:")
        insert = "INSERT INTO person (id, account_id, ssn) VALUES (%s, 'acme', %s)"
        db.execute(insert, [1, floh(written)])
        call = (
            "CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.typed', 'account_id', %s, 'floh',"
            f" plain_type => '{kind}')"
        )
        if wrong:
            with pytest.raises(psycopg.DataError) as caught:
                mover.execute(adopt, [floh(wrong), FLOH])
            assert caught.value.sqlstate.startswith("22")
            said = texts(caught.value)
            assert f"what was encrypted is no value of type {kind} " in said
            assert '(field "lead.typed", account "acme")' in said and f'"{wrong}"' not in said
            db.execute(insert, [2, floh(wrong)])
            with refused("55000", "1 values"):
                mover.execute(call, [FLOH])
            db.execute("DELETE FROM person WHERE id = 2")
        mover.execute(call, [FLOH])
    with db.connect("keeper") as keeper:
        found = keeper.execute("SELECT fieldcrypt.decrypt(ssn)::text FROM person").fetchone()
    assert found == (value or written.lower(),)


def test_bytes_of_pgcrypto(db, mover):
    """A bytea column, as pgcrypto's encrypt() fills it."""
    cases = json.loads((INTEROP / "pgcrypto.json").read_text())["cases"]
    case = next(c for c in cases if c["format"] == "pgcrypto:pgp_sym:default" and c["plaintext"])
    db.execute("SET ROLE keeper; ALTER TABLE person ADD secret bytea; RESET ROLE")
    db.execute(
        "INSERT INTO person (id, account_id, ssn, secret) VALUES (1, 'acme', '-', %s)",
        [bytes.fromhex(case["value"])],
    )
    mover.execute(
        "CALL fieldcrypt.adopt_column('person', 'secret', 'lead.ssn', 'account_id',"
        " 'pgp-symmetric', 'passphrase')"
    )
    assert decrypted(db, "secret") == {1: case["plaintext"]}


def test_rights(db, mover):
    """Who calls adopts as adopt() asks, and the owner needs encrypt."""
    fill(db, 10)
    calls = f"{COLUMN})", f"{DOCUMENT}, field => 'lead.ssn')"
    for call in calls:
        with db.connect("keeper") as keeper, refused("42501"):
            keeper.execute(call)
        with db.connect("stranger") as stranger, refused("42501", "table's owner"):
            stranger.execute(call)
        with refused("42501"):
            db.execute(call)
    assert db.value("SELECT count(*) FROM fieldcrypt.job") == 0
    assert db.value("SELECT count(*) FROM fieldcrypt.adoption") == 0
    db.execute("SELECT fieldcrypt.revoke_access('keeper', '{encrypt}', '*', 'lead.*')")
    for call in calls:
        with refused("42501", "encrypt field"):
            mover.execute(call)
        mover.execute(
            "SELECT fieldcrypt.cancel_job(target) FROM fieldcrypt.progress WHERE state = 'running'"
        )
    # the names of keys are an administrator's to say: a trigger of the owner's names none
    with db.connect("keeper") as keeper:
        keeper.execute(
            "ALTER TABLE person ADD s fieldcrypt.encrypted_text('lead.ssn');"
            " CREATE TRIGGER t BEFORE INSERT ON person FOR EACH ROW EXECUTE FUNCTION"
            " fieldcrypt.adopt_both('ssn', 's', 'account_id', 'public.person.ssn')"
        )
        with refused("42704"):
            keeper.execute("INSERT INTO person VALUES (11, 'acme', %s)", [floh("x")])
        with refused("42704"):
            keeper.execute(
                "SELECT fieldcrypt.adopt_stored(%s, %s, 'acme', NULL::fieldcrypt.encrypted_text)",
                [TARGET, floh("x")],
            )


def test_only_the_owner_has_a_job_adopt(db, mover):
    fill(db, 10)
    mover.execute(f"{COLUMN}, cut_over => false)")
    adopt = (
        "SELECT fieldcrypt.adopt_stored(%s, %s, 'acme', NULL::fieldcrypt.encrypted_text) IS NULL"
    )
    with db.connect("app") as app, refused("42501"):
        app.execute(adopt, [TARGET, floh("x")])
    with db.connect("keeper") as keeper:
        assert keeper.execute(adopt, [TARGET, floh("x")]).fetchone() == (False,)
        # nor does it adopt for another table
        keeper.execute(
            "CREATE TABLE mine (ssn text, account_id text,"
            " s fieldcrypt.encrypted_text('lead.ssn'));"
            " CREATE TRIGGER t BEFORE INSERT ON mine FOR EACH ROW EXECUTE FUNCTION"
            f" fieldcrypt.adopt_both('ssn', 's', 'account_id', '{TARGET}')"
        )
        with refused("42501"):
            keeper.execute("INSERT INTO mine VALUES (%s, 'acme')", [floh("x")])


def test_the_terms_of_a_job_stay(db, mover):
    fill(db, 10)
    mover.execute(f"{COLUMN}, cut_over => false)")
    with refused("55006", "another job is at work"):
        mover.execute(
            "CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', %s, 'other')",
            [FLOH],
        )
    with refused("55006", "another job"):
        mover.execute("CALL fieldcrypt.encrypt_column('person', 'ssn', 'lead.ssn', 'account_id')")
    mover.execute(f"SELECT fieldcrypt.cancel_job('{TARGET}')")
    assert db.value("SELECT count(*) FROM person WHERE ssn LIKE '%:%:%'") == 10
    assert db.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%write_both%'") == 0
    db.execute("SET ROLE keeper; ALTER TABLE person ADD n int; RESET ROLE")
    for arguments, sqlstate in (
        ("'person', 'n', 'lead.ssn', 'account_id', 'fernet', 'floh'", "42809"),
        ("'person', 'ssn', 'lead.ssn', 'account_id', 'nonsense', 'floh'", "22023"),
        ("'person', 'ssn', 'lead.none', 'account_id', 'fernet', 'floh'", "42704"),
        ("'person', 'ssn', 'lead.ssn', 'none', 'fernet', 'floh'", "42703"),
        ("'person', 'ssn', 'lead.ssn', 'account_id', 'fernet', 'none'", "F0000"),
        (
            "'person', 'ssn', 'lead.ssn', 'account_id', 'fernet', 'floh', plain_type => 'point'",
            "42809",
        ),
        ("'person', 'ssn', 'lead.ssn', 'account_id', 'cbc-base64', 'floh', '{other}'", "22023"),
    ):
        with refused(sqlstate):
            mover.execute(f"CALL fieldcrypt.adopt_column({arguments})")
    assert db.value("SELECT count(*) FROM fieldcrypt.job WHERE state = 'running'") == 0


@pytest.mark.every_version
def test_documents(db, mover):
    fill(db)
    db.execute("INSERT INTO person (id, account_id, ssn) VALUES (201, 'acme', '-')")
    plan = (
        "SELECT severity, finding FROM fieldcrypt.plan_adopt_existing('person.data',"
        f" '{{ssn,ids[*].n}}', {FLOH_KEYS})"
    )
    found = mover.execute(plan).fetchall()
    assert ("notice", "380 values: opens with floh") in found
    assert ("notice", "20 values: opens with floh_previous") in found
    assert not any(severity == "error" for severity, _ in found)
    with refused("55000", "is not flagged"):
        mover.execute(f"{DOCUMENT})")
    assert db.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%adopt%'") == 0
    mover.execute(f"{DOCUMENT}, field => 'lead.ssn', batch_size => 50)")
    assert state(db, "person.data") == ("done", "analyze", 200)
    rows = decrypted(db, "data")
    assert rows.pop(201) is None
    assert rows == {
        i: {"ssn": f"s{i}", "ids": [{"n": "a"}, {"n": None}, {}], "name": "Ann"}
        for i in range(1, 201)
    }
    stored = "SELECT count(*) FROM person WHERE data ->> 'ssn' LIKE 'fc1:%'"
    assert db.value(stored) == 200
    assert db.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%adopt%'") == 0
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        match = "SELECT id FROM person WHERE fieldcrypt.matches(data, 'lead.ssn', 's20')"
        assert app.execute(match).fetchall() == [(20,)]
    # a second run finds nothing to do
    mover.execute(f"{DOCUMENT})")
    assert state(db, "person.data")[2] == 0


@pytest.mark.every_version
def test_documents_that_are_written_meanwhile_are_adopted(db, mover):
    fill(db)
    mover.execute(f"{DOCUMENT}, field => 'lead.ssn', plaintext => 'encrypt', cut_over => false)")
    write = "UPDATE person SET data = data || jsonb_build_object('ssn', %s::text) WHERE id = %s"
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        app.execute(write, [floh("new", PREVIOUS), 2])
        app.execute(write, ["plain", 4])
        with refused("XX001", "decryption failed .*path ssn of document"):
            app.execute(write, [floh("x", OF_ACME), 6])
        insert = "INSERT INTO person (id, account_id, ssn, data) VALUES (%s, 'acme', '-', %s)"
        app.execute(insert, [201, json.dumps({"ssn": floh("more"), "ids": [{"n": 12.50}]})])
    mover.execute(f"{DOCUMENT}, field => 'lead.ssn', plaintext => 'encrypt')")
    rows = decrypted(db, "data")
    assert [rows[i]["ssn"] for i in (2, 4, 6, 201)] == ["new", "plain", "s6", "more"]
    assert rows[201]["ids"] == [{"n": 12.5}]


def test_documents_under_a_load_of_writers(db, mover):
    fill(db, 300)
    statement = (
        "UPDATE person SET data = jsonb_set(data, '{ssn}', to_jsonb('" + floh("fresh") + "'::text))"
        " WHERE id = 2 * mod(%(n)s, 150)"
    )
    with writing(db, statement, prepare_threshold=None) as result:
        mover.execute(f"{DOCUMENT}, field => 'lead.ssn', batch_size => 20, cut_over => false)")
    assert result["count"] > 0 and result["errors"] == [] and result["slowest"] < 1
    mover.execute(f"{DOCUMENT}, field => 'lead.ssn')")
    rows = {i: data["ssn"] for i, data in decrypted(db, "data").items()}
    assert all(value in (f"s{i}", "fresh") for i, value in rows.items())
    assert "fresh" in rows.values()


def test_documents_that_do_not_open_stop_the_job(db, mover):
    fill(db, 20)
    strange = floh("strange", OF_ACME)
    db.execute(
        "INSERT INTO person (id, account_id, ssn, data) VALUES (21, 'acme', '-', %s)",
        [json.dumps({"ssn": strange, "ids": [{"n": floh("b")}]})],
    )
    # nothing in this one opens
    insert = "INSERT INTO person (id, account_id, ssn, data) VALUES (22, 'acme', '-', %s)"
    db.execute(insert, [json.dumps({"ssn": strange})])
    with refused("55000", '2 documents of "person.data" cannot be adopted') as caught:
        mover.execute(f"{DOCUMENT}, field => 'lead.ssn')")
    assert strange not in texts(caught.value)
    query = caught.value.diag.message_hint.split(": ", 1)[1]
    assert {row[0] for row in mover.execute(query)} == {21, 22}
    db.execute("DELETE FROM person WHERE id = 22")
    # what opens in it is adopted
    assert db.value("SELECT data #>> '{ids,0,n}' LIKE 'fc1:%' FROM person WHERE id = 21")
    mend = "UPDATE person SET data = data || jsonb_build_object('ssn', %s::text) WHERE id = 21"
    with db.connect("app", options="-c fieldcrypt.account=acme") as app:
        # its trigger would seal it once more
        with refused("XX001"):
            app.execute("UPDATE person SET other = 1 WHERE id = 21")
        app.execute(mend, [floh("mended")])
    mover.execute(f"{DOCUMENT})")
    assert decrypted(db, "data")[21] == {"ssn": "mended", "ids": [{"n": "b"}]}


def test_the_audit(db, mover):
    fill(db, 20)
    db.execute("SELECT fieldcrypt.flush_audit()")
    last = db.value("SELECT max(seq) FROM fieldcrypt.audit")
    mover.execute(f"{COLUMN}, batch_size => 1000)")
    db.execute("SELECT fieldcrypt.flush_audit()")
    events = db.execute(
        "SELECT action, outcome, field, account, sum(count), detail FROM fieldcrypt.audit"
        " WHERE seq > %s AND action ~ 'adopt' GROUP BY 1, 2, 3, 4, 6 ORDER BY 1, 4, 6",
        [last],
    ).fetchall()
    detail = f'format {FLOH}, key "{{}}"'
    assert ("adopt", "done", "lead.ssn", "acme", 8, detail.format("floh")) in events
    assert ("adopt", "done", "lead.ssn", "acme", 2, detail.format("floh_previous")) in events
    assert ("adopt", "done", "lead.ssn", "globex", 10, detail.format("floh")) in events
    assert any(event[0] == "adopt_column" and event[5] == TARGET for event in events)
