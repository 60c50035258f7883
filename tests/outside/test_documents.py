"""Documents with flagged paths: what is stored, who reads what, what each way of writing keeps.

The customers of acme have flagged values of every shape: `ssn`, `contact.email`, the numbers in
`phones`, the texts in `tags`, and the object `note`. `app` may do all with them, `clerk` writes and
sees masks, `finder` writes and searches, `writer` only writes.
"""

import copy
import json
import re
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from expect import refused, texts
from harness import Database
from psycopg import sql
from psycopg.types.json import Json, Jsonb
from test_replication import caught_up, wait_until

HIDDEN = "********"
CANARY = "canary-7f3a"

SCHEMA = """
    SELECT fieldcrypt.create_field('lead.phone', search => '{exact}', normalizer => 'phone',
        mask => 'last4');
    SELECT fieldcrypt.create_field('lead.tag', search => '{exact}');
    SELECT fieldcrypt.create_field('lead.note');
    SELECT fieldcrypt.create_field('lead.code', search => '{unique}');
    SELECT fieldcrypt.create_field('lead.pin', search => '{exact}', store => 'token');
    SELECT fieldcrypt.create_field('lead.login', search => '{exact}', normalizer => 'email',
        scope => 'database');

    CREATE TABLE customer (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        kind text,
        data jsonb);
    SELECT fieldcrypt.protect_jsonb('customer', 'data', name => 'customer.data',
        account_column => 'account_id', kind_column => 'kind');
    SELECT fieldcrypt.protect_path('customer.data', '{ssn}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('customer.data', '{contact.email}', 'lead.email');
    SELECT fieldcrypt.protect_path('customer.data', '{phones[*].number}', 'lead.phone');
    SELECT fieldcrypt.protect_path('customer.data', '{tags[*]}', 'lead.tag');
    SELECT fieldcrypt.protect_path('customer.data', '{note,passport}', 'lead.note');
    CREATE INDEX customer_tokens ON customer USING gin (fieldcrypt.tokens(data));
    GRANT ALL ON customer TO app, app_globex, clerk, finder, writer, outsider;
    GRANT CREATE ON SCHEMA public TO app;
"""

GRANTS = """
    SELECT fieldcrypt.grant_access('clerk', '{encrypt,mask}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('finder', '{encrypt,search}', 'acme', 'lead.*');
    SELECT fieldcrypt.grant_access('writer', '{encrypt}', 'acme', 'lead.*');
"""

ANN = {
    "name": "Ann",
    "ssn": "123-45-6789",
    "contact": {"email": "ann@example.com", "city": "Rome"},
    "phones": [
        {"kind": "home", "number": "+44 20 7946 0001"},
        {"kind": "work", "number": "+44 20 7946 0002"},
    ],
    "tags": ["gold", "early"],
    "note": {"text": "calls back", "score": 7},
}
# What is flagged in it.
SEALED = (
    *("ssn", "contact.email", "phones.0.number", "phones.1.number", "tags.0", "tags.1", "note"),
)
SECRETS = ("123-45-6789", "ann@example.com", "7946 000", '"gold', '"early', "calls back", '"score')


@pytest.fixture
def customers(db):
    """A fresh database with a protected table of customers."""
    db.cluster.create_roles("clerk", "finder", "writer", "manager", "lookup")
    db.execute(SCHEMA + GRANTS)
    return db


@pytest.fixture
def session(customers):
    """Opens connections to it: session("clerk"). Documents need no fieldcrypt.account."""
    opened = []

    def open_session(user="app", account=None):
        options = {"options": f"-c fieldcrypt.account={account}"} if account else {}
        opened.append(customers.connect(user, prepare_threshold=None, **options))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def app(session):
    return session()


def insert(connection, document, number=1, account="acme", kind=None):
    connection.execute(
        "INSERT INTO customer VALUES (%s, %s, %s, %s)", [number, account, kind, Jsonb(document)]
    )


def update(connection, document, number=1):
    connection.execute("UPDATE customer SET data = %s WHERE id = %s", [Jsonb(document), number])


def read(connection, function="", number=1, table="customer"):
    """The document as it is stored, or through fieldcrypt.decrypt or reveal."""
    data = f"fieldcrypt.{function}(data)" if function else "data"
    query = f"SELECT {data} FROM {table} WHERE id = %s"
    return connection.execute(query, [number]).fetchone()[0]


