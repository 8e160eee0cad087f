"""Chunks that share an object (core/view/pack.h): what others read of them, and what becomes of each alone."""
import datetime
import json
import os
import signal
import time

import pytest

from conftest import assert_committed, assert_same, children, drop_caches, group_json, put, put_array, read_tree, store_tree

SIZES = [600, 3000, 4096, 5000, 16384, 65536]


def data(i, size, what="a"):
    return (f"{what}{i} ".encode() * size)[:size]


def objects(repo):
    path = repo.path / "chunks"
    return set(os.listdir(path)) if path.is_dir() else set()


def used(repo):
    return sum((repo.path / "chunks" / name).stat().st_blocks * 512 for name in objects(repo))


def sync(m):
    fd = os.open(m.main, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


def replace(m, key, content):
    """As zarr-python does."""
    target = m.main / key
    partial = target.with_name(f"{target.name}.0123456789abcdef0123456789abcdef.partial")
    partial.write_bytes(content)
    os.replace(partial, target)


def ask(ctl, **request):
    os.write(ctl, json.dumps(request).encode())
    reply = json.loads(os.pread(ctl, 1 << 20, 0))
    assert reply["ok"], reply
    return reply


def collect(repo):
    """The official library's expiry and garbage collection, of all that can go."""
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    repo.official().expire_snapshots(later)
    return repo.official().garbage_collect(later)


@pytest.mark.sanitize
def test_committed__official_library_reads_packs_and_keeps_those_in_use(repo, mount):
    put_array(mount.main, "a", (100,), (1,))
    for i, size in enumerate(SIZES * 3):
        put(mount.main, f"a/c/{i}", data(i, size))
    mount.commit("one pack")
    assert len(objects(repo)) == 1
    assert_committed(repo, mount.main)
    first = objects(repo)
    for i in range(9):
        put(mount.main, f"a/c/{i}", data(i, 7000, "new"))
    mount.commit("another one")
    collect(repo)
    assert objects(repo) > first and len(objects(repo)) == 2
    assert_committed(repo, mount.main)
    for i in range(9, len(SIZES) * 3):
        put(mount.main, f"a/c/{i}", data(i, 2000, "new"))
    mount.commit("nothing of the first is left")
    collect(repo)
    assert not first & objects(repo) and len(objects(repo)) == 2
    want = read_tree(mount.main)
    assert_committed(repo, mount.main)
    mount.umount()
    assert repo.firn.json("fsck", "--deep", repo)["clean"]
    with repo.mount("--read-only") as m:
        drop_caches()
        assert_same(read_tree(m.main), want)
        # What all read comes through few descriptors.
        assert len([fd for fd in os.listdir(f"/proc/{m.session()['worker']}/fd")]) < 40


def test_official_session_on_top__packs_stay_whole(repo, mount):
    """The official library writes chunks of its own beside those in packs."""
    import zarr
    put_array(mount.main, "a", (8,), (1,))
    for i in range(4):
        put(mount.main, f"a/c/{i}", data(i, 5000))
    mount.commit("ours")
    session = repo.official().writable_session("main")
    zarr.create_array(session.store, name="theirs", shape=(4,), chunks=(2,), dtype="i4")[:] = 7
    session.commit("theirs")
    collect(repo)
    with repo.mount() as m:
        assert [(m.main / f"a/c/{i}").read_bytes() for i in range(4)] == [data(i, 5000) for i in range(4)]
        put(m.main, "a/c/1", data(1, 6000, "new"))
        m.commit("ours again")
        assert_committed(repo, m.main)


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["rename", "in place"])
def test_replaced_in_a_session__readers_read_on(repo, mount, how):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(20):
        put(mount.main, f"a/c/{i}", data(i, 8192))
    before = used(repo)
    readers = [open(mount.main / f"a/c/{i}", "rb") for i in range(5, 10)]
    assert readers[0].read(1) == data(5, 1)
    for i in range(20):
        if how == "rename":
            replace(mount, f"a/c/{i}", b"new")
        elif not 5 <= i < 10:
            put(mount.main, f"a/c/{i}", b"new")
    sync(mount)
    drop_caches()
    sync(mount)
    for i, reader in enumerate(readers, 5):
        reader.seek(0)
        assert reader.read() == data(i, 8192)
        reader.close()
    for i in range(20):
        replace(mount, f"a/c/{i}", b"newer")
    # The kernel lets go of what was replaced when it likes.
    end = time.monotonic() + 20
    while used(repo) > before // 2 and time.monotonic() < end:
        drop_caches()
        put(mount.main, "a/c/50", b"tick")
        sync(mount)
    assert used(repo) <= before // 2
    assert all((mount.main / f"a/c/{i}").read_bytes() == b"newer" for i in range(20))


