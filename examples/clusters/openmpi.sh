#!/bin/sh
# Usage: openmpi.sh HOST,HOST,...    The first host is host 0.
NANO_RUN_JOB_SECRET=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n')
export NANO_RUN_JOB_SECRET
mpirun --host "$1" --bind-to none -x NANO_RUN_JOB_SECRET \
    nano-run --nproc-per-node 1 --master-addr "${1%%[:,]*}" train.py
