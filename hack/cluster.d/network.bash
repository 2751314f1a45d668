# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# The network, part of hack/cluster: one namespace each for the control plane and the nodes,
# on a bridge in the control plane's. The machine itself hangs on it by a veth pair, and
# nothing forwards between that and its other interfaces.

readonly node_network=10.77.0 pod_networks=10.88
readonly control_plane_address=$node_network.1 host_address=$node_network.254
readonly service_network=10.96.0.0/16 service_address=10.96.0.1
readonly host_link=crikpy-host

network_of() { printf 'crikpy-%s\n' "${1/#control-plane/cp}"; }
address_of() { printf '%s.1%s\n' "$node_network" "${1#n}"; }
pods_of() { printf '%s.%s.0/24\n' "$pod_networks" "${1#n}"; }

make_network() {
    local node
    make_namespace control-plane
    make_bridge
    connect_host
    for node in "${nodes[@]}"; do
        make_namespace "$node"
        inside "$node" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    done
}

# make_namespace PLACE
make_namespace() {
    local name
    name=$(network_of "$1")
    [[ -e /run/netns/$name ]] || ip netns add "$name"
    ip -n "$name" link set lo up
}

# Without kube-proxy, the API server itself listens on the "kubernetes" service's address.
# The bridge has a hardware address of its own: else it takes the lowest of its ports', another one when a node is
# cut off, and whoever remembers the old one finds no API server for half a minute.
make_bridge() {
    has_link control-plane br0 || ip -n crikpy-cp link add br0 address 02:00:0a:4d:00:01 type bridge
    ip -n crikpy-cp address replace "$control_plane_address/24" dev br0
    ip -n crikpy-cp address replace "$service_address/32" dev lo
    ip -n crikpy-cp link set br0 up
}

connect_host() {
    local node taken
    taken=$({ ip route show root "$node_network.0/24"; ip route show root "$pod_networks.0.0/16"; } |
        grep --invert-match " dev $host_link ") || true
    [[ -z $taken ]] || die "this machine has another use for the cluster's addresses: $taken"
    has_link control-plane host || ip link add "$host_link" type veth peer name host netns crikpy-cp
    ip -n crikpy-cp link set host master br0 up
    ip address replace "$host_address/24" dev "$host_link"
    ip link set "$host_link" up
    for node in "${nodes[@]}"; do ip route replace "$(pods_of "$node")" via "$(address_of "$node")"; done
}

# connect_node NODE: with the same hardware address every time, so that no neighbour is misled.
connect_node() {
    local node=$1 name other
    name=$(network_of "$node")
    has_link "$node" eth0 ||
        ip -n "$name" link add eth0 address "02:00:0a:4d:00:1${node#n}" type veth peer name "$node" netns crikpy-cp
    ip -n crikpy-cp link set "$node" master br0 up
    ip -n "$name" address replace "$(address_of "$node")/24" dev eth0
    ip -n "$name" link set eth0 up
    ip -n "$name" route replace default via "$control_plane_address"
    ip -n crikpy-cp route replace "$(pods_of "$node")" via "$(address_of "$node")"
    for other in "${nodes[@]}"; do
        [[ $other == "$node" ]] ||
            ip -n "$name" route replace "$(pods_of "$other")" via "$(address_of "$other")"
    done
}

# disconnect_node NODE: the cable first, so that no peer hears of the processes' death.
disconnect_node() {
    ip -n crikpy-cp link delete "$1" 2>/dev/null || true
}

remove_network() {
    local place
    for place in "${nodes[@]}" control-plane; do
        [[ ! -e /run/netns/$(network_of "$place") ]] || ip netns delete "$(network_of "$place")"
    done
    # Namespaces, and with them veth pairs, are taken down some time after.
    ip link delete "$host_link" 2>/dev/null || true
}

# has_link PLACE INTERFACE
has_link() { inside "$1" test -e "/proc/sys/net/ipv4/conf/$2"; }

# inside PLACE CMD…: in its network alone.
inside() {
    local place=$1
    shift
    nsenter --net="/run/netns/$(network_of "$place")" "$@"
}

exec_in_network() {
    local place=$1
    shift
    [[ -e /run/netns/$(network_of "$place") ]] || die "there is no cluster; hack/cluster up makes one"
    exec nsenter --net="/run/netns/$(network_of "$place")" "$@"
}
