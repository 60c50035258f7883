"""Adoption as a job where each row has associated data or an iv of its own, as in Midaz."""

import base64
import json
import secrets
import uuid

import pytest
from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from expect import refused, texts
from harness import Cluster, Database, account_database, write_keyring
from test_jobs import state, writing
from test_reencrypt import kill_in_the_middle

MIDAZ, CBC = secrets.token_hex(32), secrets.token_hex(16)
KEYS = {"midaz": (MIDAZ, 'encoding = "hex"'), "cbc": (CBC, 'encoding = "hex"')}
ORGANIZATIONS = [str(uuid.UUID(int=n)) for n in range(3)]

# after adopt_column's own arguments, with a batch size that kill_in_the_middle() knows
TEMPLATE = "tenant:{account_id}:org:{organization_id}:record:{id}:field:ssn"
TERMS = f"'tink', 'midaz', '{{}}', NULL, '{TEMPLATE}'"
COLUMN = f"CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', {TERMS}"
FIRST = f"{COLUMN}, cut_over => false)"
CALL = f"{COLUMN})"
CHECK = (
    "SELECT * FROM fieldcrypt.adopt_check_column('person', 'ssn', 'tink', 'midaz',"
    " account_column => 'account_id', associated_data_template => %s)"
)
PLAN = (
    "SELECT severity, subject, finding FROM fieldcrypt.plan_adopt_column('person', 'ssn',"
    " 'account_id', 'tink', 'midaz', associated_data_template => %s)"
)
TARGET = "public.person.ssn"
IV = (
    "CALL fieldcrypt.adopt_column('person', 'secret', 'lead.ssn', 'account_id',"
    " 'pgcrypto-encrypt-iv', 'cbc', iv_column => 'nonce'"
)
INSERT = "INSERT INTO person (id, account_id, organization_id, ssn) VALUES (%s, 'acme', %s, %s)"
SCHEMA = """
    SELECT fieldcrypt.grant_access('keeper', '{encrypt,decrypt}', '*', 'lead.*');
    GRANT keeper, fieldcrypt_admin TO mover;
    GRANT CREATE ON SCHEMA public TO keeper;
    SET ROLE keeper;
    CREATE TABLE person (
        id bigint PRIMARY KEY, account_id text NOT NULL, organization_id uuid, ssn text NOT NULL,
        other int NOT NULL DEFAULT 0, secret bytea, nonce bytea, data jsonb);
    GRANT ALL ON person TO app;
    RESET ROLE;
"""


def midaz(text, i, organization, account="acme", field="ssn"):
    """A value as Midaz stores it, bound to its row."""
    bound = f"tenant:{account}:org:{organization}:record:{i}:field:{field}"
    nonce = secrets.token_bytes(12)
    made = AESGCM(bytes.fromhex(MIDAZ)).encrypt(nonce, text.encode(), bound.encode())
    sealed = b"\x01" + bytes.fromhex("12345678") + nonce + made
    return f"tink:v1:{base64.urlsafe_b64encode(sealed).decode()}"


def encrypt_iv(text, iv):
    """What pgcrypto's encrypt_iv(text, key, iv, 'aes') gives."""
    padder = padding.PKCS7(128).padder()
    padded = padder.update(text.encode()) + padder.finalize()
    encryptor = Cipher(algorithms.AES(bytes.fromhex(CBC)), modes.CBC(iv)).encryptor()
    return encryptor.update(padded) + encryptor.finalize()


def organization_of(i):
    return ORGANIZATIONS[i % 3]


def account_of(i):
    return "acme" if i % 2 == 0 else "globex"


@pytest.fixture(scope="module")
def server():
    cluster = Cluster()
    write_keyring(cluster.keys_dir, adoption_keys=KEYS)
    with cluster:
        cluster.create_roles("app", "keeper", "mover")
        yield cluster


@pytest.fixture
def db(server):
    """A table of the keeper's, who may encrypt and decrypt for both accounts."""
    with account_database(server) as database:
        database.execute(SCHEMA)
        yield database


@pytest.fixture
def mover(db):
    with db.connect("mover") as connection:
        yield connection


@pytest.fixture
def app(db):
    with db.connect("app", options="-c fieldcrypt.account=acme") as connection:
        yield connection


