#!/usr/bin/env bash
# Creates models/gemma3_270m, a real Gemma 3 270M preset, from a GGUF file with this project's
# converter, and models/gemma3_270m_oracle.json, KerasHub's answers for it, which
# `npm run test:real` compares with this library's.
#
# Needs dist/, which `npm ci` and `npm run build` create, and Python 3.11 to 3.13. Packages are
# installed in models/.venv, unless PYTHON names an interpreter that already has keras-hub, gguf
# and sentencepiece.
# Complete files are kept.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=models/gemma3_270m
oracle=models/gemma3_270m_oracle.json
venv=models/.venv
# keras-hub needs tensorflow-text, which needs tensorflow. jax is for test/reference/check_train_on_jax.py.
packages=(keras==3.15.1 keras-hub==0.32.0 tensorflow==2.21.0 'jax[cpu]==0.10.2' gguf==0.19.0 sentencepiece==0.2.3
  safetensors==0.8.0 tokenizers==0.23.3)

fail() {
  echo "$*" >&2
  exit 1
}

find_python() {
  local candidate
  for candidate in python3 python3.13 python3.12 python3.11 python; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  return 1
}

make_venv() {
  if [[ "$(cat "$venv/.ready" 2>/dev/null)" == "${packages[*]}" ]]; then
    return
  fi
  "$1" -c 'import venv, ensurepip' 2>/dev/null ||
    fail "$1 has no venv module. Install it (on Debian and Ubuntu: the package python3-venv), or set PYTHON."
  echo "Installing ${packages[*]} into $venv, which takes a few minutes."
  rm -rf "$venv"
  "$1" -m venv "$venv" || fail "$1 could not create a virtual environment in $venv."
  "$venv/bin/python" -m pip install --quiet "${packages[@]}" ||
    fail "pip could not install the packages; see its message above."
  echo "${packages[*]}" >"$venv/.ready"
}

started=$SECONDS
base=${PYTHON:-$(find_python)} ||
  fail "No Python 3.11 to 3.13 was found. Install one, or set PYTHON to an interpreter."
"$base" -c '' 2>/dev/null || fail "Expected PYTHON to be an interpreter that runs. Received: $base."

have_preset=no
if "$base" scripts/fetch_270m.py "$preset" --check 2>/dev/null; then
  have_preset=yes
  # Files from older versions have fewer answers.
  if grep -q '"embedder"' "$oracle" 2>/dev/null; then
    # An environment of an older version lacks packages.
    if [[ -z "${PYTHON:-}" && -e "$venv/.ready" ]]; then make_venv "$base"; fi
    echo "The preset and $oracle exist: nothing to do."
    exit 0
  fi
fi

mkdir -p models
python=$base
if [[ -z "${PYTHON:-}" ]]; then
  make_venv "$base"
  python=$venv/bin/python
fi
if [[ $have_preset == no ]]; then
  [[ -f dist/cli.js ]] || fail "There is no dist/cli.js, which converts the model. Run npm ci or npm run build first."
  "$python" scripts/fetch_270m.py "$preset"
  node dist/cli.js convert "$preset.gguf" "$preset" --to keras --force
fi
echo "Recording KerasHub's answers for the tests, which takes two to five minutes."
"$python" test/reference/make_real_oracle.py "$preset" "$oracle"
echo "Done in $((SECONDS - started)) s."
