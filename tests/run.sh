#!/bin/bash
# Everything `make test` runs, in order; stops at the first part that fails and ends with counts.
# VARIANTS="asan" leaves out others; PYTEST adds arguments to every pytest run.
set -euo pipefail
cd "$(dirname "$0")/.."
jobs=$(nproc)
unset MAKEFLAGS MAKELEVEL MFLAGS # a make of its own, with as many jobs as it likes
started=$SECONDS
part () { printf '\n== %s (%d s)\n' "$*" $((SECONDS - started)); }
die () { echo "make test: $*" >&2; exit 1; }
summary=()

# What the runs of Check wrote: "100%: Checks: 12, Failures: 0, Errors: 0".
units () {
    local n
    n=$(cat build/"$1"/tests/unit/test-*.log 2>/dev/null | sed -n 's/^[0-9]*%: Checks: \([0-9]*\),.*/\1/p' |
        awk '{ n += $1 } END { print n + 0 }')
    [ "$n" -gt 0 ] || die "no unit test ran in variant $1"
    summary+=("$(printf '%-28s %6d unit tests passed' "$1" "$n")")
}
run_pytest () { # VARIANT NAME ARGUMENTS...
    local variant=$1 name=$2 log
    shift 2
    log=build/$variant/pytest-$name.log
    FIRN_BUILD=build/$variant build/venv/bin/python -m pytest -n "$jobs" --dist worksteal -q "$@" ${PYTEST:-} 2>&1 |
        tee "$log"
    summary+=("$(printf '%-28s %s' "$variant, $name" "$(tail -1 "$log")")")
}

[ -c /dev/fuse ] || die "there is no /dev/fuse: run where FUSE is allowed (modprobe fuse; containers: --device /dev/fuse --cap-add SYS_ADMIN)"
part setup
make -s setup fuse
build/venv/bin/python -c 'import icechunk' 2>/dev/null ||
    die "needs Python >= 3.12 for the official Icechunk library: install python3.12 and python3.12-venv (or pyenv install 3.12), then run make setup"

for variant in release ${VARIANTS-asan tsan}; do
    part "unit tests and fuzz corpus, $variant"
    make -s VARIANT="$variant" check programs
    units "$variant"
done
make -s VARIANT=release benchmarks # run by hand only, built whenever the library changes
summary+=("$(printf '%-28s %6d files replayed' 'fuzz corpus, each variant' "$(find tests/fuzz/corpus -type f | wc -l)")")
part "mounts with the tools people use"
run_pytest release interop
for variant in ${VARIANTS-asan tsan}; do
    part "mounts, $variant build"
    run_pytest "$variant" sanitize -m sanitize
done

printf '\n== all passed in %d s\n' $((SECONDS - started))
printf '%s\n' "${summary[@]}"
