"""Every function of the extension with a call of it, and what the rules say of it.

The rules, in short. Data rights (encrypt, search, mask, decrypt) are grants to the current user or
to a role whose rights he inherits; superusers are not exempt. Administrative functions ask for a
role of the extension, those that change a table for its owner, and superusers pass both. Whoever
reads an envelope may see its account, field, key and tokens, and compare it with others.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace

from audit_chain import EPOCH, RECORD, encode


@dataclass(frozen=True)
class Role:
    """A role, with the data rights and memberships that it has."""

    name: str
    rights: frozenset = frozenset()
    superuser: bool = False

    def may(self, need):
        """Whether it may do what needs that right; an empty need is everybody's."""
        if need in DATA_RIGHTS:
            return need in self.rights
        return self.superuser or not need or not self.rights.isdisjoint(need.split("|"))


DATA_RIGHTS = {"encrypt", "search", "mask", "decrypt"}
# Members of these roles may ask can() about others.
ADMINISTRATORS = "fieldcrypt_key_admin|fieldcrypt_admin|fieldcrypt_grantor|fieldcrypt_auditor"

ROLES = [
    Role("boss", superuser=True),
    Role("owner", frozenset({"owner", "manage"})),
    Role("reader", frozenset({"decrypt"})),
    Role("masked", frozenset({"mask"})),
    Role("writer", frozenset({"encrypt", "search"})),
    Role("outsider"),
    Role("administrator", frozenset(ADMINISTRATORS.split("|"))),
]
# Owns the functions with SECURITY DEFINER and the views.
LENDER = Role("lender", frozenset({"encrypt", "search", "decrypt"}))


@dataclass(frozen=True)
class Shown:
    """What reveal() shows, by right, as text; None is NULL."""

    plain: str
    masked: str | None
    hidden: str | None

    def to(self, role):
        """Whether a role sees it plain, masked or hidden, and what that is."""
        if role.may("decrypt"):
            return "plain", self.plain
        return ("masked", self.masked) if role.may("mask") else ("hidden", self.hidden)


@dataclass(frozen=True)
class Call:
    """A call of a function on the one row of the table m.sample, called s."""

    arguments: str
    # what the function asks for: a data right, a role, `owner`, alternatives, or nothing
    needs: str = ""
    # its result as text: exactly that, a pattern, or what is shown
    gives: str | None | re.Pattern | Shown = ""
    # whether it changes the catalog or a definition
    writes: bool = False
    # whether it takes a lock that a standby does not give
    locks: bool = False
    # the SQLSTATE with which it refuses everybody who may call it
    refuses: str = ""
    # whether that is said when the statement is parsed
    unparsable: bool = False
    # what the audit says of it: the field and the account, of how many values
    field: str | None = None
    account: str | None = "acme"
    values: int = 1
    # whom they are about
    entity: str = ""
    # by what name, if it is a change
    change: str = ""


@dataclass(frozen=True)
class Outcome:
    """How a cell ends: with one of some SQLSTATEs, or with a result."""

    sqlstates: frozenset = frozenset()
    result: str | None | re.Pattern = None
    # plain, masked, hidden, done, denied (42501) or refused
    kind: str = "done"

    def is_met_by(self, sqlstate, result):
        if self.sqlstates or sqlstate:
            return sqlstate in self.sqlstates
        if isinstance(self.result, re.Pattern):
            return result is not None and bool(self.result.fullmatch(result))
        return result == self.result


def outcome(call, role, context):
    """How the rules say that a call in a context ends for the role whose rights count."""
    denied, refused = set(), set()
    if not role.may(call.needs):
        denied.add("42501")
    if context == "standby" and call.locks or context in ("standby", "read-only") and call.writes:
        refused.add("25006")
    if denied or refused:
        # which of two reasons is found first does not matter
        return Outcome(frozenset(denied | refused), kind="denied" if denied else "refused")
    if call.refuses:
        return Outcome(frozenset({call.refuses}), kind="refused")
    if isinstance(call.gives, Shown):
        kind, result = call.gives.to(role)
        return Outcome(result=result, kind=kind)
    return Outcome(result=call.gives, kind="plain" if call.needs == "decrypt" else "done")


def events(call, role, context):
    """What the audit says of a call that is rolled back in the end, by the role whose rights count:
    how many values, by action, outcome, field, account and entity.

    It says nothing of what PostgreSQL itself refuses: a function that may not be called.
    """
    about = (call.field, call.account, call.entity)
    if call.needs in DATA_RIGHTS and not role.may(call.needs):
        return Counter({(call.needs, "denied", *about): 1})
    if call.needs.startswith("manage") and not role.may(call.needs):
        return Counter({("manage", "denied", *about): 1})
    if isinstance(call.gives, Shown):
        return Counter({("reveal", call.gives.to(role)[0], *about): call.values})
    if call.needs == "decrypt":
        return Counter({("decrypt", "plain", *about): call.values})
    if call.change and begins(call, role, context):
        # the first of several statements may have failed
        count = 1 if outcome(call, role, context).sqlstates else call.values
        return Counter({(call.change, "rolled back", *about): count})
    return Counter()


def begins(call, role, context):
    """Whether a change is begun, and so in the audit, even if it is refused then."""
    if call.needs == "owner":
        # PostgreSQL asks for the owner when the statement on the table runs
        return not (call.locks and context == "standby")
    return role.may(call.needs)


SEALED = re.compile(r"fc1:[\w-]+")
SEALED_ARRAY = re.compile(r"\{fc1:[\w-]+,fc1:[\w-]+\}")
NUMBER = re.compile(r"-?\d+")
TOKEN = re.compile(r"\\x[0-9a-f]{32}")
TOKENS = re.compile(r"\{-?\d+\}")
SOMETHING = re.compile(r"(?s).+")


