# shellcheck shell=bash disable=SC2154 # hack/images sets the rest
# What an image is made of, and the making, part of hack/images. The cache holds
#
#   archives/NAME-KEY.tar   an image; KEY is the hash of all that it is made from
#   crikpy-NAME.tar         the one that was asked for last; .oci.tar likewise
#   storage-KEY/            buildah's own: the base, and every image's layers; KEY is that of the base and of the date,
#                           since buildah does not mind of what date a layer is that it has
#
# A storage is given up after two weeks, so that Debian's and Python's updates come, and so that
# layers of long-changed sources do not pile up.

readonly build_seconds=900
readonly keep_days=14
readonly keep_archives=2

# inputs NAME: the files that its Dockerfile may see, folders whole.
inputs() {
    local python=(pyproject.toml README.md LICENSE crikpy daemonset/python/{packages,tools}.lock)
    local launcher=(daemonset/launcher/Makefile daemonset/launcher/{exits,launch,limits,sessions,tiles}.c)
    case $1 in
    agent)
        printf '%s\n' daemonset/Dockerfile "${python[@]}" "${launcher[@]}" \
            daemonset/criu/bundle.lock hack/criu-bundle
        ;;
    controller) printf '%s\n' controller/Dockerfile "${python[@]}" ;;
    launcher) printf '%s\n' daemonset/launcher/Dockerfile "${launcher[@]}" ;;
    esac
}

dockerfile() { inputs "$1" | head -n 1; }

# stage_context: a copy of all inputs, so that what is hashed is what is built, whatever is
# edited meanwhile; of one date, since buildah takes a file of another date for another file.
stage_context() {
    local paths
    mapfile -t paths < <(for name in "${all[@]}"; do inputs "$name"; done | sort -u)
    mkdir "$work/context"
    tar --create --directory="$checkout" --exclude=__pycache__ --mtime="@$date" --sort=name \
        --owner=0 --group=0 --mode=u=rwX,go=rX "${paths[@]}" | tar --extract --directory="$work/context"
    version=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' "$work/context/pyproject.toml")
    [[ -n $version ]] || die "pyproject.toml tells no version"
}

# image_key NAME
image_key() {
    local paths
    mapfile -t paths < <(inputs "$1")
    {
        printf '%s %s\n' "$version" "$(base_key)"
        cat "$parts/build-image" "$parts/building.bash" "$parts/forgetting.py" "$parts/lending.bash"
        cd "$work/context" || exit
        find "${paths[@]}" -type f -print0 | sort -z | xargs -0 sha256sum
    } | key
}

base_key() { { cat "$parts/build-base" && printf '%s ' "$suite" "$base" "$date"; } | key; }

# build_image NAME ARCHIVE; build's $ending says of which kind.
build_image() {
    local name=$1 archive=$2 began=$SECONDS storage
    storage=$cache/storage-$(base_key)
    install_missing buildah buildah debootstrap debootstrap
    exec 9>"$cache/.build"
    flock --timeout "$build_seconds" 9 || die "another hack/images has been building for $build_seconds s"
    if [[ ! -f $archive ]]; then
        prune "$name" "$ending"
        [[ -d $work/lent ]] || lend "$work/lent"
        [[ -f $storage/base ]] || build_base "$storage"
        say "building $name $version"
        in_own_namespaces "$parts/build-image" "$storage" "$work/context" "$work/lent" "$date" "$base" \
            "$(dockerfile "$name")" "ghcr.io/crikpy/$name:$version" "$work/image.$ending"
        mv "$work/image.$ending" "$archive"
        say "$name: $(du --si --apparent-size "$archive" | cut -f1)B in $((SECONDS - began)) s"
    fi
    exec 9>&-
}

# build_base STORAGE: debootstrap's Debian, as buildah's image `base`; of a base that is pulled, just its place.
build_base() {
    local mirror
    rm -rf --one-file-system "$1"
    if [[ -n $base ]]; then
        mkdir -p "$1"
        touch "$1/base"
        return
    fi
    mirror=$(machine_mirror)
    say "building Debian $suite from $mirror"
    in_own_namespaces "$parts/build-base" "$1" "$work/tree" "$suite" "$mirror" "$work/lent/apt.conf"
    rm -rf --one-file-system "$work/tree"
    touch "$1/base"
}

# prune NAME ENDING: what is outdated. The base's file is touched once, when it is made.
prune() {
    local old
    find "$cache" -mindepth 2 -maxdepth 2 -path '*/storage-*/base' -mtime "+$((keep_days - 1))" -printf '%h\0' |
        xargs -0r rm -rf --one-file-system
    find "$cache" -mindepth 1 -maxdepth 1 -name 'storage-*' ! -name "storage-$(base_key)" -mtime +1 \
        -exec rm -rf --one-file-system {} +
    while IFS= read -r old; do rm -f "$old"; done < <(
        find "$cache/archives" -name "$1-????????????????.$2" -printf '%T@ %p\n' | sort -rn |
            tail -n "+$keep_archives" | cut -d' ' -f2-
    )
}

# in_own_namespaces CMD…: what it mounts and starts ends with it. Its output is shown if it fails.
in_own_namespaces() {
    setpriv --pdeathsig TERM timeout --kill-after=3 "$build_seconds" setpriv --pdeathsig KILL \
        unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$@" \
        </dev/null 7>&- 8>&- 9>&- >"$work/log" 2>&1 &
    wait $! || {
        tail -n 40 "$work/log" >&2
        die "${1##*/} failed; its last words stand above"
    }
}
