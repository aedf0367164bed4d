#!/bin/sh
# Makes a release the current one on this host, or puts back the one before. Lives outside of every release: the way back must not
# depend on what is in one. Needs a shell, coreutils, util-linux and systemd; only the new release's own agent is run from a release.
#
#   switch [OPTIONS] DIGEST     switch to releases/DIGEST, and back again when it doesn't become healthy, or isn't confirmed
#   switch [OPTIONS] --back     the same, to what `previous` names
#       --timeout SECONDS           that it may take to become healthy
#       --confirm-within SECONDS    that a confirmation may take, once it is healthy
#       --known                     a release that was confirmed on this host before needs one good check, and no confirmation
#   switch --confirm DIGEST     confirm a switch that waits for it: by a new connection, which proves that one can be made
#   switch --check DIGEST       exit 0 when a switch to it would change nothing
#   switch --prune KEEP         remove old releases, parts and model files, but for the KEEP newest
#
# It runs as a transient unit of systemd (cluster-ai-switch.service), so it goes on, and back, when the connection is lost. What is
# under way is written down before it is begun (STATE/pending): a switch that is killed is settled by systemd's ExecStopPost=
# (--settle), one that a power cut ends by cluster-ai-guard.service at the next boot (--recover), before any unit of ours starts.
# Exit status: 0 done; 10 it failed, and what ran before is back; 11 it failed, there was nothing before, so nothing runs now;
# 12 the way back failed too; 13 there is no such complete release; 14 the release that ran already isn't healthy, nothing was put
# back; 15 it was healthy but not confirmed, and what ran before is back; 16 no switch to it waits for a confirmation; 64 wrong
# usage; 75 another switch is running.
set -u
umask 022
ROOT=/opt/cluster-ai
STATE=/var/lib/cluster-ai
SYSTEM=/etc/systemd/system
RUNNING=cluster-ai-switch.service
TIMEOUT=120
LEAST=120 # seconds for units on the way back, which has no other way behind it
CONFIRM=60
KNOWN=
LOG=

say() {
    printf '%s\n' "$*"
    [ -z "$LOG" ] || printf '%s\n' "$*" >>"$LOG"
}

# --- from outside: start the transient unit, pass on what it says -----------------------------------------------------------------

under_way() { # also while systemd settles it
    case "$(systemctl show -p ActiveState --value "$RUNNING")" in inactive | failed) return 1 ;; esac
}

# A switch that nobody leads any more, since its controller died, ends by itself: at the latest when its units have started, its gate
# has passed, nobody has confirmed it, and the units of the release before have started.
outside() {
    options "$@"
    tries=$((3 * TIMEOUT + CONFIRM))
    ! under_way || echo "another switch is running on this host; waiting $tries s for its end"
    while [ "$tries" -gt 0 ] && under_way; do
        tries=$((tries - 1))
        sleep 1
    done
    # In no sandbox, as root: it links units, gives files their owners, has systemd start what is new, and must be able to put back
    # whatever a release changed. It reads only files that are root's.
    log=$(mktemp /run/cluster-ai-switch.XXXXXX) || exit 70
    systemd-run --quiet --collect --wait --unit="${RUNNING%.service}" --setenv=LC_ALL=C -p "ExecStopPost=$0 --settle $log" \
        "$0" --inside "$log" "$@" 2>"$log.err" &
    client=$!
    tail -q -n +1 -s 0.1 -f --pid="$client" "$log" 2>/dev/null
    wait "$client"
    code=$?
    if [ -s "$log.settled" ]; then # it was killed
        code=$(cat "$log.settled")
    elif [ "$code" = 1 ]; then # of systemd-run itself
        if under_way; then
            echo "another switch is running on this host"
            code=75
        else
            cat "$log.err"
            code=70
        fi
    fi
    rm -f "$log" "$log.err" "$log.settled" "$log.agent"
    exit "$code"
}

# --- small things -----------------------------------------------------------------------------------------------------------------

complete() { # DIGEST
    release=$ROOT/releases/$1
    [ -n "$1" ] && [ -f "$release/units.txt" ] && [ "$(sha256sum <"$release/manifest.json" 2>/dev/null | cut -d' ' -f1)" = "$1" ]
}

