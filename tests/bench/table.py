"""Rows of figures, as lines of a table."""
import json
import statistics

HEAD = ("| what | firn | official | official / firn | plain directory | plain / firn | MB firn (+ driver) | MB official | MB plain "
        "| own MB, firn / official |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |")


def row_of(what, runs, key="seconds"):
    """Medians of the runs of each side; what is timed is under `key`."""
    row = {"what": what, "key": key, "runs": runs}
    for side, r in runs.items():
        times = [x[key] for x in r]
        row[side] = {"seconds": statistics.median(times), "min": min(times), "max": max(times),
                     "mb": statistics.median(x["mb"] for x in r)}
        if "driver_mb" in r[0]:
            row[side]["driver_mb"] = statistics.median(x["driver_mb"] for x in r)
    return row


def span(x):
    """The median, and between what."""
    if x["seconds"] >= 1:
        return f"{x['seconds']:.2f} s ({x['min']:.2f}-{x['max']:.2f})"
    digits = 0 if x["seconds"] >= 0.01 else 1
    return " ".join((f"{x['seconds'] * 1000:.{digits}f} ms", f"({x['min'] * 1000:.{digits}f}-{x['max'] * 1000:.{digits}f})"))


def memory(x):
    return f"{x['mb']:.0f}" + (f"+{x['driver_mb']:.0f}" if "driver_mb" in x else "")


def own(row, side):
    """Peak memory, less what the same program needs on a plain directory."""
    x = row[side]
    return max(0, x["mb"] + x.get("driver_mb", 0) - row.get("plain", {}).get("mb", 0))


def line(row):
    def against(side):
        return f"{row[side]['seconds'] / row['firn']['seconds']:.2f}x" if side in row else ""

    def cell(show, side):
        return show(row[side]) if side in row else ""

    cells = [row["what"], span(row["firn"]), cell(span, "official"), against("official"), cell(span, "plain"), against("plain"),
             memory(row["firn"]), cell(memory, "official"), cell(memory, "plain"),
             f"{own(row, 'firn') / own(row, 'official'):.2f}" if "official" in row and own(row, "official") else ""]
    return "| " + " | ".join(cells) + " |"


def compare(rows, earlier):
    """What each side takes, against an earlier run: a machine that is slower today is so for all of them."""
    then = {row["what"]: row for row in json.loads(earlier.read_text())["rows"]}
    print("\n| now / then | firn | official | plain directory |\n| --- | --- | --- | --- |")
    for row in rows:
        old = then.get(row["what"], {})
        cells = [f"{row[side]['seconds'] / old[side]['seconds']:.2f}" if side in row and side in old else ""
                 for side in ("firn", "official", "plain")]
        if old:
            print("| " + " | ".join([row["what"], *cells]) + " |")