def leaves(document, path=""):
    """Every value that is neither object nor array, by its path."""
    inside = document.items() if isinstance(document, dict) else enumerate(document)
    for key, value in inside:
        if isinstance(value, dict | list):
            yield from leaves(value, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def envelopes(document):
    """The envelopes in a stored document, by path."""
    return {
        path: value
        for path, value in leaves(document)
        if isinstance(value, str) and value.startswith("fc1:")
    }


def names(message, path):
    """Whether a message names a path, or a place that the path leads to."""
    pattern = re.escape(path).replace(re.escape("[*]"), r"(\[(\d+|\*)\])?")
    return re.search(rf"(?<![\w.]){pattern}(?![\w.\[])", message) is not None


# Storing and reading


def test_forty_keys_of_which_five_are_flagged(customers, app):
    """Three levels deep: written and read exactly; jsonb_pretty shows the five as envelopes."""
    document = {
        **{f"text_{i}": f"text {i}" for i in range(10)},
        **{f"number_{i}": i * 1000 for i in range(5)},
        "ssn": "123-45-6789",
        "contact": {
            "email": "ann@example.com",
            "city": "Rome",
            "address": {"street": "Via Roma 1", "zip": "00100", "floor": None, "door": True},
            "channels": ["mail", "phone"],
        },
        "employer": {
            "name": "Globex",
            "office": {"city": "Oslo", "desk": "4711", "badge": 1234567890123},
            "since": "2020-01-01",
        },
        "person": {
            "names": {"mother": "Bea", "father": "Cyd", "nick": "A"},
            "born": "1990-12-31",
            "flags": {},
            "history": [],
        },
    }
    assert sum(1 for _ in keys_of(document)) == 40
    customers.execute(
        "SELECT fieldcrypt.protect_path('customer.data',"
        " '{contact.address.street,employer.office.badge,person.names.mother}', 'lead.note')"
    )
    insert(app, document)
    pretty = customers.value("SELECT jsonb_pretty(data) FROM customer")
    sealed = [line.split(":")[0].strip(' "') for line in pretty.split("\n") if "fc1:" in line]
    assert sorted(sealed) == ["badge", "email", "mother", "ssn", "street"]
    stored = dict(leaves(json.loads(pretty)))
    flagged = envelopes(json.loads(pretty))
    assert len(flagged) == 5
    assert stored == {**dict(leaves(document)), **flagged}
    for function in "decrypt", "reveal":
        exact = f"SELECT fieldcrypt.{function}(data)::text = %s::jsonb::text FROM customer"
        assert app.execute(exact, [json.dumps(document)]).fetchone() == (True,)


def keys_of(document):
    if isinstance(document, dict):
        yield from document
        for value in document.values():
            yield from keys_of(value)


VALUES = [
    *(
        '"Ann"',
        '""',
        '" "',
        '"Grüße, 世界 🙂"',
        r'"\"\\\/\b\f\n\r\t\u0001\u20ac"',
        '"fc1"',
        '"null"',
    ),
    *("0", "-0", "1.10", "1e400", "-1.5e-300", "1234567890123456789012345678901234567890"),
    *("12345678901234567890123.45", "9007199254740993", "true", "false", "{}", "[]", "[[], {}]"),
    *('{"a": {"b": [1.10, null, "x"]}, "": 0, "a.b": false}', '[null, "fc2:x", 1e-400]'),
]


@pytest.mark.every_version
def test_every_type_comes_back(app, subtests):
    for value in VALUES:
        with subtests.test(value):
            app.execute("DELETE FROM customer")
            document = f'{{"passport": {value}, "after": {value}}}'.replace("fc2:x", "fc2x")
            app.execute("INSERT INTO customer (id, data) VALUES (1, %s)", [document])
            stored = read(app)
            assert stored["passport"].startswith("fc1:")
            assert app.execute(
                """
                SELECT data -> 'after' = p -> 'after',
                    fieldcrypt.decrypt(data)::text = p::text,
                    fieldcrypt.reveal(data)::text = p::text,
                    fieldcrypt.decrypt(data, 'passport')::text = (p -> 'passport')::text
                FROM customer, CAST(%s AS jsonb) AS p
                """,
                [document],
            ).fetchone() == (True, True, True, True)


def test_null_is_kept_or_encrypted(customers, app):
    customers.execute(
        "SELECT fieldcrypt.protect_path('customer.data', '{secret}', 'lead.note',"
        " nulls => 'encrypt')"
    )
    insert(app, {"ssn": None, "secret": None, "phones": [{"number": None}], "tags": None})
    stored = read(app)
    assert list(envelopes(stored)) == ["secret"]
    assert stored == {
        "ssn": None,
        "secret": stored["secret"],
        "phones": [{"number": None}],
        "tags": None,
    }
    assert read(app, "decrypt")["secret"] is None
    assert app.execute("SELECT fieldcrypt.tokens(data) FROM customer").fetchone() == ([],)


def test_paths_match_unexpected_shapes(customers, app):
    """As SQL/JSON paths do in lax mode: what the application nests otherwise is not plain."""
    insert(app, {"phones": {"number": "1"}, "tags": "gold", "contact": [{"email": "a@b.example"}]})
    assert set(envelopes(read(app))) == {"phones.number", "tags", "contact.0.email"}
    insert(app, [{"ssn": "1"}, {"ssn": ["2", "3"]}], number=2)
    assert set(envelopes(read(app, number=2))) == {"0.ssn", "1.ssn"}
    assert read(app, "decrypt", number=2) == [{"ssn": "1"}, {"ssn": ["2", "3"]}]
    for number, document in enumerate(('"text"', "1", "true", "null", "[]", "{}"), start=3):
        app.execute("INSERT INTO customer (id, data) VALUES (%s, %s)", [number, document])
        assert read(app, number=number) == json.loads(document)


def test_decrypt_of_one_path(app):
    insert(app, ANN)
    for path, expected in {
        "ssn": "123-45-6789",
        "name": "Ann",
        "note": ANN["note"],
        "note.text": "calls back",
        "contact": ANN["contact"],
        "contact.email": "ann@example.com",
        "phones[*].number": ["+44 20 7946 0001", "+44 20 7946 0002"],
        "tags[*]": ["gold", "early"],
        "passport": None,
        "no.such.path": None,
    }.items():
        query = "SELECT fieldcrypt.decrypt(data, %s) FROM customer"
        assert app.execute(query, [path]).fetchone() == (expected,), path


# Flags


def test_the_most_specific_flag_wins(customers, app):
    """Account and kind, then account, then kind, then neither."""
    customers.execute(
        "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'globex', 'lead.*')"
    )
    levels = (
        ("lead.note", ""),
        ("lead.tag", ", kind => 'vip'"),
        ("lead.ssn", ", account => 'acme'"),
        ("lead.phone", ", account => 'acme', kind => 'vip'"),
    )
    for field, level in levels:
        customers.execute(
            f"SELECT fieldcrypt.protect_path('customer.data', '{{value}}', '{field}'{level})"
        )
    rows = (("globex", None), ("globex", "vip"), ("acme", None), ("acme", "vip"))
    expected = [field for field, _ in levels]
    for unprotected in (None, *reversed(levels)):
        if unprotected:
            field, level = unprotected
            customers.execute(
                f"SELECT fieldcrypt.unprotect_path('customer.data', '{{value}}'{level})"
            )
            expected = {
                "lead.phone": ["lead.note", "lead.tag", "lead.ssn", "lead.ssn"],
                "lead.ssn": ["lead.note", "lead.tag", "lead.note", "lead.tag"],
                "lead.tag": ["lead.note"] * 4,
                "lead.note": [None] * 4,
            }[field]
        app.execute("DELETE FROM customer")
        for number, (account, kind) in enumerate(rows):
            insert(app, {"value": "4711"}, number, account, kind)
        assert fields_of_values(customers) == expected


def fields_of_values(database):
    rows = database.execute("SELECT data ->> 'value' FROM customer ORDER BY id")
    query = "SELECT fieldcrypt.field_of(%s::fieldcrypt.encrypted_text)"
    return [
        database.value(query, [value]) if value.startswith("fc1:") else None for (value,) in rows
    ]


def test_names_that_are_never_encrypted(customers):
    for path in "created_at", "updated_at", "source", "a.source", "list[*].source", "source[*]":
        with refused("22023") as caught:
            customers.execute(
                "SELECT fieldcrypt.protect_path('customer.data', %s, 'lead.note')", [[path]]
            )
        assert path in texts(caught.value)


def test_keep_plain(customers, app):
    """Further names that are never encrypted."""
    customers.execute("SELECT fieldcrypt.keep_plain('{status,stage}')")
    names = "SELECT name FROM fieldcrypt.plain_names ORDER BY 1"
    assert [name for (name,) in customers.execute(names)] == [
        *("created_at", "source", "stage", "status", "updated_at")
    ]
    for path in "status", "a.stage":
        with refused("22023"):
            customers.execute(
                "SELECT fieldcrypt.protect_path('customer.data', %s, 'lead.note')", [[path]]
            )
    with refused("42501"):
        app.execute("SELECT fieldcrypt.keep_plain('{ssn}')")


def test_overlapping_paths_are_refused(customers):
    """A value cannot be sealed twice."""
    before = customers.value("SELECT count(*) FROM fieldcrypt.paths")
    for path in (
        *("ssn.x", "ssn[*]", "contact", "contact.email.x", "contact[*].email", "phones"),
        *("phones[*]", "phones.number", "tags", "tags.x", "note.a", "[*].ssn"),
    ):
        with refused("22023", "flagged already") as caught:
            customers.execute(
                "SELECT fieldcrypt.protect_path('customer.data', %s, 'lead.note')", [[path]]
            )
        assert path in texts(caught.value)
    assert customers.value("SELECT count(*) FROM fieldcrypt.paths") == before


def test_path_syntax_errors(customers, subtests):
    for path in (
        *("", ".", "a.", ".a", "a..b", "a[", "a]", "a[0]", "a[*", "a[*]b", "a[ * ]", "a[*].", "*."),
        *(
            '"a',
            'a"b',
            'a"b"',
            '"a"b',
            r'"a\x"',
            '"a\\"',
            '"a".',
            "[*",
            "a.[*]",
            " a",
            "a ",
            "a\nb",
        ),
    ):
        with subtests.test(path):
            for function in (
                "protect_path('customer.data', %s, 'lead.note')",
                "unprotect_path('customer.data', %s)",
            ):
                with refused("22023"):
                    customers.execute(f"SELECT fieldcrypt.{function}", [[path]])


PATHS = {
    '"a.b".c': {"a.b": {"c": 1}},
    '"a\\"b"': {'a"b': 1},
    r'"a\\b"': {"a\\b": 1},
    '""': {"": 1},
    'x.""': {"x": {"": 1}},
    '"[*]"': {"[*]": 1},
    "two words": {"two words": 1},
    "$ref.a-b": {"$ref": {"a-b": 1}},
    "ключ.é": {"ключ": {"é": 1}},
    '"quoted"': {"quoted": 1},
    "matrix[*][*]": {"matrix": [[1]]},
    "list[*].a[*].b": {"list": [{"a": [{"b": 1}]}]},
}


def test_path_syntax(customers, app):
    customers.execute(
        "SELECT fieldcrypt.protect_path('customer.data', %s, 'lead.note')", [list(PATHS)]
    )
    query = "SELECT fieldcrypt.decrypt(data, %s)::text FROM customer WHERE id = %s"
    for number, (path, document) in enumerate(PATHS.items()):
        insert(app, document, number)
        assert len(envelopes(read(app, number=number))) == 1, path
        assert read(app, "decrypt", number) == document, path
        assert app.execute(query, [path, number]).fetchone()[0].strip("[]") == "1", path


def test_manage(customers, session):
    """A tenant's administrator flags paths of his account, with fields that he manages."""
    customers.execute("SELECT fieldcrypt.grant_access('manager', '{manage}', 'acme', 'lead.note')")
    manager = session("manager")
    protect = "SELECT fieldcrypt.protect_path('customer.data', '{plan}', 'lead.note'"
    unprotect = "SELECT fieldcrypt.unprotect_path('customer.data', '{plan}'"
    manager.execute(f"{protect}, account => 'acme')")
    manager.execute(f"{protect}, account => 'acme', kind => 'vip')")
    for statement in (
        f"{protect})",
        f"{protect}, account => 'globex')",
        f"{protect}, kind => 'vip')",
        "SELECT fieldcrypt.protect_path('customer.data', '{x}', 'lead.tag', account => 'acme')",
        "SELECT fieldcrypt.unprotect_path('customer.data', '{ssn}')",
        "SELECT fieldcrypt.keep_plain('{x}')",
        "SELECT fieldcrypt.protect_jsonb('customer', 'data', 'x', 'account_id')",
        "SELECT fieldcrypt.unprotect_jsonb('customer', 'data')",
    ):
        with refused("42501"):
            manager.execute(statement)
    insert(session(), {"plan": "A"})
    assert read(session())["plan"].startswith("fc1:")
    manager.execute(f"{unprotect}, account => 'acme')")
    manager.execute(f"{unprotect}, account => 'acme', kind => 'vip')")
    insert(session(), {"plan": "A"}, number=2)
    assert read(session(), number=2) == {"plan": "A"}
    # the right to flag is no right to read or write
    with refused("42501"):
        session("manager").execute("SELECT fieldcrypt.encrypt('1', 'lead.note', 'acme')")


def test_unprotect_path(customers, app):
    """New values are plain from then on; envelopes that stand there stay readable."""
    insert(app, {"ssn": "1", "passport": "2"})
    before = read(app)
    customers.execute("SELECT fieldcrypt.unprotect_path('customer.data', '{passport}')")
    app.execute("UPDATE customer SET data = data || '{\"x\": 1}'")
    assert read(app) == {**before, "x": 1}
    assert read(app, "decrypt") == {"ssn": "1", "passport": "2", "x": 1}
    insert(app, {"ssn": "1", "passport": "2"}, number=2)
    assert set(envelopes(read(app, number=2))) == {"ssn"}
    state = "SELECT state FROM fieldcrypt.paths WHERE path = 'passport'"
    assert customers.value(state) == "retired"
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{passport}', 'lead.note')")
    assert customers.value(state) == "active"


def test_a_path_changes_its_field(customers, app, session):
    """What was sealed before stays under its old field until it changes, and is read by it."""
    insert(app, {"ssn": "123-45-6789"})
    before = read(app)
    customers.execute("SELECT fieldcrypt.unprotect_path('customer.data', '{ssn}')")
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{ssn}', 'lead.phone')")
    clerk = session("clerk")
    clerk.execute("UPDATE customer SET data = data || '{\"x\": 1}'")
    clerk.execute("UPDATE customer SET data = fieldcrypt.reveal(data)")
    assert read(app) == {**before, "x": 1}
    assert read(clerk, "reveal") == {"ssn": "****6789", "x": 1}
    assert read(app, "decrypt") == {"ssn": "123-45-6789", "x": 1}
    update(app, {"ssn": "+44 20 7946 0001"})
    query = "SELECT fieldcrypt.field_of((data ->> 'ssn')::fieldcrypt.encrypted_text) FROM customer"
    assert customers.value(query) == "lead.phone"
    assert read(app, "decrypt") == {"ssn": "+44 20 7946 0001"}


def test_flags_take_effect_at_once(customers, session):
    """Also on prepared statements and inside transactions; rolled back, they have no effect."""
    app = session()
    app.execute("SET plan_cache_mode = force_generic_plan")
    flag = "SELECT fieldcrypt.protect_path('customer.data', '{plan}', 'lead.note')"
    unflag = "SELECT fieldcrypt.unprotect_path('customer.data', '{plan}')"

    def is_sealed():
        (data,) = app.execute(
            'INSERT INTO customer (id, data) VALUES (1, \'{"plan": "gold"}\')'
            " ON CONFLICT (id) DO UPDATE SET data = excluded.data RETURNING data",
            prepare=True,
        ).fetchone()
        return "plan" in envelopes(data)

    assert not is_sealed()
    for isolation in "READ COMMITTED", "SERIALIZABLE":
        with app.transaction():
            app.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
            assert not is_sealed()
            customers.execute(flag)
            assert is_sealed()
        customers.execute(unflag)
        assert not is_sealed()
    with customers.conn.transaction(force_rollback=True):
        customers.execute(flag)
        customers.execute("SET LOCAL ROLE app")
        insert(customers, {"plan": "gold"}, number=2)
        assert "plan" in envelopes(read(customers, number=2))
        assert not is_sealed()
    customers.execute("SET ROLE app")
    insert(customers, {"plan": "gold"}, number=2)
    customers.execute("RESET ROLE")
    assert read(customers, number=2) == {"plan": "gold"}


def test_a_field_with_flagged_paths_is_in_use(customers):
    with refused("55000", 'field "lead.ssn" is in use', hint="customer.data"):
        customers.execute("SELECT fieldcrypt.drop_field('lead.ssn')")


def test_an_irreversible_field_stays_protected(customers, app):
    customers.execute("SELECT fieldcrypt.create_field('lead.event', reversible => false)")
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{event}', 'lead.event')")
    with refused("55000", "lead.event"):
        customers.execute("SELECT fieldcrypt.unprotect_path('customer.data', '{event}')")
    insert(app, {"event": "bought"})
    assert set(envelopes(read(app))) == {"event"}
    assert read(app, "decrypt") == {"event": "bought"}


def test_what_the_views_show(customers):
    assert customers.execute(
        "SELECT relation::text, column_name, name, account_column, kind_column, blob_column,"
        " enabled FROM fieldcrypt.documents"
    ).fetchall() == [("customer", "data", "customer.data", "account_id", "kind", None, True)]
    assert customers.execute(
        "SELECT document, path, field, account, kind, nulls, state, created_by"
        " FROM fieldcrypt.paths ORDER BY path"
    ).fetchall() == [
        ("customer.data", path, field, "*", None, "keep", "active", "postgres")
        for path, field in (
            ("contact.email", "lead.email"),
            ("note", "lead.note"),
            ("passport", "lead.note"),
            ("phones[*].number", "lead.phone"),
            ("ssn", "lead.ssn"),
            ("tags[*]", "lead.tag"),
        )
    ]


def test_who_may_protect_a_table(customers, session):
    """Its owner; flagging paths is for field administrators."""
    app = session()
    app.execute("CREATE TABLE mine (id int, account text, data jsonb)")
    protect = "SELECT fieldcrypt.protect_jsonb('mine', 'data', 'mine.data', 'account')"
    customers.execute("GRANT fieldcrypt_admin TO clerk")
    try:
        clerk = session("clerk")
        with refused("42501"):
            clerk.execute(protect)
        app.execute(protect)
        flag = "SELECT fieldcrypt.protect_path('mine.data', '{ssn}', 'lead.ssn')"
        with refused("42501"):
            app.execute(flag)
        clerk.execute(flag)
        app.execute("INSERT INTO mine VALUES (1, 'acme', '{\"ssn\": \"1\"}')")
        assert set(envelopes(read(app, table="mine"))) == {"ssn"}
        with refused("42501"):
            clerk.execute("SELECT fieldcrypt.unprotect_jsonb('mine', 'data')")
        app.execute("SELECT fieldcrypt.unprotect_jsonb('mine', 'data')")
        app.execute("INSERT INTO mine VALUES (2, 'acme', '{\"ssn\": \"1\"}')")
        assert read(app, number=2, table="mine") == {"ssn": "1"}
    finally:
        customers.execute("REVOKE fieldcrypt_admin FROM clerk")


CANNOT_BE_PROTECTED = [
    ("'customer', 'nothing', 'other.data', 'account_id'", "42703"),
    ("'customer', 'data', 'other.data', 'nothing'", "42703"),
    ("'customer', 'kind', 'other.data', 'account_id'", "42809"),
    ("'shape', 'data', 'shape.data', 'derived'", "0A000"),
    ("'shape', 'data', 'shape.data', 'account', kind_column => 'derived'", "0A000"),
    ("'shape', 'data', 'shape.data', 'account', blob_column => 'other'", "42809"),
    ("'shape', 'data', 'No Name!', 'account'", "42602"),
]


def test_tables_that_cannot_be_protected(customers, subtests):
    customers.execute("""
        CREATE TABLE shape (account text, data jsonb, other jsonb,
            derived text GENERATED ALWAYS AS (account || 'x') STORED)
    """)
    for arguments, code in CANNOT_BE_PROTECTED:
        with subtests.test(arguments):
            with refused(code):
                customers.execute(f"SELECT fieldcrypt.protect_jsonb({arguments})")


def test_names_and_types_of_every_kind(customers, session):
    """Tables and columns with names to be quoted, accounts that are numbers, two documents."""
    customers.execute("""
        SELECT fieldcrypt.create_account('42');
        SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '42', 'lead.*');
        CREATE SCHEMA "odd ""schema";
        CREATE TYPE level AS ENUM ('low', 'high');
        CREATE TABLE "odd ""schema"."Odd.Table" (
            "Account Id" bigint, "kind'" level, "da""ta" jsonb, "%s {}" jsonb);
        SELECT fieldcrypt.protect_jsonb('"odd ""schema"."Odd.Table"', 'da"ta', 'odd.first',
            'Account Id', $$kind'$$);
        SELECT fieldcrypt.protect_jsonb('"odd ""schema"."Odd.Table"', '%s {}', 'odd.second',
            account_column => 'Account Id');
        SELECT fieldcrypt.protect_path('odd.first', '{ssn}', 'lead.ssn', kind => 'high');
        SELECT fieldcrypt.protect_path('odd.second', '{ssn}', 'lead.note', account => '42');
        GRANT USAGE ON SCHEMA "odd ""schema" TO app;
        GRANT ALL ON "odd ""schema"."Odd.Table" TO app;
    """)
    app = session()
    row = """
        INSERT INTO "odd ""schema"."Odd.Table" VALUES (42, %s, '{"ssn": "1"}', '{"ssn": "1"}')
        RETURNING "da""ta"
    """
    high, low = (app.execute(row, [kind]).fetchone()[0] for kind in ("high", "low"))
    assert set(envelopes(high)) == {"ssn"} and low == {"ssn": "1"}
    app.execute("""UPDATE "odd ""schema"."Odd.Table" SET "kind'" = 'high'""")
    query = """
        SELECT fieldcrypt.decrypt("da""ta"), fieldcrypt.decrypt("%s {}"),
            "da""ta" ->> 'ssn' LIKE 'fc1:%', "%s {}" ->> 'ssn' LIKE 'fc1:%'
        FROM "odd ""schema"."Odd.Table"
    """
    assert app.execute(query).fetchall() == [({"ssn": "1"}, {"ssn": "1"}, True, True)] * 2
    with refused("42501", 'account "43"'):
        app.execute(row.replace("42", "43"), ["high"])
    customers.execute("""
        SELECT fieldcrypt.unprotect_jsonb('"odd ""schema"."Odd.Table"', 'da"ta');
        ALTER TABLE "odd ""schema"."Odd.Table" RENAME TO plain_name
    """)
    app.execute(row.replace('"Odd.Table"', "plain_name"), ["high"])
    assert customers.value(
        """SELECT "da""ta" FROM "odd ""schema".plain_name LIMIT 1 OFFSET 2"""
    ) == {"ssn": "1"}


# Rights


def test_reveal_and_decrypt_by_grant(app, session):
    insert(app, ANN)
    masked = {
        **ANN,
        "ssn": "****6789",
        "contact": {"email": "a****@example.com", "city": "Rome"},
        "phones": [
            {"kind": "home", "number": "****0001"},
            {"kind": "work", "number": "****0002"},
        ],
        "tags": [HIDDEN, HIDDEN],
        "note": HIDDEN,
    }
    hidden = {
        **masked,
        "ssn": HIDDEN,
        "contact": {"email": HIDDEN, "city": "Rome"},
        "phones": [{"kind": "home", "number": HIDDEN}, {"kind": "work", "number": HIDDEN}],
    }
    for user, revealed in {
        "app": ANN,
        "clerk": masked,
        "finder": hidden,
        "writer": hidden,
        "outsider": hidden,
        "app_globex": hidden,
        "postgres": hidden,
    }.items():
        connection = session(user)
        assert read(connection, "reveal") == revealed, user
        if user != "app":
            with refused("42501", "permission denied to decrypt field"):
                read(connection, "decrypt")
        path = "SELECT fieldcrypt.decrypt(data, %s) FROM customer"
        assert connection.execute(path, ["name"]).fetchone() == ("Ann",)


def test_grants_are_per_field(customers, app, session):
    insert(app, ANN)
    customers.execute("SELECT fieldcrypt.grant_access('outsider', '{decrypt}', 'acme', 'lead.ssn')")
    customers.execute("SELECT fieldcrypt.grant_access('outsider', '{mask}', 'acme', 'lead.email')")
    outsider = session("outsider")
    revealed = read(outsider, "reveal")
    assert revealed["ssn"] == "123-45-6789"
    assert revealed["contact"]["email"] == "a****@example.com"
    assert revealed["note"] == HIDDEN
    with refused("42501", "lead"):
        read(outsider, "decrypt")
    path = "SELECT fieldcrypt.decrypt(data, %s) FROM customer"
    assert outsider.execute(path, ["ssn"]).fetchone() == ("123-45-6789",)
    with refused("42501", "lead.email"):
        outsider.execute(path, ["contact.email"])


def test_what_a_hidden_value_looks_like(customers, session):
    """As the policy of its field says; written back, each form keeps the value."""
    customers.execute("""
        SELECT fieldcrypt.create_field('form.cipher', hidden => 'ciphertext');
        SELECT fieldcrypt.create_field('form.none', mask => 'null');
        SELECT fieldcrypt.create_field('form.zero', mask => 'zero');
        SELECT fieldcrypt.create_field('form.year', mask => 'year');
        SELECT fieldcrypt.create_field('form.pan', mask => 'pan');
        SELECT fieldcrypt.protect_path('customer.data', '{cipher}', 'form.cipher');
        SELECT fieldcrypt.protect_path('customer.data', '{none}', 'form.none');
        SELECT fieldcrypt.protect_path('customer.data', '{zero}', 'form.zero');
        SELECT fieldcrypt.protect_path('customer.data', '{born}', 'form.year');
        SELECT fieldcrypt.protect_path('customer.data', '{card}', 'form.pan');
        SELECT fieldcrypt.grant_access('app', '{encrypt,decrypt}', 'acme', 'form.*');
        SELECT fieldcrypt.grant_access('clerk', '{encrypt,mask}', 'acme', 'form.*');
        SELECT fieldcrypt.grant_access('writer', '{encrypt}', 'acme', 'form.*');
    """)
    document = {"cipher": "a", "none": "b", "zero": 1, "born": "1990-12-31", "card": "4" * 16}
    app = session()
    insert(app, document)
    before = read(app)
    cipher = {"cipher": before["cipher"]}
    for user, shown in {
        "clerk": {
            **{"none": None, "zero": "0", "born": "1990-**-**", "card": "444444******4444"},
            **cipher,
        },
        "writer": {**dict.fromkeys(document, HIDDEN), **cipher},
    }.items():
        connection = session(user)
        assert read(connection, "reveal") == shown
        connection.execute("UPDATE customer SET data = fieldcrypt.reveal(data)")
        assert read(app) == before
    assert read(app, "decrypt") == document


def test_writing_needs_encrypt(customers, session):
    """For each new value; a document without flagged values needs no right."""
    outsider = session("outsider")
    insert(outsider, {"name": "Ann", "ssn": None})
    for document in ANN, {"ssn": "1"}, {"phones": [{"number": 1}]}:
        with refused("42501", "permission denied to encrypt field"):
            insert(outsider, document, number=2)
    with refused("42501", "permission denied to encrypt field"):
        update(outsider, {"ssn": "1"})
    insert(session(), ANN, number=3)
    outsider.execute('UPDATE customer SET data = data || \'{"name": "Bea"}\' WHERE id = 3')
    outsider.execute("UPDATE customer SET data = data - 'ssn' WHERE id = 3")
    assert set(envelopes(read(outsider, number=3))) == set(SEALED) - {"ssn"}


def test_wrong_account(customers, app, session):
    """The row's account counts, not the session's."""
    with refused("42501", 'account "globex"'):
        insert(app, ANN, account="globex")
    customers.execute("SELECT fieldcrypt.grant_access('outsider', '{encrypt}', '*', '*')")
    with refused("42704", 'account "nobody" does not exist'):
        insert(session("outsider"), ANN, account="nobody")
    customers.execute("ALTER TABLE customer ALTER account_id DROP NOT NULL")
    with refused("23514", "account"):
        insert(app, ANN, account=None)
    insert(app, {"name": "no flagged value, no key"}, account="nobody")
    insert(session(account="globex"), ANN, number=2)
    # a row does not take its envelopes along to another account
    for connection in app, customers:
        with refused("23514", "another account"):
            connection.execute("UPDATE customer SET account_id = 'globex' WHERE id = 2")
    assert read(app, "decrypt", number=2) == ANN


def test_disabled_account(customers, app):
    insert(app, ANN)
    stored = read(app)
    customers.execute("SELECT fieldcrypt.disable_account('acme')")
    for statement in (
        'INSERT INTO customer (id, data) VALUES (2, \'{"ssn": "1"}\')',
        'UPDATE customer SET data = \'{"ssn": "1"}\'',
        "SELECT fieldcrypt.decrypt(data) FROM customer",
        "SELECT fieldcrypt.decrypt(data, 'ssn') FROM customer",
        "SELECT fieldcrypt.search_tokens('lead.ssn', '1', 'acme')",
    ):
        with refused("55000", 'account "acme" is disabled'):
            app.execute(statement)
    assert read(app, "reveal")["ssn"] == HIDDEN
    assert read(app, "reveal")["name"] == "Ann"
    assert read(app) == stored
    customers.execute("SELECT fieldcrypt.enable_account('acme')")
    assert read(app, "decrypt") == ANN


# Writing


def insert_literal(app):
    app.execute(f"INSERT INTO customer (id, data) VALUES (1, '{json.dumps(ANN)}')")


def insert_text_parameter(app):
    app.execute("INSERT INTO customer (id, data) VALUES (1, %s)", [json.dumps(ANN)])


def insert_binary_parameter(app):
    app.execute("INSERT INTO customer (id, data) VALUES (1, %b)", [Jsonb(ANN)])


def insert_json(app):
    app.execute("INSERT INTO customer (id, data) VALUES (1, %s::json::jsonb)", [Json(ANN)])


def insert_many(app):
    with app.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO customer (id, data) VALUES (%s, %s)", [[i, Jsonb(ANN)] for i in (1, 2, 3)]
        )


