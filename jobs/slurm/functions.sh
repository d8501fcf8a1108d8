# shellcheck shell=bash disable=SC2034
# What the job scripts share. It reads jobs/site.sh; nothing in here needs to be edited.

# shellcheck source=jobs/site.sh
. "${HEALMPI_SITE:-jobs/site.sh}"

cpus="${SLURM_CPUS_PER_TASK:-1}"
job="${SLURM_JOB_NAME:-local}-${SLURM_ARRAY_JOB_ID:-${SLURM_JOB_ID:-$$}}"  # stays when Slurm starts the job again
every="${CHECKPOINT_EVERY:-100}"  # cycles between checkpoints; before a limit there is one anyhow, these are for machines that fail
wrap=()  # put before the command of each rank
export OMP_NUM_THREADS="$cpus"

# The last task of an array has the number of the whole array: name the task.
this_job="${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID}"
this_job="${this_job:-${SLURM_JOB_ID:-}}"

# healmpi ends itself before SLURM_JOB_END_TIME. Slurm 22.05 does not set it, and none changes it with the limit.
tell_end_time() {
    local end
    [ -n "$this_job" ] || return 0
    # squeue takes its format and filters from the environment, too: SQUEUE_PARTITION would hide the job, SLURM_TIME_FORMAT gives words.
    end=$(plain_slurm squeue --noheader --states=all --jobs "$this_job" --format %e) || return 0
    # No answer is no end: date takes an empty text for today's midnight.
    [[ "$end" =~ ^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}$ ]] || return 0
    end=$(date --date "$end" +%s 2> /dev/null) || return 0
    export SLURM_JOB_END_TIME="$end"
}

# A command of Slurm without what the user's environment says of its output.
plain_slurm() {
    local name
    (
        for name in $(compgen -e); do
            case "$name" in SQUEUE_* | SLURM_TIME_FORMAT | SLURM_CLUSTERS) unset "$name" ;; esac
        done
        export SLURM_TIME_FORMAT=standard
        "$@"
    )
}

# How many ranks the job has. Of --ntasks-per-node alone SLURM_NTASKS is not set everywhere.
tasks() {
    local each="${SLURM_NTASKS_PER_NODE:-}"
    if [ -n "${SLURM_NTASKS:-}" ]; then echo "$SLURM_NTASKS"
    elif [ -z "${SLURM_JOB_ID:-}" ]; then echo "$1"
    elif [[ "$each" =~ ^[0-9]+$ ]] && [[ "${SLURM_JOB_NUM_NODES:-}" =~ ^[0-9]+$ ]]; then echo $((each * SLURM_JOB_NUM_NODES))
    else echo "this job does not say how many tasks it has: give sbatch --ntasks=N" >&2; return 2
    fi
}
tell_end_time

# launch RANKS COMMAND...
launch() {
    local ranks=$1; shift
    case "$launcher" in
        mpirun) "$mpirun" "${mpirun_options[@]}" -n "$ranks" "${wrap[@]}" "$@" ;;
        # srun does not take --cpus-per-task from sbatch; --wait ends a step in which a rank was killed.
        srun) srun --mpi="$mpi_type" --cpus-per-task="$cpus" --wait=60 "${srun_options[@]}" --ntasks="$ranks" "${wrap[@]}" "$@" ;;
        *) echo "jobs/site.sh: launcher is '$launcher', it must be mpirun or srun" >&2; return 2 ;;
    esac
}

# experiment OUT.h5 RANKS ARGUMENTS...   `healmpi run`; it goes on where an earlier try was stopped
experiment() {
    local out=$1 ranks=$2; shift 2
    mkdir -p "$(dirname "$out")"
    stoppable "$out.stop" launch "$ranks" "$python" -m mpi4py -m healmpi run --resume --checkpoint-every "$every" \
        --set learner.threads="$cpus" -o "$out" "$@"
}

# step OUT.h5 RANKS ARGUMENTS...   an experiment of a sweep: skipped when done; an invalid one does not end the sweep
worst=0
step() {
    [ ! -e "$1" ] || return 0
    experiment "$@" || worst=$?
    case "$worst" in 0 | 3) ;; *) exit "$worst" ;; esac
}

# figures FILE.h5 NAME...   figures of merit on one line, "-" where the file does not have one
figures() {
    local file=$1; shift
    "$python" -m healmpi info "$file" | awk -v names="$*" '
        /^figures of merit/ {inside = 1}
        inside && !($1 in value) {value[$1] = $2}
        END {count = split(names, name, " "); for (i = 1; i <= count; i++) printf "%s ", name[i] in value ? value[name[i]] : "-"}'
}

# stoppable STOP-FILE COMMAND...   USR1 (from #SBATCH --signal, before the limit) puts the file at which healmpi stops
stoppable() {
    local stop=$1 code signalled="" child; shift
    remove_ours "$stop"  # of a job that was killed
    trap 'signalled=1; [ -e "$stop" ] || echo "job $this_job" > "$stop"' USR1
    "$@" &
    child=$!
    while true; do
        code=0
        wait "$child" || code=$?
        [ -n "$signalled" ] && [ "$code" -gt 128 ] || break
        signalled=""  # the signal has ended the wait, not the run
    done
    trap - USR1
    remove_ours "$stop"
    if [ "$code" = 75 ]; then again "$stop"; fi
    return "$code"
}

# Ours has a content; an empty one is a user's, and stays.
remove_ours() { if [ -s "$1" ]; then rm "$1"; fi; }

# Code 75: stopped with its state saved. Into the queue again, unless a user's STOP file, of this run or of its suite, says otherwise.
again() {
    local file users=""
    for file in "$1" "$(dirname "$1")/STOP"; do
        if [ -e "$file" ]; then users=$file; fi
    done
    if [ -n "$users" ]; then
        echo "stopped by $users; remove it and submit again to go on"
    elif [ -z "$this_job" ] || [ "${SLURM_RESTART_COUNT:-0}" -ge "${MAX_RESTARTS:-20}" ]; then
        echo "stopped before the time limit; submit again, with the same OUT, to go on"
    else
        echo "stopped before the time limit; the job goes back into the queue"
        scontrol requeue "$this_job"
    fi
    exit 75
}
