"""Floh: workflows over the users of an organisation, whose custom attributes may be personal.

Phone number and employee id are typed columns. Attribute definitions say which custom attributes
are PII; those are gathered into one encrypted JSON blob, `pii_attributes`, and the others stay in
`custom_attributes`, where they are queried as ever. The permission `user:read_pii` is a grant of
`decrypt`.

Needs a later issue:
- a current and a previous key of fieldcrypt's own, for gradual re-encryption: rotation (issue 6)
- an attribute that becomes PII when users have it already: encrypt_existing (issue 6). Here it is
  gathered when the user is next written.
"""

import secrets
from datetime import date

import pytest
from checks import (
    HIDDEN,
    audited,
    column,
    everything_said,
    is_envelope,
    load,
    mask_email,
    mask_last4,
    plan,
    refused,
    transparent,
    value,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from exactjson import Number, dumps
from harness import ADOPTION_KEYS
from people import people
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.every_version

COUNT = 20_000

ROLES = (
    "floh_owner",  # owns the tables, says what is PII, reads nothing
    "floh_app",  # the application for users without user:read_pii
    "floh_pii",  # the application for users with user:read_pii
    "floh_support",  # sees masks
    "floh_payroll",  # may read the SSN, and not the date of birth
    "floh_guest",  # has no grants
    "floh_workflow",  # owns the trusted workflows
    "floh_untrusted",  # owns a workflow that nobody trusts
    "floh_migrator",  # adopts what Floh encrypted before, and reads nothing
)

# key of the attribute, is it PII, field, search, normalizer, mask
DEFINITIONS = [
    ("ssn", True, "user.ssn", "{exact}", "digits", "last4"),
    ("birth_date", True, "user.birth_date", "{}", "none", "year"),
    ("personal_email", True, "user.personal_email", "{exact}", "email", "email"),
    ("home_address", True, "user.home_address", "{}", "none", "none"),
    ("iban", True, "user.iban", "{exact}", "none", "last4"),
    ("salary", True, "user.salary", "{}", "none", "none"),
    ("emergency.contact", True, "user.emergency_contact", "{}", "none", "none"),
    ("department", False, None, None, None, None),
    ("location", False, None, None, None, None),
    ("skills", False, None, None, None, None),
    ("grade", False, None, None, None, None),
    ("budget", False, None, None, None, None),
    ("remote", False, None, None, None, None),
]
FIELDS = {key: field for key, _, field, *_ in DEFINITIONS}
PII = {key for key, is_pii, *_ in DEFINITIONS if is_pii}

SCHEMA = """
    CREATE TABLE attribute_definition (
        key text PRIMARY KEY,
        is_pii boolean NOT NULL,
        field text CHECK (is_pii = (field IS NOT NULL)),
        search text[],
        normalizer text,
        mask text);

    SELECT fieldcrypt.create_field(
        'user.phone_number', search => '{exact}', normalizer => 'phone', mask => 'last4');
    SELECT fieldcrypt.create_field(
        'user.employee_id', search => '{exact}', normalizer => 'casefold');
    SELECT fieldcrypt.create_field('user.pii');

    CREATE TABLE users (
        id bigint PRIMARY KEY,
        tenant_id text NOT NULL DEFAULT 'floh',
        email text NOT NULL UNIQUE,
        display_name text NOT NULL,
        status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'invited', 'locked')),
        manager_id bigint REFERENCES users,
        phone_number fieldcrypt.encrypted_text('user.phone_number'),
        employee_id fieldcrypt.encrypted_text('user.employee_id'),
        custom_attributes jsonb NOT NULL DEFAULT '{}',
        pii_attributes fieldcrypt.encrypted_jsonb('user.pii'));
    SELECT fieldcrypt.protect_table('users', account_column => 'tenant_id');
    SELECT fieldcrypt.protect_jsonb('users', 'custom_attributes', name => 'user.attributes',
        account_column => 'tenant_id', blob_column => 'pii_attributes');

    CREATE UNIQUE INDEX users_employee_id ON users (employee_id);
    CREATE INDEX users_phone_number ON users USING hash (phone_number);
    CREATE INDEX users_custom_attributes ON users USING gin (custom_attributes jsonb_path_ops);
    CREATE INDEX users_manager_id ON users (manager_id);
    CREATE INDEX users_pii_tokens ON users USING gin (fieldcrypt.tokens(pii_attributes));
    GRANT SELECT, INSERT, UPDATE, DELETE ON users TO floh_app, floh_pii, floh_support, floh_guest;
    GRANT SELECT ON users TO floh_payroll, floh_workflow, floh_untrusted;
    GRANT SELECT, UPDATE ON users TO floh_migrator;
"""

GRANTS = """
    SELECT fieldcrypt.grant_access('floh_app', '{encrypt,search}', 'floh', 'user.*');
    SELECT fieldcrypt.grant_access('floh_pii', '{encrypt,search,decrypt}', 'floh', 'user.*');
    SELECT fieldcrypt.grant_access('floh_support', '{encrypt,mask}', 'floh', 'user.*');
    SELECT fieldcrypt.grant_access('floh_payroll', '{decrypt}', 'floh', 'user.ssn');
    SELECT fieldcrypt.grant_access('floh_migrator', '{encrypt}', 'floh', 'user.*');
    SELECT fieldcrypt.grant_access('floh_workflow', '{decrypt}', 'floh', 'user.birth_date');
    SELECT fieldcrypt.grant_access('floh_workflow', '{decrypt}', 'floh', 'user.phone_number');
"""

# Run by the superuser, who gives each to its owner.
WORKFLOWS = """
    CREATE FUNCTION is_of_age(user_id bigint, on_day date) RETURNS boolean
        LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = public, pg_temp AS $$
    DECLARE
        attributes jsonb;
    BEGIN
        SELECT fieldcrypt.reveal(custom_attributes, pii_attributes) INTO attributes
        FROM users WHERE id = user_id;
        RETURN (attributes ->> 'birth_date')::date + interval '18 years' <= on_day;
    END $$;
    ALTER FUNCTION is_of_age OWNER TO floh_workflow;

    CREATE FUNCTION users_by_phone_country() RETURNS TABLE (dialing_code text, users bigint)
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    BEGIN ATOMIC
        SELECT split_part(fieldcrypt.decrypt(phone_number), ' ', 1), count(*)
        FROM users WHERE id <= 20000 GROUP BY 1;
    END;
    ALTER FUNCTION users_by_phone_country OWNER TO floh_workflow;

    CREATE FUNCTION first_phone_number() RETURNS text
        LANGUAGE sql STABLE SECURITY DEFINER SET search_path = public, pg_temp
    BEGIN ATOMIC
        SELECT fieldcrypt.decrypt(phone_number) FROM users WHERE id = 1;
    END;
    ALTER FUNCTION first_phone_number OWNER TO floh_untrusted;

    CREATE VIEW directory AS
        SELECT id, fieldcrypt.reveal(phone_number) AS phone_number FROM users;
    ALTER VIEW directory OWNER TO floh_pii;
    GRANT SELECT ON directory TO floh_app;

    -- an application's own logging: what it sees of a row is ciphertext
    CREATE FUNCTION log_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE LOG 'user changed: %', NEW;
        IF NEW.display_name = 'unlucky' THEN
            RAISE EXCEPTION 'no such user: %', NEW;
        END IF;
        RETURN NULL;
    END $$;
    CREATE TRIGGER log_change AFTER UPDATE ON users FOR EACH ROW EXECUTE FUNCTION log_change();
"""

READ = """
    SELECT fieldcrypt.reveal(phone_number), fieldcrypt.reveal(employee_id),
        fieldcrypt.reveal(custom_attributes, pii_attributes)
    FROM users WHERE id = %s
"""
WRITE = """
    UPDATE users SET phone_number = %s, employee_id = %s, custom_attributes = %s WHERE id = %s
"""
STORED = """
    SELECT phone_number::text, employee_id::text, custom_attributes, pii_attributes::text
    FROM users WHERE id = %s
"""


class User:
    """A user as the application means it."""

    def __init__(self, number, person):
        self.id = number
        self.email = f"user{number}@floh.example"
        self.name = f"{person['first_name']} {number}"
        self.phone = person["phone"]
        self.employee_id = person["employee_id"]
        self.attributes = {**plain_attributes(number), **pii_attributes(number, person)}

    @property
    def plain(self):
        """What stays in custom_attributes. A JSON null is no PII."""
        return {k: v for k, v in self.attributes.items() if k not in PII or v is None}

    @property
    def pii(self):
        return {k: v for k, v in self.attributes.items() if k in PII and v is not None}

    @property
    def row(self):
        attributes = Jsonb(self.attributes)
        return self.id, self.email, self.name, self.phone, self.employee_id, attributes

    def revealed(self, **shown):
        """The attributes as they look to who may read none of the PII but what `shown` says."""
        return {**self.attributes, **dict.fromkeys(self.pii, HIDDEN), **shown}

    def canaries(self):
        """What must not be seen; shorter texts may stand in a ciphertext by chance."""
        texts = [self.phone, self.employee_id]
        for item in self.pii.values():
            texts += item.values() if isinstance(item, dict) else [item]
        return [text for text in texts if isinstance(text, str) and len(text) >= 8]


COLUMNS = ("id", "email", "display_name", "phone_number", "employee_id", "custom_attributes")


def plain_attributes(number):
    return {
        "department": ("Finance", "Sales", "Legal", "Engineering")[number % 4],
        "location": ("Lisbon", "Porto", "Łódź", "東京", "Köln")[number % 5],
        "skills": [("sql", "rust", "python")[i] for i in range(number % 4)],
        "grade": number % 9,
        "budget": Number("1.10"),
        "remote": number % 3 == 0,
    }


def pii_attributes(number, person):
    # some users have no PII at all, and some a null in its place
    if number % 50 == 0:
        return {"iban": None} if number % 100 == 0 else {}
    return {
        "ssn": person["ssn"],
        "birth_date": person["birth_date"],
        "personal_email": person["email"],
        "home_address": {
            "street": person["street"],
            "city": person["city"],
            "geo": [Number("38.7200"), -9],
        },
        "iban": person["iban"] if number % 7 else None,
        "salary": Number(f"{number}.10"),
        "emergency.contact": {"name": person["full_name"], "phone": f"+351 9{number:08d}"},
    }


@pytest.fixture(scope="module")
def users(cluster, database, session):
    """The database of Floh with all of its users; returns these by their ids."""
    cluster.create_roles(*ROLES)
    database.execute("GRANT CREATE ON SCHEMA public TO floh_owner")
    database.execute("GRANT fieldcrypt_admin TO floh_owner, floh_migrator")
    database.execute("SELECT fieldcrypt.create_account('floh')")
    owner = session("floh_owner")
    owner.execute(SCHEMA)
    for definition in DEFINITIONS:
        define(owner, *definition)
    database.execute(GRANTS)
    database.execute(WORKFLOWS)

    everybody = [
        User(number, person) for number, person in enumerate(people(COUNT, seed=30), start=1)
    ]
    load(session("floh_app", "floh"), "users", COLUMNS, (user.row for user in everybody))
    database.execute("ANALYZE users")
    return {user.id: user for user in everybody}


def define(owner, key, is_pii, field, search, normalizer, mask):
    """Defines an attribute, as an administrator of Floh does. One that is PII gets a field."""
    owner.execute(
        "INSERT INTO attribute_definition VALUES (%s, %s, %s, %s, %s, %s)",
        [key, is_pii, field, search, normalizer, mask],
    )
    if is_pii:
        owner.execute(
            "SELECT fieldcrypt.create_field(%s, search => %s, normalizer => %s, mask => %s)",
            [field, search, normalizer, mask],
        )
        path = f'"{key}"' if "." in key else key
        owner.execute(
            "SELECT fieldcrypt.protect_path('user.attributes', %s, field => %s)", [[path], field]
        )


@pytest.fixture
def app(users, session):
    return session("floh_app", "floh")


@pytest.fixture
def pii(users, session):
    return session("floh_pii", "floh")


@pytest.fixture
def support(users, session):
    return session("floh_support", "floh")


@pytest.fixture
def new_users(app):
    """A hundred more users, for tests that change some. They are gone afterwards."""
    made = [User(1_000_000 + n, person) for n, person in enumerate(people(100, seed=31), start=1)]
    for number, user in enumerate(made):
        user.employee_id = f"N-{number:06d}"
    with app.cursor() as cursor:
        cursor.executemany(
            f"INSERT INTO users ({', '.join(COLUMNS)}) VALUES (%s, %s, %s, %s, %s, %s)",
            [user.row for user in made],
        )
    yield made
    app.execute("DELETE FROM users WHERE id > 1000000")


def read_all(pii, user):
    """All that a reader of PII sees of a user."""
    return pii.execute(
        "SELECT fieldcrypt.decrypt(phone_number), fieldcrypt.decrypt(employee_id),"
        " fieldcrypt.decrypt(custom_attributes, pii_attributes) FROM users WHERE id = %s",
        [user.id],
    ).fetchone()


def stored(database, user):
    return database.execute(STORED, [user.id]).fetchone()


# What is stored


def test_there_are_as_many_users_as_the_suite_promises(users, database):
    assert value(database, "SELECT count(*) FROM users WHERE id <= %s", [COUNT]) == 20_000


def test_pii_is_stored_as_ciphertext_and_the_rest_as_it_is(users, database):
    rows = database.execute(
        "SELECT id, phone_number::text, employee_id::text, custom_attributes, pii_attributes::text,"
        " users::text FROM users WHERE id <= %s",
        [COUNT],
    )
    for number, phone, employee_id, custom, blob, whole_row in rows:
        user = users[number]
        assert is_envelope(phone) and is_envelope(employee_id)
        assert custom == user.plain
        assert is_envelope(blob) if user.pii else blob is None
        assert [text for text in user.canaries() if text in whole_row] == []


def test_one_blob_holds_all_pii_of_a_user(users, pii):
    rows = pii.execute(
        "SELECT id, fieldcrypt.decrypt(pii_attributes) FROM users"
        " WHERE id <= %s AND pii_attributes IS NOT NULL",
        [COUNT],
    )
    assert dict(rows.fetchall()) == {user.id: user.pii for user in users.values() if user.pii}


# Who sees what


def test_with_read_pii_users_read_all_of_it_merged(users, pii):
    rows = pii.execute(
        "SELECT id, fieldcrypt.decrypt(phone_number), fieldcrypt.decrypt(employee_id),"
        " fieldcrypt.decrypt(custom_attributes, pii_attributes),"
        " fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users WHERE id <= %s",
        [COUNT],
    )
    for number, phone, employee_id, decrypted, revealed in rows:
        user = users[number]
        assert (phone, employee_id) == (user.phone, user.employee_id)
        assert decrypted == revealed == user.attributes


def test_without_read_pii_users_read_asterisks(users, app):
    rows = app.execute(
        "SELECT id, fieldcrypt.reveal(phone_number), fieldcrypt.reveal(employee_id),"
        " fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users WHERE id <= %s",
        [COUNT],
    )
    for number, phone, employee_id, revealed in rows:
        assert (phone, employee_id) == (HIDDEN, HIDDEN)
        assert revealed == users[number].revealed()
    for expression in (
        "decrypt(phone_number)",
        "decrypt(employee_id)",
        "decrypt(pii_attributes)",
        "decrypt(custom_attributes, pii_attributes)",
    ):
        with refused("42501", "user.") as caught:
            app.execute(f"SELECT fieldcrypt.{expression} FROM users WHERE id = 1")
        said = everything_said(caught.value)
        assert [text for text in users[1].canaries() if text in said] == []


def test_without_any_grant_users_read_asterisks(users, session):
    guest = session("floh_guest", "floh")
    rows = guest.execute(
        "SELECT id, fieldcrypt.reveal(pii_attributes),"
        " fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users WHERE id <= 1000"
    )
    for number, blob, merged in rows:
        user = users[number]
        assert blob == (HIDDEN if user.pii else None)
        assert merged == user.revealed()


def test_support_sees_masks(users, support):
    rows = support.execute(
        "SELECT id, fieldcrypt.reveal(phone_number), fieldcrypt.reveal(employee_id),"
        " fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users WHERE id <= 1000"
    )
    for number, phone, employee_id, revealed in rows:
        user = users[number]
        masks = {
            "ssn": mask_last4,
            "birth_date": lambda text: f"{text[:4]}-**-**",
            "personal_email": mask_email,
            "iban": mask_last4,
        }
        shown = {key: mask(user.pii[key]) for key, mask in masks.items() if key in user.pii}
        assert (phone, employee_id) == (mask_last4(user.phone), HIDDEN)
        assert revealed == user.revealed(**shown)


def test_payroll_reads_the_ssn_and_not_the_birth_date_of_one_blob(users, session):
    payroll = session("floh_payroll", "floh")
    rows = payroll.execute(
        "SELECT id, fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users WHERE id <= %s",
        [COUNT],
    )
    for number, revealed in rows:
        user = users[number]
        ssn = {"ssn": user.pii["ssn"]} if user.pii else {}
        assert revealed == user.revealed(**ssn)
    for expression in "pii_attributes", "custom_attributes, pii_attributes":
        with refused("42501"):
            payroll.execute(f"SELECT fieldcrypt.decrypt({expression}) FROM users WHERE id = 1")


def test_an_orm_reads_pii_without_any_function(users, pii):
    """It selects columns by their names; the document comes with what was gathered from it."""
    query = "SELECT id, phone_number, employee_id, custom_attributes, pii_attributes FROM users"
    with transparent(pii):
        rows = pii.execute(f"{query} WHERE id <= 1000").fetchall()
    assert len(rows) == 1000
    for number, phone, employee_id, custom, blob in rows:
        user = users[number]
        assert (phone, employee_id, custom) == (user.phone, user.employee_id, user.attributes)
        assert blob == (user.pii or None)


def test_every_read_of_pii_says_who_read_whom_and_why(users, database, pii, app):
    user = next(user for user in users.values() if "ssn" in user.pii and user.phone)
    actor = (f"u-{secrets.token_hex(4)}", "Ann Meyer", "203.0.113.7", "user.view")
    one = """
        SELECT fieldcrypt.reveal(phone_number, 'user:' || id),
            fieldcrypt.reveal(custom_attributes, pii_attributes, 'user:' || id)
        FROM users WHERE id = %s
    """
    for connection, outcome in (pii, "plain"), (app, "hidden"):
        with connection.transaction(force_rollback=True):
            connection.execute("SELECT fieldcrypt.set_actor(%s, %s, %s, %s)", actor)
            connection.execute(one, [user.id])
        events = audited(
            database,
            "action, outcome, field, count, entities, actor_id, actor_name, actor_address,"
            " actor_action, account, session_role",
            "actor_id = %s AND session_role = %s",
            [actor[0], connection.info.user],
        )
        fields = {"user.phone_number"} | {FIELDS[key] for key in user.pii}
        assert {event[2] for event in events} == fields
        expected = ([f"user:{user.id}"], *actor, "floh", connection.info.user)
        for event in events:
            assert (event[:2], event[4:]) == (("reveal", outcome), expected)
        assert sum(event[3] for event in events) == 1 + len(user.pii)
    everything = str(audited(database, "audit", "true"))
    assert [text for text in user.canaries() if text in everything] == []


def test_the_audit_is_whole(users, database, pii):
    before = database.execute("SELECT fieldcrypt.audit_head()").fetchone()[0]
    assert column(pii, "SELECT fieldcrypt.decrypt(phone_number) FROM users WHERE id = 1")
    rows = database.execute("SELECT ok, finding FROM fieldcrypt.verify_audit(%s)", [before])
    assert rows.fetchall() == [(True, "the audit is whole")]


def test_a_permission_that_is_taken_away_ends_at_once(users, database, session):
    """Also for a session that has read before, by a statement that is prepared."""
    guest = session("floh_guest", "floh")
    query = "SELECT fieldcrypt.reveal(phone_number) FROM users WHERE id = 1"
    arguments = "'floh_guest', '{decrypt}', 'floh', 'user.phone_number'"
    assert guest.execute(query, prepare=True).fetchone() == (HIDDEN,)
    database.execute(f"SELECT fieldcrypt.grant_access({arguments})")
    assert guest.execute(query, prepare=True).fetchone() == (users[1].phone,)
    database.execute(f"SELECT fieldcrypt.revoke_access({arguments})")
    assert guest.execute(query, prepare=True).fetchone() == (HIDDEN,)


# Queries


def test_other_attributes_stay_queryable_by_their_index(users, app):
    query = "SELECT id FROM users WHERE custom_attributes @> %s AND id <= 20000"
    for wanted in (
        {"department": "Finance", "location": "Łódź"},
        {"grade": 6, "remote": True, "department": "Sales"},
        {"skills": ["python"], "location": "東京"},
    ):
        found = column(app, query, [Jsonb(wanted)])
        assert set(found) == {user.id for user in users.values() if contains(user.plain, wanted)}
        assert found
        assert "users_custom_attributes" in plan(app, query, [Jsonb(wanted)])
    condition = "custom_attributes @> %s"
    assert column(app, f"SELECT id FROM users WHERE {condition}", [Jsonb({"grade": 99})]) == []


def contains(attributes, wanted):
    return all(
        set(item) <= set(attributes[key]) if isinstance(item, list) else attributes[key] == item
        for key, item in wanted.items()
    )


def test_pii_is_not_found_among_the_other_attributes(users, app):
    user = users[1]
    for key, item in user.pii.items():
        query = "SELECT count(*) FROM users WHERE custom_attributes @> %s"
        assert value(app, query, [Jsonb({key: item})]) == 0


def test_typed_columns_are_found_by_their_index(users, app):
    for user in list(users.values())[::1000]:
        for name, typed in ("employee_id", user.employee_id.lower()), ("phone_number", user.phone):
            query = f"SELECT id FROM users WHERE {name} = %s"
            assert column(app, query, [typed]) == [user.id]
            assert f"users_{name}" in plan(app, query, [typed])


def test_pii_in_the_blob_is_found_by_its_index(users, app):
    query = "SELECT id FROM users WHERE fieldcrypt.matches(pii_attributes, %s, %s)"
    for user in list(users.values())[1::1000]:
        for field, key in ("user.ssn", "ssn"), ("user.personal_email", "personal_email"):
            typed = user.pii[key].replace("-", " ") if key == "ssn" else user.pii[key].upper()
            assert column(app, query, [field, typed]) == [user.id]
    assert "users_pii_tokens" in plan(app, query, ["user.ssn", "987-65-4321"])
    with refused("0A000", "user.birth_date"):
        app.execute(query, ["user.birth_date", "1984-01-01"])


def test_who_may_not_search_finds_nothing_out(users, session):
    guest = session("floh_guest", "floh")
    for condition, canary in (
        ("fieldcrypt.matches(pii_attributes, 'user.ssn', %s)", users[1].pii["ssn"]),
        ("phone_number = %s", users[1].phone),
    ):
        with refused("42501", "user.") as caught:
            guest.execute(f"SELECT id FROM users WHERE {condition}", [canary])
        assert canary not in everything_said(caught.value)


# Trusted workflows


def test_a_trusted_workflow_reads_in_memory_and_returns_its_result(users, app):
    day = date(2024, 6, 15)
    some = [user for user in list(users.values())[::50] if user.pii]
    results = app.execute(
        "SELECT id, is_of_age(id, %s) FROM users WHERE id = ANY (%s)",
        [day, [user.id for user in some]],
    )
    expected = {user.id: is_of_age(user.pii["birth_date"], day) for user in some}
    assert set(expected.values()) == {True, False}
    assert dict(results.fetchall()) == expected


def is_of_age(birth_date, day):
    year, month, day_of_birth = map(int, birth_date.split("-"))
    return (year + 18, month, day_of_birth) <= (day.year, day.month, day.day)


def test_a_trusted_workflow_summarises_all_users(users, app):
    expected = {}
    for user in users.values():
        code = user.phone.split(" ")[0]
        expected[code] = expected.get(code, 0) + 1
    assert dict(app.execute("SELECT * FROM users_by_phone_country()").fetchall()) == expected


def test_a_workflow_lends_the_grants_of_its_owner_and_of_nobody_else(users, app, pii):
    """One whose owner has no grant reads nothing, whoever calls it; nor does a view lend grants."""
    for caller in app, pii:
        with refused("42501", "user.phone_number"):
            caller.execute("SELECT first_phone_number()")
    query = "SELECT phone_number FROM directory WHERE id = 1"
    assert column(app, query) == [HIDDEN]
    assert column(pii, query) == [users[1].phone]


# Profiles that are read with masks and written back


def test_a_profile_read_without_read_pii_and_written_back_keeps_its_pii(
    new_users, app, pii, database
):
    for user in new_users:
        before = stored(database, user)
        phone, employee_id, attributes = app.execute(READ, [user.id]).fetchone()
        assert (phone, employee_id) == (HIDDEN, HIDDEN)
        attributes["department"] = "Moved"
        app.execute(WRITE, [phone, employee_id, Jsonb(attributes), user.id])
        expected = {**user.attributes, "department": "Moved"}
        assert read_all(pii, user) == (user.phone, user.employee_id, expected)
        assert stored(database, user) == (
            *before[:2],
            {**before[2], "department": "Moved"},
            before[3],
        )


def test_partial_masks_written_back_keep_the_pii(new_users, support, pii, database):
    for user in new_users:
        before = stored(database, user)
        phone, employee_id, attributes = support.execute(READ, [user.id]).fetchone()
        assert phone == mask_last4(user.phone)
        attributes["skills"] = ["sql", "go"]
        support.execute(WRITE, [phone, employee_id, Jsonb(attributes), user.id])
        expected = {**user.attributes, "skills": ["sql", "go"]}
        assert read_all(pii, user) == (user.phone, user.employee_id, expected)
        assert stored(database, user)[3] == before[3]


def test_one_attribute_is_changed_beside_masks(new_users, support, pii):
    user = new_users[0]
    _, _, attributes = support.execute(READ, [user.id]).fetchone()
    attributes["ssn"] = "912-34-5678"
    support.execute(
        "UPDATE users SET custom_attributes = %s, phone_number = %s WHERE id = %s",
        [Jsonb(attributes), "+1 (555) 000-1234", user.id],
    )
    expected = {**user.attributes, "ssn": "912-34-5678"}
    assert read_all(pii, user) == ("+1 (555) 000-1234", user.employee_id, expected)


def test_a_mask_of_somebody_else_is_refused(new_users, support, pii):
    """Masks never become values, and never move a value from one user to another."""
    user, other = new_users[:2]
    assert mask_email(user.pii["personal_email"]) != mask_email(other.pii["personal_email"])
    phone, _, attributes = support.execute(READ, [other.id]).fetchone()
    update_phone = "UPDATE users SET phone_number = %s WHERE id = %s"
    for new in phone, HIDDEN, f"+1 {HIDDEN}":
        with refused("23514", "phone_number"):
            support.execute(update_phone, [new, user.id])
    update_attribute = "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s"
    for key, new in (
        ("ssn", attributes["ssn"]),
        ("personal_email", attributes["personal_email"]),
        ("birth_date", HIDDEN),
        ("home_address", {"street": HIDDEN, "city": "Lisbon"}),
    ):
        with refused("23514", key):
            support.execute(update_attribute, [Jsonb({key: new}), user.id])
    assert read_all(pii, user) == (user.phone, user.employee_id, user.attributes)


def test_a_user_is_not_created_with_masks(new_users, app):
    phone, _, attributes = app.execute(READ, [new_users[0].id]).fetchone()
    with refused("23514"):
        app.execute(
            "INSERT INTO users (id, email, display_name, custom_attributes)"
            " VALUES (1000999, 'copy@floh.example', 'Copy', %s)",
            [Jsonb(attributes)],
        )


# The blob


def test_an_absent_key_keeps_its_value(new_users, app, pii, database):
    user = new_users[0]
    before = stored(database, user)
    app.execute(
        "UPDATE users SET custom_attributes = %s WHERE id = %s",
        [Jsonb({"department": "Legal"}), user.id],
    )
    assert read_all(pii, user)[2] == {"department": "Legal", **user.pii}
    assert stored(database, user)[3] == before[3]
    app.execute("UPDATE users SET status = 'locked' WHERE id = %s", [user.id])
    assert read_all(pii, user)[2] == {"department": "Legal", **user.pii}


def test_a_json_null_removes_a_value(new_users, app, pii, database):
    user = new_users[0]
    removed = {"ssn": None, "home_address": None}
    app.execute(
        "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s",
        [Jsonb(removed), user.id],
    )
    assert read_all(pii, user)[2] == {**user.attributes, **removed}
    assert stored(database, user)[2] == {**user.plain, **removed}
    query = "SELECT id FROM users WHERE fieldcrypt.matches(pii_attributes, 'user.ssn', %s)"
    assert column(app, query, [user.pii["ssn"]]) == []


def test_setting_the_blob_to_null_erases_all_pii(new_users, app, pii, database):
    user = new_users[0]
    app.execute("UPDATE users SET pii_attributes = NULL WHERE id = %s", [user.id])
    assert read_all(pii, user)[2] == user.plain
    assert stored(database, user)[2:] == (user.plain, None)
    app.execute("UPDATE users SET status = 'locked' WHERE id = %s", [user.id])
    assert read_all(pii, user)[2] == user.plain
    # and new PII may come later
    app.execute(
        "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s",
        [Jsonb({"ssn": "900-00-0001"}), user.id],
    )
    assert read_all(pii, user)[2] == {**user.plain, "ssn": "900-00-0001"}


def test_a_value_of_another_type_comes_back_as_it_was_written(new_users, app, pii):
    user = new_users[0]
    for salary in Number("1.10"), 10**39 + 7, "on request", True, [1, Number("2.0")], {}, "":
        app.execute(
            "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s",
            [Jsonb({"salary": salary}), user.id],
        )
        found = read_all(pii, user)[2]["salary"]
        assert dumps(found) == dumps(salary)


def test_nobody_writes_into_the_blob_itself(new_users, app, pii, database):
    user, other = new_users[:2]
    copied = stored(database, other)[3]
    for role in app, pii:
        for statement in (
            "UPDATE users SET pii_attributes = %(blob)s WHERE id = %(id)s",
            "INSERT INTO users (id, email, display_name, pii_attributes)"
            " VALUES (1000999, 'new@floh.example', 'New', %(blob)s)",
        ):
            with refused("23514", 'blob column of document "user.attributes"'):
                role.execute(statement, {"blob": '{"ssn": "900-00-0002"}', "id": user.id})
            with refused("42501"):
                role.execute(statement, {"blob": copied, "id": user.id})
    with refused("23514"):
        app.execute(
            "UPDATE users SET pii_attributes = (SELECT pii_attributes FROM users WHERE id = %s)"
            " WHERE id = %s",
            [other.id, user.id],
        )
    assert read_all(pii, user)[2] == user.attributes


def test_a_directory_sync_upserts_users(new_users, app, pii):
    """What INSERT … ON CONFLICT proposes has been encrypted, and is taken over as it is."""
    user = new_users[0]
    person = people(3, seed=32)[2]
    new = {**plain_attributes(3), **pii_attributes(3, person)}
    upsert = (
        "INSERT INTO users (id, email, display_name, phone_number, custom_attributes)"
        " VALUES (%s, %s, 'Synced', %s, %s)"
        " ON CONFLICT (id) DO UPDATE SET phone_number = EXCLUDED.phone_number,"
        " custom_attributes = EXCLUDED.custom_attributes"
    )
    values = [user.id, user.email, person["phone"], Jsonb(new)]
    # the PII of a proposed row is in its blob, and is not dropped silently
    with refused("23514", 'blob column of document "user.attributes"'):
        app.execute(upsert, values)
    assert read_all(pii, user) == (user.phone, user.employee_id, user.attributes)
    app.execute(f"{upsert}, pii_attributes = EXCLUDED.pii_attributes", values)
    assert read_all(pii, user) == (person["phone"], user.employee_id, new)


def test_an_attribute_becomes_pii(new_users, app, pii, session, database):
    """From then on: it is gathered when a user is written, and stays where it was until then."""
    user, untouched = new_users[:2]
    add = "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s"
    for each in user, untouched:
        app.execute(add, [Jsonb({"nickname": f"Nick {each.id}"}), each.id])
    assert stored(database, user)[2]["nickname"] == f"Nick {user.id}"
    define(session("floh_owner"), "nickname", True, "user.nickname", "{}", "none", "none")
    app.execute("UPDATE users SET status = 'locked' WHERE id = %s", [user.id])
    assert "nickname" not in stored(database, user)[2]
    assert stored(database, untouched)[2]["nickname"] == f"Nick {untouched.id}"
    assert read_all(pii, user)[2] == {**user.attributes, "nickname": f"Nick {user.id}"}
    _, _, masked = app.execute(READ, [user.id]).fetchone()
    assert masked == {**user.revealed(), "nickname": HIDDEN}


def test_an_attribute_is_no_longer_pii(new_users, app, pii, session, database):
    """New values are plain and queryable; what was gathered before stays readable."""
    owner = session("floh_owner")
    define(owner, "shirt_size", True, "user.shirt_size", "{}", "none", "none")
    user, untouched = new_users[:2]
    add = "UPDATE users SET custom_attributes = custom_attributes || %s WHERE id = %s"
    for each in user, untouched:
        app.execute(add, [Jsonb({"shirt_size": "M"}), each.id])
        assert "shirt_size" not in stored(database, each)[2]
    owner.execute("SELECT fieldcrypt.unprotect_path('user.attributes', '{shirt_size}')")
    app.execute(add, [Jsonb({"shirt_size": "L"}), user.id])
    assert stored(database, user)[2] == {**user.plain, "shirt_size": "L"}
    query = "SELECT id FROM users WHERE custom_attributes @> %s"
    assert column(app, query, [Jsonb({"shirt_size": "L"})]) == [user.id]
    app.execute("UPDATE users SET status = 'locked' WHERE id = %s", [untouched.id])
    for each, size in (user, "L"), (untouched, "M"):
        assert read_all(pii, each)[2] == {**each.attributes, "shirt_size": size}


# What Floh encrypted before, in the form iv:authTag:ciphertext

FORMAT = "gcm-iv-tag-ciphertext-hex"
ADOPT = f"""
    UPDATE users AS u SET
        phone_number = fieldcrypt.adopt(
            l.phone_number, '{FORMAT}', 'floh', 'user.phone_number', u.tenant_id, %(previous)s),
        employee_id = fieldcrypt.adopt(
            l.employee_id, '{FORMAT}', 'floh', 'user.employee_id', u.tenant_id, %(previous)s),
        custom_attributes = u.custom_attributes || fieldcrypt.adopt_document(
            l.pii_attributes, '{FORMAT}', 'floh', 'user.attributes', u.tenant_id, %(previous)s)
    FROM legacy AS l WHERE l.id = u.id
"""


def before(key, text):
    """A text as Floh stored it, under one of its keys."""
    key = bytes.fromhex(ADOPTION_KEYS[key][0])
    iv = secrets.token_bytes(12)
    sealed = AESGCM(key).encrypt(iv, text.encode(), None)
    return ":".join(part.hex() for part in (iv, sealed[-16:], sealed[:-16]))


@pytest.fixture
def legacy(users, app, database):
    """Users that are here without their PII, which stands in another table as Floh stored it: of
    one in three under the previous key."""
    made = [User(3_000_000 + n, person) for n, person in enumerate(people(120, seed=34), start=1)]
    keys = {user.id: "floh_previous" if user.id % 3 == 0 else "floh" for user in made}
    with app.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO users (id, email, display_name, custom_attributes)"
            " VALUES (%s, %s, %s, %s)",
            [(user.id, user.email, user.name, Jsonb(user.plain)) for user in made],
        )
    database.execute("""
        CREATE TABLE legacy (id bigint, phone_number text, employee_id text, pii_attributes text);
        GRANT SELECT ON legacy TO floh_migrator;
    """)
    for number, user in enumerate(made):
        user.employee_id = f"L-{number:06d}"
    rows = [
        (
            user.id,
            *(
                before(keys[user.id], text)
                for text in (user.phone, user.employee_id, dumps(user.pii))
            ),
        )
        for user in made
    ]
    load(database.conn, "legacy", ("id", "phone_number", "employee_id", "pii_attributes"), rows)
    yield made
    app.execute("DELETE FROM users WHERE id > 3000000")
    database.execute("DROP TABLE legacy")


