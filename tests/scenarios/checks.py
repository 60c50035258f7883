"""What the scenario suites have in common: how to load, what is stored, and expected errors."""

import re
import unicodedata
from contextlib import contextmanager

import exactjson
import psycopg
import pytest
from psycopg import sql

HIDDEN = "********"
ENVELOPE = re.compile(r"fc1:[A-Za-z0-9_-]{40,}")
PATH_STEP = re.compile(r'"((?:[^"\\]|\\.)*)"|(\[\*\])|([^."\[\]]+)')


@contextmanager
def refused(sqlstate, message=None):
    """Expects the statement in the block to fail with that SQLSTATE.

    `message` is a pattern that the error's text has to match.
    """
    with pytest.raises(psycopg.Error) as caught:
        yield caught
    assert caught.value.sqlstate == sqlstate, caught.value
    assert message is None or re.search(message, caught.value.diag.message_primary), caught.value


def audited(database, columns, condition, parameters=()):
    """What the audit has about some events, in their order, once it is written."""
    database.execute("SELECT fieldcrypt.flush_audit()")
    statement = f"SELECT {columns} FROM fieldcrypt.audit WHERE {condition} ORDER BY seq"
    return database.execute(statement, parameters).fetchall()


@contextmanager
def transparent(connection):
    """Plain values without a function in the statement."""
    with connection.transaction():
        connection.execute("SET LOCAL fieldcrypt.transparent = on")
        yield connection


def everything_said(error):
    """Everything that the server says to the client in an error."""
    diag = error.diag
    parts = (
        diag.message_primary,
        diag.message_detail,
        diag.message_hint,
        diag.context,
        diag.internal_query,
    )
    return "\n".join(part for part in parts if part)


def load(connection, table, columns, rows):
    """Writes rows of text and numbers by COPY."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(table), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    with connection.cursor().copy(statement) as copy:
        for row in rows:
            copy.write_row(row)


def value(connection, query, parameters=None):
    """The only column of the first row."""
    return connection.execute(query, parameters).fetchone()[0]


def column(connection, query, parameters=None):
    """The values of the only column, row by row."""
    return [first for (first,) in connection.execute(query, parameters)]


def plan(connection, query, parameters=None):
    """The plan of a query as text."""
    return "\n".join(column(connection, f"EXPLAIN {query}", parameters))


# Documents. A place in one is a tuple of keys and array positions.


def places(document, path):
    """Where the values at a path such as `phones[*].number` stand in a document.

    The document has the shape that the path expects; a JSON null is no value.
    """
    found = [()]
    for quoted, every, key in PATH_STEP.findall(path):
        key = key or re.sub(r"\\(.)", r"\1", quoted)
        next_found = []
        for place in found:
            container = at(document, place)
            if every:
                next_found += [(*place, position) for position in range(len(container))]
            elif key in container:
                next_found.append((*place, key))
        found = next_found
    return {place for place in found if at(document, place) is not None}


def at(document, place):
    """The value at a place."""
    for step in place:
        document = document[step]
    return document


def with_values(document, values, place=()):
    """A copy of a document with other values at some places."""
    if place in values:
        return values[place]
    if isinstance(document, dict):
        return {key: with_values(item, values, (*place, key)) for key, item in document.items()}
    if isinstance(document, list):
        return [with_values(item, values, (*place, i)) for i, item in enumerate(document)]
    return document


def is_envelope(item):
    return isinstance(item, str) and ENVELOPE.fullmatch(item) is not None


def envelopes(document, place=()):
    """The ciphertexts of a stored document by their places."""
    if isinstance(document, dict):
        items = document.items()
    elif isinstance(document, list):
        items = enumerate(document)
    else:
        return {place: document} if is_envelope(document) else {}
    return {
        inner: envelope
        for step, item in items
        for inner, envelope in envelopes(item, (*place, step)).items()
    }


def assert_stored(stored, plain, sealed):
    """A stored document is the plain one with ciphertext at exactly the places `sealed`."""
    assert envelopes(stored).keys() == sealed
    nothing = dict.fromkeys(sealed)
    assert with_values(stored, nothing) == with_values(plain, nothing)
    text = exactjson.dumps(stored)
    for place in sealed:
        canary = exactjson.dumps(at(plain, place)).strip('"')
        assert len(canary) < 8 or canary not in text


# What the masks of these names show.


def characters(text):
    """The characters of a text, each with its combining marks."""
    found = []
    for code_point in text:
        if found and unicodedata.combining(code_point):
            found[-1] += code_point
        else:
            found.append(code_point)
    return found


def mask_ends(text, first, last):
    """The first and last characters, if at least as many others that are no blanks stay hidden."""
    shown = characters(text)
    hidden = shown[first : len(shown) - last]
    if len([character for character in hidden if not character.isspace()]) < first + last:
        return HIDDEN
    return f"{''.join(shown[:first])}****{''.join(shown[len(shown) - last :])}"


def mask_last4(text):
    return mask_ends(text, 0, 4)


def mask_first_last(text):
    return mask_ends(text, 1, 1)


def mask_email(text):
    mailbox, _, domain = text.rpartition("@")
    return f"{mailbox[0]}****@{domain}" if len(mailbox) >= 2 else HIDDEN


def mask_pan(text):
    digits = re.sub("[ -]", "", text)
    return f"{digits[:6]}{'*' * (len(digits) - 10)}{digits[-4:]}"
