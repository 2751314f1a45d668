# shellcheck shell=bash disable=SC2154 # hack/release sets the rest
# What a release consists of, part of hack/release. Everything is made below $work, from a copy of the sources
# with one date, and put into $made under the names that people see.

readonly sources=(pyproject.toml README.md LICENSE CHANGELOG.md crikpy daemonset controller docs)

# check_sources: whether this is what may be released; sets date.
check_sources() {
    local told
    told=$(sed -n 's/^version = "\([^"]*\)"$/\1/p' "$root/pyproject.toml")
    [[ $told == "$version" ]] || die "pyproject.toml says $told, not $version"
    if [[ -z $changes ]]; then
        told=$(git -C "$root" status --porcelain) || die "this is no checkout; --allow-changes takes it as it is"
        [[ -z $told ]] || die "there are changes that are not committed: $(head -n 3 <<<"$told")"
    fi
    date=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct)}
    [[ $date =~ ^[0-9]+$ ]] || die "SOURCE_DATE_EPOCH is a number of seconds"
    export SOURCE_DATE_EPOCH=$date
    "$hack/python-lock" --check
}

# make_python: sdist and wheel, by the very tools that their lock pins; and the lock, for whoever installs them.
make_python() {
    say "building Python's archives"
    mkdir "$work/source" "$work/python"
    tarred "$root" "${sources[@]}" | tar --extract --directory="$work/source"
    python -m venv "$work/tools"
    "$work/tools/bin/python" -m pip --disable-pip-version-check --quiet install --only-binary :all: --require-hashes \
        --requirement "$root/daemonset/python/tools.lock" </dev/null >&2
    (cd "$work/source" && "$work/tools/bin/python" -m hatchling build -d "$work/python") </dev/null >"$work/log" 2>&1 ||
        die "hatchling failed: $(tail -n 5 "$work/log")"
    cp "$work"/python/crikpy-"$version"{.tar.gz,-py3-none-any.whl} "$made"
    cp "$root/daemonset/python/packages.lock" "$made/crikpy-$version.requirements.txt"
}

# make_node: /opt/crikpy of a machine that runs jobs without Kubernetes.
make_node() {
    say "building the launcher and the CRIU bundle"
    mkdir -p "$work/node/crikpy"
    make --silent -C "$root/daemonset/launcher" BUILD="$work/node/crikpy" >&2
    "$hack/criu-bundle" "$work/node/crikpy/criu"
    tarred "$work/node" crikpy | gzip --no-name -9 >"$made/crikpy-node-$version-linux-amd64.tar.gz"
}

# make_images: OCI archives, and the digests by which registries will know them.
make_images() {
    local name
    if [[ -n $digests ]]; then
        grep -E '^[a-z]+ sha256:[0-9a-f]{64}$' "$digests" >"$made/image-digests.txt" ||
            die "$digests has no line of NAME and sha256:…"
        return
    fi
    "$hack/images" build --oci --output "$work/images" "${base[@]}" >/dev/null
    for name in "${images[@]}"; do
        cp "$work/images/crikpy-$name.oci.tar" "$made/crikpy-$name-$version.oci.tar"
        printf '%s %s\n' "$name" "$(python "$parts/layers.py" "$made/crikpy-$name-$version.oci.tar")"
    done >"$made/image-digests.txt"
}

# make_manifests: every overlay as one file, and the kustomizations for those who keep one of their own, all with digests.
make_manifests() {
    local overlay folder=$work/crikpy-manifests-$version
    mkdir "$folder"
    tarred "$root" controller/{base,components,crd,overlays} daemonset/base | tar --extract --directory="$folder"
    python "$parts/pinning.py" pin "$version" "$made/image-digests.txt" "$folder"
    tarred "$work" "${folder##*/}" | gzip --no-name -9 >"$made/${folder##*/}.tar.gz"
    for overlay in "$folder"/controller/overlays/*; do
        "$(kubectl_)" kustomize "$overlay" >"$made/crikpy-${overlay##*/}-$version.yaml"
    done
    python "$parts/pinning.py" check "$made/image-digests.txt" "$made"/crikpy-*-"$version".yaml
}

# make_chart: with the images' digests. By tar, since Helm's own archives bear the time at which they are made; its links
# into the kustomizations become what they lead to.
make_chart() {
    mkdir "$work/chart"
    cp -rL "$work/source/controller/chart" "$work/chart/crikpy"
    python "$parts/pinning.py" chart "$made/image-digests.txt" "$work/chart/crikpy/values.yaml"
    tarred "$work/chart" crikpy | gzip --no-name -9 >"$made/crikpy-chart-$version.tgz"
}

make_bills() {
    local name options=()
    if [[ -z $digests ]]; then
        for name in "${images[@]}"; do options+=(--image "$name=$made/crikpy-$name-$version.oci.tar"); done
    fi
    python "$parts/bills.py" --version "$version" --date "$date" --output "$made" \
        --wheel "$made/crikpy-$version-py3-none-any.whl" --node "$work/node/crikpy" "${options[@]}"
}

# tarred FOLDER PATH…: an archive that tells of nobody's machine.
tarred() {
    tar --create --directory="$1" --exclude=__pycache__ --format=gnu --sort=name --mtime="@$date" --owner=0 --group=0 \
        --numeric-owner --mode=u=rwX,go=rX "${@:2}"
}

# kubectl_: hack/cluster's, or this machine's.
kubectl_() {
    if [[ -x $cache/cluster/bin/kubectl ]]; then
        printf '%s\n' "$cache/cluster/bin/kubectl"
    else
        type -P kubectl || die "manifests are made by kubectl: install it, or have hack/cluster build make one"
    fi
}
