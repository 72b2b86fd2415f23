# Needs Rust, a C compiler and make. See the README for what each command is for.
.PHONY: run test check bench soak fuzz

run: ## Serve on http://localhost:3200 with demo data; GraphiQL is at /graphiql
	cargo run --locked

test: ## The whole suite on SQLite, then on PostgreSQL and Redis when both answer
	tests/run.sh

check: ## Format, lints, and schema.graphql against the code
	cargo fmt --all --check
	cargo clippy --locked --workspace --all-targets -- -D warnings
	cargo test --locked --test it -- schema::the_committed_schema tidy::

soak: ## The suite with everything that grows made larger
	MUSUBI_TEST_SCALE=$${MUSUBI_TEST_SCALE:-20} tests/run.sh

bench: ## Speed and memory beside bare peers, on PostgreSQL; NAMES="pairs sockets --quick" picks
	cargo bench --locked --bench musubi -- $(NAMES)

fuzz: ## Fuzz the guard of documents for N seconds (60) each way; needs cargo-fuzz and a C++ compiler
	cd fuzz && ./run.sh $${N:-60}
