"""Every pair of kinds of changes: ours put on a branch that has theirs, and both merged as journals.

What must come out is worked out here from three trees of files, the base, ours and theirs, key by key:
what one side changed is in the result, and what both changed differently is a conflict; so is a result
that no repository can hold, or in which one side's chunks would be read with the other's geometry.
Nothing is mounted for a pair: the journals are made once, and a repository goes back to a state by
putting its `repo` object back.
"""
import json
import pathlib
import shutil
import tempfile

import pytest

from conftest import Firn, Repo, array_json, assert_same, group_json, read_tree, store_tree
from parties import DOC, apply, base_tree

SAME = group_json(same=1)


def kinds(side):
    """{kind: what one side does}; `side` makes its content differ from the other side's."""
    def doc(shape=(8,), chunks=(2,), **more):
        return array_json(shape, chunks, **more)

    def mine(shape=(8,), chunks=(2,)):
        return doc(shape, chunks, attributes={"by": side})
    text = side.encode()
    no_chunks = {f"a/c/{i}": None for i in range(4)}
    return {
        "chunk": [{"a/c/1": text}],
        "chunk_native": [{"a/c/1": text * 500}],
        "chunk_same": [{"a/c/1": b"same" * 200}],
        "chunk_of_our_own": [{"a/c/2" if side == "ours" else "a/c/3": text}],
        "chunk_erased": [{"a/c/1": None}],
        "document": [{"a/zarr.json": mine()}],
        "document_same": [{"a/zarr.json": doc(attributes={"same": 1})}],
        "grown": [{"a/zarr.json": doc((16,)), f"a/c/{4 if side == 'ours' else 5}": text}],
        "shrunk": [{"a/zarr.json": doc((2,))}],
        "shrunk_and_grown": [{"a/zarr.json": doc((2,))}, {"a/zarr.json": doc()}],
        "other_grid": [no_chunks | {"a/zarr.json": doc((8,), (4,))}, {"a/c/1": text}],
        "other_type": [no_chunks | {"a/zarr.json": doc(dtype="int16")}],
        "array_deleted": [{"a": None}],
        "array_again": [{"a": None}, {"a/zarr.json": DOC, f"a/c/{0 if side == 'ours' else 3}": text}],
        "array_again_other": [{"a": None}, {"a/zarr.json": mine((6,))}],
        "array_to_group": [{"a": None}, {"a/zarr.json": group_json()}],
        "chunk_below_group": [{"g/b/c/1": text}],
        "group_deleted": [{"g": None}],
        "group_again": [{"g": None}, {"g/zarr.json": SAME}],
        "group_document": [{"g/zarr.json": group_json(by=side)}],
        "node_in_group": [{"g/n/zarr.json": DOC, f"g/n/c/{0 if side == 'ours' else 1}": text}],
        "new_array": [{"n/zarr.json": DOC, "n/c/0": text}],
        "new_array_other": [{"n/zarr.json": mine()}],
        "new_group_with_array": [{"n/zarr.json": group_json(), "n/m/zarr.json": DOC, f"n/m/c/{0 if side == 'ours' else 1}": text}],
        "root_document": [{"zarr.json": group_json(by=side)}],
        "cleared": [{"a": None, "g": None, "zarr.json": None}, {"zarr.json": group_json(), "only/zarr.json": DOC}],
    }


KINDS = list(kinds(""))

# Refused although, key by key, there would be a result: the sides did different things to one node.
ON_ARRAY = set(KINDS[:KINDS.index("chunk_below_group")])
DELETED = {"array_deleted", "array_again", "array_again_other", "array_to_group", "cleared"}
RULES = {
    "changed by one; deleted, and perhaps made anew, by the other": (ON_ARRAY, DELETED),
    "chunks dropped by a shrink and growth; written by the other": (
        {"shrunk_and_grown"}, {"document", "document_same", "grown", "shrunk", "other_grid", "other_type"}),
    "made in a group that the other deleted and made anew": ({"node_in_group", "chunk_below_group"}, {"group_again"}),
    "the group itself": ({"group_deleted", "group_again", "group_document", "cleared"},) * 2,
    "the root's document, written as it was after clearing": ({"cleared"}, {"root_document"}),
    "erased by one, under another geometry by the other": ({"chunk_erased"}, {"other_grid", "other_type"}),
}


