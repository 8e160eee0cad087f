"""The k-th call that changes a file fails, or is the last, for every k until nothing fails: who asked gets the
errno, what was there stays, and when the cause is gone the work goes on."""
import errno
import os
import signal
import time

import pytest

from calls import ALONE, ALWAYS, ERRORS, KILL, KILL_AFTER, Calls, say
from conftest import alive, assert_committed, assert_same, group_json, put, put_array, read_tree

MOST = 400          # calls of one operation: more means that the sweep does not end


def sweep(calls, times, how, step=1):
    """1, 2, 3, ... until a round in which no call failed; `round()` says so."""
    for k in range(1, MOST, step):
        calls.arm(k, times, how)
        yield k
        if not calls.last[0]:
            return
    raise AssertionError(f"after {MOST} calls it still fails: {calls.last}")


def end_round(calls):
    calls.last = calls.disarm()
    calls.total = getattr(calls, "total", 0) + (1 if calls.last[0] else 0)
    return calls.last


# Every call in the long form, every third otherwise.
stepped = pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])


def failing(short):
    """One errno in the short form, all in the long one."""
    others = [pytest.param(e, marks=pytest.mark.soak) for e in ERRORS if e != short]
    return pytest.mark.parametrize("how", [short, *others], ids=errno.errorcode.get)


def hold(calls):
    calls.arm(0, 0, 0)


def changes(main, n):
    for i in range(3):
        put(main, f"a/c/{i}", b"%d" % n * (700 + i))
    put(main, f"g{n % 5}/zarr.json", group_json(n=n))


def fresh(repo, mounts):
    m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    m.commit("base")
    return m


def check_committed(repo, m, want, k=0):
    """Every time the mount; the other decoder and the official library every few rounds."""
    assert_same(read_tree(m.main), want, "the mount", ("mount", "written"))
    if k % 7 == 0:
        repo.check()
        assert_committed(repo, m.main)


@stepped
@pytest.mark.parametrize("times", [pytest.param(1, marks=pytest.mark.soak), ALWAYS], ids=["once", "for-good"])
@failing(errno.ENOSPC)
def test_commit_command_fails(repo, mounts, tmp_path, step, how, times):
    """All of one commit's calls in turn."""
    m = fresh(repo, mounts)
    calls = Calls(tmp_path / "calls", tmp_path)
    n = 0
    for k in sweep(calls, times, how, step):
        n += 1
        changes(m.main, n)
        want = read_tree(m.main)
        before = repo.official().lookup_branch("main")
        with repo.firn.watching(calls.env):
            p = repo.firn.run("commit", m, "-m", f"{k}")
        failed, what, path = end_round(calls)
        tip = repo.official().lookup_branch("main")
        if p.returncode != 0:
            assert failed and p.returncode == 1, (k, what, p)
            assert say(how) in p.stderr.lower(), (k, what, path, p.stderr)
            assert_same(read_tree(m.main), want, "the mount")
        if p.returncode == 0:
            assert tip == p.stdout.strip() and tip != before
        elif tip == before:
            m.commit("again")
        else:                                     # it was made, only its end was not seen
            p = repo.firn.run("commit", m, "-m", "again")
            assert p.returncode == 4, (k, what, p)
        check_committed(repo, m, want, n)
    check_committed(repo, m, want)
    print(f"{calls.total} calls of a commit failed with {errno.errorcode[how]}")
    assert calls.total > 15 // step


@stepped
@pytest.mark.parametrize("how", [KILL, pytest.param(KILL_AFTER, marks=pytest.mark.soak)], ids=["before", "after"])
def test_commit_command_killed_at_every_call(repo, mounts, tmp_path, step, how):
    m = fresh(repo, mounts)
    calls = Calls(tmp_path / "calls", tmp_path)
    n = 0
    for k in sweep(calls, 1, how, step):
        n += 1
        changes(m.main, n)
        want = read_tree(m.main)
        before = repo.official().lookup_branch("main")
        with repo.firn.watching(calls.env):
            p = repo.firn.run("commit", m, "-m", f"{k}")
        failed, what, path = end_round(calls)
        assert p.returncode == (-signal.SIGKILL if failed else 0), (k, what, p)
        tip = repo.official().lookup_branch("main")
        q = repo.firn.run("commit", m, "-m", "again")
        assert q.returncode == (0 if failed and tip == before else 4), (k, what, path, q)
        check_committed(repo, m, want, n)
    check_committed(repo, m, want)
    print(f"killed at {calls.total} calls")
    assert calls.total > 15 // step


