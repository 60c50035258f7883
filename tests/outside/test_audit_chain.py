"""Nobody changes the audit unnoticed: its seals made a second time, and 1,000 tamperings."""

import random
import threading
import time
from collections import Counter
from datetime import timedelta

import psycopg
import pytest
from audit_chain import (
    COLUMNS,
    FIRST,
    SEALED,
    audit_key,
    event_seal,
    events,
    findings,
    insert,
    is_whole,
    mark,
    months_ago,
    put_mark,
    sealed,
    tag,
    write_past,
)
from expect import LEADS, refused
from harness import Cluster, account_database
from psycopg import sql

TEXTS = (
    *("action", "outcome", "field", "account", "detail", "session_role", "set_role", "acting_role"),
    *("client_address", "application_name", "actor_id", "actor_name", "actor_address"),
    "actor_action",
)
NUMBERS = ("key_id", "count", "pid", "id")
TIMES = ("at", "statement_at", "sealed_at")
NOT_NULL = ("seq", "seal", "sealed_at", "key_id", "at", "action", "outcome", "pid", "id")

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
        self.rows = events(self.conn)
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
        tables = ("audit_event", "audit_head", "audit_start")
        queries = [f"SELECT t::text FROM fieldcrypt.{table} AS t ORDER BY 1" for table in tables]
        return [self.conn.execute(query).fetchall() for query in queries]

    def set(self, of_seq, /, **values):
        """Changes columns of an event."""
        assignments = sql.SQL(", ").join(
            sql.SQL("{} = {}").format(sql.Identifier(column), sql.Placeholder(column))
            for column in values
        )
        self.conn.execute(
            sql.SQL("UPDATE fieldcrypt.audit_event SET {} WHERE seq = %(of_seq)s").format(
                assignments
            ),
            {**values, "of_seq": of_seq},
        )

    def delete(self, condition, *parameters):
        self.conn.execute(f"DELETE FROM fieldcrypt.audit_event WHERE {condition}", parameters)

    def insert(self, *rows):
        insert(
            self.conn, "audit_event", [{column: row[column] for column in COLUMNS} for row in rows]
        )

    def allow(self, what):
        """What a superuser does first who wants rows that the table does not take."""
        self.conn.execute(f"ALTER TABLE fieldcrypt.audit_event {what}")

    def reseal(self, rows, previous, key, key_id):
        """Seals rows anew, and writes them with a head."""
        self.delete("seq >= %s", rows[0]["seq"])
        for row in rows:
            row["key_id"] = key_id
            previous = row["seal"] = event_seal(key, previous, row)
        self.insert(*rows)
        end = mark(key, key_id, "audit-head", rows[-1]["seq"], previous)
        put_mark(self.conn, "audit_head", end)


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
        write_past(long, 1, 11_000)
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
    """The same events and seals as in core/src/audit.rs."""
    key = bytes([7]) * 32
    event = b"\1" + b"\xff" * 8 + b"\0" + b"\2\0\0\0\x08lead.ssn"
    event += b"\3\0\0\0\2\0\0\0\7user:42\0\0\0\7user:43"
    seal = sealed(key, "audit-event", FIRST, (1).to_bytes(8, "big"), event)
    assert seal.hex() == "fbe6b5f6b758cbee261d6130a8f2541473a84a525f9ba2d07dba3d0c34abf46b"
    head = "5b5ce3ddb21c4d01df50daa77c94302c963861215b714318acd227e00934d8f2"
    assert tag(key, "audit-head", 1, seal).hex() == head


def test_second_implementation(trail):
    """Every seal and tag of a trail is what docs/audit.md says, of every kind of event."""
    previous = trail.start["seal"]
    assert trail.rows[0]["seq"] == trail.start["seq"] + 1
    for row in trail.rows:
        assert row["key_id"] == trail.key_id
        assert row["seal"] == event_seal(trail.key, previous, row), row
        previous = row["seal"]
    last = trail.rows[-1]
    assert trail.head == mark(trail.key, trail.key_id, "audit-head", last["seq"], last["seal"])
    assert trail.start == mark(
        trail.key, trail.key_id, "audit-start", trail.start["seq"], trail.start["seal"]
    )
    exported = trail.database.value("SELECT fieldcrypt.audit_head()")
    assert exported == f"fca1:{last['seq']}:{last['seal'].hex()}"
    # the trail is one that tells something
    kinds = {(row["action"], row["outcome"]) for row in trail.rows}
    assert kinds >= {
        *(("reveal", "plain"), ("reveal", "masked"), ("reveal", "hidden"), ("decrypt", "plain")),
        *(("decrypt", "denied"), ("create_account", "rolled back"), ("grant_access", "done")),
        *(("revoke_access", "done"), ("change", "done"), ("drop_audit", "done")),
    }
    actors = {(row["actor_id"], row["actor_name"], row["actor_address"]) for row in trail.rows}
    assert ("李", "Zoë 🦊\n\t", "2001:db8::1") in actors
    assert {len(row["entities"]) for row in trail.rows if row["entities"]} >= {1, 6}
    assert {row["client_address"] for row in trail.rows} == {None}


