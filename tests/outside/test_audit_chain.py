"""Nobody changes the audit unnoticed: its seals made a second time, and 1,000 tamperings."""

import random
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from itertools import cycle

import psycopg
import pytest
from audit_chain import (
    COLUMNS,
    EPOCH,
    FIRST,
    LONGEST,
    NUMBERS,
    RECORD,
    TIMES,
    audit_key,
    batch_seal,
    batches,
    decode,
    encode,
    events,
    findings,
    frame,
    insert,
    is_whole,
    item,
    lp,
    make_batch,
    mark,
    months_ago,
    pack,
    put_mark,
    tag,
    unpack,
    write_past,
)
from expect import LEADS, refused
from harness import Cluster, account_database
from psycopg import sql

TEXTS = tuple(column for column in RECORD if column not in (*TIMES, *NUMBERS, "entities"))
# The first and last number of eight bytes.
ENDS = (-(1 << 63), (1 << 63) - 1)

# What the application says of itself, in letters that are hard to get right.
ACTORS = [
    ("u-17", "Anna Müller", "192.0.2.7", "show"),
    ("", "NULL", "", "\\x00 '\"{}[],"),
    ("李", "Zoë 🦊\n\t", "2001:db8::1", "𝒳" * 50),
    ("17", None, None, None),
]


class Trail:
    """A database with an audit of every kind, that the tamperings start from."""

    def __init__(self, database):
        self.database, self.conn = database, database.conn
        self.key_id, self.key = audit_key(database)
        self.heads = [self.marks("audit_head")]
        assert database.value("SELECT fieldcrypt.drop_audit(%s)", [months_ago(3)]) == 12
        self.starts = [self.marks("audit_start")]
        use(database, self.save_head)
        assert database.value("SELECT fieldcrypt.drop_audit(%s)", [months_ago(2)]) == 12
        self.start = self.marks("audit_start")
        use(database, self.save_head)
        database.execute("SELECT fieldcrypt.flush_audit()")
        self.batches = batches(self.conn)
        self.packed = {unpack(batch["events"]): batch["events"] for batch in self.batches}
        self.head = self.marks("audit_head")
        self.other_keys = [
            key
            for (key,) in database.execute(
                "SELECT key_id FROM fieldcrypt.account_key WHERE purpose <> 'audit'"
            )
        ]

    def marks(self, table):
        row = self.conn.execute(f"SELECT seq, seal, key_id, tag FROM fieldcrypt.{table}").fetchone()
        return dict(zip(("seq", "seal", "key_id", "tag"), row, strict=True))

    def save_head(self):
        self.conn.execute("SELECT fieldcrypt.flush_audit()")
        self.heads.append(self.marks("audit_head"))

    def state(self):
        """All that is there, as text."""
        tables = ("audit_batch", "audit_head", "audit_start")
        queries = [f"SELECT t::text FROM fieldcrypt.{table} AS t ORDER BY 1" for table in tables]
        return [self.conn.execute(query).fetchall() for query in queries]

    def opened(self):
        """The batches with their events decoded, to be changed."""
        return [{**batch, "events": decode(batch["events"])} for batch in self.batches]

    def encode(self, records):
        """What was not changed keeps its bytes, so that nothing else gives a tampering away."""
        framed = frame(records)
        return self.packed.get(framed) or pack(framed)

    def put(self, rows):
        """Replaces the batches by others."""
        new = [row for i, row in enumerate(rows) if row not in self.batches or row in rows[:i]]
        gone = [batch["first_seq"] for batch in self.batches if batch not in rows]
        self.conn.execute("DELETE FROM fieldcrypt.audit_batch WHERE first_seq = ANY (%s)", [gone])
        # what a superuser does first who wants rows that the table does not take
        keys = [(row["first_seq"], row["sealed_at"]) for row in rows]
        nulls = {column for row in new for column in COLUMNS if row[column] is None}
        if nulls or len(set(keys)) < len(keys):
            self.conn.execute(
                "ALTER TABLE fieldcrypt.audit_batch DROP CONSTRAINT audit_batch_pkey"
                + "".join(f", ALTER {column} DROP NOT NULL" for column in sorted(nulls))
            )
        times = {row["sealed_at"] for row in new}
        if not all(isinstance(at, datetime) and at >= months_ago(2) for at in times):
            self.conn.execute(
                "CREATE TABLE fieldcrypt.audit_rest PARTITION OF fieldcrypt.audit_batch DEFAULT"
            )
        if new:
            insert(self.conn, "audit_batch", new)

    def put_one(self, old, /, **values):
        """Changes columns of a batch."""
        self.put([{**batch, **values} if batch is old else batch for batch in self.batches])

    def put_opened(self, rng, opened):
        """Replaces the batches by these, whose events were changed: numbered and sealed, with a
        head, as can be done without the key."""
        numbers = rng.choice(["old", "own", "all"])
        rows, seq = [], self.start["seq"]
        for batch in opened:
            count = len(batch["events"])
            first = seq + 1 if numbers == "all" else batch["first_seq"]
            last = batch["last_seq"] if numbers == "old" else first + count - 1
            seq = first + count - 1
            numbered = {**batch, "first_seq": first, "last_seq": last}
            rows.append({**numbered, "events": self.encode(batch["events"])})
        end = self.head
        if rng.random() < 0.6:
            first = next((i for i, row in enumerate(rows) if row not in self.batches), 0)
            last = rng.choice([first + 1, len(rows), len(rows)])
            previous = rows[first - 1]["seal"] if first else self.start["seal"]
            key, key_id = self.forged_key(rng)
            seal_anew(rows[first:last], previous, key, key_id)
            end = mark(key, key_id, "audit-head", rows[-1]["last_seq"], rows[-1]["seal"])
        elif rows:
            end = {**end, "seq": rows[-1]["last_seq"]}
        self.put(rows)
        if rng.random() < 0.7:
            put_mark(self.conn, "audit_head", end)

    def forged_key(self, rng):
        """What everybody can seal with: no key, or one that nobody else has."""
        return rng.choice([
            *((None, 0), (None, 0), (rng.randbytes(32), self.key_id)),
            (rng.randbytes(32), rng.choice(self.other_keys)),
        ])  # fmt: skip


