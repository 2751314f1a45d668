# shellcheck shell=bash disable=SC2154 # hack/vm sets the rest
# One life of the machine, part of hack/vm: what it is given, its emulator, what comes back.

readonly memory=4G
readonly cpus=1 # more than one, emulated, can panic while the kernel patches its own code
readonly output_size=64G # of a sparse file

# run_machine TIMEOUT CPU INPUT OUTPUT CMD…: return what CMD returned.
run_machine() {
    local timeout=$1 cpu=$2 input=$3 output=$4 emulator copiers name status
    shift 4
    pack_payload "$input" "$@"
    [[ -z $output ]] || truncate --size="$output_size" "$work/output.tar"
    for name in stdout stderr; do mkfifo "$work/$name"; done
    cat "$work/stdout" &
    copiers=($!)
    cat "$work/stderr" >&2 &
    copiers+=($!)
    emulate "$timeout" "$cpu" "$output" &
    emulator=$!
    status=0
    wait "$emulator" || status=$?
    [[ $status -ne 124 && $status -ne 137 ]] || give_up 124 "the machine was killed after $timeout s"
    [[ -s $work/status ]] || give_up "$machine_failed" "the machine ended before the command did"
    wait "${copiers[@]}" || true # a reader that has seen enough is no fault
    [[ -z $output ]] || unpack_output "$output"
    return "$(<"$work/status")"
}

give_up() {
    sed 's/^/vm: console: /' <(tail -n 60 "$work/console") "$work/emulator.log" >&2
    say "$2"
    exit "$1"
}

# pack_payload INPUT CMD…: one archive, which the machine unpacks over its root.
pack_payload() {
    local input=$1 put=$work/put
    shift
    mkdir -p "$put/src" "$put/opt/crikpy/vm"
    obtain_criu "$put/opt/crikpy/criu"
    obtain_launcher "$put/opt/crikpy/launch"
    install -m 755 "$parts/guest-init" "$put/opt/crikpy/vm/init"
    cp "$parts/modules" "$put/opt/crikpy/vm/modules"
    printf '%s\0' "$@" >"$put/opt/crikpy/vm/command"
    (cd "$checkout" && checkout_files | tar --create --null --no-recursion --files-from=-) |
        tar --extract --directory="$put/src"
    tar --create --file="$work/payload.tar" --directory="$put" --numeric-owner --owner=0 --group=0 .
    [[ -z $input ]] || tar --append --file="$work/payload.tar" --directory="$input" --numeric-owner \
        --sparse --xattrs --xattrs-include='*' --transform='flags=r;s,^\.,./in,' .
    rm -r "$put"
}

# checkout_files: what git has, or would take, of the current folder; all of it where git is not.
checkout_files() {
    local file
    if git rev-parse --git-dir >/dev/null 2>&1; then
        git ls-files -z --cached --others --exclude-standard --deduplicate |
            while IFS= read -r -d '' file; do
                [[ ! -e $file && ! -L $file ]] || printf '%s\0' "$file"
            done
    else
        find . \( -name .git -o -name .venv -o -name __pycache__ \) -prune -o ! -type d -print0
    fi
}

obtain_criu() {
    local bundle=${CRIKPY_CRIU_BUNDLE:-}
    if [[ -z $bundle ]]; then
        bundle=${cache%/*}/criu # where hack/setup puts it too
        "$here/criu-bundle" "$bundle" 2>"$work/bundle.log" ||
            { cat "$work/bundle.log" >&2; die "no CRIU bundle"; }
    fi
    cp -a "$bundle" "$1"
}

obtain_launcher() {
    local launcher=${CRIKPY_CRIU_LAUNCHER:-}
    if [[ -z $launcher ]]; then
        launcher=$work/launcher/launch
        install_missing make make gcc gcc gcc libc6-dev
        make --silent -C "$checkout/daemonset/launcher" BUILD="$work/launcher" all >"$work/make.log" 2>&1 ||
            { cat "$work/make.log" >&2; die "the launcher does not build"; }
    fi
    install -m 755 "$launcher" "$1"
    install -m 644 "$(dirname -- "$launcher")"/*.so "$(dirname -- "$1")"
}

# emulate TIMEOUT CPU OUTPUT: QEMU, which ends with its watcher, which ends with this script.
emulate() {
    # shellcheck disable=SC2054  # the commas are QEMU's
    local arguments=(
        -nodefaults -no-user-config -display none -nic none -no-reboot
        -machine q35 -accel tcg,thread=multi -cpu "$2" -smp "$cpus" -m "$memory"
        -kernel "$debian/vmlinuz" -initrd "$debian/initrd"
        -append 'console=ttyS0 quiet panic=-1 mitigations=off random.trust_cpu=on'
        -serial "file:$work/console"
        -device virtio-serial-pci
    ) name
    add_disk root "$disk/root.ext4" snapshot=on
    add_disk payload "$work/payload.tar" read-only=on
    [[ -z $3 ]] || add_disk output "$work/output.tar" cache=unsafe
    for name in stdout stderr status; do
        arguments+=(-chardev "file,id=$name,path=$work/$name"
            -device "virtserialport,chardev=$name,name=crikpy.$name")
    done
    export TMPDIR=$work # what a machine writes to its root
    bounded "$1" qemu-system-x86_64 "${arguments[@]}" </dev/null 8>&- >"$work/emulator.log" 2>&1
}

# add_disk NAME FILE OPTION: add to the caller's arguments a disk that the machine knows as NAME.
add_disk() {
    arguments+=(-drive "id=$1,if=none,format=raw,file=$2,$3" -device "virtio-blk-pci,drive=$1,serial=$1")
}

unpack_output() {
    tar --extract --file="$work/output.tar" --directory="$1" --numeric-owner --same-owner \
        --xattrs --xattrs-include='*' || die "cannot unpack what the machine left in /out"
}
