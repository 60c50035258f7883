"""Fixtures of the outside-in tests, which run against a real server: scripts/outside VERSION."""

import signal

import pytest
from harness import Cluster, account_database


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "every_version: also run on PostgreSQL 16 and 18, not only on 15"
    )
    # Leave in the orderly way when terminated, so that no server stays behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("terminated", 143))


@pytest.fixture(scope="session")
def cluster():
    """A running server that all tests share: they must not stop or reconfigure it."""
    with Cluster() as shared:
        yield shared


@pytest.fixture
def make_cluster():
    """Makes running servers of the test's own: make_cluster({"fsync": "on"})."""
    clusters = []

    def make(settings=None, **options):
        clusters.append(Cluster(settings, **options))
        clusters[-1].start()
        return clusters[-1]

    yield make
    for cluster in clusters:
        cluster.remove()


@pytest.fixture
def db(cluster):
    """A fresh database with the extension, two accounts and two fields; see account_database."""
    with account_database(cluster) as database:
        yield database
