# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# Certificates and kubeconfigs, part of hack/cluster: a CA for this cluster's life alone.

# make_pki: into $state/pki, and the administrator's kubeconfig.
make_pki() {
    local node
    [[ ! -f $admin ]] || return 0
    mkdir -p "$state/pki"
    make_ca
    make_service_account_key
    make_certificate apiserver /CN=kube-apiserver \
        "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,DNS:localhost,IP:127.0.0.1,IP:$control_plane_address,IP:$service_address"
    make_certificate apiserver-kubelet-client /O=system:masters/CN=kube-apiserver-kubelet-client
    make_certificate controller-manager /CN=system:kube-controller-manager
    make_certificate scheduler /CN=system:kube-scheduler
    make_certificate admin /O=system:masters/CN=admin
    for node in "${nodes[@]}"; do
        make_certificate "$node" "/O=system:nodes/CN=system:node:$node" "DNS:$node,IP:$(address_of "$node")"
    done
    for user in controller-manager scheduler "${nodes[@]}"; do
        kubeconfig "$user" >"$state/pki/$user.kubeconfig"
    done
    kubeconfig admin >"$admin.new"
    mv "$admin.new" "$admin"
}

openssl_() { openssl "$@" 2>"$work/openssl.log" || die "openssl: $(tail -n 5 "$work/openssl.log")"; }

new_key() { openssl_ genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$state/pki/$1.key"; }

make_ca() {
    new_key ca
    openssl_ req -x509 -new -key "$state/pki/ca.key" -out "$state/pki/ca.crt" -days 3650 -subj /CN=crikpy-cluster \
        -config <(printf '%s\n' '[req]' 'distinguished_name=name' 'x509_extensions=ca' '[name]' '[ca]' \
            'basicConstraints=critical,CA:TRUE' 'keyUsage=critical,digitalSignature,keyCertSign,cRLSign' \
            'subjectKeyIdentifier=hash')
}

make_service_account_key() {
    new_key service-account
    openssl_ pkey -in "$state/pki/service-account.key" -pubout -out "$state/pki/service-account.pub"
}

# make_certificate NAME SUBJECT [ALTERNATIVE-NAMES]
make_certificate() {
    local path=$state/pki/$1
    new_key "$1"
    openssl_ req -new -key "$path.key" -subj "$2" -out "$work/request"
    openssl_ x509 -req -in "$work/request" -CA "$state/pki/ca.crt" -CAkey "$state/pki/ca.key" -CAcreateserial \
        -days 3650 -out "$path.crt" -extfile <(printf '%s\n' 'basicConstraints=critical,CA:FALSE' \
            'keyUsage=critical,digitalSignature' 'extendedKeyUsage=clientAuth,serverAuth' \
            'subjectKeyIdentifier=hash' 'authorityKeyIdentifier=keyid' "${3:+subjectAltName=$3}")
}

# kubeconfig NAME: with everything in it, so that it can be read from anywhere.
kubeconfig() {
    cat <<YAML
apiVersion: v1
kind: Config
current-context: crikpy
contexts: [{name: crikpy, context: {cluster: crikpy, user: $1}}]
clusters:
- name: crikpy
  cluster:
    server: https://$control_plane_address:443
    certificate-authority-data: $(base64 -w0 "$state/pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w0 "$state/pki/$1.crt")
    client-key-data: $(base64 -w0 "$state/pki/$1.key")
YAML
}
