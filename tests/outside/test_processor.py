"""The library refuses a processor without the instructions that it was built with."""

import platform
import shutil

import pytest
from harness import Cluster

MESSAGE = "fieldcrypt was built for processors with AES, AVX and PCLMULQDQ"

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="not of this processor")


@pytest.fixture(scope="module")
def stopped():
    cluster = Cluster({"shared_preload_libraries": ""})
    with cluster:
        cluster.stop()
        yield cluster


def single_user(cluster, processor, *arguments, statements=""):
    """What a server says that runs on an emulated processor, and how it ends."""
    ended = cluster.run(
        *(shutil.which("qemu-x86_64"), "-cpu", processor, cluster.bin / "postgres", "--single"),
        *("-D", cluster.data_dir, *arguments, "postgres"),
        input=statements,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


PRELOADED = ("-c", "shared_preload_libraries=fieldcrypt")


@pytest.mark.parametrize("processor", ["Nehalem", "max,-aes", "max,-avx", "max,-pclmulqdq"])
def test_a_server_does_not_start_without(stopped, processor):
    code, told = single_user(stopped, processor, *PRELOADED)
    assert code == 1
    assert f"FATAL:  {MESSAGE}" in told
    assert "HINT:" in told


def test_a_session_goes_on_without(stopped):
    statements = "LOAD 'fieldcrypt';\nSELECT 40 + 2 AS found;\n"
    code, told = single_user(stopped, "Nehalem", statements=statements)
    assert code == 0
    assert f"ERROR:  {MESSAGE}" in told
    assert 'found = "42"' in told


def test_it_loads_with(stopped):
    code, told = single_user(stopped, "max", *PRELOADED)
    assert code == 0
    assert MESSAGE not in told
