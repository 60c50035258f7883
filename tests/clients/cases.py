"""What every client does, with which rows, and what each is known not to do.

Rows are JSON, so that programs of every language can read them: dates, UUIDs and numbers of any
size are text, bytes are hexadecimal digits, and instants are ISO 8601.
"""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal

SCHEMA = """
    CREATE EXTENSION fieldcrypt;
    SELECT fieldcrypt.create_account('acme');
    SELECT fieldcrypt.create_field('customer.email', search => '{exact}', normalizer => 'email');
    SELECT fieldcrypt.create_field('customer.phone', search => '{exact}', normalizer => 'phone');
    SELECT fieldcrypt.create_field('customer.' || name, search => '{exact}')
    FROM unnest('{customer_no,birthday,ref}'::text[]) AS name;
    SELECT fieldcrypt.create_field('customer.' || name)
    FROM unnest('{name,balance,active,seen,photo,notes}'::text[]) AS name;
    SELECT fieldcrypt.grant_access(
        role, '{encrypt,search,decrypt}', account => 'acme', field => 'customer.*')
    FROM unnest('{transparent,explicit}'::text[]) AS role;

    CREATE TABLE customer (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        account_id text NOT NULL DEFAULT current_setting('fieldcrypt.account'),
        name fieldcrypt.encrypted_text('customer.name'),
        email fieldcrypt.encrypted_text('customer.email'),
        phone fieldcrypt.encrypted_text('customer.phone'),
        customer_no fieldcrypt.encrypted_bigint('customer.customer_no') UNIQUE,
        balance fieldcrypt.encrypted_numeric('customer.balance'),
        birthday fieldcrypt.encrypted_date('customer.birthday'),
        seen fieldcrypt.encrypted_timestamptz('customer.seen'),
        active fieldcrypt.encrypted_boolean('customer.active'),
        ref fieldcrypt.encrypted_uuid('customer.ref'),
        photo fieldcrypt.encrypted_bytea('customer.photo'),
        notes fieldcrypt.encrypted_jsonb('customer.notes'),
        data jsonb);
    SELECT fieldcrypt.protect_table('customer', account_column => 'account_id');
    SELECT fieldcrypt.protect_jsonb(
        'customer', 'data', name => 'customer.data', account_column => 'account_id');
    SELECT fieldcrypt.protect_path('customer.data', '{contact.email}', field => 'customer.email');
    CREATE INDEX customer_email ON customer USING hash (email);
    CREATE INDEX customer_birthday ON customer (birthday);
    CREATE INDEX customer_ref ON customer USING hash (ref);

    CREATE TABLE purchase (id bigint PRIMARY KEY, customer_id bigint NOT NULL, item text NOT NULL);
    INSERT INTO purchase VALUES (1, 1, 'book');
    GRANT ALL ON customer, purchase TO transparent, explicit;
"""

# What an application sets once for its role; so few rows would be found without an index.
ROLES = """
    ALTER ROLE transparent SET fieldcrypt.account = 'acme';
    ALTER ROLE transparent SET fieldcrypt.transparent = on;
    ALTER ROLE explicit SET fieldcrypt.account = 'acme';
    ALTER ROLE transparent SET enable_seqscan = off;
    ALTER ROLE explicit SET enable_seqscan = off;
"""

# By the column's name, as the plain type is called.
COLUMNS = {
    "name": "text",
    "email": "text",
    "phone": "text",
    "customer_no": "bigint",
    "balance": "numeric",
    "birthday": "date",
    "seen": "timestamptz",
    "active": "boolean",
    "ref": "uuid",
    "photo": "bytea",
    "notes": "jsonb",
    "data": "jsonb",
}

ONE = {
    "name": "Ann Ångström",
    "email": "Ann@Example.com",
    "phone": "+49 170 1234567",
    "customer_no": "1001",
    "balance": "1234.50",
    "birthday": "1990-02-28",
    "seen": "2024-02-29T13:37:00.123Z",
    "active": True,
    "ref": "0b8e2c4e-6f1d-4c6a-9b1e-2f3a4b5c6d7e",
    "photo": "ffd8ffe000104a4649460001fc01",
    "notes": {
        "tags": ["vip", "日本語"],
        "score": 1.5,
        "boss": None,
        "quote": 'O\'Neil said "hi"\\',
    },
    "data": {"source": "web", "contact": {"email": "Ann@Example.com", "city": "Åbo"}, "score": 1.5},
}

_NOTHING = dict.fromkeys(COLUMNS)

MANY = [
    {**_NOTHING, "name": 'Zoë 😀 O\'Neil, "the\\quick"\n\tfox'},
    {
        "name": "Łukasz Żółć",
        "email": "lukasz@example.org",
        "phone": "0049 30 5550100",
        "customer_no": "-9223372036854775808",
        "balance": "-0.000000000000000001",
        "birthday": "1899-12-31",
        "seen": "1969-12-31T23:59:59.999Z",
        "active": False,
        "ref": "ffffffff-ffff-4fff-bfff-ffffffffffff",
        "photo": "",
        "notes": {},
        "data": {"source": "import", "contact": {"email": "lukasz@example.org"}},
    },
    {
        "name": "Marie Dupont",
        "email": "marie@example.fr",
        "phone": "+33 1 55501234",
        "customer_no": "9223372036854775807",
        "balance": "0",
        "birthday": "2024-02-29",
        "seen": "2038-01-19T03:14:08Z",
        "active": True,
        "ref": "00000000-0000-4000-8000-000000000000",
        "photo": "00",
        "notes": {"a": {"b": {"c": [1, 2, 3]}}},
        "data": {"contact": {}},
    },
]