def seal_anew(rows, previous, key, key_id):
    for row in rows:
        row["key_id"] = key_id
        previous = row["seal"] = batch_seal(key, previous, row)


def use(database, pause):
    """Makes events of every kind."""
    superuser = database.conn
    superuser.execute("SELECT fieldcrypt.grant_access('outsider', '{mask}', 'acme', 'lead.ssn')")
    for user in ("app", "outsider", "app_globex"):
        options = f"-c fieldcrypt.account=acme -c application_name=test_{user}"
        with database.connect(user, options=options) as session:
            for actor in ACTORS:
                with session.transaction():
                    session.execute("SELECT fieldcrypt.set_actor(%s, %s, %s, %s)", actor)
                    session.execute(
                        "SELECT fieldcrypt.reveal(ssn, id || ' ' || %s),"
                        " fieldcrypt.reveal(email) FROM lead",
                        [actor[0]],
                    )
            with refused("42501") if user != "app" else session.transaction():
                session.execute("SELECT fieldcrypt.decrypt(ssn, '') FROM lead WHERE id < 4")
        pause()
    with superuser.transaction(force_rollback=True):
        superuser.execute("SELECT fieldcrypt.create_account('never')")
    superuser.execute("SELECT fieldcrypt.revoke_access('outsider', '{mask}', 'acme', 'lead.ssn')")
    superuser.execute("UPDATE fieldcrypt.field SET label = 'by hand' WHERE name = 'lead.ssn'")
    pause()


