"""Manifests that the mounts of a host have in memory once for all of them."""
import errno
import fcntl
import os
import pathlib
import shutil
import signal
import time

import pytest

from conftest import as_root, children, put, put_array

N = 2000


def content(i):
    return b"%08d" % i


@pytest.fixture
def committed(repo):
    with repo.mount() as m:
        put_array(m.main, "a", (N,), (1,))
        for i in range(N):
            put(m.main, f"a/c/{i}", content(i))
        m.commit("base")


@pytest.fixture
def cache(tmp_path):
    """Where the mounts of this test share, and nobody else."""
    d = tmp_path / "cache"
    d.mkdir()
    return d


def files(cache):
    d = cache / f"firn-{os.geteuid()}"
    return sorted(f for f in d.glob("content-*") if f.suffix != ".new") if d.is_dir() else []


def mapped(m):
    """Names of what the driver maps."""
    lines = pathlib.Path(f"/proc/{m.session()['worker']}/maps").read_text().splitlines()
    return sorted({os.path.basename(line.split()[5]) for line in lines if "/content-" in line and "(deleted)" not in line})


def counts(m):
    return m.counted("manifests_read"), m.counted("manifests_shared")


def check(m, which=range(0, N, 37)):
    for i in which:
        assert (m.main / f"a/c/{i}").read_bytes() == content(i)


@pytest.mark.sanitize
def test_two_mounts__one_memory(repo, committed, mounts, cache):
    one = mounts.enter_context(repo.mount("-o", f"cache_dir={cache}"))
    assert files(cache) == [] and counts(one) == (0, 0)
    check(one)
    assert counts(one) == (1, 0)
    two = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(two)
    assert counts(two) == (0, 1)
    assert mapped(one) == mapped(two) == [f.name for f in files(cache)] and len(mapped(one)) == 1
    # Nobody else may look at it.
    assert [oct(f.stat().st_mode & 0o777) for f in (files(cache)[0], files(cache)[0].parent)] == ["0o600", "0o700"]
    put(one.main, "a/c/5", b"changed")
    one.commit("changed")
    check(one, [4, 6])
    assert (one.main / "a/c/5").read_bytes() == b"changed" and (two.main / "a/c/5").read_bytes() == content(5)


def test_workers__of_a_fork(firn, repo, committed, mount, mounts, cache, tmp_path):
    firn("fork", mount, "-o", tmp_path / "fork.json")
    workers = [mounts.enter_context(repo.worker(tmp_path / "fork.json", "-o", f"cache_dir={cache}")) for _ in range(3)]
    for w in workers:
        check(w)
    assert [counts(w) for w in workers] == [(1, 0), (0, 1), (0, 1)]


def test_default__and_off(repo, committed, mounts):
    there = pathlib.Path(f"/dev/shm/firn-{os.geteuid()}")
    one, two = (mounts.enter_context(repo.mount("--read-only")) for _ in range(2))
    off = mounts.enter_context(repo.mount("--read-only", "-o", "cache_dir=off"))
    for m in one, two, off:
        check(m)
    assert (counts(one), counts(two), counts(off)) == ((1, 0), (0, 1), (1, 0))
    assert len(mapped(one)) == 1 and mapped(two) == mapped(one) and mapped(off) == []
    assert there.stat().st_mode & 0o777 == 0o700


def test_last_one_takes_it_away(repo, committed, cache):
    with repo.mount("--read-only", "-o", f"cache_dir={cache}") as one:
        check(one)
        mine = files(cache)[0].with_name("thesis.txt")
        mine.write_text("not a cache")
        with repo.mount("--read-only", "-o", f"cache_dir={cache}") as two:
            check(two)
        assert len(files(cache)) == 1
        two = repo.mount("--read-only", "-o", f"cache_dir={cache}")
        check(two)
        assert counts(two) == (0, 1)
        two.kill()
        assert len(files(cache)) == 1
    assert files(cache) == [] and mine.read_text() == "not a cache"


@pytest.mark.sanitize
def test_bound(repo, cache, mounts):
    """Of eight arrays, each in a manifest of more than 100 KB, there is room for three."""
    with repo.mount("-o", "cache_dir=off") as m:
        for k in range(8):
            put_array(m.main, f"a{k}", (N,), (1,))
            for i in range(N):
                put(m.main, f"a{k}/c/{i}", content(i))
            m.commit(f"a{k}")
    one = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache},cache_size=512K"))
    two = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache},cache_size=512K"))
    for _ in range(3):
        for k in range(8):
            for m in one, two:
                assert (m.main / f"a{k}/c/{100 + k}").read_bytes() == content(100 + k)
            assert 0 < sum(f.stat().st_blocks * 512 for f in files(cache)) <= 512 * 1024
    assert len(files(cache)) >= 2 and counts(two)[1] >= 8


