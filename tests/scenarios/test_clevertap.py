"""CleverTap: an engagement platform that keeps user properties and events of many names.

An account's admin marks properties of users and of events as encrypted, one or many at a time.
Properties of users can be decrypted back, those of events cannot. Analysts search, segment and
analyse encrypted properties; agents see masks; everybody else sees only the encrypted value.

Needs a later issue:
- an account's own key in place of the default one (bring your own key): issue 6
- rotation of keys: issue 6
- history encrypted and decrypted by a job, which an account's admin starts himself and which shows
  its progress: issue 6 (here: `UPDATE … SET properties = properties`)
"""

import random
from collections import Counter, defaultdict
from contextlib import suppress
from dataclasses import dataclass
from decimal import Decimal

import psycopg
import pytest
from checks import (
    assert_stored,
    at,
    audited,
    column,
    envelopes,
    everything_said,
    load,
    mask_email,
    mask_first_last,
    mask_last4,
    mask_pan,
    places,
    plan,
    refused,
    transparent,
    value,
    with_values,
)
from exactjson import Number, dumps
from people import people
from psycopg.types.json import Jsonb

ACCOUNTS = ("acme", "globex", "initech", "umbrella")
ROLES = (
    "clevertap_owner",  # owns the tables, administers fields
    "clevertap_ingest",  # writes the events of all accounts, reads nothing
    "clevertap_viewer",  # sees tables, but no values
    "clevertap_agent",  # sees acme's masks
    "clevertap_marketing",  # marks acme's user properties, but not those of events
    *(f"clevertap_{job}_{account}" for job in ("admin", "analyst") for account in ACCOUNTS),
)

FIELDS = """
    SELECT fieldcrypt.create_field(name, '{exact}', normalizer => normalizer, mask => mask,
        hidden => 'ciphertext', reversible => name LIKE 'user.%')
    FROM (VALUES
        ('identity', 'none', 'none'),
        ('user.email', 'email', 'email'),
        ('user.phone', 'phone', 'last4'),
        ('user.name', 'casefold', 'first_last'),
        ('user.city', 'casefold', 'none'),
        ('event.email', 'email', 'email'),
        ('event.phone', 'phone', 'last4'),
        ('event.card', 'digits', 'pan'),
        ('event.ip', 'none', 'none')
    ) AS field (name, normalizer, mask);
    SELECT fieldcrypt.create_field(name, hidden => 'ciphertext', reversible => name LIKE 'user.%')
    FROM unnest('{user.property,event.property,event.amount}'::text[]) AS name;
"""

RIGHTS = """
    GRANT CREATE ON SCHEMA public TO clevertap_owner;
    GRANT fieldcrypt_admin TO clevertap_owner;
    SELECT fieldcrypt.grant_access('clevertap_ingest', '{encrypt}', '*', '*');
    SELECT fieldcrypt.grant_access('clevertap_agent', '{mask}', 'acme', '*');
    SELECT fieldcrypt.grant_access('clevertap_marketing', '{manage}', 'acme', 'user.*');
    SELECT fieldcrypt.grant_access('clevertap_' || job || '_' || account, privileges, account, '*')
    FROM (VALUES ('admin', '{manage}'::text[]), ('analyst', '{encrypt,search,decrypt}'))
            AS granted (job, privileges),
        unnest('{acme,globex,initech,umbrella}'::text[]) AS account;
"""

SCHEMA = """
    CREATE TABLE users (
        id bigint PRIMARY KEY,
        account_id text NOT NULL,
        properties jsonb NOT NULL);
    CREATE TABLE events (
        id bigint NOT NULL,
        occurred_on date NOT NULL,
        account_id text NOT NULL,
        user_id bigint NOT NULL,
        event_name text NOT NULL,
        properties jsonb NOT NULL,
        PRIMARY KEY (id, occurred_on)) PARTITION BY RANGE (occurred_on);
    CREATE TABLE events_until_june PARTITION OF events
        FOR VALUES FROM ('2026-01-01') TO ('2026-07-01');
    CREATE TABLE events_from_july PARTITION OF events
        FOR VALUES FROM ('2026-07-01') TO ('2027-01-01');
    SELECT fieldcrypt.protect_jsonb('users', 'properties', 'user.properties',
        account_column => 'account_id');
    SELECT fieldcrypt.protect_jsonb('events', 'properties', 'event.properties',
        account_column => 'account_id', kind_column => 'event_name');
    CREATE INDEX users_tokens ON users USING gin (fieldcrypt.tokens(properties));
    CREATE INDEX events_tokens ON events USING gin (fieldcrypt.tokens(properties));
    CREATE INDEX users_identity ON users USING hash (fieldcrypt.token(properties, 'identity'));
    CREATE INDEX events_identity ON events USING hash (fieldcrypt.token(properties, 'identity'));
    CREATE INDEX ON events (account_id, event_name);
    GRANT SELECT ON users, events TO PUBLIC;
    GRANT SELECT, INSERT, UPDATE ON events_until_june TO clevertap_ingest;
    GRANT INSERT, UPDATE ON users, events TO clevertap_ingest, clevertap_analyst_acme,
        clevertap_analyst_globex, clevertap_analyst_initech, clevertap_analyst_umbrella;
"""

