"""Transparent reads are invisible: a query over encrypted columns gives what it gives over plain.

The same tables stand in two schemas with the same rows, once with encrypted columns and once with
plain ones. Each query is written once and runs on both, in text and in binary, in the simple and
in the extended protocol, prepared and through cursors. Rows, their order where the query asks for
one, column names and column types have to be the same.
"""

import random
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import psycopg
import pytest
from expect import refused
from harness import VERSION, account_database
from psycopg import ClientCursor
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.every_version

FIELDS = {
    "customer.name": "",
    "customer.email": "exact",
    "customer.ssn": "exact",
    "customer.birthday": "exact",
    "customer.customer_no": "exact",
    "customer.ref": "exact",
    "customer.balance": "",
    "customer.active": "",
    "customer.seen": "",
    "customer.photo": "",
    "customer.notes": "",
    "customer.tag": "exact",
    "customer.phone": "",
    "orders.note": "",
    "visit.page": "exact",
    "profile.pii": "",
    "profile.secret": "",
}

# The encrypted form; the plain one has the native types instead.
TABLES = """
    CREATE DOMAIN mailbox AS fieldcrypt.encrypted_text('customer.email');
    CREATE TABLE customer (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        referrer_id int,
        city text,
        name fieldcrypt.encrypted_text('customer.name'),
        email fieldcrypt.encrypted_text('customer.email'),
        ssn fieldcrypt.encrypted_text('customer.ssn'),
        birthday fieldcrypt.encrypted_date('customer.birthday'),
        customer_no fieldcrypt.encrypted_bigint('customer.customer_no'),
        ref fieldcrypt.encrypted_uuid('customer.ref'),
        balance fieldcrypt.encrypted_numeric('customer.balance'),
        active fieldcrypt.encrypted_boolean('customer.active'),
        seen fieldcrypt.encrypted_timestamptz('customer.seen'),
        photo fieldcrypt.encrypted_bytea('customer.photo'),
        notes fieldcrypt.encrypted_jsonb('customer.notes'),
        tags fieldcrypt.encrypted_text('customer.tag')[],
        mail mailbox,
        data jsonb);
    CREATE INDEX customer_email ON customer USING hash (email);
    CREATE UNIQUE INDEX customer_ref ON customer (ref);
    CREATE TABLE orders (
        id int PRIMARY KEY,
        customer_id int REFERENCES customer,
        customer_email fieldcrypt.encrypted_text('customer.email'),
        product text,
        amount numeric,
        due fieldcrypt.encrypted_date('customer.birthday'),
        note fieldcrypt.encrypted_text('orders.note'));
    CREATE TABLE visit (
        id int NOT NULL,
        day date NOT NULL,
        email fieldcrypt.encrypted_text('customer.email'),
        page fieldcrypt.encrypted_text('visit.page'),
        length fieldcrypt.encrypted_numeric('customer.balance'),
        PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
    CREATE TABLE visit_old PARTITION OF visit FOR VALUES FROM (MINVALUE) TO ('2024-01-01');
    CREATE TABLE visit_new PARTITION OF visit FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE visit_rest PARTITION OF visit DEFAULT;
    CREATE TABLE mailing (email fieldcrypt.encrypted_text('customer.email'), topic text)
        PARTITION BY HASH (email);
    CREATE TABLE mailing_0 PARTITION OF mailing FOR VALUES WITH (MODULUS 2, REMAINDER 0);
    CREATE TABLE mailing_1 PARTITION OF mailing FOR VALUES WITH (MODULUS 2, REMAINDER 1);
    CREATE TABLE profile (
        id int PRIMARY KEY,
        account_id text NOT NULL DEFAULT 'acme',
        data jsonb,
        pii fieldcrypt.encrypted_jsonb('profile.pii'));

    CREATE VIEW contact AS
        SELECT id, city, name, email, birthday, mail, tags, data FROM customer;
    CREATE VIEW contact_of_contact AS SELECT id, email AS address, data FROM contact WHERE id > 9;
    CREATE VIEW ordering AS
        SELECT o.id AS order_id, o.product, o.customer_email, c.id, c.name, c.ref
        FROM orders AS o LEFT JOIN customer AS c ON c.id = o.customer_id;
    CREATE VIEW shared_email AS
        SELECT email, count(*) AS customers FROM customer GROUP BY email HAVING count(*) > 1;
    CREATE VIEW everybody AS
        SELECT email, 'customer' AS source FROM customer
        UNION ALL SELECT customer_email, 'orders' FROM orders;
"""

PROTECTED = """
    SELECT fieldcrypt.protect_jsonb('customer', 'data', name => 'customer.data',
        account_column => 'account_id');
    SELECT fieldcrypt.protect_path('customer.data', '{contact.email}', 'customer.email');
    SELECT fieldcrypt.protect_path('customer.data', '{phones[*].number}', 'customer.phone');
    SELECT fieldcrypt.protect_jsonb('profile', 'data', name => 'profile.data',
        account_column => 'account_id', blob_column => 'pii');
    SELECT fieldcrypt.protect_path('profile.data', '{secret,card.number}', 'profile.secret');
"""

REF = "11111111-2222-3333-4444-555555555555"


def rows_of_tables():
    """The rows of each table, the same at every run."""
    chance = random.Random(4)
    emails = [
        *("ann@example.com", "Bob@Example.com", "bob@example.com", "grüße@例え.jp", "", " "),
        *("o'hara@example.com", "tab\tand\nline@example.com", "z@example.com", "🙂@example.com"),
        *(f"user{n}@example.com" for n in range(40)),
    ]
    names = ["Ann", "Bob", "Žofie", "李雷", "O'Hara", "", "NULL", '"quoted"', "a\\b", "{x}", None]
    cities = ["Rome", "Oslo", "Łódź", None]
    tags = ["vip", "new", "", "a,b", 'say "x"', "ünï", None]
    numbers = [4711, 0, -1, 2**63 - 1, -(2**63), 7, 42, None]
    balances = [Decimal("1.10"), Decimal("1.2"), Decimal("-0.05"), Decimal(0), Decimal("1e40")]
    balances += [Decimal("NaN"), None]
    some_day = date(1990, 5, 17)
    days = ["1990-05-17", "0044-03-15 BC", "infinity", "-infinity", "2000-02-29", None]
    customers = []
    for n in range(1, 221):
        email = chance.choice([*emails, None])
        document = {
            "name": chance.choice(names),
            "contact": {"email": email, "city": chance.choice(cities)},
            "score": n % 7 + 0.5,
            "phones": [
                {"kind": kind, "number": f"+49 {n} {kind}"}
                for kind in ("home", "work", "cell")[: n % 4]
            ],
        }
        if n % 10 == 0:
            document = chance.choice([{}, [], {"contact": {"email": {"local": [n]}}}, None])
        moment = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=n * 7919, microseconds=n)
        customers.append(
            (
                n,
                "acme",
                chance.randrange(1, n) if n > 1 and n % 3 else None,
                chance.choice(cities),
                chance.choice(names),
                email,
                "123-45-6789" if n % 50 == 1 else chance.choice([f"987-65-{n:04}", None]),
                days[n % 11] if n % 11 < len(days) else some_day + timedelta(days=n % 20),
                numbers[n % 13] if n % 13 < len(numbers) else n % 30,
                uuid.UUID(REF) if n == 17 else uuid.UUID(int=chance.getrandbits(128)),
                chance.choice(balances),
                chance.choice([True, False, None]),
                chance.choice([moment, moment, "infinity", None]),
                chance.choice([b"", b"\x00\xff", b"fc1:", bytes([n]) * n, None]),
                chance.choice([Jsonb({"n": n}), Jsonb([1, "two", None]), Jsonb("text"), None]),
                chance.choice([[], None, chance.choices(tags, k=n % 4)]),
                chance.choice(emails) if n % 4 else email,
                None if document is None else Jsonb(document),
            )
        )
    orders = []
    for n in range(1, 351):
        customer = chance.choice([*customers, None])
        orders.append(
            (
                n,
                customer and customer[0],
                customer[5] if customer and n % 3 else chance.choice(emails[:20]),
                chance.choice(["tea", "coffee", "milk"]),
                Decimal(n) / 4,
                chance.choice([some_day, some_day + timedelta(days=3), "infinity", None]),
                chance.choice(["gift", "grüße", "", None]),
            )
        )
    visits = [
        (
            n,
            date(2023, 6, 1) + timedelta(days=n * 9),
            chance.choice([*emails[:12], None]),
            f"/page/{n % 5}",
            Decimal(n) / 3,
        )
        for n in range(1, 101)
    ]
    mailings = [(chance.choice(emails[:12]), f"topic {n % 3}") for n in range(80)]
    profiles = [
        (
            n,
            "acme",
            Jsonb({"secret": f"secret-{n}", "card": {"number": n, "kind": "debit"}, "n": n}),
        )
        for n in range(1, 21)
    ]
    return {
        "customer": customers,
        "orders": orders,
        "visit": visits,
        "mailing": mailings,
        "profile (id, account_id, data)": profiles,
    }


@dataclass(frozen=True)
class With:
    """A query with parameters; the placeholders %s, %t and %b choose their format."""

    statement: str
    parameters: tuple


def given(statement, *parameters):
    return With(statement, parameters)


