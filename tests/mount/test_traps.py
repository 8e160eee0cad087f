"""Traps of FUSE that other file systems fell into, where no other test holds them; tests/traps.md is the list."""
import contextlib
import ctypes
import errno
import json
import mmap
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from conftest import PATIENCE, alive, as_nobody, assert_committed, group_json, put, put_array, read_tree

libc = ctypes.CDLL(None, use_errno=True)


def fails_with(number, call, *args, **kw):
    with pytest.raises(OSError) as e:
        call(*args, **kw)
    assert e.value.errno == number, e.value


def worker(m):
    """The driver proper, which the supervisor looks after."""
    return int(m.session()["worker"])


@pytest.fixture
def chunks(mount):
    """The directory of an array's chunks; 0 is committed."""
    put_array(mount.main, "a", (40,), (1,))
    put(mount.main, "a/c/0", b"0123456789" * 1000)
    mount.commit("base")
    return mount.main / "a/c"


class Commit:
    """A commit that was begun, and ends when this is left."""

    def __init__(self, m):
        self.fd = os.open(m.path / ".firn/ctl", os.O_RDWR)

    def begin(self, wait_ms=2000):
        os.pwrite(self.fd, json.dumps({"op": "commit-begin", "wait_ms": wait_ms}).encode(), 0)
        return json.loads(os.pread(self.fd, 1 << 20, 0))

    def __enter__(self):
        reply = self.begin()
        assert reply["ok"], reply
        return self

    def __exit__(self, *_):
        os.close(self.fd)


# ---- C2, C3: what is written after close ----

def test_c2_close_of_a_copy__tells_nobody_that_the_file_is_done(mount, chunks):
    """dup and fork: each close flushes; the name stays out of a commit until the last one."""
    fd = os.open(chunks / "1", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"one")
    pid = os.fork()
    if pid == 0:
        os.close(fd)
        os._exit(0)
    os.waitpid(pid, 0)
    with contextlib.closing(os.fdopen(os.dup(fd), "wb")):
        pass
    commit = Commit(mount)
    reply = commit.begin(wait_ms=50)
    assert not reply["ok"] and "a/c/1" in reply["error"] and reply["code"] == "busy"
    os.write(fd, b"two")
    os.close(fd)
    assert commit.begin()["ok"]
    os.close(commit.fd)
    mount.commit("whole")
    assert (chunks / "1").read_bytes() == b"onetwo"


def test_c3_mapping_outlives_close_and_rename__a_commit_waits_and_loses_no_page(repo, mount, chunks):
    fd = os.open(chunks / "1.partial", os.O_RDWR | os.O_CREAT)
    os.write(fd, b"a" * 8192)
    pages = mmap.mmap(fd, 8192)
    os.close(fd)
    os.rename(chunks / "1.partial", chunks / "1")
    pages[:4] = b"1111"
    commit = Commit(mount)
    reply = commit.begin(wait_ms=50)
    assert not reply["ok"] and "a/c/1" in reply["error"], reply
    os.close(commit.fd)
    pages[4096:4100] = b"2222"
    pages.close()
    mount.commit("after munmap")
    assert (chunks / "1").read_bytes() == b"1111" + b"a" * 4092 + b"2222" + b"a" * 4092
    assert_committed(repo, mount.main)


@pytest.mark.parametrize("name", ["0", "1", "n.tmp"])
def test_c3_mappings__of_any_file_open_for_reading_and_writing(chunks, name):
    """Read past the page cache there would be no shared mappings; of descriptors for writing only there are none anyway."""
    if name != "0":
        (chunks / name).write_bytes(b"0123456789" * 1000)
    with open(chunks / name, "r+b") as f, mmap.mmap(f.fileno(), 0) as shared:
        with open(chunks / name, "rb") as r, mmap.mmap(r.fileno(), 0, access=mmap.ACCESS_READ) as reader:
            shared[5000:5004] = b"wxyz"
            assert reader[5000:5004] == b"wxyz" and r.read() == shared[:]
    with open(chunks / name, "wb") as f:
        f.write(b"x" * 100)
        f.flush()
        with pytest.raises(OSError) as e:
            mmap.mmap(f.fileno(), 100)
        assert e.value.errno == errno.EACCES


# ---- C4: temporary names ----

SCRATCH = ["0.0123456789abcdef0123456789abcdef.partial", "zarr.0123456789abcdef0123456789abcdef.partial", "0.__lock", "0#1",
           ".0.Xa81bc", "sedAb12cd", ".zarr.json.swp", "0_0123456789abcdef.__lock"]


