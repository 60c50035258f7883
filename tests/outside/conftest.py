"""Fixtures of the behaviour tests: leads of two accounts, and sessions of their users."""

import pytest
from expect import LEADS


@pytest.fixture
def leads(db):
    """A fresh database with the table of leads."""
    db.execute(LEADS)
    return db


@pytest.fixture
def session(leads):
    """Opens connections to the database of leads: session("app_globex", account="globex")."""
    opened = []

    def open_session(user="app", account="acme", **options):
        options = {"prepare_threshold": None, **options}
        if account is not None:
            options["options"] = f"-c fieldcrypt.account={account}"
        opened.append(leads.connect(user, **options))
        return opened[-1]

    yield open_session
    for connection in opened:
        connection.close()


@pytest.fixture
def app(session):
    """A session of the role `app` with the account acme."""
    return session()