# Each is a statement, or one with parameters. What each group needs of PostgreSQL is in SINCE.
QUERIES = {
    "columns": [
        "SELECT * FROM customer",
        "SELECT customer.* FROM customer",
        "SELECT c.* FROM customer AS c WHERE id < 50",
        "TABLE customer",
        "TABLE customer ORDER BY id LIMIT 5",
        "SELECT email FROM customer",
        "SELECT email, email, email AS again FROM customer",
        'SELECT customer.email, "customer"."name" FROM customer',
        'SELECT c.ssn AS "Social Security No", c.id AS email FROM customer AS c',
        "SELECT name AS id, id AS name FROM customer",
        "SELECT birthday, customer_no, ref, balance, active, seen, photo, notes FROM ONLY customer",
        "SELECT t.a, b FROM (SELECT id, email FROM customer) AS t (a, b)",
        "SELECT *, email FROM customer",
        "SELECT 1, email, current_date IS NULL, 'x', NULL FROM customer",
        "SELECT all email FROM customer",
        "SELECT mail, mail::text FROM customer",
        "SELECT email::text, CAST(name AS text) FROM customer",
        "SELECT birthday::text, customer_no::text, ref::text, balance::text, active::text,"
        " seen::text, photo::text, notes::text FROM customer",
        "SELECT id FROM customer",
        "SELECT FROM customer",
        "SELECT c.email, o.* FROM customer AS c JOIN orders AS o ON o.customer_id = c.id",
        "SELECT email, ctid IS NULL AS nowhere, tableoid::regclass::text FROM customer",
        'SELECT email AS "select", name AS "a b", ssn AS "ö" FROM customer',
        given("SELECT email, %s::int + id AS plus, name FROM customer", 5),
        given("SELECT %b::text AS said, name, %s AS unknown FROM customer", "hello", "x"),
    ],
    "expressions": [
        "SELECT id, COALESCE(email, mail) FROM customer",
        "SELECT id, COALESCE(mail, email) FROM customer",
        "SELECT id, COALESCE(email, ssn, name) AS any_text FROM customer",
        "SELECT id, COALESCE(NULL, NULL, birthday) FROM customer",
        "SELECT CASE WHEN id % 2 = 0 THEN email ELSE ssn END FROM customer",
        "SELECT CASE WHEN city = 'Rome' THEN email END AS in_rome FROM customer",
        "SELECT CASE WHEN email = 'ann@example.com' THEN ssn ELSE name END FROM customer",
        "SELECT CASE id % 3 WHEN 0 THEN birthday WHEN 1 THEN NULL ELSE birthday END FROM customer",
        "SELECT CASE WHEN email IS NULL THEN 'none' ELSE 'some' END FROM customer",
        "SELECT NULLIF(email, 'ann@example.com') FROM customer",
        "SELECT NULLIF(email, mail) FROM customer",
        "SELECT NULLIF(birthday, '1990-05-17'), NULLIF(customer_no, 4711) FROM customer",
        "SELECT email IS NULL, name IS NOT NULL AS named, photo IS NULL FROM customer",
        "SELECT email = mail AS same, email <> mail AS different FROM customer",
        "SELECT email IS DISTINCT FROM mail, email IS NOT DISTINCT FROM mail FROM customer",
        "SELECT id, email = 'ann@example.com' AS is_ann, customer_no = 42 FROM customer",
        "SELECT id, email IN ('ann@example.com', '') AS hit, birthday <> '1990-05-17'"
        " FROM customer",
        "SELECT id, (SELECT email) AS inner_email FROM customer",
        "SELECT id, (SELECT o.customer_email FROM orders AS o WHERE o.customer_id = c.id"
        " ORDER BY o.id LIMIT 1) FROM customer AS c",
        "SELECT (SELECT count(*) FROM orders AS o WHERE o.customer_email = c.email), c.email"
        " FROM customer AS c",
        "SELECT id, EXISTS (SELECT FROM orders AS o WHERE o.customer_email = c.email) AS bought,"
        " email FROM customer AS c",
        "SELECT id, email IN (SELECT customer_email FROM orders) AS bought FROM customer",
        "SELECT id, (email), ((name)) FROM customer",
        "SELECT id, num_nulls(email, name, birthday), num_nonnulls(email, ssn) FROM customer",
        "SELECT count(email), count(name), count(*) FROM customer",
        "SELECT city, upper(city), email FROM customer",
        given("SELECT NULLIF(email, %s), COALESCE(ssn, name) FROM customer", "ann@example.com"),
        given("SELECT CASE WHEN id > %s THEN email ELSE name END FROM customer", 100),
    ],
    "literals beside encrypted values": [
        "SELECT COALESCE(email, 'none') FROM customer",
        "SELECT CASE WHEN id < 5 THEN email ELSE 'hidden' END FROM customer",
        "SELECT CASE email WHEN 'ann@example.com' THEN 1 WHEN '' THEN 2 END FROM customer",
        "SELECT COALESCE(birthday, '2000-01-01'), COALESCE(balance, '0.00') FROM customer",
        "SELECT COALESCE(tags[1], name, 'none') FROM customer",
        "SELECT COALESCE((SELECT note FROM orders AS o WHERE o.customer_id = c.id"
        " ORDER BY o.id LIMIT 1), 'no note') FROM customer AS c",
        "SELECT CASE WHEN id > 3 THEN 'x' ELSE email END AS e, count(*) FROM customer GROUP BY e",
        "SELECT COALESCE(email, 'z') AS e, count(*) FROM customer GROUP BY 1 HAVING count(*) > 2"
        " ORDER BY e",
        "SELECT DISTINCT COALESCE(email, 'none') FROM customer ORDER BY 1",
        "SELECT email FROM customer UNION ALL SELECT 'literal'",
        "SELECT 'const' UNION SELECT email FROM customer ORDER BY 1",
        "SELECT id, 'x' AS e FROM customer WHERE id < 4 UNION SELECT id, email FROM customer"
        " ORDER BY e, id",
        "SELECT email FROM customer EXCEPT SELECT 'ann@example.com'",
        "SELECT 'ann@example.com' INTERSECT SELECT email FROM customer",
        "VALUES ((SELECT email FROM customer WHERE id = 17)), (NULL), ('literal')",
        "SELECT lag(email, 1, 'none') OVER (ORDER BY id) FROM customer",
        "SELECT id, lead(birthday, 2, '2000-01-01') OVER (PARTITION BY city ORDER BY id)"
        " FROM customer",
        "SELECT e FROM (SELECT COALESCE(email, 'none') AS e FROM customer) AS t",
        "WITH t AS (SELECT CASE WHEN id < 9 THEN name ELSE 'x' END AS n FROM customer)"
        " SELECT n, count(*) FROM t GROUP BY n",
        "INSERT INTO customer (id, email) VALUES (1001, 'lit') RETURNING COALESCE(name, 'none'),"
        " CASE WHEN id > 1 THEN email ELSE 'x' END",
        given("SELECT COALESCE(email, %s) FROM customer", "none"),
        given("SELECT CASE WHEN id < %s THEN email ELSE %s END FROM customer", 9, "x"),
        given("SELECT COALESCE(birthday, %s) FROM customer", "2000-01-01"),
    ],
    "rows and arrays": [
        "SELECT ROW(id, email, birthday, active) FROM customer",
        "SELECT (id, email) AS pair, email FROM customer",
        "SELECT ROW(ROW(id, name), email) FROM customer",
        "SELECT c FROM customer AS c",
        "SELECT customer FROM customer",
        "SELECT c, c.email FROM customer AS c WHERE id < 40",
        "SELECT (c).email, (c).birthday FROM customer AS c",
        "SELECT (c).* FROM customer AS c",
        "SELECT c, o FROM customer AS c LEFT JOIN orders AS o ON o.customer_id = c.id AND c.id < 9",
        "SELECT t FROM (SELECT id, email FROM customer) AS t",
        "SELECT contact FROM contact",
        "SELECT v FROM visit AS v",
        "SELECT ROW(o.*), ROW(o.*, 1) FROM orders AS o WHERE id < 17",
        "SELECT c IS NULL, c IS NOT NULL FROM customer AS c",
        "SELECT tags FROM customer",
        "SELECT tags[1], tags[2], tags[1:2], tags[99] FROM customer",
        "SELECT id, array_length(tags, 1), cardinality(tags), tags IS NULL, tags FROM customer",
        "SELECT COALESCE(tags, '{}') IS NULL, id, tags FROM customer",
        "SELECT ARRAY[email, mail] FROM customer",
        "SELECT ARRAY[name, ssn, NULL], ARRAY[birthday] FROM customer",
        "SELECT ARRAY[[email, ssn], [name, mail]] FROM customer",
        "SELECT (ARRAY[name, ssn])[2] FROM customer",
        "SELECT ARRAY(SELECT email FROM customer ORDER BY id) AS emails",
        "SELECT id, ARRAY(SELECT o.note FROM orders AS o WHERE o.customer_id = c.id ORDER BY o.id)"
        " FROM customer AS c",
        "SELECT id, unnest(tags) FROM customer",
        "SELECT id, unnest(tags) AS tag, generate_series(1, 2) AS n FROM customer",
        "SELECT id, t FROM customer, unnest(tags) AS t",
        "SELECT id, t.tag, t.place FROM customer, unnest(tags) WITH ORDINALITY AS t (tag, place)",
        "SELECT t, count(*) FROM customer, unnest(tags) AS t GROUP BY t",
        "SELECT DISTINCT t FROM customer, unnest(tags) AS t ORDER BY t NULLS FIRST",
        "SELECT array_agg(email ORDER BY id), array_agg(birthday ORDER BY id) FROM customer",
        "SELECT city, array_agg(name ORDER BY id DESC) FROM customer GROUP BY city",
        "SELECT array_append(tags, 'x') IS NULL, tags || tags AS twice FROM customer",
        "SELECT id FROM customer WHERE tags[1] = 'vip'",
        "SELECT id, e FROM customer CROSS JOIN LATERAL unnest(ARRAY[email, mail]) AS e",
        "SELECT unnest(ARRAY[email, name]) FROM customer",
        "SELECT unnest(tags) FROM customer ORDER BY 1",
        "SELECT unnest(tags), count(*) FROM customer GROUP BY 1",
        "SELECT id FROM customer WHERE 'vip' = ANY (tags)",
        "SELECT id FROM customer WHERE tags[1] IN ('vip', 'new') OR tags = '{}'",
        "SELECT (ARRAY(SELECT email FROM customer ORDER BY email, id))[1:3]",
        "SELECT ROW(email, ARRAY[name], ROW(ssn), data) FROM customer",
        "SELECT c FROM customer AS c GROUP BY c.id ORDER BY c.email, c.id",
        "SELECT c IS DISTINCT FROM c, count(c) FROM customer AS c GROUP BY c.id",
        "SELECT count(DISTINCT c) FROM (SELECT id, email FROM customer) AS c",
        "SELECT (t.c).email FROM (SELECT customer AS c FROM customer) AS t",
    ],
    "where": [
        "SELECT id, email FROM customer WHERE email = 'ann@example.com'",
        "SELECT * FROM customer WHERE 'ann@example.com' = email",
        "SELECT id, email FROM customer WHERE email = 'ann@example.com'::text",
        "SELECT id, email FROM customer WHERE email = 'ann@example.com'::varchar(40)",
        "SELECT id, email FROM customer WHERE email = ''",
        "SELECT id, email FROM customer WHERE email = 'grüße@例え.jp'",
        "SELECT id, email FROM customer WHERE email = E'tab\\tand\\nline@example.com'",
        "SELECT id, email FROM customer WHERE email = 'o''hara@example.com'",
        "SELECT id, email FROM customer WHERE email <> 'ann@example.com'",
        "SELECT id, email FROM customer WHERE NOT email = 'ann@example.com'",
        "SELECT id, ssn FROM customer WHERE ssn != '123-45-6789' AND id < 100",
        "SELECT id, email FROM customer WHERE email IN ('ann@example.com', 'z@example.com', 'no')",
        "SELECT id, email FROM customer WHERE email IN ('ann@example.com', NULL)",
        "SELECT id, email FROM customer WHERE email NOT IN ('ann@example.com', 'z@example.com')",
        "SELECT id, email FROM customer WHERE email = ANY ('{ann@example.com,z@example.com}')",
        "SELECT id, email FROM customer WHERE email = ANY (ARRAY['ann@example.com', ''])",
        "SELECT id, email FROM customer WHERE email = ANY ('{ann@example.com}'::text[])",
        "SELECT id, email FROM customer WHERE email <> ALL ('{ann@example.com,z@example.com}')",
        "SELECT id, name FROM customer WHERE name IS NULL",
        "SELECT id, name FROM customer WHERE name IS NOT NULL AND photo IS NULL",
        "SELECT id, email FROM customer WHERE email IS DISTINCT FROM 'ann@example.com'",
        "SELECT id, email FROM customer WHERE email IS NOT DISTINCT FROM 'ann@example.com'",
        "SELECT id, email FROM customer WHERE email IS NOT DISTINCT FROM NULL",
        "SELECT id, birthday FROM customer WHERE birthday = '1990-05-17'",
        "SELECT id, birthday FROM customer WHERE birthday = DATE '1990-05-17'",
        "SELECT id, birthday FROM customer WHERE birthday = 'May 17, 1990'",
        "SELECT id, birthday FROM customer WHERE birthday = 'infinity'",
        "SELECT id, birthday FROM customer WHERE birthday = '0044-03-15 BC'::date",
        "SELECT id, birthday FROM customer WHERE birthday IN ('1990-05-17', '2000-02-29')",
        "SELECT id, birthday FROM customer WHERE birthday = ANY ('{1990-05-17,infinity}'::date[])",
        "SELECT id, customer_no FROM customer WHERE customer_no = 4711",
        "SELECT id, customer_no FROM customer WHERE customer_no = '4711'",
        "SELECT id, customer_no FROM customer WHERE customer_no = -9223372036854775808",
        "SELECT id, customer_no FROM customer WHERE customer_no = 9223372036854775807::bigint",
        "SELECT id, customer_no FROM customer WHERE customer_no IN (0, 42, 4711)",
        "SELECT id, customer_no FROM customer WHERE customer_no NOT IN (0, 42)",
        f"SELECT id, ref FROM customer WHERE ref = '{REF}'",
        f"SELECT id, ref FROM customer WHERE ref = '{REF.upper()}'::uuid",
        f"SELECT id, ref FROM customer WHERE ref IN ('{REF}', gen_random_uuid())",
        "SELECT id, mail FROM customer WHERE mail = 'ann@example.com'",
        "SELECT id, mail, email FROM customer WHERE mail = email",
        "SELECT id FROM customer WHERE mail IS DISTINCT FROM email",
        "SELECT id, email FROM customer WHERE (email, customer_no) = ('ann@example.com', '7')"
        " OR (email, id) = ('z@example.com', 3) OR id = 1",
        "SELECT id, email FROM customer WHERE (email, id) IN (SELECT customer_email, customer_id"
        " FROM orders)",
        "SELECT id, email FROM customer WHERE email = 'ann@example.com' OR birthday = '2000-02-29'"
        " OR city = 'Oslo'",
        "SELECT id, email FROM customer WHERE (email = 'ann@example.com') IS NOT TRUE",
        "SELECT id, email FROM customer WHERE email IN (SELECT customer_email FROM orders)",
        "SELECT id, email FROM customer WHERE email NOT IN"
        " (SELECT customer_email FROM orders WHERE customer_email IS NOT NULL)",
        "SELECT id, email FROM customer AS c WHERE EXISTS"
        " (SELECT FROM orders AS o WHERE o.customer_email = c.email AND o.product = 'tea')",
        "SELECT id, email FROM customer AS c WHERE NOT EXISTS"
        " (SELECT 1 FROM orders AS o WHERE o.customer_email = c.email)",
        "SELECT id, email FROM customer WHERE email ="
        " (SELECT customer_email FROM orders WHERE id = 7)",
        "SELECT id, email FROM customer WHERE email = ANY (SELECT customer_email FROM orders)",
        "SELECT id, email FROM customer WHERE email = ALL"
        " (SELECT email FROM customer WHERE email = 'ann@example.com')",
        "SELECT id, ssn FROM customer WHERE ssn ="
        " (SELECT min(s::text) FROM (VALUES ('123-45-6789')) AS v (s))",
        "SELECT id, CASE WHEN id > 5 THEN email END FROM customer"
        " WHERE CASE WHEN id > 100 THEN email = 'ann@example.com' ELSE id < 20 END",
        given("SELECT id, email FROM customer WHERE email = %s", "ann@example.com"),
        given("SELECT id, email FROM customer WHERE email = %b", "ann@example.com"),
        given("SELECT id, email FROM customer WHERE email = %s::text OR id = %s", "", 3),
        given("SELECT id, email FROM customer WHERE email <> %s AND id < %s", "", 50),
        given("SELECT id, email FROM customer WHERE email = ANY (%s)", ["", "ann@example.com"]),
        given("SELECT id, email FROM customer WHERE email = ANY (%b)", ["", "ann@example.com"]),
        given("SELECT id, email FROM customer WHERE email IN (%s, %s)", "", "ann@example.com"),
        given("SELECT * FROM customer WHERE email IS NOT DISTINCT FROM %s", "ann@example.com"),
        given("SELECT id, birthday FROM customer WHERE birthday = %s", date(1990, 5, 17)),
        given("SELECT id, birthday FROM customer WHERE birthday = %b", date(1990, 5, 17)),
        given("SELECT id, birthday FROM customer WHERE birthday = %s", "1990-05-17"),
        given("SELECT id, birthday FROM customer WHERE birthday = ANY (%s)", [date(2000, 2, 29)]),
        given("SELECT id, customer_no FROM customer WHERE customer_no = %s", 4711),
        given("SELECT id, customer_no FROM customer WHERE customer_no = %b", 2**63 - 1),
        given("SELECT id, customer_no FROM customer WHERE customer_no = ANY (%s)", [7, 2**40, 42]),
        given("SELECT id, customer_no FROM customer WHERE customer_no = %s::bigint", 42),
        given("SELECT id, ref FROM customer WHERE ref = %s", uuid.UUID(REF)),
        given("SELECT id, ref FROM customer WHERE ref = %b", uuid.UUID(REF)),
        given("SELECT id, ref FROM customer WHERE ref = ANY (%s)", [uuid.UUID(REF)]),
        given("SELECT id, ref FROM customer WHERE ref = %s OR email = %s", REF, "z@example.com"),
        given("SELECT id, mail FROM customer WHERE mail = %s", "ann@example.com"),
    ],
    "JSON made of encrypted values": [
        "SELECT json_agg(email ORDER BY id), jsonb_agg(birthday ORDER BY id) FROM customer",
        "SELECT to_json(email), to_jsonb(birthday), to_jsonb(tags) FROM customer",
        "SELECT to_jsonb(seen), to_json(balance), to_jsonb(active), to_json(photo), to_jsonb(notes)"
        " FROM customer",
        "SELECT row_to_json(c) FROM customer AS c",
        "SELECT to_jsonb(c) ->> 'email', to_jsonb(c) -> 'data' -> 'contact' FROM customer AS c",
        "SELECT json_agg(c ORDER BY c.id) FROM customer AS c",
        "SELECT jsonb_agg(t ORDER BY t.id) FROM (SELECT id, email, ref FROM customer) AS t",
        "SELECT json_build_object('email', email, 'no', customer_no) FROM customer",
        "SELECT jsonb_build_array(email, name, id, ROW(ssn, birthday)) FROM customer",
        "SELECT jsonb_object_agg(id, email), json_object_agg(id, name ORDER BY id) FROM customer",
        "SELECT array_to_json(tags), array_to_json(ARRAY[email, mail]) FROM customer",
        "SELECT row_to_json(ROW(id, email, data)) FROM customer",
        "SELECT c.id, (SELECT json_agg(o ORDER BY o.id) FROM orders AS o"
        " WHERE o.customer_id = c.id) AS orders FROM customer AS c",
        "SELECT c.id, o.list FROM customer AS c LEFT JOIN LATERAL (SELECT COALESCE(jsonb_agg("
        "jsonb_build_object('e', o.customer_email, 'due', o.due) ORDER BY o.id), '[]') AS list"
        " FROM orders AS o WHERE o.customer_id = c.id) AS o ON true",
        "WITH t AS (SELECT city, jsonb_agg(email ORDER BY email, id) AS emails FROM customer"
        " GROUP BY city) SELECT * FROM t",
        "SELECT COALESCE(json_agg(t), '[]') FROM (SELECT id, email, name FROM customer"
        " ORDER BY email, id LIMIT 10) AS t",
    ],
    "functions over the text": [
        "SELECT email::varchar(5), name::char(3), CAST(ssn AS varchar) FROM customer",
        "SELECT lower(email::text), email::text || '!', length(name::text) FROM customer",
        "SELECT max(email::text), min(birthday::text) FROM customer",
        "SELECT string_agg(DISTINCT email::text, ',' ORDER BY email::text) FROM customer",
        "SELECT email::text = 'ann@example.com', email::text < 'm' FROM customer",
        "SELECT id FROM customer ORDER BY lower(email::text), id",
        'SELECT id, email FROM customer ORDER BY email::text COLLATE "C", id',
        "SELECT lower(email::text) AS e, count(*) FROM customer GROUP BY e",
        "SELECT CASE WHEN email::text LIKE 'a%' THEN 'A' ELSE 'B' END, count(*) FROM customer"
        " GROUP BY 1",
        "SELECT sum(balance::text::numeric), avg(customer_no::text::numeric) FROM customer",
        "SELECT (birthday::text)::date + 1, extract(year FROM seen::text::timestamptz)"
        " FROM customer WHERE id < 60",
        "SELECT tags::text, tags::text[], c::text FROM customer AS c",
        "SELECT to_json(email::text), md5(email::text) FROM customer",
    ],
    "functions over the text in conditions": [
        "SELECT id, email FROM customer WHERE email::text LIKE 'user1%'",
        "SELECT id, email FROM customer WHERE upper(email::text) = upper('ANN@example.com')",
        "SELECT id FROM customer WHERE birthday::text LIKE '1990-%' ORDER BY id",
        "SELECT id FROM customer WHERE name::text ~ '^A' OR customer_no::text = '42'",
        "SELECT id FROM customer WHERE name::text IN ('Ann', 'Bob')",
        "SELECT id, email FROM customer WHERE length(email::text) > 15 AND email <> ''",
        "SELECT c.id, o.id FROM customer AS c JOIN orders AS o"
        " ON lower(o.customer_email::text) = lower(c.email::text)",
        "SELECT email, count(*) FROM customer GROUP BY email HAVING email::text LIKE '%9%'",
        "SELECT id FROM customer WHERE id IN (SELECT customer_id FROM orders"
        " WHERE customer_email::text LIKE 'user2%')",
        "SELECT e FROM (SELECT email AS e FROM customer WHERE name::text = 'Ann') AS t",
        "WITH t AS (SELECT id FROM customer WHERE mail::text LIKE 'a%') SELECT * FROM t",
        "SELECT id FROM customer AS c WHERE EXISTS (SELECT FROM orders AS o"
        " WHERE o.customer_id = c.id AND o.note::text LIKE c.name::text || '%')",
        "UPDATE customer SET city = 'X' WHERE email::text LIKE 'ann%' RETURNING id, email",
        "DELETE FROM orders WHERE customer_email::text LIKE 'user2%' RETURNING id, customer_email",
        given("SELECT id, email FROM customer WHERE email::text LIKE %s", "user3%"),
        "SELECT e FROM (SELECT email::text AS e FROM customer) AS t WHERE e LIKE 'user1%'",
        "WITH t AS (SELECT id, upper(email::text) AS e FROM customer) SELECT * FROM t"
        " WHERE e LIKE 'USER%' ORDER BY e, id",
        "SELECT e, count(*) FROM (SELECT left(email::text, 5) AS e FROM customer) AS t GROUP BY e",
        "SELECT id FROM customer WHERE email::text IN (SELECT customer_email::text FROM orders)",
        "SELECT id FROM customer WHERE email::text ="
        " (SELECT customer_email::text FROM orders WHERE id = 7)",
        "SELECT id FROM customer WHERE lower(email::text) = ANY"
        " (SELECT lower(customer_email::text) FROM orders WHERE product = 'tea')",
        "SELECT id FROM customer WHERE email::text = ANY"
        " (ARRAY(SELECT customer_email::text FROM orders WHERE id < 9))",
        "SELECT c.id, v.id FROM customer AS c LEFT JOIN LATERAL (SELECT * FROM visit"
        " WHERE visit.email::text = c.email::text AND visit.page::text LIKE '%1') AS v ON true",
        "SELECT city, count(*) FILTER (WHERE email::text LIKE 'user1%') FROM customer"
        " GROUP BY city",
        "SELECT (SELECT count(*) FROM orders AS o WHERE o.customer_email::text = c.email::text)"
        " FROM customer AS c",
    ],
    "joins": [
        "SELECT c.id, c.email, o.id FROM customer AS c JOIN orders AS o ON o.customer_id = c.id",
        "SELECT c.id, c.email, o.customer_email, o.note FROM customer AS c"
        " JOIN orders AS o ON o.customer_email = c.email",
        "SELECT c.id, c.name, o.note FROM customer AS c"
        " LEFT JOIN orders AS o ON o.customer_email = c.email AND o.product = 'tea'",
        "SELECT c.email, o.customer_email FROM customer AS c"
        " RIGHT JOIN orders AS o ON o.customer_email = c.email",
        "SELECT c.id, c.email, o.id, o.customer_email FROM customer AS c"
        " FULL JOIN orders AS o ON o.customer_email = c.email",
        "SELECT a.id, b.id, a.email, b.birthday FROM customer AS a, customer AS b"
        " WHERE a.email = b.email AND a.id < b.id",
        "SELECT a.name, b.name AS referrer FROM customer AS a"
        " JOIN customer AS b ON a.referrer_id = b.id",
        "SELECT email, c.id, v.id, v.page FROM customer AS c JOIN visit AS v USING (email)",
        "SELECT * FROM customer AS c JOIN visit AS v USING (email)",
        "SELECT email, count(*) FROM customer FULL JOIN visit USING (email) GROUP BY email",
        "SELECT email, c.email, v.email FROM customer AS c LEFT JOIN visit AS v USING (email)",
        "SELECT * FROM (SELECT email, name FROM customer) AS a"
        " NATURAL JOIN (SELECT email, page FROM visit) AS b",
        "SELECT j.email, j.id FROM (customer AS c JOIN mailing AS m USING (email)) AS j",
        "SELECT joined.email FROM customer JOIN mailing USING (email) AS joined",
        "SELECT c.id, c.email, l.customer_email, l.product FROM customer AS c CROSS JOIN LATERAL"
        " (SELECT * FROM orders AS o WHERE o.customer_id = c.id ORDER BY o.id LIMIT 2) AS l",
        "SELECT c.email, l.n FROM customer AS c, LATERAL"
        " (SELECT count(*) AS n FROM orders AS o WHERE o.customer_email = c.email) AS l",
        "SELECT c.email, l.e FROM customer AS c LEFT JOIN LATERAL (SELECT c.mail AS e"
        " WHERE c.id % 2 = 0) AS l ON true",
        "SELECT c.name, o.note, v.page FROM customer AS c JOIN orders AS o ON o.customer_id = c.id"
        " JOIN visit AS v ON v.email = c.email WHERE c.id < 60",
        "SELECT c.birthday, o.due, c.id, o.id FROM customer AS c"
        " JOIN orders AS o ON o.due = c.birthday WHERE c.id < 40",
        "SELECT c.email, v.t FROM customer AS c JOIN (VALUES (1, 'one'), (2, 'two')) AS v (id, t)"
        " USING (id)",
        "SELECT c.id, c.email FROM customer AS c JOIN (VALUES ('ann@example.com'), (''))"
        " AS v (e) ON c.email = v.e",
        "SELECT n, c.email FROM generate_series(1, 30, 3) AS n LEFT JOIN customer AS c"
        " ON c.id = n * 10",
        "SELECT c.email FROM customer AS c, generate_series(1, 2) AS n WHERE c.id < 10",
        "SELECT c.mail, o.customer_email FROM customer AS c JOIN orders AS o"
        " ON c.mail = o.customer_email",
        "SELECT c.email, o.note FROM customer AS c CROSS JOIN orders AS o"
        " WHERE c.id < 5 AND o.id < 5",
        "SELECT c.email, e.source FROM customer AS c JOIN everybody AS e ON e.email = c.email"
        " WHERE c.id < 30",
        given(
            "SELECT c.name, o.note FROM customer AS c JOIN orders AS o"
            " ON o.customer_email = c.email AND o.product = %s WHERE c.email <> %s",
            *("tea", ""),
        ),
    ],
    "subqueries and common table expressions": [
        "SELECT * FROM (SELECT email, city FROM customer) AS t",
        "SELECT * FROM (SELECT * FROM (SELECT * FROM customer) AS a) AS b WHERE b.id < 30",
        "SELECT t.email FROM (SELECT email FROM customer ORDER BY email LIMIT 10) AS t",
        "SELECT email FROM (SELECT email, id FROM customer ORDER BY email DESC NULLS LAST, id"
        " LIMIT 10 OFFSET 3) AS t",
        "SELECT name, birthday FROM (SELECT name, birthday, id FROM customer"
        " ORDER BY birthday, name, id LIMIT 25) AS t",
        "SELECT t.email, t.n FROM (SELECT email, count(*) AS n FROM customer GROUP BY email) AS t",
        "SELECT count(*) FROM (SELECT DISTINCT email FROM customer) AS t",
        "SELECT count(*) FROM (SELECT email FROM customer UNION SELECT customer_email FROM orders)"
        " AS t",
        "SELECT email FROM (SELECT DISTINCT ON (email) email, id FROM customer"
        " ORDER BY email, id) AS t",
        "SELECT id, email FROM (SELECT id, email, row_number() OVER (ORDER BY email, id) AS n"
        " FROM customer) AS t WHERE n <= 12",
        "SELECT id, email, n FROM (SELECT id, email, row_number() OVER (PARTITION BY email"
        " ORDER BY id) AS n FROM customer) AS t WHERE n = 2",
        "SELECT o.id, (SELECT c.name FROM customer AS c WHERE c.id = o.customer_id) FROM orders o",
        "SELECT (SELECT email FROM customer ORDER BY email DESC NULLS LAST, id LIMIT 1)",
        "SELECT (SELECT ROW(id, email) FROM customer WHERE id = 17)",
        "WITH t AS (SELECT * FROM customer) SELECT * FROM t",
        "WITH t AS (SELECT id, email AS e FROM customer) SELECT e, t.e AS f FROM t WHERE e <> ''",
        "WITH t AS MATERIALIZED (SELECT id, email, birthday FROM customer)"
        " SELECT birthday, email FROM t WHERE email = 'ann@example.com'",
        "WITH t AS NOT MATERIALIZED (SELECT id, email FROM customer)"
        " SELECT a.email, b.id FROM t AS a JOIN t AS b ON a.email = b.email",
        "WITH t (a, b) AS (SELECT name, ssn FROM customer) SELECT b, a FROM t",
        "WITH a AS (SELECT email FROM customer), b AS (SELECT customer_email FROM orders)"
        " SELECT * FROM a WHERE EXISTS (SELECT FROM b WHERE b.customer_email = a.email)",
        "WITH RECURSIVE tree AS (SELECT id, referrer_id, email, 0 AS depth FROM customer"
        " WHERE referrer_id IS NULL UNION ALL SELECT c.id, c.referrer_id, c.email, depth + 1"
        " FROM customer AS c JOIN tree ON c.referrer_id = tree.id)"
        " SELECT id, email, depth FROM tree",
        "WITH RECURSIVE chain AS (SELECT id, referrer_id, name, email FROM customer WHERE id = 200"
        " UNION SELECT c.id, c.referrer_id, c.name, c.email FROM customer AS c, chain"
        " WHERE c.id = chain.referrer_id) SELECT * FROM chain ORDER BY id",
        "WITH RECURSIVE tree AS (SELECT id, email FROM customer WHERE referrer_id IS NULL"
        " UNION ALL SELECT c.id, c.email FROM customer AS c JOIN tree ON c.referrer_id = tree.id)"
        " SEARCH DEPTH FIRST BY id SET place SELECT id, email FROM tree ORDER BY place",
        "WITH n AS (SELECT email, count(*) AS n FROM customer GROUP BY email HAVING count(*) > 1)"
        " SELECT email, n FROM n ORDER BY n DESC, email",
        "WITH t AS (SELECT email FROM customer ORDER BY email, id LIMIT 7)"
        " SELECT * FROM t UNION ALL SELECT * FROM t",
        "SELECT * FROM (WITH t AS (SELECT name FROM customer) SELECT name FROM t) AS u",
        "WITH RECURSIVE t AS (SELECT id, referrer_id, email FROM customer WHERE id = 200"
        " UNION ALL SELECT c.id, c.referrer_id, c.email FROM t JOIN customer AS c"
        " ON c.id = t.referrer_id) CYCLE id SET again USING path SELECT id, email, again FROM t",
        "SELECT * FROM (SELECT email, sum(count(*)) OVER (ORDER BY email) FROM customer"
        " GROUP BY email) AS t",
        "SELECT x.e FROM customer AS c CROSS JOIN LATERAL (VALUES (c.email), (c.mail)) AS x (e)",
        "SELECT * FROM (VALUES ((SELECT email FROM customer WHERE id = 17))) AS v (e)",
        "SELECT id, email FROM customer AS c"
        " ORDER BY (SELECT name FROM customer WHERE customer.id = c.id), id",
        "SELECT * FROM ROWS FROM (generate_series(1, 3)) AS n, customer AS c WHERE c.id = n",
        "SELECT email FROM customer WHERE id IN"
        " (SELECT id FROM customer ORDER BY birthday DESC NULLS LAST, id LIMIT 10)",
        "SELECT email, ARRAY(SELECT o.customer_email FROM orders AS o"
        " WHERE o.customer_id = c.id ORDER BY o.customer_email, o.id) FROM customer AS c",
        "SELECT c.email FROM customer AS c WHERE c.id = (SELECT min(o.customer_id) FROM orders AS o"
        " WHERE o.customer_email = c.email)",
    ],
    "distinct": [
        "SELECT DISTINCT email FROM customer",
        "SELECT DISTINCT name FROM customer",
        "SELECT DISTINCT active FROM customer",
        "SELECT DISTINCT city, birthday FROM customer",
        "SELECT DISTINCT balance FROM customer ORDER BY balance DESC",
        "SELECT DISTINCT email, name FROM customer ORDER BY name NULLS FIRST, email",
        "SELECT DISTINCT email AS e FROM customer ORDER BY e DESC LIMIT 5",
        "SELECT DISTINCT ON (email) email, id FROM customer ORDER BY email, id",
        "SELECT DISTINCT ON (email) email, id, name FROM customer ORDER BY email DESC, id DESC",
        "SELECT DISTINCT ON (name) id FROM customer ORDER BY name, id",
        "SELECT DISTINCT ON (city, active) city, active, email FROM customer"
        " ORDER BY city, active, id",
        "SELECT DISTINCT ON (o.product) o.product, c.email FROM orders AS o"
        " JOIN customer AS c ON c.id = o.customer_id ORDER BY o.product, o.id",
        "SELECT DISTINCT c.email, o.product FROM customer AS c JOIN orders AS o"
        " ON o.customer_email = c.email ORDER BY 1, 2",
        "SELECT DISTINCT tags FROM customer ORDER BY tags",
        "SELECT DISTINCT notes FROM customer",
        "SELECT DISTINCT mail FROM customer ORDER BY 1",
        "SELECT DISTINCT birthday, customer_no FROM customer ORDER BY customer_no DESC, birthday",
    ],
    "group by": [
        "SELECT email, count(*) FROM customer GROUP BY email",
        "SELECT name, count(*) FROM customer GROUP BY name",
        "SELECT birthday, count(*), min(id), max(id) FROM customer GROUP BY 1 ORDER BY 1",
        "SELECT active, city, count(*) FROM customer GROUP BY active, city",
        "SELECT email, name, count(*) FROM customer GROUP BY email, name ORDER BY 1, 2",
        "SELECT customer_no AS no, sum(id) FROM customer GROUP BY no ORDER BY no DESC NULLS LAST",
        "SELECT email, count(*) FROM customer GROUP BY email HAVING count(*) > 3",
        "SELECT email, count(*) FROM customer GROUP BY email HAVING email = 'ann@example.com'",
        "SELECT email, count(*) FROM customer GROUP BY email HAVING email IS NULL",
        "SELECT count(*) FROM customer GROUP BY email ORDER BY email",
        "SELECT email FROM customer GROUP BY email ORDER BY count(*) DESC, email LIMIT 6",
        "SELECT city, email, count(*) FROM customer GROUP BY ROLLUP (city, email)",
        "SELECT city, birthday, count(*), GROUPING(city, birthday) FROM customer"
        " GROUP BY CUBE (city, birthday)",
        "SELECT email, city, count(*) FROM customer GROUP BY GROUPING SETS ((email), (city), ())",
        "SELECT customer_no, count(*) FILTER (WHERE city = 'Rome') FROM customer"
        " GROUP BY customer_no",
        "SELECT city, count(DISTINCT email), count(DISTINCT birthday) FROM customer GROUP BY city",
        "SELECT count(DISTINCT email), count(email), count(DISTINCT ref) FROM customer",
        "SELECT city, count(*) FILTER (WHERE email = 'ann@example.com') FROM customer"
        " GROUP BY city",
        "SELECT id, email, name, count(*) FROM customer GROUP BY id",
        "SELECT c.email, sum(o.amount), avg(o.amount)::numeric(12, 4) FROM customer AS c"
        " JOIN orders AS o ON o.customer_id = c.id GROUP BY c.email",
        "SELECT customer_email, product, sum(amount) FROM orders GROUP BY customer_email, product"
        " ORDER BY sum(amount) DESC, customer_email, product",
        "SELECT customer_email, sum(amount) AS total, count(*) FILTER (WHERE amount > 20)"
        " FROM orders GROUP BY customer_email HAVING sum(amount) > 100 ORDER BY total, 1",
        "SELECT email IS NULL AS missing, count(*) FROM customer GROUP BY missing",
        "SELECT CASE WHEN id % 2 = 0 THEN email END AS e, count(*) FROM customer GROUP BY e",
        "SELECT COALESCE(email, mail), count(*) FROM customer GROUP BY COALESCE(email, mail)",
        "SELECT notes, count(*) FROM customer GROUP BY notes",
        "SELECT photo, balance, count(*) FROM customer GROUP BY photo, balance",
        "SELECT mail, count(*) FROM customer GROUP BY mail ORDER BY mail",
        "SELECT email, array_agg(id ORDER BY id), string_agg(city, ',' ORDER BY id)"
        " FROM customer GROUP BY email",
        "SELECT email, percentile_cont(0.5) WITHIN GROUP (ORDER BY id) FROM customer"
        " GROUP BY email",
        "SELECT email, count(*), sum(count(*)) OVER (ORDER BY email NULLS FIRST) FROM customer"
        " GROUP BY email",
        "SELECT DISTINCT count(*) FROM customer GROUP BY email",
        "SELECT (SELECT count(*) FROM orders AS o WHERE o.customer_email = c.email) AS n, c.email"
        " FROM customer AS c GROUP BY c.email",
        "SELECT array_agg(email ORDER BY email), array_agg(name ORDER BY name DESC, id)"
        " FROM customer",
        "SELECT count(DISTINCT name), count(DISTINCT balance), count(DISTINCT active)"
        " FROM customer",
        "SELECT city, count(DISTINCT (ssn, email)), count(DISTINCT ARRAY[name]) FROM customer"
        " GROUP BY city",
        "SELECT DISTINCT ROW(name, city) FROM customer",
        "SELECT ROW(name, city), count(*) FROM customer GROUP BY 1",
        "SELECT CASE WHEN count(*) > 1 THEN email END FROM customer GROUP BY email",
        "SELECT tags, count(*) FROM customer GROUP BY tags",
        "SELECT GROUPING(email), email, count(*) FROM customer"
        " GROUP BY GROUPING SETS ((email), ()) ORDER BY 1, 2",
        "SELECT email FROM customer GROUP BY email ORDER BY max(id)",
        "SELECT sum(count(*)) OVER (PARTITION BY name) FROM customer GROUP BY name, city",
        "SELECT rank() OVER (ORDER BY email) FROM customer GROUP BY email",
        given(
            "SELECT email, count(*) FROM customer WHERE id > %s GROUP BY email"
            " HAVING email <> %s ORDER BY email",
            *(20, "ann@example.com"),
        ),
    ],
    "order by": [
        "SELECT email FROM customer ORDER BY email",
        "SELECT id, email FROM customer ORDER BY email, id",
        "SELECT id, email FROM customer ORDER BY email DESC, id",
        "SELECT id, email FROM customer ORDER BY email ASC NULLS FIRST, id DESC",
        "SELECT id, email FROM customer ORDER BY email DESC NULLS LAST, id",
        "SELECT id, birthday FROM customer ORDER BY 2, 1",
        "SELECT id, birthday AS born FROM customer ORDER BY born DESC, id",
        "SELECT id FROM customer ORDER BY name, id",
        "SELECT id, customer_no FROM customer ORDER BY customer_no, id",
        "SELECT id, balance FROM customer ORDER BY balance, id",
        "SELECT id, active FROM customer ORDER BY active DESC, id",
        "SELECT id, seen FROM customer ORDER BY seen NULLS FIRST, id",
        "SELECT id, photo FROM customer ORDER BY photo, id",
        "SELECT id, notes FROM customer ORDER BY notes, id",
        "SELECT id, ref FROM customer ORDER BY ref",
        "SELECT id, tags FROM customer ORDER BY tags, id",
        "SELECT id, mail FROM customer ORDER BY mail, id",
        "SELECT * FROM customer ORDER BY city, email, id",
        "SELECT id, email FROM customer ORDER BY upper(city), id % 3, email, id",
        "SELECT id, email FROM customer ORDER BY email IS NULL, email, id",
        "SELECT id, email FROM customer ORDER BY CASE WHEN id % 2 = 0 THEN email END, id",
        "SELECT id, name FROM customer ORDER BY COALESCE(email, mail), id",
        "SELECT id, email FROM customer ORDER BY email = 'ann@example.com' DESC, id",
        "SELECT c.id, o.id FROM customer AS c JOIN orders AS o ON o.customer_email = c.email"
        " ORDER BY o.customer_email, c.id, o.id",
        "SELECT email AS id FROM customer ORDER BY id",
        "SELECT id, email FROM customer ORDER BY ROW(email, id)",
        "SELECT email, count(*) FROM customer GROUP BY email ORDER BY email DESC NULLS LAST",
        "SELECT id, email FROM customer WHERE email <> '' ORDER BY email, name, ssn, id",
        given("SELECT id, email FROM customer WHERE id < %s ORDER BY email, id LIMIT %s", 100, 9),
    ],
    "limit and sampling": [
        "SELECT email FROM customer ORDER BY email LIMIT 5",
        "SELECT email FROM customer ORDER BY email OFFSET 190",
        "SELECT id, email FROM customer ORDER BY email, id LIMIT 7 OFFSET 11",
        "SELECT name FROM customer ORDER BY name FETCH FIRST ROW ONLY",
        "SELECT email FROM customer ORDER BY email OFFSET 2 ROWS FETCH NEXT 4 ROWS ONLY",
        "SELECT email FROM customer ORDER BY email FETCH FIRST 3 ROWS WITH TIES",
        "SELECT birthday FROM customer ORDER BY birthday DESC FETCH FIRST 2 ROWS WITH TIES",
        "SELECT email FROM customer LIMIT (SELECT count(*) FROM orders)",
        "SELECT id, email FROM customer TABLESAMPLE BERNOULLI (100) REPEATABLE (7)",
        "SELECT c.email FROM customer AS c TABLESAMPLE SYSTEM (100) REPEATABLE (1) WHERE id < 50",
        "SELECT email FROM customer LIMIT ALL",
        "SELECT email, name FROM customer ORDER BY id LIMIT 3",
    ],
    "window functions": [
        "SELECT id, email, count(*) OVER (PARTITION BY email) FROM customer",
        "SELECT id, name, count(*) OVER (PARTITION BY name, city) FROM customer",
        "SELECT id, row_number() OVER (ORDER BY email, id) FROM customer",
        "SELECT id, email, rank() OVER (ORDER BY email), dense_rank() OVER (ORDER BY email DESC)"
        " FROM customer",
        "SELECT id, row_number() OVER (PARTITION BY city ORDER BY birthday DESC, id) FROM customer",
        "SELECT id, lag(email) OVER (ORDER BY id), lead(name, 2) OVER (ORDER BY id) FROM customer",
        "SELECT id, lag(email) OVER (ORDER BY email, id) FROM customer",
        "SELECT id, first_value(email) OVER w, last_value(email) OVER w, nth_value(ssn, 2) OVER w"
        " FROM customer WINDOW w AS (PARTITION BY city ORDER BY id)",
        "SELECT id, first_value(name) OVER (PARTITION BY email ORDER BY name, id) FROM customer",
        "SELECT id, sum(id) OVER w, avg(id) OVER w FROM customer"
        " WINDOW w AS (PARTITION BY email ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING)",
        "SELECT id, count(*) OVER (ORDER BY birthday RANGE BETWEEN UNBOUNDED PRECEDING"
        " AND CURRENT ROW) FROM customer",
        "SELECT id, count(*) OVER (ORDER BY email GROUPS BETWEEN 1 PRECEDING AND CURRENT ROW"
        " EXCLUDE CURRENT ROW) FROM customer",
        "SELECT id, sum(id) OVER b, count(*) OVER (b ORDER BY id) FROM customer"
        " WINDOW b AS (PARTITION BY customer_no)",
        "SELECT id, ntile(4) OVER (ORDER BY balance, id), percent_rank() OVER (ORDER BY seen)"
        " FROM customer",
        "SELECT email, row_number() OVER (ORDER BY id) AS n FROM customer ORDER BY n DESC",
        "SELECT email, count(*) OVER () FROM customer",
        "SELECT id, email FROM customer ORDER BY row_number() OVER (ORDER BY name, email, id)",
        "SELECT email, count(*), rank() OVER (ORDER BY count(*) DESC) FROM customer GROUP BY email",
        "SELECT id, array_agg(email) OVER (ORDER BY id ROWS 2 PRECEDING) FROM customer",
        "SELECT DISTINCT email, count(*) OVER (PARTITION BY email) FROM customer",
        "SELECT id, count(email) FILTER (WHERE city = 'Rome')"
        " OVER (PARTITION BY active ORDER BY id) FROM customer",
        given("SELECT id, lag(email, %s::int) OVER (ORDER BY id) FROM customer", 3),
    ],
    "set operations": [
        "SELECT email FROM customer UNION SELECT customer_email FROM orders",
        "SELECT email FROM customer UNION ALL SELECT customer_email FROM orders",
        "SELECT email FROM customer INTERSECT SELECT customer_email FROM orders",
        "SELECT email FROM customer INTERSECT ALL SELECT customer_email FROM orders",
        "SELECT email FROM customer EXCEPT SELECT customer_email FROM orders",
        "SELECT email FROM customer EXCEPT ALL SELECT email FROM customer WHERE id > 50",
        "SELECT name FROM customer UNION SELECT note FROM orders ORDER BY 1",
        "SELECT name FROM customer UNION SELECT ssn FROM customer",
        "SELECT id, email FROM customer UNION SELECT id, customer_email FROM orders"
        " ORDER BY email DESC, id LIMIT 9",
        "SELECT email AS e, 1 AS n FROM customer UNION ALL SELECT customer_email, 2 FROM orders"
        " ORDER BY n, e",
        "SELECT birthday FROM customer UNION SELECT due FROM orders ORDER BY birthday",
        "SELECT email FROM customer UNION (SELECT customer_email FROM orders"
        " EXCEPT SELECT email FROM visit) ORDER BY 1",
        "(SELECT email FROM customer UNION ALL SELECT email FROM visit)"
        " INTERSECT SELECT customer_email FROM orders",
        "(SELECT email FROM customer ORDER BY email, id LIMIT 4)"
        " UNION ALL (SELECT customer_email FROM orders ORDER BY customer_email DESC, id LIMIT 4)",
        "SELECT email FROM customer UNION ALL SELECT NULL",
        "SELECT NULL UNION ALL SELECT email FROM customer",
        "SELECT id, name, birthday FROM customer WHERE id < 20"
        " UNION SELECT id, name, birthday FROM customer WHERE id < 40",
        "SELECT mail FROM customer UNION SELECT email FROM customer",
        "SELECT tags FROM customer UNION SELECT tags FROM customer WHERE id < 9",
        "SELECT email FROM customer UNION SELECT email FROM visit"
        " UNION ALL SELECT email FROM mailing",
        "SELECT * FROM (SELECT email FROM customer UNION ALL SELECT email FROM visit) AS t"
        " WHERE email = 'ann@example.com'",
        "SELECT email, count(*) FROM (SELECT email FROM customer UNION ALL SELECT email FROM visit)"
        " AS t GROUP BY email",
        "SELECT DISTINCT email FROM customer UNION ALL SELECT DISTINCT email FROM visit",
        "SELECT email, count(*) FROM customer GROUP BY email"
        " UNION ALL SELECT customer_email, -count(*) FROM orders GROUP BY 1",
        "WITH t AS (SELECT email FROM customer) SELECT email FROM t UNION SELECT email FROM visit"
        " ORDER BY email NULLS FIRST OFFSET 3",
        "SELECT active, balance, seen, photo, notes FROM customer"
        " EXCEPT SELECT active, balance, seen, photo, notes FROM customer WHERE id < 100",
        given(
            "SELECT email FROM customer WHERE email = %s UNION SELECT customer_email FROM orders"
            " WHERE customer_email = %s",
            *("ann@example.com", "z@example.com"),
        ),
    ],
    "locking": [
        "SELECT * FROM customer WHERE id < 10 FOR UPDATE",
        "SELECT id, email FROM customer WHERE email = 'ann@example.com' FOR SHARE",
        "SELECT id, email FROM customer ORDER BY id LIMIT 3 FOR UPDATE SKIP LOCKED",
        "SELECT id, email FROM customer ORDER BY email, id LIMIT 3 FOR NO KEY UPDATE NOWAIT",
        "SELECT c.email, o.note FROM customer AS c JOIN orders AS o ON o.customer_id = c.id"
        " WHERE c.id < 9 FOR UPDATE OF c",
        "SELECT email FROM (SELECT email, id FROM customer WHERE id < 9 FOR UPDATE) AS t",
        "WITH t AS (SELECT id FROM customer WHERE id < 5 FOR KEY SHARE)"
        " SELECT c.email FROM customer AS c JOIN t USING (id)",
        given("SELECT email, name FROM customer WHERE email = %s FOR UPDATE", "ann@example.com"),
    ],
    "views and partitions": [
        "SELECT * FROM contact",
        "SELECT name, tags FROM contact WHERE email = 'ann@example.com'",
        "SELECT * FROM contact ORDER BY birthday DESC, id LIMIT 20",
        "SELECT address FROM contact_of_contact WHERE address <> ''",
        "SELECT * FROM contact_of_contact",
        "SELECT * FROM ordering",
        "SELECT name, customer_email, ref FROM ordering WHERE product = 'tea'",
        "SELECT * FROM shared_email",
        "SELECT email FROM shared_email ORDER BY customers DESC, email",
        "SELECT * FROM everybody",
        "SELECT email, count(*) FROM everybody WHERE source = 'orders' GROUP BY email",
        "SELECT c.mail, v.email FROM contact AS c JOIN visit AS v ON v.email = c.mail",
        "SELECT * FROM visit",
        "SELECT * FROM visit_old",
        "SELECT tableoid::regclass::text, email, page FROM visit WHERE day > '2024-03-01'",
        "SELECT email, page FROM visit WHERE email = 'ann@example.com' AND day < '2024-01-01'",
        "SELECT page, count(*) FROM visit GROUP BY page ORDER BY page",
        "SELECT day, length, email FROM visit ORDER BY email NULLS FIRST, day",
        "SELECT * FROM mailing WHERE email = 'ann@example.com'",
        "SELECT email, topic FROM mailing",
        "SELECT m.topic, c.name FROM mailing AS m JOIN customer AS c ON c.email = m.email",
        "SELECT DISTINCT email FROM mailing ORDER BY email",
        given("SELECT topic, email FROM mailing WHERE email = %s", "ann@example.com"),
        given("SELECT * FROM contact WHERE birthday = %s", date(1990, 5, 17)),
    ],
    "documents": [
        "SELECT data FROM customer",
        "SELECT id, data->>'name', data->'contact' FROM customer",
        "SELECT data#>>'{contact,email}' FROM customer",
        "SELECT data->'contact'->>'email' AS email FROM customer",
        "SELECT data->'phones'->0->>'number', data#>'{phones,1}' FROM customer",
        "SELECT data['contact']['email'] FROM customer",
        "SELECT jsonb_pretty(data) FROM customer",
        "SELECT data::text, CAST(data AS text) FROM customer",
        "SELECT data - 'phones', data #- '{contact,city}', data || '{\"x\": 1}' FROM customer",
        "SELECT jsonb_array_length(data->'phones') FROM customer WHERE id % 10 <> 0",
        "SELECT jsonb_path_query_first(data, '$.contact.email') FROM customer",
        "SELECT jsonb_path_query_array(data, '$.phones[*].number') FROM customer",
        "SELECT jsonb_extract_path_text(data, 'contact', 'email') FROM customer",
        "SELECT upper(data#>>'{contact,email}'), length(data#>>'{contact,email}') FROM customer",
        "SELECT data#>>'{contact,email}' LIKE 'ann%' FROM customer",
        "SELECT jsonb_typeof(data#>'{contact,email}'), data ? 'contact' FROM customer",
        "SELECT COALESCE(data#>>'{contact,email}', 'none') FROM customer",
        "SELECT CASE WHEN data ? 'phones' THEN data->'phones' ELSE '[]' END FROM customer",
        "SELECT ROW(id, data) FROM customer",
        "SELECT id, jsonb_array_elements(data->'phones')->>'number' FROM customer"
        " WHERE id % 10 <> 0",
        "SELECT jsonb_build_object('mail', data#>'{contact,email}', 'id', id) FROM customer",
        "SELECT jsonb_agg(data ORDER BY id) FROM customer",
        "SELECT string_agg(data#>>'{contact,email}', ',' ORDER BY id) FROM customer",
        "SELECT city, max(data#>>'{contact,email}') FROM customer GROUP BY city",
        "SELECT count(data), count(DISTINCT data#>>'{contact,email}') FROM customer",
        "SELECT data#>>'{contact,email}' AS e, count(*) FROM customer GROUP BY e",
        "SELECT DISTINCT data->'contact' FROM customer",
        "SELECT id, data#>>'{contact,email}' AS e FROM customer ORDER BY e, id",
        "SELECT id FROM customer ORDER BY data#>>'{contact,email}' DESC, id",
        "SELECT data FROM customer ORDER BY data, id",
        "SELECT id, row_number() OVER (ORDER BY data#>>'{contact,email}', id) FROM customer",
        "SELECT id, lag(data) OVER (ORDER BY id) FROM customer",
        "SELECT data FROM customer UNION ALL SELECT data FROM profile",
        "SELECT data->'contact' FROM customer UNION SELECT data->'card' FROM profile",
        "SELECT id, data->>'name' FROM customer WHERE data->>'name' = 'Ann'",
        "SELECT data->'contact' FROM (SELECT id, data FROM customer) AS t WHERE id < 30",
        "WITH t AS (SELECT data AS d FROM customer) SELECT d, d#>>'{contact,email}' FROM t",
        "SELECT c.data#>>'{contact,email}', o.id FROM customer AS c"
        " LEFT JOIN orders AS o ON o.customer_id = c.id",
        "SELECT data#>>'{contact,email}' FROM contact",
        "SELECT data FROM contact_of_contact",
        "SELECT id, data FROM profile",
        "SELECT data->>'secret', data#>>'{card,number}', data->'n' FROM profile",
        "SELECT id FROM profile ORDER BY data->>'secret'",
        "SELECT (c).data FROM customer AS c",
        "SELECT data IS NULL, data = '{}' FROM customer",
        "SELECT (SELECT data #>> '{contact,email}') FROM customer",
        "SELECT (SELECT c.data FROM customer AS c WHERE c.id = o.customer_id) FROM orders AS o",
        "SELECT ARRAY(SELECT data #>> '{contact,email}' FROM customer ORDER BY id)",
        "SELECT jsonb_set(data, '{contact,email}', '\"x\"') FROM customer WHERE id % 10 <> 0",
        "SELECT id, data, email FROM customer WHERE email = 'ann@example.com'",
        given("SELECT data->>%s, data#>>%s FROM customer", "name", ["contact", "email"]),
    ],
    "writing": [
        "INSERT INTO customer (id, email, birthday, data) VALUES (1001, 'new@example.com',"
        ' \'1999-01-02\', \'{"contact": {"email": "new@example.com"}}\') RETURNING *',
        "INSERT INTO customer (id, name, email) VALUES (1001, 'A', 'a'), (1002, NULL, 'b')"
        " RETURNING id, name, email AS e",
        "INSERT INTO customer (id, email, tags) SELECT id + 1000, email, tags FROM customer"
        " WHERE id < 20 RETURNING id, email, tags",
        "INSERT INTO orders (id) VALUES (1001) RETURNING customer_email, note, due, id",
        "INSERT INTO customer (id, customer_no, ref, balance, active, seen, photo, notes, mail)"
        f" VALUES (1001, 5, '{REF[:-1]}0', 1.10, true, '2024-01-01 10:00+02', '\\x00ff',"
        " '{\"a\": 1}', 'm') RETURNING customer_no, ref, balance, active, seen, photo, notes, mail",
        "INSERT INTO customer (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE"
        " SET email = excluded.email RETURNING id, email, name",
        f"INSERT INTO customer (id, ref, name) VALUES (1001, '{REF}', 'x') ON CONFLICT (ref)"
        " DO UPDATE SET name = excluded.name RETURNING id, ref, name",
        "INSERT INTO customer (id, name) VALUES (1, 'x'), (1001, 'y') ON CONFLICT DO NOTHING"
        " RETURNING id, name",
        "INSERT INTO customer AS c (id, name) VALUES (1001, 'y') RETURNING c.*",
        "INSERT INTO customer (id, email) VALUES (1001, 'y') RETURNING customer, email::text",
        "INSERT INTO visit VALUES (1001, '2024-05-05', 'v@example.com', '/x', 1.50) RETURNING *",
        "INSERT INTO contact (id, email, name) VALUES (1001, 'v@example.com', 'V') RETURNING *",
        "UPDATE customer SET email = 'changed' WHERE id < 5 RETURNING id, email, name",
        "UPDATE customer SET email = mail, mail = email WHERE id < 50 RETURNING *",
        "UPDATE customer SET name = 'Z' WHERE email = 'ann@example.com' RETURNING id, name, email",
        "UPDATE customer AS c SET name = o.product FROM orders AS o WHERE o.id = c.id AND c.id < 9"
        " RETURNING c.id, c.name, o.customer_email, o.note",
        "UPDATE customer SET (name, email) = ROW('n', 'e') WHERE id = 3 RETURNING name, email",
        "UPDATE customer SET (email, birthday) = (SELECT customer_email, due FROM orders"
        " WHERE orders.id = customer.id) WHERE id < 10 RETURNING id, email, birthday",
        "UPDATE customer SET tags = '{a,b}' WHERE id = 4 RETURNING tags, tags[2]",
        'UPDATE customer SET data = \'{"contact": {"email": "u"}, "k": 1}\' WHERE id = 5'
        " RETURNING data, data#>>'{contact,email}'",
        "UPDATE visit SET page = '/moved', day = '2026-01-01' WHERE id < 4 RETURNING *",
        "UPDATE contact SET name = 'V' WHERE id = 6 RETURNING name, email, data",
        "UPDATE customer SET city = 'X' WHERE id = 7 RETURNING CASE WHEN id = 7 THEN email END,"
        " COALESCE(email, mail)",
        "DELETE FROM orders WHERE id < 30 RETURNING *",
        "DELETE FROM orders WHERE customer_email = 'ann@example.com' RETURNING id, customer_email",
        "DELETE FROM orders AS o USING customer AS c WHERE o.customer_id = c.id AND c.id < 20"
        " RETURNING o.id, c.email, c.birthday, o.due",
        "DELETE FROM profile WHERE id < 3 RETURNING id, data",
        "WITH gone AS (DELETE FROM orders WHERE id < 9 RETURNING *) SELECT * FROM gone",
        "WITH gone AS (DELETE FROM orders WHERE id < 30 RETURNING *)"
        " SELECT customer_email, count(*) FROM gone GROUP BY customer_email",
        "WITH new AS (INSERT INTO orders (id, customer_email) VALUES (1001, 'ann@example.com')"
        " RETURNING id, customer_email) SELECT new.id, c.email, c.name FROM new"
        " JOIN customer AS c ON c.email = new.customer_email",
        "WITH changed AS (UPDATE customer SET email = 'w' WHERE id < 4 RETURNING id, email)"
        " SELECT c.id, c.email AS before, changed.email AS after FROM changed"
        " JOIN customer AS c USING (id)",
        "WITH t AS (SELECT id, email FROM customer WHERE id < 9) UPDATE orders SET"
        " customer_email = t.email FROM t WHERE t.id = orders.id RETURNING orders.*",
        "WITH copied AS (SELECT email FROM customer WHERE id = 1) INSERT INTO orders"
        " (id, customer_email) SELECT 1001, email FROM copied RETURNING *",
        given(
            "INSERT INTO orders (id, customer_email, note) VALUES (%s, %s, %b)"
            " RETURNING customer_email, note, due",
            1001,
            "p@example.com",
            "note",
        ),
        given(
            "UPDATE customer SET email = %s, birthday = %s, customer_no = %s, balance = %s"
            " WHERE email = %s RETURNING id, email, birthday, customer_no, balance",
            "q",
            date(1970, 1, 1),
            99,
            Decimal("1.50"),
            "ann@example.com",
        ),
        given("DELETE FROM orders WHERE customer_email = %s RETURNING *", "ann@example.com"),
    ],
    "merge returning": [
        "MERGE INTO customer AS c USING (VALUES (1, 'm'), (1001, 'n')) AS v (id, email)"
        " ON c.id = v.id WHEN MATCHED THEN UPDATE SET email = v.email"
        " WHEN NOT MATCHED THEN INSERT (id, email) VALUES (v.id, v.email)"
        " RETURNING merge_action(), c.id, c.email, c.name, v.email AS given",
        "MERGE INTO orders AS o USING customer AS c ON o.customer_id = c.id AND c.id < 30"
        " WHEN MATCHED AND o.product = 'tea' THEN DELETE"
        " WHEN MATCHED THEN UPDATE SET customer_email = c.mail"
        " RETURNING merge_action(), o.*, c.email",
        "WITH m AS (MERGE INTO orders AS o USING customer AS c ON o.id = c.id AND c.id < 5"
        " WHEN MATCHED THEN UPDATE SET customer_email = c.email RETURNING o.id, c.email)"
        " SELECT * FROM m",
    ],
    "old and new": [
        "UPDATE customer SET email = 'changed' WHERE id < 5 RETURNING old.email, new.email, name",
        "UPDATE customer SET email = 'changed' WHERE id < 5 RETURNING old, new.birthday",
        "DELETE FROM orders WHERE id < 5 RETURNING old.*, new.customer_email",
        "INSERT INTO orders (id, customer_email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE"
        " SET customer_email = excluded.customer_email"
        " RETURNING WITH (OLD AS before, NEW AS after) before.customer_email, after.*",
    ],
}

