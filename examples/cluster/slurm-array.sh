#!/bin/bash
# A batch as a Slurm array: one shard a task, each on a card of its own. docs/cluster.md explains it.
#
#   export PICTURES=/shared/pictures OUTPUT=/shared/outputs/many SHARDS=8
#   export KISS3D=/shared/kiss3d-orchestrate/bin/kiss3d-orchestrate
#   job=$(sbatch --parsable --array=0-7 examples/cluster/slurm-array.sh)
#   sbatch --dependency=afterany:$job --wrap "$KISS3D batch merge $OUTPUT"
#
# KISS3D is the program as all nodes find it: a clone's launcher, or kiss3d-orchestrate if that is on
# their PATH. Where the cluster asks for them, add --partition=NAME and --account=NAME to both.
# --array counts from 0 to SHARDS - 1. Tasks that failed or were cut off are asked for again with the
# same SHARDS, as in `sbatch --array=3,5 ...`: they go on where they were.
#
#SBATCH --job-name=kiss3d
#SBATCH --gpus=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=48G
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=kiss3d-%A_%a.log

set -eu
: "${PICTURES:?the folder or list, at the same path on every node}"
: "${OUTPUT:?the directory that all shards share, at the same path on every node}"
: "${SHARDS:?how many shards there are, whichever of them this array runs}"
: "${SLURM_ARRAY_TASK_ID:?this is no task of an array: sbatch --array=0-$((SHARDS - 1))}"

# exec: the signal two minutes before the time limit reaches the program itself, which stops cleanly.
# shellcheck disable=SC2086  # OPTIONS are several words
exec "${KISS3D:-kiss3d-orchestrate}" batch "$PICTURES" \
    --shard "$SLURM_ARRAY_TASK_ID/$SHARDS" --output "$OUTPUT" \
    ${OPTIONS:---profile full_12gb}
