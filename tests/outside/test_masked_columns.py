"""Masks and NULLs that are written back into columns of protected tables, mostly no texts."""

import pytest
from expect import refused

pytestmark = pytest.mark.every_version

SCHEMA = """
    SELECT fieldcrypt.create_field('score', mask => 'zero');
    SELECT fieldcrypt.create_field('number', search => '{exact}');
    SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', '*');
    SELECT fieldcrypt.grant_access('clerk', '{encrypt,mask}', '*', '*');
    SELECT fieldcrypt.grant_access('viewer', '{mask}', '*', '*');
    CREATE TABLE part (no fieldcrypt.encrypted_bigint('number') PRIMARY KEY, account_id text);
    CREATE TABLE held (id int PRIMARY KEY, account_id text,
        score fieldcrypt.encrypted_bigint('score'), day fieldcrypt.encrypted_bigint('number'),
        no fieldcrypt.encrypted_bigint('number') REFERENCES part ON DELETE SET NULL);
    SELECT fieldcrypt.protect_table('held', 'account_id');
    GRANT ALL ON held, part TO app, clerk, viewer;
    GRANT CREATE ON SCHEMA public TO viewer;
"""


@pytest.fixture
def session(db):
    db.cluster.create_roles("clerk", "viewer")
    db.execute(SCHEMA)
    opened = []

    def open_session(user, account="acme"):
        options = f"-c fieldcrypt.account={account}"
        opened.append(db.connect(user, prepare_threshold=None, options=options))
        return opened[-1]

    app = open_session("app")
    app.execute("INSERT INTO part VALUES (7, 'acme')")
    app.execute("INSERT INTO held VALUES (1, 'acme', 5, 5, 7), (2, 'acme', 0, 6, 7)")
    yield open_session
    for connection in opened:
        connection.close()


def plain(session):
    query = (
        "SELECT id, fieldcrypt.decrypt(score), fieldcrypt.decrypt(day), fieldcrypt.decrypt(no)"
        " FROM held ORDER BY id"
    )
    return session("app").execute(query).fetchall()


def test_what_was_read_keeps_the_value(session):
    clerk = session("clerk")
    read = "SELECT fieldcrypt.reveal(score), fieldcrypt.reveal(day) FROM held WHERE id = 1"
    assert clerk.execute(read).fetchone() == (0, None)
    clerk.execute("UPDATE held SET score = 0, day = NULL WHERE id = 1")
    assert plain(session)[0] == (1, 5, 5, 7)
    clerk.execute("UPDATE held SET score = 3 WHERE id = 1")
    assert plain(session)[0] == (1, 3, 5, 7)


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ('"value of json"', '"****json"'),
        ('"12345678"', '"****5678"'),
        ('"1234567"', '"********"'),  # with its quotes it would be long enough
        ('"\\"quoted\\""', '"****ted\\""'),
        ("12345678", '"****5678"'),
        ('{"a": "12345678"}', '"********"'),
    ],
)
def test_json(session, db, value, shown):
    """The mask of a JSON string is of its text, without quotes and escapes."""
    db.execute("""
        SELECT fieldcrypt.create_field('json', mask => 'last4');
        CREATE TABLE kept (account_id text, v fieldcrypt.encrypted_jsonb('json'));
        SELECT fieldcrypt.protect_table('kept', 'account_id');
        GRANT ALL ON kept TO app, clerk;
    """)
    app, clerk = session("app"), session("clerk")
    app.execute("INSERT INTO kept VALUES ('acme', %t)", [value])
    read = "SELECT fieldcrypt.reveal(v)::text FROM kept"
    assert clerk.execute(read).fetchone() == (shown,)
    clerk.execute("UPDATE kept SET v = %t", [shown])
    clerk.execute("UPDATE kept SET v = fieldcrypt.reveal(v)")
    assert app.execute(read).fetchone() == (value,)
    with refused("23514", "is a mask, or looks like one"):
        clerk.execute("""UPDATE kept SET v = '"****0000"'""")
    clerk.execute("""UPDATE kept SET v = '"new"'""")
    assert app.execute(read).fetchone() == ('"new"',)


def test_a_kept_value_stays_in_its_account(session):
    """Whoever writes the row of another account with what he read does not take the value along."""
    clerk = session("clerk", "globex")
    for change in "score = fieldcrypt.reveal(score)", "day = NULL":
        with refused("23514", "another account"):
            clerk.execute(f"UPDATE held SET account_id = 'globex', {change} WHERE id = 1")
    with refused("23514", "another account"):
        session("viewer").execute("UPDATE held SET account_id = 'globex', day = NULL")


def test_a_copied_value_is_not_asked_whether_it_is_a_mask(session):
    """Else a role that sees masks learns by a copy which values equal theirs."""
    viewer = session("viewer")
    viewer.execute("""
        CREATE TABLE mine (id int, account_id text, score fieldcrypt.encrypted_bigint('score'));
        SELECT fieldcrypt.protect_table('mine', 'account_id');
        INSERT INTO mine
            SELECT h.id, h.account_id, o.score FROM held AS h, held AS o WHERE o.id = 1;
        UPDATE mine SET score = h.score FROM held AS h WHERE h.id = mine.id;
    """)
    same = "SELECT bool_and(mine.score::text = h.score::text) FROM mine JOIN held AS h USING (id)"
    assert viewer.execute(same).fetchone() == (True,)


def test_the_owner_and_foreign_keys_set_null(session, db):
    session("app").execute("DELETE FROM part")
    assert [row[3] for row in plain(session)] == [None, None]
    db.execute("UPDATE held SET day = NULL")
    assert [row[2] for row in plain(session)] == [None, None]


def test_values_of_all_types_inside_documents(session):
    app = session("app")
    document = "jsonb_build_object('n', score::text, 'd', day::text)"
    query = f"SELECT fieldcrypt.decrypt({document}), fieldcrypt.reveal({document}) FROM held"
    assert app.execute(f"{query} WHERE id = 1").fetchone() == ({"n": 5, "d": 5},) * 2
    query = f"SELECT fieldcrypt.reveal({document}) FROM held WHERE id = 1"
    assert session("viewer").execute(query).fetchone() == ({"n": 0, "d": "********"},)