# The tamperings. Each is random, and leaves the tables as they are if it can do nothing.

KINDS = []


def tampering(function):
    KINDS.append(function)
    return function


def other_text(rng, trail, column, value):
    others = [row[column] for row in trail.rows if row[column]]
    made = [(value or "") + " ", (value or "x").swapcase(), (value or "x")[:-1], "forged", "", None]
    return rng.choice(made + others[:20])


def other_number(rng, value):
    value = value or 0
    others = [value + 1, value - 1, -value, 0, None, rng.getrandbits(62), -(1 << 63), (1 << 63) - 1]
    return rng.choice([other for other in others if other is None or -(1 << 63) <= other < 1 << 63])


def other_time(rng, column, value):
    if column == "sealed_at" or rng.random() < 0.7:
        return value + timedelta(microseconds=rng.choice([-1, 1, rng.randrange(-900, 900)]))
    return rng.choice(["infinity", "-infinity", "294276-12-31", value - timedelta(days=4000)])


def other_list(rng, value):
    value = value or []
    return rng.choice([
        *([], None, [*value, "forged"], value[1:], value[::-1], ["".join(value)], [*value, None]),
        *([",".join(value)], [value, value], [text + " " for text in value]),
    ])  # fmt: skip


def other_bytes(rng, trail, value):
    flipped = bytearray(value)
    flipped[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    other = rng.choice(trail.rows)["seal"]
    return rng.choice([bytes(flipped), other, value[:-1], value + b"\0", b"", FIRST])


def forged(rng, trail, **values):
    """An event that never was, made of one that was."""
    row = {**rng.choice(trail.rows), "actor_id": "forged", "seal": rng.randbytes(32)}
    return {**row, "sealed_at": trail.rows[-1]["sealed_at"], **values}


@tampering
def change_a_value(rng, trail):
    row = rng.choice(trail.rows)
    column = rng.choice(SEALED)
    value = row[column]
    if column in NUMBERS:
        value = other_number(rng, value)
    elif column in TIMES:
        value = other_time(rng, column, value)
    elif column == "entities":
        value = other_list(rng, value)
    else:
        value = other_text(rng, trail, column, value)
    if value is None and column in NOT_NULL:
        if column == "sealed_at":
            return  # no partition takes it
        trail.allow(f"DROP CONSTRAINT audit_event_pkey, ALTER {column} DROP NOT NULL")
    trail.set(row["seq"], **{column: value})


@tampering
def change_a_text(rng, trail):
    row, column = rng.choice(trail.rows), rng.choice(TEXTS)
    value = other_text(rng, trail, column, row[column])
    if value is not None or column not in NOT_NULL:
        trail.set(row["seq"], **{column: value})


@tampering
def swap_null_and_empty(rng, trail):
    row = rng.choice(trail.rows)
    column = rng.choice([*TEXTS, "entities"])
    if column not in NOT_NULL:
        empty = [] if column == "entities" else ""
        trail.set(row["seq"], **{column: empty if row[column] is None else None})


@tampering
def move_text(rng, trail):
    """From the end of one column to the start of the next: the bytes stay in their order."""
    row, index = rng.choice(trail.rows), rng.randrange(len(TEXTS) - 1)
    left, right = TEXTS[index : index + 2]
    text = row[left] or ""
    cut = rng.randrange(len(text) + 1)
    trail.set(row["seq"], **{left: text[:cut], right: text[cut:] + (row[right] or "")})


@tampering
def move_entities(rng, trail):
    """Where one ends and the next begins, and which the first is."""
    row = rng.choice([row for row in trail.rows if row["entities"]])
    entities = row["entities"]
    if rng.random() < 0.5 and len(entities) > 1:
        first, second, *others = entities
        trail.set(row["seq"], entities=[first + second[:1], second[1:], *others])
    else:
        start = rng.choice([-1, 0, 2, 7])
        bounds = f"[{start}:{start + len(entities) - 1}]="
        trail.conn.execute(
            "UPDATE fieldcrypt.audit_event SET entities = (%s || entities::text)::text[]"
            " WHERE seq = %s",
            [bounds, row["seq"]],
        )


@tampering
def change_a_seal(rng, trail):
    row = rng.choice(trail.rows)
    trail.set(row["seq"], seal=other_bytes(rng, trail, row["seal"]))


@tampering
def change_a_key(rng, trail):
    """To none, to that of another purpose or account, or to one that does not exist."""
    row = rng.choice(trail.rows)
    trail.set(row["seq"], key_id=rng.choice([0, -1, rng.getrandbits(62), *trail.other_keys]))


@tampering
def change_a_number(rng, trail):
    row = rng.choice(trail.rows)
    seq = rng.choice([0, -1, row["seq"] + 1000, rng.getrandbits(62), (1 << 63) - 1, -(1 << 63), 1])
    trail.set(row["seq"], seq=seq)


@tampering
def change_many(rng, trail):
    column = rng.choice(("session_role", "actor_id", "account"))
    trail.conn.execute(
        f"UPDATE fieldcrypt.audit_event SET {column} = 'somebody' WHERE seq %% %s = 0",
        [rng.randrange(1, 5)],
    )


@tampering
def delete_one(rng, trail):
    row = rng.choice([trail.rows[0], trail.rows[-1], rng.choice(trail.rows[1:-1])])
    trail.delete("seq = %s", row["seq"])


@tampering
def delete_some(rng, trail):
    chosen = rng.sample([row["seq"] for row in trail.rows], rng.randrange(2, 9))
    trail.delete("seq = ANY (%s)", chosen)


@tampering
def delete_a_range(rng, trail):
    first, last = sorted(rng.sample([row["seq"] for row in trail.rows], 2))
    trail.delete(rng.choice(["seq BETWEEN %s AND %s", "seq < %s OR seq > %s"]), first, last)


@tampering
def delete_what_tells(rng, trail):
    trail.delete(
        rng.choice(
            [
                *("session_role = 'app'", "outcome = 'denied'", "action = 'drop_audit'"),
                *("actor_id = 'u-17'", "account = 'acme'", "action = 'change'"),
            ]
        )  # fmt: skip
    )


@tampering
def delete_and_renumber(rng, trail):
    gone = rng.choice(trail.rows[:-1])["seq"]
    trail.delete("seq = %s", gone)
    trail.allow("DROP CONSTRAINT audit_event_pkey")
    trail.conn.execute("UPDATE fieldcrypt.audit_event SET seq = seq - 1 WHERE seq > %s", [gone])
    if rng.random() < 0.5:
        trail.conn.execute("UPDATE fieldcrypt.audit_head SET seq = seq - 1")


@tampering
def swap_content(rng, trail):
    """All but the numbers, with or without the seals."""
    one, other = rng.sample(trail.rows, 2)
    kept = ("seq", "seal") if rng.random() < 0.5 else ("seq",)
    trail.delete("seq = ANY (%s)", [one["seq"], other["seq"]])
    for row, content in ((one, other), (other, one)):
        trail.insert({**content, **{column: row[column] for column in kept}})


@tampering
def swap_numbers(rng, trail):
    one, other = rng.sample([row["seq"] for row in trail.rows], 2)
    trail.allow("DROP CONSTRAINT audit_event_pkey")
    trail.conn.execute(
        "UPDATE fieldcrypt.audit_event SET seq = CASE seq WHEN %(a)s THEN %(b)s ELSE %(a)s END"
        " WHERE seq IN (%(a)s, %(b)s)",
        {"a": one, "b": other},
    )


@tampering
def shuffle(rng, trail):
    """The order of some neighbours."""
    start = rng.randrange(len(trail.rows) - 5)
    rows = trail.rows[start : start + 5]
    numbers = [row["seq"] for row in rows]
    trail.delete("seq = ANY (%s)", numbers)
    trail.insert(
        *({**row, "seq": seq} for row, seq in zip(rng.sample(rows, 5), numbers, strict=True))
    )


@tampering
def repeat_a_row(rng, trail):
    """The same number once more, with the same or another time."""
    row = dict(rng.choice(trail.rows))
    if rng.random() < 0.5:
        trail.allow("DROP CONSTRAINT audit_event_pkey")
    else:
        row["sealed_at"] += timedelta(microseconds=1)
    if rng.random() < 0.5:
        row["actor_id"] = "forged"
    trail.insert(row)


@tampering
def insert_at_the_end(rng, trail):
    last = trail.rows[-1]["seq"]
    number = rng.choice([1, 1, 2, 50, 1 << 40])
    row = forged(rng, trail, seq=last + number)
    if rng.random() < 0.5:
        row["key_id"], row["seal"] = 0, event_seal(None, trail.head["seal"], {**row, "key_id": 0})
    trail.insert(row)
    if rng.random() < 0.5:
        trail.conn.execute(
            "UPDATE fieldcrypt.audit_head SET seq = %s, seal = %s", [row["seq"], row["seal"]]
        )


@tampering
def insert_in_the_middle(rng, trail):
    """And move the numbers of those after it."""
    at = rng.choice(trail.rows[1:])
    trail.allow("DROP CONSTRAINT audit_event_pkey")
    trail.conn.execute(
        "UPDATE fieldcrypt.audit_event SET seq = seq + 1 WHERE seq >= %s", [at["seq"]]
    )
    row = forged(rng, trail, seq=at["seq"], sealed_at=at["sealed_at"])
    trail.insert(row)
    if rng.random() < 0.5:
        trail.conn.execute("UPDATE fieldcrypt.audit_head SET seq = seq + 1")


@tampering
def insert_before_the_start(rng, trail):
    """Where nothing is missing: below what was dropped, and below one."""
    seq = rng.choice([0, -1, -(1 << 63), 1, trail.start["seq"], rng.randint(1, trail.start["seq"])])
    trail.insert(forged(rng, trail, seq=seq))


@tampering
def copy_an_older_row(rng, trail):
    """Over a newer one: nothing but the number is forged."""
    older, newer = sorted(rng.sample(trail.rows, 2), key=lambda row: row["seq"])
    trail.delete("seq = %s", newer["seq"])
    trail.insert({**older, "seq": newer["seq"]})


@tampering
def truncate(rng, trail):
    """Events, and perhaps all that says that there were some."""
    trail.conn.execute("TRUNCATE fieldcrypt.audit_event")
    for table in rng.sample(["audit_head", "audit_start"], rng.randrange(3)):
        trail.conn.execute(f"TRUNCATE fieldcrypt.{table}")


@tampering
def take_a_partition(rng, trail):
    """A month, by DETACH, TRUNCATE or DROP by hand."""
    name = months_ago(rng.randrange(2)).strftime("fieldcrypt.audit_%Y_%m")
    for statement in rng.choice([
        [f"ALTER TABLE fieldcrypt.audit_event DETACH PARTITION {name}"],
        [f"TRUNCATE {name}"],
        [f"ALTER EXTENSION fieldcrypt DROP TABLE {name}", f"DROP TABLE {name}"],
    ]):  # fmt: skip
        trail.conn.execute(statement)


@tampering
def change_the_head(rng, trail):
    head = dict(trail.head)
    column = rng.choice(list(head))
    if column == "seq":
        head["seq"] = rng.choice([0, -1, head["seq"] - 1, head["seq"] + 1, (1 << 63) - 1])
    elif column == "key_id":
        head["key_id"] = rng.choice([0, -1, rng.getrandbits(62), *trail.other_keys])
    else:
        head[column] = other_bytes(rng, trail, head[column])
    put_mark(trail.conn, "audit_head", head)


@tampering
def put_an_older_head(rng, trail):
    """With all events, or without those that came after it."""
    head = rng.choice(trail.heads[1:-1])
    put_mark(trail.conn, "audit_head", head)
    if rng.random() < 0.6:
        trail.delete("seq > %s", head["seq"])


@tampering
def put_a_head_without_a_key(rng, trail):
    """Of the end, or of an event before which is then the last."""
    row = rng.choice([trail.rows[-1], rng.choice(trail.rows)])
    trail.delete("seq > %s", row["seq"])
    put_mark(trail.conn, "audit_head", mark(None, 0, "audit-head", row["seq"], row["seal"]))


@tampering
def delete_the_head(rng, trail):
    trail.conn.execute("DELETE FROM fieldcrypt.audit_head")
    if rng.random() < 0.5:
        trail.delete("seq >= %s", rng.choice(trail.rows)["seq"])


@tampering
def forge_the_start(rng, trail):
    """Say that the first were dropped: with a head's tag, an older start, or without a key."""
    choice = rng.randrange(4)
    if choice == 0:
        start = rng.choice(trail.heads)
    elif choice == 1:
        row = rng.choice(trail.rows)
        start = mark(None, 0, "audit-start", row["seq"], row["seal"])
    elif choice == 2:
        row = rng.choice(trail.rows)
        start = {**trail.start, "seq": row["seq"], "seal": row["seal"]}
    else:
        start = rng.choice(trail.starts)
    put_mark(trail.conn, "audit_start", start)
    trail.delete("seq <= %s", start["seq"])


@tampering
def change_the_start(rng, trail):
    start = dict(trail.start)
    column = rng.choice(list(start))
    if column in ("seq", "key_id"):
        start[column] = rng.choice([0, start[column] - 1, start[column] + 1, *trail.other_keys])
    else:
        start[column] = other_bytes(rng, trail, start[column])
    put_mark(trail.conn, "audit_start", start)


@tampering
def delete_the_start(rng, trail):
    trail.conn.execute("DELETE FROM fieldcrypt.audit_start")
    if rng.random() < 0.5:
        trail.conn.execute("UPDATE fieldcrypt.audit_event SET seq = seq - %s", [trail.start["seq"]])


@tampering
def reseal(rng, trail):
    """A changed end, or the whole, with seals that everybody can make, or under another key."""
    index = rng.choice([0, 0, rng.randrange(len(trail.rows))])
    rows = [dict(row) for row in trail.rows[index:]]
    rng.choice(rows)["actor_id"] = "forged"
    if rng.random() < 0.3 and len(rows) > 1:
        del rows[-1]
    previous = trail.rows[index - 1]["seal"] if index else trail.start["seal"]
    if index == 0 and rng.random() < 0.5:
        # from the very first number on, as if nothing had ever been dropped
        trail.conn.execute("DELETE FROM fieldcrypt.audit_start")
        trail.delete("true")
        rows = [{**row, "seq": seq} for seq, row in enumerate(rows, 1)]
        previous = FIRST
    key, key_id = rng.choice([
        *((None, 0), (None, 0), (rng.randbytes(32), trail.key_id)),
        (rng.randbytes(32), rng.choice(trail.other_keys)),
    ])  # fmt: skip
    trail.reseal(rows, previous, key, key_id)


def test_1000_tamperings(trail):
    """Each is found, by a superuser who has everything but the root key."""
    rng = random.Random("fieldcrypt audit")
    whole = trail.state()
    assert is_whole(trail.conn)
    done = Counter()
    while done.total() < 1000:
        kind = rng.choice(KINDS)
        with trail.conn.transaction(force_rollback=True):
            kind(rng, trail)
            if trail.state() == whole:
                continue
            found = findings(trail.conn)
            assert found, (kind.__name__, "nothing is said")
            assert not any(ok for ok, *_ in found), (kind.__name__, done.total())
            assert all(first is not None and text for _, first, _, text in found), found
        done[kind.__name__] += 1
    assert min(done[kind.__name__] for kind in KINDS) >= 10, done
    assert trail.state() == whole
    assert is_whole(trail.conn)
    assert is_whole(trail.conn, trail.database.value("SELECT fieldcrypt.audit_head()"))


def test_beyond_one_page(databases):
    """verify_audit() reads 5,000 rows at once: one more at an edge, or one less, is found."""
    _, long = databases
    rows = {row["seq"]: row for row in events(long.conn)}
    assert len(rows) == 11_000
    assert is_whole(long.conn)
    for seq in (1, 4_999, 5_000, 5_001, 9_999, 10_000, 10_001, 11_000):
        more = {**rows[seq], "actor_id": "forged"}
        more["sealed_at"] += timedelta(microseconds=1)
        with long.conn.transaction(force_rollback=True):
            insert(long.conn, "audit_event", [more])
            assert (False, seq, seq, "event was added") in findings(long.conn)
        with long.conn.transaction(force_rollback=True):
            long.execute("DELETE FROM fieldcrypt.audit_event WHERE seq = %s", [seq])
            missing = "events are missing" + (" at the end" if seq == len(rows) else "")
            assert (False, seq, seq, missing) in findings(long.conn)
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
        first, _ = ends = [database.value("SELECT seq FROM fieldcrypt.audit_status()"), 0]
        for _ in range(100):
            ((ok, _, last, text),) = findings(database.conn)
            assert ok, text
            assert last >= ends[1]
            ends[1] = last
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not failed
    assert ends[1] > first + 100


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
        "CREATE TABLE saved_event AS SELECT * FROM fieldcrypt.audit_event;"
        "CREATE TABLE saved_head AS SELECT * FROM fieldcrypt.audit_head"
    )
    return database.value("SELECT fieldcrypt.audit_head()")


