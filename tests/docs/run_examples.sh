#!/usr/bin/env bash
# Runs every ```sh block of README.md and docs/ that is marked with `<!-- test -->` on the line before it, in order, in an
# empty folder that has the sources' recipes, with `attar` on the PATH. A block's commands must succeed.
set -euo pipefail
source=$1 program=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"
ln -s "$program" "$work/bin/attar"
export PATH=$work/bin:$PATH
ln -s "$source/recipes" "$work/recipes"
count=0
for page in "$source"/README.md "$source"/docs/*.md "$source"/docs/*/*.md; do
  [[ -e $page ]] || continue
  script=$(awk '/^<!-- test -->$/ {marked = 1; next} marked && /^```sh$/ {inside = 1; marked = 0; next}
                /^```$/ {inside = 0} inside {print} !inside && NF {marked = 0}' "$page")
  [[ -n $script ]] || continue
  echo "== ${page#"$source"/}"
  (cd "$work" && bash -euo pipefail -x -c "$script")
  count=$((count + 1))
done
((count > 0)) || { echo "no example found" >&2; exit 1; }
