# shellcheck shell=bash disable=SC2154 # hack/release sets the rest
# Sums, the signature below them, and how both are verified, part of hack/release. A release is good if what is
# signed is what is there: each file that the sums name, and no other.

readonly namespace=release@crikpy # what else a signer signs with that key is no signature of a release
readonly sums=SHA256SUMS

listed() { (cd "$1" && find . -type f ! -name "$sums" ! -name "$sums.sig" -printf '%P\n' | LC_ALL=C sort); }

sum_up() {
    local names
    mapfile -t names < <(listed "$made")
    (cd "$made" && sha256sum -- "${names[@]}" >"$sums")
}

# sign KEY: the passphrase, if it has one, is asked for by ssh-keygen itself.
sign() { ssh-keygen -q -Y sign -f "$1" -n "$namespace" "$made/$sums" || die "$1 signs nothing"; }

# verify FOLDER SIGNERS
verify() {
    local signer
    [[ -f $1/$sums && -f $1/$sums.sig ]] || die "$1 has no $sums with a signature $sums.sig"
    signer=$(ssh-keygen -Y find-principals -s "$1/$sums.sig" -f "$2" 2>/dev/null | head -n 1) && [[ -n $signer ]] ||
        die "$1 is signed by nobody whom $2 names"
    ssh-keygen -q -Y verify -f "$2" -I "$signer" -n "$namespace" -s "$1/$sums.sig" <"$1/$sums" >/dev/null ||
        die "$1/$sums is not what $signer has signed"
    (cd "$1" && sha256sum --check --quiet --strict "$sums" >&2) || die "$1 is not what $signer has signed"
    [[ -z $(find "$1" ! -type f ! -type d) ]] || die "$1 holds something that is no file"
    diff <(sed 's/^[0-9a-f]* [ *]//' "$1/$sums") <(listed "$1") >/dev/null ||
        die "$1 holds a file that $signer has not signed"
    say "$1 is what $signer has signed"
}
