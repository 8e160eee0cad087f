"""Test suites of others: pjdfstest, fsx, fio, and our own stress run; `make soak` runs their long forms.

FIRN_STRESS_SECONDS is how long the short stress run is: 5, in .ci/run 60.

`make tools` installs pjdfstest and fsx below build/tools, and fio; FIRN_SUITES names another directory of programs, and
PATH is looked through too.
"""
import json
import os
import pathlib
import re
import shutil
import subprocess

import pytest

import stress
from conftest import assert_committed, put_array, read_tree

HERE = pathlib.Path(__file__).parent
PJD = """
[features]
[settings]
naptime = 0.01
allow_remount = false
expected_failures = []
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""
# Weights of fsx; a weight that is not given is 10 for read, write, truncate, mapread, mapwrite and 0 for the others.
# Left out: punch_hole, which is EOPNOTSUPP on a mount.
FSX = {
    "mixed": "[weights]\nfsync = 1\ninvalidate = 1\ntruncate = 3",
    "opened again": "[weights]\nclose_open = 10\nmapread = 0\nmapwrite = 0",
    "every call": "[weights]\nclose_open = 2\ninvalidate = 2\nfsync = 1\nfdatasync = 1\nsendfile = 5\nposix_fadvise = 5\n"
                  "copy_file_range = 5\nposix_fallocate = 2",
    "small": "flen = 3000\n[opsize]\nmax = 700\n[weights]\nclose_open = 5\ninvalidate = 2",
    "large": "flen = 8388608\n[opsize]\nmax = 1048576\nalign = 4096\n[weights]\nclose_open = 1",
    "truncated": "[weights]\ntruncate = 40\nclose_open = 5\ninvalidate = 5",
    "mapped": "nomsyncafterwrite = true\n[weights]\nmapread = 40\nmapwrite = 40\ntruncate = 2\nfsync = 1",
    "synced": "[weights]\nfsync = 20\nfdatasync = 20\nclose_open = 5",
}


def program(name):
    path = os.pathsep.join([os.environ.get("FIRN_SUITES", ""), str(HERE.parent.parent / "build/tools/cargo/bin"), os.environ["PATH"]])
    found = shutil.which(name, path=path)
    assert found, f"there is no {name}: make tools"
    return found


@pytest.mark.soak
def test_pjdfstest(repo, mounts, tmp_path):
    mount = mounts.enter_context(repo.mount("-o", "allow_other"))
    for at in [mount.path, *mount.path.parents]:
        if at.owner() == "root" and at != pathlib.Path("/"):
            at.chmod(at.stat().st_mode | 0o055)     # the suite becomes other users on the way there
    (mount.main / "scratch").mkdir()
    (tmp_path / "pjd.toml").write_text(PJD)
    p = subprocess.run([program("pjdfstest"), "-c", tmp_path / "pjd.toml", "-p", mount.main / "scratch"],
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=600)
    results = dict(re.findall(r"^(\S+::\S+|\S+)\s+(ok|FAILED)\s*$", p.stdout, re.M))
    print(re.search("^Summary.*", p.stdout, re.M)[0])
    failed = {k for k, v in results.items() if v == "FAILED"}
    excluded = {line for line in (HERE / "pjdfstest.exclude").read_text().splitlines()
                if line and not line.startswith("#")}
    assert sum(v == "ok" for v in results.values()) > 100
    assert failed - excluded == set(), "fail and are not excluded"
    assert excluded - failed == set(), "are excluded and do not fail"


def fsx(path, tmp_path, settings, seed, operations):
    (tmp_path / "fsx.toml").write_text(settings)
    p = subprocess.run([program("fsx"), "-f", tmp_path / "fsx.toml", "-N", str(operations), "-S", str(seed),
                        "-P", tmp_path, path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1800)
    assert p.returncode == 0, p.stdout[-3000:]


@pytest.mark.soak
@pytest.mark.timeout(2000)
@pytest.mark.parametrize("where", ["scratch.bin", "a/c/0", "a/c/1"])
@pytest.mark.parametrize("seed, settings", enumerate(FSX, 1))
def test_fsx(repo, mount, tmp_path, where, seed, settings):
    put_array(mount.main, "a", (4,), (1,))
    (mount.main / "a/c").mkdir()
    (mount.main / "a/c/1").write_bytes(b"of the base" * 30000)
    mount.commit("a chunk that is there")
    fsx(mount.main / where, tmp_path, FSX[settings], seed, 4000 if settings == "large" else 20000)
    if where != "scratch.bin":
        left = (mount.main / where).read_bytes()
        if not left:        # an empty file has no place in a snapshot
            (mount.main / where).unlink()
        mount.commit("what fsx left")
        assert_committed(repo, mount.main)


@pytest.mark.soak
def test_fio_verifies(repo, mount, tmp_path):
    put_array(mount.main, "a", (8,), (1,))
    (mount.main / "a/c").mkdir()
    jobs = [f"[job{i}]\nfilename={mount.main}/a/c/{i}\n" for i in range(4)]
    job = ("[global]\nrw=randrw\nsize=16m\nbsrange=512-128k\nverify=crc32c\nverify_fatal=1\ndo_verify=1\n"
           "ioengine=psync\nloops=2\n" + "".join(jobs))
    p = subprocess.run([program("fio"), "--output-format=json", "-"], input=job, cwd=tmp_path, stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, text=True, timeout=900)
    assert p.returncode == 0, p.stdout[-3000:]
    result = json.loads(p.stdout[p.stdout.index("{"):])
    print("bytes verified:", sum(j["read"]["io_bytes"] for j in result["jobs"]))
    assert all(j["error"] == 0 for j in result["jobs"])
    mount.commit("m")
    assert_committed(repo, mount.main)


def stressed(mount, seconds, workers, seed, commits):
    commit = (lambda: mount.firn.run("commit", mount, "-m", "meanwhile").returncode) if commits else None
    r = stress.stress(mount.main, seconds, workers, seed, commit)
    print({k: v for k, v in r.items() if k != "files"})
    # Scratch files are nobody's data.
    tree = read_tree(mount.main / "a/c")
    for name, data in r["files"].items():
        assert tree[name.removeprefix("a/c/")] == bytes.fromhex(data), name
    return r


def test_stress(repo, mount):
    seconds = float(os.environ.get("FIRN_STRESS_SECONDS", 5))
    assert stressed(mount, seconds, 4, 1, False)["operations"] > 40 * seconds


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_stress__five_minutes(repo, mount):
    assert stressed(mount, 300, 4, 2, False)["operations"] > 10000


@pytest.mark.soak
def test_stress__many_writers(repo, mount):
    stressed(mount, 60, 64, 3, False)
