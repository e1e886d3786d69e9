.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
SHELL := /bin/sh

# Instruction sets of the packages, as the Terraform module's `architecture`.
ARCHITECTURES := x86_64 arm64
# What is deployed is of one.
ARCH ?= $(if $(filter deploy destroy,$(MAKECMDGOALS)),x86_64,$(ARCHITECTURES))
# That of this machine.
MACHINE := $(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x86_64)
# Python 3.11 or later, to make the tools' environment from.
PYTHON ?= python3

# What an operator's command is about is said where it is given: in an environment these may be about something else.
$(foreach name,NAME MODE RULES REPOSITORIES TAGS PUSHED_SINCE PUSHED_BEFORE NEWEST PRICE_PER_GB BYTES_PER_SECOND, \
	$(if $(filter environment,$(origin $(name))),$(eval undefine $(name))))

FUNCTIONS := resolve-image ensure-repo copy-layers put-manifest report find-differences report-differences

# Everything that is installed stays in the project. cargo finds `cargo lambda`, and that finds zig, by the path.
TOOLS := $(CURDIR)/.tools
export PATH := $(TOOLS)/python/bin:$(TOOLS)/cargo/bin:$(PATH)

TERRAFORM := $(CURDIR)/tests/local/bin/terraform
TERRAFORM_ROOTS := terraform terraform/modules/target-account \
	terraform/examples/basic terraform/examples/cross-account terraform/examples/deploy-when-replicated \
	terraform/examples/rules deploy tests/local
TERRAFORM_ROOT_CHECKS := $(TERRAFORM_ROOTS:%=terraform-check/%)

