"""The keys of a database, unwrapped by the second implementation of docs/envelope.md."""

import importlib.util
from pathlib import Path

_PATH = Path(__file__).parents[2] / "core/tests/verify_vectors.py"
_SPEC = importlib.util.spec_from_file_location("verify_vectors", _PATH)
envelope = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(envelope)

XAES_256_GCM = 1


def secret_keys(database, account):
    """Every key that a session can come by, by name; field keys of one account only."""
    root = bytes.fromhex((database.cluster.keys_dir / "main.key").read_text())
    keys = {"root": root}
    rows = database.execute(
        "SELECT account, purpose, version, key_id, wrapped, check_value FROM fieldcrypt.account_key"
        " ORDER BY purpose = 'wrapping' DESC"
    )
    for owner, purpose, version, number, wrapped, check_value in rows:
        name = envelope.key_name(owner, purpose, version, number.to_bytes(8, "big"))
        wrapping_key = root if purpose == "wrapping" else keys[f"{owner}/wrapping"]
        keys[f"{owner}/{purpose}"] = envelope.unwrap(wrapping_key, name, wrapped, check_value)
    for (field,) in database.execute("SELECT name FROM fieldcrypt.field").fetchall():
        for purpose in "data", "index":
            keys[f"{account}/{purpose}/{field}"] = envelope.field_key(
                keys[f"{account}/{purpose}"],
                *(purpose, XAES_256_GCM, 32, envelope.field_id(field), account),
            )
    return keys
