"""Lerian Midaz CRM: the holders of a bank's accounts, and the aliases that tie them to its ledger.

Organisations are the accounts of fieldcrypt. A holder is a natural or a legal person, and so is the
holder of an alias: the kind of both documents. What a bank shows is encrypted at random, what it
looks up has a keyed hash besides, and some values are kept as a hash only.

Needs a later issue:
- Rotation, which is re-encrypting and re-hashing: rotate_account_key, reencrypt, and look-ups that
  find values of the old and of the new index key meanwhile (issue 6).
- Root keys that stay inside a secret manager (provider `command`), and an organisation's own root
  key (set_account_root, issue 6). Here the root key comes from a file that the keyring names.
- Flagging a path of documents that are there already (encrypt_existing, issue 6): all flags here
  are set before the first row is written.
"""

import base64
import re
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple
from uuid import UUID

import pytest
from checks import (
    HIDDEN,
    assert_stored,
    at,
    column,
    envelopes,
    everything_said,
    is_envelope,
    load,
    places,
    plan,
    refused,
    value,
    with_values,
)
from exactjson import Number
from people import people
from psycopg import sql
from psycopg.types.json import Jsonb

pytestmark = pytest.mark.every_version

SUL = "0192f3a4-5b6c-7d8e-9f00-4a5b6c7d8e01"
NORTE = "0192f3a4-5b6c-7d8e-9f00-4a5b6c7d8e02"
NATURAL, LEGAL = "NATURAL_PERSON", "LEGAL_PERSON"

NATURAL_HOLDERS, LEGAL_HOLDERS = 10_000, 4_000
# The first natural persons are customers of both organisations.
IN_BOTH = 500

USERS = (
    "midaz_owner",  # owns the tables and says what is encrypted
    "midaz_service",  # the application
    "midaz_login",  # finds who logs in, in whatever organisation
    "midaz_teller",  # sees masks
    "midaz_norte",  # reads the documents of one organisation
    "midaz_norte_admin",  # may flag an address of that organisation
    "midaz_analyst",  # has no grants
)

SCHEMA = """
    CREATE TABLE holder (
        id uuid PRIMARY KEY,
        organization_id text NOT NULL,
        type text NOT NULL CHECK (type IN ('NATURAL_PERSON', 'LEGAL_PERSON')),
        data jsonb NOT NULL);
    CREATE TABLE alias (
        id uuid PRIMARY KEY,
        organization_id text NOT NULL,
        holder_id uuid NOT NULL REFERENCES holder,
        type text NOT NULL CHECK (type IN ('NATURAL_PERSON', 'LEGAL_PERSON')),
        data jsonb NOT NULL);
    CREATE INDEX holder_tokens ON holder USING gin (fieldcrypt.tokens(data));
    CREATE INDEX alias_tokens ON alias USING gin (fieldcrypt.tokens(data));
    CREATE UNIQUE INDEX holder_document ON holder (fieldcrypt.token(data, 'person.document'));
    CREATE UNIQUE INDEX holder_external_id ON holder (fieldcrypt.token(data, 'person.external_id'));
    CREATE UNIQUE INDEX holder_face ON holder (fieldcrypt.token(data, 'person.face'));
    GRANT SELECT, INSERT, UPDATE ON holder, alias TO midaz_service;
    GRANT SELECT ON holder, alias TO midaz_login, midaz_teller, midaz_norte, midaz_analyst;
    GRANT INSERT, UPDATE ON holder TO midaz_analyst;

    -- shown, never looked up
    SELECT fieldcrypt.create_field('person.name', mask => 'first_last');
    SELECT fieldcrypt.create_field('person.mother_name', mask => 'first_last');
    SELECT fieldcrypt.create_field('person.father_name', mask => 'first_last');
    SELECT fieldcrypt.create_field('person.income');
    SELECT fieldcrypt.create_field('person.address');
    SELECT fieldcrypt.create_field('representative.name');
    SELECT fieldcrypt.create_field('alias.banking_details');
    SELECT fieldcrypt.create_field('alias.balance');
    -- shown and looked up
    SELECT fieldcrypt.create_field(
        'person.document', search => '{exact}', normalizer => 'digits', mask => 'last4');
    SELECT fieldcrypt.create_field(
        'person.phone', search => '{exact}', normalizer => 'phone', mask => 'last4');
    SELECT fieldcrypt.create_field(
        'person.second_email', search => '{exact}', normalizer => 'email', mask => 'email');
    SELECT fieldcrypt.create_field(
        'representative.document', search => '{exact}', normalizer => 'digits');
    SELECT fieldcrypt.create_field('alias.iban', search => '{exact}', mask => 'last4');
    SELECT fieldcrypt.create_field('alias.account', search => '{exact}');
    SELECT fieldcrypt.create_field(
        'alias.participant', search => '{exact}', normalizer => 'digits');
    SELECT fieldcrypt.create_field('alias.party', search => '{exact}', normalizer => 'digits');
    -- looked up in all organisations at once
    SELECT fieldcrypt.create_field('person.email', search => '{exact}', normalizer => 'email',
        mask => 'email', scope => 'database');
    -- shown, and unique in an organisation
    SELECT fieldcrypt.create_field('person.external_id', search => '{unique}');
    -- hashed and never shown: to be unique, and to be compared
    SELECT fieldcrypt.create_field('person.face', search => '{unique}', store => 'token');
    SELECT fieldcrypt.create_field('person.password', search => '{exact}', store => 'token');

    SELECT fieldcrypt.protect_jsonb('holder', 'data', name => 'midaz.holder',
        account_column => 'organization_id', kind_column => 'type');
    SELECT fieldcrypt.protect_jsonb('alias', 'data', name => 'midaz.alias',
        account_column => 'organization_id', kind_column => 'type');
"""

