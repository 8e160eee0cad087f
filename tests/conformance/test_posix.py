"""What POSIX says of files, where firn has to take special care: chunks of the base, open files, many writers."""
import json
import os
import subprocess

import pytest

from conftest import assert_committed, assert_same, drop_caches, put, put_array, read_tree


@pytest.fixture
def base(mount):
    """The directory of an array's chunk files, some of them committed, small and large."""
    put_array(mount.main, "a", (40,), (1,))
    for i, size in enumerate((10, 600, 5000, 300000)):
        put(mount.main, f"a/c/{i}", bytes([i]) * size)
    mount.commit("base")
    return mount.main / "a/c"


# ---- names and open files ----

@pytest.mark.parametrize("chunk", range(4))
def test_unlinked_while_open_for_writing__stays_away(mount, base, chunk):
    at = base / str(chunk)
    old = at.read_bytes()
    fd = os.open(at, os.O_RDWR)
    os.unlink(at)
    os.pwrite(fd, b"more", len(old))
    assert os.pread(fd, len(old) + 9, 0) == old + b"more"
    assert os.fstat(fd).st_nlink == 0
    assert not at.exists()
    os.fsync(fd)
    os.close(fd)
    assert not at.exists() and str(chunk) not in os.listdir(base)
    mount.commit("after")
    assert not at.exists()


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("how", ["rename", "remove and create", "remove and touch"])
def test_replaced_while_open_for_writing__the_new_file_stays(mount, base, chunk, how):
    at = base / str(chunk)
    fd = os.open(at, os.O_RDWR)
    os.pwrite(fd, b"old, changed", 0)
    if how == "rename":
        os.rename(put(base, "x.tmp", b"new" * 1000), at)
    else:
        os.unlink(at)
        at.write_bytes(b"new" * 1000 if how == "remove and create" else b"")
    os.pwrite(fd, b"old, later", 5)
    os.fsync(fd)
    os.close(fd)
    want = b"" if how == "remove and touch" else b"new" * 1000
    assert at.read_bytes() == want
    if want:
        mount.commit("after")
        assert at.read_bytes() == want


@pytest.mark.parametrize("size", [10, 600, 5000, 300000])
@pytest.mark.parametrize("names", [["1"], ["note", "1"], ["77", "1"], ["1", "note", "2", "0"]])
def test_renamed_chunk__keeps_its_bytes(mount, size, names):
    put_array(mount.main, "a", (40,), (1,))
    data = os.urandom(size)
    at = put(mount.main, "a/c/0", data)
    for name in names:
        os.rename(at, at.parent / name)
        at = at.parent / name
        for _ in range(2):
            assert at.read_bytes() == data
            drop_caches()
    with open(at, "r+b") as f:
        f.write(b"!")
    assert at.read_bytes() == b"!" + data[1:]
    mount.commit("m")
    assert at.read_bytes() == b"!" + data[1:]


@pytest.mark.parametrize("chunk", range(3))
@pytest.mark.parametrize("change", ["grow", "shrink", "overwrite"])
def test_written_in_place_under_a_reader__both_read_it(base, chunk, change):
    at = base / str(chunk)
    want = bytearray(at.read_bytes())
    drop_caches()
    reader = os.open(at, os.O_RDONLY)       # has read nothing yet
    with open(at, "r+b") as f:
        if change == "grow":
            f.seek(0, 2)
            f.write(b"more" * 3000)
            want += b"more" * 3000
        elif change == "shrink":
            f.truncate(5)
            del want[5:]
        else:
            f.write(b"new")
            want[:3] = b"new"
    for _ in range(2):
        assert b"".join(iter_reads(reader)) == want
        assert at.stat().st_size == len(want) and at.read_bytes() == want
        drop_caches()
    os.close(reader)


# ---- while a commit is under way ----

