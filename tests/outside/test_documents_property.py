"""Random documents and random flagged paths: what is stored, what decrypts, and what is indexed.

A model in Python says which values of a document are flagged. It reads the documents as PostgreSQL
shows them in an unprotected jsonb column, numbers as text, so that no digit is lost on the way.
"""

import copy
import functools
import hashlib
import json
import operator
import os
import random
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass

import psycopg
import pytest
from expect import envelope_bytes

SEED = int(os.environ.get("FIELDCRYPT_TEST_SEED", "3"))
ACCOUNTS = ("acme", "globex")
SMALL_KINDS, SMALL_DOCUMENTS = 420, 50  # documents of each kind
LARGE_KINDS, LARGE_DOCUMENTS = 40, 10
CASES = SMALL_KINDS * SMALL_DOCUMENTS + LARGE_KINDS * LARGE_DOCUMENTS
LARGEST = 200_000  # characters of a document
HIDDEN = "********"
DEEPEST = 100  # containers in each other, and steps of a path


@dataclass(frozen=True)
class Field:
    name: str
    options: str
    searchable: bool = True
    only_digits: bool = False

    @property
    def id(self):
        """As docs/envelope.md derives it from the name."""
        parts = (b"fieldcrypt/1/field-id", self.name.encode())
        hashed = b"".join(len(part).to_bytes(4) + part for part in parts)
        return hashlib.sha256(hashed).digest()[:8]

    def has_token(self, text):
        if self.only_digits and text:
            return re.search("[0-9]", unicodedata.normalize("NFKC", text)) is not None
        return self.searchable


FIELDS = (
    Field("prop.exact", "search => '{exact}'"),
    Field("prop.folded", "search => '{exact}', normalizer => 'casefold', suite => 'aes-256-gcm'"),
    Field("prop.digits", "search => '{exact}', normalizer => 'digits'", only_digits=True),
    Field("prop.hidden", "padding => '64'", searchable=False),
    Field("prop.cbc", "suite => 'aes-256-cbc-hmac-sha512'", searchable=False),
)


# Documents: dict, list, str, bool, None, and numbers as text


class Number(str):
    """A number of a document, digit by digit."""


KEYS = (
    *("id", "name", "email", "phones", "number", "Contact", "x", "y_1", "a-b", "$ref", "two words"),
    *("", ".", "a.b", "[*]", "[0]", "*", 'quo"te', "back\\slash", "]", "fc1:", "'", "\t", " x "),
    *("ключ", "🙂", "é", "e\u0301", "\U0001f469\u200d\U0001f4bb", "k" * 300),
)
# no text of them begins like an envelope
WORDS = (
    *("", " ", "a", "A", "Ann", "ann@example.com", "ANN@Example.COM", "123-45-6789", "４２"),
    *("null", "true", "1.10", "fc", "fc1", "FC1:", "fc0:", "fcx:", " fc1:", "\\", '"', "\\u0041"),
    *("{}", "a\nb", "\t", "\u0001", "\u007f", "\u2028", "/", "Straße", "STRASSE", "ﬁ", "İ", "世界"),
    *("e\u0301", "é", "\U0001f600", "\U0010ffff", "\ufffe", "\ud7ff\ue000", "🏳️\u200d🌈"),
)
NUMBERS = (
    *("0", "-0", "-0.0", "0.000", "1", "1.10", "1.1", "100", "1E2", "1e+2", "-1.5e-30", "0.1e1"),
    *("1e400", "-1e400", "1e-400", "12345678901234567890123.45", "9007199254740993"),
    *("18446744073709551616", "1234567890123456789012345678901234567890", "3.14159265358979323846"),
)


def random_string(rng):
    if rng.random() < 0.7:
        return rng.choice(WORDS)
    return "".join(rng.choices(WORDS, k=rng.randint(1, 8)))


def random_number(rng):
    chance = rng.random()
    if chance < 0.5:
        return Number(rng.choice(NUMBERS))
    if chance < 0.8:
        return Number(rng.randint(-(10**6), 10**6))
    digits = "".join(rng.choices("0123456789", k=rng.randint(1, 60)))
    return Number(f"{rng.choice(('', '-'))}{rng.randint(1, 9)}{digits}.{digits[::-1]}")