SINCE = {"merge returning": 17, "old and new": 18}

# Statements one after the other, each compared: what takes more than one.
SCRIPTS = [
    (
        "BEGIN",
        "DECLARE c CURSOR FOR SELECT id, email, birthday FROM customer ORDER BY email, id",
        "FETCH 3 FROM c",
        "FETCH NEXT FROM c",
        "MOVE 10 FROM c",
        "FETCH FORWARD 5 FROM c",
        "FETCH ALL FROM c",
        "CLOSE c",
        "COMMIT",
    ),
    (
        "BEGIN",
        "DECLARE c SCROLL CURSOR FOR SELECT * FROM customer ORDER BY id",
        "FETCH LAST FROM c",
        "FETCH PRIOR FROM c",
        "FETCH BACKWARD 4 FROM c",
        "FETCH ABSOLUTE 17 FROM c",
        "FETCH RELATIVE -3 FROM c",
        "MOVE FIRST FROM c",
        "FETCH 2 FROM c",
        "COMMIT",
    ),
    (
        "BEGIN",
        "DECLARE h CURSOR WITH HOLD FOR SELECT name, data, tags FROM customer ORDER BY id",
        "FETCH 3 FROM h",
        "COMMIT",
        "FETCH 3 FROM h",
        "FETCH ALL FROM h",
        "CLOSE h",
    ),
    (
        "BEGIN",
        "DECLARE b BINARY CURSOR FOR SELECT birthday, email, notes FROM customer ORDER BY id",
        "FETCH ALL FROM b",
        "COMMIT",
    ),
    (
        "BEGIN",
        "DECLARE u CURSOR FOR SELECT id, email FROM customer WHERE id < 5 ORDER BY id FOR UPDATE",
        "FETCH 2 FROM u",
        "UPDATE customer SET email = 'moved' WHERE CURRENT OF u RETURNING id, email, name",
        "FETCH ALL FROM u",
        "ROLLBACK",
    ),
    (
        "BEGIN",
        "DECLARE g INSENSITIVE CURSOR FOR SELECT email, count(*) FROM customer GROUP BY email"
        " ORDER BY email",
        "FETCH ALL FROM g",
        "ROLLBACK",
    ),
    (
        "PREPARE by_email (text) AS SELECT id, email, name FROM customer WHERE email = $1"
        " ORDER BY id",
        "EXECUTE by_email ('ann@example.com')",
        "EXECUTE by_email ('z@example.com')",
        "EXECUTE by_email ('')",
        "EXPLAIN EXECUTE by_email ('')",
        "DEALLOCATE by_email",
    ),
    (
        "PREPARE untyped AS SELECT id, email, birthday FROM customer WHERE email = $1"
        " OR birthday = $2 ORDER BY id",
        "EXECUTE untyped ('ann@example.com', '2000-02-29')",
        "SET plan_cache_mode = force_generic_plan",
        "EXECUTE untyped ('z@example.com', '1990-05-17')",
        "SET plan_cache_mode = force_custom_plan",
        "EXECUTE untyped ('z@example.com', NULL)",
        "RESET plan_cache_mode",
        "DEALLOCATE untyped",
    ),
    (
        "PREPARE listed (text[]) AS SELECT id, email FROM customer WHERE email = ANY ($1)"
        " ORDER BY email, id",
        "EXECUTE listed ('{ann@example.com,\"\"}')",
        "DEALLOCATE listed",
    ),
    (
        "PREPARE born (date, bigint, uuid) AS SELECT id, birthday, customer_no, ref FROM customer"
        " WHERE birthday = $1 OR customer_no = $2 OR ref = $3 ORDER BY id",
        f"EXECUTE born ('1990-05-17', 42, '{REF}')",
        "EXECUTE born (NULL, 4711, NULL)",
        "DEALLOCATE born",
    ),
    (
        "PREPARE replanned AS SELECT email, data FROM customer ORDER BY email, id",
        "EXECUTE replanned",
        "ANALYZE customer",  # the plan is made anew
        "EXECUTE replanned",
        "CREATE TEMP TABLE other (id int)",
        "DROP TABLE other",
        "EXECUTE replanned",
        "DEALLOCATE replanned",
    ),
    (
        "PREPARE written (int, text) AS INSERT INTO orders (id, customer_email) VALUES ($1, $2)"
        " RETURNING id, customer_email",
        "BEGIN",
        "EXECUTE written (1001, 'p@example.com')",
        "EXECUTE written (1002, NULL)",
        "SELECT customer_email FROM orders WHERE customer_email = 'p@example.com'",
        "ROLLBACK",
        "DEALLOCATE written",
    ),
    (
        "BEGIN",
        "PREPARE listed AS SELECT id, name FROM customer ORDER BY name, id",
        "EXECUTE listed",
        "SAVEPOINT s",
        "UPDATE customer SET name = 'renamed' WHERE id < 9",
        "EXECUTE listed",
        "ROLLBACK TO s",
        "EXECUTE listed",
        "COMMIT",
        "DEALLOCATE listed",
    ),
    (
        "BEGIN",
        "MERGE INTO orders AS o USING customer AS c ON o.customer_email = c.email AND c.id < 9"
        " AND o.id < 200 AND c.id = o.id WHEN MATCHED THEN UPDATE SET note = c.name"
        " WHEN NOT MATCHED AND c.id < 5 THEN INSERT (id, customer_email) VALUES (c.id + 1000,"
        " c.email)",
        "SELECT * FROM orders ORDER BY id",
        "ROLLBACK",
    ),
    (
        "BEGIN",
        "INSERT INTO orders (id, customer_email, due) SELECT id + 1000, email, birthday"
        " FROM customer",
        "UPDATE orders SET note = 'n' WHERE customer_email = 'ann@example.com'",
        "DELETE FROM orders WHERE customer_email = 'z@example.com'",
        "SELECT * FROM orders ORDER BY customer_email, id",
        "SELECT customer_email, count(*) FROM orders GROUP BY customer_email ORDER BY 2, 1",
        "ROLLBACK",
    ),
    (
        "BEGIN",
        "CREATE TEMP TABLE copied AS SELECT id FROM customer WHERE email = 'ann@example.com'",
        "SELECT c.email FROM customer AS c JOIN copied USING (id) ORDER BY c.id",
        "ROLLBACK",
    ),
    (
        "SET TIME ZONE 'Asia/Kathmandu'",
        "SET DateStyle = 'German'",
        "SET bytea_output = 'escape'",
        "SELECT birthday, seen, photo FROM customer ORDER BY id",
        "SELECT birthday::text, seen::text, photo::text FROM customer ORDER BY seen, id",
        "SELECT id FROM customer WHERE birthday = '17.05.1990' ORDER BY id",
        "RESET ALL",
    ),
]

