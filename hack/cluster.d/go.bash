# shellcheck shell=bash disable=SC2034,SC2154 # whoever takes this in shares names
# A Go compiler, part of hack/cluster (hack/metadata-mock takes from it, too).

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

is_new_enough() {
    local version
    version=$(GOTOOLCHAIN=local "$go" env GOVERSION 2>/dev/null) || return
    printf '%s\n' "$oldest_go" "${version#go}" | sort --version-sort --check=silent
}
