"""What makes doctor() find something, one case after the other, and how its remedies are used.

A case is a generator over a server that is well run. It first breaks something, and yields what
doctor() has to say about it: subject and remedy; if the remedy is not SQL for a superuser, a
function that carries it out; and the exact finding, where the case is one of several. What is left
when it goes on is put right by the case.
"""

from . import adoption, contents, copies, keyring, keys, protection, roles, search, settings  # noqa: F401
from .case import CANARY, CASES, PROBLEM

__all__ = ["CANARY", "CASES", "PROBLEM"]
