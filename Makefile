# The few commands a person needs; each is a cargo xtask underneath.
export CARGO_TERM_PROGRESS_WHEN ?= never

.PHONY: all demo test setup install clean

all: setup
	cargo xtask build

# Installs what is missing, builds, and shows the main job as a user would do it.
demo: setup
	cargo xtask demo

# Installs what is missing and runs everything CI runs.
test: prerequisites
	cargo xtask ci

setup: prerequisites
	cargo xtask setup

# A C compiler and make are needed before the first crate builds; everything else xtask installs.
.PHONY: prerequisites
prerequisites:
	@command -v cc >/dev/null 2>&1 || { \
	  echo "installing a C compiler (build-essential)"; \
	  SUDO=$$( [ "$$(id -u)" = 0 ] || echo sudo ); \
	  $$SUDO apt-get update -q >/dev/null && \
	  DEBIAN_FRONTEND=noninteractive $$SUDO apt-get install -y -q --no-install-recommends build-essential >/dev/null; }

clean:
	cargo clean
