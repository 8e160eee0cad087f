"""Commits of the library, without a mount, read and continued by the official one."""
import json
import string
import subprocess
import sys

import icechunk as ic
import pytest
import zarr

from conftest import HERE, c_program

TOP = HERE.parent
OFF, FAIL, OURS, THEIRS = range(4)


@pytest.fixture(scope="session")
def tool():
    return c_program("firn-commit")


class Repo:
    def __init__(self, path, tool):
        self.path, self.tool = path, tool
        self.official = ic.Repository.create(ic.local_filesystem_storage(str(path)))

    def run(self, *args):
        p = subprocess.run([str(self.tool), *map(str, args)], capture_output=True, text=True)
        if p.returncode != 0:
            raise AssertionError(p.stderr)
        return p.stdout.strip()

    def commit(self, script, base="-", policy=OFF):
        return self.run("commit", self.path, base, policy, script)

    def merge(self, *scripts):
        return self.run("merge", self.path, *scripts)

    def reopened(self):
        return ic.Repository.open(ic.local_filesystem_storage(str(self.path)))

    def root(self, **where):
        where = where or {"branch": "main"}
        return zarr.open_group(self.reopened().readonly_session(**where).store, mode="r")

    def check(self):
        out = subprocess.run([sys.executable, str(TOP / "tests/oracle/icedump.py"), "check", str(self.path)],
                             capture_output=True, text=True, check=True).stdout
        assert json.loads(out) == []


@pytest.fixture
def repo(tmp_path, tool):
    r = Repo(tmp_path / "r", tool)
    yield r
    r.check()


def values(array):
    return bytes(array[:].tobytes())


def test_first_commit__read(repo):
    id = repo.commit("array /g/a 4 1;chunk /g/a 0 A;native /g/a 2 C;array /s - -;chunk /s - Z")
    info = next(iter(repo.reopened().ancestry(branch="main")))
    assert (info.id, info.message, info.metadata) == (id, "by firn", {"who": "us"})
    root = repo.root()
    assert values(root["g/a"]) == b"A\0C\0" and root["s"][()] == ord("Z")
    assert sorted(root) == ["g", "s"]


def test_continue__official_and_ours_in_turns(repo):
    repo.commit("array /a 4 1;chunk /a 0 A")
    for i in range(1, 4):
        s = repo.reopened().writable_session("main")
        zarr.open_group(s.store)["a"][i] = ord("0") + i
        s.commit("theirs")
        repo.commit(f"chunk /a 0 {chr(ord('A') + i)}")
    assert values(repo.root()["a"]) == b"D123"


def test_diff__says_what_changed(repo):
    first = repo.commit("group /g;array /a 4 1;chunk /a 0 A;chunk /a 3 D;array /old 1 1")
    second = repo.commit("array /a 2 1;chunk /a 1 B;array /p/n 1 1;delete /old;group /g x")
    d = repo.reopened().diff(from_snapshot_id=first, to_snapshot_id=second)
    assert d.new_groups == {"/p"} and d.new_arrays == {"/p/n"}
    assert d.deleted_arrays == {"/old"} and d.deleted_groups == set()
    assert d.updated_arrays == {"/a"} and d.updated_groups == {"/g"}
    assert {k: sorted(map(tuple, v)) for k, v in d.updated_chunks.items()} == {"/a": [(1,), (3,)]}
    assert values(repo.root()["a"]) == b"AB"
    assert values(repo.root(snapshot_id=first)["a"]) == b"A\0\0D"


def test_merge__of_many_workers(repo):
    repo.commit("array /a 64 1")
    text = string.ascii_letters + string.digits + "+-"
    repo.merge(*[";".join(f"chunk /a {j} {text[j]}" for j in range(i, 64, 8)) + ";array /w 9 1"
                 for i in range(8)])
    assert values(repo.root()["a"]) == text.encode()


def test_split__rule_is_kept_by_the_official_library(repo):
    repo.commit("array /a 250000 1;chunk /a 0 A;chunk /a 249999 Z")
    assert len(list((repo.path / "manifests").iterdir())) == 2
    s = repo.reopened().writable_session("main")
    zarr.open_group(s.store)["a"][150000] = ord("M")
    s.commit("middle")
    assert len(list((repo.path / "manifests").iterdir())) == 3
    a = repo.root()["a"]
    assert (a[0], a[150000], a[249999]) == tuple(b"AMZ")


def test_rebase__on_official_commits(repo):
    base = repo.commit("array /a 4 1;chunk /a 0 A")
    s = repo.reopened().writable_session("main")
    zarr.open_group(s.store)["a"][1] = ord("B")
    s.commit("theirs")
    with pytest.raises(AssertionError, match="moved"):
        repo.commit("chunk /a 2 C", base)
    repo.commit("chunk /a 2 C", base, FAIL)
    assert values(repo.root()["a"]) == b"ABC\0"
    with pytest.raises(AssertionError, match="chunk /a 1"):
        repo.commit("chunk /a 1 X", base, FAIL)
    repo.commit("chunk /a 1 X;chunk /a 3 D", base, THEIRS)
    assert values(repo.root()["a"]) == b"ABCD"
    repo.commit("chunk /a 1 X", base, OURS)
    assert values(repo.root()["a"]) == b"AXCD"


def test_rebase__official_over_ours(repo):
    repo.commit("array /a 4 1;chunk /a 0 A")
    s = repo.reopened().writable_session("main")
    zarr.open_group(s.store)["a"][1] = ord("B")
    repo.commit("chunk /a 2 C")
    s.commit("theirs", rebase_with=ic.ConflictDetector())
    s = repo.reopened().writable_session("main")
    zarr.open_group(s.store)["a"][3] = ord("D")
    repo.commit("chunk /a 3 X")
    with pytest.raises(ic.RebaseFailedError):
        s.commit("theirs", rebase_with=ic.ConflictDetector())
    assert values(repo.root()["a"]) == b"ABCX"


def test_moves__are_not_rebased_over(repo):
    base = repo.commit("group /b;array /a 4 1;chunk /a 0 A")
    s = repo.reopened().rearrange_session("main")
    s.move("/b", "/bb")
    s.commit("moved")
    with pytest.raises(AssertionError, match="moved /b"):
        repo.commit("chunk /a 1 B", base, OURS)
