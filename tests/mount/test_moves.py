"""A mount that goes on to another snapshot shows it, whatever it and the kernel knew before."""
import datetime
import json
import mmap
import os
import shutil
import threading
import time

import pytest

from conftest import PATIENCE, VARIANT, array_json, drop_caches, group_json, put, put_array, read_tree, replaced


def one_dim(root, path="a"):
    put(root, f"{path}/zarr.json", array_json((4,), (1,)))
    for i in range(4):
        put(root, f"{path}/c/{i}", b"one-d %d" % i)


def two_dim(root, path="a"):
    put(root, f"{path}/zarr.json", array_json((2, 2), (1, 1)))
    for i in range(4):
        put(root, f"{path}/c/{i // 2}/{i % 2}", b"two-d %d" % i)


def scalar(root, path="a"):
    put(root, f"{path}/zarr.json", array_json((), ()))
    put(root, f"{path}/c", b"scalar")


def group(root, path="a"):
    put(root, f"{path}/zarr.json", group_json())
    two_dim(root, f"{path}/c")
    one_dim(root, f"{path}/b")


KINDS = {f.__name__: f for f in (one_dim, two_dim, scalar, group)}


@pytest.mark.parametrize("after", KINDS)
@pytest.mark.parametrize("before", KINDS)
@pytest.mark.parametrize("how", ["written here", "of the base"])
def test_node_replaced_by_others(repo, before, after, how):
    """Deleted and made again with another shape or kind in a commit this mount is rebased over."""
    with repo.mount() as m:
        put(m.main, "zarr.json", group_json())
        KINDS[before](m.main)
        m.commit("before")
        if how == "written here":
            go_on(repo, m, after)
    if how == "of the base":
        with repo.mount() as m:
            go_on(repo, m, after)


def go_on(repo, m, after):
    read_tree(m.main)                           # the kernel knows all of it
    for path in "a/c/0", "a/c/1/1", "a/c/3", "a/b", "a/c/zarr.json":
        (m.main / path).exists()
    with repo.mount() as other:
        shutil.rmtree(other.main / "a")
        KINDS[after](other.main)
        other.commit("after")
        want = read_tree(other.main)
    put(m.main, "g/zarr.json", group_json())
    m.commit("mine", "--rebase")
    want |= {"g/zarr.json": (m.main / "g/zarr.json").read_bytes()}
    assert read_tree(m.main) == want
    drop_caches()
    assert read_tree(m.main) == want
    shutil.rmtree(m.main / "a")
    one_dim(m.main)
    m.commit("again")
    assert {k: v for k, v in read_tree(m.main).items() if k.startswith("a/c")} == {f"a/c/{i}": b"one-d %d" % i for i in range(4)}


@pytest.mark.parametrize("own", [None, "discarded", "given up"])
def test_without_changes__shows_the_branch(firn, repo, mount, own):
    one_dim(mount.main)
    put(mount.main, "zarr.json", group_json())
    mount.commit("base")
    read_tree(mount.main)
    with repo.mount() as other:
        for i in range(3):
            put(other.main, f"a/c/{i}", b"%d" % i)
            other.commit(str(i))
        two_dim(other.main, "b")
        (other.main / "a/c/3").unlink()
        id = other.commit("last")
        want = read_tree(other.main)
    if own:
        put(mount.main, "a/c/1", b"collides")
        mount.firn.refuses("commit", mount, "-m", "m", "--rebase", code=3, saying=["firn discard", "--rebase"])
    if own == "discarded":
        firn("discard", mount)
    p = firn.run("commit", mount, "-m", "m", "--rebase=theirs" if own == "given up" else "--rebase")
    assert p.returncode == 4 and id in p.stderr, p.stderr
    assert read_tree(mount.main) == want
    assert mount.session()["base"] == id
    put(mount.main, "a/c/3", b"goes on")
    mount.commit("next")
    assert read_tree(mount.main) == want | {"a/c/3": b"goes on"}


@pytest.mark.parametrize("own", ["come and gone", "the same again"])
def test_chunks_of_a_worker_appear(firn, repo, mount, tmp_path, own):
    """Also where this session changed as many chunks, which came to nothing."""
    put_array(mount.main, "a", (100,), (1,))
    for i in range(10):
        put(mount.main, f"a/c/{i}", b"base")
    mount.commit("base")
    firn("fork", mount, "-o", tmp_path / "fork.json")
    for i in 0, 1:
        if own == "the same again":
            put(mount.main, f"a/c/{i}", b"base")
        else:
            put(mount.main, f"a/c/{20 + i}", b"tmp").unlink()
    assert not (mount.main / "a/c/30").exists() and (mount.main / "a/c/3").stat().st_size == 4
    with repo.worker(tmp_path / "fork.json") as w:
        put(w.main, "a/c/30", b"of the worker")
        put(w.main, "a/c/3", b"changed by the worker")
        w.umount("--export", tmp_path / "w.journal")
    firn.snapshot("commit", mount, tmp_path / "w.journal", "-m", "m")
    assert (mount.main / "a/c/30").read_bytes() == b"of the worker"
    assert (mount.main / "a/c/3").stat().st_size == len(b"changed by the worker")


