# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# The one binary of all Kubernetes programs, part of hack/cluster: built once from the
# modules that kubernetes/go.sum pins, kept in the cache under a hash of what it is made of.

# Nobody debugs it: without DWARF it is built faster.
readonly build_options=(-trimpath -buildvcs=false -mod=readonly -tags=grpcnotrace -gcflags=all=-dwarf=false)

# obtain_kubernetes: set kubernetes to a folder with the binary under its programs' names.
obtain_kubernetes() {
    local source
    source=$({ cat "$parts"/kubernetes/{go.mod,go.sum,*.go}; printf '%s\n' "${build_options[@]}"; } | key)
    kubernetes=$cache/kubernetes-$source
    [[ -d $kubernetes ]] || build_kubernetes
    mkdir -p "$cache/bin"
    ln -sfn "$kubernetes/kubectl" "$cache/bin/kubectl"
}

build_kubernetes() {
    local go version began=$SECONDS program
    find_go
    version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\)$/\1/p' "$parts/kubernetes/go.mod")
    say "building Kubernetes $version with $("$go" env GOVERSION), once: some five minutes on two cores"
    mkdir "$work/kubernetes"
    # A compiler is done with a package before its memory is worth collecting.
    (cd "$parts/kubernetes" && GOTOOLCHAIN=local GOWORK=off CGO_ENABLED=0 GOGC=off GOMEMLIMIT=2GiB \
        "$go" build "${build_options[@]}" -ldflags="$(link_options "$version")" -o "$work/kubernetes/kubernetes" .) \
        >"$work/build.log" 2>&1 || die "Kubernetes does not build: $(tail -n 20 "$work/build.log")"
    for program in kubectl kubelet kube-apiserver kube-controller-manager kube-scheduler; do
        ln -s kubernetes "$work/kubernetes/$program"
    done
    mv -T "$work/kubernetes" "$kubernetes"
    say "built in $((SECONDS - began)) s"
}

# link_options VERSION: no symbols, and what `kubectl version` and the nodes say.
link_options() {
    local major minor package
    IFS=. read -r major minor _ <<<"${1#v}"
    printf -- '-s -w'
    for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
        printf -- ' -X %s=%s' "$package.gitVersion" "$1" "$package.gitMajor" "$major" \
            "$package.gitMinor" "$minor" "$package.gitTreeState" clean
    done
}
