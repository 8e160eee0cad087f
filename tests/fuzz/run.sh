#!/bin/bash
# make fuzz: the targets one after another, and tests/fuzz/RUNS.md, where what was run is added up.
# FUZZ_SECONDS (60) for each, FUZZ_ROUNDS (1) times, FUZZ_TARGETS (all).  Ended by a signal, what was run counts.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?usage: run.sh BUILD}
record=${FUZZ_RECORD:-tests/fuzz/RUNS.md}
all=$(cd tests/fuzz && printf '%s\n' fuzz-*.c | sed 's/^fuzz-//; s/\.c$//')
targets=${FUZZ_TARGETS:-$all}
log=$build/run-$$.log clock=$build/run-$$.times
running='' signalled='' found=''
say () { printf 'fuzz: %s\n' "$*" >&2; }
trap 'rm -f "$log" "$clock"' EXIT
trap 'signalled=1; [ -z "$running" ] || kill -TERM "$running" 2>/dev/null || :' INT TERM HUP

# Seconds of a processor that finished children used; not in a subshell, which has none.
used () {
    times >"$clock"
    seconds=$(sed -n 2p "$clock" | tr 'ms' '  ' | awk '{ printf "%d", $1 * 60 + $2 + $3 * 60 + $4 + 0.5 }')
}

# TARGET SECONDS-BY-THE-CLOCK SECONDS-OF-A-PROCESSOR EXECUTIONS FINDINGS, added to its row.
add () {
    {
        flock 9
        rows=$(grep '^| `' "$record" 2>/dev/null | tr -d '|`' || :)
        {
            printf '%s\n' '# What was fuzzed' '' \
                "Written by \`make fuzz\`, which adds to it: how long each target ran (h:mm:ss), how much of that it had a processor (others" \
                "ran beside it), executions, and what they found, since the target or what it decodes was last changed in a way that" \
                "matters. Who changes it so takes its row out." '' \
                '| target | since | ran | had a processor | executions | findings |' '| --- | --- | ---: | ---: | ---: | ---: |'
            printf '%s\n' "$rows" "+ $1 $(date -u +%F) $2 $3 $4 $5" | awk '
                function add(name, date, wall, cpu, runs, findings) {
                    if (!(name in since)) since[name] = date
                    w[name] += wall; c[name] += cpu; n[name] += runs; f[name] += findings
                }
                function seconds(text) { split(text, t, ":"); return t[1] * 3600 + t[2] * 60 + t[3] }
                function hours(s) { return sprintf("%d:%02d:%02d", int(s / 3600), int(s / 60) % 60, s % 60) }
                $1 == "+" { add($2, $3, $4, $5, $6, $7); next }
                NF == 6 { add($1, $2, seconds($3), seconds($4), $5, $6) }
                END { for (i in since) printf "| `%s` | %s | %s | %s | %.0f | %d |\n", i, since[i], hours(w[i]), hours(c[i]),
                          n[i], f[i] }' | LC_ALL=C sort
        } >"$record.new"
        mv "$record.new" "$record"
    } 9>"$build/record.lock"
}

# libFuzzer counts by the clock, also while others have the processors: whether a timeout is none.
starved () { # TARGET INPUT
    case $2 in *-timeout-*) (ulimit -t 10; "$build/tests/fuzz/fuzz-$1" -timeout=0 "$2" >/dev/null 2>&1) ;; *) false ;; esac
}

run () { # TARGET
    local before began=$SECONDS runs wrote code=0
    mkdir -p "$build/corpus-fuzz-$1"
    used
    before=$seconds
    "$build/tests/fuzz/fuzz-$1" -max_total_time="${FUZZ_SECONDS:-60}" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
        -artifact_prefix="$build/fuzz-$1-" "$build/corpus-fuzz-$1" "tests/fuzz/corpus/$1" >"$log" 2>&1 &
    running=$!
    wait "$running" || code=$?
    # A signal ends the waiting, not the target.
    while kill -0 "$running" 2>/dev/null; do
        code=0
        wait "$running" || code=$?
    done
    running=''
    used
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    if [ -z "$runs" ]; then
        cat "$log" >&2
        say "$1 ended with $code and said nothing of what it ran"
        exit 1
    fi
    wrote=$(sed -nE 's/.*Test unit written to (.*-(crash|leak|timeout|oom)-[0-9a-f]+)$/\1/p' "$log")
    if [ -n "$wrote" ] && starved "$1" "$wrote"; then
        say "$1: $wrote only waited for a processor"
        rm "$wrote"
        add "$1" $((SECONDS - began)) $((seconds - before)) "$runs" 0
    elif [ -n "$wrote" ]; then
        cat "$log" >&2
        found="$found $1"
        add "$1" $((SECONDS - began)) $((seconds - before)) "$runs" 1
    else
        [ "$code" = 0 ] || [ -n "$signalled" ] || { cat "$log" >&2; say "$1 ended with $code"; exit 1; }
        add "$1" $((SECONDS - began)) $((seconds - before)) "$runs" 0
    fi
    say "$1: $runs executions$(sed -n 's/^#[0-9]*\tDONE *\(cov: [0-9]*\).*/, \1/p' "$log")"
}

for ((round = 0; round < ${FUZZ_ROUNDS:-1}; round++)); do
    for target in $targets; do
        case " $found " in *" $target "*) continue ;; esac # it would find the same again
        run "$target"
        [ -z "$signalled" ] || break 2
    done
done
[ -z "$found" ] || { say "found something:$found"; exit 1; }
