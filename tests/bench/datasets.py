"""xarray: opening many variables, writing a region."""
import warnings

from common import child_main, create_official, drop_caches, hwm, official, timed

VARIABLES = 200
REGIONS, STEPS, SIDE = 20, 5, 200       # 4 variables; a region is 5 steps of 200 x 200, a chunk of each


def many():
    import numpy as np
    import xarray as xr
    x = np.arange(40, dtype="f4").reshape(4, 10)
    return xr.Dataset({f"v{i:03}": (("time", "x"), x + i, {"units": "K"}) for i in range(VARIABLES)},
                      {"time": np.arange(4), "x": np.arange(10)})


def field(first, last):
    import numpy as np
    import xarray as xr
    data = np.full(((last - first) * STEPS, SIDE, SIDE), last, dtype="f4")
    return xr.Dataset({f"v{i}": (("time", "y", "x"), data) for i in range(4)},
                      {"time": np.arange(first * STEPS, last * STEPS), "y": np.arange(SIDE), "x": np.arange(SIDE)})


# ---- timed processes ----

def child_make(kind, path, consolidated="no"):
    """The group `many` filled, and `field` with its coordinates alone."""
    s = create_official(path).writable_session("main") if kind == "official" else None
    lazy = field(0, REGIONS).chunk(time=STEPS)
    for group, ds in ("many", many()), ("field", lazy):
        ds.to_zarr(s.store if s else path, group=group, mode="w", compute=group == "many", zarr_format=3,
                   consolidated=consolidated == "consolidated")
    if s:
        s.commit("datasets")
    return {}


def child_open(kind, path, state):
    import icechunk  # noqa: F401
    import xarray as xr

    def opened():
        store = official(path).readonly_session("main").store if kind == "official" else path
        return xr.open_zarr(store, group="many", **({"consolidated": False} if kind == "official" else {}))

    if state == "cold":
        drop_caches()
    seconds, ds = timed(opened)
    assert len(ds) == VARIABLES and float(ds.v007[0, 0]) == 7
    return {"seconds": seconds, "mb": hwm()}


def child_region(kind, path, k):
    """One region, of a store that is opened for it; what the official library's commit takes is told apart."""
    import dask.array  # noqa: F401
    import icechunk  # noqa: F401
    k = int(k)
    part = field(k, k + 1).drop_vars(["y", "x"])
    s = official(path).writable_session("main") if kind == "official" else None
    write = timed(lambda: part.to_zarr(s.store if s else path, group="field", region="auto", mode="r+", consolidated=False))[0]
    return {"written": write, "seconds": write + (timed(lambda: s.commit("region"))[0] if s else 0), "mb": hwm()}


# ---- the parts ----

def make(b):
    b.say(f"xarray: {VARIABLES} variables")
    plain, consolidated, theirs, ours = (b.dir / f"xarray-{x}" for x in ("plain", "consolidated", "theirs", "ours"))
    b.child("datasets", "make", "plain", plain)
    b.child("datasets", "make", "plain", consolidated, "consolidated")
    b.child("datasets", "make", "official", theirs)
    b.firn("init", ours)
    m = b.mount("x", ours)
    b.child("datasets", "make", "plain", m / "main")
    b.firn("commit", m, "-m", "datasets")
    b.umount(m)
    return plain, consolidated, theirs, ours


def opening(b):
    plain, consolidated, theirs, ours = b.fixture("xarray", make)
    for state in ("new mount", "cold") if b.can_drop_caches() else ("new mount",):
        def firn(rep):
            m = b.mount("x", "--read-only", ours)
            r = b.child("datasets", "open", "plain", m / "main", state) | {"driver_mb": b.driver_mb(m)}
            b.umount(m)
            return r

        runs = b.interleave(firn=firn, official=lambda rep: b.child("datasets", "open", "official", theirs, state),
                            plain=lambda rep: b.child("datasets", "open", "plain", plain, state),
                            consolidated=lambda rep: b.child("datasets", "open", "plain", consolidated, state))
        b.row(f"xarray open_zarr of {VARIABLES} variables, {state}", {k: runs[k] for k in ("firn", "official", "plain")})
        b.row(f"xarray open_zarr of {VARIABLES} variables, {state} (plain directory: with consolidated metadata)",
              {"firn": runs["firn"], "plain": runs["consolidated"]})


def region(b):
    plain, _, theirs, ours = b.fixture("xarray", make)
    m = b.mount("x", ours)

    def firn(rep):
        r = b.child("datasets", "region", "plain", m / "main", rep % REGIONS)
        commit = b.firn("commit", m, "-m", f"region {rep}")
        r["seconds"] += commit["seconds"]
        return r | {"mb": max(r["mb"], commit["mb"]), "driver_mb": b.driver_mb(m)}

    runs = b.interleave(firn=firn, official=lambda rep: b.child("datasets", "region", "official", theirs, rep % REGIONS),
                        plain=lambda rep: b.child("datasets", "region", "plain", plain, rep % REGIONS))
    b.umount(m)
    b.row('xarray to_zarr(region="auto"), not committed', runs, "written")
    b.row('xarray to_zarr(region="auto"), and commit', runs)


def short(b):
    opening(b)
    region(b)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    child_main(globals())
