"""The shell texts that are sent to SLURM, with places for what changes."""

from __future__ import annotations

STRIPPED = """\
kept='SLURM_(CONF|JWT|JOB_ID|ARRAY_TASK_ID)'
unset $(compgen -v | grep -E '^(SBATCH|SALLOC|SRUN|SLURM|SQUEUE)_' | grep -vxE "$kept")
"""
"""What SLURM or the caller set would change the meaning of the commands that follow."""

WORKER = """\
log=$1; shift
[ "${{SLURM_NODEID:-0}}" = 0 ] || log=${{log%.log}}-$SLURM_NODEID.log
exec >> "$log" 2>&1 || exit {not_shared}
{prologue}exec "$@"
"""

GUARD = """\
[ "$SLURM_NODEID" != 0 ] || echo held
nodes=$SLURM_STEP_NUM_NODES
[ "$nodes" -gt 1 ] && [ "$((SLURM_NODEID + 1))" = "$nodes" ] || exec sleep infinity
while sleep 30; do
  read -r host nodes < <(squeue --noheader --jobs="$1" --format='%B %N') && [ -n "$nodes" ] || continue
  scontrol show hostnames "$nodes" | grep -qxF "$host" || exec scontrol requeue "$1"
done
"""
"""A step that holds the master's cores, and whose last node watches the first.

SLURM lets a --no-kill job whose first node is lost keep the others, without its batch step.
"""

MASTER = """\
#!/bin/bash
{directives}
exec >> {log} 2>&1 || exit {not_shared}
nodes=$SLURM_JOB_NUM_NODES
{stripped}where=(--jobid="$SLURM_JOB_ID" --nodes="$nodes" --ntasks="$nodes")
exec {{held}}< <(exec srun "${{where[@]}}" {guard} "$SLURM_JOB_ID")
guard=$!
read -r -t 60 _ <&$held
{exports}export {variable}=$SLURM_JOB_ID
{prologue}
end() {{ ending=yes; kill -TERM "$master"; }}
trap end TERM INT
for restarts_left in $(seq {restarts} -1 0); do
  {command} &
  master=$!
  # A signal interrupts the first wait; its trap passes it on.
  until wait "$master"; status=$?; ! kill -0 "$master"; do :; done 2> /dev/null
  wait "$master"; status=$?
  case $status in 129|13[1-9]|14[0-2]|14[4-9]|1[5-9]?) ;; *) break ;; esac
  [ -z "$ending" ] || break
  echo "aibench: the master was ended by signal $((status - 128)), restarts left: $restarts_left"
done
kill "$guard" 2> /dev/null
exit "$status"
"""

ARRAY = """\
#!/bin/bash
{directives}
{stripped}{exports}case $SLURM_ARRAY_TASK_ID in
{cases}esac
exec >> "$log" 2>&1 || exit {not_shared}
exec srun --jobid="$SLURM_JOB_ID" "${{step[@]}}"
"""
