"""What commands answer: JSON, exit codes, and the way out that messages name."""
import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import tempfile
import time

import pytest

from conftest import BIN, as_nobody, as_root, group_json, put, put_array


@pytest.fixture
def at(tmp_path):
    (tmp_path / "at").mkdir()
    return tmp_path / "at"


def failure(p, code, word):
    """It failed with one JSON value that says so: the message."""
    assert p.returncode == code, (p.args, p.returncode, p.stdout, p.stderr)
    told = json.loads(p.stdout)
    assert told["code"] == word and told["error"] in p.stderr, (told, p.stderr)
    return told["error"]


# ---- JSON ----

def test_json__wrong_usage(firn):
    for args in ["commit"], ["commit", "x"], ["log", "--frobnicate"], ["init"], ["run", "x", "-m", "m"], ["frobnicate"], \
            ["merge", "x"], ["journal", "frobnicate", "x"], ["mount", "x", "y", "--tag", "t", "--snapshot", "s"]:
        failure(firn.run(*args, "--json"), 2, "usage")


def test_json__driver_does_not_start(firn, repo, at, tmp_path):
    nowhere = tmp_path / "nowhere"
    assert "nowhere" in failure(firn.run("mount", nowhere, at, "--json"), 1, "failed")
    assert "t1" in failure(firn.run("mount", repo, at, "--tag", "t1", "--json"), 1, "failed")
    assert "nowhere" in failure(firn.run("run", nowhere, "-m", "x", "--json", "--", "true"), 1, "failed")
    p = firn.run("mount", nowhere, at, "-f", "--json")
    assert p.returncode == 1 and json.loads(p.stdout)["code"] == "failed" and "nowhere" in p.stderr


def test_json__run__command_fails(firn, repo):
    run = "run", repo, "-m", "m", "--json", "--"
    p = firn.run(*run, "sh", "-c", "echo out; echo err >&2; exit 42")
    told = json.loads(p.stdout)
    assert p.returncode == told["exit_code"] == 42 and told["code"] == "failed" and "42" in told["error"]
    assert not told["resumable"] and told["mountpoint"] is None and p.stderr.split() == ["out", "err"]
    told = firn.json("run", repo, "-m", "m", "--json", "--", "sh", "-c", "echo '%s' >{}/zarr.json; kill -9 $$" % group_json(k=1).decode(), code=137)
    assert told["exit_code"] == 137 and told["resumable"]
    assert [s["id"] for s in firn.json("sessions")["sessions"]] == [told["session"]]
    assert "/no/such" in failure(firn.run(*run, "/no/such/program"), 127, "not-found")
    assert "/no/such" in firn.refuses("run", repo, "-m", "m", "--", "/no/such/program", code=127).stderr
    failure(firn.run(*run, "true"), 4, "nothing")


def test_json__run__commits(firn, repo, tmp_path):
    (tmp_path / "doc").write_bytes(group_json())
    p = firn.run("run", repo, "-m", "m", "--json", "--", "sh", "-c", f"echo out; cp {tmp_path}/doc {{}}/zarr.json")
    told = json.loads(p.stdout)
    assert p.returncode == 0 and p.stderr == "out\n" and told["mountpoint"] is None
    assert told["snapshot"] == firn.json("show", repo)["id"]


def test_result_cannot_be_written_after_a_commit__said(array):
    put(array.main, "a/c/1", b"1")
    with open("/dev/full", "w") as full:
        p = subprocess.run([BIN / "firn", "commit", array.path, "-m", "m"], stdout=full, stderr=subprocess.PIPE, text=True, env=array.firn.env)
    assert p.returncode == 1 and "cannot write the result" in p.stderr and "is done" in p.stderr
    assert array.firn.json("log", array)[0]["message"] == "m"


# ---- run ----

def busy(firn, repo, tmp_path, code, *args):
    """`firn run` whose command leaves a process in the mount: how it ended, the process, the mount."""
    (tmp_path / "doc").write_bytes(group_json())
    script = f"cp {tmp_path}/doc {{}}/zarr.json; cd {{}}; sleep 100 >/dev/null 2>&1 & echo $! >{tmp_path}/pid; echo {{}} >{tmp_path}/at; exit $0"
    p = firn.run("run", repo, "-m", "m", *args, "--", "sh", "-c", script, code)
    return p, int((tmp_path / "pid").read_text()), pathlib.Path((tmp_path / "at").read_text().strip()).parent


