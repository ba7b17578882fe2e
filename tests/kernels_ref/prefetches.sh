#!/bin/sh
# That weights are fetched ahead shows in no result, only in the code: a compiler may drop a call of a function that does nothing else.
#   prefetches.sh LIBRARY     a static library of the kernels for x86-64
command -v objdump > /dev/null || { echo "skipped: no objdump"; exit 0; }
for variant in avx512 avx512_vnni; do
  objdump -d --no-show-raw-insn "$1" | awk -v file="^$variant.cc.o:" '/file format/ { here = $0 ~ file } here && /prefetch/ { ++n } END { exit n < 50 }' ||
    { echo "$variant.cc: fewer than 50 prefetches in $1"; exit 1; }
done