# Functions over an encrypted value, and what is computed below the top: they give ciphertext.
NOT_REACHED = [
    "SELECT concat(email, '') FROM customer WHERE id = 17",
    "SELECT format('%s', birthday) FROM customer WHERE id = 17",
    "SELECT email || '' FROM customer WHERE id = 17",
    "SELECT array_to_string(ARRAY[email, ssn], '') FROM customer WHERE id = 17",
    "SELECT e FROM (SELECT data #>> '{contact,email}' AS e FROM customer WHERE id = 17) AS t",
    "SELECT p ->> 'number' FROM customer, jsonb_array_elements(data -> 'phones') AS p"
    " WHERE id = 17",
]

# What the encrypted types do not have, and what the plain ones do.
NOT_THERE = {
    "SELECT lower(email) FROM customer": "42883",
    "SELECT max(birthday), sum(balance) FROM customer": "42883",
    "SELECT balance + 1 FROM customer": "42883",
    "SELECT extract(year FROM birthday) FROM customer": "42883",
    "SELECT id FROM customer WHERE email LIKE 'ann%'": "42883",
    "SELECT id FROM customer WHERE email ~ 'ann'": "42883",
    "SELECT id FROM customer WHERE birthday < '2000-01-01'": "42883",
    "SELECT id FROM customer WHERE customer_no BETWEEN 1 AND 9": "42883",
    "SELECT id FROM customer WHERE active": "42804",
    "SELECT id FROM customer ORDER BY email USING <": "42883",
    # a row is compared by operators of one type on both sides
    "SELECT id FROM customer WHERE (email, customer_no) = ('x', 7)": "0A000",
    'SELECT id FROM customer ORDER BY email COLLATE "C"': "42804",
    "SELECT email FROM customer UNION SELECT city FROM customer": "42804",
    "SELECT COALESCE(email, city) FROM customer": "42804",
    "SELECT id FROM customer WHERE name = 'Ann'": "0A000",
    "SELECT id FROM customer WHERE balance = 1.10": "0A000",
    "SELECT id FROM customer WHERE active = true": "0A000",
    "SELECT id FROM customer WHERE name IN ('Ann', 'Bob')": "0A000",
    # DISTINCT aggregates other than count() go by token, and have no order
    "SELECT array_agg(DISTINCT name) FROM customer": "0A000",
    "SELECT array_agg(DISTINCT email ORDER BY email) FROM customer": "0A000",
    "SELECT array_agg(DISTINCT birthday ORDER BY birthday DESC) FROM customer": "0A000",
    "SELECT name, count(*) FROM customer GROUP BY ROLLUP (name)": "0A000",
    # each literal is sealed on its own: two are not the same expression; name it by alias
    "SELECT COALESCE(email, 'z'), count(*) FROM customer GROUP BY COALESCE(email, 'z')": "42803",
    "SELECT DISTINCT ON (COALESCE(email, 'z')) id FROM customer"
    " ORDER BY COALESCE(email, 'z')": "42P10",
    # below the top values are like each other by token
    "SELECT * FROM (SELECT DISTINCT name FROM customer) AS t": "0A000",
    "WITH t AS (SELECT name, count(*) FROM customer GROUP BY name) SELECT * FROM t": "0A000",
    "SELECT mode() WITHIN GROUP (ORDER BY email) FROM customer": "0A000",
    # a literal has no field where PostgreSQL does not tell which one
    "SELECT email FROM customer WHERE COALESCE(email, 'none') = 'none'": "0A000",
    "SELECT array_position(tags, 'vip') FROM customer": "0A000",
    "SELECT birthday::timestamp FROM customer": "42846",
    "SELECT customer_no::int FROM customer": "42846",
}

