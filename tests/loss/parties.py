"""Several parties at work on one repository, and what a refusal must look like."""
import hashlib
import json
import shutil

from conftest import array_json, assert_same, group_json, put, read_tree

# Kinds of conflicts in which both sides did the same.
ALIKE = "chunk", "meta", "created", "kind"

OURS = "these changes"      # as a report calls the side that is being rebased

DOC = array_json((8,), (2,))


def remove(root, key):
    path = root / key
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def apply(root, tree):
    """{key: bytes, or None to remove} in order."""
    for key, data in tree.items():
        remove(root, key) if data is None else put(root, key, data)


def base_tree(root):
    put(root, "zarr.json", group_json())
    put(root, "g/zarr.json", group_json())
    put(root, "g/b/zarr.json", DOC)
    put(root, "a/zarr.json", DOC)
    for i in range(4):
        put(root, f"a/c/{i}", b"%02d" % i)


def files(root):
    """Every file of a repository and what it holds."""
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).digest()
            for p in sorted(root.rglob("*")) if p.is_file()}


class Parties:
    """A coordinator's mount `m` on the tree above, workers with journals, and others who commit."""

    def __init__(self, repo, mounts, tmp_path):
        self.repo, self.firn, self.mounts, self.tmp, self.n = repo, repo.firn, mounts, tmp_path, 0
        self.m = mounts.enter_context(repo.mount())
        base_tree(self.m.main)
        self.base = self.m.commit("base")

    def fork(self, mount=None):
        self.n += 1
        token = self.tmp / f"fork{self.n}.json"
        self.firn("fork", mount or self.m, "-o", token)
        return token

    def journal(self, name, work, token=None):
        """What a worker's mount leaves behind that does `work`: a function of its root, or a tree."""
        out = self.tmp / f"{name}.journal"
        with self.repo.worker(token or self.fork()) as w:
            apply(w.main, work) if isinstance(work, dict) else work(w.main)
            w.umount("--export", out)
        return out

    def committed_by_others(self, *works):
        """The branch moves on by a commit each."""
        for work in works:
            with self.repo.mount() as other:
                apply(other.main, work) if isinstance(work, dict) else work(other.main)
                tip = other.commit("theirs")
        return tip

    def image(self):
        return (self.m.path / ".firn/journal").read_bytes()

    def refused(self, *sources, conflicts=None, saying=(), args=(), orders=True):
        """A commit of the mount and `sources` exits with 3, says why, and changes nothing at all.

        `conflicts`: {(kind, path, coordinates or None, first, second)} as the report must list them;
        who is first matters where they did different things.
        """
        before = files(self.repo.path), self.image(), read_tree(self.m.main)
        for order in {sources, sources[::-1]} if orders else {sources}:
            command = ["commit", *order, "-m", "m", *args]
            text = self.firn.run(*command)
            assert text.returncode == 3, (text.returncode, text.stdout, text.stderr)
            assert not text.stdout
            report = self._json(command)
            assert report["code"] == "conflict"
            for word in saying:
                assert str(word) in text.stderr and str(word) in json.dumps(report), (word, text.stderr)
            if conflicts is not None:
                self._compare(report, text.stderr, conflicts)
        after = files(self.repo.path), self.image(), read_tree(self.m.main)
        assert_same(after[0], before[0], "files of the repository", ("after", "before"))
        assert after[1] == before[1], "the journal changed"
        assert_same(after[2], before[2], "the mount", ("after", "before"))
        for source in sources:
            if str(source).endswith(".journal"):
                self.firn("journal", "verify", source)

    def _json(self, command):
        p = self.firn.run(*command, "--json")
        assert p.returncode == 3, (p.returncode, p.stdout, p.stderr)
        return json.loads(p.stdout)

    @staticmethod
    def _compare(report, text, conflicts):
        def entry(kind, path, coords, *names):
            names = [str(name) for name in names]
            return kind, path, tuple(coords) if coords is not None else None, \
                *(sorted(names) if kind in ALIKE else names)
        listed = {entry(*(c[k] for k in ("kind", "path", "coords", "first", "second"))) for c in report["conflicts"]}
        assert len(listed) == len(report["conflicts"]), report
        assert listed == {entry(*c) for c in conflicts}, (listed, conflicts)
        for c in report["conflicts"]:
            place = c["path"] if c["coords"] is None else f"{c['path']} {'/'.join(['c', *map(str, c['coords'])])}"
            assert c["text"] in text.splitlines() and c["text"].startswith(f"{place}: "), (c, text)
            assert c["text"].index(c["first"]) < c["text"].index(c["second"]) or c["kind"] == "moved", c

    def commit(self, *sources, args=()):
        """A commit that must succeed; the mount is among its sources unless told otherwise."""
        id = self.firn.snapshot("commit", *sources, "-m", "m", *args)
        assert self.repo.official().lookup_branch("main") == id
        self.repo.check()
        return id
