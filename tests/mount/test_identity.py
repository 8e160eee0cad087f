"""One chunk, one file: whoever opens, lists or stats it meets what the others have."""
import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
import time

import pytest

from conftest import PATIENCE, put, put_array, replaced

N = 500


def listing(d):
    """{name: size}, from a listing with attributes where the driver tells them."""
    os.listdir(d)
    for i in range(100, 120):  # who looks at each file gets attributes with the next names
        os.stat(d / str(i))
    with os.scandir(d) as entries:
        return {e.name: e.stat().st_size for e in entries}


def read_anew(path):
    """Its bytes, asked of the driver again."""
    with open(path, "rb", buffering=0) as f:
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return f.read()


@pytest.fixture(params=["auto", "off"])
def way(request):
    return request.param


@pytest.fixture
def mount(repo, mounts, way):
    """A mount with an array of committed chunks: 10 that the kernel may read by itself, and small ones."""
    with repo.mount() as m:
        put_array(m.main, "a", (N,), (1,))
        for i in range(N):
            put(m.main, f"a/c/{i}", b"o" * (200_000 if i < 10 else 1000))
        m.commit("base")
    return mounts.enter_context(repo.mount("-o", f"passthrough={way}"))


@pytest.fixture
def chunks(mount):
    return mount.main / "a/c"


def grown(fd, size):
    """Whether the kernel still knows what the writer has written."""
    return os.fstat(fd).st_size == size and len(os.pread(fd, 2 * size, 0)) == size


