"""firn fsck: nothing is found in sound repositories, and every kind of damage by its name."""
import json
import pathlib
import shutil
import time

import icechunk as ic
import pytest
import zarr

import damage
from conftest import GOLDEN, put, put_array

REPOS = {"tiny-v1": GOLDEN / "tiny-v1", "tiny-v2": GOLDEN / "tiny-v2", "v1": GOLDEN / "v1/repo",
         "v2": GOLDEN / "v2/repo", "v2-split": GOLDEN / "v2-split/repo"}


@pytest.fixture(params=["v1", "v2"])
def both(request, tmp_path):
    """A copy of a repository of each format."""
    shutil.copytree(REPOS[request.param], tmp_path / "repo")
    return tmp_path / "repo"


@pytest.fixture
def golden(tmp_path):
    shutil.copytree(REPOS["v2"], tmp_path / "repo")
    return tmp_path / "repo"


def findings(firn, repo, *args):
    """What is found, as {(kind, object, path): what}; as text and as JSON, which must agree."""
    found = firn.json("fsck", *args, repo, code=1)
    assert found["clean"] is False and found["damages"] >= 1 and found["omitted"] == 0
    text = firn("fsck", *args, repo, code=1).splitlines()
    assert len(text) == len(found["findings"]) + 1 and text[-1].endswith("found")
    for line, f in zip(text, found["findings"]):
        where = f" ({f['path']})" if f["path"] else ""
        assert line == f"{f['kind']}: {f['object']}{where}: {f['what']}; {f['remedy']}", line
    return {(f["kind"], f["object"], f["path"]): f["what"] for f in found["findings"]}


def tip(repo, branch="main"):
    ref = repo / f"refs/branch.{branch}/ref.json"
    if ref.exists():
        return json.loads(ref.read_text())["snapshot"]
    return ic.Repository.open(ic.local_filesystem_storage(str(repo))).lookup_branch(branch)


def manifest_of(repo, path, branch="main"):
    """The only manifest of an array."""
    _, _, tables = damage.parts(repo / "snapshots" / tip(repo, branch))
    [node] = [n for n in tables["nodes"] if n["path"] == path]
    [ref] = node["node_data"][1]["manifests"]
    return damage.icedump.b32enc(ref["object_id"])


def restate(repo, name, branch="main"):
    """Let the snapshots say the size a changed manifest has now."""
    size = (repo / "manifests" / name).stat().st_size
    for path in (repo / "snapshots").iterdir():
        def change(tables):
            for f in tables.get("manifest_files_v2", []):
                if f["id"] == damage.ident(name):
                    f["size_bytes"] = size
        damage.edit(path, change)


# ---- sound repositories ----

@pytest.mark.sanitize
@pytest.mark.parametrize("name", REPOS)
def test_sound__exit_code_0(firn, name, tmp_path):
    shutil.copytree(REPOS[name], tmp_path / "repo")
    before = {p: p.read_bytes() for p in (tmp_path / "repo").rglob("*") if p.is_file()}
    for args in ([], ["--deep"], ["--deep", "--repair"]):
        out = firn("fsck", *args, tmp_path / "repo")
        assert len(out.splitlines()) == 1 and out.endswith(": no damage found\n"), out
    assert {p: p.read_bytes() for p in (tmp_path / "repo").rglob("*") if p.is_file()} == before
    found = firn.json("fsck", "--deep", tmp_path / "repo")
    assert found["clean"] and found["findings"] == [] and found["references"] > 0
    assert found["chunk_objects"] == len(list((tmp_path / "repo/chunks").iterdir()))


def test_sound__upgraded_expired_and_shrunk_by_the_official_library(firn, tmp_path):
    shutil.copytree(REPOS["v1"], tmp_path / "repo")
    storage = ic.local_filesystem_storage(str(tmp_path / "repo"))
    repo = ic.Repository.open(storage)
    ic.upgrade_icechunk_repository(repo, dry_run=False, delete_unused_v1_files=True)
    assert firn.json("fsck", "--deep", tmp_path / "repo")["clean"]
    repo = ic.Repository.open(storage)
    s = repo.writable_session("main")
    zarr.open_group(s.store)["native"].resize((10, 20))
    s.commit("shrunk")
    s = repo.writable_session("main")
    zarr.open_group(s.store)["native"].resize((50, 20))
    s.amend("grown again")
    assert firn.json("fsck", "--deep", tmp_path / "repo")["clean"]
    last = next(iter(repo.ancestry(branch="main")))
    repo.expire_snapshots(older_than=last.written_at)
    assert firn.json("fsck", "--deep", tmp_path / "repo")["clean"]
    repo.garbage_collect(delete_object_older_than=last.written_at)
    assert firn.json("fsck", "--deep", tmp_path / "repo")["clean"]


