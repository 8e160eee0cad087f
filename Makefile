# make             the optimised firn and firnfs in build/release/bin
# make setup       install what is missing: Debian packages, Python environments in build/
# make demo        the distributed write of the README, with a picture
# make test        everything, in about ten minutes: units, sanitizers, fuzz corpus, mounts
# make bench       firn against the official library; BENCH_ARGS='--json out.json' passes arguments;
#                  make bench-long: up to ten million references, long histories
# Single parts:    check check-asan check-tsan check-valgrind fuzz-check fuzz
#                  pytest PYTEST='-k region -x'   tools matrix soak sanitized   bench-core   lint hdr-check layers format format-check
# install uninstall clean; PREFIX, DESTDIR
# Variables:       V=1 (show commands)  VARIANT=release|debug|asan|tsan|cov|fuzz  WERROR=0|1
#                  CC CFLAGS CPPFLAGS LDFLAGS  T=<unit test>  FUZZ_SECONDS FUZZ_ROUNDS FUZZ_TARGETS
VERSION := 0.1.0
VARIANT ?= release
PREFIX  ?= /usr/local
BUILD   := build/$(VARIANT)
PKGS    := fuse3 liburing glib-2.0 libzstd json-glib-1.0 libxxhash yaml-0.1
LLVM    ?= -14
PYTHON  := build/venv/bin/python

# What Debian calls it: needed, and for lint and fuzzing only.
PACKAGES := gcc make pkg-config libc6-dev libfuse3-dev fuse3 liburing-dev libglib2.0-dev libzstd-dev \
            libjson-glib-dev libxxhash-dev libyaml-dev check valgrind attr rsync unzip zip vim-tiny git
EXTRAS   := clang$(LLVM) clang-format$(LLVM) clang-tidy$(LLVM) libclang-rt$(LLVM)-dev

Q       := $(if $(filter 1,$(V)),,@)
say      = $(if $(filter 1,$(V)),,@printf '  %-7s %s\n' '$(1)' '$(patsubst $(BUILD)/%,%,$@)')
# As many jobs as processors, unless told otherwise.
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif
MAKEFLAGS += --no-print-directory

# ---- flags: ours are separate, so CFLAGS stays the user's ----
CFLAGS  ?= -O2 -g
WARN    := -Wall -Wextra -Wshadow -Wvla -Wundef -Wpointer-arith -Wwrite-strings \
           -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wcast-qual \
           -Wformat=2 -Wconversion -Wno-sign-conversion -Wswitch-enum -Wimplicit-fallthrough
WERROR  ?= $(if $(filter debug,$(VARIANT)),1,0)
ifeq ($(WERROR),1)
WARN    += -Werror
endif
san.release := -DG_DISABLE_CAST_CHECKS
san.debug   := -O0
san.asan    := -O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
san.tsan    := -O1 -fsanitize=thread
san.cov     := -O0 --coverage
san.fuzz    := -O1 -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all -DFIRN_FUZZING
ifeq ($(VARIANT),fuzz)
CC      := clang$(LLVM)
endif

PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(PKGS) 2>/dev/null)
FIRN_CPPFLAGS := -I. -D_GNU_SOURCE -DFIRN_VERSION='"$(VERSION)"' $(PKG_CFLAGS)
FIRN_CFLAGS   := -std=gnu17 -fno-common -fvisibility=hidden $(WARN)
compile  = $(CC) $(FIRN_CPPFLAGS) $(CPPFLAGS) $(FIRN_CFLAGS) $(CFLAGS) $(san.$(VARIANT))
link     = $(CC) $(CFLAGS) $(san.$(VARIANT)) -Wl,--as-needed $(LDFLAGS)

