#!/bin/sh
# Usage: mpich.sh HOST,HOST,...    The first host is host 0; PMI hands the job's secret on.
mpiexec -hosts "$1" -bind-to none \
    nano-run --nproc-per-node 1 --master-addr "${1%%[:,]*}" train.py
