#!/bin/sh
# Every option of the driver must be in its --help text and in its man page.
cd "$(dirname "$0")/../.." || exit 1
bad=0
help=$(sed -n '/^const char firn_options_usage/,/;$/p' fs/options.c)
page=$(sed 's/\\-/-/g' fs/firnfs.1)
options=$(sed -n 's/^	\(STRING\|FLAG\|FUSE_OPT_KEY\)("\([^"]*\)", \(.*\)),$/\2 \3/p' fs/options.c |
    grep -v KEY_IGNORE | sed 's/ .*//; s/%s$//')
[ -n "$options" ] || { echo "no option table in fs/options.c"; exit 1; }
for o in $options; do
    case $o in read_only|default_permissions|debug|--*) continue ;; esac
    printf '%s\n' "$help" | grep -qe "[ ,]$o" || { echo "firnfs --help lacks $o"; bad=1; }
    printf '%s\n' "$page" | grep -qe "[ \"]$o" || { echo "firnfs.1 lacks $o"; bad=1; }
done
exit $bad
