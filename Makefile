SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo test bench install lint

help:
	@echo 'make demo       a guided tour on a throwaway server'
	@echo 'make test       all tests on PostgreSQL 15'
	@echo 'make bench      measurements'
	@echo 'make install    into your own server: make install PG_CONFIG=/path/to/pg_config'
	@echo 'make lint       formatting and lints'
	@echo
	@echo 'demo, test, bench and lint prepare the machine first: see scripts/setup.'

demo:
	scripts/setup 15
	scripts/install 15
	demo/run

test:
	scripts/setup 15
	cargo test -p fieldcrypt-core -p fieldcrypt-document --release
	scripts/test-in-backend 15
	scripts/install 15
	scripts/regress 15
	scripts/outside 15

bench:
	bench/run

install:
	@[ -n "$(PG_CONFIG)" ] || { echo 'usage: make install PG_CONFIG=/path/to/pg_config' >&2; exit 1; }
	scripts/setup --only-cargo-pgrx
	scripts/install "$(PG_CONFIG)"

lint:
	scripts/setup 15
	scripts/lint