led_to() { # LINK: the digest that it names
    leads=$(readlink "$ROOT/$1") && printf '%s' "${leads##*/}"
}

lead() { # LINK DIGEST: in one step; there is no moment without the link
    rm -f "$ROOT/.$1.new"
    ln -s "releases/$2" "$ROOT/.$1.new" && mv -T "$ROOT/.$1.new" "$ROOT/$1" && sync "$ROOT"
}

write() { # FILE TEXT: in one step, and kept through a power cut
    printf '%s\n' "$2" >"$1.new" && sync "$1.new" && mv -T "$1.new" "$1" && sync "${1%/*}"
}

units_of() { # DIGEST
    cut -d' ' -f1 "$ROOT/releases/$1/units.txt"
}

running_of() { # DIGEST: those that run all the time, so neither the target, nor a service that a timer or a path starts
    for unit in $(units_of "$1"); do
        case "$unit" in
        *.target) ;;
        *@.service) instance "$unit" "$1" ;;
        *.service)
            starter="$ROOT/releases/$1/units/${unit%.service}"
            [ -e "$starter.timer" ] || [ -e "$starter.path" ] || echo "$unit"
            ;;
        *) echo "$unit" ;;
        esac
    done
}

# A service that is handed over while it runs is a template. Its instance is named by what it runs from, so a new one comes up beside
# the old one, which is stopped only when the release stays (retire).
instance() { # TEMPLATE DIGEST
    echo "${1%.service}$(stamp "$1" "$2" | cut -c1-12).service"
}

template() { # UNIT: of an instance, its template's name; else the unit's own
    case "$1" in *@*) echo "${1%%@*}@.service" ;; *) echo "$1" ;; esac
}

instances() { # TEMPLATE: those that systemd runs
    systemctl list-units --plain --no-legend "${1%.service}*.service" | cut -d' ' -f1
}

retire() { # DIGEST: instances of other releases finish what they serve, and end
    for unit in $(units_of "$1"); do
        case "$unit" in *@.service) ;; *) continue ;; esac
        mine=$(instance "$unit" "$1")
        for old in $(instances "$unit"); do
            [ "$old" = "$mine" ] || {
                systemctl stop --no-block "$old"
                rm -f "$STATE/units/$old"
            }
        done
    done
}