def insert_built_by_functions(app):
    app.execute(
        "INSERT INTO customer (id, data)"
        " SELECT 1, %s::jsonb - 'ssn' || jsonb_build_object('ssn', %s::text)",
        [Jsonb(ANN), ANN["ssn"]],
    )


def insert_record(app):
    app.execute(
        "INSERT INTO customer SELECT * FROM jsonb_populate_record(NULL::customer, %s)",
        [Jsonb({"id": 1, "account_id": "acme", "data": ANN})],
    )


def insert_from_unprotected_table(app):
    app.execute("CREATE TEMP TABLE incoming (id int, data jsonb)")
    app.execute("INSERT INTO incoming VALUES (1, %s), (2, %s)", [Jsonb(ANN), Jsonb(ANN)])
    app.execute("INSERT INTO customer (id, data) SELECT id, data FROM incoming")


def insert_decrypted_copy(app):
    insert(app, ANN)
    app.execute("INSERT INTO customer (id, data) SELECT 2, fieldcrypt.decrypt(data) FROM customer")


def insert_in_cte(app):
    app.execute(
        "WITH new AS (INSERT INTO customer (id, data) VALUES (1, %s) RETURNING id)"
        " UPDATE customer SET kind = 'x' WHERE id IN (SELECT id FROM new)",
        [Jsonb(ANN)],
    )


def insert_prepared(app):
    app.execute("SET plan_cache_mode = force_generic_plan")
    for number in 1, 2:
        app.execute(
            "INSERT INTO customer (id, data) VALUES (%s, %s)", [number, Jsonb(ANN)], prepare=True
        )


def insert_through_view(app):
    app.execute("CREATE TEMP VIEW v AS SELECT id, data FROM customer")
    app.execute("INSERT INTO v VALUES (1, %s)", [Jsonb(ANN)])