def may_refuse(a, b):
    return any(a in x and b in y or a in y and b in x for x, y in RULES.values())


# ---- what must come out ----

def nodes(tree):
    return {key[:-len("zarr.json")].rstrip("/"): json.loads(data) for key, data in tree.items()
            if key.rpartition("/")[2] == "zarr.json"}


def coordinates(key):
    return tuple(int(i) for i in key.rpartition("/c/")[2].split("/"))


def is_chunk(key):
    return key.rpartition("/")[2] != "zarr.json"


def geometry(document):
    return json.dumps([document.get(k) for k in ("chunk_grid", "data_type", "codecs")], sort_keys=True)


def places(key):
    """The paths of what a key belongs to: itself, and all above."""
    path = key.rpartition("/c/")[0] if is_chunk(key) else key[:-len("zarr.json")].rstrip("/")
    while path:
        yield "/" + path
        path = path.rpartition("/")[0]
    yield "/"


def merge3(base, ours, theirs, prefer=None, both_deleted=()):
    """The merged tree, and the keys that collide."""
    out, collisions = {}, set()
    base = {key: data for key, data in base.items() if not key.startswith(both_deleted)}
    for key in base.keys() | ours.keys() | theirs.keys():
        b, o, t = base.get(key), ours.get(key), theirs.get(key)
        value = t if o == b else o
        if o != b and t != b and o != t:
            if prefer is None or not is_chunk(key):
                collisions.add(key)
            value = t if prefer == "theirs" else o
        if value is not None:
            out[key] = value
    return out, collisions


def invalid(out, base, *sides):
    """Keys of a result that cannot be, or whose meaning would have changed."""
    bad, there = set(), nodes(out)
    for key in out:
        owner = key.rpartition("/c/")[0] if is_chunk(key) else None
        if owner is not None:
            document = there.get(owner)
            grid = document and document["node_type"] == "array" and document["chunk_grid"]["configuration"]["chunk_shape"]
            if not grid or any(i * c >= s for i, c, s in zip(coordinates(key), grid, document["shape"])):
                bad.add(key)
            for one, other in (sides, sides[::-1]):     # written by one side, and the other changed the geometry
                mine, now = nodes(one).get(owner), nodes(other).get(owner)
                if mine and now and one.get(key) not in (None, base.get(key)) and out[key] == one[key] and \
                        geometry(mine) != geometry(now) and out[f"{owner}/zarr.json"] == other[f"{owner}/zarr.json"]:
                    bad.add(key)
        path = owner if owner is not None else key[:-len("zarr.json")].rstrip("/")
        while path:
            path = path.rpartition("/")[0]
            if there.get(path, {}).get("node_type") != "group":
                bad.add(key)
                break
    return bad


# ---- journals, once ----

class World:
    def __init__(self, top):
        self.top = pathlib.Path(top)
        self.firn = Firn(self.top / "firn")
        self.firn("init", self.top / "repo")
        self.repo = Repo(self.firn, self.top / "repo", self.top / "mnt")
        with self.repo.mount() as m:
            base_tree(m.main)
            m.commit("base")
            self.base = read_tree(m.main)
        self.at_base = (self.repo.path / "repo").read_bytes()
        self.trees, self.journals = {}, {}
        for side in "ours", "theirs":
            with self.repo.mount() as m:
                for kind, steps in kinds(side).items():
                    for step in steps:
                        apply(m.main, step)
                    self.trees[side, kind] = read_tree(m.main)
                    self.journals[side, kind] = self.top / f"{side}.{kind}.journal"
                    shutil.copy(m.path / ".firn/journal", self.journals[side, kind])
                    self.firn("discard", m)
                    assert_same(read_tree(m.main), self.base, f"discarded {kind}")
        self.tips = {}

    def put_back(self, repo_object):
        (self.repo.path / "repo.back").write_bytes(repo_object)
        (self.repo.path / "repo.back").replace(self.repo.path / "repo")

    def theirs(self, kind):
        """The branch has what they did."""
        if kind not in self.tips:
            self.put_back(self.at_base)
            tip = self.firn.snapshot("commit", self.journals["theirs", kind], "-m", "theirs")
            self.tips[kind] = tip, (self.repo.path / "repo").read_bytes()
        self.put_back(self.tips[kind][1])
        return self.tips[kind][0]

    def commit(self, *args):
        p = self.firn.run("commit", *args, "-m", "m", "--json")     # nothing to commit: they did the same
        assert p.returncode in (0, 3, 4), (args, p.returncode, p.stdout, p.stderr)
        return json.loads(p.stdout).get("conflicts"), p

    def result(self):
        return store_tree(self.repo.store())


