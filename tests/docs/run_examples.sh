#!/usr/bin/env bash
# Runs every ```sh block of README.md and docs/ that is marked with `<!-- test -->` on the line before it, in order, in an
# empty folder that has the sources' recipes, with `attar` on the PATH. A block's commands must succeed. Then the steps of the workflow in
# docs/ci.md, as GitHub runs them (`bash -e` for each, in one folder), but for the one that builds Attar.
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

echo "== the workflow of docs/ci.md"
mkdir "$work/workflow" "$work/steps"
awk -v folder="$work/steps/" '
  /^```yaml$/ {inside = 1; next} /^```$/ {inside = 0} !inside {next}
  /^      - / {taking = 0}
  /^        run: \|$/ {file = folder (++steps); taking = 1; next}
  /^        run: / {file = folder (++steps); sub(/^        run: /, ""); print > file; next}
  taking && /^        [a-z]/ {taking = 0}
  taking {print substr($0, 11) > file}' "$source/docs/ci.md"
ran=0
for step in "$work"/steps/*; do
  bash -n "$step"
  grep -q 'bootstrap build' "$step" && continue
  (cd "$work/workflow" && GITHUB_ACTIONS=true GITHUB_STEP_SUMMARY=$work/workflow/summary.md bash -e -x "$step")
  ran=$((ran + 1))
done
((ran == 2)) || { echo "the workflow has $ran steps that use Attar, expected 2" >&2; exit 1; }
awk '/path: \|/ {inside = 1; next} inside && NF {print $1} inside && /^```$/ {exit}' "$source/docs/ci.md" | grep -v '```' | while read -r uploaded; do
  [[ -s $work/workflow/$uploaded ]] || { echo "the workflow uploads $uploaded, which its steps did not write" >&2; exit 1; }
done
grep -q 'attar eval: pass' "$work/workflow/summary.md"
