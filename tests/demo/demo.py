"""The distributed write of the README, for real: `make demo`.

240 years of air temperature over North America are written into a new Icechunk repository by
ordinary xarray on ordinary directories, twice: by worker processes that each have a mount of
their own and hand back journals, and by threads and processes that share one mount.
"""
import functools
import multiprocessing
import os
import pathlib
import shutil
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor

import iris_sample_data
import numpy as np
import xarray as xr

warnings.filterwarnings("ignore")
os.environ.setdefault("ICECHUNK_LOG", "error")
ROOT = pathlib.Path(__file__).resolve().parents[2]
HERE = ROOT / "build/demo"
BIN = (ROOT / os.environ.get("FIRN_BUILD", "build/release")).resolve() / "bin"
ENV = os.environ | {"PATH": f"{BIN}:{os.environ['PATH']}", "XDG_STATE_HOME": str(HERE / "state")}
WORKERS, YEARS = 4, 12                     # each task is 12 years, each chunk one
print = functools.partial(print, flush=True)


def firn(*args, quiet=False):
    """Run the command, showing it as one would type it; what it printed."""
    words = [str(a) for a in args]
    if not quiet:
        print("  $ firn " + " ".join(f'"{w}"' if " " in w else w.removeprefix(f"{HERE}/") for w in words))
    p = subprocess.run(["firn", *words], env=ENV, stdout=subprocess.PIPE, text=True, check=False)
    if p.returncode:
        sys.exit(f"demo: firn {words[0]} failed with exit code {p.returncode}")
    if p.stdout and not quiet:
        print("  " + p.stdout.rstrip().replace("\n", "\n  "))
    return p.stdout.strip()


@functools.cache
def dataset():
    path = pathlib.Path(iris_sample_data.path) / "E1_north_america.nc"
    with xr.open_dataset(path) as ds:
        return ds[["air_temperature"]].drop_encoding().load()


def initialize(directory):
    """Metadata and coordinates now, the data later."""
    print(f'  > ds.to_zarr("{directory.relative_to(HERE)}", mode="w", compute=False)')
    lazy = dataset().copy()
    lazy["air_temperature"] = lazy["air_temperature"].variable.chunk(time=1)
    lazy.to_zarr(directory, mode="w", compute=False, consolidated=False)


def write_years(directory, first):
    """One task: 12 years into whatever directory the hierarchy is at."""
    part = dataset().isel(time=slice(first, first + YEARS))
    variable = part[["air_temperature"]].drop_vars([c for c in part.coords if c != "time"])
    variable.to_zarr(directory, region="auto", mode="r+", consolidated=False)


def tasks():
    return list(range(0, dataset().sizes["time"], YEARS))


# ---- first round: a mount for each worker ----

def worker(number, token, queue, done, ready):
    """A job on any machine that sees the repository: mounts, writes, leaves a journal."""
    mount = HERE / f"mnt/w{number}"
    mount.mkdir(parents=True)
    firn("mount", "--fork", token, mount, quiet=True)
    dataset()
    ready.wait()
    while (first := queue.get()) is not None:
        write_years(mount / "main", first)
        done.put((number, first))
    firn("umount", mount, "--export", HERE / f"w{number}.journal", quiet=True)


def own_mounts():
    repo, mount, token = HERE / "distributed", HERE / "mnt/coordinator", HERE / "fork.json"
    mount.mkdir(parents=True)
    firn("init", repo)
    firn("mount", repo, mount)
    initialize(mount / "main")
    firn("commit", mount, "-m", "initialize store")
    firn("fork", mount, "-o", token)

    context = multiprocessing.get_context("spawn")
    queue, done, ready = context.Queue(), context.Queue(), context.Barrier(WORKERS)
    print(f"  {WORKERS} times, in processes of their own:")
    print("  $ firn mount --fork fork.json mnt/wN")
    print('  > part.to_zarr("mnt/wN/main", region="auto")')
    print("  $ firn umount mnt/wN --export wN.journal")
    processes = [context.Process(target=worker, args=(i, token, queue, done, ready)) for i in range(WORKERS)]
    for p in processes:
        p.start()
    for first in tasks() + [None] * WORKERS:
        queue.put(first)
    wrote = dict(reversed(done.get(timeout=120)) for _ in tasks())
    for p in processes:
        p.join()
        if p.exitcode:
            sys.exit("demo: a worker failed")
    print(f"  {len(wrote)} regions are written; per worker {[list(wrote.values()).count(i) for i in range(WORKERS)]}")
    firn("commit", mount, *sorted(HERE.glob("w*.journal")), "-m", "finished writes")
    committed = verify(repo, mount)
    firn("log", repo)
    firn("umount", mount)
    return wrote, committed