def fill(db, rows=100):
    values = [
        (i, account_of(i), organization_of(i), midaz(f"s{i}", i, organization_of(i), account_of(i)))
        for i in range(1, rows + 1)
    ]
    with db.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO person (id, account_id, organization_id, ssn) VALUES (%s, %s, %s, %s)",
            values,
        )


def decrypted(db, column="ssn"):
    with db.connect("keeper") as keeper:
        rows = keeper.execute(f"SELECT id, fieldcrypt.decrypt({column}) FROM person ORDER BY id")
        return dict(rows.fetchall())


def stored(db, i):
    return db.value(f"SELECT ssn FROM person WHERE id = {i}")


@pytest.mark.every_version
def test_a_column(db, mover, app):
    fill(db)
    assert mover.execute(CHECK, [TEMPLATE]).fetchall() == [("opens with midaz", 100)]
    found = mover.execute(PLAN, [TEMPLATE]).fetchall()
    assert ("notice", TARGET, "100 values: opens with midaz") in found
    assert not [finding for finding in found if finding[0] == "error"]
    mover.execute(CALL)
    assert state(db, TARGET) == ("done", "analyze", 100)
    assert decrypted(db) == {i: f"s{i}" for i in range(1, 101)}
    assert app.execute("SELECT id FROM person WHERE ssn = 's20'").fetchall() == [(20,)]
    assert db.value("SELECT count(*) FROM pg_trigger WHERE tgname LIKE '%write_both%'") == 0
    # from now on the columns belong to nothing
    app.execute("UPDATE person SET organization_id = NULL, id = 1020 WHERE id = 20")
    assert decrypted(db)[1020] == "s20"


@pytest.mark.every_version
def test_values_of_other_rows_stop_the_job(db, mover, app):
    """What is bound to one row opens in no other, and stays where it is."""
    fill(db, 40)
    first, second = stored(db, 2), stored(db, 4)
    swap = "UPDATE person SET ssn = %s WHERE id = %s"
    db.execute(swap, [second, 2])
    db.execute(swap, [first, 4])
    db.execute("UPDATE person SET organization_id = NULL WHERE id = 6")
    outcomes = {
        "fails: wrong key, or altered": 2,
        "has no associated data": 1,
        "opens with midaz": 37,
    }
    assert dict(mover.execute(CHECK, [TEMPLATE]).fetchall()) == outcomes
    found = mover.execute(PLAN, [TEMPLATE]).fetchall()
    assert {finding for severity, _, finding in found if severity == "error"} == {
        "2 values: fails: wrong key, or altered",
        "1 values: has no associated data",
    }
    with refused("55000", '3 values of "public.person.ssn" cannot be adopted') as caught:
        mover.execute(CALL)
    assert first not in texts(caught.value) and second not in texts(caught.value)
    query = caught.value.diag.message_hint.split(": ", 1)[1]
    assert {row[0] for row in mover.execute(query)} == {2, 4, 6}
    assert (stored(db, 2), stored(db, 4)) == (second, first)
    # to give a row its associated data is to mend it, but only the right ones
    with refused("XX001", "decryption failed"):
        app.execute("UPDATE person SET organization_id = %s WHERE id = 6", [organization_of(7)])
    app.execute("UPDATE person SET organization_id = %s WHERE id = 6", [organization_of(6)])
    app.execute("UPDATE person SET other = 1 WHERE id = 2")
    app.execute(swap, [first, 2])
    app.execute(swap, [second, 4])
    mover.execute(CALL)
    assert decrypted(db) == {i: f"s{i}" for i in range(1, 41)}


