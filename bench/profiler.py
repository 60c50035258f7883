"""Where the time of a backend goes: the functions that perf finds on the processor, by kind."""

import re
import signal
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path

SECONDS = 6

# What a function is for, by a word in its name: the first that fits counts.
KINDS = {
    "AES, GCM, XAES": r"aes|polyval|ghash|universal_hash|cipher::|ctr::|inout",
    "HMAC-SHA-256": r"sha2|digest|hmac|block_buffer",
    "normalizer": r"normalize|icu_|String as",
    "caches and rights": r"cache|lru|access|invalidation|catalog|hash_one",
    "random bytes": r"random|chacha|copy_to_iter|blake",
    "copying and allocating": r"^mem|memmove|memset|memcmp|alloc|free|AllocSet",
}
OTHERS = {
    "fieldcrypt.so": "envelope and the call itself",
    "[kernel.kallsyms]": "operating system: WAL, files",
}


def shares_of(pid, work):
    """The share of each kind in the CPU time of a process that repeats `work`."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        work()
        perf = subprocess.Popen(
            ["perf", "record", "-q", "-e", "cpu-clock", "-F", "2999", "-p", str(pid), "-o", data]
        )
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            work()
        perf.send_signal(signal.SIGINT)
        perf.wait()
        report = subprocess.check_output(
            ["perf", "report", "-i", data, "--stdio", "-F", "overhead,dso,sym", "-t", "|"],
            text=True,
            stderr=subprocess.DEVNULL,
        )
    shares = Counter()
    for line in report.splitlines():
        if line.count("|") >= 2 and not line.startswith("#"):
            share, library, function = (part.strip() for part in line.split("|", 2))
            shares[_kind(library, function)] += float(share.rstrip("%"))
    return shares


def _kind(library, function):
    function = function.removeprefix("[.] ").removeprefix("[k] ")
    for kind, words in KINDS.items():
        if re.search(words, function):
            return kind
    return OTHERS.get(library, "PostgreSQL and the rest")


def shares_table(shares):
    kinds = [*KINDS, *OTHERS.values(), "PostgreSQL and the rest"]
    lines = ["| | " + " | ".join(shares) + " |", "|---|" + "---:|" * len(shares)]
    for kind in kinds:
        lines.append(
            f"| {kind} | " + " | ".join(f"{s[kind]:.0f} %" for s in shares.values()) + " |"
        )
    return "\n".join(lines)
