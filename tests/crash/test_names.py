"""A change of names or of a length that fails, at whichever record, leaves everything as it was."""
import errno
import os
import time

import pytest

from calls import ALWAYS, Calls
from conftest import assert_committed, assert_same, group_json, put, put_array, read_tree, replaced

MOST = 20          # records of one change: more means that it never goes well


def prepared(main, commit):
    """Every kind of file and directory."""
    put_array(main, "a", (100,), (1,))
    put(main, "base/zarr.json", group_json(n=0))
    for i in range(3):
        put(main, f"a/c/{i}", bytes([65 + i]) * 20_000)
    commit("base")
    for i in range(10, 13):
        put(main, f"a/c/{i}", bytes([65 + i]) * 20_000)
    put_array(main, "n", (100,), (1,))
    put(main, "n/c/1", b"n" * 20_000)
    put(main, "p/c/0", b"pending" * 3000)
    put(main, "p/c/1", b"pending" * 3)
    put(main, "g/zarr.json", group_json(n=1))
    put(main, "g2/zarr.json", group_json(n=2))
    put(main, "g2/s/zarr.json", group_json(n=3))
    (main / "empty").mkdir()
    put(main, "x.partial", b"new" * 3000)


@pytest.fixture
def calls(tmp_path):
    return Calls(tmp_path / "calls", tmp_path)


@pytest.fixture
def mount(repo, mounts, calls):
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
    prepared(m.main, m.commit)
    return m


def whole(main):
    """All files, with what is found but not listed."""
    tree = read_tree(main)
    if (main / "x.partial").exists():
        tree["x.partial"] = (main / "x.partial").read_bytes()
    return tree


def refused(mount, calls, change):
    """What it is when each record of a change has failed, and then goes well; how many did."""
    want = whole(mount.main)
    for k in range(1, MOST):
        for times in (1, ALWAYS):
            calls.arm(k, times, errno.ENOSPC)
            try:
                change()
            except OSError as error:
                assert error.errno == errno.ENOSPC, (k, error)
                time.sleep(0.02)
            else:
                calls.disarm()
                return k - 1
            calls.disarm()
            assert_same(whole(mount.main), want, f"record {k}", ("mount", "before"))
    raise AssertionError("it never goes well")


def assert_kept(repo, mounts, m):
    """Another driver, and who resumes the session, know the same."""
    want = read_tree(m.main)
    replaced(m)
    assert_same(read_tree(m.main), want, "another driver")
    id = m.session()["id"]
    m.kill()
    m = mounts.enter_context(repo.resume(id))
    assert_same(read_tree(m.main), want, "resumed")
    m.firn("commit", m, "-m", "all", "--force")
    repo.check()


FILES = {"own": "a/c/10", "base": "a/c/1", "pending": "p/c/0", "temporary": "x.partial"}
PLACES = {"own": "a/c/11", "base": "a/c/2", "free": "a/c/50", "pending": "p/c/1", "free-pending": "p/c/7"}


@pytest.mark.parametrize("to", PLACES)
@pytest.mark.parametrize("what", FILES)
def test_rename_of_a_file(repo, mounts, mount, calls, what, to):
    main, source, target = mount.main, FILES[what], PLACES[to]
    data = (main / source).read_bytes()
    assert refused(mount, calls, lambda: os.rename(main / source, main / target)) > 0
    assert (main / target).read_bytes() == data and not (main / source).exists()
    assert_kept(repo, mounts, mount)


@pytest.mark.parametrize("to", PLACES)
def test_replaced_in_vain__what_is_written_there_next_counts(repo, mounts, mount, calls, to):
    """Whoever knows the file that was not replaced goes on with it."""
    main, target = mount.main, PLACES[to]
    if "free" not in to:
        (main / target).read_bytes()
    (main / "inline.partial").write_bytes(b"new")
    calls.arm(1, ALWAYS, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        os.rename(main / "inline.partial", main / target)
    calls.disarm()
    with open(main / target, "r+b" if "free" not in to else "wb") as f:
        f.truncate(0)
        f.write(b"later" * 200)
    assert (main / target).read_bytes() == b"later" * 200
    assert_kept(repo, mounts, mount)


def test_removed_in_vain__what_is_written_there_next_counts(repo, mounts, mount, calls):
    for name in "a/c/1", "a/c/11", "p/c/0":
        path = mount.main / name
        with open(path, "r+b") as f:
            f.write(b"before")
        calls.arm(1, ALWAYS, errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            path.unlink()
        calls.disarm()
        with open(path, "r+b") as f:
            f.truncate(0)
            f.write(b"later" * 200)
    assert_kept(repo, mounts, mount)


@pytest.mark.parametrize("to", ["new", "empty"])
@pytest.mark.parametrize("what", ["g2", "n", "p"])
def test_rename_of_a_directory(repo, mounts, mount, calls, what, to):
    main = mount.main
    want = {f"{to}{path.removeprefix(what)}" if path.startswith(f"{what}/") else path: data for path, data in read_tree(main).items()}
    if to == "empty":          # it makes room first, and is made again by who wants it
        want_failures = refused(mount, calls, lambda: ((main / to).mkdir(exist_ok=True), os.rename(main / what, main / to)))
    else:
        want_failures = refused(mount, calls, lambda: os.rename(main / what, main / to))
    assert want_failures > 0
    assert_same(read_tree(main), want)
    assert_kept(repo, mounts, mount)


def test_rename_of_a_document(repo, mounts, mount, calls):
    """The group it was of has none, until it is clear that the other group has it."""
    main, data = mount.main, (mount.main / "g/zarr.json").read_bytes()
    assert refused(mount, calls, lambda: os.rename(main / "g/zarr.json", main / "g2/zarr.json")) > 0
    assert (main / "g2/zarr.json").read_bytes() == data and not (main / "g/zarr.json").exists()
    put(main, "g/zarr.json", group_json(n=5))
    assert_kept(repo, mounts, mount)


@pytest.mark.parametrize("size", [0, 777, 400_000])
@pytest.mark.parametrize("what", ["own", "base", "pending"])
def test_truncate_by_name(repo, mounts, mount, calls, what, size):
    """There is no close that could tell."""
    path = mount.main / FILES[what]
    assert refused(mount, calls, lambda: os.truncate(path, size)) > 0
    assert path.stat().st_size == size
    assert_kept(repo, mounts, mount)


def test_directory_that_cannot_move__leaves_the_empty_one_it_was_to_replace(mount):
    main = mount.main
    inode = (main / "empty").stat().st_ino
    for committed in "base", "a":
        with pytest.raises(OSError) as caught:
            os.rename(main / committed, main / "empty")
        assert caught.value.errno == errno.EXDEV
    assert "empty" in os.listdir(main) and (main / "empty").stat().st_ino == inode
    put(main, "empty/zarr.json", group_json(n=4))


@pytest.mark.parametrize("node", ["g", "base"])
@pytest.mark.parametrize("k", [1, 2])
def test_group_does_not_become_an_array__stays(repo, mounts, mount, calls, node, k):
    """Not only in the mount."""
    want = read_tree(mount.main)
    (mount.main / "array.partial").write_bytes((mount.main / "n/zarr.json").read_bytes())
    calls.arm(k, ALWAYS, errno.ENOSPC)
    with pytest.raises(OSError, match="No space left"):
        os.rename(mount.main / "array.partial", mount.main / node / "zarr.json")
    calls.disarm()
    assert_same(read_tree(mount.main), want)
    assert_kept(repo, mounts, mount)