# document, account, kind, paths, field: what is marked from the start, in one call each
MARKS = (
    ("user.properties", "*", None, ["device_token"], "user.property"),
    ("event.properties", "*", None, ["ip"], "event.property"),
    ("user.properties", "acme", None, ["identity"], "identity"),
    ("user.properties", "acme", None, ["email"], "user.email"),
    ("user.properties", "acme", None, ["phones[*]"], "user.phone"),
    ("user.properties", "acme", None, ["first_name", "last_name"], "user.name"),
    ("user.properties", "acme", None, ["address.city"], "user.city"),
    (
        *("user.properties", "acme", None),
        ["address.street", "birth_date", "balance", "preferences", "Opted in?"],
        "user.property",
    ),
    ("user.properties", "globex", None, ["email"], "user.email"),
    ("user.properties", "umbrella", None, ["email"], "user.email"),
    ("user.properties", "umbrella", None, ["phones[*]"], "user.phone"),
    ("event.properties", "acme", None, ["identity"], "identity"),
    ("event.properties", "acme", "Signed Up", ["ip"], "event.ip"),
    ("event.properties", "acme", "Signed Up", ["email"], "event.email"),
    ("event.properties", "acme", "Charged", ["card.number"], "event.card"),
    ("event.properties", "acme", "Charged", ["amount", "items[*].price"], "event.amount"),
    ("event.properties", "acme", "Charged", ["charged_id"], "event.property"),
    ("event.properties", "acme", "Message Delivered", ["to"], "event.phone"),
    ("event.properties", "acme", "Message Delivered", ["body"], "event.property"),
    ("event.properties", "globex", None, ["email"], "event.email"),
    ("event.properties", "globex", "Charged", ["card.number"], "event.card"),
    ("event.properties", "umbrella", "Charged", ["amount"], "event.amount"),
)
EVENT_NAMES = ("App Launched", "Product Viewed", "Signed Up", "Charged", "Message Delivered")
USERS = {"acme": 4_000, "globex": 2_000}
EVENTS = {"acme": 16_000, "globex": 8_000}
# Beyond the integers that a double holds exactly.
FIRST_EVENT = 9_007_199_254_740_993


@dataclass
class Record:
    """A user or an event, as the application knows it."""

    account: str
    properties: dict
    user: int
    name: str | None = None  # of an event

    @property
    def day(self):
        return self.properties["created_at"][:10]

    @property
    def fields(self):
        """The fields of the encrypted values by their places."""
        document = "user.properties" if self.name is None else "event.properties"
        applicable = [
            (account != "*", kind is not None, paths, field)
            for marked, account, kind, paths, field in MARKS
            if marked == document
            and account in ("*", self.account)
            and (kind is None or kind == self.name)
        ]
        # the most specific mark comes last, and wins
        return {
            place: field
            for *_, paths, field in sorted(applicable, key=lambda mark: mark[:2])
            for path in paths
            for place in places(self.properties, path)
        }


def user_properties(person, number, chance):
    return {
        "identity": person["employee_id"],
        "first_name": person["first_name"],
        "last_name": person["last_name"],
        "email": person["email"],
        "phones": [person["phone"], f"+800{number:08d}"][: chance.randrange(3)],
        "address": {key: person[key] for key in ("street", "city", "country")},
        "birth_date": person["birth_date"],
        "balance": Number(f"-{chance.randrange(10**6)}.{chance.randrange(10**6):06d}0"),
        "device_token": f"{chance.getrandbits(256):064x}",
        "preferences": {"push": True, "topics": ["sports", None, 1], "quiet": {"from": 22}},
        "Opted in?": chance.random() < 0.5,
        "plan": chance.choice(("free", "gold", "platinum")),
        "ltv": chance.randrange(10**5),
        "source": chance.choice(("sdk", "import")),
        "created_at": "2025-06-01T00:00:00Z",
        "updated_at": "2025-06-02T00:00:00Z",
    }


def event_properties(name, user, id, chance):
    properties = {
        "identity": user["identity"],
        "ip": f"203.0.113.{chance.randrange(256)}",
        "source": chance.choice(("ios", "android", "web")),
        "created_at": f"2026-{chance.randrange(1, 13):02d}-15T12:00:00Z",
        "device": {"model": "Pixel 9", "os": chance.randrange(10, 16)},
    }
    if name == "Signed Up":
        properties["email"] = user["email"]
    elif name == "Product Viewed":
        properties |= {"sku": f"SKU-{chance.randrange(500):04d}", "amount": Number("9.90")}
    elif name == "Charged":
        prices = [Number(f"{chance.randrange(1, 9_999)}.{chance.randrange(10)}0") for _ in range(3)]
        properties |= {
            "charged_id": 10**30 + id,
            "amount": Number(sum(prices)),
            "items": [{"sku": f"SKU-{n}", "price": price} for n, price in enumerate(prices)],
            "card": {"brand": "VISA", "number": f"4{chance.randrange(10**15):015d}"},
        }
    elif name == "Message Delivered":
        properties |= {"to": "+49 170 5550123", "body": f"Hi {user['first_name']},\n10% – 🎁"}
    return properties


@pytest.fixture(scope="module")
def users():
    """The users by id."""
    chance = random.Random(11)
    found = {}
    for first, (account, count) in zip((1, 1_000_001), USERS.items(), strict=True):
        for id, person in enumerate(people(count, seed=first), first):
            found[id] = Record(account, user_properties(person, id, chance), id)
    return found


@pytest.fixture(scope="module")
def events(users):
    """The events by id."""
    chance = random.Random(12)
    found = {}
    first = FIRST_EVENT
    for account, count in EVENTS.items():
        members = [id for id, user in users.items() if user.account == account]
        for id in range(first, first + count):
            user, name = chance.choice(members), chance.choice(EVENT_NAMES)
            properties = event_properties(name, users[user].properties, id, chance)
            found[id] = Record(account, properties, user, name)
        first += 10**9
    return found


@pytest.fixture(scope="module")
def platform(database, session, users, events):
    """The platform's database with its users and events, written by the ingestion."""
    database.cluster.create_roles(*ROLES)
    for account in ACCOUNTS:
        database.execute("SELECT fieldcrypt.create_account(%s)", [account])
    database.execute(FIELDS + RIGHTS)
    owner = session("clevertap_owner")
    owner.execute(SCHEMA)
    for document, account, kind, paths, field in MARKS:
        mark(admin_of(session, account), document, paths, field, account, kind)
    ingest = session("clevertap_ingest")
    rows = ((id, user.account, dumps(user.properties)) for id, user in users.items())
    load(ingest, "users", ("id", "account_id", "properties"), rows)
    insert_events(ingest, events)
    owner.execute("ANALYZE users, events")
    return database