# Nothing that a role without grants is shown may match.
SECRET = re.compile(rb"@example|987-65|123-45|\+49 |/page/|secret-", re.IGNORECASE)

HIDDEN = (None, "********")
OPTIONS = "-c fieldcrypt.account=acme -c search_path={}"
ROW_TYPES = 16384  # types from here on are the database's own
RECORD = psycopg.adapters.types["record"].oid
ARRAYS = {info.array_oid for info in psycopg.adapters.types}


def plain_form(definitions):
    """The tables with the native types."""
    return re.sub(r"fieldcrypt\.encrypted_(\w+)\('[^']+'\)", r"\1", definitions)


def load(connection):
    for table, rows in rows_of_tables().items():
        with connection.cursor().copy(f"COPY {table} FROM STDIN") as stream:
            for row in rows:
                stream.write_row(row)


@pytest.fixture(scope="module")
def database(cluster):
    """The tables in both forms, and the role `shop`, which reads transparently."""
    with account_database(cluster) as database:
        cluster.create_roles("shop")
        database.execute("ALTER ROLE shop SET fieldcrypt.transparent = on")
        for field, search in FIELDS.items():
            database.execute(
                "SELECT fieldcrypt.create_field(%s, search => %s)", [field, [search][: len(search)]]
            )
        database.execute(
            "SELECT fieldcrypt.grant_access('shop', '{encrypt,search,decrypt}', 'acme', '*')"
        )
        for schema, definitions in {
            "plain": plain_form(TABLES),
            "enc": TABLES + PROTECTED,
        }.items():
            database.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}")
            database.execute(definitions)
            database.execute(f"GRANT ALL ON SCHEMA {schema} TO shop")
            database.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO shop")
            with database.connect("shop", options=OPTIONS.format(schema)) as connection:
                load(connection)
            database.execute("RESET search_path; ANALYZE")
        yield database