def leave(firn, pid, at):
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while firn.run("umount", at).returncode and time.monotonic() < end:
        time.sleep(0.05)
    assert not os.path.ismount(at)
    at.rmdir()


def test_run__mount_is_busy_afterwards__committed_and_said(firn, repo, tmp_path):
    p, pid, at = busy(firn, repo, tmp_path, 0)
    try:
        assert p.returncode == 0 and p.stdout.strip() == firn.json("show", repo)["id"], p
        assert "committed, but" in p.stderr and f"'firn umount {at}'" in p.stderr
    finally:
        leave(firn, pid, at)
    assert len(firn.json("log", repo)) == 2


@pytest.mark.parametrize("code", [0, 7])
def test_run__mount_is_busy_afterwards__json(firn, repo, tmp_path, code):
    p, pid, at = busy(firn, repo, tmp_path, code, "--json")
    try:
        told = json.loads(p.stdout)
        assert p.returncode == code and told["mountpoint"] == str(at) and ("error" in told) == (code != 0), p
        assert f"'firn umount {at}'" in p.stderr and ("committed, but" in p.stderr) == (code == 0)
    finally:
        leave(firn, pid, at)


def adding(name, before="true"):
    """A command for `firn run` that writes a group."""
    return ["sh", "-c", f"{before}; mkdir -p {{}}/{name} && echo '{group_json(k=1).decode()}' >{{}}/{name}/zarr.json"]


def test_run__branch_moved__rebase(firn, repo):
    other = " ".join([f"{BIN}/firn run {repo} -m other --", *map(shlex.quote, adding("other"))]).replace("{}", "$FIRN_MOUNT")
    p = firn.run("run", repo, "-m", "mine", "--", *adding("mine", other))
    assert p.returncode == 3 and "moved" in p.stderr, p
    [session] = firn.json("sessions")["sessions"]
    assert f"'firn commit {session['id']} --rebase -m MSG'" in p.stderr
    firn.snapshot("commit", session["id"], "--rebase", "-m", "afterwards")
    other = other.replace("other", "another")
    firn("run", repo, "-m", "again", "--rebase", "--", *adding("again", other))
    assert {"/mine", "/other", "/another", "/again"} <= set(firn("ls", repo).split())
    firn.refuses("run", repo, "-m", "m", "--rebase=mine", "--", "true", code=2, saying="theirs")


def test_run__at_the_same_time__all_are_committed(firn, repo):
    runs = [subprocess.Popen([BIN / "firn", "run", repo.path, "-m", f"n{i}", "--rebase=fail", "--", *adding(f"n{i}", "sleep 0.5")],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=firn.env) for i in range(4)]
    for p in runs:
        out, err = p.communicate(timeout=100)
        assert p.returncode == 0, (out, err)
    assert {f"/n{i}" for i in range(4)} <= set(firn("ls", repo).split())
    assert not firn.json("sessions")["sessions"]


# ---- sources ----

def test_source_twice__conflict_with_a_list(firn, repo, array, tmp_path):
    put(array.main, "a/c/1", b"1")
    j, link = tmp_path / "w.journal", tmp_path / "link.journal"
    firn("journal", "export", array, "-o", j)
    link.symlink_to(j)
    for args in ["merge", "-o", tmp_path / "m", j, j], ["merge", "-o", tmp_path / "m", j, link], ["commit", array, j, "-m", "m"], \
            ["commit", j, j, "-m", "m"], ["commit", array, array.main, "-m", "m"]:
        p = firn.run(*args, "--json")
        told = json.loads(p.stdout)
        assert p.returncode == 3 and told["code"] == "conflict" and told["conflicts"] == [], p
        assert len(p.stderr.splitlines()) == 1
    assert not (tmp_path / "m").exists() and len(firn.json("log", repo)) == 2