def _like_one(name, number):
    """A row whose values that are searched are its own."""
    email = f"{number}@example.com"
    return {
        **ONE,
        "name": name,
        "email": email,
        "customer_no": str(number),
        "birthday": "2001-09-09",
        "ref": f"00000000-0000-4000-8000-{number:012}",
        "data": {"contact": {"email": email}},
    }


RETURNED = _like_one("Renée", 30_000)

COPIED = [
    _like_one("\\N and \t, which COPY escapes", 70_000),
    {**_NOTHING, "name": "Nobody"},
    _like_one('Copied, "too"', 3_000_000_000),
]

# Values that not every client's own types can hold.
FAR = {
    "numbers of 40 digits": {
        **_NOTHING,
        "name": "far: digits",
        "balance": "12345678901234567890123456789012345678.90",
    },
    "microseconds": {
        **_NOTHING,
        "name": "far: microseconds",
        "seen": "2024-02-29T13:37:00.123456Z",
    },
    "dates BC": {**_NOTHING, "name": "far: BC", "birthday": "0044-03-15 BC"},
    "infinite dates": {**_NOTHING, "name": "far: infinity", "birthday": "infinity"},
}

# Written otherwise than it was stored, where the field's normalizer takes that for equal.
FIND = {
    "find text": ("email", "ann@example.COM"),
    "find bigint": ("customer_no", "1001"),
    "find date": ("birthday", "1990-02-28"),
    "find uuid": ("ref", "0B8E2C4E-6F1D-4C6A-9B1E-2F3A4B5C6D7E"),
}
FIND_LIST = ["lukasz@example.org", "MARIE@example.fr", "nobody@example.com"]
FOUND = [ONE["name"]]
FOUND_LIST = ["Marie Dupont", "Łukasz Żółć"]
RELATED = [["book", ONE["name"]]]  # what the first customer bought

# Of the customer ONE, found by email; the document is read, changed and written as a whole.
CHANGES = {
    "name": "Ann Sjöström",
    "phone": "+49 30 5550199",
    "customer_no": "1002",
    "balance": "-99.95",
    "birthday": "1991-03-01",
    "seen": "2025-01-01T00:00:00Z",
    "active": False,
    "ref": "22222222-2222-4222-8222-222222222222",
    "photo": "c0ffee",
    "notes": {"tags": []},
}
STAGE = "won"  # what the update adds to the document as "stage"

# What a program reports, in the order in which it does it, and how the documentation calls it.
OPERATIONS = {
    "insert": "insert",
    "returning": "`RETURNING`",
    "bulk": "bulk insert",
    "copy": "`COPY`",
    "find text": "`=` text",
    "find bigint": "`=` bigint",
    "find date": "`=` date",
    "find uuid": "`=` uuid",
    "find list": "list of texts",
    "read": "read",
    "sort": "`ORDER BY`",
    "related": "related rows",
    "update": "update",
}

MODES = {
    "transparent": "With transparent reads",
    "explicit": "With `fieldcrypt.decrypt()`",
}


@dataclass
class Client:
    title: str
    types: dict  # the client's native types, by the plain type
    lacks: dict = field(default_factory=dict)  # keys of FAR, with the cause
    gaps: dict = field(default_factory=dict)  # keys of OPERATIONS, or (mode, key), with the cause
    recipe: tuple = ()  # keys of MODES in which it needs one

    def gap(self, mode, operation):
        """The cause, if the client does not do it in that mode."""
        return self.gaps.get(operation) or self.gaps.get((mode, operation))

    def holds(self, rows):
        return [row for need, row in rows.items() if need not in self.lacks]


def _types(*names):
    kinds = "text bigint numeric date timestamptz boolean uuid bytea jsonb".split()
    return dict(zip(kinds, names, strict=True))


_PYTHON = _types("str", "int", "Decimal", "date", "datetime", "bool", "UUID", "bytes", "dict")
_PYTHON_DATES = "`datetime.date` ends at the years 1 and 9999"
_NO_COPY = "has no COPY of its own; its driver's connection does"