@pytest.mark.every_version
def test_what_is_written_meanwhile_is_adopted(db, mover, app):
    fill(db)
    mover.execute(FIRST)
    assert state(db, TARGET)[:2] == ("paused", "cut over")
    one, other, third = ORGANIZATIONS
    app.execute(INSERT, [101, one, midaz("more", 101, one)])
    app.execute("UPDATE person SET other = 1 WHERE id = 4")
    before = stored(db, 6)
    for organization in organization_of(7), None:
        # the value would be lost to the application, too
        with refused("23514" if organization is None else "XX001"):
            app.execute("UPDATE person SET organization_id = %s WHERE id = 6", [organization])
        with refused("23514" if organization is None else "XX001"):
            app.execute(INSERT, [102, organization, midaz("x", 101, one)])
    with refused("XX001"):
        app.execute("UPDATE person SET id = 106 WHERE id = 6")
    with refused("XX001"):
        app.execute("UPDATE person SET ssn = %s WHERE id = 8", [before])
    assert stored(db, 6) == before
    both = "UPDATE person SET organization_id = %s, ssn = %s WHERE id = %s"
    app.execute(both, [third, midaz("moved", 10, third), 10])
    app.execute("UPDATE person SET id = 112, ssn = %s WHERE id = 12", [midaz("s12", 112, one)])
    app.execute("UPDATE person SET ssn = %s WHERE id = 14", [midaz("new", 14, organization_of(14))])
    mover.execute(CALL)
    rows = decrypted(db)
    expected = {i: f"s{i}" for i in range(1, 101) if i != 12}
    assert rows == expected | {10: "moved", 14: "new", 101: "more", 112: "s12"}
    app.execute(
        "INSERT INTO person (id, account_id, ssn) VALUES (113, 'acme', %s)", ["123-45-6789"]
    )
    assert decrypted(db)[113] == "123-45-6789"


