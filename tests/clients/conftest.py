"""The database that the clients share."""

import socket

import pytest
from cases import MODES, ROLES, SCHEMA
from harness import Cluster, Database


@pytest.fixture(scope="session")
def customers():
    """The database of customers, on a server that also listens on the loopback, for JDBC."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    cluster = Cluster({"listen_addresses": "127.0.0.1", "port": port})
    cluster.port = port
    with cluster:
        cluster.create_roles(*MODES)
        database = Database(cluster, "customers")
        database.execute(SCHEMA)
        database.execute(ROLES)
        yield database
        database.conn.close()
