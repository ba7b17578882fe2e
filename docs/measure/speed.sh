#!/bin/sh
# Speed against llama.cpp, in alternation, ten minutes on a quiet machine of two cores. llama-bench and llama-quantize on the PATH.
#   docs/measure/speed.sh MODEL FOLDER     MODEL: a bf16 checkpoint, e.g. one of attar init --weights bf16; FOLDER: scratch, 6 GB
set -eu
model=$1 folder=$2 pairs=${PAIRS:-5}
mkdir -p "$folder"
attar convert "$model" -o "$folder/bf16.gguf" --to gguf --type bf16 --quiet
for type in q4_0 q4_k_m q3_k_m; do
  llama-quantize "$folder/bf16.gguf" "$folder/$type.gguf" $type 2 2>&1 | tail -1
  echo "attar quantize $type:"
  time attar quantize "$model" -o "$folder/own.gguf" --type $type --method rtn --threads 2 --quiet
  rm "$folder/own.gguf"
  for prompt in 128 512; do
    i=0
    while [ $i -lt "$pairs" ]; do
      llama-bench -m "$folder/$type.gguf" -t 2 -p $prompt -n 32 -r 1 -o csv 2>/dev/null
      attar bench "$folder/$type.gguf" --prompt $prompt --decode 32 --threads 2 --quiet
      i=$((i + 1))
    done
  done
done
attar bench --threads 2
