#!/bin/sh
# Includes may only point downwards: to a lower rank, or within one's own folder.
rank () {
    case $1 in
        core/base/*) echo 0 ;; core/flat/*) echo 1 ;; core/format/*) echo 2 ;;
        core/store/*) echo 2 ;; core/zarr/*) echo 3 ;; core/repo/*) echo 4 ;; core/view/*) echo 5 ;;
        fs/*|tools/*) echo 6 ;; *) echo 9 ;;
    esac
}
bad=0
for f in $(find core fs tools -name '*.[ch]'); do
    for i in $(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f"); do
        a=$(dirname "$f") b=$(dirname "$i")
        [ "$a" = "$b" ] && continue
        [ "$(rank "$i")" -lt "$(rank "$f")" ] || { echo "$f must not include $i"; bad=1; }
    done
done
exit $bad