@dataclass(frozen=True)
class Kind:
    """An encrypted type: the value of its column in m.sample, and its field."""

    name: str
    native: str
    value: str
    masked: str | None = None
    hidden: str | None = None
    mask: str = "none"
    searchable: bool = False
    options: str = ""
    # what arrays of two such values look like
    array: str = ""
    masked_array: str = "{NULL,NULL}"
    hidden_array: str = "{NULL,NULL}"
    # other types that are assigned to its columns
    sources: tuple = field(default=())

    @property
    def type(self):
        return f"encrypted_{self.name}"

    @property
    def field(self):
        return f"m.{self.name}"

    @property
    def shown(self):
        return Shown(self.value, self.masked, self.hidden)

    @property
    def shown_array(self):
        return Shown(self.array, self.masked_array, self.hidden_array)


UUID = "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"
NUMBERS = ("smallint", "integer", "bigint", "numeric", "real", "double precision")
TIMES = ("timestamp without time zone", "timestamp with time zone")

KINDS = [
    Kind(
        "text",
        "text",
        "value of text",
        masked="****text",
        hidden="********",
        mask="last4",
        searchable=True,
        array='{"value of text","value of text"}',
        masked_array="{****text,****text}",
        hidden_array="{********,********}",
        sources=(
            *("character varying", "character", "name", "boolean", *NUMBERS, "date", *TIMES),
            *("uuid", "json", "jsonb"),
        ),
    ),
    Kind("bytea", "bytea", r"\xc0ffee", mask="null", array=r'{"\\xc0ffee","\\xc0ffee"}'),
    Kind(
        "jsonb",
        "jsonb",
        '"value of json"',
        masked='"****json"',
        hidden='"********"',
        mask="last4",
        array=r'{"\"value of json\"","\"value of json\""}',
        masked_array=r'{"\"****json\"","\"****json\""}',
        hidden_array=r'{"\"********\"","\"********\""}',
        sources=("json",),
    ),
    Kind(
        "bigint",
        "bigint",
        "4711",
        masked="0",
        mask="zero",
        searchable=True,
        array="{4711,4711}",
        masked_array="{0,0}",
        sources=("smallint", "integer", "numeric"),
    ),
    Kind(
        "numeric",
        "numeric",
        "47.11",
        masked="0",
        mask="zero",
        array="{47.11,47.11}",
        masked_array="{0,0}",
        sources=("smallint", "integer", "bigint", "real", "double precision"),
    ),
    Kind(
        "date",
        "date",
        "1990-05-17",
        masked="1990-01-01",
        mask="year",
        searchable=True,
        array="{1990-05-17,1990-05-17}",
        masked_array="{1990-01-01,1990-01-01}",
        sources=TIMES,
    ),
    Kind(
        "timestamptz",
        "timestamp with time zone",
        "1990-05-17 10:00:00+00",
        masked="1990-01-01 00:00:00+00",
        mask="year",
        array='{"1990-05-17 10:00:00+00","1990-05-17 10:00:00+00"}',
        masked_array='{"1990-01-01 00:00:00+00","1990-01-01 00:00:00+00"}',
        sources=("date", "timestamp without time zone"),
    ),
    Kind(
        "boolean",
        "boolean",
        "true",
        mask="null",
        searchable=True,
        options=", small_domain => true",
        array="{t,t}",
    ),
    Kind("uuid", "uuid", UUID, mask="null", searchable=True, array=f"{{{UUID},{UUID}}}"),
]


def literal(native):
    """A value of one of the types that are assigned to encrypted columns."""
    values = {"boolean": "true", "uuid": UUID, "json": "{}", "jsonb": "{}"}
    times = dict.fromkeys(("date", *TIMES), "1990-05-17")
    return f"'{values.get(native) or times.get(native) or 1}'::{native}"


# They are PostgreSQL's to call, and nobody else's: an expression can neither make an argument of
# type internal nor show a result of type trigger.
TRIGGER = {"arguments": "", "refuses": "0A000"}
INTERNAL = {"refuses": "42883", "unparsable": True}
# It is called by CALL: what it does is tested in test_jobs.
PROCEDURE = {"refuses": "42809", "unparsable": True}


