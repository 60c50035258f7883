"""What the cases are made of."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import harness

# A keyring with no keys of other software: there are findings about these.
write_keyring = partial(harness.write_keyring, adoption_keys={})

# A value that stands in many rows, and that no finding shows.
CANARY = "canary-77-1234"

# In place of the finding: what using a root key raises, which is one of many messages.
PROBLEM = "what using the key raises"

YEAR = "has been in use for more than a year"
TWO_YEARS = "has been in use for more than two years"

GRANT = "SELECT fieldcrypt.grant_access('{}', '{{{}}}', account => '{}', field => '{}')"


class Case(NamedTuple):
    severity: str
    finding: str  # N stands for a number
    run: Callable
    beside: tuple  # other findings that cannot be helped, as patterns
    applies: bool  # on this build of PostgreSQL
    id: str


CASES = []


def case(severity, finding, *, beside=(), applies=True, id=None):
    def add(run):
        CASES.append(Case(severity, finding, run, beside, applies, id or run.__name__))
        return run

    return add


def grant(well, role, privileges, account="acme", field="lead.*"):
    """Makes a grant that grant_access() would refuse, since a superuser is in every role."""
    well.execute(
        "INSERT INTO fieldcrypt.access_grant (role, account, field, privileges)"
        " VALUES (%s::regrole, %s, %s, %s)",
        [role, account, field, privileges.split(",")],
    )


def revoke(role, privileges, account, field):
    return (
        f"SELECT fieldcrypt.revoke_access('{role}', '{{{privileges}}}', account => '{account}',"
        f" field => '{field}');"
    )
