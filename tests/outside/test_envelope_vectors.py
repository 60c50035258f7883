"""The second implementation of the envelope agrees with the test vectors."""

import re
import subprocess
import sys
from pathlib import Path

VERIFY = Path(__file__).parents[2] / "core/tests/verify_vectors.py"


def test_second_implementation():
    result = subprocess.run([sys.executable, VERIFY], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    checks, failures = re.search(r"^(\d+) checks, (\d+) failures$", result.stdout, re.M).groups()
    assert int(checks) > 1000
    assert int(failures) == 0