def test_under_a_load_of_writers(db, mover):
    """Rows change value and associated data while batches go over them."""
    fill(db, 300)
    db.execute(
        "CREATE TABLE fresh (n int PRIMARY KEY, organization_id uuid, ssn text);"
        " GRANT SELECT ON fresh TO app"
    )
    with db.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO fresh VALUES (%s, %s, %s)",
            [
                (n, organization, midaz(f"f{n}", n % 150 * 2 + 2, organization))
                for n in range(900)
                for organization in [ORGANIZATIONS[n // 150 % 3]]
            ],
        )
    statement = (
        "UPDATE person AS p SET organization_id = f.organization_id, ssn = f.ssn FROM fresh AS f"
        " WHERE f.n = mod(%(n)s, 900) AND p.id = 2 * mod(f.n, 150) + 2"
    )
    with writing(db, statement, prepare_threshold=None) as result:
        mover.execute(f"{COLUMN}, batch_size => 20, rate => 500, cut_over => false)")
        count = result["count"]
    assert count > 100 and result["errors"] == [] and result["slowest"] < 1
    mover.execute(CALL)
    rows = decrypted(db)
    assert len(rows) == 300
    for i, value in rows.items():
        assert value == f"s{i}" or (value[0] == "f" and int(value[1:]) % 150 * 2 + 2 == i)
    # the last one that was written is the one that is there
    assert rows[2 * (result["count"] % 900 % 150) + 2] == f"f{result['count'] % 900}"


def test_kill_nine(make_cluster):
    """The session that runs the job is killed; called again it goes on, and loses nothing."""
    cluster = make_cluster()
    write_keyring(cluster.keys_dir, adoption_keys=KEYS)
    cluster.create_roles("app", "keeper", "mover")
    db = Database(cluster)
    db.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT pg_reload_conf();
        SELECT fieldcrypt.create_account('acme');
        SELECT fieldcrypt.create_account('globex');
        SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}');
    """)
    db.execute(SCHEMA)
    fill(db, 800)
    call = f"{COLUMN}, NULL, 'refuse', 'text', 100)"
    kill_in_the_middle(db, call, TARGET)
    status, step, changed = state(db, TARGET)
    assert (status, step) == ("running", "backfill") and 100 <= changed < 800
    assert "associated_data_template" in db.value("SELECT terms::text FROM fieldcrypt.adoption")
    with db.connect("mover") as mover:
        # what it opens values with stays
        with refused("55006", "another job is at work"):
            mover.execute(call.replace("{id}", "{other}"))
        mover.execute(call)
    assert state(db, TARGET) == ("done", "analyze", 800)
    assert decrypted(db) == {i: f"s{i}" for i in range(1, 801)}
    db.conn.close()


@pytest.mark.every_version
def test_an_iv_in_a_column(db, mover, app):
    ivs = {i: secrets.token_bytes(16) for i in range(1, 43)}
    insert = (
        "INSERT INTO person (id, account_id, ssn, secret, nonce) VALUES (%s, 'acme', '-', %s, %s)"
    )
    for i in range(1, 41):
        # of one block, so that under another iv all of it is another text
        db.execute(insert, [i, encrypt_iv(f"secret {i}", ivs[i]), ivs[i]])
    db.execute("UPDATE person SET nonce = NULL WHERE id = 4")
    db.execute("UPDATE person SET secret = NULL, nonce = NULL WHERE id = 5")
    check = (
        "SELECT * FROM fieldcrypt.adopt_check_column('person', 'secret', 'pgcrypto-encrypt-iv',"
        " 'cbc', account => 'acme', iv_column => 'nonce')"
    )
    assert mover.execute(check).fetchall() == [
        ("has no iv", 1),
        ("opens with cbc", 38),
        (None, 1),
    ]
    with refused("55000", "1 values"):
        mover.execute(f"{IV})")
    app.execute("UPDATE person SET nonce = %s WHERE id = 4", [ivs[4]])
    mover.execute(f"{IV}, cut_over => false)")
    both = "UPDATE person SET secret = %s, nonce = %s WHERE id = %s"
    app.execute(both, [encrypt_iv("changed", ivs[41]), ivs[41], 6])
    app.execute(insert, [42, encrypt_iv("more", ivs[42]), ivs[42]])
    with refused("23514", "row has no iv"):
        app.execute("UPDATE person SET nonce = NULL WHERE id = 7")
    mover.execute(f"{IV})")
    rows = decrypted(db, "secret")
    assert rows.pop(5) is None and rows.pop(6) == "changed" and rows.pop(42) == "more"
    assert rows == {i: f"secret {i}" for i in range(1, 41) if i not in (5, 6)}


@pytest.mark.every_version
def test_columns_that_are_in_the_way(db, mover):
    db.execute("""
        SET ROLE keeper;
        CREATE DOMAIN reference AS uuid;
        ALTER TABLE person ADD at timestamptz, ADD made text GENERATED ALWAYS AS ('x' || id) STORED,
            ADD "of, row" char(8), ADD domain reference, ADD number int2, ADD gone text;
        ALTER TABLE person DROP COLUMN gone;
        RESET ROLE;
    """)
    fill(db, 4)
    for template, column, finding in (
        ("{absent}", "absent", "does not exist"),
        ("{gone}", "gone", "does not exist"),
        ("{ctid}", "ctid", "does not exist"),
        ("a{at}", "at", "is of type timestamp with time zone"),
        ("{nonce}", "nonce", "is of type bytea"),
        ("{made}{id}", "made", "is generated"),
        ("{ssn}", "ssn", "is the column that is adopted"),
    ):
        found = mover.execute(PLAN, [template]).fetchall()
        assert ("error", f"public.person.{column}", finding) in found
        for statement in (CHECK, CALL.replace(f"'{TEMPLATE}'", "%s")):
            with refused("55000", f"person.{column} {finding}"):
                mover.execute(statement, [template])
    with refused("55000", "person.other is of type integer", "bytea"):
        mover.execute(f"{IV.replace('nonce', 'other')})")
    for template in "", "{", "}", "{id", "id}", "{}", "{a{b}}", "{{id}":
        for statement in CHECK, PLAN, CALL.replace(f"'{TEMPLATE}'", "%s"):
            with refused("22023", 'invalid value for "associated_data_template"'):
                mover.execute(statement, [template])
    assert db.value("SELECT count(*) FROM fieldcrypt.job") == 0
    assert db.value("SELECT count(*) FROM fieldcrypt.adoption") == 0
    # these are none
    outcome = ("fails: wrong key, or altered", 4)
    for template in "{{}}{id}", "{number}x", "{domain}x", "{of, row}x":
        found = mover.execute(CHECK, [template]).fetchall()
        assert found == [outcome if template == "{{}}{id}" else ("has no associated data", 4)]


@pytest.mark.every_version
def test_what_a_format_takes(db, mover):
    """It is looked at before the job begins, and not with its first row."""
    fill(db, 4)
    call = "CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', "
    for arguments in (
        "'tink', 'midaz'",
        "'fernet', 'midaz', associated_data => 'x'",
        "'fernet', 'midaz', associated_data_template => '{id}'",
        "'tink', 'midaz', associated_data => 'x', associated_data_template => '{id}'",
        "'tink', 'midaz', associated_data => 'x', iv_column => 'nonce'",
        "'pgcrypto-encrypt-iv', 'cbc'",
    ):
        with refused("22023"):
            mover.execute(f"{call}{arguments})")
    check = "SELECT fieldcrypt.adopt_check_column('person', 'ssn', 'tink', 'midaz', {})"
    for arguments in (
        "associated_data => 'x', associated_data_template => '{id}'",
        "iv => '', iv_column => 'nonce'",
    ):
        with refused("22023", "the same for all rows"):
            mover.execute(check.format(arguments))
    assert db.value("SELECT count(*) FROM fieldcrypt.job") == 0


def test_associated_data_are_what_the_template_says(db, mover, app):
    """Braces, quotes, other names and types; a column's text is not read again as a template."""
    db.execute("""
        SET ROLE keeper;
        ALTER TABLE person ADD "it's \\ me" text, ADD padded char(8), ADD small int2;
        RESET ROLE;
    """)
    template = '{{"it\'s":"{it\'s \\ me}",\\\'{padded}{small}{padded}}}'
    odd = "{id}'||\\{{"
    insert = (
        'INSERT INTO person (id, account_id, "it\'s \\ me", padded, small, ssn)'
        " VALUES (%s, 'acme', %s, E'ab\\t ', -7, %s)"
    )

    def value(text):
        data = f'{{"it\'s":"{odd}",\\\'ab\t-7ab\t}}'
        nonce = secrets.token_bytes(12)
        made = AESGCM(bytes.fromhex(MIDAZ)).encrypt(nonce, text.encode(), data.encode())
        return base64.b64encode(nonce + made).decode()

    db.execute(insert, [1, odd, value("one")])
    call = "CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', %s, 'midaz',"
    call += " associated_data_template => %s, cut_over => {})"
    mover.execute(call.format("false"), ["gcm-base64", template])
    app.execute(insert, [2, odd, value("two")])
    with refused("XX001"):
        app.execute(insert, [3, odd + "x", value("three")])
    mover.execute(call.format("true"), ["gcm-base64", template])
    assert decrypted(db) == {1: "one", 2: "two"}