def test_fork_and_export__each_has_its_own_packs(repo, mounts, tmp_path):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    for i in range(10):
        put(m.main, f"a/c/{i}", data(i, 3000, "parent"))
    token, journal = tmp_path / "fork.json", tmp_path / "w.journal"
    m.firn("fork", m, "-o", token)
    known = objects(repo)
    with repo.worker(token) as w:
        for i in range(20, 30):
            put(w.main, f"a/c/{i}", data(i, 3000, "worker"))
        put(w.main, "a/c/3", data(3, 3000, "worker"))
        put(m.main, "a/c/40", data(40, 3000, "later"))
        put(m.main, "a/c/4", data(4, 3000, "later"))     # what the fork knows stays
        sync(m)
        assert (w.main / "a/c/4").read_bytes() == data(4, 3000, "parent")
        w.umount("--export", journal)
    assert known < objects(repo) and len(objects(repo)) == 3
    m.firn("journal", "verify", journal)
    m.firn("commit", m, journal, "-m", "all")
    tree = store_tree(repo.store())
    want = {f"a/c/{i}": data(i, 3000, "parent") for i in range(10)} | {f"a/c/{i}": data(i, 3000, "worker") for i in range(20, 30)}
    want |= {"a/c/3": data(3, 3000, "worker"), "a/c/4": data(4, 3000, "later"), "a/c/40": data(40, 3000, "later")}
    assert {k: v for k, v in tree.items() if "/c/" in k} == want


@pytest.mark.sanitize
def test_killed_driver__its_successor_begins_another_pack(repo, mount):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(10):
        put(mount.main, f"a/c/{i}", data(i, 5000))
    [first] = objects(repo)
    size = (repo.path / "chunks" / first).stat().st_size
    partial = mount.main / "a/c/20.0123456789abcdef0123456789abcdef.partial"
    with open(partial, "wb", buffering=0) as writer, open(mount.main / "a/c/2", "rb") as reader:
        writer.write(data(20, 3000))
        before = mount.session()["worker"]
        os.kill(before, signal.SIGKILL)
        end = time.monotonic() + 30
        while children(mount.pid) in ([], [before]) and time.monotonic() < end:
            time.sleep(0.005)
        writer.write(data(20, 3000))
        replace(mount, "a/c/2", data(2, 6000, "new"))
        sync(mount)
        assert reader.read() == data(2, 5000)
    os.replace(partial, mount.main / "a/c/20")
    assert (repo.path / "chunks" / first).stat().st_size == size and len(objects(repo)) == 2
    want = {f"a/c/{i}": data(i, 5000) for i in range(10)} | {"a/c/2": data(2, 6000, "new"), "a/c/20": data(20, 3000) * 2}
    assert {k: v for k, v in read_tree(mount.main).items() if "/c/" in k} == want
    mount.commit("all")
    assert_committed(repo, mount.main)


def test_resumed_session__goes_on_in_another_pack(repo, mounts):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    for i in range(10):
        put(m.main, f"a/c/{i}", data(i, 5000))
    id = m.session()["id"]
    m.umount()
    [first] = objects(repo)
    with repo.resume(id) as m:
        for i in range(5):
            put(m.main, f"a/c/{i}", data(i, 5000, "new"))
        sync(m)
        assert len(objects(repo)) == 2
        want = read_tree(m.main)
        assert want["a/c/1"] == data(1, 5000, "new") and want["a/c/7"] == data(7, 5000)
        m.commit("all")
        assert_committed(repo, m.main)


def test_commit_under_way__what_is_written_then_goes_into_another_pack(repo, mount):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(10):
        put(mount.main, f"a/c/{i}", data(i, 5000))
    ctl = os.open(mount.path / ".firn/ctl", os.O_RDWR)
    image = ask(ctl, op="commit-begin", wait_ms=1000)["journal"]
    [first] = objects(repo)
    size = (repo.path / "chunks" / first).stat().st_size
    for i in range(5, 15):
        put(mount.main, f"a/c/{i}", data(i, 5000, "next"))
    sync(mount)
    assert (repo.path / "chunks" / first).stat().st_size == size
    snapshot = mount.firn.snapshot("commit", image, "-m", "slow")
    ask(ctl, op="commit-intent", snapshot=snapshot)
    ask(ctl, op="commit-end", snapshot=snapshot)
    os.close(ctl)
    tree = store_tree(repo.store())
    assert all(tree[f"a/c/{i}"] == data(i, 5000) for i in range(10)) and "a/c/10" not in tree
    mount.commit("next")
    assert store_tree(repo.store())["a/c/5"] == data(5, 5000, "next")
    assert_committed(repo, mount.main)


def test_pack_that_was_cut__is_named_and_hurts_its_own_chunks_only(repo, mount):
    put_array(mount.main, "a", (10,), (1,))
    for i in range(4):
        put(mount.main, f"a/c/{i}", data(i, 5000))
    put(mount.main, "zarr.json", group_json())
    mount.commit("all")
    [name] = objects(repo)
    mount.umount()
    whole = (repo.path / "chunks" / name).read_bytes()
    os.truncate(repo.path / "chunks" / name, len(whole) - 100)
    p = repo.firn.run("fsck", "--deep", "--json", repo)
    assert p.returncode == 1 and name in p.stdout and p.stdout.count("/a/c/") == 1
    with repo.mount() as m:
        assert (m.main / "a/c/2").read_bytes() == data(2, 5000)
        with pytest.raises(OSError):
            (m.main / "a/c/3").read_bytes()
        assert name in m.control("errors")
    (repo.path / "chunks" / name).write_bytes(whole)