listed() { # WORD LIST
    case " $2 " in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

last_words() { # UNIT: what it said in its last run; in its last runs, where it is started again and again
    systemctl show -p ActiveState -p SubState -p Result "$1" | tr '\n' ' ' | sed "s/^/$1: /; s/ *$//"
    echo
    run=
    [ "$(systemctl show -p NRestarts --value "$1")" != 0 ] || run=$(systemctl show -p InvocationID --value "$1")
    journalctl --no-pager -q -o cat -n 12 -u "$1" ${run:+"_SYSTEMD_INVOCATION_ID=$run"} 2>/dev/null | sed 's/^/    /'
}

# --- units: links to current/units, started anew where what they run from has changed ----------------------------------------------

# What a unit was, or would be, started with: everything of the release that it runs from (one digest, in units.txt), and the
# credentials that it was handed.
inputs() { # UNIT DIGEST
    of=$(template "$1")
    sed -n "s/^$of //p" "$ROOT/releases/$2/units.txt"
    sed -n 's/^LoadCredential=[^:]*://p' "$ROOT/releases/$2/units/$of" | sort -u | while read -r file; do
        sha256sum <"$file" 2>/dev/null || echo "no $file"
    done
}

stamp() { # UNIT DIGEST
    inputs "$1" "$2" | sha256sum | cut -d' ' -f1
}

# What others laid over our units, or opened to others, is taken away: a release runs as its own files say.
undo_overrides() {
    for folder in "$SYSTEM"/cluster-ai*.d "$SYSTEM".control/cluster-ai*.d /run/systemd/system*/cluster-ai*.d; do
        [ -d "$folder" ] || continue
        unit=${folder##*/} unit=${unit%.d}
        kept=$STATE/removed/$unit.d-$(date +%s%N)
        mkdir -p "$STATE/removed" && mv -T "$folder" "$kept" || return 1
        say "moved away: $folder (kept as $kept)"
        case "$unit" in # so that it starts anew
        *-.*) rm -f "$STATE/units/"* ;;
        *@.service) rm -f "$STATE/units/${unit%.service}"* ;;
        *) rm -f "$STATE/units/$unit" ;;
        esac
    done
    for file in /etc/cluster-ai/*; do
        [ ! -f "$file" ] || { chown root:root "$file" && chmod 0600 "$file"; } || return 1
    done
    for file in "$STATE"/tls/current/*; do
        [ ! -f "$file" ] || { chown root:cluster-ai "$file" && chmod 0640 "$file"; } || return 1
    done
}

take_away() { # LINK: of a unit, which is stopped; a template with all its instances
    gone=${1##*/}
    case "$gone" in *@.service) all="${gone%.service}*.service" ;; *) all=$gone ;; esac
    systemctl stop "$all"
    systemctl reset-failed "$all" 2>/dev/null
    rm -f "$1" "$STATE/units/${gone%.service}"* "$SYSTEM"/*.wants/"${gone%.service}"*
}

link_units() { # DIGEST
    undo_overrides || return 1
    units=$(units_of "$1" | tr '\n' ' ')
    for link in "$SYSTEM"/cluster-ai*; do # units that this release doesn't have
        unit=${link##*/}
        case "$(readlink "$link")" in "$ROOT/current/"*) ;; *) continue ;; esac
        listed "$unit" "$units" || take_away "$link"
    done
    for unit in $units; do
        rm -f "$SYSTEM/.$unit.new"
        ln -s "$ROOT/current/units/$unit" "$SYSTEM/.$unit.new" && mv -T "$SYSTEM/.$unit.new" "$SYSTEM/$unit" || return 1
        # Not `systemctl enable`: it resolves `current`, and its links would lead into a release that is removed some day.
        wanted=$(sed -n 's/^WantedBy=//p' "$ROOT/releases/$1/units/$unit" | tr '\n' ' ')
        name=$unit
        case "$unit" in *@.service) name=$(instance "$unit" "$1") ;; esac
        for link in "$SYSTEM"/*.wants/"${unit%.service}"*; do
            by=${link%/*}
            by=${by##*/}
            [ "$(template "${link##*/}")" = "$unit" ] || continue
            [ "${link##*/}" = "$name" ] && listed "${by%.wants}" "$wanted" || rm -f "$link"
        done
        for by in $wanted; do
            mkdir -p "$SYSTEM/$by.wants" && ln -sfn "../$unit" "$SYSTEM/$by.wants/$name" || return 1
        done
    done
    systemctl daemon-reload
}

changed_units() { # DIGEST: those that were started with other inputs, or don't run
    for unit in $(running_of "$1"); do
        [ "$(cat "$STATE/units/$unit" 2>/dev/null)" = "$(stamp "$unit" "$1")" ] && systemctl is-active --quiet "$unit" && continue
        printf ' %s' "$unit"
    done
}

start_units() { # DIGEST
    changed=$(changed_units "$1")
    sockets=
    for unit in $changed; do # a socket can't be started while its service runs
        case "$unit" in *.socket) ;; *) continue ;; esac
        sockets="$sockets $unit"
        for service in $(running_of "$1"); do # it, and the instances that have inherited the socket
            case "$service" in "${unit%.socket}.service" | "${unit%.socket}@"*) ;; *) continue ;; esac
            sockets="$sockets $service $(instances "$(template "$service")" | tr '\n' ' ')"
            listed "$service" "$changed" || changed="$changed $service"
        done
    done
    if [ -n "$changed" ]; then
        say "restarting:$changed"
        for unit in $changed; do rm -f "$STATE/units/$unit"; done
        # shellcheck disable=SC2086
        {
            [ -z "$sockets" ] || systemctl stop $sockets 2>/dev/null
            systemctl reset-failed $changed 2>/dev/null
            timeout "$TIMEOUT" systemctl restart $changed 2>/dev/null
        }
        code=$?
        if [ "$code" != 0 ]; then
            [ "$code" != 124 ] || say "units didn't start within $TIMEOUT s"
            return 1
        fi
        for unit in $changed; do write "$STATE/units/$unit" "$(stamp "$unit" "$1")"; done
    fi
    for unit in $(units_of "$1"); do
        case "$unit" in
        *.target) systemctl start --no-block "$unit" ;;
        *.timer | *.path) systemctl restart "$unit" ;; # what it starts is soon done again, for what runs now
        esac
    done
    rm -f "$STATE/drift" # which the host's own check had found; it is put right
}

