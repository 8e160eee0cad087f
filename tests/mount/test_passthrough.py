"""Files the kernel reads by itself: what a reader and a writer of one chunk see of each other."""
import hashlib
import mmap
import os
import subprocess
import time

import pytest

from conftest import PASSTHROUGH, put, put_array

SIZE = 1 << 20
OLD, NEW = b"o" * SIZE, b"n" * SIZE


@pytest.fixture
def committed(repo):
    with repo.mount() as m:
        put_array(m.main, "a", (4,), (1,))
        for i in range(3):
            put(m.main, f"a/c/{i}", OLD)
        put(m.main, "a/c/3", b"small")
        m.commit("base")


@pytest.fixture(params=["auto", "off"])
def way(request):
    return request.param


@pytest.fixture
def mount(repo, mounts, committed, way):
    return mounts.enter_context(repo.mount("-o", f"passthrough={way}"))


def opens(mount):
    return mount.counted("passthrough_opens")


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(fd, SIZE), b""))
    finally:
        os.close(fd)


def test_reads__as_written_and_without_requests(mount, way):
    before = opens(mount)
    assert [read(mount.main / f"a/c/{i}") for i in range(4)] == [OLD, OLD, OLD, b"small"]
    # The small one is not worth it.
    assert opens(mount) - before == (3 if way == "auto" and PASSTHROUGH else 0)


def test_reads__read_only_mount_and_snapshots(repo, committed, way):
    with repo.mount("--read-only", "-o", f"passthrough={way}") as m:
        assert read(m.main / "a/c/1") == OLD
        assert read(m.path / ".firn/branches/main/a/c/1") == OLD
        assert opens(m) == (2 if way == "auto" and PASSTHROUGH else 0)


@pytest.mark.sanitize
def test_several_readers__one_after_another_and_at_once(mount):
    fds = [os.open(mount.main / "a/c/0", os.O_RDONLY) for _ in range(5)]
    for fd in fds:
        assert os.pread(fd, 10, SIZE - 5) == b"o" * 5
    for fd in fds:
        os.close(fd)
    assert read(mount.main / "a/c/0") == OLD


def test_other_users__are_not_asked_for_more(repo, committed, firn):
    """Without CAP_SYS_ADMIN the kernel refuses: files are read with requests."""
    if os.geteuid():
        with repo.mount() as m:
            assert read(m.main / "a/c/0") == OLD and opens(m) == 0
        return
    point = repo.mountpoint()
    point.mkdir(parents=True)
    done = subprocess.run(["unshare", "-Urm", "sh", "-c", f"'{firn.env['PATH'].split(':')[0]}/firn' mount --read-only "
                           f"'{repo}' '{point}' && cat '{point}/main/a/c/0' | md5sum && grep passthrough_opens_total "
                           f"'{point}/.firn/stats' && umount '{point}'"],
                          env=firn.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert hashlib.md5(OLD).hexdigest() in done.stdout and done.stdout.rstrip().endswith("opens_total 0")


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC | os.O_CREAT])
def test_written_while_it_is_read(mount, way, flags):
    path = mount.main / "a/c/0"
    reader = os.open(path, os.O_RDONLY)
    assert os.pread(reader, 1, 0) == b"o"
    writer = os.open(path, flags)
    os.write(writer, NEW[:1000])
    os.close(writer)
    want = NEW[:1000] + (b"" if flags & os.O_TRUNC else OLD[1000:])
    assert read(path) == want
    assert path.stat().st_size == len(want)
    # The reader has what it opened, or what is there now; never a mixture.
    seen = os.pread(reader, SIZE, 0)
    assert seen == (OLD if way == "auto" and PASSTHROUGH else want)
    again = os.open(path, os.O_RDONLY)
    assert os.pread(again, SIZE, 0) == want
    os.close(reader)
    os.close(again)
    assert "chunks written or deleted: 1\n" in mount.firn("status", mount)
    mount.commit("changed")
    assert read(path) == want


@pytest.mark.sanitize
def test_written_twice__under_two_readers(mount):
    path = mount.main / "a/c/0"
    fds = []
    for i in range(4):
        fds.append(os.open(path, os.O_RDONLY))
        os.pread(fds[-1], 10, 0)
        with open(path, "r+b") as f:
            f.write(b"%d" % i)
        assert read(path) == b"%d" % i + OLD[1:]
    for fd in fds:
        os.close(fd)


def test_truncated_by_name_while_it_is_read(mount):
    path = mount.main / "a/c/0"
    with open(path, "rb") as reader:
        assert reader.read(10) == OLD[:10]
        os.truncate(path, 1234)
        assert path.stat().st_size == 1234 and read(path) == OLD[:1234]


def test_touched_while_it_is_read(mount):
    path = mount.main / "a/c/0"
    with open(path, "rb") as reader:
        reader.read(10)
        os.utime(path, (1, 1))
        assert read(path) == OLD
        with open(path, "r+b") as f:
            f.write(b"x")
        assert read(path) == b"x" + OLD[1:]


def test_replaced_and_removed_while_it_is_read(mount):
    path, other = mount.main / "a/c/0", mount.main / "a/c/1"
    fds = [os.open(p, os.O_RDONLY) for p in (path, other)]
    temporary = path.with_suffix(".1234.partial")
    temporary.write_bytes(NEW)
    temporary.replace(path)
    other.unlink()
    assert read(path) == NEW and not other.exists()
    assert [os.pread(fd, SIZE, 0) for fd in fds] == [OLD, OLD]
    for fd in fds:
        os.close(fd)


def test_mapped(mount, repo):
    path = mount.main / "a/c/0"
    with open(path, "rb") as f, mmap.mmap(f.fileno(), SIZE, mmap.MAP_SHARED, mmap.PROT_READ) as m:
        assert m[:] == OLD
        with open(path, "r+b") as w, mmap.mmap(w.fileno(), SIZE, mmap.MAP_SHARED) as wm:
            wm[:3] = b"new"
            wm.flush()
        assert m[3:] == OLD[3:]
    assert read(path) == b"new" + OLD[3:]
    # What the snapshot refers to is as it was.
    assert read(mount.path / ".firn/branches/main/a/c/0") == OLD


def test_read_again_after_a_commit(mount):
    path = mount.main / "a/c/0"
    with open(path, "rb") as reader:
        reader.read(1)
        put(mount.main, "a/c/0", NEW)
        put(mount.main, "a/c/1", NEW)
        mount.commit("new")
        assert [read(mount.main / f"a/c/{i}") for i in range(3)] == [NEW, NEW, OLD]


def test_no_descriptor_stays_open(mount):
    fds = f"/proc/{mount.session()['worker']}/fd"
    read(mount.main / "a/c/2")
    before = len(os.listdir(fds))
    for _ in range(50):
        read(mount.main / "a/c/2")
        read(mount.main / "a/c/1")
    # The kernel tells of a file's end some time after close().
    end = time.monotonic() + 10
    while len(os.listdir(fds)) > before and time.monotonic() < end:
        time.sleep(0.01)
    assert len(os.listdir(fds)) <= before