def test_commit__several_forks(firn, repo, array, tmp_path):
    tokens = tmp_path / "t1", tmp_path / "t2"
    for i, token in enumerate(tokens):
        firn("fork", array, "-o", token)
        with repo.worker(token) as w:
            put(w.main, f"a/c/{i + 1}", b"w%d" % i)
            w.umount()
    both = "--fork", tokens[0], "--fork", tokens[1]
    names = [json.loads(t.read_text())["fork"] for t in tokens]
    firn.refuses("commit", array, *both, "--expect", "3", "-m", "m", saying=["2 of 3", "1 missing", "firn sessions", "--resume", *names])
    firn.refuses("commit", array, *both, "--fork", names[0], "-m", "m", code=3, saying="twice")
    firn.snapshot("commit", *both, "--expect", "2", "-m", "both")
    assert [firn("cat", repo, f"a/c/{i}") for i in (1, 2)] == ["w0", "w1"]
    p = firn.refuses("commit", array, "--fork", tokens[0], "-m", "m", saying=["no worker has published", "firn umount"])
    assert "of 1" not in p.stderr


def test_repository_moved__messages_say_where_to_name_it(firn, repo, array, tmp_path):
    firn("fork", array, "-o", tmp_path / "t")
    put(array.main, "a/c/1", b"1")
    j, id = tmp_path / "w.journal", array.session()["id"]
    firn("journal", "export", array, "-o", j)
    array.umount()
    at = repo.mountpoint()
    at.mkdir()
    old, new = repo.path, tmp_path / "moved"
    old.rename(new)
    try:
        for args in ["commit", j, "-m", "m"], ["commit", id, "-m", "m"], ["merge", "-o", tmp_path / "m", j], ["journal", "verify", j], \
                ["diff", id], ["commit", "--fork", tmp_path / "t", "-m", "m"]:
            p = firn.refuses(*args, saying=[str(old), "--repo"])
            assert "firn init" not in p.stderr
        for args in ["mount", "--resume", id, at], ["mount", "--fork", tmp_path / "t", at]:
            p = firn.refuses(*args, saying=[str(old), "before the mount point"])
            assert "firn init" not in p.stderr
        assert "c/1" in firn("diff", id, "--repo", new) and firn("journal", "verify", j, "--repo", new)
        firn("merge", "-o", tmp_path / "m", j, "--repo", new)
        for args in ["--resume", id], ["--fork", tmp_path / "t"]:
            firn("mount", *args, new, at)
            assert json.loads((at / ".firn/session").read_text())["repository"] == new.as_uri()
            firn("umount", at)
        firn.snapshot("commit", id, "--repo", new, "-m", "m")
        assert firn("cat", new, "a/c/1") == "1"
    finally:
        new.rename(old)


def test_repository_moved__live_mount(firn, repo, array, tmp_path):
    put(array.main, "a/c/1", b"1" * 600)
    old, new = repo.path, tmp_path / "moved"
    old.rename(new)
    try:
        for args, how in (["commit", array, "-m", "m"], "--repo"), (["log", array], "instead"), (["diff", array, "main~1", "main"], "instead"):
            assert "firn init" not in firn.refuses(*args, saying=[str(array.path), str(old), how]).stderr
        id = firn.snapshot("commit", array, "--repo", new, "-m", "m")
        assert array.session()["base"] == id == firn.json("log", new)[0]["id"]
        assert (array.main / "a/c/1").read_bytes() == b"1" * 600
    finally:
        new.rename(old)


def test_repository_is_a_file__said(firn, at, tmp_path):
    (tmp_path / "file").write_text("")
    for args in ["log", tmp_path / "file"], ["mount", tmp_path / "file", at], ["ls", tmp_path / "file"], ["init", tmp_path / "file"]:
        p = firn.refuses(*args, saying="is no directory")
        assert "firn init" not in p.stderr