def insert_in_plpgsql(app):
    app.execute(
        "CREATE FUNCTION pg_temp.new(document jsonb) RETURNS void LANGUAGE plpgsql AS"
        " 'BEGIN INSERT INTO customer (id, data) VALUES (1, document); END'"
    )
    app.execute("SELECT pg_temp.new(%s)", [Jsonb(ANN)])


def upsert(app):
    for document in {"ssn": "1"}, ANN, ANN:
        app.execute(
            "INSERT INTO customer (id, data) VALUES (1, %s)"
            " ON CONFLICT (id) DO UPDATE SET data = excluded.data",
            [Jsonb(document)],
        )


def upsert_merging(app):
    insert(app, {**ANN, "ssn": "1", "tags": []})
    app.execute(
        "INSERT INTO customer (id, data) VALUES (1, %s)"
        " ON CONFLICT (id) DO UPDATE SET data = customer.data || excluded.data",
        [Jsonb({"ssn": ANN["ssn"], "tags": ANN["tags"]})],
    )


def merge(app):
    for document in {"ssn": "1"}, ANN:
        app.execute(
            "MERGE INTO customer AS c USING (VALUES (1, %s::jsonb)) AS new (id, data)"
            " ON c.id = new.id WHEN MATCHED THEN UPDATE SET data = new.data"
            " WHEN NOT MATCHED THEN INSERT (id, data) VALUES (new.id, new.data)",
            [Jsonb(document)],
        )


def update_parameter(app):
    insert(app, {"ssn": "1"})
    update(app, ANN)


def update_from(app):
    insert(app, {"ssn": "1"})
    app.execute(
        "UPDATE customer SET data = new.data FROM (VALUES (1, %s::jsonb)) AS new (id, data)"
        " WHERE customer.id = new.id",
        [Jsonb(ANN)],
    )


def update_by_jsonb_set(app):
    insert(app, {**ANN, "ssn": "1"})
    app.execute("UPDATE customer SET data = jsonb_set(data, '{ssn}', %s)", [Jsonb(ANN["ssn"])])


def update_by_subscript(app):
    insert(app, {**ANN, "ssn": "1", "contact": {"email": "x", "city": "Rome"}})
    app.execute(
        "UPDATE customer SET data['ssn'] = %s, data['contact']['email'] = %s",
        [Jsonb(ANN["ssn"]), Jsonb(ANN["contact"]["email"])],
    )


def update_twice(app):
    """The whole document goes out as the role may see it, and comes back."""
    insert(app, ANN)
    app.execute("UPDATE customer SET data = fieldcrypt.decrypt(data)")
    app.execute("UPDATE customer SET data = fieldcrypt.reveal(data)")


def update_where_current_of(app):
    insert(app, {"ssn": "1"})
    with app.transaction():
        app.execute("DECLARE each CURSOR FOR SELECT id FROM customer FOR UPDATE")
        app.execute("FETCH each")
        app.execute("UPDATE customer SET data = %s WHERE CURRENT OF each", [Jsonb(ANN)])


def copy_text(app):
    copy_rows(app, "")


def copy_csv(app):
    copy_rows(app, "(FORMAT csv)")


def copy_rows(app, options):
    text = json.dumps(ANN)
    quoted = '"' + text.replace('"', '""') + '"' if options else text
    separator = "," if options else "\t"
    with app.cursor().copy(f"COPY customer (id, data) FROM STDIN {options}") as stream:
        stream.write(f"1{separator}{quoted}\n")


def copy_binary(app):
    with app.cursor().copy("COPY customer (id, data) FROM STDIN (FORMAT binary)") as stream:
        stream.set_types(["int4", "jsonb"])
        stream.write_row([1, Jsonb(ANN)])


WAYS = [
    *(insert_literal, insert_text_parameter, insert_binary_parameter, insert_json, insert_many),
    *(insert_built_by_functions, insert_record, insert_from_unprotected_table),
    *(insert_decrypted_copy, insert_in_cte, insert_prepared, insert_through_view),
    *(insert_in_plpgsql, upsert, upsert_merging, merge, update_parameter, update_from),
    *(update_by_jsonb_set, update_by_subscript, update_twice, update_where_current_of),
    *(copy_text, copy_csv, copy_binary),
]


@pytest.mark.every_version
def test_each_way_of_writing(customers, session, subtests):
    """What is flagged is sealed once, and comes back; everything else is as it was written."""
    for write in WAYS:
        with subtests.test(write.__name__):
            app = session()
            app.execute("DELETE FROM customer")
            write(app)
            rows = customers.execute("SELECT data FROM customer").fetchall()
            assert rows
            for (stored,) in rows:
                assert set(envelopes(stored)) == set(SEALED)
                assert not [word for word in SECRETS if word in json.dumps(stored)]
            decrypted = app.execute("SELECT fieldcrypt.decrypt(data) FROM customer").fetchall()
            assert decrypted == [(ANN,)] * len(rows)
            app.close()


def test_each_row_has_ciphertext_of_its_own(app):
    app.execute(
        "INSERT INTO customer (id, data) SELECT i, %s FROM generate_series(1, 1000) AS i",
        [Jsonb({"ssn": "1", "tags": ["1", "1"]})],
    )
    rows = app.execute("SELECT data FROM customer").fetchall()
    assert len({value for (data,) in rows for value in envelopes(data).values()}) == 3000


def test_returning(app):
    row = app.execute(
        "INSERT INTO customer (id, data) VALUES (1, %s)"
        " RETURNING data, fieldcrypt.reveal(data), fieldcrypt.decrypt(data, 'ssn')",
        [Jsonb(ANN)],
    ).fetchone()
    assert row == (read(app), ANN, ANN["ssn"])
    assert set(envelopes(row[0])) == set(SEALED)


@pytest.mark.parametrize("user", ["app", "clerk"])
def test_stored_envelopes_of_another_row_are_refused(app, session, user):
    """INSERT … SELECT and UPDATE … FROM of stored documents: the values have to be decrypted."""
    insert(app, ANN)
    insert(app, {"ssn": "1"}, number=2)
    connection = session(user)
    before = connection.execute("SELECT * FROM customer ORDER BY id").fetchall()
    for statement in (
        "INSERT INTO customer (id, data) SELECT 3, data FROM customer WHERE id = 1",
        "UPDATE customer AS c SET data = o.data FROM customer AS o WHERE c.id = 2 AND o.id = 1",
        "UPDATE customer AS c SET data = jsonb_set(c.data, '{name}', o.data -> 'ssn')"
        " FROM customer AS o WHERE c.id = 2 AND o.id = 1",
    ):
        with refused("42501", "not accepted as input from this role"):
            connection.execute(statement)
    with refused("23514", 'belongs to field "lead.ssn", not to field "lead.note"'):
        connection.execute(
            "UPDATE customer SET data = jsonb_set(data, '{passport}', data -> 'ssn')"
        )
    assert connection.execute("SELECT * FROM customer ORDER BY id").fetchall() == before


def test_no_document_at_all(customers, session):
    """SQL NULL needs no right, and comes back."""
    outsider = session("outsider")
    outsider.execute("INSERT INTO customer (id, account_id, data) VALUES (1, 'nobody', NULL)")
    outsider.execute("UPDATE customer SET data = NULL, kind = 'x'")
    query = (
        "SELECT fieldcrypt.reveal(data), fieldcrypt.decrypt(data), fieldcrypt.decrypt(data, 'ssn'),"
        " fieldcrypt.tokens(data), fieldcrypt.token(data, 'lead.ssn') FROM customer"
    )
    assert outsider.execute(query).fetchone() == (None,) * 5
    app = session()
    insert(app, ANN, number=2)
    app.execute("UPDATE customer SET data = NULL WHERE id = 2")
    update(app, ANN, number=2)
    assert read(app, "decrypt", number=2) == ANN


def test_depth(app):
    """However deep a flagged value is, it is sealed or refused."""
    insert_text = "INSERT INTO customer (id, data) VALUES (%s, %s)"
    for depth in 10, 100, 1500:
        document = "[" * depth + '{"ssn": "secret"}' + "]" * depth
        app.execute(insert_text, [depth, document])
        sealed, exact = app.execute(
            "SELECT data::text LIKE '%%fc1:%%' AND data::text NOT LIKE '%%secret%%',"
            " fieldcrypt.decrypt(data)::text = %s FROM customer WHERE id = %s",
            [document, depth],
        ).fetchone()
        assert sealed and exact, depth
    document = "[" * 2100 + '{"ssn": "secret"}' + "]" * 2100
    with pytest.raises(psycopg.Error) as caught:
        app.execute(insert_text, [0, document])
    assert caught.value.sqlstate in ("54000", "54001") and "secret" not in texts(caught.value)


def test_concurrent_updates(customers, app, session):
    """The second waits for the first, and keeps what that has sealed."""
    insert(app, ANN)
    writer = session("writer")
    for isolation in "READ COMMITTED", "REPEATABLE READ":
        with ThreadPoolExecutor(1) as thread:
            with app.transaction():
                update(app, {**ANN, "ssn": isolation})
                writer.execute(f"SET default_transaction_isolation = '{isolation.lower()}'")
                second = thread.submit(
                    writer.execute, "UPDATE customer SET data = data || '{\"x\": 1}'"
                )
                wait_until(
                    customers,
                    f"SELECT count(*) > 0 FROM pg_locks WHERE pid = {writer.info.backend_pid}"
                    " AND NOT granted",
                )
            if isolation == "READ COMMITTED":
                second.result()
                assert read(app, "decrypt") == {**ANN, "ssn": isolation, "x": 1}
            else:
                with refused("40001"):
                    second.result()
                assert read(app, "decrypt") == {**ANN, "ssn": isolation}


# Values that stay as they are


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        ("app", set(SEALED)),
        ("finder", set(SEALED) - {"note", "tags.0", "tags.1"}),
        ("writer", set()),
        ("clerk", set()),
    ],
)
def test_equal_values_keep_their_ciphertext(app, session, user, kept):
    """Only for roles that could tell anyway that the values are equal; scalars in an array only for
    those to whom they are no masks."""
    insert(app, ANN)
    before = envelopes(read(app))
    update(session(user), ANN)
    after = envelopes(read(app))
    assert {path for path in SEALED if before[path] == after[path]} == kept
    assert read(app, "decrypt") == ANN


@pytest.mark.parametrize("user", ["app", "finder", "writer", "clerk", "outsider"])
def test_untouched_values_keep_their_ciphertext(app, session, user):
    insert(app, ANN)
    before = read(app)
    connection = session(user)
    connection.execute("UPDATE customer SET data = data || '{\"age\": 7}', kind = 'x'")
    assert read(app) == {**before, "age": 7}
    connection.execute("UPDATE customer SET data = data")
    assert read(app) == {**before, "age": 7}


def test_equal_values_in_arrays_keep_their_ciphertext(app):
    """Wherever in the array they are now."""
    insert(app, ANN)
    before = set(envelopes(read(app)).values())
    changed = copy.deepcopy(ANN)
    changed["phones"].reverse()
    changed["phones"].append({"kind": "fax", "number": "3"})
    update(app, changed)
    after = read(app)
    assert read(app, "decrypt") == changed
    assert len(set(envelopes(after).values()) - before) <= 3


# Masks written back


def put_back(connection, change, number=1):
    """What an application does: reads what it may see, changes something, writes it all."""
    document = read(connection, "reveal", number)
    change(document)
    update(connection, document, number)


def in_place(**changes):
    return lambda document: document.update(changes)


KEPT = {
    "nothing": lambda d: None,
    "an unflagged value": in_place(name="Anna"),
    "a flagged value": in_place(ssn="987-65-4321"),
    "a flagged value to null": in_place(ssn=None),
    "a flagged value to a number": in_place(ssn=987654321),
    "a flagged value added": in_place(passport="X1"),
    "a flagged value removed": lambda d: d.pop("ssn"),
    "elements reordered": lambda d: d["phones"].reverse(),
    "an element removed": lambda d: d["phones"].pop(0),
    "all elements removed": lambda d: d["phones"].clear(),
    "an element added in front": lambda d: d["phones"].insert(0, {"kind": "fax", "number": "3"}),
    "an element without the key added": lambda d: d["phones"].append({"kind": "fax"}),
    "a value in an element": lambda d: d["phones"][1].update(number="3"),
    "an element replaced": lambda d: d["phones"].__setitem__(0, {"kind": "fax", "number": "3"}),
    "scalars replaced": in_place(tags=["new", "newer", "newest"]),
    "scalars removed": in_place(tags=[]),
    "an object replaced": in_place(note={"text": "called"}),
}