GRANTS = [
    ("midaz_service", "{encrypt,search,decrypt}", SUL, "*"),
    ("midaz_service", "{encrypt,search,decrypt}", NORTE, "*"),
    ("midaz_login", "{search}", "*", "person.email"),
    ("midaz_teller", "{search,mask}", SUL, "*"),
    ("midaz_norte", "{search,decrypt}", NORTE, "*"),
    ("midaz_norte_admin", "{manage}", NORTE, "person.address"),
]


class Flag(NamedTuple):
    """Paths of a document that are encrypted: for a kind of document, and an organisation."""

    document: str
    field: str
    paths: tuple
    kind: str | None = None
    organization: str = "*"


FLAGS = [
    Flag("midaz.holder", "person.name", ("name",)),
    Flag("midaz.holder", "person.document", ("document",)),
    Flag("midaz.holder", "person.external_id", ("externalId",)),
    Flag("midaz.holder", "person.email", ("contact.primaryEmail",)),
    Flag("midaz.holder", "person.second_email", ("contact.secondaryEmail",)),
    Flag("midaz.holder", "person.phone", ("contact.mobilePhone", "contact.otherPhone")),
    Flag("midaz.holder", "person.password", ("contact.telephonePassword",)),
    Flag("midaz.holder", "person.mother_name", ("naturalPerson.motherName",), NATURAL),
    Flag("midaz.holder", "person.father_name", ("naturalPerson.fatherName",), NATURAL),
    Flag("midaz.holder", "person.face", ("naturalPerson.faceTemplate",), NATURAL),
    Flag("midaz.holder", "person.income", ("naturalPerson.monthlyGrossIncome.value",), NATURAL),
    Flag("midaz.holder", "person.income", ("legalPerson.annualGrossRevenue.value",), LEGAL),
    Flag("midaz.holder", "representative.name", ("legalPerson.representative.name",), LEGAL),
    Flag(
        "midaz.holder",
        field="representative.document",
        paths=("legalPerson.representative.document",),
        kind=LEGAL,
    ),
    Flag("midaz.alias", "person.document", ("document",)),
    Flag("midaz.alias", "alias.iban", ("bankingDetails.iban",), NATURAL),
    Flag("midaz.alias", "alias.account", ("bankingDetails.account",), NATURAL),
    Flag("midaz.alias", "alias.banking_details", ("bankingDetails",), LEGAL),
    Flag("midaz.alias", "alias.participant", ("regulatoryFields.participantDocument",)),
    Flag("midaz.alias", "alias.party", ("relatedParties[*].document",)),
    Flag("midaz.alias", "alias.balance", ("balance.available", "balance.onHold")),
]
# Set by the organisation's own administrator.
ADDRESSES = Flag("midaz.holder", "person.address", ("addresses",), organization=NORTE)

HASHED_ONLY = {("naturalPerson", "faceTemplate"), ("contact", "telephonePassword")}


@dataclass(eq=False)
class Record:
    """A row of holder or alias as the application means it."""

    table: str
    id: UUID
    organization: str
    type: str
    data: dict

    @cached_property
    def sealed(self):
        """The places in the document at which ciphertext is to stand."""
        return {
            place
            for flag in [*FLAGS, ADDRESSES]
            if flag.document == f"midaz.{self.table}"
            and flag.kind in (None, self.type)
            and flag.organization in ("*", self.organization)
            for path in flag.paths
            for place in places(self.data, path)
        }

    @property
    def row(self):
        return self.id, self.organization, self.type, Jsonb(self.data)

    def hidden(self):
        """The document as it looks to who may read nothing of it."""
        return with_values(self.data, dict.fromkeys(self.sealed, HIDDEN))

    def readable(self):
        """The document as it looks to who may read all of it, which are not the hashes."""
        return with_values(self.data, dict.fromkeys(self.sealed & HASHED_ONLY, HIDDEN))

    def values(self, *paths):
        """The values at the paths, each path's in the order of the document."""
        return [at(self.data, place) for path in paths for place in sorted(places(self.data, path))]


# The data

# Few names, so that many people have a mother of the same name.
PARENTS = ("Maria das Graças Souza", "Ana Lima", "José Carlos Araújo", "Γιώργος Παπαδόπουλος")
MONEY = ("1.10", "0.00", "12500.10", "-3.5000", "99999999999999999999.000000000000000001")
FORTY_DIGITS = 1234567890123456789012345678901234567890

ANA = {
    "externalId": "core-banking-000001",
    "name": "Ana Lúcia Pereira",
    "document": "529.982.247-25",
    "addresses": {"primary": {"line1": "Rua das Laranjeiras, 12", "city": "São Paulo"}},
    "contact": {
        "primaryEmail": "ana.pereira@cliente.example",
        "secondaryEmail": "ana@casa.example",
        "mobilePhone": "+55 11 91234-5678",
        "telephonePassword": "verde abacate",
    },
    "naturalPerson": {
        "gender": "female",
        "motherName": "Maria das Graças Souza",
        "fatherName": None,
        "faceTemplate": "a6f0c1e2b3d4958677",
        "monthlyGrossIncome": {"value": Number("1.10"), "currency": "BRL"},
    },
    "metadata": {"segment": "retail", "score": Number("0.50")},
    "createdAt": "2024-02-29T10:00:00Z",
}


def make_holders():
    everybody = people(NATURAL_HOLDERS - IN_BOTH + LEGAL_HOLDERS, seed=20)
    persons = everybody[: NATURAL_HOLDERS - IN_BOTH]
    customers = [(SUL, person) for person in persons[:6_000]]
    customers += [(NORTE, person) for person in persons[:IN_BOTH] + persons[6_000:]]
    documents = [
        (organization, NATURAL, natural_person(number, person))
        for number, (organization, person) in enumerate(customers)
    ]
    documents += [
        (SUL if number % 8 < 5 else NORTE, LEGAL, legal_person(number, person))
        for number, person in enumerate(everybody[len(persons) :])
    ]
    documents += [(SUL, NATURAL, ANA), (NORTE, NATURAL, ANA)]
    return [
        Record("holder", UUID(int=number), *rest) for number, rest in enumerate(documents, start=1)
    ]


