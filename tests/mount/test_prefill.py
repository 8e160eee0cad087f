"""Small files of read-only mounts are in the page cache when they have been opened."""
import errno
import mmap
import os
import shutil
import threading

import pytest

from conftest import PATIENCE, put, put_array, replaced

SIZES = [1, 500, 4095, 4096, 4097, 16 * 1024, 100_000, 128 * 1024 - 1]
LARGE = 128 * 1024


def content(size):
    return bytes(i * 7 % 251 for i in range(256)) * (size // 256) + b"e" * (size % 256)


@pytest.fixture
def committed(repo):
    with repo.mount() as m:
        put_array(m.main, "a", (LARGE * 20,), (LARGE,), codecs=[{"name": "bytes"}])
        for i, size in enumerate([*SIZES, LARGE]):
            put(m.main, f"a/c/{i}", content(size))
        m.commit("chunks")


@pytest.fixture(params=["on", "off"])
def way(request):
    return request.param


@pytest.fixture
def mount(repo, mounts, committed, way):
    return mounts.enter_context(repo.mount("--read-only", "-o", f"prefill={way}"))


def read(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.read(fd, 2 * LARGE)
    finally:
        os.close(fd)


def test_small_files__come_without_a_request(mount, way):
    for _ in range(3):
        assert [read(mount.main / f"a/c/{i}") for i in range(len(SIZES))] == [content(n) for n in SIZES]
    # Filling reads, too.
    assert mount.counted("reads") == len(SIZES)
    assert mount.counted("prefills") == (len(SIZES) if way == "on" else 0)


def test_large_files__do_not(mount):
    assert read(mount.main / f"a/c/{len(SIZES)}") == content(LARGE)
    assert mount.counted("prefills") == 0


def test_pages_that_went__are_read_again(mount):
    for i, size in enumerate(SIZES):
        fd = os.open(mount.main / f"a/c/{i}", os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, size + 1, 0) == content(size)
        os.close(fd)
        assert read(mount.main / f"a/c/{i}") == content(size)


@pytest.mark.sanitize
def test_mapped(mount):
    for i, size in enumerate(SIZES):
        with open(mount.main / f"a/c/{i}", "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as m:
            assert m[:] == content(size)


@pytest.mark.sanitize
def test_opened_by_many_at_once(mount):
    start, wrong = threading.Barrier(8), []

    def run():
        start.wait(PATIENCE * 10)
        for i, size in enumerate(SIZES):
            if read(mount.main / f"a/c/{i}") != content(size):
                wrong.append(i)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_lost_object__is_said_by_read(repo, committed, way):
    shutil.move(repo.path / "chunks", repo.path / "lost")
    with repo.mount("--read-only", "-o", f"prefill={way}") as m:
        fd = os.open(m.main / "a/c/1", os.O_RDONLY)
        assert os.read(fd, 1000) == content(500)        # inline
        os.close(fd)
        for _ in range(2):
            with pytest.raises(OSError) as caught:
                read(m.main / "a/c/5")
            assert caught.value.errno == errno.EIO
    shutil.move(repo.path / "lost", repo.path / "chunks")


def test_after_a_restart__files_are_read(mount):
    assert read(mount.main / "a/c/0") == content(1)
    replaced(mount)
    assert [read(mount.main / f"a/c/{i}") for i in range(len(SIZES))] == [content(n) for n in SIZES]
    assert mount.counted("prefills") == 0


def test_writable_mount__has_none(repo, committed):
    with repo.mount() as m:
        assert read(m.main / "a/c/3") == content(4096)
        assert m.counted("prefills") == 0
