# shellcheck shell=bash disable=SC2154 # hack/vm sets the rest
# The two disks of the machine and its kernel, part of hack/vm: built once, kept in the
# cache under a hash of all that they are made from, never written to by a machine.
#
#   root-KEY/   tree, root.ext4, vmlinuz, initrd   Debian and what CRIU and the tests ask of it
#   venv-KEY/   venv.ext4                          Python packages, and crikpy as an editable one
#
# The disks are apart since pyproject.toml changes often and the recipe of Debian seldom.

readonly suite=trixie
readonly root_size=24G # of a sparse file: room for jobs' files and for checkpoints
readonly keep_days=14

# make_images: set root_image and venv_image, building what is not there.
make_images() {
    local root_key venv_key
    install_missing qemu-system-x86_64 qemu-system-x86 mke2fs e2fsprogs python3 python3
    root_key=$(recipe_key)
    venv_key=$({ printf '%s' "$root_key"; cat "$parts/build-venv"; python_needs; } | key)
    root_image=$cache/root-$root_key
    venv_image=$cache/venv-$venv_key
    if [[ ! -d $root_image || ! -d $venv_image ]]; then
        exec 9>"$cache/.build"
        flock --timeout 900 9 || die "another hack/vm has been building for 15 minutes"
        prune
        [[ -d $root_image ]] || build_root
        [[ -d $venv_image ]] || build_venv
        exec 9>&-
    fi
    touch "$root_image" "$venv_image"
}

key() { sha256sum | cut -c1-16; }

recipe_key() { (cd "$parts" && cat build-root images.bash initrd-init packages initrd-modules) | key; }

# python_needs: the parts of pyproject.toml that decide what is installed.
python_needs() {
    python3 - "$checkout/pyproject.toml" <<'PYTHON'
import json, sys, tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)
groups = project["dependency-groups"]
print(json.dumps([project["build-system"], project["project"], groups["test"]], sort_keys=True))
PYTHON
}

# prune: images that no run has asked for in a long time.
prune() {
    find "$cache" -mindepth 1 -maxdepth 1 -type d -mtime "+$keep_days" -exec rm -rf --one-file-system {} +
}

build_root() {
    local fresh=$work/root mirror
    install_missing debootstrap debootstrap
    mirror=$(machine_mirror)
    [[ -n $mirror ]] || die "apt's sources name no Debian mirror; set CRIKPY_DEBIAN_MIRROR"
    say "building Debian $suite from $mirror, once: about a minute"
    mkdir "$fresh"
    apt-config dump Acquire >"$work/acquire"
    in_own_namespaces "$parts/build-root" "$fresh" "$suite" "$mirror" "$work/acquire"
    make_disk "$fresh/tree" "$fresh/root.ext4" "$root_size"
    mv -T "$fresh" "$root_image"
}

build_venv() {
    local fresh=$work/venv size
    say "installing the Python packages of pyproject.toml, once: about a minute"
    mkdir -p "$fresh/tree"
    in_own_namespaces "$parts/build-venv" "$root_image/tree" "$fresh/tree" "$checkout"
    size=$(du --summarize --block-size=1M "$fresh/tree" | cut -f1)
    make_disk "$fresh/tree" "$fresh/venv.ext4" "$((size * 2 + 256))M"
    rm -rf "$fresh/tree"
    mv -T "$fresh" "$venv_image"
}

# in_own_namespaces CMD…: what it mounts and starts ends with it. Its output is shown if it fails.
in_own_namespaces() {
    setpriv --pdeathsig KILL unshare --mount --propagation private --pid --fork --kill-child "$@" \
        </dev/null 8>&- 9>&- >"$work/log" 2>&1 &
    wait $! || {
        tail -n 40 "$work/log" >&2
        die "${1##*/} failed; its last words stand above"
    }
}

# make_disk TREE FILE SIZE: no journal, for no machine ever boots from it twice.
make_disk() {
    mke2fs -q -t ext4 -O '^has_journal' -E lazy_itable_init=1 -m 0 -i 65536 -d "$1" "$2" "$3" ||
        die "cannot make $2"
}

# install_missing (COMMAND PACKAGE)…: by the machine's apt, and only what it lacks.
install_missing() {
    local missing=()
    while [[ $# -gt 0 ]]; do
        [[ -n $(PATH=$PATH:/usr/sbin:/sbin type -P "$1") ]] || missing+=("$2")
        shift 2
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    say "installing ${missing[*]}"
    apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; } || {
        tail -n 20 "$work/apt.log" >&2
        die "cannot install ${missing[*]}"
    }
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false \
        --assume-yes "$@" </dev/null >"$work/apt.log" 2>&1
}

# machine_mirror: the URI whose pool/ holds the packages, as in hack/criu-bundle.
machine_mirror() {
    local uri=${CRIKPY_DEBIAN_MIRROR:-} codename
    if [[ -z $uri ]]; then
        # shellcheck source=/dev/null
        codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
        # shellcheck disable=SC2016  # apt's own placeholders
        uri=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
            awk -v release="$codename" '$1 == release && $2 == "main" { print $3; exit }')
    fi
    # Cloud images name a file that lists mirrors instead of a mirror.
    if [[ $uri == mirror+file:* ]]; then
        uri=$(awk '!/^#/ && NF { print $1; exit }' "/${uri##mirror+file:+(/)}")
    fi
    printf '%s\n' "${uri%/}"
}
shopt -s extglob