@pytest.mark.parametrize("policy, wins", [("ours", "mine"), ("theirs", "other")])
def test_rebase__settled_chunks_are_counted_and_told(firn, repo, array, mounts, policy, wins):
    other = mounts.enter_context(repo.mount())
    put(other.main, "a/c/1", b"other")
    put(other.main, "a/c/2", b"same")
    other.commit("other")
    for key, data in ("a/c/1", b"mine"), ("a/c/2", b"same"), ("a/c/3", b"mine"):
        put(array.main, key, data)
    p = firn.run("commit", array, "-m", "m", f"--rebase={policy}", "--json")
    assert p.returncode == 0 and json.loads(p.stdout)["settled"] == 1, p
    assert p.stderr.startswith("firn: note: 1 chunk") and f"--rebase={policy}" in p.stderr
    assert firn("cat", repo, "a/c/1") == wins and firn("cat", repo, "a/c/3") == "mine"
    put(array.main, "a/c/4", b"x")
    p = firn.run("commit", array, "-m", "m", f"--rebase={policy}", "--json")
    assert json.loads(p.stdout)["settled"] == 0 and not p.stderr


def test_amend__of_the_message_alone(firn, repo, array):
    firn.refuses("commit", array, "--amend", "-m", "new", code=4, saying="--allow-empty")
    n = len(firn.json("log", repo))
    firn.snapshot("commit", array, "--amend", "--allow-empty", "-m", "new")
    log = firn.json("log", repo)
    assert len(log) == n and log[0]["message"] == "new" and firn("cat", repo, "a/c/0") == "x"


# ---- options ----

def test_mount__unknown_option__named_and_usage(firn, repo, at):
    for options in "frob", "nosuid,frob,nodev":
        p = firn.refuses("mount", repo, at, "-o", options, code=2, saying="there is no option 'frob'")
        assert len(p.stderr.splitlines()) == 1
    assert "frob" in failure(firn.run("mount", repo, at, "-o", "frob", "--json"), 2, "usage")
    firn.refuses("mount", repo, at, "-o", "frob,knob=1", code=2, saying=["frob", "knob=1"])
    assert not firn.json("sessions")["sessions"]


def test_mount__words_of_fstab(firn, repo, at):
    firn("mount", repo, at, "-o", "relatime,norelatime,strictatime,nostrictatime,diratime,nodiratime,lazytime,nolazytime,noatime,"
         "_netdev,nofail,defaults,noauto,users,nouser,x-systemd.automount,x-gvfs-hide,comment=a,rw,nosuid,nodev,noexec,async")
    firn("umount", at)


def test_mount__two_branches__usage(firn, repo, at):
    firn("branch", "create", repo, "dev")
    firn.refuses("mount", repo, at, "-b", "main", "-o", "branch=dev", code=2, saying=["main", "dev"])
    firn.refuses("run", repo, "-m", "m", "-b", "main", "-o", "branch=dev", "--", "true", code=2, saying=["main", "dev"])
    assert firn.json("mount", repo, at, "-b", "dev", "-o", "branch=dev")["branch"] == "dev"
    firn("umount", at)


def test_virtual__what_is_no_prefix__usage(firn, repo, at):
    for prefix in "", "/data", "s3://b/", "file:data", "file://data", "file://":
        for args in ["mount", repo, at, "--virtual", prefix], ["mount", repo, at, "-o", f"virtual={prefix}"], ["cat", repo, "a/c/0", "--virtual", prefix]:
            firn.refuses(*args, code=2, saying="file:///data/")
    with repo.mount("--virtual", "file:///data", "--virtual", "file:///a%20b/") as m:
        assert m.session()["id"]


def test_log__number_of_snapshots(firn, repo):
    for n in 0, -1:
        firn.refuses("log", repo, "-n", n, code=2, saying="-n")
    assert len(firn("log", repo, "-n", 1).splitlines()) == 1


# ---- mounts ----

@pytest.mark.parametrize("how", [[], ["--discard"]])
def test_umount__scratch_files_are_named(firn, repo, array, how):
    for i in range(5):
        put(array.main, f"a/notes{i}.txt", b"scratch")
    put(array.main, ".git/HEAD", b"ref")
    status = firn.json("status", array)["scratch"]
    p = firn.run("umount", array, *how)
    array._ended()
    assert p.returncode == 0 and f"{len(status)} scratch files" in p.stderr and f"and {len(status) - 3} more" in p.stderr, p
    assert sum(name in p.stderr for name in status) == 3
    with repo.mount() as again:
        put(again.main, "one.txt", b"scratch")
        p = firn.run("umount", again)
        again._ended()
    assert p.returncode == 0 and "1 scratch file " in p.stderr and "one.txt" in p.stderr
    with repo.mount() as none:
        p = firn.run("umount", none)
        none._ended()
    assert p.returncode == 0 and not p.stderr