all_active() { # DIGEST: within half a minute, and twice in a row
    tries=60 seen=0
    while [ "$tries" -gt 0 ]; do
        # shellcheck disable=SC2046
        if systemctl is-active --quiet $(running_of "$1"); then seen=$((seen + 1)); else seen=0; fi
        [ "$seen" -lt 3 ] || return 0
        tries=$((tries - 1))
        sleep 0.5
    done
    return 1
}

tell_units() { # DIGEST: why it isn't running
    for unit in $(running_of "$1"); do
        restarts=$(systemctl show -p NRestarts --value "$unit")
        if ! systemctl is-active --quiet "$unit" || [ "${restarts:-0}" -gt 0 ]; then last_words "$unit"; fi
    done | while IFS= read -r line; do say "$line"; done
}

# --- the switch and its way back -----------------------------------------------------------------------------------------------------

agent() { # DIGEST COMMAND...: the release's own agent, whose lines go out as they come
    release=$ROOT/releases/$1
    shift
    mkfifo "$LOG.agent" || return 1
    while IFS= read -r line; do say "$line"; done <"$LOG.agent" &
    reader=$!
    PYTHONPYCACHEPREFIX=/var/cache/cluster-ai/host PYTHONUNBUFFERED=1 "$release/bin/launch" \
        python3 -m cluster_ai.host "$@" "$release/etc/host.json" >"$LOG.agent" 2>&1
    code=$?
    wait "$reader"
    rm -f "$LOG.agent"
    return "$code"
}

healthy() { # DIGEST
    if ! start_units "$1"; then
        say "not all units start"
        tell_units "$1"
        return 1
    fi
    if ! agent "$1" models; then
        say "the models can't be made"
        tell_units "$1"
        return 1
    fi
    if ! agent "$1" gate --timeout "$TIMEOUT" ${KNOWN:+--known}; then
        tell_units "$1"
        return 1
    fi
}

remove_all() {
    for link in "$SYSTEM"/cluster-ai*; do
        case "$(readlink "$link")" in "$ROOT/current/"*) take_away "$link" ;; esac
    done
    rm -f "$ROOT/current" "$ROOT/previous"
    systemctl daemon-reload
}

pending() { # NAME: of what is under way
    sed -n "s/^$1=//p" "$STATE/pending" 2>/dev/null
}

ended() { # WHAT CODE: the end of what was under way, and of this script
    write "$STATE/last-switch" "$WANTED $1 $(date +%s)"
    rm -f "$STATE/pending" "$STATE/waiting" "$STATE/confirmation"
    sync "$STATE"
    exit "$2"
}

go_back() { # CODE: ends this script
    trap '' TERM INT HUP
    [ "$TIMEOUT" -ge "$LEAST" ] || TIMEOUT=$LEAST # a host that is slow with what is new may be so with what it had, too
    if [ -z "$BACK" ]; then
        if [ "$CAME_FROM" = "$WANTED" ] && [ "$CONFIRMED" = "$WANTED" ]; then
            say "release $WANTED was the running one before; nothing was put back"
            ended unhealthy 14
        fi
        say "there is no release to go back to: stopping what was started"
        remove_all
        ended removed 11
    fi
    say "going back to $BACK"
    if lead current "$BACK" && link_units "$BACK" && start_units "$BACK" && all_active "$BACK"; then
        retire "$BACK"
        if [ -n "$BEFORE" ]; then lead previous "$BEFORE"; else rm -f "$ROOT/previous"; fi
        say "back on $BACK"
        ended returned "$1"
    fi
    say "the way back to $BACK failed too"
    tell_units "$BACK"
    write "$STATE/last-switch" "$WANTED stuck $(date +%s)"
    exit 12 # what is under way stays written down: the next boot tries again
}

