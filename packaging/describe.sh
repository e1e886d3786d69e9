#!/bin/sh
# Writes what a package says of its contents, the crates that a function is made of for a target: an SBOM, and a notice with their
# licences.
#
#   packaging/describe.sh FUNCTION TARGET DIRECTORY
set -eu
cd "$(dirname "$0")/.."

function=$1 target=$2 directory=$3

setting() { sed -n "s/^$1 = \"\(.*\)\"\$/\1/p" "$2" | head -n 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# To find the licences takes ten seconds: once for both. A form feed is between them, which no JSON has.
{
  cat packaging/sbom.cdx.json.hbs
  printf '\f\n'
  cat packaging/NOTICE.hbs
} | sed -e "s/@FUNCTION@/$function/g" -e "s/@TARGET@/$target/g" \
  -e "s/@VERSION@/$(setting version Cargo.toml)/g" -e "s/@RUST@/$(setting channel rust-toolchain.toml)/g" >"$work/template.hbs"

# Offline, because what a repository answers today it need not answer tomorrow; a crate without a text of its licence gets the usual one.
cargo about -L warn generate --config packaging/about.toml --frozen --fail --target "$target" \
  --manifest-path "functions/$function/Cargo.toml" --output-file "$work/both" "$work/template.hbs" 2>"$work/warnings" || {
  cat "$work/warnings" >&2
  exit 1
}
# Whatever it warns of leaves something out, such as a clarification whose file has changed.
if [ -s "$work/warnings" ]; then
  cat "$work/warnings" >&2
  exit 1
fi

mkdir -p "$directory"
awk -v sbom="$directory/sbom.cdx.json" -v notice="$directory/NOTICE" '
  !is_notice && /^\f$/ { is_notice = 1; next }
  { print >(is_notice ? notice : sbom) }' "$work/both"