@pytest.fixture(scope="module")
def world():
    # In memory if possible: a thousand commits wait for a disk else.
    shm = "/dev/shm" if pathlib.Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=shm, prefix="firn-pairs-") as top:
        yield World(top)


def check_report(conflicts, text, collisions, names):
    """Each collision is in the report, at its place or above, with both parties."""
    for c in conflicts:
        assert {c["first"], c["second"]} == {str(n) for n in names}, c
        assert c["text"] in text
    listed = {(c["path"], tuple(c["coords"]) if c["coords"] is not None else None) for c in conflicts}
    for key in collisions:
        chunk = [(next(places(key)), coordinates(key))] if is_chunk(key) else []
        around = [(path, None) for path in places(key)]
        below = [x for x in listed if x[0].startswith(next(places(key)))]
        assert listed & {*chunk, *around} or below, (key, conflicts)


def judge(world, ours, theirs, conflicts, process, names, prefer=None):
    """Hold one outcome against what must come out; the conflicts."""
    trees = world.base, world.trees["ours", ours], world.trees["theirs", theirs]
    both = ("a/",) if {ours, theirs} <= DELETED else ()
    expected, collisions = merge3(*trees, prefer, both)
    lost = collisions | invalid(expected, *trees)
    if conflicts is None:
        assert not lost, f"committed, although these collide: {sorted(lost)}"
        assert_same(world.result(), expected, "result", ("committed", "expected"))
        return None
    assert conflicts and (lost or prefer or may_refuse(ours, theirs)), f"refused without need: {conflicts}"
    check_report(conflicts, process.stderr, lost, names)
    return conflicts


@pytest.mark.parametrize("theirs", KINDS)
@pytest.mark.parametrize("ours", KINDS)
def test_rebase(world, ours, theirs):
    tip = world.theirs(theirs)
    journal, names = world.journals["ours", ours], ("these changes", tip)
    before = (world.repo.path / "repo").read_bytes()
    conflicts, p = world.commit(journal, "--rebase")
    judge(world, ours, theirs, conflicts, p, names)
    if conflicts is None:
        return
    settled = {c["kind"] for c in conflicts} <= {"chunk", "chunk-deleted"}
    for policy in "ours", "theirs":
        assert (world.repo.path / "repo").read_bytes() == before, "refused, but `repo` changed"
        again, p = world.commit(journal, f"--rebase={policy}", "--allow-empty")
        if again is not None and settled:
            # The only reason left: the chunk that won would be read with the other side's geometry.
            assert {c["kind"] for c in again} <= {"chunk-geometry", "chunk-outside"}, again
            expected, _ = merge3(world.base, world.trees["ours", ours], world.trees["theirs", theirs], policy)
            assert invalid(expected, world.base, world.trees["ours", ours], world.trees["theirs", theirs]), again
        elif again is not None:
            kept = [c for c in conflicts if c["kind"] not in ("chunk", "chunk-deleted")]
            assert kept and all(c in again for c in kept), (conflicts, again)
        else:
            assert settled, f"settled with {policy}: {conflicts}"
            judge(world, ours, theirs, None, p, names, policy)
            world.put_back(before)


@pytest.mark.parametrize("ours,theirs", [(a, b) for i, a in enumerate(KINDS) for b in KINDS[i:]])
def test_merge(world, ours, theirs):
    world.put_back(world.at_base)
    sources = [world.journals["ours", ours], world.journals["theirs", theirs]]
    if len(ours + theirs) % 2:
        sources.reverse()
    conflicts, p = world.commit(*sources)
    judge(world, ours, theirs, conflicts, p, sources)
    if conflicts is not None:
        assert (world.repo.path / "repo").read_bytes() == world.at_base
