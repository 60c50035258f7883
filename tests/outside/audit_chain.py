"""A second implementation of the audit's seals (docs/audit.md), without code of fieldcrypt's."""

import hashlib
import hmac
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from psycopg import sql

FIRST = bytes(32)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# What is sealed of an event, in this order.
SEALED = (
    *("sealed_at", "key_id", "at", "action", "outcome", "field", "account", "count", "detail"),
    *("session_role", "set_role", "acting_role", "client_address", "application_name"),
    *("actor_id", "actor_name", "actor_address", "actor_action", "entities"),
    *("pid", "statement_at", "id"),
)
COLUMNS = ("seq", "seal", *SEALED)


# The bytes


def lp(*parts):
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def number(value):
    return value.to_bytes(8, "big", signed=True)


def item(value):
    if value is None:
        return b"\0"
    if isinstance(value, datetime):
        return b"\1" + number((value - EPOCH) // timedelta(microseconds=1))
    if isinstance(value, int):
        return b"\1" + number(value)
    if isinstance(value, str):
        return b"\2" + lp(value.encode())
    return b"\3" + len(value).to_bytes(4, "big") + lp(*(text.encode() for text in value))


def sealed(key, label, *parts):
    """HMAC-SHA-256 under the key; without a key, SHA-256."""
    message = lp(b"fieldcrypt/1/" + label.encode(), *parts)
    return hmac.digest(key, message, "sha256") if key else hashlib.sha256(message).digest()


def event_seal(key, previous, event):
    items = b"".join(item(event[column]) for column in SEALED)
    return sealed(key, "audit-event", previous, number(event["seq"]), items)


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


def events(connection):
    """The events in their order, each with its columns."""
    rows = connection.execute(
        sql.SQL("SELECT {} FROM fieldcrypt.audit_event ORDER BY seq").format(names(COLUMNS))
    )
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


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


def write_past(database, months, events_each):
    """Writes what the worker would have written in the last months, under the real key.

    For a database whose audit was off until now; the server's memory does not know of it.
    """
    key_id, key = audit_key(database)
    seq, seal = 0, FIRST
    for ago in range(months, 0, -1):
        month = months_ago(ago)
        partition = sql.Identifier("fieldcrypt", month.strftime("audit_%Y_%m"))
        add_partition(database, partition, month, months_ago(ago - 1))
        rows = []
        for i in range(events_each):
            seq += 1
            at = month + timedelta(minutes=3 * i, microseconds=seq)
            event = dict.fromkeys(SEALED) | {
                **{"seq": seq, "key_id": key_id, "at": at, "sealed_at": at + timedelta(seconds=1)},
                **{"action": "decrypt", "outcome": "plain", "field": "lead.ssn"},
                **{"account": "acme", "count": 1 + i, "session_role": "app", "set_role": "app"},
                **{"acting_role": "app", "entities": [f"user:{seq}"], "pid": 100 + seq},
                **{"statement_at": at, "id": seq << 20},
            }
            seal = event["seal"] = event_seal(key, seal, event)
            rows.append(event)
        insert(database.conn, "audit_event", rows)
    put_mark(database.conn, "audit_head", mark(key, key_id, "audit-head", seq, seal))


def add_partition(database, name, start, end):
    """As fieldcrypt.add_audit_partition() does for the present month."""
    for statement in (
        "CREATE TABLE {} (LIKE fieldcrypt.audit_event INCLUDING ALL)",
        "ALTER TABLE fieldcrypt.audit_event ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})",
        "ALTER EXTENSION fieldcrypt ADD TABLE {}",
    ):
        statement = sql.SQL(statement).format(
            name, sql.Literal(start.isoformat()), sql.Literal(end.isoformat())
        )
        database.execute(statement)
