"""Fixtures of the scenario suites: a database for each suite, and sessions of its users.

A suite loads its data once, in a fixture of the scope `module` on top of `database`; its tests
change no rows that other tests count on, or do so in a transaction that they roll back.
"""

import exactjson
import pytest
from harness import Database


@pytest.fixture(scope="module")
def database(cluster):
    """An empty database with the extension; its superuser connection reads JSON exactly."""
    fresh = Database(cluster)
    fresh.execute("CREATE EXTENSION fieldcrypt")
    exactjson.register(fresh.conn)
    yield fresh
    fresh.drop()


@pytest.fixture(scope="module")
def session(database):
    """Opens connections to the suite's database: session("leadflip_agent", account="acme").

    A user's connection for an account is opened once, and shared by the tests of the suite.
    """
    opened = {}

    def open_session(user, account=None):
        if (user, account) not in opened:
            options = f"-c fieldcrypt.account={account}" if account is not None else ""
            connection = database.connect(user, options=options)
            exactjson.register(connection)
            opened[user, account] = connection
        return opened[user, account]

    yield open_session
    for connection in opened.values():
        connection.close()
