"""A close that fails leaves what was there; a commit nobody told the mount of is followed; an end that looks like a failure is none."""
import errno
import os
import time

import pytest

from calls import ALONE, ALWAYS, ERRORS, Calls, Committing
from conftest import assert_committed, assert_same, group_json, put, put_array, read_tree, replaced

OLD = {"native": b"old" * 5000, "inline": b"old", "streamed": b"old" * 200_000, "base": b"base" * 1000, "pending": b"old"}
NEW = {"native": b"new!" * 4000, "inline": b"n" * 9, "streamed": b"new!" * 200_000}


@pytest.mark.parametrize("how", [errno.EROFS, *(pytest.param(e, marks=pytest.mark.soak) for e in ERRORS if e != errno.EROFS)],
                         ids=errno.errorcode.get)
@pytest.mark.parametrize("there", OLD)
def test_close_that_fails__leaves_what_was_there(repo, mounts, tmp_path, there, how):
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
        put_array(m.main, "a", (10,), (1,))
        chunk = "b/c/1" if there == "pending" else "a/c/1"
        put(m.main, chunk, OLD[there])
        if there == "base":
            m.commit("base")
        want = read_tree(m.main)
        for new in NEW.values():
            with open(m.main / chunk, "r+b") as f, pytest.raises(OSError) as caught:
                assert f.read() == OLD[there]
                f.seek(0)
                calls.arm(1, ALWAYS, how)
                f.write(new)
                f.close()
            assert caught.value.errno == how
            # The kernel tells of a file's end some time after close(), and then it is tried once more.
            end = time.monotonic() + 10
            while read_tree(m.main) != want and time.monotonic() < end:
                time.sleep(0.01)
            calls.disarm()
            assert_same(read_tree(m.main), want, "when it has failed")
            assert (m.main / chunk).stat().st_size == len(OLD[there])
        replaced(m)
        assert_same(read_tree(m.main), want, "another driver")
        id = m.session()["id"]
        m.kill()
        m = mounts.enter_context(repo.resume(id))
    assert_same(read_tree(m.main), want, "resumed")
    for new in NEW.values():
        put(m.main, chunk, new)
        assert (m.main / chunk).read_bytes() == new
    m.firn("commit", m, "-m", "all", "--force")


@pytest.mark.parametrize("died", ["the command", "the driver too", "the mount too"])
def test_commit_whose_end_nobody_told__is_followed(repo, mounts, died):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (10,), (1,))
    put(m.main, "a/c/1", b"x" * 600)
    m.commit("base")
    put(m.main, "a/c/1", b"y" * 600)
    put(m.main, "a/c/2", b"z" * 600)
    put(m.main, "g/zarr.json", group_json())
    c = Committing(m)
    image = c.ask(op="commit-begin", wait_ms=1000)["journal"]
    snapshot = m.firn.snapshot("commit", image, "-m", "slow")
    c.ask(op="commit-intent", snapshot=snapshot)
    put(m.main, "a/c/3", b"of the next one")
    (m.main / "a/c/2").unlink()
    if died == "the driver too":
        replaced(m)
    if died == "the mount too":
        id = m.session()["id"]
        m.kill()
        m = mounts.enter_context(repo.resume(id, *ALONE))
    os.close(c.fd)
    put(m.main, "g/zarr.json", group_json(later=1))
    assert m.session()["base"] == snapshot
    want = read_tree(m.main)
    assert "a/c/2" not in want and want["a/c/3"] == b"of the next one"
    m.commit("the next")
    assert_same(read_tree(m.main), want)
    assert_committed(repo, m.main)


@pytest.mark.parametrize("options", [(), ALONE], ids=["with a supervisor", "alone"])
def test_unmounted_while_a_request_is_handed_over__ends_cleanly(repo, tmp_path, options):
    """Linux then says ECONNABORTED to who reads, not ENODEV: in nature, one of some hundred mounts with files just closed."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env | {"FIRN_CALLS_ABORTED": "1"}):
        m = repo.mount(*options)
    put_array(m.main, "a", (10,), (1,))
    m.commit("all")
    m.umount()
    assert "connection" not in "".join(p.read_text() for p in m.firn.logs.iterdir())


@pytest.mark.parametrize("there", ["native", "inline", "base", "streamed"])
def test_write_that_fails__nobody_reads_it(repo, mounts, tmp_path, there):
    """Not even what of it was written before the disk was full."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (10,), (1,))
    chunk = m.main / "a/c/1"
    chunk.parent.mkdir()
    chunk.write_bytes(OLD[there])
    if there == "base":
        m.commit("base")
    with open(chunk, "r+b", buffering=0) as f:
        assert f.read() == OLD[there]
        for call in 1, 2, 3:
            calls.arm(call, ALWAYS, errno.ENOSPC)
            with pytest.raises(OSError, match="No space left"):
                os.pwrite(f.fileno(), b"n" * 700_000, 0)
            calls.disarm()
        end = time.monotonic() + 5
        while chunk.read_bytes() != OLD[there] and time.monotonic() < end:
            time.sleep(0.01)
        assert os.pread(f.fileno(), 1 << 20, 0) == OLD[there]
    assert chunk.read_bytes() == OLD[there]
