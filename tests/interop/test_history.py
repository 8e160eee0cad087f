"""A random history, written in turns by mounts, by merged forks and by the official library.

A model (a dictionary of keys) says what must be there; after every commit the mount, the official
library and the model agree byte for byte."""
import json
import random

import pytest
from zarr.core.buffer import cpu
from zarr.core.sync import sync

from conftest import array_json, assert_same, group_json, read_tree, store_tree

PATHS = ["a", "b", "g/a", "g/h/a", "žluť/a", "c"]


class Model:
    """What a hierarchy of groups and one-dimensional arrays of `n` chunks holds."""

    def __init__(self):
        self.files = {}

    def arrays(self):
        return sorted(k[:-10] for k, v in self.files.items() if k.endswith("/zarr.json") and b'"array"' in v)

    def grid(self, path):
        return json.loads(self.files[f"{path}/zarr.json"])["shape"][0]

    def below(self, path):
        return [k for k in self.files if k.startswith(f"{path}/")]


class OnMount:
    def __init__(self, root):
        self.root = root

    def put(self, key, data):
        p = self.root / key
        p.parent.mkdir(parents=True, exist_ok=True)
        t = p.with_name(p.name + ".0123456789abcdef0123456789abcdef.partial")
        t.write_bytes(data)
        t.rename(p)

    def delete(self, key):
        (self.root / key).unlink()

    def delete_node(self, path):
        import shutil
        shutil.rmtree(self.root / path)


class Official:
    def __init__(self, session):
        self.store = session.store

    def put(self, key, data):
        sync(self.store.set(key, cpu.Buffer.from_bytes(data)))

    def delete(self, key):
        sync(self.store.delete(key))

    def delete_node(self, path):
        sync(self.store.delete_dir(path))


def random_step(rng, model, side, chunks_only=None):
    """One change, made on `side` and in the model. `chunks_only`: this share of the chunks, (i, n)."""
    arrays = model.arrays()
    roll = rng.random()
    if chunks_only or (arrays and roll < 0.7):
        path = rng.choice(arrays)
        n = model.grid(path)
        mine = [i for i in range(n) if not chunks_only or i % chunks_only[1] == chunks_only[0]]
        if not mine:
            return
        key = f"{path}/c/{rng.choice(mine)}"
        if key in model.files and rng.random() < 0.25:
            side.delete(key)
            del model.files[key]
        else:
            model.files[key] = rng.randbytes(rng.choice([1, 7, 100, 512, 513, 3000]))
            side.put(key, model.files[key])
    elif arrays and roll < 0.8:                     # grow, shrink, attributes
        path = rng.choice(arrays)
        n = max(0, model.grid(path) + rng.choice([-5, -1, 0, 0, 3, 9]))
        for key in [k for k in model.below(path) if "/c/" in k and int(k.rpartition("/")[2]) >= n]:
            side.delete(key)                        # as zarr-python does it
            del model.files[key]
        doc = array_json((n,), (1,), attributes={"r": rng.random()})
        side.put(f"{path}/zarr.json", doc)
        model.files[f"{path}/zarr.json"] = doc
    elif arrays and roll < 0.86:
        path = rng.choice(arrays)
        for k in model.below(path):
            del model.files[k]
        side.delete_node(path)
    else:
        path = rng.choice(PATHS)
        if f"{path}/zarr.json" in model.files:
            return
        parts = path.split("/")
        for i in range(len(parts)):
            doc = "/".join([*parts[:i], "zarr.json"])
            if doc not in model.files:
                model.files[doc] = group_json(made=rng.random())
                side.put(doc, model.files[doc])
        model.files[f"{path}/zarr.json"] = array_json((rng.randrange(1, 40),), (1,))
        side.put(f"{path}/zarr.json", model.files[f"{path}/zarr.json"])


@pytest.mark.parametrize("seed", [pytest.param(s, marks=[pytest.mark.sanitize] if s == 0 else []) for s in range(8)])
def test_random_history(firn, repo, mounts, tmp_path, seed):
    rng, model = random.Random(seed), Model()
    m = mounts.enter_context(repo.mount())
    for turn in range(14):
        who = rng.choice(["mount", "mount", "official", "forks"])
        steps = rng.randrange(1, 25)
        before = dict(model.files)
        if who == "official" and turn:
            s = repo.official().writable_session("main")
            for _ in range(steps):
                random_step(rng, model, Official(s))
            if s.has_uncommitted_changes:
                s.commit(f"turn {turn}")
            m.umount("--discard")
            m = mounts.enter_context(repo.mount())
        elif who == "forks" and model.arrays():
            for _ in range(3):
                random_step(rng, model, OnMount(m.main))
            if model.arrays():
                token = tmp_path / f"{turn}.json"
                firn("fork", m, "-o", token)
                journals = []
                for i in range(3):
                    with repo.worker(token) as w:
                        for _ in range(steps):
                            random_step(rng, model, OnMount(w.main), (i, 3))
                        journals.append(tmp_path / f"{turn}.{i}.journal")
                        w.umount("--export", journals[-1])
                rng.shuffle(journals)
                p = firn.run("commit", m, *journals, "-m", f"turn {turn}")
            else:
                p = firn.run("commit", m, "-m", f"turn {turn}")
            assert p.returncode in (0, 4), (turn, p.stderr)
        else:
            for _ in range(steps):
                random_step(rng, model, OnMount(m.main))
            assert_same(read_tree(m.main), model.files, f"turn {turn}, uncommitted", ("mount", "model"))
            p = firn.run("commit", m, "-m", f"turn {turn}")
            assert p.returncode == 0 or (p.returncode == 4 and model.files == before) or before == model.files, p.stderr
        what = f"turn {turn}, {who}"
        assert_same(read_tree(m.main), model.files, what, ("mount", "model"))
        if model.files:
            assert_same(store_tree(repo.store()), model.files, what, ("official", "model"))
        if turn % 4 == 3:
            repo.check()
            m.umount()
            m = mounts.enter_context(repo.mount())
            assert_same(read_tree(m.main), model.files, f"{what}, mounted again", ("mount", "model"))


def test_every_snapshot_stays_as_it_was(firn, repo, mounts):
    rng, model = random.Random(99), Model()
    m = mounts.enter_context(repo.mount())
    history = {}
    for turn in range(8):
        for _ in range(12):
            random_step(rng, model, OnMount(m.main))
        p = firn.run("commit", m, "-m", f"turn {turn}")
        if p.returncode == 0:
            history[p.stdout.strip()] = dict(model.files)
    assert len(history) > 4
    for id, files in history.items():
        assert_same(read_tree(m.path / f".firn/snapshots/{id}"), files, id, ("mount", "model"))
        assert_same(store_tree(repo.store(snapshot_id=id)), files, id, ("official", "model"))
