# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# Images that need no registry, part of hack/cluster: built once, and kept in the cache
# under a hash of what they are made from.

readonly pause_image=crikpy.test/pause:1
readonly job_image=crikpy.test/job:1 # Debian with Python, sh, cat and sleep
readonly build_seconds=600

# obtain_images: set own_images to their archives, building those that are not there.
obtain_images() {
    local pause job
    pause=$cache/images/pause-$(cat "$parts"/images/pause.c "$parts"/images/pack.py | key).tar
    job=$cache/images/job-$({ cat "$parts"/images/{build-job,pack.py}; printf '%s' "$suite"; } | key).tar
    mkdir -p "$cache/images"
    [[ -f $pause ]] || build_pause "$pause"
    [[ -f $job ]] || build_job "$job"
    own_images=("$pause" "$job")
}

build_pause() {
    install_missing gcc gcc
    [[ -f /usr/include/stdlib.h ]] || { apt_get update && apt_get install libc6-dev; } || die "cannot install libc6-dev"
    mkdir "$work/pause"
    gcc -Os -static -s -o "$work/pause/pause" "$parts/images/pause.c"
    pack "$work/pause" "$1" "$pause_image" /pause
}

build_job() {
    install_missing debootstrap debootstrap
    say "building $job_image from Debian $suite, once: about a minute"
    mkdir "$work/job"
    apt-config dump Acquire >"$work/acquire"
    # What it mounts and starts ends with it.
    timeout --kill-after=5 "$build_seconds" unshare --mount --propagation private --pid --fork --kill-child \
        "$parts/images/build-job" "$work/job" "$suite" "$(machine_mirror)" "$work/acquire" \
        </dev/null >"$work/job.log" 2>&1 || die "$job_image does not build: $(tail -n 20 "$work/job.log")"
    pack "$work/job" "$1" "$job_image"
}

# pack TREE ARCHIVE NAME [ENTRYPOINT…]: the same bytes for the same tree.
pack() {
    local tree=$1 archive=$2
    shift 2
    tar --create --file="$work/layer.tar" --directory="$tree" --sort=name --mtime=@0 --numeric-owner \
        --format=posix --pax-option=delete=atime,delete=ctime .
    python3 "$parts/images/pack.py" "$work/layer.tar" "$work/image.tar" "$@"
    mv "$work/image.tar" "$archive"
    rm -rf --one-file-system "$tree" "$work/layer.tar"
}