@pytest.fixture
def connections(database):
    """Sessions of `shop`, one for each form of the tables."""
    opened = [
        database.connect("shop", prepare_threshold=None, options=OPTIONS.format(schema))
        for schema in ("plain", "enc")
    ]
    yield opened
    for connection in opened:
        connection.close()


@dataclass(frozen=True)
class Outcome:
    """What a statement gave: its command tag, and names, types and raw values of its columns."""

    status: str
    names: list
    types: list
    rows: list


def outcome(cursor):
    result = cursor.pgresult
    columns = range(result.nfields)
    return Outcome(
        status=cursor.statusmessage,
        names=[result.fname(column) for column in columns],
        types=[result.ftype(column) for column in columns],
        rows=[
            tuple(result.get_value(row, column) for column in columns)
            for row in range(result.ntuples)
        ],
    )


def assert_same(plain, encrypted, ordered, binary=False):
    """Compares two outcomes.

    A whole row of the encrypted table is a record of plain columns. Its text is compared; in
    binary it names types, of which the domains belong to one schema.
    """
    assert encrypted.status == plain.status
    assert encrypted.names == plain.names
    whole_rows = [kind >= ROW_TYPES for kind in plain.types]
    assert encrypted.types == [
        RECORD if whole else kind for whole, kind in zip(whole_rows, plain.types, strict=True)
    ]
    expected, found = plain.rows, encrypted.rows
    if binary:
        expected, found = (
            [comparable_in_binary(row, plain.types) for row in rows] for rows in (expected, found)
        )
    if ordered:
        assert found == expected
    else:
        assert sorted(found, key=repr) == sorted(expected, key=repr)