def test_what_floh_encrypted_before_is_adopted(legacy, session, pii, app, database):
    migrator = session("floh_migrator")
    check = (
        f"SELECT * FROM fieldcrypt.adopt_check_column('legacy', %s, '{FORMAT}', 'floh',"
        " previous_keys => %s)"
    )
    for name in "phone_number", "employee_id", "pii_attributes":
        counts = migrator.execute(check, [name, ["floh_previous"]]).fetchall()
        assert counts == [("opens with floh", 80), ("opens with floh_previous", 40)]
        counts = migrator.execute(check, [name, []]).fetchall()
        assert counts == [("fails: wrong key, or altered", 40), ("opens with floh", 80)]

    # with the current key alone the statement fails, and has done nothing
    with refused("XX001", "decryption failed"):
        migrator.execute(ADOPT, {"previous": []})
    assert value(app, "SELECT count(phone_number) FROM users WHERE id > 3000000") == 0
    assert migrator.execute(ADOPT, {"previous": ["floh_previous"]}).rowcount == len(legacy)

    for user in legacy:
        assert read_all(pii, user) == (user.phone, user.employee_id, user.attributes | user.pii)
        columns = stored(database, user)
        text = str(columns)
        assert [canary for canary in user.canaries() if canary in text] == []
        assert columns[2] == user.plain
        found = "SELECT id FROM users WHERE employee_id = %s AND phone_number = %s"
        assert column(app, found, [user.employee_id, user.phone]) == [user.id]
    # who adopts reads nothing
    with refused("42501", "permission denied to decrypt"):
        migrator.execute("SELECT fieldcrypt.decrypt(phone_number) FROM users WHERE id > 3000000")
    events = audited(
        database,
        "outcome, count, detail",
        "action = 'adopt' AND field = 'user.phone_number' AND acting_role = 'floh_migrator'",
    )
    detail = f'format {FORMAT}, key "{{}}"'
    done = {(o, n, d) for o, n, d in events if o == "done" and n >= 40}
    assert done == {
        ("done", 80, detail.format("floh")),
        ("done", 40, detail.format("floh_previous")),
    }