@pytest.mark.parametrize("end", ["rename", "link"])
def test_c4_temporary_names__reach_neither_journal_nor_commit(repo, firn, mount, chunks, tmp_path, end):
    for i, name in enumerate(SCRATCH):
        with open(chunks / name, "wb") as f:        # a lock file goes with its last handle
            f.write(b"of %d" % i * 300)
            f.flush()
            if end == "rename":
                os.rename(chunks / name, chunks / f"{i + 1}")
            else:
                os.link(chunks / name, chunks / f"{i + 1}")
                fails_with(errno.EEXIST, os.link, chunks / name, chunks / f"{i + 1}")
                assert (chunks / name).stat().st_size == len(b"of 0" * 300)
                os.unlink(chunks / name)
        assert (chunks / f"{i + 1}").read_bytes() == b"of %d" % i * 300
        put(chunks, name, b"left behind")
    (tmp_path / "journal").write_bytes((mount.path / ".firn/journal").read_bytes())
    shown = firn("journal", "show", tmp_path / "journal")
    assert not [name for name in SCRATCH if name in shown]
    mount.commit("m")
    assert set(os.listdir(chunks)) >= {str(i) for i in range(len(SCRATCH) + 1)}
    assert_committed(repo, mount.main)


# ---- C5: flags of renameat2 ----

@pytest.mark.parametrize("flags, number", [(2, errno.EINVAL), (4, errno.EINVAL), (3, errno.EINVAL), (8, errno.EINVAL),
                                           (0x80, errno.EINVAL)])
def test_c5_flags_of_rename__refused_and_nothing_moves(chunks, flags, number):
    put(chunks, "1", b"one")
    ctypes.set_errno(0)
    assert libc.renameat2(-100, os.fsencode(chunks / "1"), -100, os.fsencode(chunks / "0"), flags) == -1
    assert ctypes.get_errno() == number
    assert (chunks / "1").read_bytes() == b"one" and (chunks / "0").stat().st_size == 10000


# ---- C6: names ----

def test_c6_long_names__refused_by_every_call(chunks):
    put(chunks, "n" * 255, b"just fits")
    assert (chunks / ("n" * 255)).read_bytes() == b"just fits"
    long = chunks / ("n" * 256)
    for call in (lambda: os.open(long, os.O_CREAT | os.O_WRONLY), lambda: os.mkdir(long), lambda: os.stat(long),
                 lambda: os.rename(chunks / "0", long), lambda: os.link(chunks / "0", long), lambda: os.unlink(long),
                 lambda: os.mknod(long), lambda: os.rmdir(long), lambda: os.symlink("x", long)):
        fails_with(errno.ENAMETOOLONG, call)
    fails_with(errno.ENAMETOOLONG, os.stat, chunks / ("n" * 4000))
    assert (chunks / "0").stat().st_size == 10000


# ---- C10: the end ----

def test_c10_umount_returns_when_the_driver_is_gone(repo, firn):
    """Nothing to wait for after it: the driver has ended, and what it had is durable and can be taken up at once."""
    m = repo.mount()
    put_array(m.main, "a", (400,), (1,))
    for i in range(300):
        put(m.main, f"a/c/{i}", os.urandom(3000))
    want = read_tree(m.main)
    id, pids = m.session()["id"], [m.pid, worker(m)]
    firn("umount", m)
    assert not [pid for pid in pids if alive(pid)]
    with repo.resume(id) as again:
        assert read_tree(again.main) == want
        again.umount("--discard")
    m._ended()


# ---- C11, C14: who waits ----

def test_c11_documents_wait_for_a_commit__in_any_number(mount):
    """More of them than the driver has threads when idle: the request that ends the commit is still read."""
    n = 40
    put(mount.main, "zarr.json", group_json())
    for i in range(n):
        (mount.main / f"g{i}").mkdir()
    with Commit(mount):
        writers = [subprocess.Popen(["cp", "/dev/stdin", mount.main / f"g{i}/zarr.json"], stdin=subprocess.PIPE) for i in range(n)]
        for i, p in enumerate(writers):
            p.stdin.write(group_json(i=i))
            p.stdin.close()
        time.sleep(0.5)
        assert all(p.poll() is None for p in writers)
        assert "main" in os.listdir(mount)      # everybody else goes on
        assert put(mount.main, "notes.txt", b"x").read_bytes() == b"x"
    for p in writers:
        assert p.wait(20 * PATIENCE) == 0
    mount.commit("all")
    for i in range(n):
        assert json.loads((mount.main / f"g{i}/zarr.json").read_bytes())["attributes"] == {"i": i}


WAITER = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda *_: None)
what, a, b = sys.argv[1:]
if what == "close":
    f = os.open(b, os.O_WRONLY | os.O_CREAT)
    os.write(f, open(a, "rb").read())
    print("now", flush=True)
    os.close(f)
else:
    print("now", flush=True)
    {"rename": os.rename, "link": os.link, "rmdir": lambda a, b: os.rmdir(b), "unlink": lambda a, b: os.unlink(b)}[what](a, b)