def admin_of(session, account):
    return session("clevertap_owner" if account == "*" else f"clevertap_admin_{account}")


def mark(connection, document, paths, field, account="*", kind=None):
    connection.execute(
        "SELECT fieldcrypt.protect_path(%s, %s, field => %s, account => %s, kind => %s)",
        [document, paths, field, account, kind],
    )


def unmark(connection, document, paths, account="*", kind=None):
    connection.execute(
        "SELECT fieldcrypt.unprotect_path(%s, %s, account => %s, kind => %s)",
        [document, paths, account, kind],
    )


def insert_events(connection, events):
    connection.cursor().executemany(
        "INSERT INTO events VALUES (%s, %s, %s, %s, %s, %s)",
        [
            (id, event.day, event.account, event.user, event.name, Jsonb(event.properties))
            for id, event in events.items()
        ],
    )


@pytest.fixture
def analyst(platform, session):
    """Acme's analyst."""
    return session("clevertap_analyst_acme", "acme")


def of_account(records, account, name=None):
    """The records of an account; of events, those of one name."""
    return {
        id: record
        for id, record in records.items()
        if record.account == account and name in (None, record.name)
    }


def all_properties(connection, table, shown="properties", account=None):
    """What a connection reads of a table's suite-wide rows, or of one account's, by id."""
    condition = "account_id = ANY (%s)"
    query = f"SELECT id, {shown} FROM {table} WHERE {condition}"
    return dict(connection.execute(query, [[account] if account else list(USERS)]))


# What is stored, and what comes back


def test_the_suite_has_20_000_rows_in_users_and_events(platform, users, events):
    assert value(platform, "SELECT count(*) FROM users") >= len(users) == sum(USERS.values())
    assert value(platform, "SELECT count(*) FROM events") >= len(events) >= 20_000


@pytest.mark.parametrize("table", ["users", "events"])
def test_stored_properties_are_ciphertext_exactly_where_they_are_marked(platform, request, table):
    records = request.getfixturevalue(table)
    stored = all_properties(platform, table)
    assert stored.keys() == records.keys()
    for id, record in records.items():
        assert_stored(stored[id], record.properties, record.fields.keys())
    sealed = [envelope for data in stored.values() for envelope in envelopes(data).values()]
    assert len(sealed) == len(set(sealed)) > 8_000


@pytest.mark.parametrize("table", ["users", "events"])
def test_each_value_is_of_the_account_and_field_that_the_most_specific_mark_says(
    platform, request, table
):
    described = platform.execute(rf"""
        SELECT id, fieldcrypt.account_of(value), fieldcrypt.field_of(value)
        FROM {table},
            LATERAL jsonb_path_query(properties, 'strict $.** ? (@ starts with "fc1:")') AS item,
            LATERAL CAST(item #>> '{{}}' AS fieldcrypt.encrypted_jsonb) AS value
        WHERE account_id IN ('acme', 'globex')
    """)
    assert Counter(described) == Counter(
        (id, record.account, field)
        for id, record in request.getfixturevalue(table).items()
        for field in record.fields.values()
    )


@pytest.mark.parametrize("account", USERS)
@pytest.mark.parametrize("table", ["users", "events"])
@pytest.mark.parametrize("function", ["decrypt", "reveal"])
def test_analysts_read_properties_exactly(platform, session, request, account, table, function):
    analyst = session(f"clevertap_analyst_{account}", account)
    read = all_properties(analyst, table, f"fieldcrypt.{function}(properties)", account)
    records = of_account(request.getfixturevalue(table), account)
    assert read == {id: record.properties for id, record in records.items()}


@pytest.mark.parametrize("table", ["users", "events"])
def test_analysts_read_without_any_function(analyst, request, table):
    with transparent(analyst):
        read = all_properties(analyst, table, account="acme")
    records = of_account(request.getfixturevalue(table), "acme")
    assert read == {id: record.properties for id, record in records.items()}


def test_money_and_ids_keep_every_digit(analyst, events):
    query = """
        SELECT id::text, plain->>'amount', plain->>'charged_id', plain #>> '{items,0,price}'
        FROM events, fieldcrypt.decrypt(properties) AS plain
        WHERE account_id = 'acme' AND event_name = 'Charged'
    """
    expected = {
        (
            str(id),
            str(event.properties["amount"]),
            str(event.properties["charged_id"]),
            str(event.properties["items"][0]["price"]),
        )
        for id, event in of_account(events, "acme", "Charged").items()
    }
    assert set(analyst.execute(query)) == expected


# Marking


def new_account_data(session, account, first_id, seed):
    """Writes 300 users and 1,000 charges of an account; returns both, each by id."""
    chance = random.Random(seed)
    users = {
        id: Record(account, user_properties(person, id, chance), id)
        for id, person in enumerate(people(300, seed), first_id)
    }
    ingest = session("clevertap_ingest")
    rows = ((id, account, dumps(user.properties)) for id, user in users.items())
    load(ingest, "users", ("id", "account_id", "properties"), rows)
    charges = new_charges(users, 1_000, first_id, chance)
    insert_events(ingest, charges)
    return users, charges


def new_charges(users, count, first_id, chance):
    charges = {}
    for id in range(first_id, first_id + count):
        user = chance.choice(list(users.values()))
        properties = event_properties("Charged", user.properties, id, chance)
        charges[id] = Record(user.account, properties, user.user, "Charged")
    return charges


def assert_all_stored(platform, table, records, paths):
    """Rows of one account are stored with ciphertext at exactly these paths."""
    (account,) = {record.account for record in records.values()}
    stored = all_properties(platform, table, account=account)
    assert stored.keys() >= records.keys()
    for id, record in records.items():
        sealed = set().union(*(places(record.properties, path) for path in paths))
        assert_stored(stored[id], record.properties, sealed)
    return stored


