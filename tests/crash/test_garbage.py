"""What killed commits and drivers leave behind is collected: temporaries, and second names of `repo` that no update
followed, by `firn fsck --repair`; objects by the official library."""
import datetime
import os
import signal
import time

import damage
from calls import ALONE, points
from conftest import FirnError, assert_committed, assert_same, group_json, put, put_array, read_tree

POINTS = {name: driver for name, driver in points().items() if name not in ("state-made", "fork-published")}


def referenced(path):
    """Every file of the repository that something in it names."""
    import icedump
    r = icedump.RepoDir(str(path))
    info = r.load("repo", "")[1]
    names = {"repo"} | {f"overwritten/{u['backup_path']}" for u in r.ops_log() if u["backup_path"]}
    for snapshot in info["snapshots"]:
        id = snapshot["id"]
        names |= {f"snapshots/{id}", f"transactions/{id}"}
        names |= {f"manifests/{m['id']}" for m in r.load("snapshots", id)[1]["manifest_files"]}
        for node in r.tree(id)["nodes"].values():
            names |= {f"chunks/{c['chunk_id']}" for c in node.get("chunks", {}).values() if c["kind"] == "native"}
    assert not r.problems
    return names


def files(path):
    return {str(p.relative_to(path)) for p in path.rglob("*") if p.is_file()}


def work(main, n):
    for i in range(4):
        put(main, f"a/c/{n % 3 + i}", bytes([n]) * (900 + i))
    put(main, f"g{n}/zarr.json", group_json(n=n))


def killed_at(repo, mounts, point, driver, n):
    """Change and commit, dying at `point`."""
    with repo.firn.watching({"FIRN_CRASH_AT": point} if driver else {}):
        m = mounts.enter_context(repo.mount(*ALONE))
    try:
        work(m.main, n)
        with repo.firn.watching({} if driver else {"FIRN_CRASH_AT": point}):
            p = repo.firn.run("commit", m, "-m", point)
        assert driver or p.returncode == -signal.SIGKILL
        if driver and point in ("objects-synced", "durable-noted"):
            os.close(os.open(m.main, os.O_RDONLY))
    except (OSError, FirnError):
        assert driver
    if driver:
        m.died()
    else:
        m.umount("--discard")


def test_garbage_of_every_step__is_collected(repo, mounts):
    with repo.mount() as m:
        put_array(m.main, "a", (10,), (1,))
        m.commit("base")
    for n, (point, driver) in enumerate(POINTS.items(), 1):
        killed_at(repo, mounts, point, driver, n)
    # Of what the dead ones had not committed, nothing is wanted any more.
    for session in repo.firn.json("sessions")["sessions"]:
        with repo.resume(session["id"]) as m:
            m.umount("--discard")
    before = read_tree_of(repo)
    garbage = files(repo.path) - referenced(repo.path)
    assert any("#" in name for name in garbage) and any("#" not in name for name in garbage), garbage
    assert {name.partition("/")[0] for name in garbage} >= {"chunks", "manifests", "snapshots"}, garbage
    long_ago = time.time() - 2 * 86400
    for name in garbage:
        os.utime(repo.path / name, (long_ago, long_ago))
    damage.age_backups(repo.path, 2)
    assert any(name.startswith("overwritten/repo.") for name in garbage), "no step left a second name of repo"
    repo.firn("fsck", "--deep", "--repair", repo)
    assert not any("#" in name for name in files(repo.path))
    repo.official().garbage_collect(datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1))
    left = files(repo.path) - referenced(repo.path) - {"firn/lock"}
    assert left == set(), left
    assert referenced(repo.path) - files(repo.path) == set()
    assert repo.firn.json("fsck", "--deep", repo)["findings"] == []
    assert_same(read_tree_of(repo), before)
    with repo.mount() as m:
        put(m.main, "a/c/9", b"after" * 200)
        m.commit("after")
        assert_committed(repo, m.main)


def read_tree_of(repo):
    with repo.mount("--read-only") as m:
        return read_tree(m.main)