def family(kind):
    """The calls of what every encrypted type has, by signature."""
    plain = f"'{kind.value}'::{kind.native}"
    transit = f"'{kind.value}'::fieldcrypt.{kind.type}"
    value, array, handle = f"s.v_{kind.name}", f"s.a_{kind.name}", f"m.handle('{kind.field}')"
    e, n = kind.type, kind.native
    # Fields whose values cannot be searched refuse comparison with a value from outside.
    search = {"needs": "search"} if kind.searchable else {"refuses": "0A000"}
    compare = {} if kind.searchable else {"refuses": "0A000"}
    calls = {
        f"account_of({e})": Call(value, gives="acme"),
        f"field_of({e})": Call(value, gives=kind.field),
        f"key_of({e})": Call(value, gives=NUMBER),
        f"reencrypt({e})": Call(value, gives=SEALED),
        f"needs_reencryption({e})": Call(value, gives="false"),
        f"tokens({e})": Call(value, gives=TOKENS if kind.searchable else "{}"),
        f"token({e},text)": Call(f"{value}, 'account'", gives=TOKEN if kind.searchable else None),
        f"decrypt({e})": Call(value, "decrypt", kind.value),
        f"decrypt({e}[])": Call(array, "decrypt", kind.array),
        f"reveal({e})": Call(value, gives=kind.shown),
        f"reveal({e}[])": Call(array, gives=kind.shown_array),
        f"decrypt({e},text)": Call(f"{value}, 'Ann'", "decrypt", kind.value, entity="Ann"),
        f"reveal({e},text)": Call(f"{value}, 'Ann'", gives=kind.shown, entity="Ann"),
        f'decrypt({e},"any")': Call(f"{value}, 5", "decrypt", kind.value, entity="5"),
        f'reveal({e},"any")': Call(f"{value}, 5", gives=kind.shown, entity="5"),
        f"encrypt({n},text,text)": Call(f"{plain}, '{kind.field}', 'acme'", "encrypt", SEALED),
        f"{e}_in(cstring,oid,integer)": Call(f"'{kind.value}', 0, {handle}", "encrypt", SEALED),
        f"{e}_from({n},integer,boolean)": Call(f"{plain}, {handle}, false", "encrypt", SEALED),
        f"{e}_coerce({e},integer,boolean)": Call(f"{transit}, {handle}, false", "encrypt", SEALED),
        f"{e}_out({e})": Call(value, gives=SEALED),
        f"{e}_send({e})": Call(value, gives=re.compile(r"\\xfc01[0-9a-f]+")),
        f"{e}_recv(internal,oid,integer)": Call("NULL, 0, -1", **INTERNAL),
        f"probe({e},integer)": Call(f"{transit}, {handle}", gives=SEALED, **search),
        f"probe({n},integer)": Call(f"{plain}, {handle}", gives=SEALED, **search),
        f"probe({e}[],integer)": Call(
            f"ARRAY[{transit}, {transit}], {handle}", gives=SEALED_ARRAY, **search
        ),
        f"probe({n}[],integer)": Call(
            f"ARRAY[{plain}, {plain}], {handle}", gives=SEALED_ARRAY, **search
        ),
        f"encrypted_cmp({e},{e})": Call(f"{value}, {value}", gives="0"),
        f"encrypted_hash({e})": Call(value, gives=NUMBER),
        f"encrypted_hash_extended({e},bigint)": Call(f"{value}, 7", gives=NUMBER),
    }
    for comparison, equal in ("lt", False), ("le", True), ("ge", True), ("gt", False):
        calls[f"encrypted_{comparison}({e},{e})"] = Call(
            f"{value}, {value}", gives=str(equal).lower()
        )
    for comparison, equal in ("eq", "true"), ("ne", "false"):
        calls |= {
            f"encrypted_{comparison}({e},{e})": Call(f"{value}, {value}", gives=equal, **compare),
            f"encrypted_{comparison}({e},{n})": Call(f"{value}, {plain}", gives=equal, **search),
            f"encrypted_{comparison}({n},{e})": Call(f"{plain}, {value}", gives=equal, **search),
        }
    for source in kind.sources:
        calls[f"{e}_from({source},integer,boolean)"] = Call(
            f"{literal(source)}, {handle}, false", "encrypt", SEALED
        )
    return {
        signature: replace(call, field=kind.field, values=1 + ("[]" in signature))
        for signature, call in calls.items()
    }


# one of nothing
# the types besides text that adopt_…() makes values of
ADOPTED_TYPES = ("bytea", "bigint", "numeric", "date", "timestamptz", "boolean", "uuid", "jsonb")
JOB = "jsonb_populate_record(NULL::fieldcrypt.job, s.document)"
HANDLE = "m.handle('m.text')"
DOCUMENT = Shown('{"email": "value of text"}', '{"email": "****text"}', '{"email": "********"}')
ADMIN = {"needs": "fieldcrypt_admin", "writes": True}
KEY_ADMIN = {"needs": "fieldcrypt_key_admin", "writes": True}
GRANTOR = {"needs": "fieldcrypt_grantor", "writes": True}
OWNER = {"needs": "owner", "writes": True, "account": None}
MANAGER = {"needs": "manage|fieldcrypt_admin", "writes": True}
AUDITOR = {"needs": "fieldcrypt_auditor"}
TEXT = {"field": "m.text"}

# A batch of the audit with one event.
EVENTS = encode([
    dict.fromkeys(RECORD)
    | {"at": EPOCH, "action": "seen", "outcome": "done", "pid": 1, "statement_at": EPOCH, "id": 1}
])  # fmt: skip