# ---- second round: everyone in one mount ----

def share(directory, mine):
    dataset()                              # netCDF is not for several threads; Zarr is
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda first: write_years(directory, first), mine))


def shared_mount():
    repo, mount = HERE / "shared", HERE / "mnt/shared"
    mount.mkdir(parents=True)
    firn("init", repo)
    firn("mount", repo, mount)
    initialize(mount / "main")
    firn("commit", mount, "-m", "initialize store")
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=share, args=(mount / "main", tasks()[i::2])) for i in range(2)]
    for p in processes:
        p.start()
    for p in processes:
        p.join()
        if p.exitcode:
            sys.exit("demo: a process failed")
    print("  2 processes with 2 threads each wrote through one mount")
    firn("commit", mount, "-m", "finished writes")
    verify(repo, mount)
    firn("log", repo)
    firn("umount", mount)


# ---- what came of it ----

def verify(repo, mount):
    """The commit, as read from the repository; it must be what was written."""
    with xr.open_zarr(mount / "main", consolidated=False) as got:
        xr.testing.assert_identical(got.load(), dataset())
    print("  the mount shows what was written: identical")
    try:
        import icechunk
    except ImportError:
        print("  (the official library of this format needs Python >= 3.12; a second mount stands in)")
        second = HERE / "mnt/second"
        second.mkdir(exist_ok=True)
        firn("mount", "--read-only", repo, second)
        with xr.open_zarr(second / "main", consolidated=False) as got:
            xr.testing.assert_identical(got.load(), dataset())
        firn("umount", second)
        print("  a second mount shows the commit: identical")
        return got
    official = icechunk.Repository.open(icechunk.local_filesystem_storage(str(repo)))
    with xr.open_zarr(official.readonly_session("main").store, consolidated=False) as got:
        xr.testing.assert_identical(got.load(), dataset())
    print(f"  icechunk {icechunk.__version__} reads the commit: identical")
    return got


def picture(ds, wrote, path):
    import matplotlib
    matplotlib.use("agg")
    import matplotlib.pyplot as plt
    from matplotlib.colors import ListedColormap

    t = ds["air_temperature"]
    fig, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1.25, 1], layout="constrained")
    mesh = left.pcolormesh(t.longitude - 360, t.latitude, t[-1] - 273.15, cmap="RdYlBu_r", shading="nearest")
    left.contour(t.longitude - 360, t.latitude, t[-1] - 273.15, levels=[0], colors="k", linewidths=0.8)
    left.set(title=f"Air temperature, {ds.time.values[-1].year}, read from the commit", xlabel="longitude", ylabel="latitude")
    fig.colorbar(mesh, ax=left, label="°C (line: 0 °C)")
    grid = np.array([wrote[i // YEARS * YEARS] for i in range(ds.sizes["time"])]).reshape(-1, YEARS)
    colors = ["#4477aa", "#ee6677", "#228833", "#ccbb44"]
    right.pcolormesh(grid, cmap=ListedColormap(colors), vmin=-0.5, vmax=WORKERS - 0.5, edgecolors="w", linewidth=1.5)
    right.invert_yaxis()
    right.set(title=f"{ds.sizes['time']} chunks of one year, by worker", xlabel="year within the region",
              ylabel="first year of the region")
    right.set_yticks(np.arange(0, len(grid), 4) + 0.5, [ds.time.values[i * YEARS].year for i in range(0, len(grid), 4)])
    right.set_xticks([])
    for i in range(WORKERS):
        right.plot([], [], "s", color=colors[i], label=f"worker {i}")
    fig.legend(loc="outside lower right", ncols=WORKERS, frameon=False)
    fig.savefig(path, dpi=90)


def clean():
    for m in sorted(HERE.glob("mnt/*")):
        if os.path.ismount(m) or not os.access(m, os.R_OK):
            subprocess.run(["fusermount3", "-u", "-z", m], check=False)
    shutil.rmtree(HERE, ignore_errors=True)
    HERE.mkdir(parents=True)


def main():
    started = time.monotonic()
    clean()
    try:
        print(f"{dict(dataset().sizes)} of air temperature, E1 scenario, North America")
        print(f"\nOne repository, {WORKERS} workers, each with a mount of its own:")
        wrote, committed = own_mounts()
        print("\nOne repository, one mount that all share:")
        shared_mount()
        picture(committed, wrote, HERE / "firn-demo.png")
    finally:
        for m in HERE.glob("mnt/*"):
            if os.path.ismount(m):
                subprocess.run(["fusermount3", "-u", "-z", m], check=False)
    print(f"\nDone in {time.monotonic() - started:.0f} s; the picture is build/demo/firn-demo.png")


if __name__ == "__main__":
    main()
