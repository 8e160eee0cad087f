"""Random file operations by many processes, checked against a model of the content.

    stress.py DIRECTORY [--seconds N] [--workers N] [--seed N] [--commit COMMAND]

DIRECTORY is made an array of many chunks (any file system will do: on a plain directory it tests the
model).  Each worker owns a directory of chunk files and scratch files and knows what must be in
each; all workers together write their own bytes of shared chunk files.  With --commit, COMMAND is run
all the time.  Prints one JSON object with counts; exits 1 at the first difference, naming the seed.
"""
import argparse
import json
import mmap
import multiprocessing
import os
import pathlib
import random
import subprocess
import sys
import time
import traceback

CHUNKS = 24          # names of one worker
SHARED = 6           # files everyone writes to
SHOWN = 30           # steps a report ends with
SLOT = 64            # bytes of one worker in a shared file, every SLOT * workers bytes
ROUNDS = 16          # slots of one worker in a shared file
SIZES = (1, 17, 511, 512, 513, 4095, 4096, 5000, 65536, 131071, 131072, 140000, 262144, 262145, 400000)


class Wrong(AssertionError):
    pass


class Node:
    """What must be in one file, whatever its names, and what was in it while somebody had it open."""

    def __init__(self, data=b""):
        self.data = bytearray(data)
        self.readers = 0
        self.past = []

    def remember(self):
        if self.readers and (not self.past or self.past[-1] != self.data):
            self.past.append(bytes(self.data))


