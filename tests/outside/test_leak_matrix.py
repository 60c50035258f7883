"""The leak matrix: however a value got in, where on the server is it in plain?

docs/limitations.md names the places where it is, docs/leak_matrix.md shows all of them;
FIELDCRYPT_WRITE_LEAKS=1 writes the latter.
"""

import os

import leak_page
import pytest
from canaries import Canaries, forms
from leak_matrix import ACCOUNT, ENCRYPTED, MODES, PLAIN, WRAPPED, Matrix
from leak_places import COUNTS_STATEMENTS, MEASURED, core_dump, memory, watched_server
from leak_ways import PARAMETERS
from secret_keys import secret_keys

pytestmark = pytest.mark.every_version


@pytest.fixture(scope="module")
def matrix():
    with watched_server() as server:
        matrix = Matrix(server)
        matrix.run()
        yield matrix


def found(matrix, kind):
    return {
        (place, way, mode)
        for place in MEASURED
        for way, modes in MODES.items()
        for mode in modes
        if matrix.is_found(kind, way, mode, place)
    }


def test_encrypted_values_are_only_where_the_documentation_says(matrix):
    """And there they are: a place that is empty by now is named no longer."""
    named = {leak for leak in leak_page.named() if leak[0] in MEASURED}
    assert found(matrix, ENCRYPTED) == named


def test_plain_columns_are_found(matrix):
    unseen = set(leak_page.unseen())
    everywhere = {(p, way, mode) for p in MEASURED for way in MODES for mode in MODES[way]}
    assert found(matrix, PLAIN) == everywhere - unseen


def test_each_value_of_a_plain_row_is_found(matrix):
    # of two ways: the header of a page of the WAL may be in the middle of any value
    rows = matrix.written[PLAIN, "INSERT", PARAMETERS] | matrix.written[PLAIN, "COPY", PARAMETERS]
    columns = {place: {matrix.columns[c] for c in rows & matrix.found[place]} for place in MEASURED}
    expected = dict.fromkeys(MEASURED, {"ssn", "data", "note"})
    # the note is long
    expected |= dict.fromkeys(("heap", "indexes", "pg_statistic"), {"ssn", "data"})
    expected |= {"TOAST": {"note"}}
    statements = [place for place in MEASURED if place.startswith("pg_stat_")]
    expected |= dict.fromkeys(statements, set())
    assert columns == expected


def test_nothing_is_left_of_a_migration_after_cleaning(matrix):
    after = matrix.found_after_cleaning
    encrypted, plain = (matrix.written[k, "migration", PARAMETERS] for k in (ENCRYPTED, PLAIN))
    assert {place for place in after if after[place] & encrypted} == set()
    searched = ["pg_statistic", "heap", "TOAST", "indexes", "base backup", "pg_dump"]
    assert all(after[place] & plain for place in searched)


def test_no_key_is_found(matrix):
    keys = matrix.keys_found
    assert {place for place in keys if keys[place] - {WRAPPED}} == set()
    assert all(WRAPPED in keys[place] for place in ("heap", "base backup", "pg_dump"))


def test_no_key_in_core_dumps(matrix):
    """Of sessions that have used and made keys, and of the postmaster."""
    database = matrix.server.database
    database.execute("CREATE TABLE kept (ssn fieldcrypt.encrypted_text('lead.ssn'))")
    database.execute("GRANT ALL ON kept TO app; SELECT fieldcrypt.create_account('another')")
    with database.connect("app", options=f"-c fieldcrypt.account={ACCOUNT}") as app:
        app.execute("INSERT INTO kept VALUES ('123-45-6789')")
        query = "SELECT fieldcrypt.decrypt(ssn) FROM kept WHERE ssn = '123456789'"
        assert app.execute(query).fetchone() == ("123-45-6789",)
        keys = secret_keys(database, ACCOUNT)
        ids = public_ids(database)
        sessions = [app.info.backend_pid, database.conn.info.backend_pid]
        for process in *sessions, matrix.server.cluster.postmaster:
            dump = b"".join(core_dump(process))
            parts = {name: (key[:16], key[16:]) for name, key in keys.items()}
            assert [name for name in parts if any(part in dump for part in parts[name])] == []
            left_out = [data for data, is_left_out in memory(process) if is_left_out]
            assert any(keys["root"] in data for data in left_out)
            # whatever form a key has there, it is there only
            secrets = {secret for data in left_out for secret in random_bytes(data, ids)}
            assert secrets and [secret for secret in secrets if secret in dump] == []


def public_ids(database):
    """The ids that envelopes show, as a processor stores them."""
    rows = database.execute(
        "SELECT key_id FROM fieldcrypt.account_key UNION SELECT field_id FROM fieldcrypt.field"
    )
    return {number.to_bytes(8, "little", signed=True) for (number,) in rows}


def random_bytes(data, ids):
    """The runs of 16 bytes that look like a part of a key, and not like numbers or addresses."""
    for start in range(0, len(data), 8):
        run = data[start : start + 16]
        if len(set(run)) > 11 and b"\0\0" not in run and not {run[:8], run[8:]} & ids:
            yield run


@pytest.mark.skipif(not COUNTS_STATEMENTS, reason="this build has no pg_stat_statements")
def test_page(matrix):
    written = leak_page.render(matrix)
    if os.environ.get("FIELDCRYPT_WRITE_LEAKS"):
        leak_page.write(written)
    assert leak_page.in_page() == written


def test_every_form_of_a_value_is_found():
    canaries = Canaries()
    other, canary = canaries.new(), canaries.new()
    for form in forms(canary.encode()):
        assert canaries.found(b"before" + form + b"after") == {canary}
    assert canaries.found(f"{other} {canary}") == {other, canary}
    assert canaries.found(b"canary-") == set()