def natural_person(number, person):
    return {
        "externalId": f"core-banking-{number + 100_000}",
        "name": person["full_name"],
        "document": person["cpf"],
        "addresses": addresses(person),
        "contact": {
            "primaryEmail": person["email"],
            "secondaryEmail": f"second.{person['email']}" if number % 3 else None,
            "mobilePhone": person["phone"],
            "telephonePassword": f"{person['first_name']} {number % 100}",
        },
        "naturalPerson": {
            "gender": ("female", "male", "other")[number % 3],
            "civilStatus": ("single", "married")[number % 2],
            "motherName": PARENTS[number % len(PARENTS)],
            "fatherName": None if number % 10 == 0 else PARENTS[number % 3],
            "faceTemplate": f"face-{number:032x}",
            "monthlyGrossIncome": {"value": Number(MONEY[number % 5]), "currency": "BRL"},
        },
        "metadata": {"segment": "retail", "score": Number("0.50"), "counter": FORTY_DIGITS},
        "createdAt": f"2024-01-{number % 28 + 1:02d}T10:00:00Z",
    }


def legal_person(number, person):
    digits = f"{number + 10_000_000:08d}"
    return {
        "externalId": f"core-banking-{number + 500_000}",
        "name": f"{person['last_name']} & {person['first_name']} Ltda.",
        "document": f"{digits[:2]}.{digits[2:5]}.{digits[5:]}/0001-{number % 90 + 10}",
        "addresses": addresses(person),
        "contact": {
            "primaryEmail": f"office.{person['email']}",
            "mobilePhone": person["phone"],
            # the same for two companies, so that one number finds both
            "otherPhone": f"+55 11 3{number // 2:03d}-{number // 2:04d}",
        },
        "legalPerson": {
            "tradeName": f"{person['last_name']} {number}",
            "activity": "Comércio",
            "size": ("small", "large")[number % 2],
            "representative": {
                "name": person["full_name"],
                "document": person["cpf"],
                "role": "CFO",
            },
            "annualGrossRevenue": {"value": FORTY_DIGITS + number, "currency": "BRL"},
        },
        "metadata": {"segment": "corporate", "counters": [1, Number("1.0"), Number("1.00")]},
        "createdAt": f"2024-03-{number % 28 + 1:02d}T10:00:00Z",
    }


def addresses(person):
    primary = {
        "line1": person["street"],
        "zipCode": person["postal_code"],
        "city": person["city"],
        "country": person["country"],
    }
    return {"primary": primary, "additional1": None}


def make_aliases(holders):
    """Aliases of four in seven holders: pairs of the alias and its holder's id."""
    parties = people(3_000, seed=21)
    chosen = [holder for number, holder in enumerate(holders) if number % 7 < 4]
    return [
        (
            Record(
                "alias",
                UUID(int=1_000_000 + number),
                holder.organization,
                holder.type,
                alias(number, holder, parties),
            ),
            holder.id,
        )
        for number, holder in enumerate(chosen)
    ]


def alias(number, holder, parties):
    person = parties[number % len(parties)]
    # everybody is a party to several aliases
    related = [parties[(number * step) % len(parties)] for step in range(2, 2 + number % 4)]
    return {
        "document": holder.data["document"],
        "ledgerId": str(UUID(int=7)),
        "accountId": str(UUID(int=2_000_000 + number)),
        "bankingDetails": {
            "branch": f"{number % 40:04d}",
            "account": f"{number + 7_000_000}-{number % 10}",
            "type": "CACC",
            "openingDate": f"2019-07-{number % 28 + 1:02d}",
            "iban": person["iban"],
            "bankId": "12345",
            "limit": Number("1.10"),
        },
        "regulatoryFields": {"participantDocument": f"{number % 50 + 10_000_000:08d}"},
        "relatedParties": [
            {
                "name": party["full_name"],
                "document": party["cpf"],
                "role": ("PRIMARY_HOLDER", "LEGAL_REPRESENTATIVE", "RESPONSIBLE_PARTY")[i],
                "startDate": "2025-01-01",
            }
            for i, party in enumerate(related)
        ],
        "balance": {
            "available": Number(MONEY[number % 5]),
            "onHold": -FORTY_DIGITS if number % 2 else 0,
            "scale": 2,
        },
        "metadata": {"creditLimit": Number("1.10"), "sequence": FORTY_DIGITS},
    }


class Crm:
    """What was written, to compare with what is read."""

    def __init__(self):
        self.holders = make_holders()
        self.aliases_with_holders = make_aliases(self.holders)
        self.aliases = [alias for alias, _ in self.aliases_with_holders]
        self.records = [*self.holders, *self.aliases]
        self.ana = next(r for r in self.holders if r.data is ANA and r.organization == SUL)
        self.ana_norte = next(r for r in self.holders if r.data is ANA and r.organization == NORTE)
        self.company = next(r for r in self.holders if r.type == LEGAL and r.organization == SUL)

    def of(self, table, organization=None, kind=None):
        return [
            record
            for record in self.records
            if record.table == table
            and organization in (None, record.organization)
            and kind in (None, record.type)
        ]


@pytest.fixture(scope="module")
def crm(cluster, database, session):
    """The database of the CRM, with all of its rows."""
    cluster.create_roles(*USERS)
    database.execute("GRANT fieldcrypt_admin TO midaz_owner")
    database.execute("GRANT CREATE ON SCHEMA public TO midaz_owner")
    for organization in SUL, NORTE:
        database.execute("SELECT fieldcrypt.create_account(%s)", [organization])
    owner = session("midaz_owner")
    owner.execute(SCHEMA)
    for flag in FLAGS:
        protect(owner, flag)
    for grant in GRANTS:
        database.execute("SELECT fieldcrypt.grant_access(%s, %s, %s, %s)", grant)
    protect(session("midaz_norte_admin"), ADDRESSES)

    crm = Crm()
    service = session("midaz_service", SUL)
    columns = ("id", "organization_id", "type", "data")
    load(service, "holder", columns, (r.row for r in crm.holders))
    with service.transaction(), service.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO alias (id, organization_id, type, data, holder_id)"
            " VALUES (%s, %s, %s, %s, %s)",
            [(*r.row, holder_id) for r, holder_id in crm.aliases_with_holders],
        )
    database.execute("ANALYZE holder, alias")
    return crm


