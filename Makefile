# `make help` lists the commands. Each is also documented where it is implemented: `scripts/NAME.sh --help`.
.DEFAULT_GOAL := help
.PHONY: help run test check ci generate tutorial schemathesis web clients sizes bench mutants sam-local check-built smoke \
  template rehearsal deny previous-version asyncapi javascript-client

help: ## List these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | awk -F '\t' '{printf "  make %-17s %s\n", $$1, $$2}'

run: ## Start the development server at http://localhost:3000
	cargo run

test: ## Run all Rust tests
	cargo test --workspace --locked

previous-version: ## Test this version and the previous one side by side on one table
	scripts/test-previous-version.sh

check: ## Check the format and run clippy
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- --deny warnings

ci: ## Run everything that must pass before a merge
	.ci/run

asyncapi: ## Validate asyncapi.yaml with the parser of the AsyncAPI project
	scripts/check-asyncapi.sh

javascript-client: ## Test the JavaScript client against a simulated service and the development server
	scripts/test-javascript-client.sh

generate: ## Write openapi.yaml, asyncapi.yaml, events/ and the endpoint table of docs/api.md from the code
	cargo run --quiet --locked -- generate

tutorial: ## Run the README's tutorial against the development server
	scripts/test-tutorial.sh

schemathesis: ## Test the development server with requests generated from openapi.yaml
	scripts/schemathesis.sh

web: ## Test the demo and the documentation page in a browser
	scripts/test-web.sh

clients: ## Generate clients from openapi.yaml and let them chat with the development server
	scripts/test-generated-clients.sh

sizes: ## Check size, memory and instructions of deployed functions against their budget
	scripts/check-sizes.sh

bench: ## Run all benchmarks (half an hour or more after the build)
	cargo run --release --locked --bin chat-bench

mutants: ## Mutation testing of the modules without I/O (scripts/mutants.sh --help for the others)
	scripts/mutants.sh pure

sam-local: ## Run the functions in Lambda's container with `sam local` (needs Docker)
	scripts/test-sam-local.sh

check-built: ## Check what `sam build` has built, before a deployment
	scripts/check-built-functions.sh

smoke: ## Run the tutorial against a deployment: JWT_SECRET=… make smoke URL=https://…
	scripts/smoke-test.sh '$(URL)'

template: ## Check the template's versions, conditions and alarms
	"$$(scripts/python-tools.sh template)/python" scripts/check_template.py
	"$$(scripts/python-tools.sh template)/python" scripts/check_alarms.py
	"$$(scripts/python-tools.sh template)/python" scripts/check_deploy_role.py

rehearsal: ## Deploy to an AWS emulator, change everything, restore, roll back and delete
	scripts/rehearse-deployment.sh

deny: ## Check licenses, bans and sources of dependencies
	scripts/check-dependencies.sh
