# shellcheck shell=bash disable=SC2154 # hack/vm sets the rest
# The disk of the machine and its kernel, part of hack/vm: built once, kept in the cache
# under a hash of all that they are made from, never written to by a machine.
#
#   debian-KEY/  tree, vmlinuz, initrd   Debian and what CRIU and the tests ask of it
#   disk-KEY/    root.ext4               that, with Python packages and crikpy, editable, in /opt/venv
#
# In two steps, since pyproject.toml changes often and the recipe of Debian seldom; on one
# disk, since jobs' containers lay overlays on the root and have to see the packages too.

readonly suite=trixie
readonly build_seconds=600
readonly keep_days=14

# make_images: set debian and disk to their folders, building what is not there.
make_images() {
    local debian_key disk_key
    install_missing qemu-system-x86_64 qemu-system-x86 mke2fs e2fsprogs python3 python3
    debian_key=$(recipe | key)
    disk_key=$({ recipe; cat "$parts/build-venv" "$parts/build-disk"; python_needs; } | key)
    debian=$cache/debian-$debian_key
    disk=$cache/disk-$disk_key
    if [[ ! -d $debian || ! -d $disk ]]; then
        exec 9>"$cache/.build"
        flock --timeout 900 9 || die "another hack/vm has been building for 15 minutes"
        prune
        [[ -d $debian ]] || build_debian
        [[ -d $disk ]] || build_disk
        exec 9>&-
    fi
    touch "$debian" "$disk"
}

key() { sha256sum | cut -c1-16; }

recipe() { (cd "$parts" && cat build-debian lend.bash initrd-init packages initrd-modules) && printf '%s' "$suite"; }

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

build_debian() {
    local fresh=$work/debian mirror
    install_missing debootstrap debootstrap
    mirror=$(machine_mirror)
    [[ -n $mirror ]] || die "apt's sources name no Debian mirror; set CRIKPY_DEBIAN_MIRROR"
    say "building Debian $suite from $mirror, once: about a minute"
    mkdir "$fresh"
    apt-config dump Acquire >"$work/acquire"
    in_own_namespaces "$parts/build-debian" "$fresh" "$suite" "$mirror" "$work/acquire"
    mv -T "$fresh" "$debian"
}

build_disk() {
    local fresh=$work/disk
    say "installing the Python packages of pyproject.toml, once: about a minute"
    mkdir -p "$fresh" "$work/venv"
    in_own_namespaces "$parts/build-venv" "$debian/tree" "$work/venv" "$checkout"
    in_own_namespaces "$parts/build-disk" "$debian/tree" "$work/venv" "$fresh/root.ext4"
    mv -T "$fresh" "$disk"
}

# in_own_namespaces CMD…: what it mounts and starts ends with it. Its output is shown if it fails.
in_own_namespaces() {
    bounded "$build_seconds" unshare --mount --propagation private --pid --fork --kill-child "$@" \
        </dev/null 8>&- 9>&- >"$work/log" 2>&1 &
    wait $! || {
        tail -n 40 "$work/log" >&2
        die "${1##*/} failed; its last words stand above"
    }
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
