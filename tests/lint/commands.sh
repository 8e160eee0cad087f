#!/bin/sh
# Every command and every option must be in the man page and in the completion.
cd "$(dirname "$0")/../.." || exit 1
bad=0
commands=$(sed -n 's/^\t{ "\([a-z]*\)", firn_cmd_.*/\1/p' tools/firn.c)
[ -n "$commands" ] || { echo "no command table in tools/firn.c"; exit 1; }

for c in $commands; do
    grep -q "^\.SS firn $c\b" tools/firn.1 || { echo "firn.1: no section for '$c'"; bad=1; }
    grep -q "^    \[$c\]=" tools/firn.bash || { echo "firn.bash: no entry for '$c'"; bad=1; }
    # The function's option table: "{ "long", 's' or 0, ...".
    file=$(grep -l "^firn_cmd_$c(" tools/cmd_*.c)
    options=$(sed -n "/^firn_cmd_$c(/,/^}/p" "$file" |
        sed -n "s/^[[:space:]]*{ \"\([a-z-]*\)\", \('\(.\)'\|0\),.*/\1 \3/p")
    section=$(sed -n "/^\.SS firn $c\$/,/^\.S[SH] /p" tools/firn.1 | sed 's/\\-/-/g')
    words=$(sed -n "s/^    \[$c\]=\"\(.*\)\"/ \1 /p" tools/firn.bash)
    while read -r long short; do
        [ -n "$long" ] || continue
        for o in "--$long" ${short:+"-$short"}; do
            printf '%s\n' "$section" | grep -qe "$o\b" ||
                { echo "firn.1: '$c' lacks $o"; bad=1; }
            case $words in *" $o "*) ;; *) echo "firn.bash: '$c' lacks $o"; bad=1 ;; esac
        done
    done <<END
$options
END
    # And the other way round: nothing that is not there.
    for o in $words; do
        case $o in --json|--help|-h) continue ;; --*) o=${o#--} ;; *) continue ;; esac
        printf '%s\n' "$options" | grep -q "^$o\b" ||
            { echo "firn.bash: '$c' has --$o, which is no option"; bad=1; }
    done
done
exit $bad