@pytest.mark.parametrize("user", ["clerk", "writer", "finder"])
def test_masks_written_back_keep_the_values(app, session, user, subtests):
    connection = session(user)
    for changed, change in KEPT.items():
        with subtests.test(changed):
            app.execute("DELETE FROM customer")
            insert(app, ANN)
            before = envelopes(read(app))
            put_back(connection, change)
            expected = copy.deepcopy(ANN)
            change(expected)
            assert read(app, "decrypt") == expected
            if changed == "nothing":
                assert envelopes(read(app)) == before


# Where the mask is and what is around it does not say for sure which value it stands for.
REFUSED = {
    "a mask added": ("passport", in_place(passport=HIDDEN)),
    "a mask within a text": ("ssn", in_place(ssn=f"x {HIDDEN}")),
    "a mask in an object": ("note", in_place(note={"text": HIDDEN})),
    "a mask in a new element": (
        "phones[*].number",
        lambda d: d["phones"].append({"kind": "fax", "number": HIDDEN}),
    ),
    "an element with another remainder": (
        "phones[*].number",
        lambda d: d["phones"].__setitem__(0, {"kind": "mobile", "number": HIDDEN}),
    ),
    "an element with another key": (
        "phones[*].number",
        lambda d: d["phones"].__setitem__(0, {"kind": "home", "x": 1, "number": HIDDEN}),
    ),
    "scalars shortened": ("tags[*]", lambda d: d["tags"].pop()),
    "scalars extended": ("tags[*]", lambda d: d["tags"].append(HIDDEN)),
    "scalars extended by a value": ("tags[*]", lambda d: d["tags"].append("new")),
    "scalars partly masked": ("tags[*]", lambda d: d["tags"].__setitem__(0, "new")),
    "scalars with one mask": ("tags[*]", in_place(tags=[HIDDEN])),
    "an array made an object": ("phones[*].number", in_place(phones={"number": HIDDEN})),
}


@pytest.mark.parametrize("user", ["clerk", "writer", "finder"])
def test_masks_that_could_be_of_several_values_are_refused(app, session, user, subtests):
    insert(app, ANN)
    before = read(app)
    connection = session(user)
    for changed, (path, change) in REFUSED.items():
        with subtests.test(changed):
            with refused("23514") as caught:
                put_back(connection, change)
            assert names(texts(caught.value), path)
            assert read(app) == before


PARTIAL = {
    "swapped": lambda d: swap(d["phones"], "number"),
    "of another path": lambda d: d.update(passport=d["ssn"]),
    "with another remainder": lambda d: d["phones"][0].update(kind="mobile"),
    "in a new element": lambda d: d["phones"].append({**d["phones"][0], "kind": "fax"}),
    "in the place of another": lambda d: d["phones"][0].update(number=d["ssn"]),
}


def swap(elements, key):
    elements[0][key], elements[1][key] = elements[1][key], elements[0][key]


def test_partial_masks_never_replace_a_value(app, session, subtests):
    """A mask such as ****6789 that is moved is no new value."""
    insert(app, ANN)
    before = read(app)
    clerk = session("clerk")
    for changed, change in PARTIAL.items():
        with subtests.test(changed):
            with refused("23514"):
                put_back(clerk, change)
            assert read(app) == before


@pytest.mark.parametrize("user", ["clerk", "writer"])
def test_twins_in_an_array(app, session, user):
    """Elements that differ only in what is flagged: a mask could be of either."""
    twins = {"phones": [{"kind": "home", "number": f"+44 20 7946 000{i}"} for i in (1, 1, 2)]}
    insert(app, twins)
    before = read(app)
    connection = session(user)
    for change in (
        lambda d: d["phones"].reverse(),
        lambda d: d["phones"].pop(0),
        lambda d: d["phones"].pop(),
        lambda d: d["phones"].append(d["phones"][0]),
    ):
        with refused("23514") as caught:
            put_back(connection, change)
        assert names(texts(caught.value), "phones[*].number")
    assert read(app) == before
    connection.execute("UPDATE customer SET data = data || '{\"x\": 1}'")
    assert read(app) == {**before, "x": 1}
    put_back(connection, lambda d: d["phones"].clear())
    assert read(app, "decrypt") == {"phones": [], "x": 1}


def test_masks_in_new_rows_are_refused(app, session):
    for user in "clerk", "writer":
        for document in (
            {"ssn": HIDDEN},
            {"contact": {"email": f"{HIDDEN}@example.com"}},
            {"tags": ["a", HIDDEN]},
            {"note": {"text": [HIDDEN]}},
        ):
            with refused("23514"):
                insert(session(user), document)
    insert(session("writer"), {"name": HIDDEN})
    # whoever may decrypt does not see masks, so that this is a value
    insert(app, {"ssn": HIDDEN}, number=2)
    assert read(app, "decrypt", number=2) == {"ssn": HIDDEN}


def test_masks_of_another_row_are_refused(app, session):
    insert(app, ANN)
    insert(app, {**ANN, "ssn": "987-65-4321", "phones": []}, number=2)
    clerk = session("clerk")
    with refused("23514"):
        update(clerk, read(clerk, "reveal", number=1), number=2)
    assert read(app, "decrypt", number=2)["ssn"] == "987-65-4321"


@pytest.mark.parametrize("account", ["acme", "*row*"])
def test_masks_written_back_to_typed_columns(customers, session, account):
    """In a table of protect_table()."""
    customers.execute("""
        CREATE TABLE lead (id int PRIMARY KEY, account_id text NOT NULL DEFAULT 'acme',
            name text, ssn fieldcrypt.encrypted_text('lead.ssn'),
            note fieldcrypt.encrypted_text('lead.note'));
        SELECT fieldcrypt.protect_table('lead', 'account_id');
        GRANT ALL ON lead TO app, clerk, writer;
    """)
    app = session(account="acme")
    app.execute("INSERT INTO lead (id, ssn, note) VALUES (1, '123-45-6789', 'n')")
    app.execute("INSERT INTO lead (id, ssn, note) VALUES (2, '987-65-4321', NULL)")
    row = "SELECT ssn::text, note::text FROM lead WHERE id = 1"
    before = app.execute(row).fetchone()

    clerk, writer = session("clerk", account), session("writer", account)
    back = "UPDATE lead SET name = 'x', ssn = %s, note = %s WHERE id = 1"
    clerk.execute(back, ["****6789", HIDDEN])
    assert app.execute(row).fetchone() == before
    writer.execute(back, [HIDDEN, HIDDEN])
    assert app.execute(row).fetchone() == before
    if account == "acme":
        clerk.execute(
            "UPDATE lead SET ssn = fieldcrypt.reveal(ssn), note = fieldcrypt.reveal(note)"
            " WHERE id = 1"
        )
        assert app.execute(row).fetchone() == before
    for connection, ssn in (
        (clerk, HIDDEN),
        (writer, f"{HIDDEN}6789"),
        (writer, f"x {HIDDEN}"),
        (clerk, "****4321"),
    ):
        with refused("23514", "ssn") as caught:
            connection.execute("UPDATE lead SET ssn = %s WHERE id = 1", [ssn])
        assert "6789" not in texts(caught.value) and "4321" not in texts(caught.value)
    with refused("23514", "note"):
        writer.execute("UPDATE lead SET note = %s WHERE id = 2", [HIDDEN])
    assert app.execute(row).fetchone() == before
    clerk.execute(back, ["111-11-1111", HIDDEN])
    assert app.execute(
        "SELECT fieldcrypt.decrypt(ssn), note::text FROM lead WHERE id = 1"
    ).fetchone() == (
        "111-11-1111",
        before[1],
    )


# Tables of every kind


def test_partitions(customers, session):
    """Written through the parent and to partitions; a row that moves keeps its ciphertext."""
    customers.execute("""
        CREATE TABLE record (id int, account_id text, kind text, data jsonb)
            PARTITION BY LIST (kind);
        CREATE TABLE record_a PARTITION OF record FOR VALUES IN ('a');
        SELECT fieldcrypt.protect_jsonb('record', 'data', 'record.data', 'account_id', 'kind');
        SELECT fieldcrypt.protect_path('record.data', '{ssn}', 'lead.ssn');
        SELECT fieldcrypt.protect_path('record.data', '{code}', 'lead.note', kind => 'b');
        CREATE TABLE record_b PARTITION OF record FOR VALUES IN ('b');
        CREATE TABLE record_rest PARTITION OF record DEFAULT;
        GRANT ALL ON record, record_a, record_b, record_rest TO app, writer;
    """)
    app = session()
    for table, kind in (("record", "a"), ("record_a", "a"), ("record", "b"), ("record_b", "b")):
        document = Jsonb({"ssn": "1", "code": "2"})
        app.execute(f"INSERT INTO {table} VALUES (1, 'acme', %s, %s)", [kind, document])
    stored = app.execute("SELECT kind, data FROM record ORDER BY kind").fetchall()
    assert [set(envelopes(data)) for _, data in stored] == [{"ssn"}] * 2 + [{"ssn", "code"}] * 2

    app.execute("DELETE FROM record WHERE kind = 'b'; DELETE FROM record_a")
    app.execute("INSERT INTO record VALUES (1, 'acme', 'a', '{\"ssn\": \"1\"}')")
    before = read(app, table="record")
    for user in "app", "writer":
        session(user).execute("UPDATE record SET kind = 'c'")
        assert read(app, table="record_rest") == before
        session(user).execute("UPDATE record SET kind = 'a'")
        assert read(app, table="record_a") == before
    # in its new place another flag holds
    app.execute("UPDATE record SET kind = 'b', data = data || '{\"code\": \"2\"}'")
    after = read(app, table="record_b")
    assert set(envelopes(after)) == {"ssn", "code"} and after["ssn"] == before["ssn"]
    assert read(app, "decrypt", table="record") == {"ssn": "1", "code": "2"}
    # upsert and MERGE go through the parent as well
    customers.execute("CREATE UNIQUE INDEX ON record (id, kind)")
    app.execute(
        "INSERT INTO record VALUES (1, 'acme', 'b', '{\"ssn\": \"3\"}')"
        " ON CONFLICT (id, kind) DO UPDATE SET data = excluded.data"
    )
    assert read(app, "decrypt", table="record") == {"ssn": "3"}
    customers.execute(
        "CREATE TABLE attached (LIKE record INCLUDING CONSTRAINTS);"
        "ALTER TABLE record ATTACH PARTITION attached FOR VALUES IN ('d');"
        "GRANT ALL ON attached TO app"
    )
    app.execute("INSERT INTO attached VALUES (2, 'acme', 'd', '{\"ssn\": \"4\"}')")
    assert set(envelopes(read(app, table="attached", number=2))) == {"ssn"}


def test_inheritance(customers, app):
    """A child is protected as its parent is, whichever of them came first."""
    customers.execute("""
        CREATE TABLE special (since date) INHERITS (customer);
        CREATE TABLE parent (id int, account_id text DEFAULT 'acme', data jsonb);
        CREATE TABLE child () INHERITS (parent);
        CREATE TABLE grandchild () INHERITS (child);
        SELECT fieldcrypt.protect_jsonb('parent', 'data', 'parent.data', 'account_id');
        SELECT fieldcrypt.protect_path('parent.data', '{ssn}', 'lead.ssn');
        CREATE TABLE adopted (id int, account_id text DEFAULT 'acme', data jsonb);
        ALTER TABLE parent ADD CONSTRAINT alike CHECK (true);
        ALTER TABLE adopted ADD CONSTRAINT alike CHECK (true);
        GRANT ALL ON ALL TABLES IN SCHEMA public TO app;
    """)
    check = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conname = 'fieldcrypt_data'"
    definition = customers.value(f"{check} AND conrelid = 'parent'::regclass")
    customers.execute(f"ALTER TABLE adopted ADD CONSTRAINT fieldcrypt_data {definition}")
    customers.execute("ALTER TABLE adopted INHERIT parent")
    for table in "special", "child", "grandchild", "adopted":
        app.execute(f'INSERT INTO {table} (id, data) VALUES (1, \'{{"ssn": "1"}}\')')
        app.execute(f'UPDATE {table} SET data = data || \'{{"ssn": "2"}}\'')
        assert set(envelopes(read(app, table=table))) == {"ssn"}, table
        assert read(app, "decrypt", table=table) == {"ssn": "2"}, table
    for table in "customer", "parent":
        app.execute(f'UPDATE {table} SET data = data || \'{{"ssn": "3"}}\'')
        rows = app.execute(f"SELECT data, fieldcrypt.decrypt(data) FROM {table}").fetchall()
        assert rows
        for stored, decrypted in rows:
            assert set(envelopes(stored)) == {"ssn"} and decrypted == {"ssn": "3"}


