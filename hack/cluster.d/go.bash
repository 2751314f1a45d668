# shellcheck shell=bash disable=SC2034,SC2154 # whoever takes this in shares names
# A Go compiler, part of hack/cluster; hack/metadata-mock and hack/helm take from it, too.

readonly oldest_go=1.24

# find_go: set go to one that is new enough: the machine's own, or else Debian 13's.
find_go() {
    local candidate folder
    for candidate in go /usr/local/go/bin/go /usr/lib/go/bin/go; do
        go=$(type -P "$candidate") && is_new_enough && return
    done
    folder=$cache/go-$(printf '%s\n' "$suite" "${go_packages[@]}" | key)
    unpacked "$folder" "${go_packages[@]}"
    go=$folder/usr/lib/go-$oldest_go/bin/go
    is_new_enough || die "$go does not work"
}

# build_pinned FILE NAME MODULE OPTION…: build $package, of the MODULE that $parts/go.mod and go.sum pin, with these
# options; FILE.source tells of what FILE was made, so that nothing is done when it is right.
build_pinned() {
    local file=$1 name=$2 module=$3 source
    shift 3
    source=$({ cat "$parts"/go.{mod,sum}; printf '%s\n' "$@"; } | key)
    [[ -x $file && -f $file.source && $(cat "$file.source") == "$source" ]] && return
    mkdir -p "$cache" "$(dirname -- "$file")"
    work=$(mktemp -d "$cache/work.XXXXXX")
    find_go
    say "building $name $(pinned_version "$module") with $(GOTOOLCHAIN=local "$go" env GOVERSION), once"
    (cd "$parts" && GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 "$go" build "$@" -o "$work/built" "$package") \
        >"$work/build.log" 2>&1 || die "it does not build: $(tail -n 20 "$work/build.log")"
    rm -f "$file.source"
    mv -T "$work/built" "$file"
    printf '%s\n' "$source" >"$file.source"
}

# pinned_version MODULE: that of $parts/go.mod.
pinned_version() { sed -n "s|^\(require\)\{0,1\}[[:space:]]*$1 \(v[0-9.]*\).*\$|\2|p" "$parts/go.mod"; }

is_new_enough() {
    local version
    version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || return
    printf '%s\n' "$oldest_go" "${version#go}" | sort --version-sort --check=silent
}
