# shellcheck shell=bash
# Nodes' cgroups, part of hack/cluster: a node has its own below the root of every hierarchy,
# of version 1, of version 2 and of hosts that have both; inside, it takes that for the root.

# hierarchies: "MOUNTPOINT TYPE OPTIONS" of each, with what a mount of it takes for options.
hierarchies() {
    findmnt --raw --noheadings --types cgroup,cgroup2 --output TARGET,FSTYPE,FS-OPTIONS |
        awk -v known="$(awk '!/^#/ { print $1 }' /proc/cgroups | paste -sd,)" '
            BEGIN { split(known, list, ","); for (i in list) controller[list[i]] }
            $1 !~ "^/sys/fs/cgroup" || seen[$1]++ { next }
            $2 == "cgroup2" { print $1, $2, "rw"; next }
            {
                options = ""
                split($3, list, ",")
                for (i = 1; i in list; i++) {
                    if (list[i] in controller) options = options "," list[i]
                    if (list[i] ~ /^name=/) options = options ",none," list[i]
                }
                print $1, $2, substr(options, 2)
            }'
}

# has_only_v2: processes may then only be in leaves, and controllers are handed down by name.
has_only_v2() { [[ -f /sys/fs/cgroup/cgroup.controllers ]]; }

# make_cgroups NODE
make_cgroups() {
    local mountpoint folder file
    while read -r mountpoint _; do
        folder=$mountpoint/crikpy-$1
        mkdir -p "$folder"
        for file in cpuset.cpus cpuset.mems; do
            [[ $mountpoint == /sys/fs/cgroup || ! -f $folder/$file ]] || cat "$mountpoint/$file" >"$folder/$file"
        done
    done < <(hierarchies)
    if has_only_v2; then
        hand_down_controllers /sys/fs/cgroup
        mkdir -p "/sys/fs/cgroup/crikpy-$1/init"
    fi
}

# hand_down_controllers CGROUP: those that it has, to its children.
hand_down_controllers() {
    local controller
    for controller in $(<"$1/cgroup.controllers"); do
        printf '+%s' "$controller" 2>/dev/null >"$1/cgroup.subtree_control" || true
    done
}

# join_cgroups NODE [LEAF]: this very shell.
join_cgroups() {
    local mountpoint
    while read -r mountpoint _; do
        printf '%s' "$BASHPID" >"$mountpoint/crikpy-$1${2:+/$2}/cgroup.procs"
    done < <(hierarchies)
}

# remove_cgroups NODE: those that are empty; 1 if there are others.
remove_cgroups() {
    local mountpoint left=0
    while read -r mountpoint _; do
        [[ -d $mountpoint/crikpy-$1 ]] || continue
        find "$mountpoint/crikpy-$1" -depth -type d -exec rmdir {} + 2>/dev/null || left=1
    done < <(hierarchies)
    return "$left"
}

# mount_cgroups TREE: for a process in a cgroup namespace of its own, below TREE.
mount_cgroups() {
    local mountpoint type options link
    if ! has_only_v2; then
        mount -t tmpfs -o mode=755,nosuid,nodev,noexec tmpfs "$1/sys/fs/cgroup"
        for link in /sys/fs/cgroup/*; do
            [[ ! -L $link ]] || cp --no-dereference "$link" "$1/sys/fs/cgroup"
        done
    fi
    while read -r mountpoint type options; do
        mkdir -p "$1$mountpoint"
        mount -t "$type" -o "$options" cgroup "$1$mountpoint"
    done < <(hierarchies)
}