def test_generated_columns(customers, session):
    """They are computed from what is stored."""
    customers.execute("""
        CREATE TABLE record (
            id int, account_id text DEFAULT 'acme', data jsonb,
            city text GENERATED ALWAYS AS (data #>> '{contact,city}') STORED,
            ssn text GENERATED ALWAYS AS (data ->> 'ssn') STORED,
            token bytea GENERATED ALWAYS AS (fieldcrypt.token(data, 'lead.ssn')) STORED UNIQUE);
        SELECT fieldcrypt.protect_jsonb('record', 'data', 'record.data', 'account_id');
        SELECT fieldcrypt.protect_path('record.data', '{ssn}', 'lead.ssn');
        GRANT ALL ON record TO app;
    """)
    app = session()
    app.execute("INSERT INTO record (id, data) VALUES (1, %s)", [Jsonb(ANN)])
    query = "SELECT city, ssn = data ->> 'ssn', ssn LIKE 'fc1:%', token = %s FROM record"
    for ssn in "123-45-6789", "987-65-4321":
        token = app.execute(
            "SELECT fieldcrypt.blind_index(%s, 'lead.ssn', 'acme')", [ssn]
        ).fetchone()[0]
        app.execute("UPDATE record SET data = data || %s", [Jsonb({"ssn": ssn})])
        assert app.execute(query.replace("LIKE 'fc1:%'", "LIKE 'fc1:%%'"), [token]).fetchone() == (
            *("Rome", True, True, True),
        )
    with refused("23505") as caught:
        app.execute('INSERT INTO record (id, data) VALUES (2, \'{"ssn": "987 65 4321"}\')')
    assert "4321" not in texts(caught.value).replace("\\x", "")


# Searching


def test_search(customers, app, session):
    insert(app, ANN)
    insert(app, {"ssn": 123456789, "tags": ["early", True]}, number=2)
    insert(app, {"ssn": "1", "tags": [1.5, {"x": 1}, []]}, number=3)
    for field, value, found in (
        ("lead.ssn", "123 45 6789", [1, 2]),
        ("lead.ssn", "1", [3]),
        ("lead.ssn", "2", []),
        ("lead.email", " ANN@Example.COM", [1]),
        ("lead.phone", "+442079460002", [1]),
        ("lead.tag", "early", [1, 2]),
        ("lead.tag", "Early", []),
        ("lead.tag", "true", [2]),
        ("lead.tag", "1.5", [3]),
        ("lead.tag", "1.50", []),
    ):
        query = "SELECT id FROM customer WHERE fieldcrypt.matches(data, %s, %s, 'acme') ORDER BY id"
        rows = app.execute(query, [field, value]).fetchall()
        assert [number for (number,) in rows] == found, (field, value)
        by_tokens = (
            "SELECT id FROM customer"
            " WHERE fieldcrypt.tokens(data) && fieldcrypt.search_tokens(%s, %s, 'acme') ORDER BY id"
        )
        assert app.execute(by_tokens, [field, value]).fetchall() == rows
    by_session = "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '1')"
    with refused("55000", "no account is set"):
        app.execute(by_session)
    assert session(account="acme").execute(by_session).fetchall() == [(3,)]
    # texts, numbers and booleans have tokens; objects and arrays have none
    counts = "SELECT cardinality(fieldcrypt.tokens(data)) FROM customer ORDER BY id"
    assert app.execute(counts).fetchall() == [(6,), (3,), (2,)]


def test_a_document_and_a_typed_column_find_each_other(customers, session):
    customers.execute(
        "CREATE TABLE lead (ssn fieldcrypt.encrypted_text('lead.ssn')); GRANT ALL ON lead TO app"
    )
    app = session(account="acme")
    insert(app, ANN)
    app.execute("INSERT INTO lead VALUES ('123 45 6789')")
    joined = "SELECT count(*) FROM lead JOIN customer ON {}"
    for condition in (
        "fieldcrypt.tokens(ssn) && fieldcrypt.tokens(data)",
        "fieldcrypt.token(ssn) = fieldcrypt.token(data, 'lead.ssn')",
        "ssn = fieldcrypt.decrypt(data, 'ssn') #>> '{}'",
    ):
        assert app.execute(joined.replace("{}", condition, 1)).fetchone() == (1,), condition


def test_searching_needs_search(customers, app, session):
    insert(app, ANN)
    for user in "clerk", "writer", "outsider", "postgres":
        for statement in (
            "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '1', 'acme')",
            "SELECT fieldcrypt.search_tokens('lead.ssn', '1', 'acme')",
        ):
            with refused("42501", 'permission denied to search field "lead.ssn"'):
                session(user).execute(statement)
    with refused("0A000", 'field "lead.note" cannot be searched'):
        app.execute("SELECT fieldcrypt.search_tokens('lead.note', '1', 'acme')")
    with refused("42704", "does not exist"):
        app.execute("SELECT fieldcrypt.search_tokens('lead.nothing', '1', 'acme')")


def test_search_uses_the_index(customers, app):
    app.execute(
        "INSERT INTO customer (id, data) SELECT i, jsonb_build_object('ssn', i::text)"
        " FROM generate_series(1, 5000) AS i"
    )
    customers.execute("ANALYZE customer")
    query = "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', {}, 'acme')"
    for mode in "force_custom_plan", "force_generic_plan":
        app.execute(f"SET plan_cache_mode = {mode}")
        app.execute(f"PREPARE look_up (text) AS {query.format('$1')}")
        for statement in query.format("'4711'"), "EXECUTE look_up ('4711')":
            plan = str(app.execute(f"EXPLAIN {statement}").fetchall())
            assert "Bitmap Index Scan on customer_tokens" in plan
            assert app.execute(statement).fetchall() == [(4711,)]
        app.execute("DEALLOCATE look_up")


@pytest.mark.every_version
def test_parallel_workers(customers, app, session):
    """Workers find user, account and keys by themselves."""
    app.execute(
        "INSERT INTO customer (id, data) SELECT i, jsonb_build_object('ssn', i::text)"
        " FROM generate_series(1, 5000) AS i"
    )
    customers.execute("DROP INDEX customer_tokens; ANALYZE customer")
    parallel = (
        "SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0;"
        " SET min_parallel_table_scan_size = 0; SET max_parallel_workers_per_gather = 2"
    )
    for query, expected in {
        "SELECT count(*) FROM customer WHERE fieldcrypt.decrypt(data) ->> 'ssn' LIKE '%7'": 500,
        "SELECT count(*) FROM customer WHERE fieldcrypt.reveal(data) ->> 'ssn' LIKE '%7'": 500,
        "SELECT sum(cardinality(fieldcrypt.tokens(data)))::int FROM customer": 5000,
        "SELECT count(*) FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '7', 'acme')": 1,
    }.items():
        connection = session()
        connection.execute(parallel)
        assert "Gather" in str(connection.execute(f"EXPLAIN {query}").fetchall()), query
        assert connection.execute(query).fetchone() == (expected,), query
        outsider = session("outsider")
        outsider.execute(parallel)
        if "reveal" in query:
            assert outsider.execute(query).fetchone() == (0,)
        elif "tokens" not in query:
            with refused("42501"):
                outsider.execute(query)


def test_plans_do_not_show_what_is_searched(app):
    app.execute("SET fieldcrypt.account = 'acme'")
    for statement in (
        "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '{}')",
        "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.ssn', '{}', 'acme')",
        "SELECT id FROM customer"
        " WHERE fieldcrypt.tokens(data) && fieldcrypt.search_tokens('lead.ssn', '{}', 'acme')",
    ):
        for mode in "force_custom_plan", "force_generic_plan":
            app.execute(f"SET plan_cache_mode = {mode}")
            for options in "VERBOSE", "ANALYZE, VERBOSE":
                for text, parameters in (
                    (statement.format(CANARY), None),
                    (statement.replace("'{}'", "%s"), [CANARY]),
                ):
                    plan = app.execute(f"EXPLAIN ({options}) {text}", parameters).fetchall()
                    assert CANARY not in str(plan), text


def test_token(customers, app):
    """One value of the field, none, or several: token() is for the first two."""
    insert(app, {**ANN, "tags": ["gold", "gold"]})
    insert(app, {"name": "Bea"}, number=2)
    insert(app, {"tags": ["gold", "early"]}, number=3)
    query = "SELECT fieldcrypt.token(data, %s) FROM customer WHERE id = %s"
    expected = app.execute("SELECT fieldcrypt.blind_index('gold', 'lead.tag', 'acme')").fetchone()
    assert app.execute(query, ["lead.tag", 1]).fetchone() == expected
    assert app.execute(query, ["lead.tag", 2]).fetchone() == (None,)
    assert app.execute(query, ["lead.note", 1]).fetchone() == (None,)
    with pytest.raises(psycopg.Error) as caught:
        app.execute(query, ["lead.tag", 3])
    assert "lead.tag" in texts(caught.value) and "gold" not in texts(caught.value)


def test_constraint_only_field(customers, app):
    """Equal values are told by UNIQUE and by nothing else."""
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{code}', 'lead.code')")
    customers.execute("CREATE UNIQUE INDEX ON customer (fieldcrypt.token(data, 'lead.code'))")
    insert(app, {"code": "A-1"})
    insert(app, {"name": "no code"}, number=2)
    insert(app, {"name": "no code"}, number=3)
    with refused("23505") as caught:
        insert(app, {"code": "A-1"}, number=4)
    assert "A-1" not in texts(caught.value)
    insert(app, {"code": "A-2"}, number=4)
    with refused("23505"):
        app.execute('UPDATE customer SET data = data || \'{"code": "A-1"}\' WHERE id = 4')
    assert read(app, "decrypt", number=4) == {"code": "A-2"}
    app.execute(
        'INSERT INTO customer (id, data) VALUES (9, \'{"code": "A-2", "new": true}\')'
        " ON CONFLICT (fieldcrypt.token(data, 'lead.code')) DO UPDATE SET data = excluded.data"
    )
    assert read(app, "decrypt", number=4) == {"code": "A-2", "new": True}
    for statement in (
        "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.code', 'A-1', 'acme')",
        "SELECT fieldcrypt.search_tokens('lead.code', 'A-1', 'acme')",
        "SELECT fieldcrypt.blind_index('A-1', 'lead.code', 'acme')",
    ):
        with refused("0A000", 'field "lead.code" cannot be searched'):
            app.execute(statement)


def test_token_only_field(customers, app, session):
    """The value is found and told apart, and never shown."""
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{pin}', 'lead.pin')")
    insert(app, {"ssn": "1", "pin": "canary-4711"})
    insert(app, {"ssn": "1", "pin": "canary-0815"}, number=2)
    query = "SELECT id FROM customer WHERE fieldcrypt.matches(data, 'lead.pin', %s, 'acme')"
    assert app.execute(query, ["canary-4711"]).fetchall() == [(1,)]
    assert app.execute(query, ["4711"]).fetchall() == []
    with refused("55000", "lead.pin"):
        read(app, "decrypt")
    with refused("55000", "lead.pin"):
        app.execute("SELECT fieldcrypt.decrypt(data, 'pin') FROM customer")
    path = "SELECT fieldcrypt.decrypt(data, 'ssn') FROM customer WHERE id = 1"
    assert app.execute(path).fetchone() == ("1",)
    assert read(app, "reveal") == {"ssn": "1", "pin": HIDDEN}
    app.execute('UPDATE customer SET data = data || \'{"ssn": "2"}\'')
    assert app.execute(query, ["canary-4711"]).fetchall() == [(1,)]
    with refused("22023", hint="there are no tokens"):
        customers.execute("SELECT fieldcrypt.create_field('lead.x', store => 'token')")


