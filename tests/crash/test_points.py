"""Killed at every step the code names: what was acknowledged is there, the branch is before or after, and
the work goes on."""
import json
import os
import signal

import pytest

from calls import ALONE, points
from conftest import FirnError, assert_committed, assert_same, group_json, put, put_array, read_tree

POINTS = points()
# Of the command, but only where there is nothing of a mount.
COMMITTED = {"updated", "sources-ended"}
# The commit stands, and the command says so: only the mount did not follow.
MOVING = {"next-written", "next-published", "moved"}
COMMAND = [name for name, driver in POINTS.items() if not driver]
DRIVER = [name for name, driver in POINTS.items() if driver and name not in ("state-made", "fork-published")]


def fill(main):
    put_array(main, "a", (50,), (1,))
    for i in range(10):
        put(main, f"a/c/{i}", bytes([i + 1]) * (100 * i + 1))


def change(main):
    for i in range(5, 15):
        put(main, f"a/c/{i}", bytes([i + 100]) * (120 * i + 1))
    put(main, "g/zarr.json", group_json(x=1))
    put_array(main, "g/b", (3,), (1,))
    put(main, "g/b/c/1", b"B" * 70000)
    (main / "a/c/2").unlink()


def ended(m):
    """The driver killed itself."""
    assert m.died() in (signal.SIGKILL, 0)      # 0: it was no child of ours


def tip(repo):
    return repo.official().lookup_branch("main")


@pytest.mark.parametrize("point", COMMAND)
def test_commit_command_dies(repo, mounts, point):
    m = mounts.enter_context(repo.mount())
    fill(m.main)
    base = m.commit("base")
    change(m.main)
    want = read_tree(m.main)
    with repo.firn.watching({"FIRN_CRASH_AT": point}):
        p = repo.firn.run("commit", m, "-m", "killed")
    assert p.returncode == -signal.SIGKILL, (point, p)
    assert p.stdout == ""
    assert (tip(repo) != base) == (point in COMMITTED)
    repo.check()
    assert_same(read_tree(m.main), want, "the mount")
    # Neither a rebase nor --force is needed: the mount knows whether the commit was made.
    put(m.main, "a/c/40", b"later")
    put(m.main, "g/zarr.json", group_json(x=2))
    m.commit("the next")
    assert_committed(repo, m.main)
    assert_same(read_tree(m.main), want | {"a/c/40": b"later", "g/zarr.json": group_json(x=2)})
    m.umount()
    assert not [p for p in repo.firn.state.rglob("*") if p.is_file()], "state is left over"


@pytest.mark.parametrize("point", DRIVER)
def test_driver_dies(repo, mounts, point):
    with repo.mount() as first:
        fill(first.main)
        first.commit("base")
        done = read_tree(first.main)
    with repo.firn.watching({"FIRN_CRASH_AT": point}):
        m = mounts.enter_context(repo.mount(*ALONE))
    id, allowed, message = m.session()["id"], {}, None
    steps = [(f"a/c/{i}", bytes([i + 100]) * (120 * i + 1)) for i in range(3, 15)]
    steps += [("g/zarr.json", group_json()), ("a/c/0", None)]
    try:
        for path, data in steps:
            allowed = {path: data}
            if data is None:
                (m.main / path).unlink()
            else:
                put(m.main, path, data)
            done.pop(path, None)
            done |= {path: data} if data is not None else {}
        allowed = {}
        if point in ("objects-synced", "durable-noted"):
            fd = os.open(m.main / "a/c/5", os.O_WRONLY)
            os.fsync(fd)
            os.close(fd)
        repo.firn("commit", m, "-m", "killed")
    except (OSError, FirnError) as error:
        message = str(error)
    assert message is not None or point in MOVING, f"{point} was not passed"
    ended(m)
    repo.check()
    again = mounts.enter_context(repo.resume(id))
    got = read_tree(again.main)
    for path, data in allowed.items():
        assert got.get(path) in (data, done.get(path)), path
        got.pop(path, None)
        done.pop(path, None)
    assert_same(got, done, point, ("resumed", "acknowledged"))
    put(again.main, "a/c/41", b"later")
    again.commit("after")
    assert_committed(repo, again.main)
    again.umount()
    assert not [p for p in repo.firn.state.rglob("*") if p.is_file()], "state is left over"


def test_driver_dies_before_it_has_a_journal(repo, mounts):
    at = repo.mountpoint()
    at.mkdir(parents=True)
    with repo.firn.watching({"FIRN_CRASH_AT": "state-made"}):
        p = repo.firn.run("mount", repo, at)
    assert p.returncode != 0
    assert not os.path.ismount(at)
    repo.firn("sessions")
    with repo.mount() as m:
        fill(m.main)
        m.commit()
        assert_committed(repo, m.main)


def test_fork_dies_when_it_has_published(repo, mounts, tmp_path):
    m = mounts.enter_context(repo.mount())
    fill(m.main)
    token = tmp_path / "fork.json"
    repo.firn("fork", m, "-o", token)
    fork = json.loads(token.read_text())["fork"]
    with repo.firn.watching({"FIRN_CRASH_AT": "fork-published"}):
        w = mounts.enter_context(repo.worker(token, *ALONE))
    put(w.main, "a/c/30", b"w" * 1000)
    want = read_tree(w.main)
    repo.firn.run("umount", w)
    ended(w)
    repo.firn("commit", m, "--fork", fork, "--expect", "1", "-m", "all")
    assert_same(read_tree(m.main), want)
    assert_committed(repo, m.main)


def test_image_of_a_commit_left_behind__is_not_taken_for_the_next(repo, mounts):
    m = mounts.enter_context(repo.mount())
    fill(m.main)
    state = next(repo.firn.state.rglob("journal")).parent
    for seq in range(50):
        (state / f"commit-{seq}.journal").write_bytes(b"rubbish " * 100_000)
    m.commit()
    assert_committed(repo, m.main)


def test_every_point_has_a_test():
    assert set(COMMAND) | set(DRIVER) | {"state-made", "fork-published"} == set(POINTS)
    assert COMMITTED < set(COMMAND)