def test_who_may_read_pii_may_not_adopt(legacy, pii):
    with refused("42501"):
        pii.execute(ADOPT, {"previous": ["floh_previous"]})


# The server's log


def test_pii_sent_as_parameters_is_in_no_log(new_users, cluster, database):
    """Statements that fail and statements that do not, with all that can be logged of them but the
    parameters' values, as the documentation says."""
    settings = {
        "log_statement": "all",
        "log_min_duration_statement": "0",
        "log_duration": "on",
        "log_error_verbosity": "verbose",
        "log_min_messages": "debug1",
        "log_parameter_max_length": "0",
    }
    for role in "floh_app", "floh_pii", "floh_guest":
        for name, setting in settings.items():
            database.execute(
                f"ALTER ROLE {role} IN DATABASE {database.name} SET {name} = '{setting}'"
            )
    marker = secrets.token_hex(8)
    before = len(cluster.log())
    try:
        failed, canaries = write_and_fail(database, new_users, marker)
    finally:
        for role in "floh_app", "floh_pii", "floh_guest":
            database.execute(f"ALTER ROLE {role} IN DATABASE {database.name} RESET ALL")
    log = cluster.log()[before:]
    assert log.count("ERROR:  ") >= failed >= 15
    # the statements are in the log, without their comments and literals
    assert log.count("Statement without its values: ") >= failed
    assert log.count("INSERT INTO users") > 0 and marker not in log
    assert "user changed: " in log
    assert "Failing row contains" in log
    assert [canary for canary in canaries if canary in log] == []


