"""Requests through io_uring: the same files, other ways to die."""
import contextlib
import errno
import fcntl
import mmap
import os
import pathlib
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from conftest import KERNEL, PATIENCE, URING, as_root, children, put, put_array, read_tree

# Other runs of these tests on this machine, too.
LOCK = pathlib.Path(tempfile.gettempdir()) / f"firn-tests-io_uring-{os.geteuid()}.lock"


# Older kernels have no rings; there the same is asked of a mount without.  Where they should be, that they
# cannot be had is a failure.
RINGS = KERNEL >= (6, 14)
WAY = "io_uring=on" if RINGS else "io_uring=off,restart=off"
N, LARGE = 300, 600_000


def content(i):
    return b"%05d" % i * (i % 7 * 1000 + 1)


@contextlib.contextmanager
def setting(path, value):
    """Something of the whole system, while nobody else here changes it or needs it otherwise."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = pathlib.Path(path).read_text().strip()
        as_root("sh", "-c", f"echo {value} >{path}", check=True)
        try:
            yield
        finally:
            as_root("sh", "-c", f"echo {before} >{path}", check=True)


@pytest.fixture
def allowed():
    """It stays allowed: other tests may be about to mount."""
    with open(LOCK, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if RINGS and URING.read_text().strip() != "Y":
            as_root("sh", "-c", f"echo Y >{URING}", check=True)
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield


@pytest.fixture
def committed(repo):
    with repo.mount() as m:
        put_array(m.main, "a", (N,), (1,), codecs=[{"name": "bytes"}])
        for i in range(N):
            put(m.main, f"a/c/{i}", content(i))
        put_array(m.main, "b", (4,), (1,), codecs=[{"name": "bytes"}])
        for i in range(4):
            put(m.main, f"b/c/{i}", os.urandom(LARGE))
        m.commit("base")


@pytest.fixture
def mount(repo, mounts, committed, allowed):
    return mounts.enter_context(repo.mount("--read-only", "-o", WAY))


@pytest.mark.sanitize
def test_reads_the_same(repo, mount, mounts):
    device = mounts.enter_context(repo.mount("--read-only", "-o", "io_uring=off"))
    assert read_tree(mount.main) == read_tree(device.main)
    assert (mount.counted("ring_requests") > N) == RINGS and device.counted("ring_requests") == 0
    for path in "a/c/6", "b/c/2":
        with open(mount.main / path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ) as there:
            assert bytes(there) == (device.main / path).read_bytes()
    assert sorted(os.listdir(mount.main / "a/c")) == sorted(map(str, range(N)))
    assert [e.stat().st_size for e in sorted(os.scandir(mount.main / "a/c"), key=lambda e: int(e.name))] == \
        [len(content(i)) for i in range(N)]


@pytest.mark.parametrize("options", ["passthrough=off", "prefill=off", "passthrough=off,prefill=off,noxattr"])
def test_reads__with_other_options(repo, committed, allowed, mounts, options):
    m = mounts.enter_context(repo.mount("--read-only", "-o", f"{WAY},{options}"))
    tree = read_tree(m.main)
    assert [tree[f"a/c/{i}"] for i in range(N)] == [content(i) for i in range(N)]
    assert all(len(tree[f"b/c/{i}"]) == LARGE for i in range(4))


@pytest.mark.sanitize
def test_many_at_once(mount):
    """More readers than the threads of all processors."""
    wrong = []

    def read(k):
        for i in range(N):
            at = (i * 31 + k * 17) % N
            if (mount.main / f"a/c/{at}").read_bytes() != content(at):
                wrong.append(at)
            if (mount.main / f"b/c/{at % 4}").stat().st_size != LARGE:
                wrong.append(at)
    threads = [threading.Thread(target=read, args=(k,)) for k in range(40)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_what_fails__fails_the_same(repo, mount, mounts):
    def errors(m):
        tries = [lambda: (m.main / "a/c/none").read_bytes(), lambda: (m.main / "a/c/1/x").stat(), lambda: (m.main / "a/c/1").write_bytes(b"x"),
                 lambda: (m.main / "new").mkdir(), lambda: (m.main / "a/c/1").unlink(), lambda: os.rename(m.main / "a", m.main / "z"),
                 lambda: os.truncate(m.main / "a/c/1", 0), lambda: os.setxattr(m.main / "a/c/1", "user.x", b"y"),
                 lambda: os.getxattr(m.main / "a/c/1", "user.x"), lambda: os.link(m.main / "a/c/1", m.main / "l"),
                 lambda: (m.main / ("n" * 300)).stat(), lambda: os.readlink(m.main / "a")]
        found = []
        for f in tries:
            with pytest.raises(OSError) as e:
                f()
            found.append(e.value.errno)
        return found

    assert errors(mount) == errors(mounts.enter_context(repo.mount("--read-only", "-o", "io_uring=off")))
    (manifest,) = (f for f in (repo.path / "manifests").iterdir() if f.stat().st_size > 2000)
    whole = manifest.read_bytes()
    manifest.write_bytes(whole[:-100])
    other = mounts.enter_context(repo.mount("--read-only", "-o", WAY))
    with pytest.raises(OSError) as e:
        (other.main / "a/c/3").read_bytes()
    assert e.value.errno == errno.EIO and manifest.name in other.control("errors")
    manifest.write_bytes(whole)


def test_control_files_and_commands(firn, repo, mount, mounts):
    assert mount.session()["mode"] == "ro" and mount.control("errors") == ""
    (log,) = [e for e in firn.json("log", repo) if e["message"] == "base"]
    assert (mount.path / ".firn/branches/main/a/c/3").read_bytes() == content(3)
    assert (mount.path / f".firn/snapshots/{log['id']}/a/c/4").read_bytes() == content(4)
    p = firn.run("commit", mount, "-m", "no")
    assert p.returncode == 1 and "read-only" in p.stderr


@pytest.mark.sanitize
def test_killed__nobody_hangs(mount):
    """There is no other driver; whoever is asking is told."""
    assert children(mount.pid) == [] and mount.session()["pid"] == mount.session()["worker"]
    ended, began = [], threading.Event()

    def read():
        with pytest.raises(OSError) as e:
            while True:
                for i in range(N):
                    (mount.main / f"a/c/{i}").read_bytes()
                began.set()
        ended.append(e.value.errno)
    threads = [threading.Thread(target=read) for _ in range(8)]
    for t in threads:
        t.start()
    began.wait()
    time.sleep(0.05)
    mount.kill()
    for t in threads:
        t.join(30 * PATIENCE)
    assert len(ended) == 8 and set(ended) <= {errno.ENOTCONN, errno.ECONNABORTED, errno.ECANCELED, errno.ENOENT}, ended   # ENOENT: detached


@pytest.mark.sanitize
@pytest.mark.parametrize("how", ["signal", "umount", "umount while open"])
def test_ends(repo, committed, allowed, how):
    m = repo.mount("--read-only", "-o", WAY)
    assert (m.main / "a/c/1").read_bytes() == content(1)
    if how == "signal":
        os.kill(m.pid, signal.SIGTERM)
        m._ended()
    elif how == "umount":
        m.umount()
    else:
        with open(m.main / "b/c/1", "rb") as f:
            f.read(10)
            subprocess.run(["fusermount3", "-u", "-z", m.path], check=True)
            f.seek(300_000)
            assert len(f.read(10)) == 10
        m._ended()


def test_reader_killed(mount):
    """What it asked for is answered to nobody; the ring goes on."""
    for _ in range(20):
        p = subprocess.Popen(["cat", *(mount.main / f"a/c/{i}" for i in range(N))], stdout=subprocess.DEVNULL)
        time.sleep(0.005)
        p.kill()
        p.wait()
    assert (mount.main / "a/c/5").read_bytes() == content(5)


def test_auto__only_where_nothing_is_lost_by_it(repo, committed, allowed, mounts):
    counted = []
    for options in ["--read-only"], ["--read-only", "-o", "restart=off"], ["-o", "restart=off"], ["--read-only", "-o", "restart=off,io_uring=off"]:
        m = mounts.enter_context(repo.mount(*options))
        assert (m.main / "a/c/1").read_bytes() == content(1)
        counted.append(m.counted("ring_requests") > 0)
    assert counted == [False, RINGS, False, False]


def test_system_without_io_uring__comes_through_the_device(repo, committed, mounts):
    """The kernel consents, and then there is no ring to be had."""
    with setting("/proc/sys/kernel/io_uring_disabled", 2) if RINGS else contextlib.nullcontext():
        if RINGS:
            as_root("sh", "-c", f"echo Y >{URING}", check=True)
        m = mounts.enter_context(repo.mount("--read-only", "-o", WAY))
        assert (m.main / "a/c/1").read_bytes() == content(1) and m.counted("ring_requests") == 0


def test_not_allowed__refused(firn, repo, committed):
    at = repo.mountpoint()
    at.mkdir(parents=True)
    with setting(URING, "N") if RINGS else contextlib.nullcontext():
        firn.refuses("mount", "--read-only", "-o", "io_uring=on", repo, at, code=1, saying=["io_uring=on", "Linux 6.14", "enable_uring"])
        with repo.mount("--read-only", "-o", "restart=off") as m:
            assert m.counted("ring_requests") == 0


@pytest.mark.parametrize("options, word", [
    (["-o", "io_uring=on"], "read-only"), (["--read-only", "-o", "io_uring=on,restart=on"], "restart=off"),
    (["--read-only", "-o", "io_uring=maybe"], "auto")])
def test_usage(firn, repo, committed, options, word):
    at = repo.mountpoint()
    at.mkdir(parents=True)
    firn.refuses("mount", *options, repo, at, code=2, saying=["io_uring", word])