def test_sound__what_firn_wrote_and_a_mount_of_it(firn, repo, mount):
    assert firn.json("fsck", repo)["snapshots"] == 1
    put_array(mount.main, "g/a", (40, 40), (4, 4))
    for i in range(10):
        put(mount.main, f"g/a/c/{i}/{i}", bytes([i]) * 600)
    mount.commit("a")
    put_array(mount.main, "g/a", (20, 20), (4, 4))
    mount.commit("shrunk")
    shutil.rmtree(mount.main / "g")
    mount.commit("deleted", "--amend")
    for target in repo, mount, mount.main:
        found = firn.json("fsck", "--deep", target)
        assert found["clean"] and found["snapshots"] == 4, found   # the amended one stays listed


def test_no_repository__says_so(firn, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in "none", "empty":
        firn.refuses("fsck", tmp_path / name, saying=name)
    assert firn.json("fsck", tmp_path / "empty", code=1)["code"] == "not-found"


# ---- objects that cannot be read ----

@pytest.mark.sanitize
@pytest.mark.parametrize("kind", ["snapshots", "manifests", "transactions"])
def test_object_cut_flipped_missing__named(firn, both, kind):
    paths = [p for p in sorted((both / kind).iterdir()) if p.name != damage.icedump.INITIAL_SNAPSHOT]
    for path in paths[:3]:
        data, key = path.read_bytes(), f"{kind}/{path.name}"
        for how, word in (damage.cut, "damaged"), (pathlib.Path.unlink, "missing"):
            how(path)
            mine = [k for k in findings(firn, both) if k[1] == key]
            assert word in [k[0] for k in mine] and all(k[2] for k in mine), (how, mine)
            path.write_bytes(data)
        # The format has no checksums: a bit of a chunk's bytes or of a text cannot be told.
        damage.flip(path)
        p = firn.run("fsck", "--deep", "--json", both)
        found = json.loads(p.stdout)
        assert p.returncode == (0 if found["clean"] else 1) and not p.stderr
        path.write_bytes(data)
    assert firn.json("fsck", "--deep", both)["clean"]


@pytest.mark.parametrize("at", [0, 36, 37, 38, 39, 60])
def test_object_with_a_wrong_byte_in_its_header_or_frame__named(firn, golden, at):
    name = manifest_of(golden, "/native")
    path = golden / "manifests" / name
    data = bytearray(path.read_bytes())
    data[at] ^= 0x7f
    path.write_bytes(data)
    assert any(k[1:] == (f"manifests/{name}", "/native") for k in findings(firn, golden))


@pytest.mark.parametrize("kind", ["snapshots", "manifests", "transactions"])
def test_objects_swapped__named(firn, both, kind):
    a, b = sorted(p for p in (both / kind).iterdir() if p.name != damage.icedump.INITIAL_SNAPSHOT)[:2]
    damage.swap(a, b)
    found = findings(firn, both)
    assert {("mismatch", f"{kind}/{a.name}"), ("mismatch", f"{kind}/{b.name}")} <= {k[:2] for k in found}
    assert any("than its name says" in what for what in found.values())


def test_object_of_another_kind_or_unreadable__named(firn, golden):
    name = manifest_of(golden, "/native")
    path = golden / "manifests" / name
    shutil.copy(golden / "snapshots" / tip(golden), path)
    what = findings(firn, golden)["damaged", f"manifests/{name}", "/native"]
    assert "is a snapshot where a manifest was expected" in what
    path.unlink()
    path.symlink_to(path.name)
    assert ("unreadable", f"manifests/{name}", "/native") in findings(firn, golden)


def test_repo__cut_or_gone__names_the_backup(firn, golden):
    backups = sorted(p.name for p in (golden / "overwritten").iterdir())
    data = (golden / "repo").read_bytes()
    for how, word in (damage.cut, "damaged"), (pathlib.Path.unlink, "missing"):
        how(golden / "repo")
        found = firn.json("fsck", golden, code=1)["findings"]
        assert [(f["kind"], f["object"]) for f in found] == [(word, "repo")]
        assert f"overwritten/{backups[0]}" in found[0]["remedy"]
    # The newest backup cannot be read either.
    damage.cut(golden / "overwritten" / backups[0])
    [f] = firn.json("fsck", golden, code=1)["findings"]
    assert f"overwritten/{backups[1]}" in f["remedy"]
    # The way out is one.
    shutil.copy(golden / "overwritten" / backups[1], golden / "repo")
    assert firn.json("fsck", "--deep", golden)["clean"]
    (golden / "repo").write_bytes(data)
    assert firn.json("fsck", "--deep", golden)["clean"]


def test_v1_refs__named(firn, tmp_path):
    shutil.copytree(REPOS["v1"], tmp_path / "repo")
    ref = tmp_path / "repo/refs/branch.dev/ref.json"
    ref.write_text('{"snapshot":"nope"}')
    assert ("damaged", "refs/branch.dev/ref.json", "branch dev") in findings(firn, tmp_path / "repo")
    ref.write_text('{"snapshot":"AAAAAAAAAAAAAAAAAAAG"}')
    assert ("missing", "snapshots/AAAAAAAAAAAAAAAAAAAG", "branch dev") in findings(firn, tmp_path / "repo")


# ---- chunks ----

def test_chunk_missing_or_short__found_by_deep(firn, both):
    chunk = sorted((both / "chunks").iterdir())[0]
    data = chunk.read_bytes()
    chunk.write_bytes(data[:-1])
    assert firn.json("fsck", both)["clean"]
    found = findings(firn, both, "--deep")
    assert {(k[0], k[1]) for k in found} == {("damaged", f"chunks/{chunk.name}")}
    assert all("/c/" in k[2] and f"has {len(data) - 1} bytes" in found[k] for k in found)
    chunk.unlink()
    assert {k[:2] for k in findings(firn, both, "--deep")} == {("missing", f"chunks/{chunk.name}")}


def test_all_chunks_missing__summed_up(firn, repo, mount):
    put_array(mount.main, "a", (100,), (1,))
    for i in range(100):
        put(mount.main, f"a/c/{i}", b"x" * 600)
    mount.commit("a")
    (repo.path / "chunks").rename(repo.path / "away")
    found = findings(firn, repo, "--deep")
    assert len(found) == 21 and any("80 more chunk objects" in what for what in found.values())
    (repo.path / "away").rename(repo.path / "chunks")


# ---- manifests ----

@pytest.mark.sanitize
def test_manifest__unsorted_outside_empty_or_bad_locations(firn, golden):
    name = manifest_of(golden, "/native")
    path = golden / "manifests" / name
    data, key = path.read_bytes(), ("range", f"manifests/{name}", "/native")

    def refs(tables):
        return tables["arrays"][0]["refs"]

    def unsorted(tables):
        r = refs(tables)
        r[0], r[1] = r[1], r[0]

    def outside(tables):
        refs(tables)[-1]["index"] = [999, 0]

    def empty(tables):
        refs(tables)[0]["length"] = 0

    def virtual(location):
        def change(tables):
            r = refs(tables)[0]
            del r["chunk_id"]
            r["location"] = location
        return change

    for change, kind, words in [
            (unsorted, "damaged", "out of order"), (outside, "range", "outside the array's grid, the first is c/999/0"),
            (empty, "range", "the length 0, the first is c/0/0"),
            (virtual("no url"), "range", '"no url" is no URL'),
            (virtual("/etc/passwd"), "range", "is no URL"),
            (virtual("file:///data/../etc/passwd"), "range", '".." in its path'),
            (virtual("file:///data/%2e%2e/etc/passwd"), "range", '".." in its path'),
            (virtual("vcc://nobody/x"), "range", "no container of that name")]:
        damage.edit(path, change)
        restate(golden, name)
        assert words in findings(firn, golden)[(kind, *key[1:])], change
        path.write_bytes(data)
    damage.edit(path, virtual("s3://bucket/key"))
    restate(golden, name)
    assert firn.json("fsck", golden)["clean"]


def test_manifest__count_size_node_rank_and_extents(firn, golden):
    name = manifest_of(golden, "/native")
    path, snapshot = golden / "manifests" / name, golden / "snapshots" / tip(golden)
    whole = {p: p.read_bytes() for p in golden.rglob("*") if p.is_file()}
    key = ("mismatch", f"manifests/{name}", "/native")

    def check(words, key=key):
        found = findings(firn, golden)
        assert words in found.get(key, ""), found
        for p, data in whole.items():
            p.write_bytes(data)

    damage.edit(path, lambda t: t["arrays"][0]["refs"].pop())
    restate(golden, name)
    check("references, and the snapshot says")
    path.write_bytes(whole[path] + b"")
    damage.edit(path, lambda t: None)       # of another compressor: another size
    check("bytes, and the snapshot says")

    def another_node(t):
        t["arrays"][0]["node_id"] = b"nobody!!"
    damage.edit(path, another_node)
    restate(golden, name)
    check("it has no references of this array")

    def another_rank(t):
        for i, r in enumerate(t["arrays"][0]["refs"]):
            r["index"] = [i]
    damage.edit(path, another_rank)
    restate(golden, name)
    check("have 1 dimensions, and the array has 2")

    def narrow(t):
        for n in t["nodes"]:
            if n["path"] == "/native":
                n["node_data"][1]["manifests"][0]["extents"][0] = damage.extent(0, 1)
    damage.edit(snapshot, narrow)
    check("outside the extents", ("range", *key[1:]))


# ---- snapshots ----

@pytest.mark.sanitize
def test_snapshot__nodes(firn, golden):
    path = golden / "snapshots" / tip(golden)
    data, key = path.read_bytes(), f"snapshots/{path.name}"

    def at(tables, node):
        return next(n for n in tables["nodes"] if n["path"] == node)

    def unsorted(t):
        t["nodes"][0], t["nodes"][1] = t["nodes"][1], t["nodes"][0]

    def twice(t):
        t["nodes"][2]["id"] = t["nodes"][1]["id"]

    def below(t):
        at(t, "/never_written")["path"] = "/native/never_written"
        t["nodes"].sort(key=lambda n: n["path"])

    def no_json(t):
        at(t, "/native")["user_data"] = b"{"

    def a_group(t):
        at(t, "/native")["user_data"] = at(t, "/")["user_data"]

    def another_shape(t):
        at(t, "/native")["node_data"][1]["shape_v2"][0]["num_chunks"] = 77

    def unlisted(t):
        mine = at(t, "/native")["node_data"][1]["manifests"][0]["object_id"]
        t["manifest_files_v2"] = [f for f in t["manifest_files_v2"] if f["id"] != mine]

    def overlapping(t):
        refs = at(t, "/native")["node_data"][1]["manifests"]
        refs.append(refs[0])

    def no_extents(t):
        at(t, "/native")["node_data"][1]["manifests"][0]["extents"][0] = damage.extent(3, 3)

    def another_message(t):
        t["message"] = "changed"

    def another_time(t):
        t["flushed_at"] += 1

    for change, kind, where, words in [
            (unsorted, "damaged", "branch main", "out of order"), (twice, "mismatch", None, "another node has the same id"),
            (below, "mismatch", "/native/never_written", "it lies below the array /native"),
            (no_json, "mismatch", "/native", "its zarr.json"), (a_group, "mismatch", "/native", "is that of a group"),
            (another_shape, "mismatch", "/native", "is not the snapshot's"),
            (unlisted, "mismatch", "/native", "not among the snapshot's manifests"),
            (overlapping, "mismatch", "/native", "two of its manifests hold the same chunks"),
            (no_extents, "mismatch", "/native", "are empty"),
            (another_message, "mismatch", "branch main", "its message is not the one in repo"),
            (another_time, "mismatch", "branch main", "its time is not the one in repo")]:
        damage.edit(path, change)
        found = [(k, what) for k, what in findings(firn, golden).items() if k[:2] == (kind, key)]
        assert any(words in what and where in (None, k[2]) for k, what in found), (change, found)
        path.write_bytes(data)


# ---- the repo object and the logs ----

def test_repo_object__times_main_and_operations(firn, golden):
    path = golden / "repo"
    data = path.read_bytes()

    def older(t):
        for s in t["snapshots"]:
            if s["message"] == "second: resize, delete, attributes":
                s["flushed_at"] = 1

    def no_main(t):
        t["branches"] = [b for b in t["branches"] if b["name"] != "main"]

    def unsorted(t):
        t["latest_updates"].reverse()

    for change, words in [(older, "not newer than its parent"), (no_main, "no branch main"),
                          (unsorted, "operations log is out of order")]:
        damage.edit(path, change)
        found = findings(firn, golden)
        assert any(words in what and k[1] == "repo" for k, what in found.items()), (change, found)
        path.write_bytes(data)


def test_log__unsorted_or_about_nodes_that_are_not_there(firn, golden):
    path = golden / "transactions" / tip(golden)
    data, key = path.read_bytes(), f"transactions/{path.name}"

    def unsorted(t):
        t["new_groups"] = [b"b" * 8, b"a" * 8]

    def new(t):
        t["new_arrays"] = [b"nobody!!"]

    def deleted(t):
        t["deleted_arrays"] = t["new_arrays"]
        t["new_arrays"] = []

    def chunks(t):
        t["updated_chunks"][0]["node_id"] = b"nobody!!"

    def rank(t):
        for c in t["updated_chunks"][0]["chunks"]:
            c["coords"] = [0, 0, 0]

    for change, kind, words in [(unsorted, "damaged", "out of order"), (new, "mismatch", "the snapshot has none"),
                                (deleted, "mismatch", "is deleted, but the snapshot has it"),
                                (chunks, "mismatch", "the snapshot has no such node"),
                                (rank, "mismatch", "of another rank")]:
        damage.edit(path, change)
        assert words in findings(firn, golden)[kind, key, "branch main"], change
        path.write_bytes(data)


# ---- leftovers ----

def test_leftovers__shown_when_old_and_removed_by_repair_only(firn, both):
    old = [both / "manifests/AAAA#0123456789ABC", both / "chunks/BBBB#1"]
    young = both / "snapshots/CCCC#0123456789ABC"
    for path in [*old, young]:
        path.write_bytes(b"half")
    for path in old:
        damage.age(path, 2)
    found = firn.json("fsck", both)
    assert found["clean"] and [f["object"] for f in found["findings"]] == ["chunks/BBBB#1", "manifests/AAAA#0123456789ABC"]
    assert all(f["severity"] == f["kind"] == "leftover" and not f["repaired"] for f in found["findings"])
    assert all(p.exists() for p in [*old, young])
    found = firn.json("fsck", "--repair", both)
    assert [f["repaired"] for f in found["findings"]] == [True, True]
    assert not any(p.exists() for p in old) and young.exists()
    young.unlink()
    assert firn("fsck", "--repair", both).count("\n") == 1


def test_backup_without_an_update__removed_by_repair_only_if_another_says_the_same(firn, golden):
    """Who is killed between backing `repo` up and replacing it leaves a name that no log has."""
    damage.age_backups(golden, 3)
    logged = sorted((golden / "overwritten").iterdir())
    middle = logged[len(logged) // 2]

    def left(like, ms, id="0" * 20):
        """A backup of `like`'s content, made `ms` before a logged one (they count down)."""
        path = golden / f"overwritten/repo.{int(middle.name[5:19]) + ms:014d}.{id}"
        shutil.copy2(like, path)
        return path

    assert firn.json("fsck", golden)["findings"] == []
    extra = [left(middle, 1), left(middle, 2), left(golden / "repo", int(logged[0].name[5:19]) - int(middle.name[5:19]) - 5)]
    of_its_own = left(logged[-1], 3)                   # not what the update that followed had found
    now = 32503680000000 - int(time.time() * 1000)
    young = golden / f"overwritten/repo.{now:014d}.{'1' * 20}"
    shutil.copy2(golden / "repo", young)
    other = golden / "overwritten/repo.mine"
    shutil.copy2(golden / "repo", other)
    found = firn.json("fsck", golden)
    assert found["clean"] and {f["object"] for f in found["findings"]} == {str(p.relative_to(golden)) for p in extra}
    assert all(p.exists() for p in extra)
    firn("fsck", "--repair", golden)
    assert not any(p.exists() for p in extra)
    assert all(p.exists() for p in [*logged, of_its_own, young, other])
    # The log goes on in a backup; where that is not there, nobody knows what it names.
    at = []

    def spill(t):
        at.append(t["latest_updates"][1]["backup_path"])
        t["repo_before_updates"] = at[0]
        t["latest_updates"] = t["latest_updates"][:1]

    damage.edit(golden / "repo", spill)
    again = left(middle, 1)
    assert [f["object"] for f in firn.json("fsck", golden)["findings"]] == [str(again.relative_to(golden))]
    (golden / "overwritten" / at[0]).unlink()
    assert firn.json("fsck", golden)["findings"] == []


def test_repair__leaves_damaged_objects_alone(firn, golden):
    for kind in "snapshots", "manifests", "transactions", "chunks":
        damage.cut(sorted((golden / kind).iterdir())[-1])
    before = {p: p.read_bytes() for p in golden.rglob("*") if p.is_file()}
    assert firn.json("fsck", "--deep", "--repair", golden, code=1)["damages"] >= 4
    assert {p: p.read_bytes() for p in golden.rglob("*") if p.is_file()} == before