def write_and_fail(database, new_users, marker):
    """Sends PII in statements of which some fail; returns how many did, and the PII."""
    person = {
        "id": 1_000_500,
        "other_id": 1_000_501,
        "email": "canary@floh.example",
        "phone": f"+1 555 {secrets.randbelow(10**12):012d}",
        "employee_id": f"canary-{secrets.token_hex(6)}",
        "other_employee_id": f"canary-{secrets.token_hex(6)}",
        "ssn": f"canary-{secrets.randbelow(10**12):012d}",
        "city": f"canary-{secrets.token_hex(6)}",
    }
    attributes = {"ssn": person["ssn"], "home_address": {"city": person["city"]}}
    person["attributes"] = Jsonb({"department": "Legal", **attributes})
    person["masked"] = Jsonb({"ssn": f"{HIDDEN} {person['ssn']}"})
    person["bare"] = dumps(attributes)
    person["broken"] = dumps(attributes)[:-1]
    person["taken"] = new_users[0].id
    secret = ("phone", "employee_id", "other_employee_id", "ssn", "city")
    canaries = [person[key] for key in secret]

    insert = (
        "INSERT INTO users (id, email, display_name, phone_number, employee_id, custom_attributes"
    )
    values = "(%(id)s, %(email)s, 'Canary', %(phone)s, %(employee_id)s, %(attributes)s"
    other_values = (
        "(%(other_id)s, 'other' || %(email)s::text, 'Other', %(phone)s, %(other_employee_id)s,"
        " %(attributes)s"
    )
    succeeding = {
        "floh_app": [
            f"{insert}) VALUES {values})",
            "SELECT id FROM users WHERE phone_number = %(phone)s OR employee_id = %(employee_id)s",
            "SELECT id FROM users WHERE fieldcrypt.matches(pii_attributes, 'user.ssn', %(ssn)s)",
            "SELECT fieldcrypt.reveal(custom_attributes, pii_attributes) FROM users"
            " WHERE id = %(id)s",
            "UPDATE users SET phone_number = %(phone)s, custom_attributes = %(attributes)s"
            " WHERE id = %(id)s",
        ],
        "floh_pii": [
            "SELECT fieldcrypt.decrypt(custom_attributes, pii_attributes),"
            " fieldcrypt.decrypt(phone_number) FROM users WHERE id = %(id)s",
        ],
    }
    failing = {
        "floh_app": [
            ("23502", f"{insert}, status) VALUES {other_values}, NULL)"),
            ("23514", f"{insert}, status) VALUES {other_values}, 'gone')"),
            ("23505", f"{insert}) VALUES {values})"),
            ("23503", f"{insert}, manager_id) VALUES {other_values}, -1)"),
            ("22012", f"{insert}, manager_id) VALUES {other_values}, 1 / (%(taken)s - %(taken)s))"),
            (
                "23505",
                "UPDATE users SET employee_id = %(employee_id)s, custom_attributes ="
                " %(attributes)s WHERE id = %(taken)s",
            ),
            (
                "P0001",
                "UPDATE users SET display_name = 'unlucky', phone_number = %(phone)s,"
                " custom_attributes = %(attributes)s WHERE id = %(taken)s",
            ),
            (
                "23514",
                "UPDATE users SET custom_attributes = custom_attributes || %(masked)s"
                " WHERE id = %(taken)s",
            ),
            (
                "23514",
                "UPDATE users SET phone_number = '******** ' || %(phone)s::text"
                " WHERE id = %(taken)s",
            ),
            ("23514", "UPDATE users SET pii_attributes = %(bare)s WHERE id = %(taken)s"),
            ("22P02", "UPDATE users SET pii_attributes = %(broken)s WHERE id = %(taken)s"),
            ("42501", "UPDATE users SET phone_number = 'fc1:' || %(employee_id)s::text"),
            ("42501", "SELECT fieldcrypt.decrypt(phone_number) FROM users WHERE id = %(id)s"),
        ],
        "floh_pii": [
            (
                "22012",
                "SELECT 1 / length(fieldcrypt.decrypt(custom_attributes, pii_attributes) ->> 'x')"
                ", 1 / (%(taken)s - %(taken)s), fieldcrypt.decrypt(phone_number)"
                " FROM users WHERE id = %(id)s",
            ),
            (
                "0A000",
                "SELECT id FROM users"
                " WHERE fieldcrypt.matches(pii_attributes, 'user.birth_date', %(ssn)s)",
            ),
        ],
        "floh_guest": [
            ("42501", f"{insert}) VALUES {other_values})"),
            ("42501", "SELECT id FROM users WHERE phone_number = %(phone)s"),
            ("42501", "SELECT fieldcrypt.blind_index(%(ssn)s, 'user.ssn')"),
        ],
    }
    failed = 0
    for role in failing:
        with database.connect(role, options="-c fieldcrypt.account=floh") as connection:
            for statement in succeeding.get(role, []):
                cursor = connection.execute(f"/* {marker} */ {statement}", person)
                assert cursor.rowcount == 1, statement
            for sqlstate, statement in failing[role]:
                with refused(sqlstate) as caught:
                    connection.execute(f"/* {marker} */ {statement}", person)
                said = everything_said(caught.value)
                assert [canary for canary in canaries if canary in said] == [], statement
                failed += 1
    return failed, canaries