# Confirmed by somebody who could make a new connection: a release that breaks the network, or whose controller died, isn't.
await_confirmation() { # DIGEST
    [ -z "$KNOWN" ] || return 0
    write "$STATE/waiting" "$1"
    say "healthy; waiting $CONFIRM s for a confirmation"
    tries=$((CONFIRM * 5))
    while [ "$tries" -gt 0 ]; do
        [ "$(cat "$STATE/confirmation" 2>/dev/null)" != "$1" ] || return 0
        tries=$((tries - 1))
        sleep 0.2
    done
    return 1
}

change() { # DIGEST
    WANTED=$1
    complete "$WANTED" || {
        say "there is no complete release $WANTED here"
        exit 13
    }
    [ -e "$STATE/known/$WANTED" ] || KNOWN=
    CAME_FROM=$(led_to current) BEFORE=$(led_to previous) CONFIRMED=$(cat "$STATE/confirmed" 2>/dev/null)
    BACK=$CONFIRMED # only to what was healthy once
    if [ "$BACK" = "$WANTED" ] || ! complete "$BACK"; then BACK=; fi
    mkdir -p "$STATE/units" "$STATE/known" /var/cache/cluster-ai/host
    rm -f "$STATE/waiting" "$STATE/confirmation"
    write "$STATE/pending" "wanted=$WANTED
back=$BACK
before=$BEFORE
came_from=$CAME_FROM
confirmed=$CONFIRMED" || exit 70
    trap 'say "interrupted"; go_back 10' TERM INT HUP
    if [ -n "$BACK" ]; then lead previous "$BACK" || go_back 10; fi
    say "switching to $WANTED"
    lead current "$WANTED" && link_units "$WANTED" && healthy "$WANTED" || go_back 10
    if [ "$CONFIRMED" != "$WANTED" ]; then # else nothing that could cut it off has changed
        await_confirmation "$WANTED" || {
            say "not confirmed within $CONFIRM s"
            go_back 15
        }
        # shellcheck disable=SC2046
        systemctl is-active --quiet $(running_of "$WANTED") || {
            say "confirmed, but not healthy any more"
            tell_units "$WANTED"
            go_back 10
        }
    fi
    trap '' TERM INT HUP
    write "$STATE/confirmed" "$WANTED"
    : >"$STATE/known/$WANTED"
    retire "$WANTED"
    touch "$ROOT/releases/$WANTED" # its age, for --prune, is that of its last use
    say "running $WANTED"
    ended confirmed 0
}

confirm() { # DIGEST
    [ "$(cat "$STATE/waiting" 2>/dev/null)" = "$1" ] || {
        echo "no switch to $1 waits for a confirmation here"
        exit 16
    }
    write "$STATE/confirmation" "$1"
}

take_up() { # what a switch that was cut off had written down
    WANTED=$(pending wanted) BACK=$(pending back) BEFORE=$(pending before)
    CAME_FROM=$(pending came_from) CONFIRMED=$(pending confirmed)
    if [ "$(cat "$STATE/confirmed" 2>/dev/null)" = "$WANTED" ] && [ "$CONFIRMED" != "$WANTED" ]; then
        say "release $WANTED was confirmed"
        ended confirmed 0
    fi
}

settle() { # LOG: after the switch's process has ended, however that was
    [ -e "$STATE/pending" ] || exit 0
    [ ! -e "$1" ] || LOG=$1
    [ -z "$LOG" ] || trap 'echo "$?" >"$LOG.settled"' EXIT
    say "the switch was killed"
    take_up
    go_back 10
}

