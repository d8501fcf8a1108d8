#!/usr/bin/env bash
# A real Slurm of four nodes with two CPUs each, on this one machine, for the tests and for trying job scripts.
# Needs root, no systemd and no cgroups. Up in a few seconds; everything it writes lies in DIR.
#
#   tests/slurm_cluster.sh install          Debian's packages, where they are missing
#   tests/slurm_cluster.sh start DIR [PID]  returns when all nodes are idle; the cluster ends with process PID, if one is given
#   export SLURM_CONF=DIR/slurm.conf        now sinfo, sbatch, srun and squeue speak to it
#   tests/slurm_cluster.sh stop DIR         ends daemons, jobs and whatever the jobs left
#
# Exit code 77, with the reason on stderr: not possible on this machine.
# All sockets are on the loopback interface, ports are free ones, and a key of its own keeps other users out.
set -euo pipefail

main() {
    case "${1:-}" in
        install) install_slurm ;;
        start) start "${2:?which folder?}" "${3:-}" ;;
        stop) stop "${2:?which folder?}" ;;
        *) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "$0"; exit 2 ;;
    esac
}

impossible() { echo "no Slurm here: $1" >&2; exit 77; }

installed() { command -v slurmctld slurmd srun munged > /dev/null; }

install_slurm() {
    installed && return
    [ "$(id -u)" = 0 ] || impossible "not installed, and only root can install it"
    command -v apt-get > /dev/null || impossible "not installed, and there is no apt-get"
    # The packages would start daemons; in a container there is nothing to start them with, and we want our own.
    export DEBIAN_FRONTEND=noninteractive
    { timeout 120 apt-get update && timeout 240 apt-get install -y --no-install-recommends slurmctld slurmd slurm-client munge; } > /dev/null 2>&1 ||
        impossible "apt-get could not install slurmctld, slurmd and slurm-client"
}

start() {
    [ "$(id -u)" = 0 ] || impossible "the daemons must be started by root"
    installed || impossible "not installed: bash tests/slurm_cluster.sh install"
    mkdir -p "$1"
    dir=$(cd "$1" && pwd)
    [ ! -e "$dir/slurm.conf" ] || { echo "$dir has a cluster already" >&2; exit 2; }
    trap 'stop "$dir"' EXIT
    configure
    guard "${2:-$$}" &  # until all is up the guard watches this script
    guard=$!
    # Forced, since the folder may be closed to others, as pytest's are.
    daemon munged munged --foreground --force --socket="$dir/munge.socket" --key-file="$dir/munge.key" --pid-file="$dir/munged.pid" \
        --log-file="$dir/munged.log" --seed-file="$dir/munge.seed"
    await "munged" test -S "$dir/munge.socket"
    daemon slurmctld slurmctld -D -i -f "$dir/slurm.conf"
    await "slurmctld" timeout 2 scontrol ping
    for node in n1 n2 n3 n4; do daemon "$node" slurmd -D -N "$node" -f "$dir/slurm.conf"; done
    await "the nodes" nodes_are_idle
    [ -n "${2:-}" ] || kill "$guard"
    trap - EXIT
}

configure() {
    local ports
    # Held all at once, so that no two are the same.
    mapfile -t ports < <(python3 -c '
import socket
held = [socket.create_server(("127.0.0.1", 0)) for _ in range(5)]
print(*(one.getsockname()[1] for one in held), sep="\n")')
    (umask 077; head -c 128 /dev/urandom > "$dir/munge.key")
    rm -rf "$dir/state" "$dir"/spool.n?
    mkdir -p "$dir/state"
    cat > "$dir/slurm.conf" <<CONF
ClusterName=healmpi
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmUser=root
SlurmctldPort=${ports[0]}
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
CredType=cred/munge
# A requeued job waits for the old credential to expire, by default two minutes.
AuthInfo=socket=$dir/munge.socket,cred_expire=5
ProctrackType=proctrack/linuxproc
TaskPlugin=task/affinity
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
GresTypes=gpu
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=bf_interval=2,sched_interval=2,sched_min_interval=100000
ReturnToService=2
EnforcePartLimits=ALL
MpiDefault=none
KillWait=5
MessageTimeout=20
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool.%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.%n.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.%n.log
$(for number in 1 2 3 4; do echo "NodeName=n$number NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 Port=${ports[$number]} CPUs=2 RealMemory=4000 Gres=gpu:2"; done)
PartitionName=test Nodes=n[1-4] Default=YES MaxTime=1-0 State=UP
CONF
    # Two devices that every machine has stand for GPUs: Slurm counts and binds them; nothing computes on them.
    printf 'Name=gpu File=%s\n' /dev/null /dev/zero > "$dir/gres.conf"
    export SLURM_CONF="$dir/slurm.conf"
}

daemon() {  # NAME COMMAND...; the mark tells stop which processes are ours, whatever has become of them
    local name=$1; shift
    HEALMPI_CLUSTER="$dir" SLURM_CONF="$dir/slurm.conf" setsid "$@" < /dev/null > "$dir/$name.out" 2>&1 &
}

await() {  # WHAT COMMAND...
    local what=$1 until=$((SECONDS + 30)); shift
    until "$@" > /dev/null 2>&1; do
        [ "$SECONDS" -lt "$until" ] || { tail -n 5 "$dir"/*.out "$dir"/*.log >&2; echo "$what did not come up in 30 s" >&2; exit 1; }
        sleep 0.1
    done
}

nodes_are_idle() { [ "$(timeout 5 sinfo -h -N -t idle -o %N | sort -u | wc -l)" = 4 ]; }

guard() {  # when the process PID has gone, however it went, the cluster goes too
    # shellcheck disable=SC2016
    HEALMPI_CLUSTER="$dir" exec setsid bash -c 'tail --pid="$1" -f /dev/null; exec bash "$2" stop "$3"' guard "$1" "$0" "$dir" \
        < /dev/null > /dev/null 2>&1
}

stop() {
    dir=$(cd "$1" && pwd) || exit 0
    [ -e "$dir/slurm.conf" ] || return 0
    local signal until
    for signal in TERM KILL; do
        end_all "$signal"
        until=$((SECONDS + 3))
        while [ -n "$(ours)" ] && [ "$SECONDS" -lt "$until" ]; do sleep 0.1; done
    done
    rm -f "$dir/slurm.conf" "$dir/munge.key" "$dir/munge.socket"
}

# Daemons and the guard have the mark in their environment; what belongs to a job has its number and our configuration;
# slurmstepd overwrites its environment, but holds our log file open.
ours() {
    {
        marked "HEALMPI_CLUSTER=$dir" /proc/[0-9]*/environ
        # shellcheck disable=SC2046  # one word a file is what is wanted
        marked "SLURM_JOB_ID=[0-9]*" $(marked "SLURM_CONF=$dir/slurm.conf" /proc/[0-9]*/environ)
        grep -lsx slurmstepd /proc/[0-9]*/comm | sed 's/comm$/fd/' | xargs -r -I {} find {} -lname "$dir/*" 2> /dev/null
    } | cut -d / -f 3 | sort -u | grep -vx $$
}

marked() { grep -lszx "$@" /dev/null; }

end_all() {
    local process
    for process in $(ours); do kill -"$1" "$process" 2> /dev/null || true; done
}

main "$@"