def protect(connection, flag):
    connection.execute(
        "SELECT fieldcrypt.protect_path(%s, %s, field => %s, account => %s, kind => %s)",
        [flag.document, list(flag.paths), flag.field, flag.organization, flag.kind],
    )


@pytest.fixture
def service(crm, session):
    return session("midaz_service", SUL)


def stored(database, record):
    return value(database, f"SELECT data FROM {record.table} WHERE id = %s", [record.id])


def insert(connection, record):
    connection.execute(
        "INSERT INTO holder (id, organization_id, type, data) VALUES (%s, %s, %s, %s)",
        record.row,
    )


def new_holder(organization=SUL, **changes):
    """A natural person who is not in the CRM yet, but for what `changes` says of its document."""
    document = natural_person(900_000, people(1, seed=22)[0])
    return Record("holder", UUID(int=900_000), organization, NATURAL, {**document, **changes})


def envelope_bytes(text):
    assert is_envelope(text), text
    return base64.urlsafe_b64decode(text[4:] + "=" * (-len(text[4:]) % 4))


# What is stored, and what comes back


def test_there_are_as_many_rows_as_the_suite_promises(crm, database):
    counts = database.execute(
        "SELECT (SELECT count(*) FROM holder), (SELECT count(*) FROM alias)"
    ).fetchone()
    assert counts == (len(crm.holders), len(crm.aliases))
    assert sum(counts) >= 20_000


@pytest.mark.parametrize("table", ["holder", "alias"])
def test_ciphertext_stands_at_the_flagged_paths_and_nowhere_else(crm, database, table):
    rows = dict(database.execute(f"SELECT id, data FROM {table}").fetchall())
    for record in crm.of(table):
        assert record.sealed, record
        assert_stored(rows[record.id], record.data, record.sealed)


def test_nothing_of_a_flagged_object_is_in_the_stored_text(crm, database):
    rows = dict(database.execute("SELECT id, data::text FROM alias").fetchall())
    for record in crm.of("alias", kind=LEGAL):
        details = record.data["bankingDetails"]
        for key in "account", "openingDate", "iban":
            assert details[key] not in rows[record.id]


def test_aliases_come_back_as_they_were_written(crm, service):
    rows = dict(service.execute("SELECT id, fieldcrypt.decrypt(data) FROM alias").fetchall())
    assert rows == {record.id: record.data for record in crm.aliases}


def test_holders_come_back_but_for_what_is_hashed_only(crm, service):
    rows = dict(service.execute("SELECT id, fieldcrypt.reveal(data) FROM holder").fetchall())
    assert rows == {record.id: record.readable() for record in crm.holders}


PATHS = [
    ("holder", NATURAL, "contact.primaryEmail"),
    ("holder", NATURAL, "contact.mobilePhone"),
    ("holder", NATURAL, "naturalPerson.motherName"),
    ("holder", NATURAL, "naturalPerson.fatherName"),
    ("holder", NATURAL, "naturalPerson.monthlyGrossIncome.value"),
    ("holder", LEGAL, "legalPerson.representative.document"),
    ("holder", LEGAL, "legalPerson.representative.name"),
    ("alias", NATURAL, "bankingDetails.iban"),
    ("alias", NATURAL, "bankingDetails.account"),
    ("alias", LEGAL, "bankingDetails"),
    ("alias", None, "document"),
    ("alias", None, "relatedParties[*].document"),
]


@pytest.mark.parametrize(("table", "kind", "path"), PATHS, ids=lambda item: item)
def test_a_nested_path_is_read_by_itself(crm, service, table, kind, path):
    rows = service.execute(
        f"SELECT id, fieldcrypt.decrypt(data, %s) FROM {table} WHERE type = coalesce(%s, type)",
        [path, kind],
    )
    expected = {}
    for record in crm.of(table, kind=kind):
        items = record.values(path)
        expected[record.id] = items if "[*]" in path else (items or [None])[0]
    assert dict(rows.fetchall()) == expected


def test_a_path_that_is_not_there_is_null(crm, service):
    query = "SELECT fieldcrypt.decrypt(data, %s) FROM holder WHERE id = %s"
    path = "legalPerson.representative.name"
    assert value(service, query, [path, crm.ana.id]) is None


# Values that are shown: randomised encryption


def test_equal_values_have_different_ciphertexts(crm, database):
    for path in "{naturalPerson,motherName}", "{naturalPerson,monthlyGrossIncome,value}":
        query = "SELECT data #>> %s FROM holder WHERE type = 'NATURAL_PERSON'"
        ciphertexts = column(database, query, [path])
        assert len(ciphertexts) == NATURAL_HOLDERS + 2
        assert len(set(ciphertexts)) == len(ciphertexts)
        assert all(token_section(ciphertext) == b"" for ciphertext in ciphertexts)


def token_section(envelope):
    """The part of an envelope in which equal values would be equal (docs/envelope.md)."""
    header = envelope_bytes(envelope)
    return header[23 : 23 + int.from_bytes(header[21:23], "big")]


def test_what_is_only_shown_cannot_be_looked_up(crm, service):
    query = "SELECT count(*) FROM holder WHERE fieldcrypt.matches(data, %s, %s)"
    for field in "person.mother_name", "person.income", "person.name":
        with refused("0A000", field):
            service.execute(query, [field, PARENTS[0]])


