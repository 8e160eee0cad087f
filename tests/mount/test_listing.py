"""Directories of many chunks: what a listing shows, and that its time grows with what it shows."""
import os
import shutil
import time

import pytest

from conftest import OUR_LISTINGS, PATIENCE, put, put_array


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


@pytest.fixture
def nested(repo):
    """Four directories of 3000 chunks each in the base, mounted anew."""
    with repo.mount() as m:
        put_array(m.main, "a", (4, 3000), (1, 1))
        for i in range(4):
            os.makedirs(m.main / f"a/c/{i}")
            for j in range(3000):
                (m.main / f"a/c/{i}/{j}").write_bytes(b"base")
        m.commit("base")
    with repo.mount("--read-only") as m:
        yield m


def looked_up(mount, directory, look=3000):
    """The look-ups it takes to stat the first `look` files after a listing; what stat says is checked."""
    names = sorted(os.listdir(directory), key=int)
    assert names == [str(j) for j in range(3000)]
    before = mount.counted("lookups")
    for name in names[:look]:
        assert os.stat(directory / name).st_size == 4
    return mount.counted("lookups") - before


def test_who_wants_names__gets_names(nested):
    """Attributes cost the kernel several times what names do, and are not told to who never asked for any."""
    for i in range(4):
        assert listed(nested.main / f"a/c/{i}") == set(range(3000))
    # A few files that are opened after a listing change nothing.
    assert looked_up(nested, nested.main / "a/c/0", look=3) == 3
    assert looked_up(nested, nested.main / "a/c/1") == 3000


def test_who_looks_at_each_file__is_told_of_the_next_ones(nested):
    a = nested.main / "a/c"
    assert looked_up(nested, a / "0") == 3000
    for i in 1, 2, 3:
        assert looked_up(nested, a / str(i)) < (10 if OUR_LISTINGS else 3001)


def test_attributes_nobody_looks_at__are_not_told_for_ever(nested):
    a = nested.main / "a/c"
    assert looked_up(nested, a / "0", look=10) == 10
    # These earned attributes for one reply.
    os.listdir(a / "1")
    assert looked_up(nested, a / "2") == 3000


def test_attributes_from_a_listing__follow_changes(mount, base):
    """What a listing told the kernel is forgotten when it is changed, deleted or committed."""
    def sizes():
        return {e.name: e.stat().st_size for e in os.scandir(base)}

    want = {str(i): 4 for i in range(2500)}
    assert sizes() == want
    assert sizes() == want
    (base / "7").write_bytes(b"longer")
    os.unlink(base / "8")
    put(mount.main, "a/c/9", b"new")
    want |= {"7": 6, "9": 3}
    del want["8"]
    assert sizes() == want
    mount.commit("changed")
    assert sizes() == want
    (base / "8").write_bytes(b"again here")
    assert sizes() == want | {"8": 10}


def test_deeper_than_the_array_has_axes__is_listed(mount, base):
    """Written for another rank, or before the document of it: whoever removes it must see it."""
    put(mount.main, "a/c/3000/7", b"of two axes")
    put(mount.main, "a/c/3000/8/9", b"of three")
    assert listed(base / "3000") == {7, 8} and listed(base / "3000/8") == {9}
    shutil.rmtree(base / "3000")
    assert not (base / "3000").exists()