def test_new_data_is_encrypted_from_the_mark_on_and_history_when_it_is_touched(platform, session):
    """By the account's admin, one property and many at a time. Before, only what the platform
    marked for all accounts is encrypted."""
    users, history = new_account_data(session, "initech", 3_000_001, seed=31)
    admin, ingest = session("clevertap_admin_initech"), session("clevertap_ingest")
    analyst = session("clevertap_analyst_initech", "initech")
    assert_all_stored(platform, "users", users, ["device_token"])
    before = assert_all_stored(platform, "events", history, ["ip"])

    chance = random.Random(8)
    marked = ["ip"]
    new = {}
    for paths, field in (
        (["card.number"], "event.card"),
        (["amount", "charged_id", "items[*].price"], "event.amount"),
    ):
        mark(admin, "event.properties", paths, field, "initech", "Charged")
        marked += paths
        newer = new_charges(users, 50, 3_100_001 + len(new), chance)
        insert_events(ingest, newer)
        assert_all_stored(platform, "events", newer, marked)
        new |= newer
    stored = all_properties(platform, "events", account="initech")
    assert {id: stored[id] for id in history} == before

    charges = {**history, **new}
    total = """
        SELECT count(*), sum((fieldcrypt.decrypt(properties, 'amount'))::numeric)
        FROM events WHERE account_id = 'initech'
    """
    amounts = [charge.properties["amount"] for charge in charges.values()]
    assert analyst.execute(total).fetchone() == (len(charges), sum(amounts))
    assert all_properties(analyst, "events", "fieldcrypt.decrypt(properties)", "initech") == {
        id: charge.properties for id, charge in charges.items()
    }

    touched = min(history)
    card = history[touched].properties["card"]["number"]
    search = "SELECT id FROM events WHERE fieldcrypt.matches(properties, 'event.card', %s)"
    assert column(analyst, search, [card]) == []
    touch = "UPDATE events SET properties = properties || '{\"seen\": 1}' WHERE id = %s"
    ingest.execute(touch, [touched])
    history[touched].properties["seen"] = 1
    assert_all_stored(platform, "events", {touched: history[touched]}, marked)
    assert column(analyst, search, [card]) == [touched]

    ingest.execute("UPDATE events SET properties = properties WHERE account_id = 'initech'")
    assert_all_stored(platform, "events", charges, marked)
    assert analyst.execute(total).fetchone() == (len(charges), sum(amounts))
    for id in random.Random(9).sample(sorted(charges), 50):
        assert id in column(analyst, search, [charges[id].properties["card"]["number"]])
    # history that was encrypted is not encrypted again
    once = all_properties(platform, "events", account="initech")
    ingest.execute("UPDATE events SET properties = properties WHERE account_id = 'initech'")
    assert all_properties(platform, "events", account="initech") == once


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_a_mark_holds_for_transactions_that_began_before(platform, session, isolation):
    """From its commit on; not before, and not if it is rolled back."""
    admin, ingest = session("clevertap_admin_initech"), session("clevertap_ingest")
    name = f"Page Viewed ({isolation})"
    properties = {"page": "https://example.com/é", "created_at": "2026-02-02"}
    event = Record("initech", properties, 1, name)

    def insert(id):
        insert_events(ingest, {id: event})
        return value(ingest, "SELECT properties FROM events WHERE id = %s", [id])

    with ingest.transaction(force_rollback=True):
        ingest.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        assert insert(7_000_001) == properties
        with admin.transaction(force_rollback=True):
            mark(admin, "event.properties", ["page"], "event.property", "initech", name)
            assert insert(7_000_002) == properties
        assert insert(7_000_003) == properties
        with admin.transaction():
            mark(admin, "event.properties", ["page"], "event.property", "initech", name)
        assert_stored(insert(7_000_004), properties, {("page",)})


def test_marks_are_listed(platform):
    listed = platform.execute("""
        SELECT document, account, kind, path, field FROM fieldcrypt.paths
        WHERE state = 'active' AND account IN ('*', 'acme', 'globex')
    """)
    assert Counter(listed) == Counter(
        (document, account, kind, path, field)
        for document, account, kind, paths, field in MARKS
        for path in paths
        if account != "umbrella"
    )


def test_an_admin_marks_for_his_own_account_only(platform, session):
    marks = "SELECT * FROM fieldcrypt.paths ORDER BY 1, 2, 3, 4, 5, 6"
    before = platform.execute(marks).fetchall()
    acme = session("clevertap_admin_acme")
    for account in "globex", "*":
        with refused("42501"):
            mark(acme, "event.properties", ["device.model"], "event.property", account)
        with refused("42501"):
            mark(acme, "event.properties", ["device.model"], "event.property", account, "Charged")
    for account, path in ("globex", "email"), ("*", "device_token"):
        with refused("42501"):
            unmark(acme, "user.properties", [path], account)
    with refused("42501"):
        acme.execute("SELECT fieldcrypt.create_field('user.of_acme')")
    with refused("42501"):
        acme.execute("SELECT fieldcrypt.keep_plain('{plan}')")
    assert platform.execute(marks).fetchall() == before


def test_a_right_to_manage_is_for_its_fields_only(platform, session):
    marketing = session("clevertap_marketing")
    with refused("42501"):
        mark(marketing, "event.properties", ["device.model"], "event.property", "acme")
    with refused("42501"):
        unmark(marketing, "user.properties", ["identity"], "acme")
    with marketing.transaction(force_rollback=True):
        mark(marketing, "user.properties", ["plan", "ltv"], "user.property", "acme")
        marks = "SELECT count(*) FROM fieldcrypt.paths WHERE path IN ('plan', 'ltv')"
        assert value(platform, marks) == 0  # not before it is committed
        unmark(marketing, "user.properties", ["plan", "ltv"], "acme")


