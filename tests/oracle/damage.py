"""Ways to damage a repository, object by object: files are decoded, changed, and written by
the oracle's own encoder, which checks nothing."""
import os
import struct

import fbb
import icedump

KINDS = {1: "Snapshot", 2: "Manifest", 4: "TransactionLog", 6: "Repo"}


def parts(path):
    """The version, the kind and the tables of a metadata file, ids and structs as bytes."""
    data = path.read_bytes()
    header, tables = fbb.raw_tables(data)
    return header["spec_version"], header["file_type"], tables


def write(path, version, kind, tables):
    path.write_bytes(fbb.env(fbb.B().finish(KINDS[kind], tables), kind, version))


def edit(path, change):
    """Rewrite a metadata file after change(tables)."""
    version, kind, tables = parts(path)
    change(tables)
    write(path, version, kind, tables)


def seal(path, payload, kind, version=2):
    path.write_bytes(fbb.env(payload, kind, version))


def cut(path):
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])


def flip(path):
    """One bit, in the middle of what is compressed."""
    data = bytearray(path.read_bytes())
    data[39 + (len(data) - 39) // 2] ^= 0x10
    path.write_bytes(data)


def swap(a, b):
    x, y = a.read_bytes(), b.read_bytes()
    a.write_bytes(y)
    b.write_bytes(x)


def extent(low, high):
    return struct.pack("<II", low, high)


def ident(name):
    return icedump.b32dec(name)


def bomb(kind, size, version=2):
    """A metadata file of a few kilobytes that unpacks to `size` zero bytes."""
    return fbb.env(zeros(size), kind, version, raw=True)


def zeros(size):
    """One zstd frame of `size` zeros, that says so, without making them all."""
    block = 128 * 1024
    frame = bytearray(struct.pack("<IB", 0xFD2FB528, 0xE0) + struct.pack("<Q", size))
    whole, rest = divmod(size, block)
    sizes = [block] * whole + ([rest] if rest else [])
    for i, n in enumerate(sizes):
        # A block of one repeated byte: last?, type 1, size.
        frame += struct.pack("<I", (n << 3) | (1 << 1) | (i == len(sizes) - 1))[:3] + b"\0"
    return bytes(frame)


def age(path, days):
    at = path.stat().st_mtime - days * 86400
    os.utime(path, (at, at))


def age_backups(repo, days):
    """As if every backup of `repo` had been made so long before: their names say when, and the logs have the names."""
    def ago(name):
        return f"{name[:5]}{int(name[5:19]) + days * 86_400_000:014d}{name[19:]}"

    def rename(tables):
        for update in tables["latest_updates"]:
            if "backup_path" in update:
                update["backup_path"] = ago(update["backup_path"])

    for path in [repo / "repo", *(repo / "overwritten").iterdir()]:
        edit(path, rename)
        if path.parent != repo:
            path.rename(path.with_name(ago(path.name)))
