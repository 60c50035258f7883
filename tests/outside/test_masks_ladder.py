"""The ladder of what a role sees of a value: ciphertext, ********, its mask, the plain value.

Each rung is checked for every set of privileges, hidden form, mask, type and state of the account.
"""

from itertools import combinations, product

import pytest
from expect import refused
from harness import account_database

pytestmark = pytest.mark.every_version

PRIVILEGES = ("encrypt", "search", "mask", "decrypt")
# A role for each set of privileges: its name begins with ladder_ and has their first letters.
ROLES = {
    "ladder_" + "".join(name[0] for name in granted): granted
    for count in range(len(PRIVILEGES) + 1)
    for granted in combinations(PRIVILEGES, count)
}
HIDDEN_FORMS = ("mask", "ciphertext")
HIDDEN = "********"

# The plain value of each type but text, as its text.
PLAIN = {
    "jsonb": "1234567890",
    "bytea": r"\x6162636465666768",
    "bigint": "1234567890",
    "numeric": "1234567890.50",
    "date": "1990-12-31",
    "timestamptz": "1990-12-31 23:59:59+00",
    "boolean": "true",
    "uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11",
}
# For each mask a text, what is shown of it, and what is shown of the types above; where nothing is
# said of one, NULL.
MASKS = {
    "none": ("Ann", HIDDEN, {"jsonb": f'"{HIDDEN}"'}),
    "first(3)": ("Berlin", "Ber****", {"jsonb": '"123****"'}),
    "last(4)": ("123-45-6789", "****6789", {"jsonb": '"****7890"'}),
    "last4": ("123-45-6789", "****6789", {"jsonb": '"****7890"'}),
    "first_last(4, 2)": ("DE89370400440532013000", "DE89****00", {"jsonb": f'"{HIDDEN}"'}),
    "first_last": ("Ann Smith", "A****h", {"jsonb": '"1****0"'}),
    'partial(0, "***-**-", 4)': ("123456789", "***-**-6789", {"jsonb": '"***-**-7890"'}),
    'partial(0, "***", 0)': ("Ann", "***", {"jsonb": '"***"'}),
    "digits(4)": ("+1 (415) 555 01-99", "****0199", {"jsonb": '"****7890"'}),
    "email": ("ann@example.com", "a****@example.com", {"jsonb": f'"{HIDDEN}"'}),
    "email_domain": ("ann@example.com", "****@example.com", {"jsonb": f'"{HIDDEN}"'}),
    "pan": ("4111 1111 1111 1111", "411111******1111", {"jsonb": f'"{HIDDEN}"'}),
    "year": (
        "1990-12-31",
        "1990-**-**",
        {
            "jsonb": f'"{HIDDEN}"',
            "date": "1990-01-01",
            "timestamptz": "1990-01-01 00:00:00+00",
        },
    ),
    "month": (
        "1990-12-31",
        "1990-12-**",
        {
            "jsonb": f'"{HIDDEN}"',
            "date": "1990-12-01",
            "timestamptz": "1990-12-01 00:00:00+00",
        },
    ),
    "zero": ("Ann", "0", {"jsonb": '"0"', "bigint": "0", "numeric": "0"}),
    "null": ("Ann", None, {}),
}
TABLES = {mask: f"of_mask_{number}" for number, mask in enumerate(MASKS)}
COLUMNS = list(product(HIDDEN_FORMS, ["text", *PLAIN]))


def field_of(mask, hidden):
    return f"ladder.{TABLES[mask]}.{hidden}"


def plain(mask, kind):
    return PLAIN.get(kind) or MASKS[mask][0]


def expected(privileges, mask, hidden, kind, is_open=True):
    """What `reveal()` shows as text; `...` is the value's ciphertext."""
    if is_open and "decrypt" in privileges:
        return plain(mask, kind)
    if is_open and "mask" in privileges and mask != "none":
        _, shown, of_types = MASKS[mask]
        return shown if kind == "text" else of_types.get(kind)
    if kind not in ("text", "jsonb"):
        return None
    if hidden == "ciphertext":
        return ...
    return HIDDEN if kind == "text" else f'"{HIDDEN}"'