ASL_CHECKS := $(patsubst statemachine/%.asl.json,asl-check/%,$(wildcard statemachine/*.asl.json))

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: tools
tools: $(TOOLS)/python/.installed $(TOOLS)/node/.installed ## Install the pinned tools into .tools

$(TOOLS)/python/.installed: tests/tools/requirements.txt
	$(PYTHON) -m venv $(TOOLS)/python
	$(TOOLS)/python/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

$(TOOLS)/node/.installed: tests/tools/package.json tests/tools/package-lock.json
	@mkdir -p $(@D)
	cp $^ $(@D)
	npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

# In bytes: a larger package takes longer to start.
LARGEST_PACKAGE := 6000000

TRIPLE_x86_64 := x86_64-unknown-linux-gnu
TRIPLE_arm64 := aarch64-unknown-linux-gnu

# A binary has the names of sources in it, for what is said when something goes wrong: here, wherever they are, by the same names. So
# two checkouts make the same bytes, and none tells whose it was.
REMAPPED = --remap-path-prefix=$(CURDIR)=/ecr-replicator \
	--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo \
	--remap-path-prefix=$$(rustc --print sysroot)/lib/rustlib/src/rust=/rustc/$$(rustc -vV | sed -n 's/^commit-hash: //p')

# `--disable-optimizations` leaves the release profile to Cargo.toml: cargo-lambda would add link-time optimization, which costs
# five times the build time here and makes the binaries larger.
.PHONY: $(ARCHITECTURES:%=binaries/%)
$(ARCHITECTURES:%=binaries/%): binaries/%: $(TOOLS)/python/.installed
	@test -d "$$(rustc --print target-libdir --target $(TRIPLE_$*))" || rustup target add $(TRIPLE_$*)
	RUSTFLAGS="$(REMAPPED)" cargo lambda build --release --locked --disable-optimizations \
		--lambda-dir target/lambda/$* --target $(TRIPLE_$*) $(FUNCTIONS:%=--package %)

# What the demo, the benchmark and the tests run: on this machine, so for this machine alone, and without papers.
.PHONY: functions
functions: binaries/$(MACHINE) ## Build the functions for this machine
	@for function in $(FUNCTIONS); do \
		directory=target/lambda/$(MACHINE)/$$function; \
		python packaging/archive.py $$directory/bootstrap.zip bootstrap=$$directory/bootstrap || exit 1; \
	done

# The licences of what is linked, and what it is, as a CycloneDX document. A rule with several patterns makes all of them at once; the
# stem is `<architecture>/<function>`.
PAPERS := NOTICE sbom.cdx.json

target/lambda/%/NOTICE target/lambda/%/sbom.cdx.json: $(wildcard packaging/*) Cargo.toml Cargo.lock rust-toolchain.toml $(wildcard functions/*/Cargo.toml) \
		| $(TOOLS)/cargo/bin/cargo-about
	packaging/describe.sh $(*F) $(TRIPLE_$(*D)) $(@D)

ABOUT_VERSION := 0.9.3

$(TOOLS)/cargo/bin/cargo-about:
	cargo install --locked --version $(ABOUT_VERSION) --root $(TOOLS)/cargo --features cli cargo-about

# Ten seconds for each function: two at once, and not again unless something changed.
.PHONY: $(ARCHITECTURES:%=papers/%)
$(ARCHITECTURES:%=papers/%): papers/%:
	@cargo fetch --locked --quiet
	@$(MAKE) --silent --jobs=2 $(foreach function,$(FUNCTIONS),$(PAPERS:%=target/lambda/$*/$(function)/%))

VERSION := $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' Cargo.toml | head -n 1)
MODULE_ARCHIVE := ecr-replicator-module-$(VERSION).zip
# Its tests stay here.
MODULE_FILES = $(shell git ls-files terraform statemachine docs CHANGELOG.md LICENSE ':!terraform/tests')

# The archive of the module has the checksums of the packages: who trusts the one knows the others.
.PHONY: package
package: $(ARCH:%=binaries/%) $(ARCH:%=papers/%) ## Write the packages, their checksums and the Terraform module into dist (ARCH=x86_64 or arm64: one)
	@[ -n '$(MODULE_FILES)' ] || { echo 'The module is made of what Git has: package a clone of the repository.' >&2; exit 1; }
	rm -rf dist
	@set -e; for architecture in $(ARCH); do for function in $(FUNCTIONS); do \
		files=target/lambda/$$architecture/$$function; package=dist/$$architecture/$$function/bootstrap.zip; \
		python packaging/archive.py $$package bootstrap=$$files/bootstrap $(foreach paper,$(PAPERS),$(paper)=$$files/$(paper)); \
		size=$$(wc -c <$$package); \
		echo "$$architecture $$function $$size bytes"; \
		[ $$size -le $(LARGEST_PACKAGE) ] || { echo "$$package is larger than $(LARGEST_PACKAGE) bytes" >&2; exit 1; }; \
	done; done
	@mkdir dist/statemachine
	@cp statemachine/*.asl.json dist/statemachine
	@cd dist && find * -type f | LC_ALL=C sort | xargs sha256sum >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS
	@python packaging/archive.py dist/$(MODULE_ARCHIVE) SHA256SUMS=dist/SHA256SUMS $(foreach file,$(MODULE_FILES),$(file)=$(file))
	@cd dist && sha256sum $(MODULE_ARCHIVE) >>SHA256SUMS

# The demo runs the functions on this machine. Make hands IMAGE, TARGETS, RECONCILE and KEEP on in the environment.
.PHONY: demo
demo: functions ## Push an image on this machine and follow it to every target (IMAGE=, TARGETS=, KEEP=1; RECONCILE=1)
	@NO_PROXY=127.0.0.1,localhost cargo run --quiet --locked --package local-stack --bin demo

# OUTPUT is where the page goes. In AWS it takes credentials that may read the execution; of a demo that is kept, the environment that
# the demo prints.
OUTPUT ?= run.html

.PHONY: picture
picture: ## Write an execution, in AWS or of a demo that is kept, as one HTML page (EXECUTION=<arn>, OUTPUT=run.html)
	@cargo run --quiet --locked --package picture -- --output '$(OUTPUT)' '$(EXECUTION)'

# Asks before it changes anything, unless APPROVE=yes. Credentials, and a backend for Terraform's state, are the user's.
DEPLOYMENT := $(TERRAFORM) -chdir=deploy
APPROVED := $(if $(filter yes,$(APPROVE)),-auto-approve)

.PHONY: deploy
deploy: package ## Build the functions and apply what deploy/terraform.tfvars says, in AWS (ARCH=, APPROVE=yes)
	$(DEPLOYMENT) init -input=false
	$(DEPLOYMENT) apply -var architecture=$(ARCH) $(APPROVED)

.PHONY: destroy
destroy: package ## Take away in AWS all that `make deploy` made; images stay (APPROVE=yes)
	$(DEPLOYMENT) init -input=false
	$(DEPLOYMENT) destroy -var architecture=$(ARCH) $(APPROVED)

.PHONY: terraform-check
terraform-check: terraform-fmt $(TERRAFORM_ROOT_CHECKS) ## Check format and validity of the Terraform code, and run the module's tests
	TF_DATA_DIR=$(TOOLS)/terraform/terraform $(TERRAFORM) -chdir=terraform test

.PHONY: terraform-fmt
terraform-fmt:
	$(TERRAFORM) fmt -check -recursive -diff deploy terraform tests/local tests/packages

.PHONY: $(TERRAFORM_ROOT_CHECKS)
$(TERRAFORM_ROOT_CHECKS): terraform-check/%:
	TF_DATA_DIR=$(TOOLS)/terraform/$* $(TERRAFORM) -chdir=$* init -backend=false -input=false -lockfile=readonly >/dev/null
	TF_DATA_DIR=$(TOOLS)/terraform/$* $(TERRAFORM) -chdir=$* validate

# checkov has a hundred packages of its own, in other versions than the other tools'.
$(TOOLS)/checkov/.installed: tests/tools/checkov.txt
	$(PYTHON) -m venv $(TOOLS)/checkov
	$(TOOLS)/checkov/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement $<
	@touch $@

# A file that checkov cannot read is one that it does not check, which it only counts.
.PHONY: terraform-scan
terraform-scan: $(TOOLS)/checkov/.installed ## Scan the Terraform code for what is insecure, but for what terraform/checkov.yaml explains
	@mkdir -p target
	$(TOOLS)/checkov/bin/checkov --config-file terraform/checkov.yaml --output cli --output json --output-file-path console,target/checkov.json
	@$(TOOLS)/checkov/bin/python -c "import json; summary = json.load(open('target/checkov.json'))['summary']; print(summary); \
		assert summary['passed'] and not summary['parsing_errors'], 'a file cannot be parsed'"

.PHONY: asl-check
asl-check: $(ASL_CHECKS) ## Lint the state machines' definitions, as Terraform renders them

# What statelint does not know of the States Language as it is now: asl-validator does, and it has the whole definition.
UNKNOWN_TO_STATELINT := Label InputType Transformation WriterConfig

.PHONY: $(ASL_CHECKS)
$(ASL_CHECKS): asl-check/%: tools
	@mkdir -p target/asl
	sed -e 's/$${partition}/aws/' -e 's/$${rules}/{}/' -e 's/$${concurrency}/10/' -e 's/$${puts_per_second}/1/' \
		-e 's/$${\([a-z_]*\)_arn}/arn:aws:lambda:eu-central-1:123456789012:function:\1:live/' statemachine/$*.asl.json >target/asl/$*.json
	@! grep -n '$${' target/asl/$*.json
	$(TOOLS)/node/node_modules/.bin/asl-validator --json-path target/asl/$*.json
	@python -c "import json, sys; unknown = sys.argv[1:]; \
		known = lambda members: {name: value for name, value in members if name not in unknown}; \
		json.dump(json.load(sys.stdin, object_pairs_hook=known), sys.stdout)" \
		$(UNKNOWN_TO_STATELINT) <target/asl/$*.json >target/asl/$*.statelint.json
	$(TOOLS)/python/bin/statelint target/asl/$*.statelint.json

.PHONY: docs-check
docs-check: nextest ## Hold the documents to the module, to each other, and to what runs their commands (UPDATE_DOCS=1 writes tables)
	cargo nextest run --workspace --locked -E 'package(it) & test(/^(documents|matrix|permissions|statemachine)::/)'

# A benchmark and not a test: what it measures is in target/bench. ARGS are the program's own, such as `--only cold`.
.PHONY: bench
bench: functions ## Measure the functions beside other programs, on this machine (RUNS=5, ARGS=--help)
	@NO_PROXY=127.0.0.1,localhost cargo run --release --quiet --locked --package bench -- $(ARGS)

# The tests draw some hundred runs; this many take minutes.
RUNS ?= 10000

.PHONY: reliability
reliability: nextest ## Replicate under faults that RUNS=10000 seeds draw, and killed at every call: target/reliability
	rm -rf target/reliability
	RELIABILITY=$(CURDIR)/target/reliability RUNS=$(RUNS) \
		cargo nextest run --release --package it --locked --profile reliability -E 'test(/^runs::/)'
	cat target/reliability/results.json

# Needs the AWS CLI, with credentials for the account and the source region. NAME is the module's `name`.
.PHONY: replay-dead-letters
replay-dead-letters: ## Start an execution for each push event that could not start one (NAME=ecr-replicator)
	terraform/replay-dead-letters.sh $(NAME)

# Needs the AWS CLI, with credentials for the account and the source region.
.PHONY: wait-for-image
wait-for-image: ## Wait until a push is at every target (IMAGE=repository:tag@digest, NAME=ecr-replicator, SECONDS=1800)
	@terraform/wait-for-image.sh '$(IMAGE)' '$(or $(NAME),ecr-replicator)' '$(or $(SECONDS),1800)'

# Needs the AWS CLI, with credentials for the account and the source region.
.PHONY: reconcile
reconcile: ## Find what targets lack (MODE=audit, plan or repair; RULES=, REPOSITORIES=, TAGS=, NEWEST=, ...)
	@terraform/reconcile.sh name='$(NAME)' mode='$(MODE)' rules='$(RULES)' repositories='$(REPOSITORIES)' tags='$(TAGS)' \
		pushed_since='$(PUSHED_SINCE)' pushed_before='$(PUSHED_BEFORE)' newest='$(NEWEST)' \
		price_per_gb='$(PRICE_PER_GB)' bytes_per_second='$(BYTES_PER_SECOND)'

# Needs the AWS CLI, with credentials for the account and the source region.
.PHONY: reconcile-progress
reconcile-progress: ## Show how far a run of reconcile is (EXECUTION=<arn>)
	@terraform/reconcile-progress.sh '$(EXECUTION)'

NEXTEST_VERSION := 0.9.143

# Where cargo-nextest is not installed, this project's own.
$(TOOLS)/cargo/bin/cargo-nextest:
	cargo install --locked --version $(NEXTEST_VERSION) --root $(TOOLS)/cargo cargo-nextest

.PHONY: nextest
nextest:
	@command -v cargo-nextest >/dev/null || $(MAKE) $(TOOLS)/cargo/bin/cargo-nextest

.PHONY: lint
lint: ## Check the formatting, the lints and the documentation of the Rust code
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items --locked --quiet

# With the module's archive on its own, unpacked elsewhere, in Terraform. It takes both architectures.
.PHONY: package-check
package-check: package ## Check what is in the packages, and that the module's archive is whole
	python tests/packages/test_packages.py

# An exception in deny.toml that nothing needs any more is an error, too. Advisories are in a database elsewhere, which is not to be had
# everywhere.
.PHONY: deny
deny: $(TOOLS)/python/.installed ## Check the licences, duplicates and sources of what is in Cargo.lock, and what is known against it
	cargo deny --locked check --deny unmatched-skip --deny unnecessary-skip licenses bans sources
	@if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then \
		cargo deny --locked check --disable-fetch advisories; \
	else \
		echo 'advisories NOT CHECKED: their database cannot be reached' >&2; \
	fi

# Each has a local stack, and waits a minute for Terraform's provider, which looks at new resources again and again: so twice as many run at
# once as there are cores.
END_TO_END := (package(local-stack) & binary(demo)) + test(/^(dead_letters|deploying|local_stack|notifications|permissions|picture)::/) \
	+ test(/^(reconcile_registry|redrive|rules|runbook|secrets|state_machine_faults|waiting)::/)

# The end-to-end tests deploy the functions, so those are built first.
.PHONY: test
test: lint deny asl-check terraform-check terraform-scan nextest functions package-check ## Run every check and every test
	cargo test --workspace --doc --locked --quiet
	cargo nextest run --workspace --locked -E 'not ($(END_TO_END))'
	cargo nextest run --workspace --locked -E '$(END_TO_END)' --test-threads $$((2 * $$(getconf _NPROCESSORS_ONLN)))
