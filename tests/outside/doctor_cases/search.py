"""What is searched, and how."""

from .case import GRANT, case, grant, revoke


def searched(well, name, kind, options, values, grants="encrypt,search,decrypt"):
    """A protected table with a column of a new field, filled by the role `mover`."""
    well.execute(f"""
        SELECT fieldcrypt.create_field('{name}.v', {options});
        {GRANT.format("mover", grants, "acme", name + ".*")};
        CREATE TABLE {name} (
            id int, account_id text NOT NULL, v fieldcrypt.encrypted_{kind}('{name}.v'));
        SELECT fieldcrypt.protect_table('{name}', account_column => 'account_id');
        GRANT ALL ON {name} TO mover""")
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(
            f"INSERT INTO {name} SELECT i, 'acme', {values} FROM generate_series(1, 2) AS i"
        )


def moved(name, kind, suffix, options, dropped=""):
    """The statements that move the column to another field."""
    new = f"{name}.v{suffix}"
    return (
        f"SELECT fieldcrypt.create_field('{new}', {options}); {dropped}ALTER TABLE public.{name}"
        f" ALTER COLUMN v TYPE fieldcrypt.encrypted_{kind}('{new}') USING"
        f" fieldcrypt.encrypt(fieldcrypt.decrypt(v), '{new}', account_id::text);"
    )


UNSEARCHED = (
    "search => '{{}}', normalizer => 'none', mask => '{mask}', hidden => 'mask', padding =>"
    " '{padding}', suite => 'xaes-256-gcm'"
)


@case("warning", "is a boolean that is searched: who knows one value knows all")
def searched_boolean(well):
    searched(well, "consent", "boolean", "search => '{exact}', small_domain => true", "i = 1")
    well.execute("CREATE INDEX ON consent USING hash (v)")
    yield (
        "column v of public.consent (field consent.v)",
        moved(
            "consent",
            "boolean",
            "_unsearched",
            UNSEARCHED.format(mask="none", padding="none"),
            "DROP INDEX public.consent_v_idx; ",
        ),
        lambda remedy: well.as_mover(remedy, "consent"),
    )
    with well.connect("mover") as mover:
        query = "SELECT fieldcrypt.decrypt(v) FROM consent ORDER BY id"
        assert mover.execute(query).fetchall() == [(True,), (False,)]


@case(
    "notice",
    "has few possible values (small_domain), and is searched: tokens tell which rows are alike",
)
def searched_small_domain(well):
    options = "search => '{exact}', small_domain => true, mask => 'last4', padding => '32'"
    searched(well, "member", "text", options, "'m'")
    well.execute("ALTER TABLE member ADD UNIQUE (id, v)")
    yield (
        "column v of public.member (field member.v)",
        moved(
            "member",
            "text",
            "_unsearched",
            UNSEARCHED.format(mask="last4", padding="32"),
            "ALTER TABLE public.member DROP CONSTRAINT member_id_v_key; ",
        ),
        lambda remedy: well.as_mover(remedy, "member"),
    )


@case("notice", "has few different values, and is searched: tokens tell which rows are alike")
def searched_few_values(well):
    searched(well, "person", "text", "search => '{exact}'", "'m'")
    few_values(well)
    yield (
        "column v of public.person (field person.v)",
        moved(
            "person",
            "text",
            "_unsearched",
            UNSEARCHED.format(mask="none", padding="none"),
            "DROP INDEX public.person_v_idx; ",
        ),
        lambda remedy: well.as_mover(remedy, "person"),
    )


def few_values(well):
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(
            "INSERT INTO person SELECT i, 'acme', (ARRAY['m', 'f', 'x'])[i % 3 + 1]"
            " FROM generate_series(1, 1500) AS i"
        )
    well.execute("CREATE INDEX ON person USING hash (v); ANALYZE person")


@case(
    "warning",
    "has few different values: search amounts to decrypt",
    beside=["has few different values, and is searched"],
)
def search_that_amounts_to_decrypt(well):
    searched(well, "person", "text", "search => '{exact}'", "'m'")
    few_values(well)
    well.role("analyst", "LOGIN")
    grant(well, "analyst", "search,mask", "*", "person.*")
    yield (
        "grant to analyst of field person.* of account *, column v of public.person (field"
        " person.v)",
        revoke("analyst", "search", "*", "person.*"),
    )


@case("notice", "has tokens across accounts (scope): they tell which accounts have the same value")
def tokens_across_accounts(well):
    options = "search => '{exact}', scope => 'database', normalizer => 'email'"
    searched(well, "login", "text", options, "'x@example.com'")
    yield (
        "column v of public.login (field login.v)",
        moved(
            "login",
            "text",
            "_of_account",
            "search => '{exact}', normalizer => 'email', mask => 'none', hidden => 'mask', padding"
            " => 'none', suite => 'xaes-256-gcm'",
        ),
        lambda remedy: well.as_mover(remedy, "login"),
    )


@case("notice", "is searched, but has no index: each search reads all rows")
def search_without_an_index(well):
    searched(well, "person", "text", "search => '{exact}'", "i::text")
    with well.connect("mover", options="-c fieldcrypt.account=acme") as mover:
        mover.execute(
            "INSERT INTO person SELECT i, 'acme', i::text FROM generate_series(3, 10000) AS i"
        )
    well.execute("CREATE INDEX ON person (id, v); ANALYZE person")
    yield (
        "column v of public.person (field person.v)",
        "CREATE INDEX ON public.person USING hash (v);",
    )


@case("notice", "has searched paths, but no index on tokens: each search reads all rows")
def document_without_an_index(well):
    well.execute("""
        CREATE TABLE visit (id int, account_id text, data jsonb);
        SELECT fieldcrypt.protect_jsonb('visit', 'data', name => 'visit.data',
            account_column => 'account_id');
        SELECT fieldcrypt.protect_path('visit.data', '{email}', field => 'lead.email');
        INSERT INTO visit SELECT i, 'acme', '{}' FROM generate_series(1, 10000) AS i;
        ANALYZE visit""")
    yield (
        "column data of public.visit",
        "CREATE INDEX ON public.visit USING gin (fieldcrypt.tokens(data));",
    )
    well.execute("DROP TABLE visit; SELECT fieldcrypt.unprotect_path('visit.data', '{email}')")


def long_values(well, search):
    searched(well, "person", "text", f"search => '{{{search}}}'", "repeat(i::text, 1000)")


LONG = "is a btree over long values (N bytes on average): those over 2,600 bytes are refused"


@case("warning", LONG)
def btree_over_long_values(well):
    long_values(well, "exact")
    well.execute("CREATE INDEX long ON person (v); ANALYZE person")
    yield (
        "index public.long",
        "CREATE INDEX ON public.person USING hash (v); DROP INDEX public.long;",
    )


@case("warning", LONG)
def unique_constraint_over_long_values(well):
    long_values(well, "unique")
    well.execute("ALTER TABLE person ADD CONSTRAINT long UNIQUE (v); ANALYZE person")
    yield (
        "index public.long",
        "CREATE UNIQUE INDEX ON public.person (fieldcrypt.token(v)); ALTER TABLE public.person DROP"
        " CONSTRAINT long;",
    )