def test_look_ups_across_accounts(customers, app, session):
    """A field of scope database: by search on account '*', and by that only."""
    customers.execute("SELECT fieldcrypt.protect_path('customer.data', '{login}', 'lead.login')")
    customers.execute("SELECT fieldcrypt.grant_access('lookup', '{search}', '*', 'lead.login')")
    customers.execute("GRANT SELECT ON customer TO lookup")
    insert(app, {"login": "ann@example.com", "ssn": "1"})
    insert(app, {"login": "bea@example.com"}, number=2)
    insert(
        session("app_globex"), {"login": "Ann@Example.com", "ssn": "1"}, number=3, account="globex"
    )
    query = (
        "SELECT id FROM customer"
        " WHERE fieldcrypt.matches(data, 'lead.login', 'ANN@example.com', %s) ORDER BY id"
    )
    lookup = session("lookup")
    assert lookup.execute(query, ["*"]).fetchall() == [(1,), (3,)]
    assert app.execute(query, ["acme"]).fetchall() == [(1,)]
    for user in "app", "app_globex":
        with refused("42501", 'to search field "lead.login" of account "\\*"'):
            session(user).execute(query, ["*"])
    with refused("42501"):
        app.execute(query, ["globex"])
    customers.execute("SELECT fieldcrypt.grant_access('lookup', '{search}', '*', 'lead.ssn')")
    with refused("0A000", "lead.ssn"):
        lookup.execute("SELECT fieldcrypt.search_tokens('lead.ssn', '1', '*')")
    tokens = (
        "SELECT count(DISTINCT fieldcrypt.token(data, 'lead.login')),"
        " count(DISTINCT fieldcrypt.token(data, 'lead.login', 'database')),"
        " count(DISTINCT fieldcrypt.token(data, 'lead.ssn'))"
        " FROM customer WHERE id <> 2"
    )
    assert app.execute(tokens).fetchone() == (2, 1, 2)
    customers.execute(
        "CREATE UNIQUE INDEX ON customer (fieldcrypt.token(data, 'lead.login', 'database'))"
        " WHERE id > 3"
    )
    insert(app, {"login": "cyd@example.com"}, number=4)
    with refused("23505"):
        insert(session("app_globex"), {"login": "cyd@example.com"}, number=5, account="globex")


def test_typed_columns_of_these_fields(customers, session):
    """Constraint-only, token-only and database-wide fields, in columns of encrypted_text."""
    customers.execute("""
        CREATE TABLE lead (
            id int, account_id text DEFAULT 'acme',
            code fieldcrypt.encrypted_text('lead.code') UNIQUE,
            pin fieldcrypt.encrypted_text('lead.pin'),
            login fieldcrypt.encrypted_text('lead.login'));
        CREATE UNIQUE INDEX ON lead (fieldcrypt.token(login, 'database'));
        GRANT ALL ON lead TO app, app_globex;
    """)
    app, globex = session(account="acme"), session("app_globex", "globex")
    app.execute("INSERT INTO lead VALUES (1, 'acme', 'A-1', '4711', 'ann@example.com')")
    with refused("23505"):
        app.execute("INSERT INTO lead (code) VALUES ('A-1')")
    globex.execute("INSERT INTO lead VALUES (2, 'globex', 'A-1', '4711', 'bea@example.com')")
    with refused("23505"):
        globex.execute("INSERT INTO lead (login) VALUES ('ANN@example.com')")
    for condition in "code = 'A-1'", "code IN ('A-1')", "code IS DISTINCT FROM 'A-1'":
        with refused("0A000", 'field "lead.code" cannot be searched'):
            app.execute(f"SELECT id FROM lead WHERE {condition}")
    assert app.execute("SELECT id FROM lead WHERE pin = '4711'").fetchall() == [(1,)]
    assert app.execute("SELECT id FROM lead WHERE login = 'Ann@Example.com'").fetchall() == [(1,)]
    row = "SELECT fieldcrypt.decrypt(code), fieldcrypt.decrypt(login), fieldcrypt.reveal(pin)"
    assert app.execute(f"{row} FROM lead WHERE id = 1").fetchone() == (
        *("A-1", "ann@example.com", HIDDEN),
    )
    with refused("55000", "lead.pin"):
        app.execute("SELECT fieldcrypt.decrypt(pin) FROM lead WHERE id = 1")
    customers.execute("SELECT fieldcrypt.grant_access('app', '{search}', '*', 'lead.login')")
    across = (
        "SELECT id FROM lead WHERE fieldcrypt.tokens(login)"
        " && fieldcrypt.search_tokens('lead.login', %s, '*')"
    )
    assert app.execute(across, ["bea@example.com"]).fetchall() == [(2,)]
    assert app.execute(across, ["cyd@example.com"]).fetchall() == []


# All flagged keys in one column


BLOB = """
    SELECT fieldcrypt.create_field('lead.pii');
    CREATE TABLE member (
        id int PRIMARY KEY, account_id text NOT NULL DEFAULT 'acme',
        data jsonb, pii fieldcrypt.encrypted_jsonb('lead.pii'));
    SELECT fieldcrypt.protect_jsonb('member', 'data', 'member.data', 'account_id',
        blob_column => 'pii');
    SELECT fieldcrypt.protect_path('member.data', '{ssn}', 'lead.ssn');
    SELECT fieldcrypt.protect_path('member.data', '{contact.email}', 'lead.email');
    SELECT fieldcrypt.protect_path('member.data', '{note}', 'lead.note');
    CREATE INDEX ON member USING gin (fieldcrypt.tokens(pii));
    GRANT ALL ON member TO app, clerk, writer, outsider;
"""

MEMBER = {
    "team": "red",
    "ssn": "123-45-6789",
    "contact": {"email": "ann@example.com", "city": "Rome"},
    "note": {"text": "calls back", "score": [1, 2]},
}


def member(connection, function="decrypt"):
    query = f"SELECT fieldcrypt.{function}(data, pii) FROM member WHERE id = 1"
    return connection.execute(query).fetchone()[0]


def member_stored(connection):
    return connection.execute("SELECT data, pii::text FROM member WHERE id = 1").fetchone()


@pytest.fixture
def members(customers, app):
    customers.execute(BLOB)
    app.execute("INSERT INTO member (id, data) VALUES (1, %s)", [Jsonb(MEMBER)])
    return customers


def test_blob_gathers_the_flagged_keys(members, app):
    data, pii = member_stored(app)
    assert data == {"team": "red", "contact": {"city": "Rome"}}
    assert pii.startswith("fc1:")
    for function in "decrypt", "reveal":
        assert member(app, function) == MEMBER
    for field, value, found in (
        ("lead.ssn", "123456789", [(1,)]),
        ("lead.email", "ANN@example.com", [(1,)]),
        ("lead.ssn", "1", []),
    ):
        query = "SELECT id FROM member WHERE fieldcrypt.matches(pii, %s, %s, 'acme')"
        assert app.execute(query, [field, value]).fetchall() == found
    app.execute('INSERT INTO member (id, data) VALUES (2, \'{"team": "blue"}\')')
    query = "SELECT data, pii, fieldcrypt.decrypt(data, pii) FROM member WHERE id = 2"
    assert app.execute(query).fetchone() == ({"team": "blue"}, None, {"team": "blue"})


def test_blob_keeps_absent_keys(members, app):
    """Whoever writes what is not flagged does not have to know the rest."""
    app.execute('UPDATE member SET data = \'{"team": "blue"}\'')
    assert member_stored(app)[0] == {"team": "blue"}
    expected = {**MEMBER, "team": "blue", "contact": {"email": "ann@example.com"}}
    assert member(app) == expected
    app.execute('UPDATE member SET data = data || \'{"ssn": "1"}\'')
    expected["ssn"] = "1"
    assert member(app) == expected and "ssn" not in member_stored(app)[0]
    app.execute("UPDATE member SET data = data || '{\"ssn\": null}'")
    expected["ssn"] = None
    assert member(app) == expected and member_stored(app)[0] == {"team": "blue", "ssn": None}
    query = "SELECT id FROM member WHERE fieldcrypt.matches(pii, 'lead.ssn', '1', 'acme')"
    assert app.execute(query).fetchall() == []
    before = member_stored(app)[1]
    app.execute("UPDATE member SET data = data || '{\"x\": 1}'")
    assert member_stored(app)[1] == before


def test_the_blob_is_written_by_the_trigger_only(members, session):
    """Not with plain values, and not with another row's blob; it can be emptied."""
    app = session(account="acme")
    app.execute('INSERT INTO member (id, data) VALUES (2, \'{"team": "blue"}\')')
    stored = app.execute("SELECT * FROM member ORDER BY id").fetchall()
    for statement in (
        'UPDATE member SET pii = \'{"ssn": "1"}\'',
        "UPDATE member SET pii = fieldcrypt.decrypt(pii)",
        "INSERT INTO member (id, data, pii) VALUES (3, '{}', '{\"ssn\": \"1\"}')",
        "UPDATE member SET pii = o.pii FROM member AS o WHERE member.id = 2 AND o.id = 1",
        "INSERT INTO member (id, data, pii) SELECT 3, data, pii FROM member WHERE id = 1",
    ):
        with refused("23514", "member.data"):
            app.execute(statement)
    assert app.execute("SELECT * FROM member ORDER BY id").fetchall() == stored
    app.execute("UPDATE member SET pii = NULL")
    assert member_stored(app) == ({"team": "red", "contact": {"city": "Rome"}}, None)
    assert member(app) == {"team": "red", "contact": {"city": "Rome"}}


def test_a_blob_without_its_trigger(members, app):
    """The CHECK: flagged keys do not stand in the document."""
    members.execute("ALTER TABLE member DISABLE TRIGGER ALL")
    with refused("23514", "ssn") as caught:
        app.execute("INSERT INTO member (id, data) VALUES (2, %s)", [Jsonb(MEMBER)])
    assert not [word for word in SECRETS if word in texts(caught.value)]
    with refused("23514", "contact.email"):
        app.execute("UPDATE member SET data = jsonb_set(data, '{contact,email}', '\"a\"')")
    app.execute('UPDATE member SET data = data || \'{"team": "blue"}\'')
    assert member(app) == {**MEMBER, "team": "blue"}


def test_upsert_of_a_blob(members, app):
    """Sets both columns; the document alone would leave what is in EXCLUDED's blob behind."""
    upsert = (
        "INSERT INTO member (id, data) VALUES (1, %s) ON CONFLICT (id) DO UPDATE SET"
        " data = excluded.data"
    )
    new = {**MEMBER, "ssn": "1", "team": "blue"}
    with refused("23514"):
        app.execute(upsert, [Jsonb(new)])
    assert member(app) == MEMBER
    for document in new, MEMBER, {"team": "green"}:
        app.execute(f"{upsert}, pii = excluded.pii", [Jsonb(document)])
        assert member(app) == document


def test_blob_refuses_arrays(members):
    for path in "phones[*].number", "tags[*]":
        with refused("22023", "arrays"):
            members.execute(
                "SELECT fieldcrypt.protect_path('member.data', %s, 'lead.note')", [[path]]
            )


def test_blob_by_grant(members, app, session):
    """Each key as the grants on its own field say; the blob alone as those on the blob's field."""
    hidden = {
        "team": "red",
        "ssn": HIDDEN,
        "contact": {"email": HIDDEN, "city": "Rome"},
        "note": HIDDEN,
    }
    clerk = {
        "team": "red",
        "ssn": "****6789",
        "contact": {"email": "a****@example.com", "city": "Rome"},
        "note": HIDDEN,
    }
    assert member(session("clerk"), "reveal") == clerk
    for user in "outsider", "writer":
        assert member(session(user), "reveal") == hidden
    for user in "outsider", "writer", "clerk":
        with refused("42501", "permission denied to decrypt field"):
            member(session(user))
    alone = "SELECT fieldcrypt.reveal(pii) FROM member"
    assert session("outsider").execute(alone).fetchone() == (HIDDEN,)
    members.execute("SELECT fieldcrypt.grant_access('outsider', '{decrypt}', 'acme', 'lead.ssn')")
    assert member(session("outsider"), "reveal") == {
        **MEMBER,
        "contact": {"email": HIDDEN, "city": "Rome"},
        "note": HIDDEN,
    }
    with refused("42501", "lead"):
        member(session("outsider"))
    members.execute("SELECT fieldcrypt.grant_access('outsider', '{decrypt}', 'acme', 'lead.pii')")
    assert session("outsider").execute(alone).fetchone()[0]["ssn"] == "123-45-6789"
    session("writer").execute('UPDATE member SET data = data || \'{"ssn": "1"}\'')
    assert member(app) == {**MEMBER, "ssn": "1"}