def look_exclusively(d, name):
    with pytest.raises(FileExistsError):
        os.open(d / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@pytest.mark.parametrize("look", [
    lambda d, name: listing(d),
    look_exclusively,
], ids=["listing", "exclusive"])
@pytest.mark.parametrize("mode", ["ab", "r+b"])
def test_a_look_at_a_file_being_written_does_not_shrink_it(mount, chunks, look, mode):
    with open(chunks / "20", mode, buffering=0) as f:
        f.seek(0, 2)
        f.write(b"A" * 10_000)
        look(chunks, "20")
        assert os.fstat(f.fileno()).st_size == 11_000
        assert os.stat(chunks / "20").st_size == 11_000
        assert mode == "ab" or grown(f.fileno(), 11_000)
        f.seek(0, 2)
        f.write(b"B" * 10)
    want = b"o" * 1000 + b"A" * 10_000 + b"B" * 10
    assert read_anew(chunks / "20") == want
    assert listing(chunks)["20"] == len(want)
    mount.commit("grown")
    assert (chunks / "20").read_bytes() == want


def renew_by_commit(m):
    """The chunks of the array get other numbers: the kernel knows those of before."""
    put(m.main, "a/c/0", b"new")
    m.commit("another chunk")


def two_writers(d, name):
    """Both write a part, and the second one sees the first one's."""
    first = os.open(d / name, os.O_RDWR)
    os.pwrite(first, b"A" * 100, 1000)
    listing(d)
    look_exclusively(d, name)
    assert (d / name).read_bytes()[1000:1100] == b"A" * 100
    second = os.open(d / name, os.O_RDWR)
    assert os.fstat(second).st_ino == os.fstat(first).st_ino
    os.pwrite(second, b"B" * 100, 0)
    os.close(first)
    os.close(second)


def assert_both(d, name, size):
    want = b"B" * 100 + b"o" * 900 + b"A" * 100 + b"o" * (size - 1100)
    assert os.stat(d / name).st_size == len(want)
    assert (d / name).read_bytes() == want
    assert read_anew(d / name) == want


@pytest.mark.parametrize("name", ["5", "25"])
def test_two_writers_meet_after_a_commit_of_another_chunk(mount, chunks, name):
    listing(chunks)
    renew_by_commit(mount)
    two_writers(chunks, name)
    assert_both(chunks, name, 200_000 if name == "5" else 1100)
    mount.commit("both")
    assert_both(chunks, name, 200_000 if name == "5" else 1100)


@pytest.mark.parametrize("restart", [False, True])
def test_two_writers_meet_when_numbers_are_renewed_between(mount, chunks, restart):
    """A writer of what the kernel reads by itself has the numbers of the array renewed."""
    os.listdir(chunks)
    first = os.open(chunks / "5", os.O_RDWR)
    os.pwrite(first, b"A" * 100, 1000)
    reader = os.open(chunks / "7", os.O_RDONLY)
    os.pread(reader, 10, 0)
    with open(chunks / "7", "r+b", buffering=0) as f:
        f.write(b"Z")
    if restart:
        replaced(mount)
    listing(chunks)
    look_exclusively(chunks, "5")
    second = os.open(chunks / "5", os.O_RDWR)
    assert os.pread(second, 100, 1000) == b"A" * 100
    os.pwrite(second, b"B" * 100, 0)
    os.close(first)
    os.close(second)
    os.close(reader)
    assert_both(chunks, "5", 200_000)
    assert (chunks / "7").read_bytes() == b"Z" + b"o" * 199_999


@pytest.mark.parametrize("name", ["30", "31"])
def test_two_writers_meet_across_the_end_of_a_commit(mount, chunks, firn, tmp_path, name):
    """Who opens a file during a commit writes what is committed next, also if others open it after that."""
    put(chunks, "30", b"o" * 1100)  # a file of the session's own, and one of the base
    with open(mount.path / ".firn/ctl", "r+b", buffering=0) as ctl:
        def ask(**request):
            ctl.seek(0)
            ctl.write(json.dumps(request).encode())
            reply = json.loads(os.pread(ctl.fileno(), 65536, 0))
            assert reply["ok"], reply
            return reply

        image = shutil.copy(ask(op="commit-begin", wait_ms=5000)["journal"], tmp_path / "image")
        first = os.open(chunks / name, os.O_RDWR)
        ask(op="commit-end", snapshot=firn.snapshot("commit", image, "-m", "meanwhile"))
    os.pwrite(first, b"A" * 100, 1000)
    listing(chunks)
    look_exclusively(chunks, name)
    second = os.open(chunks / name, os.O_RDWR)
    assert os.pread(second, 100, 1000) == b"A" * 100
    os.pwrite(second, b"B" * 100, 0)
    os.close(second)
    os.close(first)
    assert_both(chunks, name, 1100)
    assert mount.control("errors") == ""


def test_a_writer_whose_chunk_was_unlinked_or_replaced_ends_without_an_error(mount, chunks):
    listing(chunks)
    renew_by_commit(mount)
    for name, gone in ("40", os.unlink), ("41", lambda p: os.rename(put(chunks, "x.tmp", b"other"), p)):
        fd = os.open(chunks / name, os.O_RDWR)
        os.pwrite(fd, b"A", 0)
        look_exclusively(chunks, name)
        gone(chunks / name)
        assert os.fstat(fd).st_nlink == 0
        os.pwrite(fd, b"B", 1)
        assert os.pread(fd, 3, 0) == b"ABo"
        os.close(fd)
    assert not (chunks / "40").exists() and (chunks / "41").read_bytes() == b"other"
    assert mount.control("errors") == ""


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("edited", [False, True])
def test_a_chunk_that_is_renamed_over_another_takes_its_size_along(mount, chunks, edited, restart):
    old, new = chunks / "51", chunks / "50"
    put(chunks, "52", b"x" * 70)
    mount.commit("different sizes")
    os.stat(old), os.stat(new)
    if edited:
        os.truncate(old, 3)
    want = b"ooo" if edited else b"o" * 1000
    os.rename(old, new)
    if restart:
        replaced(mount)
    assert os.stat(new).st_size == len(want) and not old.exists()
    assert read_anew(new) == want
    names = listing(chunks)
    assert names["50"] == len(want) and "51" not in names
    look_exclusively(chunks, "50")
    with open(new, "ab") as f:
        f.write(b"zz")
    put(chunks, "51", b"anew")
    os.utime(new)
    assert os.stat(new).st_size == len(want) + 2 and os.stat(old).st_size == 4
    assert read_anew(new) == want + b"zz" and read_anew(old) == b"anew"
    mount.commit("renamed")
    assert read_anew(new) == want + b"zz" and read_anew(old) == b"anew"


@pytest.mark.parametrize("edited", [False, True])
def test_a_chunk_that_is_renamed_while_the_kernel_reads_it(mount, chunks, edited):
    """Who opens it at its new place is not sent away for ever, though it cannot be read in two ways."""
    reader = os.open(chunks / "7", os.O_RDONLY)
    assert os.pread(reader, 10, 0) == b"o" * 10
    want = b"o" * (70_000 if edited else 200_000)
    if edited:
        os.truncate(chunks / "7", len(want))
    os.rename(chunks / "7", chunks / "5")
    assert (chunks / "5").read_bytes() == want and os.stat(chunks / "5").st_size == len(want)
    with open(chunks / "5", "r+b", buffering=0) as f:
        f.write(b"Z")
    assert (chunks / "5").read_bytes() == b"Z" + want[1:]
    os.close(reader)
    assert read_anew(chunks / "5") == b"Z" + want[1:]
    mount.commit("renamed")
    assert read_anew(chunks / "5") == b"Z" + want[1:]


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize("committed", [False, True])
@pytest.mark.parametrize("size", [300, 200_000])
def test_who_had_a_chunk_open_before_it_was_edited_reads_what_was_written(mount, chunks, size, committed, restart):
    """Whether he read anything meanwhile or not: others read the pages he fills."""
    path = chunks / "60"
    idle, mapped = os.open(path, os.O_RDONLY), os.open(path, os.O_RDONLY)
    pages = mmap.mmap(mapped, 1000, prot=mmap.PROT_READ)
    assert pages[:] == b"o" * 1000
    with open(path, "r+b", buffering=0) as f:
        f.write(b"N" * size)
    want = b"N" * size + b"o" * (1000 - size)
    assert pages[:] == want[:1000]
    if committed:
        mount.commit("edited")
    if restart:
        replaced(mount)
    pages.madvise(mmap.MADV_DONTNEED)
    for fd in idle, mapped:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        assert os.pread(fd, 2 * size + 2000, 0) == want
        assert os.fstat(fd).st_size == len(want)
    assert pages[:] == want[:1000]
    assert read_anew(path) == want
    pages.close()
    os.close(idle)
    os.close(mapped)
    assert read_anew(path) == want and os.stat(path).st_size == len(want)


def test_who_had_a_chunk_open_before_it_was_replaced_reads_what_it_was(mount, chunks):
    fds = [os.open(chunks / "61", os.O_RDONLY) for _ in range(3)]
    os.close(fds.pop(1))
    os.rename(put(chunks, "x.tmp", b"other"), chunks / "61")
    with open(chunks / "61", "r+b", buffering=0) as f:
        f.write(b"OTHER")
    mount.commit("replaced")
    for fd in fds:
        assert os.pread(fd, 2000, 0) == b"o" * 1000
        os.close(fd)
    assert read_anew(chunks / "61") == b"OTHER"


@pytest.mark.parametrize("restart", [False, True])
def test_a_new_file_that_is_written_on_after_a_duplicate_was_closed(mount, chunks, restart):
    """As a shell's redirection does; who has opened it in between sees every byte at once."""
    path = chunks / "400"
    path.unlink()
    writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    os.write(writer, b"s")
    want = b"s"
    for i in range(3):
        os.close(os.dup(writer))
        between = os.open(path, os.O_RDONLY)
        pages = mmap.mmap(between, 1, prot=mmap.PROT_READ)  # an ordinary file, as far as he can tell
        assert pages[:] == b"s"
        for part in b"x" * 97, b"y" * 5000:
            assert os.pread(between, 100_000, 0) == want
            if restart and i == 1 and part[0] == ord("y"):
                replaced(mount)
            os.write(writer, part)
            want += part
            after = os.open(path, os.O_RDONLY)
            for fd in between, after:
                assert os.pread(fd, 100_000, 0) == want
            os.close(after)
        assert os.stat(path).st_size == len(want)
        pages.close()
        os.close(between)
    os.close(writer)
    assert path.read_bytes() == want and read_anew(path) == want
    # The driver hears of the last close of those who read meanwhile a little later.
    end = time.monotonic() + 5 * PATIENCE
    while True:
        try:
            with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as pages:
                assert pages[:] == want
            break
        except OSError as e:
            assert e.errno == errno.ENODEV and time.monotonic() < end


READER = """
import os, sys
again, size = sys.argv[1] == "again", int(sys.argv[2])
for line in sys.stdin:
    fd, data = os.open(line.strip(), os.O_RDONLY), b""
    while len(data) < size:
        if again:
            os.close(fd)
            fd = os.open(line.strip(), os.O_RDONLY)
        data = os.pread(fd, size, 0)
        assert b"\\0" not in data, (data.index(b"\\0"), len(data))
    os.close(fd)
    print("done", flush=True)
"""


def test_a_new_file_that_grows_after_a_duplicate_was_closed_has_no_zeros(chunks):
    """The kernel drops pages before it writes past them: who reads meanwhile must not bring them back too short."""
    part, n = b"x" * 97, 1500
    # No process begins while a file is open for writing: it would close a duplicate.
    readers = [subprocess.Popen([sys.executable, "-c", READER, how, str(n * len(part))], text=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE) for how in ("again", "again", "once")]
    for name in "401", "402", "403", "404":
        path = chunks / name
        path.unlink()
        writer = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        os.write(writer, part)
        os.close(os.dup(writer))
        os.write(writer, part)
        for reader in readers:
            print(path, file=reader.stdin, flush=True)
        for _ in range(n - 2):
            os.write(writer, part)
        os.close(writer)
        for reader in readers:
            assert reader.stdout.readline() == "done\n"
        assert path.read_bytes() == part * n
    for reader in readers:
        reader.communicate()
        assert reader.returncode == 0