class Commit:
    """A commit of a mount, step by step, with work between its beginning and its end."""

    def __init__(self, mount):
        self.mount = mount
        self.fd = os.open(mount.path / ".firn/ctl", os.O_RDWR)
        self.journal = self("commit-begin", wait_ms=2000)["journal"]

    def __call__(self, op, **more):
        os.pwrite(self.fd, json.dumps({"op": op} | more).encode(), 0)
        reply = json.loads(b"".join(iter_reads(self.fd)))
        assert reply["ok"], reply
        return reply

    def end(self):
        snapshot = self.mount.firn.snapshot("commit", self.journal, "-m", "its journal")
        self("commit-end", snapshot=snapshot)
        os.close(self.fd)


def iter_reads(fd):
    at = 0
    while part := os.pread(fd, 65536, at):
        yield part
        at += len(part)


DURING = {
    "unlink": lambda d: os.unlink(d / "0"),
    "rename": lambda d: os.rename(d / "0", d / "1"),
    "truncate and rename": lambda d: (os.truncate(d / "0", 50), os.rename(d / "0", d / "1")),
    "rename and back": lambda d: (os.rename(d / "0", d / "1"), os.rename(d / "1", d / "0")),
    "rename to a temporary name": lambda d: os.rename(d / "0", d / "0.tmp"),
    "unlink and create": lambda d: (os.unlink(d / "0"), (d / "0").write_bytes(b"other" * 200)),
    "append": lambda d: subprocess.run(["sh", "-c", f"echo more >>{d}/0"], check=True),
    "truncate": lambda d: os.truncate(d / "0", 7),
    "replace": lambda d: os.rename(put(d, "x.tmp", b"new" * 400), d / "0"),
    "new one": lambda d: put(d, "2", b"new" * 400),
}


ENDS = ["commit", "killed", "given up"]
# Each work with one end; all with all of them in the long form.
SOME = [(work, ENDS[i % 2]) for i, work in enumerate(DURING)]


@pytest.mark.parametrize("size", [3000])
@pytest.mark.parametrize("committed", [False], ids=["new array"])
@pytest.mark.parametrize("during, end", SOME)
def test_done_during_a_commit(repo, mounts, tmp_path, during, committed, end, size):
    done_during_a_commit(repo, mounts, tmp_path, DURING[during], committed, end, size)


@pytest.mark.soak
@pytest.mark.parametrize("size", [100, 3000])
@pytest.mark.parametrize("committed", [False, True], ids=["new array", "base"])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("during", DURING)
def test_done_during_a_commit__all(repo, mounts, tmp_path, during, committed, end, size):
    done_during_a_commit(repo, mounts, tmp_path, DURING[during], committed, end, size)


def done_during_a_commit(repo, mounts, tmp_path, during, committed, end, size):
    def work(directory, *steps):
        for step in steps:
            step(directory)

    mount = mounts.enter_context(repo.mount())
    here, there = tmp_path / "plain", mount.main / "a/c"
    here.mkdir()
    put_array(mount.main, "a", (40,), (1,))
    there.mkdir()
    if committed:
        mount.commit("array")
    work(here, lambda d: put(d, "0", b"x" * size))
    work(there, lambda d: put(d, "0", b"x" * size))
    commit = Commit(mount)
    work(here, during)
    work(there, during)
    want = read_tree(here)
    assert_same(read_tree(there), want, "during the commit")
    if end == "commit":
        commit.end()
    elif end == "given up":
        os.close(commit.fd)
    else:
        snapshot = mount.firn.json("commit", commit.journal, "-m", "its journal")["snapshot"]
        # Killed between the branch's move and the mount's.
        commit("commit-intent", snapshot=snapshot)
        session = mount.session()["id"]
        os.close(commit.fd)
        mount.kill()
        mount = mounts.enter_context(repo.resume(session))
        there = mount.main / "a/c"
        want.pop("0.tmp", None)      # scratch files go with their driver
    assert_same(read_tree(there), want, "after it")
    (there / "0.tmp").unlink(missing_ok=True)
    want.pop("0.tmp", None)
    p = mount.firn.run("commit", mount, "-m", "the rest")
    assert p.returncode in (0, 4), p.stderr
    assert_same(read_tree(there), want, "after the next one")
    assert_committed(repo, mount.main)