def comparable_in_binary(row, types):
    """A row without whole rows, and without the flag of arrays that there may be NULLs in them.

    A slice of an array has the flag that the array had; one that is made anew has its own.
    """
    return tuple(
        value[:4] + value[8:] if value is not None and kind in ARRAYS else value
        for value, kind in zip(row, types, strict=True)
        if kind < ROW_TYPES
    )


def is_ordered(statement):
    """Whether ORDER BY stands outside of all parentheses."""
    while True:
        outer = re.sub(r"'[^']*'|\([^()]*\)", "", statement)
        if outer == statement:
            return " ORDER BY " in outer
        statement = outer


def is_query(statement):
    """Whether it can be made a cursor: it only reads."""
    return not re.search(r"\b(INSERT|UPDATE|DELETE|MERGE)\b(?! OF)", without_locks(statement))


def without_locks(statement):
    return re.sub(r"FOR (NO KEY )?UPDATE", "", statement)


def every_query():
    for group, queries in QUERIES.items():
        if VERSION >= SINCE.get(group, 0):
            for query in queries:
                yield query if isinstance(query, With) else With(query, ())


def literal(connection, query):
    """The statement with its parameters written as literals."""
    if not query.parameters:
        return query.statement
    return ClientCursor(connection).mogrify(query.statement, query.parameters)


def executed(connection, statement, parameters=None, **options):
    """What a statement gives; what it changes is undone."""
    with connection.transaction(force_rollback=True):
        return outcome(connection.execute(statement, parameters, **options))


def in_simple_protocol(connection, query):
    return [executed(connection, literal(connection, query))]


def in_binary(connection, query):
    return [
        executed(connection, query.statement, query.parameters or None, prepare=False, binary=True)
    ]


def with_parameters(connection, query):
    return [executed(connection, query.statement, query.parameters or None, prepare=False)]


def prepared(connection, query):
    found = []
    for plans in "force_generic_plan", "force_custom_plan":
        connection.execute(f"SET plan_cache_mode = {plans}")
        found.append(executed(connection, query.statement, query.parameters or None, prepare=True))
    return found


def prepared_in_binary(connection, query):
    return [
        executed(connection, query.statement, query.parameters or None, prepare=True, binary=True)
    ]


def by_execute(connection, query):
    """PREPARE and EXECUTE in SQL."""
    connection.execute("DEALLOCATE ALL")
    connection.execute(f"PREPARE statement AS {literal(connection, query)}")
    return [executed(connection, "EXECUTE statement") for _ in range(2)]


def by_cursor(connection, query):
    with connection.transaction(force_rollback=True):
        connection.execute(f"DECLARE c CURSOR FOR {literal(connection, query)}")
        return [outcome(connection.execute(fetch)) for fetch in ("FETCH ALL c", "FETCH c")]


WAYS = [
    *(in_simple_protocol, with_parameters, in_binary, prepared, prepared_in_binary),
    *(by_execute, by_cursor),
]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_queries(connections, subtests, way):
    """Each query gives the same over plain and over encrypted columns."""
    plain, encrypted = connections
    same = set()
    for query in every_query():
        if way is by_cursor and not is_query(query.statement):
            continue
        if way is with_parameters and not query.parameters:
            continue
        with subtests.test(query.statement):
            expected = way(plain, query)
            assert any(one.rows for one in expected), "finds nothing"
            for one, other in zip(expected, way(encrypted, query), strict=True):
                binary = way in (in_binary, prepared_in_binary)
                assert_same(one, other, is_ordered(query.statement), binary)
            same.add(query.statement)
    assert len(same) >= (30 if way is with_parameters else 200)


def test_scripts(connections, subtests):
    """Cursors, PREPARE and changes within a transaction: each step gives the same."""
    for script in SCRIPTS:
        with subtests.test(script[0] if len(script[0]) > 9 else script[1]):
            plain, encrypted = connections
            try:
                for statement in script:
                    expected = outcome(plain.execute(statement))
                    found = outcome(encrypted.execute(statement))
                    if not statement.startswith("EXPLAIN"):  # the plans may differ
                        assert_same(expected, found, ordered=True)
            finally:
                for connection in connections:
                    connection.execute("ROLLBACK; RESET ALL")


def test_explain(connections, subtests):
    """Each query can be explained; a look-up goes by index as without transparent reads."""
    _, encrypted = connections
    for query in every_query():
        with subtests.test(query.statement):
            executed(encrypted, f"EXPLAIN (VERBOSE) {literal(encrypted, query)}")
    encrypted.execute("SET enable_seqscan = off")
    for condition in (
        "email = 'ann@example.com'",
        "email = 'ann@example.com'::text",
        f"ref = '{REF}'",
    ):
        for options in "", "(ANALYZE, VERBOSE)":
            query = f"SELECT * FROM customer WHERE {condition}"
            plan = repr(executed(encrypted, f"EXPLAIN {options} {query}").rows).encode()
            assert re.search(rb"(Index|Bitmap) .*Scan.* customer_", plan), condition
            assert b"ann@example.com" not in plan


def test_what_is_not_reached(connections, subtests):
    """Ciphertext comes out, never plain values."""
    _, encrypted = connections
    for statement in NOT_REACHED:
        with subtests.test(statement):
            rows = executed(encrypted, statement).rows
            assert rows and all(value.startswith(b"fc1:") for row in rows for value in row)


def test_what_is_not_there(connections, subtests):
    """An error says so, where the plain column would answer."""
    _, encrypted = connections
    for statement, sqlstate in NOT_THERE.items():
        with subtests.test(statement), refused(sqlstate):
            executed(encrypted, statement)


# Statements that make a table or view `stored`.
STORED = [
    "CREATE TEMP TABLE stored AS SELECT email, data FROM customer WHERE id = 17",
    "SELECT email, data INTO TEMP stored FROM customer WHERE id = 17",
    "CREATE TEMP TABLE stored AS TABLE customer",
    "CREATE TEMP TABLE stored AS SELECT email::text FROM customer WHERE email::text <> ''",
    "CREATE MATERIALIZED VIEW stored AS SELECT email, data FROM customer WHERE id = 17",
    "CREATE MATERIALIZED VIEW stored AS SELECT id, email::text, to_jsonb(customer) AS j"
    " FROM customer; REFRESH MATERIALIZED VIEW stored",
    "CREATE TEMP TABLE stored AS SELECT email FROM customer;"
    " ALTER TABLE stored ALTER email TYPE text USING upper(email::text)",
    "CREATE TEMP VIEW stored AS SELECT concat(email) AS email, data || '{}' AS data FROM customer",
    "CREATE TEMP TABLE stored AS WITH t AS (SELECT email, data FROM customer WHERE id = 17)"
    " SELECT * FROM t",
    "CREATE TEMP TABLE stored AS SELECT email, count(*) FROM customer GROUP BY email",
    "EXPLAIN ANALYZE CREATE TEMP TABLE stored AS SELECT email, data FROM customer WHERE id = 17",
]

