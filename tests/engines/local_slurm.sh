#!/usr/bin/env bash
# A Slurm of one node on this machine, for the tests marked `slurm`. Needs root.
#
#   local_slurm.sh install         installs Slurm and munge with apt, unless they are there
#   local_slurm.sh start FOLDER    writes a configuration and its state into FOLDER, starts the daemons, waits for the node
#   local_slurm.sh stop FOLDER     cancels the jobs and ends the daemons that `start` has started
#
# `start` prints the line `export SLURM_CONF=…` that clients need, and nothing else. It exits with 3, and a reason on standard error,
# where it cannot work: no root, no Slurm. The configuration of the system is not touched.
set -euo pipefail

refuse() {
    echo "$*" >&2
    exit 3
}

is_installed() {
    command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null
}

install() {
    is_installed && return
    command -v apt-get >/dev/null || refuse "there is no apt-get to install Slurm with"
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -q && apt-get install -y -q --no-install-recommends slurmctld slurmd slurm-client munge ||
        refuse "Slurm cannot be installed"
}

start_munge() { # authentication between clients and daemons, with a key of our own and a socket in FOLDER
    mkdir -p "$folder/munge"
    head -c 1024 /dev/urandom >"$folder/munge/key"
    chmod 600 "$folder/munge/key"
    chmod 755 "$folder" "$folder/munge"
    munged --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
        --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" --num-threads=2
}

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

write_configuration() {
    node=$(hostname -s)
    mkdir -p "$folder/state" "$folder/spool"
    cat >"$folder/slurm.conf" <<END
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerParameters=sched_interval=2
PropagatePrioProcess=1
PropagateResourceLimits=NONE
ReturnToService=2
MpiDefault=none
KillWait=5
OverTimeLimit=0
SlurmdParameters=config_overrides
NodeName=$node NodeAddr=127.0.0.1 CPUs=4 State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
END
}

start() {
    [ "$(id -u)" = 0 ] || refuse "a Slurm for tests needs root"
    is_installed || refuse "Slurm is not installed; \`tests/engines/local_slurm.sh install\` installs it on Debian and Ubuntu"
    mkdir -p "$folder"
    start_munge
    write_configuration
    export SLURM_CONF=$folder/slurm.conf
    slurmctld -c
    slurmd
    for _ in $(seq 60); do
        if sinfo --noheader --format=%T 2>/dev/null | grep -qE 'idle|mixed|allocated'; then
            echo "export SLURM_CONF=$SLURM_CONF"
            return
        fi
        sleep 0.5
    done
    echo "the node did not come up; see $folder/*.log" >&2
    stop
    exit 1
}

stop() {
    export SLURM_CONF=$folder/slurm.conf
    timeout 10 scancel --user=root >/dev/null 2>&1 || true
    for file in "$folder/slurmd.pid" "$folder/slurmctld.pid" "$folder/munge/pid"; do
        if [ -s "$file" ]; then kill "$(cat "$file")" 2>/dev/null || true; fi
    done
}

case "$#:${1-}" in
1:install) install ;;
2:start | 2:stop)
    folder=$(realpath -m "$2")
    "$1"
    ;;
*) refuse "usage: $0 install, or $0 start|stop FOLDER" ;;
esac