def test_a_teller_sees_masks(crm, session):
    revealed = value(
        session("midaz_teller"),
        "SELECT fieldcrypt.reveal(data) FROM holder WHERE id = %s",
        [crm.ana.id],
    )
    assert revealed == {
        **ANA,
        "externalId": HIDDEN,
        "name": "A****a",
        "document": "****7-25",
        "contact": {
            "primaryEmail": "a****@cliente.example",
            "secondaryEmail": "a****@casa.example",
            "mobilePhone": "****5678",
            "telephonePassword": HIDDEN,
        },
        "naturalPerson": {
            **ANA["naturalPerson"],
            "motherName": "M****a",
            "faceTemplate": HIDDEN,
            "monthlyGrossIncome": {"value": HIDDEN, "currency": "BRL"},
        },
    }


def test_without_a_grant_everything_flagged_is_hidden(crm, session):
    analyst = session("midaz_analyst")
    for table in "holder", "alias":
        rows = dict(analyst.execute(f"SELECT id, fieldcrypt.reveal(data) FROM {table}").fetchall())
        for record in crm.of(table):
            assert rows[record.id] == record.hidden()
        with refused("42501"):
            analyst.execute(f"SELECT fieldcrypt.decrypt(data) FROM {table}")


# Values that are looked up: keyed hashes


def digits(text):
    return re.sub("[^0-9]", "", text)


NORMALIZED = {
    "digits": digits,
    "phone": digits,
    "email": lambda text: text.strip().casefold(),
    "none": str,
}
# How a user may type what was stored
TYPED = {
    "digits": digits,
    "phone": lambda text: f"00{digits(text)}",
    "email": lambda text: f" {text.upper()} ",
    "none": str,
}

LOOKUPS = [
    ("holder", "person.document", "digits", ("document",)),
    ("holder", "person.phone", "phone", ("contact.mobilePhone", "contact.otherPhone")),
    ("holder", "person.email", "email", ("contact.primaryEmail",)),
    ("holder", "person.second_email", "email", ("contact.secondaryEmail",)),
    ("holder", "representative.document", "digits", ("legalPerson.representative.document",)),
    ("alias", "person.document", "digits", ("document",)),
    ("alias", "alias.participant", "digits", ("regulatoryFields.participantDocument",)),
    ("alias", "alias.party", "digits", ("relatedParties[*].document",)),
]


@pytest.mark.parametrize(("table", "field", "normalizer", "paths"), LOOKUPS)
def test_a_keyed_hash_finds_what_has_the_value(crm, service, table, field, normalizer, paths):
    assert_found(crm, service, table, field, normalizer, paths)


@pytest.mark.parametrize(
    ("field", "path"),
    [("alias.iban", "bankingDetails.iban"), ("alias.account", "bankingDetails.account")],
)
def test_banking_details_of_natural_persons_are_found(crm, service, field, path):
    assert_found(crm, service, "alias", field, "none", (path,), kind=NATURAL)


