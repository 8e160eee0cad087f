"""The command itself: arguments, results, exit codes, and what it leaves behind."""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

from conftest import BIN, GOLDEN, PASSTHROUGH, assert_committed, assert_same, group_json, put, put_array, read_tree

ID = re.compile(r"[0-9A-HJKMNP-TV-Z]{20}\Z")
ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture
def golden(tmp_path):
    shutil.copytree(GOLDEN / "v2" / "repo", tmp_path / "golden")
    return tmp_path / "golden"


def contents():
    return json.loads((GOLDEN / "v2" / "contents.json").read_text())


# ---- help and usage ----

def test_every_command_has_help_and_json(firn):
    listed = [line.split()[0] for line in firn("--help").splitlines() if line.startswith("  ")]
    assert len(listed) >= 20
    for name in listed:
        text = firn(name, "--help")
        assert text == firn("help", name) and "--json" in text and f"firn {name}" in text


def test_usage__exit_code_2_and_nothing_on_stdout(firn):
    for args in ([], ["frobnicate"], ["help", "frobnicate"], ["init"], ["init", "a", "b"], ["log", "--frobnicate"],
                 ["merge", "x"], ["commit", "x"], ["commit", "x", "-m", "m", "--expect", "3"],
                 ["commit", "x", "-m", "m", "--metadata", "novalue"], ["commit", "x", "-m", "m", "--favor", "me"],
                 ["journal", "frobnicate", "x"], ["journal", "export", "x"], ["journal", "show", "x", "-o", "y"],
                 ["branch"], ["branch", "frobnicate", "x"], ["umount", "x", "--export", "f", "--discard"],
                 ["run", "x", "-m", "m"], ["run", "x", "-m", "m", "--"], ["run", "x", "--", "true"],
                 ["mount", "x", "y", "--tag", "t", "--snapshot", "s"], ["mount", "x", "y", "--as-of", "yesterday"],
                 ["mount", "--fork", "t", "x", "--read-only"]):
        p = firn.run(*args)
        assert p.returncode == 2 and p.stderr.startswith("firn: ") and not p.stdout, (args, p)


def test_result_cannot_be_written__said(firn, golden):
    with open("/dev/full", "w") as full:
        p = subprocess.run([BIN / "firn", "log", golden], stdout=full, stderr=subprocess.PIPE, text=True, env=firn.env)
    assert p.returncode == 1 and "cannot write" in p.stderr
    p = subprocess.run(f"{BIN}/firn ls -R {golden} | head -1", shell=True, stderr=subprocess.PIPE, text=True, env=firn.env)
    assert not p.stderr


def test_errors_as_json(firn, golden, tmp_path):
    p = firn.run("log", tmp_path / "nowhere", "--json")
    assert p.returncode == 1 and json.loads(p.stdout)["code"] == "not-found"
    assert json.loads(p.stdout)["error"] in p.stderr
    p = firn.run("reset", golden, "main", "v1", "--expect", "v1", "--json")
    assert p.returncode == 3 and json.loads(p.stdout)["code"] == "conflict"


def test_man_page_and_completion_are_complete():
    p = subprocess.run([ROOT / "tests/lint/commands.sh"], stdout=subprocess.PIPE, text=True)
    assert p.returncode == 0, p.stdout