def test_umount__read_only_has_no_journal(firn, repo, tmp_path):
    with repo.mount("--read-only") as m:
        firn.refuses("umount", m, "--export", tmp_path / "j", saying="read-only")
        assert m.session()["mode"] == "ro" and not (tmp_path / "j").exists()


def test_mount__over_a_dead_one__its_work_is_told(firn, repo, array):
    put(array.main, "a/c/1", b"1")
    id = array.session()["id"]
    array.kill(detach=False)
    p = firn.run("mount", repo, array.path)
    assert p.returncode == 0 and f"firn mount --resume {id}" in p.stderr, p
    firn("umount", array.path)
    firn("discard", id)


def test_another_users_mount__said(firn, repo):
    with tempfile.TemporaryDirectory() as open_to_all:
        pathlib.Path(open_to_all).chmod(0o755)
        copy = shutil.copy(BIN / "firn", open_to_all)
        at = pathlib.Path(open_to_all, "at")
        at.mkdir()
        firn("mount", repo, at)
        try:
            for args in ["status", at], ["umount", at], ["log", at / "main"], ["commit", at, "-m", "m"], ["diff", at]:
                p = as_nobody("env", f"XDG_STATE_HOME={open_to_all}/none", copy, *args)
                assert p.returncode == 1 and b"lets nobody in" in p.stderr and str(at).encode() in p.stderr, p
        finally:
            firn("umount", at)


def doctor_of(system, tmp_path):
    """What it says of a machine whose /sys is that directory."""
    p = as_root("unshare", "-m", "sh", "-c", 'mount --bind "$0" /sys && exec "$1" doctor --json --state-dir "$2"', system, BIN / "firn", tmp_path / "state")
    return json.loads(p.stdout)["checks"]


@pytest.mark.parametrize("allowed, says", [("N", "enable_uring"), ("Y", "for read-only mounts"), (None, "Linux 6.14")])
def test_doctor__io_uring(tmp_path, allowed, says):
    system = tmp_path / "sys"
    (system / "module/fuse/parameters").mkdir(parents=True)
    if allowed:
        (system / "module/fuse/parameters/enable_uring").write_text(f"{allowed}\n")
    (found,) = [c for c in doctor_of(system, tmp_path) if c["check"] == "io_uring"]
    assert found["result"] == "ok" and says in found["detail"]


@pytest.mark.parametrize("driver, ns, result", [("haltpoll", 0, "warning"), ("haltpoll", 200_000, "ok"), ("acpi_idle", 0, None)])
def test_doctor__processors_that_halt(tmp_path, driver, ns, result):
    """Whatever this machine has, by files laid over its own."""
    system = tmp_path / "sys"
    for name, text in (("devices/system/cpu/cpuidle/current_driver", driver), ("module/haltpoll/parameters/guest_halt_poll_ns", ns)):
        (system / name).parent.mkdir(parents=True)
        (system / name).write_text(f"{text}\n")
    found = [c for c in doctor_of(system, tmp_path) if c["check"] == "idle processors"]
    assert [c["result"] for c in found] == ([result] if result else [])
    assert not found or ("200 us" if ns else "guest_halt_poll_ns") in found[0]["detail"]


def test_doctor__read_only_file_system__nothing_left_behind(firn, repo, tmp_path):
    (repo.path / "firn").mkdir()
    (tmp_path / "ro").mkdir()
    p = as_root("unshare", "-m", "sh", "-c", 'mount --bind "$0" "$1" && mount -o remount,bind,ro "$1" && exec "$2" doctor "$1"',
                repo.path, tmp_path / "ro", BIN / "firn")
    assert b"Read-only" in p.stdout and b"left behind" not in p.stderr, p
