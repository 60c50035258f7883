"""Masks and NULLs that are written back into columns of protected tables, mostly no texts."""

import pytest
from expect import refused

pytestmark = pytest.mark.every_version

SCHEMA = """
    SELECT fieldcrypt.create_field('score', mask => 'zero');
    SELECT fieldcrypt.create_field('number', search => '{exact}');
    SELECT fieldcrypt.create_field('part', mask => 'partial(2, "-***-", 2)');
    SELECT fieldcrypt.create_field('nothing', mask => 'null');
    SELECT fieldcrypt.create_field('month', mask => 'month');
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


FORMS = """
    CREATE TABLE form (id int PRIMARY KEY, account_id text DEFAULT 'acme',
        part fieldcrypt.encrypted_text('part'), month_text fieldcrypt.encrypted_text('month'),
        month_date fieldcrypt.encrypted_date('month'), number fieldcrypt.encrypted_jsonb('part'),
        string fieldcrypt.encrypted_jsonb('part'), object fieldcrypt.encrypted_jsonb('part'),
        nothing fieldcrypt.encrypted_jsonb('nothing'));
    SELECT fieldcrypt.protect_table('form', 'account_id');
    GRANT ALL ON form TO app, clerk;
"""
COLUMNS = ("part", "month_text", "month_date", "number", "string", "object", "nothing")


def test_masks_of_every_form_keep_the_value(session, db):
    db.execute(FORMS)
    app, clerk = session("app"), session("clerk")
    rows = [
        (1, "123-45-6789", *["1990-12-31"] * 2, "123456789", '"a \\"b\\" c"', "[1]", '{"a": 1}'),
        (2, "987-65-4321", *["2000-01-02"] * 2, "987654321", '"1\\n345\\n7"', "true", "null"),
    ]
    for row in rows:
        app.execute(
            f"INSERT INTO form (id, {', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s, %s, %s)",
            row,
        )
    decrypted = ", ".join(f"fieldcrypt.decrypt({column})::text" for column in COLUMNS)
    decrypted = f"SELECT id, {decrypted} FROM form ORDER BY id"
    revealed = ", ".join(f"fieldcrypt.reveal({column})::text" for column in COLUMNS)
    seen = clerk.execute(f"SELECT id, {revealed} FROM form ORDER BY id").fetchall()
    assert seen == [
        (
            *(1, "12-***-89", "1990-12-**", "1990-12-01"),
            *('"12-***-89"', '"********"', '"********"', None),
        ),
        (
            *(2, "98-***-21", "2000-01-**", "2000-01-01"),
            *('"98-***-21"', '"********"', '"********"', None),
        ),
    ]
    # as values of the columns' types, and all in one statement
    for statement in (
        "UPDATE form SET " + ", ".join(f"{c} = fieldcrypt.reveal({c})" for c in COLUMNS),
        "UPDATE form SET " + ", ".join(f"{c} = %({c})s" for c in COLUMNS) + " WHERE id = %(id)s",
    ):
        for row in seen:
            clerk.execute(statement, dict(zip(("id", *COLUMNS), row, strict=True)))
        assert app.execute(decrypted).fetchall() == rows
    # what was read in another row, or by another mask
    others = {"part": seen[0][1], "month_text": seen[0][2], "number": seen[0][4]}
    for column, mask in others.items():
        with refused("23514", "is a mask, or looks like one"):
            clerk.execute(f"UPDATE form SET {column} = %s WHERE id = 2", [mask])
    for mask in ("422222***2222", "1990-**-**", "a****@example.com", "********"):
        with refused("23514", "is a mask, or looks like one"):
            clerk.execute("UPDATE form SET part = %s WHERE id = 2", [mask])
    assert app.execute(decrypted).fetchall() == rows
    clerk.execute("UPDATE form SET part = '111-22-3333', nothing = '[2]' WHERE id = 2")
    assert app.execute(decrypted).fetchall()[1] == (2, "111-22-3333", *rows[1][2:7], "[2]")
