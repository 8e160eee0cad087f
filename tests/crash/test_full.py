"""A disk that is full, with the repository and the state of the session on it: what fills it can be removed."""
import errno
import os

import pytest

from conftest import Repo, as_root, assert_committed, assert_same, put, put_array, read_tree, replaced


@pytest.fixture
def full(firn, tmp_path, mounts):
    """A repository on a small disk."""
    at = tmp_path / "disk"
    at.mkdir()
    done = as_root("mount", "-t", "tmpfs", "-o", f"size=6m,uid={os.getuid()}", "disk", at)
    assert done.returncode == 0, done.stderr
    mounts.callback(as_root, "umount", "-l", at)
    firn.state = at / "state"
    firn.env["XDG_STATE_HOME"] = str(firn.state)
    firn("init", at / "repo")
    return Repo(firn, at / "repo", tmp_path / "mnt")


def fill(main, names):
    """Until not even a few bytes are taken, again and again: room comes back a little later.  What is there then."""
    for size in 300_000, 3000, 300:
        in_a_row = 0
        while in_a_row < 50:
            i = next(names)
            path = main / f"a/c/{i}"
            try:
                path.write_bytes(b"%d," % i * (size // 4))
                in_a_row = 0
            except OSError as error:
                assert error.errno == errno.ENOSPC
                path.unlink(missing_ok=True)
                in_a_row += 1
    return read_tree(main)


@pytest.mark.parametrize("killed", [False, True])
def test_removing_makes_room(full, mounts, killed):
    m = mounts.enter_context(full.mount())
    put_array(m.main, "a", (20_000,), (1,))
    (m.main / "a/c").mkdir()
    names = iter(range(19_999))
    for _ in range(3):
        if killed:
            replaced(m)
        want = fill(m.main, names)
        chunks = sorted(path for path in want if "/c/" in path)
        assert len(chunks) > 100
        for path in chunks[::2]:
            os.unlink(m.main / path)
            del want[path]
        os.fsync(fd := os.open(m.main, os.O_RDONLY))
        os.close(fd)
        put(m.main, "a/c/19999", b"fits again" * 1000)
        want["a/c/19999"] = b"fits again" * 1000
        assert_same(read_tree(m.main), want)
    for path in sorted(path for path in want if "/c/" in path)[::3]:
        os.unlink(m.main / path)
        del want[path]
    m.commit("what is left")
    assert_same(read_tree(m.main), want)
    assert_committed(full, m.main)