DOCUMENT = (
    "CALL fieldcrypt.adopt_existing('person.data', '{ssn,ids[*].n}', 'tink', 'midaz', 'lead.ssn',"
    f" associated_data_template => '{TEMPLATE}'"
)


def document(i, organization, account):
    made = [midaz(text, i, organization, account) for text in (f"s{i}", "a")]
    return json.dumps({"ssn": made[0], "ids": [{"n": made[1]}, {"n": None}], "name": "Ann"})


@pytest.fixture
def documents(db):
    db.execute("SET ROLE keeper")
    db.execute("SELECT fieldcrypt.protect_jsonb('person', 'data', 'person.data', 'account_id')")
    db.execute("RESET ROLE")
    with db.conn.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO person (id, account_id, organization_id, ssn, data)"
            " VALUES (%s, %s, %s, '-', %s)",
            [
                (i, account_of(i), organization_of(i))
                + (document(i, organization_of(i), account_of(i)),)
                for i in range(1, 101)
            ],
        )
    return db


@pytest.mark.every_version
def test_documents(documents, mover, app):
    db = documents
    db.execute("UPDATE person SET organization_id = NULL WHERE id = 2")
    db.execute("UPDATE person SET id = 1004 WHERE id = 4")
    plan = (
        "SELECT severity, finding FROM fieldcrypt.plan_adopt_existing('person.data',"
        " '{ssn,ids[*].n}', 'tink', 'midaz', associated_data_template => %s)"
    )
    found = mover.execute(plan, [TEMPLATE]).fetchall()
    assert ("notice", "196 values: opens with midaz") in found
    assert {finding for severity, finding in found if severity == "error"} == {
        "2 values: fails: wrong key, or altered",
        "2 values: has no associated data",
    }
    adopted = "is the column that is adopted"
    assert ("error", adopted) in mover.execute(plan, ["{data}"]).fetchall()
    with refused("55000", f"person.data {adopted}"):
        mover.execute(f"{DOCUMENT})".replace(TEMPLATE, "{data}"))
    with refused("22023"):
        mover.execute(f"{DOCUMENT}, associated_data => 'x')")
    assert db.value("SELECT count(*) FROM fieldcrypt.job") == 0
    with refused("55000", '2 documents of "person.data" cannot be adopted') as caught:
        mover.execute(f"{DOCUMENT}, batch_size => 20)")
    query = caught.value.diag.message_hint.split(": ", 1)[1]
    assert {row[0] for row in mover.execute(query)} == {2, 1004}
    with refused("23514", "row has no associated data"):
        app.execute("UPDATE person SET other = 1 WHERE id = 2")
    app.execute("UPDATE person SET organization_id = %s WHERE id = 2", [organization_of(2)])
    app.execute("UPDATE person SET id = 4 WHERE id = 1004")
    mover.execute(f"{DOCUMENT}, cut_over => false)")
    write = "UPDATE person SET data = data || jsonb_build_object('ssn', %s::text) WHERE id = %s"
    app.execute(write, [midaz("new", 6, organization_of(6)), 6])
    with refused("XX001", "decryption failed .*path ssn of document"):
        app.execute(write, [midaz("new", 6, organization_of(6)), 8])
    # what is adopted is bound to the row no longer
    app.execute("UPDATE person SET organization_id = NULL WHERE id = 10")
    mover.execute(f"{DOCUMENT})")
    rows = decrypted(db, "data")
    assert rows.pop(6)["ssn"] == "new"
    assert rows == {
        i: {"ssn": f"s{i}", "ids": [{"n": "a"}, {"n": None}], "name": "Ann"}
        for i in range(1, 101)
        if i != 6
    }


