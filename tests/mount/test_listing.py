"""Directories of many chunks: what a listing shows, and that its time grows with what it shows."""
import os
import time

import pytest

from conftest import PATIENCE, put, put_array


def listed(path):
    names = [e.name for e in os.scandir(path)]
    assert len(names) == len(set(names))
    return {int(n) for n in names}


def test_many_chunk_directories__listed_in_linear_time(mount):
    n = 8000
    put_array(mount.main, "a", (n, 2), (1, 1))
    for i in range(n):
        os.makedirs(mount.main / f"a/c/{i}")
    begin = time.monotonic()
    assert listed(mount.main / "a/c") == set(range(n))
    assert time.monotonic() - begin < 3 * PATIENCE


@pytest.fixture
def base(mount):
    """2500 chunks in the base."""
    put_array(mount.main, "a", (3500,), (1,))
    os.mkdir(mount.main / "a/c")
    for i in range(2500):
        (mount.main / f"a/c/{i}").write_bytes(b"base")
    mount.commit("base")
    return mount.main / "a/c"


def test_deleted_chunks__are_passed_over_once(base):
    for i in range(0, 2500, 2):
        os.unlink(base / str(i))
    for i in range(2499, 0, -3):
        (base / str(i)).write_bytes(b"new")
    want = (set(range(2500)) - set(range(0, 2500, 2))) | set(range(2499, 0, -3))
    begin = time.monotonic()
    assert listed(base) == want
    assert time.monotonic() - begin < 3 * PATIENCE


def test_commit_in_the_middle__nothing_is_left_out_or_told_twice(mount, base):
    for i in range(2500, 3500):
        (base / str(i)).write_bytes(b"new")
    for i in range(0, 2500, 5):
        os.unlink(base / str(i))
    want = set(range(3500)) - set(range(0, 2500, 5))
    with os.scandir(base) as entries:
        names = [next(entries).name for _ in range(10)]
        mount.commit("in the middle")
        put(mount.main, "a/c/3499", b"newer")
        names += [e.name for e in entries]
    assert len(names) == len(set(names)) and {int(n) for n in names} == want
    assert listed(base) == want


def test_seekdir__goes_back_and_forth(mount, base):
    """telldir and seekdir through the C library, as shells and file servers use them."""
    import ctypes
    libc = ctypes.CDLL(None, use_errno=True)

    class Dirent(ctypes.Structure):
        _fields_ = [("ino", ctypes.c_uint64), ("off", ctypes.c_int64), ("reclen", ctypes.c_ushort),
                    ("type", ctypes.c_ubyte), ("name", ctypes.c_char * 256)]
    libc.opendir.restype = ctypes.c_void_p
    libc.readdir.restype = ctypes.POINTER(Dirent)
    libc.readdir.argtypes = libc.closedir.argtypes = libc.telldir.argtypes = [ctypes.c_void_p]
    libc.telldir.restype = ctypes.c_long
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    d = libc.opendir(str(base).encode())
    try:
        at, names = {}, []
        while True:
            here = libc.telldir(d)
            entry = libc.readdir(d)
            if not entry:
                break
            at[entry.contents.name] = here
            names.append(entry.contents.name)
        assert len(names) == 2502
        for i in (2000, 2499, 3, 1500, 0, 1, 2498, 1000):
            libc.seekdir(d, at[names[i]])
            for want in names[i:i + 3]:
                found = libc.readdir(d)
                assert found and found.contents.name == want, (i, want, at[names[i]])
    finally:
        libc.closedir(d)
