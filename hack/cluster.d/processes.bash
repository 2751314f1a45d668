# shellcheck shell=bash disable=SC2034,SC2154 # hack/cluster and its parts share names
# Processes that outlive the script, part of hack/cluster: found again by a recorded pid and
# the time that process started, so that a pid that has passed to another is left alone.

# launch NAME CMD…: CMD, a function that ends with exec included, in the background.
launch() {
    local name=$1 pid
    shift
    mkdir -p "$state"/{log,pids}
    (exec 9<&- && "$@") </dev/null >>"$state/log/$name.log" 2>&1 &
    pid=$!
    printf '%s %s\n' "$pid" "$(started "$pid")" >"$state/pids/$name"
}

# running NAME
running() {
    local pid when
    [[ -f $state/pids/$1 ]] || return
    read -r pid when <"$state/pids/$1"
    [[ -n $when && $(started "$pid") == "$when" ]]
}

pid_of() { cut -d' ' -f1 "$state/pids/$1"; }

# started PID: when, in ticks since the boot; nothing for one that is gone or a zombie.
started() {
    local stat fields
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # The program's name, in parentheses, may hold anything.
    read -ra fields <<<"${stat##*) }"
    [[ ${fields[0]} == Z ]] || printf '%s\n' "${fields[19]}"
}

# stop NAME: at once, since nothing here has a state worth a farewell.
stop() {
    if running "$1"; then
        kill -KILL "$(pid_of "$1")" 2>/dev/null || true
        wait_for 15 "$1 to end" not running "$1"
    fi
    rm -f "$state/pids/$1"
}

not() { ! "$@"; }

# wait_for SECONDS WHAT CMD…: until CMD succeeds.
wait_for() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [[ $SECONDS -lt $end ]] || die "waited in vain for $what; logs are in $state/log"
        sleep 0.2
    done
}

# tree_of PID: it and all its descendants.
tree_of() {
    local children child
    printf '%s\n' "$1"
    read -ra children < <(cat /proc/"$1"/task/*/children 2>/dev/null | tr '\n' ' ') || true
    for child in "${children[@]}"; do tree_of "$child"; done
}