print("done", flush=True)
"""


@pytest.mark.parametrize("what", ["rename", "link", "close", "unlink", "rmdir"])
def test_c11_who_waits_for_a_commit_can_be_killed__but_not_disturbed(mount, what):
    """A batch system takes a node whose processes cannot be killed for broken; an alarm is no reason to fail."""
    put(mount.main, "zarr.json", group_json())
    put(mount.main, "old/zarr.json", group_json())
    mount.commit("before")
    for name in "killed", "disturbed":      # the kernel locks directories, and the file system for a rename between two
        (mount.main / name / "g").mkdir(parents=True)
        if what != "rmdir":
            put(mount.main, f"{name}/g/tmp", group_json(by=name))
        if what in ("unlink", "rmdir"):
            put(mount.main, f"{name}/g/zarr.json", group_json())
        if what == "rmdir":
            (mount.main / name / "g/zarr.json").unlink()
    target = "g" if what == "rmdir" else "g/zarr.json"
    with Commit(mount):
        killed, disturbed = (subprocess.Popen([sys.executable, "-c", WAITER, what, mount.main / name / "g/tmp", mount.main / name / target],
                                              stdout=subprocess.PIPE, text=True) for name in ("killed", "disturbed"))
        for p in killed, disturbed:
            assert p.stdout.readline() == "now\n"
        time.sleep(0.5)
        killed.kill()
        disturbed.send_signal(signal.SIGALRM)
        assert killed.wait(5 * PATIENCE) == -signal.SIGKILL
        time.sleep(0.3)
        assert disturbed.poll() is None
    assert disturbed.wait(20 * PATIENCE) == 0
    assert killed.stdout.read() == "" and disturbed.stdout.read() == "done\n"
    if what in ("rename", "link"):      # killed before, or done: nothing in between
        assert os.listdir(mount.main / "killed/g") == ["tmp"]
    elif what == "close":               # what was written is there all the same
        mount.commit("after")
        assert (mount.main / "killed/g/zarr.json").read_bytes() == group_json(by="killed")
    else:
        assert (mount.main / "killed/g").is_dir()
    if what in ("rename", "link", "close"):
        assert (mount.main / "disturbed/g/zarr.json").read_bytes() == group_json(by="disturbed")


# ---- C12: other users ----

def test_c12_other_users__nothing_without_allow_other_and_modes_with_it(repo, mounts, tmp_path):
    for at in [tmp_path, *tmp_path.parents]:
        if at.stat().st_uid == os.geteuid() and at != pathlib.Path("/"):
            at.chmod(at.stat().st_mode | 0o055)
    alone = mounts.enter_context(repo.mount())
    put(alone.main, "zarr.json", group_json())
    alone.commit("m")
    for command in (["ls", alone.main], ["cat", alone.main / "zarr.json"], ["ls", alone], ["cat", alone.path / ".firn/session"]):
        assert as_nobody(*command).returncode != 0
    shared = mounts.enter_context(repo.mount("-o", "allow_other"))
    (shared.main / "mine").write_bytes(b"secret")
    (shared.main / "mine").chmod(0o600)
    assert as_nobody("cat", shared.main / "zarr.json").stdout == group_json()
    assert as_nobody("cat", shared.main / "mine").returncode != 0
    assert as_nobody("sh", "-c", f"echo x >>{shared.main}/zarr.json").returncode != 0
    assert as_nobody("touch", shared.main / "theirs").returncode != 0
    assert as_nobody("rm", "-f", shared.main / "zarr.json").returncode != 0
    assert (shared.main / "zarr.json").read_bytes() == group_json()


# ---- C13: writes in any order ----

@pytest.mark.parametrize("name", ["0", "1", "n.tmp"])
def test_c13_writes_of_one_file_in_any_order_at_once(mount, chunks, name):
    block, n = 4096, 64
    order = [(i * 37 + 11) % n for i in range(n)]
    fds = [os.open(chunks / name, os.O_RDWR | os.O_CREAT) for _ in range(4)]

    def write(k):
        for i in order[k::4]:
            assert os.pwrite(fds[k], bytes([i]) * block, i * block) == block

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for fd in fds:
        os.close(fd)
    want = b"".join(bytes([i]) * block for i in range(n))
    assert (chunks / name).read_bytes() == want
    if name != "n.tmp":
        mount.commit("m")
        assert (chunks / name).read_bytes() == want


# ---- C14: announcements ----

def test_c14_announcements_meet_look_ups_listings_and_renames(repo, mount, chunks):
    """What a commit or discard makes the kernel forget is looked up, listed and renamed at that moment: nobody hangs."""
    stop = threading.Event()
    wrong = []

    def work(call):
        while not stop.is_set():
            try:
                call()
            except OSError as e:
                wrong.append(e)

    def read():
        with open(chunks / "0", "rb") as f:
            data = f.read()
        assert data in (b"0123456789" * 1000, b"new" * 2000), data[:20]

    def churn():
        (chunks / "x.tmp").write_bytes(b"x")
        os.rename(chunks / "x.tmp", chunks / "y.tmp")
        os.unlink(chunks / "y.tmp")

    threads = [threading.Thread(target=work, args=(call,)) for call in
               (read, churn, lambda: os.listdir(chunks), lambda: os.stat(chunks / "5") if (chunks / "5").exists() else None)]
    for t in threads:
        t.start()
    try:
        for i in range(8):
            put(chunks, "0.tmp", b"new" * 2000 if i % 2 else b"0123456789" * 1000)
            os.rename(chunks / "0.tmp", chunks / "0")
            put(chunks, "7", os.urandom(600))
            if i % 4 == 3:
                mount.firn("discard", mount)
            else:
                mount.commit(f"{i}")
    finally:
        stop.set()
        for t in threads:
            t.join(60 * PATIENCE)
    assert not any(t.is_alive() for t in threads)
    assert not [e for e in wrong if e.errno != errno.ENOENT], wrong


# ---- C15: places in a directory ----

def test_c15_places_in_a_listing_stay(mount):
    """telldir, then others remove and make names, then seekdir: every name that stayed comes once."""
    d = mount.main / "d"
    d.mkdir()
    for i in range(3000):
        (d / f"n{i:04}").mkdir()
    libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
    libc.telldir.restype = ctypes.c_long
    libc.telldir.argtypes = libc.readdir.argtypes = libc.closedir.argtypes = [ctypes.c_void_p]
    libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
    stream = libc.opendir(os.fsencode(d))

    def names(limit):
        out = []
        while len(out) < limit and (entry := libc.readdir(stream)):
            out.append(ctypes.string_at(entry + 19).decode())
        return out

    first = names(700)
    place = libc.telldir(stream)
    rest = names(10000)
    all_names = {f"n{i:04}" for i in range(3000)}
    assert len(first + rest) == 3002 and set(first + rest) == all_names | {".", ".."}
    gone = set(first[5:600:2]) | set(rest[10:900:3])
    for n in gone:
        (d / n).rmdir()
    for i in range(100):
        (d / f"m{i}").mkdir()
    libc.seekdir(stream, place)
    again = [n for n in names(10000) if n in all_names]
    assert len(set(again)) == len(again)
    assert set(again) >= set(rest) - gone - {".", ".."} and not set(again) & set(first)
    libc.closedir(stream)


# ---- C16: numbers of files ----

def test_c16_numbers_of_files__never_used_twice_and_kept_while_open(mount, chunks):
    held = os.open(chunks / "0", os.O_RDONLY)
    number = os.fstat(held).st_ino
    seen = {number}
    for i in range(300):
        put(chunks, "0.tmp", b"%d" % i)
        os.rename(chunks / "0.tmp", chunks / "0")
        ino = (chunks / "0").stat().st_ino
        assert ino not in seen
        seen.add(ino)
    mount.commit("m")
    os.kill(worker(mount), signal.SIGKILL)
    assert os.fstat(held).st_ino == number and os.pread(held, 10, 0) == b"0123456789"
    os.close(held)
    put(chunks, "1", b"after the driver's death")
    assert (chunks / "1").stat().st_ino not in seen
    assert (chunks / "0").read_bytes() == b"299"


# ---- C17: listings the kernel keeps ----

def test_c17_listings__are_of_now(repo, mount, chunks):
    for i in range(1, 20):
        before = os.listdir(chunks)
        put(chunks, str(i), b"x")
        assert set(os.listdir(chunks)) == {*before, str(i)}
    mount.commit("m")
    with repo.mount() as other:
        put(other.main, "a/c/30", b"theirs")
        (other.main / "a/c/3").unlink()
        other.commit("theirs")
    put(chunks, "31", b"mine")
    mount.commit("mine", "--rebase")
    assert set(os.listdir(chunks)) == {*(str(i) for i in range(20) if i != 3), "30", "31"}


# ---- C20: memory ----

def test_c20_the_driver_is_killed_last_for_memory__where_it_may_say_so(mount):
    """As a shell that tries the same: for some containers and users it stays as it is."""
    may = subprocess.run(["sh", "-c", "{ echo -500 >/proc/self/oom_score_adj; } 2>/dev/null; cat /proc/self/oom_score_adj"],
                         stdout=subprocess.PIPE, text=True, check=True)
    for pid in (mount.pid, worker(mount)):
        assert pathlib.Path(f"/proc/{pid}/oom_score_adj").read_text() == may.stdout
