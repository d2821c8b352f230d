#!/bin/sh
#SBATCH --array=1-2 --nodes=2 --ntasks-per-node=1
# Each task of the array is a job of its own, which meets at a port of its own.
srun nano-run --nproc-per-node 1 train.py --seed "$SLURM_ARRAY_TASK_ID"
