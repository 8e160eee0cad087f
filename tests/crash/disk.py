"""What a disk may hold after a power cut, from a log of the calls that changed it (calls.c).

A file's content is what was written up to its last fsync, and any of the writes since, each as a
whole or cut at a page.  A directory's names are those up to its last fsync, and any of the later
changes (`order` "any"), or those up to some moment (`order` "prefix", as a file system with one
journal of metadata has it).  Nothing else is promised to anybody.
"""
import json
import os
import pathlib

PAGE = 4096


class File:
    def __init__(self):
        self.durable, self.pending = b"", []      # pending: ("write", offset, data) or ("trunc", size)

    @staticmethod
    def apply(content, change):
        if change[0] == "trunc":
            return content[:change[1]].ljust(change[1], b"\0")
        _, offset, data = change
        return content[:offset].ljust(offset, b"\0") + data + content[offset + len(data):]

    def sync(self):
        for change in self.pending:
            self.durable = self.apply(self.durable, change)
        self.pending = []

    def after_cut(self, rng, keep):
        content = self.durable
        for change in self.pending:
            if rng.random() >= keep:
                continue
            if change[0] == "write" and len(change[2]) > PAGE and rng.random() < 0.3:
                pages = [i for i in range(0, len(change[2]), PAGE) if rng.random() < 0.5]
                for i in pages:
                    content = self.apply(content, ("write", change[1] + i, change[2][i:i + PAGE]))
            else:
                content = self.apply(content, change)
        return content


class Directory:
    def __init__(self):
        self.durable, self.pending = {}, []       # pending: (time, {name: File, Directory or None})
        self.now = {}


class Disk:
    def __init__(self, root):
        self.root, self.top, self.by_ino, self.time = pathlib.Path(root), Directory(), {}, 0
        self.synced = 0

    def load(self, path, at=None):
        """What is there when the recording starts, durably."""
        at = at or self.top
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                node = Directory()
                self.load(entry.path, node)
            else:
                node = File()
                node.durable = pathlib.Path(entry.path).read_bytes()
                self.by_ino[entry.inode()] = node
            at.durable[entry.name] = at.now[entry.name] = node

    def _at(self, path):
        parts = pathlib.Path(path).relative_to(self.root).parts
        at = self.top
        for part in parts[:-1]:
            at = at.now[part]
        return at, parts[-1] if parts else None

    def _set(self, *changes):
        """One change of names: all of it is on the disk, or nothing."""
        group = {}
        for path, node in changes:
            directory, name = self._at(path)
            group.setdefault(id(directory), (directory, {}))[1][name] = node
            if node is None:
                directory.now.pop(name, None)
            else:
                directory.now[name] = node
        for directory, names in group.values():
            directory.pending.append((self.time, names))

    def _node(self, path):
        directory, name = self._at(path)
        return directory.now[name] if name else self.top

    def _synced_node(self, path, ino):
        """By name if it is a directory: it may have the inode number of a file that was removed."""
        try:
            node = self._node(path)
        except KeyError:          # a file that has no name any more
            return self.by_ino[ino]
        return node if isinstance(node, Directory) else self.by_ino[ino]

    def apply(self, what, ino, offset, path, path2, data):
        self.time += 1
        if what == "create":
            self.by_ino[ino] = File()
            self._set((path, self.by_ino[ino]))
        elif what in ("write", "punch"):
            self.by_ino[ino].pending.append(("write", offset, data))
        elif what == "trunc":
            self.by_ino[ino].pending.append(("trunc", offset))
        elif what == "fsync":
            self._sync(self._synced_node(path, ino))
        elif what == "syncfs":
            self._sync_all(self.top)
            for node in self.by_ino.values():
                node.sync()
        elif what == "mkdir":
            self._set((path, Directory()))
        elif what == "unlink":
            self._set((path, None))
        elif what == "rename" and path == path2:
            pass
        elif what == "rename":
            self._set((path2, self._node(path)), (path, None))
        elif what == "link":
            self._set((path2, self._node(path)))
        else:
            raise AssertionError(what)

    def _sync(self, node):
        if isinstance(node, File):
            node.sync()
            return
        for _, names in node.pending:
            for name, target in names.items():
                if target is None:
                    node.durable.pop(name, None)
                else:
                    node.durable[name] = target
        node.pending = []

    def _sync_all(self, directory):
        self._sync(directory)
        for node in directory.now.values():
            if isinstance(node, Directory):
                self._sync_all(node)

    def pending_count(self):
        return sum(len(f.pending) for f in self.by_ino.values())

    def write(self, out, rng, order, keep):
        """One of the possible disks, as files below `out`."""
        moment = rng.randint(0, self.time) if order == "prefix" else None
        written = {}
        self._write(self.top, pathlib.Path(out), rng, keep, moment, written)

    def _write(self, directory, out, rng, keep, moment, written):
        out.mkdir(parents=True, exist_ok=True)
        names = dict(directory.durable)
        for time, change in directory.pending:
            if time <= moment if moment is not None else rng.random() < keep:
                for name, target in change.items():
                    if target is None:
                        names.pop(name, None)
                    else:
                        names[name] = target
        for name, node in names.items():
            if isinstance(node, Directory):
                self._write(node, out / name, rng, keep, moment, written)
            elif id(node) in written:
                os.link(written[id(node)], out / name)
            else:
                (out / name).write_bytes(node.after_cut(rng, keep))
                written[id(node)] = out / name


def restart(state):
    """Another boot of the same machine."""
    for path in pathlib.Path(state).rglob("session.json"):
        info = json.loads(path.read_text())
        info["boot"] = "00000000-0000-0000-0000-000000000000"
        path.write_text(json.dumps(info))
