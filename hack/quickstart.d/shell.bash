# The one shell in which a page's blocks are run: bash shell.bash PAGE VALUES BLOCK…
#
# PAGE is the page's name; VALUES a file that sets what --set gave; BLOCK a file with one block's commands, each in the
# line that it has on the page, so that bash names that line when one fails. A BLOCK whose name ends with .finally is
# run after a failure, too. Names here begin with quickstart_: all others are the page's.
# shellcheck shell=bash
set -Eeuo pipefail
quickstart_page=$1 quickstart_values=$2 quickstart_now='' quickstart_failed='' quickstart_began=0
quickstart_blocks=("${@:3}")
set --

quickstart_say() { printf '%s\n' "quickstart: $*" >&2; }

# quickstart_name FILE: as PAGE:LINE, by the first line that is not empty.
quickstart_name() { printf '%s:%s' "$quickstart_page" "$(grep -n -m 1 . "$1" | cut -d: -f1)"; }

quickstart_show() { sed -n '/./,$p' "$1" | sed 's/^/    /' >&2; }

quickstart_begin() {
    quickstart_now=$1 quickstart_began=$SECONDS
    quickstart_say "$(quickstart_name "$1")"
    quickstart_show "$1"
}

# quickstart_tidy: what is left to be run after a failure, whatever comes of it.
quickstart_tidy() {
    local block
    for block in "${quickstart_blocks[@]}"; do
        [[ $block == *.finally ]] || continue
        quickstart_say "tidying up: $(quickstart_name "$block")"
        # shellcheck disable=SC1090
        . "$block" || :
    done
}

quickstart_end() {
    local status=$?
    trap - EXIT ERR
    trap '' TERM
    [[ -n $quickstart_now ]] || return 0
    set +eu
    quickstart_say "FAILED with status $status after $((SECONDS - quickstart_began)) s: $(quickstart_name "$quickstart_now")${quickstart_failed:+, $quickstart_failed}"
    quickstart_show "$quickstart_now"
    quickstart_tidy
    exit 1
}

trap 'quickstart_failed="line $LINENO: $BASH_COMMAND"' ERR
trap quickstart_end EXIT
trap 'exit 143' TERM

# shellcheck disable=SC1090
. "$quickstart_values"
for quickstart_block in "${quickstart_blocks[@]}"; do
    quickstart_begin "$quickstart_block"
    # shellcheck disable=SC1090
    . "$quickstart_block"
    quickstart_now=''
    # shellcheck disable=SC1090
    . "$quickstart_values"
    quickstart_say "$(quickstart_name "$quickstart_block") took $((SECONDS - quickstart_began)) s"
done