def test_documents_under_a_load_of_writers(documents, mover):
    db = documents
    fresh = midaz("fresh", 10, organization_of(10))
    statement = (
        f"UPDATE person SET data = jsonb_set(data, '{{ssn}}', to_jsonb('{fresh}'::text)),"
        " other = %(n)s WHERE id = 10"
    )
    with writing(db, statement, prepare_threshold=None) as result:
        mover.execute(f"{DOCUMENT}, batch_size => 10, rate => 200, cut_over => false)")
    assert result["count"] > 0 and result["errors"] == [] and result["slowest"] < 1
    mover.execute(f"{DOCUMENT})")
    rows = {i: data["ssn"] for i, data in decrypted(db, "data").items()}
    assert rows == {i: "fresh" if i == 10 else f"s{i}" for i in range(1, 101)}


def test_a_latin1_database(server):
    """Associated data are UTF-8 there, too, and columns have names in it."""
    with server.connect() as connection:
        connection.execute(
            "CREATE DATABASE adopt_latin1 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'"
            " TEMPLATE template0"
        )
    try:
        with server.connect(dbname="adopt_latin1") as connection:
            latin1(server, connection)
    finally:
        server.drop_database("adopt_latin1")


def latin1(server, connection):
    connection.execute("SET client_encoding = 'UTF8'")
    connection.execute("""
        CREATE EXTENSION fieldcrypt;
        SELECT fieldcrypt.create_account('acme');
        SELECT fieldcrypt.create_field('lead.ssn');
    """)
    connection.execute(SCHEMA)
    connection.execute('SET ROLE keeper; ALTER TABLE person ADD "größe" text; RESET ROLE')

    def insert(i):
        nonce = secrets.token_bytes(12)
        made = AESGCM(bytes.fromhex(MIDAZ)).encrypt(nonce, f"s{i}".encode(), "Grün:ü".encode())
        value = base64.b64encode(nonce + made).decode()
        connection.execute(
            "INSERT INTO person (id, account_id, \"größe\", ssn) VALUES (%s, 'acme', 'ü', %s)",
            [i, value],
        )

    insert(1)
    with server.connect("mover", "adopt_latin1") as mover:
        mover.execute("SET client_encoding = 'UTF8'")
        call = (
            "CALL fieldcrypt.adopt_column('person', 'ssn', 'lead.ssn', 'account_id', %s, 'midaz',"
        )
        call += " associated_data_template => 'Grün:{größe}', cut_over => {})"
        mover.execute(call.format("false", größe="{größe}"), ["gcm-base64"])
        insert(2)
        mover.execute(call.format("true", größe="{größe}"), ["gcm-base64"])
    with server.connect("keeper", "adopt_latin1") as keeper:
        found = keeper.execute("SELECT id, fieldcrypt.decrypt(ssn) FROM person ORDER BY id")
        assert found.fetchall() == [(1, "s1"), (2, "s2")]