def test_blob_masks_written_back(members, app, session):
    clerk = session("clerk")
    before = member_stored(app)
    update_member = "UPDATE member SET data = %s WHERE id = 1"
    clerk.execute(update_member, [Jsonb(member(clerk, "reveal"))])
    assert member_stored(app) == before
    clerk.execute(update_member, [Jsonb({**member(clerk, "reveal"), "ssn": "1", "team": "blue"})])
    assert member(app) == {**MEMBER, "ssn": "1", "team": "blue"}
    with refused("23514", "ssn"):
        clerk.execute(update_member, [Jsonb({"ssn": f"x {HIDDEN}"})])


# Columns of encrypted_jsonb


def test_encrypted_jsonb_column(customers, session):
    customers.execute(
        "CREATE TABLE record (id int, payload fieldcrypt.encrypted_jsonb('lead.note'));"
        "GRANT ALL ON record TO app, clerk, outsider"
    )
    app = session(account="acme")
    for value in VALUES:
        if "fc2:" in value:
            continue
        app.execute("DELETE FROM record")
        app.execute("INSERT INTO record VALUES (1, %s)", [value])
        assert app.execute(
            "SELECT payload::text LIKE 'fc1:%%', pg_typeof(fieldcrypt.decrypt(payload))::text,"
            " fieldcrypt.decrypt(payload)::text = %s::jsonb::text,"
            " fieldcrypt.reveal(payload)::text = %s::jsonb::text FROM record",
            [value, value],
        ).fetchone() == (True, "jsonb", True, True), value
    for write in (
        "INSERT INTO record VALUES (2, '{\"a\": 1.10}')",
        "INSERT INTO record VALUES (2, '{\"a\": 1.10}'::jsonb)",
        "INSERT INTO record SELECT 2, jsonb_build_object('a', 1.10)",
    ):
        app.execute("DELETE FROM record")
        app.execute(write)
        query = "SELECT fieldcrypt.decrypt(payload)::text FROM record"
        assert app.execute(query).fetchall() == [('{"a": 1.10}',)], write
    app.execute("DELETE FROM record")
    with app.cursor().copy("COPY record FROM STDIN") as stream:
        stream.write_row([3, '{"canary": [1, 2]}'])
    assert app.execute("SELECT fieldcrypt.decrypt(payload) FROM record").fetchone() == (
        {"canary": [1, 2]},
    )
    for user in "clerk", "outsider":
        connection = session(user, "acme")
        assert connection.execute("SELECT fieldcrypt.reveal(payload) FROM record").fetchone() == (
            HIDDEN,
        )
        with refused("42501", "permission denied to decrypt field"):
            connection.execute("SELECT fieldcrypt.decrypt(payload) FROM record")
    with refused("22P02") as caught:
        app.execute("INSERT INTO record VALUES (4, '{\"canary-1\": canary-2')")
    assert "canary" not in texts(caught.value)
    for condition in "payload = payload", "payload = '{}'", "payload = '{}'::jsonb":
        with refused("0A000", "cannot be searched"):
            app.execute(f"SELECT FROM record WHERE {condition}")
    with refused("42883"):
        app.execute("SELECT FROM record WHERE payload < payload")
    stored = app.execute("SELECT payload::text FROM record").fetchone()
    with refused("42501", "not accepted as input"):
        app.execute("INSERT INTO record VALUES (5, %s)", stored)
    with refused("42501", "permission denied to encrypt field"):
        session("outsider", "acme").execute("INSERT INTO record VALUES (6, '{}')")


# Dumps and replicas


def assert_same_customers(source, target):
    for query in (
        "SELECT id, kind, data::text, fieldcrypt.tokens(data) FROM customer ORDER BY id",
        "SELECT id, data::text, pii::text, fieldcrypt.tokens(pii) FROM member ORDER BY id",
    ):
        assert target.execute(query).fetchall() == source.execute(query).fetchall()


CATALOG = (
    "SELECT relation::text, column_name, name, account_column, kind_column, blob_column, enabled"
    " FROM fieldcrypt.documents ORDER BY 1",
    "SELECT document, path, field, account, kind, nulls, state FROM fieldcrypt.paths ORDER BY 1, 2",
    "SELECT name FROM fieldcrypt.plain_names ORDER BY 1",
)


@pytest.mark.every_version
@pytest.mark.parametrize("how", ["whole", "data only", "data only, triggers disabled", "inserts"])
def test_dump_and_restore(members, app, how):
    """A dump holds ciphertext, and loads as it is: nothing is encrypted twice."""
    members.execute("SELECT fieldcrypt.keep_plain('{status}')")
    for number in range(1, 30):
        insert(app, ANN, number)
    target = Database(members.cluster)

    def dump(*arguments):
        return members.cluster.run("pg_dump", "-d", members.name, *arguments).stdout

    try:
        if how == "whole":
            parts = [dump()]
        elif how == "inserts":
            parts = [dump("--inserts")]
        else:
            options = ["--disable-triggers"] if "disabled" in how else []
            parts = [dump("--schema-only"), dump("--data-only", *options)]
        assert not [word for word in SECRETS if word in parts[-1]]
        for part in parts:
            target.psql(part)
        assert_same_customers(members, target)
        for query in CATALOG:
            assert target.execute(query).fetchall() == members.execute(query).fetchall()
        with target.connect("app") as restored:
            assert read(restored, "decrypt") == ANN and member(restored) == MEMBER
            insert(restored, ANN, number=100)
            assert set(envelopes(read(restored, number=100))) == set(SEALED)
            query = (
                "SELECT id FROM customer"
                " WHERE fieldcrypt.matches(data, 'lead.ssn', '123456789', 'acme')"
            )
            assert len(restored.execute(query).fetchall()) == 30
        with target.connect("outsider") as outsider:
            with refused("42501", "not accepted as input"):
                outsider.execute(
                    "INSERT INTO customer (id, data) SELECT 200, data FROM customer WHERE id = 1"
                )
    finally:
        target.drop()


@pytest.mark.every_version
def test_logical_replication(members, app, make_cluster):
    """The subscriber's trigger, enabled always, lets pass what is encrypted already."""
    subscriber = Database(make_cluster({"fieldcrypt.keyring_file": None}))
    subscriber.cluster.create_roles(
        "app", "app_globex", "clerk", "finder", "writer", "outsider", "manager", "lookup"
    )
    subscriber.execute("CREATE EXTENSION fieldcrypt")
    for statement in (
        "SELECT fieldcrypt.create_field('lead.ssn', search => '{exact}', normalizer => 'digits')",
        "SELECT fieldcrypt.create_field('lead.email', search => '{exact}', normalizer => 'email')",
        SCHEMA,
        BLOB,
        'ALTER TABLE customer ENABLE ALWAYS TRIGGER "000_fieldcrypt_data"',
        'ALTER TABLE member ENABLE ALWAYS TRIGGER "000_fieldcrypt_data"',
    ):
        subscriber.execute(statement)
    for number in range(1, 30):
        insert(app, ANN, number)
    source = members.cluster
    members.execute("CREATE PUBLICATION documents FOR TABLE customer, member")
    subscriber.execute(
        f"CREATE SUBSCRIPTION s CONNECTION 'host={source.dir} port={source.port}"
        f" user=postgres dbname={members.name}' PUBLICATION documents"
        f" WITH (slot_name = 'slot_{members.name}')"
    )
    try:
        wait_until(
            subscriber,
            "SELECT count(*) = 2 AND bool_and(srsubstate = 'r') FROM pg_subscription_rel",
        )
        assert_same_customers(members, subscriber)
        insert(app, ANN, number=30)
        update(app, {**ANN, "ssn": "1"}, number=1)
        app.execute("UPDATE customer SET data = data || '{\"x\": 1}' WHERE id = 2")
        app.execute("DELETE FROM customer WHERE id = 3")
        app.execute('UPDATE member SET data = data || \'{"ssn": "1"}\'')
        caught_up(members, subscriber)
        assert_same_customers(members, subscriber)
    finally:
        subscriber.execute("ALTER SUBSCRIPTION s DISABLE")
        subscriber.execute("ALTER SUBSCRIPTION s SET (slot_name = NONE)")
        subscriber.execute("DROP SUBSCRIPTION s")
        wait_until(
            members,
            f"SELECT NOT active FROM pg_replication_slots WHERE slot_name = 'slot_{members.name}'",
        )
        members.execute(f"SELECT pg_drop_replication_slot('slot_{members.name}')")


# Errors


FAILING = [
    ("outsider", "INSERT", {"ssn": CANARY}, ["ssn", "lead.ssn", "customer.data"]),
    (
        "outsider",
        "INSERT",
        {"phones": [{"number": CANARY}]},
        ["phones[*].number", "lead.phone"],
    ),
    ("outsider", "UPDATE", {"contact": {"email": CANARY}}, ["contact.email", "lead.email"]),
    ("app", "INSERT", {"ssn": f"fc1:{CANARY}"}, ["ssn", "customer.data"]),
    ("app", "INSERT", {"name": f"fc1:{CANARY}"}, ["name", "customer.data"]),
    ("app", "UPDATE", {"a": [{"b": f"fc27:{CANARY}"}]}, ["a[*].b", "customer.data"]),
    ("postgres", "INSERT", {"ssn": f"fc1:{CANARY}"}, ["ssn"]),
    ("writer", "INSERT", {"ssn": f"{CANARY} {HIDDEN}"}, ["ssn", "lead.ssn"]),
    ("writer", "UPDATE", {"tags": [HIDDEN, CANARY]}, ["tags[*]", "lead.tag"]),
]


def test_errors_name_path_and_field_and_no_value(app, session, subtests):
    insert(app, ANN)
    for user, statement, document, named in FAILING:
        with subtests.test(f"{statement} of {document} as {user}"):
            connection = session(user)
            with pytest.raises(psycopg.Error) as caught:
                if statement == "INSERT":
                    insert(connection, document, number=2)
                else:
                    update(connection, document)
            said = texts(caught.value)
            assert CANARY not in said
            assert not [name for name in named if not names(said, name)], said


def test_errors_of_other_constraints_show_ciphertext(customers, app):
    customers.execute("ALTER TABLE customer ADD CHECK (data ->> 'name' <> 'Eve')")
    for document in {**ANN, "name": "Eve"}, {**ANN, "name": "Eve", "ssn": CANARY}:
        with refused("23514") as caught:
            insert(app, document)
        said = texts(caught.value)
        assert "Failing row" in said and CANARY not in said
        assert not [word for word in SECRETS if word in said]


def test_names_of_columns_are_taken_as_they_are(customers, session):
    """Trigger arguments are stored as bytes: not ASCII, backslashes, quotes."""
    app = session()
    for number, name in enumerate(["dätä", "back\\slash", 'quo"te', "ап"]):
        column, document = sql.Identifier(name), f"odd.{number}"
        customers.execute(
            sql.SQL("CREATE TABLE {} (account_id text, {} jsonb)").format(
                sql.Identifier(f"odd_{number}"), column
            )
        )
        customers.execute(f"GRANT ALL ON odd_{number} TO app")
        protect = (
            "SELECT fieldcrypt.protect_jsonb(%s, %s, name => %s, account_column => 'account_id')"
        )
        customers.execute(protect, [f"odd_{number}", name, document])
        customers.execute(
            "SELECT fieldcrypt.protect_path(%s, '{ssn}', field => 'lead.ssn')", [document]
        )
        app.execute(f"INSERT INTO odd_{number} VALUES ('acme', '{{\"ssn\": \"123-45-6789\"}}')")
        stored = app.execute(f"SELECT * FROM odd_{number}").fetchone()[1]["ssn"]
        assert stored.startswith("fc1:")
        listed = "SELECT column_name FROM fieldcrypt.documents WHERE name = %s"
        assert customers.execute(listed, [document]).fetchone() == (name,)
        with refused("42710"):
            customers.execute(protect, [f"odd_{number}", name, f"{document}.again"])
        customers.execute("SELECT fieldcrypt.unprotect_jsonb(%s, %s)", [f"odd_{number}", name])
