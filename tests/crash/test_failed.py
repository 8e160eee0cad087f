"""A close that fails leaves what was there."""
import errno
import os
import signal
import time

import pytest

from calls import ALWAYS, ERRORS, Calls
from conftest import assert_same, children, put, put_array, read_tree

OLD = {"native": b"old" * 5000, "inline": b"old", "streamed": b"old" * 200_000, "base": b"base" * 1000, "pending": b"old"}
NEW = {"native": b"new!" * 4000, "inline": b"n" * 9, "streamed": b"new!" * 200_000}


def replaced(m):
    """The driver dies, and another one takes over."""
    before = m.session()["worker"]
    os.kill(before, signal.SIGKILL)
    end = time.monotonic() + 30
    while children(m.pid) in ([], [before]) and time.monotonic() < end:
        time.sleep(0.005)
    assert m.session()["worker"] != before


@pytest.mark.parametrize("how", [errno.ENOSPC, *(pytest.param(e, marks=pytest.mark.soak) for e in ERRORS[1:])],
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
