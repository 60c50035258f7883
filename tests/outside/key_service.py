"""A stand-in for the program of a key service: the provider `command` of docs/keyring.md.

Called with the folder that holds its root key, a file `mode` that says how it behaves, and a file
`calls` to which it adds a line for each question. Runs on Python's standard library alone.
"""

import base64
import hashlib
import hmac
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path


def sealed(root, context, nonce, key):
    """The key under the root key and the context, and back."""
    stream = hmac.digest(root, b"stream" + nonce + context, hashlib.sha256)
    return bytes(a ^ b for a, b in zip(key, stream, strict=True))


def seal_of(root, context, nonce, body):
    return hmac.digest(root, b"seal" + nonce + context + body, hashlib.sha256)


def answer(folder, mode, question):
    root = bytes.fromhex((folder / "root").read_text())
    if mode == "another":
        root = hashlib.sha256(root).digest()
    context = json.dumps(question["context"], sort_keys=True).encode()
    if question["operation"] == "wrap":
        nonce = secrets.token_bytes(16)
        body = sealed(root, context, nonce, base64.b64decode(question["key"]))
        wrapped = nonce + body + seal_of(root, context, nonce, body)
        return {"wrapped": base64.b64encode(wrapped).decode()}
    wrapped = base64.b64decode(question["wrapped"])
    nonce, body, seal = wrapped[:16], wrapped[16:48], wrapped[48:]
    if mode != "another" and not hmac.compare_digest(seal, seal_of(root, context, nonce, body)):
        return {"error": "denied"}
    return {"key": base64.b64encode(sealed(root, context, nonce, body)).decode()}


def misbehave(folder, mode, reply):
    """What it writes instead of its reply; None: nothing, and it ends."""
    key = reply.get("key") or reply.get("wrapped")
    texts = {
        "denied": '{"error": "denied"}\n',
        "unavailable": '{"error": "unavailable"}\n',
        "words": '{"error": "no such key ' + str(key) + '"}\n',
        "no JSON": str(key) + "\n",
        "nothing": "{}\n",
        "short": json.dumps({"key": "AAAA", "wrapped": ""}) + "\n",
        "no base64": json.dumps({"key": "?" * 44, "wrapped": "?"}) + "\n",
        "half": json.dumps(reply)[:20],
        "long": '{"key": "' + "A" * 100_000 + '"}\n',
        "two": json.dumps(reply) + "\n" + json.dumps(reply),
    }
    if mode == "hang":
        child = subprocess.Popen(["/bin/sleep", "600"])
        (folder / "processes").write_text(f"{os.getpid()} {child.pid}")
        time.sleep(600)
    if mode == "slow":
        time.sleep(0.5)
    if mode == "exit":
        return None
    return texts.get(mode, json.dumps(reply) + "\n")


def main():
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        question = json.loads(line)
        mode = (folder / "mode").read_text()
        with (folder / "calls").open("a") as calls:
            calls.write(json.dumps([question["operation"], question["root"], question["context"]]))
            calls.write("\n")
        files = [int(name) for name in os.listdir("/proc/self/fd")]
        files = [file for file in files if os.path.exists(f"/proc/self/fd/{file}")]
        state = {"environment": dict(os.environ), "files": files, "folder": os.getcwd()}
        (folder / "state").write_text(json.dumps(state))
        text = misbehave(folder, mode, answer(folder, mode, question))
        print(text, file=sys.stderr)
        if text is None:
            break
        sys.stdout.write(text)
        sys.stdout.flush()
        if mode == "once" or mode in ("half", "two"):
            break


if __name__ == "__main__":
    main()