def random_scalar(rng):
    chance = rng.random()
    if chance < 0.5:
        return random_string(rng)
    if chance < 0.8:
        return random_number(rng)
    return rng.choice((True, False, None))


def random_value(rng, depth):
    chance = rng.random()
    if depth == 0 or chance < 0.45:
        return random_scalar(rng)
    if chance < 0.75:
        return random_object(rng, depth, rng.randint(0, 5))
    return [random_value(rng, depth - 1) for _ in range(rng.randint(0, 4))]


def random_object(rng, depth, size):
    return {key: random_value(rng, depth - 1) for key in rng.choices(KEYS, k=size)}


def small_template(rng):
    if rng.random() < 0.1:
        return [random_value(rng, 3) for _ in range(rng.randint(1, 5))]
    return random_object(rng, 4, rng.randint(2, 8))


def large_template(rng):
    """Deep, or with many keys and elements, or with long strings and numbers."""
    shape = rng.choice(("deep", "wide", "long"))
    if shape == "deep":
        value = random_value(rng, 2)
        for _ in range(rng.randint(DEEPEST // 2, DEEPEST - 4)):
            if rng.random() < 0.3:
                value = [random_scalar(rng), value]
            else:
                value = {rng.choice(KEYS): random_scalar(rng), rng.choice(KEYS): value}
        return {"deep": value}
    if shape == "wide":
        size = rng.randint(65, 400)
        return {
            "keys": {f"key {i}": random_value(rng, 2) for i in range(size)},
            "elements": [random_value(rng, 2) for _ in range(size)],
            "objects": [{"id": Number(i), "name": random_string(rng)} for i in range(size)],
            **{f"k{i}": random_scalar(rng) for i in range(size)},
        }
    return {
        "text": "".join(rng.choices(WORDS, k=rng.randint(1000, 20_000))),
        "digits": Number("7" + "0123456789" * rng.randint(10, 3000)),
        "fraction": Number("0." + "9876543210" * rng.randint(10, 1000)),
        "list": [random_string(rng) * rng.randint(1, 200) for _ in range(30)],
        "rest": random_object(rng, 4, 8),
    }


def variant(value, rng, change=0.05):
    """The document with other values; here and there it has another shape as well."""
    chance = rng.random()
    if chance < change:
        return random_value(rng, 2)
    if chance < 2 * change:
        return [variant(value, rng, change)]
    if isinstance(value, dict):
        if chance < 2.5 * change:
            return {}
        return {key: variant(v, rng, change) for key, v in value.items() if rng.random() > change}
    if isinstance(value, list):
        if value and chance < 3 * change:
            return variant(value[0], rng, change)
        return [variant(element, rng, change) for element in value]
    if isinstance(value, str) and len(value) > 200:
        return value
    return random_scalar(rng) if rng.random() < 0.5 else value


def to_json(value, rng):
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        pairs = (f"{string_to_json(k, rng)}: {to_json(v, rng)}" for k, v in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(to_json(element, rng) for element in value) + "]"
    if isinstance(value, str):
        return string_to_json(value, rng)
    return {True: "true", False: "false", None: "null"}[value]


def string_to_json(text, rng):
    """Escaped in one of the ways in which clients do it."""
    escaped = json.dumps(text, ensure_ascii=rng.random() < 0.5)
    return escaped.replace("/", "\\/") if rng.random() < 0.2 else escaped


def from_json(text):
    return json.loads(text, parse_int=Number, parse_float=Number)


# Paths: keys, and EACH for every element of an array

EACH = object()


@dataclass(frozen=True)
class Flag:
    steps: tuple
    field: Field
    nulls: str

    @property
    def path(self):
        text = ""
        for step in self.steps:
            text += "[*]" if step is EACH else f".{path_key(step)}"
        return text.removeprefix(".")

    @property
    def keys(self):
        return tuple(step for step in self.steps if step is not EACH)


def path_key(key):
    if re.fullmatch(r"[\w$-]+( [\w$-]+)*", key, re.ASCII):
        return key
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def positions(value, steps=()):
    """The steps to everything in a document."""
    yield steps
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from positions(inner, (*steps, key))
    elif isinstance(value, list):
        for element in value:
            yield from positions(element, (*steps, EACH))


def random_steps(rng, known):
    """Mostly the steps to something in the document, or almost."""
    steps = list(rng.choice(known))
    if rng.random() < 0.15:
        steps.append(rng.choice(KEYS))
    if rng.random() < 0.15:  # a key step looks into arrays by itself
        steps = [step for step in steps if step is not EACH or rng.random() < 0.5]
    if rng.random() < 0.15:  # and a value that is no array counts as its only element
        steps.insert(rng.randint(0, len(steps)), EACH)
    return tuple(steps)


def random_flags(rng, template):
    """Flags of which none lies inside another's value."""
    known = list(positions(template))
    flags = []
    for _ in range(rng.randint(1, 6)):
        flag = Flag(random_steps(rng, known), rng.choice(FIELDS), rng.choice(("keep", "encrypt")))
        if not flag.keys or len(flag.steps) > DEEPEST:
            continue
        if not any(overlap(flag.keys, other.keys) for other in flags):
            flags.append(flag)
    return flags


def overlap(a, b):
    shorter = min(len(a), len(b))
    return a[:shorter] == b[:shorter]


# The model


def sealed_values(plain, stored, wanted):
    """Compares a stored document with the plain one; gives what is flagged: flag, value, envelope.

    `wanted` holds the flags that may lie in this value, each with the steps that are left.
    """
    if not isinstance(plain, list):
        wanted = [(without_each(steps), flag) for steps, flag in wanted]
    flag = next((flag for steps, flag in wanted if not steps), None)
    if flag is not None and (plain is not None or flag.nulls == "encrypt"):
        assert isinstance(stored, str) and stored.startswith("fc1:"), f"{flag.path} is plain"
        yield flag, plain, stored
        return
    assert type(plain) is type(stored), f"{plain!r:.200} became {stored!r:.200}"
    if isinstance(plain, dict):
        assert list(plain) == list(stored)
        for key, value in plain.items():
            inside = [(steps[1:], flag) for steps, flag in wanted if steps and steps[0] == key]
            yield from sealed_values(value, stored[key], inside)
    elif isinstance(plain, list):
        assert len(plain) == len(stored)
        inside = [(steps[1:] if steps[0] is EACH else steps, flag) for steps, flag in wanted]
        for value, stored_value in zip(plain, stored, strict=True):
            yield from sealed_values(value, stored_value, inside)
    else:
        assert plain == stored


def without_each(steps):
    """[*] takes a value that is no array for itself."""
    while steps and steps[0] is EACH:
        steps = steps[1:]
    return steps


def assert_envelope(flag, value, envelope):
    """Its header says the flag's field; a string is text, everything else JSON."""
    header = envelope_bytes(envelope[: 4 + 28])
    text, jsonb = 1, 3
    is_text = isinstance(value, str) and not isinstance(value, Number)
    assert header[3] == (text if is_text else jsonb), flag.path
    assert header[13:21] == flag.field.id, flag.path


def text_of(value):
    """A scalar as ->> shows it; None of others, which have no token."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str) else None


# The tests


@pytest.fixture
def app(db):
    """A session that may do all with all documents; the role `writer` may only write."""
    db.cluster.create_roles("writer")
    for field in FIELDS:
        db.execute(f"SELECT fieldcrypt.create_field('{field.name}', {field.options})")
    db.execute("""
        SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', 'prop.*');
        SELECT fieldcrypt.grant_access('writer', '{encrypt}', '*', 'prop.*');
        CREATE TABLE plain (id int PRIMARY KEY, account_id text, kind text, data jsonb);
        CREATE TABLE document (LIKE plain INCLUDING ALL);
        SELECT fieldcrypt.protect_jsonb('document', 'data', name => 'prop.document',
            account_column => 'account_id', kind_column => 'kind');
        GRANT ALL ON plain, document TO app, writer;
    """)
    with db.connect("app") as connection:
        yield connection


def random_kinds(rng, small, large):
    """For each kind its flags, and documents that resemble one another."""
    for number in range(small + large):
        large = number >= small
        template = large_template(rng) if large else small_template(rng)
        change = 0.005 if large else 0.05
        count = LARGE_DOCUMENTS if large else SMALL_DOCUMENTS
        documents = (to_json(variant(template, rng, change), rng) for _ in range(count))
        yield f"kind {number}", random_flags(rng, template), documents


def protect(connection, kind, flags, document="prop.document"):
    together = {}
    for flag in flags:
        together.setdefault((flag.field.name, flag.nulls), []).append(flag.path)
    for (field, nulls), paths in together.items():
        connection.execute(
            "SELECT fieldcrypt.protect_path(%s, %s, %s, kind => %s, nulls => %s)",
            [document, paths, field, kind, nulls],
        )


def fill(db, app, rng, small, large):
    """Flags paths of so many kinds, and writes their documents to both tables."""
    flags_of, rows = {}, []
    with db.conn.transaction():
        for kind, flags, documents in random_kinds(rng, small, large):
            flags_of[kind] = flags
            protect(db.conn, kind, flags)
            for text in documents:
                if len(text) <= LARGEST:
                    rows.append((len(rows), rng.choice(ACCOUNTS), kind, text))
    for table in "plain", "document":
        load(app, table, rows)
    return flags_of, rows


def load(connection, table, rows):
    with connection.cursor().copy(f"COPY {table} FROM STDIN") as stream:
        for row in rows:
            stream.write_row(row)


def expected_tokens(connection, wanted):
    """The tokens of (account, field, text), each asked for once, as tokens() shows them."""
    with connection.transaction():
        connection.execute(
            "CREATE TEMP TABLE wanted (account text, field text, value text) ON COMMIT DROP"
        )
        load(connection, "wanted", wanted)
        rows = connection.execute(
            "SELECT account, field, value, fieldcrypt.blind_index(value, field, account)"
            " FROM wanted"
        )
        return {tuple(key): int.from_bytes(token[:8], signed=True) for *key, token in rows}


def test_random_documents_and_paths(db, app):
    """20,000 documents and more: no flagged value is stored in plain, all others are as they were;
    decrypt() gives the input; tokens() are those of the flagged values."""
    rng = random.Random(SEED)
    flags_of, rows = fill(db, app, rng, SMALL_KINDS, LARGE_KINDS)
    cases, seen, checks = 0, Counter(), []
    with app.transaction(), app.cursor("stored") as cursor:
        cursor.itersize = 500
        cursor.execute("""
            SELECT id, account_id, kind, p.data::text, d.data::text,
                fieldcrypt.decrypt(d.data)::text = p.data::text, fieldcrypt.tokens(d.data)
            FROM plain AS p JOIN document AS d USING (id, account_id, kind)
        """)
        for number, account, kind, plain, stored, decrypts, tokens in cursor:
            flags = flags_of[kind]
            case = describe(number, kind, flags, plain)
            try:
                values = list(
                    sealed_values(
                        from_json(plain), from_json(stored), [(flag.steps, flag) for flag in flags]
                    )
                )
                for value in values:
                    assert_envelope(*value)
            except AssertionError as error:
                pytest.fail(f"{error}\n{case}\nstored: {stored:.2000}")
            assert decrypts, f"decrypt() differs\n{case}"
            searchable = {
                (account, flag.field.name, text)
                for flag, value, _ in values
                if (text := text_of(value)) is not None and flag.field.has_token(text)
            }
            checks.append((case, tokens, searchable))
            cases += 1
            seen["sealed"] += len(values)
            seen["without"] += not values
            seen["containers"] += sum(isinstance(value, dict | list) for _, value, _ in values)
            seen["nulls"] += sum(value is None for _, value, _ in values)
            seen["large"] += len(plain) > LARGEST // 4
    token_of = expected_tokens(app, set().union(*(searchable for *_, searchable in checks)))
    for case, tokens, searchable in checks:
        assert sorted(tokens) == sorted({token_of[key] for key in searchable}), case

    assert cases == len(rows) >= 20_000
    assert len(rows) > 0.99 * CASES
    # all of it came up
    assert seen["sealed"] > 2 * cases and seen["without"] > 100, seen
    assert min(seen["containers"], seen["nulls"]) > 500 and seen["large"] > 50, seen


def describe(number, kind, flags, plain):
    """How to see a case again: FIELDCRYPT_TEST_SEED sets the seed."""
    paths = ", ".join(f"{flag.path} ({flag.field.name}, {flag.nulls})" for flag in flags)
    return f"seed {SEED}, document {number} of {kind}, flagged: {paths}\nplain: {plain:.2000}"


def rearranged(shown, plain, rng):
    """The same changes to a document as a role sees it and to the plain one: keys that go, and in
    arrays without masked elements the order, and elements that go or come twice."""
    if isinstance(shown, dict) and isinstance(plain, dict):
        kept = [key for key in shown if rng.random() > 0.05]
        pairs = {key: rearranged(shown[key], plain[key], rng) for key in kept}
        return tuple({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
    if isinstance(shown, list) and isinstance(plain, list):
        pairs = [rearranged(*pair, rng) for pair in zip(shown, plain, strict=True)]
        if HIDDEN not in shown:
            rng.shuffle(pairs)
            times = rng.choices((0, 1, 2), (2, 20, 1), k=len(pairs))
            pairs = [pair for pair, time in zip(pairs, times, strict=True) for _ in range(time)]
        return tuple([pair[side] for pair in pairs] for side in (0, 1))
    return shown, plain


def test_masks_written_back_at_random(db, app):
    """A role that sees no value reads documents, rearranges them and writes them: each value stays
    with what was around it, or the write is refused and changes nothing."""
    rng = random.Random(SEED)
    flags_of, rows = fill(db, app, rng, 60, 0)
    outcomes = Counter()
    with db.connect("writer") as writer:
        documents = writer.execute("""
            SELECT id, fieldcrypt.reveal(d.data)::text, p.data::text
            FROM plain AS p JOIN document AS d USING (id, kind) ORDER BY id
        """).fetchall()
        assert len(documents) == len(rows) == 3000
        for number, shown, plain in documents:
            shown, plain = from_json(shown), from_json(plain)
            if rng.random() < 0.8:
                shown, plain = rearranged(shown, plain, rng)
            text = to_json(plain, rng)
            try:
                writer.execute(
                    "UPDATE document SET data = %s WHERE id = %s", [to_json(shown, rng), number]
                )
                app.execute("UPDATE plain SET data = %s WHERE id = %s", [text, number])
                outcomes["kept"] += 1
            except psycopg.errors.CheckViolation as error:
                assert "document" in str(error)
                outcomes["refused"] += 1
    mixed_up = app.execute("""
        SELECT id, kind, p.data::text, fieldcrypt.decrypt(d.data)::text
        FROM plain AS p JOIN document AS d USING (id, kind)
        WHERE fieldcrypt.decrypt(d.data)::text <> p.data::text LIMIT 1
    """).fetchall()
    for number, kind, plain, found in mixed_up:
        pytest.fail(f"{describe(number, kind, flags_of[kind], plain)}\nfound: {found:.2000}")
    assert outcomes["kept"] > 2000 and outcomes["refused"] > 10, outcomes


# Flagged keys gathered in a blob


class InArray(Exception):
    """A flagged value is inside an array, from where it is not gathered."""


def written(document, flags, before):
    """What an INSERT or UPDATE leaves of a document, and what it gathers: values by their keys.

    `before` is what was gathered in the old row: it stays where the new document says nothing.
    """
    rest, gathered = copy.deepcopy(document), {}
    for flag in flags:
        inside, left = rest, flag.keys
        while len(left) > 1 and isinstance(inside, dict) and left[0] in inside:
            inside, left = inside[left[0]], left[1:]
        if isinstance(inside, list) and holds(inside, left):
            raise InArray
        if not isinstance(inside, dict):
            continue  # it stands where an object with the flagged key was
        if left[0] not in inside:
            if flag.keys in before:
                gathered[flag.keys] = before[flag.keys]
        elif inside[left[0]] is not None:
            gathered[flag.keys] = inside.pop(left[0])
    return rest, gathered


def holds(value, keys):
    """Whether the keys lead to a value, also through arrays."""
    if not keys:
        return value is not None
    if isinstance(value, list):
        return any(holds(element, keys) for element in value)
    return isinstance(value, dict) and keys[0] in value and holds(value[keys[0]], keys[1:])


def merged(rest, gathered):
    """The whole document."""
    whole = copy.deepcopy(rest)
    for (*way, last), value in gathered.items():
        inside = whole
        for key in way:
            inside = inside.setdefault(key, {})
        inside[last] = value
    return whole


def write_versions(connection, rng, row, template, flags, outcomes):
    """Inserts a member and updates it; gives what is left of the last version, and gathered."""
    statement = "INSERT INTO member VALUES (%(id)s, %(account)s, %(kind)s, %(data)s)"
    latest = None
    for _ in range(4):
        document = variant(template, rng, 0.03)
        parameters = {**row, "data": to_json(document, rng)}
        try:
            version = written(document, flags, latest[1] if latest else {})
        except InArray:
            with pytest.raises(psycopg.errors.FeatureNotSupported):
                connection.execute(statement, parameters)
            outcomes["refused"] += 1
            continue
        connection.execute(statement, parameters)
        outcomes["written"] += 1
        latest = version
        statement = "UPDATE member SET data = %(data)s WHERE id = %(id)s"
    return latest


def test_random_blobs(db, app):
    """Documents whose flagged keys go to a blob: what is left, what comes back merged, and what an
    UPDATE keeps, replaces and removes."""
    db.execute("""
        SELECT fieldcrypt.create_field('prop.blob');
        CREATE TABLE rest (LIKE plain INCLUDING ALL);
        CREATE TABLE member (LIKE plain INCLUDING ALL,
            pii fieldcrypt.encrypted_jsonb('prop.blob'));
        SELECT fieldcrypt.protect_jsonb('member', 'data', 'prop.member', 'account_id', 'kind',
            blob_column => 'pii');
        GRANT ALL ON rest, member TO app;
    """)
    rng = random.Random(SEED)
    rests, wholes, flags_of, gathered_of = [], [], {}, {}
    outcomes = Counter()
    for number in range(1500):
        kind, account = f"kind {number // 10}", rng.choice(ACCOUNTS)
        if kind not in flags_of:
            template = random_object(rng, 4, rng.randint(3, 8))
            flags_of[kind] = [
                Flag(flag.steps, flag.field, "keep")
                for flag in random_flags(rng, template)
                if EACH not in flag.steps
            ]
            protect(db.conn, kind, flags_of[kind], "prop.member")
        row = {"id": number, "account": account, "kind": kind}
        if latest := write_versions(app, rng, row, template, flags_of[kind], outcomes):
            rest, gathered_of[number] = latest
            rests.append((*row.values(), to_json(rest, rng)))
            wholes.append((*row.values(), to_json(merged(rest, gathered_of[number]), rng)))
    load(app, "rest", rests)
    load(app, "plain", wholes)

    checks = []
    for number, account, kind, plain, found, decrypts, remains, tokens in app.execute("""
        SELECT id, account_id, kind, p.data::text, fieldcrypt.decrypt(m.data, pii)::text,
            fieldcrypt.decrypt(m.data, pii)::text = p.data::text,
            m.data::text = r.data::text, fieldcrypt.tokens(pii)
        FROM plain AS p JOIN member AS m USING (id, account_id, kind)
            JOIN rest AS r USING (id, account_id, kind)
    """):
        case = describe(number, kind, flags_of[kind], plain)
        assert decrypts, f"{case}\nfound: {found:.2000}"
        assert remains, case
        # the blob is NULL where nothing is gathered
        assert (tokens is None) == (not gathered_of[number]), case
        searchable = set()
        for flag in flags_of[kind]:
            if flag.keys in gathered_of[number]:
                text = text_of(functools.reduce(operator.getitem, flag.keys, from_json(plain)))
                if text is not None and flag.field.has_token(text):
                    searchable.add((account, flag.field.name, text))
        checks.append((case, tokens or [], searchable))
    token_of = expected_tokens(app, set().union(*(searchable for *_, searchable in checks)))
    for case, tokens, searchable in checks:
        assert sorted(tokens) == sorted({token_of[key] for key in searchable}), case
    assert len(checks) > 1400 and outcomes["written"] > 4500, outcomes
    assert outcomes["refused"] > 100 and len(token_of) > 150, (outcomes, len(token_of))
