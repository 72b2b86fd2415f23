#!/bin/sh
# Builds both fuzzers and runs each for so many seconds. Findings lie in artifacts/.
set -eu
seconds=$1
# The coverage of the compiler's stable releases; no sanitizer, as the guard has no unsafe code.
export RUSTC_BOOTSTRAP=1
mkdir -p corpus/guard corpus/grammar artifacts
cargo fuzz build --fuzz-dir . --sanitizer none
for target in guard grammar; do
	# A call that takes two seconds hangs.
	cargo fuzz run "$target" --fuzz-dir . --sanitizer none corpus/"$target" $([ -d seeds/"$target" ] && echo seeds/"$target") -- \
		-max_total_time="$seconds" -timeout=2 -max_len=16384 -dict=graphql.dict
done