CLIENTS = {
    "psycopg": Client(
        "psycopg 3",
        _PYTHON,
        lacks={"dates BC": _PYTHON_DATES, "infinite dates": _PYTHON_DATES},
    ),
    "asyncpg": Client(
        "asyncpg",
        _PYTHON,
        lacks={"dates BC": _PYTHON_DATES},
        recipe=("transparent", "explicit"),
    ),
    "sqlalchemy": Client(
        "SQLAlchemy",
        _PYTHON,
        lacks={"dates BC": _PYTHON_DATES, "infinite dates": _PYTHON_DATES},
        gaps={"copy": _NO_COPY},
        recipe=("explicit",),
    ),
    "django": Client(
        "Django",
        _PYTHON,
        lacks={"dates BC": _PYTHON_DATES, "infinite dates": _PYTHON_DATES},
        gaps={"copy": _NO_COPY, "returning": "returns keys and database defaults only"},
        recipe=("explicit",),
    ),
    "node_postgres": Client(
        "node-postgres",
        _types(
            "String", "String", "String", "Date", "Date", "Boolean", "String", "Buffer", "Object"
        ),
        lacks={"microseconds": "`Date` counts milliseconds"},
        gaps={"copy": "has no COPY of its own; the package pg-copy-streams does"},
    ),
    "drizzle": Client(
        "Drizzle",
        _types(
            "String", "BigInt", "String", "String", "Date", "Boolean", "String", "Buffer", "Object"
        ),
        lacks={"microseconds": "`Date` counts milliseconds"},
        gaps={
            "copy": _NO_COPY,
        },
        recipe=("explicit",),
    ),
    "tokio_postgres": Client(
        "tokio-postgres",
        _types(
            "String",
            "i64",
            "Decimal",
            "NaiveDate",
            "DateTime<Utc>",
            "bool",
            "Uuid",
            "Vec<u8>",
            "Value",
        ),
        lacks={"numbers of 40 digits": "`rust_decimal::Decimal` holds 28 digits"},
        recipe=("transparent", "explicit"),
    ),
    "sqlx": Client(
        "sqlx",
        _types(
            "String",
            "i64",
            "BigDecimal",
            "NaiveDate",
            "DateTime<Utc>",
            "bool",
            "Uuid",
            "Vec<u8>",
            "Value",
        ),
        lacks={"infinite dates": "`chrono::NaiveDate` has no infinity"},
    ),
    "pgjdbc": Client(
        "pgjdbc",
        _types(
            "String",
            "Long",
            "BigDecimal",
            "LocalDate",
            "OffsetDateTime",
            "Boolean",
            "UUID",
            "byte[]",
            "PGobject",
        ),
    ),
}


@dataclass
class Difference:
    """What works with a plain column, and raises with an encrypted one."""

    what: str
    statement: str
    value: object
    sqlstate: str
    instead: str


DIFFERENCES = [
    Difference(
        "`birthday < $1`, `BETWEEN`, `max(birthday)`, Django's `birthday__year`",
        "SELECT FROM customer WHERE birthday < %s",
        date(1990, 2, 28),
        "42883",
        "`fieldcrypt.decrypt(birthday) < $1`, without an index",
    ),
    Difference(
        "`email LIKE $1`",
        "SELECT FROM customer WHERE email LIKE %s",
        "ann%",
        "42883",
        "`fieldcrypt.decrypt(email) LIKE $1`, without an index",
    ),
    Difference(
        "Django's `filter(active=True)` and SQLAlchemy's `where(Customer.active)`: `WHERE active`",
        "SELECT FROM customer WHERE active",
        None,
        "42804",
        "`WHERE fieldcrypt.decrypt(active)`",
    ),
    Difference(
        "`BigDecimal`, `Decimal`, or an `int` beyond bigint: `customer_no = $1::numeric`",
        "SELECT FROM customer WHERE customer_no = %s",
        Decimal(1001),
        "42883",
        "an integer of 64 bits",
    ),
    Difference(
        "an instant for a date: `birthday = $1::timestamptz`",
        "SELECT FROM customer WHERE birthday = %s",
        datetime(1990, 2, 28),
        "42883",
        "a date",
    ),
    Difference(
        "`COALESCE($1::date, birthday)`, `CASE`: a column and a parameter with the plain type",
        "UPDATE customer SET birthday = COALESCE(%s, birthday)",
        date(1990, 2, 28),
        "42804",
        "`COALESCE($1, fieldcrypt.decrypt(birthday))`",
    ),
    Difference(
        "`(email, customer_no) = ($1, $2::bigint)`, SQLAlchemy's `tuple_`",
        "SELECT FROM customer WHERE (email, customer_no) = ('ann@example.com', %s)",
        1001,
        "0A000",
        "`email = $1 AND customer_no = $2`",
    ),
]


def work(client, mode):
    """What a program is told on its standard input."""
    return {
        "mode": mode,
        "columns": COLUMNS,
        "one": ONE,
        "returned": RETURNED,
        "many": MANY + CLIENTS[client].holds(FAR),
        "copied": COPIED,
        **{name: {"column": column, "value": value} for name, (column, value) in FIND.items()},
        "find list": FIND_LIST,
        "changes": CHANGES,
        "stage": STAGE,
    }


def rows_written(client):
    """The rows in the order in which they were written."""
    gaps = CLIENTS[client].gaps
    return [
        ONE,
        *([] if "returning" in gaps else [RETURNED]),
        *MANY,
        *CLIENTS[client].holds(FAR),
        *([] if "copy" in gaps else COPIED),
    ]


def row_updated():
    return {**ONE, **CHANGES, "data": {**ONE["data"], "stage": STAGE}}