# Statements that write into a plain table `stored` (email text UNIQUE, data jsonb), which holds
# one row, ('', '{}').
WRITTEN = [
    "INSERT INTO stored SELECT email::text, data FROM customer WHERE id = 17",
    "INSERT INTO stored SELECT email, data FROM customer WHERE id = 17 RETURNING *",
    "INSERT INTO stored SELECT email::text FROM customer WHERE email::text LIKE 'ann%' LIMIT 1",
    "INSERT INTO stored SELECT DISTINCT lower(ssn::text) FROM customer",
    "INSERT INTO stored SELECT max(email::text) FROM customer GROUP BY city, email::text",
    "INSERT INTO stored SELECT lower(email::text) FROM customer GROUP BY lower(email::text)",
    "INSERT INTO stored SELECT email::text FROM customer ORDER BY id LIMIT 3",
    "INSERT INTO stored SELECT email::text FROM customer WHERE id = 17"
    " UNION ALL SELECT name::text FROM customer WHERE id = 18",
    "INSERT INTO stored SELECT e FROM (SELECT email::text AS e FROM customer WHERE id = 17"
    " AND name::text <> '-') AS t",
    "INSERT INTO stored SELECT lag(email::text) OVER (ORDER BY id) FROM customer"
    " WHERE id IN (3, 4)",
    "INSERT INTO stored VALUES ((SELECT email::text FROM customer WHERE id = 17),"
    " (SELECT data FROM customer WHERE id = 17))",
    "INSERT INTO stored VALUES ('', '{}') ON CONFLICT (email) DO UPDATE SET data ="
    " (SELECT data FROM customer WHERE id = 17)",
    "INSERT INTO stored SELECT '', data FROM customer WHERE id = 17 ON CONFLICT (email)"
    " DO UPDATE SET data = excluded.data RETURNING data",
    "WITH t AS (SELECT email::text AS e, data FROM customer WHERE id = 17)"
    " INSERT INTO stored SELECT * FROM t",
    "WITH t AS (SELECT email AS e FROM customer WHERE id = 17)"
    " INSERT INTO stored SELECT e::text FROM t",
    "WITH t AS (INSERT INTO stored SELECT email::text, data FROM customer WHERE id = 17"
    " RETURNING *) SELECT * FROM t",
    "WITH t AS (UPDATE customer SET city = city WHERE id = 17 RETURNING email::text AS e, data)"
    " INSERT INTO stored SELECT * FROM t",
    "INSERT INTO stored SELECT '1', jsonb_agg(email) FROM customer",
    "INSERT INTO stored SELECT row_to_json(c)::text, to_jsonb(c) FROM customer AS c WHERE id = 17",
    "INSERT INTO stored SELECT '1', j FROM (SELECT jsonb_build_object('e', email) AS j"
    " FROM customer) AS t LIMIT 1",
    "WITH t AS (SELECT jsonb_agg(c) AS j FROM customer AS c) UPDATE stored SET data = j FROM t",
    "WITH gone AS (DELETE FROM orders WHERE id = 7 RETURNING to_jsonb(orders) AS j)"
    " INSERT INTO stored SELECT '1', j FROM gone",
    "WITH gone AS (DELETE FROM orders WHERE id = 7 RETURNING customer_email::text AS e)"
    " INSERT INTO stored SELECT upper(e) FROM gone",
    "WITH new AS (INSERT INTO orders (id, customer_email) VALUES (1001, 'n@example.com')"
    " RETURNING customer_email::text AS e) UPDATE stored SET email = e FROM new",
    "WITH t AS (SELECT email::text AS e FROM customer WHERE email::text LIKE 'ann%' LIMIT 1)"
    " UPDATE stored SET email = t.e FROM t",
    "INSERT INTO stored SELECT * FROM (WITH t AS (SELECT email::text FROM customer WHERE id = 17)"
    " SELECT * FROM t) AS u",
    "INSERT INTO stored SELECT email::text FROM customer"
    " GROUP BY email HAVING email::text LIKE 'ann%'",
    "INSERT INTO stored SELECT c.email::text FROM customer AS c JOIN orders AS o"
    " ON o.customer_email::text = c.email::text AND c.id = 17 LIMIT 1",
    "INSERT INTO stored SELECT CASE WHEN email::text LIKE 'ann%' THEN email::text ELSE name::text"
    " END FROM customer WHERE id IN (17, 18)",
    "WITH t AS (SELECT email::text AS e FROM customer WHERE id = 17), w AS (INSERT INTO stored"
    " SELECT * FROM t RETURNING email) SELECT email, (SELECT e FROM t) FROM w",
    "UPDATE stored SET email = c.email::text, data = c.data FROM customer AS c"
    " WHERE c.id = 17 AND c.email::text <> ''",
    "UPDATE stored SET (email, data) = (SELECT email::text, data FROM customer WHERE id = 17)",
    "UPDATE stored SET email = (SELECT upper(email::text) FROM customer WHERE id = 17)",
    "UPDATE stored SET email = t.e FROM (SELECT email::text AS e FROM customer"
    " WHERE email::text LIKE 'ann%' LIMIT 1) AS t",
    "MERGE INTO stored USING customer AS c ON false WHEN NOT MATCHED AND c.id = 17"
    " THEN INSERT VALUES (c.email::text, c.data)",
    "MERGE INTO stored USING (SELECT email::text AS e, data FROM customer WHERE id = 17) AS c"
    " ON stored.email = '' WHEN MATCHED THEN UPDATE SET email = c.e, data = c.data",
    "DO $$ DECLARE r record; BEGIN FOR r IN SELECT email, data FROM customer WHERE id = 17 LOOP"
    " INSERT INTO stored VALUES (r.email::text, r.data); END LOOP; END $$",
    "DO $$ BEGIN EXECUTE 'INSERT INTO stored SELECT email::text FROM customer WHERE id = 17';"
    " END $$",
]

# Conditions within the list of what is written see ciphertext: they match nothing.
WRITTEN_NOTHING = [
    "INSERT INTO stored SELECT max(email::text) FILTER (WHERE email::text LIKE 'ann%')"
    " FROM customer",
    "INSERT INTO stored SELECT (SELECT email::text FROM customer"
    " WHERE email::text LIKE 'ann%' LIMIT 1)",
]


def stored(connection):
    """What is in `stored`, which is not plain."""
    with connection.cursor().copy("COPY (SELECT * FROM stored) TO STDOUT") as stream:
        copied = b"".join(stream)
    assert not SECRET.search(copied)
    return copied.lower()


def test_nothing_plain_is_stored(connections, subtests):
    """What a statement writes is ciphertext, however transparent the session is."""
    _, encrypted = connections
    for statement in STORED:
        with subtests.test(statement), encrypted.transaction(force_rollback=True):
            encrypted.execute(statement)
            assert b"fc1:" in stored(encrypted)
    with encrypted.transaction(force_rollback=True):
        encrypted.execute("PREPARE p AS SELECT email FROM customer")
        with pytest.raises(psycopg.Error):
            encrypted.execute("CREATE TEMP TABLE stored AS EXECUTE p")
    encrypted.execute("DEALLOCATE p")


@pytest.mark.parametrize("prepare", [False, True])
def test_nothing_plain_is_written(connections, subtests, prepare):
    _, encrypted = connections
    for statement in WRITTEN + WRITTEN_NOTHING:
        with subtests.test(statement), encrypted.transaction(force_rollback=True):
            encrypted.execute("CREATE TEMP TABLE stored (email text UNIQUE, data jsonb)")
            encrypted.execute("INSERT INTO stored VALUES ('', '{}')")
            if prepare and not statement.startswith("DO"):
                encrypted.execute("DEALLOCATE ALL")
                encrypted.execute(f"PREPARE p AS {statement}")
                encrypted.execute("EXECUTE p")
            else:
                encrypted.execute(statement)
            assert b"fc1:" in stored(encrypted) or statement in WRITTEN_NOTHING


DEFINITIONS = {
    "CREATE TEMP VIEW v AS SELECT email, data, email::text AS e, tags FROM customer": (
        "SELECT pg_get_viewdef('v'::regclass)"
    ),
    "CREATE FUNCTION pg_temp.f() RETURNS SETOF customer BEGIN ATOMIC SELECT * FROM customer; END": (
        "SELECT pg_get_functiondef('pg_temp.f'::regproc)"
    ),
    "CREATE TEMP TABLE t (id int); CREATE RULE r AS ON INSERT TO t"
    " DO ALSO SELECT email, data FROM customer": (
        "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename = 'r'"
    ),
    "CREATE TEMP TABLE t (email text); CREATE RULE r AS ON DELETE TO t DO INSTEAD"
    " UPDATE customer SET city = 'X' RETURNING email::text": (
        "SELECT pg_get_ruledef(oid) FROM pg_rewrite WHERE rulename = 'r'"
    ),
}


def test_definitions_are_kept_as_they_were_written(connections, subtests):
    """No view, function or rule that is made in a transparent session holds reveal()."""
    _, encrypted = connections
    for statement, definition in DEFINITIONS.items():
        with subtests.test(statement), encrypted.transaction(force_rollback=True):
            encrypted.execute(statement)
            ((text,),) = encrypted.execute(definition).fetchall()
            assert "email" in text and "reveal" not in text and "decrypt" not in text


def test_deferred_triggers_give_ciphertext(connections, database):
    """Their queries run at COMMIT, when no statement of the client's does."""
    _, encrypted = connections
    encrypted.execute("""
        CREATE TEMP TABLE noted (email text, data jsonb);
        CREATE FUNCTION pg_temp.note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN
            INSERT INTO noted SELECT email::text, data FROM enc.customer WHERE id = 17;
            RETURN NULL; END';
        CREATE TEMP TABLE t (id int);
        CREATE CONSTRAINT TRIGGER note AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION pg_temp.note();
    """)
    encrypted.execute("INSERT INTO t VALUES (1)")
    with encrypted.transaction():
        encrypted.execute("INSERT INTO t VALUES (1)")
        encrypted.execute("SELECT email FROM customer")
    with encrypted.cursor().copy("COPY noted TO STDOUT") as stream:
        copied = b"".join(stream)
    assert copied.count(b"\n") == 2 and b"fc1:" in copied and not SECRET.search(copied)


def test_several_statements_in_one_string(connections):
    """Each of them is the client's, wherever it stands in the string."""
    found = []
    for connection in connections:
        cursor = connection.execute(
            "SELECT 1; SELECT email FROM customer ORDER BY email, id; CREATE TEMP TABLE t (n int);"
            " SELECT name, data FROM customer ORDER BY id; DROP TABLE t; SELECT 2"
        )
        results = [cursor.fetchall()]
        while cursor.nextset():
            results.append(cursor.fetchall() if cursor.description else None)
        found.append(results)
    assert found[0] == found[1]


def test_transparent_reads_are_switched_in_the_session(connections):
    """Off means ciphertext at once; a statement that was prepared before does not turn plain."""
    plain, encrypted = connections
    query = "SELECT email FROM customer WHERE id = 17"
    expected = plain.execute(query).fetchone()
    assert encrypted.execute(query).fetchone() == expected
    with encrypted.transaction():
        encrypted.execute("SET LOCAL fieldcrypt.transparent = off")
        assert encrypted.execute(query).fetchone()[0].startswith("fc1:")
        encrypted.execute("PREPARE p AS " + query)
        assert encrypted.execute("EXECUTE p").fetchone()[0].startswith("fc1:")
    assert encrypted.execute(query).fetchone() == expected
    assert encrypted.execute("EXECUTE p").fetchone()[0].startswith("fc1:")
    encrypted.execute("SET fieldcrypt.transparent = off")
    assert encrypted.execute(query).fetchone()[0].startswith("fc1:")


def test_copy_gives_ciphertext(connections):
    _, encrypted = connections
    for source in (
        "customer",
        "(SELECT * FROM customer)",
        "(SELECT email, data FROM contact)",
        "(SELECT email::text, ROW(email, name), tags FROM customer)",
        "(WITH t AS (SELECT email FROM customer) SELECT * FROM t)",
        "(UPDATE customer SET city = city RETURNING email, data)",
    ):
        with encrypted.transaction(force_rollback=True):
            with encrypted.cursor().copy(f"COPY {source} TO STDOUT") as stream:
                copied = b"".join(stream)
        assert b"fc1:" in copied and not SECRET.search(copied)


def test_functions_give_ciphertext(connections):
    """Also in a transparent session the body of a function is not rewritten."""
    _, encrypted = connections
    with encrypted.transaction(force_rollback=True):
        encrypted.execute("""
            CREATE FUNCTION pg_temp.inlined() RETURNS SETOF text STABLE
                BEGIN ATOMIC SELECT email::text FROM customer WHERE id = 17; END;
            CREATE FUNCTION pg_temp.text_body() RETURNS text LANGUAGE sql
                AS 'SELECT email::text FROM enc.customer WHERE id = 17';
            CREATE FUNCTION pg_temp.looped() RETURNS text LANGUAGE plpgsql AS
                'DECLARE e text; BEGIN SELECT email INTO e FROM enc.customer WHERE id = 17;
                RETURN e; END';
            CREATE FUNCTION pg_temp.dynamic() RETURNS text LANGUAGE plpgsql AS
                'DECLARE e text; BEGIN EXECUTE ''SELECT email FROM enc.customer WHERE id = 17''
                INTO e; RETURN e; END';
        """)
        for function in "inlined", "text_body", "looped", "dynamic":
            ((value,),) = encrypted.execute(f"SELECT pg_temp.{function}()").fetchall()
            assert value.startswith("fc1:"), function


def test_without_rights_nothing_is_plain(database, subtests):
    """A role that reads transparently but has no grant sees hidden forms, or an error."""
    database.cluster.create_roles("window_shopper")
    database.execute("ALTER ROLE window_shopper SET fieldcrypt.transparent = on")
    database.execute("GRANT ALL ON SCHEMA enc TO window_shopper")
    database.execute("GRANT ALL ON ALL TABLES IN SCHEMA enc TO window_shopper")
    options = OPTIONS.format("enc")
    with database.connect("window_shopper", prepare_threshold=None, options=options) as connection:
        for query in every_query():
            with subtests.test(query.statement):
                try:
                    (shown,) = in_simple_protocol(connection, query)
                except psycopg.errors.InsufficientPrivilege:
                    continue
                if "RETURNING" not in query.statement:
                    assert not SECRET.search(b"\n".join(filter(None, sum(shown.rows, ()))))
        rows = connection.execute("SELECT DISTINCT email, birthday, tags[1] FROM customer")
        assert set(rows) <= {(email, None, tag) for email in HIDDEN for tag in HIDDEN}