@pytest.mark.parametrize("user", ["clevertap_analyst_acme", "clevertap_viewer", "clevertap_ingest"])
def test_marking_needs_the_right(platform, session, user):
    with refused("42501"):
        mark(session(user), "event.properties", ["device.model"], "event.property", "acme")
    with refused("42501"):
        unmark(session(user), "user.properties", ["email"], "acme")


def test_managing_is_not_reading_or_writing(platform, session, users):
    admin = session("clevertap_admin_acme", "acme")
    with refused("42501", "decrypt"):
        admin.execute("SELECT fieldcrypt.decrypt(properties) FROM users WHERE account_id = 'acme'")
    with refused("42501", "search"):
        admin.execute("SELECT FROM users WHERE fieldcrypt.matches(properties, 'user.city', 'x')")
    shown = all_properties(admin, "users", "fieldcrypt.reveal(properties)", "acme")
    assert shown == all_properties(platform, "users", account="acme")


@pytest.mark.parametrize("name", ["created_at", "updated_at", "source"])
def test_many_marks_are_made_together_or_not_at_all(platform, session, name):
    admin = session("clevertap_admin_acme")
    with refused("22023", f'"{name}" is a name that is never encrypted'):
        mark(admin, "event.properties", ["device.os", name], "event.property", "acme")
    marks = "SELECT count(*) FROM fieldcrypt.paths WHERE path = 'device.os'"
    assert value(platform, marks) == 0


# Decrypting back


def test_event_properties_are_irreversible(platform, session, events):
    marks = "SELECT * FROM fieldcrypt.paths ORDER BY 1, 2, 3, 4, 5, 6"
    before = platform.execute(marks).fetchall()
    for connection in session("clevertap_admin_acme"), session("clevertap_owner"), platform.conn:
        for paths, kind in (
            (["card.number"], "Charged"),
            (["amount", "items[*].price"], "Charged"),
            (["email"], "Signed Up"),
            (["identity"], None),
        ):
            with refused("55000", "not reversible"):
                unmark(connection, "event.properties", paths, "acme", kind)
    for connection in session("clevertap_owner"), platform.conn:
        with refused("55000", "not reversible"):
            unmark(connection, "event.properties", ["ip"])
    assert platform.execute(marks).fetchall() == before


def test_decrypted_event_properties_written_back_stay_encrypted(platform, analyst, events):
    before = all_properties(platform, "events", account="acme")
    with analyst.transaction(force_rollback=True):
        back = """
            UPDATE events SET properties = fieldcrypt.decrypt(properties)
            WHERE account_id = 'acme' RETURNING id, properties
        """
        assert dict(analyst.execute(back)) == before


def test_a_narrower_mark_does_not_undo_an_irreversible_one(platform, session):
    """An account's admin marks what the platform marked for all with a reversible field, and takes
    the mark back: whether he may or not, the platform's mark holds."""
    admin = session("clevertap_admin_umbrella")
    analyst = session("clevertap_analyst_umbrella", "umbrella")
    properties = {"ip": "198.51.100.7", "created_at": "2026-03-03"}
    old, new = (Record("umbrella", properties, 1, "Refunded") for _ in range(2))
    insert_events(analyst, {6_000_001: old})
    with suppress(psycopg.Error):
        mark(admin, "event.properties", ["ip"], "user.property", "umbrella", "Refunded")
    with suppress(psycopg.Error):
        unmark(admin, "event.properties", ["ip"], "umbrella", "Refunded")
    insert_events(analyst, {6_000_002: new})
    back = """
        UPDATE events SET properties = fieldcrypt.decrypt(properties)
        WHERE account_id = 'umbrella' AND event_name = 'Refunded' RETURNING properties
    """
    stored = column(analyst, back)
    assert len(stored) == 2
    for event in stored:
        assert_stored(event, properties, {("ip",)})


def test_user_properties_are_decrypted_back(platform, session):
    users, charges = new_account_data(session, "umbrella", 4_000_001, seed=41)
    admin, ingest = session("clevertap_admin_umbrella"), session("clevertap_ingest")
    analyst = session("clevertap_analyst_umbrella", "umbrella")
    marked = ["device_token", "email", "phones[*]"]
    sealed = assert_all_stored(platform, "users", users, marked)

    unmark(admin, "user.properties", ["email", "phones[*]"], "umbrella")
    assert all_properties(platform, "users", account="umbrella") == sealed
    plain = {id: user.properties for id, user in users.items()}
    shown = "fieldcrypt.decrypt(properties)"
    assert all_properties(analyst, "users", shown, "umbrella") == plain

    back = "UPDATE users SET properties = fieldcrypt.decrypt(properties) WHERE account_id = %s"
    for connection in ingest, session("clevertap_analyst_globex"):
        with refused("42501", "decrypt"):
            connection.execute(back, ["umbrella"])
    assert analyst.execute(back, ["umbrella"]).rowcount == len(users)
    stored = assert_all_stored(platform, "users", users, ["device_token"])
    # what stays marked was not encrypted again
    assert all(envelopes(stored[id]).items() <= envelopes(sealed[id]).items() for id in users)
    # the account's events were not touched, and cannot be decrypted back
    assert_all_stored(platform, "events", charges, ["ip", "amount"])
    with refused("55000", "not reversible"):
        unmark(admin, "event.properties", ["amount"], "umbrella", "Charged")

    # marks, and who has decrypted, are in the audit
    of_account = "account = 'umbrella' AND session_role = %s"
    marks = audited(platform, "action, outcome, detail", of_account, [admin.info.user])
    assert ("unprotect_path", "done", "email of user.properties") in marks
    reads = audited(platform, "action, outcome", of_account, [analyst.info.user])
    assert ("decrypt", "plain") in reads
    refusals = audited(platform, "action, outcome", of_account, ["clevertap_analyst_globex"])
    assert set(refusals) == {("decrypt", "denied")}

    mark(admin, "user.properties", ["email", "phones[*]"], "user.property", "umbrella")
    ingest.execute("UPDATE users SET properties = properties WHERE account_id = 'umbrella'")
    assert_all_stored(platform, "users", users, marked)


