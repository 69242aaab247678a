# Sourced by the install scripts: packages of the distribution, without a question and without starting services.

# Where Debian keeps server programs, which an ordinary user's PATH lacks.
export PATH="$PATH:/usr/sbin:/sbin"

# as_root COMMAND...  runs it as root; fails when neither root nor passwordless sudo is at hand.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

# require_packages WHAT PACKAGE...  installs packages, or exits with the sentence that says what is missing.
require_packages() {
    local what=$1
    shift
    if ! command -v apt-get >/dev/null; then
        echo "$what missing, and this is no Debian or Ubuntu; install what its packages carry there: $*" >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ] && ! sudo -n true 2>/dev/null; then
        echo "$what missing, and we may not install it (neither root nor sudo without a password)." >&2
        echo "Run: sudo apt-get install -y --no-install-recommends $*" >&2
        exit 1
    fi
    echo "$what missing; installing $*"
    _without_starting_services _apt_install "$@"
}

_apt_install() {
    local quiet=(env DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l NEEDRESTART_SUSPEND=1 LC_ALL=C
        apt-get -q -y -o DPkg::Lock::Timeout=300)
    local log
    log=$(mktemp)
    as_root "${quiet[@]}" update >"$log" 2>&1 || echo "apt-get update failed, trying with the lists that are here" >&2
    if ! as_root "${quiet[@]}" install --no-install-recommends "$@" >"$log" 2>&1; then
        tail -n 20 "$log" >&2
        rm -f "$log"
        echo "apt-get could not install: $*" >&2
        return 1
    fi
    rm -f "$log"
}

# We want programs, not services: a new server must neither start now nor at boot. policy-rc.d is Debian's own way to
# say so to package scripts; one that is there already stays as it is.
_without_starting_services() {
    local policy=/usr/sbin/policy-rc.d done=0
    if [ -e "$policy" ]; then
        "$@" || done=$?
    else
        printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null
        as_root chmod 755 "$policy"
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT
        "$@" || done=$?
        as_root rm -f "$policy"
        trap - EXIT
    fi
    return "$done"
}
