# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# Programs from Debian packages, part of hack/cluster (hack/images takes from it, too): unpacked below the cache, not
# installed, since Debian 12's etcd and containerd are too old for this Kubernetes, and
# since a package of theirs that is installed would start a service of its own.

readonly suite=trixie
readonly node_packages=(etcd-server containerd runc containernetworking-plugins)
readonly go_packages=(golang-1.24-go golang-1.24-src)

# obtain_debian: set debian to a folder with the programs of node_packages, as in a root file system.
obtain_debian() {
    debian=$cache/debian-$(printf '%s\n' "$suite" "${node_packages[@]}" | key)
    unpacked "$debian" "${node_packages[@]}"
}

# unpacked FOLDER PACKAGE…: make it, once, of what the packages hold.
unpacked() {
    local folder=$1 package
    shift
    [[ ! -d $folder ]] || return 0
    say "fetching Debian packages, once: $*"
    prepare_apt
    mkdir "$work/debs" "$work/unpacked"
    (cd "$work/debs" && apt_ apt-get -qq download "$@") >"$work/apt.log" 2>&1 ||
        die "cannot fetch them: $(tail -n 5 "$work/apt.log")"
    for package in "$work"/debs/*.deb; do dpkg-deb --extract "$package" "$work/unpacked"; done
    rm -r "$work/debs"
    mv -T "$work/unpacked" "$folder"
}

apt_() { APT_CONFIG=$work/apt/apt.conf "$@"; }

# prepare_apt: apt on a configuration of its own, which keeps the machine's Acquire settings
# (proxies, certificates) and nothing else of it, as in hack/criu-bundle.
prepare_apt() {
    [[ ! -d $work/apt ]] || return 0
    mkdir -p "$work/apt"/{lists,cache,state}
    touch "$work/apt/status"
    {
        apt-config dump Acquire
        cat <<CONF
Acquire::Retries "3";
Acquire::Languages "none";
APT::Sandbox::User "root";
Dir::State "$work/apt/state";
Dir::State::lists "$work/apt/lists";
Dir::State::status "$work/apt/status";
Dir::Cache "$work/apt/cache";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::sourcelist "$work/apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
CONF
    } >"$work/apt/apt.conf"
    printf 'deb [signed-by=%s] %s %s main\n' /usr/share/keyrings/debian-archive-keyring.gpg \
        "$(machine_mirror)" "$suite" >"$work/apt/sources.list"
    apt_ apt-get update -qq -o APT::Update::Error-Mode=any >"$work/apt.log" 2>&1 ||
        die "cannot read Debian's package lists: $(tail -n 5 "$work/apt.log")"
}

# machine_mirror: the URI whose pool/ holds the packages, as in hack/criu-bundle.
machine_mirror() {
    local uri=${CRIKPY_DEBIAN_MIRROR:-} codename
    if [[ -z $uri ]]; then
        # shellcheck source=/dev/null
        codename=$(. /etc/os-release && printf '%s' "${VERSION_CODENAME-}")
        # shellcheck disable=SC2016  # apt's own placeholders
        uri=$(apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' |
            awk -v release="$codename" '$1 == release && $2 == "main" { print $3; exit }')
    fi
    # Cloud images name a file that lists mirrors instead of a mirror.
    if [[ $uri == mirror+file:* ]]; then
        uri=$(awk '!/^#/ && NF { print $1; exit }' "/${uri##mirror+file:+(/)}")
    fi
    [[ -n $uri ]] || die "apt's sources name no Debian mirror; set CRIKPY_DEBIAN_MIRROR"
    printf '%s\n' "${uri%/}"
}
shopt -s extglob

# install_missing (COMMAND PACKAGE)…: by the machine's apt, and only what it lacks.
install_missing() {
    local missing=()
    while [[ $# -gt 0 ]]; do
        [[ -n $(PATH=$PATH:/usr/sbin:/sbin type -P "$1") ]] || missing+=("$2")
        shift 2
    done
    [[ ${#missing[@]} -gt 0 ]] || return 0
    say "installing ${missing[*]}"
    apt_get install "${missing[@]}" || { apt_get update && apt_get install "${missing[@]}"; } ||
        die "cannot install ${missing[*]}: $(tail -n 5 "$work/install.log")"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 -o APT::Install-Recommends=false \
        --assume-yes "$@" </dev/null >"$work/install.log" 2>&1
}