@pytest.fixture(scope="module")
def ladder(cluster):
    """A table for each mask, with a column for each hidden form and type, and a document."""
    cluster.create_roles(*ROLES, "ladder_grantee", "ladder_group")
    with account_database(cluster) as database:
        for mask, hidden in product(MASKS, HIDDEN_FORMS):
            database.execute(
                "SELECT fieldcrypt.create_field(%s, mask => %s, hidden => %s)",
                [field_of(mask, hidden), mask, hidden],
            )
        for role, granted in ROLES.items():
            if granted:
                database.execute(
                    "SELECT fieldcrypt.grant_access(%s, %s, 'acme', 'ladder.*')",
                    [role, list(granted)],
                )
        database.execute(
            "SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', 'acme', '*')"
        )
        for mask, table in TABLES.items():
            columns = ", ".join(
                f"{hidden}_{kind} fieldcrypt.encrypted_{kind}('{field_of(mask, hidden)}')"
                for hidden, kind in COLUMNS
            )
            database.execute(f"CREATE TABLE {table} ({columns}, document jsonb, account text)")
            database.execute(
                f"SELECT fieldcrypt.protect_jsonb('{table}', 'document', '{table}', 'account')"
            )
            for hidden in HIDDEN_FORMS:
                database.execute(
                    "SELECT fieldcrypt.protect_path(%s, %s, %s)",
                    [table, [hidden], field_of(mask, hidden)],
                )
            database.execute(f"SELECT fieldcrypt.create_view('{table}')")
        database.execute("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
        options = "-c fieldcrypt.account=acme -c TimeZone=UTC"
        with database.connect("app", options=options) as app:
            for mask, table in TABLES.items():
                values = [plain(mask, kind) for _, kind in COLUMNS]
                places = ", ".join(["%s"] * len(values))
                text = MASKS[mask][0]
                app.execute(
                    f"INSERT INTO {table} VALUES ({places},"
                    " jsonb_build_object('mask', %s::text, 'ciphertext', %s::text), 'acme')",
                    [*values, text, text],
                )
        yield database


@pytest.fixture(params=["active", "disabled"])
def account(request, ladder):
    """The state of the account whose values are read."""
    if request.param == "disabled":
        ladder.execute("SELECT fieldcrypt.disable_account('acme')")
    yield request.param
    if request.param == "disabled":
        ladder.execute("SELECT fieldcrypt.enable_account('acme')")


@pytest.fixture
def act_as(ladder):
    """A session that acts as the role it is called with."""
    with ladder.connect(options="-c TimeZone=UTC") as session:

        def act_as(role):
            session.execute(f"SET ROLE {role}")
            return session

        yield act_as


@pytest.mark.parametrize("mask", MASKS)
def test_each_rung_of_every_type(act_as, account, mask):
    table = TABLES[mask]
    names = [f"{hidden}_{kind}" for hidden, kind in COLUMNS]
    shown = ", ".join(f"fieldcrypt.reveal({name})::text" for name in names)
    stored = ", ".join(f"{name}::text" for name in names)
    for role, privileges in ROLES.items():
        session = act_as(role)
        row = session.execute(f"SELECT {shown} FROM {table}").fetchone()
        ciphertext = session.execute(f"SELECT {stored} FROM {table}").fetchone()
        for (hidden, kind), value, envelope in zip(COLUMNS, row, ciphertext, strict=True):
            rung = expected(privileges, mask, hidden, kind, account == "active")
            if rung is ...:
                rung = envelope if kind == "text" else f'"{envelope}"'
            assert value == rung, (role, hidden, kind)


@pytest.mark.parametrize("mask", MASKS)
def test_every_way_of_reading_shows_the_same(act_as, account, mask):
    table = TABLES[mask]
    names = [f"{hidden}_{kind}" for hidden, kind in COLUMNS]
    shown = ", ".join(f"fieldcrypt.reveal({name})" for name in names)
    arrays = ", ".join(f"fieldcrypt.reveal(ARRAY[{name}])" for name in names)
    for role, privileges in ROLES.items():
        session = act_as(role)
        row = session.execute(f"SELECT {shown} FROM {table}").fetchone()
        elements = session.execute(f"SELECT {arrays} FROM {table}").fetchone()
        assert elements == tuple([value] for value in row), role
        view = f"SELECT {', '.join(names)} FROM {table}_plain"
        assert session.execute(view).fetchone() == row, role
        session.execute("SET fieldcrypt.transparent = on")
        assert session.execute(f"SELECT {', '.join(names)} FROM {table}").fetchone() == row, role
        session.execute("RESET fieldcrypt.transparent")
        stored, document = session.execute(
            f"SELECT document, fieldcrypt.reveal(document) FROM {table}"
        ).fetchone()
        for hidden in HIDDEN_FORMS:
            rung = expected(privileges, mask, hidden, "text", account == "active")
            assert document[hidden] == (stored[hidden] if rung is ... else rung), (role, hidden)


@pytest.mark.parametrize("mask", ["none", "last4", "zero", "null"])
def test_only_decrypt_decrypts(act_as, mask):
    for (role, privileges), (hidden, kind) in product(ROLES.items(), COLUMNS):
        session = act_as(role)
        decrypt = f"SELECT fieldcrypt.decrypt({hidden}_{kind})::text FROM {TABLES[mask]}"
        if "decrypt" in privileges:
            assert session.execute(decrypt).fetchone() == (plain(mask, kind),)
        else:
            with refused("42501", "permission denied to decrypt"):
                session.execute(decrypt)


@pytest.mark.parametrize("account", ["disabled"], indirect=True)
def test_nobody_decrypts_values_of_a_disabled_account(act_as, account):
    for role, (hidden, kind) in product(ROLES, COLUMNS):
        with refused("55000", f'account "acme" is {account}'):
            act_as(role).execute(
                f"SELECT fieldcrypt.decrypt({hidden}_{kind}) FROM {TABLES['last4']}"
            )


# Whom it is granted to, for which account, and for which field.
SCOPES = list(
    product(
        ("ladder_grantee", "ladder_group"),
        ("acme", "*"),
        (field_of("last4", "mask"), "ladder.*", "*"),
    )
)


@pytest.fixture
def grantee(ladder, act_as):
    """Reads as a role that has no grant yet, and inherits those of a group."""
    ladder.execute("GRANT ladder_group TO ladder_grantee")
    read = f"SELECT fieldcrypt.reveal(mask_text) FROM {TABLES['last4']}"
    yield lambda: act_as("ladder_grantee").execute(read).fetchone()[0]
    ladder.execute("""
        REVOKE ladder_group FROM ladder_grantee;
        DELETE FROM fieldcrypt.access_grant
        WHERE role IN ('ladder_grantee'::regrole, 'ladder_group'::regrole, 'outsider'::regrole);
    """)


def test_the_strongest_grant_wins_wherever_it_is(ladder, grantee):
    grant = "SELECT fieldcrypt.grant_access(%s, %s, %s, %s)"
    revoke = "SELECT fieldcrypt.revoke_access(%s, %s, %s, %s)"
    for weak, strong in product(SCOPES, SCOPES):
        mask = (weak[0], ["mask"], *weak[1:])
        decrypt = (strong[0], ["decrypt"], *strong[1:])
        assert grantee() == HIDDEN
        ladder.execute(grant, mask)
        assert grantee() == "****6789", weak
        ladder.execute(grant, decrypt)
        assert grantee() == "123-45-6789", (weak, strong)
        ladder.execute(revoke, mask)
        assert grantee() == "123-45-6789", (weak, strong)
        ladder.execute(revoke, decrypt)


def test_grants_for_others_are_no_rung(ladder, grantee):
    for who, account, field in [
        ("ladder_grantee", "globex", "*"),
        ("ladder_grantee", "acme", field_of("last4", "ciphertext")),
        ("ladder_grantee", "acme", "lead.*"),
        ("ladder_group", "*", field_of("none", "mask")),
        ("outsider", "*", "*"),
    ]:
        ladder.execute(
            "SELECT fieldcrypt.grant_access(%s, '{mask,decrypt}', %s, %s)", [who, account, field]
        )
    assert grantee() == HIDDEN
    # a member who does not inherit has only what is granted to himself
    ladder.execute("""
        SELECT fieldcrypt.grant_access('ladder_group', '{decrypt}', 'acme', '*');
        ALTER ROLE ladder_grantee NOINHERIT;
        REVOKE ladder_group FROM ladder_grantee;
        GRANT ladder_group TO ladder_grantee;
    """)
    assert grantee() == HIDDEN
    ladder.execute("""
        ALTER ROLE ladder_grantee INHERIT;
        REVOKE ladder_group FROM ladder_grantee;
        GRANT ladder_group TO ladder_grantee;
    """)
    assert grantee() == "123-45-6789"