OTHERS = {
    # what applications call
    "encrypt(integer,text,text)": Call(
        "1, 'm.bigint', 'acme'", "encrypt", SEALED, field="m.bigint"
    ),
    "encrypt(smallint,text,text)": Call(
        "1::smallint, 'm.bigint', 'acme'", "encrypt", SEALED, field="m.bigint"
    ),
    "blind_index(text,text,text)": Call(
        "'value of text', 'm.text', 'acme'", "search", TOKEN, **TEXT
    ),
    "decrypt(jsonb)": Call("s.document", "decrypt", DOCUMENT.plain, **TEXT),
    "decrypt(jsonb,text)": Call("s.document, 'email'", "decrypt", '"value of text"', **TEXT),
    "decrypt(jsonb,encrypted_jsonb)": Call("s.gathered, s.blob", "decrypt", DOCUMENT.plain, **TEXT),
    "decrypt(jsonb,encrypted_jsonb,text)": Call(
        "s.gathered, s.blob, 'Ann'", "decrypt", DOCUMENT.plain, entity="Ann", **TEXT
    ),
    "reveal(jsonb,encrypted_jsonb,text)": Call(
        "s.gathered, s.blob, 'Ann'", gives=DOCUMENT, entity="Ann", **TEXT
    ),
    "reveal(jsonb)": Call("s.document", gives=DOCUMENT, **TEXT),
    "reveal(jsonb,encrypted_jsonb)": Call("s.gathered, s.blob", gives=DOCUMENT, **TEXT),
    "decrypt(jsonb,text,text)": Call(
        "s.document, 'email', 'Ann'", "decrypt", '"value of text"', entity="Ann", **TEXT
    ),
    "reveal(jsonb,text)": Call("s.document, 'Ann'", gives=DOCUMENT, entity="Ann", **TEXT),
    "tokens(jsonb)": Call("s.document", gives=TOKENS),
    "token(jsonb,text,text)": Call("s.document, 'm.text', 'account'", gives=TOKEN),
    "search_tokens(text,text,text)": Call(
        "'m.text', 'value of text', 'acme'", "search", TOKENS, **TEXT
    ),
    "search_tokens_in_transit(text,encrypted_text,text)": Call(
        "'m.text', 'value of text'::fieldcrypt.encrypted_text, 'acme'", "search", TOKENS, **TEXT
    ),
    "matches(jsonb,text,text,text)": Call(
        "s.document, 'm.text', 'value of text', 'acme'", "search", "true", **TEXT
    ),
    "matches(encrypted_jsonb,text,text,text)": Call(
        "s.blob, 'm.text', 'value of text', 'acme'", "search", "true", **TEXT
    ),
    # administration
    "create_account(text)": Call("'new'", **KEY_ADMIN, change="create_account", account="new"),
    "disable_account(text)": Call("'acme'", **KEY_ADMIN, change="disable_account"),
    "enable_account(text)": Call("'acme'", **KEY_ADMIN, change="enable_account"),
    "rotate_account_key(text)": Call(
        "'acme'", **KEY_ADMIN, gives=NUMBER, change="rotate_account_key"
    ),
    # of one that there is not; test_index_rotation has the others
    "rotate_index_key(text,boolean)": Call(
        "'none'", **KEY_ADMIN, refuses="42704", change="rotate_index_key", account="none"
    ),
    "plan_rotate_index_key(boolean)": Call("", "fieldcrypt_key_admin", SOMETHING),
    "columns_of_tokens(boolean)": Call("true", "nobody", SOMETHING),
    "hold_tokens(boolean)": Call("true", "nobody", "", locks=True),
    "make_tokens(text,boolean)": Call("'acme', true", "nobody", "0", writes=True),
    "set_rotation(text,interval)": Call("'acme', '1 year'", **KEY_ADMIN, change="set_rotation"),
    "accounts_due()": Call("", "fieldcrypt_key_admin", None),
    "key_usage(text)": Call("'acme'", "fieldcrypt_key_admin", SOMETHING),
    "places_of_values()": Call("", "nobody", SOMETHING),
    # of keys that are another account's or in use; test_key_usage has the others
    **{
        f"{function}(text,bigint)": Call("'acme', 1", **KEY_ADMIN, refuses="22023", change=function)
        for function in ("disable_account_key", "enable_account_key")
    },
    "destroy_account_key(text,bigint,boolean)": Call(
        "'acme', 1, true", "fieldcrypt_key_admin", refuses="22023", change="destroy_account_key"
    ),
    "export_keys(text)": Call("'acme'", "fieldcrypt_key_admin", SOMETHING, change="export_keys"),
    # no event: it names no account
    "import_keys(jsonb)": Call("'{}'", "fieldcrypt_key_admin", refuses="22023"),
    "destroy_account(text,boolean)": Call(
        "'acme', true", "fieldcrypt_key_admin", refuses="55000", change="destroy_account"
    ),
    # a procedure, which test_account_keys calls
    "rotate_due()": Call("", refuses="42809", unparsable=True),
    "rotate_root()": Call("", **KEY_ADMIN, gives="0", change="rotate_root", account=None),
    "set_account_root(text,text)": Call("'acme'", **KEY_ADMIN, change="set_account_root"),
    "create_field(text,text[],text,text,text,text,text,text,text,text,boolean,boolean)": Call(
        "'m.new'", **ADMIN, change="create_field", field="m.new", account=None
    ),
    "alter_field(text,text,text,text,text,text,text[],text)": Call(
        "'m.text', label => 'Text'", **ADMIN, change="alter_field", account=None, **TEXT
    ),
    "drop_field(text)": Call(
        "'m.unused'", **ADMIN, change="drop_field", field="m.unused", account=None
    ),
    "uses_of_field(integer)": Call(HANDLE, "fieldcrypt_admin", SOMETHING),
    "keep_plain(text[])": Call("'{kept}'", **ADMIN, change="keep_plain", account=None),
    "path_ending_in(text)": Call("'email'", "fieldcrypt_admin", "email"),
    "grant_access(text,text[],text,text)": Call(
        "'lender', '{mask}', 'acme', 'm.text'", **GRANTOR, change="grant_access", **TEXT
    ),
    "revoke_access(text,text[],text,text)": Call(
        "'lender', '{search}', 'acme', 'm.*'", **GRANTOR, change="revoke_access", field="m.*"
    ),
    "ordered_privileges(text[])": Call("'{decrypt,mask}'", "nobody", "{mask,decrypt}"),
    "can(text,text,text,text)": Call(
        "'switcher', 'decrypt', 'acme', 'm.text'", ADMINISTRATORS, re.compile(r"\(t,.*\)")
    ),
    "can_reason(text,text,text,text)": Call(
        "'switcher', 'mask', 'acme', 'm.text'", ADMINISTRATORS, re.compile("no: .*")
    ),
    "protect_path(text,text[],text,text,text,text)": Call(
        "'m.document', '{phone}', 'm.text', 'acme'", **MANAGER, change="protect_path", **TEXT
    ),
    "unprotect_path(text,text[],text,text)": Call(
        "'m.document', '{age}', 'acme'", **MANAGER, change="unprotect_path", field="m.bigint"
    ),
    # adoption: besides the role it needs encrypt, which nobody here has with it
    **{
        f"{name}({stored},text,text,text,text,text[],text,bytea)": Call(
            f"NULL::{stored}, 'fernet', 'none', 'm.text', 'acme'", "fieldcrypt_admin", None
        )
        for name in ("adopt", *(f"adopt_{kind}" for kind in ADOPTED_TYPES))
        for stored in ("text", "bytea")
    },
    **{
        f"adopt_check({stored},text,text,text,text[],text,bytea)": Call(
            f"NULL::{stored}, 'fernet', 'none'", "fieldcrypt_admin", None
        )
        for stored in ("text", "bytea")
    },
    **{
        f"adopt_document({stored},text,text,text,text,text[],text,bytea,text)": Call(
            f"NULL::{stored}, 'fernet', 'none', 'm.document', 'acme'", "fieldcrypt_admin", None
        )
        for stored in ("text", "bytea")
    },
    "adopt_check(jsonb,text[],text,text,text,text[],text)": Call(
        "NULL::jsonb, '{a}', 'fernet', 'none'", "fieldcrypt_admin", None
    ),
    "adopt_check_hash(text,text,text,encrypted_text,text)": Call(
        "NULL, 'hmac-sha256-hex', 'none', s.v_text", "fieldcrypt_admin", None
    ),
    "adopt(jsonb,text[],text,text,text,text,text[],text)": Call(
        "NULL::jsonb, '{a}', 'fernet', 'none', 'm.text', 'acme'", "fieldcrypt_admin", None
    ),
    "pieces_of_template(text)": Call("'x{a}'", "fieldcrypt_admin", SOMETHING),
    "text_of_template(text)": Call("'{a}'", "fieldcrypt_admin", "a::text"),
    "plan_beside(regclass,name,text,name)": Call(
        "'m.sample', 'account_id', '{none}', NULL", "fieldcrypt_admin", SOMETHING
    ),
    "check_beside(regclass,name,text,name)": Call(
        "'m.sample', 'account_id', '{none}', NULL", "fieldcrypt_admin", refuses="55000"
    ),
    "adopt_check_column(regclass,name,text,text,text,name,text[],text,bytea,text,name)": Call(
        "'m.sample', 'account_id', 'fernet', 'none'", "fieldcrypt_admin", refuses="F0000"
    ),
    # the audit
    "set_actor(text,text,text,text)": Call("'7', 'Ann', '192.0.2.7', 'export'"),
    "flush_audit()": Call(""),
    "audit_head()": Call("", gives=re.compile(r"fca1:\d+:[0-9a-f]+"), **AUDITOR),
    "audit_state()": Call("", gives=re.compile(r"\{.*\}"), **AUDITOR),
    "audit_status()": Call("", gives=re.compile(r"\(on,.*\)"), **AUDITOR),
    "audit_findings(text)": Call("NULL", gives=re.compile(r"\[.*\]"), **AUDITOR),
    "verify_audit(text)": Call("", gives=re.compile(r"\(t,.*\)"), **AUDITOR),
    "drop_audit(timestamp with time zone)": Call(
        "'2000-01-01'",
        "fieldcrypt_key_admin",
        "0",
        locks=True,
        change="drop_audit",
        account=None,
    ),
    "drop_audit_partitions(timestamp with time zone)": Call(
        "'2000-01-01'", "nobody", None, locks=True
    ),
    "add_audit_partition()": Call("", "nobody", SOMETHING),
    "audit_events(bigint,bytea)": Call(
        "7, '\\x" + EVENTS.hex() + "'", gives=re.compile(r"\(7,.*,seen,.*\)")
    ),
    "audit_microseconds(timestamp with time zone)": Call("'epoch'", "nobody", "0"),
    # what doctor() is made of
    "doctor(integer)": Call("0", "fieldcrypt_auditor", SOMETHING),
    "findings(integer)": Call("0", "nobody", SOMETHING),
    "findings_of_contents(integer)": Call("0", "nobody", None),
    "findings_of_copies()": Call("", "nobody", None),
    "findings_of_keyring()": Call("", "nobody", None),
    "findings_of_adoption_keys()": Call("", "nobody", SOMETHING),
    "adoption_keys()": Call("", "nobody", SOMETHING),
    "findings_of_keys()": Call("", "nobody", None),
    "findings_of_protection()": Call("", "nobody", SOMETHING),
    "findings_of_roles()": Call("", "nobody", SOMETHING),
    "findings_of_search()": Call("", "nobody", SOMETHING),
    "findings_of_settings()": Call("", "nobody", SOMETHING),
    "account_columns()": Call("", "nobody", SOMETHING),
    "checks_of_contents()": Call("", "nobody", SOMETHING),
    "configured_settings()": Call("", "nobody", SOMETHING),
    "encrypted_columns()": Call("", "nobody", SOMETHING),
    "keyring_entries()": Call("", "nobody", SOMETHING),
    "root_keys()": Call(
        "",
        "fieldcrypt_key_admin|fieldcrypt_admin|fieldcrypt_auditor",
        re.compile(r"\(main,current,file,2,,\)"),
    ),
    "lockable_keys()": Call("", "nobody", NUMBER),
    "role_memberships()": Call("", "nobody", SOMETHING),
    "account_text(regclass,name)": Call("'m.held', 'account_id'", gives="account_id::text"),
    "count_as_owner(regclass,text)": Call(
        "'m.fired', 'SELECT ARRAY[count(*)] FROM m.held'", "nobody", "{0}"
    ),
    "document_constraint(text[])": Call(
        """'{m.document,document,account_id,"",""}'""", gives=SOMETHING
    ),
    "field_matches(text,text)": Call("'m.*', 'm.text'", "nobody", "true"),
    "last_key(text)": Call("'contact.email'", "nobody", "email"),
    "state_of_document(text,jsonb,text,text,boolean)": Call(
        "'m.document', s.document, 'acme', NULL, false", gives="sealed"
    ),
    "statement_to_encrypt(regclass,name,name,text)": Call(
        "'m.fired', 'result', 'statement', 'm.text'", "nobody", SOMETHING
    ),
    "statement_to_revoke(oid,text[],text,text)": Call(
        "10::oid, '{decrypt}', 'acme', 'm.*'", "nobody", SOMETHING
    ),
    "statements_to_leave(oid,oid)": Call("10::oid, 10::oid", "nobody", None),
    "statements_to_move(regclass,name,name,text,text,text[])": Call(
        "'m.held', 'v', 'account_id', 'm.text', '_2', '{}'", "nobody", SOMETHING
    ),
    "calls_decrypt(oid,oid)": Call(
        "'pg_class'::regclass, 'm.held_plain'::regclass", gives=re.compile("true|false")
    ),
    "check_expressions(regclass)": Call("'m.sample'"),
    # jobs
    # who may is asked about a job; test_jobs_account has roles of every kind
    "start_job(text,text,text,text,text,text,boolean,text)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL, true, NULL", refuses="22004"
    ),
    "step_job(text,integer,boolean)": Call(
        "NULLIF(s.account_id, s.account_id), 1, true", gives=None
    ),
    "pause_job(text)": Call("NULL", refuses="22004"),
    "cancel_job(text)": Call("NULL", refuses="22004"),
    "describe_job(text)": Call("NULLIF(s.account_id, s.account_id)", gives=None),
    "message_of_job(text)": Call("'none'", "nobody", None),
    "report_job(text,timestamp with time zone)": Call("'none', now()", gives=SOMETHING),
    "rest_after(timestamp with time zone,integer,integer,boolean)": Call("now(), 1, NULL, true"),
    "name_of_document(text,text)": Call("'a', 'b'", gives="a/b"),
    "document_of_job(text)": Call("'a/b'", "nobody", "a"),
    "rows_of_job(job,regclass)": Call(f"{JOB}, 'm.held'", "nobody", "true"),
    "plan_table(regclass)": Call("'m.sample'", "fieldcrypt_admin", SOMETHING),
    "plan_documents_to_adopt(text)": Call("'m.document'", "fieldcrypt_admin", SOMETHING),
    "plan_existing(text)": Call("'m.document'", "fieldcrypt_admin", SOMETHING),
    "plan_column(regclass,name)": Call("'m.held', 'v'", "fieldcrypt_admin", SOMETHING),
    "plan_reencrypt_existing(text)": Call("'m.document'", "fieldcrypt_admin", SOMETHING),
    "plan_reencrypt_column(regclass,name)": Call("'m.held', 'v'", "fieldcrypt_admin", SOMETHING),
    "plan_alter_field(text)": Call("'m.text'", "fieldcrypt_admin", SOMETHING),
    "jobs_of_field(text)": Call("'m.text'", "fieldcrypt_admin", SOMETHING),
    "obstacles_to_search(text,boolean)": Call("'none', true", "nobody", None),
    "places_of_field(text)": Call("'none'", "nobody", None),
    "places_left(text)": Call("'none'", "nobody", None),
    "forget_verified(text)": Call("'none'", "nobody", writes=True),
    "complete_backfill(text)": Call("'m.text'", "fieldcrypt_admin", "true"),
    "complete_backfills()": Call("", "nobody", None),
    "encrypted_type_of(oid)": Call(
        "'integer'::regtype", "fieldcrypt_admin", "fieldcrypt.encrypted_bigint"
    ),
    "name_of_column(regclass,name)": Call("'m.held', 'v'", "fieldcrypt_admin", "m.held.v"),
    "name_of_table(regclass)": Call("'m.held'", "fieldcrypt_admin", "m.held"),
    "tables_of_job(text)": Call("'none'", "nobody", None),
    "roots_of_job(text)": Call("'none'", "nobody", None),
    "older_snapshots(xid8)": Call("'2'", "nobody", None),
    "note_files(text)": Call("'none'", "nobody", None, writes=True),
    "note_remnants(text,boolean)": Call("'none', false", "nobody", writes=True),
    "note_table(regclass)": Call("'m.held'", "nobody", writes=True, locks=True),
    "note_remnants(regclass)": Call("'m.held'", "nobody", writes=True),
    "rewrite_table(regclass)": Call(
        "'m.held'", "fieldcrypt_admin", re.compile("true|false"), writes=True
    ),
    "overwrite_wal(integer)": Call("0", "fieldcrypt_admin"),
    "apply_remedy(text)": Call("'SELECT 1;'", "fieldcrypt_admin", "true"),
    "tables_of_remnant(text)": Call("'table m.held'", "nobody", "m.held"),
    "older_statements(timestamp with time zone)": Call("now()", "nobody", None),
    "clean_remnants(regclass,interval)": Call("NULL, NULL", **PROCEDURE),
    "find_remnants(regclass)": Call("NULL", "nobody", None),
    "remnants(regclass)": Call("NULL", "fieldcrypt_admin|fieldcrypt_auditor", None, writes=True),
    "owners_of_job(text)": Call("'none'", "nobody", None),
    "successor_of(name)": Call("'phone'", "nobody", "fieldcrypt_new_phone"),
    "open_job(text,text,text,text,text,text,boolean,text)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL, true, NULL", "nobody", writes=True, refuses="23502"
    ),
    "has_successor(job)": Call(JOB, "nobody", "false"),
    "reencrypts(job)": Call(JOB, "nobody", "false"),
    "rotations()": Call("", "nobody", "0"),
    "leaves_older(job)": Call(JOB, "nobody", "false"),
    "column_to_reencrypt(job,regclass)": Call(f"{JOB}, 'm.held'", "nobody", None),
    "check_job(job)": Call(JOB, "nobody"),
    "prepare_job(job)": Call(JOB, "nobody"),
    "cut_over(job)": Call(JOB, "nobody", refuses="55000"),
    "places_that_differ(job,regclass,text)": Call(
        f"{JOB}, 'm.held', 'true'", "nobody", refuses="22004"
    ),
    "job_statement(job,regclass,text,text,boolean)": Call(
        "NULL, 'm.held', 'true', NULL, true", "nobody", refuses="P0002"
    ),
    "begin_pass(text,text)": Call("'none', 'verify'", "nobody", None, writes=True),
    "advance_job(text,integer,boolean)": Call("'none', 1, true", "nobody", "false", writes=True),
    "end_job(text,text)": Call("'none', 'paused'", "nobody", writes=True, refuses="P0002"),
    "run_as_owner(regclass,text,boolean)": Call(
        "'m.held', 'SELECT 1', true", "nobody", "1", locks=True
    ),
    "differing_rows(regclass,text)": Call(
        "'m.held', 'SELECT NULL::text, NULL::text, NULL::fieldcrypt.encrypted_text, NULL::text'",
        "nobody",
        "{}",
    ),
    "set_adoption(text,text,text,text[],text,text,text,text,text,text[])": Call(
        "'none', 'fernet', 'none', '{}', NULL, NULL, NULL, 'refuse', NULL, NULL",
        "fieldcrypt_admin",
        refuses="F0000",
    ),
    "keep_adoption(text,text)": Call("'none', '{}'", "nobody", locks=True, writes=True),
    "adoption_of_job(text)": Call("'none'", "nobody", None),
    **{
        f"adopt_stored(text,{stored},text,anyelement,text,bytea)": Call(
            f"'none', NULL::{stored}, 'acme', s.v_text", refuses="42704"
        )
        for stored in ("text", "bytea")
    },
    "adopt_stored_document(text,jsonb,text,text,text)": Call(
        "'none', s.document, 'acme', NULL", refuses="42704"
    ),
    "holds_foreign(text,jsonb,text,text,boolean,text)": Call(
        "'none', s.document, 'acme', NULL, false", refuses="42704"
    ),
    "differing_adoptions(regclass,text,text)": Call(
        "'m.held', 'SELECT NULL::text, NULL::text, NULL::fieldcrypt.encrypted_text, NULL::text',"
        " 'none'",
        "nobody",
        refuses="42704",
    ),
    "plan_adoption(text,text,bigint,text,regtype)": Call(
        "'none', 'is malformed', 1, 'refuse', 'text'", "fieldcrypt_admin", SOMETHING
    ),
    "can_be_adopted(oid)": Call("'text'::regtype", "fieldcrypt_admin", "true"),
    "plan_adopt_column(regclass,name,name,text,text,text[],text,text,name,text,regtype)": Call(
        "'m.held', 'v', 'account_id', 'fernet', 'none'", "fieldcrypt_admin", SOMETHING
    ),
    "plan_adopt_existing(text,text[],text,text,text[],text,text,text)": Call(
        "'m.none', '{a}', 'fernet', 'none'", "fieldcrypt_admin", SOMETHING
    ),
    "terms_of(job)": Call(JOB, "nobody", None),
    "adopted_type(job)": Call(JOB, "nobody", None),
    "beside_columns(job)": Call(JOB, "nobody", None),
    "beside_values(job)": Call(JOB, "nobody", "NULL::text, NULL::bytea"),
    "check_adoption(job)": Call(JOB, "nobody", refuses="42809"),
    "require_successor(job)": Call(JOB, "nobody"),
    "stored_type(regclass,name)": Call("'m.held', 'v'", "nobody", "text"),
    "adoption_trigger(name)": Call("'data'", "nobody", "!00_fieldcrypt_adopt_data"),
    "begin_adoption(job)": Call(JOB, "nobody"),
    "end_adoption(job)": Call(JOB, "nobody"),
    "check_adopted(job)": Call(JOB, "nobody"),
    "name_of_type(regtype)": Call("'bigint'", "fieldcrypt_admin", "bigint"),
    "flag_adopted(text,text[],text)": Call("'m.document', NULL, NULL", "fieldcrypt_admin"),
    "adopt_existing(text,text[],text,text,text,text[],text,text,text,integer,integer,"
    "boolean)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL", **PROCEDURE
    ),
    "adopt_column(regclass,name,text,name,text,text,text[],text,text,name,text,regtype,integer,"
    "integer,boolean)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL",
        **PROCEDURE,
    ),
    "seal_existing(text,jsonb,text,text)": Call(
        "'m.document', s.document, 'acme', NULL", gives=re.compile('{"email": "fc1:.*"}')
    ),
    "needs_sealing(text,jsonb,text,text)": Call(
        "'m.document', s.document, 'acme', NULL", gives="false"
    ),
    "open_retired(text,jsonb,text,text)": Call(
        "'m.document', s.document, 'acme', NULL", gives=re.compile('{"email": "fc1:.*"}')
    ),
    "holds_retired(text,jsonb,text,text)": Call(
        "'m.document', s.document, 'acme', NULL", gives="false"
    ),
    "seal_existing(text,jsonb,encrypted_jsonb,text,text,integer)": Call(
        "'m.document', s.document, NULL, 'acme', NULL, m.handle('m.jsonb')",
        "encrypt",
        re.compile(r"\({},fc1:[\w-]+\)"),
        field="m.jsonb",
    ),
    "needs_sealing(text,jsonb,encrypted_jsonb,text,text)": Call(
        "'m.document', s.document, NULL, 'acme', NULL", gives="true"
    ),
    "open_retired(text,jsonb,encrypted_jsonb,text,text,integer)": Call(
        "'m.document', s.document, NULL, 'acme', NULL, 0",
        gives=re.compile(r'\("{""email"": ""fc1:[\w-]+""}",\)'),
    ),
    "holds_retired(text,jsonb,encrypted_jsonb,text,text)": Call(
        "'m.document', s.document, NULL, 'acme', NULL", gives="false"
    ),
    "reencrypt(jsonb)": Call("s.document", gives=re.compile('{"email": "fc1:.*"}')),
    "needs_reencryption(jsonb)": Call("s.document", gives="false"),
    "run_job(text,integer,integer)": Call("NULL, NULL, NULL", **PROCEDURE),
    "encrypt_existing(text,integer,integer,text)": Call("NULL, NULL, NULL, NULL", **PROCEDURE),
    "decrypt_existing(text,integer,integer,text)": Call("NULL, NULL, NULL, NULL", **PROCEDURE),
    "encrypt_column(regclass,name,text,name,integer,integer,boolean)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL, NULL", **PROCEDURE
    ),
    "decrypt_column(regclass,name,name,integer,integer,boolean)": Call(
        "NULL, NULL, NULL, NULL, NULL, NULL", **PROCEDURE
    ),
    "reencrypt_existing(text,integer,integer,text)": Call("NULL, NULL, NULL, NULL", **PROCEDURE),
    "reencrypt_column(regclass,name,integer,integer)": Call("NULL, NULL, NULL, NULL", **PROCEDURE),
    "reencrypt_field(text,integer,integer)": Call("NULL, NULL, NULL", **PROCEDURE),
    # tables and their definitions
    "protect_table(regclass,name,text)": Call(
        "'m.free', 'account_id'", locks=True, change="protect", **OWNER
    ),
    "unprotect_table(regclass)": Call("'m.held'", change="unprotect", **OWNER),
    "protect_jsonb(regclass,name,text,name,name,name)": Call(
        "'m.free', 'document', 'm.free', 'account_id'", locks=True, change="protect", **OWNER
    ),
    "unprotect_jsonb(regclass,name)": Call(
        "'m.filed', 'document'", change="unprotect", values=2, **OWNER
    ),
    "add_document_trigger(regclass,text[])": Call(
        "'m.free', ARRAY['m.free', 'document', 'account_id', '', '']", change="protect", **OWNER
    ),
    "inherit_documents(regclass)": Call("'m.child'", change="protect", **OWNER),
    "create_view(regclass,text,name[])": Call("'m.held', 'm.other'", gives="m.other", **OWNER),
    "make_view_anew(regclass,text,name[])": Call(
        "'m.redrawn'::text::regclass, 'VIEW m.redrawn AS SELECT id FROM m.held', '{id}'", **OWNER
    ),
    "check_columns(regclass)": Call("'m.sample'"),
    "check_type(regtype)": Call("'text'"),
    "check_document(text,jsonb,text,text,boolean)": Call(
        "'m.document', s.document, 'acme', NULL, false", gives="true"
    ),
    "check_document_name(text)": Call("'m.document'"),
    "columns_of_view(oid)": Call("'m.held_plain'::regclass", gives=SOMETHING),
    "columns_to_show(regclass,name[])": Call("'m.held', '{}'", gives=SOMETHING),
    "key_of_view(oid)": Call("'m.held_plain'::regclass", gives="{id,pg_catalog.=}"),
    "shape_of_view(regclass)": Call("'m.held_plain'", gives=SOMETHING),
    "default_of(oid,smallint)": Call("'m.held'::regclass, 2::smallint", gives="'acme'::text"),
    "document_gathers(text)": Call("'m.gathered'", gives="true"),
    "documents_of(regclass)": Call("'m.sample'", gives=SOMETHING),
    "handle_of(oid,integer)": Call("'fieldcrypt.encrypted_text'::regtype, 5", gives="5"),
    "has_unique_column(integer)": Call(HANDLE, gives="false"),
    "holds_encrypted(oid)": Call("'fieldcrypt.encrypted_text'::regtype", gives="value"),
    "is_literal(pg_node_tree)": Call(
        "(SELECT adbin FROM pg_attrdef WHERE adrelid = 'm.held'::regclass)", gives="false"
    ),
    "is_plain_name(text)": Call("'source'", gives="true"),
    "plain_type_of(oid)": Call("'fieldcrypt.encrypted_uuid'::regtype", gives="uuid"),
    "trigger_arguments(bytea)": Call(r"'\x6100'", gives="{a}"),
    "encrypted_types()": Call("", gives=SOMETHING),
    "encrypted_typmod_in(cstring[])": Call("'{m.text}'", gives=NUMBER),
    "encrypted_typmod_out(integer)": Call(HANDLE, gives="('m.text')"),
    # what PostgreSQL calls
    "hold_account()": Call("", refuses="22023"),
    "seal_document()": Call("", refuses="22023"),
    "write_both()": Call("", refuses="22023"),
    "adopt_both()": Call("", refuses="22023"),
    "adopt_in_document()": Call("", refuses="22023"),
    "insert_through_view()": Call(**TRIGGER),
    "update_through_view()": Call(**TRIGGER),
    "check_definition()": Call(**TRIGGER),
    "catalog_changed()": Call("", "nobody", None),
    "encrypted_support(internal)": Call("NULL", **INTERNAL),
    "encrypted_typanalyze(internal)": Call("NULL", **INTERNAL),
    "encrypted_eqsel(internal,oid,internal,integer)": Call("NULL, 0, NULL, 0", **INTERNAL),
    "encrypted_neqsel(internal,oid,internal,integer)": Call("NULL, 0, NULL, 0", **INTERNAL),
}

CALLS = OTHERS | {signature: call for kind in KINDS for signature, call in family(kind).items()}


def statement(signature):
    """A SELECT of the call, with its result as text."""
    name = signature.partition("(")[0]
    return f"SELECT (fieldcrypt.{name}({CALLS[signature].arguments}))::text FROM m.sample AS s"