# Searching, segmenting, analysing


def test_users_are_found_by_email_and_phone(analyst, users):
    by_email = "SELECT id FROM users WHERE fieldcrypt.matches(properties, 'user.email', %s)"
    by_phone = "SELECT id FROM users WHERE fieldcrypt.matches(properties, 'user.phone', %s)"
    acme = of_account(users, "acme")
    for id in random.Random(1).sample(sorted(acme), 200):
        properties = acme[id].properties
        assert column(analyst, by_email, [properties["email"].swapcase()]) == [id]
        for phone in properties["phones"]:
            assert column(analyst, by_phone, [phone.replace(" ", "-")]) == [id]
    assert column(analyst, by_email, ["nobody@example.com"]) == []


def test_users_are_found_by_a_list_of_emails(analyst, users):
    emails = {user.properties["email"]: id for id, user in of_account(users, "acme").items()}
    some = random.Random(2).sample(sorted(emails), 500)
    query = """
        SELECT email, id FROM unnest(%s::text[]) AS email
        JOIN users ON fieldcrypt.matches(properties, 'user.email', email)
    """
    found = analyst.execute(query, [[*some, "nobody@example.com"]])
    assert sorted(found) == sorted((email, emails[email]) for email in some)


@pytest.mark.parametrize(
    "table, field, indexes",
    [
        ("users", "user.email", ["users_tokens"]),
        ("events", "event.card", ["events_until_june_tokens_idx", "events_from_july_tokens_idx"]),
    ],
)
def test_searches_use_the_index(analyst, table, field, indexes):
    query = f"SELECT id FROM {table} WHERE fieldcrypt.matches(properties, %s, %s)"
    shown = plan(analyst, query, [field, "4111"])
    for index in indexes:
        assert f"Bitmap Index Scan on {index}" in shown
    assert "Seq Scan" not in shown


def test_a_generic_plan_uses_the_index_too(analyst, users):
    acme = of_account(users, "acme")
    some = random.Random(3).sample(sorted(acme), 20)
    analyst.execute("""
        PREPARE by_email (text) AS
        SELECT id FROM users WHERE fieldcrypt.matches(properties, 'user.email', $1)
    """)
    analyst.execute("SET plan_cache_mode = force_generic_plan")
    try:
        for id in some:
            email = acme[id].properties["email"].replace("'", "''")
            assert column(analyst, f"EXECUTE by_email ('{email}')") == [id]
        shown = plan(analyst, "EXECUTE by_email ('x@example.com')")
        assert "Bitmap Index Scan on users_tokens" in shown
        assert "example.com" not in shown
    finally:
        analyst.execute("RESET plan_cache_mode; DEALLOCATE by_email")


def test_segments_are_counted_by_encrypted_values(analyst, users):
    acme = of_account(users, "acme").values()
    count = "SELECT count(*) FROM users WHERE fieldcrypt.matches(properties, %s, %s)"
    cities = Counter(user.properties["address"]["city"] for user in acme)
    for city, expected in cities.items():
        for spelling in city, city.upper():
            assert value(analyst, count, ["user.city", spelling]) == expected
    with_name = Counter(
        name
        for user in acme
        for name in {user.properties["first_name"], user.properties["last_name"]}
    )
    for name, expected in with_name.items():
        assert value(analyst, count, ["user.name", name]) == expected
    gold = """
        SELECT count(*) FROM users
        WHERE fieldcrypt.matches(properties, 'user.city', %s) AND properties->>'plan' = 'gold'
            AND NOT fieldcrypt.matches(properties, 'user.name', %s)
    """
    assert value(analyst, gold, ["köln", "müller"]) == sum(
        user.properties["address"]["city"] == "Köln"
        and user.properties["plan"] == "gold"
        and user.properties["last_name"] != "Müller"
        for user in acme
    )


def test_segments_are_groups_of_decrypted_values(analyst, users):
    query = """
        SELECT fieldcrypt.decrypt(properties, 'address.city') #>> '{}',
            properties #>> '{address,country}', count(*),
            sum((fieldcrypt.decrypt(properties, 'balance'))::numeric)
        FROM users WHERE account_id = 'acme' GROUP BY 1, 2
    """
    balances = defaultdict(list)
    for user in of_account(users, "acme").values():
        address = user.properties["address"]
        balances[address["city"], address["country"]].append(user.properties["balance"])
    found = {(city, country): counts for city, country, *counts in analyst.execute(query)}
    assert found == {segment: [len(all), sum(all)] for segment, all in balances.items()}