# ---- files: a new .c in its folder is found by itself ----
CORE    := $(wildcard core/*/*.c)
FS      := $(wildcard fs/*.c)
TOOLS   := $(wildcard tools/*.c)
UNIT    := $(wildcard tests/unit/test-*.c)
UNITLIB := $(filter-out $(UNIT),$(wildcard tests/unit/*.c))
FUZZ    := $(wildcard tests/fuzz/fuzz-*.c)
BENCH   := $(wildcard tests/bench/*.c)
INTEROP := $(wildcard tests/interop/*.c)
HDRS    := $(wildcard core/*/*.h fs/*.h tools/*.h tests/*/*.h)
ALL_C   := $(CORE) $(FS) $(TOOLS) $(UNIT) $(UNITLIB) $(FUZZ) $(BENCH) $(INTEROP) tests/fuzz/replay.c
MAN     := $(wildcard fs/*.1 tools/*.1)
obj      = $(patsubst %.c,$(BUILD)/%.o,$(1))
exe      = $(patsubst %.c,$(BUILD)/%,$(1))

.PHONY: all
all: $(BUILD)/bin/firnfs $(BUILD)/bin/firn
.DELETE_ON_ERROR:
.SECONDARY:

# Recompile everything when a flag changes.
$(BUILD)/.flags: FORCE
	@mkdir -p $(@D); echo '$(compile) $(LDFLAGS)' | cmp -s - $@ || echo '$(compile) $(LDFLAGS)' >$@
FORCE: ;
.PHONY: FORCE

$(BUILD)/%.o: %.c $(BUILD)/.flags
	$(call say,CC)
	@mkdir -p $(@D)
	$(Q)$(compile) -MMD -MP -c -o $@ $<
-include $(patsubst %.o,%.d,$(call obj,$(ALL_C)))

.PHONY: objects
objects: $(call obj,$(CORE) $(FS) $(TOOLS))

$(BUILD)/libfirn.a: $(call obj,$(CORE))
	$(call say,AR)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(BUILD)/bin/firnfs: $(call obj,$(FS)) $(BUILD)/libfirn.a
$(BUILD)/bin/firn: $(call obj,$(TOOLS)) $(BUILD)/libfirn.a
$(BUILD)/bin/firnfs $(BUILD)/bin/firn:
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)

# ---- setup and the two things a newcomer runs ----
.PHONY: setup demo test bench bench-long pytest fuse
setup:
	$(Q)PACKAGES='$(PACKAGES)' EXTRAS='$(EXTRAS)' PKGS='$(PKGS)' tests/setup.sh
	$(Q)pkg-config --print-errors --exists $(PKGS) check
fuse:
	@test -c /dev/fuse && : <>/dev/fuse || { \
	    echo 'no usable /dev/fuse here: run where FUSE is allowed (modprobe fuse; containers: --device /dev/fuse --cap-add SYS_ADMIN)' >&2; \
	    exit 1; }

# Sub-makes, because what pkg-config says may change with setup.
demo: setup fuse
	$(Q)$(MAKE) VARIANT=release all
	$(Q)FIRN_BUILD=build/release $(PYTHON) tests/demo/demo.py
test:
	$(Q)tests/run.sh
bench: setup fuse
	$(Q)$(MAKE) VARIANT=release all benchmarks
	$(Q)FIRN_BUILD=build/release $(PYTHON) tests/bench/bench.py $(BENCH_ARGS)
bench-long: setup fuse
	$(Q)$(MAKE) VARIANT=release all benchmarks
	$(Q)FIRN_BUILD=build/release $(PYTHON) tests/bench/bench.py --long $(BENCH_ARGS)
pytest: all programs fuse
	$(Q)FIRN_BUILD=$(BUILD) $(PYTHON) -m pytest $(PYTEST)
# Every tool, and the table of them; the long forms: some hours.  Both go on where a tool could not be installed, and fail.
.PHONY: tools try-tools matrix soak
tools: setup
	$(Q)tests/interop/tools/setup.sh
try-tools: setup
	-$(Q)tests/interop/tools/setup.sh
matrix soak: all programs fuse try-tools
matrix:
	$(Q)FIRN_BUILD=$(BUILD) $(PYTHON) -m pytest -m 'tools or not soak' --tools-table=tests/interop/TOOLS.md \
	    tests/interop/test_tool_matrix.py $(PYTEST)
soak:
	$(Q)FIRN_BUILD=$(BUILD) $(PYTHON) -m pytest -m 'soak or tools' --timeout=7200 $(PYTEST)
# Every test with sanitized programs, an hour; `make test` runs some of them.
.PHONY: sanitized
sanitized: setup fuse
	$(Q)for v in asan tsan; do $(MAKE) VARIANT=$$v all programs && \
	    FIRN_BUILD=build/$$v $(PYTHON) -m pytest -n $$(nproc) --dist worksteal -q $(PYTEST) || exit 1; done
# Programs that a test or a benchmark runs.
.PHONY: benchmarks bench-core programs
benchmarks: $(call exe,$(BENCH))
programs: $(call exe,$(INTEROP)) $(BUILD)/tests/crash/calls.so
# Stepped in front of the system calls of what is tested; works by itself, without the library.
$(BUILD)/tests/crash/calls.so: tests/crash/calls.c $(BUILD)/.flags
	$(call say,LD)
	@mkdir -p $(@D)
	$(Q)$(CC) $(FIRN_CPPFLAGS) $(CPPFLAGS) $(FIRN_CFLAGS) -fPIC -shared $(CFLAGS) -o $@ $< -ldl
bench-core: benchmarks
	$(Q)for b in $(filter %/bench-%,$(call exe,$(BENCH))); do $$b || exit 1; done
$(call exe,$(BENCH) $(INTEROP)): $(BUILD)/%: $(BUILD)/%.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)

# ---- unit tests: one program each, run in parallel, log kept, output only on failure ----
CHECK_LIBS = $(shell pkg-config --libs check)
# GLib's own allocator hides what sanitizers look for; what GLib calls critical is a fault of ours.
test_env = CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-120} G_SLICE=always-malloc G_DEBUG=fatal-criticals TSAN_OPTIONS=suppressions=tests/tsan.supp
$(call exe,$(UNIT)): $(BUILD)/%: $(BUILD)/%.o $(call obj,$(UNITLIB)) $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS) $(CHECK_LIBS)
$(BUILD)/%.ok: $(BUILD)/%
	$(call say,TEST)
	$(Q)$(test_env) $< >$<.log 2>&1 && touch $@ || { cat $<.log; exit 1; }
.PHONY: check check-asan check-tsan check-valgrind
check: all $(patsubst %,%.ok,$(filter %$(T),$(call exe,$(UNIT)))) fuzz-check
check-asan check-tsan: check-%:
	$(Q)$(MAKE) VARIANT=$* check
# Half an hour. No fork per test, so that valgrind follows it.
check-valgrind: $(patsubst %,%.valgrind,$(filter %$(T),$(call exe,$(UNIT))))
%.valgrind: %
	$(call say,GRIND)
	$(Q)CK_FORK=no CK_DEFAULT_TIMEOUT=0 G_SLICE=always-malloc G_DEBUG=fatal-criticals valgrind -q --leak-check=full \
	    --error-exitcode=9 --child-silent-after-fork=yes $< >$<.valgrind.log 2>&1 || { cat $<.valgrind.log; exit 1; }

# ---- fuzzing: same source is a fuzz target (clang) and a corpus replay (any compiler) ----
$(BUILD)/tests/fuzz/replay-%: $(BUILD)/tests/fuzz/fuzz-%.o $(BUILD)/tests/fuzz/replay.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -o $@ $^ $(PKG_LIBS)
.PHONY: fuzz fuzz-check
ifeq ($(VARIANT),fuzz)
$(BUILD)/tests/fuzz/fuzz-%: $(BUILD)/tests/fuzz/fuzz-%.o $(BUILD)/libfirn.a
	$(call say,LD)
	$(Q)$(link) -fsanitize=fuzzer -o $@ $^ $(PKG_LIBS)
fuzz: $(call exe,$(FUZZ))
	$(Q)tests/fuzz/run.sh $(BUILD)
fuzz-check: ;
else
fuzz:
	$(Q)$(MAKE) VARIANT=fuzz fuzz
fuzz-check: $(patsubst tests/fuzz/fuzz-%.c,$(BUILD)/tests/fuzz/replay-%,$(FUZZ))
	$(Q)for r in $(^F); do find tests/fuzz/corpus/$${r#replay-} -type f -print0 | \
	    $(test_env) xargs -0 -r $(BUILD)/tests/fuzz/$$r || { echo "FAIL $$r" >&2; exit 1; }; done
endif

.PHONY: cov
cov:
	$(Q)$(MAKE) VARIANT=cov check
	$(Q)gcovr --root . --filter core/ --filter fs/ --filter tools/ --txt --html-details build/cov/report.html

# ---- static checks ----
.PHONY: lint hdr-check layers format format-check tidy
lint: hdr-check layers format-check tidy
hdr-check: $(HDRS:.h=.h.hdr)
%.h.hdr: FORCE
	@echo '#include "$*.h"' | $(CC) $(FIRN_CPPFLAGS) $(FIRN_CFLAGS) -Wno-unused-function -fsyntax-only -xc -
layers:
	@for check in tests/lint/*.sh; do $$check || exit 1; done
format:
	$(Q)clang-format$(LLVM) -i $(ALL_C) $(HDRS)
format-check:
	$(Q)clang-format$(LLVM) --dry-run -Werror $(ALL_C) $(HDRS)
tidy: $(patsubst %.c,build/tidy/%.ok,$(CORE) $(FS) $(TOOLS))
build/tidy/%.ok: %.c compile_commands.json .clang-tidy
	$(Q)mkdir -p $(@D) && clang-tidy$(LLVM) -p . --quiet --warnings-as-errors='*' $< 2>/dev/null && touch $@
compile_commands.json: Makefile
	$(Q){ echo '['; sep=; for c in $(ALL_C); do printf '%s{"directory":"%s","file":"%s","command":"%s"}\n' \
	  "$$sep" '$(CURDIR)' "$$c" '$(subst ",\\\",$(subst ',,$(compile))) -c '"$$c"; sep=,; done; echo ']'; } >$@

# ---- install ----
.PHONY: install uninstall clean
BASH_COMPLETIONS := $(PREFIX)/share/bash-completion/completions
install: all
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 755 $(BUILD)/bin/firnfs $(BUILD)/bin/firn $(DESTDIR)$(PREFIX)/bin
	$(if $(wildcard fs/mount.firn),install -d $(DESTDIR)$(PREFIX)/sbin && \
	    install -m 755 fs/mount.firn $(DESTDIR)$(PREFIX)/sbin)
	$(if $(MAN),install -m 644 $(MAN) $(DESTDIR)$(PREFIX)/share/man/man1)
	$(if $(wildcard tools/firn.bash),install -d $(DESTDIR)$(BASH_COMPLETIONS) && \
	    install -m 644 tools/firn.bash $(DESTDIR)$(BASH_COMPLETIONS)/firn)
uninstall:
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,firnfs firn) $(DESTDIR)$(PREFIX)/sbin/mount.firn \
	    $(addprefix $(DESTDIR)$(PREFIX)/share/man/man1/,$(notdir $(MAN))) $(DESTDIR)$(BASH_COMPLETIONS)/firn
clean:
	rm -rf build/release build/debug build/asan build/tsan build/cov build/fuzz build/tidy build/demo compile_commands.json
