"""firn against the official library and a plain directory, on this machine: `make bench`, `make bench-long`.

Every figure is the median of interleaved runs, each in a fresh process; memory is the peak
(VmHWM) of the process that does the work, of a mount's driver too where one is part of it.
"""
import argparse
import json
import os
import pathlib
import platform
import time

import arrays
import commit
import datasets
import merge
import names
import opening
import table
import workers
from harness import ROOT, Bench

SHORT = {
    "merge": merge.short, "commit": commit.short, "first-byte": opening.short, "write": arrays.write, "read": arrays.read_warm,
    "xarray": datasets.short, "names": names.short,
}
LONG = {
    "huge-merge": merge.huge, "huge-commit": commit.grown, "huge-first-byte": opening.huge, "huge-names": names.huge,
    "merge-long": merge.long, "history": commit.history, "manifests": commit.manifests, "names-long": names.long,
    "write-tiny": arrays.write_tiny, "read-new": arrays.read_new, "read-cold": arrays.read_cold, "read-many": arrays.read_many,
    "workers": workers.write, "look": workers.look, "ring": workers.ring,
}


def arguments():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                 epilog=f"parts: {', '.join(SHORT)}; with --long: {', '.join(LONG)}")
    ap.add_argument("--long", action="store_true", help="the parts that take an hour instead")
    ap.add_argument("--only", help="parts of either kind, with commas between them")
    ap.add_argument("--reps", type=int, default=5, help="how often each side runs (5)")
    ap.add_argument("--json", type=pathlib.Path, metavar="FILE", help="keep the run")
    ap.add_argument("--against", type=pathlib.Path, metavar="FILE", help="compare with a run that was kept")
    ap.add_argument("--dir", type=pathlib.Path, default=ROOT / "build", help="where a directory `bench` is made, and removed")
    args = ap.parse_args()
    args.only = args.only.split(",") if args.only else list(LONG if args.long else SHORT)
    unknown = set(args.only) - set(SHORT | LONG)
    # What a part leaves to the next is there in this order.
    args.only = [name for name in SHORT | LONG if name in args.only]
    if unknown or args.reps < 1:
        ap.error(f"no such part: {', '.join(unknown)}" if unknown else "--reps: at least 1")
    return args


def report(b, args, version):
    print(table.HEAD)
    for row in b.rows:
        print(table.line(row))
    where = f"{os.cpu_count()} processors, Linux {platform.release()}, icechunk {version}, " \
            f"median of {args.reps} interleaved runs; {time.monotonic() - b.started:.0f} s in all"
    if args.against:
        table.compare(b.rows, args.against)
    print("", *(f"- {note}" for note in b.notes), "", where, sep="\n", flush=True)
    if args.json:
        args.json.write_text(json.dumps({"where": where, "rows": b.rows, "notes": b.notes}, indent=1))


def main():
    args = arguments()
    try:
        import icechunk
    except ImportError:
        raise SystemExit("bench: the official library is not here; it needs Python >= 3.12 (see make setup)") from None
    with Bench(args.dir.resolve() / "bench", args.reps) as b:
        for name in args.only:
            b.say(f"part {name}")
            (SHORT | LONG)[name](b)
        report(b, args, icechunk.__version__)       # before clearing away, which takes its time


if __name__ == "__main__":
    main()