def assert_found(crm, service, table, field, normalizer, paths, kind=None):
    """Looks twenty values up, and compares what is found with what was written."""
    having = {}
    for record in crm.of(table, SUL, kind):
        for item in record.values(*paths):
            having.setdefault(NORMALIZED[normalizer](item), set()).add(record.id)
    written = [item for record in crm.of(table, SUL, kind) for item in record.values(*paths)]
    query = f"SELECT id FROM {table} WHERE fieldcrypt.matches(data, %s, %s)"
    for item in written[:: len(written) // 20]:
        found = column(service, query, [field, TYPED[normalizer](item)])
        assert len(found) == len(set(found))
        assert set(found) == having[NORMALIZED[normalizer](item)]
    assert column(service, query, [field, "000"]) == []


@pytest.mark.parametrize("table", ["holder", "alias"])
def test_look_ups_use_the_index(crm, service, table):
    query = f"SELECT id FROM {table} WHERE fieldcrypt.matches(data, %s, %s)"
    assert f"{table}_tokens" in plan(service, query, ["person.document", ANA["document"]])


def test_a_phone_number_of_two_companies_finds_both(crm, service):
    query = "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.phone', %s)"
    found = column(service, query, [crm.company.data["contact"]["otherPhone"]])
    assert len(found) == 2
    assert crm.company.id in found


def test_an_account_number_sent_as_a_json_number_is_found(crm, service):
    """Its hash is that of its text, whatever the type in the document."""
    record = crm.of("alias", SUL, NATURAL)[0]
    banking = {**record.data["bankingDetails"], "account": 987654321012}
    with service.transaction(force_rollback=True):
        service.execute(
            "UPDATE alias SET data = %s WHERE id = %s",
            [Jsonb({**record.data, "bankingDetails": banking}), record.id],
        )
        query = "SELECT id, fieldcrypt.decrypt(data, 'bankingDetails.account') FROM alias"
        query += " WHERE fieldcrypt.matches(data, 'alias.account', '987654321012')"
        assert service.execute(query).fetchall() == [(record.id, 987654321012)]


def test_holders_and_aliases_are_joined_by_their_hashes(crm, session):
    """The document's hash is the same in both tables: no right is needed to see that."""
    joined = session("midaz_analyst").execute("""
        SELECT h.id, a.id FROM holder AS h JOIN alias AS a
            ON fieldcrypt.token(h.data, 'person.document')
             = fieldcrypt.token(a.data, 'person.document')
    """)
    by_document = {(h.organization, digits(h.data["document"])): h.id for h in crm.holders}
    expected = {
        (by_document[a.organization, digits(a.data["document"])], a.id) for a in crm.aliases
    }
    assert set(joined.fetchall()) == expected
    assert len(expected) == len(crm.aliases)


def test_the_hash_in_a_document_is_the_one_of_the_field(crm, service, database):
    token = value(
        database,
        "SELECT fieldcrypt.token(data, 'person.document') FROM holder WHERE id = %s",
        [crm.ana.id],
    )
    assert len(token) == 16
    query = "SELECT fieldcrypt.blind_index(%s, 'person.document', %s)"
    assert value(service, query, [digits(ANA["document"]), SUL]) == token
    assert value(service, query, [ANA["document"], NORTE]) != token


def test_look_ups_need_the_right_to_search(crm, session):
    for user, account in ("midaz_analyst", SUL), ("midaz_norte", SUL), ("midaz_teller", NORTE):
        with refused("42501", 'field "person.document"') as caught:
            session(user, account).execute(
                "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.document', %s)",
                [ANA["document"]],
            )
        assert ANA["document"] not in everything_said(caught.value)


# Values that are only to be unique, or hashed and never shown


def test_an_external_id_is_unique_in_its_organisation(crm, service):
    taken = crm.of("holder", SUL)[17].data["externalId"]
    with refused("23505", "holder_external_id") as caught:
        insert(service, new_holder(SUL, externalId=taken))
    assert taken not in everything_said(caught.value)
    with refused("23505", "holder_external_id"):
        service.execute(
            "UPDATE holder SET data = jsonb_set(data, '{externalId}', %s) WHERE id = %s",
            [Jsonb(taken), crm.ana.id],
        )
    with service.transaction(force_rollback=True):
        insert(service, new_holder(NORTE, externalId=taken))
        query = "SELECT fieldcrypt.decrypt(data, 'externalId') FROM holder WHERE id = %s"
        assert value(service, query, [new_holder().id]) == taken


@pytest.mark.parametrize("field", ["person.external_id", "person.face"])
def test_what_is_only_unique_cannot_be_looked_up(crm, service, field):
    for query in (
        "SELECT id FROM holder WHERE fieldcrypt.matches(data, %(field)s, %(value)s)",
        "SELECT fieldcrypt.search_tokens(%(field)s, %(value)s)",
        "SELECT fieldcrypt.blind_index(%(value)s, %(field)s)",
    ):
        with refused("0A000", field):
            service.execute(query, {"field": field, "value": ANA["externalId"]})


def test_a_face_is_enrolled_once_and_never_shown(crm, service):
    face = crm.of("holder", SUL, NATURAL)[3].data["naturalPerson"]["faceTemplate"]
    holder = new_holder(SUL)
    holder.data["naturalPerson"]["faceTemplate"] = face
    with refused("23505", "holder_face") as caught:
        insert(service, holder)
    assert face not in everything_said(caught.value)
    with refused("55000", "person.face"):
        service.execute("SELECT fieldcrypt.decrypt(data, 'naturalPerson.faceTemplate') FROM holder")


def test_a_hashed_password_is_compared_and_never_shown(crm, service):
    query = (
        "SELECT fieldcrypt.matches(data, 'person.password', %s),"
        " fieldcrypt.reveal(data) #>> '{contact,telephonePassword}'"
        " FROM holder WHERE id = %s"
    )
    assert service.execute(query, ["verde abacate", crm.ana.id]).fetchone() == (True, HIDDEN)
    assert service.execute(query, ["roxo abacate", crm.ana.id]).fetchone() == (False, HIDDEN)
    for decrypt in "decrypt(data)", "decrypt(data, 'contact.telephonePassword')":
        with refused("55000", "person.password"):
            service.execute(f"SELECT fieldcrypt.{decrypt} FROM holder WHERE id = %s", [crm.ana.id])


def test_a_hash_does_not_tell_how_long_its_value_is(crm, service):
    lengths = set()
    for password in "a", "a much longer password, of a hundred characters or so" * 2:
        with service.transaction(force_rollback=True):
            contact = {**ANA["contact"], "telephonePassword": password}
            insert(service, new_holder(SUL, contact=contact))
            query = "SELECT data #>> '{contact,telephonePassword}' FROM holder WHERE id = %s"
            lengths.add(len(envelope_bytes(value(service, query, [new_holder().id]))))
    assert len(lengths) == 1


def test_hashes_survive_a_document_that_is_read_changed_and_written_back(crm, service, database):
    """Nobody can read what is hashed only, so whoever writes the document back sends it hidden."""
    read = "SELECT fieldcrypt.reveal(data) FROM holder WHERE id = %s"
    before = stored(database, crm.ana)
    with service.transaction(force_rollback=True):
        document = value(service, read, [crm.ana.id])
        document["metadata"] = {"segment": "private"}
        service.execute("UPDATE holder SET data = %s WHERE id = %s", [Jsonb(document), crm.ana.id])
        after = value(service, "SELECT data FROM holder WHERE id = %s", [crm.ana.id])
        assert after == {**before, "metadata": {"segment": "private"}}
        assert value(
            service,
            "SELECT fieldcrypt.matches(data, 'person.password', 'verde abacate') FROM holder"
            " WHERE id = %s",
            [crm.ana.id],
        )


# Organisations


def test_one_document_in_two_organisations_has_two_hashes(crm, database):
    pairs = database.execute(
        """
        SELECT s.id, n.id,
            fieldcrypt.token(s.data, 'person.document'), fieldcrypt.token(n.data, 'person.document')
        FROM holder AS s JOIN holder AS n ON fieldcrypt.token(s.data, 'person.email', 'database')
                                           = fieldcrypt.token(n.data, 'person.email', 'database')
        WHERE s.organization_id = %s AND n.organization_id = %s
    """,
        [SUL, NORTE],
    ).fetchall()
    in_sul = {h.data["document"]: h.id for h in crm.of("holder", SUL)}
    expected = {
        (in_sul[h.data["document"]], h.id)
        for h in crm.of("holder", NORTE)
        if h.data["document"] in in_sul
    }
    assert {pair[:2] for pair in pairs} == expected
    assert len(expected) == IN_BOTH + 1
    assert all(sul != norte for _, _, sul, norte in pairs)


def test_a_document_is_unique_in_its_organisation(crm, service):
    only_sul = crm.of("holder", SUL, NATURAL)[IN_BOTH + 5].data["document"]
    with refused("23505", "holder_document") as caught:
        # written in another way, but the same number
        insert(service, new_holder(SUL, document=digits(only_sul)))
    assert digits(only_sul) not in everything_said(caught.value)
    with service.transaction(force_rollback=True):
        insert(service, new_holder(NORTE, document=only_sul))


def test_an_organisation_is_closed_to_the_readers_of_another(crm, session):
    norte = session("midaz_norte", NORTE)
    rows = dict(norte.execute("SELECT id, fieldcrypt.reveal(data) FROM holder").fetchall())
    for record in crm.holders:
        own = record.organization == NORTE
        assert rows[record.id] == (record.readable() if own else record.hidden())
    for path, pattern in ("name", "person.name"), ("contact.primaryEmail", "person.email"):
        query = "SELECT fieldcrypt.decrypt(data, %s) FROM holder WHERE organization_id = %s"
        with refused("42501", pattern):
            norte.execute(query, [path, SUL])
        assert column(norte, query, [path, NORTE])


def test_a_look_up_stays_in_its_organisation(crm, service):
    query = "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.document', %s, %s)"
    assert column(service, query, [ANA["document"], SUL]) == [crm.ana.id]
    assert column(service, query, [ANA["document"], NORTE]) == [crm.ana_norte.id]
    query = "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.email', %s)"
    assert column(service, query, [ANA["contact"]["primaryEmail"]]) == [crm.ana.id]


def test_who_logs_in_is_found_by_email_in_every_organisation(crm, session):
    login = session("midaz_login")
    query = "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.email', %s, '*')"
    typed = " ANA.Pereira@Cliente.example "
    assert set(column(login, query, [typed])) == {crm.ana.id, crm.ana_norte.id}
    for record in crm.holders[::500]:
        email = record.data["contact"]["primaryEmail"]
        expected = {r.id for r in crm.holders if r.data["contact"]["primaryEmail"] == email}
        assert set(column(login, query, [email])) == expected
    assert "holder_tokens" in plan(login, query, [typed])
    with refused("42501", "person.email"):
        login.execute("SELECT fieldcrypt.decrypt(data, 'contact.primaryEmail') FROM holder")


def test_only_database_scoped_fields_are_found_across_organisations(crm, session, database):
    query = "SELECT id FROM holder WHERE fieldcrypt.matches(data, %s, %s, '*')"
    # granted for both organisations is not granted for all that there ever will be
    with refused("42501", "person.email"):
        session("midaz_service", SUL).execute(query, ["person.email", "ana@casa.example"])
    database.execute(
        "SELECT fieldcrypt.grant_access('midaz_login', '{search}', '*', 'person.second_email')"
    )
    with refused("0A000", "person.second_email"):
        session("midaz_login").execute(query, ["person.second_email", "ana@casa.example"])


def test_an_organisation_flags_addresses_for_itself_alone(crm, session, database):
    addresses = dict(database.execute("SELECT id, data -> 'addresses' FROM holder").fetchall())
    for record in crm.holders:
        if record.organization == NORTE:
            assert is_envelope(addresses[record.id])
        else:
            assert addresses[record.id] == record.data["addresses"]
    paths = database.execute(
        "SELECT path, account, kind, state, created_by FROM fieldcrypt.paths"
        " WHERE field = 'person.address'"
    )
    assert paths.fetchall() == [("addresses", NORTE, None, "active", "midaz_norte_admin")]
    for other in (
        ADDRESSES._replace(organization=SUL),
        ADDRESSES._replace(organization="*"),
        ADDRESSES._replace(field="person.name"),
    ):
        with refused("42501"):
            protect(session("midaz_norte_admin"), other)


def test_a_holder_does_not_take_ciphertext_along_to_another_organisation(crm, service):
    """It is moved by who reads it and writes it anew: the rights to both are asked for."""
    move = "UPDATE holder SET organization_id = %s WHERE id = %s"
    record = crm.of("holder", SUL, NATURAL)[IN_BOTH + 9]
    with refused("23514", "another account"):
        service.execute(move, [NORTE, record.id])
    move = "UPDATE holder SET organization_id = %s, data = %s WHERE id = %s"
    with service.transaction(force_rollback=True):
        service.execute(move, [NORTE, Jsonb(record.data), record.id])
        query = "SELECT fieldcrypt.reveal(data) FROM holder WHERE id = %s"
        assert value(service, query, [record.id]) == record.readable()
        token = "SELECT fieldcrypt.token(data, 'person.document') FROM holder WHERE id = %s"
        hashed = "SELECT fieldcrypt.blind_index(%s, 'person.document', %s)"
        assert value(service, token, [record.id]) == value(
            service, hashed, [record.data["document"], NORTE]
        )


# Numbers and objects

NUMBERS = [
    *("1.10", "1.1", "0.00", "-0.10", "100", "1234567890123456789012345678901234567890"),
    *("-9999999999999999999999999999999999999999", "0.0000000000000000000000000000000000000001"),
    "9007199254740993",
]


@pytest.mark.parametrize("digits_written", NUMBERS)
def test_numbers_keep_their_digits(crm, service, digits_written):
    """Under a flagged path, under an unflagged one, and inside of a flagged object."""
    in_object = f'{{"limits": [{digits_written}]}}'
    document = (
        f'{{"balance": {{"available": {digits_written}}}, "bankingDetails": {in_object},'
        f' "metadata": {{"limit": {digits_written}}}}}'
    )
    number = UUID(int=3_000_000)
    with service.transaction(force_rollback=True):
        service.execute(
            "INSERT INTO alias VALUES (%s, %s, %s, %s, %s::jsonb)",
            [number, SUL, crm.company.id, LEGAL, document],
        )
        text, exact, number_type, of_path, of_object, plain = service.execute(
            """
            SELECT fieldcrypt.decrypt(data)::text, %s::jsonb::text,
                jsonb_typeof(fieldcrypt.decrypt(data, 'balance.available')),
                fieldcrypt.decrypt(data, 'balance.available')::text,
                fieldcrypt.decrypt(data, 'bankingDetails')::text,
                data #>> '{metadata,limit}'
            FROM alias WHERE id = %s
            """,
            [document, number],
        ).fetchone()
    assert text == exact
    assert (number_type, of_path, plain) == ("number", digits_written, digits_written)
    assert of_object == in_object


def test_an_object_is_one_ciphertext_for_one_kind_and_leaves_for_the_other(crm, database, service):
    rows = dict(database.execute("SELECT id, data -> 'bankingDetails' FROM alias").fetchall())
    for record in crm.aliases:
        details = rows[record.id]
        if record.type == LEGAL:
            assert is_envelope(details)
        else:
            assert envelopes(details).keys() == {("iban",), ("account",)}
            assert details["branch"] == record.data["bankingDetails"]["branch"]
    # what is plain is queried as ever
    query = "SELECT count(*) FROM alias WHERE data #>> '{bankingDetails,branch}' = '0007'"
    natural = crm.of("alias", kind=NATURAL)
    assert value(service, query) == sum(
        record.data["bankingDetails"]["branch"] == "0007" for record in natural
    )


# Changes


def test_a_change_leaves_other_ciphertexts_as_they_are(crm, service, database):
    before = stored(database, crm.ana)
    with service.transaction(force_rollback=True):
        document = {
            **ANA,
            "addresses": {"primary": {"line1": "Alameda Santos, 1000"}},
            "contact": {**ANA["contact"], "mobilePhone": "+55 11 90000-0001"},
        }
        service.execute("UPDATE holder SET data = %s WHERE id = %s", [Jsonb(document), crm.ana.id])
        after = value(service, "SELECT data FROM holder WHERE id = %s", [crm.ana.id])
        found = column(
            service,
            "SELECT id FROM holder WHERE fieldcrypt.matches(data, 'person.phone', %s)",
            ["+5511900000001"],
        )
    new_phone = after["contact"].pop("mobilePhone")
    old_phone = before["contact"].pop("mobilePhone")
    assert is_envelope(new_phone) and new_phone != old_phone
    assert after == {**before, "addresses": document["addresses"]}
    assert found == [crm.ana.id]


def test_a_related_party_is_added_and_removed(crm, service):
    record = next(r for r in crm.of("alias", SUL) if len(r.data["relatedParties"]) == 3)
    new = {"name": "Novo Procurador", "document": "111.444.777-35", "role": "LEGAL_REPRESENTATIVE"}
    find = "SELECT id FROM alias WHERE fieldcrypt.matches(data, 'alias.party', %s)"
    with service.transaction(force_rollback=True):
        parties = [new, *record.data["relatedParties"][:2]]
        service.execute(
            "UPDATE alias SET data = %s WHERE id = %s",
            [Jsonb({**record.data, "relatedParties": parties}), record.id],
        )
        assert column(service, find, ["11144477735"]) == [record.id]
        removed = record.data["relatedParties"][2]["document"]
        assert record.id not in column(service, find, [removed])
        query = "SELECT fieldcrypt.decrypt(data, 'relatedParties[*].document') FROM alias"
        assert value(service, f"{query} WHERE id = %s", [record.id]) == [
            party["document"] for party in parties
        ]


def test_who_may_not_encrypt_writes_nothing(crm, session):
    holder = new_holder(SUL)
    with refused("42501") as caught:
        insert(session("midaz_analyst", SUL), holder)
    said = everything_said(caught.value)
    (flag,) = [flag for flag in FLAGS if flag.document in said and f'"{flag.field}"' in said]
    assert any(path in said for path in flag.paths), said
    secrets = [str(at(holder.data, place)) for place in holder.sealed]
    assert [secret for secret in secrets if secret in said] == []


# Keys


def test_the_root_key_is_named_by_the_keyring_and_reached_by_nobody(crm, cluster, database):
    root = bytes.fromhex((cluster.keys_dir / "main.key").read_text().strip())
    forms = {root.hex(), root.hex().upper(), base64.b64encode(root).decode().rstrip("=")}
    forms.add(base64.urlsafe_b64encode(root).decode().rstrip("="))
    settings = dict(
        database.execute(
            "SELECT name, concat_ws(' ', setting, boot_val, reset_val) FROM pg_settings"
        ).fetchall()
    )
    assert value(database, "SHOW fieldcrypt.keyring_file") == str(cluster.keyring)
    dump = cluster.run("pg_dump", database.name).stdout
    assert "fc1:" in dump
    for text in [*settings.values(), dump, cluster.keyring.read_text()]:
        assert not any(form in text for form in forms)
    assert not cluster.keyring.is_relative_to(cluster.data_dir)


def test_no_function_and_no_view_gives_a_key_out(crm, database, session):
    """What returns bytes returns tokens or envelopes; the wrapped keys are in a closed table."""
    functions = column(
        database,
        """
        SELECT DISTINCT proname FROM pg_proc
        WHERE pronamespace = 'fieldcrypt'::regnamespace
            AND (prorettype IN ('bytea'::regtype, 'fieldcrypt.account_key'::regtype,
                    'fieldcrypt.root_key'::regtype)
                OR EXISTS (SELECT FROM unnest(proallargtypes, proargmodes) AS a (type, mode)
                    WHERE type = 'bytea'::regtype AND mode <> 'i'))
        """,
    )
    kinds = "text bytea jsonb bigint numeric date timestamptz boolean uuid".split()
    sent = {f"encrypted_{kind}_send" for kind in kinds}
    # a plain value can be of type bytea
    assert set(functions) == {"blind_index", "token", "decrypt", "reveal"} | sent
    views = column(
        database,
        """
        SELECT c.relname || '.' || a.attname
        FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid
        WHERE c.relnamespace = 'fieldcrypt'::regnamespace AND c.relkind = 'v' AND a.attnum > 0
            AND (a.atttypid = 'bytea'::regtype OR a.attname = 'wrapped')
        """,
    )
    assert views == []
    for user in set(USERS) - {"midaz_owner"}:
        for table in "account_key", "root_key":
            with refused("42501"):
                session(user).execute(
                    sql.SQL("SELECT * FROM fieldcrypt.{}").format(sql.Identifier(table))
                )