recover() { # at boot: units aren't started yet, and will be by their target
    [ -e "$STATE/pending" ] || exit 0
    take_up
    if [ -z "$BACK" ] && [ "$CONFIRMED" = "$WANTED" ]; then ended confirmed 0; fi
    if [ -z "$BACK" ]; then
        say "the first release, $WANTED, was never confirmed: removing it"
        remove_all
        ended removed 0
    fi
    say "release $WANTED was never confirmed: putting $BACK back"
    lead current "$BACK" && link_units "$BACK" || exit 12
    if [ -n "$BEFORE" ]; then lead previous "$BEFORE"; else rm -f "$ROOT/previous"; fi
    for unit in $(units_of "$BACK"); do rm -f "$STATE/units/$unit"; done # started by nobody yet
    for unit in $(running_of "$BACK"); do write "$STATE/units/$unit" "$(stamp "$unit" "$BACK")"; done
    systemctl start --no-block $(units_of "$BACK" | grep '\.target$')
    ended returned 0
}

check() { # DIGEST
    [ "$(led_to current)" = "$1" ] && [ "$(cat "$STATE/confirmed" 2>/dev/null)" = "$1" ] && complete "$1" || exit 1
    [ ! -e "$STATE/drift" ] || exit 1 # the host's own check found something
    for unit in $(units_of "$1"); do
        [ "$(readlink "$SYSTEM/$unit")" = "$ROOT/current/units/$unit" ] || exit 1
    done
    [ -z "$(changed_units "$1")" ] || exit 1
    exit 0
}

# --- old releases -------------------------------------------------------------------------------------------------------------------

prune() { # KEEP
    kept="$(led_to current) $(led_to previous) $(cat "$STATE/confirmed" 2>/dev/null)"
    for process in /proc/[0-9]*; do # a process may outlive its release's time as the current one
        for place in "$(readlink "$process/cwd" 2>/dev/null)" "$(readlink "$process/exe" 2>/dev/null)"; do
            case "$place" in "$ROOT/releases/"*) place=${place#"$ROOT/releases/"} kept="$kept ${place%%/*}" ;; esac
        done
    done
    kept="$kept $(ls -t "$ROOT/releases" | head -n "$1" | tr '\n' ' ')"
    for release in "$ROOT/releases/"*; do
        digest=${release##*/}
        [ -d "$release" ] && ! listed "$digest" "$kept" || continue
        # Never half a release under its name; what is left when this is cut off, the next push removes.
        mv -T "$release" "$ROOT/releases/.gone-$digest" && rm -rf "$ROOT/releases/.gone-$digest" "$STATE/known/$digest"
        say "removed release $digest"
    done
    for thing in "$ROOT/parts/"* "$STATE/blobs/"*; do
        [ -e "$thing" ] || continue
        name=${thing##*/}
        grep -qsF "\"$name\"" "$ROOT/releases/"*/manifest.json && continue
        rm -rf "$thing"
        say "removed ${thing#"$ROOT/"}"
    done
    exit 0
}

# --- the command line -----------------------------------------------------------------------------------------------------------------

usage() {
    sed -n 's/^#   switch/usage: switch/p' "$0" >&2
    exit 64
}

options() { # ARGUMENTS: keeps what they say, and in TAKEN how many of them are options
    TAKEN=0
    while [ "$#" -ge 2 ]; do
        case "$1" in
        --timeout) TIMEOUT=$2 ;;
        --confirm-within) CONFIRM=$2 ;;
        --known)
            KNOWN=yes
            TAKEN=$((TAKEN + 1))
            shift
            continue
            ;;
        *) break ;;
        esac
        TAKEN=$((TAKEN + 2))
        shift 2
    done
}

[ "$#" -gt 0 ] || usage
[ "$(id -u)" = 0 ] || {
    echo "switch must be run by root" >&2
    exit 64
}
case "$#:$1" in
2:--check) check "$2" ;;
2:--confirm)
    confirm "$2"
    exit
    ;;
2:--settle) settle "$2" ;;
1:--recover) recover ;;
esac
[ "$1" = --inside ] || outside "$@"
LOG=$2
shift 2
exec 9>/run/cluster-ai-switch.lock
flock -n 9 || {
    say "another switch is running on this host"
    exit 75
}
options "$@"
shift "$TAKEN"
case "$#:$1" in
1:--back)
    before=$(led_to previous)
    [ -n "$before" ] || {
        say "there is no release to go back to"
        exit 13
    }
    change "$before"
    ;;
2:--prune) prune "$2" ;;
1:-*) usage ;;
1:*) change "$1" ;;
*) usage ;;
esac
