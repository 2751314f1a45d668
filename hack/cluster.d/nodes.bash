# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# Nodes, seen from outside, part of hack/cluster: machines made of namespaces, whose init is
# node-init and whose root is a folder below the state.

readonly zone=eu-test-1a instance_type=m7i.large

root_of() { printf '%s\n' "$state/nodes/$1/root"; }
provider_id() { printf 'aws:///%s/i-0123456789abcdef%s\n' "$zone" "${1#n}"; }

start_node() {
    ! running "node-$1" || return 0
    say "starting $1"
    connect_node "$1"
    make_cgroups "$1"
    furnish "$1"
    launch "node-$1" boot "$1"
}

# boot NODE: become, in the end, the parent of the node's init, which dies with it.
boot() {
    local node=$1
    join_cgroups "$node"
    # The cgroup namespace's root is where its maker was; with version 2 only leaves may be lived in.
    # shellcheck disable=SC2016  # that shell expands it
    exec setsid nsenter --net="/run/netns/$(network_of "$node")" unshare --cgroup bash -c '
        . "$1"
        ! has_only_v2 || printf "%s" "$$" >"/sys/fs/cgroup/crikpy-$2/init/cgroup.procs"
        shift 2
        exec "$@"' - "$parts/cgroups.bash" "$node" \
        unshare --mount --uts --ipc --pid --fork --kill-child \
        "$parts/node-init" "$node" "$(root_of "$node")" "$debian" "$kubernetes" \
        --node-ip="$(address_of "$node")" \
        "--node-labels=topology.kubernetes.io/zone=$zone,topology.kubernetes.io/region=${zone%[a-z]},node.kubernetes.io/instance-type=$instance_type"
}

# furnish NODE: what it finds on its disk when it starts; what it has put there itself stays.
furnish() {
    local node=$1 root file
    root=$(root_of "$node")
    mkdir -p "$root"/{dev,opt,proc,root,run,sys,tmp,var/{log,tmp}} \
        "$root"/etc/{cni/net.d,containerd,kubernetes} "$root"/var/lib/{containerd,kubelet}
    chmod 1777 "$root"/{tmp,var/tmp}
    ln -sfn ../run "$root/var/run"
    for file in alternatives group ld.so.cache ld.so.conf ld.so.conf.d nsswitch.conf os-release passwd protocols services; do
        [[ -e $root/etc/$file || ! -e /etc/$file ]] || cp -a "/etc/$file" "$root/etc"
    done
    : >"$root/etc/resolv.conf"
    for file in "${nodes[@]}"; do printf '%s %s\n' "$(address_of "$file")" "$file"; done |
        cat - <(printf '127.0.0.1 localhost\n') >"$root/etc/hosts"
    [[ -f $root/etc/machine-id ]] || tr -d - </proc/sys/kernel/random/uuid >"$root/etc/machine-id"
    cp "$state/pki/ca.crt" "$root/etc/kubernetes/ca.crt"
    cp "$state/pki/$node.crt" "$root/etc/kubernetes/kubelet.crt"
    cp "$state/pki/$node.key" "$root/etc/kubernetes/kubelet.key"
    cp "$state/pki/$node.kubeconfig" "$root/etc/kubernetes/kubeconfig"
    fill_in "$node" kubelet.yaml >"$root/etc/kubernetes/kubelet.yaml"
    fill_in "$node" containerd.toml >"$root/etc/containerd/config.toml"
    fill_in "$node" network.conflist >"$root/etc/cni/net.d/10-crikpy.conflist"
}

# fill_in NODE TEMPLATE
fill_in() {
    sed -e "s|@ADDRESS@|$(address_of "$1")|" -e "s|@PROVIDER_ID@|$(provider_id "$1")|" \
        -e "s|@PODS@|$(pods_of "$1")|" -e "s|@PAUSE_IMAGE@|$pause_image|" -e "s|@RUNC@|$(type -P runc)|" "$parts/$2"
}

# crash_node NODE: its disk stays, and so does its network namespace, for what tests have put there.
crash_node() {
    disconnect_node "$1"
    stop "node-$1"
    wait_for 30 "the processes of $1 to end" remove_cgroups "$1"
    if [[ -e /run/netns/$(network_of "$1") ]]; then
        inside "$1" ip link delete cni0 2>/dev/null || true
    fi
}

# init_of NODE: its init's pid, as this machine counts.
init_of() {
    running "node-$1" || die "$1 is down"
    wait_for 10 "the init of $1" has_child "$(pid_of "node-$1")"
    tr -d ' ' <"/proc/$(pid_of "node-$1")/task/$(pid_of "node-$1")/children"
}

has_child() { [[ -n $(cat "/proc/$1/task/$1/children" 2>/dev/null) ]]; }

# exec_in_node NODE CMD…: in the place of this shell; CMD ends when this process is ended.
exec_in_node() {
    local node=$1 init leaf=''
    shift
    init=$(init_of "$node")
    wait_for 15 "the root of $node" test -e "/proc/$init/root/run/booted"
    ! has_only_v2 || leaf=init
    join_cgroups "$node" "$leaf"
    exec nsenter --target "$init" --mount --uts --ipc --net --pid --cgroup --root --wd \
        env -u TMPDIR HOME=/root PATH="$node_path" setpriv --pdeathsig KILL "$@"
}

readonly node_path=/opt/debian/usr/bin:/opt/kubernetes:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# load_image NODE ARCHIVE
load_image() {
    say "loading ${2##*/} into $1"
    (exec_in_node "$1" ctr --namespace=k8s.io images import -) <"$2" >/dev/null ||
        die "$1 does not take $2"
}

# load_own_images: into all nodes at the same time.
load_own_images() {
    local node archive loads=()
    for node in "${nodes[@]}"; do
        {
            wait_for 30 "containerd of $node" containerd_answers "$node"
            for archive in "${own_images[@]}"; do
                has_image "$node" "$archive" && continue
                load_image "$node" "$archive"
                mkdir -p "$state/nodes/$node/images"
                touch "$state/nodes/$node/images/${archive##*/}"
            done
        } &
        loads+=($!)
    done
    for node in "${loads[@]}"; do wait "$node"; done
}

containerd_answers() { (exec_in_node "$1" ctr version) >/dev/null 2>&1; }

# has_image NODE ARCHIVE: loaded from this very archive, whose name has a hash of what it is made of.
has_image() { [[ -e $state/nodes/$1/images/${2##*/} ]]; }