def set_back(database):
    database.execute(
        "BEGIN; TRUNCATE fieldcrypt.audit_event, fieldcrypt.audit_head;"
        "INSERT INTO fieldcrypt.audit_event SELECT * FROM saved_event;"
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
    newest = running.value("SELECT max(seq) FROM fieldcrypt.audit_event")
    set_back(running)
    oldest = running.value("SELECT max(seq) FROM fieldcrypt.audit_event")
    missing = (False, oldest + 1, newest, "events are missing that the server's memory knows")
    assert findings(running.conn) == [missing]
    stop_worker(running)
    assert findings(running.conn) == [missing]
    happen(running)
    assert findings(running.conn) == [(False, oldest + 1, newest, "events are missing")]


def test_emptied_while_the_server_runs(running):
    happen(running)
    newest = running.value("SELECT max(seq) FROM fieldcrypt.audit_event")
    running.execute("TRUNCATE fieldcrypt.audit_event, fieldcrypt.audit_head")
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
    newest = running.value("SELECT max(seq) FROM fieldcrypt.audit_event")
    set_back(running)
    oldest = running.value("SELECT max(seq) FROM fieldcrypt.audit_event")
    restart(running)
    assert is_whole(running.conn)  # a limit: docs/audit.md
    assert is_whole(running.conn, early)
    assert findings(running.conn, late) == [
        (False, oldest + 1, newest, "events are missing that the head that was given knows")
    ]
    happen(running, 5)
    assert running.value("SELECT max(seq) FROM fieldcrypt.audit_event") > newest
    assert is_whole(running.conn)
    assert findings(running.conn, late) == [
        (False, newest, newest, "event differs from what the head that was given knows")
    ]


def test_rewritten_without_a_key_before_a_restart(running):
    """Reads that were sealed without a key are noticed whatever comes after them; forged changes
    are found by a head that was kept elsewhere, or as long as nothing comes after them."""
    happen(running)
    head = running.value("SELECT fieldcrypt.audit_head()")
    rows = events(running.conn)
    for only, text in (
        (None, "event was sealed without a key"),
        ("create_account", "no event was sealed with a key yet"),
    ):
        forged = [dict(row) for row in rows if only in (None, row["action"])]
        previous = FIRST
        for seq, row in enumerate(forged, 1):
            row.update(seq=seq, key_id=0, actor_id="forged")
            previous = row["seal"] = event_seal(None, previous, row)
        running.execute("TRUNCATE fieldcrypt.audit_event")
        insert(running.conn, "audit_event", forged)
        put_mark(running.conn, "audit_head", mark(None, 0, "audit-head", len(forged), previous))
        restart(running)
        assert text in {text for *_, text in findings(running.conn)}
    happen(running, len(rows))
    assert is_whole(running.conn)  # a limit: docs/audit.md
    assert findings(running.conn, head) == [
        (
            False,
            rows[-1]["seq"],
            rows[-1]["seq"],
            "event differs from what the head that was given knows",
        )
    ]


def test_a_head_of_what_was_dropped(databases):
    """It has nothing to be compared with, and that is said."""
    _, long = databases
    head = f"fca1:7:{events(long.conn)[6]['seal'].hex()}"
    assert is_whole(long.conn, head)
    assert long.value("SELECT fieldcrypt.drop_audit(%s)", [months_ago(0)]) == 11_000
    assert is_whole(long.conn)
    assert findings(long.conn, head) == [
        (False, 7, 7, "there is no event to compare with the head that was given")
    ]
    newer = long.value("SELECT fieldcrypt.audit_head()")
    assert is_whole(long.conn, newer)