@pytest.mark.parametrize("killed", [False, True])
def test_old_snapshots_may_go(repo, mounts, killed):
    """The kernel's numbers of files are of a snapshot that the official library expired and collected."""
    m = mounts.enter_context(repo.mount("-o", "cache_size=1K"))
    put_array(m.main, "a", (100,), (1,))
    for i in range(100):
        put(m.main, f"a/c/{i}", b"x" * 1000)
    m.commit("one")
    assert [e.stat().st_size for e in os.scandir(m.main / "a/c")] == [1000] * 100
    with open(m.main / "a/c/50", "rb") as held:
        put(m.main, "a/c/0", b"v" * 999)
        m.commit("two")
        official = repo.official()
        later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        official.expire_snapshots(older_than=later)
        official.garbage_collect(later)
        if killed:
            replaced(m)
        else:
            assert held.read() == b"x" * 1000
    assert (m.main / "a/c/7").read_bytes() == b"x" * 1000
    assert (m.main / "a/c/0").read_bytes() == b"v" * 999
    drop_caches()
    assert {len(v) for k, v in read_tree(m.main).items() if "/c/" in k} == {1000, 999}
    put(m.main, "a/c/8", b"goes on")
    m.commit("three")


def test_many_commits__memory_of_the_driver(mount):
    """Old snapshots do not stay, but for what the cache is let keep (64 MiB), however well they compress."""
    def resident():
        worker = mount.session()["worker"]
        with open(f"/proc/{worker}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))

    put_array(mount.main, "a", (100,), (1,), attributes={"long": "x" * 3_000_000})
    then = []
    for i in range(90):
        put(mount.main, "a/c/0", b"%d" % i)
        mount.commit(str(i))
        (mount.main / "a/c/0").read_bytes()
        then.append(resident())
    # It goes up and down by ten snapshots; 45 that stayed would be 135 MB.
    if VARIANT not in ("asan", "tsan"):       # which keep what is freed
        assert min(then[75:]) < max(then[30:45]) + 25_000, then


@pytest.mark.parametrize("after", ["scalar", "one_dim", "group"])
def test_array_of_another_rank_over_empty_directories(repo, after):
    """What a tool leaves that deletes chunks only and then overwrites zarr.json."""
    with repo.mount() as m:
        put(m.main, "zarr.json", group_json())
        two_dim(m.main)
        m.commit("before")
    with repo.mount() as m:
        for i in range(4):
            (m.main / f"a/c/{i // 2}/{i % 2}").unlink()
        if after == "scalar":
            put(m.main, "a/zarr.json", array_json((), ()))
            end = time.monotonic() + 10 * PATIENCE
            while (m.main / "a/c").exists():        # the kernel is told at once, but by another thread
                assert time.monotonic() < end
        KINDS[after](m.main)
        tree = read_tree(m.main)
        m.commit("after")
        assert read_tree(m.main) == tree
        assert json.loads((m.main / "a/zarr.json").read_bytes())["node_type"] == ("group" if after == "group" else "array")
        shutil.rmtree(m.main / "a")


def test_removed_while_commits_go_on(mount):
    """rm -rf finds what it has emptied empty, whatever moves under it meanwhile."""
    put(mount.main, "zarr.json", group_json())
    failed, stop = [], threading.Event()

    def work(k):
        while not stop.is_set():
            try:
                put(mount.main, f"n{k}/zarr.json", array_json((3,), (1,)))
                put(mount.main, f"n{k}/c/1", b"z")
                shutil.rmtree(mount.main / f"n{k}")
            except OSError as e:
                failed.append(str(e))
                return

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for t in threads:
        t.start()
    done = 0
    while done < 60 and not failed:
        p = mount.firn.run("commit", mount, "-m", "m", "--allow-empty")
        # Met between the file and the document, or between rmdir and unlink, it says so and can be tried again.
        assert p.returncode == 0 or "zarr.json" in p.stderr or "open for writing" in p.stderr, p.stderr
        done += p.returncode == 0
    stop.set()
    for t in threads:
        t.join()
    assert not failed


@pytest.mark.parametrize("how", ["read", "mapped", "written"])
def test_files_in_use__are_told_of_as_well(repo, mount, how):
    """The kernel keeps a directory whose files are in use, also when it is told to forget it."""
    one_dim(mount.main)
    put(mount.main, "zarr.json", group_json())
    mount.commit("base")
    with open(mount.main / "a/c/1", "r+b" if how == "written" else "rb") as held:
        assert held.read() == b"one-d 1"
        mapped = mmap.mmap(held.fileno(), 0, access=mmap.ACCESS_READ) if how == "mapped" else None
        with repo.mount() as other:
            for i in range(4):
                put(other.main, f"a/c/{i}", b"changed by others %d" % i)
            other.commit("theirs")
        os.listdir(mount.main / "a/c")
        put(mount.main, "g/zarr.json", group_json())
        if how == "written":
            held.close()
        mount.commit("mine", "--rebase")
        for i in range(4):
            assert (mount.main / f"a/c/{i}").stat().st_size == len(b"changed by others 0")
            assert (mount.main / f"a/c/{i}").read_bytes() == b"changed by others %d" % i
        if mapped:
            assert mapped[:] == b"one-d 1"
            mapped.close()