def test_completion():
    def complete(*words):
        script = f'source {ROOT}/tools/firn.bash; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _firn; printf "%s\\n" "${{COMPREPLY[@]}}"'
        return subprocess.run(["bash", "-c", script, "bash", *words], stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert complete("firn", "um") == ["umount"]
    assert complete("firn", "commit", "--am") == ["--amend"]
    assert complete("firn", "merge", "--favor", "f") == ["first"]
    assert complete("firn", "journal", "v") == ["verify"]


# ---- looking into a repository ----

def test_ls(firn, golden):
    nodes = {n["path"]: n for n in firn.json("ls", golden, "-R")}
    assert firn("ls", golden, "-R").split() == sorted(nodes)
    assert nodes["/native"]["kind"] == "array" and nodes["/native"]["shape"] == [40, 20]
    assert nodes["/native"]["chunks"] == [4, 3] and nodes["/deep"]["kind"] == "group"
    assert nodes["/scalar"]["shape"] == []
    top = firn("ls", golden).split()
    assert "/deep" in top and "/deep/er" not in top
    assert firn("ls", golden, "deep").split() == ["/deep/er"] == firn("ls", golden, "/deep/").split()
    assert firn("ls", golden, "/native").split() == ["/native"]
    assert "40x20" in firn("ls", "-l", golden)
    assert "/deep/er/inline" in firn("ls", "-R", golden, "-b", "v1") and "/deep/er/inline" not in nodes
    firn.refuses("ls", golden, "/nope", saying="/nope")
    firn.refuses("ls", golden, "-b", "nope", saying="nope")


def test_cat(firn, golden):
    doc = json.loads(firn("cat", golden, "native/zarr.json"))
    assert doc["shape"] == [40, 20] and doc == firn.json("cat", golden, "/native/zarr.json")
    where = firn.json("cat", golden, "/native/c/0/0")
    chunk = subprocess.run([BIN / "firn", "cat", golden, "/native/c/0/0"], stdout=subprocess.PIPE, env=firn.env, check=True).stdout
    assert where["ref"] == "native" and len(chunk) == where["length"]
    stored = (golden / "chunks" / where["id"]).read_bytes()
    assert chunk == stored[where["offset"]:where["offset"] + where["length"]]
    assert firn.json("cat", golden, "/g/b/c/1")["ref"] == "inline"
    assert firn.json("cat", golden, "scalar/c")["length"] > 0
    for path in "native", "native/c/0", "native/c/0/00", "native/c/9/9", "native/c/99/0", "nope/zarr.json", "never_written/c/0/0/0":
        firn.refuses("cat", golden, path)


def test_cat__virtual_only_where_allowed(firn, tmp_path):
    import icechunk
    import zarr
    data = tmp_path / "data"
    data.mkdir()
    (data / "f.bin").write_bytes(bytes(range(100)))
    where = f"file://{data}/"
    config = icechunk.RepositoryConfig.default()
    config.set_virtual_chunk_container(icechunk.VirtualChunkContainer(where, icechunk.local_filesystem_store(str(data))))
    r = icechunk.Repository.create(icechunk.local_filesystem_storage(str(tmp_path / "r")), config)
    s = r.writable_session("main")
    zarr.create_array(s.store, name="a", shape=(100,), chunks=(50,), dtype="u1", compressors=None)
    s.store.set_virtual_ref("a/c/1", f"{where}f.bin", offset=30, length=50, validate_container=True)
    s.commit("virtual")
    at = ("cat", tmp_path / "r", "a/c/1")
    assert firn.json(*at) == {"ref": "virtual", "length": 50, "offset": 30, "location": f"{where}f.bin"}
    assert firn(*at, "--virtual", where).encode() == bytes(range(30, 80)) == firn(*at, "--virtual", where[:-1]).encode()
    firn.refuses(*at, saying=["authorise it with --virtual", "f.bin"])
    for prefix in where[:-2], "file:///other/":
        p = firn.refuses(*at, "--virtual", prefix, saying=["outside every --virtual given", "f.bin"])
        assert "authorise it" not in p.stderr
    (data / "f.bin").unlink()
    firn.refuses(*at, "--virtual", where, saying="f.bin")


@pytest.mark.parametrize("name", ["v1", "v2-split"])
def test_other_formats(firn, tmp_path, name):
    shutil.copytree(GOLDEN / name / "repo", tmp_path / "g")
    assert firn.json("log", tmp_path / "g")[-1]["parent"] is None
    assert "/native" in firn("ls", tmp_path / "g") and firn("cat", tmp_path / "g", "native/zarr.json")
    if name == "v1":
        firn.refuses("branch", "create", tmp_path / "g", "x", saying="format 1")


def test_show_and_log(firn, golden):
    log = firn.json("log", golden)
    assert [e["message"] for e in log][-1] == "Repository initialized" and log[0]["branches"] == ["main"]
    text = firn("log", golden)
    assert [line.split()[0] for line in text.splitlines()] == [e["id"] for e in log]
    assert firn("log", golden, "-n", "1").count("\n") == 1
    assert firn.json("log", golden, "-b", "v1")[0]["tags"] == ["v1"]
    for ref in log[1]["id"], log[1]["id"][:6], "main~1", f"snapshot:{log[1]['id']}":
        shown = firn.json("show", golden, ref)
        assert shown["id"] == log[1]["id"] and shown["parent"] == log[2]["id"] and shown["message"] == log[1]["message"]
    assert shown["arrays"] + shown["groups"] == len(firn.json("ls", golden, "-R", "-b", "main~1")) + 1
    assert log[1]["message"] in firn("show", golden, "main~1")


def test_diff_of_snapshots(firn, golden):
    diff = {e["path"]: e for e in firn.json("diff", golden, "v1", "main")}
    assert diff["/g/b"]["change"] == "added" and len(diff["/g/b"]["chunks"]) == 2000
    assert diff["/deep/er/inline"]["change"] == "deleted"
    assert len(firn("diff", golden, "v1", "main").splitlines()) < 100
    assert len(firn("diff", golden, "v1", "main", "--chunks").splitlines()) > 2000
    firn.refuses("diff", golden, "main", "v1", saying="ancestor")


def test_branches_tags_reset(firn, golden):
    main = firn.json("show", golden)["id"]
    v1 = firn.json("show", golden, "v1")["id"]
    assert firn.snapshot("branch", "create", golden, "dev2") == main
    assert firn.snapshot("branch", "create", golden, "old", "v1") == v1
    assert firn.snapshot("tag", "create", golden, "v2", "main~1") == firn.json("show", golden, "main~1")["id"]
    assert {b["name"] for b in firn.json("branch", "list", golden)} >= {"main", "dev2", "old"}
    assert f"{v1}  old" in firn("branch", "list", golden)
    firn.refuses("branch", "create", golden, "dev2", saying="dev2")
    firn.refuses("branch", "create", golden, "bad//name")
    firn.refuses("reset", golden, "dev2", "v1", "--expect", "v1", code=3)
    assert firn.snapshot("reset", golden, "dev2", "v1", "--expect", "main") == v1
    assert firn.snapshot("branch", "delete", golden, "dev2") == v1
    firn.refuses("branch", "delete", golden, "dev2", saying="dev2")
    firn.refuses("branch", "delete", golden, "main", saying="main")


def test_not_utf8_path(firn, golden, tmp_path):
    odd = os.fsencode(tmp_path) + b"/r\xff, \\"
    os.rename(golden, odd)
    p = subprocess.run([BIN / "firn", "log", odd, "-n", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       env=firn.env | {"LC_ALL": "C"})
    assert p.returncode in (0, 1) and p.stdout + p.stderr


# ---- mounts ----

def test_mount_umount__json(firn, repo, tmp_path):
    at = tmp_path / "at, with comma"
    at.mkdir()
    state = tmp_path / "state, too"
    session = firn.json("mount", repo, at, "--state-dir", state, "--name", "data")
    assert ID.match(session["id"]) and session["branch"] == "main" and os.listdir(at) == ["data"]
    assert session["id"] in firn("sessions", "--state-dir", state)
    put_array(at / "data", "a", (4,), (1,))
    p = firn.run("umount", at)
    assert p.returncode == 0 and not p.stdout and f"--resume {session['id']}" in p.stderr and "--state-dir" in p.stderr
    again = firn.json("mount", "--resume", session["id"][:8], at, "--state-dir", state, "--name", "data")
    assert again["id"] == session["id"] and (at / "data/a/zarr.json").exists()
    ended = firn.json("umount", at, "--discard")
    assert ended["session"] == session["id"] and not ended["resumable"]
    assert not list(state.iterdir())


def test_umount__open_writer__refused_and_goes_on(array, tmp_path):
    with open(array.main / "a/c/1", "wb") as f:
        f.write(b"y")
        array.firn.refuses("umount", array, "--export", tmp_path / "j", saying=["a/c/1", str(os.getpid())])
        assert not (tmp_path / "j").exists()
    put(array.main, "a/c/2", b"z")
    array.umount("--export", tmp_path / "j")
    assert array.firn.json("journal", "show", tmp_path / "j")


def test_umount__in_use__refused_and_goes_on(array):
    put(array.main, "a/c/1", b"y")
    with subprocess.Popen(["sleep", "100"], cwd=array.main) as p:
        array.firn.refuses("umount", array, "--discard", saying=str(array.path))
        p.kill()
    array.umount()
    # The refused --discard is forgotten.
    assert array.firn.json("sessions")["sessions"]


def test_umount__driver_gone__detaches(firn, repo, mounts):
    m = repo.mount()
    put_array(m.main, "a", (4,), (1,))
    os.kill(m.pid, signal.SIGKILL)
    m._reap()
    firn.refuses("status", m, saying=["driver is gone", "umount"])
    p = firn.run("umount", m)
    assert p.returncode == 0 and "sessions" in p.stderr, p.stderr
    assert not os.path.ismount(m.path)
    m.gone = True
    id = firn.json("sessions")["sessions"][0]["id"]
    assert "new" in firn("journal", "show", id)
    assert firn.json("discard", id)["discarded"] == id
    assert not firn.json("sessions")["sessions"]


def test_mount_left_out_inside_it(array):
    firn = array.firn
    put(array.main, "a/c/1", b"y")
    inside = array.main / "a"
    assert firn("status", cwd=inside) == firn("status", array) == array.control("status")
    assert firn("diff", cwd=inside) == array.control("diff")
    assert firn("log", cwd=inside) == firn("log", array)
    assert firn("ls", "-R", cwd=array.path).split() == ["/a"]
    assert firn("ls", inside).split() == ["/a"] == firn("ls", array, "a").split()
    assert firn("cat", inside / "c/0") == "x" == firn("cat", "a/c/0", cwd=array.path)
    assert firn("tag", "create", "t1", cwd=inside).strip() == array.session()["base"]
    assert firn("show", "t1", cwd=inside) == firn("show", array)
    id = firn("commit", "-m", "from inside", cwd=inside).strip()
    assert array.session()["base"] == id
    assert json.loads(firn("fork", cwd=inside))["base"] == id


# ---- commits ----

def test_commit__json_and_metadata(array):
    put(array.main, "a/c/1", b"y")
    before = array.session()["base"]
    result = array.firn.json("commit", array, "-m", "line 1\nline 2", "--metadata", "n=1.5", "--metadata", "list=[1, {}]",
                             "--metadata", "text=a=b", "--metadata", "not=[json")
    assert result["parent"] == before and result["branch"] == "main" and result["chunks"] == 1
    shown = array.firn.json("show", array)
    assert shown["id"] == result["snapshot"] == array.session()["base"] and shown["message"] == "line 1\nline 2"
    assert {k: shown["metadata"][k] for k in ("n", "list", "text", "not")} == {"n": 1.5, "list": [1, {}], "text": "a=b", "not": "[json"}


def test_commit__two_live_mounts_move_both(repo, array, mounts):
    other = mounts.enter_context(repo.mount())
    put(array.main, "a/c/1", b"1")
    put(other.main, "a/c/2", b"2" * 5000)
    id = repo.firn.snapshot("commit", array, other, "-m", "both")
    assert array.session()["base"] == other.session()["base"] == id
    assert_same(read_tree(array.main), read_tree(other.main))
    assert_committed(repo, array.main)


def test_commit__conflict__both_mounts_go_on(repo, array, mounts):
    other = mounts.enter_context(repo.mount())
    put(array.main, "a/c/1", b"1")
    put(other.main, "a/c/1", b"2")
    for _ in range(3):
        p = repo.firn.run("commit", array, other, "-m", "both", "--json")
        assert p.returncode == 3
        [conflict] = json.loads(p.stdout)["conflicts"]
        assert conflict["path"] == "/a" and conflict["coords"] == [1] and conflict["kind"] == "chunk"
        assert {conflict["first"], conflict["second"]} == {str(array), str(other)}
        p = repo.firn.run("commit", array, other, "-m", "both")
        assert p.returncode == 3 and not p.stdout and "/a c/1" in p.stderr
    put(other.main, "a/c/2", b"goes on")
    repo.firn.snapshot("commit", array, other, "-m", "settled", "--favor", "last")
    assert (array.main / "a/c/1").read_bytes() == b"2" and (array.main / "a/c/2").read_bytes() == b"goes on"
    assert_committed(repo, array.main)


def test_commit__one_source_twice__refused(array):
    put(array.main, "a/c/1", b"1")
    for again in array.main, array.path / ".firn/journal", array.session()["id"]:
        array.firn.refuses("commit", array, again, "-m", "m", code=3, saying="twice")
    array.commit()


def test_commit__by_session_id_means_its_mount(array):
    put(array.main, "a/c/1", b"1")
    id = array.firn.snapshot("commit", array.session()["id"][:10], "-m", "m")
    assert array.session()["base"] == id


def test_commit__dead_session__its_directory_goes(firn, repo, array):
    put(array.main, "a/c/1", b"1")
    id = array.session()["id"]
    array.kill()
    assert "c/1" in firn("diff", id)
    firn.snapshot("commit", id, "-m", "afterwards")
    assert not firn.json("sessions")["sessions"]
    assert firn("cat", repo, "a/c/1") == "1"
    firn.refuses("commit", id, "-m", "again", saying=id)


def test_commit__pending_and_scratch_are_named(array):
    put(array.main, "nowhere/c/0", b"pending")
    put(array.main, "a/notes.txt", b"scratch")
    put(array.main, "a/c/3", b"3")
    p = array.firn.run("commit", array, "-m", "m")
    assert p.returncode == 1 and "nowhere/c/0" in p.stderr and "notes.txt" in p.stderr
    p = array.firn.run("commit", array, "-m", "m", "--force")
    assert p.returncode == 0 and ID.match(p.stdout.strip()) and "notes.txt" in p.stderr


def test_commit__fork_published(firn, repo, array, tmp_path):
    token = tmp_path / "fork.json"
    firn("fork", array, "-o", token)
    fork = json.loads(token.read_text())["fork"]
    assert firn.json("fork", array)["fork"] != fork
    for i in 1, 2:
        with repo.worker(token) as w:
            put(w.main, f"a/c/{i}", bytes([i]))
            firn.refuses("commit", w, "-m", "alone", saying="fork")
            w.umount()
        [published] = firn.json("sessions", repo)["published"]
        assert published["fork"] == fork and len(published["sessions"]) == i
    p = firn.refuses("commit", array, "--fork", token, "--expect", "5", "-m", "m", saying=["2 of 5", "3 missing"])
    assert all(s in p.stderr for s in published["sessions"])
    firn.refuses("commit", array, "--fork", "0" * 20, "-m", "m", saying="no worker has published")
    id = firn.snapshot("commit", "--fork", token, "--expect", "2", "-m", "workers only")
    assert firn.json("log", repo)[0]["id"] == id and firn("cat", repo, "a/c/2") == "\x02"
    assert not firn.json("sessions", repo)["published"]


def test_merge_and_export(firn, repo, array, tmp_path):
    firn("fork", array, "-o", tmp_path / "t")
    for name in "one", "two":
        with repo.worker(tmp_path / "t") as w:
            put(w.main, f"a/c/{len(name) + ord(name[0]) % 10}", name.encode() * 300)
            firn("journal", "export", w, "-o", tmp_path / f"{name}.journal")
            w.umount("--discard")
    out = tmp_path / "out.journal"
    assert firn.json("merge", "-o", out, tmp_path / "one.journal", tmp_path / "two.journal")["sessions"] == 2
    assert len(firn.json("journal", "show", out)) == 2
    assert firn.json("journal", "verify", out) == {"ok": True, "chunks_checked": 2, "problems": []}
    firn.snapshot("commit", array, out, "-m", "merged")
    assert_committed(repo, array.main)


def test_journal_without_its_end__refused_until_exported(firn, repo, array, tmp_path):
    put(array.main, "a/c/1", b"1")
    put(array.main, "a/c/2", b"2")
    id = array.session()["id"]
    array.kill()
    raw = next(firn.state.rglob("journal"))
    shutil.copy(raw, tmp_path / "raw.journal")
    firn.refuses("commit", tmp_path / "raw.journal", "-m", "m", saying=["raw.journal", "export"])
    firn.refuses("merge", "-o", tmp_path / "out", tmp_path / "raw.journal", saying="raw.journal")
    firn.refuses("journal", "verify", tmp_path / "raw.journal", saying="raw.journal")
    firn("journal", "export", tmp_path / "raw.journal", "-o", tmp_path / "whole.journal")
    firn.snapshot("commit", tmp_path / "whole.journal", "-m", "m")
    assert firn("cat", repo, "a/c/2") == "2"
    firn("discard", id)


# ---- run ----

def mounts_of(repo):
    return [line for line in open("/proc/mounts") if str(repo.path) in line]


def test_run__path_and_commit(firn, repo, tmp_path):
    (tmp_path / "doc").write_bytes(group_json())
    id = firn.snapshot("run", repo, "-m", "m", "--", "sh", "-c", 'test "$FIRN_MOUNT" = "$0" && cp "$1" "$0/zarr.json"', "{}", tmp_path / "doc")
    assert firn.json("show", repo)["id"] == id
    assert not mounts_of(repo) and not firn.json("sessions")["sessions"]


def test_run__command_fails__its_code_and_work_is_kept(firn, repo, tmp_path):
    (tmp_path / "doc").write_bytes(group_json())
    p = firn.run("run", repo, "-m", "m", "--", "sh", "-c", f"cp {tmp_path}/doc {{}}/zarr.json; exit 42")
    assert p.returncode == 42 and not p.stdout and "--resume" in p.stderr
    assert len(firn.json("log", repo)) == 1 and not mounts_of(repo)
    [session] = firn.json("sessions")["sessions"]
    assert not session["live"] and session["id"] in p.stderr
    assert firn.run("run", repo, "-m", "m", "--", "/no/such/program").returncode == 127
    assert firn.run("run", repo, "-m", "m", "--", "sh", "-c", "kill -9 $$").returncode == 137
    assert len(firn.json("sessions")["sessions"]) == 1


def test_run__terminated__passed_on_and_unmounted(firn, repo):
    p = subprocess.Popen([BIN / "firn", "run", repo, "-m", "m", "--", "sh", "-c", "echo up; exec sleep 100"],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=firn.env, text=True)
    assert p.stdout.readline() == "up\n"
    p.terminate()
    p.communicate(timeout=60)
    assert p.returncode == 128 + signal.SIGTERM and not mounts_of(repo)


# ---- progress ----

def test_no_bar_without_a_terminal(array):
    put(array.main, "a/c/1", b"1")
    p = array.firn.run("commit", array, "-m", "m")
    assert p.returncode == 0 and not p.stderr


# ---- doctor ----

def test_doctor(firn, repo, tmp_path):
    report = firn.json("doctor", repo)
    assert report["ok"] and {c["check"] for c in report["checks"]} >= {"/dev/fuse", "driver", "conditional writes", "free space"}
    says = {c["check"]: c["detail"] for c in report["checks"]}
    assert says["passthrough"].startswith("no (") != PASSTHROUGH, says      # what the driver does
    assert not [p for p in (repo.path / "firn").rglob("probe*")]
    assert firn.run("doctor", tmp_path / "nowhere").returncode == 1
    (tmp_path / "file").write_text("")
    p = firn.run("doctor", "--state-dir", tmp_path / "file" / "below")
    assert p.returncode == 1 and "--state-dir" in p.stdout
    p = subprocess.run([BIN / "firn", "doctor", "--json"], env=firn.env | {"FIRNFS": "/no/driver"}, stdout=subprocess.PIPE)
    assert p.returncode == 1 and not json.loads(p.stdout)["ok"]


def test_no_driver__mount_says_where_it_is_looked_for(firn, repo, tmp_path):
    (tmp_path / "at").mkdir()
    p = subprocess.run([BIN / "firn", "mount", repo, tmp_path / "at"], env=firn.env | {"FIRNFS": "/no/driver"},
                       stderr=subprocess.PIPE, text=True)
    assert p.returncode == 1 and "/no/driver" in p.stderr
