"""Databases that are not UTF-8: values and tokens are made of UTF-8 all the same."""

import psycopg
import pytest
from expect import refused, texts
from harness import account_database
from psycopg import sql

UMLAUTS = "Jürgen Größe ÄÖÜ àéîõû ¿"


def other_encoding(cluster, encoding):
    """Creates a database of that encoding and returns its name."""
    name = f"db_{encoding.lower()}"
    with cluster.connect() as connection:
        connection.execute(
            sql.SQL(
                "CREATE DATABASE {} ENCODING {} LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
            ).format(sql.Identifier(name), encoding)
        )
    return name


FOUND = "SELECT id, fieldcrypt.decrypt(name) FROM person WHERE name = %s"
TOKEN = "SELECT fieldcrypt.blind_index(%s, 'name')"


def connect(cluster, name, account="acme"):
    connection = cluster.connect("app", name)
    connection.execute("SET client_encoding = 'UTF8'")
    connection.execute("SELECT set_config('fieldcrypt.account', %s, false)", [account])
    return connection


@pytest.fixture
def utf8(cluster):
    with account_database(cluster) as database:
        database.execute("""
            SELECT fieldcrypt.create_field(
                'name', search => '{exact}', normalizer => 'casefold', label => 'Größe');
            SELECT fieldcrypt.create_account('müller');
            SELECT fieldcrypt.grant_access('app', '{encrypt,search,decrypt}', '*', 'name');
            CREATE TABLE person (id int, name fieldcrypt.encrypted_text('name'));
            GRANT ALL ON person TO app;
        """)
        yield database


@pytest.fixture
def latin1(cluster):
    name = other_encoding(cluster, "LATIN1")
    yield name
    cluster.drop_database(name)


@pytest.mark.every_version
def test_latin1(cluster, utf8, latin1):
    """What is moved between a UTF-8 and a LATIN1 database, both ways, opens and is found."""
    with connect(cluster, utf8.name) as app:
        app.execute("INSERT INTO person VALUES (1, %s), (2, 'Zoë')", [UMLAUTS])
        token = app.execute(TOKEN, [UMLAUTS]).fetchone()

    cluster.psql(cluster.run("pg_dump", "-d", utf8.name).stdout, dbname=latin1)
    with connect(cluster, latin1) as app:
        assert app.execute("SHOW server_encoding").fetchone() == ("LATIN1",)
        assert app.execute(TOKEN, [UMLAUTS]).fetchone() == token
        assert app.execute(FOUND, [UMLAUTS.upper()]).fetchall() == [(1, UMLAUTS)]
        assert app.execute(FOUND, ["ZOË"]).fetchall() == [(2, "Zoë")]
        app.execute("INSERT INTO person VALUES (3, %b)", ["Ångström"])
        with app.cursor().copy("COPY person FROM STDIN (FORMAT binary)") as stream:
            stream.set_types(["int4", "text"])
            stream.write_row([4, "Ærø"])
        assert app.execute(FOUND, ["ångström"]).fetchall() == [(3, "Ångström")]
        assert app.execute(FOUND, ["ærø"]).fetchall() == [(4, "Ærø")]
        rows = app.execute("SELECT id, name FROM person").fetchall()

    # Back again: what was written there opens here.
    utf8.execute("TRUNCATE person")
    for number, envelope in rows:
        utf8.execute("INSERT INTO person VALUES (%s, %s)", [number, envelope])
    with connect(cluster, utf8.name) as app:
        assert app.execute(FOUND, ["ærø"]).fetchall() == [(4, "Ærø")]
        assert app.execute(FOUND, [UMLAUTS]).fetchall() == [(1, UMLAUTS)]
        app.execute("INSERT INTO person VALUES (5, 'Łódź €')")
        # The client's encoding may be another one still.
        app.execute("SET client_encoding = 'WIN1252'")
        app.execute("INSERT INTO person VALUES (6, %s), (7, %b)", ["Œuvre €", "Žižek"])
        assert app.execute(FOUND, ["œuvre €"]).fetchall() == [(6, "Œuvre €")]
        app.execute("SET client_encoding = 'UTF8'")
        assert app.execute(FOUND, ["žižek"]).fetchall() == [(7, "Žižek")]
    # What LATIN1 has no letter for is an error there, not a question mark.
    envelope = utf8.value("SELECT name FROM person WHERE id = 5")
    with cluster.connect(dbname=latin1) as superuser:
        superuser.execute("INSERT INTO person VALUES (5, %s)", [envelope])
    with connect(cluster, latin1) as app:
        with refused("22P05", "has no equivalent in encoding"):
            app.execute("SELECT fieldcrypt.decrypt(name) FROM person WHERE id = 5")


@pytest.mark.parametrize("database", ["utf8", "latin1"])
def test_accounts_beyond_ascii(cluster, utf8, latin1, database):
    """An account's name is the same account in every encoding, also in messages."""
    with connect(cluster, utf8.name, "müller") as app:
        app.execute("INSERT INTO person VALUES (1, 'x')")
    cluster.psql(cluster.run("pg_dump", "-d", utf8.name).stdout, dbname=latin1)
    name = latin1 if database == "latin1" else utf8.name
    with connect(cluster, name, "müller") as app:
        app.execute("INSERT INTO person VALUES (2, 'x')")
        assert app.execute(FOUND, ["x"]).fetchall() == [(1, "x"), (2, "x")]
        owners = app.execute("SELECT DISTINCT fieldcrypt.account_of(name) FROM person")
        assert owners.fetchall() == [("müller",)]
    with connect(cluster, name, "möller") as app:
        # what the database's encoding may not have is shown as a question mark
        shown = "m.ller" if database == "latin1" else "möller"
        with refused("42704", f'account "{shown}" does not exist', hint="create_account"):
            app.execute("INSERT INTO person VALUES (3, 'x')")


@pytest.mark.parametrize("database", ["utf8", "latin1"])
def test_messages_are_in_the_encoding_of_the_client(cluster, utf8, latin1, database):
    cluster.psql(cluster.run("pg_dump", "-d", utf8.name).stdout, dbname=latin1)
    with connect(cluster, latin1 if database == "latin1" else utf8.name, "") as app:
        with pytest.raises(psycopg.Error) as caught:
            app.execute("INSERT INTO person VALUES (3, 'x')")
        message = texts(caught.value)
        assert "no account is set" in message and "â" not in message


def test_sql_ascii_is_refused(cluster):
    """Nobody knows which letters its bytes are."""
    name = other_encoding(cluster, "SQL_ASCII")
    try:
        with cluster.connect(dbname=name) as connection:
            with refused("0A000", "encoding SQL_ASCII is not supported", hint="UTF8"):
                connection.execute("CREATE EXTENSION fieldcrypt")
    finally:
        cluster.drop_database(name)