class Worker:
    def __init__(self, root, index, seed, seconds, replaced):
        self.index, self.seed, self.replaced = index, seed, replaced
        self.random = random.Random(seed * 1000 + index)
        self.dir = pathlib.Path(root) / "a/c" / str(index)
        self.root = pathlib.Path(root)
        self.end = time.monotonic() + seconds
        self.names = {}      # name -> Node
        self.readers = []    # (descriptor, Node, how many states it had had)
        self.counts = {}
        self.steps = []
        self.slots = {}      # (shared file, slot) -> bytes
        self.serial = 0

    # ---- what it picks ----

    def payload(self, limit=None):
        size = self.random.choice(SIZES)
        size = self.random.randint(max(1, size - 3), size + 3)
        if limit:
            size = min(size, limit)
        return self.random.randbytes(min(size, 64)) * (size // 64 + 1) if size > 4096 else self.random.randbytes(size)

    def fresh_name(self):
        if self.random.random() < 0.8:
            name = str(self.random.randrange(CHUNKS))
            self.steps.append(name)
            return name
        return self.random.choice(["note.txt", "x.tmp", f"{self.random.randrange(CHUNKS)}.{'ab' * 16}.partial",
                                   ".0.AbCdEf", "0.__lockx"])

    def old_name(self):
        name = self.random.choice(sorted(self.names)) if self.names else None
        self.steps.append(name)
        return name

    # ---- what must hold ----

    def check(self, got, want, what):
        if bytes(got) != bytes(want):
            at = next((i for i, (a, b) in enumerate(zip(got, want)) if a != b), min(len(got), len(want)))
            raise Wrong(f"{what}: {len(got)} bytes, wanted {len(want)}, first difference at {at}")

    def check_name(self, name):
        node = self.names[name]
        path = self.dir / name
        size = os.stat(path).st_size
        if size != len(node.data):
            raise Wrong(f"{path}: size {size}, wanted {len(node.data)}")
        self.check(path.read_bytes(), node.data, path)

    # ---- operations ----

    def op_write(self):
        name, data = self.fresh_name(), bytearray()
        fd = os.open(self.dir / name, os.O_CREAT | os.O_TRUNC | self.random.choice([os.O_WRONLY, os.O_RDWR]), 0o666)
        for _ in range(self.random.randint(1, 3)):
            part = self.payload()
            self.put(fd, part, None)
            data += part
        node = self.names.setdefault(name, Node())
        node.data[:] = data
        if self.random.random() < 0.1:
            os.fsync(fd)
        os.close(fd)

    def put(self, fd, data, offset):
        view = memoryview(data)
        while view:
            n = os.write(fd, view) if offset is None else os.pwrite(fd, view, offset)
            view = view[n:]
            offset = None if offset is None else offset + n

    def op_replace(self):
        name, data = self.fresh_name(), self.payload()
        tmp = self.dir / f"{name}.{self.random.randbytes(16).hex()}.partial"
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        self.put(fd, data, None)
        late = self.random.random() < 0.3       # as tensorstore: renamed while it is open
        if not late:
            os.close(fd)
        os.rename(tmp, self.dir / name)
        self.names[name] = Node(data)
        if late:
            more = self.payload(5000)
            self.put(fd, more, None)
            self.names[name].data += more
            os.close(fd)

    def op_link(self):
        name, data = self.fresh_name(), self.payload()
        tmp = self.dir / f"{name}#1"
        tmp.write_bytes(data)
        try:
            os.link(tmp, self.dir / name)
            if name in self.names:
                raise Wrong(f"link over {name} worked")
            self.names[name] = Node(data)
        except FileExistsError:
            if name not in self.names:
                raise Wrong(f"link to {name}: EEXIST, and there is none") from None
        os.unlink(tmp)

    def op_in_place(self):
        name = self.old_name()
        if name is None:
            return
        node = self.names[name]
        fd = os.open(self.dir / name, self.random.choice([os.O_WRONLY, os.O_RDWR]))
        for _ in range(self.random.randint(1, 4)):
            at = self.random.randint(0, len(node.data) + self.random.choice([0, 0, 100, 70000]))
            data = self.payload(20000)
            self.put(fd, data, at)
            if at > len(node.data):
                node.data += bytes(at - len(node.data))
            node.data[at:at + len(data)] = data
            if os.fstat(fd).st_size != len(node.data):
                raise Wrong(f"{name}: size after a write at {at} is {os.fstat(fd).st_size}, wanted {len(node.data)}")
        os.close(fd)

    def op_append(self):
        name = self.old_name()
        if name is None or len(self.names[name].data) > 1 << 20:
            return
        data = self.payload(30000)
        with open(self.dir / name, "ab", buffering=0) as f:
            self.put(f.fileno(), data, None)
        self.names[name].data += data

    def op_truncate(self):
        name = self.old_name()
        if name is None:
            return
        node = self.names[name]
        size = self.random.randint(1, max(1, len(node.data) + self.random.choice([-1, 0, 5000])))
        if self.random.random() < 0.5:
            os.truncate(self.dir / name, size)
        else:
            with open(self.dir / name, "r+b") as f:
                f.truncate(size)
        node.data[:] = node.data[:size] + bytes(max(0, size - len(node.data)))

    def op_unlink(self):
        name = self.old_name()
        if name is None:
            return
        os.unlink(self.dir / name)
        del self.names[name]

    def op_unlink_open(self):
        name = self.old_name()
        if name is None:
            return
        data = self.names.pop(name).data      # who has it open sees what happens to it
        fd = os.open(self.dir / name, os.O_RDWR)
        os.unlink(self.dir / name)
        self.put(fd, b"after the end", len(data))
        data += b"after the end"
        self.check(os.pread(fd, len(data) + 100, 0), data, f"{name}, unlinked")
        os.close(fd)
        if os.path.lexists(self.dir / name):
            raise Wrong(f"{name} came back")

    def op_rename(self):
        name, to = self.old_name(), self.fresh_name()
        if name is None:
            return
        os.rename(self.dir / name, self.dir / to)
        self.names[to] = self.names.pop(name)

    def op_exclusive(self):
        name = self.fresh_name()
        try:
            fd = os.open(self.dir / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except FileExistsError:
            if name not in self.names:
                raise Wrong(f"O_EXCL of {name}: EEXIST, and there is none") from None
            return
        if name in self.names:
            raise Wrong(f"O_EXCL of {name} worked, and it is there")
        data = self.payload()
        self.put(fd, data, 0)
        os.close(fd)
        self.names[name] = Node(data)

    def op_map(self):
        name = self.old_name()
        if name is None:
            return
        node = self.names[name]
        with open(self.dir / name, "r+b") as f, mmap.mmap(f.fileno(), 0) as m:
            self.check(m[:], node.data, f"{name}, mapped")
            for _ in range(3):
                at = self.random.randrange(len(node.data))
                data = self.random.randbytes(min(100, len(node.data) - at))
                m[at:at + len(data)] = data
                node.data[at:at + len(data)] = data

    def op_copy(self):
        name, to = self.old_name(), self.fresh_name()
        if name is None or name == to:
            return
        a = os.open(self.dir / name, os.O_RDONLY)
        b = os.open(self.dir / to, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        left = len(self.names[name].data)
        while left:
            n = os.sendfile(b, a, None, left)
            if n == 0:
                raise Wrong(f"{name} ends {left} bytes too early")
            left -= n
        os.close(a)
        os.close(b)
        self.names.setdefault(to, Node()).data[:] = self.names[name].data

    def op_open_reader(self):
        name = self.old_name()
        if name is None or len(self.readers) > 10:
            return
        node = self.names[name]
        node.readers += 1
        node.remember()
        self.readers.append((os.open(self.dir / name, os.O_RDONLY), node, len(node.past)))

    def op_use_reader(self):
        if not self.readers:
            return
        fd, node, since = self.readers[self.random.randrange(len(self.readers))]
        got = b""
        while part := os.pread(fd, 1 << 20, len(got)):
            got += part
        # A commit makes a file another one: who has it open may or may not see what is written after it.
        if not self.replaced or len(node.past) <= since and node.past[-1:] == [bytes(node.data)]:
            self.check(got, node.data, "a file that is open")
        if self.random.random() < 0.5:
            os.close(fd)
            node.readers -= 1
            self.readers = [r for r in self.readers if r[0] != fd]

    def op_read(self):
        name = self.old_name()
        if name is not None:
            self.check_name(name)

    def op_list(self):
        got = set(os.listdir(self.dir))
        # Temporary names are found, but not listed.
        hidden = {n for n in self.names if n.endswith(".partial") or n.startswith(".0.")}
        if got - hidden != set(self.names) - hidden:
            raise Wrong(f"listing: {sorted(got ^ (set(self.names) - hidden))}")

    def op_absent(self):
        name = self.fresh_name()
        if os.path.exists(self.dir / name) != (name in self.names):
            raise Wrong(f"{name}: {'gone' if name in self.names else 'there'}")

    def op_shared(self):
        """Own bytes of a chunk that all others write to at the same time."""
        k = self.random.randrange(SHARED)
        path = self.root / "shared/c" / str(k)
        slot = self.random.randrange(ROUNDS)
        self.serial += 1
        data = f"{self.index:08d}{self.serial:08d}".encode() * (SLOT // 16)
        fd = os.open(path, os.O_RDWR if self.random.random() < 0.5 else os.O_WRONLY)
        os.pwrite(fd, data, (slot * WORKERS + self.index) * SLOT)
        os.close(fd)
        self.slots[k, slot] = data
        if self.random.random() < 0.3:
            self.check_shared(k, slot)

    def check_shared(self, k, slot):
        with open(self.root / "shared/c" / str(k), "rb", buffering=0) as f:
            got = os.pread(f.fileno(), SLOT, (slot * WORKERS + self.index) * SLOT)
        self.check(got, self.slots[k, slot], f"shared chunk {k}, slot {slot} of worker {self.index}")

    def run(self):
        self.dir.mkdir(parents=True, exist_ok=True)
        ops = [m for m in dir(self) if m.startswith("op_")]
        weights = [3 if m in ("op_shared", "op_in_place", "op_write", "op_replace") else 1 for m in ops]
        while time.monotonic() < self.end:
            op = self.random.choices(ops, weights)[0]
            self.steps.append(op)
            getattr(self, op)()
            for node in self.names.values():
                node.remember()
            self.counts[op[3:]] = self.counts.get(op[3:], 0) + 1
        for name in self.names:
            self.check_name(name)
        for k, slot in self.slots:
            self.check_shared(k, slot)
        for fd, _, _ in self.readers:
            os.close(fd)
        return self.counts


def work(root, index, workers, seed, seconds, replaced, results):
    global WORKERS
    WORKERS = workers
    w = Worker(root, index, seed, seconds, replaced)
    try:
        counts = w.run()
        # A commit takes what has a place; empty files have none, and there is none left.
        results.put((index, counts, {str((w.dir / n).relative_to(root)): bytes(v.data).hex() for n, v in
                                     w.names.items() if n.isdigit()}, None))
    except BaseException as e:
        results.put((index, w.counts, {}, f"worker {index}, seed {seed}, after {len(w.steps)} steps ({w.steps[-SHOWN:]}): "
                                          f"{type(e).__name__}: {e}\n{traceback.format_exc()}"))


def array(shape, chunks):
    return json.dumps({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0, "codecs": [{"name": "bytes"}], "attributes": {}})


def prepare(root, workers):
    root = pathlib.Path(root)
    (root / "a/c").mkdir(parents=True)
    (root / "shared/c").mkdir(parents=True)
    (root / "zarr.json").write_text('{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    (root / "a/zarr.json").write_text(array([workers, CHUNKS], [1, 1]))
    (root / "shared/zarr.json").write_text(array([SHARED], [1]))
    for k in range(SHARED):
        (root / "shared/c" / str(k)).write_bytes(bytes(SLOT * workers * ROUNDS) * (1 if k % 2 else 40))


def stress(root, seconds, workers, seed, commit=None):
    """{"operations", "by_kind", "commits", "refused", "files": {name: hex}}; raises Wrong."""
    prepare(root, workers)
    results = multiprocessing.Queue()
    processes = [multiprocessing.Process(target=work, args=(root, i, workers, seed, seconds, commit is not None, results))
                 for i in range(workers)]
    for p in processes:
        p.start()
    end = time.monotonic() + seconds + 120
    commits = refused = 0
    reports = []
    while len(reports) < workers:
        if commit is not None:
            code = commit()
            commits, refused = commits + (code == 0), refused + (code != 0)
        try:
            reports.append(results.get(timeout=0.5))
        except multiprocessing.queues.Empty:
            if time.monotonic() > end:
                raise Wrong("a worker hangs") from None
    for p in processes:
        p.join()
    wrong = [r[3] for r in reports if r[3]]
    if wrong:
        raise Wrong("\n".join(wrong))
    total, files = {}, {}
    for _, counts, mine, _ in reports:
        files |= mine
        for k, n in counts.items():
            total[k] = total.get(k, 0) + n
    return {"operations": sum(total.values()), "by_kind": total, "commits": commits, "refused": refused, "files": files}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("directory")
    p.add_argument("--seconds", type=float, default=10)
    p.add_argument("--workers", type=int, default=4)
    p.add_argument("--seed", type=int, default=int(time.time()))
    p.add_argument("--commit")
    a = p.parse_args()
    commit = (lambda: subprocess.run(a.commit, shell=True, stdout=subprocess.DEVNULL).returncode) if a.commit else None
    try:
        r = stress(a.directory, a.seconds, a.workers, a.seed, commit)
    except Wrong as e:
        print(f"seed {a.seed}: {e}", file=sys.stderr)
        return 1
    print(json.dumps({k: v for k, v in r.items() if k != "files"} | {"seed": a.seed}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
