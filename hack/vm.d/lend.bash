# shellcheck shell=bash
# Lend a tree what reaching the network takes on the machine that builds, part of hack/vm:
# mounts only, so that none of it is in the tree once the namespace is gone.

# lend_network TREE
lend_network() {
    local path
    mount -t proc proc "$1/proc"
    # Where pip and OpenSSL look for certificates, and pip for its settings.
    for path in /etc/ssl/certs /usr/share/ca-certificates /usr/local/share/ca-certificates; do
        lend "$1" "$path"
    done
    for path in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/xdg/pip "$HOME/.pip" "$HOME/.config/pip"; do
        lend "$1" "$path" "${path/#"$HOME"//root}"
    done
}

# lend TREE PATH [AS]: nothing, when this machine has no PATH.
lend() {
    local from=$2 as=$1${3:-$2}
    [[ -e $from ]] || return 0
    if [[ -d $from ]]; then mkdir -p "$as"; else mkdir -p "${as%/*}" && touch "$as"; fi
    mount --bind --options ro "$from" "$as"
}
