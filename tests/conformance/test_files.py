"""What POSIX says of files, where firn has to take special care: chunks of the base, open files, many writers."""
import errno
import os

import pytest

from conftest import put, put_array


@pytest.fixture
def base(mount):
    """The directory of an array's chunk files, some of them committed, small and large."""
    put_array(mount.main, "a", (40,), (1,))
    for i, size in enumerate((10, 600, 5000, 300000)):
        put(mount.main, f"a/c/{i}", bytes([i]) * size)
    mount.commit("base")
    return mount.main / "a/c"


def drop_caches():
    with open("/proc/sys/vm/drop_caches", "w") as f:
        f.write("2\n")


# ---- names and open files ----

@pytest.mark.parametrize("chunk", range(4))
def test_unlinked_while_open_for_writing__stays_away(mount, base, chunk):
    at = base / str(chunk)
    old = at.read_bytes()
    fd = os.open(at, os.O_RDWR)
    os.unlink(at)
    os.pwrite(fd, b"more", len(old))
    assert os.pread(fd, len(old) + 9, 0) == old + b"more"
    assert os.fstat(fd).st_nlink == 0
    assert not at.exists()
    os.fsync(fd)
    os.close(fd)
    assert not at.exists() and str(chunk) not in os.listdir(base)
    mount.commit("after")
    assert not at.exists()


@pytest.mark.parametrize("chunk", range(4))
@pytest.mark.parametrize("how", ["rename", "remove and create", "remove and touch"])
def test_replaced_while_open_for_writing__the_new_file_stays(mount, base, chunk, how):
    at = base / str(chunk)
    fd = os.open(at, os.O_RDWR)
    os.pwrite(fd, b"old, changed", 0)
    if how == "rename":
        os.rename(put(base, "x.tmp", b"new" * 1000), at)
    else:
        os.unlink(at)
        at.write_bytes(b"new" * 1000 if how == "remove and create" else b"")
    os.pwrite(fd, b"old, later", 5)
    os.fsync(fd)
    os.close(fd)
    want = b"" if how == "remove and touch" else b"new" * 1000
    assert at.read_bytes() == want
    if want:
        mount.commit("after")
        assert at.read_bytes() == want


@pytest.mark.parametrize("size", [10, 600, 5000, 300000])
@pytest.mark.parametrize("names", [["1"], ["note", "1"], ["77", "1"], ["1", "note", "2", "0"]])
def test_renamed_chunk__keeps_its_bytes(mount, size, names):
    put_array(mount.main, "a", (40,), (1,))
    data = os.urandom(size)
    at = put(mount.main, "a/c/0", data)
    for name in names:
        os.rename(at, at.parent / name)
        at = at.parent / name
        for _ in range(2):
            assert at.read_bytes() == data
            drop_caches()
    with open(at, "r+b") as f:
        f.write(b"!")
    assert at.read_bytes() == b"!" + data[1:]
    mount.commit("m")
    assert at.read_bytes() == b"!" + data[1:]