@pytest.fixture(scope="module")
def own():
    """A server whose audit is off at first, so that a past can be written."""
    with Cluster({"fieldcrypt.audit": "off"}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def databases(own):
    """A database with four months of a past, and one with more than one page of events."""
    with account_database(own) as trail, account_database(own) as long:
        for database in trail, long:
            database.execute(LEADS)
            with database.connect("app", options="-c fieldcrypt.account=acme") as app:
                app.execute(
                    "INSERT INTO lead (ssn, email) SELECT '123-45-' || i, i || '@b.example'"
                    " FROM generate_series(1001, 1006) AS i"
                )
        write_past(trail, 4, 12)
        write_past(long, 1, 11_000, sizes=[10])
        for database in trail, long:
            database.conn.close()
        own.settings["fieldcrypt.audit"] = "on"
        own.restart()
        for database in trail, long:
            database.conn = database.connect()
        yield trail, long


@pytest.fixture(scope="module")
def trail(databases):
    return Trail(databases[0])


# The second implementation


def test_known_answer():
    """The same batch and seals as in core/src/audit.rs."""
    key = bytes([7]) * 32
    record = b"\1" + b"\xff" * 8 + b"\0" + b"\2\0\0\0\x08lead.ssn"
    record += b"\3\0\0\0\2\0\0\0\7user:42\0\0\0\7user:43"
    batch = {
        **{"first_seq": 1, "last_seq": 1, "sealed_at": EPOCH + timedelta(microseconds=3)},
        **{"key_id": 4, "events": len(record).to_bytes(4, "big") + record},
    }
    seal = batch_seal(key, FIRST, batch)
    assert seal.hex() == "bfcce11c8d9f35534de1a98156b65970ecc540514147c85cd1b6d0f2a251e93a"
    head = "228325a2778629ea3fb409d496c60c1d53e93a3111a1770f6928e623800bba0e"
    assert tag(key, "audit-head", 1, seal).hex() == head


def test_second_implementation(trail):
    """Every batch, seal and tag of a trail is what docs/audit.md says, of every kind of event."""
    seq, seal = trail.start["seq"], trail.start["seal"]
    for batch in trail.batches:
        records = decode(batch["events"])
        assert unpack(batch["events"]) == frame(records)
        made = make_batch(trail.key, trail.key_id, seq, seal, batch["sealed_at"], records)
        # not all implementations of LZ4 make the same bytes
        made["events"] = batch["events"]
        made["seal"] = batch_seal(trail.key, seal, made)
        assert batch == made
        seq, seal = batch["last_seq"], batch["seal"]
    assert trail.head == mark(trail.key, trail.key_id, "audit-head", seq, seal)
    assert trail.start == mark(
        trail.key, trail.key_id, "audit-start", trail.start["seq"], trail.start["seal"]
    )
    exported = trail.database.value("SELECT fieldcrypt.audit_head()")
    assert exported == f"fca1:{seq}:{seal.hex()}"
    # the trail is one that tells something
    rows = events(trail.conn)
    kinds = {(row["action"], row["outcome"]) for row in rows}
    assert kinds >= {
        *(("reveal", "plain"), ("reveal", "masked"), ("reveal", "hidden"), ("decrypt", "plain")),
        *(("decrypt", "denied"), ("create_account", "rolled back"), ("grant_access", "done")),
        *(("revoke_access", "done"), ("change", "done"), ("drop_audit", "done")),
    }
    actors = {(row["actor_id"], row["actor_name"], row["actor_address"]) for row in rows}
    assert ("李", "Zoë 🦊\n\t", "2001:db8::1") in actors
    assert {len(row["entities"]) for row in rows if row["entities"]} >= {1, 6}
    assert {row["client_address"] for row in rows} == {None}
    # batches of the past, and of the worker
    written = [len(b["events"]) for b in trail.opened() if b["first_seq"] > trail.heads[0]["seq"]]
    assert sum(size > 1 for size in written) >= 4
    assert len(trail.batches) - len(written) == 8


def test_the_view(trail):
    """It shows what the batches hold."""
    columns = ("seq", *RECORD, "sealed_at")
    query = sql.SQL("SELECT {} FROM fieldcrypt.audit ORDER BY seq").format(
        sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    shown = [dict(zip(columns, row, strict=True)) for row in trail.conn.execute(query)]
    assert shown == events(trail.conn)
    described = trail.conn.execute("SELECT * FROM fieldcrypt.audit LIMIT 0").description
    assert tuple(column.name for column in described) == columns


def not_events(records):
    """Bytes that are no events, made of some that are."""
    good = encode(records)
    yield from (b"", good[:3], good[:4], good[:-1], good + b"\0", good[4:])
    length = int.from_bytes(good[:4], "little")
    for other in (0, length - 1, length + 1, LONGEST + 1, (1 << 32) - 1):
        yield other.to_bytes(4, "little") + good[4:]
    yield pack(bytes(LONGEST + 1))
    yield from map(pack, not_records(records))


def not_records(records):
    good = frame(records)
    items = [item(records[0][column]) for column in RECORD]

    def with_item(column, new):
        changed = list(items)
        changed[RECORD.index(column)] = new
        return lp(b"".join(changed))

    yield from (good[:-1], good + b"\0", good + lp(b""), b"\0", b"\xff" * 4, good[4:])
    yield (1 << 31).to_bytes(4, "big") + good[4:]
    yield lp(b"".join(items[:-1]))
    yield lp(b"".join([*items, b"\0"]))
    for column in RECORD:
        yield from (with_item(column, bytes([kind]) + bytes(12)) for kind in (4, 255))
    # another kind of value than the column's
    yield from (with_item(column, item("x")) for column in (*TIMES, *NUMBERS, "entities"))
    yield from (with_item(column, item(1)) for column in (*TEXTS, "entities"))
    yield from (with_item(column, item(["x"])) for column in (*TEXTS, *TIMES, *NUMBERS))
    yield from (with_item(column, item(None)) for column in ("at", "action", "outcome"))
    yield from (with_item(column, item(None)) for column in ("pid", "statement_at", "id"))
    # numbers beyond what a column can hold, lengths beyond the end, and no text
    yield from (with_item(column, item(time)) for column in TIMES for time in ENDS)
    for column in TEXTS:
        yield from (with_item(column, b"\2" + lp(text)) for text in (b"\xff", b"\xc3", b"a\0b"))
        yield with_item(column, b"\2\xff\xff\xff\xffx")
    for content in (b"\0\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\1" + lp(b"\xff")):
        yield with_item("entities", b"\3" + content)


def test_the_view_of_what_are_no_events(trail):
    """It says so, rather than to leave something out; and verify_audit() tells where."""
    batch = next(b for b in trail.batches if b["last_seq"] > b["first_seq"])
    first, last = batch["first_seq"], batch["last_seq"]
    tried = 0
    for made in not_events(decode(batch["events"])):
        with pytest.raises(ValueError):
            decode(made)
        with trail.conn.transaction(force_rollback=True):
            trail.put_one(batch, events=made)
            assert (False, first, last, "events were changed") in findings(trail.conn)
            with refused("XX001"):
                trail.conn.execute("SELECT * FROM fieldcrypt.audit")
                pytest.fail(f"it shows {made}")
        tried += 1
    assert tried > 150


def test_the_view_of_anything(trail):
    """Bytes at random are shown as the second implementation decodes them, or as no events."""
    rng = random.Random("fieldcrypt batches")
    query = sql.SQL("SELECT {} FROM fieldcrypt.audit WHERE seq >= %s ORDER BY seq").format(
        sql.SQL(", ").join(map(sql.Identifier, RECORD))
    )
    seen = Counter()
    for _ in range(400):
        batch = rng.choice(trail.batches)
        made = bytearray(unpack(batch["events"]))
        for _ in range(rng.randrange(1, 3)):
            made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
        made = pack(made)
        with trail.conn.transaction(force_rollback=True):
            trail.put_one(batch, events=made)
            try:
                expected = decode(made)
            except ValueError:
                expected = None
                with refused("XX001"):
                    trail.conn.execute(query, [batch["first_seq"]])
            else:
                shown = trail.conn.execute(query, [batch["first_seq"]]).fetchmany(len(expected))
                assert [dict(zip(RECORD, row, strict=True)) for row in shown] == expected
        seen[expected is None] += 1
    assert min(seen[True], seen[False]) > 50, seen


# The tamperings. Each is random, and leaves the tables as they are if it can do nothing.

KINDS = []


def tampering(function):
    KINDS.append(function)
    return function


def other_value(rng, trail, column, value):
    """For an item of an event: also what no event can have."""
    if column in NUMBERS:
        return other_number(rng, value)
    if column in TIMES:
        return rng.choice([*moved(rng, value), *ENDS, None])
    return other_list(rng, value) if column == "entities" else other_text(rng, trail, column, value)


def other_text(rng, trail, column, value):
    others = {row[column] for batch in trail.opened() for row in batch["events"] if row[column]}
    made = [(value or "") + " ", (value or "x").swapcase(), (value or "x")[:-1], "forged", "", None]
    return rng.choice(made + sorted(others)[:20])


def other_number(rng, value):
    value = value or 0
    others = [value + 1, value - 1, -value, 0, None, rng.getrandbits(62), *ENDS]
    return rng.choice([other for other in others if other is None or ENDS[0] <= other <= ENDS[1]])


def moved(rng, time):
    """Times a little, a month and years away."""
    little = timedelta(microseconds=rng.choice([-1, 1, rng.randrange(-900, 900)]))
    return [time + little, time + little, time - timedelta(days=30), time - timedelta(days=4000)]


def other_list(rng, value):
    value = value or []
    return rng.choice([
        *([], None, [*value, "forged"], value[1:], value[::-1], ["".join(value)], [*value, ""]),
        *([",".join(value)], [*value, *value], [text + " " for text in value], "".join(value)),
    ])  # fmt: skip


def other_bytes(rng, others, value):
    flipped = bytearray(value)
    for _ in range(rng.choice([1, 1, 1, 3])):
        flipped[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    return rng.choice([
        *(bytes(flipped), bytes(flipped), rng.choice(others), value[:-1], value + b"\0", b""),
        *(value[: rng.randrange(len(value))], value * 2, FIRST, rng.randbytes(len(value))),
    ])  # fmt: skip


def other_column(rng, trail, batch, column):
    """For a column of a batch."""
    if column == "sealed_at":
        return rng.choice([*moved(rng, batch["sealed_at"]), "infinity", "-infinity", None])
    if column in ("seal", "events"):
        others = [other[column] for other in trail.batches]
        return rng.choice([other_bytes(rng, others, batch[column]), None])
    number = other_number(rng, batch[column])
    # no batch is one without its first number
    return 0 if number is None and column == "first_seq" else number


def forged(rng, trail, first, count):
    """A batch of events that never were, made of some that were."""
    row = rng.choice(trail.batches)
    records = [{**rng.choice(decode(row["events"])), "actor_id": "forged"} for _ in range(count)]
    return {
        **trail.batches[-1], **{"first_seq": first, "last_seq": first + count - 1},
        **{"seal": rng.randbytes(32), "events": encode(records)},
    }  # fmt: skip


def neighbours(rng, rows):
    i = rng.randrange(len(rows) - 1)
    return i, i + 1


# Inside of batches


@tampering
def change_a_value(rng, trail):
    opened = trail.opened()
    event, column = rng.choice(rng.choice(opened)["events"]), rng.choice(RECORD)
    event[column] = other_value(rng, trail, column, event[column])
    trail.put_opened(rng, opened)


@tampering
def change_a_text(rng, trail):
    opened = trail.opened()
    event, column = rng.choice(rng.choice(opened)["events"]), rng.choice(TEXTS)
    event[column] = other_text(rng, trail, column, event[column])
    trail.put_opened(rng, opened)


@tampering
def swap_null_and_empty(rng, trail):
    opened = trail.opened()
    event, column = rng.choice(rng.choice(opened)["events"]), rng.choice([*TEXTS, "entities"])
    empty = [] if column == "entities" else ""
    event[column] = empty if event[column] is None else None
    trail.put_opened(rng, opened)


@tampering
def move_text(rng, trail):
    """From the end of one column to the start of the next: the bytes stay in their order."""
    opened = trail.opened()
    event, index = rng.choice(rng.choice(opened)["events"]), rng.randrange(len(TEXTS) - 1)
    left, right = TEXTS[index : index + 2]
    text = event[left] or ""
    cut = rng.randrange(len(text) + 1)
    event[left], event[right] = text[:cut], text[cut:] + (event[right] or "")
    trail.put_opened(rng, opened)


@tampering
def move_entities(rng, trail):
    """Where one ends and the next begins, and their order."""
    opened = trail.opened()
    event = rng.choice([row for batch in opened for row in batch["events"] if row["entities"]])
    first, *others = event["entities"]
    if not others or rng.random() < 0.3:
        event["entities"] = [first[:1], first[1:], *others]
    elif rng.random() < 0.5:
        second, *others = others
        event["entities"] = [first + second[:1], second[1:], *others]
    else:
        event["entities"] = [*others, first]
    trail.put_opened(rng, opened)


@tampering
def change_many(rng, trail):
    opened, every = trail.opened(), rng.randrange(1, 5)
    column = rng.choice(("session_role", "actor_id", "account"))
    for batch in opened:
        for seq, event in enumerate(batch["events"], batch["first_seq"]):
            if seq % every == 0:
                event[column] = "somebody"
    trail.put_opened(rng, opened)


@tampering
def delete_events(rng, trail):
    """One, or some."""
    opened = trail.opened()
    for _ in range(rng.choice([1, 1, 1, rng.randrange(2, 9)])):
        batch = rng.choice([opened[0], opened[-1], rng.choice(opened)])["events"]
        if batch:
            del batch[rng.choice([0, -1, rng.randrange(len(batch))])]
    trail.put_opened(rng, opened)


@tampering
def delete_what_tells(rng, trail):
    opened = trail.opened()
    column, value = rng.choice([
        *(("session_role", "app"), ("outcome", "denied"), ("action", "drop_audit")),
        *(("actor_id", "u-17"), ("account", "acme"), ("action", "change")),
    ])  # fmt: skip
    for batch in opened:
        batch["events"] = [event for event in batch["events"] if event[column] != value]
    trail.put_opened(rng, opened)


@tampering
def repeat_an_event(rng, trail):
    opened = trail.opened()
    batch = rng.choice(opened)["events"]
    rng.choice([batch, rng.choice(opened)["events"]]).append(rng.choice(batch))
    trail.put_opened(rng, opened)


@tampering
def insert_an_event(rng, trail):
    opened = trail.opened()
    event = {**rng.choice(rng.choice(opened)["events"]), "actor_id": "forged"}
    batch = rng.choice([opened[0], opened[-1], rng.choice(opened)])["events"]
    batch.insert(rng.choice([0, len(batch), rng.randrange(len(batch))]), event)
    trail.put_opened(rng, opened)


@tampering
def reorder_events(rng, trail):
    """In a batch, or between two."""
    opened = trail.opened()
    one, other = rng.choice(opened)["events"], rng.choice(opened)["events"]
    if rng.random() < 0.5:
        rng.shuffle(one)
    else:
        i, j = rng.randrange(len(one)), rng.randrange(len(other))
        one[i], other[j] = other[j], one[i]
    trail.put_opened(rng, opened)


@tampering
def move_an_event(rng, trail):
    """From the end of a batch to the start of the next, or the other way round."""
    opened = trail.opened()
    left, right = (opened[i]["events"] for i in neighbours(rng, opened))
    if rng.random() < 0.5:
        right.insert(0, left.pop())
    else:
        left.append(right.pop(0))
    trail.put_opened(rng, opened)


@tampering
def merge_batches(rng, trail):
    """With the seal of the first or the last of the two."""
    opened = trail.opened()
    i, j = neighbours(rng, opened)
    merged = {**opened[i], "events": opened[i]["events"] + opened[j]["events"]}
    if rng.random() < 0.7:
        merged["seal"] = opened[j]["seal"]
    if rng.random() < 0.7:
        merged["last_seq"] = opened[j]["last_seq"]
    opened[i : j + 1] = [merged]
    trail.put_opened(rng, opened)


@tampering
def split_a_batch(rng, trail):
    """The second part has the seal of the whole."""
    opened = trail.opened()
    i = rng.choice([i for i, batch in enumerate(opened) if len(batch["events"]) > 1])
    batch = opened[i]
    cut = rng.randrange(1, len(batch["events"]))
    middle = batch["first_seq"] + cut
    first = {**batch, "last_seq": middle - 1, "events": batch["events"][:cut]}
    first["seal"] = rng.choice([batch["seal"], rng.randbytes(32), opened[i - 1]["seal"]])
    opened[i : i + 1] = [first, {**batch, "first_seq": middle, "events": batch["events"][cut:]}]
    trail.put_opened(rng, opened)


# Batches


@tampering
def change_a_column(rng, trail):
    batch, column = rng.choice(trail.batches), rng.choice(COLUMNS)
    trail.put_one(batch, **{column: other_column(rng, trail, batch, column)})


@tampering
def change_bytes(rng, trail):
    batch, column = rng.choice(trail.batches), rng.choice(("events", "events", "seal"))
    others = [other[column] for other in trail.batches]
    trail.put_one(batch, **{column: other_bytes(rng, others, batch[column])})


@tampering
def change_a_key(rng, trail):
    """To none, to that of another purpose or account, or to one that does not exist."""
    batch = rng.choice(trail.batches)
    trail.put_one(batch, key_id=rng.choice([0, -1, rng.getrandbits(62), *trail.other_keys]))


@tampering
def change_numbers(rng, trail):
    """The first, the last, or both; also to some that other batches have."""
    batch, other = rng.choice(trail.batches), rng.choice(trail.batches)
    columns = rng.choice([["first_seq"], ["last_seq"], ["first_seq", "last_seq"]])
    by = rng.choice([1, -1, 1000, other["first_seq"] - batch["first_seq"], None])
    numbers = [0, -1, 1, rng.getrandbits(62), *ENDS]
    trail.put_one(
        batch, **{column: batch[column] + by if by else rng.choice(numbers) for column in columns}
    )


@tampering
def move_a_boundary(rng, trail):
    """Between two batches, in their numbers alone."""
    rows = [dict(batch) for batch in trail.batches]
    left, right = (rows[i] for i in neighbours(rng, rows))
    by = rng.choice([1, -1, rng.randrange(-5, 6)])
    left["last_seq"] += by
    right["first_seq"] += by
    trail.put(rows)


@tampering
def delete_one(rng, trail):
    index = rng.choice([0, len(trail.batches) - 1, rng.randrange(1, len(trail.batches) - 1)])
    trail.put(trail.batches[:index] + trail.batches[index + 1 :])


@tampering
def delete_some(rng, trail):
    chosen = rng.sample(range(len(trail.batches)), rng.randrange(2, 9))
    trail.put([batch for i, batch in enumerate(trail.batches) if i not in chosen])


@tampering
def delete_a_range(rng, trail):
    first, last = sorted(rng.sample(range(len(trail.batches)), 2))
    inside = trail.batches[first : last + 1]
    outside = trail.batches[:first] + trail.batches[last + 1 :]
    trail.put(rng.choice([inside, outside]))


def shift(rows, by):
    return [
        {**row, "first_seq": row["first_seq"] + by, "last_seq": row["last_seq"] + by}
        for row in rows
    ]


@tampering
def delete_and_renumber(rng, trail):
    i = rng.randrange(len(trail.batches) - 1)
    gone = trail.batches[i]
    size = gone["last_seq"] - gone["first_seq"] + 1
    trail.put(trail.batches[:i] + shift(trail.batches[i + 1 :], -size))
    if rng.random() < 0.5:
        trail.conn.execute("UPDATE fieldcrypt.audit_head SET seq = seq - %s", [size])


@tampering
def swap_content(rng, trail):
    """All but the numbers, with or without the seals."""
    one, other = rng.sample(range(len(trail.batches)), 2)
    kept = ("first_seq", "last_seq", *rng.choice([[], ["seal"]]))
    rows = list(trail.batches)
    for i, j in (one, other), (other, one):
        number = {column: trail.batches[i][column] for column in kept}
        rows[i] = {**trail.batches[j], **number}
    trail.put(rows)


@tampering
def shuffle(rng, trail):
    """The order of some neighbours, whose numbers follow it."""
    start = rng.randrange(len(trail.batches) - 5)
    rows, seq = [], trail.batches[start]["first_seq"]
    for row in rng.sample(trail.batches[start : start + 5], 5):
        last = seq + row["last_seq"] - row["first_seq"]
        rows.append({**row, "first_seq": seq, "last_seq": last})
        seq = last + 1
    trail.put(trail.batches[:start] + rows + trail.batches[start + 5 :])


@tampering
def repeat_a_row(rng, trail):
    """The same numbers once more, with the same or another time, and perhaps other events."""
    row = dict(rng.choice(trail.batches))
    if rng.random() < 0.5:
        row["sealed_at"] += timedelta(microseconds=1)
    if rng.random() < 0.5:
        row["events"] = encode([{**event, "actor_id": "x"} for event in decode(row["events"])])
    trail.put([*trail.batches, row])


@tampering
def insert_at_the_end(rng, trail):
    last = trail.batches[-1]["last_seq"]
    row = forged(rng, trail, last + rng.choice([1, 1, 2, 50, 1 << 40]), rng.choice([0, 1, 1, 3]))
    if rng.random() < 0.5:
        seal_anew([row], trail.head["seal"], *trail.forged_key(rng))
    trail.put([*trail.batches, row])
    if rng.random() < 0.5:
        trail.conn.execute(
            "UPDATE fieldcrypt.audit_head SET seq = %s, seal = %s", [row["last_seq"], row["seal"]]
        )


@tampering
def insert_in_the_middle(rng, trail):
    """And move the numbers of those after it, or not."""
    i, count = rng.randrange(1, len(trail.batches)), rng.choice([0, 1, 1, 3])
    row = forged(rng, trail, trail.batches[i]["first_seq"], count)
    row["sealed_at"] = trail.batches[i]["sealed_at"] + timedelta(microseconds=1)
    if rng.random() < 0.5:
        seal_anew([row], trail.batches[i - 1]["seal"], *trail.forged_key(rng))
    by = rng.choice([count, count, 0])
    trail.put([*trail.batches[:i], row, *shift(trail.batches[i:], by)])
    if rng.random() < 0.5:
        trail.conn.execute("UPDATE fieldcrypt.audit_head SET seq = seq + %s", [by])


@tampering
def insert_into_a_batch(rng, trail):
    """Where no first number is missing: between the first and the last of one that is there."""
    batch = rng.choice([row for row in trail.batches if row["last_seq"] > row["first_seq"]])
    first = rng.randint(batch["first_seq"] + 1, batch["last_seq"])
    row = forged(rng, trail, first, rng.choice([0, 1, 3]))
    if rng.random() < 0.5:
        row["last_seq"] = rng.choice([batch["last_seq"], trail.head["seq"], ENDS[1]])
    trail.put([*trail.batches, row])


@tampering
def insert_before_the_start(rng, trail):
    """Where nothing is missing: below what was dropped, and below one."""
    start = trail.start["seq"]
    row = forged(rng, trail, rng.choice([0, -1, ENDS[0], 1, start, rng.randint(1, start)]), 1)
    row["last_seq"] = rng.choice([row["first_seq"], start, trail.head["seq"], *ENDS])
    trail.put([*trail.batches, row])


@tampering
def copy_an_older_row(rng, trail):
    """Over a newer one: nothing but the numbers is forged."""
    older, newer = sorted(rng.sample(range(len(trail.batches)), 2))
    numbers = {column: trail.batches[newer][column] for column in ("first_seq", "last_seq")}
    trail.put_one(trail.batches[newer], **{**trail.batches[older], **numbers})


@tampering
def truncate(rng, trail):
    """Events, and perhaps all that says that there were some."""
    trail.conn.execute("TRUNCATE fieldcrypt.audit_batch")
    for table in rng.sample(["audit_head", "audit_start"], rng.randrange(3)):
        trail.conn.execute(f"TRUNCATE fieldcrypt.{table}")


@tampering
def take_a_partition(rng, trail):
    """A month, by DETACH, TRUNCATE or DROP by hand."""
    name = months_ago(rng.randrange(3)).strftime("fieldcrypt.audit_%Y_%m")
    for statement in rng.choice([
        [f"ALTER TABLE fieldcrypt.audit_batch DETACH PARTITION {name}"],
        [f"TRUNCATE {name}"],
        [f"ALTER EXTENSION fieldcrypt DROP TABLE {name}", f"DROP TABLE {name}"],
    ]):  # fmt: skip
        trail.conn.execute(statement)


# Head and start


@tampering
def change_the_head(rng, trail):
    head = dict(trail.head)
    column = rng.choice(list(head))
    if column == "seq":
        head["seq"] = rng.choice([0, -1, head["seq"] - 1, head["seq"] + 1, ENDS[1]])
    elif column == "key_id":
        head["key_id"] = rng.choice([0, -1, rng.getrandbits(62), *trail.other_keys])
    else:
        others = [other[column] for other in trail.heads]
        head[column] = other_bytes(rng, others, head[column])
    put_mark(trail.conn, "audit_head", head)


@tampering
def put_an_older_head(rng, trail):
    """With all batches, or without those that came after it."""
    head = rng.choice(trail.heads[1:-1])
    put_mark(trail.conn, "audit_head", head)
    if rng.random() < 0.6:
        trail.put([batch for batch in trail.batches if batch["last_seq"] <= head["seq"]])


@tampering
def put_a_head_without_a_key(rng, trail):
    """Of the end, or of a batch before which is then the last."""
    i = rng.choice([len(trail.batches) - 1, rng.randrange(len(trail.batches))])
    last = trail.batches[i]
    trail.put(trail.batches[: i + 1])
    head = mark(None, 0, "audit-head", last["last_seq"], last["seal"])
    put_mark(trail.conn, "audit_head", head)


@tampering
def delete_the_head(rng, trail):
    trail.conn.execute("DELETE FROM fieldcrypt.audit_head")
    if rng.random() < 0.5:
        trail.put(trail.batches[: rng.randrange(len(trail.batches))])


@tampering
def forge_the_start(rng, trail):
    """Say that the first were dropped: with a head's tag, an older start, or without a key."""
    choice = rng.randrange(4)
    batch = rng.choice(trail.batches)
    # also in the middle of a batch
    seq = rng.choice([batch["last_seq"], batch["last_seq"], batch["first_seq"]])
    if choice == 0:
        start = rng.choice(trail.heads)
    elif choice == 1:
        start = mark(None, 0, "audit-start", seq, batch["seal"])
    elif choice == 2:
        start = {**trail.start, "seq": seq, "seal": batch["seal"]}
    else:
        start = rng.choice(trail.starts)
    put_mark(trail.conn, "audit_start", start)
    trail.put([batch for batch in trail.batches if batch["last_seq"] > start["seq"]])


@tampering
def change_the_start(rng, trail):
    start = dict(trail.start)
    column = rng.choice(list(start))
    if column in ("seq", "key_id"):
        start[column] = rng.choice([0, start[column] - 1, start[column] + 1, *trail.other_keys])
    else:
        others = [other[column] for other in trail.heads]
        start[column] = other_bytes(rng, others, start[column])
    put_mark(trail.conn, "audit_start", start)


@tampering
def delete_the_start(rng, trail):
    trail.conn.execute("DELETE FROM fieldcrypt.audit_start")
    if rng.random() < 0.5:
        trail.put(shift(trail.batches, -trail.start["seq"]))


@tampering
def reseal(rng, trail):
    """A changed end, or the whole, with seals that everybody can make, or under another key."""
    index = rng.choice([0, 0, rng.randrange(len(trail.batches))])
    rows = trail.opened()[index:]
    rng.choice(rng.choice(rows)["events"])["actor_id"] = "forged"
    if rng.random() < 0.3 and len(rows) > 1:
        del rows[-1]
    rows = [{**row, "events": trail.encode(row["events"])} for row in rows]
    previous = trail.batches[index - 1]["seal"] if index else trail.start["seal"]
    if index == 0 and rng.random() < 0.5:
        # from the very first number on, as if nothing had ever been dropped
        trail.conn.execute("DELETE FROM fieldcrypt.audit_start")
        rows, previous = shift(rows, -trail.start["seq"]), FIRST
    key, key_id = trail.forged_key(rng)
    seal_anew(rows, previous, key, key_id)
    trail.put(trail.batches[:index] + rows)
    end = mark(key, key_id, "audit-head", rows[-1]["last_seq"], rows[-1]["seal"])
    put_mark(trail.conn, "audit_head", end)


def test_1000_tamperings(trail):
    """Each is found, by a superuser who has everything but the root key; and the view shows what
    is there, or that it is nothing."""
    rng = random.Random("fieldcrypt audit")
    whole = trail.state()
    assert is_whole(trail.conn)
    done, unreadable, kinds = Counter(), 0, cycle(KINDS)
    while done.total() < 1000:
        kind = next(kinds)
        with trail.conn.transaction(force_rollback=True):
            kind(rng, trail)
            if trail.state() == whole:
                continue
            found = findings(trail.conn)
            assert found, (kind.__name__, "nothing is said")
            assert not any(ok for ok, *_ in found), (kind.__name__, done.total())
            assert all(first is not None and text for _, first, _, text in found), found
            try:
                trail.conn.execute("SELECT a::text FROM fieldcrypt.audit AS a")
            except psycopg.errors.DataCorrupted:
                unreadable += 1
        done[kind.__name__] += 1
    assert min(done[kind.__name__] for kind in KINDS) >= 10, done
    assert unreadable
    assert trail.state() == whole
    assert is_whole(trail.conn)
    assert is_whole(trail.conn, trail.database.value("SELECT fieldcrypt.audit_head()"))


def test_beyond_one_page(databases):
    """verify_audit() reads 32 batches at once: one more at an edge, or one less, is found."""
    _, long = databases
    rows = batches(long.conn)
    assert len(rows) == 1_100
    assert len(events(long.conn)) == 11_000
    assert is_whole(long.conn)
    for i in (0, 30, 31, 32, 33, 62, 63, 64, 65, 1_055, 1_056, 1_057, 1_099):
        first, last = rows[i]["first_seq"], rows[i]["last_seq"]
        assert (first, last) == (10 * i + 1, 10 * i + 10)
        again = {**rows[i], "events": rows[(i + 1) % len(rows)]["events"]}
        again["sealed_at"] += timedelta(microseconds=1)
        for by in 0, 1, 9:
            with long.conn.transaction(force_rollback=True):
                insert(long.conn, "audit_batch", shift([again], by))
                assert (False, first + by, last + by, "events were added") in findings(long.conn)
        with long.conn.transaction(force_rollback=True):
            long.execute("DELETE FROM fieldcrypt.audit_batch WHERE first_seq = %s", [first])
            missing = "events are missing" + (" at the end" if i == len(rows) - 1 else "")
            assert (False, first, last, missing) in findings(long.conn)
    assert is_whole(long.conn)


def test_whole_while_events_come(databases):
    """What is written meanwhile is no finding: three sessions read while it is verified."""
    database, _ = databases
    stop = threading.Event()
    failed = []

    def read():
        try:
            with database.connect("app", options="-c fieldcrypt.account=acme") as app:
                while not stop.is_set():
                    app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
                    app.execute("SELECT fieldcrypt.flush_audit()")
                    time.sleep(0.005)
        except psycopg.Error as error:
            failed.append(error)

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        first = last = database.value("SELECT seq FROM fieldcrypt.audit_status()")
        times = 0
        while (times < 100 or last <= first + 100) and not failed:
            ((ok, _, end, text),) = findings(database.conn)
            assert ok, text
            assert end >= last
            times, last = times + 1, end
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed


def test_a_later_snapshot_is_needed(databases):
    database, _ = databases
    with database.conn.transaction(force_rollback=True):
        database.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        with refused("25001", hint="READ COMMITTED"):
            findings(database.conn)


@pytest.mark.parametrize(
    "head",
    ["", "fca1", "fca1:5", "fca1:x:" + "0" * 64, "fca1:1:" + "0" * 63, "fca2:1:" + "0" * 64],
)
def test_a_head_that_is_none(databases, head):
    database, _ = databases
    with refused("22023", hint="audit_head"):
        findings(database.conn, head)


# Table and head together


@pytest.fixture
def running(make_cluster):
    """A server of the test's own, and a database in it."""
    own = make_cluster()
    with account_database(own) as database:
        database.execute(LEADS)
        yield database


def happen(database, number=3):
    for _ in range(number):
        with database.connect("app", options="-c fieldcrypt.account=acme") as app:
            app.execute("INSERT INTO lead (ssn) VALUES ('1')")
            app.execute("SELECT fieldcrypt.decrypt(ssn) FROM lead")
    database.execute("SELECT fieldcrypt.flush_audit()")


def save(database):
    """Keeps the audit as it is, where a superuser can take it from again."""
    database.execute(
        "CREATE TABLE saved_batch AS SELECT * FROM fieldcrypt.audit_batch;"
        "CREATE TABLE saved_head AS SELECT * FROM fieldcrypt.audit_head"
    )
    return database.value("SELECT fieldcrypt.audit_head()")


def set_back(database):
    database.execute(
        "BEGIN; TRUNCATE fieldcrypt.audit_batch, fieldcrypt.audit_head;"
        "INSERT INTO fieldcrypt.audit_batch SELECT * FROM saved_batch;"
        "INSERT INTO fieldcrypt.audit_head SELECT * FROM saved_head; COMMIT"
    )


def stop_worker(database):
    database.execute("SELECT pg_terminate_backend(worker) FROM fieldcrypt.audit_status()")
    worker = "SELECT worker FROM fieldcrypt.audit_status()"
    while database.value(worker) is not None:
        pass


def restart(database):
    database.conn.close()
    database.cluster.restart()
    database.conn = database.connect()


def test_set_back_while_the_server_runs(running):
    """An older state, whole in itself, differs from what the server has in memory, also when
    another worker goes on from there."""
    happen(running)
    save(running)
    happen(running)
    assert is_whole(running.conn)
    newest = running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch")
    set_back(running)
    oldest = running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch")
    missing = (False, oldest + 1, newest, "events are missing that the server's memory knows")
    assert findings(running.conn) == [missing]
    stop_worker(running)
    assert findings(running.conn) == [missing]
    happen(running)
    assert findings(running.conn) == [(False, oldest + 1, newest, "events are missing")]


def test_emptied_while_the_server_runs(running):
    happen(running)
    newest = running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch")
    running.execute("TRUNCATE fieldcrypt.audit_batch, fieldcrypt.audit_head")
    missing = (False, 1, newest, "events are missing that the server's memory knows")
    assert findings(running.conn) == [missing]
    stop_worker(running)
    happen(running)
    assert (False, 1, newest, "events are missing") in findings(running.conn)


def test_set_back_before_a_restart(running):
    """Then nothing in the server knows better: a head does that was kept elsewhere."""
    happen(running)
    early = save(running)
    happen(running)
    late = running.value("SELECT fieldcrypt.audit_head()")
    newest = running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch")
    set_back(running)
    oldest = running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch")
    restart(running)
    assert is_whole(running.conn)  # a limit: docs/audit.md
    assert is_whole(running.conn, early)
    assert findings(running.conn, late) == [
        (False, oldest + 1, newest, "events are missing that the head that was given knows")
    ]
    happen(running, 5)
    assert running.value("SELECT max(last_seq) FROM fieldcrypt.audit_batch") > newest
    assert is_whole(running.conn)
    assert findings(running.conn, late) == [
        (False, newest, newest, "events differ from what the head that was given knows")
    ]


def test_rewritten_without_a_key_before_a_restart(running):
    """Reads that were sealed without a key are noticed whatever comes after them; forged changes
    are found by a head that was kept elsewhere, or as long as nothing comes after them."""
    happen(running)
    head = running.value("SELECT fieldcrypt.audit_head()")
    rows = events(running.conn)
    for only, text in (
        (None, "events were sealed without a key"),
        ("create_account", "no event was sealed with a key yet"),
    ):
        chosen = [{**row, "actor_id": "forged"} for row in rows if only in (None, row["action"])]
        forged, seq, seal = [], 0, FIRST
        while records := chosen[seq : seq + 3]:
            forged.append(make_batch(None, 0, seq, seal, records[-1]["sealed_at"], records))
            seq, seal = forged[-1]["last_seq"], forged[-1]["seal"]
        running.execute("TRUNCATE fieldcrypt.audit_batch")
        insert(running.conn, "audit_batch", forged)
        put_mark(running.conn, "audit_head", mark(None, 0, "audit-head", seq, seal))
        restart(running)
        assert text in {text for *_, text in findings(running.conn)}
    happen(running, len(rows))
    assert is_whole(running.conn)  # a limit: docs/audit.md
    assert findings(running.conn, head) == [
        (
            False,
            rows[-1]["seq"],
            rows[-1]["seq"],
            "events differ from what the head that was given knows",
        )
    ]


def test_a_head_of_what_was_dropped(databases):
    """It has nothing to be compared with, and that is said; as is that it is none of a batch's."""
    _, long = databases
    third = batches(long.conn)[2]
    head = f"fca1:30:{third['seal'].hex()}"
    assert is_whole(long.conn, head)
    for number in 21, 25, 29, 31, 40:
        differs = (False, number, number, "events differ from what the head that was given knows")
        assert findings(long.conn, head.replace(":30:", f":{number}:")) == [differs]
    assert long.value("SELECT fieldcrypt.drop_audit(%s)", [months_ago(0)]) == 11_000
    assert is_whole(long.conn)
    for number in 30, 25:
        nothing = "there is no event to compare with the head that was given"
        assert findings(long.conn, head.replace(":30:", f":{number}:")) == [
            (False, number, number, nothing)
        ]
    newer = long.value("SELECT fieldcrypt.audit_head()")
    assert is_whole(long.conn, newer)