def test_amounts_are_analysed_exactly(analyst, events):
    query = """
        SELECT left(properties->>'created_at', 7), count(*), sum(amount), min(amount), max(amount),
            percentile_disc(0.5) WITHIN GROUP (ORDER BY amount)
        FROM events, LATERAL CAST(fieldcrypt.decrypt(properties, 'amount') AS numeric) AS amount
        WHERE account_id = 'acme' AND event_name = 'Charged' GROUP BY 1
    """
    months = defaultdict(list)
    for event in of_account(events, "acme", "Charged").values():
        months[event.properties["created_at"][:7]].append(Decimal(event.properties["amount"]))
    found = {month: figures for month, *figures in analyst.execute(query)}
    expected = {
        month: [len(all), sum(all), min(all), max(all), sorted(all)[(len(all) - 1) // 2]]
        for month, all in months.items()
    }
    assert found == expected
    as_text = "SELECT sum((fieldcrypt.decrypt(properties, 'amount'))::numeric)::text FROM events"
    total = sum((amount for all in months.values() for amount in all), Decimal())
    condition = "WHERE account_id = 'acme' AND event_name = 'Charged'"
    assert value(analyst, f"{as_text} {condition}") == str(total)


def test_users_and_events_are_joined_by_token(analyst, users, events):
    """On an encrypted property that both have, and without decrypting anything."""
    query = """
        SELECT users.id, event_name, count(*)
        FROM users JOIN events
            ON fieldcrypt.token(events.properties, 'identity')
                = fieldcrypt.token(users.properties, 'identity')
        WHERE users.account_id = 'acme' GROUP BY 1, 2
    """
    assert {(id, name): count for id, name, count in analyst.execute(query)} == Counter(
        (event.user, event.name) for event in of_account(events, "acme").values()
    )


def test_a_segment_spans_users_and_events(analyst, users, events):
    """Who of a city paid, with how much: conditions on encrypted properties of both."""
    query = """
        SELECT users.id, sum((fieldcrypt.decrypt(events.properties, 'amount'))::numeric)
        FROM users JOIN events
            ON fieldcrypt.token(events.properties, 'identity')
                = fieldcrypt.token(users.properties, 'identity')
        WHERE fieldcrypt.matches(users.properties, 'user.city', %s)
            AND events.account_id = 'acme' AND event_name = 'Charged'
        GROUP BY users.id
    """
    spent = defaultdict(Decimal)
    for event in of_account(events, "acme", "Charged").values():
        if users[event.user].properties["address"]["city"] == "São Paulo":
            spent[event.user] += event.properties["amount"]
    assert len(spent) > 50
    assert dict(analyst.execute(query, ["SÃO PAULO"])) == spent


def test_one_users_events_are_found_by_an_encrypted_property(analyst, users, events):
    query = """
        SELECT id FROM events WHERE fieldcrypt.matches(properties, 'identity', %s) ORDER BY id
    """
    of_user = defaultdict(list)
    for id, event in of_account(events, "acme").items():
        of_user[event.user].append(id)
    for user in random.Random(4).sample(sorted(of_user), 100):
        assert column(analyst, query, [users[user].properties["identity"]]) == of_user[user]


def test_values_are_grouped_by_token(analyst, events):
    """How many users have how many events: no identity is decrypted for it."""
    query = """
        SELECT count, count(*) FROM (
            SELECT count(*) FROM events WHERE account_id = 'acme'
            GROUP BY fieldcrypt.token(properties, 'identity')) AS events_of_user
        GROUP BY 1
    """
    per_user = Counter(event.user for event in of_account(events, "acme").values())
    assert dict(analyst.execute(query)) == Counter(per_user.values())


def test_searching_needs_the_right(platform, session, users):
    email = next(iter(users.values())).properties["email"]
    for user in "clevertap_viewer", "clevertap_agent", "clevertap_analyst_globex":
        with refused("42501", "search") as caught:
            session(user, "acme").execute(
                "SELECT id FROM users WHERE fieldcrypt.matches(properties, 'user.email', %s)",
                [email],
            )
        assert email not in everything_said(caught.value)


# What the others see


@pytest.mark.parametrize("table", ["users", "events"])
@pytest.mark.parametrize("user", ["clevertap_viewer", "clevertap_ingest", "clevertap_owner"])
def test_others_see_only_the_encrypted_value(platform, session, request, table, user):
    connection = session(user, "acme")
    stored = all_properties(platform, table)
    assert stored.keys() == request.getfixturevalue(table).keys()
    assert all_properties(connection, table) == stored
    assert all_properties(connection, table, "fieldcrypt.reveal(properties)") == stored
    with refused("42501", "decrypt"):
        all_properties(connection, table, "fieldcrypt.decrypt(properties)")


def test_analysts_see_other_accounts_only_encrypted(platform, session):
    globex = session("clevertap_analyst_globex", "globex")
    for table in "users", "events":
        stored = all_properties(platform, table, account="acme")
        assert all_properties(globex, table, "fieldcrypt.reveal(properties)", "acme") == stored
        with refused("42501", "acme"):
            all_properties(globex, table, "fieldcrypt.decrypt(properties)", "acme")


MASKS = {
    "user.email": mask_email,
    "user.phone": mask_last4,
    "user.name": mask_first_last,
    "event.email": mask_email,
    "event.phone": mask_last4,
    "event.card": mask_pan,
}


@pytest.mark.parametrize("table", ["users", "events"])
def test_agents_see_masks_of_the_decrypted_values(platform, session, request, table):
    """Where a field has a mask; what has none stays encrypted."""
    agent = session("clevertap_agent", "acme")
    stored = all_properties(platform, table)
    shown = all_properties(agent, table, "fieldcrypt.reveal(properties)")
    for id, record in request.getfixturevalue(table).items():
        visible = {
            place: MASKS[field](at(record.properties, place))
            if field in MASKS and record.account == "acme"
            else at(stored[id], place)
            for place, field in record.fields.items()
        }
        assert shown[id] == with_values(record.properties, visible)
    with refused("42501", "decrypt"):
        all_properties(agent, table, "fieldcrypt.decrypt(properties)")


def test_the_strongest_grant_wins(platform, session, users):
    """An agent who is granted decrypt on one field sees it plain, and masks of the others."""
    agent = session("clevertap_agent", "acme")
    id, user = next(iter(users.items()))
    grant = "SELECT fieldcrypt.{}('clevertap_agent', '{{decrypt}}', 'acme', 'user.email')"
    shown = "SELECT fieldcrypt.reveal(properties) FROM users WHERE id = %s"
    platform.execute(grant.format("grant_access"))
    try:
        properties = value(agent, shown, [id])
        assert properties["email"] == user.properties["email"]
        assert properties["first_name"] == mask_first_last(user.properties["first_name"])
    finally:
        platform.execute(grant.format("revoke_access"))
    assert value(agent, shown, [id])["email"] == mask_email(user.properties["email"])


# Keys


def test_an_account_has_default_keys_of_its_own(platform, session):
    """Nothing but creating the account is needed, and no other account's right opens its data."""
    platform.execute("SELECT fieldcrypt.create_account('newcomer')")
    keys = "SELECT account, purpose, count(*), min(key_id) FROM fieldcrypt.keys"
    found = platform.execute(f"{keys} WHERE account = ANY (%s) GROUP BY 1, 2", [[*ACCOUNTS]])
    rows = found.fetchall()
    assert Counter((account, purpose, count) for account, purpose, count, _ in rows) == Counter(
        (account, purpose, 1) for account in ACCOUNTS for purpose in ("wrapping", "data", "index")
    )
    assert len({key for *_, key in rows}) == len(rows)

    ip = {"ip": "198.51.100.7", "created_at": "2026-05-01"}
    event = Record("newcomer", ip, 1, "App Launched")
    insert_events(session("clevertap_ingest"), {5_000_001: event})
    stored = value(platform, "SELECT properties FROM events WHERE id = 5000001")
    assert_stored(stored, ip, {("ip",)})
    read = "SELECT fieldcrypt.decrypt(properties) FROM events WHERE id = 5000001"
    with refused("42501", "newcomer"):
        session("clevertap_analyst_acme", "acme").execute(read)
    platform.execute(
        "SELECT fieldcrypt.grant_access('clevertap_viewer', '{decrypt}', 'newcomer', '*')"
    )
    assert value(session("clevertap_viewer"), read) == ip


def test_an_account_without_keys_cannot_be_written(platform, session):
    properties = {"ip": "198.51.100.7", "created_at": "2026-05-01"}
    event = Record("nobody", properties, 1, "App Launched")
    with refused("42704", "nobody") as caught:
        insert_events(session("clevertap_ingest"), {5_000_002: event})
    assert "198.51.100.7" not in everything_said(caught.value)


# Ingestion


def test_a_corrected_date_moves_an_event_to_another_partition(session, analyst, events):
    """What is encrypted in it stays as it is, whoever moves it."""
    id, event = next(
        (id, event)
        for id, event in of_account(events, "acme", "Charged").items()
        if event.day < "2026-07-01"
    )
    move = """
        UPDATE events SET occurred_on = '2026-12-24', properties = properties || %s WHERE id = %s
        RETURNING tableoid::regclass::text, properties
    """
    stored = "SELECT properties FROM events WHERE id = %s"
    before = value(analyst, stored, [id])
    for connection in session("clevertap_ingest"), analyst:
        for change in {}, {"corrected": True}:
            with connection.transaction(force_rollback=True):
                moved = connection.execute(move, [Jsonb(change), id]).fetchone()
                assert moved == ("events_from_july", {**before, **change})
    with analyst.transaction(force_rollback=True):
        analyst.execute(move, [Jsonb({"amount": 1}), id])
        read = "SELECT fieldcrypt.decrypt(properties) FROM events WHERE id = %s"
        assert value(analyst, read, [id]) == {**event.properties, "amount": 1}


COPIES = {
    "with the row itself": """
        UPDATE {table} SET properties = (SELECT properties FROM {table} WHERE id = {source})
        WHERE id IN ({source}, {target})
    """,
    "from what an update returns": """
        WITH source AS (UPDATE {table} SET user_id = 1 WHERE id = {source} RETURNING properties)
        UPDATE {table} SET properties = source.properties FROM source WHERE id = {target}
    """,
    "in a later statement": """
        UPDATE {table} SET user_id = 1 WHERE id = {source};
        UPDATE {table} SET properties = (SELECT properties FROM {table} WHERE id = {source})
        WHERE id = {target}
    """,
    "in one block": """
        DO $$ BEGIN
            UPDATE {table} SET user_id = 1 WHERE id = {source};
            UPDATE {table} SET properties = (SELECT properties FROM {table} WHERE id = {source})
            WHERE id = {target};
        END $$
    """,
    "after a move to a partition that there is not": """
        DO $$ BEGIN
            BEGIN
                UPDATE {table} SET occurred_on = '2099-01-01' WHERE id = {source};
            EXCEPTION WHEN check_violation THEN
                NULL;
            END;
            INSERT INTO {table} SELECT 7000001, occurred_on, account_id, 1, event_name, properties
            FROM {table} WHERE id = {source};
        END $$
    """,
}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
@pytest.mark.parametrize("table", ["events", "events_until_june"])
def test_ciphertext_is_not_copied_from_row_to_row(platform, session, events, table, copy):
    """The copy would show a user somebody else's values: not even in a statement that also writes
    the row it comes from, and not by way of partitions."""
    ingest = session("clevertap_ingest")
    charges = of_account(events, "acme", "Charged").items()
    source, target = [id for id, event in charges if event.day < "2026-07-01"][:2]
    stored = f"SELECT id, properties FROM {table} WHERE id IN ({source}, {target})"
    before = dict(ingest.execute(stored))
    with ingest.transaction(force_rollback=True):
        with refused("42501", "encrypted values are not accepted"), ingest.transaction():
            ingest.execute(copy.format(table=table, source=source, target=target))
        assert dict(ingest.execute(stored)) == before


def test_ingestion_upserts_and_repeats(platform, session, analyst, users):
    """The same user comes again, with a change: encrypted once, read exactly."""
    ingest = session("clevertap_ingest")
    id, user = next((id, u) for id, u in users.items() if len(u.properties["phones"]) == 2)
    upsert = """
        INSERT INTO users (id, account_id, properties) VALUES (%s, 'acme', %s)
        ON CONFLICT (id) DO UPDATE SET properties = users.properties || excluded.properties
        RETURNING properties
    """
    changes = {"phones": user.properties["phones"][::-1], "plan": "gold", "email": "new@e.example"}
    changed = {**user.properties, **changes}
    with ingest.transaction(force_rollback=True):
        for sent in changes, changes, {"plan": "gold"}:
            stored = value(ingest, upsert, [id, Jsonb(sent)])
            assert_stored(stored, changed, user.fields.keys())
    with analyst.transaction(force_rollback=True):
        analyst.execute(
            "UPDATE users SET properties = properties || %s WHERE id = %s", [Jsonb(changes), id]
        )
        read = "SELECT fieldcrypt.decrypt(properties) FROM users WHERE id = %s"
        assert value(analyst, read, [id]) == changed
