"""A second implementation of the audit's batches and seals (docs/audit.md), without code of
fieldcrypt's."""

import hashlib
import hmac
import io
from datetime import UTC, datetime, timedelta
from itertools import cycle

import lz4.block
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import sql

FIRST = bytes(32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

COLUMNS = ("first_seq", "last_seq", "sealed_at", "key_id", "seal", "events")
# What a batch holds of each event, in this order.
RECORD = (
    *("at", "action", "outcome", "field", "account", "count", "detail"),
    *("session_role", "set_role", "acting_role", "client_address", "application_name"),
    *("actor_id", "actor_name", "actor_address", "actor_action", "entities"),
    *("pid", "statement_at", "id"),
)
TIMES = ("at", "statement_at")
NUMBERS = ("count", "pid", "id")
LONGEST = 1 << 24
NOT_NULL = ("at", "action", "outcome", "pid", "statement_at", "id")


# The bytes


def lp(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def number(value):
    if isinstance(value, datetime):
        value = (value - EPOCH) // timedelta(microseconds=1)
    return value.to_bytes(8, "big", signed=True)


def item(value):
    if value is None:
        return b"\0"
    if isinstance(value, datetime | int):
        return b"\1" + number(value)
    if isinstance(value, str):
        return b"\2" + lp(value.encode())
    return b"\3" + len(value).to_bytes(4, "big") + lp(*(text.encode() for text in value))


def frame(records):
    """The bytes of events, one behind the other."""
    return lp(*(b"".join(item(record[column]) for column in RECORD) for record in records))


def pack(framed):
    """As they are stored. Not all implementations of LZ4 make the same bytes."""
    return lz4.block.compress(framed, store_size=True)


def unpack(packed):
    if int.from_bytes(packed[:4], "little") > LONGEST:
        raise ValueError("no batch is as long")
    try:
        return lz4.block.decompress(packed)
    except (lz4.block.LZ4BlockError, ValueError):
        raise ValueError("that is not LZ4") from None


def encode(records):
    """The bytes of a batch's events."""
    return pack(frame(records))


class Bytes(io.BytesIO):
    """Bytes that are taken in parts; a ValueError where they are not what they should be."""

    def take(self, length):
        taken = self.read(length)
        if len(taken) < length:
            raise ValueError("there are fewer bytes")
        return taken

    def number(self, length=4, signed=False):
        return int.from_bytes(self.take(length), "big", signed=signed)

    def part(self):
        return self.take(self.number())

    def text(self):
        text = self.part().decode()
        if "\0" in text:
            raise ValueError("PostgreSQL has no such text")
        return text

    def item(self):
        """What item() was made of, but a number for a time."""
        match self.number(1):
            case 0:
                return None
            case 1:
                return self.number(8, signed=True)
            case 2:
                return self.text()
            case 3:
                return [self.text() for _ in range(self.number())]
        raise ValueError("there is no such item")

    def is_at_end(self):
        return self.tell() == len(self.getbuffer())


def decode(events):
    """The records of a batch's events: the opposite of encode()."""
    parts, records = Bytes(unpack(events)), []
    while not parts.is_at_end():
        items = Bytes(parts.part())
        record = {column: items.item() for column in RECORD}
        if not items.is_at_end():
            raise ValueError("there are more items")
        for column, value in record.items():
            check(column, value)
        for column in TIMES:
            record[column] = time(record[column])
        records.append(record)
    return records


def check(column, value):
    """Whether an event can have that value there."""
    kind = int if column in (*TIMES, *NUMBERS) else list if column == "entities" else str
    if not isinstance(value, kind) and (value is not None or column in NOT_NULL):
        raise ValueError(f"that is no {column}")


def time(microseconds):
    try:
        return EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        raise ValueError("there is no such time") from None


def sealed(key, label, *parts):
    """HMAC-SHA-256 under the key; without a key, SHA-256."""
    message = lp(b"fieldcrypt/1/" + label.encode(), *parts)
    return hmac.digest(key, message, "sha256") if key else hashlib.sha256(message).digest()


def batch_seal(key, previous, batch):
    numbers = (number(batch[column]) for column in ("first_seq", "last_seq", "sealed_at", "key_id"))
    return sealed(key, "audit-batch", previous, *numbers, batch["events"])


def make_batch(key, key_id, seq, previous, sealed_at, records):
    """The batch of these events, after a batch that ends with that number and has that seal."""
    batch = {
        **{"first_seq": seq + 1, "last_seq": seq + len(records), "sealed_at": sealed_at},
        **{"key_id": key_id, "events": encode(records)},
    }
    return batch | {"seal": batch_seal(key, previous, batch)}


def tag(key, label, seq, seal):
    """Of the head (`audit-head`) or of where the audit was dropped up to (`audit-start`)."""
    return sealed(key, label, number(seq), seal)


def mark(key, key_id, label, seq, seal):
    """A row of audit_head or audit_start."""
    return {"seq": seq, "seal": seal, "key_id": key_id, "tag": tag(key, label, seq, seal)}


# The key (docs/envelope.md section 7)


def audit_key(database):
    """The id and the bytes of the audit key, by way of the root key's file."""
    root = bytes.fromhex((database.cluster.keys_dir / "main.key").read_text())
    rows = database.execute(
        "SELECT purpose, version, key_id, wrapped, check_value FROM fieldcrypt.account_key"
        " WHERE account = '*database*'"
    ).fetchall()
    stored = {purpose: rest for purpose, *rest in rows}
    _, wrapping_key = unwrap(root, "wrapping", *stored["wrapping"])
    return unwrap(wrapping_key, "audit", *stored["audit"])


def unwrap(wrapping_key, purpose, version, key_id, wrapped, check_value):
    name = (b"*database*", purpose.encode(), version.to_bytes(4, "big"), key_id.to_bytes(8, "big"))
    assert wrapped[0] == 1
    associated = lp(b"fieldcrypt/1/key-wrap", b"\1", *name)
    key = AESGCM(wrapping_key).decrypt(wrapped[1:13], wrapped[13:], associated)
    assert hmac.digest(key, lp(b"fieldcrypt/1/check-value", *name), "sha256") == check_value
    return key_id, key


# The tables


def batches(connection):
    """The batches in their order, each with its columns."""
    rows = connection.execute(
        sql.SQL("SELECT {} FROM fieldcrypt.audit_batch ORDER BY first_seq").format(names(COLUMNS))
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def events(connection):
    """The events in their order, each with its number, its record and when it was sealed."""
    return [
        {"seq": seq, **record, "sealed_at": batch["sealed_at"]}
        for batch in batches(connection)
        for seq, record in enumerate(decode(batch["events"]), batch["first_seq"])
    ]


def names(columns):
    return sql.SQL(", ").join(map(sql.Identifier, columns))


def insert(connection, table, rows):
    """Adds rows, by the superuser's own hand."""
    columns = tuple(rows[0])
    statement = sql.SQL("INSERT INTO fieldcrypt.{} ({}) VALUES ({})").format(
        sql.Identifier(table),
        names(columns),
        sql.SQL(", ").join(sql.Placeholder(column) for column in columns),
    )
    with connection.cursor() as cursor:
        cursor.executemany(statement, rows)


def put_mark(connection, table, mark):
    """Replaces the row of audit_head or audit_start."""
    connection.execute(sql.SQL("DELETE FROM fieldcrypt.{}").format(sql.Identifier(table)))
    insert(connection, table, [mark])


def findings(connection, head=None):
    """What verify_audit() returns: ok, first_seq, last_seq, finding."""
    return connection.execute("SELECT * FROM fieldcrypt.verify_audit(%s)", [head]).fetchall()


def is_whole(connection, head=None):
    found = findings(connection, head)
    return len(found) == 1 and found[0][0]


# Months of the past


def months_ago(number):
    """The first of the month, so many months before this one, in UTC."""
    now = datetime.now(UTC)
    month = now.year * 12 + now.month - 1 - number
    return datetime(month // 12, month % 12 + 1, 1, tzinfo=UTC)


def write_past(database, months, events_each, sizes=(1, 2, 4, 5)):
    """Writes what the worker would have written in the last months, under the real key, in batches
    of these sizes, again and again.

    For a database whose audit was off until now; the server's memory does not know of it.
    """
    key_id, key = audit_key(database)
    seq, seal = 0, FIRST
    for ago in range(months, 0, -1):
        month = months_ago(ago)
        partition = sql.Identifier("fieldcrypt", month.strftime("audit_%Y_%m"))
        add_partition(database, partition, month, months_ago(ago - 1))
        records = [past_event(month, i, seq + 1 + i) for i in range(events_each)]
        rows = []
        for size in cycle(sizes):
            some, records = records[:size], records[size:]
            if not some:
                break
            sealed_at = some[-1]["at"] + timedelta(seconds=1)
            rows.append(make_batch(key, key_id, seq, seal, sealed_at, some))
            seq, seal = rows[-1]["last_seq"], rows[-1]["seal"]
        insert(database.conn, "audit_batch", rows)
    put_mark(database.conn, "audit_head", mark(key, key_id, "audit-head", seq, seal))


def past_event(month, i, seq):
    at = month + timedelta(minutes=3 * i, microseconds=seq)
    return dict.fromkeys(RECORD) | {
        **{"at": at, "action": "decrypt", "outcome": "plain", "field": "lead.ssn"},
        **{"account": "acme", "count": 1 + i, "session_role": "app", "set_role": "app"},
        **{"acting_role": "app", "entities": [f"user:{seq}"], "pid": 100 + seq},
        **{"statement_at": at, "id": seq << 20},
    }


def add_partition(database, name, start, end):
    """As fieldcrypt.add_audit_partition() does for the present month."""
    for statement in (
        "CREATE TABLE {} (LIKE fieldcrypt.audit_batch INCLUDING ALL)",
        "ALTER TABLE fieldcrypt.audit_batch ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})",
        "ALTER EXTENSION fieldcrypt ADD TABLE {}",
    ):
        statement = sql.SQL(statement).format(
            name, sql.Literal(start.isoformat()), sql.Literal(end.isoformat())
        )
        database.execute(statement)
