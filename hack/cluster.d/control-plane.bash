# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# The control plane, part of hack/cluster: four processes in a network namespace.

readonly control_plane=(etcd kube-apiserver kube-controller-manager kube-scheduler)
readonly etcd_url=http://127.0.0.1:2379

make_state() {
    [[ -d $state ]] || mkdir -m 700 "$state"
    make_pki
}

start_control_plane() {
    running etcd || start_etcd
    running kube-apiserver || start_apiserver
    wait_for_apiserver
    running kube-controller-manager || start_controller_manager
    running kube-scheduler || start_scheduler
}

stop_control_plane() {
    local name
    for name in kube-scheduler kube-controller-manager kube-apiserver etcd; do stop "$name"; done
}

# serve NAME PROGRAM ARG…
serve() {
    local name=$1
    shift
    say "starting $name"
    launch "$name" exec_detached nsenter --net="/run/netns/$(network_of control-plane)" "$@"
}

exec_detached() { exec setsid "$@"; }

start_etcd() {
    serve etcd "$debian/usr/bin/etcd" --name=crikpy --data-dir="$state/etcd" --log-level=warn --unsafe-no-fsync \
        --listen-client-urls="$etcd_url" --advertise-client-urls="$etcd_url" \
        --listen-peer-urls=http://127.0.0.1:2380 --initial-advertise-peer-urls=http://127.0.0.1:2380 \
        --initial-cluster=crikpy=http://127.0.0.1:2380
}

# Aggregator routing: webhooks are called at their Service's endpoints, for want of kube-proxy.
start_apiserver() {
    local pki=$state/pki
    serve kube-apiserver "$kubernetes/kube-apiserver" --etcd-servers="$etcd_url" \
        --bind-address=0.0.0.0 --secure-port=443 --advertise-address="$control_plane_address" \
        --service-cluster-ip-range="$service_network" --enable-aggregator-routing=true --allow-privileged=true \
        --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction \
        --default-not-ready-toleration-seconds=30 --default-unreachable-toleration-seconds=30 \
        --client-ca-file="$pki/ca.crt" --tls-cert-file="$pki/apiserver.crt" --tls-private-key-file="$pki/apiserver.key" \
        --kubelet-certificate-authority="$pki/ca.crt" --kubelet-preferred-address-types=InternalIP \
        --kubelet-client-certificate="$pki/apiserver-kubelet-client.crt" \
        --kubelet-client-key="$pki/apiserver-kubelet-client.key" \
        --service-account-issuer=https://kubernetes.default.svc \
        --service-account-key-file="$pki/service-account.pub" \
        --service-account-signing-key-file="$pki/service-account.key"
}

# A node that misses its heartbeats for 16 s is lost; nodes.bash says how often they are due.
start_controller_manager() {
    local pki=$state/pki
    serve kube-controller-manager "$kubernetes/kube-controller-manager" --bind-address=127.0.0.1 \
        --kubeconfig="$pki/controller-manager.kubeconfig" \
        --authentication-kubeconfig="$pki/controller-manager.kubeconfig" \
        --authorization-kubeconfig="$pki/controller-manager.kubeconfig" \
        --leader-elect=false --use-service-account-credentials=true \
        --node-monitor-period=2s --node-monitor-grace-period=16s --node-startup-grace-period=30s \
        --service-account-private-key-file="$pki/service-account.key" --root-ca-file="$pki/ca.crt" \
        --cluster-signing-cert-file="$pki/ca.crt" --cluster-signing-key-file="$pki/ca.key"
}

start_scheduler() {
    local pki=$state/pki
    serve kube-scheduler "$kubernetes/kube-scheduler" --bind-address=127.0.0.1 --leader-elect=false \
        --kubeconfig="$pki/scheduler.kubeconfig" \
        --authentication-kubeconfig="$pki/scheduler.kubeconfig" \
        --authorization-kubeconfig="$pki/scheduler.kubeconfig"
}

wait_for_apiserver() { wait_for 90 "the API server" answers; }

answers() {
    running kube-apiserver || die "the API server ended: $(tail -n 5 "$state/log/kube-apiserver.log")"
    kubectl --request-timeout=2s get --raw /readyz >/dev/null 2>&1
}

wait_until_usable() {
    wait_for 60 "the default service account" kubectl get serviceaccount default >"$work/wait.log" 2>&1
    wait_for 90 "both nodes to be Ready" all_ready
}

all_ready() {
    local ready
    ready=$(kubectl --request-timeout=2s get nodes \
        --output='jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}' 2>/dev/null |
        grep --count '^True$') || true
    [[ $ready -eq ${#nodes[@]} ]]
}