def test_object_damaged__is_not_what_others_have(repo, committed, mounts, cache):
    """Also in the same place, with the same length."""
    one = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(one)
    (manifest,) = (f for f in (repo.path / "manifests").iterdir() if f.stat().st_size > 1000)
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:500] + bytes(len(whole) - 500))
    two = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    with pytest.raises(OSError) as e:
        (two.main / "a/c/1").read_bytes()
    assert e.value.errno == errno.EIO and manifest.name in two.control("errors")
    check(one)
    manifest.write_bytes(whole)
    three = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(three)


@pytest.mark.parametrize("how", ["cut", "flip", "empty"])
def test_file_damaged__is_made_again(repo, committed, mounts, cache, how):
    one = repo.mount("--read-only", "-o", f"cache_dir={cache}")
    check(one)
    (file,) = files(cache)
    data = file.read_bytes()
    one.kill()
    changed = {"cut": data[:-5000], "flip": data[:3000] + bytes([data[3000] ^ 64]) + data[3001:], "empty": b""}[how]
    file.write_bytes(changed)
    two = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(two)
    assert counts(two) == (1, 0) and files(cache)[0].read_bytes() == data


@pytest.mark.sanitize
def test_file_cut_off_under_a_driver(repo, committed, mounts, cache, firn):
    """The driver dies of it, and its successor does without: nobody notices."""
    with firn.watching({name: f"{firn.env[name]}:handle_sigbus=0" for name in ("ASAN_OPTIONS", "TSAN_OPTIONS")}):
        m = mounts.enter_context(repo.mount("-o", f"cache_dir={cache}"))
    check(m)
    put(m.main, "a/c/3", b"changed")
    worker = m.session()["worker"]
    os.truncate(files(cache)[0], 0)
    with open(m.main / "a/c/77", "rb") as f:
        assert f.read() == content(77)
    assert m.session()["worker"] != worker and m.session()["restarts"] == 1
    check(m, [i for i in range(N) if i != 3])
    assert (m.main / "a/c/3").read_bytes() == b"changed" and mapped(m) == []
    m.commit("goes on")


def test_no_room(repo, committed, mounts, tmp_path):
    small = tmp_path / "small"
    small.mkdir()
    as_root("mount", "-t", "tmpfs", "-o", f"size=64k,mode=0777,uid={os.geteuid()}", "tmpfs", small)
    try:
        with repo.mount("--read-only", "-o", f"cache_dir={small}") as m:
            check(m)
            assert counts(m) == (1, 0) and mapped(m) == [] and files(small) == []
            # Nothing half-written stays.
            assert [f.name for f in (small / f"firn-{os.geteuid()}").iterdir()] == ["users"]
    finally:
        as_root("umount", small)


def test_stopped_in_its_turn__others_go_on(repo, committed, mounts, cache):
    """Whoever makes the content may be stopped: others read the object themselves."""
    one = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(one)
    (name,) = mapped(one)
    one.umount()
    two = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    with open(cache / f"firn-{os.geteuid()}" / f"{name}.new", "w") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        began = time.monotonic()
        check(two)
        assert 0.09 < time.monotonic() - began
        assert counts(two) == (1, 0) and mapped(two) == []
    three = mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}"))
    check(three)
    assert len(mapped(three)) == 1


def test_killed_and_replaced__goes_on_without(repo, committed, mounts, cache):
    m = mounts.enter_context(repo.mount("-o", f"cache_dir={cache}"))
    check(m)
    worker = m.session()["worker"]
    os.kill(worker, signal.SIGKILL)
    check(m)
    assert children(m.pid) != [worker] and mapped(m) == []


@pytest.mark.parametrize("wrong", ["missing", "open to all", "file"])
def test_no_such_place(firn, repo, committed, cache, wrong):
    own = cache / f"firn-{os.geteuid()}"
    if wrong == "missing":
        shutil.rmtree(cache)
    elif wrong == "file":
        own.write_text("")
    else:
        own.mkdir()
        own.chmod(0o777)
    at = repo.mountpoint()
    at.mkdir(parents=True)
    firn.refuses("mount", "-o", f"cache_dir={cache}", repo, at, code=1, saying=["cache_dir", str(own)])


def test_listing__makes_nothing(repo, committed, mounts, cache):
    """What is looked through once is not worth the room; it is used if it is there."""
    one, two, three = (mounts.enter_context(repo.mount("--read-only", "-o", f"cache_dir={cache}")) for _ in range(3))
    assert len(os.listdir(one.main / "a/c")) == N and files(cache) == []
    check(two)
    assert len(os.listdir(three.main / "a/c")) == N
    assert [counts(m) for m in (one, two, three)] == [(1, 0), (1, 0), (0, 1)] and len(files(cache)) == 1