def work(main, tree, n):
    """Every kind of change, each an operation with what it leaves; (errors, ok) as they come."""
    big = bytes([n % 250 + 1]) * 300_000
    middle = bytes([n % 250 + 2]) * 20_000

    def replace(path, data):
        temporary = main / f"{path}.{n}.partial"
        try:
            temporary.write_bytes(data)
            os.replace(temporary, main / path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def sync(path, data):
        put(main, path, data)
        with open(main / path, "rb+") as f:
            os.fsync(f)

    return [(lambda: put(main, "a/c/1", middle), "a/c/1", middle),
            (lambda: put(main, "a/c/2", big), "a/c/2", big),
            (lambda: put(main, "a/c/3", b"%d" % n), "a/c/3", b"%d" % n),
            (lambda: replace("a/c/4", middle), "a/c/4", middle),
            (lambda: sync("a/c/5", middle), "a/c/5", middle),
            (lambda: put(main, "g/zarr.json", group_json(n=n)), "g/zarr.json", group_json(n=n)),
            (lambda: (main / "a/c/6").unlink(missing_ok=True), "a/c/6", None),
            (lambda: put(main, "a/c/6", middle[:900]), "a/c/6", middle[:900])]


def acknowledged(tree, path, data):
    """An operation of work() went well: this is what the tree has now."""
    tree[path] = data
    if data is None:
        del tree[path]


@stepped
@pytest.mark.parametrize("times", [1, pytest.param(ALWAYS, marks=pytest.mark.soak)], ids=["once", "for-good"])
@failing(errno.EDQUOT)
def test_driver_fails(repo, mounts, tmp_path, step, how, times):
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    m.commit("base")
    want, n = read_tree(m.main), 0
    for k in sweep(calls, times, how, step):
        n += 1
        raised = []
        for act, path, data in work(m.main, want, n):
            try:
                act()
            except OSError as error:
                raised.append((path, error))
                assert error.errno == how, (k, path, error)
                time.sleep(0.05)                  # the kernel tells of a file's end some time after close()
                got = (m.main / path).read_bytes() if (m.main / path).exists() else None
                # What was there, or what was written and only could not be synced, or what O_TRUNC left.
                assert got in (want.get(path), data) or not got, (k, path, got and len(got))
                if got is not None:
                    want[path] = got
                else:
                    want.pop(path, None)
            else:
                acknowledged(want, path, data)
        fd = os.open(m.main, os.O_RDONLY)
        try:
            os.fsync(fd)
        except OSError as error:
            raised.append(("fsync", error))
            assert error.errno == how
        os.close(fd)
        failed, what, path = end_round(calls)
        assert_same({p: d for p, d in read_tree(m.main).items() if d}, {p: d for p, d in want.items() if d},
                    f"call {k} ({what} of {path})", ("mount", "expected"))
        if failed and not raised:                # nobody asked: a removal, or the flush of the background
            assert what in ("unlink", "punch", "fsync", "syncfs", "write"), (k, what, path)
            assert what in ("unlink", "punch") or say(how) in m.control("errors").lower(), (k, what, path)
        assert not raised or failed, (k, raised)
        for act, path, data in work(m.main, want, n):      # the cause is gone
            act()
            acknowledged(want, path, data)
        assert_same(read_tree(m.main), want, f"after call {k} ({what} of {path})", ("mount", "expected"))
        if n % 10 == 0 or not failed:
            m.commit(f"{k}")
            check_committed(repo, m, want)
    print(f"{calls.total} calls of the driver failed with {errno.errorcode[how]}")
    assert calls.total > 15 // step


@stepped
@failing(errno.EIO)
def test_driver_fails_in_a_commit(repo, mounts, tmp_path, step, how):
    """The mount's part of a commit: begin, intent, move."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    m.commit("base")
    n = 0
    for k in sweep(calls, 1, how, step):
        n += 1
        hold(calls)
        changes(m.main, n)
        want = read_tree(m.main)
        calls.arm(k, 1, how)
        p = repo.firn.run("commit", m, "-m", f"{k}")
        failed, what, path = end_round(calls)
        if p.returncode != 0:
            assert p.returncode == 1 and failed, (k, what, p)
        assert_same(read_tree(m.main), want, f"call {k} ({what} of {path})")
        put(m.main, "a/c/50", b"%d" % n)
        put(m.main, "g9/zarr.json", group_json(n=n))
        want |= {"a/c/50": b"%d" % n, "g9/zarr.json": group_json(n=n)}
        m.commit("again")
        check_committed(repo, m, want, n)
    check_committed(repo, m, want)
    print(f"{calls.total} calls of the driver in a commit failed with {errno.errorcode[how]}")
    assert calls.total > 5 // step


@stepped
@pytest.mark.parametrize("how", [KILL, pytest.param(KILL_AFTER, marks=pytest.mark.soak)], ids=["before", "after"])
def test_driver_killed_at_every_call(repo, mounts, tmp_path, step, how):
    """Resumed each time: everything that was acknowledged is there."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount(*ALONE))
        put_array(m.main, "a", (100,), (1,))
        want, n = read_tree(m.main), 0
        for k in sweep(calls, 1, how, step):
            n += 1
            unsure, id = {}, m.session()["id"]
            try:
                for act, path, data in work(m.main, want, n):
                    unsure = {path: data}
                    act()
                    acknowledged(want, path, data)
                unsure = {}
                repo.firn.run("commit", m, "-m", f"{k}")
            except OSError as error:
                assert error.errno in (errno.ENOTCONN, errno.ECONNABORTED), error
            failed, what, path = end_round(calls)
            if not failed:
                break
            if alive(m.pid):                          # it was a call of nobody's asking, and the last
                os.kill(m.pid, signal.SIGKILL)
            m.died()
            if n % 7 == 0:
                repo.check()
            m = mounts.enter_context(repo.resume(id, *ALONE)) if id in repo.firn("sessions") else mounts.enter_context(repo.mount(*ALONE))
            got = read_tree(m.main)
            for p, data in unsure.items():
                assert got.get(p) in (data, want.get(p), None if data is None or p not in want else want[p]), (k, p)
                want.pop(p, None)
                if p in got:
                    want[p] = got[p]
            assert_same(got, want, f"call {k} ({what} of {path})", ("resumed", "acknowledged"))
        assert repo.firn.run("commit", m, "-m", "the end").returncode in (0, 4)
    check_committed(repo, m, want)
    print(f"the driver was killed at {calls.total} calls")
    assert calls.total > 15 // step


@stepped
@pytest.mark.parametrize("how", [KILL, pytest.param(KILL_AFTER, marks=pytest.mark.soak)], ids=["before", "after"])
def test_driver_killed_at_every_call__nobody_notices(repo, mounts, tmp_path, step, how):
    """With its supervisor: no error, nothing lost, the commit goes through."""
    calls = Calls(tmp_path / "calls", tmp_path)
    with repo.firn.watching(calls.env):
        m = mounts.enter_context(repo.mount())
    put_array(m.main, "a", (100,), (1,))
    m.commit("base")
    want, n, killed = read_tree(m.main), 0, 0
    for k in sweep(calls, 1, how, step):
        n += 1
        for act, path, data in work(m.main, want, n):
            act()
            acknowledged(want, path, data)
        m.commit(f"{k}")
        failed, what, path = end_round(calls)
        killed += failed
        assert_same(read_tree(m.main), want, f"call {k} ({what} of {path})", ("mount", "expected"))
        assert m.session()["restarts"] == killed, (k, what, path)
        if n % 7 == 0:
            check_committed(repo, m, want)
    check_committed(repo, m, want)
    print(f"the driver was killed at {calls.total} calls, and nobody noticed")
    assert calls.total > 15 // step
